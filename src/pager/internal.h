/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what uffd_move and uffd_copy share (uffd.c, uffd_scan.c).
 */
#ifndef QUIRE_PAGER_INTERNAL_H
#define QUIRE_PAGER_INTERNAL_H

#include "pager/pager.h"
#include "pager/uffd_abi.h"

/* A new descriptor, non-blocking: through dev_fd, or by userfaultfd(2) if -1. */
int uffd_new(int dev_fd, int flags);
/* A new descriptor that has agreed on features. */
int uffd_open_one(int dev_fd, u64 features);
/* Agree on features; ret_api may be NULL.  A descriptor can do this once. */
int uffd_api(int fd, u64 features, struct uffdio_api *ret_api);

int uffd_open(struct pager *p, u32 nr_queues, int dev_fd);
/* Forget the descriptors; they may be a parent process's. */
void uffd_close(struct pager *p);
/* Close what uffd_open() opened; dev_fd is the caller's. */
void uffd_close_all(struct pager *p, int dev_fd);

/* mode: UFFDIO_REGISTER_MODE_... */
int uffd_register(int fd, u64 addr, u64 len, u64 mode);
/* No transparent huge pages, for a fault must be for one page; no merged ones. */
int uffd_plain_pages(u64 addr, u64 len);
int uffd_add_range(struct pager *p, u32 q, u64 addr, u64 len);
int uffd_remove_range(struct pager *p, u32 q, u64 addr, u64 len);

/*
 * May the caller try again after -EAGAIN?  Counts; gives up the CPU after a
 * few rounds; false after UFFD_TRIES.
 */
bool uffd_try_again(struct pager *p, u32 *tries);

enum uffd_transfer { UFFD_TRANSFER_COPY, UFFD_TRANSFER_MOVE };
/*
 * nr pages from src to dst, which fd has registered: the number done from the
 * front (>= 1), or the error of the first.  mode: ..._MODE_DONTWAKE or 0.
 */
long uffd_transfer(struct pager *p, int fd, enum uffd_transfer kind, u64 dst, u64 src, u32 nr,
		   u64 mode);
/* -EEXIST of a put owes a wake: who waits there was overtaken by the page. */
long uffd_put_result(struct pager *p, u32 q, u64 addr, long res, u32 flags);

long uffd_copy_in(struct pager *p, u32 q, u64 addr, const void *src, u32 nr, u32 flags);
long uffd_zero_in(struct pager *p, u32 q, u64 addr, u32 nr, u32 flags);
/*
 * Managed memory at addr, whole pages or less than one, through mem_fd: bytes read from
 * the front (> 0), or the error.  Neither a fault of ours nor a wait: what is missing is
 * -ENOENT.
 */
long uffd_read_mem(struct pager *p, u64 addr, void *to, u64 bytes);
/* The page at addr into an empty frame: > 0, or the error. */
long uffd_read_page(struct pager *p, u64 addr, void *frame);
/* mode: UFFDIO_WRITEPROTECT_MODE_WP, which wakes nobody; 0, which wakes the stores that
 * wait; or ..._DONTWAKE. */
int uffd_protect(struct pager *p, u32 q, u64 addr, u32 nr, u64 mode);
/* Best effort: what cannot be made writable has just left our descriptor. */
void uffd_unprotect(struct pager *p, u32 q, u64 addr, u32 nr);
int uffd_unprotect_one(struct pager *p, u32 q, u64 addr, u32 flags);
/* uffd_protected.c; needs mem_fd */
void uffd_open_protected(struct pager *p);
long uffd_take_protected(struct pager *p, const struct pager_page *pages, u32 nr);
int uffd_wake(struct pager *p, u32 q, u64 addr, u64 len);
int uffd_poison(struct pager *p, u32 q, u64 addr);
int uffd_drop(struct pager *p, u64 addr, u64 len);
int uffd_drop_frames(struct pager *p, void *frame, u64 len);
/* uffd_signal.c: something was put into [addr, addr + len), or who waits there goes on. */
void uffd_signal_woken(struct pager *p, u64 addr, u64 len);
int uffd_signal_faults(struct pager *p, struct fault_msg *msgs, u32 nr, u64 timeout_ns);
/* A call by a thread that may have lost the descriptor: its result, or -EAGAIN. */
long uffd_signal_checked(struct pager *p, long res);
int uffd_faults(struct pager *p, u32 q, struct fault_msg *msgs, u32 nr, u64 spin_ns,
		u64 timeout_ns);

/* True if the PAGEMAP_SCAN ioctl works on this /proc/self/pagemap. */
bool uffd_scan_works(int pagemap_fd);
int uffd_scan(struct pager *p, u64 addr, u64 len, void (*fn)(void *ctx, u64 addr, u64 nr_pages),
	      void *ctx);
bool uffd_guarded(struct pager *p, u64 addr);

#endif
