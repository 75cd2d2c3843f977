/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging.c - one workload over one buffer, every access timed and verified.
 *
 *   paging --data SIZE [--work W] [--kind K] [--seconds S] [--threads N] [--seed N]
 *
 * An ordinary program: one anonymous mapping, no word of quire.  The bench
 * script runs it in a kernel memory group and under `quire run`.
 *
 * W  read     uniform random pages, read
 *    write    the same, every second access stores (50 % write)
 *    zipf     read, pages by a Zipf law, exponent 0.99, hot pages scattered
 *    scan     read, page after page, round and round
 *    fill     nothing after the first filling of the buffer
 * K  heap, text, random: see data.h
 *
 * Each page holds a stamp that depends on the page, the seed and how often the
 * page was stored to; an access computes the stamp that must be there and ends
 * the program if another is found.  What must be there is kept outside the
 * buffer, 1 byte a page.  Time: rdtsc between fences for each access alone.
 *
 * Prints one line of key=value.
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
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "data.h"

#define MAX_THREADS 16
/* log-linear histogram: 16 steps for each power of two of cycles */
#define STEPS 16
#define BUCKETS (64 * STEPS)

enum work { WORK_READ, WORK_WRITE, WORK_ZIPF, WORK_SCAN, WORK_FILL, NR_WORKS };
static const char *const work_names[] = { "read", "write", "zipf", "scan", "fill" };

struct worker {
	pthread_t thread;
	unsigned int index;
	uint64_t rnd;
	uint64_t ops, hist[BUCKETS], max;
};

/* static data: never in the buffer's mapping, never managed */
static uint64_t templates[NR_TEMPLATES][WORDS];
static struct worker workers[MAX_THREADS];
static struct histogram {
	uint64_t hist[BUCKETS], ops, max;
} total;

static uint64_t *buffer;
static uint8_t *versions; /* of the stamp of each page */
static uint64_t nr_pages, seed = 1;
static unsigned int nr_threads = 1;
static enum work work = WORK_READ;
static enum kind kind = KIND_HEAP;
static double seconds = 5;
static volatile bool stop;
/* Zipf by inversion (Gray et al., "Quickly generating billion-record databases") */
static double zipf_alpha, zipf_zeta, zipf_eta;
#define ZIPF_THETA 0.99

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

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

/* ---- time ----------------------------------------------------------------- */

static uint64_t time_before(void)
{
	_mm_mfence();
	_mm_lfence();
	return __rdtsc();
}

static uint64_t time_after(void)
{
	unsigned int cpu;
	uint64_t t = __rdtscp(&cpu);

	_mm_lfence();
	return t;
}

static double cycles_per_us(void)
{
	double t = now();
	uint64_t c = time_before();

	usleep(100000);
	return (time_after() - c) / ((now() - t) * 1e6);
}

static unsigned int bucket_of(uint64_t v)
{
	unsigned int log = v < STEPS ? 0 : 63 - __builtin_clzll(v) - 3;

	return v < STEPS ? v : log * STEPS + (v >> (log - 1)) % STEPS;
}

/* The middle of a bucket. */
static double bucket_value(unsigned int b)
{
	unsigned int log = b / STEPS;

	return log == 0 ? b : ldexp(STEPS + b % STEPS + 0.5, log - 1);
}

static double percentile(const struct histogram *h, double share)
{
	uint64_t want = ceil(h->ops * share), sum = 0;

	for (unsigned int b = 0; b < BUCKETS; b++) {
		sum += h->hist[b];
		if (sum >= want && sum)
			return bucket_value(b);
	}
	return h->max;
}

/* ---- work ----------------------------------------------------------------- */

