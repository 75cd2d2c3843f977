/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fake.c - the fake pager answers as the real ones do.
 *
 * The same properties are asked of the kernel in test_uffd_move.c.
 * tsan
 */
#include "pager/fake.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define NR_FRAMES 64u

static struct pager pager;
static u8 frames[NR_FRAMES * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static u8 pattern[4 * PAGE_SIZE];

static u8 *frame(u32 n)
{
	return frames + n * PAGE_SIZE;
}

static const struct pager_ops *setup(u32 nr_queues)
{
	fake_exit(&pager);
	ASSERT_EQ(pager_init(&pager, "fake"), 0);
	ASSERT_EQ(pager.ops->open(&pager, nr_queues, -1), 0);
	ASSERT_EQ(pager.ops->add_frames(&pager, frames, sizeof(frames)), 0);
	ASSERT_EQ(pager.ops->add_range(&pager, 0, FAKE_BASE, 128 * PAGE_SIZE), 0);
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (u8)(i * 7 + (i >> 12));
	return pager.ops;
}

TEST(take_and_give_carry_the_bytes)
{
	const struct pager_ops *ops = setup(1);

	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(3), pattern, 4, 0), 4);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(3), frame(8), 4), 4);
	ASSERT_MEM_EQ(frame(8), pattern, sizeof(pattern));
	ASSERT_EQ(fake_flags(&pager, fake_addr(3)), 0u);
	ASSERT_TRUE(fake_frame_full(&pager, frame(11)));
	ASSERT_EQ(ops->give(&pager, 0, fake_addr(3), frame(8), 4, 0), 4);
	ASSERT_MEM_EQ(fake_content(&pager, fake_addr(3)), pattern, sizeof(pattern));
	ASSERT_FALSE(fake_frame_full(&pager, frame(8)));
	ASSERT_EQ(frame(8)[17], FAKE_EMPTY);
	ASSERT_EQ(*fake_access(&pager, fake_addr(4) + 5, false), pattern[PAGE_SIZE + 5]);
}

TEST(take_refuses_as_the_kernel)
{
	const struct pager_ops *ops = setup(1);

	ASSERT_EQ(ops->take(&pager, 0, fake_addr(0), frame(0), 1), -ENOENT);
	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(0), 8, 0), 8);
	fake_set(&pager, fake_addr(2), 1, FAKE_PINNED, 0);
	fake_set(&pager, fake_addr(3), 1, FAKE_READONLY, 0);
	fake_set(&pager, fake_addr(4), 1, FAKE_SHARED, 0);
	fake_set(&pager, fake_addr(7), 1, FAKE_UNMAPPED, 0);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(0), frame(0), 8), 2);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(2), frame(2), 6), -EBUSY);
	ASSERT_EQ(stat_read(&pager.nr_take_pinned), 1u);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(3), frame(2), 5), -EINVAL);
	ASSERT_EQ(stat_read(&pager.nr_take_refused), 1u);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(4), frame(2), 4), 3);
	ASSERT_EQ(stat_read(&pager.nr_take_busy), 2u);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(7), frame(5), 1), -ENOENT);
	fake_set(&pager, fake_addr(2), 1, 0, FAKE_PINNED);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(2), frame(0), 1), -EEXIST);
	ASSERT_EQ(ops->drop_frames(&pager, frame(0), PAGE_SIZE), 0);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(2), frame(0), 1), 1);
}

TEST(put_refuses_as_the_kernel)
{
	const struct pager_ops *ops = setup(2);

	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(200), pattern, 1, 0), -ENOENT);
	ASSERT_EQ(ops->copy(&pager, 1, fake_addr(0), pattern, 1, 0), -ENOENT);
	ASSERT_EQ(ops->zero(&pager, 0, FAKE_BASE + FAKE_PAGES * PAGE_SIZE, 1, 0), -ENOENT);
	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(1), pattern, 1, 0), 1);
	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(0), pattern, 2, 0), 1);
	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(1), pattern, 1, 0), -EEXIST);
	ASSERT_EQ(stat_read(&pager.nr_eexist), 1u);
	ASSERT_EQ(ops->give(&pager, 0, fake_addr(2), frame(0), 1, 0), -ENOENT);
	ASSERT_EQ(ops->take(&pager, 0, fake_addr(0), frame(0), 1), 1);
	ASSERT_EQ(ops->give(&pager, 0, fake_addr(1), frame(0), 1, 0), -EEXIST);
	ASSERT_TRUE(fake_frame_full(&pager, frame(0)));
	fake_set(&pager, fake_addr(0), 1, FAKE_READONLY, 0);
	ASSERT_EQ(ops->give(&pager, 0, fake_addr(0), frame(0), 1, 0), -EINVAL);
	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(0), frame(0), 1, 0), 1);
}

