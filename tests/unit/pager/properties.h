/* SPDX-License-Identifier: Apache-2.0 */
/*
 * properties.h - what both real pagers promise; included once by the test of
 * each, which defines RIG_PAGER.
 */
#ifndef QUIRE_TESTS_PAGER_PROPERTIES_H
#define QUIRE_TESTS_PAGER_PROPERTIES_H

#include "rig.h"

static sigjmp_buf bus_jump;
static volatile sig_atomic_t bus_code;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	bus_code = info->si_code;
	siglongjmp(bus_jump, 1);
}

static bool raises_sigbus(const volatile u8 *at)
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO }, old;
	bool raised = true;

	sigaction(SIGBUS, &sa, &old);
	if (!sigsetjmp(bus_jump, 1)) {
		(void)*at;
		raised = false;
	}
	sigaction(SIGBUS, &old, NULL);
	return raised;
}

TEST(pages_go_out_and_come_back)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(0, 32);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 1), 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(1), rig_frame(1), 31), 31);
	for (u32 i = 0; i < 32; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(40), 1), -ENOENT);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(0), rig_frame(0), 1, 0), 1);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(1), rig_frame(1), 31, 0), 31);
	for (u32 i = 0; i < 32; i++)
		ASSERT_TRUE(rig_intact(rig.mem + i * PAGE_SIZE, i));
	/* The frames are empty again: they take. */
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(5), rig_frame(0), 8), 8);
	ASSERT_EQ(ops->drop_frames(&rig.pager, rig_frame(0), 8 * PAGE_SIZE), 0);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(13), rig_frame(0), 8), 8);
}

TEST(take_stops_at_a_hole)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(0, 3);
	rig_put(4, 2);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 6), 3);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(3), rig_frame(3), 3), -ENOENT);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(4), rig_frame(4), 2), 2);
	ASSERT_TRUE(rig_intact(rig_frame(4), 4));
}

TEST(take_of_unmapped_memory_is_an_error)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	long n;

	rig_put(0, 8);
	munmap((void *)rig_addr(4), PAGE_SIZE);
	n = ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 8);
	ASSERT_TRUE(n >= 1 && n <= 4);
	n = ops->take(&rig.pager, 0, rig_addr(4), rig_frame(4), 1);
	ASSERT_TRUE(n == -ENOENT || n == -EINVAL);
	n = ops->zero(&rig.pager, 0, rig_addr(4), 1, 0);
	ASSERT_TRUE(n == -ENOENT || n == -EINVAL);
}

TEST(a_run_across_mappings_is_taken_in_parts)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	u32 done = 0;

	rig_put(0, 8);
	ASSERT_EQ(madvise((void *)rig_addr(3), PAGE_SIZE, MADV_DONTFORK), 0); /* cuts the mapping */
	while (done < 8) {
		long n = ops->take(&rig.pager, 0, rig_addr(done), rig_frame(done), 8 - done);

		ASSERT_GE(n, 1);
		done += (u32)n;
	}
	for (u32 i = 0; i < 8; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
}

TEST(mlocked_is_refused)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(0, 4);
	if (rig_mlock(2))
		SKIP("mlock: %m");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(2), rig_frame(2), 2), -EINVAL);
	ASSERT_EQ(stat_read(&rig.pager.nr_take_refused), 1u);
	rig.mem[2 * PAGE_SIZE + PAGE_SIZE - 1] = 1; /* still writable, no fault */
	ASSERT_TRUE(rig_intact(rig.mem + 2 * PAGE_SIZE, 2));
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 1), 1);
	ASSERT_EQ(ops->drop(&rig.pager, rig_addr(2), PAGE_SIZE), 0);
}

