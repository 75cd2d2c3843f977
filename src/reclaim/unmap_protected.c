/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unmap_protected.c - stage one for pages that nobody has written since they came in.
 *
 * Owns batches of scattered pages with PG_PROTECTED: read into frames, dropped in one
 * call (pager take_protected).  The flag holds as long as the pte is locked: the fault of
 * a store waits for that lock and finds the page gone.  A page whose clean copy is in the
 * store needs no frame, only a look whether it is there: it is what the copy is.
 * Entry: unmap_protected().
 * Lock ranks: PTE (try-locked, ascending), then CLUSTER and below.
 */
#include <errno.h>

#include "base/mutant.h"
#include "reclaim/unmap.h"

/* Owned pages, their ptes locked. */
struct batch {
	u32 nr;
	struct page_id page[SWAP_CLUSTER_MAX];
	struct pte *pte[SWAP_CLUSTER_MAX];
	struct slot_id slot[SWAP_CLUSTER_MAX];
	u32 frame[SWAP_CLUSTER_MAX]; /* 0: has a clean copy */
	struct pager_page at[SWAP_CLUSTER_MAX];
};

static bool is_protected(const struct page *page)
{
	return atomic32_peek(&page->flags) & PG_PROTECTED;
}

/* One page into the batch, or back where it was. */
static void add_page(struct reclaim *r, struct task *t, struct batch *b, struct page_id id)
{
	struct page *page = page_of(r, id);
	struct slot_id slot;
	struct region region;
	struct pte *pte;

	pte = unmap_find_region(r, id, &region) ? unmap_lock_pte(r, id) : NULL;
	if (!pte)
		return;
	slot = unmap_slot(r, t, id);
	/* Asked again under the lock: written this moment, so neither clean nor cold. */
	if (!slot.v || (!is_protected(page) && !MUTANT(protected_not_asked_again))) {
		unmap_abandon(r, t, id, pte, slot, MEMCG_STAT_PGROTATED);
		return;
	}
	b->page[b->nr] = id;
	b->pte[b->nr] = pte;
	b->slot[b->nr] = slot;
	b->frame[b->nr] = 0;
	b->at[b->nr] = (struct pager_page){ .addr = page_addr(page) };
	b->nr++;
}

/* Frames for those that need one: warm ones first.  Who gets none is given up. */
static void add_frames(struct reclaim *r, struct task *t, struct batch *b)
{
	struct frames *frames = &r->mm->frames;
	u32 frame[SWAP_CLUSTER_MAX], want = 0, nr, warm, kept = 0, used = 0;

	for (u32 i = 0; i < b->nr; i++)
		want += !page_of(r, b->page[i])->slot;
	nr = warm = want ? frames_alloc_warm(frames, want, frame) : 0;
	while (nr < want) {
		u32 first, got = frames_alloc(frames, want - nr, &first);

		if (!got) {
			stat_add(&r->nr_no_frames, 1);
			break;
		}
		for (u32 k = 0; k < got; k++)
			frame[nr++] = first + k;
	}
	for (u32 i = 0; i < b->nr; i++) {
		bool has_copy = page_of(r, b->page[i])->slot;

		if (!has_copy && used == nr) {
			unmap_abandon(r, t, b->page[i], b->pte[i], b->slot[i],
				      MEMCG_STAT_PGROTATED);
			continue;
		}
		b->page[kept] = b->page[i];
		b->pte[kept] = b->pte[i];
		b->slot[kept] = b->slot[i];
		b->at[kept] = b->at[i];
		b->frame[kept] = has_copy ? 0 : frame[used];
		if (!has_copy) {
			b->at[kept].frame = frame_addr(frames, frame[used]);
			b->at[kept].warm = used < warm;
			used++;
		}
		kept++;
	}
	b->nr = kept;
}

/* The pager took it. */
static void settle_taken(struct reclaim *r, struct task *t, struct batch *b, u32 i, u32 *freed)
{
	if (b->frame[i]) {
		unmap_to_laundry(r, t, b->page[i], b->pte[i], b->slot[i], b->frame[i]);
		return;
	}
	unmap_to_copy(r, b->page[i], b->pte[i], b->slot[i]);
	++*freed;
}

/* The pager refused it: err. */
static void settle_refused(struct reclaim *r, struct task *t, struct batch *b, u32 i, long err)
{
	/* Not empty, or not there: given to nobody any more, as in unmap.c. */
	if (b->frame[i] && (err == -EEXIST || err == -EFAULT))
		stat_add(&r->nr_frames_lost, 1);
	else if (b->frame[i] && b->at[i].warm)
		frames_put(&r->mm->frames, b->frame[i], 1);
	else if (b->frame[i])
		frames_put_empty(&r->mm->frames, b->frame[i], 1);
	if (err == -ENOENT) {
		unmap_settle_dropped(r, t, b->page[i], b->pte[i], b->slot[i]);
		return;
	}
	if (err == -EINVAL) /* locked behind our back: aside until a rescue */
		atomic32_fetch_or(&page_of(r, b->page[i])->flags, PG_UNEVICTABLE);
	unmap_abandon(r, t, b->page[i], b->pte[i], b->slot[i],
		      err == -EINVAL ? MEMCG_STAT_PGPINNED : MEMCG_STAT_PGROTATED);
}

static u32 take_batch(struct reclaim *r, struct task *t, struct batch *b, u32 *freed)
{
	struct pager *pager = &r->mm->pager;
	u32 done = 0, taken = 0;

	while (done < b->nr) {
		long n = pager->ops->take_protected(pager, b->at + done, b->nr - done);

		for (long k = 0; k < n; k++, done++, taken++)
			settle_taken(r, t, b, done, freed);
		if (n <= 0)
			settle_refused(r, t, b, done++, n);
	}
	return taken;
}

u32 unmap_protected(struct reclaim *r, struct task *t, struct page_id *pages, u32 nr, u32 *ret_left,
		    u32 *freed)
{
	struct batch b;
	u32 left = 0;

	b.nr = 0;
	for (u32 i = 0; i < nr; i++) {
		if (is_protected(page_of(r, pages[i])))
			add_page(r, t, &b, pages[i]);
		else
			pages[left++] = pages[i];
	}
	*ret_left = left;
	if (!b.nr)
		return 0;
	add_frames(r, t, &b);
	return take_batch(r, t, &b, freed);
}
