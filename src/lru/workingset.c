/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workingset.c - was a page that comes back evicted too early?
 *
 * The kernel's argument (mm/workingset.c), for one kind of page: the clock of a
 * group advances with every eviction and activation, here and in all ancestors.
 * A page's shadow holds the clock at its eviction; the distance since then is
 * the number of list slots the page was short of staying.  If the active list is
 * at least that long, activating the page instead would have kept it: it belongs
 * to the working set.  A wrong guess costs one trip through the lists.
 */
#include "lru/lru.h"

#define SHADOW_WORKINGSET 1u
#define SHADOW_CLOCK_MASK (UINT32_MAX >> 1)

static void advance_clock(struct lru *lru, struct memcg_id id)
{
	for (; id.v; id = memcg_parent(lru->tree, id))
		atomic64_fetch_add(&lruvec_of(lru, id)->age, 1);
}

u32 workingset_eviction(struct lru *lru, struct objcg_id o, bool workingset)
{
	struct memcg_id id = objcg_memcg(lru->tree, o);
	u32 clock = (u32)atomic64_peek(&lruvec_of(lru, id)->age) & SHADOW_CLOCK_MASK;

	advance_clock(lru, id);
	return clock << 1 | (workingset ? SHADOW_WORKINGSET : 0);
}

u32 workingset_age(const struct lruvec *v, u32 shadow)
{
	u32 now = (u32)atomic64_peek(&v->age) & SHADOW_CLOCK_MASK;

	return (now - (shadow >> 1)) & SHADOW_CLOCK_MASK;
}

bool workingset_fits_pool(const struct lru *lru, struct objcg_id o, u32 shadow)
{
	const struct lruvec *v = lruvec_of(lru, objcg_memcg(lru->tree, o));

	return workingset_age(v, shadow) <=
	       lruvec_nr(v, LRU_ACTIVE) + lruvec_nr(v, LRU_INACTIVE) + ilist_peek_nr(&v->zlru);
}

u32 workingset_refault(struct lru *lru, struct objcg_id o, u32 shadow, u64 vpn)
{
	struct memcg_id id = objcg_memcg(lru->tree, o);
	struct lruvec *v = lruvec_of(lru, id);
	bool activate = workingset_age(v, shadow) <= lruvec_nr(v, LRU_ACTIVE);

	memcg_stat_add(lru->tree, o, MEMCG_STAT_REFAULT, 1);
	/* Longer than memory: activating them would only drive each other out. */
	if (lru_in_stream(lru, id, vpn))
		return PG_STREAM;
	if (!activate)
		return 0;
	memcg_stat_add(lru->tree, o, MEMCG_STAT_REFAULT_ACTIVATE, 1);
	if (shadow & SHADOW_WORKINGSET)
		memcg_stat_add(lru->tree, o, MEMCG_STAT_RESTORE, 1);
	advance_clock(lru, id);
	return PG_ACTIVE | PG_WORKINGSET;
}
