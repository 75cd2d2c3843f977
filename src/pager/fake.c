/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake.c - the pager of the unit tests and the race explorer.
 *
 * Owns a small model of what a kernel does to managed memory: pages that are
 * there or not, registered or not, pinned, shared, read-only, poisoned; threads
 * that wait for a fault; full and empty frames.  Owns no policy and no file
 * descriptor; makes no system call after open().
 *
 * Each operation is one atomic step, as each ioctl of the kernel is for one
 * page: the lock of the fake with real threads, one scheduling point in the
 * explorer (where nothing else can run between two points).  Events are
 * signalled after the step.  All waiting is by base/sync.
 *
 * As in the kernel a fault is *pending* until faults() hands it out, then *read*;
 * a wake releases it in either state, and one that is released before it was
 * read is never read.  Who is released touches again, and faults again if the
 * page is still missing.
 *
 * Entry points: pager_fake, fake_access(), fake_reset().
 *
 * Invariants: a byte of a page is in the memory or in one frame; a page is
 * never present and poisoned; a waiter waits for a page that was missing.
 *
 * Lock ranks: LEAF.
 */
#include "pager/fake.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"

enum waiter_state { WAITER_FREE, WAITER_PENDING, WAITER_READ, WAITER_RELEASED };

struct waiter {
	struct atomic32 state; /* enum waiter_state; changed under the lock */
	u32 queue;
	u64 page;
	u64 number; /* order of arrival */
	u32 tid;
	bool write, wp;
	struct event released;
};

struct fake {
	struct mutex lock;
	struct event posted[PAGER_MAX_QUEUES];
	struct atomic32 stopped;
	/* (lock) */
	u8 flags[FAKE_PAGES]; /* enum fake_page_flag */
	u8 registered[FAKE_PAGES]; /* queue + 1, 0 no */
	struct waiter waiter[FAKE_WAITERS];
	u64 nr_posted;
	u64 frames; /* address of the first */
	u32 nr_frames;
	u64 frame_full[FAKE_FRAMES / 64];
	u8 content[FAKE_PAGES][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
};

/* ---- steps --------------------------------------------------------------- */

static struct fake *hold(struct pager *p)
{
	struct fake *f = p->priv;

#ifndef QUIRE_EXPLORE
	mutex_lock(&f->lock);
#endif
	return f;
}

static struct fake *step_begin(struct pager *p)
{
	sync_point(p->priv);
	return hold(p);
}

static void step_end(struct fake *f)
{
#ifdef QUIRE_EXPLORE
	(void)f;
#else
	mutex_unlock(&f->lock);
#endif
}

/* The page of an address, or FAKE_PAGES. */
static u32 page_at(u64 addr)
{
	u64 page = (addr - FAKE_BASE) >> PAGE_SHIFT;

	return addr < FAKE_BASE || page >= FAKE_PAGES ? FAKE_PAGES : (u32)page;
}

static bool is_range(u64 addr, u64 len)
{
	return len && !((addr | len) & ~PAGE_MASK) && page_at(addr) < FAKE_PAGES &&
	       len <= (u64)FAKE_PAGES * PAGE_SIZE && page_at(addr + len - 1) < FAKE_PAGES;
}

/* A present page goes away; its bytes with it. */
static void lose_page(struct fake *f, u32 page)
{
	f->flags[page] &= (u8) ~(FAKE_PRESENT | FAKE_ZERO | FAKE_SHARED | FAKE_PINNED |
				 FAKE_POISONED | FAKE_PROTECTED);
	memset(f->content[page], FAKE_EMPTY, PAGE_SIZE);
}

/* The frame number, or FAKE_FRAMES if that is no frame. */
static u32 frame_at(const struct fake *f, const void *frame)
{
	u64 n = ((u64)frame - f->frames) >> PAGE_SHIFT;

	return (u64)frame < f->frames || n >= f->nr_frames ? FAKE_FRAMES : (u32)n;
}

static bool frame_full(const struct fake *f, u32 n)
{
	return f->frame_full[n / 64] >> (n % 64) & 1;
}

static void set_frame(struct fake *f, u32 n, bool full)
{
	u64 bit = 1ull << (n % 64);

	if (full)
		f->frame_full[n / 64] |= bit;
	else
		f->frame_full[n / 64] &= ~bit;
	if (!full)
		memset((u8 *)f->frames + ((u64)n << PAGE_SHIFT), FAKE_EMPTY, PAGE_SIZE);
}

/* Release who waits for pages [first, first + nr): a mask of them for ring(). */
static u32 release(struct fake *f, u32 first, u32 nr)
{
	u32 mask = 0;

	for (u32 i = 0; i < FAKE_WAITERS; i++) {
		struct waiter *w = &f->waiter[i];
		u32 state = atomic32_peek(&w->state);

		if ((state != WAITER_PENDING && state != WAITER_READ) || w->page < first ||
		    w->page >= first + nr)
			continue;
		atomic32_poke(&w->state, WAITER_RELEASED);
		mask |= 1u << i;
	}
	return mask;
}

/* After the step.  A slot may have a new owner by now: he looks and sleeps on. */
static void ring(struct fake *f, u32 mask)
{
	for (; mask; mask &= mask - 1)
		event_signal(&f->waiter[__builtin_ctz(mask)].released);
}

/* ---- the program --------------------------------------------------------- */

enum touch { TOUCH_DONE, TOUCH_FAULT, TOUCH_SIGNAL };

static enum touch touch_page(struct fake *f, u32 page, bool write)
{
	u8 *flags = &f->flags[page];

