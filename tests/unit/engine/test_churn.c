/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine end to end on real userfaultfd, without the preload: memory of a
 * group far above its limit keeps its bytes and stays within the limit.
 * paging
 * time: 200
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/engine.h"
#include "test.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static struct engine *make_engine(u32 flags, const char *max, struct memcg_id *ret_group)
{
	struct engine_config cfg = {
		.flags = flags,
		.pager = getenv("QUIRE_PAGER"),
		.segment_fd = -1,
		.store_dir = getenv("TMPDIR"),
		.store_max = UINT64_MAX,
		.envp = environ,
	};
	struct engine *e;
	int err;

	ASSERT_OK(engine_create(&cfg, &e));
	ASSERT_OK(engine_group_create(e, MEMCG_ROOT, "t", ret_group));
	ASSERT_OK(engine_knob_write(e, *ret_group, "memory.max", max, strlen(max)));
	err = engine_start(e);
	if (err == -EPERM || err == -ENOSYS)
		SKIP("no userfaultfd here: %s", engine_why(e));
	ASSERT_OK(err);
	return e;
}

static u64 word_of(u64 page, u64 round)
{
	return (page + 1) * 0x9e3779b97f4a7c15ull ^ round * 0xd1342543de82ef95ull;
}

/* About 2:1 compressible. */
static void fill(u64 *p, u64 page, u64 round)
{
	u64 x = word_of(page, round);

	for (u32 i = 0; i < 512; i++)
		p[i] = i & 1 ? x + i : page;
	p[0] = x;
}

static void verify(const u64 *p, u64 page, u64 round)
{
	u64 x = word_of(page, round);

	if (p[0] != x || p[511] != x + 511 || p[256] != page)
		FAIL("page %llu round %llu: %llx, want %llx", (unsigned long long)page,
		     (unsigned long long)round, (unsigned long long)p[0], (unsigned long long)x);
}

static void show(struct engine *e)
{
	static char text[8192];
	struct fmt f;

	fmt_init(&f, text, sizeof(text));
	engine_to_text(e, &f);
	printf("%s", text);
}

static void churn(u32 flags, const char *max, size_t bytes, u32 rounds)
{
	struct memcg_id g;
	struct engine *e = make_engine(flags, max, &g);
	u64 nr = bytes / PAGE_SIZE, seed = 1;
	void *mem;
	u64 *p;

	ASSERT_OK(engine_mmap(e, g, NULL, bytes, RW, ANON, &mem));
	p = mem;
	for (u64 i = 0; i < nr; i++)
		fill(p + i * 512, i, 0);
	for (u64 i = 0; i < nr; i++)
		verify(p + i * 512, i, 0);
	for (u64 i = 0; i < nr * rounds; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		verify(p + (seed >> 33) % nr * 512, (seed >> 33) % nr, 0);
	}
	for (u64 i = 0; i < nr; i++)
		fill(p + i * 512, i, 1);
	for (u64 i = 0; i < nr; i++)
		verify(p + i * 512, i, 1);
	show(e);
	ASSERT_GT(memcg_stat_read(engine_tree(e), g, MEMCG_STAT_PGUNMAP), nr / 2);
	ASSERT_OK(engine_munmap(e, mem, bytes));
	/* What reclaim has in its hands it frees when it is done with the batch. */
	for (int i = 0; i < 2000 && memcg_usage(engine_tree(e), g, COUNTER_SWAP); i++)
		os_sleep_ns(NSEC_PER_MSEC);
	ASSERT_EQ(memcg_usage(engine_tree(e), g, COUNTER_SWAP), 0u);
	ASSERT_EQ(memcg_stat_read(engine_tree(e), g, MEMCG_STAT_ANON), 0u);
	engine_check(e);
	engine_destroy(e);
}

TEST(zswap_and_store)
{
	churn(0, "8M", 48 * MIB, 1);
}

TEST(store_only)
{
	churn(ENGINE_NO_ZSWAP, "8M", 32 * MIB, 1);
}

TEST(zswap_only)
{
	churn(ENGINE_NO_STORE, "24M", 40 * MIB, 1);
}

struct toucher {
	u64 *p;
	u64 nr, seed, round;
};

static void *touch_thread(void *arg)
{
	struct toucher *t = arg;
	u64 x = t->seed;

	for (u64 i = 0; i < t->nr; i++) {
		u64 page;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		page = (x >> 33) % t->nr;
		if (t->p[page * 512] != word_of(page, 0))
			return "wrong word";
	}
	return NULL;
}

TEST(threads_and_discard)
{
	struct memcg_id g;
	struct engine *e = make_engine(0, "8M", &g);
	u64 nr = 8192;
	struct toucher t[4];
	pthread_t th[4];
	void *mem, *other, *res;
	u64 *p;

	ASSERT_OK(engine_mmap(e, g, NULL, nr * PAGE_SIZE, RW, ANON, &mem));
	ASSERT_OK(engine_mmap(e, g, NULL, MIB, RW, ANON, &other));
	p = mem;
	for (u64 i = 0; i < nr; i++)
		fill(p + i * 512, i, 0);
	for (u32 i = 0; i < 4; i++) {
		t[i] = (struct toucher){ p, nr, i + 1, 0 };
		ASSERT_EQ(pthread_create(&th[i], NULL, touch_thread, &t[i]), 0);
	}
	for (u32 i = 0; i < 200; i++) {
		memset(other, (int)i, MIB);
		ASSERT_EQ(((u8 *)other)[i * 4096 + 5], (u8)i);
		ASSERT_OK(engine_discard(e, other, MIB));
		ASSERT_EQ(((u8 *)other)[i * 4096 + 5], 0);
	}
	for (u32 i = 0; i < 4; i++) {
		pthread_join(th[i], &res);
		if (res)
			FAIL("thread %u: %s", i, (char *)res);
	}
	ASSERT_OK(engine_munmap(e, mem, nr * PAGE_SIZE));
	ASSERT_OK(engine_munmap(e, other, MIB));
	engine_check(e);
	engine_destroy(e);
}

