/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.c - the queue of reads and the I/O threads that serve it.
 *
 * Owns the queue, the bounce buffers and the threads, which start with the
 * first read: one thread with a ring, or, where io_uring is refused, two with
 * pread.  It knows neither segments nor headers; finish() of the log does.
 *
 * A submitter never blocks: it queues and wakes.  A read waits in the queue
 * until chunks enough are free in a row, and those behind it wait too.  What
 * the ring could not read (error, short, opcode unknown) is read again with
 * pread by the same thread, whose answer counts.
 *
 * Lock: reader.lock (rank STORE), for a few instructions; never together with
 * log.lock; not held in finish().
 */
#include <errno.h>

#include "base/failpoint.h"
#include "base/os.h"
#include "store/reader.h"

#define CHUNKS(nr) (((u64)1 << (nr)) - 1)

_Static_assert(READER_NR_CHUNKS < 64 &&
		       READER_NR_THREADS * READ_SPAN_MAX <= READER_NR_CHUNKS * READ_CHUNK,
	       "a word of chunks, and a read for each thread");

/* ---- queue ------------------------------------------------------------------- */

static void append_locked(struct reader *r, struct store_get *get)
{
	get->next = NULL;
	if (r->tail)
		r->tail->next = get;
	else
		r->head = get;
	r->tail = get;
}

static struct store_get *take_locked(struct reader *r)
{
	struct store_get *get = r->head;

	if (get) {
		r->head = get->next;
		if (!r->head)
			r->tail = NULL;
	}
	return get;
}

static int read_sync(struct store_get *get)
{
	long n = os_pread(get->fd, get->bounce, get->op_span, get->op_off);

	return n == (long)get->op_span ? 0 : n < 0 ? (int)n : -EIO;
}

/* ---- pread threads ------------------------------------------------------------- */

/* The next read, or NULL: stop. */
static struct store_get *wait_for_work(struct reader *r)
{
	for (;;) {
		u32 seq = event_seq(&r->work);
		struct store_get *get;
		bool stop;

		mutex_lock(&r->lock);
		get = take_locked(r);
		stop = r->stopping;
		mutex_unlock(&r->lock);
		if (get || stop)
			return get;
		(void)event_wait(&r->work, seq, SYNC_FOREVER);
	}
}

static void pread_main(struct thread *self)
{
	struct reader *r = self->arg;
	u8 *buf = r->chunks + (size_t)(self - r->thread) * READ_SPAN_MAX;
	struct store_get *get;

	while ((get = wait_for_work(r))) {
		get->bounce = buf;
		r->finish(r->ctx, get, read_sync(get));
	}
}

/* ---- buffers of the ring thread ---------------------------------------------------- */

static u32 nr_chunks(u32 bytes)
{
	return (bytes + (u32)READ_CHUNK - 1) / (u32)READ_CHUNK;
}

/* NULL: not so many are free in a row. */
static u8 *take_buf(struct reader *r, u32 bytes)
{
	u64 run = r->free_chunks;
	u32 nr = nr_chunks(bytes), i;

	for (i = 1; i < nr; i++)
		run &= r->free_chunks >> i;
	if (!run)
		return NULL;
	i = (u32)__builtin_ctzll(run);
	r->free_chunks &= ~(CHUNKS(nr) << i);
	return r->chunks + (size_t)i * READ_CHUNK;
}

static void put_buf(struct reader *r, const u8 *buf, u32 bytes)
{
	r->free_chunks |= CHUNKS(nr_chunks(bytes)) << (size_t)(buf - r->chunks) / READ_CHUNK;
}

/* ---- ring thread ------------------------------------------------------------------ */

/* Queued reads into the ring while there are buffers; false: stop. */
static bool fill_ring(struct reader *r, struct ring *ring)
{
	bool go_on;

	mutex_lock(&r->lock);
	while (r->head && (r->head->bounce = take_buf(r, r->head->op_span))) {
		struct store_get *get = take_locked(r);

		r->nr_inflight++;
		ring_push(ring, get->fd, get->bounce, get->op_span, get->op_off, get);
	}
	r->idle = !r->head;
	go_on = r->head || r->nr_inflight || !r->stopping;
	mutex_unlock(&r->lock);
	return go_on;
}

