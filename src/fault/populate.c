/* SPDX-License-Identifier: Apache-2.0 */
/*
 * populate.c - bring a range in, keep it in, or send it out, on request.
 *
 * Runs on the request thread, outside the gates between pages.  Waiting for
 * memory here is allowed: this thread reclaims for itself.
 */
#include <errno.h>

#include "base/os.h"
#include "fault/internal.h"

/* Reclaim rounds tried for one page before -ENOMEM. */
#define POPULATE_RETRIES 64

int populate_make_room(struct fault *f, struct task *t, struct memcg_id over)
{
	struct scan_control sc = {
		.target = over,
		.nr_to_reclaim = SWAP_CLUSTER_MAX,
		.who = RECLAIM_DIRECT,
		.may_swap = true,
	};

	gate_enter(f->reclaim->gate);
	reclaim_memcg(f->reclaim, t, &sc);
	if (!sc.nr_reclaimed)
		(void)reclaim_writeback(f->reclaim, t, over, WRITEBACK_BATCH);
	gate_leave(f->reclaim->gate);
	return sc.nr_reclaimed ? 0 : -EAGAIN;
}

/* One page in; 0, -ENOMEM, or -EFAULT (damaged). */
static int bring_page(struct fault *f, struct task *t, const struct region *r, u64 addr,
		      struct pte *pte, bool pin)
{
	/* Signal mode: a system call does not wait for a page of zeros either. */
	bool fill = pin && f->mm->pager.signal.on;

	for (u32 tries = 0; tries < POPULATE_RETRIES; tries++) {
		struct memcg_id over = { 0 };
		enum pte_type type = pte_type(pte);
		enum fault_result res;

		if (type != PTE_SWAP && (type != PTE_NONE || !fill))
			return type == PTE_POISONED ? -EFAULT : 0;
		gate_enter(f->gate);
		res = fault_serve(f, t, r->queue, addr, pin ? FAULT_WRITE : 0, &over);
		gate_leave(f->gate);
		if (res == FAULT_NO_MEMORY) {
			kswapd_wake(f->reclaim);
			if (populate_make_room(f, t, over))
				os_sleep_ns(NSEC_PER_MSEC);
		} else if (type == PTE_NONE) {
			return 0; /* filled, or there is a guard */
		} else if (pte_peek(pte) & PTE_IO) {
			/* Our read, or one that readahead began: sleep until it is
			 * done. */
			pte_lock(pte);
			pte_unlock(pte);
		}
	}
	return -ENOMEM;
}

/* No store to a pinned page is a fault (and it will not leave, protected or not). */
static void unprotect_pinned(struct fault *f, const struct region *r, u64 addr)
{
	struct fault_ctx c = { .f = f, .queue = r->queue, .addr = addr };

	fault_unprotect(&c);
}

/* Bring in and pin under the pte lock, so that it cannot leave in between. */
static int bring_and_pin(struct fault *f, struct task *t, const struct region *r, u64 addr,
			 struct pte *pte, bool pin)
{
	for (;;) {
		int err = bring_page(f, t, r, addr, pte, pin);
		bool done;

		if (err || !pin)
			return err;
		pte_lock(pte);
		done = pte_type(pte) != PTE_SWAP;
		/* One that is not counted would be the first to be forgotten. */
		if (done && pte_pins(pte) == PTE_PIN_MAX)
			err = -EOVERFLOW;
		else if (done)
			pte_set_pins(pte, pte_pins(pte) + 1);
		pte_unlock(pte);
		if (done) {
			if (!err)
				unprotect_pinned(f, r, addr);
			return err;
		}
	}
}

static int populate_region(struct fault *f, struct task *t, const struct region *r, u64 start,
			   u64 end, bool pin, u64 *ret_done)
{
	for (u64 addr = start; addr < end; addr += PAGE_SIZE) {
		/* To pin a page that was never touched, its pte must exist. */
		struct pte *pte = pin ? page_table_get(&f->mm->ptes, addr) :
					page_table_find(&f->mm->ptes, addr);
		int err = !pte && pin ? -ENOMEM : 0;

		if (pte)
			err = bring_and_pin(f, t, r, addr, pte, pin);
		*ret_done = addr;
		if (err)
			return err;
	}
	*ret_done = end;
	return 0;
}

int populate_range(struct fault *f, struct task *t, u64 start, u64 end, bool pin)
{
	struct region r;
	u64 done = start;
	int err = 0;

	for (u64 at = start; !err && region_next(&f->mm->regions, at, &r) && r.start < end;
	     at = r.end)
		err = populate_region(f, t, &r, max_of(r.start, start), min_of(r.end, end), pin,
				      &done);
	if (err && pin)
		populate_unpin(f, start, done);
	memcg_drain_stock(f->tree, &t->stock);
	return err;
}

void populate_unpin(struct fault *f, u64 start, u64 end)
{
	struct pte *pte;

	for (u64 addr = start; (pte = page_table_next(&f->mm->ptes, &addr, end));
	     addr += PAGE_SIZE) {
		if (!pte_pins(pte))
			continue;
		pte_lock(pte);
		if (pte_pins(pte))
			pte_set_pins(pte, pte_pins(pte) - 1);
		pte_unlock(pte);
	}
}

/* Owned pages: to the inactive tail, or straight out. */
static void cool_batch(struct fault *f, struct task *t, struct page_id *batch, u32 nr, bool pageout)
{
	struct memcg_id id;
	u32 freed = 0;

	if (!nr)
		return;
	id = objcg_lists(f->tree, (struct objcg_id){ page_at(&f->mm->pages, batch[0])->objcg });
	if (!pageout) {
		for (u32 i = 0; i < nr; i++)
			if (!lru_putback(f->lru, batch[i], true))
				page_free(&f->mm->pages, batch[i]);
		return;
	}
	gate_enter(f->reclaim->gate);
	reclaim_unmap_pages(f->reclaim, t, batch, nr, &freed);
	reclaim_pageout(f->reclaim, t, id, nr);
	gate_leave(f->reclaim->gate);
}

u64 populate_cool(struct fault *f, struct task *t, u64 start, u64 end, bool pageout)
{
	struct page_id batch[SWAP_CLUSTER_MAX];
	struct pte *pte;
	u64 handled = 0;
	u32 nr = 0;

	for (u64 addr = start; (pte = page_table_next(&f->mm->ptes, &addr, end));
	     addr += PAGE_SIZE) {
		struct page_id id = { pte_index(pte) };

		if (pte_type(pte) != PTE_PRESENT || !pte_trylock(pte))
			continue;
		id.v = pte_index(pte);
		if (pte_type(pte) == PTE_PRESENT && !pte_pins(pte) && lru_isolate(f->lru, id)) {
			page_clear_flags(page_at(&f->mm->pages, id),
					 PG_ACTIVE | PG_WORKINGSET | PG_UNEVICTABLE);
			batch[nr++] = id;
			handled++;
		}
		pte_unlock(pte);
		if (nr == SWAP_CLUSTER_MAX) {
			cool_batch(f, t, batch, nr, pageout);
			nr = 0;
		}
	}
	cool_batch(f, t, batch, nr, pageout);
	return handled;
}
