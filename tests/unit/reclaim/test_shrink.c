/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much is taken from whom: protection, fairness, the laundry.
 */
#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static struct objcg_id handle(struct memcg_id id)
{
	struct objcg_id o;

	ASSERT_OK(objcg_get(r->e->tree, id, &o));
	return o;
}

/* Pages [first, first + nr) belong to group id, mapped. */
static void give_pages(struct memcg_id id, u32 first, u32 nr)
{
	rig_assign(r, first, nr, handle(id));
	for (u32 i = first; i < first + nr; i++)
		rig_write(r, 0, i, RIG_TEXT, i);
	rig_drain(r, 0);
}

static u32 resident(u32 first, u32 nr)
{
	u32 n = 0;

	for (u32 i = first; i < first + nr; i++)
		n += rig_state(r, i) <= RIG_FRAME;
	return n;
}

static struct scan_control reclaim(struct memcg_id target, u64 nr)
{
	struct scan_control sc = {
		.target = target,
		.nr_to_reclaim = nr,
		.who = RECLAIM_DIRECT,
		.may_swap = true,
	};

	reclaim_memcg(&r->e->reclaim, &r->task[0], &sc);
	rig_drain(r, 0);
	return sc;
}

static u64 low_events(struct memcg_id id)
{
	return memcg_event_count(r->e->tree, id, MEMCG_LOW, true);
}

/* Pages that were written leave in runs: the coldest and its neighbours, but none that is
 * known to be in use, and no more than asked for. */
TEST(neighbours_go_along)
{
	struct page_id id;

	r = rig_create(0, true);
	give_pages(r->c, 20, 1);
	give_pages(r->c, 10, 10);
	give_pages(r->c, 21, 10);
	id.v = pte_index(rig_pte(r, 17));
	ASSERT_TRUE(lru_isolate(&r->e->lru, id));
	atomic32_fetch_or(&page_at(&r->e->mm.pages, id)->flags, PG_ACTIVE);
	ASSERT_TRUE(lru_putback(&r->e->lru, id, false));
	ASSERT_EQ(rig_unmap(r, 0, 2), 2u);
	ASSERT_EQ(rig_state(r, 20), RIG_FRAME);
	ASSERT_EQ(rig_state(r, 21), RIG_FRAME);
	rig_read(r, 0, 20);
	rig_read(r, 0, 21);
	rig_zap(r, 0, 20, 2);
	rig_write(r, 0, 20, RIG_TEXT, 1);
	/* The coldest half and what is beside it. */
	ASSERT_EQ(rig_unmap(r, 0, 16), 16u);
	for (u32 i = 10; i < 17; i++)
		ASSERT_EQ(rig_state(r, i), RIG_FRAME);
	ASSERT_EQ(rig_state(r, 17), RIG_MAPPED);
	rig_drain(r, 0);
	rig_check(r);
	rig_destroy(r);
}

TEST(takes_what_it_is_told)
{
	struct scan_control sc;

	r = rig_create(0, true);
	give_pages(r->c, 0, 100);
	sc = reclaim(r->p, 10);
	ASSERT_GE(sc.nr_reclaimed, 10u);
	ASSERT_LE(sc.nr_reclaimed, 10u + SWAP_CLUSTER_MAX);
	ASSERT_EQ(resident(0, 100), 100u - sc.nr_reclaimed);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGSTEAL_DIRECT), sc.nr_reclaimed);
	ASSERT_GE(rig_stat(r, MEMCG_STAT_PGSCAN_DIRECT), sc.nr_reclaimed);
	/* The oldest have gone, in order. */
	for (u32 i = 0; i < sc.nr_reclaimed; i++)
		ASSERT_EQ(rig_state(r, i), RIG_POOL);
	rig_check(r);
	rig_destroy(r);
}

/* Some pages wait unmapped for a second chance, ahead of what is taken. */
TEST(keeps_a_laundry)
{
	const struct lruvec *v;

	r = rig_create(0, true);
	v = lruvec_of(&r->e->lru, r->c);
	give_pages(r->c, 0, 100);
	reclaim(r->p, 8);
	ASSERT_GE(lruvec_nr(v, LRU_LAUNDRY), 8u);
	ASSERT_LE(lruvec_nr(v, LRU_LAUNDRY), 2 * SWAP_CLUSTER_MAX);
	ASSERT_GT(lruvec_nr(v, LRU_INACTIVE), 0u);
	rig_check(r);
	rig_destroy(r);
}

