/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clean.c - objects out of sparse segments, so that the segments become free.
 *
 * Owns nothing.  Who wants an object is the caller's knowledge: live() and
 * moved() are upcalls into swap, made with no lock held; the cleaner copies
 * what live() wants, asks moved() to change the place, and frees one of the two
 * copies.  An object freed at any moment in between is freed exactly once: by
 * its owner (moved() returns false, we free the copy) or by us (the original).
 *
 * A segment under cleaning is pinned and on no list; frees still count down its
 * live bytes.  Only segments of our own file are cleaned: emptying an inherited
 * one would gain nothing for us.
 *
 * Entry point: log_clean().  Lock: log.lock, briefly.
 */
#include <string.h>

#include "base/os.h"
#include "store/internal.h"

#define CLEAN_MAX_SEGS 256u /* looked at in one call */
#define CLEAN_MAX_VAIN 4u /* in a row; what comes then is denser */
#define CLEAN_TRIM_SEGS 64u
#define CLEAN_BUCKETS (SEG_BUCKETS / 2) /* less than half live */
#define CLEAN_BUCKETS_FULL (SEG_BUCKETS - 1) /* more writing for it, but no other space is left */

struct clean {
	struct log *lg;
	const struct store_clean_ops *up;
	u8 *buf; /* content of the segment */
	u64 base; /* its offset in the file */
	u32 nr_blocks; /* written for the segment */
	u32 nr; /* objects in the batch */
	struct store_put put[STORE_MAX_BATCH];
	struct store_loc from[STORE_MAX_BATCH];
};

/* Tried already, or under I/O: where a write is not complete an older life of the
 * segment would be read, in which the same owner may have had the same place. */
static bool pass_over(const struct log *lg, const struct log_seg *g)
{
	return g->mark == lg->clean_pass || g->nr_pins;
}

/* The sparsest sealed segment that this pass did not try; pinned, off its list. */
static u32 pick_seg(struct log *lg, struct log_file *f, u32 *ret_fill)
{
	u32 seg = 0, buckets;

	mutex_lock(&lg->lock);
	buckets = stat_read(&lg->s.full) ? CLEAN_BUCKETS_FULL : CLEAN_BUCKETS;
	for (u32 b = 0; b < buckets && !seg; b++) {
		seg = lg->sealed[b].head;
		while (seg && pass_over(lg, seg_at(f, seg)))
			seg = seg_at(f, seg)->node.next;
	}
	if (seg) {
		struct log_seg *g = seg_at(f, seg);

		ilist_del(&lg->sealed[g->bucket], segs_in(f), seg);
		g->state = SEG_CLEANING;
		g->mark = lg->clean_pass;
		g->nr_pins++;
		*ret_fill = g->fill;
	}
	mutex_unlock(&lg->lock);
	return seg;
}

/* Back on its list, or free; true: nothing live was left. */
static bool unpick_seg(struct log *lg, struct log_file *f, u32 seg)
{
	struct log_seg *g = seg_at(f, seg);
	bool empty;

	mutex_lock(&lg->lock);
	g->nr_pins--;
	empty = g->live == 0;
	log_reseal_locked(lg, f, seg);
	mutex_unlock(&lg->lock);
	return empty;
}

/* Write the batch elsewhere and tell the owners. */
static int flush_batch(struct clean *c)
{
	u32 nr = c->nr;
	int err;

	c->nr = 0;
	if (!nr)
		return 0;
	err = log_put_objs(c->lg, c->put, nr, PUT_CLEAN, &c->nr_blocks);
	if (err)
		return err;
	for (u32 i = 0; i < nr; i++) {
		const struct store_put *p = &c->put[i];

		if (c->up->moved(c->up->ctx, p->owner, c->from[i], p->ret_loc))
			log_free_obj(c->lg, c->from[i], p->len);
		else
			log_free_obj(c->lg, p->ret_loc, p->len);
	}
	return 0;
}

/*
 * The object at `pos`, if one that is wanted begins there; returns the next position,
 * behind it.  What is not wanted is no help in finding the next: headers of an earlier
 * life of the segment, where a write failed, pass the check, and their objects end in
 * the middle of later ones.
 */