TEST(ranges_belong_to_one_queue)
{
	const struct pager_ops *ops = setup(2);

	ASSERT_EQ(ops->add_range(&pager, 1, fake_addr(100), 100 * PAGE_SIZE), -EBUSY);
	ASSERT_EQ(ops->add_range(&pager, 1, fake_addr(128), 100 * PAGE_SIZE), 0);
	ASSERT_EQ(ops->remove_range(&pager, 0, fake_addr(128), PAGE_SIZE), -EINVAL);
	ASSERT_EQ(ops->remove_range(&pager, 1, fake_addr(128), PAGE_SIZE), 0);
	ASSERT_EQ(ops->copy(&pager, 1, fake_addr(128), pattern, 1, 0), -ENOENT);
	ASSERT_EQ(ops->add_range(&pager, 0, FAKE_BASE, PAGE_SIZE + 1), -EINVAL);
}

/* ---- runs of scan ---------------------------------------------------------- */

struct runs {
	u32 nr;
	u64 addr[8];
	u64 pages[8];
};

static void note_run(void *ctx, u64 addr, u64 nr_pages)
{
	struct runs *r = ctx;

	r->addr[r->nr] = addr;
	r->pages[r->nr++] = nr_pages;
}

TEST(scan_reports_maximal_runs_and_zero_pages)
{
	const struct pager_ops *ops = setup(1);
	struct runs r = { 0 };

	ASSERT_EQ(*fake_access(&pager, fake_addr(250), false), 0); /* not registered */
	ASSERT_EQ(fake_flags(&pager, fake_addr(250)), (u32)(FAKE_PRESENT | FAKE_ZERO));
	ASSERT_NOT_NULL(fake_access(&pager, fake_addr(251), true));
	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(0), 2, 0), 2);
	ASSERT_EQ(fake_flags(&pager, fake_addr(0)), (u32)FAKE_PRESENT);
	ASSERT_EQ(ops->scan(&pager, FAKE_BASE, FAKE_PAGES * PAGE_SIZE, note_run, &r), 0);
	ASSERT_EQ(r.nr, 2u);
	ASSERT_EQ(r.addr[0], fake_addr(0));
	ASSERT_EQ(r.pages[0], 2u);
	ASSERT_EQ(r.addr[1], fake_addr(250));
	ASSERT_EQ(r.pages[1], 2u);
}

/* ---- faults ---------------------------------------------------------------- */

static void *toucher(void *arg)
{
	return fake_access(&pager, (u64)(uintptr_t)arg, true);
}

static pthread_t touch(u64 addr)
{
	u32 before = fake_nr_waiting(&pager);
	pthread_t t;

	ASSERT_EQ(pthread_create(&t, NULL, toucher, (void *)(uintptr_t)addr), 0);
	while (fake_nr_waiting(&pager) == before)
		usleep(100);
	return t;
}

static void *joined(pthread_t t)
{
	void *res;

	ASSERT_EQ(pthread_join(t, &res), 0);
	return res;
}

TEST(a_missing_page_is_a_fault_in_order_of_arrival)
{
	const struct pager_ops *ops = setup(1);
	struct fault_msg msg[4];
	pthread_t a, b;

	ASSERT_EQ(ops->faults(&pager, 0, msg, 4, 0, NSEC_PER_MSEC), 0);
	a = touch(fake_addr(9) + 100);
	b = touch(fake_addr(2));
	ASSERT_EQ(ops->faults(&pager, 0, msg, 1, 0, SYNC_FOREVER), 1);
	ASSERT_EQ(msg[0].addr, fake_addr(9));
	ASSERT_TRUE(msg[0].write && !msg[0].wp);
	ASSERT_EQ(ops->faults(&pager, 0, msg, 4, 0, SYNC_FOREVER), 1);
	ASSERT_EQ(msg[0].addr, fake_addr(2));
	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(2), 1, 0), 1);
	ASSERT_PTR_EQ(joined(b), fake_content(&pager, fake_addr(2)));
	ASSERT_EQ(ops->copy(&pager, 0, fake_addr(9), pattern, 1, 0), 1);
	ASSERT_PTR_EQ(joined(a), fake_content(&pager, fake_addr(9)) + 100);
	ASSERT_EQ(ops->faults(&pager, 0, msg, 4, 0, 0), 0);
}

TEST(a_fault_answered_unread_is_never_read)
{
	const struct pager_ops *ops = setup(1);
	struct fault_msg msg[4];
	pthread_t t = touch(fake_addr(1));

	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(1), 1, 0), 1);
	joined(t);
	ASSERT_EQ(ops->faults(&pager, 0, msg, 4, 0, 0), 0);
}

TEST(a_wake_without_a_page_is_a_new_fault)
{
	const struct pager_ops *ops = setup(1);
	struct fault_msg msg[4];
	pthread_t t = touch(fake_addr(1));

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(ops->faults(&pager, 0, msg, 4, 0, SYNC_FOREVER), 1);
		ASSERT_EQ(ops->wake(&pager, 0, fake_addr(1), PAGE_SIZE), 0);
	}
	ASSERT_EQ(ops->faults(&pager, 0, msg, 4, 0, SYNC_FOREVER), 1);
	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(1), 1, PAGER_DONTWAKE), 1);
	usleep(2000);
	ASSERT_EQ(fake_nr_waiting(&pager), 1u);
	/* The duplicate releases whom the first left asleep. */
	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(1), 1, 0), -EEXIST);
	ASSERT_NOT_NULL(joined(t));
}

