/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Managed ranges: splitting, merging, looking up.
 */
#include <errno.h>

#include "lib/test.h"
#include "page/region.h"

#define AT(page) (0x10000000ull + (u64)(page)*PAGE_SIZE)
#define NR_PAGES 64u

static struct meta meta;
static struct region_table table;

static void setup(void)
{
	memset(&meta, 0, sizeof(meta));
	memset(&table, 0, sizeof(table));
	ASSERT_OK(region_table_init(&table, &meta));
}

static void teardown(void)
{
	region_check(&table);
	region_table_exit(&table);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

static int add(u32 first, u32 nr, u32 objcg, u16 flags)
{
	struct region r = {
		.start = AT(first),
		.end = AT(first + nr),
		.objcg = { objcg },
		.flags = flags,
	};

	return region_add(&table, &r);
}

static u32 nr_regions(void)
{
	return atomic32_peek(&table.nr);
}

TEST(find_and_next)
{
	struct region r;

	setup();
	ASSERT_FALSE(region_find(&table, AT(0), &r));
	ASSERT_FALSE(region_next(&table, 0, &r));
	ASSERT_OK(add(10, 5, 1, 0));
	ASSERT_OK(add(20, 5, 2, 0));
	ASSERT_FALSE(region_find(&table, AT(10) - 1, &r));
	ASSERT_TRUE(region_find(&table, AT(10), &r));
	ASSERT_EQ(r.objcg.v, 1u);
	ASSERT_TRUE(region_find(&table, AT(15) - 1, &r));
	ASSERT_FALSE(region_find(&table, AT(15), &r));
	ASSERT_TRUE(region_next(&table, AT(15), &r));
	ASSERT_EQ(r.start, AT(20));
	ASSERT_FALSE(region_next(&table, AT(25), &r));
	ASSERT_TRUE(region_overlaps(&table, AT(14), AT(16)));
	ASSERT_FALSE(region_overlaps(&table, AT(15), AT(20)));
	ASSERT_EQ(atomic64_peek(&table.bytes), 10 * PAGE_SIZE);
	teardown();
}

TEST(equal_neighbours_merge)
{
	setup();
	ASSERT_OK(add(0, 4, 1, 0));
	ASSERT_OK(add(8, 4, 1, 0));
	ASSERT_EQ(nr_regions(), 2u);
	ASSERT_OK(add(4, 4, 1, 0));
	ASSERT_EQ(nr_regions(), 1u);
	ASSERT_OK(add(12, 4, 2, 0)); /* another payer */
	ASSERT_OK(add(16, 4, 2, REGION_RANDOM)); /* other advice */
	ASSERT_EQ(nr_regions(), 3u);
	ASSERT_OK(region_set_flags(&table, AT(16), AT(20), 0, REGION_RANDOM));
	ASSERT_EQ(nr_regions(), 2u);
	ASSERT_EQ(add(3, 1, 1, 0), -EEXIST);
	ASSERT_EQ(add(19, 9, 1, 0), -EEXIST);
	ASSERT_EQ(nr_regions(), 2u);
	teardown();
}

TEST(locked_bytes_are_counted)
{
	setup();
	ASSERT_OK(add(0, 10, 1, REGION_LOCKED));
	ASSERT_OK(add(10, 10, 1, 0));
	ASSERT_EQ(atomic64_peek(&table.locked), 10 * PAGE_SIZE);
	ASSERT_OK(region_set_flags(&table, AT(8), AT(12), REGION_LOCKED, 0));
	ASSERT_EQ(atomic64_peek(&table.locked), 12 * PAGE_SIZE);
	ASSERT_OK(region_set_flags(&table, AT(2), AT(4), 0, REGION_LOCKED));
	ASSERT_EQ(atomic64_peek(&table.locked), 10 * PAGE_SIZE);
	ASSERT_OK(region_cut(&table, AT(3), AT(7)));
	ASSERT_EQ(atomic64_peek(&table.locked), 7 * PAGE_SIZE);
	ASSERT_OK(region_cut(&table, AT(0), AT(20)));
	ASSERT_EQ(atomic64_peek(&table.locked), 0u);
	teardown();
}

TEST(cut_splits)
{
	struct region r;

	setup();
	ASSERT_OK(add(0, 10, 1, REGION_HEAP));
	ASSERT_OK(region_cut(&table, AT(4), AT(6)));
	ASSERT_EQ(nr_regions(), 2u);
	ASSERT_FALSE(region_find(&table, AT(4), &r));
	ASSERT_TRUE(region_find(&table, AT(6), &r));
	ASSERT_EQ(r.flags, REGION_HEAP);
	ASSERT_EQ(r.end, AT(10));
	ASSERT_OK(region_cut(&table, AT(2), AT(8)));
	ASSERT_EQ(atomic64_peek(&table.bytes), 4 * PAGE_SIZE);
	ASSERT_OK(region_cut(&table, 0, AT(100)));
	ASSERT_EQ(nr_regions(), 0u);
	ASSERT_OK(region_cut(&table, 0, AT(100)));
	teardown();
}

TEST(full_table_refuses_and_changes_nothing)
{
	setup();
	for (u32 i = 0; i < REGION_MAX; i++)
		ASSERT_OK(add(4 * i, 3, 1, 0));
	ASSERT_EQ(add(4 * REGION_MAX, 1, 1, 0), -ENOSPC);
	ASSERT_EQ(region_cut(&table, AT(1), AT(2)), -ENOSPC);
	ASSERT_EQ(nr_regions(), REGION_MAX);
	ASSERT_EQ(atomic64_peek(&table.bytes), 3ull * REGION_MAX * PAGE_SIZE);
	/* What needs no split is possible. */
	ASSERT_OK(region_cut(&table, AT(0), AT(3)));
	ASSERT_OK(region_set_flags(&table, AT(4), AT(7), REGION_RANDOM, 0));
	teardown();
}

struct model {
	u32 objcg[NR_PAGES]; /* 0: not managed */
	u16 flags[NR_PAGES];
};

static void compare(const struct model *m)
{
	struct region r;
	u64 bytes = 0;

	region_check(&table);
	for (u32 i = 0; i < NR_PAGES; i++) {
		ASSERT_EQ(region_find(&table, AT(i), &r), m->objcg[i] != 0);
		if (!m->objcg[i])
			continue;
		ASSERT_EQ(r.objcg.v, m->objcg[i]);
		ASSERT_EQ(r.flags, m->flags[i]);
		bytes += PAGE_SIZE;
	}
	ASSERT_EQ(atomic64_peek(&table.bytes), bytes);
}

static bool any(const struct model *m, u32 first, u32 end)
{
	for (u32 i = first; i < end; i++)
		if (m->objcg[i])
			return true;
	return false;
}

/* Everything there is to do with ranges, against an array of pages. */
TEST(random_operations)
{
	struct model m = { { 0 }, { 0 } };
	u64 x = 88172645463325252ull;

	setup();
	for (u32 n = 0; n < 20000; n++) {
		u32 first, end, what;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		first = (u32)(x >> 10) % NR_PAGES;
		end = first + 1 + (u32)(x >> 20) % (NR_PAGES - first);
		what = (u32)(x >> 30) % 4;
		if (what == 0) {
			bool busy = any(&m, first, end);

			ASSERT_EQ(add(first, end - first, 1 + n % 2, 0), busy ? -EEXIST : 0);
			for (u32 i = first; i < end && !busy; i++) {
				m.objcg[i] = 1 + n % 2;
				m.flags[i] = 0;
			}
		} else if (what == 1) {
			ASSERT_OK(region_cut(&table, AT(first), AT(end)));
			memset(&m.objcg[first], 0, (end - first) * sizeof(m.objcg[0]));
		} else if (what == 2) {
			ASSERT_OK(region_set_flags(&table, AT(first), AT(end), REGION_RANDOM,
						   REGION_SEQUENTIAL));
			for (u32 i = first; i < end; i++)
				m.flags[i] = REGION_RANDOM;
		} else {
			ASSERT_OK(region_set_objcg(&table, AT(first), AT(end),
						   (struct objcg_id){ 3 }));
			for (u32 i = first; i < end; i++)
				m.objcg[i] = m.objcg[i] ? 3 : 0;
		}
		if (n % 16 == 0)
			compare(&m);
	}
	compare(&m);
	teardown();
}
