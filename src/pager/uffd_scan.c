/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_scan.c - which pages of a range are there.
 *
 * Owns the three ways to ask: the PAGEMAP_SCAN ioctl (Linux 6.7); reading
 * /proc/self/pagemap word by word; and mincore(2), where that file cannot be
 * opened (a process that changed its uid is not dumpable, and its /proc entries
 * are root's).  Owns no descriptor (uffd.c opens it).
 *
 * Entry points: uffd_scan(), uffd_guarded().
 *
 * Invariants: a page that raises no missing fault is reported, whatever it is:
 * ordinary, the shared zero page, or in the kernel's own swap.  Guard pages
 * (MADV_GUARD_INSTALL) are not there: a touch is a SIGSEGV.  Runs reported are
 * maximal and ascend.  The answer is a snapshot; adoption registers first, so
 * that what comes after it is a fault.
 *
 * Residual: mincore(2) does not see pages in the kernel's swap and takes guards
 * for pages.  The first are not charged until they are touched and found; the
 * others are found out by take (ENOENT).
 *
 * Lock ranks: none; fn runs with nothing held.
 */
#include "pager/internal.h"

#include <errno.h>
#include <sys/syscall.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"

/* Regions of one ioctl, words of one read: on the stack. */
#define SCAN_REGIONS 64
#define SCAN_WORDS 512

/* A run that may go on in what comes next. */
struct scan {
	void (*fn)(void *ctx, u64 addr, u64 nr_pages);
	void *ctx;
	u64 start;
	u64 end; /* == start: no run */
};

static void flush_run(struct scan *s)
{
	if (s->end > s->start)
		s->fn(s->ctx, s->start, (s->end - s->start) >> PAGE_SHIFT);
	s->start = s->end = 0;
}

static void add_run(struct scan *s, u64 start, u64 end)
{
	if (start != s->end || s->start == s->end) {
		flush_run(s);
		s->start = start;
	}
	s->end = end;
}

/* One ioctl; the number of regions, with arg->walk_end set, or -errno. */
static int scan_once(int fd, struct pm_scan_arg *arg, bool know_guards)
{
	int err = failpoint("pagemap_scan");

	if (err)
		return err;
	arg->size = sizeof(*arg);
	arg->category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_PFNZERO | PAGE_IS_SWAPPED;
	arg->category_mask = arg->category_inverted = know_guards ? PAGE_IS_GUARD : 0;
	arg->return_mask = PAGE_IS_PRESENT;
	return os_ioctl(fd, PAGEMAP_SCAN, arg);
}

static int scan_by_ioctl(int fd, u64 addr, u64 end, struct scan *s)
{
	struct page_region regions[SCAN_REGIONS];
	bool know_guards = true;

	while (addr < end) {
		struct pm_scan_arg arg = { .start = addr, .end = end };
		int n;

		arg.vec = (u64)regions;
		arg.vec_len = SCAN_REGIONS;
		n = scan_once(fd, &arg, know_guards);
		if (n == -EINVAL && know_guards) {
			know_guards = false; /* before 6.15 */
			continue;
		}
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			add_run(s, regions[i].start, regions[i].end);
		if (arg.walk_end <= addr)
			return -EIO;
		addr = arg.walk_end;
	}
	return 0;
}

static int scan_by_read(int fd, u64 addr, u64 end, struct scan *s)
{
	u64 words[SCAN_WORDS];

	while (addr < end) {
		u64 want = min_of((end - addr) >> PAGE_SHIFT, (u64)SCAN_WORDS);
		u64 at = (addr >> PAGE_SHIFT) * sizeof(u64);
		long n = os_pread(fd, words, want * sizeof(u64), at);

		if (n < 0)
			return (int)n;
		if ((u64)n < sizeof(u64))
			return -EIO;
		n /= (long)sizeof(u64);
		for (long i = 0; i < n; i++, addr += PAGE_SIZE)
			if (words[i] & (PM_PRESENT | PM_SWAP) && !(words[i] & PM_GUARD_REGION))
				add_run(s, addr, addr + PAGE_SIZE);
	}
	return 0;
}

static int scan_by_mincore(u64 addr, u64 end, struct scan *s)
{
	u8 there[SCAN_WORDS];
	u64 most = SCAN_WORDS;

	while (addr < end) {
		u64 nr = min_of((end - addr) >> PAGE_SHIFT, most);
		long err = os_syscall(SYS_mincore, addr, nr << PAGE_SHIFT, there);

		if (err == -ENOMEM && nr > 1) {
			most = 1; /* a hole: page by page through this chunk */
			continue;
		}
		if (err && err != -ENOMEM)
			return (int)err;
		for (u64 i = 0; i < nr; i++, addr += PAGE_SIZE)
			if (!err && there[i] & 1)
				add_run(s, addr, addr + PAGE_SIZE);
		if (!(addr & (SCAN_WORDS * PAGE_SIZE - 1)))
			most = SCAN_WORDS;
	}
	return 0;
}

bool uffd_scan_works(int pagemap_fd)
{
	struct pm_scan_arg arg = { 0 };

	return scan_once(pagemap_fd, &arg, false) >= 0;
}

int uffd_scan(struct pager *p, u64 addr, u64 len, void (*fn)(void *ctx, u64 addr, u64 nr_pages),
	      void *ctx)
{
	struct scan s = { .fn = fn, .ctx = ctx };
	int err;

	quire_assert(!((addr | len) & ~PAGE_MASK));
	if (p->pagemap_fd < 0)
		err = scan_by_mincore(addr, addr + len, &s);
	else if (p->caps.pagemap_scan)
		err = scan_by_ioctl(p->pagemap_fd, addr, addr + len, &s);
	else
		err = scan_by_read(p->pagemap_fd, addr, addr + len, &s);
	if (!err)
		flush_run(&s);
	return err;
}

/* Before 6.15 a guard looks like a page in the kernel's swap, which is not missing
 * either.  Who cannot be asked has none. */
bool uffd_guarded(struct pager *p, u64 addr)
{
	u64 word;
	long n = -EBADF;

	if (p->pagemap_fd >= 0)
		n = os_pread(p->pagemap_fd, &word, sizeof(word),
			     (addr >> PAGE_SHIFT) * sizeof(word));
	return n == sizeof(word) && word & (PM_PRESENT | PM_SWAP | PM_GUARD_REGION);
}
