/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_writeback.c - whose compressed pages go to the store, and how it ends.
 *
 * cgroup-v2: memory.zswap.max, memory.zswap.writeback.  The rig's /p/c and /p/d, and /q
 * beside them; the engine's own writeback thread does the work.
 */
#include <errno.h>

#include "lib/rig.h"
#include "lib/test.h"

#define C 0u /* first page of each group */
#define D 64u
#define Q 128u
#define NR 48u /* pages of each, three and a half compressed; more than one batch */

static struct rig *r;
static struct memcg_id q;

/* NR compressed pages of group id. */
static void make_pool(u32 first, struct memcg_id id)
{
	struct memcg_id c = r->c;
	struct objcg_id o;

	ASSERT_OK(objcg_get(r->e->tree, id, &o));
	rig_assign(r, first, NR, o);
	r->c = id; /* what the rig reclaims from */
	rig_make(r, first, NR, RIG_TEXT, RIG_POOL);
	r->c = c;
}

static void start(void)
{
	r = rig_create(0, true);
	ASSERT_OK(memcg_create(r->e->tree, MEMCG_ROOT, "q", &q));
	make_pool(C, r->c);
	make_pool(D, r->d);
	make_pool(Q, q);
}

static u32 nr_stored(u32 first)
{
	u32 nr = 0;

	for (u32 i = first; i < first + NR; i++)
		nr += rig_state(r, i) == RIG_STORE;
	return nr;
}

static const struct store_ops *real_ops;

/* What the thread does last, before it sleeps. */
static u64 stop_there(struct store *s, u64 bytes, const struct store_clean_ops *up)
{
	atomic32_store(&r->e->reclaim.stop, 1);
	event_signal(&r->e->reclaim.trim);
	return real_ops->clean(s, bytes, up);
}

/* The thread looks at all groups, once. */
static void write_back(void)
{
	struct task *t = &r->e->writeback_task;
	struct store_ops ops;

	real_ops = r->store.store.ops;
	ops = *real_ops;
	ops.clean = stop_there;
	r->store.store.ops = &ops;
	t->thread.arg = &r->e->reclaim;
	t->buf = r->e->writeback_buf;
	kswapd_writeback_main(&t->thread);
	r->store.store.ops = real_ops;
	atomic32_store(&r->e->reclaim.stop, 0);
}

static void set_max(struct memcg_id id, u64 pages)
{
	memcg_set_max(r->e->tree, id, COUNTER_ZSWAP, pages);
}

static u64 pool_of(struct memcg_id id)
{
	return memcg_zswap_bytes(r->e->tree, id);
}

static void finish(void)
{
	rig_zap(r, 0, Q, NR); /* not below /p, where the rig counts */
	rig_assign(r, Q, NR, r->objcg);
	for (u32 i = 0; i < RIG_PAGES; i++)
		if (r->want[i].fill != RIG_ABSENT)
			rig_read(r, 1, i);
	rig_drain(r, 1);
	rig_check(r);
	rig_destroy(r);
}

/* What is cold is made denser, once; it stays the coldest, and goes to the store first. */
TEST(repacked)
{
	struct zswap *z;
	u64 before, in_pool;

	start();
	z = &r->e->zswap;
	in_pool = ilist_peek_nr(&lruvec_of(&r->e->lru, r->c)->zlru);
	ASSERT_EQ(rig_repack(r, NR), 0u); /* it has just come */
	rig_make_cold(r);
	before = pool_of(r->c);
	ASSERT_EQ(rig_repack(r, 5), 5u);
	ASSERT_EQ(rig_repack(r, NR), in_pool - 5);
	ASSERT_EQ(rig_repack(r, NR), 0u); /* nor again */
	ASSERT_EQ(ilist_peek_nr(&lruvec_of(&r->e->lru, r->c)->zlru), in_pool);
	ASSERT_GT(stat_read(&z->nr_repacked), 0ull);
	ASSERT_EQ(pool_of(r->c), before - stat_read(&z->bytes_repacked));
	rig_zap(r, 0, C, 1); /* the coldest, where the search begins */
	rig_make(r, C, 1, RIG_TEXT, RIG_POOL);
	ASSERT_EQ(rig_repack(r, NR), 0u);
	ASSERT_EQ(rig_writeback(r, 0, 4), 4);
	ASSERT_EQ(nr_stored(C), 4u);
	ASSERT_EQ(rig_state(r, C), RIG_POOL); /* the youngest */
	finish();
}

/* Its oldest go, those of nobody else. */
TEST(limit_of_one_group)
{
	start();
	set_max(r->c, 2);
	write_back();
	ASSERT_LE(pool_of(r->c), 2 * PAGE_SIZE);
	ASSERT_GT(nr_stored(C), 0u);
	ASSERT_EQ(nr_stored(D) + nr_stored(Q), 0u);
	finish();
}

/* Of all below the group whose limit it is; not of its neighbour. */
TEST(limit_of_the_parent)
{
	start();
	set_max(r->p, 4);
	write_back();
	ASSERT_LE(pool_of(r->p), 4 * PAGE_SIZE);
	ASSERT_GT(nr_stored(C), 0u);
	ASSERT_GT(nr_stored(D), 0u);
	ASSERT_EQ(nr_stored(Q), 0u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWPWB), nr_stored(C) + nr_stored(D));
	finish();
}

