/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elf.c - can this program be managed?  Looked at before it runs.
 *
 * The preload gets in through the dynamic loader of glibc.  It does not get in,
 * silently, where there is none (static programs), where it is another one
 * (musl), of another machine, or where the kernel makes the loader forget it
 * (setuid, file capabilities).  Running such a program without its limit is
 * worse than refusing.
 *
 * Follows a chain of `#!` as the kernel does, and execvp(3)'s search and its
 * last resort, /bin/sh for files without a format.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cmd.h"

#define SCRIPT_DEPTH 5 /* the kernel's, fs/exec.c */
#define SCRIPT_LINE 256 /* BINPRM_BUF_SIZE */
#define PHDRS_MAX 256

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#else
#error "quire does not know this machine"
#endif

static void refuse(struct target *t, enum target_kind kind, const char *format, ...)
	PRINTF_LIKE(3, 4);

static void refuse(struct target *t, enum target_kind kind, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(t->why, sizeof(t->why), format, ap);
	va_end(ap);
	t->kind = kind;
}

/* ---- finding it ----------------------------------------------------------------- */

static bool is_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
		return false;
	}
	return !access(path, X_OK);
}

static void search_path(const char *name, struct target *t)
{
	const char *path = getenv("PATH"), *dir = path ? path : "/bin:/usr/bin";
	bool denied = false;

	while (dir) {
		const char *colon = strchr(dir, ':');
		int len = colon ? (int)(colon - dir) : (int)strlen(dir);

		snprintf(t->path, sizeof(t->path), "%.*s%s%s", len, dir, len ? "/" : "", name);
		if (is_program(t->path))
			return;
		denied |= errno == EACCES;
		dir = colon ? colon + 1 : NULL;
	}
	if (denied)
		refuse(t, TARGET_NOT_EXECUTABLE, "%s: permission denied: chmod +x it?", name);
	else
		refuse(t, TARGET_NOT_FOUND, "%s: command not found: is it in PATH?", name);
}

static void locate(const char *name, struct target *t)
{
	if (!name[0]) {
		refuse(t, TARGET_NOT_FOUND, "the program's name is empty: name one after --");
		return;
	}
	if (!strchr(name, '/')) {
		search_path(name, t);
		return;
	}
	if (strlen(name) >= sizeof(t->path)) {
		refuse(t, TARGET_NOT_FOUND, "the program's name is too long: at most %zu bytes",
		       sizeof(t->path) - 1);
		return;
	}
	strcpy(t->path, name);
	if (is_program(name))
		return;
	if (errno == ENOENT || errno == ENOTDIR)
		refuse(t, TARGET_NOT_FOUND, "%s: no such program: check its path", name);
	else if (errno == EISDIR)
		refuse(t, TARGET_NOT_EXECUTABLE, "%s: is a directory: name a program", name);
	else
		refuse(t, TARGET_NOT_EXECUTABLE, "%s: %s: chmod +x it?", name, strerror(errno));
}

/* ---- privileges ------------------------------------------------------------------- */

/* Would the kernel raise AT_SECURE, which makes the loader drop LD_PRELOAD? */
static bool gains_privileges(const char *path)
{
	struct statvfs fs;
	struct stat st;

	if (stat(path, &st) < 0 || (statvfs(path, &fs) == 0 && fs.f_flag & ST_NOSUID))
		return false;
	if (st.st_mode & S_ISUID && st.st_uid != getuid())
		return true;
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
		return true;
	return getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

/* ---- the file's format ------------------------------------------------------------- */

static const char *machine_name(unsigned int machine)
{
	switch (machine) {
	case EM_386:
		return "i386";
	case EM_X86_64:
		return "x86-64 (x32)";
	case EM_ARM:
		return "arm";
	case EM_AARCH64:
		return "aarch64";
	case EM_RISCV:
		return "riscv";
	case EM_PPC64:
		return "ppc64";
	case EM_S390:
		return "s390";
	default:
		return "another";
	}
}

/* The program interpreter's name: 1 there is one, 0 none, -1 broken file. */
static int read_interp(int fd, const Elf64_Ehdr *eh, char *buf, size_t size)
{
	Elf64_Phdr ph;

	if (eh->e_phentsize != sizeof(ph) || eh->e_phnum > PHDRS_MAX)
		return -1;
	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(eh->e_phoff + i * sizeof(ph))) !=
		    (ssize_t)sizeof(ph))
			return -1;
		if (ph.p_type != PT_INTERP)
			continue;
		if (!ph.p_filesz || ph.p_filesz >= size ||
		    pread(fd, buf, ph.p_filesz, (off_t)ph.p_offset) != (ssize_t)ph.p_filesz)
			return -1;
		buf[ph.p_filesz] = 0;
		return 1;
	}
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void check_elf(int fd, const char *path, const Elf64_Ehdr *eh, ssize_t size,
		      struct target *t)
{
	char interp[PATH_MAX];
	int found;

