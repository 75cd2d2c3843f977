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
 * All processes of a run are members of its tree, at home in its group, under one
 * limit.  One that cannot be (another user's, another pid namespace's) has a tree of
 * its own with the same limits.
 */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/os.h"
#include "knob/knob.h"
#include "memcg/member.h"
#include "pager/pager.h"

#define VALUE_MAX 512
#define SETTINGS_MAX 24
/* As `quire run` itself says no (cmd/quire/cmd.h). */
#define EXIT_REFUSED 125

struct preload preload;

/* QUIRE_RUN, decoded. */
struct settings {
	char segment[512];
	char group[256];
	char swap_dir[256];
	char pager[32];
	u64 swap_max;
	u64 uid; /* who started the run */
	u32 nr_set;
	struct {
		char file[32];
		char text[64];
	} set[SETTINGS_MAX];
	bool malloc_none, mmap_off, allow_unmanaged;
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
	else if (key_is(key, len, "group"))
		fmt_str(s->group, sizeof(s->group), "%s", value);
	else if (key_is(key, len, "swap_dir"))
		fmt_str(s->swap_dir, sizeof(s->swap_dir), "%s", value);
	else if (key_is(key, len, "swap_max") && !num_parse(value, strlen(value), &number))
		s->swap_max = number;
	else if (key_is(key, len, "uid") && !num_parse(value, strlen(value), &number))
		s->uid = number;
	else if (key_is(key, len, "allow_unmanaged"))
		s->allow_unmanaged = true;
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

/* `quire run` has made the group with its limits; in a tree of our own we do. */
static int find_home(struct memcg_tree *t, const struct settings *s, struct memcg_id *ret_home)
{
	int err = memcg_lookup(t, s->group, ret_home);

	if (!err)
		return 0;
	err = memcg_create_path(t, s->group, ret_home);
	for (u32 i = 0; i < s->nr_set && !err; i++)
		err = knob_write(t, *ret_home, s->set[i].file, s->set[i].text,
				 strlen(s->set[i].text));
	return err;
}

/* All processes of the run are at home in one group. */
static int make_home(struct engine *e, const struct settings *s)
{
	struct memcg_id home, now;
	int err;

	do {
		err = find_home(engine_tree(e), s, &home);
		if (!err)
			err = engine_set_home(e, home);
		/* Removed, and its number another group's, before we were in it? */
	} while (!err && (memcg_lookup(engine_tree(e), s->group, &now) || now.v != home.v));
	return err;
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
	char comm[16] = "";

	if (m && !os_syscall(SYS_prctl, PR_GET_NAME, comm, 0))
		fmt_str(m->comm, sizeof(m->comm), "%s", comm);
}

/*
 * `quire run` has seen that its user may page.  An image that another user runs (su, a
 * server that drops privileges and execs) is told now, not when its memory is full.
 */
static bool may_page(const struct settings *s, const char *name)
{
	struct pager_caps caps;
	char text[256];

	if (s->uid == os_geteuid())
		return true;
	pager_probe(&caps, -1);
	if (caps.dev_node || (caps.syscall && !caps.user_mode_only))
		return true;
	if (s->allow_unmanaged)
		return false;
	fmt_str(text, sizeof(text),
		"quire: %.100s: user %u may not use userfaultfd: chmod a+rw /dev/userfaultfd (quire "
		"doctor tells how to keep it), or --allow-unmanaged to run it without a limit\n",
		name, os_geteuid());
	os_message(text);
	os_exit_group(EXIT_REFUSED);
}

/* The run's tree, or if that is not to be had one of this process alone. */
static int join(const struct settings *s, const char *name, char *const *envp)
{
	char text[256];
	int fd = s->segment[0] ? os_open(s->segment, O_RDWR | O_CLOEXEC, 0) : -ENOENT;
	int err = fd < 0 ? fd : create_engine(s, fd, envp, &preload.e);

	if (fd >= 0)
		os_close(fd); /* its number is the program's from here on */
	if (!err)
		return 0;
	if (!s->allow_unmanaged) {
		fmt_str(text, sizeof(text),
			"quire: %.100s: cannot join the group of its run (error %d): has the same "
			"limits for itself\n",
			name, -err);
		os_message(text);
	}
	return create_engine(s, -1, envp, &preload.e);
}

static void start(const char *text, const char *name, char *const *envp)
{
	struct settings s;

	parse(&s, text);
	if (!may_page(&s, name))
		return;
	if (join(&s, name, envp))
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

	fork_install();
	text = os_env(envp, "QUIRE_RUN");
	if (text)
		start(text, argc > 0 ? argv[0] : "?", envp);
}
