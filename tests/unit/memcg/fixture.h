/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h - a tree to test with.
 */
#ifndef QUIRE_TESTS_UNIT_MEMCG_FIXTURE_H
#define QUIRE_TESTS_UNIT_MEMCG_FIXTURE_H

#include "lib/test.h"
#include "memcg/member.h"

#define FIXTURE_PAGES(mib) ((u64)(mib) << (20 - PAGE_SHIFT))
#define FIXTURE_UNUSED __attribute__((unused))

struct fixture {
	struct meta meta;
	struct memcg_tree *t;
};

static FIXTURE_UNUSED void fixture_init(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	ASSERT_EQ(memcg_tree_create(&f->meta, &f->t), 0);
}

/* Leave; nothing may be left of the memory. */
static FIXTURE_UNUSED void fixture_exit(struct fixture *f)
{
	memcg_check(f->t);
	memcg_tree_close(f->t);
	ASSERT_EQ(stat_read(&f->meta.bytes), 0);
}

static FIXTURE_UNUSED struct memcg_id group_make(struct memcg_tree *t, const char *path)
{
	struct memcg_id id = { 0 };

	ASSERT_EQ(memcg_create_path(t, path, &id), 0);
	return id;
}

static FIXTURE_UNUSED struct memcg_id group_find(struct memcg_tree *t, const char *path)
{
	struct memcg_id id = { 0 };

	ASSERT_EQ(memcg_lookup(t, path, &id), 0);
	return id;
}

static FIXTURE_UNUSED struct objcg_id handle_of(struct memcg_tree *t, struct memcg_id id)
{
	struct objcg_id o = { 0 };

	ASSERT_EQ(objcg_get(t, id, &o), 0);
	ASSERT_NE(o.v, 0);
	return o;
}

/* Remove and let go, as an engine does that has no lists. */
static FIXTURE_UNUSED void group_drop(struct memcg_tree *t, struct memcg_id id)
{
	struct memcg_id parent;

	ASSERT_EQ(memcg_remove(t, id, &parent), 0);
	memcg_release(t, id);
}

static FIXTURE_UNUSED u64 mem_of(struct memcg_tree *t, struct memcg_id id)
{
	return memcg_usage(t, id, COUNTER_MEMORY);
}

/* A reproducible sequence (splitmix64). */
static FIXTURE_UNUSED u64 next_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

#endif
