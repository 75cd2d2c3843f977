/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lru.h - how cold: the lists of pages of each group, and refault judgement.
 *
 * One lruvec per memcg, in one or more slices: the same lists with a lock of their
 * own each, for a group that many threads work in (bench/lru).  A page belongs to a
 * slice by its number for as long as it lives.  Lists:
 *   STREAM       mapped, brought in by a scan longer than memory: these go first
 *   INACTIVE     mapped, next to be unmapped
 *   ACTIVE       mapped, proven by a refault or a soft fault
 *   LAUNDRY      unmapped into a frame, has a slot: a touch is a soft fault
 *   UNEVICTABLE  the pager refused it (pinned, read-only): retried by a scan
 * There are no accessed bits for us: being touched again while in the laundry
 * is the reference bit (design.md: two-stage reclaim).
 *
 * A page finds its lruvec by page -> objcg -> lists *now*, which is the group that
 * pays, or one that another process removed a moment ago; whoever changes a list holds its lock and has verified the binding after taking it (K1).  The
 * owner protocol of PG_LRU is in page/page.h (K2).  lruvecs are type-stable
 * (K3) and resolved at put-back time, never remembered (K4); two are locked
 * child before parent (K5).
 */
#ifndef QUIRE_LRU_LRU_H
#define QUIRE_LRU_LRU_H

#include "memcg/memcg.h"
#include "page/mm.h"

enum lru_list { LRU_INACTIVE, LRU_ACTIVE, LRU_LAUNDRY, LRU_UNEVICTABLE, LRU_STREAM, NR_LRU_LISTS };

#define LRU_SLICES_MAX 4u
/* Pages in a row of one slice: those of a batch, so that they leave in one run. */
#define LRU_SLICE_SHIFT 6u

struct lru_slice {
	struct mutex lock;
	struct ilist list[NR_LRU_LISTS]; /* (L) */
};

struct lruvec {
	struct lru_slice first; /* the others are in lru->more */
	struct atomic32 nr[NR_LRU_LISTS]; /* pages in all slices, read anywhere */
	struct atomic32 next_slice; /* whose tail is looked at first */
	struct atomic64 age; /* evictions and activations here: refault clock */
	struct atomic32 objcg; /* this member's handle of the group; see lru_objcg() */
	/* compressed objects of the group, by store time (zswap/) */
	struct mutex zlru_lock;
	struct ilist zlru; /* (zlru_lock) of slots */
	u32 packed; /* (zlru_lock) repack.c has been from its cold end to here; 0: nowhere */
	struct counter64 nr_soft_hits;
	struct atomic32 turn; /* reclaim of this subtree: the group that was last */
	/* (kswapd) reclaim/pool_share.c */
	u32 pool_share; /* of memory.max, see there; 0: not set yet */
	u32 share_wait, share_left; /* looks between tries, and until the next */
	bool share_trying;
	u64 seen_zswpin, seen_pswpin; /* at the last look */
};

/* A scan, by the pages it faults on.  Guesses, without a lock. */
struct lru_stream {
	struct atomic64 start, next; /* pages of the address space */
	struct atomic32 nr; /* of its pages that were told apart */
};

/* Where there was one that was longer than memory. */
struct lru_range {
	struct atomic64 start, end;
};

#define LRU_STREAMS 8u
#define LRU_RANGES 4u

struct lru {
	struct mm *mm; /* (C) */
	struct memcg_tree *tree; /* (C) */
	struct lruvec *vec; /* (C) indexed by memcg id; sparse */
	struct lru_slice *more; /* (C) LRU_SLICES_MAX - 1 a memcg id; sparse */
	u32 nr_vecs; /* (C) */
	u32 nr_slices, slice_shift; /* (C) see lru_set_slices() */
	struct lru_stream stream[LRU_STREAMS];
	struct lru_range range[LRU_RANGES];
	struct atomic32 next_stream, next_range; /* to be replaced */
};

int QUIRE_MUST_CHECK lru_init(struct lru *lru, struct mm *mm, struct memcg_tree *tree);
void lru_exit(struct lru *lru);
/* Before any page is listed: nr slices (at most LRU_SLICES_MAX) a group, 1 << shift
 * pages in a row in each. */
