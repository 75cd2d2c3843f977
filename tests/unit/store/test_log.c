/* SPDX-License-Identifier: Apache-2.0 */
/* tsan */
/*
 * test_log.c - the log store against a shadow: content, space, errors, both
 * ways of reading, cleaning, threads.
 */
#include <linux/fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "store_test.h"

#define NR 4000u

static struct object all[NR];

/* all[first..] with new lengths and seeds; stored. */
static int put_random(struct store *s, u32 first, u32 nr, u64 *state)
{
	for (u32 i = first; i < first + nr; i++) {
		all[i].len = random_len(state);
		all[i].seed = (u32)random_u64(state);
	}
	return put_objects(s, all, first, nr);
}

static void expect_accounts(struct store *s)
{
	u64 bytes = 0, nr = 0;

	for (u32 i = 0; i < NR; i++) {
		if (all[i].loc.v) {
			bytes += obj_size(all[i].len);
			nr++;
		}
	}
	log_check(log_of(s));
	ASSERT_EQ(stat_read(&s->bytes_live), bytes);
	ASSERT_EQ(stat_read(&s->nr_objects), nr);
	ASSERT_LE(stat_read(&s->bytes_file), s->max_bytes);
}

static void expect_content(struct store *s)
{
	for (u32 i = 0; i < NR; i++)
		if (all[i].loc.v)
			ASSERT_TRUE(content_ok(s, &all[i], i));
}

/* Places are aligned; an object is two blocks at most, and in one segment. */
static void expect_places(void)
{
	for (u32 i = 0; i < NR; i++) {
		u64 off = loc_off(all[i].loc), size = obj_size(all[i].len);

		if (!all[i].loc.v)
			continue;
		ASSERT_EQ(off % OBJ_ALIGN, 0ull);
		ASSERT_LT(all[i].loc.v, 1ull << 40);
		ASSERT_LE((off + size - 1) / PAGE_SIZE - off / PAGE_SIZE, 1ull);
		ASSERT_TRUE(off / SEG_SIZE == (off + size - 1) / SEG_SIZE);
	}
}

/* A batch somewhere, frees elsewhere, a read, a cleaning now and then. */
static void churn(struct store *s, u32 nr_steps, u64 *state)
{
	for (u32 step = 0; step < nr_steps; step++) {
		u32 nr = 1 + (u32)(random_u64(state) % STORE_MAX_BATCH);
		u32 first = (u32)(random_u64(state) % (NR - nr));
		u32 one = (u32)(random_u64(state) % NR);

		for (u32 i = first; i < first + nr; i++)
			if (all[i].loc.v)
				free_object(s, &all[i]);
		ASSERT_OK(put_random(s, first, nr, state));
		if (all[one].loc.v)
			ASSERT_TRUE(content_ok(s, &all[one], one));
		for (u32 i = 0; i < nr / 2; i++) {
			one = (u32)(random_u64(state) % NR);
			if (all[one].loc.v)
				free_object(s, &all[one]);
		}
		if (step % 50 == 49)
			(void)clean_objects(s, all, 4 * SEG_SIZE);
	}
}

static void shadow(struct store_config cfg)
{
	struct store *s = open_store(cfg, NULL);
	u64 state = 4711;

	memset(all, 0, sizeof(all));
	churn(s, 600, &state);
	expect_accounts(s);
	expect_places();
	expect_content(s);
	printf("# %s, %s: file %llu KiB, live %llu KiB, %llu cleaned\n",
	       s->direct ? "direct" : "buffered", stat_read(&s->ring) ? "io_uring" : "pread",
	       (unsigned long long)stat_read(&s->bytes_file) / KIB,
	       (unsigned long long)stat_read(&s->bytes_live) / KIB,
	       (unsigned long long)stat_read(&s->nr_cleaned));
	ASSERT_EQ(stat_read(&s->nr_read_errors), 0ull);
	ASSERT_GT(stat_read(&s->nr_cleaned), 0ull);
	free_objects(s, all, NR);
	expect_accounts(s);
	close_store(s);
}

TEST(shadow_ring)
{
	shadow((struct store_config){ .max_bytes = 64 * MIB });
}

