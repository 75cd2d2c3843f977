/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - one fault while it is served; shared by the files of fault/.
 */
#ifndef QUIRE_FAULT_INTERNAL_H
#define QUIRE_FAULT_INTERNAL_H

#include "fault/fault.h"

struct fault_ctx {
	struct fault *f;
	struct task *t;
	struct region region;
	struct objcg_id objcg;
	struct page_id new_page;
	u64 addr;
	u32 queue;
	u32 pager_flags;
	enum fault_kind kind;
	u32 window; /* neighbours to bring along; not 0: nobody is woken before */
	s64 step; /* from one to the next, bytes */
	bool whole; /* all of them were there or came in */
	struct stream *stream; /* the scan that this fault continues, or NULL */
	bool fresh; /* a first touch */
	bool charged; /* one page, not yet in a mapped page's name */
	bool keep_copy; /* the bytes came from the store, where they may stay */
	bool write; /* a store is what faulted */
	bool may_read; /* this thread, from the store */
	bool self; /* FAULT_SELF */
	int here; /* FAULT_SELF: what the store reads by, -1: nothing */
	bool hand_over; /* FAULT_SELF: the pager could not do it here */
};

/* Signal mode: threads that are served at one time; more wait for each other. */
#define FAULT_STACKS 32u

/* For pager_flags: whom the pager must leave asleep, see struct fault. */
static inline u32 fault_wake_flags(struct fault *f)
{
	return atomic32_load(&f->hold_wake) ? PAGER_DONTWAKE : 0;
}

/*
 * A new page of c->objcg at c->addr with content src (NULL: zeros), not yet
 * visible: c->new_page.  Write-protected unless c->write, where that pays.
 * -errno of the pager, or -ENOMEM: nothing was mapped.
 */
int QUIRE_MUST_CHECK fault_map_new(struct fault_ctx *c, const void *src, u32 page_flags);
/* Mapped: listed, counted, visible; unlocks the pte. */
void fault_publish(struct fault_ctx *c, struct pte *pte, struct page_id id);
/* Its page is mapped: the slot ends, or is kept as a clean copy.  shadow: what was there. */
void fault_end_slot(struct fault_ctx *c, struct slot_id slot, u32 shadow, struct page_id id);
/* Map a page of a slot from bytes at src; the slot ends.  Unlocks the pte. */
enum fault_result fault_finish_swap_in(struct fault_ctx *c, struct pte *pte, struct slot_id slot,
				       const void *src);
/*
 * Reclaim is behind: take part in it, as the kernel's faults do, instead of
 * waiting for the end of its batch.  nr pages, into the pool only.  Not while a
 * fork closes the gates (it may hold reclaim's already and wait for this thread).
 * True when something came free.
 */
bool fault_reclaim(struct fault *f, struct task *t, struct memcg_id over, u32 nr);

/* ---- write protection (protect.c) ------------------------------------------ */

/* Shall nr pages be mapped write-protected?  Only where a load is what faulted. */
bool QUIRE_MUST_CHECK fault_wants_protection(const struct fault_ctx *c, u32 nr);
/* The store at c->addr met a protected page: true when that is settled, false when
 * the page has left meanwhile and this is a fault like any other. */
bool fault_unprotect(struct fault_ctx *c);

/* ---- neighbours (expect.c, readahead.c) --------------------------------------- */

/*
 * How many neighbours are worth bringing, and which: c->window, c->step.  Before the
 * page is mapped.  fresh: they were never touched, so only a scan is worth it.  Looks
 * only: a fault that finds no memory comes again.
 */
void fault_expect(struct fault_ctx *c, bool fresh);
/* The page is there, and its neighbours up to next, where the scan would fault. */
void fault_foresee(struct fault_ctx *c, u64 next);
/* Neighbours of a page that just came in; or is to be read: then that, too. */
void fault_readahead(struct fault_ctx *c, struct store_in *first);
/* Neighbours, never touched so far, of a page that just got its first touch. */
void fault_zero_ahead(struct fault_ctx *c);

/* Reclaim in a group that is full, a batch: 0, or -EAGAIN, nothing came of it. */
int QUIRE_MUST_CHECK populate_make_room(struct fault *f, struct task *t, struct memcg_id over);

/* ---- store reads (store_in.c) ------------------------------------------- */

/*
 * A read of the slot that the locked pte names; takes over pte and charge.  NULL: no
 * request is free; both are still the caller's.
 */
struct store_in *store_in_prepare(struct fault_ctx *c, struct pte *pte, u64 addr);
/*
 * FAULT_SELF: may this thread wait for the device itself, and how can it read the slot's
 * bytes (c->here)?  False: neither it nor its neighbours are touched.  Ended in any case.
 */
bool store_in_begin_here(struct fault_ctx *c, struct slot_id slot);
void store_in_end_here(struct fault_ctx *c);
/* Pages of one read that fit a window's buffer, wherever they begin: as they are each is
 * 16 bytes longer in the store. */
#define READ_NOW_MAX (READAHEAD_MAX - 2)
/*
 * Read them, in the order of the window.  Each ends by itself, with a deferred fault
 * where the store refused; of a c->self, with the page as it was.  c->may_read: this
 * thread may wait for the device; how many from the front have ended so, asleep until the
 * caller wakes them.
 */
u32 store_in_read(struct fault_ctx *c, struct store_in *const *in, u32 nr);
/* Age of the oldest read under way. */
u64 store_in_oldest_ns(struct fault *f, u64 now_ns, u64 *ret_addr);

#endif
