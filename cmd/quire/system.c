/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system.c - how much memory this process could have at all.
 *
 * The kernel's own limits around us: the memory cgroup of this process, in the
 * one or the other version of the hierarchy and each of its parents, and the
 * memory of the machine.  Inside a container the mount shows a part of the
 * hierarchy only, and that part's top has the limit that counts.
 */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

#define LINE_MAX_BYTES 4096
/* cgroup v1 says "no limit" with a huge number of pages. */
#define NO_LIMIT ((uint64_t)1 << 62)

const char *system_read_line(const char *path, char *buf, size_t size)
{
	FILE *in = fopen(path, "re");

	buf[0] = 0;
	if (!in)
		return buf;
	if (!fgets(buf, (int)size, in))
		buf[0] = 0;
	fclose(in);
	buf[strcspn(buf, "\n")] = 0;
	return buf;
}

uint64_t system_read_number(const char *path)
{
	char line[64], *end;
	unsigned long long n;

	system_read_line(path, line, sizeof(line));
	n = strtoull(line, &end, 10);
	return end == line ? SIZE_NONE : n;
}

/* Where a hierarchy is mounted and which part of it the mount shows. */
struct mount {
	char point[PATH_MAX];
	char shown[PATH_MAX];
};

/* v1: the one with the memory controller; v2: the only one. */
static bool find_mount(const char *root, bool v2, struct mount *ret)
{
	char path[PATH_MAX], line[LINE_MAX_BYTES], shown[1024], point[1024];
	bool found = false;
	FILE *in;

	snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
	in = fopen(path, "re");
	if (!in)
		return false;
	while (!found && fgets(line, sizeof(line), in)) {
		const char *tail = strstr(line, " - ");

		if (!tail || sscanf(line, "%*s %*s %*s %1023s %1023s", shown, point) != 2)
			continue;
		if (v2 ? !strncmp(tail, " - cgroup2 ", 11) :
			 !strncmp(tail, " - cgroup ", 10) && strstr(tail, "memory"))
			found = true;
	}
	fclose(in);
	if (found) {
		snprintf(ret->shown, sizeof(ret->shown), "%s", shown);
		snprintf(ret->point, sizeof(ret->point), "%s%s", root, point);
	}
	return found;
}

/* Our path in the hierarchy: of "4:memory:/a/b" or "0::/a/b". */
static bool find_path(const char *root, bool v2, char *ret, size_t size)
{
	char path[PATH_MAX], line[LINE_MAX_BYTES];
	bool found = false;
	FILE *in;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	in = fopen(path, "re");
	if (!in)
		return false;
	while (!found && fgets(line, sizeof(line), in)) {
		char *controllers = strchr(line, ':');
		char *at = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!at)
			continue;
		line[strcspn(line, "\n")] = 0;
		*at = 0;
		found = v2 ? !controllers[1] : strstr(controllers, "memory") != NULL;
		if (found)
			snprintf(ret, size, "%s", at + 1);
	}
	fclose(in);
	return found;
}

/* Least limit of the group at path and of those above it, up to the mount. */
static uint64_t walk_up(const struct mount *m, char *path, const char *file)
{
	size_t shown = strlen(m->shown);
	uint64_t least = SIZE_NONE, limit;
	char name[PATH_MAX * 2 + 64];

	/* A container's path may be told from a root that the mount hides. */
	if (shown > 1 && !strncmp(path, m->shown, shown))
		memmove(path, path + shown, strlen(path + shown) + 1);
	for (;;) {
		char *slash = strrchr(path, '/');

		snprintf(name, sizeof(name), "%s%s%s%s", m->point, path[0] == '/' ? "" : "/",
			 path[1] ? path : "", file);
		limit = system_read_number(name);
		if (limit < NO_LIMIT && limit < least)
			least = limit;
		if (!path[0] || !path[1])
			return least;
		if (!slash)
			path[0] = 0;
		else
			slash[slash == path] = 0;
	}
}

static uint64_t hierarchy_limit(const char *root, bool v2)
{
	struct mount m;
	char path[PATH_MAX];

	if (!find_mount(root, v2, &m) || !find_path(root, v2, path, sizeof(path)))
		return SIZE_NONE;
	return walk_up(&m, path, v2 ? "/memory.max" : "/memory.limit_in_bytes");
}

static uint64_t mem_total(const char *root)
{
	char path[PATH_MAX], line[128];
	unsigned long long kib;
	uint64_t total = SIZE_NONE;
	FILE *in;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	in = fopen(path, "re");
	if (!in)
		return SIZE_NONE;
	while (fgets(line, sizeof(line), in))
		if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
			total = kib * KIB;
	fclose(in);
	return total;
}

uint64_t system_enclosing_limit_at(const char *root)
{
	uint64_t least = mem_total(root), v1 = hierarchy_limit(root, false),
		 v2 = hierarchy_limit(root, true);

	if (v1 < least)
		least = v1;
	return v2 < least ? v2 : least;
}

uint64_t system_enclosing_limit(void)
{
	return system_enclosing_limit_at("");
}
