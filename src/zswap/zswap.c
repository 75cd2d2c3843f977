/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zswap.c - keeping pages as a word or compressed, and bringing them back.
 *
 * Owns: what is charged for compressed bytes, the zswap LRU of a group, the end
 * of a copy (invalidate).  Does not own slots (swap/), the pool's memory
 * (zsmalloc.c) nor the way to the store (writeback.c).
 * Invariant J1: a slot that is freed loses its copy, charge and LRU place under
 * its cluster lock, in invalidate().
 */
#include "zswap/zswap.h"

#include <errno.h>
#include <string.h>

#include "base/fmt.h"
#include "base/mutant.h"
#include "zswap/internal.h"

void zswap_zlru_add(struct zswap *z, struct lruvec *v, struct slot_id id, bool tail)
{
	if (tail)
		ilist_add_tail(&v->zlru, zswap_zlru_in(z), id.v);
	else
		ilist_add_head(&v->zlru, zswap_zlru_in(z), id.v);
}

void zswap_zlru_del(struct zswap *z, struct lruvec *v, struct slot_id id)
{
	/* The one before it is what was packed last, or the end. */
	if (v->packed == id.v)
		v->packed = slot_at(z->swap, id)->zlru.next;
	ilist_del(&v->zlru, zswap_zlru_in(z), id.v);
	slot_at(z->swap, id)->zlru.prev = ZLRU_OFF;
}

struct lruvec *zswap_lock_zlru(struct zswap *z, struct objcg_id o)
{
	for (;;) {
		struct memcg_id id = objcg_lists(z->tree, o);
		struct lruvec *v = lruvec_of(z->lru, id);

		mutex_lock(&v->zlru_lock);
		if (MUTANT(zlru_not_verified) || objcg_lists(z->tree, o).v == id.v)
			return v;
		mutex_unlock(&v->zlru_lock);
	}
}

void zswap_count_copy(struct zswap *z, struct objcg_id o, enum slot_kind kind, u32 len, s64 sign)
{
	switch (kind) {
	case SLOT_FILLED:
		memcg_stat_add(z->tree, o, MEMCG_STAT_FILLED, sign);
		break;
	case SLOT_ZSWAP:
		memcg_stat_add(z->tree, o, MEMCG_STAT_ZSWAPPED, sign);
		break;
	case SLOT_STORE:
		memcg_stat_add(z->tree, o, MEMCG_STAT_STORED, sign);
		memcg_stat_add(z->tree, o, MEMCG_STAT_STORED_BYTES, sign * len);
		break;
	default:
		break;
	}
}

/* struct swap_ops: cluster lock held, nobody busy with the slot. */
static void invalidate(void *ctx, struct slot_id id, struct slot *slot)
{
	struct zswap *z = ctx;
	struct objcg_id o = { slot->objcg };
	enum slot_kind kind = slot_kind(slot);
	u32 len = slot_len(slot);
	struct lruvec *v;

	zswap_count_copy(z, o, kind, len, -1);
	if (kind == SLOT_STORE) {
		zswap_backing(z)->ops->free(zswap_backing(z), (struct store_loc){ slot_loc(slot) },
					    len);
		return;
	}
	if (kind != SLOT_ZSWAP)
		return;
	/* Off the list before the object goes: writeback trusts what it finds
	 * listed while it holds the list's lock. */
	v = zswap_lock_zlru(z, o);
	if (slot->zlru.prev != ZLRU_OFF)
		zswap_zlru_del(z, v, id);
	mutex_unlock(&v->zlru_lock);
	zs_free(z->pool, (struct zs_handle){ (u32)slot_loc(slot) }, len);
	memcg_zswap_uncharge(z->tree, o, zs_charged_size(z->pool, len));
}

void zswap_move_owner(struct zswap *z, struct slot_id id, struct objcg_id to)
{
	struct slot *slot = slot_at(z->swap, id);
	struct objcg_id from = { slot->objcg };
	enum slot_kind kind = slot_kind(slot);
	u32 len = slot_len(slot);
	struct lruvec *v;

	zswap_count_copy(z, from, kind, len, -1);
	zswap_count_copy(z, to, kind, len, 1);
	if (kind != SLOT_ZSWAP || MUTANT(assign_keeps_list)) {
		slot->objcg = to.v;
		return;
	}
	v = zswap_lock_zlru(z, from);
	if (slot->zlru.prev != ZLRU_OFF)
		zswap_zlru_del(z, v, id);
	mutex_unlock(&v->zlru_lock);
	slot->objcg = to.v;
	/* Also when it was on none: who has just stored it, or wanted to write it back,
	 * finds that it is listed and leaves it. */
	v = zswap_lock_zlru(z, to);
	zswap_zlru_add(z, v, id, false);
	mutex_unlock(&v->zlru_lock);
}