static void drain_ring(struct reader *r, struct ring *ring)
{
	void *tag;
	int res;

	while (ring_pop(ring, &tag, &res)) {
		struct store_get *get = tag;
		const u8 *buf = get->bounce;
		u32 bytes = get->op_span;

		if (failpoint("store_ring_read"))
			res = -EIO;
		if (res != (int)bytes) {
			stat_add(&r->nr_repeated, 1);
			res = read_sync(get);
		}
		r->finish(r->ctx, get, min_of(res, 0));
		put_buf(r, buf, bytes);
		r->nr_inflight--;
	}
}

static void ring_loop(struct reader *r, struct ring *ring)
{
	while (fill_ring(r, ring)) {
		ring_wait(ring);
		drain_ring(r, ring);
	}
}

/* ---- start, stop ---------------------------------------------------------------------- */

static int start_thread(struct reader *r, u32 i, void (*fn)(struct thread *self))
{
	struct thread *t = &r->thread[i];
	struct thread *self = thread_self();
	int err;

	t->name = "quire-io";
	t->fn = fn;
	t->arg = r;
	t->failpoints = self ? self->failpoints : NULL;
	err = thread_start(t);
	if (err)
		t->fn = NULL; /* reader_stop() joins those with fn */
	return err;
}

/* Thread 0 tries the ring, which belongs to the thread that opens it. */
static void reader_main(struct thread *self)
{
	struct reader *r = self->arg;
	struct ring *ring = NULL;

	if (!r->force_pread && ring_open(r->meta, &ring) == 0) {
		mutex_lock(&r->lock);
		r->ring = ring;
		mutex_unlock(&r->lock);
		stat_set(r->ring_in_force, 1);
		ring_loop(r, ring);
		return;
	}
	/* With one thread less it is slower, not wrong. */
	(void)start_thread(r, 1, pread_main);
	pread_main(self);
}

static int start_locked(struct reader *r)
{
	int err;

	if (!r->chunks)
		r->chunks = meta_alloc(r->meta, READER_NR_CHUNKS * READ_CHUNK);
	if (!r->chunks)
		return -ENOMEM;
	r->free_chunks = CHUNKS(READER_NR_CHUNKS);
	err = start_thread(r, 0, reader_main);
	r->started = err == 0;
	return err;
}

void reader_init(struct reader *r, struct meta *meta, bool force_pread,
		 void (*finish)(void *ctx, struct store_get *get, int res), void *ctx)
{
	r->meta = meta;
	r->force_pread = force_pread;
	r->finish = finish;
	r->ctx = ctx;
	mutex_init(&r->lock, "store_reader", LOCK_RANK_STORE);
	event_init(&r->work);
}

/* After the queue changed or stopping was set; no lock held. */
static void wake(struct reader *r, struct ring *ring)
{
	if (ring)
		ring_wake(ring);
	else
		event_signal(&r->work);
}

int reader_submit(struct reader *r, struct store_get *get)
{
	struct ring *ring;
	bool sleeping;
	int err = 0;

	mutex_lock(&r->lock);
	if (!r->started)
		err = start_locked(r);
	if (!err)
		append_locked(r, get);
	ring = r->ring;
	sleeping = !ring || r->idle;
	r->idle = false;
	mutex_unlock(&r->lock);
	if (!err && sleeping)
		wake(r, ring);
	return err;
}

void reader_stop(struct reader *r)
{
	struct ring *ring;
	bool started;

	mutex_lock(&r->lock);
	r->stopping = true;
	ring = r->ring;
	started = r->started;
	mutex_unlock(&r->lock);
	if (started) {
		wake(r, ring);
		for (u32 i = 0; i < READER_NR_THREADS; i++)
			if (r->thread[i].fn)
				thread_join(&r->thread[i]);
	}
	if (r->ring)
		ring_close(r->ring);
	if (r->chunks)
		meta_free(r->meta, r->chunks, READER_NR_CHUNKS * READ_CHUNK);
}

void reader_fork_child(struct reader *r)
{
	/* All reads are over, but an I/O thread may just be looking for the next. */
	mutex_init(&r->lock, "store_reader", LOCK_RANK_STORE);
	for (u32 i = 0; i < READER_NR_THREADS; i++)
		if (r->thread[i].fn)
			thread_forget(&r->thread[i]);
	if (r->ring)
		ring_forget(r->ring);
	r->ring = NULL;
	r->started = false;
	r->idle = false;
	r->nr_inflight = 0;
	event_init(&r->work);
	stat_set(r->ring_in_force, 0);
}
