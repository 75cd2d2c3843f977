/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objcg.c - charge handles: who pays now.
 *
 * Owns: objcg records, the list of handles of each group, re-pointing them at
 * removal, freeing them when nothing is charged to them.
 * Does not own: the amounts (charge.c), when an engine lets go (the engine
 * calls objcg_put()).
 * Entry points: objcg_get(), objcg_get_cached(), objcg_put(), objcg_memcg(), objcg_flip_all(),
 * objcg_retire_member().
 * Invariants: every LIVE handle is on the list of exactly the group it points
 * to, which is ONLINE; only threads of its owner write totals and statistics;
 * a handle with references or charges is never freed.  A group has at most one
 * handle of MEMBER_NOBODY: what members that are gone have counted.
 * Lock ranks: TREE for lists and life; objcg_memcg() takes none.
 *
 * Statistics live in the handle, not in the group: a removed group takes its
 * numbers to the parent in the same store that re-points its handles, and no
 * count can land on a dead group (races.md 1.4, the review of reparenting).
 */
#include "memcg/internal.h"

#include <errno.h>

#include "base/mutant.h"

#define REAP_BATCH 64 /* handles looked at per objcg_put() */

struct memcg_id objcg_memcg(const struct memcg_tree *t, struct objcg_id o)
{
	/* Pairs with the store in objcg_flip_all(). */
	u32 i = atomic32_load(&objcg_of(t, o)->memcg);

	return group_at(t, i) ? (struct memcg_id){ i } : MEMCG_ROOT;
}

struct memcg_id objcg_lists(const struct memcg_tree *t, struct objcg_id o)
{
	u32 i = atomic32_load(&objcg_of(t, o)->lists);

	return group_at(t, i) ? (struct memcg_id){ i } : MEMCG_ROOT;
}

/* ---- lists: tree lock held --------------------------------------------------- */

u32 objcg_find(const struct memcg_tree *t, u32 memcg, u32 member)
{
	u32 i = atomic32_peek(&group_or_root(t, memcg)->objcg_first);
	struct objcg *c;

	for (u32 n = 0; n < NR_OBJCGS_MAX && (c = objcg_at(t, i)); n++) {
		if (atomic32_peek(&c->member) == member)
			return i;
		i = atomic32_peek(&c->next);
	}
	return 0;
}

static void fold_stats(struct objcg *from, struct objcg *to)
{
	for (u32 n = 0; n < MEMCG_NR_STATS; n++) {
		u64 v = stat_read(&from->stat[n]);

		stat_sub(&from->stat[n], v);
		stat_add(&to->stat[n], v);
	}
}

bool objcg_link(struct memcg_tree *t, u32 i, u32 memcg)
{
	struct group *g = group_or_root(t, memcg);
	struct objcg *c = objcg_at(t, i), *next;
	u32 keeper = atomic32_peek(&c->member) == MEMBER_NOBODY ?
			     objcg_find(t, memcg, MEMBER_NOBODY) :
			     0;

	if (keeper) {
		fold_stats(c, objcg_at(t, keeper));
		atomic32_store(&c->state, OBJCG_FREE);
		return false;
	}
	next = objcg_at(t, atomic32_peek(&g->objcg_first));
	atomic32_store(&c->memcg, memcg);
	atomic32_store(&c->next, atomic32_peek(&g->objcg_first));
	atomic32_store(&c->prev, 0);
	if (next)
		atomic32_store(&next->prev, i);
	atomic32_store(&g->objcg_first, i);
	return true;
}

static void objcg_unlink(struct memcg_tree *t, struct objcg *c)
{
	struct group *g = group_or_root(t, atomic32_peek(&c->memcg));
	struct objcg *next = objcg_at(t, atomic32_peek(&c->next));
	struct objcg *prev = objcg_at(t, atomic32_peek(&c->prev));

	atomic32_store(prev ? &prev->next : &g->objcg_first, atomic32_peek(&c->next));
	if (next)
		atomic32_store(&next->prev, atomic32_peek(&c->prev));
}

static bool nothing_charged(const struct objcg *c)
{
	return atomic64_load(&c->memory) == 0 && atomic64_load(&c->swap) == 0 &&
	       atomic64_load(&c->zswap_bytes) == 0;
}

