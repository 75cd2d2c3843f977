/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protection.c - memory.min and memory.low: settings, and what they are worth.
 *
 * Owns: the settings, and the arithmetic from settings and usage to effective
 * protection (algorithms.md 4.4; cgroup-v2: memory.min, memory.low,
 * memory_recursiveprot).
 * Does not own: the sums of protected usage, kept by every charge
 * (page_counter.c); what reclaim does with the result.
 * Entry points: memcg_set_protection(), memcg_protection().
 * Invariants: nothing is cached: the effective values of a group follow from
 * its chain up to the reclaim target, so two reclaimers with different targets
 * cannot spoil each other's view.  min and low of an OFFLINE group are 0.
 * Lock ranks: none.
 */
#include "memcg/counters.h"
#include "memcg/internal.h"

/* A sum of unsigned differences may dip below zero while charges race. */
static u64 not_negative(u64 sum)
{
	return (s64)sum < 0 ? 0 : sum;
}

/*
 * What a group whose setting covers `protected` of its usage gets of its
 * parent's effective protection, of which its siblings and it claim `claimed`.
 * Resident pages have 32-bit names, so products of two usages fit.
 */
static u64 effective(u64 usage, u64 setting, u64 parent_eff, u64 parent_usage, u64 claimed,
		     bool recursive)
{
	u64 protected = min_of(usage, setting);

	/* More than the parent uses is worth no more than that. */
	parent_eff = min_of(parent_eff, parent_usage);
	if (claimed > parent_eff)
		return protected * parent_eff / claimed;
	if (!recursive || claimed == parent_eff || usage == protected)
		return protected;
	/* parent_usage >= parent_eff > claimed */
	return protected + (parent_eff - claimed) * (usage - protected) / (parent_usage - claimed);
}

/* One step down: from the protection of the parent p to that of its child g. */
static struct memcg_protection step_down(const struct group *p, const struct group *g,
					 struct memcg_protection prot, bool recursive)
{
	u64 usage = atomic64_load(&g->usage[COUNTER_MEMORY]);
	u64 parent_usage = atomic64_load(&p->usage[COUNTER_MEMORY]);
	u64 claimed_min = not_negative(atomic64_load(&p->children_min_usage));
	u64 claimed_low = not_negative(atomic64_load(&p->children_low_usage));

	return (struct memcg_protection){
		.emin = effective(usage, atomic64_load(&g->min), prot.emin, parent_usage,
				  claimed_min, recursive),
		.elow = effective(usage, atomic64_load(&g->low), prot.elow, parent_usage,
				  claimed_low, recursive),
	};
}

void memcg_protection(struct memcg_tree *t, struct memcg_id root, struct memcg_id id,
		      struct memcg_protection *ret)
{
	bool recursive = atomic32_load(&seg_head(t)->flags) & SEG_RECURSIVEPROT;
	const struct group *path[NR_LEVELS], *g;
	struct memcg_protection prot = { 0, 0 };
	u32 i = id.v, nr = 0;

	*ret = prot; /* the target itself, and what is not below it */
	while (i != root.v) {
		g = group_at(t, i);
		if (!g || nr == NR_LEVELS)
			return;
		path[nr++] = g;
		i = atomic32_load(&g->parent);
	}
	if (nr == 0)
		return;
	/* First level under the target: its own settings. */
	g = path[--nr];
	prot.emin = atomic64_load(&g->min);
	prot.elow = atomic64_load(&g->low);
	while (nr > 0) {
		prot = step_down(g, path[nr - 1], prot, recursive);
		g = path[--nr];
	}
	*ret = prot;
}

void memcg_set_protection(struct memcg_tree *t, struct memcg_id id, u64 min_or_same,
			  u64 low_or_same)
{
	struct group *g = group_of(t, id);

	if (min_or_same != UINT64_MAX)
		(void)atomic64_xchg(&g->min, min_of(min_or_same, PAGE_COUNTER_MAX));
	if (low_or_same != UINT64_MAX)
		(void)atomic64_xchg(&g->low, min_of(low_or_same, PAGE_COUNTER_MAX));
	counters_begin(t);
	page_counter_propagate(t, g, atomic64_load(&g->usage[COUNTER_MEMORY]));
	counters_end(t);
}

u64 memcg_min(const struct memcg_tree *t, struct memcg_id id)
{
	return atomic64_load(&group_of(t, id)->min);
}

u64 memcg_low(const struct memcg_tree *t, struct memcg_id id)
{
	return atomic64_load(&group_of(t, id)->low);
}

void memcg_set_recursiveprot(struct memcg_tree *t, bool on)
{
	if (on)
		(void)atomic32_fetch_or(&seg_head(t)->flags, SEG_RECURSIVEPROT);
	else
		(void)atomic32_fetch_and(&seg_head(t)->flags, ~SEG_RECURSIVEPROT);
}
