/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_remove.c - a group goes while somebody works on what it leaves behind.
 *
 * races.md 1.3 and 1.4: who changes a list has verified under its lock whose it
 * is (K1); a charge has a payer at all times (L2); an id is used again only when
 * nobody can hold it (L4); ancestors' totals do not change (L6).
 * tsan
 */
#include <string.h>

#include "bodies.h"

/* ---- bodies ---------------------------------------------------------------------- */

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
RACE(K3_unmap_and_reuse, .setup = mapped, .body = { unmap, remove_and_reuse }, .preemptions = 2,
     .mutants = { MUTANT_lruvec_not_verified, MUTANT_release_does_not_wait })
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
	s64 err = offline_group(rig->e, grandchild, ENGINE_REMOVE_EMPTY);

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

RACE(L1_reclaim_and_remove_two, .setup = grandchild_mapped,
     .body = { reclaim_grandchild, remove_two_levels }, .preemptions = 2)
RACE(L1_fault_and_remove_two, .setup = grandchild_in_frame, .body = { fault, remove_two_levels },
     .preemptions = 2, .mutants = { MUTANT_flip_outside_locks })

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
	s64 err = offline_group(rig->e, sibling[1], ENGINE_REMOVE_EMPTY);

	(void)ctx;
	quire_assert(!err);
	offline_release(rig->e);
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

/* ---- a group with users: its regions go along ------------------------------------------- */

static void reparent_group(void *ctx)
{
	s64 err = offline_group(rig->e, rig->c, ENGINE_REMOVE_REPARENT);

	(void)ctx;
	quire_assert(!err);
	offline_release(rig->e);
	quire_assert(!memcg_online(rig->e->tree, rig->c));
}

/* The whole range is the parent's; what was there, and what comes. */
static void is_inherited(void)
{
	struct objcg_id p = { 0 };
	struct region r;

	quire_assert(!lru_objcg(&rig->e->lru, rig->p, &p));
	quire_assert(region_find(&rig->e->mm.regions, fake_addr(0), &r));
	quire_assert(r.objcg.v == p.v && !(r.flags & REGION_LEAVING));
	quire_assert(objcg_memcg(rig->e->tree, p).v == rig->p.v);
}

static void read_two(void *ctx)
{
	(void)ctx;
	rig_read(rig, 1, 0);
	rig_read(rig, 1, 2);
}

static void two_mapped(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_MAPPED);
}

static void two_in_frames(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_FRAME);
}

static void two_in_pool(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_POOL);
}

static void two_in_store(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_STORE);
}

RACE(L2_unmap_and_reparent, .setup = two_mapped, .body = { unmap, reparent_group },
     .check = is_inherited, .preemptions = 2, .mutants = { MUTANT_lruvec_not_verified })
RACE(L2_pageout_and_reparent, .setup = two_in_frames, .body = { pageout, reparent_group },
     .check = is_inherited, .preemptions = 2, .mutants = { MUTANT_zlru_not_verified })
RACE(L2_faults_and_reparent, .setup = two_in_frames, .body = { read_two, reparent_group },
     .check = is_inherited, .preemptions = 2, .mutants = { MUTANT_flip_outside_locks })
RACE(L2_loads_and_reparent, .setup = two_in_pool, .body = { read_two, reparent_group },
     .check = is_inherited, .preemptions = 2, .mutants = { MUTANT_zlru_not_verified })
RACE(L2_reads_and_reparent, .setup = two_in_store, .body = { read_two, reparent_group },
     .check = is_inherited, .preemptions = 2)
RACE(L2_writeback_and_reparent, .setup = two_in_pool, .body = { writeback, reparent_group },
     .check = is_inherited, .preemptions = 2)
RACE(L2_zap_and_reparent, .setup = two_mapped, .body = { zap, reparent_group },
     .check = is_inherited, .preemptions = 2, .mutants = { MUTANT_lruvec_not_verified })

/* ---- or are given up with all they hold: what munmap(2) does a little later --------------- */

/* The range is not mapped any more: who acts on what it said a moment ago fails. */
static void unmap_range(void)
{
	struct fault *f = &rig->e->fault;
	struct pager *p = &f->mm->pager;
	u64 start = fake_addr(0), end = fake_addr(3);

	zap_begin(f, start, end);
	(void)p->ops->remove_range(p, 0, start, end - start);
	fake_forget(p, start, 3);
	zap_forget(f, &rig->task[0], start, end, false);
	rig_forget(rig, 0, 3);
	zap_finish(f, start, end);
}

static void discard_group(void *ctx)
{
	s64 err = offline_group(rig->e, rig->c, ENGINE_REMOVE_DISCARD);

	(void)ctx;
	quire_assert(!err && !engine_manages(rig->e, (void *)fake_addr(0), PAGE_SIZE));
	/* Before the release, which waits for reclaim: as the request thread does it. */
	unmap_range();
	offline_release(rig->e);
}

static void fault_of_gone(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 1, 0);
}

