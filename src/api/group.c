/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c - group handles, and groups by name.
 *
 * Owns the handles: the handle of group id n is element n of a table that only
 * grows, so handles need no reference counts, no lock and no closing, and a
 * stale one is still a handle (its state says GROUP_GONE).  Does not own the
 * groups: memcg/ does; structure is changed by requests to the engine.
 *
 * See also: api/stat.c (a group's files), api/event.c (its callbacks).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "api/api.h"
#include "base/os.h"

/* A chunk of handles, filled before anybody can see it. */
static struct quire_group *new_chunk(struct quire *q, u32 n)
{
	struct quire_group *chunk;
	void *fresh;

	if (os_mmap_anon(GROUP_CHUNK_BYTES, PROT_READ | PROT_WRITE, false, &fresh) < 0)
		return NULL;
	chunk = fresh;
	for (u32 i = 0; i < GROUP_CHUNK; i++) {
		chunk[i].q = q;
		chunk[i].id.v = (n << GROUP_CHUNK_SHIFT) + i;
	}
	if (!atomic64_cas(&q->groups[n], 0, (uintptr_t)fresh))
		os_munmap(fresh, GROUP_CHUNK_BYTES);
	return (void *)(uintptr_t)atomic64_load(&q->groups[n]);
}

struct quire_group *group_handle(struct quire *q, struct memcg_id id)
{
	u32 n = id.v >> GROUP_CHUNK_SHIFT;
	struct quire_group *chunk;

	if (!id.v || n >= GROUP_CHUNKS)
		return NULL;
	chunk = (void *)(uintptr_t)atomic64_load(&q->groups[n]);
	if (!chunk)
		chunk = new_chunk(q, n);
	return chunk ? &chunk[id.v % GROUP_CHUNK] : NULL;
}

/* The handle of a group that is known to be in the tree now. */
static int live_handle(struct quire *q, struct memcg_id id, struct quire_group **ret_group)
{
	struct quire_group *g = group_handle(q, id);

	if (!g)
		return why(-ENOMEM, "no memory for the handle of a group");
	atomic32_store(&g->state, GROUP_ALIVE);
	*ret_group = g;
	return 0;
}

int group_check(struct quire_group *g)
{
	if (!g)
		return why(-EINVAL, "the group is NULL");
	if (atomic32_load(&g->state) == GROUP_ALIVE && memcg_online(g->q->tree, g->id))
		return 0;
	return why(-ENODEV, "the group was removed");
}

struct quire_group *quire_root(struct quire *q)
{
	/* Made by quire_open(). */
	return group_handle(q, q->root);
}

static int name_error(int err, const char *name)
{
	switch (err) {
	case -EINVAL:
		return why(err, "\"%.64s\" is not a name (1 to 63 of A-Z a-z 0-9 . _ @ -)", name);
	case -EEXIST:
		return why(err, "a group \"%s\" exists already", name);
	case -E2BIG:
		return why(err, "\"%s\" would be deeper than %d levels", name, MEMCG_DEPTH_MAX);
	default:
		return why(err, "cannot create \"%.64s\": %s", name, quire_strerror(err));
	}
}

int quire_group_create(struct quire_group *parent, const char *name, struct quire_group **ret_group)
{
	struct memcg_id id;
	int err;

	if (!name || !ret_group)
		return why(-EINVAL, "quire_group_create: NULL argument");
	err = group_check(parent);
	if (err < 0)
		return err;
	if (strlen(name) >= MEMCG_NAME_MAX)
		return name_error(-EINVAL, name);
	err = engine_group_create(parent->q->e, parent->id, name, &id);
	if (err < 0)
		return name_error(err, name);
	return live_handle(parent->q, id, ret_group);
}

/* Append text at *len; false: no room. */
static bool append(char *buf, size_t size, size_t *len, const char *text, size_t n)
{
	if (n + 1 > size || *len > size - n - 1)
		return false;
	memcpy(buf + *len, text, n);
	*len += n;
	buf[*len] = 0;
	return true;
}

/* The tree's path of `path` below our root: "/run/123" + "/a/b". */
static int full_path(struct quire *q, const char *path, char *buf, size_t size)
{
	struct fmt out;
	size_t len;

	fmt_init(&out, buf, size);
	buf[0] = 0;
	if (q->root.v != MEMCG_ROOT.v)
		memcg_path(q->tree, q->root, &out);
	len = out.len;
	if (len >= size || !append(buf, size, &len, "/", 1) ||
	    !append(buf, size, &len, path, strlen(path)))
		return why(-ENAMETOOLONG, "the path of a group is longer than %d bytes",
			   QUIRE_PATH_MAX - 1);
	return 0;
}

int quire_group_open(struct quire *q, const char *path, struct quire_group **ret_group)
{
	char full[QUIRE_PATH_MAX];
	struct memcg_id id;
	int err;

	if (!q || !path || !ret_group)
		return why(-EINVAL, "quire_group_open: NULL argument");
	err = full_path(q, path, full, sizeof(full));
	if (err < 0)
		return err;
	err = memcg_lookup(q->tree, full, &id);
	if (err < 0)
		return why(err, "group \"%s\": %s", path,
			   err == -ENOENT ? "there is none" : quire_strerror(err));
	return live_handle(q, id, ret_group);
}

/* Next name of a path: its length, 0 at the end; *path moves behind it. */
static size_t next_name(const char **path, const char **ret_name)
{
	const char *p = *path;
	size_t len = 0;

	while (*p == '/')
		p++;
	while (p[len] && p[len] != '/')
		len++;
	*ret_name = p;
	*path = p + len;
	return len;
}

int quire_group_make(struct quire *q, const char *path, struct quire_group **ret_group)
{
	char name[MEMCG_NAME_MAX], full[QUIRE_PATH_MAX];
	struct quire_group *g = quire_root(q);
	size_t done = 0, len;
	const char *word;
	int err = 0;

	if (!g || !path || !ret_group)
		return why(-EINVAL, "quire_group_make: NULL argument");
	full[0] = 0;
	while ((len = next_name(&path, &word)) > 0) {
		if (len >= sizeof(name))
			return name_error(-EINVAL, word);
		memcpy(name, word, len);
		name[len] = 0;
		if (!append(full, sizeof(full), &done, "/", 1) ||
		    !append(full, sizeof(full), &done, name, len))
			return why(-ENAMETOOLONG, "the path of a group is too long");
		err = quire_group_create(g, name, &g);
		if (err == -EEXIST)
			err = quire_group_open(q, full, &g);
		if (err < 0)
			return err;
	}
	*ret_group = g;
	return 0;
}

int quire_group_remove(struct quire_group *g)
{
	return quire_group_remove_with(g, 0);
}

static int remove_error(struct quire_group *g, int err)
{
	if (err != -EBUSY)
		return why(err, "%s", quire_strerror(err));
	return why(err, "the group has groups%s or processes",
		   memcg_nr_descendants(g->q->tree, g->id) ? "" : ", regions");
}

int quire_group_remove_with(struct quire_group *g, unsigned int flags)
{
	struct quire_group *parent = quire_group_parent(g);
	enum engine_remove how = ENGINE_REMOVE_EMPTY;
	int err = group_check(g);

	if (err < 0)
		return err;
	if (flags & ~(unsigned int)(QUIRE_REMOVE_REPARENT | QUIRE_REMOVE_DISCARD) ||
	    flags == (QUIRE_REMOVE_REPARENT | QUIRE_REMOVE_DISCARD))
		return why(-EINVAL, "quire_group_remove_with: unknown flags 0x%x", flags);
	if (!parent)
		return why(-EPERM, "the root group cannot be removed");
	if (!flags && atomic32_load(&g->nr_heaps))
		return why(-EBUSY, "the group has heaps: destroy them first");
	/* Looked at again where it counts; here so that nothing is changed in vain. */
	if (memcg_nr_descendants(g->q->tree, g->id) || memcg_populated(g->q->tree, g->id))
		return remove_error(g, -EBUSY);
	if (flags & QUIRE_REMOVE_REPARENT)
		how = ENGINE_REMOVE_REPARENT;
	if (flags & QUIRE_REMOVE_DISCARD)
		how = ENGINE_REMOVE_DISCARD;
	event_forget_group(g);
	/* Before, not after: the id may be somebody else's right away. */
	atomic32_store(&g->state, GROUP_GONE);
	if (how == ENGINE_REMOVE_REPARENT)
		heaps_move(g, parent);
	err = engine_group_remove(g->q->e, g->id, how);
	if (err < 0) {
		atomic32_store(&g->state, GROUP_ALIVE);
		return remove_error(g, err);
	}
	if (how == ENGINE_REMOVE_DISCARD)
		heaps_discard(g);
	return 0;
}

struct quire_group *quire_group_next(struct quire_group *top, struct quire_group *prev)
{
	struct memcg_id none = { 0 }, id;
	struct quire_group *g = NULL;

	if (group_check(top) < 0)
		return NULL;
	id = memcg_next(top->q->tree, top->id, prev ? prev->id : none);
	if (!id.v || live_handle(top->q, id, &g) < 0)
		return NULL;
	return g;
}

struct quire_group *quire_group_parent(struct quire_group *g)
{
	struct quire_group *parent = NULL;
	struct memcg_id id;

	if (group_check(g) < 0 || g->id.v == g->q->root.v)
		return NULL;
	id = memcg_parent(g->q->tree, g->id);
	if (!id.v || live_handle(g->q, id, &parent) < 0)
		return NULL;
	return parent;
}

size_t quire_group_path(struct quire_group *g, char *buf, size_t size)
{
	char full[QUIRE_PATH_MAX];
	size_t skip = 0, len;
	struct fmt out;

	if (group_check(g) < 0)
		return 0;
	if (g->q->root.v != MEMCG_ROOT.v) {
		fmt_init(&out, full, sizeof(full));
		memcg_path(g->q->tree, g->q->root, &out);
		skip = min_of(out.len, sizeof(full) - 1);
	}
	fmt_init(&out, full, sizeof(full));
	memcg_path(g->q->tree, g->id, &out);
	len = min_of(out.len, sizeof(full) - 1);
	return fmt_str(buf, size, "%s", len > skip ? full + skip : "/");
}
