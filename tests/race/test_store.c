/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store.c - pages between the pool and the store, and their clean copies.
 *
 * races.md 1.2: when a slot has no users every layer lets go of it at once (J1);
 * there is one authoritative copy (J2); a shrinker that meets something else
 * than it saw leaves it alone.
 * time: 300
 * tsan
 */
#include <errno.h>

#include "bodies.h"

/* ---- bodies ---------------------------------------------------------------------- */

static void read_0(void *ctx)
{
	(void)ctx;
	rig_read(rig, 0, 0);
}

/* Signal mode: the thread that faults reads, and hands over what it could not. */
static void read_0_here(void *ctx)
{
	enum fault_result res = rig_fault_with(rig, 0, 0, FAULT_SELF);

	quire_assert(res == FAULT_IO || res == FAULT_DONE || res == FAULT_HAND_OVER);
	quire_assert(!stat_read(&rig->e->fault.nr_poisoned));
	read_0(ctx);
}

static void write_0(void *ctx)
{
	(void)ctx;
	rig_write(rig, 0, 0, RIG_TEXT, 99);
}

static void zap(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 0, 0, 1);
}

static void writeback_too(void *ctx)
{
	(void)ctx;
	(void)rig_writeback(rig, 2, 2);
}

static void clean(void *ctx)
{
	struct store_clean_ops up;

	(void)ctx;
	zswap_clean_ops(&rig->e->zswap, &up);
	(void)fake_store_move(&rig->store, &up);
}

/* The cleaner moves the object under the read, and there is no room to read again. */
static void clean_and_refuse_reads(void *ctx)
{
	clean(ctx);
	atomic32_poke(&rig->store.get_error, (u32)-EAGAIN);
}

/* The fault waits as one that finds no memory does; the page is not given up. */
static void read_and_retry(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 0, 0);
	while (fake_store_complete(&rig->store))
		;
	atomic32_poke(&rig->store.get_error, 0);
	fault_retry_waiting(&rig->e->fault, &rig->task[0]);
	rig_read(rig, 0, 0);
}

/* The number of the slot, and perhaps of the object, is used again. */
static void zap_and_reuse(void *ctx)
{
	zap(ctx);
	rig_write(rig, 0, 1, RIG_TEXT, 98);
	rig_unmap(rig, 0, 1);
	rig_pageout(rig, 0, 1);
}

static void zap_and_reuse_store(void *ctx)
{
	zap_and_reuse(ctx);
	(void)rig_writeback(rig, 0, 1);
}

/* ---- beginnings ---------------------------------------------------------------------- */

static void in_pool(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_POOL);
}

static void in_pool_store_full(void)
{
	in_pool();
	rig->store.put_error = -ENOSPC;
}

static void in_store(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_STORE);
}

static void one_in_frame_one_in_pool(void)
{
	rig_make(rig, 1, 1, RIG_TEXT, RIG_POOL);
	rig_make(rig, 0, 1, RIG_TEXT, RIG_FRAME);
}

static void with_copy(void)
{
	struct page_id id;

	in_store();
	/* So long away that the pool could not have held it: the copy stays. */
	atomic64_fetch_add(&lruvec_of(&rig->e->lru, rig->c)->age, 1000);
	rig_read(rig, 0, 0);
	rig_drain(rig, 0);
	id.v = pte_index(rig_pte(rig, 0));
	quire_assert(page_at(&rig->e->mm.pages, id)->slot);
}

static void in_pool_of_scan(void)
{
	in_pool();
	rig_stream(rig);
}

static void with_pool_copy(void)
{
	struct page_id id;

	in_pool_of_scan();
	rig_read(rig, 0, 0);
	rig_drain(rig, 0);
	id.v = pte_index(rig_pte(rig, 0));
	quire_assert(page_at(&rig->e->mm.pages, id)->slot);
}

/* ---- pool and store -------------------------------------------------------------------- */

