/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - the compressed pool alone: nanoseconds a page in and out, and where
 * the bytes are.
 *
 *   pool [--pages N] [--kind K] [--churn N] [--seed N]
 *
 * Links the engine and calls zswap_store(), zswap_load() and slot_drop() as reclaim
 * and faults do, one thread, no pager.  Three steps, each with a line of key=value:
 *
 * fill   N pages go into an empty pool
 * churn  N times: a random page is loaded, compared, dropped, another one stored;
 *        compaction runs as kswapd runs it
 * half   half of the pages, at random, are dropped; the rest stays
 *
 * store_ns, load_ns   median of a page, each timed alone (rdtsc)
 * lz4                 bytes that LZ4 made of the pages that are in
 * objects, pool       the same at class size; memory of the pool
 * meta                memory of all of the engine's tables
 * over                pool and meta above lz4, in percent: what pages cost beyond LZ4
 */
#include <getopt.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "data.h"
#include "base/os.h"
#include "engine/internal.h"

#define NR_SOURCES 4096u /* 16 MiB: not in the cache when a page's turn comes */

static uint64_t templates[NR_TEMPLATES][WORDS];
static enum kind kind = KIND_HEAP;
static u64 nr_pages = 100000, nr_churn = 300000;
static uint64_t rnd = 1;
static struct engine *e;
static struct objcg_id objcg;
static struct task *task;
static uint64_t *sources; /* pages to be stored */
static uint64_t page[WORDS];
static struct slot_id *slot; /* of each page; 0: dropped */
static u64 *number; /* which content it has */
static u64 lz4_bytes, nr_moved, nr_compacted;
static double tsc_per_ns;

struct timing {
	u32 *ns;
	u64 nr;
};

static struct timing stores, loads;

static void die(const char *what)
{
	fprintf(stderr, "pool: %s\n", what);
	exit(1);
}

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("no memory");
	return p;
}

static void make_page(uint64_t n, uint64_t *to)
{
	u64 salt = mix(n);

	memcpy(to, templates[salt % NR_TEMPLATES], PAGE);
	to[3] ^= salt & 0xffff;
	to[250] ^= salt >> 16 & 0xffff;
	to[(salt >> 32) % WORDS] = mix(salt);
}

static void record(struct timing *t, u64 cycles)
{
	t->ns[t->nr++] = (u32)((double)cycles / tsc_per_ns);
}

