/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.c - mutex, event and gate, built on the atomics and futexes of sync.h.
 *
 * Owns the algorithms and the check of the lock order (QUIRE_DEBUG).  Does not
 * own what they stand on: futexes and threads are thread.c in the product and
 * sync_explore.c in the race explorer, so that what the explorer explores is
 * this very file.
 *
 * Entry points: mutex_lock(), event_wait(), gate_enter(), gate_close().
 *
 * Invariants: a waiter sleeps only on a value that the waker changes before it
 * looks for sleepers; each pairing is told where it happens.  Locked
 * instructions of x86 are full barriers, which event_wait() relies on.
 *
 * See also: tests/race/test_explore.c (all schedules of small scenarios).
 */
#include "base/sync.h"

#include "base/fmt.h"
#include "base/mutant.h"
#include "base/os.h"
#ifdef QUIRE_EXPLORE
#include "base/sync_explore.h"
#endif

#include <errno.h>
#include <string.h>

void sync_move_words(void *to, const void *from, size_t bytes)
{
#ifdef __SANITIZE_THREAD__
	/* TSan takes memmove() for a write that nobody may see half of. */
	sync_word *w = to;
	const sync_word *r = from;
	size_t nr = bytes / sizeof(*w);

	for (size_t i = 0; i < nr; i++) {
		size_t n = w < r ? i : nr - 1 - i;

		__atomic_store_n(&w[n], r[n], __ATOMIC_RELAXED);
	}
#else
	memmove(to, from, bytes);
#endif
}

enum mutex_state {
	MUTEX_FREE,
	MUTEX_HELD,
	MUTEX_SLEEPERS, /* held, and somebody sleeps or is about to */
};

/*
 * Critical sections are some hundred nanoseconds, a futex sleep and wake-up is
 * 7 us on an idle core: looking again for about 2 us is the cheaper bet.
 */
#ifdef QUIRE_EXPLORE
#define MUTEX_SPINS 1
#else
#define MUTEX_SPINS 40
#endif

/* ---- lock order, debug builds -------------------------------------------- */

#ifdef QUIRE_DEBUG

/* Somebody, also if it is no engine thread: the thread pointer is unique. */
static const void *who_am_i(void)
{
	const void *me;

#ifdef QUIRE_EXPLORE
	me = sync_explore_me();
#else
	__asm__("mov %%fs:0, %0" : "=r"(me));
#endif
	return me;
}

static _Noreturn void abort_locks(const char *what, const struct mutex *m)
{
	const struct thread *self = thread_self();
	char text[1024];
	struct fmt f;
	u32 i;

	fmt_init(&f, text, sizeof(text));
	fmt_add(&f, "quire: lock order: %s %s (rank %d) in thread %s", what, m->name, (int)m->rank,
		self && self->name ? self->name : "?");
	for (i = 0; self && i < self->nr_held; i++)
		fmt_add(&f, "%s %s (%d)", i ? "," : "; holds", self->held[i]->name,
			(int)self->held[i]->rank);
	fmt_add(&f, "\n");
	os_abort(text);
}

/* Somebody else may be in mutex_init_used(). */
static enum lock_rank rank_of(const struct mutex *m)
{
	return __atomic_load_n(&m->rank, __ATOMIC_RELAXED);
}

void mutex_init_used(struct mutex *m, const char *name, enum lock_rank rank)
{
	if (rank_of(m) == rank)
		return;
	__atomic_store_n(&m->name, name, __ATOMIC_RELAXED);
	__atomic_store_n(&m->rank, rank, __ATOMIC_RELAXED);
}

static bool rank_allowed(const struct mutex *held, const struct mutex *m, bool nested)
{
	if (rank_of(held) == LOCK_RANK_NONE || rank_of(held) < rank_of(m))
		return true;
	return nested && rank_of(held) == rank_of(m);
}

static void check_order(const struct mutex *m, bool nested)
{
	const struct thread *self = thread_self();
	u32 i;

	if (__atomic_load_n(&m->owner, __ATOMIC_RELAXED) == who_am_i())
		abort_locks("taking twice", m);
	if (!self || rank_of(m) == LOCK_RANK_NONE)
		return;
	for (i = 0; i < self->nr_held; i++) {
		if (!rank_allowed(self->held[i], m, nested))
			abort_locks("taking", m);
	}
}

static void note_taken(struct mutex *m)
{
	struct thread *self = thread_self();

	__atomic_store_n(&m->owner, who_am_i(), __ATOMIC_RELAXED);
	if (!self)
		return;
	if (self->nr_held == THREAD_MAX_HELD)
		abort_locks("too many locks, taking", m);
	self->held[self->nr_held++] = m;
}

