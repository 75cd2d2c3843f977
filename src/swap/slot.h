/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot.h - the record of a page that has left memory or is leaving: 40 bytes.
 *
 * The one synchronisation object for such a page (races.md 1.5): who pays,
 * where the bytes are, what they hash to, the trace for refault judgement.
 * There is no separate "has cache" flag and no way around the slot.
 *
 *   kind     bytes are                                  table reference
 *   FREE     -                                          none
 *   FRAME    in the frame of page `loc` (swap cache)    pte is SWAP
 *   FILLED   one word repeated, in hash.lo              pte is SWAP, or CACHED
 *   ZSWAP    compressed in the pool, handle `loc`       pte is SWAP, or CACHED
 *   STORE    (compressed or raw) in the store at `loc`  pte is SWAP, or CACHED
 *
 *   FREE -> FRAME          unmap: swap_cache_add()
 *   FRAME -> FREE          soft fault: swap_cache_end_take(); zap: slot_drop()
 *   FRAME -> FILLED|ZSWAP|STORE   pageout: swap_cache_end_pageout()
 *   ZSWAP -> ZSWAP         a denser object: zswap_repack()
 *   ZSWAP -> STORE         writeback: zswap_writeback()
 *   STORE -> STORE         the cleaner moved it
 *   FILLED|ZSWAP|STORE -> FREE    swap-in, zap: slot_drop()
 *
 * Flags say who else is busy with the slot; all under its cluster lock (S):
 *   BUSY   pageout owns the frame and reads it
 *   STEAL  a fault copies out of that frame; it holds the pte lock
 *   WB     writeback has copied the object and is writing it, or repacking it
 *   DEAD   the last table reference is gone; whoever set BUSY or WB frees the
 *          slot when it is done (S0: the note, consumed by the lock holder)
 *   CACHED the page is mapped again and this copy is still true: clean copy;
 *          `shadow` holds the page id meanwhile; never together with WB
 */
#ifndef QUIRE_SWAP_SLOT_H
#define QUIRE_SWAP_SLOT_H

#include "lru/lru.h"
#include "page/mm.h"

enum slot_kind {
	SLOT_FREE = 0,
	SLOT_FRAME,
	SLOT_FILLED,
	SLOT_ZSWAP,
	SLOT_STORE,
};

#define SLOT_BUSY 0x01u
#define SLOT_STEAL 0x02u
#define SLOT_WB 0x04u
#define SLOT_DEAD 0x08u
#define SLOT_CACHED 0x10u
#define SLOT_RAW 0x40u /* STORE: not compressed */
#define SLOT_DENSE 0x20u /* ZSWAP: repacked, or found not to be worth it */

/* kind, flags, length and place in one word: the top 24 bits stay 0 while the
 * slot is on the free list, whatever the list keeps in the low 32. */
#define SLOT_LOC_BITS 40
#define SLOT_LEN_BITS 13
#define SLOT_KIND_BITS 3

#define ZLRU_OFF UINT32_MAX

struct slot {
	struct atomic64 where; /* (S) and read without it as a hint */
	u64 hash_lo; /* (S) XXH3-128 of the page; FILLED: the word */
	u64 hash_hi; /* (S) */
	u32 objcg; /* (S) charged for the slot */
	u32 shadow; /* (S) */
	struct ilist_node zlru; /* (zlru_lock) prev == ZLRU_OFF: on no list */
};

static_assert(sizeof(struct slot) == 40, "metadata budget, design.md 6");
static_assert(SLOT_LOC_BITS + SLOT_LEN_BITS + SLOT_KIND_BITS + 8 == 64, "one word");