TEST(a_page_shared_with_a_child_is_taken)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct rig_child child;

	rig_put(0, 8);
	child = rig_fork(1);
	for (u32 done = 0; done < 8;) {
		long n = ops->take(&rig.pager, 0, rig_addr(done), rig_frame(done), 8 - done);

		ASSERT_GE(n, 1);
		done += (u32)n;
	}
	if (ops->sees_pins)
		ASSERT_EQ(stat_read(&rig.pager.nr_take_busy), 8u);
	ASSERT_EQ(stat_read(&rig.pager.nr_take_pinned), 0u);
	for (u32 i = 0; i < 8; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
	ASSERT_EQ(rig_child_end(&child), 0);
}

TEST(a_frame_shared_with_a_child_is_given)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct rig_child child;

	rig_put(0, 2);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 1), 1);
	child = rig_fork(1);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(0), rig_frame(0), 1, 0), 1);
	ASSERT_TRUE(rig_intact(rig.mem, 0));
	ASSERT_EQ(rig_child_end(&child), 0);
}

TEST(zero_makes_a_real_page)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	u64 word = 0;

	ASSERT_EQ(ops->zero(&rig.pager, 0, rig_addr(7), 3, 0), 3);
	/* The shared zero page would be PFNZERO and take its first write silently;
	 * pagemap says "exclusively mapped" (bit 56) of a page of our own. */
	ASSERT_EQ(os_pread(rig.pager.pagemap_fd, &word, 8, rig_addr(8) / PAGE_SIZE * 8), 8);
	ASSERT_TRUE(word >> 63 && (word >> 56 & 1));
	rig.mem[8 * PAGE_SIZE] = 5;
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(8), rig_frame(8), 1), 1);
	ASSERT_EQ(rig_frame(8)[0], 5);
	ASSERT_EQ(rig_frame(8)[1], 0);
}

TEST(put_on_a_present_page_is_eexist)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	u8 buf[PAGE_SIZE] = { 0 };

	rig_put(2, 2);
	ASSERT_EQ(ops->copy(&rig.pager, 0, rig_addr(2), buf, 1, 0), -EEXIST);
	ASSERT_EQ(ops->zero(&rig.pager, 0, rig_addr(2), 1, 0), -EEXIST);
	ASSERT_EQ(stat_read(&rig.pager.nr_eexist), 2u);
	ASSERT_EQ(ops->zero(&rig.pager, 0, rig_addr(1), 3, 0), 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(3), rig_frame(3), 1), 1);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(2), rig_frame(3), 1, 0), -EEXIST);
	ASSERT_TRUE(rig_intact(rig_frame(3), 3));
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(3), rig_frame(3), 1, 0), 1);
	ASSERT_TRUE(rig_intact(rig.mem + 2 * PAGE_SIZE, 2));
}

/* ---- faults ---------------------------------------------------------------- */

static void *store_byte(void *arg)
{
	*(volatile u8 *)arg = 9;
	return NULL;
}

static void *load_byte(void *arg)
{
	volatile u8 *at = arg;

	return (void *)(uintptr_t)*at;
}

static u32 next_fault(struct fault_msg *msg)
{
	int n = rig.pager.ops->faults(&rig.pager, 0, msg, 1, 0, 5 * NSEC_PER_SEC);

	ASSERT_EQ(n, 1);
	return (u32)((msg->addr - rig_addr(0)) / PAGE_SIZE);
}

