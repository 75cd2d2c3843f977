/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - work handed from application threads to the request thread.
 *
 * An application thread's stack, arguments and results may be managed memory,
 * so it holds no engine lock and the engine reads nothing of it: arguments are
 * copied into a request in engine memory, the caller sleeps on its state word.
 *
 *   FREE -> CLAIMED -> POSTED (caller) -> DONE (request thread) -> FREE (caller)
 *
 * A caller that never came back (longjmp out of a signal handler, pthread_cancel)
 * would leak one of NR_REQUESTS slots: signals wait, as they do in the kernel's
 * mmap(2).  Between freeze and thaw (fork) only the forking thread's requests are
 * served.
 */
#include <errno.h>
#include <string.h>

#include "engine/internal.h"

#include "base/os.h"

static bool is_fork_op(u32 op)
{
	return op == REQ_FREEZE_FAULTS || op == REQ_THAW || op == REQ_CHILD;
}

struct request *request_get(struct engine *e, enum request_op op)
{
	/* The last slot is for the thread that has frozen the others: those may hold
	 * all the rest until it has thawed them. */
	u32 nr = is_fork_op(op) ? NR_REQUESTS : NR_REQUESTS - 1;
	u64 mask = 0;

	os_sigprocmask_async(&mask);
	for (;;) {
		for (u32 i = 0; i < nr; i++) {
			struct request *rq = &e->request[i];

			if (atomic32_peek(&rq->state) != REQUEST_FREE ||
			    !atomic32_cas(&rq->state, REQUEST_FREE, REQUEST_CLAIMED))
				continue;
			rq->op = op;
			memset(rq->arg, 0, sizeof(rq->arg));
			rq->text = e->request_text + (size_t)i * REQUEST_TEXT;
			rq->text_len = 0;
			rq->value = 0;
			rq->signal_mask = mask;
			return rq;
		}
		os_sched_yield();
	}
}

s64 request_run(struct engine *e, struct request *rq)
{
	atomic32_poke(&e->request_cpu, (u32)os_cpu());
	atomic32_store(&rq->state, REQUEST_POSTED);
	event_signal(&e->request_event);
	while (atomic32_load(&rq->state) == REQUEST_POSTED)
		futex_wait(&rq->state, REQUEST_POSTED, SYNC_FOREVER, false);
	return rq->result;
}

void request_put(struct request *rq)
{
	u64 mask = rq->signal_mask;

	atomic32_store(&rq->state, REQUEST_FREE);
	os_sigprocmask_set(&mask);
}

s64 request_call(struct engine *e, enum request_op op, const u64 *arg, u32 nr_args, u64 *ret_value)
{
	struct request *rq = request_get(e, op);
	s64 result;

	if (nr_args)
		memcpy(rq->arg, arg, nr_args * sizeof(*arg));
	result = request_run(e, rq);
	if (ret_value)
		*ret_value = rq->value;
	request_put(rq);
	return result;
}

/* One pass over the slots; true if anything was done. */
static bool serve_posted(struct engine *e)
{
	bool any = false;

	for (u32 i = 0; i < NR_REQUESTS; i++) {
		struct request *rq = &e->request[i];

		if (atomic32_load(&rq->state) != REQUEST_POSTED)
			continue;
		if (atomic32_peek(&e->frozen) && !is_fork_op(rq->op))
			continue;
		request_serve(e, rq);
		stat_add(&e->nr_requests, 1);
		atomic32_store(&rq->state, REQUEST_DONE);
		futex_wake(&rq->state, 1, false);
		any = true;
	}
	return any;
}

void request_main(struct thread *self)
{
	struct engine *e = self->arg;

	for (;;) {
		u32 seq = event_seq(&e->request_event);

		if (serve_posted(e))
			continue;
		/* Between the two halves of a fork we have closed the gates ourselves. */
		if (atomic32_peek(&e->frozen)) {
			if (atomic32_load(&e->reclaim.stop))
				return;
			event_wait(&e->request_event, seq,
				   e->unsettled ? FORK_SETTLE_NS : NSEC_PER_SEC);
			if (e->unsettled)
				fork_settle(e);
			continue;
		}
		/* Whoever waits for a request, or has just been woken, comes first. */
		if (e->nr_doomed) {
			if (event_wait(&e->request_event, seq, DISCARD_PAUSE_NS) == -ETIMEDOUT)
				offline_discard_step(e);
			continue;
		}
		if (atomic32_load(&e->reclaim.stop))
			return;
		if (!memcg_nr_unreleased(e->tree))
			event_wait(&e->request_event, seq, NSEC_PER_SEC);
		else if (event_wait(&e->request_event, seq, RELEASE_DELAY_NS) == -ETIMEDOUT)
			offline_release(e);
	}
}