TEST(shadow_pread)
{
	shadow((struct store_config){ .max_bytes = 64 * MIB, .force_pread = true });
}

TEST(shadow_tmpfs)
{
	shadow((struct store_config){
		.dir = "/dev/shm", .max_bytes = 64 * MIB, .allow_tmpfs = true });
}

TEST(ring_refused_is_pread)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 16 * MIB },
				     "store_ring_open:EPERM@1");
	u64 state = 3;

	memset(all, 0, sizeof(all));
	ASSERT_OK(put_random(s, 0, 40, &state));
	expect_content(s);
	ASSERT_EQ(stat_read(&s->ring), 0ull);
	free_objects(s, all, NR);
	close_store(s);
}

/* More reads than buffers, started before the first is waited for. */
TEST(many_reads_in_flight)
{
	static struct reading r[400];
	struct store *s;
	u64 state = 5;

	for (u32 mode = 0; mode < 2; mode++) {
		memset(all, 0, sizeof(all));
		s = open_store((struct store_config){ .max_bytes = 16 * MIB,
						      .force_pread = mode == 1 },
			       NULL);
		for (u32 i = 0; i < 400; i += 50)
			ASSERT_OK(put_random(s, i, 50, &state));
		for (u32 round = 0; round < 20; round++) {
			for (u32 i = 0; i < 400; i++)
				ASSERT_OK(reading_start(s, &r[i], all[i].loc, all[i].len, i));
			for (u32 i = 0; i < 400; i++) {
				u8 want[PAGE_SIZE];

				ASSERT_EQ(reading_wait(&r[i]), 0);
				fill(want, all[i].len, all[i].seed);
				ASSERT_MEM_EQ(r[i].buf, want, all[i].len);
			}
		}
		free_objects(s, all, NR);
		close_store(s);
	}
}

/* Freed while their reads wait: the segments are not written to before. */
TEST(freed_under_a_read)
{
	static struct reading r[800];
	static struct object old[800];
	struct store *s = open_store(
		(struct store_config){ .max_bytes = 6 * MIB, .force_pread = true }, NULL);
	u64 state = 6;

	memset(all, 0, sizeof(all));
	for (u32 round = 0; round < 5; round++) {
		for (u32 i = 0; i < 800; i += 50)
			ASSERT_OK(put_random(s, i, 50, &state));
		memcpy(old, all, sizeof(old));
		for (u32 i = 0; i < 800; i++)
			ASSERT_OK(reading_start(s, &r[i], old[i].loc, old[i].len, i));
		free_objects(s, all, NR);
		for (u32 i = 1000; i < 2000; i += 50)
			(void)put_random(s, i, 50, &state);
		for (u32 i = 0; i < 800; i++) {
			u8 want[PAGE_SIZE];

			ASSERT_EQ(reading_wait(&r[i]), 0);
			fill(want, old[i].len, old[i].seed);
			ASSERT_MEM_EQ(r[i].buf, want, old[i].len);
		}
		expect_content(s);
		free_objects(s, all, NR);
		expect_accounts(s);
	}
	close_store(s);
}

static struct atomic32 queue_state; /* 1: locked, 2: give it back */

static void *lock_queue(void *arg)
{
	struct log *lg = arg;

	mutex_lock(&lg->reader.lock);
	atomic32_store(&queue_state, 1);
	while (atomic32_load(&queue_state) != 2)
		os_sleep_ns(NSEC_PER_MSEC);
	mutex_unlock(&lg->reader.lock);
	return NULL;
}

struct late_read {
	struct store *s;
	struct object object;
	struct reading reading;
	int err;
};

static void *read_late(void *arg)
{
	struct late_read *l = arg;

	l->err = reading_start(l->s, &l->reading, l->object.loc, l->object.len, 0);
	if (!l->err)
		l->err = reading_wait(&l->reading);
	return NULL;
}

static u32 pins_of(struct store *s, u32 seg)
{
	struct log *lg = log_of(s);
	u32 nr;

	mutex_lock(&lg->lock);
	nr = seg_at(&lg->file[lg->own], seg)->nr_pins;
	mutex_unlock(&lg->lock);
	return nr;
}

/*
 * The place of a read is looked up, then the object is moved away and its segment is
 * free, then the read begins: the segment is not used again before it is over.
 */
