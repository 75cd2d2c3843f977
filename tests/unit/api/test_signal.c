/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_signal.c - QUIRE_FAULT_SIGNAL: every byte is right, whoever serves the fault.
 * paging
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "engine/internal.h"
#include "unit/api/signal_test.h"

/* An engine is the first thing in a struct quire. */
static struct fault *fault_of(struct quire *tree)
{
	return &(*(struct engine **)tree)->fault;
}

static unsigned int nr_threads;
static atomic_bool stop;

/* Reads all pages and writes its own, in an order of its own. */
static void *reader_writer(void *arg)
{
	size_t me = (size_t)arg, at = me;

	for (unsigned int n = 0; n < 3 * PAGES / nr_threads; n++) {
		at = (at * 1103515245 + 12345 + me) % PAGES;
		if (at % nr_threads == me && n % 2)
			write_page(at, n);
		else if (at % nr_threads == me)
			check_page(at);
		else
			(void)*(volatile unsigned long *)(mem + at * WORDS);
	}
	return NULL;
}

static void run_threads(void *(*fn)(void *arg), unsigned int nr)
{
	pthread_t t[16];

	nr_threads = nr;
	for (size_t i = 0; i < nr; i++)
		ASSERT_OK(-pthread_create(&t[i], NULL, fn, (void *)i));
	for (size_t i = 0; i < nr; i++)
		ASSERT_OK(-pthread_join(t[i], NULL));
}

TEST(threads_1_2_8)
{
	begin();
	run_threads(reader_writer, 1);
	/* By whom, mostly: what is handed over is what has no memory. */
	ASSERT_GT(stat_read(&fault_of(q)->nr_self), 2 * PAGES);
	ASSERT_GT(stat_read(&fault_of(q)->nr_self), stat_read(&fault_of(q)->nr_handed_over));
	run_threads(reader_writer, 2);
	run_threads(reader_writer, 8);
	end();
}

TEST(pager_uffd_copy)
{
	begin_with("uffd_copy", 0);
	run_threads(reader_writer, 2);
	end();
}

/* The store's, all of whose reads are faults; see begin_with(). */
static struct store *store_of(struct quire *tree)
{
	return zswap_backing(fault_of(tree)->zswap);
}

/* Else, on a busy machine, one read in 64 is done by who faults. */
static bool device_is_quick(void)
{
	return atomic32_load(&fault_of(q)->read_ns) < 150 * 1000;
}

/* Reads from the store too are done by who faults; while memory is short most wait. */
TEST(store_reads)
{
	struct fault *f;
	uint64_t handed_over;

	begin_with(NULL, QUIRE_OPEN_NO_ZSWAP);
	f = fault_of(q);
	run_threads(reader_writer, 2);
	ASSERT_GT(key_of("memory.stat", "pswpin"), PAGES);
	page_out(0, PAGES);
	ASSERT_OK(quire_write_u64(g, "memory.max", 2 * BYTES));
	handed_over = stat_read(&f->nr_handed_over);
	for (size_t n = 0; n < PAGES; n++)
		check_page(n * 1021 % PAGES);
	if (device_is_quick())
		ASSERT_LT(stat_read(&f->nr_handed_over) - handed_over, PAGES / 8);
	ASSERT_LE(stat_read(&store_of(q)->nr_here_opened), 1u);
	ASSERT_LE(stat_read(&store_of(q)->nr_here_refused), 1u); /* opened by both at one time */
	end();
}

/* A page that a read brought in is protected; the store that follows is a fault too. */
TEST(write_after_read)
{
	begin();
	for (unsigned int round = 2; round < 5; round++) {
		for (size_t p = 0; p < PAGES; p++) {
			check_page(p);
			write_page(p, round);
		}
	}
	end();
}

