/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - a member's record says when it changes counters.
 */
#ifndef QUIRE_MEMCG_COUNTERS_H
#define QUIRE_MEMCG_COUNTERS_H

#include "memcg/internal.h"

/*
 * Between these a thread changes counters and the totals that they are the sums of.  In the
 * low half of the word are the threads that do, in the high half how often it became one less:
 * so a recount knows that nobody did while it looked, and that one died who did.
 */
#define COUNTERS_ENDED (1ull << 32)

static inline struct member *counters_member(const struct memcg_tree *t)
{
	return t->seg->shared && t->self < NR_MEMBERS ? seg_member(t, t->self) : NULL;
}

static inline void counters_begin(struct memcg_tree *t)
{
	struct member *m = counters_member(t);

	if (m)
		(void)atomic64_fetch_add(&m->charging, 1);
}

static inline void counters_end(struct memcg_tree *t)
{
	struct member *m = counters_member(t);

	if (m)
		(void)atomic64_fetch_add(&m->charging, COUNTERS_ENDED - 1);
}

#endif
