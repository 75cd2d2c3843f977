/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - set-up and text of struct fault; the work is in the files beside it.
 */
#include "fault/fault.h"

#include <errno.h>

#include "base/fmt.h"

/* Faults that wait at one time, mostly: a step of the table. */
#define FAULT_WAIT_RESERVE 1024u

int fault_init(struct fault *f, struct mm *mm, struct reclaim *r, struct gate *gate)
{
	int err;

	f->mm = mm;
	f->tree = r->tree;
	f->lru = r->lru;
	f->swap = r->swap;
	f->zswap = r->zswap;
	f->reclaim = r;
	f->gate = gate;
	mutex_init(&f->wait_lock, "fault waiters", LOCK_RANK_LEAF);
	event_init(&f->timer_wake);
	err = xtable_init(&f->waiting, &mm->meta, "quire: waiting faults",
			  sizeof(struct waiting_fault), FAULT_WAIT_MAX);
	if (err)
		return err;
	/* Touched as far as reads are in flight at once; and memory for waiting when
	 * there is no memory. */
	f->io = meta_reserve("quire: store reads", FAULT_IO_MAX * sizeof(struct store_in));
	if (f->io && !xtable_reserve(&f->waiting, FAULT_WAIT_RESERVE))
		return 0;
	meta_unreserve(f->io, FAULT_IO_MAX * sizeof(struct store_in));
	xtable_exit(&f->waiting);
	return -ENOMEM;
}

void fault_exit(struct fault *f)
{
	meta_unreserve(f->io, FAULT_IO_MAX * sizeof(struct store_in));
	xtable_exit(&f->waiting);
}
