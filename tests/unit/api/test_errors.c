/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_errors.c - the API on wrong arguments: error value, sentence, and nothing
 * changed.  On the fake pager: nothing here needs userfaultfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <quire/quire.h>
#include <quire/view.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "lib/test.h"

static struct quire *open_fake(void)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	struct quire *q = NULL;
	int err;

	opt.pager = "fake";
	err = quire_open(&opt, &q);
	if (err < 0)
		FAIL("quire_open: %d: %s", err, quire_why());
	return q;
}

/* The call must return `error` and its sentence contain `part`. */
#define ASSERT_WHY(call, error, part)                                                              \
	do {                                                                                       \
		int test_err = (call);                                                             \
		if (test_err != -(error))                                                          \
			FAIL("%s: %d, not %d: %s", #call, test_err, -(error), quire_why());        \
		if (!strstr(quire_why(), part))                                                    \
			FAIL("%s: \"%s\" does not say \"%s\"", #call, quire_why(), part);          \
	} while (0)

TEST(names_of_errors)
{
	ASSERT_STR_EQ(quire_strerror(0), "no error");
	ASSERT_STR_EQ(quire_strerror(-ENOENT), quire_strerror(ENOENT));
	ASSERT_STR_EQ(quire_strerror(-12345), "unknown error");
	ASSERT_NOT_NULL(quire_strerror(INT32_MIN));
	ASSERT_STR_EQ(quire_version(), QUIRE_VERSION);
}

TEST(options)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	struct {
		struct quire_options known;
		char unknown[64];
	} newer = { .known = QUIRE_OPTIONS_INIT };
	struct quire *q;

	ASSERT_WHY(quire_open(NULL, NULL), EINVAL, "NULL");
	opt.size = 0;
	ASSERT_WHY(quire_open(&opt, &q), EINVAL, "size");
	opt.size = sizeof(opt);
	opt.flags = 1u << 30;
	ASSERT_WHY(quire_open(&opt, &q), EINVAL, "0x40000000");
	opt.flags = 0;
	opt.pager = "magic";
	ASSERT_WHY(quire_open(&opt, &q), EINVAL, "magic");
	opt.pager = "fake";
	opt.swap_dir = "/no/such/dir";
	ASSERT_WHY(quire_open(&opt, &q), ENOENT, "/no/such/dir");
	opt.swap_dir = "/etc/passwd";
	ASSERT_WHY(quire_open(&opt, &q), ENOTDIR, "/etc/passwd");
	opt.flags = QUIRE_OPEN_NO_STORE;
	ASSERT_OK(quire_open(&opt, &q));
	quire_close(q);

	/* A newer program's struct: fine while it asks for nothing new. */
	newer.known.size = sizeof(newer);
	newer.known.pager = "fake";
	ASSERT_OK(quire_open(&newer.known, &q));
	quire_close(q);
	newer.unknown[5] = 1;
	ASSERT_WHY(quire_open(&newer.known, &q), EINVAL, "newer");
	quire_close(NULL);
}

TEST(group_names)
{
	struct quire *q = open_fake();
	struct quire_group *root = quire_root(q), *g = NULL, *same = NULL;
	char text[200];

	ASSERT_WHY(quire_group_create(NULL, "a", &g), EINVAL, "NULL");
	ASSERT_WHY(quire_group_create(root, NULL, &g), EINVAL, "NULL");
	ASSERT_WHY(quire_group_create(root, "", &g), EINVAL, "not a name");
	ASSERT_WHY(quire_group_create(root, ".", &g), EINVAL, "not a name");
	ASSERT_WHY(quire_group_create(root, "a/b", &g), EINVAL, "not a name");
	ASSERT_WHY(quire_group_create(root, "a b", &g), EINVAL, "not a name");
	memset(text, 'x', 64);
	text[64] = 0;
	ASSERT_WHY(quire_group_create(root, text, &g), EINVAL, "not a name");
	text[63] = 0;
	ASSERT_OK(quire_group_create(root, text, &g));
	ASSERT_OK(quire_group_remove(g));
	ASSERT_NULL(same);

	ASSERT_OK(quire_group_create(root, "a", &g));
	ASSERT_WHY(quire_group_create(root, "a", &same), EEXIST, "exists");
	ASSERT_OK(quire_group_open(q, "/a", &same));
	ASSERT_PTR_EQ(g, same);
	ASSERT_OK(quire_group_open(q, "a//", &same));
	ASSERT_PTR_EQ(g, same);
	ASSERT_OK(quire_group_open(q, "", &same));
	ASSERT_PTR_EQ(root, same);
	ASSERT_WHY(quire_group_open(q, "b", &same), ENOENT, "there is none");
	ASSERT_WHY(quire_group_open(q, "a/b", &same), ENOENT, "there is none");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ASSERT_LT(quire_group_open(q, text, &same), 0);
	quire_close(q);
}

TEST(group_tree)
{
	struct quire *q = open_fake();
	struct quire_group *root = quire_root(q), *g, *deep = NULL;
	char path[QUIRE_PATH_MAX], name[8];
	int err = 0, n = 0;

	ASSERT_OK(quire_group_make(q, "/x/y/z", &deep));
	ASSERT_EQ(quire_group_path(deep, path, sizeof(path)), 6u);
	ASSERT_STR_EQ(path, "/x/y/z");
	ASSERT_EQ(quire_group_path(deep, path, 3), 6u);
	ASSERT_STR_EQ(path, "/x");
	ASSERT_EQ(quire_group_path(deep, NULL, 0), 6u);
	ASSERT_EQ(quire_group_path(root, path, sizeof(path)), 1u);
	ASSERT_STR_EQ(path, "/");
	ASSERT_NULL(quire_group_parent(root));
	ASSERT_PTR_EQ(quire_group_parent(quire_group_parent(quire_group_parent(deep))), root);
	for (g = NULL; (g = quire_group_next(root, g));)
		n++;
	ASSERT_EQ(n, 4);
	ASSERT_WHY(quire_group_remove(quire_group_parent(deep)), EBUSY, "has groups");
	ASSERT_WHY(quire_group_remove(root), EPERM, "root");
	ASSERT_OK(quire_group_remove(deep));

	/* A handle of a removed group says so, everywhere. */
	ASSERT_WHY(quire_group_remove(deep), ENODEV, "removed");
	ASSERT_WHY(quire_write(deep, "memory.max", "1M"), ENODEV, "removed");
	ASSERT_EQ(quire_current(deep), 0u);
	ASSERT_EQ(quire_group_path(deep, path, sizeof(path)), 0u);
	ASSERT_NULL(quire_group_parent(deep));

	for (g = root; !err && n < 100; n++) {
		snprintf(name, sizeof(name), "d%d", n);
		err = quire_group_create(g, name, &g);
	}
	ASSERT_EQ(err, -E2BIG);
	quire_close(q);
}

TEST(files)
{
	struct quire_file_info info = { .size = sizeof(info) };
	struct quire *q = open_fake();
	struct quire_group *g;
	char text[64], all[8192];
	uint64_t n = 0;
	size_t len = 0;

	ASSERT_OK(quire_group_create(quire_root(q), "g", &g));
	ASSERT_OK(quire_write(g, "memory.max", "64M\n"));
	ASSERT_OK(quire_read(g, "memory.max", text, sizeof(text), &len));
	ASSERT_STR_EQ(text, "67108864\n");
	ASSERT_EQ(len, 9u);
	ASSERT_EQ(quire_limit(g), 64ull << 20);
	ASSERT_OK(quire_read(g, "memory.max", text, 4, &len));
	ASSERT_STR_EQ(text, "671");
	ASSERT_EQ(len, 9u);
	ASSERT_OK(quire_read_u64(g, "memory.max", &n));
	ASSERT_EQ(n, 64ull << 20);
	ASSERT_OK(quire_write_u64(g, "memory.max", QUIRE_MAX));
	ASSERT_OK(quire_read_u64(g, "memory.max", &n));
	ASSERT_TRUE(n == QUIRE_MAX && quire_limit(g) == QUIRE_MAX);
	ASSERT_OK(quire_read(g, "memory.stat", all, sizeof(all), NULL));
	ASSERT_OK(quire_read_key(g, "memory.stat", "pgfault", &n));
	ASSERT_OK(quire_read_key(g, "memory.events", "oom_kill", &n));
	ASSERT_EQ(n, 0u);

	ASSERT_WHY(quire_read(g, "memory.frob", text, sizeof(text), NULL), ENOENT, "memory.frob");
	ASSERT_WHY(quire_read(g, NULL, text, sizeof(text), NULL), EINVAL, "NULL");
	ASSERT_WHY(quire_read(g, "memory.reclaim", text, sizeof(text), NULL), EACCES,
		   "only be written");
	ASSERT_WHY(quire_write(g, "memory.current", "1"), EACCES, "cannot be written");
	ASSERT_WHY(quire_write(g, "memory.max", ""), EINVAL, "not understood");
	ASSERT_WHY(quire_write(g, "memory.max", "64MB"), EINVAL, "64MB");
	ASSERT_WHY(quire_write(g, "memory.oom.group", "2"), EINVAL, "\"2\"");
	ASSERT_WHY(quire_read_u64(g, "memory.stat", &n), EINVAL, "one number");
	ASSERT_WHY(quire_read_key(g, "memory.stat", "pgfaul", &n), ENOENT, "pgfaul");

	ASSERT_EQ(quire_file(100000, &info), -ENOENT);
	info.size = 1;
	ASSERT_WHY(quire_file(0, &info), EINVAL, "size");
	info.size = sizeof(info);
	for (unsigned int i = 0; !quire_file(i, &info); i++) {
		if (!info.name[0] || !info.clause[0] || !(info.readable || info.writable))
			FAIL("file %u: %s", i, info.name);
		if (info.readable && quire_read(g, info.name, all, sizeof(all), &len) < 0)
			FAIL("%s: %s", info.name, quire_why());
	}
	quire_close(q);
}

TEST(ranges)
{
	struct quire *q = open_fake();
	struct quire_group *g;
	void *addr = NULL;

	ASSERT_OK(quire_group_create(quire_root(q), "g", &g));
	ASSERT_WHY(quire_map(g, 0, 0, &addr), EINVAL, "length 0");
	ASSERT_WHY(quire_map(g, (size_t)1 << 60, 0, &addr), EINVAL, "address space");
	ASSERT_WHY(quire_map(g, 4096, 1u << 20, &addr), EINVAL, "flag");
	ASSERT_WHY(quire_map(g, 4096, 0, NULL), EINVAL, "address");
	ASSERT_WHY(quire_unmap(q, (void *)0x1001, 4096), EINVAL, "multiples");
	ASSERT_WHY(quire_unmap(q, (void *)0x1000, 4095), EINVAL, "multiples");
	ASSERT_WHY(quire_unmap(q, (void *)0x1000, 0), EINVAL, "empty");
	ASSERT_WHY(quire_discard(q, (void *)0x1000, (size_t)-4096), EINVAL, "address space");
	ASSERT_WHY(quire_unmap(NULL, (void *)0x1000, 4096), EINVAL, "no tree");
	ASSERT_WHY(quire_advise(q, (void *)0x1000, 4096, (enum quire_advice)99), EINVAL, "99");
	ASSERT_WHY(quire_adopt(g, (void *)0x1001, 4096), EINVAL, "multiples");
	ASSERT_WHY(quire_adopt(NULL, (void *)0x1000, 4096), EINVAL, "NULL");
	ASSERT_WHY(quire_remap(q, (void *)0x1000, 4096, 0, 0, &addr), EINVAL, "empty");
	ASSERT_FALSE(quire_manages(q, &addr, 1));
	ASSERT_FALSE(quire_manages(q, &addr, 0));
	ASSERT_NULL(addr);
	quire_close(q);
}

TEST(heaps_and_events)
{
	struct quire *q = open_fake();
	struct quire_heap *h = NULL;
	struct quire_group *g;
	unsigned int watch;

	ASSERT_OK(quire_group_create(quire_root(q), "g", &g));
	ASSERT_WHY(quire_heap_create(g, 7, &h), EINVAL, "flag");
	ASSERT_WHY(quire_heap_create(g, 0, NULL), EINVAL, "heap");
	ASSERT_WHY(quire_heap_create(NULL, 0, &h), EINVAL, "NULL");
	ASSERT_NULL(h);
	quire_heap_destroy(NULL);
	ASSERT_EQ(quire_usable_size(NULL, NULL), 0u);
	ASSERT_WHY(quire_watch(g, 0, 1, &watch), EINVAL, "events");
	ASSERT_WHY(quire_watch(g, 1u << 31, 1, &watch), EINVAL, "events");
	ASSERT_WHY(quire_watch(g, QUIRE_EVENT_MAX, -1, &watch), EBADF, "eventfd");
	ASSERT_WHY(quire_unwatch(q, 1), ENOENT, "no watch");
	ASSERT_OK(quire_heap_create(g, 0, &h));
	ASSERT_WHY(quire_group_remove(g), EBUSY, "heaps");
	quire_heap_destroy(h);
	ASSERT_OK(quire_group_remove(g));
	quire_close(q);
}

TEST(views)
{
	struct quire_view *view;
	int fd = memfd_create("test", MFD_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_WHY(quire_view_open(fd, &view), EBADMSG, "not a tree");
	ASSERT_OK(ftruncate(fd, 1 << 20));
	ASSERT_WHY(quire_view_open(fd, &view), EBADMSG, "not a tree");
	ASSERT_WHY(quire_view_open_write(fd, &view), EBADMSG, "not a tree");
	ASSERT_LT(quire_view_open(-1, &view), 0);
	ASSERT_LT(quire_view_open_write(-1, &view), 0);
	ASSERT_WHY(quire_view_open_write(fd, NULL), EINVAL, "NULL");
	ASSERT_WHY(quire_view_reap(NULL), EINVAL, "NULL");
	ASSERT_WHY(quire_view_ended(NULL), EINVAL, "NULL");
	ASSERT_WHY(quire_view_remove(NULL, "/a"), EINVAL, "NULL");
	quire_view_close(NULL);
	close(fd);
}

TEST(views_that_only_read)
{
	int fd = memfd_create("test", MFD_CLOEXEC), only_read;
	struct engine_config cfg = { .pager = "fake", .segment_fd = fd };
	struct quire_view *view;
	struct engine *e;
	char path[32];

	ASSERT_OK(engine_create(&cfg, &e));
	ASSERT_OK(quire_view_open(fd, &view));
	ASSERT_WHY(quire_view_reap(view), EROFS, "reading only");
	ASSERT_EQ(quire_view_ended(view), 0);
	ASSERT_WHY(quire_view_remove(view, "/a"), EROFS, "reading only");
	quire_view_close(view);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	only_read = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(only_read, 0);
	ASSERT_WHY(quire_view_open_write(only_read, &view), EACCES, "cannot be changed");
	ASSERT_OK(quire_view_open_write(fd, &view));
	ASSERT_WHY(quire_view_remove(view, NULL), EINVAL, "NULL");
	ASSERT_WHY(quire_view_remove(view, "a"), ENOENT, "\"a\": there is none");
	quire_view_close(view);
	engine_destroy(e);
	close(only_read);
	close(fd);
}

/* ---- quire_why() is of its thread ------------------------------------------------ */

static void *other_thread(void *arg)
{
	struct quire *q = arg;
	struct quire_group *g;

	if (quire_why()[0])
		return (void *)"not empty at first";
	if (quire_group_open(q, "of-other", &g) != -ENOENT)
		return (void *)"no error";
	return strstr(quire_why(), "of-other") ? NULL : (void *)"another's text";
}

TEST(why_is_per_thread)
{
	struct quire *q = open_fake();
	struct quire_group *g;
	pthread_t threads[32];
	void *wrong;

	ASSERT_WHY(quire_group_open(q, "of-first", &g), ENOENT, "of-first");
	for (size_t i = 0; i < 32; i++) {
		ASSERT_EQ(pthread_create(&threads[i], NULL, other_thread, q), 0);
		pthread_join(threads[i], &wrong);
		if (wrong)
			FAIL("thread %zu: %s", i, (char *)wrong);
	}
	ASSERT_TRUE(strstr(quire_why(), "of-first") != NULL);
	quire_close(q);
}
