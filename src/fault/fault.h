/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - giving pages back: serving faults, and everything else that changes
 * what an address holds (adopt, zap, move, pin, fork).
 *
 * The order in every fault: charge, then lock the pte, then look (findings 7).
 * A fault thread does not sleep for policy, and hardly for I/O:
 *   memory.high    the page is mapped without waking; a timer wakes (defer.c)
 *   store read     submitted, unless the device is quick; the pte lock goes to the
 *                  request (store_in.c)
 *   at the limit   the fault is queued and tried again as reclaim frees (defer.c)
 */
#ifndef QUIRE_FAULT_FAULT_H
#define QUIRE_FAULT_FAULT_H

#include "base/hist.h"
#include "reclaim/reclaim.h"

enum fault_kind {
	FAULT_ZERO, /* first touch */
	FAULT_SOFT, /* from a frame */
	FAULT_FILLED, /* one word */
	FAULT_ZSWAP, /* decompressed */
	FAULT_STORE, /* read from the store */
	FAULT_DUP, /* somebody else served it, or the range is gone */
	NR_FAULT_KINDS,
};

/* Verdict of one attempt. */
enum fault_result {
	FAULT_DONE,
	FAULT_IO, /* a request owns the pte, its completion ends the fault; FAULT_SELF: it has */
	FAULT_NO_MEMORY, /* not charged: queue it, or reclaim and try again */
	FAULT_HAND_OVER, /* FAULT_SELF: only an engine thread can; nothing was done */
	FAULT_LOST, /* FAULT_SELF: the bytes are, and a touch is the program's error */
	FAULT_CLOSED, /* FAULT_SELF: the gate is */
};

/* What to know about a fault. */
enum fault_flags {
	FAULT_FORCE = 1, /* charge by force: never FAULT_NO_MEMORY */
	FAULT_WRITE = 2, /* by a store */
	FAULT_WP = 4, /* by a store to a page that is there, write-protected */
	FAULT_ALONE = 8, /* no other fault waits for this thread: it may read */
	/* On the thread that faults (signal mode): no descriptors but the pager's and one of
	 * the store's, no waiting but for a quick device. */
	FAULT_SELF = 16,
};

#define FAULT_IO_MAX 64u
#define FAULT_WAIT_MAX 65536u
/* Longest window brought in with a sequential fault, pages. */
#define READAHEAD_MAX 32u
#define FAULT_WINDOW_BYTES (READAHEAD_MAX * PAGE_SIZE) /* of a task's window */
/* Scans told apart at a time in one queue. */
#define READAHEAD_STREAMS 16u

static_assert(READAHEAD_MAX <= WRITEBACK_BATCH, "kswapd's buffer is its window too");

/* A scan seen: where its next fault would be, and how far to read.  (A) relaxed. */
struct stream {
	struct atomic64 next;
	struct atomic64 step; /* bytes, signed */
	struct atomic32 window;
	struct atomic32 first; /* nothing has continued it yet */
	struct atomic32 used; /* continued since oldest_stream() looked */
};

/* What was seen of a queue's faults; a guess, wrong at worst (expect.c).  (A) relaxed. */
struct expect {
	struct stream stream[READAHEAD_STREAMS];
	struct atomic32 turn;
	struct atomic64 last, step; /* the last fault, and how far it was from the one before */
	struct atomic32 window; /* of the last one */
};

/* How many pages follow a fault at a random place.  (A) relaxed. */
struct habit {
	struct atomic32 ahead, misses;
};
#define FAULT_HABITS 32u

/* A fault that waits for memory, or a thread that waits to be woken. */
struct waiting_fault {
	struct ilist_node node;
	u64 addr;
	u64 since_ns;
	u64 due_ns; /* throttled: wake then; 0: waits for memory */
	u32 queue;
	u32 memcg; /* whose max said no */
	u32 flags; /* enum fault_flags */
};

/* One read from the store under way. */
struct store_in {
	struct store_get get; /* first: done() casts back */
	struct fault *f;
	struct pte *pte;
	struct slot_id slot;
	u64 addr;
	u64 since_ns;
	u32 queue;
	u32 objcg;
	bool raw, write;
	bool ahead; /* nobody's fault: not deferred */
	bool self; /* by the thread that faults: it hands over what did not come */
	bool hold_wake; /* the fault's thread reads it, and wakes for all it reads */
	u8 retries;
	struct atomic32 used;
	u8 data[PAGE_SIZE] __attribute__((aligned(64)));
	u8 page[PAGE_SIZE] __attribute__((aligned(64)));
};

