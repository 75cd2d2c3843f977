/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - one fault: charge, lock, look, map.
 *
 * Owns the steps NONE -> PRESENT and SWAP -> PRESENT of pte.h.  Entry points:
 * fault_serve(), fault_thread_main().  Runs inside the fault gate.
 * A fault on a pte that says PRESENT is a duplicate of one served a moment ago,
 * or the program dropped the page by a call we did not see; filling with zeros
 * tells which: -EEXIST is the duplicate.
 * Lock ranks: PTE and below.
 */
#include <errno.h>

#include "base/mutant.h"
#include "base/os.h"
#include "base/probe.h"
#include "fault/internal.h"
#include "memcg/member.h"

#define FAULT_BATCH 16
/*
 * Pages a fault thread pages out when it found no memory, 9 us each, and again while that
 * brings something and others (the pool too) are quicker to take it; more where the
 * program waits for many pages, which is less often.  Waiting for kswapd instead took
 * 1 ms a time: 60 % of filling twice the limit.
 */
#define DIRECT_BATCH 4u
#define DIRECT_BATCH_SCAN 32u
#define DIRECT_TRIES 4u
/*
 * Spin this long after a fault before sleeping: waking an idle core costs 7 us
 * here, the next fault of a paging program comes within 10-20 (findings 17).  That
 * takes a core of its own beside the program's and kswapd's: on two it takes time
 * from both (random reads 65 thousand a second with it, 72 without).
 */
#define FAULT_SPIN_NS (50 * NSEC_PER_USEC)
#define FAULT_SPIN_MIN_CPUS 3u
/* Between two looks at what the forking thread waits for. */
#define FORKER_POLL_NS (20 * NSEC_PER_USEC)

void fault_account(struct fault *f, struct objcg_id o, enum fault_kind kind, u64 since_ns)
{
	u64 ns;

	if (kind == FAULT_DUP)
		return;
	ns = os_now_ns() - since_ns;
	PROBE_FAULT_END(o.v, kind, ns);
	hist_add(&f->latency[kind], ns);
	memcg_stat_add(f->tree, o, MEMCG_STAT_PGFAULT, 1);
	if (kind == FAULT_SOFT)
		memcg_stat_add(f->tree, o, MEMCG_STAT_PGSOFTFAULT, 1);
	else if (kind != FAULT_ZERO)
		memcg_stat_add(f->tree, o, MEMCG_STAT_PGMAJFAULT, 1);
}

int fault_map_new(struct fault_ctx *c, const void *src, u32 page_flags)
{
	struct pages *pages = &c->f->mm->pages;
	struct pager *pager = &c->f->mm->pager;
	u32 flags = c->pager_flags | (c->window ? PAGER_DONTWAKE : 0);
	long n;

	c->new_page = page_alloc(pages, c->addr >> PAGE_SHIFT, c->objcg.v);
	if (!c->new_page.v)
		return -ENOMEM;
	if (src && fault_wants_protection(c, 1)) {
		flags |= PAGER_PROTECT;
		page_flags |= PG_PROTECTED;
	}
	atomic32_poke(&page_at(pages, c->new_page)->flags, page_flags);
	n = src ? pager->ops->copy(pager, c->queue, c->addr, src, 1, flags) :
		  pager->ops->zero(pager, c->queue, c->addr, 1, flags);
	if (n < 0)
		page_free(pages, c->new_page);
	return n < 0 ? (int)n : 0;
}

void fault_publish(struct fault_ctx *c, struct pte *pte, struct page_id id)
{
	struct objcg_id o = { page_at(&c->f->mm->pages, id)->objcg };
	bool alive;

	if (MUTANT(visible_before_listed))
		pte_unlock_to(pte, PTE_PRESENT, id.v);
	alive = lru_putback(c->f->lru, id, false);
	quire_assert(alive); /* nobody else knows the page before the pte says so */
	memcg_stat_add(c->f->tree, o, MEMCG_STAT_ANON, 1);
	if (!MUTANT(visible_before_listed))
		pte_unlock_to(pte, PTE_PRESENT, id.v);
}

