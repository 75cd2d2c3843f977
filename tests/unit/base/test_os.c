/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_os.c - memory, processes, clock, random, environment, abort.
 */
#include "base/os.h"
#include "base/vdso.h"

#include "lib/test.h"

#include <time.h>
#include <sys/syscall.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(mappings)
{
	char *p, *q;
	void *addr;

	ASSERT_OK(os_mmap_anon(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, false, &addr));
	p = addr;
	ASSERT_EQ(p[0] | p[PAGE_SIZE], 0);
	p[0] = 'x';
	q = (char *)os_mremap(p, 2 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE, NULL);
	ASSERT_EQ(q[0], 'x');
	ASSERT_OK(os_mprotect(q, PAGE_SIZE, PROT_READ));
	ASSERT_OK(os_madvise(q, PAGE_SIZE, MADV_DONTNEED));
	ASSERT_EQ(q[0], 0);
	ASSERT_OK(os_munmap(q, 4 * PAGE_SIZE));
	ASSERT_EQ(os_madvise(q, PAGE_SIZE, MADV_DONTNEED), -ENOMEM);
	ASSERT_EQ(os_mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), -EINVAL);
	ASSERT_EQ(os_mmap_anon(1ull << 60, PROT_READ, false, &addr), -ENOMEM);
}

/* Named in maps where the kernel can (5.17, CONFIG_ANON_VMA_NAME). */
TEST(mapping_name)
{
	static char maps[1 << 20];
	void *addr;

	ASSERT_OK(os_mmap_anon(PAGE_SIZE, PROT_READ, true, &addr));
	os_name_mapping(addr, PAGE_SIZE, "quire: named by a test");
	ASSERT_OK(os_read_file("/proc/self/maps", maps, sizeof(maps)));
	ASSERT_OK(os_munmap(addr, PAGE_SIZE));
	if (!strstr(maps, "quire: named by a test"))
		SKIP("this kernel does not name anonymous memory");
}

TEST(identity)
{
	ASSERT_EQ(os_getpid(), getpid());
	ASSERT_EQ(os_gettid(), getpid());
	ASSERT_EQ(os_getuid(), getuid());
	ASSERT_EQ(os_geteuid(), geteuid());
}

TEST(program_fd)
{
	int fds[2], fd;
	char c = 0;

	ASSERT_EQ(pipe(fds), 0);
	fd = os_program_fd(fds[1]);
	ASSERT_OK(fd);
	ASSERT_EQ(os_write(fd, "z", 1), 1);
	ASSERT_EQ(os_read(fds[0], &c, 1), 1);
	ASSERT_EQ(c, 'z');
	ASSERT_OK(os_close_range((unsigned)fds[0], (unsigned)fds[0]));
	ASSERT_EQ(os_read(fds[0], &c, 1), -EBADF);
	ASSERT_OK(os_close(fds[1]));
	ASSERT_OK(os_close(fd));
}

TEST(signal_mask)
{
	u64 before = 0, all = 0;

	ASSERT_OK(os_sigprocmask_all(&before));
	ASSERT_OK(os_sigprocmask_all(&all));
	/* All that can be: not KILL and STOP. */
	ASSERT_EQ(all | 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1), UINT64_MAX);
	ASSERT_OK(os_sigprocmask_set(&before));
	ASSERT_OK(os_sigprocmask_all(&all));
	ASSERT_EQ(all, before);
	ASSERT_OK(os_sigprocmask_set(&before));
	/* What comes from outside, in addition; a fault of its own a thread still gets. */
	ASSERT_OK(os_sigprocmask_async(&all));
	ASSERT_EQ(all, before);
	ASSERT_OK(os_sigprocmask_async(&all));
	ASSERT_TRUE(all & 1ull << (SIGALRM - 1) && all & 1ull << (SIGTERM - 1));
	ASSERT_TRUE(!(all & 1ull << (SIGSEGV - 1)) && !(all & 1ull << (SIGBUS - 1)));
	ASSERT_OK(os_sigprocmask_set(&before));
}

static u64 now_by_system_call(void)
{
	struct timespec ts;

	ASSERT_EQ(os_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts, 0), 0);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

TEST(vdso_is_the_same_clock)
{
	struct timespec ts;
	u64 before, now, after;

	if (vdso_clock_gettime(CLOCK_MONOTONIC, &ts) == -ENOSYS)
		SKIP("no vDSO here");
	for (int i = 0; i < 100; i++) {
		before = now_by_system_call();
		now = os_now_ns();
		after = now_by_system_call();
		ASSERT_LE(before, now);
		ASSERT_LE(now, after);
	}
}

