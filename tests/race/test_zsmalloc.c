/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_zsmalloc.c - compaction moves objects that others load, free and store.
 * tsan
 */
#include "race.h"

#define LEN 3900u
#define NR_OBJECTS 8u
#define EVERY 16u /* a zspage of such objects; sparse() leaves one in each */

static struct zs_handle handle[NR_OBJECTS];
static u8 wanted[PAGE_SIZE], found[PAGE_SIZE];

static struct zspool *pool(void)
{
	return rig->e->zswap.pool;
}

static void store(u32 i)
{
	int err;

	memset(wanted, (int)i + 1, LEN);
	err = zs_store(pool(), wanted, LEN, &handle[i]);
	quire_assert(!err);
}

static void drop(u32 i)
{
	zs_free(pool(), handle[i], LEN);
	handle[i].v = 0;
}

static void load_and_compare(u32 i)
{
	zs_load(pool(), handle[i], LEN, found);
	memset(wanted, (int)i + 1, LEN);
	quire_assert(!memcmp(found, wanted, LEN));
}

/* Zspages with one object each, those of even number: compaction has everything to do. */
static void sparse(void)
{
	struct zs_handle extra[NR_OBJECTS / 2 * EVERY];
	int err = 0;

	for (u32 i = 0; i < ARRAY_SIZE(extra); i++) {
		if (i % EVERY == 0)
			store(i / EVERY * 2);
		else
			err |= zs_store(pool(), wanted, LEN, &extra[i]);
	}
	for (u32 i = 0; i < ARRAY_SIZE(extra); i++)
		if (i % EVERY)
			zs_free(pool(), extra[i], LEN);
	quire_assert(!err && zspool_compactable(pool()));
}

static void empty_pool(void)
{
	zspool_check(pool());
	for (u32 i = 0; i < NR_OBJECTS; i++) {
		if (!handle[i].v)
			continue;
		load_and_compare(i);
		drop(i);
	}
	quire_assert(!zspool_bytes(pool()));
}

static void compact(void *ctx)
{
	(void)ctx;
	(void)zs_compact(pool(), 8);
}

static void load_all(void *ctx)
{
	(void)ctx;
	load_and_compare(0);
	load_and_compare(2);
	load_and_compare(6);
}

static void free_two(void *ctx)
{
	(void)ctx;
	drop(0);
	drop(6);
}

static void store_two(void *ctx)
{
	(void)ctx;
	store(1);
	store(3);
}

RACE(J2_compact_and_load, .setup = sparse, .body = { compact, load_all }, .check = empty_pool,
     .preemptions = 3, .mutants = { MUTANT_object_found_unlocked })
RACE(J2_compact_and_free, .setup = sparse, .body = { compact, free_two }, .check = empty_pool,
     .preemptions = 3)
RACE(J2_compact_and_store, .setup = sparse, .body = { compact, store_two }, .check = empty_pool,
     .preemptions = 3)
RACE(J2_compact_twice_and_free, .setup = sparse, .body = { compact, compact, free_two },
     .check = empty_pool, .preemptions = 2)
