/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - objects in an append-only file: put, get, free (struct store_ops).
 *
 * Owns: the format of objects and blocks, packing, the write buffers, the
 * accounting of live bytes.  It does not choose segments (segment.c), does not
 * move objects (clean.c), does not run reads (ring.c) and knows no hashes: the
 * header check catches a wrong place, the slot's hash a wrong content.
 *
 * A put packs up to LOG_WRITE_BLOCKS blocks, end to end, and writes them with
 * one pwrite; the tail of the last block is padding, since a block is never
 * written twice.  The cleaner looks for headers, and asks their owners.
 *
 * Entry points: store_log_open() and the ops.  A segment with a read or write
 * in flight is pinned: it is neither reused nor punched.
 *
 * Locks: log.lock; never held over I/O or upcalls.
 */
#include <errno.h>
#include <linux/fadvise.h>
#include <linux/fs.h>
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"
#include "base/probe.h"
#include "store/internal.h"

#define PUT_TRIM_SEGS 2u

/* ---- object headers ------------------------------------------------------------- */

static u16 header_check(u32 owner, u32 len, struct store_loc loc)
{
	u64 x = (loc.v << 13 | len) * 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 32 ^ owner) * 0xd6e8feb86659fd93ull;
	return (u16)(x >> 48);
}

struct obj_header log_header(u32 owner, u32 len, struct store_loc loc)
{
	return (struct obj_header){ owner, (u16)len, header_check(owner, len, loc) };
}

bool log_header_valid(const struct obj_header *h, struct store_loc loc)
{
	return h->len >= 1 && h->len <= STORE_MAX_OBJECT &&
	       h->check == header_check(h->owner, h->len, loc);
}

/* ---- packing ----------------------------------------------------------------------- */

/* Objects of one write, end to end; offsets are from the first block. */
struct pack {
	u32 seg;
	u64 base; /* offset of the first block in the file */
	u32 nr_blocks;
	u32 nr_objs;
	u32 bytes; /* of objects */
	u32 off[STORE_MAX_BATCH];
};

/* As many of objs as fit into max_blocks. */
static void pack_plan(struct pack *p, const struct store_put *objs, u32 nr, u32 max_blocks)
{
	u32 max = min_of(max_blocks, LOG_WRITE_BLOCKS) * (u32)PAGE_SIZE;

	p->nr_objs = p->bytes = 0;
	for (u32 i = 0; i < nr && p->bytes + obj_size(objs[i].len) <= max; i++) {
		p->off[i] = p->bytes;
		p->bytes += obj_size(objs[i].len);
		p->nr_objs++;
	}
	p->nr_blocks = align_up(p->bytes, (u32)PAGE_SIZE) >> PAGE_SHIFT;
}

static void pack_fill(const struct pack *p, u32 file, struct store_put *objs, u8 *buf)
{
	for (u32 i = 0; i < p->nr_objs; i++) {
		u32 len = objs[i].len, pad = obj_size(len) - len - (u32)sizeof(struct obj_header);
		struct obj_header h;
		u8 *to = buf + p->off[i];

		objs[i].ret_loc = loc_make(file, p->base + p->off[i]);
		h = log_header(objs[i].owner, len, objs[i].ret_loc);
		memcpy(to, &h, sizeof(h));
		memcpy(to + sizeof(h), objs[i].data, len);
		memset(to + sizeof(h) + len, 0, pad);
	}
	memset(buf + p->bytes, 0, p->nr_blocks * PAGE_SIZE - p->bytes);
}

/* ---- put ------------------------------------------------------------------------------ */

static struct log_writer *writer_get(struct log *lg)
{
	for (;;) {
		u32 seq = event_seq(&lg->writer_idle);

		mutex_lock(&lg->lock);
		for (u32 i = 0; i < LOG_NR_WRITERS; i++) {
			if (!lg->writer[i].busy) {
				lg->writer[i].busy = true;
				mutex_unlock(&lg->lock);
				return &lg->writer[i];
			}
		}
		mutex_unlock(&lg->lock);
		(void)event_wait(&lg->writer_idle, seq, SYNC_FOREVER);
	}
}

