/* SPDX-License-Identifier: Apache-2.0 */
/*
 * knob.h - every memory.* and cgroup.* file of a group, once.
 *
 * One table gives each file its name, its read and write function and the
 * clause it follows (interface.md; kernel cgroup-v2.rst).  The API, the command
 * line and a mount all go through these functions.
 */
#ifndef QUIRE_KNOB_KNOB_H
#define QUIRE_KNOB_KNOB_H

#include "base/fmt.h"
#include "memcg/memcg.h"

struct knob {
	const char *name; /* "memory.max" */
	const char *clause; /* "cgroup-v2: memory.max" */
	bool on_root;
	/* Print the whole file, final newline included; NULL: write only. */
	void (*read)(struct memcg_tree *t, struct memcg_id id, struct fmt *out);
	/* The whole text of one write, stripped and not empty; 0 or -errno; NULL:
	 * read only. */
	int (*write)(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len);
};

/* NULL when there is no such file. */
const struct knob *knob_find(const char *name, size_t len);
/* The n-th file in print order; NULL past the end. */
const struct knob *knob_nth(u32 n);
/* -ENOENT (no such file, or not on the root), -ENODEV (group removed), -EACCES
 * (write only), else the text is in out. */
int QUIRE_MUST_CHECK knob_read(struct memcg_tree *t, struct memcg_id id, const char *name,
			       struct fmt *out);
/*
 * As knob_read(); -EACCES: read only.  -EINVAL (also when nothing but white space
 * is written), -ERANGE, -EAGAIN (memory.reclaim fell short), -EOPNOTSUPP.  White
 * space around the text is ignored.  May call up for reclaim and take long: on an
 * engine thread that may block, with no lock held.
 */
int QUIRE_MUST_CHECK knob_write(struct memcg_tree *t, struct memcg_id id, const char *name,
				const char *text, size_t len);

#endif
