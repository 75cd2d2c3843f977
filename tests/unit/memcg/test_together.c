/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_together.c - members that share limits: those that do not page, who is largest.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "fixture.h"
#include "memcg/internal.h"
#include "memcg/move.h"

static struct memcg_tree *tree[3];
static struct memcg_id group[3]; /* a, a/b, c: the homes */
static struct objcg_id handle[3];

static int together_init(struct meta *meta)
{
	static const char *const path[] = { "a", "a/b", "c" };
	int fd = os_memfd_create("quire-test", 1);

	ASSERT_OK(fd);
	for (u32 n = 0; n < 3; n++) {
		ASSERT_EQ(memcg_tree_attach(meta, fd, MEMCG_ATTACH_MORE, &tree[n]), 0);
		group[n] = group_make(tree[n], path[n]);
		ASSERT_EQ(member_set_home(tree[n], group[n]), 0);
		handle[n] = handle_of(tree[n], group[n]);
	}
	return fd;
}

static void together_exit(struct meta *meta, int fd)
{
	memcg_check(tree[0]);
	for (u32 n = 0; n < 3; n++)
		memcg_tree_close(tree[n]);
	os_close(fd);
	ASSERT_EQ(stat_read(&meta->bytes), 0);
}

/* Each has a MiB besides what it says; those that page, and others' groups, do not count. */
TEST(what_others_may_fill)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);

	ASSERT_EQ(member_others_passive(tree[0], MEMCG_ROOT), 0);
	member_set_passive(tree[0], 7 * MIB);
	member_set_passive(tree[1], 10 * MIB);
	member_set_passive(tree[2], 1);
	ASSERT_EQ(member_others_passive(tree[0], MEMCG_ROOT), 12 * MIB + 1);
	ASSERT_EQ(member_others_passive(tree[0], group[0]), 11 * MIB);
	ASSERT_EQ(member_others_passive(tree[2], group[0]), 19 * MIB);
	ASSERT_EQ(member_others_passive(tree[2], group[2]), 0);
	member_set_passive(tree[1], 0);
	ASSERT_EQ(member_others_passive(tree[0], group[0]), 0);
	together_exit(&meta, fd);
}

/* Of children forked one after the other none may be there before the last is asked for. */
TEST(children_to_be_count)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);

	member_set_passive(tree[0], 7 * MIB);
	ASSERT_EQ(memcg_tree_fork_prepare(tree[0], (u32)os_gettid()), 0);
	ASSERT_EQ(member_others_passive(tree[0], group[0]), 8 * MIB);
	ASSERT_EQ(member_others_passive(tree[2], group[0]), 16 * MIB);
	/* What is in memory yet is the parent's. */
	member_count_passive(tree[1]);
	ASSERT_EQ(memcg_overhead(tree[0], handle[0], MEMCG_STAT_UNMANAGED),
		  mem_of(tree[0], group[0]));
	memcg_tree_fork_parent(tree[0]);
	memcg_tree_fork_failed(tree[0], (u32)os_gettid());
	ASSERT_EQ(member_others_passive(tree[0], group[0]), 0);
	together_exit(&meta, fd);
}

static u64 own_pages(void)
{
	u64 others, all = os_process_anon(os_getpid(), &others);

	return (all - others) >> PAGE_SHIFT;
}

/* All members are this process: each that does not page has what we have. */
TEST(one_counts_all)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);
	u64 now = own_pages(), seen;

	member_set_passive(tree[1], 10 * MIB);
	member_count_passive(tree[0]);
	seen = mem_of(tree[2], group[1]);
	ASSERT_TRUE(seen > now / 2 && seen < now * 2 && seen > 20);
	ASSERT_EQ(mem_of(tree[2], MEMCG_ROOT), seen);
	ASSERT_EQ(memcg_stat_read(tree[2], group[1], MEMCG_STAT_UNMANAGED), seen);
	/* Somebody has just counted. */
	member_set_passive(tree[2], 1);
	member_count_passive(tree[0]);
	ASSERT_EQ(mem_of(tree[2], group[2]), 0);
	os_sleep_ns(150 * NSEC_PER_MSEC);
	member_count_passive(tree[1]);
	ASSERT_TRUE(mem_of(tree[2], group[2]) > 20);
	/* It begins to page, and counts itself. */
	member_set_passive(tree[1], 0);
	memcg_set_overhead(tree[1], handle[1], MEMCG_STAT_UNMANAGED, 5);
	os_sleep_ns(150 * NSEC_PER_MSEC);
	member_count_passive(tree[0]);
	ASSERT_EQ(mem_of(tree[2], group[0]), 5);
	memcg_set_overhead(tree[1], handle[1], MEMCG_STAT_UNMANAGED, 0);
	together_exit(&meta, fd);
}

