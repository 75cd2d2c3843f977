/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles.h - the table of a pool's handles: where each object lies.
 */
#ifndef QUIRE_ZSWAP_HANDLES_H
#define QUIRE_ZSWAP_HANDLES_H

#include "base/slab.h"

/* 4 bytes an object: its place, or the next free handle. */
struct handles {
	u32 *at; /* (C) */
	u32 nr_max; /* (C) */
	struct mutex lock; /* rank SLAB */
	u32 nr_ready; /* (L) accessible */
	u32 nr_high; /* (L) first never used */
	u32 free_head; /* (L) 0: none */
	struct counter64 nr_live;
};

int QUIRE_MUST_CHECK handles_init(struct handles *t, u64 nr_max);
void handles_exit(struct handles *t, struct meta *meta);
/* 0: there is none. */
u32 handles_alloc(struct handles *t, struct meta *meta);
void handles_free(struct handles *t, u32 h);

#endif