/* The slot is gone already. */
static void fence_off(struct fault *f, struct pte *pte, u32 queue, u64 addr)
{
	struct pager *pager = &f->mm->pager;

	stat_add(&f->nr_poisoned, 1);
	if (pager->ops->poison(pager, queue, addr) < 0)
		f->fatal(f->fatal_ctx, "a stored page is damaged and cannot be fenced off");
	pte_unlock_to(pte, PTE_POISONED, 0);
	pager->ops->wake(pager, queue, addr, PAGE_SIZE);
}

void fault_poison(struct fault *f, struct task *t, struct pte *pte, u32 queue, u64 addr,
		  struct slot_id slot)
{
	slot_drop(f->swap, t ? &t->slots : NULL, slot);
	fence_off(f, pte, queue, addr);
}

/*
 * Nothing to map: the range changed under us, or somebody served it.  A thread that
 * memory.high would make late is woken too: no timer runs for a page that is there.
 */
static enum fault_result nothing_to_do(struct fault_ctx *c, struct pte *pte)
{
	struct pager *pager = &c->f->mm->pager;

	if (pte)
		pte_unlock(pte);
	if (!fault_wake_flags(c->f))
		pager->ops->wake(pager, c->queue, c->addr, PAGE_SIZE);
	c->kind = FAULT_DUP;
	return FAULT_DONE;
}

/*
 * The page of a frame has no place any more: the mapping is gone by a call we did not
 * see.  -EFAULT: its memory cannot be read (a hardware error), and that is no reason for
 * zeros.
 */
static enum fault_result frame_lost(struct fault_ctx *c, struct pte *pte, int err)
{
	if (err != -EFAULT) {
		pte_unlock_to(pte, PTE_NONE, 0);
		return nothing_to_do(c, NULL);
	}
	fence_off(c->f, pte, c->queue, c->addr);
	c->kind = FAULT_DUP;
	return FAULT_DONE;
}

/*
 * The fault may be older than a guard (MADV_GUARD_INSTALL), and what was known of the
 * region too.  With the pte locked neither can change until it is unlocked.
 */
static bool may_fill(struct fault_ctx *c)
{
	struct pager *pager = &c->f->mm->pager;

	return region_find(&c->f->mm->regions, c->addr, &c->region) &&
	       (!(c->region.flags & REGION_GUARDED) || !pager->ops->guarded(pager, c->addr));
}

static enum fault_result serve_none(struct fault_ctx *c, struct pte *pte)
{
	int err;

	fault_expect(c, true);
	err = may_fill(c) ? fault_map_new(c, NULL, 0) : -EEXIST;
	c->kind = FAULT_ZERO;
	if (err == -ENOMEM || err == -EAGAIN) {
		pte_unlock(pte);
		return FAULT_NO_MEMORY;
	}
	if (err)
		return nothing_to_do(c, pte);
	fault_publish(c, pte, c->new_page);
	c->charged = false;
	fault_zero_ahead(c);
	return FAULT_DONE;
}

static enum fault_result serve_present(struct fault_ctx *c, struct pte *pte)
{
	struct pager *pager = &c->f->mm->pager;
	long n = pager->ops->zero(pager, c->queue, c->addr, 1, c->pager_flags);

	if (n > 0) {
		struct page *page = page_at(&c->f->mm->pages, (struct page_id){ pte_index(pte) });

		/* Its descriptor and charge serve the new, empty, writable page. */
		page_clear_flags(page, PG_PROTECTED);
		memcg_stat_add(c->f->tree, (struct objcg_id){ page->objcg }, MEMCG_STAT_PGDROPPED,
			       1);
	}
	return nothing_to_do(c, pte);
}

/*
 * The page of a frame goes back where it was.  -EAGAIN, -ENOMEM: not now, it is still
 * in its frame.  Moving it flushes the TLBs for the frame's sake, copying does not; so
 * it is moved where the frame has to be emptied anyway.
 */
