/* SPDX-License-Identifier: Apache-2.0 */
/* tsan */
/*
 * test_zsmalloc.c - objects against a shadow copy, compaction, two threads,
 * memory given back, refusals, bytes of overhead.
 */
#include "zswap/zsmalloc.h"

#include <errno.h>

#include "base/fmt.h"
#include "lib/test.h"

#define NR_OBJECTS 6000u

struct object {
	struct zs_handle h;
	u32 len; /* 0: free */
	u32 seed;
};

static u64 random_u64(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Lengths as zswap makes them: many small, few near a page, all values. */
static u32 random_len(u64 *state)
{
	u64 r = random_u64(state);

	if (r % 16 == 0)
		return (u32)(r / 16 % PAGE_SIZE) + 1;
	return (u32)(r / 16 % 3264) + 1;
}

static void fill(u8 *buf, u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		buf[i] = (u8)(seed * 2654435761u >> 24) ^ (u8)(i * 7 + seed);
}

static bool store(struct zspool *pool, struct object *o, u32 len, u32 seed)
{
	u8 buf[PAGE_SIZE];

	fill(buf, len, seed);
	if (zs_store(pool, buf, len, &o->h))
		return false;
	o->len = len;
	o->seed = seed;
	return true;
}

static bool content_ok(struct zspool *pool, const struct object *o)
{
	u8 want[PAGE_SIZE], got[PAGE_SIZE];

	fill(want, o->len, o->seed);
	zs_load(pool, o->h, o->len, got);
	return memcmp(want, got, o->len) == 0;
}

static void drop(struct zspool *pool, struct object *o)
{
	zs_free(pool, o->h, o->len);
	o->len = 0;
}

static void drop_all(struct zspool *pool, struct object *o, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		if (o[i].len)
			drop(pool, &o[i]);
}

static u64 charged(struct zspool *pool, const struct object *o, u32 nr)
{
	u64 bytes = 0;

	for (u32 i = 0; i < nr; i++)
		if (o[i].len)
			bytes += zs_charged_size(pool, o[i].len);
	return bytes;
}

static struct zspool *make_pool(struct meta *meta, u64 max_bytes)
{
	struct zspool *pool;

	memset(meta, 0, sizeof(*meta));
	ASSERT_OK(zspool_create(meta, max_bytes, &pool));
	return pool;
}

static void expect_empty(struct zspool *pool)
{
	zspool_check(pool);
	ASSERT_EQ(zspool_bytes(pool), 0ull);
	ASSERT_EQ(zspool_object_bytes(pool), 0ull);
	ASSERT_EQ(zspool_nr_objects(pool), 0ull);
	ASSERT_EQ(zspool_compactable(pool), 0ull);
}

TEST(every_length)
{
	static struct object o[PAGE_SIZE];
	struct meta meta;
	struct zspool *pool = make_pool(&meta, 64 * MIB);

	for (u32 i = 0; i < PAGE_SIZE; i++) {
		u32 size = zs_charged_size(pool, i + 1);

		ASSERT_TRUE(size >= i + 1 && size <= PAGE_SIZE && size % 16 == 0);
		/* Large objects get a page; below that at most a ninth is lost. */
		ASSERT_TRUE(size == PAGE_SIZE || size <= i + 1 + 32 + (i + 1) / 9);
		ASSERT_TRUE(store(pool, &o[i], i + 1, i));
	}
	zspool_check(pool);
	ASSERT_EQ(zspool_nr_objects(pool), (u64)PAGE_SIZE);
	ASSERT_EQ(zspool_object_bytes(pool), charged(pool, o, PAGE_SIZE));
	for (u32 i = 0; i < PAGE_SIZE; i++)
		ASSERT_TRUE(content_ok(pool, &o[i]));
	drop_all(pool, o, PAGE_SIZE);
	expect_empty(pool);
	zspool_destroy(pool);
	ASSERT_EQ(stat_read(&meta.bytes), 0ull);
}

static void random_step(struct zspool *pool, struct object *o, u64 *state)
{
	u64 r = random_u64(state);

	if (o->len && r % 2) {
		ASSERT_TRUE(content_ok(pool, o));
		drop(pool, o);
	} else if (o->len) {
		ASSERT_TRUE(content_ok(pool, o));
	} else {
		ASSERT_TRUE(store(pool, o, random_len(state), (u32)r));
	}
}

TEST(random_against_shadow)
{
	static struct object o[NR_OBJECTS];
	struct meta meta;
	struct zspool *pool = make_pool(&meta, 64 * MIB);
	u64 state = 88172645463325252ull;

	for (u32 i = 0; i < 150000; i++) {
		random_step(pool, &o[random_u64(&state) % NR_OBJECTS], &state);
		if (i % 5000 == 0)
			(void)zs_compact(pool, 1 + (u32)(random_u64(&state) % 200));
		if (i % 30000 == 0)
			zspool_check(pool);
	}
	zspool_check(pool);
	ASSERT_EQ(zspool_object_bytes(pool), charged(pool, o, NR_OBJECTS));
	drop_all(pool, o, NR_OBJECTS);
	expect_empty(pool);
	zspool_destroy(pool);
	ASSERT_EQ(stat_read(&meta.bytes), 0ull);
}

TEST(compaction_gives_memory_back)
{
	static struct object o[NR_OBJECTS];
	struct meta meta;
	struct zspool *pool = make_pool(&meta, 64 * MIB);
	u64 state = 7, before, gain, freed;

	for (u32 i = 0; i < NR_OBJECTS; i++)
		ASSERT_TRUE(store(pool, &o[i], 1000 + (u32)(random_u64(&state) % 64), i));
	for (u32 i = 0; i < NR_OBJECTS; i++)
		if (i % 4)
			drop(pool, &o[i]);
	before = zspool_bytes(pool);
	gain = zspool_compactable(pool);
	ASSERT_GT(gain, before / 2);
	freed = zs_compact(pool, UINT32_MAX);
	/* The last zspage of a class is smaller than a full one. */
	ASSERT_LE(freed, gain);
	ASSERT_GT(freed, gain * 9 / 10);
	ASSERT_LE(zspool_bytes(pool), before - freed + 64 * KIB);
	ASSERT_EQ(zspool_compactable(pool), 0ull);
	zspool_check(pool);
	for (u32 i = 0; i < NR_OBJECTS; i += 4)
		ASSERT_TRUE(content_ok(pool, &o[i]));
	printf("# 1/4 of the objects left: %llu KiB before, %llu KiB after, objects %llu KiB\n",
	       (unsigned long long)before / KIB, (unsigned long long)zspool_bytes(pool) / KIB,
	       (unsigned long long)zspool_object_bytes(pool) / KIB);
	ASSERT_LT(zspool_bytes(pool), zspool_object_bytes(pool) * 11 / 10);
	drop_all(pool, o, NR_OBJECTS);
	expect_empty(pool);
	zspool_destroy(pool);
}

TEST(compaction_is_bounded)
{
	static struct object o[1024];
	struct meta meta;
	struct zspool *pool = make_pool(&meta, 64 * MIB);
	u64 freed = 0;

	for (u32 i = 0; i < 1024; i++)
		ASSERT_TRUE(store(pool, &o[i], 500, i));
	for (u32 i = 0; i < 1024; i++)
		if (i % 8)
			drop(pool, &o[i]);
	ASSERT_EQ(zs_compact(pool, 0), 0ull);
	for (u32 i = 0; i < 2000 && zspool_compactable(pool); i++)
		freed += zs_compact(pool, 1);
	ASSERT_EQ(zspool_compactable(pool), 0ull);
	ASSERT_GT(freed, 0ull);
	zspool_check(pool);
	for (u32 i = 0; i < 1024; i += 8)
		ASSERT_TRUE(content_ok(pool, &o[i]));
	drop_all(pool, o, 1024);
	expect_empty(pool);
	zspool_destroy(pool);
}

TEST(full_pool_refuses_and_recovers)
{
	static struct object o[1024];
	struct meta meta;
	struct zspool *pool = make_pool(&meta, MIB);
	struct zs_handle h = { 77 };
	u8 buf[PAGE_SIZE] = { 0 };
	u32 nr = 0;

	while (nr < 1024 && store(pool, &o[nr], 4000, nr))
		nr++;
	ASSERT_EQ(nr, (u32)(MIB / PAGE_SIZE));
	ASSERT_EQ(zs_store(pool, buf, 4000, &h), -ENOMEM);
	ASSERT_EQ(h.v, 77u);
	ASSERT_EQ(zs_store(pool, buf, 100, &h), -ENOMEM);
	drop(pool, &o[3]);
	ASSERT_TRUE(store(pool, &o[3], 3900, 3));
	for (u32 i = 0; i < nr; i++)
		ASSERT_TRUE(content_ok(pool, &o[i]));
	drop_all(pool, o, nr);
	expect_empty(pool);
	zspool_destroy(pool);
	ASSERT_EQ(stat_read(&meta.bytes), 0ull);
}

/* ---- threads -------------------------------------------------------------- */

struct worker {
	struct thread thread;
	struct zspool *pool;
	struct object o[1500];
	u64 state;
	u64 nr_bad;
};

static struct worker workers[2];
static struct thread compactor;
static struct atomic32 stop;

static void work(struct thread *self)
{
	struct worker *w = container_of(self, struct worker, thread);

	for (u32 i = 0; i < 60000; i++) {
		struct object *o = &w->o[random_u64(&w->state) % ARRAY_SIZE(w->o)];
		u64 r = random_u64(&w->state);

		if (!o->len) {
			w->nr_bad += !store(w->pool, o, random_len(&w->state), (u32)r);
			continue;
		}
		w->nr_bad += !content_ok(w->pool, o);
		if (r % 2)
			drop(w->pool, o);
	}
}

static void compact(struct thread *self)
{
	struct zspool *pool = self->arg;

	while (!atomic32_load(&stop))
		(void)zs_compact(pool, 64);
}

TEST(two_threads_and_compaction)
{
	struct meta meta;
	struct zspool *pool = make_pool(&meta, 64 * MIB);

	atomic32_store(&stop, 0);
	memset(&compactor, 0, sizeof(compactor));
	compactor.name = "compactor";
	compactor.fn = compact;
	compactor.arg = pool;
	for (u32 i = 0; i < 2; i++) {
		workers[i].pool = pool;
		workers[i].state = i + 12345;
		workers[i].thread.name = "worker";
		workers[i].thread.fn = work;
		ASSERT_OK(thread_start(&workers[i].thread));
	}
	ASSERT_OK(thread_start(&compactor));
	for (u32 i = 0; i < 2; i++)
		thread_join(&workers[i].thread);
	atomic32_store(&stop, 1);
	thread_join(&compactor);
	zspool_check(pool);
	for (u32 i = 0; i < 2; i++) {
		ASSERT_EQ(workers[i].nr_bad, 0ull);
		drop_all(pool, workers[i].o, ARRAY_SIZE(workers[i].o));
	}
	expect_empty(pool);
	zspool_destroy(pool);
	ASSERT_EQ(stat_read(&meta.bytes), 0ull);
}

/* ---- overhead --------------------------------------------------------------- */

TEST(overhead_is_small)
{
	enum { NR = 40000 };
	static struct object o[NR];
	struct meta meta;
	struct zspool *pool = make_pool(&meta, 256 * MIB);
	u64 state = 99, payload = 0, meta0 = stat_read(&meta.bytes);
	char text[4096];
	struct fmt f;

	for (u32 i = 0; i < NR; i++) {
		/* LZ4 on program memory: 600..2600 bytes */
		u32 len = 600 + (u32)(random_u64(&state) % 2000);

		ASSERT_TRUE(store(pool, &o[i], len, i));
		payload += len;
	}
	printf("# %u objects of %llu bytes: pool +%.2f %%, metadata %.2f bytes an object\n", NR,
	       (unsigned long long)payload / NR,
	       100.0 * (double)(zspool_bytes(pool) - payload) / (double)payload,
	       (double)(stat_read(&meta.bytes) - meta0) / NR);
	ASSERT_LT(zspool_bytes(pool), payload * 103 / 100);
	/* 4 bytes a handle, 24 bytes a zspage; 256 KiB steps of the tables */
	ASSERT_LT(stat_read(&meta.bytes) - meta0, (u64)NR * 9 + 512 * KIB);
	fmt_init(&f, text, sizeof(text));
	zspool_to_text(pool, &f);
	ASSERT_NOT_NULL(strstr(text, "40000 objects"));
	drop_all(pool, o, NR);
	expect_empty(pool);
	zspool_destroy(pool);
}
