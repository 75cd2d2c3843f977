/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_page_counter.c - limits, undo, peaks, watermarks, crossings.
 */
#include <errno.h>

#include "fixture.h"
#include "memcg/internal.h"

TEST(limit_is_exact)
{
	struct memcg_id a, over;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_set_max(f.t, a, COUNTER_MEMORY, 100);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 60, &over), 0);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 41, &over), -ENOMEM);
	ASSERT_EQ(over.v, a.v);
	ASSERT_EQ(mem_of(f.t, a), 60);
	ASSERT_EQ(memcg_margin(f.t, a), 40);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 40, &over), 0);
	ASSERT_EQ(memcg_margin(f.t, a), 0);
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_MAX, false), 1);
	memcg_set_max(f.t, a, COUNTER_MEMORY, 30);
	ASSERT_EQ(memcg_over_max(f.t, a), 70);
	ASSERT_EQ(memcg_margin(f.t, a), 0);
	memcg_uncharge(f.t, NULL, o, 100);
	memcg_set_max(f.t, a, COUNTER_MEMORY, 0);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 1, &over), -ENOMEM);
	memcg_set_max(f.t, a, COUNTER_MEMORY, UINT64_MAX);
	ASSERT_EQ(memcg_limit(f.t, a, COUNTER_MEMORY), PAGE_COUNTER_MAX);
	fixture_exit(&f);
}

/* A refusal above leaves no trace below, not even in the peaks. */
TEST(failure_is_undone)
{
	struct memcg_id a, b, c, over;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	c = group_make(f.t, "a/b/c");
	b = group_find(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, c);
	memcg_set_max(f.t, a, COUNTER_MEMORY, 10);
	memcg_set_protection(f.t, c, 5, 50);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 8, &over), 0);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 30, &over), -ENOMEM);
	ASSERT_EQ(over.v, a.v);
	ASSERT_EQ(mem_of(f.t, c), 8);
	ASSERT_EQ(mem_of(f.t, b), 8);
	ASSERT_EQ(mem_of(f.t, a), 8);
	ASSERT_EQ(mem_of(f.t, MEMCG_ROOT), 8);
	ASSERT_EQ(memcg_peak(f.t, c, COUNTER_MEMORY), 8);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMORY), 8);
	memcg_check(f.t);
	/* The event is counted where the limit is. */
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_MAX, true), 1);
	ASSERT_EQ(memcg_event_count(f.t, c, MEMCG_MAX, false), 0);
	fixture_exit(&f);
}

TEST(peak)
{
	struct objcg_id o;
	struct memcg_id a;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_charge_force(f.t, o, 50);
	memcg_uncharge(f.t, NULL, o, 30);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMORY), 50);
	memcg_reset_peak(f.t, a, COUNTER_MEMORY);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMORY), 20);
	memcg_charge_force(f.t, o, 1);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMORY), 21);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 4), 0);
	memcg_swap_uncharge(f.t, o, 4);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_SWAP), 4);
	fixture_exit(&f);
}

TEST(watermarks)
{
	static const struct {
		u64 max, wmark, low;
	} want[] = {
		{ PAGE_COUNTER_MAX, PAGE_COUNTER_MAX, PAGE_COUNTER_MAX },
		{ FIXTURE_PAGES(64), FIXTURE_PAGES(63), FIXTURE_PAGES(62) }, /* 1 MiB */
		{ FIXTURE_PAGES(16), FIXTURE_PAGES(16) - 64, FIXTURE_PAGES(16) - 128 },
		{ FIXTURE_PAGES(1), 192, 128 },
		{ FIXTURE_PAGES(4096), FIXTURE_PAGES(4088), FIXTURE_PAGES(4080) }, /* 8 MiB */
		{ 4, 3, 2 },
		{ 1, 1, 1 },
		{ 0, 0, 0 },
	};
	struct memcg_id a;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (size_t n = 0; n < ARRAY_SIZE(want); n++) {
		memcg_set_max(f.t, a, COUNTER_MEMORY, want[n].max);
		ASSERT_EQ(memcg_wmark_pages(f.t, a), want[n].wmark);
		ASSERT_EQ(memcg_wmark_low_pages(f.t, a), want[n].low);
	}
	fixture_exit(&f);
}

