/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead.c - neighbours that left together come back together.
 *
 * Which are wanted is expect.c's guess.  Compressed neighbours are brought in at once;
 * those in the store are all submitted, so that their reads overlap.  Each page is
 * charged before it is visible and listed at once (I6).  Never waits: a busy pte, a
 * full group or no free request ends the window.
 */

#include "base/mutant.h"
#include "fault/internal.h"

/* A scan that is worth reclaiming for, pages. */
#define ROOM_WINDOW 8u
#define ROOM_BATCH 32u
#define ROOM_INACTIVE (8 * READAHEAD_MAX)

/* ---- pages on their way in --------------------------------------------------- */

/* Contiguous neighbours: ptes locked, charged, described, not there yet. */
struct run {
	u64 addr;
	u64 missed; /* where one did not come in; 0: all did */
	u32 nr;
	struct pte *pte[READAHEAD_MAX];
	struct page_id page[READAHEAD_MAX];
	struct slot_id slot[READAHEAD_MAX]; /* 0: was never touched */
};

/* A charged, locked neighbour stays as it is. */
static void let_go(struct fault_ctx *c, struct pte *pte)
{
	memcg_uncharge(c->f->tree, &c->t->stock, c->objcg, 1);
	pte_unlock(pte);
}

/* A charged, locked neighbour, next in the run.  False: no descriptor, it is let go. */
static bool run_add(struct fault_ctx *c, struct run *run, struct pte *pte, struct slot_id slot)
{
	struct fault *f = c->f;
	u64 addr = run->addr + run->nr * PAGE_SIZE;
	struct page_id page = page_alloc(&f->mm->pages, addr >> PAGE_SHIFT, c->objcg.v);
	u32 flags = 0;

	if (!page.v) {
		let_go(c, pte);
		return false;
	}
	if (slot.v)
		flags = workingset_refault(f->lru, c->objcg, slot_at(f->swap, slot)->shadow,
					   addr >> PAGE_SHIFT);
	atomic32_poke(&page_at(&f->mm->pages, page)->flags, flags);
	run->pte[run->nr] = pte;
	run->page[run->nr] = page;
	run->slot[run->nr++] = slot;
	return true;
}

/* Those from `from` on stay out. */
static void run_drop(struct fault_ctx *c, struct run *run, u32 from)
{
	for (u32 i = from; i < run->nr; i++) {
		page_free(&c->f->mm->pages, run->page[i]);
		let_go(c, run->pte[i]);
	}
	run->nr = 0;
}

/* All of them in one call, from src (NULL: zeros); the next run begins behind what came
 * in.  False: not all did. */
static bool run_map(struct fault_ctx *c, struct run *run, const void *src)
{
	struct fault *f = c->f;
	struct pager *pager = &f->mm->pager;
	u32 flags = c->step == PAGE_SIZE ? PAGER_DONTWAKE : 0, nr = run->nr;
	long done = 0;

	if (!nr)
		return true;
	if (src && fault_wants_protection(c, nr)) {
		flags |= PAGER_PROTECT;
		for (u32 i = 0; i < nr; i++)
			atomic32_fetch_or(&page_at(&f->mm->pages, run->page[i])->flags,
					  PG_PROTECTED);
	}
	done = src ? pager->ops->copy(pager, c->queue, run->addr, src, nr, flags) :
		     pager->ops->zero(pager, c->queue, run->addr, nr, flags);
	done = max_of(done, 0l);
	run_drop(c, run, (u32)done);
	for (u32 i = 0; i < (u32)done; i++) {
		if (run->slot[i].v)
			fault_end_slot(c, run->slot[i], 0, run->page[i]);
		fault_publish(c, run->pte[i], run->page[i]);
		memcg_stat_add(f->tree, c->objcg, MEMCG_STAT_READAHEAD, 1);
	}
	run->addr += (u64)done * PAGE_SIZE;
	if (done == nr)
		return true;
	if (!run->missed)
		run->missed = run->addr;
	return false;
}

/*
 * The scan goes on as soon as its page is there, into the next one.  Woken before that is
 * there too it would fault at once; so who has a window is woken here, with all of it.
 */
static void wake(const struct fault_ctx *c, u64 start, u64 end)
{
	if (end > start)
		c->f->mm->pager.ops->wake(&c->f->mm->pager, c->queue, start, end - start);
}

/* ---- memory that was never touched ------------------------------------------ */

