/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race.h - scenarios of tests/race on the rig, and the guards they watch.
 *
 * RACE(name, ...) is a TEST whose bodies run under every schedule within a
 * bound, or under many random ones, each from the same beginning, with
 * rig_check() at the end.  A scenario names the guards (base/mutant.h) without
 * which it must fail: with QUIRE_MUTANTS set in the environment that is what is
 * tried, one line each for dev/mutants.
 *
 * Built without QUIRE_EXPLORE the same bodies are real threads (race_threads.h).  So a
 * body has a task of its own (rig.h), and touches memory of the program by rig_hold().
 *
 * A longer search at random: QUIRE_RACE_RUNS=1000000 QUIRE_RACE_SEED=2 in the
 * environment.  A failure prints how to see it again: NAME --replay SCHEDULE.
 */
#ifndef QUIRE_TESTS_RACE_H
#define QUIRE_TESTS_RACE_H

#include "base/os.h"
#include "base/sync_explore.h"
#include "lib/rig.h"
#include "lib/test.h"

#define RACE_MUTANTS 8

struct race {
	const char *name;
	void (*setup)(void); /* on a fresh rig; no schedule yet */
	void (*body[EXPLORE_MAX_THREADS])(void *ctx);
	void (*stop)(void); /* real threads: ends those that setup has started */
	void (*check)(void); /* before rig_check(); may be NULL */
	u32 preemptions; /* all schedules with so many... */
	u32 random; /* ... or this many random ones */
	u32 depth; /* of those */
	enum mutant mutants[RACE_MUTANTS];
};

static struct rig *rig;
static u32 race_nr_scenarios; /* of this program */

static void race_make(void)
{
	struct zs_handle h;
	u64 word = 1;
	int err;

	rig = rig_create(0, true);
	/* Memory that grows once and stays: it shall not do so in a run. */
	err = zs_store(rig->e->zswap.pool, &word, sizeof(word), &h);
	quire_assert(!err);
	zs_free(rig->e->zswap.pool, h, sizeof(word));
	rig_make(rig, 0, 1, RIG_TEXT, RIG_STORE);
	rig_zap(rig, 0, 0, 1);
	rig_drain(rig, 0);
	rig_check(rig);
}

static u64 race_number(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static u32 race_nr_bodies(const struct race *r)
{
	u32 nr = 0;

	while (r->body[nr])
		nr++;
	return nr;
}

#ifdef QUIRE_EXPLORE
#include "race_explore.h"
#else
#include "race_threads.h"
#endif

/* RACE(name, .setup = ..., .body = { ... }, ...) */
#define RACE(id, ...)                                                                              \
	static const struct race race_##id = { .name = #id, __VA_ARGS__ };                         \
	__attribute__((constructor)) static void race_count_##id(void)                             \
	{                                                                                          \
		race_nr_scenarios++;                                                               \
	}                                                                                          \
	TEST(id)                                                                                   \
	{                                                                                          \
		race_run(&race_##id);                                                              \
	}

#endif
