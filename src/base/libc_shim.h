/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libc_shim.h - what the linked-in archives get in place of libc.
 *
 * dev/lib/partial-link renames the libc names of dev/lib/libc-names in liblz4,
 * liburing and jemalloc to these.  Signatures and the errno convention are
 * libc's (-1 and errno), because the callers are compiled for it.  Nothing of
 * quire calls them; this header exists for the test.
 */
#ifndef QUIRE_BASE_LIBC_SHIM_H
#define QUIRE_BASE_LIBC_SHIM_H

#include "base/types.h"

#include <sched.h>
#include <sys/types.h>

/* ---- served by raw system calls ---------------------------------------- */
void *quire_libc_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
int quire_libc_munmap(void *addr, size_t len);
int quire_libc_mprotect(void *addr, size_t len, int prot);
int quire_libc_madvise(void *addr, size_t len, int advice);
int quire_libc_open(const char *path, int flags, ...); /* no O_CREAT */
ssize_t quire_libc_read(int fd, void *buf, size_t len);
ssize_t quire_libc_write(int fd, const void *buf, size_t len);
int quire_libc_close(int fd);
int quire_libc_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *ret_set);
int quire_libc_sched_getcpu(void);
int quire_libc_sched_yield(void);
pid_t quire_libc_getpid(void);

/* ---- answered without asking anybody ------------------------------------ */
long quire_libc_sysconf(int name); /* the page size, -1 for the rest */
char *quire_libc_secure_getenv(const char *name); /* NULL */
ssize_t quire_libc_readlink(const char *path, char *buf, size_t size); /* -1, ENOENT */
int quire_libc_atexit(void (*fn)(void)); /* -1 */
char *quire_libc_strerror_r(int error, char *buf, size_t size); /* "errno 12" */

/* ---- never called: abort with a message --------------------------------- */
_Noreturn void quire_libc_abort(void);
_Noreturn int quire_libc_creat(const char *path, mode_t mode);
_Noreturn void *quire_libc_malloc(size_t size);
_Noreturn void *quire_libc_calloc(size_t nr, size_t size);
_Noreturn void quire_libc_free(void *p);

#endif
