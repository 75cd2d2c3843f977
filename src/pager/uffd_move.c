/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_move.c - the pager of Linux 6.8 and later: pages move, bytes do not.
 *
 * Owns take (UFFDIO_MOVE from managed memory into a frame) and give (the way
 * back).  Everything else is uffd.c's.
 *
 * MOVE checks the descriptor of the destination: out goes through the frames'
 * own descriptor, in through that of the range's queue.  It refuses a page it
 * cannot own alone (EBUSY): one shared with a forked child, the shared zero
 * page (before 6.13), one that is pinned for direct I/O.  A write fault makes
 * the first two ours; what is busy after that is pinned.
 *
 * That write fault must neither store anything (the program's threads run) nor
 * wait: the page may have been dropped by the program at this moment, and an
 * engine thread that waits for a missing page of a program waits for itself.
 * MADV_POPULATE_WRITE and process_vm_writev(2) do wait.  touch_for_write() does
 * not; see there.
 *
 * MOVE also refuses a page of a mapping that is not writable at the moment (EINVAL),
 * which would make sealed data of more than the limit impossible.  Nobody stores to it,
 * so it may be copied and dropped, write-protected meanwhile against an mprotect(2)
 * that comes in between: take_read_only().  A device that a pin from before the
 * mprotect lets write there is not seen.
 *
 * Entry points: pager_uffd_move.
 *
 * Invariants: each page is in exactly one of the two places whatever fails; a
 * page that came out is not pinned; no call waits for a userfault.
 *
 * Lock ranks: none; the caller holds the pte locks.
 */
#include "pager/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"

/*
 * A write fault without a store that never waits for a userfault: FUTEX_WAKE_OP
 * adds 0 to the word at addr, atomically.  Where the page has to be faulted in
 * first the kernel does that without FAULT_FLAG_ALLOW_RETRY (fixup_user_fault
 * of fault_in_user_writeable), so that a missing page is -EFAULT at once and
 * not a message.  The waiters woken are those at a word of ours (none); those
 * of the program at addr only if its word was -2048: a spurious wake-up, which
 * futex(2) allows.
 *
 * Residual: if the program unmapped the range and mapped something else there
 * behind our back, that mapping gets one page early.
 */
static int touch_for_write(u64 addr)
{
	struct atomic32 word = { 0 };
	u32 op = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0x800);
	int err = failpoint("uffd_touch");

	if (err)
		return err;
	return (int)os_syscall6(SYS_futex, (long)&word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
				(long)addr, (long)op);
}

static int move_open(struct pager *p, u32 nr_queues, int dev_fd)
{
	int err = uffd_open(p, nr_queues, dev_fd);

	/* Refused after setuid(2): then what is not writable stays. */
	if (!err && p->caps.wp)
		p->mem_fd = os_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
	if (!err && p->mem_fd >= 0)
		uffd_open_protected(p);
	return err;
}

static int move_add_frames(struct pager *p, void *base, u64 len)
{
	int err = uffd_plain_pages((u64)base, len);

	return err ? err :
		     uffd_register(p->frame_uffd, (u64)base, len, UFFDIO_REGISTER_MODE_MISSING);
}

/*
 * A run that crosses mappings is refused as a whole (EINVAL), so then ask for
 * the first page alone.  EFAULT is an entry that holds no memory of the
 * program: poison, a guard, a page the hardware lost.
 */
static long move_run(struct pager *p, int fd, u64 dst, u64 src, u32 nr, u64 mode)
{
	long n = uffd_transfer(p, fd, UFFD_TRANSFER_MOVE, dst, src, nr, mode);

	if (n == -EINVAL && nr > 1)
		n = uffd_transfer(p, fd, UFFD_TRANSFER_MOVE, dst, src, 1, mode);
	return n == -EFAULT ? -ENOENT : n;
}

/* The protected page at addr into its frame, then dropped: 0 or the error, and then it
 * is where it was. */
static long copy_out(struct pager *p, u64 addr, void *frame)
{
	long n = uffd_read_page(p, addr, frame);
	int err;

	if (n < 0)
		return n;
	err = failpoint("uffd_drop");
	if (!err)
		err = os_madvise((void *)addr, PAGE_SIZE, MADV_DONTNEED);
	if (err)
		uffd_drop_frames(p, frame, PAGE_SIZE);
	return err;
}

/* One page of a mapping that is not writable.  -EINVAL: locked, or of another kind. */
static long take_read_only(struct pager *p, u32 q, u64 addr, void *frame)
{
	long err;

	if (p->mem_fd < 0 || uffd_protect(p, q, addr, 1, UFFDIO_WRITEPROTECT_MODE_WP))
		return -EINVAL;
	err = copy_out(p, addr, frame);
	if (err)
		uffd_unprotect(p, q, addr, 1);
	else
		uffd_wake(p, q, addr, PAGE_SIZE);
	return err ? err : 1;
}

static long move_take(struct pager *p, u32 q, u64 addr, void *frame, u32 nr)
{
	long n;

	quire_assert(q < p->nr_queues && !(addr & ~PAGE_MASK));
	/* Nobody waits at a frame: DONTWAKE saves the look. */
	n = move_run(p, p->frame_uffd, (u64)frame, addr, nr, UFFDIO_MOVE_MODE_DONTWAKE);
	if (n == -EBUSY) {
		stat_add(&p->nr_take_busy, 1);
		/* Whatever it says, MOVE says it better. */
		touch_for_write(addr);
		n = move_run(p, p->frame_uffd, (u64)frame, addr, nr, UFFDIO_MOVE_MODE_DONTWAKE);
		if (n == -EBUSY)
			stat_add(&p->nr_take_pinned, 1);
	}
	if (n == -EINVAL)
		n = take_read_only(p, q, addr, frame);
	if (n == -EINVAL)
		stat_add(&p->nr_take_refused, 1);
	return n;
}

static long move_give(struct pager *p, u32 q, u64 addr, void *frame, u32 nr, u32 flags)
{
	u64 mode = flags & PAGER_DONTWAKE ? UFFDIO_MOVE_MODE_DONTWAKE : 0;
	long n;

	quire_assert(q < p->nr_queues && !(addr & ~PAGE_MASK));
	n = move_run(p, p->uffd[q], addr, (u64)frame, nr, mode);
	if (n == -EBUSY) {
		/* The frame is shared with a child since a fork. */
		touch_for_write((u64)frame);
		n = move_run(p, p->uffd[q], addr, (u64)frame, nr, mode);
	}
	return uffd_put_result(p, q, addr, n, flags);
}

const struct pager_ops pager_uffd_move = {
	.name = "uffd_move",
	.sees_pins = true,
	.open = move_open,
	.close = uffd_close,
	.add_range = uffd_add_range,
	.remove_range = uffd_remove_range,
	.add_frames = move_add_frames,
	.take = move_take,
	.give = move_give,
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
