/* SPDX-License-Identifier: Apache-2.0 */
/*
 * privilege.c - calls after which the engine could not start any more.
 *
 * userfaultfd, the swap directory and /proc may be out of reach behind setuid(2),
 * chroot(2) or a seccomp filter.  So an engine that may be needed starts before
 * such a call, with its store; after it everything is open.  A process without a
 * limit, or that has no more to lose, is left alone.
 *
 * A filter that is put on all threads (SECCOMP_FILTER_FLAG_TSYNC) is put on ours too:
 * man quire(7) says what it must allow.
 */
#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/os.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* Linux 6.4 */
#endif

void privilege_before_loss(void)
{
	if (preload.ready)
		engine_start_early(preload.e);
}

static void before_identity(void)
{
	if (os_geteuid() == 0)
		privilege_before_loss();
}

/* libc's own makes the change in every thread that it knows. */
static void *next(const char *name)
{
	void *fn = dlsym(RTLD_NEXT, name);

	if (!fn)
		os_abort("quire: the C library lacks setuid or a relative of it\n");
	return fn;
}

EXPORT int setuid(uid_t uid)
{
	int (*fn)(uid_t uid);

	before_identity();
	*(void **)&fn = next("setuid");
	return fn(uid);
}

EXPORT int seteuid(uid_t uid)
{
	int (*fn)(uid_t uid);

	before_identity();
	*(void **)&fn = next("seteuid");
	return fn(uid);
}

EXPORT int setreuid(uid_t real, uid_t effective)
{
	int (*fn)(uid_t real, uid_t effective);

	before_identity();
	*(void **)&fn = next("setreuid");
	return fn(real, effective);
}

EXPORT int setresuid(uid_t real, uid_t effective, uid_t saved)
{
	int (*fn)(uid_t real, uid_t effective, uid_t saved);

	before_identity();
	*(void **)&fn = next("setresuid");
	return fn(real, effective, saved);
}

static long result(long res)
{
	if (res >= 0)
		return res;
	errno = (int)-res;
	return -1;
}

EXPORT int chroot(const char *path)
{
	before_identity();
	return (int)result(os_syscall(SYS_chroot, path, 0, 0));
}

EXPORT int prctl(int op, ...)
{
	long a[4];
	va_list ap;

	va_start(ap, op);
	for (u32 i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (op == PR_SET_SECCOMP)
		privilege_before_loss();
	/* A merged page can be written without a fault (uffd_plain_pages()): heard and
	 * not done, as MADV_MERGEABLE. */
	if (op == PR_SET_MEMORY_MERGE && a[0])
		return 0;
	return (int)result(os_syscall6(SYS_prctl, op, a[0], a[1], a[2], a[3], 0));
}