void zswap_init(struct zswap *z, struct swap *swap, struct memcg_tree *tree, struct lru *lru,
		bool pool_enabled)
{
	z->swap = swap;
	z->tree = tree;
	z->lru = lru;
	z->pool_enabled = pool_enabled;
	z->swap_ops.invalidate = invalidate;
	z->swap_ops.ctx = z;
}

int zswap_open_pool(struct zswap *z, struct meta *meta, u64 pool_max)
{
	return z->pool ? 0 : zspool_create(meta, pool_max, &z->pool);
}

void zswap_exit(struct zswap *z)
{
	if (z->pool)
		zspool_destroy(z->pool);
}

static bool reject(struct zswap *z, struct objcg_id o, enum zswap_refusal why,
		   enum zswap_refusal *ret_why)
{
	struct counter64 *counter[] = {
		[ZSWAP_INCOMPRESSIBLE] = &z->nr_reject_compress,
		[ZSWAP_LIMIT] = &z->nr_reject_limit,
		[ZSWAP_NO_MEMORY] = &z->nr_reject_alloc,
	};

	if (why < ARRAY_SIZE(counter))
		stat_add(counter[why], 1);
	if (why == ZSWAP_INCOMPRESSIBLE)
		memcg_stat_add(z->tree, o, MEMCG_STAT_INCOMPRESSIBLE, 1);
	*ret_why = why;
	return false;
}

bool zswap_takes(struct zswap *z, struct objcg_id o)
{
	struct memcg_id over;

	return z->pool_enabled && memcg_zswap_may(z->tree, o, &over);
}

static bool compress_into_pool(struct zswap *z, struct codec *codec, struct objcg_id o,
			       const void *content, struct pageout_result *r,
			       enum zswap_refusal *ret_why)
{
	struct memcg_id over;
	struct zs_handle handle;

	if (!z->pool_enabled)
		return reject(z, o, ZSWAP_OFF, ret_why);
	if (!memcg_zswap_may(z->tree, o, &over))
		return reject(z, o, ZSWAP_LIMIT, ret_why);
	r->len = codec_compress(codec, content);
	if (!r->len)
		return reject(z, o, ZSWAP_INCOMPRESSIBLE, ret_why);
	if (zs_store(z->pool, codec->out, r->len, &handle))
		return reject(z, o, ZSWAP_NO_MEMORY, ret_why);
	memcg_zswap_charge(z->tree, o, zs_charged_size(z->pool, r->len));
	r->kind = SLOT_ZSWAP;
	r->loc = handle.v;
	return true;
}

void zswap_store(struct zswap *z, struct codec *codec, struct objcg_id o, const void *content,
		 struct pageout_result *r, enum zswap_refusal *ret_why)
{
	struct page_hash hash;
	u64 word;

	memset(r, 0, sizeof(*r));
	r->kind = SLOT_FRAME;
	if (page_same_filled(content, &word)) {
		r->kind = SLOT_FILLED;
		r->hash_lo = word;
		stat_add(&z->nr_filled, 1);
		memcg_stat_add(z->tree, o, MEMCG_STAT_SWPOUT_ZERO, 1);
		zswap_count_copy(z, o, SLOT_FILLED, 0, 1);
		return;
	}
	hash = page_hash(content);
	r->hash_lo = hash.lo;
	r->hash_hi = hash.hi;
	if (!compress_into_pool(z, codec, o, content, r, ret_why))
		return;
	stat_add(&z->nr_stored, 1);
	memcg_stat_add(z->tree, o, MEMCG_STAT_ZSWPOUT, 1);
	memcg_stat_add(z->tree, o, MEMCG_STAT_ZSWPOUT_BYTES, r->len);
	zswap_count_copy(z, o, SLOT_ZSWAP, r->len, 1);
}

void zswap_stored(struct zswap *z, struct slot_id id, struct objcg_id o,
		  const struct pageout_result *r)
{
	struct slot *slot = slot_at(z->swap, id);
	struct lruvec *v;

	if (r->kind != SLOT_ZSWAP)
		return;
	slot_lock(z->swap, id);
	/* The slot may have been freed since the result was installed: a swap-in
	 * may have run already.  Only an entry that is still ours is listed; not one
	 * that a writeback has claimed, which took the number off the list in its
	 * former life: that one lists it if the write fails. */
	if ((slot_kind(slot) == SLOT_ZSWAP && slot_loc(slot) == r->loc && slot->objcg == o.v &&
	     (!(slot_flags(slot) & SLOT_WB) || MUTANT(stored_while_claimed))) ||
	    MUTANT(stored_not_verified)) {
		v = zswap_lock_zlru(z, o);
		if (slot->zlru.prev == ZLRU_OFF)
			zswap_zlru_add(z, v, id, false);
		mutex_unlock(&v->zlru_lock);
	}
	slot_unlock(z->swap, id);
}

void zswap_relist(struct zswap *z, struct slot_id id)
{
	const struct slot *slot = slot_at(z->swap, id);
	u64 where = where_of(slot);

	zswap_stored(z, id, (struct objcg_id){ slot->objcg },
		     &(struct pageout_result){ .kind = where_kind(where),
					       .loc = where_loc(where) });
}

