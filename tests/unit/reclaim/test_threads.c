/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with more memory than its limit on real threads: fault threads,
 * kswapd, the store's reader.  Every increment counts, nobody is sent SIGBUS.
 * tsan
 */
#include <pthread.h>

#include "base/os.h"
#include "lib/rig.h"
#include "lib/test.h"

#define NR_PROGRAMS 3u
#define NR_PAGES 48u /* half of each queue's */

struct program {
	struct rig *r;
	u32 seed;
	u32 nr_rounds;
	u64 nr_done;
	bool signal; /* a touch was SIGBUS */
};

static u64 addr_of(u32 n)
{
	u32 half = NR_PAGES / 2;

	return fake_addr(n < half ? n : RIG_QUEUE_PAGES + n - half);
}

static void *run_program(void *arg)
{
	struct program *p = arg;
	u64 x = p->seed * 0x9e3779b97f4a7c15ull + 1;

	for (u32 i = 0; i < p->nr_rounds && !p->signal; i++) {
		u64 addr;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		addr = addr_of((u32)(x >> 20) % NR_PAGES);
		p->signal = !fake_access(&p->r->e->mm.pager, addr, false);
		if (!p->signal)
			fake_fetch_add(&p->r->e->mm.pager, addr, 1);
		p->nr_done += !p->signal;
	}
	return NULL;
}

static void start_kswapd(struct rig *r)
{
	struct task *t = &r->e->kswapd_task;

	t->thread = (struct thread){ .name = "kswapd", .fn = kswapd_main, .arg = &r->e->reclaim };
	t->engine = r->e;
	t->buf = r->e->kswapd_buf;
	ASSERT_OK(thread_start(&t->thread));
}

static void stop_kswapd(struct rig *r)
{
	atomic32_store(&r->e->reclaim.stop, 1);
	kswapd_wake(&r->e->reclaim);
	thread_join(&r->e->kswapd_task.thread);
	rig_drain_task(r, &r->e->kswapd_task);
}

static void stop(struct rig *r)
{
	stop_kswapd(r);
	rig_stop_threads(r);
}

static void churn(u64 limit, u32 nr_rounds)
{
	struct rig *r = rig_create(0, true);
	struct program program[NR_PROGRAMS];
	pthread_t thread[NR_PROGRAMS];
	u64 done = 0, sum = 0;

	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, limit);
	rig_start_threads(r);
	start_kswapd(r);
	for (u32 i = 0; i < NR_PROGRAMS; i++) {
		program[i] = (struct program){ .r = r, .seed = i + 1, .nr_rounds = nr_rounds };
		ASSERT_EQ(pthread_create(&thread[i], NULL, run_program, &program[i]), 0);
	}
	for (u32 i = 0; i < NR_PROGRAMS; i++)
		ASSERT_EQ(pthread_join(thread[i], NULL), 0);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	for (u32 i = 0; i < NR_PAGES; i++)
		sum += fake_load(&r->e->mm.pager, addr_of(i));
	stop(r);
	for (u32 i = 0; i < NR_PROGRAMS; i++) {
		done += program[i].nr_done;
		ASSERT_FALSE(program[i].signal);
	}
	ASSERT_EQ(sum, done);
	ASSERT_GT(rig_stat(r, MEMCG_STAT_PGUNMAP), 0u);
	rig_destroy(r);
}

TEST(half_of_the_memory)
{
	churn(NR_PAGES / 2, 20000);
}

/*
 * Hardly more pages than threads that have some in hand: none to be found for a
 * moment is not out of memory.
 */
TEST(a_few_pages)
{
	churn(12, 4000);
	churn(8, 2000);
	churn(6, 2000);
	churn(6, 2000);
}

/* Nothing that could leave, and no room: the thread that needs more is told. */
TEST(out_of_memory)
{
	struct rig *r = rig_create(0, true);

	rig_make(r, 0, 4, RIG_TEXT, RIG_MAPPED);
	fake_set(&r->e->mm.pager, fake_addr(0), 4, FAKE_PINNED, 0);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, 4);
	rig_start_threads(r);
	start_kswapd(r);
	ASSERT_NULL(fake_access(&r->e->mm.pager, fake_addr(10), true));
	ASSERT_GE(memcg_event_count(r->e->tree, r->p, MEMCG_OOM, true), 1u);
	ASSERT_NOT_NULL(fake_access(&r->e->mm.pager, fake_addr(3), true));
	stop(r);
	rig_destroy(r);
}

/* A full store, a third of it dead, that cleaning does not make smaller: that is no progress,
 * and is tried again when more has died. */
