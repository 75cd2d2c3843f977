/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles.c - the names of compressed objects, which stay while compaction moves them.
 *
 * Owns the table's address space, of which it makes accessible what is used, and the
 * free handles.  What a handle in use stands for is zsmalloc.c's, under a class lock.
 * Entry points: handles_alloc(), handles_free().
 * Lock ranks: SLAB.
 */
#include "zswap/handles.h"

#include <sys/mman.h>

#include "base/os.h"

#define HANDLE_STEP (64 * KIB)
#define MAX_HANDLES 0x7fffffffu

int handles_init(struct handles *t, u64 nr_max)
{
	void *at;
	int err;

	t->nr_max = (u32)min_of(nr_max, (u64)MAX_HANDLES);
	err = os_mmap_anon(align_up((size_t)t->nr_max * sizeof(u32), HANDLE_STEP), PROT_NONE, true,
			   &at);
	if (err)
		return err;
	os_name_mapping(at, align_up((size_t)t->nr_max * sizeof(u32), HANDLE_STEP),
			"quire: zsmalloc handles");
	t->at = at;
	t->nr_high = 1;
	mutex_init(&t->lock, "zs_handles", LOCK_RANK_SLAB);
	return 0;
}

void handles_exit(struct handles *t, struct meta *meta)
{
	stat_sub(&meta->bytes, t->nr_ready * sizeof(u32));
	(void)os_munmap(t->at, align_up((size_t)t->nr_max * sizeof(u32), HANDLE_STEP));
}

static u32 grow_locked(struct handles *t, struct meta *meta)
{
	if (t->nr_high >= t->nr_max)
		return 0;
	if (t->nr_high >= t->nr_ready) {
		if (os_commit((char *)t->at + (size_t)t->nr_ready * sizeof(u32), HANDLE_STEP))
			return 0;
		t->nr_ready += HANDLE_STEP / sizeof(u32);
		stat_add(&meta->bytes, HANDLE_STEP);
	}
	return t->nr_high++;
}

u32 handles_alloc(struct handles *t, struct meta *meta)
{
	u32 h;

	mutex_lock(&t->lock);
	h = t->free_head;
	if (h)
		t->free_head = t->at[h];
	else
		h = grow_locked(t, meta);
	mutex_unlock(&t->lock);
	if (h)
		stat_add(&t->nr_live, 1);
	return h;
}

void handles_free(struct handles *t, u32 h)
{
	mutex_lock(&t->lock);
	t->at[h] = t->free_head;
	t->free_head = h;
	mutex_unlock(&t->lock);
	stat_sub(&t->nr_live, 1);
}
