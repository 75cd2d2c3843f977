/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_thread.c - threads and signals of a program that is paged.
 *
 *   faults      64 threads on the same pages and on pages of their own
 *   short       10,000 threads that live for one allocation, without growth
 *   cancel      threads cancelled while they wait for a page
 *   handlers    SIGSEGV and SIGBUS of the program's own doing reach it, si_addr intact
 *   altstack    handlers that touch paged-out memory, on a paged-out stack
 *   longjmp     out of handlers that interrupted a fault
 *   stacks      threads on stacks from malloc and from mmap
 *   lastthread  main ends by pthread_exit
 *   stdio       FILEs and locks in use while another thread forks
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "proc.h"

#define POOL_MIB 20
#define MANY_THREADS 64
/* More memory and mappings than this is growth. */
#define GROWTH_MAX (8ul << 20)
#define GROWTH_MAPS 40

static struct pool pool;
static atomic_bool stop;

static void start(pthread_t *t, void *(*fn)(void *), void *arg, const pthread_attr_t *attr)
{
	int err = pthread_create(t, attr, fn, arg);

	if (err)
		die("pthread_create: %d", err);
}

/* ---- threads ---------------------------------------------------------------------- */

static void *same_and_own(void *arg)
{
	size_t me = (size_t)arg, share = pool.nr_pages / MANY_THREADS;

	for (int round = 0; round < 3; round++) {
		pool_check(&pool, 0, pool.nr_pages, 16);
		for (size_t p = me * share; p < (me + 1) * share; p++)
			if (p % 16)
				pool_write(&pool, p, (uint32_t)(round * 100) + (uint32_t)me);
		pool_check(&pool, me * share, (me + 1) * share, 1);
	}
	return NULL;
}

