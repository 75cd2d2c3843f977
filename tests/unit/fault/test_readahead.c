/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbours come along with a fault: how many, and where it ends.
 */
#include <errno.h>

#include "lib/rig.h"
#include "lib/test.h"

#define FIRST 10u
#define NR 60u

static struct rig *r;

static u32 nr_present(void)
{
	u32 n = 0;

	for (u32 i = 0; i < RIG_PAGES; i++)
		n += fake_flags(&r->e->mm.pager, fake_addr(i)) & FAKE_PRESENT;
	return n;
}

static void setup(enum rig_state state)
{
	r = rig_create(0, true);
	for (u32 i = 0; i < NR; i += 20)
		rig_make(r, FIRST + i, 20, RIG_TEXT, state);
	ASSERT_EQ(nr_present(), 0u);
	rig_advise(r, 0);
}

/* Pages that the fault on `page` brought. */
static u32 brought_by(u32 page)
{
	u32 before = nr_present();

	rig_read(r, 0, page);
	return nr_present() - before;
}

static void finish(void)
{
	rig_drain(r, 0);
	rig_check(r);
	rig_destroy(r);
}

TEST(window_grows_with_the_scan)
{
	u32 at = FIRST, nr, nr_faults = 1;

	setup(RIG_POOL);
	/* A first fault tells nothing; the next one continues it: 2, 4, 8, ... */
	ASSERT_EQ(brought_by(at++), 1u);
	for (u32 window = 2; at < FIRST + NR; window = min_of(2 * window, READAHEAD_MAX)) {
		nr = brought_by(at);
		ASSERT_EQ(nr, min_of(1 + window, FIRST + NR - at));
		at += nr;
		nr_faults++;
	}
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_READAHEAD), NR - nr_faults);
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}

TEST(random_faults_bring_nothing)
{
	setup(RIG_POOL);
	for (u32 i = 0; i < 10; i++)
		ASSERT_EQ(brought_by(FIRST + i * 37 % NR), 1u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_READAHEAD), 0u);
	finish();
}

/* As many scans at a time as are told apart. */
TEST(two_scans)
{
	setup(RIG_POOL);
	ASSERT_EQ(brought_by(FIRST), 1u);
	ASSERT_EQ(brought_by(FIRST + 30), 1u);
	ASSERT_EQ(brought_by(FIRST + 1), 3u);
	ASSERT_EQ(brought_by(FIRST + 31), 3u);
	ASSERT_EQ(brought_by(FIRST + 4), 5u);
	finish();
}

/* Three faults the same distance apart tell the fourth, forwards and backwards. */
TEST(stride)
{
	setup(RIG_POOL);
	ASSERT_EQ(brought_by(FIRST), 1u);
	ASSERT_EQ(brought_by(FIRST + 5), 1u);
	ASSERT_EQ(brought_by(FIRST + 10), 3u);
	ASSERT_EQ(brought_by(FIRST + 15), 0u);
	ASSERT_EQ(brought_by(FIRST + 25), 5u);
	rig_read(r, 0, FIRST + 45);
	ASSERT_EQ(brought_by(FIRST + NR - 1), 1u);
	ASSERT_EQ(brought_by(FIRST + NR - 2), 1u);
	ASSERT_EQ(brought_by(FIRST + NR - 3), 3u);
	ASSERT_EQ(brought_by(FIRST + NR - 6), 5u);
	finish();
}

/* What is in memory already is gone over, and the scan goes on behind it. */
TEST(over_what_is_there)
{
	setup(RIG_POOL);
	rig_advise(r, REGION_RANDOM);
	rig_read(r, 0, FIRST + 2);
	rig_read(r, 0, FIRST + 4);
	rig_read(r, 0, FIRST + 5);
	rig_advise(r, 0);
	ASSERT_EQ(brought_by(FIRST), 1u);
	ASSERT_EQ(brought_by(FIRST + 1), 2u);
	ASSERT_EQ(brought_by(FIRST + 6), 5u);
	finish();
}

#define RECORD 4u