static int give_back(struct fault_ctx *c, struct page *page)
{
	struct frames *frames = &c->f->mm->frames;
	struct pager *pager = &c->f->mm->pager;
	void *frame = frame_addr(frames, page->frame);
	u32 flags = c->pager_flags;
	long n;

	if (!frames_want_warm(frames)) {
		n = pager->ops->give(pager, c->queue, c->addr, frame, 1, flags);
		if (n > 0) {
			frames_put_empty(frames, page->frame, 1);
			page->frame = 0;
			return 0;
		}
	}
	/* Also where the mapping became read-only or is locked since: moving is
	 * refused then, copying is not. */
	if (fault_wants_protection(c, 1)) {
		flags |= PAGER_PROTECT;
		atomic32_fetch_or(&page->flags, PG_PROTECTED);
	}
	n = pager->ops->copy(pager, c->queue, c->addr, frame, 1, flags);
	if (n < 0)
		page_clear_flags(page, PG_PROTECTED);
	if (n == -EAGAIN || n == -ENOMEM)
		return (int)n;
	frames_put(frames, page->frame, 1);
	page->frame = 0;
	return n > 0 ? 0 : (int)n;
}

static enum fault_result map_back(struct fault_ctx *c, struct pte *pte, struct slot_id slot,
				  struct page_id id)
{
	struct fault *f = c->f;
	struct page *page = page_at(&f->mm->pages, id);
	struct objcg_id o = { page->objcg };
	int err = give_back(c, page);

	c->kind = FAULT_SOFT;
	if (err == -EAGAIN || err == -ENOMEM) {
		swap_cache_putback(f->swap, &c->t->slots, id, false);
		pte_unlock(pte);
		return FAULT_NO_MEMORY;
	}
	swap_cache_end_take(f->swap, &c->t->slots, slot, id);
	if (err) {
		atomic32_poke(&page->flags, 0);
		page_free(&f->mm->pages, id);
		memcg_uncharge(f->tree, &c->t->stock, o, 1);
		return frame_lost(c, pte, err);
	}
	/* mremap(2) may have moved the address while the page was in its frame. */
	page->vpn = c->addr >> PAGE_SHIFT;
	page_clear_flags(page, PG_FRAME);
	atomic32_fetch_or(&page->flags, PG_ACTIVE);
	stat_add(&lruvec_of(f->lru, objcg_memcg(f->tree, o))->nr_soft_hits, 1);
	memcg_stat_add(f->tree, o, MEMCG_STAT_PGACTIVATE, 1);
	fault_publish(c, pte, id);
	return FAULT_DONE;
}

static bool store_is_full(const struct fault *f)
{
	const struct store *s = zswap_backing(f->zswap);

	return s && stat_read(&s->full);
}

/*
 * A copy in the store costs no memory, and saves the next write if the page stays as it
 * is; not for a page that the pool could have held.  One in the pool is worth its memory
 * for a page that will not stay.  Neither when slots are dear (cgroup-v2:
 * memory.swap.max), or the store is full: what it has is for pages that are out.
 */
void fault_end_slot(struct fault_ctx *c, struct slot_id slot, u32 shadow, struct page_id id)
{
	struct fault *f = c->f;
	u32 flags = atomic32_peek(&page_at(&f->mm->pages, id)->flags);
	bool keep = c->keep_copy ?
			    !store_is_full(f) && (!workingset_fits_pool(f->lru, c->objcg, shadow) ||
						  !zswap_takes(f->zswap, c->objcg)) :
			    flags & PG_STREAM;

	if (!keep || memcg_swap_nearly_full(f->tree, objcg_memcg(f->tree, c->objcg)) ||
	    !swap_cache_keep(f->swap, slot, id))
		slot_drop(f->swap, &c->t->slots, slot);
}