static void note_released(struct mutex *m)
{
	struct thread *self = thread_self();
	u32 i;

	mutex_assert_held(m);
	__atomic_store_n(&m->owner, NULL, __ATOMIC_RELAXED);
	if (!self)
		return;
	/* Usually the last one taken. */
	for (i = self->nr_held; i-- > 0;) {
		if (self->held[i] != m)
			continue;
		for (self->nr_held--; i < self->nr_held; i++)
			self->held[i] = self->held[i + 1];
		return;
	}
	abort_locks("releasing what was taken before thread_attach():", m);
}

void mutex_assert_held(const struct mutex *m)
{
	if (__atomic_load_n(&m->owner, __ATOMIC_RELAXED) != who_am_i())
		abort_locks("not held:", m);
}

#else

static inline void check_order(const struct mutex *m, bool nested)
{
	(void)m;
	(void)nested;
}

static inline void note_taken(struct mutex *m)
{
	(void)m;
}

static inline void note_released(struct mutex *m)
{
	(void)m;
}

void mutex_assert_held(const struct mutex *m)
{
	(void)m;
}

#endif

/* ---- mutex --------------------------------------------------------------- */

void mutex_init(struct mutex *m, const char *name, enum lock_rank rank)
{
	atomic32_poke(&m->word, MUTEX_FREE);
#ifdef QUIRE_DEBUG
	m->rank = rank;
	m->name = name;
	m->owner = NULL;
#else
	(void)name;
	(void)rank;
#endif
}

/* The three-state lock on any word, also the gate's. */
static void lock_word(struct atomic32 *word)
{
	int i;

	if (likely(atomic32_cas(word, MUTEX_FREE, MUTEX_HELD)))
		return;
	for (i = 0; i < MUTEX_SPINS; i++) {
		sync_relax();
		if (atomic32_peek(word) == MUTEX_FREE && atomic32_cas(word, MUTEX_FREE, MUTEX_HELD))
			return;
	}
	/*
	 * Taken this way it stays SLEEPERS although there may be none: who slept
	 * beside us must not be forgotten.  Costs one needless futex_wake().
	 */
	while (atomic32_xchg(word, MUTEX_SLEEPERS) != MUTEX_FREE) {
		(void)futex_wait(word, MUTEX_SLEEPERS, SYNC_FOREVER, false);
		if (MUTANT(mutex_forgets_sleepers) && atomic32_cas(word, MUTEX_FREE, MUTEX_HELD))
			return;
	}
}

void mutex_lock(struct mutex *m)
{
	check_order(m, false);
	lock_word(&m->word);
	note_taken(m);
}

void mutex_lock_nested(struct mutex *m)
{
	check_order(m, true);
	lock_word(&m->word);
	note_taken(m);
}

/* Never waits, so it may go against the order; what it took counts as held. */
bool mutex_trylock(struct mutex *m)
{
	if (!atomic32_cas(&m->word, MUTEX_FREE, MUTEX_HELD))
		return false;
	note_taken(m);
	return true;
}

void mutex_unlock(struct mutex *m)
{
	note_released(m);
	/* Pairs with the xchg in lock_word(): that one first sets, then sleeps. */
	if (atomic32_xchg(&m->word, MUTEX_FREE) == MUTEX_SLEEPERS)
		futex_wake(&m->word, 1, false);
}

/* ---- event --------------------------------------------------------------- */

static void event_init_as(struct event *ev, bool shared)
{
	atomic32_poke(&ev->seq, 0);
	atomic32_poke(&ev->nr_waiting, 0);
	atomic32_poke(&ev->shared, shared);
}

void event_init(struct event *ev)
{
	event_init_as(ev, false);
}

void event_init_shared(struct event *ev)
{
	event_init_as(ev, true);
}

u32 event_seq(struct event *ev)
{
	return atomic32_load(&ev->seq);
}

/* Time left until `until`, and 0 when there is none. */
static u64 time_left(u64 until)
{
	u64 now;

	if (until == SYNC_FOREVER)
		return SYNC_FOREVER;
	now = os_now_ns();
	return now < until ? until - now : 0;
}

static u64 time_until(u64 timeout_ns)
{
	u64 now;

	if (timeout_ns == SYNC_FOREVER)
		return SYNC_FOREVER;
	now = os_now_ns();
	return timeout_ns < SYNC_FOREVER - now ? now + timeout_ns : SYNC_FOREVER;
}

/*
 * Pairs with event_signal(): here nr_waiting goes up and then seq is read (by
 * the kernel), there seq goes up and then nr_waiting is read.  Both increments
 * are full barriers, so one of the two sees the other.
 */
