/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_protection.c - effective min and low (algorithms.md 4.4).
 */
#include "fixture.h"

#define GIB_PAGES(tenths) ((u64)(tenths)*GIB / 10 >> PAGE_SHIFT)

struct member_of {
	const char *path;
	u64 low, usage; /* tenths of GiB */
};

static void build(struct fixture *f, const struct member_of *m, size_t nr)
{
	for (size_t n = 0; n < nr; n++) {
		struct memcg_id id = group_make(f->t, m[n].path);

		memcg_set_protection(f->t, id, GIB_PAGES(m[n].low), GIB_PAGES(m[n].low));
		memcg_charge_force(f->t, handle_of(f->t, id), (u32)GIB_PAGES(m[n].usage));
	}
}

static u64 elow(struct fixture *f, const char *root, const char *path)
{
	struct memcg_protection p;

	memcg_protection(f->t, group_find(f->t, root), group_find(f->t, path), &p);
	ASSERT_EQ(p.emin, p.elow);
	return p.elow;
}

/*
 * The kernel's example: A low 2G; B 3G of 2G used, C 1G of 2G, D 0 of 2G, E 10G
 * of nothing.  B and C share A's 2G in proportion 2 to 1.
 */
static const struct member_of kernel_example[] = {
	{ "A", 20, 0 }, { "A/B", 30, 20 }, { "A/C", 10, 20 }, { "A/D", 0, 20 }, { "A/E", 100, 0 },
};

TEST(overcommitted)
{
	struct fixture f;

	fixture_init(&f);
	build(&f, kernel_example, ARRAY_SIZE(kernel_example));
	ASSERT_EQ(elow(&f, "/", "A"), GIB_PAGES(20));
	ASSERT_EQ(elow(&f, "/", "A/B"), GIB_PAGES(20) * 2 / 3);
	ASSERT_EQ(elow(&f, "/", "A/C"), GIB_PAGES(20) / 3);
	ASSERT_EQ(elow(&f, "/", "A/D"), 0);
	ASSERT_EQ(elow(&f, "/", "A/E"), 0);
	fixture_exit(&f);
}

/* With A as the target its own protection does not matter, B's and C's do. */
TEST(target_is_never_protected)
{
	struct fixture f;

	fixture_init(&f);
	build(&f, kernel_example, ARRAY_SIZE(kernel_example));
	ASSERT_EQ(elow(&f, "A", "A"), 0);
	ASSERT_EQ(elow(&f, "A", "A/B"), GIB_PAGES(30));
	ASSERT_EQ(elow(&f, "A", "A/C"), GIB_PAGES(10));
	ASSERT_EQ(elow(&f, "A/B", "A/C"), 0); /* not below the target */
	ASSERT_EQ(elow(&f, "A/B", "A"), 0);
	fixture_exit(&f);
}

TEST(undercommitted)
{
	static const struct member_of m[] = {
		{ "A", 40, 0 },
		{ "A/B", 10, 20 },
		{ "A/C", 5, 30 },
	};
	struct fixture f;

	fixture_init(&f);
	build(&f, m, ARRAY_SIZE(m));
	memcg_set_recursiveprot(f.t, false);
	ASSERT_EQ(elow(&f, "/", "A/B"), GIB_PAGES(10));
	ASSERT_EQ(elow(&f, "/", "A/C"), GIB_PAGES(5));
	/* The unclaimed 2.5G of 4G by unprotected usage: 1.0 of 3.5, 2.5 of 3.5. */
	memcg_set_recursiveprot(f.t, true);
	ASSERT_EQ(elow(&f, "/", "A/B"), GIB_PAGES(10) + GIB_PAGES(25) * 10 / 35);
	ASSERT_EQ(elow(&f, "/", "A/C"), GIB_PAGES(5) + GIB_PAGES(25) * 25 / 35);
	fixture_exit(&f);
}

/* recursiveprot: nobody below asks, all share by usage; down two levels. */
TEST(passes_down_the_tree)
{
	static const struct member_of m[] = {
		{ "A", 30, 0 },
		{ "A/B", 0, 20 },
		{ "A/C/D", 0, 40 },
	};
	struct fixture f;

	fixture_init(&f);
	build(&f, m, ARRAY_SIZE(m));
	ASSERT_EQ(elow(&f, "/", "A/B"), GIB_PAGES(10));
	ASSERT_EQ(elow(&f, "/", "A/C"), GIB_PAGES(20));
	ASSERT_EQ(elow(&f, "/", "A/C/D"), GIB_PAGES(20));
	memcg_set_recursiveprot(f.t, false);
	ASSERT_EQ(elow(&f, "/", "A/B"), 0);
	ASSERT_EQ(elow(&f, "/", "A/C/D"), 0);
	fixture_exit(&f);
}

/* "max" at the top protects everything and overflows nothing. */
TEST(unlimited_protection)
{
	static const struct member_of m[] = { { "A", 0, 0 },
					      { "A/B", 0, 20 },
					      { "A/C", 0, 160000 } };
	struct fixture f;

	fixture_init(&f);
	build(&f, m, ARRAY_SIZE(m));
	memcg_set_protection(f.t, group_find(f.t, "A"), PAGE_COUNTER_MAX, PAGE_COUNTER_MAX);
	ASSERT_EQ(elow(&f, "/", "A/B"), GIB_PAGES(20));
	ASSERT_EQ(elow(&f, "/", "A/C"), GIB_PAGES(160000));
	memcg_set_protection(f.t, group_find(f.t, "A/B"), PAGE_COUNTER_MAX, PAGE_COUNTER_MAX);
	ASSERT_EQ(elow(&f, "/", "A/B"), GIB_PAGES(20));
	fixture_exit(&f);
}

/* The sums follow usage and settings; a removed group claims nothing. */
TEST(sums_follow)
{
	struct memcg_id a, b, parent;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "A/B");
	a = group_make(f.t, "A/C");
	memcg_set_protection(f.t, group_find(f.t, "A"), 0, 100);
	o = handle_of(f.t, b);
	memcg_set_protection(f.t, b, UINT64_MAX, 80);
	memcg_set_protection(f.t, a, UINT64_MAX, 80);
	memcg_charge_force(f.t, handle_of(f.t, a), 200);
	memcg_charge_force(f.t, o, 70);
	memcg_check(f.t);
	memcg_uncharge(f.t, NULL, o, 50);
	memcg_check(f.t);
	memcg_charge_force(f.t, o, 500);
	memcg_set_protection(f.t, b, UINT64_MAX, 40);
	memcg_check(f.t);
	ASSERT_EQ(memcg_low(f.t, b), 40);
	ASSERT_EQ(memcg_min(f.t, b), 0);
	ASSERT_EQ(memcg_remove(f.t, b, &parent), 0);
	memcg_check(f.t);
	ASSERT_EQ(memcg_low(f.t, b), 0);
	memcg_release(f.t, b);
	fixture_exit(&f);
}
