/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unmap.h - what becomes of one page that reclaim takes from the program: shared by
 * unmap.c (moved, in runs) and unmap_protected.c (read and dropped, in batches).
 */
#ifndef QUIRE_RECLAIM_UNMAP_H
#define QUIRE_RECLAIM_UNMAP_H

#include "reclaim/reclaim.h"

static inline struct page *page_of(const struct reclaim *r, struct page_id id)
{
	return page_at(&r->mm->pages, id);
}

static inline void stat_page(const struct reclaim *r, struct page_id id, enum memcg_stat item,
			     s64 n)
{
	memcg_stat_add(r->tree, (struct objcg_id){ page_of(r, id)->objcg }, item, n);
}

/* The region of an owned page; false: put back, or aside where mlock(2) keeps it. */
bool QUIRE_MUST_CHECK unmap_find_region(struct reclaim *r, struct page_id id,
					struct region *ret_region);
/* The locked pte of an owned page; NULL: put back, for it is busy, gone or pinned. */
struct pte *unmap_lock_pte(struct reclaim *r, struct page_id id);
/* The slot of the page's clean copy, or a new one; {0}: there is none. */
struct slot_id unmap_slot(struct reclaim *r, struct task *t, struct page_id id);

/* What follows ends the ownership and unlocks the pte. */

/* No: it stays mapped. */
void unmap_abandon(struct reclaim *r, struct task *t, struct page_id id, struct pte *pte,
		   struct slot_id slot, enum memcg_stat why);
/* Its bytes are in the frame and nowhere else: in the swap cache from here on. */
void unmap_to_laundry(struct reclaim *r, struct task *t, struct page_id id, struct pte *pte,
		      struct slot_id slot, u32 frame);
/* Its bytes are the slot's, in the store: it is out already. */
void unmap_to_copy(struct reclaim *r, struct page_id id, struct pte *pte, struct slot_id slot);
/* -ENOENT: the program dropped the page by a call we did not see. */
void unmap_settle_dropped(struct reclaim *r, struct task *t, struct page_id id, struct pte *pte,
			  struct slot_id slot);

/*
 * Take those of pages[0..nr), owned and sorted by address, that are write-protected;
 * the others remain, *ret_left of them at the front.  Pages taken.
 */
u32 unmap_protected(struct reclaim *r, struct task *t, struct page_id *pages, u32 nr, u32 *ret_left,
		    u32 *freed);

#endif
