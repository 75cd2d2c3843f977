/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork.c - the tree and a forked child: a member more, that pays for itself.
 *
 * Owns: the child's member record and charge handles, and when its copy of the
 * parent's memory is charged.
 * Does not own: when that is (engine/fork.c), private segments, which the child has
 * for itself by copy-on-write.
 * Entry points: memcg_tree_fork_prepare(), memcg_tree_fork_child(), memcg_tree_fork_settle().
 * Invariants: the child has what the parent had at the fork under the numbers that
 * pages and slots hold; its totals are true from its first moment, and reach the
 * counters when it settles.  Until then both differ by `late`, which whoever closes
 * its record knows of: a child that ends or is exec'ed first has cost nothing.
 * Lock ranks: TREE, in the parent.  None in the child.
 *
 * The parent makes the records: between the fork and the child's first step
 * nobody would wait for it before an id is used again.
 */
#include "memcg/counters.h"
#include "memcg/internal.h"

#include <errno.h>
#include <string.h>

#include "base/os.h"

#define NR_GAUGES (MEMCG_STAT_UNEVICTABLE + 1)

/* Of one handle, as it was at the fork. */
struct fork_copy {
	u32 record; /* the child's; 0: the number is free */
	u64 memory, swap, zswap_bytes;
	u64 gauge[NR_GAUGES];
};

static size_t copy_bytes(const struct memcg_tree *t)
{
	return t->nr_fork_copies * sizeof(struct fork_copy);
}

static void drop_copy(struct memcg_tree *t)
{
	if (t->fork_copy)
		meta_free(t->meta, t->fork_copy, copy_bytes(t));
	t->fork_copy = NULL;
}

static void copy_totals(struct fork_copy *copy, const struct objcg *from)
{
	copy->memory = atomic64_load(&from->memory);
	copy->swap = atomic64_load(&from->swap);
	copy->zswap_bytes = atomic64_load(&from->zswap_bytes);
	for (u32 n = 0; n < NR_GAUGES; n++)
		copy->gauge[n] = stat_read(&from->stat[n]);
}

static bool copy_handle(struct memcg_tree *t, u32 o, const struct objcg *from)
{
	struct fork_copy *copy = &t->fork_copy[o];
	u32 i = segment_alloc(t, SEG_OBJCGS);
	struct objcg *c = objcg_at(t, i);

	if (!i || !c)
		return false;
	copy->record = i;
	copy_totals(copy, from);
	atomic32_poke(&c->member, t->fork_member);
	atomic32_poke(&c->memcg, atomic32_peek(&from->memcg));
	atomic32_poke(&c->lists, atomic32_peek(&from->lists));
	atomic32_poke(&c->refs, atomic32_peek(&from->refs));
	c->local = o;
	atomic32_store(&c->state, OBJCG_LIVE);
	return objcg_link(t, i, atomic32_peek(&c->memcg));
}

/* A record that is ours in all but its number: until the child runs it has our pid. */
static int make_member(struct memcg_tree *t)
{
	struct member *us = seg_member(t, t->self), *m;
	int ret = member_claim(t, MEMCG_ATTACH_MORE, &t->fork_member);

	if (ret)
		return ret;
	m = seg_member(t, t->fork_member);
	t->fork_boot_ns = m->boot_ns;
	atomic64_store(&m->image, atomic64_load(&us->image));
	m->info.home = us->info.home;
	memcpy(m->info.comm, us->info.comm, sizeof(m->info.comm));
	memcpy(m->info.pager, us->info.pager, sizeof(m->info.pager));
	memcpy(m->info.store_dir, us->info.store_dir, sizeof(m->info.store_dir));
	m->info.store_max = us->info.store_max;
	/* It has whatever we have in hand. */
	atomic64_store(&m->released, atomic64_peek(&us->released));
	atomic32_store(&m->quiet, atomic32_peek(&us->quiet));
	atomic64_store(&m->passive, atomic64_load(&us->passive));
	atomic32_store(&m->state, MEMBER_FORKING);
	return 0;
}

static void undo_member(struct memcg_tree *t)
{
	if (t->fork_member != MEMBER_NOBODY)
		member_leave(t, t->fork_member);
	t->fork_member = MEMBER_NOBODY;
}

/* What we have yet to release the child has in hand as well. */
static void keep_dying(struct memcg_tree *t)
{
	struct group *g = group_at(t, atomic32_peek(&seg_head(t)->dying_first));

	for (u32 n = 0; n < NR_GROUPS_MAX && g; n++) {
		if (atomic64_peek(&g->removal) > member_released(t, t->self))
			atomic32_store(&g->others, 1);
		g = group_at(t, atomic32_peek(&g->dying_next));
	}
}

static int prepare_locked(struct memcg_tree *t)
{
	const struct objcg *c;
	int ret = make_member(t);

	keep_dying(t);

	for (u32 o = 1; o < t->nr_fork_copies && !ret; o++)
		if ((c = handle_in_use(t, o)) && !copy_handle(t, o, c))
			ret = -ENOSPC;
	if (ret)
		undo_member(t);
	return ret;
}

