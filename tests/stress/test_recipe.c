/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_recipe.c - the kernel's recipe for stale swap cache (S0): limits of 1-2 MiB,
 * several members that page, ended at random.  Afterwards nothing is left: no slot, no
 * charge, no byte in a store, no group that is dying, no mapping.
 *
 * A member is an engine with two threads of its program; all are in one tree, most in
 * groups that they share.  Its threads write, verify and discard, then they stop, and
 * the engine goes while the others page: with all it has out, or given back before, which
 * must leave it empty.  At any time the engine's own counts must agree.
 * Who finds no memory left in a group (SIGBUS) ends as well: that is one more way.
 *
 * The same with processes: programs under `quire run` in one tree, SIGKILL at random.
 *
 * QUIRE_RECIPE_SECONDS: how long in all, 60 if not set; a quarter of it is processes.
 * paging
 * time: 300
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/internal.h"
#include "lib/test.h"

#define NR_MEMBERS 4u
#define NR_GROUPS 3u
#define NR_THREADS 2u
#define NR_PAGES 1024u /* of a thread; a group has 256 or 512 */
/* The C library's own, and those of a sanitizer; a member that left one each time would leave a
 * hundred. */
#ifdef __SANITIZE_ADDRESS__
#define MORE_MAPPINGS 60u
#else
#define MORE_MAPPINGS 2u
#endif
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

struct program {
	pthread_t id;
	struct engine *e;
	u8 *mem; /* managed */
	u32 want[NR_PAGES]; /* seed of each page, 0: zeros */
	u64 random;
	sigjmp_buf out_of_memory;
	bool ended_early;
	struct atomic32 *stop;
};

struct member {
	pthread_t id;
	u32 nr;
	u64 random;
	struct program program[NR_THREADS];
	u64 nr_lives, nr_empty, nr_checks, nr_early, nr_groups;
};

static struct {
	struct meta meta;
	struct memcg_tree *tree;
	struct memcg_id group[NR_GROUPS];
	struct member member[NR_MEMBERS];
	u64 deadline_ns;
} all;

static __thread struct program *running;

static u64 next_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* A member's threads are not the test's: no ASSERT there. */
#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "recipe: line %d: %s\n", __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- a program ------------------------------------------------------------------ */

static void on_sigbus(int sig)
{
	(void)sig;
	MUST(running);
	siglongjmp(running->out_of_memory, 1);
}

/* A third one word, a third compresses, a third does not. */
static u64 word_of(u32 seed, u32 i)
{
	u64 s = (u64)seed << 20 | i;

	if (!seed)
		return 0;
	if (seed % 3 == 0)
		return seed;
	return seed % 3 == 1 && i & 3 ? seed : next_random(&s);
}

static void verify(struct program *p, u32 page)
{
	const u64 *w = (const u64 *)(p->mem + page * PAGE_SIZE);

	for (u32 i = 0; i < 512; i += 73)
		MUST(w[i] == word_of(p->want[page], i));
}

static void write_page(struct program *p, u32 page)
{
	u64 *w = (u64 *)(p->mem + page * PAGE_SIZE);

	p->want[page] = (u32)next_random(&p->random) | 1u << 31;
	for (u32 i = 0; i < 512; i++)
		w[i] = word_of(p->want[page], i);
}

static void discard(struct program *p, u32 page, u32 nr)
{
	nr = min_of(nr, NR_PAGES - page);
	MUST(!engine_madvise(p->e, p->mem + page * PAGE_SIZE, nr * PAGE_SIZE, MADV_DONTNEED));
	memset(&p->want[page], 0, nr * sizeof(p->want[0]));
}

static void *run_program(void *arg)
{
	struct program *p = arg;

	running = p;
	if (sigsetjmp(p->out_of_memory, 1)) {
		p->ended_early = true;
		return NULL;
	}
	while (!atomic32_load(p->stop)) {
		u64 r = next_random(&p->random);
		u32 page = (u32)(r >> 8) % NR_PAGES;

		if (r % 64 == 0)
			discard(p, page, 1 + (u32)(r >> 40) % 128);
		verify(p, page);
		if (r & 128)
			write_page(p, page);
	}
	return NULL;
}

/* ---- a member --------------------------------------------------------------------- */

static struct engine *be_born(struct member *m)
{
	struct engine_config cfg = {
		.flags = next_random(&m->random) % 8 ? 0 : ENGINE_NO_ZSWAP,
		.pager = getenv("QUIRE_PAGER"),
		.join = all.tree,
		.segment_fd = -1,
		.store_dir = getenv("TMPDIR"),
		.store_max = 256 * MIB,
		.envp = environ,
	};
	struct engine *e;