static void record(struct worker *w, uint64_t cycles)
{
	w->ops++;
	w->hist[bucket_of(cycles)]++;
	if (cycles > w->max)
		w->max = cycles;
}

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
	record(w, t);
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
	record(w, t);
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

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	uint64_t page = nr_pages / nr_threads * w->index;

	while (!stop) {
		/* the clock is looked at once in 64 accesses */
		for (unsigned int i = 0; i < 64; i++) {
			bool store = false;

			if (work == WORK_SCAN) {
				page = page + 1 < nr_pages ? page + 1 : 0;
			} else if (work == WORK_ZIPF) {
				page = scatter(zipf_rank(&w->rnd));
			} else {
				page = next(&w->rnd) % nr_pages;
				/* with stores, a page belongs to one thread */
				if (work == WORK_WRITE && nr_threads > 1)
					page = page / nr_threads * nr_threads + w->index;
				page = page < nr_pages ? page : w->index;
				store = work == WORK_WRITE && (next(&w->rnd) & 1);
			}
			access_page(w, page, store);
		}
	}
	return NULL;
}

/* Runs for a time, returns how long it was. */
static double run_workers(double length)
{
	double start = now();

	stop = false;
	for (unsigned int i = 0; i < nr_threads; i++) {
		memset(workers[i].hist, 0, sizeof(workers[i].hist));
		workers[i].ops = workers[i].max = 0;
		workers[i].index = i;
		workers[i].rnd += mix(seed * 1000 + i);
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i])) {
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
	for (unsigned int i = 0; i < nr_threads; i++) {
		total.ops += workers[i].ops;
		if (workers[i].max > total.max)
			total.max = workers[i].max;
		for (unsigned int b = 0; b < BUCKETS; b++)
			total.hist[b] += workers[i].hist[b];
	}
}

static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru); /* all threads, quire's too */
	return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec +
	       (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static unsigned long resident_bytes(void)
{
	unsigned long resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%*u %lu", &resident) != 1)
		resident = 0;
	if (f)
		fclose(f);
	return resident * sysconf(_SC_PAGESIZE);
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
		{ "ratio", 0, 0, 'r' },	  { 0, 0, 0, 0 },
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
		default:
			exit(2);
		}
	}
	if ((!nr_pages && !*ret_ratio) || nr_threads < 1 || nr_threads > MAX_THREADS) {
		fprintf(stderr, "usage: paging --data SIZE [--work W] [--kind K] [--seconds S] "
				"[--threads N] [--seed N]\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	double mhz, wall, cpu, fill_start;
	bool ratio = false;

	options(argc, argv, &ratio);
	make_templates(templates, kind, seed);
	if (ratio) {
		printf("kind=%s lz4_ratio=%.2f\n", kind_names[kind], lz4_ratio());
		return 0;
	}
	mhz = cycles_per_us();
	buffer = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	/* MAP_STACK: not a heap, so no pager of user space takes it */
	versions = mmap(NULL, nr_pages, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (buffer == MAP_FAILED || versions == MAP_FAILED) {
		perror("paging: mmap");
		return 1;
	}
	if (work == WORK_ZIPF)
		zipf_init();

	cpu = cpu_seconds();
	fill_start = now();
	for (uint64_t p = 0; p < nr_pages; p++)
		fill_page(&workers[0], p);
	wall = now() - fill_start;
	if (work != WORK_FILL) {
		run_workers(seconds / 4); /* warm: the right pages are in */
		cpu = cpu_seconds();
		wall = run_workers(seconds);
	}
	cpu = cpu_seconds() - cpu;
	sum_up();
	printf("work=%s kind=%s ops=%lu ops_s=%.0f p50_us=%.2f p99_us=%.2f p999_us=%.2f "
	       "max_us=%.0f wall_s=%.3f cpu_s=%.3f resident=%lu\n",
	       work_names[work], kind_names[kind], total.ops, total.ops / wall,
	       percentile(&total, 0.50) / mhz, percentile(&total, 0.99) / mhz,
	       percentile(&total, 0.999) / mhz, total.max / mhz, wall, cpu, resident_bytes());
	return 0;
}
