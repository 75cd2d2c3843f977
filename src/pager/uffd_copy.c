/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_copy.c - the pager of kernels without UFFDIO_MOVE (5.7 to 6.7).
 *
 * Owns take (write-protect, copy, drop) and give (copy, drop the frame).
 * Everything else is uffd.c's.
 *
 * take, per run:
 *   1. UFFDIO_WRITEPROTECT: from here a store waits (fault_msg.wp);
 *   2. pread(2) of /proc/self/mem into the frames: the page is never touched
 *      from user mode, and a missing one is EIO, not a fault that we would have
 *      to answer ourselves (the kernel reads without FAULT_FLAG_ALLOW_RETRY);
 *   3. MADV_DONTNEED: the page is gone, protection with it;
 *   4. UFFDIO_WAKE: a store that waited tries again and is a missing fault now.
 * Where 2 or 3 fails the page is made writable again, which wakes too.
 *
 * Entry points: pager_uffd_copy.
 *
 * Invariants: between 1 and 3 nobody stores to the page through a page table;
 * each page is either complete in its frame and gone from the range, or
 * untouched, writable and with an empty frame.
 *
 * What it cannot see: devices and kernel code that hold a *pin* from before
 * step 1 (io_uring buffers, O_DIRECT, process_vm_writev) and write to the old
 * page after step 2.  Those bytes are lost; hence sees_pins = false and the
 * warning of quire doctor.  Unlike uffd_move it takes read-only and PROT_NONE
 * pages; locked ones are refused (-EINVAL).
 *
 * Lock ranks: none; the caller holds the pte locks.
 */
#include "pager/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"

/* One millisecond apart. */
#define PUT_BACK_TRIES 10000u

static int copy_open(struct pager *p, u32 nr_queues, int dev_fd)
{
	int err = uffd_open(p, nr_queues, dev_fd);

	if (err)
		return err;
	p->mem_fd = os_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
	if (p->mem_fd < 0) {
		err = p->mem_fd;
		uffd_close_all(p, dev_fd);
	} else {
		uffd_open_protected(p);
	}
	return err;
}

/* Frames are filled by plain stores of the kernel here: not registered. */
static int copy_add_frames(struct pager *p, void *base, u64 len)
{
	(void)p;
	return uffd_plain_pages((u64)base, len);
}

/*
 * Step 2: pages read into the frames from the front (>= 1), or the error of the
 * first.  One plain pread(2): it tells how many pages precede the missing one,
 * which os_pread() would not.
 */
static long read_pages(struct pager *p, u64 addr, void *frame, u32 nr)
{
	long n = uffd_read_mem(p, addr, frame, (u64)nr << PAGE_SHIFT);

	if (n > 0)
		return n >> PAGE_SHIFT;
	return n == -EFAULT ? -ENOMEM : n; /* the frame could not be had */
}

/*
 * The page's only copy goes back where it was.  Out of memory now is not out of memory
 * for ever, and zeros are no answer.
 */
static void put_back(struct pager *p, u32 q, u64 addr, void *frame)
{
	for (u32 tries = 0; tries < PUT_BACK_TRIES; tries++) {
		long n = uffd_transfer(p, p->uffd[q], UFFD_TRANSFER_COPY, addr, (u64)frame, 1,
				       UFFDIO_COPY_MODE_DONTWAKE);

		/* EEXIST: it was not dropped.  ENOENT, ESRCH: nobody wants it any more. */
		if (n != -ENOMEM && n != -EAGAIN)
			return;
		os_sleep_ns(NSEC_PER_MSEC);
	}
	os_abort("quire: no memory to put a page back that could not be paged out\n");
}

/*
 * Step 3: pages dropped from the front (>= 1), or the error of the first.
 * madvise(2) of a run may stop half way, at locked memory that began in the
 * middle (EINVAL), or leave out a hole (ENOMEM, where nothing is left to drop).
 * Then each page is asked for alone, and from the first that refuses on,
 * whatever the run's call did drop is put back from its frame.
 */
static long drop_pages(struct pager *p, u32 q, u64 addr, void *frame, u32 nr)
{
	int err = failpoint("uffd_drop");
	u32 done;

	if (!err)
		err = os_madvise((void *)addr, (size_t)nr << PAGE_SHIFT, MADV_DONTNEED);
	if (!err)
		return nr;
	for (done = 0; done < nr; done++) {
		err = os_madvise((void *)(addr + (u64)done * PAGE_SIZE), PAGE_SIZE, MADV_DONTNEED);
		if (err && err != -ENOMEM)
			break;
	}
	for (u32 i = done; i < nr; i++)
		put_back(p, q, addr + (u64)i * PAGE_SIZE, (u8 *)frame + (u64)i * PAGE_SIZE);
	return done ? (long)done : err;
}

/* Steps 1 to 4 for a run. */
static long take_run(struct pager *p, u32 q, u64 addr, void *frame, u32 nr)
{
	long n = uffd_protect(p, q, addr, nr, UFFDIO_WRITEPROTECT_MODE_WP);
	u32 done;

	if (n)
		return n;
	n = read_pages(p, addr, frame, nr);
	if (n > 0)
		n = drop_pages(p, q, addr, frame, (u32)n);
	done = n > 0 ? (u32)n : 0;
	if (done)
		uffd_wake(p, q, addr, (u64)done << PAGE_SHIFT);
	if (done < nr) {
		u64 rest = (u64)done << PAGE_SHIFT;

		uffd_unprotect(p, q, addr + rest, nr - done);
		uffd_drop_frames(p, (u8 *)frame + rest, (u64)(nr - done) << PAGE_SHIFT);
	}
	return n;
}

static long copy_take(struct pager *p, u32 q, u64 addr, void *frame, u32 nr)
{
	long n;

	quire_assert(q < p->nr_queues && nr && !(addr & ~PAGE_MASK));
	n = take_run(p, q, addr, frame, nr);
	/* A run across mappings is refused as a whole: the first page alone. */
	if (n < 0 && nr > 1)
		n = take_run(p, q, addr, frame, 1);
	if (n == -EINVAL)
		stat_add(&p->nr_take_refused, 1);
	return n;
}

static long copy_give(struct pager *p, u32 q, u64 addr, void *frame, u32 nr, u32 flags)
{
	long n = uffd_copy_in(p, q, addr, frame, nr, flags);

	if (n > 0)
		uffd_drop_frames(p, frame, (u64)n << PAGE_SHIFT);
	return n;
}

const struct pager_ops pager_uffd_copy = {
	.name = "uffd_copy",
	.sees_pins = false,
	.open = copy_open,
	.close = uffd_close,
	.add_range = uffd_add_range,
	.remove_range = uffd_remove_range,
	.add_frames = copy_add_frames,
	.take = copy_take,
	.give = copy_give,
	.take_protected = uffd_take_protected,
	.unprotect = uffd_unprotect_one,
	.copy = uffd_copy_in,
	.zero = uffd_zero_in,
	.wake = uffd_wake,
	.poison = uffd_poison,
	.guarded = uffd_guarded,
	.drop = uffd_drop,
	.drop_frames = uffd_drop_frames,
	.faults = uffd_faults,
	.scan = uffd_scan,
};
