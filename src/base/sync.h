/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.h - every atomic, lock, futex wait and thread of quire.
 *
 * The only place that touches atomics, futexes or threads.  Production builds
 * compile it to the real thing.  With QUIRE_EXPLORE each operation below is
 * also a scheduling point of the race explorer (tests/race), which runs the
 * very same engine code as coroutines of one OS thread; hence:
 *  - no mutable static data under src/, no __thread outside thread.c;
 *  - spin loops call sync_relax();
 *  - statistics use stat_add(), which is not a scheduling point.
 * With QUIRE_STEPS each is a step at which tests/kill kills or stops the process,
 * those that are no scheduling points too.
 *
 * Who may block: application threads never take a lock of this file once an
 * engine runs (they post a request, see engine/request.h); engine threads do.
 */
#ifndef QUIRE_BASE_SYNC_H
#define QUIRE_BASE_SYNC_H

#include "base/lock_rank.h"
#include "base/types.h"

/* ---- atomics ---------------------------------------------------------- */

struct atomic32 {
	u32 v;
};
struct atomic64 {
	u64 v;
};

#if defined(QUIRE_EXPLORE) || defined(QUIRE_STEPS)
/* A scheduling point: another coroutine may run before the access, or the process ends. */
void sync_point(const void *addr);
#else
static inline void sync_point(const void *addr)
{
	(void)addr;
}
#endif
#ifdef QUIRE_EXPLORE
/* The access after the last point changed something: spinners may look again. */
void sync_changed(void);
#define SYNC_CHANGES(e) ((e) ? sync_changed() : (void)0)
#else
#define SYNC_CHANGES(e) ((void)0)
#endif
/* A store that is no scheduling point. */
static inline void sync_step(const void *addr)
{
#ifdef QUIRE_STEPS
	sync_point(addr);
#else
	(void)addr;
#endif
}

#define SYNC_ATOMIC(bits)                                                                          \
	static inline u##bits atomic##bits##_load(const struct atomic##bits *a)                    \
	{                                                                                          \
		sync_point(a);                                                                     \
		return __atomic_load_n(&a->v, __ATOMIC_ACQUIRE);                                   \
	}                                                                                          \
	static inline u##bits atomic##bits##_peek(const struct atomic##bits *a)                    \
	{                                                                                          \
		return __atomic_load_n(&a->v, __ATOMIC_RELAXED);                                   \
	}                                                                                          \
	static inline void atomic##bits##_store(struct atomic##bits *a, u##bits v)                 \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES(a->v != v);                                                           \
		__atomic_store_n(&a->v, v, __ATOMIC_RELEASE);                                      \
	}                                                                                          \
	static inline void atomic##bits##_poke(struct atomic##bits *a, u##bits v)                  \
	{                                                                                          \
		sync_step(a);                                                                      \
		__atomic_store_n(&a->v, v, __ATOMIC_RELAXED);                                      \
	}                                                                                          \
	static inline u##bits atomic##bits##_xchg(struct atomic##bits *a, u##bits v)               \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES(a->v != v);                                                           \
		return __atomic_exchange_n(&a->v, v, __ATOMIC_SEQ_CST);                            \
	}                                                                                          \
	/* Returns true when *a was old and is now v. */                                           \
	static inline bool atomic##bits##_cas(struct atomic##bits *a, u##bits old, u##bits v)      \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES(a->v == old && old != v);                                             \
		return __atomic_compare_exchange_n(&a->v, &old, v, false, __ATOMIC_SEQ_CST,        \
						   __ATOMIC_ACQUIRE);                              \
	}                                                                                          \
	/* These return the value *before* the operation. */                                       \
	static inline u##bits atomic##bits##_fetch_add(struct atomic##bits *a, u##bits v)          \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES(v != 0);                                                              \
		return __atomic_fetch_add(&a->v, v, __ATOMIC_SEQ_CST);                             \
	}                                                                                          \
	static inline u##bits atomic##bits##_fetch_sub(struct atomic##bits *a, u##bits v)          \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES(v != 0);                                                              \
		return __atomic_fetch_sub(&a->v, v, __ATOMIC_SEQ_CST);                             \
	}                                                                                          \
	static inline u##bits atomic##bits##_fetch_or(struct atomic##bits *a, u##bits v)           \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES((a->v | v) != a->v);                                                  \
		return __atomic_fetch_or(&a->v, v, __ATOMIC_SEQ_CST);                              \
	}                                                                                          \
	static inline u##bits atomic##bits##_fetch_and(struct atomic##bits *a, u##bits v)          \
	{                                                                                          \
		sync_point(a);                                                                     \
		SYNC_CHANGES((a->v & v) != a->v);                                                  \
		return __atomic_fetch_and(&a->v, v, __ATOMIC_SEQ_CST);                             \
	}

