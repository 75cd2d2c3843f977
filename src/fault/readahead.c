/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead.c - neighbours that left together come back together.
 *
 * A fault exactly behind the window of an earlier one continues a scan: the window
 * doubles.  Several scans are told apart (a garbage collector has many).  Advice
 * overrides.  Compressed neighbours are brought in at once; those in the store are
 * all submitted, so that their reads overlap.  Each page is charged before it is
 * visible and listed at once (I6).  Never waits: a busy pte, a full group or no
 * free request ends the window.
 */

#include "base/mutant.h"
#include "fault/internal.h"

/* A scan that is worth reclaiming for, pages. */
#define ROOM_WINDOW 8u
#define ROOM_INACTIVE (8 * READAHEAD_MAX)

/* The scan this fault continues, or the oldest one, begun anew. */
static struct stream *find_stream(struct fault_ctx *c)
{
	struct fault *f = c->f;
	struct stream *s = f->stream[c->queue];

	u32 window, nr;

	for (u32 i = 0; i < READAHEAD_STREAMS; i++) {
		if (atomic64_peek(&s[i].next) != c->addr)
			continue;
		window = atomic32_peek(&s[i].window);
		atomic32_poke(&s[i].window, min_of(window ? 2 * window : 2, READAHEAD_MAX));
		return &s[i];
	}
	nr = atomic32_peek(&f->next_stream[c->queue]);
	atomic32_poke(&f->next_stream[c->queue], nr + 1);
	s += nr % READAHEAD_STREAMS;
	atomic32_poke(&s->window, 0);
	return s;
}

static u32 window_of(const struct fault_ctx *c, const struct stream *s)
{
	if (c->region.flags & REGION_RANDOM)
		return 0;
	if (c->region.flags & REGION_SEQUENTIAL)
		return READAHEAD_MAX;
	return atomic32_peek(&s->window);
}

/* ---- memory that was never touched ------------------------------------------ */

/* The locked, charged, described neighbours of a page that got its first touch. */
struct fresh_run {
	u32 nr;
	struct pte *pte[READAHEAD_MAX];
	struct page_id page[READAHEAD_MAX];
};

static bool add_fresh(struct fault_ctx *c, struct fresh_run *run, u64 addr)
{
	struct fault *f = c->f;
	struct pte *pte = page_table_find(&f->mm->ptes, addr);
	struct page_id page;
	struct memcg_id over;

	if (!pte || pte_type(pte) != PTE_NONE || !pte_trylock(pte))
		return false;
	/* zap_begin() steps over an unlocked NONE: asked before the lock, the answer
	 * would be none (as in serve_locked()). */
	if (pte_type(pte) != PTE_NONE ||
	    (mm_zapping(f->mm, addr) && !MUTANT(zeros_ahead_ignore_zap)) ||
	    memcg_try_charge(f->tree, &c->t->stock, c->objcg, 1, &over))
		goto unlock;
	page = page_alloc(&f->mm->pages, addr >> PAGE_SHIFT, c->objcg.v);
	if (!page.v)
		goto uncharge;
	run->pte[run->nr] = pte;
	run->page[run->nr++] = page;
	return true;
uncharge:
	memcg_uncharge(f->tree, &c->t->stock, c->objcg, 1);
unlock:
	pte_unlock(pte);
	return false;
}

/*
 * Guard pages that were made since the fault looked at its region: filling would replace
 * them.  With the ptes locked the answer holds: who makes one now waits for us.
 */
static bool met_guard(const struct fault_ctx *c, u64 end)
{
	struct region r;

	if (MUTANT(zeros_ahead_ignore_guard))
		return false;
	return !region_find(&c->f->mm->regions, c->addr, &r) || r.end < end ||
	       r.flags & REGION_GUARDED;
}

/*
 * A program that fills memory touches it page after page; each touch costs a
 * round through the fault thread, sixteen in one call little more than one.
 */
void fault_zero_ahead(struct fault_ctx *c)
{
	struct fault *f = c->f;
	struct stream *s = find_stream(c);
	u64 addr = c->addr + PAGE_SIZE;
	u64 end = min_of(addr + (u64)window_of(c, s) * PAGE_SIZE, c->region.end);
	struct fresh_run run = { .nr = 0 };
	long done = 0;

	if (c->region.flags & REGION_GUARDED)
		return;
	while (addr + run.nr * PAGE_SIZE < end && add_fresh(c, &run, addr + run.nr * PAGE_SIZE))
		;
	if (run.nr && !met_guard(c, addr + run.nr * PAGE_SIZE))
		done = f->mm->pager.ops->zero(&f->mm->pager, c->queue, addr, run.nr,
					      PAGER_DONTWAKE);
	for (u32 i = 0; i < run.nr; i++) {
		if ((long)i < done) {
			fault_publish(c, run.pte[i], run.page[i]);
			memcg_stat_add(f->tree, c->objcg, MEMCG_STAT_READAHEAD, 1);
			continue;
		}
		page_free(&f->mm->pages, run.page[i]);
		memcg_uncharge(f->tree, &c->t->stock, c->objcg, 1);
		pte_unlock(run.pte[i]);
	}
	atomic64_poke(&s->next, addr + (done > 0 ? (u64)done : 0) * PAGE_SIZE);
	/* A thread may have faulted on one of them meanwhile: its message finds the
	 * page present, and wakes it. */
}

