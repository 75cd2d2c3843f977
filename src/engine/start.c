/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start.c - from passive to running.
 *
 * An application thread starts the request thread and waits; everything else
 * happens there: a private descriptor table (so that no close(), fork or exec of
 * the program reaches our descriptors, findings 1), the pager, the other
 * threads, then adoption of every range recorded so far.  Fault threads run
 * before the first range is registered: other threads may fault at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>

#include "engine/internal.h"

#include "base/os.h"

#define FRAMES_MIN 4096u
#define FRAMES_MAX (1u << 18) /* 1 GiB of address space */

void engine_passive_enter(struct engine *e)
{
	u64 mask = 0;

	os_sigprocmask_all(&mask);
	mutex_lock(&e->passive_lock);
	e->passive_mask = mask;
}

bool engine_passive_begin(struct engine *e)
{
	if (engine_running(e))
		return false;
	engine_passive_enter(e);
	if (!engine_running(e))
		return true;
	engine_passive_leave(e);
	return false;
}

void engine_passive_leave(struct engine *e)
{
	u64 mask = e->passive_mask;

	mutex_unlock(&e->passive_lock);
	os_sigprocmask_set(&mask);
}

void engine_set_why(struct engine *e, const char *cause, int err, const char *hint)
{
	fmt_str(e->why, sizeof(e->why), "%s (error %d): %s", cause, -err, hint);
}

void engine_fatal(void *ctx, const char *reason)
{
	struct engine *e = ctx;
	struct member_info *m = e->tree ? member_self(e->tree) : NULL;

	if (m)
		fmt_str(m->last_words, sizeof(m->last_words), "%s", reason);
	if (e->fatal)
		e->fatal(e->fatal_ctx, reason);
	os_abort(reason);
}