TEST(moved_before_the_read_begins)
{
	static struct late_read late;
	struct store *s = open_store(
		(struct store_config){ .max_bytes = 6 * MIB, .force_pread = true }, NULL);
	u8 want[PAGE_SIZE];
	pthread_t lock, reader;
	u64 state = 12;
	u32 seg;

	memset(all, 0, sizeof(all));
	for (u32 i = 0; i < 1000; i += 50)
		ASSERT_OK(put_random(s, i, 50, &state));
	late = (struct late_read){ .s = s, .object = all[0] };
	seg = loc_seg(all[0].loc);
	ASSERT_NE(log_of(s)->open_seg, seg);
	ASSERT_EQ(pthread_create(&lock, NULL, lock_queue, log_of(s)), 0);
	while (atomic32_load(&queue_state) != 1)
		os_sleep_ns(NSEC_PER_MSEC);
	for (u32 i = 0; i < 1000; i++)
		if (loc_seg(all[i].loc) == seg)
			free_object(s, &all[i]);
	ASSERT_EQ(pthread_create(&reader, NULL, read_late, &late), 0);
	while (!pins_of(s, seg))
		os_sleep_ns(NSEC_PER_MSEC);
	for (u32 i = 1000; i < NR - 50 && !put_random(s, i, 50, &state); i += 50)
		;
	atomic32_store(&queue_state, 2);
	ASSERT_EQ(pthread_join(reader, NULL), 0);
	ASSERT_EQ(pthread_join(lock, NULL), 0);
	ASSERT_OK(late.err);
	fill(want, late.object.len, late.object.seed);
	ASSERT_MEM_EQ(late.reading.buf, want, late.object.len);
	expect_content(s);
	free_objects(s, all, NR);
	expect_accounts(s);
	close_store(s);
}

static void pin_all(struct store *s, s32 by)
{
	struct log *lg = log_of(s);
	struct log_file *f = &lg->file[lg->own];

	for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++)
		seg_at(f, seg)->nr_pins = (u16)(seg_at(f, seg)->nr_pins + by);
}

/* A segment that is full is sealed while the write of its last blocks is under way. */
TEST(not_cleaned_under_a_write)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 16 * MIB }, NULL);
	u64 state = 13;

	memset(all, 0, sizeof(all));
	for (u32 i = 0; i < 2000; i += 50)
		ASSERT_OK(put_random(s, i, 50, &state));
	for (u32 i = 0; i < 2000; i++)
		if (i % 4)
			free_object(s, &all[i]);
	pin_all(s, 1);
	ASSERT_EQ(clean_objects(s, all, 4 * SEG_SIZE), 0u);
	pin_all(s, -1);
	ASSERT_GT(clean_objects(s, all, 4 * SEG_SIZE), 0u);
	expect_content(s);
	free_objects(s, all, NR);
	expect_accounts(s);
	close_store(s);
}

/* ---- space ------------------------------------------------------------------- */

/* Batches until refused; how many objects there are then. */
static u32 fill_up(struct store *s, u64 *state)
{
	u32 nr = 0;

	while (nr + STORE_MAX_BATCH <= NR) {
		int err = put_random(s, nr, STORE_MAX_BATCH, state);

		if (err) {
			ASSERT_EQ(err, -ENOSPC);
			return nr;
		}
		nr += STORE_MAX_BATCH;
	}
	FAIL("never full");
}

static void full_store(struct store *s)
{
	u64 state = 11;
	u32 nr;

	memset(all, 0, sizeof(all));
	nr = fill_up(s, &state);
	ASSERT_GT(nr, 500u);
	ASSERT_GT(stat_read(&s->nr_enospc), 0ull);
	expect_accounts(s); /* the refused batch left nothing */
	expect_content(s);
	/* Three of four die everywhere: no segment is empty, cleaning makes room. */
	for (u32 i = 0; i < nr; i++)
		if (i % 4)
			free_object(s, &all[i]);
	ASSERT_EQ(put_random(s, nr, STORE_MAX_BATCH, &state), -ENOSPC);
	ASSERT_GT(clean_objects(s, all, 4 * SEG_SIZE), 2 * SEG_SIZE);
	ASSERT_OK(put_random(s, nr, STORE_MAX_BATCH, &state));
	expect_accounts(s);
	expect_content(s);
	free_objects(s, all, NR);
	expect_accounts(s);
	close_store(s);
}

