/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - one engine object: a process's data plane, and its front door.
 *
 * What preload/ and api/ call.  Every function here may be called on an
 * application thread, from a signal handler too: none touches libc, takes a
 * lock that an engine thread needs while it serves faults, or uses memory that
 * could be paged while it waits.  Slow entries copy their arguments to a
 * request in engine memory and sleep on a futex there; an engine thread works.
 *
 * Life: engine_create() makes a *passive* engine: ranges are recorded, nothing
 * is registered, no thread and no descriptor exists.  engine_start() (called
 * by the engine itself once mapped managed memory could exceed the limit, or
 * by the API) starts the threads and adopts every range.  There is no way back
 * but engine_destroy() in tests.
 *
 * fork: engine_fork_prepare/parent/child as pthread_atfork handlers, child
 * first of all handlers.  A child that did not go through them has no managed
 * memory (MADV_DONTFORK).
 */
#ifndef QUIRE_ENGINE_ENGINE_H
#define QUIRE_ENGINE_ENGINE_H

#include "base/fmt.h"
#include "memcg/memcg.h"

struct engine;

enum engine_flags {
	ENGINE_NO_ZSWAP = 1, /* tests: straight to the store */
	ENGINE_NO_STORE = 2, /* tests: compressed pool only */
	ENGINE_LAZY = 4, /* start when a limit could be exceeded (preload) */
	ENGINE_TMPFS_STORE = 8, /* tests */
	ENGINE_COUNT_UNMANAGED = 16, /* charge other anonymous RSS (preload) */
	ENGINE_NEW_IMAGE = 32, /* what this process was before exec(2) is gone (preload) */
	ENGINE_SIGNAL = 64, /* signal mode: engine_fault() serves faults; not with ENGINE_LAZY */
};

struct engine_config {
	u32 flags;
	const char *pager; /* NULL: the best that works */
	int segment_fd; /* -1: private tree; else read now, not kept */
	struct memcg_tree *join; /* tests: be another member of this one instead */
	const char *store_dir; /* NULL: $QUIRE_SWAP_DIR, $XDG_CACHE_HOME/quire, /var/tmp */
	u64 store_max; /* UINT64_MAX: half of the free space */
	u32 nr_fault_threads; /* 0: by cores */
	char *const *envp;
	/* Something the engine cannot survive; must not return.  NULL: one line
	 * on stderr and abort. */
	void (*fatal)(void *ctx, const char *reason);
	void *fatal_ctx;
};

/* 0, -ENOMEM, -EBADMSG (segment), -EINVAL (pager name), -EOPNOTSUPP (signal mode). */
int QUIRE_MUST_CHECK engine_create(const struct engine_config *cfg, struct engine **ret_engine);
/*
 * Threads, descriptors, adoption of every recorded range.  Idempotent.
 * -EPERM/-ENOSYS: no usable userfaultfd (engine_why() has the sentence),
 * -ENOMEM, -ENOENT/-ENOTDIR/-EACCES/-EMEDIUMTYPE/-ENOSPC: the store directory.
 */
int QUIRE_MUST_CHECK engine_start(struct engine *e);
/*
 * Start although no limit is near, store included, if there is a limit at all: the
 * program is about to lose what starting needs.  A failure is told when the start is needed.
 */
void engine_start_early(struct engine *e);
bool engine_running(const struct engine *e);
/* One line: cause and hint of the last refusal. */
const char *engine_why(const struct engine *e);
/* Tests only: everything managed is given up, threads are joined. */
void engine_destroy(struct engine *e);

struct memcg_tree *engine_tree(struct engine *e);
/* Group of memory that the preload manages, and of this member's overhead. */
int QUIRE_MUST_CHECK engine_set_home(struct engine *e, struct memcg_id home);
struct memcg_id engine_home(const struct engine *e);
/* A group of this process alone below its home, which it shares with others: "<pid>". */
int QUIRE_MUST_CHECK engine_own_group(struct engine *e, struct memcg_id *ret_id);

/* ---- address space: what mmap and friends become -------------------------- */

/*
 * Is any byte of the range managed?  No lock, no wait: the test that lets
 * everything else pass to the kernel untouched.
 */
bool engine_manages(const struct engine *e, const void *addr, size_t len);

