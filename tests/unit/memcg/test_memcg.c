/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memcg.c - the tree: names, look-up, walks, removal in any order.
 */
#include <errno.h>

#include "fixture.h"
#include "memcg/internal.h"

static const char *path_of(struct memcg_tree *t, struct memcg_id id)
{
	static char buf[1200];
	struct fmt f;

	fmt_init(&f, buf, sizeof(buf));
	memcg_path(t, id, &f);
	return buf;
}

TEST(root)
{
	struct fixture f;
	struct memcg_id id;

	fixture_init(&f);
	ASSERT_TRUE(memcg_online(f.t, MEMCG_ROOT));
	ASSERT_EQ(memcg_parent(f.t, MEMCG_ROOT).v, 0);
	ASSERT_EQ(memcg_lookup(f.t, "", &id), 0);
	ASSERT_EQ(id.v, MEMCG_ROOT.v);
	ASSERT_EQ(memcg_lookup(f.t, "/", &id), 0);
	ASSERT_EQ(id.v, MEMCG_ROOT.v);
	ASSERT_STR_EQ(path_of(f.t, MEMCG_ROOT), "/");
	ASSERT_EQ(memcg_remove(f.t, MEMCG_ROOT, &id), -EBUSY);
	ASSERT_EQ(memcg_nr_descendants(f.t, MEMCG_ROOT), 0);
	fixture_exit(&f);
}

TEST(create_and_find)
{
	struct fixture f;
	struct memcg_id web, api, id;

	fixture_init(&f);
	ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, "web", &web), 0);
	ASSERT_EQ(memcg_create(f.t, web, "api", &api), 0);
	ASSERT_EQ(memcg_lookup(f.t, "/web//api/", &id), 0);
	ASSERT_EQ(id.v, api.v);
	ASSERT_EQ(memcg_lookup(f.t, "api", &id), -ENOENT);
	ASSERT_STR_EQ(path_of(f.t, api), "/web/api");
	ASSERT_STR_EQ(memcg_name(f.t, api), "api");
	ASSERT_EQ(memcg_parent(f.t, api).v, web.v);
	ASSERT_TRUE(memcg_is_descendant(f.t, api, web));
	ASSERT_TRUE(memcg_is_descendant(f.t, api, api));
	ASSERT_FALSE(memcg_is_descendant(f.t, web, api));
	ASSERT_EQ(memcg_nr_descendants(f.t, MEMCG_ROOT), 2);
	ASSERT_EQ(memcg_create_path(f.t, "web/api/v1", &id), 0);
	ASSERT_EQ(memcg_parent(f.t, id).v, api.v);
	ASSERT_LT(id.v, memcg_nr_max(f.t));
	fixture_exit(&f);
}

TEST(create_errors)
{
	static const char *const bad[] = { "", ".", "..", "a b", "a/b", "\xc3\xa4", "a\n" };
	struct fixture f;
	struct memcg_id id, a;
	char name[80];

	fixture_init(&f);
	for (size_t n = 0; n < ARRAY_SIZE(bad); n++)
		ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, bad[n], &id), -EINVAL);
	memset(name, 'x', sizeof(name));
	name[64] = 0;
	ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, name, &id), -ENAMETOOLONG);
	name[63] = 0;
	ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, name, &id), 0);
	ASSERT_STR_EQ(memcg_name(f.t, id), name);
	ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, "A-z_0.9@x", &a), 0);
	ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, "A-z_0.9@x", &id), -EEXIST);
	ASSERT_EQ(memcg_create(f.t, a, "A-z_0.9@x", &id), 0);
	ASSERT_EQ(memcg_create(f.t, (struct memcg_id){ 4000 }, "x", &id), -ENOENT);
	ASSERT_EQ(memcg_create(f.t, (struct memcg_id){ UINT32_MAX }, "x", &id), -ENOENT);
	ASSERT_EQ(memcg_create(f.t, (struct memcg_id){ 0 }, "x", &id), -ENOENT);
	fixture_exit(&f);
}

