/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine.c - the engine's own threads, a program and a limit, at random.
 *
 * Too much for every schedule; what is found here gets a small scenario of its
 * own in another file.
 * tsan
 */
#include "race.h"

#define SECOND_QUEUE RIG_QUEUE_PAGES

/* The program: its page in place and right, then written anew. */
static void use_page(u32 page, u32 seed)
{
	struct pager *p = &rig->e->mm.pager;
	u8 want[PAGE_SIZE] __attribute__((aligned(8)));
	u8 *bytes;

	do {
		bytes = fake_access(p, fake_addr(page), true);
		quire_assert(bytes); /* SIGBUS */
		/* Gone again, on real threads. */
	} while (!rig_hold(rig, page, true));
	rig_content(want, rig->want[page].fill, rig->want[page].seed);
	quire_assert(!memcmp(bytes, want, PAGE_SIZE));
	rig->want[page] = (struct rig_content){ RIG_TEXT, seed };
	rig_content(bytes, RIG_TEXT, seed);
	fake_let_go(p);
}

static void program(void *ctx)
{
	(void)ctx;
	use_page(0, 10);
	use_page(1, 11);
	use_page(2, 12);
	use_page(0, 13);
}

static void second_program(void *ctx)
{
	(void)ctx;
	use_page(2, 20);
	use_page(SECOND_QUEUE, 21);
	use_page(1, 22);
}

static void reclaim(void *ctx)
{
	(void)ctx;
	for (u32 i = 0; i < 2; i++) {
		rig_unmap(rig, 0, 3);
		rig_pageout(rig, 0, 2);
		(void)rig_writeback(rig, 0, 2);
		fault_retry_waiting(&rig->e->fault, &rig->task[0]);
	}
}

static void clean_store(void *ctx)
{
	struct store_clean_ops up;

	(void)ctx;
	zswap_clean_ops(&rig->e->zswap, &up);
	(void)fake_store_move(&rig->store, &up);
	rig_unmap(rig, 1, 2);
}

static void unmap_range(void *ctx)
{
	(void)ctx;
	rig_zap(rig, 2, 3, 2);
	rig_zap(rig, 2, SECOND_QUEUE + 1, 1);
}

/* A page in each state there is, and some that will be unmapped. */
static void all_states(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_STORE);
	rig_make(rig, 1, 1, RIG_TEXT, RIG_POOL);
	rig_make(rig, 2, 1, RIG_TEXT, RIG_FRAME);
	rig_make(rig, 3, 2, RIG_TEXT, RIG_MAPPED);
	rig_make(rig, SECOND_QUEUE, 2, RIG_TEXT, RIG_MAPPED);
	rig_advise(rig, 0);
	rig_start_threads(rig);
}

static void stop_threads(void)
{
	rig_stop_threads(rig);
}

/* As all_states(), and so long ago that copies stay in the store. */
static void all_states_long_ago(void)
{
	all_states();
	atomic64_fetch_add(&lruvec_of(&rig->e->lru, rig->c)->age, 1000);
}

/* ---- a limit: who finds no memory waits, and is served in the end ------------------------ */

static struct task small_kswapd;

/* As kswapd_main() without its ladder of priorities. */
static void keep_room(struct thread *self)
{
	struct reclaim *rc = &rig->e->reclaim;

	(void)self;
	while (!atomic32_peek(&rc->stop)) {
		u32 seq = event_seq(rc->wake);

		rig_unmap(rig, 0, 2);
		rig_pageout(rig, 0, 2);
		(void)rig_writeback(rig, 0, 2);
		fault_retry_waiting(&rig->e->fault, &rig->task[0]);
		rig_drain(rig, 0);
		/* A charge refused to fault_retry_waiting() rings our own bell. */
		sync_relax();
		(void)event_wait(rc->wake, seq, 100 * NSEC_PER_MSEC);
	}
}

static void stop_small_kswapd(void)
{
	atomic32_store(&rig->e->reclaim.stop, 1);
	kswapd_wake(&rig->e->reclaim);
	thread_join(&small_kswapd.thread);
	stop_threads();
}

static void start_small_kswapd(void)
{
	int err;

	small_kswapd.thread = (struct thread){ .name = "small kswapd", .fn = keep_room };
	err = thread_start(&small_kswapd.thread);
	quire_assert(!err);
}

static void small_limit(void)
{
	all_states();
	memcg_set_max(rig->e->tree, rig->p, COUNTER_MEMORY, 7);
	start_small_kswapd();
}

RACE(I4_limit, .setup = small_limit, .body = { program, second_program, unmap_range },
     .stop = stop_small_kswapd, .random = 5000, .depth = 4)

/* ---- a neighbour's read fails: who has met it on its way is not forgotten ------------- */

static void scan_fails(void)
{
	rig_make(rig, 0, 2, RIG_TEXT, RIG_STORE);
	rig_advise(rig, REGION_SEQUENTIAL);
	rig->store.now_max = 1;
	rig->store.nr_no_memory = 2 * 9; /* both pages, each tried again eight times */
	rig_start_threads(rig);
	start_small_kswapd();
}

static void use_0(void *ctx)
{
	(void)ctx;
	use_page(0, 10);
}

static void use_1(void *ctx)
{
	(void)ctx;
	use_page(1, 11);
}

RACE(I4_refused_neighbour, .setup = scan_fails, .body = { use_0, use_1 }, .stop = stop_small_kswapd,
     .random = 5000, .depth = 3, .mutants = { MUTANT_neighbour_left_asleep })

RACE(I1_engine, .setup = all_states, .body = { program, second_program, reclaim, unmap_range },
     .stop = stop_threads, .random = 20000, .depth = 4)
RACE(I1_engine_with_copies, .setup = all_states_long_ago,
     .body = { program, second_program, reclaim, clean_store, unmap_range }, .stop = stop_threads,
     .random = 20000, .depth = 5)
