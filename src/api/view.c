/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - <quire/view.h>: a tree seen from outside.
 *
 * Owns a view: a mapping of somebody's segment and nothing else, no engine and no
 * member.  Everything read from it is checked below (memcg/): the other side may
 * be writing, broken or hostile.
 *
 * See also: memcg/memcg.h (memcg_tree_view), cmd/quire/report.c, cmd/quire/rm.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "api/api.h"
#include "base/os.h"
#include "knob/knob.h"
#include "memcg/member.h"
#include "quire/view.h"

struct quire_view {
	struct memcg_tree *tree;
	struct meta meta;
	bool writable; /* (C) */
};

#define VIEW_BYTES align_up(sizeof(struct quire_view), PAGE_SIZE)

enum view_access { VIEW_READ, VIEW_WRITE, VIEW_CREATE };

static int attach_tree(struct quire_view *view, int fd, enum view_access access)
{
	if (access == VIEW_READ)
		return memcg_tree_view(&view->meta, fd, &view->tree);
	return memcg_tree_attach(&view->meta, fd,
				 access == VIEW_CREATE ? MEMCG_ATTACH_FOUNDER : MEMCG_ATTACH_NOBODY,
				 &view->tree);
}

static int open_view(int fd, enum view_access access, struct quire_view **ret_view)
{
	struct quire_view *view;
	void *memory;
	int err;

	err = os_mmap_anon(VIEW_BYTES, PROT_READ | PROT_WRITE, false, &memory);
	if (err < 0)
		return why(err, "no memory for a view");
	view = memory;
	view->writable = access != VIEW_READ;
	err = attach_tree(view, fd, access);
	if (err < 0) {
		os_munmap(view, VIEW_BYTES);
		return why(err, "the tree cannot be %s: %s",
			   access != VIEW_READ ? "changed" : "read", quire_strerror(err));
	}
	*ret_view = view;
	return 0;
}

int quire_view_open(int fd, struct quire_view **ret_view)
{
	if (!ret_view)
		return why(-EINVAL, "quire_view_open: ret_view is NULL");
	return open_view(fd, VIEW_READ, ret_view);
}

int quire_view_open_write(int fd, struct quire_view **ret_view)
{
	if (!ret_view)
		return why(-EINVAL, "quire_view_open_write: ret_view is NULL");
	return open_view(fd, VIEW_WRITE, ret_view);
}

int quire_view_create(int fd, struct quire_view **ret_view)
{
	if (!ret_view)
		return why(-EINVAL, "quire_view_create: ret_view is NULL");
	return open_view(fd, VIEW_CREATE, ret_view);
}

void quire_view_close(struct quire_view *view)
{
	if (!view)
		return;
	memcg_tree_close(view->tree);
	os_munmap(view, VIEW_BYTES);
}

int quire_view_read(struct quire_view *view, const char *path, const char *file, char *buf,
		    size_t size, size_t *ret_len)
{
	struct memcg_id id;
	struct fmt out;
	int err;

	if (!view || !path || !file || (!buf && size))
		return why(-EINVAL, "quire_view_read: NULL argument");
	err = memcg_lookup(view->tree, path, &id);
	if (err < 0)
		return why(err, "group \"%s\": %s", path, quire_strerror(err));
	fmt_init(&out, buf, size);
	err = knob_read(view->tree, id, file, &out);
	if (err < 0)
		return why(err, "%s: %s", file, quire_strerror(err));
	if (ret_len)
		*ret_len = out.len;
	return 0;
}

int quire_view_next(struct quire_view *view, char *path, size_t size)
{
	struct memcg_id id = { 0 };
	struct fmt out;
	int err;

	if (!view || !path || size < 2)
		return why(-EINVAL, "quire_view_next: NULL argument");
	if (path[0]) {
		err = memcg_lookup(view->tree, path, &id);
		if (err < 0)
			return why(err, "group \"%s\" is gone", path);
	}
	id = memcg_next(view->tree, MEMCG_ROOT, id);
	if (!id.v)
		return -ENOENT;
	fmt_init(&out, path, size);
	memcg_path(view->tree, id, &out);
	if (out.len >= size)
		return why(-ENAMETOOLONG, "the path of a group is too long");
	if (!out.len)
		fmt_add(&out, "/");
	return 0;
}

/* A string of the segment: bounded, and always ended. */
static void copy_text(char *to, size_t size, const char *from, size_t from_size)
{
	size_t n = min_of(size, from_size) - 1;

	memcpy(to, from, n);
	to[n] = 0;
}

