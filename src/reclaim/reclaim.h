/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.h - making room: two-stage reclaim of a group and those below it.
 *
 * Stage one, unmap.c and unmap_protected.c: pages from the inactive tail are taken
 * into frames; they have a slot now and wait in the laundry.  A touch is a cheap soft fault that
 * maps them back and activates them: that is our accessed bit.
 * Stage two, pageout.c: what stayed untouched is compressed, stored, freed.
 *
 * shrink.c decides how much of which, by the kernel's rules (protection,
 * priorities); kswapd.c keeps groups below their watermark in the background.
 * Reclaim only ever try-locks a pte.  Runs on engine threads, inside the
 * reclaim gate.
 */
#ifndef QUIRE_RECLAIM_RECLAIM_H
#define QUIRE_RECLAIM_RECLAIM_H

#include "zswap/task.h"

#define SWAP_CLUSTER_MAX 32u /* algorithms.md 4.1 */
#define DEF_PRIORITY 12
#define MAX_RECLAIM_RETRIES 16

static_assert(SWAP_CLUSTER_MAX <= FRAME_RUN_MAX && SWAP_CLUSTER_MAX <= WRITEBACK_BATCH,
	      "a batch fits its buffers");

enum reclaimer { RECLAIM_KSWAPD, RECLAIM_DIRECT, RECLAIM_PROACTIVE };

/* reclaim -> engine */
struct reclaim_ops {
	/* Open the store if it is not; 0 or why not. */
	int (*open_store)(void *ctx);
	/* Ask the allocator and the application's shrinkers for memory of `id` before
	 * anything is paged; bytes they gave back (may be 0: they work later). */
	u64 (*ask_first)(void *ctx, struct memcg_id id, u64 bytes);
	/* Faults queued for want of memory may be tried again. */
	void (*retry_faults)(void *ctx, struct task *t);
	/* The first of them is served whatever the limit says: other members have
	 * memory there, and give way. */
	void (*force_fault)(void *ctx, struct task *t);
	/* Number of faults waiting for memory charged to id or below, not counting
	 * those that came after `before_ns`. */
	u32 (*faults_waiting)(void *ctx, struct memcg_id id, u64 before_ns);
	/* Nothing more can be paged out of id: callback, kill or poison; true when
	 * memory was released and reclaim should go on. */
	bool (*oom)(void *ctx, struct memcg_id id);
	void *ctx;
};

struct reclaim {
	struct mm *mm; /* (C) */
	struct memcg_tree *tree; /* (C) */
	struct lru *lru; /* (C) */
	struct swap *swap; /* (C) */
	struct zswap *zswap; /* (C) */
	struct reclaim_ops ops; /* (C) */
	struct gate *gate; /* (C) closed: no page may leave (fork) */
	struct event *wake; /* kswapd's doorbell, in this member's record: others ring it too */
	struct event trim; /* the writeback thread's */
	struct atomic32 stop;
	struct memcg_id repack_turn; /* (writeback) the group that was last */
	u64 repacked_ns; /* (writeback) when it last looked for cold objects */
	struct atomic64 clean_vain; /* live bytes when cleaning gained nothing; 0: it did */
	struct atomic32 cleaning; /* a thread cleans the store; within the gate */
	struct counter64 nr_wakes, nr_rounds, nr_no_progress;
	struct counter64 nr_no_frames, nr_frames_lost, nr_no_slots, nr_store_refused;
	struct atomic32 unevictable_scan; /* fruitless rounds with nobody waiting */
};

/* One reclaim effort. */
struct scan_control {
	struct memcg_id target;
	u64 nr_to_reclaim;
	enum reclaimer who;
	bool may_swap;
	/* results and state */
	u64 nr_scanned;
	u64 nr_reclaimed;
	int priority;
	bool ignore_low;
	bool low_skipped;
	bool one_pass; /* the first priority only: a fault waits */
};

/* Up to sc->nr_to_reclaim pages out of the target's subtree; pages freed. */
u64 reclaim_memcg(struct reclaim *r, struct task *t, struct scan_control *sc);

/*
 * Stage one on up to nr pages of one group: pages that left the program.  *freed grows
 * by those of them that are out of memory at once, by a clean copy.
 */
u32 reclaim_unmap(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr, u32 *freed);
/* The same for given, isolated pages (MADV_PAGEOUT); takes ownership of them. */
u32 reclaim_unmap_pages(struct reclaim *r, struct task *t, struct page_id *pages, u32 nr,
			u32 *freed);
/* Stage two on up to nr pages of the laundry tail: pages freed. */
u32 reclaim_pageout(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr);
/* Try the pages the pager refused again; pages back on the lists. */
u32 reclaim_rescue_unevictable(struct reclaim *r, struct memcg_id id, u32 nr);

/* The group, root or below, with most compressed objects that may be written back; {0}:
 * there are none. */
struct memcg_id reclaim_longest_pool(struct reclaim *r, struct memcg_id root);
/* The pool's share of the limit, after what came back since the last look. */
void pool_share_adapt(struct reclaim *r, struct memcg_id id);
/* The pool of id has more than its share, or than zswap.max. */
bool pool_is_over(struct reclaim *r, struct memcg_id id);

void reclaim_to_text(const struct reclaim *r, struct fmt *out);

void kswapd_wake(struct reclaim *r);
/* The threads; t->thread.arg is the struct reclaim. */
void kswapd_main(struct thread *self);
void kswapd_writeback_main(struct thread *self);
/* Bring the pool of a group under its zswap.max and its share of the limit. */
long reclaim_writeback(struct reclaim *r, struct task *t, struct memcg_id id, u32 nr);

#endif