	if (*flags & (FAKE_UNMAPPED | FAKE_POISONED) || (write && *flags & FAKE_READONLY))
		return TOUCH_SIGNAL;
	if (!(*flags & FAKE_PRESENT)) {
		if (f->registered[page])
			return TOUCH_FAULT;
		memset(f->content[page], 0, PAGE_SIZE);
		*flags |= FAKE_PRESENT | FAKE_ZERO;
	}
	if (write && *flags & FAKE_PROTECTED)
		return TOUCH_FAULT;
	if (write)
		*flags &= (u8) ~(FAKE_ZERO | FAKE_SHARED);
	return TOUCH_DONE;
}

static struct waiter *post_fault(struct fake *f, u32 page, bool write)
{
	u32 i = 0;

	while (i < FAKE_WAITERS && atomic32_peek(&f->waiter[i].state) != WAITER_FREE)
		i++;
	quire_assert(i < FAKE_WAITERS);
	f->waiter[i].queue = f->registered[page] - 1u;
	f->waiter[i].page = page;
	f->waiter[i].number = f->nr_posted++;
	f->waiter[i].tid = (u32)os_gettid();
	f->waiter[i].write = write;
	f->waiter[i].wp = f->flags[page] & FAKE_PRESENT;
	atomic32_poke(&f->waiter[i].state, WAITER_PENDING);
	return &f->waiter[i];
}

static void wait_release(struct pager *p, struct waiter *w)
{
	struct fake *f = p->priv;

	event_signal(&f->posted[w->queue]);
	for (;;) {
		u32 seq = event_seq(&w->released);

		if (atomic32_load(&w->state) == WAITER_RELEASED)
			break;
		event_wait(&w->released, seq, SYNC_FOREVER);
	}
	/* A step, after which another may have it. */
	(void)step_begin(p);
	atomic32_poke(&w->state, WAITER_FREE);
	step_end(f);
}

/* Returns inside a step, with the byte; or outside of it, with NULL. */
static u8 *access_begin(struct pager *p, u64 addr, bool write)
{
	u32 page = page_at(addr);

	quire_assert(page < FAKE_PAGES);
	for (;;) {
		struct fake *f = step_begin(p);
		enum touch res = touch_page(f, page, write);
		struct waiter *w;

		if (res == TOUCH_DONE)
			return &f->content[page][addr & ~PAGE_MASK];
		w = res == TOUCH_FAULT ? post_fault(f, page, write) : NULL;
		step_end(f);
		if (!w)
			return NULL;
		wait_release(p, w);
	}
}

u8 *fake_access(struct pager *p, u64 addr, bool write)
{
	u8 *byte = access_begin(p, addr, write);

	if (byte)
		step_end(p->priv);
	return byte;
}

u64 fake_load(struct pager *p, u64 addr)
{
	u8 *byte = access_begin(p, addr, false);
	u64 value = 0;

	if (byte) {
		memcpy(&value, byte, sizeof(value));
		step_end(p->priv);
	}
	return value;
}

void fake_store(struct pager *p, u64 addr, u64 value)
{
	u8 *byte = access_begin(p, addr, true);

	if (byte) {
		memcpy(byte, &value, sizeof(value));
		step_end(p->priv);
	}
}

u64 fake_fetch_add(struct pager *p, u64 addr, u64 n)
{
	u8 *byte = access_begin(p, addr, true);
	u64 old = 0, value;

	if (byte) {
		memcpy(&old, byte, sizeof(old));
		value = old + n;
		memcpy(byte, &value, sizeof(value));
		step_end(p->priv);
	}
	return old;
}

/* ---- the kernel ---------------------------------------------------------- */

void fake_forget(struct pager *p, u64 addr, u32 nr)
{
	struct fake *f = step_begin(p);

	quire_assert(is_range(addr, (u64)nr << PAGE_SHIFT));
	for (u32 i = 0; i < nr; i++)
		lose_page(f, page_at(addr) + i);
	step_end(f);
}

void fake_set(struct pager *p, u64 addr, u32 nr, u32 set, u32 clear)
{
	struct fake *f = step_begin(p);
	u32 first = page_at(addr), mask = 0;

	quire_assert(is_range(addr, (u64)nr << PAGE_SHIFT));
	for (u32 page = first; page < first + nr; page++) {
		if (set & FAKE_UNMAPPED) {
			lose_page(f, page);
			f->registered[page] = 0;
		}
		f->flags[page] = (u8)((f->flags[page] & ~clear) | set);
	}
	if (set & FAKE_UNMAPPED)
		mask = release(f, first, nr);
	step_end(f);
	ring(f, mask);
}

u8 *fake_hold(struct pager *p, u64 addr, u32 *ret_flags)
{
	struct fake *f = hold(p);

	quire_assert(page_at(addr) < FAKE_PAGES);
	*ret_flags = f->flags[page_at(addr)];
	return fake_content(p, addr);
}

void fake_let_go(struct pager *p)
{
	step_end(p->priv);
}

u32 fake_flags(struct pager *p, u64 addr)
{
	u32 flags;

	(void)fake_hold(p, addr, &flags);
	fake_let_go(p);
	return flags;
}

u8 *fake_content(struct pager *p, u64 addr)
{
	struct fake *f = p->priv;

	quire_assert(page_at(addr) < FAKE_PAGES);
	return &f->content[page_at(addr)][addr & ~PAGE_MASK];
}

bool fake_frame_full(struct pager *p, const void *frame)
{
	struct fake *f = p->priv;
	u32 n = frame_at(f, frame);

	return n < FAKE_FRAMES && frame_full(f, n);
}

void fake_stop(struct pager *p, bool stop)
{
	struct fake *f = p->priv;

	atomic32_poke(&f->stopped, stop);
	for (u32 q = 0; q < PAGER_MAX_QUEUES && stop; q++)
		event_signal(&f->posted[q]);
}

u32 fake_nr_waiting(struct pager *p)
{
	struct fake *f = p->priv;
	u32 nr = 0;

	for (u32 i = 0; i < FAKE_WAITERS; i++) {
		u32 state = atomic32_peek(&f->waiter[i].state);

		nr += state == WAITER_PENDING || state == WAITER_READ;
	}
	return nr;
}

/* ---- open, close --------------------------------------------------------- */

void fake_reset(struct pager *p)
{
	struct fake *f = p->priv;

	/* Contents need no clearing: a page gets its bytes when it appears. */
	memset(f, 0, offsetof(struct fake, content));
	mutex_init(&f->lock, "fake pager", LOCK_RANK_LEAF);
	for (u32 q = 0; q < PAGER_MAX_QUEUES; q++)
		event_init(&f->posted[q]);
	for (u32 i = 0; i < FAKE_WAITERS; i++)
		event_init(&f->waiter[i].released);
}

void fake_exit(struct pager *p)
{
	if (p->priv)
		os_munmap(p->priv, sizeof(struct fake));
	p->priv = NULL;
}

static int fake_open(struct pager *p, u32 nr_queues, int dev_fd)
{
	int err;

	(void)dev_fd;
	if (!nr_queues || nr_queues > PAGER_MAX_QUEUES)
		return -EINVAL;
	if (!p->priv) {
		err = os_mmap_anon(sizeof(struct fake), PROT_READ | PROT_WRITE, false, &p->priv);
		if (err)
			return err;
	}
	p->nr_queues = nr_queues;
	atomic32_poke(&p->protects, 1);
	fake_reset(p);
	return 0;
}

static void fake_close(struct pager *p)
{
	p->nr_queues = 0;
}

/* ---- ranges and frames --------------------------------------------------- */

static int fake_add_range(struct pager *p, u32 q, u64 addr, u64 len)
{
	struct fake *f;
	u32 first = page_at(addr), nr = (u32)(len >> PAGE_SHIFT);
	int err = failpoint("uffd_register");

	quire_assert(q < p->nr_queues);
	if (err || !is_range(addr, len))
		return err ? err : -EINVAL;
	f = step_begin(p);
	for (u32 i = first; i < first + nr; i++)
		if (f->registered[i] && f->registered[i] != q + 1)
			err = -EBUSY;
	for (u32 i = first; i < first + nr && !err; i++)
		if (!(f->flags[i] & FAKE_UNMAPPED))
			f->registered[i] = (u8)(q + 1);
	step_end(f);
	return err;
}

static int fake_remove_range(struct pager *p, u32 q, u64 addr, u64 len)
{
	struct fake *f;
	u32 first = page_at(addr), nr = (u32)(len >> PAGE_SHIFT), mask;

	quire_assert(q < p->nr_queues);
	if (!is_range(addr, len))
		return -EINVAL;
	f = step_begin(p);
	for (u32 i = first; i < first + nr; i++) {
		if (f->registered[i] && f->registered[i] != q + 1) {
			step_end(f);
			return -EINVAL;
		}
	}
	memset(f->registered + first, 0, nr);
	mask = release(f, first, nr);
	step_end(f);
	ring(f, mask);
	return 0;
}

static int fake_add_frames(struct pager *p, void *base, u64 len)
{
	struct fake *f = p->priv;

	if (len >> PAGE_SHIFT > FAKE_FRAMES)
		return -ENOMEM;
	f->frames = (u64)base;
	f->nr_frames = (u32)(len >> PAGE_SHIFT);
	return 0;
}

static int fake_drop_frames(struct pager *p, void *frame, u64 len)
{
	struct fake *f = step_begin(p);
	u32 n = frame_at(f, frame);

	quire_assert(n < FAKE_FRAMES && n + (len >> PAGE_SHIFT) <= f->nr_frames);
	for (u32 i = 0; i < len >> PAGE_SHIFT; i++)
		set_frame(f, n + i, false);
	step_end(f);
	return 0;
}

/* ---- pages --------------------------------------------------------------- */

/* Only for the first page of a run does the real pager break sharing. */
static int take_one(struct pager *p, struct fake *f, u32 page, u32 frame, bool first)
{
	u8 flags = page < FAKE_PAGES ? f->flags[page] : FAKE_UNMAPPED;
	u8 *to = (u8 *)f->frames + ((u64)frame << PAGE_SHIFT);

	if (flags & FAKE_READONLY)
		return -EINVAL;
	if (frame_full(f, frame))
		return -EEXIST;
	if (!(flags & FAKE_PRESENT))
		return -ENOENT;
	if (flags & (FAKE_PINNED | FAKE_SHARED)) {
		if (!first)
			return -EBUSY;
		stat_add(&p->nr_take_busy, 1);
		if (flags & FAKE_PINNED)
			return -EBUSY;
	}
	memcpy(to, f->content[page], PAGE_SIZE);
	lose_page(f, page);
	set_frame(f, frame, true);
	return 0;
}

static long fake_take(struct pager *p, u32 q, u64 addr, void *frame, u32 nr)
{
	struct fake *f;
	u32 n, first;
	int err = failpoint("uffd_move");

	quire_assert(q < p->nr_queues && nr && !(addr & ~PAGE_MASK));
	if (err)
		return err;
	f = step_begin(p);
	first = frame_at(f, frame);
	quire_assert(first < FAKE_FRAMES && first + nr <= f->nr_frames);
	for (n = 0; n < nr && !err; n++)
		err = take_one(p, f, page_at(addr + (u64)n * PAGE_SIZE), first + n, !n);
	step_end(f);
	if (!err)
		return nr;
	if (n > 1)
		return n - 1;
	if (err == -EBUSY)
		stat_add(&p->nr_take_pinned, 1);
	if (err == -EINVAL)
		stat_add(&p->nr_take_refused, 1);
	return err;
}

/* As the real one: each page is read in a step, then all are dropped in one. */
static long fake_take_protected(struct pager *p, const struct pager_page *pages, u32 nr)
{
	struct fake *f;
	u32 got = 0;
	int err = failpoint("uffd_read");

	while (got < nr && !err) {
		const struct pager_page *from = &pages[got];
		u32 page = page_at(from->addr), frame = frame_at(p->priv, from->frame);

		f = step_begin(p);
		if (page >= FAKE_PAGES || !(f->flags[page] & FAKE_PRESENT))
			err = -ENOENT;
		else if (from->frame) {
			quire_assert(frame < FAKE_FRAMES && frame_full(f, frame) == from->warm);
			memcpy(from->frame, f->content[page], PAGE_SIZE);
			set_frame(f, frame, true);
		}
		got += !err;
		step_end(f);
	}
	if (!got)
		return err;
	f = step_begin(p);
	for (u32 i = 0; i < got; i++)
		lose_page(f, page_at(pages[i].addr));
	step_end(f);
	return got;
}

static int fake_unprotect(struct pager *p, u32 q, u64 addr, u32 flags)
{
	struct fake *f;
	u32 page = page_at(addr), mask = 0;
	int err = failpoint("uffd_unprotect");

	quire_assert(q < p->nr_queues && page < FAKE_PAGES);
	f = step_begin(p);
	if (!err)
		f->flags[page] &= (u8)~FAKE_PROTECTED;
	if (!(flags & PAGER_DONTWAKE))
		mask = release(f, page, 1);
	step_end(f);
	ring(f, mask);
	return err;
}

/* May a page be put at addr by queue q? */
static int put_allowed(const struct fake *f, u32 q, u32 page)
{
	if (page >= FAKE_PAGES || f->flags[page] & FAKE_UNMAPPED || f->registered[page] != q + 1)
		return -ENOENT;
	return f->flags[page] & (FAKE_PRESENT | FAKE_POISONED) ? -EEXIST : 0;
}

static int give_one(struct fake *f, u32 q, u32 page, u32 frame)
{
	u8 *from = (u8 *)f->frames + ((u64)frame << PAGE_SHIFT);
	int err = put_allowed(f, q, page);

	if (page < FAKE_PAGES && f->flags[page] & FAKE_READONLY)
		return -EINVAL;
	if (err)
		return err;
	if (!frame_full(f, frame))
		return -ENOENT;
	memcpy(f->content[page], from, PAGE_SIZE);
	f->flags[page] |= FAKE_PRESENT;
	set_frame(f, frame, false);
	return 0;
}

/* src NULL: zeros. */
static int copy_one(struct fake *f, u32 q, u32 page, const u8 *src, u32 flags)
{
	int err = put_allowed(f, q, page);

	if (err)
		return err;
	if (src)
		memcpy(f->content[page], src, PAGE_SIZE);
	else
		memset(f->content[page], 0, PAGE_SIZE);
	f->flags[page] |= flags & PAGER_PROTECT ? FAKE_PRESENT | FAKE_PROTECTED : FAKE_PRESENT;
	return 0;
}

/* The end of a put: pages [page, page + n) are there, the next gave err. */
static long put_end(struct pager *p, u32 page, u32 n, int err, u32 flags)
{
	struct fake *f = p->priv;
	u32 mask = 0;

	if (err == -EEXIST && !n)
		stat_add(&p->nr_eexist, 1);
	if (!(flags & PAGER_DONTWAKE))
		mask = release(f, page, n ? n : err == -EEXIST);
	step_end(f);
	ring(f, mask);
	return n ? (long)n : err;
}

static long fake_give(struct pager *p, u32 q, u64 addr, void *frame, u32 nr, u32 flags)
{
	struct fake *f;
	u32 n = 0, first;
	int err = failpoint("uffd_move");

	quire_assert(q < p->nr_queues && nr && !(addr & ~PAGE_MASK));
	if (err)
		return err;
	f = step_begin(p);
	first = frame_at(f, frame);
	quire_assert(first < FAKE_FRAMES && first + nr <= f->nr_frames);
	while (n < nr && !err) {
		err = give_one(f, q, page_at(addr + (u64)n * PAGE_SIZE), first + n);
		n += !err;
	}
	return put_end(p, page_at(addr), n, err, flags);
}

static long put_copies(struct pager *p, u32 q, u64 addr, const u8 *src, u32 nr, u32 flags)
{
	struct fake *f;
	u32 n = 0;
	int err = failpoint("uffd_copy");

	quire_assert(q < p->nr_queues && nr && !(addr & ~PAGE_MASK));
	if (err)
		return err;
	f = step_begin(p);
	while (n < nr && !err) {
		err = copy_one(f, q, page_at(addr + (u64)n * PAGE_SIZE),
			       src ? src + (u64)n * PAGE_SIZE : NULL, flags);
		n += !err;
	}
	return put_end(p, page_at(addr), n, err, flags);
}

static long fake_copy(struct pager *p, u32 q, u64 addr, const void *src, u32 nr, u32 flags)
{
	return put_copies(p, q, addr, src, nr, flags);
}

static long fake_zero(struct pager *p, u32 q, u64 addr, u32 nr, u32 flags)
{
	return put_copies(p, q, addr, NULL, nr, flags);
}

static int fake_wake(struct pager *p, u32 q, u64 addr, u64 len)
{
	struct fake *f;
	u32 mask;

	quire_assert(q < p->nr_queues);
	if (!is_range(addr, len))
		return -EINVAL;
	f = step_begin(p);
	mask = release(f, page_at(addr), (u32)(len >> PAGE_SHIFT));
	step_end(f);
	ring(f, mask);
	return 0;
}

static int fake_poison(struct pager *p, u32 q, u64 addr)
{
	struct fake *f;
	u32 page = page_at(addr), mask = 0;
	int err = failpoint("uffd_poison");

	quire_assert(q < p->nr_queues);
	if (err)
		return err;
	f = step_begin(p);
	err = put_allowed(f, q, page);
	if (!err) {
		f->flags[page] |= FAKE_POISONED;
		mask = release(f, page, 1);
	}
	step_end(f);
	ring(f, mask);
	return err;
}

/* No program of ours has guards. */
static bool fake_guarded(struct pager *p, u64 addr)
{
	(void)p;
	(void)addr;
	return false;
}

static int fake_drop(struct pager *p, u64 addr, u64 len)
{
	if (!is_range(addr, len))
		return -EINVAL;
	fake_forget(p, addr, (u32)(len >> PAGE_SHIFT));
	return 0;
}

/* ---- faults and scan ----------------------------------------------------- */

/* The oldest pending fault of queue q, or NULL. */
static struct waiter *next_pending(struct fake *f, u32 q)
{
	struct waiter *found = NULL;

