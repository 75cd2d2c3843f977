/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - struct engine and what the files of engine/ share.
 *
 *   engine.c     create, destroy, text, check
 *   start.c      passive -> running: threads, descriptors, adoption
 *   request.c    work handed from application threads to the request thread
 *   aspace.c     mmap, munmap, the front door
 *   remap.c      mremap
 *   advise.c     madvise, mlock, pins, leaving management
 *   group.c      groups, knobs, events, callbacks
 *   oom.c        out of memory: who is asked, who is ended
 *   offline.c    the end of a group
 *   assign.c     ranges and processes become another group's
 *   check.c      do the counts agree with the ptes?
 *   fork.c       the two gates, descriptors for the child, the child's restart
 *   placement.c  which of two processors for whom
 *   ticker.c     100 ms thread: unmanaged memory, timers, watchdog, records
 */
#ifndef QUIRE_ENGINE_INTERNAL_H
#define QUIRE_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "fault/fault.h"
#include "knob/knob.h"
#include "memcg/member.h"

enum engine_state { ENGINE_PASSIVE, ENGINE_STARTING, ENGINE_RUNNING, ENGINE_FAILED };

#define NR_REQUESTS 64
#define REQUEST_TEXT (16 * KIB)
#define NR_WATCHES 64
#define NR_CALLBACKS 64
#define POOL_MAX (64 * GIB)
#define NR_DOOMED 256
/* Before each slice that is given back. */
#define DISCARD_PAUSE_NS (100 * NSEC_PER_USEC)
/* Removed groups until their ids are released, whatever else there is to do; handles
 * that wait for being empty. */
#define NR_UNRELEASED 64
#define NR_RETIRED 1024
/* So long after a removal, unless more requests come. */
#define RELEASE_DELAY_NS (2 * NSEC_PER_MSEC)
/* A forked child that has neither faulted nor called us is charged then. */
#define FORK_SETTLE_NS (20 * NSEC_PER_MSEC)
#define WATCHDOG_TICKS 300 /* of 100 ms: a fault older than this ends the process */

enum request_op {
	REQ_START,
	REQ_OPEN_STORE,
	REQ_MMAP,
	REQ_ADOPT,
	REQ_MUNMAP,
	REQ_MREMAP,
	REQ_RELEASE,
	REQ_ADVISE,
	REQ_LOCK,
	REQ_UNLOCK,
	REQ_PIN,
	REQ_UNPIN,
	REQ_ASSIGN,
	REQ_ASSIGN_ALL,
	REQ_GROUP_CREATE,
	REQ_GROUP_REMOVE,
	REQ_KNOB_READ,
	REQ_KNOB_WRITE,
	REQ_TO_TEXT,
	REQ_WATCH_ADD,
	REQ_WATCH_DEL,
	REQ_FREEZE_RECLAIM,
	REQ_FREEZE_FAULTS,
	REQ_THAW,
	REQ_CHILD,
	REQ_FORK_FAILED,
	REQ_CHECK,
	REQ_CLOSE,
	NR_REQUEST_OPS,
};

enum request_state { REQUEST_FREE, REQUEST_CLAIMED, REQUEST_POSTED, REQUEST_DONE };

/* One piece of work; lives in engine memory, never in the caller's. */
struct request {
	struct atomic32 state; /* enum request_state; futex of the caller */
	u32 op;
	u64 arg[6];
	s64 result; /* 0 or -errno */
	u64 value; /* second result */
	char name[MEMCG_NAME_MAX * 2];
	char *text; /* REQUEST_TEXT bytes of engine memory */
	u64 text_len;
	u64 signal_mask; /* of the caller, when it is done */
};

/* An eventfd that wants to hear of events. */
struct watch {
	u32 memcg; /* 0: free */
	u32 mask;
	int fd; /* in the private table */
	struct atomic32 pending;
};

/* A range whose group was discarded, not given back yet. */
struct doomed {
	u64 start, end;
};

/* Application code to be called, and the call under way. */
struct callback {
	u32 memcg; /* 0: free */
	bool is_oom;
	engine_shrinker_fn shrinker;
	engine_oom_fn oom;
	void *arg;
	struct atomic32 state; /* enum request_state, both ways */
	u64 bytes; /* wanted, then released */
	u64 asked_ns;
};

/* Faults, or requests, since the last look that make another one worth it. */
#define PLACEMENT_MIN 64u

/* A thread of the engine that others wait for. */
struct seat {
	u64 nr; /* served when last looked */
	u32 side; /* index of its processor */
	bool placed;
};

struct placement {
	u64 nr_moves;
	int status_fd; /* of the ticker, -1 none */
	int cpu[2];
	struct seat faults, requests;
};

