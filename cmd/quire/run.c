/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - `quire run`: an unmodified program and its children in a group.
 *
 * Checks everything that can be checked before the program runs, writes it into
 * the environment for the preload, and execs: in place, or with --stats in a
 * child, while this process waits to print the report.
 *
 * The contract with the preload is two variables.  LD_PRELOAD has its path in
 * front of what was there.  QUIRE_RUN is "key=value;..." with values
 * percent-encoded: segment=PATH: the tree; uid=N: ours; group=PATH; set=FILE:TEXT for each
 * setting, for a process that cannot join the tree; swap_dir=DIR;
 * swap_max=BYTES; malloc=, mmap=, pager=; allow_unmanaged=1.
 */
#include <errno.h>
#include <fcntl.h>
#include <quire/probe.h>
#include <quire/stat.h>
#include <quire/view.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"

#define SETTINGS_MAX 64
/* Less than this and the loader itself would not get through. */
#define LIMIT_MIN MIB
#define GROUP_DEFAULT "/run"
/* libquire in a program has a group of its own below it; 16 levels are all there are. */
#define GROUP_DEPTH_MAX 15
/* What the preload has room for. */
#define GROUP_PATH_MAX 200
#define SEGMENT_PATH_MAX 500
#define SWAP_DIR_MAX 247
/* Room for what a log of stored pages needs beyond the pages. */
#define STORE_SLACK (16 * MIB)

struct setting {
	const char *file; /* "memory.max" */
	char *text; /* what is written to it */
	uint64_t bytes; /* the same, when it is a size */
};

struct run {
	struct setting settings[SETTINGS_MAX];
	size_t nr_settings;
	const char *swap_dir_option;
	const char *group;
	const char *tree;
	const char *malloc_kind;
	const char *mmap;
	const char *pager;
	const char *stats_file;
	enum report_format stats;
	bool allow_unmanaged;
	/* worked out */
	char **argv;
	struct target target;
	char *swap_dir;
	char *segment_path;
	int segment_fd;
	FILE *stats_out;
};

/* ---- settings ----------------------------------------------------------------- */

static const char *const size_files[] = {
	"memory.max",	   "memory.high",      "memory.low",	   "memory.min",
	"memory.swap.max", "memory.swap.high", "memory.zswap.max",
};

/* systemd.resource-control(5) */
static const struct {
	const char *name, *file;
} systemd_names[] = {
	{ "MemoryMax", "memory.max" },
	{ "MemoryHigh", "memory.high" },
	{ "MemoryLow", "memory.low" },
	{ "MemoryMin", "memory.min" },
	{ "MemorySwapMax", "memory.swap.max" },
	{ "MemoryZSwapMax", "memory.zswap.max" },
	{ "MemoryZSwapWriteback", "memory.zswap.writeback" },
};

static struct setting *find_setting(struct run *run, const char *file)
{
	for (size_t i = 0; i < run->nr_settings; i++)
		if (!strcmp(run->settings[i].file, file))
			return &run->settings[i];
	return NULL;
}

/* The limit in bytes, or what holds without one. */
static uint64_t limit_of(struct run *run, const char *file, uint64_t otherwise)
{
	struct setting *s = find_setting(run, file);

	return s ? s->bytes : otherwise;
}

/* What is wrong with text as the value of a file that holds no size; NULL: nothing. */
static const char *wrong_text(const char *file, const char *text)
{
	static const char *const flags[] = { "memory.oom.group", "memory.zswap.writeback" };
	static const char *const bounds[] = { "cgroup.max.depth", "cgroup.max.descendants" };

	for (size_t i = 0; i < COUNT_OF(flags); i++)
		if (!strcmp(file, flags[i]))
			return !strcmp(text, "0") || !strcmp(text, "1") ?
				       NULL :
				       "is neither on nor off: write 1 or 0";
	for (size_t i = 0; i < COUNT_OF(bounds); i++)
		if (!strcmp(file, bounds[i]))
			return !strcmp(text, "max") || (strlen(text) < 10 &&
							text[strspn(text, "0123456789")] == 0) ?
				       NULL :
				       "is not a number: write one below 1000000000, or max";
	return "";
}

