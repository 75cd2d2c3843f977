/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_signal_host.c - QUIRE_FAULT_SIGNAL and what else a program does: its own SIGBUS,
 * other signals, stacks, system calls, fork, the end of memory.
 * paging
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "unit/api/signal_test.h"

static sigjmp_buf back;
static volatile sig_atomic_t nr_bus, nr_alarms, may_jump;
static volatile size_t writing; /* the page that is not what it shall be just now */
static void *volatile bus_at;
static volatile int bus_code;

/* The program's own; it touches managed memory, as it may. */
static void on_bus(int sig, siginfo_t *si, void *context)
{
	(void)context;
	bus_at = si->si_addr;
	bus_code = si->si_code;
	nr_bus++;
	if (mem)
		check_page((size_t)nr_bus * 511 % PAGES);
	if (si->si_code > 0)
		siglongjmp(back, sig);
}

static void catch (int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction act = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };

	ASSERT_OK(sigaction(sig, &act, NULL));
}

static bool store_is_bus(volatile char *at)
{
	if (sigsetjmp(back, 1))
		return true;
	*at = 5;
	return false;
}

/* Behind the end of its file: a touch is SIGBUS. */
static char *beyond_file(void)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	close(fd);
	return p;
}

TEST(own_handler_gets_the_rest)
{
	char *p = beyond_file();

	nr_bus = 0;
	catch (SIGBUS, on_bus, 0);
	begin();
	for (int i = 1; i <= 10; i++) {
		ASSERT_TRUE(store_is_bus(p + i));
		ASSERT_EQ(nr_bus, i);
		ASSERT_PTR_EQ(bus_at, p + i);
		ASSERT_EQ(bus_code, BUS_ADRERR);
		check_page((size_t)i * 97);
	}
	ASSERT_OK(raise(SIGBUS));
	ASSERT_EQ(nr_bus, 11);
	ASSERT_EQ(bus_code, SI_TKILL);
	end();
	/* The handler is the program's again. */
	ASSERT_TRUE(store_is_bus(p));
	ASSERT_EQ(nr_bus, 12);
	signal(SIGBUS, SIG_DFL);
	munmap(p, PAGE);
}

static void touch_beyond(void)
{
	char *p = beyond_file();

	begin();
	*p = 1;
	_exit(0);
}

static void send_to_self(void)
{
	begin();
	raise(SIGBUS);
	_exit(0);
}

