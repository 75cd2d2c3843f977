/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h - managed memory, frames and a fault thread around a real pager.
 *
 * The least engine there can be: a lock and a place (nowhere, in memory, in
 * frame n) per page.  Page n goes out to frame n.  A rig is torn down by the
 * next rig_setup(), also after a test that failed half way.
 */
#ifndef QUIRE_TESTS_PAGER_RIG_H
#define QUIRE_TESTS_PAGER_RIG_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/os.h"
#include "pager/internal.h"
#include "test.h"

#define RIG_PAGES 64u
#define RIG_BYTES (RIG_PAGES * PAGE_SIZE)

static struct rig {
	struct pager pager;
	u8 *mem;
	u8 *frames;
	pthread_mutex_t lock[RIG_PAGES];
	bool out[RIG_PAGES];
	pthread_t server;
	bool serving;
	struct atomic32 stop;
	struct counter64 nr_served;
	struct counter64 nr_wp; /* write-protect faults */
	struct counter64 nr_bad; /* answers that make no sense */
	struct thread self; /* the test's own thread, while failpoints are armed */
	struct failpoints failpoints;
} rig;

static inline u64 rig_addr(u32 page)
{
	return (u64)(uintptr_t)rig.mem + page * PAGE_SIZE;
}

static inline u8 *rig_frame(u32 page)
{
	return rig.frames + page * PAGE_SIZE;
}

static inline u8 rig_pattern(u32 page, u32 byte)
{
	return (u8)(page * 13 + byte * 7 + (byte >> 8) + 1);
}

static inline void rig_fill(u8 *to, u32 page)
{
	for (u32 i = 0; i < PAGE_SIZE; i++)
		to[i] = rig_pattern(page, i);
}

/* Byte truth of one page, wherever it is mapped; the last 16 bytes are not looked at. */
static inline bool rig_intact(const u8 *at, u32 page)
{
	for (u32 i = 0; i < PAGE_SIZE - 16; i++)
		if (at[i] != rig_pattern(page, i))
			return false;
	return true;
}

static inline u64 rig_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/* ---- the fault thread ------------------------------------------------------ */

static inline void rig_serve(const struct fault_msg *msg)
{
	const struct pager_ops *ops = rig.pager.ops;
	u32 k = (u32)((msg->addr - rig_addr(0)) / PAGE_SIZE);
	long n;

	pthread_mutex_lock(&rig.lock[k]);
	n = rig.out[k] ? ops->give(&rig.pager, 0, msg->addr, rig_frame(k), 1, 0) :
			 ops->zero(&rig.pager, 0, msg->addr, 1, 0);
	if (n == -EBUSY) { /* a fork between breaking the sharing and moving */
		n = ops->copy(&rig.pager, 0, msg->addr, rig_frame(k), 1, 0);
		ops->drop_frames(&rig.pager, rig_frame(k), PAGE_SIZE);
	}
	if (n == 1)
		rig.out[k] = false;
	else if (n != -EEXIST || rig.out[k])
		stat_add(&rig.nr_bad, 1);
	pthread_mutex_unlock(&rig.lock[k]);
	stat_add(&rig.nr_served, 1);
	if (msg->wp)
		stat_add(&rig.nr_wp, 1);
}

static inline void *rig_server(void *arg)
{
	struct fault_msg msg[8];

	while (!atomic32_load(&rig.stop)) {
		int n = rig.pager.ops->faults(&rig.pager, 0, msg, 8, 20000, 20 * NSEC_PER_MSEC);

		if (n < 0)
			stat_add(&rig.nr_bad, 1);
		for (int i = 0; i < n; i++)
			rig_serve(&msg[i]);
	}
	return arg;
}

static inline void rig_start_server(void)
{
	ASSERT_EQ(pthread_create(&rig.server, NULL, rig_server, NULL), 0);
	rig.serving = true;
}

static inline void rig_stop_server(void)
{
	atomic32_store(&rig.stop, 1);
	if (rig.serving)
		pthread_join(rig.server, NULL);
	rig.serving = false;
	atomic32_store(&rig.stop, 0);
}

