/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages with a frame and a slot: every meeting of fault, zap and pageout, step
 * by step (tests/race has them in every order).
 */
#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static struct slot *slot_of(u32 page)
{
	return slot_at(&r->e->swap, (struct slot_id){ pte_index(rig_pte(r, page)) });
}

/* Pageout of page 0 has begun: it is the caller's. */
static struct slot_id begin(struct page_id *ret_page)
{
	struct slot_id id;

	ASSERT_EQ(lru_isolate_tail(&r->e->lru, r->c, LRU_LAUNDRY, 1, ret_page), 1u);
	ASSERT_TRUE(swap_cache_begin_pageout(&r->e->swap, NULL, *ret_page, &id));
	ASSERT_TRUE(slot_flags(slot_at(&r->e->swap, id)) & SLOT_BUSY);
	return id;
}

/* What pageout found: one word. */
static enum pageout_verdict end(struct slot_id id, enum slot_kind kind)
{
	struct pageout_result res = { .kind = kind, .hash_lo = 42 };

	return swap_cache_end_pageout(&r->e->swap, NULL, id, &res);
}

static void setup(void)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_FRAME);
}

static void finish(void)
{
	rig_check(r);
	rig_destroy(r);
}

TEST(fault_takes_the_page_back)
{
	u64 slots;

	setup();
	slots = memcg_usage(r->e->tree, r->p, COUNTER_SWAP);
	ASSERT_EQ(slots, 1u);
	ASSERT_EQ(rig_fault(r, 1, 0), FAULT_DONE);
	ASSERT_EQ(rig_state(r, 0), RIG_MAPPED);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 0u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWAPCACHED), 0u);
	finish();
}

TEST(pageout_done)
{
	struct page_id page;
	struct slot_id id;

	setup();
	id = begin(&page);
	ASSERT_EQ(end(id, SLOT_FILLED), PAGEOUT_DONE);
	ASSERT_EQ(slot_kind(slot_of(0)), SLOT_FILLED);
	ASSERT_EQ(slot_of(0)->hash_lo, 42u);
	swap_cache_free_page(&r->e->swap, NULL, page);
	memcg_stat_add(r->e->tree, r->objcg, MEMCG_STAT_FILLED, 1); /* as zswap_store() */
	r->want[0].fill = RIG_FILLED;
	rig_zap(r, 0, 0, 1);
	finish();
}

/* v1's memory + swap: a page counts once, be it in memory, in both, or out. */
TEST(memsw_counts_a_page_once)
{
	struct memcg_tree *t;

	r = rig_create(0, true);
	t = r->e->tree;
	rig_make(r, 0, 4, RIG_FILLED, RIG_MAPPED);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMSW), 4u);
	ASSERT_EQ(rig_unmap(r, 0, 4), 4u);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMORY), 4u);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_SWAP), 4u);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMSW), 4u);
	ASSERT_EQ(rig_pageout(r, 0, 4), 4u);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMORY), 0u);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMSW), 4u);
	for (u32 i = 0; i < 4; i++)
		rig_read(r, 1, i);
	rig_drain(r, 1);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_SWAP), 0u);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMSW), 4u);
	rig_zap(r, 1, 0, 4);
	rig_drain(r, 1);
	ASSERT_EQ(memcg_usage(t, r->p, COUNTER_MEMSW), 0u);
	rig_destroy(r);
}

TEST(pageout_refused_keeps_the_page)
{
	struct page_id page;
	struct slot_id id;

	setup();
	id = begin(&page);
	ASSERT_EQ(end(id, SLOT_FRAME), PAGEOUT_KEEP);
	swap_cache_putback(&r->e->swap, NULL, page, true);
	ASSERT_EQ(rig_state(r, 0), RIG_FRAME);
	finish();
}

TEST(fault_copies_beside_pageout)
{
	struct page_id page;
	struct slot_id id;

	setup();
	id = begin(&page);
	ASSERT_EQ(rig_fault(r, 1, 0), FAULT_DONE);
	ASSERT_EQ(rig_state(r, 0), RIG_MAPPED);
	/* Two pages for a while: the frame is pageout's to free. */
	ASSERT_EQ(stat_read(&r->e->mm.pages.table.nr_live), 2u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWAP_STALE_HANDOFF), 1u);
	ASSERT_EQ(end(id, SLOT_FILLED), PAGEOUT_STALE);
	swap_cache_free_page(&r->e->swap, NULL, page);
	finish();
}

TEST(pageout_ends_beside_a_copying_fault)
{
	struct page_id page, stolen;
	struct slot_id id;

	setup();
	id = begin(&page);
	pte_lock(rig_pte(r, 0));
	ASSERT_EQ(swap_cache_take(&r->e->swap, id, &stolen), SWAP_CACHE_STEAL);
	ASSERT_EQ(stolen.v, page.v);
	ASSERT_EQ(end(id, SLOT_FILLED), PAGEOUT_STOLEN);
	/* The fault cannot map for now: the page is where it was. */
	swap_cache_cancel_steal(&r->e->swap, NULL, id);
	pte_unlock(rig_pte(r, 0));
	ASSERT_EQ(rig_state(r, 0), RIG_FRAME);
	finish();
}

