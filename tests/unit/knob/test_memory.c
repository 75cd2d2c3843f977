/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memory.c - the files memory.*: formats, and what writing a limit does.
 */
#include "knob_test.h"

/* An engine that can free a given amount, and then has one more idea. */
struct engine_of_test {
	struct memcg_tree *t;
	struct objcg_id o;
	u64 can_free, per_round;
	u64 nr_rounds, nr_zero, last_batch;
	u64 oom_frees;
	u32 nr_oom;
	bool may_swap;
};

static u64 free_some(void *ctx, struct memcg_id id, u64 nr_pages, bool may_swap)
{
	struct engine_of_test *e = ctx;
	u64 nr = min_of(min_of(nr_pages, e->can_free), e->per_round);

	(void)id;
	e->nr_rounds++;
	e->nr_zero += nr == 0;
	e->last_batch = nr_pages;
	e->may_swap = may_swap;
	e->can_free -= nr;
	memcg_uncharge(e->t, NULL, e->o, (u32)nr);
	return nr;
}

static bool kill_one(void *ctx, struct memcg_id id)
{
	struct engine_of_test *e = ctx;

	e->nr_oom++;
	memcg_uncharge(e->t, NULL, e->o, (u32)min_of(e->oom_frees, mem_of(e->t, id)));
	return e->oom_frees > 0;
}

static struct memcg_id engine_init(struct fixture *f, struct engine_of_test *e, u32 charged)
{
	struct memcg_upcalls up = { .reclaim = free_some, .oom = kill_one, .ctx = e };
	struct memcg_id a;

	memset(e, 0, sizeof(*e));
	fixture_init(f);
	a = group_make(f->t, "a");
	e->t = f->t;
	e->o = handle_of(f->t, a);
	e->per_round = 1000000;
	memcg_tree_set_upcalls(f->t, &up);
	memcg_charge_force(f->t, e->o, charged);
	return a;
}

TEST(defaults)
{
	static const char *const want[][2] = {
		{ "memory.current", "0\n" },
		{ "memory.min", "0\n" },
		{ "memory.low", "0\n" },
		{ "memory.high", "max\n" },
		{ "memory.max", "max\n" },
		{ "memory.peak", "0\n" },
		{ "memory.oom.group", "0\n" },
		{ "memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n" },
		{ "memory.events.local",
		  "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n" },
		{ "memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
				     "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" },
	};
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	for (u32 n = 0; n < ARRAY_SIZE(want); n++)
		ASSERT_FILE(a, want[n][0], want[n][1]);
	fixture_exit(&f);
}

TEST(amounts)
{
	struct fixture f;
	struct memcg_id a;
	struct objcg_id o;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	memcg_charge_force(f.t, o, 3);
	memcg_uncharge(f.t, NULL, o, 1);
	ASSERT_FILE(a, "memory.current", "8192\n");
	ASSERT_FILE(a, "memory.peak", "12288\n");
	/* Any text resets; for every reader, there are no descriptors here. */
	ASSERT_PUT(a, "memory.peak", "reset\n", 0);
	ASSERT_FILE(a, "memory.peak", "8192\n");
	memcg_zswap_charge(f.t, o, 100);
	ASSERT_FILE(a, "memory.current", "12288\n");
	memcg_stat_add(f.t, o, MEMCG_STAT_STALL_NS, 1234567);
	ASSERT_FILE(a, "memory.pressure",
		    "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n"
		    "full avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n");
	memcg_count_event(f.t, a, MEMCG_OOM_KILL);
	memcg_count_event(f.t, a, MEMCG_OOM_GROUP_KILL);
	memcg_count_event(f.t, a, MEMCG_SWAP_FAIL);
	ASSERT_FILE(a, "memory.events",
		    "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 1\n");
	fixture_exit(&f);
}

TEST(protection_writes)
{
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	ASSERT_PUT(a, "memory.min", "1M", 0);
	ASSERT_PUT(a, "memory.low", "2M", 0);
	ASSERT_FILE(a, "memory.min", "1048576\n");
	ASSERT_FILE(a, "memory.low", "2097152\n");
	ASSERT_EQ(memcg_min(f.t, a), FIXTURE_PAGES(1));
	ASSERT_EQ(memcg_low(f.t, a), FIXTURE_PAGES(2));
	fixture_exit(&f);
}

TEST(max_reclaims_down)
{
	struct engine_of_test e;
	struct fixture f;
	struct memcg_id a = engine_init(&f, &e, 1000);

	e.can_free = 1000;
	e.per_round = 10;
	ASSERT_PUT(a, "memory.max", "400K", 0); /* 100 pages */
	ASSERT_FILE(a, "memory.current", "409600\n");
	ASSERT_EQ(e.nr_rounds, 90); /* rounds that get on do not count */
	ASSERT_EQ(e.nr_oom, 0);
	ASSERT_TRUE(e.may_swap);
	ASSERT_PUT(a, "memory.max", "max", 0);
	ASSERT_EQ(e.nr_rounds, 90);
	fixture_exit(&f);
}

