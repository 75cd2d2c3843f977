/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_assign.c - a range changes hands while others work on what is in it.
 *
 * races.md 1.3, the switcher: the owner of a page changes by who has it off every
 * list (K2), and then both lists and charge follow (K1, I2).  At the end each page
 * and slot names who pays for its region.
 * tsan
 */
#include <errno.h>

#include "bodies.h"

static struct objcg_id handle_d;

/* ---- bodies ---------------------------------------------------------------------- */

static void assign(void *ctx)
{
	u64 moved = 0;
	s64 err = assign_region(rig->e, rig->d, fake_addr(0), 3 * PAGE_SIZE, &moved);

	(void)ctx;
	quire_assert(!err && moved == 3 * PAGE_SIZE);
}

/* To a group that has no room for all of it. */
static void assign_some(void *ctx)
{
	u64 moved = 0;
	s64 err = assign_region(rig->e, rig->d, fake_addr(0), 3 * PAGE_SIZE, &moved);

	(void)ctx;
	quire_assert(!err || err == -ENOMEM);
	quire_assert(err ? moved < 3 * PAGE_SIZE : moved == 3 * PAGE_SIZE);
}

static void assign_and_back(void *ctx)
{
	u64 moved;
	s64 err;

	assign(ctx);
	err = assign_region(rig->e, rig->c, fake_addr(1), PAGE_SIZE, &moved);
	quire_assert(!err && moved == PAGE_SIZE);
}

static void assign_and_remove(void *ctx)
{
	s64 err;

	assign(ctx);
	err = assign_region(rig->e, rig->d, fake_addr(3), (RIG_PAGES - 3) * PAGE_SIZE, &(u64){ 0 });
	quire_assert(!err);
	err = offline_group(rig->e, rig->c, ENGINE_REMOVE_EMPTY);
	quire_assert(!err);
	offline_release(rig->e);
}

/* In the group it goes to. */
static void reclaim_target(void *ctx)
{
	u32 freed = 0;

	(void)ctx;
	gate_enter(&rig->e->reclaim_gate);
	reclaim_unmap(&rig->e->reclaim, &rig->task[1], rig->d, 2, &freed);
	reclaim_pageout(&rig->e->reclaim, &rig->task[1], rig->d, 1);
	gate_leave(&rig->e->reclaim_gate);
}

static void fault_0(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 1, 0);
}

static void read_0(void *ctx)
{
	(void)ctx;
	rig_read(rig, 1, 0);
}

/* It comes back, its copy stays, it is changed and leaves again: page and copy may be
 * of two groups by then. */
static void read_and_reclaim(void *ctx)
{
	u32 freed = 0;

	(void)ctx;
	rig_read(rig, 1, 0);
	rig_write(rig, 1, 0, RIG_TEXT, 30);
	gate_enter(&rig->e->reclaim_gate);
	reclaim_unmap(&rig->e->reclaim, &rig->task[1], rig->d, 2, &freed);
	reclaim_pageout(&rig->e->reclaim, &rig->task[1], rig->d, 2);
	gate_leave(&rig->e->reclaim_gate);
}

static void first_touch(void *ctx)
{
	(void)ctx;
	rig_write(rig, 1, 2, RIG_TEXT, 20);
}

/* Refused or not; it does not wait for memory that nobody will free. */
static void first_fault(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 1, 2);
}

static void refill(void *ctx)
{
	(void)ctx;
	gate_enter(&rig->e->reclaim_gate);
	lru_refill_inactive(&rig->e->lru, rig->c, 2);
	gate_leave(&rig->e->reclaim_gate);
}

/* ---- beginnings -------------------------------------------------------------------- */

static void begin(enum rig_state state)
{
	int err = objcg_get(rig->e->tree, rig->d, &handle_d);

	quire_assert(!err);
	rig_make(rig, 0, 2, RIG_TEXT, state);
	/* From here on ranges have pages. */
	atomic32_poke(&rig->e->state, ENGINE_RUNNING);
}

static void mapped(void)
{
	begin(RIG_MAPPED);
}

static void in_frame(void)
{
	begin(RIG_FRAME);
}

static void in_pool(void)
{
	begin(RIG_POOL);
}

static void in_store(void)
{
	begin(RIG_STORE);
}

/* And so long ago that copies stay in the store. */
static void in_store_long_ago(void)
{
	begin(RIG_STORE);
	atomic64_fetch_add(&lruvec_of(&rig->e->lru, rig->c)->age, 1000);
	atomic64_fetch_add(&lruvec_of(&rig->e->lru, rig->d)->age, 1000);
}

/* Touched in the laundry. */
static void active(void)
{
	begin(RIG_FRAME);
	rig_read(rig, 0, 0);
	rig_read(rig, 0, 1);
	rig_drain(rig, 0);
}

/* Back in memory, the copy still true. */
static void with_copies(void)
{
	begin(RIG_STORE);
	atomic64_fetch_add(&lruvec_of(&rig->e->lru, rig->c)->age, 1000);
	rig_read(rig, 0, 0);
	rig_read(rig, 0, 1);
	rig_drain(rig, 0);
	quire_assert(rig_stat(rig, MEMCG_STAT_SWAPCACHED) == 2);
}

