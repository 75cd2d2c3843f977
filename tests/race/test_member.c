/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_member.c - several members of one segment.
 *
 * Ours, one that died with charges, one that finds it and closes its record: what the
 * dead one had charged goes back, and no more (L2); removed groups wait for it no longer
 * (L4); totals above are those of the living (L6).  And two who remove a group and its
 * parent: neither waits for the other holding what that one needs (L1).
 * tsan
 */
#include <errno.h>
#include <string.h>

#include "memcg/counters.h"
#include "memcg/internal.h"
#include "base/os.h"
#include "bodies.h"

static struct memcg_tree *dead, *reaper;
static struct objcg_id dead_handle;
static u64 nr_faults; /* counted, by the dead too */

/* ---- beginnings ------------------------------------------------------------------ */

static void three_members(void)
{
	struct memcg_id over;
	struct objcg_id d = { 0 };
	int err = memcg_tree_join(&rig->e->mm.meta, rig->e->tree, &dead);

	err = err ? err : memcg_tree_join(&rig->e->mm.meta, rig->e->tree, &reaper);
	/* It holds nothing: nobody waits for it. */
	err = err ? err : member_set_quiet(reaper, true);
	err = err ? err : objcg_get(dead, rig->c, &dead_handle);
	quire_assert(!err && dead->self != reaper->self);
	err = memcg_try_charge(dead, NULL, dead_handle, 3, &over);
	err = err ? err : memcg_swap_try_charge(dead, dead_handle, 2);
	memcg_zswap_charge(dead, dead_handle, PAGE_SIZE + 1);
	memcg_stat_add(dead, dead_handle, MEMCG_STAT_PGFAULT, 7);
	nr_faults = rig_stat(rig, MEMCG_STAT_PGFAULT);
	/* Our pages are elsewhere: the group can be removed. */
	err = err ? err : objcg_get(rig->e->tree, rig->d, &d);
	quire_assert(!err);
	rig_assign(rig, 0, RIG_PAGES, d);
}

/* A group was removed; we and the dead one have not let go of it. */
static void waits_for_the_dead(void)
{
	struct memcg_id parent;
	int err;

	three_members();
	err = memcg_remove(rig->e->tree, rig->c, &parent);
	quire_assert(!err);
}

/* It died with as many pages on the counters, and not in its total, as another will charge. */
static void died_charging(void)
{
	three_members();
	rig->e->tree->seg->shared = true;
	counters_begin(dead);
	(void)page_counter_charge(dead, rig->c.v, COUNTER_MEMORY, 2, 0);
}

/* ---- bodies ---------------------------------------------------------------------- */

/* As member_reap() does when it finds that the process is gone. */
static void reap(void *ctx)
{
	int err = segment_lock(reaper);

	(void)ctx;
	quire_assert(!err);
	segment_change_begin(reaper);
	member_leave(reaper, dead->self);
	rebuild_due_counters(reaper);
	segment_change_end(reaper);
	segment_unlock(reaper);
}

static void charge_and_uncharge(void *ctx)
{
	struct memcg_tree *t = rig->e->tree;
	struct memcg_id over;
	int err;

	(void)ctx;
	gate_enter(&rig->e->fault_gate);
	err = memcg_try_charge(t, NULL, rig->objcg, 2, &over);
	quire_assert(!err);
	memcg_uncharge(t, NULL, rig->objcg, 2);
	gate_leave(&rig->e->fault_gate);
}

static void charge_and_keep(void *ctx)
{
	struct memcg_id over;
	int err;

	(void)ctx;
	gate_enter(&rig->e->fault_gate);
	err = memcg_try_charge(rig->e->tree, NULL, rig->objcg, 2, &over);
	quire_assert(!err);
	memcg_zswap_charge(rig->e->tree, rig->objcg, 1);
	gate_leave(&rig->e->fault_gate);
}

static void release(void *ctx)
{
	(void)ctx;
	memcg_release(rig->e->tree, rig->c);
}

/* A group comes into being where the records of handles go. */
static void create(void *ctx)
{
	struct memcg_id id;
	struct objcg_id o;
	int err = memcg_create(reaper, rig->p, "new", &id);

	(void)ctx;
	err = err ? err : objcg_get(reaper, id, &o);
	quire_assert(!err);
	objcg_put(reaper, o);
}