static u32 most_ahead(void)
{
	u32 most = 0;

	for (u32 i = 0; i < FAULT_HABITS; i++)
		most = max_of(most, atomic32_load(&r->e->fault.habit[i].ahead));
	return most;
}

/* Four pages in a row at random places: so many come with the first, once that is known;
 * and one again when no more are used. */
TEST(records)
{
	/* Aligned, and none behind another that was read before. */
	static const u32 at[] = { 2, 26, 14, 38, 54, 46, 22, 34 };

	setup(RIG_POOL);
	memset(r->e->fault.expect, 0, sizeof(r->e->fault.expect)); /* of filling it */
	for (u32 k = 0; k < 3; k++)
		for (u32 i = 0; i < RECORD; i++)
			rig_read(r, 0, FIRST + at[k] + i);
	ASSERT_EQ(most_ahead(), RECORD - 1);
	for (u32 k = 3; k + 1 < ARRAY_SIZE(at); k++)
		ASSERT_EQ(brought_by(FIRST + at[k]), RECORD);
	ASSERT_EQ(brought_by(FIRST + at[ARRAY_SIZE(at) - 1] + 2), 2u); /* to its end */
	for (u32 n = 0; n < 100; n++) {
		rig_zap(r, 0, FIRST, 20);
		rig_make(r, FIRST, 20, RIG_TEXT, RIG_POOL);
		rig_read(r, 0, FIRST + 2);
	}
	ASSERT_EQ(most_ahead(), 0u);
	finish();
}

TEST(advice)
{
	setup(RIG_POOL);
	rig_advise(r, REGION_SEQUENTIAL);
	ASSERT_EQ(brought_by(FIRST), 1 + READAHEAD_MAX);
	rig_destroy(r);
	setup(RIG_POOL);
	rig_advise(r, REGION_RANDOM);
	ASSERT_EQ(brought_by(FIRST), 1u);
	ASSERT_EQ(brought_by(FIRST + 1), 1u);
	ASSERT_EQ(brought_by(FIRST + 2), 1u);
	finish();
}

/* What is there, what is nothing, what is another region's: the window ends. */
TEST(ends)
{
	setup(RIG_POOL);
	rig_advise(r, REGION_SEQUENTIAL);
	rig_zap(r, 0, FIRST + 3, 1);
	ASSERT_EQ(brought_by(FIRST), 3u);
	rig_read(r, 0, FIRST + 10);
	ASSERT_EQ(brought_by(FIRST + 8), 2u);
	ASSERT_EQ(brought_by(FIRST + NR - 2), 2u);
	rig_destroy(r);
	setup(RIG_POOL);
	ASSERT_OK(region_set_flags(&r->e->mm.regions, fake_addr(0), fake_addr(FIRST + 5),
				   REGION_SEQUENTIAL, 0));
	ASSERT_EQ(brought_by(FIRST), 5u);
	finish();
}

/* Never at the price of a limit: neighbours are charged before they are there (I6). */
TEST(limit_ends_the_window)
{
	setup(RIG_POOL);
	rig_advise(r, REGION_SEQUENTIAL);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY,
		      memcg_usage(r->e->tree, r->p, COUNTER_MEMORY) + 4);
	ASSERT_LE(brought_by(FIRST), 5u);
	ASSERT_LE(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY),
		  memcg_limit(r->e->tree, r->p, COUNTER_MEMORY));
	finish();
}

/* First touches in a row: zeros ahead of them, as far as nothing is there. */
TEST(zeros_ahead)
{
	r = rig_create(0, true);
	rig_advise(r, 0);
	for (u32 at = FIRST, window = 2, nr; at < FIRST + NR; at += nr) {
		nr = brought_by(at);
		if (at == FIRST) {
			ASSERT_EQ(nr, 1u);
			continue;
		}
		ASSERT_EQ(nr, 1 + window);
		window = min_of(2 * window, READAHEAD_MAX);
	}
	for (u32 i = FIRST; i < FIRST + NR; i++)
		r->want[i].fill = RIG_ZERO;
	rig_drain(r, 0);
	rig_check(r);
	/* A page that is out is not made zeros. */
	rig_make(r, 200, 1, RIG_TEXT, RIG_POOL);
	rig_advise(r, REGION_SEQUENTIAL);
	ASSERT_EQ(brought_by(195), 5u);
	rig_read(r, 0, 200);
	finish();
}

