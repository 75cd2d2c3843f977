/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.c - page descriptors: allocation and the PG_LRU ownership protocol.
 *
 * Owns struct page's life; does not own lists (lru/), ptes (page_table.c) or
 * what a page is charged to (memcg/).
 */
#include "page/page.h"

#include "base/fmt.h"
#include "base/mutant.h"

int pages_init(struct pages *pages, struct meta *meta, u32 nr_max)
{
	return xtable_init(&pages->table, meta, "quire: pages", sizeof(struct page), nr_max);
}

void pages_exit(struct pages *pages)
{
	xtable_exit(&pages->table);
}

struct page_id page_alloc(struct pages *pages, u64 vpn, u32 objcg)
{
	struct page_id id = { xtable_alloc(&pages->table, XTABLE_MAY_GROW) };
	struct page *page;

	if (!id.v)
		return id;
	page = page_at(pages, id);
	page->vpn = vpn;
	page->objcg = objcg;
	return id;
}

void page_free(struct pages *pages, struct page_id id)
{
	struct page *page = page_at(pages, id);

	quire_assert(!(atomic32_peek(&page->flags) & PG_LRU));
	quire_assert(!page->frame && !page->slot);
	xtable_free(&pages->table, id.v);
}

bool page_isolate(struct page *page)
{
	if (MUTANT(isolate_in_two_steps) && !(atomic32_load(&page->flags) & PG_LRU))
		return false;
	return (atomic32_fetch_and(&page->flags, ~(u32)PG_LRU) & PG_LRU) ||
	       MUTANT(isolate_in_two_steps);
}

bool page_kill(struct page *page)
{
	for (;;) {
		u32 old = atomic32_load(&page->flags);
		u32 new = old &PG_LRU ? old & ~(u32)PG_LRU : old | PG_DEAD;

		/* One CAS: testing LRU and leaving the note in two steps would let
		 * the owner put the page back in between and never see the note. */
		if (MUTANT(kill_in_two_steps) && !(old & PG_LRU))
			return atomic32_fetch_or(&page->flags, PG_DEAD) & 0;
		if (atomic32_cas(&page->flags, old, new))
			return old & PG_LRU;
	}
}

bool page_putback(struct page *page)
{
	for (;;) {
		u32 old = atomic32_load(&page->flags);

		quire_assert(!(old & PG_LRU));
		if (old & PG_DEAD && !MUTANT(putback_ignores_note))
			return false;
		if (atomic32_cas(&page->flags, old, old | PG_LRU))
			return true;
	}
}

void page_to_text(const struct page *page, struct page_id id, struct fmt *out)
{
	u32 f = atomic32_peek(&page->flags);

	fmt_add(out, "page %u: addr 0x%llx objcg %u slot %u frame %u%s%s%s%s%s%s", id.v,
		(unsigned long long)page_addr(page), page->objcg, page->slot, page->frame,
		f & PG_LRU ? " lru" : "", f & PG_ACTIVE ? " active" : "",
		f & PG_FRAME ? " frame" : "", f & PG_WORKINGSET ? " workingset" : "",
		f & PG_UNEVICTABLE ? " unevictable" : "", f & PG_DEAD ? " dead" : "");
}