/* The copy was made while pageout put the page back: nobody else would free it soon. */
TEST(pageout_refused_under_a_copy)
{
	struct page_id page, stolen;
	struct slot_id id;

	setup();
	id = begin(&page);
	pte_lock(rig_pte(r, 0));
	ASSERT_EQ(end(id, SLOT_FRAME), PAGEOUT_KEEP);
	ASSERT_EQ(swap_cache_take(&r->e->swap, id, &stolen), SWAP_CACHE_STEAL);
	swap_cache_putback(&r->e->swap, NULL, page, false);
	swap_cache_end_steal(&r->e->swap, NULL, id);
	pte_unlock_to(rig_pte(r, 0), PTE_NONE, 0);
	fake_forget(&r->e->mm.pager, fake_addr(0), 1);
	r->want[0].fill = RIG_ABSENT;
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 0u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY), 0u);
	finish();
}

TEST(zap_beside_pageout)
{
	struct page_id page;
	struct slot_id id;

	setup();
	id = begin(&page);
	rig_zap(r, 1, 0, 1);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 1u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWAP_STALE_HANDOFF), 1u);
	ASSERT_EQ(end(id, SLOT_FILLED), PAGEOUT_STALE);
	swap_cache_free_page(&r->e->swap, NULL, page);
	finish();
}

/* Dropped after it was isolated and before pageout began: found at once. */
TEST(zap_before_pageout)
{
	struct page_id page;
	struct slot_id id;

	setup();
	ASSERT_EQ(lru_isolate_tail(&r->e->lru, r->c, LRU_LAUNDRY, 1, &page), 1u);
	rig_zap(r, 1, 0, 1);
	ASSERT_FALSE(swap_cache_begin_pageout(&r->e->swap, NULL, page, &id));
	finish();
}

TEST(zap_before_putback)
{
	struct page_id page;

	setup();
	ASSERT_EQ(lru_isolate_tail(&r->e->lru, r->c, LRU_LAUNDRY, 1, &page), 1u);
	rig_zap(r, 1, 0, 1);
	swap_cache_putback(&r->e->swap, NULL, page, false);
	finish();
}

/* ---- clean copies ------------------------------------------------------------------ */

/* Page 0 is mapped again and its object stays in the store. */
static void setup_copy(void)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_STORE);
	atomic64_fetch_add(&lruvec_of(&r->e->lru, r->c)->age, 1000);
	rig_read(r, 0, 0);
	rig_drain(r, 0);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWAPCACHED), 1u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 1u);
	rig_check(r);
}

TEST(unchanged_page_leaves_without_a_write)
{
	u64 objects;

	setup_copy();
	objects = r->store.next_loc;
	ASSERT_EQ(rig_unmap(r, 0, 1), 1u);
	ASSERT_EQ(rig_state(r, 0), RIG_STORE);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWPOUT_CLEAN), 1u);
	ASSERT_EQ(r->store.next_loc, objects);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY), 0u);
	finish();
}

TEST(changed_page_drops_its_copy)
{
	setup_copy();
	rig_write(r, 0, 0, RIG_TEXT, 1234);
	ASSERT_EQ(rig_unmap(r, 0, 1), 1u);
	ASSERT_EQ(rig_state(r, 0), RIG_FRAME);
	ASSERT_EQ(fake_store_nr(&r->store), 0u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWPOUT_CLEAN), 0u);
	/* The slot stayed. */
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 1u);
	rig_read(r, 0, 0);
	finish();
}

TEST(zapped_page_takes_its_copy_along)
{
	setup_copy();
	rig_zap(r, 0, 0, 1);
	ASSERT_EQ(fake_store_nr(&r->store), 0u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 0u);
	finish();
}

/* cgroup-v2: memory.swap.max; slots are dear when half of them are in use. */
TEST(no_copy_where_slots_are_dear)
{
	r = rig_create(0, true);
	memcg_set_max(r->e->tree, r->p, COUNTER_SWAP, 2);
	rig_make(r, 0, 1, RIG_TEXT, RIG_STORE);
	atomic64_fetch_add(&lruvec_of(&r->e->lru, r->c)->age, 1000);
	rig_read(r, 0, 0);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 0u);
	ASSERT_EQ(fake_store_nr(&r->store), 0u);
	finish();
}

/* A page the pool could have held goes there next time: no copy either. */
TEST(no_copy_of_a_quick_return)
{
	r = rig_create(0, true);
	rig_make(r, 1, 8, RIG_TEXT, RIG_MAPPED);
	rig_make(r, 0, 1, RIG_TEXT, RIG_MAPPED);
	rig_zap(r, 0, 1, 8);
	rig_unmap(r, 0, 1);
	rig_pageout(r, 0, 1);
	ASSERT_EQ(rig_writeback(r, 0, 1), 1);
	rig_make(r, 1, 8, RIG_TEXT, RIG_MAPPED);
	rig_read(r, 0, 0);
	ASSERT_EQ(fake_store_nr(&r->store), 0u);
	finish();
}
