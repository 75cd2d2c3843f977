/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild.c - make the links true again, and check the counters.
 *
 * Owns: repair of the tree after the holder of its lock was killed; counting
 * usage anew from the totals of the handles; the check of both (I2).
 * Does not own: finding out that repair is due (segment_lock(): dirty word odd),
 * closing the gates before a recount (the reaper).
 * Entry points: rebuild_tree(), rebuild_counters(), memcg_recount(), memcg_check().
 * Invariants: `state`, `parent`, `depth` and `name` of a record are written
 * before it becomes ONLINE and are all that a rebuild believes; a parent is one
 * level higher than its child, so no cycle survives.  Lists, index, counts and
 * free lists follow from them.  Counters and protection sums are not touched
 * by a rebuild, since other members go on charging; a recount does those.
 * Lock ranks: TREE (all but memcg_check(), which is for a tree at rest).
 */
#include "memcg/internal.h"

#include <errno.h>
#include <string.h>

#include "base/mutant.h"
#include "base/os.h"

/* Others charge in between; if they always do, it waits for the next time. */
#define RECOUNT_TRIES 64

/* ---- rebuild ------------------------------------------------------------------ */

static void clear_links(struct group *g)
{
	struct atomic32 *link[] = { &g->child_first, &g->child_last,	&g->sib_next,
				    &g->sib_prev,    &g->hash_next,	&g->dying_next,
				    &g->objcg_first, &g->nr_descendants };

	for (u32 n = 0; n < ARRAY_SIZE(link); n++)
		atomic32_store(link[n], 0);
}

static bool record_believable(const struct memcg_tree *t, u32 i, const struct group *g)
{
	const struct group *p = group_at(t, atomic32_peek(&g->parent));

	if (i == MEMCG_ROOT.v)
		return true;
	return p && memcg_name_ok(g->name, memcg_name_len(g)) &&
	       atomic32_peek(&p->state) == GROUP_ONLINE &&
	       atomic32_peek(&p->depth) + 1 == atomic32_peek(&g->depth);
}

/* Removals that were cut off, and those that members have yet to hear of. */
static void rebuild_dying(struct memcg_tree *t, u32 high)
{
	struct seg_header *h = seg_head(t);
	u64 done = 0;

	atomic32_store(&h->dying_first, 0);
	atomic32_store(&h->dying_last, 0);
	atomic32_store(&h->nr_dying, 0);
	/* In the order of removal: the next one is looked for each time; there are few. */
	for (;;) {
		u64 next = UINT64_MAX;
		u32 which = 0;

		for (u32 i = 2; i < high; i++) {
			const struct group *g = group_at(t, i);
			u64 removal = atomic64_peek(&g->removal);

			if (atomic32_peek(&g->state) == GROUP_OFFLINE && removal > done &&
			    removal < next) {
				next = removal;
				which = i;
			}
		}
		if (!which)
			break;
		memcg_set_protection(t, (struct memcg_id){ which }, 0, 0);
		memcg_link_dying(t, which);
		done = next;
	}
	atomic64_store(&h->nr_removed, max_of(done, atomic64_peek(&h->nr_removed)));
}

/* A parent may have a higher index than its child: level by level. */
static void rebuild_groups(struct memcg_tree *t, u32 high)
{
	struct group *root = group_at(t, MEMCG_ROOT.v);

	for (u32 i = 1; i < high; i++)
		clear_links(group_at(t, i));
	for (u32 i = 0; i < SEG_INDEX_SIZE; i++)
		atomic32_store(&seg_index(t)[i], 0);
	atomic32_store(&root->state, GROUP_ONLINE);
	atomic32_store(&root->parent, 0);
	atomic32_store(&root->depth, 0);
	for (u32 depth = 1; depth <= MEMCG_DEPTH_MAX; depth++)
		for (u32 i = 2; i < high; i++) {
			struct group *g = group_at(t, i);

			if (atomic32_peek(&g->state) == GROUP_ONLINE &&
			    atomic32_peek(&g->depth) == depth && !record_believable(t, i, g))
				atomic32_store(&g->state, GROUP_FREE);
		}
	for (u32 i = 2; i < high; i++) {
		struct group *g = group_at(t, i);

		if (atomic32_peek(&g->state) == GROUP_ONLINE)
			memcg_link(t, i);
	}
	rebuild_dying(t, high);
}