/* One of three dies everywhere.  There is no other space, so dense segments are cleaned,
 * but no more of them than are needed. */
TEST(full_store_cleans_dense_segments)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 6 * SEG_SIZE }, NULL);
	u64 state = 11, nr_cleaned;
	u32 nr;

	memset(all, 0, sizeof(all));
	nr = fill_up(s, &state);
	ASSERT_EQ(stat_read(&s->full), 1ull);
	for (u32 i = 0; i < nr; i += 3)
		free_object(s, &all[i]);
	ASSERT_GT(clean_objects(s, all, SEG_SIZE), 0u);
	ASSERT_OK(put_random(s, nr, STORE_MAX_BATCH, &state));
	expect_accounts(s);
	expect_content(s);
	while (clean_objects(s, all, SEG_SIZE))
		;
	nr_cleaned = stat_read(&s->nr_cleaned);
	ASSERT_EQ(clean_objects(s, all, 16 * SEG_SIZE), 0u);
	ASSERT_EQ(stat_read(&s->nr_cleaned), nr_cleaned);
	free_objects(s, all, NR);
	close_store(s);
}

/* As long as it says that it is full, a pass takes dense segments: one that did not would
 * count as one in vain (reclaim/kswapd.c). */
TEST(full_store_stays_dense)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 9 * SEG_SIZE }, NULL);
	u64 state = 11;
	u32 nr;

	memset(all, 0, sizeof(all));
	nr = fill_up(s, &state);
	for (u32 i = 0; i < nr; i++)
		if (i % 20 < 9)
			free_object(s, &all[i]);
	ASSERT_GT(clean_objects(s, all, PAGE_SIZE), 0u);
	while (stat_read(&s->full))
		ASSERT_GT(clean_objects(s, all, PAGE_SIZE), 0u);
	ASSERT_GT(log_of(s)->free.nr, SEG_RESERVE + SEG_FULL_UNTIL);
	expect_accounts(s);
	free_objects(s, all, NR);
	close_store(s);
}

/* Full of puts of one object, which leave half of each block: packed together they gain. */
TEST(full_store_of_small_puts)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 6 * SEG_SIZE }, NULL);
	u32 nr = 0;
	int err = 0;

	memset(all, 0, sizeof(all));
	while (!err) {
		all[nr].len = PAGE_SIZE / 2 + 200;
		err = put_objects(s, all, nr, 1);
		nr += !err;
	}
	ASSERT_EQ(err, -ENOSPC);
	ASSERT_LT(stat_read(&s->bytes_live), stat_read(&s->bytes_file) * 3 / 4);
	/* Nothing can be read, so nothing moves: a few are tried, and no gain is claimed. */
	ASSERT_OK(failpoints_parse(&test_failpoints, "os_pread:EIO@1/1"));
	ASSERT_EQ(clean_objects(s, all, 4 * SEG_SIZE), 0u);
	ASSERT_LE(stat_read(&s->nr_read_errors), 4ull);
	memset(&test_failpoints, 0, sizeof(test_failpoints));
	ASSERT_GE(clean_objects(s, all, SEG_SIZE), SEG_SIZE);
	expect_content(s);
	expect_accounts(s);
	free_objects(s, all, NR);
	close_store(s);
}

/* A write failed here, and what lies there is of an older life: a header that would lead
 * into the middle of what was put behind it.  That is found all the same. */
