/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aspace.c - what mmap, munmap and mremap become for managed memory.
 *
 * Owns the order of steps between regions, ptes, pager and the system call; what
 * leaves the mappings as they are (madvise, mlock) is advise.c's.
 * The work functions (aspace_*) run on the request thread, or, while the engine
 * is passive, on the caller under the PASSIVE lock (no pte exists then).  The
 * front door (engine_*) decides which, and checks arguments.
 *
 * Rules (findings 11):
 *  - Room for the books is made first, then the kernel is asked, then the engine
 *    forgets: a call that fails has changed nothing.  Nobody acts on the range's
 *    ptes meanwhile (fault/zap.c).
 *  - A mapping that is replaced, moved or unmapped loses its registration
 *    silently, so it is registered again or forgotten here.
 *  - Nothing but a request changes a managed range: two changes never overlap.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "engine/internal.h"

#include "base/os.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* End of what a program may map: the kernel's TASK_SIZE. */
#define ADDRESS_MAX ((1ull << 47) - PAGE_SIZE)

bool aspace_running(const struct engine *e)
{
	return atomic32_load(&e->state) == ENGINE_RUNNING;
}

/* Room for `more` ranges; a full table is the kernel's full table of mappings. */
s64 aspace_room(struct engine *e, u32 more)
{
	return region_reserve(&e->mm.regions, more) ? -ENOMEM : 0;
}

/* Queues take turns by mapping, so that one thread's data does not all land on one
 * fault thread where there are several. */
static u16 next_queue(struct engine *e)
{
	u32 nr = e->nr_fault_threads;

	return (u16)(atomic64_fetch_add(&e->map_cursor, 1) % (nr ? nr : 1));
}

void aspace_zap_begin(struct engine *e, u64 start, u64 end)
{
	if (aspace_running(e))
		zap_begin(&e->fault, start, end);
}

void aspace_zap_finish(struct engine *e, u64 start, u64 end)
{
	if (aspace_running(e))
		zap_finish(&e->fault, start, end);
}

/* The kernel has nothing of ours there any more.  aspace_room(2) was asked. */
static void forget(struct engine *e, u64 start, u64 end)
{
	if (aspace_running(e))
		zap_forget(&e->fault, &e->request_task, start, end, false);
	if (region_cut(&e->mm.regions, start, end))
		engine_fatal(e, "quire: no room to forget a range\n");
}

/* Record a mapping that exists; registered too when the engine runs.  aspace_room(1)
 * was asked.  On failure the range is not managed. */
static s64 add_region(struct engine *e, struct memcg_id id, u64 start, u64 len, u16 queue)
{
	struct region r = { .start = start, .end = start + len, .queue = queue };
	int err = objcg_get(e->tree, id, &r.objcg);

	if (err)
		return err == -ENOSPC ? -ENOMEM : err;
	if (aspace_running(e))
		r.flags |= REGION_REGISTERED;
	err = region_add(&e->mm.regions, &r);
	if (err)
		goto put;
	/* Fail closed: a fork that bypasses the wrapper gets no managed memory. */
	os_madvise((void *)start, len, MADV_DONTFORK);
	if (!aspace_running(e))
		return 0;
	err = adopt_range(&e->fault, &e->request_task, &r);
	if (!err)
		return 0;
	/* It may have been adopted in part. */
	forget(e, start, start + len);
	os_madvise((void *)start, len, MADV_DOFORK);
put:
	objcg_put(e->tree, r.objcg);
	return err;
}

s64 aspace_mmap(struct engine *e, struct memcg_id id, u64 addr, u64 len, int prot, int flags,
		u64 *ret_addr)
{
	bool fixed = flags & MAP_FIXED;
	s64 err = aspace_room(e, 3);
	struct region r;
	u16 queue;
	long p;

	if (err)
		return err;
	/* Pieces of one reservation are one mapping to the program (mremap), so they must
	 * be able to be one to the kernel: of one userfaultfd. */
	queue = fixed && region_find(&e->mm.regions, addr, &r) ? r.queue : next_queue(e);
	if (fixed)
		aspace_zap_begin(e, addr, addr + len);
	/* MAP_POPULATE would fill memory no limit has agreed to. */
	p = os_mmap((void *)addr, len, prot, flags & ~MAP_POPULATE, -1, 0);
	if (p >= 0 && fixed)
		forget(e, addr, addr + len);
	if (p >= 0)
		err = add_region(e, id, (u64)p, len, queue);
	if (fixed)
		aspace_zap_finish(e, addr, addr + len);
	if (p < 0)
		return p;
	if (err) {
		os_munmap((void *)p, len);
		return err;
	}
	*ret_addr = (u64)p;
	return 0;
}