/*
 * mmap(2) of private anonymous memory into group id, managed.  flags and prot
 * as mmap(2); MAP_FIXED over managed memory replaces it.  Returns 0 and the
 * address, or -errno as mmap(2).
 */
int QUIRE_MUST_CHECK engine_mmap(struct engine *e, struct memcg_id id, void *addr, size_t len,
				 int prot, int flags, void **ret_addr);
/*
 * Bring an existing private anonymous mapping under management (quire_adopt).
 * -EINVAL: not page aligned, -EEXIST: part is managed already, -EBUSY: somebody
 * else's userfaultfd.
 */
int QUIRE_MUST_CHECK engine_adopt(struct engine *e, struct memcg_id id, void *addr, size_t len);
/* munmap(2) of any range with managed parts: forgotten first, then unmapped. */
int QUIRE_MUST_CHECK engine_munmap(struct engine *e, void *addr, size_t len);
/*
 * mremap(2) of a range that is managed, or over one that is (MREMAP_FIXED).  Several
 * mappings at once, where the kernel can: one after the other, up to an error.
 */
int QUIRE_MUST_CHECK engine_mremap(struct engine *e, void *old, size_t old_len, size_t new_len,
				   int flags, void *new_addr, void **ret_addr);
/*
 * The range leaves management with its content: paged in, then forgotten.
 * (PROT_EXEC, MADV_WIPEONFORK.)  -ENOMEM: does not fit
 * in the limit; nothing changed.
 */
int QUIRE_MUST_CHECK engine_release(struct engine *e, void *addr, size_t len);

/* For `advice` and `flags`: the kernel does not hear of parts that are not managed. */
#define ENGINE_MANAGED_ONLY 0x10000

/*
 * madvise(2) by its numbers, for those that mean something for managed memory (see
 * preload/mmap.c); MADV_DONTNEED and its kin: slots, copies and pages go.  The
 * program's own MADV_DONTFORK is remembered.
 */
int QUIRE_MUST_CHECK engine_madvise(struct engine *e, void *addr, size_t len, int advice);
/* Of the managed parts. */
int QUIRE_MUST_CHECK engine_discard(struct engine *e, void *addr, size_t len);
int QUIRE_MUST_CHECK engine_set_dontfork(struct engine *e, void *addr, size_t len, bool dontfork);
/*
 * mlock2(2), munlock(2): does not nest.  -ENOMEM: a hole, or more than the limit of the
 * home group or of one above it can spare (nothing is locked then), or more than could
 * be paged in (that part is not locked).
 */
int QUIRE_MUST_CHECK engine_lock(struct engine *e, void *addr, size_t len, int flags);
int QUIRE_MUST_CHECK engine_unlock(struct engine *e, void *addr, size_t len, int flags);
/* Resident and not reclaimed until unpinned; counts nest.  -ENOMEM over limit.
 * Starts the engine. */
int QUIRE_MUST_CHECK engine_pin(struct engine *e, void *addr, size_t len);
int QUIRE_MUST_CHECK engine_unpin(struct engine *e, void *addr, size_t len);

/*
 * The range, all of it managed, becomes group id's: new pages and those it has, in
 * memory or out.  -ENOENT: part is not managed; -ENODEV: id was removed; -ENOMEM,
 * -ENOSPC (swap.max): no room there, then the first *ret_moved bytes have moved and
 * the rest has not.
 */
int QUIRE_MUST_CHECK engine_assign(struct engine *e, struct memcg_id id, void *addr, size_t len,
				   u64 *ret_moved);
/* All ranges of this process's home group, its overhead, and the process itself. */
int QUIRE_MUST_CHECK engine_assign_all(struct engine *e, struct memcg_id id, u64 *ret_moved);

/*
 * Signal mode, from the handler of SIGBUS with all asynchronous signals blocked: the
 * thread faulted at addr.  mask: signals that it has blocked itself.  True: it goes on,
 * and may fault again; false: not managed, or its bytes are lost.
 */
bool engine_fault(struct engine *e, u64 addr, bool write, bool is_protected, u64 mask);

/* ---- groups ------------------------------------------------------------------ */

