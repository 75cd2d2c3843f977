/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the layout of a segment, and what the files of memcg/ share.
 *
 * A segment is a file (or private memory) that grows in chunks of 2 MiB:
 *
 *   chunk 0   header | 64 members | name index | first groups | first objcgs
 *   chunk n   more groups, or more objcgs
 *
 * Each kind of record is seen as one array ("area"): the chunks of an area lie
 * side by side in the address space of a process whatever their place in the
 * file.  Only chunks that exist in the file are mapped.  Records are named by
 * index, 0 is none; they are type-stable: a stale index finds some record of
 * that kind, never other memory.  Any index read from the segment goes through
 * group_at() or objcg_at(), which check it: other processes may scribble.
 *
 * Letters: (T) changed under the tree lock, read without; (A) any thread of
 * any member; (O) threads of the owning member only.
 */
#ifndef QUIRE_MEMCG_INTERNAL_H
#define QUIRE_MEMCG_INTERNAL_H

#include "base/assert.h"
#include "memcg/member.h"

#define SEG_MAGIC 0x6572697571657274ull
#define SEG_VERSION 3
#define SEG_CHUNK (2 * MIB)
#define SEG_HEAD_BYTES (128 * KIB) /* header, members and index in chunk 0 */
#define SEG_MEMBERS_AT (4 * KIB)
#define SEG_INDEX_AT (64 * KIB)
#define SEG_INDEX_SIZE (16u << 10) /* buckets of the name index */
/* Bytes of the areas in chunk 0, which is small: each program that is started pays
 * for its pages (2 MiB cost 230 us, 256 KiB cost 17). */
#define SEG_GROUPS_FIRST (64 * KIB)
#define SEG_OBJCGS_FIRST (64 * KIB)
#define SEG_FIRST_CHUNK (SEG_HEAD_BYTES + SEG_GROUPS_FIRST + SEG_OBJCGS_FIRST)
#define SEG_AREA_CHUNKS 32 /* most chunks of an area beyond chunk 0 */
#define SEG_MAX_CHUNKS (1 + 2 * SEG_AREA_CHUNKS)

#define NR_MEMBERS MEMCG_MEMBERS_MAX
#define MEMBER_NOBODY NR_MEMBERS /* owner of what former members left behind */
#define NR_LEVELS (MEMCG_DEPTH_MAX + 1) /* root included */
#define SEQ_TRIES 4 /* a reader takes what it got after so many changes */
#define WALK_TRIES 256 /* siblings removed under one step of a walk */

enum seg_area { SEG_GROUPS, SEG_OBJCGS, SEG_NR_AREAS };

/* Growth of one area; all (T). */
struct area_head {
	struct atomic32 nr_ready; /* records whose memory exists */
	struct atomic32 nr_high; /* first never-used record */
	struct atomic32 free_head;
	struct atomic32 nr_chunks; /* beyond the part in chunk 0 */
	u32 chunk[SEG_AREA_CHUNKS]; /* their numbers in the file */
};

struct seg_header {
	/* (C) what the file is; magic is written last */
	struct atomic64 magic;
	u32 version;
	u32 header_bytes, member_bytes, group_bytes, objcg_bytes;
	u32 nr_stats, nr_events;
	u32 chunk_bytes;
	/* (A) lock.c: the process that holds the tree lock, releases, sleepers */
	struct atomic64 lock_owner;
	struct atomic32 lock_seq, lock_waiters;
	/* (T) the dirty word: odd while a change of the tree is under way.  Who
	 * takes the tree lock and finds it odd rebuilds (rebuild.c). */
	struct atomic32 seq;
	struct atomic32 nr_chunks;
	struct atomic32 flags; /* SEG_RECURSIVEPROT */
	struct atomic32 nr_members; /* member records ever used */
	struct atomic32 nr_refused; /* processes that found them all taken */
	/* (C) inodes of the namespaces of all members: what pids and start times mean */
	u64 pid_ns, time_ns;
	struct area_head area[SEG_NR_AREAS];
};
_Static_assert(sizeof(struct seg_header) <= SEG_MEMBERS_AT, "header fits its page");

#define SEG_RECURSIVEPROT 1u

/* One process; its public part survives it, for the report. */
enum member_state { MEMBER_FREE, MEMBER_ACTIVE, MEMBER_GONE };

struct member {
	struct member_info info; /* (O) */
	struct atomic32 state; /* (T) enum member_state */
	u32 spare;
	u64 boot_ns; /* (T) os_boot_ns() at attach: tells two lives of one pid apart */
	u64 spare2;
};
_Static_assert(sizeof(struct member) == 512, "64 members in 32 KiB");
_Static_assert(SEG_MEMBERS_AT + NR_MEMBERS * sizeof(struct member) <= SEG_INDEX_AT, "members fit");
_Static_assert(SEG_INDEX_AT + SEG_INDEX_SIZE * 4 <= SEG_HEAD_BYTES, "index fits");

