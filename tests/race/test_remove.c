/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_remove.c - a group goes while somebody works on what it leaves behind.
 *
 * races.md 1.3 and 1.4: who changes a list has verified under its lock whose it
 * is (K1); a charge has a payer at all times (L2); an id is used again only when
 * nobody can hold it (L4); ancestors' totals do not change (L6).
 */
#include <string.h>

#include "race.h"

/* ---- bodies ---------------------------------------------------------------------- */

static void remove_group(void *ctx)
{
	s64 err = group_remove(rig->e, rig->c);

	(void)ctx;
	quire_assert(!err);
}

static void remove_and_reuse(void *ctx)
{
	struct memcg_id id = { 0 };
	int err;

	remove_group(ctx);
	err = memcg_create(rig->e->tree, rig->p, "new", &id);
	quire_assert(!err && id.v == rig->c.v);
}

/* As a fault that finds the range unmapped after it was charged. */
static void charge_and_uncharge(void *ctx)
{
	struct memcg_id over;
	int err;

	(void)ctx;
	gate_enter(&rig->e->fault_gate);
	err = memcg_try_charge(rig->e->tree, NULL, rig->objcg, 2, &over);
	quire_assert(!err);
	memcg_uncharge(rig->e->tree, NULL, rig->objcg, 2);
	gate_leave(&rig->e->fault_gate);
}

static void charge_swap(void *ctx)
{
	int err;

	(void)ctx;
	gate_enter(&rig->e->reclaim_gate);
	err = memcg_swap_try_charge(rig->e->tree, rig->objcg, 1);
	quire_assert(!err);
	memcg_swap_uncharge(rig->e->tree, rig->objcg, 1);
	gate_leave(&rig->e->reclaim_gate);
}

static void unmap(void *ctx)
{
	(void)ctx;
	rig_unmap(rig, 1, 2);
}

static void pageout(void *ctx)
{
	(void)ctx;
	rig_pageout(rig, 1, 2);
}

static void writeback(void *ctx)
{
	(void)ctx;
	(void)rig_writeback(rig, 1, 2);
}

static void fault(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 1, 0);
}

static void zap(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 1, 0, 2);
}

/* ---- beginnings: pages of the group in a range that is another's by now ------------------ */

static void range_moves(void)
{
	struct objcg_id d;
	int err = objcg_get(rig->e->tree, rig->d, &d);

	quire_assert(!err);
	rig_assign(rig, 0, RIG_PAGES, d);
}

static void empty(void)
{
	range_moves();
}

static void mapped(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_MAPPED);
	range_moves();
}

static void in_frame(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_FRAME);
	range_moves();
}

static void in_pool(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_POOL);
	range_moves();
}

/* ---- charges ---------------------------------------------------------------------------- */

RACE(L2_charge_and_remove, .setup = empty, .body = { charge_and_uncharge, remove_group },
     .preemptions = 2)
RACE(L2_swap_and_remove, .setup = empty, .body = { charge_swap, remove_group }, .preemptions = 2)
RACE(L4_charge_and_reuse, .setup = empty, .body = { charge_and_uncharge, remove_and_reuse },
     .preemptions = 2, .mutants = { MUTANT_release_does_not_wait })

/* ---- lists ------------------------------------------------------------------------------- */

RACE(K1_unmap_and_remove, .setup = mapped, .body = { unmap, remove_group }, .preemptions = 2,
     .mutants = { MUTANT_lruvec_not_verified })
RACE(K4_pageout_and_remove, .setup = in_frame, .body = { pageout, remove_group }, .preemptions = 2,
     .mutants = { MUTANT_zlru_not_verified })
RACE(K1_fault_and_remove, .setup = in_frame, .body = { fault, remove_group }, .preemptions = 2,
     .mutants = { MUTANT_lruvec_not_verified, MUTANT_flip_outside_locks })
RACE(K1_zap_and_remove, .setup = mapped, .body = { zap, remove_group }, .preemptions = 2,
     .mutants = { MUTANT_lruvec_not_verified })
RACE(L2_load_and_remove, .setup = in_pool, .body = { fault, remove_group }, .preemptions = 2,
     .mutants = { MUTANT_zlru_not_verified })
