/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fork.c - a forked child is a member more; of a private tree, it has its own.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "fixture.h"
#include "memcg/member.h"
#include "memcg/internal.h"

static struct memcg_tree *tree[2];
static struct objcg_id handle[2];
static struct memcg_id group;

#define CHECK(e) ((e) ? (void)0 : _exit(__LINE__ % 100 + 1))

/* Written by children, read by the parent. */
static u32 *step;

static void reach(u32 n)
{
	__atomic_store_n(step, n, __ATOMIC_RELEASE);
}

static void wait_until(u32 n)
{
	while (__atomic_load_n(step, __ATOMIC_ACQUIRE) < n)
		os_sched_yield();
}

/* Two members of one segment, in one group: 30 pages, and 7 with 5000 compressed bytes. */
static int shared_init(struct meta *meta)
{
	int fd = os_memfd_create("quire-test", 1);

	ASSERT_OK(fd);
	step = mmap(NULL, sizeof(*step), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(step != MAP_FAILED);
	for (u32 n = 0; n < 2; n++)
		ASSERT_EQ(memcg_tree_attach(meta, fd, MEMCG_ATTACH_MORE, &tree[n]), 0);
	group = group_make(tree[0], "a/b");
	for (u32 n = 0; n < 2; n++)
		handle[n] = handle_of(tree[n], group);
	memcg_charge_force(tree[0], handle[0], 30);
	ASSERT_EQ(memcg_swap_try_charge(tree[0], handle[0], 4), 0);
	memcg_stat_add(tree[0], handle[0], MEMCG_STAT_ANON, 30);
	memcg_stat_add(tree[0], handle[0], MEMCG_STAT_PGFAULT, 99);
	memcg_charge_force(tree[1], handle[1], 7);
	memcg_zswap_charge(tree[1], handle[1], 5000);
	return fd;
}

static void shared_exit(struct meta *meta, int fd)
{
	memcg_check(tree[1]);
	memcg_tree_close(tree[0]);
	memcg_tree_close(tree[1]);
	munmap(step, sizeof(*step));
	os_close(fd);
	ASSERT_EQ(stat_read(&meta->bytes), 0);
}

static pid_t fork_with(void (*child)(void))
{
	pid_t pid;

	ASSERT_EQ(memcg_tree_fork_prepare(tree[0], (u32)os_gettid()), 0);
	pid = fork();
	if (!pid) {
		alarm(60); /* a test that failed waits for nobody */
		child();
		_exit(0);
	}
	memcg_tree_fork_parent(tree[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

static void pay(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	CHECK(tree[0]->self == 2);
	CHECK(member_self(tree[0])->pid == getpid());
	CHECK(objcg_memcg(tree[0], handle[0]).v == group.v);
	reach(1);
	wait_until(2);
	memcg_tree_fork_settle(tree[0], (struct objcg_id){ 0 });
	reach(3);
	wait_until(4);
	memcg_uncharge(tree[0], NULL, handle[0], 30);
	memcg_swap_uncharge(tree[0], handle[0], 4);
	memcg_tree_close(tree[0]);
}

TEST(child_pays_for_itself)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);
	pid_t pid = fork_with(pay);

	wait_until(1);
	ASSERT_TRUE(member_alive(tree[0], 2));
	ASSERT_EQ(mem_of(tree[1], group), 39);
	memcg_check(tree[1]);
	reach(2);
	wait_until(3);
	ASSERT_EQ(mem_of(tree[1], group), 69);
	ASSERT_EQ(memcg_usage(tree[1], group, COUNTER_SWAP), 8);
	ASSERT_EQ(memcg_stat_read(tree[1], group, MEMCG_STAT_ANON), 60);
	ASSERT_EQ(memcg_stat_read(tree[1], group, MEMCG_STAT_PGFAULT), 99); /* the parent's */
	memcg_check(tree[1]);
	reach(4);
	end_child(pid);
	ASSERT_FALSE(member_alive(tree[0], 2));
	ASSERT_EQ(mem_of(tree[1], group), 39);
	ASSERT_EQ(memcg_usage(tree[1], group, COUNTER_SWAP), 4);
	shared_exit(&meta, fd);
}

static void pays_for_pages(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_tree_fork_settle(tree[0], handle[0]);
	CHECK(mem_of(tree[0], group) == 39 + 8 + 3 + 30);
	CHECK(memcg_stat_read(tree[0], group, MEMCG_STAT_SHARED) == 11);
	/* Seen since: all of it but four pages is ours by now. */
	memcg_set_shared(tree[0], handle[0], 4);
	CHECK(mem_of(tree[0], group) == 39 + 8 + 3 + 30 + 7);
	memcg_set_overhead(tree[0], handle[0], MEMCG_STAT_KERNEL, 0);
	memcg_check(tree[0]);
	raise(SIGKILL);
}

/* What is not in pages stays the parent's. */
TEST(child_shares_what_cannot_leave)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta), status;
	pid_t pid;

	memcg_set_overhead(tree[0], handle[0], MEMCG_STAT_KERNEL, 8);
	memcg_zswap_charge(tree[0], handle[0], 3 * 4096);
	ASSERT_EQ(mem_of(tree[0], group), 39 + 8 + 3);
	pid = fork_with(pays_for_pages);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(WTERMSIG(status), SIGKILL);
	ASSERT_TRUE(member_reap(tree[1]));
	ASSERT_EQ(mem_of(tree[1], group), 39 + 8 + 3);
	memcg_set_overhead(tree[0], handle[0], MEMCG_STAT_KERNEL, 0);
	memcg_zswap_uncharge(tree[0], handle[0], 3 * 4096);
	shared_exit(&meta, fd);
}

