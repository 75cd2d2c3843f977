/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd.c - userfaultfd: what the two real pagers share.
 *
 * Owns the descriptors of a struct pager and each ioctl that both pagers need.
 * Does not own: which pages may be touched when (the caller holds the pte
 * locks), finding present pages (uffd_scan.c), choosing a pager (pager.c),
 * taking pages away (uffd_move.c, uffd_copy.c).
 *
 * Entry points: uffd_open(), uffd_register(), uffd_transfer(), uffd_copy_in(),
 * uffd_faults().
 *
 * Invariants:
 *  - No event feature is ever asked for: with UFFD_FEATURE_EVENT_* a program's
 *    munmap would wait for a fault thread, and each ioctl fail until it reads.
 *  - Nothing waits for a fault and no managed byte is touched from user mode.
 *  - An error that the range caused (-ENOENT, -EINVAL, -ESRCH: it is going away
 *    at this moment) is returned as it is: the caller holds the page's lock and
 *    knows more.
 *
 * Lock ranks: none.  See also: userfaultfd(2), ioctl_userfaultfd(2).
 */
#include "pager/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"

/*
 * EAGAIN of COPY, MOVE and WRITEPROTECT is a collision with somebody who holds
 * a folio or changes a page table entry: microseconds, or a time slice if that
 * one lost the CPU.  So spin a little, then yield, then say so.
 */
#define UFFD_SPINS 8
#define UFFD_TRIES 64

/* Pages of one UFFDIO_COPY of zeros. */
#define UFFD_ZERO_RUN 16u

/* Messages of one read(2): 32 bytes each, on the stack. */
#define UFFD_BATCH 32

/* ---- descriptors --------------------------------------------------------- */

int uffd_new(int dev_fd, int flags)
{
	int err = failpoint("uffd_new");

	if (err)
		return err;
	flags |= O_CLOEXEC | O_NONBLOCK; /* poll(2) of a blocking one is POLLERR */
	if (dev_fd >= 0)
		return os_ioctl(dev_fd, USERFAULTFD_IOC_NEW, (void *)(long)flags);
	return (int)os_syscall(SYS_userfaultfd, flags, 0, 0);
}

int uffd_api(int fd, u64 features, struct uffdio_api *ret_api)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int err = failpoint("uffd_api");

	if (!err)
		err = os_ioctl(fd, UFFDIO_API, &api);
	if (!err && ret_api)
		*ret_api = api;
	return err;
}

int uffd_open_one(int dev_fd, u64 features)
{
	int fd = dev_fd >= 0 ? uffd_new(dev_fd, 0) : -ENODEV;
	int err;

	if (fd < 0)
		fd = uffd_new(-1, 0);
	if (fd < 0)
		return fd;
	err = uffd_api(fd, features, NULL);
	if (err) {
		os_close(fd);
		return err;
	}
	return fd;
}

void uffd_close(struct pager *p)
{
	p->dev_fd = p->mem_fd = p->pagemap_fd = p->pid_fd = p->frame_uffd = -1;
	atomic32_poke(&p->protects, 0);
	for (u32 q = 0; q < PAGER_MAX_QUEUES; q++)
		p->uffd[q] = -1;
	p->nr_queues = 0;
}

void uffd_close_all(struct pager *p, int dev_fd)
{
	if (p->dev_fd >= 0 && p->dev_fd != dev_fd)
		os_close(p->dev_fd);
	if (p->pagemap_fd >= 0)
		os_close(p->pagemap_fd);
	if (p->mem_fd >= 0)
		os_close(p->mem_fd);
	if (p->pid_fd >= 0)
		os_close(p->pid_fd);
	if (p->frame_uffd >= 0)
		os_close(p->frame_uffd);
	for (u32 q = 0; q < PAGER_MAX_QUEUES; q++)
		if (p->uffd[q] >= 0)
			os_close(p->uffd[q]);
	uffd_close(p);
}

