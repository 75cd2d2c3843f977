/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_swap.c - the files memory.swap.* and memory.zswap.*.
 */
#include "knob_test.h"

TEST(defaults)
{
	static const char *const want[][2] = {
		{ "memory.swap.current", "0\n" },
		{ "memory.swap.high", "max\n" },
		{ "memory.swap.max", "max\n" },
		{ "memory.swap.peak", "0\n" },
		{ "memory.swap.events", "high 0\nmax 0\nfail 0\n" },
		{ "memory.zswap.current", "0\n" },
		{ "memory.zswap.max", "max\n" },
		{ "memory.zswap.writeback", "1\n" },
	};
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 n = 0; n < ARRAY_SIZE(want); n++)
		ASSERT_FILE(a, want[n][0], want[n][1]);
	fixture_exit(&f);
}

static u64 count_call(void *ctx, struct memcg_id id, u64 nr_pages, bool may_swap)
{
	(void)id;
	(void)nr_pages;
	(void)may_swap;
	(*(u32 *)ctx)++;
	return 0;
}

TEST(values)
{
	u32 nr_calls = 0;
	struct memcg_upcalls up = { .reclaim = count_call, .ctx = &nr_calls };
	struct fixture f;
	struct memcg_id a;
	struct objcg_id o;

	fixture_init(&f);
	memcg_tree_set_upcalls(f.t, &up);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 5), 0);
	memcg_swap_uncharge(f.t, o, 2);
	ASSERT_FILE(a, "memory.swap.current", "12288\n");
	ASSERT_FILE(a, "memory.swap.peak", "20480\n");
	ASSERT_PUT(a, "memory.swap.peak", "0", 0);
	ASSERT_FILE(a, "memory.swap.peak", "12288\n");
	/* Below usage: stored, nothing is reclaimed, nothing more is given. */
	ASSERT_PUT(a, "memory.swap.max", "8K", 0);
	ASSERT_FILE(a, "memory.swap.max", "8192\n");
	ASSERT_FILE(a, "memory.swap.current", "12288\n");
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 1), -ENOMEM);
	ASSERT_PUT(a, "memory.swap.high", "4K", 0);
	(void)memcg_high_delay_ns(f.t, a, 64);
	ASSERT_FILE(a, "memory.swap.events", "high 1\nmax 1\nfail 1\n");
	memcg_zswap_charge(f.t, o, 4097);
	ASSERT_FILE(a, "memory.zswap.current", "4097\n");
	ASSERT_PUT(a, "memory.zswap.max", "4096", 0);
	ASSERT_EQ(nr_calls, 0);
	fixture_exit(&f);
}

TEST(writeback_is_anded_but_shown_as_set)
{
	struct fixture f;
	struct memcg_id b;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	ASSERT_PUT(MEMCG_ROOT, "memory.zswap.writeback", "0", 0);
	ASSERT_FILE(MEMCG_ROOT, "memory.zswap.writeback", "0\n");
	ASSERT_FILE(b, "memory.zswap.writeback", "1\n");
	ASSERT_FALSE(memcg_zswap_writeback(f.t, b));
	ASSERT_PUT(MEMCG_ROOT, "memory.zswap.writeback", "1", 0);
	ASSERT_TRUE(memcg_zswap_writeback(f.t, b));
	fixture_exit(&f);
}
