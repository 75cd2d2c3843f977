/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine.c - a process with an engine killed at any step of it: fault, charge, slot,
 * compressed object, store, fork, removal.  Another member closes its record: nothing is
 * charged, no group is dying, no file is left.
 *
 * Its threads run as they like, so that a step is another each time: some hundred of
 * them, spread over all that it does.
 * paging
 * time: 300
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/os.h"
#include "engine/internal.h"
#include "memcg/internal.h"
#include "steps.h"

#define NR_PAGES 768u /* in 256 */
#define ROUNDS 3u
#define NR_KILLS 120u /* of CI */

static struct meta meta;
static struct memcg_tree *tree;
static struct memcg_id group;
static struct objcg_id mine;
static int fd;
static char store_dir[512];

static struct engine *its;
static u8 *its_memory;

#define MUST(e) ((e) ? (void)0 : _exit(__LINE__ % 200 + 1))

/* ---- the victim ----------------------------------------------------------------------- */

static u64 word_of(u32 page, u32 round, u32 i)
{
	u64 s = ((u64)page << 32 | round << 16 | i) * 0x9e3779b97f4a7c15ull;

	/* Half of the pages compress. */
	return page & 1 || i % 8 == 0 ? s ^ s >> 29 : page;
}

static void write_page(u32 page, u32 round)
{
	u64 *w = (u64 *)(its_memory + page * PAGE_SIZE);

	for (u32 i = 0; i < PAGE_SIZE / 8; i++)
		w[i] = word_of(page, round, i);
}

static bool is_right(u32 page, u32 round)
{
	const u64 *w = (const u64 *)(its_memory + page * PAGE_SIZE);

	for (u32 i = 0; i < PAGE_SIZE / 8; i += 37)
		if (w[i] != word_of(page, round, i))
			return false;
	return true;
}

static void come(void)
{
	struct engine_config cfg = {
		.pager = getenv("QUIRE_PAGER"),
		.segment_fd = fd,
		.store_dir = store_dir,
		.store_max = 64 * MIB,
		.envp = environ,
	};
	void *mem;

	MUST(!engine_create(&cfg, &its));
	MUST(!engine_start(its));
	MUST(!engine_mmap(its, group, NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, &mem));
	its_memory = mem;
}

static void child_checks(void)
{
	engine_fork_child(its);
	for (u32 page = 0; page < NR_PAGES; page += 5)
		MUST(is_right(page, ROUNDS - 1));
	engine_destroy(its);
}

static void page_and_fork(void)
{
	struct memcg_id own;
	pid_t pid;

	for (u32 round = 0; round < ROUNDS; round++)
		for (u32 page = 0; page < NR_PAGES; page++) {
			MUST(!round || is_right(page, round - 1));
			write_page(page, round);
		}
	MUST(!engine_group_create(its, group, "own", &own));
	MUST(!engine_madvise(its, its_memory, 64 * PAGE_SIZE, MADV_DONTNEED));
	MUST(!engine_group_remove(its, own, ENGINE_REMOVE_REPARENT));
	for (u32 page = 0; page < 64; page++)
		write_page(page, ROUNDS - 1);
	engine_fork_prepare(its, 0);
	pid = fork();
	if (!pid) {
		child_checks();
		return;
	}
	engine_fork_parent(its);
	MUST(waitpid(pid, NULL, 0) == pid);
	MUST(!engine_munmap(its, its_memory, NR_PAGES * PAGE_SIZE));
	engine_destroy(its);
}

static void come_and_page(void)
{
	come();
	page_and_fork();
}

/* ---- the survivor --------------------------------------------------------------------- */

static void nothing_left(u64 at)
{
	u32 high = seg_high(tree, SEG_MEMBERS, NR_MEMBERS), nr = 0;
	struct memcg_id id;
	struct memcg_stats s;

	for (u32 n = 0; n < high; n++)
		if (member_is_forking(tree, n))
			seg_member(tree, n)->boot_ns -= 11 * NSEC_PER_SEC;
	(void)member_reap(tree);
	while ((id = memcg_next_offline(tree, (struct memcg_id){ 0 })).v)
		memcg_release(tree, id);
	if (!memcg_lookup(tree, "g/own", &id)) {
		ASSERT_OK(memcg_remove(tree, id, &id));
		memcg_release(tree, memcg_next_offline(tree, (struct memcg_id){ 0 }));
	}
	for (u32 n = 0; n < high; n++)
		nr += member_alive(tree, n);
	memcg_stats_read(tree, MEMCG_ROOT, &s);
	for (u32 i = 0; i < MEMCG_NR_STATS; i++)
		if (memcg_stat_is_gauge(i) && s.v[i])
			FAIL("killed at %llu: gauge %u is %llu", (unsigned long long)at, i,
			     (unsigned long long)s.v[i]);
	if (nr != 1 || memcg_usage(tree, MEMCG_ROOT, COUNTER_MEMORY) != 10 ||
	    memcg_usage(tree, group, COUNTER_SWAP) || memcg_zswap_bytes(tree, group) ||
	    memcg_nr_dying(tree) || test_nr_files(store_dir))
		FAIL("killed at %llu: members %u, pages %llu, slots %llu, bytes %llu, dying %u, files "
		     "%u",
		     (unsigned long long)at, nr,
		     (unsigned long long)memcg_usage(tree, MEMCG_ROOT, COUNTER_MEMORY),
		     (unsigned long long)memcg_usage(tree, group, COUNTER_SWAP),
		     (unsigned long long)memcg_zswap_bytes(tree, group), memcg_nr_dying(tree),
		     test_nr_files(store_dir));
	memcg_check(tree);
}

static void survivor_init(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(store_dir, sizeof(store_dir), "%s/store.%d", tmp ? tmp : "/var/tmp", getpid());
	ASSERT_EQ(mkdir(store_dir, 0700), 0);
	fd = os_memfd_create("quire-test", 1);
	ASSERT_OK(fd);
	ASSERT_OK(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &tree));
	ASSERT_OK(memcg_create(tree, MEMCG_ROOT, "g", &group));
	memcg_set_max(tree, group, COUNTER_MEMORY, 256);
	memcg_set_max(tree, group, COUNTER_ZSWAP, 60);
	ASSERT_OK(objcg_get(tree, MEMCG_ROOT, &mine));
	memcg_charge_force(tree, mine, 10);
}

static u64 count_steps(void)
{
	u64 *nr = mmap(NULL, sizeof(*nr), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);
	pid_t pid = fork();
	int status;

	if (!pid) {
		steps_left = UINT64_MAX;
		come_and_page();
		*nr = UINT64_MAX - steps_left;
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		SKIP("no engine here: wait status %x", status);
	return *nr;
}

TEST(page_and_fork)
{
	u64 nr;

	survivor_init();
	nr = count_steps();
	nothing_left(0);
	printf("# about %llu steps\n", (unsigned long long)nr);
	steps_each(NULL, come_and_page, nothing_left, nr / NR_KILLS);
	rmdir(store_dir);
}
