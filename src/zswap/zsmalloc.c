/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zsmalloc.c - compressed objects in size classes (kernel: mm/zsmalloc.c).
 *
 * Owns the pool's address space, the zspages in it and one lock per class.  It
 * does not charge anybody, knows no slots and never looks into an object; the
 * table of handles is handles.c's.  Entry points: zs_store(), zs_load(),
 * zs_free(), zs_compact().
 *
 * Layout.  The pool is one reservation cut into *blocks* of 64 KiB of address
 * space.  A zspage uses the first pages of a block, up to all 16; the rest is
 * never touched (address space is free, and any free block fits any class).
 * Blocks become accessible in steps of 2 MiB and stay so: one mapping, not one
 * per zspage (max_map_count).  Objects lie end to end and may straddle pages.
 *
 * Many pages to a zspage make classes fine: with 8, 2.8 % of a pool of text is
 * lost to rounding up, with 16 1.4 %, with 32 1.0 %.  So that a class with three
 * objects does not take 64 KiB for them, a zspage *grows* into its pages, a few
 * at a time and before they are touched: one system call instead of four page
 * faults.
 *
 *   handle h --> handles.at[h] = block:24 | object:8 --> block's zspage
 *                                                        object header = h
 *
 * An object starts with 4 bytes: its handle, so that compaction finds the
 * table entry, or, when free, FREE_TAG | next free object.  Objects of a page
 * of their own (class 4096) keep the header in the zspage descriptor.
 *
 * Invariants (zspage_check(), zspool_check()):
 *  - a zspage is on the list of its fullness group, alone there when isolated;
 *  - nr_inuse + free-list length == nr_touched <= objects per zspage;
 *  - handles.at[header] names the object that carries the header;
 *  - an empty zspage does not exist outside release_zspage().
 *
 * Locks: class->lock (rank ZS_CLASS, one at a time) guards its zspages, their
 * objects and their handle entries.
 * Memory goes back to the OS with no lock held.
 */
#include "zswap/zsmalloc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/fmt.h"
#include "base/ilist.h"
#include "base/mutant.h"
#include "base/os.h"
#include "zswap/handles.h"

#define ZS_MIN_SIZE 32u
#define ZS_DELTA 16u
#define ZS_HEADER 4u
#define ZS_MAX_PAGES 16u /* per zspage */
#define ZS_GROW_PAGES 4u
#define ZS_MAX_OBJECTS 256u /* per zspage: 8 bits of a place */
#define ZS_MAX_CLASSES 255u /* (4096 - 32) / 16 + 1 */
#define ZS_GROUPS 9u /* eighths in use; the last one: full */
#define ZS_FULL (ZS_GROUPS - 1)
#define ZS_COMPACT_BATCH 32u /* objects moved under one hold of a class lock */

/*
 * A pool is compacted when one part in so many could be given back.  A page that
 * compaction brings costs under 2 us, one that compression brings some 20.  While
 * pages come and go at random that is 0.1 moves a page that comes, and 0.2 with half
 * the share: then it costs what it brings.
 */
#define COMPACT_SHARE 64u
#define COMPACT_MIN (128 * KIB)
#define COMPACT_STEP 128u /* objects, between two batches of reclaim */

#define BLOCK_SIZE (ZS_MAX_PAGES * PAGE_SIZE)
#define BLOCK_STEP (2 * MIB) /* address space made accessible at once */
#define MAX_BLOCKS (1u << 24)
#define FREE_TAG 0x80000000u
#define FREE_END 0xffffu

/* Descriptor of a block, same index; (L) lock of the class. */
struct zspage {
	u32 header; /* (L) of the only object, class 4096; links free descriptors */
	struct ilist_node node; /* (L) fullness list */
	u16 class; /* (C) while in use */
	u16 nr_inuse; /* (L) */
	u16 nr_touched; /* (L) objects ever handed out; those behind are blank */
	u16 free_head; /* (L) FREE_END: none */
	u8 group; /* (L) */
	u8 isolated; /* (L) compaction source, on no list */
	u8 nr_grown; /* (L) pages with memory behind them */
};

