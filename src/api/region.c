/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - <quire/region.h>: argument checks in front of the engine.
 *
 * Owns nothing.  Every function ends in one request to the engine, which copies
 * its arguments before it waits.
 *
 * See also: engine/engine.h, page/region.h.
 */
#include <errno.h>
#include <sys/mman.h>

#include "api/api.h"

#define RANGE_MAX ((size_t)1 << 47)

/* Page aligned, not empty, inside the address space. */
static int range_check(const char *what, const void *addr, size_t len)
{
	uintptr_t a = (uintptr_t)addr;

	if (a & ~PAGE_MASK || len & ~PAGE_MASK)
		return why(-EINVAL, "%s: address and length must be multiples of %lu", what,
			   (unsigned long)PAGE_SIZE);
	if (!len)
		return why(-EINVAL, "%s: the range is empty", what);
	if (len > RANGE_MAX || a > RANGE_MAX - len)
		return why(-EINVAL, "%s: the range is not in the address space", what);
	return 0;
}

/* As above, of a tree, and every error with its sentence. */
static int begin(struct quire *q, const char *what, const void *addr, size_t len)
{
	if (!q)
		return why(-EINVAL, "%s: no tree was given", what);
	return range_check(what, addr, len);
}

static int end(struct quire *q, const char *what, int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
		return why(err, "%s: the range is not managed", what);
	case -EEXIST:
		return why(err, "%s: part of the range is managed already", what);
	case -EBUSY:
		return why(err, "%s: part of the range has another userfaultfd", what);
	case -ENOMEM:
		return why(err, "%s: does not fit in the address space or the group's limit", what);
	default:
		return why_engine(q, err, what);
	}
}

int quire_map(struct quire_group *g, size_t len, unsigned int flags, void **ret_addr)
{
	void *addr;
	int err;

	if (flags & ~(unsigned int)QUIRE_MAP_DONTFORK || !ret_addr)
		return why(-EINVAL, "quire_map: unknown flag, or no place for the address");
	if (!len || len > RANGE_MAX)
		return why(-EINVAL, "quire_map: length 0 or beyond the address space");
	err = group_check(g);
	if (err < 0)
		return err;
	len = align_up(len, PAGE_SIZE);
	err = engine_mmap(g->q->e, g->id, NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &addr);
	if (err < 0)
		return end(g->q, "quire_map", err);
	if (flags & QUIRE_MAP_DONTFORK) {
		err = engine_set_dontfork(g->q->e, addr, len, true);
		if (err < 0)
			goto unmap;
	}
	*ret_addr = addr;
	return 0;

unmap:
	if (engine_munmap(g->q->e, addr, len) < 0)
		return why(err, "quire_map: %lu bytes are lost", (unsigned long)len);
	return end(g->q, "quire_map", err);
}

int quire_unmap(struct quire *q, void *addr, size_t len)
{
	int err = begin(q, "quire_unmap", addr, len);

	return err < 0 ? err : end(q, "quire_unmap", engine_munmap(q->e, addr, len));
}

int quire_remap(struct quire *q, void *addr, size_t len, size_t new_len, unsigned int flags,
		void **ret_addr)
{
	int err = begin(q, "quire_remap", addr, len);

	if (err < 0)
		return err;
	if (flags & ~(unsigned int)QUIRE_REMAP_MAYMOVE || !ret_addr)
		return why(-EINVAL, "quire_remap: unknown flag, or no place for the address");
	err = range_check("quire_remap", NULL, new_len);
	if (err < 0)
		return err;
	err = engine_mremap(q->e, addr, len, new_len,
			    flags & QUIRE_REMAP_MAYMOVE ? MREMAP_MAYMOVE : 0, NULL, ret_addr);
	return end(q, "quire_remap", err);
}

int quire_discard(struct quire *q, void *addr, size_t len)
{
	int err = begin(q, "quire_discard", addr, len);

	return err < 0 ? err : end(q, "quire_discard", engine_discard(q->e, addr, len));
}

int quire_adopt(struct quire_group *g, void *addr, size_t len)
{
	int err = range_check("quire_adopt", addr, len);

	if (err < 0)
		return err;
	err = group_check(g);
	if (err < 0)
		return err;
	return end(g->q, "quire_adopt", engine_adopt(g->q->e, g->id, addr, len));
}

int quire_release(struct quire *q, void *addr, size_t len)
{
	int err = begin(q, "quire_release", addr, len);

	return err < 0 ? err : end(q, "quire_release", engine_release(q->e, addr, len));
}

static const int advice_of[] = {
	[QUIRE_NORMAL] = MADV_NORMAL,
	[QUIRE_WILLNEED] = MADV_WILLNEED,
	[QUIRE_COLD] = MADV_COLD,
	[QUIRE_PAGEOUT] = MADV_PAGEOUT,
	[QUIRE_SEQUENTIAL] = MADV_SEQUENTIAL,
	[QUIRE_RANDOM] = MADV_RANDOM,
};

int quire_advise(struct quire *q, void *addr, size_t len, enum quire_advice advice)
{
	int err;

	if (advice == QUIRE_DROP)
		return quire_discard(q, addr, len);
	err = begin(q, "quire_advise", addr, len);
	if (err < 0)
		return err;
	if ((unsigned int)advice >= ARRAY_SIZE(advice_of))
		return why(-EINVAL, "quire_advise: unknown advice %d", (int)advice);
	return end(q, "quire_advise",
		   engine_madvise(q->e, addr, len, advice_of[advice] | ENGINE_MANAGED_ONLY));
}

int quire_pin(struct quire *q, void *addr, size_t len)
{
	int err = begin(q, "quire_pin", addr, len);

	return err < 0 ? err : end(q, "quire_pin", engine_pin(q->e, addr, len));
}

int quire_unpin(struct quire *q, void *addr, size_t len)
{
	int err = begin(q, "quire_unpin", addr, len);

	return err < 0 ? err : end(q, "quire_unpin", engine_unpin(q->e, addr, len));
}

/* How far it came, and why no farther. */
static int end_assign(struct quire_group *g, const char *what, int err, u64 moved)
{
	if (err == -ENODEV)
		return why(err, "%s: the group was removed", what);
	if (err != -ENOMEM && err != -ENOSPC)
		return end(g->q, what, err);
	return why(err, "%s: %llu bytes were moved, the rest does not fit in memory%s.max", what,
		   (unsigned long long)moved, err == -ENOSPC ? ".swap" : "");
}

int quire_assign(struct quire_group *g, void *addr, size_t len, size_t *ret_moved)
{
	u64 moved = 0;
	int err = group_check(g);

	if (ret_moved)
		*ret_moved = 0;
	if (err < 0)
		return err;
	err = range_check("quire_assign", addr, len);
	if (err < 0)
		return err;
	err = engine_assign(g->q->e, g->id, addr, len, &moved);
	if (ret_moved)
		*ret_moved = moved;
	return end_assign(g, "quire_assign", err, moved);
}

int quire_assign_all(struct quire_group *g, size_t *ret_moved)
{
	u64 moved = 0;
	int err = group_check(g);

	if (ret_moved)
		*ret_moved = 0;
	if (err < 0)
		return err;
	err = engine_assign_all(g->q->e, g->id, &moved);
	if (ret_moved)
		*ret_moved = moved;
	return end_assign(g, "quire_assign_all", err, moved);
}

int quire_manages(struct quire *q, const void *addr, size_t len)
{
	return q && len && engine_manages(q->e, addr, len);
}