TEST(depth)
{
	struct fixture f;
	struct memcg_id id = MEMCG_ROOT, child;

	fixture_init(&f);
	for (int n = 0; n < MEMCG_DEPTH_MAX; n++) {
		ASSERT_EQ(memcg_create(f.t, id, "d", &child), 0);
		id = child;
	}
	ASSERT_EQ(memcg_create(f.t, id, "d", &child), -E2BIG);
	ASSERT_EQ(memcg_nr_descendants(f.t, MEMCG_ROOT), MEMCG_DEPTH_MAX);
	ASSERT_EQ(memcg_next(f.t, MEMCG_ROOT, id).v, 0);
	fixture_exit(&f);
}

TEST(max_descendants_and_depth)
{
	struct fixture f;
	struct memcg_id a, id;

	fixture_init(&f);
	a = group_make(f.t, "a");
	memcg_set_max_descendants(f.t, a, 2);
	group_make(f.t, "a/x/y");
	ASSERT_EQ(memcg_create_path(f.t, "a/z", &id), -EAGAIN);
	ASSERT_EQ(memcg_create_path(f.t, "a/x/z", &id), -EAGAIN);
	memcg_set_max_descendants(f.t, a, UINT32_MAX);
	memcg_set_max_depth(f.t, a, 2);
	ASSERT_EQ(memcg_create_path(f.t, "a/x/y/z", &id), -EAGAIN);
	ASSERT_EQ(memcg_create_path(f.t, "a/x/z", &id), 0);
	memcg_set_max_depth(f.t, a, 0);
	ASSERT_EQ(memcg_create_path(f.t, "a/w", &id), -EAGAIN);
	fixture_exit(&f);
}

TEST(walk_is_depth_first)
{
	static const char *const want[] = { "/a", "/a/b", "/a/b/c", "/a/d" };
	struct fixture f;
	struct memcg_id id = { 0 }, a;
	u32 n = 0;

	fixture_init(&f);
	group_make(f.t, "a/b/c");
	group_make(f.t, "e/f");
	group_make(f.t, "a/d");
	a = group_find(f.t, "a");
	while ((id = memcg_next(f.t, a, id)).v)
		ASSERT_STR_EQ(path_of(f.t, id), want[n++]);
	ASSERT_EQ(n, 4);
	for (n = 0; (id = memcg_next(f.t, MEMCG_ROOT, id)).v; n++)
		;
	ASSERT_EQ(n, 7);
	fixture_exit(&f);
}

/* A walk that stands on a group that is removed goes on from there. */
TEST(walk_over_removed)
{
	struct fixture f;
	struct memcg_id b, c, parent;

	fixture_init(&f);
	group_make(f.t, "a");
	b = group_make(f.t, "b");
	c = group_make(f.t, "c");
	ASSERT_EQ(memcg_remove(f.t, b, &parent), 0);
	ASSERT_EQ(memcg_next(f.t, MEMCG_ROOT, b).v, c.v);
	ASSERT_EQ(memcg_next(f.t, b, b).v, 0);
	ASSERT_EQ(memcg_remove(f.t, c, &parent), 0);
	ASSERT_EQ(memcg_next(f.t, MEMCG_ROOT, b).v, 0);
	memcg_release(f.t, b);
	memcg_release(f.t, c);
	fixture_exit(&f);
}

TEST(remove_refusals)
{
	struct fixture f;
	struct memcg_id a, b, parent;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	ASSERT_EQ(memcg_remove(f.t, a, &parent), -EBUSY);
	ASSERT_EQ(member_set_home(f.t, b), 0);
	ASSERT_EQ(memcg_remove(f.t, b, &parent), -EBUSY);
	ASSERT_EQ(member_set_home(f.t, MEMCG_ROOT), 0);
	/* L7: memory is no reason to refuse. */
	memcg_charge_force(f.t, handle_of(f.t, b), 100);
	ASSERT_EQ(memcg_remove(f.t, b, &parent), 0);
	ASSERT_EQ(parent.v, a.v);
	ASSERT_EQ(memcg_remove(f.t, b, &parent), -ENOENT);
	ASSERT_EQ(member_set_home(f.t, b), -ENOENT);
	ASSERT_EQ(mem_of(f.t, a), 100);
	fixture_exit(&f);
}

