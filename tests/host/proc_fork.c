/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_fork.c - forks of a program whose memory is resident, compressed and stored.
 *
 *   single N    N forks, no other thread; every tenth child checks every byte
 *   threads N   the same while threads fault, and hold FILEs and locks
 *   nested N    each child forks a grandchild, each changes its own copy
 *   clean N     pages that came back for a read, written on either side of a fork
 *   lazy N      fork in one thread while another makes the engine start
 *   busy N      64 threads in mmap and munmap while one forks
 *   nss         fork of a program whose name service records are paged out
 *   stack       fork on a thread whose stack and guard came from mmap
 *   files       fork with a full table of descriptors
 *   no-files    the same where it cannot be stretched: EAGAIN at most, and no lost child
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc.h"

#define POOL_MIB 20
#define THREADS 3

static struct pool pool;
static atomic_bool stop;
static uint64_t *aside; /* room for the pool to move to */

static int status_of(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork or waitpid failed");
	return status;
}

static void expect_child(pid_t pid, const char *what)
{
	int status = status_of(pid);

	if (status)
		die("%s: the child ended with status 0x%x", what, status);
}

static void child_checks(int n)
{
	if (n % 10 == 0)
		pool_check(&pool, 0, pool.nr_pages, 1);
	else
		pool_check(&pool, (size_t)n % 97, pool.nr_pages, 97);
	pool_write(&pool, (size_t)n % pool.nr_pages, 1000 + (uint32_t)n);
	pool_check(&pool, (size_t)n % pool.nr_pages, (size_t)n % pool.nr_pages + 1, 1);
	_exit(0);
}

static void fork_many(int nr, const char *what)
{
	for (int n = 0; n < nr; n++) {
		pid_t pid = fork();

		if (!pid)
			child_checks(n);
		expect_child(pid, what);
		pool_check(&pool, (size_t)n % 89, pool.nr_pages, 89);
	}
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void *toucher(void *arg)
{
	struct pool own;
	uint32_t x = (uint32_t)(uintptr_t)arg + 1;
	FILE *f = fopen("/dev/null", "w");

	pool_make(&own, 2, 77 + x);
	while (!stop) {
		void *block;
		size_t p;

		x = x * 1664525 + 1013904223;
		p = x % pool.nr_pages;
		pool_check(&pool, p, p + 1, 1);
		p = (x >> 8) % own.nr_pages;
		pool_check(&own, p, p + 1, 1);
		pool_write(&own, p, x);
		block = malloc(100 + x % 5000);
		fprintf(f, "%p %u\n", block, x);
		free(block);
	}
	fclose(f);
	return NULL;
}

static void with_threads(int nr)
{
	pthread_t t[THREADS];

	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, toucher, (void *)i))
			die("pthread_create");
	fork_many(nr, "threads");
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void nested(int nr)
{
	for (int n = 0; n < nr; n++) {
		pid_t pid = fork();

		if (!pid) {
			pid_t grandchild;

			pool_write(&pool, 5, 500 + (uint32_t)n);
			grandchild = fork();
			if (!grandchild) {
				pool_write(&pool, 6, 600 + (uint32_t)n);
				pool_check(&pool, 0, pool.nr_pages, 1);
				_exit(0);
			}
			expect_child(grandchild, "grandchild");
			pool_check(&pool, 0, pool.nr_pages, 3);
			_exit(0);
		}
		expect_child(pid, "nested");
	}
	pool_check(&pool, 0, pool.nr_pages, 1);
}

