/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mm.h - the memory of one engine: what the folders below work on together.
 */
#ifndef QUIRE_PAGE_MM_H
#define QUIRE_PAGE_MM_H

#include "base/mutant.h"
#include "page/frames.h"
#include "page/page.h"
#include "page/page_table.h"
#include "page/region.h"
#include "pager/pager.h"

/*
 * Range in which the address space is being changed (fault/zap.c): a pte there may
 * still say what was true before.  Whoever has locked a pte asks mm_zapping() before
 * it believes it.  One at a time: the request thread does all of them.
 */
struct zap_range {
	struct atomic32 seq; /* odd: start and end hold */
	struct atomic64 start, end; /* change while seq is even */
};

struct mm {
	struct meta meta; /* bytes of all metadata */
	struct pager pager;
	struct region_table regions;
	struct page_table ptes;
	struct pages pages;
	struct frames frames;
	struct zap_range zap;
};

/*
 * With the pte of addr locked: is its range being changed?  Then hands off.  "No" stays
 * true for the holder of the pte until zap_begin() has waited for it.
 * The two ends of one range, never one end each of two: a fault outside that took
 * itself for inside would be left for zap_finish() to wake, which does not.
 */
static inline bool mm_zapping(const struct mm *mm, u64 addr)
{
	for (;;) {
		u32 seq = atomic32_load(&mm->zap.seq);
		u64 start, end;

		if (likely(!(seq & 1)))
			return false;
		start = atomic64_load(&mm->zap.start);
		end = atomic64_load(&mm->zap.end);
		if (atomic32_load(&mm->zap.seq) == seq || MUTANT(zap_range_torn))
			return addr >= start && addr < end;
	}
}

#endif
