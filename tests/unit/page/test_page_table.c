/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address to pte over the whole address space.
 */
#include "lib/test.h"
#include "page/page_table.h"

#define DIR_BYTES (LEAF_BYTES << DIR_SHIFT)
#define TOP (1ull << 47)

static struct meta meta;
static struct page_table table;

static void setup(void)
{
	memset(&meta, 0, sizeof(meta));
	memset(&table, 0, sizeof(table));
	ASSERT_OK(page_table_init(&table, &meta));
}

static void teardown(void)
{
	page_table_exit(&table);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

TEST(absent_until_made)
{
	const u64 addr[] = { 0, PAGE_SIZE, LEAF_BYTES, DIR_BYTES, TOP / 2, TOP - PAGE_SIZE };

	setup();
	for (u32 i = 0; i < ARRAY_SIZE(addr); i++) {
		struct pte *pte;

		/* The first two share a leaf. */
		ASSERT_TRUE(!page_table_find(&table, addr[i]) == (i != 1));
		pte = page_table_get(&table, addr[i]);
		ASSERT_NOT_NULL(pte);
		ASSERT_EQ(pte_peek(pte), 0u);
		ASSERT_PTR_EQ(page_table_find(&table, addr[i]), pte);
		ASSERT_PTR_EQ(page_table_get(&table, addr[i]), pte);
	}
	teardown();
}

TEST(every_address_its_own)
{
	struct pte *a, *b;

	setup();
	a = page_table_get(&table, 0x10000000);
	b = page_table_get(&table, 0x10000000 + PAGE_SIZE);
	ASSERT_PTR_EQ(a + 1, b);
	/* Bytes of one page have one pte. */
	ASSERT_PTR_EQ(page_table_find(&table, 0x10000000 + PAGE_SIZE - 1), a);
	for (u32 i = 1; i < 64; i++) {
		struct pte *p = page_table_get(&table, i * DIR_BYTES + i * LEAF_BYTES);

		ASSERT_EQ(pte_peek(p), 0u);
		pte_lock(p);
		pte_unlock_to(p, PTE_SWAP, i);
	}
	for (u32 i = 1; i < 64; i++)
		ASSERT_EQ(pte_index(page_table_find(&table, i * DIR_BYTES + i * LEAF_BYTES)), i);
	teardown();
}

static u32 count(u64 start, u64 end, u64 *ret_first, u64 *ret_last)
{
	u32 nr = 0;
	u64 addr = start;

	for (; page_table_next(&table, &addr, end); addr += PAGE_SIZE) {
		if (!nr++)
			*ret_first = addr;
		*ret_last = addr;
	}
	return nr;
}

/* A walk sees whole leaves, cut at its ends, and steps over what is absent. */
TEST(walk)
{
	const u64 base = 5 * DIR_BYTES + 3 * LEAF_BYTES, far = 900 * DIR_BYTES;
	u64 first = 0, last = 0;

	setup();
	ASSERT_EQ(count(0, TOP, &first, &last), 0u);
	ASSERT_NOT_NULL(page_table_get(&table, base + 7 * PAGE_SIZE));
	ASSERT_NOT_NULL(page_table_get(&table, far));
	ASSERT_EQ(count(0, TOP, &first, &last), 2 * LEAF_PTES);
	ASSERT_EQ(first, base);
	ASSERT_EQ(last, far + LEAF_BYTES - PAGE_SIZE);
	ASSERT_EQ(count(base + 2 * PAGE_SIZE, base + 5 * PAGE_SIZE, &first, &last), 3u);
	ASSERT_EQ(first, base + 2 * PAGE_SIZE);
	ASSERT_EQ(last, base + 4 * PAGE_SIZE);
	ASSERT_EQ(count(base + LEAF_BYTES, far, &first, &last), 0u);
	ASSERT_EQ(count(base, base, &first, &last), 0u);
	teardown();
}