/* In need everything goes, laundry and active pages too. */
TEST(takes_all_in_need)
{
	r = rig_create(0, true);
	give_pages(r->c, 0, 60);
	rig_unmap(r, 0, 20);
	for (u32 i = 0; i < 20; i++)
		rig_read(r, 0, i);
	reclaim(r->p, 60);
	ASSERT_EQ(resident(0, 60), 0u);
	rig_check(r);
	rig_destroy(r);
}

/* Touched in the laundry: it outlives those that were not. */
TEST(second_chance)
{
	r = rig_create(0, true);
	give_pages(r->c, 0, 64);
	rig_unmap(r, 0, 32);
	for (u32 i = 0; i < 16; i++)
		rig_read(r, 0, i);
	reclaim(r->p, 16);
	ASSERT_EQ(resident(0, 16), 16u);
	ASSERT_LE(resident(16, 16), 1u);
	rig_check(r);
	rig_destroy(r);
}

/* cgroup-v2: memory.min: not at all, even if nothing else is left. */
TEST(min_is_never_touched)
{
	struct scan_control sc;

	r = rig_create(0, true);
	give_pages(r->c, 0, 50);
	give_pages(r->d, 100, 50);
	memcg_set_protection(r->e->tree, r->p, 200, UINT64_MAX);
	memcg_set_protection(r->e->tree, r->c, 50, UINT64_MAX);
	sc = reclaim(r->p, 100);
	ASSERT_EQ(sc.nr_reclaimed, 50u);
	ASSERT_EQ(resident(0, 50), 50u);
	ASSERT_EQ(resident(100, 50), 0u);
	ASSERT_EQ(low_events(r->c), 0u);
	rig_check(r);
	rig_destroy(r);
}

/* cgroup-v2: memory.low: last, and counted. */
TEST(low_is_touched_last)
{
	struct scan_control sc;

	r = rig_create(0, true);
	give_pages(r->c, 0, 50);
	give_pages(r->d, 100, 50);
	memcg_set_protection(r->e->tree, r->c, UINT64_MAX, 50);
	sc = reclaim(r->p, 40);
	ASSERT_GE(sc.nr_reclaimed, 40u);
	ASSERT_EQ(resident(0, 50), 50u);
	ASSERT_EQ(low_events(r->c), 0u);
	reclaim(r->p, 10);
	ASSERT_EQ(resident(100, 50), 0u);
	sc = reclaim(r->p, 10);
	ASSERT_GE(sc.nr_reclaimed, 10u);
	ASSERT_GE(low_events(r->c), 1u);
	rig_check(r);
	rig_destroy(r);
}

/* Its own limit: protection is against others. */
TEST(protection_does_not_bind_the_target)
{
	r = rig_create(0, true);
	give_pages(r->c, 0, 50);
	memcg_set_protection(r->e->tree, r->c, 50, 50);
	ASSERT_GE(reclaim(r->c, 20).nr_reclaimed, 20u);
	rig_check(r);
	rig_destroy(r);
}

/* Efforts of a few pages do not all fall on the group that comes first. */
TEST(all_groups_get_their_turn)
{
	struct memcg_id id[4];
	u32 left[4], most = 0, least = 48;

	r = rig_create(0, true);
	id[0] = r->c;
	id[1] = r->d;
	ASSERT_OK(memcg_create_path(r->e->tree, "p/f", &id[2]));
	ASSERT_OK(memcg_create_path(r->e->tree, "p/g", &id[3]));
	for (u32 i = 0; i < 4; i++)
		give_pages(id[i], 60 * i, 48);
	for (u32 i = 0; i < 6; i++)
		reclaim(r->p, 16);
	for (u32 i = 0; i < 4; i++) {
		left[i] = resident(60 * i, 48);
		most = max_of(most, left[i]);
		least = min_of(least, left[i]);
	}
	ASSERT_LE(most - least, SWAP_CLUSTER_MAX / 2);
	ASSERT_LT(most, 48u);
	rig_check(r);
	rig_destroy(r);
}

