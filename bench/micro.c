/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micro.c - the steps that a fault, an eviction and a heap's block are made of, each alone.
 *
 * micro count    each step on the fake pager, for callgrind: only run_counted() calls it
 *                once everything is warm
 * micro time     the same steps by the clock, then faults and evictions with the real
 *                pager, as the program sees them
 *
 * Prints one line of key=value: what the program was made with, or medians in ns.
 * One thread, the same bytes in each run.  bench/micro reads this.
 */
#include <err.h>
#include <gnu/libc-version.h>
#include <lz4.h>
#include <stdlib.h>

#include "api/api.h"
#include "base/os.h"
#include "check.h"
#include "data.h"
#include "lib/rig.h"
#include "settle.h"

#define BATCH 64u /* steps of a call; as many as the fake store holds */
#define ROUNDS 8u
#define TIMED_ROUNDS 201u
#define REAL_PAGES 4096u

static struct rig *r;
static struct quire heap_owner; /* of the rig's engine, for a heap */
static struct quire_heap *heap;
static void *block[BATCH];
static struct slot_id slot[BATCH];
static char text[64 * KIB];

static void expect(bool ok, const char *what)
{
	if (!ok)
		errx(1, "%s", what);
}

/* ---- the steps: BATCH of each ------------------------------------------------------ */

#define OP(name) static __attribute__((noinline)) void op_##name(void)

OP(charge)
{
	struct memcg_id over;

	for (u32 i = 0; i < BATCH; i++)
		if (memcg_try_charge(r->e->tree, &r->task[0].stock, r->objcg, 1, &over))
			errx(1, "not charged");
}

OP(uncharge)
{
	for (u32 i = 0; i < BATCH; i++)
		memcg_uncharge(r->e->tree, &r->task[0].stock, r->objcg, 1);
}

OP(slot_alloc)
{
	for (u32 i = 0; i < BATCH; i++)
		if (slot_alloc(&r->e->swap, &r->task[0].slots, r->objcg, &slot[i]))
			errx(1, "no slot");
}

OP(slot_drop)
{
	for (u32 i = 0; i < BATCH; i++)
		slot_drop(&r->e->swap, &r->task[0].slots, slot[i]);
}

static void fault_all(void)
{
	for (u32 i = 0; i < BATCH; i++)
		(void)rig_fault(r, 0, i);
}

OP(fault_zero)
{
	fault_all();
}

OP(fault_soft)
{
	fault_all();
}

OP(fault_filled)
{
	fault_all();
}

OP(fault_zswap)
{
	fault_all();
}

OP(fault_store)
{
	for (u32 i = 0; i < BATCH; i++) {
		(void)rig_fault(r, 0, i);
		(void)fake_store_complete(&r->store);
	}
}

static void unmap_all(void)
{
	for (u32 i = 0; i < BATCH; i += SWAP_CLUSTER_MAX)
		(void)rig_unmap(r, 0, SWAP_CLUSTER_MAX);
}

OP(unmap)
{
	unmap_all();
}

OP(unmap_unwritten)
{
	unmap_all();
}

OP(unmap_to_copy)
{
	unmap_all();
}

OP(pageout)
{
	for (u32 i = 0; i < BATCH; i += SWAP_CLUSTER_MAX)
		(void)rig_pageout(r, 0, SWAP_CLUSTER_MAX);
}

OP(read_usage)
{
	for (u32 i = 0; i < BATCH; i++)
		(void)*(volatile u64 *)&(u64){ memcg_usage(r->e->tree, r->p, COUNTER_MEMORY) };
}

OP(read_stat)
{
	for (u32 i = 0; i < BATCH; i++) {
		struct fmt out;

		fmt_init(&out, text, sizeof(text));
		if (knob_read(r->e->tree, r->p, "memory.stat", &out))
			errx(1, "no memory.stat");
	}
}

OP(malloc)
{
	for (u32 i = 0; i < BATCH; i++)
		block[i] = quire_malloc(heap, 64);
}

OP(free)
{
	for (u32 i = 0; i < BATCH; i++)
		quire_free(heap, block[i]);
}

/* ---- before and after them ------------------------------------------------------------ */

static void make(enum rig_fill fill, enum rig_state state)
{
	rig_zap(r, 0, 0, BATCH);
	rig_make(r, 0, BATCH, fill, state);
}

static void expect_all(enum rig_state state)
{
	for (u32 i = 0; i < BATCH; i++)
		expect(rig_state(r, i) == state, "a page is not where it should be");
}

static void nothing_there(void)
{
	rig_zap(r, 0, 0, BATCH);
	rig_drain(r, 0);
}

static void in_frames(void)
{
	make(RIG_TEXT, RIG_FRAME);
}

static void one_word(void)
{
	make(RIG_FILLED, RIG_POOL);
}

static void in_pool(void)
{
	make(RIG_TEXT, RIG_POOL);
}

