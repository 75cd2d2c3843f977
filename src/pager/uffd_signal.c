/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_signal.c - signal mode: a userfaultfd that sends SIGBUS instead of messages.
 *
 * Owns what the kernel does for the other mode: the queue of faults that a thread could
 * not serve itself and hands to a fault thread, and the places where it waits for the
 * answer.  Whoever puts something at an address, or wakes it, tells them.
 * Does not own the handler (api/signal.c) nor what it does (fault/self.c).
 *
 * The descriptor has the same number in the program's table and in the engine's, which
 * begins as a copy: so the calls of uffd.c work on both kinds of threads.  A program may
 * close its own, or put something else there; an error is believed only after a look
 * whether it is still ours.  Engine threads are not hit by that.
 *
 * Entry points: pager_signal_...(), see pager.h.
 * Lock rank: LEAF (the queue), by application threads on an engine stack.
 */
#include "pager/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mutant.h"
#include "base/os.h"

int pager_signal_init(struct pager *p)
{
	u64 needs = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP;

	if (p->ops == &pager_fake || (p->caps.features & needs) != needs)
		return -EOPNOTSUPP;
	p->signal.on = true;
	pager_signal_forget(p);
	return 0;
}

void pager_signal_forget(struct pager *p)
{
	struct pager_signal *s = &p->signal;

	mutex_init(&s->lock, "posted faults", LOCK_RANK_LEAF);
	s->first = s->nr = 0;
	event_init(&s->ready);
	atomic32_store(&s->nr_waiting, 0);
	for (u32 n = 0; n < PAGER_WAITS / 64; n++)
		atomic64_store(&s->waiting[n], 0);
}

/* ---- the descriptor -------------------------------------------------------- */

int pager_signal_open(struct pager *p, int dev_fd)
{
	u64 features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	int dev = dev_fd >= 0 ? dev_fd : os_open(UFFD_DEV, O_RDWR | O_CLOEXEC, 0);
	int fd = uffd_open_one(dev, features);
	struct stat st;

	if (dev >= 0 && dev != dev_fd)
		os_close(dev);
	if (fd < 0)
		return fd;
	fd = os_fd_high(fd);
	if (os_fstat(fd, &st)) {
		os_close(fd);
		return -EIO;
	}
	p->signal.fd = fd;
	p->signal.dev = st.st_dev;
	p->signal.ino = st.st_ino;
	return 0;
}

static bool is_there(const struct pager *p)
{
	return os_fd_is(p->signal.fd, p->signal.dev, p->signal.ino);
}

void pager_signal_close(struct pager *p)
{
	if (p->signal.on && is_there(p))
		os_close(p->signal.fd);
	p->signal.fd = -1;
}

long uffd_signal_checked(struct pager *p, long res)
{
	if (res >= 0 || res == -EEXIST || res == -EAGAIN || res == -ENOMEM || is_there(p))
		return res;
	stat_add(&p->signal.nr_lost_fd, 1);
	return -EAGAIN;
}

/* ---- faults that are handed over -------------------------------------------- */

bool pager_signal_post(struct pager *p, const struct fault_msg *m)
{
	struct pager_signal *s = &p->signal;
	bool room;

	mutex_lock(&s->lock);
	room = s->nr < PAGER_POSTS;
	if (room)
		s->post[(s->first + s->nr++) % PAGER_POSTS] = *m;
	mutex_unlock(&s->lock);
	stat_add(&s->nr_posts, room);
	event_signal(&s->ready);
	return room;
}

static u32 take_posts(struct pager_signal *s, struct fault_msg *msgs, u32 nr)
{
	u32 got;

	mutex_lock(&s->lock);
	for (got = 0; got < nr && s->nr; got++, s->nr--) {
		msgs[got] = s->post[s->first];
		s->first = (s->first + 1) % PAGER_POSTS;
	}
	mutex_unlock(&s->lock);
	return got;
}

int uffd_signal_faults(struct pager *p, struct fault_msg *msgs, u32 nr, u64 timeout_ns)
{
	struct pager_signal *s = &p->signal;

	for (;;) {
		u32 seq = event_seq(&s->ready);
		u32 got = take_posts(s, msgs, nr);

		if (got) {
			stat_add(&p->nr_fault_reads, 1);
			return (int)got;
		}
		stat_add(&p->nr_fault_sleeps, 1);
		if (event_wait(&s->ready, seq, timeout_ns) == -ETIMEDOUT)
			return 0;
	}
}

/* ---- waiting ----------------------------------------------------------------- */

struct pager_wait *pager_signal_wait_begin(struct pager *p, u64 addr)
{
	struct pager_signal *s = &p->signal;

	for (u32 i = 0; i < PAGER_WAITS; i++) {
		struct atomic64 *word = &s->waiting[i / 64];
		u64 bit = 1ull << (i % 64);

		if ((atomic64_peek(word) & bit) || (atomic64_fetch_or(word, bit) & bit))
			continue;
		atomic64_store(&s->wait[i].addr, addr);
		atomic32_store(&s->wait[i].woken, 0);
		/* A full barrier: whoever does not see it has not begun what the caller
		 * looks for next (pairs with the load in uffd_signal_woken()). */
		if (!MUTANT(waiter_counted_late))
			atomic32_fetch_add(&s->nr_waiting, 1);
		return &s->wait[i];
	}
	return NULL;
}

int pager_signal_wait(struct pager *p, struct pager_wait *w, u64 timeout_ns)
{
	if (MUTANT(waiter_counted_late))
		atomic32_fetch_add(&p->signal.nr_waiting, 1);
	if (!atomic32_load(&w->woken))
		(void)futex_wait(&w->woken, 0, timeout_ns, false);
	return atomic32_load(&w->woken) ? 0 : -ETIMEDOUT;
}

void pager_signal_wait_end(struct pager *p, struct pager_wait *w)
{
	struct pager_signal *s = &p->signal;
	u32 i = (u32)(w - s->wait);

	atomic64_store(&w->addr, 0);
	atomic32_fetch_sub(&s->nr_waiting, 1);
	atomic64_fetch_and(&s->waiting[i / 64], ~(1ull << (i % 64)));
}

/* One whose place is another's by now is woken for nothing, and faults again. */
static void wake_if_within(struct pager_wait *w, u64 start, u64 end)
{
	u64 addr = atomic64_load(&w->addr);

	if (addr < start || addr >= end)
		return;
	atomic32_store(&w->woken, 1);
	futex_wake(&w->woken, 1, false);
}

void uffd_signal_woken(struct pager *p, u64 addr, u64 len)
{
	struct pager_signal *s = &p->signal;

	if (likely(!atomic32_load(&s->nr_waiting)))
		return;
	for (u32 n = 0; n < PAGER_WAITS / 64; n++)
		for (u64 set = atomic64_load(&s->waiting[n]); set; set &= set - 1)
			wake_if_within(&s->wait[n * 64 + (u32)__builtin_ctzll(set)], addr,
				       addr + len);
}
