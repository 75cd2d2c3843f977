/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.c - where things lie: swap directory, preload, shared trees.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <quire/view.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"

/* Trees without a name: of one run. */
#define RUN_PREFIX "run:"

#if defined(__x86_64__)
#define QUIRE_MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define QUIRE_MULTIARCH "aarch64-linux-gnu"
#else
#define QUIRE_MULTIARCH "multiarch"
#endif

/* Absolute, so that a program may change its directory. */
static char *absolute(const char *path)
{
	char *real = realpath(path, NULL);

	return real ? real : text_of("%s", path);
}

char *place_swap_dir(const char *option)
{
	const char *dir = option ? option : getenv("QUIRE_SWAP_DIR");
	char *below;

	if (dir && dir[0])
		return absolute(dir);
	dir = getenv("XDG_CACHE_HOME");
	if (!dir || dir[0] != '/')
		return text_of("/var/tmp");
	/* The base directory specification: make it when missing, mode 0700. */
	below = text_of("%s/quire", dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return below; /* the check says what is wrong */
	if (mkdir(below, 0700) < 0 && errno != EEXIST)
		return below;
	return below;
}

/* Directory of this very program, without a slash at the end. */
static bool own_dir(char *buf, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", buf, size - 1);
	char *slash;

	if (n < 0)
		return false;
	buf[n] = 0;
	slash = strrchr(buf, '/');
	if (!slash)
		return false;
	*slash = 0;
	return true;
}

char *place_preload(void)
{
	/* A build tree first; then relative to $bindir, so that an installation
	 * may be moved; then where it was configured to be. */
	static const char *const below[] = {
		"",
		"/../lib/quire",
		"/../lib/" QUIRE_MULTIARCH "/quire",
		"/../lib64/quire",
	};
	char dir[PATH_MAX];
	char *path;

	if (own_dir(dir, sizeof(dir))) {
		for (size_t i = 0; i < COUNT_OF(below); i++) {
			path = text_of("%s%s/libquire-preload.so", dir, below[i]);
			if (!access(path, R_OK))
				return path;
			free(path);
		}
	}
#ifdef QUIRE_LIBDIR
	path = text_of("%s/quire/libquire-preload.so", QUIRE_LIBDIR);
	if (!access(path, R_OK))
		return path;
	free(path);
#endif
	return NULL;
}

/* Ours, private, and a directory: checked on the descriptor, not on the name.  -1: not,
 * and why. */
static int open_private_dir(const char *path, char **ret_why)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = open(path, flags);
	struct stat st;

	if (fd < 0 && mkdir(path, 0700) < 0 && errno != EEXIST) {
		*ret_why = text_of("cannot create %s: %s: choose another $XDG_RUNTIME_DIR", path,
				   strerror(errno));
		return -1;
	}
	if (fd < 0)
		fd = open(path, flags);
	if (fd < 0 || fstat(fd, &st) < 0) {
		*ret_why = text_of("cannot open %s: %s: choose another $XDG_RUNTIME_DIR", path,
				   strerror(errno));
		return -1;
	}
	if (st.st_uid == geteuid() && !(st.st_mode & 022))
		return fd;
	close(fd);
	*ret_why = text_of("%s belongs to or may be written by others: chmod 700 it, or remove it",
			   path);
	return -1;
}

static char *tree_dir_path(const char *runtime)
{
	return runtime && runtime[0] == '/' ? text_of("%s/quire", runtime) :
					      text_of("/dev/shm/quire-%u", (unsigned int)geteuid());
}

/* Where named trees are; a descriptor of it, its path in ret_path. */
static int open_tree_dir(char **ret_path)
{
	char *why;
	int fd;

	*ret_path = tree_dir_path(getenv("XDG_RUNTIME_DIR"));
	fd = open_private_dir(*ret_path, &why);
	if (fd < 0)
		die(EXIT_QUIRE, "%s", why);
	return fd;
}

/*
 * Where trees of one run are: nobody looks for them by name, so either place will do.
 * What root runs may become another user, and is under the limit still: then the
 * directory may be passed through, but not listed.
 */