static void in_store(void)
{
	make(RIG_TEXT, RIG_STORE);
}

static void written(void)
{
	make(RIG_TEXT, RIG_MAPPED);
}

/* After so long that they are not hot, and their copies in the store worth keeping. */
static void read_back(enum rig_state from)
{
	make(RIG_TEXT, from);
	atomic64_fetch_add(&lruvec_of(&r->e->lru, r->c)->age, 1000);
	for (u32 i = 0; i < BATCH; i++)
		rig_read(r, 0, i);
}

static void read_from_pool(void)
{
	read_back(RIG_POOL);
}

static void read_from_store(void)
{
	read_back(RIG_STORE);
}

static void are_mapped(void)
{
	expect_all(RIG_MAPPED);
}

static void are_in_frames(void)
{
	expect_all(RIG_FRAME);
}

static void are_in_pool(void)
{
	expect_all(RIG_POOL);
}

static void are_in_store(void)
{
	expect_all(RIG_STORE);
}

/* As pageout does it with a page of one word. */
static void use_slots(void)
{
	op_slot_alloc();
	for (u32 i = 0; i < BATCH; i++)
		where_set(slot_at(&r->e->swap, slot[i]), slot_where(SLOT_FILLED, 0, 0, 0));
}

static void drop_slots(void)
{
	for (u32 i = 0; i < BATCH; i++)
		where_set(slot_at(&r->e->swap, slot[i]), slot_where(SLOT_FILLED, 0, 0, 0));
	op_slot_drop();
}

static void nothing(void)
{
}

struct step {
	const char *name;
	void (*before)(void), (*op)(void), (*after)(void);
};

static const struct step steps[] = {
	{ "charge", nothing, op_charge, op_uncharge },
	{ "uncharge", op_charge, op_uncharge, nothing },
	{ "slot_alloc", nothing, op_slot_alloc, drop_slots },
	{ "slot_drop", use_slots, op_slot_drop, nothing },
	{ "fault_zero", nothing_there, op_fault_zero, are_mapped },
	{ "fault_soft", in_frames, op_fault_soft, are_mapped },
	{ "fault_filled", one_word, op_fault_filled, are_mapped },
	{ "fault_zswap", in_pool, op_fault_zswap, are_mapped },
	{ "fault_store", in_store, op_fault_store, are_mapped },
	{ "unmap", written, op_unmap, are_in_frames },
	{ "unmap_unwritten", read_from_pool, op_unmap_unwritten, are_in_frames },
	{ "unmap_to_copy", read_from_store, op_unmap_to_copy, are_in_store },
	{ "pageout", in_frames, op_pageout, are_in_pool },
	{ "read_usage", nothing, op_read_usage, nothing },
	{ "read_stat", nothing, op_read_stat, nothing },
	{ "malloc", nothing, op_malloc, op_free },
	{ "free", op_malloc, op_free, nothing },
};

static void make_heap_of_rig(void)
{
	/* What a heap maps shall not start the engine: there are no threads here. */
	r->e->flags |= ENGINE_LAZY;
	heap_owner.e = r->e;
	heap_owner.tree = r->e->tree;
	heap_owner.purge = engine_purge_word(r->e);
	heap_owner.root = MEMCG_ROOT;
	heap_owner.host = true;
	atomic32_store(&group_handle(&heap_owner, MEMCG_ROOT)->state, GROUP_ALIVE);
	check(quire_heap_create(quire_root(&heap_owner), 0, &heap));
}

/* ---- counting ------------------------------------------------------------------------ */

static __attribute__((noinline)) void run_counted(void (*op)(void))
{
	op();
	__asm__ volatile(""); /* a call, not a jump */
}

static void count_step(const struct step *s)
{
	for (u32 i = 0; i < 2 + ROUNDS; i++) {
		s->before();
		/* Tables grow, caches are made and names are bound in the first two. */
		if (i < 2)
			s->op();
		else
			run_counted(s->op);
		s->after();
	}
}

static void count(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(steps); i++)
		count_step(&steps[i]);
	printf("steps=%u gcc=%s glibc=%s lz4=%s\n", ROUNDS * BATCH, __VERSION__,
	       gnu_get_libc_version(), LZ4_versionString());
}

/* ---- timing ---------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_median(const char *name, double *ns, u32 nr)
{
	expect(nr, name);
	qsort(ns, nr, sizeof(*ns), by_value);
	printf("%s=%.1f ", name, ns[nr / 2]);
}

static void time_step(const struct step *s)
{
	double ns[TIMED_ROUNDS];

	for (u32 i = 0; i < TIMED_ROUNDS; i++) {
		u64 since;

		s->before();
		since = os_now_ns();
		s->op();
		ns[i] = (double)(os_now_ns() - since) / BATCH;
		s->after();
	}
	print_median(s->name, ns, TIMED_ROUNDS);
}

/* ---- the real pager ------------------------------------------------------------------------ */

