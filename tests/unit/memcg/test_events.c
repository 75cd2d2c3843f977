/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_events.c - hierarchical and local event counts.
 */
#include "fixture.h"

static u32 nr_upcalls;

static void note_event(void *ctx, struct memcg_id id, enum memcg_event ev)
{
	(void)ctx;
	(void)id;
	nr_upcalls += ev == MEMCG_OOM;
}

TEST(local_and_below)
{
	struct memcg_upcalls up = { .event = note_event };
	struct memcg_id a, b, c;
	struct fixture f;

	fixture_init(&f);
	memcg_tree_set_upcalls(f.t, &up);
	c = group_make(f.t, "a/b/c");
	b = group_find(f.t, "a/b");
	a = group_find(f.t, "a");
	nr_upcalls = 0;
	memcg_count_event(f.t, c, MEMCG_OOM);
	ASSERT_EQ(nr_upcalls, 4); /* c, b, a and the root */
	memcg_count_event(f.t, b, MEMCG_OOM);
	memcg_count_event(f.t, b, MEMCG_MAX);
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_OOM, false), 2);
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_OOM, true), 0);
	ASSERT_EQ(memcg_event_count(f.t, b, MEMCG_OOM, false), 2);
	ASSERT_EQ(memcg_event_count(f.t, b, MEMCG_OOM, true), 1);
	ASSERT_EQ(memcg_event_count(f.t, c, MEMCG_OOM, true), 1);
	ASSERT_EQ(memcg_event_count(f.t, c, MEMCG_MAX, false), 0);
	ASSERT_EQ(memcg_event_count(f.t, MEMCG_ROOT, MEMCG_MAX, false), 1);
	/* L6: the child's become the parent's own, the totals stay. */
	group_drop(f.t, c);
	ASSERT_EQ(memcg_event_count(f.t, b, MEMCG_OOM, true), 2);
	ASSERT_EQ(memcg_event_count(f.t, b, MEMCG_OOM, false), 2);
	group_drop(f.t, b);
	ASSERT_EQ(memcg_event_count(f.t, a, MEMCG_OOM, true), 2);
	fixture_exit(&f);
}
