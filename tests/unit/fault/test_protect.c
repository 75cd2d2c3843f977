/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_protect.c - which pages come in write-protected, and what a store makes of them.
 */
#include "base/failpoint.h"
#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static bool is_protected(u32 page)
{
	bool mapped = fake_flags(&r->e->mm.pager, fake_addr(page)) & FAKE_PROTECTED;
	const struct pte *pte = rig_pte(r, page);
	u32 flags;

	ASSERT_EQ(pte_type(pte), PTE_PRESENT);
	flags = atomic32_peek(&page_at(&r->e->mm.pages, (struct page_id){ pte_index(pte) })->flags);
	ASSERT_EQ(mapped, !!(flags & PG_PROTECTED)); /* the kernel and we agree */
	return mapped;
}

/* Out and in again for a read, nr times; how often it came in protected. */
static u32 read_back(u32 nr, bool write_then)
{
	u32 protected = 0;

	for (u32 i = 0; i < nr; i++) {
		populate_cool(&r->e->fault, &r->task[0], fake_addr(0), fake_addr(1), true);
		rig_read(r, 0, 0);
		protected += is_protected(0);
		if (write_then) {
			rig_write(r, 0, 0, RIG_TEXT, i);
			ASSERT_FALSE(is_protected(0));
		}
	}
	return protected;
}

TEST(reads_protect_and_writes_do_not)
{
	r = rig_create(0, true);
	rig_make(r, 0, 4, RIG_TEXT, RIG_POOL);
	rig_make(r, 4, 1, RIG_TEXT, RIG_FRAME);
	rig_read(r, 0, 0);
	ASSERT_TRUE(is_protected(0));
	rig_write(r, 0, 1, RIG_TEXT, 9);
	ASSERT_FALSE(is_protected(1));
	rig_write(r, 0, 0, RIG_TEXT, 9);
	ASSERT_FALSE(is_protected(0));
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGUNPROTECT), 1u);
	rig_read(r, 0, 4); /* from its frame */
	ASSERT_TRUE(is_protected(4));
	rig_drain(r, 0);
	rig_check(r);
	rig_destroy(r);
}

/* Memory that is always written after all is not protected, but for a sample. */
TEST(history_decides)
{
	u32 n;

	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_MAPPED);
	ASSERT_EQ(read_back(50, false), 50u);
	n = read_back(1600, true);
	ASSERT_GT(n, 1600u / 16);
	ASSERT_LT(n, 400u);
	/* And is again when that ends. */
	(void)read_back(8000, false);
	ASSERT_EQ(read_back(50, false), 50u);
	rig_drain(r, 0);
	rig_check(r);
	rig_destroy(r);
}

/* The kernel would not read it, so it counts as dropped (/proc/self/mem of PROT_NONE
 * memory with proc_mem.force_override=never); but it is there.  A store goes on. */
TEST(protected_but_not_known)
{
	static struct failpoints fps;
	struct thread me = { .name = "test", .failpoints = &fps };
	struct memcg_id over;

	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_POOL);
	rig_read(r, 0, 0);
	ASSERT_TRUE(is_protected(0));
	ASSERT_OK(failpoints_parse(&fps, "uffd_read:ENOENT@1/1"));
	thread_attach(&me);
	populate_cool(&r->e->fault, &r->task[0], fake_addr(0), fake_addr(1), true);
	thread_detach();
	ASSERT_EQ(pte_type(rig_pte(r, 0)), PTE_NONE);
	gate_enter(&r->e->fault_gate);
	ASSERT_EQ(fault_serve(&r->e->fault, &r->task[0], 0, fake_addr(0), FAULT_WP, &over),
		  FAULT_DONE);
	gate_leave(&r->e->fault_gate);
	ASSERT_FALSE(fake_flags(&r->e->mm.pager, fake_addr(0)) & FAKE_PROTECTED);
	rig_zap(r, 0, 0, 1);
	rig_drain(r, 0);
	rig_check(r);
	rig_destroy(r);
}
