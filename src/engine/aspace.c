/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aspace.c - what mmap, munmap, mremap and madvise become for managed memory.
 *
 * Owns the order of steps between regions, ptes, pager and the system call.
 * The work functions (aspace_*) run on the request thread, or, while the engine
 * is passive, on the caller under the PASSIVE lock (no pte exists then).  The
 * front door (engine_*) decides which, and checks arguments.
 *
 * Rules (findings 11): the engine forgets a range before the kernel does;
 * faults in the range wait meanwhile (zap_begin/zap_finish); a mapping that is
 * replaced, moved or unmapped loses its registration silently, so it is
 * registered again or forgotten here.
 */
#include <errno.h>
#include <sys/mman.h>

#include "engine/internal.h"

#include "base/os.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static bool running(const struct engine *e)
{
	return atomic32_load(&e->state) == ENGINE_RUNNING;
}

/* Queues take turns by 64 MiB of mapping, so that one thread's data does not all
 * land on one fault thread where there are several. */
static u16 next_queue(struct engine *e)
{
	u32 nr = e->nr_fault_threads;

	return (u16)(atomic64_fetch_add(&e->map_cursor, 1) % (nr ? nr : 1));
}

static void zap_start(struct engine *e, u64 start, u64 end)
{
	if (running(e))
		zap_begin(&e->fault, &e->request_task, start, end);
}

static void zap_end(struct engine *e, u64 start, u64 end)
{
	if (running(e))
		zap_finish(&e->fault, start, end);
}

/* Record a mapping that exists; registered too when the engine runs. */
static s64 add_region(struct engine *e, struct memcg_id id, u64 start, u64 len, u16 flags)
{
	struct region r = { .start = start, .end = start + len, .flags = flags };
	int err = objcg_get(e->tree, id, &r.objcg);

	if (err)
		return err;
	r.queue = next_queue(e);
	if (running(e))
		r.flags |= REGION_REGISTERED;
	err = region_add(&e->mm.regions, &r);
	if (err)
		return err;
	/* Fail closed: a fork that bypasses the wrapper gets no managed memory. */
	os_madvise((void *)start, len, MADV_DONTFORK);
	if (!running(e))
		return 0;
	err = adopt_range(&e->fault, &e->request_task, &r);
	/* It was added whole, so that cutting it needs no room. */
	if (err && region_cut(&e->mm.regions, start, start + len))
		engine_fatal(e, "quire: a range that cannot be managed cannot be forgotten\n");
	return err;
}

s64 aspace_mmap(struct engine *e, struct memcg_id id, u64 addr, u64 len, int prot, int flags,
		u64 *ret_addr)
{
	bool replaces = (flags & MAP_FIXED) && region_overlaps(&e->mm.regions, addr, addr + len);
	s64 err = 0;
	long p;

	if (replaces)
		zap_start(e, addr, addr + len);
	/* MAP_POPULATE would fill memory no limit has agreed to. */
	p = os_mmap((void *)addr, len, prot, flags & ~MAP_POPULATE, -1, 0);
	if (replaces && p >= 0)
		err = region_cut(&e->mm.regions, addr, addr + len);
	if (p >= 0 && !err)
		err = add_region(e, id, (u64)p, len, 0);
	if (replaces)
		zap_end(e, addr, addr + len);
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
	if (region_overlaps(&e->mm.regions, addr, addr + len))
		return -EEXIST;
	return add_region(e, id, addr, len, 0);
}

s64 aspace_munmap(struct engine *e, u64 addr, u64 len)
{
	s64 err;

	zap_start(e, addr, addr + len);
	err = region_cut(&e->mm.regions, addr, addr + len);
	if (!err)
		err = os_munmap((void *)addr, len);
	zap_end(e, addr, addr + len);
	return err;
}

s64 aspace_discard(struct engine *e, u64 addr, u64 len)
{
	s64 err;

	zap_start(e, addr, addr + len);
	err = os_madvise((void *)addr, len, MADV_DONTNEED);
	zap_end(e, addr, addr + len);
	return err;
}

s64 aspace_forget(struct engine *e, u64 addr, u64 len)
{
	s64 err;

	zap_start(e, addr, addr + len);
	err = region_cut(&e->mm.regions, addr, addr + len);
	zap_end(e, addr, addr + len);
	return err;
}

/* The kernel has moved the mapping; follow it.  Both gates closed. */
static s64 follow_move(struct engine *e, const struct region *r, u64 old, u64 old_len, u64 to,
		       u64 new_len, bool keep_old)
{
	struct region moved = *r;
	s64 err;

	err = region_cut(&e->mm.regions, old, old + old_len);
	if (err)
		return err;
	if (keep_old) {
		struct region left = *r;

		left.start = old;
		left.end = old + old_len;
		err = region_add(&e->mm.regions, &left);
	}
	moved.start = to;
	moved.end = to + new_len;
	if (!err)
		err = region_add(&e->mm.regions, &moved);
	if (err || !running(e))
		return err;
	if (to != old)
		err = zap_move_ptes(&e->fault, old, to, min_of(old_len, new_len));
	if (!err)
		err = e->mm.pager.ops->add_range(&e->mm.pager, moved.queue, to, new_len);
	if (!err && keep_old)
		err = e->mm.pager.ops->add_range(&e->mm.pager, moved.queue, old, old_len);
	return err;
}

