/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frames.h - where a page is staged between mapped and gone.
 *
 * A frame is a page of the engine's own anonymous memory, registered in a
 * userfaultfd nobody reads (pager add_frames).  Pages are moved in by take()
 * and out by give(); a frame is *empty* (no memory behind it) exactly when its
 * bit is clear or its owner has not filled it yet.  Contiguous runs of frames
 * are handed out so that a run of pages moves in one call.
 *
 * A few frames that were put back stay *warm*: handed out to nobody, with memory behind
 * them.  A page that is copied rather than moved goes into one of those, and neither
 * taking nor giving back costs a system call.
 *
 * Lock: FRAMES, for the bitmap only; the system calls run outside it.
 */
#ifndef QUIRE_PAGE_FRAMES_H
#define QUIRE_PAGE_FRAMES_H

#include "base/slab.h"
#include "pager/pager.h"

#define FRAME_RUN_MAX 32u
/* Warm frames at most, 512 KiB: four batches of reclaim between unmap and pageout. */
#define FRAMES_WARM_MAX 128u

struct frames {
	struct pager *pager; /* (C) */
	char *base; /* (C) frame n is at base + n * PAGE_SIZE; frame 0 is never used */
	u32 nr_frames; /* (C) */
	struct mutex lock;
	u64 *bitmap; /* (L) 1: handed out */
	u32 cursor; /* (L) word where the next search starts, modulo the window */
	u32 warm[FRAMES_WARM_MAX]; /* (L) a stack */
	struct atomic32 nr_warm; /* changed under the lock */
	struct atomic32 nr_used;
	struct meta *meta;
};

/* Reserve nr frames of address space; the pager must be open. */
int QUIRE_MUST_CHECK frames_init(struct frames *f, struct meta *meta, struct pager *pager, u32 nr);
void frames_exit(struct frames *f);

/*
 * A run of up to want (<= FRAME_RUN_MAX) contiguous free frames: the number
 * got (0: none) and the first in *ret_first.
 */
u32 frames_alloc(struct frames *f, u32 want, u32 *ret_first);
/* Up to want warm frames, one by one, at ret[]: the number got. */
u32 frames_alloc_warm(struct frames *f, u32 want, u32 *ret);
/* Hand back frames that are empty already (moved out, or never filled). */
void frames_put_empty(struct frames *f, u32 first, u32 nr);
/* Hand back frames with something in them: kept warm, or emptied where there are
 * enough of those. */
void frames_put(struct frames *f, u32 first, u32 nr);
/* Would one more stay warm?  A guess. */
static inline bool frames_want_warm(const struct frames *f)
{
	return atomic32_peek(&f->nr_warm) < FRAMES_WARM_MAX;
}

static inline void *frame_addr(const struct frames *f, u32 frame)
{
	return f->base + ((size_t)frame << PAGE_SHIFT);
}

/* The pager was reopened (fork): announce the area again. */
int QUIRE_MUST_CHECK frames_register(struct frames *f);

#endif
