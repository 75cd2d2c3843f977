/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_full.c SIZE_MIB [compressible] - a program whose memory does not compress, or
 * very well, and whose disk gets full in the middle.
 *
 * Fills SIZE_MIB, says "ready", waits for a line, reads everything, says "read",
 * waits, changes everything, says "written", waits, reads it again.  Exit status 1 at
 * the first wrong word.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t *mem;
static size_t nr_words;
static uint64_t mask = UINT64_MAX;

static uint64_t word(size_t i, uint64_t round)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull + round * 0xd1342543de82ef95ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	return (x ^ x >> 27) & mask;
}

static void fill(uint64_t round)
{
	for (size_t i = 0; i < nr_words; i++)
		mem[i] = word(i, round);
}

static void check(uint64_t round)
{
	for (size_t i = 0; i < nr_words; i++) {
		if (mem[i] == word(i, round))
			continue;
		fprintf(stderr, "store_full: word %zu is wrong in round %llu\n", i,
			(unsigned long long)round);
		exit(1);
	}
}

static void say_and_wait(const char *what)
{
	char line[80];

	puts(what);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(3);
}

int main(int argc, char **argv)
{
	size_t bytes = strtoul(argc > 1 ? argv[1] : "32", NULL, 10) << 20;

	if (argc > 2)
		mask = 0xff;
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return 2;
	nr_words = bytes / sizeof(*mem);
	fill(1);
	say_and_wait("ready");
	check(1);
	say_and_wait("read");
	fill(2);
	say_and_wait("written");
	check(2);
	return 0;
}
