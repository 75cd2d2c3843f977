/* SPDX-License-Identifier: Apache-2.0 */
/*
 * self.c - signal mode: the thread that faults serves its own fault.
 *
 * Owns the stacks on which it does so.  A thread of the program must hold no engine lock
 * on memory that may be managed, so it changes to one of ours, with a task of ours, and
 * is an engine thread there but for its descriptors: of those it has only the pager's, and
 * one of the store's that it can read (store/here.c).
 * What takes others (guard pages), time (memory.high, a slow device) or memory that is not
 * there it hands to the fault thread, as the kernel does in the other mode, and waits;
 * so does everybody while a gate is closed.  Waiting holds neither stack nor lock, but for
 * a read, which holds both, by as many threads as leave stacks for others.
 *
 * Entry points: fault_self(), fault_self_drain().
 * Invariants: asynchronous signals are blocked, so that nothing jumps off a stack; no
 * byte of the program's memory is touched between the change of stacks and the way back.
 * Lock ranks: as serve.c, on the stack only.
 */
#include "fault/internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/os.h"

#define STACK_BYTES (128 * KIB)
#define GUARD_BYTES PAGE_SIZE
#define TASK_BYTES align_up(sizeof(struct fault_stack), PAGE_SIZE)
#define STRIDE (GUARD_BYTES + STACK_BYTES + TASK_BYTES + FAULT_WINDOW_BYTES)
/* Pages compressed by a thread that found no memory: 4 x 10 us. */
#define DIRECT_BATCH 4u
/* While waiting: looks for signals, and so many until the thread faults again. */
#define LOOK_NS (2 * NSEC_PER_MSEC)
#define NR_LOOKS 500u
/* When no more can wait in order. */
#define RETRY_NS (50 * NSEC_PER_USEC)

static struct fault_stack *stack_at(const struct fault *f, u32 i)
{
	return (struct fault_stack *)(f->stacks.memory + i * STRIDE + GUARD_BYTES + STACK_BYTES);
}

int fault_self_init(struct fault *f)
{
	struct fault_stacks *s = &f->stacks;
	u8 *memory = meta_reserve("quire: stacks of faults", FAULT_STACKS * STRIDE);
	int err = memory ? 0 : -ENOMEM;

	for (u32 i = 0; i < FAULT_STACKS && !err; i++)
		err = os_mprotect(memory + i * STRIDE, GUARD_BYTES, PROT_NONE);
	if (err) {
		meta_unreserve(memory, FAULT_STACKS * STRIDE);
		return err;
	}
	s->memory = memory;
	atomic64_poke(&s->used, 0);
	fault_self_forget(f);
	return 0;
}

void fault_self_exit(struct fault *f)
{
	meta_unreserve(f->stacks.memory, FAULT_STACKS * STRIDE);
}

void fault_self_forget(struct fault *f)
{
	if (!f->stacks.memory)
		return;
	atomic64_store(&f->stacks.idle, (1ull << FAULT_STACKS) - 1);
	event_init(&f->stacks.freed);
	atomic32_store(&f->self_reads, 0);
}

/* ---- stacks ------------------------------------------------------------------ */

/* A certain one, or the first of mask; NULL: none of them is idle. */
static struct fault_stack *take_of(struct fault *f, u64 mask, u32 *ret_i)
{
	struct fault_stacks *s = &f->stacks;
	u64 idle;

	while ((idle = atomic64_load(&s->idle)) & mask) {
		u32 i = (u32)__builtin_ctzll(idle & mask);

		if (!atomic64_cas(&s->idle, idle, idle & ~(1ull << i)))
			continue;
		if (!(atomic64_peek(&s->used) & 1ull << i))
			atomic64_fetch_or(&s->used, 1ull << i);
		*ret_i = i;
		return stack_at(f, i);
	}
	return NULL;
}

static struct fault_stack *take_stack(struct fault *f, u32 *ret_i)
{
	for (;;) {
		u32 seq = event_seq(&f->stacks.freed);
		struct fault_stack *s = take_of(f, UINT64_MAX, ret_i);

		if (s)
			return s;
		stat_add(&f->nr_no_stack, 1);
		event_wait(&f->stacks.freed, seq, SYNC_FOREVER);
	}
}

static void put_stack(struct fault *f, u32 i)
{
	atomic64_fetch_or(&f->stacks.idle, 1ull << i);
	event_signal(&f->stacks.freed);
}

void fault_self_drain(struct fault *f)
{
	u64 used = f->stacks.memory ? atomic64_load(&f->stacks.used) : 0;
	u32 i;

	for (; used; used &= used - 1) {
		struct fault_stack *s = take_of(f, used & -used, &i);

		if (!s)
			continue;
		memcg_drain_stock(f->tree, &s->task.stock);
		put_stack(f, i);
	}
}

u64 fault_self_slots(const struct fault *f)
{
	u64 used = f->stacks.memory ? atomic64_peek(&f->stacks.used) : 0, nr = 0;

	for (; used; used &= used - 1)
		nr += stack_at(f, (u32)__builtin_ctzll(used))->task.slots.nr;
	return nr;
}

/* ---- one fault ----------------------------------------------------------------- */

