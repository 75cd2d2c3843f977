/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - which address ranges are managed, and who pays for them.
 *
 * A sorted array of non-overlapping ranges.  Writers take the REGIONS lock; fault
 * threads, reclaim and application threads read without a lock: a sequence count
 * makes them retry.
 */
#ifndef QUIRE_PAGE_REGION_H
#define QUIRE_PAGE_REGION_H

#include "base/fmt.h"
#include "base/slab.h"

enum region_flags {
	REGION_USER_DONTFORK = 1, /* the program asked for it: never undone */
	REGION_SEQUENTIAL = 2, /* advice: large window */
	REGION_RANDOM = 4, /* advice: no window */
	REGION_REGISTERED = 8, /* known to the pager */
	REGION_HEAP = 16, /* the allocator's: MADV_FREE and purge are ours to time */
	REGION_LOCKED = 32, /* mlock(2): what is in does not leave */
	REGION_LEAVING = 128, /* of a group that is being removed */
	REGION_GUARDED = 64, /* has guard pages, which UFFDIO_COPY would replace */
};

/* A copy of a region: valid as an answer, not as a handle. */
struct region {
	u64 start;
	u64 end;
	struct objcg_id objcg;
	u16 flags;
	u16 queue; /* of the pager */
};

static_assert(sizeof(struct region) == 24, "a range is three words");

#define REGION_MAX 65536u /* ranges: as many as vm.max_map_count allows mappings */

struct region_table {
	struct mutex lock; /* writers */
	struct atomic32 seq; /* odd while the array changes */
	struct atomic32 nr;
	struct region *array; /* (seq) sorted by start */
	struct xtable memory; /* its committed memory */
	struct atomic64 bytes; /* managed address space */
	struct atomic64 locked; /* of them, REGION_LOCKED */
};

int QUIRE_MUST_CHECK region_table_init(struct region_table *t, struct meta *meta);
void region_table_exit(struct region_table *t);

/* The region that holds addr; false when none.  Lock-free. */
bool region_find(const struct region_table *t, u64 addr, struct region *ret);
/* The first region that ends after addr; false when none.  Lock-free. */
bool region_next(const struct region_table *t, u64 addr, struct region *ret);
bool region_overlaps(const struct region_table *t, u64 start, u64 end);

/* Room for `more` further ranges, so that changes that make no more cannot fail.  A cut
 * or a change of flags makes two at most.  -ENOSPC. */
int QUIRE_MUST_CHECK region_reserve(struct region_table *t, u32 more);
/* -EEXIST overlap, -ENOSPC too many.  Merges with equal neighbours. */
int QUIRE_MUST_CHECK region_add(struct region_table *t, const struct region *r);
/* Cut [start, end) out of every region; splits where needed.  -ENOSPC: a split
 * would need one region too many, nothing changed. */
int QUIRE_MUST_CHECK region_cut(struct region_table *t, u64 start, u64 end);
/* Set and clear flags on the part [start, end), splitting at its edges. */
int QUIRE_MUST_CHECK region_set_flags(struct region_table *t, u64 start, u64 end, u16 set,
				      u16 clear);
/* Change who pays (assign): same splitting. */
int QUIRE_MUST_CHECK region_set_objcg(struct region_table *t, u64 start, u64 end,
				      struct objcg_id o);

void region_check(const struct region_table *t);
void region_table_to_text(const struct region_table *t, struct fmt *out);

#endif
