/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake.h - a pager without a kernel: for unit tests and the race explorer.
 *
 * Managed memory is FAKE_PAGES pages at made-up addresses from FAKE_BASE on;
 * bytes are kept in the fake.  What the program and the kernel would do to that
 * memory is done by the functions below, from any thread; pager_ops work as
 * with the real pagers, errors included.  Frames are real memory of the caller,
 * at most FAKE_FRAMES; an empty frame reads as FAKE_EMPTY bytes.
 *
 * pager_init(p, "fake"), then open(), which makes the memory; fake_reset()
 * brings it to the state after open() in about a microsecond; fake_exit() frees
 * it.
 */
#ifndef QUIRE_PAGER_FAKE_H
#define QUIRE_PAGER_FAKE_H

#include "pager/pager.h"

#define FAKE_BASE 0x700000000000ull
#define FAKE_PAGES 256u
#define FAKE_FRAMES 4096u
#define FAKE_WAITERS 32u /* threads that wait for faults at one time */
#define FAKE_EMPTY 0xdb

/* What page tables and mappings would say of a page. */
enum fake_page_flag {
	FAKE_PRESENT = 1,
	FAKE_ZERO = 2, /* present, as the shared zero page */
	FAKE_PINNED = 4, /* for direct I/O: take says EBUSY */
	FAKE_SHARED = 8, /* with a forked child, until somebody writes */
	FAKE_READONLY = 16, /* PROT_READ or mlocked: take and give say EINVAL */
	FAKE_POISONED = 32, /* a touch is SIGBUS */
	FAKE_UNMAPPED = 64, /* a touch is SIGSEGV */
	FAKE_PROTECTED = 128, /* present, a store is a fault */
};

static inline u64 fake_addr(u32 page)
{
	return FAKE_BASE + (u64)page * PAGE_SIZE;
}

void fake_reset(struct pager *p);
void fake_exit(struct pager *p);

/* ---- the program --------------------------------------------------------- */

/*
 * Touch addr as the program would: a missing page of a registered range is a
 * fault, and the caller sleeps until it is served.  Returns where the byte is,
 * or NULL where the program would get SIGSEGV or SIGBUS.  The pointer is good
 * until the page is taken: in the explorer up to the next scheduling point;
 * with real threads use the three below.
 */
u8 *fake_access(struct pager *p, u64 addr, bool write);
/* Touch and access in one step; addr is 8-byte aligned.  0 after a signal. */
u64 fake_load(struct pager *p, u64 addr);
void fake_store(struct pager *p, u64 addr, u64 value);
/* Returns the value before. */
u64 fake_fetch_add(struct pager *p, u64 addr, u64 n);
/*
 * The bytes of a page and its flags, whether or not it is there; no page comes or goes
 * up to fake_let_go().  In the explorer: up to the next scheduling point.
 */
u8 *fake_hold(struct pager *p, u64 addr, u32 *ret_flags);
void fake_let_go(struct pager *p);
/* madvise(MADV_DONTNEED) by the program, behind the engine's back. */
void fake_forget(struct pager *p, u64 addr, u32 nr);

/* ---- the kernel ---------------------------------------------------------- */

/* Unmapping loses the page and its registration, as munmap(2). */
void fake_set(struct pager *p, u64 addr, u32 nr, u32 set, u32 clear);
u32 fake_flags(struct pager *p, u64 addr);
/* The same bytes; for when all is at rest. */
u8 *fake_content(struct pager *p, u64 addr);
bool fake_frame_full(struct pager *p, const void *frame);
/* faults() sleeps no more: its threads shall end (true), or it does again. */
void fake_stop(struct pager *p, bool stop);
/* Threads that sleep in fake_access() and their like, on all queues. */
u32 fake_nr_waiting(struct pager *p);

#endif