/* The id stays taken until release; then it is used again, clean. */
TEST(release_makes_reusable)
{
	struct fixture f;
	struct memcg_id a, b, parent;

	fixture_init(&f);
	a = group_make(f.t, "a");
	memcg_set_max(f.t, a, COUNTER_MEMORY, 7);
	memcg_set_protection(f.t, a, 3, 4);
	memcg_set_flag(f.t, a, MEMCG_FLAG_OOM_GROUP, true);
	ASSERT_EQ(memcg_remove(f.t, a, &parent), 0);
	ASSERT_FALSE(memcg_online(f.t, a));
	ASSERT_EQ(memcg_nr_dying(f.t), 1);
	ASSERT_EQ(memcg_next_offline(f.t, (struct memcg_id){ 0 }).v, a.v);
	ASSERT_EQ(memcg_next_offline(f.t, a).v, 0);
	b = group_make(f.t, "a");
	ASSERT_NE(b.v, a.v);
	memcg_release(f.t, a);
	ASSERT_EQ(memcg_nr_dying(f.t), 0);
	ASSERT_EQ(memcg_next_offline(f.t, (struct memcg_id){ 0 }).v, 0);
	b = group_make(f.t, "b");
	ASSERT_EQ(b.v, a.v);
	ASSERT_EQ(memcg_limit(f.t, b, COUNTER_MEMORY), PAGE_COUNTER_MAX);
	ASSERT_EQ(memcg_min(f.t, b), 0);
	ASSERT_FALSE(memcg_flag(f.t, b, MEMCG_FLAG_OOM_GROUP));
	ASSERT_TRUE(memcg_flag(f.t, b, MEMCG_FLAG_ZSWAP_WRITEBACK));
	fixture_exit(&f);
}

/* S3, L6: whatever the order in which a subtree goes, ancestors keep all. */
static void remove_in_order(const char *const order[3], bool release_late)
{
	static const char *const path[] = { "p/x", "p/x/y", "p/z" };
	struct memcg_id id[3], parent;
	struct objcg_id o[3];
	struct fixture f;
	struct memcg_id p;

	fixture_init(&f);
	for (int n = 0; n < 3; n++) {
		id[n] = group_make(f.t, path[n]);
		o[n] = handle_of(f.t, id[n]);
		memcg_charge_force(f.t, o[n], 10u << n);
		ASSERT_EQ(memcg_swap_try_charge(f.t, o[n], 1u << n), 0);
		memcg_zswap_charge(f.t, o[n], 100u << n);
		memcg_stat_add(f.t, o[n], MEMCG_STAT_PGFAULT, 1 << n);
		memcg_count_event(f.t, id[n], MEMCG_HIGH);
	}
	p = group_find(f.t, "p");
	for (int n = 0; n < 3; n++) {
		ASSERT_EQ(memcg_remove(f.t, group_find(f.t, order[n]), &parent), 0);
		memcg_check(f.t);
		ASSERT_EQ(mem_of(f.t, p), 10 + 20 + 40 + 3);
		ASSERT_EQ(memcg_usage(f.t, p, COUNTER_SWAP), 7);
		ASSERT_EQ(memcg_zswap_bytes(f.t, p), 700);
		ASSERT_EQ(memcg_stat_read(f.t, p, MEMCG_STAT_PGFAULT), 7);
		ASSERT_EQ(memcg_event_count(f.t, p, MEMCG_HIGH, false), 3);
		if (!release_late)
			memcg_release(f.t, memcg_next_offline(f.t, (struct memcg_id){ 0 }));
	}
	ASSERT_EQ(memcg_event_count(f.t, p, MEMCG_HIGH, true), 3);
	for (int n = 0; n < 3; n++) {
		ASSERT_EQ(objcg_memcg(f.t, o[n]).v, p.v);
		memcg_uncharge(f.t, NULL, o[n], 10u << n);
		memcg_swap_uncharge(f.t, o[n], 1u << n);
		memcg_zswap_uncharge(f.t, o[n], 100u << n);
		objcg_put(f.t, o[n]);
	}
	ASSERT_EQ(mem_of(f.t, p), 0);
	ASSERT_EQ(memcg_stat_read(f.t, p, MEMCG_STAT_PGFAULT), 7);
	for (struct memcg_id i = { 0 }; (i = memcg_next_offline(f.t, i)).v;)
		memcg_release(f.t, i);
	ASSERT_EQ(memcg_nr_dying(f.t), 0);
	fixture_exit(&f);
}