/* A place to wait first: the answer may come at once. */
static enum fault_result hand_over(struct fault_stack *s)
{
	struct pager *pager = &s->f->mm->pager;
	struct fault_msg m = {
		.addr = s->addr,
		.tid = (u32)os_gettid(),
		.write = s->flags & FAULT_WRITE,
		.wp = s->flags & FAULT_WP,
	};

	s->wait = pager_signal_wait_begin(pager, s->addr);
	if (!s->wait)
		return FAULT_NO_MEMORY;
	if (pager_signal_post(pager, &m)) {
		stat_add(&s->f->nr_handed_over, 1);
		return FAULT_HAND_OVER;
	}
	pager_signal_wait_end(pager, s->wait);
	return FAULT_NO_MEMORY;
}

/*
 * kswapd is behind: help it with the second half, which is most of the work and takes no
 * descriptors.  What a group above is full of may be another's, and protected.
 */
static bool make_room(struct fault_stack *s, struct memcg_id over)
{
	struct fault *f = s->f;
	struct reclaim *r = f->reclaim;
	struct region region;
	u32 nr;

	if (!region_find(&f->mm->regions, s->addr, &region) ||
	    objcg_memcg(f->tree, region.objcg).v != over.v || memcg_margin(f->tree, over) ||
	    !gate_try_enter(r->gate))
		return false;
	nr = reclaim_pageout(r, &s->task, over, DIRECT_BATCH);
	memcg_stat_add(f->tree, region.objcg, MEMCG_STAT_PGSCAN_DIRECT, DIRECT_BATCH);
	memcg_stat_add(f->tree, region.objcg, MEMCG_STAT_PGSTEAL_DIRECT, nr);
	gate_leave(r->gate);
	return nr;
}

/* On the engine's stack.  The forking thread has to pass the closed gate; see serve.c. */
static void serve(void *arg)
{
	struct fault_stack *s = arg;
	struct fault *f = s->f;
	struct memcg_id over = { 0 };

	if (gate_try_enter(f->gate)) {
		s->result = fault_serve(f, &s->task, 0, s->addr, s->flags | FAULT_SELF, &over);
		if (s->result == FAULT_NO_MEMORY && make_room(s, over))
			s->result = fault_serve(f, &s->task, 0, s->addr, s->flags | FAULT_SELF,
						&over);
		gate_leave(f->gate);
	} else {
		s->result = atomic32_load(&f->forker) == (u32)os_gettid() ? FAULT_HAND_OVER :
									    FAULT_CLOSED;
	}
	if (s->result == FAULT_HAND_OVER || s->result == FAULT_NO_MEMORY)
		s->result = hand_over(s);
}

/* Is somebody at it who will wake those that wait?  Asked when this one counts as such. */
static bool in_motion(struct fault *f, u64 addr)
{
	struct pte *pte = page_table_find(&f->mm->ptes, addr);

	return mm_zapping(f->mm, addr) || (pte && pte_peek(pte) & PTE_IO);
}

static void wait_answer(struct fault *f, struct pager_wait *w, u64 mask)
{
	for (u32 n = 0; n < NR_LOOKS; n++) {
		u64 pending = 0;

		if (!pager_signal_wait(&f->mm->pager, w, LOOK_NS))
			break;
		os_sigpending(&pending);
		if (pending & ~mask)
			break;
	}
	pager_signal_wait_end(&f->mm->pager, w);
}

/* The thread is back on its own stack and holds nothing. */
static void wait_for_result(struct fault *f, u64 addr, enum fault_result res, struct pager_wait *w,
			    u64 mask)
{
	switch (res) {
	case FAULT_CLOSED:
		event_signal(f->knock); /* a forked child opens it with the first fault */
		gate_enter(f->gate);
		gate_leave(f->gate);
		return;
	case FAULT_IO: /* read, and there */
		return;
	case FAULT_NO_MEMORY: /* to wait in order */
		os_sleep_ns(RETRY_NS);
		return;
	case FAULT_DONE:
		if (likely(!in_motion(f, addr)))
			return;
		w = pager_signal_wait_begin(&f->mm->pager, addr);
		if (!w)
			return;
		if (in_motion(f, addr))
			break;
		pager_signal_wait_end(&f->mm->pager, w);
		return;
	default:
		break;
	}
	wait_answer(f, w, mask);
}

bool fault_self(struct fault *f, u64 addr, u32 flags, u64 mask)
{
	struct fault_stack *s;
	struct pager_wait *w;
	struct region region;
	enum fault_result res;
	u32 i;

	addr &= PAGE_MASK;
	if (!region_find(&f->mm->regions, addr, &region))
		return false;
	s = take_stack(f, &i);
	s->f = f;
	s->addr = addr;
	s->flags = flags;
	s->task.thread.name = "quire/self";
	s->task.window = (u8 *)s + TASK_BYTES;
	thread_call_on(&s->task.thread, s, serve, s);
	res = s->result;
	w = s->wait;
	put_stack(f, i);
	stat_add(&f->nr_self, 1);
	if (res == FAULT_LOST)
		return false;
	wait_for_result(f, addr, res, w, mask);
	return true;
}