TEST(poison_is_a_signal_and_drop_takes_it_away)
{
	const struct pager_ops *ops = setup(1);
	pthread_t t = touch(fake_addr(1));

	ASSERT_EQ(ops->poison(&pager, 0, fake_addr(1)), 0);
	ASSERT_NULL(joined(t));
	ASSERT_NULL(fake_access(&pager, fake_addr(1), false));
	ASSERT_EQ(ops->poison(&pager, 0, fake_addr(1)), -EEXIST);
	ASSERT_EQ(ops->drop(&pager, fake_addr(1), PAGE_SIZE), 0);
	ASSERT_EQ(ops->zero(&pager, 0, fake_addr(1), 1, 0), 1);
	fake_set(&pager, fake_addr(1), 1, FAKE_READONLY, 0);
	ASSERT_NOT_NULL(fake_access(&pager, fake_addr(1), false));
	ASSERT_NULL(fake_access(&pager, fake_addr(1), true));
	fake_set(&pager, fake_addr(1), 1, FAKE_UNMAPPED, 0);
	ASSERT_NULL(fake_access(&pager, fake_addr(1), false));
}

TEST(remove_range_releases_waiters_to_zeros)
{
	const struct pager_ops *ops = setup(1);
	pthread_t t = touch(fake_addr(1));
	u8 *byte;

	ASSERT_EQ(ops->remove_range(&pager, 0, FAKE_BASE, 4 * PAGE_SIZE), 0);
	byte = joined(t);
	ASSERT_NOT_NULL(byte);
	ASSERT_EQ(*byte, 0);
}

/* ---- all at once ----------------------------------------------------------- */

#define NR_SHARED 8u
#define NR_ADDS 20000u

static pthread_mutex_t page_lock[NR_SHARED];
static bool page_out[NR_SHARED];
static struct atomic32 stop;

static void *adder(void *arg)
{
	for (u32 i = 0; i < NR_ADDS; i++)
		fake_fetch_add(&pager, fake_addr((i * 5 + (u32)(uintptr_t)arg) % NR_SHARED), 1);
	return NULL;
}

static void *server(void *arg)
{
	struct fault_msg msg[4];

	(void)arg;
	while (!atomic32_load(&stop)) {
		int n = pager.ops->faults(&pager, 0, msg, 4, 0, 10 * NSEC_PER_MSEC);

		for (int i = 0; i < n; i++) {
			u32 k = (u32)((msg[i].addr - FAKE_BASE) >> PAGE_SHIFT);

			pthread_mutex_lock(&page_lock[k]);
			if (page_out[k])
				pager.ops->give(&pager, 0, msg[i].addr, frame(k), 1, 0);
			else
				pager.ops->zero(&pager, 0, msg[i].addr, 1, 0);
			page_out[k] = false;
			pthread_mutex_unlock(&page_lock[k]);
		}
	}
	return NULL;
}

static void *taker(void *arg)
{
	(void)arg;
	for (u32 i = 0; !atomic32_load(&stop); i++) {
		u32 k = i % NR_SHARED;

		pthread_mutex_lock(&page_lock[k]);
		if (!page_out[k])
			page_out[k] = pager.ops->take(&pager, 0, fake_addr(k), frame(k), 1) == 1;
		pthread_mutex_unlock(&page_lock[k]);
	}
	return NULL;
}

TEST(no_add_is_lost_between_take_and_give)
{
	pthread_t t[4];
	u64 sum = 0;

	setup(1);
	atomic32_store(&stop, 0);
	for (u32 i = 0; i < NR_SHARED; i++) {
		pthread_mutex_init(&page_lock[i], NULL);
		page_out[i] = false;
	}
	pthread_create(&t[0], NULL, server, NULL);
	pthread_create(&t[1], NULL, taker, NULL);
	pthread_create(&t[2], NULL, adder, (void *)0);
	pthread_create(&t[3], NULL, adder, (void *)3);
	joined(t[2]);
	joined(t[3]);
	for (u32 i = 0; i < NR_SHARED; i++)
		sum += fake_load(&pager, fake_addr(i));
	atomic32_store(&stop, 1);
	joined(t[0]);
	joined(t[1]);
	ASSERT_EQ(sum, 2 * NR_ADDS);
}

TEST(reset_is_quick)
{
	struct timespec a, b;
	u64 best = UINT64_MAX;

	setup(1);
	for (int i = 0; i < 20; i++) {
		u64 ns;

		clock_gettime(CLOCK_MONOTONIC, &a);
		fake_reset(&pager);
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = (u64)(b.tv_sec - a.tv_sec) * NSEC_PER_SEC + (u64)b.tv_nsec - (u64)a.tv_nsec;
		best = min_of(best, ns);
	}
	printf("# reset: %llu ns\n", (unsigned long long)best);
	ASSERT_LT(best, 10000u);
}
