/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_explore.c - the race explorer finds what it must and passes what is right.
 *
 * Classic mistakes must be found in all their kinds, the corrected versions must
 * pass under every schedule with up to two preemptions or more; mutex, event and
 * gate of base/sync.c are then explored themselves.
 */
#include "base/assert.h"
#include "base/os.h"
#include "base/sync_explore.h"
#include "lib/test.h"

#include <errno.h>
#include <time.h>

static struct explore_result result;

/* Every schedule within the bound passes; returns how many there were. */
static u64 passes(const struct explore_scenario *s, u32 preemptions)
{
	struct explore_opts opts = EXPLORE_DEFAULTS;

	opts.preemptions = preemptions;
	if (!explore_run(s, &opts, &result))
		FAIL("%s: %s", s->name, result.message);
	ASSERT_TRUE(result.complete);
	return result.nr_runs;
}

/* Found by enumeration and by random priorities, and again by replay. */
static void found(const struct explore_scenario *s, enum explore_found what)
{
	struct explore_opts opts = EXPLORE_DEFAULTS;
	struct explore_result again;

	opts.quiet = true;
	ASSERT_FALSE(explore_run(s, &opts, &result));
	ASSERT_EQ(result.found, what);
	ASSERT_FALSE(explore_replay(s, result.schedule, MUTANT_NONE, false, &again));
	ASSERT_EQ(again.found, what);
	ASSERT_STR_EQ(again.message, result.message);
	ASSERT_STR_EQ(again.schedule, result.schedule);
	ASSERT_EQ(again.nr_runs, 1u);

	opts.mode = EXPLORE_PCT;
	opts.seed = 1;
	opts.depth = 3;
	opts.max_runs = 5000;
	ASSERT_FALSE(explore_run(s, &opts, &result));
	ASSERT_EQ(result.found, what);
	ASSERT_FALSE(explore_replay(s, result.schedule, MUTANT_NONE, false, &again));
	ASSERT_EQ(again.found, what);
}

/* ---- lost update ----------------------------------------------------------------- */

static struct atomic32 word, flag, phase;
static struct mutex lock_a, lock_b;
static struct event event;
static struct gate gate;
static u32 plain; /* what a lock shall protect */

static void reset_words(void *ctx)
{
	(void)ctx;
	atomic32_poke(&word, 0);
	atomic32_poke(&flag, 0);
	atomic32_poke(&phase, 0);
	mutex_init(&lock_a, "a", LOCK_RANK_NONE);
	mutex_init(&lock_b, "b", LOCK_RANK_NONE);
	event_init(&event);
	gate_init(&gate);
	plain = 0;
}

static void add_badly(void *ctx)
{
	(void)ctx;
	atomic32_store(&word, atomic32_load(&word) + 1);
}

static void add_well(void *ctx)
{
	(void)ctx;
	atomic32_fetch_add(&word, 1);
}

static void word_is_2(void *ctx)
{
	(void)ctx;
	quire_assert(atomic32_load(&word) == 2);
}

TEST(lost_update)
{
	struct explore_scenario s = { .name = "lost update",
				      .nr_bodies = 2,
				      .setup = reset_words,
				      .body = { add_badly, add_badly },
				      .check = word_is_2 };

	found(&s, EXPLORE_ASSERTION);
	ASSERT_NOT_NULL(strstr(result.message, "word"));
	s.body[0] = s.body[1] = add_well;
	ASSERT_GE(passes(&s, 100), 2u);
}

/* ---- all schedules, counted --------------------------------------------------------- */

static void three_points(void *ctx)
{
	int i;

	(void)ctx;
	for (i = 0; i < 3; i++)
		(void)atomic32_load(&word);
}

static void no_points(void *ctx)
{
	(void)ctx;
}

/*
 * A body of k points has k + 1 steps; there are (2k+2)! / (k+1)!^2 orders of two
 * such bodies, and with no preemption just the two of one after the other.
 */
TEST(number_of_schedules)
{
	struct explore_scenario s = { .name = "count",
				      .nr_bodies = 2,
				      .setup = reset_words,
				      .body = { three_points, three_points } };

	ASSERT_EQ(passes(&s, 0), 2u);
	/* Either is first and is left once at one of its points, or not at all. */
	ASSERT_EQ(passes(&s, 1), 2u + 2 * 3);
	ASSERT_EQ(passes(&s, 100), 70u);
	ASSERT_EQ(result.max_points, 1 + 3 + 1 + 3u);
	s.nr_bodies = 3;
	s.body[2] = no_points;
	/* The third is one step in any of 9 places. */
	ASSERT_EQ(passes(&s, 100), 70u * 9);
	ASSERT_EQ(passes(&s, 0), 6u);
}

