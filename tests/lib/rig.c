/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.c - the engine on fakes: making it and playing its threads.
 */
#include "rig.h"

#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/os.h"

#define RIG_FRAMES 512u
#define STREAM 0x9e3779b97f4a7c15ull

static void fatal(void *ctx, const char *reason)
{
	(void)ctx;
	os_abort(reason);
}

static void *rig_map(size_t bytes)
{
	void *p = NULL;
	int err = os_mmap_anon(bytes, PROT_READ | PROT_WRITE, false, &p);

	quire_assert(!err);
	return p;
}

static struct memcg_id make_group(struct rig *r, const char *path)
{
	struct memcg_id id = { 0 };
	int err = memcg_create_path(r->e->tree, path, &id);

	quire_assert(!err);
	return id;
}

struct rig *rig_create(u32 flags, bool store)
{
	struct engine_config cfg = {
		.flags = flags | ENGINE_NO_STORE,
		.pager = "fake",
		.segment_fd = -1,
		.nr_fault_threads = RIG_QUEUES,
		.fatal = fatal,
	};
	struct rig *r = rig_map(align_up(sizeof(*r), PAGE_SIZE));
	struct mm *mm;
	int err = engine_create(&cfg, &r->e);

	quire_assert(!err);
	mm = &r->e->mm;
	err = mm->pager.ops->open(&mm->pager, RIG_QUEUES, -1);
	quire_assert(!err);
	err = frames_init(&mm->frames, &mm->meta, &mm->pager, RIG_FRAMES);
	quire_assert(!err);
	r->buf = rig_map(RIG_TASKS * WRITEBACK_BATCH * PAGE_SIZE);
	for (u32 t = 0; t < RIG_TASKS; t++)
		r->task[t].buf = r->task[t].window = r->buf + t * WRITEBACK_BATCH * PAGE_SIZE;
	r->p = make_group(r, "p");
	r->c = make_group(r, "p/c");
	r->d = make_group(r, "p/d");
	err = objcg_get(r->e->tree, r->c, &r->objcg);
	quire_assert(!err);
	rig_assign(r, 0, RIG_PAGES, r->objcg);
	for (u32 q = 0; q < RIG_QUEUES; q++) {
		err = mm->pager.ops->add_range(&mm->pager, q, fake_addr(q * RIG_QUEUE_PAGES),
					       RIG_QUEUE_PAGES * PAGE_SIZE);
		quire_assert(!err);
	}
	fake_store_init(&r->store);
	if (store)
		atomic64_store(&r->e->zswap.store, (u64)&r->store);
	/* A walk of all groups there could be is for a program's end, not for each run. */
	r->e->lru.nr_vecs = 8;
	return r;
}

void rig_destroy(struct rig *r)
{
	struct engine *e = r->e;
	u8 *buf = r->buf;

	rig_zap(r, 0, 0, RIG_PAGES);
	for (u32 t = 0; t < RIG_TASKS; t++)
		rig_drain(r, t);
	rig_check(r);
	e->lru.nr_vecs = memcg_nr_max(e->tree);
	atomic64_store(&e->zswap.store, 0);
	(void)!region_cut(&e->mm.regions, fake_addr(0), fake_addr(RIG_PAGES));
	fake_exit(&e->mm.pager);
	engine_destroy(e);
	os_munmap(buf, RIG_TASKS * WRITEBACK_BATCH * PAGE_SIZE);
	os_munmap(r, align_up(sizeof(*r), PAGE_SIZE));
}

static void assign_in_queue(struct rig *r, u32 q, u32 first, u32 end, struct objcg_id o)
{
	struct region region = {
		.start = fake_addr(max_of(first, q * RIG_QUEUE_PAGES)),
		.end = fake_addr(min_of(end, (q + 1) * RIG_QUEUE_PAGES)),
		.objcg = o,
		.flags = REGION_REGISTERED | REGION_RANDOM,
		.queue = (u16)q,
	};
	int err = 0;

	if (region.start < region.end)
		err = region_add(&r->e->mm.regions, &region);
	quire_assert(!err);
}

void rig_assign(struct rig *r, u32 first, u32 nr, struct objcg_id o)
{
	int err = region_cut(&r->e->mm.regions, fake_addr(first), fake_addr(first + nr));

	quire_assert(!err);
	for (u32 q = 0; q < RIG_QUEUES; q++)
		assign_in_queue(r, q, first, first + nr, o);
}

void rig_advise(struct rig *r, u16 flag)
{
	int err = region_set_flags(&r->e->mm.regions, fake_addr(0), fake_addr(RIG_PAGES), flag,
				   (REGION_RANDOM | REGION_SEQUENTIAL) & ~flag);

	quire_assert(!err);
}

void rig_stream(struct rig *r)
{
	struct lru *lru = &r->e->lru;
	u64 vpn = fake_addr(0) >> PAGE_SHIFT;

	atomic64_poke(&lru->range[0].end, 2 * vpn);
	atomic64_poke(&lru->stream[0].start, 0);
	atomic64_poke(&lru->stream[0].next, vpn);
	atomic32_poke(&lru->stream[0].nr, 32); /* not of those that are to stay */
}

