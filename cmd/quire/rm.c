/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rm.c - `quire rm`: groups of a named tree go, or the tree itself.
 *
 * What may go is decided by quire_view_remove(); this file walks, orders and
 * says who is in the way.  Processes that died are noticed first: until somebody
 * does, their groups and charges look as if they lived.
 */
#include <errno.h>
#include <quire/group.h>
#include <quire/view.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"

/* More than a tree has room for: where its links go round in a circle, this ends. */
#define GROUPS_MAX 200000

struct rm {
	const char *tree;
	bool recursive;
	/* worked out */
	struct quire_view *view;
	int fd;
	char *path; /* the tree's file */
};

static void set_tree(void *ctx, const char *arg)
{
	((struct rm *)ctx)->tree = arg;
}

static void set_recursive(void *ctx, const char *arg)
{
	(void)arg;
	((struct rm *)ctx)->recursive = true;
}

static const struct option_spec rm_options[] = {
	{ "tree", 0, "NAME", false, "the tree, as in quire run --tree", set_tree },
	{ "recursive", 'r', NULL, false, "the groups below it too, children first", set_recursive },
	{ NULL, 0, NULL, false, NULL, NULL },
};

/* ---- who is there ---------------------------------------------------------------- */

/* Is the group at `path` that at `top`, or below it? */
static bool is_below(const char *path, const char *top)
{
	size_t len = strcmp(top, "/") ? strlen(top) : 0;

	return !strncmp(path, top, len) && (!path[len] || path[len] == '/');
}

/*
 * Process ids of those that live in the group, in those below, or in the one it is
 * below; "" when there are none.  To be freed.
 */
static char *living(struct rm *rm, const char *group)
{
	struct quire_member m = { .size = sizeof(m) };
	bool all = !strcmp(group, "/"), any = false;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		die(EXIT_QUIRE, "out of memory: close other programs");
	for (unsigned int n = 0; !quire_view_member(rm->view, n, &m); n++) {
		/* Those that just start are at the root, and in no other group. */
		bool near = is_below(m.group, group) ||
			    (strlen(m.group) > 1 && is_below(group, m.group));

		if (m.end_ns || !(all || near))
			continue;
		fprintf(out, "%s%d", any ? ", " : "", m.pid);
		any = true;
	}
	if (fclose(out))
		die(EXIT_QUIRE, "out of memory: close other programs");
	return text;
}

/* Says that somebody is there; false: nobody is. */
static bool is_inhabited(struct rm *rm, const char *group)
{
	char *pids = living(rm, group);
	bool any = pids[0];

	if (any)
		complain("%s is in use by process%s %s: end %s first",
			 strcmp(group, "/") ? group : rm->path, strchr(pids, ',') ? "es" : "", pids,
			 strchr(pids, ',') ? "them" : "it");
	free(pids);
	return any;
}

/* ---- groups ------------------------------------------------------------------------- */

/* As the tree has it: one slash before each name.  To be freed. */
static char *normal_path(const char *path)
{
	char *normal = text_of("/%s", path), *to = normal;

	for (const char *from = normal; *from; from++)
		if (*from != '/' || to == normal || to[-1] != '/')
			*to++ = *from;
	if (to > normal + 1 && to[-1] == '/')
		to--;
	*to = 0;
	return normal;
}

static bool remove_one(struct rm *rm, const char *group)
{
	int err = quire_view_remove(rm->view, group);

	if (err == -ENOENT)
		complain(
			"there is no group %.200s in the tree %s: programs are in /run, if quire run "
			"--group did not say otherwise",
			group, rm->tree);
	else if (err < 0)
		complain("%s: try again", quire_why());
	return !err;
}