/* ---- lost wake-up ------------------------------------------------------------------- */

static void wait_badly(void *ctx)
{
	(void)ctx;
	while (!atomic32_load(&flag)) {
		u32 seq = event_seq(&event); /* too late: after the look */

		(void)event_wait(&event, seq, SYNC_FOREVER);
	}
}

static void wait_well(void *ctx)
{
	(void)ctx;
	for (;;) {
		u32 seq = event_seq(&event);

		if (atomic32_load(&flag))
			return;
		quire_assert(event_wait(&event, seq, SYNC_FOREVER) == 0);
	}
}

static void set_and_signal(void *ctx)
{
	(void)ctx;
	atomic32_store(&flag, 1);
	event_signal(&event);
}

static void nobody_waits(void *ctx)
{
	(void)ctx;
	quire_assert(atomic32_load(&event.nr_waiting) == 0);
}

TEST(lost_wakeup)
{
	struct explore_scenario s = { .name = "lost wake-up",
				      .nr_bodies = 2,
				      .setup = reset_words,
				      .check = nobody_waits,
				      .body = { wait_badly, set_and_signal } };

	found(&s, EXPLORE_DEADLOCK);
	ASSERT_NOT_NULL(strstr(result.message, "thread 0 sleeps"));
	s.body[0] = wait_well;
	passes(&s, 100);
}

/* ---- deadlock ------------------------------------------------------------------------ */

static void lock_ab(void *ctx)
{
	(void)ctx;
	mutex_lock(&lock_a);
	mutex_lock(&lock_b);
	mutex_unlock(&lock_b);
	mutex_unlock(&lock_a);
}

static void lock_ba(void *ctx)
{
	(void)ctx;
	mutex_lock(&lock_b);
	mutex_lock(&lock_a);
	mutex_unlock(&lock_a);
	mutex_unlock(&lock_b);
}

TEST(abba)
{
	struct explore_scenario s = {
		.name = "abba", .nr_bodies = 2, .setup = reset_words, .body = { lock_ab, lock_ba }
	};

	found(&s, EXPLORE_DEADLOCK);
	s.body[1] = lock_ab;
	passes(&s, 5);
}

#ifdef QUIRE_DEBUG
static void rank_locks(void *ctx)
{
	reset_words(ctx);
	mutex_init(&lock_a, "a", LOCK_RANK_TREE);
	mutex_init(&lock_b, "b", LOCK_RANK_LEAF);
}

/* The check of the lock order needs no second thread to find it. */
TEST(lock_order_is_an_assertion)
{
	struct explore_scenario s = {
		.name = "order", .nr_bodies = 1, .setup = rank_locks, .body = { lock_ba }
	};

	found(&s, EXPLORE_ASSERTION);
	ASSERT_NOT_NULL(strstr(result.message, "lock order"));
}
#endif

/* ---- livelock, spinning ---------------------------------------------------------------- */

/* Two who give way to each other for ever. */
static void give_way(void *ctx)
{
	(void)ctx;
	do {
		atomic32_store(&phase, atomic32_load(&phase) + 1);
		sync_relax();
	} while (!atomic32_load(&flag));
}

TEST(livelock)
{
	struct explore_scenario s = { .name = "livelock",
				      .nr_bodies = 2,
				      .setup = reset_words,
				      .body = { give_way, give_way } };
	struct explore_opts opts = EXPLORE_DEFAULTS;

	opts.quiet = true;
	ASSERT_FALSE(explore_run(&s, &opts, &result));
	ASSERT_TRUE(result.found == EXPLORE_LIVELOCK);
	ASSERT_EQ(result.max_points, (u32)EXPLORE_MAX_POINTS);
}

static void spin_lock(void *ctx)
{
	(void)ctx;
	while (!atomic32_cas(&flag, 0, 1))
		sync_relax();
	plain++;
	sync_point(&plain);
	quire_assert(plain == 1);
	plain--;
	atomic32_store(&flag, 0);
}

