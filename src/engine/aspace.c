/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aspace.c - what mmap and munmap become for managed memory.
 *
 * Owns the order of steps between regions, ptes, pager and the system call; mremap
 * is remap.c's, what leaves the mappings as they are (madvise, mlock) advise.c's.
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

void aspace_forget(struct engine *e, u64 start, u64 end)
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
	int err = lru_objcg(&e->lru, id, &r.objcg);

	if (err)
		return err == -ENOSPC ? -ENOMEM : err;
	if (aspace_running(e))
		r.flags |= REGION_REGISTERED;
	err = region_add(&e->mm.regions, &r);
	if (err)
		return err;
	/* Fail closed: a fork that bypasses the wrapper gets no managed memory. */
	os_madvise((void *)start, len, MADV_DONTFORK);
	if (!aspace_running(e))
		return 0;
	err = adopt_range(&e->fault, &e->request_task, &r);
	if (!err)
		return 0;
	/* It may have been adopted in part. */
	aspace_forget(e, start, start + len);
	os_madvise((void *)start, len, MADV_DOFORK);
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
	if (fixed) {
		offline_finish(e, addr, addr + len);
		aspace_zap_begin(e, addr, addr + len);
	}
	/* MAP_POPULATE would fill memory no limit has agreed to. */
	p = os_mmap((void *)addr, len, prot, flags & ~MAP_POPULATE, -1, 0);
	if (p >= 0 && fixed)
		aspace_forget(e, addr, addr + len);
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
	offline_finish(e, addr, addr + len);
	return add_region(e, id, addr, len, next_queue(e));
}

s64 aspace_munmap(struct engine *e, u64 addr, u64 len)
{
	s64 err = aspace_room(e, 2);

	if (err)
		return err;
	offline_finish(e, addr, addr + len);
	aspace_zap_begin(e, addr, addr + len);
	err = os_munmap((void *)addr, len);
	if (!err)
		aspace_forget(e, addr, addr + len);
	aspace_zap_finish(e, addr, addr + len);
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
 * engine_passive_begin() for work that adds `more` bytes: an engine that must run before
 * they may exist is started first, so that one that cannot start has done nothing by
 * halves.  1: passive, lock held; 0: running; else the error.
 */
static int grow_begin(struct engine *e, u64 more)
{
	while (engine_passive_begin(e)) {
		int err;

		if (!engine_must_start(e, more))
			return 1;
		engine_passive_leave(e);
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
		engine_passive_leave(e);
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
	engine_passive_leave(e);
	return (int)err;
}

/* The operations on (addr, len) that differ only in their work. */
int aspace_range_call(struct engine *e, u32 op, void *addr, size_t len, u64 extra)
{
	struct request local = { .op = op, .arg = { (u64)addr, align_up(len, PAGE_SIZE), extra } };

	if (bad_range((u64)addr, local.arg[1]))
		return -EINVAL;
	if (!engine_passive_begin(e))
		return (int)request_call(e, op, local.arg, 3, NULL);
	request_serve(e, &local);
	engine_passive_leave(e);
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
		engine_passive_leave(e);
	} else {
		err = CALL(e, REQ_MREMAP, &at, (u64)old, old_len, new_len, (u64)flags,
			   (u64)new_addr);
	}
	if (!err)
		*ret_addr = (void *)at;
	return (int)err;
}
