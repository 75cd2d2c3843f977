/* SPDX-License-Identifier: Apache-2.0 */
/*
 * types.h - the few words every file of quire uses.
 *
 * "page" is the unit quire pages: 4 KiB, one OS page on the machines quire
 * supports.  Ids are one-member structs so that they cannot be mixed up.
 */
#ifndef QUIRE_BASE_TYPES_H
#define QUIRE_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define PAGE_SHIFT 12
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define NSEC_PER_USEC 1000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC 1000000000ull

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define min_of(a, b) ((a) < (b) ? (a) : (b))
#define max_of(a, b) ((a) > (b) ? (a) : (b))
#define align_up(x, a) (((x) + (a)-1) & ~((__typeof__(x))(a)-1))
#define align_down(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#ifndef static_assert
#define static_assert _Static_assert
#endif
#define QUIRE_MUST_CHECK __attribute__((warn_unused_result))
#define QUIRE_PRINTF_LIKE(a, b) __attribute__((format(printf, a, b)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Page descriptor, swap slot and charge handle names; 0 is "none" in each. */
struct page_id {
	u32 v;
};
struct slot_id {
	u32 v;
};
struct objcg_id {
	u32 v;
};
struct memcg_id {
	u32 v;
};

#endif
