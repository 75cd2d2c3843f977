/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.h - groups: make, find, walk, remove.
 *
 * A group is a node of the tree, named by a path of names ("web/api").  What it
 * uses counts for itself and for every group above it; a limit anywhere on the
 * way up holds.  Limits and figures are its files (stat.h).
 *
 * A handle (struct quire_group *) is a name, not a reference: it needs no
 * closing, the same group always has the same handle, and it is good until the
 * group is removed or its tree closed.  Calls with the handle of a removed
 * group return -ENODEV (or 0 bytes, for figures) until the tree makes a new
 * group in its place.
 *
 * Sources: cgroup-v2: "Organizing Processes and Threads"; names as there,
 * restricted to [A-Za-z0-9._@-].
 */
#ifndef QUIRE_GROUP_H
#define QUIRE_GROUP_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Longest name, with its terminating zero. */
#define QUIRE_NAME_MAX 64
/* Longest path, with its terminating zero. */
#define QUIRE_PATH_MAX 1024

/* quire_root - the tree's first group.  Never fails.  Signal safe. */
struct quire_group *quire_root(struct quire *q);

/*
 * quire_group_create - make group `name` below `parent`, without limits.
 *
 * name: 1 to 63 characters of A-Z a-z 0-9 . _ @ -, and not "." or "..".
 * 0, or -EINVAL (the name), -EEXIST, -E2BIG (16 levels deep already), -ENOSPC
 * (the tree is full), -ENODEV (parent was removed), -ENOMEM, -ETIMEDOUT (a process
 * that shares the tree is stopped in the middle of a change of it).
 */
int QUIRE_MUST_CHECK quire_group_create(struct quire_group *parent, const char *name,
					struct quire_group **ret_group);

/*
 * quire_group_open - find a group by its path below the root of q.
 *
 * path: "web/api", "/web/api" and "web//api/" are the same; "" and "/" are the
 * root.  0, -EINVAL (not a path), -ENAMETOOLONG, -ENOENT.
 */
int QUIRE_MUST_CHECK quire_group_open(struct quire *q, const char *path,
				      struct quire_group **ret_group);

/*
 * quire_group_make - as quire_group_open(), creating what is missing.
 *
 * Errors of both.  After an error the groups made on the way stay.
 */
int QUIRE_MUST_CHECK quire_group_make(struct quire *q, const char *path,
				      struct quire_group **ret_group);

/*
 * quire_group_remove - take an empty group out of the tree.
 *
 * As quire_group_remove_with(group, 0).
 */
int QUIRE_MUST_CHECK quire_group_remove(struct quire_group *group);

enum quire_remove_flags {
	/*
	 * Regions and heaps of the group become its parent's, with all they hold:
	 * resident pages, compressed and stored ones.  Nothing is copied, nothing is
	 * looked at; other threads may use the memory meanwhile.  The parent's limits
	 * are not asked: the memory counted for them before.
	 */
	QUIRE_REMOVE_REPARENT = 1,
	/*
	 * Regions and heaps of the group end: their addresses must not be used any
	 * more, handles of the heaps neither.  Returns after work that depends on the
	 * number of regions and heaps, not on their size; what they held is charged to
	 * the parent until it is given back, which an engine thread does afterwards.
	 */
	QUIRE_REMOVE_DISCARD = 2
};

/*
 * quire_group_remove_with - take a group out of the tree.
 *
 * Its handle ends, callbacks set for it are forgotten.  All that is charged to it
 * is its parent's from now on; the figures of the groups above do not change.
 * flags: 0, the group must have no regions and no heaps; or one of enum
 * quire_remove_flags.
 * 0, or -EBUSY: it has groups or processes, and for flags 0 regions or heaps;
 * -EPERM: the root; -EINVAL: flags; -ENODEV; -ETIMEDOUT: as quire_group_create().
 * After an error the group is as it was,
 * but for its callbacks if it had regions.
 * Waits for no memory and no device.  Any thread, while others use the group's
 * memory (for DISCARD: other than that); not in a signal handler.  A fork(2) at the
 * same time comes before it or after it.
 */
int QUIRE_MUST_CHECK quire_group_remove_with(struct quire_group *group, unsigned int flags);

/*
 * quire_group_next - walk a subtree, parents before their children.
 *
 * prev: NULL to begin, then what the last call returned.  NULL: the end.
 * Groups made or removed meanwhile may be missed; prev must not have been
 * removed.  `top` itself comes first.
 */
struct quire_group *quire_group_next(struct quire_group *top, struct quire_group *prev);

/* quire_group_parent - the group above; NULL for the root or a removed group. */
struct quire_group *quire_group_parent(struct quire_group *group);

/*
 * quire_group_path - the path below the root of its tree, "/" for the root.
 *
 * Writes at most size bytes, terminating zero included (nothing for size 0).
 * Returns the length of the whole path without it, as snprintf(3) does;
 * 0 for a removed group.
 */
size_t quire_group_path(struct quire_group *group, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif
