/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - what the device of a directory can do: the floor under every miss of a
 * program whose pages are in a file, whoever pages.
 *
 *   device DIR [SIZE_MIB]
 *
 * Reads a file there past the page cache (O_DIRECT): once in order, 1 MiB at a time, and
 * 4 KiB at random places by 1, 2, 4, 8 threads, each of which waits for one read at a time.
 * Prints one line of key=value: bytes_s; reads_s_N and the median us_N by N threads.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "measure.h"

#define MIB (1ul << 20)
#define MAX_THREADS 8u
#define READS 4000u /* by each thread */

static int fd;
static size_t size = 256 * MIB;
static double taken[MAX_THREADS * READS]; /* us */

static void *aligned(void)
{
	void *block = aligned_alloc(PAGE, MIB);

	if (!block)
		err(1, "no memory");
	return block;
}

static void make_file(const char *dir)
{
	uint64_t rnd = 1, *block = aligned();

	fd = open(dir, O_RDWR | O_TMPFILE | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0)
		err(1, "%s: no file past the page cache there", dir);
	for (size_t i = 0; i < MIB / 8; i++)
		block[i] = next(&rnd);
	for (size_t at = 0; at < size; at += MIB)
		if (pwrite(fd, block, MIB, (off_t)at) != (ssize_t)MIB)
			err(1, "%s: cannot write", dir);
	free(block);
}

static double in_order(void)
{
	double start = now_us();
	void *block = aligned();

	for (size_t at = 0; at < size; at += MIB)
		if (pread(fd, block, MIB, (off_t)at) != (ssize_t)MIB)
			err(1, "cannot read");
	free(block);
	return (double)size * 1e6 / (now_us() - start);
}

static void *read_at_random(void *arg)
{
	double *mine = arg;
	uint64_t rnd = (uintptr_t)arg;
	void *block = aligned();

	for (unsigned int i = 0; i < READS; i++) {
		double start = now_us();

		if (pread(fd, block, PAGE, (off_t)(next(&rnd) % (size / PAGE) * PAGE)) !=
		    (ssize_t)PAGE)
			err(1, "cannot read");
		mine[i] = now_us() - start;
	}
	free(block);
	return NULL;
}

static void at_random(unsigned int nr)
{
	pthread_t thread[MAX_THREADS];
	double start = now_us();

	for (unsigned int i = 0; i < nr; i++)
		if (pthread_create(&thread[i], NULL, read_at_random, taken + i * READS))
			errx(1, "cannot start a thread");
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(thread[i], NULL);
	printf(" reads_s_%u=%.0f", nr, nr * READS * 1e6 / (now_us() - start));
	printf(" us_%u=%.1f", nr, median(taken, nr * READS));
}

int main(int argc, char **argv)
{
	if (argc < 2 || argc > 3)
		errx(2, "usage: device DIR [SIZE_MIB]");
	if (argc == 3)
		size = strtoul(argv[2], NULL, 10) * MIB;
	if (!size)
		errx(2, "%s: no size in MiB", argv[2]);
	make_file(argv[1]);
	printf("bytes_s=%.0f", in_order());
	for (unsigned int nr = 1; nr <= MAX_THREADS; nr *= 2)
		at_random(nr);
	puts("");
	return 0;
}