TEST(from_the_store)
{
	setup(RIG_STORE);
	rig_advise(r, REGION_SEQUENTIAL);
	ASSERT_EQ(rig_fault(r, 0, FIRST), FAULT_IO);
	while (fake_store_complete(&r->store))
		;
	ASSERT_EQ(nr_present(), READAHEAD_MAX - 2); /* what a buffer holds of pages as they are */
	ASSERT_EQ(r->store.nr_gets, 1u);
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}

static enum fault_result fault_alone(u32 page)
{
	return rig_fault_with(r, 0, page, FAULT_ALONE);
}

/* A thread whom nobody waits for reads itself what lies together, and leaves the rest. */
TEST(read_by_the_fault)
{
	setup(RIG_STORE);
	ASSERT_EQ(fault_alone(FIRST), FAULT_IO);
	ASSERT_EQ(nr_present(), 1u);
	ASSERT_FALSE(fake_store_complete(&r->store));
	rig_advise(r, REGION_SEQUENTIAL);
	r->store.now_max = 5;
	ASSERT_EQ(fault_alone(FIRST + 1), FAULT_IO);
	ASSERT_EQ(nr_present(), 1u + 5);
	while (fake_store_complete(&r->store))
		;
	ASSERT_EQ(nr_present(), 1 + READAHEAD_MAX - 2);
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}

/* What does not lie together is several reads, and one that is refused none. */
TEST(from_several_places)
{
	setup(RIG_STORE);
	rig_advise(r, REGION_SEQUENTIAL);
	r->store.now_max = 11;
	ASSERT_EQ(rig_fault(r, 0, FIRST), FAULT_IO);
	ASSERT_EQ(r->store.nr_gets, 3u);
	while (fake_store_complete(&r->store))
		;
	ASSERT_EQ(nr_present(), READAHEAD_MAX - 2);
	atomic32_store(&r->store.get_error, (u32)-ENOMEM);
	ASSERT_EQ(rig_fault(r, 0, FIRST + 40), FAULT_IO);
	ASSERT_EQ(nr_present(), READAHEAD_MAX - 2);
	ASSERT_EQ(stat_read(&r->e->fault.nr_deferred), 1ull);
	atomic32_store(&r->store.get_error, 0);
	fault_retry_waiting(&r->e->fault, &r->task[0]);
	while (fake_store_complete(&r->store))
		;
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}

/* Of a slow device only a sample is read so, until it is quick again. */
TEST(slow_device)
{
	u32 nr_now = 0;

	setup(RIG_STORE);
	rig_advise(r, REGION_RANDOM);
	atomic32_store(&r->e->fault.read_ns, 1000000);
	for (u32 i = 0; i < NR; i++) {
		u32 before = nr_present();

		ASSERT_EQ(fault_alone(FIRST + i), FAULT_IO);
		nr_now += nr_present() > before;
		while (fake_store_complete(&r->store))
			;
		ASSERT_EQ(nr_present(), before + 1);
	}
	ASSERT_EQ(nr_now, 1u);
	ASSERT_LT(atomic32_load(&r->e->fault.read_ns), 1000000u);
	atomic32_store(&r->e->fault.read_ns, 0);
	finish();
}

/* Slow is what the device takes, not what is done with the bytes, or by others meanwhile. */
TEST(slow_is_the_device)
{
	setup(RIG_STORE);
	rig_advise(r, REGION_RANDOM);
	for (u32 i = 0; i < 8; i++)
		ASSERT_EQ(fault_alone(FIRST + i), FAULT_IO);
	ASSERT_EQ(atomic32_load(&r->e->fault.read_ns), 0u);
	r->store.device_ns = NSEC_PER_MSEC;
	for (u32 i = 8; i < 12; i++)
		ASSERT_EQ(fault_alone(FIRST + i), FAULT_IO);
	ASSERT_GT(atomic32_load(&r->e->fault.read_ns), 250000u);
	while (fake_store_complete(&r->store))
		;
	finish();
}

