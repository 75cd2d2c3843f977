/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_thread.c - engine threads, and that libc does not know of them.
 *
 * tsan: start, join and attach; what raw clone(2) promises is skipped there.
 */
#include "base/sync.h"

#include "base/os.h"
#include "lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef QUIRE_PTHREADS
#define NEED_RAW_CLONE() SKIP("threads are libc's in this build")
#define LIBC_SIGNALS (3ull << 31) /* pthread_create unblocks its own two */
#else
#define NEED_RAW_CLONE() ((void)0)
#define LIBC_SIGNALS 0ull
#endif
#define UNBLOCKABLE (1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | LIBC_SIGNALS)

static struct thread t;
static struct atomic32 word;

static void start(void (*fn)(struct thread *self))
{
	t = (struct thread){ .name = "quire/test", .fn = fn };
	ASSERT_OK(thread_start(&t));
}

/* As ASSERT_TRUE, for code that runs in a child or on a thread. */
#define MUST(e) ((e) ? (void)0 : os_abort("test_thread.c: " #e " is false\n"))

static void sleep_until_woken(struct thread *self)
{
	(void)self;
	while (!atomic32_load(&word))
		(void)futex_wait(&word, 0, SYNC_FOREVER, false);
}

static void wake_and_join(struct thread *sleeper)
{
	atomic32_store(&word, 1);
	futex_wake(&word, UINT32_MAX, false);
	thread_join(sleeper);
	atomic32_store(&word, 0);
}

static void dies_by_signal(void (*fn)(void), int sig)
{
	char text[256];
	int status = test_child(fn, text, sizeof(text));

	if (!WIFSIGNALED(status) || WTERMSIG(status) != sig)
		FAIL("status %x: %s", (unsigned)status, text);
}

static void ends_well(void (*fn)(void))
{
	char text[256];
	int status = test_child(fn, text, sizeof(text));

	if (status != 0)
		FAIL("status %x: %s", (unsigned)status, text);
}

/* First of all blocks: one below uses pthread_create itself. */
static void stay_single_threaded(void)
{
	MUST(__libc_single_threaded);
	start(sleep_until_woken);
	MUST(__libc_single_threaded);
}

TEST(libc_stays_single_threaded)
{
	NEED_RAW_CLONE();
	ends_well(stay_single_threaded);
}

/* ---- identity ------------------------------------------------------------------ */

static void look_at_self(struct thread *self)
{
	u64 mask = 0;

	MUST(thread_self() == self);
	MUST(atomic32_load(&self->tid) == (u32)os_gettid());
	MUST(os_getpid() != os_gettid());
	MUST(os_sigprocmask_all(&mask) == 0);
	MUST((mask | UNBLOCKABLE) == UINT64_MAX);
	self->nr_uses = 77;
}

TEST(start_and_join)
{
	u64 before = 0, after = 0;
	int i;

	ASSERT_OK(os_sigprocmask_all(&before));
	ASSERT_OK(os_sigprocmask_set(&before));
	for (i = 0; i < 50; i++) {
		start(look_at_self);
		thread_join(&t);
		ASSERT_EQ(t.nr_uses, 77u);
		ASSERT_EQ(atomic32_load(&t.tid), 0u);
		ASSERT_NULL(t.stack);
		thread_join(&t);
	}
	ASSERT_OK(os_sigprocmask_all(&after));
	ASSERT_OK(os_sigprocmask_set(&before));
	ASSERT_EQ(before, after);
}

static void *look_from_pthread(void *p)
{
	(void)p;
	return thread_self();
}

TEST(application_threads_have_no_self)
{
	pthread_t other;
	void *self = &t;

	ASSERT_NULL(thread_self());
	start(sleep_until_woken);
	ASSERT_NULL(thread_self());
	ASSERT_EQ(pthread_create(&other, NULL, look_from_pthread, NULL), 0);
	ASSERT_EQ(pthread_join(other, &self), 0);
	wake_and_join(&t);
	ASSERT_NULL(self);
}

TEST(attach)
{
	struct thread me = { .name = "me" };

	thread_attach(&me);
	ASSERT_PTR_EQ(thread_self(), &me);
	ASSERT_EQ(atomic32_load(&me.tid), (u32)os_gettid());
	thread_detach();
	ASSERT_NULL(thread_self());
	ASSERT_EQ(atomic32_load(&me.tid), 0u);
}

static struct thread inner;

static void nothing(struct thread *self)
{
	self->nr_uses++;
}

static void start_another(struct thread *self)
{
	inner = (struct thread){ .name = "inner", .fn = nothing };
	MUST(thread_start(&inner) == 0);
	thread_join(&inner);
	self->nr_uses += inner.nr_uses;
}

