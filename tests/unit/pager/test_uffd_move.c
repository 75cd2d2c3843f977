/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_uffd_move.c - the pager that moves pages, on the running kernel.
 * paging
 */
#define RIG_PAGER "uffd_move"
#include "properties.h"
#include "protected.h"
#include "under_fire.h"

#include <liburing.h>

TEST(read_only_is_copied)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(0, 4);
	mprotect((void *)rig_addr(1), PAGE_SIZE, PROT_READ);
	mprotect((void *)rig_addr(2), PAGE_SIZE, PROT_NONE);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(1), rig_frame(1), 3), 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(2), rig_frame(2), 2), 1);
	ASSERT_TRUE(rig_intact(rig_frame(1), 1));
	ASSERT_TRUE(rig_intact(rig_frame(2), 2));
	ASSERT_EQ(stat_read(&rig.pager.nr_take_refused), 0u);
	/* One that is gone, and one that cannot be dropped: as if nobody had asked. */
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(1), rig_frame(4), 1), -ENOENT);
	mprotect((void *)rig_addr(0), PAGE_SIZE, PROT_READ);
	rig_fail("uffd_drop:EINVAL@1/1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 1), -EINVAL);
	mprotect((void *)rig_addr(0), PAGE_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(rig_intact(rig.mem, 0));
	rig.mem[0] ^= 1; /* writable, no fault */
	rig.mem[0] ^= 1;
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 1), 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(3), rig_frame(3), 1), 1);
	/* Moving into read-only memory is refused, copying is not. */
	mprotect((void *)rig_addr(3), PAGE_SIZE, PROT_READ);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(3), rig_frame(3), 1, 0), -EINVAL);
	ASSERT_EQ(ops->copy(&rig.pager, 0, rig_addr(3), rig_frame(3), 1, 0), 1);
	ASSERT_TRUE(rig_intact(rig.mem + 3 * PAGE_SIZE, 3));
}

TEST(a_pinned_page_stays)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct io_uring ring;
	struct iovec iov;
	long n = -EBUSY;

	rig_put(0, 4);
	if (io_uring_queue_init(2, &ring, 0))
		SKIP("io_uring is refused: a pinned page cannot be made");
	iov = (struct iovec){ (void *)rig_addr(1), PAGE_SIZE };
	ASSERT_OK(io_uring_register_buffers(&ring, &iov, 1));
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 4), 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(1), rig_frame(1), 3), -EBUSY);
	ASSERT_EQ(stat_read(&rig.pager.nr_take_busy), 1u);
	ASSERT_EQ(stat_read(&rig.pager.nr_take_pinned), 1u);
	ASSERT_TRUE(rig_intact(rig.mem + PAGE_SIZE, 1));
	io_uring_queue_exit(&ring);
	for (int i = 0; i < 2000 && n == -EBUSY; i++, usleep(1000))
		n = ops->take(&rig.pager, 0, rig_addr(1), rig_frame(1), 3);
	ASSERT_EQ(n, 3);
	ASSERT_TRUE(rig_intact(rig_frame(1), 1));
}

/* Busy, and dropped by the program before the sharing could be broken. */
TEST(breaking_sharing_never_waits)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct fault_msg msg;

	rig_fail("uffd_move:EBUSY@1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(3), rig_frame(3), 1), -ENOENT);
	ASSERT_EQ(stat_read(&rig.pager.nr_take_busy), 1u);
	ASSERT_EQ(ops->faults(&rig.pager, 0, &msg, 1, 0, 0), 0);
	rig_fail(NULL);
	rig_put(4, 1);
	rig_fail("uffd_move:EBUSY@1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(4), rig_frame(4), 1), 1);
	ASSERT_TRUE(rig_intact(rig_frame(4), 4));
}

TEST(an_empty_frame_is_sigbus_not_a_hang)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	ASSERT_TRUE(raises_sigbus(rig_frame(3)));
	rig_put(3, 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(3), rig_frame(3), 1), 1);
	ASSERT_FALSE(raises_sigbus(rig_frame(3)));
	rig_put(4, 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(4), rig_frame(3), 1), -EEXIST);
}

TEST(a_guard_is_nothing_to_take)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct runs r = { 0 };

	rig_put(0, 3);
	if (madvise((void *)rig_addr(1), PAGE_SIZE, 102)) /* MADV_GUARD_INSTALL */
		SKIP("guard pages: %m");
	ASSERT_EQ(ops->scan(&rig.pager, rig_addr(0), 3 * PAGE_SIZE, note_run, &r), 0);
	ASSERT_EQ(r.nr, 2u);
	ASSERT_TRUE(ops->guarded(&rig.pager, rig_addr(1)));
	ASSERT_FALSE(ops->guarded(&rig.pager, rig_addr(3)));
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 3), 1);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(1), rig_frame(1), 2), -ENOENT);
}

/* What the kernel's own ageing and DAMON do now and then: clear referenced bits. */
static void *age_all_the_time(void *arg)
{
	(void)arg;
	while (!atomic32_load(&rig.stop))
		madvise(rig.mem, 4 * PAGE_SIZE, MADV_COLD);
	return NULL;
}

/*
 * A page whose referenced bit changes under UFFDIO_MOVE is tried again by the
 * kernel.  Linux 6.18 then moves it, forgets that it did, tries once more and says
 * EEXIST (doc/decisions/0005-move-eexist.md).  The page must not be taken for one
 * that stayed.  Here by chance; the test after this one does it on purpose.
 */
TEST(aging_in_the_middle)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	u64 until = rig_now() + 2 * NSEC_PER_SEC;
	pthread_t ager;
	u64 n = 0;

	rig_put(0, 4);
	ASSERT_EQ(pthread_create(&ager, NULL, age_all_the_time, NULL), 0);
	for (; rig_now() < until; n++) {
		u32 i = (u32)(n % 4);

		ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(i), rig_frame(i), 1), 1);
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
		ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(i), rig_frame(i), 1, 0), 1);
	}
	atomic32_store(&rig.stop, 1);
	pthread_join(ager, NULL);
	for (u32 i = 0; i < 4; i++)
		ASSERT_TRUE(rig_intact(rig.mem + i * PAGE_SIZE, i));
	printf("# %llu moves out and back, %llu said to exist already\n", (unsigned long long)n,
	       (unsigned long long)stat_read(&rig.pager.nr_move_unsaid));
}

static void *read_page_2(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t) * (volatile u8 *)rig_addr(2);
}

TEST(moved_and_said_to_exist)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	pthread_t reader;
	void *seen;

	rig_put(0, 8);
	rig_fail("uffd_move_unsaid:EEXIST@1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 8), 8);
	ASSERT_EQ(stat_read(&rig.pager.nr_move_unsaid), 8u);
	for (u32 i = 0; i < 8; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
	/* Who waits for the page is woken, though the kernel did not wake. */
	ASSERT_EQ(pthread_create(&reader, NULL, read_page_2, NULL), 0);
	usleep(50000);
	rig_fail("uffd_move_unsaid:EEXIST@1");
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(2), rig_frame(2), 1, 0), 1);
	pthread_join(reader, &seen);
	ASSERT_EQ((u8)(uintptr_t)seen, rig_pattern(2, 0));
	rig_fail(NULL);
	/* What is really there already is still said so. */
	rig_put(0, 1);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(0), rig_frame(0), 1, 0), -EEXIST);
	ASSERT_TRUE(rig_intact(rig_frame(0), 0));
}