static int open_run_dir(char **ret_path)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *why, *why_not;
	int fd;

	*ret_path = tree_dir_path(geteuid() ? runtime : NULL);
	fd = open_private_dir(*ret_path, &why);
	if (fd < 0) {
		free(*ret_path);
		*ret_path = tree_dir_path(geteuid() ? NULL : runtime);
		fd = open_private_dir(*ret_path, &why_not);
		if (fd < 0)
			die(EXIT_QUIRE, "%s", why);
		free(why);
	}
	if (geteuid() == 0)
		(void)!chmod(*ret_path, 0711);
	return fd;
}

/* The file of a tree; -1 when O_CREAT is not in flags and there is none. */
static int open_tree(const char *name, int flags, char **ret_path)
{
	char *dir;
	int dir_fd, fd;

	if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) > 63)
		die(EXIT_QUIRE,
		    "--tree \"%.64s\" is not a name: 1 to 63 characters, no slash, "
		    "no leading dot",
		    name);
	if (!strncmp(name, RUN_PREFIX, strlen(RUN_PREFIX)))
		die(EXIT_QUIRE,
		    "--tree \"%s\": names with " RUN_PREFIX " are those of runs without one", name);
	dir_fd = open_tree_dir(&dir);
	fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
	if (fd < 0 && (flags & O_CREAT || errno != ENOENT))
		die(EXIT_QUIRE, "cannot open the tree %s/%s: %s: choose another name", dir, name,
		    strerror(errno));
	close(dir_fd);
	*ret_path = text_of("%s/%s", dir, name);
	free(dir);
	return fd;
}

bool place_run_has_ended(int fd)
{
	struct quire_view *view;
	bool ended;

	/* Of another version of quire, say. */
	if (quire_view_open(fd, &view) < 0)
		return false;
	ended = quire_view_ended(view) == 1;
	quire_view_close(view);
	return ended;
}

/* "run:PID.N.SECRET": PID has made it, and became its first process or waits for that. */
static bool is_starting(const char *name)
{
	long pid = strtol(name + strlen(RUN_PREFIX), NULL, 10);

	return pid > 0 && (!kill((pid_t)pid, 0) || errno != ESRCH);
}

/* Killed before there was a tree in it. */
static bool is_empty(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !st.st_size;
}

/* The last process of a run does not know that it is the last: the next run looks. */
static void remove_ended_runs(int dir_fd)
{
	int list_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	DIR *list = list_fd < 0 ? NULL : fdopendir(list_fd);
	struct dirent *entry;

	while (list && (entry = readdir(list))) {
		if (strncmp(entry->d_name, RUN_PREFIX, strlen(RUN_PREFIX)) != 0 ||
		    is_starting(entry->d_name))
			continue;
		fd = openat(dir_fd, entry->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_empty(fd) || place_run_has_ended(fd))
			unlinkat(dir_fd, entry->d_name, 0);
		close(fd);
	}
	if (list)
		closedir(list);
}

/* What nobody can guess who may not list the directory. */
static uint64_t secret(void)
{
	uint64_t word;

	if (getrandom(&word, sizeof(word), 0) != sizeof(word))
		die(EXIT_QUIRE, "no random numbers: %s: is this a very early boot?",
		    strerror(errno));
	return word;
}

int place_run_tree(char **ret_path)
{
	char *dir, *name;
	int dir_fd = open_run_dir(&dir), fd = -1;

	remove_ended_runs(dir_fd);
	for (unsigned int n = 0; fd < 0; n++) {
		name = text_of(RUN_PREFIX "%d.%u.%016llx", (int)getpid(), n,
			       (unsigned long long)secret());
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0 && errno != EEXIST)
			die(EXIT_QUIRE,
			    "cannot make a tree in %s: %s: choose another $XDG_RUNTIME_DIR", dir,
			    strerror(errno));
		if (fd >= 0)
			*ret_path = text_of("%s/%s", dir, name);
		free(name);
	}
	if (geteuid() == 0)
		(void)!fchmod(fd, 0666);
	close(dir_fd);
	free(dir);
	return fd;
}

int place_tree(const char *name, char **ret_path)
{
	return open_tree(name, O_CREAT, ret_path);
}

int place_tree_there(const char *name, char **ret_path)
{
	int fd = open_tree(name, 0, ret_path);

	if (fd < 0)
		die(EXIT_QUIRE, "there is no tree %s: quire run --tree NAME makes one", *ret_path);
	return fd;
}

const char *place_tree_name(const char *option)
{
	if (!option)
		die(EXIT_USAGE, "no tree was named: give the --tree NAME of quire run");
	return option;
}
