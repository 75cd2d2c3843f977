/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race_threads.h - RACE() on real threads, for TSan; a part of race.h.
 *
 * The explorer is sequentially consistent and has one OS thread: what the compiler or the
 * processor may reorder, and what is read without a lock, it does not see.  Here each body
 * is a thread; where they start is random; each run has an engine of its own.  A failed
 * assertion aborts the program, the scenario's name is on the last line.
 *
 * QUIRE_RACE_SECONDS (10) is shared among the scenarios of a program, QUIRE_RACE_RUNS
 * (300) are enough for one, QUIRE_RACE_SEED is where the pauses begin.
 */
#ifndef QUIRE_TESTS_RACE_THREADS_H
#define QUIRE_TESTS_RACE_THREADS_H

#include <sched.h>

#define RACE_MAX_PAUSE 4096u /* of 10 to 40 ns */

struct race_thread {
	struct thread thread;
	void (*body)(void *ctx);
	u32 pause;
};

static struct atomic32 race_nr_waiting; /* bodies still to come */

static void race_thread_main(struct thread *self)
{
	struct race_thread *t = (struct race_thread *)self;

	atomic32_fetch_sub(&race_nr_waiting, 1);
	while (atomic32_load(&race_nr_waiting))
		sched_yield();
	for (u32 i = 0; i < t->pause; i++)
		sync_relax();
	t->body(NULL);
}

/* Some at once, some hardly, some much later than another. */
static u32 race_pause(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (u32)(*seed >> 32) % RACE_MAX_PAUSE >> (*seed & 15);
}

static void race_once(const struct race *r, u64 *seed)
{
	struct race_thread t[EXPLORE_MAX_THREADS] = { 0 };
	u32 nr = race_nr_bodies(r);

	race_make();
	if (r->setup)
		r->setup();
	atomic32_store(&race_nr_waiting, nr);
	for (u32 i = 0; i < nr; i++) {
		t[i] = (struct race_thread){ { .name = "body", .fn = race_thread_main },
					     r->body[i],
					     race_pause(seed) };
		ASSERT_OK(thread_start(&t[i].thread));
	}
	for (u32 i = 0; i < nr; i++)
		thread_join(&t[i].thread);
	if (r->stop)
		r->stop();
	if (r->check)
		r->check();
	rig_check(rig);
	rig_destroy(rig);
}

static void race_run(const struct race *r)
{
	u64 share = race_number("QUIRE_RACE_SECONDS", 10) * NSEC_PER_SEC / race_nr_scenarios;
	u64 runs = race_number("QUIRE_RACE_RUNS", 300), nr = 0;
	u64 seed = (race_number("QUIRE_RACE_SEED", 1) << 1 | 1) * 0x9e3779b97f4a7c15ull;
	u64 since = os_now_ns(), now;

	printf("# %s\n", r->name);
	do {
		race_once(r, &seed);
		now = os_now_ns();
	} while (++nr < runs && now - since < share);
	printf("# %s: %llu runs, %llu ms\n", r->name, (unsigned long long)nr,
	       (unsigned long long)(now - since) / NSEC_PER_MSEC);
}

#endif