s64 aspace_mremap(struct engine *e, u64 old, u64 old_len, u64 new_len, int flags, u64 new_addr,
		  u64 *ret_addr)
{
	struct region r;
	s64 err = 0;
	long p;

	if (!region_find(&e->mm.regions, old, &r) || r.end < old + old_len)
		return -EFAULT;
	if (new_len < old_len) {
		err = aspace_munmap(e, old + new_len, old_len - new_len);
		old_len = new_len;
	}
	if (!err && (flags & MREMAP_FIXED))
		err = aspace_forget(e, new_addr, new_len);
	if (err)
		return err;
	if (running(e)) {
		gate_close(&e->reclaim_gate);
		gate_close(&e->fault_gate);
	}
	/*
	 * A moved mapping loses its userfaultfd.  Where its new place touches another
	 * managed mapping the kernel first merges the two and then drops the
	 * userfaultfd of the result: the bystander's missing pages would read as
	 * zeros.  Mappings of different flags do not merge, and this flag means
	 * nothing for anonymous memory (doc/decisions/0004-mremap-merge.md).
	 */
	os_madvise((void *)old, old_len, MADV_RANDOM);
	p = os_mremap((void *)old, old_len, new_len, flags, (void *)new_addr);
	if (p >= 0)
		err = follow_move(e, &r, old, old_len, (u64)p, new_len, flags & MREMAP_DONTUNMAP);
	if (p >= 0)
		os_madvise((void *)p, new_len, MADV_NORMAL);
	if (p < 0 || (flags & MREMAP_DONTUNMAP))
		os_madvise((void *)old, old_len, MADV_NORMAL);
	if (running(e)) {
		gate_open(&e->fault_gate);
		gate_open(&e->reclaim_gate);
		e->mm.pager.ops->wake(&e->mm.pager, r.queue, old, old_len);
	}
	if (p < 0)
		return p;
	/* The kernel has moved it and we cannot follow: memory would be lost. */
	if (err)
		engine_fatal(e, "mremap: no room for the records of a moved range");
	*ret_addr = (u64)p;
	return 0;
}

/* Range by range: each is known on a queue of its own. */
static s64 unregister(struct engine *e, u64 start, u64 end)
{
	struct region r;
	s64 err = 0;

	for (u64 at = start; !err && region_next(&e->mm.regions, at, &r) && r.start < end;
	     at = r.end) {
		u64 from = max_of(r.start, start), to = min_of(r.end, end);

		err = e->mm.pager.ops->remove_range(&e->mm.pager, r.queue, from, to - from);
	}
	return err;
}

s64 aspace_release(struct engine *e, u64 addr, u64 len)
{
	s64 err;

	if (running(e)) {
		err = populate_range(&e->fault, &e->request_task, addr, addr + len, true);
		if (err)
			return err;
		zap_start(e, addr, addr + len);
		err = unregister(e, addr, addr + len);
	}
	err = region_cut(&e->mm.regions, addr, addr + len);
	zap_end(e, addr, addr + len);
	return err;
}

s64 aspace_dontfork(struct engine *e, u64 addr, u64 len, bool dontfork)
{
	/* Managed memory is DONTFORK already; remember whose wish it is. */
	return region_set_flags(&e->mm.regions, addr, addr + len,
				dontfork ? REGION_USER_DONTFORK : 0,
				dontfork ? 0 : REGION_USER_DONTFORK);
}

/* As far as the limit allows: a hint does not fail for want of room. */
static s64 will_need(struct engine *e, u64 start, u64 end)
{
	s64 err = populate_range(&e->fault, &e->request_task, start, end, false);

	return err == -ENOMEM ? 0 : err;
}

s64 aspace_advise(struct engine *e, u64 addr, u64 len, enum engine_advice advice)
{
	struct region_table *t = &e->mm.regions;

	switch (advice) {
	case ENGINE_ADVISE_WILLNEED:
		return running(e) ? will_need(e, addr, addr + len) : 0;
	case ENGINE_ADVISE_COLD:
	case ENGINE_ADVISE_PAGEOUT:
		if (running(e))
			populate_cool(&e->fault, &e->request_task, addr, addr + len,
				      advice == ENGINE_ADVISE_PAGEOUT);
		return 0;
	case ENGINE_ADVISE_SEQUENTIAL:
		return region_set_flags(t, addr, addr + len, REGION_SEQUENTIAL, REGION_RANDOM);
	case ENGINE_ADVISE_RANDOM:
		return region_set_flags(t, addr, addr + len, REGION_RANDOM, REGION_SEQUENTIAL);
	case ENGINE_ADVISE_NORMAL:
		return region_set_flags(t, addr, addr + len, 0, REGION_RANDOM | REGION_SEQUENTIAL);
	}
	return -EINVAL;
}

