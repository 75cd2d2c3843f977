/* SPDX-License-Identifier: Apache-2.0 */
/*
 * preload.h - what the files of libquire-preload.so share.
 *
 *   init.c         the constructor: settings, the passive engine, this process's group
 *   mmap.c         mmap, munmap, mremap, mprotect, madvise, mlock and relatives
 *   malloc.c       malloc's family on jemalloc, and jemalloc's own API
 *   fork.c         atfork handlers, first of all
 *   clone.c        children made past fork(): exact, or with a message
 *   privilege.c    setuid, chroot, seccomp: start the engine while it still can
 *   host.c         what src/api needs of its host
 *
 * Nothing here may allocate, use stdio or take a libc lock: it runs inside
 * malloc and mmap of somebody else's program.
 */
#ifndef QUIRE_PRELOAD_PRELOAD_H
#define QUIRE_PRELOAD_PRELOAD_H

#include "engine/engine.h"

#define EXPORT __attribute__((visibility("default")))

/* Set by the constructor, constant afterwards. */
struct preload {
	struct engine *e; /* NULL: not under quire run */
	bool manage_malloc; /* --malloc=jemalloc */
	bool manage_mmap; /* --mmap=on */
	bool ready; /* everything above is final */
};

extern struct preload preload;

/* malloc.c: jemalloc's locks around fork. */
void malloc_fork_prepare(void);
void malloc_fork_parent(void);
void malloc_fork_child(void);
/* malloc.c: there is none in this process: an arena that asks it for memory ends as
 * one that touches what it had. */
void malloc_forget_engine(void);
/* malloc.c: the arenas that take their memory from the home group. */
void malloc_start(void);
/* privilege.c: a call is to come after which the engine cannot start. */
void privilege_before_loss(void);
/* fork.c: first act of the constructor. */
void fork_install(void);
/* fork.c: what must be in memory before the gates close. */
void fork_touch_install(struct engine *e);
/* fork.c: around whatever makes a copy of this process; child_stack: see
 * engine_fork_prepare().  fork_can(): else errno says why not. */
bool fork_can(void);
void fork_prepare(u64 child_stack);
void fork_parent(void);
void fork_child(void);
/* fork.c: after fork_parent(): there is no child.  Keeps errno. */
void fork_has_failed(void);
/* clone.c: with fork_install(). */
void clone_install(void);
/* clone.c: does this system call make a child with memory of its own? */
bool clone_makes_copy(long nr, const long *a);
/* clone.c: in such a child: a touch of managed memory shall say why it ends. */
void clone_without_memory(void);

#endif
