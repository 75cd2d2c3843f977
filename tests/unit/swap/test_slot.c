/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots: their word, their charge, their end.
 */
#include <errno.h>

#include "base/failpoint.h"
#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static u64 event(enum memcg_event ev)
{
	return memcg_event_count(r->e->tree, r->c, ev, true);
}

static u64 swap_usage(void)
{
	return memcg_usage(r->e->tree, r->p, COUNTER_SWAP);
}

TEST(word_holds_all_there_is)
{
	const u64 loc[] = { 0, 1, (1ull << SLOT_LOC_BITS) - 1 };
	const u32 len[] = { 0, 1, PAGE_SIZE }, flags[] = { 0, SLOT_BUSY, 0xff };

	for (u32 k = SLOT_FREE; k <= SLOT_STORE; k++)
		for (u32 i = 0; i < 27; i++) {
			u64 w = slot_where((enum slot_kind)k, flags[i / 9], len[i / 3 % 3],
					   loc[i % 3]);

			ASSERT_EQ(where_kind(w), (enum slot_kind)k);
			ASSERT_EQ(where_flags(w), flags[i / 9]);
			ASSERT_EQ(where_len(w), len[i / 3 % 3]);
			ASSERT_EQ(where_loc(w), loc[i % 3]);
		}
}

TEST(charge_follows_the_slot)
{
	struct slot_id a, b;

	r = rig_create(0, true);
	ASSERT_OK(slot_alloc(&r->e->swap, &r->task[0].slots, r->objcg, &a));
	ASSERT_OK(slot_alloc(&r->e->swap, &r->task[0].slots, r->objcg, &b));
	ASSERT_NE(a.v, b.v);
	ASSERT_EQ(swap_usage(), 2u);
	slot_drop(&r->e->swap, &r->task[0].slots, a);
	ASSERT_EQ(swap_usage(), 1u);
	slot_drop(&r->e->swap, NULL, b);
	ASSERT_EQ(swap_usage(), 0u);
	rig_check(r);
	rig_destroy(r);
}

/* Numbers are cached by a thread; nothing is charged for them. */
TEST(only_numbers_are_parked)
{
	struct slot_id id[SLOT_CACHE_SIZE + 10];
	struct slot_cache *cache;

	r = rig_create(0, true);
	cache = &r->task[0].slots;
	for (u32 i = 0; i < ARRAY_SIZE(id); i++)
		ASSERT_OK(slot_alloc(&r->e->swap, cache, r->objcg, &id[i]));
	for (u32 i = 0; i < ARRAY_SIZE(id); i++) {
		slot_drop(&r->e->swap, cache, id[i]);
		ASSERT_LE(cache->nr, (u32)SLOT_CACHE_SIZE);
	}
	ASSERT_EQ(swap_usage(), 0u);
	ASSERT_GT(cache->nr, 0u);
	ASSERT_EQ(stat_read(&r->e->swap.slots.nr_live), cache->nr);
	slot_cache_drain(&r->e->swap, cache);
	ASSERT_EQ(stat_read(&r->e->swap.slots.nr_live), 0u);
	rig_destroy(r);
}

/* cgroup-v2: memory.swap.max */
TEST(swap_max_refuses)
{
	struct slot_id id[3];

	r = rig_create(0, true);
	memcg_set_max(r->e->tree, r->p, COUNTER_SWAP, 2);
	ASSERT_OK(slot_alloc(&r->e->swap, NULL, r->objcg, &id[0]));
	ASSERT_OK(slot_alloc(&r->e->swap, NULL, r->objcg, &id[1]));
	ASSERT_EQ(slot_alloc(&r->e->swap, NULL, r->objcg, &id[2]), -ENOMEM);
	ASSERT_EQ(event(MEMCG_SWAP_MAX), 1u);
	ASSERT_EQ(event(MEMCG_SWAP_FAIL), 1u);
	ASSERT_EQ(swap_usage(), 2u);
	slot_drop(&r->e->swap, NULL, id[0]);
	ASSERT_OK(slot_alloc(&r->e->swap, NULL, r->objcg, &id[0]));
	slot_drop(&r->e->swap, NULL, id[0]);
	slot_drop(&r->e->swap, NULL, id[1]);
	rig_destroy(r);
}

TEST(numbers_run_out)
{
	struct failpoints fps;
	struct thread me = { .name = "test", .failpoints = &fps };
	struct slot_id id;

	r = rig_create(0, true);
	ASSERT_OK(failpoints_parse(&fps, "xtable_alloc:ENOMEM@1"));
	thread_attach(&me);
	ASSERT_EQ(slot_alloc(&r->e->swap, NULL, r->objcg, &id), -ENOSPC);
	thread_detach();
	ASSERT_EQ(stat_read(&r->e->swap.nr_full), 1u);
	ASSERT_EQ(event(MEMCG_SWAP_FAIL), 1u);
	ASSERT_EQ(event(MEMCG_SWAP_MAX), 0u);
	ASSERT_EQ(swap_usage(), 0u);
	rig_destroy(r);
}

/* J1: with its last user gone nothing keyed by the slot is left. */
TEST(drop_releases_everything_at_once)
{
	const enum rig_state state[] = { RIG_FRAME, RIG_POOL, RIG_STORE };

	for (u32 i = 0; i < ARRAY_SIZE(state); i++) {
		r = rig_create(0, true);
		rig_make(r, 0, 1, RIG_TEXT, state[i]);
		ASSERT_EQ(rig_state(r, 0), state[i]);
		ASSERT_EQ(swap_usage(), 1u);
		rig_zap(r, 1, 0, 1);
		ASSERT_EQ(swap_usage(), 0u);
		ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_MEMORY), 0u);
		ASSERT_EQ(memcg_zswap_bytes(r->e->tree, r->p), 0u);
		ASSERT_EQ(zspool_nr_objects(r->e->zswap.pool), 0u);
		ASSERT_EQ(fake_store_nr(&r->store), 0u);
		ASSERT_EQ(atomic32_peek(&r->e->mm.frames.nr_used), 0u);
		rig_check(r);
		rig_destroy(r);
	}
}

TEST(text)
{
	char text[256];
	struct fmt f;

	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_POOL);
	fmt_init(&f, text, sizeof(text));
	slot_to_text(&r->e->swap, (struct slot_id){ pte_index(rig_pte(r, 0)) }, &f);
	ASSERT_NOT_NULL(strstr(text, ": zswap loc"));
	ASSERT_NULL(strstr(text, "busy"));
	rig_destroy(r);
}
