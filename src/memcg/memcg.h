/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcg.h - who pays: the tree of groups in its segment, and charging.
 *
 * A segment holds one tree: group records, members, charge handles.  It is
 * position independent (indices only) and every index read from it is checked,
 * because other processes may map it.  Counters are in pages.
 *
 * Every page, slot and compressed object names an objcg, never a memcg; the
 * objcg names its memcg *now* and is re-pointed to the parent when the memcg is
 * removed.  One objcg per (group, member); its totals are written by its owner
 * process only and are the truth; the hierarchical counters are caches of them.
 *
 * Charging (algorithms.md 4.2): add first, then compare with max, undo from
 * the leaf on failure.  Engine threads buy batches of 64 pages into a stock.
 *
 * Locks: TREE for structure (create, remove, attach, handles); charging, walks
 * and statistics take none.
 */
#ifndef QUIRE_MEMCG_MEMCG_H
#define QUIRE_MEMCG_MEMCG_H

#include "base/fmt.h"
#include "base/slab.h"

#define MEMCG_NAME_MAX 64
#define MEMCG_DEPTH_MAX 16
#define MEMCG_MEMBERS_MAX 4096
#define MEMCG_ROOT ((struct memcg_id){ 1 })
#define PAGE_COUNTER_MAX (UINT64_MAX >> (PAGE_SHIFT + 1))

/* ---- what is counted ---------------------------------------------------- */

/* memory.events and memory.swap.events, in the kernel's print order */
enum memcg_event {
	MEMCG_LOW,
	MEMCG_HIGH,
	MEMCG_MAX,
	MEMCG_OOM,
	MEMCG_OOM_KILL,
	MEMCG_OOM_GROUP_KILL,
	MEMCG_SWAP_HIGH,
	MEMCG_SWAP_MAX,
	MEMCG_SWAP_FAIL,
	MEMCG_NR_EVENTS,
};

/*
 * memory.stat items kept per group (vmstat.c has name, kind, where printed).
 * Gauges are in pages or bytes as said in vmstat.c; the rest count up.
 */