static s64 serve_aspace(struct engine *e, struct request *rq)
{
	u64 *a = rq->arg;

	switch (rq->op) {
	case REQ_MMAP:
		return aspace_mmap(e, (struct memcg_id){ (u32)a[0] }, a[1], a[2], (int)a[3],
				   (int)a[4], &rq->value);
	case REQ_ADOPT:
		return aspace_adopt(e, (struct memcg_id){ (u32)a[0] }, a[1], a[2]);
	case REQ_MUNMAP:
		return aspace_munmap(e, a[0], a[1]);
	case REQ_MREMAP:
		return aspace_mremap(e, a[0], a[1], a[2], (int)a[3], a[4], &rq->value);
	case REQ_RELEASE:
		return aspace_release(e, a[0], a[1]);
	case REQ_ADVISE:
		return aspace_advise(e, a[0], a[1], (int)a[2]);
	case REQ_LOCK:
		return aspace_lock(e, a[0], a[1], (int)a[2]);
	case REQ_UNLOCK:
		return aspace_unlock(e, a[0], a[1], (int)a[2]);
	case REQ_PIN:
	case REQ_UNPIN:
		return aspace_pin(e, a[0], a[1], rq->op == REQ_PIN);
	case REQ_ASSIGN:
		return assign_region(e, (struct memcg_id){ (u32)a[0] }, a[1], a[2], &rq->value);
	case REQ_ASSIGN_ALL:
		return assign_all(e, (struct memcg_id){ (u32)a[0] }, &rq->value);
	default:
		return -ENOSYS;
	}
}

static s64 serve_text(struct engine *e, struct request *rq)
{
	struct memcg_id id = { (u32)rq->arg[0] };
	struct fmt out;
	int err = 0;

	if (rq->op == REQ_KNOB_WRITE)
		return knob_write(e->tree, id, rq->name, rq->text, rq->text_len);
	fmt_init(&out, rq->text, REQUEST_TEXT);
	if (rq->op == REQ_TO_TEXT)
		engine_to_text(e, &out);
	else
		err = knob_read(e->tree, id, rq->name, &out);
	rq->text_len = min_of(out.len, (size_t)REQUEST_TEXT - 1);
	return err;
}

static s64 serve_group(struct engine *e, struct request *rq)
{
	struct memcg_id id = { (u32)rq->arg[0] }, made;
	int err;

	switch (rq->op) {
	case REQ_GROUP_CREATE:
		err = memcg_create(e->tree, id, rq->name, &made);
		if (!err)
			rq->value = made.v;
		return err;
	case REQ_GROUP_REMOVE:
		return offline_group(e, id, (enum engine_remove)rq->arg[1]);
	case REQ_WATCH_ADD:
		return group_watch_add(e, id, (u32)rq->arg[1], (int)rq->arg[2], &rq->value);
	case REQ_WATCH_DEL:
		return group_watch_del(e, (u32)rq->arg[0]);
	default:
		return serve_text(e, rq);
	}
}

static s64 serve_fork(struct engine *e, struct request *rq)
{
	switch (rq->op) {
	case REQ_FREEZE_RECLAIM:
		/* The child has no mappings there, and would have the ptes. */
		offline_finish(e, 0, UINT64_MAX);
		gate_close(&e->reclaim_gate);
		atomic32_store(&e->frozen, 1);
		return 0;
	case REQ_FREEZE_FAULTS:
		return fork_freeze_faults(e, rq);
	case REQ_THAW:
		return fork_thaw(e);
	case REQ_FORK_FAILED:
		memcg_tree_fork_failed(e->tree, (u32)rq->arg[0]);
		return 0;
	default:
		return fork_child_restart(e);
	}
}

static s64 serve_start(struct engine *e)
{
	int err = member_set_quiet(e->tree, false);

	/* From here on we count ourselves. */
	member_set_passive(e->tree, 0);
	memcg_set_overhead(e->tree, e->home_objcg, MEMCG_STAT_UNMANAGED, 0);
	if (!err)
		err = engine_open_all(e, -1);
	if (!err)
		err = engine_start_threads(e);
	if (!err)
		err = engine_adopt_all(e);
	if (err)
		member_set_passive(e->tree, max_of(atomic64_peek(&e->mm.regions.bytes), 1));
	return err;
}

void request_serve(struct engine *e, struct request *rq)
{
	if (rq->op == REQ_START)
		rq->result = serve_start(e);
	else if (rq->op == REQ_OPEN_STORE)
		rq->result = e->reclaim.ops.open_store(e);
	else if (rq->op < REQ_GROUP_CREATE)
		rq->result = serve_aspace(e, rq);
	else if (rq->op < REQ_FREEZE_RECLAIM)
		rq->result = serve_group(e, rq);
	else if (rq->op < REQ_CHECK)
		rq->result = serve_fork(e, rq);
	else if (rq->op == REQ_CHECK)
		rq->result = check_running(e);
	else {
		offline_finish(e, 0, UINT64_MAX);
		offline_release(e);
		engine_close_all(e);
	}
}
