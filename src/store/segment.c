/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - the files of a log store and the life of their segments.
 *
 * Owns: opening the unlinked file, growing it by fallocate, the state lists of
 * internal.h's diagram, giving old space back.  It does not know what an object
 * looks like (log.c) nor who wants it (clean.c).
 *
 * Space: s.bytes_file counts the segments that hold space in our file, BAD and
 * ZOMBIE included; it never passes max_bytes.  SEG_RESERVE free segments are
 * kept from normal puts, so that cleaning can always make a move.
 *
 * Locks: log.lock, dropped around every system call that may block.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/fmt.h"
#include "base/os.h"
#include "store/internal.h"

#define NAME_TRIES 16

/* ---- the file ---------------------------------------------------------------- */

/* A file with a random name, unlinked at once: no O_TMPFILE here. */
static int open_named(const char *dir, int flags)
{
	char path[sizeof(((struct store *)0)->dir) + 40];
	u64 random;
	int fd = -EEXIST;

	for (int i = 0; i < NAME_TRIES && fd == -EEXIST; i++) {
		int err = os_random(&random, sizeof(random));

		if (err)
			return err;
		(void)fmt_str(path, sizeof(path), "%s/.quire-%016llx", dir,
			      (unsigned long long)random);
		fd = os_open(path, flags | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	}
	if (fd >= 0)
		(void)os_unlink(path);
	return fd;
}

static int open_unlinked(const char *dir, int flags)
{
	int fd = os_open(dir, flags | O_TMPFILE | O_EXCL, 0600);

	if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -ENOENT)
		return open_named(dir, flags);
	return fd;
}

/*
 * Space for a segment.  Without fallocate the writes extend the file and may
 * still end in -ENOSPC, which a put survives.
 */
static int allocate_seg(int fd, u32 seg)
{
	int err = os_fallocate(fd, 0, seg_off(seg), SEG_SIZE);

	if (err == -EOPNOTSUPP)
		return 0;
	return err == -EFBIG || err == -EDQUOT ? -ENOSPC : err;
}

/* Does a block of this file really go by direct I/O? */
static bool direct_works(int fd, u8 *block)
{
	long n = os_pread(fd, block, PAGE_SIZE, 0);

	return n != -EINVAL;
}

void log_free_seg_locked(struct log *lg, struct log_file *f, u32 seg)
{
	struct log_seg *g = seg_at(f, seg);

	g->state = SEG_FREE;
	g->mark = (u32)(os_now_ns() / NSEC_PER_SEC);
	ilist_add_head(&lg->free, segs_in(f), seg);
	if (lg->free.nr > SEG_RESERVE + SEG_FULL_UNTIL)
		stat_set(&lg->s.full, 0);
}

/*
 * Segments up to the reserve, so that the file can work at all.  Called before
 * the file is published: the lock would not be needed, but the lists say so.
 */
static int fill_reserve(struct log *lg, struct log_file *f)
{
	for (u32 i = 0; i < SEG_RESERVE; i++) {
		u32 seg = xtable_alloc(&f->segs, XTABLE_MAY_GROW);
		int err;

		if (!seg)
			return -ENOMEM;
		err = allocate_seg(f->fd, seg);
		if (err)
			return err;
		mutex_lock(&lg->lock);
		log_free_seg_locked(lg, f, seg);
		mutex_unlock(&lg->lock);
		stat_add(&lg->s.bytes_file, SEG_SIZE);
	}
	return 0;
}

static int open_direct_or_plain(struct log *lg)
{
	int fd = open_unlinked(lg->s.dir, O_RDWR | O_CLOEXEC | O_DIRECT);

	lg->s.direct = fd >= 0;
	if (fd == -EINVAL)
		fd = open_unlinked(lg->s.dir, O_RDWR | O_CLOEXEC);
	return fd;
}

static int free_file_slot(const struct log *lg)
{
	for (int i = 0; i < STORE_MAX_FILES; i++)
		if (lg->file[i].kind == FILE_NONE)
			return i;
	return -EMFILE;
}

