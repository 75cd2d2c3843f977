/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what zswap.c, writeback.c and repack.c share.
 */
#ifndef QUIRE_ZSWAP_INTERNAL_H
#define QUIRE_ZSWAP_INTERNAL_H

#include "zswap/zswap.h"

static inline struct ilist_in zswap_zlru_in(const struct zswap *z)
{
	return (struct ilist_in){ &z->swap->slots, offsetof(struct slot, zlru) };
}

/* The zswap LRU on which objects of an objcg are now, locked and verified (K1). */
struct lruvec *zswap_lock_zlru(struct zswap *z, struct objcg_id o);
/* zlru_lock held.  Membership is zlru.prev != ZLRU_OFF. */
void zswap_zlru_add(struct zswap *z, struct lruvec *v, struct slot_id id, bool tail);
void zswap_zlru_del(struct zswap *z, struct lruvec *v, struct slot_id id);
/* What writeback and repacking have taken off the LRU. */
struct zswap_victim {
	struct slot_id id;
	u64 where; /* as seen on the LRU; then as verified */
	struct objcg_id objcg;
};

/*
 * Mark it (SLOT_WB) and copy its bytes; false: it is gone, or the page is in memory again
 * and listed when it leaves (zswap_relist()).
 */
bool QUIRE_MUST_CHECK zswap_claim(struct zswap *z, struct zswap_victim *v, u8 *buf);
/* It stays as it is, with flags: back to the cold end of the LRU, unless it died. */
void zswap_unclaim(struct zswap *z, struct zswap_victim *v, u32 flags);
/* Gauges of a copy that comes (+1) or goes (-1). */
void zswap_count_copy(struct zswap *z, struct objcg_id o, enum slot_kind kind, u32 len, s64 sign);

#endif
