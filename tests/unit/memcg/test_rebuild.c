/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rebuild.c - the holder of the tree lock was killed in the middle of a
 * change: every place it can have stopped at.
 */
#include <errno.h>

#include "fixture.h"
#include "memcg/internal.h"

/* As a killed owner leaves it: dirty. */
static void leave_dirty(struct memcg_tree *t)
{
	mutex_lock(&t->seg->lock);
	segment_change_begin(t);
	mutex_unlock(&t->seg->lock);
}

static void repair(struct memcg_tree *t)
{
	ASSERT_EQ(segment_lock(t), 0);
	segment_unlock(t);
	ASSERT_EQ(atomic32_load(&seg_head(t)->seq) & 1, 0);
	memcg_check(t);
}

TEST(links_lost)
{
	struct memcg_id a, b, c;
	struct fixture f;
	struct group *g;

	fixture_init(&f);
	c = group_make(f.t, "a/b/c");
	b = group_find(f.t, "a/b");
	a = group_find(f.t, "a");
	group_make(f.t, "a/d");
	memcg_set_protection(f.t, b, 0, 30);
	memcg_charge_force(f.t, handle_of(f.t, c), 50);
	leave_dirty(f.t);
	for (u32 i = 1; i <= 5; i++) {
		g = group_at(f.t, i);
		atomic32_store(&g->child_first, i + 3);
		atomic32_store(&g->child_last, 77777);
		atomic32_store(&g->sib_next, i);
		atomic32_store(&g->hash_next, i);
		atomic32_store(&g->objcg_first, 9);
		atomic32_store(&g->nr_descendants, 99);
	}
	memset(seg_index(f.t), 0xff, 4096);
	repair(f.t);
	ASSERT_EQ(group_find(f.t, "a/b/c").v, c.v);
	ASSERT_EQ(memcg_nr_descendants(f.t, a), 3);
	ASSERT_EQ(mem_of(f.t, a), 50);
	fixture_exit(&f);
}

/* Creation: the record is complete but not linked, or not complete. */
TEST(cut_off_creation)
{
	struct memcg_id a;
	struct fixture f;
	struct group *g;
	u32 i, j;

	fixture_init(&f);
	a = group_make(f.t, "a");
	leave_dirty(f.t);
	mutex_lock(&f.t->seg->lock);
	i = segment_alloc(f.t, SEG_GROUPS);
	g = group_of(f.t, (struct memcg_id){ i });
	memcpy(g->name, "new", 4);
	atomic32_store(&g->parent, a.v);
	atomic32_store(&g->depth, 2);
	atomic32_store(&g->state, GROUP_ONLINE);
	j = segment_alloc(f.t, SEG_GROUPS);
	memcpy(group_of(f.t, (struct memcg_id){ j })->name, "half", 5);
	(void)segment_alloc(f.t, SEG_OBJCGS);
	mutex_unlock(&f.t->seg->lock);
	repair(f.t);
	ASSERT_EQ(group_find(f.t, "a/new").v, i);
	ASSERT_EQ(memcg_nr_descendants(f.t, MEMCG_ROOT), 2);
	ASSERT_EQ(group_make(f.t, "b").v, j);
	fixture_exit(&f);
}

/* Removal: OFFLINE is written, handles and counts are not moved yet. */
TEST(cut_off_removal)
{
	struct memcg_id a, b;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_charge_force(f.t, o, 9);
	memcg_set_protection(f.t, b, 3, 4);
	leave_dirty(f.t);
	atomic64_store(&group_of(f.t, b)->removal, 1);
	atomic32_store(&group_of(f.t, b)->state, GROUP_OFFLINE);
	repair(f.t);
	ASSERT_EQ(objcg_memcg(f.t, o).v, a.v);
	ASSERT_EQ(mem_of(f.t, a), 9);
	ASSERT_EQ(memcg_nr_descendants(f.t, a), 0);
	ASSERT_EQ(memcg_nr_dying(f.t), 1);
	ASSERT_EQ(memcg_next_offline(f.t, (struct memcg_id){ 0 }).v, b.v);
	memcg_release(f.t, b);
	ASSERT_EQ(memcg_nr_dying(f.t), 0);
	memcg_uncharge(f.t, NULL, o, 9);
	fixture_exit(&f);
}

/* What cannot be true is dropped, its charges go to the root. */
TEST(unbelievable_records)
{
	struct memcg_id a, b, c;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	c = group_make(f.t, "c");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_charge_force(f.t, o, 9);
	leave_dirty(f.t);
	atomic32_store(&group_at(f.t, a.v)->parent, b.v); /* a cycle */
	group_at(f.t, c.v)->name[0] = '/';
	ASSERT_EQ(segment_lock(f.t), 0);
	segment_unlock(f.t);
	ASSERT_FALSE(memcg_online(f.t, a));
	ASSERT_FALSE(memcg_online(f.t, b));
	ASSERT_FALSE(memcg_online(f.t, c));
	ASSERT_EQ(objcg_memcg(f.t, o).v, MEMCG_ROOT.v);
	ASSERT_EQ(memcg_recount(f.t), 0);
	memcg_check(f.t);
	ASSERT_EQ(mem_of(f.t, MEMCG_ROOT), 9);
	fixture_exit(&f);
}

/* Killed between the counter and the total: too much, until recounted. */
TEST(recount)
{
	struct memcg_id a, b;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_set_protection(f.t, b, 0, 100);
	memcg_charge_force(f.t, o, 9);
	(void)page_counter_charge(f.t, b.v, COUNTER_MEMORY, 64, 0);
	(void)page_counter_charge(f.t, b.v, COUNTER_SWAP, 5, a.v);
	ASSERT_EQ(mem_of(f.t, a), 73);
	ASSERT_EQ(memcg_recount(f.t), 0);
	ASSERT_EQ(mem_of(f.t, a), 9);
	ASSERT_EQ(memcg_usage(f.t, b, COUNTER_SWAP), 0);
	fixture_exit(&f);
}

static void drifted(void)
{
	struct fixture f;

	fixture_init(&f);
	(void)page_counter_charge(f.t, group_make(f.t, "a").v, COUNTER_MEMORY, 1, 0);
	memcg_check(f.t);
}

TEST(check_finds_drift)
{
	char text[512];
	int status = test_child(drifted, text, sizeof(text));

	ASSERT_NE(status, 0);
	ASSERT_TRUE(strstr(text, "memory is 1, should be 0"));
}
