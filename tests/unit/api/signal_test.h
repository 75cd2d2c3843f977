/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signal_test.h - a tree in signal mode with memory that knows what it must hold.
 */
#ifndef QUIRE_TESTS_API_SIGNAL_TEST_H
#define QUIRE_TESTS_API_SIGNAL_TEST_H

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/open_real.h"

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define WORDS (PAGE / sizeof(unsigned long))
#define LIMIT (8 * MIB)
#define BYTES (16 * MIB)
#define PAGES (BYTES / PAGE)

static struct quire *q;
static struct quire_group *g;
static unsigned long *mem;
/* Beside mem; written by the page's owner. */
static unsigned int seed[PAGES];

/* Every third page does not compress. */
static inline unsigned long word_of(size_t page, size_t i)
{
	unsigned long x = (page << 20) + ((unsigned long)seed[page] << 10) + i + 1;

	if (page % 3)
		return x / 8;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
	x = (x ^ x >> 27) * 0x94d049bb133111ebul;
	return x ^ x >> 31;
}

static inline void write_page(size_t page, unsigned int new_seed)
{
	seed[page] = new_seed;
	for (size_t i = 0; i < WORDS; i++)
		mem[page * WORDS + i] = word_of(page, i);
}

static inline bool page_is_right(size_t page)
{
	for (size_t i = 0; i < WORDS; i++)
		if (mem[page * WORDS + i] != word_of(page, i))
			return false;
	return true;
}

/* Also on threads of its own, where FAIL() may not be used. */
static inline void check_page(size_t page)
{
	if (page_is_right(page))
		return;
	fprintf(stderr, "page %zu is not what was written\n", page);
	_exit(1);
}

static inline void check_all(void)
{
	for (size_t p = 0; p < PAGES; p++)
		check_page(p);
}

static inline uint64_t key_of(const char *file, const char *key)
{
	uint64_t value = 0;

	ASSERT_OK(quire_read_key(g, file, key, &value));
	return value;
}

/* A tree in signal mode and a group with a limit. */
static inline void open_signal(const char *pager, unsigned int flags)
{
	struct quire_probe probe = { .size = sizeof(probe) };
	struct quire_options opt = QUIRE_OPTIONS_INIT;

	opt.flags = QUIRE_FAULT_SIGNAL | flags;
	opt.pager = pager;
	if (quire_probe(pager, &probe) < 0)
		SKIP("%s", quire_why());
	if (quire_open(&opt, &q) < 0)
		FAIL("%s", quire_why());
	ASSERT_OK(quire_group_create(quire_root(q), "signal", &g));
	ASSERT_OK(quire_write_u64(g, "memory.max", LIMIT));
}

/* Memory of twice the limit, written once: most of it is out. */
static inline void begin_with(const char *pager, unsigned int flags)
{
	void *at;

	open_signal(pager, flags);
	ASSERT_OK(quire_map(g, BYTES, 0, &at));
	mem = at;
	for (size_t p = 0; p < PAGES; p++)
		write_page(p, 1);
}

static inline void begin(void)
{
	begin_with(NULL, 0);
}

/* Everything is as it was written, and nothing stays charged. */
static inline void end(void)
{
	check_all();
	ASSERT_GT(key_of("memory.stat", "pgmajfault"), 0u);
	ASSERT_OK(quire_unmap(q, mem, BYTES));
	mem = NULL;
	for (int i = 0; i < 300 && quire_current(g) + quire_swap_current(g); i++)
		usleep(10000);
	ASSERT_EQ(quire_current(g), 0);
	ASSERT_EQ(quire_swap_current(g), 0);
	ASSERT_OK(quire_group_remove(g));
	quire_close(q);
}

/* Out with pages [first, first + nr), or as many of them as can go. */
static inline void page_out(size_t first, size_t nr)
{
	ASSERT_OK(quire_advise(q, mem + first * WORDS, nr * PAGE, QUIRE_PAGEOUT));
}

#endif
