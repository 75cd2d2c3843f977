/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the log store, for log.c, segment.c, here.c, clean.c and share.c.
 *
 * A file is cut into segments of 1 MiB, a segment into blocks of 4 KiB.  Blocks
 * are written once between two lives of their segment.
 *
 *   HOLE --fallocate--> FREE --> OPEN --> SEALED <--> CLEANING
 *     ^                 ^ |                 |
 *     +---- punched ----|-+                 | no live bytes, no pins
 *                       +-------------------+--> ZOMBIE: a child holds it --> FREE
 *                                           +--> BAD: a write failed, for good
 *
 * Segments of an inherited file (fork) are SEALED or unused and only lose
 * objects.
 *
 * Locks: log.lock (rank STORE) guards everything marked (L); reader.lock (same
 * rank, never together) the queue of reads.  No I/O under either.
 */
#ifndef QUIRE_STORE_INTERNAL_H
#define QUIRE_STORE_INTERNAL_H

#include "base/ilist.h"
#include "store/reader.h"
#include "store/store.h"

#define SEG_SHIFT 20
#define SEG_SIZE ((u64)1 << SEG_SHIFT)
#define SEG_BLOCKS (SEG_SIZE / PAGE_SIZE)
#define SEG_RESERVE 2u /* segments only the cleaner may take */
#define SEG_FULL_UNTIL 2u /* more free ones, and the store is not full any more */
#define SEG_BUCKETS 8u /* sealed segments by eighths of live bytes */
#define LOG_MAX_SEGS ((1u << 21) - 1) /* 2 TiB a file: 37 bits of 16 bytes */
#define LOG_NR_WRITERS 2u
#define LOG_WRITE_BLOCKS 32u /* one pwrite */
#define LOG_READ_GAP (4 * PAGE_SIZE) /* read across, rather than read again */
#define LOG_MAX_SHARES 512u /* children (with descendants) of one process, an fd each */
#define LOG_PUNCH_AFTER_NS (10 * NSEC_PER_SEC)

/* ---- objects ------------------------------------------------------------- */

/* In front of every object, 16-byte aligned. */
struct obj_header {
	u32 owner;
	u16 len;
	u16 check; /* of owner, len and place */
};

#define OBJ_ALIGN 16u
#define OBJ_MAX_SIZE (align_up((u32)(STORE_MAX_OBJECT + sizeof(struct obj_header)), OBJ_ALIGN))

_Static_assert(sizeof(struct obj_header) == 8, "header is 8 bytes on disk");

static inline u32 obj_size(u32 len)
{
	return align_up((u32)(len + sizeof(struct obj_header)), OBJ_ALIGN);
}

/* loc = file:3 | offset/16:37, plus 1. */
static inline struct store_loc loc_make(u32 file, u64 off)
{
	return (struct store_loc){ ((u64)file << 37 | off / OBJ_ALIGN) + 1 };
}

static inline u32 loc_file(struct store_loc loc)
{
	return (u32)((loc.v - 1) >> 37);
}

static inline u64 loc_off(struct store_loc loc)
{
	return ((loc.v - 1) & (((u64)1 << 37) - 1)) * OBJ_ALIGN;
}

/* Segments are numbered from 1 (xtable index). */
static inline u32 loc_seg(struct store_loc loc)
{
	return (u32)(loc_off(loc) >> SEG_SHIFT) + 1;
}

static inline u64 seg_off(u32 seg)
{
	return (u64)(seg - 1) << SEG_SHIFT;
}

struct obj_header log_header(u32 owner, u32 len, struct store_loc loc);
/* Is h a header that was written for loc? */
bool log_header_valid(const struct obj_header *h, struct store_loc loc);

/* ---- the log ----------------------------------------------------------------- */

enum seg_state {
	SEG_HOLE, /* no space in the file */
	SEG_FREE,
	SEG_OPEN,
	SEG_SEALED,
	SEG_CLEANING,
	SEG_ZOMBIE,
	SEG_BAD,
};

/* One segment; (L).  24 bytes a MiB. */
struct log_seg {
	struct ilist_node node; /* list of its state */
	u32 live; /* bytes of objects, headers included */
	u32 mark; /* FREE: second of it; SEALED: the clean() that tried it last */
	u16 nr_pins; /* reads and writes in flight */
	u16 fill; /* blocks written or being written */
	u8 state; /* enum seg_state */
	u8 bucket; /* SEALED: index of its list */
	u8 bad; /* a write failed */
	u8 held; /* inherited: counted in the share of its file */
};
_Static_assert(sizeof(struct log_seg) == 24, "an xtable element");

