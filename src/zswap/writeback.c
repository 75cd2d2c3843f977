/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writeback.c - from the pool, or straight from a frame, to the store.
 *
 * Writeback of the pool goes against the lock order (list -> slot), so it takes
 * a victim in three steps: off the zswap LRU under the list's lock, remembering
 * what the slot said; everything dropped; the cluster lock, and verify.  A slot
 * freed meanwhile is recognised, a note (SLOT_DEAD) left while the write is
 * under way is honoured at its end.  The pool's copy stays authoritative until
 * the store has the bytes (J2), so a failed write loses nothing.
 * Lock ranks: ZSWAP_LRU, then CLUSTER and below, never both upwards.
 */
#include <errno.h>
#include <string.h>

#include "base/mutant.h"
#include "base/probe.h"
#include "zswap/internal.h"

/* Step one: coldest objects off the LRU of exactly this group. */
static u32 isolate_victims(struct zswap *z, struct memcg_id memcg, u32 nr, struct zswap_victim *v)
{
	struct lruvec *vec = lruvec_of(z->lru, memcg);
	u32 got = 0;

	mutex_lock(&vec->zlru_lock);
	while (got < nr && vec->zlru.tail) {
		struct slot_id id = { vec->zlru.tail };

		v[got].id = id;
		/* Stable while listed: invalidate() unlists before it frees. */
		v[got].where = where_of(slot_at(z->swap, id));
		zswap_zlru_del(z, vec, id);
		got++;
	}
	mutex_unlock(&vec->zlru_lock);
	return got;
}

/* Cluster lock held; adding takes it too, so a "no" stays true. */
static bool off_the_list(struct zswap *z, const struct slot *slot)
{
	struct lruvec *vec = zswap_lock_zlru(z, (struct objcg_id){ slot->objcg });
	bool off = slot->zlru.prev == ZLRU_OFF;

	mutex_unlock(&vec->zlru_lock);
	return off;
}

/* Steps two and three. */
bool zswap_claim(struct zswap *z, struct zswap_victim *v, u8 *buf)
{
	struct slot *slot = slot_at(z->swap, v->id);
	bool ok = false;

	slot_lock(z->swap, v->id);
	/* Listed again: the number was freed and given to another page, which may even
	 * have got the same handle; that entry is for whoever takes it off the list. */
	if (((slot_kind(slot) == SLOT_ZSWAP && slot_loc(slot) == where_loc(v->where)) ||
	     MUTANT(victim_not_verified)) &&
	    (MUTANT(victim_listed_again) || off_the_list(z, slot)) &&
	    !(slot_flags(slot) & (SLOT_WB | SLOT_DEAD)) &&
	    (!(slot_flags(slot) & SLOT_CACHED) || MUTANT(kept_copy_claimed))) {
		slot_set_flags(slot, SLOT_WB, 0);
		v->where = where_of(slot);
		v->objcg.v = slot->objcg;
		zs_load(z->pool, (struct zs_handle){ (u32)where_loc(v->where) },
			where_len(v->where), buf);
		ok = true;
	}
	slot_unlock(z->swap, v->id);
	return ok;
}

void zswap_unclaim(struct zswap *z, struct zswap_victim *v, u32 flags)
{
	struct slot *slot = slot_at(z->swap, v->id);
	struct lruvec *vec;

	slot_lock(z->swap, v->id);
	slot_set_flags(slot, flags, SLOT_WB);
	if (slot_flags(slot) & SLOT_DEAD && !MUTANT(unclaim_ignores_note)) {
		slot_set_flags(slot, 0, SLOT_DEAD);
		slot_free_unlock(z->swap, NULL, v->id);
		return;
	}
	vec = zswap_lock_zlru(z, v->objcg);
	zswap_zlru_add(z, vec, v->id, true);
	mutex_unlock(&vec->zlru_lock);
	slot_unlock(z->swap, v->id);
}

/* The bytes are in the store: the pool's copy goes, the slot points there.  False: it
 * was dropped meanwhile. */
static bool finish_victim(struct zswap *z, struct zswap_victim *v, struct store_loc loc)
{
	struct slot *slot = slot_at(z->swap, v->id);
	u32 len = where_len(v->where);
	u32 flags;

	slot_lock(z->swap, v->id);
	flags = slot_flags(slot) & ~(SLOT_WB | SLOT_DENSE);
	if (flags & SLOT_DEAD && !MUTANT(writeback_ignores_note)) {
		slot_set_flags(slot, 0, SLOT_WB | SLOT_DEAD);
		slot_free_unlock(z->swap, NULL, v->id);
		zswap_backing(z)->ops->free(zswap_backing(z), loc, len);
		return false;
	}
	zs_free(z->pool, (struct zs_handle){ (u32)where_loc(v->where) }, len);
	memcg_zswap_uncharge(z->tree, v->objcg, zs_charged_size(z->pool, len));
	zswap_count_copy(z, v->objcg, SLOT_ZSWAP, len, -1);
	zswap_count_copy(z, v->objcg, SLOT_STORE, len, 1);
	where_set(slot, slot_where(SLOT_STORE, flags, len, loc.v));
	slot_unlock(z->swap, v->id);
	stat_add(&z->nr_written_back, 1);
	memcg_stat_add(z->tree, v->objcg, MEMCG_STAT_ZSWPWB, 1);
	memcg_stat_add(z->tree, v->objcg, MEMCG_STAT_PSWPOUT, 1);
	PROBE_PAGEOUT(v->id.v, len, SLOT_STORE);
	return true;
}