	MUST(!engine_create(&cfg, &e));
	MUST(!engine_start(e));
	return e;
}

/* A group that all share, or one of its own below. */
static struct memcg_id join_group(struct member *m, struct engine *e, bool *ret_own)
{
	struct memcg_id id = all.group[next_random(&m->random) % NR_GROUPS];
	char name[32];

	*ret_own = next_random(&m->random) % 2 == 0;
	if (!*ret_own)
		return id;
	snprintf(name, sizeof(name), "m%u.%llu", m->nr, (unsigned long long)m->nr_lives);
	MUST(!engine_group_create(e, id, name, &id));
	m->nr_groups++;
	return id;
}

/*
 * Nothing is mapped any more.  Charges only where nobody else has any: who leaves gives
 * back whatever it was charged, so that it could not be seen later.  Stocks are kept.
 */
static void check_empty(struct engine *e, struct memcg_id id, bool own)
{
	const struct store *store = zswap_backing(&e->zswap);

	engine_check(e);
	MUST(stat_read(&e->mm.pages.table.nr_live) == 0);
	MUST(zspool_nr_objects(e->zswap.pool) == 0);
	MUST(!store || stat_read(&store->bytes_live) == 0);
	if (!own)
		return;
	MUST(memcg_usage(all.tree, id, COUNTER_SWAP) == 0);
	MUST(memcg_zswap_bytes(all.tree, id) == 0);
	MUST(memcg_usage(all.tree, id, COUNTER_MEMORY) <= STOCK_BATCH * (e->nr_fault_threads + 3));
}

static void start_programs(struct member *m, struct engine *e, struct memcg_id id,
			   struct atomic32 *stop)
{
	for (u32 i = 0; i < NR_THREADS; i++) {
		struct program *p = &m->program[i];
		void *mem;

		MUST(!engine_mmap(e, id, NULL, NR_PAGES * PAGE_SIZE, RW, ANON, &mem));
		memset(p->want, 0, sizeof(p->want));
		p->e = e;
		p->mem = mem;
		p->random = next_random(&m->random);
		p->ended_early = false;
		p->stop = stop;
		MUST(!pthread_create(&p->id, NULL, run_program, p));
	}
}

static void live(struct member *m)
{
	struct engine *e = be_born(m);
	struct atomic32 stop = { 0 };
	bool own;
	struct memcg_id id = join_group(m, e, &own);

	start_programs(m, e, id, &stop);
	for (u32 i = 0; i < 2; i++) {
		usleep((u32)(next_random(&m->random) % 500000));
		engine_check(e);
		m->nr_checks++;
	}
	/* Removed while they page: what they have and get is the shared group's. */
	if (own && next_random(&m->random) & 1) {
		MUST(!engine_group_remove(e, id, ENGINE_REMOVE_REPARENT));
		own = false;
		usleep((u32)(next_random(&m->random) % 100000));
	}
	atomic32_store(&stop, 1);
	for (u32 i = 0; i < NR_THREADS; i++) {
		MUST(!pthread_join(m->program[i].id, NULL));
		m->nr_early += m->program[i].ended_early;
	}
	if (next_random(&m->random) & 1) {
		for (u32 i = 0; i < NR_THREADS; i++)
			MUST(!engine_munmap(e, m->program[i].mem, NR_PAGES * PAGE_SIZE));
		check_empty(e, id, own);
		m->nr_empty++;
	}
	if (own)
		MUST(!engine_group_remove(e, id, ENGINE_REMOVE_DISCARD));
	engine_destroy(e);
	m->nr_lives++;
}

static void *run_member(void *arg)
{
	struct member *m = arg;

	while (os_now_ns() < all.deadline_ns)
		live(m);
	return NULL;
}

/* ---- the whole ---------------------------------------------------------------------- */

static u32 nr_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	u32 nr = 0;

	for (int c; (c = fgetc(f)) != EOF;)
		nr += c == '\n';
	fclose(f);
	return nr;
}

static void nothing_left(struct memcg_tree *t)
{
	struct memcg_id id = { 0 };
	struct memcg_stats s;

	ASSERT_EQ(memcg_nr_dying(t), 0u);
	memcg_check(t);
	while ((id = memcg_next(t, MEMCG_ROOT, id)).v) {
		ASSERT_EQ(memcg_usage(t, id, COUNTER_MEMORY), 0u);
		ASSERT_EQ(memcg_usage(t, id, COUNTER_SWAP), 0u);
		ASSERT_EQ(memcg_usage(t, id, COUNTER_MEMSW), 0u);
		ASSERT_EQ(memcg_zswap_bytes(t, id), 0u);
	}
	memcg_stats_read(t, MEMCG_ROOT, &s);
	for (u32 i = 0; i < MEMCG_NR_STATS; i++)
		if (memcg_stat_is_gauge((enum memcg_stat)i) && s.v[i])
			FAIL("gauge %u is %llu", i, (unsigned long long)s.v[i]);
}

