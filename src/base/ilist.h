/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ilist.h - doubly linked lists by index, 8 bytes a node.
 *
 * Nodes live in an xtable at a fixed offset; 0 ends the list.  No locking:
 * the owner of the list head says which lock.  The head counts its members.
 */
#ifndef QUIRE_BASE_ILIST_H
#define QUIRE_BASE_ILIST_H

#include "base/slab.h"

struct ilist_node {
	u32 prev;
	u32 next;
};

struct ilist {
	u32 head;
	u32 tail;
	u32 nr;
};

/* Which node: table, and the byte offset of its ilist_node. */
struct ilist_in {
	const struct xtable *table;
	u32 offset;
};

static inline struct ilist_node *ilist_node(struct ilist_in in, u32 i)
{
	return (struct ilist_node *)((char *)xtable_at(in.table, i) + in.offset);
}

static inline void ilist_set_nr(struct ilist *l, u32 nr)
{
	__atomic_store_n(&l->nr, nr, __ATOMIC_RELAXED);
}

static inline void ilist_init(struct ilist *l)
{
	l->head = l->tail = 0;
	ilist_set_nr(l, 0);
}

/* Without the list's lock: what it was a moment ago. */
static inline u32 ilist_peek_nr(const struct ilist *l)
{
	return __atomic_load_n(&l->nr, __ATOMIC_RELAXED);
}

static inline bool ilist_empty(const struct ilist *l)
{
	return l->nr == 0;
}

static inline void ilist_add_head(struct ilist *l, struct ilist_in in, u32 i)
{
	struct ilist_node *n = ilist_node(in, i);

	n->prev = 0;
	n->next = l->head;
	if (l->head)
		ilist_node(in, l->head)->prev = i;
	else
		l->tail = i;
	l->head = i;
	ilist_set_nr(l, l->nr + 1);
}

static inline void ilist_add_tail(struct ilist *l, struct ilist_in in, u32 i)
{
	struct ilist_node *n = ilist_node(in, i);

	n->next = 0;
	n->prev = l->tail;
	if (l->tail)
		ilist_node(in, l->tail)->next = i;
	else
		l->head = i;
	l->tail = i;
	ilist_set_nr(l, l->nr + 1);
}

static inline void ilist_del(struct ilist *l, struct ilist_in in, u32 i)
{
	struct ilist_node *n = ilist_node(in, i);

	if (n->prev)
		ilist_node(in, n->prev)->next = n->next;
	else
		l->head = n->next;
	if (n->next)
		ilist_node(in, n->next)->prev = n->prev;
	else
		l->tail = n->prev;
	n->prev = n->next = 0;
	ilist_set_nr(l, l->nr - 1);
}

/* All of `from` goes behind the tail of `to`; `from` is empty afterwards. */
static inline void ilist_splice_tail(struct ilist *to, struct ilist *from, struct ilist_in in)
{
	if (!from->nr)
		return;
	if (to->tail) {
		ilist_node(in, to->tail)->next = from->head;
		ilist_node(in, from->head)->prev = to->tail;
	} else {
		to->head = from->head;
	}
	to->tail = from->tail;
	ilist_set_nr(to, to->nr + from->nr);
	ilist_init(from);
}

#endif
