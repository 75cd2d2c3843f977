/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_now.c - reads by the thread that wants the bytes: what lies together in one, and
 * by threads that have another table of descriptors.
 * tsan
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "store_test.h"

#define NR 3000u
#define BATCH 50u

static struct object all[NR];
static struct reading now[STORE_MAX_BATCH];
static struct store_get *gets[STORE_MAX_BATCH];
static _Alignas(4096) u8 now_buf[32 * PAGE_SIZE];

/* With nr objects, put one behind the other. */
static struct store *begin(u32 nr, const char *points)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB }, points);
	u64 state = 80;

	memset(all, 0, sizeof(all));
	for (u32 i = 0; i < nr; i++) {
		all[i].len = random_len(&state);
		all[i].seed = (u32)random_u64(&state);
	}
	for (u32 i = 0; i < nr; i += BATCH)
		ASSERT_OK(put_objects(s, all, i, BATCH));
	return s;
}

static void end(struct store *s)
{
	for (u32 i = 0; i < NR; i++)
		if (all[i].loc.v)
			ASSERT_TRUE(content_ok(s, &all[i], i));
	free_objects(s, all, NR);
	close_store(s);
}

/* Objects first, first + step, ... */
static void prepare(u32 first, u32 nr, u32 step)
{
	for (u32 i = 0; i < nr; i++) {
		u32 k = first + i * step;

		reading_prepare(&now[i], all[k].loc, all[k].len, k);
		gets[i] = &now[i].get;
	}
}

static int get_now(struct store *s, u32 first, u32 nr, u32 step)
{
	struct store_now read = { now_buf, sizeof(now_buf), -1, 0 };

	prepare(first, nr, step);
	return s->ops->get_now(s, gets, nr, &read);
}

static int get_here(struct store *s)
{
	struct store_now read = { now_buf, sizeof(now_buf), s->ops->here(s, all[0].loc), 0 };

	if (read.here < 0)
		return read.here;
	prepare(0, BATCH, 1);
	return s->ops->get_now(s, gets, BATCH, &read);
}

/* The first n that were prepared. */
static void expect_read(int n)
{
	u8 want[PAGE_SIZE];

	for (int i = 0; i < n; i++) {
		const struct object *o = &all[now[i].get.owner];

		ASSERT_OK(reading_wait(&now[i]));
		fill(want, o->len, o->seed);
		ASSERT_TRUE(!memcmp(want, now[i].buf, o->len));
	}
}

TEST(neighbours_are_one_read)
{
	struct store *s = begin(NR, NULL);
	int n;

	for (u32 first = 0; first + BATCH <= 1000; first += (u32)n) {
		u64 nr_reads = stat_read(&s->bytes_read);

		n = get_now(s, first, BATCH, 1);
		/* As many as fit. */
		ASSERT_GT(n, 20);
		ASSERT_LE(n, (int)BATCH);
		expect_read(n);
		ASSERT_GT(stat_read(&s->bytes_read), nr_reads);
	}
	/* Megabytes apart: the first alone; nothing stays pinned of the others. */
	ASSERT_EQ(get_now(s, 0, 3, 1000), 1);
	expect_read(1);
	end(s);
}

/* A scan goes downwards too. */
TEST(neighbours_in_front)
{
	struct store *s = begin(NR, NULL);
	u64 nr_reads = stat_read(&s->nr_reads), nr_bytes = stat_read(&s->bytes_read);
	int n = get_now(s, 900, BATCH, (u32)-1);

	ASSERT_GT(n, 20);
	expect_read(n);
	/* What lies between is read once. */
	ASSERT_EQ(stat_read(&s->nr_reads), nr_reads + 1);
	ASSERT_LE(stat_read(&s->bytes_read), nr_bytes + sizeof(now_buf));
	/* Some 50 KiB apart, and megabytes: not worth it, whichever comes first. */
	ASSERT_EQ(get_now(s, 2000, 2, 25), 1);
	expect_read(1);
	ASSERT_EQ(get_now(s, 2025, 2, (u32)-25), 1);
	expect_read(1);
	ASSERT_EQ(get_now(s, 2000, 3, (u32)-1000), 1);
	expect_read(1);
	end(s);
}

/* ---- by the store's threads ------------------------------------------------------ */

/* As many as fit are one operation of the device; returns how many. */
static int get_together(struct store *s, u32 first)
{
	u64 nr_reads = stat_read(&s->nr_reads);
	int n;

	prepare(first, BATCH, 1);
	n = s->ops->get(s, gets, BATCH);
	ASSERT_GT(n, 20);
	expect_read(n);
	ASSERT_EQ(stat_read(&s->nr_reads), nr_reads + 1);
	return n;
}

static void read_together(bool force_pread)
{
	struct store *s = begin(NR, NULL);

	log_of(s)->reader.force_pread = force_pread;
	for (u32 first = 0; first + BATCH <= NR;)
		first += (u32)get_together(s, first);
	/* Several at a time; and more than there are buffers for, the last of them long. */
	prepare(0, 60, 1);
	for (u32 i = 0; i < 60; i += 15)
		ASSERT_EQ(s->ops->get(s, gets + i, 15), 15);
	expect_read(60);
	prepare(0, STORE_MAX_BATCH, 1);
	for (u32 i = 0; i < STORE_MAX_BATCH - 10; i++)
		ASSERT_EQ(s->ops->get(s, gets + i, 1), 1);
	ASSERT_EQ(s->ops->get(s, gets + STORE_MAX_BATCH - 10, 10), 10);
	expect_read(STORE_MAX_BATCH);
	end(s);
}

TEST(read_together)
{
	read_together(false);
	read_together(true);
}

