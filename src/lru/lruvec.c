/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lruvec.c - the lists of a group and the lock-then-verify rule.
 *
 * Owns list membership.  Does not own pages (page/page.h) nor the decision what
 * to do with an isolated one (reclaim/).  Lock: LRUVEC.
 */
#include "lru/lru.h"

#include <errno.h>

#include "base/mutant.h"
#include "base/os.h"

int lru_init(struct lru *lru, struct mm *mm, struct memcg_tree *tree)
{
	lru->mm = mm;
	lru->tree = tree;
	lru->nr_vecs = memcg_nr_max(tree);
	lru->vec = meta_reserve("quire: lruvecs", lru->nr_vecs * sizeof(struct lruvec));
	return lru->vec ? 0 : -ENOMEM;
}

void lru_exit(struct lru *lru)
{
	meta_unreserve(lru->vec, lru->nr_vecs * sizeof(struct lruvec));
}

u64 lru_bytes(const struct lru *lru)
{
	return (memcg_nr_descendants(lru->tree, MEMCG_ROOT) + 1) * sizeof(struct lruvec);
}

int lru_objcg(struct lru *lru, struct memcg_id id, struct objcg_id *ret)
{
	return objcg_get_cached(lru->tree, id, &lruvec_of(lru, id)->objcg, ret);
}

enum lru_list lru_list_of(const struct page *page)
{
	u32 f = atomic32_peek(&page->flags);

	if (f & PG_FRAME)
		return LRU_LAUNDRY;
	if (f & PG_UNEVICTABLE)
		return LRU_UNEVICTABLE;
	return f & PG_ACTIVE ? LRU_ACTIVE : LRU_INACTIVE;
}

/*
 * The page's lruvec, locked.  The binding page -> objcg -> lists may change
 * until we hold the lock of the vec it names: re-read and retry (K1; this is
 * interleaving 1 of S2, catcher against switcher).
 */
static struct lruvec *lock_lruvec_of(struct lru *lru, const struct page *page)
{
	for (;;) {
		struct memcg_id id = objcg_lists(lru->tree, (struct objcg_id){ page->objcg });
		struct lruvec *v = lruvec_of(lru, id);

		mutex_lock(&v->lock);
		if (MUTANT(lruvec_not_verified) ||
		    objcg_lists(lru->tree, (struct objcg_id){ page->objcg }).v == id.v)
			return v;
		mutex_unlock(&v->lock);
	}
}

static const enum memcg_stat list_stat[NR_LRU_LISTS] = {
	[LRU_INACTIVE] = MEMCG_STAT_INACTIVE_ANON,
	[LRU_ACTIVE] = MEMCG_STAT_ACTIVE_ANON,
	[LRU_LAUNDRY] = MEMCG_STAT_FRAMES,
	[LRU_UNEVICTABLE] = MEMCG_STAT_UNEVICTABLE,
};

static void vec_add(struct lru *lru, struct lruvec *v, struct page_id id, bool tail)
{
	struct page *page = page_at(&lru->mm->pages, id);
	enum lru_list l = lru_list_of(page);
	struct ilist_in in = page_lru_in(&lru->mm->pages);

	if (tail)
		ilist_add_tail(&v->list[l], in, id.v);
	else
		ilist_add_head(&v->list[l], in, id.v);
	atomic32_poke(&v->nr[l], v->list[l].nr);
	memcg_stat_add(lru->tree, (struct objcg_id){ page->objcg }, list_stat[l], 1);
}

static void vec_del(struct lru *lru, struct lruvec *v, struct page_id id)
{
	struct page *page = page_at(&lru->mm->pages, id);
	enum lru_list l = lru_list_of(page);

	ilist_del(&v->list[l], page_lru_in(&lru->mm->pages), id.v);
	atomic32_poke(&v->nr[l], v->list[l].nr);
	memcg_stat_add(lru->tree, (struct objcg_id){ page->objcg }, list_stat[l], -1);
}

bool lru_putback(struct lru *lru, struct page_id id, bool tail)
{
	struct page *page = page_at(&lru->mm->pages, id);
	struct lruvec *v = lock_lruvec_of(lru, page);
	bool alive;

	/* On the list first, then PG_LRU, both under the lock: whoever sees
	 * PG_LRU finds it listed. */
	vec_add(lru, v, id, tail);
	alive = page_putback(page);
	if (!alive)
		vec_del(lru, v, id);
	mutex_unlock(&v->lock);
	return alive;
}

void lru_del(struct lru *lru, struct page_id id)
{
	struct lruvec *v = lock_lruvec_of(lru, page_at(&lru->mm->pages, id));

	vec_del(lru, v, id);
	mutex_unlock(&v->lock);
}

bool lru_isolate(struct lru *lru, struct page_id id)
{
	if (!page_isolate(page_at(&lru->mm->pages, id)))
		return false;
	lru_del(lru, id);
	return true;
}

