/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zswap.h - compressed first: the pool of compressed pages and the way on to
 * the store.
 *
 * zswap_store() takes a page's content and says where it is kept: a word (same-
 * filled), the pool, or nowhere (incompressible or over a limit; the caller
 * then tries zswap_store_out()).  zswap_writeback() moves cold objects from the
 * pool to the store *in compressed form*.
 *
 * Lock order: cluster -> zswap LRU -> class.  Writeback goes upwards (pool to
 * slot): it takes the slot's number off the LRU, drops everything, locks the
 * cluster and verifies (algorithms.md 4.7).
 */
#ifndef QUIRE_ZSWAP_ZSWAP_H
#define QUIRE_ZSWAP_ZSWAP_H

#include "store/store.h"
#include "swap/slot.h"
#include "zswap/codec.h"
#include "zswap/zsmalloc.h"

/* Objects of one writeback batch: 64 x at most a page, one put. */
#define WRITEBACK_BATCH 32u

struct zswap {
	struct swap *swap; /* (C) */
	struct memcg_tree *tree; /* (C) */
	struct lru *lru; /* (C) */
	struct zspool *pool; /* (C) from zswap_open_pool() on, which no other thread sees */
	struct atomic64 store; /* struct store *, set once when it is opened; 0: none */
	struct swap_ops swap_ops; /* (C) what swap/ calls back */
	bool pool_enabled; /* (C) */
	struct counter64 nr_stored, nr_filled, nr_reject_compress, nr_reject_limit;
	struct counter64 nr_reject_alloc, nr_written_back, nr_wb_error;
	struct counter64 nr_hash_mismatch;
	struct counter64 nr_repacked, bytes_repacked; /* objects, and what that saved */
};

/* The store behind the pool, NULL while none is open. */
static inline struct store *zswap_backing(const struct zswap *z)
{
	return (struct store *)atomic64_load(&z->store);
}

void zswap_init(struct zswap *z, struct swap *swap, struct memcg_tree *tree, struct lru *lru,
		bool pool_enabled);
/* The pool, before the first page leaves.  Nothing to do when it is there. */
int QUIRE_MUST_CHECK zswap_open_pool(struct zswap *z, struct meta *meta, u64 pool_max);
void zswap_exit(struct zswap *z);

/* Would the pool take a page of o now?  No: it is off, or a group's share is full. */
bool zswap_takes(struct zswap *z, struct objcg_id o);
/*
 * Keep the page at `content` (a frame: nobody changes it) for objcg o.
 * r->kind is FILLED, ZSWAP, or FRAME: not kept;
 * in that case the hash is valid and *ret_why says why.
 */
enum zswap_refusal { ZSWAP_INCOMPRESSIBLE, ZSWAP_LIMIT, ZSWAP_NO_MEMORY, ZSWAP_OFF };
void zswap_store(struct zswap *z, struct codec *codec, struct objcg_id o, const void *content,
		 struct pageout_result *r, enum zswap_refusal *ret_why);
/* After the slot holds the result: onto the LRU (shrinkers meet only finished
 * entries), and counted.  Undo: the result was not used. */
void zswap_stored(struct zswap *z, struct slot_id id, struct objcg_id o,
		  const struct pageout_result *r);
void zswap_undo(struct zswap *z, struct objcg_id o, const struct pageout_result *r);
/* The page of a clean copy left again, its pte still locked: onto the LRU, if a writeback
 * took it off and found the page in memory. */
void zswap_relist(struct zswap *z, struct slot_id id);

/*
 * What the pool refused goes to the store, in one put: incompressible pages as
 * they are, others compressed first (into buf, nr pages of work memory).  r[] has
 * the hashes already and receives the places.  0, -ENOSPC, -EIO, -ENOMEM: nothing
 * was written.
 */
int QUIRE_MUST_CHECK zswap_store_out(struct zswap *z, struct codec *codec, u8 *buf,
				     const void *const *content, const enum zswap_refusal *why,
				     const struct slot_id *ids, u32 nr, struct pageout_result *r);

/*
 * The bytes of a FILLED or ZSWAP slot into `page`; pte lock held, slot kept.
 * 0, -EIO (hash mismatch: lost), -EAGAIN: it is in the store, read it.
 */
int QUIRE_MUST_CHECK zswap_load(struct zswap *z, struct codec *codec, struct slot_id id,
				void *page);
/* What a store read needs, and the end of it: data as read -> page.  0 or -EIO. */
bool zswap_store_place(struct zswap *z, struct slot_id id, struct store_loc *ret_loc, u32 *ret_len,
		       bool *ret_raw);
int QUIRE_MUST_CHECK zswap_finish_read(struct zswap *z, struct slot_id id, const void *data,
				       u32 len, bool raw, void *page);

/*
 * Write back up to nr cold objects of exactly this group; number moved (or
 * dropped on the way), or -ENOSPC, -EIO, -EOPNOTSUPP (nothing moved).
 * `buf` is work memory of WRITEBACK_BATCH pages.
 */
long zswap_writeback(struct zswap *z, struct memcg_id id, u32 nr, u8 *buf);
/* A slot that is out becomes another group's, and its object goes to that group's
 * list; charges are the caller's.  pte and cluster locked, nobody busy. */
void zswap_move_owner(struct zswap *z, struct slot_id id, struct objcg_id to);
/* Live-ness of a stored object, for the store's cleaner. */
void zswap_clean_ops(struct zswap *z, struct store_clean_ops *ret);
/*
 * Up to nr of the coldest objects of exactly this group, where they are cold, smaller
 * than they were: objects tried.  Work memory comes from meta, for the time of the call.
 * On a reclaim thread.
 */
u32 zswap_repack(struct zswap *z, struct meta *meta, struct memcg_id memcg, u32 nr);
/* The zswap LRU of a removed group goes to its parent; both zlru locks held. */
void zswap_reparent_locked(struct zswap *z, struct memcg_id child, struct memcg_id parent);

void zswap_to_text(struct zswap *z, struct fmt *out);

#endif
