/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the layout of a segment, and what the files of memcg/ share.
 *
 * A segment is a file (or private memory), all of it mapped at once:
 *
 *   header | name index | members | groups | charge handles
 *
 * Most of it is a hole.  Records are named by index, 0 is none (members begin
 * with 0); their memory is made before an index is handed out.  They are
 * type-stable: a stale index finds some record of that kind, never other memory.
 * Any index read from the segment goes through group_at() or objcg_at(), which
 * check it: other processes may scribble.
 *
 * Letters: (T) changed under the tree lock, read without; (A) any thread of
 * any member; (O) threads of the owning member only.
 */
#ifndef QUIRE_MEMCG_INTERNAL_H
#define QUIRE_MEMCG_INTERNAL_H

#include "base/assert.h"
#include "memcg/member.h"

#define SEG_MAGIC 0x6572697571657274ull
#define SEG_VERSION 4
#define SEG_INDEX_SIZE (16u << 10) /* buckets of the name index */
#define SEG_INDEX_AT PAGE_SIZE
#define SEG_HEAD_BYTES (SEG_INDEX_AT + SEG_INDEX_SIZE * sizeof(struct atomic32))
#define SEG_MEMBERS_AT (128 * KIB)
#define SEG_GROUPS_AT (SEG_MEMBERS_AT + 2 * MIB)
#define SEG_OBJCGS_AT (SEG_GROUPS_AT + 64 * MIB)
#define SEG_BYTES (SEG_OBJCGS_AT + 64 * MIB)
/* Memory of an area is made in such steps at most. */
#define SEG_STEP (64 * KIB)

#define NR_MEMBERS MEMCG_MEMBERS_MAX
#define MEMBER_NOBODY NR_MEMBERS /* owner of what former members left behind */
#define NR_LEVELS (MEMCG_DEPTH_MAX + 1) /* root included */
#define SEQ_TRIES 4 /* a reader takes what it got after so many changes */
#define WALK_TRIES 256 /* siblings removed under one step of a walk */

enum seg_area { SEG_MEMBERS, SEG_GROUPS, SEG_OBJCGS, SEG_NR_AREAS };

/* Growth of one area; all (T). */
struct area_head {
	struct atomic32 nr_ready; /* records whose memory exists */
	struct atomic32 nr_high; /* first never-used record */
	struct atomic32 free_head; /* not of members */
};

struct seg_header {
	/* (C) what the file is; magic is written last */
	struct atomic64 magic;
	u32 version;
	u32 header_bytes, member_bytes, group_bytes, objcg_bytes;
	u32 nr_stats, nr_events;
	u32 seg_bytes;
	/* (A) lock.c: the process that holds the tree lock, releases, sleepers */
	struct atomic64 lock_owner;
	struct atomic32 lock_seq, lock_waiters;
	/* (T) the dirty word: odd while a change of the tree is under way.  Who
	 * takes the tree lock and finds it odd rebuilds (rebuild.c). */
	struct atomic32 seq;
	struct atomic32 flags; /* SEG_RECURSIVEPROT */
	struct atomic32 recount_due; /* (T) somebody was killed while he changed counters */
	struct atomic64 nr_removed; /* removals of groups, ever */
	struct atomic32 dying_first, dying_last; /* OFFLINE groups in that order */
	struct atomic32 nr_dying;
	struct atomic32 nr_refused; /* processes that found all records taken */
	struct atomic32 nr_forgotten; /* those whose record is another's by now */
	struct atomic64 count_next_ns; /* when members that do not page are counted again */
	struct atomic64 reaped_ns; /* when somebody last looked for dead members, now and then */
	struct atomic64 oom_until_ns; /* somebody chooses whom to end, until then at most */
	/* (C) inodes of the namespaces of all members: what pids and start times mean */
	u64 pid_ns, time_ns;
	struct area_head area[SEG_NR_AREAS];
};
_Static_assert(sizeof(struct seg_header) <= SEG_INDEX_AT, "header fits its page");
_Static_assert(SEG_HEAD_BYTES <= SEG_MEMBERS_AT, "index fits");

