/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move.h - charges that change hands: what assign needs of charge.c.
 *
 * From the nearest group above both handles upwards nothing changes, not even a
 * peak.  The plain ones are by force; try: as far as the limits of `to` and of the
 * groups above it allow, up to that common one: 0, or -ENOMEM (-ENOSPC: swap.max)
 * and whose limit said no.
 */
#ifndef QUIRE_MEMCG_MOVE_H
#define QUIRE_MEMCG_MOVE_H

#include "memcg/memcg.h"

/* Pages of memory. */
void memcg_move_charge(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 nr);
int QUIRE_MUST_CHECK memcg_try_move_charge(struct memcg_tree *t, struct objcg_id from,
					   struct objcg_id to, u32 nr, struct memcg_id *ret_over);
/* Slots. */
void memcg_swap_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 nr);
int QUIRE_MUST_CHECK memcg_try_swap_move(struct memcg_tree *t, struct objcg_id from,
					 struct objcg_id to, u32 nr, struct memcg_id *ret_over);
/* Compressed bytes, up to a page; try tells which limit, memory's or zswap's. */
void memcg_zswap_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 bytes);
int QUIRE_MUST_CHECK memcg_try_zswap_move(struct memcg_tree *t, struct objcg_id from,
					  struct objcg_id to, u32 bytes, struct memcg_id *ret_over,
					  enum page_counter_kind *ret_kind);
/* What memcg_set_overhead() was told. */
u64 memcg_overhead(const struct memcg_tree *t, struct objcg_id home, enum memcg_stat which);

#endif
