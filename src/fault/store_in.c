/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_in.c - a page comes back from the store.
 *
 * The fault submits a read and goes on; the pte lock belongs to the request
 * (PTE_IO) until the completion maps the page on an I/O thread and unlocks.
 * The request also counts as a passer of the fault gate, so that fork and
 * mremap wait for it.  The charge travels with the request.
 *
 * The store's cleaner may move an object while it is read; then the bytes do not
 * match, the slot names another place by now, and the read is tried again there.
 * memory.high does not throttle these faults further: the device did.
 * Bytes that do not match at an unchanged place are lost: poison, never zeros.
 */
#include <errno.h>
#include <string.h>

#include "base/mutant.h"
#include "base/os.h"
#include "fault/internal.h"

#define IO_RETRIES 8

static struct store_in *get_request(struct fault *f)
{
	for (u32 i = 0; i < FAULT_IO_MAX; i++) {
		if (!atomic32_peek(&f->io[i].used) && atomic32_cas(&f->io[i].used, 0, 1))
			return &f->io[i];
	}
	stat_add(&f->nr_no_io_slot, 1);
	return NULL;
}

static void read_done(struct store_get *get, int res);

/* Aim the request at where the slot says its bytes are now. */
static bool aim(struct store_in *in)
{
	u32 len = 0;

	if (!zswap_store_place(in->f->zswap, in->slot, &in->get.loc, &len, &in->raw))
		return false;
	in->get.len = len;
	in->get.owner = in->slot.v;
	in->get.buf = in->data;
	in->get.done = read_done;
	return true;
}

/* err: 0; -EAGAIN, not now; else the bytes are lost. */
static void finish(struct store_in *in, struct task *t, int err)
{
	struct fault *f = in->f;
	struct fault_ctx c = {
		.f = f,
		.t = t,
		.objcg = { in->objcg },
		.addr = in->addr,
		.queue = in->queue,
		.charged = true,
		.keep_copy = true,
		.write = in->write,
		.pager_flags = fault_wake_flags(f),
	};
	enum fault_result res = FAULT_DONE;

	pte_lock_take(in->pte);
	if (err == -EAGAIN) {
		pte_unlock(in->pte);
		res = FAULT_NO_MEMORY;
	} else if (err) {
		fault_poison(f, t, in->pte, in->queue, in->addr, in->slot);
	} else {
		res = fault_finish_swap_in(&c, in->pte, in->slot, in->page);
	}
	if (c.charged)
		memcg_uncharge(f->tree, &t->stock, c.objcg, 1);
	memcg_drain_stock(f->tree, &t->stock);
	if (res == FAULT_NO_MEMORY)
		fault_defer(f, in->queue, in->addr, in->write ? FAULT_WRITE : 0,
			    objcg_memcg(f->tree, c.objcg));
	else if (!err)
		fault_account(f, c.objcg, FAULT_STORE, in->since_ns);
	atomic32_store(&in->used, 0);
}

/* The kernel had no memory for the read, or something came in between: that says
 * nothing of the bytes, so they are not lost however often it happens. */
static bool is_passing(int err)
{
	return err == -ENOMEM || err == -EAGAIN || err == -EINTR || err == -ENOBUFS;
}

/* On an I/O thread of the store (its thread struct is not a task of ours). */
static void read_done(struct store_get *get, int res)
{
	struct store_in *in = (struct store_in *)get;
	struct fault *f = in->f;
	struct task t; /* no stock, no slot numbers: only what the steps below touch */
	int err = res;

	memset(&t.stock, 0, sizeof(t.stock));
	t.slots.nr = 0;
	if (!err)
		err = zswap_finish_read(f->zswap, in->slot, in->data, get->len, in->raw, in->page);
	if (err && in->retries < IO_RETRIES && !MUTANT(read_not_tried_again)) {
		in->retries++;
		stat_add(&f->nr_io_retry, 1);
		/* Refused: the bytes are well, there is no room to read them again. */
		if (aim(in)) {
			if (!zswap_backing(f->zswap)->ops->get(zswap_backing(f->zswap), &in->get))
				return;
			err = -EAGAIN;
		}
	}
	finish(in, &t, is_passing(err) ? -EAGAIN : err);
	slot_cache_drain(f->swap, &t.slots);
	/* One that was refused for want of a request may wait for this one. */
	if (ilist_peek_nr(&f->wait_memory))
		kswapd_wake(f->reclaim);
	/* Last: behind the gate a fork takes place, and no lock may be held then. */
	gate_leave(f->gate);
}

enum fault_result store_in_start(struct fault *f, struct pte *pte, u32 queue, u64 addr,
				 struct objcg_id o, struct slot_id slot, bool write)
{
	struct store_in *in = get_request(f);

	if (!in) {
		pte_unlock(pte);
		return FAULT_NO_MEMORY;
	}
	in->f = f;
	in->pte = pte;
	in->slot = slot;
	in->addr = addr;
	in->queue = queue;
	in->objcg = o.v;
	in->write = write;
	in->since_ns = os_now_ns();
	in->retries = 0;
	if (!aim(in))
		goto refused;
	gate_enter_again(f->gate);
	pte_lock_give(pte);
	if (!zswap_backing(f->zswap)->ops->get(zswap_backing(f->zswap), &in->get))
		return FAULT_IO;
	pte_lock_take(pte);
	gate_leave(f->gate);
refused:
	atomic32_store(&in->used, 0);
	pte_unlock(pte);
	return FAULT_NO_MEMORY;
}

u64 store_in_oldest_ns(struct fault *f, u64 now_ns, u64 *ret_addr)
{
	u64 oldest = 0;

	for (u32 i = 0; i < FAULT_IO_MAX; i++) {
		struct store_in *in = &f->io[i];

		if (atomic32_load(&in->used) && now_ns - in->since_ns > oldest &&
		    now_ns > in->since_ns) {
			oldest = now_ns - in->since_ns;
			*ret_addr = in->addr;
		}
	}
	return oldest;
}
