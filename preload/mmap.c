/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap.c - the address-space calls of the program.
 *
 * Managed: private anonymous mappings of at least 128 KiB, whatever their
 * protection at birth (Node reserves PROT_NONE and mprotects later), without
 * PROT_EXEC and without flags that ask for something else (stack, huge, locked).
 * A smaller one is managed where it is put over managed memory (Go and Java commit
 * their reservations by MAP_FIXED), and when mremap(2) lets it grow to that size.
 * Everything that touches no managed byte goes to the kernel as it came, and so does
 * every range that no call can mean (not aligned, beyond the address space): the
 * kernel refuses it in its own words.  engine_manages() decides without a lock.
 *
 * What leaves management first: ranges that get PROT_EXEC, MADV_WIPEONFORK, or a
 * foreign mapping over them.  Calls by raw syscall instructions are not seen; the
 * engine settles what they did at the next fault (pgdropped).
 */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/os.h"

/* Newer than the headers of Debian 12. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef PIDFD_SELF_THREAD
#define PIDFD_SELF_THREAD (-10000)
#define PIDFD_SELF_THREAD_GROUP (-20000)
#endif

#define MANAGED_MIN (128 * KIB)
/* End of what a program may map: the kernel's TASK_SIZE. */
#define ADDRESS_MAX ((1ull << 47) - PAGE_SIZE)
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

/* Whole pages inside the address space. */
static bool is_range(const void *addr, size_t len)
{
	return !((u64)addr & ~PAGE_MASK) && len && len <= ADDRESS_MAX &&
	       (u64)addr <= ADDRESS_MAX - align_up(len, PAGE_SIZE);
}

/* Did the program say of memory that is not managed what a fork does to it? */
static struct atomic32 fork_advised;

static bool manages(const void *addr, size_t len)
{
	return preload.ready && is_range(addr, len) &&
	       engine_manages(preload.e, addr, align_up(len, PAGE_SIZE));
}

static bool wanted(const void *addr, size_t len, int prot, int flags)
{
	if (!preload.ready || !preload.manage_mmap || !len || len > ADDRESS_MAX)
		return false;
	if ((flags & (MAP_TYPE | MAP_ANONYMOUS)) != (MAP_PRIVATE | MAP_ANONYMOUS) ||
	    (prot & PROT_EXEC) || (flags & FOREIGN_FLAGS))
		return false;
	return len >= MANAGED_MIN || ((flags & MAP_FIXED) && manages(addr, len));
}

/*
 * Something foreign over managed memory.  The engine's thread could not make it, for
 * it lacks the program's descriptors, and nothing may be lost if it cannot be made:
 * it is made elsewhere and moved here.
 */