TEST(clock)
{
	u64 before = os_now_ns(), tsc = os_tsc();

	os_sleep_ns(2 * NSEC_PER_MSEC);
	ASSERT_GE(os_now_ns() - before, 2 * NSEC_PER_MSEC);
	ASSERT_GT(os_tsc(), tsc);
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* Signals do not cut a sleep short. */
TEST(sleep_is_restarted)
{
	struct sigaction action = { .sa_handler = on_alarm };
	u64 before = os_now_ns();

	sigaction(SIGALRM, &action, NULL);
	ualarm(5000, 0);
	os_sleep_ns(30 * NSEC_PER_MSEC);
	ASSERT_GE(os_now_ns() - before, 30 * NSEC_PER_MSEC);
	signal(SIGALRM, SIG_DFL);
}

TEST(random)
{
	u64 a[4] = { 0 }, b[4] = { 0 };

	ASSERT_OK(os_random(a, sizeof(a)));
	ASSERT_OK(os_random(b, sizeof(b)));
	ASSERT_NE(memcmp(a, b, sizeof(a)), 0);
	ASSERT_OK(os_random(NULL, 0));
}

TEST(cpus)
{
	cpu_set_t set;

	ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	ASSERT_EQ(os_nr_cpus(), (unsigned)CPU_COUNT(&set));
}

TEST(placement)
{
	cpu_set_t old, set;
	int cpu[2] = { -1, -1 }, mine[2], nr = 0;
	int tid = (int)os_gettid();

	ASSERT_EQ(sched_getaffinity(0, sizeof(old), &old), 0);
	for (int i = 0; i < CPU_SETSIZE && nr < 2; i++)
		if (CPU_ISSET(i, &old))
			mine[nr++] = i;
	ASSERT_EQ(os_two_cpus(cpu), CPU_COUNT(&old) == 2);
	for (int i = 0; i < nr; i++) {
		os_thread_pin(tid, mine[i]);
		ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
		ASSERT_TRUE(CPU_COUNT(&set) == 1 && CPU_ISSET(mine[i], &set));
		ASSERT_EQ(os_thread_cpu(tid), mine[i]);
		ASSERT_EQ(os_cpu(), mine[i]);
		ASSERT_FALSE(os_two_cpus(cpu));
	}
	if (nr == 2) {
		CPU_SET(mine[0], &set);
		ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
		ASSERT_TRUE(os_two_cpus(cpu));
		ASSERT_TRUE(cpu[0] == mine[0] && cpu[1] == mine[1]);
	}
	os_thread_pin(tid, -1);
	ASSERT_EQ(sched_setaffinity(0, sizeof(old), &old), 0);
	ASSERT_LT(os_thread_cpu(0x7fffffff), 0);
}

TEST(environment)
{
	char *vector[] = { "QUIRE_MAX=512M", "QUIRE=", "X", NULL };

	ASSERT_STR_EQ(os_env(vector, "QUIRE_MAX"), "512M");
	ASSERT_STR_EQ(os_env(vector, "QUIRE"), "");
	ASSERT_NULL(os_env(vector, "QUIRE_MA"));
	ASSERT_NULL(os_env(vector, "X"));
	ASSERT_NULL(os_env(NULL, "X"));
}

static void leave(void)
{
	os_exit_group(7);
}

static void say_and_leave(void)
{
	os_message("a message\n");
	os_abort("the end\n");
}

static u64 of_others(void)
{
	u64 others, all = os_process_anon(os_getpid(), &others);

	ASSERT_TRUE(all >= others && all < 256 * MIB);
	return others;
}

/* 16 MiB that two processes have: half of it is the other's; none after its end. */
TEST(anon_of_others)
{
	size_t len = 16 * MIB;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	pid_t pid;

	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_EQ(of_others(), 0);
	pid = fork();
	if (!pid)
		for (;;)
			pause();
	ASSERT_TRUE(of_others() >= len / 2);
	ASSERT_TRUE(of_others() < len);
	memset(p, 1, len);
	ASSERT_TRUE(of_others() < len / 4);
	kill(pid, SIGKILL);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	ASSERT_EQ(of_others(), 0);
	munmap(p, len);
}

TEST(ends)
{
	char text[64];
	int status = test_child(leave, text, sizeof(text));

	ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = test_child(say_and_leave, text, sizeof(text));
	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ASSERT_STR_EQ(text, "a message\nthe end\n");
}