void lru_set_slices(struct lru *lru, u32 nr, u32 shift);
/* Memory of the lruvecs of the groups there are. */
u64 lru_bytes(const struct lru *lru);

static inline struct lruvec *lruvec_of(const struct lru *lru, struct memcg_id id)
{
	return &lru->vec[id.v];
}

static inline struct lru_slice *lru_slice(const struct lru *lru, struct memcg_id id, u32 n)
{
	return n ? &lru->more[id.v * (LRU_SLICES_MAX - 1) + n - 1] : &lru->vec[id.v].first;
}

/* All slices of a group, in order; nested: the second of two groups. */
void lru_lock_all(struct lru *lru, struct memcg_id id, bool nested);
void lru_unlock_all(struct lru *lru, struct memcg_id id);

static inline u32 lruvec_nr(const struct lruvec *v, enum lru_list l)
{
	return atomic32_peek(&v->nr[l]);
}

/*
 * The handle new charges of the engine to group id go through: one reference a
 * group, which the engine lets go when the group was removed (engine/group.c).
 * 0 or -ENOSPC.
 */
int QUIRE_MUST_CHECK lru_objcg(struct lru *lru, struct memcg_id id, struct objcg_id *ret);

/* Which list the page's flags call for. */
enum lru_list lru_list_of(const struct page *page);

/*
 * Put an owned page on the head of its list (tail: next to go) and give up
 * ownership.  Returns false when PG_DEAD was left meanwhile: the page is off
 * every list and still owned; the caller frees it.
 */
bool QUIRE_MUST_CHECK lru_putback(struct lru *lru, struct page_id id, bool tail);
/* Take a page off its list: caller owns it (page_isolate/page_kill said true). */
void lru_del(struct lru *lru, struct page_id id);
/* Become owner and take it off its list; false: another party owns it. */
bool QUIRE_MUST_CHECK lru_isolate(struct lru *lru, struct page_id id);
/* Up to nr pages from the tail of a list, owned and off the list. */
u32 lru_isolate_tail(struct lru *lru, struct memcg_id id, enum lru_list list, u32 nr,
		     struct page_id *ret_pages);

/* The same from the list whose turn it is: STREAM, but for what was read ahead, or
 * INACTIVE. */
u32 lru_isolate_cold(struct lru *lru, struct memcg_id id, u32 nr, struct page_id *ret_pages);

/*
 * A page of the group comes back in at address vpn: is it part of a scan that is longer
 * than what the group has in memory, and should it leave again before all others?  It
 * says no for some of them: what is in memory may be of less use than these.
 */
bool lru_in_stream(struct lru *lru, struct memcg_id id, u64 vpn);

/* Balance: move up to nr pages from the active tail to the inactive head when
 * inactive is low (algorithms.md 4.5); pages looked at. */
u32 lru_refill_inactive(struct lru *lru, struct memcg_id id, u32 nr);
bool lru_inactive_is_low(const struct lru *lru, struct memcg_id id);

/* All lists of a removed group go to its parent; both locks held, and the charge
 * handles flipped under them. */
void lru_reparent_locked(struct lru *lru, struct memcg_id child, struct memcg_id parent);

/* ---- workingset ------------------------------------------------------------ */

/* Evictions and activations of the group since a page left that bears this trace. */
u32 workingset_age(const struct lruvec *v, u32 shadow);
/* The trace left in a slot when a page leaves: clock and workingset bit. */
u32 workingset_eviction(struct lru *lru, struct objcg_id o, bool workingset);
/* A page comes back from the store: it was away for no longer than it takes to
 * replace all that is in memory, compressed pages included.  Such a page belongs
 * into the pool, not on the device, when it leaves again. */
bool workingset_fits_pool(const struct lru *lru, struct objcg_id o, u32 shadow);
/* A page came back to address vpn: the flags it starts with, PG_ACTIVE among them or
 * PG_STREAM.  Counts refaults. */
u32 workingset_refault(struct lru *lru, struct objcg_id o, u32 shadow, u64 vpn);

void lru_check(struct lru *lru);
void lruvec_to_text(const struct lru *lru, struct memcg_id id, struct fmt *out);

#endif
