/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.c - <quire/event.h>: watches, and the callbacks with their thread.
 *
 * Owns the callbacks of each group and the one thread per tree that runs them.
 * The engine calls two trampolines, on that thread; which function they run is
 * decided here, so that replacing a callback needs no answer from a busy
 * thread.  Replacing: take the old function away, wait until it is not running,
 * put the new one.  Running: announce, then look; both with full barriers, so
 * one of the two sees the other.
 *
 * See also: engine/engine.h (engine_callback_loop), api/heap.c (heaps_purge).
 */
#include <errno.h>

#include "api/api.h"
#include "api/host.h"
#include "base/os.h"

/* quire_event is memcg_event as a mask. */
_Static_assert(QUIRE_EVENT_LOW == 1 << MEMCG_LOW, "event order");
_Static_assert(QUIRE_EVENT_OOM == 1 << MEMCG_OOM, "event order");
_Static_assert(QUIRE_EVENT_SWAP_FAIL == 1 << MEMCG_SWAP_FAIL, "event order");

#define EVENT_MASK ((1u << MEMCG_NR_EVENTS) - 1)

int quire_watch(struct quire_group *g, unsigned int mask, int eventfd, unsigned int *ret_watch)
{
	u32 watch;
	int err = group_check(g);

	if (err < 0)
		return err;
	if (!mask || mask & ~EVENT_MASK || !ret_watch)
		return why(-EINVAL, "quire_watch: no or unknown events in 0x%x", mask);
	if (eventfd < 0)
		return why(-EBADF, "quire_watch: %d is not an eventfd", eventfd);
	err = engine_add_event(g->q->e, g->id, mask, eventfd, &watch);
	if (err < 0)
		return why_engine(g->q, err, "quire_watch");
	*ret_watch = watch;
	return 0;
}

int quire_unwatch(struct quire *q, unsigned int watch)
{
	int err = engine_del_event(q->e, watch);

	return err < 0 ? why(err, "quire_unwatch: there is no watch %u", watch) : 0;
}

/* ---- the thread ---------------------------------------------------------------- */

static void callback_thread(void *arg)
{
	struct quire *q = arg;

	engine_callback_loop(q->e);
	/* Last: q is gone as soon as this is seen. */
	atomic32_store(&q->callback_thread, CALLBACKS_ENDED);
	futex_wake(&q->callback_thread, UINT32_MAX, false);
}

int event_start_thread(struct quire *q)
{
	int err;

	if (!atomic32_cas(&q->callback_thread, CALLBACKS_NONE, CALLBACKS_STARTING))
		return 0;
	err = host_thread_start(callback_thread, q);
	atomic32_store(&q->callback_thread, err < 0 ? CALLBACKS_NONE : CALLBACKS_RUN);
	if (err < 0)
		return why(err, err == -ENOSYS ? "callbacks need a program with pthread_create" :
						 "no thread could be made for callbacks");
	return 0;
}

void event_stop_thread(struct quire *q)
{
	if (atomic32_load(&q->callback_thread) == CALLBACKS_NONE)
		return;
	engine_callback_stop(q->e);
	while (atomic32_load(&q->callback_thread) == CALLBACKS_RUN)
		futex_wait(&q->callback_thread, CALLBACKS_RUN, SYNC_FOREVER, false);
}

/* Whoever ran a callback at the fork does not exist here. */
static void forget_runners(struct quire *q)
{
	for (u32 i = 0; i < GROUP_CHUNKS; i++) {
		struct quire_group *chunk = (void *)(uintptr_t)atomic64_load(&q->groups[i]);

		for (u32 j = 0; chunk && j < GROUP_CHUNK; j++) {
			if (atomic32_peek(&chunk[j].shrinker.runner))
				atomic32_poke(&chunk[j].shrinker.runner, 0);
			if (atomic32_peek(&chunk[j].oom.runner))
				atomic32_poke(&chunk[j].oom.runner, 0);
		}
	}
}

void event_fork_child(struct quire *q)
{
	forget_runners(q);
	if (atomic32_load(&q->callback_thread) == CALLBACKS_NONE)
		return;
	atomic32_store(&q->callback_thread, CALLBACKS_NONE);
	/* Without it reclaim does not ask, and out of memory is final. */
	if (event_start_thread(q) < 0)
		atomic32_store(&q->callback_thread, CALLBACKS_NONE);
}

