/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libc_shim.c - what the linked-in archives get in place of libc.
 *
 * Owns the few functions that liblz4, liburing and jemalloc take from libc and
 * that must not come from there: under the preload mmap, close and malloc are
 * our own interposers, and a program may replace any of them.  Does not own the
 * system calls themselves (os.c), nor the names that may stay libc's
 * (dev/lib/libc-allowed, each with its reason).
 *
 * Everything may be called before main(), in a forked child and with no engine
 * in the process.  errno is the calling program's: malloc() has to set it.
 *
 * Calls that the archives contain but that quire never reaches end in
 * os_abort(): a silent answer would hide that an archive changed.
 */
#include "base/libc_shim.h"

#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's -errno to libc's convention. */
static long set_errno(long res)
{
	if (res >= 0)
		return res;
	errno = (int)-res;
	return -1;
}

void *quire_libc_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	long res = os_mmap(addr, len, prot, flags, fd, off);

	/* Addresses of the upper half do not occur; only errors are negative. */
	if (res < 0) {
		errno = (int)-res;
		return MAP_FAILED;
	}
	return (void *)res;
}

int quire_libc_munmap(void *addr, size_t len)
{
	return (int)set_errno(os_munmap(addr, len));
}

int quire_libc_mprotect(void *addr, size_t len, int prot)
{
	return (int)set_errno(os_mprotect(addr, len, prot));
}

int quire_libc_madvise(void *addr, size_t len, int advice)
{
	return (int)set_errno(os_madvise(addr, len, advice));
}

int quire_libc_open(const char *path, int flags, ...)
{
	if (flags & (O_CREAT | O_TMPFILE))
		os_abort("quire: a linked-in library creates a file\n");
	return (int)set_errno(os_open(path, flags, 0));
}

ssize_t quire_libc_read(int fd, void *buf, size_t len)
{
	return set_errno(os_read(fd, buf, len));
}

ssize_t quire_libc_write(int fd, const void *buf, size_t len)
{
	return set_errno(os_write(fd, buf, len));
}

int quire_libc_close(int fd)
{
	return (int)set_errno(os_close(fd));
}

/* libc clears what the kernel did not write and returns 0, not the length. */
int quire_libc_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *ret_set)
{
	long len = set_errno(os_syscall(SYS_sched_getaffinity, pid, size, ret_set));
	size_t i;

	if (len < 0)
		return -1;
	for (i = (size_t)len; i < size; i++)
		((char *)ret_set)[i] = 0;
	return 0;
}

int quire_libc_sched_getcpu(void)
{
	unsigned cpu;
	long res = set_errno(os_syscall(SYS_getcpu, &cpu, NULL, NULL));

	return res < 0 ? -1 : (int)cpu;
}

int quire_libc_sched_yield(void)
{
	return (int)set_errno(os_sched_yield());
}

pid_t quire_libc_getpid(void)
{
	return os_getpid();
}

/* The number of CPUs is asked for per-CPU arenas only, which -1 leaves off. */
long quire_libc_sysconf(int name)
{
	if (name == _SC_PAGESIZE)
		return (long)PAGE_SIZE;
	errno = EINVAL;
	return -1;
}

/* jemalloc's options are ours alone: not the environment's, not /etc's. */
char *quire_libc_secure_getenv(const char *name)
{
	(void)name;
	return NULL;
}

ssize_t quire_libc_readlink(const char *path, char *buf, size_t size)
{
	(void)path;
	(void)buf;
	(void)size;
	return set_errno(-ENOENT);
}

/* Asked for with the option stats_print, which quire does not set. */
int quire_libc_atexit(void (*fn)(void))
{
	(void)fn;
	return -1;
}

/* The GNU form: returns the text, here always in buf. */
char *quire_libc_strerror_r(int error, char *buf, size_t size)
{
	static const char prefix[] = "errno ";
	char digits[12];
	unsigned left = error < 0 ? -(unsigned)error : (unsigned)error;
	size_t nr = 0, len = 0, i;

	if (size == 0)
		return buf;
	do {
		digits[nr++] = (char)('0' + left % 10);
		left /= 10;
	} while (left);
	if (error < 0)
		digits[nr++] = '-';
	for (i = 0; prefix[i] && len + 1 < size; i++)
		buf[len++] = prefix[i];
	while (nr && len + 1 < size)
		buf[len++] = digits[--nr];
	buf[len] = '\0';
	return buf;
}

_Noreturn void quire_libc_abort(void)
{
	os_abort("quire: a linked-in library aborted\n");
}

_Noreturn int quire_libc_creat(const char *path, mode_t mode)
{
	(void)path;
	(void)mode;
	os_abort("quire: creat() called inside a linked-in library\n");
}

_Noreturn void *quire_libc_malloc(size_t size)
{
	(void)size;
	os_abort("quire: malloc() called inside a linked-in library\n");
}

_Noreturn void *quire_libc_calloc(size_t nr, size_t size)
{
	(void)nr;
	(void)size;
	os_abort("quire: calloc() called inside a linked-in library\n");
}

_Noreturn void quire_libc_free(void *p)
{
	(void)p;
	os_abort("quire: free() called inside a linked-in library\n");
}
