/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - libquire's host.h: the C library, resolved weakly.
 *
 * Owns the only references of libquire to libc functions that are not
 * memcpy-like.  They are called on application threads, with no lock held.
 * Not part of the preload.
 *
 * See also: api/open.c, preload/ (its own host functions).
 */
#include "api/host.h"

#include <errno.h>
#include <pthread.h>
#include <qje.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sync.h"
#include "quire/common.h"

/* Weak, so that a program without them still loads. */
extern int pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
	__attribute__((weak));
extern int pthread_detach(pthread_t) __attribute__((weak));
extern char **environ __attribute__((weak));
/* Exported by libquire-preload.so; bound at load, also by dlopen(3). */
extern struct engine *quire_preload_engine(const char *version) __attribute__((weak));

/*
 * The allocator of heaps: only arenas made on purpose matter, each with caches
 * made on purpose (heap.c); what is free for a second goes back.
 */
const char *qje_malloc_conf = "narenas:1,tcache:false,dirty_decay_ms:1000,muzzy_decay_ms:0";

/* libc's own two signals stay open: setuid(2) of the program waits for them. */
#define LIBC_SIGNALS (((u64)1 << 31) | ((u64)1 << 32))

struct start {
	void (*fn)(void *arg);
	void *arg;
	struct atomic32 taken;
};

struct engine *host_engine(void)
{
	return quire_preload_engine ? quire_preload_engine(QUIRE_VERSION) : NULL;
}

bool host_is_preload(void)
{
	return false;
}

/* The creator waits until its frame was read: no allocation for two words. */
static void *thread_main(void *p)
{
	struct start *start = p;
	void (*fn)(void *arg) = start->fn;
	void *arg = start->arg;

	atomic32_store(&start->taken, 1);
	futex_wake(&start->taken, 1, false);
	fn(arg);
	return NULL;
}

int host_thread_start(void (*fn)(void *arg), void *arg)
{
	struct start start = { .fn = fn, .arg = arg };
	u64 all = ~LIBC_SIGNALS, old;
	pthread_t t;
	int err;

	if (!pthread_create || !pthread_detach)
		return -ENOSYS;
	os_sigprocmask_all(&old);
	os_sigprocmask_set(&all);
	err = pthread_create(&t, NULL, thread_main, &start);
	os_sigprocmask_set(&old);
	if (err)
		return -EAGAIN;
	while (!atomic32_load(&start.taken))
		futex_wait(&start.taken, 0, SYNC_FOREVER, false);
	pthread_detach(t);
	return 0;
}

int host_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	return -pthread_atfork(prepare, parent, child);
}

char *const *host_environ(void)
{
	return &environ ? environ : NULL;
}