struct zs_class {
	struct mutex lock;
	u32 size; /* (C) of an object, header included */
	u32 nr_pages; /* (C) per zspage, at most */
	u32 nr_objects; /* (C) per zspage */
	struct ilist list[ZS_GROUPS]; /* (L) */
	struct counter64 nr_zspages; /* (L), read without */
	struct counter64 nr_inuse; /* (L), read without */
};

struct zspool {
	struct meta *meta; /* (C) */
	char *base; /* (C) block i at base + i * BLOCK_SIZE; block 0 is not used */
	u64 max_bytes; /* (C) */
	u32 nr_blocks; /* (C) */
	u32 nr_classes; /* (C) */
	u8 class_of[ZS_MAX_CLASSES]; /* (C) by (size - 32) / 16 */
	struct zs_class class[ZS_MAX_CLASSES];
	struct xtable zspages;
	struct handles handles;
	struct mutex grow_lock; /* rank SLAB */
	u32 nr_ready; /* (grow_lock) accessible blocks */
	struct counter64 bytes; /* pages that zspages have grown into */
	struct counter64 nr_compacted;
};

_Static_assert(sizeof(struct zspage) == 24, "descriptor size is budgeted");

/* ---- geometry ---------------------------------------------------------- */

/*
 * Pages per zspage with the least waste per page; the fewest of equals, and then
 * that as often as it fits: a block with one page in use wastes page tables.
 */
static u32 best_nr_pages(u32 size)
{
	u32 best = 1, best_waste = PAGE_SIZE % size;

	/* Header in the descriptor: alone there. */
	if (size == PAGE_SIZE)
		return 1;
	for (u32 n = 2; n <= ZS_MAX_PAGES; n++) {
		u32 bytes = n * (u32)PAGE_SIZE, waste = bytes % size;

		if (bytes / size > ZS_MAX_OBJECTS)
			break;
		if (waste * best < best_waste * n) {
			best = n;
			best_waste = waste;
		}
	}
	return best * min_of(ZS_MAX_PAGES / best,
			     max_of(ZS_MAX_OBJECTS * size / (best * (u32)PAGE_SIZE), 1u));
}

/*
 * From the largest size down: a size whose zspage has the same pages and
 * holds the same number of objects as the one above joins it.
 */
static void init_classes(struct zspool *pool)
{
	struct zs_class *c = NULL;

	for (u32 i = ZS_MAX_CLASSES; i-- > 0;) {
		u32 size = ZS_MIN_SIZE + i * ZS_DELTA;
		u32 nr_pages = best_nr_pages(size);
		u32 nr_objects = nr_pages * (u32)PAGE_SIZE / size;

		if (!c || c->nr_pages != nr_pages || c->nr_objects != nr_objects) {
			c = &pool->class[pool->nr_classes++];
			mutex_init(&c->lock, "zs_class", LOCK_RANK_ZS_CLASS);
			c->size = size;
			c->nr_pages = nr_pages;
			c->nr_objects = nr_objects;
		}
		pool->class_of[i] = (u8)(pool->nr_classes - 1);
	}
}

static struct zs_class *class_for(struct zspool *pool, u32 len)
{
	u32 i = len + ZS_HEADER <= ZS_MIN_SIZE ? 0 :
						 (len + ZS_HEADER - ZS_MIN_SIZE + 15) / ZS_DELTA;

	quire_assert(len >= 1 && len <= PAGE_SIZE);
	/* The last class needs no header inside. */
	return &pool->class[pool->class_of[min_of(i, ZS_MAX_CLASSES - 1)]];
}

static struct ilist_in zspages_in(const struct zspool *pool)
{
	return (struct ilist_in){ &pool->zspages, offsetof(struct zspage, node) };
}

static struct zspage *zspage_at(const struct zspool *pool, u32 block)
{
	return xtable_at(&pool->zspages, block);
}