struct pressed {
	struct memcg_id id[8];
	u32 nr;
};

static void note_pressure(void *ctx, struct memcg_id id)
{
	struct pressed *p = ctx;

	if (p->nr < 8)
		p->id[p->nr] = id;
	p->nr++;
}

/* The upcall comes once per crossing, for the level that was crossed. */
TEST(pressure_when_crossing)
{
	struct pressed p = { .nr = 0 };
	struct memcg_upcalls up = { .pressure = note_pressure, .ctx = &p };
	struct memcg_id a, b, over;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	memcg_tree_set_upcalls(f.t, &up);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_set_max(f.t, a, COUNTER_MEMORY, 1024); /* watermark 960 */
	memcg_set_high(f.t, b, COUNTER_MEMORY, 500);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 500, &over), 0);
	ASSERT_EQ(p.nr, 0);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 1, &over), 0);
	ASSERT_EQ(p.nr, 1);
	ASSERT_EQ(p.id[0].v, b.v);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 459, &over), 0);
	ASSERT_EQ(p.nr, 1);
	memcg_charge_force(f.t, o, 1);
	ASSERT_EQ(p.nr, 2);
	ASSERT_EQ(p.id[1].v, a.v);
	memcg_charge_force(f.t, o, 10);
	ASSERT_EQ(p.nr, 2);
	memcg_uncharge(f.t, NULL, o, 11);
	memcg_charge_force(f.t, o, 11);
	ASSERT_EQ(p.nr, 3);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 100, &over), -ENOMEM);
	ASSERT_EQ(p.nr, 4);
	ASSERT_EQ(p.id[3].v, a.v);
	fixture_exit(&f);
}

TEST(swap_limits)
{
	struct memcg_id a, b;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_set_max(f.t, a, COUNTER_SWAP, 10);
	ASSERT_FALSE(memcg_swap_nearly_full(f.t, b));
	ASSERT_EQ(memcg_swap_margin(f.t, b), 10);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 4), 0);
	ASSERT_FALSE(memcg_swap_nearly_full(f.t, b));
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 1), 0);
	ASSERT_TRUE(memcg_swap_nearly_full(f.t, b));
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 6), -ENOMEM);
	ASSERT_EQ(memcg_swap_margin(f.t, b), 5);
	/* Both events belong to the group of the page. */
	ASSERT_EQ(memcg_event_count(f.t, b, MEMCG_SWAP_MAX, true), 1);
	ASSERT_EQ(memcg_event_count(f.t, b, MEMCG_SWAP_FAIL, true), 1);
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_SWAP_FAIL, false), 1);
	memcg_set_max(f.t, a, COUNTER_SWAP, PAGE_COUNTER_MAX);
	memcg_set_high(f.t, b, COUNTER_SWAP, 10);
	ASSERT_TRUE(memcg_swap_nearly_full(f.t, b));
	ASSERT_FALSE(memcg_swap_nearly_full(f.t, a));
	memcg_swap_uncharge(f.t, o, 5);
	memcg_set_max(f.t, b, COUNTER_SWAP, 0);
	ASSERT_TRUE(memcg_swap_nearly_full(f.t, b));
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 1), -ENOMEM);
	fixture_exit(&f);
}

/* v1: a page in memory and in swap counts once. */
TEST(memsw)
{
	struct memcg_id a;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_charge_force(f.t, o, 10);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 6), 0);
	memcg_stat_add(f.t, o, MEMCG_STAT_SWAPCACHED, 4);
	ASSERT_EQ(memcg_usage(f.t, a, COUNTER_MEMSW), 12);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMSW), 12);
	memcg_stat_add(f.t, o, MEMCG_STAT_SWAPCACHED, -4);
	memcg_uncharge(f.t, NULL, o, 4);
	ASSERT_EQ(memcg_usage(f.t, a, COUNTER_MEMSW), 12);
	memcg_swap_uncharge(f.t, o, 6);
	ASSERT_EQ(memcg_usage(f.t, a, COUNTER_MEMSW), 6);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMSW), 12);
	memcg_reset_peak(f.t, a, COUNTER_MEMSW);
	ASSERT_EQ(memcg_peak(f.t, a, COUNTER_MEMSW), 6);
	fixture_exit(&f);
}