s64 aspace_adopt(struct engine *e, struct memcg_id id, u64 addr, u64 len)
{
	s64 err = aspace_room(e, 3);

	if (err)
		return err;
	if (region_overlaps(&e->mm.regions, addr, addr + len))
		return -EEXIST;
	return add_region(e, id, addr, len, next_queue(e));
}

s64 aspace_munmap(struct engine *e, u64 addr, u64 len)
{
	s64 err = aspace_room(e, 2);

	if (err)
		return err;
	aspace_zap_begin(e, addr, addr + len);
	err = os_munmap((void *)addr, len);
	if (!err)
		forget(e, addr, addr + len);
	aspace_zap_finish(e, addr, addr + len);
	return err;
}

/* ---- mremap ------------------------------------------------------------------- */

/* One mremap(2), page aligned. */
struct remap {
	u64 old, old_len, new_len;
	int flags;
	u64 to; /* where it is to go (MREMAP_FIXED), then where it went */
	bool managed; /* what is moved */
	u64 kept; /* pages that go along: the shorter of both, in bytes */
};

/* Of the range [old, old + kept), the parts that are managed: the same at `to`. */
static s64 add_moved(struct engine *e, const struct remap *m)
{
	u64 end = m->old + m->kept, at = m->old;
	struct region r;
	s64 err = 0;

	/* at < end: what was added may have merged with what lies before it. */
	while (!err && at < end && region_next(&e->mm.regions, at, &r) && r.start < end) {
		struct region moved = r;

		at = r.end;
		moved.start = max_of(r.start, m->old) - m->old + m->to;
		moved.end = min_of(r.end, end) - m->old + m->to;
		/* What it grew by is like its last part. */
		if (r.end >= end)
			moved.end = m->to + m->new_len;
		err = region_add(&e->mm.regions, &moved);
		if (!err && aspace_running(e))
			err = e->mm.pager.ops->add_range(&e->mm.pager, moved.queue, moved.start,
							 moved.end - moved.start);
	}
	return err;
}

/* MREMAP_DONTUNMAP leaves an empty mapping, which the kernel has unlocked. */
static s64 keep_old(struct engine *e, const struct remap *m)
{
	struct region_table *t = &e->mm.regions;
	u64 end = m->old + m->old_len;
	s64 err = region_set_flags(t, m->old, end, 0, REGION_LOCKED);
	struct region r;

	for (u64 at = m->old; !err && region_next(t, at, &r) && r.start < end; at = r.end)
		if (aspace_running(e))
			err = e->mm.pager.ops->add_range(
				&e->mm.pager, r.queue, max_of(r.start, m->old),
				min_of(r.end, end) - max_of(r.start, m->old));
	return err;
}

/* The kernel has moved it elsewhere; follow it.  Gates closed. */
static s64 follow_move(struct engine *e, const struct remap *m)
{
	s64 err;

	forget(e, m->to, m->to + m->new_len);
	if (!m->managed)
		return 0;
	err = add_moved(e, m);
	if (!err && aspace_running(e))
		err = zap_move_ptes(&e->fault, m->old, m->to, m->kept);
	if (err)
		return err;
	if (m->flags & MREMAP_DONTUNMAP)
		return keep_old(e, m);
	forget(e, m->old, m->old + m->old_len);
	return 0;
}

/* It stayed where it was, and is shorter or longer. */
static s64 follow_resize(struct engine *e, const struct remap *m)
{
	u64 old_end = m->old + m->old_len;
	struct region r;
	s64 err;

	if (!m->managed || m->new_len == m->old_len)
		return 0;
	if (m->new_len < m->old_len) {
		forget(e, m->old + m->new_len, old_end);
		return 0;
	}
	if (!region_find(&e->mm.regions, old_end - 1, &r))
		return 0;
	r.start = old_end;
	r.end = m->old + m->new_len;
	err = region_add(&e->mm.regions, &r);
	if (!err && aspace_running(e))
		err = e->mm.pager.ops->add_range(&e->mm.pager, r.queue, r.start, r.end - r.start);
	return err;
}

static bool has_hole(u64 start, u64 end)
{
	return os_syscall(SYS_msync, start, end - start, MS_ASYNC) == -ENOMEM;
}

/* A refused mremap(2) may have unmapped its target, or the tail of what it was to
 * shrink, before it found out. */
static void forget_unmapped(struct engine *e, u64 start, u64 end)
{
	struct region r;

	for (u64 at = start; region_next(&e->mm.regions, at, &r) && r.start < end; at = r.end) {
		u64 from = max_of(r.start, start), to = min_of(r.end, end);

		if (has_hole(from, to))
			forget(e, from, to);
	}
}

