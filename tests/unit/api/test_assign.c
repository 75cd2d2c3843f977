/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_assign.c - memory that becomes another group's, in whatever state it is and
 * whoever uses it.
 * paging
 */
#include <errno.h>
#include <pthread.h>
#include <quire/quire.h>
#include <stdatomic.h>
#include <unistd.h>

#include "lib/open_real.h"

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define SLACK (4 * 64 * PAGE) /* bought ahead by engine threads */

static struct quire_group *group_of(struct quire *q, const char *path, size_t max)
{
	struct quire_group *g;

	ASSERT_OK(quire_group_make(q, path, &g));
	ASSERT_OK(quire_write_u64(g, "memory.max", max));
	return g;
}

static unsigned long word_of(size_t page, unsigned long round)
{
	return (page + 1) * 0x9e3779b97f4a7c15ul ^ round * 0xd1342543de82ef95ul;
}

/* About 2:1 compressible. */
static void write_page(void *mem, size_t page, unsigned long round)
{
	unsigned long *p = (void *)((char *)mem + page * PAGE);

	for (int i = 0; i < 512; i += 2) {
		p[i] = word_of(page, round) + (unsigned long)i * 77777777777ul;
		p[i + 1] = page;
	}
}

static bool page_is(const void *mem, size_t page, unsigned long round)
{
	const unsigned long *p = (const void *)((const char *)mem + page * PAGE);

	return p[0] == word_of(page, round) && p[511] == page &&
	       p[300] == word_of(page, round) + 300 * 77777777777ul;
}

static void write_all(void *mem, size_t bytes, unsigned long round)
{
	for (size_t i = 0; i < bytes / PAGE; i++)
		write_page(mem, i, round);
}

static bool all_are(const void *mem, size_t bytes, unsigned long round)
{
	for (size_t i = 0; i < bytes / PAGE; i++)
		if (!page_is(mem, i, round))
			return false;
	return true;
}

/* Nothing of it is out, once those are done who had a page in hand when it went. */
static void wait_none_out(struct quire_group *g)
{
	for (int i = 0; i < 200 && quire_swap_current(g); i++)
		usleep(10000);
	ASSERT_EQ(quire_swap_current(g), 0u);
}

/* Mapped, unmapped, compressed, stored: all of it changes sides. */
TEST(whatever_state)
{
	struct quire *q = open_real();
	struct quire_group *a = group_of(q, "p/a", 8 * MIB), *b = group_of(q, "p/b", 32 * MIB);
	struct quire_group *p = quire_group_parent(a);
	uint64_t before, swap;
	size_t moved = 99;
	void *mem;

	ASSERT_OK(quire_map(a, 32 * MIB, 0, &mem));
	write_all(mem, 32 * MIB, 0);
	usleep(300000); /* kswapd comes to rest */
	before = quire_current(p);
	swap = quire_swap_current(p);
	ASSERT_OK(quire_assign(b, mem, 32 * MIB, &moved));
	ASSERT_EQ(moved, 32 * MIB);
	wait_none_out(a);
	ASSERT_EQ(quire_zswap_current(a), 0u);
	ASSERT_LE(quire_current(a), SLACK);
	ASSERT_EQ(quire_swap_current(b), quire_swap_current(p));
	ASSERT_LE(quire_swap_current(p), swap);
	ASSERT_LE(quire_current(p), before + SLACK);
	ASSERT_TRUE(all_are(mem, 32 * MIB, 0));
	/* The old group has no business with it any more. */
	ASSERT_OK(quire_group_remove(a));
	write_all(mem, 32 * MIB, 1);
	ASSERT_TRUE(all_are(mem, 32 * MIB, 1));
	ASSERT_OK(quire_unmap(q, mem, 32 * MIB));
	wait_none_out(p);
	quire_close(q);
}

TEST(refused)
{
	struct quire *q = open_real();
	struct quire_group *a = group_of(q, "p/a", 24 * MIB), *b = group_of(q, "p/b", 8 * MIB);
	struct quire_group *top = quire_group_parent(a);
	size_t moved = 99, again;
	void *mem;

	ASSERT_EQ(quire_assign(b, (void *)1, PAGE, &moved), -EINVAL);
	ASSERT_EQ(quire_assign(b, (void *)PAGE, 0, &moved), -EINVAL);
	ASSERT_OK(quire_map(a, 16 * MIB, 0, &mem));
	write_all(mem, 16 * MIB, 0);
	/* A hole at the end: nothing happens. */
	ASSERT_EQ(quire_assign(b, mem, 1024 * MIB, &moved), -ENOENT);
	ASSERT_EQ(moved, 0u);
	ASSERT_GE(quire_current(a), 15 * MIB);
	/* No room, and nothing may be paged out to make some. */
	ASSERT_OK(quire_write_u64(b, "memory.swap.max", 0));
	ASSERT_EQ(quire_assign(b, mem, 16 * MIB, &moved), -ENOMEM);
	ASSERT_TRUE(strstr(quire_why(), "were moved") != NULL);
	ASSERT_GT(moved, 6 * MIB);
	ASSERT_LE(moved, 8 * MIB);
	ASSERT_LE(quire_current(b), 8 * MIB);
	ASSERT_GE(quire_current(b) + SLACK, moved);
	ASSERT_GE(quire_current(a) + moved + SLACK, 16 * MIB);
	ASSERT_TRUE(all_are(mem, 16 * MIB, 0));
	/* With room outside memory the rest follows. */
	ASSERT_OK(quire_write(b, "memory.swap.max", "max"));
	ASSERT_OK(quire_assign(b, mem, 16 * MIB, &again));
	ASSERT_EQ(again, 16 * MIB);
	ASSERT_LE(quire_current(b), 8 * MIB);
	ASSERT_GT(quire_swap_current(b), 4 * MIB);
	ASSERT_TRUE(all_are(mem, 16 * MIB, 0));
	/* What is out needs room among what is out. */
	ASSERT_OK(quire_write_u64(a, "memory.swap.max", 0));
	ASSERT_EQ(quire_assign(a, mem, 16 * MIB, &moved), -ENOSPC);
	ASSERT_TRUE(strstr(quire_why(), "swap.max") != NULL);
	ASSERT_TRUE(all_are(mem, 16 * MIB, 0));
	ASSERT_OK(quire_assign(top, mem, 16 * MIB, NULL));
	ASSERT_OK(quire_group_remove(a));
	ASSERT_OK(quire_group_remove(b));
	ASSERT_TRUE(all_are(mem, 16 * MIB, 0));
	quire_close(q);
}