TEST(cleaner_finds_what_follows_garbage)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB }, NULL);
	static _Alignas(4096) u8 block[PAGE_SIZE];
	struct obj_header h;
	struct store_loc loc;
	u64 state = 83;

	memset(all, 0, sizeof(all));
	all[0].len = 100;
	ASSERT_OK(put_objects(s, all, 0, 1));
	for (u32 i = 1; i < 20; i++)
		all[i].len = 700 + i;
	ASSERT_OK(put_objects(s, all, 1, 19));
	loc = loc_make(0, align_down(loc_off(all[0].loc), PAGE_SIZE) + PAGE_SIZE - OBJ_ALIGN);
	h = log_header(0, 3000, loc);
	memcpy(block + PAGE_SIZE - OBJ_ALIGN, &h, sizeof(h));
	free_object(s, &all[0]);
	ASSERT_EQ(pwrite(log_of(s)->file[0].fd, block, PAGE_SIZE,
			 (off_t)align_down(loc_off(loc), PAGE_SIZE)),
		  (ssize_t)PAGE_SIZE);
	for (u32 i = 20; log_of(s)->open_seg == loc_seg(loc); i++) /* sealed */
		ASSERT_OK(put_random(s, i, 1, &state));
	ASSERT_OK(put_random(s, 900, 1, &state));
	for (u32 i = 20; i < 900; i++)
		if (all[i].loc.v && loc_seg(all[i].loc) == loc_seg(loc))
			free_object(s, &all[i]);
	for (u32 i = 1; i < 20; i++)
		ASSERT_EQ(loc_seg(all[i].loc), loc_seg(loc));
	ASSERT_GT(clean_objects(s, all, SEG_SIZE / 2), 0u);
	for (u32 i = 1; i < 20; i++)
		ASSERT_NE(loc_seg(all[i].loc), loc_seg(loc));
	expect_content(s);
	expect_accounts(s);
	free_objects(s, all, NR);
	close_store(s);
}

TEST(limit_is_enospc)
{
	full_store(open_store((struct store_config){ .max_bytes = 5 * MIB }, NULL));
}

TEST(limit_of_three_segments_works)
{
	struct store *s;
	u64 state = 1;

	s = open_store((struct store_config){ .max_bytes = 3 * MIB }, NULL);
	memset(all, 0, sizeof(all));
	ASSERT_OK(put_random(s, 0, STORE_MAX_BATCH, &state));
	expect_content(s);
	free_objects(s, all, NR);
	close_store(s);
	ASSERT_EQ(store_log_open(&(struct store_config){ .dir = "/var/tmp", .max_bytes = MIB },
				 &test_meta, &s),
		  -EINVAL);
}

TEST(full_device_is_enospc)
{
	char dir[] = "/var/tmp/quire-mnt-XXXXXX", path[64];
	struct store *s;
	int fd;

	ASSERT_NOT_NULL(mkdtemp(dir));
	if (syscall(SYS_mount, "quire-test", dir, "tmpfs", 0, "size=17m")) {
		rmdir(dir);
		SKIP("cannot mount a tmpfs");
	}
	s = open_store((struct store_config){ .dir = dir, .max_bytes = GIB, .allow_tmpfs = true },
		       NULL);
	/* Somebody else fills the device: 5 MiB are left for us. */
	snprintf(path, sizeof(path), "%s/other", dir);
	fd = os_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_OK(fd);
	ASSERT_OK(os_fallocate(fd, 0, 0, 12 * MIB));
	ASSERT_OK(os_close(fd));
	full_store(s);
	ASSERT_EQ(syscall(SYS_umount2, dir, 0), 0);
	ASSERT_EQ(rmdir(dir), 0);
}

TEST(fallocate_refused_is_enospc)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 64 * MIB },
				     "os_fallocate:ENOSPC@4/1");
	u64 state = 2;
	u32 nr;

	memset(all, 0, sizeof(all));
	nr = fill_up(s, &state);
	expect_accounts(s);
	expect_content(s);
	ASSERT_EQ(stat_read(&s->bytes_file), 3 * SEG_SIZE);
	ASSERT_GT(nr, 100u);
	free_objects(s, all, NR);
	close_store(s);
}

/* ---- errors -------------------------------------------------------------------- */

static u64 nr_in_state(struct store *s, enum seg_state state)
{
	const struct log_file *f = &log_of(s)->file[0];
	u64 nr = 0;

	for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++)
		nr += seg_at(f, seg)->state == state;
	return nr;
}