TEST(cleaning_in_vain)
{
	struct rig *r = rig_create(0, true);
	struct store *s = &r->store.store;

	rig_make(r, 0, 4, RIG_TEXT, RIG_MAPPED);
	fake_set(&r->e->mm.pager, fake_addr(0), 4, FAKE_PINNED, 0);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, 4);
	stat_set(&s->bytes_file, 60 * MIB);
	stat_set(&s->bytes_live, 40 * MIB);
	stat_set(&s->full, 1);
	rig_start_threads(r);
	start_kswapd(r);
	ASSERT_NULL(fake_access(&r->e->mm.pager, fake_addr(10), true));
	ASSERT_EQ(atomic32_load(&r->store.nr_cleans), 1u);
	ASSERT_NULL(fake_access(&r->e->mm.pager, fake_addr(11), true));
	ASSERT_EQ(atomic32_load(&r->store.nr_cleans), 1u);
	stat_sub(&s->bytes_live, 2 * MIB);
	ASSERT_NULL(fake_access(&r->e->mm.pager, fake_addr(12), true));
	ASSERT_EQ(atomic32_load(&r->store.nr_cleans), 2u);
	stop(r);
	rig_destroy(r);
}

/* ---- two groups ---------------------------------------------------------------------- */

#define NR_BUSY 64u
#define OTHER 128u
#define MAX_ROUNDS 500u

static struct rig *busy_rig;
static struct atomic32 nr_rounds;

/* The program has all of it back before the next round. */
static void use_all(void *ctx, struct task *t)
{
	struct fault *f = &busy_rig->e->fault;
	struct memcg_id over;

	(void)ctx;
	gate_enter(f->gate);
	for (u32 i = 0; i < NR_BUSY; i++)
		(void)fault_serve(f, t, 0, fake_addr(i), true, &over);
	memcg_drain_stock(f->tree, &t->stock);
	gate_leave(f->gate);
	if (atomic32_fetch_add(&nr_rounds, 1) == MAX_ROUNDS)
		atomic32_store(&busy_rig->e->reclaim.stop, 1);
}

/* One group is used as fast as it is reclaimed: the other gets its turn all the same. */
TEST(busy_group_and_another)
{
	struct rig *r = busy_rig = rig_create(0, false);
	struct objcg_id o;
	u64 stolen = 0;

	ASSERT_OK(objcg_get(r->e->tree, r->d, &o));
	rig_assign(r, OTHER, NR_BUSY, o);
	rig_make(r, 0, NR_BUSY, RIG_TEXT, RIG_MAPPED);
	rig_make(r, OTHER, 32, RIG_TEXT, RIG_MAPPED);
	memcg_set_max(r->e->tree, r->c, COUNTER_MEMORY, NR_BUSY / 2);
	memcg_set_max(r->e->tree, r->d, COUNTER_MEMORY, 16);
	r->e->reclaim.ops.retry_faults = use_all;
	start_kswapd(r);
	do {
		os_sleep_ns(NSEC_PER_MSEC);
		stolen = memcg_stat_read(r->e->tree, r->d, MEMCG_STAT_PGSTEAL_KSWAPD);
	} while (!stolen && !atomic32_load(&r->e->reclaim.stop));
	stop_kswapd(r);
	ASSERT_GT(stolen, 0u);
	memcg_set_max(r->e->tree, r->c, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	memcg_set_max(r->e->tree, r->d, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	rig_check(r);
	rig_destroy(r);
}

/* Pinned when it was tried, free now: found before anybody is told that there is no memory,
 * also where the limit is a parent's. */
TEST(no_longer_pinned)
{
	struct rig *r = rig_create(0, true);

	rig_make(r, 0, 16, RIG_TEXT, RIG_MAPPED);
	fake_set(&r->e->mm.pager, fake_addr(0), 16, FAKE_PINNED, 0);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, 16);
	start_kswapd(r);
	while (lruvec_nr(lruvec_of(&r->e->lru, r->c), LRU_UNEVICTABLE) < 16)
		os_sleep_ns(NSEC_PER_MSEC);
	fake_set(&r->e->mm.pager, fake_addr(0), 16, 0, FAKE_PINNED);
	rig_start_threads(r);
	ASSERT_NOT_NULL(fake_access(&r->e->mm.pager, fake_addr(20), true));
	ASSERT_EQ(memcg_event_count(r->e->tree, r->p, MEMCG_OOM, true), 0u);
	stop(r);
	rig_destroy(r);
}

/* A group full of locked memory, in which nobody waits, is left alone. */
TEST(nothing_can_leave_and_nobody_waits)
{
	struct rig *r = rig_create(0, true);
	u64 since = os_now_ns();

	rig_make(r, 0, 64, RIG_TEXT, RIG_MAPPED);
	fake_set(&r->e->mm.pager, fake_addr(0), 64, FAKE_PINNED, 0);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, 64);
	start_kswapd(r);
	os_sleep_ns(550 * NSEC_PER_MSEC);
	stop_kswapd(r);
	/* One round a tick of 100 ms, or two; we may have slept longer than we wanted. */
	ASSERT_LE(stat_read(&r->e->reclaim.nr_rounds),
		  2 * (1 + (os_now_ns() - since) / (100 * NSEC_PER_MSEC)));
	fake_set(&r->e->mm.pager, fake_addr(0), 64, 0, FAKE_PINNED);
	rig_check(r);
	rig_destroy(r);
}
