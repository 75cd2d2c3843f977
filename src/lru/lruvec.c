/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lruvec.c - the lists of a group and the lock-then-verify rule.
 *
 * Owns list membership, and to which slice of its group a page belongs.  Does not own pages (page/page.h) nor the decision what
 * to do with an isolated one (reclaim/).  Lock: LRUVEC.
 */
#include "lru/lru.h"

#include <errno.h>

#include "base/mutant.h"

/* Windows of four scans. */
#define STREAM_AHEAD 128u

static size_t more_bytes(const struct lru *lru)
{
	return (size_t)lru->nr_vecs * (LRU_SLICES_MAX - 1) * sizeof(struct lru_slice);
}

int lru_init(struct lru *lru, struct mm *mm, struct memcg_tree *tree)
{
	lru->mm = mm;
	lru->tree = tree;
	lru->nr_vecs = memcg_nr_max(tree);
	lru->nr_slices = 1;
	lru->slice_shift = LRU_SLICE_SHIFT;
	lru->vec = meta_reserve("quire: lruvecs", lru->nr_vecs * sizeof(struct lruvec));
	lru->more = meta_reserve("quire: slices", more_bytes(lru));
	if (lru->vec && lru->more)
		return 0;
	lru_exit(lru);
	return -ENOMEM;
}

void lru_exit(struct lru *lru)
{
	if (lru->vec)
		meta_unreserve(lru->vec, lru->nr_vecs * sizeof(struct lruvec));
	if (lru->more)
		meta_unreserve(lru->more, more_bytes(lru));
}

void lru_set_slices(struct lru *lru, u32 nr, u32 shift)
{
	quire_assert(nr && nr <= LRU_SLICES_MAX);
	lru->nr_slices = nr;
	lru->slice_shift = shift;
}

u64 lru_bytes(const struct lru *lru)
{
	return (memcg_nr_descendants(lru->tree, MEMCG_ROOT) + 1) *
	       (sizeof(struct lruvec) + (lru->nr_slices - 1) * sizeof(struct lru_slice));
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
	if (f & PG_ACTIVE)
		return LRU_ACTIVE;
	return f & PG_STREAM ? LRU_STREAM : LRU_INACTIVE;
}

static u32 slice_nr(const struct lru *lru, struct page_id id)
{
	return lru->nr_slices == 1 ? 0 : (id.v >> lru->slice_shift) % lru->nr_slices;
}

static void lock_counted(struct lru *lru, struct lru_slice *s, struct objcg_id o)
{
	if (mutex_trylock(&s->lock))
		return;
	memcg_stat_add(lru->tree, o, MEMCG_STAT_LRU_CONTENDED, 1);
	mutex_lock(&s->lock);
}

/* A page's lists, locked, and the group they are of. */
struct where {
	struct lruvec *v;
	struct lru_slice *s;
};

/*
 * The binding page -> objcg -> lists may change until we hold the lock of the slice
 * it names: re-read and retry (K1; this is interleaving 1 of S2, catcher against
 * switcher).
 */
static struct where lock_lists_of(struct lru *lru, struct page_id page_id)
{
	const struct page *page = page_at(&lru->mm->pages, page_id);

	for (;;) {
		struct objcg_id o = { page->objcg };
		struct memcg_id id = objcg_lists(lru->tree, o);
		struct lru_slice *s = lru_slice(lru, id, slice_nr(lru, page_id));

		lock_counted(lru, s, o);
		if (MUTANT(lruvec_not_verified) ||
		    objcg_lists(lru->tree, (struct objcg_id){ page->objcg }).v == id.v)
			return (struct where){ lruvec_of(lru, id), s };
		mutex_unlock(&s->lock);
	}
}

void lru_lock_all(struct lru *lru, struct memcg_id id, bool nested)
{
	for (u32 n = 0; n < lru->nr_slices; n++) {
		if (n || nested)
			mutex_lock_nested(&lru_slice(lru, id, n)->lock);
		else
			mutex_lock(&lru_slice(lru, id, n)->lock);
	}
}

void lru_unlock_all(struct lru *lru, struct memcg_id id)
{
	for (u32 n = lru->nr_slices; n--;)
		mutex_unlock(&lru_slice(lru, id, n)->lock);
}