TEST(write_error_loses_nothing)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB },
				     "os_pwrite:EIO@5/7");
	u64 state = 77;
	u32 nr_failed = 0;

	memset(all, 0, sizeof(all));
	for (u32 i = 0; i + 50 <= 2000; i += 50) {
		int err = put_random(s, i, 50, &state);

		ASSERT_TRUE(err == 0 || err == -EIO);
		nr_failed += err != 0;
		expect_accounts(s);
	}
	ASSERT_GT(nr_failed, 0u);
	ASSERT_GT(stat_read(&s->nr_write_errors), 0ull);
	expect_content(s);
	free_objects(s, all, NR);
	expect_accounts(s);
	ASSERT_EQ(nr_in_state(s, SEG_BAD), (u64)nr_failed); /* never used again */
	close_store(s);
}

static void read_error(bool force_pread, const char *points)
{
	struct store *s = open_store(
		(struct store_config){ .max_bytes = 32 * MIB, .force_pread = force_pread }, points);
	u64 state = 78;
	u32 nr_failed = 0, nr = 0;
	u8 buf[PAGE_SIZE];

	memset(all, 0, sizeof(all));
	ASSERT_OK(put_random(s, 0, 64, &state));
	for (u32 round = 0; round < 10; round++) {
		for (u32 i = 0; i < 64; i++, nr++) {
			int err = read_object(s, all[i].loc, all[i].len, i, buf);

			ASSERT_TRUE(err == 0 || err == -EIO);
			nr_failed += err != 0;
		}
	}
	ASSERT_TRUE(nr_failed > 0 && nr_failed < nr);
	ASSERT_EQ(stat_read(&s->nr_read_errors), (u64)nr_failed);
	expect_accounts(s);
	free_objects(s, all, NR);
	close_store(s);
}

TEST(read_error_pread)
{
	read_error(true, "os_pread:EIO@3/5");
}

/* The ring fails often, the second try with pread sometimes too. */
TEST(read_error_ring)
{
	read_error(false, "store_ring_read:EIO@2/2,os_pread:EIO@3/5");
}

TEST(ring_error_is_repeated_with_pread)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB },
				     "store_ring_read:EIO@1/2");
	u64 state = 79;

	memset(all, 0, sizeof(all));
	ASSERT_OK(put_random(s, 0, 64, &state));
	expect_content(s);
	ASSERT_EQ(stat_read(&s->nr_read_errors), 0ull);
	if (stat_read(&s->ring))
		ASSERT_GT(stat_read(&log_of(s)->reader.nr_repeated), 0ull);
	free_objects(s, all, NR);
	close_store(s);
}

/* ---- damage -------------------------------------------------------------------- */

TEST(wrong_place_is_an_error)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB }, NULL);
	u8 buf[PAGE_SIZE];
	u64 state = 80;

	memset(all, 0, sizeof(all));
	ASSERT_OK(put_random(s, 0, 64, &state));
	ASSERT_OK(read_object(s, all[5].loc, all[5].len, 5, buf));
	ASSERT_EQ(read_object(s, all[5].loc, all[5].len, 6, buf), -EIO);
	ASSERT_EQ(read_object(s, all[5].loc, all[5].len - 1, 5, buf), -EIO);
	ASSERT_EQ(read_object(s, (struct store_loc){ all[5].loc.v + 1 }, all[5].len, 5, buf), -EIO);
	ASSERT_EQ(stat_read(&s->nr_read_errors), 3ull);
	ASSERT_TRUE(content_ok(s, &all[5], 5));
	free_objects(s, all, NR);
	close_store(s);
}

/* The file is damaged behind our back: what lies there is not our object. */
TEST(damaged_header_is_an_error)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB }, NULL);
	static _Alignas(4096) u8 block[PAGE_SIZE];
	u8 buf[PAGE_SIZE];
	u64 state = 81;

	memset(all, 0, sizeof(all));
	ASSERT_OK(put_random(s, 0, 64, &state));
	ASSERT_EQ(pwrite(log_of(s)->file[0].fd, block, PAGE_SIZE,
			 (off_t)align_down(loc_off(all[9].loc), PAGE_SIZE)),
		  (ssize_t)PAGE_SIZE);
	ASSERT_EQ(read_object(s, all[9].loc, all[9].len, 9, buf), -EIO);
	free_objects(s, all, NR);
	close_store(s);
}

