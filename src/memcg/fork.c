/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork.c - the tree of a forked child.
 *
 * Owns: turning a shared segment into the child's private one.
 * Does not own: when (the engine's fork handler), private segments (they need
 * nothing but a free mutex and the new pid).
 * Entry points: memcg_tree_fork_child().
 * Invariants: addresses, ids and this member's totals are as in the parent.
 * Lock ranks: TREE, uncontended.
 *
 * A private segment came by copy-on-write: it is the child's own already.  A
 * shared one is replaced, at the same addresses, by a private copy: the child's
 * charges are then a snapshot of the parent's and nobody counts them twice.
 * Until limits are shared across processes the child is alone with its limits
 * from here on, and not in the parent's report.
 * Runs in the child before any other thread exists; the parent's gates were
 * closed at the fork, so its own records are at rest.
 */
#include "memcg/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/os.h"

static bool page_is_zero(const char *page)
{
	const u64 *word = (const u64 *)page;

	for (u32 i = 0; i < PAGE_SIZE / sizeof(*word); i++)
		if (word[i])
			return false;
	return true;
}

/* Replace [addr, addr+len) by private memory with the same bytes. */
static int copy_piece(char *addr, size_t len)
{
	void *copy;
	int err = os_mmap_anon(len, PROT_READ | PROT_WRITE, false, &copy);
	long moved;

	if (err)
		return err;
	/* Page by page and only what is there: most of a chunk never was touched. */
	for (size_t off = 0; off < len; off += PAGE_SIZE)
		if (!page_is_zero(addr + off))
			memcpy((char *)copy + off, addr + off, PAGE_SIZE);
	moved = os_mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr);
	return moved < 0 ? (int)moved : 0;
}

static int copy_area(struct segment *s, enum seg_area a, size_t first, size_t record)
{
	size_t bytes = (size_t)atomic32_peek(&s->nr_mapped[a]) * record;
	u32 nr_chunks = bytes > first ? (u32)((bytes - first + SEG_CHUNK - 1) / SEG_CHUNK) : 0;
	int err = 0;

	for (u32 n = 0; n < nr_chunks && !err; n++)
		err = copy_piece(s->area[a] + first + n * SEG_CHUNK, SEG_CHUNK);
	return err;
}

/* Chunks that others made and we never mapped are not part of the copy. */
static void trim_area(struct memcg_tree *t, enum seg_area a, size_t first, size_t record)
{
	struct area_head *ah = &seg_head(t)->area[a];
	u32 nr = atomic32_peek(&t->seg->nr_mapped[a]);
	size_t bytes = (size_t)nr * record;

	atomic32_store(&ah->nr_ready, nr);
	atomic32_store(&ah->nr_high, min_of(atomic32_peek(&ah->nr_high), nr));
	atomic32_store(&ah->nr_chunks,
		       bytes > first ? (u32)((bytes - first + SEG_CHUNK - 1) / SEG_CHUNK) : 0);
}

/*
 * The other members went on while we copied: links and counters may not fit
 * together, and they are no members of the copy.  Their totals and ours are
 * whole words, so links are made anew, counters are added up from the totals,
 * and then the others leave.
 */
static int become_alone(struct memcg_tree *t)
{
	int err;

	mutex_lock(&t->seg->lock);
	segment_change_begin(t);
	rebuild_tree(t);
	segment_change_end(t);
	mutex_unlock(&t->seg->lock);
	err = memcg_recount(t);
	if (err)
		return err;
	mutex_lock(&t->seg->lock);
	segment_change_begin(t);
	for (u32 n = 0; n < NR_MEMBERS; n++)
		if (n != t->self && member_alive(t, n))
			member_leave(t, n);
	segment_change_end(t);
	mutex_unlock(&t->seg->lock);
	return 0;
}

int memcg_tree_fork_child(struct memcg_tree *t)
{
	struct segment *s = t->seg;
	bool copied = s->shared && !s->readonly;
	int err = 0;

	if (copied) {
		err = copy_piece(s->base, SEG_HEAD_BYTES + SEG_GROUPS_FIRST);
		if (!err)
			err = copy_piece(s->area[SEG_OBJCGS], SEG_OBJCGS_FIRST);
		if (!err)
			err = copy_area(s, SEG_GROUPS, SEG_GROUPS_FIRST, sizeof(struct group));
		if (!err)
			err = copy_area(s, SEG_OBJCGS, SEG_OBJCGS_FIRST, sizeof(struct objcg));
		s->shared = false;
		s->fd = -1;
		trim_area(t, SEG_GROUPS, SEG_GROUPS_FIRST, sizeof(struct group));
		trim_area(t, SEG_OBJCGS, SEG_OBJCGS_FIRST, sizeof(struct objcg));
	}
	mutex_init(&s->lock, "tree", LOCK_RANK_TREE);
	if (err)
		return err;
	if (t->self < NR_MEMBERS)
		seg_member(t, t->self)->info.pid = os_getpid();
	return copied ? become_alone(t) : 0;
}