#define SEG_RECURSIVEPROT 1u

/* One process; its public part survives it, for the report. */
enum member_state {
	MEMBER_FREE,
	MEMBER_ACTIVE,
	MEMBER_FORKING, /* made by its parent, whose pid it has; its child is not there yet */
	MEMBER_GONE,
	MEMBER_ARRIVING, /* and more: the child of this pid is there, its totals are being written */
};

struct member {
	struct member_info info; /* (O) */
	struct atomic32 state; /* (T) enum member_state */
	struct atomic32 quiet; /* (T) it has no lists and no ids but its home's and the root's */
	u64 boot_ns; /* (T) os_boot_ns() at attach: tells two lives of one pid apart */
	struct atomic64 released; /* (T) it uses no id that was removed up to this removal */
	struct event doorbell; /* (A) its kswapd sleeps there */
	struct atomic64 passive; /* (O) bytes it may fill without paging; 0: it pages */
	/* (O) os_process_image() at attach: tells programs before and after exec */
	struct atomic64 image;
	struct atomic64 charging; /* (A) counters_begin() */
};
_Static_assert(SEG_MEMBERS_AT + NR_MEMBERS * sizeof(struct member) == SEG_GROUPS_AT, "members fit");

/*
 * A group: 384 bytes.  State (T):
 *
 *   FREE --memcg_create()--> ONLINE --memcg_remove()--> OFFLINE
 *     ^                                                    |
 *     +------------- memcg_release() of every member ------+
 *
 * ONLINE: linked below an ONLINE parent and in the name index.  OFFLINE: found
 * by stale ids only; has no children, no handles, no protection.  `parent` is
 * never FREE, so that whoever climbs through it arrives.
 */
enum group_state { GROUP_FREE, GROUP_ONLINE, GROUP_OFFLINE };

struct group {
	/* usage: written by every charge; nothing else in this line */
	struct atomic64 usage[NR_COUNTERS]; /* (A) pages; ZSWAP bytes; MEMSW unused */
	struct counter64 peak[NR_COUNTERS]; /* (A) */
	/* limits: read by every charge, rarely written */
	struct atomic64 max[NR_COUNTERS]; /* (A) */
	struct atomic64 high[2]; /* (A) COUNTER_MEMORY, COUNTER_SWAP */
	struct atomic64 min, low; /* (A) */
	/* links, all (T); read by lock-free walks */
	struct atomic32 parent; /* also read by every charge */
	struct atomic32 child_first, child_last;
	struct atomic32 sib_next, sib_prev;
	struct atomic32 hash_next; /* in its bucket; FREE: in the free list */
	struct atomic32 dying_next; /* OFFLINE: the one removed next */
	struct atomic32 objcg_first;
	struct atomic32 state;
	struct atomic32 depth; /* root 0 */
	struct atomic32 nr_descendants;
	struct atomic32 others; /* OFFLINE: members but the remover had handles there */
	u32 spare[2];
	struct atomic32 max_descendants, max_depth; /* UINT32_MAX: no limit */
	char name[MEMCG_NAME_MAX]; /* (T) NUL-terminated */
	/* protection: written by charges of groups that have any, and below */
	struct atomic64 min_usage, low_usage; /* (A) min(usage, setting) */
	struct atomic64 children_min_usage, children_low_usage; /* (A) sums of it */
	struct atomic64 removal; /* (T) OFFLINE: which one its was, from 1 */
	struct atomic32 flags; /* (A) 1 << enum memcg_flag */
	struct atomic32 remover; /* (T) OFFLINE: member that removed it, lists and all */
	struct counter64 event[MEMCG_NR_EVENTS]; /* (A) here and below */
	u64 spare2;
};
_Static_assert(sizeof(struct group) == 384, "an empty group costs at most 512 bytes");
_Static_assert(offsetof(struct group, max) == 64, "usage shares no line with limits");
_Static_assert(offsetof(struct group, parent) == 128, "nor with links");

/*
 * A charge handle: one of (group, member).  Once its group is removed it points
 * to the parent, which may have another of the same member; either will do.
 */
