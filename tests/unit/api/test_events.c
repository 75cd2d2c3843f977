/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_events.c - eventfds, shrinkers and out-of-memory callbacks on a group that
 * really pages.  paging
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <quire/quire.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/open_real.h"

#define MIB ((size_t)1 << 20)
#define LIMIT (4 * MIB)

static struct quire_group *limited_group(struct quire *q)
{
	struct quire_group *g;

	ASSERT_OK(quire_group_create(quire_root(q), "events", &g));
	ASSERT_OK(quire_write_u64(g, "memory.max", LIMIT));
	return g;
}

static void touch(unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i += 4096)
		for (size_t j = 0; j < 64; j++)
			p[i + j * 61] = (unsigned char)(i / 4096 + j);
}

TEST(eventfd)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), copy = dup(fd);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	unsigned int watch;
	uint64_t n;
	void *p;

	ASSERT_OK(quire_map(g, 4 * LIMIT, 0, &p));
	ASSERT_OK(quire_watch(g, QUIRE_EVENT_MAX | QUIRE_EVENT_OOM, copy, &watch));
	close(copy); /* the library has its own */
	ASSERT_EQ(poll(&pfd, 1, 0), 0);
	/* Faster than it can be compressed: some fault finds the group full. */
	for (int i = 0; i < 50 && !poll(&pfd, 1, 200); i++)
		touch(p, 4 * LIMIT);
	ASSERT_OK(quire_read_key(g, "memory.events", "max", &n));
	ASSERT_GT(n, 0u);
	ASSERT_EQ(poll(&pfd, 1, 5000), 1);
	ASSERT_EQ(read(fd, &n, 8), 8);
	ASSERT_GT(n, 0u);
	ASSERT_OK(quire_unwatch(q, watch));
	ASSERT_EQ(quire_unwatch(q, watch), -ENOENT);
	ASSERT_OK(quire_unmap(q, p, 4 * LIMIT));
	close(fd);
	quire_close(q);
}

/* ---- a cache that shrinks ------------------------------------------------------------ */

struct cache {
	struct quire *q;
	char *base;
	size_t held; /* bytes at the front that are in use */
	int nr_calls;
	pthread_t thread;
	struct quire_group *group;
};

static size_t shrink(void *arg, struct quire_group *g, size_t wanted)
{
	struct cache *c = arg;
	size_t give = (wanted + MIB) & ~(size_t)4095;

	c->nr_calls++;
	c->thread = pthread_self();
	c->group = g;
	if (give > c->held)
		give = c->held;
	if (!give || quire_discard(c->q, c->base + c->held - give, give) < 0)
		return 0;
	c->held -= give;
	return give;
}

TEST(shrinker)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct cache c = { .q = q, .held = 3 * MIB };
	void *p;

	ASSERT_OK(quire_map(g, c.held, 0, (void **)&c.base));
	touch((unsigned char *)c.base, c.held);
	ASSERT_OK(quire_set_shrinker(g, shrink, &c));
	ASSERT_OK(quire_map(g, 2 * LIMIT, 0, &p));
	touch(p, 2 * LIMIT);
	ASSERT_GT(c.nr_calls, 0);
	ASSERT_LT(c.held, 3 * MIB);
	ASSERT_PTR_EQ(c.group, g);
	ASSERT_FALSE(pthread_equal(c.thread, pthread_self()));

	/* None, and nobody is called any more. */
	ASSERT_OK(quire_set_shrinker(g, NULL, NULL));
	c.nr_calls = 0;
	touch(p, 2 * LIMIT);
	ASSERT_EQ(c.nr_calls, 0);
	quire_close(q);
}

/* ---- out of memory --------------------------------------------------------------------- */

struct rescue {
	struct quire_group *group;
	int nr_calls;
};

static int raise_limit(void *arg, struct quire_group *g)
{
	struct rescue *r = arg;

	r->nr_calls++;
	r->group = g;
	return quire_write(g, "memory.swap.max", "max") == 0;
}

TEST(oom_is_rescued)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct rescue r = { 0 };
	uint64_t n;
	void *p;

	ASSERT_OK(quire_write(g, "memory.swap.max", "0"));
	ASSERT_OK(quire_set_oom(g, raise_limit, &r));
	ASSERT_OK(quire_map(g, 3 * LIMIT, 0, &p));
	touch(p, 3 * LIMIT);
	ASSERT_GT(r.nr_calls, 0);
	ASSERT_PTR_EQ(r.group, g);
	ASSERT_OK(quire_read_key(g, "memory.events", "oom", &n));
	ASSERT_GT(n, 0u);
	ASSERT_OK(quire_read_key(g, "memory.events", "oom_kill", &n));
	ASSERT_EQ(n, 0u);
	quire_close(q);
}

static void run_out(void)
{
	struct quire *q;
	struct quire_group *g;
	void *p;

	if (quire_open(NULL, &q) < 0 || quire_group_create(quire_root(q), "oom", &g) < 0 ||
	    quire_write_u64(g, "memory.max", LIMIT) < 0 ||
	    quire_write(g, "memory.swap.max", "0") < 0 || quire_map(g, 3 * LIMIT, 0, &p) < 0)
		_exit(1);
	signal(SIGBUS, SIG_DFL); /* a sanitizer's own handler would report and end otherwise */
	touch(p, 3 * LIMIT);
	_exit(2);
}

TEST(oom_is_sigbus)
{
	char text[400];
	int status;

	quire_close(open_real()); /* or skip */
	status = test_child(run_out, text, sizeof(text));
	ASSERT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(WTERMSIG(status), SIGBUS);
}

/* ---- a forked child is asked, too --------------------------------------------------------- */

TEST(callbacks_after_fork)
{
	struct quire *q = open_real();
	struct quire_group *g = limited_group(q);
	struct cache c = { .q = q, .held = 3 * MIB };
	int status;
	void *p;
	pid_t pid;

	ASSERT_OK(quire_map(g, c.held, 0, (void **)&c.base));
	ASSERT_OK(quire_map(g, 2 * LIMIT, 0, &p));
	touch((unsigned char *)c.base, c.held);
	ASSERT_OK(quire_set_shrinker(g, shrink, &c));
	fflush(NULL);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		touch(p, 2 * LIMIT);
		_exit(c.nr_calls > 0 && c.held < 3 * MIB ? 0 : 1);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_EQ(c.nr_calls, 0);
	quire_close(q);
}

/* ---- closing ---------------------------------------------------------------------------- */

static size_t no_bytes(void *arg, struct quire_group *g, size_t bytes_wanted)
{
	(void)arg, (void)g, (void)bytes_wanted;
	return 0;
}

static int nr_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int nr = -2; /* . and .. */

	ASSERT_TRUE(dir != NULL);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* The thread of the callbacks goes with its tree, whether that was started or not. */
TEST(close_ends_the_callbacks)
{
	struct timespec pause = { .tv_nsec = 100000000 };

	for (int started = 1; started >= 0; started--) {
		struct quire *q = open_real();

		ASSERT_OK(quire_set_shrinker(quire_root(q), no_bytes, NULL));
		if (started)
			ASSERT_OK(quire_start(q));
		quire_close(q);
	}
	/* one that was left would sleep for a second, then look at its tree */
	for (int i = 0; i < 100 && nr_threads() > 1; i++)
		nanosleep(&pause, NULL);
	ASSERT_EQ(nr_threads(), 1);
}
