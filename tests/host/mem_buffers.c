/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_buffers.c [ROUNDS] - system calls whose buffers, vectors and words are paged
 * out when the call is made: never EFAULT, never a short count, the right bytes.
 * MADV_PAGEOUT before every call sends them out where something can.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)
#define LEN (64ul << 10)

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "mem_buffers: round %d, line %d: %s (errno %s)\n", turn,   \
				__LINE__, #x, strerror(errno));                                    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static int turn;
static char *area; /* of AREA bytes: everything the calls are given */
#define AREA (4 * MIB)

static void fill(void *at, size_t len, unsigned int seed)
{
	uint32_t *p = at;

	for (size_t i = 0; i < len / 4; i++)
		p[i] = (uint32_t)i * 2654435761u ^ seed * 40503u;
}

static bool holds(const void *at, size_t len, unsigned int seed)
{
	const uint32_t *p = at;

	for (size_t i = 0; i < len / 4; i++)
		if (p[i] != ((uint32_t)i * 2654435761u ^ seed * 40503u))
			return false;
	return true;
}

static void send_out(void)
{
	CHECK(!madvise(area, AREA, MADV_PAGEOUT));
}

static unsigned int seed_of(int what)
{
	return (unsigned int)(turn * 100 + what);
}

static void files(int fd)
{
	char *from = area, *to = area + MIB;
	struct iovec *iov = (struct iovec *)(area + 2 * MIB);
	struct stat *st = (struct stat *)(area + 3 * MIB);

	fill(from, LEN, seed_of(1));
	send_out();
	CHECK(pwrite(fd, from, LEN, 0) == (ssize_t)LEN);
	memset(to, 0xee, LEN);
	send_out();
	CHECK(pread(fd, to, LEN, 0) == (ssize_t)LEN);
	CHECK(holds(to, LEN, seed_of(1)));
	for (int i = 0; i < 16; i++)
		iov[i] = (struct iovec){ to + i * 2 * PAGE, PAGE };
	send_out();
	CHECK(preadv(fd, iov, 16, 0) == (ssize_t)(16 * PAGE));
	for (int i = 0; i < 16; i++)
		CHECK(!memcmp(to + (size_t)i * 2 * PAGE, from + (size_t)i * PAGE, PAGE));
	send_out();
	CHECK(lseek(fd, 0, SEEK_SET) == 0 && writev(fd, iov, 16) == (ssize_t)(16 * PAGE));
	send_out();
	CHECK(lseek(fd, 0, SEEK_SET) == 0 && read(fd, to, LEN) == (ssize_t)LEN);
	CHECK(holds(to, LEN, seed_of(1)));
	strcpy(area + MIB, "/proc/self/exe");
	send_out();
	CHECK(!stat(area + MIB, st) && st->st_size > 0);
	CHECK(access(area + MIB, R_OK) == 0);
}

static void sockets(const int *pair)
{
	struct msghdr *msg = (struct msghdr *)area;
	struct iovec *iov = (struct iovec *)(area + PAGE);
	char *from = area + MIB, *to = area + 2 * MIB;

	fill(from, LEN, seed_of(2));
	memset(to, 0, LEN);
	iov[0] = (struct iovec){ from, LEN / 2 };
	iov[1] = (struct iovec){ from + LEN / 2, LEN / 2 };
	iov[2] = (struct iovec){ to, LEN };
	*msg = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 2 };
	send_out();
	CHECK(sendmsg(pair[0], msg, 0) == (ssize_t)LEN);
	msg->msg_iov = iov + 2;
	msg->msg_iovlen = 1;
	send_out();
	CHECK(recvmsg(pair[1], msg, MSG_WAITALL) == (ssize_t)LEN);
	CHECK(holds(to, LEN, seed_of(2)));
	send_out();
	CHECK(send(pair[1], from, LEN, 0) == (ssize_t)LEN);
	send_out();
	CHECK(recv(pair[0], to, LEN, MSG_WAITALL) == (ssize_t)LEN);
	CHECK(holds(to, LEN, seed_of(2)));
}

static void *wake(void *arg)
{
	uint32_t *word = arg;

	usleep(2000);
	__atomic_store_n(word, 2, __ATOMIC_SEQ_CST);
	CHECK(syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) >= 0);
	return NULL;
}