TEST(read_together_downwards)
{
	struct store *s = begin(NR, NULL);
	int n;

	prepare(900, BATCH, (u32)-1);
	n = s->ops->get(s, gets, BATCH);
	ASSERT_GT(n, 20);
	expect_read(n);
	end(s);
}

/* What the ring could not read is read again; where that fails, all of it has. */
TEST(read_together_fails)
{
	struct store *s = begin(BATCH, "store_ring_read:EIO@1/1");
	int n;

	(void)get_together(s, 0);
	ASSERT_OK(failpoints_parse(&test_failpoints, "store_ring_read:EIO@1/1,os_pread:EIO@1/1"));
	prepare(0, BATCH, 1);
	n = s->ops->get(s, gets, BATCH);
	ASSERT_GT(n, 20);
	for (int i = 0; i < n; i++)
		ASSERT_EQ(reading_wait(&now[i]), -EIO);
	memset(&test_failpoints, 0, sizeof(test_failpoints));
	end(s); /* nothing is lost, or pinned */
}

TEST(read_fails)
{
	struct store *s = begin(BATCH, "store_read_now:EIO@1/1");
	int n = get_now(s, 0, BATCH, 1);

	ASSERT_GT(n, 1);
	for (int i = 0; i < n; i++)
		ASSERT_EQ(reading_wait(&now[i]), -EIO);
	/* Nothing is lost. */
	end(s);
}

/* ---- by a thread of the program; here both tables are one ----------------------- */

static void expect_here(struct store *s)
{
	int n = get_here(s);

	ASSERT_GT(n, 1);
	expect_read(n);
}

/* Full of bytes that are no objects, at the number where the store has its file. */
static int put_other_file(struct store *s)
{
	static const u8 block[MIB] = { 1, 2, 3 };
	int fd = (int)atomic64_load(&log_of(s)->here) - 1, other = memfd_create("other", 0);

	ASSERT_GT(fd, 900);
	ASSERT_EQ(write(other, block, sizeof(block)), (ssize_t)sizeof(block));
	ASSERT_EQ(dup2(other, fd), fd);
	close(other);
	return fd;
}

TEST(read_by_the_program)
{
	struct store *s = begin(BATCH, NULL);
	int other;

	expect_here(s);
	expect_here(s);
	ASSERT_EQ(stat_read(&s->nr_here_opened), 1ull);
	/* A look before the read finds that it is not ours, and it stays as it is. */
	other = put_other_file(s);
	expect_here(s);
	ASSERT_EQ(stat_read(&s->nr_here_opened), 2ull);
	ASSERT_EQ(close(other), 0);
	store_forget_here(s);
	ASSERT_EQ(atomic64_load(&log_of(s)->here), 0ull);
	end(s);
}

/* It is put there between the look and the read. */
TEST(other_file_is_no_object)
{
	struct store *s = begin(BATCH, NULL);
	struct log *lg = log_of(s);
	struct stat st;
	int other, n;

	expect_here(s);
	other = put_other_file(s);
	ASSERT_EQ(fstat(other, &st), 0);
	lg->origin.dev = st.st_dev;
	lg->origin.ino = st.st_ino;
	n = get_here(s);
	ASSERT_GT(n, 1);
	for (int i = 0; i < n; i++)
		ASSERT_EQ(reading_wait(&now[i]), -EIO);
	store_forget_here(s);
	end(s);
}

/* The page cache is not used by others either. */
TEST(without_direct_io)
{
	struct store *s = open_store((struct store_config){ .dir = "/dev/shm",
							    .max_bytes = 32 * MIB,
							    .allow_tmpfs = true },
				     NULL);

	memset(all, 0, sizeof(all));
	for (u32 i = 0; i < BATCH; i++)
		all[i].len = 300 + i;
	ASSERT_OK(put_objects(s, all, 0, BATCH));
	expect_here(s);
	store_forget_here(s);
	end(s);
}

static struct store *store_of_both;

static void *find_it_gone(void *arg)
{
	(void)arg;
	for (u32 i = 0; i < 200; i++) {
		int fd = store_of_both->ops->here(store_of_both, all[0].loc);

		if (fd >= 0 && i % 3 == 0)
			close(fd); /* the other's, perhaps: EBADF */
	}
	return NULL;
}

static u32 nr_descriptors(void)
{
	u32 nr = 0;

	for (int fd = 0; fd < 1100; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

/* Two threads open what the program closes again and again: none is forgotten. */
TEST(opened_by_two)
{
	struct store *s = begin(BATCH, NULL);
	u32 before = nr_descriptors();
	pthread_t t[2];

	store_of_both = s;
	for (u32 i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, find_it_gone, NULL), 0);
	for (u32 i = 0; i < 2; i++)
		ASSERT_EQ(pthread_join(t[i], NULL), 0);
	store_forget_here(s);
	ASSERT_EQ(nr_descriptors(), before);
	end(s);
}

/* The thread whose table it was is gone; or its number is another file's. */
TEST(file_is_not_found)
{
	struct store *s = begin(BATCH, NULL);
	struct log *lg = log_of(s);

	lg->origin.tid = 1 << 30;
	ASSERT_EQ(get_here(s), -ENOENT);
	lg->origin.tid = os_gettid();
	lg->origin.fd = memfd_create("other", 0);
	/* Direct I/O is not for that file. */
	ASSERT_LT(get_here(s), 0);
	lg->s.direct = false;
	ASSERT_EQ(get_here(s), -EBADF);
	/* An ancestor's. */
	lg->own++;
	ASSERT_EQ(get_here(s), -EBADF);
	lg->own--;
	ASSERT_EQ(stat_read(&s->nr_here_refused), 4ull);
	close(lg->origin.fd);
	end(s);
}
