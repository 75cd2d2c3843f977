/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_protect.c - pages mapped write-protected, on the schedule explorer.
 *
 * A page that came in for a read leaves by being read and dropped, in two steps.  What
 * makes that safe is the fault of the first store, under the page's lock (J2).
 * time: 300
 * tsan
 */
#include "race.h"

static void unmap(void *ctx)
{
	(void)ctx;
	rig_unmap(rig, 0, 2);
}

static void pageout(void *ctx)
{
	(void)ctx;
	rig_pageout(rig, 3, 2);
}

static void write_0(void *ctx)
{
	(void)ctx;
	rig_write(rig, 1, 0, RIG_TEXT, 77);
}

static void write_0_twice(void *ctx)
{
	write_0(ctx);
	rig_write(rig, 1, 0, RIG_TEXT, 78);
}

static void read_0(void *ctx)
{
	(void)ctx;
	rig_read(rig, 2, 0);
}

static void pin_0(void *ctx)
{
	u64 at = fake_addr(0);
	int err = populate_range(&rig->e->fault, &rig->task[2], at, at + PAGE_SIZE, true);

	(void)ctx;
	quire_assert(!err);
	quire_assert(!(fake_flags(&rig->e->mm.pager, at) & FAKE_PROTECTED));
	populate_unpin(&rig->e->fault, at, at + PAGE_SIZE);
}

static void zap_0(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 2, 0, 1);
}

/* ---- beginnings ------------------------------------------------------------ */

static void read_back(enum rig_state from)
{
	rig_make(rig, 0, 2, RIG_TEXT, from);
	for (u32 i = 0; i < 2; i++) {
		rig_read(rig, 0, i);
		quire_assert(fake_flags(&rig->e->mm.pager, fake_addr(i)) & FAKE_PROTECTED);
	}
	/* What a fault brings in is active; reclaim takes from the other list. */
	populate_cool(&rig->e->fault, &rig->task[0], fake_addr(0), fake_addr(2), false);
	rig_drain(rig, 0);
}

static void from_pool(void)
{
	read_back(RIG_POOL);
}

static void from_frame(void)
{
	read_back(RIG_FRAME);
}

/* With their copies kept: they leave unread. */
static void from_store(void)
{
	read_back(RIG_STORE);
}

RACE(J2_store_and_batch, .setup = from_pool, .body = { write_0, unmap }, .preemptions = 3,
     .mutants = { MUTANT_unprotect_forgets_flag, MUTANT_protected_not_asked_again })
RACE(J2_store_and_batch_soft, .setup = from_frame, .body = { write_0, unmap }, .preemptions = 3,
     .mutants = { MUTANT_protected_not_asked_again })
RACE(J2_store_and_copy, .setup = from_store, .body = { write_0, unmap }, .preemptions = 3,
     .mutants = { MUTANT_unprotect_forgets_flag })
RACE(J2_stores_and_two_batches, .setup = from_pool, .body = { write_0_twice, unmap, read_0 },
     .preemptions = 2)
RACE(J2_store_and_pageout, .setup = from_pool, .body = { write_0, unmap, pageout },
     .preemptions = 2)
RACE(J2_zap_store_and_batch, .setup = from_pool, .body = { write_0, unmap, zap_0 },
     .preemptions = 2)
RACE(I5_pin_and_batch, .setup = from_pool, .body = { pin_0, unmap }, .preemptions = 2)
