/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offline.c - the end of a group: who inherits, what is dropped, when its id is
 * used again.
 *
 * Owns: the engine's part of a removal.  Taking a group out of the tree waits for
 * nothing: its charge handles are flipped to the parent and its lists spliced, under
 * the locks of both (K1).  What takes longer comes later, when the request thread has
 * nothing else to do:
 *  - other processes' removals: our charges are the parent's already, our lists are
 *    spliced when we notice, within a tick;
 *  - release: the id is used again once nobody can have it in hand, which is when
 *    both gates were empty once (L4); one pass for all groups removed meanwhile;
 *  - handles: let go when nothing was charged to them before such a pass, so that
 *    nobody has a page in hand that names one;
 *  - the memory of ENGINE_REMOVE_DISCARD: a range is forgotten at once and given
 *    back a slice at a time.  Until then its charges are the parent's.
 * Does not own: the tree (memcg/), heaps that lie in the ranges (api/heap.c).
 * Entry points: offline_group(), offline_release(), offline_discard_step(), offline_finish().
 * Request thread only, or passive.
 * Lock ranks: LRUVEC and ZSWAP_LRU of both groups; the gates.
 */
#include <errno.h>
#include <sys/mman.h>

#include "engine/internal.h"

#include "base/mutant.h"
#include "base/os.h"

/* Given back at a time: some 100 us, others' requests wait for no more. */
#define DISCARD_SLICE (2 * MIB)

/* ---- lists and handles ----------------------------------------------------------- */

void offline_reparent(void *ctx, struct memcg_id child, struct memcg_id parent,
		      void (*flip)(void *arg), void *arg)
{
	struct engine *e = ctx;
	struct lruvec *c = lruvec_of(&e->lru, child), *p = lruvec_of(&e->lru, parent);

	if (MUTANT(flip_outside_locks))
		flip(arg);
	lru_lock_all(&e->lru, child, false);
	lru_lock_all(&e->lru, parent, true);
	mutex_lock(&c->zlru_lock);
	mutex_lock_nested(&p->zlru_lock);
	if (!MUTANT(flip_outside_locks))
		flip(arg);
	lru_reparent_locked(&e->lru, child, parent);
	zswap_reparent_locked(&e->zswap, child, parent);
	mutex_unlock(&p->zlru_lock);
	mutex_unlock(&c->zlru_lock);
	lru_unlock_all(&e->lru, parent);
	lru_unlock_all(&e->lru, child);
}

static bool is_named(struct engine *e, struct objcg_id o)
{
	struct region r;

	for (u64 at = 0; region_next(&e->mm.regions, at, &r); at = r.end)
		if (r.objcg.v == o.v)
			return true;
	return false;
}

/* The engine's handle of a removed group: put when nobody needs it any more. */
static void retire_handle(struct engine *e, struct memcg_id id)
{
	struct objcg_id o = { atomic32_xchg(&lruvec_of(&e->lru, id)->objcg, 0) };

	if (!o.v)
		return;
	/* The heir had none of its own and took this one: two references. */
	if (atomic32_load(&lruvec_of(&e->lru, objcg_memcg(e->tree, o))->objcg) == o.v)
		objcg_put(e->tree, o);
	/* Kept for ever otherwise: 512 bytes, until the process ends. */
	else if (e->nr_retired < NR_RETIRED && !is_named(e, o))
		e->retired[e->nr_retired++] = o;
}

/* Nothing is charged to the first nr: let go of them. */
static void put_handles(struct engine *e, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		objcg_put(e->tree, e->retired[i]);
	for (u32 i = nr; i < e->nr_retired; i++)
		e->retired[i - nr] = e->retired[i];
	e->nr_retired -= nr;
}

/* Those that are empty come to the front; how many.  Nothing names them, so they stay
 * empty; but who took the last page away may still hold its descriptor. */
static u32 find_empty(struct engine *e)
{
	u32 nr = 0;

	for (u32 i = 0; i < e->nr_retired; i++) {
		struct objcg_id o = e->retired[i];

		if (!objcg_empty(e->tree, o))
			continue;
		e->retired[i] = e->retired[nr];
		e->retired[nr++] = o;
	}
	return nr;
}

void offline_release(struct engine *e)
{
	struct memcg_id id = { 0 }, last = { 0 };
	u32 nr_empty;

	while ((id = memcg_next_offline(e->tree, id)).v)
		last = id;
	if (!last.v)
		return;
	nr_empty = find_empty(e);
	/* Whoever read the old binding is inside a gate: once both were empty, the
	 * ids can be used again (L4). */
	if (!MUTANT(release_does_not_wait)) {
		gate_close(&e->reclaim_gate);
		gate_close(&e->fault_gate);
		gate_open(&e->fault_gate);
		gate_open(&e->reclaim_gate);
	}
	put_handles(e, nr_empty);
	while (id.v != last.v && (id = memcg_next_offline(e->tree, id)).v) {
		/* A queued fault is in no gate. */
		if (!MUTANT(waiting_keeps_id))
			fault_reparent_waiting(&e->fault, id, memcg_parent(e->tree, id));
		retire_handle(e, id);
	}
	memcg_release(e->tree, last);
}

