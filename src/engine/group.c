/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c - groups, their knobs, events and callbacks.
 *
 * Owns: the front door of groups and their knobs, eventfds, calls of application
 * code.  Does not own the end of a group (offline.c).  Application code runs on an
 * application thread that sits in engine_callback_loop(), with no lock held and a
 * time limit: reclaim goes on without an answer.
 */
#include <errno.h>
#include <string.h>

#include "engine/internal.h"

#include "base/os.h"

#define SHRINKER_WAIT_NS (50 * NSEC_PER_MSEC)
/* Other members have so long to take from their memory, each of sixteen times. */
#define OTHERS_NS (20 * NSEC_PER_MSEC)
/* A group is asked at most this often. */
#define SHRINKER_PAUSE_NS (100 * NSEC_PER_MSEC)

int engine_group_create(struct engine *e, struct memcg_id parent, const char *name,
			struct memcg_id *ret_id)
{
	struct request *rq;
	s64 err;
	size_t len = strlen(name);

	if (!engine_running(e))
		return memcg_create(e->tree, parent, name, ret_id);
	rq = request_get(e, REQ_GROUP_CREATE);
	rq->arg[0] = parent.v;
	/* Too long stays too long: memcg_create() refuses it. */
	memcpy(rq->name, name, min_of(len, sizeof(rq->name) - 1));
	rq->name[min_of(len, sizeof(rq->name) - 1)] = '\0';
	err = request_run(e, rq);
	if (!err)
		ret_id->v = (u32)rq->value;
	request_put(rq);
	return (int)err;
}

int engine_group_remove(struct engine *e, struct memcg_id id, enum engine_remove how)
{
	u64 arg[] = { id.v, how };
	s64 err;

	if (!engine_passive_begin(e))
		return (int)request_call(e, REQ_GROUP_REMOVE, arg, ARRAY_SIZE(arg), NULL);
	err = offline_group(e, id, how);
	offline_release(e);
	engine_passive_leave(e);
	return (int)err;
}

/* Is it one of ours, "<pid>" or "<pid>.N", and its process gone? */
static bool is_left_over(struct engine *e, struct memcg_id id)
{
	const char *name = memcg_name(e->tree, id);
	int pid = 0;

	for (; *name >= '0' && *name <= '9' && pid < INT32_MAX / 10 - 1; name++)
		pid = pid * 10 + *name - '0';
	return memcg_flag(e->tree, id, MEMCG_FLAG_OF_PROCESS) && os_kill(pid, 0) == -ESRCH;
}

/* What has groups below it or is in use stays; their numbers go to the home. */
static void remove_left_over(struct engine *e)
{
	struct memcg_id home = engine_home(e), id = home;

	while ((id = memcg_next(e->tree, home, id)).v) {
		if (memcg_parent(e->tree, id).v != home.v || !is_left_over(e, id) ||
		    engine_group_remove(e, id, ENGINE_REMOVE_EMPTY))
			continue;
		id = home; /* the walk's place is gone: begin again */
	}
}

int engine_own_group(struct engine *e, struct memcg_id *ret_id)
{
	char name[MEMCG_NAME_MAX];
	int err;

	remove_left_over(e);
	fmt_str(name, sizeof(name), "%d", os_getpid());
	err = engine_group_create(e, engine_home(e), name, ret_id);
	for (u32 n = 2; err == -EEXIST && n < 10000; n++) {
		fmt_str(name, sizeof(name), "%d.%u", os_getpid(), n);
		err = engine_group_create(e, engine_home(e), name, ret_id);
	}
	if (!err)
		memcg_set_flag(e->tree, *ret_id, MEMCG_FLAG_OF_PROCESS, true);
	return err;
}

/* ---- knobs ----------------------------------------------------------------------- */

/* Its text, as much as fits and a terminating zero; the request ends. */
static int run_for_text(struct engine *e, struct request *rq, char *out, size_t size,
			size_t *ret_len)
{
	s64 err = request_run(e, rq);

	if (!err && size) {
		size_t n = min_of((size_t)rq->text_len, size - 1);

		memcpy(out, rq->text, n);
		out[n] = '\0';
	}
	if (!err)
		*ret_len = rq->text_len;
	request_put(rq);
	return (int)err;
}

int engine_knob_read(struct engine *e, struct memcg_id id, const char *name, char *out, size_t size,
		     size_t *ret_len)
{
	struct request *rq;
	struct fmt text;
	int err;

	if (!engine_running(e)) {
		fmt_init(&text, out, size);
		err = knob_read(e->tree, id, name, &text);
		*ret_len = text.len;
		return err;
	}
	rq = request_get(e, REQ_KNOB_READ);
	rq->arg[0] = id.v;
	fmt_str(rq->name, sizeof(rq->name), "%s", name);
	return run_for_text(e, rq, out, size, ret_len);
}

