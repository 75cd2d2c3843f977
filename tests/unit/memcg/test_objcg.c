/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_objcg.c - charge handles: shared, re-pointed, freed.
 */
#include <errno.h>

#include "fixture.h"
#include "memcg/internal.h"

TEST(one_per_group_and_member)
{
	struct memcg_tree *t2;
	struct memcg_id a;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	ASSERT_EQ(memcg_tree_join(&f.meta, f.t, &t2), 0);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	ASSERT_EQ(handle_of(f.t, a).v, o.v);
	ASSERT_NE(objcg_of(t2, handle_of(t2, a)), objcg_of(f.t, o));
	ASSERT_NE(handle_of(f.t, MEMCG_ROOT).v, o.v);
	ASSERT_EQ(objcg_memcg(f.t, o).v, a.v);
	memcg_tree_close(t2);
	fixture_exit(&f);
}

TEST(follows_the_parent)
{
	struct memcg_id a, b, c, id;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	c = group_make(f.t, "a/b/c");
	b = group_find(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, c);
	ASSERT_EQ(memcg_remove(f.t, c, &id), 0);
	ASSERT_EQ(objcg_memcg(f.t, o).v, b.v);
	/* Of a removed group: the heir's. */
	ASSERT_EQ(handle_of(f.t, c).v, o.v);
	ASSERT_EQ(memcg_remove(f.t, b, &id), 0);
	ASSERT_EQ(objcg_memcg(f.t, o).v, a.v);
	ASSERT_EQ(handle_of(f.t, c).v, o.v);
	memcg_check(f.t);
	fixture_exit(&f);
}

/* Create, charge, remove, again and again: no record is left behind. */
TEST(nothing_leaks)
{
	struct memcg_id a, id;
	struct objcg_id o;
	struct fixture f;
	u64 bytes = 0;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 n = 0; n < 2000; n++) {
		ASSERT_EQ(memcg_create(f.t, a, "job", &id), 0);
		o = handle_of(f.t, id);
		memcg_charge_force(f.t, o, 3);
		memcg_stat_add(f.t, o, MEMCG_STAT_PGFAULT, 2);
		group_drop(f.t, id);
		memcg_uncharge(f.t, NULL, o, 3);
		objcg_put(f.t, o);
		if (n == 10)
			bytes = stat_read(&f.meta.bytes);
	}
	ASSERT_EQ(stat_read(&f.meta.bytes), bytes);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_PGFAULT), 4000);
	fixture_exit(&f);
}

/* A handle that still carries charges is kept, and found by a later put. */
TEST(kept_while_charged)
{
	struct memcg_id a, b, parent;
	struct objcg_id o, p;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_charge_force(f.t, o, 5);
	ASSERT_EQ(memcg_remove(f.t, b, &parent), 0);
	objcg_put(f.t, o);
	ASSERT_EQ(mem_of(f.t, a), 5);
	ASSERT_EQ(objcg_memcg(f.t, o).v, a.v);
	p = handle_of(f.t, a); /* any handle of the member serves */
	ASSERT_EQ(p.v, o.v);
	memcg_uncharge(f.t, NULL, o, 5);
	objcg_put(f.t, p);
	memcg_release(f.t, b);
	ASSERT_EQ(mem_of(f.t, a), 0);
	fixture_exit(&f);
}

/* A group that inherits many: each is freed when it is put, wherever it is listed. */
TEST(many_inherited)
{
	enum { MANY = 300 };
	struct memcg_id a, id[MANY];
	struct objcg_id o[MANY];
	struct fixture f;
	char name[16];
	u64 bytes = 0;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 round = 0; round < 20; round++) {
		for (u32 n = 0; n < MANY; n++) {
			snprintf(name, sizeof(name), "job%u", n);
			ASSERT_EQ(memcg_create(f.t, a, name, &id[n]), 0);
			o[n] = handle_of(f.t, id[n]);
			memcg_stat_add(f.t, o[n], MEMCG_STAT_PGFAULT, 1);
		}
		for (u32 n = 0; n < MANY; n++)
			group_drop(f.t, id[n]);
		for (u32 n = 0; n < MANY; n++)
			objcg_put(f.t, o[n]);
		if (round == 1)
			bytes = stat_read(&f.meta.bytes);
	}
	ASSERT_EQ(stat_read(&f.meta.bytes), bytes);
	ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_PGFAULT), 20 * MANY);
	fixture_exit(&f);
}
