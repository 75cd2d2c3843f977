/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging.c - one workload over one buffer, every access timed and verified.
 *
 *   paging --data SIZE [--work W] [--kind K] [--seconds S] [--threads N] [--seed N]
 *   paging-lib [the same] --max SIZE [--signal] [--store] [--text]
 *
 * An ordinary program: one anonymous mapping, no word of quire.  The bench
 * script runs it in a kernel memory group and under `quire run`.  paging-lib is
 * the same with its buffer in a group of libquire: see buffer.h.
 *
 * W  read     uniform random pages, read
 *    write    the same, every second access stores (50 % write)
 *    zipf     read, pages by a Zipf law, exponent 0.99, hot pages scattered
 *    scan     read, page after page, round and round
 *    stride   read, every 16th page, each round one page further
 *    chase    read, where to go next is in what was read: one cycle through all
 *             pages, at random, always the same
 *    phase    read, 15 of 16 accesses within one eighth of the pages, at random;
 *             when each of these was met four times on average, it is another
 *    record   read, the 16 pages of a random record of 64 KiB, in order
 *    fill     nothing after the first filling of the buffer
 * K  heap, text, random: see data.h
 *
 * An operation is an access to one page.  Each page holds a stamp that depends on
 * the page, the seed and how often the page was stored to; an access computes the
 * stamp that must be there and ends the program if another is found.  What must be
 * there is kept outside the buffer, 1 byte a page.
 *
 * Prints one line of key=value.  ops_all counts those before the clock started, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "buffer.h"
#include "data.h"
#include "latency.h"

#define MAX_THREADS 16
#define STRIDE 16ul /* pages */
#define RECORD 16ul
#define PHASES 8ul

enum work {
	WORK_READ,
	WORK_WRITE,
	WORK_ZIPF,
	WORK_SCAN,
	WORK_STRIDE,
	WORK_CHASE,
	WORK_PHASE,
	WORK_RECORD,
	WORK_FILL,
	NR_WORKS
};
static const char *const work_names[] = { "read",  "write", "zipf",   "scan", "stride",
					  "chase", "phase", "record", "fill" };

struct worker {
	pthread_t thread;
	unsigned int index;
	uint64_t rnd;
	uint64_t page, step, zero; /* the last access; how many there were; see access_page() */
	struct histogram times;
};

/* static data: never in the buffer's mapping, never managed */
static uint64_t templates[NR_TEMPLATES][WORDS];
static struct worker workers[MAX_THREADS];
static struct histogram total;

static uint64_t *buffer;
static uint8_t *versions; /* of the stamp of each page */
static struct buffer_options buffer_options;
static uint64_t nr_pages, seed = 1, ops_before;
static unsigned int nr_threads = 1;
static enum work work = WORK_READ;
static enum kind kind = KIND_HEAP;
static double seconds = 5;
static volatile bool stop;
/* Zipf by inversion (Gray et al., "Quickly generating billion-record databases") */
static double zipf_alpha, zipf_zeta, zipf_eta;
#define ZIPF_THETA 0.99

/* ---- data ----------------------------------------------------------------- */

/* Where in its page the stamp lies, and what it must be. */
static uint64_t *stamp_at(uint64_t page)
{
	return buffer + page * WORDS + mix(page ^ seed << 32) % WORDS;
}

static uint64_t stamp_of(uint64_t page, uint8_t version)
{
	return mix(page * 256 + version + (seed << 48));
}

_Noreturn static void wrong(uint64_t page, uint64_t found, uint64_t expected)
{
	fprintf(stderr, "paging: page %lu at %p: found %016lx, expected %016lx (version %u)\n",
		page, (void *)stamp_at(page), found, expected, versions[page]);
	_exit(1);
}

/* ---- work ----------------------------------------------------------------- */

/* Threads store to pages of their own: page % nr_threads is the writer. */
static void access_page(struct worker *w, uint64_t page, bool store)
{
	uint64_t *at = stamp_at(page);
	uint64_t expected = stamp_of(page, versions[page]), found, t;
	uint64_t fresh = stamp_of(page, versions[page] + 1);

	t = time_before();
	found = *(volatile uint64_t *)at;
	if (store)
		*(volatile uint64_t *)at = fresh;
	t = time_after() - t;
	if (found != expected)
		wrong(page, found, expected);
	if (store)
		versions[page]++;
	histogram_add(&w->times, t);
	w->zero = found ^ expected; /* which only who has read the page can know */
}

static void fill_page(struct worker *w, uint64_t page)
{
	uint64_t *at = buffer + page * WORDS, t;
	const uint64_t *from = templates[mix(page + seed) % NR_TEMPLATES];
	uint64_t salt = mix(page);

	t = time_before();
	memcpy(at, from, PAGE);
	/* no two pages are the same */
	at[3] ^= salt & 0xffff;
	at[250] ^= salt >> 16 & 0xffff;
	*stamp_at(page) = stamp_of(page, 0);
	t = time_after() - t;
	histogram_add(&w->times, t);
}