enum memcg_stat {
	MEMCG_STAT_ANON, /* gauge, pages: charged and mapped, managed memory */
	MEMCG_STAT_FRAMES, /* gauge, pages: unmapped, still in a frame */
	MEMCG_STAT_KERNEL, /* gauge, pages: metadata, pool slack */
	MEMCG_STAT_UNMANAGED, /* gauge, pages: other anonymous RSS of members */
	MEMCG_STAT_PAGETABLES, /* gauge, pages */
	MEMCG_STAT_SHARED, /* gauge, pages of these that other processes are charged for */
	MEMCG_STAT_ZSWAP, /* gauge, bytes compressed */
	MEMCG_STAT_ZSWAPPED, /* gauge, pages whose data is in zswap */
	MEMCG_STAT_STORED, /* gauge, pages whose data is in the store */
	MEMCG_STAT_STORED_BYTES, /* gauge, bytes in the store */
	MEMCG_STAT_FILLED, /* gauge, pages kept as one word */
	MEMCG_STAT_SWAPCACHED, /* gauge, pages: resident with a slot */
	MEMCG_STAT_INACTIVE_ANON, /* gauge, pages on the list */
	MEMCG_STAT_ACTIVE_ANON,
	MEMCG_STAT_MLOCKED, /* gauge, pages of address space that mlock(2) keeps resident */
	MEMCG_STAT_UNEVICTABLE,
	MEMCG_STAT_PGFAULT,
	MEMCG_STAT_PGMAJFAULT, /* had to read or decompress */
	MEMCG_STAT_PGSOFTFAULT, /* mapped back from a frame */
	MEMCG_STAT_PGSCAN_KSWAPD,
	MEMCG_STAT_PGSCAN_DIRECT,
	MEMCG_STAT_PGSCAN_PROACTIVE,
	MEMCG_STAT_PGSTEAL_KSWAPD,
	MEMCG_STAT_PGSTEAL_DIRECT,
	MEMCG_STAT_PGSTEAL_PROACTIVE,
	MEMCG_STAT_PGACTIVATE,
	MEMCG_STAT_PGDEACTIVATE, /* from the active list, all that are looked at */
	MEMCG_STAT_PGUNMAP, /* stage one: taken into a frame */
	MEMCG_STAT_PGUNPROTECT, /* written after it came in for a read */
	MEMCG_STAT_PGROTATED, /* pte busy: put back */
	MEMCG_STAT_PGPINNED, /* refused: pinned for direct I/O */
	MEMCG_STAT_PGDROPPED, /* program dropped it behind our back */
	MEMCG_STAT_PSWPIN, /* pages read from the store */
	MEMCG_STAT_PSWPOUT, /* pages written to the store */
	MEMCG_STAT_SWPIN_ZERO, /* same-filled pages */
	MEMCG_STAT_SWPOUT_ZERO,
	MEMCG_STAT_ZSWPIN,
	MEMCG_STAT_ZSWPOUT,
	MEMCG_STAT_ZSWPOUT_BYTES, /* what they took compressed */
	MEMCG_STAT_ZSWPWB, /* compressed pages written back to the store */
	MEMCG_STAT_ZSWPWB_STALE, /* for nothing: freed before it was done */
	MEMCG_STAT_ZSWPWB_FAILED, /* the store refused: still compressed */
	MEMCG_STAT_SWPOUT_CLEAN, /* dropped: the kept copy was still equal */
	MEMCG_STAT_READAHEAD, /* brought in with a neighbour */
	MEMCG_STAT_REFAULT, /* workingset_refault_anon */
	MEMCG_STAT_REFAULT_ACTIVATE,
	MEMCG_STAT_RESTORE,
	MEMCG_STAT_INCOMPRESSIBLE, /* codec refused */
	MEMCG_STAT_THROTTLED_NS, /* memory.high sleep handed out */
	MEMCG_STAT_STALL_NS, /* faults that waited for reclaim */
	MEMCG_STAT_SWAP_STALE_HANDOFF, /* slots freed by the lock holder's note */
	MEMCG_STAT_MLOCK_REFUSED, /* mlock(2) of more than the limit can spare */
	MEMCG_STAT_LRU_CONTENDED, /* list lock held by another thread */
	MEMCG_NR_STATS,
};

enum page_counter_kind { COUNTER_MEMORY, COUNTER_SWAP, COUNTER_ZSWAP, COUNTER_MEMSW, NR_COUNTERS };

/* ---- the segment and this process in it --------------------------------- */

struct memcg_tree; /* one engine's view of one segment */

/* Upcalls, set once by the engine (the test seam of memcg/). */
struct memcg_upcalls {
	/* Free up to nr_pages in the subtree of `id`; pages freed. */
	u64 (*reclaim)(void *ctx, struct memcg_id id, u64 nr_pages, bool may_swap);
	/* memory.max was lowered below usage and reclaim is out of ideas. */
	bool (*oom)(void *ctx, struct memcg_id id);
	/* An event was counted on `id`, once for every ancestor too (the caller
	 * may hold any lock: post, do not work). */
	void (*event)(void *ctx, struct memcg_id id, enum memcg_event ev);
	/* A charge took usage of `id` over its watermark or high, or was refused
	 * by its max: wake kswapd.  Once per crossing. */
	void (*pressure)(void *ctx, struct memcg_id id);
	/*
	 * Inside memcg_remove(), and inside memcg_release() of a group that another
	 * member removed: the engine locks its lists of both groups, calls flip(arg),
	 * which re-points this member's handles to the parent's lists, and splices
	 * (K1).  NULL: flip() is called directly.
	 */
	void (*reparent)(void *ctx, struct memcg_id child, struct memcg_id parent,
			 void (*flip)(void *arg), void *arg);
	void *ctx;
};

