/* SPDX-License-Identifier: Apache-2.0 */
/*
 * together.c - members that share a limit: who has how much, who is asked.
 *
 * Owns: the sums over the handles of one member within a group, doorbells.
 * Does not own: what a member does when it is rung (reclaim/kswapd.c).
 * Entry points: member_share(), member_ring_others(), member_largest().
 * Lock ranks: none.  What is read may change meanwhile: these are shares, not books.
 */
#include "memcg/internal.h"

/* What a handle has that could leave memory: pages, and compressed ones to the store. */
static u64 reclaimable(const struct memcg_tree *t, const struct objcg *c)
{
	struct memcg_id id = { atomic32_load(&c->memcg) };
	s64 nr = (s64)(stat_read(&c->stat[MEMCG_STAT_ANON]) +
		       stat_read(&c->stat[MEMCG_STAT_FRAMES]) -
		       stat_read(&c->stat[MEMCG_STAT_UNEVICTABLE]));

	if (nr < 0)
		nr = 0;
	if (memcg_zswap_writeback(t, id))
		nr += (s64)(atomic64_load(&c->zswap_bytes) >> PAGE_SHIFT);
	return (u64)nr;
}

static bool is_alone(const struct memcg_tree *t)
{
	return seg_high(t, SEG_MEMBERS, NR_MEMBERS) <= 1;
}

/* Call fn for each handle of id and below that a process has. */
static void for_each_handle(const struct memcg_tree *t, struct memcg_id id,
			    void (*fn)(void *ctx, u32 member, const struct objcg *c), void *ctx)
{
	struct memcg_id at = { 0 };
	const struct objcg *c;

	while ((at = memcg_next(t, id, at)).v) {
		u32 i = atomic32_load(&group_of(t, at)->objcg_first);

		for (u32 n = 0; n < NR_OBJCGS_MAX && (c = objcg_at(t, i)); n++) {
			u32 member = atomic32_load(&c->member);

			if (member < NR_MEMBERS)
				fn(ctx, member, c);
			i = atomic32_load(&c->next);
		}
	}
}

struct sum {
	const struct memcg_tree *t;
	struct member_share share;
};

static void add_share(void *ctx, u32 member, const struct objcg *c)
{
	struct sum *sum = ctx;
	u64 nr = reclaimable(sum->t, c);

	sum->share.all += nr;
	if (member == sum->t->self)
		sum->share.mine += nr;
}

struct member_share member_share(const struct memcg_tree *t, struct memcg_id id)
{
	struct sum sum = { .t = t };

	if (is_alone(t))
		return (struct member_share){ 1, 1 };
	for_each_handle(t, id, add_share, &sum);
	return sum.share;
}

static void ring(void *ctx, u32 member, const struct objcg *c)
{
	const struct memcg_tree *t = ctx;

	if (member != t->self && reclaimable(t, c))
		event_signal(&seg_member(t, member)->doorbell);
}

void member_ring_others(struct memcg_tree *t, struct memcg_id id)
{
	if (!is_alone(t))
		for_each_handle(t, id, ring, t);
}

struct event *member_doorbell(struct memcg_tree *t)
{
	return &seg_member(t, t->self)->doorbell;
}

struct largest {
	const struct memcg_tree *t;
	u32 asked; /* whose sum this pass makes */
	u64 sum, most;
	int pid;
};

static void add_all(void *ctx, u32 member, const struct objcg *c)
{
	struct largest *l = ctx;

	if (member == l->asked)
		l->sum += atomic64_load(&c->memory) - atomic64_load(&c->late_memory) +
			  atomic64_load(&c->swap) - atomic64_load(&c->late_swap);
}

int member_largest(const struct memcg_tree *t, struct memcg_id id)
{
	struct largest l = { .t = t };
	u32 high = seg_high(t, SEG_MEMBERS, NR_MEMBERS);

	for (l.asked = 0; l.asked < high; l.asked++) {
		if (!member_alive(t, l.asked))
			continue;
		l.sum = 0;
		for_each_handle(t, id, add_all, &l);
		if (l.sum > l.most) {
			l.most = l.sum;
			l.pid = seg_member(t, l.asked)->info.pid;
		}
	}
	return l.pid;
}

u64 member_stat(const struct memcg_tree *t, enum memcg_stat item)
{
	u64 sum = 0;

	for (u32 o = 1; o < t->nr_handles; o++) {
		const struct objcg *c = objcg_at(t, atomic32_peek(&t->handle[o]));

		/* Of a free number the word is the next free one. */
		if (c && atomic32_load(&c->state) == OBJCG_LIVE &&
		    atomic32_load(&c->member) == t->self && c->local == o)
			sum += stat_read(&c->stat[item]);
	}
	return (s64)sum > 0 ? sum : 0;
}