TEST(removal_orders)
{
	static const char *const orders[][3] = {
		{ "p/x/y", "p/x", "p/z" },
		{ "p/x/y", "p/z", "p/x" },
		{ "p/z", "p/x/y", "p/x" },
	};

	for (size_t n = 0; n < ARRAY_SIZE(orders); n++) {
		remove_in_order(orders[n], false);
		remove_in_order(orders[n], true);
	}
}

/* A dying child of a group that dies and is reused leads to the grandparent. */
TEST(dying_child_outlives_its_parent)
{
	struct memcg_id p, c, parent, again;
	struct memcg_tree *t2;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	ASSERT_EQ(memcg_tree_join(&f.meta, f.t, &t2), 0);
	c = group_make(f.t, "g/p/c");
	p = group_find(f.t, "g/p");
	o = handle_of(t2, c);
	ASSERT_EQ(memcg_remove(f.t, c, &parent), 0);
	objcg_put(t2, o); /* it has none of p's */
	memcg_release(f.t, c);
	ASSERT_EQ(memcg_nr_dying(f.t), 1);
	ASSERT_EQ(memcg_parent(f.t, c).v, p.v);
	ASSERT_EQ(memcg_remove(f.t, p, &parent), 0);
	memcg_release(f.t, p);
	again = group_make(f.t, "elsewhere");
	ASSERT_EQ(again.v, p.v);
	ASSERT_EQ(memcg_parent(f.t, c).v, group_find(f.t, "g").v);
	memcg_count_event(f.t, c, MEMCG_LOW);
	ASSERT_EQ(memcg_event_count(f.t, again, MEMCG_LOW, false), 0);
	ASSERT_EQ(memcg_event_count(f.t, group_find(f.t, "g"), MEMCG_LOW, true), 1);
	memcg_release(t2, c);
	ASSERT_EQ(memcg_nr_dying(f.t), 0);
	memcg_tree_close(t2);
	fixture_exit(&f);
}

/* Both are dying: what is counted on the child arrives above its parent. */
TEST(dying_child_of_a_dying_parent)
{
	struct memcg_id p, c, parent;
	struct fixture f;

	fixture_init(&f);
	c = group_make(f.t, "g/p/c");
	p = group_find(f.t, "g/p");
	ASSERT_EQ(memcg_remove(f.t, c, &parent), 0);
	ASSERT_EQ(memcg_remove(f.t, p, &parent), 0);
	ASSERT_EQ(memcg_parent(f.t, c).v, group_find(f.t, "g").v);
	memcg_count_event(f.t, c, MEMCG_LOW);
	ASSERT_EQ(memcg_event_count(f.t, group_find(f.t, "g"), MEMCG_LOW, true), 1);
	memcg_check(f.t);
	memcg_release(f.t, c);
	ASSERT_EQ(memcg_nr_dying(f.t), 1);
	memcg_release(f.t, p);
	ASSERT_EQ(memcg_nr_dying(f.t), 0);
	fixture_exit(&f);
}
