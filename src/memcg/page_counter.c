/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_counter.c - hierarchical usage, limits, watermarks.
 *
 * Owns: usage, peak, max, high of every group, and the sums of protected usage
 * that protection.c reads.
 * Does not own: whose charge it is (objcg.c), what is bought ahead (charge.c),
 * what happens when a limit says no (the caller).
 * Entry points: page_counter_try_charge(), page_counter_charge(),
 * page_counter_uncharge(); the limit functions of memcg.h.
 * Invariants: a counter is never below the sum of the objcg totals that lead
 * to it: charging adds to the counters first and to the total last, uncharging
 * the other way round, so that a process killed in between leaves too much
 * (which the reaper finds), never too little.  Peaks are those of charges that
 * succeeded.
 * Lock ranks: none; any thread, also while the tree changes.
 *
 * Charging adds first and then compares with max (algorithms.md 4.2).  There is
 * no compare-and-swap loop; a big charge that fails may make a small one fail
 * that raced with it, bounded by the difference.  The add is a full barrier
 * and so is the exchange in memcg_set_max(): either the charge sees the new
 * limit, or the one who set it sees the charge when it reads usage afterwards.
 *
 * memsw (v1) is counted, not limited: memory + swap, less the pages that are in
 * both (swapcached), as v1 charges such a page once.
 */
#include "memcg/internal.h"

#include "base/mutant.h"

/* What kswapd leaves free below max (memcg.h). */
#define WMARK_SHIFT 6
#define WMARK_MIN 64u /* 256 KiB */
#define WMARK_MAX 2048u /* 8 MiB */

/* The chain from a group to the root, read once. */
struct chain {
	struct group *g[NR_LEVELS];
	u64 now[NR_LEVELS]; /* usage right after our own add */
	u32 nr;
};

static void note_protected(struct atomic64 *protected, struct atomic64 *sum, u64 usage, u64 setting)
{
	u64 want = min_of(usage, setting), old;

	if (likely(want == 0 && atomic64_peek(protected) == 0))
		return;
	old = atomic64_xchg(protected, want);
	if (old != want)
		(void)atomic64_fetch_add(sum, want - old);
}

void page_counter_propagate(struct memcg_tree *t, struct group *g, u64 usage)
{
	struct group *p = group_at(t, atomic32_peek(&g->parent));

	if (!p)
		return;
	note_protected(&g->min_usage, &p->children_min_usage, usage, atomic64_peek(&g->min));
	note_protected(&g->low_usage, &p->children_low_usage, usage, atomic64_peek(&g->low));
}

static u64 add_one(struct memcg_tree *t, struct group *g, enum page_counter_kind k, u64 nr)
{
	u64 now = atomic64_fetch_add(&g->usage[k], nr) + nr;

	if (k == COUNTER_MEMORY)
		page_counter_propagate(t, g, now);
	return now;
}

static void sub_one(struct memcg_tree *t, struct group *g, enum page_counter_kind k, u64 nr)
{
	u64 old = atomic64_fetch_sub(&g->usage[k], nr);

	if (unlikely(old < nr)) {
		/* Only a scribbler can do this to a shared segment. */
		quire_assert(t->seg->shared);
		(void)atomic64_fetch_add(&g->usage[k], nr - old);
		old = nr;
	}
	if (k == COUNTER_MEMORY)
		page_counter_propagate(t, g, old - nr);
}

static u64 wmark(u64 max, u64 gaps)
{
	u64 gap = max >> WMARK_SHIFT;

	if (max >= PAGE_COUNTER_MAX)
		return PAGE_COUNTER_MAX;
	gap = gap < WMARK_MIN ? WMARK_MIN : min_of(gap, WMARK_MAX);
	gap = min_of(gap, max / 4);
	return max - gaps * gap;
}

