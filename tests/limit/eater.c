/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eater.c - a program that uses much memory and checks every byte of it.
 *
 *   eater --use SIZE [--rounds N] [--threads N] [--seed N] [--pattern P]...
 *
 * Half of SIZE is blocks of malloc, 24 bytes to 1 MiB, half is mappings of
 * 1 to 16 MiB.  Each thread owns a share.  Then, for each pattern in turn:
 *
 *   forward   every page, in order         backward  from the end
 *   random    pages at random              stride    every 17th page
 *   burst     16 pages in a row, anywhere  syscall   pages as buffers of pread
 *                                                    and pwrite of a file
 *   churn     a tenth freed and allocated again, filled anew
 *
 * A page that is visited has all its words compared with what must be there;
 * half of the visits change it.  What must be there is kept in memory that is no
 * heap (MAP_STACK).  Ends with one line; exit status 1 at the first wrong word.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
#define MAX_BLOCKS 65536
#define MAX_THREADS 16

struct block {
	unsigned char *at;
	uint64_t len;
	bool mapped;
};

struct eater {
	pthread_t thread;
	struct block *blocks;
	uint64_t nr_blocks, use;
	uint64_t *versions; /* of each page-sized piece of each block, block after block */
	uint64_t *first; /* index of a block's first piece */
	uint64_t nr_pieces, rnd, visits;
	int fd;
};

static struct eater eaters[MAX_THREADS];
static uint64_t use, rounds = 1, seed = 1;
static unsigned int nr_threads = 1;
static const char *const all_patterns[] = { "forward", "random",  "stride", "backward",
					    "burst",   "syscall", "churn" };
static const char *patterns[16];
static unsigned int nr_patterns;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t next(struct eater *e)
{
	return mix(e->rnd++);
}

_Noreturn static void die(const char *what)
{
	fprintf(stderr, "eater: %s: %s\n", what, strerror(errno));
	_exit(2);
}

/* Memory for the books: what must be there does not lie where it might be lost. */
static void *book(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
		       -1, 0);

	if (p == MAP_FAILED)
		die("books");
	return p;
}

/* Word w of a piece: half of the pieces compress well, some are one word. */
static uint64_t word_of(uint64_t version, uint64_t w)
{
	switch (version & 7) {
	case 0:
		return version;
	case 1:
	case 2:
	case 3:
		return w & 1 ? mix(version + w) & 0xffff : version;
	default:
		return mix(version + w * 0x10001);
	}
}

static uint64_t piece_len(const struct block *b, uint64_t piece)
{
	uint64_t left = b->len - piece * PAGE;

	return left < PAGE ? left : PAGE;
}

static void fill(const struct block *b, uint64_t piece, uint64_t version)
{
	uint64_t len = piece_len(b, piece), buf[PAGE / 8];

	for (uint64_t w = 0; w < PAGE / 8; w++)
		buf[w] = word_of(version, w);
	memcpy(b->at + piece * PAGE, buf, len);
}

static void check(const struct block *b, uint64_t piece, uint64_t version)
{
	const unsigned char *at = b->at + piece * PAGE;
	uint64_t len = piece_len(b, piece), buf[PAGE / 8];

	for (uint64_t w = 0; w < PAGE / 8; w++)
		buf[w] = word_of(version, w);
	if (!memcmp(at, buf, len))
		return;
	for (uint64_t i = 0; i < len; i++) {
		unsigned char expected = ((unsigned char *)buf)[i];

		if (at[i] == expected)
			continue;
		fprintf(stderr,
			"eater: WRONG at %p: found %#04x, expected %#04x (%s, byte %lu "
			"of a block of %lu)\n",
			(const void *)(at + i), at[i], expected, b->mapped ? "mmap" : "malloc",
			piece * PAGE + i, b->len);
		_exit(1);
	}
	fprintf(stderr, "eater: WRONG at %p, right when looked at again\n", (const void *)at);
	_exit(1);
}

/* Through the kernel: the page is written to a file, wiped, and read back. */
static void through_file(struct eater *e, const struct block *b, uint64_t piece)
{
	unsigned char *at = b->at + piece * PAGE;
	uint64_t len = piece_len(b, piece);

	if (pwrite(e->fd, at, len, 0) != (ssize_t)len)
		die("pwrite");
	memset(at, 0xee, len);
	if (pread(e->fd, at, len, 0) != (ssize_t)len)
		die("pread");
}

static void visit(struct eater *e, uint64_t index, bool file)
{
	uint64_t low = 0, high = e->nr_blocks - 1;
	struct block *b;

	while (low < high) { /* the block that has this piece */
		uint64_t middle = (low + high + 1) / 2;

		if (e->first[middle] <= index)
			low = middle;
		else
			high = middle - 1;
	}
	b = &e->blocks[low];
	check(b, index - e->first[low], e->versions[index]);
	if (file) {
		through_file(e, b, index - e->first[low]);
		check(b, index - e->first[low], e->versions[index]);
	} else if (next(e) & 1) {
		e->versions[index] = next(e);
		fill(b, index - e->first[low], e->versions[index]);
	}
	e->visits++;
}

