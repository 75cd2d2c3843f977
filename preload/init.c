/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init.c - the preload's constructor: one environment variable becomes an engine.
 *
 * Linked -z initfirst, so that it runs before every other constructor, and
 * registers its fork handlers as its first act, so that in a child they run
 * before everybody else's (findings 4).  A program that fits pays for this and
 * nothing else: no thread and no descriptor exists until the engine starts.
 *
 * QUIRE_RUN is "key=value;..." with %XX in values (cmd/quire/run.c writes it).
 * Each process has a group of its own, named after its pid, below the run's
 * group, with the run's limits; the run's group adds them up.
 */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/os.h"
#include "knob/knob.h"
#include "memcg/member.h"

#define VALUE_MAX 512
#define SETTINGS_MAX 24

struct preload preload;

/* QUIRE_RUN, decoded. */
struct settings {
	char segment[128];
	char group[256];
	char swap_dir[256];
	char pager[32];
	u64 swap_max;
	int fd;
	u32 nr_set;
	struct {
		char file[32];
		char text[64];
	} set[SETTINGS_MAX];
	bool malloc_none, mmap_off;
};

static u32 hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (u32)(c - '0');
	return (u32)((c | 0x20) - 'a' + 10) & 15;
}

/* One value up to ';' or the end, %XX decoded, cut at size; returns its end. */
static const char *decode(const char *p, char *out, size_t size)
{
	size_t n = 0;

	while (*p && *p != ';') {
		char c = *p++;

		if (c == '%' && p[0] && p[1]) {
			c = (char)(hex_digit(p[0]) << 4 | hex_digit(p[1]));
			p += 2;
		}
		if (n + 1 < size)
			out[n++] = c;
	}
	out[n] = '\0';
	return *p ? p + 1 : p;
}

static bool key_is(const char *key, size_t len, const char *name)
{
	return len == strlen(name) && !memcmp(key, name, len);
}

static void add_set(struct settings *s, const char *value)
{
	size_t n = 0;

	if (s->nr_set == SETTINGS_MAX)
		return;
	while (value[n] && value[n] != ':' && n + 1 < sizeof(s->set[0].file)) {
		s->set[s->nr_set].file[n] = value[n];
		n++;
	}
	if (value[n] != ':')
		return;
	fmt_str(s->set[s->nr_set].text, sizeof(s->set[0].text), "%s", value + n + 1);
	s->nr_set++;
}

static void apply_pair(struct settings *s, const char *key, size_t len, const char *value)
{
	u64 number = 0;

	if (key_is(key, len, "segment"))
		fmt_str(s->segment, sizeof(s->segment), "%s", value);
	else if (key_is(key, len, "fd") && !num_parse(value, strlen(value), &number))
		s->fd = (int)number;
	else if (key_is(key, len, "group"))
		fmt_str(s->group, sizeof(s->group), "%s", value);
	else if (key_is(key, len, "swap_dir"))
		fmt_str(s->swap_dir, sizeof(s->swap_dir), "%s", value);
	else if (key_is(key, len, "swap_max") && !num_parse(value, strlen(value), &number))
		s->swap_max = number;
	else if (key_is(key, len, "pager"))
		fmt_str(s->pager, sizeof(s->pager), "%s", value);
	else if (key_is(key, len, "malloc"))
		s->malloc_none = key_is(value, strlen(value), "none");
	else if (key_is(key, len, "mmap"))
		s->mmap_off = key_is(value, strlen(value), "off");
	else if (key_is(key, len, "set"))
		add_set(s, value);
}

static void parse(struct settings *s, const char *text)
{
	char value[VALUE_MAX];

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	s->swap_max = UINT64_MAX;
	while (*text) {
		const char *key = text;
		size_t len = 0;

		while (key[len] && key[len] != '=' && key[len] != ';')
			len++;
		if (key[len] != '=')
			return;
		text = decode(key + len + 1, value, sizeof(value));
		apply_pair(s, key, len, value);
	}
}

/* Groups of processes that are gone: their numbers stay with the parent. */
static void collect_dead_groups(struct memcg_tree *t, struct memcg_id parent)
{
	struct memcg_id id = memcg_next(t, parent, (struct memcg_id){ 0 });

	while ((id = memcg_next(t, parent, id)).v) {
		struct memcg_id dead = id, to;

		if (memcg_populated(t, id) || memcg_parent(t, id).v != parent.v ||
		    memcg_remove(t, dead, &to))
			continue;
		memcg_release(t, dead);
		id = parent; /* the walk's place is gone: begin again */
	}
}

