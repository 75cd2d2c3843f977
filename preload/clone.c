/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clone.c - children that are made past fork(): clone(), _Fork(), syscall().
 *
 * clone() of a copy that is like fork's is made to be one.  All other copies, and those
 * that are made by system call, get no managed memory (MADV_DONTFORK): SIGSEGV at the
 * first touch.  Where the call passed through here the child says why.
 * A child that shares the memory (vfork, CLONE_VM) is served like a thread, and passes
 * as it is: a C function must not come between.
 */
#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/os.h"

int clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

/*
 * What a copy may differ in from fork's.  Not with a thread id written to its memory
 * before the engine is there, with its parent's descriptors, nor where it has another
 * number or other rights than the tree knows.
 */
#define LIKE_FORK                                                                                  \
	(CSIGNAL | CLONE_PARENT_SETTID | CLONE_PIDFD | CLONE_PTRACE | CLONE_UNTRACED | CLONE_IO |  \
	 CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP)

typedef int clone_fn(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

static clone_fn *libc_clone;
static pid_t (*libc__Fork)(void);

/* ---- without managed memory ------------------------------------------------------------ */

static struct sigaction program_act; /* for SIGSEGV */

/* Once: the program's own handler, or the default action, has the same fault next. */
static void on_segv(int sig, siginfo_t *info, void *context)
{
	char text[256];

	(void)context;
	if (info->si_code == SEGV_MAPERR) {
		fmt_str(text, sizeof(text),
			"quire: process %d touched %p, which is not there: made by a system call, "
			"_Fork() or clone() with special flags, it has none of its parent's "
			"managed memory: use fork(), or quire run --malloc=none --mmap=off\n",
			os_getpid(), info->si_addr);
		os_message(text);
	}
	sigaction(SIGSEGV, &program_act, NULL);
	if (info->si_code <= 0) /* sent: it does not come again by itself */
		os_kill(os_getpid(), sig);
}

void clone_without_memory(void)
{
	struct sigaction act = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (!preload.ready)
		return;
	sigaction(SIGSEGV, &act, &program_act);
	/* Nobody would answer: what it maps from here on is its own. */
	malloc_forget_engine();
	preload.ready = false;
	preload.e = NULL;
}

bool clone_makes_copy(long nr, const long *a)
{
	switch (nr) {
	case SYS_fork:
		return true;
	case SYS_clone:
		return !(a[0] & CLONE_VM);
	case SYS_clone3:
		return !(((const struct clone_args *)a[0])->flags & CLONE_VM);
	default:
		return false;
	}
}

EXPORT pid_t _Fork(void)
{
	pid_t pid = libc__Fork ? libc__Fork() : (pid_t)os_syscall(SYS_fork, 0, 0, 0);

	if (!pid)
		clone_without_memory();
	return pid;
}

/* ---- clone() --------------------------------------------------------------------------- */

struct start {
	int (*fn)(void *arg);
	void *arg;
	bool copied;
};

/* On the child's stack; start lies on the parent's, of which there is a copy. */
static int child_main(void *p)
{
	const struct start *start = p;

	if (start->copied)
		fork_child();
	else
		clone_without_memory();
	/* libc's ends the thread alone, but ours live on. */
	os_exit_group(start->fn(start->arg));
}

EXPORT int clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...)
{
	struct start start = { fn, arg, !(flags & ~LIKE_FORK) };
	void *parent_tid, *tls, *child_tid;
	va_list ap;
	int pid;

	va_start(ap, arg);
	parent_tid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, void *);
	va_end(ap);
	if (!preload.ready || (flags & CLONE_VM) || !fn || !stack)
		return libc_clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
	if (!start.copied)
		return libc_clone(child_main, stack, flags, &start, parent_tid, tls, child_tid);
	if (!fork_can())
		return -1;
	fork_prepare((u64)stack);
	pid = libc_clone(child_main, stack, flags, &start, parent_tid, tls, child_tid);
	fork_parent();
	if (pid < 0)
		fork_has_failed();
	return pid;
}

void clone_install(void)
{
	*(void **)&libc_clone = dlsym(RTLD_NEXT, "clone");
	*(void **)&libc__Fork = dlsym(RTLD_NEXT, "_Fork");
	if (!libc_clone)
		os_abort("quire: the C library lacks clone\n");
}
