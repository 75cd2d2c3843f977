/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zap.c - the program gives memory back: munmap, MADV_DONTNEED, mremap.
 *
 * The engine forgets a range before the kernel does (findings 11).  Between
 * zap_begin() and zap_finish() no fault in the range is served: the range is
 * published first, then every pte that is not an unlocked NONE is locked and
 * emptied; a fault that locked its pte before the publication is waited for, one
 * after it sees the range and leaves.
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

static void zap_pte(struct fault *f, struct task *t, struct pte *pte)
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
	pte_set_pins(pte, 0);
	pte_unlock_to(pte, PTE_NONE, 0);
}

void zap_begin(struct fault *f, struct task *t, u64 start, u64 end)
{
	struct pte *pte;

	quire_assert(!(atomic32_peek(&f->zap_seq) & 1));
	atomic64_store(&f->zap_start, start);
	atomic64_store(&f->zap_end, end);
	/* A full barrier: published before any pte is looked at (pairs with the CAS
	 * of pte_lock_fault() and the load in zap_covers()). */
	if (!MUTANT(zap_published_late))
		atomic32_fetch_add(&f->zap_seq, 1);
	for (u64 addr = start; (pte = page_table_next(&f->mm->ptes, &addr, end)); addr += PAGE_SIZE)
		if (atomic32_load(&pte->lo))
			zap_pte(f, t, pte);
	if (MUTANT(zap_published_late))
		atomic32_fetch_add(&f->zap_seq, 1);
	memcg_drain_stock(f->tree, &t->stock);
}

void zap_finish(struct fault *f, u64 start, u64 end)
{
	quire_assert(atomic32_fetch_add(&f->zap_seq, 1) & 1);
	for (u32 q = 0; q < f->mm->pager.nr_queues; q++)
		f->mm->pager.ops->wake(&f->mm->pager, q, start, end - start);
}

/* The two ends of one range, never one end each of two: a fault outside that
 * took itself for inside would be left for zap_finish() to wake, which does not. */
bool zap_covers(const struct fault *f, u64 addr)
{
	for (;;) {
		u32 seq = atomic32_load(&f->zap_seq);
		u64 start, end;

		if (likely(!(seq & 1)))
			return false;
		start = atomic64_load(&f->zap_start);
		end = atomic64_load(&f->zap_end);
		if (atomic32_load(&f->zap_seq) == seq || MUTANT(zap_range_torn))
			return addr >= start && addr < end;
	}
}

static void move_pte(struct fault *f, struct pte *from, struct pte *to, u64 to_addr)
{
	u32 index = pte_index(from), pins = pte_pins(from);
	enum pte_type type = pte_type(from);

	pte_lock(from);
	pte_lock(to);
	if (type == PTE_PRESENT)
		page_at(&f->mm->pages, (struct page_id){ index })->vpn = to_addr >> PAGE_SHIFT;
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

		if (pte_type(from) == PTE_NONE)
			continue;
		dst = page_table_get(&f->mm->ptes, to_addr);
		if (!dst)
			return -ENOMEM;
		move_pte(f, from, dst, to_addr);
	}
	return 0;
}
