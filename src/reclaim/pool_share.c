/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_share.c - how much of memory.max compressed pages may take.
 *
 * A pool without a bound ends as the kernel's does, every resident page squeezed
 * out by compressed ones; a small one sends to the device what would have fitted.
 * The right size follows from two rates: how often a page in the store is wanted
 * (fs, reads per stored page) and how often one in the pool is (fz).  A page that
 * leaves the pool for the store frees about 0.57 of a page for resident ones; it
 * saves 0.57 x fz decompressions and costs fs reads.  With a read at 100 us and a
 * decompression with its fault at 8 that pays while 22 x fs < fz.  The oldest
 * objects go first, so fs is usually far below fz, and close to it where all of
 * memory is used alike.
 *
 * Nothing is known about the store while it is empty; but the pool knows its oldest
 * object.  Where all objects are wanted alike, one of n survives n x 12 evictions with a
 * probability of e^-12; so one that did is cold, and the pool tries a little less.  Where
 * that was wrong the next try waits twice as long.
 *
 * Entry points: pool_share_adapt(), by the first kswapd thread alone, and
 * pool_is_over(), by anybody: the share is one word.
 */
#include "reclaim/reclaim.h"

#define SHARE_ONE 1024u
#define SHARE_MIN (SHARE_ONE / 4)
#define SHARE_MAX (SHARE_ONE / 8 * 7)
#define SHARE_START SHARE_MAX
#define SHARE_STEP (SHARE_ONE / 64)
/* Reads of the store that one more page in the pool saves, see above. */
#define READ_COST 22
/* Pages that came back, between two looks. */
#define LOOK_PERIOD 1024
/* A sample of the store: fewer pages say nothing about it.  A try sends twice as many
 * there, no more: where it was wrong each of them costs a read. */
#define SAMPLE_MIN 256
#define TRY_PAGES (2 * SAMPLE_MIN)
/* An object is cold that stayed while so many times what the pool holds left memory. */
#define COLD_LIVES 12u
/* Looks between two tries. */
#define WAIT_FIRST 8u
#define WAIT_MAX 1024u

static u64 pages_of(struct reclaim *r, struct memcg_id id, enum memcg_stat item)
{
	s64 n = (s64)memcg_stat_read(r->tree, id, item);

	return n > 0 ? (u64)n : 0;
}

/* Pages that only the store has: without clean copies of resident pages. */
static u64 stored_only(struct reclaim *r, struct memcg_id id)
{
	u64 stored = pages_of(r, id, MEMCG_STAT_STORED);
	u64 cached = pages_of(r, id, MEMCG_STAT_SWAPCACHED);
	u64 copies = cached - min_of(cached, pages_of(r, id, MEMCG_STAT_FRAMES));

	return stored - min_of(stored, copies);
}

/* What pages of id can have at all: unmanaged memory and metadata cannot leave. */
static u64 room(struct reclaim *r, struct memcg_id id, u64 max)
{
	u64 fixed = pages_of(r, id, MEMCG_STAT_KERNEL) + pages_of(r, id, MEMCG_STAT_UNMANAGED);

	return max - min_of(fixed, max);
}

static void share_grow(struct lruvec *v)
{
	if (v->share_trying)
		v->share_wait = min_of(v->share_wait * 2, WAIT_MAX);
	v->share_trying = false;
	v->share_left = v->share_wait;
	v->pool_share = min_of(v->pool_share + 2 * SHARE_STEP, SHARE_MAX);
}

/* Less than it has: the oldest objects go. */
static void share_shrink(struct lruvec *v, u32 used, u32 step)
{
	v->share_trying = true;
	v->pool_share = max_of(min_of(v->pool_share, used) - step, SHARE_MIN);
}

/* TRY_PAGES, compressed, as a share of what there is. */
static u32 try_step(u64 room)
{
	return (u32)min_of(TRY_PAGES * SHARE_ONE * 6 / 10 / (room + 1) + 1, (u64)SHARE_STEP);
}

