/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unmap.c - stage one: mapped pages into frames.
 *
 * Owns the step PRESENT -> SWAP (slot in state FRAME).  Entry: reclaim_unmap().
 * For each page: owner (PG_LRU cleared) -> try-lock its pte -> is it still this
 * page, still mapped? (S4: asked under the lock that unmap needs) -> slot ->
 * frame -> the pager takes it -> laundry -> pte says SWAP.
 * Contiguous pages of one region go in one call.  A page the pager refuses is
 * put aside as unevictable and tried again later.
 * Lock ranks: PTE (try-locked, ascending within a run), then CLUSTER and below.
 */
#include "reclaim/reclaim.h"

#include <errno.h>

#include "base/mutant.h"

/* One contiguous run, its ptes locked. */
struct run {
	u32 nr;
	u32 queue;
	u64 addr;
	struct page_id page[SWAP_CLUSTER_MAX];
	struct pte *pte[SWAP_CLUSTER_MAX];
	struct slot_id slot[SWAP_CLUSTER_MAX];
};

static struct page *page_of(struct reclaim *r, struct page_id id)
{
	return page_at(&r->mm->pages, id);
}

static void stat_page(struct reclaim *r, struct page_id id, enum memcg_stat item, s64 n)
{
	memcg_stat_add(r->tree, (struct objcg_id){ page_of(r, id)->objcg }, item, n);
}

/* Ownership ends without work done. */
static void put_back(struct reclaim *r, struct page_id id, enum memcg_stat why)
{
	stat_page(r, id, why, 1);
	if (!lru_putback(r->lru, id, false))
		page_free(&r->mm->pages, id); /* zapped meanwhile */
}

/* Lock the pte of an owned page; NULL: busy, gone, pinned. */
static struct pte *lock_page_pte(struct reclaim *r, struct page_id id)
{
	struct page *page = page_of(r, id);
	struct pte *pte = page_table_find(&r->mm->ptes, page_addr(page));

	if (!pte || !pte_trylock(pte))
		return NULL;
	if ((pte_type(pte) == PTE_PRESENT && pte_index(pte) == id.v && !pte_pins(pte) &&
	     (!mm_zapping(r->mm, page_addr(page)) || MUTANT(unmap_ignores_zap))) ||
	    MUTANT(unmap_does_not_ask_again))
		return pte;
	pte_unlock(pte);
	return NULL;
}

/* Gather the longest contiguous run that starts at pages[0]; consumed pages. */
static u32 gather_run(struct reclaim *r, const struct page_id *pages, u32 nr, struct run *run)
{
	struct region region;
	u32 i;

	run->nr = 0;
	run->addr = page_addr(page_of(r, pages[0]));
	if (!region_find(&r->mm->regions, run->addr, &region)) {
		put_back(r, pages[0], MEMCG_STAT_PGROTATED);
		return 1;
	}
	if (region.flags & REGION_LOCKED) {
		/* mlock(2): aside until a rescue asks again. */
		atomic32_fetch_or(&page_of(r, pages[0])->flags, PG_UNEVICTABLE);
		put_back(r, pages[0], MEMCG_STAT_PGPINNED);
		return 1;
	}
	run->queue = region.queue;
	for (i = 0; i < nr; i++) {
		u64 addr = page_addr(page_of(r, pages[i]));
		struct pte *pte;

		if (addr != run->addr + (u64)run->nr * PAGE_SIZE || addr >= region.end)
			break;
		pte = lock_page_pte(r, pages[i]);
		if (!pte) {
			if (run->nr)
				break; /* it starts the next run, and is tried there */
			put_back(r, pages[i],
				 pte_pins(page_table_find(&r->mm->ptes, addr)) ?
					 MEMCG_STAT_PGPINNED :
					 MEMCG_STAT_PGROTATED);
			return 1;
		}
		run->page[run->nr] = pages[i];
		run->pte[run->nr++] = pte;
	}
	return i;
}

