/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_core.c - the files cgroup.*.
 */
#include <unistd.h>

#include "knob_test.h"

TEST(fixed_texts)
{
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	ASSERT_FILE(a, "cgroup.type", "domain\n");
	ASSERT_PUT(a, "cgroup.type", "threaded", -EOPNOTSUPP);
	ASSERT_PUT(a, "cgroup.type", "domain", -EINVAL);
	ASSERT_FILE(a, "cgroup.controllers", "memory\n");
	ASSERT_FILE(MEMCG_ROOT, "cgroup.subtree_control", "memory\n");
	fixture_exit(&f);
}

TEST(subtree_control)
{
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	ASSERT_PUT(a, "cgroup.subtree_control", "+memory", 0);
	ASSERT_PUT(a, "cgroup.subtree_control", "+memory   +memory\n", 0);
	ASSERT_PUT(a, "cgroup.subtree_control", "-memory", -EOPNOTSUPP);
	ASSERT_PUT(a, "cgroup.subtree_control", "memory", -EINVAL);
	ASSERT_PUT(a, "cgroup.subtree_control", "+cpu", -EINVAL);
	ASSERT_PUT(a, "cgroup.subtree_control", "+memory +cpu", -EINVAL);
	ASSERT_PUT(a, "cgroup.subtree_control", "-memory +cpu", -EINVAL);
	fixture_exit(&f);
}

TEST(procs)
{
	struct memcg_tree *t2;
	struct fixture f;
	struct memcg_id a;
	char pid[32];

	fixture_init(&f);
	ASSERT_EQ(memcg_tree_join(&f.meta, f.t, &t2), 0);
	a = group_make(f.t, "a/b");
	fmt_str(pid, sizeof(pid), "%d\n%d\n", getpid(), getpid());
	ASSERT_FILE(MEMCG_ROOT, "cgroup.procs", pid);
	ASSERT_FILE(a, "cgroup.procs", "");
	ASSERT_FILE(a, "cgroup.events", "populated 0\nfrozen 0\n");
	ASSERT_EQ(member_set_home(t2, a), 0);
	member_self(t2)->pid = 4711;
	ASSERT_FILE(a, "cgroup.procs", "4711\n");
	ASSERT_FILE(a, "cgroup.threads", "4711\n");
	ASSERT_FILE(a, "cgroup.events", "populated 1\nfrozen 0\n");
	ASSERT_FILE(group_find(f.t, "a"), "cgroup.procs", "");
	ASSERT_FILE(group_find(f.t, "a"), "cgroup.events", "populated 1\nfrozen 0\n");
	ASSERT_PUT(a, "cgroup.procs", "0", -EOPNOTSUPP);
	ASSERT_PUT(a, "cgroup.threads", "0", -EOPNOTSUPP);
	memcg_tree_close(t2);
	ASSERT_FILE(a, "cgroup.procs", "");
	fixture_exit(&f);
}

TEST(stat)
{
	struct memcg_id b, parent;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	group_make(f.t, "a/c");
	ASSERT_FILE(MEMCG_ROOT, "cgroup.stat",
		    "nr_descendants 3\nnr_subsys_memory 4\n"
		    "nr_dying_descendants 0\nnr_dying_subsys_memory 0\n"
		    "nr_refused_processes 0\nnr_forgotten_processes 0\n");
	ASSERT_EQ(memcg_remove(f.t, b, &parent), 0);
	ASSERT_FILE(parent, "cgroup.stat",
		    "nr_descendants 1\nnr_subsys_memory 2\n"
		    "nr_dying_descendants 0\nnr_dying_subsys_memory 0\n");
	ASSERT_EQ(memcg_nr_dying(f.t), 1); /* an id, not memory */
	memcg_release(f.t, b);
	ASSERT_EQ(memcg_nr_dying(f.t), 0);
	fixture_exit(&f);
}

TEST(bounds)
{
	static const char *const files[] = { "cgroup.max.descendants", "cgroup.max.depth" };
	struct memcg_id a, id;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 n = 0; n < ARRAY_SIZE(files); n++) {
		ASSERT_FILE(a, files[n], "max\n");
		ASSERT_PUT(a, files[n], "0x10", 0);
		ASSERT_FILE(a, files[n], "16\n");
		ASSERT_PUT(a, files[n], "2147483647", 0);
		ASSERT_PUT(a, files[n], "2147483648", -ERANGE);
		ASSERT_PUT(a, files[n], "-1", -ERANGE);
		ASSERT_PUT(a, files[n], "x", -EINVAL);
		ASSERT_PUT(a, files[n], "1K", -EINVAL);
		ASSERT_PUT(a, files[n], "-", -EINVAL);
		ASSERT_PUT(a, files[n], "max", 0);
	}
	ASSERT_PUT(a, "cgroup.max.descendants", "1", 0);
	ASSERT_EQ(memcg_create(f.t, a, "x", &id), 0);
	ASSERT_EQ(memcg_create(f.t, a, "y", &id), -EAGAIN);
	ASSERT_PUT(a, "cgroup.max.descendants", "max", 0);
	ASSERT_PUT(MEMCG_ROOT, "cgroup.max.depth", "1", 0);
	ASSERT_EQ(memcg_create(f.t, a, "y", &id), -EAGAIN);
	ASSERT_PUT(MEMCG_ROOT, "cgroup.max.depth", "2", 0);
	ASSERT_EQ(memcg_create(f.t, a, "y", &id), 0);
	fixture_exit(&f);
}