/* ---- while it is used ------------------------------------------------------------- */

enum { USERS = 3, USER_PAGES = 1536 };

struct user {
	pthread_t thread;
	char *mem;
	unsigned int seed;
	const char *wrong;
	atomic_bool *stop;
};

static void *use(void *arg)
{
	static unsigned long written[USERS][USER_PAGES];
	struct user *u = arg;
	unsigned long *round = written[u->seed - 1];
	unsigned int x = u->seed;

	for (size_t i = 0; i < USER_PAGES; i++)
		write_page(u->mem, i, round[i] = 0);
	while (!atomic_load(u->stop) && !u->wrong) {
		size_t page = (size_t)rand_r(&x) % USER_PAGES;

		if (!page_is(u->mem, page, round[page]))
			u->wrong = "a page differs";
		if (rand_r(&x) % 4 == 0)
			write_page(u->mem, page, ++round[page]);
	}
	for (size_t i = 0; i < USER_PAGES && !u->wrong; i++)
		if (!page_is(u->mem, i, round[i]))
			u->wrong = "a page differs at the end";
	return NULL;
}

TEST(while_used)
{
	struct quire *q = open_real();
	struct quire_group *g[2] = { group_of(q, "p/a", 8 * MIB), group_of(q, "p/b", 10 * MIB) };
	atomic_bool stop = false;
	struct user users[USERS];
	void *mem;

	ASSERT_OK(quire_map(g[0], USERS * USER_PAGES * PAGE, 0, &mem));
	for (unsigned int i = 0; i < USERS; i++) {
		users[i] = (struct user){ .mem = (char *)mem + i * USER_PAGES * PAGE,
					  .seed = i + 1,
					  .stop = &stop };
		ASSERT_EQ(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
	}
	for (int n = 1; n <= 40; n++) {
		/* Not at the borders of what the threads use. */
		size_t from = (size_t)n * 37 % 512 * PAGE, len = (size_t)(n * 91 % 3000 + 1) * PAGE;

		ASSERT_OK(quire_assign(g[n % 2], (char *)mem + from, len, NULL));
		usleep(5000);
	}
	ASSERT_OK(quire_assign(g[1], mem, USERS * USER_PAGES * PAGE, NULL));
	wait_none_out(g[0]);
	ASSERT_LE(quire_current(g[0]), SLACK);
	atomic_store(&stop, true);
	for (int i = 0; i < USERS; i++) {
		pthread_join(users[i].thread, NULL);
		if (users[i].wrong)
			FAIL("user %d: %s", i, users[i].wrong);
	}
	ASSERT_OK(quire_group_remove(g[0]));
	ASSERT_OK(quire_unmap(q, mem, USERS * USER_PAGES * PAGE));
	wait_none_out(quire_root(q));
	quire_close(q);
}

/* The process itself: all of its group, and what is charged for its metadata. */
TEST(all)
{
	struct quire *q = open_real();
	struct quire_group *root = quire_root(q), *b = group_of(q, "b", 16 * MIB), *other;
	size_t moved = 0, len;
	uint64_t kernel;
	char procs[64];
	void *mem, *kept;

	other = group_of(q, "other", 16 * MIB);
	ASSERT_OK(quire_map(root, 24 * MIB, 0, &mem));
	ASSERT_OK(quire_map(other, MIB, 0, &kept));
	write_all(mem, 24 * MIB, 0);
	write_all(kept, MIB, 1);
	usleep(300000);
	ASSERT_OK(quire_assign_all(b, &moved));
	ASSERT_EQ(moved, 24 * MIB);
	ASSERT_LE(quire_current(b), 18 * MIB); /* what is not paged is charged all the same */
	ASSERT_GE(quire_current(other), MIB);
	ASSERT_OK(quire_read_key(b, "memory.stat", "kernel", &kernel));
	ASSERT_GT(kernel, 0u);
	ASSERT_OK(quire_read(b, "cgroup.procs", procs, sizeof(procs), &len));
	ASSERT_EQ(atoi(procs), getpid());
	ASSERT_TRUE(all_are(mem, 24 * MIB, 0));
	ASSERT_TRUE(all_are(kept, MIB, 1));
	/* It is at home there now. */
	ASSERT_EQ(quire_group_remove_with(b, QUIRE_REMOVE_DISCARD), -EBUSY);
	ASSERT_OK(quire_assign_all(root, &moved));
	ASSERT_EQ(moved, 24 * MIB);
	wait_none_out(b);
	ASSERT_OK(quire_group_remove(b));
	ASSERT_TRUE(all_are(mem, 24 * MIB, 0));
	quire_close(q);
}
