/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticker.c - now and then: what nobody tells us, what is late, what to record.
 *
 * Owns: the charge of memory outside pages (metadata, pool slack, unmanaged
 * RSS), wake-ups of throttled threads, delivery of events, the watchdog, this
 * process's record in the segment.
 * The watchdog counts its own ticks, not the clock: Ctrl-Z, a debugger or a
 * suspended machine stop it together with the faults it watches.
 */
#include <string.h>

#include "engine/internal.h"

#include "base/os.h"
#include "memcg/move.h"

#define TICK_NS (100 * NSEC_PER_MSEC)
/*
 * Memory that only the kernel sees is looked at more often while it moves or its
 * group is short: a JVM maps 13 MiB of its own in its first 60 ms, and until that
 * is known managed memory fills the whole limit.  A look costs some 10 us.
 */
#define LOOK_BUSY_NS (5 * NSEC_PER_MSEC)
#define LOOK_MOVED (MIB / PAGE_SIZE)
#define REAP_NS NSEC_PER_SEC
/* Less than this is not worth walking page tables for. */
#define SHARED_MIN (256 * KIB / PAGE_SIZE)

u64 ticker_anon_rss(struct engine *e)
{
	char text[128];

	return os_statm_anon(text, os_pread(e->statm_fd, text, sizeof(text), 0));
}

/* Managed pages of this process, mapped or in frames. */
static u64 managed_pages(struct engine *e)
{
	return member_stat(e->tree, MEMCG_STAT_ANON) + member_stat(e->tree, MEMCG_STAT_FRAMES);
}

/*
 * Pages in memory that are other processes' too since a fork, less our part.  What is in
 * pages of groups is charged to each process in full, since any of it can leave: so
 * these count against what cannot, metadata, compressed and unmanaged memory.  Three
 * children of a process with 10 MiB of it would fill a limit of 32 MiB otherwise.
 */
static u64 shared_pages(struct engine *e)
{
	u64 now = os_now_ns(), before = e->shared_pages, others, moved;

	if (!e->forked || now < e->shared_next_ns)
		return e->shared_pages;
	(void)os_process_anon(os_getpid(), &others);
	e->shared_pages = others >> PAGE_SHIFT;
	moved = max_of(before, e->shared_pages) - min_of(before, e->shared_pages);
	/* At most 1 % of the time, but for those who write to it just now. */
	e->shared_next_ns = os_now_ns() + (moved > LOOK_MOVED ?
						   max_of(10 * (os_now_ns() - now), LOOK_BUSY_NS) :
						   max_of(100 * (os_now_ns() - now), TICK_NS));
	/* What is ours alone stays so until the next fork. */
	if (e->shared_pages < SHARED_MIN) {
		e->shared_pages = 0;
		e->forked = false;
	}
	return e->shared_pages;
}

/* True: look again soon. */
static bool charge_overhead(struct engine *e)
{
	/* Asked first: until all is adopted, what is not yet would count as foreign. */
	bool adopted = engine_running(e);
	u64 pool = zspool_bytes(e->zswap.pool), objects = zspool_object_bytes(e->zswap.pool);
	u64 meta = stat_read(&e->mm.meta.bytes) + lru_bytes(&e->lru);
	u64 slack = pool > objects ? pool - objects : 0;
	u64 anon = ticker_anon_rss(e) >> PAGE_SHIFT;
	u64 ours = managed_pages(e) + (pool + meta) / PAGE_SIZE;
	u64 foreign = anon > ours ? anon - ours : 0, before;
	bool forked = e->forked;
	struct memcg_id home = engine_home(e);

	mutex_lock(&e->home_lock);
	before = memcg_overhead(e->tree, e->home_objcg, MEMCG_STAT_UNMANAGED);
	memcg_set_overhead(e->tree, e->home_objcg, MEMCG_STAT_KERNEL, (meta + slack) >> PAGE_SHIFT);
	if (adopted && (e->flags & ENGINE_COUNT_UNMANAGED))
		memcg_set_overhead(e->tree, e->home_objcg, MEMCG_STAT_UNMANAGED, foreign);
	if (forked)
		memcg_set_shared(e->tree, e->home_objcg, shared_pages(e));
	mutex_unlock(&e->home_lock);
	if (!(e->flags & ENGINE_COUNT_UNMANAGED))
		return false;
	if (!adopted)
		return true;
	return foreign > before + LOOK_MOVED || before > foreign + LOOK_MOVED ||
	       memcg_usage(e->tree, home, COUNTER_MEMORY) > memcg_wmark_pages(e->tree, home);
}