static void rebuild_objcgs(struct memcg_tree *t, u32 high)
{
	for (u32 i = 1; i < high; i++) {
		struct objcg *c = objcg_at(t, i);

		if (atomic32_peek(&c->state) == OBJCG_LIVE)
			(void)objcg_link(t, i, memcg_online_of(t, atomic32_peek(&c->memcg)));
	}
}

static void rebuild_free_lists(struct memcg_tree *t, u32 nr_groups, u32 nr_objcgs)
{
	atomic32_store(&seg_head(t)->area[SEG_GROUPS].free_head, 0);
	atomic32_store(&seg_head(t)->area[SEG_OBJCGS].free_head, 0);
	for (u32 i = nr_groups - 1; i > 0; i--)
		if (atomic32_peek(&group_at(t, i)->state) == GROUP_FREE)
			segment_free(t, SEG_GROUPS, i);
	for (u32 i = nr_objcgs - 1; i > 0; i--)
		if (atomic32_peek(&objcg_at(t, i)->state) == OBJCG_FREE)
			segment_free(t, SEG_OBJCGS, i);
}

void rebuild_tree(struct memcg_tree *t)
{
	u32 nr_groups = seg_high(t, SEG_GROUPS, NR_GROUPS_MAX);
	u32 nr_objcgs = seg_high(t, SEG_OBJCGS, NR_OBJCGS_MAX);

	mutex_assert_held(&t->seg->lock);
	rebuild_groups(t, nr_groups);
	rebuild_objcgs(t, nr_objcgs);
	rebuild_free_lists(t, nr_groups, nr_objcgs);
	member_close_half_made(t);
	/* It may have been closing the record of another. */
	atomic32_store(&seg_head(t)->recount_due, 1);
}

/* ---- sums ------------------------------------------------------------------------ */

enum { SUM_MEMORY, SUM_SWAP, SUM_ZSWAP, SUM_MIN, SUM_LOW, NR_SUMS };

static const enum page_counter_kind sum_kind[] = { COUNTER_MEMORY, COUNTER_SWAP, COUNTER_ZSWAP };

/* What is on the counters of each group above what its handles and children account for. */
struct sums {
	u64 (*v)[NR_SUMS];
	size_t bytes;
	u32 high;
};

static void add_group(const struct memcg_tree *t, struct sums *s, u32 i)
{
	const struct group *g = group_at(t, i);
	u32 parent = atomic32_load(&g->parent);

	if (atomic32_load(&g->state) == GROUP_FREE)
		return;
	for (u32 n = 0; n < ARRAY_SIZE(sum_kind); n++)
		s->v[i][n] += atomic64_load(&g->usage[sum_kind[n]]);
	s->v[i][SUM_MIN] += atomic64_load(&g->children_min_usage);
	s->v[i][SUM_LOW] += atomic64_load(&g->children_low_usage);
	if (parent > 0 && parent < s->high) {
		s->v[parent][SUM_MIN] -= atomic64_load(&g->min_usage);
		s->v[parent][SUM_LOW] -= atomic64_load(&g->low_usage);
	}
}

static void sub_handle(const struct memcg_tree *t, struct sums *s, const struct objcg *c)
{
	u64 nr[] = { atomic64_load(&c->memory) - atomic64_load(&c->late_memory),
		     atomic64_load(&c->swap) - atomic64_load(&c->late_swap),
		     atomic64_load(&c->zswap_bytes) - atomic64_load(&c->late_zswap) };
	u32 i = atomic32_load(&c->memcg);

	for (u32 l = 0; l < NR_LEVELS && i > 0 && i < s->high; l++) {
		for (u32 n = 0; n < ARRAY_SIZE(nr); n++)
			s->v[i][n] -= nr[n];
		i = atomic32_load(&group_at(t, i)->parent);
	}
}