/* The last one given holds. */
static void add_setting(struct run *run, const char *file, const char *text)
{
	struct setting *s = find_setting(run, file);
	const char *wrong;
	uint64_t bytes = 0;
	bool is_size = false;

	for (size_t i = 0; i < COUNT_OF(size_files); i++)
		is_size |= !strcmp(file, size_files[i]);
	if (is_size) {
		/* Asked for where it is needed: it takes some fifty system calls. */
		wrong = size_from_text(text, strchr(text, '%') ? system_enclosing_limit() : 0,
				       &bytes);
		if (wrong)
			die(EXIT_QUIRE, "%s: \"%s\" %s", file, text, wrong);
	}
	wrong = is_size ? NULL : wrong_text(file, text);
	if (wrong && !*wrong)
		die(EXIT_QUIRE, "%s: is no setting to start with: write it when there is a program",
		    file);
	if (wrong)
		die(EXIT_QUIRE, "%s: \"%.40s\" %s", file, text, wrong);
	if (!s) {
		if (run->nr_settings == SETTINGS_MAX)
			die(EXIT_QUIRE, "too many settings (at most %d): leave some out",
			    SETTINGS_MAX);
		s = &run->settings[run->nr_settings++];
	}
	s->file = file;
	s->bytes = bytes;
	if (!is_size)
		s->text = text_of("%s", text);
	else
		s->text = bytes == SIZE_NONE ? text_of("max") :
					       text_of("%llu", (unsigned long long)bytes);
}

/* The name of a writable file that is spelled so; NULL. */
static const char *find_file(const char *name)
{
	struct quire_file_info info = { .size = sizeof(info) };

	for (size_t i = 0; i < COUNT_OF(systemd_names); i++)
		if (!strcmp(name, systemd_names[i].name))
			return systemd_names[i].file;
	for (unsigned int n = 0; !quire_file(n, &info); n++)
		if (!strcmp(name, info.name))
			return info.writable ? info.name : NULL;
	return NULL;
}

/* ---- options ------------------------------------------------------------------- */

static void set_max(void *ctx, const char *arg)
{
	add_setting(ctx, "memory.max", arg);
}

static void set_high(void *ctx, const char *arg)
{
	add_setting(ctx, "memory.high", arg);
}

static void set_low(void *ctx, const char *arg)
{
	add_setting(ctx, "memory.low", arg);
}

static void set_min(void *ctx, const char *arg)
{
	add_setting(ctx, "memory.min", arg);
}

static void set_swap_max(void *ctx, const char *arg)
{
	add_setting(ctx, "memory.swap.max", arg);
}

static void set_zswap_max(void *ctx, const char *arg)
{
	add_setting(ctx, "memory.zswap.max", arg);
}

static void set_property(void *ctx, const char *arg)
{
	const char *equals = strchr(arg, '='), *file;
	char *name;

	if (!equals || equals == arg)
		die(EXIT_QUIRE, "-p \"%s\" is not a setting: write -p memory.max=512M", arg);
	name = text_of("%.*s", (int)(equals - arg), arg);
	file = find_file(name);
	if (!file)
		die(EXIT_QUIRE,
		    "-p %s: groups have no such file, or it cannot be written: see "
		    "quire(7)",
		    name);
	if (!equals[1])
		die(EXIT_QUIRE, "-p %s= has no value: write -p %s=VALUE", name, name);
	free(name);
	add_setting(ctx, file, equals + 1);
}

static void set_swap_dir(void *ctx, const char *arg)
{
	if (!arg[0])
		die(EXIT_QUIRE, "--swap-dir is empty: name a directory");
	((struct run *)ctx)->swap_dir_option = arg;
}