	if (size < (ssize_t)sizeof(*eh) || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != OWN_MACHINE) {
		refuse(t, TARGET_UNMANAGEABLE,
		       "%s is a program for %s machines: quire manages programs of its own "
		       "machine only",
		       path, size < 20 ? "unknown" : machine_name(eh->e_machine));
		return;
	}
	found = read_interp(fd, eh, interp, sizeof(interp));
	if (found < 0)
		refuse(t, TARGET_NOT_EXECUTABLE,
		       "%s is a broken ELF file: build or install it "
		       "again",
		       path);
	else if (!found && strncmp(base_name(path), "ld-linux", 8))
		refuse(t, TARGET_UNMANAGEABLE,
		       "%s is statically linked, quire cannot get in: use a dynamic build, or "
		       "--allow-unmanaged to run it without a limit",
		       path);
	else if (found && strstr(base_name(interp), "musl"))
		refuse(t, TARGET_UNMANAGEABLE,
		       "%s is linked with musl, quire needs glibc: use a glibc build, or "
		       "--allow-unmanaged to run it without a limit",
		       path);
	else if (found && strncmp(base_name(interp), "ld-linux", 8))
		refuse(t, TARGET_UNMANAGEABLE,
		       "%s is started by %s, not by glibc's loader: use a glibc build, or "
		       "--allow-unmanaged to run it without a limit",
		       path, interp);
}

/* "#!/usr/bin/env sh" -> "/usr/bin/env"; false: not a script. */
static bool script_interpreter(char *line, ssize_t size, char *ret, size_t ret_size)
{
	char *p = line + 2, *end;

	if (size < 3 || line[0] != '#' || line[1] != '!')
		return false;
	p += strspn(p, " \t");
	end = p + strcspn(p, " \t\n");
	*end = 0;
	if (!*p || (size_t)(end - p) >= ret_size)
		return false;
	strcpy(ret, p);
	return true;
}

/*
 * Look at one file.  Returns true when `next` has to be looked at instead: the
 * interpreter of a script.
 */
static bool check_file(const char *path, struct target *t, char *next, size_t size)
{
	union {
		Elf64_Ehdr eh;
		char line[SCRIPT_LINE + 1];
	} head;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		/* Executable but not readable: it will run, nothing is known. */
		if (gains_privileges(path))
			refuse(t, TARGET_UNMANAGEABLE, "%s changes privileges", path);
		return false;
	}
	memset(&head, 0, sizeof(head));
	n = pread(fd, &head, SCRIPT_LINE, 0);
	if (n >= SELFMAG && !memcmp(head.line, ELFMAG, SELFMAG)) {
		if (gains_privileges(path))
			refuse(t, TARGET_UNMANAGEABLE,
			       "%s is setuid, setgid or has file capabilities, the loader ignores "
			       "quire there: run quire as that user, or --allow-unmanaged to run it "
			       "without a limit",
			       path);
		else
			check_elf(fd, path, &head.eh, n, t);
		close(fd);
		return false;
	}
	close(fd);
	if (script_interpreter(head.line, n, next, size))
		return true;
	/* execvp(3): a file of no format is a script of the shell. */
	if (path == t->path) {
		t->by_shell = true;
		snprintf(next, size, "/bin/sh");
		return true;
	}
	refuse(t, TARGET_NOT_EXECUTABLE, "%s: exec format error: not a program", path);
	return false;
}

void target_find(const char *name, struct target *t)
{
	char at[PATH_MAX], next[PATH_MAX];

	memset(t, 0, sizeof(*t));
	locate(name, t);
	if (t->kind != TARGET_OK || !check_file(t->path, t, next, sizeof(next)))
		return;
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		strcpy(at, next);
		if (!is_program(at)) {
			refuse(t, errno == ENOENT ? TARGET_NOT_FOUND : TARGET_NOT_EXECUTABLE,
			       "%s: its interpreter %s: %s: install it?", name, at,
			       strerror(errno));
			return;
		}
		if (!check_file(at, t, next, sizeof(next)))
			return;
	}
	refuse(t, TARGET_NOT_EXECUTABLE, "%s: too many levels of #!: at most %d", name,
	       SCRIPT_DEPTH);
}
