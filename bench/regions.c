/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions.c - what address space costs: large regions, and many.
 *
 * regions N MIB    N regions of MIB MiB each, by turns of two groups so that no two are
 *                  one; SOME pages anywhere in them are touched, put out and touched again
 *
 * Prints one line of key=value, microseconds: map and unmap of one region, a touch of a
 * page that is not there yet and of one that is out (medians), and putting out, for all
 * pages of one region that were touched, each page's share (mean).
 */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "measure.h"
#include "settle.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define SOME 1000

static char *page[SOME];

/* Pages of all regions, in no order. */
static void choose(void **region, size_t nr, size_t bytes)
{
	unsigned long x = 1;

	for (size_t i = 0; i < SOME; i++) {
		size_t at;

		x = x * 6364136223846793005ul + 1442695040888963407ul;
		at = (x >> 16) % (nr * (bytes / PAGE));
		page[i] = (char *)region[at / (bytes / PAGE)] + at % (bytes / PAGE) * PAGE;
	}
}

/* The median; a page chosen twice counts as it is. */
static double touch_all(unsigned long *wrong)
{
	double took[SOME];

	for (size_t i = 0; i < SOME; i++) {
		double since = now_us();

		*wrong += *(volatile char **)page[i] && *(char **)page[i] != page[i];
		*(char **)page[i] = page[i];
		took[i] = now_us() - since;
	}
	return median(took, SOME);
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
	size_t bytes = argc == 3 ? strtoull(argv[2], NULL, 10) * MIB : 0;
	void **region = calloc(nr + 1, sizeof(*region));
	double map, first, out, again, unmap;
	struct quire_group *g[2];
	unsigned long wrong = 0;
	struct quire *q;

	if (!nr || !bytes || !region)
		return fprintf(stderr, "see the head of bench/regions.c\n"), 2;
	check(quire_open(NULL, &q));
	check(quire_group_create(quire_root(q), "even", &g[0]));
	check(quire_group_create(quire_root(q), "odd", &g[1]));
	check(quire_start(q));
	settle(q);
	map = now_us();
	for (size_t i = 0; i < nr; i++)
		check(quire_map(g[i & 1], bytes, 0, &region[i]));
	map = (now_us() - map) / (double)nr;
	choose(region, nr, bytes);
	first = touch_all(&wrong);
	out = now_us();
	for (size_t i = 0; i < (nr < SOME ? nr : SOME); i++)
		check(quire_advise(q, nr < SOME ? region[i] : page[i], nr < SOME ? bytes : PAGE,
				   QUIRE_PAGEOUT));
	out = (now_us() - out) / SOME;
	again = touch_all(&wrong);
	unmap = now_us();
	for (size_t i = 0; i < nr; i++)
		check(quire_unmap(q, region[i], bytes));
	unmap = (now_us() - unmap) / (double)nr;
	if (wrong || quire_current(quire_root(q)) > 64 * MIB)
		errx(1, "%lu pages are wrong, %lu bytes left", wrong,
		     (unsigned long)quire_current(quire_root(q)));
	printf("regions=%zu bytes=%zu map=%.2f touch=%.2f out=%.2f again=%.2f unmap=%.2f\n", nr,
	       nr * bytes, map, first, out, again, unmap);
	free(region);
	return 0;
}