int QUIRE_MUST_CHECK engine_group_create(struct engine *e, struct memcg_id parent, const char *name,
					 struct memcg_id *ret_id);
/* What becomes of the regions of a removed group. */
enum engine_remove {
	ENGINE_REMOVE_EMPTY, /* -EBUSY if there are any */
	ENGINE_REMOVE_REPARENT, /* they are the parent's, with all they hold */
	ENGINE_REMOVE_DISCARD, /* unmapped: at once for the program, in slices for us */
};
/* -EBUSY: children, members, or regions are left.  Waits for no memory. */
int QUIRE_MUST_CHECK engine_group_remove(struct engine *e, struct memcg_id id,
					 enum engine_remove how);
/* knob/ behind a request: reclaim may run.  out/text may be managed memory. */
int QUIRE_MUST_CHECK engine_knob_read(struct engine *e, struct memcg_id id, const char *name,
				      char *out, size_t size, size_t *ret_len);
int QUIRE_MUST_CHECK engine_knob_write(struct engine *e, struct memcg_id id, const char *name,
				       const char *text, size_t len);

/* Asked before anything of group id is paged out; returns bytes it released. */
typedef size_t (*engine_shrinker_fn)(void *arg, size_t bytes_wanted);
/* Nothing more can be paged out: return true if memory was released. */
typedef bool (*engine_oom_fn)(void *arg, struct memcg_id id);
/* Both run on a thread of the *application's* making, see engine_callback_loop(). */
int QUIRE_MUST_CHECK engine_set_shrinker(struct engine *e, struct memcg_id id,
					 engine_shrinker_fn fn, void *arg);
int QUIRE_MUST_CHECK engine_set_oom(struct engine *e, struct memcg_id id, engine_oom_fn fn,
				    void *arg);
/* Write 1 to the caller's eventfd whenever an event of `mask` (1 << memcg_event)
 * is counted on id or below. */
int QUIRE_MUST_CHECK engine_add_event(struct engine *e, struct memcg_id id, u32 mask, int eventfd,
				      u32 *ret_watch);
int QUIRE_MUST_CHECK engine_del_event(struct engine *e, u32 watch);
/*
 * Serve callbacks on the calling application thread until engine_callback_stop().
 * They are user code that mallocs, faults and uses TLS, so they cannot run on
 * a thread that libc does not know: the API starts a pthread for this when the
 * first callback is set.
 */
void engine_callback_loop(struct engine *e);
/* For good.  Does not wait: whoever called the loop knows when it has returned, and may
 * destroy the engine then. */
void engine_callback_stop(struct engine *e);

/*
 * malloc's unused dirty pages: non-zero asks the allocator to purge at its next
 * slow path.  The preload reads it with a relaxed load per call and clears it.
 */
struct atomic32 *engine_purge_word(struct engine *e);

/* ---- fork --------------------------------------------------------------------- */

/*
 * What the forking thread must touch before the gates close completely: memory
 * that libc's fork uses in the child before any handler runs (stdio's FILEs).
 * Called on the forking thread; faults are served, nothing leaves.
 */
void engine_set_fork_touch(struct engine *e, void (*fn)(void *ctx), void *ctx);
/*
 * On the thread that is about to call fork(2): -EAGAIN, the program has no descriptor
 * numbers for what the child must get, and it would not live.  Handlers cannot say no.
 */
int QUIRE_MUST_CHECK engine_fork_check(struct engine *e);
/* child_stack: where the child's first stack ends, 0: it goes on on the caller's. */
void engine_fork_prepare(struct engine *e, u64 child_stack);
void engine_fork_parent(struct engine *e);
void engine_fork_child(struct engine *e);
/* After engine_fork_parent(): fork(2) has failed, there is no child. */
void engine_fork_failed(struct engine *e);

/* ---- seeing inside --------------------------------------------------------------- */

/* On an engine thread, or while there are none. */
void engine_to_text(struct engine *e, struct fmt *out);
/* The same for a thread of the program; out may be managed memory. */
int QUIRE_MUST_CHECK engine_read_text(struct engine *e, char *out, size_t size, size_t *ret_len);
/* Tests: do lists, tables, slots and the pool agree?  Aborts where they do not.  Others
 * may go on meanwhile. */
void engine_check(struct engine *e);

#endif
