/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h - what api/ needs of the process it lives in: the C library's threads
 * and fork handlers, the environment, and the engine of `quire run`.
 *
 * The only way from src/ to libc.  libquire links host.c; the preload, which
 * has its own engine and fork handlers, links its own implementation.
 */
#ifndef QUIRE_API_HOST_H
#define QUIRE_API_HOST_H

#include "base/types.h"

struct engine;

/*
 * The engine of the preload in this process, NULL without one.  The preload
 * exports it as quire_preload_engine(build), for programs that dlopen(3)
 * libquire; linked programs run the preload's own quire_*.
 */
struct engine *host_engine(void);
/* This copy of api/ is the preload's: it forks the engine and the allocator. */
bool host_is_preload(void);
/*
 * Run fn(arg) on a detached pthread with every signal blocked that a program
 * may block.  -ENOSYS: no pthread_create in this program, -EAGAIN.
 */
int QUIRE_MUST_CHECK host_thread_start(void (*fn)(void *arg), void *arg);
/* pthread_atfork(3): 0, -ENOMEM, -ENOSYS. */
int QUIRE_MUST_CHECK host_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
char *const *host_environ(void);

#endif
