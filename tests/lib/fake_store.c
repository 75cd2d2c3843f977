/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_store.c - objects in an array behind struct store_ops.
 *
 * Each operation is one locked step; upcalls run without the lock.
 */
#include "fake_store.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"

static struct fake_store *fake_of(struct store *s)
{
	return (struct fake_store *)s;
}

struct fake_object *fake_store_at(struct fake_store *f, u64 loc)
{
	for (u32 i = 0; i < FAKE_STORE_OBJECTS; i++)
		if (loc && f->object[i].loc == loc)
			return &f->object[i];
	return NULL;
}

u32 fake_store_nr(struct fake_store *f)
{
	u32 nr = 0;

	for (u32 i = 0; i < FAKE_STORE_OBJECTS; i++)
		nr += f->object[i].loc != 0;
	return nr;
}

static u64 add_object(struct fake_store *f, const void *data, u32 len, u32 owner)
{
	for (u32 i = 0; i < FAKE_STORE_OBJECTS; i++) {
		struct fake_object *o = &f->object[i];

		if (o->loc)
			continue;
		o->loc = f->next_loc++;
		o->owner = owner;
		o->len = len;
		memcpy(o->data, data, len);
		return o->loc;
	}
	return 0;
}

static int fake_put(struct store *s, struct store_put *objs, u32 nr)
{
	struct fake_store *f = fake_of(s);
	int err;

	mutex_lock(&f->lock);
	err = f->put_error ? f->put_error : fake_store_nr(f) + nr > f->nr_room ? -ENOSPC : 0;
	for (u32 i = 0; i < nr && !err; i++)
		objs[i].ret_loc.v = add_object(f, objs[i].data, objs[i].len, objs[i].owner);
	mutex_unlock(&f->lock);
	return err;
}

/* How many from the front were put one after the other; now_max at most. */
static u32 nr_together(const struct fake_store *f, struct store_get *const *gets, u32 nr)
{
	u32 n = 1;

	nr = f->now_max ? min_of(nr, f->now_max) : nr;
	while (n < nr && gets[n]->loc.v == gets[0]->loc.v + n)
		n++;
	return n;
}

/* They end one by one. */
static int fake_get(struct store *s, struct store_get *const *gets, u32 nr)
{
	struct fake_store *f = fake_of(s);
	struct store_get **at = &f->pending;
	u32 n = nr_together(f, gets, nr);
	int err;

	mutex_lock(&f->lock);
	err = (int)atomic32_peek(&f->get_error);
	while (*at)
		at = &(*at)->next;
	for (u32 i = 0; i < n && !err; i++) {
		gets[i]->next = NULL;
		*at = gets[i];
		at = &gets[i]->next;
	}
	f->nr_gets++;
	mutex_unlock(&f->lock);
	if (err)
		return err;
	event_signal(&f->posted);
	return (int)n;
}

/* Its bytes if they are there; how the read ends.  Lock held. */
static int read_locked(struct fake_store *f, struct store_get *get)
{
	const struct fake_object *o = fake_store_at(f, get->loc.v);
	bool found = o && o->owner == get->owner && o->len == get->len;

	if (found)
		memcpy(get->buf, o->data, o->len);
	return f->read_error ? f->read_error : found ? 0 : -EIO;
}

bool fake_store_complete(struct fake_store *f)
{
	struct store_get *get;
	int res = 0;

	mutex_lock(&f->lock);
	get = f->pending;
	if (get) {
		f->pending = get->next;
		res = f->nr_no_memory ? -ENOMEM : read_locked(f, get);
		f->nr_no_memory -= f->nr_no_memory > 0;
	}
	mutex_unlock(&f->lock);
	if (get)
		get->done(get, res);
	return get;
}

static int fake_get_now(struct store *s, struct store_get *const *gets, u32 nr,
			struct store_now *now)
{
	struct fake_store *f = fake_of(s);
	u32 n = nr_together(f, gets, nr);

	now->device_ns = f->device_ns;
	for (u32 i = 0; i < n; i++) {
		int res;

		mutex_lock(&f->lock);
		res = read_locked(f, gets[i]);
		mutex_unlock(&f->lock);
		gets[i]->done(gets[i], res);
	}
	return (int)n;
}

static int fake_here(struct store *s, struct store_loc loc)
{
	(void)loc;
	return fake_of(s)->here_error;
}

static void fake_free(struct store *s, struct store_loc loc, u32 len)
{
	struct fake_store *f = fake_of(s);
	struct fake_object *o;

	mutex_lock(&f->lock);
	o = fake_store_at(f, loc.v);
	quire_assert(o && o->len == len);
	o->loc = 0;
	mutex_unlock(&f->lock);
}

bool fake_store_move(struct fake_store *f, const struct store_clean_ops *up)
{
	struct fake_object copy = { .loc = 0 };
	u64 to;

	mutex_lock(&f->lock);
	for (u32 i = 0; i < FAKE_STORE_OBJECTS && !copy.loc; i++)
		copy = f->object[i];
	mutex_unlock(&f->lock);
	if (!copy.loc || !up->live(up->ctx, copy.owner, (struct store_loc){ copy.loc }))
		return false;
	mutex_lock(&f->lock);
	to = add_object(f, copy.data, copy.len, copy.owner);
	mutex_unlock(&f->lock);
	if (!up->moved(up->ctx, copy.owner, (struct store_loc){ copy.loc },
		       (struct store_loc){ to }))
		copy.loc = to;
	fake_free(&f->store, (struct store_loc){ copy.loc }, copy.len);
	return true;
}

/* No file, nothing that could be sparse. */
static u64 fake_clean(struct store *s, u64 bytes, const struct store_clean_ops *up)
{
	(void)up;
	if (bytes)
		atomic32_fetch_add(&fake_of(s)->nr_cleans, 1);
	return 0;
}

static void fake_close(struct store *s)
{
	(void)s;
}

static const struct store_ops fake_ops = {
	.name = "fake",
	.put = fake_put,
	.get = fake_get,
	.get_now = fake_get_now,
	.here = fake_here,
	.free = fake_free,
	.clean = fake_clean,
	.close = fake_close,
};

void fake_store_init(struct fake_store *f)
{
	memset(f, 0, sizeof(*f));
	f->store.ops = &fake_ops;
	f->next_loc = 1;
	f->nr_room = FAKE_STORE_OBJECTS;
	mutex_init(&f->lock, "fake store", LOCK_RANK_STORE);
	event_init(&f->posted);
}