TEST(max_ends_in_oom)
{
	struct engine_of_test e;
	struct fixture f;
	struct memcg_id a = engine_init(&f, &e, 1000);

	e.can_free = 300;
	e.oom_frees = 250;
	ASSERT_PUT(a, "memory.max", "0", 0);
	/* 300 reclaimed; then 250 at a time, the last with 200 left over. */
	ASSERT_EQ(e.nr_oom, 3);
	fixture_exit(&f);
}

TEST(max_without_a_victim)
{
	struct engine_of_test e;
	struct fixture f;
	struct memcg_id a = engine_init(&f, &e, 1000);

	ASSERT_PUT(a, "memory.max", "4096", 0); /* always succeeds */
	ASSERT_FILE(a, "memory.max", "4096\n");
	ASSERT_EQ(e.nr_rounds, 16);
	ASSERT_EQ(e.nr_oom, 1);
	ASSERT_EQ(value_of(get(f.t, a, "memory.events"), "oom"), 1);
	ASSERT_FILE(a, "memory.current", "4096000\n");
	fixture_exit(&f);
}

TEST(high_never_kills)
{
	struct engine_of_test e;
	struct fixture f;
	struct memcg_id a = engine_init(&f, &e, 1000);

	e.can_free = 500;
	ASSERT_PUT(a, "memory.high", "40K", 0);
	ASSERT_EQ(mem_of(f.t, a), 500);
	ASSERT_EQ(e.nr_zero, 16);
	ASSERT_EQ(e.nr_oom, 0);
	ASSERT_EQ(value_of(get(f.t, a, "memory.events"), "oom"), 0);
	fixture_exit(&f);
}

/* Nobody to ask: a limit is stored all the same. */
TEST(limits_without_an_engine)
{
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a");
	memcg_charge_force(f.t, handle_of(f.t, a), 10);
	ASSERT_PUT(a, "memory.max", "4096", 0);
	ASSERT_PUT(a, "memory.high", "4096", 0);
	ASSERT_PUT(a, "memory.reclaim", "4096", -EAGAIN);
	ASSERT_FILE(a, "memory.max", "4096\n");
	fixture_exit(&f);
}

TEST(reclaim)
{
	struct engine_of_test e;
	struct fixture f;
	struct memcg_id a = engine_init(&f, &e, 1000);

	e.can_free = 1000;
	ASSERT_PUT(a, "memory.reclaim", "400K", 0);
	ASSERT_LE(mem_of(f.t, a), 900);
	ASSERT_GE(mem_of(f.t, a), 900 - 32);
	ASSERT_EQ(e.nr_rounds, 4); /* 32 at least, and a quarter of what is left */
	ASSERT_EQ(e.last_batch, 32);
	ASSERT_TRUE(e.may_swap);
	e.nr_rounds = 0;
	ASSERT_PUT(a, "memory.reclaim", "100", 0); /* less than a page */
	ASSERT_EQ(e.nr_rounds, 0);
	ASSERT_PUT(a, "memory.reclaim", "4K swappiness=0\n", 0);
	ASSERT_FALSE(e.may_swap);
	ASSERT_PUT(a, "memory.reclaim", "4K  swappiness=200", 0);
	ASSERT_PUT(a, "memory.reclaim", "4K swappiness=max", 0);
	ASSERT_TRUE(e.may_swap);
	e.can_free = 10;
	e.nr_zero = 0;
	ASSERT_PUT(a, "memory.reclaim", "1G", -EAGAIN);
	ASSERT_EQ(e.nr_zero, 17);
	ASSERT_EQ(e.can_free, 0); /* what was done stays done */
	fixture_exit(&f);
}

TEST(reclaim_errors)
{
	static const char *const bad[] = { "x",
					   "-1",
					   "max",
					   "swappiness=1",
					   "1M swappiness",
					   "1M swappiness=",
					   "1M swappiness=201",
					   "1M swappiness=-1",
					   "1M swappiness=1x",
					   "1M swappines=1",
					   "1M foo",
					   "1M 1M",
					   "1Mx",
					   "1M source=zswap",
					   "1M swappiness=1 foo=2" };
	struct engine_of_test e;
	struct fixture f;
	struct memcg_id a = engine_init(&f, &e, 10);

	for (u32 n = 0; n < ARRAY_SIZE(bad); n++)
		ASSERT_PUT(a, "memory.reclaim", bad[n], -EINVAL);
	ASSERT_PUT(a, "memory.reclaim", "99E", -ERANGE);
	ASSERT_EQ(e.nr_rounds, 0);
	fixture_exit(&f);
}