TEST(throttled_by_high)
{
	begin();
	ASSERT_OK(quire_write_u64(g, "memory.high", LIMIT / 2));
	/* Each costs the more the further it is above: not more than there must be. */
	for (size_t n = 0; n < 4 * PAGES && !key_of("memory.stat", "throttled_usec"); n++)
		check_page(n * 31 % PAGES);
	ASSERT_GT(key_of("memory.stat", "throttled_usec"), 0u);
	ASSERT_OK(quire_write(g, "memory.high", "max"));
	end();
}

static void *map_and_unmap(void *arg)
{
	(void)arg;
	while (!stop) {
		unsigned char *own;
		void *at;

		if (quire_map(g, 64 * PAGE, 0, &at))
			_exit(2);
		own = at;
		memset(own, 7, 64 * PAGE);
		if (quire_discard(q, own + 8 * PAGE, 8 * PAGE) || own[9 * PAGE] ||
		    own[63 * PAGE] != 7)
			_exit(3);
		if (quire_unmap(q, at, 64 * PAGE))
			_exit(4);
	}
	return NULL;
}

/* Others unmap and discard meanwhile; a range that leaves management keeps its bytes. */
TEST(beside_changes_of_the_address_space)
{
	pthread_t t;

	begin();
	stop = false;
	ASSERT_OK(-pthread_create(&t, NULL, map_and_unmap, NULL));
	run_threads(reader_writer, 2);
	for (size_t p = 0; p < PAGES; p += 128) {
		ASSERT_OK(quire_release(q, mem + p * WORDS, 64 * PAGE));
		check_page(p);
		ASSERT_OK(quire_adopt(g, mem + p * WORDS, 64 * PAGE));
	}
	stop = true;
	ASSERT_OK(-pthread_join(t, NULL));
	end();
}

static void *release_and_adopt(void *arg)
{
	(void)arg;
	while (!stop)
		for (size_t p = 0; p < 512; p += 64)
			if (quire_advise(q, mem + p * WORDS, 64 * PAGE, QUIRE_PAGEOUT) ||
			    quire_release(q, mem + p * WORDS, 64 * PAGE) ||
			    quire_adopt(g, mem + p * WORDS, 64 * PAGE))
				_exit(2);
	return NULL;
}

/* A fault that is older than the release of its range is no error of the program. */
TEST(released_under_a_fault)
{
	pthread_t t;

	begin();
	stop = false;
	ASSERT_OK(-pthread_create(&t, NULL, release_and_adopt, NULL));
	for (unsigned int n = 0; n < 20000; n++)
		(void)*(volatile unsigned long *)(mem + n * 7 % 512 * WORDS);
	stop = true;
	ASSERT_OK(-pthread_join(t, NULL));
	end();
}

/* Then a fault takes longer, and nothing worse. */
TEST(program_closes_all_descriptors)
{
	begin();
	for (size_t p = 0; p < PAGES; p += 2)
		check_page(p);
	ASSERT_OK(close_range(3, ~0u, 0));
	for (unsigned int round = 2; round < 4; round++) {
		for (size_t p = 0; p < PAGES; p++) {
			check_page(p);
			write_page(p, round);
		}
	}
	end();
}

/* Somebody else's file under our number is never asked. */
TEST(number_is_taken)
{
	int fd;

	begin();
	ASSERT_OK(close_range(3, ~0u, 0));
	while ((fd = dup(2)) >= 0 && fd < 1030)
		;
	for (size_t p = 0; p < PAGES; p++) {
		check_page(p);
		write_page(p, 2);
	}
	ASSERT_OK(close_range(3, ~0u, 0));
	end();
}

/* The same of the store's file. */
TEST(store_without_its_descriptor)
{
	int fd;

	begin_with(NULL, QUIRE_OPEN_NO_ZSWAP);
	check_all();
	if (device_is_quick())
		ASSERT_EQ(stat_read(&store_of(q)->nr_here_opened), 1u);
	ASSERT_OK(close_range(3, ~0u, 0));
	check_all();
	if (device_is_quick())
		ASSERT_EQ(stat_read(&store_of(q)->nr_here_opened), 2u);
	ASSERT_OK(close_range(3, ~0u, 0));
	while ((fd = dup(2)) >= 0 && fd < 1030)
		;
	check_all();
	ASSERT_OK(close_range(3, ~0u, 0));
	check_all();
	end();
}