/* Spinners do not starve the holder, in no schedule. */
TEST(spin_lock)
{
	struct explore_scenario s = { .name = "spin lock",
				      .nr_bodies = 3,
				      .setup = reset_words,
				      .body = { spin_lock, spin_lock, spin_lock } };

	passes(&s, 4);
}

/* ---- mutex ----------------------------------------------------------------------------- */

/* plain is 1 only inside, and a point lies inside. */
static void critical_section(void)
{
	plain++;
	sync_point(&plain);
	quire_assert(plain == 1);
	plain--;
}

static void use_mutex(void *ctx)
{
	int i;

	(void)ctx;
	for (i = 0; i < 2; i++) {
		mutex_lock(&lock_a);
		critical_section();
		mutex_unlock(&lock_a);
	}
}

static void try_mutex(void *ctx)
{
	(void)ctx;
	if (!mutex_trylock(&lock_a))
		return;
	critical_section();
	mutex_unlock(&lock_a);
}

static void mutex_is_free(void *ctx)
{
	(void)ctx;
	quire_assert(atomic32_load(&lock_a.word) == 0 && plain == 0);
}

/* Mutual exclusion; and no wake-up is lost, or there would be a deadlock. */
TEST(mutex)
{
	struct explore_scenario s = { .name = "mutex",
				      .nr_bodies = 3,
				      .setup = reset_words,
				      .body = { use_mutex, use_mutex, use_mutex },
				      .check = mutex_is_free };

	passes(&s, 2);
	s.body[2] = try_mutex;
	passes(&s, 3);
	s.nr_bodies = 2;
	passes(&s, 5);
}

/* The same with the classic mistake: who has slept takes it without sleepers. */
static void lock_badly(void)
{
	if (atomic32_cas(&word, 0, 1))
		return;
	do {
		(void)atomic32_cas(&word, 1, 2);
		(void)futex_wait(&word, 2, SYNC_FOREVER, false);
	} while (!atomic32_cas(&word, 0, 1));
}

static void use_bad_mutex(void *ctx)
{
	(void)ctx;
	lock_badly();
	critical_section();
	if (atomic32_xchg(&word, 0) == 2)
		futex_wake(&word, 1, false);
}

TEST(bad_mutex)
{
	struct explore_scenario s = { .name = "bad mutex",
				      .nr_bodies = 3,
				      .setup = reset_words,
				      .body = { use_bad_mutex, use_bad_mutex, use_bad_mutex } };

	found(&s, EXPLORE_DEADLOCK);
}

/* ---- event ----------------------------------------------------------------------------- */

static u64 nr_timed_out, nr_signalled;

static void wait_a_while(void *ctx)
{
	u32 seq = event_seq(&event);
	int err = event_wait(&event, seq, NSEC_PER_MSEC);

	(void)ctx;
	if (err) {
		quire_assert(err == -ETIMEDOUT);
		nr_timed_out++;
	} else {
		quire_assert(event_seq(&event) != seq);
		nr_signalled++;
	}
}

TEST(event)
{
	struct explore_scenario s = { .name = "event",
				      .nr_bodies = 3,
				      .setup = reset_words,
				      .body = { wait_well, wait_well, set_and_signal },
				      .check = nobody_waits };

	passes(&s, 4);
	s.body[0] = wait_a_while;
	nr_timed_out = nr_signalled = 0;
	passes(&s, 3);
	ASSERT_GT(nr_timed_out, 0u);
	ASSERT_GT(nr_signalled, 0u);
}

/* Nobody signals: time passes although everybody sleeps. */
TEST(time_passes)
{
	struct explore_scenario s = { .name = "timeout",
				      .nr_bodies = 2,
				      .setup = reset_words,
				      .body = { wait_a_while, wait_a_while },
				      .check = nobody_waits };

	nr_signalled = 0;
	passes(&s, 3);
	ASSERT_EQ(nr_signalled, 0u);
}

/* ---- gate ------------------------------------------------------------------------------ */

static void pass_gate(void *ctx)
{
	(void)ctx;
	gate_enter(&gate);
	atomic32_fetch_add(&word, 1);
	gate_enter_again(&gate);
	gate_leave(&gate);
	atomic32_fetch_sub(&word, 1);
	gate_leave(&gate);
}

static void pass_gate_twice(void *ctx)
{
	int i;

	(void)ctx;
	for (i = 0; i < 2; i++) {
		gate_enter(&gate);
		gate_leave(&gate);
	}
}

