/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pte.c - the lock bit of a pte.
 *
 * Owns the protocol of pte.h's low word: LOCK is taken by compare-and-swap,
 * WAITERS is set by whoever is about to sleep and makes the unlocker wake all
 * (a thundering herd of at most the few threads that want one page).
 */
#include "page/pte.h"

#include <errno.h>

#include "base/mutant.h"

/* Spins before sleeping: about one UFFDIO_MOVE of a run. */
#ifdef QUIRE_EXPLORE
#define PTE_SPINS 1
#else
#define PTE_SPINS 200
#endif

bool pte_trylock(struct pte *p)
{
	u32 lo = atomic32_load(&p->lo);

	return !(lo & PTE_LOCK) && atomic32_cas(&p->lo, lo, lo | PTE_LOCK);
}

static int lock_or_busy(struct pte *p, bool wait_for_io)
{
	u32 spins = 0;

	for (;;) {
		u32 lo = atomic32_load(&p->lo);

		if (!(lo & PTE_LOCK)) {
			if (atomic32_cas(&p->lo, lo, lo | PTE_LOCK))
				return 0;
			continue;
		}
		if ((lo & PTE_IO) && !wait_for_io)
			return -EINPROGRESS;
		if (spins++ < PTE_SPINS) {
			sync_relax();
			continue;
		}
		if (!(lo & PTE_WAITERS) && !atomic32_cas(&p->lo, lo, lo | PTE_WAITERS))
			continue;
		futex_wait(&p->lo, lo | PTE_WAITERS, SYNC_FOREVER, false);
	}
}

void pte_lock(struct pte *p)
{
	int err = lock_or_busy(p, true);

	quire_assert(!err);
}

int pte_lock_fault(struct pte *p)
{
	return lock_or_busy(p, false);
}

static void unlock_with(struct pte *p, u32 clear, u32 set)
{
	for (;;) {
		u32 lo = atomic32_load(&p->lo);
		u32 to = (lo & ~(PTE_LOCK | PTE_WAITERS | PTE_IO | clear)) | set;

		quire_assert(lo & PTE_LOCK);
		if (MUTANT(unlock_misses_waiter))
			atomic32_store(&p->lo, to);
		else if (!atomic32_cas(&p->lo, lo, to))
			continue; /* a waiter announced itself */
		if (lo & PTE_WAITERS)
			futex_wake(&p->lo, UINT32_MAX, false);
		return;
	}
}

void pte_unlock(struct pte *p)
{
	unlock_with(p, 0, 0);
}

void pte_unlock_to(struct pte *p, enum pte_type type, u32 index)
{
	/* Relaxed is enough: readers of hi hold the lock, which the CAS releases. */
	atomic32_poke(&p->hi, index);
	unlock_with(p, PTE_TYPE_MASK, (u32)type << PTE_TYPE_SHIFT);
}

void pte_lock_give(struct pte *p)
{
	u32 lo = atomic32_fetch_or(&p->lo, PTE_IO);

	quire_assert((lo & PTE_LOCK) && !(lo & PTE_IO));
}

void pte_lock_take(struct pte *p)
{
	u32 lo = atomic32_fetch_and(&p->lo, ~PTE_IO);

	quire_assert((lo & PTE_LOCK) && (lo & PTE_IO));
}
