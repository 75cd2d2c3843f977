/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cost.c - prints what a page costs each way; fails only where a call does.
 * Medians of single calls in nanoseconds a page, alone and in runs of 32.
 */
#include "rig.h"

#include <sys/utsname.h>

#define RUN 32u
#define ROUNDS 400u

struct cost {
	const char *what;
	u64 ns[2][ROUNDS]; /* alone, in runs */
};

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return (x > y) - (x < y);
}

static void print_cost(const char *pager, struct cost *c)
{
	qsort(c->ns[0], ROUNDS, sizeof(u64), compare);
	qsort(c->ns[1], ROUNDS, sizeof(u64), compare);
	printf("# %-9s %-5s %6llu %6llu\n", pager, c->what,
	       (unsigned long long)c->ns[0][ROUNDS / 2], (unsigned long long)c->ns[1][ROUNDS / 2]);
}

static u8 source[RUN * PAGE_SIZE];

static void measure(const char *name)
{
	const struct pager_ops *ops = rig_setup(name);
	struct pager *p = &rig.pager;
	static struct cost copy = { .what = "copy" }, take = { .what = "take" },
			   give = { .what = "give" }, drop = { .what = "drop" };
	u64 at = rig_addr(0);

	memset(source, 7, sizeof(source));
	for (u32 i = 0; i < 2 * ROUNDS; i++) {
		u32 many = i & 1, nr = many ? RUN : 1;
		u64 t[5];

		t[0] = rig_now();
		ASSERT_EQ(ops->copy(p, 0, at, source, nr, 0), (long)nr);
		t[1] = rig_now();
		ASSERT_EQ(ops->take(p, 0, at, rig_frame(0), nr), (long)nr);
		t[2] = rig_now();
		ASSERT_EQ(ops->give(p, 0, at, rig_frame(0), nr, 0), (long)nr);
		t[3] = rig_now();
		ASSERT_EQ(ops->drop(p, at, nr * PAGE_SIZE), 0);
		t[4] = rig_now();
		copy.ns[many][i / 2] = (t[1] - t[0]) / nr;
		take.ns[many][i / 2] = (t[2] - t[1]) / nr;
		give.ns[many][i / 2] = (t[3] - t[2]) / nr;
		drop.ns[many][i / 2] = (t[4] - t[3]) / nr;
	}
	print_cost(name, &copy);
	print_cost(name, &take);
	print_cost(name, &give);
	print_cost(name, &drop);
	rig_teardown();
}

TEST(cost)
{
	struct utsname u;

	uname(&u);
	printf("# ns a page: pager, call, alone, in runs of %u; %s %s, %u CPUs\n", RUN, u.sysname,
	       u.release, os_nr_cpus());
	measure("uffd_move");
	measure("uffd_copy");
}