static int by_value(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

static u32 median(struct timing *t)
{
	u32 m;

	if (!t->nr)
		return 0;
	qsort(t->ns, t->nr, sizeof(*t->ns), by_value);
	m = t->ns[t->nr / 2];
	t->nr = 0;
	return m;
}

static double mean(const struct timing *t)
{
	double sum = 0;

	for (u64 i = 0; i < t->nr; i++)
		sum += t->ns[i];
	return t->nr ? sum / (double)t->nr : 0;
}

/* As reclaim_pageout(): the page's content comes from a frame. */
static void store(u64 i, u64 n)
{
	uint64_t *content = sources + n % NR_SOURCES * WORDS;
	struct pageout_result r;
	enum zswap_refusal why;
	struct slot *s;
	u64 t;

	make_page(n, content);
	/* out of the cache, mostly, by those that come in between */
	content = sources + (n + NR_SOURCES / 2) % NR_SOURCES * WORDS;
	if (slot_alloc(&e->swap, &task->slots, objcg, &slot[i]))
		die("no slot");
	t = __rdtsc();
	zswap_store(&e->zswap, &task->codec, objcg, content, &r, &why);
	t = __rdtsc() - t;
	if (r.kind != SLOT_ZSWAP)
		die("not kept");
	s = slot_at(&e->swap, slot[i]);
	where_set(s, slot_where(r.kind, r.flags, r.len, r.loc));
	s->hash_lo = r.hash_lo;
	s->hash_hi = r.hash_hi;
	zswap_stored(&e->zswap, slot[i], objcg, &r);
	lz4_bytes += r.len;
	number[i] = n;
	record(&stores, t);
}

static void drop(u64 i)
{
	lz4_bytes -= slot_len(slot_at(&e->swap, slot[i]));
	slot_drop(&e->swap, &task->slots, slot[i]);
	slot[i].v = 0;
}

static void load(u64 i)
{
	u64 t = __rdtsc();

	if (zswap_load(&e->zswap, &task->codec, slot[i], page))
		die("lost");
	t = __rdtsc() - t;
	record(&loads, t);
}

static void compact(void)
{
	u64 moved = zspool_nr_moved(e->zswap.pool), t = __rdtsc();

	zs_compact_sparse(e->zswap.pool);
	t = __rdtsc() - t;
	moved = zspool_nr_moved(e->zswap.pool) - moved;
	nr_moved += moved;
	nr_compacted += moved ? (u64)((double)t / tsc_per_ns) : 0;
}

static void report(const char *step)
{
	struct zspool *pool = e->zswap.pool;
	double lz4 = (double)lz4_bytes, held = (double)zspool_bytes(pool);
	double meta = (double)stat_read(&e->mm.meta.bytes);
	double store_mean = mean(&stores), load_mean = mean(&loads);
	u64 stored = stores.nr;

	printf("step=%s kind=%s pages=%llu ", step, kind_names[kind],
	       (unsigned long long)zspool_nr_objects(pool));
	printf("store_ns=%u store_mean_ns=%.0f ", median(&stores), store_mean);
	printf("load_ns=%u load_mean_ns=%.0f ", median(&loads), load_mean);
	printf("compact_ns=%.0f moved=%.2f ",
	       stored ? (double)nr_compacted / (double)stored : (double)nr_compacted,
	       stored ? (double)nr_moved / (double)stored : (double)nr_moved);
	printf("lz4=%.0f objects=+%.2f%% pool=+%.2f%% meta=%.0f over=+%.2f%% ratio=%.3f\n", lz4,
	       100 * ((double)zspool_object_bytes(pool) / lz4 - 1), 100 * (held / lz4 - 1), meta,
	       100 * ((held + meta) / lz4 - 1),
	       (double)(zspool_nr_objects(pool) * PAGE) / (held + meta));
	nr_moved = nr_compacted = 0;
	if (getenv("POOL_VERBOSE")) {
		static char text[65536];
		struct fmt f;

		fmt_init(&f, text, sizeof(text));
		zspool_to_text(pool, &f);
		fputs(text, stdout);
	}
}

static void churn(void)
{
	u64 n = nr_pages + NR_SOURCES;

	for (u64 k = 0; k < nr_churn; k++) {
		u64 i = next(&rnd) % nr_pages;

		load(i);
		drop(i);
		store(i, n++);
		if (k % 64 == 0)
			compact();
	}
}

static void half(void)
{
	for (u64 i = 0; i < nr_pages; i++)
		if (next(&rnd) & 1)
			drop(i);
	for (u32 k = 0; k < 100000; k++)
		compact();
}

static void set_up(void)
{
	struct engine_config cfg = { .flags = ENGINE_NO_STORE, .pager = "fake", .segment_fd = -1 };
	u64 tsc = __rdtsc(), ns = os_now_ns();

	if (engine_create(&cfg, &e) || objcg_get(e->tree, engine_home(e), &objcg))
		die("no engine");
	make_templates(templates, kind, rnd);
	task = map(sizeof(*task));
	sources = map(NR_SOURCES * PAGE);
	slot = map(nr_pages * sizeof(*slot));
	number = map(nr_pages * sizeof(*number));
	stores.ns = map((nr_pages + nr_churn) * sizeof(u32));
	loads.ns = map((nr_pages + nr_churn) * sizeof(u32));
	for (u64 n = 0; n < NR_SOURCES; n++)
		make_page(n, sources + n * WORDS);
	while (os_now_ns() - ns < 50 * NSEC_PER_MSEC)
		;
	tsc_per_ns = (double)(__rdtsc() - tsc) / (double)(os_now_ns() - ns);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "pages", 1, 0, 'p' },
					       { "kind", 1, 0, 'k' },
					       { "churn", 1, 0, 'c' },
					       { "seed", 1, 0, 's' },
					       { 0, 0, 0, 0 } };
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == 'p')
			nr_pages = strtoull(optarg, NULL, 10);
		else if (opt == 'c')
			nr_churn = strtoull(optarg, NULL, 10);
		else if (opt == 's')
			rnd = strtoull(optarg, NULL, 10);
		else if (opt == 'k' && !strcmp(optarg, "text"))
			kind = KIND_TEXT;
		else if (opt != 'k')
			return 2;
	}
	set_up();
	for (u64 i = 0; i < nr_pages; i++)
		store(i, i + NR_SOURCES);
	report("fill");
	churn();
	report("churn");
	half();
	report("half");
	return 0;
}
