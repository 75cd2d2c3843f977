/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat.h - the files of a group: limits, settings, figures.
 *
 * Every group has the files of the kernel's memory controller, with the same
 * names, syntax and meaning ("memory.max", "memory.stat", "memory.swap.events";
 * cgroup-v2: "Memory Interface Files").  quire(7) lists them with what differs.
 * The hot figures also have functions of their own.
 *
 * Byte values: a number with an optional suffix K M G T P E (powers of 1024) or
 * "max"; rounded down to pages.  An empty text is -EINVAL, not 0.
 */
#ifndef QUIRE_STAT_H
#define QUIRE_STAT_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * quire_read - the text of a file, with its final newline.
 *
 * buf gets at most size - 1 bytes and a terminating zero; *ret_len (may be
 * NULL) the length of the whole text, which may be more.  64 KiB hold any file.
 * 0, or -ENOENT (no such file), -EACCES (write only), -ENODEV.
 */
int QUIRE_MUST_CHECK quire_read(struct quire_group *group, const char *file, char *buf, size_t size,
				size_t *ret_len);

/*
 * quire_to_text - what the library does in this process, for people.
 *
 * Lines of "part: name figure ..." about the pager, faults and how long they took, reclaim,
 * compressed memory, the swap file and the lists of each group: a count of every slow
 * and every refused path.  Neither names nor order are promised.  buf, size and ret_len
 * as for quire_read(); what is beyond 16 KiB (many groups) is left out.  A thread of
 * the library writes it: waits for that.
 * 0, or -EINVAL.
 */
int QUIRE_MUST_CHECK quire_to_text(struct quire *q, char *buf, size_t size, size_t *ret_len);

/*
 * quire_write - write text to a file, as one write(2) would.
 *
 * Lowering memory.max or memory.high, and memory.reclaim, reclaim before they
 * return: may wait.
 * 0, or -ENOENT, -EACCES (read only), -EINVAL (the text), -ERANGE, -EAGAIN
 * (memory.reclaim: less than asked for was found), -ENODEV.
 */
int QUIRE_MUST_CHECK quire_write(struct quire_group *group, const char *file, const char *text);

/*
 * quire_read_u64, quire_write_u64 - files that hold one number.
 *
 * QUIRE_MAX is "max".  Errors as above; quire_read_u64() also -EINVAL: the
 * file holds something else.
 */
int QUIRE_MUST_CHECK quire_read_u64(struct quire_group *group, const char *file,
				    uint64_t *ret_value);
int QUIRE_MUST_CHECK quire_write_u64(struct quire_group *group, const char *file, uint64_t value);

/*
 * quire_read_key - one value of a file of "key value" lines.
 *
 * quire_read_key(g, "memory.stat", "pgmajfault", &n).  -ENOENT: no such file or
 * no such key.  For several keys read the file once instead.
 */
int QUIRE_MUST_CHECK quire_read_key(struct quire_group *group, const char *file, const char *key,
				    uint64_t *ret_value);

/* ---- hot figures: no wait, a few loads each; 0 for a removed group ------- */

/* Bytes charged to the group and all below it (cgroup-v2: memory.current). */
uint64_t quire_current(struct quire_group *group);
/* The most there has been (memory.peak). */
uint64_t quire_peak(struct quire_group *group);
/* The limit of this very group (memory.max); QUIRE_MAX: none. */
uint64_t quire_limit(struct quire_group *group);
/* Bytes that could still be charged here: least over the groups above. */
uint64_t quire_margin(struct quire_group *group);
/* Bytes that are out, before compression (memory.swap.current). */
uint64_t quire_swap_current(struct quire_group *group);
uint64_t quire_swap_peak(struct quire_group *group);
/* Compressed bytes held in memory (memory.zswap.current). */
uint64_t quire_zswap_current(struct quire_group *group);

/* ---- which files there are ------------------------------------------------ */

struct quire_file_info {
	size_t size; /* sizeof(struct quire_file_info) */
	const char *name; /* "memory.max" */
	const char *clause; /* where its meaning is defined */
	int readable;
	int writable;
};

/*
 * quire_file - the n-th file of a group, in the order of a listing.
 *
 * 0, -ENOENT past the end, -EINVAL (size).  Needs no tree.  Signal safe.
 */
int QUIRE_MUST_CHECK quire_file(unsigned int n, struct quire_file_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
