/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_signal.c [--quire] MODE - signals of a program whose memory is out.
 *
 *   cold       handlers, nested, on alternate stacks that are out, reading what is out
 *   storm      10,000 signals a second while the main code faults
 *   calls      handlers that interrupt malloc, mmap, munmap, mremap and fork, and fault
 *   jump       out of handlers that interrupted mmap, munmap, mremap and fork
 *   barrier    accesses to protected pages that are out: the handler opens them
 *   busfile    SIGBUS behind the end of a file: the handler makes the file longer
 *   overflow   a stack overflow, on the alternate stack; main's and a thread's
 *   cancel     threads cancelled, deferred and at once, that fault, map and allocate
 *   stopped    SIGSTOP and SIGCONT while threads fault
 *
 * With --quire, memory that should be out must have been out and calls that should
 * have been interrupted must have been.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "proc.h"

#define POOL_MIB 20
#define STACK_BYTES (128u << 10) /* what quire run manages */

static struct pool pool;
static bool under_quire;
static size_t nr_out; /* pages that were seen to be out */

/* ---- tools ---------------------------------------------------------------------------- */

static void *map_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap of %zu bytes", bytes);
	return p;
}

static size_t pages_out(void *at, size_t bytes)
{
	unsigned char in[256];
	size_t nr = bytes / PAGE, out = 0;

	if (nr > sizeof(in) || mincore(at, bytes, in))
		die("mincore");
	for (size_t i = 0; i < nr; i++)
		out += !(in[i] & 1);
	return out;
}

/* Out of memory with it, as far as that is possible. */
static void cool(void *at, size_t bytes)
{
	if (madvise(at, bytes, MADV_PAGEOUT))
		die("MADV_PAGEOUT");
	nr_out += pages_out(at, bytes);
}

static void expect_out(size_t least)
{
	if (under_quire && nr_out < least)
		die("only %zu pages were out", nr_out);
}

static void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction act = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };

	if (sigaction(sig, &act, NULL))
		die("sigaction");
}

static void use_altstack(void *low)
{
	stack_t ss = { .ss_sp = low, .ss_size = STACK_BYTES };

	if (sigaltstack(&ss, NULL))
		die("sigaltstack");
}

static void every_us(long usec)
{
	struct itimerval timer = { { 0, usec }, { 0, usec } };

	if (setitimer(ITIMER_REAL, &timer, NULL))
		die("setitimer");
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* A page of the pool that nobody has touched for long. */
static void check_cold(void)
{
	static atomic_size_t turn;
	size_t page = atomic_fetch_add(&turn, 1) * 1021 % pool.nr_pages;

	pool_check(&pool, page, page + 1, 1);
}

static void wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		die("a child ended with 0x%x", status);
}

/* ---- handlers that fault ---------------------------------------------------------------- */

static volatile sig_atomic_t nr_signals, nr_nested;
static char *stack_low;

static void on_inner(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	check_cold();
	nr_nested++;
}

static void on_outer(int sig, siginfo_t *info, void *context)
{
	char here;

	(void)sig;
	(void)info;
	(void)context;
	if (&here < stack_low || &here >= stack_low + STACK_BYTES)
		die("a handler is not on its alternate stack");
	cool(pool.word, 16 * PAGE);
	raise(SIGUSR2);
	pool_check(&pool, 0, 16, 1);
	nr_signals++;
}

static void cold(void)
{
	char *low[2] = { map_pages(STACK_BYTES), aligned_alloc(PAGE, STACK_BYTES) };
	double sum = 0;
	size_t before;

	handle(SIGUSR1, on_outer, SA_ONSTACK);
	handle(SIGUSR2, on_inner, SA_ONSTACK);
	for (int n = 0; n < 200; n++) {
		stack_low = low[n % 2];
		memset(stack_low, n, STACK_BYTES);
		use_altstack(stack_low);
		before = nr_out;
		cool(stack_low, STACK_BYTES);
		if (under_quire && nr_out == before)
			die("the alternate stack did not go out");
		raise(SIGUSR1);
		sum += n * 0.5; /* registers came back with the frame */
		for (size_t i = 0; i < STACK_BYTES / 2; i += 512)
			if (stack_low[i] != (char)n)
				die("the unused part of a stack changed");
	}
	if (nr_signals != 200 || nr_nested != 200 || sum > 9950 || sum < 9950)
		die("%d outer and %d inner signals", (int)nr_signals, (int)nr_nested);
	expect_out(200 * 24);
}

