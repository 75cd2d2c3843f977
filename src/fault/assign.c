/* SPDX-License-Identifier: Apache-2.0 */
/*
 * assign.c - what lies in a range changes hands: page by page, owner and charge
 * together, while everybody works on it.
 *
 * The switcher of races.md 1.3.  Owns no state; the caller (engine/assign.c) has
 * seen to it that faults charge the new owner.  Under its pte lock a page's owner
 * changes
 *   mapped        by who cleared PG_LRU: off the old group's list, onto the new one's
 *   in a frame    the same, with its slot
 *   out           under the cluster lock: a compressed object changes lists too
 * Who has the page or the slot in hand (reclaim, pageout, writeback) goes by what
 * it saw: it is waited for, without a lock.  The target's limits are asked before
 * anything changes, up to the group above both: from there on nothing changes.
 * Entry point: assign_range().  Request thread only.
 * Invariants: K1, K2; I2: who is charged is who is named, in the page and the slot.
 * Lock ranks: PTE, CLUSTER, then LRUVEC or ZSWAP_LRU.
 */
#include <errno.h>

#include "base/mutant.h"
#include "base/os.h"
#include "fault/internal.h"
#include "memcg/move.h"

/* Rounds of reclaim without any progress before the target counts as full. */
#define ASSIGN_RETRIES 16
/* Looks at a page that somebody has in hand before we sleep between them. */
#define ASSIGN_SPINS 64
#define ASSIGN_PAUSE_NS (50 * NSEC_PER_USEC)

enum assign_step { ASSIGN_DONE, ASSIGN_BUSY, ASSIGN_FULL };

struct assign {
	struct fault *f;
	struct task *t;
	struct objcg_id to;
	bool force;
	struct page_id page; /* of ASSIGN_BUSY: in somebody's hand; or {0} */
	/* of ASSIGN_FULL: whose limit, and which */
	struct memcg_id over;
	enum page_counter_kind full;
};

/* ---- charges ---------------------------------------------------------------------- */

static bool charge_page(struct assign *a, struct objcg_id from)
{
	if (a->force)
		memcg_move_charge(a->f->tree, from, a->to, 1);
	else if (memcg_try_move_charge(a->f->tree, from, a->to, 1, &a->over)) {
		a->full = COUNTER_MEMORY;
		return false;
	}
	return true;
}

static bool charge_slot(struct assign *a, struct objcg_id from)
{
	if (a->force)
		memcg_swap_move(a->f->tree, from, a->to, 1);
	else if (memcg_try_swap_move(a->f->tree, from, a->to, 1, &a->over)) {
		a->full = COUNTER_SWAP;
		return false;
	}
	return true;
}

static void stat_moves(struct assign *a, struct objcg_id from, enum memcg_stat item)
{
	memcg_stat_add(a->f->tree, from, item, -1);
	memcg_stat_add(a->f->tree, a->to, item, 1);
}

/* ---- pages ------------------------------------------------------------------------ */

/*
 * Charges of a page that is ours and of the slot it may have ({0}: none).  They may
 * have different payers: a clean copy is older than the page.
 */
static bool charge_both(struct assign *a, struct objcg_id page, struct objcg_id slot)
{
	bool same = page.v == a->to.v;

	if (!same && !charge_page(a, page))
		return false;
	if (!slot.v || slot.v == a->to.v || charge_slot(a, slot))
		return true;
	if (!same)
		memcg_move_charge(a->f->tree, a->to, page, 1);
	return false;
}

/* The slot's payer; {0}: none. */
static struct objcg_id slot_payer(struct assign *a, u32 slot)
{
	return (struct objcg_id){ slot ? slot_at(a->f->swap, (struct slot_id){ slot })->objcg : 0 };
}