RACE(K3_unmap_and_reuse, .setup = mapped, .body = { unmap, remove_and_reuse }, .preemptions = 2)
RACE(L2_writeback_and_remove, .setup = in_pool, .body = { writeback, remove_group },
     .preemptions = 2)

/* ---- a group and its parent: no order, no waiting (S3) --------------------------------- */

static struct memcg_id grandchild;

static void with_grandchild(enum rig_state state)
{
	struct objcg_id o;
	int err = memcg_create_path(rig->e->tree, "p/c/e", &grandchild);

	quire_assert(!err);
	err = objcg_get(rig->e->tree, grandchild, &o);
	quire_assert(!err);
	rig_assign(rig, 0, RIG_PAGES, o);
	rig_make(rig, 0, 2, RIG_TEXT, state);
	range_moves();
}

static void grandchild_mapped(void)
{
	with_grandchild(RIG_MAPPED);
}

static void grandchild_in_frame(void)
{
	with_grandchild(RIG_FRAME);
}

static void remove_two_levels(void *ctx)
{
	s64 err = group_remove(rig->e, grandchild);

	quire_assert(!err);
	remove_group(ctx);
}

static void reclaim_grandchild(void *ctx)
{
	u32 freed = 0;

	(void)ctx;
	gate_enter(&rig->e->reclaim_gate);
	reclaim_unmap(&rig->e->reclaim, &rig->task[1], grandchild, 1, &freed);
	reclaim_pageout(&rig->e->reclaim, &rig->task[1], grandchild, 1);
	gate_leave(&rig->e->reclaim_gate);
}

static void fault_twice(void *ctx)
{
	fault(ctx);
	(void)rig_fault(rig, 1, 1);
}

RACE(L1_reclaim_and_remove_two, .setup = grandchild_mapped,
     .body = { reclaim_grandchild, remove_two_levels }, .preemptions = 2)
RACE(L1_faults_and_remove_two, .setup = grandchild_in_frame,
     .body = { fault_twice, remove_two_levels }, .preemptions = 2,
     .mutants = { MUTANT_flip_outside_locks })

/* ---- walks and look-ups take no lock ----------------------------------------------------- */

static struct memcg_id sibling[3];

static void with_siblings(void)
{
	static const char *const path[] = { "p/w0", "p/w1", "p/w2" };

	for (u32 i = 0; i < ARRAY_SIZE(sibling); i++) {
		int err = memcg_create_path(rig->e->tree, path[i], &sibling[i]);

		quire_assert(!err);
	}
}

/* Who was there all the time is not missed. */
static void walk(void *ctx)
{
	struct memcg_id id = memcg_next(rig->e->tree, rig->p, sibling[0]);

	(void)ctx;
	quire_assert(id.v == sibling[1].v || id.v == sibling[2].v);
}

static void look_up(void *ctx)
{
	struct memcg_id id;
	int err = memcg_lookup(rig->e->tree, "p/w2", &id);

	(void)ctx;
	quire_assert(!err && id.v == sibling[2].v);
}

static void path_of(void *ctx)
{
	char text[32];
	struct fmt out;

	(void)ctx;
	fmt_init(&out, text, sizeof(text));
	memcg_path(rig->e->tree, sibling[2], &out);
	quire_assert(!strcmp(text, "/p/w2"));
}

static void remove_sibling(void *ctx)
{
	s64 err = group_remove(rig->e, sibling[1]);

	(void)ctx;
	quire_assert(!err);
}

static void replace_sibling(void *ctx)
{
	struct memcg_id id;
	int err;

	remove_sibling(ctx);
	err = memcg_create(rig->e->tree, rig->p, "w3", &id);
	quire_assert(!err);
}

RACE(L3_walk_and_remove, .setup = with_siblings, .body = { walk, remove_sibling }, .preemptions = 2)
RACE(L3_walk_and_replace, .setup = with_siblings, .body = { walk, replace_sibling },
     .preemptions = 2)
RACE(L3_lookup_and_replace, .setup = with_siblings, .body = { look_up, replace_sibling },
     .preemptions = 2)
RACE(L3_path_and_replace, .setup = with_siblings, .body = { path_of, replace_sibling },
     .preemptions = 2)
