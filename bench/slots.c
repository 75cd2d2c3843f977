/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots.c - what it costs to free a slot: copy, charge and shadow go at once, in the
 * fault or the munmap that drops it (S1, J4).
 *
 * slots KIND SLOTS SAMPLES    SLOTS slots are in use; of these SAMPLES in all are dropped,
 *                             a thousand at random in a row, and made again untimed
 *   word    the bytes are a word in the slot: no copy
 *   zswap   the pool has a copy
 *   store   the store has a copy (a file in $TMPDIR)
 *
 * Links the engine and calls slot_drop() as a fault thread does, with its cache of free
 * numbers.  Prints one line of key=value in ns; clock_ns is what the clock itself takes,
 * make a slot's share of the time in which all of them were made, with their copies.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/internal.h"

#define ROW 1000u

static struct engine *e;
static struct objcg_id objcg;
static struct task *task;
static enum slot_kind kind;
static struct slot_id *slot;
static u8 *pages; /* WRITEBACK_BATCH of them */
static u64 nr_made, random_state = 1;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "slots: %s\n", what);
	exit(1);
}

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("no memory");
	return p;
}

static u64 next(void)
{
	u64 z = random_state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* ---- slots in use -------------------------------------------------------------- */

/* As pageout gives a slot its result. */
static void install(struct slot_id id, const struct pageout_result *r)
{
	struct slot *s = slot_at(&e->swap, id);

	where_set(s, slot_where(r->kind, r->flags, r->len, r->loc));
	s->hash_lo = r->hash_lo;
	s->hash_hi = r->hash_hi;
	zswap_stored(&e->zswap, id, objcg, r);
}

/* Fewest bytes compressed: ten million have to fit. */
static void fill(u8 *page)
{
	u64 *w = (u64 *)page;

	w[0] = ++nr_made;
	w[1] = kind == SLOT_FILLED ? nr_made : 0;
	for (u32 i = 2; i < PAGE_SIZE / 8; i++)
		w[i] = w[1];
}

/* Slots index[0..nr), at most a batch, are made (again). */
static void make(const u32 *index, u32 nr)
{
	struct pageout_result r[WRITEBACK_BATCH];
	enum zswap_refusal why[WRITEBACK_BATCH];
	const void *content[WRITEBACK_BATCH];
	struct slot_id id[WRITEBACK_BATCH];

	for (u32 i = 0; i < nr; i++) {
		content[i] = pages + i * PAGE_SIZE;
		fill(pages + i * PAGE_SIZE);
		if (slot_alloc(&e->swap, &task->slots, objcg, &id[i]))
			die("no slot");
		zswap_store(&e->zswap, &task->codec, objcg, content[i], &r[i], &why[i]);
		slot[index[i]] = id[i];
	}
	if (kind == SLOT_STORE &&
	    zswap_store_out(&e->zswap, &task->codec, task->buf, content, why, id, nr, r))
		die("the store does not take it");
	for (u32 i = 0; i < nr; i++) {
		if (r[i].kind != kind)
			die("it went elsewhere");
		install(id[i], &r[i]);
	}
}

static void make_all(const u32 *index, u32 nr)
{
	for (u32 i = 0; i < nr; i += WRITEBACK_BATCH)
		make(index + i, min_of(nr - i, WRITEBACK_BATCH));
}

/* ---- the measurement ------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

/* index[0..nr) becomes a random choice of all. */
static void choose(u32 *index, u32 all, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		u32 k = i + (u32)(next() % (all - i)), t = index[i];

		index[i] = index[k];
		index[k] = t;
	}
}

static void measure(u32 *index, u32 all, u32 *ns, u32 nr)
{
	u32 row = min_of(ROW, all);

	for (u32 done = 0; done < nr; done += row) {
		choose(index, all, row);
		for (u32 i = 0; i < row && done + i < nr; i++) {
			u64 since = os_now_ns();

			slot_drop(&e->swap, &task->slots, slot[index[i]]);
			ns[done + i] = (u32)(os_now_ns() - since);
		}
		make_all(index, min_of(row, nr - done));
	}
}

static u32 clock_ns(void)
{
	u32 ns[ROW];

	for (u32 i = 0; i < ROW; i++) {
		u64 since = os_now_ns();

		ns[i] = (u32)(os_now_ns() - since);
	}
	qsort(ns, ROW, sizeof(ns[0]), by_value);
	return ns[ROW / 2];
}

static void set_up(void)
{
	struct engine_config cfg = {
		.flags = kind == SLOT_STORE ? ENGINE_NO_ZSWAP : 0,
		.pager = "fake",
		.segment_fd = -1,
		.store_dir = getenv("TMPDIR"),
		.store_max = UINT64_MAX,
		.envp = environ,
	};

	if (engine_create(&cfg, &e) || objcg_get(e->tree, engine_home(e), &objcg))
		die("no engine");
	if (kind == SLOT_STORE && e->reclaim.ops.open_store(e))
		die(engine_why(e));
	task = map(sizeof(*task));
	task->buf = map(WRITEBACK_BATCH * PAGE_SIZE);
	pages = map(WRITEBACK_BATCH * PAGE_SIZE);
}

int main(int argc, char **argv)
{
	u32 all = argc == 4 ? (u32)strtoul(argv[2], NULL, 10) : 0;
	u32 nr = argc == 4 ? (u32)strtoul(argv[3], NULL, 10) : 0;
	u32 *index, *ns;
	double sum = 0, made;

	if (!all || !nr || strchr("wzs", argv[1][0]) == NULL)
		return fprintf(stderr, "see the head of bench/slots.c\n"), 2;
	kind = argv[1][0] == 'w' ? SLOT_FILLED : argv[1][0] == 'z' ? SLOT_ZSWAP : SLOT_STORE;
	set_up();
	index = map(all * sizeof(*index));
	ns = map(nr * sizeof(*ns));
	slot = map(all * sizeof(*slot));
	for (u32 i = 0; i < all; i++)
		index[i] = i;
	made = (double)os_now_ns();
	make_all(index, all);
	made = ((double)os_now_ns() - made) / all;
	measure(index, all, ns, nr);
	if (memcg_usage(e->tree, MEMCG_ROOT, COUNTER_SWAP) != all)
		die("slots were lost");
	for (u32 i = 0; i < nr; i++)
		sum += ns[i];
	qsort(ns, nr, sizeof(*ns), by_value);
	printf("kind=%s slots=%u samples=%u clock_ns=%u make=%.0f mean=%.0f p50=%u p99=%u "
	       "p999=%u max=%u\n",
	       argv[1], all, nr, clock_ns(), made, sum / nr, ns[nr / 2], ns[(u64)nr * 99 / 100],
	       ns[(u64)nr * 999 / 1000], ns[nr - 1]);
	return 0;
}