/* Signal mode: what the thread that faults works on.  The stack ends at the task. */
struct fault_stack {
	struct task task;
	struct fault *f;
	u64 addr; /* the fault, and what became of it */
	u32 flags;
	enum fault_result result;
	struct pager_wait *wait; /* it was handed over; wait here */
};

struct fault_stacks {
	u8 *memory; /* (C) NULL: not in signal mode */
	struct atomic64 idle, used; /* a bit each; used: at any time */
	struct event freed;
};

struct fault {
	struct mm *mm; /* (C) */
	struct memcg_tree *tree; /* (C) */
	struct lru *lru; /* (C) */
	struct swap *swap; /* (C) */
	struct zswap *zswap; /* (C) */
	struct reclaim *reclaim; /* (C) */
	/*
	 * Thread that forks (tid, 0: none): its faults are charged by force, since
	 * nothing is reclaimed, and served behind the closed gate too (libc's fork
	 * reads the heap after all handlers).  It is woken when all else is at rest.
	 */
	struct atomic32 forker, hold_wake;
	struct gate *gate; /* (C) closed: no page may come in (fork, mremap) */
	struct event *knock; /* (C) rung by who finds it closed */
	void (*fatal)(void *ctx, const char *reason); /* (C) does not return */
	void *fatal_ctx;

	struct mutex wait_lock; /* rank LEAF */
	struct xtable waiting; /* of struct waiting_fault */
	struct ilist wait_memory; /* (wait_lock) in order of arrival */
	struct ilist wait_timer; /* (wait_lock) unordered */
	struct event timer_wake;

	struct store_in *io; /* FAULT_IO_MAX, (A) used */
	struct atomic32 read_ns; /* what a read takes, a moving average */
	struct atomic32 read_turn;
	struct atomic32 self_reads; /* threads of the program that wait for the device */
	struct expect expect[PAGER_MAX_QUEUES];
	struct habit habit[FAULT_HABITS];

	struct fault_stacks stacks;

	/* Pages mapped write-protected of late, and those of them that were written. */
	struct atomic32 protected_in, protected_lost;
	struct atomic32 protect_turn;

	struct hist latency[NR_FAULT_KINDS]; /* ns from message to mapping */
	struct counter64 nr_deferred, nr_throttled, nr_poisoned, nr_io_retry, nr_no_io_slot;
	struct counter64 nr_self, nr_handed_over, nr_no_stack; /* signal mode */
};

int QUIRE_MUST_CHECK fault_init(struct fault *f, struct mm *mm, struct reclaim *r,
				struct gate *gate);
void fault_exit(struct fault *f);

/* ---- serving (serve.c) -------------------------------------------------- */

/* One attempt.  flags: enum fault_flags. */
enum fault_result fault_serve(struct fault *f, struct task *t, u32 queue, u64 addr, u32 flags,
			      struct memcg_id *ret_over);
/* Messages of a queue, for ever: the thread's main; thread.arg is the fault
 * thread's struct fault_thread. */
struct fault_thread {
	struct task task;
	struct fault *f;
	u32 queue;
	struct atomic64 busy_since; /* ns, 0 idle: for the watchdog */
	struct atomic32 last_tid; /* who faulted last, 0 not known */
};
void fault_thread_main(struct thread *self);

/* The bytes of a page are lost: a touch shall raise SIGBUS.  pte locked; unlocks. */
void fault_poison(struct fault *f, struct task *t, struct pte *pte, u32 queue, u64 addr,
		  struct slot_id slot);
/* Service ended: statistics. */
void fault_account(struct fault *f, struct objcg_id o, enum fault_kind kind, u64 since_ns);

/* ---- signal mode (self.c) -------------------------------------------------- */

/* Stacks.  -ENOMEM. */
int QUIRE_MUST_CHECK fault_self_init(struct fault *f);
void fault_self_exit(struct fault *f);
/* In a forked child: threads that were in the middle of a fault do not exist here. */
void fault_self_forget(struct fault *f);
/*
 * Serve the fault of the calling thread, an application's with no lock and all
 * asynchronous signals blocked; mask: those that it has blocked itself.  May wait, but
 * not beyond the arrival of a signal (a read of a quick device apart): then it returns, and
 * the thread faults again.
 * False: not managed, or lost.  flags: FAULT_WRITE, FAULT_WP.
 */