s64 aspace_pin(struct engine *e, u64 addr, u64 len, bool pin)
{
	if (!running(e))
		return 0;
	if (pin)
		return populate_range(&e->fault, &e->request_task, addr, addr + len, true);
	populate_unpin(&e->fault, addr, addr + len);
	return 0;
}

/* ---- the front door --------------------------------------------------------- */

bool engine_manages(const struct engine *e, const void *addr, size_t len)
{
	return len && region_overlaps(&e->mm.regions, (u64)addr, (u64)addr + len);
}

/*
 * Passive: run the work here, under the PASSIVE lock.  True when it was done; else
 * the engine runs (by now) and a request is due.
 */
static bool passive_begin(struct engine *e)
{
	if (atomic32_load(&e->state) == ENGINE_RUNNING)
		return false;
	mutex_lock(&e->passive_lock);
	if (atomic32_load(&e->state) != ENGINE_RUNNING)
		return true;
	mutex_unlock(&e->passive_lock);
	return false;
}

static void passive_end(struct engine *e)
{
	mutex_unlock(&e->passive_lock);
}

static bool bad_range(const void *addr, size_t len)
{
	return ((u64)addr & ~PAGE_MASK) || !len || (u64)addr + len < (u64)addr;
}

#define CALL(e, op, ret, ...)                                                                      \
	request_call(e, op, (const u64[]){ __VA_ARGS__ },                                          \
		     sizeof((u64[]){ __VA_ARGS__ }) / sizeof(u64), ret)

int engine_mmap(struct engine *e, struct memcg_id id, void *addr, size_t len, int prot, int flags,
		void **ret_addr)
{
	u64 at = 0;
	s64 err;

	len = align_up(len, PAGE_SIZE);
	if (!len)
		return -EINVAL;
	if (passive_begin(e)) {
		err = aspace_mmap(e, id, (u64)addr, len, prot, flags, &at);
		passive_end(e);
		if (!err)
			err = engine_start_if_needed(e);
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

	if (bad_range(addr, len) || (len & ~PAGE_MASK))
		return -EINVAL;
	if (!passive_begin(e))
		return (int)CALL(e, REQ_ADOPT, NULL, id.v, (u64)addr, len);
	err = aspace_adopt(e, id, (u64)addr, len);
	passive_end(e);
	return err ? (int)err : engine_start_if_needed(e);
}

/* The operations on (addr, len) that differ only in their work. */
static int range_call(struct engine *e, enum request_op op, void *addr, size_t len, u64 extra)
{
	struct request local = { .op = op, .arg = { (u64)addr, 0, extra } };

	if (bad_range(addr, len))
		return -EINVAL;
	local.arg[1] = align_up(len, PAGE_SIZE);
	if (!passive_begin(e))
		return (int)request_call(e, op, local.arg, 3, NULL);
	request_serve(e, &local);
	passive_end(e);
	return (int)local.result;
}

int engine_munmap(struct engine *e, void *addr, size_t len)
{
	return range_call(e, REQ_MUNMAP, addr, len, 0);
}

int engine_discard(struct engine *e, void *addr, size_t len)
{
	return range_call(e, REQ_DISCARD, addr, len, 0);
}

int engine_release(struct engine *e, void *addr, size_t len)
{
	return range_call(e, REQ_RELEASE, addr, len, 0);
}

int engine_forget(struct engine *e, void *addr, size_t len)
{
	return range_call(e, REQ_FORGET, addr, len, 0);
}

int engine_set_dontfork(struct engine *e, void *addr, size_t len, bool dontfork)
{
	return range_call(e, REQ_DONTFORK, addr, len, dontfork);
}

int engine_advise(struct engine *e, void *addr, size_t len, enum engine_advice advice)
{
	return range_call(e, REQ_ADVISE, addr, len, (u64)advice);
}

int engine_pin(struct engine *e, void *addr, size_t len)
{
	return range_call(e, REQ_PIN, addr, len, 0);
}

int engine_unpin(struct engine *e, void *addr, size_t len)
{
	return range_call(e, REQ_UNPIN, addr, len, 0);
}

int engine_mremap(struct engine *e, void *old, size_t old_len, size_t new_len, int flags,
		  void *new_addr, void **ret_addr)
{
	u64 at = 0;
	s64 err;

	if (bad_range(old, new_len ? new_len : 1) || !new_len)
		return -EINVAL;
	old_len = align_up(old_len, PAGE_SIZE);
	new_len = align_up(new_len, PAGE_SIZE);
	if (passive_begin(e)) {
		err = aspace_mremap(e, (u64)old, old_len, new_len, flags, (u64)new_addr, &at);
		passive_end(e);
		if (!err)
			err = engine_start_if_needed(e);
	} else {
		err = CALL(e, REQ_MREMAP, &at, (u64)old, old_len, new_len, (u64)flags,
			   (u64)new_addr);
	}
	if (!err)
		*ret_addr = (void *)at;
	return (int)err;
}
