/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lru.c - pages move between lists while others want them off.
 *
 * races.md 1.3: PG_LRU goes from 1 to 0 by one party, which owns the page until
 * it sets it again (K2); what is isolated can be put back, or is freed (K4).
 * tsan
 */
#include "bodies.h"

/* ---- bodies ---------------------------------------------------------------------- */

static void refill(void *ctx)
{
	(void)ctx;
	lru_refill_inactive(&rig->e->lru, rig->c, 2);
}

static void rescue(void *ctx)
{
	(void)ctx;
	reclaim_rescue_unevictable(&rig->e->reclaim, rig->c, 2);
}

static void cool(void *ctx)
{
	(void)ctx;
	populate_cool(&rig->e->fault, &rig->task[2], fake_addr(0), fake_addr(2), false);
}

static void push_out(void *ctx)
{
	(void)ctx;
	populate_cool(&rig->e->fault, &rig->task[2], fake_addr(0), fake_addr(2), true);
}

static void pin(void *ctx)
{
	int err;

	(void)ctx;
	err = populate_range(&rig->e->fault, &rig->task[2], fake_addr(0), fake_addr(1), true);
	quire_assert(!err);
	/* It may not leave until it is let go. */
	quire_assert(rig_state(rig, 0) == RIG_MAPPED);
	populate_unpin(&rig->e->fault, fake_addr(0), fake_addr(1));
}

static void unmap_too(void *ctx)
{
	(void)ctx;
	rig_unmap(rig, 3, 2);
}

static void unmap_and_pageout(void *ctx)
{
	unmap(ctx);
	rig_pageout(rig, 1, 2);
}

static void pageout_too(void *ctx)
{
	(void)ctx;
	rig_pageout(rig, 3, 2);
}

static void read_1(void *ctx)
{
	(void)ctx;
	rig_read(rig, 0, 1);
}

static void zap(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 0, 0, 1);
}

/* ---- beginnings -------------------------------------------------------------------- */

static void mapped(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_MAPPED);
}

static void in_frame(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_FRAME);
}

/* Touched in the laundry: active. */
static void active(void)
{
	in_frame();
	rig_read(rig, 0, 0);
	rig_read(rig, 0, 1);
	rig_drain(rig, 0);
}

/* And the other one about to become so. */
static void one_active(void)
{
	in_frame();
	rig_read(rig, 0, 0);
	rig_drain(rig, 0);
}

static void unevictable(void)
{
	mapped();
	fake_set(&rig->e->mm.pager, fake_addr(0), 1, FAKE_PINNED, 0);
	rig_unmap(rig, 0, 2);
	quire_assert(lruvec_nr(lruvec_of(&rig->e->lru, rig->c), LRU_UNEVICTABLE) == 1);
	fake_set(&rig->e->mm.pager, fake_addr(0), 1, 0, FAKE_PINNED);
	rig_drain(rig, 0);
}

/* The second page goes along with the first, as its neighbour. */
static void zap_neighbour(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 0, 1, 1);
}

/* ---- two reclaimers ------------------------------------------------------------------- */

RACE(K2_two_unmaps, .setup = mapped, .body = { unmap, unmap_too }, .preemptions = 2)
RACE(K2_neighbour_and_zap, .setup = mapped, .body = { zap_neighbour, unmap }, .preemptions = 3)
RACE(K2_two_pageouts, .setup = in_frame, .body = { pageout, pageout_too }, .preemptions = 2)
RACE(K2_unmap_and_pageout, .setup = mapped, .body = { unmap_and_pageout, pageout_too },
     .preemptions = 2)

/* ---- aging, advice, pins ---------------------------------------------------------------- */

RACE(K2_refill_and_zap, .setup = active, .body = { refill, zap }, .preemptions = 3,
     .mutants = { MUTANT_kill_in_two_steps, MUTANT_putback_ignores_note,
		  MUTANT_isolate_in_two_steps })
RACE(K2_refill_and_cool, .setup = active, .body = { refill, cool }, .preemptions = 2)
RACE(K2_refill_and_activation, .setup = one_active, .body = { refill, read_1 }, .preemptions = 3)
RACE(K4_rescue_and_zap, .setup = unevictable, .body = { rescue, zap }, .preemptions = 3,
     .mutants = { MUTANT_kill_in_two_steps })
RACE(K2_advice_and_unmap, .setup = mapped, .body = { push_out, unmap }, .preemptions = 2)
RACE(I5_pin_and_unmap, .setup = mapped, .body = { pin, unmap }, .preemptions = 2,
     .mutants = { MUTANT_unmap_does_not_ask_again })
RACE(I5_pin_and_pageout, .setup = in_frame, .body = { pin, pageout }, .preemptions = 2)

/* ---- two slices a group: the page says which lock -------------------------------------- */

static void reparent(void *ctx)
{
	s64 err = offline_group(rig->e, rig->c, ENGINE_REMOVE_REPARENT);

	(void)ctx;
	quire_assert(!err);
	offline_release(rig->e);
}

static void in_two_slices(void)
{
	lru_set_slices(&rig->e->lru, 2, 0);
	mapped();
	quire_assert(lru_slice(&rig->e->lru, rig->c, 0)->list[LRU_INACTIVE].nr == 1);
	quire_assert(lru_slice(&rig->e->lru, rig->c, 1)->list[LRU_INACTIVE].nr == 1);
}

static void active_in_two_slices(void)
{
	lru_set_slices(&rig->e->lru, 2, 0);
	active();
}

static void in_frames_of_two_slices(void)
{
	lru_set_slices(&rig->e->lru, 2, 0);
	in_frame();
}

RACE(K1_slices_two_unmaps, .setup = in_two_slices, .body = { unmap, unmap_too }, .preemptions = 2)
RACE(K1_slices_unmap_and_reparent, .setup = in_two_slices, .body = { unmap, reparent },
     .preemptions = 2, .mutants = { MUTANT_lruvec_not_verified })
RACE(K1_slices_fault_and_reparent, .setup = in_frames_of_two_slices, .body = { read_1, reparent },
     .preemptions = 2, .mutants = { MUTANT_flip_outside_locks })
RACE(K2_slices_refill_and_zap, .setup = active_in_two_slices, .body = { refill, zap },
     .preemptions = 3, .mutants = { MUTANT_isolate_in_two_steps })
RACE(K2_slices_pageout_and_unmap, .setup = in_frames_of_two_slices,
     .body = { pageout, unmap_too, read_1 }, .preemptions = 2)