/* Give up on pages [from, nr) of a run; unevictable: the pager said no. */
static void abandon(struct reclaim *r, struct task *t, struct run *run, u32 from, u32 nr_slots,
		    bool unevictable, enum memcg_stat why)
{
	for (u32 i = from; i < run->nr; i++) {
		/* A clean copy's slot stays with its page. */
		if (i < nr_slots && !page_of(r, run->page[i])->slot)
			slot_drop(r->swap, &t->slots, run->slot[i]);
		if (unevictable && i == from)
			atomic32_fetch_or(&page_of(r, run->page[i])->flags, PG_UNEVICTABLE);
		put_back(r, run->page[i], why);
		pte_unlock(run->pte[i]);
	}
	run->nr = from;
}

/* Slots for the whole run or as much as there are. */
static u32 alloc_slots(struct reclaim *r, struct task *t, struct run *run)
{
	u32 n;

	for (n = 0; n < run->nr; n++) {
		struct objcg_id o = { page_of(r, run->page[n])->objcg };

		run->slot[n].v = page_of(r, run->page[n])->slot;
		if (run->slot[n].v)
			continue;
		if (slot_alloc(r->swap, &t->slots, o, &run->slot[n])) {
			stat_add(&r->nr_no_slots, 1);
			break;
		}
	}
	return n;
}

/*
 * The page in `frame` has a copy in the store.  Still equal: it needs no laundry and
 * no write, it is out already.  XXH3-128: collisions an attacker might find harm
 * only the attacker's own pages, since copies are never shared.
 */
static bool leave_by_copy(struct reclaim *r, struct run *run, u32 i, u32 frame)
{
	struct page *page = page_of(r, run->page[i]);
	const struct slot *slot = slot_at(r->swap, run->slot[i]);
	struct page_hash h = page_hash(frame_addr(&r->mm->frames, frame));
	struct objcg_id o = { page->objcg };
	bool workingset = atomic32_peek(&page->flags) & PG_WORKINGSET;

	page->slot = 0;
	if ((h.lo != slot->hash_lo || h.hi != slot->hash_hi) && !MUTANT(copy_not_compared)) {
		swap_cache_forget_copy(r->swap, run->slot[i]);
		return false;
	}
	swap_cache_reuse_copy(r->swap, run->slot[i], workingset_eviction(r->lru, o, workingset));
	stat_page(r, run->page[i], MEMCG_STAT_ANON, -1);
	stat_page(r, run->page[i], MEMCG_STAT_SWPOUT_CLEAN, 1);
	frames_put(&r->mm->frames, frame, 1);
	page_free(&r->mm->pages, run->page[i]);
	memcg_uncharge(r->tree, NULL, o, 1);
	pte_unlock_to(run->pte[i], PTE_SWAP, run->slot[i].v);
	return true;
}

/* The page was taken into frame: it is in the swap cache from here on. */
static void enter_laundry(struct reclaim *r, struct task *t, struct run *run, u32 i, u32 frame)
{
	struct page *page = page_of(r, run->page[i]);

	if (page->slot && leave_by_copy(r, run, i, frame))
		return;
	page->frame = frame;
	page->slot = run->slot[i].v;
	atomic32_fetch_or(&page->flags, PG_FRAME);
	swap_cache_add(r->swap, run->slot[i], run->page[i]);
	stat_page(r, run->page[i], MEMCG_STAT_ANON, -1);
	stat_page(r, run->page[i], MEMCG_STAT_PGUNMAP, 1);
	swap_cache_putback(r->swap, &t->slots, run->page[i], false);
	pte_unlock_to(run->pte[i], PTE_SWAP, run->slot[i].v);
}

/* -ENOENT: the program dropped the page by a call we did not see.  Nothing is
 * there, so nothing is owed: as a zap, without a slot to free. */
static void settle_dropped(struct reclaim *r, struct task *t, struct run *run, u32 i)
{
	struct objcg_id o = { page_of(r, run->page[i])->objcg };

	stat_page(r, run->page[i], MEMCG_STAT_ANON, -1);
	stat_page(r, run->page[i], MEMCG_STAT_PGDROPPED, 1);
	slot_drop(r->swap, &t->slots, run->slot[i]);
	page_of(r, run->page[i])->slot = 0;
	page_free(&r->mm->pages, run->page[i]);
	memcg_uncharge(r->tree, &t->stock, o, 1);
	pte_unlock_to(run->pte[i], PTE_NONE, 0);
}

