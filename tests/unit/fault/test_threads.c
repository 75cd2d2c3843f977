/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault threads at work for a program on the fake pager.
 * tsan
 */
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