static const enum memcg_stat list_stat[NR_LRU_LISTS] = {
	[LRU_INACTIVE] = MEMCG_STAT_INACTIVE_ANON, [LRU_ACTIVE] = MEMCG_STAT_ACTIVE_ANON,
	[LRU_LAUNDRY] = MEMCG_STAT_FRAMES,	   [LRU_UNEVICTABLE] = MEMCG_STAT_UNEVICTABLE,
	[LRU_STREAM] = MEMCG_STAT_INACTIVE_ANON,
};

/* One page more or less on a list of the group. */
static void count_page(struct lru *lru, struct where w, enum lru_list l, bool more)
{
	if (lru->nr_slices == 1)
		atomic32_poke(&w.v->nr[l], w.s->list[l].nr);
	else if (more)
		atomic32_fetch_add(&w.v->nr[l], 1);
	else
		atomic32_fetch_sub(&w.v->nr[l], 1);
}

static void list_add(struct lru *lru, struct where w, struct page_id id, bool tail)
{
	struct page *page = page_at(&lru->mm->pages, id);
	enum lru_list l = lru_list_of(page);
	struct ilist_in in = page_lru_in(&lru->mm->pages);

	if (tail)
		ilist_add_tail(&w.s->list[l], in, id.v);
	else
		ilist_add_head(&w.s->list[l], in, id.v);
	count_page(lru, w, l, true);
	memcg_stat_add(lru->tree, (struct objcg_id){ page->objcg }, list_stat[l], 1);
}

static void list_del(struct lru *lru, struct where w, struct page_id id)
{
	struct page *page = page_at(&lru->mm->pages, id);
	enum lru_list l = lru_list_of(page);

	ilist_del(&w.s->list[l], page_lru_in(&lru->mm->pages), id.v);
	count_page(lru, w, l, false);
	memcg_stat_add(lru->tree, (struct objcg_id){ page->objcg }, list_stat[l], -1);
}

bool lru_putback(struct lru *lru, struct page_id id, bool tail)
{
	struct page *page = page_at(&lru->mm->pages, id);
	struct where w = lock_lists_of(lru, id);
	bool alive;

	/* On the list first, then PG_LRU, both under the lock: whoever sees
	 * PG_LRU finds it listed. */
	list_add(lru, w, id, tail);
	alive = page_putback(page);
	if (!alive)
		list_del(lru, w, id);
	mutex_unlock(&w.s->lock);
	return alive;
}

void lru_del(struct lru *lru, struct page_id id)
{
	struct where w = lock_lists_of(lru, id);

	list_del(lru, w, id);
	mutex_unlock(&w.s->lock);
}

bool lru_isolate(struct lru *lru, struct page_id id)
{
	if (!page_isolate(page_at(&lru->mm->pages, id)))
		return false;
	lru_del(lru, id);
	return true;
}

static u32 isolate_slice_tail(struct lru *lru, struct where w, enum lru_list list, u32 nr,
			      struct page_id *ret_pages)
{
	struct ilist_in in = page_lru_in(&lru->mm->pages);
	u32 got = 0, i, next;

	mutex_lock(&w.s->lock);
	for (i = w.s->list[list].tail; i && got < nr; i = next) {
		struct page_id id = { i };
		struct page *page = page_at(&lru->mm->pages, id);

		next = ilist_node(in, i)->prev;
		/* Somebody cleared PG_LRU and waits for this lock to unlist it. */
		if (!page_isolate(page))
			continue;
		list_del(lru, w, id);
		ret_pages[got++] = id;
	}
	mutex_unlock(&w.s->lock);
	return got;
}

u32 lru_isolate_tail(struct lru *lru, struct memcg_id memcg, enum lru_list list, u32 nr,
		     struct page_id *ret_pages)
{
	struct lruvec *v = lruvec_of(lru, memcg);
	u32 got = 0, first = 0;

	if (!lruvec_nr(v, list))
		return 0;
	/* In turn, so that all slices age alike. */
	if (lru->nr_slices > 1)
		first = atomic32_fetch_add(&v->next_slice, 1);
	for (u32 n = 0; n < lru->nr_slices && got < nr; n++) {
		struct where w = { v, lru_slice(lru, memcg, (first + n) % lru->nr_slices) };

		got += isolate_slice_tail(lru, w, list, nr - got, ret_pages + got);
	}
	return got;
}