static void full_target(void)
{
	mapped();
	memcg_set_max(rig->e->tree, rig->d, COUNTER_MEMORY, 1);
	memcg_set_max(rig->e->tree, rig->d, COUNTER_SWAP, 0);
}

/* ---- the end: who pays for the region pays for what is in it ------------------------ */

static u32 payer_of(u32 nr)
{
	const struct pte *pte = rig_pte(rig, nr);

	switch (pte ? pte_type(pte) : PTE_NONE) {
	case PTE_PRESENT:
		return page_at(&rig->e->mm.pages, (struct page_id){ pte_index(pte) })->objcg;
	case PTE_SWAP:
		return slot_at(&rig->e->swap, (struct slot_id){ pte_index(pte) })->objcg;
	default:
		return 0;
	}
}

static void paid_by_region(void)
{
	atomic32_poke(&rig->e->state, ENGINE_PASSIVE);
	rig_drain_task(rig, &rig->e->request_task);
	for (u32 i = 0; i < 4; i++) {
		struct region r;

		quire_assert(region_find(&rig->e->mm.regions, fake_addr(i), &r));
		quire_assert(!payer_of(i) || payer_of(i) == r.objcg.v);
	}
}

static void is_assigned(void)
{
	struct region r;

	paid_by_region();
	quire_assert(region_find(&rig->e->mm.regions, fake_addr(0), &r));
	quire_assert(r.objcg.v == handle_d.v && r.end >= fake_addr(3));
	quire_assert(payer_of(0) == handle_d.v && payer_of(1) == handle_d.v);
}

static void is_assigned_but_one(void)
{
	paid_by_region();
	quire_assert(payer_of(0) == handle_d.v && payer_of(1) == rig->objcg.v);
}

/* No more than fits, and it is the first of it. */
static void is_assigned_in_part(void)
{
	paid_by_region();
	quire_assert(memcg_usage(rig->e->tree, rig->d, COUNTER_MEMORY) <= 1);
	quire_assert(payer_of(1) != handle_d.v || payer_of(0) == handle_d.v);
}

/* ---- pages --------------------------------------------------------------------------- */

RACE(K1_unmap_and_assign, .setup = mapped, .body = { unmap, assign }, .check = is_assigned,
     .preemptions = 2, .mutants = { MUTANT_assign_ignores_owner })
RACE(K1_pageout_and_assign, .setup = in_frame, .body = { pageout, assign }, .check = is_assigned,
     .preemptions = 2, .mutants = { MUTANT_assign_ignores_pageout })
RACE(K1_refill_and_assign, .setup = active, .body = { refill, assign }, .check = is_assigned,
     .preemptions = 2, .mutants = { MUTANT_assign_ignores_owner })
RACE(K1_reclaim_and_assign, .setup = mapped, .body = { reclaim_target, assign },
     .check = is_assigned, .preemptions = 2)
RACE(J2_copies_and_assign, .setup = with_copies, .body = { unmap, assign }, .check = is_assigned,
     .preemptions = 2)
RACE(K1_assign_and_back, .setup = mapped, .body = { unmap, assign_and_back },
     .check = is_assigned_but_one, .preemptions = 2)

/* ---- compressed and stored ones ------------------------------------------------------- */

RACE(K1_writeback_and_assign, .setup = in_pool, .body = { writeback, assign }, .check = is_assigned,
     .preemptions = 2, .mutants = { MUTANT_assign_ignores_writeback })
RACE(J1_load_and_assign, .setup = in_pool, .body = { read_0, assign }, .check = is_assigned,
     .preemptions = 2, .mutants = { MUTANT_assign_keeps_list })

/* ---- faults ----------------------------------------------------------------------------- */

RACE(I2_touch_and_assign, .setup = mapped, .body = { first_touch, assign }, .check = is_assigned,
     .preemptions = 2, .mutants = { MUTANT_assign_does_not_wait })
RACE(I2_fault_and_assign, .setup = in_frame, .body = { fault_0, assign }, .check = is_assigned,
     .preemptions = 2)
RACE(I2_read_and_assign, .setup = in_store, .body = { read_0, assign }, .check = is_assigned,
     .preemptions = 2)

RACE(I2_copy_and_assign, .setup = in_store_long_ago, .body = { read_and_reclaim, assign },
     .check = is_assigned, .preemptions = 2, .mutants = { MUTANT_copy_charged_to_page })

/* ---- limits, and the end of the group it came from ------------------------------------- */

RACE(I3_touch_and_refused_assign, .setup = full_target, .body = { first_fault, assign_some },
     .check = is_assigned_in_part, .random = 10000, .depth = 3)
RACE(L4_unmap_assign_and_remove, .setup = mapped, .body = { unmap, assign_and_remove },
     .check = is_assigned, .random = 20000, .depth = 3)