RACE(J2_fault_and_writeback, .setup = in_pool, .body = { read_0, writeback }, .preemptions = 2,
     .mutants = { MUTANT_victim_not_verified, MUTANT_load_without_lock })
RACE(J1_zap_and_writeback, .setup = in_pool, .body = { zap, writeback }, .preemptions = 3,
     .mutants = { MUTANT_writeback_ignores_note, MUTANT_victim_not_verified })
RACE(J6_zap_and_refused_writeback, .setup = in_pool_store_full, .body = { zap, writeback },
     .preemptions = 3, .mutants = { MUTANT_unclaim_ignores_note })
RACE(J1_writeback_and_reuse, .setup = in_pool, .body = { zap_and_reuse, writeback },
     .preemptions = 2, .mutants = { MUTANT_victim_listed_again })
RACE(J5_reuse_and_refused_writeback, .setup = in_pool_store_full,
     .body = { zap_and_reuse, writeback }, .preemptions = 3,
     .mutants = { MUTANT_stored_while_claimed })
RACE(J5_two_writebacks, .setup = in_pool, .body = { writeback, writeback_too }, .preemptions = 3)
RACE(J2_fault_and_two_writebacks, .setup = in_pool, .body = { read_0, writeback, writeback_too },
     .preemptions = 2)

/* A page arrives in the pool while its cold end leaves. */
RACE(J1_pageout_and_writeback, .setup = one_in_frame_one_in_pool,
     .body = { pageout, writeback_too }, .preemptions = 3)

/* Stored, written back and given up, all at once. */
RACE(J1_pageout_writeback_and_zap, .setup = one_in_frame_one_in_pool,
     .body = { pageout, writeback_too, zap }, .preemptions = 2,
     .mutants = { MUTANT_end_pageout_ignores_note, MUTANT_stored_not_verified })

static void in_pool_cold(void)
{
	in_pool();
	rig_make_cold(rig);
}

RACE(J2_fault_and_repack, .setup = in_pool_cold, .body = { read_0, repack }, .preemptions = 2,
     .mutants = { MUTANT_load_without_lock })
RACE(J1_zap_and_repack, .setup = in_pool_cold, .body = { zap, repack }, .preemptions = 2,
     .mutants = { MUTANT_repack_ignores_note })
RACE(J1_repack_and_reuse, .setup = in_pool_cold, .body = { zap_and_reuse, repack },
     .preemptions = 2)
RACE(J5_repack_and_writeback, .setup = in_pool_cold, .body = { repack, writeback },
     .preemptions = 2)

/* ---- store and its cleaner ----------------------------------------------------------------- */

RACE(J2_read_and_cleaner, .setup = in_store, .body = { read_0, clean }, .preemptions = 2,
     .mutants = { MUTANT_read_not_tried_again })
RACE(J2_read_here_and_cleaner, .setup = in_store, .body = { read_0_here, clean }, .preemptions = 2,
     .mutants = { MUTANT_read_here_poisons })
RACE(J2_refused_read_and_cleaner, .setup = in_store,
     .body = { read_and_retry, clean_and_refuse_reads }, .preemptions = 2,
     .mutants = { MUTANT_read_not_tried_again })
RACE(J1_cleaner_and_reuse, .setup = in_store, .body = { zap_and_reuse_store, clean },
     .preemptions = 2, .mutants = { MUTANT_moved_not_verified })
RACE(J1_zap_and_cleaner, .setup = in_store, .body = { zap, clean }, .preemptions = 3)

/* ---- clean copies ------------------------------------------------------------------------ */

RACE(J2_write_and_unmap_by_copy, .setup = with_copy, .body = { write_0, unmap }, .preemptions = 3,
     .mutants = { MUTANT_copy_not_compared })
RACE(J2_zap_and_unmap_by_copy, .setup = with_copy, .body = { zap, unmap }, .preemptions = 3)
RACE(J2_cleaner_and_unmap_by_copy, .setup = with_copy, .body = { clean, unmap }, .preemptions = 3)
RACE(J2_read_and_unmap_by_copy, .setup = with_copy, .body = { read_0, unmap }, .preemptions = 3)

