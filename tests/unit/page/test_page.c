/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page descriptors and who owns them.
 */
#include "lib/test.h"
#include "page/page.h"

static struct meta meta;
static struct pages pages;

static struct page_id make(u32 flags)
{
	struct page_id id = page_alloc(&pages, 0x1234, 7);

	ASSERT_NE(id.v, 0u);
	atomic32_poke(&page_at(&pages, id)->flags, flags);
	return id;
}

static void setup(void)
{
	memset(&meta, 0, sizeof(meta));
	ASSERT_OK(pages_init(&pages, &meta, 1000));
}

static void teardown(void)
{
	ASSERT_EQ(stat_read(&pages.table.nr_live), 0u);
	pages_exit(&pages);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

static void drop(struct page_id id)
{
	atomic32_poke(&page_at(&pages, id)->flags, 0);
	page_free(&pages, id);
}

TEST(fresh_page_is_clean)
{
	struct page_id id;
	struct page *page;

	setup();
	id = make(PG_LRU | PG_ACTIVE);
	page = page_at(&pages, id);
	ASSERT_EQ(page->vpn, 0x1234u);
	ASSERT_EQ(page->objcg, 7u);
	drop(id);
	/* The record is used again, and nothing of the last page is left. */
	ASSERT_EQ(page_alloc(&pages, 5, 8).v, id.v);
	ASSERT_EQ(atomic32_peek(&page->flags), 0u);
	ASSERT_EQ(page->slot, 0u);
	ASSERT_EQ(page->frame, 0u);
	drop(id);
	teardown();
}

TEST(one_owner)
{
	struct page *page;
	struct page_id id;

	setup();
	id = make(PG_LRU | PG_ACTIVE);
	page = page_at(&pages, id);
	ASSERT_TRUE(page_isolate(page));
	ASSERT_FALSE(page_isolate(page));
	ASSERT_EQ(atomic32_peek(&page->flags), (u32)PG_ACTIVE);
	ASSERT_TRUE(page_putback(page));
	ASSERT_EQ(atomic32_peek(&page->flags), (u32)(PG_ACTIVE | PG_LRU));
	drop(id);
	teardown();
}

/* Nobody owns it: the killer does.  Somebody does: he finds the note. */
TEST(kill)
{
	struct page_id listed, owned;

	setup();
	listed = make(PG_LRU);
	ASSERT_TRUE(page_kill(page_at(&pages, listed)));
	ASSERT_EQ(atomic32_peek(&page_at(&pages, listed)->flags), 0u);
	owned = make(0);
	ASSERT_FALSE(page_kill(page_at(&pages, owned)));
	ASSERT_EQ(atomic32_peek(&page_at(&pages, owned)->flags), (u32)PG_DEAD);
	ASSERT_FALSE(page_putback(page_at(&pages, owned)));
	ASSERT_FALSE(page_isolate(page_at(&pages, owned)));
	drop(listed);
	drop(owned);
	teardown();
}

TEST(descriptors_run_out)
{
	u32 nr = 0;

	setup();
	while (page_alloc(&pages, nr, 1).v)
		nr++;
	ASSERT_EQ(nr, 1000u);
	for (u32 i = 1; i <= nr; i++)
		page_free(&pages, (struct page_id){ i });
	ASSERT_NE(make(0).v, 0u);
	drop((struct page_id){ 1000 });
	teardown();
}

static void free_listed(void)
{
	setup();
	page_free(&pages, make(PG_LRU));
}

static void free_with_frame(void)
{
	struct page_id id;

	setup();
	id = make(0);
	page_at(&pages, id)->frame = 3;
	page_free(&pages, id);
}

TEST(free_of_a_page_in_use_aborts)
{
	char text[256];

	ASSERT_NE(test_child(free_listed, text, sizeof(text)), 0);
	ASSERT_NOT_NULL(strstr(text, "PG_LRU"));
	ASSERT_NE(test_child(free_with_frame, text, sizeof(text)), 0);
	ASSERT_NOT_NULL(strstr(text, "frame"));
}
