/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_table.h - address -> pte, for every managed page of the process.
 *
 * Three levels over 47 bits: 13 | 13 | 9; a leaf of 512 ptes covers 2 MiB and
 * is made when its first page is touched.  Regions (region.h) say which
 * addresses are managed and who pays; they can split and move without touching
 * the table (doc/decisions/page-table.md says why not an array per region).
 *
 * Lookups take no lock.  Leaves are never freed while the engine lives: an
 * address range that comes back finds its leaf again.
 */
#ifndef QUIRE_PAGE_PAGE_TABLE_H
#define QUIRE_PAGE_PAGE_TABLE_H

#include "page/pte.h"
#include "base/slab.h"

#define LEAF_SHIFT 9
#define LEAF_PTES (1u << LEAF_SHIFT)
#define LEAF_BYTES ((u64)LEAF_PTES << PAGE_SHIFT)
#define DIR_SHIFT 13
#define DIR_ENTRIES (1u << DIR_SHIFT)

struct leaf {
	struct pte pte[LEAF_PTES];
};

struct page_table {
	struct atomic32 root[DIR_ENTRIES]; /* (A) index into dirs, 0 none */
	struct xtable dirs; /* of DIR_ENTRIES atomic32: index into leaves */
	struct xtable leaves;
	struct mutex grow; /* making a directory or leaf */
};

int QUIRE_MUST_CHECK page_table_init(struct page_table *t, struct meta *meta);
void page_table_exit(struct page_table *t);

/* NULL: its leaf does not exist, so it is PTE_NONE and unlocked. */
struct pte *page_table_find(const struct page_table *t, u64 addr);
/* The same, locked, where that does not wait and it is of that type; NULL otherwise. */
static inline struct pte *page_table_trylock(const struct page_table *t, u64 addr,
					     enum pte_type type)
{
	struct pte *pte = page_table_find(t, addr);

	if (!pte || pte_type(pte) != type || !pte_trylock(pte))
		return NULL;
	if (pte_type(pte) == type)
		return pte;
	pte_unlock(pte);
	return NULL;
}
/* Makes the leaf; NULL when memory for it is refused. */
struct pte *page_table_get(struct page_table *t, u64 addr);
/*
 * Walk: the first pte at or after *addr and below end whose leaf exists; *addr
 * is advanced to it.  NULL at the end.  Ptes of absent leaves are skipped.
 */
struct pte *page_table_next(const struct page_table *t, u64 *addr, u64 end);

#endif
