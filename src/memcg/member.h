/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member.h - the processes attached to a tree.
 *
 * The tree of a program that is run has many members, that of a library one.
 */
#ifndef QUIRE_MEMCG_MEMBER_H
#define QUIRE_MEMCG_MEMBER_H

#include "memcg/memcg.h"

/* One process attached to the tree, for the report: survives its death. */
struct member_info {
	s32 pid;
	u32 home; /* memcg id */
	char comm[16];
	u64 start_ns, end_ns; /* engine time; end 0 while it runs */
	u64 peak_anon; /* bytes, the OS's figure */
	u64 nr_faults;
	u64 fault_ns[4]; /* p50 p99 p999 max of hard faults */
	char pager[16];
	char store_dir[248];
	u64 store_max; /* bytes the store may take; 0: none was opened */
	char last_words[88]; /* reason of a fatal end */
};
/* This member's own record (write) and any record (read); NULL past the end.
 * pid, home (the root) and start_ns are set at attach. */
struct member_info *member_self(struct memcg_tree *t);
const struct member_info *member_info(const struct memcg_tree *t, u32 n);
/* Close the records of members whose processes are gone; true: there were some.  Some
 * system calls for each member.  Counters are exact afterwards, or when those who charge
 * while it looks let it, at the next call. */
bool member_reap(struct memcg_tree *t);
/* Has every process of the tree ended?  Takes no lock; false where that cannot be told. */
bool member_all_ended(const struct memcg_tree *t);
/* The same, unless some member has in the last period_ns: all that page look, and what
 * they ask for is under the tree lock. */
bool member_reap_since(struct memcg_tree *t, u64 period_ns);
/* Why process pid is ended, for the report. */
void member_last_words(struct memcg_tree *t, int pid, const char *format, const char *arg);
/* End it, if it is still that process.  False: we may not. */
bool member_kill(struct memcg_tree *t, int pid);
/* A process that is stopped in the middle of a change of the tree, or 0. */
int member_in_the_way(const struct memcg_tree *t);
bool member_alive(const struct memcg_tree *t, u32 n);
u32 member_nr_refused(const struct memcg_tree *t); /* processes that found no room */
u32 member_nr_forgotten(const struct memcg_tree *t); /* gone, and not in the report */
/* Set member_self()->home, which keeps that group from being removed.  -ENOENT. */
int QUIRE_MUST_CHECK member_set_home(struct memcg_tree *t, struct memcg_id id);
/*
 * Quiet: this member pages nothing and has handles of the root and its home only, so it
 * need not release what is removed elsewhere.  It stops being quiet with a handle of
 * another group.
 */
int QUIRE_MUST_CHECK member_set_quiet(struct memcg_tree *t, bool quiet);

/* ---- fork ------------------------------------------------------------------------ */

/*
 * fork(2).
 * room: is there likely a record for a child?
 * wait: first, as long as a process that is stopped would make prepare wait.
 * prepare: behind closed gates, a record for the child of thread tid; -EUSERS, -ENOSPC,
 * -ENOMEM.
 * again: something was charged since, for the thread that forks.
 * parent: after it, in any case.  failed: thread tid has no child.
 * child: its first act; it is a member that holds what its parent held; without one,
 * -EUSERS.
 * settle: what it holds is charged, by force, but what is not in pages, of which `home`
 * has the count (memcg_set_shared()); nothing may be charged or given back before.
 */
bool memcg_tree_fork_room(const struct memcg_tree *t);
void memcg_tree_fork_wait(const struct memcg_tree *t);
int QUIRE_MUST_CHECK memcg_tree_fork_prepare(struct memcg_tree *t, u32 tid);
void memcg_tree_fork_again(struct memcg_tree *t);
void memcg_tree_fork_parent(struct memcg_tree *t);
void memcg_tree_fork_failed(struct memcg_tree *t, u32 tid);
int QUIRE_MUST_CHECK memcg_tree_fork_child(struct memcg_tree *t);
void memcg_tree_fork_settle(struct memcg_tree *t, struct objcg_id home);

/* ---- members of one group together ------------------------------------------- */

/* Rung by others: memory is short in a group where this member may have some. */
struct event *member_doorbell(struct memcg_tree *t);
/*
 * Pages in memory that can be taken from id and below: this member's, and all members'.
 * The same in a tree of one process.  And how many were taken since each of them began.
 */
struct member_share {
	u64 mine, all;
	u64 stolen_mine, stolen_all;
};
struct member_share member_share(const struct memcg_tree *t, struct memcg_id id);
/* Ring the others that have memory there. */
void member_ring_others(struct memcg_tree *t, struct memcg_id id);
/* The process that has most memory, in and out, of id and below, of those that are not
 * being ended (member_last_words()); NULL: none has any. */
const struct member_info *member_largest(const struct memcg_tree *t, struct memcg_id id);
/*
 * A member that does not page tells how many bytes it could fill before anybody looks; 0
 * when it pages.  The sum of what the others of id and below have told, with what a
 * process has besides.
 */
void member_set_passive(struct memcg_tree *t, u64 bytes);
u64 member_others_passive(const struct memcg_tree *t, struct memcg_id id);
/*
 * Charge those others, each on its home, for what they have in memory by the system's
 * figures: any member that pages may, one does, a few times a second.  System calls for
 * each of them.
 */
void member_count_passive(struct memcg_tree *t);
/* One member at a time may choose whom to end.  False: another does.  Until end, or until
 * it is taken for dead itself. */
bool member_oom_begin(struct memcg_tree *t);
void member_oom_end(struct memcg_tree *t);
/* Is a member at home in id or below being ended? */
bool member_is_ending(const struct memcg_tree *t, struct memcg_id id);
/* Of this member's own handles. */
u64 member_stat(const struct memcg_tree *t, enum memcg_stat item);

#endif