static void run_members(u32 seconds)
{
	all.deadline_ns = os_now_ns() + seconds * NSEC_PER_SEC;
	for (u32 i = 0; i < NR_MEMBERS; i++) {
		all.member[i].nr = i;
		all.member[i].random = seconds * 100 + i;
		ASSERT_EQ(pthread_create(&all.member[i].id, NULL, run_member, &all.member[i]), 0);
	}
	for (u32 i = 0; i < NR_MEMBERS; i++)
		ASSERT_EQ(pthread_join(all.member[i].id, NULL), 0);
}

static void report(u32 seconds)
{
	u64 v[5] = { 0 };
	struct memcg_stats s;

	for (u32 i = 0; i < NR_MEMBERS; i++) {
		const struct member *m = &all.member[i];

		v[0] += m->nr_lives;
		v[1] += m->nr_empty;
		v[2] += m->nr_checks;
		v[3] += m->nr_early;
		v[4] += m->nr_groups;
	}
	memcg_stats_read(all.tree, MEMCG_ROOT, &s);
	printf("# %u s: %llu members came and went, %llu of them empty; %llu checks, %llu threads "
	       "out of memory, %llu groups\n",
	       seconds, (unsigned long long)v[0], (unsigned long long)v[1],
	       (unsigned long long)v[2], (unsigned long long)v[3], (unsigned long long)v[4]);
	printf("# pages unmapped %llu, compressed %llu, stored %llu, mapped back %llu, written back "
	       "%llu (%llu in vain, %llu refused); swap_stale_handoff %llu\n",
	       (unsigned long long)s.v[MEMCG_STAT_PGUNMAP],
	       (unsigned long long)s.v[MEMCG_STAT_ZSWPOUT],
	       (unsigned long long)s.v[MEMCG_STAT_PSWPOUT],
	       (unsigned long long)s.v[MEMCG_STAT_PGSOFTFAULT],
	       (unsigned long long)s.v[MEMCG_STAT_ZSWPWB],
	       (unsigned long long)s.v[MEMCG_STAT_ZSWPWB_STALE],
	       (unsigned long long)s.v[MEMCG_STAT_ZSWPWB_FAILED],
	       (unsigned long long)s.v[MEMCG_STAT_SWAP_STALE_HANDOFF]);
}

static u32 nr_seconds(void)
{
	const char *text = getenv("QUIRE_RECIPE_SECONDS");

	return text ? (u32)atoi(text) : 60;
}

/* Kernels without userfaultfd, and what stays for good of the first members. */
static void warm_up(void)
{
	struct engine_config cfg = { .pager = getenv("QUIRE_PAGER"), .join = all.tree };
	struct engine *e;
	int err;

	ASSERT_OK(engine_create(&cfg, &e));
	err = engine_start(e);
	if (err == -EPERM || err == -ENOSYS)
		SKIP("no userfaultfd here: %s", engine_why(e));
	ASSERT_OK(err);
	engine_destroy(e);
	run_members(1);
}

TEST(members)
{
	u32 seconds = nr_seconds() * 3 / 4, mappings;
	char name[8];

	ASSERT_OK(memcg_tree_create(&all.meta, &all.tree));
	signal(SIGBUS, on_sigbus);
	for (u32 i = 0; i < NR_GROUPS; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		ASSERT_OK(memcg_create(all.tree, MEMCG_ROOT, name, &all.group[i]));
		memcg_set_max(all.tree, all.group[i], COUNTER_MEMORY,
			      (i % 2 ? 2 * MIB : MIB) / PAGE_SIZE);
	}
	warm_up();
	nothing_left(all.tree);
	mappings = nr_mappings();
	run_members(seconds);
	report(seconds);
	nothing_left(all.tree);
	ASSERT_EQ(memcg_nr_descendants(all.tree, MEMCG_ROOT), NR_GROUPS);
	ASSERT_LE(nr_mappings(), mappings + MORE_MAPPINGS);
	if (seconds >= 15) /* else it was no test of it */
		ASSERT_GT(memcg_stat_read(all.tree, MEMCG_ROOT, MEMCG_STAT_SWAP_STALE_HANDOFF), 0u);
	memcg_tree_close(all.tree);
	ASSERT_EQ(stat_read(&all.meta.bytes), 0u);
}

/* ---- processes ----------------------------------------------------------------------- */

#define NR_RUNS 3u

static char build_dir[512], work_dir[512];

