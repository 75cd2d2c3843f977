/* SPDX-License-Identifier: Apache-2.0 */
/*
 * advise.c - what madvise, mlock and leaving management become for managed memory.
 *
 * Owns the walk over a range that is managed in parts: each part gets what it
 * needs, what lies between gets the kernel's own call, in the order of addresses,
 * so that a call that stops at an error has done what the kernel's would have done.
 * Threads and locks as in aspace.c.
 *
 * mlock(2) does not nest: it is a flag of the region, which reclaim obeys.  What may
 * be locked is bounded as by RLIMIT_MEMLOCK, by address space and not by what is
 * touched: a program hears of a limit from the call, not from the OOM policy later.
 * Pins of the API nest and are counted in the ptes.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "engine/internal.h"

#include "base/os.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* A call on a range, part by part. */
struct walk {
	struct engine *e;
	u64 start, end;
	bool gaps; /* the kernel hears of what is not managed */
	/* Of a managed part, all of one region. */
	s64 (*part)(struct walk *w, const struct region *r, u64 start, u64 end);
	s64 (*gap)(struct walk *w, u64 start, u64 end);
	int arg;
};

/* -ENOMEM of a gap is a hole: the kernel goes on behind it, and says so at the end. */
static s64 walk_range(struct walk *w)
{
	s64 hole = 0;

	for (u64 at = w->start; at < w->end;) {
		struct region r;
		bool any = region_next(&w->e->mm.regions, at, &r) && r.start < w->end;
		u64 to;
		s64 err;

		if (any && r.start <= at) {
			to = min_of(r.end, w->end);
			err = w->part(w, &r, at, to);
		} else {
			to = any ? r.start : w->end;
			err = w->gaps ? w->gap(w, at, to) : 0;
			if (err == -ENOMEM) {
				hole = err;
				err = 0;
			}
		}
		if (err)
			return err;
		at = to;
	}
	return hole;
}

/* ---- madvise ---------------------------------------------------------------------- */

static s64 advise_gap(struct walk *w, u64 start, u64 end)
{
	return os_madvise((void *)start, end - start, w->arg);
}

static s64 set_flags(struct engine *e, u64 start, u64 end, u16 set, u16 clear)
{
	return region_set_flags(&e->mm.regions, start, end, set, clear) ? -ENOMEM : 0;
}

static s64 discard_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	struct engine *e = w->e;
	s64 err;

	if ((r->flags & REGION_LOCKED) && w->arg != MADV_DONTNEED_LOCKED)
		return -EINVAL;
	if (w->arg == MADV_GUARD_INSTALL) {
		err = set_flags(e, start, end, REGION_GUARDED, 0);
		if (err)
			return err;
	}
	/* Memory that may vanish at any time cannot be told from memory that is out. */
	err = os_madvise((void *)start, end - start, w->arg == MADV_FREE ? MADV_DONTNEED : w->arg);
	if (!err && aspace_running(e))
		zap_forget(&e->fault, &e->request_task, start, end, true);
	return err;
}

/* As far as the limit allows: a hint does not fail for want of room. */
static s64 will_need(struct engine *e, u64 start, u64 end)
{
	s64 err;

	if (!aspace_running(e))
		return 0;
	err = populate_range(&e->fault, &e->request_task, start, end, false);
	return err == -ENOMEM ? 0 : err;
}

static s64 advise_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	struct engine *e = w->e;

	switch (w->arg) {
	case MADV_WILLNEED:
		return will_need(e, start, end);
	case MADV_COLD:
	case MADV_PAGEOUT:
		if (r->flags & REGION_LOCKED)
			return -EINVAL;
		if (aspace_running(e))
			populate_cool(&e->fault, &e->request_task, start, end,
				      w->arg == MADV_PAGEOUT);
		return 0;
	case MADV_SEQUENTIAL:
		return set_flags(e, start, end, REGION_SEQUENTIAL, REGION_RANDOM);
	case MADV_RANDOM:
		return set_flags(e, start, end, REGION_RANDOM, REGION_SEQUENTIAL);
	case MADV_NORMAL:
		return set_flags(e, start, end, 0, REGION_RANDOM | REGION_SEQUENTIAL);
	case MADV_DONTFORK:
		/* It is DONTFORK already; remember whose wish it is. */
		return set_flags(e, start, end, REGION_USER_DONTFORK, 0);
	case MADV_DOFORK:
		return set_flags(e, start, end, 0, REGION_USER_DONTFORK);
	default:
		/* Managed memory is paged by 4 KiB, and KSM would refuse moves: huge
		 * pages and merging are heard and not done. */
		return 0;
	}
}

