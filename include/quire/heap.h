/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.h - malloc in a group.
 *
 * A heap is an allocator of its own whose memory belongs to one group: what one
 * heap fragments, another does not feel, and destroying a heap gives back all
 * of it at once, however many blocks are left in it.  Its books are kept in
 * memory that is never paged; only blocks are.  Several heaps may share a
 * group.  Memory it holds but does not use is given up before anything of the
 * group is paged out.
 *
 * Within the group's limit there is no limit on a heap's size: more than fits
 * is paged out.  Built on jemalloc; the program's own malloc is untouched.
 *
 * Any thread may use any heap; a block may be freed by another thread than the
 * one that allocated it.  None of these is signal safe.  Blocks and heaps
 * survive fork(2) in both processes.
 */
#ifndef QUIRE_HEAP_H
#define QUIRE_HEAP_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quire_heap;

/*
 * quire_heap_create - an empty heap in a group.
 *
 * flags: 0.  0, or -EINVAL, -ENODEV, -ENOMEM, -ENOSPC (4,000 heaps exist).
 */
int QUIRE_MUST_CHECK quire_heap_create(struct quire_group *group, unsigned int flags,
				       struct quire_heap **ret_heap);

/*
 * quire_heap_destroy - free every block at once, and the heap.
 *
 * Nothing is read and no page is touched: the time depends on the number of
 * mappings, not on the number of blocks.  NULL is fine.
 */
void quire_heap_destroy(struct quire_heap *heap);

/*
 * quire_malloc and its sisters - as malloc(3), calloc(3), realloc(3),
 * aligned_alloc(3) and free(3), from one heap.
 *
 * NULL: no address space (the group's limit never causes NULL).  size 0 gives
 * a block of the smallest size.  quire_realloc() with size 0 is free and NULL.
 * quire_aligned_alloc(): align is a power of two, else NULL; size need not be a
 * multiple of it.  A block may only be given back to the heap it came from.
 */
void *quire_malloc(struct quire_heap *heap, size_t size);
void *quire_calloc(struct quire_heap *heap, size_t nr, size_t size);
void *quire_realloc(struct quire_heap *heap, void *ptr, size_t size);
void *quire_aligned_alloc(struct quire_heap *heap, size_t align, size_t size);
void quire_free(struct quire_heap *heap, void *ptr);

/* quire_usable_size - bytes of a block that may be used; 0 for NULL. */
size_t quire_usable_size(struct quire_heap *heap, const void *ptr);

/* quire_heap_group - the group it was created in, or who inherited it. */
struct quire_group *quire_heap_group(struct quire_heap *heap);

#ifdef __cplusplus
}
#endif

#endif
