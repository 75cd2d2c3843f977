/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_signal.c - signal mode: a thread that cannot serve its fault waits for who can.
 * tsan
 */
#include "pager/internal.h"
#include "race.h"

#define ADDR 0x7000ull

static struct pager pager;
static struct atomic32 there;

static void setup(void)
{
	pager.signal.on = true;
	pager_signal_forget(&pager);
	atomic32_poke(&there, 0);
}

static void check(void)
{
	quire_assert(!atomic32_load(&pager.signal.nr_waiting));
	quire_assert(!atomic64_load(&pager.signal.waiting[0]));
}

static void put(u64 addr)
{
	atomic32_store(&there, 1);
	uffd_signal_woken(&pager, addr, PAGE_SIZE);
}

/* Somebody is at it. */
static void wait_for_put(void *ctx)
{
	struct pager_wait *w = pager_signal_wait_begin(&pager, ADDR);

	(void)ctx;
	while (!atomic32_load(&there))
		(void)pager_signal_wait(&pager, w, SYNC_FOREVER);
	pager_signal_wait_end(&pager, w);
}

static void put_page(void *ctx)
{
	(void)ctx;
	put(ADDR);
}

/* Another page: nobody goes on for it. */
static void put_neighbour(void *ctx)
{
	(void)ctx;
	uffd_signal_woken(&pager, ADDR + PAGE_SIZE, PAGE_SIZE);
}

static void hand_over(void *ctx)
{
	struct fault_msg m = { .addr = ADDR };
	struct pager_wait *w = pager_signal_wait_begin(&pager, ADDR);
	bool posted = pager_signal_post(&pager, &m);

	(void)ctx;
	quire_assert(posted);
	while (pager_signal_wait(&pager, w, SYNC_FOREVER))
		;
	pager_signal_wait_end(&pager, w);
	quire_assert(atomic32_load(&there));
}

static void serve(void *ctx)
{
	struct fault_msg m;
	int n = uffd_signal_faults(&pager, &m, 1, SYNC_FOREVER);

	(void)ctx;
	quire_assert(n == 1 && m.addr == ADDR);
	put(m.addr);
}

RACE(I4_signal_wait, .setup = setup, .body = { wait_for_put, put_page, put_neighbour },
     .check = check, .preemptions = 2, .mutants = { MUTANT_waiter_counted_late })
RACE(I4_signal_post, .setup = setup, .body = { hand_over, serve }, .check = check, .preemptions = 3,
     .mutants = { MUTANT_waiter_counted_late })