/* Usage exactly at the limit refuses what comes: then the oldest make room. */
TEST(full_pool_makes_room)
{
	struct memcg_id over;

	start();
	set_max(r->c, pool_of(r->c) / PAGE_SIZE);
	ASSERT_FALSE(memcg_zswap_may(r->e->tree, r->objcg, &over));
	write_back();
	ASSERT_TRUE(memcg_zswap_may(r->e->tree, r->objcg, &over));
	ASSERT_EQ(nr_stored(D) + nr_stored(Q), 0u);
	finish();
}

/* writeback 0 of one group: the others below the limit give all the same. */
TEST(forbidden_for_the_longest)
{
	start();
	memcg_set_flag(r->e->tree, r->d, MEMCG_FLAG_ZSWAP_WRITEBACK, false);
	set_max(r->c, 2); /* now d has most */
	write_back();
	ASSERT_LT(pool_of(r->c), pool_of(r->d));
	set_max(r->p, 1);
	write_back();
	ASSERT_EQ(nr_stored(C), NR);
	ASSERT_EQ(nr_stored(D) + nr_stored(Q), 0u);
	finish();
}

/* Anywhere above forbids it, wherever the limit is. */
TEST(forbidden_above)
{
	for (u32 i = 0; i < 3; i++) {
		struct memcg_id at;

		start();
		at = i == 0 ? r->c : i == 1 ? r->p : MEMCG_ROOT;
		memcg_set_flag(r->e->tree, at, MEMCG_FLAG_ZSWAP_WRITEBACK, false);
		set_max(r->c, 0);
		write_back();
		ASSERT_EQ(nr_stored(C), 0u);
		memcg_set_flag(r->e->tree, at, MEMCG_FLAG_ZSWAP_WRITEBACK, true);
		write_back();
		ASSERT_EQ(nr_stored(C), NR);
		ASSERT_EQ(nr_stored(D) + nr_stored(Q), 0u);
		finish();
	}
}

/* What another member of the group has compressed counts: ours go, it is refused too. */
TEST(members_share_the_limit)
{
	struct memcg_tree *other;
	struct objcg_id o, their;
	struct memcg_id over;

	start();
	ASSERT_OK(memcg_tree_join(&r->e->mm.meta, r->e->tree, &other));
	ASSERT_OK(objcg_get(other, r->c, &their));
	set_max(r->c, 8);
	ASSERT_TRUE(memcg_zswap_may(other, their, &over));
	memcg_zswap_charge(other, their, 5 * PAGE_SIZE);
	ASSERT_FALSE(memcg_zswap_may(other, their, &over));
	ASSERT_OK(objcg_get(r->e->tree, r->c, &o));
	ASSERT_FALSE(memcg_zswap_may(r->e->tree, o, &over));
	ASSERT_EQ(over.v, r->c.v);
	write_back();
	ASSERT_TRUE(memcg_zswap_may(other, their, &over));
	ASSERT_GT(nr_stored(C), 0u);
	ASSERT_EQ(nr_stored(D) + nr_stored(Q), 0u);
	memcg_zswap_uncharge(other, their, 5 * PAGE_SIZE);
	objcg_put(other, their);
	memcg_tree_close(other);
	finish();
}

/* ---- how it ends ------------------------------------------------------------------- */

static u64 count_of(enum memcg_stat item)
{
	return memcg_stat_read(r->e->tree, r->c, item);
}

TEST(counted_by_kind)
{
	r = rig_create(0, true);
	make_pool(C, r->c);
	ASSERT_EQ(rig_writeback(r, 0, 2), 2);
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB), 2u);
	r->store.put_error = -EIO;
	ASSERT_EQ(rig_writeback(r, 0, 3), -EIO);
	r->store.put_error = 0;
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB_FAILED), 3u);
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB), 2u);
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB_STALE), 0u);
	rig_check(r);
	rig_destroy(r);
}

/* S1: what was freed is not met, be it by one or by all of them. */
TEST(freed_is_never_met)
{
	r = rig_create(0, true);
	make_pool(C, r->c);
	for (u32 i = 0; i < NR; i += 2)
		rig_zap(r, 1, C + i, 1);
	ASSERT_EQ(rig_writeback(r, 0, NR), NR / 2);
	rig_zap(r, 1, C, NR);
	ASSERT_EQ(rig_writeback(r, 0, NR), 0);
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB), NR / 2);
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB_STALE), 0u);
	rig_destroy(r);
}

static int put_and_zap(struct store *s, struct store_put *objs, u32 nr)
{
	rig_zap(r, 1, C, 1);
	return real_ops->put(s, objs, nr);
}

/* A note is left, and found when the write has ended (S0). */
TEST(freed_while_it_is_written)
{
	struct store_ops ops;

	r = rig_create(0, true);
	make_pool(C, r->c);
	real_ops = r->store.store.ops;
	ops = *real_ops;
	ops.put = put_and_zap;
	r->store.store.ops = &ops;
	ASSERT_EQ(rig_writeback(r, 0, 3), 3);
	r->store.store.ops = real_ops;
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB), 2u);
	ASSERT_EQ(count_of(MEMCG_STAT_ZSWPWB_STALE), 1u);
	ASSERT_EQ(count_of(MEMCG_STAT_SWAP_STALE_HANDOFF), 1u);
	ASSERT_EQ(fake_store_nr(&r->store), 2u);
	rig_check(r);
	rig_destroy(r);
}