SYNC_ATOMIC(32)
SYNC_ATOMIC(64)

/* A statistic: monotone or gauge, read without order, no scheduling point. */
struct counter64 {
	u64 v;
};
static inline void stat_add(struct counter64 *s, u64 n)
{
	sync_step(s);
	__atomic_fetch_add(&s->v, n, __ATOMIC_RELAXED);
}
static inline void stat_sub(struct counter64 *s, u64 n)
{
	sync_step(s);
	__atomic_fetch_sub(&s->v, n, __ATOMIC_RELAXED);
}
static inline void stat_set(struct counter64 *s, u64 n)
{
	sync_step(s);
	__atomic_store_n(&s->v, n, __ATOMIC_RELAXED);
}
static inline bool stat_cas(struct counter64 *s, u64 from, u64 to)
{
	return __atomic_compare_exchange_n(&s->v, &from, to, false, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED);
}
static inline u64 stat_read(const struct counter64 *s)
{
	return __atomic_load_n(&s->v, __ATOMIC_RELAXED);
}

/* Loads before it are done before loads after it: readers of sequence counts. */
static inline void sync_read_barrier(void)
{
#ifdef __SANITIZE_THREAD__
	__asm__ volatile("" ::: "memory"); /* TSan knows no fences; x86 needs none here */
#else
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/*
 * Records that are read without their lock, by readers who look afterwards whether they
 * have changed meanwhile (a sequence count, a state): each aligned word is whole, no more.
 */
typedef u64 __attribute__((may_alias)) sync_word;
static inline u64 sync_read_word(const u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline void sync_read_words(void *to, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(u64); i++)
		((sync_word *)to)[i] = __atomic_load_n((const sync_word *)from + i,
						       __ATOMIC_RELAXED);
}
static inline void sync_zero_words(void *p, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(u64); i++) {
		sync_step((sync_word *)p + i);
		__atomic_store_n((sync_word *)p + i, 0, __ATOMIC_RELAXED);
	}
}
/* They may overlap, as for memmove(). */
void sync_move_words(void *to, const void *from, size_t bytes);

/* Read one byte for the sake of reading it: the page is in memory afterwards. */
static inline void sync_touch(const char *byte)
{
	(void)__atomic_load_n(byte, __ATOMIC_RELAXED);
}

/* Pause of a spin loop; a scheduling point in the explorer. */
void sync_relax(void);

/* ---- futex ------------------------------------------------------------ */

#define SYNC_FOREVER (~0ull)

/*
 * Sleep while *word == val, at most timeout_ns (SYNC_FOREVER: no bound).
 * Returns 0 after a wake-up or when *word differed, -ETIMEDOUT, or -EINTR.
 * Spurious returns happen: callers re-check.  `shared` is for words in a
 * segment that several processes map.
 */
int futex_wait(struct atomic32 *word, u32 val, u64 timeout_ns, bool shared);
/* Wake up to nr sleepers (UINT32_MAX: all). */
void futex_wake(struct atomic32 *word, u32 nr, bool shared);

/* ---- mutex ------------------------------------------------------------ */

/*
 * 0 free, 1 held, 2 held with sleepers.  Ranks are in base/lock_rank.h;
 * debug builds abort on an inversion and print the chain of held locks.
 */
struct mutex {
	struct atomic32 word;
#ifdef QUIRE_DEBUG
	enum lock_rank rank;
	const char *name;
	const void *owner;
#endif
};

void mutex_init(struct mutex *m, const char *name, enum lock_rank rank);
#ifdef QUIRE_DEBUG
/* Instead, where its memory is zero until it is used: whoever wants it calls this first. */
void mutex_init_used(struct mutex *m, const char *name, enum lock_rank rank);
#endif
void mutex_lock(struct mutex *m);
/* A second lock of the same rank; allowed only where lock_rank.h says so. */
void mutex_lock_nested(struct mutex *m);
bool QUIRE_MUST_CHECK mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);
/* Debug builds: abort unless this thread holds m. */
void mutex_assert_held(const struct mutex *m);