TEST(cleaning_survives_errors)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 32 * MIB },
				     "os_pwrite:EIO@60/3,os_pread:EIO@2/4");
	u64 state = 82;

	memset(all, 0, sizeof(all));
	for (u32 i = 0; i + 64 <= 1920; i += 64)
		(void)put_random(s, i, 64, &state);
	for (u32 i = 0; i < 1920; i++)
		if (i % 5 && all[i].loc.v)
			free_object(s, &all[i]);
	for (u32 i = 0; i < 6; i++)
		(void)clean_objects(s, all, 8 * SEG_SIZE);
	expect_accounts(s);
	memset(&test_failpoints, 0, sizeof(test_failpoints));
	expect_content(s);
	free_objects(s, all, NR);
	expect_accounts(s);
	close_store(s);
}

/* ---- the directory ----------------------------------------------------------------- */

TEST(unfit_directories)
{
	u64 bytes_free = 0;
	int status;
	pid_t pid;

	ASSERT_EQ(store_check_dir("/var/tmp/quire-no-such-dir", false, &bytes_free), -ENOENT);
	ASSERT_EQ(store_check_dir("/etc/passwd", false, &bytes_free), -ENOTDIR);
	ASSERT_EQ(store_check_dir("/dev/shm", false, &bytes_free), -EMEDIUMTYPE);
	ASSERT_EQ(bytes_free, 0ull);
	ASSERT_OK(store_check_dir("/dev/shm", true, &bytes_free));
	ASSERT_OK(store_check_dir("/var/tmp", false, &bytes_free));
	ASSERT_GT(bytes_free, (u64)MIB);

	make_dir();
	pid = fork();
	if (pid == 0) {
		if (getuid() == 0 && seteuid(65534))
			_exit(77);
		if (getuid() != 0)
			_exit(77);
		_exit(store_check_dir(test_dir, false, &bytes_free) == -EACCES ? 0 : 1);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(rmdir(test_dir), 0);
	test_dir[0] = 0;
	ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 1);
}

TEST(open_failures_leave_nothing)
{
	static const char *const points[] = { "os_open:EPERM@2",       "os_fallocate:ENOSPC@1",
					      "os_fallocate:ENOSPC@2", "os_mmap_anon:ENOMEM@1",
					      "os_mmap_anon:ENOMEM@2", "os_mmap_anon:ENOMEM@3",
					      "os_mmap_anon:ENOMEM@4" };

	make_dir();
	for (u32 i = 0; i < ARRAY_SIZE(points); i++) {
		struct store_config cfg = { .dir = test_dir, .max_bytes = 32 * MIB };
		struct store *s = NULL;

		memset(&test_meta, 0, sizeof(test_meta));
		memset(&test_thread, 0, sizeof(test_thread));
		ASSERT_OK(failpoints_parse(&test_failpoints, points[i]));
		test_thread.failpoints = &test_failpoints;
		thread_attach(&test_thread);
		ASSERT_TRUE(store_log_open(&cfg, &test_meta, &s) < 0);
		thread_detach();
		ASSERT_NULL(s);
		ASSERT_EQ(stat_read(&test_meta.bytes), 0ull);
	}
	ASSERT_EQ(rmdir(test_dir), 0);
	test_dir[0] = 0;
}

/* ---- threads -------------------------------------------------------------------------- */

#define NR_WORKERS 2u
#define NR_SLOTS 600u /* of a worker */

/* As a swap slot: its lock is the worker's and the cleaner's. */
struct slot {
	struct mutex lock;
	struct object o; /* lock */
	bool used; /* its worker's */
};

static struct slot slots[NR_WORKERS * NR_SLOTS];
static struct atomic32 stop;

struct worker {
	struct thread thread;
	struct store *s;
	u32 first;
	u64 state;
	u64 nr_bad;
	struct reading r;
};

static struct worker workers[NR_WORKERS];
static struct thread cleaner;

static bool slot_live(void *ctx, u32 owner, struct store_loc loc)
{
	struct slot *slot = (struct slot *)ctx + owner;
	bool live;

	if (owner >= ARRAY_SIZE(slots))
		return false;
	mutex_lock(&slot->lock);
	live = slot->o.loc.v == loc.v;
	mutex_unlock(&slot->lock);
	return live;
}

