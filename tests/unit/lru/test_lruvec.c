/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists of a group: order, balance, and what a removed group leaves.
 */
#include <errno.h>

#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static struct lruvec *vec(struct memcg_id id)
{
	return lruvec_of(&r->e->lru, id);
}

static u32 nr_on(enum lru_list l)
{
	return lruvec_nr(vec(r->c), l);
}

static u64 page_nr(struct page_id id)
{
	return page_at(&r->e->mm.pages, id)->vpn - (FAKE_BASE >> PAGE_SHIFT);
}

static u32 isolate(struct memcg_id id, enum lru_list l, u32 nr, struct page_id *ret)
{
	return lru_isolate_tail(&r->e->lru, id, l, nr, ret);
}

/* Touched while in the laundry: that is what makes a page active. */
static void make_active(u32 first, u32 nr)
{
	rig_make(r, first, nr, RIG_TEXT, RIG_FRAME);
	for (u32 i = first; i < first + nr; i++)
		rig_read(r, 0, i);
	rig_drain(r, 0);
}

TEST(oldest_first)
{
	struct page_id page[8];

	r = rig_create(0, true);
	rig_make(r, 0, 6, RIG_TEXT, RIG_MAPPED);
	ASSERT_EQ(nr_on(LRU_INACTIVE), 6u);
	ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 3, page), 3u);
	for (u32 i = 0; i < 3; i++)
		ASSERT_EQ(page_nr(page[i]), i);
	ASSERT_EQ(nr_on(LRU_INACTIVE), 3u);
	/* 0 to the head, 1 to the tail, 2 to the head. */
	ASSERT_TRUE(lru_putback(&r->e->lru, page[0], false));
	ASSERT_TRUE(lru_putback(&r->e->lru, page[1], true));
	ASSERT_TRUE(lru_putback(&r->e->lru, page[2], false));
	ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 8, page), 6u);
	for (u32 i = 0; i < 6; i++)
		ASSERT_EQ(page_nr(page[i]), ((const u32[]){ 1, 3, 4, 5, 0, 2 })[i]);
	for (u32 i = 0; i < 6; i++)
		ASSERT_TRUE(lru_putback(&r->e->lru, page[i], false));
	rig_destroy(r);
}

TEST(isolated_page_has_one_owner)
{
	struct page_id page[2], none[2];

	r = rig_create(0, true);
	rig_make(r, 0, 2, RIG_TEXT, RIG_MAPPED);
	ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 1, page), 1u);
	ASSERT_FALSE(lru_isolate(&r->e->lru, page[0]));
	ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 2, none), 1u);
	ASSERT_NE(none[0].v, page[0].v);
	ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 2, page + 1), 0u);
	ASSERT_TRUE(lru_putback(&r->e->lru, page[0], false));
	ASSERT_TRUE(lru_putback(&r->e->lru, none[0], false));
	rig_destroy(r);
}

/* Zapped while somebody owns it: the owner is told at putback and frees it. */
TEST(zapped_while_isolated)
{
	struct page_id page;

	r = rig_create(0, true);
	rig_make(r, 0, 2, RIG_TEXT, RIG_MAPPED);
	ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 1, &page), 1u);
	rig_zap(r, 0, 0, 1);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ANON), 1u);
	ASSERT_FALSE(lru_putback(&r->e->lru, page, false));
	page_free(&r->e->mm.pages, page);
	rig_check(r);
	rig_destroy(r);
}

TEST(touch_in_the_laundry_activates)
{
	r = rig_create(0, true);
	rig_make(r, 0, 4, RIG_TEXT, RIG_FRAME);
	ASSERT_EQ(nr_on(LRU_LAUNDRY), 4u);
	rig_read(r, 0, 1);
	rig_read(r, 0, 2);
	ASSERT_EQ(nr_on(LRU_LAUNDRY), 2u);
	ASSERT_EQ(nr_on(LRU_ACTIVE), 2u);
	ASSERT_EQ(nr_on(LRU_INACTIVE), 0u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGACTIVATE), 2u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGSOFTFAULT), 2u);
	rig_check(r);
	rig_destroy(r);
}

/* Half and half in a small group; the oldest active pages go, in order. */
TEST(refill_balances)
{
	struct page_id page[16];

	r = rig_create(0, true);
	make_active(0, 10);
	ASSERT_TRUE(lru_inactive_is_low(&r->e->lru, r->c));
	ASSERT_EQ(lru_refill_inactive(&r->e->lru, r->c, 2), 2u);
	ASSERT_EQ(nr_on(LRU_INACTIVE), 2u);
	/* As many as needed at most: it stops when they are even. */
	lru_refill_inactive(&r->e->lru, r->c, 4);
	ASSERT_EQ(nr_on(LRU_INACTIVE) + nr_on(LRU_ACTIVE), 10u);
	ASSERT_GE(nr_on(LRU_INACTIVE), 5u);
	ASSERT_FALSE(lru_inactive_is_low(&r->e->lru, r->c));
	ASSERT_EQ(lru_refill_inactive(&r->e->lru, r->c, 32), 0u);
	ASSERT_GE(isolate(r->c, LRU_INACTIVE, 2, page), 2u);
	for (u32 i = 0; i < 2; i++) {
		ASSERT_EQ(page_nr(page[i]), i);
		/* It was active when it leaves: told to workingset.c. */
		ASSERT_TRUE(atomic32_peek(&page_at(&r->e->mm.pages, page[i])->flags) &
			    PG_WORKINGSET);
		ASSERT_TRUE(lru_putback(&r->e->lru, page[i], true));
	}
	rig_check(r);
	rig_destroy(r);
}

