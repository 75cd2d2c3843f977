/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap.c - the address-space calls of the program.
 *
 * Managed: private anonymous mappings of at least 128 KiB, whatever their
 * protection at birth (Node reserves PROT_NONE and mprotects later, Java maps
 * MAP_FIXED over reservations), without PROT_EXEC and without flags that ask for
 * something else (stack, huge, locked).  Everything that touches no managed byte
 * goes to the kernel as it came; engine_manages() decides without a lock.
 *
 * What leaves management first: ranges that get PROT_EXEC, MADV_WIPEONFORK, or a
 * foreign mapping over them.  Calls by raw syscall instructions are not seen; the
 * engine settles what they did at the next fault (pgdropped).
 */
#include "preload.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/os.h"

#define MANAGED_MIN (128 * KIB)
/* Asked for by the caller for a reason that paging would break. */
#define FOREIGN_FLAGS (MAP_STACK | MAP_GROWSDOWN | MAP_HUGETLB | MAP_LOCKED | MAP_32BIT)

/* libc's convention from ours. */
static long result(long res)
{
	if (res >= 0 || res < -4095)
		return res;
	errno = (int)-res;
	return -1;
}

static bool manages(const void *addr, size_t len)
{
	return preload.ready && engine_manages(preload.e, addr, len);
}

static bool wanted(size_t len, int prot, int flags)
{
	return preload.ready && preload.manage_mmap && len >= MANAGED_MIN &&
	       (flags & (MAP_PRIVATE | MAP_ANONYMOUS)) == (MAP_PRIVATE | MAP_ANONYMOUS) &&
	       !(prot & PROT_EXEC) && !(flags & FOREIGN_FLAGS);
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *at;
	int err;

	if (wanted(len, prot, flags)) {
		err = engine_mmap(preload.e, engine_home(preload.e), addr, len, prot, flags, &at);
		return err ? (void *)result(err) : at;
	}
	if ((flags & MAP_FIXED) && manages(addr, len)) {
		err = engine_forget(preload.e, addr, len);
		if (err)
			return (void *)result(err);
	}
	return (void *)result(os_mmap(addr, len, prot, flags, fd, off));
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t off)
{
	return mmap(addr, len, prot, flags, fd, off);
}

EXPORT int munmap(void *addr, size_t len)
{
	if (manages(addr, len))
		return (int)result(engine_munmap(preload.e, addr, len));
	return (int)result(os_munmap(addr, len));
}

EXPORT void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *new_addr = NULL, *at;
	va_list ap;
	int err;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		new_addr = va_arg(ap, void *);
		va_end(ap);
	}
	if (old_len && manages(old, old_len)) {
		err = engine_mremap(preload.e, old, old_len, new_len, flags, new_addr, &at);
		return err ? (void *)result(err) : at;
	}
	if ((flags & MREMAP_FIXED) && manages(new_addr, new_len)) {
		err = engine_forget(preload.e, new_addr, new_len);
		if (err)
			return (void *)result(err);
	}
	return (void *)result(os_mremap(old, old_len, new_len, flags, new_addr));
}

/* Executable memory is not paged: the range leaves with its content. */
static int before_protect(void *addr, size_t len, int prot)
{
	return (prot & PROT_EXEC) && manages(addr, len) ? engine_release(preload.e, addr, len) : 0;
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	int err = before_protect(addr, len, prot);

	return (int)result(err ? err : os_mprotect(addr, len, prot));
}

EXPORT int pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	int err = before_protect(addr, len, prot);

	return (int)result(
		err ? err :
		      os_syscall6(SYS_pkey_mprotect, (long)addr, (long)len, prot, pkey, 0, 0));
}

/* madvise(2) on a range with managed parts; 1: the kernel shall hear it too. */
static int advise(void *addr, size_t len, int advice)
{
	struct engine *e = preload.e;

	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		return engine_discard(e, addr, len);
	case MADV_WILLNEED:
		return engine_advise(e, addr, len, ENGINE_ADVISE_WILLNEED);
	case MADV_COLD:
		return engine_advise(e, addr, len, ENGINE_ADVISE_COLD);
	case MADV_PAGEOUT:
		return engine_advise(e, addr, len, ENGINE_ADVISE_PAGEOUT);
	case MADV_SEQUENTIAL:
		return engine_advise(e, addr, len, ENGINE_ADVISE_SEQUENTIAL);
	case MADV_RANDOM:
		return engine_advise(e, addr, len, ENGINE_ADVISE_RANDOM);
	case MADV_NORMAL:
		return engine_advise(e, addr, len, ENGINE_ADVISE_NORMAL);
	case MADV_DONTFORK:
	case MADV_DOFORK:
		return engine_set_dontfork(e, addr, len, advice == MADV_DONTFORK);
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		return 0; /* managed memory is paged by 4 KiB; KSM would refuse moves */
	case MADV_WIPEONFORK: {
		int err = engine_release(e, addr, len);

		return err ? err : 1;
	}
	default:
		return 1;
	}
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	int res = manages(addr, len) ? advise(addr, len, advice) : 1;

	return (int)result(res == 1 ? os_madvise(addr, len, advice) : res);
}

