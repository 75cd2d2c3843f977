/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lock.c - the tree lock between processes.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "fixture.h"
#include "memcg/internal.h"

#define NR_PROCESSES 4
#define ROUNDS 20000u

struct page {
	u64 sum; /* under the lock only */
	u32 ready;
};

static struct page *page;
static int segment_fd;

static void common_init(void)
{
	segment_fd = os_memfd_create("quire-test", 1 /* MFD_CLOEXEC */);
	ASSERT_OK(segment_fd);
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(page != MAP_FAILED);
}

static void common_exit(void)
{
	munmap(page, sizeof(*page));
	os_close(segment_fd);
}

static struct memcg_tree *attach(void)
{
	static struct meta meta;
	struct memcg_tree *t;

	ASSERT_EQ(memcg_tree_attach(&meta, segment_fd, MEMCG_ATTACH_MORE, &t), 0);
	return t;
}

static pid_t child(void (*fn)(struct memcg_tree *t))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	fn(attach());
	_exit(0);
}

static void count(struct memcg_tree *t)
{
	for (u32 n = 0; n < ROUNDS; n++) {
		if (segment_lock(t))
			_exit(1);
		/* Two steps: what another process does between them is lost. */
		u64 old = *(volatile u64 *)&page->sum;

		if (n % 64 == 0)
			os_sched_yield();
		*(volatile u64 *)&page->sum = old + 1;
		segment_unlock(t);
	}
	memcg_tree_close(t);
}

TEST(one_process_at_a_time)
{
	pid_t pid[NR_PROCESSES];
	struct memcg_tree *t;
	int status;

	common_init();
	for (u32 n = 0; n < NR_PROCESSES; n++)
		pid[n] = child(count);
	for (u32 n = 0; n < NR_PROCESSES; n++) {
		ASSERT_EQ(waitpid(pid[n], &status, 0), pid[n]);
		ASSERT_EQ(status, 0);
	}
	ASSERT_EQ(page->sum, (u64)NR_PROCESSES * ROUNDS);
	t = attach();
	ASSERT_EQ(atomic32_load(&seg_head(t)->lock_waiters), 0u);
	memcg_check(t);
	memcg_tree_close(t);
	common_exit();
}

static void lock_and_hang(struct memcg_tree *t)
{
	struct memcg_id id;

	if (memcg_create(t, MEMCG_ROOT, "whole", &id) || segment_lock(t))
		_exit(1);
	/* Half a change: the next one must put the links right. */
	segment_change_begin(t);
	atomic32_store(&group_at(t, MEMCG_ROOT.v)->child_first, 0);
	*(volatile u32 *)&page->ready = 1;
	for (;;)
		pause();
}

/* The zombie is not waited for until the lock was taken over. */
TEST(taken_over_from_the_dead)
{
	struct memcg_tree *t;
	struct memcg_id id;
	pid_t pid;
	int status;

	common_init();
	pid = child(lock_and_hang);
	while (!*(volatile u32 *)&page->ready)
		os_sched_yield();
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	t = attach();
	ASSERT_EQ(memcg_lookup(t, "whole", &id), 0);
	ASSERT_TRUE(member_reap(t));
	ASSERT_FALSE(member_reap(t));
	memcg_check(t);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	memcg_tree_close(t);
	common_exit();
}

/* A living process has the number of one that died with the lock. */
TEST(taken_over_from_a_number_used_again)
{
	struct memcg_tree *t, *other;
	u64 start;

	common_init();
	t = attach();
	/* Held by our parent, or so it says, since ten milliseconds after the machine began:
	 * before that process was there. */
	atomic64_store(&seg_head(t)->lock_owner, (u64)getppid() << 32 | 1);
	start = os_now_ns();
	other = attach();
	ASSERT_LT(os_now_ns() - start, NSEC_PER_SEC);
	memcg_tree_close(other);
	memcg_tree_close(t);
	common_exit();
}