/* The same in the pool: writeback and the copy of a page that is in memory. */
RACE(J2_pool_copy_and_writeback, .setup = with_pool_copy, .body = { unmap, writeback },
     .preemptions = 3, .mutants = { MUTANT_kept_copy_not_listed })
RACE(J2_write_pool_copy_and_writeback, .setup = with_pool_copy,
     .body = { write_0, unmap, writeback }, .preemptions = 2,
     .mutants = { MUTANT_kept_copy_claimed })
RACE(J2_keep_and_writeback, .setup = in_pool_of_scan, .body = { write_0, unmap, writeback },
     .preemptions = 2, .mutants = { MUTANT_kept_while_claimed })
RACE(J1_zap_pool_copy_and_writeback, .setup = with_pool_copy, .body = { zap, unmap, writeback },
     .preemptions = 2)

/* ---- readahead: a neighbour comes in unasked ----------------------------------------- */

static void scan(enum rig_state state)
{
	rig_make(rig, 0, 2, RIG_TEXT, state);
	rig_advise(rig, REGION_SEQUENTIAL);
}

static void scan_in_pool(void)
{
	scan(RIG_POOL);
}

static void scan_in_store(void)
{
	scan(RIG_STORE);
}

/* Room for the page that is wanted, and perhaps for its neighbour. */
static void scan_at_limit(void)
{
	scan(RIG_POOL);
	memcg_set_max(rig->e->tree, rig->p, COUNTER_MEMORY,
		      memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY) + 2);
}

static void read_1(void *ctx)
{
	(void)ctx;
	rig_read(rig, 2, 1);
}

static void zap_1(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 2, 1, 1);
}

static void charge_one(void *ctx)
{
	struct memcg_id over;

	(void)ctx;
	if (!memcg_try_charge(rig->e->tree, NULL, rig->objcg, 1, &over))
		memcg_uncharge(rig->e->tree, NULL, rig->objcg, 1);
}

static void within_limit(void)
{
	for (u32 t = 0; t < RIG_TASKS; t++)
		rig_drain(rig, t);
	quire_assert(memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY) <=
		     memcg_limit(rig->e->tree, rig->p, COUNTER_MEMORY));
}

/* The neighbours' reads too: who zaps one waits for it. */
static void read_0_and_complete(void *ctx)
{
	read_0(ctx);
	while (fake_store_complete(&rig->store))
		;
}

/* The second page is in memory: the window goes over it, and makes it young. */
static void scan_over_mapped(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_POOL);
	rig_make(rig, 1, 1, RIG_TEXT, RIG_MAPPED);
	rig_advise(rig, REGION_SEQUENTIAL);
}

RACE(K2_readahead_over_and_unmap, .setup = scan_over_mapped, .body = { read_0, unmap },
     .preemptions = 2)
RACE(K2_readahead_over_and_zap, .setup = scan_over_mapped, .body = { read_0, zap_1 },
     .preemptions = 2)

RACE(I6_readahead_and_fault, .setup = scan_in_pool, .body = { read_0, read_1 }, .preemptions = 2)
RACE(I6_readahead_and_zap, .setup = scan_in_pool, .body = { read_0, zap_1 }, .preemptions = 2)
RACE(I6_readahead_and_writeback, .setup = scan_in_pool, .body = { read_0_and_complete, writeback },
     .preemptions = 2)
RACE(I6_readahead_from_store_and_zap, .setup = scan_in_store,
     .body = { read_0_and_complete, zap_1 }, .preemptions = 2)
RACE(I6_readahead_here_and_zap, .setup = scan_in_store, .body = { read_0_here, zap_1 },
     .preemptions = 2)
RACE(I6_readahead_here_and_fault, .setup = scan_in_store, .body = { read_0_here, read_1 },
     .preemptions = 2)
RACE(I6_readahead_and_limit, .setup = scan_at_limit, .body = { read_0, charge_one },
     .check = within_limit, .preemptions = 2)
