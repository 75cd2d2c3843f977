/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zsmalloc.h - the allocator of compressed objects (kernel: zsmalloc).
 *
 * Size classes of 32..4096 bytes in zspages of up to 16 contiguous pages; a
 * handle is an index that survives compaction, so holders never see objects
 * move.  Content is copied in and out under the class lock.  Empty blocks go
 * back to the OS.  Lock ranks: ZS_CLASS, below it SLAB.
 */
#ifndef QUIRE_ZSWAP_ZSMALLOC_H
#define QUIRE_ZSWAP_ZSMALLOC_H

#include "base/slab.h"

struct zs_handle {
	u32 v; /* 0: none */
};

struct zspool;

/*
 * A pool that may grow to max_bytes of address space.  Its bookkeeping is
 * counted in meta; the pool's own pages are not (see zspool_bytes()).
 */
int QUIRE_MUST_CHECK zspool_create(struct meta *meta, u64 max_bytes, struct zspool **ret_pool);
void zspool_destroy(struct zspool *pool);

/* Copy in len (1..PAGE_SIZE) bytes.  0 or -ENOMEM (OS refuses or pool full). */
int QUIRE_MUST_CHECK zs_store(struct zspool *pool, const void *data, u32 len,
			      struct zs_handle *ret_handle);
/* Copy the object out; len must be what was stored. */
void zs_load(struct zspool *pool, struct zs_handle handle, u32 len, void *buf);
/* O(1); never allocates, never fails. */
void zs_free(struct zspool *pool, struct zs_handle handle, u32 len);
/* Bytes an object of len really takes (its class): what its owner is charged. */
u32 zs_charged_size(struct zspool *pool, u32 len);

/*
 * Move objects from sparse to dense zspages; stop after max_objects moves.
 * Returns the bytes given back to the OS.  Safe against loads and frees.
 */
u64 zs_compact(struct zspool *pool, u32 max_objects);

/* The same, one step, when what it could give back is worth it. */
void zs_compact_sparse(struct zspool *pool);

/* Bytes of pool pages held / of objects inside at class size / number of objects. */
u64 zspool_bytes(const struct zspool *pool);
u64 zspool_object_bytes(const struct zspool *pool);
u64 zspool_nr_objects(const struct zspool *pool);
/* Objects moved so far. */
u64 zspool_nr_moved(const struct zspool *pool);
/* Bytes that zs_compact() could give back at best: its trigger. */
u64 zspool_compactable(const struct zspool *pool);
/* Every class's lists, counts and free maps agree; aborts otherwise. */
void zspool_check(struct zspool *pool);
struct fmt;
void zspool_to_text(struct zspool *pool, struct fmt *out);

#endif
