/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the least of io_uring by bare system calls: one read into a
 * registered buffer at a time.  Included by churn.c only.
 */
#ifndef QUIRE_TESTS_STRESS_RING_H
#define QUIRE_TESTS_STRESS_RING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring {
	int fd;
	void *sq, *cq;
	struct io_uring_params p;
	struct io_uring_sqe *sqes;
};

static bool ring_open(struct ring *r)
{
	struct io_uring_params *p = &r->p;

	r->fd = syscall(SYS_io_uring_setup, 4, p);
	if (r->fd < 0)
		return false;
	r->sq = mmap(NULL, p->sq_off.array + p->sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED,
		     r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, p->sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		       MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqes != MAP_FAILED;
}

/* One READ_FIXED from fd; it waits for data.  0 or -errno. */
static int ring_read(struct ring *r, int fd, void *at, unsigned int len)
{
	unsigned int *tail = (unsigned int *)((char *)r->sq + r->p.sq_off.tail);
	unsigned int *array = (unsigned int *)((char *)r->sq + r->p.sq_off.array);
	unsigned int index = *tail & (r->p.sq_entries - 1);

	r->sqes[index] = (struct io_uring_sqe){
		.opcode = IORING_OP_READ_FIXED,
		.fd = fd,
		.addr = (uintptr_t)at,
		.len = len,
	};
	array[index] = index;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) == 1 ? 0 : -errno;
}

/* What the next operation to end came to. */
static int ring_result(struct ring *r)
{
	unsigned int *head = (unsigned int *)((char *)r->cq + r->p.cq_off.head);
	unsigned int *tail = (unsigned int *)((char *)r->cq + r->p.cq_off.tail);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)((char *)r->cq + r->p.cq_off.cqes);
	int result;

	while (__atomic_load_n(tail, __ATOMIC_ACQUIRE) == *head) {
		if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			return -errno;
	}
	result = cqes[*head & (r->p.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

#endif
