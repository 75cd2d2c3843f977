/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.c - `quire doctor`: what works here, and what to run where it does not.
 *
 * One line a finding: "ok", "note" (works, but slower or with a caveat) or "bad"
 * (quire cannot work), then what to do.  Looks only: changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <quire/probe.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cmd.h"
#include "json.h"

enum verdict { OK, NOTE, BAD };

struct doctor {
	const char *swap_dir;
	const char *pager;
	bool as_json;
	bool colour;
	struct json json;
	unsigned int nr_bad;
};

static const char *const verdict_names[] = { "ok", "note", "bad" };
static const char *const verdict_colours[] = { "\033[32m", "\033[33m", "\033[31m" };

static void say(struct doctor *d, enum verdict v, const char *what, const char *fix,
		const char *format, ...) PRINTF_LIKE(5, 6);

/* what: the subject; fix: a command or hint, or NULL; then the finding. */
static void say(struct doctor *d, enum verdict v, const char *what, const char *fix,
		const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	d->nr_bad += v == BAD;
	if (d->as_json) {
		json_begin(&d->json, NULL, '{');
		json_string(&d->json, "subject", what);
		json_string(&d->json, "verdict", verdict_names[v]);
		json_string(&d->json, "finding", text);
		json_string(&d->json, "fix", fix);
		json_end(&d->json, '}');
		return;
	}
	printf("%s%-5s%s%-18s %s\n", d->colour ? verdict_colours[v] : "", verdict_names[v],
	       d->colour ? "\033[0m" : "", what, text);
	if (fix)
		printf("%24sdo: %s\n", "", fix);
}

/* ---- paging ------------------------------------------------------------------------ */

static void check_kernel(struct doctor *d)
{
	struct utsname un;
	unsigned int major = 0, minor = 0;

	uname(&un);
	sscanf(un.release, "%u.%u", &major, &minor);
	if (major < 5 || (major == 5 && minor < 11))
		say(d, BAD, "kernel", "use Linux 5.11 or newer, best 6.8", "%s", un.release);
	else if (major < 6 || (major == 6 && minor < 8))
		say(d, NOTE, "kernel", "use Linux 6.8 or newer for UFFDIO_MOVE",
		    "%s: pages are "
		    "moved by copying",
		    un.release);
	else
		say(d, OK, "kernel", NULL, "%s", un.release);
}

static void check_device(struct doctor *d, const struct quire_probe *p)
{
	const char *path = "/dev/userfaultfd";
	struct stat st;

	if (stat(path, &st) < 0) {
		say(d, NOTE, path, NULL, "%s", strerror(errno));
		return;
	}
	say(d, p->dev_node ? OK : NOTE, path,
	    p->dev_node ? NULL :
			  "chmod a+rw /dev/userfaultfd; to keep it: echo "
			  "'KERNEL==\"userfaultfd\", MODE=\"0666\"' > "
			  "/etc/udev/rules.d/60-userfaultfd.rules",
	    "mode %04o, owner uid %u: %s", st.st_mode & 07777, st.st_uid,
	    p->dev_node ? "can be used" : strerror(p->dev_errno));
}

static void check_syscall(struct doctor *d, const struct quire_probe *p)
{
	uint64_t allowed = system_read_number("/proc/sys/vm/unprivileged_userfaultfd");
	const char *fix = p->syscall_ok ? NULL : "sysctl -w vm.unprivileged_userfaultfd=1";

	if (!p->syscall_ok && p->syscall_errno == ENOSYS)
		fix = "allow the userfaultfd system call (seccomp profile), or use another kernel";
	say(d, p->syscall_ok ? OK : NOTE, "userfaultfd(2)", fix,
	    "%s; vm.unprivileged_userfaultfd is %s%s",
	    p->syscall_ok ? "permitted" : strerror(p->syscall_errno),
	    allowed == SIZE_NONE ? "not there" :
	    allowed		 ? "1" :
				   "0",
	    p->user_mode_only ? "; for user-mode faults only, which is not enough" : "");
}

static void check_pager(struct doctor *d)
{
	struct quire_probe p = { .size = sizeof(p) };
	int err = quire_probe(d->pager, &p);
	char why[256];

	snprintf(why, sizeof(why), "%s", err < 0 ? quire_why() : "");
	check_device(d, &p);
	check_syscall(d, &p);
	if (err < 0) {
		say(d, BAD, "pager", "see above", "%s", why);
		return;
	}
	say(d, p.sees_pins ? OK : NOTE, "pager",
	    p.sees_pins ? NULL : "avoid direct I/O into managed memory, or use Linux 6.8", "%s%s",
	    p.pager, p.sees_pins ? "" : ": unsafe with direct I/O into managed buffers");
	say(d, p.move ? OK : NOTE, "UFFDIO_MOVE", NULL, "%s", p.move ? "yes" : "no");
	say(d, p.poison ? OK : NOTE, "UFFDIO_POISON", NULL, "%s",
	    p.poison ? "yes" : "no: lost data ends the whole process");
	say(d, p.pagemap_scan ? OK : NOTE, "PAGEMAP_SCAN", NULL, "%s",
	    p.pagemap_scan ? "yes" : "no: /proc/self/pagemap is read instead");
}

/* ---- the way out -------------------------------------------------------------------- */

static void check_io_uring(struct doctor *d)
{
	struct io_uring_params params = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 4, &params);

	if (fd >= 0)
		close(fd);
	say(d, fd >= 0 ? OK : NOTE, "io_uring",
	    fd >= 0 ? NULL : "sysctl -w kernel.io_uring_disabled=0, or allow it in the container",
	    "%s", fd >= 0 ? "can be used" : "refused: the swap file is read by threads instead");
}

