/* SPDX-License-Identifier: Apache-2.0 */
/*
 * high.c - memory.high and memory.swap.high: how far over, how long to sleep.
 *
 * Owns: the overage of a group and its ancestors and the penalty for it
 * (algorithms.md 4.3; cgroup-v2: memory.high, memory.swap.high).
 * Does not own: who sleeps and how (a fault thread maps without waking and
 * sets a timer), reclaim before that, the `high` event (counted by who
 * reclaims because of it).
 * Entry points: memcg_over_high(), memcg_high_delay_ns().
 * Invariants: the delay is 0 or between 10 ms and 2 s.
 * Lock ranks: none.
 *
 * The penalty grows with the square of the overage, so that a group a little
 * over hardly notices and one that runs away is stopped before it can exhaust
 * the machine.  The fixed point is the kernel's: 20 bits of overage, 14 bits
 * scaling, per 64 pages charged.
 */
#include "memcg/internal.h"

#include "base/probe.h"

#define OVERAGE_SHIFT 20
#define SCALING_SHIFT 14
#define PENALTY_MAX_NS (2 * NSEC_PER_SEC)
#define PENALTY_MIN_NS (10 * NSEC_PER_MSEC)
#define OVERAGE_MAX (1ull << 30) /* 1024 times the limit: the cap is long reached */

/* (usage - high) / high, 20 bits after the point. */
static u64 overage(u64 usage, u64 high)
{
	if (usage <= high)
		return 0;
	high = max_of(high, 1);
	if ((usage - high) >> 43)
		return OVERAGE_MAX;
	return min_of(((usage - high) << OVERAGE_SHIFT) / high, OVERAGE_MAX);
}

static u64 overage_of(const struct group *g, enum page_counter_kind k)
{
	return overage(atomic64_load(&g->usage[k]), atomic64_load(&g->high[k]));
}

static u64 penalty_ns(u64 over, u32 nr_charged)
{
	__uint128_t ns = (__uint128_t)over * over * NSEC_PER_SEC;

	ns = (ns >> (OVERAGE_SHIFT + SCALING_SHIFT)) * nr_charged / STOCK_BATCH;
	return ns > PENALTY_MAX_NS ? PENALTY_MAX_NS : (u64)ns;
}

u64 memcg_over_high(const struct memcg_tree *t, struct memcg_id id, struct memcg_id *ret_which)
{
	u64 most = 0;
	const struct group *g;
	u32 i = id.v;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		u64 usage = atomic64_load(&g->usage[COUNTER_MEMORY]);
		u64 high = atomic64_load(&g->high[COUNTER_MEMORY]);

		if (usage > high && usage - high > most) {
			most = usage - high;
			ret_which->v = i;
		}
		i = atomic32_peek(&g->parent);
	}
	return most;
}

u64 memcg_high_delay_ns(struct memcg_tree *t, struct memcg_id id, u32 nr_charged)
{
	u64 memory = 0, swap = 0, over, ns;
	const struct group *g;
	u32 i = id.v;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		over = overage_of(g, COUNTER_MEMORY);
		memory = max_of(memory, over);
		over = overage_of(g, COUNTER_SWAP);
		swap = max_of(swap, over);
		if (over)
			memcg_count_event(t, (struct memcg_id){ i }, MEMCG_SWAP_HIGH);
		i = atomic32_peek(&g->parent);
	}
	ns = min_of(penalty_ns(memory, nr_charged) + penalty_ns(swap, nr_charged), PENALTY_MAX_NS);
	if (ns <= PENALTY_MIN_NS)
		return 0;
	PROBE_THROTTLE(id.v, ns);
	return ns;
}
