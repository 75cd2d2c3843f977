/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unmap.c - stage one: mapped pages into frames.
 *
 * Owns the order in which a batch of owned pages is tried, and the runs: contiguous
 * pages of one region that move into frames in one call (pager take).  Entries:
 * reclaim_unmap(), reclaim_unmap_pages().  Pages that are mapped write-protected go
 * another way first (unmap_protected.c); the steps of one page are leave.c's.
 * A page the pager refuses is put aside as unevictable and tried again later.
 * Lock ranks: PTE (try-locked, ascending within a run), then CLUSTER and below.
 */
#include <errno.h>
#include <string.h>

#include "base/mutant.h"
#include "reclaim/unmap.h"

/* Proven, or nothing that could be taken in a run. */
#define NOT_ALONG (PG_ACTIVE | PG_UNEVICTABLE | PG_FRAME | PG_PROTECTED)

/* One contiguous run, its ptes locked. */
struct run {
	u32 nr;
	u32 queue;
	u64 addr;
	struct page_id page[SWAP_CLUSTER_MAX];
	struct pte *pte[SWAP_CLUSTER_MAX];
	struct slot_id slot[SWAP_CLUSTER_MAX];
};

/* Gather the longest contiguous run that starts at pages[0]; consumed pages. */
static u32 gather_run(struct reclaim *r, const struct page_id *pages, u32 nr, struct run *run)
{
	struct region region;
	u32 i;

	run->nr = 0;
	run->addr = page_addr(page_of(r, pages[0]));
	if (!unmap_find_region(r, pages[0], &region))
		return 1;
	run->queue = region.queue;
	for (i = 0; i < nr; i++) {
		u64 addr = page_addr(page_of(r, pages[i]));
		struct pte *pte;

		if (addr != run->addr + (u64)run->nr * PAGE_SIZE || addr >= region.end)
			break;
		pte = unmap_lock_pte(r, pages[i]);
		if (!pte)
			return i + 1;
		run->page[run->nr] = pages[i];
		run->pte[run->nr++] = pte;
	}
	return i;
}

/* Give up on pages [from, nr) of a run; unevictable: the pager said no. */
static void abandon(struct reclaim *r, struct task *t, struct run *run, u32 from, bool unevictable,
		    enum memcg_stat why)
{
	if (unevictable && from < run->nr)
		atomic32_fetch_or(&page_of(r, run->page[from])->flags, PG_UNEVICTABLE);
	for (u32 i = from; i < run->nr; i++)
		unmap_abandon(r, t, run->page[i], run->pte[i], run->slot[i], why);
	run->nr = from;
}

/* Slots for the whole run or as much as there are. */
static u32 alloc_slots(struct reclaim *r, struct task *t, struct run *run)
{
	u32 n = 0;

	memset(run->slot, 0, sizeof(run->slot));
	while (n < run->nr && (run->slot[n] = unmap_slot(r, t, run->page[n])).v)
		n++;
	return n;
}

/*
 * The page in `frame` has a copy in the store.  Is it still equal?  Then it needs no
 * laundry and no write.  XXH3-128: collisions an attacker might find harm only the
 * attacker's own pages, since copies are never shared.
 */
static bool equals_copy(struct reclaim *r, const struct slot *slot, u32 frame)
{
	struct page_hash h = page_hash(frame_addr(&r->mm->frames, frame));

	return (h.lo == slot->hash_lo && h.hi == slot->hash_hi) || MUTANT(copy_not_compared);
}