static bool add_fresh(struct fault_ctx *c, struct run *run)
{
	struct fault *f = c->f;
	u64 addr = run->addr + run->nr * PAGE_SIZE;
	struct pte *pte = page_table_trylock(&f->mm->ptes, addr, PTE_NONE);
	struct memcg_id over;

	if (!pte)
		return false;
	/* zap_begin() steps over an unlocked NONE: asked before the lock, the answer
	 * would be none (as in serve_locked()). */
	if ((!mm_zapping(f->mm, addr) || MUTANT(zeros_ahead_ignore_zap)) &&
	    !memcg_try_charge(f->tree, &c->t->stock, c->objcg, 1, &over))
		return run_add(c, run, pte, (struct slot_id){ 0 });
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
 * round through the fault thread, thirty-two in one call little more than one.
 */
void fault_zero_ahead(struct fault_ctx *c)
{
	u64 next = c->addr + PAGE_SIZE;
	u64 end = min_of(next + (u64)c->window * PAGE_SIZE, c->region.end);
	struct run run; /* half a KiB: not all of it is set */

	run.addr = next;
	run.missed = 0;
	run.nr = 0;
	while (!(c->region.flags & REGION_GUARDED) && run.addr + run.nr * PAGE_SIZE < end &&
	       add_fresh(c, &run))
		;
	if (run.nr && met_guard(c, run.addr + run.nr * PAGE_SIZE))
		run_drop(c, &run, 0);
	(void)run_map(c, &run, NULL);
	fault_foresee(c, run.addr);
	if (c->window)
		wake(c, c->addr, run.addr);
}

/* ---- pages that are out --------------------------------------------------------- */

/* Lock the neighbour if it is out, not in a frame, and there is room. */
static struct pte *lock_neighbour(struct fault_ctx *c, u64 addr, enum slot_kind *ret_kind)
{
	struct fault *f = c->f;
	struct pte *pte = page_table_trylock(&f->mm->ptes, addr, PTE_SWAP);
	struct memcg_id over;

	if (!pte)
		return NULL;
	if (!mm_zapping(f->mm, addr) || MUTANT(readahead_ignores_zap)) {
		struct slot_id slot = { pte_index(pte) };

		*ret_kind = slot_kind(slot_at(f->swap, slot)); /* a hint */
		if (*ret_kind > SLOT_FRAME &&
		    (*ret_kind != SLOT_STORE || !c->self || c->kind == FAULT_STORE) &&
		    !memcg_try_charge(f->tree, &c->t->stock, c->objcg, 1, &over))
			return pte;
	}
	pte_unlock(pte);
	return NULL;
}

/* Where the bytes of a run are gathered. */
static u8 *run_buf(const struct fault_ctx *c)
{
	return c->t->window ? c->t->window : c->t->codec.page;
}

/* One charged, locked neighbour, whose bytes are here; false: the window ends before it. */
static bool bring_in(struct fault_ctx *c, struct run *run, struct pte *pte, u64 addr)
{
	u8 *buf = run_buf(c);
	u32 room = c->t->window ? READAHEAD_MAX : 1;
	struct slot_id slot = { pte_index(pte) };
	struct fault *f = c->f;

	if (addr != run->addr + run->nr * PAGE_SIZE) {
		if (!run_map(c, run, buf)) {
			let_go(c, pte);
			return false;
		}
		run->addr = addr;
	}
	if (zswap_load(f->zswap, &c->t->codec, slot, buf + run->nr * PAGE_SIZE)) {
		/* In the store since we looked, or damaged: its own fault settles it. */
		let_go(c, pte);
		return false;
	}
	return run_add(c, run, pte, slot) && (run->nr < room || run_map(c, run, buf));
}

/* Reads that begin together. */
struct reads {
	u32 nr;
	struct store_in *in[READAHEAD_MAX]; /* not ours any more when the read has begun */
	u64 addr[READAHEAD_MAX];
};

/* One charged, locked neighbour whose bytes are in the store. */
static bool add_read(struct fault_ctx *c, struct reads *reads, struct pte *pte, u64 addr)
{
	struct store_in *in = NULL;

	if (reads->nr < ARRAY_SIZE(reads->in))
		in = store_in_prepare(c, pte, addr);
	if (!in) {
		let_go(c, pte);
		return false;
	}
	reads->addr[reads->nr] = addr;
	reads->in[reads->nr++] = in;
	return true;
}

/*
 * Where kswapd is behind there would be no room, no readahead, and a fault for each page
 * of a scan: more work for this thread than reclaiming what the scan needs.
 */
static void make_room(struct fault_ctx *c, u32 window)
{
	struct memcg_id id = objcg_memcg(c->f->tree, c->objcg);

	if (window < ROOM_WINDOW || c->self || memcg_margin(c->f->tree, id) >= window)
		return;
	/* In a small group what reclaim finds is the page that was just brought in. */
	if (lruvec_nr(lruvec_of(c->f->lru, id), LRU_INACTIVE) < ROOM_INACTIVE)
		return;
	(void)fault_reclaim(c->f, c->t, id, ROOM_BATCH);
}

/* In memory already: the scan goes over it without a fault. */
static bool is_there(const struct fault_ctx *c, u64 addr)
{
	struct pte *pte = page_table_find(&c->f->mm->ptes, addr);

	return pte && pte_type(pte) == PTE_PRESENT;
}

/*
 * It will be used with those that came in now, and should leave with them: else what is
 * used together falls apart, page by page.
 */
static void rejuvenate(struct fault_ctx *c, u64 addr)
{
	struct pte *pte = page_table_trylock(&c->f->mm->ptes, addr, PTE_PRESENT);
	struct pages *pages = &c->f->mm->pages;
	struct page_id id;

	if (!pte)
		return;
	id.v = pte_index(pte);
	if (!(atomic32_peek(&page_at(pages, id)->flags) & (PG_STREAM | PG_UNEVICTABLE)) &&
	    lru_isolate(c->f->lru, id) && !lru_putback(c->f->lru, id, false))
		page_free(pages, id);
	pte_unlock(pte);
}

static bool in_region(const struct fault_ctx *c, u64 addr)
{
	return addr >= c->region.start && addr < c->region.end;
}

/* Neighbours, nearest first; returns where the scan would fault next.  ret_end: where the
 * window ended, which is behind that if one in the middle did not come in. */
static u64 bring_window(struct fault_ctx *c, struct reads *reads, u64 *ret_end)
{
	u64 step = (u64)c->step, at = c->addr + step;
	enum slot_kind kind = SLOT_FREE;
	struct pte *pte;
	struct run run; /* half a KiB: not all of it is set */

	run.addr = c->addr;
	run.missed = 0;
	run.nr = 0;
	for (u32 n = 0; n < c->window && in_region(c, at); n++, at += step) {
		if (is_there(c, at)) {
			rejuvenate(c, at);
			continue;
		}
		pte = lock_neighbour(c, at, &kind);
		if (!pte)
			break;
		if (kind == SLOT_STORE ? !add_read(c, reads, pte, at) : !bring_in(c, &run, pte, at))
			break;
	}
	*ret_end = at;
	(void)run_map(c, &run, run_buf(c));
	at = run.missed ? run.missed : at;
	c->whole = at == c->addr + (c->window + 1) * step;
	for (u32 n = 0; n < c->window && in_region(c, at) && is_there(c, at); n++)
		at += step;
	return at;
}

/*
 * Who has a window sleeps on, see wake(): now it is all there, but for its own page where
 * that is read elsewhere.  A window with gaps is woken page by page: who waits for one in
 * between has its place in a queue, and would come a second time.
 */
static void wake_window(struct fault_ctx *c, const struct reads *reads, u32 done, u64 end)
{
	bool own = !reads->nr || reads->addr[0] != c->addr || done;

	if (c->step == PAGE_SIZE) {
		wake(c, own ? c->addr : c->addr + PAGE_SIZE, max_of(end, c->addr + PAGE_SIZE));
		return;
	}
	if (own)
		wake(c, c->addr, c->addr + PAGE_SIZE);
	for (u32 i = 0; i < done; i++)
		wake(c, reads->addr[i], reads->addr[i] + PAGE_SIZE);
}

void fault_readahead(struct fault_ctx *c, struct store_in *first)
{
	struct reads reads;
	u64 next, end;
	u32 done;

	reads.in[0] = first;
	reads.addr[0] = c->addr;
	reads.nr = first ? 1 : 0;
	c->whole = true;
	if (!c->window && !first) { /* most are */
		fault_foresee(c, c->addr + PAGE_SIZE);
		return;
	}
	/* Advice is no scan.  The page that came in may itself go to make room, and then
	 * faults again: that fault continues nothing, so it ends there. */
	if (!(c->region.flags & REGION_SEQUENTIAL) || c->stream)
		make_room(c, c->window);
	next = bring_window(c, &reads, &end);
	/* Of c->self not all may come in, and its own page is another's to bring then. */
	if (!first || !c->self)
		fault_foresee(c, next);
	done = store_in_read(c, reads.in, reads.nr);
	if (first && c->self && done) {
		c->whole = c->whole && done == reads.nr;
		fault_foresee(c, done < reads.nr ? reads.addr[done] : next);
	}
	if (c->window || done)
		wake_window(c, &reads, done, end);
}