/*
 * What children hold of a file: counts by segment, in MAP_SHARED memory.  The
 * owner reads, holders add (at fork) and subtract.
 */
struct log_share {
	struct atomic32 *held; /* NULL: entry not used */
	u32 nr; /* segments 1..nr - 1 */
	int alive_rd; /* owner: hangs up when the last holder is gone */
};

enum file_kind { FILE_NONE, FILE_OWN, FILE_INHERITED, FILE_CLOSING };

struct log_file {
	int fd;
	int alive_wr; /* inherited: keeps our ancestor's alive_rd open */
	enum file_kind kind;
	u32 nr_held; /* inherited: segments with `held` */
	struct xtable segs;
	struct log_share share; /* inherited */
};

/* A buffer under a pwrite. */
struct log_writer {
	u8 *buf; /* LOG_WRITE_BLOCKS pages */
	bool busy; /* (L) */
};

/* Our file, for who has another table of descriptors. */
struct log_origin {
	int tid, fd; /* in whose table, and its number there */
	u64 dev, ino;
};

struct log {
	struct store s;
	struct meta *meta; /* (C) */
	struct store_config cfg; /* (C) dir: s.dir */
	struct reader reader;

	struct mutex lock;
	struct log_file file[STORE_MAX_FILES]; /* (L) */
	int own; /* (L) index of our file, -1: not opened yet */
	struct log_origin origin; /* (L) of it */
	struct atomic64 here; /* (A) it in the program's table (here.c) */
	u32 open_seg; /* (L) 0: none */
	/* (L) segments of our file */
	struct ilist free;
	struct ilist hole;
	struct ilist zombie;
	struct ilist sealed[SEG_BUCKETS];
	u32 clean_pass; /* (L) */
	struct log_writer writer[LOG_NR_WRITERS];
	bool opening; /* (L) a put opens our file */
	struct event writer_idle;
	struct log_share share[LOG_MAX_SHARES]; /* (L) children of ours */
	u32 nr_shares; /* (L) entries in use are the first nr_shares */
	int fork_wr; /* between prepare and parent: write end, -1 */
};

static inline struct log *log_of(struct store *s)
{
	return container_of(s, struct log, s);
}

static inline struct log_seg *seg_at(const struct log_file *f, u32 seg)
{
	return xtable_at(&f->segs, seg);
}

static inline struct ilist_in segs_in(const struct log_file *f)
{
	return (struct ilist_in){ &f->segs, offsetof(struct log_seg, node) };
}

/* log.c */
enum put_kind { PUT_NORMAL, PUT_CLEAN };
/* blocks grows by how many were written. */
int QUIRE_MUST_CHECK log_put_objs(struct log *lg, struct store_put *objs, u32 nr,
				  enum put_kind kind, u32 *blocks);
void log_free_obj(struct log *lg, struct store_loc loc, u32 len);

/* segment.c: files and the states of segments */
int QUIRE_MUST_CHECK log_open_file(struct log *lg);
void log_close_file(struct log *lg, u32 file);
/* Close inherited files of which nothing is left; no lock held. */
void log_reap_files(struct log *lg);
/* An open segment with nr_blocks left.  May drop and retake the lock. */
int QUIRE_MUST_CHECK log_open_seg_locked(struct log *lg, u32 nr_blocks, enum put_kind kind);
void log_seal_locked(struct log *lg);
/* `seg` lost live bytes or a pin: move it to where it belongs now. */
void log_settle_locked(struct log *lg, struct log_file *f, u32 seg);
/* After cleaning: SEALED again, then settled. */
void log_reseal_locked(struct log *lg, struct log_file *f, u32 seg);
/* `seg`, on no list and held by nobody, may be used again. */
void log_free_seg_locked(struct log *lg, struct log_file *f, u32 seg);
/* Give space that was free for LOG_PUNCH_AFTER_NS back to the file system. */
void log_trim(struct log *lg, u32 max_segs);
void log_check(struct log *lg);

/* here.c */
int log_here(struct store *s, struct store_loc loc);

/* clean.c */
u64 log_clean(struct store *s, u64 bytes, const struct store_clean_ops *up);

/* share.c */
bool log_share_holds(const struct log *lg, u32 seg);
void log_share_drop_locked(struct log_file *f, u32 seg);
/* Forget children that are gone; their zombies become free. */
void log_share_reap_locked(struct log *lg);
void log_share_unmap(struct log_share *share);
void log_share_exit(struct log *lg);

#endif