/* One run with two programs below it, all in one process group. */
static pid_t start_run(u32 n)
{
	char quire[600], script[1500], group[8];
	pid_t pid = fork();

	if (pid)
		return pid;
	setpgid(0, 0);
	snprintf(quire, sizeof(quire), "%s/quire", build_dir);
	snprintf(group, sizeof(group), "g%u", n);
	snprintf(script, sizeof(script),
		 "%s/tests/limit_eater --use 8M --rounds 99 --threads 2 --pattern random & "
		 "%s/tests/limit_eater --use 4M --rounds 99 --pattern churn & wait",
		 build_dir, build_dir);
	if (!freopen("out", "a", stderr) || !freopen("out", "a", stdout))
		_exit(2);
	execl(quire, quire, "run", "--tree", "recipe", "--group", group, "--max",
	      n % 2 ? "2M" : "4M", "--", "sh", "-c", script, NULL);
	_exit(2);
}

static void reap_all(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/* Processes that nobody owns any more are ours to wait for. */
static u32 kill_at_random(u32 seconds)
{
	u64 random = seconds, end = os_now_ns() + seconds * NSEC_PER_SEC;
	pid_t run[NR_RUNS];
	u32 nr = 0;

	ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	for (u32 i = 0; i < NR_RUNS; i++)
		run[i] = start_run(i);
	while (os_now_ns() < end) {
		u32 i = (u32)next_random(&random) % NR_RUNS;

		usleep((u32)(next_random(&random) % 600000));
		ASSERT_EQ(kill(-run[i], SIGKILL), 0);
		while (waitpid(-run[i], NULL, 0) > 0)
			;
		run[i] = start_run(i);
		nr++;
	}
	usleep(300000); /* the last of them has made its group of processes */
	for (u32 i = 0; i < NR_RUNS; i++)
		(void)kill(-run[i], SIGKILL);
	reap_all();
	return nr + NR_RUNS;
}

/* What is on the counters above what any handle has: kills in the middle of a charge. */
static u64 ghosts(struct memcg_tree *t)
{
	u64 before = memcg_usage(t, MEMCG_ROOT, COUNTER_MEMORY) +
		     memcg_usage(t, MEMCG_ROOT, COUNTER_SWAP);

	ASSERT_OK(memcg_recount(t));
	return before - memcg_usage(t, MEMCG_ROOT, COUNTER_MEMORY) -
	       memcg_usage(t, MEMCG_ROOT, COUNTER_SWAP);
}

static void set_up_dirs(void)
{
	const char *tmp = getenv("TMPDIR"), *build = getenv("QUIRE_BUILD");
	char swap[600];

	snprintf(work_dir, sizeof(work_dir), "%s/recipe.%d", tmp ? tmp : "/var/tmp", getpid());
	ASSERT_NOT_NULL(realpath(build ? build : "build", build_dir));
	snprintf(swap, sizeof(swap), "%s/swap", work_dir);
	ASSERT_EQ(mkdir(work_dir, 0700), 0);
	ASSERT_EQ(mkdir(swap, 0700), 0);
	ASSERT_EQ(setenv("XDG_RUNTIME_DIR", work_dir, 1), 0);
	ASSERT_EQ(setenv("QUIRE_SWAP_DIR", swap, 1), 0);
	ASSERT_EQ(chdir(work_dir), 0);
}

TEST(processes)
{
	u32 seconds = nr_seconds() / 4 + 1, nr;
	struct meta meta = { 0 };
	struct memcg_stats s;
	struct memcg_tree *t;
	u64 nr_ghosts;
	int fd;

	set_up_dirs();
	nr = kill_at_random(seconds);
	fd = open("quire/recipe", O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_OK(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &t));
	nr_ghosts = ghosts(t);
	memcg_stats_read(t, MEMCG_ROOT, &s);
	printf("# %u s: %u runs of three processes killed; %u found no room; pages unmapped %llu, "
	       "compressed %llu; swap_stale_handoff %llu; ghost charges %llu pages\n",
	       seconds, nr, member_nr_refused(t), (unsigned long long)s.v[MEMCG_STAT_PGUNMAP],
	       (unsigned long long)s.v[MEMCG_STAT_ZSWPOUT],
	       (unsigned long long)s.v[MEMCG_STAT_SWAP_STALE_HANDOFF],
	       (unsigned long long)nr_ghosts);
	ASSERT_GT(s.v[MEMCG_STAT_PGUNMAP], 1000u);
	ASSERT_EQ(member_nr_refused(t), 0u);
	nothing_left(t);
	ASSERT_EQ(test_nr_files("swap"), 0u);
	memcg_tree_close(t);
	close(fd);
	unlink("out");
}
