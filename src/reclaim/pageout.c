/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pageout.c - stage two: pages from the laundry tail out of memory.
 *
 * Owns the step FRAME -> FILLED | ZSWAP | STORE.  Entry: reclaim_pageout().
 * A batch is claimed (SLOT_BUSY), compressed without any lock, what the pool
 * refused goes to the store in one put, then each slot is given its result and
 * frames are emptied in runs.  Who wants a page meanwhile leaves a note or
 * copies from the frame (swap/swap_cache.c).
 */
#include "reclaim/reclaim.h"

#include "base/probe.h"

struct laundry {
	u32 nr;
	struct page_id page[SWAP_CLUSTER_MAX];
	struct slot_id slot[SWAP_CLUSTER_MAX];
	struct pageout_result result[SWAP_CLUSTER_MAX];
	enum zswap_refusal why[SWAP_CLUSTER_MAX];
};

static void claim_batch(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr,
			struct laundry *l)
{
	struct page_id pages[SWAP_CLUSTER_MAX];
	u32 got = lru_isolate_tail(r->lru, id, LRU_LAUNDRY, nr, pages);

	l->nr = 0;
	for (u32 i = 0; i < got; i++) {
		if (!swap_cache_begin_pageout(r->swap, &t->slots, pages[i], &l->slot[l->nr]))
			continue;
		l->page[l->nr++] = pages[i];
	}
}

/* What the pool did not take, as one put to the store. */
static void store_refused(struct reclaim *r, struct task *t, struct memcg_id id, struct laundry *l)
{
	const void *content[SWAP_CLUSTER_MAX];
	enum zswap_refusal why[SWAP_CLUSTER_MAX];
	struct slot_id ids[SWAP_CLUSTER_MAX];
	struct pageout_result out[SWAP_CLUSTER_MAX];
	u32 from[SWAP_CLUSTER_MAX], nr = 0;

	for (u32 i = 0; i < l->nr; i++) {
		if (l->result[i].kind != SLOT_FRAME)
			continue;
		from[nr] = i;
		ids[nr] = l->slot[i];
		why[nr] = l->why[i];
		out[nr] = l->result[i];
		content[nr++] = frame_addr(&r->mm->frames,
					   page_at(&r->mm->pages, l->page[i])->frame);
	}
	/* cgroup-v2: memory.zswap.writeback: 0 also forbids direct swap after a
	 * rejected store. */
	if (!nr || !memcg_zswap_writeback(r->tree, id))
		return;
	if (!t->buf) /* a fault thread never waits for the device: they stay */
		return;
	if (!zswap_backing(r->zswap) && r->ops.open_store(r->ops.ctx))
		return;
	if (zswap_store_out(r->zswap, &t->codec, t->buf, content, why, ids, nr, out)) {
		stat_add(&r->nr_store_refused, 1);
		return;
	}
	for (u32 i = 0; i < nr; i++)
		l->result[from[i]] = out[i];
}

/*
 * Who pays for the copy: whoever pays for the slot.  The page may be another's, where a
 * clean copy is older than the last change of hands.  Ours while the slot is BUSY.
 */
static struct objcg_id payer_of(struct reclaim *r, struct slot_id id, struct page_id page)
{
	if (MUTANT(copy_charged_to_page))
		return (struct objcg_id){ page_at(&r->mm->pages, page)->objcg };
	return (struct objcg_id){ slot_at(r->swap, id)->objcg };
}

/* Give slot i its result; true: page and frame are ours to free. */
static bool finish_one(struct reclaim *r, struct task *t, struct laundry *l, u32 i)
{
	struct slot_id id = l->slot[i];
	struct objcg_id o = payer_of(r, id, l->page[i]);

	switch (swap_cache_end_pageout(r->swap, &t->slots, id, &l->result[i])) {
	case PAGEOUT_DONE:
		zswap_stored(r->zswap, id, o, &l->result[i]);
		PROBE_PAGEOUT(id.v, l->result[i].len, l->result[i].kind);
		return true;
	case PAGEOUT_STALE:
		zswap_undo(r->zswap, o, &l->result[i]);
		return true;
	case PAGEOUT_STOLEN:
		zswap_undo(r->zswap, o, &l->result[i]);
		return false;
	case PAGEOUT_KEEP:
		swap_cache_putback(r->swap, &t->slots, l->page[i], false);
		return false;
	}
	return false;
}

/* Empty the frames of pages[0..nr), in contiguous runs. */
static void empty_frames(struct reclaim *r, const struct page_id *pages, u32 nr)
{
	u32 first = 0, run = 0;

	for (u32 i = 0; i < nr; i++) {
		struct page *page = page_at(&r->mm->pages, pages[i]);

		if (!run || page->frame != first + run) {
			if (run)
				frames_put(&r->mm->frames, first, run);
			first = page->frame;
			run = 0;
		}
		run++;
		page->frame = 0;
		page->slot = 0;
	}
	if (run)
		frames_put(&r->mm->frames, first, run);
}

/* The pages are gone: descriptors and charge.  Not through a stock: usage must
 * fall now, faults wait for it. */
static void free_pages(struct reclaim *r, const struct page_id *pages, u32 nr)
{
	struct objcg_id payer = { 0 };
	u32 owed = 0;

	empty_frames(r, pages, nr);
	for (u32 i = 0; i < nr; i++) {
		struct objcg_id o = { page_at(&r->mm->pages, pages[i])->objcg };

		if (owed && o.v != payer.v) {
			memcg_uncharge(r->tree, NULL, payer, owed);
			owed = 0;
		}
		payer = o;
		owed++;
		page_free(&r->mm->pages, pages[i]);
	}
	if (owed)
		memcg_uncharge(r->tree, NULL, payer, owed);
}

u32 reclaim_pageout(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr)
{
	struct page_id gone[SWAP_CLUSTER_MAX];
	struct laundry l;
	u32 freed = 0;

	claim_batch(r, t, id, min_of(nr, SWAP_CLUSTER_MAX), &l);
	for (u32 i = 0; i < l.nr; i++) {
		struct page *page = page_at(&r->mm->pages, l.page[i]);

		zswap_store(r->zswap, &t->codec, payer_of(r, l.slot[i], l.page[i]),
			    frame_addr(&r->mm->frames, page->frame), &l.result[i], &l.why[i]);
	}
	store_refused(r, t, id, &l);
	for (u32 i = 0; i < l.nr; i++) {
		struct page *page = page_at(&r->mm->pages, l.page[i]);
		bool workingset = atomic32_peek(&page->flags) & PG_WORKINGSET;
		struct slot *slot = slot_at(r->swap, l.slot[i]);

		/* Still BUSY, so the slot is ours to write to. */
		slot->shadow = workingset_eviction(r->lru, (struct objcg_id){ page->objcg },
						   workingset);
		if (finish_one(r, t, &l, i))
			gone[freed++] = l.page[i];
	}
	free_pages(r, gone, freed);
	return freed;
}