static char *object_at(const struct zspool *pool, const struct zs_class *c, u32 block, u32 obj)
{
	return pool->base + (size_t)block * BLOCK_SIZE + (size_t)obj * c->size;
}

static u32 *header_at(const struct zspool *pool, const struct zs_class *c, u32 block, u32 obj)
{
	if (c->nr_objects == 1)
		return &zspage_at(pool, block)->header;
	return (u32 *)object_at(pool, c, block, obj);
}

static char *payload_at(const struct zspool *pool, const struct zs_class *c, u32 block, u32 obj)
{
	return object_at(pool, c, block, obj) + (c->nr_objects == 1 ? 0 : ZS_HEADER);
}

static u32 make_place(u32 block, u32 obj)
{
	return block << 8 | obj;
}

static u32 place_block(u32 place)
{
	return place >> 8;
}

static u32 place_object(u32 place)
{
	return place & (ZS_MAX_OBJECTS - 1);
}

/* ---- zspages ----------------------------------------------------------- */

static u32 group_of(const struct zs_class *c, const struct zspage *z)
{
	return z->nr_inuse * ZS_FULL / c->nr_objects;
}

static void zspage_check(const struct zspool *pool, const struct zs_class *c, u32 block)
{
	const struct zspage *z = zspage_at(pool, block);
	u32 nr_free = 0, nr_used = 0;

	quire_assert(&pool->class[z->class] == c);
	quire_assert(z->nr_inuse <= c->nr_objects && z->nr_touched <= c->nr_objects);
	quire_assert(z->nr_touched * c->size <= z->nr_grown * PAGE_SIZE);
	quire_assert(z->isolated || z->group == group_of(c, z));
	for (u32 i = z->free_head; i != FREE_END; nr_free++) {
		u32 header;

		quire_assert(i < z->nr_touched && nr_free < z->nr_touched);
		header = *header_at(pool, c, block, i);
		quire_assert(header & FREE_TAG);
		i = header & FREE_END;
	}
	for (u32 i = 0; i < z->nr_touched; i++) {
		u32 header = *header_at(pool, c, block, i);

		if (header & FREE_TAG)
			continue;
		nr_used++;
		quire_assert(header && header < pool->handles.nr_max);
		quire_assert(pool->handles.at[header] == make_place(block, i));
	}
	quire_assert(nr_used == z->nr_inuse && nr_used + nr_free == z->nr_touched);
}

static void zspage_check_full(const struct zspool *pool, const struct zs_class *c, u32 block)
{
	if (QUIRE_ASSERT_LEVEL >= 3)
		zspage_check(pool, c, block);
}

/* Make blocks up to and including `block` accessible. */
static int grow_to(struct zspool *pool, u32 block)
{
	int err = 0;

	mutex_lock(&pool->grow_lock);
	while (!err && block >= pool->nr_ready) {
		err = os_commit(pool->base + (size_t)pool->nr_ready * BLOCK_SIZE, BLOCK_STEP);
		if (!err)
			pool->nr_ready += BLOCK_STEP / BLOCK_SIZE;
	}
	mutex_unlock(&pool->grow_lock);
	return err;
}

/* Memory for the next objects.  Where it cannot be had at once, touching brings it. */
static void grow_zspage(struct zspool *pool, const struct zs_class *c, u32 block)
{
	struct zspage *z = zspage_at(pool, block);
	u32 nr = min_of(c->nr_pages - z->nr_grown, ZS_GROW_PAGES);
	char *at = pool->base + (size_t)block * BLOCK_SIZE + z->nr_grown * PAGE_SIZE;

	(void)os_madvise(at, nr * PAGE_SIZE, MADV_POPULATE_WRITE);
	z->nr_grown = (u8)(z->nr_grown + nr);
	stat_add(&pool->bytes, nr * PAGE_SIZE);
}

