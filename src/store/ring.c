/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - io_uring for one thread that only reads.
 *
 * Owns the ring's descriptor, its two mappings and an eventfd.  Three system
 * calls and four index words are all that is needed, so liburing is not used
 * (it would also bring malloc).  One thread opens, fills and drains the ring
 * (completions run as work of the submitting thread, so handing submission to
 * fault threads would interrupt them); ring_wake() is for everybody else.
 *
 * The mappings are MADV_DONTFORK and the descriptors lie in the engine's
 * private table: a child inherits nothing (findings.md 34).
 *
 * Nothing here locks; the index words shared with the kernel are base/sync
 * atomics: the store of sq tail pairs with the kernel's load, and the load of
 * cq tail with the kernel's store.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/os.h"
#include "store/reader.h"

#define RETRY_NS (100 * NSEC_PER_USEC)

struct ring {
	struct meta *meta;
	int fd;
	int wake_fd;
	u64 wake_count; /* the eventfd is read into this */
	u32 nr_pushed; /* not yet taken by the kernel */
	char *rings; /* mapping of both index rings */
	size_t rings_len;
	struct io_uring_sqe *sqes;
	size_t sqes_len;
	struct atomic32 *sq_tail;
	u32 sq_mask;
	struct atomic32 *cq_head;
	struct atomic32 *cq_tail;
	u32 cq_mask;
	struct io_uring_cqe *cqes;
};

_Static_assert(READER_NR_CHUNKS < RING_ENTRIES, "room for the wake-up");

/* Newer kernels: completions run only in ring_wait().  Else without. */
static int setup(struct io_uring_params *p)
{
	long fd;

	memset(p, 0, sizeof(*p));
	p->flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	fd = os_syscall(SYS_io_uring_setup, RING_ENTRIES, p, 0);
	if (fd == -EINVAL) {
		memset(p, 0, sizeof(*p));
		fd = os_syscall(SYS_io_uring_setup, RING_ENTRIES, p, 0);
	}
	return (int)fd;
}

static int map(struct ring *r, const struct io_uring_params *p)
{
	size_t sq_len = p->sq_off.array + p->sq_entries * sizeof(u32);
	size_t cq_len = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	long addr;

	if (!(p->features & IORING_FEAT_SINGLE_MMAP))
		return -ENOSYS;
	r->rings_len = align_up(max_of(sq_len, cq_len), PAGE_SIZE);
	addr = os_mmap(NULL, r->rings_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		       IORING_OFF_SQ_RING);
	if (addr < 0)
		return (int)addr;
	r->rings = (char *)addr;
	r->sqes_len = align_up(p->sq_entries * sizeof(struct io_uring_sqe), PAGE_SIZE);
	addr = os_mmap(NULL, r->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		       IORING_OFF_SQES);
	if (addr < 0) {
		(void)os_munmap(r->rings, r->rings_len);
		return (int)addr;
	}
	r->sqes = (struct io_uring_sqe *)addr;
	(void)os_madvise(r->rings, r->rings_len, MADV_DONTFORK);
	(void)os_madvise(r->sqes, r->sqes_len, MADV_DONTFORK);
	return 0;
}

static void find_indices(struct ring *r, const struct io_uring_params *p)
{
	u32 *array = (u32 *)(r->rings + p->sq_off.array);

	r->sq_tail = (struct atomic32 *)(r->rings + p->sq_off.tail);
	r->sq_mask = p->sq_entries - 1;
	r->cq_head = (struct atomic32 *)(r->rings + p->cq_off.head);
	r->cq_tail = (struct atomic32 *)(r->rings + p->cq_off.tail);
	r->cq_mask = p->cq_entries - 1;
	r->cqes = (struct io_uring_cqe *)(r->rings + p->cq_off.cqes);
	for (u32 i = 0; i < p->sq_entries; i++)
		array[i] = i;
}

/* The read that ring_wake() completes; its tag is NULL. */
static void arm_wake(struct ring *r)
{
	ring_push(r, r->wake_fd, &r->wake_count, sizeof(r->wake_count), 0, NULL);
}

int ring_open(struct meta *meta, struct ring **ret_ring)
{
	struct io_uring_params p;
	struct ring *r;
	int err = failpoint("store_ring_open");

	if (err)
		return err;
	r = meta_alloc(meta, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->meta = meta;
	err = r->fd = setup(&p);
	if (err < 0)
		goto free_ring;
	err = map(r, &p);
	if (err)
		goto close_fd;
	find_indices(r, &p);
	err = r->wake_fd = os_eventfd(0, EFD_CLOEXEC);
	if (err < 0)
		goto unmap;
	arm_wake(r);
	*ret_ring = r;
	return 0;

unmap:
	(void)os_munmap(r->sqes, r->sqes_len);
	(void)os_munmap(r->rings, r->rings_len);
close_fd:
	(void)os_close(r->fd);
free_ring:
	meta_free(meta, r, sizeof(*r));
	return err;
}

void ring_close(struct ring *r)
{
	(void)os_munmap(r->sqes, r->sqes_len);
	(void)os_munmap(r->rings, r->rings_len);
	(void)os_close(r->fd);
	(void)os_close(r->wake_fd);
	ring_forget(r);
}

void ring_forget(struct ring *r)
{
	meta_free(r->meta, r, sizeof(*r));
}

void ring_push(struct ring *r, int fd, void *buf, u32 len, u64 off, void *tag)
{
	u32 tail = atomic32_peek(r->sq_tail);
	struct io_uring_sqe *e = &r->sqes[tail & r->sq_mask];

	quire_assert(r->nr_pushed < RING_ENTRIES);
	memset(e, 0, sizeof(*e));
	e->opcode = IORING_OP_READ;
	e->fd = fd;
	e->off = off;
	e->addr = (u64)(uintptr_t)buf;
	e->len = len;
	e->user_data = (u64)(uintptr_t)tag;
	atomic32_store(r->sq_tail, tail + 1); /* the kernel sees the entry before it */
	r->nr_pushed++;
}

void ring_wait(struct ring *r)
{
	long n = os_syscall6(SYS_io_uring_enter, r->fd, r->nr_pushed, 1, IORING_ENTER_GETEVENTS, 0,
			     0);

	if (n >= 0) {
		r->nr_pushed -= (u32)n;
		return;
	}
	if (n == -EINTR)
		return;
	/* Out of kernel memory: what was pushed stays pushed, try again. */
	quire_assert(n == -EAGAIN || n == -EBUSY || n == -ENOMEM);
	os_sleep_ns(RETRY_NS);
}

bool ring_pop(struct ring *r, void **ret_tag, int *ret_res)
{
	for (;;) {
		u32 head = atomic32_peek(r->cq_head);
		const struct io_uring_cqe *e = &r->cqes[head & r->cq_mask];
		void *tag;
		int res;

		if (head == atomic32_load(r->cq_tail)) /* entries up to it are written */
			return false;
		tag = (void *)(uintptr_t)e->user_data;
		res = e->res;
		atomic32_store(r->cq_head, head + 1); /* read before it is reused */
		if (tag) {
			*ret_tag = tag;
			*ret_res = res;
			return true;
		}
		arm_wake(r);
	}
}

void ring_wake(struct ring *r)
{
	u64 one = 1;

	(void)os_write(r->wake_fd, &one, sizeof(one));
}
