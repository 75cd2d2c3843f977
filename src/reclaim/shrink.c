/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shrink.c - how much to take from whom.
 *
 * The kernel's ladder (algorithms.md 4.5): priorities 12 down to 0, at least 32
 * pages a list, min and low protection, a second pass that ignores low.  Within
 * a group: keep a laundry of unmapped pages ahead of pageout, so that a page is
 * compressed only after it stayed untouched for a while (the second chance).
 */
#include "base/probe.h"
#include "reclaim/reclaim.h"

/*
 * Laundry: 1/16 of the resident pages, at most 256, 1 MiB of frames: what is compressed
 * then is still in a core's cache.  With 2,048 random reads were 6 % slower, 50 % writes 5.
 */
#define LAUNDRY_SHIFT 4
#define LAUNDRY_MIN 16u
#define LAUNDRY_MAX 256u

static u32 resident(const struct lruvec *v)
{
	return lruvec_nr(v, LRU_STREAM) + lruvec_nr(v, LRU_INACTIVE) + lruvec_nr(v, LRU_ACTIVE) +
	       lruvec_nr(v, LRU_LAUNDRY);
}

static u32 laundry_target(const struct lruvec *v, const struct scan_control *sc)
{
	u32 nr = resident(v) >> LAUNDRY_SHIFT;

	if (sc->priority <= 2)
		return 0; /* in need: no second chances */
	return nr < LAUNDRY_MIN ? LAUNDRY_MIN : min_of(nr, LAUNDRY_MAX);
}

static void count_scan(struct reclaim *r, struct scan_control *sc, struct memcg_id id, u32 scanned,
		       u32 freed)
{
	static const enum memcg_stat scan[] = { MEMCG_STAT_PGSCAN_KSWAPD, MEMCG_STAT_PGSCAN_DIRECT,
						MEMCG_STAT_PGSCAN_PROACTIVE };
	static const enum memcg_stat steal[] = { MEMCG_STAT_PGSTEAL_KSWAPD,
						 MEMCG_STAT_PGSTEAL_DIRECT,
						 MEMCG_STAT_PGSTEAL_PROACTIVE };
	struct objcg_id o;

	sc->nr_scanned += scanned;
	sc->nr_reclaimed += freed;
	if (lru_objcg(r->lru, id, &o))
		return;
	memcg_stat_add(r->tree, o, scan[sc->who], scanned);
	memcg_stat_add(r->tree, o, steal[sc->who], freed);
}

/* Pages to look at in this group, 0 when it is protected. */
static u64 scan_amount(struct reclaim *r, struct scan_control *sc, struct memcg_id id)
{
	u64 total = resident(lruvec_of(r->lru, id));
	u64 usage = memcg_usage(r->tree, id, COUNTER_MEMORY);
	struct memcg_protection p;
	u64 scan, effective;

	if (!total)
		return 0;
	memcg_protection(r->tree, sc->target, id, &p);
	if (p.emin && usage <= p.emin)
		return 0; /* cgroup-v2: memory.min */
	if (p.elow && usage <= p.elow) {
		if (!sc->ignore_low) {
			sc->low_skipped = true;
			return 0;
		}
		memcg_count_event(r->tree, id, MEMCG_LOW);
	}
	effective = sc->ignore_low ? p.emin : max_of(p.emin, p.elow);
	scan = total >> sc->priority;
	scan -= scan * min_of(effective, usage) / (usage + 1);
	return max_of(scan, (u64)SWAP_CLUSTER_MAX);
}

static void shrink_lruvec(struct reclaim *r, struct task *t, struct scan_control *sc,
			  struct memcg_id id)
{
	struct lruvec *v = lruvec_of(r->lru, id);
	u64 scan = scan_amount(r, sc, id);

	while (scan && sc->nr_reclaimed < sc->nr_to_reclaim) {
		u64 left = sc->nr_to_reclaim - sc->nr_reclaimed;
		u32 want = (u32)min_of(min_of(scan, left), (u64)SWAP_CLUSTER_MAX);
		u32 unmapped = 0, freed = 0;

		lru_refill_inactive(r->lru, id, SWAP_CLUSTER_MAX);
		while (freed < want && lruvec_nr(v, LRU_LAUNDRY) < laundry_target(v, sc) + want) {
			u32 n = reclaim_unmap(r, t, id, SWAP_CLUSTER_MAX, &freed);

			unmapped += n;
			if (!n || unmapped >= 2 * SWAP_CLUSTER_MAX)
				break;
		}
		if (sc->may_swap && freed < want)
			freed += reclaim_pageout(r, t, id, want - freed);
		count_scan(r, sc, id, want, freed);
		scan -= want;
		if (!freed && !unmapped)
			break;
	}
}

/* Each group once, beginning behind the one where the last effort ended: else efforts
 * of a few pages would all fall on the first groups of the walk. */
static void shrink_subtree(struct reclaim *r, struct task *t, struct scan_control *sc)
{
	struct atomic32 *turn = &lruvec_of(r->lru, sc->target)->turn;
	struct memcg_id id = { atomic32_load(turn) };
	u32 nr = memcg_nr_descendants(r->tree, sc->target) + 1;

	/* Removed since, and perhaps used again elsewhere in the tree. */
	if (!memcg_online(r->tree, id) || !memcg_is_descendant(r->tree, id, sc->target))
		id.v = 0;
	while (nr-- && sc->nr_reclaimed < sc->nr_to_reclaim) {
		id = memcg_next(r->tree, sc->target, id);
		if (!id.v)
			id = memcg_next(r->tree, sc->target, id);
		if (!id.v)
			return;
		shrink_lruvec(r, t, sc, id);
		atomic32_store(turn, id.v);
	}
}

u64 reclaim_memcg(struct reclaim *r, struct task *t, struct scan_control *sc)
{
	PROBE_RECLAIM_BEGIN(sc->target.v, sc->nr_to_reclaim);
	for (sc->priority = DEF_PRIORITY; sc->priority >= 0; sc->priority--) {
		shrink_subtree(r, t, sc);
		if (sc->nr_reclaimed >= sc->nr_to_reclaim || sc->one_pass)
			break;
		if (sc->priority == 0 && !sc->nr_reclaimed && sc->low_skipped && !sc->ignore_low) {
			sc->ignore_low = true;
			sc->priority = DEF_PRIORITY + 1;
		}
	}
	PROBE_RECLAIM_END(sc->target.v, sc->nr_reclaimed, sc->nr_scanned);
	return sc->nr_reclaimed;
}

void reclaim_to_text(const struct reclaim *r, struct fmt *out)
{
	fmt_add(out,
		"reclaim: wakes %llu rounds %llu no_progress %llu no_frames %llu no_slots %llu "
		"store_refused %llu\n",
		(unsigned long long)stat_read(&r->nr_wakes),
		(unsigned long long)stat_read(&r->nr_rounds),
		(unsigned long long)stat_read(&r->nr_no_progress),
		(unsigned long long)stat_read(&r->nr_no_frames),
		(unsigned long long)stat_read(&r->nr_no_slots),
		(unsigned long long)stat_read(&r->nr_store_refused));
}