enum fault_result fault_finish_swap_in(struct fault_ctx *c, struct pte *pte, struct slot_id slot,
				       const void *src)
{
	struct fault *f = c->f;
	u32 shadow = slot_at(f->swap, slot)->shadow;
	u32 flags = workingset_refault(f->lru, c->objcg, shadow, c->addr >> PAGE_SHIFT);
	int err = fault_map_new(c, src, flags);

	if (err == -ENOMEM || err == -EAGAIN) {
		pte_unlock(pte);
		return FAULT_NO_MEMORY;
	}
	/* No such mapping any more, or filled behind our back: the slot stays until
	 * the range is zapped. */
	if (err)
		return nothing_to_do(c, pte);
	fault_end_slot(c, slot, shadow, c->new_page);
	fault_publish(c, pte, c->new_page);
	c->charged = false;
	return FAULT_DONE;
}

/* Pageout owns the page and reads its frame: copy out of it beside pageout. */
static enum fault_result steal_from_frame(struct fault_ctx *c, struct pte *pte, struct slot_id slot,
					  struct page_id from)
{
	struct fault *f = c->f;
	const struct page *page = page_at(&f->mm->pages, from);
	int err = fault_map_new(c, frame_addr(&f->mm->frames, page->frame), PG_ACTIVE);

	c->kind = FAULT_SOFT;
	if (err == -ENOMEM || err == -EAGAIN) {
		swap_cache_cancel_steal(f->swap, &c->t->slots, slot);
		pte_unlock(pte);
		return FAULT_NO_MEMORY;
	}
	/* Mapped, or there is nothing to map to: in both cases the slot ends. */
	swap_cache_end_steal(f->swap, &c->t->slots, slot);
	if (err)
		return frame_lost(c, pte, err);
	fault_publish(c, pte, c->new_page);
	c->charged = false;
	return FAULT_DONE;
}

/* The bytes are in the store. */
static enum fault_result serve_store(struct fault_ctx *c, struct pte *pte)
{
	struct store_in *in = NULL;
	enum fault_result res = FAULT_IO;

	c->kind = FAULT_STORE;
	c->window = min_of(c->window, READ_NOW_MAX - 1);
	if (!c->self || store_in_begin_here(c, (struct slot_id){ pte_index(pte) }))
		in = store_in_prepare(c, pte, c->addr);
	if (in) {
		c->charged = false;
		fault_readahead(c, in);
		/* Read here, or not: then it is as it was. */
		if (c->self && pte_type(pte) != PTE_PRESENT)
			res = FAULT_HAND_OVER;
	} else {
		pte_unlock(pte);
		res = c->self ? FAULT_HAND_OVER : FAULT_NO_MEMORY;
	}
	if (c->self)
		store_in_end_here(c);
	return res;
}

static enum fault_result serve_swap(struct fault_ctx *c, struct pte *pte)
{
	struct fault *f = c->f;
	struct slot_id slot = { pte_index(pte) };
	struct page_id page;
	enum fault_result res;
	int err;

	switch (swap_cache_take(f->swap, slot, &page)) {
	case SWAP_CACHE_MINE:
		return map_back(c, pte, slot, page);
	case SWAP_CACHE_STEAL:
		return steal_from_frame(c, pte, slot, page);
	case SWAP_CACHE_GONE:
		break;
	}
	fault_expect(c, false);
	err = zswap_load(f->zswap, &c->t->codec, slot, c->t->codec.page);
	if (err == -EAGAIN)
		return serve_store(c, pte);
	if (err == -EIO && c->self) {
		pte_unlock(pte);
		return FAULT_HAND_OVER;
	}
	if (err == -EIO) {
		fault_poison(f, c->t, pte, c->queue, c->addr, slot);
		c->kind = FAULT_DUP;
		return FAULT_DONE;
	}
	c->kind = FAULT_ZSWAP;
	res = fault_finish_swap_in(c, pte, slot, c->t->codec.page);
	if (res == FAULT_DONE && c->kind == FAULT_ZSWAP)
		fault_readahead(c, NULL);
	return res;
}

/* The touch is the program's error, which in signal mode only we can tell. */
static enum fault_result serve_poisoned(struct fault_ctx *c, struct pte *pte)
{
	if (!c->self)
		return nothing_to_do(c, pte);
	pte_unlock(pte);
	return FAULT_LOST;
}

