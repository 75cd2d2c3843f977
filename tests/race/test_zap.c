/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_zap.c - the program gives a page back while somebody works on it.
 *
 * races.md 1.1, interleavings A to C: whoever is busy with a page or slot when
 * its last user goes inherits the duty to free it, in bounded time (I3), and a
 * page that gains a slot is asked for once more under the pte lock (I5).
 * time: 300
 * tsan
 */
#include <errno.h>
#include <string.h>

#include "base/failpoint.h"
#include "bodies.h"

static struct failpoints fps;

/* ---- bodies ---------------------------------------------------------------------- */

static void zap(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 0, 0, 1);
}

static void unmap_and_pageout(void *ctx)
{
	unmap(ctx);
	pageout(ctx);
}

static void fault(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 2, 0);
}

/* The fault thread cannot map for now (-EAGAIN, mmap_lock): it tries again. */
static void fault_refused_once(void *ctx)
{
	(void)ctx;
	quire_assert(!failpoints_parse(&fps, "uffd_copy:EAGAIN@1"));
	thread_self()->failpoints = &fps;
	rig_read(rig, 0, 0);
}

/* The same for moving the page back from its frame. */
static void soft_fault_refused_once(void *ctx)
{
	(void)ctx;
	quire_assert(!failpoints_parse(&fps, "uffd_move:EAGAIN@1,uffd_copy:EAGAIN@1"));
	thread_self()->failpoints = &fps;
	rig_read(rig, 0, 0);
}

static void fault_and_complete(void *ctx)
{
	fault(ctx);
	while (fake_store_complete(&rig->store))
		;
}

/* The I/O thread alone. */
static void complete(void *ctx)
{
	(void)ctx;
	while (fake_store_complete(&rig->store))
		;
}

/* Given back, and something else written to the same address. */
static void zap_and_write(void *ctx)
{
	zap(ctx);
	rig_write(rig, 0, 0, RIG_TEXT, 5);
}

/* ---- beginnings -------------------------------------------------------------------- */

static void mapped(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_MAPPED);
}

static void in_frame(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_FRAME);
}

/* A pageout finds no place: the page stays. */
static void in_frame_no_place(void)
{
	in_frame();
	rig->store.put_error = -ENOSPC;
	rig->e->zswap.pool_enabled = false;
}

static void in_pool(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_POOL);
}

static void in_store(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_STORE);
}

static void read_begun(void)
{
	in_store();
	quire_assert(rig_fault(rig, 1, 0) == FAULT_IO);
	rig_drain(rig, 1);
}

static void rotated(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_MAPPED);
	/* Pinned for direct I/O: reclaim puts it back. */
	fake_set(&rig->e->mm.pager, fake_addr(0), 1, FAKE_PINNED, 0);
}

/* Incompressible: straight to the store. */
static void noise_in_frame(void)
{
	rig_make(rig, 0, 1, RIG_NOISE, RIG_FRAME);
}

/* ---- zap and reclaim ------------------------------------------------------------------ */

RACE(I5_zap_and_unmap, .setup = mapped, .body = { zap, unmap }, .preemptions = 3,
     .mutants = { MUTANT_unmap_does_not_ask_again, MUTANT_putback_ignores_note,
		  MUTANT_isolate_in_two_steps })
RACE(I3_zap_and_refused_unmap, .setup = rotated, .body = { zap, unmap }, .preemptions = 3,
     .mutants = { MUTANT_kill_in_two_steps, MUTANT_putback_ignores_note })
RACE(I3_zap_and_pageout, .setup = in_frame, .body = { zap, pageout }, .preemptions = 3,
     .mutants = { MUTANT_drop_leaves_no_note, MUTANT_end_pageout_ignores_note })
RACE(I3_zap_and_refused_pageout, .setup = in_frame_no_place, .body = { zap, pageout },
     .preemptions = 3, .mutants = { MUTANT_putback_ignores_slot_note })
/* MAP_FIXED: the kernel has something else there before the engine has forgotten. */
static void replace(void *ctx)
{
	u64 start = fake_addr(0), end = fake_addr(1);
	struct pager *p = &rig->e->mm.pager;

	(void)ctx;
	zap_begin(&rig->e->fault, start, end);
	fake_forget(p, start, 1);
	fake_set(p, start, 1, FAKE_PRESENT, 0);
	zap_forget(&rig->e->fault, &rig->task[0], start, end, false);
	quire_assert(fake_flags(p, start) & FAKE_PRESENT);
	fake_forget(p, start, 1);
	rig_forget(rig, 0, 1);
	zap_finish(&rig->e->fault, start, end);
}

RACE(I1_replace_and_unmap, .setup = mapped, .body = { replace, unmap }, .preemptions = 3,
     .mutants = { MUTANT_unmap_ignores_zap })
RACE(I3_zap_and_both_stages, .setup = mapped, .body = { zap, unmap_and_pageout }, .preemptions = 2)
RACE(I2_zap_write_and_both_stages, .setup = mapped, .body = { zap_and_write, unmap_and_pageout },
     .preemptions = 2)

/* ---- zap and fault ---------------------------------------------------------------------- */

RACE(I7_zap_and_first_touch, .body = { zap, fault }, .preemptions = 3,
     .mutants = { MUTANT_fault_ignores_zap, MUTANT_zap_published_late,
		  MUTANT_visible_before_listed })
