/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protect.c - pages that come in for a read are mapped write-protected.
 *
 * Owns the choice, and the fault of the first store to such a page.  What stays
 * unwritten leaves cheaply (pager take_protected); a page that is written after all
 * costs a second fault.  So the choice follows what happened to the pages before:
 * memory that is read and then written is mapped writable at once, but for a sample
 * that notices when this changes.
 */
#include <errno.h>

#include "base/mutant.h"
#include "fault/internal.h"

/* Counts are halved at this many pages: what is older matters less. */
#define PROTECT_WINDOW 4096u
/* So many say nothing yet. */
#define PROTECT_CREDIT 64u
/* One page in so many is the sample. */
#define PROTECT_SAMPLE 16u

bool fault_wants_protection(const struct fault_ctx *c, u32 nr)
{
	struct fault *f = c->f;
	u32 lost = atomic32_peek(&f->protected_lost), in = atomic32_peek(&f->protected_in);
	u32 turn;

	if (c->write || !atomic32_load(&f->mm->pager.protects))
		return false;
	/* A second fault costs half of what MOVE costs more than a batch. */
	turn = atomic32_fetch_add(&f->protect_turn, 1);
	if (2 * lost > in + PROTECT_CREDIT && turn % PROTECT_SAMPLE)
		return false;
	in = atomic32_fetch_add(&f->protected_in, nr) + nr;
	if (in >= PROTECT_WINDOW) {
		/* Racing with others: a guess is halved twice. */
		atomic32_poke(&f->protected_in, in / 2);
		atomic32_poke(&f->protected_lost, lost / 2);
	}
	return true;
}

bool fault_unprotect(struct fault_ctx *c)
{
	struct fault *f = c->f;
	struct pager *pager = &f->mm->pager;
	struct pte *pte = page_table_find(&f->mm->ptes, c->addr);
	struct page *page;

	if (!pte)
		return false;
	if (pte_lock_fault(pte))
		return true; /* a read from the store: its end wakes us too */
	if (pte_type(pte) != PTE_PRESENT || mm_zapping(f->mm, c->addr)) {
		/* It left before the store came.  If it is there all the same, taken for
		 * dropped because it could not be read, the store must not fault again. */
		if (pte_type(pte) == PTE_NONE)
			(void)pager->ops->unprotect(pager, c->queue, c->addr, PAGER_DONTWAKE);
		pte_unlock(pte);
		return false; /* or zap_finish() wakes */
	}
	page = page_at(&f->mm->pages, (struct page_id){ pte_index(pte) });
	if (atomic32_peek(&page->flags) & PG_PROTECTED) {
		atomic32_fetch_add(&f->protected_lost, 1);
		memcg_stat_add(f->tree, (struct objcg_id){ page->objcg }, MEMCG_STAT_PGUNPROTECT,
			       1);
	}
	/* Before the store goes on: reclaim must not take a page for clean that is not. */
	if (!MUTANT(unprotect_forgets_flag))
		page_clear_flags(page, PG_PROTECTED);
	/* Also where the flag is clear: take() protects for a moment, and older kernels
	 * keep the protection across mremap(2). */
	c->hand_over = pager->ops->unprotect(pager, c->queue, c->addr, c->pager_flags) == -EAGAIN &&
		       c->self;
	pte_unlock(pte);
	return true;
}