/* pte locked by us: dispatch. */
static enum fault_result serve_locked(struct fault_ctx *c, struct pte *pte)
{
	/* zap_begin() publishes its range before it walks the ptes and waits for
	 * every locked one; so either we see the range, or it sees our result. */
	if (mm_zapping(c->f->mm, c->addr) && !MUTANT(fault_ignores_zap)) {
		pte_unlock(pte);
		c->kind = FAULT_DUP;
		return FAULT_DONE; /* zap_finish() wakes */
	}
	switch (pte_type(pte)) {
	case PTE_NONE:
		return serve_none(c, pte);
	case PTE_PRESENT:
		return serve_present(c, pte);
	case PTE_SWAP:
		return serve_swap(c, pte);
	case PTE_POISONED:
		break;
	}
	return serve_poisoned(c, pte);
}

static u32 throttle_flags(struct fault *f, struct objcg_id o, u64 *ret_delay)
{
	struct memcg_id which, id = objcg_memcg(f->tree, o);

	*ret_delay = 0;
	if (fault_wake_flags(f))
		return PAGER_DONTWAKE;
	if (memcg_over_high(f->tree, id, &which))
		*ret_delay = memcg_high_delay_ns(f->tree, id, 1);
	return *ret_delay ? PAGER_DONTWAKE : 0;
}

/* After a fault with PAGER_DONTWAKE: the thread sleeps on. */
static void throttle(struct fault_ctx *c, u64 delay)
{
	struct memcg_id which;

	stat_add(&c->f->nr_throttled, 1);
	if (memcg_over_high(c->f->tree, objcg_memcg(c->f->tree, c->objcg), &which))
		memcg_count_event(c->f->tree, which, MEMCG_HIGH);
	memcg_stat_add(c->f->tree, c->objcg, MEMCG_STAT_THROTTLED_NS, (s64)delay);
	PROBE_THROTTLE(objcg_memcg(c->f->tree, c->objcg).v, delay);
	fault_wake_later(c->f, c->queue, c->addr, delay);
}

/*
 * There is no room for a page, but perhaps it is there: put ahead of a fault that came
 * before this one.  It would wait for memory that it does not need, and a group that
 * is full of such pages be out of it for ever.  So it would for one that is poisoned.
 */
static enum fault_result serve_uncharged(struct fault_ctx *c)
{
	struct pte *pte = page_table_find(&c->f->mm->ptes, c->addr);

	if (!pte || (pte_type(pte) != PTE_PRESENT && pte_type(pte) != PTE_POISONED) ||
	    !pte_trylock(pte))
		return FAULT_NO_MEMORY;
	if (pte_type(pte) == PTE_PRESENT && !mm_zapping(c->f->mm, c->addr))
		return serve_present(c, pte);
	if (pte_type(pte) == PTE_POISONED && !mm_zapping(c->f->mm, c->addr))
		return serve_poisoned(c, pte);
	pte_unlock(pte);
	return FAULT_NO_MEMORY;
}

enum fault_result fault_serve(struct fault *f, struct task *t, u32 queue, u64 addr, u32 flags,
			      struct memcg_id *ret_over)
{
	struct fault_ctx c = {
		.f = f,
		.t = t,
		.queue = queue,
		.addr = addr,
		.kind = FAULT_DUP,
		.write = flags & (FAULT_WRITE | FAULT_WP),
		.may_read = flags & (FAULT_ALONE | FAULT_SELF),
		.self = flags & FAULT_SELF,
		.here = -1,
		.pager_flags = fault_wake_flags(f),
	};
	u64 since = os_now_ns(), delay = 0;
	enum fault_result res;
	struct pte *pte;

