/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - the sorted array of managed ranges.
 *
 * Owns the array and its sequence count; not the ptes of a range, not its
 * registration with the pager.  Invariants (region_check): sorted, disjoint,
 * page aligned, no empty range, neighbours that are equal in all but address
 * are merged.  Lock: REGIONS for writers; readers retry on `seq`.
 *
 * Readers may see the array mid-move; they copy one element and throw it away
 * unless seq was even and unchanged, and bound every index by REGION_MAX.
 */
#include "page/region.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"

int region_table_init(struct region_table *t, struct meta *meta)
{
	int err = xtable_init(&t->memory, meta, "quire: regions", sizeof(struct region),
			      REGION_MAX + 1);

	if (err)
		return err;
	err = xtable_reserve(&t->memory, 64);
	if (err) {
		xtable_exit(&t->memory);
		return err;
	}
	t->array = xtable_at(&t->memory, 0);
	mutex_init(&t->lock, "regions", LOCK_RANK_REGIONS);
	return 0;
}

void region_table_exit(struct region_table *t)
{
	xtable_exit(&t->memory);
}

/* Index of the first region that ends after addr (nr when none). */
static u32 lower_bound(const struct region_table *t, u32 nr, u64 addr)
{
	u32 lo = 0, hi = nr;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (sync_read_word(&t->array[mid].end) <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool region_next(const struct region_table *t, u64 addr, struct region *ret)
{
	for (;;) {
		u32 seq = atomic32_load(&t->seq);
		u32 nr, i;
		bool found;

		if (seq & 1) {
			sync_relax();
			continue;
		}
		nr = atomic32_load(&t->nr);
		i = lower_bound(t, min_of(nr, REGION_MAX), addr);
		found = i < nr;
		if (found)
			sync_read_words(ret, &t->array[i], sizeof(*ret));
		/* Pairs with the xchg in write_begin(): an unchanged count means the
		 * copy above saw no writer. */
		sync_read_barrier();
		if (atomic32_load(&t->seq) == seq)
			return found;
	}
}

bool region_find(const struct region_table *t, u64 addr, struct region *ret)
{
	return region_next(t, addr, ret) && ret->start <= addr;
}

bool region_overlaps(const struct region_table *t, u64 start, u64 end)
{
	struct region r;

	return region_next(t, start, &r) && r.start < end;
}

static void write_begin(struct region_table *t)
{
	mutex_assert_held(&t->lock);
	atomic32_xchg(&t->seq, atomic32_peek(&t->seq) + 1);
}

static void write_end(struct region_table *t)
{
	atomic32_store(&t->seq, atomic32_peek(&t->seq) + 1);
}

/* Room for `more` elements, before anything changes. */
static int ensure_room(struct region_table *t, u32 more)
{
	u32 need = atomic32_peek(&t->nr) + more;

	if (need > REGION_MAX)
		return -ENOSPC;
	if (need < t->memory.nr_ready)
		return 0;
	return xtable_reserve(&t->memory, min_of(need + 64, REGION_MAX + 1));
}

int region_reserve(struct region_table *t, u32 more)
{
	int err;

	mutex_lock(&t->lock);
	err = ensure_room(t, more);
	mutex_unlock(&t->lock);
	return err;
}

/* All writes to the array: region_next() may be reading it. */
static void set_at(struct region_table *t, u32 i, const struct region *r)
{
	sync_move_words(&t->array[i], r, sizeof(*r));
}

static void insert_at(struct region_table *t, u32 i, const struct region *r)
{
	u32 nr = atomic32_peek(&t->nr);

	sync_move_words(&t->array[i + 1], &t->array[i], (nr - i) * sizeof(*r));
	set_at(t, i, r);
	atomic32_store(&t->nr, nr + 1);
}

static void remove_at(struct region_table *t, u32 i)
{
	u32 nr = atomic32_peek(&t->nr);

	sync_move_words(&t->array[i], &t->array[i + 1], (nr - i - 1) * sizeof(struct region));
	atomic32_store(&t->nr, nr - 1);
}

static bool mergeable(const struct region *a, const struct region *b)
{
	return a->end == b->start && a->objcg.v == b->objcg.v && a->flags == b->flags &&
	       a->queue == b->queue;
}

/* Merge element i with its successor when they are alike. */
static void try_merge(struct region_table *t, u32 i)
{
	struct region both = t->array[i];

	if (i + 1 >= atomic32_peek(&t->nr) || !mergeable(&both, &t->array[i + 1]))
		return;
	both.end = t->array[i + 1].end;
	set_at(t, i, &both);
	remove_at(t, i + 1);
}

/* The array has gained r (sign 1), or lost it (-1). */
static void count_locked(struct region_table *t, const struct region *r, s64 sign)
{
	if (r->flags & REGION_LOCKED)
		atomic64_fetch_add(&t->locked, (u64)sign * (r->end - r->start));
}

static void count(struct region_table *t, const struct region *r, s64 sign)
{
	atomic64_fetch_add(&t->bytes, (u64)sign * (r->end - r->start));
	count_locked(t, r, sign);
}

int region_add(struct region_table *t, const struct region *r)
{
	u32 i;
	int err;

	quire_assert(r->start < r->end && !(r->start & ~PAGE_MASK) && !(r->end & ~PAGE_MASK));
	mutex_lock(&t->lock);
	i = lower_bound(t, atomic32_peek(&t->nr), r->start);
	if (i < atomic32_peek(&t->nr) && t->array[i].start < r->end)
		err = -EEXIST;
	else
		err = ensure_room(t, 1);
	if (!err) {
		write_begin(t);
		insert_at(t, i, r);
		try_merge(t, i);
		if (i)
			try_merge(t, i - 1);
		write_end(t);
		count(t, r, 1);
	}
	mutex_unlock(&t->lock);
	return err;
}

/* Regions more when `at` becomes a boundary. */
static u32 splits_at(const struct region_table *t, u64 at)
{
	u32 nr = atomic32_peek(&t->nr), i = lower_bound(t, nr, at);

	return i < nr && t->array[i].start < at;
}

/* Make `at` a boundary: split the region that holds it.  Inside a write. */
static void split_at(struct region_table *t, u64 at)
{
	u32 i = lower_bound(t, atomic32_peek(&t->nr), at);
	struct region lower, upper;

	if (i >= atomic32_peek(&t->nr) || t->array[i].start >= at)
		return;
	lower = upper = t->array[i];
	upper.start = lower.end = at;
	set_at(t, i, &lower);
	insert_at(t, i + 1, &upper);
}

/* Take out what lies in [start, end).  Room for the splits is there. */
static void cut(struct region_table *t, u64 start, u64 end)
{
	u32 i;

	write_begin(t);
	split_at(t, start);
	split_at(t, end);
	i = lower_bound(t, atomic32_peek(&t->nr), start);
	while (i < atomic32_peek(&t->nr) && t->array[i].start < end) {
		count(t, &t->array[i], -1);
		remove_at(t, i);
	}
	write_end(t);
}

int region_cut(struct region_table *t, u64 start, u64 end)
{
	int err;

	mutex_lock(&t->lock);
	err = ensure_room(t, splits_at(t, start) + splits_at(t, end));
	if (!err)
		cut(t, start, end);
	mutex_unlock(&t->lock);
	return err;
}

/* Apply set/clear and, with o.v != 0, the objcg to every part in the range. */
static void change_parts(struct region_table *t, u64 start, u64 end, u16 set, u16 clear,
			 struct objcg_id o)
{
	u32 first, i;

	write_begin(t);
	split_at(t, start);
	split_at(t, end);
	first = lower_bound(t, atomic32_peek(&t->nr), start);
	for (i = first; i < atomic32_peek(&t->nr) && t->array[i].start < end; i++) {
		struct region r = t->array[i];

		count_locked(t, &r, -1);
		r.flags = (u16)((r.flags | set) & ~clear);
		if (o.v)
			r.objcg = o;
		count_locked(t, &r, 1);
		set_at(t, i, &r);
	}
	/* Downwards, so that indices stay valid while elements vanish. */
	while (i-- > first)
		try_merge(t, i);
	if (first)
		try_merge(t, first - 1);
	write_end(t);
}

static int change(struct region_table *t, u64 start, u64 end, u16 set, u16 clear, struct objcg_id o)
{
	int err;

	mutex_lock(&t->lock);
	err = ensure_room(t, splits_at(t, start) + splits_at(t, end));
	if (!err)
		change_parts(t, start, end, set, clear, o);
	mutex_unlock(&t->lock);
	return err;
}

int region_set_flags(struct region_table *t, u64 start, u64 end, u16 set, u16 clear)
{
	return change(t, start, end, set, clear, (struct objcg_id){ 0 });
}

int region_set_objcg(struct region_table *t, u64 start, u64 end, struct objcg_id o)
{
	return change(t, start, end, 0, 0, o);
}

void region_check(const struct region_table *t)
{
	u32 nr = atomic32_peek(&t->nr);
	u64 bytes = 0, locked = 0;

	for (u32 i = 0; i < nr; i++) {
		const struct region *r = &t->array[i];

		quire_assert(r->start < r->end);
		quire_assert(!((r->start | r->end) & ~PAGE_MASK));
		quire_assert(i == 0 || t->array[i - 1].end <= r->start);
		quire_assert(i == 0 || !mergeable(&t->array[i - 1], r));
		bytes += r->end - r->start;
		locked += r->flags & REGION_LOCKED ? r->end - r->start : 0;
	}
	quire_assert(bytes == atomic64_peek(&t->bytes));
	quire_assert(locked == atomic64_peek(&t->locked));
}

void region_table_to_text(const struct region_table *t, struct fmt *out)
{
	struct region r;
	u64 at = 0;

	while (region_next(t, at, &r)) {
		fmt_add(out, "region 0x%llx-0x%llx objcg %u queue %u flags 0x%x\n",
			(unsigned long long)r.start, (unsigned long long)r.end, r.objcg.v, r.queue,
			r.flags);
		at = r.end;
	}
}