TEST(faults_tell_reads_from_writes_and_time_out)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct fault_msg msg;
	u64 start = rig_now();
	pthread_t t;
	void *res;

	ASSERT_EQ(ops->faults(&rig.pager, 0, &msg, 1, 50000, 3 * NSEC_PER_MSEC), 0);
	ASSERT_GE(rig_now() - start, 3 * NSEC_PER_MSEC);
	ASSERT_LT(rig_now() - start, NSEC_PER_SEC);
	ASSERT_EQ(stat_read(&rig.pager.nr_fault_sleeps), 1u);
	pthread_create(&t, NULL, store_byte, (void *)(rig_addr(3) + 77));
	ASSERT_EQ(next_fault(&msg), 3u);
	ASSERT_EQ(msg.addr, rig_addr(3));
	ASSERT_TRUE(msg.write && !msg.wp);
	rig_put(3, 1);
	pthread_join(t, NULL);
	ASSERT_EQ(rig.mem[3 * PAGE_SIZE + 77], 9);
	pthread_create(&t, NULL, load_byte, (void *)rig_addr(4));
	ASSERT_EQ(next_fault(&msg), 4u);
	ASSERT_FALSE(msg.write);
	/* Left asleep by DONTWAKE; released by the duplicate's owed wake. */
	ASSERT_EQ(ops->zero(&rig.pager, 0, rig_addr(4), 1, PAGER_DONTWAKE), 1);
	usleep(3000);
	ASSERT_EQ(pthread_tryjoin_np(t, &res), EBUSY);
	ASSERT_EQ(ops->zero(&rig.pager, 0, rig_addr(4), 1, 0), -EEXIST);
	pthread_join(t, &res);
	ASSERT_NULL(res);
}

TEST(a_wake_without_a_page_is_a_new_fault)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct fault_msg msg;
	pthread_t t;

	pthread_create(&t, NULL, load_byte, (void *)rig_addr(4));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(next_fault(&msg), 4u);
		ASSERT_EQ(ops->wake(&rig.pager, 0, rig_addr(4), PAGE_SIZE), 0);
	}
	ASSERT_EQ(next_fault(&msg), 4u);
	rig_put(4, 1);
	pthread_join(t, NULL);
}

TEST(poison_is_sigbus)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(1, 1);
	if (!rig.pager.caps.poison) {
		ASSERT_EQ(ops->poison(&rig.pager, 0, rig_addr(2)), -EOPNOTSUPP);
		SKIP("no UFFDIO_POISON");
	}
	ASSERT_EQ(ops->poison(&rig.pager, 0, rig_addr(2)), 0);
	ASSERT_TRUE(raises_sigbus(rig.mem + 2 * PAGE_SIZE));
	ASSERT_EQ(ops->poison(&rig.pager, 0, rig_addr(1)), -EEXIST);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(2), rig_frame(2), 1), -ENOENT);
	ASSERT_FALSE(raises_sigbus(rig.mem + PAGE_SIZE));
	ASSERT_EQ(ops->drop(&rig.pager, rig_addr(2), PAGE_SIZE), 0);
	rig_put(2, 1);
	ASSERT_FALSE(raises_sigbus(rig.mem + 2 * PAGE_SIZE));
}

TEST(ranges_are_exclusive_and_removable)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct pager other;

	ASSERT_EQ(pager_init(&other, RIG_PAGER), 0);
	ASSERT_OK(other.ops->open(&other, 2, -1));
	ASSERT_EQ(other.ops->add_range(&other, 1, rig_addr(0), PAGE_SIZE), -EBUSY);
	ASSERT_EQ(ops->remove_range(&rig.pager, 0, rig_addr(0), PAGE_SIZE), 0);
	ASSERT_EQ(other.ops->add_range(&other, 1, rig_addr(0), PAGE_SIZE), 0);
	uffd_close_all(&other, -1);
	ASSERT_EQ(rig.mem[0], 0); /* nobody's: the kernel's zero */
}

TEST(eagain_is_tried_again_and_counted)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	u8 buf[2 * PAGE_SIZE] = { 3 };

	rig_fail("uffd_copy:EAGAIN@1");
	ASSERT_EQ(ops->copy(&rig.pager, 0, rig_addr(0), buf, 2, 0), 2);
	ASSERT_EQ(stat_read(&rig.pager.nr_eagain), 1u);
	rig_fail("uffd_copy:EAGAIN@1/1");
	ASSERT_EQ(ops->zero(&rig.pager, 0, rig_addr(2), 1, 0), -EAGAIN);
	rig_fail("uffd_move:EAGAIN@1/1,uffd_protect:EAGAIN@1/1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 2), -EAGAIN);
	rig_fail("uffd_move:EAGAIN@1/2,uffd_protect:EAGAIN@1/2");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 2), 2);
	ASSERT_EQ(rig_frame(0)[0], 3);
	rig_fail("uffd_copy:ENOMEM@1/1,uffd_move:ENOMEM@1/1");
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(0), rig_frame(0), 2, 0), -ENOMEM);
	rig_fail(NULL);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(0), rig_frame(0), 2, 0), 2);
}