/* ---- ends ------------------------------------------------------------------------ */

/* Nothing is charged below p but these pages; what was counted is counted still. */
static void left_over(u64 pages)
{
	struct memcg_tree *t = rig->e->tree;

	quire_assert(!member_alive(t, dead->self));
	quire_assert(memcg_usage(t, rig->p, COUNTER_MEMORY) == pages);
	quire_assert(!memcg_usage(t, rig->p, COUNTER_SWAP));
	quire_assert(rig_stat(rig, MEMCG_STAT_PGFAULT) == nr_faults);
	quire_assert(!memcg_nr_dying(t));
	memcg_check(t);
	memcg_tree_close(dead);
	memcg_tree_close(reaper);
}

static void nothing(void)
{
	left_over(0);
}

static void what_we_kept(void)
{
	left_over(3);
	memcg_uncharge(rig->e->tree, NULL, rig->objcg, 2);
	memcg_zswap_uncharge(rig->e->tree, rig->objcg, 1);
}

/* Also where somebody charged whenever it was tried: once more. */
static void recounted(void)
{
	int err = segment_lock(reaper);

	quire_assert(!err);
	rebuild_due_counters(reaper);
	segment_unlock(reaper);
	rig->e->tree->seg->shared = false;
	nothing();
}

RACE(L2_recount_and_charge, .setup = died_charging, .body = { reap, charge_and_uncharge },
     .check = recounted, .preemptions = 2, .mutants = { MUTANT_recount_looks_once })
RACE(L2_reap_and_charge, .setup = three_members, .body = { reap, charge_and_uncharge },
     .check = nothing, .preemptions = 3)
RACE(L2_reap_and_kept_charge, .setup = three_members, .body = { reap, charge_and_keep },
     .check = what_we_kept, .preemptions = 2)
RACE(L2_reap_and_remove, .setup = three_members, .body = { reap, remove_group }, .check = nothing,
     .preemptions = 2, .mutants = { MUTANT_leave_keeps_dying })
RACE(L2_reap_charge_and_remove, .setup = three_members,
     .body = { reap, charge_and_uncharge, remove_group }, .check = nothing, .preemptions = 2,
     .mutants = { MUTANT_leave_keeps_dying })
RACE(L4_reap_and_release, .setup = waits_for_the_dead, .body = { reap, release }, .check = nothing,
     .preemptions = 3, .mutants = { MUTANT_leave_keeps_dying })
RACE(L5_reap_and_create, .setup = three_members, .body = { reap, create }, .check = nothing,
     .preemptions = 2)

/* ---- a forked child that comes late (fork.c) -------------------------------------------- */

static struct {
	struct meta meta;
	int fd;
	struct memcg_tree *us, *other, child;
	struct segment child_segment; /* by copy-on-write */
	struct objcg_id o;
	bool came;
} late;

/* Our child is made, and the others may give it up by now. */
static void child_is_late(void)
{
	struct memcg_id over, group;
	int err;

	late.fd = os_memfd_create("quire-race", 1);
	err = memcg_tree_attach(&late.meta, late.fd, MEMCG_ATTACH_MORE, &late.us);
	err = err ? err : memcg_tree_attach(&late.meta, late.fd, MEMCG_ATTACH_MORE, &late.other);
	err = err ? err : memcg_create_path(late.us, "a", &group);
	err = err ? err : objcg_get(late.us, group, &late.o);
	err = err ? err : memcg_try_charge(late.us, NULL, late.o, 3, &over);
	quire_assert(late.fd >= 0 && !err);
	memcg_zswap_charge(late.us, late.o, PAGE_SIZE + 1);
	err = memcg_tree_fork_prepare(late.us, 1);
	quire_assert(!err);
	seg_member(late.us, late.us->fork_member)->boot_ns -= 11 * NSEC_PER_SEC;
	late.us->fork_boot_ns -= 11 * NSEC_PER_SEC;
	memcpy(&late.child, late.us, offsetof(struct memcg_tree, handle[late.us->nr_handles]));
	late.child_segment = *late.us->seg;
	late.child.seg = &late.child_segment;
	late.came = false;
}