/*
 * Frames that take() did not fill go back.  -EEXIST: somebody's bytes are in the
 * first, which was ours and empty.  That must not happen; if it does the frame is
 * given to nobody any more, rather than the bytes lost.
 */
static void put_unused_frames(struct reclaim *r, u32 first, u32 nr, long err)
{
	if (err == -EEXIST) {
		stat_add(&r->nr_frames_lost, 1);
		first++;
		nr--;
	}
	frames_put_empty(&r->mm->frames, first, nr);
}

/* Take a locked run; pages that are in frames now. */
static u32 take_run(struct reclaim *r, struct task *t, struct run *run)
{
	struct pager *pager = &r->mm->pager;
	u32 nr_slots = alloc_slots(r, t, run);
	u32 first = 0, nr_frames = 0, done = 0;

	abandon(r, t, run, nr_slots, nr_slots, false, MEMCG_STAT_PGROTATED);
	if (run->nr)
		nr_frames = frames_alloc(&r->mm->frames, run->nr, &first);
	if (run->nr && !nr_frames)
		stat_add(&r->nr_no_frames, 1);
	abandon(r, t, run, nr_frames, nr_slots, false, MEMCG_STAT_PGROTATED);
	while (done < run->nr) {
		long n = pager->ops->take(pager, run->queue, run->addr + (u64)done * PAGE_SIZE,
					  frame_addr(&r->mm->frames, first + done), run->nr - done);

		for (long k = 0; k < n; k++, done++)
			enter_laundry(r, t, run, done, first + done);
		if (n > 0)
			continue;
		if (n == -ENOENT) {
			settle_dropped(r, t, run, done);
			frames_put_empty(&r->mm->frames, first + done, 1);
			done++;
			continue;
		}
		/* -EAGAIN: the mapping is in motion.  The rest is refused for now. */
		put_unused_frames(r, first + done, run->nr - done, n);
		abandon(r, t, run, done, run->nr, n == -EBUSY || n == -EINVAL,
			n == -EBUSY ? MEMCG_STAT_PGPINNED : MEMCG_STAT_PGROTATED);
	}
	return done;
}

static void sort_by_address(struct reclaim *r, struct page_id *pages, u32 nr)
{
	for (u32 i = 1; i < nr; i++) {
		struct page_id p = pages[i];
		u64 vpn = page_of(r, p)->vpn;
		u32 k = i;

		while (k && page_of(r, pages[k - 1])->vpn > vpn) {
			pages[k] = pages[k - 1];
			k--;
		}
		pages[k] = p;
	}
}

u32 reclaim_unmap_pages(struct reclaim *r, struct task *t, struct page_id *pages, u32 nr)
{
	u32 done = 0;

	sort_by_address(r, pages, nr);
	for (u32 i = 0; i < nr;) {
		struct run run;

		i += gather_run(r, pages + i, nr - i, &run);
		if (run.nr)
			done += take_run(r, t, &run);
	}
	return done;
}

u32 reclaim_unmap(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr)
{
	struct page_id pages[SWAP_CLUSTER_MAX];
	u32 got = lru_isolate_tail(r->lru, id, LRU_INACTIVE, min_of(nr, SWAP_CLUSTER_MAX), pages);

	return got ? reclaim_unmap_pages(r, t, pages, got) : 0;
}

u32 reclaim_rescue_unevictable(struct reclaim *r, struct memcg_id id, u32 nr)
{
	struct page_id pages[SWAP_CLUSTER_MAX];
	u32 got = lru_isolate_tail(r->lru, id, LRU_UNEVICTABLE, min_of(nr, SWAP_CLUSTER_MAX),
				   pages);

	for (u32 i = 0; i < got; i++) {
		struct page *page = page_of(r, pages[i]);

		atomic32_fetch_and(&page->flags, ~(u32)(PG_UNEVICTABLE | PG_ACTIVE));
		if (!lru_putback(r->lru, pages[i], false))
			page_free(&r->mm->pages, pages[i]);
	}
	return got;
}