/* An empty zspage, on no list; 0: refused. */
static u32 create_zspage(struct zspool *pool, struct zs_class *c)
{
	struct zspage *z;
	u32 block;

	if (stat_read(&pool->bytes) + c->nr_pages * PAGE_SIZE > pool->max_bytes)
		return 0;
	block = xtable_alloc(&pool->zspages, XTABLE_MAY_GROW);
	if (!block)
		return 0;
	if (grow_to(pool, block)) {
		xtable_free(&pool->zspages, block);
		return 0;
	}
	z = zspage_at(pool, block);
	z->class = (u16)(c - pool->class);
	z->free_head = FREE_END;
	z->isolated = true;
	grow_zspage(pool, c, block);
	return block;
}

/* Give an empty zspage, already on no list, back; no lock held.  The bytes it had. */
static u64 release_zspage(struct zspool *pool, u32 block)
{
	u64 bytes = zspage_at(pool, block)->nr_grown * PAGE_SIZE;

	(void)os_madvise(pool->base + (size_t)block * BLOCK_SIZE, bytes, MADV_DONTNEED);
	xtable_free(&pool->zspages, block);
	stat_sub(&pool->bytes, bytes);
	return bytes;
}

static void link_zspage(struct zspool *pool, struct zs_class *c, u32 block)
{
	struct zspage *z = zspage_at(pool, block);

	z->isolated = false;
	z->group = (u8)group_of(c, z);
	ilist_add_head(&c->list[z->group], zspages_in(pool), block);
}

static void unlink_zspage(struct zspool *pool, struct zs_class *c, u32 block)
{
	struct zspage *z = zspage_at(pool, block);

	ilist_del(&c->list[z->group], zspages_in(pool), block);
	z->isolated = true;
}

/* After nr_inuse changed: the list follows. */
static void relink_zspage(struct zspool *pool, struct zs_class *c, u32 block)
{
	struct zspage *z = zspage_at(pool, block);

	if (z->isolated || z->group == group_of(c, z))
		return;
	unlink_zspage(pool, c, block);
	link_zspage(pool, c, block);
}

/* The fullest zspage with room, 0: none. */
static u32 fullest_zspage(const struct zs_class *c)
{
	for (u32 g = ZS_FULL; g-- > 0;)
		if (c->list[g].head)
			return c->list[g].head;
	return 0;
}

static u32 sparsest_zspage(const struct zs_class *c)
{
	for (u32 g = 0; g < ZS_FULL; g++)
		if (c->list[g].head)
			return c->list[g].head;
	return 0;
}

/* ---- objects, under the class lock -------------------------------------- */

/* Give handle h an object in `block`, which has room. */
static u32 take_object(struct zspool *pool, struct zs_class *c, u32 block, u32 h)
{
	struct zspage *z = zspage_at(pool, block);
	u32 obj = z->free_head;
	u32 *header;

	quire_assert(z->nr_inuse < c->nr_objects);
	if (obj == FREE_END) {
		obj = z->nr_touched++;
		/* Under the lock, as the page faults would be. */
		while (z->nr_touched * c->size > z->nr_grown * PAGE_SIZE)
			grow_zspage(pool, c, block);
		header = header_at(pool, c, block, obj);
	} else {
		header = header_at(pool, c, block, obj);
		quire_assert(*header & FREE_TAG);
		z->free_head = (u16)(*header & FREE_END);
	}
	*header = h;
	z->nr_inuse++;
	pool->handles.at[h] = make_place(block, obj);
	relink_zspage(pool, c, block);
	return obj;
}

static void drop_object(struct zspool *pool, struct zs_class *c, u32 block, u32 obj)
{
	struct zspage *z = zspage_at(pool, block);

	quire_assert(z->nr_inuse > 0);
	*header_at(pool, c, block, obj) = FREE_TAG | z->free_head;
	z->free_head = (u16)obj;
	z->nr_inuse--;
	relink_zspage(pool, c, block);
}

/* Where h lies; its header must agree. */
static u32 find_object(const struct zspool *pool, const struct zs_class *c, u32 h, u32 *ret_block)
{
	u32 place = pool->handles.at[h];
	u32 block = place_block(place), obj = place_object(place);

	quire_assert(block && block < pool->nr_blocks);
	quire_assert(obj < c->nr_objects && *header_at(pool, c, block, obj) == h);
	*ret_block = block;
	return obj;
}

