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