/* All of it is gone, from every counter; the last of it leaves no descriptor. */
static void is_discarded(void)
{
	rig->e->nr_doomed = 0;
	for (u32 t = 0; t < RIG_TASKS; t++)
		rig_drain(rig, t);
	quire_assert(!memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY));
	quire_assert(!memcg_usage(rig->e->tree, rig->p, COUNTER_SWAP));
	quire_assert(!memcg_zswap_bytes(rig->e->tree, rig->p));
}

RACE(I3_unmap_and_discard, .setup = two_mapped, .body = { unmap, discard_group },
     .check = is_discarded, .preemptions = 2, .mutants = { MUTANT_kill_in_two_steps })
RACE(I3_pageout_and_discard, .setup = two_in_frames, .body = { pageout, discard_group },
     .check = is_discarded, .preemptions = 2, .mutants = { MUTANT_drop_leaves_no_note })
RACE(I3_writeback_and_discard, .setup = two_in_pool, .body = { writeback, discard_group },
     .check = is_discarded, .preemptions = 2, .mutants = { MUTANT_writeback_ignores_note })
RACE(I7_fault_and_discard, .setup = two_in_frames, .body = { fault_of_gone, discard_group },
     .check = is_discarded, .preemptions = 2)

/* ---- who waits for its limit waits for its heir's ----------------------------------------- */

static void small_and_full(void)
{
	two_mapped();
	memcg_set_max(rig->e->tree, rig->c, COUNTER_MEMORY, 2);
}

static void wait_for_memory(void *ctx)
{
	struct memcg_id over = { 0 };

	(void)ctx;
	gate_enter(&rig->e->fault_gate);
	if (fault_serve(&rig->e->fault, &rig->task[1], 0, fake_addr(2), 0, &over) ==
	    FAULT_NO_MEMORY)
		fault_defer(&rig->e->fault, 0, fake_addr(2), 0, over);
	gate_leave(&rig->e->fault_gate);
}

static void reparent_and_reuse(void *ctx)
{
	struct memcg_id id = { 0 };
	int err;

	reparent_group(ctx);
	err = memcg_create(rig->e->tree, rig->d, "new", &id);
	quire_assert(!err && id.v == rig->c.v);
}

/* Nobody waits for the new group; who waits is served. */
static void waits_for_heir(void)
{
	struct fault *f = &rig->e->fault;

	quire_assert(!fault_nr_waiting(f, rig->d, UINT64_MAX));
	fault_retry_waiting(f, &rig->task[1]);
	quire_assert(!fault_nr_waiting(f, MEMCG_ROOT, UINT64_MAX));
	rig->want[2] = (struct rig_content){ RIG_ZERO, 0 };
}

RACE(L3_waiting_and_reuse, .setup = small_and_full, .body = { wait_for_memory, reparent_and_reuse },
     .check = waits_for_heir, .preemptions = 2,
     .mutants = { MUTANT_waiting_keeps_id, MUTANT_release_does_not_wait })

/* ---- removed by another process: charges are the parent's, lists follow ------------------ */

static struct memcg_tree *other_member;

static void with_other_member(void)
{
	int err = memcg_tree_join(&rig->e->mm.meta, rig->e->tree, &other_member);

	quire_assert(!err);
}

static void others_mapped(void)
{
	with_other_member();
	two_mapped();
}

static void others_in_frames(void)
{
	with_other_member();
	two_in_frames();
}

static void others_in_pool(void)
{
	with_other_member();
	two_in_pool();
}

static void others_remove(void *ctx)
{
	struct memcg_id parent;
	int err = memcg_remove(other_member, rig->c, &parent);

	(void)ctx;
	quire_assert(!err && parent.v == rig->p.v);
	quire_assert(objcg_memcg(rig->e->tree, rig->objcg).v == rig->p.v);
	memcg_release(other_member, rig->c);
	/* Not reused before we have let go. */
	quire_assert(memcg_nr_dying(rig->e->tree) == 1);
	offline_release(rig->e);
	quire_assert(memcg_nr_dying(rig->e->tree) == 0);
}

static void no_other_member(void)
{
	memcg_tree_close(other_member);
	quire_assert(objcg_lists(rig->e->tree, rig->objcg).v == rig->p.v);
}

RACE(K1_unmap_and_others_remove, .setup = others_mapped, .body = { unmap, others_remove },
     .check = no_other_member, .preemptions = 2)
RACE(K1_faults_and_others_remove, .setup = others_in_frames, .body = { read_two, others_remove },
     .check = no_other_member, .preemptions = 2, .mutants = { MUTANT_flip_moves_all_lists })
RACE(K1_pageout_and_others_remove, .setup = others_in_frames, .body = { pageout, others_remove },
     .check = no_other_member, .preemptions = 2)
RACE(L2_writeback_and_others_remove, .setup = others_in_pool, .body = { writeback, others_remove },
     .check = no_other_member, .preemptions = 2)
