/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork.c - what a fork costs a program whose memory is half out, and the first touches
 * after it.
 *
 * fork MIB ROUNDS    MIB are filled, half of it is advised out (MADV_PAGEOUT: under
 *                    `quire run` it goes, else it stays), then in each round a child is
 *                    made; both touch pages of the half, the child writes to the other
 *
 * Prints one line of key=value: the share of pages that were out, and medians over the
 * rounds in microseconds of: the call in the parent; from the call to the child's first
 * instruction; the child's and the parent's first touch of a page that is out, and the
 * median of the next NR; the child's first write to a page that both have, and the next.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define PAGE ((size_t)4096)
#define NR 64u
#define STEP 7u /* pages between two touches: no neighbours */
#define MAX_ROUNDS 1000

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum figure {
	CALL,
	READY,
	CHILD_FIRST,
	CHILD_NEXT,
	PARENT_FIRST,
	PARENT_NEXT,
	WRITE_FIRST,
	WRITE_NEXT,
	NR_FIGURES
};

static const char *const name[] = { "call",	    "ready",	   "child_first", "child_next",
				    "parent_first", "parent_next", "write_first", "write_next" };

static char *data;
static size_t nr_pages;
static double figure[NR_FIGURES][MAX_ROUNDS];

/* The first page, and the median of others; a page holds its number, or it ends. */
static void touch(size_t page, int writes, double *first, double *next)
{
	double us[NR];

	for (unsigned n = 0; n <= NR; n++, page += STEP) {
		volatile size_t *word = (size_t *)(data + page * PAGE);
		double start = now_us();
		size_t got = *word;

		if (writes)
			*word = got;
		*(n ? &us[n - 1] : first) = now_us() - start;
		if (got != page)
			errx(1, "page %zu holds %zu", page, got);
	}
	*next = median(us, NR);
}

static size_t nr_out(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;
	size_t nr = 0;

	for (size_t n = 0; n < nr_pages; n++) {
		if (pread(fd, &entry, 8, (off_t)((uintptr_t)(data + n * PAGE) / PAGE * 8)) != 8)
			err(1, "pagemap");
		nr += !(entry >> 63);
	}
	close(fd);
	return nr;
}

static void child(int to, double start)
{
	double ready = now_us(), got[NR_FIGURES];

	got[READY] = ready - start;
	touch(NR * STEP * 2, 0, &got[CHILD_FIRST], &got[CHILD_NEXT]);
	touch(nr_pages / 2, 1, &got[WRITE_FIRST], &got[WRITE_NEXT]);
	if (write(to, got, sizeof(got)) != sizeof(got))
		_exit(1);
	_exit(0);
}

static void round_of(int n)
{
	double start, got[NR_FIGURES];
	int fd[2], status;
	pid_t pid;

	/* What the last round has touched goes out again. */
	madvise(data, nr_pages / 2 * PAGE, MADV_PAGEOUT);
	if (pipe(fd))
		err(1, "pipe");
	start = now_us();
	pid = fork();
	if (!pid)
		child(fd[1], start);
	figure[CALL][n] = now_us() - start;
	touch(0, 0, &figure[PARENT_FIRST][n], &figure[PARENT_NEXT][n]);
	if (pid < 0 || read(fd[0], got, sizeof(got)) != sizeof(got) ||
	    waitpid(pid, &status, 0) != pid || status)
		errx(1, "a child failed");
	figure[READY][n] = got[READY];
	for (int f = CHILD_FIRST; f < NR_FIGURES; f++)
		if (f != PARENT_FIRST && f != PARENT_NEXT)
			figure[f][n] = got[f];
	close(fd[0]);
	close(fd[1]);
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 2 ? strtoul(argv[1], NULL, 0) << 20 : 0;
	int rounds = argc > 2 ? atoi(argv[2]) : 0;
	size_t out;

	nr_pages = bytes / PAGE;
	if (nr_pages < 8 * NR * STEP || rounds < 1 || rounds > MAX_ROUNDS)
		errx(2, "usage: fork MIB ROUNDS");
	/* Twice as much, of which the upper half is never touched: more than the limit. */
	data = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		err(1, "mmap");
	madvise(data, 2 * bytes, MADV_NOHUGEPAGE); /* in both cases */
	srand(1);
	for (size_t n = 0; n < nr_pages; n++) {
		size_t *page = (size_t *)(data + n * PAGE);

		page[0] = n;
		for (size_t i = 1; i < PAGE / sizeof(*page) / 2; i++)
			page[i] = (size_t)rand();
	}
	madvise(data, nr_pages / 2 * PAGE, MADV_PAGEOUT);
	out = nr_out();
	for (int n = 0; n < rounds; n++)
		round_of(n);
	printf("out=%.3f", (double)out / (double)nr_pages);
	for (int f = 0; f < NR_FIGURES; f++)
		printf(" %s=%.1f", name[f], median(figure[f], (size_t)rounds));
	printf("\n");
	return 0;
}