static u32 take_object(struct clean *c, u32 pos, u32 end)
{
	struct store_loc loc = loc_make((u32)c->lg->own, c->base + pos);
	struct obj_header h;

	memcpy(&h, c->buf + pos, sizeof(h));
	if (!log_header_valid(&h, loc) || pos + obj_size(h.len) > end ||
	    !c->up->live(c->up->ctx, h.owner, loc))
		return pos + OBJ_ALIGN;
	c->from[c->nr] = loc;
	c->put[c->nr++] = (struct store_put){
		.data = c->buf + pos + sizeof(h),
		.len = h.len,
		.owner = h.owner,
	};
	return pos + obj_size(h.len);
}

static int move_objects(struct clean *c, u32 end)
{
	u32 pos = 0;

	while (pos < end) {
		pos = take_object(c, pos, end);
		if (c->nr == STORE_MAX_BATCH) {
			int err = flush_batch(c);

			if (err)
				return err;
		}
	}
	return flush_batch(c);
}

static int read_seg(struct clean *c, const struct log_file *f, u32 bytes)
{
	struct store *s = &c->lg->s;
	long n = os_pread(f->fd, c->buf, bytes, c->base);

	stat_add(&s->nr_reads, 1);
	if (n != (long)bytes) {
		stat_add(&s->nr_read_errors, 1);
		return -1;
	}
	stat_add(&s->bytes_read, bytes);
	return 0;
}

/* 0, or -errno when no more can be moved; ret_gain: blocks, less than 0 when it took more. */
static int clean_seg(struct clean *c, struct log_file *f, u32 seg, u32 fill, s64 *ret_gain)
{
	u32 bytes = fill * (u32)PAGE_SIZE;
	int err = 0;

	c->nr = 0;
	c->nr_blocks = 0;
	c->base = seg_off(seg);
	if (read_seg(c, f, bytes) == 0)
		err = move_objects(c, bytes);
	*ret_gain = -(s64)c->nr_blocks;
	if (!unpick_seg(c->lg, f, seg))
		return err;
	stat_add(&c->lg->s.nr_cleaned, 1);
	*ret_gain += (s64)SEG_BLOCKS;
	return 0;
}

/* The last block of a put is its own, so segments of small puts look sparse and may move
 * for nothing.  The sparsest come first. */
static u64 clean_segs(struct clean *c, u64 bytes)
{
	struct log_file *f = &c->lg->file[c->lg->own];
	s64 blocks = 0;
	u32 in_vain = 0;

	for (u32 i = 0; i < CLEAN_MAX_SEGS && in_vain < CLEAN_MAX_VAIN; i++) {
		u32 fill, seg = pick_seg(c->lg, f, &fill);
		s64 n = 0;

		if (!seg || clean_seg(c, f, seg, fill, &n))
			break;
		blocks += n;
		in_vain = n > 0 ? 0 : in_vain + 1;
		if (blocks * (s64)PAGE_SIZE >= (s64)bytes)
			break;
	}
	return blocks > 0 ? (u64)blocks * PAGE_SIZE : 0;
}

u64 log_clean(struct store *s, u64 bytes, const struct store_clean_ops *up)
{
	struct log *lg = log_of(s);
	struct clean *c;
	u64 gained = 0;
	bool own;

	log_reap_files(lg);
	log_trim(lg, CLEAN_TRIM_SEGS);
	mutex_lock(&lg->lock);
	own = lg->own >= 0;
	if (own)
		log_share_reap_locked(lg);
	if (++lg->clean_pass == 0)
		lg->clean_pass = 1;
	mutex_unlock(&lg->lock);
	if (!bytes || !own)
		return 0;
	c = meta_alloc(lg->meta, sizeof(*c));
	if (!c)
		return 0;
	c->lg = lg;
	c->up = up;
	c->buf = meta_alloc(lg->meta, SEG_SIZE);
	if (c->buf) {
		gained = clean_segs(c, bytes);
		meta_free(lg->meta, c->buf, SEG_SIZE);
	}
	meta_free(lg->meta, c, sizeof(*c));
	return gained;
}