static bool sums_make(struct memcg_tree *t, struct sums *s)
{
	u32 nr_objcgs = seg_high(t, SEG_OBJCGS, NR_OBJCGS_MAX);

	s->high = seg_high(t, SEG_GROUPS, NR_GROUPS_MAX);
	s->bytes = s->high * sizeof(*s->v);
	s->v = meta_alloc(t->meta, s->bytes);
	if (!s->v)
		return false;
	for (u32 i = 1; i < s->high; i++)
		add_group(t, s, i);
	for (u32 n = 1; n < nr_objcgs; n++) {
		const struct objcg *c = objcg_at(t, n);

		/* A child writes its totals as it arrives; nothing of them is counted. */
		if (atomic32_load(&c->state) == OBJCG_LIVE &&
		    !member_is_forking(t, atomic32_load(&c->member)))
			sub_handle(t, s, c);
	}
	return true;
}

/* Drift stays what it is while others charge, and so may be taken off. */
static bool sums_correct(struct memcg_tree *t, const struct sums *s)
{
	bool any = false;

	for (u32 i = 1; i < s->high; i++) {
		struct group *g = group_at(t, i);
		u64 drift = 0;

		if (atomic32_peek(&g->state) != GROUP_ONLINE)
			continue;
		for (u32 n = 0; n < NR_SUMS; n++)
			drift |= s->v[i][n];
		if (!drift)
			continue;
		for (u32 n = 0; n < ARRAY_SIZE(sum_kind); n++)
			(void)atomic64_fetch_sub(&g->usage[sum_kind[n]], s->v[i][n]);
		(void)atomic64_fetch_sub(&g->children_min_usage, s->v[i][SUM_MIN]);
		(void)atomic64_fetch_sub(&g->children_low_usage, s->v[i][SUM_LOW]);
		page_counter_propagate(t, g, atomic64_load(&g->usage[COUNTER_MEMORY]));
		any = true;
	}
	return any;
}

int rebuild_counters(struct memcg_tree *t, bool *ret_drift)
{
	struct sums s;
	u64 before, after;
	int ret = -EAGAIN;

	mutex_assert_held(&t->seg->lock);
	if (!member_counters_at_rest(t, &before))
		return -EAGAIN;
	if (!sums_make(t, &s))
		return -ENOMEM;
	/* Pairs with counters_begin(): all that was read lies between two charges. */
	if (MUTANT(recount_looks_once) || (member_counters_at_rest(t, &after) && after == before)) {
		*ret_drift = sums_correct(t, &s);
		ret = 0;
	}
	meta_free(t->meta, s.v, s.bytes);
	return ret;
}

void rebuild_due_counters(struct memcg_tree *t)
{
	struct atomic32 *due = &seg_head(t)->recount_due;
	bool drift;

	/* Until none is found: one that is below zero is not counted as such (page_counter.c). */
	for (u32 n = 0; n < RECOUNT_TRIES && atomic32_peek(due); n++) {
		if (rebuild_counters(t, &drift))
			sync_relax();
		else if (!drift)
			atomic32_store(due, 0);
	}
}

int memcg_recount(struct memcg_tree *t)
{
	int ret = segment_lock(t);
	bool drift;

	if (ret)
		return ret;
	ret = rebuild_counters(t, &drift);
	segment_unlock(t);
	return ret;
}

/* ---- check: I2 ---------------------------------------------------------------------- */

_Noreturn static void drift(struct memcg_tree *t, u32 i, const char *what, u64 is, u64 want)
{
	char msg[256];
	struct fmt f;

	fmt_init(&f, msg, sizeof(msg));
	fmt_add(&f, "quire: memcg_check: group ");
	memcg_path(t, (struct memcg_id){ i }, &f);
	fmt_add(&f, ": %s is %llu, should be %llu\n", what, (unsigned long long)is,
		(unsigned long long)want);
	os_abort(msg);
}

