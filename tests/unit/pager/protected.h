/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protected.h - what must hold of pages mapped write-protected, for both real pagers:
 * included after properties.h.
 */
#ifndef QUIRE_TESTS_PAGER_PROTECTED_H
#define QUIRE_TESTS_PAGER_PROTECTED_H

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

static void put_protected(u32 page, u32 nr)
{
	u8 buf[PAGE_SIZE];

	for (u32 i = page; i < page + nr; i++) {
		rig_fill(buf, i);
		ASSERT_EQ(rig.pager.ops->copy(&rig.pager, 0, rig_addr(i), buf, 1, PAGER_PROTECT),
			  1);
	}
}

/* Scattered: pages 1, 3, 5 ...; the second frame is warm. */
static void scatter(struct pager_page *to, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		to[i] = (struct pager_page){ rig_addr(2 * i + 1), rig_frame(i), i == 1 };
	/* A frame becomes warm by having been used. */
	ASSERT_EQ(uffd_take_protected(&rig.pager,
				      &(struct pager_page){ rig_addr(40), rig_frame(1), false }, 1),
		  1);
}

TEST(protected_pages_leave_together)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct pager_page pages[8];
	struct runs r = { 0 };

	ASSERT_TRUE(atomic32_load(&rig.pager.protects));
	put_protected(0, 16);
	put_protected(40, 1);
	ASSERT_TRUE(rig_intact(rig.mem + 3 * PAGE_SIZE, 3)); /* reading is no fault */
	scatter(pages, 8);
	pages[4].frame = NULL; /* unread */
	ASSERT_EQ(ops->take_protected(&rig.pager, pages, 8), 8);
	for (u32 i = 0; i < 8; i++)
		if (i != 4)
			ASSERT_TRUE(rig_intact(rig_frame(i), 2 * i + 1));
	ASSERT_EQ(ops->scan(&rig.pager, rig_addr(0), RIG_BYTES, note_run, &r), 0);
	ASSERT_EQ(r.nr, 8u); /* every second page is left */
	ASSERT_EQ(stat_read(&rig.pager.nr_drop_single), 0u);
	for (u32 i = 0; i < 16; i += 2)
		ASSERT_TRUE(rig_intact(rig.mem + i * PAGE_SIZE, i));
}

TEST(a_store_to_a_protected_page_is_a_fault)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct fault_msg msg;
	pthread_t t;
	void *res;

	put_protected(3, 2);
	pthread_create(&t, NULL, store_byte, (void *)(rig_addr(3) + 77));
	ASSERT_EQ(next_fault(&msg), 3u);
	ASSERT_TRUE(msg.write && msg.wp);
	ASSERT_TRUE(rig_intact(rig.mem + 3 * PAGE_SIZE, 3));
	ASSERT_EQ(ops->unprotect(&rig.pager, 0, rig_addr(3), PAGER_DONTWAKE), 0);
	usleep(3000);
	ASSERT_EQ(pthread_tryjoin_np(t, &res), EBUSY);
	ASSERT_EQ(ops->unprotect(&rig.pager, 0, rig_addr(3), 0), 0);
	pthread_join(t, NULL);
	ASSERT_EQ(rig.mem[3 * PAGE_SIZE + 77], 9);
	/* Taken while a store waits: it faults again, for a page that is missing. */
	pthread_create(&t, NULL, store_byte, (void *)(rig_addr(4) + 77));
	ASSERT_EQ(next_fault(&msg), 4u);
	ASSERT_EQ(ops->take_protected(&rig.pager,
				      &(struct pager_page){ rig_addr(4), rig_frame(4), false }, 1),
		  1);
	ASSERT_EQ(ops->wake(&rig.pager, 0, rig_addr(4), PAGE_SIZE), 0);
	ASSERT_EQ(next_fault(&msg), 4u);
	ASSERT_TRUE(msg.write && !msg.wp);
	ASSERT_EQ(ops->give(&rig.pager, 0, rig_addr(4), rig_frame(4), 1, 0), 1);
	pthread_join(t, NULL);
}

