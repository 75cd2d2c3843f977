/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork.c - the preload's atfork handlers, and fork() itself, which can be refused.
 *
 * Registered first: prepare runs last of all, child first of all (findings 4).
 * Order inside: jemalloc's locks, then the engine's gates; back in reverse, except
 * that the child's engine must serve before anybody touches managed memory.
 *
 * glibc's child, in a program with threads, resets the lock of every open FILE
 * before it runs any handler.  A FILE of fopen() lies in malloc's memory and may be
 * paged out; between the two gates its page is brought in by a read through the
 * kernel, which also survives a list that changes under us.
 *
 * From the first lock to the last no signal comes in: a handler that jumped away, or
 * that waited for what is locked, would leave the process so.
 */
#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/os.h"

/* More open files than this are not walked. */
#define FILES_MAX 65536

/* Copy len bytes at addr of this process; false: not mapped. */
static bool read_self(const void *addr, void *to, size_t len)
{
	struct iovec local = { to, len }, remote = { (void *)addr, len };

	return os_syscall6(SYS_process_vm_readv, os_getpid(), (long)&local, 1, (long)&remote, 1,
			   0) == (long)len;
}

extern FILE *_IO_list_all;

static void touch_files(void *ctx)
{
	struct _IO_FILE file;
	char byte[64];
	const FILE *at = _IO_list_all;

	(void)ctx;
	for (u32 n = 0; at && n < FILES_MAX; n++) {
		if (!read_self(at, &file, sizeof(file)))
			return;
		if (file._lock && !read_self(file._lock, byte, 16))
			return;
		at = file._chain;
	}
}

/* Signal mask of the forking thread; its own while it holds the engine. */
static u64 fork_mask;

/*
 * No signal meanwhile: its handler in the child would find memory that is out to be
 * zeros, and what it wrote there would be lost.
 */
void fork_prepare(u64 child_stack)
{
	u64 mask = 0;

	if (!preload.e)
		return;
	os_sigprocmask_async(&mask);
	malloc_fork_prepare();
	engine_fork_prepare(preload.e, child_stack);
	fork_mask = mask;
}

void fork_parent(void)
{
	u64 mask = fork_mask;

	if (!preload.e)
		return;
	engine_fork_parent(preload.e);
	malloc_fork_parent();
	os_sigprocmask_set(&mask);
}

void fork_child(void)
{
	u64 mask = fork_mask;

	if (!preload.e)
		return;
	engine_fork_child(preload.e);
	malloc_fork_child();
	os_sigprocmask_set(&mask);
}

static void prepare(void)
{
	fork_prepare(0);
}

bool fork_can(void)
{
	if (!preload.ready || !engine_fork_check(preload.e))
		return true;
	errno = EAGAIN;
	return false;
}

void fork_has_failed(void)
{
	int err = errno;

	if (preload.ready)
		engine_fork_failed(preload.e);
	errno = err;
}

static pid_t (*libc_fork)(void);

/* What fork(2) says where a child cannot be had for want of something. */
EXPORT pid_t fork(void)
{
	pid_t pid;

	if (!fork_can())
		return -1;
	if (!libc_fork)
		*(void **)&libc_fork = dlsym(RTLD_NEXT, "fork");
	pid = libc_fork();
	if (pid < 0)
		fork_has_failed();
	return pid;
}

void fork_install(void)
{
	/* Now: a fork in a signal handler must not wait for the loader. */
	*(void **)&libc_fork = dlsym(RTLD_NEXT, "fork");
	clone_install();

	/* Can only fail for want of memory this early; then fork would lose pages. */
	if (pthread_atfork(prepare, fork_parent, fork_child))
		os_abort("quire: cannot register fork handlers\n");
}

void fork_touch_install(struct engine *e)
{
	engine_set_fork_touch(e, touch_files, NULL);
}