int event_wait(struct event *ev, u32 seq, u64 timeout_ns)
{
	u64 until;
	int err = 0;

	if (atomic32_load(&ev->seq) != seq)
		return 0;
	until = time_until(timeout_ns);
	atomic32_fetch_add(&ev->nr_waiting, 1);
	while (atomic32_load(&ev->seq) == seq) {
		u64 left = time_left(until);

		if (left == 0 ||
		    futex_wait(&ev->seq, seq, left, atomic32_peek(&ev->shared)) == -ETIMEDOUT) {
			err = atomic32_load(&ev->seq) == seq ? -ETIMEDOUT : 0;
			break;
		}
	}
	atomic32_fetch_sub(&ev->nr_waiting, 1);
	return err;
}

void event_signal(struct event *ev)
{
	u32 waiting = MUTANT(event_looks_too_early) ? atomic32_load(&ev->nr_waiting) : 0;
	/* Who sees the new seq, or what the caller did before, may make another event of it. */
	bool shared = atomic32_peek(&ev->shared);

	atomic32_fetch_add(&ev->seq, 1);
	if (MUTANT(event_looks_too_early) ? waiting : atomic32_load(&ev->nr_waiting))
		futex_wake(&ev->seq, UINT32_MAX, shared);
}

/* ---- gate ---------------------------------------------------------------- */

/*
 * Two words.  state: bit 31 closed, below it the passers inside; the closer
 * sleeps on it until it is GATE_CLOSED alone.  closer: a three-state lock that
 * excludes closers from each other and on which passers sleep.
 *
 * GATE_CLOSED is set and cleared only by the holder of `closer`.  Fairness: a
 * closer waits only for those who were inside before it; passers may be kept
 * out by closers that follow each other closely.
 */
#define GATE_CLOSED (1u << 31)

void gate_init(struct gate *g)
{
	atomic32_poke(&g->state, 0);
	atomic32_poke(&g->closer, MUTEX_FREE);
}

/*
 * Pairs with gate_open(): that one clears GATE_CLOSED, then frees `closer`,
 * then wakes everybody if it was SLEEPERS.  So who has made the word SLEEPERS
 * here either finds it changed or is woken.  If the next closer has it already,
 * that one's gate_open() does.
 */
static void wait_until_open(struct gate *g)
{
	while (atomic32_load(&g->state) & GATE_CLOSED) {
		if (atomic32_load(&g->closer) != MUTEX_SLEEPERS &&
		    !atomic32_cas(&g->closer, MUTEX_HELD, MUTEX_SLEEPERS))
			continue; /* it was opened, or somebody made it SLEEPERS */
		(void)futex_wait(&g->closer, MUTEX_SLEEPERS, SYNC_FOREVER, false);
	}
}

bool gate_try_enter(struct gate *g)
{
	u32 state = atomic32_load(&g->state);

	while (!(state & GATE_CLOSED)) {
		if (MUTANT(gate_entered_unseen) && atomic32_fetch_add(&g->state, 1) + 1)
			return true;
		if (likely(atomic32_cas(&g->state, state, state + 1)))
			return true;
		state = atomic32_load(&g->state);
	}
	return false;
}

void gate_enter(struct gate *g)
{
	while (!gate_try_enter(g))
		wait_until_open(g);
}

void gate_enter_again(struct gate *g)
{
	atomic32_fetch_add(&g->state, 1);
}

void gate_leave(struct gate *g)
{
	/* Pairs with the loop in gate_close(): the last one out wakes the closer. */
	if (atomic32_fetch_sub(&g->state, 1) == (GATE_CLOSED | 1))
		futex_wake(&g->state, 1, false);
}

void gate_close(struct gate *g)
{
	u32 state;

	lock_word(&g->closer);
	atomic32_fetch_or(&g->state, GATE_CLOSED);
	/*
	 * Sleeping on the whole word: gate_enter_again() and every leaver change
	 * it, which at worst sends us round once more; only the last leaver wakes.
	 */
	while ((state = atomic32_load(&g->state)) != GATE_CLOSED)
		(void)futex_wait(&g->state, state, SYNC_FOREVER, false);
}

void gate_open(struct gate *g)
{
	atomic32_fetch_and(&g->state, ~GATE_CLOSED);
	if (atomic32_xchg(&g->closer, MUTEX_FREE) == MUTEX_SLEEPERS)
		futex_wake(&g->closer, UINT32_MAX, false);
}

bool gate_alone(const struct gate *g)
{
	return atomic32_load(&g->state) == (GATE_CLOSED | 1);
}