static void count_for_ever(void)
{
	struct objcg *c = objcg_of(tree[0], handle[0]);

	for (;;) {
		objcg_set_overhead(tree[0], c, MEMCG_STAT_UNMANAGED, 100);
		memcg_set_shared(tree[0], handle[0], 50);
		memcg_set_shared(tree[0], handle[0], 0);
		objcg_set_overhead(tree[0], c, MEMCG_STAT_UNMANAGED, 0);
	}
}

/* Who counts is killed half way: then too much is charged, and never too little. */
TEST(killed_while_it_counts)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);
	struct objcg *c = objcg_of(tree[0], handle[0]);

	for (u32 n = 0; n < 300; n++) {
		pid_t pid = fork();
		u64 memory, late;

		if (!pid)
			count_for_ever();
		os_sleep_ns(200 * NSEC_PER_USEC + n * NSEC_PER_USEC);
		ASSERT_EQ(kill(pid, SIGKILL), 0);
		ASSERT_EQ(waitpid(pid, NULL, 0), pid);
		memory = atomic64_load(&c->memory);
		late = atomic64_load(&c->late_memory);
		ASSERT_LE(late, memory);
		ASSERT_LE(stat_read(&c->stat[MEMCG_STAT_UNMANAGED]), memory);
		ASSERT_LE(memory - late, mem_of(tree[1], group[0]));
		memcg_set_shared(tree[0], handle[0], 0);
		objcg_set_overhead(tree[0], c, MEMCG_STAT_UNMANAGED, 0);
		atomic64_store(&c->memory, 0);
		/* The child was in there with our record. */
		atomic64_store(&seg_member(tree[0], tree[0]->self)->charging, 0);
		ASSERT_EQ(memcg_recount(tree[0]), 0);
	}
	together_exit(&meta, fd);
}

/* A child of copy-on-write has half of what it shares; it is given back when it ends. */
TEST(counted_by_its_part)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta), to[2];
	size_t len = 64 * MIB;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	u64 seen;
	pid_t pid;

	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_EQ(pipe(to), 0);
	pid = fork();
	if (!pid) {
		struct memcg_tree *t;

		if (memcg_tree_attach(&meta, fd, MEMCG_ATTACH_NEW_IMAGE, &t) ||
		    member_set_home(t, group[2]) || !handle_of(t, group[2]).v)
			_exit(1);
		member_set_passive(t, len);
		(void)!write(to[1], "", 1);
		for (;;)
			pause();
	}
	ASSERT_EQ(read(to[0], p, 1), 1);
	member_count_passive(tree[0]);
	seen = mem_of(tree[0], group[2]);
	ASSERT_TRUE(seen > len / 2 / PAGE_SIZE && seen < len / PAGE_SIZE * 3 / 4);
	kill(pid, SIGKILL);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	ASSERT_TRUE(member_reap(tree[0]));
	ASSERT_EQ(mem_of(tree[0], group[2]), 0);
	munmap(p, len);
	together_exit(&meta, fd);
}

TEST(largest)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);

	ASSERT_NULL(member_largest(tree[0], MEMCG_ROOT));
	memcg_charge_force(tree[0], handle[0], 5);
	memcg_charge_force(tree[1], handle[1], 7);
	ASSERT_EQ(memcg_swap_try_charge(tree[2], handle[2], 30), 0);
	ASSERT_TRUE(member_largest(tree[0], MEMCG_ROOT) == member_info(tree[0], 2));
	ASSERT_TRUE(member_largest(tree[0], group[0]) == member_info(tree[0], 1));
	/* That one is being ended. */
	fmt_str(member_self(tree[1])->last_words, 20, "killed");
	ASSERT_TRUE(member_largest(tree[0], group[0]) == member_info(tree[0], 0));
	memcg_uncharge(tree[0], NULL, handle[0], 5);
	memcg_uncharge(tree[1], NULL, handle[1], 7);
	memcg_swap_uncharge(tree[2], handle[2], 30);
	together_exit(&meta, fd);
}

