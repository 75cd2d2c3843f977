/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle.c - the numbers by which this process names its charge handles.
 *
 * Owns: struct objcg_id, which pages, slots and regions hold: an index into a table
 * of this process that leads to the record in the segment.
 * Does not own: the records (objcg.c).
 * Entry points: handle_alloc(), handle_free(); objcg_of() looks up.
 * Invariants: a number in use leads to a record of this member.
 * Lock ranks: TREE for changes; looking up takes none.
 *
 * The table is what makes fork(2) cheap: the child has records of its own, and its
 * pages and slots, of which there may be millions, name them without being touched.
 */
#include "memcg/internal.h"

u32 handle_alloc(struct memcg_tree *t, u32 record)
{
	u32 o = t->free_handle;

	mutex_assert_held(&t->seg->lock);
	if (o) {
		t->free_handle = atomic32_peek(&t->handle[o]);
	} else {
		/* There are as many numbers as records. */
		quire_assert(t->nr_handles < NR_OBJCGS_MAX);
		o = t->nr_handles++;
		stat_add(&t->meta->bytes, sizeof(struct atomic32));
	}
	atomic32_store(&t->handle[o], record);
	return o;
}

void handle_free(struct memcg_tree *t, u32 o)
{
	mutex_assert_held(&t->seg->lock);
	quire_assert(o && o < t->nr_handles);
	atomic32_store(&t->handle[o], t->free_handle);
	t->free_handle = o;
}

const struct objcg *handle_in_use(const struct memcg_tree *t, u32 o)
{
	const struct objcg *c = objcg_at(t, atomic32_peek(&t->handle[o]));

	/* Of a free number the word is the next free one. */
	return c && atomic32_peek(&c->state) == OBJCG_LIVE &&
			       atomic32_peek(&c->member) == t->self && c->local == o ?
		       c :
		       NULL;
}
