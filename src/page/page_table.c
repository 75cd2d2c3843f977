/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_table.c - the three-level table behind page_table.h.
 *
 * Invariant: an entry changes once, from 0 to the index of a zeroed table, with
 * release; a reader that sees the index sees the zeroes.
 */
#include "page/page_table.h"

#define ADDR_BITS 47
#define MAX_DIRS 1024u /* 16 GiB each: 16 TiB of touched address space */
#define MAX_LEAVES (1u << 22) /* 2 MiB each: 8 TiB of touched pages */

static_assert(PAGE_SHIFT + LEAF_SHIFT + 2 * DIR_SHIFT == ADDR_BITS, "levels cover the space");

static inline u32 root_slot(u64 addr)
{
	return (u32)(addr >> (PAGE_SHIFT + LEAF_SHIFT + DIR_SHIFT)) & (DIR_ENTRIES - 1);
}

static inline u32 dir_slot(u64 addr)
{
	return (u32)(addr >> (PAGE_SHIFT + LEAF_SHIFT)) & (DIR_ENTRIES - 1);
}

static inline u32 leaf_slot(u64 addr)
{
	return (u32)(addr >> PAGE_SHIFT) & (LEAF_PTES - 1);
}

int page_table_init(struct page_table *t, struct meta *meta)
{
	int err;

	err = xtable_init(&t->dirs, meta, "quire: page directories",
			  DIR_ENTRIES * sizeof(struct atomic32), MAX_DIRS);
	if (err)
		return err;
	err = xtable_init(&t->leaves, meta, "quire: ptes", sizeof(struct leaf), MAX_LEAVES);
	if (err) {
		xtable_exit(&t->dirs);
		return err;
	}
	mutex_init(&t->grow, "page_table", LOCK_RANK_FRAMES);
	return 0;
}

void page_table_exit(struct page_table *t)
{
	xtable_exit(&t->leaves);
	xtable_exit(&t->dirs);
}

static struct atomic32 *dir_of(const struct page_table *t, u64 addr)
{
	u32 dir = atomic32_load(&t->root[root_slot(addr)]);

	return dir ? xtable_at(&t->dirs, dir) : NULL;
}

struct pte *page_table_find(const struct page_table *t, u64 addr)
{
	struct atomic32 *dir = dir_of(t, addr);
	u32 leaf = dir ? atomic32_load(&dir[dir_slot(addr)]) : 0;

	if (!leaf)
		return NULL;
	return &((struct leaf *)xtable_at(&t->leaves, leaf))->pte[leaf_slot(addr)];
}

/* Fill an empty entry of the level above; the entry's index or 0. */
static u32 grow_entry(struct page_table *t, struct atomic32 *entry, struct xtable *from)
{
	u32 index;

	mutex_lock(&t->grow);
	index = atomic32_load(entry);
	if (!index) {
		index = xtable_alloc(from, XTABLE_MAY_GROW);
		if (index)
			atomic32_store(entry, index);
	}
	mutex_unlock(&t->grow);
	return index;
}

struct pte *page_table_get(struct page_table *t, u64 addr)
{
	struct pte *pte = page_table_find(t, addr);
	struct atomic32 *dir;

	if (likely(pte))
		return pte;
	if (!grow_entry(t, &t->root[root_slot(addr)], &t->dirs))
		return NULL;
	dir = dir_of(t, addr);
	if (!grow_entry(t, &dir[dir_slot(addr)], &t->leaves))
		return NULL;
	return page_table_find(t, addr);
}

struct pte *page_table_next(const struct page_table *t, u64 *addr, u64 end)
{
	while (*addr < end) {
		struct atomic32 *dir = dir_of(t, *addr);
		u64 span = LEAF_BYTES;
		struct pte *pte;

		if (!dir) {
			span <<= DIR_SHIFT;
		} else {
			pte = page_table_find(t, *addr);
			if (pte)
				return pte;
		}
		*addr = align_down(*addr, span) + span;
	}
	return NULL;
}
