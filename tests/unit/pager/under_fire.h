/* SPDX-License-Identifier: Apache-2.0 */
/*
 * under_fire.h - what both real pagers promise while the program runs; included
 * once by the test of each, after properties.h.
 */
#ifndef QUIRE_TESTS_PAGER_UNDER_FIRE_H
#define QUIRE_TESTS_PAGER_UNDER_FIRE_H

#include "rig.h"

#define RUN_NS (1500 * NSEC_PER_MSEC)

static struct atomic32 run_over;

static u32 next_random(u32 *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* The last 8 bytes of a page are its counter. */
static void *add_to_counters(void *arg)
{
	u32 seed = (u32)(uintptr_t)arg;
	u64 nr = 0;

	while (!atomic32_peek(&run_over)) {
		u8 *page = rig.mem + next_random(&seed) % RIG_PAGES * PAGE_SIZE;

		__atomic_fetch_add((u64 *)(page + PAGE_SIZE - 8), 1, __ATOMIC_SEQ_CST);
		nr++;
	}
	return (void *)(uintptr_t)nr;
}

/* The kernel stores too: 4 bytes by read(2) from a pipe, checked at once. */
static void *read_into_pages(void *arg)
{
	u32 seed = 77, value = 0, bad = 0;
	int *fds = arg;

	while (!atomic32_peek(&run_over)) {
		u8 *to = rig.mem + next_random(&seed) % RIG_PAGES * PAGE_SIZE + PAGE_SIZE - 16;

		value++;
		if (write(fds[1], &value, 4) != 4 || read(fds[0], to, 4) != 4)
			bad++;
		usleep(20);
		if (memcmp(to, &value, 4) != 0)
			bad++;
	}
	return (void *)(uintptr_t)bad;
}

static u64 take_all_the_time(void)
{
	u64 end = rig_now() + RUN_NS, nr = 0;
	u32 seed = 5;

	while (rig_now() < end) {
		u32 page = next_random(&seed) % RIG_PAGES;
		u32 len = 1 + next_random(&seed) % 8;
		u32 run = 0;

		while (run < len && page + run < RIG_PAGES && rig_take_allowed(page + run))
			run++;
		if (run) {
			long n = rig_take(page, run);

			nr += n > 0 ? (u64)n : 0;
			if (n == -EINVAL || n == -EIO || n == -ENOMEM)
				stat_add(&rig.nr_bad, 1);
		}
	}
	return nr;
}

TEST(no_store_is_lost_while_pages_come_and_go)
{
	pthread_t t[3];
	u64 want = 0, got = 0, taken;
	int fds[2];
	void *res;

	rig_setup(RIG_PAGER);
	rig_put(0, RIG_PAGES);
	for (u32 i = 0; i < RIG_PAGES; i++)
		memset(rig.mem + (i + 1) * PAGE_SIZE - 16, 0, 16);
	atomic32_store(&run_over, 0);
	ASSERT_EQ(pipe(fds), 0);
	rig_start_server();
	pthread_create(&t[0], NULL, add_to_counters, (void *)1);
	pthread_create(&t[1], NULL, add_to_counters, (void *)2);
	pthread_create(&t[2], NULL, read_into_pages, fds);
	taken = take_all_the_time();
	atomic32_store(&run_over, 1);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &res);
		want += (u64)(uintptr_t)res;
	}
	pthread_join(t[2], &res);
	for (u32 i = 0; i < RIG_PAGES; i++) {
		u64 n;

		memcpy(&n, rig.mem + (i + 1) * PAGE_SIZE - 8, 8);
		got += n;
		ASSERT_TRUE(rig_intact(rig.mem + i * PAGE_SIZE, i));
	}
	rig_stop_server();
	close(fds[0]);
	close(fds[1]);
	printf("# %llu adds, %llu pages taken, %llu faults of which %llu write-protect, "
	       "%llu EAGAIN, %llu busy, %llu pinned\n",
	       (unsigned long long)want, (unsigned long long)taken,
	       (unsigned long long)stat_read(&rig.nr_served),
	       (unsigned long long)stat_read(&rig.nr_wp),
	       (unsigned long long)stat_read(&rig.pager.nr_eagain),
	       (unsigned long long)stat_read(&rig.pager.nr_take_busy),
	       (unsigned long long)stat_read(&rig.pager.nr_take_pinned));
	ASSERT_EQ(got, want);
	ASSERT_NULL(res);
	ASSERT_GT(taken, 100u);
	ASSERT_EQ(stat_read(&rig.nr_bad), 0u);
}

static void *drop_and_touch(void *arg)
{
	u32 *seed = arg;

	while (!atomic32_peek(&run_over)) {
		u8 *page = rig.mem + next_random(seed) % 4 * PAGE_SIZE;

		madvise(page, PAGE_SIZE, MADV_DONTNEED);
		*(volatile u8 *)page = 1;
	}
	return NULL;
}

/*
 * The program drops pages that a child shares while they are taken.  A take
 * that waited for the userfault would wait for ever: the fault thread needs
 * the lock the taker holds.
 */
TEST(take_never_waits_for_a_fault)
{
	pthread_t t;
	u32 seed = 3;
	u64 end;

	rig_setup(RIG_PAGER);
	ASSERT_EQ(rig.pager.ops->zero(&rig.pager, 0, rig_addr(0), 4, 0), 4);
	rig_start_server();
	atomic32_store(&run_over, 0);
	pthread_create(&t, NULL, drop_and_touch, &seed);
	end = rig_now() + 500 * NSEC_PER_MSEC;
	while (rig_now() < end) {
		struct rig_child c = rig_fork(0);

		for (u32 i = 0; i < 40; i++)
			if (rig_take_allowed(i % 4))
				rig_take(i % 4, 1);
		rig_child_end(&c);
	}
	atomic32_store(&run_over, 1);
	pthread_join(t, NULL);
	rig_stop_server();
	ASSERT_EQ(stat_read(&rig.nr_bad), 0u);
	printf("# %llu busy, %llu pinned\n", (unsigned long long)stat_read(&rig.pager.nr_take_busy),
	       (unsigned long long)stat_read(&rig.pager.nr_take_pinned));
}

#endif