TEST(mremap_moves_content)
{
	struct memcg_id g;
	struct engine *e = make_engine(0, "4M", &g);
	u64 nr = 4096;
	void *mem, *to;
	u64 *p;

	ASSERT_OK(engine_mmap(e, g, NULL, nr * PAGE_SIZE, RW, ANON, &mem));
	p = mem;
	for (u64 i = 0; i < nr; i++)
		fill(p + i * 512, i, 0);
	ASSERT_OK(engine_mremap(e, mem, nr * PAGE_SIZE, 2 * nr * PAGE_SIZE, MREMAP_MAYMOVE, NULL,
				&to));
	p = to;
	for (u64 i = 0; i < nr; i++)
		verify(p + i * 512, i, 0);
	for (u64 i = nr; i < 2 * nr; i++)
		ASSERT_EQ(p[i * 512], 0u);
	ASSERT_OK(engine_mremap(e, to, 2 * nr * PAGE_SIZE, 64 * PAGE_SIZE, 0, NULL, &mem));
	p = mem;
	for (u64 i = 0; i < 64; i++)
		verify(p + i * 512, i, 0);
	engine_destroy(e);
}

static u64 metadata_bytes(struct engine *e)
{
	static const char key[] = "metadata ";
	char text[512];
	struct fmt f;

	fmt_init(&f, text, sizeof(text));
	engine_to_text(e, &f);
	return strtoull(strstr(text, key) + strlen(key), NULL, 10);
}

/* A group for each query: nothing of it is left when it is removed. */
TEST(groups_come_and_go)
{
	struct memcg_id top, g;
	struct engine *e = make_engine(0, "4M", &top);
	u64 bytes = 0;
	void *mem;

	for (u32 n = 0; n < 3000; n++) {
		ASSERT_OK(engine_group_create(e, top, "query", &g));
		ASSERT_OK(engine_mmap(e, g, NULL, 16 * PAGE_SIZE, RW, ANON, &mem));
		for (u32 i = 0; i < 4; i++)
			((u8 *)mem)[i * PAGE_SIZE] = (u8)n;
		ASSERT_OK(engine_munmap(e, mem, 16 * PAGE_SIZE));
		ASSERT_OK(engine_group_remove(e, g, ENGINE_REMOVE_EMPTY));
		/* By then as many as ever have been on their way out at a time. */
		if (n == 500)
			bytes = metadata_bytes(e);
	}
	ASSERT_EQ(metadata_bytes(e), bytes);
	ASSERT_GE(memcg_stat_read(engine_tree(e), top, MEMCG_STAT_PGFAULT), 3000u);
	engine_destroy(e);
}

TEST(fork_is_exact)
{
	struct memcg_id g;
	struct engine *e = make_engine(0, "4M", &g);
	u64 nr = 3072;
	void *mem;
	u64 *p;

	ASSERT_OK(engine_mmap(e, g, NULL, nr * PAGE_SIZE, RW, ANON, &mem));
	p = mem;
	for (u64 i = 0; i < nr; i++)
		fill(p + i * 512, i, 0);
	for (u32 n = 0; n < 10; n++) {
		int status;
		pid_t pid;

		engine_fork_prepare(e, 0);
		pid = fork();
		if (pid == 0) {
			engine_fork_child(e);
			for (u64 i = 0; i < nr; i++)
				if (p[i * 512] != word_of(i, 0) || p[i * 512 + 256] != i)
					_exit(1);
			for (u64 i = 0; i < nr; i++)
				fill(p + i * 512, i, 7);
			for (u64 i = 0; i < nr; i++)
				if (p[i * 512] != word_of(i, 7))
					_exit(2);
			_exit(0);
		}
		engine_fork_parent(e);
		ASSERT_GT(pid, 0);
		for (u64 i = n; i < nr; i += 7)
			verify(p + i * 512, i, 0);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(status, 0);
	}
	for (u64 i = 0; i < nr; i++)
		verify(p + i * 512, i, 0);
	engine_destroy(e);
}

TEST(pin_and_advise)
{
	struct memcg_id g;
	struct engine *e = make_engine(0, "8M", &g);
	u64 nr = 4096;
	void *mem;
	u64 *p;
	int err;

	ASSERT_OK(engine_mmap(e, g, NULL, nr * PAGE_SIZE, RW, ANON, &mem));
	p = mem;
	for (u64 i = 0; i < nr; i++)
		fill(p + i * 512, i, 0);
	ASSERT_OK(engine_pin(e, mem, 64 * PAGE_SIZE));
	ASSERT_OK(engine_madvise(e, mem, nr * PAGE_SIZE, MADV_PAGEOUT));
	ASSERT_OK(engine_madvise(e, p + 1024 * 512, 128 * PAGE_SIZE, MADV_WILLNEED));
	for (u64 i = 0; i < nr; i++)
		verify(p + i * 512, i, 0);
	ASSERT_OK(engine_unpin(e, mem, 64 * PAGE_SIZE));
	/* more than the limit cannot be pinned, and nothing stays pinned */
	err = engine_pin(e, mem, nr * PAGE_SIZE);
	if (err != -ENOMEM)
		show(e);
	ASSERT_EQ(err, -ENOMEM);
	for (u64 i = 0; i < nr; i++)
		verify(p + i * 512, i, 0);
	engine_destroy(e);
}
