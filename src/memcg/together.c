/* SPDX-License-Identifier: Apache-2.0 */
/*
 * together.c - members that share a limit: who has how much, who is asked.
 *
 * Owns: the sums over the handles of one member within a group, doorbells, the charge
 * of members that do not page.
 * Does not own: what a member does when it is rung (reclaim/kswapd.c), when one must
 * begin to page (engine/start.c).
 * Entry points: member_share(), member_ring_others(), member_largest(),
 * member_count_passive().
 * Lock ranks: TREE, to charge another member.  Else none: what is read may change
 * meanwhile, these are shares, not books.
 *
 * A member that does not page has no thread that could count it.  Together they may
 * fill no more than a limit leaves (member_others_passive()), and one of those that page
 * counts them all: by their part of what copy-on-write shares, since six children of a
 * program with 20 MiB have 20 MiB, and not 120.
 */
#include "memcg/internal.h"

#include "base/os.h"

#define COUNT_NS (100 * NSEC_PER_MSEC)
/* What a process has besides what it maps through us: libc's data, stacks, our tables. */
#define PASSIVE_OWN MIB
#define OOM_NS (3 * NSEC_PER_SEC)

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
	u64 stolen = stat_read(&c->stat[MEMCG_STAT_PGSTEAL_KSWAPD]) +
		     stat_read(&c->stat[MEMCG_STAT_PGSTEAL_DIRECT]);

	sum->share.all += nr;
	sum->share.stolen_all += stolen;
	if (member != sum->t->self)
		return;
	sum->share.mine += nr;
	sum->share.stolen_mine += stolen;
}

struct member_share member_share(const struct memcg_tree *t, struct memcg_id id)
{
	struct sum sum = { .t = t };

	if (is_alone(t))
		return (struct member_share){ .mine = 1, .all = 1 };
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
	const struct member_info *who;
};

static void add_all(void *ctx, u32 member, const struct objcg *c)
{
	struct largest *l = ctx;

	if (member == l->asked)
		l->sum += atomic64_load(&c->memory) - atomic64_load(&c->late_memory) +
			  atomic64_load(&c->swap) - atomic64_load(&c->late_swap);
}

const struct member_info *member_largest(const struct memcg_tree *t, struct memcg_id id)
{
	struct largest l = { .t = t };
	u32 high = seg_high(t, SEG_MEMBERS, NR_MEMBERS);

	for (l.asked = 0; l.asked < high; l.asked++) {
		if (!member_alive(t, l.asked) || seg_member(t, l.asked)->info.last_words[0])
			continue;
		l.sum = 0;
		for_each_handle(t, id, add_all, &l);
		if (l.sum > l.most) {
			l.most = l.sum;
			l.who = &seg_member(t, l.asked)->info;
		}
	}
	return l.who;
}

bool member_oom_begin(struct memcg_tree *t)
{
	struct atomic64 *until = &seg_head(t)->oom_until_ns;
	u64 now = os_now_ns(), old = atomic64_load(until);

	t->oom_until_ns = now + OOM_NS;
	return old <= now && atomic64_cas(until, old, t->oom_until_ns);
}

/* Unless we took so long that another does it by now. */
void member_oom_end(struct memcg_tree *t)
{
	(void)atomic64_cas(&seg_head(t)->oom_until_ns, t->oom_until_ns, 0);
}

bool member_is_ending(const struct memcg_tree *t, struct memcg_id id)
{
	u32 high = seg_high(t, SEG_MEMBERS, NR_MEMBERS);

	for (u32 n = 0; n < high; n++) {
		const struct member_info *m = &seg_member(t, n)->info;

		if (member_alive(t, n) && m->last_words[0] &&
		    memcg_is_descendant(t, (struct memcg_id){ m->home }, id))
			return true;
	}
	return false;
}

/* ---- members that do not page ------------------------------------------------- */

void member_set_passive(struct memcg_tree *t, u64 bytes)
{
	atomic64_store(&seg_member(t, t->self)->passive, bytes);
}

/* What it has told, if it is one; also a child that is not there yet. */
static u64 passive_bytes(const struct memcg_tree *t, u32 n)
{
	return n != t->self && member_alive(t, n) ? atomic64_load(&seg_member(t, n)->passive) : 0;
}

/* Until it is there, its record has its parent's pid. */
static bool may_count(const struct memcg_tree *t, u32 n)
{
	return passive_bytes(t, n) && atomic32_load(&seg_member(t, n)->state) == MEMBER_ACTIVE;
}

u64 member_others_passive(const struct memcg_tree *t, struct memcg_id id)
{
	u32 high = seg_high(t, SEG_MEMBERS, NR_MEMBERS);
	u64 sum = 0, bytes;

	for (u32 n = 0; n < high && high > 1; n++) {
		struct memcg_id home = { seg_member(t, n)->info.home };

		bytes = passive_bytes(t, n);
		if (bytes && memcg_is_descendant(t, home, id))
			sum += bytes + PASSIVE_OWN;
	}
	return sum;
}

/* Under the lock it is still that member, and nobody reaps it. */
static void charge_passive(struct memcg_tree *t, u32 n, u64 boot_ns, u64 pages)
{
	const struct member *m = seg_member(t, n);
	struct objcg *c;

	if (segment_lock(t))
		return;
	c = objcg_at(t, objcg_find(t, m->info.home, n));
	if (c && m->boot_ns == boot_ns && may_count(t, n))
		objcg_set_overhead(t, c, MEMCG_STAT_UNMANAGED, pages);
	segment_unlock(t);
}

void member_count_passive(struct memcg_tree *t)
{
	struct atomic64 *next = &seg_head(t)->count_next_ns;
	u32 high = seg_high(t, SEG_MEMBERS, NR_MEMBERS);
	u64 now = os_now_ns(), old = atomic64_load(next);

	if (is_alone(t) || old > now || !atomic64_cas(next, old, now + COUNT_NS))
		return;
	for (u32 n = 0; n < high; n++) {
		const struct member *m = seg_member(t, n);
		u64 boot_ns = m->boot_ns, bytes, others;

		if (!may_count(t, n))
			continue;
		bytes = os_process_anon(m->info.pid, &others);
		charge_passive(t, n, boot_ns, (bytes - others) >> PAGE_SHIFT);
	}
	/* At most 1 % of the time. */
	atomic64_store(next, os_now_ns() + max_of(COUNT_NS, 100 * (os_now_ns() - now)));
}

u64 member_stat(const struct memcg_tree *t, enum memcg_stat item)
{
	u64 sum = 0;

	for (u32 o = 1; o < t->nr_handles; o++) {
		const struct objcg *c = handle_in_use(t, o);

		if (c)
			sum += stat_read(&c->stat[item]);
	}
	return (s64)sum > 0 ? sum : 0;
}
