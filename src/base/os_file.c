/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os_file.c - the system calls of os.h that work on files and descriptors.
 *
 * Owns nothing but the calls: descriptors belong to whoever opened them, and
 * number n means what it means in the calling thread's table (engine threads
 * have one of their own).
 *
 * Entry points: os_open() ... os_read_file().
 *
 * Invariants: as os.c.  os_pread() and os_pwrite() hide short transfers, which
 * callers could not treat any better; os_read() and os_write() do not.
 *
 * See also: os.c, store/ (the main user).
 */
#include "base/os.h"

#include "base/failpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Numbers are looked for from the end of what select(2) can use, or of the limit. */
#define HIGH_FD 1024u
#define HIGH_FDS 32u

int os_open(const char *path, int flags, int mode)
{
	int err = failpoint("os_open");

	if (err)
		return err;
	return (int)os_syscall6(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
}

int os_openat(int dirfd, const char *path, int flags, int mode)
{
	int err = failpoint("os_openat");

	if (err)
		return err;
	return (int)os_syscall6(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
}

/* The descriptor is gone also where an error is returned, as in the kernel. */
int os_close(int fd)
{
	int err = failpoint("os_close");
	int res = (int)os_syscall(SYS_close, fd, 0, 0);

	return err ? err : res;
}

int os_close_range(unsigned first, unsigned last)
{
	int err = failpoint("os_close_range");

	if (err)
		return err;
	return (int)os_syscall(SYS_close_range, first, last, 0);
}

/* ---- transfers --------------------------------------------------------- */

long os_read(int fd, void *buf, size_t len)
{
	long res = failpoint("os_read");

	if (res)
		return res;
	do {
		res = os_syscall(SYS_read, fd, buf, len);
	} while (res == -EINTR);
	return res;
}

long os_write(int fd, const void *buf, size_t len)
{
	long res = failpoint("os_write");

	if (res)
		return res;
	do {
		res = os_syscall(SYS_write, fd, buf, len);
	} while (res == -EINTR);
	return res;
}

/* pread(2) or pwrite(2), to the end or until there is no more. */
static long transfer_at(long nr, int fd, u64 buf, size_t len, u64 off)
{
	size_t done = 0;

	while (done < len) {
		long res = os_syscall6(nr, fd, (long)(buf + done), (long)(len - done),
				       (long)(off + done), 0, 0);

		if (res == -EINTR)
			continue;
		if (res < 0)
			return res;
		if (res == 0)
			break;
		done += (size_t)res;
	}
	return (long)done;
}

long os_pread(int fd, void *buf, size_t len, u64 off)
{
	int err = failpoint("os_pread");

	return err ? err : transfer_at(SYS_pread64, fd, (u64)buf, len, off);
}

long os_pwrite(int fd, const void *buf, size_t len, u64 off)
{
	long n = failpoint("os_pwrite");

	if (!n)
		n = transfer_at(SYS_pwrite64, fd, (u64)buf, len, off);
	return n < 0 || (size_t)n == len ? n : -EIO;
}

long os_read_file(const char *path, char *buf, size_t size)
{
	size_t done = 0;
	long res;
	int fd;

	if (size == 0)
		return -EINVAL;
	fd = os_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	/* One read(2) is not enough: procfs returns a page at a time. */
	do {
		res = os_read(fd, buf + done, size - done);
		if (res > 0)
			done += (size_t)res;
	} while (res > 0 && done < size);
	(void)os_close(fd);
	if (res < 0)
		return res;
	if (done == size)
		return -EFBIG;
	buf[done] = '\0';
	return (long)done;
}

/* ---- space and state ----------------------------------------------------- */

int os_ftruncate(int fd, u64 len)
{
	int err = failpoint("os_ftruncate");

	if (err)
		return err;
	return (int)os_syscall(SYS_ftruncate, fd, len, 0);
}

int os_fallocate(int fd, int mode, u64 off, u64 len)
{
	int err = failpoint("os_fallocate");

	if (err)
		return err;
	return (int)os_syscall6(SYS_fallocate, fd, mode, (long)off, (long)len, 0, 0);
}

int os_fadvise(int fd, u64 off, u64 len, int advice)
{
	int err = failpoint("os_fadvise");

	if (err)
		return err;
	return (int)os_syscall6(SYS_fadvise64, fd, (long)off, (long)len, advice, 0, 0);
}

int os_sync_file_range(int fd, u64 off, u64 len, unsigned flags)
{
	int err = failpoint("os_sync_file_range");

	if (err)
		return err;
	return (int)os_syscall6(SYS_sync_file_range, fd, (long)off, (long)len, (long)flags, 0, 0);
}

int os_ioctl(int fd, unsigned long req, void *arg)
{
	int err = failpoint("os_ioctl");

	if (err)
		return err;
	return (int)os_syscall(SYS_ioctl, fd, req, arg);
}

int os_fcntl(int fd, int cmd, long arg)
{
	int err = failpoint("os_fcntl");

	if (err)
		return err;
	return (int)os_syscall(SYS_fcntl, fd, cmd, arg);
}

int os_fd_high(int fd)
{
	struct rlimit64 limit = { HIGH_FD, HIGH_FD };
	u32 end;
	int high;

	os_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0);
	end = (u32)min_of(limit.rlim_cur, (u64)HIGH_FD);
	high = os_fcntl(fd, F_DUPFD_CLOEXEC, end > HIGH_FDS ? end - HIGH_FDS : 0);
	if (high < 0)
		return fd;
	os_close(fd);
	return high;
}

bool os_fd_is(int fd, u64 dev, u64 ino)
{
	struct stat st;

	return fd >= 0 && !os_fstat(fd, &st) && st.st_dev == dev && st.st_ino == ino;
}

int os_fstat(int fd, void *st)
{
	int err = failpoint("os_fstat");

	if (err)
		return err;
	return (int)os_syscall(SYS_fstat, fd, st, 0);
}

int os_stat(const char *path, void *st)
{
	int err = failpoint("os_stat");

	if (err)
		return err;
	return (int)os_syscall(SYS_stat, path, st, 0);
}

int os_fstatfs(int fd, void *st)
{
	int err = failpoint("os_fstatfs");

	if (err)
		return err;
	return (int)os_syscall(SYS_fstatfs, fd, st, 0);
}

int os_mkdir(const char *path, int mode)
{
	int err = failpoint("os_mkdir");

	if (err)
		return err;
	return (int)os_syscall(SYS_mkdir, path, mode, 0);
}

int os_unlink(const char *path)
{
	int err = failpoint("os_unlink");

	if (err)
		return err;
	return (int)os_syscall(SYS_unlink, path, 0, 0);
}

/* Kernel ABI, 6.11; older headers lack it. */
struct mapping_query {
	u64 size;
	u64 flags, addr; /* in */
	u64 start, end, prot, page_size, offset, inode; /* out */
	u32 dev_major, dev_minor;
	u32 name_size, build_id_size; /* in and out */
	u64 name, build_id;
};
_Static_assert(sizeof(struct mapping_query) == 104, "ABI");

#define QUERY_COVERING_OR_NEXT 0x10
#define QUERY_SHARED 8
#define QUERY_MAPPING _IOWR('f', 17, struct mapping_query)

/* Text of /proc/self/maps, as it is read. */
struct maps_text {
	int fd;
	u64 off;
	long nr, at;
	char buf[1024];
};

static int next_char(struct maps_text *m)
{
	if (m->at == m->nr) {
		m->nr = os_pread(m->fd, m->buf, sizeof(m->buf), m->off);
		m->at = 0;
		if (m->nr <= 0) {
			m->nr = 0;
			return -1;
		}
		m->off += (u64)m->nr;
	}
	return m->buf[m->at++];
}

/* A number up to the character behind it, which is returned; -1 at the end. */
static int next_number(struct maps_text *m, u32 base, u64 *ret_n)
{
	int c;

	for (*ret_n = 0;; *ret_n = *ret_n * base + (u64)(c <= '9' ? c - '0' : c - 'a' + 10)) {
		c = next_char(m);
		if (!(c >= '0' && c <= '9') && !(base == 16 && c >= 'a' && c <= 'f'))
			return c;
	}
}

/* "start-end rwxp offset major:minor inode path" */
static bool next_line(struct maps_text *m, struct os_mapping *ret)
{
	u64 skip;
	int c;

	if (next_number(m, 16, &ret->start) != '-' || next_number(m, 16, &ret->end) != ' ')
		return false;
	ret->prot = 0;
	for (u32 bit = PROT_READ; bit <= PROT_EXEC; bit <<= 1)
		ret->prot |= next_char(m) == '-' ? 0 : bit;
	ret->shared = next_char(m) == 's';
	next_char(m);
	next_number(m, 16, &skip);
	next_number(m, 16, &skip);
	next_number(m, 16, &skip);
	for (c = next_number(m, 10, &ret->inode); c != '\n'; c = next_char(m))
		if (c < 0)
			return false;
	return true;
}

static int read_mapping(int maps, u64 addr, struct os_mapping *ret)
{
	struct maps_text m = { .fd = maps };

	while (next_line(&m, ret))
		if (ret->end > addr)
			return 0;
	return -ENOENT;
}

int os_next_mapping(int maps, u64 addr, struct os_mapping *ret_mapping)
{
	struct mapping_query q = { .size = sizeof(q),
				   .flags = QUERY_COVERING_OR_NEXT,
				   .addr = addr };
	int err = os_ioctl(maps, QUERY_MAPPING, &q);

	if (err == -ENOTTY)
		return read_mapping(maps, addr, ret_mapping);
	if (err)
		return err;
	ret_mapping->start = q.start;
	ret_mapping->end = q.end;
	ret_mapping->prot = (u32)q.prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
	ret_mapping->shared = q.prot & QUERY_SHARED;
	ret_mapping->inode = q.inode;
	return 0;
}

/* ---- descriptors that are no files --------------------------------------- */

int os_memfd_create(const char *name, unsigned flags)
{
	int err = failpoint("os_memfd_create");

	if (err)
		return err;
	return (int)os_syscall(SYS_memfd_create, name, flags, 0);
}

int os_eventfd(unsigned init, int flags)
{
	int err = failpoint("os_eventfd");

	if (err)
		return err;
	return (int)os_syscall(SYS_eventfd2, init, flags, 0);
}

int os_poll(struct pollfd *fds, unsigned nr, int timeout_ms)
{
	u64 until = 0;
	long res = failpoint("os_poll");

	if (res)
		return (int)res;
	if (timeout_ms > 0)
		until = os_now_ns() + (u64)timeout_ms * NSEC_PER_MSEC;
	for (;;) {
		u64 now;

		res = os_syscall(SYS_poll, fds, nr, timeout_ms);
		if (res != -EINTR)
			return (int)res;
		if (timeout_ms <= 0)
			continue;
		now = os_now_ns();
		timeout_ms = now < until ? (int)((until - now) / NSEC_PER_MSEC) : 0;
	}
}