static void settle_refused(struct engine *e, const struct remap *m)
{
	if (m->flags & MREMAP_FIXED)
		forget_unmapped(e, m->to, m->to + m->new_len);
	if (m->new_len < m->old_len)
		forget_unmapped(e, m->old + m->new_len, m->old + m->old_len);
}

/* Number of managed parts in the source; false: it has others too. */
static bool count_parts(struct engine *e, const struct remap *m, u32 *ret_nr)
{
	u64 at = m->old, end = m->old + m->old_len;
	struct region r;

	*ret_nr = 0;
	while (at < end && region_find(&e->mm.regions, at, &r)) {
		++*ret_nr;
		at = r.end;
	}
	return at >= end;
}

/*
 * A moved mapping loses its userfaultfd.  Where its new place touches another
 * managed mapping the kernel first merges the two and then drops the userfaultfd of
 * the result: the bystander's missing pages would read as zeros.  Mappings of
 * different flags do not merge, and this flag means nothing for anonymous memory
 * (doc/decisions/0004-mremap-merge.md).
 */
static s64 set_apart(const struct remap *m)
{
	s64 err = os_madvise((void *)m->old, m->old_len, MADV_RANDOM);

	/* No room for two mappings more; holes are for mremap to judge. */
	return err == -ENOMEM && !has_hole(m->old, m->old + m->old_len) ? err : 0;
}

/* Both gates closed. */
static s64 remap_locked(struct engine *e, struct remap *m)
{
	s64 err = m->managed ? set_apart(m) : 0;
	u64 wanted = m->to;
	long p = err ? err :
		       os_mremap((void *)m->old, m->old_len, m->new_len, m->flags, (void *)wanted);

	if (p < 0) {
		settle_refused(e, m);
	} else {
		m->to = (u64)p;
		err = m->to == m->old ? follow_resize(e, m) : follow_move(e, m);
		/* The kernel has moved it and we cannot follow: memory would be lost. */
		if (err)
			engine_fatal(e,
				     "quire: mremap: no room for the records of a moved range\n");
		if (m->managed)
			os_madvise((void *)m->to, m->new_len, MADV_NORMAL);
	}
	if (m->managed && (p < 0 || (m->flags & MREMAP_DONTUNMAP)))
		os_madvise((void *)m->old, m->old_len, MADV_NORMAL);
	return p < 0 ? p : 0;
}

static void wake_range(struct engine *e, u64 start, u64 len)
{
	for (u32 q = 0; q < e->mm.pager.nr_queues; q++)
		e->mm.pager.ops->wake(&e->mm.pager, q, start, len);
}

s64 aspace_mremap(struct engine *e, u64 old, u64 old_len, u64 new_len, int flags, u64 new_addr,
		  u64 *ret_addr)
{
	struct remap m = { .old = old,
			   .old_len = old_len,
			   .new_len = new_len,
			   .flags = flags,
			   .to = new_addr,
			   .kept = min_of(old_len, new_len) };
	struct region last;
	bool all;
	u32 nr;
	s64 err;

	m.managed = region_overlaps(&e->mm.regions, old, old + old_len);
	/* Of locked memory more: the kernel's answer where RLIMIT_MEMLOCK is reached. */
	if (new_len > old_len && region_find(&e->mm.regions, old + old_len - 1, &last) &&
	    (last.flags & REGION_LOCKED) && !aspace_may_lock(e, new_len - old_len))
		return -EAGAIN;
	all = count_parts(e, &m, &nr);
	/* Two mappings at least; the kernel would move the first and then find out. */
	if (m.managed && !all)
		return -EFAULT;
	err = aspace_room(e, nr + 6);
	if (err)
		return err;
	if (aspace_running(e)) {
		gate_close(&e->reclaim_gate);
		gate_close(&e->fault_gate);
	}
	err = remap_locked(e, &m);
	if (aspace_running(e)) {
		gate_open(&e->fault_gate);
		gate_open(&e->reclaim_gate);
		wake_range(e, old, old_len);
		if (flags & MREMAP_FIXED)
			wake_range(e, new_addr, new_len);
	}
	if (!err)
		*ret_addr = m.to;
	return err;
}

/* ---- the front door --------------------------------------------------------- */

bool engine_manages(const struct engine *e, const void *addr, size_t len)
{
	return len && region_overlaps(&e->mm.regions, (u64)addr, (u64)addr + len);
}

/* Whole pages inside the address space?  Anything else is the kernel's to refuse. */
static bool bad_range(u64 addr, u64 len)
{
	return (addr & ~PAGE_MASK) || !len || len > ADDRESS_MAX || addr > ADDRESS_MAX - len;
}

/*
 * Passive: run the work here, under the PASSIVE lock.  True when it was done; else
 * the engine runs (by now) and a request is due.
 */
