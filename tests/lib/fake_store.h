/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_store.h - a store in memory: for the rig of unit and race tests.
 *
 * Holds a few objects; can be made full or broken; reads wait until somebody
 * completes them.  Stricter than the real one: a read of an object that was
 * freed or moved before its completion fails, and freeing what is not there
 * aborts.
 */
#ifndef QUIRE_TESTS_FAKE_STORE_H
#define QUIRE_TESTS_FAKE_STORE_H

#include "store/store.h"

#define FAKE_STORE_OBJECTS 64u

struct fake_object {
	u64 loc; /* 0: free; never used twice */
	u32 owner;
	u32 len;
	u8 data[PAGE_SIZE];
};

struct fake_store {
	struct store store; /* first: the ops cast back */
	struct mutex lock;
	struct event posted; /* a read was begun */
	struct store_get *pending; /* (lock) oldest first */
	u64 next_loc; /* (lock) */
	int put_error; /* what put() says instead of working; 0: it works */
	u64 device_ns; /* what get_now() says of itself */
	u32 now_max; /* objects that lie together at most; 0: all */
	u32 nr_gets; /* (lock) calls of get() */
	int here_error; /* what here() says; 0: it works */
	struct atomic32 get_error; /* the same for get(), also set while others run */
	u32 nr_no_memory; /* (lock) so many reads of get() end so */
	int read_error; /* how reads end */
	struct atomic32 nr_cleans; /* in vain, all of them */
	u32 nr_room; /* objects that fit before -ENOSPC */
	struct fake_object object[FAKE_STORE_OBJECTS];
};

void fake_store_init(struct fake_store *f);
u32 fake_store_nr(struct fake_store *f);
/* The object at loc, NULL: none. */
struct fake_object *fake_store_at(struct fake_store *f, u64 loc);
/* End the oldest read; false: none is pending. */
bool fake_store_complete(struct fake_store *f);
/* The cleaner: move the first object that is live elsewhere; false: there is none. */
bool fake_store_move(struct fake_store *f, const struct store_clean_ops *up);

#endif
