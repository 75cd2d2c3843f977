/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which faults are a scan that is longer than memory, and what becomes of its pages.
 */
#include "lib/rig.h"
#include "lib/test.h"

#define BASE 1000000u /* any page */
#define MEMORY 1000u

static struct rig *r;

static void begin(void)
{
	r = rig_create(0, true);
	atomic32_poke(&lruvec_of(&r->e->lru, r->c)->nr[LRU_ACTIVE], MEMORY / 2);
	atomic32_poke(&lruvec_of(&r->e->lru, r->c)->nr[LRU_INACTIVE], MEMORY / 2);
}

static void end(void)
{
	atomic32_poke(&lruvec_of(&r->e->lru, r->c)->nr[LRU_ACTIVE], 0);
	atomic32_poke(&lruvec_of(&r->e->lru, r->c)->nr[LRU_INACTIVE], 0);
	rig_destroy(r);
}

static bool fault(u64 page)
{
	return lru_in_stream(&r->e->lru, r->c, BASE + page);
}

/* One round of nr pages, each step-th; how many were told. */
static u32 told(u32 nr, u32 step)
{
	u32 n = 0;

	for (u32 i = 0; i < nr; i += step)
		n += fault(i);
	return n;
}

/* The first round is known when it has come too far, the next soon; some pages stay. */
TEST(scan_longer_than_memory)
{
	u32 first, next;

	begin();
	first = told(4 * MEMORY, 1);
	next = told(4 * MEMORY, 1);
	ASSERT_GT(first, 5 * MEMORY / 2);
	ASSERT_LE(first, 3 * MEMORY);
	ASSERT_GT(next, 3 * MEMORY);
	ASSERT_LT(next, 4 * MEMORY - MEMORY / 5);
	end();
}

TEST(stride_longer_than_memory)
{
	begin();
	(void)told(64 * MEMORY, 16);
	ASSERT_GT(told(64 * MEMORY, 16), 3 * MEMORY);
	end();
}

/* However often: it will be kept. */
TEST(loop_that_fits)
{
	begin();
	for (u32 round = 0; round < 5; round++)
		ASSERT_EQ(told(MEMORY - 10, 1), 0u);
	end();
}

TEST(random_is_no_scan)
{
	u32 n = 0;
	u64 x = 1;

	begin();
	for (u32 i = 0; i < 100000; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		n += fault((x >> 33) % (4 * MEMORY));
	}
	ASSERT_EQ(n, 0u);
	end();
}

/* Pages on their way in from the store arrive out of order, two scans at a time. */
TEST(two_scans_out_of_order)
{
	u32 n = 0;

	begin();
	for (u32 i = 0; i < 4 * MEMORY; i += 8) {
		for (u32 k = 8; k--;) {
			n += fault(i + k);
			n += fault(100 * MEMORY + i + k);
		}
	}
	ASSERT_GT(n, 2 * 5 * MEMORY / 2);
	end();
}

/* They go before what is older, by the copy they came from; a writeback that met one
 * finds it again. */
TEST(leaves_first_by_its_copy)
{
	u64 compressed;

	r = rig_create(0, true);
	rig_make(r, 0, 2, RIG_TEXT, RIG_POOL);
	rig_make(r, 10, 2, RIG_TEXT, RIG_MAPPED);
	rig_stream(r);
	rig_read(r, 0, 0);
	rig_read(r, 0, 1);
	ASSERT_EQ(lruvec_nr(lruvec_of(&r->e->lru, r->c), LRU_STREAM), 2u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_INACTIVE_ANON), 4u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWAPPED), 2u);
	rig_check(r);
	compressed = rig_stat(r, MEMCG_STAT_ZSWPOUT);
	ASSERT_EQ(rig_writeback(r, 0, 1), 1);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWPWB_STALE), 1u);
	rig_check(r);
	ASSERT_EQ(rig_unmap(r, 0, 2), 2u);
	ASSERT_EQ(rig_state(r, 0), RIG_POOL);
	ASSERT_EQ(rig_state(r, 1), RIG_POOL);
	ASSERT_EQ(rig_state(r, 10), RIG_MAPPED);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWPOUT), compressed);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWPOUT_CLEAN), 2u);
	rig_check(r);
	ASSERT_EQ(rig_writeback(r, 0, 2), 2);
	ASSERT_EQ(rig_state(r, 0), RIG_STORE);
	rig_check(r);
	rig_destroy(r);
}

/* One that was written meanwhile leaves as any other. */
TEST(copy_of_a_written_page_goes)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_POOL);
	rig_stream(r);
	rig_write(r, 0, 0, RIG_TEXT, 7);
	ASSERT_EQ(rig_unmap(r, 0, 1), 1u);
	ASSERT_EQ(rig_state(r, 0), RIG_FRAME);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWAPPED), 0u);
	rig_check(r);
	rig_read(r, 0, 0);
	ASSERT_EQ(lruvec_nr(lruvec_of(&r->e->lru, r->c), LRU_ACTIVE), 1u);
	rig_check(r);
	rig_destroy(r);
}