/* ---- store, load, free --------------------------------------------------- */

/* Lock c and return a zspage with room; 0: none to be had, c not locked. */
static u32 lock_with_room(struct zspool *pool, struct zs_class *c)
{
	u32 block;

	mutex_lock(&c->lock);
	block = fullest_zspage(c);
	if (block)
		return block;
	mutex_unlock(&c->lock);
	/* System calls, so without the lock; two threads may add one each. */
	block = create_zspage(pool, c);
	if (!block)
		return 0;
	mutex_lock(&c->lock);
	link_zspage(pool, c, block);
	stat_add(&c->nr_zspages, 1);
	return block;
}

int zs_store(struct zspool *pool, const void *data, u32 len, struct zs_handle *ret_handle)
{
	struct zs_class *c = class_for(pool, len);
	u32 h, block, obj;

	h = handles_alloc(&pool->handles, pool->meta);
	if (!h)
		return -ENOMEM;
	block = lock_with_room(pool, c);
	if (!block) {
		handles_free(&pool->handles, h);
		return -ENOMEM;
	}
	obj = take_object(pool, c, block, h);
	memcpy(payload_at(pool, c, block, obj), data, len);
	stat_add(&c->nr_inuse, 1);
	zspage_check_full(pool, c, block);
	mutex_unlock(&c->lock);
	ret_handle->v = h;
	return 0;
}

void zs_load(struct zspool *pool, struct zs_handle handle, u32 len, void *buf)
{
	struct zs_class *c = class_for(pool, len);
	u32 block = 0, obj = 0;

	if (MUTANT(object_found_unlocked))
		obj = find_object(pool, c, handle.v, &block);
	mutex_lock(&c->lock);
	if (!MUTANT(object_found_unlocked))
		obj = find_object(pool, c, handle.v, &block);
	memcpy(buf, payload_at(pool, c, block, obj), len);
	mutex_unlock(&c->lock);
}

void zs_free(struct zspool *pool, struct zs_handle handle, u32 len)
{
	struct zs_class *c = class_for(pool, len);
	u32 block, obj;
	bool empty;

	mutex_lock(&c->lock);
	obj = find_object(pool, c, handle.v, &block);
	drop_object(pool, c, block, obj);
	stat_sub(&c->nr_inuse, 1);
	zspage_check_full(pool, c, block);
	empty = zspage_at(pool, block)->nr_inuse == 0;
	if (empty) {
		unlink_zspage(pool, c, block);
		stat_sub(&c->nr_zspages, 1);
	}
	mutex_unlock(&c->lock);
	if (empty)
		(void)release_zspage(pool, block);
	handles_free(&pool->handles, handle.v);
}

u32 zs_charged_size(struct zspool *pool, u32 len)
{
	return class_for(pool, len)->size;
}

/* ---- compaction ---------------------------------------------------------- */

/* Zspages that packing the class densely would empty. */
static u64 class_excess(const struct zs_class *c)
{
	u64 nr_inuse = stat_read(&c->nr_inuse);
	u64 room = stat_read(&c->nr_zspages) * c->nr_objects;

	return room > nr_inuse ? (room - nr_inuse) / c->nr_objects : 0;
}

static void move_object(struct zspool *pool, struct zs_class *c, u32 from, u32 from_obj, u32 to)
{
	u32 h = *header_at(pool, c, from, from_obj);
	u32 to_obj;

	quire_assert(h && !(h & FREE_TAG));
	quire_assert(pool->handles.at[h] == make_place(from, from_obj));
	to_obj = take_object(pool, c, to, h);
	memcpy(payload_at(pool, c, to, to_obj), payload_at(pool, c, from, from_obj),
	       c->size - ZS_HEADER);
	drop_object(pool, c, from, from_obj);
}

/*
 * Empty the isolated zspage `from` into the fullest others, at most max moves.
 * Only classes with several objects to a zspage get here (no excess in others).
 */