/* Private segment: anonymous memory, nobody else sees it. */
int QUIRE_MUST_CHECK memcg_tree_create(struct meta *meta, struct memcg_tree **ret_tree);
enum memcg_attach {
	MEMCG_ATTACH_MORE, /* this process may be a member already: tests */
	MEMCG_ATTACH_NEW_IMAGE, /* what it was before exec(2) is gone */
	MEMCG_ATTACH_NOBODY, /* as no member: to change groups and reap, not to charge */
	MEMCG_ATTACH_FOUNDER, /* as nobody, and to make a tree in an empty file */
};
/*
 * Attach to the segment in fd (memfd or file); a new, empty one is initialised under the
 * tree lock (not for nobody).  -EBADMSG: not a segment or another version.  -EUSERS: 4096
 * members.
 * -EXDEV: made in another pid namespace.  fd stays the caller's and is not used again.
 */
int QUIRE_MUST_CHECK memcg_tree_attach(struct meta *meta, int fd, enum memcg_attach how,
				       struct memcg_tree **ret_tree);
/* Read only, for the waiting parent and quire top: nothing is written. */
int QUIRE_MUST_CHECK memcg_tree_view(struct meta *meta, int fd, struct memcg_tree **ret_tree);
/* Another member of this process on the mapping of `of`, whose meta must outlive both (tests). */
int QUIRE_MUST_CHECK memcg_tree_join(struct meta *meta, struct memcg_tree *of,
				     struct memcg_tree **ret_tree);
/*
 * Leave: what this member's handles still have charged is given back, its
 * counts stay with its groups, its record keeps its information.
 */
void memcg_tree_close(struct memcg_tree *t);
void memcg_tree_set_upcalls(struct memcg_tree *t, const struct memcg_upcalls *up);
const struct memcg_upcalls *memcg_tree_upcalls(const struct memcg_tree *t);

/* ---- groups -------------------------------------------------------------- */

/*
 * What changes groups or cleans up returns -ETIMEDOUT within some 15 ms, and has done nothing,
 * when a process that is stopped has the tree lock.  What a process cannot live without
 * waits: attaching, fork, its home, its first handle of a group.
 *
 * Create `name` below parent.  -EEXIST, -EINVAL (name: 1..63 of [A-Za-z0-9._@-],
 * not "." or ".."), -ENOSPC (segment full), -ENAMETOOLONG, -E2BIG (depth),
 * -ENOENT (parent removed), -EAGAIN (cgroup.max.descendants, cgroup.max.depth).
 */
int QUIRE_MUST_CHECK memcg_create(struct memcg_tree *t, struct memcg_id parent, const char *name,
				  struct memcg_id *ret_id);
/* "web/api" relative to the root; "" or "/" is the root.  -ENOENT. */
int QUIRE_MUST_CHECK memcg_lookup(struct memcg_tree *t, const char *path, struct memcg_id *ret_id);
/* As above, making what is missing. */
int QUIRE_MUST_CHECK memcg_create_path(struct memcg_tree *t, const char *path,
				       struct memcg_id *ret_id);
/*
 * Take a group out of the tree: -EBUSY with children or attached members (or
 * the root), -ENOENT if it is not in it.  Its objcgs, of every member, are
 * re-pointed to the parent here; `ret_parent` tells the engine whose lists
 * inherit.  Waits for nothing.
 */
int QUIRE_MUST_CHECK memcg_remove(struct memcg_tree *t, struct memcg_id id,
				  struct memcg_id *ret_parent);
/*
 * For members.  No thread of this engine is still inside an operation begun before (gate): it
 * lets go of `id` and of every group that was removed before it.  Lists of those that
 * another member removed are spliced here.  A record is reusable once every member has
 * let go of it.  Nothing, if it was let go already.
 */
void memcg_release(struct memcg_tree *t, struct memcg_id id);
/* Removed groups this member has yet to release, in the order of their removal: prev {0}
 * starts; {0} ends.  Takes the tree lock, if there are any. */
