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
	struct atomic32 id; /* memcg id: group of new extents; 0: where the process is */
	struct atomic32 nr_mapping; /* threads that have read it and are not done */
	struct atomic32 gone; /* the memory is unmapped already, where it is not managed */
};

void heap_hooks_init(struct heap_hooks *h, struct engine *e, struct memcg_id id);
/* New extents are another group's; nobody uses the old id any more on return. */
void heap_hooks_move(struct heap_hooks *h, struct memcg_id id);
/* A new arena with these hooks: 0 and its number, -ENOSPC (no number left), -ENOMEM. */
int QUIRE_MUST_CHECK heap_arena_create(struct heap_hooks *h, unsigned int *ret_arena);
/* Everything in it at once; its number may be used again. */
void heap_arena_destroy(unsigned int arena);
/* Give unused dirty memory of an arena back. */
void heap_arena_purge(unsigned int arena);

#endif