static inline u64 slot_where(enum slot_kind kind, u32 flags, u32 len, u64 loc)
{
	return loc | (u64)len << SLOT_LOC_BITS | (u64)kind << (SLOT_LOC_BITS + SLOT_LEN_BITS) |
	       (u64)flags << (SLOT_LOC_BITS + SLOT_LEN_BITS + SLOT_KIND_BITS);
}
static inline u64 where_loc(u64 w)
{
	return w & ((1ull << SLOT_LOC_BITS) - 1);
}
static inline u32 where_len(u64 w)
{
	return (u32)(w >> SLOT_LOC_BITS) & ((1u << SLOT_LEN_BITS) - 1);
}
static inline enum slot_kind where_kind(u64 w)
{
	return (enum slot_kind)(w >> (SLOT_LOC_BITS + SLOT_LEN_BITS) &
				((1u << SLOT_KIND_BITS) - 1));
}
static inline u32 where_flags(u64 w)
{
	return (u32)(w >> (SLOT_LOC_BITS + SLOT_LEN_BITS + SLOT_KIND_BITS));
}

/* Without the cluster lock what these say may be over: a hint. */
static inline u64 where_of(const struct slot *slot)
{
	return atomic64_peek(&slot->where);
}
static inline u64 slot_loc(const struct slot *slot)
{
	return where_loc(where_of(slot));
}
static inline u32 slot_len(const struct slot *slot)
{
	return where_len(where_of(slot));
}
static inline enum slot_kind slot_kind(const struct slot *slot)
{
	return where_kind(where_of(slot));
}
static inline u32 slot_flags(const struct slot *slot)
{
	return where_flags(where_of(slot));
}
/* With it. */
static inline void where_set(struct slot *slot, u64 w)
{
	atomic64_poke(&slot->where, w);
}
static inline void slot_set_flags(struct slot *slot, u32 set, u32 clear)
{
	where_set(slot, (where_of(slot) | slot_where(SLOT_FREE, set, 0, 0)) &
				~slot_where(SLOT_FREE, clear, 0, 0));
}

#define CLUSTER_SHIFT 9 /* 512 slots, algorithms.md 4.9 */
#define CLUSTERS_MAX (1u << 17) /* 67 M slots: 256 GiB out */

/* Free slot numbers held by one engine thread; nothing is charged for them. */
#define SLOT_CACHE_SIZE 64
struct slot_cache {
	u32 nr;
	u32 slot[SLOT_CACHE_SIZE];
};

/* swap -> zswap: the copy of a dying slot goes (J1).  Cluster lock held. */
struct swap_ops {
	void (*invalidate)(void *ctx, struct slot_id id, struct slot *slot);
	void *ctx;
};

struct swap {
	struct mm *mm; /* (C) */
	struct memcg_tree *tree; /* (C) */
	struct lru *lru; /* (C) */
	const struct swap_ops *ops; /* (C) */
	struct xtable slots;
	struct mutex *cluster; /* (C) CLUSTERS_MAX locks */
	struct counter64 nr_full; /* allocations refused: no slot numbers left */
};

int QUIRE_MUST_CHECK swap_init(struct swap *s, struct mm *mm, struct memcg_tree *tree,
			       struct lru *lru, const struct swap_ops *ops);
void swap_exit(struct swap *s);

static inline struct slot *slot_at(const struct swap *s, struct slot_id id)
{
	return xtable_at(&s->slots, id.v);
}

void slot_lock(struct swap *s, struct slot_id id);
void slot_unlock(struct swap *s, struct slot_id id);

/*
 * A slot charged to o (swap.max), kind FREE, for a page about to leave.
 * 0, -ENOMEM (swap.max said no), -ENOSPC (numbers exhausted).
 */
int QUIRE_MUST_CHECK slot_alloc(struct swap *s, struct slot_cache *cache, struct objcg_id o,
				struct slot_id *ret);
/*
 * The last table reference goes; pte lock held.  Everything keyed by the slot is
 * released at once, O(1): copy, charge, shadow (J1).  When pageout or writeback
 * is busy with it, a note is left for them instead.  cache may be NULL.
 */
void slot_drop(struct swap *s, struct slot_cache *cache, struct slot_id id);
/* As slot_drop() with the cluster lock held and nobody busy; unlocks. */
void slot_free_unlock(struct swap *s, struct slot_cache *cache, struct slot_id id);
/* Give the cached numbers back to the table. */
void slot_cache_drain(struct swap *s, struct slot_cache *cache);

