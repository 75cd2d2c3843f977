/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each thing that can fail does, once, at each place where it can: nothing is
 * lost, nothing leaks, and what was refused goes through when it is tried again.
 */
#include "base/failpoint.h"
#include "lib/rig.h"
#include "lib/test.h"

#define NR 24u

static struct failpoints fps;

static enum rig_fill fill_of(u32 page)
{
	static const enum rig_fill fill[] = { RIG_TEXT, RIG_NOISE, RIG_FILLED };

	return fill[page % ARRAY_SIZE(fill)];
}

static void send_out(struct rig *r)
{
	(void)rig_unmap(r, 0, SWAP_CLUSTER_MAX);
	(void)rig_pageout(r, 0, SWAP_CLUSTER_MAX);
	(void)rig_writeback(r, 0, SWAP_CLUSTER_MAX);
	reclaim_rescue_unevictable(&r->e->reclaim, r->c, SWAP_CLUSTER_MAX);
}

/* A small life: written, out, in, changed, out, partly given back, in. */
static void live(struct rig *r)
{
	for (u32 i = 0; i < NR; i++)
		rig_write(r, 0, i, fill_of(i), i);
	send_out(r);
	atomic64_fetch_add(&lruvec_of(&r->e->lru, r->c)->age, 1000); /* clean copies */
	for (u32 i = 0; i < NR; i++)
		rig_read(r, 0, i);
	for (u32 i = 0; i < NR; i += 2)
		rig_write(r, 0, i, fill_of(i + 1), i + NR);
	send_out(r);
	send_out(r);
	for (u32 i = 0; i < NR; i += 3)
		rig_read(r, 1, i);
	rig_zap(r, 0, 0, NR / 4);
	(void)zs_compact(r->e->zswap.pool, 100);
	(void)rig_unmap(r, 0, SWAP_CLUSTER_MAX);
	for (u32 i = 0; i < NR; i++)
		rig_read(r, 0, i);
	rig_drain(r, 0);
	rig_drain(r, 1);
}

/* Rule by rule as failpoints_parse() has it; how often they fired. */
static u64 live_with(const char *rules)
{
	struct thread me = { .name = "test", .failpoints = &fps };
	struct rig *r = rig_create(0, true);
	u64 fired = 0;

	ASSERT_OK(failpoints_parse(&fps, rules));
	thread_attach(&me);
	live(r);
	thread_detach();
	for (u32 i = 0; i < fps.nr_rules; i++)
		fired += stat_read(&fps.rule[i].nr_fired);
	rig_check(r);
	rig_destroy(r);
	return fired;
}

/* At the first hit, at the second, until there are no more; how many there were. */
static u32 at_each_hit(const char *what)
{
	char rules[64];
	u32 n = 0;

	do {
		snprintf(rules, sizeof(rules), "%s@%u", what, n + 1);
	} while (live_with(rules) && ++n < 1000);
	printf("# %s: %u places\n", what, n);
	return n;
}

TEST(nothing_fails)
{
	ASSERT_EQ(live_with("no_such_point:EIO"), 0u);
}

TEST(memory_of_tables)
{
	ASSERT_GT(at_each_hit("xtable_alloc:ENOMEM"), 20u);
	ASSERT_GT(at_each_hit("os_mprotect:ENOMEM"), 2u);
}

TEST(moving_pages)
{
	ASSERT_GT(at_each_hit("uffd_move:EAGAIN"), 5u);
	ASSERT_GT(at_each_hit("uffd_move:EBUSY"), 5u);
	ASSERT_GT(at_each_hit("uffd_move:EINVAL"), 5u);
	ASSERT_GT(at_each_hit("uffd_move:ENOMEM"), 5u);
}

TEST(copying_pages)
{
	ASSERT_GT(at_each_hit("uffd_copy:EAGAIN"), 20u);
	ASSERT_GT(at_each_hit("uffd_copy:ENOMEM"), 20u);
}

/* Both ways into place refused, again and again. */
TEST(moving_and_copying)
{
	ASSERT_GT(live_with("uffd_move:EAGAIN@1/2,uffd_copy:EAGAIN@1/2"), 20u);
	ASSERT_GT(live_with("uffd_move:EAGAIN@2/3,uffd_copy:ENOMEM@1/2"), 20u);
	ASSERT_GT(live_with("uffd_move:EBUSY@1/2,uffd_copy:EAGAIN@2/2"), 20u);
}

/* The store is full after any number of objects, or refuses reads. */
TEST(store)
{
	for (u32 room = 0; room <= NR; room++) {
		struct rig *r = rig_create(0, true);

		r->store.nr_room = room;
		live(r);
		rig_check(r);
		rig_destroy(r);
	}
}
