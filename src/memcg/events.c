/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.c - memory.events and memory.swap.events.
 *
 * Owns: the event counts of groups (cgroup-v2: memory.events,
 * memory.events.local, memory.swap.events).
 * Does not own: who is told; the upcall posts, the engine's callback thread
 * writes eventfds at its own pace.
 * Entry points: memcg_count_event(), memcg_event_count().
 * Invariants: the count of a group is that of its own events plus all that
 * ever happened below, removed groups included (L6).
 * Lock ranks: none.
 *
 * Only the hierarchical count is kept.  The local one is what the children do
 * not account for: so a removed child's events become its parent's own in the
 * moment the child is unlinked, with nothing to move and nothing to lose.
 */
#include "memcg/internal.h"

void memcg_count_event(struct memcg_tree *t, struct memcg_id id, enum memcg_event ev)
{
	struct group *g;
	u32 i = id.v;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		stat_add(&g->event[ev], 1);
		if (t->up.event)
			t->up.event(t->up.ctx, (struct memcg_id){ i }, ev);
		i = atomic32_peek(&g->parent);
	}
}

static u64 children_count(const struct memcg_tree *t, const struct group *g, enum memcg_event ev)
{
	u32 i = atomic32_load(&g->child_first);
	const struct group *child;
	u64 sum = 0;

	for (u32 n = 0; n < NR_GROUPS_MAX && (child = group_at(t, i)); n++) {
		sum += stat_read(&child->event[ev]);
		i = atomic32_load(&child->sib_next);
	}
	return sum;
}

u64 memcg_event_count(const struct memcg_tree *t, struct memcg_id id, enum memcg_event ev,
		      bool local)
{
	const struct group *g = group_of(t, id);
	u64 below, all;

	if (!local)
		return stat_read(&g->event[ev]);
	for (u32 try = 0;; try++) {
		u32 seq = segment_seq(t);

		/* Children first: an event between the two reads is ours then. */
		below = children_count(t, g, ev);
		all = stat_read(&g->event[ev]);
		if (segment_seq_same(t, seq) || try == SEQ_TRIES)
			break;
	}
	return all - min_of(below, all);
}
