/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault threads at work for a program on the fake pager.
 * tsan
 */
#include <errno.h>
#include <pthread.h>

#include "base/os.h"
#include "lib/rig.h"
#include "lib/test.h"

#define SECOND_QUEUE RIG_QUEUE_PAGES

struct touch {
	struct rig *r;
	u32 page;
	bool served;
};

static void *touch_page(void *arg)
{
	struct touch *t = arg;

	t->served = fake_load(&t->r->e->mm.pager, fake_addr(t->page)) == 0;
	return NULL;
}

/* As kswapd does: who waits for memory is tried again.  True when all are served. */
static bool wait_served(struct rig *r, u32 ms)
{
	for (u32 i = 0; i < ms && fake_nr_waiting(&r->e->mm.pager); i++) {
		fault_retry_waiting(&r->e->fault, &r->task[0]);
		os_sleep_ns(NSEC_PER_MSEC);
	}
	return !fake_nr_waiting(&r->e->mm.pager);
}

/*
 * One fault thread buys a batch, all that the group may have, uses a page of it
 * and has nothing more to do: the rest must be there for the other thread.
 */
TEST(stock_of_an_idle_fault_thread)
{
	struct rig *r = rig_create(0, true);
	struct touch first = { r, 0, false }, second = { r, SECOND_QUEUE, false };
	pthread_t program;
	bool served;

	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, STOCK_BATCH);
	rig_start_threads(r);
	touch_page(&first);
	ASSERT_TRUE(first.served);
	ASSERT_EQ(pthread_create(&program, NULL, touch_page, &second), 0);
	os_sleep_ns(20 * NSEC_PER_MSEC);
	served = wait_served(r, 1000);
	if (!served)
		rig_drain(r, 0);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	wait_served(r, 1000);
	ASSERT_EQ(pthread_join(program, NULL), 0);
	rig_stop_threads(r);
	ASSERT_TRUE(served && second.served);
	rig_check(r);
	rig_destroy(r);
}

/* Until somebody sleeps in a fault; there are no fault threads to serve it. */
static void wait_asleep(struct rig *r, u32 nr)
{
	while (fake_nr_waiting(&r->e->mm.pager) < nr)
		os_sleep_ns(NSEC_PER_MSEC);
}

static bool wait_awake(struct rig *r, u32 nr)
{
	for (u32 i = 0; i < 1000 && fake_nr_waiting(&r->e->mm.pager) > nr; i++)
		os_sleep_ns(NSEC_PER_MSEC);
	return fake_nr_waiting(&r->e->mm.pager) <= nr;
}

/*
 * A page came with its neighbour, which wakes nobody, while a thread faulted on it;
 * its message is read when the group is above memory.high.  The page is there, so
 * there is no timer either: the thread is woken at once.
 */
TEST(overtaken_by_a_neighbour_above_high)
{
	struct rig *r = rig_create(0, true);
	struct touch touch = { r, 11, false };
	pthread_t program;
	bool awake;

	rig_advise(r, REGION_SEQUENTIAL);
	rig_make(r, 64, 64, RIG_ZERO, RIG_MAPPED);
	ASSERT_EQ(pthread_create(&program, NULL, touch_page, &touch), 0);
	wait_asleep(r, 1);
	ASSERT_EQ(rig_fault(r, 0, 10), FAULT_DONE);
	ASSERT_TRUE(fake_flags(&r->e->mm.pager, fake_addr(11)) & FAKE_PRESENT);
	memcg_set_high(r->e->tree, r->p, COUNTER_MEMORY, 8);
	ASSERT_EQ(rig_fault(r, 0, 11), FAULT_DONE);
	awake = wait_awake(r, 0);
	r->e->mm.pager.ops->wake(&r->e->mm.pager, 0, fake_addr(11), PAGE_SIZE);
	ASSERT_EQ(pthread_join(program, NULL), 0);
	ASSERT_TRUE(awake && touch.served);
	rig_destroy(r);
}

static void start_one_fault_thread(struct rig *r)
{
	struct fault_thread *ft = &r->e->fault_thread[0];

	ft->f = &r->e->fault;
	ft->queue = 0;
	ft->task.thread = (struct thread){ .name = "fault", .fn = fault_thread_main, .arg = ft };
	ASSERT_OK(thread_start(&ft->task.thread));
}