static void check_swap_dir(struct doctor *d)
{
	char *dir = place_swap_dir(d->swap_dir);
	uint64_t bytes = 0;
	char text[16];
	int fd;

	if (quire_check_swap_dir(dir, 0, &bytes) < 0) {
		say(d, BAD, "swap directory", "choose another: --swap-dir or $QUIRE_SWAP_DIR", "%s",
		    quire_why());
		free(dir);
		return;
	}
	say(d, bytes < 1024 * MIB ? NOTE : OK, "swap directory", NULL, "%s, %s free", dir,
	    size_text(text, bytes));
	fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	say(d, fd >= 0 ? OK : NOTE, "direct I/O",
	    fd >= 0 ? NULL : "use a directory on ext4, xfs or btrfs", "%s",
	    fd >= 0 ? "yes" : "refused there: the page cache is used and given up at once");
	if (fd >= 0)
		close(fd);
	free(dir);
}

/* ---- limits around us ------------------------------------------------------------------ */

static void check_memory(struct doctor *d)
{
	char text[16];

	say(d, OK, "memory", NULL, "%s may be used here at most (100%% of --max)",
	    size_text(text, system_enclosing_limit()));
}

static void check_rlimit(struct doctor *d, int which, const char *name, const char *fix)
{
	char text[16];
	struct rlimit rl;

	if (getrlimit(which, &rl) < 0)
		return;
	if (rl.rlim_cur == RLIM_INFINITY)
		say(d, OK, name, NULL, "unlimited");
	else
		say(d, NOTE, name, fix, "%s: quire reserves address space for its books",
		    size_text(text, rl.rlim_cur));
}

static void check_kernel_memory(struct doctor *d)
{
	uint64_t maps = system_read_number("/proc/sys/vm/max_map_count");
	uint64_t overcommit = system_read_number("/proc/sys/vm/overcommit_memory");
	char thp[128];

	say(d, maps < 65530 ? NOTE : OK, "vm.max_map_count",
	    maps < 65530 ? "sysctl -w vm.max_map_count=262144" : NULL, "%llu",
	    (unsigned long long)maps);
	say(d, overcommit == 2 ? NOTE : OK, "vm.overcommit",
	    overcommit == 2 ? "sysctl -w vm.overcommit_memory=0" : NULL, "%llu%s",
	    (unsigned long long)overcommit,
	    overcommit == 2 ? ": programs may be refused mappings larger than memory" : "");
	system_read_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
	say(d, OK, "huge pages", NULL, "%s (managed memory has none once it is paged)",
	    thp[0] ? thp : "not there");
}

static void check_preload(struct doctor *d)
{
	char *path = place_preload();

	if (path)
		say(d, OK, "preload", NULL, "%s", path);
	else
		say(d, BAD, "preload", "install quire again",
		    "libquire-preload.so is not beside "
		    "this program nor installed");
	free(path);
	say(d, OK, "privileges", NULL, "uid %u%s", (unsigned int)geteuid(),
	    geteuid() ? "" : " (root: programs run as other users may be allowed less)");
}

/* ---- the command -------------------------------------------------------------------------- */

static void set_json(void *ctx, const char *arg)
{
	(void)arg;
	((struct doctor *)ctx)->as_json = true;
}

static void set_swap_dir(void *ctx, const char *arg)
{
	((struct doctor *)ctx)->swap_dir = arg;
}

static void set_pager(void *ctx, const char *arg)
{
	((struct doctor *)ctx)->pager = arg;
}

static const struct option_spec doctor_options[] = {
	{ "json", 0, NULL, false, "one JSON object", set_json },
	{ "swap-dir", 0, "DIR", false, "look at this swap directory", set_swap_dir },
	{ "pager", 0, "NAME", false, "look at this pager", set_pager },
	{ NULL, 0, NULL, false, NULL, NULL },
};

static int doctor_main(int argc, char **argv)
{
	struct doctor d = { .pager = getenv("QUIRE_PAGER"), .json = { stdout, false } };
	int first = options_parse(&doctor_command, &d, argc, argv);

	if (first < argc)
		die(EXIT_USAGE, "doctor takes no \"%s\": see quire doctor --help", argv[first]);
	if (d.pager && !d.pager[0])
		d.pager = NULL;
	d.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	if (d.as_json) {
		json_begin(&d.json, NULL, '{');
		json_number(&d.json, "version", 1);
		json_begin(&d.json, "findings", '[');
	}
	check_kernel(&d);
	check_pager(&d);
	check_io_uring(&d);
	check_swap_dir(&d);
	check_memory(&d);
	check_rlimit(&d, RLIMIT_AS, "RLIMIT_AS", "ulimit -v unlimited");
	check_rlimit(&d, RLIMIT_DATA, "RLIMIT_DATA", "ulimit -d unlimited");
	check_kernel_memory(&d);
	check_preload(&d);
	if (d.as_json) {
		json_end(&d.json, ']');
		json_bool(&d.json, "works", !d.nr_bad);
		json_end(&d.json, '}');
		putchar('\n');
	}
	return d.nr_bad ? 1 : 0;
}

const struct command doctor_command = {
	.name = "doctor",
	.synopsis = "[OPTIONS]",
	.purpose = "show what works on this machine, and what to run to enable more",
	.details =
		"Exit status: 0 when quire works here, 1 when it does not, 2 for wrong options.\n",
	.options = doctor_options,
	.usage_status = EXIT_USAGE,
	.run = doctor_main,
};
