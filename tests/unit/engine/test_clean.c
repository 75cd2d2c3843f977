/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_clean.c - the store is cleaned while it is in use: random overwriting
 * leaves every segment sparse, and the file must not grow with what was written.
 * paging
 * time: 120
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/internal.h"
#include "test.h"

#define BYTES (48 * MIB)
#define NR (BYTES / PAGE_SIZE)
#define WRITES (NR * 24)

static u32 version[NR];

/* Incompressible, so that an object is a page. */
static void fill(u64 *p, u64 page)
{
	u64 x = page * 0x9e3779b97f4a7c15ull + version[page] * 0xd1342543de82ef95ull;

	for (u32 i = 0; i < PAGE_SIZE / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x + page;
	}
	p[0] = page << 32 | version[page];
}

static u64 dead_bytes(const struct store *s)
{
	u64 file = stat_read(&s->bytes_file), live = stat_read(&s->bytes_live);

	return file - min_of(file, live);
}

/* What does not matter and a segment more, or half: above a third dead it is looked for
 * segments to clean (reclaim/kswapd.c), but only those less than half live are taken. */
static u64 dead_allowed(const struct store *s)
{
	return max_of(24 * MIB, stat_read(&s->bytes_file) / 2);
}

TEST(file_does_not_grow)
{
	struct engine_config cfg = {
		.flags = ENGINE_NO_ZSWAP,
		.segment_fd = -1,
		.store_dir = getenv("TMPDIR"),
		.store_max = UINT64_MAX,
		.envp = environ,
	};
	u64 seed = 1, most = 0;
	struct memcg_id g;
	struct engine *e;
	struct store *s;
	void *mem;
	int err;

	ASSERT_OK(engine_create(&cfg, &e));
	ASSERT_OK(engine_group_create(e, MEMCG_ROOT, "t", &g));
	ASSERT_OK(engine_knob_write(e, g, "memory.max", "8M", 2));
	err = engine_start(e);
	if (err == -EPERM || err == -ENOSYS)
		SKIP("no userfaultfd here: %s", engine_why(e));
	ASSERT_OK(err);
	ASSERT_OK(engine_mmap(e, g, NULL, BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, &mem));
	for (u64 i = 0; i < NR; i++)
		fill((u64 *)mem + i * 512, i);
	s = zswap_backing(&e->zswap);
	ASSERT_NOT_NULL(s);
	for (u64 n = 0; n < WRITES; n++) {
		u64 page;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		page = (seed >> 33) % NR;
		ASSERT_EQ(((u64 *)mem)[page * 512], page << 32 | version[page]);
		version[page]++;
		fill((u64 *)mem + page * 512, page);
		most = max_of(most, stat_read(&s->bytes_file));
	}
	printf("# written %llu MiB, file at most %llu MiB, live %llu MiB, %llu segments cleaned\n",
	       (unsigned long long)(stat_read(&s->bytes_written) / MIB),
	       (unsigned long long)(most / MIB),
	       (unsigned long long)(stat_read(&s->bytes_live) / MIB),
	       (unsigned long long)stat_read(&s->nr_cleaned));
	ASSERT_GT(stat_read(&s->nr_cleaned), 0u);
	/* What lives is 40 MiB or so; a third dead, and what cleaning lags behind. */
	ASSERT_LE(most, 3 * BYTES);
	for (u64 i = 0; i < NR; i++) {
		u64 want[PAGE_SIZE / 8];

		fill(want, i);
		ASSERT_EQ(memcmp(want, (u64 *)mem + i * 512, PAGE_SIZE), 0);
	}
	/* Dead space in the end: what does not matter, or a third. */
	for (u32 i = 0; i < 600 && dead_bytes(s) > dead_allowed(s); i++)
		os_sleep_ns(50 * NSEC_PER_MSEC);
	ASSERT_LE(dead_bytes(s), dead_allowed(s));
	engine_check(e);
	engine_destroy(e);
}