int engine_read_text(struct engine *e, char *out, size_t size, size_t *ret_len)
{
	struct fmt text;

	if (engine_running(e))
		return run_for_text(e, request_get(e, REQ_TO_TEXT), out, size, ret_len);
	fmt_init(&text, out, size);
	engine_to_text(e, &text);
	*ret_len = text.len;
	return 0;
}

int engine_knob_write(struct engine *e, struct memcg_id id, const char *name, const char *text,
		      size_t len)
{
	struct request *rq;
	s64 err;

	if (len >= REQUEST_TEXT)
		return -EINVAL;
	if (!engine_running(e)) {
		err = knob_write(e->tree, id, name, text, len);
		return err ? (int)err : engine_start_if_needed(e);
	}
	rq = request_get(e, REQ_KNOB_WRITE);
	rq->arg[0] = id.v;
	fmt_str(rq->name, sizeof(rq->name), "%s", name);
	memcpy(rq->text, text, len);
	rq->text_len = len;
	err = request_run(e, rq);
	request_put(rq);
	return (int)err;
}

/* ---- events ------------------------------------------------------------------------ */

/* Upcall of memcg/: post only. */
static void on_event(void *ctx, struct memcg_id id, enum memcg_event ev)
{
	struct engine *e = ctx;
	bool any = false;

	for (u32 i = 0; i < NR_WATCHES; i++) {
		struct watch *w = &e->watch[i];

		if (!w->memcg || !(w->mask & 1u << ev) ||
		    !memcg_is_descendant(e->tree, id, (struct memcg_id){ w->memcg }))
			continue;
		atomic32_store(&w->pending, 1);
		any = true;
	}
	if (any)
		event_signal(&e->fault.timer_wake);
}

void group_deliver_events(struct engine *e)
{
	const u64 one = 1;

	for (u32 i = 0; i < NR_WATCHES; i++)
		if (atomic32_peek(&e->watch[i].pending) && atomic32_xchg(&e->watch[i].pending, 0))
			(void)os_write(e->watch[i].fd, &one, sizeof(one));
}

s64 group_watch_add(struct engine *e, struct memcg_id id, u32 mask, int fd, u64 *ret_watch)
{
	int ours = os_program_fd(fd);

	if (ours < 0)
		return ours;
	for (u32 i = 0; i < NR_WATCHES; i++) {
		struct watch *w = &e->watch[i];

		if (w->memcg)
			continue;
		w->fd = ours;
		w->mask = mask;
		w->memcg = id.v;
		*ret_watch = i + 1;
		return 0;
	}
	os_close(ours);
	return -ENOSPC;
}

s64 group_watch_del(struct engine *e, u32 n)
{
	struct watch *w = &e->watch[n - 1];

	if (!n || n > NR_WATCHES || !w->memcg)
		return -ENOENT;
	w->memcg = 0;
	atomic32_store(&w->pending, 0);
	return os_close(w->fd);
}

int engine_add_event(struct engine *e, struct memcg_id id, u32 mask, int eventfd, u32 *ret_watch)
{
	u64 arg[] = { id.v, mask, (u64)eventfd }, watch;
	int err = engine_start(e);

	if (!err)
		err = (int)request_call(e, REQ_WATCH_ADD, arg, ARRAY_SIZE(arg), &watch);
	if (!err)
		*ret_watch = (u32)watch;
	return err;
}

int engine_del_event(struct engine *e, u32 watch)
{
	u64 arg = watch;

	return engine_running(e) ? (int)request_call(e, REQ_WATCH_DEL, &arg, 1, NULL) : -ENOENT;
}

/* ---- callbacks ----------------------------------------------------------------------- */

static int set_callback(struct engine *e, struct memcg_id id, engine_shrinker_fn shrinker,
			engine_oom_fn oom, void *arg)
{
	bool is_oom = !shrinker;

	for (u32 i = 0; i < NR_CALLBACKS; i++) {
		struct callback *cb = &e->callback[i];

		if (cb->memcg && (cb->memcg != id.v || cb->is_oom != is_oom))
			continue;
		cb->shrinker = shrinker;
		cb->oom = oom;
		cb->arg = arg;
		cb->is_oom = is_oom;
		cb->memcg = id.v;
		return 0;
	}
	return -ENOSPC;
}