/* Whatever fails: pages in front are taken, the others and their frames as they were. */
TEST(a_batch_stops_where_it_must)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct pager_page pages[4];

	put_protected(0, 8);
	put_protected(40, 1);
	scatter(pages, 4);
	ops->drop(&rig.pager, rig_addr(5), PAGE_SIZE);
	ASSERT_EQ(ops->take_protected(&rig.pager, pages, 4), 2);
	ASSERT_EQ(ops->take_protected(&rig.pager, pages + 2, 2), -ENOENT);
	ASSERT_EQ(ops->unprotect(&rig.pager, 0, rig_addr(7), 0), 0); /* mlock(2) writes */
	ASSERT_OK(rig_mlock(7));
	ASSERT_EQ(ops->take_protected(&rig.pager, pages + 3, 1), -EINVAL);
	ASSERT_TRUE(rig_intact(rig.mem + 7 * PAGE_SIZE, 7));
	ASSERT_EQ(stat_read(&rig.pager.nr_take_refused), 1u);
	ASSERT_OK(syscall(SYS_munlock, rig_addr(7), PAGE_SIZE)); /* as rig_mlock() */
	/* A kernel, or a filter, that knows no vector: one by one, and no more of it. */
	rig_fail("uffd_drop_vector:EPERM@1");
	ASSERT_EQ(ops->take_protected(&rig.pager, pages + 3, 1), 1);
	ASSERT_TRUE(rig_intact(rig_frame(3), 7));
	ASSERT_EQ(stat_read(&rig.pager.nr_drop_single), 1u);
	ASSERT_FALSE(atomic32_load(&rig.pager.protects));
}

/* What the program dropped by a call nobody saw is zeros, not the copy it once had. */
TEST(unread_pages_must_be_there)
{
	const struct pager_ops *ops = rig_setup(RIG_PAGER);
	struct pager_page pages[2] = { { rig_addr(1), NULL, false }, { rig_addr(3), NULL, false } };

	put_protected(0, 4);
	ASSERT_OK(madvise((void *)rig_addr(3), PAGE_SIZE, MADV_DONTNEED));
	ASSERT_EQ(ops->take_protected(&rig.pager, pages, 2), 1);
	ASSERT_EQ(ops->take_protected(&rig.pager, pages + 1, 1), -ENOENT);
}

static bool is_mergeable(u64 addr)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false, mergeable = false;
	unsigned long start, end;
	char line[512];

	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = addr >= start && addr < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			mergeable = strstr(line, " mg");
	}
	fclose(f);
	return mergeable;
}

/*
 * KSM maps the merged page without the protection (Linux 6.18): a store is no fault.  In a
 * process of its own: PR_SET_MEMORY_MERGE walks all memory to take it back, and the
 * sanitizer's shadow, 14 TiB, took it five minutes.
 */
TEST(managed_pages_are_not_merged)
{
	enum { NOT_MERGED, MERGED, NO_MERGING };
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
			_exit(NO_MERGING);
		rig_setup(RIG_PAGER);
		_exit(is_mergeable(rig_addr(0)) ? MERGED : NOT_MERGED);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_MERGING)
		SKIP("this kernel does not merge the memory of a process");
	ASSERT_EQ(WEXITSTATUS(status), NOT_MERGED);
}

/* The child's copy has no userfaultfd: it stores, and nobody hears of it. */
TEST(protection_ends_at_fork)
{
	rig_setup(RIG_PAGER);
	int status;
	pid_t pid;

	put_protected(2, 1);
	pid = fork();
	if (!pid) {
		rig.mem[2 * PAGE_SIZE] = 99;
		_exit(rig.mem[2 * PAGE_SIZE] == 99 ? 0 : 1);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_TRUE(rig_intact(rig.mem + 2 * PAGE_SIZE, 2));
}

#endif
