/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refault distance: who comes back soon enough was evicted too early.
 */
#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static u64 age(struct memcg_id id)
{
	return atomic64_peek(&lruvec_of(&r->e->lru, id)->age);
}

static void set_lengths(u32 active, u32 inactive)
{
	atomic32_poke(&lruvec_of(&r->e->lru, r->c)->nr[LRU_ACTIVE], active);
	atomic32_poke(&lruvec_of(&r->e->lru, r->c)->nr[LRU_INACTIVE], inactive);
}

static void evict(u32 nr)
{
	while (nr--)
		(void)workingset_eviction(&r->e->lru, r->objcg, false);
}

/* Activated if the active list is at least as long as what left since. */
TEST(distance_decides)
{
	for (u32 others = 0; others < 6; others++) {
		u32 shadow;
		bool active;

		r = rig_create(0, true);
		set_lengths(3, 0);
		evict(7);
		shadow = workingset_eviction(&r->e->lru, r->objcg, false);
		evict(others);
		active = workingset_refault(&r->e->lru, r->objcg, shadow, 0);
		ASSERT_EQ(active, 1 + others <= 3);
		ASSERT_EQ(rig_stat(r, MEMCG_STAT_REFAULT), 1u);
		ASSERT_EQ(rig_stat(r, MEMCG_STAT_REFAULT_ACTIVATE), active);
		ASSERT_EQ(rig_stat(r, MEMCG_STAT_RESTORE), 0u);
		set_lengths(0, 0);
		rig_destroy(r);
	}
}

TEST(restore_is_of_pages_that_were_active)
{
	u32 shadow;

	r = rig_create(0, true);
	set_lengths(3, 0);
	shadow = workingset_eviction(&r->e->lru, r->objcg, true);
	ASSERT_TRUE(workingset_refault(&r->e->lru, r->objcg, shadow, 0));
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_RESTORE), 1u);
	set_lengths(0, 0);
	rig_destroy(r);
}

/* Evictions and activations move the clock of the group and of all above it. */
TEST(clock_goes_up_the_tree)
{
	u32 shadow;

	r = rig_create(0, true);
	set_lengths(5, 0);
	evict(4);
	ASSERT_EQ(age(r->c), 4u);
	ASSERT_EQ(age(r->p), 4u);
	ASSERT_EQ(age(MEMCG_ROOT), 4u);
	ASSERT_EQ(age(r->d), 0u);
	shadow = workingset_eviction(&r->e->lru, r->objcg, false);
	ASSERT_TRUE(workingset_refault(&r->e->lru, r->objcg, shadow, 0));
	ASSERT_EQ(age(r->p), 6u);
	set_lengths(0, 0);
	rig_destroy(r);
}

/* The shadow has 31 bits of it. */
TEST(clock_wraps)
{
	u32 shadow;

	r = rig_create(0, true);
	set_lengths(3, 0);
	atomic64_poke(&lruvec_of(&r->e->lru, r->c)->age, (1ull << 31) - 1);
	shadow = workingset_eviction(&r->e->lru, r->objcg, false);
	evict(1);
	ASSERT_TRUE(workingset_refault(&r->e->lru, r->objcg, shadow, 0));
	evict(2);
	ASSERT_FALSE(workingset_refault(&r->e->lru, r->objcg, shadow, 0));
	set_lengths(0, 0);
	rig_destroy(r);
}

/* Away for no longer than all that is in memory takes to be replaced. */
TEST(fits_pool)
{
	u32 shadow;

	r = rig_create(0, true);
	set_lengths(2, 3);
	shadow = workingset_eviction(&r->e->lru, r->objcg, false);
	evict(4);
	ASSERT_TRUE(workingset_fits_pool(&r->e->lru, r->objcg, shadow));
	evict(1);
	ASSERT_FALSE(workingset_fits_pool(&r->e->lru, r->objcg, shadow));
	set_lengths(0, 0);
	rig_destroy(r);
}

/* From eviction to the list a page comes back to, through the real thing. */
TEST(refault_through_the_pool)
{
	r = rig_create(0, true);
	/* Five active pages, then one goes out and comes back at once. */
	rig_make(r, 0, 5, RIG_TEXT, RIG_FRAME);
	for (u32 i = 0; i < 5; i++)
		rig_read(r, 0, i);
	rig_make(r, 10, 1, RIG_TEXT, RIG_POOL);
	rig_read(r, 0, 10);
	ASSERT_EQ(lruvec_nr(lruvec_of(&r->e->lru, r->c), LRU_ACTIVE), 6u);
	/* Another one comes back after a hundred others have left. */
	rig_make(r, 11, 1, RIG_TEXT, RIG_POOL);
	evict(100);
	rig_read(r, 0, 11);
	ASSERT_EQ(lruvec_nr(lruvec_of(&r->e->lru, r->c), LRU_ACTIVE), 6u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_REFAULT), 2u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_REFAULT_ACTIVATE), 1u);
	rig_check(r);
	rig_destroy(r);
}
