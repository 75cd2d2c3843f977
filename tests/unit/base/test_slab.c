/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_slab.c - tables by index, objects by pointer, and what they cost.
 */
#include "base/slab.h"

#include "base/failpoint.h"
#include "base/os.h"
#include "lib/test.h"

#include <errno.h>

#define STEP (256 * KIB)

static struct meta meta;
static struct xtable table;
static struct failpoints fps;

struct item {
	u32 link;
	u32 value;
	u64 rest[3];
};

static void make(u32 elem_size, u32 nr_max)
{
	meta = (struct meta){ 0 };
	ASSERT_OK(xtable_init(&table, &meta, "quire: test", elem_size, nr_max));
}

/* Rules for this thread; "" takes them away. */
static void rules(const char *text)
{
	static struct thread self = { .name = "test", .failpoints = &fps };

	if (!thread_self())
		thread_attach(&self);
	ASSERT_OK(failpoints_parse(&fps, text));
}

TEST(index_0_is_never_handed_out)
{
	u32 i;

	make(sizeof(struct item), 100);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
	ASSERT_FALSE(xtable_valid(&table, 0));
	ASSERT_FALSE(xtable_valid(&table, 1));
	for (i = 1; i <= 100; i++)
		ASSERT_EQ(xtable_alloc(&table, XTABLE_MAY_GROW), i);
	ASSERT_EQ(xtable_alloc(&table, XTABLE_MAY_GROW), 0u);
	ASSERT_EQ(stat_read(&table.nr_live), 100u);
	ASSERT_TRUE(xtable_valid(&table, 100));
	ASSERT_FALSE(xtable_valid(&table, 101));
	/* what was handed out, in whole pages; not what is committed */
	ASSERT_EQ(stat_read(&meta.bytes), (101 * sizeof(struct item) + 4095) / 4096 * 4096);
	xtable_exit(&table);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
	xtable_exit(&table);
}

TEST(reused_element_is_zero_and_type_stable)
{
	struct item *item;
	u32 i;

	make(sizeof(struct item), 10);
	i = xtable_alloc(&table, XTABLE_MAY_GROW);
	item = xtable_at(&table, i);
	memset(item, 0xff, sizeof(*item));
	xtable_free(&table, i);
	/* Only the link was changed. */
	ASSERT_EQ(item->value, UINT32_MAX);
	ASSERT_EQ(item->rest[2], UINT64_MAX);
	ASSERT_TRUE(xtable_valid(&table, i));
	ASSERT_EQ(xtable_alloc(&table, XTABLE_ATOMIC), i);
	ASSERT_EQ(item->link, 0u);
	ASSERT_EQ(item->value, 0u);
	ASSERT_EQ(item->rest[2], 0u);
	xtable_exit(&table);
}

TEST(atomic_never_maps)
{
	u32 i;

	make(1024, 10000);
	ASSERT_EQ(xtable_alloc(&table, XTABLE_ATOMIC), 0u);
	ASSERT_OK(xtable_reserve(&table, 300));
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
	for (i = 0; i < 511; i++)
		ASSERT_NE(xtable_alloc(&table, XTABLE_ATOMIC), 0u);
	ASSERT_EQ(xtable_alloc(&table, XTABLE_ATOMIC), 0u);
	ASSERT_EQ(stat_read(&meta.bytes), 512 * 1024u);
	ASSERT_NE(xtable_alloc(&table, XTABLE_MAY_GROW), 0u);
	ASSERT_EQ(stat_read(&meta.bytes), 516 * 1024u);
	xtable_exit(&table);
}

TEST(reserve_counts_free_elements)
{
	u32 index[64];

	make(4096, 200);
	ASSERT_EQ(xtable_alloc_batch(&table, XTABLE_MAY_GROW, index, 63), 63u);
	ASSERT_EQ(table.nr_ready, 64u);
	xtable_free_batch(&table, index, 63);
	ASSERT_OK(xtable_reserve(&table, 63));
	ASSERT_EQ(table.nr_ready, 64u);
	ASSERT_OK(xtable_reserve(&table, 64));
	ASSERT_EQ(table.nr_ready, 128u);
	/* freed memory may still be resident */
	ASSERT_EQ(stat_read(&meta.bytes), 64 * 4096u);
	ASSERT_OK(xtable_reserve(&table, 200));
	ASSERT_EQ(xtable_reserve(&table, 201), -ENOMEM);
	xtable_exit(&table);
}