u32 lru_isolate_tail(struct lru *lru, struct memcg_id memcg, enum lru_list list, u32 nr,
		     struct page_id *ret_pages)
{
	struct lruvec *v = lruvec_of(lru, memcg);
	struct ilist_in in = page_lru_in(&lru->mm->pages);
	u32 got = 0, i, next;

	if (!lruvec_nr(v, list))
		return 0;
	mutex_lock(&v->lock);
	for (i = v->list[list].tail; i && got < nr; i = next) {
		struct page_id id = { i };
		struct page *page = page_at(&lru->mm->pages, id);

		next = ilist_node(in, i)->prev;
		/* Somebody cleared PG_LRU and waits for this lock to unlist it. */
		if (!page_isolate(page))
			continue;
		vec_del(lru, v, id);
		ret_pages[got++] = id;
	}
	mutex_unlock(&v->lock);
	return got;
}

/* Integer square root, for the inactive ratio. */
static u32 isqrt(u64 x)
{
	u32 r = 0;

	while ((u64)(r + 1) * (r + 1) <= x)
		r++;
	return r;
}

bool lru_inactive_is_low(const struct lru *lru, struct memcg_id id)
{
	const struct lruvec *v = lruvec_of(lru, id);
	u64 inactive = lruvec_nr(v, LRU_INACTIVE);
	u64 active = lruvec_nr(v, LRU_ACTIVE);
	u64 gib = (inactive + active) >> (30 - PAGE_SHIFT);
	u32 ratio = gib ? isqrt(10 * gib) : 1; /* algorithms.md 4.5 */

	return inactive * ratio < active;
}

u32 lru_refill_inactive(struct lru *lru, struct memcg_id memcg, u32 nr)
{
	struct page_id batch[32];
	u32 done = 0;

	while (done < nr && lru_inactive_is_low(lru, memcg)) {
		u32 got = lru_isolate_tail(lru, memcg, LRU_ACTIVE,
					   min_of(nr - done, (u32)ARRAY_SIZE(batch)), batch);

		for (u32 i = 0; i < got; i++) {
			struct page *page = page_at(&lru->mm->pages, batch[i]);

			atomic32_fetch_and(&page->flags, ~(u32)PG_ACTIVE);
			atomic32_fetch_or(&page->flags, PG_WORKINGSET);
			if (!lru_putback(lru, batch[i], false))
				page_free(&lru->mm->pages, batch[i]);
		}
		if (!got)
			break;
		done += got;
	}
	return done;
}

void lru_reparent_locked(struct lru *lru, struct memcg_id child, struct memcg_id parent)
{
	struct lruvec *c = lruvec_of(lru, child), *p = lruvec_of(lru, parent);
	struct ilist_in in = page_lru_in(&lru->mm->pages);

	mutex_assert_held(&c->lock);
	mutex_assert_held(&p->lock);
	for (u32 l = 0; l < NR_LRU_LISTS; l++) {
		ilist_splice_tail(&p->list[l], &c->list[l], in);
		atomic32_poke(&p->nr[l], p->list[l].nr);
		atomic32_poke(&c->nr[l], 0);
	}
}

static void check_vec(struct lru *lru, u32 n)
{
	struct lruvec *v = &lru->vec[n];
	struct ilist_in in = page_lru_in(&lru->mm->pages);

	for (u32 l = 0; l < NR_LRU_LISTS; l++) {
		u32 prev = 0, nr = 0;

		for (u32 i = v->list[l].head; i; i = ilist_node(in, i)->next) {
			struct page *page = page_at(&lru->mm->pages, (struct page_id){ i });

			quire_assert(ilist_node(in, i)->prev == prev);
			quire_assert(lru_list_of(page) == (enum lru_list)l);
			quire_assert(objcg_lists(lru->tree, (struct objcg_id){ page->objcg }).v ==
				     n);
			prev = i;
			nr++;
		}
		quire_assert(v->list[l].tail == prev && v->list[l].nr == nr);
	}
}

void lru_check(struct lru *lru)
{
	for (u32 n = 1; n < lru->nr_vecs; n++) {
		struct lruvec *v = &lru->vec[n];
		u32 any = 0;

		for (u32 l = 0; l < NR_LRU_LISTS; l++)
			any |= lruvec_nr(v, (enum lru_list)l);
		if (!any)
			continue;
		mutex_lock(&v->lock);
		check_vec(lru, n);
		mutex_unlock(&v->lock);
	}
}

void lruvec_to_text(const struct lru *lru, struct memcg_id id, struct fmt *out)
{
	const struct lruvec *v = lruvec_of(lru, id);

	fmt_add(out,
		"lruvec %u: inactive %u active %u laundry %u unevictable %u zlru %u age %llu\n",
		id.v, lruvec_nr(v, LRU_INACTIVE), lruvec_nr(v, LRU_ACTIVE),
		lruvec_nr(v, LRU_LAUNDRY), lruvec_nr(v, LRU_UNEVICTABLE), ilist_peek_nr(&v->zlru),
		(unsigned long long)atomic64_peek(&v->age));
}
