/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_test.h - what the store's tests share: a store in a directory of its
 * own, objects with a known content, waiting for a read.
 */
#ifndef QUIRE_TESTS_STORE_TEST_H
#define QUIRE_TESTS_STORE_TEST_H

#include <errno.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/os.h"
#include "lib/test.h"
#include "store/internal.h"

struct object {
	struct store_loc loc; /* v 0: none */
	u32 len;
	u32 seed;
};

static struct meta test_meta;
static struct thread test_thread;
static struct failpoints test_failpoints;
static char test_dir[64];

static u64 random_u64(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill(u8 *buf, u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		buf[i] = (u8)((seed * 2654435761u >> 24) ^ (i * 7 + seed));
}

static inline u32 random_len(u64 *state)
{
	u64 r = random_u64(state);

	switch (r % 8) {
	case 0:
		return (u32)(r / 8 % STORE_MAX_OBJECT) + 1;
	case 1:
		return STORE_MAX_OBJECT - (u32)(r / 8 % 20);
	default:
		return 300 + (u32)(r / 8 % 2900);
	}
}

static inline void make_dir(void)
{
	strcpy(test_dir, "/var/tmp/quire-store-XXXXXX");
	ASSERT_NOT_NULL(mkdtemp(test_dir));
}

/* points: failpoints of this thread and of the store's, NULL none. */
static inline struct store *open_store(struct store_config cfg, const char *points)
{
	struct store *s;

	memset(&test_meta, 0, sizeof(test_meta));
	memset(&test_thread, 0, sizeof(test_thread));
	memset(&test_failpoints, 0, sizeof(test_failpoints));
	if (points)
		ASSERT_OK(failpoints_parse(&test_failpoints, points));
	test_thread.name = "test";
	test_thread.failpoints = &test_failpoints;
	thread_attach(&test_thread);
	if (!cfg.dir) {
		make_dir();
		cfg.dir = test_dir;
	}
	ASSERT_OK(store_log_open(&cfg, &test_meta, &s));
	return s;
}

static inline void close_store(struct store *s)
{
	log_check(log_of(s));
	store_close(s);
	thread_detach();
	ASSERT_EQ(stat_read(&test_meta.bytes), 0ull);
	if (test_dir[0])
		ASSERT_EQ(rmdir(test_dir), 0); /* nothing was left there */
	test_dir[0] = 0;
}

/* ---- reading ---------------------------------------------------------------- */

struct reading {
	struct store_get get;
	struct event ev;
	struct atomic32 finished;
	int res;
	u8 buf[PAGE_SIZE];
};

static inline void reading_done(struct store_get *get, int res)
{
	struct reading *r = container_of(get, struct reading, get);

	r->res = res;
	atomic32_store(&r->finished, 1); /* pairs with the load in reading_wait() */
	event_signal(&r->ev);
}

static inline void reading_prepare(struct reading *r, struct store_loc loc, u32 len, u32 owner)
{
	memset(&r->get, 0, sizeof(r->get));
	event_init(&r->ev);
	atomic32_store(&r->finished, 0);
	r->get.loc = loc;
	r->get.len = len;
	r->get.owner = owner;
	r->get.buf = r->buf;
	r->get.done = reading_done;
}

static inline int reading_start(struct store *s, struct reading *r, struct store_loc loc, u32 len,
				u32 owner)
{
	struct store_get *get = &r->get;
	int n;

	reading_prepare(r, loc, len, owner);
	n = s->ops->get(s, &get, 1);
	return n < 0 ? n : 0;
}

static inline int reading_wait(struct reading *r)
{
	for (;;) {
		u32 seq = event_seq(&r->ev);

		if (atomic32_load(&r->finished))
			return r->res;
		(void)event_wait(&r->ev, seq, SYNC_FOREVER);
	}
}

static inline int read_object(struct store *s, struct store_loc loc, u32 len, u32 owner, u8 *buf)
{
	static struct reading r;
	int err = reading_start(s, &r, loc, len, owner);

	if (!err)
		err = reading_wait(&r);
	if (!err)
		memcpy(buf, r.buf, len);
	return err;
}

static inline bool content_ok(struct store *s, const struct object *o, u32 owner)
{
	u8 want[PAGE_SIZE], got[PAGE_SIZE];

	fill(want, o->len, o->seed);
	return read_object(s, o->loc, o->len, owner, got) == 0 && !memcmp(want, got, o->len);
}

/* ---- writing ----------------------------------------------------------------- */

static u8 put_data[STORE_MAX_BATCH][PAGE_SIZE];
static u32 put_end; /* behind the last object that was ever put */

/* Objects first..first + nr - 1 of all[], lengths set, none stored. */
static inline int put_objects(struct store *s, struct object *all, u32 first, u32 nr)
{
	struct store_put put[STORE_MAX_BATCH];
	int err;

	for (u32 i = 0; i < nr; i++) {
		struct object *o = &all[first + i];

		fill(put_data[i], o->len, o->seed);
		put[i] = (struct store_put){ .data = put_data[i],
					     .len = o->len,
					     .owner = first + i };
	}
	put_end = max_of(put_end, first + nr);
	err = s->ops->put(s, put, nr);
	for (u32 i = 0; i < nr && !err; i++)
		all[first + i].loc = put[i].ret_loc;
	return err;
}

static inline void free_object(struct store *s, struct object *o)
{
	s->ops->free(s, o->loc, o->len);
	o->loc.v = 0;
}

static inline void free_objects(struct store *s, struct object *all, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		if (all[i].loc.v)
			free_object(s, &all[i]);
}

/* ---- cleaning of all[] by its only user ------------------------------------------ */

static inline bool clean_live(void *ctx, u32 owner, struct store_loc loc)
{
	struct object *all = ctx;

	return owner < put_end && all[owner].loc.v == loc.v;
}

static inline bool clean_moved(void *ctx, u32 owner, struct store_loc from, struct store_loc to)
{
	struct object *all = ctx;

	if (all[owner].loc.v != from.v)
		return false;
	all[owner].loc = to;
	return true;
}

static inline u64 clean_objects(struct store *s, struct object *all, u64 bytes)
{
	struct store_clean_ops up = { clean_live, clean_moved, all };

	return s->ops->clean(s, bytes, &up);
}

#endif