	for (u32 i = 0; i < FAKE_WAITERS; i++) {
		struct waiter *w = &f->waiter[i];

		if (atomic32_peek(&w->state) == WAITER_PENDING && w->queue == q &&
		    (!found || w->number < found->number))
			found = w;
	}
	return found;
}

static u32 read_pending(struct pager *p, u32 q, struct fault_msg *msgs, u32 nr)
{
	struct fake *f = step_begin(p);
	struct waiter *w;
	u32 n = 0;

	while (n < nr && (w = next_pending(f, q))) {
		atomic32_poke(&w->state, WAITER_READ);
		msgs[n++] = (struct fault_msg){ .addr = fake_addr((u32)w->page),
						.tid = w->tid,
						.write = w->write,
						.wp = w->wp };
	}
	step_end(f);
	return n;
}

static int fake_faults(struct pager *p, u32 q, struct fault_msg *msgs, u32 nr, u64 spin_ns,
		       u64 timeout_ns)
{
	struct fake *f = p->priv;

	(void)spin_ns;
	quire_assert(q < p->nr_queues);
	for (;;) {
		u32 seq = event_seq(&f->posted[q]);
		u32 n = read_pending(p, q, msgs, nr);

		if (n) {
			stat_add(&p->nr_fault_reads, 1);
			return (int)n;
		}
		stat_add(&p->nr_fault_sleeps, 1);
		if (!timeout_ns || atomic32_peek(&f->stopped) ||
		    event_wait(&f->posted[q], seq, timeout_ns))
			return 0;
	}
}

static int fake_scan(struct pager *p, u64 addr, u64 len,
		     void (*fn)(void *ctx, u64 addr, u64 nr_pages), void *ctx)
{
	u8 present[FAKE_PAGES];
	u32 first = page_at(addr), nr = (u32)(len >> PAGE_SHIFT);
	struct fake *f;

	if (!is_range(addr, len))
		return -EINVAL;
	f = step_begin(p);
	for (u32 i = 0; i < nr; i++)
		present[i] = f->flags[first + i] & FAKE_PRESENT;
	step_end(f);
	for (u32 i = 0, run; i < nr; i += run) {
		for (run = 1; i + run < nr && present[i + run] == present[i]; run++)
			;
		if (present[i])
			fn(ctx, fake_addr(first + i), run);
	}
	return 0;
}

const struct pager_ops pager_fake = {
	.name = "fake",
	.sees_pins = true,
	.open = fake_open,
	.close = fake_close,
	.add_range = fake_add_range,
	.remove_range = fake_remove_range,
	.add_frames = fake_add_frames,
	.take = fake_take,
	.give = fake_give,
	.take_protected = fake_take_protected,
	.unprotect = fake_unprotect,
	.copy = fake_copy,
	.zero = fake_zero,
	.wake = fake_wake,
	.poison = fake_poison,
	.guarded = fake_guarded,
	.drop = fake_drop,
	.drop_frames = fake_drop_frames,
	.faults = fake_faults,
	.scan = fake_scan,
};
