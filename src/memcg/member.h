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
	char last_words[128]; /* reason of a fatal end */
};
/* This member's own record (write) and any record (read); NULL past the end.
 * pid, home (the root) and start_ns are set at attach. */
struct member_info *member_self(struct memcg_tree *t);
const struct member_info *member_info(const struct memcg_tree *t, u32 n);
/* Close the records of members whose processes are gone; true: there were some.  Some
 * system calls for each member.  Counters are exact if nobody is left. */
bool member_reap(struct memcg_tree *t);
bool member_alive(const struct memcg_tree *t, u32 n);
u32 member_nr_refused(const struct memcg_tree *t); /* processes that found no room */
/* Set member_self()->home, which keeps that group from being removed.  -ENOENT. */
int QUIRE_MUST_CHECK member_set_home(struct memcg_tree *t, struct memcg_id id);

#endif