int engine_private_table(const int *keep, u32 nr)
{
	int at = 0, err = os_unshare(CLONE_FILES);

	while (!err) {
		int next = -1;

		for (u32 i = 0; i < nr; i++)
			if (keep[i] >= at && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			return os_close_range((u32)at, UINT32_MAX);
		if (next > at)
			err = os_close_range((u32)at, (u32)next - 1);
		at = next + 1;
	}
	return err;
}

static int uffd_usable(struct engine *e, int err)
{
	if (err)
		engine_set_why(e, "userfaultfd is not available", err,
			       "run as root, or: chmod 0666 /dev/userfaultfd, or: "
			       "sysctl vm.unprivileged_userfaultfd=1; see quire doctor");
	return err;
}

int engine_init_pager(struct engine *e)
{
	return pager_init(&e->mm.pager, e->pager_name[0] ? e->pager_name : NULL);
}

static int open_pager(struct engine *e, int dev_fd)
{
	struct pager *p = &e->mm.pager;
	/* Here, where its descriptors take no number of the program's. */
	int err = e->flags & ENGINE_LAZY ? engine_init_pager(e) : 0;
	struct member_info *m = member_self(e->tree);

	if (!err)
		err = p->ops->open(p, e->nr_fault_threads, dev_fd);
	if (!err && m)
		fmt_str(m->pager, sizeof(m->pager), "%s", p->ops->name);
	return uffd_usable(e, err);
}

int engine_open_all(struct engine *e, int dev_fd)
{
	int err = engine_private_table(&e->mm.pager.signal.fd, e->mm.pager.signal.on);

	if (err) {
		engine_set_why(e, "cannot make a private descriptor table", err,
			       "a seccomp filter?");
		return err;
	}
	err = open_pager(e, dev_fd);
	if (err)
		return err;
	e->statm_fd = os_open("/proc/self/statm", O_RDONLY | O_CLOEXEC, 0);
	if (e->mm.frames.base)
		return frames_register(&e->mm.frames);
	err = frames_init(&e->mm.frames, &e->mm.meta, &e->mm.pager, FRAMES_MAX);
	if (err == -ENOMEM)
		err = frames_init(&e->mm.frames, &e->mm.meta, &e->mm.pager, FRAMES_MIN);
	if (err)
		engine_set_why(e, "no address space for frames", err,
			       "raise RLIMIT_AS (ulimit -v)");
	return err;
}

static int start_one(struct engine *e, struct task *t, const char *name,
		     void (*fn)(struct thread *self), void *arg)
{
	t->thread.name = name;
	t->thread.fn = fn;
	t->thread.arg = arg;
	t->engine = e;
	return thread_start(&t->thread);
}

int engine_start_threads(struct engine *e)
{
	int err = 0;

	for (u32 q = 0; q < e->nr_fault_threads && !err; q++) {
		struct fault_thread *ft = &e->fault_thread[q];

		ft->f = &e->fault;
		ft->queue = q;
		ft->task.window = e->fault_buf + q * FAULT_WINDOW_BYTES;
		err = start_one(e, &ft->task, "quire/fault", fault_thread_main, ft);
	}
	if (!err) {
		e->kswapd_task.buf = e->kswapd_buf;
		/* It tries faults again, between two batches. */
		e->kswapd_task.window = e->kswapd_buf;
		err = start_one(e, &e->kswapd_task, "quire/kswapd", kswapd_main, &e->reclaim);
	}
	if (!err) {
		e->writeback_task.buf = e->writeback_buf;
		err = start_one(e, &e->writeback_task, "quire/writeback", kswapd_writeback_main,
				&e->reclaim);
	}
	if (!err)
		err = start_one(e, &e->ticker_task, "quire/ticker", ticker_main, e);
	if (err)
		engine_set_why(e, "cannot start a thread", err, "RLIMIT_NPROC, memory or seccomp?");
	return err;
}

/* On the request thread: descriptors are known only in its table. */
void engine_close_all(struct engine *e)
{
	atomic32_store(&e->reclaim.stop, 1);
	event_signal(e->reclaim.wake);
	event_signal(&e->reclaim.trim);
	event_signal(&e->fault.timer_wake);
	thread_join(&e->kswapd_task.thread);
	thread_join(&e->writeback_task.thread);
	thread_join(&e->ticker_task.thread);
	for (u32 q = 0; q < e->nr_fault_threads; q++)
		thread_join(&e->fault_thread[q].task.thread);
	if (zswap_backing(&e->zswap))
		store_close(zswap_backing(&e->zswap));
	atomic64_store(&e->zswap.store, 0);
	os_close(e->statm_fd);
	if (e->placement.status_fd >= 0)
		os_close(e->placement.status_fd);
	e->mm.pager.ops->close(&e->mm.pager);
}

int engine_adopt_all(struct engine *e)
{
	struct region r;
	u64 at = 0;
	int err = 0;

	engine_passive_enter(e);
	while (!err && region_next(&e->mm.regions, at, &r)) {
		at = r.end;
		err = adopt_range(&e->fault, &e->request_task, &r);
		if (err == -EBUSY) {
			/* The program's own userfaultfd has it: leave it alone. */
			err = region_cut(&e->mm.regions, r.start, r.end);
			continue;
		}
		if (!err)
			err = region_set_flags(&e->mm.regions, r.start, r.end, REGION_REGISTERED,
					       0);
	}
	atomic32_store(&e->state, err ? ENGINE_FAILED : ENGINE_RUNNING);
	engine_passive_leave(e);
	futex_wake(&e->state, UINT32_MAX, false);
	kswapd_wake(&e->reclaim);
	return err;
}

static int wait_for_starter(struct engine *e)
{
	while (atomic32_load(&e->state) == ENGINE_STARTING)
		futex_wait(&e->state, ENGINE_STARTING, SYNC_FOREVER, false);
	return engine_running(e) ? 0 : -EPERM;
}

/* Before the engine's table of descriptors is made of this thread's. */
static int open_signal(struct engine *e)
{
	return e->mm.pager.signal.on ? uffd_usable(e, pager_signal_open(&e->mm.pager, -1)) : 0;
}

static int start_once(struct engine *e)
{
	struct task *t = &e->request_task;
	u64 mask = 0;
	bool mine;
	s64 err;

	if (engine_running(e))
		return 0;
	/* Under the lock that a passive fork holds: no fork sees half a start. */
	engine_passive_enter(e);
	mine = atomic32_cas(&e->state, ENGINE_PASSIVE, ENGINE_STARTING);
	engine_passive_leave(e);
	if (!mine)
		return wait_for_starter(e);
	/* A handler that waits for the start must not have interrupted it. */
	os_sigprocmask_all(&mask);
	err = e->flags & ENGINE_LAZY ? engine_init_paging(e) : 0;
	t->buf = e->request_buf;
	if (!err)
		err = open_signal(e);
	if (!err)
		err = start_one(e, t, "quire/request", request_main, e);
	if (!err)
		err = request_call(e, REQ_START, NULL, 0, NULL);
	if (err) {
		pager_signal_close(&e->mm.pager);
		atomic32_store(&e->state, ENGINE_FAILED);
		futex_wake(&e->state, UINT32_MAX, false);
	}
	os_sigprocmask_set(&mask);
	return (int)err;
}

/* The preload has nobody to ask engine_why(): the program only sees its mmap fail. */
static void say_why(struct engine *e)
{
	char text[sizeof(e->why) + 64];

	if (!(e->flags & ENGINE_LAZY) || atomic32_xchg(&e->said_why, 1))
		return;
	fmt_str(text, sizeof(text), "quire: cannot page: %s\n", e->why);
	os_message(text);
}

int engine_start(struct engine *e)
{
	int err = start_once(e);

	if (err)
		say_why(e);
	return err;
}

u64 engine_most_of(u64 limit)
{
	return limit - limit / 8 > 2 * MIB ? limit - limit / 8 - 2 * MIB : 0;
}

static u64 smallest_limit(struct engine *e, struct memcg_id id)
{
	u64 limit = min_of(memcg_limit(e->tree, id, COUNTER_MEMORY),
			   memcg_high(e->tree, id, COUNTER_MEMORY));

	return limit == PAGE_COUNTER_MAX ? UINT64_MAX : limit << PAGE_SHIFT;
}

/*
 * Could we, with `bytes`, and the other members that do not page exceed a limit?  Those
 * that page make room for us, but where they fill the limit already, an eighth of it is
 * all that they are left to make.
 */
bool engine_could_exceed(struct engine *e, u64 bytes)
{
	if (engine_running(e) || !(e->flags & ENGINE_LAZY))
		return false;
	for (struct memcg_id id = engine_home(e); id.v; id = memcg_parent(e->tree, id)) {
		u64 limit = smallest_limit(e, id);
		u64 used, most;

		if (limit == UINT64_MAX)
			continue;
		used = memcg_usage(e->tree, id, COUNTER_MEMORY) << PAGE_SHIFT;
		most = bytes + used > limit ? limit / 8 : engine_most_of(limit);
		if (bytes + member_others_passive(e->tree, id) > most)
			return true;
	}
	return false;
}

bool engine_must_start(struct engine *e, u64 more)
{
	u64 bytes = atomic64_peek(&e->mm.regions.bytes) + more;

	if (engine_running(e))
		return false;
	if (!(e->flags & ENGINE_LAZY))
		return true;
	/* First: of two that grow at once, one sees the other. */
	member_set_passive(e->tree, max_of(bytes, 1));
	return engine_could_exceed(e, bytes);
}

int engine_start_if_needed(struct engine *e)
{
	return engine_must_start(e, 0) ? engine_start(e) : 0;
}

static bool has_limit(struct engine *e)
{
	for (struct memcg_id id = engine_home(e); id.v; id = memcg_parent(e->tree, id))
		if (smallest_limit(e, id) != UINT64_MAX)
			return true;
	return false;
}

void engine_start_early(struct engine *e)
{
	if (has_limit(e) && !start_once(e))
		(void)request_call(e, REQ_OPEN_STORE, NULL, 0, NULL);
}