/* ---- event: "something happened since I looked" ------------------------ */

/*
 * A counting doorbell.  Waiter: seq = event_seq(); re-check the condition;
 * event_wait(seq).  A signal between the two is not lost.
 */
struct event {
	struct atomic32 seq;
	struct atomic32 nr_waiting;
	struct atomic32 shared; /* it lies in a segment that several processes map */
};
void event_init(struct event *ev);
void event_init_shared(struct event *ev);
u32 event_seq(struct event *ev);
/* 0, or -ETIMEDOUT. */
int event_wait(struct event *ev, u32 seq, u64 timeout_ns);
void event_signal(struct event *ev);

/* ---- gate: many passers, one closer ------------------------------------ */

/*
 * The barrier at which fork, reaping and teardown stop all transfers.
 * gate_enter() blocks while the gate is closed; gate_close() blocks until all
 * who entered have left, and excludes other closers.
 */
struct gate {
	struct atomic32 state; /* bit 31: closed; low bits: passers inside */
	struct atomic32 closer;
};
void gate_init(struct gate *g);
void gate_enter(struct gate *g);
/* Enter once more while inside (for a request that outlives this pass): never
 * blocks, also when a closer is waiting. */
void gate_enter_again(struct gate *g);
bool QUIRE_MUST_CHECK gate_try_enter(struct gate *g);
void gate_leave(struct gate *g);
void gate_close(struct gate *g);
void gate_open(struct gate *g);
/* Closed, and the caller is the only passer left inside. */
bool gate_alone(const struct gate *g);

/* ---- threads ---------------------------------------------------------- */

#define THREAD_MAX_HELD 16

/*
 * What is per thread in the engine.  Embedded in the engine's own thread
 * structs.  `engine` is opaque here (each layer knows its own context).
 */
struct thread {
	const char *name;
	void (*fn)(struct thread *self);
	void *arg;
	void *stack; /* (C) mapping that holds guard page, stack, TLS block */
	size_t stack_size;
	struct atomic32 tid; /* 0 until it runs */
	struct atomic32 exited; /* futex: 1 once fn returned */
	u64 nr_uses; /* statistics of the owner */
	void *failpoints; /* struct failpoints * or NULL, see base/failpoint.h */
	void *priv; /* the owner's per-thread state (stock, caches) */
	const struct mutex *held[THREAD_MAX_HELD]; /* debug builds */
	u32 nr_held;
};

/*
 * Start t->fn(t) on a thread that libc does not know: raw clone(2) on an
 * engine stack with an engine-made TLS block and every signal blocked
 * (design.md section 3; pthread_create only under QUIRE_PTHREADS, i.e. in
 * sanitizer builds, and coroutines under QUIRE_EXPLORE).
 * t must have name, fn, arg set and the rest zero (or as thread_forget() and
 * thread_join() left it).  0 or -errno.  May be called on an engine thread; the
 * new thread shares the caller's table of file descriptors.
 */
int QUIRE_MUST_CHECK thread_start(struct thread *t);
/* Wait until t->fn returned and free its stack.  Tests and teardown only. */
void thread_join(struct thread *t);
/* Make the caller, a test's own thread, a thread of the engine (checked builds). */
void thread_attach(struct thread *t);
void thread_detach(void);
/* The calling engine thread; NULL on an application thread. */
struct thread *thread_self(void);
/*
 * Signal mode: fn(arg) by the calling application thread on a stack that ends at `top`,
 * as t for the checks of checked builds.  For all else it stays no engine thread: its
 * descriptors are the program's.  Asynchronous signals are blocked.
 */
#ifndef QUIRE_EXPLORE
void thread_call_on(struct thread *t, void *top, void (*fn)(void *arg), void *arg);
#else
static inline void thread_call_on(struct thread *t, void *top, void (*fn)(void *arg), void *arg)
{
	(void)t;
	(void)top;
	fn(arg);
}
#endif
/*
 * First act of a forked child: the struct thread of each engine thread
 * describes a thread that does not exist here.  Forget it, keep the stack for
 * the next thread_start(); thread_join() frees it where none follows.
 */
void thread_forget(struct thread *t);

#endif