enum place { ABSENT, RESIDENT, FRAME, FILLED, ZSWAP, STORE, NR_PLACES };

static struct quire *q;
static struct quire_group *g;
static u8 *pages;
static uint64_t templates[NR_TEMPLATES][WORDS];
static double took[NR_PLACES][REAL_PAGES];

static enum place place_of(const void *addr)
{
	struct pte *pte = page_table_find(&q->e->mm.ptes, (u64)addr);
	struct slot_id id;

	if (!pte || pte_type(pte) == PTE_NONE)
		return ABSENT;
	if (pte_type(pte) == PTE_PRESENT)
		return RESIDENT;
	id.v = pte_index(pte);
	switch (slot_kind(slot_at(&q->e->swap, id))) {
	case SLOT_FRAME:
		return FRAME;
	case SLOT_FILLED:
		return FILLED;
	case SLOT_STORE:
		return STORE;
	default:
		return ZSWAP;
	}
}

/* Touch each page once, in no order, and print how long it took where it was. */
static void time_touch(const char *name, enum place wanted)
{
	u32 nr[NR_PLACES] = { 0 };

	for (u32 i = 0; i < REAL_PAGES; i++) {
		volatile u8 *page = pages + (size_t)(i * 1997u % REAL_PAGES) * PAGE;
		enum place place = place_of((const void *)page);
		u64 since = os_now_ns();

		(void)*page;
		took[place][nr[place]++] = (double)(os_now_ns() - since);
	}
	print_median(name, took[wanted], nr[wanted]);
}

static void write_all(bool one_word_each)
{
	for (u64 i = 0; i < REAL_PAGES; i++) {
		uint64_t *page = (uint64_t *)(pages + i * PAGE);

		if (one_word_each) {
			for (u32 w = 0; w < WORDS; w++)
				page[w] = i + 1;
			continue;
		}
		memcpy(page, templates[i % NR_TEMPLATES], PAGE);
		page[0] += i;
	}
}

/* All out; ns a page. */
static double page_out(void)
{
	u64 since = os_now_ns();

	check(quire_advise(q, pages, REAL_PAGES * PAGE, QUIRE_PAGEOUT));
	return (double)(os_now_ns() - since) / REAL_PAGES;
}

static void time_reads(void)
{
	double ns[2][TIMED_ROUNDS];

	for (u32 i = 0; i < TIMED_ROUNDS; i++) {
		u64 since = os_now_ns();

		for (u32 k = 0; k < BATCH; k++)
			(void)*(volatile u64 *)&(u64){ quire_current(g) };
		ns[0][i] = (double)(os_now_ns() - since) / BATCH;
		since = os_now_ns();
		check(quire_read(g, "memory.stat", text, sizeof(text), NULL));
		ns[1][i] = (double)(os_now_ns() - since);
	}
	print_median("real_read_usage", ns[0], TIMED_ROUNDS);
	print_median("real_read_stat", ns[1], TIMED_ROUNDS);
}

static void time_real(void)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	char quarter[24];
	void *mem;

	make_templates(templates, KIND_HEAP, 1);
	opt.flags = QUIRE_OPEN_START;
	check(quire_open(&opt, &q));
	check(quire_group_create(quire_root(q), "micro", &g));
	check(quire_map(g, REAL_PAGES * PAGE, 0, &mem));
	check(quire_advise(q, mem, REAL_PAGES * PAGE, QUIRE_RANDOM));
	pages = mem;
	settle(q);
	time_touch("real_fault_zero", ABSENT);
	write_all(false);
	printf("real_evict=%.1f ", page_out());
	time_touch("real_fault_zswap", ZSWAP);
	printf("real_evict_unwritten=%.1f ", page_out());
	write_all(false);
	snprintf(quarter, sizeof(quarter), "%lu", REAL_PAGES * PAGE / 4);
	(void)!quire_write(g, "memory.reclaim", quarter); /* leaves others in frames */
	time_touch("real_fault_soft", FRAME);
	write_all(true);
	page_out();
	time_touch("real_fault_filled", FILLED);
	write_all(false);
	check(quire_write(g, "memory.zswap.max", "0"));
	printf("real_evict_store=%.1f ", page_out());
	time_touch("real_fault_store", STORE);
	time_reads();
	quire_close(q);
}

int main(int argc, char **argv)
{
	const char *what = argc == 2 ? argv[1] : "";

	if (strcmp(what, "count") && strcmp(what, "time"))
		return fprintf(stderr, "see the head of bench/micro.c\n"), 2;
	r = rig_create(0, true);
	make_heap_of_rig();
	if (!strcmp(what, "count")) {
		count();
		return 0;
	}
	for (u32 i = 0; i < ARRAY_SIZE(steps); i++)
		time_step(&steps[i]);
	time_real();
	printf("\n");
	return 0;
}
