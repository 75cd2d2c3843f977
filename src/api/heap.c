/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.c - <quire/heap.h>: a jemalloc arena in a group.
 *
 * Owns the heaps of a tree: a table that is made with the first heap.  Each heap
 * is one arena and a few thread caches, made as they prove useful: a cache is
 * not a thread's but a *stripe's*, taken by try-lock, since thread-local storage
 * in a library that is loaded late is dear and a heap may outlive any thread.
 * Who finds its stripe busy goes to the arena.
 *
 * What heaps hold but do not use is asked back by a word of the engine, which
 * the next operation on any heap answers for all of them: no thread is needed.
 *
 * No lock is waited for here but jemalloc's own.  A heap that is being purged
 * cannot be destroyed meanwhile: `user` is taken by both.
 *
 * See also: api/heap_hooks.h, api/event.c (who purges).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "api/api.h"
#include "api/heap_hooks.h"
#include "api/host.h"
#include "base/os.h"

#define HEAPS_MAX 4000 /* jemalloc has 4095 arenas */
#define HEAP_STRIPES 8 /* power of two */
/* A stripe gets its cache (about 30 KiB) after this many operations. */
#define CACHE_AFTER 128
#define HEAPS_BYTES align_up(HEAPS_MAX * sizeof(struct quire_heap), PAGE_SIZE)

enum heap_state { HEAP_FREE, HEAP_MAKING, HEAP_LIVE };

/* A cache line each. */
struct stripe {
	struct atomic32 busy;
	/* below: whoever holds busy */
	u32 nr_uses;
	unsigned int cache;
	bool has_cache;
	bool no_cache; /* none is to be had */
	char pad[64 - 4 * sizeof(u32)];
};

struct quire_heap {
	struct atomic32 state; /* enum heap_state */
	struct atomic32 user; /* 1: being purged or destroyed; futex */
	struct atomic64 group; /* struct quire_group *; another's when that is removed */
	struct heap_hooks hooks; /* (C) */
	unsigned int arena; /* (C) */
	struct stripe stripes[HEAP_STRIPES] __attribute__((aligned(64)));
};

/* ---- the table ----------------------------------------------------------------- */

static struct quire_heap *heap_table(struct quire *q)
{
	return (void *)(uintptr_t)atomic64_load(&q->heaps);
}

static struct quire_heap *make_table(struct quire *q)
{
	struct quire_heap *table = heap_table(q);
	void *fresh;

	if (table)
		return table;
	if (os_mmap_anon(HEAPS_BYTES, PROT_READ | PROT_WRITE, false, &fresh) < 0)
		return NULL;
	if (!atomic64_cas(&q->heaps, 0, (uintptr_t)fresh))
		os_munmap(fresh, HEAPS_BYTES);
	return heap_table(q);
}

static struct quire_heap *take_heap(struct quire_heap *table)
{
	for (u32 i = 0; i < HEAPS_MAX; i++)
		if (atomic32_peek(&table[i].state) == HEAP_FREE &&
		    atomic32_cas(&table[i].state, HEAP_FREE, HEAP_MAKING))
			return &table[i];
	return NULL;
}

static struct quire_group *heap_group(const struct quire_heap *h)
{
	return (void *)(uintptr_t)atomic64_load(&h->group);
}

static void heap_use(struct quire_heap *h)
{
	while (!atomic32_cas(&h->user, 0, 1))
		futex_wait(&h->user, 1, SYNC_FOREVER, false);
}

static void heap_unuse(struct quire_heap *h)
{
	atomic32_store(&h->user, 0);
	futex_wake(&h->user, 1, false);
}

/* ---- create, destroy ------------------------------------------------------------ */

int quire_heap_create(struct quire_group *g, unsigned int flags, struct quire_heap **ret_heap)
{
	struct quire_heap *table, *h;
	int err;

	if (flags || !ret_heap)
		return why(-EINVAL, "quire_heap_create: unknown flag, or no place for the heap");
	err = group_check(g);
	if (err < 0)
		return err;
	table = make_table(g->q);
	if (!table)
		return why(-ENOMEM, "no memory for the table of heaps");
	h = take_heap(table);
	if (!h)
		return why(-ENOSPC, "there are %d heaps already", HEAPS_MAX);
	atomic64_store(&h->group, (uintptr_t)g);
	memset(h->stripes, 0, sizeof(h->stripes));
	heap_hooks_init(&h->hooks, g->q->e, g->id);
	err = heap_arena_create(&h->hooks, &h->arena);
	if (err < 0) {
		why(err, "the allocator has no room for another heap");
		goto free_heap;
	}
	atomic32_fetch_add(&g->nr_heaps, 1);
	atomic32_store(&h->state, HEAP_LIVE);
	*ret_heap = h;
	return 0;

free_heap:
	atomic32_store(&h->state, HEAP_FREE);
	return err;
}

