/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remap.c - what mremap becomes for managed memory.
 *
 * Owns the order of steps of a move: room for the books, gates closed, the kernel,
 * regions, registration, ptes.  Threads, locks and rules as in aspace.c; the front
 * door is there, too.  doc/decisions/0004-mremap-merge.md says what the kernel does to
 * neighbours.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "engine/internal.h"

#include "base/os.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

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

	aspace_forget(e, m->to, m->to + m->new_len);
	if (!m->managed)
		return 0;
	err = add_moved(e, m);
	if (!err && aspace_running(e))
		err = zap_move_ptes(&e->fault, m->old, m->to, m->kept);
	if (err)
		return err;
	if (m->flags & MREMAP_DONTUNMAP)
		return keep_old(e, m);
	aspace_forget(e, m->old, m->old + m->old_len);
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
		aspace_forget(e, m->old + m->new_len, old_end);
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
			aspace_forget(e, from, to);
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

/* ---- moves of several mappings -------------------------------------------------- */

/*
 * A move that changes no length may cover several mappings (Linux 6.17): each is moved
 * by itself and holes stay holes, whose targets are left alone.  Does this kernel?
 */
static bool kernel_moves_several(void)
{
	void *mem;
	char *p;
	long at = -EFAULT;

	if (os_mmap_anon(4 * PAGE_SIZE, PROT_READ | PROT_WRITE, false, &mem))
		return false;
	p = mem;
	if (!os_mprotect(p, PAGE_SIZE, PROT_READ))
		at = os_mremap(p, 2 * PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			       p + 2 * PAGE_SIZE);
	os_munmap(mem, 4 * PAGE_SIZE);
	return at >= 0;
}

/* One mapping, or what of it belongs to the whole. */
static s64 move_one(struct engine *e, const struct remap *whole, u64 start, u64 end)
{
	struct remap m = { .old = start,
			   .old_len = end - start,
			   .new_len = end - start,
			   .flags = whole->flags,
			   .to = whole->to + (start - whole->old),
			   .kept = end - start };
	s64 err;
	u32 nr;

	m.managed = region_overlaps(&e->mm.regions, start, end);
	count_parts(e, &m, &nr);
	err = aspace_room(e, nr + 6);
	return err ? err : remap_locked(e, &m);
}

/* Up to the first that cannot be moved, as the kernel does.  Gates closed. */
static s64 move_each(struct engine *e, const struct remap *whole, int maps)
{
	u64 end = whole->old + whole->old_len;
	struct os_mapping vma;
	s64 err = 0;

	for (u64 at = whole->old; !err && at < end; at = vma.end) {
		if (os_next_mapping(maps, at, &vma) || vma.start >= end)
			break;
		if (at == whole->old && vma.start > at)
			return -EFAULT;
		err = move_one(e, whole, max_of(vma.start, at), min_of(vma.end, end));
	}
	return err;
}

/* The kernel itself refuses several mappings with a userfaultfd in one call. */
static s64 move_several(struct engine *e, const struct remap *m)
{
	int maps;
	s64 err;

	if (!(m->flags & MREMAP_FIXED) || m->new_len != m->old_len || !kernel_moves_several())
		return -EFAULT;
	maps = os_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (maps < 0)
		return -EFAULT;
	err = move_each(e, m, maps);
	os_close(maps);
	return err;
}

static s64 remap_gated(struct engine *e, struct remap *m)
{
	u32 nr;
	bool all = count_parts(e, m, &nr);
	s64 err;

	/* Two mappings at least; the kernel could move the first and then refuse. */
	if (m->managed && !all)
		return move_several(e, m);
	err = aspace_room(e, nr + 6);
	if (!err)
		err = remap_locked(e, m);
	return err == -EFAULT && m->managed ? move_several(e, m) : err;
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
	s64 err;

	m.managed = region_overlaps(&e->mm.regions, old, old + old_len);
	/* Of locked memory more: the kernel's answer where RLIMIT_MEMLOCK is reached. */
	if (new_len > old_len && region_find(&e->mm.regions, old + old_len - 1, &last) &&
	    (last.flags & REGION_LOCKED) && !aspace_may_lock(e, new_len - old_len))
		return -EAGAIN;
	offline_finish(e, old, old + old_len);
	if (flags & MREMAP_FIXED)
		offline_finish(e, new_addr, new_addr + new_len);
	if (aspace_running(e)) {
		gate_close(&e->reclaim_gate);
		gate_close(&e->fault_gate);
	}
	err = remap_gated(e, &m);
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