static u32 empty_zspage(struct zspool *pool, struct zs_class *c, u32 from, u32 max)
{
	const struct zspage *z = zspage_at(pool, from);
	u32 nr_moved = 0;

	for (u32 obj = 0; obj < z->nr_touched && nr_moved < max; obj++) {
		u32 to;

		if (*header_at(pool, c, from, obj) & FREE_TAG)
			continue;
		to = fullest_zspage(c);
		if (!to)
			break;
		move_object(pool, c, from, obj, to);
		nr_moved++;
	}
	return nr_moved;
}

/* One bounded step under the lock; false: nothing (more) to do here. */
static bool compact_class(struct zspool *pool, struct zs_class *c, u32 *budget, u64 *freed)
{
	u32 from, nr_moved;
	bool empty;

	if (!class_excess(c))
		return false;
	mutex_lock(&c->lock);
	from = class_excess(c) ? sparsest_zspage(c) : 0;
	if (!from) {
		mutex_unlock(&c->lock);
		return false;
	}
	unlink_zspage(pool, c, from);
	nr_moved = empty_zspage(pool, c, from, min_of(*budget, ZS_COMPACT_BATCH));
	empty = zspage_at(pool, from)->nr_inuse == 0;
	if (empty)
		stat_sub(&c->nr_zspages, 1);
	else
		link_zspage(pool, c, from);
	zspage_check_full(pool, c, from);
	mutex_unlock(&c->lock);

	if (empty)
		*freed += release_zspage(pool, from);
	*budget -= nr_moved;
	stat_add(&pool->nr_compacted, nr_moved);
	return nr_moved > 0;
}

u64 zs_compact(struct zspool *pool, u32 max_objects)
{
	u64 freed = 0;

	/* Largest objects first: most bytes for a move. */
	for (u32 i = 0; i < pool->nr_classes && max_objects; i++)
		while (max_objects && compact_class(pool, &pool->class[i], &max_objects, &freed))
			;
	return freed;
}

void zs_compact_sparse(struct zspool *pool)
{
	u64 gain = zspool_compactable(pool);

	if (gain > COMPACT_MIN && gain > zspool_bytes(pool) / COMPACT_SHARE)
		(void)zs_compact(pool, COMPACT_STEP);
}

/* ---- figures --------------------------------------------------------------- */

u64 zspool_bytes(const struct zspool *pool)
{
	return stat_read(&pool->bytes);
}

u64 zspool_object_bytes(const struct zspool *pool)
{
	u64 bytes = 0;

	for (u32 i = 0; i < pool->nr_classes; i++)
		bytes += stat_read(&pool->class[i].nr_inuse) * pool->class[i].size;
	return bytes;
}

u64 zspool_nr_objects(const struct zspool *pool)
{
	return stat_read(&pool->handles.nr_live);
}

u64 zspool_nr_moved(const struct zspool *pool)
{
	return stat_read(&pool->nr_compacted);
}

u64 zspool_compactable(const struct zspool *pool)
{
	u64 bytes = 0;

	for (u32 i = 0; i < pool->nr_classes; i++)
		bytes += class_excess(&pool->class[i]) * pool->class[i].nr_pages * PAGE_SIZE;
	return bytes;
}

static void class_check(struct zspool *pool, struct zs_class *c)
{
	u64 nr_zspages = 0, nr_inuse = 0;

	mutex_lock(&c->lock);
	for (u32 g = 0; g < ZS_GROUPS; g++) {
		u32 nr = 0;

		for (u32 b = c->list[g].head; b; b = zspage_at(pool, b)->node.next) {
			struct zspage *z = zspage_at(pool, b);

			quire_assert(++nr <= c->list[g].nr);
			quire_assert(z->group == g && !z->isolated && z->nr_inuse > 0);
			zspage_check(pool, c, b);
			nr_inuse += z->nr_inuse;
		}
		quire_assert(nr == c->list[g].nr);
		nr_zspages += nr;
	}
	quire_assert(nr_zspages == stat_read(&c->nr_zspages));
	quire_assert(nr_inuse == stat_read(&c->nr_inuse));
	mutex_unlock(&c->lock);
}

