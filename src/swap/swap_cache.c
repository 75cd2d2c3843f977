/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swap_cache.c - pages that have a slot and are still in a frame.
 *
 * Two parties meet here: a fault or zap that holds the pte lock, and pageout
 * that owns the page (PG_LRU clear).  Neither ever waits for the other:
 *
 *   fault, page on its list        takes it (page_isolate), slot ends when it is mapped
 *   fault, pageout owns the page   STEAL: copies out of the frame meanwhile;
 *                                  the later of the two frees page and slot
 *   zap, pageout owns the page     DEAD: pageout frees page and slot
 *
 * The frame is moved away only by somebody who owns the page, so pageout never
 * reads an empty frame (it would fault on itself, for ever).
 * Invariant: a slot of kind FRAME with BUSY clear names a page that is on a
 * laundry list of the slot's payer, or is being isolated or put back (I1).
 * Lock ranks: CLUSTER, then LRUVEC and FRAMES.
 */
#include "swap/slot.h"

#include "base/mutant.h"

void swap_cache_add(struct swap *s, struct slot_id id, struct page_id page)
{
	struct slot *slot = slot_at(s, id);

	slot_lock(s, id);
	where_set(slot, slot_where(SLOT_FRAME, 0, 0, page.v));
	slot_unlock(s, id);
	memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED, 1);
}

enum swap_cache_verdict swap_cache_take(struct swap *s, struct slot_id id, struct page_id *ret_page)
{
	struct slot *slot = slot_at(s, id);
	struct page_id page;

	slot_lock(s, id);
	if (slot_kind(slot) != SLOT_FRAME) {
		slot_unlock(s, id);
		return SWAP_CACHE_GONE;
	}
	page.v = (u32)slot_loc(slot);
	*ret_page = page;
	if (((slot_flags(slot) & SLOT_BUSY) || !page_isolate(page_at(&s->mm->pages, page))) &&
	    !MUTANT(take_ignores_owner)) {
		slot_set_flags(slot, SLOT_STEAL, 0);
		slot_unlock(s, id);
		return SWAP_CACHE_STEAL;
	}
	slot_unlock(s, id);
	lru_del(s->lru, page);
	return SWAP_CACHE_MINE;
}

void swap_cache_end_take(struct swap *s, struct slot_cache *cache, struct slot_id id,
			 struct page_id page)
{
	const struct slot *slot = slot_at(s, id);

	page_at(&s->mm->pages, page)->slot = 0;
	slot_lock(s, id);
	memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED, -1);
	slot_free_unlock(s, cache, id);
}

void swap_cache_free_page(struct swap *s, struct memcg_stock *stock, struct page_id id)
{
	struct page *page = page_at(&s->mm->pages, id);

	frames_put(&s->mm->frames, page->frame, 1);
	page->frame = 0;
	page->slot = 0;
	memcg_uncharge(s->tree, stock, (struct objcg_id){ page->objcg }, 1);
	page_free(&s->mm->pages, id);
}

void swap_cache_end_steal(struct swap *s, struct slot_cache *cache, struct slot_id id)
{
	struct slot *slot = slot_at(s, id);
	struct page_id page;
	bool listed = false;
	u32 flags;

	slot_lock(s, id);
	page.v = (u32)slot_loc(slot);
	flags = slot_flags(slot);
	slot_set_flags(slot, 0, SLOT_STEAL);
	/* Pageout failed and has put the page back: as if it had been there at first. */
	if (!(flags & (SLOT_DEAD | SLOT_BUSY)) && !MUTANT(end_steal_ignores_list))
		listed = page_isolate(page_at(&s->mm->pages, page));
	if (!(flags & SLOT_DEAD || listed) || MUTANT(end_steal_ignores_note)) {
		/* Pageout is not done with the frame: it frees everything. */
		slot_set_flags(slot, SLOT_DEAD, 0);
		memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg },
			       MEMCG_STAT_SWAP_STALE_HANDOFF, 1);
		slot_unlock(s, id);
		return;
	}
	memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED, -1);
	slot_free_unlock(s, cache, id);
	if (listed)
		lru_del(s->lru, page);
	swap_cache_free_page(s, NULL, page);
}

void swap_cache_cancel_steal(struct swap *s, struct slot_cache *cache, struct slot_id id)
{
	struct slot *slot = slot_at(s, id);
	struct page_id page;
	bool ours;

	slot_lock(s, id);
	page.v = (u32)slot_loc(slot);
	/* DEAD: pageout finished meanwhile and left the page to us. */
	ours = slot_flags(slot) & SLOT_DEAD && !MUTANT(cancel_steal_ignores_note);
	slot_set_flags(slot, 0, SLOT_STEAL | SLOT_DEAD);
	slot_unlock(s, id);
	if (ours)
		swap_cache_putback(s, cache, page, false);
}

bool swap_cache_begin_pageout(struct swap *s, struct slot_cache *cache, struct page_id page,
			      struct slot_id *ret_slot)
{
	struct slot_id id = { page_at(&s->mm->pages, page)->slot };
	struct slot *slot = slot_at(s, id);