TEST(sizes_that_do_not_divide_a_step)
{
	u32 index[16], got, total = 0;

	make(40, 20000);
	while ((got = xtable_alloc_batch(&table, XTABLE_MAY_GROW, index, 16)) != 0) {
		memset(xtable_at(&table, index[got - 1]), 1, 40);
		total += got;
	}
	ASSERT_EQ(total, 20000u);
	ASSERT_EQ(stat_read(&meta.bytes), (20001u * 40 + 4095) / 4096 * 4096);
	xtable_exit(&table);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

TEST(batch_takes_what_there_is)
{
	u32 index[64];

	make(64, 70);
	ASSERT_EQ(xtable_alloc_batch(&table, XTABLE_MAY_GROW, index, 64), 64u);
	ASSERT_EQ(xtable_alloc_batch(&table, XTABLE_MAY_GROW, index, 64), 6u);
	ASSERT_EQ(xtable_alloc_batch(&table, XTABLE_MAY_GROW, index, 64), 0u);
	xtable_exit(&table);
}

TEST(os_refuses)
{
	make(64, 100000);
	rules("os_mprotect:ENOMEM@1/1");
	ASSERT_EQ(xtable_alloc(&table, XTABLE_MAY_GROW), 0u);
	ASSERT_EQ(xtable_reserve(&table, 1), -ENOMEM);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
	rules("");
	ASSERT_EQ(xtable_alloc(&table, XTABLE_MAY_GROW), 1u);
	xtable_exit(&table);
	rules("os_mmap_anon:ENOMEM");
	ASSERT_EQ(xtable_init(&table, &meta, "quire: test", 64, 10), -ENOMEM);
	rules("");
}

/* tsan: four threads take and give back; no element has two owners. */
static struct atomic32 owner[2001];

static void churn(struct thread *self)
{
	u32 me = (u32)(uintptr_t)self->arg, index[8], got, i, round;

	for (round = 0; round < 2000; round++) {
		got = xtable_alloc_batch(&table, XTABLE_MAY_GROW, index, 8);
		for (i = 0; i < got; i++) {
			struct item *item = xtable_at(&table, index[i]);

			if (item->value || !atomic32_cas(&owner[index[i]], 0, me))
				os_abort("an element has two owners\n");
			item->value = me;
		}
		for (i = 0; i < got; i++)
			atomic32_store(&owner[index[i]], 0);
		xtable_free_batch(&table, index, got);
	}
}

TEST(concurrent)
{
	struct thread t[4] = { 0 };
	u32 i;

	make(sizeof(struct item), 2000);
	for (i = 0; i < 4; i++) {
		t[i].name = "churn";
		t[i].fn = churn;
		t[i].arg = (void *)(uintptr_t)(i + 1);
		ASSERT_OK(thread_start(&t[i]));
	}
	for (i = 0; i < 4; i++)
		thread_join(&t[i]);
	ASSERT_EQ(stat_read(&table.nr_live), 0u);
	xtable_exit(&table);
}

TEST(slab_objects)
{
	struct slab slab;
	char *obj[3000];
	int i;

	meta = (struct meta){ 0 };
	slab_init(&slab, &meta, 50);
	for (i = 0; i < 3000; i++) {
		obj[i] = slab_alloc(&slab);
		ASSERT_NOT_NULL(obj[i]);
		ASSERT_EQ((uintptr_t)obj[i] % 16, 0u);
		ASSERT_EQ(obj[i][0] | obj[i][49], 0);
		memset(obj[i], i, 50);
	}
	for (i = 0; i < 3000; i++)
		ASSERT_EQ(obj[i][0], (char)i);
	/* 64 bytes each, 1023 in a chunk */
	ASSERT_EQ(stat_read(&meta.bytes), 3 * 64 * KIB);
	for (i = 0; i < 3000; i++)
		slab_free(&slab, obj[i]);
	slab_free(&slab, NULL);
	for (i = 0; i < 3000; i++) {
		obj[i] = slab_alloc(&slab);
		ASSERT_EQ(obj[i][0] | obj[i][8] | obj[i][49], 0);
	}
	ASSERT_EQ(stat_read(&meta.bytes), 3 * 64 * KIB);
	slab_exit(&slab);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

TEST(slab_refused)
{
	struct slab slab;

	slab_init(&slab, NULL, 16);
	rules("os_mmap_anon:ENOMEM");
	ASSERT_NULL(slab_alloc(&slab));
	rules("");
	ASSERT_NOT_NULL(slab_alloc(&slab));
	slab_exit(&slab);
}

TEST(arrays)
{
	char *p;

	meta = (struct meta){ 0 };
	p = meta_alloc(&meta, 5000);
	ASSERT_NOT_NULL(p);
	ASSERT_EQ(p[0] | p[4999], 0);
	ASSERT_EQ(stat_read(&meta.bytes), 8192u);
	meta_free(&meta, p, 5000);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
	meta_free(&meta, NULL, 5000);
	ASSERT_NULL(meta_alloc(&meta, 1ull << 60));
}