static void arrive_and_settle(void *ctx)
{
	(void)ctx;
	if (memcg_tree_fork_child(&late.child))
		return;
	memcg_tree_fork_settle(&late.child, late.o);
	memcg_uncharge(&late.child, NULL, late.o, 1);
	memcg_set_shared(&late.child, late.o, 0);
	late.came = true;
}

static void give_up(void *ctx)
{
	(void)ctx;
	(void)member_reap(late.other);
}

static void charge_one(void *ctx)
{
	(void)ctx;
	memcg_charge_force(late.us, late.o, 1);
	memcg_uncharge(late.us, NULL, late.o, 1);
}

/* It is a member, and has what it had but one page; or there never was one. */
static void there_or_not(void)
{
	u64 usage = memcg_usage(late.other, MEMCG_ROOT, COUNTER_MEMORY);

	memcg_check(late.other);
	quire_assert(usage == (late.came ? 5 + 4 : 5));
	quire_assert(member_alive(late.other, 2) == late.came);
	if (late.came) {
		memcg_uncharge(&late.child, NULL, late.o, 2);
		memcg_zswap_uncharge(&late.child, late.o, PAGE_SIZE + 1);
		seg_member(late.other, 2)->info.pid = 0;
		seg_member(late.other, 2)->boot_ns = 0;
	}
	memcg_uncharge(late.us, NULL, late.o, 3);
	memcg_zswap_uncharge(late.us, late.o, PAGE_SIZE + 1);
	memcg_tree_fork_parent(late.us);
	memcg_tree_close(late.us);
	memcg_tree_close(late.other);
	os_close(late.fd);
}

RACE(L2_late_child_is_given_up, .setup = child_is_late, .body = { arrive_and_settle, give_up },
     .check = there_or_not, .preemptions = 2, .mutants = { MUTANT_give_up_unasked })
RACE(L2_late_child_and_charge, .setup = child_is_late,
     .body = { arrive_and_settle, give_up, charge_one }, .check = there_or_not, .preemptions = 2)

/* ---- one removes a group, another its parent (races.md 1.4, D1) --------------------- */

static struct memcg_id grandchild;

/* A page of ours in a group below c, and its range another's by now. */
static void grandchild_in_frames(void)
{
	struct objcg_id o;
	int err = memcg_tree_join(&rig->e->mm.meta, rig->e->tree, &reaper);

	err = err ? err : memcg_create_path(rig->e->tree, "p/c/e", &grandchild);
	err = err ? err : objcg_get(rig->e->tree, grandchild, &o);
	quire_assert(!err);
	rig_assign(rig, 0, RIG_PAGES, o);
	rig_make(rig, 0, 1, RIG_TEXT, RIG_FRAME);
	err = objcg_get(rig->e->tree, rig->d, &o);
	quire_assert(!err);
	rig_assign(rig, 0, RIG_PAGES, o);
}

static void others_remove_child(void *ctx)
{
	struct memcg_id parent;
	int err = memcg_remove(reaper, grandchild, &parent);

	(void)ctx;
	quire_assert(!err && parent.v == rig->c.v);
	memcg_release(reaper, grandchild);
}

static void remove_parent(void *ctx)
{
	(void)ctx;
	/* Refused, not kept waiting, while the child is there. */
	while (offline_group(rig->e, rig->c, ENGINE_REMOVE_EMPTY) == -EBUSY)
		sync_relax();
	offline_release(rig->e);
}

static void fault_0(void *ctx)
{
	(void)ctx;
	(void)rig_fault(rig, 1, 0);
}

static void both_removed(void)
{
	quire_assert(!memcg_online(rig->e->tree, rig->c));
	quire_assert(!memcg_online(rig->e->tree, grandchild));
	quire_assert(!memcg_nr_dying(rig->e->tree));
	memcg_tree_close(reaper);
}

RACE(L1_two_removers, .setup = grandchild_in_frames, .body = { others_remove_child, remove_parent },
     .check = both_removed, .preemptions = 2)
RACE(L1_two_removers_and_fault, .setup = grandchild_in_frames,
     .body = { others_remove_child, remove_parent, fault_0 }, .check = both_removed,
     .random = 20000, .depth = 3, .mutants = { MUTANT_flip_moves_all_lists })