/* A group that is gone was where the last effort ended. */
TEST(turn_of_a_removed_group)
{
	r = rig_create(0, true);
	give_pages(r->c, 0, 40);
	give_pages(r->d, 60, 40);
	reclaim(r->p, 8);
	reclaim(r->p, 8);
	rig_assign(r, 0, RIG_PAGES, handle(r->p));
	ASSERT_OK(offline_group(r->e, r->d, ENGINE_REMOVE_EMPTY));
	reclaim(r->p, 8);
	ASSERT_OK(offline_group(r->e, r->c, ENGINE_REMOVE_EMPTY));
	ASSERT_GE(reclaim(r->p, 50).nr_reclaimed, 50u);
	rig_check(r);
	rig_destroy(r);
}

/* ---- what cannot go ------------------------------------------------------------------ */

TEST(pinned_for_io_is_set_aside)
{
	const struct lruvec *v;

	r = rig_create(0, true);
	v = lruvec_of(&r->e->lru, r->c);
	give_pages(r->c, 0, 20);
	fake_set(&r->e->mm.pager, fake_addr(7), 1, FAKE_PINNED, 0);
	reclaim(r->p, 20);
	ASSERT_EQ(resident(0, 20), 1u);
	ASSERT_EQ(rig_state(r, 7), RIG_MAPPED);
	ASSERT_EQ(lruvec_nr(v, LRU_UNEVICTABLE), 1u);
	ASSERT_GE(rig_stat(r, MEMCG_STAT_PGPINNED), 1u);
	rig_check(r);
	fake_set(&r->e->mm.pager, fake_addr(7), 1, 0, FAKE_PINNED);
	ASSERT_EQ(reclaim(r->p, 1).nr_reclaimed, 0u);
	ASSERT_EQ(reclaim_rescue_unevictable(&r->e->reclaim, r->c, 8), 1u);
	ASSERT_EQ(reclaim(r->p, 1).nr_reclaimed, 1u);
	rig_check(r);
	rig_destroy(r);
}

TEST(pinned_by_the_program_stays)
{
	struct fault *f;

	r = rig_create(0, true);
	f = &r->e->fault;
	give_pages(r->c, 0, 20);
	ASSERT_OK(populate_range(f, &r->task[1], fake_addr(4), fake_addr(8), true));
	ASSERT_OK(populate_range(f, &r->task[1], fake_addr(6), fake_addr(7), true));
	reclaim(r->p, 20);
	ASSERT_EQ(resident(0, 20), 4u);
	populate_unpin(f, fake_addr(4), fake_addr(8));
	reclaim(r->p, 20);
	ASSERT_EQ(resident(0, 20), 1u);
	ASSERT_EQ(rig_state(r, 6), RIG_MAPPED); /* counts nest */
	populate_unpin(f, fake_addr(6), fake_addr(7));
	reclaim(r->p, 20);
	ASSERT_EQ(resident(0, 20), 0u);
	rig_check(r);
	rig_destroy(r);
}

/* cgroup-v2: memory.swap.max: no slot, no leaving. */
TEST(swap_max_bounds_what_leaves)
{
	struct scan_control sc;

	r = rig_create(0, true);
	give_pages(r->c, 0, 40);
	memcg_set_max(r->e->tree, r->p, COUNTER_SWAP, 5);
	sc = reclaim(r->p, 40);
	ASSERT_EQ(sc.nr_reclaimed, 5u);
	ASSERT_EQ(resident(0, 40), 35u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 5u);
	ASSERT_GE(memcg_event_count(r->e->tree, r->c, MEMCG_SWAP_MAX, true), 1u);
	ASSERT_GE(stat_read(&r->e->reclaim.nr_no_slots), 1u);
	rig_check(r);
	rig_destroy(r);
}

/* The program dropped pages by a call we did not see: nothing is owed for them. */
TEST(dropped_behind_our_back)
{
	r = rig_create(0, true);
	give_pages(r->c, 0, 20);
	fake_forget(&r->e->mm.pager, fake_addr(5), 3);
	memset(&r->want[5], 0, 3 * sizeof(r->want[0]));
	reclaim(r->p, 20);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGDROPPED), 3u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 17u);
	rig_check(r);
	rig_destroy(r);
}
