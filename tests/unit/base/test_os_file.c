/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_os_file.c - transfers, space, state; short transfers and EINTR.
 */
#include "base/failpoint.h"
#include "base/os.h"
#include "base/sync.h"

#include "lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static int memfd(void)
{
	int fd = os_memfd_create("test", MFD_CLOEXEC);

	ASSERT_OK(fd);
	return fd;
}

TEST(transfers)
{
	static char out[100000], in[100000];
	struct stat st;
	size_t i;
	int fd = memfd();

	for (i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 7);
	ASSERT_EQ(os_pwrite(fd, out, sizeof(out), 4096), (long)sizeof(out));
	ASSERT_EQ(os_pread(fd, in, sizeof(in), 4096), (long)sizeof(in));
	ASSERT_MEM_EQ(in, out, sizeof(in));
	/* At the end of the file. */
	ASSERT_EQ(os_pread(fd, in, sizeof(in), 4096 + sizeof(out) - 10), 10);
	ASSERT_EQ(os_pread(fd, in, sizeof(in), 1 << 30), 0);
	ASSERT_OK(os_fstat(fd, &st));
	ASSERT_EQ(st.st_size, 4096 + (off_t)sizeof(out));
	ASSERT_OK(os_ftruncate(fd, 100));
	ASSERT_OK(os_fallocate(fd, 0, 0, 8192));
	ASSERT_OK(os_fstat(fd, &st));
	ASSERT_EQ(st.st_size, 8192);
	ASSERT_EQ(os_fcntl(fd, F_GETFD, 0), FD_CLOEXEC);
	ASSERT_OK(os_close(fd));
	ASSERT_EQ(os_pread(fd, in, 1, 0), -EBADF);
	ASSERT_EQ(os_pwrite(fd, in, 1, 0), -EBADF);
	ASSERT_EQ(os_close(fd), -EBADF);
}

static void check_mappings(int maps, u64 p)
{
	struct os_mapping m;

	ASSERT_OK(os_next_mapping(maps, p + 4096 + 5, &m));
	ASSERT_EQ(m.start, p + 4096);
	ASSERT_EQ(m.end, p + 2 * 4096);
	ASSERT_EQ(m.prot, (u32)(PROT_READ | PROT_EXEC));
	ASSERT_EQ(m.inode, 0u);
	ASSERT_FALSE(m.shared);
	ASSERT_OK(os_next_mapping(maps, m.end, &m));
	ASSERT_EQ(m.start, p + 3 * 4096);
	ASSERT_EQ(m.prot, (u32)(PROT_READ | PROT_WRITE));
	ASSERT_NE(m.inode, 0u);
	ASSERT_TRUE(m.shared);
	ASSERT_EQ(os_next_mapping(maps, UINT64_MAX - 4096, &m), -ENOENT);
}

TEST(mappings)
{
	static struct failpoints fps;
	static struct thread self;
	int maps = os_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0), fd = memfd();
	char *p = mmap(NULL, 4 << 12, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_OK(maps);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_OK(mprotect(p + (1 << 12), 1 << 12, PROT_READ | PROT_EXEC));
	ASSERT_OK(munmap(p + (2 << 12), 1 << 12));
	ASSERT_TRUE(mmap(p + (3 << 12), 1 << 12, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 0) == p + (3 << 12));
	check_mappings(maps, (u64)p);
	/* a kernel that does not know the question */
	ASSERT_OK(failpoints_parse(&fps, "os_ioctl:ENOTTY"));
	self.failpoints = &fps;
	thread_attach(&self);
	check_mappings(maps, (u64)p);
	thread_detach();
	munmap(p, 4 << 12);
	ASSERT_OK(os_close(fd));
	ASSERT_OK(os_close(maps));
}