static void zipf_init(void)
{
	double zeta2 = 1 + pow(0.5, ZIPF_THETA);

	zipf_zeta = 0;
	for (uint64_t i = 1; i <= nr_pages; i++)
		zipf_zeta += pow(i, -ZIPF_THETA);
	zipf_alpha = 1 / (1 - ZIPF_THETA);
	zipf_eta = (1 - pow(2.0 / nr_pages, 1 - ZIPF_THETA)) / (1 - zeta2 / zipf_zeta);
}

static uint64_t zipf_rank(uint64_t *rnd)
{
	double u = (next(rnd) >> 11) * 0x1p-53, uz = u * zipf_zeta;
	uint64_t rank;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, ZIPF_THETA))
		return 1;
	rank = nr_pages * pow(zipf_eta * u - zipf_eta + 1, zipf_alpha);
	return rank < nr_pages ? rank : nr_pages - 1;
}

/* Ranks are scattered over the buffer; a bijection, as the stride is odd and
 * nr_pages a power of two, or else by stepping past the end. */
static uint64_t scatter(uint64_t rank)
{
	uint64_t size = 1;

	while (size < nr_pages)
		size <<= 1;
	do
		rank = (rank * 0x9e3779b1ull + 0x7f4a7c15ull) & (size - 1);
	while (rank >= nr_pages);
	return rank;
}

static uint64_t pick_random(struct worker *w)
{
	return next(&w->rnd) % nr_pages;
}

/* With stores, a page belongs to one thread. */
static uint64_t pick_own(struct worker *w)
{
	uint64_t page = pick_random(w) / nr_threads * nr_threads + w->index;

	return page < nr_pages ? page : w->index;
}

static uint64_t pick_zipf(struct worker *w)
{
	return scatter(zipf_rank(&w->rnd));
}

static uint64_t pick_next(struct worker *w)
{
	return w->page + 1 < nr_pages ? w->page + 1 : 0;
}

static uint64_t pick_stride(struct worker *w)
{
	return w->page + STRIDE < nr_pages ? w->page + STRIDE : (w->page + 1) % STRIDE;
}

static uint64_t pick_pointer(struct worker *w)
{
	return scatter(w->page ^ w->zero);
}

static uint64_t pick_hot(struct worker *w)
{
	uint64_t hot = nr_pages / PHASES, phase = w->step / (4 * hot / nr_threads);

	if (next(&w->rnd) % 16 == 0)
		return pick_random(w);
	return phase % PHASES * hot + next(&w->rnd) % hot;
}

static uint64_t pick_record(struct worker *w)
{
	if (w->step % RECORD)
		return w->page + 1;
	return next(&w->rnd) % (nr_pages / RECORD) * RECORD;
}

static uint64_t (*const pick_page[])(struct worker *) = {
	[WORK_READ] = pick_random, [WORK_WRITE] = pick_own,	[WORK_ZIPF] = pick_zipf,
	[WORK_SCAN] = pick_next,   [WORK_STRIDE] = pick_stride, [WORK_CHASE] = pick_pointer,
	[WORK_PHASE] = pick_hot,   [WORK_RECORD] = pick_record,
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	while (!stop) {
		/* the clock is looked at once in 64 accesses */
		for (unsigned int i = 0; i < 64; i++) {
			w->page = pick_page[work](w);
			w->step++;
			access_page(w, w->page, work == WORK_WRITE && (next(&w->rnd) & 1));
		}
	}
	return NULL;
}

/* Each a part of its own, one after another. */
static void *fill_main(void *arg)
{
	struct worker *w = arg;
	uint64_t end = nr_pages * (w->index + 1) / nr_threads;

	for (uint64_t p = nr_pages * w->index / nr_threads; p < end; p++)
		fill_page(w, p);
	return NULL;
}

/* Runs for a time, or to the end if that is 0; returns how long it was. */
static double run_workers(void *(*run)(void *), double length)
{
	double start = now();

	stop = false;
	for (unsigned int i = 0; i < nr_threads; i++) {
		memset(&workers[i].times, 0, sizeof(workers[i].times));
		workers[i].index = i;
		workers[i].rnd += mix(seed * 1000 + i);
		if (pthread_create(&workers[i].thread, NULL, run, &workers[i])) {
			perror("paging: thread");
			exit(1);
		}
	}
	usleep(length * 1e6);
	stop = true;
	for (unsigned int i = 0; i < nr_threads; i++)
		pthread_join(workers[i].thread, NULL);
	return now() - start;
}

static void sum_up(void)
{
	memset(&total, 0, sizeof(total));
	for (unsigned int i = 0; i < nr_threads; i++)
		histogram_sum(&total, &workers[i].times);
}