/* This process's group below the run's: "<pid>", or "<pid>.N" after an exec. */
static int make_home(struct engine *e, const struct settings *s)
{
	struct memcg_tree *t = engine_tree(e);
	struct memcg_id parent, home;
	char name[MEMCG_NAME_MAX];
	int err = memcg_create_path(t, s->group, &parent);

	if (err)
		return err;
	collect_dead_groups(t, parent);
	fmt_str(name, sizeof(name), "%d", os_getpid());
	err = memcg_create(t, parent, name, &home);
	for (u32 n = 2; err == -EEXIST && n < 10000; n++) {
		fmt_str(name, sizeof(name), "%d.%u", os_getpid(), n);
		err = memcg_create(t, parent, name, &home);
	}
	for (u32 i = 0; i < s->nr_set && !err; i++)
		err = knob_write(t, home, s->set[i].file, s->set[i].text, strlen(s->set[i].text));
	return err ? err : engine_set_home(e, home);
}

static int create_engine(const struct settings *s, int segment_fd, char *const *envp,
			 struct engine **ret_engine)
{
	struct engine_config cfg = {
		.flags = ENGINE_LAZY | ENGINE_COUNT_UNMANAGED | ENGINE_NEW_IMAGE,
		.pager = s->pager[0] ? s->pager : os_env(envp, "QUIRE_PAGER"),
		.segment_fd = segment_fd,
		.store_dir = s->swap_dir[0] ? s->swap_dir : NULL,
		.store_max = s->swap_max,
		.envp = envp,
	};
	struct engine *e;
	int err = engine_create(&cfg, &e);

	if (err)
		return err;
	err = make_home(e, s);
	if (err) {
		engine_destroy(e);
		return err;
	}
	*ret_engine = e;
	return 0;
}

static void name_member(struct engine *e)
{
	struct member_info *m = member_self(engine_tree(e));
	long n;

	if (!m)
		return;
	n = os_read_file("/proc/self/comm", m->comm, sizeof(m->comm));
	if (n > 0 && m->comm[n - 1] == '\n')
		m->comm[n - 1] = '\0';
}

/*
 * Is fd the memfd that `quire run` made?  The number in QUIRE_RUN lives on in
 * programs that were started without the descriptor, and names any file there.
 */
static bool is_segment(int fd)
{
	static const char name[] = "/memfd:quire-tree";
	char link[32], target[sizeof(name)];

	fmt_str(link, sizeof(link), "/proc/self/fd/%d", fd);
	return os_syscall(SYS_readlink, link, target, sizeof(target)) >= (long)sizeof(name) - 1 &&
	       !memcmp(target, name, sizeof(name) - 1);
}

static int open_segment(const struct settings *s)
{
	if (s->segment[0])
		return os_open(s->segment, O_RDWR | O_CLOEXEC, 0);
	return s->fd >= 0 && is_segment(s->fd) ? s->fd : -1;
}

static void start(const char *text, char *const *envp)
{
	struct settings s;
	int fd, err = -1;

	parse(&s, text);
	fd = open_segment(&s);
	if (fd >= 0)
		err = create_engine(&s, fd, envp, &preload.e);
	/* The run's segment is gone or full: limits hold all the same. */
	if (err)
		err = create_engine(&s, -1, envp, &preload.e);
	if (fd >= 0)
		os_close(fd); /* its number is the program's from here on */
	if (err)
		os_abort("quire: cannot set up the program's memory group: not enough memory or "
			 "address space (ulimit -v)?\n");
	name_member(preload.e);
	fork_touch_install(preload.e);
	preload.manage_malloc = !s.malloc_none;
	preload.manage_mmap = !s.mmap_off;
	preload.ready = true;
	if (preload.manage_malloc)
		malloc_start();
}

__attribute__((constructor)) static void preload_init(int argc, char **argv, char **envp)
{
	const char *text;

	(void)argc;
	(void)argv;
	fork_install();
	text = os_env(envp, "QUIRE_RUN");
	if (text)
		start(text, envp);
}