/* A mapped page that is ours, off its list, with its clean copy. */
static bool take_over(struct assign *a, struct page *page)
{
	struct objcg_id from = { page->objcg }, copy = slot_payer(a, page->slot);
	struct slot_id slot = { page->slot };

	/* One in the pool is charged by the byte as well: not worth moving. */
	if (slot.v && slot_kind(slot_at(a->f->swap, slot)) == SLOT_ZSWAP) {
		slot_drop(a->f->swap, &a->t->slots, slot);
		page->slot = slot.v = copy.v = 0;
	}
	if (!charge_both(a, from, copy))
		return false;
	if (from.v != a->to.v)
		stat_moves(a, from, MEMCG_STAT_ANON);
	page->objcg = a->to.v;
	if (!slot.v || copy.v == a->to.v)
		return true;
	slot_lock(a->f->swap, slot);
	zswap_move_owner(a->f->zswap, slot, a->to);
	slot_unlock(a->f->swap, slot);
	stat_moves(a, copy, MEMCG_STAT_SWAPCACHED);
	return true;
}

static enum assign_step assign_mapped(struct assign *a, struct page_id id)
{
	struct page *page = page_at(&a->f->mm->pages, id);
	bool ours, moved, alive;

	if (page->objcg == a->to.v && (!page->slot || slot_payer(a, page->slot).v == a->to.v))
		return ASSIGN_DONE;
	a->page = id;
	ours = lru_isolate(a->f->lru, id);
	if (!ours && !MUTANT(assign_ignores_owner))
		return ASSIGN_BUSY;
	moved = take_over(a, page);
	if (ours) {
		alive = lru_putback(a->f->lru, id, false);
		quire_assert(alive); /* only a zap leaves a note, and that is our thread's */
	}
	return moved ? ASSIGN_DONE : ASSIGN_FULL;
}

/* A page in a frame that is ours, off its list, and its slot. */
static bool take_over_both(struct assign *a, struct page *page, struct slot_id id)
{
	struct objcg_id from = { page->objcg }, slot = slot_payer(a, id.v);

	if (!charge_both(a, from, slot))
		return false;
	page->objcg = a->to.v;
	if (slot.v == a->to.v)
		return true;
	slot_lock(a->f->swap, id);
	slot_at(a->f->swap, id)->objcg = a->to.v;
	slot_unlock(a->f->swap, id);
	stat_moves(a, slot, MEMCG_STAT_SWAPCACHED);
	return true;
}

/* In the swap cache; cluster lock held, unlocks. */
static enum assign_step assign_in_frame(struct assign *a, struct slot_id slot)
{
	struct slot *s = slot_at(a->f->swap, slot);
	struct page_id id = { (u32)slot_loc(s) };
	struct page *page = page_at(&a->f->mm->pages, id);
	bool ours, moved;

	if (page->objcg == a->to.v && s->objcg == a->to.v) {
		slot_unlock(a->f->swap, slot);
		return ASSIGN_DONE;
	}
	a->page = id;
	ours = !(slot_flags(s) & SLOT_BUSY) && page_isolate(page);
	slot_unlock(a->f->swap, slot);
	if (!ours && !MUTANT(assign_ignores_pageout))
		return ASSIGN_BUSY;
	if (ours)
		lru_del(a->f->lru, id);
	moved = take_over_both(a, page, slot);
	if (ours)
		swap_cache_putback(a->f->swap, &a->t->slots, id, false);
	return moved ? ASSIGN_DONE : ASSIGN_FULL;
}

/* Out of memory; cluster lock held. */
static enum assign_step assign_stored(struct assign *a, struct slot_id slot)
{
	struct slot *s = slot_at(a->f->swap, slot);
	struct objcg_id from = { s->objcg };
	u32 bytes;

	a->page.v = 0;
	if (slot_flags(s) & SLOT_WB && !MUTANT(assign_ignores_writeback))
		return ASSIGN_BUSY;
	if (!charge_slot(a, from))
		return ASSIGN_FULL;
	if (slot_kind(s) == SLOT_ZSWAP) {
		bytes = zs_charged_size(a->f->zswap->pool, slot_len(s));
		if (a->force)
			memcg_zswap_move(a->f->tree, from, a->to, bytes);
		else if (memcg_try_zswap_move(a->f->tree, from, a->to, bytes, &a->over, &a->full)) {
			memcg_swap_move(a->f->tree, a->to, from, 1);
			return ASSIGN_FULL;
		}
	}
	zswap_move_owner(a->f->zswap, slot, a->to);
	return ASSIGN_DONE;
}