/* Without its number a file is not known again, and not read by others: st is zeros. */
static struct log_origin origin_of(int fd)
{
	struct stat st = { 0 };

	(void)!os_fstat(fd, &st);
	return (struct log_origin){ os_gettid(), fd, st.st_dev, st.st_ino };
}

/* Open our file.  Only one thread may be in here (the first put, or open). */
int log_open_file(struct log *lg)
{
	int i = free_file_slot(lg);
	struct log_origin origin;
	struct log_file *f;
	int err;

	if (i < 0)
		return i;
	f = &lg->file[i];
	f->fd = open_direct_or_plain(lg);
	if (f->fd < 0)
		return f->fd;
	origin = origin_of(f->fd);
	f->alive_wr = -1;
	err = xtable_init(&f->segs, lg->meta, "quire: segments", sizeof(struct log_seg),
			  (u32)min_of(lg->s.max_bytes >> SEG_SHIFT, (u64)LOG_MAX_SEGS) + 2);
	if (err)
		goto close_fd;
	err = fill_reserve(lg, f);
	if (err)
		goto exit_segs;
	if (lg->s.direct && !direct_works(f->fd, lg->writer[0].buf)) {
		(void)os_fcntl(f->fd, F_SETFL, O_RDWR);
		lg->s.direct = false;
	}
	mutex_lock(&lg->lock);
	f->kind = FILE_OWN;
	lg->own = i;
	lg->origin = origin;
	mutex_unlock(&lg->lock);
	return 0;

exit_segs:
	stat_sub(&lg->s.bytes_file, lg->free.nr * SEG_SIZE);
	ilist_init(&lg->free);
	xtable_exit(&f->segs);
close_fd:
	(void)os_close(f->fd);
	return err;
}

void log_close_file(struct log *lg, u32 file)
{
	struct log_file *f = &lg->file[file];

	(void)os_close(f->fd);
	if (f->alive_wr >= 0)
		(void)os_close(f->alive_wr);
	xtable_exit(&f->segs);
	mutex_lock(&lg->lock);
	f->kind = FILE_NONE;
	mutex_unlock(&lg->lock);
}

/* ---- growth -------------------------------------------------------------------- */

/* A segment number without space: a hole, or the next of the file; 0: none. */
static u32 take_hole_locked(struct log *lg, struct log_file *f)
{
	u32 seg = lg->hole.head;

	if (seg) {
		ilist_del(&lg->hole, segs_in(f), seg);
		return seg;
	}
	return xtable_alloc(&f->segs, XTABLE_MAY_GROW);
}

/* One more free segment; the lock is dropped meanwhile. */
static int grow_file_locked(struct log *lg, struct log_file *f)
{
	u32 seg;
	int err;

	if (stat_read(&lg->s.bytes_file) + SEG_SIZE > lg->s.max_bytes) {
		stat_set(&lg->s.full, 1);
		return -ENOSPC;
	}
	seg = take_hole_locked(lg, f);
	if (!seg)
		return -ENOSPC;
	stat_add(&lg->s.bytes_file, SEG_SIZE);
	mutex_unlock(&lg->lock);
	err = allocate_seg(f->fd, seg);
	mutex_lock(&lg->lock);
	stat_set(&lg->s.full, err == -ENOSPC);
	if (err) {
		stat_sub(&lg->s.bytes_file, SEG_SIZE);
		seg_at(f, seg)->state = SEG_HOLE;
		ilist_add_head(&lg->hole, segs_in(f), seg);
		return err;
	}
	log_free_seg_locked(lg, f, seg);
	return 0;
}

/*
 * A free segment beyond the reserve, off the list; 0: none.  Not one under a read: an
 * object that was moved away between the look at its slot and the start of the read is
 * read where it was, and shall find its old bytes there.
 */
static u32 take_free_locked(struct log *lg, struct log_file *f, u32 keep)
{
	u32 seg = lg->free.nr > keep ? lg->free.head : 0;

	while (seg && seg_at(f, seg)->nr_pins)
		seg = seg_at(f, seg)->node.next;
	if (seg)
		ilist_del(&lg->free, segs_in(f), seg);
	return seg;
}

