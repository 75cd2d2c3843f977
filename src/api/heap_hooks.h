/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap_hooks.h - jemalloc's extent hooks on managed memory.
 *
 * Shared by the heaps of libquire (heap.c) and the malloc of the preload
 * (preload/arena_hooks.c).  An arena made here takes its blocks from one group
 * and keeps its own books in unmanaged memory.
 */
#ifndef QUIRE_API_HEAP_HOOKS_H
#define QUIRE_API_HEAP_HOOKS_H

#include <qje.h>

#include "engine/engine.h"

/* Lives as long as its arena. */
struct heap_hooks {
	extent_hooks_t hooks; /* first: what jemalloc hands to each hook */
	struct engine *e; /* (C) */
	struct memcg_id id; /* (C) group of new extents; the preload may change it */
};

void heap_hooks_init(struct heap_hooks *h, struct engine *e, struct memcg_id id);
/* A new arena with these hooks: 0 and its number, -ENOSPC (no number left), -ENOMEM. */
int QUIRE_MUST_CHECK heap_arena_create(struct heap_hooks *h, unsigned int *ret_arena);
/* Everything in it at once; its number may be used again. */
void heap_arena_destroy(unsigned int arena);
/* Give unused dirty memory of an arena back. */
void heap_arena_purge(unsigned int arena);

#endif