static char own[100 * PAGE_SIZE];

static void is_counted_anew(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_tree_fork_settle(tree[0], handle[0]);
	memset(own, 1, sizeof(own));
	reach(1);
	wait_until(2);
	memcg_tree_close(tree[0]);
}

/* What somebody has counted of a parent that does not page says nothing of its child. */
TEST(child_that_does_not_page)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);
	u64 before, seen;
	pid_t pid;

	ASSERT_EQ(member_set_home(tree[0], group), 0);
	memcg_set_overhead(tree[0], handle[0], MEMCG_STAT_UNMANAGED, 100000);
	member_set_passive(tree[0], MIB);
	pid = fork_with(is_counted_anew);
	wait_until(1);
	member_set_passive(tree[0], 0);
	before = mem_of(tree[1], group);
	member_count_passive(tree[1]);
	seen = mem_of(tree[1], group) - before;
	reach(2);
	end_child(pid);
	ASSERT_TRUE(seen >= 100 && seen < 100000);
	ASSERT_EQ(mem_of(tree[1], group), before - 30); /* those it had as pages */
	memcg_set_overhead(tree[0], handle[0], MEMCG_STAT_UNMANAGED, 0);
	shared_exit(&meta, fd);
}

static void gives_all_back(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_tree_fork_settle(tree[0], (struct objcg_id){ 0 });
	memcg_uncharge(tree[0], NULL, handle[0], 32);
	memcg_swap_uncharge(tree[0], handle[0], 3);
	memcg_tree_close(tree[0]);
}

/* The forking thread faults once more: the page is the child's too. */
TEST(charged_between_prepare_and_fork)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);
	pid_t pid;

	ASSERT_EQ(memcg_tree_fork_prepare(tree[0], (u32)os_gettid()), 0);
	memcg_charge_force(tree[0], handle[0], 2);
	memcg_swap_uncharge(tree[0], handle[0], 1);
	memcg_tree_fork_again(tree[0]);
	pid = fork();
	if (!pid) {
		gives_all_back();
		_exit(0);
	}
	memcg_tree_fork_parent(tree[0]);
	end_child(pid);
	ASSERT_EQ(mem_of(tree[1], group), 41);
	ASSERT_EQ(memcg_usage(tree[1], group, COUNTER_SWAP), 3);
	memcg_uncharge(tree[0], NULL, handle[0], 2);
	shared_exit(&meta, fd);
}

static void die_early(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
}

static void die_at_once(void)
{
}

/* fork and exec, or a kill: nothing was charged, nothing is given back. */
TEST(child_that_ends_first_has_cost_nothing)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);

	end_child(fork_with(die_early));
	ASSERT_TRUE(member_reap(tree[1]));
	ASSERT_EQ(mem_of(tree[1], group), 39);
	memcg_check(tree[1]);
	end_child(fork_with(die_at_once));
	memcg_tree_fork_failed(tree[0], (u32)os_gettid()); /* as if it had never been */
	ASSERT_FALSE(member_alive(tree[1], 2));
	ASSERT_EQ(mem_of(tree[1], group), 39);
	memcg_check(tree[1]);
	shared_exit(&meta, fd);
}

static void arrive_late(void)
{
	wait_until(1);
	CHECK(memcg_tree_fork_child(tree[0]) == -ESRCH);
}

/* Killed before its first step, or stopped there: the record is given up in the end. */
TEST(child_that_never_arrives)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);
	pid_t pid = fork_with(arrive_late);

	ASSERT_FALSE(member_reap(tree[1]));
	ASSERT_TRUE(member_alive(tree[1], 2));
	seg_member(tree[1], 2)->boot_ns -= 11 * NSEC_PER_SEC;
	ASSERT_TRUE(member_reap(tree[1]));
	ASSERT_FALSE(member_alive(tree[1], 2));
	reach(1);
	end_child(pid);
	ASSERT_EQ(mem_of(tree[1], group), 39);
	shared_exit(&meta, fd);
}

