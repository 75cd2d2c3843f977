/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc.c - malloc's family on jemalloc, with the program's blocks in managed
 * memory and the allocator's own books outside.
 *
 * Arena 0 is jemalloc's and stays unmanaged: what was allocated before the
 * constructor, tcache stacks, internal memory.  Managed arenas are made with hooks
 * and metadata_use_hooks=false; a thread is bound to one at its first allocation,
 * which also keeps its large blocks out of jemalloc's "huge" arena (findings 10).
 *
 * Under pressure the engine sets a word; the next call here purges the managed
 * arenas' unused dirty pages on the caller's thread, since an engine thread has none
 * of libc's thread state.
 *
 * With --malloc=none everything goes to libc's own allocator, from the first block
 * on: the loader and other libraries allocate before our constructor has read the
 * settings, and a block must go back where it came from.
 */
#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <qje.h>
#include <stdlib.h>
#include <string.h>

#include "api/heap_hooks.h"
#include "base/os.h"

/*
 * One automatic arena, which is arena 0.  A tenth of jemalloc's usual decay: dirty
 * pages of a group that is short are reclaim's first victims anyway.  abort_conf is
 * off: this string is ours, the program's MALLOC_CONF is not read.  realloc(p, 0)
 * frees, as glibc's does.
 */
const char *qje_malloc_conf = "narenas:1,percpu_arena:disabled,background_thread:false,"
			      "metadata_thp:disabled,thp:never,dirty_decay_ms:1000,"
			      "muzzy_decay_ms:0,retain:true,zero_realloc:free";

#define ARENAS_MAX 4u

/* libc's own, for --malloc=none. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t nr, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);

enum arena_state { ARENA_NONE, ARENA_MAKING, ARENA_READY };

/* Made with the first allocation of the thread whose turn it is: an arena costs 25 page
 * faults, jemalloc itself 60, many a program allocates nothing and most have one thread. */
static struct {
	struct heap_hooks hooks[ARENAS_MAX];
	unsigned int arena[ARENAS_MAX];
	struct atomic32 state[ARENAS_MAX]; /* enum arena_state */
	u32 nr; /* most arenas; 0: not yet, everything comes from arena 0 */
	struct atomic32 next; /* arena of the next thread */
	struct atomic32 *purge;
} heap;

/* 0 not bound, 1 being bound, 2 bound. */
static __thread char bound __attribute__((tls_model("initial-exec")));

static bool make_arena(u32 i)
{
	heap_hooks_init(&heap.hooks[i], preload.e, (struct memcg_id){ 0 });
	if (heap_arena_create(&heap.hooks[i], &heap.arena[i])) {
		atomic32_store(&heap.state[i], ARENA_NONE);
		return false;
	}
	atomic32_store(&heap.state[i], ARENA_READY);
	return true;
}

void malloc_start(void)
{
	heap.purge = engine_purge_word(preload.e);
	heap.nr = min_of(os_nr_cpus(), ARENAS_MAX);
}

static bool have_arena(u32 i)
{
	return atomic32_load(&heap.state[i]) == ARENA_READY ||
	       (atomic32_cas(&heap.state[i], ARENA_NONE, ARENA_MAKING) && make_arena(i));
}

/* The arena of the next thread; the first one while its own is not there. */
static u32 next_arena(void)
{
	u32 i = atomic32_fetch_add(&heap.next, 1) % heap.nr;

	if (have_arena(i))
		return i;
	while (!have_arena(0)) {
		if (atomic32_load(&heap.state[0]) == ARENA_NONE)
			os_abort("quire: jemalloc cannot make a managed arena\n");
		os_sched_yield();
	}
	return 0;
}

static void bind_thread(void)
{
	bound = 1; /* what follows may allocate */
	/* No block of arena 0 is handed out from the thread's cache afterwards. */
	qje_thread_arena(heap.arena[next_arena()]);
	bound = 2;
}