static void on_storm(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	/* Were each a fault, nothing else would ever run. */
	if (nr_signals++ % 16 == 0)
		check_cold();
}

/* 3,000 signals on each kind of stack, and the main code sees every page. */
static void storm(void)
{
	char *low = map_pages(STACK_BYTES);
	uint64_t begin, us = 0;

	use_altstack(low);
	for (int on_alternate = 0; on_alternate < 2; on_alternate++) {
		handle(SIGALRM, on_storm, on_alternate ? SA_ONSTACK : 0);
		nr_signals = 0;
		begin = now_us();
		every_us(100);
		for (uint32_t n = 0; n < 2 || nr_signals < 3000; n++)
			pool_check(&pool, 0, pool.nr_pages, 1);
		every_us(0);
		us += now_us() - begin;
	}
	printf("6000 signals in %llu us\n", (unsigned long long)us);
	pool_check(&pool, 0, pool.nr_pages, 1);
}

/* ---- what handlers interrupt ------------------------------------------------------------ */

enum call { NO_CALL, MALLOC, MAP, FORK, NR_CALLS };

static volatile sig_atomic_t where; /* enum call: the main code is in there */
static volatile sig_atomic_t nr_hits[NR_CALLS];
static sigjmp_buf back;

#define IN(call, statement)                                                                        \
	do {                                                                                       \
		where = (call);                                                                    \
		statement;                                                                         \
		where = NO_CALL;                                                                   \
	} while (0)

static pid_t checked_fork(void)
{
	pid_t pid;

	IN(FORK, pid = fork());
	if (!pid) {
		check_cold();
		_exit(0);
	}
	return pid;
}