/* Did adding nr take usage over a level somebody wants to know of? */
static bool crossed(const struct group *g, u64 now, u64 nr)
{
	u64 before = now - nr;
	u64 mark = wmark(atomic64_peek(&g->max[COUNTER_MEMORY]), 1);
	u64 high = atomic64_peek(&g->high[COUNTER_MEMORY]);

	return (before <= mark && now > mark) || (before <= high && now > high);
}

/* All levels are charged: peaks, and the levels that crossed as a mask. */
static u32 chain_done(struct chain *c, enum page_counter_kind k, u64 nr)
{
	u32 mask = 0;

	for (u32 l = 0; l < c->nr; l++) {
		struct group *g = c->g[l];

		/* Racy; a little inaccuracy is accepted. */
		if (c->now[l] > stat_read(&g->peak[k]))
			stat_set(&g->peak[k], c->now[l]);
		if (k == COUNTER_MEMORY && crossed(g, c->now[l], nr))
			mask |= 1u << l;
	}
	return mask;
}

bool page_counter_try_charge(struct memcg_tree *t, u32 leaf, enum page_counter_kind k, u64 nr,
			     u32 until, u32 *ret_crossed, u32 *ret_over)
{
	struct chain c = { .nr = 0 };
	struct group *g;
	u32 i = leaf;

	while (i != until && c.nr < NR_LEVELS && (g = group_at(t, i))) {
		u64 now;

		if (MUTANT(limit_before_charge) &&
		    atomic64_load(&g->usage[k]) + nr <= atomic64_load(&g->max[k])) {
			c.g[c.nr] = g;
			c.now[c.nr++] = add_one(t, g, k, nr);
			i = atomic32_peek(&g->parent);
			continue;
		}
		now = add_one(t, g, k, nr);
		if (unlikely(now > atomic64_load(&g->max[k]))) {
			sub_one(t, g, k, nr);
			for (u32 l = 0; l < c.nr; l++)
				sub_one(t, c.g[l], k, nr);
			*ret_over = i;
			return false;
		}
		c.g[c.nr] = g;
		c.now[c.nr++] = now;
		i = atomic32_peek(&g->parent);
	}
	*ret_crossed = chain_done(&c, k, nr);
	return true;
}

u32 page_counter_charge(struct memcg_tree *t, u32 leaf, enum page_counter_kind k, u64 nr, u32 until)
{
	struct chain c = { .nr = 0 };
	struct group *g;
	u32 i = leaf;

	while (i != until && c.nr < NR_LEVELS && (g = group_at(t, i))) {
		c.g[c.nr] = g;
		c.now[c.nr++] = add_one(t, g, k, nr);
		i = atomic32_peek(&g->parent);
	}
	return chain_done(&c, k, nr);
}

void page_counter_uncharge(struct memcg_tree *t, u32 leaf, enum page_counter_kind k, u64 nr,
			   u32 until)
{
	struct group *g;
	u32 i = leaf;

	for (u32 l = 0; i != until && l < NR_LEVELS && (g = group_at(t, i)); l++) {
		sub_one(t, g, k, nr);
		i = atomic32_peek(&g->parent);
	}
}

u32 page_counter_common(const struct memcg_tree *t, u32 a, u32 b)
{
	struct group *g;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, a)); l++) {
		if (memcg_is_descendant(t, (struct memcg_id){ b }, (struct memcg_id){ a }))
			return a;
		a = atomic32_peek(&g->parent);
	}
	return 0;
}

/* ---- reading ---------------------------------------------------------------------- */

static u64 memsw_usage(const struct memcg_tree *t, struct memcg_id id)
{
	const struct group *g = group_of(t, id);
	u64 sum = atomic64_load(&g->usage[COUNTER_MEMORY]) + atomic64_load(&g->usage[COUNTER_SWAP]);
	u64 both = memcg_stat_read(t, id, MEMCG_STAT_SWAPCACHED);

	return sum - min_of(both, sum);
}

u64 memcg_usage(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k)
{
	if (k == COUNTER_MEMSW)
		return memsw_usage(t, id);
	if (k == COUNTER_ZSWAP)
		return memcg_zswap_bytes(t, id) >> PAGE_SHIFT;
	return atomic64_load(&group_of(t, id)->usage[k]);
}

