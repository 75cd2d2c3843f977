/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_knob.c - which files there are, and what all of them have in common.
 */
#include "knob_test.h"

/* interface.md 2.1 to 2.4, and the core files */
static const char *const names[] = {
	"memory.current",
	"memory.min",
	"memory.low",
	"memory.high",
	"memory.max",
	"memory.peak",
	"memory.reclaim",
	"memory.oom.group",
	"memory.events",
	"memory.events.local",
	"memory.stat",
	"memory.numa_stat",
	"memory.pressure",
	"memory.swap.current",
	"memory.swap.high",
	"memory.swap.max",
	"memory.swap.peak",
	"memory.swap.events",
	"memory.zswap.current",
	"memory.zswap.max",
	"memory.zswap.writeback",
	"cgroup.type",
	"cgroup.procs",
	"cgroup.threads",
	"cgroup.controllers",
	"cgroup.subtree_control",
	"cgroup.events",
	"cgroup.stat",
	"cgroup.max.descendants",
	"cgroup.max.depth",
};

static const char *const on_root[] = {
	"memory.reclaim",	  "memory.stat",  "memory.numa_stat",	    "memory.pressure",
	"memory.zswap.writeback", "cgroup.procs", "cgroup.threads",	    "cgroup.controllers",
	"cgroup.subtree_control", "cgroup.stat",  "cgroup.max.descendants", "cgroup.max.depth",
};

TEST(every_file_once)
{
	for (u32 n = 0; n < ARRAY_SIZE(names); n++) {
		const struct knob *k = knob_nth(n);

		ASSERT_NOT_NULL(k);
		ASSERT_STR_EQ(k->name, names[n]);
		ASSERT_PTR_EQ(knob_find(k->name, strlen(k->name)), k);
		ASSERT_TRUE(k->read || k->write);
		ASSERT_TRUE(!strncmp(k->clause, "cgroup-v2: ", 11));
		ASSERT_STR_EQ(k->clause + 11, k->name);
	}
	ASSERT_NULL(knob_nth(ARRAY_SIZE(names)));
	ASSERT_NULL(knob_find("memory.max", 9));
	ASSERT_NULL(knob_find("memory.max ", 11));
	ASSERT_NULL(knob_find("", 0));
}

TEST(files_on_the_root)
{
	struct fixture f;

	fixture_init(&f);
	for (u32 n = 0; n < ARRAY_SIZE(names); n++) {
		bool want = false;

		for (u32 k = 0; k < ARRAY_SIZE(on_root); k++)
			want |= !strcmp(names[n], on_root[k]);
		ASSERT_EQ(knob_nth(n)->on_root, want);
		if (!want) {
			ASSERT_FILE(MEMCG_ROOT, names[n], "-ENOENT");
			ASSERT_PUT(MEMCG_ROOT, names[n], "1", -ENOENT);
		}
	}
	ASSERT_FILE(MEMCG_ROOT, "cgroup.procs", get(f.t, MEMCG_ROOT, "cgroup.threads"));
	fixture_exit(&f);
}

TEST(permissions)
{
	struct memcg_id a, parent;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	ASSERT_FILE(a, "memory.nothing", "-ENOENT");
	ASSERT_PUT(a, "memory.nothing", "1", -ENOENT);
	ASSERT_FILE(a, "memory.reclaim", "-EACCES");
	ASSERT_PUT(a, "memory.current", "1", -EACCES);
	ASSERT_PUT(a, "memory.stat", "1", -EACCES);
	ASSERT_PUT(a, "cgroup.controllers", "+memory", -EACCES);
	ASSERT_PUT(a, "memory.pressure", "some 150000 1000000", -EOPNOTSUPP);
	ASSERT_EQ(memcg_remove(f.t, a, &parent), 0);
	ASSERT_FILE(a, "memory.current", "-ENODEV");
	ASSERT_PUT(a, "memory.max", "1", -ENODEV);
	memcg_release(f.t, a);
	fixture_exit(&f);
}

/* Every file that is written refuses an empty text. */
TEST(empty_text)
{
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 n = 0; n < ARRAY_SIZE(names); n++) {
		if (!knob_nth(n)->write)
			continue;
		ASSERT_PUT(a, names[n], "", -EINVAL);
		ASSERT_PUT(a, names[n], "\n", -EINVAL);
		ASSERT_PUT(a, names[n], " \t\n", -EINVAL);
	}
	fixture_exit(&f);
}

/* interface.md 2.0; the same for every file that holds a byte size. */
TEST(byte_sizes)
{
	static const char *const files[] = { "memory.min",	 "memory.low",
					     "memory.high",	 "memory.max",
					     "memory.swap.high", "memory.swap.max",
					     "memory.zswap.max" };
	static const struct {
		const char *in, *out;
	} good[] = {
		{ "0", "0\n" },		  { "4096\n", "4096\n" },
		{ "  8192  ", "8192\n" }, { "4095", "0\n" },
		{ "8191", "4096\n" },	  { "1m", "1048576\n" },
		{ "1K", "0\n" },	  { "64K", "65536\n" },
		{ "2G", "2147483648\n" }, { "1t", "1099511627776\n" },
		{ "0x10000", "65536\n" }, { "0X1000k", "4194304\n" },
		{ "010000", "4096\n" },	  { "max", "max\n" },
		{ "max\n", "max\n" },	  { "1P", "1125899906842624\n" },
		{ "8E", "max\n" },	  { "9223372036854775807", "max\n" },
	};
	static const char *const bad[] = { "1.0", "1xx", "xx",	  "-1",	   "1 M",    "1MB",
					   "1 1", "Max", "ma",	  "maxx",  "M",	     "0x",
					   "08",  "+",	 "1,000", "\"1\"", "max max" };
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 k = 0; k < ARRAY_SIZE(files); k++) {
		for (u32 n = 0; n < ARRAY_SIZE(good); n++) {
			ASSERT_PUT(a, files[k], good[n].in, 0);
			ASSERT_FILE(a, files[k], good[n].out);
		}
		ASSERT_PUT(a, files[k], "12288", 0);
		for (u32 n = 0; n < ARRAY_SIZE(bad); n++)
			ASSERT_PUT(a, files[k], bad[n], -EINVAL);
		ASSERT_PUT(a, files[k], "16E", -ERANGE);
		ASSERT_PUT(a, files[k], "99999999999999999999", -ERANGE);
		ASSERT_FILE(a, files[k], "12288\n");
	}
	fixture_exit(&f);
}

TEST(flags)
{
	static const char *const files[] = { "memory.oom.group", "memory.zswap.writeback" };
	static const char *const bad[] = { "2", "-1", "y", "true", "1K", "0 1", "0x2", "1.", "+" };
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	ASSERT_FILE(a, "memory.oom.group", "0\n");
	ASSERT_FILE(a, "memory.zswap.writeback", "1\n");
	for (u32 k = 0; k < ARRAY_SIZE(files); k++) {
		ASSERT_PUT(a, files[k], "0x0", 0);
		ASSERT_FILE(a, files[k], "0\n");
		ASSERT_PUT(a, files[k], " +1\n", 0);
		ASSERT_FILE(a, files[k], "1\n");
		for (u32 n = 0; n < ARRAY_SIZE(bad); n++)
			ASSERT_PUT(a, files[k], bad[n], -EINVAL);
		ASSERT_FILE(a, files[k], "1\n");
	}
	fixture_exit(&f);
}