int log_open_seg_locked(struct log *lg, u32 nr_blocks, enum put_kind kind)
{
	struct log_file *f = &lg->file[lg->own];
	u32 keep = kind == PUT_CLEAN ? 0 : SEG_RESERVE;
	struct log_seg *g;
	u32 seg;

	for (;;) {
		int err;

		/* Of what the cleaner took of its reserve the rest is its own, or it would
		 * be left with half a segment to move and no room for it. */
		if (lg->open_seg && seg_at(f, lg->open_seg)->fill + nr_blocks <= SEG_BLOCKS &&
		    lg->free.nr >= keep)
			return 0;
		if (lg->open_seg && lg->free.nr >= keep)
			log_seal_locked(lg);
		if (lg->free.nr <= keep && lg->zombie.nr)
			log_share_reap_locked(lg);
		seg = take_free_locked(lg, f, keep);
		if (seg)
			break;
		/* Others may take what we add; each of them brought one too. */
		err = grow_file_locked(lg, f);
		if (err)
			return err;
	}
	g = seg_at(f, seg);
	quire_assert(g->state == SEG_FREE && g->live == 0 && g->nr_pins == 0);
	g->state = SEG_OPEN;
	g->fill = 0;
	g->mark = 0;
	lg->open_seg = seg;
	return 0;
}

/* ---- states ---------------------------------------------------------------------- */

static u32 bucket_of(const struct log_seg *g)
{
	return min_of((u32)(g->live * SEG_BUCKETS / SEG_SIZE), SEG_BUCKETS - 1);
}

void log_reseal_locked(struct log *lg, struct log_file *f, u32 seg)
{
	struct log_seg *g = seg_at(f, seg);

	g->state = SEG_SEALED;
	g->bucket = (u8)bucket_of(g);
	ilist_add_tail(&lg->sealed[g->bucket], segs_in(f), seg);
	log_settle_locked(lg, f, seg);
}

void log_seal_locked(struct log *lg)
{
	struct log_file *f = &lg->file[lg->own];
	u32 seg = lg->open_seg;

	lg->open_seg = 0;
	log_reseal_locked(lg, f, seg);
}

/* A sealed or zombie segment of ours without content, on no list. */
static void retire_seg_locked(struct log *lg, struct log_file *f, u32 seg)
{
	struct log_seg *g = seg_at(f, seg);

	if (g->bad) {
		g->state = SEG_BAD;
	} else if (log_share_holds(lg, seg)) {
		g->state = SEG_ZOMBIE;
		ilist_add_tail(&lg->zombie, segs_in(f), seg);
	} else {
		log_free_seg_locked(lg, f, seg);
	}
}

void log_settle_locked(struct log *lg, struct log_file *f, u32 seg)
{
	struct log_seg *g = seg_at(f, seg);
	bool empty = g->live == 0 && g->nr_pins == 0;

	if (f->kind == FILE_INHERITED) {
		if (empty && g->held)
			log_share_drop_locked(f, seg);
		return;
	}
	if (g->state != SEG_SEALED)
		return; /* OPEN and CLEANING: looked at when they end */
	if (empty) {
		ilist_del(&lg->sealed[g->bucket], segs_in(f), seg);
		retire_seg_locked(lg, f, seg);
	} else if (g->bucket != bucket_of(g)) {
		ilist_del(&lg->sealed[g->bucket], segs_in(f), seg);
		g->bucket = (u8)bucket_of(g);
		ilist_add_tail(&lg->sealed[g->bucket], segs_in(f), seg);
	}
}

/* ---- giving back ------------------------------------------------------------------- */

/* The free segment that has been idle longest, if long enough; off the list. */
static u32 take_old_locked(struct log *lg, struct log_file *f)
{
	u32 now = (u32)(os_now_ns() / NSEC_PER_SEC);
	u32 seg = lg->free.tail;

	if (lg->free.nr <= SEG_RESERVE || seg_at(f, seg)->nr_pins)
		return 0;
	if (now - seg_at(f, seg)->mark < LOG_PUNCH_AFTER_NS / NSEC_PER_SEC)
		return 0;
	ilist_del(&lg->free, segs_in(f), seg);
	return seg;
}

