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
#include <signal.h>
#include <string.h>

#include "engine/internal.h"

#include "base/os.h"
#include "base/probe.h"

#define SHRINKER_WAIT_NS (50 * NSEC_PER_MSEC)
#define OOM_WAIT_NS (1000 * NSEC_PER_MSEC)
/* So many milliseconds a killed process has to end before another is chosen. */
#define OOM_REAP_TRIES 2000u
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

/* ---- knobs ----------------------------------------------------------------------- */

int engine_knob_read(struct engine *e, struct memcg_id id, const char *name, char *out, size_t size,
		     size_t *ret_len)
{
	struct request *rq;
	struct fmt text;
	s64 err;

	if (!engine_running(e)) {
		fmt_init(&text, out, size);
		err = knob_read(e->tree, id, name, &text);
		*ret_len = text.len;
		return (int)err;
	}
	rq = request_get(e, REQ_KNOB_READ);
	rq->arg[0] = id.v;
	fmt_str(rq->name, sizeof(rq->name), "%s", name);
	err = request_run(e, rq);
	if (!err) {
		size_t n = min_of((size_t)rq->text_len, size ? size - 1 : 0);

		memcpy(out, rq->text, n);
		if (size)
			out[n] = '\0';
		*ret_len = rq->text_len;
	}
	request_put(rq);
	return (int)err;
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

/* Ask one callback; what it returned, 0 when it did not answer in time. */
static u64 call_out(struct engine *e, struct callback *cb, u64 bytes, u64 limit_ns)
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
		got += call_out(e, cb, bytes, SHRINKER_WAIT_NS);
	}
	return got;
}

/* The callback of the group or of its nearest ancestor that has one. */
static struct callback *oom_callback(struct engine *e, struct memcg_id id)
{
	for (; id.v; id = memcg_parent(e->tree, id))
		for (u32 i = 0; i < NR_CALLBACKS; i++)
			if (e->callback[i].memcg == id.v && e->callback[i].is_oom)
				return &e->callback[i];
	return NULL;
}

/* Say who and why. */
static void say_killed(struct engine *e, struct memcg_id id, int pid)
{
	char text[300], path[128];
	struct fmt p;

	fmt_init(&p, path, sizeof(path));
	memcg_path(e->tree, id, &p);
	fmt_str(text, sizeof(text),
		"quire: out of memory in group %s: process %d killed: usage %llu KiB, max %llu KiB, "
		"swap %llu KiB: raise --max, or see --swap-max and the store's free space\n",
		path, pid, (unsigned long long)memcg_usage(e->tree, id, COUNTER_MEMORY) << 2,
		(unsigned long long)memcg_limit(e->tree, id, COUNTER_MEMORY) << 2,
		(unsigned long long)memcg_usage(e->tree, id, COUNTER_SWAP) << 2);
	member_last_words(e->tree, pid, "killed: out of memory in %s", path);
	os_message(text);
}

/*
 * quire run: the process with most memory goes, ours or another; its charges come back
 * when its record is closed.
 */
static bool kill_largest(struct engine *e, struct memcg_id id)
{
	int pid = member_largest(e->tree, id);

	if (pid <= 1)
		pid = os_getpid();
	say_killed(e, id, pid);
	member_kill(e->tree, pid);
	while (pid == os_getpid())
		os_sleep_ns(NSEC_PER_SEC);
	for (u32 n = 0; n < OOM_REAP_TRIES && !memcg_margin(e->tree, id); n++) {
		os_sleep_ns(NSEC_PER_MSEC);
		(void)member_reap(e->tree);
	}
	return true;
}

bool group_oom(void *ctx, struct memcg_id id)
{
	struct engine *e = ctx;
	struct callback *cb = oom_callback(e, id);

	/* Somebody has ended, and what it had is free. */
	if (member_reap(e->tree) && memcg_margin(e->tree, id))
		return true;
	PROBE_OOM(id.v, memcg_usage(e->tree, id, COUNTER_MEMORY));
	memcg_count_event(e->tree, id, MEMCG_OOM);
	if (cb && call_out(e, cb, 0, OOM_WAIT_NS))
		return true;
	memcg_count_event(e->tree, id, MEMCG_OOM_KILL);
	if (e->flags & ENGINE_COUNT_UNMANAGED)
		return kill_largest(e, id);
	/* A library does not kill its host: the threads that wait for memory of this
	 * group get SIGBUS, the others live. */
	return fault_poison_waiting(&e->fault, id) > 0;
}

static u64 reclaim_upcall(void *ctx, struct memcg_id id, u64 nr_pages, bool may_swap)
{
	struct engine *e = ctx;
	struct scan_control sc = {
		.target = id,
		.nr_to_reclaim = nr_pages,
		.who = RECLAIM_PROACTIVE,
		.may_swap = may_swap,
	};

	if (!engine_running(e))
		return 0;
	gate_enter(&e->reclaim_gate);
	reclaim_memcg(&e->reclaim, &e->request_task, &sc);
	gate_leave(&e->reclaim_gate);
	return sc.nr_reclaimed;
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
