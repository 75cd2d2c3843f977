/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig_check.c - does everything that is counted agree with what is there?
 */
#include <string.h>

#include "base/assert.h"
#include "rig.h"

struct tally {
	u32 present, frame, filled, zswap, stored, kept; /* pages; kept: clean copies */
	u32 kept_zswap; /* clean copies in the pool: of zswap */
	u32 listed; /* pages on lists, summed up from the lists */
	u32 zlisted;
};

static void check_bytes(const struct rig *r, u32 page, const void *bytes)
{
	u8 want[PAGE_SIZE] __attribute__((aligned(8)));

	rig_content(want, r->want[page].fill, r->want[page].seed);
	quire_assert(!memcmp(bytes, want, PAGE_SIZE));
}

static void check_page(struct rig *r, struct page_id id, u32 page_nr, bool in_frame)
{
	const struct page *page = page_at(&r->e->mm.pages, id);
	u32 flags = atomic32_peek(&page->flags);

	quire_assert(page->vpn == fake_addr(page_nr) >> PAGE_SHIFT);
	quire_assert(flags & PG_LRU); /* I1: a list of its group has it */
	quire_assert(!(flags & PG_DEAD)); /* I3: no note without a reader */
	quire_assert(!(flags & PG_FRAME) == !in_frame && !page->frame == !in_frame);
}

static void check_present(struct rig *r, u32 nr, struct page_id id, struct tally *n)
{
	const struct page *page = page_at(&r->e->mm.pages, id);
	const struct slot *slot = slot_at(&r->e->swap, (struct slot_id){ page->slot });

	check_page(r, id, nr, false);
	quire_assert(fake_flags(&r->e->mm.pager, fake_addr(nr)) & FAKE_PRESENT);
	check_bytes(r, nr, fake_content(&r->e->mm.pager, fake_addr(nr)));
	n->present++;
	if (!page->slot)
		return;
	quire_assert((slot_flags(slot) & ~(SLOT_RAW | SLOT_DENSE)) == SLOT_CACHED &&
		     slot->shadow == id.v);
	if (slot_kind(slot) == SLOT_ZSWAP) {
		n->zswap++;
		n->kept_zswap++;
		/* Met by a writeback: listed when the page leaves. */
		n->zlisted += slot->zlru.prev == ZLRU_OFF;
		return;
	}
	quire_assert(slot_kind(slot) == SLOT_STORE);
	quire_assert(fake_store_at(&r->store, slot_loc(slot)));
	n->kept++;
}

static void check_stored(struct rig *r, u32 nr, struct slot_id id)
{
	const struct slot *slot = slot_at(&r->e->swap, id);
	const struct fake_object *o = fake_store_at(&r->store, slot_loc(slot));
	u8 *bytes = r->task[0].codec.page;
	int err;

	quire_assert(o && o->owner == id.v && o->len == slot_len(slot));
	err = zswap_finish_read(&r->e->zswap, id, o->data, o->len, slot_flags(slot) & SLOT_RAW,
				bytes);
	quire_assert(!err);
	check_bytes(r, nr, bytes);
}

static void check_slot(struct rig *r, u32 nr, struct slot_id id, struct tally *n)
{
	const struct slot *slot = slot_at(&r->e->swap, id);
	struct page_id page = { (u32)slot_loc(slot) };
	enum slot_kind kind = slot_kind(slot);
	int err;

	quire_assert(!(slot_flags(slot) & ~(SLOT_RAW | SLOT_DENSE))); /* nobody is busy, no note */
	quire_assert(!(fake_flags(&r->e->mm.pager, fake_addr(nr)) & FAKE_PRESENT));
	if (kind == SLOT_FRAME) {
		check_page(r, page, nr, true);
		quire_assert(page_at(&r->e->mm.pages, page)->slot == id.v);
		check_bytes(r, nr,
			    frame_addr(&r->e->mm.frames, page_at(&r->e->mm.pages, page)->frame));
		n->frame++;
	} else if (kind == SLOT_STORE) {
		check_stored(r, nr, id);
		n->stored++;
	} else {
		err = zswap_load(&r->e->zswap, &r->task[0].codec, id, r->task[0].codec.page);
		quire_assert(!err);
		check_bytes(r, nr, r->task[0].codec.page);
		n->filled += kind == SLOT_FILLED;
		n->zswap += kind == SLOT_ZSWAP;
		/* What is in the pool can be written back (S1). */
		quire_assert(kind == SLOT_FILLED || slot->zlru.prev != ZLRU_OFF);
	}
}

static void check_pte(struct rig *r, u32 nr, struct tally *n)
{
	const struct pte *pte = rig_pte(r, nr);
	u32 lo = pte ? pte_peek(pte) : 0;

	quire_assert(!(lo & (PTE_LOCK | PTE_IO | PTE_WAITERS)));
	switch (pte_type_of(lo)) {
	case PTE_NONE:
		quire_assert(r->want[nr].fill == RIG_ABSENT); /* bytes were lost */
		quire_assert(!(fake_flags(&r->e->mm.pager, fake_addr(nr)) & FAKE_PRESENT));
		break;
	case PTE_PRESENT:
		check_present(r, nr, (struct page_id){ pte_index(pte) }, n);
		break;
	case PTE_SWAP:
		check_slot(r, nr, (struct slot_id){ pte_index(pte) }, n);
		break;
	case PTE_POISONED:
		quire_assert(fake_flags(&r->e->mm.pager, fake_addr(nr)) & FAKE_POISONED);
		break;
	}
}