void memcg_tree_fork_wait(const struct memcg_tree *t)
{
	while (t->seg->shared && member_in_the_way(t))
		os_sleep_ns(NSEC_PER_MSEC);
}

int memcg_tree_fork_prepare(struct memcg_tree *t, u32 tid)
{
	int ret;

	if (!t->seg->shared || t->seg->readonly)
		return 0;
	t->fork_member = MEMBER_NOBODY;
	t->fork_tid = tid;
	ret = segment_lock_wait(t);
	if (ret)
		return ret;
	t->nr_fork_copies = t->nr_handles;
	t->fork_copy = meta_alloc(t->meta, copy_bytes(t));
	ret = -ENOMEM;
	if (t->fork_copy) {
		segment_change_begin(t);
		ret = prepare_locked(t);
		segment_change_end(t);
	}
	segment_unlock(t);
	if (ret)
		drop_copy(t);
	return ret;
}

void memcg_tree_fork_again(struct memcg_tree *t)
{
	const struct objcg *c;

	for (u32 o = 1; t->fork_copy && o < t->nr_fork_copies; o++)
		if (t->fork_copy[o].record && (c = handle_in_use(t, o)))
			copy_totals(&t->fork_copy[o], c);
}

void memcg_tree_fork_parent(struct memcg_tree *t)
{
	drop_copy(t);
}

void memcg_tree_fork_failed(struct memcg_tree *t, u32 tid)
{
	/* Another thread has forked since: its child is alive, ours is given up later. */
	if (t->fork_tid != tid || t->fork_member == MEMBER_NOBODY || segment_lock(t))
		return;
	segment_change_begin(t);
	undo_member(t);
	segment_change_end(t);
	segment_unlock(t);
}

/* The totals are ours at once; they are late for the counters. */
static void take_copy(struct memcg_tree *t, u32 o)
{
	const struct fork_copy *copy = &t->fork_copy[o];
	struct objcg *c = objcg_at(t, copy->record);

	if (!c)
		return;
	/* Nobody believes them before we are ACTIVE. */
	atomic64_store(&c->late_memory, copy->memory);
	atomic64_store(&c->late_swap, copy->swap);
	atomic64_store(&c->late_zswap, copy->zswap_bytes);
	atomic64_store(&c->memory, copy->memory);
	atomic64_store(&c->swap, copy->swap);
	atomic64_store(&c->zswap_bytes, copy->zswap_bytes);
	atomic32_store(&t->handle[o], copy->record);
}

int memcg_tree_fork_child(struct memcg_tree *t)
{
	struct member *m;
	u64 now = os_boot_ns();

	mutex_init(&t->seg->lock, "tree", LOCK_RANK_TREE);
	if (!t->seg->shared) {
		m = seg_member(t, t->self);
		m->info.pid = os_getpid();
		event_init(&m->doorbell);
		return 0;
	}
	if (!t->fork_copy)
		return -EUSERS;
	m = seg_member(t, t->fork_member);
	/* Else we were given up before we ran, and the record may be another's. */
	if (m->boot_ns != t->fork_boot_ns ||
	    !atomic32_cas(&m->state, MEMBER_FORKING, MEMBER_ARRIVING + (u32)os_getpid()))
		return -ESRCH;
	m->boot_ns = now;
	m->info.start_ns = os_now_ns();
	m->info.pid = os_getpid();
	for (u32 o = 1; o < t->nr_fork_copies; o++)
		take_copy(t, o);
	t->self = t->fork_member;
	t->fork_member = MEMBER_NOBODY;
	atomic32_store(&m->state, MEMBER_ACTIVE);
	return 0;
}

static void charge_late(struct memcg_tree *t, struct objcg *c, enum page_counter_kind k,
			struct atomic64 *late)
{
	u64 nr = atomic64_load(late);

	counters_begin(t);
	(void)page_counter_charge(t, atomic32_load(&c->memcg), k, nr, 0);
	atomic64_store(late, 0);
	counters_end(t);
}

void memcg_tree_fork_settle(struct memcg_tree *t, struct objcg_id home)
{
	bool is_passive = atomic64_load(&seg_member(t, t->self)->passive);

	for (u32 o = 1; t->fork_copy && o < t->nr_fork_copies; o++) {
		const struct fork_copy *copy = &t->fork_copy[o];
		struct objcg *c = objcg_at(t, copy->record);

		if (!c)
			continue;
		for (u32 n = 0; n < NR_GAUGES; n++)
			stat_add(&c->stat[n], copy->gauge[n]);
		charge_late(t, c, COUNTER_SWAP, &c->late_swap);
		charge_late(t, c, COUNTER_ZSWAP, &c->late_zswap);
		/* What is not in pages is the parent's until somebody writes to it.  One
		 * that does not page never looks; it is counted by others, and anew. */
		if (o == home.v && is_passive)
			memcg_set_overhead(t, home, MEMCG_STAT_UNMANAGED, 0);
		if (o == home.v && !is_passive)
			memcg_set_shared(t, home, UINT64_MAX);
		else
			charge_late(t, c, COUNTER_MEMORY, &c->late_memory);
	}
	drop_copy(t);
}
