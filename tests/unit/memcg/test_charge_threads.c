/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_charge_threads.c - two threads charge while limits, groups and handles
 * change.
 */
#include <errno.h>

#include "base/sync.h"
#include "fixture.h"

#define ROUNDS 20000

/* tsan */

struct worker {
	struct thread th;
	struct memcg_tree *t;
	struct objcg_id o[2];
	u64 nr_missed, nr_refused;
	struct atomic32 stop;
	struct atomic64 nr_rounds;
};

static void start(struct worker *w, void (*fn)(struct thread *), const char *name)
{
	w->th.name = name;
	w->th.fn = fn;
	w->th.arg = w;
	ASSERT_EQ(thread_start(&w->th), 0);
}

/* Charge and uncharge at random below a limit that is never to be exceeded. */
static void charge_below(struct thread *self)
{
	struct worker *w = self->arg;
	struct memcg_stock st = { { 0 }, 0 };
	u32 held[2] = { 0, 0 };
	struct memcg_id over;
	u64 seed = (u64)(uintptr_t)w;

	for (u32 n = 0; n < ROUNDS; n++) {
		u64 r = next_random(&seed);
		u32 k = r & 1, nr = (u32)(r >> 8) % 20 + 1;

		if (r & 2) {
			if (memcg_try_charge(w->t, &st, w->o[k], nr, &over))
				w->nr_refused++;
			else
				held[k] += nr;
		} else if (held[k]) {
			nr = min_of(nr, held[k]);
			memcg_uncharge(w->t, r & 4 ? &st : NULL, w->o[k], nr);
			held[k] -= nr;
		}
	}
	for (u32 k = 0; k < 2; k++)
		memcg_uncharge(w->t, NULL, w->o[k], held[k]);
	memcg_drain_stock(w->t, &st);
}

/*
 * Usage overshoots max only inside a charge that is about to be undone: by at
 * most what the two workers ask for at once.
 */
TEST(limit_truth)
{
	static struct worker w[2];
	struct memcg_id a, b;
	struct fixture f;
	u64 worst = 0;

	memset(w, 0, sizeof(w));
	fixture_init(&f);
	a = group_make(f.t, "p/a");
	b = group_make(f.t, "p/b");
	memcg_set_max(f.t, group_find(f.t, "p"), COUNTER_MEMORY, 300);
	for (u32 n = 0; n < 2; n++) {
		w[n].t = f.t;
		w[n].o[0] = handle_of(f.t, a);
		w[n].o[1] = handle_of(f.t, b);
		start(&w[n], charge_below, "charger");
	}
	for (u32 n = 0; n < 2000; n++) {
		u64 usage = mem_of(f.t, group_find(f.t, "p"));

		worst = max_of(worst, usage);
		sync_relax();
	}
	thread_join(&w[0].th);
	thread_join(&w[1].th);
	ASSERT_LE(worst, 300 + 2 * STOCK_BATCH);
	ASSERT_LE(memcg_peak(f.t, group_find(f.t, "p"), COUNTER_MEMORY), 300);
	ASSERT_GT(w[0].nr_refused + w[1].nr_refused, 0);
	ASSERT_EQ(mem_of(f.t, MEMCG_ROOT), 0);
	fixture_exit(&f);
}

/* Compressed bytes come and go; pages are never given back before they are
 * charged (an assertion in charge.c), and add up at the end. */
static void compress(struct thread *self)
{
	struct worker *w = self->arg;
	u64 seed = (u64)(uintptr_t)w;
	u32 held[8] = { 0 };

	for (u32 n = 0; n < ROUNDS; n++) {
		u32 k = (u32)(next_random(&seed) % 8);

		if (held[k])
			memcg_zswap_uncharge(w->t, w->o[0], held[k]);
		held[k] = held[k] ? 0 : (u32)(next_random(&seed) % 4097);
		if (held[k])
			memcg_zswap_charge(w->t, w->o[0], held[k]);
	}
	for (u32 k = 0; k < 8; k++)
		if (held[k])
			memcg_zswap_uncharge(w->t, w->o[0], held[k]);
}

TEST(zswap_remainders)
{
	static struct worker w[2];
	struct memcg_id a;
	struct fixture f;

	memset(w, 0, sizeof(w));
	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 n = 0; n < 2; n++) {
		w[n].t = f.t;
		w[n].o[0] = handle_of(f.t, a);
		start(&w[n], compress, "compressor");
	}
	thread_join(&w[0].th);
	thread_join(&w[1].th);
	ASSERT_EQ(memcg_zswap_bytes(f.t, a), 0);
	ASSERT_EQ(mem_of(f.t, a), 0);
	fixture_exit(&f);
}

/*
 * D2: charges run on through the removal of their group.  The gate that an
 * engine closes before memcg_release() is played by the counter of rounds: both
 * workers must have begun a new one.
 */