/* Not even its number is free: the fault thread reads. */
TEST(no_descriptor_for_the_store)
{
	struct rlimit before, limit;

	ASSERT_OK(getrlimit(RLIMIT_NOFILE, &before));
	limit = (struct rlimit){ 3, before.rlim_max };
	begin_with(NULL, QUIRE_OPEN_NO_ZSWAP);
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &limit));
	ASSERT_OK(close_range(3, ~0u, 0));
	check_all();
	if (device_is_quick())
		ASSERT_GT(stat_read(&store_of(q)->nr_here_refused), 0u);
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &before));
	end();
}

/* Who wonders why faults are slow finds it told. */
TEST(to_text)
{
	static char text[1 << 14];
	char little[8] = "";
	size_t len, again;

	begin_with(NULL, QUIRE_OPEN_NO_ZSWAP);
	check_all();
	ASSERT_OK(quire_to_text(q, text, sizeof(text), &len));
	ASSERT_EQ(strlen(text), len);
	ASSERT_NOT_NULL(strstr(text, "signal: faults "));
	ASSERT_NOT_NULL(strstr(text, "store: file "));
	ASSERT_NOT_NULL(strstr(text, "refused_here 0"));
	ASSERT_OK(quire_to_text(q, little, sizeof(little), &again));
	ASSERT_EQ(strlen(little), sizeof(little) - 1);
	ASSERT_TRUE(!memcmp(little, text, sizeof(little) - 1));
	ASSERT_OK(quire_to_text(q, NULL, 0, NULL));
	ASSERT_EQ(quire_to_text(NULL, text, sizeof(text), &len), -EINVAL);
	ASSERT_EQ(quire_to_text(q, NULL, 1, &len), -EINVAL);
	end();
}

TEST(two_trees)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	struct quire_group *small;
	struct quire *other;
	unsigned char *bytes;
	void *at;

	begin();
	opt.flags = QUIRE_FAULT_SIGNAL;
	ASSERT_OK(quire_open(&opt, &other));
	ASSERT_OK(quire_group_create(quire_root(other), "small", &small));
	ASSERT_OK(quire_write_u64(small, "memory.max", MIB));
	ASSERT_OK(quire_map(small, 2 * MIB, 0, &at));
	bytes = at;
	for (size_t i = 0; i < 2 * MIB; i += PAGE)
		bytes[i + i / PAGE % PAGE] = (unsigned char)(i / PAGE + 1);
	for (size_t i = 0; i < 2 * MIB; i += PAGE) {
		ASSERT_EQ(bytes[i + i / PAGE % PAGE], (unsigned char)(i / PAGE + 1));
		check_page(i / PAGE * 8 % PAGES);
	}
	quire_close(other);
	end();
}

/* The pages of a heap, and jemalloc's own, which its calls touch. */
TEST(heap)
{
	static unsigned char *block[4096];
	struct quire_heap *h;

	open_signal(NULL, 0);
	ASSERT_OK(quire_heap_create(g, 0, &h));
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < 4096; i++) {
			size_t size = 1 + i * 37 % 7000;

			if (block[i]) {
				ASSERT_EQ(block[i][size / 2], (unsigned char)i);
				quire_free(h, block[i]);
			}
			block[i] = quire_malloc(h, size);
			ASSERT_NOT_NULL(block[i]);
			memset(block[i], (int)i, size);
		}
	}
	for (size_t i = 0; i < 4096; i++)
		ASSERT_EQ(block[i][0], (unsigned char)i);
	quire_heap_destroy(h);
	quire_close(q);
}
