/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_in.c - a page comes back from the store.
 *
 * The fault submits a read and goes on; the pte lock belongs to the request
 * (PTE_IO) until the completion maps the page on an I/O thread and unlocks.
 * Where the device has been quick of late and no other fault waits, the thread reads
 * itself: handing over to another thread and back costs 40 us beside a read of 55, and a
 * read a page several times what one read of neighbours does.  So does one of the program
 * (signal mode); what it cannot read it leaves as it was, to the fault thread.
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
/* Slower than this on average: another fault may come meanwhile, and is not to wait. */
#define READ_NOW_NS (250 * NSEC_PER_USEC)
#define READ_NOW_SAMPLE 64u /* one read in so many, then */
#define SELF_READS_MAX (FAULT_STACKS / 2)
#define TRANSFER_NS (4 * NSEC_PER_USEC) /* a page at 1 GB/s */

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

/* The page is as it was.  Who faulted on a neighbour meanwhile was left to this read. */
static void not_now(const struct store_in *in)
{
	struct fault *f = in->f;

	if (!in->ahead && !in->self)
		fault_defer(f, in->queue, in->addr, in->write ? FAULT_WRITE : 0,
			    objcg_memcg(f->tree, (struct objcg_id){ in->objcg }));
	else if (!MUTANT(neighbour_left_asleep))
		f->mm->pager.ops->wake(&f->mm->pager, in->queue, in->addr, PAGE_SIZE);
}

static void came_in(const struct store_in *in)
{
	struct objcg_id o = { in->objcg };

	fault_account(in->f, o, FAULT_STORE, in->since_ns);
	if (in->ahead)
		memcg_stat_add(in->f->tree, o, MEMCG_STAT_READAHEAD, 1);
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
		.pager_flags = fault_wake_flags(f) | (in->hold_wake ? PAGER_DONTWAKE : 0),
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
		not_now(in);
	else if (res == FAULT_DONE && !err)
		came_in(in);
	atomic32_store(&in->used, 0);
}

/* The kernel had no memory for the read, or something came in between: that says
 * nothing of the bytes, so they are not lost however often it happens. */
static bool is_passing(int err)
{
	return err == -ENOMEM || err == -EAGAIN || err == -EINTR || err == -ENOBUFS;
}

/* err as of finish(). */
static void end_read(struct store_in *in, int err)
{
	struct fault *f = in->f;
	struct task t; /* no stock, no slot numbers: only what the steps below touch */

	memset(&t.stock, 0, sizeof(t.stock));
	t.slots.nr = 0;
	finish(in, &t, err);
	slot_cache_drain(f->swap, &t.slots);
	/* One that was refused for want of a request may wait for this one. */
	if (ilist_peek_nr(&f->wait_memory))
		kswapd_wake(f->reclaim);
	/* Last: behind the gate a fork takes place, and no lock may be held then. */
	gate_leave(f->gate);
}

/* What lies together in one operation.  Each may end before this returns: then it wakes. */
static void submit(struct store_in *const *in, u32 nr)
{
	struct store *s = nr ? zswap_backing(in[0]->f->zswap) : NULL;
	struct store_get *gets[READAHEAD_MAX];
	u32 nr_aimed = 0;

	for (u32 i = 0; i < nr; i++) {
		in[i]->hold_wake = false;
		if (aim(in[i]))
			gets[nr_aimed++] = &in[i]->get;
		else
			end_read(in[i], -EAGAIN); /* the bytes are well */
	}
	for (u32 i = 0; i < nr_aimed;) {
		int n = s->ops->get(s, gets + i, nr_aimed - i);

		if (n < 0) /* so are they here: there is no room to read them */
			end_read((struct store_in *)gets[i], -EAGAIN);
		i += (u32)max_of(n, 1);
	}
}

/* A moving average of what nr objects took, less their transfer: one that is very late
 * counts as four that are too slow.  Racing with others it is a guess. */
