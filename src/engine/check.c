/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - does everything an engine counts agree with what its ptes say?
 *
 * Owns: engine_check(), for tests: slots in use are the ptes' and those of clean
 * copies, nobody is busy with one and no note is left (S0, S4); every page, one in a
 * frame too, is on a list of the group that pays for it (I1).
 * Invariants: while the engine runs both gates are closed, so that at any time nobody
 * is in the middle of something.
 * Lock ranks: the gates; LRUVEC.
 */
#include "engine/internal.h"

struct tally {
	u64 present, frame, slots;
};

static void check_page(struct engine *e, struct page_id id, u64 addr, bool in_frame)
{
	const struct page *page = page_at(&e->mm.pages, id);
	u32 flags = atomic32_peek(&page->flags);

	quire_assert(page_addr(page) == addr);
	quire_assert((flags & PG_LRU) && !(flags & PG_DEAD));
	quire_assert(!(flags & PG_FRAME) == !in_frame);
}

static void check_slot(struct engine *e, struct slot_id id, struct page_id page, struct tally *n)
{
	u64 where = where_of(slot_at(&e->swap, id));

	quire_assert(where_kind(where) != SLOT_FREE);
	quire_assert(!(where_flags(where) & ~(SLOT_RAW | SLOT_DENSE | SLOT_CACHED)));
	quire_assert(!(where_flags(where) & SLOT_CACHED) == !page.v);
	n->slots++;
}

static void check_pte(struct engine *e, const struct pte *pte, u64 addr, struct tally *n)
{
	u32 index = pte_index(pte);
	const struct slot *slot;

	quire_assert(!(pte_peek(pte) & (PTE_LOCK | PTE_IO)));
	if (pte_type(pte) == PTE_PRESENT) {
		struct page_id id = { index };
		u32 copy = page_at(&e->mm.pages, id)->slot;

		check_page(e, id, addr, false);
		n->present++;
		if (copy)
			check_slot(e, (struct slot_id){ copy }, id, n);
	} else if (pte_type(pte) == PTE_SWAP) {
		slot = slot_at(&e->swap, (struct slot_id){ index });
		check_slot(e, (struct slot_id){ index }, (struct page_id){ 0 }, n);
		if (slot_kind(slot) != SLOT_FRAME)
			return;
		check_page(e, (struct page_id){ (u32)slot_loc(slot) }, addr, true);
		n->frame++;
	}
}

static void check_ptes(struct engine *e, struct tally *n)
{
	struct region r;
	const struct pte *pte;

	for (u64 at = 0; region_next(&e->mm.regions, at, &r); at = r.end)
		for (u64 addr = r.start; (pte = page_table_next(&e->mm.ptes, &addr, r.end));
		     addr += PAGE_SIZE)
			check_pte(e, pte, addr, n);
}

/* Free numbers that threads keep. */
static u64 slots_cached(const struct engine *e)
{
	u64 nr = e->request_task.slots.nr + e->kswapd_task.slots.nr + e->writeback_task.slots.nr;

	for (u32 q = 0; q < e->nr_fault_threads; q++)
		nr += e->fault_thread[q].task.slots.nr;
	return nr + fault_self_slots(&e->fault);
}

static void check_all(struct engine *e)
{
	struct tally n = { 0 };
	u64 listed = 0;

	region_check(&e->mm.regions);
	lru_check(&e->lru);
	if (e->zswap.pool)
		zspool_check(e->zswap.pool);
	check_ptes(e, &n);
	for (u32 i = 1; i < e->lru.nr_vecs; i++)
		for (u32 l = 0; l < NR_LRU_LISTS; l++)
			listed += lruvec_nr(&e->lru.vec[i], (enum lru_list)l);
	quire_assert(listed == n.present + n.frame);
	quire_assert(stat_read(&e->mm.pages.table.nr_live) == n.present + n.frame);
	quire_assert(atomic32_peek(&e->mm.frames.nr_used) == n.frame);
	quire_assert(stat_read(&e->swap.slots.nr_live) - slots_cached(e) == n.slots);
}

s64 check_running(struct engine *e)
{
	offline_finish(e, 0, UINT64_MAX);
	gate_close(&e->reclaim_gate);
	gate_close(&e->fault_gate);
	check_all(e);
	gate_open(&e->fault_gate);
	gate_open(&e->reclaim_gate);
	return 0;
}

void engine_check(struct engine *e)
{
	if (engine_running(e))
		(void)request_call(e, REQ_CHECK, NULL, 0, NULL);
	else
		check_all(e);
}