static long put_over(void *addr, size_t len, long made)
{
	void *at;
	int err;

	if (made < 0 && made >= -4095)
		return made;
	len = align_up(len, PAGE_SIZE);
	err = engine_mremap(preload.e, (void *)made, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr,
			    &at);
	if (!err)
		return (long)at;
	os_munmap((void *)made, len);
	return err;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	long res;
	void *at;

	if (wanted(addr, len, prot, flags)) {
		res = engine_mmap(preload.e, engine_home(preload.e), addr, len, prot, flags, &at);
		return res ? (void *)result(res) : at;
	}
	if ((flags & MAP_FIXED) && !(flags & MAP_FIXED_NOREPLACE) && manages(addr, len)) {
		res = os_mmap(NULL, len, prot, flags & ~MAP_FIXED, fd, off);
		return (void *)result(put_over(addr, len, res));
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

/*
 * What was too small to be managed no longer is.  Nobody has told us what it is; whether
 * the program keeps it from its children only the mapping knows, so programs that ever
 * said so of small ones keep all of those.  Not done is the kernel's as before.
 */
static void manage_grown(u64 at, size_t len)
{
	struct os_mapping m;
	int maps, err;
	u64 mask = 0;

	if (!preload.ready || !preload.manage_mmap || atomic32_peek(&fork_advised))
		return;
	os_sigprocmask_async(&mask);
	maps = os_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	err = maps < 0 ? maps : os_next_mapping(maps, at, &m);
	if (maps >= 0)
		os_close(maps);
	os_sigprocmask_set(&mask);
	if (err || m.start > at || m.end < at + len || m.shared || m.inode || (m.prot & PROT_EXEC))
		return;
	/* EBUSY: the program's own userfaultfd has it. */
	(void)!engine_adopt(preload.e, engine_home(preload.e), (void *)at, len);
}

EXPORT void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *new_addr = NULL, *at;
	va_list ap;
	long res;
	int err;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(ap, flags);
		new_addr = va_arg(ap, void *);
		va_end(ap);
	}
	if (manages(old, old_len) || ((flags & MREMAP_FIXED) && manages(new_addr, new_len))) {
		err = engine_mremap(preload.e, old, old_len, new_len, flags, new_addr, &at);
		return err ? (void *)result(err) : at;
	}
	res = os_mremap(old, old_len, new_len, flags, new_addr);
	if (res >= 0 && old_len < MANAGED_MIN && new_len >= MANAGED_MIN)
		manage_grown((u64)res, align_up(new_len, PAGE_SIZE));
	return (void *)result(res);
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

/* madvise(2), -errno. */
static int advise(void *addr, size_t len, int advice)
{
	if (!manages(addr, len)) {
		if (advice == MADV_DONTFORK || advice == MADV_WIPEONFORK)
			atomic32_poke(&fork_advised, 1);
		return os_madvise(addr, len, advice);
	}
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_DONTNEED_LOCKED:
	case MADV_GUARD_INSTALL:
		return engine_madvise(preload.e, addr, len, advice);
	case MADV_WIPEONFORK: {
		/* The child's zeros are the kernel's to make. */
		int err = engine_release(preload.e, addr, len);

		return err ? err : os_madvise(addr, len, advice);
	}
	default:
		/*
		 * POPULATE_READ and _WRITE touch and fault as the program would;
		 * DONTDUMP, DODUMP, KEEPONFORK and GUARD_REMOVE change no page;
		 * REMOVE and COLLAPSE are refused for such memory, and numbers
		 * that do not exist everywhere.
		 */
		return os_madvise(addr, len, advice);
	}
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	return (int)result(advise(addr, len, advice));
}

EXPORT int posix_madvise(void *addr, size_t len, int advice)
{
	/* POSIX_MADV_DONTNEED must not lose data: libc ignores it, so do we. */
	static const int linux_advice[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL,
					    MADV_WILLNEED };

	if (advice == POSIX_MADV_DONTNEED)
		return 0;
	if (advice < 0 || advice >= (int)ARRAY_SIZE(linux_advice))
		return EINVAL;
	return -advise(addr, len, linux_advice[advice]);
}

/* Does the descriptor name this process (or this thread, in which case the answer is
 * the same: they share their memory)? */
static bool is_self(int pidfd)
{
	char path[64], text[512];
	const char *p;
	u64 pid;
	long n;

	if (pidfd == PIDFD_SELF_THREAD || pidfd == PIDFD_SELF_THREAD_GROUP)
		return true;
	fmt_str(path, sizeof(path), "/proc/thread-self/fdinfo/%d", pidfd);
	n = pidfd < 0 ? -EBADF : os_read_file(path, text, sizeof(text));
	if (n < 0)
		return false;
	p = strstr(text, "\nPid:\t");
	if (!p)
		return false;
	p += 6;
	n = 0;
	while (p[n] >= '0' && p[n] <= '9')
		n++;
	return !num_parse(p, (size_t)n, &pid) && (int)pid == os_getpid();
}

/* Own memory, range by range; the kernel stops at the first that it refuses. */
static long advise_self(const struct iovec *iov, size_t nr, int advice)
{
	long done = 0;

	for (size_t i = 0; i < nr; i++) {
		int err = advise(iov[i].iov_base, iov[i].iov_len, advice);

		if (err)
			return done ? done : err;
		done += (long)iov[i].iov_len;
	}
	return done;
}

EXPORT ssize_t process_madvise(int pidfd, const struct iovec *iov, size_t nr, int advice,
			       unsigned int flags)
{
	/* Without a range the kernel judges the arguments alone. */
	long res = os_syscall6(SYS_process_madvise, pidfd, (long)iov, 0, advice, flags, 0);

	if (!preload.ready || res < 0 || nr > IOV_MAX || !is_self(pidfd))
		res = os_syscall6(SYS_process_madvise, pidfd, (long)iov, (long)nr, advice, flags,
				  0);
	else
		res = advise_self(iov, nr, advice);
	return result(res);
}

/* ---- locking -------------------------------------------------------------------- */