enum objcg_state { OBJCG_FREE, OBJCG_LIVE };

#define OBJCG_NR_STATS 53

struct objcg {
	struct atomic32 memcg; /* (T) where charges go now */
	struct atomic32 state; /* (T) */
	struct atomic32 member; /* (T) owner, or MEMBER_NOBODY */
	struct atomic32 refs; /* (T) objcg_get() less objcg_put() */
	struct atomic32 next, prev; /* (T) list of its group; FREE: free list */
	/* (O) group on whose lists the owner keeps its pages: that of `memcg`, or a
	 * removed one whose lists it has not spliced yet */
	struct atomic32 lists;
	u32 local; /* (O) the owner's number for it */
	/* (O) what of the totals is not on the counters: not yet (fork.c), or because
	 * another process pays for it (memcg_set_shared()) */
	struct atomic64 late_memory, late_swap, late_zswap;
	u64 spare;
	/* the truth */
	struct atomic64 memory; /* (O) pages, compressed and overhead included */
	struct atomic64 swap; /* (O) slots */
	struct atomic64 zswap_bytes; /* (O) */
	struct counter64 stat[OBJCG_NR_STATS]; /* (O) */
};
_Static_assert(sizeof(struct objcg) == 512, "objcg layout");
_Static_assert(offsetof(struct objcg, memory) == 64, "totals away from the pointer");
_Static_assert((int)MEMCG_NR_STATS <= OBJCG_NR_STATS, "room for every item");

#define NR_GROUPS_MAX ((u32)((SEG_OBJCGS_AT - SEG_GROUPS_AT) / sizeof(struct group)))
#define NR_OBJCGS_MAX ((u32)((SEG_BYTES - SEG_OBJCGS_AT) / sizeof(struct objcg)))

/* ---- this process's view -------------------------------------------------- */

/* One mapping of a segment; several members of one process may share it. */
struct segment {
	struct mutex lock; /* rank TREE */
	struct meta *meta; /* (C) */
	char *base; /* (C) */
	u64 lock_word; /* (L) what the owner word is while we hold it */
	bool shared; /* (C) other processes may map it */
	u64 dev, ino; /* (C) of its file */
	bool readonly; /* (C) */
	u32 refs; /* (L) trees on it */
	u64 counted; /* (L) bytes in meta: private memory only */
};

struct memcg_tree {
	struct segment *seg;
	struct meta *meta;
	struct memcg_upcalls up;
	u32 self; /* (C) member number; MEMBER_NOBODY for a view */
	u64 oom_until_ns; /* (kswapd) while we choose whom to end */
	u32 nr_handles, free_handle;
	/* fork.c: of the child to be, or of the child that we are */
	struct fork_copy *fork_copy; /* by number; nr_fork_copies of them */
	u32 nr_fork_copies;
	u32 fork_member; /* its record; MEMBER_NOBODY: there is none */
	u32 fork_tid; /* the thread that forks */
	u64 fork_boot_ns; /* what its record says, if it is still that */
	/* (T) handle.c: by struct objcg_id the record; of a free number, the next free */
	struct atomic32 handle[NR_OBJCGS_MAX];
};

static inline struct seg_header *seg_head(const struct memcg_tree *t)
{
	return (struct seg_header *)t->seg->base;
}

static inline struct member *seg_member(const struct memcg_tree *t, u32 n)
{
	return (struct member *)(t->seg->base + SEG_MEMBERS_AT) + n;
}

static inline struct atomic32 *seg_index(const struct memcg_tree *t)
{
	return (struct atomic32 *)(t->seg->base + SEG_INDEX_AT);
}

/* First index of an area that was never used; nr_max of those that could be. */
static inline u32 seg_high(const struct memcg_tree *t, enum seg_area a, u32 nr_max)
{
	return min_of(atomic32_load(&seg_head(t)->area[a].nr_high), nr_max);
}

