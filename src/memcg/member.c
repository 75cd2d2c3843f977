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
 * wrote.  A kill in the middle of a charge leaves the counters wrong; its record says that
 * it was there (counters_begin()), and then they are counted anew.
 */
#include "memcg/internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/mutant.h"
#include "base/os.h"

/* Records of members that are gone, for the report. */
#define NR_GONE_KEPT 64
/* So long a forked child may take until it runs. */
#define FORK_NS (10 * NSEC_PER_SEC)

static bool member_active(const struct member *m)
{
	u32 state = atomic32_load(&m->state);

	return state == MEMBER_ACTIVE || state == MEMBER_FORKING || state >= MEMBER_ARRIVING;
}

static u32 nr_members(const struct memcg_tree *t)
{
	return seg_high(t, SEG_MEMBERS, NR_MEMBERS);
}

/* An unused record; where enough of members that are gone are kept for the report, that
 * of the one longest gone.  MEMBER_NOBODY: all are in use. */
static u32 pick_record(struct memcg_tree *t)
{
	u32 high = nr_members(t), nr_gone = 0, oldest = MEMBER_NOBODY;

	for (u32 n = 0; n < high; n++) {
		const struct member *m = seg_member(t, n);

		if (member_active(m))
			continue;
		nr_gone++;
		if (oldest == MEMBER_NOBODY || m->info.end_ns < seg_member(t, oldest)->info.end_ns)
			oldest = n;
	}
	if (nr_gone < NR_GONE_KEPT && segment_commit(t, SEG_MEMBERS, high + 1))
		return high;
	return oldest;
}

bool memcg_tree_fork_room(const struct memcg_tree *t)
{
	u32 high = nr_members(t);

	for (u32 n = 0; n < high && high == NR_MEMBERS && t->seg->shared; n++)
		if (!member_active(seg_member(t, n)))
			return true;
	return high < NR_MEMBERS;
}

/* It should have been there long ago: it does not come any more, or comes just now. */
static bool is_late(const struct member *m)
{
	return atomic32_load(&m->state) == MEMBER_FORKING && os_boot_ns() >= m->boot_ns + FORK_NS;
}

static bool give_up(struct member *m)
{
	return is_late(m) &&
	       (MUTANT(give_up_unasked) || atomic32_cas(&m->state, MEMBER_FORKING, MEMBER_GONE));
}

/* Its process.  That of a child that arrives is in the same word as that it does: it
 * may write nothing to a record that is perhaps another's. */
static int pid_of(const struct member *m)
{
	u32 state = atomic32_load(&m->state);

	return state >= MEMBER_ARRIVING ? (int)(state - MEMBER_ARRIVING) : m->info.pid;
}

/* Is there no process of that number?  One system call; a zombie counts as alive, and so
 * does whoever has the number now. */
static bool is_away(const struct member *m)
{
	return os_kill(pid_of(m), 0) == -ESRCH;
}

/* Its process is another program now, one that has not joined. */
static bool is_replaced(const struct member *m)
{
	u64 was = atomic64_load(&m->image), image = was ? os_process_image(m->info.pid) : 0;

	return image && image != was;
}

static bool is_ended(const struct member *m)
{
	bool arriving = atomic32_load(&m->state) >= MEMBER_ARRIVING;

	return !os_process_alive(pid_of(m), arriving ? os_boot_ns() : m->boot_ns);
}

static bool is_dead(const struct member *m)
{
	if (atomic32_load(&m->state) >= MEMBER_ARRIVING)
		return is_ended(m);
	return pid_of(m) != os_getpid() && (is_ended(m) || is_replaced(m));
}

bool member_all_ended(const struct memcg_tree *t)
{
	u32 high = nr_members(t);

	if (!segment_same_namespace(t))
		return false;
	for (u32 n = 0; n < high; n++) {
		const struct member *m = seg_member(t, n);

		if (!member_active(m))
			continue;
		/* One that is replaced is between two programs (execve), and will be back. */
		if (atomic32_load(&m->state) == MEMBER_FORKING ? !is_late(m) : !is_ended(m))
			return false;
	}
	return true;
}

bool member_was_replaced(const struct memcg_tree *t, int pid)
{
	u32 high = nr_members(t);

	for (u32 n = 0; n < high; n++) {
		const struct member *m = seg_member(t, n);

		if (m->info.pid == pid && atomic32_load(&m->state) == MEMBER_ACTIVE &&
		    is_replaced(m))
			return true;
	}
	return false;
}

static bool was_us(const struct member *m)
{
	return m->info.pid == os_getpid() && atomic32_load(&m->state) == MEMBER_ACTIVE;
}

void member_was_us(struct memcg_tree *t)
{
	u32 high = nr_members(t);

	for (u32 n = 0; n < high; n++)
		if (was_us(seg_member(t, n)) && atomic64_load(&seg_member(t, n)->image))
			atomic64_store(&seg_member(t, n)->image, os_process_image(os_getpid()));
}

