/* SPDX-License-Identifier: Apache-2.0 */
/*
 * charge.c - charging pages, slots and compressed bytes to a handle.
 *
 * Owns: the order in which counters and totals change; stocks; what a charge
 * tells the engine (pressure, events).
 * Does not own: the counters (page_counter.c), whom a handle leads to
 * (objcg.c), reclaim and retry after -ENOMEM (the caller).
 * Entry points: memcg_try_charge(), memcg_charge_force(), memcg_uncharge(),
 * memcg_swap_try_charge(), memcg_zswap_charge(), memcg_set_overhead(), memcg_set_shared().
 * Invariants: a total changes by exactly what was charged through its handle,
 * stock included; the memory charged for compressed bytes is
 * ceil(zswap_bytes / 4096) for each handle; uncharging cannot fail.
 * Lock ranks: none.  Nothing sleeps here; pressure and event upcalls post.
 *
 * Why removal needs no lock here (races.md 1.4, D2).  A charger reads
 * objcg->memcg = C, then C is removed and its handles point to P, and only then
 * does the charger add to C and its ancestors.  That chain is C, P, ..., root:
 * 1. P and everything above have the charge, as if the charger had read P.
 * 2. C has it too, but C's counter dies with C: nobody reads it, and the record
 *    is not reused before memcg_release(), which the engine calls behind a gate
 *    no charger is inside.  Nothing is left over.
 * 3. The uncharge goes through the handle, hence from P upwards: balanced at
 *    every level that lives.
 * 4. An uncharger that still reads C takes from C what was once added there.
 * 5. P removed as well: C->parent leads to P, whose record is OFFLINE, or, once
 *    that is reused, to P's parent; in both cases all ONLINE ancestors of C are on
 *    the chain exactly once.
 * So a charge needs no validation afterwards (L3): its payer is the handle, and
 * whom the handle leads to is asked again when the charge is given back.
 */
#include "memcg/counters.h"
#include "memcg/internal.h"
#include "memcg/move.h"

#include <errno.h>

#include "base/mutant.h"