static void allocate(struct eater *e, uint64_t i)
{
	struct block *b = &e->blocks[i];
	uint64_t nr = (b->len + PAGE - 1) / PAGE;

	if (b->mapped) {
		b->at = mmap(NULL, b->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
		if (b->at == MAP_FAILED)
			die("mmap");
	} else {
		b->at = malloc(b->len);
		if (!b->at)
			die("malloc");
	}
	for (uint64_t p = 0; p < nr; p++) {
		e->versions[e->first[i] + p] = next(e);
		fill(b, p, e->versions[e->first[i] + p]);
	}
}

/* Sizes first, so that the books' size is known; then the memory. */
static void set_up(struct eater *e)
{
	uint64_t sum = 0;

	e->blocks = book(MAX_BLOCKS * sizeof(struct block));
	e->first = book(MAX_BLOCKS * sizeof(uint64_t));
	while (sum < e->use && e->nr_blocks < MAX_BLOCKS) {
		struct block *b = &e->blocks[e->nr_blocks];

		b->mapped = sum * 2 >= e->use;
		if (b->mapped)
			b->len = (1 + next(e) % 16) << 20;
		else /* 24 bytes to 1 MiB, large ones in most of the memory */
			b->len = 24 + next(e) % (24ul << next(e) % 16);
		if (b->len > e->use - sum)
			b->len = e->use - sum;
		e->first[e->nr_blocks++] = e->nr_pieces;
		e->nr_pieces += (b->len + PAGE - 1) / PAGE;
		sum += b->len;
	}
	e->versions = book(e->nr_pieces * sizeof(uint64_t));
	for (uint64_t i = 0; i < e->nr_blocks; i++)
		allocate(e, i);
}

static void churn(struct eater *e)
{
	for (uint64_t n = 0; n < e->nr_blocks / 10 + 1; n++) {
		uint64_t i = next(e) % e->nr_blocks;
		struct block *b = &e->blocks[i];

		for (uint64_t p = 0; p * PAGE < b->len; p++)
			check(b, p, e->versions[e->first[i] + p]);
		if (b->mapped)
			munmap(b->at, b->len);
		else
			free(b->at);
		allocate(e, i);
		e->visits += (b->len + PAGE - 1) / PAGE;
	}
}

static void run_pattern(struct eater *e, const char *pattern)
{
	uint64_t nr = e->nr_pieces, base = 0;
	bool file = !strcmp(pattern, "syscall");

	if (!strcmp(pattern, "churn")) {
		churn(e);
		return;
	}
	/* every page once; of the other patterns a quarter of the visits */
	for (uint64_t i = 0; i < (strcmp(pattern, "forward") ? nr / 4 : nr); i++) {
		uint64_t at;

		if (!strcmp(pattern, "forward"))
			at = i;
		else if (!strcmp(pattern, "backward"))
			at = nr - 1 - i;
		else if (!strcmp(pattern, "stride"))
			at = i * 17 % nr + i * 17 / nr % 17;
		else if (!strcmp(pattern, "burst"))
			at = (base = i % 16 ? base : next(e) % nr) + i % 16;
		else
			at = next(e) % nr;
		visit(e, at % nr, file);
		if (file)
			i += 3; /* dear: a quarter of the pages */
	}
}

static void *eater_main(void *arg)
{
	struct eater *e = arg;

	set_up(e);
	for (uint64_t r = 0; r < rounds; r++) {
		for (unsigned int p = 0; p < nr_patterns; p++)
			run_pattern(e, patterns[p]);
	}
	for (uint64_t i = 0; i < e->nr_blocks; i++) {
		for (uint64_t p = 0; p * PAGE < e->blocks[i].len; p++)
			check(&e->blocks[i], p, e->versions[e->first[i] + p]);
	}
	return NULL;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	return *end == 'G' ? v << 30 : *end == 'M' ? v << 20 : *end == 'K' ? v << 10 : v;
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "use", 1, 0, 'u' },	  { "rounds", 1, 0, 'r' }, { "threads", 1, 0, 't' },
		{ "pattern", 1, 0, 'p' }, { "seed", 1, 0, 's' },   { 0, 0, 0, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'u':
			use = parse_size(optarg);
			break;
		case 'r':
			rounds = strtoull(optarg, NULL, 10);
			break;
		case 't':
			nr_threads = atoi(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'p':
			if (nr_patterns < 16)
				patterns[nr_patterns++] = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (use < 1 << 20 || nr_threads < 1 || nr_threads > MAX_THREADS) {
		fprintf(stderr, "usage: eater --use SIZE [--rounds N] [--threads N] [--seed N] "
				"[--pattern P]...\n");
		exit(2);
	}
	if (!nr_patterns) {
		nr_patterns = sizeof(all_patterns) / sizeof(*all_patterns);
		memcpy(patterns, all_patterns, sizeof(all_patterns));
	}
}

int main(int argc, char **argv)
{
	uint64_t visits = 0, blocks = 0;

	options(argc, argv);
	for (unsigned int t = 0; t < nr_threads; t++) {
		struct eater *e = &eaters[t];
		const char *dir = getenv("TMPDIR");

		e->use = use / nr_threads;
		e->rnd = mix(seed * 100 + t);
		e->fd = open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (e->fd < 0)
			die("scratch file");
		errno = pthread_create(&e->thread, NULL, eater_main, e);
		if (errno)
			die("thread");
	}
	for (unsigned int t = 0; t < nr_threads; t++) {
		pthread_join(eaters[t].thread, NULL);
		visits += eaters[t].visits;
		blocks += eaters[t].nr_blocks;
	}
	printf("eater: %lu blocks, %lu MiB, %lu pages visited, 0 wrong bytes\n", blocks, use >> 20,
	       visits);
	return 0;
}
