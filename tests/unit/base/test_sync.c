/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync.c - mutex, event and gate on real threads, and the lock order.
 *
 * tsan: the algorithms promise order between threads; what all schedules of
 * small cases do is tests/race/test_explore.c.
 */
#include "base/sync.h"

#include "base/os.h"
#include "lib/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define NR_THREADS 4
#define NR_ROUNDS 20000

static struct thread threads[NR_THREADS];
static struct mutex lock;
static struct gate gate;
static u64 shared; /* under lock, or by the closer of the gate alone */

static void start(u32 i, void (*fn)(struct thread *self))
{
	threads[i] = (struct thread){ .name = "test", .fn = fn, .arg = (void *)(uintptr_t)i };
	ASSERT_OK(thread_start(&threads[i]));
}

static void join_all(u32 nr)
{
	while (nr)
		thread_join(&threads[--nr]);
}

static void run_all(void (*fn)(struct thread *self))
{
	u32 i;

	for (i = 0; i < NR_THREADS; i++)
		start(i, fn);
	join_all(NR_THREADS);
}

TEST(atomics_return_the_value_before)
{
	struct atomic32 a = { 5 };
	struct atomic64 b = { 1ull << 40 };

	ASSERT_EQ(atomic32_fetch_add(&a, 3), 5u);
	ASSERT_EQ(atomic32_fetch_sub(&a, 1), 8u);
	ASSERT_EQ(atomic32_fetch_or(&a, 8), 7u);
	ASSERT_EQ(atomic32_fetch_and(&a, 9), 15u);
	ASSERT_EQ(atomic32_xchg(&a, 2), 9u);
	ASSERT_FALSE(atomic32_cas(&a, 3, 4));
	ASSERT_TRUE(atomic32_cas(&a, 2, 4));
	ASSERT_EQ(atomic32_load(&a), 4u);
	atomic64_store(&b, atomic64_load(&b) + 1);
	ASSERT_EQ(atomic64_peek(&b), (1ull << 40) + 1);
}

/* ---- futex ------------------------------------------------------------------- */

TEST(futex_returns)
{
	struct atomic32 word = { 1 };
	u64 before = os_now_ns();

	ASSERT_EQ(futex_wait(&word, 2, SYNC_FOREVER, false), 0);
	ASSERT_EQ(futex_wait(&word, 1, 2 * NSEC_PER_MSEC, false), -ETIMEDOUT);
	ASSERT_EQ(futex_wait(&word, 1, 2 * NSEC_PER_MSEC, true), -ETIMEDOUT);
	ASSERT_GE(os_now_ns() - before, 4 * NSEC_PER_MSEC);
	futex_wake(&word, UINT32_MAX, false);
}

/* ---- mutex ------------------------------------------------------------------- */

static void count_under_lock(struct thread *self)
{
	int i;

	(void)self;
	for (i = 0; i < NR_ROUNDS; i++) {
		mutex_lock(&lock);
		mutex_assert_held(&lock);
		shared++;
		mutex_unlock(&lock);
	}
}

TEST(mutex_excludes)
{
	shared = 0;
	mutex_init(&lock, "test", LOCK_RANK_LEAF);
	run_all(count_under_lock);
	ASSERT_EQ(shared, (u64)NR_THREADS * NR_ROUNDS);
}

static void try_to_count(struct thread *self)
{
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		if (!mutex_trylock(&lock))
			continue;
		shared++;
		self->nr_uses++;
		mutex_unlock(&lock);
	}
}

TEST(trylock_excludes)
{
	u64 sum = 0;
	u32 i;

	shared = 0;
	mutex_init(&lock, "test", LOCK_RANK_LEAF);
	run_all(try_to_count);
	for (i = 0; i < NR_THREADS; i++)
		sum += threads[i].nr_uses;
	ASSERT_EQ(shared, sum);
	ASSERT_TRUE(mutex_trylock(&lock));
	ASSERT_FALSE(mutex_trylock(&lock));
	mutex_unlock(&lock);
}

/* ---- lock order -------------------------------------------------------------- */

static struct mutex low, high, high2;

static void three_locks(void)
{
	static struct thread self = { .name = "orderly" };

	mutex_init(&low, "low", LOCK_RANK_TREE);
	mutex_init(&high, "high", LOCK_RANK_LRUVEC);
	mutex_init(&high2, "high2", LOCK_RANK_LRUVEC);
	thread_attach(&self);
}

static void orderly(void)
{
	three_locks();
	mutex_lock(&low);
	mutex_lock(&high);
	mutex_lock_nested(&high2);
	mutex_unlock(&high);
	mutex_unlock(&low);
	mutex_unlock(&high2);
	/* Against the order, but without waiting. */
	mutex_lock(&high);
	if (!mutex_trylock(&low))
		os_abort("not free\n");
	mutex_unlock(&high);
	mutex_unlock(&low);
	thread_detach();
	/* A thread that is not the engine's is not checked. */
	mutex_lock(&high);
	mutex_lock(&low);
	mutex_unlock(&low);
	mutex_unlock(&high);
}

static void inverted(void)
{
	three_locks();
	mutex_lock(&high);
	mutex_lock(&low);
}

static void same_rank(void)
{
	three_locks();
	mutex_lock(&high);
	mutex_lock(&high2);
}

static void nested_inverted(void)
{
	three_locks();
	mutex_lock(&high);
	mutex_lock_nested(&low);
}

