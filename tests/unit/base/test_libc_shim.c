/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_libc_shim.c - the archives' libc behaves like libc where they look.
 */
#include "base/libc_shim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(mmap_returns_memory)
{
	char *p = quire_libc_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	p[0] = 1;
	ASSERT_EQ(quire_libc_madvise(p, PAGE_SIZE, MADV_DONTNEED), 0);
	ASSERT_EQ(p[0], 0);
	ASSERT_EQ(quire_libc_mprotect(p, PAGE_SIZE, PROT_READ), 0);
	ASSERT_EQ(quire_libc_munmap(p, PAGE_SIZE), 0);
}

TEST(errors_are_in_errno)
{
	errno = 0;
	ASSERT_TRUE(quire_libc_mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		    MAP_FAILED);
	ASSERT_EQ(errno, EINVAL);
	errno = 0;
	ASSERT_EQ(quire_libc_munmap((void *)1, PAGE_SIZE), -1);
	ASSERT_EQ(errno, EINVAL);
	errno = 0;
	ASSERT_EQ(quire_libc_open("/nonexistent/file", O_RDONLY), -1);
	ASSERT_EQ(errno, ENOENT);
	errno = 0;
	ASSERT_EQ(quire_libc_close(-1), -1);
	ASSERT_EQ(errno, EBADF);
	errno = 0;
	ASSERT_EQ(quire_libc_write(-1, "", 1), -1);
	ASSERT_EQ(errno, EBADF);
}

TEST(success_leaves_errno_alone)
{
	errno = 42;
	ASSERT_EQ(quire_libc_getpid(), getpid());
	ASSERT_EQ(quire_libc_sched_yield(), 0);
	ASSERT_EQ(errno, 42);
}

TEST(files_can_be_read)
{
	char mine[64], libcs[64];
	int fd = quire_libc_open("/proc/sys/vm/overcommit_memory", O_RDONLY);
	ssize_t len;

	ASSERT_GE(fd, 0);
	len = quire_libc_read(fd, mine, sizeof(mine));
	ASSERT_GT(len, 0);
	ASSERT_EQ(quire_libc_close(fd), 0);
	fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
	ASSERT_EQ(read(fd, libcs, sizeof(libcs)), len);
	close(fd);
	ASSERT_MEM_EQ(mine, libcs, len);
}

TEST(affinity_is_libcs)
{
	cpu_set_t mine, libcs;

	memset(&mine, 0xff, sizeof(mine));
	ASSERT_EQ(quire_libc_sched_getaffinity(0, sizeof(mine), &mine), 0);
	ASSERT_EQ(sched_getaffinity(0, sizeof(libcs), &libcs), 0);
	ASSERT_MEM_EQ(&mine, &libcs, sizeof(mine));
	ASSERT_TRUE(CPU_ISSET(quire_libc_sched_getcpu(), &mine));
}

TEST(options_come_from_nowhere_else)
{
	char buf[16];

	ASSERT_NULL(quire_libc_secure_getenv("PATH"));
	ASSERT_EQ(quire_libc_readlink("/proc/self/exe", buf, sizeof(buf)), -1);
	ASSERT_EQ(errno, ENOENT);
	ASSERT_EQ(quire_libc_sysconf(_SC_PAGESIZE), sysconf(_SC_PAGESIZE));
	ASSERT_EQ(quire_libc_sysconf(_SC_NPROCESSORS_ONLN), -1);
	ASSERT_NE(quire_libc_atexit(abort), 0);
}

TEST(error_text)
{
	char buf[64];

	ASSERT_STR_EQ(quire_libc_strerror_r(ENOMEM, buf, sizeof(buf)), "errno 12");
	ASSERT_STR_EQ(quire_libc_strerror_r(0, buf, sizeof(buf)), "errno 0");
	ASSERT_STR_EQ(quire_libc_strerror_r(INT32_MIN, buf, sizeof(buf)), "errno -2147483648");
	ASSERT_STR_EQ(quire_libc_strerror_r(ENOMEM, buf, 8), "errno 1");
	ASSERT_STR_EQ(quire_libc_strerror_r(ENOMEM, buf, 1), "");
}

static void call_malloc(void)
{
	quire_libc_malloc(1);
}

static void call_calloc(void)
{
	quire_libc_calloc(1, 1);
}

static void call_free(void)
{
	quire_libc_free(NULL);
}

static void call_creat(void)
{
	quire_libc_creat("quire-test", 0600);
}

static void create_by_open(void)
{
	quire_libc_open("quire-test", O_CREAT | O_WRONLY, 0600);
}

static void call_abort(void)
{
	quire_libc_abort();
}

TEST(what_is_never_called_aborts)
{
	static const struct {
		void (*fn)(void);
		const char *text;
	} cases[] = {
		{ call_malloc, "malloc() called" }, { call_calloc, "calloc() called" },
		{ call_free, "free() called" },	    { call_creat, "creat() called" },
		{ create_by_open, "creates a" },    { call_abort, "library aborted" },
	};
	char text[256];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		int status = test_child(cases[i].fn, text, sizeof(text));

		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		ASSERT_TRUE(strstr(text, cases[i].text) != NULL);
	}
	ASSERT_EQ(access("quire-test", F_OK), -1);
}
