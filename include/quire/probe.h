/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - what works on this machine, without opening anything for long.
 *
 * For `quire doctor`, `quire run`, and programs that want to decide before
 * they depend on paging.
 */
#ifndef QUIRE_PROBE_H
#define QUIRE_PROBE_H

#include <quire/common.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quire_probe {
	size_t size; /* sizeof(struct quire_probe) */
	char pager[16]; /* what quire_open() would use; "" none */
	int sees_pins; /* pager: direct I/O into managed memory is safe */
	/* userfaultfd(2); 1 or 0 */
	int dev_node; /* /dev/userfaultfd can be opened */
	int dev_errno; /* why not */
	int syscall_ok; /* the system call is permitted */
	int syscall_errno; /* why not */
	int user_mode_only; /* permitted for user-mode faults only: not enough */
	int move; /* UFFDIO_MOVE, kernel 6.8 */
	int poison; /* UFFDIO_POISON, kernel 6.6 */
	int write_protect; /* for memory without UFFDIO_MOVE, kernel 5.7 */
	int pagemap_scan; /* PAGEMAP_SCAN, kernel 6.7 */
	uint64_t features; /* as UFFDIO_API returned them */
};

/*
 * quire_probe - fill *ret_probe.
 *
 * pager: as in struct quire_options, NULL for the best.  ret_probe->size must
 * be set.  The struct is filled on errors too.
 * 0: paging works.  -EPERM, -ENOSYS: no; quire_why() says what is missing and
 * which command enables it.  -EINVAL: no such pager, or size.
 */
int QUIRE_MUST_CHECK quire_probe(const char *pager, struct quire_probe *ret_probe);

enum quire_check_dir_flags { QUIRE_CHECK_TMPFS = 1 /* accept memory, for tests */ };

/*
 * quire_check_swap_dir - would this directory do for the swap file?
 *
 * *ret_free (may be NULL): bytes free there.  Leaves nothing behind.
 * 0, or -ENOENT, -ENOTDIR, -EACCES, -EMEDIUMTYPE (tmpfs: it is memory),
 * -ENOSPC (less than 16 MiB free).
 */
int QUIRE_MUST_CHECK quire_check_swap_dir(const char *dir, unsigned int flags, uint64_t *ret_free);

#ifdef __cplusplus
}
#endif

#endif
