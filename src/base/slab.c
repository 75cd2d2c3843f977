/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.c - quire's internal memory: tables by index, objects by pointer, arrays.
 *
 * Owns the memory and its count in struct meta.  Does not own what is in the
 * objects nor when they may be reused: an owner whose objects are looked at
 * without lock frees them only when stale looks are harmless.
 *
 * Entry points: xtable_alloc(), xtable_reserve(), slab_alloc(), meta_alloc().
 *
 * Invariants:
 *  - an index that was handed out once always points to readable memory of its
 *    table; freeing changes only the first 4 bytes, allocating zeroes it;
 *  - a byte is counted in struct meta from the moment it may become resident: its
 *    page of an xtable when the first element on it is handed out;
 *  - with XTABLE_ATOMIC there is no system call.
 * Lock rank: LOCK_RANK_SLAB for each table and slab; nothing is called below it
 * but os_.
 */
#include "base/slab.h"

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* A table commits memory in such steps: few mprotect calls, little waste. */
#define XTABLE_STEP_BYTES (256 * KIB)
/* A slab takes memory from the OS in such pieces. */
#define SLAB_CHUNK_BYTES (64 * KIB)
#define SLAB_ALIGN 16

static void count_bytes(struct meta *meta, size_t bytes)
{
	if (meta)
		stat_add(&meta->bytes, bytes);
}

static void uncount_bytes(struct meta *meta, size_t bytes)
{
	if (meta)
		stat_sub(&meta->bytes, bytes);
}

/* ---- xtable ------------------------------------------------------------------ */

/* Index 0 has a place too, it is only never handed out. */
static size_t reserved_bytes(const struct xtable *t)
{
	return align_up(((size_t)t->nr_max + 1) * t->elem_size, XTABLE_STEP_BYTES);
}

/* Bytes that hold the first nr elements, in whole steps. */
static size_t committed_bytes(const struct xtable *t, u32 nr)
{
	return align_up((size_t)nr * t->elem_size, XTABLE_STEP_BYTES);
}

/* Bytes that the elements handed out so far may have made resident. */
static size_t touched_bytes(const struct xtable *t, u32 nr)
{
	return nr <= 1 ? 0 : align_up((size_t)nr * t->elem_size, PAGE_SIZE);
}

int xtable_init(struct xtable *t, struct meta *meta, const char *name, u32 elem_size, u32 nr_max)
{
	void *base;
	int err;

	quire_assert(elem_size && elem_size % sizeof(u64) == 0);
	quire_assert(elem_size <= XTABLE_STEP_BYTES); /* nr_ready tells the bytes */
	quire_assert(nr_max && nr_max < UINT32_MAX);
	*t = (struct xtable){ .meta = meta, .elem_size = elem_size, .nr_max = nr_max };
	err = os_mmap_anon(reserved_bytes(t), PROT_NONE, true, &base);
	if (err)
		return err;
	os_name_mapping(base, reserved_bytes(t), name);
	t->base = base;
	t->nr_used_high = 1;
	mutex_init(&t->lock, name, LOCK_RANK_SLAB);
	return 0;
}

void xtable_exit(struct xtable *t)
{
	if (!t->base)
		return;
	uncount_bytes(t->meta, touched_bytes(t, t->nr_used_high));
	(void)os_munmap(t->base, reserved_bytes(t));
	t->base = NULL;
	t->nr_ready = t->nr_used_high = t->free_head = t->nr_free = 0;
}

/* How many could be handed out without a system call. */
static u32 nr_at_hand(const struct xtable *t)
{
	return t->nr_free + (t->nr_ready > t->nr_used_high ? t->nr_ready - t->nr_used_high : 0);
}

/* Commit until `nr` are at hand; -ENOMEM when the table or the OS says no. */
static int commit(struct xtable *t, u32 nr)
{
	u64 wanted, old, new;
	int err;

	if (nr <= nr_at_hand(t))
		return 0;
	wanted = (u64)t->nr_used_high + (nr - t->nr_free);
	if (wanted > (u64)t->nr_max + 1)
		return -ENOMEM;
	old = committed_bytes(t, t->nr_ready);
	new = committed_bytes(t, (u32)wanted);
	err = os_commit(t->base + old, new - old);
	if (err)
		return -ENOMEM;
	t->nr_ready = (u32)min_of(new / t->elem_size, (u64)t->nr_max + 1);
	return 0;
}

/* One element that is at hand; `ret_used` tells whether somebody had it before. */
static u32 take(struct xtable *t, bool *ret_used)
{
	u32 index = t->free_head;

	*ret_used = index != 0;
	if (index) {
		t->free_head = __atomic_load_n((u32 *)xtable_at(t, index), __ATOMIC_RELAXED);
		t->nr_free--;
		return index;
	}
	index = t->nr_used_high;
	count_bytes(t->meta, touched_bytes(t, index + 1) - touched_bytes(t, index));
	/* Pairs with xtable_valid(), which takes no lock. */
	__atomic_store_n(&t->nr_used_high, index + 1, __ATOMIC_RELEASE);
	return index;
}