static u64 bytes_to_pages(u64 bytes)
{
	return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

static void tell_pressure(struct memcg_tree *t, u32 i, u32 mask)
{
	struct group *g;

	if (likely(!mask) || !t->up.pressure)
		return;
	for (; mask && (g = group_at(t, i)); mask >>= 1) {
		if (mask & 1)
			t->up.pressure(t->up.ctx, (struct memcg_id){ i });
		i = atomic32_peek(&g->parent);
	}
}

/* ---- memory ------------------------------------------------------------------------ */

static bool charge_counters(struct memcg_tree *t, struct objcg_id o, u32 nr, u32 *ret_over)
{
	u32 memcg = objcg_memcg(t, o).v, mask;
	bool ok;

	counters_begin(t);
	ok = page_counter_try_charge(t, memcg, COUNTER_MEMORY, nr, 0, &mask, ret_over);
	if (ok)
		(void)atomic64_fetch_add(&objcg_of(t, o)->memory, nr);
	counters_end(t);
	if (ok)
		tell_pressure(t, memcg, mask);
	return ok;
}

/* What others pay of the total of c is `to` now, and was more.  Charged first: killed
 * in between, too much is on the counters.  False: it was something else by now. */
static bool less_late(struct memcg_tree *t, u32 memcg, struct objcg *c, u64 from, u64 to)
{
	(void)page_counter_charge(t, memcg, COUNTER_MEMORY, from - to, 0);
	if (atomic64_cas(&c->late_memory, from, to))
		return true;
	page_counter_uncharge(t, memcg, COUNTER_MEMORY, from - to, 0);
	return false;
}

/*
 * nr pages less in the total: what others pay of it cannot be more than all of it.
 * Every uncharge answers for at most what it took itself, so several at once leave
 * nothing over and no counter falls below zero.
 */
static void clip_late(struct memcg_tree *t, u32 memcg, struct objcg *c, u64 nr)
{
	u64 late, less;

	if (likely(!atomic64_peek(&c->late_memory)))
		return;
	do {
		u64 total = atomic64_load(&c->memory);

		late = atomic64_load(&c->late_memory);
		if (late <= total)
			return;
		less = min_of(nr, late - total);
	} while (!less_late(t, memcg, c, late, late - less));
}

/* Between counters_begin() and counters_end(), as the next; what the total was. */
static u64 give_back(struct memcg_tree *t, u32 memcg, struct objcg *c, u64 nr)
{
	u64 old = atomic64_fetch_sub(&c->memory, nr);

	clip_late(t, memcg, c, nr);
	page_counter_uncharge(t, memcg, COUNTER_MEMORY, nr, 0);
	return old;
}

static void uncharge_within(struct memcg_tree *t, struct objcg_id o, u64 nr)
{
	u64 old = give_back(t, objcg_memcg(t, o).v, objcg_of(t, o), nr);

	quire_assert(old >= nr);
}

static void uncharge_counters(struct memcg_tree *t, struct objcg_id o, u64 nr)
{
	counters_begin(t);
	uncharge_within(t, o, nr);
	counters_end(t);
}

/* As uncharge_within(). */
static void charge_within(struct memcg_tree *t, struct objcg_id o, u32 nr)
{
	u32 memcg = objcg_memcg(t, o).v;
	u32 mask = page_counter_charge(t, memcg, COUNTER_MEMORY, nr, 0);

	(void)atomic64_fetch_add(&objcg_of(t, o)->memory, nr);
	tell_pressure(t, memcg, mask);
}

void memcg_drain_stock(struct memcg_tree *t, struct memcg_stock *st)
{
	u32 nr = st->nr_pages;

	st->nr_pages = 0;
	if (nr)
		uncharge_counters(t, st->objcg, nr);
	st->objcg.v = 0;
}

/* Keep nr bought pages of o in the stock; another handle's go back first. */
static void stock_add(struct memcg_tree *t, struct memcg_stock *st, struct objcg_id o, u32 nr)
{
	if (st->objcg.v != o.v)
		memcg_drain_stock(t, st);
	st->objcg = o;
	st->nr_pages += nr;
}

int memcg_try_charge(struct memcg_tree *t, struct memcg_stock *st, struct objcg_id o, u32 nr,
		     struct memcg_id *ret_over)
{
	u32 batch = st ? max_of(nr, STOCK_BATCH) : nr, over = 0;

	if (st && likely(st->objcg.v == o.v && st->nr_pages >= nr)) {
		st->nr_pages -= nr;
		return 0;
	}
	if (charge_counters(t, o, batch, &over)) {
		if (batch > nr)
			stock_add(t, st, o, batch - nr);
		return 0;
	}
	/* Our own stock must not be what the limit is full of. */
	if (st && st->nr_pages)
		memcg_drain_stock(t, st);
	if (st && charge_counters(t, o, nr, &over))
		return 0;
	memcg_count_event(t, (struct memcg_id){ over }, MEMCG_MAX);
	if (t->up.pressure)
		t->up.pressure(t->up.ctx, (struct memcg_id){ over });
	ret_over->v = over;
	return -ENOMEM;
}

void memcg_charge_force(struct memcg_tree *t, struct objcg_id o, u32 nr)
{
	counters_begin(t);
	charge_within(t, o, nr);
	counters_end(t);
}

void memcg_uncharge(struct memcg_tree *t, struct memcg_stock *st, struct objcg_id o, u32 nr)
{
	u32 surplus;

	if (!st || st->objcg.v != o.v || nr > STOCK_BATCH) {
		uncharge_counters(t, o, nr);
		return;
	}
	st->nr_pages += nr;
	if (st->nr_pages <= STOCK_BATCH)
		return;
	/* Down to half, so that one page to and fro does not hit the counters. */
	surplus = st->nr_pages - STOCK_BATCH / 2;
	st->nr_pages -= surplus;
	uncharge_counters(t, o, surplus);
}

/* The target's counters have it already: the rest of a move. */
static void finish_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to,
			enum page_counter_kind kind, u64 nr, u32 common)
{
	struct objcg *a = objcg_of(t, from), *b = objcg_of(t, to);
	bool swap = kind == COUNTER_SWAP;
	u32 memcg = objcg_memcg(t, from).v;
	u64 old;