static void stop_one_fault_thread(struct rig *r)
{
	atomic32_store(&r->e->reclaim.stop, 1);
	thread_join(&r->e->fault_thread[0].task.thread);
	rig_drain_task(r, &r->e->fault_thread[0].task);
}

/* The next read, if somebody begins one. */
static bool complete_one(struct rig *r)
{
	for (u32 i = 0; i < 1000; i++) {
		if (fake_store_complete(&r->store))
			return true;
		os_sleep_ns(NSEC_PER_MSEC);
	}
	return false;
}

/*
 * A neighbour is on its way from the store when a thread faults on it: its message has
 * been read, so whoever ends the read must wake it, also where the read did not succeed.
 */
TEST(neighbour_that_did_not_come)
{
	struct rig *r = rig_create(0, true);
	struct touch touch = { r, 11, false };
	pthread_t program;
	bool awake;

	rig_make(r, 10, 2, RIG_TEXT, RIG_STORE);
	rig_advise(r, REGION_SEQUENTIAL);
	ASSERT_EQ(rig_fault(r, 0, 10), FAULT_IO);
	start_one_fault_thread(r);
	ASSERT_EQ(pthread_create(&program, NULL, touch_page, &touch), 0);
	wait_asleep(r, 1);
	os_sleep_ns(20 * NSEC_PER_MSEC);
	r->store.read_error = -ENOMEM;
	atomic32_store(&r->store.get_error, (u32)-ENOMEM);
	ASSERT_TRUE(fake_store_complete(&r->store));
	ASSERT_TRUE(fake_store_complete(&r->store));
	ASSERT_FALSE(fake_store_complete(&r->store));
	r->store.read_error = 0;
	atomic32_store(&r->store.get_error, 0);
	awake = complete_one(r);
	if (!awake) {
		r->e->mm.pager.ops->wake(&r->e->mm.pager, 0, fake_addr(11), PAGE_SIZE);
		ASSERT_TRUE(complete_one(r));
	}
	ASSERT_EQ(pthread_join(program, NULL), 0);
	stop_one_fault_thread(r);
	ASSERT_TRUE(awake);
	rig_destroy(r);
}

/* ---- a fork that is closing the gate --------------------------------------------- */

static void *touch_as_forker(void *arg)
{
	struct touch *t = arg;

	atomic32_store(&t->r->e->fault.forker, (u32)os_gettid());
	return touch_page(arg);
}

static void *close_fault_gate(void *arg)
{
	struct rig *r = arg;

	gate_close(&r->e->fault_gate);
	return NULL;
}

/*
 * The gate is being closed, one passer is still inside and serves a fault of another
 * thread; the forking thread faults at this moment (a signal handler of it, say).  Its
 * own wake-up is held back, not that of the other.
 */
TEST(forker_faults_while_the_gate_closes)
{
	struct rig *r = rig_create(0, true);
	struct touch forker = { r, 5, false }, other = { r, SECOND_QUEUE, false };
	struct memcg_id over;
	pthread_t f, o, closer;
	bool awake;

	ASSERT_EQ(pthread_create(&o, NULL, touch_page, &other), 0);
	wait_asleep(r, 1);
	gate_enter(&r->e->fault_gate);
	ASSERT_EQ(pthread_create(&closer, NULL, close_fault_gate, r), 0);
	while (gate_try_enter(&r->e->fault_gate)) {
		gate_leave(&r->e->fault_gate);
		os_sleep_ns(NSEC_PER_MSEC);
	}
	ASSERT_EQ(pthread_create(&f, NULL, touch_as_forker, &forker), 0);
	wait_asleep(r, 2);
	start_one_fault_thread(r);
	os_sleep_ns(20 * NSEC_PER_MSEC);
	ASSERT_EQ(fault_serve(&r->e->fault, &r->task[0], 1, fake_addr(SECOND_QUEUE), false, &over),
		  FAULT_DONE);
	gate_leave(&r->e->fault_gate);
	awake = wait_awake(r, 0);
	r->e->mm.pager.ops->wake(&r->e->mm.pager, 1, fake_addr(SECOND_QUEUE), PAGE_SIZE);
	ASSERT_EQ(pthread_join(f, NULL), 0);
	ASSERT_EQ(pthread_join(o, NULL), 0);
	ASSERT_EQ(pthread_join(closer, NULL), 0);
	gate_open(&r->e->fault_gate);
	stop_one_fault_thread(r);
	ASSERT_TRUE(awake && forker.served && other.served);
	rig_destroy(r);
}