static void purge_all(void)
{
	char state = bound;

	/* Once for everybody who saw it set, and not from inside jemalloc. */
	if (state != 2 || !atomic32_xchg(heap.purge, 0))
		return;
	bound = 1;
	for (u32 i = 0; i < heap.nr; i++)
		if (atomic32_load(&heap.state[i]) == ARENA_READY)
			heap_arena_purge(heap.arena[i]);
	bound = state;
}

static inline void before(void)
{
	if (likely(bound == 2)) {
		if (unlikely(atomic32_peek(heap.purge)))
			purge_all();
	} else if (heap.nr && !bound) {
		bind_thread();
	}
}

/*
 * Freeing binds nobody: libc frees when a thread's keys are destroyed already, and a
 * cache made then would stay in its arena's list when the thread is gone.
 */
static inline void before_free(void)
{
	if (likely(bound == 2))
		before();
}

/* ---- whose allocator ----------------------------------------------------------------- */

enum owner { OWNER_UNKNOWN, OWNER_JEMALLOC, OWNER_LIBC };

/* (A) settled at the first call, by whoever comes first; every caller finds the same. */
static struct atomic32 owner;

/* The loader's: where the kernel put argc.  environ does not exist this early. */
extern void *__libc_stack_end;

/* Does QUIRE_RUN (init.c) say malloc=none?  Its values hold no ';' and no '='. */
static bool says_none(const char *run)
{
	static const char none[] = "malloc=none";

	while (*run) {
		size_t n = 0;

		while (run[n] && run[n] != ';')
			n++;
		if (n == sizeof(none) - 1 && !memcmp(run, none, n))
			return true;
		run += n + (run[n] == ';');
	}
	return false;
}

static enum owner settle_owner(void)
{
	long *argc = __libc_stack_end;
	const char *run = os_env((char **)(argc + 1) + *argc + 1, "QUIRE_RUN");
	enum owner who = run && says_none(run) ? OWNER_LIBC : OWNER_JEMALLOC;

	atomic32_store(&owner, who);
	return who;
}

static inline bool use_libc(void)
{
	enum owner who = (enum owner)atomic32_peek(&owner);

	if (unlikely(who == OWNER_UNKNOWN))
		who = settle_owner();
	return unlikely(who == OWNER_LIBC);
}

EXPORT void *malloc(size_t size)
{
	if (use_libc())
		return __libc_malloc(size);
	before();
	return qje_malloc(size);
}

EXPORT void *calloc(size_t nr, size_t size)
{
	if (use_libc())
		return __libc_calloc(nr, size);
	before();
	return qje_calloc(nr, size);
}

EXPORT void *realloc(void *p, size_t size)
{
	void *grown;

	if (use_libc())
		return __libc_realloc(p, size);
	before();
	grown = qje_realloc(p, size);
	/* jemalloc leaves it as it was when there is a block already. */
	if (unlikely(!grown && size))
		errno = ENOMEM;
	return grown;
}

EXPORT void free(void *p)
{
	if (use_libc()) {
		__libc_free(p);
		return;
	}
	before_free();
	qje_free(p);
}

static bool bad_alignment(size_t align)
{
	return !align || (align & (align - 1));
}