int uffd_open(struct pager *p, u32 nr_queues, int dev_fd)
{
	u64 features = UFFD_FEATURE_THREAD_ID | (p->caps.wp ? UFFD_FEATURE_PAGEFAULT_FLAG_WP : 0);
	int fd;

	if (!nr_queues || nr_queues > PAGER_MAX_QUEUES)
		return -EINVAL;
	uffd_close(p); /* after a fork: whatever stands there is not ours */
	p->dev_fd = dev_fd >= 0 ? dev_fd : os_open(UFFD_DEV, O_RDWR | O_CLOEXEC, 0);
	/* Refused after setuid(2), or without /proc: uffd_scan() has another way. */
	p->pagemap_fd = os_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	/* Nobody reads the frames' descriptor: a touch of an empty frame is our
	 * bug and shall be a SIGBUS, not a thread that sleeps for ever. */
	fd = p->frame_uffd = uffd_open_one(p->dev_fd, UFFD_FEATURE_SIGBUS);
	if (fd < 0)
		goto undo;
	for (u32 q = 0; q < nr_queues; q++) {
		fd = p->signal.on ? p->signal.fd : uffd_open_one(p->dev_fd, features);
		p->uffd[q] = fd;
		if (fd < 0)
			goto undo;
	}
	p->nr_queues = nr_queues;
	return 0;
undo:
	uffd_close_all(p, dev_fd);
	return fd;
}

/* ---- ranges -------------------------------------------------------------- */

/* EINVAL: a kernel that knows no such pages.  ENOMEM: holes; the rest is done. */
static int advise_against(u64 addr, u64 len, int advice)
{
	int err = os_madvise((void *)addr, len, advice);

	return err == -EINVAL || err == -ENOMEM ? 0 : err;
}

/*
 * KSM puts the merged page there without the write protection (Linux 6.18): the store
 * that copies it again is no fault, and a page taken for clean is lost with it.
 * prctl(PR_SET_MEMORY_MERGE), which is inherited, makes every new mapping mergeable.
 */
int uffd_plain_pages(u64 addr, u64 len)
{
	int err = advise_against(addr, len, MADV_NOHUGEPAGE);

	return err ? err : advise_against(addr, len, MADV_UNMERGEABLE);
}

int uffd_register(int fd, u64 addr, u64 len, u64 mode)
{
	struct uffdio_register reg = { .range = { addr, len }, .mode = mode };
	int err = failpoint("uffd_register");

	return err ? err : os_ioctl(fd, UFFDIO_REGISTER, &reg);
}

int uffd_add_range(struct pager *p, u32 q, u64 addr, u64 len)
{
	u64 mode = UFFDIO_REGISTER_MODE_MISSING | (p->caps.wp ? UFFDIO_REGISTER_MODE_WP : 0);
	int err;

	quire_assert(q < p->nr_queues);
	err = uffd_plain_pages(addr, len);
	return err ? err : uffd_register(p->uffd[q], addr, len, mode);
}

int uffd_remove_range(struct pager *p, u32 q, u64 addr, u64 len)
{
	struct uffdio_range range = { addr, len };

	quire_assert(q < p->nr_queues);
	return os_ioctl(p->uffd[q], UFFDIO_UNREGISTER, &range);
}

/* ---- pages --------------------------------------------------------------- */

bool uffd_try_again(struct pager *p, u32 *tries)
{
	stat_add(&p->nr_eagain, 1);
	if (++*tries >= UFFD_TRIES)
		return false;
	if (*tries > UFFD_SPINS)
		os_sched_yield();
	else
		sync_relax();
	return true;
}

/*
 * How far one COPY or MOVE came: > 0 bytes, or -errno.  The kernel says "part
 * of it" as EAGAIN plus a positive count; "try again" as EAGAIN plus a count
 * of -EAGAIN, or of 0, or an untouched field.
 */