static void faults(void)
{
	pthread_t t[MANY_THREADS];

	for (size_t i = 0; i < MANY_THREADS; i++)
		start(&t[i], same_and_own, (void *)i, NULL);
	for (int i = 0; i < MANY_THREADS; i++)
		pthread_join(t[i], NULL);
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void *one_block(void *arg)
{
	size_t n = (size_t)arg;
	char *p = malloc(n % 9000 + 1);

	memset(p, 1, n % 9000 + 1);
	pool_check(&pool, n % pool.nr_pages, n % pool.nr_pages + 1, 1);
	if (n % 2)
		free(p);
	else
		return p;
	return NULL;
}

struct footprint {
	unsigned long resident, maps;
};

static struct footprint footprint(void)
{
	struct footprint now = { 0, 0 };
	FILE *f = fopen("/proc/self/statm", "r");
	int c;

	if (!f || fscanf(f, "%*u %lu", &now.resident) != 1)
		die("/proc/self/statm");
	fclose(f);
	f = fopen("/proc/self/maps", "r");
	while (f && (c = getc(f)) != EOF)
		now.maps += c == '\n';
	if (f)
		fclose(f);
	now.resident *= PAGE;
	return now;
}

static void short_lived(void)
{
	struct footprint before = { 0, 0 }, after;

	for (size_t n = 0; n < 10000; n += 8) {
		pthread_t t[8];
		void *p;

		if (n == 1000)
			before = footprint();

		for (size_t i = 0; i < 8; i++)
			start(&t[i], one_block, (void *)(n + i), NULL);
		for (int i = 0; i < 8; i++) {
			pthread_join(t[i], &p);
			free(p);
		}
	}
	after = footprint();
	if (after.resident > before.resident + GROWTH_MAX || after.maps > before.maps + GROWTH_MAPS)
		die("9,000 threads: %lu to %lu bytes resident, %lu to %lu mappings",
		    before.resident, after.resident, before.maps, after.maps);
}

static void *until_cancelled(void *arg)
{
	for (;;) {
		pool_check(&pool, (size_t)arg, pool.nr_pages, 7);
		pthread_testcancel();
	}
	return NULL;
}

static void cancel(void)
{
	for (int n = 0; n < 20; n++) {
		pthread_t t[4];
		void *res;

		for (size_t i = 0; i < 4; i++)
			start(&t[i], until_cancelled, (void *)i, NULL);
		usleep(2000);
		for (int i = 0; i < 4; i++)
			pthread_cancel(t[i]);
		for (int i = 0; i < 4; i++) {
			pthread_join(t[i], &res);
			if (res != PTHREAD_CANCELED)
				die("a thread was not cancelled");
		}
	}
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void *deep(void *arg)
{
	char here[30000];

	memset(here, (int)(size_t)arg, sizeof(here));
	for (int n = 0; n < 5; n++) {
		pool_check(&pool, 0, pool.nr_pages, 1);
		for (size_t i = 0; i < sizeof(here); i += 100)
			if (here[i] != (char)(size_t)arg)
				die("a stack changed");
	}
	return NULL;
}

static void stacks(void)
{
	pthread_t t[4];
	pthread_attr_t attr;

	for (size_t i = 0; i < 4; i++) {
		void *low = i % 2 ? aligned_alloc(PAGE, 256 << 10) :
				    mmap(NULL, 256 << 10, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		pthread_attr_init(&attr);
		if (pthread_attr_setstack(&attr, low, 256 << 10))
			die("pthread_attr_setstack");
		start(&t[i], deep, (void *)(i + 1), &attr);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

static void *end_of_all(void *arg)
{
	(void)arg;
	usleep(50000);
	pool_check(&pool, 0, pool.nr_pages, 1);
	return NULL;
}

static void last_thread(void)
{
	pthread_t t;

	start(&t, end_of_all, NULL, NULL);
	pthread_exit(NULL);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *writes(void *arg)
{
	FILE *f = arg;

	while (!stop) {
		pthread_mutex_lock(&lock);
		fprintf(f, "%d\n", 1);
		pthread_mutex_unlock(&lock);
		pool_check(&pool, 0, pool.nr_pages, 50);
	}
	return NULL;
}

static void stdio(void)
{
	pthread_t t[3];
	FILE *f[40];

	for (int i = 0; i < 40; i++)
		f[i] = fopen("/dev/null", "w");
	for (int i = 0; i < 3; i++)
		start(&t[i], writes, f[i], NULL);
	for (int n = 0; n < 12; n++) {
		pid_t pid;
		int status;

		pool_check(&pool, 0, pool.nr_pages, 1);
		pid = fork();
		if (!pid) {
			for (int i = 0; i < 40; i++)
				if (fprintf(f[i], "child %d\n", n) < 0 || fflush(f[i]))
					_exit(1);
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid || status)
			die("a child with FILEs ended with 0x%x", status);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

/* ---- signals ------------------------------------------------------------------------ */

static sigjmp_buf back;
static volatile sig_atomic_t nr_signals;
static void *volatile fault_addr;
static volatile int fault_code;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault_addr = info->si_addr;
	fault_code = info->si_code;
	siglongjmp(back, sig);
}

static void on_signal(int sig)
{
	(void)sig;
	/* Allocated at start and cold by now. */
	pool_check(&pool, (size_t)nr_signals * 17 % pool.nr_pages,
		   (size_t)nr_signals * 17 % pool.nr_pages + 1, 1);
	nr_signals++;
}

static void on_signal_jump(int sig)
{
	nr_signals++;
	siglongjmp(back, sig);
}

static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction act = { .sa_handler = fn, .sa_flags = flags };

	sigaction(sig, &act, NULL);
}

static void every_ms(long usec)
{
	struct itimerval timer = { { 0, usec }, { 0, usec } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void expect_fault(volatile char *at, int sig, int code)
{
	int got = sigsetjmp(back, 1);

	if (!got) {
		*at = 1;
		die("no signal");
	}
	if (got != sig || fault_addr != (void *)at || fault_code != code)
		die("signal %d at %p code %d, wanted %d at %p code %d", got, fault_addr, fault_code,
		    sig, (void *)at, code);
}

static void handlers(void)
{
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	char name[] = "quire-XXXXXX";
	int fd = mkstemp(name);
	char *file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *guarded = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);

	unlink(name);
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	memset(guarded, 5, 1 << 20);
	mprotect(guarded + 8 * PAGE, PAGE, PROT_READ);
	for (int n = 0; n < 20; n++) {
		pool_check(&pool, 0, pool.nr_pages, 1);
		expect_fault((char *)123, SIGSEGV, SEGV_MAPERR);
		expect_fault(guarded + 8 * PAGE + 77, SIGSEGV, SEGV_ACCERR);
		expect_fault(file + PAGE + 5, SIGBUS, BUS_ADRERR);
		if (guarded[8 * PAGE + 77] != 5)
			die("a write-protected page changed");
	}
}

static void altstack(void)
{
	stack_t ss = { .ss_sp = malloc(256 << 10), .ss_size = 256 << 10 };

	if (sigaltstack(&ss, NULL))
		die("sigaltstack");
	handle(SIGALRM, on_signal, SA_ONSTACK | SA_RESTART);
	every_ms(700);
	while (nr_signals < 300)
		pool_check(&pool, 0, pool.nr_pages, 1);
	every_ms(0);
}

static void long_jump(void)
{
	handle(SIGALRM, on_signal_jump, 0);
	sigsetjmp(back, 1);
	if (!nr_signals)
		every_ms(1100);
	while (nr_signals < 300)
		pool_check(&pool, 0, pool.nr_pages, 1);
	every_ms(0);
	pool_check(&pool, 0, pool.nr_pages, 1);
}

int main(int argc, char **argv)
{
	static const struct mode mode[] = {
		{ "faults", faults },	  { "short", short_lived },	 { "cancel", cancel },
		{ "stacks", stacks },	  { "lastthread", last_thread }, { "stdio", stdio },
		{ "handlers", handlers }, { "altstack", altstack },	 { "longjmp", long_jump },
	};

	pool_make(&pool, POOL_MIB, 1);
	return run_mode(mode, sizeof(mode) / sizeof(mode[0]), argc, argv);
}
