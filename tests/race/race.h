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
 * A longer search at random: QUIRE_RACE_RUNS=1000000 QUIRE_RACE_SEED=2 in the
 * environment.  A failure prints its schedule; explore_replay() tells it.
 */
#ifndef QUIRE_TESTS_RACE_H
#define QUIRE_TESTS_RACE_H

#include "base/os.h"
#include "base/sync_explore.h"
#include "lib/rig.h"
#include "lib/snapshot.h"
#include "lib/test.h"

#define RACE_MUTANTS 8
/* A mutant that survives so many schedules is not caught. */
#define RACE_MUTANT_RUNS 300000

struct race {
	const char *name;
	void (*setup)(void); /* on a fresh rig; no schedule yet */
	void (*body[EXPLORE_MAX_THREADS])(void *ctx);
	void (*check)(void); /* before rig_check(); may be NULL */
	u32 preemptions; /* all schedules with so many... */
	u32 random; /* ... or this many random ones */
	u32 depth; /* of those */
	enum mutant mutants[RACE_MUTANTS];
};

static struct rig *rig;
static const struct race *race_now;
static struct explore_result race_result;

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

static void race_setup(void *ctx)
{
	(void)ctx;
	snapshot_restore();
	if (race_now->setup)
		race_now->setup();
}

static void race_check(void *ctx)
{
	(void)ctx;
	if (race_now->check)
		race_now->check();
	rig_check(rig);
}

static u64 race_number(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static bool race_explore(const struct race *r, enum mutant mutant)
{
	struct explore_scenario s = { .name = r->name, .setup = race_setup, .check = race_check };
	struct explore_opts opts = {
		.mode = r->random ? EXPLORE_PCT : EXPLORE_ALL,
		.preemptions = r->preemptions,
		.max_runs = r->random ? race_number("QUIRE_RACE_RUNS", r->random) :
			    mutant    ? RACE_MUTANT_RUNS :
					0,
		.seed = race_number("QUIRE_RACE_SEED", 1),
		.depth = r->depth,
		.mutant = mutant,
		.quiet = mutant,
	};

	if (!rig)
		snapshot_take(race_make);
	while (r->body[s.nr_bodies]) {
		s.body[s.nr_bodies] = r->body[s.nr_bodies];
		s.nr_bodies++;
	}
	race_now = r;
	return explore_run(&s, &opts, &race_result);
}

#define RACE_MUTANT_NAME(name) #name,
static const char *const race_mutant_name[] = { "none", MUTANT_LIST(RACE_MUTANT_NAME) };

static void race_mutants(const struct race *r)
{
	for (u32 i = 0; i < RACE_MUTANTS && r->mutants[i]; i++) {
		bool missed = race_explore(r, r->mutants[i]);

		printf("mutant %s %s %s %llu %s\n", race_mutant_name[r->mutants[i]], r->name,
		       missed ? "MISSED" : "caught", (unsigned long long)race_result.nr_runs,
		       missed ? "-" : race_result.message);
	}
}

static void race_run(const struct race *r)
{
	u64 since = os_now_ns();

	if (getenv("QUIRE_MUTANTS")) {
		race_mutants(r);
		return;
	}
	if (!race_explore(r, MUTANT_NONE)) {
		printf("# replay: %s\n", race_result.schedule);
		FAIL("%s", race_result.message);
	}
	ASSERT_TRUE(race_result.complete || r->random);
	printf("# %s: %llu schedules, up to %u points, %u pages, %llu ms\n", r->name,
	       (unsigned long long)race_result.nr_runs, race_result.max_points, snapshot_nr_dirty(),
	       (unsigned long long)(os_now_ns() - since) / NSEC_PER_MSEC);
}

/* RACE(name, .setup = ..., .body = { ... }, ...) */
#define RACE(id, ...)                                                                              \
	static const struct race race_##id = { .name = #id, __VA_ARGS__ };                         \
	TEST(id)                                                                                   \
	{                                                                                          \
		race_run(&race_##id);                                                              \
	}

#endif