/* Our number of record i; 0 where another process has written over it. */
static u32 own_number(const struct memcg_tree *t, u32 i)
{
	u32 o = objcg_at(t, i) ? objcg_at(t, i)->local : 0;

	return o < t->nr_handles && atomic32_peek(&t->handle[o]) == i ? o : 0;
}

/* Nothing is charged to c and nobody may use it: its counts go to what the
 * group keeps of former members, of which it becomes the first if need be. */
static void objcg_free(struct memcg_tree *t, u32 i)
{
	struct objcg *c = objcg_at(t, i);
	u32 keeper = objcg_find(t, atomic32_peek(&c->memcg), MEMBER_NOBODY);
	u32 o = own_number(t, i);

	if (atomic32_peek(&c->member) == t->self && o)
		handle_free(t, o);
	if (!keeper) {
		atomic32_store(&c->member, MEMBER_NOBODY);
		return;
	}
	fold_stats(c, objcg_at(t, keeper));
	objcg_unlink(t, c);
	atomic32_store(&c->state, OBJCG_FREE);
	segment_free(t, SEG_OBJCGS, i);
}

/* ---- get and put ----------------------------------------------------------------- */

/* The new record, or 0. */
static u32 objcg_create(struct memcg_tree *t, u32 memcg)
{
	struct objcg *c;
	u32 i;

	segment_change_begin(t);
	i = segment_alloc(t, SEG_OBJCGS);
	c = objcg_at(t, i);
	if (c) {
		atomic32_poke(&c->member, t->self);
		atomic32_poke(&c->memcg, memcg);
		atomic32_poke(&c->lists, memcg);
		c->local = handle_alloc(t, i);
		/* Complete: a rebuild may find it from here on. */
		atomic32_store(&c->state, OBJCG_LIVE);
		(void)objcg_link(t, i, memcg);
	}
	segment_change_end(t);
	return i;
}

/* Tree lock held; the handle's number, 0: no room. */
static u32 get_locked(struct memcg_tree *t, struct memcg_id id)
{
	u32 memcg = memcg_online_of(t, id.v);
	u32 i = objcg_find(t, memcg, t->self), o;
	struct objcg *c;

	if (!i) {
		member_uses(t, memcg);
		i = objcg_create(t, memcg);
	}
	o = own_number(t, i);
	if (!o)
		return 0;
	c = objcg_at(t, i);
	atomic32_store(&c->refs, atomic32_peek(&c->refs) + 1);
	return o;
}

int objcg_get(struct memcg_tree *t, struct memcg_id id, struct objcg_id *ret)
{
	u32 o;
	int err = segment_lock_wait(t);

	if (err)
		return err;
	o = get_locked(t, id);
	segment_unlock(t);
	if (o)
		ret->v = o;
	return o ? 0 : -ENOSPC;
}

int objcg_get_cached(struct memcg_tree *t, struct memcg_id id, struct atomic32 *cache,
		     struct objcg_id *ret)
{
	u32 o = atomic32_load(cache);
	int err;

	if (likely(o)) {
		ret->v = o;
		return 0;
	}
	err = segment_lock_wait(t);
	if (err)
		return err;
	/* Another thread of this member may have been first. */
	o = atomic32_load(cache);
	if (!o)
		o = get_locked(t, id);
	atomic32_store(cache, o);
	segment_unlock(t);
	if (o)
		ret->v = o;
	return o ? 0 : -ENOSPC;
}

bool objcg_empty(const struct memcg_tree *t, struct objcg_id o)
{
	return nothing_charged(objcg_of(t, o));
}

/*
 * Free handles of this member that nobody refers to and nothing is charged to,
 * in the group of the one just put.  One that still carries charges is left
 * until a later call, or until the member leaves.
 */
static void reap(struct memcg_tree *t, u32 memcg)
{
	u32 i = atomic32_peek(&group_at(t, memcg)->objcg_first), next;
	struct objcg *c;

	for (u32 n = 0; n < REAP_BATCH && (c = objcg_at(t, i)); n++) {
		next = atomic32_peek(&c->next);
		if (atomic32_peek(&c->member) == t->self && atomic32_peek(&c->refs) == 0 &&
		    nothing_charged(c))
			objcg_free(t, i);
		i = next;
	}
}