/* Is the oldest object of the longest pool below id cold? */
static bool has_cold_tail(struct reclaim *r, struct memcg_id id)
{
	struct memcg_id owner = reclaim_longest_pool(r, id);
	struct lruvec *v = lruvec_of(r->lru, owner);
	u32 oldest, age = 0, nr = 0;

	if (!owner.v)
		return false;
	mutex_lock(&v->zlru_lock);
	oldest = v->zlru.tail;
	if (oldest) {
		const struct slot *slot = slot_at(r->swap, (struct slot_id){ oldest });

		nr = v->zlru.nr;
		if (!(slot_flags(slot) & SLOT_CACHED)) /* in memory, so not cold */
			age = workingset_age(v, slot->shadow);
	}
	mutex_unlock(&v->zlru_lock);
	return age / COLD_LIVES > nr;
}

/* After dz pages came from the pool and ds from the store. */
static void look(struct reclaim *r, struct memcg_id id, u64 dz, u64 ds, u32 used, u64 room)
{
	struct lruvec *v = lruvec_of(r->lru, id);
	u64 nz = pages_of(r, id, MEMCG_STAT_ZSWAPPED), ns = stored_only(r, id);

	if (ns >= SAMPLE_MIN && nz) {
		u64 store = ds * nz * READ_COST, pool = dz * ns;

		if (store > pool)
			share_grow(v);
		else if (store * 2 < pool)
			share_shrink(v, used, SHARE_STEP);
		return;
	}
	if (v->share_left && --v->share_left)
		return;
	if (!has_cold_tail(r, id)) {
		v->share_left = 1; /* asked again at the next look */
		return;
	}
	v->share_left = v->share_wait;
	share_shrink(v, used, try_step(room));
}

void pool_share_adapt(struct reclaim *r, struct memcg_id id)
{
	struct lruvec *v = lruvec_of(r->lru, id);
	u64 zswpin = memcg_stat_read(r->tree, id, MEMCG_STAT_ZSWPIN);
	u64 pswpin = memcg_stat_read(r->tree, id, MEMCG_STAT_PSWPIN);
	u64 dz = zswpin - v->seen_zswpin, ds = pswpin - v->seen_pswpin;
	u64 max = memcg_limit(r->tree, id, COUNTER_MEMORY), used, pages;

	if (!v->pool_share) {
		v->pool_share = SHARE_START;
		v->share_wait = v->share_left = WAIT_FIRST;
	}
	if (max == PAGE_COUNTER_MAX || dz + ds < LOOK_PERIOD)
		return;
	pages = room(r, id, max);
	used = memcg_usage(r->tree, id, COUNTER_ZSWAP) * SHARE_ONE / (pages + 1) + 1;
	look(r, id, dz, ds, (u32)min_of(used, (u64)SHARE_ONE), pages);
	v->seen_zswpin = zswpin;
	v->seen_pswpin = pswpin;
}

/*
 * cgroup-v2: memory.zswap.max.  From a little below it on: a full pool refuses what
 * comes, which is younger than all it has.
 */
static bool is_over_zswap_max(struct reclaim *r, struct memcg_id id)
{
	u64 max = memcg_limit(r->tree, id, COUNTER_ZSWAP), bytes;

	if (max == PAGE_COUNTER_MAX)
		return false;
	bytes = memcg_zswap_bytes(r->tree, id);
	return bytes && bytes >= (max - max / 16) << PAGE_SHIFT;
}

bool pool_is_over(struct reclaim *r, struct memcg_id id)
{
	u64 max = memcg_limit(r->tree, id, COUNTER_MEMORY);
	u64 usage = memcg_usage(r->tree, id, COUNTER_ZSWAP);
	u32 share = lruvec_of(r->lru, id)->pool_share;

	if (is_over_zswap_max(r, id))
		return true;
	if (max == PAGE_COUNTER_MAX)
		return false;
	return usage > room(r, id, max) * (share ? share : SHARE_START) / SHARE_ONE;
}