static inline bool seg_has(const struct memcg_tree *t, enum seg_area a, u32 i, u32 nr_max)
{
	return likely(i - 1 < nr_max - 1 && i < atomic32_peek(&seg_head(t)->area[a].nr_high));
}

/* The record, or NULL when i is 0 or out of bounds. */
static inline struct group *group_at(const struct memcg_tree *t, u32 i)
{
	if (!seg_has(t, SEG_GROUPS, i, NR_GROUPS_MAX))
		return NULL;
	return (struct group *)(t->seg->base + SEG_GROUPS_AT) + i;
}

/* For who changes links: those of a record that was scribbled on are the root's. */
static inline struct group *group_or_root(const struct memcg_tree *t, u32 i)
{
	struct group *g = group_at(t, i);

	return g ? g : group_at(t, MEMCG_ROOT.v);
}

static inline struct objcg *objcg_at(const struct memcg_tree *t, u32 i)
{
	if (!seg_has(t, SEG_OBJCGS, i, NR_OBJCGS_MAX))
		return NULL;
	return (struct objcg *)(t->seg->base + SEG_OBJCGS_AT) + i;
}

/* The record of an id the caller vouches for. */
static inline struct group *group_of(const struct memcg_tree *t, struct memcg_id id)
{
	struct group *g = group_at(t, id.v);

	quire_assert(g);
	return g;
}

static inline struct objcg *objcg_of(const struct memcg_tree *t, struct objcg_id o)
{
	struct objcg *c = objcg_at(t, atomic32_peek(&t->handle[o.v]));

	quire_assert(c && atomic32_peek(&c->state) == OBJCG_LIVE);
	return c;
}

/* ---- segment.c -------------------------------------------------------------- */

/* There is memory for the first nr records of an area; false: the OS has no more. */
bool segment_commit(struct memcg_tree *t, enum seg_area a, u32 nr);
/* A zeroed record of a group or handle, or 0 when the area or the OS has no more. */
u32 segment_alloc(struct memcg_tree *t, enum seg_area a);
void segment_free(struct memcg_tree *t, enum seg_area a, u32 i);
/* Do its pids and times mean here what they mean to its members? */
bool segment_same_namespace(const struct memcg_tree *t);

/* ---- lock.c: the tree lock --------------------------------------------------- */

/* -EROFS; -ETIMEDOUT: held by a process that is stopped.  A tree found dirty is rebuilt. */
int QUIRE_MUST_CHECK segment_lock(struct memcg_tree *t);
/* For what a process cannot live without: waits for one that is stopped, too. */
int QUIRE_MUST_CHECK segment_lock_wait(struct memcg_tree *t);
/* Its holder is gone. */
bool segment_lock_lost(const struct memcg_tree *t);
/* The same without a look at the dirty word: the segment is just being opened. */
void segment_lock_raw(struct memcg_tree *t);
void segment_unlock(struct memcg_tree *t);
/* This process was exec'ed: if it holds the lock, that was a thread which is gone. */
void segment_lock_forget_image(struct memcg_tree *t);
/* Between these the dirty word is odd. */
void segment_change_begin(struct memcg_tree *t);
void segment_change_end(struct memcg_tree *t);
/* Readers without the lock: was the tree at rest from seq until now? */
u32 segment_seq(const struct memcg_tree *t);
bool segment_seq_same(const struct memcg_tree *t, u32 seq);
/* ---- memcg.c ----------------------------------------------------------------- */

/* Link an ONLINE record below its parent and in the index; counts above it. */
void memcg_link(struct memcg_tree *t, u32 i);
/* Put an OFFLINE record among the dying, by the order of removals. */
void memcg_link_dying(struct memcg_tree *t, u32 i);
bool memcg_init_root(struct memcg_tree *t);
/* OFFLINE records that no member may hold any more become FREE. */
void memcg_free_dying(struct memcg_tree *t);
/* The group itself, or the ancestor that inherited it. */
u32 memcg_online_of(const struct memcg_tree *t, u32 i);
bool memcg_name_ok(const char *name, size_t len);
size_t memcg_name_len(const struct group *g); /* MEMCG_NAME_MAX: no end */

