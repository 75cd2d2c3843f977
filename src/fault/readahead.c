/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead.c - neighbours that left together come back together.
 *
 * A window per queue: it doubles while faults arrive exactly behind the last
 * window (a scan) and closes at the first that does not.  Advice overrides.
 * Only pages that cost a decompression are brought in; each is charged before it
 * is visible and listed at once (I6).  Never waits: a busy pte or a full group
 * ends the window.
 */
#include <errno.h>
#include <string.h>

#include "fault/internal.h"

static u32 window_of(struct fault_ctx *c)
{
	struct fault *f = c->f;
	u64 expected = atomic64_peek(&f->last_addr[c->queue]);
	u32 w = atomic32_peek(&f->window[c->queue]);

	if (c->region.flags & REGION_RANDOM)
		return 0;
	if (c->region.flags & REGION_SEQUENTIAL)
		return READAHEAD_MAX;
	/* An unsynchronised guess shared by the faults of a queue: wrong at worst. */
	w = c->addr == expected ? min_of(w ? 2 * w : 2, READAHEAD_MAX) : 0;
	atomic32_poke(&f->window[c->queue], w);
	return w;
}

/* Lock the next neighbour if it is worth bringing in and there is room. */
static struct pte *lock_neighbour(struct fault_ctx *c, u64 addr)
{
	struct fault *f = c->f;
	struct pte *pte = page_table_find(&f->mm->ptes, addr);
	struct memcg_id over;
	enum slot_kind kind;

	if (!pte || pte_type(pte) != PTE_SWAP || !pte_trylock(pte))
		return NULL;
	if (pte_type(pte) == PTE_SWAP) {
		struct slot_id slot = { pte_index(pte) };

		kind = where_kind(slot_at(f->swap, slot)->where); /* a hint */
		if ((kind == SLOT_ZSWAP || kind == SLOT_FILLED) &&
		    !memcg_try_charge(f->tree, &c->t->stock, c->objcg, 1, &over))
			return pte;
	}
	pte_unlock(pte);
	return NULL;
}

static bool bring_in(struct fault_ctx *c, u64 addr)
{
	struct fault *f = c->f;
	struct fault_ctx n = *c;
	struct pte *pte = lock_neighbour(c, addr);
	enum fault_result res;

	if (!pte)
		return false;
	n.addr = addr;
	n.pager_flags = 0;
	n.charged = true;
	if (zswap_load(f->zswap, &c->t->codec, (struct slot_id){ pte_index(pte) },
		       c->t->codec.page)) {
		/* In the store since we looked, or damaged: its own fault settles it. */
		pte_unlock(pte);
		res = FAULT_NO_MEMORY;
	} else {
		res = fault_finish_swap_in(&n, pte, (struct slot_id){ pte_index(pte) },
					   c->t->codec.page);
	}
	if (n.charged)
		memcg_uncharge(f->tree, &c->t->stock, c->objcg, 1);
	else
		memcg_stat_add(f->tree, c->objcg, MEMCG_STAT_READAHEAD, 1);
	return res == FAULT_DONE && !n.charged;
}

void fault_readahead(struct fault_ctx *c)
{
	struct fault *f = c->f;
	u64 addr = c->addr + PAGE_SIZE;
	u64 end = min_of(addr + (u64)window_of(c) * PAGE_SIZE, c->region.end);
	u64 zap_start = atomic64_load(&f->zap_start);

	while (addr < end && !(addr >= zap_start && addr < atomic64_load(&f->zap_end)) &&
	       bring_in(c, addr))
		addr += PAGE_SIZE;
	atomic64_poke(&f->last_addr[c->queue], addr);
}