/* S1: each way it can end has its count, so that nothing is met in vain unseen. */
static void count_ends(struct zswap *z, struct memcg_id memcg, u32 stale, u32 failed)
{
	struct objcg_id o;

	if ((!stale && !failed) || lru_objcg(z->lru, memcg, &o))
		return;
	memcg_stat_add(z->tree, o, MEMCG_STAT_ZSWPWB_STALE, stale);
	memcg_stat_add(z->tree, o, MEMCG_STAT_ZSWPWB_FAILED, failed);
}

long zswap_writeback(struct zswap *z, struct memcg_id memcg, u32 nr, u8 *buf)
{
	struct zswap_victim victims[WRITEBACK_BATCH];
	struct store_put puts[WRITEBACK_BATCH];
	u32 got, kept = 0, stale = 0;
	int err = 0;

	if (!zswap_backing(z) || !memcg_zswap_writeback(z->tree, memcg))
		return -EOPNOTSUPP;
	got = isolate_victims(z, memcg, min_of(nr, WRITEBACK_BATCH), victims);
	for (u32 i = 0; i < got; i++) {
		u8 *to = buf + (size_t)kept * PAGE_SIZE;

		if (!zswap_claim(z, &victims[i], to)) {
			stale++;
			continue;
		}
		victims[kept] = victims[i];
		puts[kept] = (struct store_put){
			to, where_len(victims[i].where), victims[i].id.v, { 0 }
		};
		kept++;
	}
	if (kept)
		err = zswap_backing(z)->ops->put(zswap_backing(z), puts, kept);
	for (u32 i = 0; i < kept; i++) {
		if (err)
			zswap_unclaim(z, &victims[i], 0);
		else
			stale += !finish_victim(z, &victims[i], puts[i].ret_loc);
	}
	if (err)
		stat_add(&z->nr_wb_error, 1);
	count_ends(z, memcg, stale, err ? kept : 0);
	return err ? err : (long)got;
}

int zswap_store_out(struct zswap *z, struct codec *codec, u8 *buf, const void *const *content,
		    const enum zswap_refusal *why, const struct slot_id *ids, u32 nr,
		    struct pageout_result *r)
{
	struct store_put puts[WRITEBACK_BATCH];
	int err;

	quire_assert(nr <= WRITEBACK_BATCH);
	for (u32 i = 0; i < nr; i++) {
		u32 len = why[i] == ZSWAP_INCOMPRESSIBLE ? 0 : codec_compress(codec, content[i]);
		u8 *to = buf + (size_t)i * PAGE_SIZE;

		if (len)
			memcpy(to, codec->out, len);
		puts[i] = (struct store_put){
			len ? to : content[i], len ? len : PAGE_SIZE, ids[i].v, { 0 }
		};
	}
	err = zswap_backing(z)->ops->put(zswap_backing(z), puts, nr);
	if (err) {
		stat_add(&z->nr_wb_error, 1);
		return err;
	}
	for (u32 i = 0; i < nr; i++) {
		struct objcg_id o = { slot_at(z->swap, ids[i])->objcg };

		r[i].kind = SLOT_STORE;
		r[i].flags = puts[i].len == PAGE_SIZE ? SLOT_RAW : 0;
		r[i].len = puts[i].len;
		r[i].loc = puts[i].ret_loc.v;
		zswap_count_copy(z, o, SLOT_STORE, r[i].len, 1);
		memcg_stat_add(z->tree, o, MEMCG_STAT_PSWPOUT, 1);
	}
	return 0;
}

static bool store_object_live(void *ctx, u32 owner, struct store_loc loc)
{
	struct zswap *z = ctx;
	struct slot_id id = { owner };
	bool live;

	if (!xtable_valid(&z->swap->slots, owner))
		return false;
	slot_lock(z->swap, id);
	live = slot_kind(slot_at(z->swap, id)) == SLOT_STORE &&
	       slot_loc(slot_at(z->swap, id)) == loc.v;
	slot_unlock(z->swap, id);
	return live;
}

static bool store_object_moved(void *ctx, u32 owner, struct store_loc from, struct store_loc to)
{
	struct zswap *z = ctx;
	struct slot_id id = { owner };
	struct slot *slot = slot_at(z->swap, id);
	bool live;

	slot_lock(z->swap, id);
	live = (slot_kind(slot) == SLOT_STORE && slot_loc(slot) == from.v) ||
	       MUTANT(moved_not_verified);
	if (live)
		where_set(slot, slot_where(SLOT_STORE, slot_flags(slot), slot_len(slot), to.v));
	slot_unlock(z->swap, id);
	return live;
}

void zswap_clean_ops(struct zswap *z, struct store_clean_ops *ret)
{
	ret->live = store_object_live;
	ret->moved = store_object_moved;
	ret->ctx = z;
}

void zswap_reparent_locked(struct zswap *z, struct memcg_id child, struct memcg_id parent)
{
	struct lruvec *c = lruvec_of(z->lru, child), *p = lruvec_of(z->lru, parent);

	mutex_assert_held(&c->zlru_lock);
	mutex_assert_held(&p->zlru_lock);
	ilist_splice_tail(&p->zlru, &c->zlru, zswap_zlru_in(z));
	p->packed = c->packed = 0;
}