u64 memcg_zswap_bytes(const struct memcg_tree *t, struct memcg_id id)
{
	return atomic64_load(&group_of(t, id)->usage[COUNTER_ZSWAP]);
}

u64 memcg_peak(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k)
{
	struct counter64 *peak = &group_of(t, id)->peak[k];
	u64 now;

	if (k == COUNTER_ZSWAP)
		return stat_read(peak) >> PAGE_SHIFT;
	if (k == COUNTER_MEMSW && !t->seg->readonly) {
		now = memsw_usage(t, id);
		if (now > stat_read(peak))
			stat_set(peak, now);
	}
	return stat_read(peak);
}

void memcg_reset_peak(struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k)
{
	struct group *g = group_of(t, id);

	stat_set(&g->peak[k],
		 k == COUNTER_MEMSW ? memsw_usage(t, id) : atomic64_load(&g->usage[k]));
}

u64 memcg_limit(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k)
{
	return atomic64_load(&group_of(t, id)->max[k]);
}

u64 memcg_high(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k)
{
	quire_assert(k == COUNTER_MEMORY || k == COUNTER_SWAP);
	return atomic64_load(&group_of(t, id)->high[k]);
}

u64 memcg_wmark_pages(const struct memcg_tree *t, struct memcg_id id)
{
	return wmark(atomic64_load(&group_of(t, id)->max[COUNTER_MEMORY]), 1);
}

u64 memcg_wmark_low_pages(const struct memcg_tree *t, struct memcg_id id)
{
	return wmark(atomic64_load(&group_of(t, id)->max[COUNTER_MEMORY]), 2);
}

static u64 chain_margin(const struct memcg_tree *t, u32 i, enum page_counter_kind k)
{
	u64 margin = PAGE_COUNTER_MAX;
	const struct group *g;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		u64 max = atomic64_load(&g->max[k]), usage = atomic64_load(&g->usage[k]);

		margin = min_of(margin, max - min_of(max, usage));
		i = atomic32_peek(&g->parent);
	}
	return margin;
}

u64 memcg_margin(const struct memcg_tree *t, struct memcg_id id)
{
	return chain_margin(t, id.v, COUNTER_MEMORY);
}

u64 memcg_swap_margin(const struct memcg_tree *t, struct memcg_id id)
{
	return chain_margin(t, id.v, COUNTER_SWAP);
}

u64 memcg_over_max(const struct memcg_tree *t, struct memcg_id id)
{
	const struct group *g = group_of(t, id);
	u64 max = atomic64_load(&g->max[COUNTER_MEMORY]);
	u64 usage = atomic64_load(&g->usage[COUNTER_MEMORY]);

	return usage - min_of(max, usage);
}

/* cgroup-v2: memory.swap.max; half of it is "nearly full" (interface.md 2.3). */
bool memcg_swap_nearly_full(const struct memcg_tree *t, struct memcg_id id)
{
	const struct group *g;
	u32 i = id.v;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		u64 twice = 2 * atomic64_load(&g->usage[COUNTER_SWAP]);

		if (twice >= atomic64_load(&g->high[COUNTER_SWAP]) ||
		    twice >= atomic64_load(&g->max[COUNTER_SWAP]))
			return true;
		i = atomic32_peek(&g->parent);
	}
	return false;
}

/* ---- setting ------------------------------------------------------------------------ */

void memcg_set_max(struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k, u64 pages)
{
	/* Full barrier; pairs with the add in page_counter_try_charge(). */
	(void)atomic64_xchg(&group_of(t, id)->max[k], min_of(pages, PAGE_COUNTER_MAX));
}

void memcg_set_high(struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k, u64 pages)
{
	quire_assert(k == COUNTER_MEMORY || k == COUNTER_SWAP);
	(void)atomic64_xchg(&group_of(t, id)->high[k], min_of(pages, PAGE_COUNTER_MAX));
}