/* As glibc's: what is no power of two is rounded up to one. */
EXPORT void *memalign(size_t align, size_t size)
{
	size_t power = 16;

	if (use_libc())
		return __libc_memalign(align, size);
	if (align > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	while (power < align)
		power <<= 1;
	align = power;
	before();
	return qje_aligned_alloc(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}

EXPORT int posix_memalign(void **ret, size_t align, size_t size)
{
	void *p;
	int saved = errno;

	if (bad_alignment(align) || align % sizeof(void *))
		return EINVAL;
	p = memalign(align, size);
	errno = saved;
	if (!p)
		return ENOMEM;
	*ret = p;
	return 0;
}

EXPORT void *valloc(size_t size)
{
	return memalign(PAGE_SIZE, size);
}

EXPORT void *pvalloc(size_t size)
{
	size_t rounded = align_up(size, PAGE_SIZE);

	if (rounded < size) {
		errno = ENOMEM;
		return NULL;
	}
	return memalign(PAGE_SIZE, rounded);
}

EXPORT void *reallocarray(void *p, size_t nr, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nr, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

EXPORT size_t malloc_usable_size(void *p)
{
	size_t (*libc_usable)(void *);

	if (!use_libc())
		return qje_malloc_usable_size(p);
	*(void **)&libc_usable = dlsym(RTLD_NEXT, "malloc_usable_size");
	return libc_usable ? libc_usable(p) : 0;
}

EXPORT int malloc_trim(size_t pad)
{
	(void)pad;
	if (use_libc() || !heap.nr)
		return 0;
	for (u32 i = 0; i < heap.nr; i++)
		if (atomic32_load(&heap.state[i]) == ARENA_READY)
			heap_arena_purge(heap.arena[i]);
	return 1;
}

/* ---- jemalloc's own API, as Debian's programs import it (redis-server) -------------- */

int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len);
int mallctlnametomib(const char *name, size_t *mib, size_t *len);
int mallctlbymib(const size_t *mib, size_t miblen, void *old, size_t *old_len, void *new,
		 size_t new_len);
void *mallocx(size_t size, int flags);
void *rallocx(void *p, size_t size, int flags);
size_t xallocx(void *p, size_t size, size_t extra, int flags);
size_t sallocx(const void *p, int flags);
void dallocx(void *p, int flags);
void sdallocx(void *p, size_t size, int flags);
size_t nallocx(size_t size, int flags);
void malloc_stats_print(void (*write_cb)(void *, const char *), void *arg, const char *opts);

EXPORT int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
{
	return qje_mallctl(name, old, old_len, new, new_len);
}

EXPORT int mallctlnametomib(const char *name, size_t *mib, size_t *len)
{
	return qje_mallctlnametomib(name, mib, len);
}

EXPORT int mallctlbymib(const size_t *mib, size_t miblen, void *old, size_t *old_len, void *new,
			size_t new_len)
{
	return qje_mallctlbymib(mib, miblen, old, old_len, new, new_len);
}

EXPORT void *mallocx(size_t size, int flags)
{
	before();
	return qje_mallocx(size, flags);
}

EXPORT void *rallocx(void *p, size_t size, int flags)
{
	before();
	return qje_rallocx(p, size, flags);
}

EXPORT size_t xallocx(void *p, size_t size, size_t extra, int flags)
{
	before();
	return qje_xallocx(p, size, extra, flags);
}

EXPORT size_t sallocx(const void *p, int flags)
{
	return qje_sallocx(p, flags);
}

EXPORT void dallocx(void *p, int flags)
{
	before_free();
	qje_dallocx(p, flags);
}

EXPORT void sdallocx(void *p, size_t size, int flags)
{
	before_free();
	qje_sdallocx(p, size, flags);
}

EXPORT size_t nallocx(size_t size, int flags)
{
	return qje_nallocx(size, flags);
}

EXPORT void malloc_stats_print(void (*write_cb)(void *, const char *), void *arg, const char *opts)
{
	qje_malloc_stats_print(write_cb, arg, opts);
}

/* ---- fork ----------------------------------------------------------------------------- */

/* jemalloc has its locks: started here, where nobody has yet. */
static bool has_locks(void)
{
	return heap.nr && qje_nallocx(1, 0);
}

void malloc_fork_prepare(void)
{
	if (has_locks())
		qje_prefork();
}

void malloc_fork_parent(void)
{
	if (has_locks())
		qje_postfork_parent();
}

void malloc_fork_child(void)
{
	if (!has_locks())
		return;
	qje_postfork_child();
	/* Whoever made one is not here. */
	for (u32 i = 0; i < heap.nr; i++)
		(void)atomic32_cas(&heap.state[i], ARENA_MAKING, ARENA_NONE);
}

void malloc_forget_engine(void)
{
	for (u32 i = 0; i < ARENAS_MAX; i++)
		heap.hooks[i].e = NULL;
}