/* The page was taken into frame. */
static void settle_taken(struct reclaim *r, struct task *t, struct run *run, u32 i, u32 frame,
			 u32 *freed)
{
	struct page *page = page_of(r, run->page[i]);

	if (page->slot && equals_copy(r, slot_at(r->swap, run->slot[i]), frame)) {
		frames_put(&r->mm->frames, frame, 1);
		unmap_to_copy(r, run->page[i], run->pte[i], run->slot[i]);
		++*freed;
		return;
	}
	if (page->slot)
		swap_cache_forget_copy(r->swap, run->slot[i]);
	unmap_to_laundry(r, t, run->page[i], run->pte[i], run->slot[i], frame);
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

/* Take a locked run; pages that left. */
static u32 take_run(struct reclaim *r, struct task *t, struct run *run, u32 *freed)
{
	struct pager *pager = &r->mm->pager;
	u32 first = 0, nr_frames = 0, done = 0;

	abandon(r, t, run, alloc_slots(r, t, run), false, MEMCG_STAT_PGROTATED);
	if (run->nr)
		nr_frames = frames_alloc(&r->mm->frames, run->nr, &first);
	if (run->nr && !nr_frames)
		stat_add(&r->nr_no_frames, 1);
	abandon(r, t, run, nr_frames, false, MEMCG_STAT_PGROTATED);
	while (done < run->nr) {
		long n = pager->ops->take(pager, run->queue, run->addr + (u64)done * PAGE_SIZE,
					  frame_addr(&r->mm->frames, first + done), run->nr - done);

		for (long k = 0; k < n; k++, done++)
			settle_taken(r, t, run, done, first + done, freed);
		if (n > 0)
			continue;
		if (n == -ENOENT) {
			unmap_settle_dropped(r, t, run->page[done], run->pte[done],
					     run->slot[done]);
			frames_put_empty(&r->mm->frames, first + done, 1);
			done++;
			continue;
		}
		/* -EAGAIN: the mapping is in motion.  The rest is refused for now. */
		put_unused_frames(r, first + done, run->nr - done, n);
		abandon(r, t, run, done, n == -EBUSY || n == -EINVAL,
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

u32 reclaim_unmap_pages(struct reclaim *r, struct task *t, struct page_id *pages, u32 nr,
			u32 *freed)
{
	u32 left, done;

	sort_by_address(r, pages, nr);
	done = unmap_protected(r, t, pages, nr, &left, freed);
	for (u32 i = 0; i < left;) {
		struct run run;

		i += gather_run(r, pages + i, left - i, &run);
		if (run.nr)
			done += take_run(r, t, &run, freed);
	}
	return done;
}

/* Own the page at addr if it could leave as page did, and in one run with it. */
static bool isolate_like(struct reclaim *r, const struct page *page, u64 addr, struct page_id *ret)
{
	struct pte *pte = page_table_trylock(&r->mm->ptes, addr, PTE_PRESENT);
	const struct page *p;
	bool ok;

	if (!pte)
		return false;
	ret->v = pte_index(pte);
	p = page_of(r, *ret);
	ok = p->objcg == page->objcg && !(atomic32_peek(&p->flags) & NOT_ALONG) &&
	     lru_isolate(r->lru, *ret);
	pte_unlock(pte);
	return ok;
}

/* The pages next to it in one direction, behind the nr that are there, up to max. */
static u32 add_run(struct reclaim *r, const struct page *page, u64 step, struct page_id *pages,
		   u32 nr, u32 max)
{
	u64 addr = page_addr(page) + step;

	while (nr < max && isolate_like(r, page, addr, &pages[nr])) {
		addr += step;
		nr++;
	}
	return nr;
}

/*
 * A page that was written leaves by a call of its own, with a flush of all processors'
 * TLBs; contiguous pages share it.  So neighbours go along that are not known to be in
 * use.  They may be younger than others: for writes at random half of the flushes are
 * worth more.  How many pages there are then, at most max.
 */
static u32 add_neighbours(struct reclaim *r, struct page_id *pages, u32 nr, u32 max)
{
	u32 all = nr;

	for (u32 i = 0; i < nr && all < max; i++) {
		const struct page *page = page_of(r, pages[i]);

		if (atomic32_peek(&page->flags) & PG_PROTECTED)
			continue;
		all = add_run(r, page, PAGE_SIZE, pages, all, max);
		all = add_run(r, page, -PAGE_SIZE, pages, all, max);
	}
	return all;
}

u32 reclaim_unmap(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr, u32 *freed)
{
	struct page_id pages[SWAP_CLUSTER_MAX];
	u32 got;

	nr = min_of(nr, SWAP_CLUSTER_MAX);
	got = lru_isolate_cold(r->lru, id, (nr + 1) / 2, pages);
	got = add_neighbours(r, pages, got, nr);
	if (got && got < nr)
		got += lru_isolate_cold(r->lru, id, nr - got, pages + got);
	return got ? reclaim_unmap_pages(r, t, pages, got, freed) : 0;
}

u32 reclaim_rescue_unevictable(struct reclaim *r, struct memcg_id id, u32 nr)
{
	struct page_id pages[SWAP_CLUSTER_MAX];
	u32 got = lru_isolate_tail(r->lru, id, LRU_UNEVICTABLE, min_of(nr, SWAP_CLUSTER_MAX),
				   pages);

	for (u32 i = 0; i < got; i++) {
		page_clear_flags(page_of(r, pages[i]), PG_UNEVICTABLE | PG_ACTIVE);
		if (!lru_putback(r->lru, pages[i], false))
			page_free(&r->mm->pages, pages[i]);
	}
	return got;
}
