/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_remove.c - groups removed with what they hold: inherited, or given up.
 * paging
 */
#include <errno.h>
#include <pthread.h>
#include <quire/quire.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/open_real.h"

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
/* Bought ahead by an engine thread: what figures may differ by while others run. */
#define SLACK (4 * 64 * PAGE)

#define ASSERT_WHY(call, code, part)                                                               \
	do {                                                                                       \
		ASSERT_EQ((call), -(code));                                                        \
		ASSERT_TRUE(strstr(quire_why(), part) != NULL);                                    \
	} while (0)

/* "parent" with a limit of 64 MiB, "parent/child" with one of 8. */
static struct quire_group *two_groups(struct quire *q, struct quire_group **ret_child)
{
	struct quire_group *parent;

	ASSERT_OK(quire_group_create(quire_root(q), "parent", &parent));
	ASSERT_OK(quire_write_u64(parent, "memory.max", 64 * MIB));
	ASSERT_OK(quire_group_create(parent, "child", ret_child));
	ASSERT_OK(quire_write_u64(*ret_child, "memory.max", 8 * MIB));
	return parent;
}

static unsigned long word_of(size_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15ul;
}

static void write_pages(void *mem, size_t bytes)
{
	for (size_t i = 0; i < bytes / PAGE; i++) {
		unsigned long *p = (void *)((char *)mem + i * PAGE);

		p[0] = p[100] = p[511] = word_of(i);
	}
}

static bool pages_are_right(const void *mem, size_t bytes)
{
	for (size_t i = 0; i < bytes / PAGE; i++) {
		const unsigned long *p = (const void *)((const char *)mem + i * PAGE);

		if (p[0] != word_of(i) || p[100] != word_of(i) || p[511] != word_of(i))
			return false;
	}
	return true;
}

static uint64_t dying(struct quire *q)
{
	uint64_t nr = 99;

	ASSERT_OK(quire_read_key(quire_root(q), "cgroup.stat", "nr_dying_descendants", &nr));
	return nr;
}

TEST(refused)
{
	struct quire *q = open_real();
	struct quire_group *g, *parent = two_groups(q, &g), *grandchild;
	struct quire_heap *h;
	void *mem;

	ASSERT_WHY(quire_group_remove_with(g, 4), EINVAL, "flags");
	ASSERT_WHY(quire_group_remove_with(g, QUIRE_REMOVE_REPARENT | QUIRE_REMOVE_DISCARD), EINVAL,
		   "flags");
	ASSERT_WHY(quire_group_remove_with(quire_root(q), QUIRE_REMOVE_DISCARD), EPERM, "root");
	ASSERT_OK(quire_map(g, MIB, 0, &mem));
	ASSERT_WHY(quire_group_remove(g), EBUSY, "regions");
	ASSERT_OK(quire_unmap(q, mem, MIB));
	ASSERT_OK(quire_heap_create(g, 0, &h));
	ASSERT_WHY(quire_group_remove(g), EBUSY, "heaps");
	ASSERT_OK(quire_group_create(g, "grandchild", &grandchild));
	ASSERT_WHY(quire_group_remove_with(g, QUIRE_REMOVE_REPARENT), EBUSY, "groups");
	ASSERT_WHY(quire_group_remove_with(g, QUIRE_REMOVE_DISCARD), EBUSY, "groups");
	/* Nothing has changed. */
	ASSERT_PTR_EQ(quire_heap_group(h), g);
	write_pages(quire_malloc(h, MIB), MIB);
	ASSERT_GE(quire_current(g), MIB);
	ASSERT_OK(quire_group_remove(grandchild));
	ASSERT_OK(quire_group_remove_with(g, QUIRE_REMOVE_REPARENT));
	ASSERT_WHY(quire_group_remove_with(g, QUIRE_REMOVE_REPARENT), ENODEV, "removed");
	ASSERT_PTR_EQ(quire_heap_group(h), parent);
	ASSERT_WHY(quire_group_remove(parent), EBUSY, "heaps");
	quire_heap_destroy(h);
	ASSERT_OK(quire_group_remove(parent));
	ASSERT_EQ(dying(q), 0u);
	quire_close(q);
}

/* A page that is being written when it is unmapped goes when it has been. */
static bool no_swap_left(struct quire_group *g)
{
	for (int i = 0; i < 5000 && quire_swap_current(g); i++)
		usleep(1000);
	return !quire_swap_current(g);
}