	slot_lock(s, id);
	quire_assert(slot_kind(slot) == SLOT_FRAME && slot_loc(slot) == page.v);
	if (slot_flags(slot) & SLOT_DEAD) {
		/* Dropped between the isolation and now. */
		slot_set_flags(slot, 0, SLOT_DEAD);
		memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED,
			       -1);
		slot_free_unlock(s, cache, id);
		swap_cache_free_page(s, NULL, page);
		return false;
	}
	slot_set_flags(slot, SLOT_BUSY, 0);
	slot_unlock(s, id);
	*ret_slot = id;
	return true;
}

enum pageout_verdict swap_cache_end_pageout(struct swap *s, struct slot_cache *cache,
					    struct slot_id id, const struct pageout_result *r)
{
	struct slot *slot = slot_at(s, id);
	struct objcg_id o = { slot->objcg };
	u32 flags;

	slot_lock(s, id);
	flags = slot_flags(slot);
	quire_assert(flags & SLOT_BUSY);
	slot_set_flags(slot, 0, SLOT_BUSY);
	if (flags & SLOT_DEAD && !MUTANT(end_pageout_ignores_note)) {
		slot_set_flags(slot, 0, SLOT_DEAD);
		memcg_stat_add(s->tree, o, MEMCG_STAT_SWAPCACHED, -1);
		slot_free_unlock(s, cache, id);
		return PAGEOUT_STALE;
	}
	if (flags & SLOT_STEAL && !MUTANT(end_pageout_ignores_steal)) {
		/* The copying fault finds DEAD at its end and frees. */
		slot_set_flags(slot, SLOT_DEAD, 0);
		slot_unlock(s, id);
		return PAGEOUT_STOLEN;
	}
	if (r->kind == SLOT_FRAME) {
		slot_unlock(s, id);
		return PAGEOUT_KEEP;
	}
	where_set(slot, slot_where(r->kind, r->flags, r->len, r->loc));
	slot->hash_lo = r->hash_lo;
	slot->hash_hi = r->hash_hi;
	slot_unlock(s, id);
	memcg_stat_add(s->tree, o, MEMCG_STAT_SWAPCACHED, -1);
	return PAGEOUT_DONE;
}

void swap_cache_putback(struct swap *s, struct slot_cache *cache, struct page_id id, bool tail)
{
	struct page *page = page_at(&s->mm->pages, id);
	struct slot_id slot_id = { page->slot };
	struct slot *slot = slot_at(s, slot_id);
	bool alive = lru_putback(s->lru, id, tail);

	quire_assert(alive); /* notes for a page in a frame are left on its slot */
	slot_lock(s, slot_id);
	/* From the putback on the page is anybody's: look whether the slot still
	 * names it, and whether a note was left while its flag was clear. */
	if (slot_kind(slot) == SLOT_FRAME && slot_loc(slot) == id.v &&
	    (slot_flags(slot) & SLOT_DEAD) && !MUTANT(putback_ignores_slot_note) &&
	    page_isolate(page)) {
		slot_set_flags(slot, 0, SLOT_DEAD);
		memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED,
			       -1);
		slot_free_unlock(s, cache, slot_id);
		lru_del(s->lru, id);
		swap_cache_free_page(s, NULL, id);
		return;
	}
	slot_unlock(s, slot_id);
}

bool swap_cache_keep(struct swap *s, struct slot_id id, struct page_id page)
{
	struct slot *slot = slot_at(s, id);
	bool ok;

	slot_lock(s, id);
	ok = (slot_kind(slot) == SLOT_ZSWAP || slot_kind(slot) == SLOT_STORE) &&
	     (!(slot_flags(slot) & SLOT_WB) || MUTANT(kept_while_claimed));
	if (ok) {
		slot_set_flags(slot, SLOT_CACHED, 0);
		slot->shadow = page.v;
	}
	slot_unlock(s, id);
	if (!ok)
		return false;
	page_at(&s->mm->pages, page)->slot = id.v;
	memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED, 1);
	return true;
}

void swap_cache_forget_copy(struct swap *s, struct slot_id id)
{
	struct slot *slot = slot_at(s, id);

	slot_lock(s, id);
	quire_assert(slot_flags(slot) & SLOT_CACHED);
	s->ops->invalidate(s->ops->ctx, id, slot);
	where_set(slot, slot_where(SLOT_FREE, 0, 0, 0));
	slot_unlock(s, id);
	memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED, -1);
}

void swap_cache_reuse_copy(struct swap *s, struct slot_id id, u32 shadow)
{
	struct slot *slot = slot_at(s, id);

	slot_lock(s, id);
	quire_assert(slot_flags(slot) & SLOT_CACHED);
	slot_set_flags(slot, 0, SLOT_CACHED);
	slot->shadow = shadow;
	slot_unlock(s, id);
	memcg_stat_add(s->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_SWAPCACHED, -1);
}
