/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data.h - what the benchmarks fill pages with, and the numbers behind it.
 *
 * heap     objects with pointers, counters, hashes: about 1.7:1
 * text     records of words: about 3:1
 * random   incompressible
 * (ratios: LZ4, page by page; measured by `paging --ratio` where liblz4 is)
 */
#ifndef QUIRE_BENCH_DATA_H
#define QUIRE_BENCH_DATA_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PAGE 4096ul
#define WORDS (PAGE / 8)
#define NR_TEMPLATES 512ul

enum kind { KIND_HEAP, KIND_TEXT, KIND_RANDOM, NR_KINDS };
static const char *const kind_names[] = { "heap", "text", "random" };

static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t next(uint64_t *state)
{
	return mix((*state)++);
}

/* Objects as an interpreter's heap has them: 48 bytes each. */
static inline void make_heap(uint64_t *page, uint64_t *rnd)
{
	static const char *const names[] = { "key", "value", "name", "count", "index", "self" };
	unsigned char *at = (unsigned char *)page;

	while (at + 48 <= (unsigned char *)page + PAGE) {
		uint64_t r = next(rnd), w[6];

		w[0] = 1 + (r & 3); /* references */
		w[1] = 0x00007f2a5c000000ull + (r >> 8 & 15) * 416; /* type */
		w[2] = 4 + (r >> 16 & 31); /* length */
		w[3] = (r & 0x300000) ? next(rnd) : UINT64_MAX; /* hash, mostly there */
		w[4] = 0x00007f2a40000000ull + (next(rnd) & 0x3fffff0); /* pointer */
		w[5] = 0;
		if (r & 0x400000)
			memcpy(&w[5], names[(r >> 24) % 6], strlen(names[(r >> 24) % 6]));
		else
			w[5] = next(rnd) & 0xffffff;
		memcpy(at, w, 48);
		at += 48;
	}
	memset(at, 0, (unsigned char *)page + PAGE - at);
}

/* Records of a log: the same keys, growing time, words of a small language. */
static inline void make_text(uint64_t *page, uint64_t *rnd)
{
	static const char *const words[] = {
		"memory of the group",	"limit reached", "page is shared",   "library of tools",
		"development files",	"documentation", "and common",	     "for the interface",
		"no such file",		"reclaim",	 "swapped out",	     "compressed",
		"written back to disk", "fault",	 "waits for a lock", "done",
	};
	char *at = (char *)page, *end = at + PAGE;
	unsigned int time = 1700000000u + (next(rnd) & 0xffffff);

	while (at < end) {
		char line[192];
		uint64_t r = next(rnd);
		int n;

		time += r & 15;
		n = snprintf(line, sizeof(line), "time=%u level=%s id=%05u msg=\"%s, %s\"\n", time,
			     r & 0x70 ? "info" : "warning", (unsigned int)(r >> 20 & 0xffff),
			     words[r >> 36 & 15], words[r >> 40 & 15]);
		if (n > end - at)
			n = end - at;
		memcpy(at, line, n);
		at += n;
	}
}

static inline void make_templates(uint64_t (*templates)[WORDS], enum kind kind, uint64_t seed)
{
	uint64_t rnd = mix(seed);

	for (uint64_t t = 0; t < NR_TEMPLATES; t++) {
		if (kind == KIND_HEAP)
			make_heap(templates[t], &rnd);
		else if (kind == KIND_TEXT)
			make_text(templates[t], &rnd);
		else
			for (uint64_t w = 0; w < WORDS; w++)
				templates[t][w] = next(&rnd);
	}
}

#endif