static bool reap(struct memcg_tree *t, bool (*gone)(const struct member *m))
{
	u32 high = nr_members(t);
	bool any = false;

	if (!t->seg->shared)
		return false;
	for (u32 n = 0; n < high; n++) {
		struct member *m = seg_member(t, n);

		if (!member_active(m))
			continue;
		if (atomic32_load(&m->state) == MEMBER_FORKING ? !give_up(m) : !gone(m))
			continue;
		member_leave(t, n);
		any = true;
	}
	return any;
}

/* Seldom: the lock is not taken for nothing. */
static bool is_work_for_reaper(const struct memcg_tree *t)
{
	u32 high = nr_members(t);

	if (!t->seg->shared)
		return false;
	for (u32 n = 0; n < high; n++) {
		const struct member *m = seg_member(t, n);

		if (member_active(m) && (is_late(m) || is_dead(m)))
			return true;
	}
	return atomic32_load(&seg_head(t)->recount_due) || segment_lock_lost(t);
}

bool member_reap(struct memcg_tree *t)
{
	bool any;

	if (!is_work_for_reaper(t) || segment_lock(t))
		return false;
	segment_change_begin(t);
	any = reap(t, is_dead);
	rebuild_due_counters(t);
	segment_change_end(t);
	segment_unlock(t);
	return any;
}

bool member_reap_since(struct memcg_tree *t, u64 period_ns)
{
	struct atomic64 *last = &seg_head(t)->reaped_ns;
	u64 now = os_now_ns(), old = atomic64_load(last);

	return now - old >= period_ns && atomic64_cas(last, old, now) && member_reap(t);
}

int member_claim(struct memcg_tree *t, enum memcg_attach how, u32 *ret_n)
{
	struct atomic32 *high = &seg_head(t)->area[SEG_MEMBERS].nr_high;
	struct atomic32 *refused = &seg_head(t)->nr_refused;
	struct atomic32 *forgotten = &seg_head(t)->nr_forgotten;
	u32 own = MEMBER_NOBODY, n;
	struct member *m;

	mutex_assert_held(&t->seg->lock);
	(void)reap(t, is_away);
	/* The process goes on, and so does its record. */
	for (u32 i = 0; i < nr_members(t) && how == MEMCG_ATTACH_NEW_IMAGE; i++) {
		if (!member_active(seg_member(t, i)) || !was_us(seg_member(t, i)))
			continue;
		member_leave(t, i);
		own = i;
	}
	rebuild_due_counters(t);
	n = own != MEMBER_NOBODY ? own : pick_record(t);
	if (n == MEMBER_NOBODY && reap(t, is_dead))
		n = pick_record(t);
	if (n == MEMBER_NOBODY) {
		atomic32_store(refused, atomic32_peek(refused) + 1);
		return -EUSERS;
	}
	m = seg_member(t, n);
	if (n != own && atomic32_peek(&m->state) == MEMBER_GONE)
		atomic32_store(forgotten, atomic32_peek(forgotten) + 1);
	memset(m, 0, sizeof(*m));
	m->info.pid = os_getpid();
	m->info.home = MEMCG_ROOT.v;
	m->info.start_ns = os_now_ns();
	m->boot_ns = os_boot_ns();
	atomic64_store(&m->released, atomic64_peek(&seg_head(t)->nr_removed));
	if (how == MEMCG_ATTACH_NEW_IMAGE)
		atomic64_poke(&m->image, os_process_image(os_getpid()));
	if (t->seg->shared)
		event_init_shared(&m->doorbell);
	else
		event_init(&m->doorbell);
	*ret_n = n;
	if (atomic32_peek(high) <= n)
		atomic32_store(high, n + 1);
	atomic32_store(&m->state, MEMBER_ACTIVE);
	return 0;
}

void member_close_half_made(struct memcg_tree *t)
{
	u32 high = nr_members(t);

	mutex_assert_held(&t->seg->lock);
	for (u32 n = 0; n < high; n++) {
		struct member *m = seg_member(t, n);

		if (!member_active(m) && !m->info.end_ns)
			m->info.end_ns = max_of(m->info.start_ns, (u64)1); /* 0: none */
	}
}

bool member_is_forking(const struct memcg_tree *t, u32 n)
{
	u32 state = n < NR_MEMBERS ? atomic32_load(&seg_member(t, n)->state) : MEMBER_GONE;

	return state == MEMBER_FORKING || state >= MEMBER_ARRIVING;
}