/* Pages in memory, in the pool and in the store change hands unseen. */
TEST(inherited)
{
	struct quire *q = open_real();
	struct quire_group *g, *parent = two_groups(q, &g);
	unsigned long long before, swap;
	struct quire_heap *h;
	void *mem, *block;

	ASSERT_OK(quire_map(g, 24 * MIB, 0, &mem));
	write_pages(mem, 24 * MIB);
	ASSERT_OK(quire_heap_create(g, 0, &h));
	block = quire_malloc(h, 6 * MIB);
	write_pages(block, 6 * MIB);
	ASSERT_GT(quire_swap_current(g), 16 * MIB);
	before = quire_current(parent);
	swap = quire_swap_current(parent);
	ASSERT_OK(quire_group_remove_with(g, QUIRE_REMOVE_REPARENT));
	ASSERT_EQ(dying(q), 0u);
	ASSERT_LE(quire_current(parent), before + SLACK);
	ASSERT_GE(quire_current(parent) + SLACK, before);
	ASSERT_LE(quire_swap_current(parent), swap + SLACK);
	ASSERT_GE(quire_swap_current(parent) + SLACK, swap);
	ASSERT_PTR_EQ(quire_heap_group(h), parent);
	/* The child's limit is gone with it: all of it fits now. */
	ASSERT_TRUE(pages_are_right(mem, 24 * MIB));
	ASSERT_TRUE(pages_are_right(block, 6 * MIB));
	ASSERT_GT(quire_current(parent), 28 * MIB);
	/* New memory of both is the parent's, and under its limit. */
	ASSERT_OK(quire_write_u64(parent, "memory.max", 12 * MIB));
	block = quire_malloc(h, 8 * MIB);
	write_pages(block, 8 * MIB);
	ASSERT_TRUE(pages_are_right(mem, 24 * MIB));
	ASSERT_TRUE(pages_are_right(block, 8 * MIB));
	ASSERT_LE(quire_current(parent), 13 * MIB);
	quire_heap_destroy(h);
	ASSERT_OK(quire_unmap(q, mem, 24 * MIB));
	ASSERT_TRUE(no_swap_left(parent));
	ASSERT_LE(quire_current(parent), SLACK);
	ASSERT_OK(quire_group_remove(parent));
	quire_close(q);
}

struct user {
	pthread_t thread;
	struct quire_heap *heap;
	char *mem;
	atomic_bool stop;
	const char *wrong;
};

static void *use(void *arg)
{
	struct user *u = arg;

	while (!atomic_load(&u->stop) && !u->wrong) {
		void *block = quire_malloc(u->heap, MIB);

		write_pages(u->mem, 6 * MIB);
		write_pages(block, MIB);
		if (!pages_are_right(u->mem, 6 * MIB) || !pages_are_right(block, MIB))
			u->wrong = "a page differs";
		quire_free(u->heap, block);
	}
	return NULL;
}

/* Group after group goes while threads use what it had. */
TEST(inherited_in_use)
{
	enum { USERS = 3, GENERATIONS = 12 };
	struct quire *q = open_real();
	struct quire_group *g[GENERATIONS], *top;
	struct user users[USERS];
	char name[8];

	ASSERT_OK(quire_group_create(quire_root(q), "top", &top));
	ASSERT_OK(quire_write_u64(top, "memory.max", 12 * MIB));
	for (int i = 0; i < GENERATIONS; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		ASSERT_OK(quire_group_create(i ? g[i - 1] : top, name, &g[i]));
		ASSERT_OK(quire_write_u64(g[i], "memory.max", 8 * MIB));
	}
	for (int i = 0; i < USERS; i++) {
		void *mem;

		users[i] = (struct user){ .wrong = NULL };
		ASSERT_OK(quire_heap_create(g[GENERATIONS - 1], 0, &users[i].heap));
		ASSERT_OK(quire_map(g[GENERATIONS - 1], 6 * MIB, 0, &mem));
		users[i].mem = mem;
		ASSERT_EQ(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
	}
	for (int i = GENERATIONS - 1; i >= 0; i--) {
		usleep(20000);
		ASSERT_OK(quire_group_remove_with(g[i], QUIRE_REMOVE_REPARENT));
	}
	usleep(20000);
	for (int i = 0; i < USERS; i++) {
		atomic_store(&users[i].stop, true);
		pthread_join(users[i].thread, NULL);
		if (users[i].wrong)
			FAIL("user %d: %s", i, users[i].wrong);
		ASSERT_PTR_EQ(quire_heap_group(users[i].heap), top);
		ASSERT_OK(quire_unmap(q, users[i].mem, 6 * MIB));
		quire_heap_destroy(users[i].heap);
	}
	ASSERT_TRUE(no_swap_left(top));
	ASSERT_OK(quire_group_remove(top));
	quire_close(q);
}

/* Until the engine has given back what a discarded group held. */
static void wait_empty(struct quire_group *g)
{
	for (int i = 0; i < 500; i++) {
		if (!quire_swap_current(g) && quire_current(g) <= SLACK)
			return;
		usleep(10000);
	}
	FAIL("%llu bytes of a discarded group are still charged, %llu out",
	     (unsigned long long)quire_current(g), (unsigned long long)quire_swap_current(g));
}

/* Nothing may be at a page that is gone, or something else: not to be touched. */
static bool still_there(char *page)
{
	static unsigned long copy[PAGE / sizeof(long)];
	struct iovec to = { copy, PAGE }, from = { page, PAGE };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)PAGE &&
	       pages_are_right(copy, PAGE);
}