void quire_heap_destroy(struct quire_heap *h)
{
	if (!h || atomic32_load(&h->state) != HEAP_LIVE)
		return;
	heap_use(h);
	for (u32 i = 0; i < HEAP_STRIPES; i++) {
		struct stripe *s = &h->stripes[i];

		/* Busy can only mean a thread that a fork left behind, in the
		 * middle of something: the cache is lost with it. */
		if (atomic32_cas(&s->busy, 0, 1) && s->has_cache)
			(void)qje_mallctl("tcache.destroy", NULL, NULL, &s->cache,
					  sizeof(s->cache));
	}
	heap_arena_destroy(h->arena);
	atomic32_fetch_sub(&heap_group(h)->nr_heaps, 1);
	atomic32_store(&h->state, HEAP_FREE);
	heap_unuse(h);
}

void heaps_destroy(struct quire *q)
{
	struct quire_heap *table = heap_table(q);

	if (!table)
		return;
	for (u32 i = 0; i < HEAPS_MAX; i++)
		quire_heap_destroy(&table[i]);
	atomic64_store(&q->heaps, 0);
	os_munmap(table, HEAPS_BYTES);
}

struct quire_group *quire_heap_group(struct quire_heap *h)
{
	return heap_group(h);
}

void heaps_move(struct quire_group *from, struct quire_group *to)
{
	struct quire_heap *table = heap_table(from->q);

	for (u32 i = 0; table && i < HEAPS_MAX; i++) {
		struct quire_heap *h = &table[i];

		if (atomic32_load(&h->state) != HEAP_LIVE || heap_group(h) != from)
			continue;
		heap_use(h);
		atomic32_fetch_add(&to->nr_heaps, 1);
		atomic64_store(&h->group, (uintptr_t)to);
		heap_hooks_move(&h->hooks, to->id);
		atomic32_fetch_sub(&from->nr_heaps, 1);
		heap_unuse(h);
	}
}

void heaps_discard(struct quire_group *g)
{
	struct quire_heap *table = heap_table(g->q);

	for (u32 i = 0; table && i < HEAPS_MAX; i++) {
		if (atomic32_load(&table[i].state) != HEAP_LIVE || heap_group(&table[i]) != g)
			continue;
		atomic32_store(&table[i].hooks.gone, 1);
		quire_heap_destroy(&table[i]);
	}
}

/* ---- purging ---------------------------------------------------------------------- */

static void purge_one(struct quire_heap *h)
{
	if (!atomic32_cas(&h->user, 0, 1))
		return;
	if (atomic32_load(&h->state) == HEAP_LIVE)
		heap_arena_purge(h->arena);
	heap_unuse(h);
}

size_t heaps_purge(struct quire *q, struct quire_group *g)
{
	struct quire_group *counted = g ? g : quire_root(q);
	struct quire_heap *table = heap_table(q);
	u64 before = quire_current(counted), after;

	if (!table || (g && !atomic32_load(&g->nr_heaps)))
		return 0;
	for (u32 i = 0; i < HEAPS_MAX; i++)
		if (atomic32_peek(&table[i].state) == HEAP_LIVE &&
		    (!g || heap_group(&table[i]) == g))
			purge_one(&table[i]);
	after = quire_current(counted);
	return before > after ? before - after : 0;
}

void heaps_fork_prepare(void)
{
	if (!host_is_preload())
		qje_prefork();
}

void heaps_fork_parent(void)
{
	if (!host_is_preload())
		qje_postfork_parent();
}

void heaps_fork_child(void)
{
	if (!host_is_preload())
		qje_postfork_child();
}