void log_trim(struct log *lg, u32 max_segs)
{
	struct log_file *f;
	u32 seg;

	mutex_lock(&lg->lock);
	if (lg->own < 0)
		goto unlock;
	f = &lg->file[lg->own];
	if (lg->zombie.nr)
		log_share_reap_locked(lg);
	while (max_segs-- && (seg = take_old_locked(lg, f))) {
		int err;

		mutex_unlock(&lg->lock);
		err = os_fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, seg_off(seg),
				   SEG_SIZE);
		mutex_lock(&lg->lock);
		if (err) { /* cannot: keep the space, look again later */
			log_free_seg_locked(lg, f, seg);
			break;
		}
		stat_sub(&lg->s.bytes_file, SEG_SIZE);
		seg_at(f, seg)->state = SEG_HOLE;
		ilist_add_tail(&lg->hole, segs_in(f), seg);
	}
unlock:
	mutex_unlock(&lg->lock);
}

void log_reap_files(struct log *lg)
{
	for (u32 i = 0; i < STORE_MAX_FILES; i++) {
		struct log_file *f = &lg->file[i];
		bool empty;

		mutex_lock(&lg->lock);
		empty = f->kind == FILE_INHERITED && f->nr_held == 0;
		if (empty)
			f->kind = FILE_CLOSING;
		mutex_unlock(&lg->lock);
		if (!empty)
			continue;
		log_share_unmap(&f->share);
		log_close_file(lg, i);
	}
}

/* ---- checks ------------------------------------------------------------------------- */

static u32 check_list(const struct log_file *f, const struct ilist *l, enum seg_state state,
		      u64 *live)
{
	u32 nr = 0;

	for (u32 seg = l->head; seg; seg = seg_at(f, seg)->node.next) {
		const struct log_seg *g = seg_at(f, seg);

		quire_assert(++nr <= l->nr);
		quire_assert(g->state == state);
		quire_assert(g->live <= SEG_SIZE && g->fill <= SEG_BLOCKS);
		quire_assert(state == SEG_SEALED || g->live == 0);
		quire_assert(state != SEG_SEALED || g->live || g->nr_pins);
		*live += g->live;
	}
	quire_assert(nr == l->nr);
	return nr;
}

/* Quiescent: no put, get or clean in flight. */
void log_check(struct log *lg)
{
	u64 live = 0, nr = 0, nr_bad = 0;
	struct log_file *f;

	mutex_lock(&lg->lock);
	if (lg->own >= 0) {
		f = &lg->file[lg->own];
		(void)check_list(f, &lg->hole, SEG_HOLE, &live);
		nr += check_list(f, &lg->free, SEG_FREE, &live);
		nr += check_list(f, &lg->zombie, SEG_ZOMBIE, &live);
		for (u32 i = 0; i < SEG_BUCKETS; i++)
			nr += check_list(f, &lg->sealed[i], SEG_SEALED, &live);
		if (lg->open_seg) {
			nr++;
			live += seg_at(f, lg->open_seg)->live;
		}
		for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++)
			nr_bad += seg_at(f, seg)->state == SEG_BAD;
		quire_assert((nr + nr_bad) * SEG_SIZE == stat_read(&lg->s.bytes_file));
	}
	quire_assert(live + stat_read(&lg->s.bytes_inherited) == stat_read(&lg->s.bytes_live));
	for (u32 i = 0; i < STORE_MAX_FILES; i++) {
		f = &lg->file[i];
		if (f->kind != FILE_INHERITED)
			continue;
		for (u32 seg = 1; xtable_valid(&f->segs, seg); seg++)
			live += seg_at(f, seg)->live;
	}
	quire_assert(live == stat_read(&lg->s.bytes_live));
	mutex_unlock(&lg->lock);
}