	(void)atomic64_fetch_add(swap ? &b->swap : &b->memory, nr);
	old = atomic64_fetch_sub(swap ? &a->swap : &a->memory, nr);
	quire_assert(old >= nr);
	if (!swap)
		clip_late(t, memcg, a, nr);
	page_counter_uncharge(t, memcg, kind, nr, common);
}

static bool try_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to,
		     enum page_counter_kind kind, u64 nr, u32 common, u32 *ret_mask,
		     struct memcg_id *ret_over)
{
	bool ok;

	counters_begin(t);
	ok = page_counter_try_charge(t, objcg_memcg(t, to).v, kind, nr, common, ret_mask,
				     &ret_over->v);
	if (ok)
		finish_move(t, from, to, kind, nr, common);
	counters_end(t);
	return ok;
}

/* From the common ancestor upwards nothing changes, not even the peak. */
static u32 force_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to,
		      enum page_counter_kind kind, u64 nr)
{
	u32 b = objcg_memcg(t, to).v, mask;
	u32 common = page_counter_common(t, objcg_memcg(t, from).v, b);

	counters_begin(t);
	mask = page_counter_charge(t, b, kind, nr, common);
	finish_move(t, from, to, kind, nr, common);
	counters_end(t);
	return mask;
}

int memcg_try_move_charge(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 nr,
			  struct memcg_id *ret_over)
{
	u32 b = objcg_memcg(t, to).v, mask;
	u32 common = page_counter_common(t, objcg_memcg(t, from).v, b);

	if (!try_move(t, from, to, COUNTER_MEMORY, nr, common, &mask, ret_over)) {
		memcg_count_event(t, *ret_over, MEMCG_MAX);
		return -ENOMEM;
	}
	tell_pressure(t, b, mask);
	return 0;
}

void memcg_move_charge(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 nr)
{
	u32 memcg = objcg_memcg(t, to).v;

	tell_pressure(t, memcg, force_move(t, from, to, COUNTER_MEMORY, nr));
}

/* ---- swap: cgroup-v2: memory.swap.max -------------------------------------------------- */

int memcg_swap_try_charge(struct memcg_tree *t, struct objcg_id o, u32 nr)
{
	struct memcg_id memcg = objcg_memcg(t, o);
	u32 mask, over;
	bool ok;

	counters_begin(t);
	ok = page_counter_try_charge(t, memcg.v, COUNTER_SWAP, nr, 0, &mask, &over);
	if (ok)
		(void)atomic64_fetch_add(&objcg_of(t, o)->swap, nr);
	counters_end(t);
	if (ok)
		return 0;
	/* Counted where the page belongs, not where the limit is. */
	memcg_count_event(t, memcg, MEMCG_SWAP_MAX);
	memcg_count_event(t, memcg, MEMCG_SWAP_FAIL);
	return -ENOMEM;
}

void memcg_swap_uncharge(struct memcg_tree *t, struct objcg_id o, u32 nr)
{
	u32 memcg = objcg_memcg(t, o).v;
	u64 old;

	counters_begin(t);
	old = atomic64_fetch_sub(&objcg_of(t, o)->swap, nr);
	quire_assert(old >= nr);
	page_counter_uncharge(t, memcg, COUNTER_SWAP, nr, 0);
	counters_end(t);
}

void memcg_swap_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 nr)
{
	(void)force_move(t, from, to, COUNTER_SWAP, nr);
}

int memcg_try_swap_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 nr,
			struct memcg_id *ret_over)
{
	u32 b = objcg_memcg(t, to).v, mask;
	u32 common = page_counter_common(t, objcg_memcg(t, from).v, b);

