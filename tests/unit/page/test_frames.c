/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: runs of the engine's own pages.
 */
#include "lib/test.h"
#include "page/frames.h"
#include "pager/fake.h"

static struct meta meta;
static struct pager pager;
static struct frames frames;

static void setup(u32 nr)
{
	memset(&meta, 0, sizeof(meta));
	memset(&frames, 0, sizeof(frames));
	ASSERT_OK(pager_init(&pager, "fake"));
	ASSERT_OK(pager.ops->open(&pager, 1, -1));
	ASSERT_OK(frames_init(&frames, &meta, &pager, nr));
}

static void teardown(void)
{
	ASSERT_EQ(atomic32_peek(&frames.nr_used), 0u);
	frames_exit(&frames);
	fake_exit(&pager);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

TEST(every_frame_once)
{
	bool used[256] = { false };
	u32 nr = 0, first, n;

	setup(256);
	while ((n = frames_alloc(&frames, FRAME_RUN_MAX, &first))) {
		for (u32 i = first; i < first + n; i++) {
			ASSERT_LT(i, 256u);
			ASSERT_FALSE(used[i]);
			used[i] = true;
		}
		nr += n;
	}
	ASSERT_EQ(nr, 255u); /* 0 means "none" */
	ASSERT_FALSE(used[0]);
	ASSERT_EQ(atomic32_peek(&frames.nr_used), 255u);
	for (u32 i = 1; i < 256; i++)
		frames_put_empty(&frames, i, 1);
	teardown();
}

/* Put back, a few stay warm, and are nobody's when runs of empty ones are wanted. */
TEST(warm_ones_are_kept_apart)
{
	u32 first, got[FRAMES_WARM_MAX + 8], n;
	bool warm[256] = { false };

	setup(256);
	ASSERT_EQ(frames_alloc_warm(&frames, 4, got), 0u);
	for (u32 i = 0; i < FRAMES_WARM_MAX + 8; i++) {
		ASSERT_EQ(frames_alloc(&frames, 1, &first), 1u);
		got[i] = first;
	}
	for (u32 i = 0; i < FRAMES_WARM_MAX + 8; i++)
		frames_put(&frames, got[i], 1);
	ASSERT_FALSE(frames_want_warm(&frames));
	ASSERT_EQ(atomic32_peek(&frames.nr_used), 0u);
	n = frames_alloc_warm(&frames, FRAMES_WARM_MAX + 8, got);
	ASSERT_EQ(n, FRAMES_WARM_MAX);
	for (u32 i = 0; i < n; i++) {
		ASSERT_FALSE(warm[got[i]]);
		warm[got[i]] = true;
	}
	/* The rest, all empty. */
	for (u32 i = n; i < 255; i++) {
		ASSERT_EQ(frames_alloc(&frames, 1, &first), 1u);
		ASSERT_FALSE(warm[first]);
		warm[first] = true;
	}
	ASSERT_EQ(frames_alloc(&frames, 1, &first), 0u);
	for (u32 i = 1; i < 256; i++)
		frames_put_empty(&frames, i, 1);
	teardown();
}

/* The longest run there is when no run of the wanted length is left. */
TEST(best_of_fragments)
{
	u32 first, all = 0, n;

	setup(64);
	while ((n = frames_alloc(&frames, 1, &first)))
		all += n;
	ASSERT_EQ(all, 63u);
	frames_put_empty(&frames, 3, 1);
	frames_put_empty(&frames, 10, 4);
	/* A word's first free bit is where a run of it is looked for. */
	ASSERT_EQ(frames_alloc(&frames, 8, &first), 1u);
	ASSERT_EQ(first, 3u);
	ASSERT_EQ(frames_alloc(&frames, 8, &first), 4u);
	ASSERT_EQ(first, 10u);
	ASSERT_EQ(frames_alloc(&frames, 1, &first), 0u);
	frames_put_empty(&frames, 1, 63);
	teardown();
}

/* What is little used stays together: each 2 MiB touched are a page of page tables. */
TEST(few_frames_stay_together)
{
	u32 first[4], n[4] = { 0 }, highest = 0;

	setup(4096);
	for (u32 i = 0; i < 20000; i++) {
		u32 k = i % 4;

		if (n[k])
			frames_put_empty(&frames, first[k], n[k]);
		n[k] = frames_alloc(&frames, FRAME_RUN_MAX, &first[k]);
		ASSERT_EQ(n[k], FRAME_RUN_MAX);
		highest = max_of(highest, first[k] + n[k]);
	}
	ASSERT_LE(highest, 2048u + 4 * 4 * FRAME_RUN_MAX);
	for (u32 k = 0; k < 4; k++)
		frames_put_empty(&frames, first[k], n[k]);
	teardown();
}

TEST(put_empties_where_enough_are_warm)
{
	u32 first, warm[FRAMES_WARM_MAX];

	setup(256);
	for (u32 i = 0; i < FRAMES_WARM_MAX; i++)
		ASSERT_EQ(frames_alloc(&frames, 1, &warm[i]), 1u);
	for (u32 i = 0; i < FRAMES_WARM_MAX; i++)
		frames_put(&frames, warm[i], 1);
	ASSERT_OK(pager.ops->add_range(&pager, 0, fake_addr(0), PAGE_SIZE));
	ASSERT_EQ(pager.ops->zero(&pager, 0, fake_addr(0), 1, 0), 1);
	ASSERT_EQ(frames_alloc(&frames, 2, &first), 2u);
	ASSERT_EQ(pager.ops->take(&pager, 0, fake_addr(0), frame_addr(&frames, first), 1), 1);
	ASSERT_TRUE(fake_frame_full(&pager, frame_addr(&frames, first)));
	frames_put(&frames, first, 2);
	ASSERT_FALSE(fake_frame_full(&pager, frame_addr(&frames, first)));
	teardown();
}

static void put_twice(void)
{
	u32 first;

	setup(64);
	if (frames_alloc(&frames, 1, &first) != 1)
		return;
	frames_put_empty(&frames, first, 1);
	frames_put_empty(&frames, first, 1);
}

TEST(double_put_aborts)
{
	char text[256];

	ASSERT_NE(test_child(put_twice, text, sizeof(text)), 0);
	ASSERT_NOT_NULL(strstr(text, "frames.c"));
}
