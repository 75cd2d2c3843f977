/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - src/api's host when it lives in the preload.
 *
 * A program linked with libquire runs these copies of quire_* under quire run, so
 * that there is one engine; one that dlopens libquire finds it by
 * quire_preload_engine().
 */
#include "preload.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "api/host.h"
#include "base/os.h"
#include "quire/common.h"

/* libc's own two signals stay open: setuid(2) of the program waits for them. */
#define LIBC_SIGNALS (((u64)1 << 31) | ((u64)1 << 32))

struct start {
	void (*fn)(void *arg);
	void *arg;
	struct atomic32 taken;
};

EXPORT struct engine *quire_preload_engine(const char *version);

/* NULL for another build's library: its structures differ. */
struct engine *quire_preload_engine(const char *version)
{
	return strcmp(version, QUIRE_VERSION) ? NULL : preload.e;
}

struct engine *host_engine(void)
{
	return preload.e;
}

bool host_is_preload(void)
{
	return true;
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

/* fork.c takes care of the engine and the allocator. */
int host_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	return -pthread_atfork(prepare, parent, child);
}

char *const *host_environ(void)
{
	return environ;
}