TEST(default_action_ends_the_program)
{
	char text[256];
	int status = test_child(touch_beyond, text, sizeof(text));

	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	status = test_child(send_to_self, text, sizeof(text));
	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void on_alarm(int sig, siginfo_t *si, void *context)
{
	size_t page = (size_t)++nr_alarms * 1021 % PAGES;

	(void)si;
	(void)context;
	if (page != writing)
		check_page(page);
	if (!may_jump)
		return;
	may_jump = 0;
	siglongjmp(back, sig);
}

static void alarms(int usec)
{
	struct itimerval timer = { { 0, usec }, { 0, usec } };

	ASSERT_OK(setitimer(ITIMER_REAL, &timer, NULL));
}

static void work_under_alarms(bool jump)
{
	volatile size_t n = 0;

	sigsetjmp(back, 1);
	while (nr_alarms < 500) {
		n++;
		may_jump = jump;
		check_page(n * 31 % PAGES);
		writing = n * 17 % PAGES;
		if (!jump)
			write_page(n * 17 % PAGES, (unsigned int)n);
		writing = PAGES;
		may_jump = 0;
	}
}

/* Handlers fault too, on a stack of their own, and jump out of what they interrupted. */
static void under_alarms(int flags, bool jump)
{
	begin();
	nr_alarms = 0;
	catch (SIGALRM, on_alarm, flags);
	alarms(200);
	work_under_alarms(jump);
	alarms(0);
	end();
}

TEST(async_handlers_fault)
{
	under_alarms(0, false);
}

TEST(async_handlers_jump)
{
	under_alarms(0, true);
}

static char alternate[64 * 1024];

static void set_alternate(bool on)
{
	stack_t s = { .ss_sp = alternate,
		      .ss_size = sizeof(alternate),
		      .ss_flags = on ? 0 : SS_DISABLE };

	ASSERT_OK(sigaltstack(&s, NULL));
}

TEST(handlers_on_an_alternate_stack)
{
	set_alternate(true);
	under_alarms(SA_ONSTACK, false);
	set_alternate(false);
}

static ucontext_t here, there;
static volatile bool coroutine_done;

static size_t deep(size_t n)
{
	volatile unsigned char frame[3000];

	frame[n % sizeof(frame)] = (unsigned char)n;
	if (n % 8 == 0)
		swapcontext(&there, &here);
	if (!n)
		return 0;
	return deep(n - 1) + (frame[n % sizeof(frame)] == (unsigned char)n);
}

static void coroutine(void)
{
	coroutine_done = deep(200) == 200;
}

/* With an alternate stack that is not managed, stacks may be. */
TEST(stack_in_managed_memory)
{
	size_t size = 256 * PAGE;
	void *stack;

	set_alternate(true);
	begin();
	ASSERT_OK(quire_map(g, size, 0, &stack));
	getcontext(&there);
	there.uc_stack.ss_sp = stack;
	there.uc_stack.ss_size = size;
	there.uc_link = &here;
	makecontext(&there, coroutine, 0);
	for (int i = 0; !coroutine_done && i < 1000; i++) {
		swapcontext(&here, &there);
		ASSERT_OK(quire_advise(q, stack, size, QUIRE_PAGEOUT));
	}
	ASSERT_TRUE(coroutine_done);
	ASSERT_OK(quire_unmap(q, stack, size));
	end();
	set_alternate(false);
}

/* The kernel does not fault for a system call here; what is pinned is there. */
TEST(system_calls_want_pinned_memory)
{
	char *at;
	int fd[2];

	begin();
	at = (char *)(mem + 5 * WORDS);
	ASSERT_OK(pipe(fd));
	ASSERT_EQ(write(fd[1], "pinned", 6), 6);
	page_out(5, 1);
	ASSERT_EQ(read(fd[0], at, 6), -1);
	ASSERT_EQ(errno, EFAULT);
	ASSERT_OK(quire_pin(q, mem + 5 * WORDS, PAGE));
	page_out(5, 1);
	for (size_t p = 100; p < PAGES; p++)
		check_page(p);
	ASSERT_EQ(read(fd[0], at, 6), 6);
	ASSERT_MEM_EQ(at, "pinned", 6);
	ASSERT_OK(quire_unpin(q, mem + 5 * WORDS, PAGE));
	/* Never touched, and given back. */
	ASSERT_OK(quire_discard(q, mem + 5 * WORDS, PAGE));
	ASSERT_OK(quire_pin(q, mem + 5 * WORDS, PAGE));
	ASSERT_EQ(write(fd[1], "zeros", 5), 5);
	ASSERT_EQ(read(fd[0], at, 6), 5);
	ASSERT_MEM_EQ(at, "zeros", 6);
	ASSERT_OK(quire_unpin(q, mem + 5 * WORDS, PAGE));
	close(fd[0]);
	close(fd[1]);
	write_page(5, 1);
	end();
}

TEST(errno_is_kept)
{
	begin();
	for (size_t p = 0; p < PAGES; p++) {
		errno = (int)p;
		(void)*(volatile unsigned long *)(mem + p * WORDS);
		ASSERT_EQ(errno, (int)p);
	}
	end();
}

TEST(blocked_sigbus_is_refused)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	struct quire *none;
	sigset_t bus, old;

	opt.flags = QUIRE_FAULT_SIGNAL;
	sigemptyset(&bus);
	sigaddset(&bus, SIGBUS);
	ASSERT_OK(sigprocmask(SIG_BLOCK, &bus, &old));
	ASSERT_EQ(quire_open(&opt, &none), -EINVAL);
	ASSERT_OK(sigprocmask(SIG_SETMASK, &old, NULL));
	ASSERT_NOT_NULL(strstr(quire_why(), "SIGBUS"));
	opt.pager = "fake";
	ASSERT_EQ(quire_open(&opt, &none), -EOPNOTSUPP);
}

/* ---- fork ------------------------------------------------------------------- */