/* The pages that [addr, addr + len) touches; false: none, or no such range. */
static bool touched(const void *addr, size_t len, void **ret_start, size_t *ret_len)
{
	u64 start = align_down((u64)addr, PAGE_SIZE);
	u64 end = align_up((u64)addr + len, PAGE_SIZE);

	*ret_start = (void *)start;
	*ret_len = end - start;
	return len && end > start && manages(*ret_start, *ret_len);
}

/* What was never touched is filled by faults of this thread, as far as it goes. */
static int lock_and_fill(void *start, size_t len)
{
	int err = engine_lock(preload.e, start, len, 0);

	if (!err)
		os_madvise(start, len, MADV_POPULATE_READ);
	return (int)result(err);
}

EXPORT int mlock(const void *addr, size_t len)
{
	void *start;
	size_t bytes;

	if (touched(addr, len, &start, &bytes))
		return lock_and_fill(start, bytes);
	return (int)result(os_syscall(SYS_mlock, addr, len, 0));
}

EXPORT int mlock2(const void *addr, size_t len, unsigned int flags)
{
	void *start;
	size_t bytes;

	if (!(flags & ~(unsigned int)MLOCK_ONFAULT) && touched(addr, len, &start, &bytes))
		return flags ? (int)result(engine_lock(preload.e, start, bytes, (int)flags)) :
			       lock_and_fill(start, bytes);
	return (int)result(os_syscall(SYS_mlock2, addr, len, flags));
}

EXPORT int munlock(const void *addr, size_t len)
{
	void *start;
	size_t bytes;

	if (touched(addr, len, &start, &bytes))
		return (int)result(engine_unlock(preload.e, start, bytes, 0));
	return (int)result(os_syscall(SYS_munlock, addr, len, 0));
}

/*
 * Never passed on: MCL_FUTURE would populate every sparse mapping to come, and the
 * limit would be a promise nobody can keep (findings 26).  What is managed now is
 * locked, touched or not, and that may be -ENOMEM.
 */
EXPORT int mlockall(int flags)
{
	if (!preload.ready || !flags || flags == MCL_ONFAULT ||
	    (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)))
		return (int)result(os_syscall(SYS_mlockall, flags, 0, 0));
	if (!(flags & MCL_CURRENT))
		return 0;
	return (int)result(
		engine_lock(preload.e, (void *)PAGE_SIZE, ADDRESS_MAX - PAGE_SIZE,
			    ENGINE_MANAGED_ONLY | (flags & MCL_ONFAULT ? MLOCK_ONFAULT : 0)));
}

EXPORT int munlockall(void)
{
	int err = 0;

	if (preload.ready)
		err = engine_unlock(preload.e, (void *)PAGE_SIZE, ADDRESS_MAX - PAGE_SIZE,
				    ENGINE_MANAGED_ONLY);
	return (int)result(err ? err : os_syscall(SYS_munlockall, 0, 0, 0));
}

EXPORT void *shmat(int id, const void *addr, int flags)
{
	struct shmid_ds ds;
	u64 at = (u64)addr;

	if (flags & SHM_RND)
		at = align_down(at, PAGE_SIZE);
	if (at && (flags & SHM_REMAP) && preload.ready &&
	    !os_syscall(SYS_shmctl, id, IPC_STAT, &ds) && manages((void *)at, ds.shm_segsz))
		return (void *)result(
			put_over((void *)at, ds.shm_segsz,
				 os_syscall(SYS_shmat, id, NULL, flags & ~(SHM_REMAP | SHM_RND))));
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
	case SYS_mlock2:
		*ret_res = mlock2((void *)a[0], (size_t)a[1], (unsigned int)a[2]);
		return true;
	case SYS_mlockall:
		*ret_res = mlockall((int)a[0]);
		return true;
	case SYS_munlockall:
		*ret_res = munlockall();
		return true;
	case SYS_pkey_mprotect:
		*ret_res = pkey_mprotect((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3]);
		return true;
	case SYS_process_madvise:
		*ret_res = process_madvise((int)a[0], (void *)a[1], (size_t)a[2], (int)a[3],
					   (unsigned int)a[4]);
		return true;
	case SYS_shmat:
		*ret_res = (long)shmat((int)a[0], (void *)a[1], (int)a[2]);
		return true;
	default:
		return false;
	}
}

/* Raw forks go through as they are (clone.c). */
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
	if (nr == SYS_seccomp)
		privilege_before_loss();
	res = os_syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (!res && clone_makes_copy(nr, a))
		clone_without_memory();
	return result(res);
}