struct memcg_id memcg_next_offline(struct memcg_tree *t, struct memcg_id prev);
u64 memcg_nr_unreleased(const struct memcg_tree *t); /* how many */
bool memcg_online(const struct memcg_tree *t, struct memcg_id id);
/* The nearest above that was not removed; 0 for the root. */
struct memcg_id memcg_parent(const struct memcg_tree *t, struct memcg_id id);
/* Depth-first walk of the subtree of root: prev {0} starts; {0} ends. */
struct memcg_id memcg_next(const struct memcg_tree *t, struct memcg_id root, struct memcg_id prev);
bool memcg_is_descendant(const struct memcg_tree *t, struct memcg_id id, struct memcg_id of);
const char *memcg_name(const struct memcg_tree *t, struct memcg_id id);
void memcg_path(const struct memcg_tree *t, struct memcg_id id, struct fmt *out); /* "/web/api" */
u32 memcg_nr_descendants(const struct memcg_tree *t, struct memcg_id id);
u32 memcg_nr_dying(const struct memcg_tree *t); /* removed, not released by all members */
bool memcg_populated(const struct memcg_tree *t, struct memcg_id id); /* members here or below */
u32 memcg_nr_max(const struct memcg_tree *t); /* ids are < this; a constant */

enum memcg_flag {
	MEMCG_FLAG_OOM_GROUP,
	MEMCG_FLAG_ZSWAP_WRITEBACK,
	MEMCG_FLAG_OF_PROCESS, /* made for the process it is named after: engine_own_group() */
};
bool memcg_flag(const struct memcg_tree *t, struct memcg_id id, enum memcg_flag f);
void memcg_set_flag(struct memcg_tree *t, struct memcg_id id, enum memcg_flag f, bool on);
/* cgroup.max.descendants, cgroup.max.depth; UINT32_MAX: no limit. */
u32 memcg_max_descendants(const struct memcg_tree *t, struct memcg_id id);
void memcg_set_max_descendants(struct memcg_tree *t, struct memcg_id id, u32 nr);
u32 memcg_max_depth(const struct memcg_tree *t, struct memcg_id id);
void memcg_set_max_depth(struct memcg_tree *t, struct memcg_id id, u32 depth);

/* ---- charge handles ------------------------------------------------------ */

/*
 * The handle of (group, this member), made on first use, with one reference
 * more; of a removed group, that of who inherited it.  0 or -ENOSPC.  Takes the
 * tree lock: keep the handle (in the region), do not ask per fault.
 */
int QUIRE_MUST_CHECK objcg_get(struct memcg_tree *t, struct memcg_id id, struct objcg_id *ret);
/*
 * For who keeps one handle a group, and one reference: *cache is the handle, or 0
 * until the first call has made it.  Only that one takes the tree lock.
 */
int QUIRE_MUST_CHECK objcg_get_cached(struct memcg_tree *t, struct memcg_id id,
				      struct atomic32 *cache, struct objcg_id *ret);
/* Nothing is charged to it now. */
bool objcg_empty(const struct memcg_tree *t, struct objcg_id o);
/* One reference less.  Freed when it has none and nothing is charged to it; its counts
 * stay with the group.  Who never puts leaks 512 bytes a removed group. */
void objcg_put(struct memcg_tree *t, struct objcg_id o);
/* Where its charges go now; on whose lists this member keeps what is charged to it. */
struct memcg_id objcg_memcg(const struct memcg_tree *t, struct objcg_id o);
struct memcg_id objcg_lists(const struct memcg_tree *t, struct objcg_id o);

/* ---- charging -------------------------------------------------------------- */

#define STOCK_BATCH 64

/* Pre-bought pages of one charge handle; of one engine thread. */
struct memcg_stock {
	struct objcg_id objcg;
	u32 nr_pages;
};

/*
 * Charge nr pages of memory.  0, or -ENOMEM and *ret_over is the group whose
 * max said no (reclaim there, not at the leaf).  st may be NULL.
 */