	PROBE_FAULT_BEGIN(addr, queue);
	if (!region_find(&f->mm->regions, addr, &c.region))
		return nothing_to_do(&c, NULL);
	if (flags & FAULT_WP && fault_unprotect(&c)) /* costs no memory */
		return c.hand_over ? FAULT_HAND_OVER : FAULT_DONE;
	if (c.self && c.region.flags & REGION_GUARDED) /* pager guarded() needs a descriptor */
		return FAULT_HAND_OVER;
	c.objcg = c.region.objcg;
	*ret_over = objcg_memcg(f->tree, c.objcg);
	if (flags & FAULT_FORCE)
		memcg_charge_force(f->tree, c.objcg, 1);
	else if (memcg_try_charge(f->tree, &t->stock, c.objcg, 1, ret_over))
		return serve_uncharged(&c);
	c.charged = true;
	c.pager_flags = throttle_flags(f, c.objcg, &delay);
	pte = page_table_get(&f->mm->ptes, addr);
	if (delay && c.self)
		res = FAULT_HAND_OVER; /* its timer wakes the thread */
	else if (!pte)
		res = FAULT_NO_MEMORY;
	else if (pte_lock_fault(pte))
		res = FAULT_DONE; /* a store read is under way: it wakes us too */
	else
		res = serve_locked(&c, pte);
	if (c.charged)
		memcg_uncharge(f->tree, &t->stock, c.objcg, 1);
	if (res == FAULT_DONE) {
		fault_account(f, c.objcg, c.kind, since);
		if (delay && c.kind != FAULT_DUP)
			throttle(&c, delay);
	}
	return res;
}

bool fault_reclaim(struct fault *f, struct task *t, struct memcg_id over, u32 nr)
{
	struct reclaim *r = f->reclaim;
	struct scan_control sc = {
		.target = over,
		.nr_to_reclaim = nr,
		.who = RECLAIM_DIRECT,
		.may_swap = true,
		.one_pass = true,
	};
	struct objcg_id o;

	kswapd_wake(r);
	/* What the pool refuses would go to the store, for which kswapd waits. */
	if (!over.v || (!lru_objcg(f->lru, over, &o) && !zswap_takes(f->zswap, o)) ||
	    !gate_try_enter(r->gate))
		return false;
	reclaim_memcg(r, t, &sc);
	memcg_drain_stock(f->tree, &t->stock);
	gate_leave(r->gate);
	return sc.nr_reclaimed;
}

static u32 flags_of(const struct fault_msg *m)
{
	return (m->write ? FAULT_WRITE : 0) | (m->wp ? FAULT_WP : 0);
}

static void serve_message(struct fault_thread *ft, const struct fault_msg *m, bool alone)
{
	struct memcg_id over = { 0 };
	u32 nr = DIRECT_BATCH;
	u32 flags = flags_of(m) | (alone ? FAULT_ALONE : 0);
	enum fault_result res = fault_serve(ft->f, &ft->task, ft->queue, m->addr, flags, &over);

	/* Of what others have bought ahead the limit must not be full. */
	if (res == FAULT_NO_MEMORY) {
		fault_self_drain(ft->f);
		if (atomic32_peek(&ft->f->expect[ft->queue].window) >= DIRECT_BATCH)
			nr = DIRECT_BATCH_SCAN;
	}
	for (u32 i = 0; i < DIRECT_TRIES && res == FAULT_NO_MEMORY; i++) {
		if (!fault_reclaim(ft->f, &ft->task, over, nr))
			break;
		res = fault_serve(ft->f, &ft->task, ft->queue, m->addr, flags, &over);
	}
	if (res == FAULT_NO_MEMORY)
		fault_defer(ft->f, ft->queue, m->addr, flags_of(m), over);
}

/* What an idle thread has bought ahead may be all that is left of the limit: faults
 * on other threads would wait for it, and reclaim could not help.  And a group that
 * is empty should say so. */
static void give_up_stock(struct fault_thread *ft)
{
	if (!ft->task.stock.nr_pages && !ft->f->stacks.memory)
		return;
	/* Closed: a fork, whose own fault may be the next to arrive. */
	if (!gate_try_enter(ft->f->gate))
		return;
	memcg_drain_stock(ft->f->tree, &ft->task.stock);
	fault_self_drain(ft->f);
	gate_leave(ft->f->gate);
}

