/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - set-up and text of struct fault; the work is in the files beside it.
 */
#include "fault/fault.h"

#include <errno.h>

/* Faults that wait at one time, mostly: a step of the table. */
#define FAULT_WAIT_RESERVE 1024u

/* Nobody waits; memory for waiting when there is no memory. */
static int init_waiting(struct fault *f)
{
	int err;

	mutex_init(&f->wait_lock, "fault waiters", LOCK_RANK_LEAF);
	ilist_init(&f->wait_memory);
	ilist_init(&f->wait_timer);
	event_init(&f->timer_wake);
	err = xtable_init(&f->waiting, &f->mm->meta, "quire: waiting faults",
			  sizeof(struct waiting_fault), FAULT_WAIT_MAX);
	if (err)
		return err;
	err = xtable_reserve(&f->waiting, FAULT_WAIT_RESERVE);
	if (err)
		xtable_exit(&f->waiting);
	return err;
}

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
	err = init_waiting(f);
	if (err)
		return err;
	/* Touched as far as reads are in flight at once. */
	f->io = meta_reserve("quire: store reads", FAULT_IO_MAX * sizeof(struct store_in));
	if (f->io)
		return 0;
	xtable_exit(&f->waiting);
	return -ENOMEM;
}

/*
 * Made anew, not emptied: ticker and kswapd look at those who wait, and wake them,
 * outside the gates, so a fork may have copied the lock held and the lists half changed.
 */
void fault_forget_waiting(struct fault *f)
{
	xtable_exit(&f->waiting);
	if (init_waiting(f))
		f->fatal(f->fatal_ctx, "quire: fork: no memory for faults that wait\n");
}

void fault_exit(struct fault *f)
{
	fault_self_exit(f);
	meta_unreserve(f->io, FAULT_IO_MAX * sizeof(struct store_in));
	xtable_exit(&f->waiting);
}
