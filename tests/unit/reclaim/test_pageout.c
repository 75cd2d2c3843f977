/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where pages go, and what happens when there is no place: nothing is lost, and
 * every refusal is counted.
 */
#include <errno.h>

#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static const struct slot *slot_of(u32 page)
{
	return slot_at(&r->e->swap, (struct slot_id){ pte_index(rig_pte(r, page)) });
}

static void in_frames(u32 flags, bool store, enum rig_fill fill, u32 nr)
{
	r = rig_create(flags, store);
	rig_make(r, 0, nr, fill, RIG_FRAME);
}

/* Bytes are right and everything counted, also after the way back. */
static void finish(u32 nr)
{
	rig_check(r);
	for (u32 i = 0; i < nr; i++)
		rig_read(r, 1, i);
	rig_drain(r, 1);
	rig_check(r);
	rig_destroy(r);
}

TEST(word)
{
	in_frames(0, true, RIG_FILLED, 4);
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	ASSERT_EQ(slot_kind(slot_of(0)), SLOT_FILLED);
	ASSERT_EQ(zspool_nr_objects(r->e->zswap.pool), 0u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY), 0u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWPOUT_ZERO), 4u);
	finish(4);
}

TEST(compressed)
{
	in_frames(0, true, RIG_TEXT, 4);
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	ASSERT_EQ(slot_kind(slot_of(3)), SLOT_ZSWAP);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWPOUT), 4u);
	ASSERT_LT(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY), 4u);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_stored), 4u);
	finish(4);
}

TEST(incompressible_goes_to_the_store_as_it_is)
{
	in_frames(0, true, RIG_NOISE, 4);
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	ASSERT_EQ(slot_kind(slot_of(0)), SLOT_STORE);
	ASSERT_TRUE(slot_flags(slot_of(0)) & SLOT_RAW);
	ASSERT_EQ(slot_len(slot_of(0)), PAGE_SIZE);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_INCOMPRESSIBLE), 4u);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_reject_compress), 4u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PSWPOUT), 4u);
	finish(4);
}

TEST(incompressible_without_a_store_stays)
{
	in_frames(0, false, RIG_NOISE, 4);
	ASSERT_EQ(rig_pageout(r, 0, 4), 0u);
	ASSERT_EQ(rig_state(r, 2), RIG_FRAME);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_reject_compress), 4u);
	finish(4);
}

/* cgroup-v2: memory.zswap.max: 0 forbids the pool; compressed all the same. */
TEST(pool_full_goes_to_the_store_compressed)
{
	in_frames(0, true, RIG_TEXT, 4);
	memcg_set_max(r->e->tree, r->p, COUNTER_ZSWAP, 0);
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	ASSERT_EQ(slot_kind(slot_of(0)), SLOT_STORE);
	ASSERT_FALSE(slot_flags(slot_of(0)) & SLOT_RAW);
	ASSERT_LT(slot_len(slot_of(0)), (u32)PAGE_SIZE);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_reject_limit), 4u);
	finish(4);
}

/* cgroup-v2: memory.zswap.writeback: 0 forbids the store after a refusal, too. */
TEST(refused_without_writeback_stays)
{
	in_frames(0, true, RIG_NOISE, 4);
	memcg_set_flag(r->e->tree, r->p, MEMCG_FLAG_ZSWAP_WRITEBACK, false);
	ASSERT_EQ(rig_pageout(r, 0, 4), 0u);
	ASSERT_EQ(fake_store_nr(&r->store), 0u);
	finish(4);
}

TEST(writeback_forbidden)
{
	in_frames(0, true, RIG_TEXT, 2);
	memcg_set_flag(r->e->tree, r->p, MEMCG_FLAG_ZSWAP_WRITEBACK, false);
	ASSERT_EQ(rig_pageout(r, 0, 2), 2u);
	ASSERT_EQ(rig_writeback(r, 0, 2), -EOPNOTSUPP);
	finish(2);
}

TEST(no_pool_at_all)
{
	in_frames(ENGINE_NO_ZSWAP, true, RIG_TEXT, 2);
	ASSERT_EQ(rig_pageout(r, 0, 2), 2u);
	ASSERT_EQ(rig_state(r, 0), RIG_STORE);
	finish(2);
}

/* ---- the store is full ------------------------------------------------------------- */

/* What was on its way out of memory stays resident. */
TEST(enospc_keeps_pages_resident)
{
	in_frames(0, true, RIG_NOISE, 4);
	r->store.nr_room = 3; /* all or none */
	ASSERT_EQ(rig_pageout(r, 0, 4), 0u);
	ASSERT_EQ(stat_read(&r->e->reclaim.nr_store_refused), 1u);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_wb_error), 1u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PSWPOUT), 0u);
	rig_check(r);
	r->store.nr_room = 4;
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	finish(4);
}

/* Part of a batch compresses: that part goes to the pool. */
TEST(enospc_stops_only_what_needs_the_store)
{
	r = rig_create(0, true);
	for (u32 i = 0; i < 8; i++)
		rig_write(r, 0, i, i % 2 ? RIG_NOISE : RIG_TEXT, i);
	ASSERT_EQ(rig_unmap(r, 0, 8), 8u);
	r->store.put_error = -EIO;
	ASSERT_EQ(rig_pageout(r, 0, 8), 4u);
	for (u32 i = 0; i < 8; i++)
		ASSERT_EQ(rig_state(r, i), i % 2 ? RIG_FRAME : RIG_POOL);
	finish(8);
}

/* What the pool wanted to give away stays in the pool, and can be tried again. */
TEST(enospc_keeps_objects_in_the_pool)
{
	in_frames(0, true, RIG_TEXT, 4);
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	r->store.nr_room = 2;
	ASSERT_EQ(rig_writeback(r, 0, 4), -ENOSPC);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_wb_error), 1u);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_written_back), 0u);
	rig_check(r);
	ASSERT_EQ(rig_writeback(r, 0, 2), 2);
	ASSERT_EQ(fake_store_nr(&r->store), 2u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWPWB), 2u);
	finish(4);
}

/* Coldest first, and where they were if that fails. */
TEST(writeback_takes_the_oldest)
{
	r = rig_create(0, true);
	for (u32 i = 0; i < 4; i++)
		rig_make(r, i, 1, RIG_TEXT, RIG_POOL);
	r->store.put_error = -EIO;
	ASSERT_EQ(rig_writeback(r, 0, 2), -EIO);
	r->store.put_error = 0;
	ASSERT_EQ(rig_writeback(r, 0, 2), 2);
	for (u32 i = 0; i < 4; i++)
		ASSERT_EQ(rig_state(r, i), i < 2 ? RIG_STORE : RIG_POOL);
	finish(4);
}
