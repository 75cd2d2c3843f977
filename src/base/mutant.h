/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mutant.h - guards that can be removed, to see that a test notices.
 *
 * A guard against a race that no test misses is either not needed or not
 * tested.  So each one reads MUTANT(name) where it decides; that is 0 in every
 * product, and in the race explorer's build the name of the one guard that
 * dev/mutants has switched off.
 */
#ifndef QUIRE_BASE_MUTANT_H
#define QUIRE_BASE_MUTANT_H

#include "base/types.h"

/* X(name): what is wrong when it is on. */
#define MUTANT_LIST(X)                                                                             \
	X(kill_in_two_steps) /* page_kill() tests PG_LRU, then leaves its note */                  \
	X(putback_ignores_note) /* page_putback() does not look for PG_DEAD */                     \
	X(lruvec_not_verified) /* the binding is not read again under the lock */                  \
	X(isolate_without_winner) /* PG_LRU is read and cleared in two steps */

enum mutant {
	MUTANT_NONE,
#define MUTANT_ENUM(name) MUTANT_##name,
	MUTANT_LIST(MUTANT_ENUM)
#undef MUTANT_ENUM
		NR_MUTANTS,
};

#ifdef QUIRE_EXPLORE
/* sync_explore.c: the guard that is off. */
enum mutant sync_explore_mutant(void);
#define MUTANT(name) unlikely(sync_explore_mutant() == MUTANT_##name)
#else
#define MUTANT(name) 0
#endif

#endif