int quire_view_member(struct quire_view *view, unsigned int n, struct quire_member *ret_member)
{
	const struct member_info *info;
	struct quire_member *m = ret_member;
	struct memcg_id home;
	struct fmt out;

	if (!view || !m || m->size < sizeof(*m))
		return why(-EINVAL, "quire_view_member: size is not set");
	info = member_info(view->tree, n);
	if (!info)
		return -ENOENT;
	m->pid = info->pid;
	m->start_ns = info->start_ns;
	m->end_ns = info->end_ns;
	m->peak_anon = info->peak_anon;
	m->nr_faults = info->nr_faults;
	memcpy(m->fault_ns, info->fault_ns, sizeof(m->fault_ns));
	copy_text(m->comm, sizeof(m->comm), info->comm, sizeof(info->comm));
	copy_text(m->pager, sizeof(m->pager), info->pager, sizeof(info->pager));
	copy_text(m->store_dir, sizeof(m->store_dir), info->store_dir, sizeof(info->store_dir));
	m->store_max = info->store_max;
	copy_text(m->last_words, sizeof(m->last_words), info->last_words, sizeof(info->last_words));
	home.v = info->home;
	m->group[0] = 0;
	if (home.v && home.v < memcg_nr_max(view->tree) && memcg_online(view->tree, home)) {
		fmt_init(&out, m->group, sizeof(m->group));
		memcg_path(view->tree, home, &out);
	}
	return 0;
}

static int check_writable(const struct quire_view *view)
{
	return view->writable ? 0 : why(-EROFS, "the view was opened for reading only");
}

int quire_view_reap(struct quire_view *view)
{
	int err;

	if (!view)
		return why(-EINVAL, "quire_view_reap: NULL argument");
	err = check_writable(view);
	if (err)
		return err;
	(void)member_reap(view->tree);
	return 0;
}

int quire_view_ended(struct quire_view *view)
{
	return view ? member_all_ended(view->tree) :
		      why(-EINVAL, "quire_view_ended: NULL argument");
}

int quire_view_write(struct quire_view *view, const char *path, const char *file, const char *text)
{
	struct memcg_id id;
	int err;

	if (!view || !path || (!file != !text))
		return why(-EINVAL, "quire_view_write: NULL argument");
	err = check_writable(view);
	if (err)
		return err;
	err = memcg_create_path(view->tree, path, &id);
	if (err < 0)
		return why(err, "group \"%s\": %s", path, quire_strerror(err));
	err = file ? knob_write(view->tree, id, file, text, strlen(text)) : 0;
	return err < 0 ? why(err, "%s: \"%.40s\": %s", file, text, quire_strerror(err)) : 0;
}

/* Is it below the own group of a process?  At the root are those that just start. */
static bool is_made_by_member(const struct memcg_tree *t, struct memcg_id id)
{
	const struct member_info *m;

	for (u32 n = 0; (m = member_info(t, n)); n++) {
		struct memcg_id home = { m->home };

		if (member_alive(t, n) && home.v != MEMCG_ROOT.v &&
		    memcg_is_descendant(t, id, home))
			return true;
	}
	return false;
}

int quire_view_remove(struct quire_view *view, const char *path)
{
	struct memcg_id id, parent;
	struct memcg_tree *t;
	int err;

	if (!view || !path)
		return why(-EINVAL, "quire_view_remove: NULL argument");
	err = check_writable(view);
	if (err)
		return err;
	t = view->tree;
	err = memcg_lookup(t, path, &id);
	if (err < 0)
		return why(err, "group \"%s\": there is none", path);
	if (id.v == MEMCG_ROOT.v)
		return why(-EPERM, "the root group cannot be removed");
	/* Seldom both; memcg_remove() looks again where it counts. */
	if (memcg_nr_descendants(t, id))
		return why(-EBUSY, "group \"%s\" has groups below it", path);
	err = is_made_by_member(t, id) ? -EBUSY : memcg_remove(t, id, &parent);
	if (err == -EBUSY)
		return why(err, "group \"%s\" belongs to a process that lives", path);
	if (err == -ETIMEDOUT)
		return why(
			err,
			"process %d is stopped in the middle of a change of the tree: continue or end it",
			member_in_the_way(t));
	return err < 0 ? why(err, "group \"%s\": %s", path, quire_strerror(err)) : 0;
}