struct engine {
	u32 flags; /* (C) */
	char pager_name[16]; /* (C) "": the best */
	u64 store_max; /* (C) */
	char store_dir[256]; /* (C) */
	u32 nr_fault_threads; /* (C) */
	void (*fatal)(void *ctx, const char *reason);
	void *fatal_ctx;
	char why[256];
	struct atomic32 said_why; /* the preload says it once */
	struct atomic32 state; /* enum engine_state; futex of those who wait for start */
	struct mutex store_lock; /* opening the store */
	struct mutex passive_lock; /* callers, until the engine runs; see engine_passive_enter() */
	u64 passive_mask; /* (passive_lock) signal mask of its holder */
	struct memcg_tree *tree;
	struct atomic32 home; /* memcg id; see engine_home() */
	struct mutex home_lock; /* who sets what home_objcg is charged outside pages */
	struct objcg_id home_objcg; /* (home_lock) */
	/* Closed: nothing may leave / nothing may come in.  Order: reclaim first. */
	struct gate reclaim_gate, fault_gate;
	struct event request_event, callback_event;
	/* fork: descriptors received for the child, in the program's table */
	int fork_fd[1 + 2 * STORE_MAX_FILES];
	void (*fork_touch)(void *ctx);
	void *fork_touch_ctx;

	/* All that a program which fits touches is above, or little. */
	struct mm mm;
	struct lru lru;
	struct swap swap;
	struct zswap zswap;
	struct reclaim reclaim;
	struct fault fault;
	struct counter64 nr_requests;
	struct atomic32 request_cpu; /* of the last caller */
	struct request request[NR_REQUESTS];
	char *request_text;
	struct atomic32 frozen; /* between REQ_FREEZE_RECLAIM and REQ_THAW */

	/* (request thread) what removed groups left to do, offline.c */
	u32 nr_doomed, nr_retired;
	struct doomed doomed[NR_DOOMED];
	struct objcg_id retired[NR_RETIRED];

	struct watch watch[NR_WATCHES];
	struct callback callback[NR_CALLBACKS];
	struct atomic32 callback_stop;
	struct atomic32 purge;

	/* threads; each struct task is large (codec) and touched only when used */
	struct task request_task, kswapd_task, writeback_task, ticker_task;
	struct fault_thread fault_thread[PAGER_MAX_QUEUES];
	u8 *request_buf, *kswapd_buf, *writeback_buf, *fault_buf;
	int statm_fd; /* (ticker) */
	struct placement placement; /* (ticker) */
	struct atomic64 map_cursor; /* next queue for a new range */
	struct atomic64 told_locked; /* what MEMCG_STAT_MLOCKED has of us */

	int fork_store_err; /* the store cannot be shared with this child */
	int fork_tree_err; /* it has no place in the tree */
	bool unsettled; /* (request thread) a child that has not been charged yet */
	int fork_fd_err; /* the child lacks descriptors it cannot do without */
	bool fork_shares_store; /* some of them are the store's */
	/* (ticker; else behind the gates) some memory is another process's too; how many
	 * pages, and when to look again */
	bool forked;
	u64 shared_pages, shared_next_ns;
};

/* ---- request.c ------------------------------------------------------------ */

struct request *request_get(struct engine *e, enum request_op op);
/* Post, sleep until it is done; its result.  The slot stays claimed. */
s64 request_run(struct engine *e, struct request *rq);
void request_put(struct request *rq);
/* The common case: up to 6 words in, one result, *ret_value may be NULL. */
s64 request_call(struct engine *e, enum request_op op, const u64 *arg, u32 nr_args, u64 *ret_value);
void request_main(struct thread *self);
/* One request, on the request thread. */
void request_serve(struct engine *e, struct request *rq);

/* ---- engine.c --------------------------------------------------------------- */

/* Tables that nobody needs before pages are looked at. */
int QUIRE_MUST_CHECK engine_init_paging(struct engine *e);
/* On a thread of the program: what the store has in its table of descriptors goes. */
void engine_forget_here(struct engine *e);

/* ---- start.c ---------------------------------------------------------------- */

/* On the request thread. */
int engine_open_all(struct engine *e, int dev_fd);
/*
 * A table of our own, empty but for keep[] (-1: none): descriptors 0, 1 and 2 are closed
 * there too, lest our copy of a pipe keep its reader waiting.
 */
int QUIRE_MUST_CHECK engine_private_table(const int *keep, u32 nr);
int QUIRE_MUST_CHECK engine_init_pager(struct engine *e);
int engine_start_threads(struct engine *e);
int engine_adopt_all(struct engine *e);
/* Tests: the other threads end, descriptors are closed. */
void engine_close_all(struct engine *e);
void engine_set_why(struct engine *e, const char *cause, int err, const char *hint);
_Noreturn void engine_fatal(void *ctx, const char *reason);
/*
 * The passive lock is held by application threads: a signal handler that maps
 * memory or forks must not interrupt its holder, so signals wait.
 */
void engine_passive_enter(struct engine *e);
/* True, lock held: passive, the caller does the work itself.  False: the engine runs
 * (by now), and a request is due. */
bool QUIRE_MUST_CHECK engine_passive_begin(struct engine *e);
void engine_passive_leave(struct engine *e);
/* Of a limit in bytes, what a program may fill before it needs paging: the rest is for
 * what nobody has counted yet. */