static void writer_put(struct log *lg, struct log_writer *w)
{
	mutex_lock(&lg->lock);
	w->busy = false;
	mutex_unlock(&lg->lock);
	event_signal(&lg->writer_idle);
}

/* A forked child has no file of its own before its first put. */
static int open_if_needed(struct log *lg)
{
	int err;

	for (;;) {
		u32 seq = event_seq(&lg->writer_idle);
		bool done, mine;

		mutex_lock(&lg->lock);
		done = lg->own >= 0;
		mine = !done && !lg->opening;
		if (mine)
			lg->opening = true;
		mutex_unlock(&lg->lock);
		if (done)
			return 0;
		if (mine)
			break;
		(void)event_wait(&lg->writer_idle, seq, SYNC_FOREVER);
	}
	log_reap_files(lg);
	err = log_open_file(lg);
	mutex_lock(&lg->lock);
	lg->opening = false;
	mutex_unlock(&lg->lock);
	event_signal(&lg->writer_idle);
	return err;
}

/* All of buf, or -errno. */
static int write_blocks(struct log *lg, int fd, const u8 *buf, u32 bytes, u64 off)
{
	long n;

	PROBE_IO_SUBMIT(off, bytes, true);
	n = os_pwrite(fd, buf, bytes, off);
	PROBE_IO_COMPLETE(off, bytes, n);
	stat_add(&lg->s.nr_writes, 1);
	if (n != (long)bytes) {
		stat_add(&lg->s.nr_write_errors, 1);
		return n < 0 ? (int)n : -EIO;
	}
	stat_add(&lg->s.bytes_written, bytes);
	if (!lg->s.direct) {
		(void)os_sync_file_range(fd, off, bytes,
					 SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
						 SYNC_FILE_RANGE_WAIT_AFTER);
		(void)os_fadvise(fd, off, bytes, POSIX_FADV_DONTNEED);
	}
	return 0;
}

/* Reserve blocks for as many of the objects as one write holds. */
static int reserve(struct log *lg, struct pack *p, const struct store_put *objs, u32 nr,
		   enum put_kind kind)
{
	u32 min_blocks = obj_size(objs[0].len) > PAGE_SIZE ? 2 : 1;
	struct log_seg *g;
	int err;

	mutex_lock(&lg->lock);
	err = log_open_seg_locked(lg, min_blocks, kind);
	if (err) {
		mutex_unlock(&lg->lock);
		return err;
	}
	g = seg_at(&lg->file[lg->own], lg->open_seg);
	pack_plan(p, objs, nr, SEG_BLOCKS - g->fill);
	quire_assert(p->nr_objs > 0);
	p->seg = lg->open_seg;
	p->base = seg_off(p->seg) + g->fill * PAGE_SIZE;
	g->fill = (u16)(g->fill + p->nr_blocks);
	g->live += p->bytes;
	g->nr_pins++;
	mutex_unlock(&lg->lock);
	return 0;
}

/* The write of p ended: nothing was lost when it failed, but the segment is. */
static void commit(struct log *lg, const struct pack *p, int err)
{
	struct log_file *f = &lg->file[lg->own];
	struct log_seg *g = seg_at(f, p->seg);

	mutex_lock(&lg->lock);
	g->nr_pins--;
	if (err) {
		g->live -= p->bytes;
		g->bad |= err != -ENOSPC;
		if (lg->open_seg == p->seg)
			log_seal_locked(lg);
		else
			log_settle_locked(lg, f, p->seg);
	} else {
		stat_add(&lg->s.bytes_live, p->bytes);
		stat_add(&lg->s.nr_objects, p->nr_objs);
		log_settle_locked(lg, f, p->seg);
	}
	mutex_unlock(&lg->lock);
}

/* One write; returns how many of objs it holds, or -errno. */
static int put_some(struct log *lg, struct log_writer *w, struct store_put *objs, u32 nr,
		    enum put_kind kind, u32 *blocks)
{
	struct pack p;
	int err;

