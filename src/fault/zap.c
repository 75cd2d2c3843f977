/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zap.c - the program gives memory back: munmap, MADV_DONTNEED, mremap.
 *
 * A system call that changes mappings may fail, and then every byte must still be
 * there; but while it runs, and until the ptes are emptied, an address may already
 * hold something else.  So between zap_begin() and zap_finish() nobody acts on a
 * pte of the range: the range is published first, then every pte that is locked at
 * that moment is waited for; whoever locks one later sees the range and leaves
 * (mm_zapping()).  Inside, the kernel is asked, and only then zap_forget() empties
 * the ptes: no fault and no reclaim ever meets a pte that outlived its mapping.
 * Whoever owns a page or a slot at that moment finds a note (page_kill(),
 * slot_drop()) and frees it: nobody waits for reclaim.
 */
#include <errno.h>

#include "base/mutant.h"

#include "fault/internal.h"

static void zap_present(struct fault *f, struct task *t, struct page_id id)
{
	struct page *page = page_at(&f->mm->pages, id);
	struct objcg_id o = { page->objcg };

	memcg_stat_add(f->tree, o, MEMCG_STAT_ANON, -1);
	if (page->slot) /* its clean copy */
		slot_drop(f->swap, &t->slots, (struct slot_id){ page->slot });
	page->slot = 0;
	if (page_kill(page)) {
		lru_del(f->lru, id);
		page_free(&f->mm->pages, id);
	}
	memcg_uncharge(f->tree, &t->stock, o, 1);
}

static void zap_pte(struct fault *f, struct task *t, struct pte *pte, bool keep_pins)
{
	pte_lock(pte);
	switch (pte_type(pte)) {
	case PTE_PRESENT:
		zap_present(f, t, (struct page_id){ pte_index(pte) });
		break;
	case PTE_SWAP:
		slot_drop(f->swap, &t->slots, (struct slot_id){ pte_index(pte) });
		break;
	case PTE_NONE:
	case PTE_POISONED:
		break;
	}
	if (!keep_pins)
		pte_set_pins(pte, 0);
	pte_unlock_to(pte, PTE_NONE, 0);
}

void zap_begin(struct fault *f, u64 start, u64 end)
{
	struct zap_range *zap = &f->mm->zap;
	struct pte *pte;

	quire_assert(!(atomic32_peek(&zap->seq) & 1));
	atomic64_store(&zap->start, start);
	atomic64_store(&zap->end, end);
	/* A full barrier: published before any pte is looked at (pairs with the CAS
	 * that locks a pte and the load in mm_zapping() after it). */
	if (!MUTANT(zap_published_late))
		atomic32_fetch_add(&zap->seq, 1);
	for (u64 addr = start; (pte = page_table_next(&f->mm->ptes, &addr, end));
	     addr += PAGE_SIZE) {
		if (!(atomic32_load(&pte->lo) & PTE_LOCK))
			continue;
		pte_lock(pte);
		pte_unlock(pte);
	}
	if (MUTANT(zap_published_late))
		atomic32_fetch_add(&zap->seq, 1);
}

void zap_forget(struct fault *f, struct task *t, u64 start, u64 end, bool keep_pins)
{
	struct pte *pte;

	for (u64 addr = start; (pte = page_table_next(&f->mm->ptes, &addr, end)); addr += PAGE_SIZE)
		if (atomic32_load(&pte->lo))
			zap_pte(f, t, pte, keep_pins);
	memcg_drain_stock(f->tree, &t->stock);
}

void zap_finish(struct fault *f, u64 start, u64 end)
{
	quire_assert(atomic32_fetch_add(&f->mm->zap.seq, 1) & 1);
	for (u32 q = 0; q < f->mm->pager.nr_queues; q++)
		f->mm->pager.ops->wake(&f->mm->pager, q, start, end - start);
}

/* The lock first: a fault may be finishing what it began before the gates closed. */
static void move_pte(struct fault *f, struct pte *from, struct pte *to, u64 to_addr)
{
	enum pte_type type;
	u32 index, pins;

	pte_lock(from);
	pte_lock(to);
	type = pte_type(from);
	index = pte_index(from);
	pins = pte_pins(from);
	if (type == PTE_PRESENT) {
		struct page *page = page_at(&f->mm->pages, (struct page_id){ index });

		page->vpn = to_addr >> PAGE_SHIFT;
		/* The kernel moves a page without its protection (before 6.13 with it,
		 * but into a mapping that nobody watches). */
		page_clear_flags(page, PG_PROTECTED);
	}
	pte_set_pins(to, pins);
	pte_set_pins(from, 0);
	pte_unlock_to(to, type, index);
	pte_unlock_to(from, PTE_NONE, 0);
}

int zap_move_ptes(struct fault *f, u64 old, u64 to, u64 len)
{
	struct pte *from;

	for (u64 addr = old; (from = page_table_next(&f->mm->ptes, &addr, old + len));
	     addr += PAGE_SIZE) {
		u64 to_addr = to + (addr - old);
		struct pte *dst;

		/* Only a hint for what is locked: move_pte() looks again. */
		if (!atomic32_load(&from->lo))
			continue;
		dst = page_table_get(&f->mm->ptes, to_addr);
		if (!dst)
			return -ENOMEM;
		move_pte(f, from, dst, to_addr);
	}
	return 0;
}