u32 xtable_alloc_batch(struct xtable *t, enum xtable_mode mode, u32 *ret, u32 nr)
{
	u32 got = 0;
	bool used;

	if (failpoint("xtable_alloc"))
		return 0;
	mutex_lock(&t->lock);
	/* All if it can be, else at least the one that a step brings. */
	if (mode == XTABLE_MAY_GROW && commit(t, nr))
		(void)!commit(t, 1);
	nr = min_of(nr, nr_at_hand(t));
	for (; got < nr; got++) {
		ret[got] = take(t, &used);
		/* Memory fresh from the OS is zero already.  Somebody may still look at
		 * the object that was here before (type-stable tables). */
		if (used)
			sync_zero_words(xtable_at(t, ret[got]), t->elem_size);
	}
	mutex_unlock(&t->lock);
	stat_add(&t->nr_live, got);
	return got;
}

u32 xtable_alloc(struct xtable *t, enum xtable_mode mode)
{
	u32 index;

	return xtable_alloc_batch(t, mode, &index, 1) ? index : 0;
}

void xtable_free_batch(struct xtable *t, const u32 *index, u32 nr)
{
	u32 i;

	mutex_lock(&t->lock);
	for (i = 0; i < nr; i++) {
		quire_assert(index[i] && index[i] < t->nr_used_high);
		__atomic_store_n((u32 *)xtable_at(t, index[i]), t->free_head, __ATOMIC_RELAXED);
		t->free_head = index[i];
	}
	t->nr_free += nr;
	mutex_unlock(&t->lock);
	stat_sub(&t->nr_live, nr);
}

void xtable_free(struct xtable *t, u32 index)
{
	xtable_free_batch(t, &index, 1);
}

int xtable_reserve(struct xtable *t, u32 nr)
{
	int err = failpoint("xtable_reserve");

	if (err)
		return err;
	mutex_lock(&t->lock);
	err = commit(t, nr);
	mutex_unlock(&t->lock);
	return err;
}

bool xtable_valid(const struct xtable *t, u32 index)
{
	return index && index < __atomic_load_n(&t->nr_used_high, __ATOMIC_ACQUIRE);
}

/* ---- slab -------------------------------------------------------------------- */

/* At the front of each piece; only the newest has room left. */
struct chunk {
	struct chunk *next;
	size_t used; /* bytes handed out, this header included */
};
static_assert(sizeof(struct chunk) % SLAB_ALIGN == 0, "objects follow the header");

void slab_init(struct slab *s, struct meta *meta, u32 obj_size)
{
	quire_assert(obj_size && obj_size <= SLAB_CHUNK_BYTES / 4);
	*s = (struct slab){ .meta = meta, .obj_size = align_up(obj_size, (u32)SLAB_ALIGN) };
	mutex_init(&s->lock, "slab", LOCK_RANK_SLAB);
}

void slab_exit(struct slab *s)
{
	struct chunk *chunk = s->chunks;

	while (chunk) {
		struct chunk *next = chunk->next;

		uncount_bytes(s->meta, SLAB_CHUNK_BYTES);
		(void)os_munmap(chunk, SLAB_CHUNK_BYTES);
		chunk = next;
	}
	s->chunks = NULL;
	s->free_list = NULL;
}

/* An object that nobody had yet, zero as it came from the OS. */
static void *carve(struct slab *s)
{
	struct chunk *chunk = s->chunks;
	void *obj;

	if (!chunk || chunk->used + s->obj_size > SLAB_CHUNK_BYTES) {
		void *p;

		if (os_mmap_anon(SLAB_CHUNK_BYTES, PROT_READ | PROT_WRITE, false, &p))
			return NULL;
		os_name_mapping(p, SLAB_CHUNK_BYTES, "quire: slab");
		count_bytes(s->meta, SLAB_CHUNK_BYTES);
		chunk = p;
		chunk->next = s->chunks;
		chunk->used = sizeof(*chunk);
		s->chunks = chunk;
	}
	obj = (char *)chunk + chunk->used;
	chunk->used += s->obj_size;
	return obj;
}

void *slab_alloc(struct slab *s)
{
	void *obj;

	if (failpoint("slab_alloc"))
		return NULL;
	mutex_lock(&s->lock);
	obj = s->free_list;
	if (obj) {
		memcpy(&s->free_list, obj, sizeof(s->free_list));
		memset(obj, 0, s->obj_size);
	} else {
		obj = carve(s);
	}
	mutex_unlock(&s->lock);
	return obj;
}

void slab_free(struct slab *s, void *obj)
{
	if (!obj)
		return;
	mutex_lock(&s->lock);
	memcpy(obj, &s->free_list, sizeof(s->free_list));
	s->free_list = obj;
	mutex_unlock(&s->lock);
}

/* ---- arrays ------------------------------------------------------------------ */

void *meta_reserve(const char *name, size_t bytes)
{
	void *p;

	if (os_mmap_anon(bytes, PROT_READ | PROT_WRITE, true, &p))
		return NULL;
	os_name_mapping(p, bytes, name);
	return p;
}

void meta_unreserve(void *p, size_t bytes)
{
	if (p)
		os_munmap(p, bytes);
}

void *meta_alloc(struct meta *meta, size_t bytes)
{
	void *p;

	bytes = align_up(bytes, PAGE_SIZE);
	if (!bytes || os_mmap_anon(bytes, PROT_READ | PROT_WRITE, false, &p))
		return NULL;
	os_name_mapping(p, bytes, "quire: meta");
	count_bytes(meta, bytes);
	return p;
}

void meta_free(struct meta *meta, void *p, size_t bytes)
{
	if (!p)
		return;
	bytes = align_up(bytes, PAGE_SIZE);
	(void)os_munmap(p, bytes);
	uncount_bytes(meta, bytes);
}
