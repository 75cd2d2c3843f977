/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.c - where things lie: swap directory, preload, shared trees.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"

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
				return absolute(path);
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

/* Ours, private, and a directory: checked on the descriptor, not on the name. */
static int open_private_dir(const char *path)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		die(EXIT_QUIRE, "cannot create %s: %s: choose another $XDG_RUNTIME_DIR", path,
		    strerror(errno));
	fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		die(EXIT_QUIRE, "cannot open %s: %s: choose another $XDG_RUNTIME_DIR", path,
		    strerror(errno));
	if (st.st_uid != geteuid() || st.st_mode & 022)
		die(EXIT_QUIRE,
		    "%s belongs to or may be written by others: chmod 700 it, or "
		    "remove it",
		    path);
	return fd;
}

/* The file of a tree; -1 when O_CREAT is not in flags and there is none. */
static int open_tree(const char *name, int flags, char **ret_path)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *dir;
	int dir_fd, fd;

	if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) > 63)
		die(EXIT_QUIRE,
		    "--tree \"%.64s\" is not a name: 1 to 63 characters, no slash, "
		    "no leading dot",
		    name);
	dir = runtime && runtime[0] == '/' ? text_of("%s/quire", runtime) :
					     text_of("/dev/shm/quire-%u", (unsigned int)geteuid());
	dir_fd = open_private_dir(dir);
	fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
	if (fd < 0 && (flags & O_CREAT || errno != ENOENT))
		die(EXIT_QUIRE, "cannot open the tree %s/%s: %s: choose another name", dir, name,
		    strerror(errno));
	close(dir_fd);
	*ret_path = text_of("%s/%s", dir, name);
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