static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru); /* all threads, quire's too */
	return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec +
	       (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

/* LZ4's word on a kind of data, page by page; 0 without liblz4. */
static double lz4_ratio(void)
{
	int (*compress)(const char *, char *, int, int);
	void *lib = dlopen("liblz4.so.1", RTLD_NOW);
	uint64_t out = 0;
	char room[8192];

	if (!lib)
		return 0;
	*(void **)&compress = dlsym(lib, "LZ4_compress_default");
	if (!compress)
		return 0;
	for (uint64_t t = 0; t < NR_TEMPLATES; t++) {
		int n = compress((char *)templates[t], room, PAGE, sizeof(room));

		out += n > 0 && n < (int)PAGE ? n : (int)PAGE;
	}
	return (double)NR_TEMPLATES * PAGE / out;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	switch (*end) {
	case 'G':
		v <<= 10; /* fall through */
	case 'M':
		v <<= 10; /* fall through */
	case 'K':
		return v << 10;
	default:
		return v;
	}
}

static int pick(const char *text, const char *const *names, int nr)
{
	for (int i = 0; i < nr; i++) {
		if (!strcmp(text, names[i]))
			return i;
	}
	fprintf(stderr, "paging: what is %s?\n", text);
	exit(2);
}

static void options(int argc, char **argv, bool *ret_ratio)
{
	static const struct option longs[] = {
		{ "data", 1, 0, 'd' },	  { "work", 1, 0, 'w' }, { "kind", 1, 0, 'k' },
		{ "seconds", 1, 0, 's' }, { "seed", 1, 0, 'S' }, { "threads", 1, 0, 't' },
		{ "ratio", 0, 0, 'r' },	  { "max", 1, 0, 'm' },	 { "signal", 0, 0, 'g' },
		{ "store", 0, 0, 'o' },	  { "text", 0, 0, 'x' }, { 0, 0, 0, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'd':
			nr_pages = parse_size(optarg) / PAGE;
			break;
		case 'w':
			work = pick(optarg, work_names, NR_WORKS);
			break;
		case 'k':
			kind = pick(optarg, kind_names, NR_KINDS);
			break;
		case 's':
			seconds = atof(optarg);
			break;
		case 'S':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 't':
			nr_threads = atoi(optarg);
			break;
		case 'r':
			*ret_ratio = true;
			break;
		case 'm':
			buffer_options.max = parse_size(optarg);
			break;
		case 'g':
			buffer_options.signal = true;
			break;
		case 'o':
			buffer_options.store = true;
			break;
		case 'x':
			buffer_options.text = true;
			break;
		default:
			exit(2);
		}
	}
	if (nr_pages && nr_pages < 16 * MAX_THREADS) {
		fprintf(stderr, "paging: --data must be at least 1M\n");
		exit(2);
	}
	if ((!nr_pages && !*ret_ratio) || nr_threads < 1 || nr_threads > MAX_THREADS) {
		fprintf(stderr, "usage: paging --data SIZE [--work W] [--kind K] [--seconds S] "
				"[--threads N] [--seed N]\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	double mhz, wall, cpu;
	bool ratio = false;

	options(argc, argv, &ratio);
	make_templates(templates, kind, seed);
	if (ratio) {
		printf("kind=%s lz4_ratio=%.2f\n", kind_names[kind], lz4_ratio());
		return 0;
	}
	mhz = cycles_per_us();
	/* MAP_STACK: not a heap, so no pager of user space takes it */
	versions = map_anonymous(nr_pages, MAP_STACK);
	memset(versions, 0, nr_pages);
	buffer = buffer_map(&buffer_options, nr_pages * PAGE);
	if (work == WORK_ZIPF)
		zipf_init();

	cpu = cpu_seconds();
	wall = run_workers(fill_main, 0);
	if (work != WORK_FILL) {
		for (unsigned int i = 0; i < nr_threads; i++)
			workers[i].page = nr_pages / nr_threads * i;
		run_workers(worker_main, seconds / 4); /* warm: the right pages are in */
		sum_up();
		ops_before = total.ops;
		cpu = cpu_seconds();
		wall = run_workers(worker_main, seconds);
	}
	cpu = cpu_seconds() - cpu;
	sum_up();
	printf("work=%s kind=%s ops=%lu ops_all=%lu ops_s=%.0f p50_us=%.2f p99_us=%.2f "
	       "p999_us=%.2f max_us=%.0f wall_s=%.3f cpu_s=%.3f resident=%lu",
	       work_names[work], kind_names[kind], total.ops, total.ops + ops_before,
	       total.ops / wall, percentile(&total, 0.50) / mhz, percentile(&total, 0.99) / mhz,
	       percentile(&total, 0.999) / mhz, total.max / mhz, wall, cpu, resident_bytes(false));
	buffer_report(&buffer_options);
	puts("");
	return 0;
}