/* The groups below one, parents first; how many. */
static size_t list_below(struct rm *rm, const char *group, char ***ret_paths)
{
	char path[QUIRE_PATH_MAX + QUIRE_NAME_MAX];
	char **paths = NULL;
	size_t nr = 0;

	snprintf(path, sizeof(path), "%s", group);
	while (nr < GROUPS_MAX && !quire_view_next(rm->view, path, sizeof(path)) &&
	       is_below(path, group)) {
		paths = reallocarray(paths, nr + 1, sizeof(*paths));
		if (!paths)
			die(EXIT_QUIRE, "out of memory: close other programs");
		paths[nr++] = text_of("%s", path);
	}
	*ret_paths = paths;
	return nr;
}

static bool remove_below(struct rm *rm, const char *group)
{
	char **paths;
	size_t nr = list_below(rm, group, &paths);
	bool ok = true;

	if (nr && !rm->recursive) {
		complain("%s has %zu group%s below it: remove %s first, or all with -r", group, nr,
			 nr == 1 ? "" : "s", nr == 1 ? "that" : "those");
		ok = false;
	}
	while (nr--) {
		ok = ok && remove_one(rm, paths[nr]);
		free(paths[nr]);
	}
	free(paths);
	return ok;
}

static bool remove_group(struct rm *rm, const char *argument)
{
	char *group = normal_path(argument);
	bool ok = false;

	if (!strcmp(group, "/"))
		complain("the root group cannot be removed: without a group quire rm removes "
			 "the tree");
	else
		ok = !is_inhabited(rm, group) && remove_below(rm, group) && remove_one(rm, group);
	free(group);
	return ok;
}

/* ---- the tree ------------------------------------------------------------------------- */

static bool remove_tree(struct rm *rm)
{
	struct stat st;

	/* No other quire rm: it may have removed this one, and a new one has the name. */
	if (flock(rm->fd, LOCK_EX) < 0 || fstat(rm->fd, &st) < 0)
		die(EXIT_QUIRE, "cannot lock %s: %s: try again", rm->path, strerror(errno));
	if (!st.st_nlink)
		return true;
	/* Empty: no program has come as far as to make a tree of it. */
	if (rm->view && is_inhabited(rm, "/"))
		return false;
	if (unlink(rm->path) < 0) {
		complain("cannot remove %s: %s: whose is it?", rm->path, strerror(errno));
		return false;
	}
	return true;
}

static void open_tree(struct rm *rm)
{
	struct stat st;

	rm->tree = place_tree_name(rm->tree);
	rm->fd = place_tree_there(rm->tree, &rm->path);
	if (!fstat(rm->fd, &st) && !st.st_size)
		return;
	if (quire_view_open_write(rm->fd, &rm->view) < 0 || quire_view_reap(rm->view) < 0)
		die(EXIT_QUIRE, "%s: %s: if no program uses it, remove the file", rm->path,
		    quire_why());
}

static int rm_main(int argc, char **argv)
{
	struct rm rm = { .fd = -1 };
	int first = options_parse(&rm_command, &rm, argc, argv);
	bool ok = true;

	open_tree(&rm);
	if (first == argc)
		ok = remove_tree(&rm);
	for (int i = first; i < argc; i++) {
		if (!rm.view)
			die(EXIT_REFUSED, "the tree %s has no groups: nothing was run in it",
			    rm.tree);
		ok &= remove_group(&rm, argv[i]);
	}
	quire_view_close(rm.view);
	return ok ? 0 : EXIT_REFUSED;
}

const struct command rm_command = {
	.name = "rm",
	.synopsis = "--tree NAME [-r] [--] [GROUP...]",
	.purpose = "remove groups of a tree whose processes have ended, or the tree",
	.details = "A group with living processes or with groups below it is refused. What a\n"
		   "removed group still counts is its parent's. Without GROUP the tree itself is\n"
		   "removed, with its file.\n\n"
		   "Exit status: 0 when all was removed, 1 when something was not, 2 for wrong\n"
		   "options, 125 when there is no such tree.\n",
	.options = rm_options,
	.usage_status = EXIT_USAGE,
	.run = rm_main,
};