/* Read everything, so that what is resident came in for a read. */
static void read_pool(void)
{
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void write_some(int n, uint32_t seed)
{
	for (size_t i = (size_t)n % 7; i < pool.nr_pages; i += 7)
		pool_write(&pool, i, seed + (uint32_t)n);
}

/*
 * A page that nobody has written since it came in leaves without being asked again;
 * who forks or moves it must not make the engine believe so of one that was.
 */
static void clean(int nr)
{
	for (int n = 0; n < nr; n++) {
		uint64_t *to;
		pid_t pid;

		read_pool();
		pid = fork();
		if (!pid) {
			write_some(n, 5000); /* resident pages, out of their parent's sight */
			read_pool(); /* push them out, and look */
			read_pool();
			_exit(0);
		}
		write_some(n + 3, 7000);
		read_pool();
		expect_child(pid, "clean");
		read_pool();
		/* Moved, written, pushed out. */
		to = mremap(pool.word, pool.nr_pages * PAGE, pool.nr_pages * PAGE,
			    MREMAP_MAYMOVE | MREMAP_FIXED, aside);
		if (to != aside)
			die("mremap: %m");
		aside = pool.word;
		pool.word = to;
		write_some(n + 5, 9000);
		read_pool();
	}
}

static void *fill_pool(void *arg)
{
	usleep((useconds_t)(uintptr_t)arg);
	pool_make(&pool, POOL_MIB, 3);
	return NULL;
}

/* Each round is a process of its own, since an engine starts once. */
static void lazy(int nr)
{
	for (int n = 0; n < nr; n++) {
		pid_t pid = fork();

		if (!pid) {
			pthread_t t;
			struct pool small;

			pool_make(&small, 1, 9);
			pthread_create(&t, NULL, fill_pool, (void *)(uintptr_t)(n * 7 % 300));
			for (int i = 0; i < 30; i++) {
				pid_t inner = fork();

				if (!inner) {
					pool_check(&small, 0, small.nr_pages, 1);
					_exit(0);
				}
				expect_child(inner, "lazy");
			}
			pthread_join(t, NULL);
			pool_check(&pool, 0, pool.nr_pages, 1);
			_exit(0);
		}
		expect_child(pid, "lazy round");
	}
}

static void *mapper(void *arg)
{
	(void)arg;
	while (!stop) {
		char *p = mmap(NULL, 256 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		if (p == MAP_FAILED)
			die("mmap");
		p[4096] = 1;
		munmap(p, 256 << 10);
	}
	return NULL;
}

static void busy(int nr)
{
	pthread_t t[80];

	for (int i = 0; i < 80; i++)
		if (pthread_create(&t[i], NULL, mapper, NULL))
			die("pthread_create");
	fork_many(nr, "busy");
	stop = true;
	for (int i = 0; i < 80; i++)
		pthread_join(t[i], NULL);
}

static void *idle(void *arg)
{
	(void)arg;
	while (!stop)
		usleep(1000);
	return NULL;
}

/* libc's fork copies the name service's records after the last prepare handler. */
static void nss(void)
{
	pthread_t t;

	if (!getpwuid(0))
		die("no user 0");
	pthread_create(&t, NULL, idle, NULL);
	for (int n = 0; n < 20; n++) {
		pid_t pid;

		pool_check(&pool, 0, pool.nr_pages, 1); /* pushes out what is cold */
		pid = fork();
		if (!pid) {
			struct passwd *pw = getpwuid(0);

			_exit(pw && !strcmp(pw->pw_name, "root") ? 0 : 1);
		}
		expect_child(pid, "nss");
	}
	stop = true;
	pthread_join(t, NULL);
}

static void *fork_here(void *arg)
{
	char deep[40000];

	memset(deep, 7, sizeof(deep));
	for (int n = 0; n < 10; n++) {
		pid_t pid;

		pool_check(&pool, 0, pool.nr_pages, 1);
		pid = fork();
		if (!pid) {
			for (size_t i = 0; i < sizeof(deep); i++)
				if (deep[i] != 7)
					_exit(3);
			_exit(0);
		}
		expect_child(pid, "stack");
	}
	return arg;
}

/* Two such threads, so that each is "another thread" of the other's fork. */
static void stack(void)
{
	pthread_t t[2];
	pthread_attr_t attr;

	for (int i = 0; i < 2; i++) {
		char *low = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);

		/* The guard is near the stack's end, below what the thread uses. */
		mprotect(low + (1 << 20) - (96 << 10) - (16 << 10), 16 << 10, PROT_NONE);
		pthread_attr_init(&attr);
		if (pthread_attr_setstack(&attr, low + (1 << 20) - (96 << 10), 96 << 10) ||
		    pthread_create(&t[i], &attr, fork_here, NULL))
			die("a thread on a stack of ours");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

static void files(void)
{
	struct rlimit few = { 64, 256 };

	setrlimit(RLIMIT_NOFILE, &few);
	while (dup(0) >= 0)
		;
	fork_many(20, "files");
	if (dup(0) >= 0)
		die("a descriptor number came free");
}

/* Without the right to raise hard limits. */
static void drop_resource_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		die("capget failed");
	data[CAP_SYS_RESOURCE / 32].effective &= ~(1u << CAP_SYS_RESOURCE % 32);
	if (syscall(SYS_capset, &header, data))
		die("capset failed");
}

static void no_files(void)
{
	struct rlimit few = { 64, 64 };
	pid_t pid;

	setrlimit(RLIMIT_NOFILE, &few);
	drop_resource_capability();
	while (dup(0) >= 0)
		;
	for (int i = 0; i < 3; i++) {
		errno = 0;
		pid = fork();
		if (pid == 0) {
			child_checks(i);
			_exit(0);
		}
		if (pid > 0)
			expect_child(pid, "no-files");
		else if (errno != EAGAIN)
			die("fork: errno %d", errno);
		pool_check(&pool, 0, pool.nr_pages, 1);
	}
	for (int fd = 64 - 8; fd < 64; fd++)
		close(fd);
	fork_many(5, "no-files, with some after all");
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "single";
	int nr = argc > 2 ? atoi(argv[2]) : 20;

	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strcmp(how, "lazy")) {
		lazy(nr);
		return 0;
	}
	pool_make(&pool, POOL_MIB, 1);
	if (!strcmp(how, "single"))
		fork_many(nr, how);
	else if (!strcmp(how, "threads"))
		with_threads(nr);
	else if (!strcmp(how, "nested"))
		nested(nr);
	else if (!strcmp(how, "clean")) {
		aside = mmap(NULL, POOL_MIB << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		clean(nr);
	} else if (!strcmp(how, "busy"))
		busy(nr);
	else if (!strcmp(how, "nss"))
		nss();
	else if (!strcmp(how, "stack"))
		stack();
	else if (!strcmp(how, "files"))
		files();
	else if (!strcmp(how, "no-files"))
		no_files();
	else
		die("unknown: %s", how);
	return 0;
}