static int wait_for(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

/* What it writes is its own, and it may map and fork like anybody. */
static void live(unsigned int seed_of_child)
{
	void *at;

	for (size_t p = 0; p < PAGES; p += 2)
		check_page(p);
	for (size_t p = 0; p < PAGES; p += 5)
		write_page(p, seed_of_child);
	if (quire_map(g, MIB, 0, &at))
		_exit(3);
	memset(at, 1, MIB);
}

/* Of files without a name: the store's. */
static unsigned int nr_store_descriptors(void)
{
	char name[32], path[256];
	unsigned int nr = 0;

	for (int fd = 3; fd < 1100; fd++) {
		ssize_t len;

		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		len = readlink(name, path, sizeof(path) - 1);
		path[len > 0 ? len : 0] = 0;
		nr += strstr(path, "(deleted)") != NULL;
	}
	return nr;
}

static void child(void)
{
	pid_t pid;

	/* The parent's would keep its space for as long as we live. */
	if (nr_store_descriptors())
		_exit(5);
	live(100);
	pid = fork();
	if (!pid)
		live(101);
	else if (pid < 0 || wait_for(pid))
		_exit(4);
	check_all();
	_exit(0);
}

static void fork_is_exact(unsigned int flags)
{
	begin_with(NULL, flags);
	check_all();
	ASSERT_LE(nr_store_descriptors(), 1u); /* none, where the device is slow */
	for (unsigned int n = 0; n < 2; n++) {
		pid_t pid = fork();

		ASSERT_OK(pid);
		if (!pid)
			child();
		for (size_t p = n; p < PAGES; p += 3)
			write_page(p, n);
		ASSERT_EQ(wait_for(pid), 0);
		check_all();
	}
	end();
	ASSERT_EQ(nr_store_descriptors(), 0u);
}

TEST(fork_is_exact_pool)
{
	fork_is_exact(0);
}

TEST(fork_is_exact_store)
{
	fork_is_exact(QUIRE_OPEN_NO_ZSWAP);
}

static atomic_bool stop;

static void *read_on(void *arg)
{
	for (size_t n = (size_t)arg; !stop; n += 7919)
		(void)*(volatile unsigned long *)(mem + n % PAGES * WORDS);
	return NULL;
}

/* In the middle of other threads' faults. */
static void fork_beside_faults(unsigned int flags)
{
	pthread_t t[3];

	begin_with(NULL, flags);
	stop = false;
	for (size_t i = 0; i < 3; i++)
		ASSERT_OK(-pthread_create(&t[i], NULL, read_on, (void *)i));
	for (unsigned int n = 0; n < 30; n++) {
		pid_t pid = fork();

		ASSERT_OK(pid);
		if (!pid) {
			for (size_t p = n; p < PAGES; p += 16)
				check_page(p);
			_exit(0);
		}
		ASSERT_EQ(wait_for(pid), 0);
	}
	stop = true;
	for (size_t i = 0; i < 3; i++)
		ASSERT_OK(-pthread_join(t[i], NULL));
	end();
}

TEST(fork_beside_faults_pool)
{
	fork_beside_faults(0);
}

TEST(fork_beside_faults_store)
{
	fork_beside_faults(QUIRE_OPEN_NO_ZSWAP);
}

/* ---- no memory ----------------------------------------------------------------- */

static unsigned long *more;
static volatile size_t nr_filled;

static unsigned long noise(size_t page, size_t i)
{
	unsigned long x = (page * WORDS + i + 1) * 0x9e3779b97f4a7c15ul;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
	return x ^ x >> 27;
}

/* Pages that do not compress, until SIGBUS; false: all of them were written. */
static bool fill_until_bus(void)
{
	if (sigsetjmp(back, 1))
		return true;
	for (nr_filled = 0; nr_filled < PAGES; nr_filled++)
		for (size_t i = 0; i < WORDS; i++)
			more[nr_filled * WORDS + i] = noise(nr_filled, i);
	return false;
}

/* Nothing compresses and there is no store: the thread that wants more gets SIGBUS. */
TEST(out_of_memory_is_sigbus)
{
	void *at;

	mem = NULL;
	nr_bus = 0;
	catch (SIGBUS, on_bus, 0);
	open_signal(NULL, QUIRE_OPEN_NO_STORE);
	ASSERT_OK(quire_map(g, BYTES, 0, &at));
	more = at;
	ASSERT_TRUE(fill_until_bus());
	ASSERT_EQ(nr_bus, 1);
	ASSERT_EQ((uintptr_t)bus_at / PAGE, (uintptr_t)more / PAGE + nr_filled);
	ASSERT_GT(key_of("memory.events", "oom"), 0u);
	/* With room, what was there before still is; the page is gone for good. */
	ASSERT_OK(quire_write(g, "memory.max", "max"));
	for (size_t i = 0; i < nr_filled; i += 7)
		ASSERT_EQ(more[i * WORDS], noise(i, 0));
	ASSERT_TRUE(store_is_bus((char *)(more + nr_filled * WORDS)));
	ASSERT_EQ(nr_bus, 2);
	/* Given back and taken anew it is memory like any. */
	ASSERT_OK(quire_discard(q, more, BYTES));
	ASSERT_FALSE(store_is_bus((char *)(more + nr_filled * WORDS)));
	ASSERT_EQ(more[nr_filled * WORDS] & 255, 5);
	signal(SIGBUS, SIG_DFL);
	quire_close(q);
}
