/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_offline.c - what a removed group leaves behind: nothing, in the end.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/internal.h"
#include "lib/rig.h"
#include "test.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static struct engine *passive_engine(void)
{
	struct engine_config cfg = { .flags = ENGINE_LAZY, .segment_fd = -1, .envp = environ };
	struct engine *e;

	ASSERT_OK(engine_create(&cfg, &e));
	return e;
}

/* There is room for 133,000 handles, and each of these groups has one. */
TEST(handles_are_used_again)
{
	enum { ROUNDS = 140000 };
	struct engine *e = passive_engine();
	struct memcg_id top, id;
	u64 bytes = 0;
	void *mem;

	ASSERT_OK(engine_group_create(e, MEMCG_ROOT, "top", &top));
	for (u32 n = 0; n < ROUNDS; n++) {
		int err = engine_group_create(e, top, "job", &id);

		if (!err)
			err = engine_mmap(e, id, NULL, PAGE_SIZE, RW, ANON, &mem);
		if (!err && n % 2)
			err = engine_munmap(e, mem, PAGE_SIZE);
		if (!err)
			err = engine_group_remove(
				e, id, n % 2 ? ENGINE_REMOVE_EMPTY : ENGINE_REMOVE_DISCARD);
		if (err)
			FAIL("round %u: %d", n, err);
		if (n == 1000)
			bytes = stat_read(&e->mm.meta.bytes);
	}
	ASSERT_EQ(stat_read(&e->mm.meta.bytes), bytes);
	ASSERT_EQ(memcg_nr_dying(e->tree), 0u);
	engine_destroy(e);
}

/* Regions that change hands keep their handles for as long as they name one. */
TEST(handles_of_inherited_regions)
{
	enum { ROUNDS = 3000 };
	struct engine *e = passive_engine();
	struct memcg_id top, id;
	struct region r;
	void *mem[4] = { NULL };

	ASSERT_OK(engine_group_create(e, MEMCG_ROOT, "top", &top));
	for (u32 n = 0; n < ROUNDS; n++) {
		if (mem[n % 4])
			ASSERT_OK(engine_munmap(e, mem[n % 4], 4 * PAGE_SIZE));
		ASSERT_OK(engine_group_create(e, top, "job", &id));
		ASSERT_OK(engine_mmap(e, id, NULL, 4 * PAGE_SIZE, RW, ANON, &mem[n % 4]));
		ASSERT_EQ(engine_group_remove(e, id, ENGINE_REMOVE_EMPTY), -EBUSY);
		ASSERT_OK(engine_group_remove(e, id, ENGINE_REMOVE_REPARENT));
		for (u64 at = 0; region_next(&e->mm.regions, at, &r); at = r.end) {
			ASSERT_EQ(objcg_memcg(e->tree, r.objcg).v, top.v);
			ASSERT_FALSE(r.flags & REGION_LEAVING);
		}
	}
	/* The one of `top`, and perhaps one that waits to be let go. */
	ASSERT_LE(e->nr_retired, 1u);
	engine_destroy(e);
}

/* Members and children refuse whatever is asked, and nothing has changed. */
TEST(refused)
{
	struct engine *e = passive_engine();
	struct memcg_id top, id;
	struct region r;
	void *mem;

	ASSERT_OK(engine_group_create(e, MEMCG_ROOT, "top", &top));
	ASSERT_OK(engine_group_create(e, top, "child", &id));
	ASSERT_OK(engine_mmap(e, top, NULL, PAGE_SIZE, RW, ANON, &mem));
	ASSERT_EQ(engine_group_remove(e, top, ENGINE_REMOVE_DISCARD), -EBUSY);
	ASSERT_EQ(engine_group_remove(e, top, ENGINE_REMOVE_REPARENT), -EBUSY);
	ASSERT_OK(engine_group_remove(e, id, ENGINE_REMOVE_EMPTY));
	ASSERT_OK(member_set_home(e->tree, top));
	ASSERT_EQ(engine_group_remove(e, top, ENGINE_REMOVE_DISCARD), -EBUSY);
	ASSERT_TRUE(region_find(&e->mm.regions, (u64)mem, &r));
	ASSERT_FALSE(r.flags & REGION_LEAVING);
	ASSERT_EQ(objcg_memcg(e->tree, r.objcg).v, top.v);
	engine_destroy(e);
}

/* More ranges than are remembered, and some that something else happens to. */
TEST(many_ranges)
{
	enum { RANGES = 3 * NR_DOOMED };
	struct rig *r = rig_create(0, true);
	struct engine *e = r->e;

	for (u32 n = 0; n < RANGES; n++) {
		struct region region = { .start = (u64)(n + 1) << 30, .objcg = r->objcg };

		region.end = region.start + PAGE_SIZE;
		ASSERT_OK(region_add(&e->mm.regions, &region));
	}
	atomic32_store(&e->state, ENGINE_RUNNING);
	ASSERT_OK(offline_group(e, r->c, ENGINE_REMOVE_DISCARD));
	ASSERT_FALSE(region_overlaps(&e->mm.regions, 0, UINT64_MAX));
	ASSERT_GT(e->nr_doomed, 1u);
	offline_finish(e, e->doomed[0].start, e->doomed[0].end);
	while (offline_discard_step(e))
		;
	ASSERT_EQ(e->nr_doomed, 0u);
	offline_release(e);
	ASSERT_EQ(memcg_nr_unreleased(e->tree), 0u);
	atomic32_store(&e->state, ENGINE_PASSIVE);
	rig_check(r);
	rig_destroy(r);
}
