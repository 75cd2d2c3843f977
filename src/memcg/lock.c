/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - the tree lock: of the threads of a process, and of processes.
 *
 * Owns: the in-process mutex and, in a shared segment, the owner word; taking the
 * lock over from a process that was killed while it held it; the dirty word.
 * Does not own: repair of what the dead left half done (rebuild.c).
 * Entry points: segment_lock(), segment_unlock(), segment_change_begin().
 * Invariants: the dirty word is odd only while the lock is held, or after its
 * holder was killed.  Who holds the owner word holds the mutex of its process too.
 * Lock ranks: TREE.  Waits for sections of bounded length only, and not for a process that
 * is stopped in one (Ctrl-Z, a debugger): it may go on at any instruction, so that the lock
 * cannot be taken from it, but who can do without is told so.
 *
 * The owner word names the process that holds the lock and when it took it, in one
 * store: a number alone may be given to another process before anybody notices
 * that the first one died.  No descriptor is needed, as an OFD lock would: a
 * program that fits its limit has none of ours, and closes what it finds.
 */
#include "memcg/internal.h"

#include <errno.h>

#include "base/os.h"

/* The unit of the time in the owner word, and of the start times it is compared with. */
#define OWNER_TICK_NS (10 * NSEC_PER_MSEC)
/* After so long somebody asks whether the owner lives. */
#define OWNER_LOOK_NS (2 * NSEC_PER_MSEC)

/* Looks at a stopped owner: each time it may have been continued at this very moment. */
#define STOPPED_LOOKS 5

static u64 owner_word(int pid, u64 boot_ns)
{
	return (u64)pid << 32 | (u32)(boot_ns / OWNER_TICK_NS);
}

/* Its low half counts on from that time: the same 32 bits lie 497 days apart. */
static bool owner_alive(const struct memcg_tree *t, u64 owner)
{
	u64 now = os_boot_ns() / OWNER_TICK_NS;
	u32 age = (u32)now - (u32)owner;
	int pid = (int)(owner >> 32);

	/* execve(2) in another thread of it ends the one that held the lock. */
	return os_process_alive(pid, (now - min_of(age, now) + 1) * OWNER_TICK_NS) &&
	       !member_was_replaced(t, pid);
}

/* -ETIMEDOUT: its owner is stopped, and we may not wait. */
static int process_lock(struct memcg_tree *t, bool may_wait)
{
	struct seg_header *h = seg_head(t);
	u64 me = owner_word(os_getpid(), os_boot_ns());
	u32 nr_stopped = 0;
	bool late = false;

	for (;;) {
		u32 seq = atomic32_load(&h->lock_seq);
		u64 owner = atomic64_load(&h->lock_owner);

		if (!owner || (late && !owner_alive(t, owner))) {
			if (!atomic64_cas(&h->lock_owner, owner, me))
				continue;
			t->seg->lock_word = me;
			return 0;
		}
		nr_stopped = late && os_process_stopped((int)(owner >> 32)) ? nr_stopped + 1 : 0;
		if (nr_stopped == STOPPED_LOOKS && !may_wait)
			return -ETIMEDOUT;
		(void)atomic32_fetch_add(&h->lock_waiters, 1);
		if (atomic64_load(&h->lock_owner) == owner)
			late = futex_wait(&h->lock_seq, seq, OWNER_LOOK_NS, true) == -ETIMEDOUT;
		(void)atomic32_fetch_sub(&h->lock_waiters, 1);
	}
}

static void process_unlock(struct memcg_tree *t)
{
	struct seg_header *h = seg_head(t);

	/* Unless it was taken from us: we were dead to somebody. */
	(void)atomic64_cas(&h->lock_owner, t->seg->lock_word, 0);
	(void)atomic32_fetch_add(&h->lock_seq, 1);
	/* A waiter that was killed stays counted: then this is one call too many. */
	if (atomic32_load(&h->lock_waiters))
		futex_wake(&h->lock_seq, UINT32_MAX, true);
}

static int lock_raw(struct memcg_tree *t, bool may_wait)
{
	int ret = 0;

	mutex_lock(&t->seg->lock);
	if (t->seg->shared)
		ret = process_lock(t, may_wait);
	if (ret)
		mutex_unlock(&t->seg->lock);
	return ret;
}

static int lock_clean(struct memcg_tree *t, bool may_wait)
{
	int ret = t->seg->readonly ? -EROFS : lock_raw(t, may_wait);

	if (!ret && unlikely(atomic32_load(&seg_head(t)->seq) & 1)) {
		rebuild_tree(t);
		segment_change_end(t);
	}
	return ret;
}

void segment_lock_raw(struct memcg_tree *t)
{
	(void)lock_raw(t, true);
}

int segment_lock_wait(struct memcg_tree *t)
{
	return lock_clean(t, true);
}

int segment_lock(struct memcg_tree *t)
{
	return lock_clean(t, false);
}

int member_in_the_way(const struct memcg_tree *t)
{
	int pid = (int)(atomic64_load(&seg_head(t)->lock_owner) >> 32);

	return pid && os_process_stopped(pid) ? pid : 0;
}

bool segment_lock_lost(const struct memcg_tree *t)
{
	u64 owner = atomic64_load(&seg_head(t)->lock_owner);

	return owner && !owner_alive(t, owner);
}

void segment_unlock(struct memcg_tree *t)
{
	quire_assert(!(atomic32_load(&seg_head(t)->seq) & 1) || t->seg->shared);
	if (t->seg->shared)
		process_unlock(t);
	mutex_unlock(&t->seg->lock);
}

void segment_lock_forget_image(struct memcg_tree *t)
{
	struct seg_header *h = seg_head(t);
	u64 owner = atomic64_load(&h->lock_owner);

	if ((int)(owner >> 32) == os_getpid() && atomic64_cas(&h->lock_owner, owner, 0))
		futex_wake(&h->lock_seq, UINT32_MAX, true);
	/* From here on it is this image that holds it, and nobody may take it from us. */
	member_was_us(t);
}

void segment_change_begin(struct memcg_tree *t)
{
	mutex_assert_held(&t->seg->lock);
	atomic32_store(&seg_head(t)->seq, atomic32_peek(&seg_head(t)->seq) | 1);
}

void segment_change_end(struct memcg_tree *t)
{
	atomic32_store(&seg_head(t)->seq, (atomic32_peek(&seg_head(t)->seq) | 1) + 1);
}

u32 segment_seq(const struct memcg_tree *t)
{
	return atomic32_load(&seg_head(t)->seq);
}

bool segment_seq_same(const struct memcg_tree *t, u32 seq)
{
	return !(seq & 1) && atomic32_load(&seg_head(t)->seq) == seq;
}