void zswap_undo(struct zswap *z, struct objcg_id o, const struct pageout_result *r)
{
	zswap_count_copy(z, o, r->kind, r->len, -1);
	if (r->kind == SLOT_ZSWAP) {
		zs_free(z->pool, (struct zs_handle){ (u32)r->loc }, r->len);
		memcg_zswap_uncharge(z->tree, o, zs_charged_size(z->pool, r->len));
	} else if (r->kind == SLOT_STORE) {
		zswap_backing(z)->ops->free(zswap_backing(z), (struct store_loc){ r->loc }, r->len);
	}
}

static int verify(struct zswap *z, const void *page, u64 lo, u64 hi)
{
	struct page_hash h = page_hash(page);

	if (likely(h.lo == lo && h.hi == hi))
		return 0;
	stat_add(&z->nr_hash_mismatch, 1);
	return -EIO;
}

int zswap_load(struct zswap *z, struct codec *codec, struct slot_id id, void *page)
{
	const struct slot *slot = slot_at(z->swap, id);
	struct objcg_id o;
	u64 where, lo, hi;

	slot_lock(z->swap, id);
	where = where_of(slot);
	lo = slot->hash_lo;
	hi = slot->hash_hi;
	o.v = slot->objcg;
	if (MUTANT(load_without_lock))
		slot_unlock(z->swap, id);
	/* Copied out under the lock, which takes 0.2 us; decompressed without.
	 * Writeback may move the object meanwhile, we do not care. */
	if (where_kind(where) == SLOT_ZSWAP)
		zs_load(z->pool, (struct zs_handle){ (u32)where_loc(where) }, where_len(where),
			codec->out);
	if (!MUTANT(load_without_lock))
		slot_unlock(z->swap, id);

	switch (where_kind(where)) {
	case SLOT_FILLED:
		page_fill(page, lo);
		memcg_stat_add(z->tree, o, MEMCG_STAT_SWPIN_ZERO, 1);
		return 0;
	case SLOT_ZSWAP:
		if (codec_decompress(codec->out, where_len(where), page)) {
			stat_add(&z->nr_hash_mismatch, 1);
			return -EIO;
		}
		memcg_stat_add(z->tree, o, MEMCG_STAT_ZSWPIN, 1);
		return verify(z, page, lo, hi);
	case SLOT_STORE:
		return -EAGAIN;
	default:
		assert_failed("slot has bytes", __FILE__, __LINE__);
	}
}

bool zswap_store_place(struct zswap *z, struct slot_id id, struct store_loc *ret_loc, u32 *ret_len,
		       bool *ret_raw)
{
	struct slot *slot = slot_at(z->swap, id);
	u64 where;

	slot_lock(z->swap, id);
	where = where_of(slot);
	slot_unlock(z->swap, id);
	if (where_kind(where) != SLOT_STORE)
		return false;
	ret_loc->v = where_loc(where);
	*ret_len = where_len(where);
	*ret_raw = where_flags(where) & SLOT_RAW;
	return true;
}

int zswap_finish_read(struct zswap *z, struct slot_id id, const void *data, u32 len, bool raw,
		      void *page)
{
	struct slot *slot = slot_at(z->swap, id);
	u64 lo, hi;

	slot_lock(z->swap, id);
	lo = slot->hash_lo;
	hi = slot->hash_hi;
	slot_unlock(z->swap, id);
	memcg_stat_add(z->tree, (struct objcg_id){ slot->objcg }, MEMCG_STAT_PSWPIN, 1);
	if (raw) {
		memcpy(page, data, PAGE_SIZE);
	} else if (codec_decompress(data, len, page)) {
		stat_add(&z->nr_hash_mismatch, 1);
		return -EIO;
	}
	return verify(z, page, lo, hi);
}

void zswap_to_text(struct zswap *z, struct fmt *out)
{
	fmt_add(out,
		"zswap: stored %llu filled %llu written_back %llu reject_compress %llu "
		"reject_limit %llu reject_alloc %llu wb_error %llu mismatch %llu repacked %llu "
		"saving %llu bytes\n",
		(unsigned long long)stat_read(&z->nr_stored),
		(unsigned long long)stat_read(&z->nr_filled),
		(unsigned long long)stat_read(&z->nr_written_back),
		(unsigned long long)stat_read(&z->nr_reject_compress),
		(unsigned long long)stat_read(&z->nr_reject_limit),
		(unsigned long long)stat_read(&z->nr_reject_alloc),
		(unsigned long long)stat_read(&z->nr_wb_error),
		(unsigned long long)stat_read(&z->nr_hash_mismatch),
		(unsigned long long)stat_read(&z->nr_repacked),
		(unsigned long long)stat_read(&z->bytes_repacked));
	if (z->pool)
		zspool_to_text(z->pool, out);
}