/* Charges what nobody tells us; when to look again.  Inside a gate, lest a fork copy a
 * charge that has reached a group and not yet its parent. */
static u64 look(struct engine *e, u64 look_ns)
{
	bool soon;

	if (!gate_try_enter(&e->reclaim_gate))
		return LOOK_BUSY_NS;
	soon = charge_overhead(e);
	gate_leave(&e->reclaim_gate);
	return soon ? LOOK_BUSY_NS : min_of(2 * look_ns, TICK_NS);
}

/* Quantiles over all faults that had to fetch bytes. */
static void record_member(struct engine *e)
{
	struct member_info *m = member_self(e->tree);
	struct hist all;
	u64 anon = ticker_anon_rss(e);

	if (!m)
		return;
	memset(&all, 0, sizeof(all));
	hist_merge(&all, &e->fault.latency[FAULT_SOFT]);
	hist_merge(&all, &e->fault.latency[FAULT_ZSWAP]);
	hist_merge(&all, &e->fault.latency[FAULT_STORE]);
	m->nr_faults = hist_total(&all);
	m->fault_ns[0] = hist_quantile(&all, 5000);
	m->fault_ns[1] = hist_quantile(&all, 9900);
	m->fault_ns[2] = hist_quantile(&all, 9990);
	m->fault_ns[3] = stat_read(&all.max);
	m->peak_anon = max_of(m->peak_anon, anon);
}

/* A fault older than WATCHDOG_TICKS of our ticks means we hang: say so and end. */
static void watch_faults(struct engine *e, u64 now_ns, u32 *late_ticks)
{
	u64 addr = 0, age = fault_oldest_ns(&e->fault, now_ns, &addr);
	char text[160];

	for (u32 q = 0; q < e->nr_fault_threads; q++) {
		u64 since = atomic64_peek(&e->fault_thread[q].busy_since);

		if (since && now_ns > since)
			age = max_of(age, now_ns - since);
	}
	*late_ticks = age > TICK_NS ? *late_ticks + 1 : 0;
	if (*late_ticks < WATCHDOG_TICKS)
		return;
	fmt_str(text, sizeof(text), "quire: a fault at 0x%llx is not served for %u ticks\n",
		(unsigned long long)addr, *late_ticks);
	engine_fatal(e, text);
}

void ticker_main(struct thread *self)
{
	struct engine *e = self->arg;
	u64 next_tick = 0, next_look = 0, look_ns = LOOK_BUSY_NS;
	u32 late_ticks = 0;

	placement_start(e);
	while (!atomic32_load(&e->reclaim.stop)) {
		u32 seq = event_seq(&e->fault.timer_wake);
		u64 now = os_now_ns();
		u64 next = fault_run_timers(&e->fault, now);

		group_deliver_events(e);
		if (now >= next_look) {
			look_ns = look(e, look_ns);
			placement_follow(e);
			next_look = now + look_ns;
		}
		if (now >= next_tick) {
			next_tick = now + TICK_NS;
			/* Perhaps another process has removed a group of ours. */
			if (memcg_nr_unreleased(e->tree) && !e->unsettled)
				event_signal(&e->request_event);
			/* Nobody tells that another process of the tree has ended. */
			(void)member_reap_since(e->tree, REAP_NS);
			member_count_passive(e->tree);
			record_member(e);
			aspace_tell_locked(e);
			watch_faults(e, now, &late_ticks);
		}
		event_wait(&e->fault.timer_wake, seq,
			   min_of(next, min_of(next_look, next_tick) - now));
	}
}