static bool passive_begin(struct engine *e)
{
	if (aspace_running(e))
		return false;
	engine_passive_enter(e);
	if (!aspace_running(e))
		return true;
	engine_passive_leave(e);
	return false;
}

static void passive_end(struct engine *e)
{
	engine_passive_leave(e);
}

/*
 * The same for work that adds `more` bytes: an engine that must run before they may
 * exist is started first, so that one that cannot start has done nothing by halves.
 * 1: passive, lock held; 0: running; else the error.
 */
static int grow_begin(struct engine *e, u64 more)
{
	while (passive_begin(e)) {
		int err;

		if (!engine_must_start(e, more))
			return 1;
		passive_end(e);
		err = engine_start(e);
		/* The kernel's word for it, in a program that never heard of us. */
		if (err)
			return e->flags & ENGINE_LAZY ? -ENOMEM : err;
	}
	return 0;
}

#define CALL(e, op, ret, ...)                                                                      \
	request_call(e, op, (const u64[]){ __VA_ARGS__ },                                          \
		     sizeof((u64[]){ __VA_ARGS__ }) / sizeof(u64), ret)

int engine_mmap(struct engine *e, struct memcg_id id, void *addr, size_t len, int prot, int flags,
		void **ret_addr)
{
	u64 at = 0;
	s64 err;

	if (!len)
		return -EINVAL;
	if (len > ADDRESS_MAX - PAGE_SIZE)
		return -ENOMEM;
	len = align_up(len, PAGE_SIZE);
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if ((u64)addr & ~PAGE_MASK)
			return -EINVAL;
		if (bad_range((u64)addr, len))
			return -ENOMEM;
	}
	err = grow_begin(e, len);
	if (err < 0)
		return (int)err;
	if (err) {
		err = aspace_mmap(e, id, (u64)addr, len, prot, flags, &at);
		passive_end(e);
	} else {
		err = CALL(e, REQ_MMAP, &at, id.v, (u64)addr, len, (u64)prot, (u64)flags);
	}
	if (!err)
		*ret_addr = (void *)at;
	return (int)err;
}

int engine_adopt(struct engine *e, struct memcg_id id, void *addr, size_t len)
{
	s64 err;

	if (bad_range((u64)addr, len) || (len & ~PAGE_MASK))
		return -EINVAL;
	err = grow_begin(e, len);
	if (err < 0)
		return (int)err;
	if (!err)
		return (int)CALL(e, REQ_ADOPT, NULL, id.v, (u64)addr, len);
	err = aspace_adopt(e, id, (u64)addr, len);
	passive_end(e);
	return (int)err;
}

/* The operations on (addr, len) that differ only in their work. */
int aspace_range_call(struct engine *e, u32 op, void *addr, size_t len, u64 extra)
{
	struct request local = { .op = op, .arg = { (u64)addr, align_up(len, PAGE_SIZE), extra } };

	if (bad_range((u64)addr, local.arg[1]))
		return -EINVAL;
	if (!passive_begin(e))
		return (int)request_call(e, op, local.arg, 3, NULL);
	request_serve(e, &local);
	passive_end(e);
	return (int)local.result;
}

int engine_munmap(struct engine *e, void *addr, size_t len)
{
	return aspace_range_call(e, REQ_MUNMAP, addr, len, 0);
}

/* As the kernel judges the arguments, before it looks at any mapping. */
static bool bad_remap(u64 old, u64 old_len, u64 new_len, int flags, u64 to)
{
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) ||
	    ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE)))
		return true;
	if (bad_range(old, old_len) || !new_len || new_len > ADDRESS_MAX)
		return true;
	if ((flags & MREMAP_DONTUNMAP) && old_len != new_len)
		return true;
	return (flags & MREMAP_FIXED) &&
	       (bad_range(to, new_len) || (old + old_len > to && to + new_len > old));
}

int engine_mremap(struct engine *e, void *old, size_t old_len, size_t new_len, int flags,
		  void *new_addr, void **ret_addr)
{
	u64 at = 0;
	s64 err;

	old_len = align_up(old_len, PAGE_SIZE);
	new_len = align_up(new_len, PAGE_SIZE);
	if (bad_remap((u64)old, old_len, new_len, flags, (u64)new_addr))
		return -EINVAL;
	err = grow_begin(e, new_len > old_len ? new_len - old_len : 0);
	if (err < 0)
		return (int)err;
	if (err) {
		err = aspace_mremap(e, (u64)old, old_len, new_len, flags, (u64)new_addr, &at);
		passive_end(e);
	} else {
		err = CALL(e, REQ_MREMAP, &at, (u64)old, old_len, new_len, (u64)flags,
			   (u64)new_addr);
	}
	if (!err)
		*ret_addr = (void *)at;
	return (int)err;
}