u32 lru_isolate_cold(struct lru *lru, struct memcg_id id, u32 nr, struct page_id *ret_pages)
{
	const struct lruvec *v = lruvec_of(lru, id);
	u32 stream = lruvec_nr(v, LRU_STREAM), others = lruvec_nr(v, LRU_INACTIVE);
	/* The last ones were read ahead, and have still to be looked at. */
	u32 ahead = min_of(STREAM_AHEAD, others / 4);

	return lru_isolate_tail(lru, id, stream > ahead ? LRU_STREAM : LRU_INACTIVE, nr, ret_pages);
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
	struct objcg_id o;
	u32 done = 0;

	while (done < nr && lru_inactive_is_low(lru, memcg)) {
		u32 got = lru_isolate_tail(lru, memcg, LRU_ACTIVE,
					   min_of(nr - done, (u32)ARRAY_SIZE(batch)), batch);

		for (u32 i = 0; i < got; i++) {
			struct page *page = page_at(&lru->mm->pages, batch[i]);

			page_clear_flags(page, PG_ACTIVE);
			atomic32_fetch_or(&page->flags, PG_WORKINGSET);
			if (!lru_putback(lru, batch[i], false))
				page_free(&lru->mm->pages, batch[i]);
		}
		if (!got)
			break;
		done += got;
	}
	if (done && !lru_objcg(lru, memcg, &o))
		memcg_stat_add(lru->tree, o, MEMCG_STAT_PGDEACTIVATE, done);
	return done;
}

void lru_reparent_locked(struct lru *lru, struct memcg_id child, struct memcg_id parent)
{
	struct lruvec *c = lruvec_of(lru, child), *p = lruvec_of(lru, parent);
	struct ilist_in in = page_lru_in(&lru->mm->pages);

	for (u32 n = 0; n < lru->nr_slices; n++) {
		struct lru_slice *from = lru_slice(lru, child, n), *to = lru_slice(lru, parent, n);

		mutex_assert_held(&from->lock);
		mutex_assert_held(&to->lock);
		for (u32 l = 0; l < NR_LRU_LISTS; l++)
			ilist_splice_tail(&to->list[l], &from->list[l], in);
	}
	for (u32 l = 0; l < NR_LRU_LISTS; l++) {
		atomic32_poke(&p->nr[l], atomic32_peek(&p->nr[l]) + atomic32_peek(&c->nr[l]));
		atomic32_poke(&c->nr[l], 0);
	}
}

/* Pages of list l in slice n of a group. */
static u32 check_list(struct lru *lru, struct memcg_id id, u32 n, u32 l)
{
	struct lru_slice *s = lru_slice(lru, id, n);
	struct ilist_in in = page_lru_in(&lru->mm->pages);
	u32 prev = 0, nr = 0;

	for (u32 i = s->list[l].head; i; i = ilist_node(in, i)->next) {
		struct page *page = page_at(&lru->mm->pages, (struct page_id){ i });

		quire_assert(ilist_node(in, i)->prev == prev);
		quire_assert(lru_list_of(page) == (enum lru_list)l);
		quire_assert(objcg_lists(lru->tree, (struct objcg_id){ page->objcg }).v == id.v);
		quire_assert(slice_nr(lru, (struct page_id){ i }) == n);
		prev = i;
		nr++;
	}
	quire_assert(s->list[l].tail == prev && s->list[l].nr == nr);
	return nr;
}

static void check_vec(struct lru *lru, struct memcg_id id)
{
	for (u32 l = 0; l < NR_LRU_LISTS; l++) {
		u32 nr = 0;

		for (u32 n = 0; n < lru->nr_slices; n++)
			nr += check_list(lru, id, n, l);
		quire_assert(nr == lruvec_nr(lruvec_of(lru, id), (enum lru_list)l));
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
		lru_lock_all(lru, (struct memcg_id){ n }, false);
		check_vec(lru, (struct memcg_id){ n });
		lru_unlock_all(lru, (struct memcg_id){ n });
	}
}

void lruvec_to_text(const struct lru *lru, struct memcg_id id, struct fmt *out)
{
	const struct lruvec *v = lruvec_of(lru, id);

	fmt_add(out,
		"lruvec %u: inactive %u active %u laundry %u unevictable %u stream %u zlru %u age %llu\n",
		id.v, lruvec_nr(v, LRU_INACTIVE), lruvec_nr(v, LRU_ACTIVE),
		lruvec_nr(v, LRU_LAUNDRY), lruvec_nr(v, LRU_UNEVICTABLE), lruvec_nr(v, LRU_STREAM),
		ilist_peek_nr(&v->zlru), (unsigned long long)atomic64_peek(&v->age));
}