/* ---- pages that are out --------------------------------------------------------- */

/* Lock the neighbour if it is out, not in a frame, and there is room. */
static struct pte *lock_neighbour(struct fault_ctx *c, u64 addr, enum slot_kind *ret_kind)
{
	struct fault *f = c->f;
	struct pte *pte = page_table_find(&f->mm->ptes, addr);
	struct memcg_id over;

	if (!pte || pte_type(pte) != PTE_SWAP || !pte_trylock(pte))
		return NULL;
	if (pte_type(pte) == PTE_SWAP &&
	    (!mm_zapping(f->mm, addr) || MUTANT(readahead_ignores_zap))) {
		struct slot_id slot = { pte_index(pte) };

		*ret_kind = slot_kind(slot_at(f->swap, slot)); /* a hint */
		if (*ret_kind > SLOT_FRAME &&
		    !memcg_try_charge(f->tree, &c->t->stock, c->objcg, 1, &over))
			return pte;
	}
	pte_unlock(pte);
	return NULL;
}

/* One charged, locked neighbour; false: the window ends here. */
static bool bring_in(struct fault_ctx *c, struct pte *pte, enum slot_kind kind)
{
	struct slot_id slot = { pte_index(pte) };
	struct fault *f = c->f;
	enum fault_result res;

	if (kind == SLOT_STORE) {
		res = store_in_start(f, pte, c->queue, c->addr, c->objcg, slot, c->write);
		c->charged = res != FAULT_IO;
		return res == FAULT_IO;
	}
	if (zswap_load(f->zswap, &c->t->codec, slot, c->t->codec.page)) {
		/* In the store since we looked, or damaged: its own fault settles it. */
		pte_unlock(pte);
		return false;
	}
	return fault_finish_swap_in(c, pte, slot, c->t->codec.page) == FAULT_DONE && !c->charged;
}

/*
 * Where kswapd is behind there would be no room, no readahead, and a fault for each page
 * of a scan: more work for this thread than reclaiming what the scan needs.
 */
static void make_room(struct fault_ctx *c, u32 window)
{
	struct memcg_id id = objcg_memcg(c->f->tree, c->objcg);

	if (window < ROOM_WINDOW || c->pager_flags || memcg_margin(c->f->tree, id) >= window)
		return;
	/* In a small group what reclaim finds is the page that was just brought in. */
	if (lruvec_nr(lruvec_of(c->f->lru, id), LRU_INACTIVE) < ROOM_INACTIVE)
		return;
	(void)fault_reclaim(c->f, c->t, id);
}

void fault_readahead(struct fault_ctx *c)
{
	struct fault *f = c->f;
	struct stream *s = find_stream(c);
	u64 addr = c->addr + PAGE_SIZE;
	u32 window = window_of(c, s);
	u64 end = min_of(addr + (u64)window * PAGE_SIZE, c->region.end);
	bool more = true;

	/* Advice is no scan.  The page that came in may itself go to make room, and then
	 * faults again: that fault continues nothing, so it ends there. */
	make_room(c, min_of(window, atomic32_peek(&s->window)));
	for (; more && addr < end; addr += more ? PAGE_SIZE : 0) {
		struct fault_ctx n = *c;
		enum slot_kind kind = SLOT_FREE;
		struct pte *pte;

		pte = lock_neighbour(c, addr, &kind);
		if (!pte)
			break;
		n.addr = addr;
		n.pager_flags = PAGER_DONTWAKE;
		n.charged = true;
		more = bring_in(&n, pte, kind);
		if (n.charged)
			memcg_uncharge(f->tree, &c->t->stock, c->objcg, 1);
		else
			memcg_stat_add(f->tree, c->objcg, MEMCG_STAT_READAHEAD, 1);
	}
	atomic64_poke(&s->next, addr);
	/* The scan goes on as soon as its page is there, into the next one, which is not.
	 * Woken for each it would fault for each. */
	if (addr > c->addr + PAGE_SIZE && !fault_wake_flags(f))
		f->mm->pager.ops->wake(&f->mm->pager, c->queue, c->addr + PAGE_SIZE,
				       addr - c->addr - PAGE_SIZE);
}