/* algorithms.md 4.5: the bigger the group, the smaller the inactive share. */
TEST(inactive_ratio)
{
	const u32 gib = 1u << (30 - PAGE_SHIFT);
	const struct {
		u32 inactive, active;
		bool low;
	} want[] = {
		{ 500, 500, false },
		{ 499, 500, true },
		{ gib / 4, gib - gib / 4, false }, /* 1 GiB: 1 to 3 */
		{ gib / 4 - 1, gib - gib / 4 + 1, true },
		{ gib, 9 * gib, false }, /* 10 GiB: 1 to 10 */
		{ gib / 2, 10 * gib, true },
	};

	r = rig_create(0, true);
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		atomic32_poke(&vec(r->d)->nr[LRU_INACTIVE], want[i].inactive);
		atomic32_poke(&vec(r->d)->nr[LRU_ACTIVE], want[i].active);
		ASSERT_EQ(lru_inactive_is_low(&r->e->lru, r->d), want[i].low);
	}
	atomic32_poke(&vec(r->d)->nr[LRU_INACTIVE], 0);
	atomic32_poke(&vec(r->d)->nr[LRU_ACTIVE], 0);
	rig_destroy(r);
}

/* A removed group's pages are the next to go from its parent's lists, in order. */
TEST(removed_group_leaves_its_lists)
{
	struct objcg_id p, d;
	struct page_id page[8];

	r = rig_create(0, true);
	ASSERT_OK(objcg_get(r->e->tree, r->p, &p));
	ASSERT_OK(objcg_get(r->e->tree, r->d, &d));
	rig_assign(r, 100, 2, p);
	rig_make(r, 0, 3, RIG_TEXT, RIG_MAPPED);
	rig_make(r, 100, 2, RIG_TEXT, RIG_MAPPED);
	rig_make(r, 10, 1, RIG_TEXT, RIG_MAPPED);
	rig_assign(r, 0, RIG_PAGES, d);
	ASSERT_OK(offline_group(r->e, r->c, ENGINE_REMOVE_EMPTY));
	ASSERT_EQ(lruvec_nr(vec(r->c), LRU_INACTIVE), 0u);
	ASSERT_EQ(isolate(r->p, LRU_INACTIVE, 8, page), 6u);
	for (u32 i = 0; i < 6; i++) {
		ASSERT_EQ(page_nr(page[i]), ((const u32[]){ 0, 1, 2, 10, 100, 101 })[i]);
		ASSERT_TRUE(lru_putback(&r->e->lru, page[i], false));
	}
	rig_check(r);
	rig_destroy(r);
}

TEST(group_with_a_range_is_busy)
{
	r = rig_create(0, true);
	ASSERT_EQ(offline_group(r->e, r->c, ENGINE_REMOVE_EMPTY), -EBUSY);
	rig_destroy(r);
}

/* Pages of a group in several slices are found, counted and inherited alike. */
TEST(slices)
{
	struct page_id page[16];
	struct objcg_id d;

	for (u32 nr = 2; nr <= LRU_SLICES_MAX; nr++) {
		u32 used = 0;

		r = rig_create(0, true);
		lru_set_slices(&r->e->lru, nr, 0);
		ASSERT_OK(objcg_get(r->e->tree, r->d, &d));
		rig_make(r, 0, 12, RIG_TEXT, RIG_MAPPED);
		rig_make(r, 12, 4, RIG_TEXT, RIG_FRAME);
		ASSERT_EQ(lruvec_nr(vec(r->c), LRU_INACTIVE), 12u);
		ASSERT_EQ(lruvec_nr(vec(r->c), LRU_LAUNDRY), 4u);
		for (u32 n = 0; n < nr; n++)
			used += lru_slice(&r->e->lru, r->c, n)->list[LRU_INACTIVE].nr > 0;
		ASSERT_EQ(used, nr);
		/* The tails of all of them are reached, whatever batch is asked for. */
		ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 5, page), 5u);
		ASSERT_EQ(isolate(r->c, LRU_INACTIVE, 11, page + 5), 7u);
		ASSERT_EQ(lruvec_nr(vec(r->c), LRU_INACTIVE), 0u);
		for (u32 i = 0; i < 12; i++)
			ASSERT_TRUE(lru_putback(&r->e->lru, page[i], i % 2));
		rig_check(r);
		rig_assign(r, 0, RIG_PAGES, d);
		ASSERT_OK(offline_group(r->e, r->c, ENGINE_REMOVE_EMPTY));
		offline_release(r->e);
		ASSERT_EQ(lruvec_nr(vec(r->c), LRU_INACTIVE), 0u);
		ASSERT_EQ(lruvec_nr(vec(r->p), LRU_INACTIVE), 12u);
		ASSERT_EQ(lruvec_nr(vec(r->p), LRU_LAUNDRY), 4u);
		for (u32 i = 0; i < 16; i++)
			rig_read(r, 0, i);
		rig_drain(r, 0);
		rig_check(r);
		rig_destroy(r);
	}
}