	err = reserve(lg, &p, objs, nr, kind);
	if (err)
		return err;
	pack_fill(&p, (u32)lg->own, objs, w->buf);
	err = write_blocks(lg, lg->file[lg->own].fd, w->buf, p.nr_blocks * (u32)PAGE_SIZE, p.base);
	commit(lg, &p, err);
	*blocks += p.nr_blocks;
	return err ? err : (int)p.nr_objs;
}

int log_put_objs(struct log *lg, struct store_put *objs, u32 nr, enum put_kind kind, u32 *blocks)
{
	struct log_writer *w;
	u32 done = 0;
	int n = 0;

	for (u32 i = 0; i < nr; i++)
		quire_assert(objs[i].len >= 1 && objs[i].len <= STORE_MAX_OBJECT);
	n = open_if_needed(lg);
	if (n)
		goto count;
	w = writer_get(lg);
	while (done < nr) {
		n = put_some(lg, w, objs + done, min_of(nr - done, STORE_MAX_BATCH), kind, blocks);
		if (n < 0)
			break;
		done += (u32)n;
	}
	writer_put(lg, w);
	if (n >= 0)
		return 0;
	while (done--)
		log_free_obj(lg, objs[done].ret_loc, objs[done].len);
count:
	if (n == -ENOSPC)
		stat_add(&lg->s.nr_enospc, 1);
	return n;
}

static int log_put(struct store *s, struct store_put *objs, u32 nr)
{
	struct log *lg = log_of(s);
	u32 blocks = 0;
	int err = log_put_objs(lg, objs, nr, PUT_NORMAL, &blocks);

	log_trim(lg, PUT_TRIM_SEGS);
	return err;
}

/* ---- free ------------------------------------------------------------------------------ */

/* The segment of a place that was given out by put. */
static struct log_seg *seg_of(struct log *lg, struct store_loc loc, struct log_file **ret_file)
{
	struct log_file *f = &lg->file[loc_file(loc)];
	struct log_seg *g;

	quire_assert(f->kind == FILE_OWN || f->kind == FILE_INHERITED);
	quire_assert(xtable_valid(&f->segs, loc_seg(loc)));
	g = seg_at(f, loc_seg(loc));
	*ret_file = f;
	return g;
}

void log_free_obj(struct log *lg, struct store_loc loc, u32 len)
{
	struct log_file *f;
	struct log_seg *g;

	mutex_lock(&lg->lock);
	g = seg_of(lg, loc, &f);
	quire_assert(g->live >= obj_size(len));
	g->live -= obj_size(len);
	if (f->kind == FILE_INHERITED)
		stat_sub(&lg->s.bytes_inherited, obj_size(len));
	log_settle_locked(lg, f, loc_seg(loc));
	mutex_unlock(&lg->lock);
	stat_sub(&lg->s.bytes_live, obj_size(len));
	stat_sub(&lg->s.nr_objects, 1);
}

static void log_free(struct store *s, struct store_loc loc, u32 len)
{
	log_free_obj(log_of(s), loc, len);
}

/* ---- get ------------------------------------------------------------------------------- */

static void unpin(struct log *lg, struct store_loc loc)
{
	struct log_file *f;
	struct log_seg *g;

	mutex_lock(&lg->lock);
	g = seg_of(lg, loc, &f);
	quire_assert(g->nr_pins > 0);
	g->nr_pins--;
	log_settle_locked(lg, f, loc_seg(loc));
	mutex_unlock(&lg->lock);
}

/* One operation on the device is over; got: bytes or -errno. */
static void count_read(struct log *lg, u64 off, u64 bytes, long got)
{
	stat_add(&lg->s.nr_reads, 1);
	if (got > 0)
		stat_add(&lg->s.bytes_read, (u64)got);
	PROBE_IO_COMPLETE(off, bytes, got);
}