static void charge_on(struct thread *self)
{
	struct worker *w = self->arg;
	struct memcg_id over;

	while (!atomic32_load(&w->stop)) {
		for (u32 k = 0; k < 2; k++) {
			if (memcg_try_charge(w->t, NULL, w->o[k], 3, &over))
				continue;
			memcg_stat_add(w->t, w->o[k], MEMCG_STAT_PGFAULT, 1);
			memcg_count_event(w->t, objcg_memcg(w->t, w->o[k]), MEMCG_LOW);
			memcg_uncharge(w->t, NULL, w->o[k], 3);
		}
		(void)atomic64_fetch_add(&w->nr_rounds, 1);
		sync_relax();
	}
}

static void wait_for_gate(struct worker *w, u32 nr)
{
	u64 seen[2];

	for (u32 n = 0; n < nr; n++)
		seen[n] = atomic64_load(&w[n].nr_rounds);
	for (u32 n = 0; n < nr; n++)
		while (atomic64_load(&w[n].nr_rounds) < seen[n] + 2)
			sync_relax();
}

TEST(removal_under_charges)
{
	static struct worker w[2];
	struct memcg_id p, job, parent;
	struct fixture f;
	u64 faults;

	memset(w, 0, sizeof(w));
	fixture_init(&f);
	p = group_make(f.t, "p");
	memcg_set_protection(f.t, p, 0, 1000);
	for (u32 round = 0; round < 60; round++) {
		ASSERT_EQ(memcg_create(f.t, p, "job", &job), 0);
		memcg_set_protection(f.t, job, 2, 4);
		for (u32 n = 0; n < 2; n++) {
			w[n] = (struct worker){ .t = f.t };
			w[n].o[0] = handle_of(f.t, job);
			w[n].o[1] = handle_of(f.t, p);
			start(&w[n], charge_on, "charger");
		}
		wait_for_gate(w, 2);
		ASSERT_EQ(memcg_remove(f.t, job, &parent), 0);
		wait_for_gate(w, 2);
		memcg_release(f.t, job);
		for (u32 n = 0; n < 2; n++)
			atomic32_store(&w[n].stop, 1);
		for (u32 n = 0; n < 2; n++) {
			thread_join(&w[n].th);
			objcg_put(f.t, w[n].o[0]);
			objcg_put(f.t, w[n].o[1]);
		}
		ASSERT_EQ(mem_of(f.t, p), 0);
		ASSERT_EQ(memcg_nr_dying(f.t), 0);
		memcg_check(f.t);
	}
	faults = memcg_stat_read(f.t, p, MEMCG_STAT_PGFAULT);
	ASSERT_GT(faults, 0);
	/* Nothing that was counted is lost, whatever group it was counted in. */
	ASSERT_EQ(memcg_event_count(f.t, p, MEMCG_LOW, false), faults);
	ASSERT_EQ(memcg_event_count(f.t, p, MEMCG_LOW, true), faults);
	fixture_exit(&f);
}

/* Groups come and go under walks and reads. */
static void look_around(struct thread *self)
{
	struct worker *w = self->arg;
	struct memcg_id id, found;

	while (!atomic32_load(&w->stop)) {
		id.v = 0;
		while ((id = memcg_next(w->t, MEMCG_ROOT, id)).v)
			(void)memcg_margin(w->t, id);
		(void)memcg_stat_read(w->t, MEMCG_ROOT, MEMCG_STAT_ANON);
		if (memcg_lookup(w->t, "keep/me", &found))
			w->nr_missed++;
		(void)atomic64_fetch_add(&w->nr_rounds, 1);
	}
}

TEST(walks_under_changes)
{
	static struct worker w;
	struct memcg_id id[6], parent;
	struct fixture f;
	u64 seed = 3;

	memset(&w, 0, sizeof(w));
	memset(id, 0, sizeof(id));
	fixture_init(&f);
	group_make(f.t, "keep/me");
	w.t = f.t;
	start(&w, look_around, "walker");
	for (u32 n = 0; n < 2000; n++) {
		u32 k = (u32)(next_random(&seed) % 6);
		char name[16];

		fmt_str(name, sizeof(name), "g%u", k);
		if (id[k].v) {
			ASSERT_EQ(memcg_remove(f.t, id[k], &parent), 0);
			wait_for_gate(&w, 1);
			memcg_release(f.t, id[k]);
		}
		id[k].v = 0;
		if (next_random(&seed) & 1)
			ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, name, &id[k]), 0);
	}
	atomic32_store(&w.stop, 1);
	thread_join(&w.th);
	ASSERT_EQ(w.nr_missed, 0); /* a look-up never misses what stays */
	fixture_exit(&f);
}