/* A jump out of any of them leaves its memory behind, as it would without quire. */
static void map_calls(void)
{
	char *p;

	IN(MAP,
	   p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (p == MAP_FAILED)
		die("mmap");
	p[0] = p[STACK_BYTES - 1] = 1;
	IN(MAP, p = mremap(p, STACK_BYTES, 2 * STACK_BYTES, MREMAP_MAYMOVE));
	if (p == MAP_FAILED || p[0] != 1 || p[STACK_BYTES - 1] != 1)
		die("mremap");
	IN(MAP, munmap(p, 2 * STACK_BYTES));
}

static void on_call(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	nr_hits[where]++;
	check_cold();
	nr_signals++;
}

/* Blocks too large for the allocator's caches: it maps, purges and splits. */
static void malloc_calls(void)
{
	char *block[8];

	for (int i = 0; i < 8; i++) {
		IN(MALLOC, block[i] = malloc(40000 * (size_t)(i + 1)));
		memset(block[i], i, 40000);
	}
	for (int i = 0; i < 8; i++) {
		if (block[i][39999] != i)
			die("a block of malloc changed");
		IN(MALLOC, free(block[i]));
	}
}

static void expect_hits(const char *what, int hits, int least)
{
	dprintf(1, "%s: %d signals\n", what, hits);
	if (under_quire && hits < least)
		die("too few");
}

static void calls(void)
{
	use_altstack(map_pages(STACK_BYTES));
	handle(SIGALRM, on_call, SA_ONSTACK | SA_RESTART);
	every_us(500);
	for (int n = 0; nr_signals < 2000; n++) {
		for (int i = 0; i < 4; i++) {
			malloc_calls();
			map_calls();
		}
		pool_check(&pool, (size_t)n % 256, pool.nr_pages, 256);
		if (n % 4 == 0)
			wait_for(checked_fork());
	}
	every_us(0);
	pool_check(&pool, 0, pool.nr_pages, 1);
	expect_hits("malloc and free", nr_hits[MALLOC], 20);
	expect_hits("mmap, mremap and munmap", nr_hits[MAP], 20);
	expect_hits("fork", nr_hits[FORK], 20);
}

static void on_jump(int sig, siginfo_t *info, void *context)
{
	int call = where;

	(void)info;
	(void)context;
	nr_signals++;
	if (call == NO_CALL)
		return;
	nr_hits[call]++;
	where = NO_CALL;
	siglongjmp(back, sig);
}

static void once_in_us(long usec)
{
	struct itimerval timer = { { 0, 0 }, { 0, usec } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* More jumps than a table of calls in flight would have room for. */
static void jump(void)
{
	volatile int n = 0;

	signal(SIGCHLD, SIG_IGN); /* who jumps out of fork() does not know the child */
	handle(SIGALRM, on_jump, 0);
	sigsetjmp(back, 1);
	while (n++ < 1000) {
		int seen = nr_signals;

		once_in_us(20 + n * 7 % 200);
		while (seen == nr_signals) {
			if (n % 10)
				map_calls();
			else
				checked_fork();
		}
		if (n % 50 == 0)
			pool_check(&pool, 0, pool.nr_pages, 1);
	}
	pool_check(&pool, 0, pool.nr_pages, 1);
	expect_hits("jumps out of mmap, mremap and munmap", nr_hits[MAP], 200);
	expect_hits("jumps out of fork", nr_hits[FORK], 20);
}

/* ---- faults of the program's own ------------------------------------------------------ */

#define BARRIER_PAGES 64

static char *barrier_low;
static volatile sig_atomic_t nr_opened;
static volatile char *volatile expected;
static int grown_fd;

static void on_barrier(int sig, siginfo_t *info, void *context)
{
	char *at = info->si_addr;

	(void)context;
	if (sig != SIGSEGV || at != (char *)expected || info->si_code != SEGV_ACCERR)
		die("signal %d at %p code %d, wanted %d at %p", sig, (void *)at, info->si_code,
		    SIGSEGV, (void *)expected);
	nr_opened++;
	at = (char *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
	if (mprotect(at, PAGE, PROT_READ | PROT_WRITE))
		die("mprotect in the handler");
}

/* A guard page that nobody opens: the handler jumps. */
static void on_guard(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_addr != (void *)expected || info->si_code != SEGV_ACCERR)
		die("signal %d at %p, wanted %p", sig, info->si_addr, (void *)expected);
	siglongjmp(back, sig);
}

static void never(volatile char *at)
{
	expected = at;
	if (!sigsetjmp(back, 1)) {
		*at = 1;
		die("a guard page was written");
	}
}

static void barrier(void)
{
	static const int protection[] = { PROT_NONE, PROT_READ };
	int opened = 0;
	uint64_t *word;
	struct pool own = { .nr_pages = BARRIER_PAGES };

	barrier_low = map_pages((BARRIER_PAGES + 2) * PAGE);
	own.word = (uint64_t *)(barrier_low + PAGE);
	own.seed = calloc(BARRIER_PAGES, sizeof(*own.seed));
	for (size_t p = 0; p < BARRIER_PAGES; p++)
		pool_write(&own, p, 1);
	mprotect(barrier_low, PAGE, PROT_NONE);
	mprotect(barrier_low + (BARRIER_PAGES + 1) * PAGE, PAGE, PROT_NONE);
	use_altstack(map_pages(STACK_BYTES));
	for (uint32_t n = 0; n < 60; n++) {
		handle(SIGSEGV, on_barrier, n % 4 < 2 ? SA_ONSTACK : 0);
		pool_check(&pool, n % 16, pool.nr_pages, 16);
		cool(own.word, BARRIER_PAGES * PAGE);
		mprotect(own.word, BARRIER_PAGES * PAGE, protection[n % 2]);
		for (size_t p = n % 3; p < BARRIER_PAGES; p += 3) {
			/* One word by the opened page, the others stay. */
			word = own.word + p * PAGE_WORDS + (n * 37 + p) % PAGE_WORDS;
			expected = (char *)word;
			*(volatile uint64_t *)word = pool_word(own.seed[p], p,
							       (n * 37 + p) % PAGE_WORDS);
			opened++;
			pool_check(&own, p, p + 1, 1);
			pool_write(&own, p, n);
		}
		if (nr_opened != opened)
			die("%d of %d pages were opened", (int)nr_opened, opened);
		mprotect(own.word, BARRIER_PAGES * PAGE, PROT_READ);
		pool_check(&own, 0, BARRIER_PAGES, 1);
		mprotect(own.word, BARRIER_PAGES * PAGE, PROT_READ | PROT_WRITE);
		handle(SIGSEGV, on_guard, SA_ONSTACK);
		never(barrier_low + n);
		never(barrier_low + (BARRIER_PAGES + 1) * PAGE + n);
	}
	expect_out(60 * BARRIER_PAGES / 2);
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (sig != SIGBUS || info->si_addr != (void *)expected || info->si_code != BUS_ADRERR)
		die("signal %d at %p code %d", sig, info->si_addr, info->si_code);
	if (ftruncate(grown_fd, 16 * PAGE))
		die("ftruncate in the handler");
	nr_opened++;
	check_cold();
}

static void busfile(void)
{
	char name[] = "quire-XXXXXX";
	char *file;

	grown_fd = mkstemp(name);
	unlink(name);
	file = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, grown_fd, 0);
	if (file == MAP_FAILED)
		die("mmap of a file");
	use_altstack(map_pages(STACK_BYTES));
	handle(SIGBUS, on_bus, SA_ONSTACK);
	for (int n = 0; n < 60; n++) {
		pool_check(&pool, (size_t)n % 16, pool.nr_pages, 16);
		if (ftruncate(grown_fd, PAGE))
			die("ftruncate");
		expected = file + 5 * PAGE + n;
		*expected = (char)n;
		if (nr_opened != n + 1 || *expected != (char)n)
			die("a write behind the end of a file");
	}
}

/* ---- stack overflow --------------------------------------------------------------------- */

#define DEEP_STACK (256u << 10)

static char *guard_low, *guard_high;
static volatile sig_atomic_t nr_overflows;

static void on_overflow(int sig, siginfo_t *info, void *context)
{
	char *at = info->si_addr, here;

	(void)context;
	if (sig != SIGSEGV || at < guard_low || at >= guard_high)
		die("an overflow at %p, the guard is at %p", (void *)at, (void *)guard_low);
	if (&here < stack_low || &here >= stack_low + STACK_BYTES)
		die("the overflow is not handled on the alternate stack");
	check_cold();
	nr_overflows++;
	siglongjmp(back, sig);
}

/* Without end.  (The compiler sees no end either: hence the condition.) */
static int recurse(volatile char *above)
{
	volatile char frame[1000];

	frame[0] = *above;
	frame[999] = 1;
	return nr_overflows > 1000000 ? 0 : recurse(frame) + frame[0];
}

static void overflow_here(void)
{
	volatile char top = 0;

	stack_low = map_pages(STACK_BYTES);
	use_altstack(stack_low);
	nr_overflows = 0;
	for (volatile int n = 0; n < 30; n++) {
		memset(stack_low, 1, STACK_BYTES);
		cool(stack_low, STACK_BYTES);
		pool_check(&pool, (size_t)n % 16, pool.nr_pages, 16);
		if (!sigsetjmp(back, 1))
			recurse(&top);
	}
	if (nr_overflows != 30)
		die("%d overflows", (int)nr_overflows);
}

static void *deep_thread(void *arg)
{
	guard_low = arg;
	guard_high = guard_low + 4 * PAGE;
	mprotect(guard_low, 4 * PAGE, PROT_NONE);
	overflow_here();
	return arg;
}

static void overflow(void)
{
	struct rlimit lim = { 1 << 20, 1 << 20 };
	void *low = map_pages(DEEP_STACK);
	pthread_attr_t attr;
	pthread_t t;
	char here;

	handle(SIGSEGV, on_overflow, SA_ONSTACK);
	pthread_attr_init(&attr);
	if (pthread_attr_setstack(&attr, low, DEEP_STACK) ||
	    pthread_create(&t, &attr, deep_thread, low))
		die("a thread on a stack of its own");
	pthread_join(t, NULL);
	/* Main's: the kernel ends it, a stack of 1 MiB below its highest address. */
	if (setrlimit(RLIMIT_STACK, &lim))
		die("setrlimit");
	guard_high = (char *)((uintptr_t)&here - (900 << 10));
	guard_low = (char *)((uintptr_t)&here - (1100 << 10));
	overflow_here();
	expect_out(60 * 16);
}

/* ---- threads that are cancelled ------------------------------------------------------- */

static atomic_bool ready;

/* Faults and system calls only: what may be cancelled anywhere. */
static void *cancelled_at_once(void *arg)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	ready = true;
	for (;;) {
		char *p = map_pages(STACK_BYTES);

		p[0] = p[STACK_BYTES - 1] = 1;
		check_cold();
		munmap(p, STACK_BYTES);
	}
	return arg;
}

static void *cancelled_between(void *arg)
{
	ready = true;
	for (size_t n = 0;; n++) {
		size_t bytes = n * 7919 % 200000 + 100;
		char *p = malloc(bytes);

		memset(p, 7, bytes);
		check_cold();
		if (p[bytes / 2] != 7)
			die("a block of malloc changed");
		free(p);
		pthread_testcancel();
	}
	return arg;
}

static void cancel(void)
{
	for (int n = 0; n < 250; n++) {
		pthread_t t[3];
		void *res;

		ready = false;
		if (pthread_create(&t[0], NULL, cancelled_at_once, NULL) ||
		    pthread_create(&t[1], NULL, cancelled_at_once, NULL) ||
		    pthread_create(&t[2], NULL, cancelled_between, NULL))
			die("pthread_create");
		while (!ready)
			usleep(100);
		usleep((unsigned)n % 50 * 40);
		for (int i = 0; i < 3; i++)
			pthread_cancel(t[i]);
		for (int i = 0; i < 3; i++)
			if (pthread_join(t[i], &res) || res != PTHREAD_CANCELED)
				die("a thread was not cancelled");
	}
	pool_check(&pool, 0, pool.nr_pages, 1);
}

/* ---- stopped --------------------------------------------------------------------------- */

#define NR_STOPS 20

static atomic_bool stop;
static atomic_size_t nr_sweeps;

static void *sweep(void *arg)
{
	while (!stop) {
		pool_check(&pool, (size_t)arg, pool.nr_pages, 4);
		atomic_fetch_add(&nr_sweeps, 1);
	}
	return NULL;
}

static void on_continued(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	nr_signals++;
	check_cold();
}

static void stopped(void)
{
	pthread_t t[4];
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		for (int n = 0; n < NR_STOPS; n++) {
			usleep(15000);
			kill(parent, SIGSTOP);
			usleep(15000);
			if (kill(parent, SIGCONT))
				_exit(1);
		}
		_exit(0);
	}
	handle(SIGCONT, on_continued, SA_RESTART);
	handle(SIGALRM, on_storm, SA_RESTART);
	every_us(1000);
	for (size_t i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, sweep, (void *)i))
			die("pthread_create");
	wait_for(pid);
	stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	every_us(0);
	if (nr_signals < NR_STOPS)
		die("only %d signals", (int)nr_signals);
	pool_check(&pool, 0, pool.nr_pages, 1);
}

int main(int argc, char **argv)
{
	static const struct mode mode[] = {
		{ "cold", cold },	  { "storm", storm },	  { "calls", calls },
		{ "jump", jump },	  { "barrier", barrier }, { "busfile", busfile },
		{ "overflow", overflow }, { "cancel", cancel },	  { "stopped", stopped },
	};

	under_quire = argc > 2 && !strcmp(argv[1], "--quire");
	pool_make(&pool, POOL_MIB, 1);
	return run_mode(mode, sizeof(mode) / sizeof(mode[0]), argc, argv);
}