bool member_counters_at_rest(const struct memcg_tree *t, u64 *ret_nr)
{
	u32 high = nr_members(t);
	u64 nr = 0;

	for (u32 n = 0; n < high; n++) {
		u64 charging = atomic64_load(&seg_member(t, n)->charging);

		if (!member_active(seg_member(t, n)))
			continue;
		if ((u32)charging)
			return false;
		nr += charging;
	}
	*ret_nr = nr;
	return true;
}

u64 member_released(const struct memcg_tree *t, u32 n)
{
	const struct member *m = seg_member(t, n);

	if (n >= nr_members(t) || !member_active(m) || atomic32_peek(&m->quiet))
		return UINT64_MAX;
	return atomic64_peek(&m->released);
}

u64 member_least_released(const struct memcg_tree *t)
{
	u32 high = nr_members(t);
	u64 least = UINT64_MAX;

	for (u32 n = 0; n < high; n++)
		least = min_of(least, member_released(t, n));
	return least;
}

void member_uses(struct memcg_tree *t, u32 id)
{
	struct member *m = seg_member(t, t->self);

	if (!atomic32_peek(&m->quiet) || id == MEMCG_ROOT.v || id == m->info.home)
		return;
	atomic64_store(&m->released, atomic64_peek(&seg_head(t)->nr_removed));
	atomic32_store(&m->quiet, 0);
}

int member_set_quiet(struct memcg_tree *t, bool quiet)
{
	struct member *m = seg_member(t, t->self);
	int ret = segment_lock_wait(t);

	if (ret)
		return ret;
	if (!quiet && atomic32_peek(&m->quiet))
		atomic64_store(&m->released, atomic64_peek(&seg_head(t)->nr_removed));
	atomic32_store(&m->quiet, quiet);
	segment_unlock(t);
	return 0;
}

void member_leave(struct memcg_tree *t, u32 n)
{
	struct member *m;

	mutex_assert_held(&t->seg->lock);
	if (n >= NR_MEMBERS)
		return;
	m = seg_member(t, n);
	if ((u32)atomic64_load(&m->charging))
		atomic32_store(&seg_head(t)->recount_due, 1);
	objcg_retire_member(t, n);
	if (!m->info.end_ns)
		m->info.end_ns = os_now_ns();
	atomic32_store(&m->state, MEMBER_GONE);
	if (!MUTANT(leave_keeps_dying))
		memcg_free_dying(t);
}

u32 member_nr_refused(const struct memcg_tree *t)
{
	return atomic32_load(&seg_head(t)->nr_refused);
}

u32 member_nr_forgotten(const struct memcg_tree *t)
{
	return atomic32_load(&seg_head(t)->nr_forgotten);
}

u32 member_nr_at(const struct memcg_tree *t, struct memcg_id id)
{
	u32 high = nr_members(t), nr = 0;

	for (u32 n = 0; n < high; n++)
		if (member_active(seg_member(t, n)) && seg_member(t, n)->info.home == id.v)
			nr++;
	return nr;
}

int member_set_home(struct memcg_tree *t, struct memcg_id id)
{
	int ret = segment_lock_wait(t);

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

void member_last_words(struct memcg_tree *t, int pid, const char *format, const char *arg)
{
	u32 high = nr_members(t);

	for (u32 n = 0; n < high; n++) {
		struct member_info *info = &seg_member(t, n)->info;

		if (member_alive(t, n) && info->pid == pid)
			fmt_str(info->last_words, sizeof(info->last_words), format, arg);
	}
}

/* Its record says so, and so it is: others may write to root's tree, and name any process. */
static bool is_member(const struct memcg_tree *t, const struct member *m)
{
	return !is_dead(m) && os_process_maps(m->info.pid, t->seg->dev, t->seg->ino) != 0;
}

bool member_kill(struct memcg_tree *t, int pid)
{
	u32 high = nr_members(t);
	int fd = os_pidfd_open(pid);
	bool may = true;

	/* By the descriptor: the number may be another's by the time of the kill. */
	for (u32 n = 0; n < high && fd >= 0; n++) {
		const struct member *m = seg_member(t, n);

		if (!member_active(m) || m->info.pid != pid)
			continue;
		if (pid == os_getpid() || is_member(t, m))
			may = os_syscall6(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0, 0, 0) != -EPERM;
		break;
	}
	if (fd >= 0)
		os_close(fd);
	return may;
}

const struct member_info *member_info(const struct memcg_tree *t, u32 n)
{
	return n < nr_members(t) ? &seg_member(t, n)->info : NULL;
}

bool member_alive(const struct memcg_tree *t, u32 n)
{
	return n < nr_members(t) && member_active(seg_member(t, n));
}

bool memcg_populated(const struct memcg_tree *t, struct memcg_id id)
{
	u32 high = nr_members(t);

	for (u32 n = 0; n < high; n++) {
		struct memcg_id home = { seg_member(t, n)->info.home };

		if (member_alive(t, n) && memcg_is_descendant(t, home, id))
			return true;
	}
	return false;
}