/* ---- scan ------------------------------------------------------------------ */

struct runs {
	u32 nr;
	u64 page[RIG_PAGES];
	u64 pages[RIG_PAGES];
};

static void note_run(void *ctx, u64 addr, u64 nr_pages)
{
	struct runs *r = ctx;

	r->page[r->nr] = (addr - rig_addr(0)) / PAGE_SIZE;
	r->pages[r->nr++] = nr_pages;
}

static void check_scan(void)
{
	struct runs r = { 0 };

	ASSERT_EQ(rig.pager.ops->scan(&rig.pager, rig_addr(0), RIG_BYTES, note_run, &r), 0);
	ASSERT_EQ(r.nr, 3u);
	ASSERT_EQ(r.page[0], 2u);
	ASSERT_EQ(r.pages[0], 1u);
	ASSERT_EQ(r.page[1], 10u);
	ASSERT_EQ(r.pages[1], 5u); /* two zero pages, three written */
	ASSERT_EQ(r.page[2], 63u);
	ASSERT_EQ(r.pages[2], 1u);
}

TEST(scan_counts_zero_pages)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	u32 sum = 0;

	ASSERT_EQ(ops->remove_range(&rig.pager, 0, rig_addr(0), RIG_BYTES), 0);
	sum += ((volatile u8 *)rig.mem)[10 * PAGE_SIZE];
	sum += ((volatile u8 *)rig.mem)[11 * PAGE_SIZE];
	ASSERT_EQ(sum, 0u);
	rig.mem[2 * PAGE_SIZE] = rig.mem[12 * PAGE_SIZE] = rig.mem[13 * PAGE_SIZE] = 1;
	rig.mem[14 * PAGE_SIZE] = rig.mem[63 * PAGE_SIZE] = 1;
	ASSERT_EQ(ops->add_range(&rig.pager, 0, rig_addr(0), RIG_BYTES), 0);
	check_scan();
	rig.pager.caps.pagemap_scan = false; /* by reading */
	check_scan();
	close(rig.pager.pagemap_fd);
	rig.pager.pagemap_fd = -1; /* by mincore */
	check_scan();
	munmap((void *)rig_addr(20), 3 * PAGE_SIZE);
	check_scan();
	/* A zero page is taken like any other. */
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(10), rig_frame(10), 1), 1);
	ASSERT_EQ(rig_frame(10)[0], 0);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(10), rig_frame(10), 1, 0), 1);
	ASSERT_EQ(rig.mem[10 * PAGE_SIZE], 0);
}

TEST(huge_pages_adopted_late_are_taken_one_by_one)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	size_t huge = 2 * MIB;
	u8 *map = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u8 *mem = (u8 *)align_up((uintptr_t)map, (uintptr_t)huge);

	ASSERT_TRUE(map != MAP_FAILED);
	madvise(mem, huge, MADV_HUGEPAGE);
	for (u32 i = 0; i < 64; i++)
		rig_fill(mem + i * PAGE_SIZE, i);
	ASSERT_EQ(ops->add_range(&rig.pager, 0, (u64)(uintptr_t)mem, huge), 0);
	ASSERT_EQ(ops->take(&rig.pager, 0, (u64)(uintptr_t)mem, rig_frame(0), 1), 1);
	for (u32 done = 1; done < 64;) {
		long n = ops->take(&rig.pager, 0, (u64)(uintptr_t)mem + done * PAGE_SIZE,
				   rig_frame(done), 64 - done);

		ASSERT_GE(n, 1);
		done += (u32)n;
	}
	for (u32 i = 0; i < 64; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
	munmap(map, 2 * huge);
}

#endif