/*
 * A fault of the forking thread.  With the gate closed everybody is at rest but us:
 * the thread goes on to clone(2) as soon as it is woken, so that is the last act.
 */
static void serve_forker(struct fault_thread *ft, const struct fault_msg *m)
{
	struct fault *f = ft->f;
	struct pager *pager = &f->mm->pager;
	bool closed = !gate_try_enter(f->gate);
	enum fault_result res;
	struct memcg_id over;

	if (closed) {
		gate_enter_again(f->gate);
		/* Whoever is still inside serves other threads, which must be woken. */
		while (!gate_alone(f->gate))
			os_sleep_ns(FORKER_POLL_NS);
		atomic32_store(&f->hold_wake, 1);
	}
	do {
		res = fault_serve(f, &ft->task, ft->queue, m->addr, flags_of(m) | FAULT_FORCE,
				  &over);
		/* Reads end on other threads; they and their readahead leave the gate. */
		while (closed && !gate_alone(f->gate))
			os_sleep_ns(FORKER_POLL_NS);
		if (res == FAULT_NO_MEMORY)
			os_sched_yield();
	} while (res == FAULT_NO_MEMORY);
	gate_leave(f->gate);
	if (!closed)
		return;
	/* The child has this page as well. */
	memcg_drain_stock(f->tree, &ft->task.stock);
	memcg_tree_fork_again(f->tree);
	atomic32_store(&f->hold_wake, 0);
	pager->ops->wake(pager, ft->queue, m->addr, PAGE_SIZE);
}

/*
 * Into the gate, or false: a fork has closed it.  Behind these messages one of the
 * forking thread may wait, so nobody sleeps here: the others are sent back, to fault
 * again until the gate is open.
 */
static bool enter_for(struct fault_thread *ft, const struct fault_msg *msgs, int n)
{
	struct fault *f = ft->f;

	if (gate_try_enter(f->gate))
		return true;
	if (!atomic32_load(&f->forker)) {
		event_signal(f->knock);
		gate_enter(f->gate);
		return true;
	}
	os_sleep_ns(FORKER_POLL_NS);
	for (int i = 0; i < n; i++)
		f->mm->pager.ops->wake(&f->mm->pager, ft->queue, msgs[i].addr, PAGE_SIZE);
	return false;
}

/* The forking thread's faults are served and leave msgs; how many remain. */
static int serve_forkers(struct fault_thread *ft, struct fault_msg *msgs, int n)
{
	u32 forker = atomic32_load(&ft->f->forker);
	int left = 0;

	if (!forker)
		return n;
	for (int i = 0; i < n; i++) {
		if (msgs[i].tid == forker)
			serve_forker(ft, &msgs[i]);
		else
			msgs[left++] = msgs[i];
	}
	return left;
}

void fault_thread_main(struct thread *self)
{
	struct fault_thread *ft = (struct fault_thread *)self;
	struct pager *pager = &ft->f->mm->pager;
	u64 spin_ns = os_nr_cpus() < FAULT_SPIN_MIN_CPUS ? 0 : FAULT_SPIN_NS;
	bool others = pager->nr_queues > 1;
	struct fault_msg msgs[FAULT_BATCH];

	while (!atomic32_load(&ft->f->reclaim->stop)) {
		int n = pager->ops->faults(pager, ft->queue, msgs, FAULT_BATCH, spin_ns,
					   others ? spin_ns : NSEC_PER_SEC);

		if (!n)
			give_up_stock(ft);
		if (!n && others)
			n = pager->ops->faults(pager, ft->queue, msgs, FAULT_BATCH, 0,
					       NSEC_PER_SEC);
		if (n > 0)
			n = serve_forkers(ft, msgs, n);
		if (n <= 0 || !enter_for(ft, msgs, n))
			continue;
		atomic64_poke(&ft->busy_since, os_now_ns());
		atomic32_poke(&ft->last_tid, msgs[0].tid);
		for (int i = 0; i < n; i++)
			serve_message(ft, &msgs[i], n == 1);
		atomic64_poke(&ft->busy_since, 0);
		gate_leave(ft->f->gate);
	}
}