EXPORT int posix_madvise(void *addr, size_t len, int advice)
{
	/* POSIX_MADV_DONTNEED must not lose data: libc ignores it, so do we. */
	static const int linux_advice[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL,
					    MADV_WILLNEED };
	int res = 1;

	if (advice == POSIX_MADV_DONTNEED)
		return 0;
	if (advice < 0 || advice >= (int)ARRAY_SIZE(linux_advice))
		return EINVAL;
	if (manages(addr, len))
		res = advise(addr, len, linux_advice[advice]);
	if (res == 1)
		res = os_madvise(addr, len, linux_advice[advice]);
	return -res;
}

/* ---- locking -------------------------------------------------------------------- */

static int lock_range(const void *addr, size_t len, int flags)
{
	u64 start = align_down((u64)addr, PAGE_SIZE);
	u64 end = align_up((u64)addr + len, PAGE_SIZE);

	if (end > start && manages((void *)start, end - start))
		return engine_pin(preload.e, (void *)start, end - start);
	if (flags)
		return (int)os_syscall(SYS_mlock2, addr, len, flags);
	return (int)os_syscall(SYS_mlock, addr, len, 0);
}

EXPORT int mlock(const void *addr, size_t len)
{
	return (int)result(lock_range(addr, len, 0));
}

EXPORT int mlock2(const void *addr, size_t len, unsigned int flags)
{
	return (int)result(lock_range(addr, len, (int)flags));
}

EXPORT int munlock(const void *addr, size_t len)
{
	u64 start = align_down((u64)addr, PAGE_SIZE);
	u64 end = align_up((u64)addr + len, PAGE_SIZE);

	if (end > start && manages((void *)start, end - start))
		return (int)result(engine_unpin(preload.e, (void *)start, end - start));
	return (int)result(os_syscall(SYS_munlock, addr, len, 0));
}

/* Never passed on: MCL_FUTURE would populate every sparse mapping to come, and the
 * limit would be a promise nobody can keep (findings 26). */
EXPORT int mlockall(int flags)
{
	if (!preload.ready)
		return (int)result(os_syscall(SYS_mlockall, flags, 0, 0));
	if (!(flags & MCL_CURRENT))
		return 0;
	return (int)result(engine_pin(preload.e, (void *)PAGE_SIZE, (1ull << 47) - 2 * PAGE_SIZE));
}

EXPORT int munlockall(void)
{
	if (preload.ready)
		return (int)result(
			engine_unpin(preload.e, (void *)PAGE_SIZE, (1ull << 47) - 2 * PAGE_SIZE));
	return (int)result(os_syscall(SYS_munlockall, 0, 0, 0));
}

EXPORT void *shmat(int id, const void *addr, int flags)
{
	struct shmid_ds ds;
	long res;

	if (addr && (flags & SHM_REMAP) && preload.ready &&
	    !os_syscall(SYS_shmctl, id, IPC_STAT, &ds) && manages(addr, ds.shm_segsz)) {
		res = engine_forget(preload.e, (void *)addr, ds.shm_segsz);
		if (res)
			return (void *)result(res);
	}
	return (void *)result(os_syscall(SYS_shmat, id, addr, flags));
}

/* ---- the same calls by number ------------------------------------------------------ */

/* True when nr is one of the calls above; *ret_res in libc's convention. */
static bool managed_syscall(long nr, const long *a, long *ret_res)
{
	switch (nr) {
	case SYS_mmap:
		*ret_res = (long)mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4],
				      a[5]);
		return true;
	case SYS_munmap:
		*ret_res = munmap((void *)a[0], (size_t)a[1]);
		return true;
	case SYS_mremap:
		*ret_res = (long)mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3],
					(void *)a[4]);
		return true;
	case SYS_mprotect:
		*ret_res = mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
		return true;
	case SYS_madvise:
		*ret_res = madvise((void *)a[0], (size_t)a[1], (int)a[2]);
		return true;
	case SYS_mlock:
		*ret_res = mlock((void *)a[0], (size_t)a[1]);
		return true;
	case SYS_munlock:
		*ret_res = munlock((void *)a[0], (size_t)a[1]);
		return true;
	case SYS_mlockall:
		*ret_res = mlockall((int)a[0]);
		return true;
	default:
		return false;
	}
}

/*
 * Raw forks go through as they are: a child that bypassed fork() has no managed
 * memory (MADV_DONTFORK) and ends with SIGSEGV at its first touch, never with zeros.
 */
EXPORT long syscall(long nr, ...)
{
	long a[6], res;
	va_list ap;

	va_start(ap, nr);
	for (u32 i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (managed_syscall(nr, a, &res))
		return res;
	return result(os_syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]));
}
