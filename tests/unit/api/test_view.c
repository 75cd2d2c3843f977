/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_view.c - a tree seen from outside, and the report made of it: while its
 * process lives, after it was killed, and when its memory is garbage.  Groups that
 * are removed from outside.
 */
#include <errno.h>
#include <quire/view.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "lib/test.h"

/* The command's own names for what src/ calls otherwise. */
#undef KIB
#undef MIB
#include "../../../cmd/quire/json.c"
#include "../../../cmd/quire/report.c"
#include "../../../cmd/quire/size.c"

#include <stdarg.h>

_Noreturn void die(int status, const char *format, ...)
{
	(void)status;
	(void)format;
	abort();
}

char *text_of(const char *format, ...)
{
	char *text;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

static int make_segment(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ASSERT_GE(fd, 0);
	return fd;
}

/* What the preload of a process does: attach, make its group, set a limit. */
static struct engine *attach(int fd, const char *name, struct memcg_id *ret_group)
{
	struct engine_config cfg = { .pager = "fake", .segment_fd = fd, .store_max = UINT64_MAX };
	struct memcg_id run;
	struct engine *e;

	ASSERT_OK(engine_create(&cfg, &e));
	ASSERT_OK(memcg_create_path(engine_tree(e), "/run", &run));
	ASSERT_OK(engine_group_create(e, run, name, ret_group));
	ASSERT_OK(engine_set_home(e, *ret_group));
	return e;
}

TEST(live_tree)
{
	struct quire_member m = { .size = sizeof(m) };
	char path[1024] = "", text[64];
	int fd = make_segment(), n = 0;
	struct quire_view *view;
	struct memcg_id group;
	struct engine *e;

	e = attach(fd, "1", &group);
	ASSERT_OK(engine_knob_write(e, group, "memory.max", "64M", 3));
	ASSERT_OK(quire_view_open(fd, &view));
	ASSERT_OK(quire_view_read(view, "/run/1", "memory.max", text, sizeof(text), NULL));
	ASSERT_STR_EQ(text, "67108864\n");
	ASSERT_EQ(quire_view_read(view, "/run/2", "memory.max", text, sizeof(text), NULL), -ENOENT);
	ASSERT_EQ(quire_view_read(view, "/run/1", "frob", text, sizeof(text), NULL), -ENOENT);
	while (!quire_view_next(view, path, sizeof(path)))
		n++;
	ASSERT_EQ(n, 3);
	ASSERT_STR_EQ(path, "/run/1");
	ASSERT_OK(quire_view_member(view, 0, &m));
	ASSERT_EQ(m.pid, getpid());
	ASSERT_EQ(quire_view_member(view, 1000000, &m), -ENOENT);
	quire_view_close(view);
	engine_destroy(e);
	close(fd);
}

static void print_report(int fd, enum report_format format, char *buf, size_t size)
{
	char *argv[] = { "prog \"x\"", "\n", NULL };
	struct child child = { .pid = 1, .status = 137, .signal = 9, .seconds = 1.5 };
	struct report r = {
		.segment_fd = fd,
		.group = "/run",
		.argv = argv,
		.swap_dir = "/var/tmp",
		.max = 64 << 20,
		.swap_max = SIZE_NONE,
		.child = &child,
	};
	FILE *out = fmemopen(buf, size, "w");

	ASSERT_NOT_NULL(out);
	report_write(&r, format, out);
	fclose(out);
}

#define ASSERT_HAS(text, part)                                                                     \
	do {                                                                                       \
		if (!strstr(text, part))                                                           \
			FAIL("no %s in: %s", part, text);                                          \
	} while (0)

TEST(report_of_killed)
{
	static char text[32768];
	int fd = make_segment(), status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		struct memcg_id group;
		struct engine *e = attach(fd, "2", &group);
		struct objcg_id o;

		if (objcg_get(engine_tree(e), group, &o) < 0)
			_exit(1);
		memcg_charge_force(engine_tree(e), o, 300);
		memcg_stat_add(engine_tree(e), o, MEMCG_STAT_PGFAULT, 77);
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFSIGNALED(status));
	print_report(fd, REPORT_TEXT, text, sizeof(text));
	ASSERT_HAS(text, "killed by signal 9");
	ASSERT_HAS(text, "1.17 MiB at most, limit 64.0 MiB");
	ASSERT_HAS(text, "77");
	print_report(fd, REPORT_JSON, text, sizeof(text));
	ASSERT_HAS(text, "{\"version\":1,\"command\":[\"prog \\\"x\\\"\",\"\\u000a\"]");
	ASSERT_HAS(text, "\"managed\":true");
	ASSERT_HAS(text, "\"peak\":1228800");
	ASSERT_HAS(text, "\"swap_limit\":null");
	ASSERT_HAS(text, "\"pgfault\":77");
	ASSERT_HAS(text, "\"oom_kill\":0");
	close(fd);
}

