/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repack.c - objects that nobody has wanted for long, denser.
 *
 * Owns nothing.  LZ4HC takes three times LZ4's time (24 us for 9) and leaves 0.85 of its
 * bytes of heap-like data, 0.89 of text; it is read back as fast.  So it is not for what
 * comes and goes, but for what has stayed while the pool's content was replaced several
 * times.  Like writeback, it claims an object by SLOT_WB and copies it; its end is another
 * object in the same pool.  Until then the old one is the truth (J2), and a note left
 * meanwhile (SLOT_DEAD) is honoured.
 *
 * The cold end of a zswap LRU is what was packed already, and before it, at lruvec.packed,
 * what is next.  Batches lie there in reverse order: all of them are cold.  An object put
 * behind that mark by others is tried when the mark is lost, or never.
 * Entry point: zswap_repack().  Lock ranks: as writeback.c.
 */
#include <string.h>

#include "base/mutant.h"
#include "zswap/internal.h"

/* So often the pool has been replaced since: of objects that are wanted at random,
 * exp(-6) stay so long. */
#define REPACK_AGE 6u
#define REPACK_BATCH 16u
/* Packed ones gone over under the lock, where lruvec.packed is lost. */
#define REPACK_LOOKS 64u

struct repack {
	struct codec_dense codec;
	u8 object[PAGE_SIZE];
	u8 page[PAGE_SIZE];
};

static u32 next_to_pack(const struct zswap *z, const struct lruvec *v)
{
	return v->packed ? slot_at(z->swap, (struct slot_id){ v->packed })->zlru.prev :
			   v->zlru.tail;
}

/* zlru_lock held.  The coldest object that was not tried yet, if it is cold; 0: none. */
static u32 coldest(struct zswap *z, struct lruvec *v)
{
	u32 i = next_to_pack(z, v);

	for (u32 n = 0; i && n < REPACK_LOOKS; n++) {
		const struct slot *slot = slot_at(z->swap, (struct slot_id){ i });
		bool cached = slot_flags(slot) & SLOT_CACHED; /* the shadow is none */

		if (!cached && workingset_age(v, slot->shadow) < REPACK_AGE * v->zlru.nr)
			return 0;
		if (!cached && !(slot_flags(slot) & SLOT_DENSE))
			return i;
		v->packed = i;
		i = slot->zlru.prev;
	}
	return 0;
}

static u32 isolate_cold(struct zswap *z, struct lruvec *v, u32 nr, struct zswap_victim *ret)
{
	u32 got = 0, i;

	mutex_lock(&v->zlru_lock);
	while (got < nr && (i = coldest(z, v))) {
		ret[got].id.v = i;
		/* Stable while listed, as for writeback. */
		ret[got].where = where_of(slot_at(z->swap, ret[got].id));
		zswap_zlru_del(z, v, ret[got].id);
		got++;
	}
	mutex_unlock(&v->zlru_lock);
	return got;
}

/* The slot names the new object, if that is worth it and nobody has dropped it. */
static void finish(struct zswap *z, const struct zswap_victim *v, u32 new_len,
		   struct zs_handle new_object)
{
	struct slot *slot = slot_at(z->swap, v->id);
	u32 len = where_len(v->where), flags;
	struct lruvec *vec;

	slot_lock(z->swap, v->id);
	flags = slot_flags(slot) & ~SLOT_WB;
	if (flags & SLOT_DEAD && !MUTANT(repack_ignores_note)) {
		slot_set_flags(slot, 0, SLOT_WB | SLOT_DEAD);
		slot_free_unlock(z->swap, NULL, v->id);
		zs_free(z->pool, new_object, new_len);
		memcg_zswap_uncharge(z->tree, v->objcg, zs_charged_size(z->pool, new_len));
		return;
	}
	zs_free(z->pool, (struct zs_handle){ (u32)where_loc(v->where) }, len);
	memcg_zswap_uncharge(z->tree, v->objcg, zs_charged_size(z->pool, len));
	where_set(slot, slot_where(SLOT_ZSWAP, flags | SLOT_DENSE, new_len, new_object.v));
	vec = zswap_lock_zlru(z, v->objcg);
	zswap_zlru_add(z, vec, v->id, true);
	mutex_unlock(&vec->zlru_lock);
	slot_unlock(z->swap, v->id);
	stat_add(&z->nr_repacked, 1);
	stat_add(&z->bytes_repacked,
		 zs_charged_size(z->pool, len) - zs_charged_size(z->pool, new_len));
}

/* An object that is claimed, its bytes in w. */
static void repack_one(struct zswap *z, struct zswap_victim *v, struct repack *w)
{
	u32 len = where_len(v->where), new_len = 0, size;
	struct zs_handle handle;

	if (!codec_decompress(w->object, len, w->page))
		new_len = codec_compress_dense(&w->codec, w->page);
	size = new_len ? zs_charged_size(z->pool, new_len) : UINT32_MAX;
	if (size >= zs_charged_size(z->pool, len)) {
		zswap_unclaim(z, v, SLOT_DENSE); /* as dense as it gets: not tried again */
		return;
	}
	if (zs_store(z->pool, w->codec.out, new_len, &handle)) {
		zswap_unclaim(z, v, 0);
		return;
	}
	memcg_zswap_charge(z->tree, v->objcg, size);
	finish(z, v, new_len, handle);
}

u32 zswap_repack(struct zswap *z, struct meta *meta, struct memcg_id memcg, u32 nr)
{
	struct lruvec *v = lruvec_of(z->lru, memcg);
	struct zswap_victim victims[REPACK_BATCH];
	struct repack *w;
	u32 done = 0, got;
	bool any;

	if (!z->pool || !ilist_peek_nr(&v->zlru))
		return 0;
	mutex_lock(&v->zlru_lock);
	any = coldest(z, v);
	mutex_unlock(&v->zlru_lock);
	w = any ? meta_alloc(meta, sizeof(*w)) : NULL;
	if (!w)
		return 0;
	while (done < nr) {
		got = isolate_cold(z, v, min_of(nr - done, REPACK_BATCH), victims);
		/* The coldest last: it goes to the very end of the list. */
		for (u32 i = got; i--;)
			if (zswap_claim(z, &victims[i], w->object))
				repack_one(z, &victims[i], w);
		done += got;
		if (got < REPACK_BATCH)
			break;
	}
	meta_free(meta, w, sizeof(*w));
	return done;
}
