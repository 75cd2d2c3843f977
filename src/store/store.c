/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - what is common to all stores: is a directory fit, closing.
 *
 * Owns nothing.  store_check_dir() answers before anything is created, so that
 * `quire doctor` and the engine's start can say why not; opening may still fail
 * later.  No locks.
 */
#include "store/store.h"

#include <errno.h>
#include <linux/fcntl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fmt.h"
#include "base/os.h"

#define TMPFS_MAGIC 0x01021994
#define RAMFS_MAGIC 0x858458f6
#define MIN_FREE (16 * MIB)

/* A file there would be memory again, outside every limit. */
static bool is_memory(const struct statfs *fs)
{
	return (u32)fs->f_type == TMPFS_MAGIC || (u32)fs->f_type == RAMFS_MAGIC;
}

/* By effective ids; kernels without faccessat2 learn it when opening. */
static int check_writable(const char *dir)
{
	long err = os_syscall6(SYS_faccessat2, AT_FDCWD, (long)dir, W_OK | X_OK, AT_EACCESS, 0, 0);

	if (err == -ENOSYS)
		return 0;
	return err ? -EACCES : 0;
}

int store_check_dir(const char *dir, bool allow_tmpfs, u64 *ret_free)
{
	struct statfs fs;
	int fd, err;

	fd = os_open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	err = os_fstatfs(fd, &fs);
	(void)os_close(fd);
	if (err)
		return err;
	if (is_memory(&fs) && !allow_tmpfs)
		return -EMEDIUMTYPE;
	err = check_writable(dir);
	if (err)
		return err;
	*ret_free = (u64)fs.f_bavail * (u64)fs.f_bsize;
	return *ret_free < MIN_FREE ? -ENOSPC : 0;
}

void store_close(struct store *s)
{
	s->ops->close(s);
}

void store_to_text(const struct store *s, struct fmt *out)
{
	fmt_add(out,
		"store: file %llu of %llu bytes%s, live %llu, inherited %llu, objects %llu\n"
		"store: reads %llu bytes %llu errors %llu, writes %llu bytes %llu errors %llu, "
		"no_space %llu cleaned %llu, opened_here %llu refused_here %llu%s%s\n",
		(unsigned long long)stat_read(&s->bytes_file), (unsigned long long)s->max_bytes,
		stat_read(&s->full) ? ", full" : "", (unsigned long long)stat_read(&s->bytes_live),
		(unsigned long long)stat_read(&s->bytes_inherited),
		(unsigned long long)stat_read(&s->nr_objects),
		(unsigned long long)stat_read(&s->nr_reads),
		(unsigned long long)stat_read(&s->bytes_read),
		(unsigned long long)stat_read(&s->nr_read_errors),
		(unsigned long long)stat_read(&s->nr_writes),
		(unsigned long long)stat_read(&s->bytes_written),
		(unsigned long long)stat_read(&s->nr_write_errors),
		(unsigned long long)stat_read(&s->nr_enospc),
		(unsigned long long)stat_read(&s->nr_cleaned),
		(unsigned long long)stat_read(&s->nr_here_opened),
		(unsigned long long)stat_read(&s->nr_here_refused), s->direct ? ", direct" : "",
		stat_read(&s->ring) ? ", io_uring" : "");
}
