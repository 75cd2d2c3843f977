/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defer.c - faults that wait: for memory, or for their time.
 *
 * A fault thread queues what it cannot charge and goes on; reclaim tries the
 * queue again after each round (fault_retry_waiting()).  A throttled fault is
 * mapped already and only its wake-up is late.
 * Lock rank: LEAF (wait_lock), nothing is called under it.
 */

#include "base/os.h"
#include "fault/internal.h"

static struct ilist_in waiting_in(struct fault *f)
{
	return (struct ilist_in){ &f->waiting, offsetof(struct waiting_fault, node) };
}

static struct waiting_fault *waiting_at(struct fault *f, u32 i)
{
	return xtable_at(&f->waiting, i);
}

static void queue_fault(struct fault *f, struct ilist *list, const struct waiting_fault *w)
{
	u32 i = xtable_alloc(&f->waiting, XTABLE_MAY_GROW);

	/* One entry a thread of the program: more threads than that do not exist. */
	if (!i)
		f->fatal(f->fatal_ctx, "too many faults wait for memory");
	*waiting_at(f, i) = *w;
	mutex_lock(&f->wait_lock);
	ilist_add_tail(list, waiting_in(f), i);
	mutex_unlock(&f->wait_lock);
}

void fault_defer(struct fault *f, u32 queue, u64 addr, u32 flags, struct memcg_id over)
{
	struct waiting_fault w = {
		.addr = addr,
		.since_ns = os_now_ns(),
		.queue = queue,
		.memcg = over.v,
		.flags = flags,
	};

	stat_add(&f->nr_deferred, 1);
	queue_fault(f, &f->wait_memory, &w);
	kswapd_wake(f->reclaim);
}

void fault_wake_later(struct fault *f, u32 queue, u64 addr, u64 delay_ns)
{
	struct waiting_fault w = {
		.addr = addr,
		.since_ns = os_now_ns(),
		.due_ns = os_now_ns() + delay_ns,
		.queue = queue,
	};

	queue_fault(f, &f->wait_timer, &w);
	event_signal(&f->timer_wake);
}

/* The first entry of a list; false when empty. */
static bool pop(struct fault *f, struct ilist *list, struct waiting_fault *ret)
{
	u32 i;

	mutex_lock(&f->wait_lock);
	i = list->head;
	if (i) {
		*ret = *waiting_at(f, i);
		ilist_del(list, waiting_in(f), i);
	}
	mutex_unlock(&f->wait_lock);
	if (i)
		xtable_free(&f->waiting, i);
	return i;
}

void fault_retry_waiting(struct fault *f, struct task *t)
{
	u32 nr = ilist_peek_nr(&f->wait_memory); /* each at most once a pass */
	struct waiting_fault w;
	struct memcg_id over = { 0 };
	u32 full = 0;

	if (!nr)
		return;
	gate_enter(f->gate);
	while (nr-- && pop(f, &f->wait_memory, &w)) {
		struct region region;

		/* The same limit would refuse it: next round.  Those of other groups are
		 * not to wait for this one, which may stay full. */
		if (full && w.memcg == full) {
			queue_fault(f, &f->wait_memory, &w);
			continue;
		}
		if (fault_serve(f, t, w.queue, w.addr, w.flags, &over) == FAULT_NO_MEMORY) {
			w.memcg = full = over.v;
			queue_fault(f, &f->wait_memory, &w);
			continue;
		}
		if (region_find(&f->mm->regions, w.addr, &region))
			memcg_stat_add(f->tree, region.objcg, MEMCG_STAT_STALL_NS,
				       (s64)(os_now_ns() - w.since_ns));
	}
	memcg_drain_stock(f->tree, &t->stock);
	gate_leave(f->gate);
}

void fault_force_waiting(struct fault *f, struct task *t)
{
	struct waiting_fault w;
	struct memcg_id over;

	gate_enter(f->gate);
	if (pop(f, &f->wait_memory, &w) &&
	    fault_serve(f, t, w.queue, w.addr, w.flags | FAULT_FORCE, &over) == FAULT_NO_MEMORY)
		queue_fault(f, &f->wait_memory, &w);
	memcg_drain_stock(f->tree, &t->stock);
	gate_leave(f->gate);
}

