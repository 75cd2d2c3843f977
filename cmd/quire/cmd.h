/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd.h - what the files of the quire command share.
 *
 * The command uses the public API <quire/...> only, and libc freely.  One file
 * per subcommand (run.c rm.c doctor.c), one per thing it needs to know: options.c
 * size.c system.c place.c elf.c wait.c report.c.
 */
#ifndef QUIRE_CMD_H
#define QUIRE_CMD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Exit status, as docker(1), timeout(1) and env(1) have them. */
enum {
	EXIT_REFUSED = 1, /* rm: not all was removed */
	EXIT_USAGE = 2, /* wrong options of any command but run */
	EXIT_QUIRE = 125, /* quire itself failed; nothing was run */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL = 128, /* + number */
};

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define SIZE_NONE UINT64_MAX /* "max" */
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(a, b) __attribute__((format(printf, a, b)))

/* One line on stderr, "quire: ...", and exit. */
_Noreturn void die(int status, const char *format, ...) PRINTF_LIKE(2, 3);
void complain(const char *format, ...) PRINTF_LIKE(1, 2);
/* malloc and friends that do not return without memory. */
char *text_of(const char *format, ...) PRINTF_LIKE(1, 2);

/* ---- options.c --------------------------------------------------------------- */

struct option_spec {
	const char *name; /* long name without dashes; NULL ends a table */
	char letter; /* or 0 */
	const char *arg; /* what its argument is called; NULL: takes none */
	bool arg_optional; /* --name or --name=ARG only */
	const char *help; /* NULL: an alias that help does not show */
	/* arg is NULL when there was none. */
	void (*set)(void *ctx, const char *arg);
};

struct command {
	const char *name;
	const char *synopsis; /* after "quire NAME" */
	const char *purpose; /* a line of `quire --help` */
	const char *details; /* paragraphs below the options, or NULL */
	const struct option_spec *options;
	int usage_status; /* of wrong options */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct command run_command, rm_command, doctor_command;

/*
 * Options up to the first word that is none, or "--".  Returns the index of the
 * first word left.  Knows --help itself.
 */
int options_parse(const struct command *cmd, void *ctx, int argc, char **argv);
void options_help(const struct command *cmd, FILE *out);

/* ---- size.c ------------------------------------------------------------------ */

/*
 * Bytes, K M G T P E (1024; KiB and B are fine), "max", "infinity", or "N%" of
 * enclosing.  NULL, or what is wrong with it.
 */
const char *size_from_text(const char *text, uint64_t enclosing, uint64_t *ret_bytes);
/* "1.5 GiB", "512 KiB", "max"; buf of 16 bytes. */
const char *size_text(char *buf, uint64_t bytes);

/* ---- system.c ---------------------------------------------------------------- */

/* Memory that this process may use at most: the least of the limits of its
 * cgroups (v1 and v2, all the way up) and MemTotal. */
uint64_t system_enclosing_limit(void);
/* As above, with the files below `root` instead of "/": tests. */
uint64_t system_enclosing_limit_at(const char *root);
/* A number from a file; SIZE_NONE for "max" or no file. */
uint64_t system_read_number(const char *path);
/* First line of a file without its newline; "" if it cannot be read. */
const char *system_read_line(const char *path, char *buf, size_t size);

/* ---- place.c ----------------------------------------------------------------- */

/* Where the swap file goes: option, $QUIRE_SWAP_DIR, $XDG_CACHE_HOME/quire
 * (made when missing), /var/tmp.  Absolute; not checked.  To be freed. */
char *place_swap_dir(const char *option);
/* libquire-preload.so: beside this program, else where it is installed.
 * NULL: not found.  To be freed. */
char *place_preload(void);
/* A descriptor of the shared tree `name`, close-on-exec; its path in ret_path.
 * Dies with EXIT_QUIRE. */
int place_tree(const char *name, char **ret_path);
/* The same of a new tree for one run; those of runs that have ended are removed. */
int place_run_tree(char **ret_path);
/* Has every process of it ended? */
bool place_run_has_ended(int fd);
/* The same of a tree that must be there. */
int place_tree_there(const char *name, char **ret_path);
/* Which tree is meant, by its option or without (NULL).  Dies with EXIT_USAGE. */
const char *place_tree_name(const char *option);

/* ---- elf.c ------------------------------------------------------------------- */

enum target_kind {
	TARGET_OK, /* dynamic, this machine's, glibc's loader */
	TARGET_NOT_FOUND,
	TARGET_NOT_EXECUTABLE,
	TARGET_UNMANAGEABLE, /* would run, but without quire */
};

struct target {
	enum target_kind kind;
	char path[PATH_MAX]; /* what to exec */
	bool by_shell; /* no format: run it as a script of /bin/sh */
	char why[512]; /* kind other than OK: cause and hint */
};

/* Find the program as execvp(3) does and look whether it can be managed. */
void target_find(const char *name, struct target *ret_target);

/* ---- wait.c ------------------------------------------------------------------ */

struct child {
	pid_t pid;
	int status; /* exit status in the shell's way */
	int signal; /* that killed it, or 0 */
	double seconds, user_seconds, system_seconds;
};

/* Run start(ctx), which must exec, in a child, and wait for it: signals are
 * passed on, stops are shared. */
void child_run(void (*start)(void *ctx), void *ctx, struct child *ret_child);

/* ---- report.c ---------------------------------------------------------------- */

enum report_format { REPORT_NONE, REPORT_TEXT, REPORT_JSON };

struct report {
	int segment_fd;
	const char *group; /* path of the run's group */
	char **argv;
	const char *swap_dir;
	uint64_t max; /* limit of each process; SIZE_NONE */
	uint64_t swap_max;
	const struct child *child;
};

/* Never fails: what cannot be read is said in the report. */
void report_write(const struct report *r, enum report_format format, FILE *out);

#endif
