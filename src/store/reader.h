/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h - reads of a store: ring.c (io_uring) and reader.c (queue, threads).
 *
 * A read is a struct store_get whose fd, op_off and op_span the log has set; the
 * bytes arrive in get->bounce.  Lock: reader.lock, rank STORE, never together
 * with the log's.
 */
#ifndef QUIRE_STORE_READER_H
#define QUIRE_STORE_READER_H

#include "store/store.h"

#define READ_CHUNK (2 * PAGE_SIZE) /* blocks an object touches */
#define READ_SPAN_MAX (16 * READ_CHUNK) /* of several that lie together */

/* ---- ring: io_uring, reads only, used by one thread (ring.c) --------------- */

#define RING_ENTRIES 64u /* power of 2; a read for each chunk and one wake-up */

struct ring;

/* By the thread that will use it.  -EPERM, -ENOSYS, -ENOMEM ...: use pread. */
int QUIRE_MUST_CHECK ring_open(struct meta *meta, struct ring **ret_ring);
void ring_close(struct ring *ring);
/* In a forked child: nothing of it exists here but the bookkeeping. */
void ring_forget(struct ring *ring);
/* Queue a read; the caller keeps at most RING_ENTRIES - 1 in flight. */
void ring_push(struct ring *ring, int fd, void *buf, u32 len, u64 off, void *tag);
/* Submit what was pushed, sleep until something completed or ring_wake(). */
void ring_wait(struct ring *ring);
/* The next completion, if any: bytes or -errno. */
bool ring_pop(struct ring *ring, void **ret_tag, int *ret_res);
/* From any thread: ring_wait() returns, now or the next time. */
void ring_wake(struct ring *ring);

/* ---- reader: queue of reads, I/O threads (reader.c) -------------------------- */

#define READER_NR_CHUNKS 60u
#define READER_NR_THREADS 2u /* with pread, each with the chunks of one read; the ring has one */

struct reader {
	/* (C) */
	struct meta *meta;
	/* Data of a read in get->bounce, or res < 0.  Runs done(). */
	void (*finish)(void *ctx, struct store_get *get, int res);
	void *ctx;
	bool force_pread;
	struct mutex lock;
	struct store_get *head; /* (L) waiting for a buffer or a thread */
	struct store_get *tail; /* (L) */
	bool started; /* (L) */
	bool stopping; /* (L) */
	bool idle; /* (L) the ring thread found nothing: wake it */
	struct ring *ring; /* (L) NULL: pread */
	struct event work; /* pread threads */
	struct thread thread[READER_NR_THREADS];
	u8 *chunks; /* READER_NR_CHUNKS of READ_CHUNK; a read takes some in a row */
	u64 free_chunks; /* of the ring thread */
	u32 nr_inflight; /* of the ring thread */
	struct counter64 *ring_in_force; /* told once known */
	struct counter64 nr_repeated; /* reads of the ring done again with pread */
};

void reader_init(struct reader *r, struct meta *meta, bool force_pread,
		 void (*finish)(void *ctx, struct store_get *get, int res), void *ctx);
/* Queue get (fd, op_off, op_span, also set); starts the threads at the first call. */
int QUIRE_MUST_CHECK reader_submit(struct reader *r, struct store_get *get);
/* Finish what is queued, then join the threads. */
void reader_stop(struct reader *r);
/* In a forked child: the threads and the ring are the parent's.  Start over. */
void reader_fork_child(struct reader *r);

#endif
