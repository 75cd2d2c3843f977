/* SPDX-License-Identifier: Apache-2.0 */
/*
 * assign.c - a range, or all that a process has, becomes another group's.
 *
 * Owns the order: who pays for new pages of the range changes first (the region);
 * then everybody who has read the old region is waited for, at the fault gate; only
 * then what is there already is moved (fault/assign.c).  The other way round a fault
 * that is late would leave a page of the old group in a region of the new one.
 * When the target is full the rest goes back in the same order.
 * Entry points: engine_assign(), engine_assign_all(); assign_* on the request
 * thread, or passive.
 */
#include <errno.h>

#include "engine/internal.h"

#include "base/mutant.h"
#include "memcg/move.h"

/* Part of one region: for new pages `to` pays, and nobody thinks otherwise. */
static void set_payer(struct engine *e, u64 start, u64 end, struct objcg_id to)
{
	/* Room for both ends was made. */
	if (region_set_objcg(&e->mm.regions, start, end, to))
		engine_fatal(e, "quire: no room to assign a range\n");
	if (!aspace_running(e) || MUTANT(assign_does_not_wait))
		return;
	gate_close(&e->fault_gate);
	gate_open(&e->fault_gate);
}

static s64 assign_part(struct engine *e, u64 start, u64 end, struct objcg_id from,
		       struct objcg_id to, u64 *ret_done)
{
	struct task *t = &e->request_task;
	u64 back;
	s64 err;

	*ret_done = end;
	set_payer(e, start, end, to);
	if (!aspace_running(e))
		return 0;
	err = assign_range(&e->fault, t, start, end, to, false, ret_done);
	if (!err)
		return 0;
	/* It was `from` that had it, so `from` has room for it. */
	set_payer(e, *ret_done, end, from);
	(void)!assign_range(&e->fault, t, *ret_done, end, from, true, &back);
	return err;
}

/* All of it managed? */
static bool covered(struct engine *e, u64 at, u64 end)
{
	struct region r;

	while (at < end && region_find(&e->mm.regions, at, &r))
		at = r.end;
	return at >= end;
}

s64 assign_region(struct engine *e, struct memcg_id id, u64 addr, u64 len, u64 *ret_moved)
{
	u64 at = addr, end = addr + len, done = addr;
	struct objcg_id to;
	struct region r;
	s64 err = aspace_room(e, 2);

	*ret_moved = 0;
	if (err)
		return err;
	if (!memcg_online(e->tree, id))
		return -ENODEV;
	if (!covered(e, addr, end))
		return -ENOENT;
	err = lru_objcg(&e->lru, id, &to);
	for (; !err && at < end && region_find(&e->mm.regions, at, &r); at = done) {
		done = min_of(r.end, end);
		if (r.objcg.v != to.v)
			err = assign_part(e, at, done, r.objcg, to, &done);
	}
	*ret_moved = done - addr;
	return err;
}

/* What this process holds outside pages, and its place in the tree. */
static s64 move_home(struct engine *e, struct memcg_id id)
{
	static const enum memcg_stat overhead[] = { MEMCG_STAT_KERNEL, MEMCG_STAT_UNMANAGED,
						    MEMCG_STAT_PAGETABLES };
	struct objcg_id old = e->home_objcg, o;
	s64 err = objcg_get(e->tree, id, &o), locked;

	if (!err)
		err = member_set_home(e->tree, id);
	if (err)
		return err == -ENOENT ? -ENODEV : err;
	/* The ticker sets them once in a while. */
	mutex_lock(&e->home_lock);
	memcg_set_shared(e->tree, old, 0);
	for (u32 i = 0; i < ARRAY_SIZE(overhead); i++) {
		u64 pages = memcg_overhead(e->tree, old, overhead[i]);

		memcg_set_overhead(e->tree, o, overhead[i], pages);
		memcg_set_overhead(e->tree, old, overhead[i], 0);
	}
	locked = (s64)atomic64_peek(&e->told_locked);
	memcg_stat_add(e->tree, old, MEMCG_STAT_MLOCKED, -locked);
	memcg_stat_add(e->tree, o, MEMCG_STAT_MLOCKED, locked);
	e->home_objcg = o;
	atomic32_store(&e->home, id.v);
	mutex_unlock(&e->home_lock);
	return 0;
}

s64 assign_all(struct engine *e, struct memcg_id id, u64 *ret_moved)
{
	struct memcg_id home = engine_home(e);
	struct region r;
	u64 moved, at = 0;
	s64 err = 0;

	*ret_moved = 0;
	if (!memcg_online(e->tree, id))
		return -ENODEV;
	if (id.v == home.v)
		return 0;
	while (!err && region_next(&e->mm.regions, at, &r)) {
		at = r.end;
		if (objcg_memcg(e->tree, r.objcg).v != home.v)
			continue;
		err = assign_region(e, id, r.start, r.end - r.start, &moved);
		*ret_moved += moved;
	}
	return err ? err : move_home(e, id);
}

/* ---- the front door ------------------------------------------------------------------ */

static int call(struct engine *e, u32 op, const u64 *arg, u64 *ret_moved)
{
	struct request local = { .op = op, .arg = { arg[0], arg[1], arg[2] } };

	if (!engine_passive_begin(e))
		return (int)request_call(e, op, arg, 3, ret_moved);
	request_serve(e, &local);
	engine_passive_leave(e);
	*ret_moved = local.value;
	/* The new limit may be one that needs us. */
	return local.result ? (int)local.result : engine_start_if_needed(e);
}

int engine_assign(struct engine *e, struct memcg_id id, void *addr, size_t len, u64 *ret_moved)
{
	u64 arg[] = { id.v, (u64)addr, align_up(len, PAGE_SIZE) };

	*ret_moved = 0;
	if (arg[1] & ~PAGE_MASK || !len || arg[2] > 1ull << 47 || arg[1] > (1ull << 47) - arg[2])
		return -EINVAL;
	return call(e, REQ_ASSIGN, arg, ret_moved);
}

int engine_assign_all(struct engine *e, struct memcg_id id, u64 *ret_moved)
{
	u64 arg[] = { id.v, 0, 0 };

	return call(e, REQ_ASSIGN_ALL, arg, ret_moved);
}