/* get's blocks are in get->bounce, or res says why not. */
static void end_get(struct log *lg, struct store_get *get, int res)
{
	struct obj_header h;

	if (res >= 0) {
		const u8 *obj = get->bounce + (loc_off(get->loc) - get->off);

		memcpy(&h, obj, sizeof(h));
		if (log_header_valid(&h, get->loc) && h.len == get->len && h.owner == get->owner)
			memcpy(get->buf, obj + sizeof(h), get->len);
		else
			res = -EIO;
	}
	if (!lg->s.direct)
		(void)os_fadvise(get->fd, get->off, get->span, POSIX_FADV_DONTNEED);
	if (res < 0)
		stat_add(&lg->s.nr_read_errors, 1);
	unpin(lg, get->loc);
	get->done(get, min_of(res, 0));
}

/* An operation is over, into get->bounce: of all that it was for.  got: bytes or -errno. */
static void end_operation(struct log *lg, struct store_get *get, long got)
{
	u64 from = get->op_off;
	u8 *buf = get->bounce;

	count_read(lg, from, get->op_span, got);
	while (get) {
		struct store_get *also = get->also;
		u64 at = get->off - from;
		int res = got < 0 ? (int)got : at + get->span <= (u64)got ? 0 : -EIO;

		get->bounce = buf + at;
		end_get(lg, get, res); /* it is not ours any more */
		get = also;
	}
}

/* The reader is done with it. */
static void finish_get(void *ctx, struct store_get *get, int res)
{
	end_operation(ctx, get, res < 0 ? res : (long)get->op_span);
}

/* Where it lies; its segment stays until unpin(). */
static void locate(struct log *lg, struct store_get *get)
{
	u64 off = loc_off(get->loc);
	struct log_file *f;
	struct log_seg *g;

	quire_assert(get->len >= 1 && get->len <= STORE_MAX_OBJECT);
	mutex_lock(&lg->lock);
	g = seg_of(lg, get->loc, &f);
	g->nr_pins++;
	get->fd = f->fd;
	mutex_unlock(&lg->lock);

	get->off = align_down(off, (u64)PAGE_SIZE);
	get->span = (u32)(align_up(off + obj_size(get->len), (u64)PAGE_SIZE) - get->off);
}

/* get lies in first's operation or near it, on either side; then that grows. */
static bool extend(struct store_get *first, const struct store_get *get, u32 max)
{
	u64 start = min_of(first->op_off, get->off);
	u64 end = max_of(first->op_off + first->op_span, get->off + get->span);
	u64 len = end - start;

	if (get->fd != first->fd || len > max || len > first->op_span + get->span + LOG_READ_GAP)
		return false;
	first->op_off = start;
	first->op_span = (u32)len;
	return true;
}

/* How many from the front are one operation of at most `max` bytes, gets[0]'s. */
static u32 near_together(struct log *lg, struct store_get *const *gets, u32 nr, u32 max)
{
	u32 n = 1;

	locate(lg, gets[0]);
	gets[0]->op_off = gets[0]->off;
	gets[0]->op_span = gets[0]->span;
	for (; n < nr; n++) {
		locate(lg, gets[n]);
		if (!extend(gets[0], gets[n], max)) {
			unpin(lg, gets[n]->loc);
			break;
		}
		gets[n - 1]->also = gets[n];
	}
	gets[n - 1]->also = NULL;
	PROBE_IO_SUBMIT(gets[0]->op_off, gets[0]->op_span, false);
	return n;
}

static int log_get(struct store *s, struct store_get *const *gets, u32 nr)
{
	struct log *lg = log_of(s);
	u32 n = near_together(lg, gets, nr, READ_SPAN_MAX);
	int err = reader_submit(&lg->reader, gets[0]);

	for (u32 i = 0; i < n && err; i++)
		unpin(lg, gets[i]->loc);
	return err ? err : (int)n;
}

static int log_get_now(struct store *s, struct store_get *const *gets, u32 nr,
		       struct store_now *now)
{
	struct log *lg = log_of(s);
	u32 n = near_together(lg, gets, nr, now->bytes);
	struct store_get *first = gets[0];
	u64 begin = os_now_ns();
	long got;