/* Take [page, page + nr) out, under the locks; what take said. */
static inline long rig_take(u32 page, u32 nr)
{
	long n;

	for (u32 i = page; i < page + nr; i++)
		pthread_mutex_lock(&rig.lock[i]);
	n = rig.pager.ops->take(&rig.pager, 0, rig_addr(page), rig_frame(page), nr);
	for (u32 i = page; i < page + nr; i++) {
		if ((long)(i - page) < n)
			rig.out[i] = true;
		pthread_mutex_unlock(&rig.lock[i]);
	}
	return n;
}

static inline bool rig_take_allowed(u32 page)
{
	bool out;

	pthread_mutex_lock(&rig.lock[page]);
	out = rig.out[page];
	pthread_mutex_unlock(&rig.lock[page]);
	return !out;
}

/* Make named calls of this thread fail (base/failpoint.h); NULL: none. */
static inline void rig_fail(const char *rules)
{
	if (rig.self.failpoints)
		thread_detach();
	memset(&rig.self, 0, sizeof(rig.self));
	if (!rules)
		return;
	ASSERT_EQ(failpoints_parse(&rig.failpoints, rules), 0);
	rig.self.failpoints = &rig.failpoints;
	thread_attach(&rig.self);
}

/* ---- setting up -------------------------------------------------------------- */

static inline void *rig_map(void)
{
	void *p = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

static inline void rig_teardown(void)
{
	rig_fail(NULL);
	if (!rig.mem)
		return;
	rig_stop_server();
	munmap(rig.mem, RIG_BYTES);
	munmap(rig.frames, RIG_BYTES);
	uffd_close_all(&rig.pager, -1);
	rig.mem = NULL;
}

/* A pager by name, RIG_PAGES pages of managed memory (none present), frames. */
static inline const struct pager_ops *rig_setup(const char *name)
{
	int err;

	rig_teardown();
	err = pager_init(&rig.pager, name);
	if (err)
		SKIP("%s: %s (device: %s, system call: %s)", name, strerror(-err),
		     strerror(rig.pager.caps.dev_errno), strerror(rig.pager.caps.syscall_errno));
	ASSERT_OK(rig.pager.ops->open(&rig.pager, 1, -1));
	rig.mem = rig_map();
	rig.frames = rig_map();
	for (u32 i = 0; i < RIG_PAGES; i++) {
		pthread_mutex_init(&rig.lock[i], NULL);
		rig.out[i] = false;
	}
	stat_set(&rig.nr_served, 0);
	stat_set(&rig.nr_wp, 0);
	stat_set(&rig.nr_bad, 0);
	ASSERT_OK(rig.pager.ops->add_frames(&rig.pager, rig.frames, RIG_BYTES));
	ASSERT_OK(rig.pager.ops->add_range(&rig.pager, 0, rig_addr(0), RIG_BYTES));
	return rig.pager.ops;
}

/* Put the pattern into [page, page + nr) by copy(). */
static inline void rig_put(u32 page, u32 nr)
{
	u8 buf[PAGE_SIZE];

	for (u32 i = page; i < page + nr; i++) {
		rig_fill(buf, i);
		ASSERT_EQ(rig.pager.ops->copy(&rig.pager, 0, rig_addr(i), buf, 1, 0), 1);
	}
}

/* Not mlock(3): ASan makes a nothing of it. */
static inline long rig_mlock(u32 page)
{
	return syscall(SYS_mlock, rig_addr(page), PAGE_SIZE);
}

/* ---- a forked child that keeps its copy ---------------------------------------- */

struct rig_child {
	pid_t pid;
	int fd; /* closing it ends the child */
};

/* The child looks at the page when told to end; status 0 if it is intact. */
static inline struct rig_child rig_fork(u32 page)
{
	struct rig_child c;
	int fds[2];
	u8 byte;

	ASSERT_EQ(pipe(fds), 0);
	c.pid = fork();
	ASSERT_TRUE(c.pid >= 0);
	if (c.pid == 0) {
		close(fds[1]);
		(void)!read(fds[0], &byte, 1);
		_exit(rig_intact(rig.mem + page * PAGE_SIZE, page) ? 0 : 1);
	}
	close(fds[0]);
	c.fd = fds[1];
	return c;
}

static inline int rig_child_end(struct rig_child *c)
{
	int status = -1;

	close(c->fd);
	waitpid(c->pid, &status, 0);
	return status;
}

#endif
