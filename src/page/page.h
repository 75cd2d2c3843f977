/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.h - the descriptor of a page that occupies memory: 32 bytes.
 *
 * A page is either mapped (its pte is PRESENT) or in a frame (its pte is SWAP
 * and the slot names it).  Descriptors are type-stable.  Letters: (P) pte lock,
 * (L) lruvec lock, (A) atomic, (O) owner: who cleared PG_LRU.
 *
 * PG_LRU is the pin (K2): it changes 1 -> 0 by exactly one party, which owns
 * the page until it sets it again or frees the page.  Somebody who wants a page
 * away and finds PG_LRU clear leaves PG_DEAD instead, in the same compare-and-
 * swap; the owner sees it when it puts the page back and frees it (I3).
 */
#ifndef QUIRE_PAGE_PAGE_H
#define QUIRE_PAGE_PAGE_H

#include "base/assert.h"
#include "base/ilist.h"

enum page_flags {
	PG_LRU = 1u << 0, /* on a list of its lruvec */
	PG_ACTIVE = 1u << 1, /* that list is (will be) the active one */
	PG_FRAME = 1u << 2, /* content in a frame; list is laundry */
	PG_WORKINGSET = 1u << 3, /* was active when it last left, or activated by refault */
	PG_UNEVICTABLE = 1u << 4, /* refused by the pager: list is unevictable */
	PG_DEAD = 1u << 5, /* owner frees it at putback */
	PG_COLD = 1u << 6, /* advised cold: unmapped without a second chance */
	/* Mapped write-protected: a store is a fault first, so the bytes are those it came
	 * in with.  Set and cleared under the pte lock; never in a forked child, never
	 * after mremap(2), where the kernel forgets the protection. */
	PG_PROTECTED = 1u << 7,
	PG_STREAM = 1u << 8, /* brought in by a long scan (lru/stream.c) */
};

struct page {
	struct ilist_node lru; /* (L) */
	u32 objcg; /* (P) who is charged; changes only with PG_LRU clear */
	struct atomic32 flags; /* (A) */
	u32 slot; /* (P) slot it still has, 0 none */
	u32 frame; /* (P) frame number when PG_FRAME */
	u64 vpn; /* (P) address >> PAGE_SHIFT */
};

static_assert(sizeof(struct page) == 32, "metadata budget, design.md 6");

struct pages {
	struct xtable table;
};

int QUIRE_MUST_CHECK pages_init(struct pages *pages, struct meta *meta, u32 nr_max);
void pages_exit(struct pages *pages);

static inline struct page *page_at(const struct pages *pages, struct page_id id)
{
	return xtable_at(&pages->table, id.v);
}

static inline struct ilist_in page_lru_in(const struct pages *pages)
{
	return (struct ilist_in){ &pages->table, offsetof(struct page, lru) };
}

static inline u64 page_addr(const struct page *page)
{
	return page->vpn << PAGE_SHIFT;
}

static inline void page_clear_flags(struct page *page, u32 flags)
{
	(void)atomic32_fetch_and(&page->flags, ~flags);
}

/* {0} when descriptors are exhausted. */
struct page_id page_alloc(struct pages *pages, u64 vpn, u32 objcg);
void page_free(struct pages *pages, struct page_id id);

/*
 * Become the owner: clear PG_LRU; false when another party owns it.  The caller
 * takes it off the list next (lru_del()).
 */
bool QUIRE_MUST_CHECK page_isolate(struct page *page);
/*
 * The last word of somebody who wants the page gone: true, the caller owns it
 * now (PG_LRU was set); false, PG_DEAD is left for the owner.
 */
bool QUIRE_MUST_CHECK page_kill(struct page *page);
/*
 * End of ownership: set PG_LRU; false when PG_DEAD was left (the caller still
 * owns the page and must free it).  The page must be on its list before.
 */
bool QUIRE_MUST_CHECK page_putback(struct page *page);

struct fmt;
void page_to_text(const struct page *page, struct page_id id, struct fmt *out);

#endif