/* Damaged bytes, read so: tried again by the store's threads, then poison. */
TEST(read_by_the_fault_fails)
{
	setup(RIG_STORE);
	r->store.read_error = -EIO;
	ASSERT_EQ(fault_alone(FIRST), FAULT_IO);
	while (fake_store_complete(&r->store))
		;
	r->store.read_error = 0;
	ASSERT_TRUE(fake_flags(&r->e->mm.pager, fake_addr(FIRST)) & FAKE_POISONED);
	ASSERT_EQ(stat_read(&r->e->fault.nr_poisoned), 1ull);
	rig_destroy(r);
}

/* ---- by a thread of the program --------------------------------------------------- */

static enum fault_result fault_self_at(u32 page)
{
	enum fault_result res = rig_fault_with(r, 0, page, FAULT_SELF);

	/* Nothing of it may be left to the store's threads. */
	ASSERT_FALSE(fake_store_complete(&r->store));
	return res;
}

static u32 brought_by_self(u32 page)
{
	u32 before = nr_present();

	(void)fault_self_at(page);
	return nr_present() - before;
}

/* A thread of the program does not get at the store, or the bytes are not there, or not all
 * lie together: the scan is where it was, whoever goes on with it. */
static void scan_goes_on(int here_error, int read_error, u32 now_max)
{
	u32 at = FIRST;

	setup(RIG_STORE);
	at += brought_by_self(at);
	at += brought_by_self(at);
	ASSERT_EQ(at, FIRST + 4);
	r->store.here_error = here_error;
	r->store.read_error = read_error;
	r->store.now_max = now_max;
	at += brought_by_self(at);
	ASSERT_EQ(at, FIRST + 4 + now_max);
	r->store.here_error = r->store.read_error = 0;
	r->store.now_max = 0;
	ASSERT_EQ(fault_alone(at), FAULT_IO);
	ASSERT_GE(nr_present(), at - FIRST + 3);
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}

TEST(scan_by_the_program)
{
	scan_goes_on(-EBADF, 0, 0);
	scan_goes_on(0, 0, 2);
}

/* The same; what does not lie together stays where it is. */
TEST(read_by_the_program)
{
	setup(RIG_STORE);
	ASSERT_EQ(fault_self_at(FIRST), FAULT_IO);
	ASSERT_EQ(nr_present(), 1u);
	rig_advise(r, REGION_SEQUENTIAL);
	r->store.now_max = 5;
	ASSERT_EQ(fault_self_at(FIRST + 1), FAULT_IO);
	ASSERT_EQ(nr_present(), 1u + 5);
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}

/* What it cannot read is handed over as it was; whether it is lost the fault thread says. */
TEST(not_read_by_the_program)
{
	setup(RIG_STORE);
	rig_advise(r, REGION_SEQUENTIAL);
	r->store.here_error = -EBADF;
	ASSERT_EQ(fault_self_at(FIRST), FAULT_HAND_OVER);
	r->store.here_error = 0;
	r->store.read_error = -EIO;
	ASSERT_EQ(fault_self_at(FIRST), FAULT_HAND_OVER);
	r->store.read_error = 0;
	atomic32_store(&r->e->fault.read_ns, 1000000);
	atomic32_store(&r->e->fault.read_turn, 1);
	ASSERT_EQ(fault_self_at(FIRST), FAULT_HAND_OVER);
	ASSERT_EQ(nr_present(), 0u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_READAHEAD), 0u);
	ASSERT_EQ(atomic32_load(&r->e->fault.self_reads), 0u);
	ASSERT_EQ(stat_read(&r->e->fault.nr_poisoned), 0ull);
	atomic32_store(&r->e->fault.read_ns, 0);
	/* As many wait for the device as may. */
	atomic32_store(&r->e->fault.self_reads, 16);
	ASSERT_EQ(fault_self_at(FIRST), FAULT_HAND_OVER);
	atomic32_store(&r->e->fault.self_reads, 0);
	for (u32 i = FIRST; i < FIRST + NR; i++)
		rig_read(r, 0, i);
	finish();
}
