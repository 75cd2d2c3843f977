/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_heap.c - heaps that are larger than their group's limit: content, threads,
 * fork, and everything gone at once.  paging
 */
#include <errno.h>
#include <pthread.h>
#include <quire/quire.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/open_real.h"

#define MIB ((size_t)1 << 20)
#define LIMIT (8 * MIB)

static struct quire_group *limited_group(struct quire *q)
{
	struct quire_group *g;

	ASSERT_OK(quire_group_create(quire_root(q), "heap", &g));
	ASSERT_OK(quire_write_u64(g, "memory.max", LIMIT));
	return g;
}

/* Content that follows from a block's number and size. */
static void fill(unsigned char *p, size_t size, unsigned long n)
{
	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(n + (i >> 4) + (i & 3 ? 0 : n >> 8));
}

static bool is_filled(const unsigned char *p, size_t size, unsigned long n)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != (unsigned char)(n + (i >> 4) + (i & 3 ? 0 : n >> 8)))
			return false;
	return true;
}

TEST(larger_than_limit)
{
	static const size_t sizes[] = { 16, 100, 1000, 4096, 20000, 300000 };
	enum { BLOCKS = 1200 };
	static unsigned char *blocks[BLOCKS];
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct quire_heap *h;
	size_t total = 0;

	ASSERT_OK(quire_heap_create(g, 0, &h));
	ASSERT_PTR_EQ(quire_heap_group(h), g);
	for (unsigned long i = 0; i < BLOCKS; i++) {
		size_t size = sizes[i % 6];

		blocks[i] = quire_malloc(h, size);
		ASSERT_NOT_NULL(blocks[i]);
		ASSERT_TRUE(quire_manages(q, blocks[i], size));
		ASSERT_GE(quire_usable_size(h, blocks[i]), size);
		fill(blocks[i], size, i);
		total += size;
	}
	ASSERT_GT(total, 4 * LIMIT);
	ASSERT_LE(quire_peak(g), LIMIT + MIB);
	ASSERT_GT(quire_swap_current(g), total / 2);
	for (unsigned long i = 0; i < BLOCKS; i++)
		if (!is_filled(blocks[i], sizes[i % 6], i))
			FAIL("block %lu of %zu bytes differs", i, sizes[i % 6]);

	/* All at once, whatever is left in it. */
	quire_heap_destroy(h);
	ASSERT_FALSE(quire_manages(q, blocks[5], 1));
	/* What was being paged out keeps its slot until that is over. */
	for (int i = 0; i < 2000 && quire_swap_current(g); i++)
		usleep(1000);
	ASSERT_EQ(quire_swap_current(g), 0u);
	ASSERT_OK(quire_group_remove(g));
	quire_close(q);
}

TEST(like_malloc)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct quire_heap *h;
	unsigned char *p;

	ASSERT_OK(quire_heap_create(g, 0, &h));
	p = quire_malloc(h, 0);
	ASSERT_NOT_NULL(p);
	quire_free(h, p);
	quire_free(h, NULL);
	ASSERT_NULL(quire_calloc(h, SIZE_MAX / 2, 3));
	ASSERT_NULL(quire_malloc(h, (size_t)1 << 62));
	ASSERT_TRUE(strstr(quire_why(), "address space") != NULL);

	/* Used memory comes back zeroed from calloc. */
	for (int i = 0; i < 50; i++) {
		p = quire_malloc(h, 5000);
		memset(p, 0xff, 5000);
		quire_free(h, p);
		p = quire_calloc(h, 50, 100);
		for (int j = 0; j < 5000; j++)
			ASSERT_EQ(p[j], 0);
		quire_free(h, p);
	}
	p = quire_realloc(h, NULL, 100);
	fill(p, 100, 7);
	p = quire_realloc(h, p, 3 * MIB);
	ASSERT_TRUE(is_filled(p, 100, 7));
	fill(p, 3 * MIB, 8);
	p = quire_realloc(h, p, 12 * MIB);
	ASSERT_TRUE(is_filled(p, 3 * MIB, 8));
	p = quire_realloc(h, p, 60);
	ASSERT_TRUE(is_filled(p, 60, 8));
	ASSERT_NULL(quire_realloc(h, p, 0));
	for (size_t align = 1; align <= 4 * MIB; align *= 2) {
		p = quire_aligned_alloc(h, align, 100);
		ASSERT_NOT_NULL(p);
		ASSERT_EQ((uintptr_t)p % align, 0u);
	}
	ASSERT_NULL(quire_aligned_alloc(h, 48, 100));
	ASSERT_NULL(quire_aligned_alloc(h, 0, 100));
	quire_close(q);
}

