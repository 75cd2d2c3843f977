/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pte.h - where one page of managed memory is: 8 bytes, and the page lock.
 *
 * `lo` carries the lock, its waiters, the type and the pin count and is the
 * futex word; `hi` is the index that goes with the type.  `hi` and the type
 * change only under the lock, hi first, then lo with release (pte_unlock_to).
 * An all-zero word is an unlocked PTE_NONE, so untouched leaves need no set-up.
 *
 *   type         hi          truths
 *   NONE         0           nothing charged, nothing stored; touch = zero page
 *   PRESENT      page id     mapped; page->vpn is this page; charged
 *   SWAP         slot id     a touch faults; the slot says where the bytes are
 *   POISONED     0           bytes were lost; a touch raises SIGBUS
 *
 *   NONE -> PRESENT      serve_none()
 *   PRESENT -> SWAP      shrink: take_run()
 *   SWAP -> PRESENT      fault: map_back(), fault_finish_swap_in()
 *   any -> NONE          zap_pte()
 *   SWAP -> POISONED     fault: fault_poison()
 *
 * PTE_IO marks a lock owned by a request (a store read under way) and not by a
 * thread: its completion maps the page and wakes everybody who faulted on it,
 * so another fault there has nothing to do.
 */
#ifndef QUIRE_PAGE_PTE_H
#define QUIRE_PAGE_PTE_H

#include "base/assert.h"
#include "base/sync.h"

enum pte_type {
	PTE_NONE = 0,
	PTE_PRESENT = 1,
	PTE_SWAP = 2,
	PTE_POISONED = 3,
};

#define PTE_LOCK 0x1u
#define PTE_WAITERS 0x2u
#define PTE_IO 0x4u
#define PTE_TYPE_SHIFT 4
#define PTE_TYPE_MASK (0x7u << PTE_TYPE_SHIFT)
#define PTE_PIN_SHIFT 8
#define PTE_PIN_MASK (0xffu << PTE_PIN_SHIFT)
#define PTE_PIN_MAX 255u

struct pte {
	struct atomic32 lo;
	struct atomic32 hi; /* (P) */
};

static_assert(sizeof(struct pte) == 8, "one word a page");

static inline enum pte_type pte_type_of(u32 lo)
{
	return (enum pte_type)((lo & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT);
}

/* A look without the lock: only a hint. */
static inline u32 pte_peek(const struct pte *p)
{
	return atomic32_peek(&p->lo);
}

static inline enum pte_type pte_type(const struct pte *p)
{
	return pte_type_of(atomic32_peek(&p->lo));
}

static inline u32 pte_index(const struct pte *p)
{
	return atomic32_peek(&p->hi);
}

static inline u32 pte_pins(const struct pte *p)
{
	return (atomic32_peek(&p->lo) & PTE_PIN_MASK) >> PTE_PIN_SHIFT;
}

/* Needs the lock: change the pin count. */
static inline void pte_set_pins(struct pte *p, u32 pins)
{
	atomic32_fetch_and(&p->lo, ~PTE_PIN_MASK);
	atomic32_fetch_or(&p->lo, pins << PTE_PIN_SHIFT);
}

bool QUIRE_MUST_CHECK pte_trylock(struct pte *p);
/* Sleeps; never on a path that serves faults while `PTE_IO` may be set. */
void pte_lock(struct pte *p);
/*
 * Lock unless a request owns it: 0, or -EINPROGRESS when PTE_IO is set.  Waits
 * for thread-owned locks, which are held for microseconds.
 */
int QUIRE_MUST_CHECK pte_lock_fault(struct pte *p);
void pte_unlock(struct pte *p);
/* Set type and index, then unlock; pins are kept. */
void pte_unlock_to(struct pte *p, enum pte_type type, u32 index);
/* The lock becomes a request's / comes back from it. */
void pte_lock_give(struct pte *p);
void pte_lock_take(struct pte *p);

#endif