static void words(void)
{
	uint32_t *word = (uint32_t *)area;
	struct timespec *ts = (struct timespec *)(area + PAGE);
	struct pollfd *pfd = (struct pollfd *)(area + 2 * PAGE);
	pthread_t t;

	*word = 1;
	*ts = (struct timespec){ .tv_sec = 5 };
	send_out();
	CHECK(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 7, ts, NULL, 0) == -1 &&
	      errno == EAGAIN);
	CHECK(!pthread_create(&t, NULL, wake, word));
	send_out();
	while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 1)
		CHECK(!syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, ts, NULL, 0) ||
		      errno == EAGAIN || errno == EINTR);
	CHECK(!pthread_join(t, NULL));
	ts->tv_sec = 0;
	ts->tv_nsec = 1000;
	pfd->fd = 0;
	pfd->events = 0;
	send_out();
	CHECK(ppoll(pfd, 1, ts, NULL) >= 0);
	send_out();
	CHECK(!clock_gettime(CLOCK_PROCESS_CPUTIME_ID, ts));
	send_out();
	CHECK(!nanosleep(&(struct timespec){ 0, 1000 }, ts));
}

/* ---- io_uring, by hand: one read or write at a time ------------------------------ */

static struct {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
} ring = { .fd = -1 };

static void ring_open(void)
{
	struct io_uring_params p = { .flags = 0 };
	char *at;

	ring.fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (ring.fd < 0)
		return; /* not permitted here */
	at = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING);
	ring.sqes = mmap(NULL, p.sq_entries * sizeof(*ring.sqes), PROT_READ | PROT_WRITE,
			 MAP_SHARED, ring.fd, IORING_OFF_SQES);
	CHECK(at != MAP_FAILED && ring.sqes != MAP_FAILED &&
	      (p.features & IORING_FEAT_SINGLE_MMAP));
	ring.sq_tail = (unsigned int *)(at + p.sq_off.tail);
	ring.sq_mask = (unsigned int *)(at + p.sq_off.ring_mask);
	ring.sq_array = (unsigned int *)(at + p.sq_off.array);
	ring.cq_head = (unsigned int *)(at + p.cq_off.head);
	ring.cq_tail = (unsigned int *)(at + p.cq_off.tail);
	ring.cq_mask = (unsigned int *)(at + p.cq_off.ring_mask);
	ring.cqes = (struct io_uring_cqe *)(at + p.cq_off.cqes);
}

static int ring_do(int op, int fd, void *buf, unsigned int len)
{
	unsigned int tail = *ring.sq_tail, i = tail & *ring.sq_mask, head = *ring.cq_head;
	int res;

	ring.sqes[i] = (struct io_uring_sqe){
		.opcode = (uint8_t)op, .fd = fd, .addr = (uintptr_t)buf, .len = len
	};
	ring.sq_array[i] = i;
	__atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
	while (syscall(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		CHECK(errno == EINTR);
	CHECK(__atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE) != head);
	res = ring.cqes[head & *ring.cq_mask].res;
	__atomic_store_n(ring.cq_head, head + 1, __ATOMIC_RELEASE);
	return res;
}

static void rings(int fd)
{
	char *from = area, *to = area + MIB;

	if (ring.fd < 0)
		return;
	fill(from, LEN, seed_of(3));
	memset(to, 0, LEN);
	send_out();
	CHECK(ring_do(IORING_OP_WRITE, fd, from, LEN) == (int)LEN);
	send_out();
	CHECK(ring_do(IORING_OP_READ, fd, to, LEN) == (int)LEN);
	CHECK(holds(to, LEN, seed_of(3)));
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 50;
	size_t big = 64 * MIB;
	int fd = memfd_create("file", MFD_CLOEXEC), pair[2], n = 1 << 20;
	char *p = mmap(NULL, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(fd >= 0 && p != MAP_FAILED && area != MAP_FAILED);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	for (int i = 0; i < 2; i++)
		CHECK(!setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof(n)) ||
		      !setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &n, sizeof(n)));
	ring_open();
	fill(p, big, 1); /* more than the limit: paging has begun */
	for (turn = 0; turn < rounds; turn++) {
		files(fd);
		sockets(pair);
		words();
		rings(fd);
	}
	/* a call with a buffer larger than the limit */
	CHECK(!ftruncate(fd, 0));
	for (size_t done = 0; done < big;) {
		ssize_t got = pwrite(fd, p + done, big - done, (off_t)done);

		CHECK(got > 0);
		done += (size_t)got;
	}
	memset(p, 0, big);
	for (size_t done = 0; done < big;) {
		ssize_t got = pread(fd, p + done, big - done, (off_t)done);

		CHECK(got > 0);
		done += (size_t)got;
	}
	CHECK(holds(p, big, 1));
	return 0;
}