static void set_group(void *ctx, const char *arg)
{
	static const char valid[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789._@-";
	const char *p = arg;
	size_t len, depth = 0;

	if (strlen(arg) > GROUP_PATH_MAX)
		die(EXIT_QUIRE, "--group \"%.32s...\" is longer than %d characters: shorten it",
		    arg, GROUP_PATH_MAX);
	while (*p) {
		p += strspn(p, "/");
		if (*p && ++depth > GROUP_DEPTH_MAX)
			die(EXIT_QUIRE, "--group \"%s\" is deeper than %d levels: leave some out",
			    arg, GROUP_DEPTH_MAX);
		len = strspn(p, valid);
		if (len > 63 || (p[len] && p[len] != '/') || (len == 1 && p[0] == '.') ||
		    (len == 2 && p[0] == '.' && p[1] == '.'))
			die(EXIT_QUIRE,
			    "--group \"%s\" is not a path of names: 1 to 63 of "
			    "A-Z a-z 0-9 . _ @ - between slashes",
			    arg);
		p += len;
	}
	((struct run *)ctx)->group = arg;
}

static void set_tree(void *ctx, const char *arg)
{
	((struct run *)ctx)->tree = arg;
}

/* One of two words. */
static const char *choice(const char *option, const char *arg, const char *a, const char *b)
{
	if (!strcmp(arg, a))
		return a;
	if (!strcmp(arg, b))
		return b;
	die(EXIT_QUIRE, "--%s=%s: there is no such choice: write %s or %s", option, arg, a, b);
}

static void set_malloc(void *ctx, const char *arg)
{
	((struct run *)ctx)->malloc_kind = choice("malloc", arg, "jemalloc", "none");
}

static void set_mmap(void *ctx, const char *arg)
{
	((struct run *)ctx)->mmap = choice("mmap", arg, "on", "off");
}

static void set_pager(void *ctx, const char *arg)
{
	((struct run *)ctx)->pager = arg;
}

static void set_stats(void *ctx, const char *arg)
{
	struct run *run = ctx;

	run->stats = REPORT_TEXT;
	if (arg && !strcmp(arg, "json"))
		run->stats = REPORT_JSON;
	else if (arg && strcmp(arg, "text"))
		die(EXIT_QUIRE,
		    "--stats=%s: there is no such form: write --stats or "
		    "--stats=json",
		    arg);
}

static void set_stats_file(void *ctx, const char *arg)
{
	((struct run *)ctx)->stats_file = arg;
}

static void set_allow_unmanaged(void *ctx, const char *arg)
{
	(void)arg;
	((struct run *)ctx)->allow_unmanaged = true;
}

static const struct option_spec run_options[] = {
	{ "max", 'm', "SIZE", false, "never more memory than this", set_max },
	{ "memory", 0, "SIZE", false, NULL, set_max },
	{ "high", 0, "SIZE", false, "slow the program down above this", set_high },
	{ "low", 0, "SIZE", false, "take from others first below this", set_low },
	{ "min", 0, "SIZE", false, "take nothing below this", set_min },
	{ "swap-max", 0, "SIZE", false, "no more paged out than this", set_swap_max },
	{ "zswap-max", 0, "SIZE", false, "no more compressed memory than this", set_zswap_max },
	{ "property", 'p', "FILE=TEXT", false, "any file of the group: -p memory.max=512M",
	  set_property },
	{ "swap-dir", 0, "DIR", false, "where pages go that do not fit in memory", set_swap_dir },
	{ "group", 0, "PATH", false, "the group's path; " GROUP_DEFAULT " if not given",
	  set_group },
	{ "tree", 0, "NAME", false, "share a tree of groups with other runs", set_tree },
	{ "malloc", 0, "KIND", false, "jemalloc (default), or none: the program's own",
	  set_malloc },
	{ "mmap", 0, "on|off", false, "manage the program's own mappings too (on)", set_mmap },
	{ "stats", 0, "json", true, "wait, and report on stderr at the end", set_stats },
	{ "stats-file", 0, "FILE", false, "write the report there instead", set_stats_file },
	{ "allow-unmanaged", 0, NULL, false, "run programs that cannot be limited, unlimited",
	  set_allow_unmanaged },
	{ "pager", 0, "NAME", false, "how to move pages (for tests); also $QUIRE_PAGER",
	  set_pager },
	{ NULL, 0, NULL, false, NULL, NULL },
};

/* ---- checks ----------------------------------------------------------------------- */

static void check_order(struct run *run, const char *lower, const char *upper, const char *hint)
{
	uint64_t a = limit_of(run, lower, 0), b = limit_of(run, upper, SIZE_NONE);
	char a_text[16], b_text[16];

	if (!find_setting(run, lower) || !find_setting(run, upper))
		return;
	/* "max" of memory.high is "no such limit", which contradicts nothing. */
	if (a == SIZE_NONE && !strcmp(lower, "memory.high"))
		return;
	if (a > b)
		die(EXIT_QUIRE, "%s (%s) is more than %s (%s): %s", lower, size_text(a_text, a),
		    upper, size_text(b_text, b), hint);
}

static void check_limits(struct run *run)
{
	static const char *const starve[] = { "memory.max", "memory.high" };
	char text[16];

	for (size_t i = 0; i < COUNT_OF(starve); i++)
		if (limit_of(run, starve[i], SIZE_NONE) < LIMIT_MIN)
			die(EXIT_QUIRE,
			    "%s (%s) is less than a program needs to start: give it "
			    "at least 1M",
			    starve[i], size_text(text, limit_of(run, starve[i], 0)));
	check_order(run, "memory.min", "memory.max", "protect less than the limit");
	check_order(run, "memory.low", "memory.max", "protect less than the limit");
	check_order(run, "memory.high", "memory.max", "it would never act, give a lower one");
	check_order(run, "memory.min", "memory.high", "protect less than the limit");
	check_order(run, "memory.low", "memory.high", "protect less than the limit");
}

/* A program that cannot be managed: refuse, or clear the way to run it bare. */
static bool check_target(struct run *run)
{
	target_find(run->argv[0], &run->target);
	switch (run->target.kind) {
	case TARGET_OK:
		return true;
	case TARGET_NOT_FOUND:
		die(EXIT_NOT_FOUND, "%s", run->target.why);
	case TARGET_NOT_EXECUTABLE:
		die(EXIT_NOT_EXECUTABLE, "%s", run->target.why);
	case TARGET_UNMANAGEABLE:
		break;
	}
	if (!run->allow_unmanaged)
		die(EXIT_QUIRE, "%s", run->target.why);
	return false;
}

static void check_paging(struct run *run)
{
	struct quire_probe probe = { .size = sizeof(probe) };

	if (quire_probe(run->pager, &probe) < 0)
		die(EXIT_QUIRE, "%s", quire_why());
	run->swap_dir = place_swap_dir(run->swap_dir_option);
	if (strlen(run->swap_dir) > SWAP_DIR_MAX)
		die(EXIT_QUIRE,
		    "swap directory %.40s... is longer than %d characters: choose "
		    "another one",
		    run->swap_dir, SWAP_DIR_MAX);
	if (limit_of(run, "memory.swap.max", SIZE_NONE) &&
	    quire_check_swap_dir(run->swap_dir, 0, NULL) < 0)
		die(EXIT_QUIRE, "%s", quire_why());
}

static void open_stats_file(struct run *run)
{
	run->stats_out = stderr;
	if (!run->stats_file)
		return;
	if (run->stats == REPORT_NONE)
		run->stats = REPORT_TEXT;
	run->stats_out = fopen(run->stats_file, "we");
	if (!run->stats_out)
		die(EXIT_QUIRE, "cannot write %s: %s: choose another --stats-file", run->stats_file,
		    strerror(errno));
}

/* The tree, and in it the group with its limits, before anybody joins. */
static void open_segment(struct run *run)
{
	struct quire_view *view;
	void (*was)(int);
	int err;

	run->segment_fd = run->tree ? place_tree(run->tree, &run->segment_path) :
				      place_run_tree(&run->segment_path);
	if (strlen(run->segment_path) > SEGMENT_PATH_MAX)
		die(EXIT_QUIRE,
		    "%.60s... is longer than %d characters: choose another $XDG_RUNTIME_DIR",
		    run->segment_path, SEGMENT_PATH_MAX);
	/* A sparse file of 130 MiB: with less allowed (ulimit -f), an error and no signal. */
	was = signal(SIGXFSZ, SIG_IGN);
	err = quire_view_create(run->segment_fd, &view);
	signal(SIGXFSZ, was);
	if (err == -EFBIG)
		die(EXIT_QUIRE, "no file may have 130 MiB: raise the limit (ulimit -f)");
	if (err < 0 || quire_view_write(view, run->group, NULL, NULL) < 0)
		die(EXIT_QUIRE, "%s: %s: remove the file, or choose another --tree",
		    run->segment_path, quire_why());
	for (size_t i = 0; i < run->nr_settings; i++)
		if (quire_view_write(view, run->group, run->settings[i].file,
				     run->settings[i].text) < 0)
			die(EXIT_QUIRE, "%s", quire_why());
	/* Left open: the program's image takes its place, and that is cheaper. */
}

/* ---- the environment ----------------------------------------------------------------- */

static void put_encoded(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c <= ' ' || c >= 0x7f || strchr(";%=:\"'\\", c))
			fprintf(out, "%%%02X", c);
		else
			fputc(c, out);
	}
}