static void twice(void)
{
	three_locks();
	thread_detach();
	mutex_lock(&low);
	mutex_lock(&low);
}

static void not_held(void)
{
	three_locks();
	mutex_assert_held(&low);
}

static void unlock_not_held(void)
{
	three_locks();
	mutex_unlock(&low);
}

static void aborts(void (*fn)(void), const char *says)
{
	char text[1024];
	int status = test_child(fn, text, sizeof(text));

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(text, says))
		FAIL("status %x: %s", (unsigned)status, text);
}

TEST(lock_order)
{
	char text[1024];

	if (test_child(orderly, text, sizeof(text)) != 0)
		FAIL("%s", text);
	snprintf(text, sizeof(text), "taking low (rank %d) in thread orderly; holds high (%d)\n",
		 LOCK_RANK_TREE, LOCK_RANK_LRUVEC);
	aborts(inverted, text);
	aborts(same_rank, "taking high2 (rank");
	aborts(nested_inverted, "taking low");
	aborts(twice, "taking twice low");
	aborts(not_held, "not held: low");
	aborts(unlock_not_held, "not held: low");
}

/* ---- event ------------------------------------------------------------------- */

static struct event ping, pong;
static struct atomic32 ball;

/* Each side waits until the ball has its parity; no signal may be lost. */
static void play(struct thread *self)
{
	u32 me = (u32)(uintptr_t)self->arg;
	struct event *mine = me ? &pong : &ping, *other = me ? &ping : &pong;
	u32 i;

	for (i = 0; i < 3000; i++) {
		for (;;) {
			u32 seq = event_seq(mine);

			if (atomic32_load(&ball) % 2 == me)
				break;
			if (event_wait(mine, seq, SYNC_FOREVER))
				os_abort("timed out without time\n");
		}
		atomic32_fetch_add(&ball, 1);
		event_signal(other);
	}
}

TEST(event_ping_pong)
{
	event_init(&ping);
	event_init(&pong);
	atomic32_store(&ball, 0);
	start(0, play);
	start(1, play);
	join_all(2);
	ASSERT_EQ(atomic32_load(&ball), 6000u);
	ASSERT_EQ(atomic32_load(&ping.nr_waiting), 0u);
}

TEST(event_times_out)
{
	u64 before = os_now_ns();
	u32 seq;

	event_init(&ping);
	seq = event_seq(&ping);
	ASSERT_EQ(event_wait(&ping, seq, 3 * NSEC_PER_MSEC), -ETIMEDOUT);
	ASSERT_GE(os_now_ns() - before, 3 * NSEC_PER_MSEC);
	ASSERT_EQ(event_wait(&ping, seq, 0), -ETIMEDOUT);
	event_signal(&ping);
	ASSERT_EQ(event_wait(&ping, seq, SYNC_FOREVER), 0);
	ASSERT_EQ(atomic32_load(&ping.nr_waiting), 0u);
}

static void wait_for_ping(struct thread *self)
{
	self->nr_uses = (u64)event_wait(&ping, 0, SYNC_FOREVER) + 1;
}

TEST(event_wakes_all)
{
	u32 i;

	event_init(&ping);
	for (i = 0; i < NR_THREADS; i++)
		start(i, wait_for_ping);
	while (atomic32_load(&ping.nr_waiting) < NR_THREADS)
		os_sched_yield();
	event_signal(&ping);
	join_all(NR_THREADS);
	for (i = 0; i < NR_THREADS; i++)
		ASSERT_EQ(threads[i].nr_uses, 1u);
}

/* ---- gate -------------------------------------------------------------------- */

static struct atomic32 inside, stop;

/* Thread 0 and 1 close, the others pass; `shared` is the closer's alone. */
static void use_gate(struct thread *self)
{
	bool closer = (uintptr_t)self->arg < 2;
	u32 i;

	for (i = 0; i < (closer ? 1000u : NR_ROUNDS); i++) {
		if (closer) {
			gate_close(&gate);
			if (atomic32_load(&inside))
				os_abort("somebody passed a closed gate\n");
			shared++;
			gate_open(&gate);
			continue;
		}
		gate_enter(&gate);
		atomic32_fetch_add(&inside, 1);
		if (i % 16 == 0) {
			gate_enter_again(&gate);
			gate_leave(&gate);
		}
		atomic32_fetch_sub(&inside, 1);
		gate_leave(&gate);
	}
}

TEST(gate_stress)
{
	gate_init(&gate);
	shared = 0;
	run_all(use_gate);
	ASSERT_EQ(shared, 2000u);
	ASSERT_EQ(atomic32_load(&gate.state), 0u);
	ASSERT_EQ(atomic32_load(&gate.closer), 0u);
}

static void close_gate(struct thread *self)
{
	(void)self;
	gate_close(&gate);
	atomic32_store(&stop, 1);
	gate_open(&gate);
}

TEST(gate_states)
{
	gate_init(&gate);
	atomic32_store(&stop, 0);
	gate_enter(&gate);
	start(0, close_gate);
	while (gate_try_enter(&gate))
		gate_leave(&gate);
	/* A closer waits; who is inside may still do so twice. */
	gate_enter_again(&gate);
	gate_leave(&gate);
	os_sleep_ns(2 * NSEC_PER_MSEC);
	ASSERT_EQ(atomic32_load(&stop), 0u);
	gate_leave(&gate);
	gate_enter(&gate);
	ASSERT_EQ(atomic32_load(&stop), 1u);
	gate_leave(&gate);
	join_all(1);
}
