/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what zswap.c and writeback.c share.
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
/* Gauges of a copy that comes (+1) or goes (-1). */
void zswap_count_copy(struct zswap *z, struct objcg_id o, enum slot_kind kind, u32 len, s64 sign);

#endif
