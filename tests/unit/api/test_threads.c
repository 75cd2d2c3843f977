/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_threads.c - many threads, cancelled threads and signals in a group that is
 * smaller than its memory; afterwards nothing is charged.
 * paging
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/open_real.h"

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define WORDS (PAGE / sizeof(unsigned long))
#define LIMIT (8 * MIB)
#define BYTES (16 * MIB)
#define PAGES (BYTES / PAGE)
#define THREADS 64

static struct quire *q;
static struct quire_group *g;
static unsigned long *mem;
/* Beside mem; written by the page's owner, or by nobody any more. */
static unsigned int seed[PAGES];

static unsigned long word_of(size_t page, size_t i)
{
	unsigned long x = (page << 20) + ((unsigned long)seed[page] << 10) + i + 1;

	return page % 3 ? x / 8 : (x ^ x >> 7) * 0x9e3779b97f4a7c15ul;
}

static void write_page(size_t page, unsigned int new_seed)
{
	seed[page] = new_seed;
	for (size_t i = 0; i < WORDS; i++)
		mem[page * WORDS + i] = word_of(page, i);
}

static void check_page(size_t page)
{
	for (size_t i = 0; i < WORDS; i++)
		if (mem[page * WORDS + i] != word_of(page, i))
			FAIL("page %zu word %zu: 0x%lx", page, i, mem[page * WORDS + i]);
}

static void begin(void)
{
	void *at;

	q = open_real();
	ASSERT_OK(quire_group_create(quire_root(q), "threads", &g));
	ASSERT_OK(quire_write_u64(g, "memory.max", LIMIT));
	ASSERT_OK(quire_map(g, BYTES, 0, &at));
	mem = at;
	for (size_t p = 0; p < PAGES; p++)
		write_page(p, 1);
}

static uint64_t usage(void)
{
	return quire_current(g) + quire_swap_current(g) + quire_zswap_current(g);
}

/* What engine threads have bought ahead goes back within a second or two. */
static void expect_nothing_charged(void)
{
	for (int i = 0; i < 300 && usage(); i++)
		usleep(10000);
	ASSERT_EQ(quire_current(g), 0);
	ASSERT_EQ(quire_swap_current(g), 0);
	ASSERT_EQ(quire_zswap_current(g), 0);
}

static void end(void)
{
	uint64_t out = 0, clean = 0;

	for (size_t p = 0; p < PAGES; p++)
		check_page(p);
	ASSERT_OK(quire_read_key(g, "memory.stat", "zswpout", &out));
	ASSERT_OK(quire_read_key(g, "memory.stat", "swpout_clean", &clean));
	ASSERT_GT(out + clean, PAGES);
	ASSERT_OK(quire_unmap(q, mem, BYTES));
	expect_nothing_charged();
	ASSERT_OK(quire_group_remove(g));
	quire_close(q);
}

static void join_all(pthread_t *t, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		ASSERT_OK(-pthread_join(t[i], NULL));
}

static void *same_and_own(void *arg)
{
	size_t me = (size_t)arg;

	for (unsigned int round = 0; round < 2; round++) {
		for (size_t p = 0; p < PAGES; p += 32)
			check_page(p);
		for (size_t p = me; p < PAGES; p += THREADS)
			if (p % 32)
				write_page(p, round * THREADS + (unsigned int)me);
		for (size_t p = me; p < PAGES; p += THREADS)
			check_page(p);
	}
	return NULL;
}

TEST(sixty_four_threads)
{
	pthread_t t[THREADS];

	begin();
	for (size_t i = 0; i < THREADS; i++)
		ASSERT_OK(-pthread_create(&t[i], NULL, same_and_own, (void *)i));
	join_all(t, THREADS);
	ASSERT_LE(quire_current(g), LIMIT + MIB);
	end();
}

/* One map, one page, one unmap each. */
static void *short_life(void *arg)
{
	size_t page = (size_t)arg % PAGES;
	void *own;

	if (quire_map(g, 4 * PAGE, 0, &own))
		FAIL("%s", quire_why());
	memset(own, (int)page, 4 * PAGE);
	check_page(page);
	if (((unsigned char *)own)[3 * PAGE] != (unsigned char)page)
		FAIL("own memory changed");
	if (quire_unmap(q, own, 4 * PAGE))
		FAIL("%s", quire_why());
	return NULL;
}

TEST(short_lived_threads)
{
	begin();
	for (size_t n = 0; n < 2000; n += 8) {
		pthread_t t[8];

		for (size_t i = 0; i < 8; i++)
			ASSERT_OK(
				-pthread_create(&t[i], NULL, short_life, (void *)((n + i) * 7919)));
		join_all(t, 8);
	}
	end();
}

static atomic_uint nr_calls;

static void *call_until_cancelled(void *arg)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	for (size_t n = (size_t)arg;; n += 13) {
		if (n % 8 == 0)
			check_page(n % PAGES);
		atomic_fetch_add(&nr_calls, 1);
		if (quire_advise(q, mem + n % PAGES * WORDS, PAGE, QUIRE_WILLNEED))
			FAIL("%s", quire_why());
	}
	return NULL;
}

/* More than there is room for calls in flight. */
TEST(cancelled_in_calls)
{
	begin();
	for (size_t n = 0; n < 60; n++) {
		pthread_t t[4];
		void *res;

		for (size_t i = 0; i < 4; i++)
			ASSERT_OK(-pthread_create(&t[i], NULL, call_until_cancelled,
						  (void *)(n + i)));
		usleep(500 + (unsigned int)n * 20);
		for (size_t i = 0; i < 4; i++) {
			ASSERT_OK(-pthread_cancel(t[i]));
			ASSERT_OK(-pthread_join(t[i], &res));
			ASSERT_TRUE(res == PTHREAD_CANCELED);
		}
	}
	ASSERT_GT(nr_calls, 240);
	end();
}

static sigjmp_buf back;
static volatile sig_atomic_t in_call, nr_jumps, nr_signals;

static void on_alarm(int sig)
{
	nr_signals++;
	check_page((size_t)nr_signals * 1021 % PAGES);
	if (!in_call)
		return;
	in_call = 0;
	nr_jumps++;
	siglongjmp(back, sig);
}

/* Handlers fault, and jump out of what they interrupted. */
TEST(jumps_out_of_calls)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct itimerval timer = { { 0, 500 }, { 0, 500 } }, none = { { 0, 0 }, { 0, 0 } };
	volatile size_t n = 0;

	begin();
	ASSERT_OK(sigaction(SIGALRM, &act, NULL));
	ASSERT_OK(setitimer(ITIMER_REAL, &timer, NULL));
	sigsetjmp(back, 1);
	while (nr_jumps < 100) {
		n++;
		in_call = 1;
		if (quire_advise(q, mem + n * 31 % PAGES * WORDS, PAGE, QUIRE_WILLNEED))
			FAIL("%s", quire_why());
		in_call = 0;
		check_page(n * 17 % PAGES);
	}
	ASSERT_OK(setitimer(ITIMER_REAL, &none, NULL));
	end();
}