static enum assign_step assign_slot(struct assign *a, struct slot_id slot)
{
	struct slot *s = slot_at(a->f->swap, slot);
	enum assign_step step = ASSIGN_DONE;

	slot_lock(a->f->swap, slot);
	if (slot_kind(s) == SLOT_FRAME)
		return assign_in_frame(a, slot);
	if (s->objcg != a->to.v)
		step = assign_stored(a, slot);
	slot_unlock(a->f->swap, slot);
	return step;
}

/* ---- the range --------------------------------------------------------------------- */

/* A read under way has the lock: until it is done. */
static enum assign_step assign_pte(struct assign *a, struct pte *pte)
{
	enum assign_step step = ASSIGN_DONE;

	pte_lock(pte);
	if (pte_type(pte) == PTE_PRESENT) {
		step = assign_mapped(a, (struct page_id){ pte_index(pte) });
	} else if (pte_type(pte) == PTE_SWAP) {
		step = assign_slot(a, (struct slot_id){ pte_index(pte) });
	}
	pte_unlock(pte);
	return step;
}

/* Room in the target; false: there is none to be had. */
static bool make_room(struct assign *a)
{
	struct reclaim *r = a->f->reclaim;
	long n;

	if (a->full == COUNTER_SWAP)
		return false; /* reclaim would only need more of it */
	if (a->full == COUNTER_MEMORY)
		return !populate_make_room(a->f, a->t, a->over);
	gate_enter(r->gate);
	n = reclaim_writeback(r, a->t, a->over, WRITEBACK_BATCH);
	gate_leave(r->gate);
	return n > 0;
}

/* Without any lock: is what we met in somebody's hand still there? */
static bool in_hand(struct assign *a, struct pte *pte)
{
	struct slot_id slot = { atomic32_load(&pte->hi) };
	enum pte_type type = pte_type(pte);
	bool owned = a->page.v &&
		     !(atomic32_load(&page_at(&a->f->mm->pages, a->page)->flags) & PG_LRU);
	u64 where;

	if (type == PTE_PRESENT)
		return owned && slot.v == a->page.v;
	if (type != PTE_SWAP)
		return false;
	where = where_of(slot_at(a->f->swap, slot)); /* a hint */
	if (where_kind(where) != SLOT_FRAME)
		return where_flags(where) & SLOT_WB;
	return owned && (u32)where_loc(where) == a->page.v;
}

/* Who has it never waits for us: a lock of ours makes them give up. */
static void wait_for_owner(struct assign *a, struct pte *pte)
{
	for (u32 n = 0; in_hand(a, pte); n++) {
		if (n < ASSIGN_SPINS)
			sync_relax();
		else
			os_sleep_ns(ASSIGN_PAUSE_NS);
	}
}

static int assign_one(struct assign *a, struct pte *pte)
{
	u32 fruitless = 0;

	for (;;) {
		switch (assign_pte(a, pte)) {
		case ASSIGN_DONE:
			return 0;
		case ASSIGN_BUSY:
			wait_for_owner(a, pte);
			break;
		case ASSIGN_FULL:
			fruitless = make_room(a) ? 0 : fruitless + 1;
			if (a->full == COUNTER_SWAP || fruitless == ASSIGN_RETRIES)
				return a->full == COUNTER_SWAP ? -ENOSPC : -ENOMEM;
			break;
		}
	}
}

int assign_range(struct fault *f, struct task *t, u64 start, u64 end, struct objcg_id to,
		 bool force, u64 *ret_done)
{
	struct assign a = { .f = f, .t = t, .to = to, .force = force };
	struct pte *pte;
	int err = 0;
	u64 addr;

	for (addr = start; (pte = page_table_next(&f->mm->ptes, &addr, end)); addr += PAGE_SIZE) {
		if (!atomic32_load(&pte->lo))
			continue; /* never touched, and whoever does now charges `to` */
		err = assign_one(&a, pte);
		if (err)
			break;
	}
	*ret_done = err ? addr : end;
	memcg_drain_stock(f->tree, &t->stock);
	return err;
}