int QUIRE_MUST_CHECK memcg_try_charge(struct memcg_tree *t, struct memcg_stock *st,
				      struct objcg_id o, u32 nr, struct memcg_id *ret_over);
/* Cannot fail; may exceed max (emergency reserve, adoption, fork). */
void memcg_charge_force(struct memcg_tree *t, struct objcg_id o, u32 nr);
/* Up to STOCK_BATCH pages stay in st; reclaim passes NULL, it wants usage down. */
void memcg_uncharge(struct memcg_tree *t, struct memcg_stock *st, struct objcg_id o, u32 nr);
/* Give a thread's stock back, before a limit is declared hit. */
void memcg_drain_stock(struct memcg_tree *t, struct memcg_stock *st);

/* One slot.  -ENOMEM: swap.max somewhere (events max and fail counted). */
int QUIRE_MUST_CHECK memcg_swap_try_charge(struct memcg_tree *t, struct objcg_id o, u32 nr);
void memcg_swap_uncharge(struct memcg_tree *t, struct objcg_id o, u32 nr);

/*
 * Compressed bytes: counted in zswap and, in whole pages as they add up, in
 * memory (interface.md 2.4).  Force: the caller asked memcg_zswap_may() first.
 * Keeps MEMCG_STAT_ZSWAP; MEMCG_STAT_ZSWAPPED is the caller's.
 */
bool memcg_zswap_may(struct memcg_tree *t, struct objcg_id o, struct memcg_id *ret_over);
bool memcg_zswap_writeback(const struct memcg_tree *t, struct memcg_id id); /* ANDed upwards */
void memcg_zswap_charge(struct memcg_tree *t, struct objcg_id o, u32 bytes);
void memcg_zswap_uncharge(struct memcg_tree *t, struct objcg_id o, u32 bytes);
/* Set the charge of what this member holds outside pages (MEMCG_STAT_KERNEL:
 * metadata and pool slack; MEMCG_STAT_PAGETABLES; MEMCG_STAT_UNMANAGED) on its
 * home group to nr pages; the difference is forced.  One thread at a time. */
void memcg_set_overhead(struct memcg_tree *t, struct objcg_id home, enum memcg_stat which,
			u64 nr_pages);
/*
 * Of that, and of its compressed bytes, so many pages are other processes' too since a
 * fork, and charged to them: MEMCG_STAT_SHARED.  Likewise.
 */
void memcg_set_shared(struct memcg_tree *t, struct objcg_id home, u64 nr_pages);

/* ---- limits ---------------------------------------------------------------- */

/*
 * In pages; COUNTER_ZSWAP in whole pages, rounded down, as its limit is checked
 * (memcg_zswap_bytes() has the bytes).  COUNTER_MEMSW is counted, not limited:
 * memory + swap less MEMCG_STAT_SWAPCACHED; its peak is that of the readings.
 */
u64 memcg_usage(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k);
u64 memcg_zswap_bytes(const struct memcg_tree *t, struct memcg_id id);
u64 memcg_peak(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k);
void memcg_reset_peak(struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k);
u64 memcg_limit(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k);
u64 memcg_high(const struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k);
u64 memcg_min(const struct memcg_tree *t, struct memcg_id id);
u64 memcg_low(const struct memcg_tree *t, struct memcg_id id);
/*
 * kswapd keeps usage below the first and stops at the second: one and two gaps
 * below max; gap = max/64, at least 256 KiB, at most 8 MiB, never more than
 * max/4.  PAGE_COUNTER_MAX without a limit.
 */
u64 memcg_wmark_pages(const struct memcg_tree *t, struct memcg_id id);
u64 memcg_wmark_low_pages(const struct memcg_tree *t, struct memcg_id id);
/* Pages that could still be charged: min over the group and its ancestors. */
u64 memcg_margin(const struct memcg_tree *t, struct memcg_id id);
/* Pages over memory.max of this very group, 0 if none (after a limit was lowered
 * or forced). */
