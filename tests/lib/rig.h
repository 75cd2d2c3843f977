/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h - an engine on the fake pager and the fake store: everything below the
 * front door, with no thread and no descriptor.
 *
 * For unit tests of page/ lru/ swap/ reclaim/ fault/ and for tests/race.  The
 * test plays the threads: each call names the task it runs as.  The rig knows
 * what every page must hold; rig_check() compares everything that is counted
 * with what is there.  Failures are assertions (quire_assert()).
 *
 * Managed memory is RIG_PAGES pages from fake_addr(0) on, charged to group
 * /p/c; /p and /p/d are there too.
 */
#ifndef QUIRE_TESTS_RIG_H
#define QUIRE_TESTS_RIG_H

#include "engine/internal.h"
#include "fake_store.h"
#include "pager/fake.h"

#define RIG_PAGES FAKE_PAGES
#define RIG_TASKS 4u
#define RIG_QUEUES 2u /* the first half of the pages belongs to the first */
#define RIG_QUEUE_PAGES (RIG_PAGES / RIG_QUEUES)

/* What a page holds. */
enum rig_fill {
	RIG_ABSENT, /* nothing: a touch is zeros */
	RIG_ZERO, /* zeros, but there */
	RIG_FILLED, /* one word */
	RIG_TEXT, /* compresses 2:1 */
	RIG_NOISE, /* does not compress */
};

struct rig_content {
	enum rig_fill fill;
	u32 seed;
};

struct rig {
	struct engine *e;
	struct memcg_id p, c, d;
	struct objcg_id objcg; /* of c */
	struct task task[RIG_TASKS];
	struct task io; /* thread of the store */
	u8 *buf; /* work memory of the tasks */
	struct fake_store store;
	struct rig_content want[RIG_PAGES];
	u64 foreign_memory, foreign_swap; /* what other members have charged below /p */
};

/* flags of the engine; store: with the fake store behind the pool. */
struct rig *rig_create(u32 flags, bool store);
void rig_destroy(struct rig *r);
/* Another owner from page `first` on (before anything is there). */
void rig_assign(struct rig *r, u32 first, u32 nr, struct objcg_id o);

/* REGION_RANDOM (as it is made: neighbours stay where they are), REGION_SEQUENTIAL or 0. */
void rig_advise(struct rig *r, u16 flag);

/* From here on pages that come back are part of a scan longer than memory. */
void rig_stream(struct rig *r);

/* ---- what threads do; t: number of the task ------------------------------- */

/* One fault, as a fault thread. */
enum fault_result rig_fault(struct rig *r, u32 t, u32 page);
/* flags: enum fault_flags. */
enum fault_result rig_fault_with(struct rig *r, u32 t, u32 page, u32 flags);
/* The program reads / writes a page, faulting until it is there (I/O included). */
void rig_read(struct rig *r, u32 t, u32 page);
void rig_write(struct rig *r, u32 t, u32 page, enum rig_fill fill, u32 seed);
/* A page that is there, in the program's hands up to fake_let_go(); NULL: it is not. */
u8 *rig_hold(struct rig *r, u32 page, bool write);
/* Stage one and two on up to nr pages of c; pages moved. */
u32 rig_unmap(struct rig *r, u32 t, u32 nr);
u32 rig_pageout(struct rig *r, u32 t, u32 nr);
long rig_writeback(struct rig *r, u32 t, u32 nr);
/* All that lies in the pool of /p/c is cold; then objects that were tried. */
void rig_make_cold(struct rig *r);
u32 rig_repack(struct rig *r, u32 nr);
/* madvise(MADV_DONTNEED) as the request thread does it. */
void rig_zap(struct rig *r, u32 t, u32 page, u32 nr);
/* What the pages hold is of no account: the program has given them up. */
void rig_forget(struct rig *r, u32 page, u32 nr);
/* Give back what a task has bought ahead. */
void rig_drain(struct rig *r, u32 t);
void rig_drain_task(struct rig *r, struct task *t);
/* The engine's own: fault threads, and one that completes reads. */
void rig_start_threads(struct rig *r);
void rig_stop_threads(struct rig *r);
/* Pages [first, first + nr) are written and brought to a state, by task 0; to the
 * store only where their group has nothing older in the pool. */
enum rig_state { RIG_MAPPED, RIG_FRAME, RIG_POOL, RIG_STORE };
void rig_make(struct rig *r, u32 first, u32 nr, enum rig_fill fill, enum rig_state state);

/* ---- looking ---------------------------------------------------------------- */

struct pte *rig_pte(struct rig *r, u32 page);
/* RIG_MAPPED .. RIG_STORE of a page that is there (pool: one word too). */
enum rig_state rig_state(struct rig *r, u32 page);
void rig_content(u8 *page, enum rig_fill fill, u32 seed);
u64 rig_stat(struct rig *r, enum memcg_stat item); /* of /p and below */
/*
 * At rest: every byte is what it must be (I1); pages, frames, slots, objects,
 * charges and gauges agree with the ptes (I2, I6); every page is on the list
 * its group of now says (K1); no lock is held and nobody waits.
 */
void rig_check(struct rig *r);

#endif