/* ---- threads ---------------------------------------------------------------------- */

struct worker {
	pthread_t thread;
	struct quire_heap *heap;
	unsigned int seed;
	const char *wrong;
};

static void *work(void *arg)
{
	enum { SLOTS = 300 };
	struct worker *w = arg;
	unsigned char *slots[SLOTS] = { NULL };
	size_t sizes[SLOTS] = { 0 };

	for (unsigned long n = 0; n < 20000 && !w->wrong; n++) {
		unsigned int at = (unsigned int)rand_r(&w->seed) % SLOTS;
		unsigned int kind = (unsigned int)rand_r(&w->seed) % 10;
		size_t size = (size_t)rand_r(&w->seed) % (kind == 0 ? 200000 : 3000) + 1;

		if (slots[at] && !is_filled(slots[at], sizes[at], at))
			w->wrong = "a block differs";
		if (kind < 3) {
			quire_free(w->heap, slots[at]);
			slots[at] = NULL;
			sizes[at] = 0;
			continue;
		}
		slots[at] = quire_realloc(w->heap, slots[at], size);
		if (!slots[at]) {
			w->wrong = "no memory";
			break;
		}
		if (!is_filled(slots[at], size < sizes[at] ? size : sizes[at], at))
			w->wrong = "a moved block differs";
		fill(slots[at], size, at);
		sizes[at] = size;
	}
	return NULL;
}

TEST(threads)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct worker workers[4];
	struct quire_heap *h;

	ASSERT_OK(quire_heap_create(g, 0, &h));
	for (unsigned int i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .heap = h, .seed = i + 1 };
		ASSERT_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned int i = 0; i < 4; i++)
		if (workers[i].wrong)
			FAIL("thread %u: %s", i, workers[i].wrong);
	ASSERT_LE(quire_peak(g), LIMIT + MIB);
	quire_heap_destroy(h);
	ASSERT_OK(quire_group_remove(g));
	quire_close(q);
}

TEST(many_heaps)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	static struct quire_heap *heaps[300];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 300; i++) {
			ASSERT_OK(quire_heap_create(g, 0, &heaps[i]));
			memset(quire_malloc(heaps[i], 10000), i, 10000);
		}
		for (int i = 299; i >= 0; i--)
			quire_heap_destroy(heaps[i]);
	}
	ASSERT_OK(quire_group_remove(g));
	quire_close(q);
}

/* ---- fork --------------------------------------------------------------------------- */

/*
 * A heap must not give back the front of a mapping of which the rest stays: in
 * the hole another heap's mapping lands, next to extents that look as if they
 * followed it, and jemalloc merges free extents of two arenas into one.
 */
