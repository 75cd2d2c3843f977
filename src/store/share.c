/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - fork: one file, several processes that hold segments of it.
 *
 * Owns: the counts in MAP_SHARED memory and the pipes that tell of deaths.
 *
 * A file has one owner, who alone allocates, reuses and punches.  At each fork
 * the owner makes a *share*: a count per segment and a pipe.  The child, and
 * its descendants by further forks, hold the pipe's write end and the mapping;
 * a holder adds 1 to each segment for a child it forks, and subtracts 1 when
 * its own last object there is gone.  The owner reuses a segment when its own
 * live bytes and the counts of all its shares are 0.  A holder that exits,
 * execs or is killed cannot subtract; when the pipe has no writer left, all of
 * that subtree is gone and the whole share is dropped.  (Space that a dead
 * holder kept while relatives of it live on is not reused before they end.)
 *
 * Neither the gate nor what may be forked is decided here: the engine does.
 *
 * Invariant: while log_seg.held, this process is counted once in the segment's
 * count.  Locks: log.lock; in fork functions nobody else runs.
 */
#include <errno.h>
#include <linux/fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/assert.h"
#include "base/os.h"
#include "store/internal.h"

#define POLL_SHARES 64u /* at a time, on the stack */

/* ---- shares of the owner --------------------------------------------------------- */

static size_t share_len(u32 nr)
{
	return align_up((size_t)nr * sizeof(struct atomic32), PAGE_SIZE);
}

void log_share_unmap(struct log_share *share)
{
	if (share->held)
		(void)os_munmap(share->held, share_len(share->nr));
	share->held = NULL;
}

bool log_share_holds(const struct log *lg, u32 seg)
{
	for (u32 i = 0; i < lg->nr_shares; i++)
		if (seg < lg->share[i].nr && atomic32_load(&lg->share[i].held[seg]))
			return true;
	return false;
}

static void drop_share(struct log *lg, u32 i)
{
	(void)os_close(lg->share[i].alive_rd);
	log_share_unmap(&lg->share[i]);
	lg->share[i] = lg->share[--lg->nr_shares];
}

/* Of shares first..first + nr - 1, those whose holders are all gone. */
static void drop_dead_among(struct log *lg, u32 first, u32 nr)
{
	struct pollfd fds[POLL_SHARES];

	for (u32 i = 0; i < nr; i++)
		fds[i] = (struct pollfd){ .fd = lg->share[first + i].alive_rd };
	if (os_poll(fds, nr, 0) <= 0)
		return;
	/* Downwards: a dropped entry is replaced by the last, already looked at. */
	for (u32 i = nr; i-- > 0;)
		if (fds[i].revents & POLLHUP)
			drop_share(lg, first + i);
}

static void drop_dead_shares(struct log *lg)
{
	u32 end = lg->nr_shares;

	while (end) {
		u32 nr = min_of(end, POLL_SHARES);

		end -= nr;
		drop_dead_among(lg, end, nr);
	}
}

void log_share_reap_locked(struct log *lg)
{
	struct log_file *f = &lg->file[lg->own];
	u32 next;

	drop_dead_shares(lg);
	for (u32 seg = lg->zombie.head; seg; seg = next) {
		next = seg_at(f, seg)->node.next;
		if (log_share_holds(lg, seg))
			continue;
		ilist_del(&lg->zombie, segs_in(f), seg);
		log_free_seg_locked(lg, f, seg);
	}
}

void log_share_exit(struct log *lg)
{
	while (lg->nr_shares)
		drop_share(lg, lg->nr_shares - 1);
}

/* ---- holders ------------------------------------------------------------------------- */

void log_share_drop_locked(struct log_file *f, u32 seg)
{
	struct log_seg *g = seg_at(f, seg);

	quire_assert(f->nr_held > 0 && seg < f->share.nr);
	g->held = false;
	f->nr_held--;
	/* Our reads of the segment are over before the owner may write to it. */
	(void)atomic32_fetch_sub(&f->share.held[seg], 1);
}

/* ---- prepare -------------------------------------------------------------------------- */

static u32 nr_segs(const struct log_file *f)
{
	u32 seg = 1;

	while (xtable_valid(&f->segs, seg))
		seg++;
	return seg;
}

static bool file_has_live(const struct log_file *f)
{
	for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++)
		if (seg_at(f, seg)->live)
			return true;
	return false;
}