	if (!try_move(t, from, to, COUNTER_SWAP, nr, common, &mask, ret_over)) {
		memcg_count_event(t, (struct memcg_id){ b }, MEMCG_SWAP_MAX);
		return -ENOSPC;
	}
	return 0;
}

/* ---- zswap: cgroup-v2: memory.zswap.max -------------------------------------------------- */

/* Of every group from i up to, not including, `until` (0: all). */
static bool zswap_may(struct memcg_tree *t, u32 i, u32 until, struct memcg_id *ret_over)
{
	struct group *g;

	for (u32 l = 0; i != until && l < NR_LEVELS && (g = group_at(t, i)); l++) {
		u64 max = atomic64_load(&g->max[COUNTER_ZSWAP]);

		/* 0 never; else while whole pages are below the limit. */
		if (max != PAGE_COUNTER_MAX &&
		    atomic64_load(&g->usage[COUNTER_ZSWAP]) >> PAGE_SHIFT >= max) {
			ret_over->v = i;
			return false;
		}
		i = atomic32_peek(&g->parent);
	}
	return true;
}

bool memcg_zswap_may(struct memcg_tree *t, struct objcg_id o, struct memcg_id *ret_over)
{
	return zswap_may(t, objcg_memcg(t, o).v, 0, ret_over);
}

bool memcg_zswap_writeback(const struct memcg_tree *t, struct memcg_id id)
{
	struct group *g;
	u32 i = id.v;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		if (!(atomic32_load(&g->flags) & 1u << MEMCG_FLAG_ZSWAP_WRITEBACK))
			return false;
		i = atomic32_peek(&g->parent);
	}
	return true;
}

/*
 * Whole pages follow the handle's byte total.  They are charged before the
 * bytes are seen and given back after: were the bytes added first, another
 * thread could give back a page that is not charged yet (three threads: +1,
 * +4095, +1 and then -4095 bytes, both pages still to be charged).  So at any
 * time the pages charged are at least ceil(total / 4096), and exactly that
 * when nobody is in here.
 */
void memcg_zswap_charge(struct memcg_tree *t, struct objcg_id o, u32 bytes)
{
	struct objcg *c = objcg_of(t, o);
	u64 old, need, have = 0;

	counters_begin(t);
	(void)page_counter_charge(t, objcg_memcg(t, o).v, COUNTER_ZSWAP, bytes, 0);
	if (MUTANT(bytes_before_pages)) {
		old = atomic64_fetch_add(&c->zswap_bytes, bytes);
		need = bytes_to_pages(old + bytes) - bytes_to_pages(old);
		stat_add(&c->stat[MEMCG_STAT_ZSWAP], bytes);
		charge_within(t, o, (u32)need);
		counters_end(t);
		return;
	}
	do {
		old = atomic64_load(&c->zswap_bytes);
		need = bytes_to_pages(old + bytes) - bytes_to_pages(old);
		if (need > have) {
			charge_within(t, o, (u32)(need - have));
			have = need;
		}
	} while (!atomic64_cas(&c->zswap_bytes, old, old + bytes));
	stat_add(&c->stat[MEMCG_STAT_ZSWAP], bytes);
	if (have > need)
		uncharge_within(t, o, have - need);
	counters_end(t);
}

void memcg_zswap_uncharge(struct memcg_tree *t, struct objcg_id o, u32 bytes)
{
	struct objcg *c = objcg_of(t, o);
	u32 memcg = objcg_memcg(t, o).v;
	u64 old, nr;

	counters_begin(t);
	old = atomic64_fetch_sub(&c->zswap_bytes, bytes);
	quire_assert(old >= bytes);
	stat_sub(&c->stat[MEMCG_STAT_ZSWAP], bytes);
	page_counter_uncharge(t, memcg, COUNTER_ZSWAP, bytes, 0);
	nr = bytes_to_pages(old) - bytes_to_pages(old - bytes);
	if (nr)
		uncharge_within(t, o, nr);
	counters_end(t);
}

void memcg_zswap_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 bytes)
{
	memcg_zswap_uncharge(t, from, bytes);
	memcg_zswap_charge(t, to, bytes);
}