/* Its record names a process that has nothing to do with the tree; then one that has. */
TEST(ends_members_only)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta), status, ready[2];
	pid_t pid;
	char byte;

	ASSERT_EQ(pipe(ready), 0);
	for (u32 n = 0; n < 2; n++) {
		pid = fork();
		if (!pid) {
			for (u32 i = 0; i < 3 && !n; i++)
				munmap(tree[i]->seg->base, SEG_BYTES);
			(void)!write(ready[1], "", 1);
			pause();
		}
		ASSERT_EQ(read(ready[0], &byte, 1), 1);
		member_self(tree[1])->pid = pid;
		seg_member(tree[1], 1)->boot_ns = os_boot_ns();
		ASSERT_TRUE(member_kill(tree[0], pid));
		os_sleep_ns(50 * NSEC_PER_MSEC);
		if (!n)
			ASSERT_EQ(waitpid(pid, &status, WNOHANG), 0);
		kill(pid, SIGTERM);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(WTERMSIG(status), n ? SIGKILL : SIGTERM);
	}
	member_self(tree[1])->pid = os_getpid();
	together_exit(&meta, fd);
}

TEST(one_looks_for_the_dead)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);

	ASSERT_FALSE(member_reap_since(tree[0], NSEC_PER_SEC));
	memcg_charge_force(tree[2], handle[2], 5);
	member_self(tree[2])->pid = 0x7fffffff; /* nobody's */
	ASSERT_FALSE(member_reap_since(tree[1], NSEC_PER_SEC));
	ASSERT_EQ(mem_of(tree[0], group[2]), 5);
	os_sleep_ns(20 * NSEC_PER_MSEC);
	ASSERT_TRUE(member_reap_since(tree[1], 10 * NSEC_PER_MSEC));
	ASSERT_EQ(mem_of(tree[0], group[2]), 0);
	together_exit(&meta, fd);
}

TEST(one_chooses)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);

	ASSERT_TRUE(member_oom_begin(tree[0]));
	ASSERT_FALSE(member_oom_begin(tree[1]));
	member_oom_end(tree[0]);
	ASSERT_TRUE(member_oom_begin(tree[1]));
	/* Killed at it. */
	atomic64_store(&seg_head(tree[0])->oom_until_ns, os_now_ns() - 1);
	ASSERT_TRUE(member_oom_begin(tree[2]));
	member_oom_end(tree[1]);
	ASSERT_FALSE(member_oom_begin(tree[0]));
	member_oom_end(tree[2]);
	ASSERT_FALSE(member_is_ending(tree[0], MEMCG_ROOT));
	fmt_str(member_self(tree[1])->last_words, 20, "killed");
	ASSERT_TRUE(member_is_ending(tree[0], group[0]));
	ASSERT_FALSE(member_is_ending(tree[0], group[2]));
	together_exit(&meta, fd);
}

TEST(room_for_a_child)
{
	struct meta meta = { 0 };
	int fd = together_init(&meta);
	struct atomic32 *high = &seg_head(tree[0])->area[SEG_MEMBERS].nr_high;
	u32 before = atomic32_load(high);

	ASSERT_TRUE(memcg_tree_fork_room(tree[0]));
	/* One after the last has ended: there is room again. */
	ASSERT_TRUE(segment_commit(tree[0], SEG_MEMBERS, NR_MEMBERS));
	for (u32 n = before; n < NR_MEMBERS; n++)
		atomic32_store(&seg_member(tree[0], n)->state, MEMBER_ACTIVE);
	atomic32_store(high, NR_MEMBERS);
	ASSERT_FALSE(memcg_tree_fork_room(tree[0]));
	atomic32_store(&seg_member(tree[0], 99)->state, MEMBER_GONE);
	ASSERT_TRUE(memcg_tree_fork_room(tree[0]));
	for (u32 n = before; n < NR_MEMBERS; n++)
		atomic32_store(&seg_member(tree[0], n)->state, MEMBER_FREE);
	atomic32_store(high, before);
	together_exit(&meta, fd);
}