/* ---- contents ----------------------------------------------------------------- */

void rig_content(u8 *page, enum rig_fill fill, u32 seed)
{
	u64 *w = (u64 *)page, x = (seed + 1) * STREAM;

	for (u32 i = 0; i < PAGE_SIZE / sizeof(*w); i++) {
		switch (fill) {
		case RIG_ABSENT:
		case RIG_ZERO:
			w[i] = 0;
			break;
		case RIG_FILLED:
			w[i] = x;
			break;
		case RIG_TEXT:
			w[i] = i & 1 || !i ? x + i / 16 : seed;
			break;
		case RIG_NOISE:
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			w[i] = x;
			break;
		}
	}
}

/* ---- threads ------------------------------------------------------------------ */

enum fault_result rig_fault_with(struct rig *r, u32 t, u32 page, u32 flags)
{
	struct memcg_id over = { 0 };
	enum fault_result res;

	gate_enter(&r->e->fault_gate);
	res = fault_serve(&r->e->fault, &r->task[t], page / RIG_QUEUE_PAGES, fake_addr(page), flags,
			  &over);
	gate_leave(&r->e->fault_gate);
	return res;
}

enum fault_result rig_fault(struct rig *r, u32 t, u32 page)
{
	return rig_fault_with(r, t, page, 0);
}

/* NULL, and why. */
static u8 *try_hold(struct rig *r, u32 page, bool write, u32 *ret_flags)
{
	struct pager *p = &r->e->mm.pager;
	u8 *bytes = fake_hold(p, fake_addr(page), ret_flags);

	quire_assert(!(*ret_flags & FAKE_POISONED));
	if (*ret_flags & FAKE_PRESENT && !(write && *ret_flags & FAKE_PROTECTED))
		return bytes;
	fake_let_go(p);
	return NULL;
}

u8 *rig_hold(struct rig *r, u32 page, bool write)
{
	u32 flags;

	return try_hold(r, page, write, &flags);
}

/* Until the page is there, and in our hands. */
static u8 *fault_in(struct rig *r, u32 t, u32 page, bool write)
{
	struct pte *pte;
	u32 flags;
	u8 *bytes = try_hold(r, page, write, &flags);

	while (!bytes) {
		(void)rig_fault_with(r, t, page,
				     (write ? FAULT_WRITE : 0) |
					     (flags & FAKE_PRESENT ? FAULT_WP : 0));
		/* As populate.c: the lock comes back when the read is done. */
		pte = rig_pte(r, page);
		if (pte && pte_peek(pte) & PTE_IO && !fake_store_complete(&r->store)) {
			pte_lock(pte);
			pte_unlock(pte);
		}
		bytes = try_hold(r, page, write, &flags);
		if (bytes)
			break;
		sync_relax();
		bytes = try_hold(r, page, write, &flags);
	}
	return bytes;
}

void rig_read(struct rig *r, u32 t, u32 page)
{
	u8 want[PAGE_SIZE] __attribute__((aligned(8)));
	u8 *bytes = fault_in(r, t, page, false);

	rig_content(want, r->want[page].fill, r->want[page].seed);
	quire_assert(!memcmp(bytes, want, PAGE_SIZE));
	fake_let_go(&r->e->mm.pager);
}

void rig_write(struct rig *r, u32 t, u32 page, enum rig_fill fill, u32 seed)
{
	rig_content(fault_in(r, t, page, true), fill, seed);
	r->want[page] = (struct rig_content){ fill, seed };
	fake_let_go(&r->e->mm.pager);
}

u32 rig_unmap(struct rig *r, u32 t, u32 nr)
{
	u32 n, freed = 0;

	gate_enter(&r->e->reclaim_gate);
	n = reclaim_unmap(&r->e->reclaim, &r->task[t], r->c, nr, &freed);
	gate_leave(&r->e->reclaim_gate);
	return n;
}

u32 rig_pageout(struct rig *r, u32 t, u32 nr)
{
	u32 n;

	gate_enter(&r->e->reclaim_gate);
	n = reclaim_pageout(&r->e->reclaim, &r->task[t], r->c, nr);
	gate_leave(&r->e->reclaim_gate);
	return n;
}

long rig_writeback(struct rig *r, u32 t, u32 nr)
{
	long n;

	gate_enter(&r->e->reclaim_gate);
	n = zswap_writeback(&r->e->zswap, r->c, nr, r->task[t].buf);
	gate_leave(&r->e->reclaim_gate);
	return n;
}

void rig_make_cold(struct rig *r)
{
	atomic64_fetch_add(&lruvec_of(&r->e->lru, r->c)->age, 1000000);
}

u32 rig_repack(struct rig *r, u32 nr)
{
	u32 n;

	gate_enter(&r->e->reclaim_gate);
	n = zswap_repack(&r->e->zswap, &r->e->mm.meta, r->c, nr);
	gate_leave(&r->e->reclaim_gate);
	return n;
}

