/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.h - what the files of api/ share: handles, error text, callbacks.
 *
 * api/ is the thin skin between <quire/...> and engine/: it checks arguments,
 * turns handles into ids and says why something failed.  It holds no lock that
 * an engine thread could wait for.  Its own books (struct quire, handles) are
 * unmanaged memory and are changed by atomics only, so that a fork or a signal
 * in the middle of a call leaves nothing locked.
 *
 * The mutable static objects of src/ are in why.c, open.c and signal.c: the texts
 * of quire_why(), the list of open trees for pthread_atfork(3) and the engines in
 * signal mode for the handler have no handle to hang off.
 */
#ifndef QUIRE_API_API_H
#define QUIRE_API_API_H

#include <quire/quire.h>

#include "base/sync.h"
#include "engine/engine.h"

#define GROUP_CHUNK_SHIFT 10
#define GROUP_CHUNK ((u32)1 << GROUP_CHUNK_SHIFT)
#define GROUP_CHUNKS 1024 /* 1 M groups */

/* A callback of the program; see callback_set() in event.c. */
struct group_callback {
	struct atomic64 fn;
	struct atomic64 arg;
	struct atomic32 runner; /* tid while it runs; futex */
};

enum group_state { GROUP_GONE, GROUP_ALIVE };

/* Handle of the group with this id; type-stable, one per id and tree. */
struct quire_group {
	struct quire *q; /* (C) */
	struct memcg_id id; /* (C) */
	struct atomic32 state; /* enum group_state */
	struct atomic32 nr_heaps;
	struct atomic32 has_shrinker; /* engine_set_shrinker() was called */
	struct group_callback shrinker;
	struct group_callback oom;
};

#define GROUP_CHUNK_BYTES align_up(GROUP_CHUNK * sizeof(struct quire_group), PAGE_SIZE)

enum callback_thread { CALLBACKS_NONE, CALLBACKS_STARTING, CALLBACKS_RUN, CALLBACKS_ENDED };

struct quire {
	struct engine *e; /* (C) */
	struct memcg_tree *tree; /* (C) of e */
	struct atomic32 *purge; /* (C) of e: heaps shall give back what they can */
	struct memcg_id root; /* (C) */
	bool host; /* (C) the preload's engine: not ours to fork or destroy */
	struct atomic32 callback_thread; /* enum callback_thread; futex of quire_close() */
	struct atomic64 heaps; /* struct quire_heap[HEAPS_MAX], heap.c */
	struct quire *next; /* list of open trees, open.c */
	struct atomic64 groups[GROUP_CHUNKS]; /* struct quire_group[GROUP_CHUNK] */
};

/* ---- why.c ------------------------------------------------------------------ */

/* Remember the sentence for quire_why() and return err. */
int why(int err, const char *format, ...) QUIRE_PRINTF_LIKE(2, 3);
/* The engine's own sentence, or the error's name with what was tried. */
int why_engine(struct quire *q, int err, const char *what);

/* ---- signal.c ---------------------------------------------------------------- */

/* Faults of e are served by the threads that have them, from here on.  -EINVAL: SIGBUS is
 * blocked in this thread; -ENOSPC: too many trees. */
int QUIRE_MUST_CHECK signal_add(struct engine *e);
/* Before e is destroyed; does nothing for one that is not in signal mode. */
void signal_del(struct engine *e);
/* In a forked child: handlers of other threads do not run here. */
void signal_fork_child(void);

/* ---- group.c ---------------------------------------------------------------- */

/* NULL: no memory for it, or not an id of this tree. */
struct quire_group *group_handle(struct quire *q, struct memcg_id id);
/* 0 or -ENODEV with its sentence. */
int QUIRE_MUST_CHECK group_check(struct quire_group *g);

/* ---- event.c ---------------------------------------------------------------- */

/* Make the callback thread unless it is there: 0, -EAGAIN, -ENOSYS. */
int QUIRE_MUST_CHECK event_start_thread(struct quire *q);
/* quire_close(): the thread, if there is one, has seen the last of q. */
void event_stop_thread(struct quire *q);
/* In a forked child: the thread is not there; make it again. */
void event_fork_child(struct quire *q);
/* Before a group is removed: no callback of it runs or comes. */
void event_forget_group(struct quire_group *g);

/* ---- heap.c ----------------------------------------------------------------- */

/* Give back memory that the heaps of g hold but do not use; bytes, about.
 * g NULL: of every group. */
size_t heaps_purge(struct quire *q, struct quire_group *g);
/* The heaps of a group that goes become another's / end, their memory being gone. */
void heaps_move(struct quire_group *from, struct quire_group *to);
void heaps_discard(struct quire_group *g);
/* quire_close(): every heap that is left. */
void heaps_destroy(struct quire *q);
/* The allocator's locks around a fork. */
void heaps_fork_prepare(void);
void heaps_fork_parent(void);
void heaps_fork_child(void);
/* In a forked child: no other thread is in the middle of anything. */
void heaps_forget_threads(struct quire *q);

#endif