TEST(holes_between_heaps)
{
	enum { BLOCKS = 24, ROUNDS = 40 };
	static unsigned char *blocks[2][BLOCKS];
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct quire_heap *heaps[2];
	unsigned int seed = 1;
	int err;

	ASSERT_OK(quire_heap_create(g, 0, &heaps[0]));
	ASSERT_OK(quire_heap_create(g, 0, &heaps[1]));
	for (int round = 0; round < ROUNDS; round++) {
		for (int n = 0; n < 2 * BLOCKS; n++) {
			int h = rand_r(&seed) & 1, i = rand_r(&seed) % BLOCKS;
			size_t size = ((size_t)rand_r(&seed) % 6 + 1) * 2 * MIB;

			quire_free(heaps[h], blocks[h][i]);
			blocks[h][i] = NULL;
			if (rand_r(&seed) & 1) {
				blocks[h][i] = quire_malloc(heaps[h], size);
				ASSERT_NOT_NULL(blocks[h][i]);
				fill(blocks[h][i], 64, (unsigned long)i);
			}
		}
		err = quire_write(g, "memory.reclaim", "4M");
		ASSERT_TRUE(!err || err == -EAGAIN);
		for (int h = 0; h < 2; h++)
			for (int i = 0; i < BLOCKS; i++)
				ASSERT_TRUE(!blocks[h][i] ||
					    is_filled(blocks[h][i], 64, (unsigned long)i));
	}
	quire_close(q);
}

TEST(fork_is_exact)
{
	enum { BLOCKS = 400, SIZE = 60000 };
	static unsigned char *blocks[BLOCKS];
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct quire_heap *h;
	int status;
	pid_t pid;

	ASSERT_OK(quire_heap_create(g, 0, &h));
	for (unsigned long i = 0; i < BLOCKS; i++) {
		blocks[i] = quire_malloc(h, SIZE);
		fill(blocks[i], SIZE, i);
	}
	fflush(NULL);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* Everything is there, can be changed, and more can be had. */
		for (unsigned long i = 0; i < BLOCKS; i++) {
			if (!is_filled(blocks[i], SIZE, i))
				_exit(1);
			fill(blocks[i], SIZE, i + 1000);
		}
		for (unsigned long i = 0; i < BLOCKS; i += 2)
			quire_free(h, blocks[i]);
		for (unsigned long i = 1; i < BLOCKS; i += 2)
			if (!is_filled(blocks[i], SIZE, i + 1000))
				_exit(2);
		if (!quire_malloc(h, 20 * MIB) || quire_current(g) > LIMIT + MIB)
			_exit(3);
		quire_heap_destroy(h);
		_exit(quire_group_remove(g) ? 4 : 0);
	}
	for (unsigned long i = 0; i < BLOCKS; i++)
		if (!is_filled(blocks[i], SIZE, i))
			FAIL("block %lu differs in the parent", i);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	quire_close(q);
}

#define COLD_SIZE (4 * MIB)

static unsigned char *cold;
static volatile sig_atomic_t nr_signals;

static void look_at_cold(int sig)
{
	size_t at = (size_t)nr_signals++ * 40961 % COLD_SIZE;

	(void)sig;
	if (cold[at] != 7)
		_exit(9);
}

/* Signals for this process and its children, as fast as they are taken. */
static pid_t start_sender(void)
{
	pid_t us = getpid(), pid;

	setpgid(0, 0);
	pid = fork();
	if (pid)
		return pid;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		kill(-us, SIGUSR1);
		for (volatile int n = 0; n < 3000; n++)
			;
	}
}

/* A handler that runs in the child before all else sees what the parent had. */
TEST(signals_during_fork)
{
	enum { FORKS = 40 };
	struct sigaction act = { .sa_handler = look_at_cold, .sa_flags = SA_RESTART };
	struct quire *q;
	void *p;
	pid_t sender, pid;
	int status;

	signal(SIGUSR1, SIG_IGN);
	sender = start_sender();
	ASSERT_GT(sender, 0);
	q = open_real();
	ASSERT_OK(quire_map(limited_group(q), COLD_SIZE, 0, &p));
	cold = p;
	for (size_t n = 0; n < COLD_SIZE; n++)
		cold[n] = 7;
	sigaction(SIGUSR1, &act, NULL);
	fflush(NULL);
	for (int n = 0; n < FORKS; n++) {
		ASSERT_OK(quire_advise(q, p, COLD_SIZE, QUIRE_PAGEOUT));
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			_exit(0);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(status, 0);
	}
	ASSERT_GT(nr_signals, 0);
	kill(sender, SIGKILL);
	signal(SIGUSR1, SIG_IGN);
	quire_close(q);
}
