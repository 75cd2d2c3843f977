/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os_process.c - processes: is the one we knew still there, what is ours alone?
 *
 * Owns: telling a process that lives from a zombie, from nobody, and from another
 * one that was given the same number since.
 * Does not own: what its death means (memcg/member.c, memcg/lock.c).
 * Entry points: os_process_alive(), os_process_image(), os_boot_ns(), os_process_anon(),
 * os_process_maps().
 * Invariants: as os.c.  In doubt a process is alive: who takes a living one for
 * dead gives away what it uses, who waits for a dead one looks again later.
 */
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/fmt.h"
#include "base/vdso.h"

/* USER_HZ, of /proc/PID/stat: 100 on every machine we run on. */
#define CLOCK_TICK_NS (10 * NSEC_PER_MSEC)
/* proc(5), counted from the state behind comm */
#define STAT_START 20 /* starttime */
#define STAT_STACK 26 /* startstack: random for each image */
#define STAT_CPU 37 /* processor */

u64 os_boot_ns(void)
{
	struct timespec ts = { 0, 0 };

	if (vdso_clock_gettime(CLOCK_BOOTTIME, &ts))
		(void)os_syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &ts, 0);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/* What comes behind comm in a stat file of /proc, in text: 0 or -errno. */
static int read_stat(const char *path, char *text, size_t size, const char **ret_at)
{
	long len = os_read_file(path, text, size);

	*ret_at = NULL;
	/* comm may hold anything, a parenthesis too. */
	for (long i = 0; i < len; i++)
		if (text[i] == ')')
			*ret_at = text + i + 1;
	if (len < 0)
		return (int)len;
	return *ret_at ? 0 : -EIO;
}

/* A number of it, counted from the state behind comm: 0 or -errno. */
static int read_field(const char *path, u32 field, u64 *ret_value)
{
	char text[1024];
	const char *at;
	int err = read_stat(path, text, sizeof(text), &at);
	u32 n = 0;

	*ret_value = 0;
	if (err)
		return err;
	for (; n < field && *at; at++)
		n += *at == ' ';
	for (; *at >= '0' && *at <= '9'; at++)
		*ret_value = *ret_value * 10 + (u64)(*at - '0');
	return n == field ? 0 : -EIO;
}

bool os_process_stopped(int pid)
{
	char path[32], text[1024];
	const char *at;

	fmt_str(path, sizeof(path), "/proc/%d/stat", pid);
	return !read_stat(path, text, sizeof(text), &at) && at[0] == ' ' &&
	       (at[1] == 'T' || at[1] == 't');
}

int os_thread_cpu(int tid)
{
	char path[64];
	u64 cpu;
	int err;

	fmt_str(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	err = read_field(path, STAT_CPU, &cpu);
	return err ? err : (int)cpu;
}

/* 0: cannot tell. */
static u64 stat_field(int pid, u32 field)
{
	char path[32];
	u64 value;

	fmt_str(path, sizeof(path), "/proc/%d/stat", pid);
	(void)read_field(path, field, &value);
	return value;
}

u64 os_process_image(int pid)
{
	return stat_field(pid, STAT_STACK);
}

bool os_process_alive(int pid, u64 boot_ns)
{
	int fd = os_pidfd_open(pid);
	struct pollfd poll = { .fd = fd, .events = POLLIN };
	bool ended;

	/* -EINVAL: the number is a thread's by now. */
	if (fd == -ESRCH || fd == -EINVAL || fd == -ENOENT)
		return false;
	if (fd < 0)
		return os_kill(pid, 0) != -ESRCH;
	/* A zombie's whole thread group has ended: its memory is gone. */
	ended = os_poll(&poll, 1, 0) == 1;
	os_close(fd);
	/* When it started, by os_boot_ns(), rounded down. */
	return !ended && stat_field(pid, STAT_START) * CLOCK_TICK_NS <= boot_ns;
}

static bool holds(const char *text, size_t len, const char *what)
{
	size_t n = strlen(what);

	for (size_t i = 0; i + n <= len; i++)
		if (!memcmp(text + i, what, n))
			return true;
	return false;
}

int os_process_maps(int pid, u64 dev, u64 ino)
{
	char path[32], want[64], text[4096];
	size_t kept = 0, most;
	bool found = false;
	long n;
	int fd;

	/* As in proc(5): "... rw-s 00000000 00:19 2817 /dev/shm/..." */
	fmt_str(want, sizeof(want), " %02x:%02x %llu ", (u32)(dev >> 8 & 0xfff),
		(u32)((dev & 0xff) | (dev >> 12 & 0xfff00)), (unsigned long long)ino);
	fmt_str(path, sizeof(path), "/proc/%d/maps", pid);
	fd = os_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	while (!found && (n = os_read(fd, text + kept, sizeof(text) - kept)) > 0) {
		most = kept + (size_t)n;
		found = holds(text, most, want);
		/* It may lie across two reads. */
		kept = min_of(most, strlen(want));
		memmove(text, text + most - kept, kept);
	}
	os_close(fd);
	return found;
}

/* KiB of a line of smaps_rollup, in bytes; the first line has no such key. */
static u64 smaps_bytes(const char *text, const char *key)
{
	size_t len = strlen(key);
	u64 kib = 0;

	for (; *text && strncmp(text, key, len); text++)
		;
	for (text += *text ? len : 0; *text == ' '; text++)
		;
	for (; *text >= '0' && *text <= '9'; text++)
		kib = kib * 10 + (u64)(*text - '0');
	return kib * KIB;
}

/* "size resident shared ...": what is not of files. */
u64 os_statm_anon(const char *text, long len)
{
	u64 field[3] = { 0 };
	u32 n = 0;

	for (long i = 0; i < len && n < ARRAY_SIZE(field); i++) {
		if (text[i] >= '0' && text[i] <= '9')
			field[n] = field[n] * 10 + (u64)(text[i] - '0');
		else
			n++;
	}
	return field[1] > field[2] ? (field[1] - field[2]) << PAGE_SHIFT : 0;
}

u64 os_process_anon(int pid, u64 *ret_others)
{
	char path[40], text[1024];
	u64 all, ours;

	fmt_str(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	*ret_others = 0;
	if (os_read_file(path, text, sizeof(text)) >= 0) {
		all = smaps_bytes(text, "\nAnonymous:");
		ours = smaps_bytes(text, "\nPss_Anon:");
		if (ours && all > ours)
			*ret_others = all - ours;
		return all;
	}
	/* It may not be looked at: it has changed its user, say. */
	fmt_str(path, sizeof(path), "/proc/%d/statm", pid);
	return os_statm_anon(text, os_read_file(path, text, sizeof(text)));
}