void slot_to_text(const struct swap *s, struct slot_id id, struct fmt *out);

/* ---- swap cache: pages with both a frame and a slot ------------------------- */

/* Under the pte lock: the page was moved into its frame; the slot names it.
 * The caller puts the page on the laundry and sets the pte. */
void swap_cache_add(struct swap *s, struct slot_id id, struct page_id page);

enum swap_cache_verdict {
	SWAP_CACHE_MINE, /* page is ours, off the lists; then swap_cache_end_take() */
	SWAP_CACHE_STEAL, /* copy from the frame, then swap_cache_end_steal() */
	SWAP_CACHE_GONE, /* not in a frame: load it */
};
/* A fault wants the page of a slot back; pte lock held. */
enum swap_cache_verdict swap_cache_take(struct swap *s, struct slot_id id,
					struct page_id *ret_page);
/* The page is mapped (or has nowhere to go): its slot ends.  If it cannot be mapped
 * for now: swap_cache_putback() instead. */
void swap_cache_end_take(struct swap *s, struct slot_cache *cache, struct slot_id id,
			 struct page_id page);
/* The copy out of a busy frame is mapped: the slot ends, or its owner ends it. */
void swap_cache_end_steal(struct swap *s, struct slot_cache *cache, struct slot_id id);
/* Nothing could be mapped for now: the page stays where it is. */
void swap_cache_cancel_steal(struct swap *s, struct slot_cache *cache, struct slot_id id);

/*
 * Pageout of an isolated laundry page begins: true, its frame may be read until
 * swap_cache_end_pageout(); false, it died meanwhile and is freed already.
 */
bool QUIRE_MUST_CHECK swap_cache_begin_pageout(struct swap *s, struct slot_cache *cache,
					       struct page_id page, struct slot_id *ret_slot);
/* What became of it. */
struct pageout_result {
	enum slot_kind kind; /* FILLED, ZSWAP, STORE; FRAME: failed, keep the page */
	u32 flags; /* SLOT_RAW */
	u32 len;
	u64 loc;
	u64 hash_lo, hash_hi;
};
enum pageout_verdict {
	PAGEOUT_DONE, /* slot holds the copy; page and frame are the caller's to free */
	PAGEOUT_KEEP, /* failed: the page goes back to the laundry */
	PAGEOUT_STALE, /* dropped or stolen meanwhile: free page, frame, and the new copy */
	PAGEOUT_STOLEN, /* a fault still copies: it frees the page; only drop the new copy */
};
enum pageout_verdict swap_cache_end_pageout(struct swap *s, struct slot_cache *cache,
					    struct slot_id id, const struct pageout_result *r);

/*
 * End of ownership of a page that stays in its frame (PAGEOUT_KEEP, a fault that
 * cannot map it, or it was just unmapped): back on the laundry.  A note left between the end of pageout
 * and now is honoured here.
 */
void swap_cache_putback(struct swap *s, struct slot_cache *cache, struct page_id page, bool tail);

/*
 * Clean copies.  After a swap-in the object may stay: the slot is CACHED, the page
 * remembers it.  At the next unmap the content decides.  Both under the pte lock.
 * False: no, it is of no use, or writeback is busy with it.
 */
bool QUIRE_MUST_CHECK swap_cache_keep(struct swap *s, struct slot_id id, struct page_id page);
/* The copy is no longer true: it goes, the slot stays, kind FREE (as new). */
void swap_cache_forget_copy(struct swap *s, struct slot_id id);
/* The copy is the page again (it was just taken into a frame). */
void swap_cache_reuse_copy(struct swap *s, struct slot_id id, u32 shadow);

/* A page leaves memory for good: frame emptied, charge given back. */
void swap_cache_free_page(struct swap *s, struct memcg_stock *stock, struct page_id page);

#endif