/* One that lives, and is only slow, keeps it. */
static void lock_for_a_while(struct memcg_tree *t)
{
	if (segment_lock(t))
		_exit(1);
	*(volatile u32 *)&page->ready = 1;
	os_sleep_ns(200 * NSEC_PER_MSEC);
	page->sum = 1;
	segment_unlock(t);
}

TEST(not_taken_over_from_the_living)
{
	struct memcg_tree *t;
	pid_t pid;
	int status;

	common_init();
	pid = child(lock_for_a_while);
	while (!*(volatile u32 *)&page->ready)
		os_sched_yield();
	t = attach();
	ASSERT_EQ(page->sum, 1u);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	memcg_tree_close(t);
	common_exit();
}

static void lock_and_stop(struct memcg_tree *t)
{
	if (segment_lock(t))
		_exit(1);
	kill(getpid(), SIGSTOP);
	segment_unlock(t);
}

static u64 ms_since(u64 start)
{
	return (os_now_ns() - start) / NSEC_PER_MSEC;
}

/* One that is stopped keeps it too, but nobody waits for that. */
TEST(stopped_delays_nobody)
{
	struct memcg_id id, more;
	struct memcg_tree *t;
	struct objcg_id o;
	int status;
	pid_t pid;
	u64 start;

	common_init();
	t = attach();
	id = group_make(t, "a");
	o = handle_of(t, id);
	pid = child(lock_and_stop);
	ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(member_in_the_way(t), pid);
	start = os_now_ns();
	memcg_charge_force(t, o, 3);
	memcg_uncharge(t, NULL, o, 3);
	ASSERT_FALSE(member_reap(t));
	ASSERT_EQ(ms_since(start), 0u);
	ASSERT_EQ(memcg_create(t, id, "b", &more), -ETIMEDOUT);
	ASSERT_LT(ms_since(start), 50u);
	start = os_now_ns();
	ASSERT_EQ(memcg_remove(t, id, &more), -ETIMEDOUT);
	ASSERT_LT(ms_since(start), 50u);
	ASSERT_EQ(kill(pid, SIGCONT), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_EQ(member_in_the_way(t), 0);
	ASSERT_EQ(memcg_create(t, id, "b", &more), 0);
	memcg_check(t);
	memcg_tree_close(t);
	common_exit();
}

/* A program that has just been exec'ed; its record is still that of the one before. */
static void lock_as_new_image(struct memcg_tree *t)
{
	struct atomic64 *image = &seg_member(t, t->self)->image;

	atomic64_store(image, os_process_image(os_getpid()) + 16);
	if (!member_was_replaced(t, os_getpid()))
		_exit(1);
	segment_lock_forget_image(t);
	lock_for_a_while(t);
}

TEST(not_taken_over_from_a_new_image)
{
	struct memcg_tree *t;
	pid_t pid;
	int status;

	common_init();
	pid = child(lock_as_new_image);
	while (!*(volatile u32 *)&page->ready)
		os_sched_yield();
	t = attach();
	ASSERT_EQ(page->sum, 1u);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	memcg_tree_close(t);
	common_exit();
}

TEST(other_namespace)
{
	const u64 foreign = 0x3fffffull << 32 | 1;
	struct meta meta = { 0 };
	struct memcg_tree *t, *more;

	common_init();
	t = attach();
	seg_head(t)->pid_ns++;
	/* Held by a process that we cannot see: it is not for us to say that it is dead. */
	atomic64_store(&seg_head(t)->lock_owner, foreign);
	ASSERT_EQ(memcg_tree_attach(&meta, segment_fd, MEMCG_ATTACH_MORE, &more), -EXDEV);
	ASSERT_EQ(atomic64_load(&seg_head(t)->lock_owner), foreign);
	atomic64_store(&seg_head(t)->lock_owner, 0);
	seg_head(t)->pid_ns--;
	seg_head(t)->time_ns++;
	ASSERT_EQ(memcg_tree_attach(&meta, segment_fd, MEMCG_ATTACH_MORE, &more), -EXDEV);
	memcg_tree_close(t);
	common_exit();
}
