/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave.c - the end of a page's stay with the program, one page at a time.
 *
 * Owns the step PRESENT -> SWAP of pte.h, and each way back out of it, for the two who
 * take pages (unmap.c, unmap_protected.c): owner (PG_LRU cleared) -> try-lock its pte ->
 * is it still this page, still mapped? (S4: asked under the lock that unmap needs) ->
 * slot -> the pager takes it -> laundry, or out by its clean copy -> pte says SWAP.
 * Lock ranks: PTE (try-locked), then CLUSTER and below.
 */
#include "base/mutant.h"
#include "reclaim/unmap.h"

/* Ownership ends without work done. */
static void put_back(struct reclaim *r, struct page_id id, enum memcg_stat why)
{
	stat_page(r, id, why, 1);
	if (!lru_putback(r->lru, id, false))
		page_free(&r->mm->pages, id); /* zapped meanwhile */
}

bool unmap_find_region(struct reclaim *r, struct page_id id, struct region *ret_region)
{
	struct page *page = page_of(r, id);

	if (!region_find(&r->mm->regions, page_addr(page), ret_region)) {
		put_back(r, id, MEMCG_STAT_PGROTATED);
		return false;
	}
	if (ret_region->flags & REGION_LOCKED) { /* aside until a rescue */
		atomic32_fetch_or(&page->flags, PG_UNEVICTABLE);
		put_back(r, id, MEMCG_STAT_PGPINNED);
		return false;
	}
	return true;
}

struct pte *unmap_lock_pte(struct reclaim *r, struct page_id id)
{
	u64 addr = page_addr(page_of(r, id));
	struct pte *pte = page_table_find(&r->mm->ptes, addr);

	if (!pte || !pte_trylock(pte)) {
		put_back(r, id, MEMCG_STAT_PGROTATED);
		return NULL;
	}
	if ((pte_type(pte) == PTE_PRESENT && pte_index(pte) == id.v && !pte_pins(pte) &&
	     (!mm_zapping(r->mm, addr) || MUTANT(unmap_ignores_zap))) ||
	    MUTANT(unmap_does_not_ask_again))
		return pte;
	put_back(r, id, pte_pins(pte) ? MEMCG_STAT_PGPINNED : MEMCG_STAT_PGROTATED);
	pte_unlock(pte);
	return NULL;
}

struct slot_id unmap_slot(struct reclaim *r, struct task *t, struct page_id id)
{
	struct page *page = page_of(r, id);
	struct slot_id slot = { page->slot };

	if (!slot.v && slot_alloc(r->swap, &t->slots, (struct objcg_id){ page->objcg }, &slot)) {
		stat_add(&r->nr_no_slots, 1);
		slot.v = 0;
	}
	return slot;
}

void unmap_abandon(struct reclaim *r, struct task *t, struct page_id id, struct pte *pte,
		   struct slot_id slot, enum memcg_stat why)
{
	/* A clean copy's slot stays with its page. */
	if (slot.v && !page_of(r, id)->slot)
		slot_drop(r->swap, &t->slots, slot);
	put_back(r, id, why);
	pte_unlock(pte);
}

void unmap_to_laundry(struct reclaim *r, struct task *t, struct page_id id, struct pte *pte,
		      struct slot_id slot, u32 frame)
{
	struct page *page = page_of(r, id);

	page->frame = frame;
	page->slot = slot.v;
	page_clear_flags(page, PG_PROTECTED | PG_STREAM);
	atomic32_fetch_or(&page->flags, PG_FRAME);
	swap_cache_add(r->swap, slot, id);
	stat_page(r, id, MEMCG_STAT_ANON, -1);
	stat_page(r, id, MEMCG_STAT_PGUNMAP, 1);
	swap_cache_putback(r->swap, &t->slots, id, false);
	pte_unlock_to(pte, PTE_SWAP, slot.v);
}

void unmap_to_copy(struct reclaim *r, struct page_id id, struct pte *pte, struct slot_id slot)
{
	struct page *page = page_of(r, id);
	struct objcg_id o = { page->objcg };
	bool workingset = atomic32_peek(&page->flags) & PG_WORKINGSET;

	page->slot = 0;
	swap_cache_reuse_copy(r->swap, slot, workingset_eviction(r->lru, o, workingset));
	if (!MUTANT(kept_copy_not_listed))
		zswap_relist(r->zswap, slot);
	stat_page(r, id, MEMCG_STAT_ANON, -1);
	stat_page(r, id, MEMCG_STAT_SWPOUT_CLEAN, 1);
	page_free(&r->mm->pages, id);
	memcg_uncharge(r->tree, NULL, o, 1);
	pte_unlock_to(pte, PTE_SWAP, slot.v);
}

/* Nothing is there, so nothing is owed: as a zap, without a slot to free. */
void unmap_settle_dropped(struct reclaim *r, struct task *t, struct page_id id, struct pte *pte,
			  struct slot_id slot)
{
	struct page *page = page_of(r, id);
	struct objcg_id o = { page->objcg };

	stat_page(r, id, MEMCG_STAT_ANON, -1);
	stat_page(r, id, MEMCG_STAT_PGDROPPED, 1);
	slot_drop(r->swap, &t->slots, slot);
	page->slot = 0;
	page_free(&r->mm->pages, id);
	memcg_uncharge(r->tree, &t->stock, o, 1);
	pte_unlock_to(pte, PTE_NONE, 0);
}
