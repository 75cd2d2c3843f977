/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_explore.h - run a scenario under every schedule, or under many.
 *
 * The race explorer of tests/race.  It is a second implementation of the lower
 * half of sync.h (futex_wait(), thread_start(), sync_relax() ...) and for that
 * reason lies beside the first, thread.c: what the one promises the other must
 * promise too.  Built with QUIRE_EXPLORE, never part of a product.
 *
 * The threads of a scenario are coroutines of one OS thread.  Each access to an
 * atomic, each futex call, lock, event and gate is a scheduling point at which
 * another may go on; what lies between two points is one step.  The algorithms
 * of sync.c run unchanged, so they are explored with what uses them.
 *
 * What is not explored: weak memory (x86 keeps the order that the code relies
 * on; TSan looks for the rest), spurious wake-ups of futexes, failure of
 * thread_start().  futex_wake() wakes in the order of sleeping, as Linux does.
 * UBSan may be on, ASan and TSan not: they do not follow our stacks.
 *
 * Time stands still but for 1 us per point; a sleep with a time limit may end
 * at any point as if that point were late (it costs a preemption) and ends for
 * sure when nothing else can run.
 */
#ifndef QUIRE_BASE_SYNC_EXPLORE_H
#define QUIRE_BASE_SYNC_EXPLORE_H

#include "base/mutant.h"
#include "base/sync.h"

/* Bodies and threads that they start, together. */
#define EXPLORE_MAX_THREADS 12
/* A run with more points than this is a livelock. */
#define EXPLORE_MAX_POINTS 40000

/*
 * Each run: setup, then the bodies under one schedule, then check.  A run must
 * depend on nothing but the schedule: setup makes every word anew that the last
 * run has changed.  Bodies return; threads started by thread_start() may sleep
 * for ever, the run ends when they all do.  A failed quire_assert() or any
 * other os_abort() ends the run where it stands and is the result.
 *
 * In setup and check nothing is a scheduling point and nothing may sleep.  In a
 * body thread_self() is a thread of the explorer; after thread_detach() the
 * body plays an application thread.
 */
struct explore_scenario {
	const char *name;
	u32 nr_bodies;
	void (*setup)(void *ctx); /* may be NULL */
	void (*body[EXPLORE_MAX_THREADS])(void *ctx);
	void (*check)(void *ctx); /* may be NULL; not called after a failure */
	void (*reset)(void *ctx); /* may be NULL; after check, frees what setup made */
	void *ctx;
};

enum explore_mode {
	EXPLORE_ALL, /* every schedule with at most `preemptions` */
	EXPLORE_PCT, /* random priorities, lowered at depth - 1 random points */
};

struct explore_opts {
	enum explore_mode mode;
	u32 preemptions; /* ALL: switches away from a thread that could go on */
	u64 max_runs; /* ALL: 0 means no bound; PCT: how many */
	u64 seed; /* PCT */
	u32 depth; /* PCT: 1 and up; a bug of d ordered steps needs depth d */
	enum mutant mutant; /* a guard that is off */
	bool quiet; /* say nothing on stderr when something is found */
};

#define EXPLORE_DEFAULTS                                                                           \
	{                                                                                          \
		.mode = EXPLORE_ALL, .preemptions = 2                                              \
	}

enum explore_found {
	EXPLORE_NOTHING,
	EXPLORE_ASSERTION, /* or any other way into os_abort() */
	EXPLORE_DEADLOCK, /* nobody can run, and a body is not at its end */
	EXPLORE_LIVELOCK, /* EXPLORE_MAX_POINTS */
};

struct explore_result {
	enum explore_found found;
	bool complete; /* ALL: there are no more schedules within the bound */
	u64 nr_runs;
	u64 nr_points; /* of all runs */
	u32 max_points; /* of the longest run */
	u32 max_threads;
	char message[1024];
	/*
	 * What made it happen, for explore_replay(): "POINT:THREAD ..." where
	 * another thread went on than would have without us.
	 */
	char schedule[8192];
};

/*
 * Explore until something is found or the end.  opts may be NULL: defaults.
 * True when nothing was found.
 */
bool explore_run(const struct explore_scenario *s, const struct explore_opts *opts,
		 struct explore_result *r);
/*
 * One run with a schedule from a result, without the same guard; with `talk` each
 * switch is told on stderr with the address in the program where the thread stopped
 * (addr2line).  False when the failure came again (it must: nothing else is random).
 */
bool explore_replay(const struct explore_scenario *s, const char *schedule, enum mutant mutant,
		    bool talk, struct explore_result *r);

/* ---- for sync.c and os.c ------------------------------------------------- */

/* Is a scenario running (setup and check included)? */
bool sync_explore_running(void);
u64 sync_explore_now(void);
void sync_explore_random(void *buf, size_t len);
/* End the run with this failure; returns when none is going on. */
void sync_explore_abort(const char *msg);
/* The identity of the running coroutine. */
const void *sync_explore_me(void);

#endif