/* ---- regions --------------------------------------------------------------------- */

static void mark_regions(struct engine *e, struct memcg_id id, bool on)
{
	struct region_table *t = &e->mm.regions;
	struct region r;
	u16 set = on ? REGION_LEAVING : 0;

	for (u64 at = 0; region_next(t, at, &r); at = r.end)
		if (objcg_memcg(e->tree, r.objcg).v == id.v)
			/* Whole regions: nothing is split, it cannot fail. */
			(void)!region_set_flags(t, r.start, r.end, set, REGION_LEAVING ^ set);
}

static bool has_region(struct engine *e, struct memcg_id id)
{
	struct region r;

	for (u64 at = 0; region_next(&e->mm.regions, at, &r); at = r.end)
		if (objcg_memcg(e->tree, r.objcg).v == id.v)
			return true;
	return false;
}

static bool next_leaving(struct engine *e, u64 at, struct region *ret)
{
	for (; region_next(&e->mm.regions, at, ret); at = ret->end)
		if (ret->flags & REGION_LEAVING)
			return true;
	return false;
}

/* Their memory is the parent's already; what they get from now on goes through its
 * handle, so that the old one can end. */
static void inherit_regions(struct engine *e, struct memcg_id parent)
{
	struct region_table *t = &e->mm.regions;
	struct region r;
	struct objcg_id o;
	bool got = !lru_objcg(&e->lru, parent, &o);

	for (u64 at = 0; next_leaving(e, at, &r); at = r.end) {
		if (got)
			(void)!region_set_objcg(t, r.start, r.end, o);
		(void)!region_set_flags(t, r.start, r.end, 0, REGION_LEAVING);
	}
}

/* Their addresses are nobody's from now on. */
static void doom_regions(struct engine *e)
{
	struct region r;

	while (next_leaving(e, 0, &r)) {
		if (region_cut(&e->mm.regions, r.start, r.end))
			engine_fatal(e, "quire: no room to forget a range\n");
		if (!aspace_running(e)) {
			os_munmap((void *)r.start, r.end - r.start);
			continue;
		}
		if (e->nr_doomed == NR_DOOMED)
			offline_finish(e, 0, UINT64_MAX);
		e->doomed[e->nr_doomed++] = (struct doomed){ r.start, r.end };
	}
}

s64 offline_group(struct engine *e, struct memcg_id id, enum engine_remove how)
{
	struct memcg_id parent;
	int err;

	if (how == ENGINE_REMOVE_EMPTY && has_region(e, id))
		return -EBUSY; /* L7: users, not mere memory */
	if (memcg_nr_unreleased(e->tree) >= NR_UNRELEASED)
		offline_release(e);
	/* Afterwards they cannot be told from the parent's own. */
	mark_regions(e, id, true);
	err = memcg_remove(e->tree, id, &parent);
	if (err) {
		mark_regions(e, id, false);
		return err;
	}
	if (how == ENGINE_REMOVE_DISCARD)
		doom_regions(e);
	else
		inherit_regions(e, parent);
	/* Faults that waited for this group's limit may have room now. */
	kswapd_wake(&e->reclaim);
	return 0;
}

/* ---- giving back ----------------------------------------------------------------- */

static void give_back(struct engine *e, u64 start, u64 end)
{
	aspace_zap_begin(e, start, end);
	/* No room for one mapping more: its pages go, the addresses stay. */
	if (os_munmap((void *)start, end - start))
		os_madvise((void *)start, end - start, MADV_DONTNEED);
	zap_forget(&e->fault, &e->request_task, start, end, false);
	aspace_zap_finish(e, start, end);
}

bool offline_discard_step(struct engine *e)
{
	struct doomed *d;
	u64 end;

	if (!e->nr_doomed)
		return false;
	d = &e->doomed[e->nr_doomed - 1];
	end = min_of(d->end, d->start + DISCARD_SLICE);
	give_back(e, d->start, end);
	d->start = end;
	if (d->start == d->end)
		e->nr_doomed--;
	return true;
}

void offline_finish(struct engine *e, u64 start, u64 end)
{
	u32 left = 0;

	for (u32 i = 0; i < e->nr_doomed; i++) {
		struct doomed d = e->doomed[i];

		if (d.end <= start || d.start >= end)
			e->doomed[left++] = d;
		else
			give_back(e, d.start, d.end);
	}
	e->nr_doomed = left;
}