	for (u32 i = 0; i < n && now->here >= 0; i++)
		gets[i]->fd = now->here;
	first->bounce = now->buf;
	got = failpoint("store_read_now");
	if (!got)
		got = os_pread(first->fd, first->bounce, first->op_span, first->op_off);
	now->device_ns = os_now_ns() - begin;
	end_operation(lg, first, got);
	return (int)n;
}

/* ---- open, close ------------------------------------------------------------------------ */

static void free_buffers(struct log *lg)
{
	for (u32 i = 0; i < LOG_NR_WRITERS; i++)
		if (lg->writer[i].buf)
			meta_free(lg->meta, lg->writer[i].buf, LOG_WRITE_BLOCKS * PAGE_SIZE);
}

static void log_close(struct store *s)
{
	struct log *lg = log_of(s);
	struct meta *meta = lg->meta;

	reader_stop(&lg->reader);
	log_share_exit(lg);
	for (u32 i = 0; i < STORE_MAX_FILES; i++) {
		if (lg->file[i].kind == FILE_INHERITED)
			log_share_unmap(&lg->file[i].share);
		if (lg->file[i].kind != FILE_NONE)
			log_close_file(lg, i);
	}
	free_buffers(lg);
	meta_free(meta, lg, sizeof(*lg));
}

static const struct store_ops log_ops = {
	.name = "log",
	.put = log_put,
	.get = log_get,
	.get_now = log_get_now,
	.here = log_here,
	.free = log_free,
	.clean = log_clean,
	.close = log_close,
};

/* The size limit: given, or half of what is free now; whole segments. */
static u64 limit_of(const struct store_config *cfg, u64 bytes_free)
{
	u64 max = cfg->max_bytes == UINT64_MAX ? bytes_free / 2 : cfg->max_bytes;

	return align_down(min_of(max, (u64)LOG_MAX_SEGS * SEG_SIZE), SEG_SIZE);
}

static struct log *log_create(const struct store_config *cfg, struct meta *meta, u64 bytes_free)
{
	struct log *lg = meta_alloc(meta, sizeof(*lg));

	if (!lg)
		return NULL;
	lg->meta = meta;
	lg->own = -1;
	lg->fork_wr = -1;
	lg->s.ops = &log_ops;
	lg->s.max_bytes = limit_of(cfg, bytes_free);
	memcpy(lg->s.dir, cfg->dir, strlen(cfg->dir) + 1);
	mutex_init(&lg->lock, "store_log", LOCK_RANK_STORE);
	event_init(&lg->writer_idle);
	reader_init(&lg->reader, meta, cfg->force_pread, finish_get, lg);
	lg->reader.ring_in_force = &lg->s.ring;
	for (u32 i = 0; i < LOG_NR_WRITERS; i++)
		lg->writer[i].buf = meta_alloc(meta, LOG_WRITE_BLOCKS * PAGE_SIZE);
	if (lg->writer[0].buf && lg->writer[1].buf)
		return lg;
	free_buffers(lg);
	meta_free(meta, lg, sizeof(*lg));
	return NULL;
}

int store_log_open(const struct store_config *cfg, struct meta *meta, struct store **ret_store)
{
	struct log *lg;
	u64 bytes_free;
	int err;

	if (strlen(cfg->dir) >= sizeof(lg->s.dir))
		return -ENAMETOOLONG;
	if (cfg->max_bytes < (SEG_RESERVE + 1) * SEG_SIZE)
		return -EINVAL;
	err = store_check_dir(cfg->dir, cfg->allow_tmpfs, &bytes_free);
	if (err)
		return err;
	lg = log_create(cfg, meta, bytes_free);
	if (!lg)
		return -ENOMEM;
	err = log_open_file(lg);
	if (err) {
		log_close(&lg->s);
		return err;
	}
	*ret_store = &lg->s;
	return 0;
}