RACE(I7_zap_and_soft_fault, .setup = in_frame, .body = { zap, fault }, .preemptions = 2,
     .mutants = { MUTANT_fault_ignores_zap, MUTANT_zap_published_late })
RACE(I7_zap_and_fault_from_pool, .setup = in_pool, .body = { zap, fault }, .preemptions = 2,
     .mutants = { MUTANT_fault_ignores_zap, MUTANT_visible_before_listed })
RACE(I4_zap_and_fault_from_store, .setup = in_store, .body = { zap, fault_and_complete },
     .preemptions = 2)
RACE(I4_zap_and_read_under_way, .setup = read_begun, .body = { zap, complete }, .preemptions = 3,
     .mutants = { MUTANT_unlock_misses_waiter })
/* Pages that were never touched come along with their neighbour: 2 to 4. */
static void scan(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_MAPPED);
	rig_make(rig, 5, 1, RIG_TEXT, RIG_MAPPED);
	rig_advise(rig, REGION_SEQUENTIAL);
}

static void first_touch_of_1(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 1, 1);
}

static void zap_3_and_4(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 0, 3, 2);
}

RACE(I7_zap_and_zeros_ahead, .setup = scan, .body = { first_touch_of_1, zap_3_and_4 },
     .preemptions = 2, .mutants = { MUTANT_zeros_ahead_ignore_zap })
/* MADV_GUARD_INSTALL: what is there from now on is not to be replaced. */
static void guard_3_and_4(void *ctx)
{
	struct fault *f = &rig->e->fault;
	u64 start = fake_addr(3), end = fake_addr(5);

	(void)ctx;
	zap_begin(f, start, end);
	quire_assert(!region_set_flags(&rig->e->mm.regions, start, end, REGION_GUARDED, 0));
	fake_forget(&rig->e->mm.pager, start, 2);
	zap_forget(f, &rig->task[0], start, end, true);
	zap_finish(f, start, end);
}

static void guards_are_there(void)
{
	u32 flags = fake_flags(&rig->e->mm.pager, fake_addr(3)) |
		    fake_flags(&rig->e->mm.pager, fake_addr(4));

	quire_assert(!(flags & FAKE_PRESENT));
}

RACE(I7_guard_and_zeros_ahead, .setup = scan, .body = { first_touch_of_1, guard_3_and_4 },
     .check = guards_are_there, .preemptions = 2, .mutants = { MUTANT_zeros_ahead_ignore_guard })
/* Pages that are out come along too, and hold what was discarded. */
static void scan_pool(void)
{
	rig_make(rig, 1, 4, RIG_TEXT, RIG_POOL);
	rig_advise(rig, REGION_SEQUENTIAL);
}

RACE(I1_zap_and_readahead, .setup = scan_pool, .body = { first_touch_of_1, zap_3_and_4 },
     .preemptions = 2, .mutants = { MUTANT_readahead_ignores_zap })
RACE(I3_zap_fault_pageout, .setup = in_frame, .body = { zap, fault, pageout }, .preemptions = 2)

/* A fault elsewhere is nobody's business: served, or nobody ever wakes its thread. */
static void fault_elsewhere(void *ctx)
{
	(void)ctx;
	quire_assert(rig_fault(rig, 1, 5) == FAULT_DONE);
	quire_assert(fake_flags(&rig->e->mm.pager, fake_addr(5)) & FAKE_PRESENT);
}

static void zap_two_ranges(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 0, 0, 1);
	rig_zap(rig, 0, 8, 1);
}

RACE(I4_zap_and_fault_elsewhere, .body = { fault_elsewhere, zap_two_ranges }, .preemptions = 3,
     .mutants = { MUTANT_zap_range_torn })

/* ---- a fault copies from the frame that pageout reads -------------------------------------- */

static void read_0(void *ctx)
{
	(void)ctx;
	rig_read(rig, 0, 0);
}

RACE(J2_fault_and_pageout, .setup = in_frame, .body = { read_0, pageout }, .preemptions = 2,
     .mutants = { MUTANT_take_ignores_owner, MUTANT_end_steal_ignores_note,
		  MUTANT_end_pageout_ignores_steal, MUTANT_stored_not_verified })
RACE(I3_fault_and_refused_pageout, .setup = in_frame_no_place, .body = { read_0, pageout },
     .preemptions = 3)
RACE(J2_refused_fault_and_pageout, .setup = in_frame, .body = { fault_refused_once, pageout },
     .preemptions = 2, .mutants = { MUTANT_cancel_steal_ignores_note })
RACE(J2_refused_soft_fault_and_pageout, .setup = in_frame,
     .body = { soft_fault_refused_once, pageout }, .preemptions = 2)
RACE(J2_refused_fault_and_refused_pageout, .setup = in_frame_no_place,
     .body = { fault_refused_once, pageout }, .preemptions = 2,
     .mutants = { MUTANT_cancel_steal_ignores_note, MUTANT_end_steal_ignores_list })
RACE(J2_fault_and_pageout_to_store, .setup = noise_in_frame, .body = { read_0, pageout },
     .preemptions = 2)
RACE(I3_zap_and_pageout_to_store, .setup = noise_in_frame, .body = { zap, pageout },
     .preemptions = 2, .mutants = { MUTANT_end_pageout_ignores_note })
RACE(J2_two_faults_and_pageout, .setup = in_frame, .body = { read_0, fault, pageout },
     .preemptions = 2)
