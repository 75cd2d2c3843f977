/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_high.c - the memory.high penalty against the table of algorithms.md 4.3.
 */
#include "fixture.h"

static u64 delay_ms(struct fixture *f, struct memcg_id id, u32 nr)
{
	return memcg_high_delay_ns(f->t, id, nr) / NSEC_PER_MSEC;
}

TEST(table)
{
	/* high = 100M, 64 pages charged: usage in MiB, sleep in ms */
	static const struct {
		u32 mib;
		u64 ms;
	} want[] = { { 100, 0 },   { 101, 0 },	  { 102, 25 },	 { 103, 57 },	{ 105, 159 },
		     { 110, 639 }, { 115, 1439 }, { 118, 2000 }, { 200, 2000 }, { 200000, 2000 } };
	struct memcg_id a, which;
	struct objcg_id o;
	struct fixture f;
	u64 usage = 0;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_set_high(f.t, a, COUNTER_MEMORY, FIXTURE_PAGES(100));
	for (size_t n = 0; n < ARRAY_SIZE(want); n++) {
		memcg_charge_force(f.t, o, (u32)(FIXTURE_PAGES(want[n].mib) - usage));
		usage = FIXTURE_PAGES(want[n].mib);
		ASSERT_EQ(delay_ms(&f, a, 64), want[n].ms);
		ASSERT_EQ(memcg_over_high(f.t, a, &which), usage - FIXTURE_PAGES(100));
	}
	ASSERT_EQ(which.v, a.v);
	fixture_exit(&f);
}

TEST(in_proportion_to_what_was_charged)
{
	struct memcg_id a;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	memcg_set_high(f.t, a, COUNTER_MEMORY, FIXTURE_PAGES(100));
	memcg_charge_force(f.t, handle_of(f.t, a), (u32)FIXTURE_PAGES(110));
	ASSERT_EQ(delay_ms(&f, a, 32), 319);
	ASSERT_EQ(delay_ms(&f, a, 2), 19);
	ASSERT_EQ(delay_ms(&f, a, 1), 0); /* 9.99 ms: not worth a sleep */
	ASSERT_EQ(delay_ms(&f, a, 640), 2000);
	ASSERT_EQ(delay_ms(&f, a, 0), 0);
	fixture_exit(&f);
}

/* The worst level counts, wherever it is. */
TEST(ancestors)
{
	struct memcg_id a, b, which = { 0 };
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	memcg_set_high(f.t, a, COUNTER_MEMORY, 1000);
	memcg_set_high(f.t, b, COUNTER_MEMORY, 1090);
	memcg_charge_force(f.t, handle_of(f.t, b), 1100);
	ASSERT_EQ(delay_ms(&f, b, 64), 639);
	ASSERT_EQ(memcg_over_high(f.t, b, &which), 100);
	ASSERT_EQ(which.v, a.v);
	memcg_set_high(f.t, a, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	ASSERT_EQ(memcg_over_high(f.t, b, &which), 10);
	ASSERT_EQ(which.v, b.v);
	ASSERT_EQ(memcg_over_high(f.t, a, &which), 0);
	memcg_set_high(f.t, b, COUNTER_MEMORY, 0); /* as 1 page */
	ASSERT_EQ(delay_ms(&f, b, 1), 2000);
	fixture_exit(&f);
}

/* Memory and swap overage are added before the cap. */
TEST(swap_high)
{
	struct memcg_id a;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_set_high(f.t, a, COUNTER_MEMORY, 1000);
	memcg_set_high(f.t, a, COUNTER_SWAP, 100);
	memcg_charge_force(f.t, o, 1100);
	ASSERT_EQ(delay_ms(&f, a, 64), 639);
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_SWAP_HIGH, false), 0);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 105), 0);
	ASSERT_EQ(delay_ms(&f, a, 64), 639 + 159 + 1); /* fractions add up */
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_SWAP_HIGH, false), 1);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 100), 0);
	ASSERT_EQ(delay_ms(&f, a, 64), 2000);
	fixture_exit(&f);
}
