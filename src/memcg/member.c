/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member.c - the processes attached to a tree.
 *
 * Owns: member records: claiming one, leaving, finding those whose process is
 * gone; which group a member is at home in.
 * Does not own: what the report says about a process (the engine fills
 * member_self()), moving a member's pages when its home changes (the engine).
 * Entry points: member_claim(), member_leave(), member_set_home(),
 * member_self(), member_info().
 * Invariants: a record of a member that is gone keeps its information until it
 * is the oldest one and no unused record is left.
 * Lock ranks: TREE for everything but reading.
 *
 * A member is dead when its process is (os_process_alive()), or is another program
 * by now.  What it left charged is taken back from the totals of its handles, which only it
 * wrote.  A kill in the middle of a charge can leave a little too much on the
 * counters; memcg_recount() behind closed gates finds that, and member_reap() when
 * nobody is left.
 */
#include "memcg/internal.h"

#include <errno.h>
#include <string.h>

#include "base/mutant.h"
#include "base/os.h"

static bool member_active(const struct member *m)
{
	return atomic32_load(&m->state) == MEMBER_ACTIVE;
}

/* An unused record, else that of the member longest gone. */
static u32 pick_record(const struct memcg_tree *t)
{
	u32 best = MEMBER_NOBODY;

	for (u32 n = 0; n < NR_MEMBERS; n++) {
		const struct member *m = seg_member(t, n);

		if (atomic32_peek(&m->state) == MEMBER_FREE)
			return n;
		if (atomic32_peek(&m->state) == MEMBER_GONE &&
		    (best == MEMBER_NOBODY || m->info.end_ns < seg_member(t, best)->info.end_ns))
			best = n;
	}
	return best;
}

u32 member_nr_refused(const struct memcg_tree *t)
{
	return atomic32_load(&seg_head(t)->nr_refused);
}

/* Is there no process of that number?  One system call; a zombie counts as alive, and so
 * does whoever has the number now. */
static bool is_away(const struct member *m)
{
	return os_kill(m->info.pid, 0) == -ESRCH;
}

static bool is_dead(const struct member *m)
{
	return m->info.pid != os_getpid() && !os_process_alive(m->info.pid, m->boot_ns);
}

static bool was_us(const struct member *m)
{
	return m->info.pid == os_getpid();
}

static bool reap(struct memcg_tree *t, bool (*gone)(const struct member *m))
{
	u32 high = min_of(atomic32_load(&seg_head(t)->nr_members), NR_MEMBERS);
	bool any = false;

	if (!t->seg->shared)
		return false;
	for (u32 n = 0; n < high; n++) {
		if (!member_active(seg_member(t, n)) || !gone(seg_member(t, n)))
			continue;
		member_leave(t, n);
		any = true;
	}
	return any;
}

bool member_reap(struct memcg_tree *t)
{
	bool any;

	if (segment_lock(t))
		return false;
	segment_change_begin(t);
	any = reap(t, is_dead);
	/* Nobody charges, and nobody can join: no kill leaves anything on the counters. */
	if (any && !memcg_populated(t, MEMCG_ROOT))
		(void)!rebuild_counters(t); /* no memory for it: a few pages too many */
	segment_change_end(t);
	segment_unlock(t);
	return any;
}

int member_claim(struct memcg_tree *t, enum memcg_attach how)
{
	struct atomic32 *nr = &seg_head(t)->nr_members;
	struct atomic32 *refused = &seg_head(t)->nr_refused;
	struct member *m;
	u32 n;

	mutex_assert_held(&t->seg->lock);
	(void)reap(t, is_away);
	if (how == MEMCG_ATTACH_NEW_IMAGE)
		(void)reap(t, was_us);
	n = pick_record(t);
	if (n == MEMBER_NOBODY && reap(t, is_dead))
		n = pick_record(t);
	if (n == MEMBER_NOBODY) {
		atomic32_store(refused, atomic32_peek(refused) + 1);
		return -EUSERS;
	}
	m = seg_member(t, n);
	memset(m, 0, sizeof(*m));
	m->info.pid = os_getpid();
	m->info.home = MEMCG_ROOT.v;
	m->info.start_ns = os_now_ns();
	m->boot_ns = os_boot_ns();
	t->self = n;
	if (atomic32_peek(nr) <= n)
		atomic32_store(nr, n + 1);
	atomic32_store(&m->state, MEMBER_ACTIVE);
	return 0;
}

static void acknowledge_all(struct memcg_tree *t, u32 member)
{
	u32 high = atomic32_peek(&seg_head(t)->area[SEG_GROUPS].nr_high);

	if (atomic32_peek(&group_of(t, MEMCG_ROOT)->nr_dying) == 0)
		return;
	for (u32 i = 1; i < high && i < NR_GROUPS_MAX; i++) {
		struct group *g = group_at(t, i);

		if (g && atomic32_peek(&g->state) == GROUP_OFFLINE &&
		    (atomic64_peek(&g->unreleased) >> member & 1))
			memcg_acknowledge(t, i, member);
	}
}

void member_leave(struct memcg_tree *t, u32 n)
{
	struct member *m;

	mutex_assert_held(&t->seg->lock);
	if (n >= NR_MEMBERS)
		return;
	m = seg_member(t, n);
	objcg_retire_member(t, n);
	if (!MUTANT(leave_keeps_dying))
		acknowledge_all(t, n);
	if (!m->info.end_ns)
		m->info.end_ns = os_now_ns();
	atomic32_store(&m->state, MEMBER_GONE);
}

u32 member_nr_at(const struct memcg_tree *t, struct memcg_id id)
{
	u32 high = min_of(atomic32_load(&seg_head(t)->nr_members), NR_MEMBERS), nr = 0;

	for (u32 n = 0; n < high; n++)
		if (member_active(seg_member(t, n)) && seg_member(t, n)->info.home == id.v)
			nr++;
	return nr;
}

int member_set_home(struct memcg_tree *t, struct memcg_id id)
{
	int ret = segment_lock(t);

	if (ret)
		return ret;
	if (memcg_online(t, id))
		seg_member(t, t->self)->info.home = id.v;
	else
		ret = -ENOENT;
	segment_unlock(t);
	return ret;
}

struct member_info *member_self(struct memcg_tree *t)
{
	quire_assert(t->self < NR_MEMBERS);
	return &seg_member(t, t->self)->info;
}

const struct member_info *member_info(const struct memcg_tree *t, u32 n)
{
	if (n >= NR_MEMBERS || n >= atomic32_load(&seg_head(t)->nr_members))
		return NULL;
	return &seg_member(t, n)->info;
}

bool member_alive(const struct memcg_tree *t, u32 n)
{
	return n < NR_MEMBERS && member_active(seg_member(t, n));
}

bool memcg_populated(const struct memcg_tree *t, struct memcg_id id)
{
	for (u32 n = 0; n < NR_MEMBERS; n++) {
		struct memcg_id home = { seg_member(t, n)->info.home };

		if (member_alive(t, n) && memcg_is_descendant(t, home, id))
			return true;
	}
	return false;
}