u64 engine_most_of(u64 limit);
/* Could what is mapped, and `more` bytes, exceed the limit? */
bool engine_must_start(struct engine *e, u64 more);
/* Passive: could bytes of ours, with what other members may fill, be more than a limit? */
bool engine_could_exceed(struct engine *e, u64 bytes);
/* Passive: start if so. */
int engine_start_if_needed(struct engine *e);

/* ---- aspace.c, remap.c, advise.c: the work behind the front door, request thread or passive -- */

s64 aspace_mmap(struct engine *e, struct memcg_id id, u64 addr, u64 len, int prot, int flags,
		u64 *ret_addr);
s64 aspace_adopt(struct engine *e, struct memcg_id id, u64 addr, u64 len);
s64 aspace_munmap(struct engine *e, u64 addr, u64 len);
s64 aspace_mremap(struct engine *e, u64 old, u64 old_len, u64 new_len, int flags, u64 new_addr,
		  u64 *ret_addr);
s64 aspace_release(struct engine *e, u64 addr, u64 len);
/* advice of madvise(2), or with ENGINE_MANAGED_ONLY; so too flags of mlock2(2). */
s64 aspace_advise(struct engine *e, u64 addr, u64 len, int advice);
s64 aspace_lock(struct engine *e, u64 addr, u64 len, int flags);
s64 aspace_unlock(struct engine *e, u64 addr, u64 len, int flags);
/* May so many bytes more be locked?  No is counted. */
bool aspace_may_lock(struct engine *e, u64 more);
/* MEMCG_STAT_MLOCKED is what the regions say. */
void aspace_tell_locked(struct engine *e);
s64 aspace_pin(struct engine *e, u64 addr, u64 len, bool pin);

/* What both share. */
bool aspace_running(const struct engine *e);
s64 aspace_room(struct engine *e, u32 more);
/* The kernel has nothing of ours there any more.  aspace_room(2) was asked. */
void aspace_forget(struct engine *e, u64 start, u64 end);
void aspace_zap_begin(struct engine *e, u64 start, u64 end);
void aspace_zap_finish(struct engine *e, u64 start, u64 end);
int aspace_range_call(struct engine *e, u32 op, void *addr, size_t len, u64 extra);

/* ---- check.c: engine_check() on the request thread -------------------------------- */

s64 check_running(struct engine *e);

/* ---- group.c ------------------------------------------------------------------- */

s64 group_watch_add(struct engine *e, struct memcg_id id, u32 mask, int fd, u64 *ret_watch);
s64 group_watch_del(struct engine *e, u32 n);
void group_set_upcalls(struct engine *e);
/* Ticker: write the eventfds of watches that are pending. */
void group_deliver_events(struct engine *e);
u64 group_ask_first(void *ctx, struct memcg_id id, u64 bytes);
/* Ask one callback; what it returned, 0 when it did not answer in time. */
u64 group_call_out(struct engine *e, struct callback *cb, u64 bytes, u64 limit_ns);

/* ---- oom.c ------------------------------------------------------------------------ */

/* Upcall: true, something was done about it and what waits may try again. */
bool group_oom(void *ctx, struct memcg_id id);

/* ---- offline.c ----------------------------------------------------------------- */

s64 offline_group(struct engine *e, struct memcg_id id, enum engine_remove how);
/* Upcall of memcg/: flip() and the splice under the same locks, or a page could name
 * the parent while it still hangs on the child's list (K1). */
void offline_reparent(void *ctx, struct memcg_id child, struct memcg_id parent,
		      void (*flip)(void *arg), void *arg);
/* The ids of removed groups, whoever removed them, may be used again. */
void offline_release(struct engine *e);
/* Give back a slice of what was discarded; false: there is nothing left. */
bool offline_discard_step(struct engine *e);
/* All of it that touches [start, end), before something else happens there. */
void offline_finish(struct engine *e, u64 start, u64 end);

/* ---- assign.c ------------------------------------------------------------------ */

s64 assign_region(struct engine *e, struct memcg_id id, u64 addr, u64 len, u64 *ret_moved);
s64 assign_all(struct engine *e, struct memcg_id id, u64 *ret_moved);

/* ---- fork.c --------------------------------------------------------------------- */

s64 fork_freeze_faults(struct engine *e, struct request *rq);
s64 fork_thaw(struct engine *e);
s64 fork_child_restart(struct engine *e);
/* A child pays for what it has; its gates open. */
void fork_settle(struct engine *e);

/* ---- placement.c ------------------------------------------------------------------ */

/* On the ticker, before anything else. */
void placement_start(struct engine *e);
/* Fault thread, kswapd and request thread to where they belong, on two processors. */
void placement_follow(struct engine *e);

/* ---- ticker.c ---------------------------------------------------------------------- */

void ticker_main(struct thread *self);
/* Anonymous resident bytes of the process, the OS's figure; 0 when unknown. */
u64 ticker_anon_rss(struct engine *e);

#endif