static int clear_callback(struct engine *e, struct memcg_id id, bool is_oom)
{
	for (u32 i = 0; i < NR_CALLBACKS; i++) {
		struct callback *cb = &e->callback[i];

		if (cb->memcg != id.v || cb->is_oom != is_oom)
			continue;
		cb->memcg = 0;
		return 0;
	}
	return -ENOENT;
}

int engine_set_shrinker(struct engine *e, struct memcg_id id, engine_shrinker_fn fn, void *arg)
{
	return fn ? set_callback(e, id, fn, NULL, arg) : clear_callback(e, id, false);
}

int engine_set_oom(struct engine *e, struct memcg_id id, engine_oom_fn fn, void *arg)
{
	return fn ? set_callback(e, id, NULL, fn, arg) : clear_callback(e, id, true);
}

void engine_callback_loop(struct engine *e)
{
	while (!atomic32_load(&e->callback_stop)) {
		u32 seq = event_seq(&e->callback_event);

		for (u32 i = 0; i < NR_CALLBACKS; i++) {
			struct callback *cb = &e->callback[i];

			if (!cb->memcg || atomic32_load(&cb->state) != REQUEST_POSTED)
				continue;
			if (cb->is_oom)
				cb->bytes = cb->oom(cb->arg, (struct memcg_id){ cb->memcg });
			else
				cb->bytes = cb->shrinker(cb->arg, cb->bytes);
			atomic32_store(&cb->state, REQUEST_DONE);
			futex_wake(&cb->state, UINT32_MAX, false);
		}
		event_wait(&e->callback_event, seq, NSEC_PER_SEC);
	}
}

void engine_callback_stop(struct engine *e)
{
	atomic32_store(&e->callback_stop, 1);
	event_signal(&e->callback_event);
}

u64 group_call_out(struct engine *e, struct callback *cb, u64 bytes, u64 limit_ns)
{
	u64 deadline = os_now_ns() + limit_ns;

	if (atomic32_load(&cb->state) == REQUEST_POSTED)
		return 0; /* still busy with the last one */
	cb->bytes = bytes;
	cb->asked_ns = os_now_ns();
	atomic32_store(&cb->state, REQUEST_POSTED);
	event_signal(&e->callback_event);
	while (atomic32_load(&cb->state) == REQUEST_POSTED) {
		u64 now = os_now_ns();

		if (now >= deadline)
			return 0;
		futex_wait(&cb->state, REQUEST_POSTED, deadline - now, false);
	}
	return cb->bytes;
}

u64 group_ask_first(void *ctx, struct memcg_id id, u64 bytes)
{
	struct engine *e = ctx;
	u64 now = os_now_ns(), got = 0;

	atomic32_store(&e->purge, 1); /* malloc's unused dirty pages */
	for (u32 i = 0; i < NR_CALLBACKS; i++) {
		struct callback *cb = &e->callback[i];

		if (!cb->memcg || cb->is_oom || now - cb->asked_ns < SHRINKER_PAUSE_NS ||
		    !memcg_is_descendant(e->tree, (struct memcg_id){ cb->memcg }, id))
			continue;
		got += group_call_out(e, cb, bytes, SHRINKER_WAIT_NS);
	}
	return got;
}

/* A limit was lowered, or memory.reclaim written to: ours, then what others have. */
static u64 reclaim_upcall(void *ctx, struct memcg_id id, u64 nr_pages, bool may_swap)
{
	struct engine *e = ctx;
	struct scan_control sc = {
		.target = id,
		.nr_to_reclaim = nr_pages,
		.who = RECLAIM_PROACTIVE,
		.may_swap = may_swap,
	};
	u64 before = memcg_usage(e->tree, id, COUNTER_MEMORY), after;
	struct member_share share;

	if (engine_running(e)) {
		gate_enter(&e->reclaim_gate);
		reclaim_memcg(&e->reclaim, &e->request_task, &sc);
		gate_leave(&e->reclaim_gate);
	}
	share = member_share(e->tree, id);
	if (sc.nr_reclaimed || share.all <= share.mine)
		return sc.nr_reclaimed;
	member_ring_others(e->tree, id);
	os_sleep_ns(OTHERS_NS);
	after = memcg_usage(e->tree, id, COUNTER_MEMORY);
	return before > after ? before - after : 0;
}

static void on_pressure(void *ctx, struct memcg_id id)
{
	struct engine *e = ctx;

	(void)id;
	kswapd_wake(&e->reclaim);
}

void group_set_upcalls(struct engine *e)
{
	struct memcg_upcalls up = {
		.reclaim = reclaim_upcall,
		.oom = group_oom,
		.event = on_event,
		.pressure = on_pressure,
		.reparent = offline_reparent,
		.ctx = e,
	};

	memcg_tree_set_upcalls(e->tree, &up);
}