TEST(report_of_nothing)
{
	static char text[32768];
	int fd = make_segment();

	print_report(fd, REPORT_TEXT, text, sizeof(text));
	ASSERT_HAS(text, "not managed");
	print_report(fd, REPORT_JSON, text, sizeof(text));
	ASSERT_HAS(text, "\"managed\":false");
	close(fd);
}

/* A process may write anything over its tree; a view must live with it. */
TEST(garbage)
{
	static char text[1 << 16];
	int fd = make_segment();
	struct memcg_id group;
	struct engine *e = attach(fd, "3", &group);
	off_t len = lseek(fd, 0, SEEK_END);
	unsigned int seed = 1;
	unsigned char *copy, *map;

	ASSERT_GT(len, 0);
	engine_destroy(e);
	map = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_TRUE(map != MAP_FAILED);
	copy = malloc((size_t)len);
	memcpy(copy, map, (size_t)len);
	for (int round = 0; round < 300; round++) {
		memcpy(map, copy, (size_t)len);
		for (int i = 0; i < 40; i++) {
			/* Mostly where the headers and first records are. */
			size_t at = (size_t)rand_r(&seed) % (i & 1 ? 65536 : (size_t)len);

			map[at % (size_t)len] = (unsigned char)rand_r(&seed);
		}
		print_report(fd, round & 1 ? REPORT_TEXT : REPORT_JSON, text, sizeof(text));
	}
	free(copy);
	munmap(map, (size_t)len);
	close(fd);
}

/* ---- changed from outside ------------------------------------------------------- */