static void put_pair(FILE *out, const char *key, const char *value)
{
	if (!value)
		return;
	fprintf(out, "%s=", key);
	put_encoded(out, value);
	fputc(';', out);
}

static void put_settings(FILE *out, struct run *run)
{
	uint64_t swap_max = limit_of(run, "memory.swap.max", SIZE_NONE);

	for (size_t i = 0; i < run->nr_settings; i++) {
		fprintf(out, "set=%s:", run->settings[i].file);
		put_encoded(out, run->settings[i].text);
		fputc(';', out);
	}
	/* The file behind swap.max; 0 stays 0: no file at all. */
	if (swap_max != SIZE_NONE)
		fprintf(out, "swap_max=%llu;",
			(unsigned long long)(swap_max ? swap_max + swap_max / 8 + STORE_SLACK : 0));
}

static char *run_variable(struct run *run)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		die(EXIT_QUIRE, "out of memory: close other programs");
	put_pair(out, "segment", run->segment_path);
	fprintf(out, "uid=%u;", (unsigned int)geteuid());
	put_pair(out, "group", run->group);
	put_settings(out, run);
	put_pair(out, "swap_dir", run->swap_dir);
	put_pair(out, "malloc", run->malloc_kind);
	put_pair(out, "mmap", run->mmap);
	put_pair(out, "pager", run->pager);
	if (run->allow_unmanaged)
		put_pair(out, "allow_unmanaged", "1");
	if (fclose(out))
		die(EXIT_QUIRE, "out of memory: close other programs");
	return text;
}

