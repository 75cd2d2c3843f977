/* SPDX-License-Identifier: Apache-2.0 */
/*
 * here.c - reads by threads of the program itself (signal mode).
 *
 * Owns the descriptor that our file has in the program's table.  The engine's threads
 * have a table of their own, where the file was opened; a thread of the program that wants
 * to read opens it once more, by way of /proc, under a high number.
 *
 * The program may close that number, or put another file there.  So it is looked at
 * before every read, and what takes its place between the look and the read is read at
 * an offset of its own, which changes nothing there, and is not taken for an object: it
 * has no valid header.  Files of ancestors are not opened so: they are closed, and their
 * space given back, by the engine.
 *
 * Entry points: log_here(), store_forget_here().
 * Lock: log.lock, to look; not over any system call.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/fmt.h"
#include "base/os.h"
#include "store/internal.h"

/* In the table of the thread that opened it, which is the engine's. */
static int open_file(const struct log_origin *o, bool direct)
{
	char path[64];
	int fd;

	fmt_str(path, sizeof(path), "/proc/self/task/%d/fd/%d", o->tid, o->fd);
	/* Should that thread be gone, and its number another's: of whatever kind. */
	fd = os_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (direct ? O_DIRECT : 0),
		     0);
	if (fd < 0)
		return fd;
	if (os_fd_is(fd, o->dev, o->ino))
		return os_fd_high(fd);
	os_close(fd);
	return -EBADF;
}

/* The number in a value of log.here, -1: none.  Above it counts how often there was one:
 * what the program closes comes again under the same number. */
static int number_in(u64 here)
{
	return (int)(u32)here - 1;
}

static int open_again(struct log *lg, const struct log_origin *o, u64 was)
{
	int fd = open_file(o, lg->s.direct);

	if (fd < 0)
		return fd;
	if (atomic64_cas(&lg->here, was, ((was >> 32) + 1) << 32 | (u32)(fd + 1))) {
		stat_add(&lg->s.nr_here_opened, 1);
		return fd;
	}
	os_close(fd); /* two at one time */
	return -EAGAIN;
}

int log_here(struct store *s, struct store_loc loc)
{
	struct log *lg = log_of(s);
	u64 was = atomic64_load(&lg->here);
	struct log_origin o;
	bool own;
	int fd;

	mutex_lock(&lg->lock);
	own = (int)loc_file(loc) == lg->own;
	o = lg->origin;
	mutex_unlock(&lg->lock);
	if (own && os_fd_is(number_in(was), o.dev, o.ino))
		return number_in(was);
	fd = own ? open_again(lg, &o, was) : -EBADF;
	if (fd < 0)
		stat_add(&lg->s.nr_here_refused, 1);
	return fd;
}

/* Nobody opens a file meanwhile: origin is read without the lock. */
void store_forget_here(struct store *s)
{
	struct log *lg = log_of(s);
	int fd = number_in(atomic64_load(&lg->here));

	if (os_fd_is(fd, lg->origin.dev, lg->origin.ino))
		os_close(fd);
	atomic64_store(&lg->here, 0);
}
