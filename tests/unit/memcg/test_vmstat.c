/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmstat.c - statistics: the table, sums over a subtree.
 */
#include "fixture.h"

TEST(table_is_complete)
{
	bool seen[MEMCG_NR_STATS] = { false };
	const struct vmstat_item *it, *other;

	for (u32 n = 0; (it = vmstat_item(n)); n++) {
		ASSERT_GT(strlen(it->name), 0);
		ASSERT_GT(strlen(it->text), 5);
		ASSERT_LT(strlen(it->text), 81);
		for (u32 k = 0; k < n && (other = vmstat_item(k)); k++)
			ASSERT_NE(strcmp(it->name, other->name), 0);
		for (u32 k = 0; k < 3; k++)
			if (it->from[k] < MEMCG_NR_STATS)
				seen[it->from[k]] = true;
	}
	for (u32 n = 0; n < MEMCG_NR_STATS; n++)
		ASSERT_TRUE(seen[n]);
	ASSERT_NULL(vmstat_item(1000));
}

TEST(units)
{
	struct memcg_stats s = { .zswap_pages = 2 };
	const struct vmstat_item *it;

	for (u32 n = 0; n < MEMCG_NR_STATS; n++)
		s.v[n] = 1000;
	for (u32 n = 0; (it = vmstat_item(n)); n++) {
		u64 v = vmstat_value(it, &s);

		if (!strcmp(it->name, "anon"))
			ASSERT_EQ(v, 4096000);
		if (!strcmp(it->name, "zswap") || !strcmp(it->name, "pgfault"))
			ASSERT_EQ(v, 1000);
		if (!strcmp(it->name, "throttled_usec"))
			ASSERT_EQ(v, 1);
		if (!strcmp(it->name, "kernel"))
			ASSERT_EQ(v, 2002 * 4096);
		if (!strcmp(it->name, "pgscan"))
			ASSERT_EQ(v, 3000);
		if (!strcmp(it->name, "file") || !strcmp(it->name, "hugetlb"))
			ASSERT_EQ(v, 0);
	}
}

TEST(subtree_sums)
{
	struct memcg_tree *t2;
	struct memcg_stats s;
	struct memcg_id a, b;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	ASSERT_EQ(memcg_tree_join(&f.meta, f.t, &t2), 0);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_stat_add(f.t, o, MEMCG_STAT_ANON, 7);
	memcg_stat_add(f.t, o, MEMCG_STAT_ANON, -2);
	memcg_stat_add(t2, handle_of(t2, b), MEMCG_STAT_ANON, 10);
	memcg_stat_add(f.t, handle_of(f.t, a), MEMCG_STAT_ANON, 100);
	ASSERT_EQ(memcg_stat_read(f.t, b, MEMCG_STAT_ANON), 15);
	ASSERT_EQ(memcg_stat_read(t2, a, MEMCG_STAT_ANON), 115);
	memcg_zswap_charge(f.t, o, 5000);
	memcg_stats_read(f.t, a, &s);
	ASSERT_EQ(s.v[MEMCG_STAT_ANON], 115);
	ASSERT_EQ(s.v[MEMCG_STAT_ZSWAP], 5000);
	ASSERT_EQ(s.zswap_pages, 2);
	/* Below zero for a moment: never shown. */
	memcg_stat_add(f.t, o, MEMCG_STAT_FRAMES, -3);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_FRAMES), 0);
	/* The other member's gauges go with it, here and after a removal. */
	memcg_tree_close(t2);
	ASSERT_EQ(memcg_stat_read(f.t, b, MEMCG_STAT_ANON), 5);
	group_drop(f.t, b);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_ANON), 105);
	memcg_stat_add(f.t, o, MEMCG_STAT_ANON, 1);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_ANON), 106);
	fixture_exit(&f);
}

/* anon + frames + kernel + unmanaged - shared is what is charged. */
TEST(overhead)
{
	struct memcg_id a;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_set_overhead(f.t, o, MEMCG_STAT_UNMANAGED, 50);
	memcg_set_overhead(f.t, o, MEMCG_STAT_KERNEL, 7);
	ASSERT_EQ(mem_of(f.t, a), 57);
	memcg_set_overhead(f.t, o, MEMCG_STAT_UNMANAGED, 20);
	memcg_set_overhead(f.t, o, MEMCG_STAT_PAGETABLES, 3);
	ASSERT_EQ(mem_of(f.t, a), 30);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_UNMANAGED), 20);
	memcg_set_overhead(f.t, o, MEMCG_STAT_KERNEL, 7);
	ASSERT_EQ(mem_of(f.t, a), 30);
	/* Others pay for some of it, but not for pages; and for no more than there is. */
	memcg_charge_force(f.t, o, 100);
	memcg_set_shared(f.t, o, 12);
	ASSERT_EQ(mem_of(f.t, a), 118);
	memcg_set_shared(f.t, o, 1000);
	ASSERT_EQ(mem_of(f.t, a), 100);
	memcg_check(f.t);
	memcg_uncharge(f.t, NULL, o, 100);
	ASSERT_EQ(mem_of(f.t, a), 0);
	memcg_set_overhead(f.t, o, MEMCG_STAT_UNMANAGED, 5);
	ASSERT_EQ(mem_of(f.t, a), 0);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_SHARED), 30);
	memcg_set_shared(f.t, o, 4);
	ASSERT_EQ(mem_of(f.t, a), 11);
	memcg_check(f.t);
	memcg_set_shared(f.t, o, 0);
	memcg_set_overhead(f.t, o, MEMCG_STAT_UNMANAGED, 0);
	memcg_set_overhead(f.t, o, MEMCG_STAT_KERNEL, 0);
	memcg_set_overhead(f.t, o, MEMCG_STAT_PAGETABLES, 0);
	ASSERT_EQ(mem_of(f.t, a), 0);
	fixture_exit(&f);
}
