/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot.c - slots: numbers, charge, and the end of a slot.
 *
 * Owns allocation and release.  Does not own compressed copies (zswap/ frees
 * them through struct swap_ops) nor the frame states (swap_cache.c).
 * Lock ranks: CLUSTER; called with a pte lock held.
 *
 * Freeing is complete at once (J1, S1): a number in somebody's slot_cache has
 * no copy, no charge and no shadow, so no shrinker can meet it.
 */
#include "swap/slot.h"

#include <errno.h>

#include "base/fmt.h"
#include "base/mutant.h"

int swap_init(struct swap *s, struct mm *mm, struct memcg_tree *tree, struct lru *lru,
	      const struct swap_ops *ops)
{
	int err;

	s->mm = mm;
	s->tree = tree;
	s->lru = lru;
	s->ops = ops;
	/* A lock per 512 slots: one page for the first half million, so not counted. */
	s->cluster = meta_reserve("quire: clusters", CLUSTERS_MAX * sizeof(struct mutex));
	if (!s->cluster)
		return -ENOMEM;
	err = xtable_init(&s->slots, &mm->meta, "quire: slots", sizeof(struct slot),
			  CLUSTERS_MAX << CLUSTER_SHIFT);
	if (err)
		meta_unreserve(s->cluster, CLUSTERS_MAX * sizeof(struct mutex));
	return err;
}

void swap_exit(struct swap *s)
{
	xtable_exit(&s->slots);
	meta_unreserve(s->cluster, CLUSTERS_MAX * sizeof(struct mutex));
}

static struct mutex *cluster_of(struct swap *s, struct slot_id id)
{
	struct mutex *m = &s->cluster[id.v >> CLUSTER_SHIFT];

#ifdef QUIRE_DEBUG
	mutex_init_used(m, "cluster", LOCK_RANK_CLUSTER);
#endif
	return m;
}

void slot_lock(struct swap *s, struct slot_id id)
{
	mutex_lock(cluster_of(s, id));
}

void slot_unlock(struct swap *s, struct slot_id id)
{
	mutex_unlock(cluster_of(s, id));
}

static u32 take_number(struct swap *s, struct slot_cache *cache)
{
	if (!cache)
		return xtable_alloc(&s->slots, XTABLE_MAY_GROW);
	if (!cache->nr)
		cache->nr = xtable_alloc_batch(&s->slots, XTABLE_MAY_GROW, cache->slot,
					       SLOT_CACHE_SIZE / 2);
	return cache->nr ? cache->slot[--cache->nr] : 0;
}

static void give_number(struct swap *s, struct slot_cache *cache, u32 number)
{
	if (!cache) {
		xtable_free(&s->slots, number);
		return;
	}
	if (cache->nr == SLOT_CACHE_SIZE) {
		cache->nr -= SLOT_CACHE_SIZE / 2;
		xtable_free_batch(&s->slots, &cache->slot[cache->nr], SLOT_CACHE_SIZE / 2);
	}
	cache->slot[cache->nr++] = number;
}

void slot_cache_drain(struct swap *s, struct slot_cache *cache)
{
	xtable_free_batch(&s->slots, cache->slot, cache->nr);
	cache->nr = 0;
}

int slot_alloc(struct swap *s, struct slot_cache *cache, struct objcg_id o, struct slot_id *ret)
{
	struct slot *slot;
	struct slot_id id;
	int err = memcg_swap_try_charge(s->tree, o, 1);

	if (err)
		return err;
	id.v = take_number(s, cache);
	if (!id.v) {
		memcg_swap_uncharge(s->tree, o, 1);
		memcg_count_event(s->tree, objcg_memcg(s->tree, o), MEMCG_SWAP_FAIL);
		stat_add(&s->nr_full, 1);
		return -ENOSPC;
	}
	slot = slot_at(s, id);
	where_set(slot, slot_where(SLOT_FREE, 0, 0, 0));
	slot->objcg = o.v;
	slot->shadow = 0;
	slot->zlru.prev = ZLRU_OFF;
	*ret = id;
	return 0;
}

void slot_free_unlock(struct swap *s, struct slot_cache *cache, struct slot_id id)
{
	struct slot *slot = slot_at(s, id);
	struct objcg_id o = { slot->objcg };

	quire_assert(!(slot_flags(slot) & (SLOT_BUSY | SLOT_STEAL | SLOT_WB)));
	if (slot_kind(slot) > SLOT_FRAME)
		s->ops->invalidate(s->ops->ctx, id, slot);
	where_set(slot, slot_where(SLOT_FREE, 0, 0, 0));
	slot->objcg = 0;
	slot->shadow = 0;
	slot_unlock(s, id);
	memcg_swap_uncharge(s->tree, o, 1);
	give_number(s, cache, id.v);
}

void slot_drop(struct swap *s, struct slot_cache *cache, struct slot_id id)
{
	struct slot *slot = slot_at(s, id);
	struct page_id page = { 0 };
	u32 flags;

	slot_lock(s, id);
	flags = slot_flags(slot);
	quire_assert(!(flags & (SLOT_DEAD | SLOT_STEAL)));
	if (slot_kind(slot) == SLOT_FRAME)
		page.v = (u32)slot_loc(slot);
	if ((flags & (SLOT_BUSY | SLOT_WB)) ||
	    (page.v && !page_isolate(page_at(&s->mm->pages, page)))) {
		/* S0, interleaving A: the busy party inherits the duty to free. */
		if (!MUTANT(drop_leaves_no_note))
			slot_set_flags(slot, SLOT_DEAD, 0);
		memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg },
			       MEMCG_STAT_SWAP_STALE_HANDOFF, 1);
		slot_unlock(s, id);
		return;
	}
	if (page.v || (flags & SLOT_CACHED))
		memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED,
			       -1);
	slot_free_unlock(s, cache, id);
	if (page.v) {
		lru_del(s->lru, page);
		swap_cache_free_page(s, NULL, page);
	}
}

void slot_to_text(const struct swap *s, struct slot_id id, struct fmt *out)
{
	static const char *const kind[] = { "free", "frame", "filled", "zswap", "store" };
	const struct slot *slot = slot_at(s, id);
	u32 f = slot_flags(slot), k = slot_kind(slot);

	fmt_add(out, "slot %u: %s loc 0x%llx len %u objcg %u shadow %u%s%s%s%s%s%s", id.v,
		k < ARRAY_SIZE(kind) ? kind[k] : "?", (unsigned long long)slot_loc(slot),
		slot_len(slot), slot->objcg, slot->shadow, f & SLOT_BUSY ? " busy" : "",
		f & SLOT_STEAL ? " steal" : "", f & SLOT_WB ? " wb" : "",
		f & SLOT_DENSE ? " dense" : "", f & SLOT_DEAD ? " dead" : "",
		f & SLOT_CACHED ? " cached" : "");
}