TEST(paths)
{
	char dir[64], file[80];
	struct statfs fs;
	struct stat st;
	int fd, dirfd;

	snprintf(dir, sizeof(dir), "/tmp/quire-test-%d", (int)getpid());
	snprintf(file, sizeof(file), "%s/file", dir);
	ASSERT_OK(os_mkdir(dir, 0700));
	ASSERT_EQ(os_mkdir(dir, 0700), -EEXIST);
	dirfd = os_open(dir, O_RDONLY | O_DIRECTORY, 0);
	ASSERT_OK(dirfd);
	fd = os_openat(dirfd, "file", O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_OK(fd);
	ASSERT_EQ(os_write(fd, "hello", 5), 5);
	ASSERT_OK(os_sync_file_range(fd, 0, 0, 0));
	ASSERT_OK(os_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	ASSERT_OK(os_fstatfs(fd, &fs));
	ASSERT_GT(fs.f_bsize, 0);
	ASSERT_OK(os_stat(file, &st));
	ASSERT_EQ(st.st_mode & 07777, 0600u);
	ASSERT_OK(os_close(fd));
	ASSERT_OK(os_close(dirfd));
	ASSERT_OK(os_unlink(file));
	ASSERT_EQ(os_unlink(file), -ENOENT);
	ASSERT_EQ(os_stat(file, &st), -ENOENT);
	rmdir(dir);
}

TEST(read_file)
{
	char buf[8192];
	long len = os_read_file("/proc/self/status", buf, sizeof(buf));

	ASSERT_GT(len, 100);
	ASSERT_EQ(buf[len], '\0');
	ASSERT_TRUE(strncmp(buf, "Name:", 5) == 0);
	ASSERT_EQ(os_read_file("/proc/self/status", buf, 100), -EFBIG);
	ASSERT_EQ(os_read_file("/proc/self/status", buf, 0), -EINVAL);
	ASSERT_EQ(os_read_file("/nowhere", buf, sizeof(buf)), -ENOENT);
	ASSERT_EQ(os_read_file("/proc/self", buf, sizeof(buf)), -EISDIR);
}

TEST(eventfd_poll_ioctl)
{
	int fd = os_eventfd(0, EFD_NONBLOCK), bytes = 0, fds[2];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	u64 one = 1;

	ASSERT_OK(fd);
	ASSERT_EQ(os_poll(&pfd, 1, 0), 0);
	ASSERT_EQ(os_read(fd, &one, sizeof(one)), -EAGAIN);
	ASSERT_EQ(os_write(fd, &one, sizeof(one)), 8);
	ASSERT_EQ(os_poll(&pfd, 1, 1000), 1);
	ASSERT_OK(os_close(fd));
	ASSERT_EQ(pipe(fds), 0);
	ASSERT_EQ(os_write(fds[1], "abc", 3), 3);
	ASSERT_OK(os_ioctl(fds[0], FIONREAD, &bytes));
	ASSERT_EQ(bytes, 3);
	ASSERT_EQ(os_ioctl(fds[0], 0xdead, NULL), -ENOTTY);
	close(fds[0]);
	close(fds[1]);
}

static int alarm_fd;

static void on_alarm(int sig)
{
	(void)sig;
	if (alarm_fd)
		(void)!write(alarm_fd, "x", 1);
}

/* A handler without SA_RESTART interrupts; neither poll nor read shows it. */
TEST(restarted_on_eintr)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct pollfd pfd = { .events = POLLIN };
	u64 before = os_now_ns();
	char c = 0;
	int fds[2];

	ASSERT_EQ(pipe(fds), 0);
	pfd.fd = fds[0];
	sigaction(SIGALRM, &action, NULL);
	ualarm(10000, 10000);
	ASSERT_EQ(os_poll(&pfd, 1, 60), 0);
	ASSERT_GE(os_now_ns() - before, 55 * NSEC_PER_MSEC);
	/* The signals did not start the time anew. */
	ASSERT_LT(os_now_ns() - before, 2 * NSEC_PER_SEC);
	ualarm(0, 0);
	alarm_fd = fds[1];
	ualarm(10000, 0);
	ASSERT_EQ(os_read(fds[0], &c, 1), 1);
	ASSERT_EQ(c, 'x');
	signal(SIGALRM, SIG_DFL);
	close(fds[0]);
	close(fds[1]);
}