u32 fault_nr_waiting(struct fault *f, struct memcg_id root, u64 before_ns)
{
	u32 nr = 0;

	mutex_lock(&f->wait_lock);
	for (u32 i = f->wait_memory.head; i; i = waiting_at(f, i)->node.next) {
		const struct waiting_fault *w = waiting_at(f, i);

		nr += w->since_ns <= before_ns &&
		      memcg_is_descendant(f->tree, (struct memcg_id){ w->memcg }, root);
	}
	mutex_unlock(&f->wait_lock);
	return nr;
}

void fault_reparent_waiting(struct fault *f, struct memcg_id child, struct memcg_id parent)
{
	mutex_lock(&f->wait_lock);
	for (u32 i = f->wait_memory.head; i; i = waiting_at(f, i)->node.next)
		if (waiting_at(f, i)->memcg == child.v)
			waiting_at(f, i)->memcg = parent.v;
	mutex_unlock(&f->wait_lock);
}

/*
 * The pte says it too: in signal mode a touch asks that one, and what the slot holds
 * nobody will ever see.  False: not now.
 */
static bool poison_one(struct fault *f, const struct waiting_fault *w)
{
	struct pager *pager = &f->mm->pager;
	struct pte *pte = page_table_get(&f->mm->ptes, w->addr);
	enum pte_type type;

	if (!pte || pte_lock_fault(pte))
		return false;
	type = pte_type(pte);
	if (type == PTE_PRESENT || mm_zapping(f->mm, w->addr) ||
	    pager->ops->poison(pager, w->queue, w->addr) < 0) {
		pte_unlock(pte);
		return false;
	}
	if (type == PTE_SWAP)
		slot_drop(f->swap, NULL, (struct slot_id){ pte_index(pte) });
	pte_unlock_to(pte, PTE_POISONED, 0);
	pager->ops->wake(pager, w->queue, w->addr, PAGE_SIZE);
	return true;
}

u32 fault_poison_waiting(struct fault *f, struct memcg_id root)
{
	struct waiting_fault w;
	u32 nr = ilist_peek_nr(&f->wait_memory), poisoned = 0;

	gate_enter(f->gate);
	while (nr-- && pop(f, &f->wait_memory, &w)) {
		if (memcg_is_descendant(f->tree, (struct memcg_id){ w.memcg }, root) &&
		    poison_one(f, &w))
			poisoned++;
		else
			queue_fault(f, &f->wait_memory, &w);
	}
	gate_leave(f->gate);
	return poisoned;
}

/* A due entry, unlinked; else the time of the next in *ret_next. */
static bool pop_due(struct fault *f, u64 now_ns, struct waiting_fault *ret, u64 *ret_next)
{
	u32 due = 0;

	*ret_next = SYNC_FOREVER;
	mutex_lock(&f->wait_lock);
	for (u32 i = f->wait_timer.head; i && !due; i = waiting_at(f, i)->node.next) {
		u64 at = waiting_at(f, i)->due_ns;

		if (at <= now_ns)
			due = i;
		else if (at - now_ns < *ret_next)
			*ret_next = at - now_ns;
	}
	if (due) {
		*ret = *waiting_at(f, due);
		ilist_del(&f->wait_timer, waiting_in(f), due);
	}
	mutex_unlock(&f->wait_lock);
	if (due)
		xtable_free(&f->waiting, due);
	return due;
}

u64 fault_run_timers(struct fault *f, u64 now_ns)
{
	struct waiting_fault w;
	u64 next;

	while (pop_due(f, now_ns, &w, &next))
		f->mm->pager.ops->wake(&f->mm->pager, w.queue, w.addr, PAGE_SIZE);
	return next;
}

u64 fault_oldest_ns(struct fault *f, u64 now_ns, u64 *ret_addr)
{
	u64 oldest = store_in_oldest_ns(f, now_ns, ret_addr);

	mutex_lock(&f->wait_lock);
	for (u32 i = f->wait_memory.head; i; i = waiting_at(f, i)->node.next) {
		struct waiting_fault *w = waiting_at(f, i);

		if (now_ns > w->since_ns && now_ns - w->since_ns > oldest) {
			oldest = now_ns - w->since_ns;
			*ret_addr = w->addr;
		}
	}
	mutex_unlock(&f->wait_lock);
	return oldest;
}