/*
 * A group: 384 bytes.  State (T):
 *
 *   FREE --memcg_create()--> ONLINE --memcg_remove()--> OFFLINE
 *     ^                                                    |
 *     +---------------- last memcg_release() --------------+
 *
 * ONLINE: linked below an ONLINE parent and in the name index.  OFFLINE: found
 * by stale ids only; has no children, no handles, no protection; `parent` is
 * the nearest ONLINE ancestor, so that whoever climbs through it arrives.
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
	struct atomic32 dying_first; /* OFFLINE groups whose parent is this */
	struct atomic32 dying_next, dying_prev;
	struct atomic32 objcg_first;
	struct atomic32 state;
	struct atomic32 depth; /* root 0 */
	struct atomic32 nr_descendants, nr_dying;
	struct atomic32 max_descendants, max_depth; /* UINT32_MAX: no limit */
	char name[MEMCG_NAME_MAX]; /* (T) NUL-terminated */
	/* protection: written by charges of groups that have any, and below */
	struct atomic64 min_usage, low_usage; /* (A) min(usage, setting) */
	struct atomic64 children_min_usage, children_low_usage; /* (A) sums of it */
	struct atomic64 unreleased; /* (T) OFFLINE: members that may still hold the id */
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
	u32 spare[9];
	/* the truth */
	struct atomic64 memory; /* (O) pages, compressed and overhead included */
	struct atomic64 swap; /* (O) slots */
	struct atomic64 zswap_bytes; /* (O) */
	struct counter64 stat[OBJCG_NR_STATS]; /* (O) */
};
_Static_assert(sizeof(struct objcg) == 512, "objcg layout");
_Static_assert(offsetof(struct objcg, memory) == 64, "totals away from the pointer");
_Static_assert((int)MEMCG_NR_STATS <= OBJCG_NR_STATS, "room for every item");

#define NR_GROUPS_MAX                                                                              \
	((u32)((SEG_GROUPS_FIRST + SEG_AREA_CHUNKS * SEG_CHUNK) / sizeof(struct group)))
#define NR_OBJCGS_MAX                                                                              \
	((u32)((SEG_OBJCGS_FIRST + SEG_AREA_CHUNKS * SEG_CHUNK) / sizeof(struct objcg)))

/* ---- this process's view -------------------------------------------------- */

/* One mapping of a segment; several members of one process may share it. */
struct segment {
	struct mutex lock; /* rank TREE */
	struct meta *meta; /* (C) */
	char *base; /* (C) one reservation: head, then the areas */
	char *area[SEG_NR_AREAS]; /* (C) */
	struct atomic32 nr_mapped[SEG_NR_AREAS]; /* records that may be touched */
	int fd; /* (C) or -1 */
	u64 lock_word; /* (L) what the owner word is while we hold it */
	bool shared; /* (C) other processes may map it */
	bool readonly; /* (C) */
	u32 refs; /* (L) trees on it */
	u64 counted; /* (L) bytes in meta: private memory only */
};

struct memcg_tree {
	struct segment *seg;
	struct meta *meta;
	struct memcg_upcalls up;
	u32 self; /* (C) member number; MEMBER_NOBODY for a view */
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

/* Make record i of an area readable if another member has created it. */
bool segment_map_more(struct segment *s, enum seg_area a, u32 i);

static inline bool segment_has(struct segment *s, enum seg_area a, u32 i)
{
	return likely(i - 1 < atomic32_peek(&s->nr_mapped[a]) - 1) || segment_map_more(s, a, i);
}

/* The record, or NULL when i is 0 or out of bounds. */
static inline struct group *group_at(const struct memcg_tree *t, u32 i)
{
	return segment_has(t->seg, SEG_GROUPS, i) ? (struct group *)t->seg->area[SEG_GROUPS] + i :
						    NULL;
}

/* For who changes links: those of a record that was scribbled on are the root's. */
static inline struct group *group_or_root(const struct memcg_tree *t, u32 i)
{
	struct group *g = group_at(t, i);

	return g ? g : group_at(t, MEMCG_ROOT.v);
}

static inline struct objcg *objcg_at(const struct memcg_tree *t, u32 i)
{
	return segment_has(t->seg, SEG_OBJCGS, i) ? (struct objcg *)t->seg->area[SEG_OBJCGS] + i :
						    NULL;
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
	struct objcg *c = objcg_at(t, o.v);

	quire_assert(c && atomic32_peek(&c->state) == OBJCG_LIVE);
	return c;
}

/* ---- segment.c -------------------------------------------------------------- */

/* A zeroed record, or 0 when the area or the OS has no more. */
u32 segment_alloc(struct memcg_tree *t, enum seg_area a);
void segment_free(struct memcg_tree *t, enum seg_area a, u32 i);

/* ---- lock.c: the tree lock --------------------------------------------------- */

/* -EROFS.  A tree found dirty is rebuilt. */
int QUIRE_MUST_CHECK segment_lock(struct memcg_tree *t);
/* Without a look at the dirty word: the segment is just being opened. */
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
/* Put an OFFLINE record on its parent's list of dying groups. */
void memcg_link_dying(struct memcg_tree *t, u32 i);
void memcg_init_root(struct memcg_tree *t);
/* Member n has let go of an OFFLINE group; the last one makes it FREE. */
void memcg_acknowledge(struct memcg_tree *t, u32 i, u32 member);
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
/* Point every handle of group `from` to `to`; members seen, as a mask. */
u64 objcg_flip_all(struct memcg_tree *t, u32 from, u32 to);
/* This member's handles whose pages are on the lists of `from`: on those of `to` now. */
void objcg_splice(struct memcg_tree *t, u32 from, u32 to);
/* A member is gone: take its charges back, keep its event counts. */
void objcg_retire_member(struct memcg_tree *t, u32 member);

/* ---- member.c ------------------------------------------------------------------ */

int QUIRE_MUST_CHECK member_claim(struct memcg_tree *t, enum memcg_attach how);
void member_leave(struct memcg_tree *t, u32 n);
u32 member_nr_at(const struct memcg_tree *t, struct memcg_id id); /* attached there */

/* ---- rebuild.c ------------------------------------------------------------------ */

void rebuild_tree(struct memcg_tree *t);
/* memcg_recount() with the tree lock held. */
int QUIRE_MUST_CHECK rebuild_counters(struct memcg_tree *t);

#endif