static s64 transfer_once(int fd, enum uffd_transfer kind, struct uffdio_copy *arg)
{
	bool move = kind == UFFD_TRANSFER_MOVE;
	int err = failpoint(move ? "uffd_move" : "uffd_copy");

	arg->copy = 0;
	if (!err)
		err = os_ioctl(fd, move ? UFFDIO_MOVE : UFFDIO_COPY, arg);
	if (move && !err && failpoint("uffd_move_unsaid"))
		return -EEXIST; /* as Linux 6.18 does, see moved_unsaid() */
	if (arg->copy > 0)
		return arg->copy;
	return err ? err : -EAGAIN;
}

static void note_page(void *ctx, u64 addr, u64 nr_pages)
{
	(void)addr;
	(void)nr_pages;
	*(bool *)ctx = true;
}

/*
 * EEXIST of a MOVE whose source is gone: it was moved.  Linux 6.18's move_pages
 * keeps the EAGAIN of a first attempt (the source's entry changed under it, say its
 * referenced bit was cleared) when the second one succeeds, tries a third time and
 * meets the page it has just put there (doc/decisions/0005-move-eexist.md).
 */
static bool moved_unsaid(struct pager *p, int fd, u64 dst, u64 src, u64 mode)
{
	struct uffdio_range range = { dst, PAGE_SIZE };
	bool there = false;
	int err;

	for (u32 tries = 0;
	     (err = uffd_scan(p, src, PAGE_SIZE, note_page, &there)) < 0 && tries < UFFD_TRIES;)
		uffd_try_again(p, &tries);
	/* Either guess might lose the page. */
	if (err < 0)
		os_abort("quire: cannot tell whether a page was moved\n");
	if (there)
		return false;
	stat_add(&p->nr_move_unsaid, 1);
	if (!(mode & UFFDIO_MOVE_MODE_DONTWAKE))
		os_ioctl(fd, UFFDIO_WAKE, &range); /* the kernel only wakes what it says */
	return true;
}

long uffd_transfer(struct pager *p, int fd, enum uffd_transfer kind, u64 dst, u64 src, u32 nr,
		   u64 mode)
{
	u64 len = (u64)nr << PAGE_SHIFT, done = 0;
	u32 tries = 0;

	quire_assert(nr);
	while (done < len) {
		struct uffdio_copy arg = { dst + done, src + done, len - done, mode, 0 };
		s64 n = transfer_once(fd, kind, &arg);

		if (n > 0)
			done += (u64)n;
		else if (n == -EEXIST && kind == UFFD_TRANSFER_MOVE &&
			 moved_unsaid(p, fd, dst + done, src + done, mode))
			done += PAGE_SIZE;
		else if (n == -EAGAIN && uffd_try_again(p, &tries))
			continue;
		else
			return done ? (long)(done >> PAGE_SHIFT) : (long)n;
	}
	return nr;
}

long uffd_put_result(struct pager *p, u32 q, u64 addr, long res, u32 flags)
{
	if (res == -EEXIST) {
		stat_add(&p->nr_eexist, 1);
		if (!(flags & PAGER_DONTWAKE))
			uffd_wake(p, q, addr, PAGE_SIZE);
	}
	if (p->signal.on && res > 0 && !(flags & PAGER_DONTWAKE))
		uffd_signal_woken(p, addr, (u64)res << PAGE_SHIFT);
	return p->signal.on ? uffd_signal_checked(p, res) : res;
}

long uffd_copy_in(struct pager *p, u32 q, u64 addr, const void *src, u32 nr, u32 flags)
{
	u64 mode = flags & PAGER_DONTWAKE ? UFFDIO_COPY_MODE_DONTWAKE : 0;
	long n;

	quire_assert(q < p->nr_queues && !(addr & ~PAGE_MASK));
	if (flags & PAGER_PROTECT)
		mode |= UFFDIO_COPY_MODE_WP;
	n = uffd_transfer(p, p->uffd[q], UFFD_TRANSFER_COPY, addr, (u64)src, nr, mode);
	return uffd_put_result(p, q, addr, n, flags);
}