u64 memcg_over_max(const struct memcg_tree *t, struct memcg_id id);
/* Pages over memory.high of the group or an ancestor, whichever is most; ret:
 * which group (unset when 0).  Who reclaims there counts MEMCG_HIGH on it. */
u64 memcg_over_high(const struct memcg_tree *t, struct memcg_id id, struct memcg_id *ret_which);
/* memory.high and swap.high penalty for nr_charged pages: ns, <= 2 s, 0 below
 * 10 ms (algorithms.md 4.3).  Counts MEMCG_SWAP_HIGH where swap.high is passed. */
u64 memcg_high_delay_ns(struct memcg_tree *t, struct memcg_id id, u32 nr_charged);
/* Slots are nearly used up: free copies eagerly (interface.md 2.3). */
bool memcg_swap_nearly_full(const struct memcg_tree *t, struct memcg_id id);
/* Free slots a group may still take: min over ancestors. */
u64 memcg_swap_margin(const struct memcg_tree *t, struct memcg_id id);
/* Setters used by knob/: store only; value in pages (PAGE_COUNTER_MAX = max). */
void memcg_set_max(struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k, u64 pages);
void memcg_set_high(struct memcg_tree *t, struct memcg_id id, enum page_counter_kind k, u64 pages);
void memcg_set_protection(struct memcg_tree *t, struct memcg_id id, u64 min_or_same,
			  u64 low_or_same); /* UINT64_MAX: leave */

/* Effective protection of id when root is the reclaim target (algorithms.md 4.4). */
struct memcg_protection {
	u64 emin;
	u64 elow;
};
void memcg_protection(struct memcg_tree *t, struct memcg_id root, struct memcg_id id,
		      struct memcg_protection *ret);
/* memory_recursiveprot for the whole segment; on by default. */
void memcg_set_recursiveprot(struct memcg_tree *t, bool on);

/* ---- events and statistics --------------------------------------------------- */

void memcg_count_event(struct memcg_tree *t, struct memcg_id id, enum memcg_event ev);
u64 memcg_event_count(const struct memcg_tree *t, struct memcg_id id, enum memcg_event ev,
		      bool local);
/* Signed delta; no scheduling point; belongs to the objcg's memcg of now, and goes
 * with the objcg when that is removed. */
void memcg_stat_add(struct memcg_tree *t, struct objcg_id o, enum memcg_stat item, s64 n);
/* This group and all below it. */
u64 memcg_stat_read(const struct memcg_tree *t, struct memcg_id id, enum memcg_stat item);
/* All items in one walk of the subtree. */
struct memcg_stats {
	u64 v[MEMCG_NR_STATS];
	u64 zswap_pages; /* charged to memory for MEMCG_STAT_ZSWAP */
};
void memcg_stats_read(const struct memcg_tree *t, struct memcg_id id, struct memcg_stats *ret);
/* Falls again, and goes to 0 with its member; the others only count up. */
bool memcg_stat_is_gauge(enum memcg_stat item);

/* One line of memory.stat; the table is its documentation (vmstat.c). */
enum vmstat_unit { VMSTAT_PAGES /* printed in bytes */, VMSTAT_BYTES, VMSTAT_COUNT, VMSTAT_USEC };
#define VMSTAT_ZSWAP_PAGES (MEMCG_NR_STATS + 1)
struct vmstat_item {
	const char *name;
	enum vmstat_unit unit;
	bool numa; /* in memory.numa_stat too */
	u32 from[3]; /* the line is their sum; MEMCG_NR_STATS: nothing */
	const char *text;
};
const struct vmstat_item *vmstat_item(u32 n); /* in print order; NULL past the end */
u64 vmstat_value(const struct vmstat_item *it, const struct memcg_stats *s); /* as printed */

/* Totals of handles against counters, links, protection: aborts on drift (tests, at rest). */
void memcg_check(struct memcg_tree *t);
/* Set the counters to those sums.  -EAGAIN: somebody charges. */
int QUIRE_MUST_CHECK memcg_recount(struct memcg_tree *t);

#endif
