/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h - memory whose every byte is known, for the programs of tests/host.
 *
 * A pool is one private anonymous mapping; a third of its pages cannot be
 * compressed, so that under quire run some are resident, some in the compressed
 * pool and some in the swap file.
 */
#ifndef TESTS_HOST_PROC_H
#define TESTS_HOST_PROC_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGE_WORDS (PAGE / sizeof(uint64_t))

struct pool {
	uint64_t *word;
	uint32_t *seed; /* of each page */
	size_t nr_pages;
};

/* What is being tried, in front of what is wrong with it. */
static char die_where[64];

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *fmt, ...)
{
	char text[300];
	va_list ap;
	int n;

	n = snprintf(text, sizeof(text), "%s", die_where);
	va_start(ap, fmt);
	n += vsnprintf(text + n, sizeof(text) - 1 - (size_t)n, fmt, ap);
	va_end(ap);
	text[n] = '\n';
	if (write(2, text, (size_t)n + 1) < 0)
		_exit(2);
	_exit(1);
}

static inline uint64_t pool_word(uint32_t seed, size_t page, size_t i)
{
	uint64_t x = (uint64_t)seed << 32 | (uint32_t)page;

	if (page % 3) /* compressible: four words again and again */
		return x * 0x9e3779b97f4a7c15 + i % 4;
	x += (i + 1) * 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static inline void pool_write(struct pool *p, size_t page, uint32_t seed)
{
	p->seed[page] = seed;
	for (size_t i = 0; i < PAGE_WORDS; i++)
		p->word[page * PAGE_WORDS + i] = pool_word(seed, page, i);
}

static inline void pool_make(struct pool *p, size_t mib, uint32_t seed)
{
	p->nr_pages = mib * 256;
	p->word = mmap(NULL, p->nr_pages * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p->seed = malloc(p->nr_pages * sizeof(*p->seed));
	if (p->word == MAP_FAILED || !p->seed)
		die("no memory for %zu MiB", mib);
	for (size_t n = 0; n < p->nr_pages; n++)
		pool_write(p, n, seed);
}

static inline void pool_check(const struct pool *p, size_t from, size_t to, size_t step)
{
	for (size_t n = from; n < to; n += step) {
		uint32_t seed = p->seed[n];

		for (size_t i = 0; i < PAGE_WORDS; i++) {
			uint64_t got = p->word[n * PAGE_WORDS + i], want = pool_word(seed, n, i);

			if (got != want)
				die("page %zu word %zu: 0x%llx, wanted 0x%llx", n, i,
				    (unsigned long long)got, (unsigned long long)want);
		}
	}
}

/* What a program does by the name of it; the last word of the command line. */
struct mode {
	const char *name;
	void (*fn)(void);
};

static inline int run_mode(const struct mode *mode, size_t nr, int argc, char **argv)
{
	for (size_t i = 0; i < nr && argc > 1; i++) {
		if (strcmp(argv[argc - 1], mode[i].name))
			continue;
		mode[i].fn();
		return 0;
	}
	die("which mode?");
}

#endif
