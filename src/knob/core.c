/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.c - the files cgroup.*.
 *
 * Owns: text and write rules of the core files of a group.
 * Does not own: the tree (memcg/); moving members between groups, which a
 * write of cgroup.procs will ask for: -EOPNOTSUPP until the engine can.
 * Entry points: the table knob_core.
 * Invariants: memory is the only controller and always on, so every group has
 * every file; a group is a domain and members may be in inner groups.
 * Lock ranks: none held.
 */
#include "knob/internal.h"

#include <errno.h>

#include "memcg/member.h"

static void read_type(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	(void)t;
	(void)id;
	fmt_add(out, "domain\n");
}

/* cgroup-v2: cgroup.type; "threaded" is the only thing that can be written. */
static int write_type(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	(void)t;
	(void)id;
	return knob_is(text, len, "threaded") ? -EOPNOTSUPP : -EINVAL;
}

/* Members at home in the group.  cgroup.threads prints the same: a member moves
 * as a whole, its first thread stands for all. */
static void read_procs(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	const struct member_info *m;

	for (u32 n = 0; (m = member_info(t, n)); n++)
		if (member_alive(t, n) && m->home == id.v)
			fmt_add(out, "%d\n", (int)m->pid);
}

static int write_procs(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	(void)t;
	(void)id;
	(void)text;
	(void)len;
	return -EOPNOTSUPP;
}

static void read_controllers(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	(void)t;
	(void)id;
	fmt_add(out, "memory\n");
}

/* cgroup-v2: cgroup.subtree_control; "+memory" is how it is, "-memory" cannot be. */
static int write_subtree_control(struct memcg_tree *t, struct memcg_id id, const char *text,
				 size_t len)
{
	int ret = 0;

	(void)t;
	(void)id;
	while (len) {
		size_t n = 0;

		while (n < len && text[n] != ' ')
			n++;
		if (knob_is(text, n, "-memory"))
			ret = -EOPNOTSUPP;
		else if (!knob_is(text, n, "+memory"))
			return -EINVAL;
		text += n;
		len -= n;
		knob_strip(&text, &len);
	}
	return ret;
}

static void read_events(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_key(out, "populated", memcg_populated(t, id));
	knob_print_key(out, "frozen", 0);
}

static void read_stat(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	u32 nr = memcg_nr_descendants(t, id);

	knob_print_key(out, "nr_descendants", nr);
	knob_print_key(out, "nr_subsys_memory", nr + 1);
	/* cgroup-v2: groups that were removed and still hold memory.  Here that is the
	 * parent's at once; memcg_nr_dying() counts ids that may not be used again yet. */
	knob_print_key(out, "nr_dying_descendants", 0);
	knob_print_key(out, "nr_dying_subsys_memory", 0);
	/* Of the whole tree, and no file of the kernel's. */
	if (id.v == MEMCG_ROOT.v) {
		knob_print_key(out, "nr_refused_processes", member_nr_refused(t));
		knob_print_key(out, "nr_forgotten_processes", member_nr_forgotten(t));
	}
}

/* ---- bounds of the tree ----------------------------------------------------------- */

static void print_bound(struct fmt *out, u32 v)
{
	if (v == UINT32_MAX)
		fmt_add(out, "max\n");
	else
		knob_print_bytes(out, v);
}

/* "max" or a signed 32-bit integer that is not negative: else -ERANGE. */
static int parse_bound(const char *text, size_t len, u32 *ret)
{
	bool minus;
	u64 v;
	int err;

	knob_strip(&text, &len);
	if (knob_is(text, len, "max")) {
		*ret = UINT32_MAX;
		return 0;
	}
	minus = len && *text == '-';
	if (len && (minus || *text == '+')) {
		text++;
		len--;
	}
	err = num_parse(text, len, &v);
	if (err)
		return err;
	if ((minus && v) || v > INT32_MAX)
		return -ERANGE;
	*ret = (u32)v;
	return 0;
}

static void read_max_descendants(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	print_bound(out, memcg_max_descendants(t, id));
}

static int write_max_descendants(struct memcg_tree *t, struct memcg_id id, const char *text,
				 size_t len)
{
	u32 v;
	int ret = parse_bound(text, len, &v);

	if (!ret)
		memcg_set_max_descendants(t, id, v);
	return ret;
}

static void read_max_depth(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	print_bound(out, memcg_max_depth(t, id));
}

static int write_max_depth(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u32 v;
	int ret = parse_bound(text, len, &v);

	if (!ret)
		memcg_set_max_depth(t, id, v);
	return ret;
}

const struct knob knob_core[] = {
	{ "cgroup.type", "cgroup-v2: cgroup.type", false, read_type, write_type },
	{ "cgroup.procs", "cgroup-v2: cgroup.procs", true, read_procs, write_procs },
	{ "cgroup.threads", "cgroup-v2: cgroup.threads", true, read_procs, write_procs },
	{ "cgroup.controllers", "cgroup-v2: cgroup.controllers", true, read_controllers, NULL },
	{ "cgroup.subtree_control", "cgroup-v2: cgroup.subtree_control", true, read_controllers,
	  write_subtree_control },
	{ "cgroup.events", "cgroup-v2: cgroup.events", false, read_events, NULL },
	{ "cgroup.stat", "cgroup-v2: cgroup.stat", true, read_stat, NULL },
	{ "cgroup.max.descendants", "cgroup-v2: cgroup.max.descendants", true, read_max_descendants,
	  write_max_descendants },
	{ "cgroup.max.depth", "cgroup-v2: cgroup.max.depth", true, read_max_depth,
	  write_max_depth },
	{ NULL, NULL, false, NULL, NULL },
};