void zspool_check(struct zspool *pool)
{
	for (u32 i = 0; i < pool->nr_classes; i++)
		class_check(pool, &pool->class[i]);
}

void zspool_to_text(struct zspool *pool, struct fmt *out)
{
	fmt_add(out,
		"pool %llu bytes, %llu objects, %llu object bytes, %llu compactable, %llu moved\n",
		(unsigned long long)zspool_bytes(pool), (unsigned long long)zspool_nr_objects(pool),
		(unsigned long long)zspool_object_bytes(pool),
		(unsigned long long)zspool_compactable(pool),
		(unsigned long long)stat_read(&pool->nr_compacted));
	fmt_add(out, "size pages/zspage objects/zspage zspages objects excess\n");
	for (u32 i = 0; i < pool->nr_classes; i++) {
		const struct zs_class *c = &pool->class[i];

		if (!stat_read(&c->nr_zspages))
			continue;
		fmt_add(out, "%u %u %u %llu %llu %llu\n", c->size, c->nr_pages, c->nr_objects,
			(unsigned long long)stat_read(&c->nr_zspages),
			(unsigned long long)stat_read(&c->nr_inuse),
			(unsigned long long)class_excess(c));
	}
}

/* ---- create, destroy --------------------------------------------------------- */

/*
 * Address space for the pool: 16 times max_bytes in the worst case (only
 * one-page zspages).  A process with RLIMIT_AS gets what there is.
 */
static int reserve_blocks(struct zspool *pool)
{
	u64 nr = min_of(pool->max_bytes / PAGE_SIZE + 2, (u64)MAX_BLOCKS);
	void *base;
	int err;

	nr = align_up(nr, BLOCK_STEP / BLOCK_SIZE);
	for (;;) {
		err = os_mmap_anon(nr * BLOCK_SIZE, PROT_NONE, true, &base);
		if (!err)
			break;
		if (nr * BLOCK_SIZE <= 32 * BLOCK_STEP)
			return err;
		nr = align_up(nr / 2, BLOCK_STEP / BLOCK_SIZE);
	}
	os_name_mapping(base, nr * BLOCK_SIZE, "quire: pool");
	/* A huge page would fill the untouched tails of 32 blocks. */
	(void)os_madvise(base, nr * BLOCK_SIZE, MADV_NOHUGEPAGE);
	pool->base = base;
	pool->nr_blocks = (u32)nr;
	return 0;
}

int zspool_create(struct meta *meta, u64 max_bytes, struct zspool **ret_pool)
{
	struct zspool *pool = meta_alloc(meta, sizeof(*pool));
	int err;

	if (!pool)
		return -ENOMEM;
	pool->meta = meta;
	pool->max_bytes = max_bytes;
	mutex_init(&pool->grow_lock, "zs_grow", LOCK_RANK_SLAB);
	init_classes(pool);
	err = reserve_blocks(pool);
	if (err)
		goto free_pool;
	err = xtable_init(&pool->zspages, meta, "quire: zspages", sizeof(struct zspage),
			  pool->nr_blocks);
	if (err)
		goto unmap_blocks;
	err = handles_init(&pool->handles, max_bytes / ZS_MIN_SIZE + 2);
	if (err)
		goto exit_zspages;
	*ret_pool = pool;
	return 0;

exit_zspages:
	xtable_exit(&pool->zspages);
unmap_blocks:
	(void)os_munmap(pool->base, (size_t)pool->nr_blocks * BLOCK_SIZE);
free_pool:
	meta_free(meta, pool, sizeof(*pool));
	return err;
}

void zspool_destroy(struct zspool *pool)
{
	struct meta *meta = pool->meta;

	handles_exit(&pool->handles, meta);
	xtable_exit(&pool->zspages);
	(void)os_munmap(pool->base, (size_t)pool->nr_blocks * BLOCK_SIZE);
	meta_free(meta, pool, sizeof(*pool));
}