/* interface.md 2.2, in order; quire's own keys follow. */
static const char *const kernel_keys[] = {
	"anon",
	"file",
	"kernel",
	"kernel_stack",
	"pagetables",
	"sec_pagetables",
	"percpu",
	"sock",
	"vmalloc",
	"shmem",
	"zswap",
	"zswapped",
	"file_mapped",
	"file_dirty",
	"file_writeback",
	"swapcached",
	"anon_thp",
	"file_thp",
	"shmem_thp",
	"inactive_anon",
	"active_anon",
	"inactive_file",
	"active_file",
	"unevictable",
	"slab_reclaimable",
	"slab_unreclaimable",
	"slab",
	"hugetlb",
	"workingset_refault_anon",
	"workingset_refault_file",
	"workingset_activate_anon",
	"workingset_activate_file",
	"workingset_restore_anon",
	"workingset_restore_file",
	"workingset_nodereclaim",
	"pgdemote_kswapd",
	"pgdemote_direct",
	"pgdemote_khugepaged",
	"pgdemote_proactive",
	"pgpromote_success",
	"pgscan",
	"pgsteal",
	"pswpin",
	"pswpout",
	"pgscan_kswapd",
	"pgscan_direct",
	"pgscan_khugepaged",
	"pgscan_proactive",
	"pgsteal_kswapd",
	"pgsteal_direct",
	"pgsteal_khugepaged",
	"pgsteal_proactive",
	"pgfault",
	"pgmajfault",
	"pgrefill",
	"pgactivate",
	"pgdeactivate",
	"pglazyfree",
	"pglazyfreed",
	"swpin_zero",
	"swpout_zero",
	"zswpin",
	"zswpout",
	"zswpwb",
	"thp_fault_alloc",
	"thp_collapse_alloc",
	"thp_swpout",
	"thp_swpout_fallback",
	"numa_pages_migrated",
	"numa_pte_updates",
	"numa_hint_faults",
};

static const char *const own_keys[] = {
	"frames",	  "unmanaged",	    "stored",	     "filled",
	"pgunmap",	  "pgunprotect",    "pgrotated",     "pgpinned",
	"pgdropped",	  "pgsoftfault",    "swpout_clean",  "readahead",
	"incompressible", "throttled_usec", "stall_usec",    "swap_stale_handoff",
	"mlocked",	  "mlock_refused",  "lru_contended", "zswpwb_stale",
	"zswpwb_failed",  "shared",
};

TEST(stat_keys)
{
	struct fixture f;
	struct memcg_id a;
	const char *at;

	fixture_init(&f);
	a = group_make(f.t, "a");
	at = get(f.t, a, "memory.stat");
	for (u32 n = 0; n < ARRAY_SIZE(kernel_keys); n++) {
		size_t len = strlen(kernel_keys[n]);

		if (strncmp(at, kernel_keys[n], len) || strncmp(at + len, " 0\n", 3))
			FAIL("line %u is not %s: %.40s", n, kernel_keys[n], at);
		at += len + 3;
	}
	for (u32 n = 0; n < ARRAY_SIZE(own_keys); n++)
		ASSERT_EQ(value_of(at, own_keys[n]), 0);
	ASSERT_EQ(value_of(get(f.t, MEMCG_ROOT, "memory.stat"), "anon"), 0);
	fixture_exit(&f);
}

TEST(stat_values)
{
	const char *text;
	struct objcg_id o;
	struct fixture f;
	struct memcg_id a;

	fixture_init(&f);
	a = group_make(f.t, "a/b");
	o = handle_of(f.t, a);
	memcg_stat_add(f.t, o, MEMCG_STAT_ANON, 3);
	memcg_charge_force(f.t, o, 3);
	memcg_stat_add(f.t, o, MEMCG_STAT_PGSCAN_KSWAPD, 5);
	memcg_stat_add(f.t, o, MEMCG_STAT_PGSCAN_PROACTIVE, 2);
	memcg_stat_add(f.t, o, MEMCG_STAT_ZSWAPPED, 2);
	memcg_stat_add(f.t, o, MEMCG_STAT_THROTTLED_NS, 20000000);
	memcg_zswap_charge(f.t, o, 5000);
	memcg_set_overhead(f.t, o, MEMCG_STAT_KERNEL, 7);
	memcg_set_overhead(f.t, o, MEMCG_STAT_UNMANAGED, 11);
	text = get(f.t, group_find(f.t, "a"), "memory.stat");
	ASSERT_EQ(value_of(text, "anon"), 3 * 4096);
	ASSERT_EQ(value_of(text, "pgscan"), 7);
	ASSERT_EQ(value_of(text, "pgscan_kswapd"), 5);
	ASSERT_EQ(value_of(text, "zswap"), 5000);
	ASSERT_EQ(value_of(text, "zswapped"), 8192);
	ASSERT_EQ(value_of(text, "kernel"), 9 * 4096);
	ASSERT_EQ(value_of(text, "metadata"), 7 * 4096);
	ASSERT_EQ(value_of(text, "throttled_usec"), 20000);
	ASSERT_EQ(value_of(text, "anon") + value_of(text, "frames") + value_of(text, "kernel") +
			  value_of(text, "unmanaged"),
		  atoll(get(f.t, group_find(f.t, "a"), "memory.current")));
	text = get(f.t, a, "memory.numa_stat");
	ASSERT_TRUE(!strncmp(text, "anon N0=12288\nfile N0=0\nkernel_stack N0=0\npagetables", 50));
	ASSERT_NULL(strstr(text, "pgfault"));
	ASSERT_NULL(strstr(text, "kernel N0"));
	ASSERT_NOT_NULL(strstr(text, "workingset_nodereclaim N0=0\n"));
	fixture_exit(&f);
}