void heaps_forget_threads(struct quire *q)
{
	struct quire_heap *table = heap_table(q);

	/* A stripe that was busy stays so: its cache may be in any state. */
	for (u32 i = 0; table && i < HEAPS_MAX; i++) {
		if (atomic32_peek(&table[i].state) == HEAP_FREE)
			continue;
		atomic32_poke(&table[i].user, 0);
		atomic32_poke(&table[i].hooks.nr_mapping, 0);
	}
}

/* ---- blocks ----------------------------------------------------------------------- */

/* Threads' stacks are far apart; a wrong guess costs speed only. */
static struct stripe *my_stripe(struct quire_heap *h)
{
	u64 at = (u64)(uintptr_t)__builtin_frame_address(0) >> 16;

	return &h->stripes[(at * 0x9e3779b97f4a7c15ull >> 40) % HEAP_STRIPES];
}

/* jemalloc's flags for one operation; *ret_stripe is NULL or held. */
static int begin(struct quire_heap *h, struct stripe **ret_stripe)
{
	int flags = (int)MALLOCX_ARENA(h->arena);
	struct stripe *s = my_stripe(h);
	struct quire *q = heap_group(h)->q;

	*ret_stripe = NULL;
	/* Reclaim is about to page: unused memory first, of all heaps. */
	if (atomic32_peek(q->purge) && atomic32_xchg(q->purge, 0))
		heaps_purge(q, NULL);
	if (atomic32_peek(&s->busy) || !atomic32_cas(&s->busy, 0, 1))
		return flags | MALLOCX_TCACHE_NONE;
	*ret_stripe = s;
	if (!s->has_cache && !s->no_cache && ++s->nr_uses >= CACHE_AFTER) {
		size_t size = sizeof(s->cache);

		s->has_cache = !qje_mallctl("tcache.create", &s->cache, &size, NULL, 0);
		s->no_cache = !s->has_cache;
	}
	return flags | (s->has_cache ? (int)MALLOCX_TCACHE(s->cache) : (int)MALLOCX_TCACHE_NONE);
}

static void *end(struct stripe *s, void *ptr, size_t size)
{
	if (s)
		atomic32_store(&s->busy, 0);
	if (!ptr && size)
		why(-ENOMEM, "no address space for a block of %lu bytes", (unsigned long)size);
	return ptr;
}

void *quire_malloc(struct quire_heap *h, size_t size)
{
	struct stripe *s;
	int flags = begin(h, &s);

	return end(s, qje_mallocx(size ? size : 1, flags), size ? size : 1);
}

void *quire_calloc(struct quire_heap *h, size_t nr, size_t size)
{
	struct stripe *s;
	size_t bytes;
	int flags;

	if (__builtin_mul_overflow(nr, size, &bytes))
		return end(NULL, NULL, SIZE_MAX);
	flags = begin(h, &s) | MALLOCX_ZERO;
	return end(s, qje_mallocx(bytes ? bytes : 1, flags), bytes ? bytes : 1);
}

void *quire_realloc(struct quire_heap *h, void *ptr, size_t size)
{
	struct stripe *s;
	int flags;

	if (!ptr)
		return quire_malloc(h, size);
	if (!size) {
		quire_free(h, ptr);
		return NULL;
	}
	flags = begin(h, &s);
	return end(s, qje_rallocx(ptr, size, flags), size);
}

void *quire_aligned_alloc(struct quire_heap *h, size_t align, size_t size)
{
	struct stripe *s;
	int flags;

	if (!align || align & (align - 1)) {
		why(-EINVAL, "quire_aligned_alloc: %lu is not a power of two",
		    (unsigned long)align);
		return NULL;
	}
	flags = begin(h, &s) | MALLOCX_LG_ALIGN(__builtin_ctzl(align));
	return end(s, qje_mallocx(size ? size : 1, flags), size ? size : 1);
}

void quire_free(struct quire_heap *h, void *ptr)
{
	struct stripe *s;
	int flags;

	if (!ptr)
		return;
	flags = begin(h, &s);
	/* Which arena a block belongs to jemalloc knows itself. */
	qje_dallocx(ptr, flags);
	end(s, ptr, 0);
}

size_t quire_usable_size(struct quire_heap *h, const void *ptr)
{
	(void)h;
	return ptr ? qje_sallocx(ptr, 0) : 0;
}