/* A share of our file for the child about to be forked. */
static int add_share(struct log *lg, struct log_file *f)
{
	struct log_share *share = &lg->share[lg->nr_shares];
	int fds[2];
	long addr;

	if (lg->nr_shares == LOG_MAX_SHARES)
		return -EMFILE;
	share->nr = nr_segs(f);
	addr = os_mmap(NULL, share_len(share->nr), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (addr < 0)
		return -ENOMEM;
	if (os_syscall(SYS_pipe2, fds, O_CLOEXEC, 0)) {
		(void)os_munmap((void *)addr, share_len(share->nr));
		return -EMFILE;
	}
	share->held = (struct atomic32 *)addr;
	share->alive_rd = fds[0];
	lg->fork_wr = fds[1];
	lg->nr_shares++;
	for (u32 seg = 1; seg < share->nr; seg++)
		if (seg_at(f, seg)->live)
			atomic32_store(&share->held[seg], 1);
	return 0;
}

/* One more holder of what we inherited. */
static void add_holder(struct log_file *f)
{
	for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++)
		if (seg_at(f, seg)->held)
			(void)atomic32_fetch_add(&f->share.held[seg], 1);
}

/* The child needs a slot for a file of its own. */
static bool has_slot_for_child(const struct log *lg, bool own_has_live)
{
	for (int i = 0; i < STORE_MAX_FILES; i++)
		if (lg->file[i].kind == FILE_NONE || (i == lg->own && !own_has_live))
			return true;
	return false;
}

static int prepare_own(struct log *lg, bool has_live)
{
	if (lg->own < 0)
		return 0;
	mutex_lock(&lg->lock);
	if (lg->open_seg)
		log_seal_locked(lg);
	log_share_reap_locked(lg);
	mutex_unlock(&lg->lock);
	return has_live ? add_share(lg, &lg->file[lg->own]) : 0;
}

int store_fork_prepare(struct store *s, struct store_fork *ret_fork)
{
	struct log *lg = log_of(s);
	bool has_live;
	int err;

	quire_assert(lg->fork_wr < 0 && !lg->reader.head);
	log_reap_files(lg);
	has_live = lg->own >= 0 && file_has_live(&lg->file[lg->own]);
	if (!has_slot_for_child(lg, has_live))
		return -EMFILE;
	err = prepare_own(lg, has_live);
	if (err)
		return err;
	for (int i = 0; i < STORE_MAX_FILES; i++) {
		struct log_file *f = &lg->file[i];
		bool shared = f->kind == FILE_INHERITED || (f->kind == FILE_OWN && has_live);

		if (f->kind == FILE_INHERITED)
			add_holder(f);
		ret_fork->fd[i] = shared ? f->fd : -1;
		ret_fork->alive[i] = !shared ? -1 : i == lg->own ? lg->fork_wr : f->alive_wr;
	}
	return 0;
}

u32 store_fork_fds(struct store *s)
{
	const struct log *lg = log_of(s);
	u32 nr = 0;

	for (int i = 0; i < STORE_MAX_FILES; i++)
		nr += lg->file[i].kind == FILE_NONE ? 0 : 2;
	return nr;
}

void store_fork_parent(struct store *s)
{
	struct log *lg = log_of(s);

	/* No child, or one that never took the descriptor: hung up at once. */
	if (lg->fork_wr >= 0)
		(void)os_close(lg->fork_wr);
	lg->fork_wr = -1;
}

/* ---- child ------------------------------------------------------------------------------ */

/* What was ours is the parent's; we hold what is live in it. */
static void inherit_own(struct log *lg, struct log_file *f)
{
	f->kind = FILE_INHERITED;
	f->share = lg->share[lg->nr_shares - 1]; /* made last, for us */
	f->share.alive_rd = -1;
	f->nr_held = 0;
	stat_set(&lg->s.bytes_inherited, stat_read(&lg->s.bytes_live));
	for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++) {
		struct log_seg *g = seg_at(f, seg);

		g->held = g->live > 0;
		f->nr_held += g->held;
	}
	lg->nr_shares--;
}

static void forget_own_lists(struct log *lg)
{
	/* Shares of our elder siblings: their descriptors are not here. */
	while (lg->nr_shares)
		log_share_unmap(&lg->share[--lg->nr_shares]);
	lg->own = -1;
	lg->open_seg = 0;
	lg->fork_wr = -1;
	ilist_init(&lg->free);
	ilist_init(&lg->hole);
	ilist_init(&lg->zombie);
	for (u32 i = 0; i < SEG_BUCKETS; i++)
		ilist_init(&lg->sealed[i]);
	for (u32 i = 0; i < LOG_NR_WRITERS; i++)
		lg->writer[i].busy = false;
	event_init(&lg->writer_idle);
	stat_set(&lg->s.bytes_file, 0);
	stat_set(&lg->s.full, 0);
}

void store_fork_child(struct store *s, const struct store_fork *fork)
{
	struct log *lg = log_of(s);

	reader_fork_child(&lg->reader);
	for (int i = 0; i < STORE_MAX_FILES; i++) {
		struct log_file *f = &lg->file[i];

		if (fork->fd[i] < 0) {
			if (f->kind == FILE_OWN) /* empty: of no use here */
				xtable_exit(&f->segs);
			f->kind = FILE_NONE;
			continue;
		}
		if (f->kind == FILE_OWN)
			inherit_own(lg, f);
		f->fd = fork->fd[i];
		f->alive_wr = fork->alive[i];
	}
	forget_own_lists(lg);
}
