/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_system.c - the enclosing limit: both cgroup versions, containers, none.
 *
 * Each block makes a small /proc and /sys/fs/cgroup in a directory of its own.
 */
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/test.h"

#include "../../../cmd/quire/system.c"

static char root[PATH_MAX];

/* Write a file below root, making its directories. */
static void put(const char *path, const char *text)
{
	char full[PATH_MAX * 2];
	FILE *out;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(full, 0755);
		*p = '/';
	}
	out = fopen(full, "w");
	ASSERT_NOT_NULL(out);
	fputs(text, out);
	fclose(out);
}

static void begin(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root, sizeof(root), "%s/quire-system-XXXXXX", tmp ? tmp : "/tmp");
	ASSERT_NOT_NULL(mkdtemp(root));
	put("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
}

#define GIB (1024 * MIB)

TEST(memory_only)
{
	begin();
	ASSERT_EQ(system_enclosing_limit_at(root), 8 * GIB);
}

TEST(v2_walks_up)
{
	begin();
	put("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n");
	put("proc/self/cgroup", "0::/a/b\n");
	put("sys/fs/cgroup/a/memory.max", "2147483648\n");
	put("sys/fs/cgroup/a/b/memory.max", "max\n");
	ASSERT_EQ(system_enclosing_limit_at(root), 2 * GIB);
	put("sys/fs/cgroup/a/b/memory.max", "1073741824\n");
	ASSERT_EQ(system_enclosing_limit_at(root), 1 * GIB);
}

TEST(v2_container_root)
{
	begin();
	/* A cgroup namespace: the own path is "/", the limit at the mount. */
	put("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
	put("proc/self/cgroup", "0::/\n");
	put("sys/fs/cgroup/memory.max", "536870912\n");
	ASSERT_EQ(system_enclosing_limit_at(root), 512 * MIB);
}

TEST(v1_with_hidden_root)
{
	begin();
	/* Without a namespace the path is the host's, of which the mount shows
	 * only the container's part. */
	put("proc/self/mountinfo",
	    "31 24 0:27 /docker/c0 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
	    "32 24 0:28 /docker/c0 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
	put("proc/self/cgroup", "5:cpu:/docker/c0\n4:memory:/docker/c0\n0::/\n");
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
	ASSERT_EQ(system_enclosing_limit_at(root), 256 * MIB);
}

TEST(v1_unlimited)
{
	begin();
	put("proc/self/mountinfo",
	    "32 24 0:28 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
	put("proc/self/cgroup", "4:memory:/x\n");
	put("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	ASSERT_EQ(system_enclosing_limit_at(root), 8 * GIB);
}

TEST(garbage)
{
	begin();
	put("proc/self/mountinfo", "- -\n\n - cgroup2 \nx\n");
	put("proc/self/cgroup", "::\n0:\nfoo\n");
	ASSERT_EQ(system_enclosing_limit_at(root), 8 * GIB);
}

TEST(this_machine)
{
	ASSERT_GT(system_enclosing_limit(), MIB);
}