static bool slot_moved(void *ctx, u32 owner, struct store_loc from, struct store_loc to)
{
	struct slot *slot = (struct slot *)ctx + owner;
	bool live;

	mutex_lock(&slot->lock);
	live = slot->o.loc.v == from.v;
	if (live)
		slot->o.loc = to;
	mutex_unlock(&slot->lock);
	return live;
}

static void slot_put(struct worker *w, u32 i)
{
	static u8 data[NR_WORKERS][PAGE_SIZE];
	u8 *mine = data[w->first / NR_SLOTS];
	struct slot *slot = &slots[i];
	u32 len = random_len(&w->state), seed = (u32)random_u64(&w->state);
	struct store_put put = { .data = mine, .len = len, .owner = i };

	fill(mine, len, seed);
	if (w->s->ops->put(w->s, &put, 1)) {
		w->nr_bad++;
		return;
	}
	mutex_lock(&slot->lock);
	slot->o = (struct object){ put.ret_loc, len, seed };
	mutex_unlock(&slot->lock);
	slot->used = true;
}

/* The object may be moved, or freed by us, while the read runs. */
static void slot_read(struct worker *w, u32 i, bool free_it)
{
	struct slot *slot = &slots[i];
	struct object o;
	u8 want[PAGE_SIZE];
	int err;

	mutex_lock(&slot->lock);
	o = slot->o;
	err = reading_start(w->s, &w->r, o.loc, o.len, i);
	if (free_it)
		slot->o.loc.v = 0;
	mutex_unlock(&slot->lock);
	if (free_it) {
		w->s->ops->free(w->s, o.loc, o.len);
		slot->used = false;
	}
	if (!err)
		err = reading_wait(&w->r);
	fill(want, o.len, o.seed);
	w->nr_bad += err || memcmp(want, w->r.buf, o.len);
}

static void work(struct thread *self)
{
	struct worker *w = container_of(self, struct worker, thread);

	for (u32 n = 0; n < 6000; n++) {
		u32 i = w->first + (u32)(random_u64(&w->state) % NR_SLOTS);

		if (!slots[i].used)
			slot_put(w, i);
		else
			slot_read(w, i, random_u64(&w->state) % 2);
	}
}

static void clean_loop(struct thread *self)
{
	struct store_clean_ops up = { slot_live, slot_moved, slots };
	struct store *s = self->arg;

	while (!atomic32_load(&stop)) {
		(void)s->ops->clean(s, 4 * SEG_SIZE, &up);
		os_sleep_ns(NSEC_PER_MSEC);
	}
}

TEST(threads_against_the_cleaner)
{
	struct store *s = open_store((struct store_config){ .max_bytes = 64 * MIB }, NULL);

	for (u32 i = 0; i < NR_WORKERS * NR_SLOTS; i++) {
		memset(&slots[i], 0, sizeof(slots[i]));
		mutex_init(&slots[i].lock, "slot", LOCK_RANK_CLUSTER);
	}
	atomic32_store(&stop, 0);
	memset(&cleaner, 0, sizeof(cleaner));
	cleaner.name = "cleaner";
	cleaner.fn = clean_loop;
	cleaner.arg = s;
	for (u32 i = 0; i < NR_WORKERS; i++) {
		memset(&workers[i], 0, sizeof(workers[i]));
		workers[i].s = s;
		workers[i].first = i * NR_SLOTS;
		workers[i].state = 1000 + i;
		workers[i].thread.name = "worker";
		workers[i].thread.fn = work;
		ASSERT_OK(thread_start(&workers[i].thread));
	}
	ASSERT_OK(thread_start(&cleaner));
	for (u32 i = 0; i < NR_WORKERS; i++)
		thread_join(&workers[i].thread);
	atomic32_store(&stop, 1);
	thread_join(&cleaner);
	for (u32 i = 0; i < NR_WORKERS; i++)
		ASSERT_EQ(workers[i].nr_bad, 0ull);
	ASSERT_GT(stat_read(&s->nr_cleaned), 0ull);
	log_check(log_of(s));
	for (u32 i = 0; i < NR_WORKERS * NR_SLOTS; i++)
		if (slots[i].o.loc.v)
			free_object(s, &slots[i].o);
	ASSERT_EQ(stat_read(&s->nr_objects), 0ull);
	close_store(s);
}