TEST(discarded)
{
	struct quire *q = open_real();
	struct quire_group *g, *parent = two_groups(q, &g);
	struct quire_heap *h;
	void *mem, *kept;
	char *block;
	int status;
	pid_t pid;

	ASSERT_OK(quire_map(parent, 2 * MIB, 0, &kept));
	write_pages(kept, 2 * MIB);
	ASSERT_OK(quire_map(g, 24 * MIB, 0, &mem));
	write_pages(mem, 24 * MIB);
	ASSERT_OK(quire_heap_create(g, 0, &h));
	block = quire_malloc(h, 6 * MIB);
	write_pages(block, 6 * MIB);
	ASSERT_OK(quire_group_remove_with(g, QUIRE_REMOVE_DISCARD));
	ASSERT_FALSE(quire_manages(q, mem, 24 * MIB));
	ASSERT_FALSE(quire_manages(q, block, 1));
	ASSERT_EQ(dying(q), 0u);
	/* A child has none of it, now as later. */
	fflush(stdout);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(!pages_are_right(kept, 2 * MIB) ? 1 : still_there(block) ? 2 : 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_TRUE(pages_are_right(kept, 2 * MIB));
	ASSERT_OK(quire_unmap(q, kept, 2 * MIB));
	wait_empty(parent);
	ASSERT_OK(quire_group_remove(parent));
	quire_close(q);
}

/* Registered before quire's own: runs when a fork has stopped the engine. */
static atomic_bool lingering;

static void linger(void)
{
	if (atomic_load(&lingering))
		usleep(50000);
}

__attribute__((constructor)) static void register_linger(void)
{
	(void)!pthread_atfork(linger, NULL, NULL);
}

/* What removed groups left to do is not done while a fork holds the engine. */
TEST(removed_and_forked)
{
	struct quire *q = open_real();
	struct quire_group *g, *parent = two_groups(q, &g);
	int status;
	void *mem;
	pid_t pid;

	ASSERT_OK(quire_map(g, MIB, 0, &mem));
	write_pages(mem, MIB);
	ASSERT_OK(quire_group_remove_with(g, QUIRE_REMOVE_REPARENT));
	atomic_store(&lingering, true);
	fflush(stdout);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(!pages_are_right(mem, MIB));
	atomic_store(&lingering, false);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_TRUE(pages_are_right(mem, MIB));
	ASSERT_OK(quire_unmap(q, mem, MIB));
	ASSERT_OK(quire_group_remove(parent));
	quire_close(q);
}

/* The addresses of what was discarded serve others soon, never with its bytes. */
TEST(discarded_and_mapped)
{
	struct quire *q = open_real();
	struct quire_group *g, *parent = two_groups(q, &g);
	void *mem;

	ASSERT_OK(quire_write_u64(parent, "memory.max", 12 * MIB));
	for (int n = 0; n < 40; n++) {
		ASSERT_OK(quire_map(g, 12 * MIB, 0, &mem));
		for (size_t i = 0; i < 12 * MIB; i += PAGE)
			if (((char *)mem)[i])
				FAIL("round %d: new memory is not zero", n);
		write_pages(mem, 12 * MIB);
		ASSERT_OK(quire_group_remove_with(g, QUIRE_REMOVE_DISCARD));
		ASSERT_OK(quire_group_create(parent, "child", &g));
	}
	wait_empty(parent);
	quire_close(q);
}
