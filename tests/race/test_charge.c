/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_charge.c - counters, limits and stocks under concurrent charges.
 * tsan
 */
#include "race.h"

static u32 nr_charged[3]; /* by body */
static u64 usage_seen;

static void none(void)
{
	nr_charged[0] = nr_charged[1] = nr_charged[2] = 0;
}

static bool charge(u32 t, u32 nr)
{
	struct memcg_id over;

	if (memcg_try_charge(rig->e->tree, NULL, rig->objcg, nr, &over))
		return false;
	nr_charged[t] += nr;
	/* Nobody charges by force: no success is ever above the limit. */
	quire_assert(memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY) <=
		     memcg_limit(rig->e->tree, rig->p, COUNTER_MEMORY) + 4);
	return true;
}

/* Totals are what succeeded; then all of it goes back. */
static void give_back(void)
{
	u32 nr = nr_charged[0] + nr_charged[1] + nr_charged[2];

	quire_assert(memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY) == nr);
	quire_assert(nr <= memcg_limit(rig->e->tree, rig->p, COUNTER_MEMORY));
	memcg_uncharge(rig->e->tree, NULL, rig->objcg, nr);
}

/* ---- limit --------------------------------------------------------------------------- */

static void limit_3(void)
{
	none();
	memcg_set_max(rig->e->tree, rig->p, COUNTER_MEMORY, 3);
}

static void charge_2(void *ctx)
{
	(void)ctx;
	charge(0, 2);
}

static void charge_2_too(void *ctx)
{
	(void)ctx;
	charge(1, 2);
}

static void charge_and_uncharge(void *ctx)
{
	(void)ctx;
	if (!charge(2, 1))
		return;
	memcg_uncharge(rig->e->tree, NULL, rig->objcg, 1);
	nr_charged[2] = 0;
}

RACE(I3_limit_of_two, .setup = limit_3, .body = { charge_2, charge_2_too }, .check = give_back,
     .preemptions = 4, .mutants = { MUTANT_limit_before_charge })
RACE(I3_limit_of_three, .setup = limit_3, .body = { charge_2, charge_2_too, charge_and_uncharge },
     .check = give_back, .preemptions = 2, .mutants = { MUTANT_limit_before_charge })

/* Either the charge sees the new limit, or who set it sees the charge. */
static void lower_limit(void *ctx)
{
	(void)ctx;
	memcg_set_max(rig->e->tree, rig->p, COUNTER_MEMORY, 1);
	usage_seen = memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY);
}

static void seen_or_refused(void)
{
	quire_assert(!nr_charged[0] || usage_seen >= nr_charged[0]);
	memcg_uncharge(rig->e->tree, NULL, rig->objcg, nr_charged[0]);
}

RACE(I3_limit_lowered, .setup = limit_3, .body = { charge_2, lower_limit },
     .check = seen_or_refused, .preemptions = 5, .mutants = { MUTANT_limit_before_charge })

/* ---- stocks -------------------------------------------------------------------------- */

/* Buys a batch, or gives up its stock before the limit is declared hit. */
static void charge_by_stock(u32 t)
{
	struct memcg_id over;

	for (u32 i = 0; i < 2; i++)
		if (!memcg_try_charge(rig->e->tree, &rig->task[t].stock, rig->objcg, 1, &over))
			nr_charged[t]++;
	memcg_drain_stock(rig->e->tree, &rig->task[t].stock);
}

static void stock_0(void *ctx)
{
	(void)ctx;
	charge_by_stock(0);
}

static void stock_1(void *ctx)
{
	(void)ctx;
	charge_by_stock(1);
}

static void limit_65(void)
{
	none();
	memcg_set_max(rig->e->tree, rig->p, COUNTER_MEMORY, STOCK_BATCH + 1);
}

RACE(I2_stocks, .setup = limit_65, .body = { stock_0, stock_1 }, .check = give_back,
     .preemptions = 3)

/* ---- compressed bytes: a page of memory for each 4096 ----------------------------------- */

static void add_byte(void *ctx)
{
	(void)ctx;
	memcg_zswap_charge(rig->e->tree, rig->objcg, 1);
}

static void add_and_remove_rest(void *ctx)
{
	(void)ctx;
	memcg_zswap_charge(rig->e->tree, rig->objcg, PAGE_SIZE - 1);
	memcg_zswap_uncharge(rig->e->tree, rig->objcg, PAGE_SIZE - 1);
}

static void two_bytes(void)
{
	quire_assert(memcg_usage(rig->e->tree, rig->p, COUNTER_MEMORY) == 1);
	memcg_zswap_uncharge(rig->e->tree, rig->objcg, 2);
}

RACE(I2_compressed_bytes, .setup = none, .body = { add_byte, add_and_remove_rest, add_byte },
     .check = two_bytes, .preemptions = 3, .mutants = { MUTANT_bytes_before_pages })

/* ---- slots ----------------------------------------------------------------------------- */

static void swap_limit_1(void)
{
	memcg_set_max(rig->e->tree, rig->p, COUNTER_SWAP, 1);
	none();
}

static void charge_slot(u32 t)
{
	nr_charged[t] = !memcg_swap_try_charge(rig->e->tree, rig->objcg, 1);
}

static void slot_0(void *ctx)
{
	(void)ctx;
	charge_slot(0);
}

static void slot_1(void *ctx)
{
	(void)ctx;
	charge_slot(1);
}

static void at_most_one_slot(void)
{
	u32 nr = nr_charged[0] + nr_charged[1];

	quire_assert(nr <= 1 && memcg_usage(rig->e->tree, rig->p, COUNTER_SWAP) == nr);
	memcg_swap_uncharge(rig->e->tree, rig->objcg, nr);
}

RACE(I2_swap_limit, .setup = swap_limit_1, .body = { slot_0, slot_1 }, .check = at_most_one_slot,
     .preemptions = 5, .mutants = { MUTANT_limit_before_charge })