long uffd_zero_in(struct pager *p, u32 q, u64 addr, u32 nr, u32 flags)
{
	/* Only ever read; not const, or the object file would hold them. */
	static u8 zeros[UFFD_ZERO_RUN * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	u32 done = 0;

	/* Not UFFDIO_ZEROPAGE: the first write to the shared zero page makes a
	 * page of which nobody tells us. */
	while (done < nr) {
		u32 n = min_of(nr - done, UFFD_ZERO_RUN);
		long got = uffd_copy_in(p, q, addr + (u64)done * PAGE_SIZE, zeros, n, flags);

		if (got < 0)
			return done ? (long)done : got;
		done += (u32)got;
		if (got < (long)n)
			break;
	}
	return done;
}

long uffd_read_mem(struct pager *p, u64 addr, void *to, u64 bytes)
{
	long n = failpoint("uffd_read");

	if (!n)
		n = os_syscall6(SYS_pread64, p->mem_fd, (long)to, (long)bytes, (long)addr, 0, 0);
	if (n == -EIO || (n >= 0 && (u64)n < min_of(bytes, (u64)PAGE_SIZE)))
		return -ENOENT;
	return n;
}

long uffd_read_page(struct pager *p, u64 addr, void *frame)
{
	u8 bytes[PAGE_SIZE];
	long n;

	/* Only the frames of uffd_move are registered: a store of the kernel's into an
	 * empty one is refused there, so the bytes take a detour. */
	if (!p->ops->sees_pins)
		return uffd_read_mem(p, addr, frame, PAGE_SIZE);
	n = uffd_read_mem(p, addr, bytes, PAGE_SIZE);
	if (n < 0)
		return n;
	return uffd_transfer(p, p->frame_uffd, UFFD_TRANSFER_COPY, (u64)frame, (u64)bytes, 1,
			     UFFDIO_COPY_MODE_DONTWAKE);
}

int uffd_protect(struct pager *p, u32 q, u64 addr, u32 nr, u64 mode)
{
	struct uffdio_writeprotect arg = { { addr, (u64)nr << PAGE_SHIFT }, mode };
	bool on = mode & UFFDIO_WRITEPROTECT_MODE_WP;
	u32 tries = 0;
	int err;

	do {
		err = failpoint(on ? "uffd_protect" : "uffd_unprotect");
		if (!err)
			err = os_ioctl(p->uffd[q], UFFDIO_WRITEPROTECT, &arg);
	} while (err == -EAGAIN && uffd_try_again(p, &tries));
	return err;
}

int uffd_unprotect_one(struct pager *p, u32 q, u64 addr, u32 flags)
{
	bool wake = !(flags & PAGER_DONTWAKE);
	int err = uffd_protect(p, q, addr, 1, wake ? 0 : UFFDIO_WRITEPROTECT_MODE_DONTWAKE);

	/* The range has just left our descriptor, protection included: the store can go
	 * on.  Or it still waits for this page, and faults again. */
	if ((err || p->signal.on) && wake)
		uffd_wake(p, q, addr, PAGE_SIZE);
	return err && p->signal.on ? (int)uffd_signal_checked(p, err) : err;
}

/* Page by page if the range is being cut up. */
void uffd_unprotect(struct pager *p, u32 q, u64 addr, u32 nr)
{
	if (!nr)
		return;
	if (!uffd_protect(p, q, addr, nr, 0)) {
		if (p->signal.on)
			uffd_wake(p, q, addr, (u64)nr << PAGE_SHIFT);
		return;
	}
	for (u32 i = 0; i < nr; i++)
		(void)uffd_unprotect_one(p, q, addr + (u64)i * PAGE_SIZE, 0);
}

int uffd_wake(struct pager *p, u32 q, u64 addr, u64 len)
{
	struct uffdio_range range = { addr, len };

	quire_assert(q < p->nr_queues);
	if (p->signal.on) {
		uffd_signal_woken(p, addr, len);
		return 0;
	}
	return os_ioctl(p->uffd[q], UFFDIO_WAKE, &range);
}

int uffd_poison(struct pager *p, u32 q, u64 addr)
{
	u32 tries = 0;
	int err;

	quire_assert(q < p->nr_queues);
	if (!p->caps.poison)
		return -EOPNOTSUPP;
	do {
		struct uffdio_poison arg = { .range = { addr, PAGE_SIZE } };

		err = failpoint("uffd_poison");
		if (!err)
			err = os_ioctl(p->uffd[q], UFFDIO_POISON, &arg);
	} while (err == -EAGAIN && uffd_try_again(p, &tries));
	return err;
}

int uffd_drop(struct pager *p, u64 addr, u64 len)
{
	int err = os_madvise((void *)addr, len, MADV_DONTNEED);

	(void)p;
	/* Locked memory is given back all the same: its contents are lost anyway. */
	return err == -EINVAL ? os_madvise((void *)addr, len, ABI_MADV_DONTNEED_LOCKED) : err;
}

int uffd_drop_frames(struct pager *p, void *frame, u64 len)
{
	(void)p;
	return os_madvise(frame, len, MADV_DONTNEED);
}

/* ---- faults -------------------------------------------------------------- */

static int read_faults(struct pager *p, u32 q, struct fault_msg *msgs, u32 nr)
{
	struct uffd_msg raw[UFFD_BATCH];
	u32 got = 0;
	long n = os_read(p->uffd[q], raw, min_of(nr, UFFD_BATCH) * sizeof(raw[0]));

	if (n < 0)
		return (int)n;
	for (u32 i = 0; i < (u64)n / sizeof(raw[0]); i++) {
		if (raw[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		msgs[got].addr = raw[i].address & PAGE_MASK;
		msgs[got].tid = raw[i].ptid;
		msgs[got].write = raw[i].flags & UFFD_PAGEFAULT_FLAG_WRITE;
		msgs[got].wp = raw[i].flags & UFFD_PAGEFAULT_FLAG_WP;
		got++;
	}
	stat_add(&p->nr_fault_reads, 1);
	return (int)got;
}

/* 0 when there may be something to read or the time is over. */
static int sleep_for_fault(struct pager *p, u32 q, u64 timeout_ns)
{
	struct pollfd pfd = { .fd = p->uffd[q], .events = POLLIN };
	u64 ms = (timeout_ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	int n;

	stat_add(&p->nr_fault_sleeps, 1);
	if (timeout_ns == SYNC_FOREVER)
		ms = (u64)-1;
	else if (ms > INT32_MAX)
		ms = INT32_MAX;
	n = os_poll(&pfd, 1, (int)ms);
	if (n < 0)
		return n == -EINTR ? 0 : n;
	return pfd.revents & (POLLERR | POLLNVAL) ? -EIO : 0;
}

/*
 * POLLIN promises nothing: a COPY by somebody else may have answered the fault
 * between poll and read.  So every turn but the first reads before it sleeps; the
 * first one of a queue that was just read empty goes to sleep at once.
 */
int uffd_faults(struct pager *p, u32 q, struct fault_msg *msgs, u32 nr, u64 spin_ns, u64 timeout_ns)
{
	u64 start = 0;
	bool look = spin_ns || atomic32_peek(&p->read_full[q]);

	quire_assert(q < p->nr_queues);
	if (p->signal.on)
		return uffd_signal_faults(p, msgs, nr, timeout_ns);
	for (;; look = true) {
		int n = look ? read_faults(p, q, msgs, nr) : -EAGAIN;
		u64 now, waited;

		if (n > 0 || (n < 0 && n != -EAGAIN)) {
			atomic32_poke(&p->read_full[q], n == (int)min_of(nr, UFFD_BATCH));
			return n;
		}
		now = os_now_ns();
		if (!start)
			start = now;
		waited = now - start;
		if (waited < spin_ns && waited < timeout_ns) {
			sync_relax();
			continue;
		}
		if (waited >= timeout_ns)
			return 0;
		if (timeout_ns == SYNC_FOREVER)
			waited = 0;
		n = sleep_for_fault(p, q, timeout_ns - waited);
		if (n < 0)
			return n;
	}
}