static void close_gate(void *ctx)
{
	(void)ctx;
	gate_close(&gate);
	quire_assert(atomic32_load(&word) == 0);
	critical_section();
	quire_assert(atomic32_load(&word) == 0);
	gate_open(&gate);
}

static void close_gate_twice(void *ctx)
{
	close_gate(ctx);
	close_gate(ctx);
}

static void try_gate(void *ctx)
{
	(void)ctx;
	if (!gate_try_enter(&gate))
		return;
	atomic32_fetch_add(&word, 1);
	atomic32_fetch_sub(&word, 1);
	gate_leave(&gate);
}

static void gate_is_open(void *ctx)
{
	(void)ctx;
	quire_assert(atomic32_load(&gate.state) == 0 && atomic32_load(&gate.closer) == 0);
}

TEST(gate)
{
	struct explore_scenario s = { .name = "gate",
				      .nr_bodies = 3,
				      .setup = reset_words,
				      .body = { pass_gate, pass_gate, close_gate },
				      .check = gate_is_open };

	passes(&s, 3);
	s.body[1] = close_gate;
	passes(&s, 3);
	s.body[0] = pass_gate_twice;
	s.body[2] = close_gate_twice;
	passes(&s, 2);
	s.body[1] = try_gate;
	passes(&s, 3);
}

/* ---- threads --------------------------------------------------------------------------- */

static struct thread worker, ticker;

static void work(struct thread *self)
{
	quire_assert(thread_self() == self);
	add_well(NULL);
}

static void tick_for_ever(struct thread *self)
{
	(void)self;
	for (;;)
		(void)event_wait(&event, event_seq(&event), NSEC_PER_SEC);
}

static void setup_with_ticker(void *ctx)
{
	reset_words(ctx);
	ticker = (struct thread){ .name = "ticker", .fn = tick_for_ever };
	if (thread_start(&ticker))
		os_abort("no ticker\n");
}

static void start_and_join(void *ctx)
{
	(void)ctx;
	worker = (struct thread){ .name = "worker", .fn = work };
	quire_assert(thread_start(&worker) == 0);
	add_well(NULL);
	thread_join(&worker);
	quire_assert(atomic32_load(&word) == 2);
}

static void as_application(void *ctx)
{
	quire_assert(thread_self());
	thread_detach();
	quire_assert(!thread_self());
	event_signal(&event);
	(void)ctx;
}

TEST(threads)
{
	struct explore_scenario s = { .name = "threads",
				      .nr_bodies = 2,
				      .setup = setup_with_ticker,
				      .check = word_is_2,
				      .body = { start_and_join, as_application } };

	passes(&s, 2);
	ASSERT_GT(result.nr_runs, 100u);
	ASSERT_NULL(thread_self());
}

/* ---- failures outside of bodies ---------------------------------------------------------- */

static void fail_at_once(void *ctx)
{
	(void)ctx;
	quire_assert(atomic32_load(&word) == 77);
}

TEST(failing_setup_and_check)
{
	struct explore_scenario s = {
		.name = "setup", .nr_bodies = 1, .setup = fail_at_once, .body = { no_points }
	};
	struct explore_opts opts = EXPLORE_DEFAULTS;

	opts.quiet = true;
	ASSERT_FALSE(explore_run(&s, &opts, &result));
	ASSERT_TRUE(result.found == EXPLORE_ASSERTION);
	s.setup = reset_words;
	s.check = fail_at_once;
	ASSERT_FALSE(explore_run(&s, &opts, &result));
	ASSERT_TRUE(result.found == EXPLORE_ASSERTION);
}

/* ---- speed ------------------------------------------------------------------------------- */

static void many_points(void *ctx)
{
	int i;

	(void)ctx;
	for (i = 0; i < 60; i++)
		atomic32_fetch_add(&word, 1);
}

TEST(speed)
{
	struct explore_scenario s = { .name = "speed",
				      .nr_bodies = 3,
				      .setup = reset_words,
				      .body = { many_points, many_points, many_points } };
	struct timespec from, to;
	double seconds;

	clock_gettime(CLOCK_MONOTONIC, &from);
	passes(&s, 2);
	clock_gettime(CLOCK_MONOTONIC, &to);
	seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	printf("# %llu schedules, %.1f M points/s\n", (unsigned long long)result.nr_runs,
	       (double)result.nr_points / seconds / 1e6);
}