int memcg_try_zswap_move(struct memcg_tree *t, struct objcg_id from, struct objcg_id to, u32 bytes,
			 struct memcg_id *ret_over, enum page_counter_kind *ret_kind)
{
	u32 b = objcg_memcg(t, to).v, mask;
	u32 common = page_counter_common(t, objcg_memcg(t, from).v, b);

	*ret_kind = COUNTER_ZSWAP;
	if (!zswap_may(t, b, common, ret_over))
		return -ENOMEM;
	/* They take a page of memory at most.  It is held while they move. */
	*ret_kind = COUNTER_MEMORY;
	counters_begin(t);
	if (!page_counter_try_charge(t, b, COUNTER_MEMORY, 1, common, &mask, &ret_over->v)) {
		counters_end(t);
		memcg_count_event(t, *ret_over, MEMCG_MAX);
		return -ENOMEM;
	}
	memcg_zswap_move(t, from, to, bytes);
	page_counter_uncharge(t, b, COUNTER_MEMORY, 1, common);
	counters_end(t);
	return 0;
}

/* ---- overhead ------------------------------------------------------------------------------- */

/*
 * The number is told when it is charged, and no more when it is not yet given back:
 * killed in between, too much is charged.  Two that set it at once each charge a
 * difference of their own.
 */
void objcg_set_overhead(struct memcg_tree *t, struct objcg *c, enum memcg_stat which, u64 nr)
{
	u32 memcg = atomic32_load(&c->memcg), mask = 0;
	u64 old, more;

	counters_begin(t);
	for (;;) {
		old = stat_read(&c->stat[which]);
		more = nr > old ? nr - old : 0;
		if (more) {
			mask = page_counter_charge(t, memcg, COUNTER_MEMORY, more, 0);
			(void)atomic64_fetch_add(&c->memory, more);
		}
		if (stat_cas(&c->stat[which], old, nr))
			break;
		if (more)
			(void)give_back(t, memcg, c, more);
	}
	if (nr < old)
		(void)give_back(t, memcg, c, old - nr);
	counters_end(t);
	tell_pressure(t, memcg, mask);
}

void memcg_set_overhead(struct memcg_tree *t, struct objcg_id home, enum memcg_stat which,
			u64 nr_pages)
{
	quire_assert(which == MEMCG_STAT_KERNEL || which == MEMCG_STAT_UNMANAGED ||
		     which == MEMCG_STAT_PAGETABLES);
	objcg_set_overhead(t, objcg_of(t, home), which, nr_pages);
}

u64 memcg_overhead(const struct memcg_tree *t, struct objcg_id home, enum memcg_stat which)
{
	return stat_read(&objcg_of(t, home)->stat[which]);
}

/* Of the total of c, what is not in pages. */
static u64 outside_pages(const struct objcg *c)
{
	return stat_read(&c->stat[MEMCG_STAT_KERNEL]) + stat_read(&c->stat[MEMCG_STAT_UNMANAGED]) +
	       stat_read(&c->stat[MEMCG_STAT_PAGETABLES]) +
	       bytes_to_pages(atomic64_load(&c->zswap_bytes));
}

void memcg_set_shared(struct memcg_tree *t, struct objcg_id home, u64 nr_pages)
{
	struct objcg *c = objcg_of(t, home);
	u32 memcg = objcg_memcg(t, home).v;
	u64 nr = min_of(nr_pages, outside_pages(c)), old;

	counters_begin(t);
	old = atomic64_load(&c->late_memory);
	if (nr > old) {
		(void)atomic64_fetch_add(&c->late_memory, nr - old);
		page_counter_uncharge(t, memcg, COUNTER_MEMORY, nr - old, 0);
		clip_late(t, memcg, c, nr - old);
	}
	/* Somebody may clip it at the same time. */
	while (nr < old && !less_late(t, memcg, c, old, nr))
		old = atomic64_load(&c->late_memory);
	counters_end(t);
	stat_set(&c->stat[MEMCG_STAT_SHARED], nr);
}