void objcg_put(struct memcg_tree *t, struct objcg_id o)
{
	struct objcg *c = objcg_of(t, o);
	u32 memcg;

	if (segment_lock(t))
		return; /* kept until the member leaves */
	segment_change_begin(t);
	quire_assert(atomic32_peek(&c->refs) > 0);
	memcg = memcg_online_of(t, atomic32_peek(&c->memcg));
	atomic32_store(&c->refs, atomic32_peek(&c->refs) - 1);
	/* It may be far down the list of a group that inherits many. */
	if (atomic32_peek(&c->refs) == 0 && nothing_charged(c))
		objcg_free(t, atomic32_peek(&t->handle[o.v]));
	reap(t, memcg);
	segment_change_end(t);
	segment_unlock(t);
}

/* ---- removal of a group, end of a member ------------------------------------------- */

/*
 * Has the owner of a handle lists of its own, to be spliced in memcg_release()?  Until
 * then it pays to the parent and keeps its pages where they are.
 */
static bool has_lists(const struct memcg_tree *t, u32 member)
{
	return member < NR_MEMBERS && member != t->self &&
	       !atomic32_peek(&seg_member(t, member)->quiet) && !MUTANT(flip_moves_all_lists);
}

bool objcg_flip_all(struct memcg_tree *t, u32 from, u32 to)
{
	struct group *g = group_at(t, from);
	bool others = false;
	struct objcg *c;
	u32 i;

	for (u32 n = 0; n < NR_OBJCGS_MAX; n++) {
		i = atomic32_peek(&g->objcg_first);
		c = objcg_at(t, i);
		if (!c)
			break;
		others |= has_lists(t, atomic32_peek(&c->member));
		objcg_unlink(t, c);
		/* The flip is the store of one word in here. */
		if (!objcg_link(t, i, to)) {
			segment_free(t, SEG_OBJCGS, i);
			continue;
		}
		if (!has_lists(t, atomic32_peek(&c->member)) && atomic32_peek(&c->lists) == from)
			atomic32_store(&c->lists, to);
	}
	return others;
}

void objcg_splice(struct memcg_tree *t, u32 from, u32 to)
{
	u32 i = atomic32_peek(&group_at(t, to)->objcg_first);
	struct objcg *c;

	for (u32 n = 0; n < NR_OBJCGS_MAX && (c = objcg_at(t, i)); n++) {
		if (atomic32_peek(&c->member) == t->self && atomic32_peek(&c->lists) == from)
			atomic32_store(&c->lists, to);
		i = atomic32_peek(&c->next);
	}
}

/* What of a total is on the counters; nothing of a child that never ran. */
static void take_back_total(struct memcg_tree *t, u32 memcg, enum page_counter_kind k,
			    struct atomic64 *total, struct atomic64 *late, bool counted)
{
	u64 nr = atomic64_xchg(total, 0), nr_late = atomic64_xchg(late, 0);

	if (!counted)
		return;
	if (nr >= nr_late)
		page_counter_uncharge(t, memcg, k, nr - nr_late, 0);
	else
		(void)page_counter_charge(t, memcg, k, nr_late - nr, 0);
}

/* Give back what a member has left charged; its gauges are no longer true. */
static void take_back(struct memcg_tree *t, struct objcg *c)
{
	u32 memcg = atomic32_peek(&c->memcg);
	bool counted = !member_is_forking(t, atomic32_peek(&c->member));

	take_back_total(t, memcg, COUNTER_MEMORY, &c->memory, &c->late_memory, counted);
	take_back_total(t, memcg, COUNTER_SWAP, &c->swap, &c->late_swap, counted);
	take_back_total(t, memcg, COUNTER_ZSWAP, &c->zswap_bytes, &c->late_zswap, counted);
	for (u32 n = 0; n < MEMCG_NR_STATS; n++)
		if (memcg_stat_is_gauge(n))
			stat_set(&c->stat[n], 0);
	atomic32_store(&c->refs, 0);
}

void objcg_retire_member(struct memcg_tree *t, u32 member)
{
	u32 high = seg_high(t, SEG_OBJCGS, NR_OBJCGS_MAX);

	for (u32 i = 1; i < high; i++) {
		struct objcg *c = objcg_at(t, i);

		if (!c || atomic32_peek(&c->state) != OBJCG_LIVE ||
		    atomic32_peek(&c->member) != member)
			continue;
		take_back(t, c);
		objcg_free(t, i);
	}
}