s64 aspace_advise(struct engine *e, u64 addr, u64 len, int advice)
{
	struct walk w = { .e = e,
			  .start = addr,
			  .end = addr + len,
			  .gaps = !(advice & ENGINE_MANAGED_ONLY),
			  .part = advise_part,
			  .gap = advise_gap,
			  .arg = advice & ~ENGINE_MANAGED_ONLY };
	s64 err;

	switch (w.arg) {
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_DONTNEED_LOCKED:
	case MADV_GUARD_INSTALL:
		w.part = discard_part;
		aspace_zap_begin(e, addr, addr + len);
		err = walk_range(&w);
		aspace_zap_finish(e, addr, addr + len);
		return err;
	default:
		return walk_range(&w);
	}
}

/* ---- mlock ---------------------------------------------------------------------------- */

void aspace_tell_locked(struct engine *e)
{
	u64 now, told;

	mutex_lock(&e->home_lock);
	now = atomic64_peek(&e->mm.regions.locked) >> PAGE_SHIFT;
	told = atomic64_xchg(&e->told_locked, now);
	memcg_stat_add(e->tree, e->home_objcg, MEMCG_STAT_MLOCKED, (s64)(now - told));
	mutex_unlock(&e->home_lock);
}

/* Pages of group id that cannot leave, this process's locked memory told or not. */
static u64 unpageable(struct engine *e, struct memcg_id id)
{
	return memcg_stat_read(e->tree, id, MEMCG_STAT_MLOCKED) +
	       memcg_stat_read(e->tree, id, MEMCG_STAT_UNMANAGED) +
	       memcg_stat_read(e->tree, id, MEMCG_STAT_KERNEL);
}

bool aspace_may_lock(struct engine *e, u64 more)
{
	aspace_tell_locked(e);
	for (struct memcg_id id = engine_home(e); id.v; id = memcg_parent(e->tree, id)) {
		u64 limit = memcg_limit(e->tree, id, COUNTER_MEMORY);

		if (limit == PAGE_COUNTER_MAX)
			continue;
		if ((unpageable(e, id) << PAGE_SHIFT) + more <= engine_most_of(limit << PAGE_SHIFT))
			continue;
		memcg_stat_add(e->tree, e->home_objcg, MEMCG_STAT_MLOCK_REFUSED, 1);
		return false;
	}
	return true;
}

static u64 unlocked_bytes(struct engine *e, u64 start, u64 end)
{
	u64 bytes = 0;
	struct region r;

	for (u64 at = start; region_next(&e->mm.regions, at, &r) && r.start < end; at = r.end)
		if (!(r.flags & REGION_LOCKED))
			bytes += min_of(r.end, end) - max_of(r.start, start);
	return bytes;
}

static s64 lock_gap(struct walk *w, u64 start, u64 end)
{
	/* A hole ends the kernel's walk, so it ends ours. */
	s64 err = w->arg ? os_syscall(SYS_mlock2, start, end - start, w->arg) :
			   os_syscall(SYS_mlock, start, end - start, 0);

	return err == -ENOMEM ? -EAGAIN : err;
}

static s64 lock_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	struct engine *e = w->e;
	s64 err;

	if (r->flags & REGION_LOCKED)
		return 0;
	err = set_flags(e, start, end, REGION_LOCKED, 0);
	if (err || w->arg || !aspace_running(e))
		return err;
	/* Whoever looked at the region before it was locked is done with its pages. */
	gate_close(&e->reclaim_gate);
	gate_open(&e->reclaim_gate);
	err = populate_range(&e->fault, &e->request_task, start, end, false);
	if (err && set_flags(e, start, end, 0, REGION_LOCKED))
		engine_fatal(e, "quire: mlock: no room to undo it\n");
	return err;
}

s64 aspace_lock(struct engine *e, u64 addr, u64 len, int flags)
{
	struct walk w = { .e = e,
			  .start = addr,
			  .end = addr + len,
			  .gaps = !(flags & ENGINE_MANAGED_ONLY),
			  .part = lock_part,
			  .gap = lock_gap,
			  .arg = flags & ~ENGINE_MANAGED_ONLY };
	u64 more = unlocked_bytes(e, addr, addr + len);
	s64 err;

	if (more && !aspace_may_lock(e, more))
		return -ENOMEM;
	err = walk_range(&w);
	aspace_tell_locked(e);
	return err == -EAGAIN ? -ENOMEM : err;
}

static s64 unlock_gap(struct walk *w, u64 start, u64 end)
{
	s64 err = os_syscall(SYS_munlock, start, end - start, 0);

	(void)w;
	return err == -ENOMEM ? -EAGAIN : err;
}