static void check_usage(struct memcg_tree *t, const struct sums *s, u32 i, const struct group *g)
{
	static const char *const what[] = { "memory", "swap", "zswap bytes" };

	for (u32 n = 0; n < ARRAY_SIZE(what); n++) {
		u64 is = atomic64_load(&g->usage[sum_kind[n]]);

		if (s->v[i][n])
			drift(t, i, what[n], is, is - s->v[i][n]);
	}
}

static void check_children(struct memcg_tree *t, u32 i, const struct group *g)
{
	u64 nr = 0, min = 0, low = 0, prev = 0;
	u32 at = atomic32_load(&g->child_first);
	const struct group *c;

	for (u32 n = 0; n < NR_GROUPS_MAX && (c = group_at(t, at)); n++) {
		quire_assert(atomic32_load(&c->state) == GROUP_ONLINE);
		quire_assert(atomic32_load(&c->parent) == i);
		quire_assert(atomic32_load(&c->sib_prev) == prev);
		nr += 1 + atomic32_load(&c->nr_descendants);
		min += atomic64_load(&c->min_usage);
		low += atomic64_load(&c->low_usage);
		prev = at;
		at = atomic32_load(&c->sib_next);
	}
	quire_assert(atomic32_load(&g->child_last) == prev);
	at = atomic32_load(&seg_head(t)->dying_first);
	for (u32 n = 0; n < NR_GROUPS_MAX && (c = group_at(t, at)); n++) {
		quire_assert(atomic32_load(&c->state) == GROUP_OFFLINE);
		if (atomic32_load(&c->parent) == i) {
			min += atomic64_load(&c->min_usage);
			low += atomic64_load(&c->low_usage);
		}
		at = atomic32_load(&c->dying_next);
	}
	if (nr != atomic32_load(&g->nr_descendants))
		drift(t, i, "nr_descendants", atomic32_load(&g->nr_descendants), nr);
	if (min != atomic64_load(&g->children_min_usage))
		drift(t, i, "children_min_usage", atomic64_load(&g->children_min_usage), min);
	if (low != atomic64_load(&g->children_low_usage))
		drift(t, i, "children_low_usage", atomic64_load(&g->children_low_usage), low);
}

static void check_objcgs(struct memcg_tree *t, u32 i, const struct group *g)
{
	u32 at = atomic32_load(&g->objcg_first), prev = 0;
	const struct objcg *c;

	for (u32 n = 0; n < NR_OBJCGS_MAX && (c = objcg_at(t, at)); n++) {
		quire_assert(atomic32_load(&c->state) == OBJCG_LIVE);
		quire_assert(atomic32_load(&c->memcg) == i);
		quire_assert(atomic32_load(&c->prev) == prev);
		quire_assert(atomic64_load(&c->memory) >=
			     (atomic64_load(&c->zswap_bytes) + PAGE_SIZE - 1) >> PAGE_SHIFT);
		prev = at;
		at = atomic32_load(&c->next);
	}
}

void memcg_check(struct memcg_tree *t)
{
	struct sums s;

	quire_assert(sums_make(t, &s));
	for (u32 i = 1; i < s.high; i++) {
		const struct group *g = group_at(t, i);

		if (atomic32_load(&g->state) == GROUP_FREE)
			continue;
		if (atomic32_load(&g->state) == GROUP_OFFLINE) {
			quire_assert(!atomic32_load(&g->objcg_first));
			quire_assert(!atomic32_load(&g->child_first));
			quire_assert(memcg_online(t, memcg_parent(t, (struct memcg_id){ i })));
			continue;
		}
		check_usage(t, &s, i, g);
		check_children(t, i, g);
		check_objcgs(t, i, g);
	}
	meta_free(t->meta, s.v, s.bytes);
}