/* A process with a group of its own, one below that, and charges in both. */
static _Noreturn void live_in_tree(int fd, int ready)
{
	struct memcg_id id[2];
	struct objcg_id o;
	struct engine *e = attach(fd, "prog", &id[0]);
	struct memcg_tree *t = engine_tree(e);

	if (engine_group_create(e, id[0], "cache", &id[1]))
		_exit(1);
	for (int n = 0; n < 2; n++) {
		if (objcg_get(t, id[n], &o))
			_exit(1);
		memcg_charge_force(t, o, 100);
		memcg_stat_add(t, o, MEMCG_STAT_PGFAULT, 7);
	}
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static uint64_t number_in(struct quire_view *view, const char *path, const char *file,
			  const char *key)
{
	static char text[32768];

	ASSERT_OK(quire_view_read(view, path, file, text, sizeof(text), NULL));
	return key ? value_of(text, key) : strtoull(text, NULL, 10);
}

TEST(remove_from_outside)
{
	struct quire_member m = { .size = sizeof(m) };
	int fd = make_segment(), ready[2];
	struct quire_view *view;
	siginfo_t info;
	char byte, path[64] = "";
	pid_t pid;

	ASSERT_OK(pipe(ready));
	fflush(NULL);
	pid = fork();
	if (!pid)
		live_in_tree(fd, ready[1]);
	ASSERT_EQ(read(ready[0], &byte, 1), 1);
	ASSERT_OK(quire_view_open_write(fd, &view));
	ASSERT_OK(quire_view_reap(view));
	ASSERT_OK(quire_view_member(view, 0, &m));
	ASSERT_EQ(m.pid, pid);
	ASSERT_EQ(m.end_ns, 0);
	ASSERT_EQ(quire_view_ended(view), 0);
	/* We are not in it. */
	ASSERT_EQ(quire_view_member(view, 1, &m), -ENOENT);
	ASSERT_EQ(quire_view_remove(view, "/"), -EPERM);
	ASSERT_EQ(quire_view_remove(view, "/none"), -ENOENT);
	ASSERT_EQ(quire_view_remove(view, "/run"), -EBUSY);
	ASSERT_HAS(quire_why(), "groups below");
	/* It has nobody in it, but a handle of the program names it. */
	ASSERT_EQ(quire_view_remove(view, "/run/prog/cache"), -EBUSY);
	ASSERT_HAS(quire_why(), "process that lives");
	ASSERT_EQ(number_in(view, "/run", "memory.current", NULL), 200 * 4096);

	ASSERT_OK(kill(pid, SIGKILL));
	/* It stays a zombie: its parent may never ask. */
	ASSERT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	ASSERT_EQ(quire_view_ended(view), 1);
	/* Its death is noticed by who asks, not by the removal. */
	ASSERT_EQ(quire_view_remove(view, "/run/prog/cache"), -EBUSY);
	ASSERT_OK(quire_view_reap(view));
	ASSERT_OK(quire_view_member(view, 0, &m));
	ASSERT_GT(m.end_ns, 0);
	ASSERT_EQ(number_in(view, "/run", "memory.current", NULL), 0);
	ASSERT_OK(quire_view_remove(view, "run//prog/cache/"));
	ASSERT_EQ(number_in(view, "/run/prog", "memory.stat", "pgfault"), 14);
	ASSERT_OK(quire_view_remove(view, "/run/prog"));
	ASSERT_OK(quire_view_remove(view, "/run"));
	ASSERT_EQ(number_in(view, "/", "memory.stat", "pgfault"), 14);
	ASSERT_OK(quire_view_next(view, path, sizeof(path)));
	ASSERT_EQ(quire_view_next(view, path, sizeof(path)), -ENOENT);
	quire_view_close(view);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	close(ready[0]);
	close(ready[1]);
	close(fd);
}

/* The dead have left anything in their tree; who clears up must live with it.  Not in
 * the header, where the tree lock may belong to a process that lives. */
TEST(remove_garbage)
{
	/* members, groups, handles: memcg/internal.h */
	static const size_t records[] = { 4096, 131072, 196608 };
	int fd = make_segment(), nr_opened = 0;
	struct memcg_id group;
	struct engine *e = attach(fd, "3", &group);
	off_t len = lseek(fd, 0, SEEK_END);
	unsigned int seed = 1;
	unsigned char *copy, *map;
	struct quire_view *view;

	engine_destroy(e);
	map = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_TRUE(map != MAP_FAILED);
	copy = malloc((size_t)len);
	memcpy(copy, map, (size_t)len);
	for (int round = 0; round < 1000; round++) {
		memcpy(map, copy, (size_t)len);
		for (int i = 0; i < 60; i++)
			/* Small numbers: what may be the index of a record. */
			map[records[i % 3] + (size_t)rand_r(&seed) % 2048] =
				(unsigned char)(rand_r(&seed) % (i & 4 ? 6 : 256));
		if (quire_view_open_write(fd, &view))
			continue;
		nr_opened++;
		ASSERT_OK(quire_view_reap(view));
		(void)!quire_view_remove(view, "/run/3");
		(void)!quire_view_remove(view, "/run");
		quire_view_close(view);
	}
	ASSERT_GT(nr_opened, 300);
	free(copy);
	munmap(map, (size_t)len);
	close(fd);
}