/* The compressed objects of a group: listed there, and nowhere else (K1). */
static void check_zlru(struct rig *r, u32 memcg)
{
	const struct ilist *l = &r->e->lru.vec[memcg].zlru;
	u32 nr = 0, prev = 0;

	for (u32 i = l->head; i; i = slot_at(&r->e->swap, (struct slot_id){ i })->zlru.next) {
		const struct slot *slot = slot_at(&r->e->swap, (struct slot_id){ i });
		struct objcg_id o = { slot->objcg };

		quire_assert(slot_kind(slot) == SLOT_ZSWAP && slot->zlru.prev == prev);
		quire_assert(objcg_lists(r->e->tree, o).v == memcg);
		prev = i;
		nr++;
	}
	quire_assert(l->nr == nr && l->tail == prev);
}

static void check_lists(struct rig *r, struct tally *n)
{
	const struct lru *lru = &r->e->lru;

	lru_check(&r->e->lru);
	for (u32 i = 1; i < lru->nr_vecs; i++) {
		for (u32 l = 0; l < NR_LRU_LISTS; l++)
			n->listed += lruvec_nr(&lru->vec[i], (enum lru_list)l);
		check_zlru(r, i);
		n->zlisted += lru->vec[i].zlru.nr;
		for (u32 s = 0; s < lru->nr_slices; s++)
			quire_assert(!atomic32_peek(
				&lru_slice(lru, (struct memcg_id){ i }, s)->lock.word));
	}
	quire_assert(n->listed == n->present + n->frame);
	quire_assert(n->zlisted == n->zswap);
}

static u64 slots_cached(const struct rig *r)
{
	u64 nr = 0;

	for (u32 t = 0; t < RIG_TASKS; t++)
		nr += r->task[t].slots.nr;
	for (u32 q = 0; q < RIG_QUEUES; q++)
		nr += r->e->fault_thread[q].task.slots.nr;
	return nr + r->e->kswapd_task.slots.nr;
}

static void check_counts(struct rig *r, const struct tally *n)
{
	struct engine *e = r->e;
	u32 slots = n->frame + n->filled + n->zswap + n->stored + n->kept;

	quire_assert(stat_read(&e->mm.pages.table.nr_live) == n->present + n->frame);
	quire_assert(atomic32_peek(&e->mm.frames.nr_used) == n->frame);
	quire_assert(stat_read(&e->swap.slots.nr_live) - slots_cached(r) == slots);
	quire_assert(zspool_nr_objects(e->zswap.pool) == n->zswap);
	quire_assert(fake_store_nr(&r->store) == n->stored + n->kept);
	zspool_check(e->zswap.pool);
	quire_assert(memcg_usage(e->tree, r->p, COUNTER_SWAP) == slots + r->foreign_swap);
}

static void check_charges(struct rig *r, const struct tally *n)
{
	struct memcg_stats s;

	for (u32 t = 0; t < RIG_TASKS; t++)
		memcg_drain_stock(r->e->tree, &r->task[t].stock);
	for (u32 q = 0; q < RIG_QUEUES; q++)
		memcg_drain_stock(r->e->tree, &r->e->fault_thread[q].task.stock);
	memcg_check(r->e->tree);
	memcg_stats_read(r->e->tree, r->p, &s);
	quire_assert(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY) ==
		     n->present + n->frame + s.zswap_pages + r->foreign_memory);
	quire_assert(s.v[MEMCG_STAT_ANON] == n->present);
	quire_assert(s.v[MEMCG_STAT_FRAMES] == n->frame);
	quire_assert(s.v[MEMCG_STAT_SWAPCACHED] == n->frame + n->kept + n->kept_zswap);
	quire_assert(s.v[MEMCG_STAT_FILLED] == n->filled);
	quire_assert(s.v[MEMCG_STAT_ZSWAPPED] == n->zswap);
	quire_assert(s.v[MEMCG_STAT_STORED] == n->stored + n->kept);
	quire_assert(s.v[MEMCG_STAT_INACTIVE_ANON] + s.v[MEMCG_STAT_ACTIVE_ANON] +
			     s.v[MEMCG_STAT_UNEVICTABLE] ==
		     n->present);
}

void rig_check(struct rig *r)
{
	struct tally n = { 0 };

	for (u32 i = 0; i < RIG_PAGES; i++)
		check_pte(r, i, &n);
	check_lists(r, &n);
	check_counts(r, &n);
	check_charges(r, &n);
	quire_assert(!fake_nr_waiting(&r->e->mm.pager) && !r->store.pending);
	quire_assert(!(atomic32_peek(&r->e->mm.zap.seq) & 1));
	quire_assert(!atomic32_peek(&r->e->fault_gate.state) &&
		     !atomic32_peek(&r->e->reclaim_gate.state));
}