TEST(started_by_an_engine_thread)
{
	start(start_another);
	thread_join(&t);
	ASSERT_EQ(t.nr_uses, 1u);
}

/* ---- stack and TLS block --------------------------------------------------------- */

static void look_at_tls(struct thread *self)
{
	u64 tcb, thread, canary;
	char big[100000];

	__asm__("mov %%fs:0, %0\n\tmov %%fs:0x10, %1\n\tmov %%fs:0x28, %2"
		: "=r"(tcb), "=r"(thread), "=r"(canary));
	/* how thread_self() tells our threads from libc's */
	MUST(thread == (u64)self && tcb != thread);
	self->nr_uses = canary;
	/* The functions of libc that we may use, bound lazily at first use. */
	memset(big, (int)tcb, sizeof(big));
	memmove(big + 1, big, sizeof(big) - 1);
	MUST(memcmp(big, big + 1, sizeof(big) - 1) == 0);
}

TEST(tls_block)
{
	u64 canary;

	NEED_RAW_CLONE();
	__asm__("mov %%fs:0x28, %0" : "=r"(canary));
	start(look_at_tls);
	thread_join(&t);
	ASSERT_EQ(t.nr_uses, canary);
}

static void write_to_guard(struct thread *self)
{
	*(volatile char *)self->stack = 1;
}

static void overflow(void)
{
	start(write_to_guard);
	thread_join(&t);
}

TEST(guard_page)
{
	NEED_RAW_CLONE();
	dies_by_signal(overflow, SIGSEGV);
}

/* ---- libc does not know ------------------------------------------------------------ */

static void leave_by_pthread_exit(void)
{
	alarm(20);
	start(sleep_until_woken);
	pthread_exit(NULL);
}

TEST(main_may_end_by_pthread_exit)
{
	NEED_RAW_CLONE();
	ends_well(leave_by_pthread_exit);
}

static void *sleep_in_pthread(void *p)
{
	for (;;)
		pause();
	return p;
}

/* setuid() of libc signals each thread it knows and waits for the answer. */
static void set_user(void)
{
	pthread_t other;

	alarm(20);
	start(sleep_until_woken);
	MUST(pthread_create(&other, NULL, sleep_in_pthread, NULL) == 0);
	MUST(setuid(getuid()) == 0);
	MUST(setgid(getgid()) == 0);
}

TEST(setuid_does_not_hang)
{
	NEED_RAW_CLONE();
	ends_well(set_user);
}

static void on_term(int sig)
{
	(void)sig;
	MUST(!thread_self());
	_exit(0);
}

/* A signal to the process goes to the program's thread, never to ours. */
static void take_signal(void)
{
	signal(SIGTERM, on_term);
	start(sleep_until_woken);
	kill(getpid(), SIGTERM);
	for (;;)
		pause();
}

TEST(signals_go_to_the_program)
{
	ends_well(take_signal);
}

/* ---- private table of descriptors -------------------------------------------------- */

static void abort_without_stderr(struct thread *self)
{
	(void)self;
	MUST(os_unshare(CLONE_FILES) == 0);
	MUST(os_close_range(0, ~0u) == 0);
	os_message("first ");
	/* Nothing stays open in the private table. */
	if (os_eventfd(0, 0) != 0)
		os_abort("leaked a descriptor\n");
	os_abort("second\n");
}

static void abort_in_private_table(void)
{
	start(abort_without_stderr);
	thread_join(&t);
}

TEST(messages_reach_the_program_s_stderr)
{
	char text[64];
	int status = test_child(abort_in_private_table, text, sizeof(text));

	ASSERT_STR_EQ(text, "first second\n");
	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- fork -------------------------------------------------------------------------- */

static void *stack_before;

static void restart(void)
{
	thread_forget(&t);
	MUST(t.stack == stack_before);
	t.fn = look_at_self;
	MUST(thread_start(&t) == 0);
	MUST(t.stack == stack_before);
	thread_join(&t);
	MUST(t.nr_uses == 77);
	/* And one that is not started again. */
	thread_forget(&inner);
	thread_join(&inner);
	MUST(!inner.stack);
}

TEST(forked_child_starts_them_again)
{
	NEED_RAW_CLONE();
	start(sleep_until_woken);
	stack_before = t.stack;
	inner = (struct thread){ .name = "inner", .fn = sleep_until_woken };
	ASSERT_OK(thread_start(&inner));
	ends_well(restart);
	/* The parent's live on. */
	ASSERT_NE(atomic32_load(&t.tid), 0u);
	wake_and_join(&t);
	wake_and_join(&inner);
}
