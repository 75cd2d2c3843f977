/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adopt.c - take a range under management after the fact.
 *
 * Register first, then scan: a page that appears in between raised a fault and
 * is known already; one that was there before is found by the scan.  Present
 * pages are charged by force: they exist.  Shared zero pages count too (writes
 * to them raise no fault; almost half of a typical heap's, findings 5).
 */
#include <errno.h>

#include "fault/internal.h"

struct adopt {
	struct fault *f;
	struct task *t;
	struct objcg_id objcg;
	u64 nr;
	int err;
};

static void adopt_page(struct adopt *a, u64 addr)
{
	struct fault *f = a->f;
	struct pte *pte = page_table_get(&f->mm->ptes, addr);
	struct fault_ctx c = { .f = f, .t = a->t, .objcg = a->objcg, .addr = addr };
	struct page_id id;

	if (!pte) {
		a->err = -ENOMEM;
		return;
	}
	pte_lock(pte);
	if (pte_type(pte) != PTE_NONE) {
		pte_unlock(pte);
		return;
	}
	id = page_alloc(&f->mm->pages, addr >> PAGE_SHIFT, a->objcg.v);
	if (!id.v) {
		pte_unlock(pte);
		a->err = -ENOMEM;
		return;
	}
	memcg_charge_force(f->tree, a->objcg, 1);
	fault_publish(&c, pte, id);
	a->nr++;
}

static void adopt_run(void *ctx, u64 addr, u64 nr_pages)
{
	struct adopt *a = ctx;

	for (u64 i = 0; i < nr_pages && !a->err; i++)
		adopt_page(a, addr + i * PAGE_SIZE);
}

int adopt_present(struct fault *f, struct task *t, const struct region *r)
{
	struct adopt a = { .f = f, .t = t, .objcg = r->objcg };
	struct pager *pager = &f->mm->pager;
	int err = pager->ops->scan(pager, r->start, r->end - r->start, adopt_run, &a);

	return err < 0 ? err : a.err;
}

/* The kernel copies a mapping without its userfaultfd and what that protected. */
static void forget_protection(struct fault *f, struct pte *pte)
{
	struct page *page;

	pte_lock(pte);
	page = page_at(&f->mm->pages, (struct page_id){ pte_index(pte) });
	if (pte_type(pte) == PTE_PRESENT)
		page_clear_flags(page, PG_PROTECTED);
	pte_unlock(pte);
}

static void settle_forked_page(struct adopt *a, u64 addr)
{
	struct pte *pte = page_table_get(&a->f->mm->ptes, addr);

	if (!pte)
		a->err = -ENOMEM;
	else if (pte_type(pte) == PTE_SWAP)
		a->err = a->f->mm->pager.ops->drop(&a->f->mm->pager, addr, PAGE_SIZE);
	else if (pte_type(pte) == PTE_PRESENT)
		forget_protection(a->f, pte);
	else
		adopt_page(a, addr);
}

static void settle_forked(void *ctx, u64 addr, u64 nr_pages)
{
	struct adopt *a = ctx;

	for (u64 i = 0; i < nr_pages && !a->err; i++)
		settle_forked_page(a, addr + i * PAGE_SIZE);
}

/*
 * What libc writes there before the child's first handler may be lost: it resets
 * records of threads that do not exist in the child, and locks of the name service
 * to what they are in the page that is out.  Every page that is mapped here is met.
 */
int adopt_forked(struct fault *f, struct task *t, const struct region *r)
{
	struct adopt a = { .f = f, .t = t, .objcg = r->objcg };
	struct pager *pager = &f->mm->pager;
	int err = pager->ops->scan(pager, r->start, r->end - r->start, settle_forked, &a);

	return err < 0 ? err : a.err;
}

int adopt_range(struct fault *f, struct task *t, const struct region *r)
{
	struct pager *pager = &f->mm->pager;
	int err = pager->ops->add_range(pager, r->queue, r->start, r->end - r->start);

	if (err)
		return err;
	err = adopt_present(f, t, r);
	if (!err)
		return 0;
	/* What was adopted may be out by now: it comes back, and stays. */
	if (populate_range(f, t, r->start, r->end, true))
		f->fatal(f->fatal_ctx, "quire: a range can be neither adopted nor left alone\n");
	/* Nobody would answer faults in a range that is registered and not managed. */
	(void)pager->ops->remove_range(pager, r->queue, r->start, r->end - r->start);
	return err;
}