bool fault_self(struct fault *f, u64 addr, u32 flags, u64 mask);
/* What idle stacks have bought ahead goes back; inside the fault gate. */
void fault_self_drain(struct fault *f);
/* Free slot numbers that they keep; gates closed. */
u64 fault_self_slots(const struct fault *f);

/* ---- waiting (defer.c) --------------------------------------------------------- */

void fault_defer(struct fault *f, u32 queue, u64 addr, u32 flags, struct memcg_id over);
void fault_wake_later(struct fault *f, u32 queue, u64 addr, u64 delay_ns);
/* Try all that wait for memory once; wakes nobody twice. */
void fault_retry_waiting(struct fault *f, struct task *t);
/* The first that waits for memory is charged by force. */
void fault_force_waiting(struct fault *f, struct task *t);
/* Those that wait for memory of root or below, and did at before_ns. */
u32 fault_nr_waiting(struct fault *f, struct memcg_id root, u64 before_ns);
/* A removed group's limit is nobody's: who waits for it waits for its heir's. */
void fault_reparent_waiting(struct fault *f, struct memcg_id child, struct memcg_id parent);
/* A forked child: those who waited do not exist here. */
void fault_forget_waiting(struct fault *f);
/* OOM without a cure: threads that wait for memory of root or below get SIGBUS. */
u32 fault_poison_waiting(struct fault *f, struct memcg_id root);
/* Wake the throttled whose time has come; ns until the next, or SYNC_FOREVER. */
u64 fault_run_timers(struct fault *f, u64 now_ns);
/* Oldest fault that waits for memory or I/O: ns since it arrived, 0 none. */
u64 fault_oldest_ns(struct fault *f, u64 now_ns, u64 *ret_addr);

/* ---- changing what addresses hold (zap.c, adopt.c, populate.c) ------------------ */

/*
 * zap_begin: from here on nobody touches what is in [start, end): faults there wait,
 * reclaim leaves its pages alone.  The caller makes its system call (munmap,
 * MADV_DONTNEED), which may fail: nothing is lost yet.
 * zap_forget: it did not fail; the ptes of a part of the range become NONE, pages
 * are uncharged, slots dropped.  keep_pins: the addresses stay managed.
 * zap_finish: faults go on.  Request thread only.
 */
void zap_begin(struct fault *f, u64 start, u64 end);
void zap_forget(struct fault *f, struct task *t, u64 start, u64 end, bool keep_pins);
void zap_finish(struct fault *f, u64 start, u64 end);

/* Register [r->start, r->end) and take over what is present there (charged by
 * force).  0 or the pager's error, then nothing is registered. */
int QUIRE_MUST_CHECK adopt_range(struct fault *f, struct task *t, const struct region *r);
/* What is present in a registered range and not known: after fork, mremap. */
int QUIRE_MUST_CHECK adopt_present(struct fault *f, struct task *t, const struct region *r);

/*
 * Bring every page that is out in [start, end) back in; pin: and keep it (counts
 * nest).  -ENOMEM: does not fit, pins taken so far are undone.  Reclaims as needed.
 */
int QUIRE_MUST_CHECK populate_range(struct fault *f, struct task *t, u64 start, u64 end, bool pin);
void populate_unpin(struct fault *f, u64 start, u64 end);
/* Present pages of a range become inactive and cold (MADV_COLD), or leave at once
 * (MADV_PAGEOUT); pages handled. */
u64 populate_cool(struct fault *f, struct task *t, u64 start, u64 end, bool pageout);

/*
 * A range of a forked child, registered again: what is present there and was not in
 * the parent was made by libc's fork, in a page of zeros.  The content counts.
 */
int QUIRE_MUST_CHECK adopt_forked(struct fault *f, struct task *t, const struct region *r);

/*
 * What is in [start, end) becomes to's: pages, slots, compressed and stored objects,
 * with their charges (assign.c).  force: whatever its limits say.  -ENOMEM, -ENOSPC
 * (memory.swap.max): it has no room, reclaim did not help; *ret_done: all before is
 * moved, nothing from there on.
 */
int QUIRE_MUST_CHECK assign_range(struct fault *f, struct task *t, u64 start, u64 end,
				  struct objcg_id to, bool force, u64 *ret_done);

/* Move ptes after mremap(2), both gates closed. */
int QUIRE_MUST_CHECK zap_move_ptes(struct fault *f, u64 old, u64 to, u64 len);

#endif