/* ---- page_counter.c ------------------------------------------------------------ */

/*
 * Add nr to usage k of group `leaf` and all above; what a charge crossed comes
 * back as one bit per level.  try: false and the refusing group in *ret_over.
 * until: stop before that group (0: root included).
 */
bool page_counter_try_charge(struct memcg_tree *t, u32 leaf, enum page_counter_kind k, u64 nr,
			     u32 until, u32 *ret_crossed, u32 *ret_over);
u32 page_counter_charge(struct memcg_tree *t, u32 leaf, enum page_counter_kind k, u64 nr,
			u32 until);
void page_counter_uncharge(struct memcg_tree *t, u32 leaf, enum page_counter_kind k, u64 nr,
			   u32 until);
/* Nearest group above or equal to both. */
u32 page_counter_common(const struct memcg_tree *t, u32 a, u32 b);
/* Bring min_usage, low_usage and the parent's sums in line with usage. */
void page_counter_propagate(struct memcg_tree *t, struct group *g, u64 usage);

/* ---- objcg.c ------------------------------------------------------------------- */

/* Put a handle on a group's list; false: it was one of MEMBER_NOBODY and another
 * took its counts, so that the record is FREE and not on a list. */
bool objcg_link(struct memcg_tree *t, u32 i, u32 memcg);
/* Point every handle of group `from` to `to`; true: other members had some. */
bool objcg_flip_all(struct memcg_tree *t, u32 from, u32 to);
/* This member's handles whose pages are on the lists of `from`: on those of `to` now. */
void objcg_splice(struct memcg_tree *t, u32 from, u32 to);
/* A member is gone: take its charges back, keep its event counts. */
void objcg_retire_member(struct memcg_tree *t, u32 member);
/* The handle of a member in a group's list, or 0; the tree lock is held. */
u32 objcg_find(const struct memcg_tree *t, u32 memcg, u32 member);
/* memcg_set_overhead() of any member's. */
void objcg_set_overhead(struct memcg_tree *t, struct objcg *c, enum memcg_stat which, u64 nr);

/* ---- handle.c ------------------------------------------------------------------ */

/* A number for a record of this member; cannot fail. */
u32 handle_alloc(struct memcg_tree *t, u32 record);
void handle_free(struct memcg_tree *t, u32 o);
/* This member's record behind a number, or NULL. */
const struct objcg *handle_in_use(const struct memcg_tree *t, u32 o);

/* ---- member.c ------------------------------------------------------------------ */

/* A record for this process; 0 or -EUSERS. */
int QUIRE_MUST_CHECK member_claim(struct memcg_tree *t, enum memcg_attach how, u32 *ret_n);
void member_leave(struct memcg_tree *t, u32 n);
void member_close_half_made(struct memcg_tree *t); /* by who was killed in member_claim() */
/* Is a member of that pid another program by now? */
bool member_was_replaced(const struct memcg_tree *t, int pid);
/* The record of the image before is ours until we close it. */
void member_was_us(struct memcg_tree *t);
/* The least of what all members have released; what one has, UINT64_MAX if it is gone. */
u64 member_least_released(const struct memcg_tree *t);
u64 member_released(const struct memcg_tree *t, u32 n);
void member_uses(struct memcg_tree *t, u32 id); /* it has a handle of it from now on */
/* Are its totals not to be believed yet? */
bool member_is_forking(const struct memcg_tree *t, u32 n);
/* No member changes counters; the number is another when one has done so since. */
bool member_counters_at_rest(const struct memcg_tree *t, u64 *ret_nr);
u32 member_nr_at(const struct memcg_tree *t, struct memcg_id id); /* attached there */

/* ---- rebuild.c ------------------------------------------------------------------ */

void rebuild_tree(struct memcg_tree *t);
/* memcg_recount() with the tree lock held; *ret_drift: the counters were wrong. */
int QUIRE_MUST_CHECK rebuild_counters(struct memcg_tree *t, bool *ret_drift);
/* If it is due, and others let us. */
void rebuild_due_counters(struct memcg_tree *t);

#endif
