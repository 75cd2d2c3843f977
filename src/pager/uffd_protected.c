/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_protected.c - taking write-protected pages in batches.
 *
 * UFFDIO_MOVE takes one scattered page a call, and each call ends with a flush of the
 * TLBs of every processor that runs the program: on a virtual machine an interrupt of
 * 5 to 10 us, there and here.  A page that a read brought in is mapped write-protected
 * (UFFDIO_COPY_MODE_WP), so it cannot change without a fault that the caller's page lock
 * holds up; reading it and dropping it need not be one step then, and process_madvise(2)
 * drops many with one flush.  Measured on two processors, random reads: 27 us a miss with
 * MOVE, 10 us with this (doc/decisions/0006-protected-pages.md).
 *
 * Entry point: uffd_take_protected().
 *
 * Invariants: a page is dropped after it has been read, whole where it has a frame; a
 * frame of a page that stays is as it was; nothing waits for a userfault (/proc/self/mem
 * reads without FAULT_FLAG_ALLOW_RETRY: what is missing is EIO, where
 * process_vm_readv(2) would wait).
 *
 * Lock ranks: none; the caller holds the pte locks.
 */
#include "pager/internal.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/failpoint.h"
#include "base/os.h"

/* Pages of one call. */
#define PROTECTED_BATCH 32u

void uffd_open_protected(struct pager *p)
{
	p->pid_fd = os_pidfd_open(os_getpid());
	atomic32_store(&p->protects, p->pid_fd >= 0);
}

/* ---- reading ------------------------------------------------------------- */

/* Pages read from the front; *ret_err: why not the next. */
static u32 read_batch(struct pager *p, const struct pager_page *pages, u32 nr, long *ret_err)
{
	for (u32 i = 0; i < nr; i++) {
		const struct pager_page *page = &pages[i];
		u8 byte;
		long n;

		/* Whose bytes are not needed must be there all the same: what the program
		 * has dropped is zeros now. */
		if (!page->frame)
			n = uffd_read_mem(p, page->addr, &byte, 1);
		else if (page->warm)
			n = uffd_read_mem(p, page->addr, page->frame, PAGE_SIZE);
		else
			n = uffd_read_page(p, page->addr, page->frame);
		if (n < 0) {
			*ret_err = n;
			return i;
		}
	}
	return nr;
}

static void undo_read(struct pager *p, const struct pager_page *pages, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		if (pages[i].frame && !pages[i].warm)
			uffd_drop_frames(p, pages[i].frame, PAGE_SIZE);
}

/* ---- dropping ------------------------------------------------------------ */

static long drop_vector(struct pager *p, const struct pager_page *pages, u32 nr)
{
	struct iovec iov[PROTECTED_BATCH];
	long n = failpoint("uffd_drop_vector");

	for (u32 i = 0; i < nr; i++)
		iov[i] = (struct iovec){ (void *)pages[i].addr, PAGE_SIZE };
	if (!n)
		n = os_syscall6(SYS_process_madvise, p->pid_fd, (long)iov, nr, MADV_DONTNEED, 0, 0);
	return n < 0 ? n : n >> PAGE_SHIFT;
}

/*
 * One by one, where the vector stopped or was refused as a whole: before Linux 6.13, or
 * by a seccomp filter.  Then a page costs what MOVE costs and a protected one an extra
 * fault, so no more pages shall come in protected.
 */
static long drop_singly(struct pager *p, const struct pager_page *pages, u32 nr)
{
	u32 done;
	int err = 0;

	for (done = 0; done < nr; done++) {
		err = failpoint("uffd_drop");
		if (!err)
			err = os_madvise((void *)pages[done].addr, PAGE_SIZE, MADV_DONTNEED);
		if (err)
			break;
		stat_add(&p->nr_drop_single, 1);
	}
	return done ? (long)done : err;
}

static long drop_batch(struct pager *p, const struct pager_page *pages, u32 nr)
{
	long n = atomic32_load(&p->protects) ? drop_vector(p, pages, nr) : -ENOSYS;

	if (n > 0)
		return n;
	n = drop_singly(p, pages, nr);
	if (n > 0)
		atomic32_store(&p->protects, 0);
	/* ENOMEM: no mapping there any more, so nothing is. */
	return n == -ENOMEM ? -ENOENT : n;
}

long uffd_take_protected(struct pager *p, const struct pager_page *pages, u32 nr)
{
	long err = 0, n;
	u32 got;

	nr = min_of(nr, PROTECTED_BATCH);
	got = read_batch(p, pages, nr, &err);
	if (!got)
		return err;
	n = drop_batch(p, pages, got);
	if (n < (long)got)
		undo_read(p, pages + (n > 0 ? n : 0), got - (n > 0 ? (u32)n : 0));
	if (n == -EINVAL)
		stat_add(&p->nr_take_refused, 1);
	return n;
}
