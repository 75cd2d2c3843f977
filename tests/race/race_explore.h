/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race_explore.h - RACE() on the schedule explorer; a part of race.h.
 */
#ifndef QUIRE_TESTS_RACE_EXPLORE_H
#define QUIRE_TESTS_RACE_EXPLORE_H

#include "lib/snapshot.h"

/* A mutant that survives so many schedules is not caught. */
#define RACE_MUTANT_RUNS 300000
#define RACE_MAX_POINTS 400

static const struct race *race_now;
static struct explore_result race_result;

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

static struct explore_scenario race_scenario(const struct race *r)
{
	struct explore_scenario s = { .name = r->name, .setup = race_setup, .check = race_check };

	if (!rig)
		snapshot_take(race_make);
	race_now = r;
	s.nr_bodies = race_nr_bodies(r);
	for (u32 i = 0; i < s.nr_bodies; i++)
		s.body[i] = r->body[i];
	return s;
}

static bool race_explore(const struct race *r, enum mutant mutant, bool quiet)
{
	struct explore_scenario s = race_scenario(r);
	struct explore_opts opts = {
		.mode = r->random ? EXPLORE_PCT : EXPLORE_ALL,
		.preemptions = r->preemptions,
		.max_runs = r->random ? race_number("QUIRE_RACE_RUNS", r->random) :
			    mutant    ? RACE_MUTANT_RUNS :
					0,
		.seed = race_number("QUIRE_RACE_SEED", 1),
		.depth = r->depth,
		.mutant = mutant,
		.quiet = quiet,
	};

	return explore_run(&s, &opts, &race_result);
}

#define RACE_MUTANT_NAME(name) #name,
static const char *const race_mutant_name[] = { "none", MUTANT_LIST(RACE_MUTANT_NAME) };

static void race_mutants(const struct race *r)
{
	for (u32 i = 0; i < RACE_MUTANTS && r->mutants[i]; i++) {
		bool missed = race_explore(r, r->mutants[i], true);

		printf("mutant %s %s %s %llu %s\n", race_mutant_name[r->mutants[i]], r->name,
		       missed ? "MISSED" : "caught", (unsigned long long)race_result.nr_runs,
		       missed ? "-" : race_result.message);
	}
}

/* --mutant GUARD */
static enum mutant race_mutant_wanted(void)
{
	const char *name = test_option("mutant");

	for (u32 m = 0; name && m < NR_MUTANTS; m++)
		if (strcmp(name, race_mutant_name[m]) == 0)
			return (enum mutant)m;
	if (name)
		FAIL("there is no guard %s", name);
	return MUTANT_NONE;
}

static void race_replay(const struct race *r, const char *schedule, enum mutant mutant)
{
	struct explore_scenario s = race_scenario(r);

	if (!explore_replay(&s, schedule, mutant, true, &race_result))
		FAIL("%s", race_result.message);
}

/* What PCT promises of a run (Burckhardt et al., ASPLOS 2010): 1 / (threads * points^(depth-1)). */
static void race_tell_odds(const struct race *r)
{
	double odds = race_result.max_threads;

	for (u32 d = 1; d < r->depth; d++)
		odds *= race_result.max_points;
	printf("# %s: a bug of depth %u, by a run with a probability of 1/%.1g or more\n", r->name,
	       r->depth, odds);
}

static void race_run(const struct race *r)
{
	enum mutant mutant = race_mutant_wanted();
	const char *schedule = test_option("replay");
	u64 since = os_now_ns();

	if (getenv("QUIRE_MUTANTS")) {
		race_mutants(r);
		return;
	}
	if (schedule) {
		race_replay(r, schedule, mutant);
		return;
	}
	if (!race_explore(r, mutant, false)) {
		printf("# again: %s%s%s --replay \"%s\"\n", r->name, mutant ? " --mutant " : "",
		       mutant ? race_mutant_name[mutant] : "", race_result.schedule);
		FAIL("%s", race_result.message);
	}
	if (r->random) {
		race_tell_odds(r);
	} else {
		ASSERT_TRUE(race_result.complete && r->preemptions >= 2);
		/* Too much for every schedule: at random. */
		ASSERT_LE(race_result.max_points, RACE_MAX_POINTS);
	}
	printf("# %s: %llu schedules, up to %u points, %u pages, %llu ms\n", r->name,
	       (unsigned long long)race_result.nr_runs, race_result.max_points, snapshot_nr_dirty(),
	       (unsigned long long)(os_now_ns() - since) / NSEC_PER_MSEC);
}

#endif
