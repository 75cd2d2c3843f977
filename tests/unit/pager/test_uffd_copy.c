/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_uffd_copy.c - the pager of kernels that cannot move pages.
 * paging
 */
#define RIG_PAGER "uffd_copy"
#include "properties.h"
#include "protected.h"
#include "under_fire.h"

#include <liburing.h>

TEST(read_only_is_taken)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(0, 4);
	mprotect((void *)rig_addr(1), PAGE_SIZE, PROT_READ);
	mprotect((void *)rig_addr(2), PAGE_SIZE, PROT_NONE);
	for (u32 i = 0; i < 4; i++) {
		ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(i), rig_frame(i), 1), 1);
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
	}
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(1), rig_frame(1), 1, 0), 1);
	ASSERT_TRUE(rig_intact(rig.mem + PAGE_SIZE, 1));
}

/* Known and said (sees_pins): a device would go on writing to the old page. */
TEST(a_pinned_page_is_not_seen)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct io_uring ring;
	struct iovec iov;

	ASSERT_FALSE(ops->sees_pins);
	rig_put(0, 2);
	if (io_uring_queue_init(2, &ring, 0))
		SKIP("io_uring is refused: a pinned page cannot be made");
	iov = (struct iovec){ (void *)rig_addr(1), PAGE_SIZE };
	ASSERT_OK(io_uring_register_buffers(&ring, &iov, 1));
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(1), rig_frame(1), 1), 1);
	io_uring_queue_exit(&ring);
}

/* A store that met the protection is told as such and becomes a missing fault. */
TEST(a_store_during_take_waits_and_tries_again)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct uffdio_writeprotect wp = { { rig_addr(2), PAGE_SIZE }, UFFDIO_WRITEPROTECT_MODE_WP };
	struct fault_msg msg;
	pthread_t t;

	rig_put(2, 1);
	ASSERT_OK(os_ioctl(rig.pager.uffd[0], UFFDIO_WRITEPROTECT, &wp));
	pthread_create(&t, NULL, store_byte, (void *)(rig_addr(2) + 5));
	ASSERT_EQ(next_fault(&msg), 2u);
	ASSERT_TRUE(msg.wp && msg.write);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(2), rig_frame(2), 1), 1);
	ASSERT_TRUE(rig_intact(rig_frame(2), 2));
	ASSERT_EQ(next_fault(&msg), 2u);
	ASSERT_TRUE(msg.write && !msg.wp);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(2), rig_frame(2), 1, 0), 1);
	pthread_join(t, NULL);
	ASSERT_EQ(rig.mem[2 * PAGE_SIZE + 5], 9);
	ASSERT_EQ(rig.mem[2 * PAGE_SIZE + 6], rig_pattern(2, 6));
}

/* Failing after the protection leaves the page, its bytes and its writer alone. */
TEST(a_failed_take_changes_nothing)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct fault_msg msg;

	rig_put(0, 8);
	ASSERT_EQ(rig_mlock(5), 0);
	for (u32 done = 0; done < 5;) {
		long n = ops->take(&rig.pager, 0, rig_addr(done), rig_frame(done), 8 - done);

		ASSERT_GE(n, 1);
		done += (u32)n;
	}
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(5), rig_frame(5), 3), -EINVAL);
	for (u32 i = 5; i < 8; i++) {
		ASSERT_TRUE(rig_intact(rig.mem + i * PAGE_SIZE, i));
		rig.mem[i * PAGE_SIZE + PAGE_SIZE - 1] = 1; /* would hang if protected */
	}
	ASSERT_EQ(ops->faults(&rig.pager, 0, &msg, 1, 0, 0), 0);
	for (u32 i = 0; i < 5; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
}

/* Where the drop of a run fails half way each page is settled by itself. */
TEST(a_failed_drop_is_settled_page_by_page)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);

	rig_put(0, 8);
	rig_fail("uffd_drop:ENOMEM@1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(0), rig_frame(0), 8), 8);
	rig_fail("uffd_read:EIO@1/1");
	rig_put(10, 2);
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(10), rig_frame(10), 2), -ENOENT);
	rig_fail(NULL);
	ASSERT_EQ(rig_mlock(11), 0);
	rig_fail("uffd_drop:EINVAL@1/1");
	ASSERT_EQ(ops->take(&rig.pager, 0, rig_addr(10), rig_frame(10), 2), 1);
	ASSERT_TRUE(rig_intact(rig_frame(10), 10));
	ASSERT_TRUE(rig_intact(rig.mem + 11 * PAGE_SIZE, 11));
	rig.mem[12 * PAGE_SIZE - 1] = 1;
	for (u32 i = 0; i < 8; i++)
		ASSERT_TRUE(rig_intact(rig_frame(i), i));
}
