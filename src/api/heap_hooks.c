/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap_hooks.c - where an arena's extents come from and go to.
 *
 * Owns the mapping of jemalloc's extent operations to the engine's.  An extent
 * that an arena does not need any more is discarded but kept mapped until the
 * arena goes.  That is not thrift: jemalloc takes the start of a mapping for the
 * border between arenas (its is_head).  Were the front of a mapping unmapped and
 * the rest kept, another arena's mapping could land in the hole, and free
 * extents of the two would be merged under the wrong arena's lock.
 *
 * The hooks run on application threads under jemalloc's locks.  The engine
 * never takes those, so waiting for it here is safe.
 *
 * See also: engine/engine.h, api/heap.c.
 */
#include "api/heap_hooks.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/os.h"

static struct heap_hooks *hooks_of(extent_hooks_t *hooks)
{
	return container_of(hooks, struct heap_hooks, hooks);
}

/*
 * A group that goes takes its id with it: between the look at it and the end of the
 * request heap_hooks_move() waits (both sides: first the own word, then the other's).
 */
static int map_extent(struct heap_hooks *h, void *at, size_t len, int flags, void **ret_addr)
{
	struct memcg_id id;
	int err;

	atomic32_fetch_add(&h->nr_mapping, 1);
	id.v = atomic32_load(&h->id);
	if (!id.v)
		id = engine_home(h->e);
	err = engine_mmap(h->e, id, at, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, ret_addr);
	atomic32_fetch_sub(&h->nr_mapping, 1);
	return err;
}

void heap_hooks_move(struct heap_hooks *h, struct memcg_id id)
{
	atomic32_xchg(&h->id, id.v);
	/* For one request at most, which charges nothing. */
	while (atomic32_load(&h->nr_mapping))
		os_sched_yield();
}

/* Map more than needed and cut both ends off. */
static void *map_aligned(struct heap_hooks *h, size_t size, size_t align)
{
	uintptr_t start, at;
	size_t len, behind;
	void *addr;

	if (map_extent(h, NULL, size, 0, &addr) < 0)
		return NULL;
	if (!((uintptr_t)addr & (align - 1)))
		return addr;
	if (engine_munmap(h->e, addr, size) < 0)
		return NULL;
	len = size + align - PAGE_SIZE;
	if (len < size || map_extent(h, NULL, len, 0, &addr) < 0)
		return NULL;
	start = (uintptr_t)addr;
	at = align_up(start, align);
	behind = start + len - (at + size);
	/* A rest that stays mapped is address space lost, nothing else. */
	if (at > start && engine_munmap(h->e, addr, at - start) < 0)
		return (void *)at;
	if (behind && engine_munmap(h->e, (void *)(at + size), behind) < 0)
		return (void *)at;
	return (void *)at;
}

static void *extent_alloc(extent_hooks_t *hooks, void *new_addr, size_t size, size_t align,
			  bool *zero, bool *commit, unsigned int arena)
{
	struct heap_hooks *h = hooks_of(hooks);
	void *addr;

	(void)arena;
	if (new_addr) {
		/* Exactly there or not at all; jemalloc can do without. */
		if (map_extent(h, new_addr, size, MAP_FIXED_NOREPLACE, &addr) < 0)
			return NULL;
	} else {
		addr = map_aligned(h, size, max_of(align, PAGE_SIZE));
		if (!addr)
			return NULL;
	}
	*zero = true;
	*commit = true;
	return addr;
}

static void extent_destroy(extent_hooks_t *hooks, void *addr, size_t size, bool committed,
			   unsigned int arena)
{
	struct heap_hooks *h = hooks_of(hooks);

	(void)committed;
	(void)arena;
	/* Its group was discarded, and these addresses may be somebody else's. */
	if (atomic32_load(&h->gone) && !engine_manages(h->e, addr, size))
		return;
	if (engine_munmap(h->e, addr, size) < 0)
		return; /* nothing can be done: it stays mapped, unused */
}

static bool extent_purge_forced(extent_hooks_t *hooks, void *addr, size_t size, size_t offset,
				size_t length, unsigned int arena)
{
	(void)size;
	(void)arena;
	return engine_discard(hooks_of(hooks)->e, (char *)addr + offset, length) < 0;
}

/* Ranges of the engine may be cut and joined anywhere. */
static bool extent_split(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a,
			 size_t size_b, bool committed, unsigned int arena)
{
	(void)hooks, (void)addr, (void)size, (void)size_a, (void)size_b;
	(void)committed, (void)arena;
	return false;
}

static bool extent_merge(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b,
			 size_t size_b, bool committed, unsigned int arena)
{
	(void)hooks, (void)addr_a, (void)size_a, (void)addr_b, (void)size_b;
	(void)committed, (void)arena;
	return false;
}

void heap_hooks_init(struct heap_hooks *h, struct engine *e, struct memcg_id id)
{
	*h = (struct heap_hooks){
		.hooks = {
			.alloc = extent_alloc,
			/* no .dalloc: refused, see above */
			.destroy = extent_destroy,
			.purge_forced = extent_purge_forced,
			.split = extent_split,
			.merge = extent_merge,
		},
		.e = e,
	};
	atomic32_poke(&h->id, id.v);
}

int heap_arena_create(struct heap_hooks *h, unsigned int *ret_arena)
{
	unsigned int arena = qje_arena_create(&h->hooks);

	if (arena == UINT_MAX)
		return -ENOMEM;
	*ret_arena = arena;
	return 0;
}

/* "arena.<arena>.<what>" */
static void arena_control(unsigned int arena, const char *what)
{
	char name[40];

	fmt_str(name, sizeof(name), "arena.%u.%s", arena, what);
	(void)qje_mallctl(name, NULL, NULL, NULL, 0);
}

void heap_arena_destroy(unsigned int arena)
{
	arena_control(arena, "destroy");
}

void heap_arena_purge(unsigned int arena)
{
	arena_control(arena, "purge");
}