static s64 unlock_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	struct engine *e = w->e;
	s64 err;

	if (!(r->flags & REGION_LOCKED))
		return 0;
	err = set_flags(e, start, end, 0, REGION_LOCKED);
	/* Reclaim had put its pages aside. */
	if (!err && aspace_running(e))
		populate_cool(&e->fault, &e->request_task, start, end, false);
	return err;
}

s64 aspace_unlock(struct engine *e, u64 addr, u64 len, int flags)
{
	struct walk w = { .e = e,
			  .start = addr,
			  .end = addr + len,
			  .gaps = !(flags & ENGINE_MANAGED_ONLY),
			  .part = unlock_part,
			  .gap = unlock_gap };
	s64 err = walk_range(&w);

	aspace_tell_locked(e);
	return err == -EAGAIN ? -ENOMEM : err;
}

/* ---- pins of the API, leaving management -------------------------------------------------- */

s64 aspace_pin(struct engine *e, u64 addr, u64 len, bool pin)
{
	/* Passive: engine_pin() has seen to it that only an unpin comes here. */
	if (!aspace_running(e))
		return 0;
	if (pin)
		return populate_range(&e->fault, &e->request_task, addr, addr + len, true);
	populate_unpin(&e->fault, addr, addr + len);
	return 0;
}

static s64 unregister_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	struct pager *p = &w->e->mm.pager;

	return p->ops->remove_range(p, r->queue, start, end - start);
}

static s64 register_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	struct pager *p = &w->e->mm.pager;

	return p->ops->add_range(p, r->queue, start, end - start);
}

/* What the kernel may copy to a child again, unless the program said otherwise. */
static s64 let_fork_part(struct walk *w, const struct region *r, u64 start, u64 end)
{
	(void)w;
	if (!(r->flags & REGION_USER_DONTFORK))
		os_madvise((void *)start, end - start, MADV_DOFORK);
	return 0;
}

/* Everything is in and cannot leave: the ptes, the registration and the region go. */
static s64 release_zapped(struct engine *e, struct walk *w)
{
	s64 err = 0;

	w->part = unregister_part;
	if (aspace_running(e))
		err = walk_range(w);
	if (err) {
		/* Registered in part is worse than either. */
		w->part = register_part;
		if (walk_range(w))
			engine_fatal(e, "quire: a range can be neither managed nor released\n");
		return err;
	}
	w->part = let_fork_part;
	err = walk_range(w);
	if (aspace_running(e))
		zap_forget(&e->fault, &e->request_task, w->start, w->end, false);
	if (region_cut(&e->mm.regions, w->start, w->end))
		engine_fatal(e, "quire: no room to forget a range\n");
	return err;
}

s64 aspace_release(struct engine *e, u64 addr, u64 len)
{
	struct walk w = { .e = e, .start = addr, .end = addr + len };
	s64 err = aspace_room(e, 2);

	if (!err && aspace_running(e))
		err = populate_range(&e->fault, &e->request_task, addr, addr + len, true);
	if (err)
		return err;
	aspace_zap_begin(e, addr, addr + len);
	err = release_zapped(e, &w);
	aspace_zap_finish(e, addr, addr + len);
	if (err && aspace_running(e))
		populate_unpin(&e->fault, addr, addr + len);
	return err;
}

/* ---- the front door ------------------------------------------------------------------------ */

int engine_madvise(struct engine *e, void *addr, size_t len, int advice)
{
	return aspace_range_call(e, REQ_ADVISE, addr, len, (u64)advice);
}

int engine_discard(struct engine *e, void *addr, size_t len)
{
	return engine_madvise(e, addr, len, MADV_DONTNEED | ENGINE_MANAGED_ONLY);
}

int engine_release(struct engine *e, void *addr, size_t len)
{
	return aspace_range_call(e, REQ_RELEASE, addr, len, 0);
}

int engine_set_dontfork(struct engine *e, void *addr, size_t len, bool dontfork)
{
	return engine_madvise(e, addr, len,
			      (dontfork ? MADV_DONTFORK : MADV_DOFORK) | ENGINE_MANAGED_ONLY);
}

int engine_lock(struct engine *e, void *addr, size_t len, int flags)
{
	return aspace_range_call(e, REQ_LOCK, addr, len, (u64)flags);
}

int engine_unlock(struct engine *e, void *addr, size_t len, int flags)
{
	return aspace_range_call(e, REQ_UNLOCK, addr, len, (u64)flags);
}

/* Pins are counted in ptes, which exist once the engine runs. */
int engine_pin(struct engine *e, void *addr, size_t len)
{
	int err = engine_start(e);

	return err ? err : aspace_range_call(e, REQ_PIN, addr, len, 0);
}

int engine_unpin(struct engine *e, void *addr, size_t len)
{
	return aspace_range_call(e, REQ_UNPIN, addr, len, 0);
}
