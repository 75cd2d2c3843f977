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
	X(mutex_forgets_sleepers) /* who has slept takes the lock as if nobody else slept */       \
	X(event_looks_too_early) /* event_signal() looks for sleepers before it counts */          \
	X(gate_entered_unseen) /* gate_try_enter() looks and enters in two steps */                \
	X(waiter_counted_late) /* signal mode: a thread counts as waiting when it sleeps */        \
	X(unlock_misses_waiter) /* pte_unlock() overwrites who announced himself */                \
	X(isolate_in_two_steps) /* page_isolate() tests PG_LRU, then clears it */                  \
	X(kill_in_two_steps) /* page_kill() tests PG_LRU, then leaves its note */                  \
	X(putback_ignores_note) /* page_putback() does not look for PG_DEAD */                     \
	X(lruvec_not_verified) /* the binding of a page is not read again under the lock */        \
	X(limit_before_charge) /* usage is compared with max before it is added to */              \
	X(bytes_before_pages) /* compressed bytes count before their page is charged */            \
	X(flip_moves_all_lists) /* a removal re-points handles whose lists are another's */        \
	X(flip_outside_locks) /* handles move to the parent before the lists are locked */         \
	X(copy_charged_to_page) /* compressed bytes are charged to the page's payer */             \
	X(assign_ignores_owner) /* a page changes hands that reclaim has in hand */                \
	X(assign_ignores_pageout) /* the same in a frame that pageout reads */                     \
	X(assign_ignores_writeback) /* a slot changes hands that is being written back */          \
	X(assign_keeps_list) /* a compressed object stays on the old group's list */               \
	X(assign_does_not_wait) /* pages move while a fault may charge the old group */            \
	X(waiting_keeps_id) /* a fault queued for a removed group stays queued for its id */       \
	X(release_does_not_wait) /* a removed id is reused while somebody may hold it */           \
	X(give_up_unasked) /* reap() closes the record of a child that arrives just now */         \
	X(leave_keeps_dying) /* removed groups wait for a member that is gone */                   \
	X(recount_looks_once) /* who charges while the counters are counted anew is not seen */    \
	X(drop_leaves_no_note) /* slot_drop() leaves nothing for a busy party */                   \
	X(take_ignores_owner) /* a fault moves the frame that pageout reads */                     \
	X(end_steal_ignores_note) /* a copying fault does not see that pageout is done */          \
	X(cancel_steal_ignores_note) /* the same when the fault gives up */                        \
	X(end_pageout_ignores_note) /* a slot dropped during pageout stays */                      \
	X(end_pageout_ignores_steal) /* pageout empties the frame a fault copies from */           \
	X(end_steal_ignores_list) /* a page put back while its frame was copied stays listed */    \
	X(putback_ignores_slot_note) /* a slot dropped before its page was listed stays */         \
	X(unmap_does_not_ask_again) /* an owned page is taken without a look at its pte */         \
	X(copy_not_compared) /* a page leaves by its clean copy, whatever it holds */              \
	X(protected_not_asked_again) /* a page is taken for clean that was just written */         \
	X(unprotect_forgets_flag) /* a store goes on and the page still counts as clean */         \
	X(visible_before_listed) /* the pte names a page that no list has */                       \
	X(zeros_ahead_ignore_zap) /* zeros are put ahead of a fault, into such a range */          \
	X(zeros_ahead_ignore_guard) /* zeros replace guard pages made since the fault */           \
	X(fault_ignores_zap) /* a fault maps into a range that is being unmapped */                \
	X(unmap_ignores_zap) /* reclaim takes a page out of such a range */                        \
	X(readahead_ignores_zap) /* a neighbour is brought into such a range */                    \
	X(zap_range_torn) /* a fault compares with one end each of two ranges */                   \
	X(zap_published_late) /* zap_begin() waits for ptes before it says so */                   \
	X(read_not_tried_again) /* a read that met the cleaner counts as lost bytes */             \
	X(neighbour_left_asleep) /* who waits for a neighbour's read that was refused */           \
	X(read_here_poisons) /* the same where a thread of the program reads */                    \
	X(victim_not_verified) /* writeback believes what it saw on the list */                    \
	X(victim_listed_again) /* it takes an entry that was freed, reused, listed */              \
	X(kept_while_claimed) /* a fault keeps the copy that a writeback has claimed */            \
	X(kept_copy_claimed) /* writeback takes the copy of a page that is in memory */            \
	X(kept_copy_not_listed) /* such a page leaves, and its copy is on no list */               \
	X(unclaim_ignores_note) /* a failed write lists a slot that was dropped */                 \
	X(repack_ignores_note) /* a repacked object stays in a slot that was dropped */            \
	X(writeback_ignores_note) /* a finished write keeps a slot that was dropped */             \
	X(moved_not_verified) /* the cleaner's news go to a slot with other bytes */               \
	X(stored_not_verified) /* a slot is listed that was freed since it was filled */           \
	X(stored_while_claimed) /* a slot is listed that a writeback has claimed */                \
	X(zlru_not_verified) /* the binding of a slot is not read again under the lock */          \
	X(load_without_lock) /* compressed bytes are copied after the cluster lock */              \
	X(object_found_unlocked) /* zs_load() looks where an object is, then locks */

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
