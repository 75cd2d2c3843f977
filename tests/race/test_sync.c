/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync.c - the locks that all else stands on, each without one of its guards.
 *
 * test_explore.c explores them as they are.
 * tsan
 */
#include "race.h"

static struct mutex lock;
static struct event event;
static struct gate gate;
static struct pte pte;
static struct atomic32 word;
static u32 inside;

static void setup(void)
{
	mutex_init(&lock, "lock", LOCK_RANK_NONE);
	event_init(&event);
	gate_init(&gate);
	pte = (struct pte){ { 0 }, { 0 } };
	atomic32_poke(&word, 0);
	inside = 0;
}

static void be_alone(void)
{
	inside++;
	/* Changes: who spins looks again, and sleeps. */
	atomic32_fetch_add(&word, 1);
	atomic32_fetch_add(&word, 1);
	quire_assert(inside == 1);
	inside--;
}

static void use_mutex(void *ctx)
{
	(void)ctx;
	mutex_lock(&lock);
	be_alone();
	mutex_unlock(&lock);
}

static void use_pte(void *ctx)
{
	(void)ctx;
	pte_lock(&pte);
	be_alone();
	pte_unlock(&pte);
}

static void wait_for_word(void *ctx)
{
	(void)ctx;
	for (;;) {
		u32 seq = event_seq(&event);

		if (atomic32_load(&word))
			return;
		(void)event_wait(&event, seq, SYNC_FOREVER);
	}
}

static void set_word(void *ctx)
{
	(void)ctx;
	atomic32_store(&word, 1);
	event_signal(&event);
}

static void pass_gate(void *ctx)
{
	(void)ctx;
	gate_enter(&gate);
	atomic32_fetch_add(&word, 1);
	atomic32_fetch_sub(&word, 1);
	gate_leave(&gate);
}

static void close_gate(void *ctx)
{
	(void)ctx;
	gate_close(&gate);
	quire_assert(!atomic32_load(&word));
	gate_open(&gate);
}

RACE(I4_mutex, .setup = setup, .body = { use_mutex, use_mutex, use_mutex }, .preemptions = 2,
     .mutants = { MUTANT_mutex_forgets_sleepers })
RACE(I4_pte_lock, .setup = setup, .body = { use_pte, use_pte, use_pte }, .preemptions = 2,
     .mutants = { MUTANT_unlock_misses_waiter })
RACE(I4_event, .setup = setup, .body = { wait_for_word, set_word }, .preemptions = 3,
     .mutants = { MUTANT_event_looks_too_early })
RACE(I4_gate, .setup = setup, .body = { pass_gate, close_gate, pass_gate }, .preemptions = 3,
     .mutants = { MUTANT_gate_entered_unseen })
