/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h - a tree from outside: `quire run`, `quire rm`.
 *
 * The tree of a run lies in a file (a memfd, or one below
 * $XDG_RUNTIME_DIR/quire).  A view maps it read only, unless opened to remove
 * groups.  Nothing in it is trusted: every index is checked, so a process that
 * scribbles over its tree can make the figures wrong but nothing else.  The
 * tree outlives its processes: what a killed one has used can still be read.
 *
 * A view is no process of its tree: it is not listed, and charges nothing.
 * A child made by fork(2) opens a view of its own.
 */
#ifndef QUIRE_VIEW_H
#define QUIRE_VIEW_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quire_view;

/*
 * quire_view_open - look at the tree in descriptor fd, which stays the caller's.
 *
 * 0, -EBADMSG (not a tree, or of another version; also: nobody has made one in
 * it yet), -ENOMEM, or the error of mmap(2).
 */
int QUIRE_MUST_CHECK quire_view_open(int fd, struct quire_view **ret_view);
void quire_view_close(struct quire_view *view);

/*
 * quire_view_open_write - as quire_view_open(), for quire_view_write(),
 * quire_view_reap() and quire_view_remove() as well.
 *
 * fd is open for reading and writing, and stays open as long as the view.
 * Also -EACCES (fd is read only), -EXDEV (the tree is of another pid namespace:
 * the numbers of its processes mean nothing here).  Nothing is made in an empty
 * file.
 * It, those two and quire_view_close() of such a view wait while a process of the
 * tree changes it, some microseconds; if that process is stopped right there
 * (SIGSTOP), until it continues or dies.
 */
int QUIRE_MUST_CHECK quire_view_open_write(int fd, struct quire_view **ret_view);

/*
 * quire_view_create - as quire_view_open_write(), and makes a tree in an empty file.
 *
 * Also -ENOSPC: no memory for it there.  fd may be closed afterwards.
 */
int QUIRE_MUST_CHECK quire_view_create(int fd, struct quire_view **ret_view);

/*
 * quire_view_write - as quire_write(), of the group with this path, which is made if it
 * is missing, with those above it; only that if file and text are NULL.
 *
 * A limit below what the group has takes effect when its processes notice, within a tenth
 * of a second.  Errors as quire_write() and quire_group_create(); -EROFS (not opened for
 * writing), -EINVAL (NULL).
 */
int QUIRE_MUST_CHECK quire_view_write(struct quire_view *view, const char *path, const char *file,
				      const char *text);

/*
 * quire_view_read - as quire_read(), of the group with this path.
 *
 * Also -ENOENT: no such group.
 */
int QUIRE_MUST_CHECK quire_view_read(struct quire_view *view, const char *path, const char *file,
				     char *buf, size_t size, size_t *ret_len);

/*
 * quire_view_next - walk all groups, parents first.
 *
 * path: "" to begin with, then what the last call left there; receives the next
 * path ("/" for the root).  0, -ENOENT at the end or when the group of `path`
 * is gone, -ENAMETOOLONG.
 */
int QUIRE_MUST_CHECK quire_view_next(struct quire_view *view, char *path, size_t size);

/* One process that is or was attached to the tree. */
struct quire_member {
	size_t size; /* sizeof(struct quire_member) */
	int pid;
	char comm[16]; /* name of its program */
	char group[256]; /* path of its own group; "" if that was removed */
	/* CLOCK_MONOTONIC; end 0: still there, or gone and not noticed yet (quire_view_reap()) */
	uint64_t start_ns, end_ns;
	uint64_t peak_anon; /* most anonymous memory, by the system's figures */
	uint64_t nr_faults; /* that had to read or decompress */
	uint64_t fault_ns[4]; /* of those: median, 99 %, 99.9 %, longest */
	char pager[16]; /* "": paging never had to start */
	char store_dir[256]; /* "": no swap file was needed */
	uint64_t store_max; /* bytes that file may take; 0: there was none */
	char last_words[128]; /* why it was ended, if quire did it */
};

/*
 * quire_view_member - the n-th process; -ENOENT past the end, -EINVAL (size).
 */
int QUIRE_MUST_CHECK quire_view_member(struct quire_view *view, unsigned int n,
				       struct quire_member *ret_member);

/*
 * quire_view_reap - notice which processes of the tree have died.
 *
 * What they had charged is given back, in their groups and all above; counts that
 * only grow stay.  Their end_ns is set: members whose end_ns is 0 afterwards
 * live.  A process that was not waited for (a zombie) is dead.
 * 0, -EROFS (not opened by quire_view_open_write()), -EINVAL (NULL).  Some system
 * calls for each process; those that live are not disturbed.
 */
int QUIRE_MUST_CHECK quire_view_reap(struct quire_view *view);

/*
 * quire_view_ended - has every process of the tree ended?
 *
 * 1; 0 also for a tree of another pid namespace, where that cannot be told; -EINVAL (NULL).
 * Waits for nobody.  A process between two programs (execve(2)) has not ended.
 */
int QUIRE_MUST_CHECK quire_view_ended(struct quire_view *view);

/*
 * quire_view_remove - take the group with this path out of the tree.
 *
 * As rmdir(2) in cgroup-v2: "Organizing Processes and Threads": the group has
 * no groups below it and no process in it.  What is still counted in it
 * (figures, charges) is its parent's from then on; the totals above do not change.
 * Groups that a process made below its own are the process's (group.h), and are
 * not removed while it lives.
 * 0, -ENOENT (no such group), -EPERM (the root), -EBUSY (groups below it; or a
 * process that lives, or whose death was not noticed yet: quire_view_reap()),
 * -EROFS (not opened by quire_view_open_write()), -EINVAL (NULL).
 * Work by the number of processes, not by what the group holds; waits for no
 * memory.  If the caller is killed in the middle, the next who changes the tree
 * completes it.
 */
int QUIRE_MUST_CHECK quire_view_remove(struct quire_view *view, const char *path);

#ifdef __cplusplus
}
#endif

#endif
