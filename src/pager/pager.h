/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pager.h - put a page in place, take it away; learn of faults.
 *
 * The one interface behind which userfaultfd lives: nothing above pager/ may
 * assume it.  Implementations: uffd_move (kernel >= 6.8), uffd_copy (older
 * kernels, or QUIRE_PAGER=uffd_copy), fake (tests and the explorer).
 *
 * Managed memory is cut into *ranges*; each range belongs to a *queue*, on
 * which its faults arrive; one fault thread serves one queue.  Frames are
 * anonymous pages of the engine, in areas announced by add_frames().
 *
 * All functions are called on engine threads (the descriptors live in the
 * engine's private fd table); in signal mode some on others, see below.  All return >= 0 or -errno.  None touches
 * managed memory from user mode.
 */
#ifndef QUIRE_PAGER_PAGER_H
#define QUIRE_PAGER_PAGER_H

#include "base/sync.h"

#define PAGER_MAX_QUEUES 8
/* Signal mode: faults handed over and not read yet; threads that wait for a page. */
#define PAGER_POSTS 64u
#define PAGER_WAITS 256u

struct fault_msg {
	u64 addr; /* page aligned */
	u32 tid; /* who faults; 0: not known */
	bool write;
	bool wp; /* a store to a write-protected page: PAGER_PROTECT, or take() at work */
};

/* What the running kernel lets us do; filled by pager_probe(). */
struct pager_caps {
	bool dev_node; /* /dev/userfaultfd opened */
	bool syscall; /* userfaultfd(0) permitted */
	bool user_mode_only; /* only without kernel faults: not usable for now */
	bool move; /* UFFDIO_MOVE */
	bool poison; /* UFFDIO_POISON */
	bool wp; /* UFFDIO_WRITEPROTECT on anonymous memory */
	bool pagemap_scan; /* PAGEMAP_SCAN ioctl */
	u64 features; /* as UFFDIO_API returned them */
	int dev_errno; /* why not, 0 when it worked */
	int syscall_errno;
};

enum pager_put_flags {
	PAGER_DONTWAKE = 1, /* leave the faulting thread asleep: throttling */
	PAGER_PROTECT = 2, /* copy(): a store there shall be a fault, see take_protected() */
};

/* One page for take_protected(). */
struct pager_page {
	u64 addr;
	void *frame; /* NULL: its bytes are not needed, only that it is there */
	bool warm; /* the frame has memory */
};

struct pager;

struct pager_ops {
	const char *name;
	/* take() refuses pages pinned for direct I/O (false: it cannot see them) */
	bool sees_pins;

	/* Open descriptors for nr_queues queues.  dev_fd: an open /dev/userfaultfd
	 * to use, or -1 to open one. */
	int (*open)(struct pager *p, u32 nr_queues, int dev_fd);
	/* Forget everything and close nothing: in a forked child the numbers are
	 * the program's; elsewhere they die with the engine's private table. */
	void (*close)(struct pager *p);

	/* Bring [addr, addr+len) under management of queue q.  -EBUSY: somebody
	 * else's userfaultfd has it. */
	int (*add_range)(struct pager *p, u32 q, u64 addr, u64 len);
	/* q: the queue it was added to (-EINVAL for another one on Linux 6.18).
	 * Who waits for a fault there goes on, with zeros. */
	int (*remove_range)(struct pager *p, u32 q, u64 addr, u64 len);
	/* Frame area of the engine: destination of take(). */
	int (*add_frames)(struct pager *p, void *base, u64 len);

	/*
	 * Take nr contiguous pages at addr into nr contiguous empty frames,
	 * atomically per page: afterwards a touch of addr faults.  Returns the
	 * number taken from the front (>= 1), or the error of the first page:
	 * -EBUSY pinned (after breaking fork sharing and trying again), -EINVAL
	 * read-only, PROT_NONE or locked, -ENOENT nothing there, -EAGAIN the
	 * mapping is changing, -EEXIST the frame is not empty, -ENOMEM, -EIO.
	 * Never waits for a fault.
	 */
	long (*take)(struct pager *p, u32 q, u64 addr, void *frame, u32 nr);
	/*
	 * The way back: frames become empty.  -EEXIST: a page is there already.
	 * -EINVAL (read-only or locked since) and -EBUSY (shared again by a fork
	 * outside the gate): copy() instead, then drop_frames().
	 */
	long (*give)(struct pager *p, u32 q, u64 addr, void *frame, u32 nr, u32 flags);
	/*
	 * Take scattered pages that PAGER_PROTECT mapped and unprotect() did not make
	 * writable: no store can come in between, so they are read, and then dropped in
	 * one call, with one flush of the TLBs for all of them, where take() needs one a
	 * page.  Returns the number taken from the front (>= 1), or the error of the
	 * first: -ENOENT nothing there, -EINVAL locked, -EAGAIN, -ENOMEM.
	 * A device that reads a pinned page goes on reading the old one.
	 */
	long (*take_protected)(struct pager *p, const struct pager_page *pages, u32 nr);
	/* Stores to a page that PAGER_PROTECT mapped are welcome again. */
	int (*unprotect)(struct pager *p, u32 q, u64 addr, u32 flags);
	/* Copy nr pages from unmanaged src into missing pages at addr. */
	long (*copy)(struct pager *p, u32 q, u64 addr, const void *src, u32 nr, u32 flags);
	/* Fill missing pages with zeros (never the shared zero page). */
	long (*zero)(struct pager *p, u32 q, u64 addr, u32 nr, u32 flags);
	int (*wake)(struct pager *p, u32 q, u64 addr, u64 len);
	/* A later touch of addr raises SIGBUS: lost data is never zeros.
	 * -EOPNOTSUPP where the kernel cannot. */
	int (*poison)(struct pager *p, u32 q, u64 addr);
	/* Has the program a guard at addr (MADV_GUARD_INSTALL), or anything else that
	 * is not missing?  copy() and zero() would put a page in a guard's place. */
	bool (*guarded)(struct pager *p, u64 addr);
	/* Give the memory of managed pages back to the OS (contents lost). */
	int (*drop)(struct pager *p, u64 addr, u64 len);
	/* Empty frames again. */
	int (*drop_frames)(struct pager *p, void *frame, u64 len);

	/*
	 * Next faults of queue q: up to nr messages; 0 after timeout_ns.  Spins
	 * up to spin_ns before it sleeps (waking an idle core costs 7 us).
	 */
	int (*faults)(struct pager *p, u32 q, struct fault_msg *msgs, u32 nr, u64 spin_ns,
		      u64 timeout_ns);

	/*
	 * Call fn for each maximal run of present pages in [addr, addr+len),
	 * shared zero pages included: they raise no fault and count as resident.
	 */
	int (*scan)(struct pager *p, u64 addr, u64 len,
		    void (*fn)(void *ctx, u64 addr, u64 nr_pages), void *ctx);
};

/* Signal mode: a thread that waits until something is put at addr, or woken. */
struct pager_wait {
	struct atomic64 addr;
	struct atomic32 woken; /* futex */
};

/* Signal mode (uffd_signal.c): what the kernel's queue is otherwise. */
struct pager_signal {
	bool on; /* (C) the thread that faults gets SIGBUS, and nobody a message */
	int fd; /* (C) of queue 0, the same number in the program's table; -1 none */
	u64 dev, ino; /* (C) of it: is it still what stands there? */
	struct mutex lock; /* rank LEAF */
	u32 first, nr; /* (lock) */
	struct fault_msg post[PAGER_POSTS]; /* (lock) */
	struct event ready; /* there are posts */
	struct atomic32 nr_waiting;
	struct atomic64 waiting[PAGER_WAITS / 64]; /* which of wait[] are in use */
	struct pager_wait wait[PAGER_WAITS];
	struct counter64 nr_posts, nr_lost_fd;
};

struct pager {
	const struct pager_ops *ops; /* (C) */
	struct pager_caps caps; /* (C) */
	u32 nr_queues; /* (C) */
	int dev_fd; /* (C) kept for forks, -1 none */
	int mem_fd; /* (C) /proc/self/mem or -1 */
	int pagemap_fd; /* (C) or -1: scan() asks mincore(2) */
	int frame_uffd; /* (C) the frames' own, nobody reads it */
	int pid_fd; /* (C) this process, for process_madvise(2), or -1 */
	/* PAGER_PROTECT works and pays; cleared where process_madvise(2) is refused */
	struct atomic32 protects;
	int uffd[PAGER_MAX_QUEUES]; /* (C) */
	struct atomic32 read_full[PAGER_MAX_QUEUES]; /* the last batch may not be all */
	struct pager_signal signal;
	void *priv; /* fake: its memory */

	/* counters: every slow or refused path */
	struct counter64 nr_take_busy; /* EBUSY of a page, before breaking sharing */
	struct counter64 nr_take_pinned; /* EBUSY again */
	struct counter64 nr_take_refused; /* EINVAL */
	struct counter64 nr_drop_single; /* pages dropped one by one: process_madvise refused */
	struct counter64 nr_eagain; /* mapping changed under an ioctl */
	struct counter64 nr_eexist; /* page was already there */
	struct counter64 nr_move_unsaid; /* EEXIST of a page that the call did move */
	struct counter64 nr_fault_reads; /* batches */
	struct counter64 nr_fault_sleeps; /* of which slept */
};

extern const struct pager_ops pager_uffd_move;
extern const struct pager_ops pager_uffd_copy;
extern const struct pager_ops pager_fake;

/* What works here; opens and closes a probe descriptor.  Always fills caps. */
void pager_probe(struct pager_caps *caps, int dev_fd);
/*
 * Pick by caps, or by name ("uffd_move", "uffd_copy", "fake", NULL = best).
 * -EPERM / -ENOSYS with nothing usable, -EINVAL unknown name.
 */
int QUIRE_MUST_CHECK pager_init(struct pager *p, const char *name);

/* ---- signal mode ------------------------------------------------------------ */

/*
 * Missing and write-protected pages raise SIGBUS (BUS_ADRERR) in the thread that touches
 * them; faults() returns what is posted.  That thread may call copy, zero, give, unprotect
 * and wake itself.  Of the descriptors it has that of queue 0, the only one, and if the
 * program has closed it the answer is -EAGAIN: an engine thread has its own.
 * After pager_init().  -EOPNOTSUPP: not with this kernel or pager.
 */
int QUIRE_MUST_CHECK pager_signal_init(struct pager *p);
/* Before open(), and on a thread with the program's table of descriptors, which open()'s
 * table must begin as a copy of. */
int QUIRE_MUST_CHECK pager_signal_open(struct pager *p, int dev_fd);
/* There too: close what pager_signal_open() opened, if it is still there. */
void pager_signal_close(struct pager *p);
/* In a forked child: what other threads posted, or wait for, does not exist here. */
void pager_signal_forget(struct pager *p);
/* Let a fault thread serve it.  False: too many are waiting. */
bool QUIRE_MUST_CHECK pager_signal_post(struct pager *p, const struct fault_msg *m);
/*
 * Waiting until something is put at addr, or woken: begin, look whether there is a reason
 * to wait, or post, then wait.  begin: NULL, too many wait.  wait: 0, or -ETIMEDOUT.
 */
struct pager_wait *pager_signal_wait_begin(struct pager *p, u64 addr);
int pager_signal_wait(struct pager *p, struct pager_wait *w, u64 timeout_ns);
void pager_signal_wait_end(struct pager *p, struct pager_wait *w);

#endif
