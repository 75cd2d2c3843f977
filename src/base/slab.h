/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.h - quire's internal memory: never managed, never malloc.
 *
 * Three shapes only:
 *   xtable  index -> fixed-size object, type-stable (an index that was valid
 *           once always points to an object of that type; its content may be
 *           another's).  Addresses never move.  Used for page descriptors,
 *           slots, charge handles, regions, pool handles.
 *   slab    pointer objects of one size (list nodes, groups' handles).
 *   region  plain os_mmap_anon() for large arrays.
 * All of them count their resident bytes in a struct meta, the engine's
 * `kernel` charge.  The fault path calls xtable_alloc() with
 * XTABLE_ATOMIC: it never maps memory; xtable_reserve() ahead of need does.
 */
#ifndef QUIRE_BASE_SLAB_H
#define QUIRE_BASE_SLAB_H

#include "base/sync.h"

/* Bytes of metadata, resident or about to be. */
struct meta {
	struct counter64 bytes;
};

struct xtable {
	/* (C) */
	char *base;
	struct meta *meta;
	u32 elem_size; /* multiple of 8 */
	u32 nr_max;
	/* (L) lock */
	struct mutex lock;
	u32 nr_ready; /* elements whose memory is committed */
	u32 nr_used_high; /* first never-used index */
	u32 free_head; /* 0: none; links in the first 4 bytes of free objects */
	u32 nr_free;
	struct counter64 nr_live;
};

enum xtable_mode { XTABLE_MAY_GROW, XTABLE_ATOMIC };

/*
 * Index 0 is never handed out.  Reserves address space for nr_max elements
 * (PROT_NONE, committed in 256 KiB steps as needed).  name appears in maps.
 */
int QUIRE_MUST_CHECK xtable_init(struct xtable *t, struct meta *meta, const char *name,
				 u32 elem_size, u32 nr_max);
void xtable_exit(struct xtable *t);
/* A zeroed element, or 0 when full or (XTABLE_ATOMIC) nothing is committed. */
u32 xtable_alloc(struct xtable *t, enum xtable_mode mode);
void xtable_free(struct xtable *t, u32 index);
/*
 * Up to nr elements at once, one lock round: their indices in ret[], returns how
 * many there were (fewer only when full, refused or, XTABLE_ATOMIC, uncommitted).
 */
u32 xtable_alloc_batch(struct xtable *t, enum xtable_mode mode, u32 *ret, u32 nr);
void xtable_free_batch(struct xtable *t, const u32 *index, u32 nr);
/* Commit memory for at least nr more elements; 0 or -ENOMEM. */
int QUIRE_MUST_CHECK xtable_reserve(struct xtable *t, u32 nr);
static inline void *xtable_at(const struct xtable *t, u32 index)
{
	return t->base + (size_t)index * t->elem_size;
}
/* True if index was ever handed out: the bound check for values from a segment. */
bool xtable_valid(const struct xtable *t, u32 index);

/* ---- slab: pointer objects --------------------------------------------- */
struct slab {
	struct mutex lock;
	struct meta *meta;
	u32 obj_size;
	void *free_list; /* (L) */
	void *chunks; /* (L) 64 KiB chunks, for slab_exit() */
};
void slab_init(struct slab *s, struct meta *meta, u32 obj_size);
void slab_exit(struct slab *s);
void *slab_alloc(struct slab *s); /* zeroed, or NULL */
void slab_free(struct slab *s, void *obj); /* NULL is fine */

/*
 * Address space for a sparse array, zero until touched and not counted: its owner
 * counts what it uses.  NULL when the OS refuses.
 */
void *meta_reserve(const char *name, size_t bytes);
void meta_unreserve(void *p, size_t bytes);

/* Large zeroed array, counted; NULL when the OS refuses. */
void *meta_alloc(struct meta *meta, size_t bytes);
void meta_free(struct meta *meta, void *p, size_t bytes);

#endif