static void note_latency(struct fault *f, u64 ns, u32 nr)
{
	u64 old = atomic32_peek(&f->read_ns);

	ns -= min_of(ns, (u64)nr * TRANSFER_NS);
	atomic32_poke(&f->read_ns, (u32)((7 * old + min_of(ns, 4 * READ_NOW_NS)) / 8));
}

/* On an I/O thread of the store (its thread struct is not a task of ours), or, read now,
 * on the fault's. */
static void read_done(struct store_get *get, int res)
{
	struct store_in *in = (struct store_in *)get;
	struct fault *f = in->f;
	int err = res;

	if (!err)
		err = zswap_finish_read(f->zswap, in->slot, in->data, get->len, in->raw, in->page);
	if (err && !in->self && in->retries < IO_RETRIES && !MUTANT(read_not_tried_again)) {
		in->retries++;
		stat_add(&f->nr_io_retry, 1);
		submit(&in, 1);
		return;
	}
	/* Not the store's file, perhaps: what is lost the fault thread decides. */
	if (is_passing(err) || (err && in->self && !MUTANT(read_here_poisons)))
		err = -EAGAIN;
	end_read(in, err);
}

struct store_in *store_in_prepare(struct fault_ctx *c, struct pte *pte, u64 addr)
{
	struct fault *f = c->f;
	struct store_in *in = get_request(f);

	if (!in)
		return NULL;
	in->f = f;
	in->pte = pte;
	in->slot.v = pte_index(pte);
	in->addr = addr;
	in->queue = c->queue;
	in->objcg = c->objcg.v;
	in->write = c->write;
	in->ahead = addr != c->addr;
	in->self = c->self;
	in->hold_wake = false;
	in->since_ns = os_now_ns();
	in->retries = 0;
	gate_enter_again(f->gate);
	pte_lock_give(pte);
	return in;
}

/* Has the device been quick of late?  If not, that is asked again now and then. */
static bool device_is_quick(struct fault *f)
{
	return atomic32_peek(&f->read_ns) <= READ_NOW_NS ||
	       atomic32_fetch_add(&f->read_turn, 1) % READ_NOW_SAMPLE == 0;
}

bool store_in_begin_here(struct fault_ctx *c, struct slot_id slot)
{
	struct store *s = zswap_backing(c->f->zswap);
	struct store_loc loc;
	u32 len;
	bool raw;

	/* Each holds one of the stacks on which others' faults are served, too. */
	if (atomic32_fetch_add(&c->f->self_reads, 1) < SELF_READS_MAX && device_is_quick(c->f) &&
	    zswap_store_place(c->f->zswap, slot, &loc, &len, &raw))
		c->here = s->ops->here(s, loc);
	if (c->here < 0)
		atomic32_fetch_sub(&c->f->self_reads, 1);
	return c->here >= 0;
}

void store_in_end_here(struct fault_ctx *c)
{
	if (c->here >= 0)
		atomic32_fetch_sub(&c->f->self_reads, 1);
}

/* Those from the front that can be read together, by this thread; 0: not now. */
static u32 read_now(struct fault_ctx *c, struct store_in *const *in, u32 nr)
{
	struct store *s = zswap_backing(c->f->zswap);
	struct store_now now = { c->t->window, FAULT_WINDOW_BYTES, c->here, 0 };
	struct store_get *gets[READAHEAD_MAX];
	int n = 0;

	for (; n < (int)nr && aim(in[n]); n++) {
		in[n]->hold_wake = true;
		gets[n] = &in[n]->get;
	}
	if (n)
		n = s->ops->get_now(s, gets, (u32)n, &now);
	if (n <= 0)
		return 0;
	note_latency(c->f, now.device_ns, (u32)n);
	return (u32)n;
}

u32 store_in_read(struct fault_ctx *c, struct store_in *const *in, u32 nr)
{
	u32 done = 0;

	if (nr && c->may_read && c->t->window && (c->self || device_is_quick(c->f)))
		done = read_now(c, in, nr);
	if (!c->self)
		submit(in + done, nr - done);
	for (u32 i = done; i < nr && c->self; i++)
		end_read(in[i], -EAGAIN); /* I/O threads are the engine's */
	return done;
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
