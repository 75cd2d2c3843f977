/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - memory that is paged: map, adopt, advise, pin.
 *
 * A region is a range of private anonymous memory that belongs to a group.  It
 * is used with ordinary pointers, by any thread, system calls included.  Its
 * pages are charged to the group when they are first touched; when the group
 * needs room the coldest are taken out, and a touch brings them back.
 *
 * The functions below are for whole pages.  They take the place of mmap(2),
 * munmap(2), mremap(2) and madvise(2), which must not be used on a region of
 * libquire (under `quire run` the preload sees to that): memory that vanishes
 * behind the library's back reads as zeros, counted in memory.stat pgdropped.
 * mprotect(2) may be used.
 *
 * Ranges may span several regions, and parts of regions.  A range that is not
 * wholly managed is -ENOENT unless said otherwise.
 *
 * All of these do the work on an engine thread: arguments and results may lie
 * in managed memory.
 */
#ifndef QUIRE_REGION_H
#define QUIRE_REGION_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

enum quire_map_flags {
	/* A child of fork(2) does not get this memory. */
	QUIRE_MAP_DONTFORK = 1
};

/*
 * quire_map - len bytes of zeroed, readable, writable memory in a group.
 *
 * len is rounded up to pages.  Nothing is charged before a page is touched: a
 * mapping may be larger than the limit, and than memory.
 * 0, or -EINVAL (len 0, unknown flag), -ENOMEM (no address space), -ENODEV, and
 * what quire_open() can return where paging had to start now.
 */
int QUIRE_MUST_CHECK quire_map(struct quire_group *group, size_t len, unsigned int flags,
			       void **ret_addr);

/*
 * quire_unmap - give a range back to the system, content and all.
 *
 * As munmap(2): parts that are not managed or not mapped are unmapped too, or
 * no error.  Pages that are out are freed without being read.  0 or -EINVAL.
 */
int QUIRE_MUST_CHECK quire_unmap(struct quire *q, void *addr, size_t len);

enum quire_remap_flags { QUIRE_REMAP_MAYMOVE = 1 };

/*
 * quire_remap - grow, shrink or move a range, as mremap(2).
 *
 * Pages keep their place outside memory; nothing is read.  -ENOMEM: does not
 * fit where it is and QUIRE_REMAP_MAYMOVE is not given.  -EINVAL.
 */
int QUIRE_MUST_CHECK quire_remap(struct quire *q, void *addr, size_t len, size_t new_len,
				 unsigned int flags, void **ret_addr);

/*
 * quire_discard - forget the content; the range reads as zeros again.
 *
 * As madvise(MADV_DONTNEED): charges, compressed copies and file space are free
 * when it returns.  Parts that are not managed are left as they are.
 */
int QUIRE_MUST_CHECK quire_discard(struct quire *q, void *addr, size_t len);

/*
 * quire_adopt - bring an existing mapping into a group, with its content.
 *
 * For memory that other code has mapped: private and anonymous only.  The
 * program may use it meanwhile.  Resident pages are charged, over the limit if
 * need be: reclaim then brings the group down.  It ends with quire_release() or
 * quire_unmap(); never unmap adopted memory by munmap(2).
 * 0, or -EINVAL (not page aligned, not private anonymous, len 0), -EEXIST (part
 * of it is managed already), -EBUSY (has somebody else's userfaultfd), -ENOMEM.
 */
int QUIRE_MUST_CHECK quire_adopt(struct quire_group *group, void *addr, size_t len);

/*
 * quire_release - the way back: ordinary memory again, with its content.
 *
 * May wait: pages that are out are read.  -ENOMEM: does not fit in the limit of
 * the group; nothing has changed.
 */
int QUIRE_MUST_CHECK quire_release(struct quire *q, void *addr, size_t len);

enum quire_advice {
	QUIRE_NORMAL, /* as if nothing had been advised */
	QUIRE_WILLNEED, /* bring it in, as far as the limit allows */
	QUIRE_COLD, /* first in line when room is needed */
	QUIRE_PAGEOUT, /* out with it now */
	QUIRE_SEQUENTIAL, /* read far ahead, drop behind */
	QUIRE_RANDOM, /* read nothing ahead */
	QUIRE_DROP /* quire_discard() */
};

/*
 * quire_advise - say how a range will be used; see enum quire_advice.
 *
 * Advice changes speed, never content (QUIRE_DROP apart).  NORMAL, SEQUENTIAL
 * and RANDOM stay until changed; the others act once.  PAGEOUT may wait;
 * WILLNEED starts and returns.
 * 0, -EINVAL (unknown advice), -ENOENT (none of it is managed), -EAGAIN
 * (PAGEOUT: some pages could not be taken, pinned or busy).
 */
int QUIRE_MUST_CHECK quire_advise(struct quire *q, void *addr, size_t len,
				  enum quire_advice advice);

/*
 * quire_pin - bring a range in and keep it there until quire_unpin().
 *
 * For memory that must not fault: held locks that a dying thread leaves behind
 * (robust mutexes), buffers of the signal mode, code that must answer in
 * microseconds.  Counts nest, page by page, up to 255.  May wait.
 * -ENOMEM: what the group has pinned would not fit in its limit; -EOVERFLOW:
 * a page is pinned 255 times; nothing is pinned.  (Without QUIRE_FAULT_SIGNAL,
 * I/O of the kernel into managed memory needs no pin.)
 */
int QUIRE_MUST_CHECK quire_pin(struct quire *q, void *addr, size_t len);
/* -EINVAL: part of it is not pinned; the rest is unpinned. */
int QUIRE_MUST_CHECK quire_unpin(struct quire *q, void *addr, size_t len);

/*
 * quire_assign - a range becomes another group's, with all that it holds.
 *
 * What is resident, compressed or stored of it is charged to the group from now on,
 * and to the old one no more; groups above both notice nothing.  No page is read,
 * written or copied.  All threads may use the memory meanwhile.  The parts of the
 * range may be several groups'.  (Heaps are not moved this way: their next block
 * would come from their own group all the same.)
 *
 * The limits of the group, and of those above it that are not above the old one, must
 * allow it: reclaim makes room there first.  Where that is not enough, a first part
 * has moved, *ret_moved bytes (may be NULL), and the rest is as it was:
 * -ENOMEM (memory.max, memory.zswap.max) or -ENOSPC (memory.swap.max).
 * 0; -EINVAL (not whole pages, empty); -ENOENT (not all of it is managed; nothing has
 * changed); -ENODEV.
 * May wait: for reclaim, and for reads and writes of the swap file under way.  Any
 * thread; not in a signal handler.  A fork(2) at the same time comes before or after.
 */
int QUIRE_MUST_CHECK quire_assign(struct quire_group *group, void *addr, size_t len,
				  size_t *ret_moved);

/*
 * quire_assign_all - the process moves to another group, with all it has.
 *
 * That is: every region of the group the process is in (cgroup.procs), as
 * quire_assign(); what is charged for its metadata and, under `quire run`, for its
 * memory outside; and the place of what it maps later.  Regions of other groups stay
 * where they are.  After an error the process is where it was, and so are the regions
 * that had not moved yet.  Errors and *ret_moved as quire_assign().
 */
int QUIRE_MUST_CHECK quire_assign_all(struct quire_group *group, size_t *ret_moved);

/* quire_manages - is any byte of the range managed by q?  Signal safe. */
int quire_manages(struct quire *q, const void *addr, size_t len);

#ifdef __cplusplus
}
#endif

#endif