void rig_forget(struct rig *r, u32 page, u32 nr)
{
	u32 flags;

	(void)fake_hold(&r->e->mm.pager, fake_addr(page), &flags);
	memset(&r->want[page], 0, nr * sizeof(r->want[0]));
	fake_let_go(&r->e->mm.pager);
}

void rig_zap(struct rig *r, u32 t, u32 page, u32 nr)
{
	struct fault *f = &r->e->fault;
	u64 start = fake_addr(page), end = start + (u64)nr * PAGE_SIZE;

	zap_begin(f, start, end);
	fake_forget(&r->e->mm.pager, start, nr);
	zap_forget(f, &r->task[t], start, end, false);
	rig_forget(r, page, nr);
	zap_finish(f, start, end);
}

void rig_drain_task(struct rig *r, struct task *t)
{
	memcg_drain_stock(r->e->tree, &t->stock);
	slot_cache_drain(&r->e->swap, &t->slots);
}

void rig_drain(struct rig *r, u32 t)
{
	rig_drain_task(r, &r->task[t]);
}

/* One page to a state, whatever else is on the lists. */
static void move_page(struct rig *r, u32 nr, enum rig_state state)
{
	struct page_id id = { pte_index(rig_pte(r, nr)) };
	u32 freed = 0;

	if (state >= RIG_FRAME)
		quire_assert(lru_isolate(&r->e->lru, id) &&
			     reclaim_unmap_pages(&r->e->reclaim, &r->task[0], &id, 1, &freed) == 1);
	if (state >= RIG_POOL) {
		/* The tail is next. */
		quire_assert(lru_isolate(&r->e->lru, id));
		swap_cache_putback(&r->e->swap, NULL, id, true);
		quire_assert(rig_pageout(r, 0, 1) == 1);
	}
	if (state == RIG_STORE && rig_state(r, nr) == RIG_POOL)
		quire_assert(rig_writeback(r, 0, 1) == 1);
	quire_assert(rig_state(r, nr) == state);
}

void rig_make(struct rig *r, u32 first, u32 nr, enum rig_fill fill, enum rig_state state)
{
	for (u32 i = first; i < first + nr; i++)
		rig_write(r, 0, i, fill, i);
	for (u32 i = first; i < first + nr; i++)
		move_page(r, i, state);
	rig_drain(r, 0);
}

static void start(struct rig *r, struct task *t, const char *name, void (*fn)(struct thread *self),
		  void *arg)
{
	int err;

	t->thread = (struct thread){ .name = name, .fn = fn, .arg = arg };
	t->engine = r->e;
	err = thread_start(&t->thread);
	quire_assert(!err);
}

static void complete_reads(struct thread *self)
{
	struct rig *r = self->arg;

	while (!atomic32_load(&r->e->reclaim.stop)) {
		u32 seq = event_seq(&r->store.posted);

		while (fake_store_complete(&r->store))
			;
		(void)event_wait(&r->store.posted, seq, SYNC_FOREVER);
	}
}

void rig_start_threads(struct rig *r)
{
	for (u32 q = 0; q < RIG_QUEUES; q++) {
		struct fault_thread *ft = &r->e->fault_thread[q];

		ft->f = &r->e->fault;
		ft->queue = q;
		start(r, &ft->task, "fault", fault_thread_main, ft);
	}
	start(r, &r->io, "I/O", complete_reads, r);
}

void rig_stop_threads(struct rig *r)
{
	atomic32_store(&r->e->reclaim.stop, 1);
	event_signal(&r->store.posted);
	fake_stop(&r->e->mm.pager, true);
	for (u32 q = 0; q < RIG_QUEUES; q++) {
		thread_join(&r->e->fault_thread[q].task.thread);
		rig_drain_task(r, &r->e->fault_thread[q].task);
	}
	thread_join(&r->io.thread);
	while (fake_store_complete(&r->store))
		;
	fake_stop(&r->e->mm.pager, false);
	atomic32_store(&r->e->reclaim.stop, 0);
}

/* ---- looking ------------------------------------------------------------------- */

struct pte *rig_pte(struct rig *r, u32 page)
{
	return page_table_find(&r->e->mm.ptes, fake_addr(page));
}

enum rig_state rig_state(struct rig *r, u32 page)
{
	struct pte *pte = rig_pte(r, page);
	struct slot_id slot;

	quire_assert(pte && pte_type(pte) != PTE_NONE && pte_type(pte) != PTE_POISONED);
	if (pte_type(pte) == PTE_PRESENT)
		return RIG_MAPPED;
	slot.v = pte_index(pte);
	switch (slot_kind(slot_at(&r->e->swap, slot))) {
	case SLOT_FRAME:
		return RIG_FRAME;
	case SLOT_STORE:
		return RIG_STORE;
	default:
		return RIG_POOL;
	}
}

u64 rig_stat(struct rig *r, enum memcg_stat item)
{
	return memcg_stat_read(r->e->tree, r->p, item);
}