/* ---- callbacks ------------------------------------------------------------------ */

/* Put fn in place; afterwards the old one neither runs nor will. */
static void callback_set(struct group_callback *cb, u64 fn, u64 arg)
{
	u32 self = (u32)os_gettid(), runner;

	atomic64_xchg(&cb->fn, 0);
	for (;;) {
		runner = atomic32_load(&cb->runner);
		if (!runner || runner == self)
			break;
		futex_wait(&cb->runner, runner, SYNC_FOREVER, false);
	}
	atomic64_store(&cb->arg, arg);
	atomic64_store(&cb->fn, fn);
}

/* The function to run, or 0; callback_leave() is owed either way. */
static u64 callback_enter(struct group_callback *cb)
{
	atomic32_xchg(&cb->runner, (u32)os_gettid());
	return atomic64_load(&cb->fn);
}

static void callback_leave(struct group_callback *cb)
{
	atomic32_store(&cb->runner, 0);
	futex_wake(&cb->runner, UINT32_MAX, false);
}

/* Heaps first: what they hold unused costs nobody anything. */
static size_t run_shrinker(void *arg, size_t bytes_wanted)
{
	struct quire_group *g = arg;
	size_t freed = heaps_purge(g->q, g);
	quire_shrinker_fn fn;

	if (freed >= bytes_wanted)
		return freed;
	fn = (quire_shrinker_fn)(uintptr_t)callback_enter(&g->shrinker);
	if (fn)
		freed += fn((void *)(uintptr_t)atomic64_load(&g->shrinker.arg), g,
			    bytes_wanted - freed);
	callback_leave(&g->shrinker);
	return freed;
}

static bool run_oom(void *arg, struct memcg_id id)
{
	struct quire_group *g = arg;
	bool again = false;
	quire_oom_fn fn;

	(void)id;
	fn = (quire_oom_fn)(uintptr_t)callback_enter(&g->oom);
	if (fn)
		again = fn((void *)(uintptr_t)atomic64_load(&g->oom.arg), g) != 0;
	callback_leave(&g->oom);
	return again;
}

/* The trampoline: asks the group's heaps, then the program. */
static int install_shrinker(struct quire_group *g)
{
	int err;

	if (!atomic32_cas(&g->has_shrinker, 0, 1))
		return 0;
	err = event_start_thread(g->q);
	if (err < 0)
		goto undo;
	err = engine_set_shrinker(g->q->e, g->id, run_shrinker, g);
	if (err < 0) {
		why_engine(g->q, err, "cannot set a shrinker");
		goto undo;
	}
	return 0;

undo:
	atomic32_store(&g->has_shrinker, 0);
	return err;
}

int quire_set_shrinker(struct quire_group *g, quire_shrinker_fn fn, void *arg)
{
	int err = group_check(g);

	if (err < 0)
		return err;
	if (fn) {
		err = install_shrinker(g);
		if (err < 0)
			return err;
	}
	callback_set(&g->shrinker, (u64)(uintptr_t)fn, (u64)(uintptr_t)arg);
	return 0;
}

int quire_set_oom(struct quire_group *g, quire_oom_fn fn, void *arg)
{
	int err = group_check(g);

	if (err < 0)
		return err;
	if (fn) {
		err = event_start_thread(g->q);
		if (err < 0)
			return err;
	}
	callback_set(&g->oom, (u64)(uintptr_t)fn, (u64)(uintptr_t)arg);
	err = engine_set_oom(g->q->e, g->id, fn ? run_oom : NULL, g);
	return err < 0 ? why_engine(g->q, err, "quire_set_oom") : 0;
}

void event_forget_group(struct quire_group *g)
{
	int err = 0;

	if (atomic32_xchg(&g->has_shrinker, 0))
		err |= engine_set_shrinker(g->q->e, g->id, NULL, NULL);
	if (atomic64_load(&g->oom.fn))
		err |= engine_set_oom(g->q->e, g->id, NULL, NULL);
	(void)err; /* "there is none" is what we want */
	callback_set(&g->shrinker, 0, 0);
	callback_set(&g->oom, 0, 0);
}
