/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_abi.h - the kernel's interface to userfaultfd and PAGEMAP_SCAN.
 *
 * Own definitions: headers of Linux 6.1 lack UFFDIO_MOVE, UFFDIO_POISON and
 * PAGEMAP_SCAN, and what the running kernel knows is found out at run time
 * anyway.  Names and layout are the kernel's, so this header replaces
 * <linux/userfaultfd.h> and excludes it.
 */
#ifndef QUIRE_PAGER_UFFD_ABI_H
#define QUIRE_PAGER_UFFD_ABI_H

#include <linux/ioctl.h>

#include "base/types.h"

#define UFFD_DEV "/dev/userfaultfd"
#define UFFD_API 0xAAull
#define UFFD_USER_MODE_ONLY 1

#define UFFD_FEATURE_PAGEFAULT_FLAG_WP (1ull << 0) /* 5.7 */
#define UFFD_FEATURE_SIGBUS (1ull << 7) /* 4.14 */
#define UFFD_FEATURE_THREAD_ID (1ull << 8) /* 4.14 */
#define UFFD_FEATURE_POISON (1ull << 14) /* 6.6 */
#define UFFD_FEATURE_MOVE (1ull << 16) /* 6.8 */

struct uffdio_api {
	u64 api;
	u64 features;
	u64 ioctls;
};

struct uffdio_range {
	u64 start;
	u64 len;
};

#define UFFDIO_REGISTER_MODE_MISSING (1ull << 0)
#define UFFDIO_REGISTER_MODE_WP (1ull << 1)

struct uffdio_register {
	struct uffdio_range range;
	u64 mode;
	u64 ioctls;
};

#define UFFDIO_COPY_MODE_DONTWAKE (1ull << 0)
#define UFFDIO_COPY_MODE_WP (1ull << 1)

struct uffdio_copy {
	u64 dst;
	u64 src;
	u64 len;
	u64 mode;
	s64 copy; /* bytes done, or -errno */
};

#define UFFDIO_WRITEPROTECT_MODE_WP (1ull << 0)
#define UFFDIO_WRITEPROTECT_MODE_DONTWAKE (1ull << 1)

struct uffdio_writeprotect {
	struct uffdio_range range;
	u64 mode;
};

#define UFFDIO_POISON_MODE_DONTWAKE (1ull << 0)

struct uffdio_poison {
	struct uffdio_range range;
	u64 mode;
	s64 updated; /* bytes done, or -errno */
};

#define UFFDIO_MOVE_MODE_DONTWAKE (1ull << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES (1ull << 1)

/* Same shape as struct uffdio_copy: uffd.c has one loop for both. */
struct uffdio_move {
	u64 dst;
	u64 src;
	u64 len;
	u64 mode;
	s64 move; /* bytes done, or -errno */
};

#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#define UFFDIO_API _IOWR(0xAA, 0x3F, struct uffdio_api)
#define UFFDIO_REGISTER _IOWR(0xAA, 0x00, struct uffdio_register)
#define UFFDIO_UNREGISTER _IOR(0xAA, 0x01, struct uffdio_range)
#define UFFDIO_WAKE _IOR(0xAA, 0x02, struct uffdio_range)
#define UFFDIO_COPY _IOWR(0xAA, 0x03, struct uffdio_copy)
#define UFFDIO_MOVE _IOWR(0xAA, 0x05, struct uffdio_move)
#define UFFDIO_WRITEPROTECT _IOWR(0xAA, 0x06, struct uffdio_writeprotect)
#define UFFDIO_POISON _IOWR(0xAA, 0x08, struct uffdio_poison)

#define UFFD_EVENT_PAGEFAULT 0x12
#define UFFD_PAGEFAULT_FLAG_WRITE (1ull << 0)
#define UFFD_PAGEFAULT_FLAG_WP (1ull << 1)

struct uffd_msg {
	u8 event;
	u8 reserved1;
	u16 reserved2;
	u32 reserved3;
	/* of UFFD_EVENT_PAGEFAULT, the only event asked for */
	u64 flags;
	u64 address;
	u32 ptid;
	u32 reserved4;
};

/* ---- PAGEMAP_SCAN, 6.7 -------------------------------------------------- */

#define PAGE_IS_PRESENT (1ull << 3) /* the shared zero page too */
#define PAGE_IS_SWAPPED (1ull << 4) /* any entry that is neither none nor present */
#define PAGE_IS_PFNZERO (1ull << 5)
#define PAGE_IS_GUARD (1ull << 8) /* 6.15 */

struct page_region {
	u64 start;
	u64 end;
	u64 categories;
};

struct pm_scan_arg {
	u64 size;
	u64 flags;
	u64 start;
	u64 end;
	u64 walk_end;
	u64 vec;
	u64 vec_len;
	u64 max_pages;
	u64 category_inverted;
	u64 category_mask;
	u64 category_anyof_mask;
	u64 return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)

/* Words of /proc/PID/pagemap. */
#define PM_GUARD_REGION (1ull << 58) /* 6.15 */
#define PM_SWAP (1ull << 62)
#define PM_PRESENT (1ull << 63)

/* madvise(2): as MADV_DONTNEED, of locked memory too (5.18). */
#define ABI_MADV_DONTNEED_LOCKED 24

static_assert(sizeof(struct uffdio_api) == 24, "ABI");
static_assert(sizeof(struct uffdio_register) == 32, "ABI");
static_assert(sizeof(struct uffdio_copy) == 40, "ABI");
static_assert(sizeof(struct uffdio_writeprotect) == 24, "ABI");
static_assert(sizeof(struct uffdio_poison) == 32, "ABI");
static_assert(sizeof(struct uffdio_move) == sizeof(struct uffdio_copy), "one loop for both");
static_assert(offsetof(struct uffdio_move, move) == offsetof(struct uffdio_copy, copy),
	      "one loop for both");
static_assert(UFFDIO_MOVE_MODE_DONTWAKE == UFFDIO_COPY_MODE_DONTWAKE, "one loop for both");
static_assert(sizeof(struct uffd_msg) == 32, "ABI");
static_assert(sizeof(struct page_region) == 24, "ABI");
static_assert(sizeof(struct pm_scan_arg) == 96, "ABI");

#endif