/* Of two threads that fork, one fails: the child of the other is left alone. */
TEST(failed_fork_of_another_thread)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);

	ASSERT_EQ(memcg_tree_fork_prepare(tree[0], 7), 0);
	memcg_tree_fork_parent(tree[0]);
	ASSERT_EQ(memcg_tree_fork_prepare(tree[0], 8), 0);
	memcg_tree_fork_parent(tree[0]);
	memcg_tree_fork_failed(tree[0], 7);
	ASSERT_TRUE(member_alive(tree[1], 3));
	memcg_tree_fork_failed(tree[0], 8);
	ASSERT_FALSE(member_alive(tree[1], 3));
	shared_exit(&meta, fd);
}

static void still_has_it(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	wait_until(1);
	CHECK(memcg_nr_unreleased(tree[0]) == 1);
	CHECK(memcg_next_offline(tree[0], (struct memcg_id){ 0 }).v == group.v);
	memcg_tree_fork_settle(tree[0], (struct objcg_id){ 0 });
	memcg_release(tree[0], group);
	memcg_tree_close(tree[0]);
}

/* Removed, and the remover forks before it has let go: the child has it in hand too. */
TEST(fork_between_removal_and_release)
{
	struct meta meta = { 0 };
	struct memcg_id parent;
	int fd = shared_init(&meta);
	pid_t pid;

	memcg_tree_close(tree[1]);
	ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &tree[1]), 0);
	ASSERT_EQ(memcg_remove(tree[0], group, &parent), 0);
	pid = fork_with(still_has_it);
	memcg_release(tree[0], group);
	memcg_release(tree[1], group);
	ASSERT_EQ(memcg_nr_dying(tree[1]), 1);
	reach(1);
	end_child(pid);
	ASSERT_EQ(memcg_nr_dying(tree[1]), 0);
	shared_exit(&meta, fd);
}

static void pay_and_die(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_tree_fork_settle(tree[0], (struct objcg_id){ 0 });
	memcg_charge_force(tree[0], handle[0], 5);
}

TEST(killed_child_is_taken_back)
{
	struct meta meta = { 0 };
	int fd = shared_init(&meta);

	end_child(fork_with(pay_and_die));
	ASSERT_EQ(mem_of(tree[1], group), 74);
	ASSERT_TRUE(member_reap(tree[1]));
	ASSERT_EQ(mem_of(tree[1], group), 39);
	ASSERT_EQ(memcg_usage(tree[1], group, COUNTER_SWAP), 4);
	ASSERT_EQ(memcg_stat_read(tree[1], group, MEMCG_STAT_ANON), 30);
	shared_exit(&meta, fd);
}

static void release_late(void)
{
	struct memcg_id b = group;

	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	wait_until(1);
	/* Removed while we were not there yet: ours is the parent's, the id is kept for us. */
	CHECK(objcg_memcg(tree[0], handle[0]).v == group_find(tree[0], "a").v);
	CHECK(memcg_next_offline(tree[0], (struct memcg_id){ 0 }).v == b.v);
	memcg_tree_fork_settle(tree[0], (struct objcg_id){ 0 });
	memcg_release(tree[0], b);
	memcg_tree_close(tree[0]);
}

TEST(group_removed_between_fork_and_child)
{
	struct meta meta = { 0 };
	struct memcg_id parent;
	int fd = shared_init(&meta);
	pid_t pid;

	pid = fork_with(release_late);
	ASSERT_EQ(memcg_remove(tree[1], group, &parent), 0);
	memcg_release(tree[1], group);
	memcg_release(tree[0], group);
	ASSERT_EQ(memcg_nr_dying(tree[1]), 1);
	reach(1);
	end_child(pid);
	ASSERT_EQ(memcg_nr_dying(tree[1]), 0);
	shared_exit(&meta, fd);
}

static void in_private_child(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_charge_force(tree[0], handle[0], 1);
	CHECK(mem_of(tree[0], group) == 4);
	memcg_check(tree[0]);
	_exit(0);
}

TEST(private_stays_private)
{
	char text[256];
	struct fixture f;

	fixture_init(&f);
	tree[0] = f.t;
	group = group_make(f.t, "a");
	handle[0] = handle_of(f.t, group);
	memcg_charge_force(f.t, handle[0], 3);
	ASSERT_EQ(test_child(in_private_child, text, sizeof(text)), 0);
	ASSERT_EQ(mem_of(f.t, group), 3);
	fixture_exit(&f);
}