static void set_environment(struct run *run)
{
	const char *before = getenv("LD_PRELOAD");
	char *preload = place_preload();

	if (!preload)
		die(EXIT_QUIRE, "libquire-preload.so is not beside this program nor installed: "
				"install quire again");
	if (strpbrk(preload, " :"))
		die(EXIT_QUIRE,
		    "%s: the loader cannot take a path with a space or a colon: "
		    "install quire elsewhere",
		    preload);
	if (before && before[0] && !strstr(before, preload))
		setenv("LD_PRELOAD", text_of("%s:%s", preload, before), 1);
	else if (!before || !before[0])
		setenv("LD_PRELOAD", preload, 1);
	setenv("QUIRE_RUN", run_variable(run), 1);
	free(preload);
}

/* ---- running --------------------------------------------------------------------------- */

static void exec_target(void *ctx)
{
	struct run *run = ctx;
	char *shell_argv[4] = { (char *)"/bin/sh", run->target.path, NULL, NULL };
	size_t n = 0;
	char **argv;

	if (!run->target.by_shell) {
		execv(run->target.path, run->argv);
	} else {
		while (run->argv[n])
			n++;
		argv = calloc(n + 2, sizeof(*argv));
		if (argv) {
			argv[0] = shell_argv[0];
			argv[1] = shell_argv[1];
			for (size_t i = 1; i < n; i++)
				argv[i + 1] = run->argv[i];
		}
		execv("/bin/sh", argv ? argv : shell_argv);
	}
	die(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, "%s: %s: cannot be executed",
	    run->target.path, strerror(errno));
}

static int run_and_report(struct run *run)
{
	struct child child;
	struct report report = {
		.segment_fd = run->segment_fd,
		.group = run->group,
		.argv = run->argv,
		.swap_dir = run->swap_dir,
		.max = limit_of(run, "memory.max", SIZE_NONE),
		.swap_max = limit_of(run, "memory.swap.max", SIZE_NONE),
		.child = &child,
	};

	child_run(exec_target, run, &child);
	report_write(&report, run->stats, run->stats_out);
	/* What it has left running goes on under its limit. */
	if (!run->tree && place_run_has_ended(run->segment_fd))
		unlink(run->segment_path);
	if (fflush(run->stats_out))
		complain("cannot write the report: %s: is there room?", strerror(errno));
	return child.status;
}

static int run_main(int argc, char **argv)
{
	struct run run = {
		.group = GROUP_DEFAULT,
		.pager = getenv("QUIRE_PAGER"),
		.segment_fd = -1,
	};
	int first = options_parse(&run_command, &run, argc, argv);

	if (first == argc)
		die(EXIT_QUIRE, "no program was named: quire run --max 512M -- PROGRAM");
	if (run.pager && !run.pager[0])
		run.pager = NULL;
	run.argv = argv + first;
	check_limits(&run);
	if (!check_target(&run)) {
		complain("%.200s: running it without a limit", run.target.why);
		exec_target(&run);
	}
	check_paging(&run);
	open_stats_file(&run);
	open_segment(&run);
	set_environment(&run);
	if (run.stats != REPORT_NONE)
		return run_and_report(&run);
	exec_target(&run);
	return EXIT_QUIRE;
}

const struct command run_command = {
	.name = "run",
	.synopsis = "[OPTIONS] [--] PROGRAM [ARGUMENTS]",
	.purpose = "run a program and its children within a memory limit",
	.details = "SIZE is a number of bytes, or of K M G T P (powers of 1024), `max`, or a\n"
		   "percentage of the memory this process may have at all.\n\n"
		   "Exit status: the program's own; 125 when quire failed, 126 when the program\n"
		   "cannot be executed, 127 when it is not found, 128+N when signal N killed it\n"
		   "(with --stats; without, the program takes quire's place).\n",
	.options = run_options,
	.usage_status = EXIT_QUIRE,
	.run = run_main,
};
