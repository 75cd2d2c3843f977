/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.h - being told: events by eventfd, and callbacks.
 *
 * Events are counted in the files memory.events and memory.swap.events; here a
 * program learns of them without polling.
 *
 * Callbacks are application code, so they run on an ordinary thread that the
 * library makes with pthread_create(3) when the first callback is set, all
 * signals blocked, one callback at a time.  They may allocate, take locks and
 * touch managed memory, and may call every function of this library except
 * quire_close().  Reclaim waits 50 ms for a shrinker and one second for the last
 * word on running out of memory, then goes on without.  After fork(2) the child
 * has a thread of its own.  Programs that never set a callback never get one.
 *
 * There are 64 watches and 64 callbacks in a tree.
 */
#ifndef QUIRE_EVENT_H
#define QUIRE_EVENT_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For masks; names as in memory.events and memory.swap.events. */
enum quire_event {
	QUIRE_EVENT_LOW = 1 << 0, /* reclaimed although below memory.low */
	QUIRE_EVENT_HIGH = 1 << 1, /* over memory.high */
	QUIRE_EVENT_MAX = 1 << 2, /* was about to exceed memory.max */
	QUIRE_EVENT_OOM = 1 << 3, /* nothing more could be paged out */
	QUIRE_EVENT_OOM_KILL = 1 << 4,
	QUIRE_EVENT_OOM_GROUP_KILL = 1 << 5,
	QUIRE_EVENT_SWAP_HIGH = 1 << 6,
	QUIRE_EVENT_SWAP_MAX = 1 << 7, /* over memory.swap.max */
	QUIRE_EVENT_SWAP_FAIL = 1 << 8 /* no slot: limit or full device */
};

/*
 * quire_watch - add 1 to an eventfd(2) whenever an event of mask is counted on
 * the group or below it.
 *
 * The library keeps a duplicate of the descriptor, which need not stay open.
 * Events of one group that follow each other closely may be reported as one.
 * *ret_watch names it for quire_unwatch().
 * 0, or -EINVAL (mask), -EBADF (no eventfd), -ENOSPC (too many), -ENODEV, and
 * what quire_start() can return.
 */
int QUIRE_MUST_CHECK quire_watch(struct quire_group *group, unsigned int mask, int eventfd,
				 unsigned int *ret_watch);
/* -ENOENT: no such watch.  Watches end by themselves with their group. */
int QUIRE_MUST_CHECK quire_unwatch(struct quire *q, unsigned int watch);

/*
 * A shrinker: free about `bytes_wanted` of the group's memory (a cache),
 * return how many bytes were freed, 0 when there is nothing left.
 */
typedef size_t (*quire_shrinker_fn)(void *arg, struct quire_group *group, size_t bytes_wanted);

/*
 * quire_set_shrinker - ask fn before anything of the group is paged out.
 *
 * Replaces the group's shrinker; NULL: none.  Also asked for reclaim that a
 * group above started.  When this returns, the old one is not running and will
 * not be called again (unless called from a callback): may wait for it.
 * 0, -ENODEV, -ENOSPC (too many), -EAGAIN (no thread could be made), -ENOSYS
 * (no threads in this program).  See cgroup-v2 for the order of reclaim; shrinkers have no kernel
 * file.
 */
int QUIRE_MUST_CHECK quire_set_shrinker(struct quire_group *group, quire_shrinker_fn fn, void *arg);

/*
 * The out-of-memory callback: nothing more of the group can be paged out (swap
 * is full or forbidden, the rest is pinned) and a page is needed.  Non-zero:
 * memory was freed or a limit raised, try again.  0: give up; the access that
 * needs the page then gets SIGBUS, the rest of the program goes on.
 */
typedef int (*quire_oom_fn)(void *arg, struct quire_group *group);

/*
 * quire_set_oom - ask fn before giving up.  As quire_set_shrinker().
 *
 * Counted as `oom` in memory.events either way.
 */
int QUIRE_MUST_CHECK quire_set_oom(struct quire_group *group, quire_oom_fn fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
