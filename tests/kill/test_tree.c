/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tree.c - a member of a tree killed at any step of what it does there: another
 * member, which was there before, closes its record, and nothing of it is left: charge,
 * gauge, handle, group, record or lock.  And stopped at any step: nothing that others do
 * takes long, and nothing is wrong when it goes on.
 *
 * time: 300
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/os.h"
#include "memcg/internal.h"
#include "memcg/move.h"
#include "steps.h"

/* Of CI; a rebuild writes each bucket of the index. */
#define STRIDE 7
#define STRIDE_REBUILD 101

/* The survivor. */
static struct meta meta;
static struct memcg_tree *tree;
static struct memcg_id shared;
static struct objcg_id mine;
static int fd;
static u64 at_step;

/* The victim; whose memory it is does not matter. */
static struct meta its_meta;
static struct memcg_tree *its;
static struct memcg_id its_group, its_second;
static struct objcg_id on_shared, on_own, on_second;
static struct memcg_stock stock;

/* Not ASSERT, which would go on in the parent's test. */
#define MUST(e) ((e) ? (void)0 : _exit(__LINE__ % 200 + 1))

/* ---- the survivor ------------------------------------------------------------------- */

static void survivor_init(void)
{
	fd = os_memfd_create("quire-test", 1);
	ASSERT_OK(fd);
	ASSERT_OK(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &tree));
	ASSERT_OK(memcg_create_path(tree, "a/shared", &shared));
	memcg_set_protection(tree, shared, 4, 1000);
	ASSERT_OK(objcg_get(tree, shared, &mine));
	memcg_charge_force(tree, mine, 10);
	ASSERT_OK(memcg_swap_try_charge(tree, mine, 3));
	memcg_zswap_charge(tree, mine, 5000);
	memcg_stat_add(tree, mine, MEMCG_STAT_ANON, 10);
}

static void survivor_exit(void)
{
	memcg_tree_close(tree);
	os_close(fd);
	ASSERT_EQ(stat_read(&meta.bytes), 0u);
}

#define STEP_EQ(a, b)                                                                              \
	do {                                                                                       \
		u64 step_a = (a), step_b = (b);                                                    \
		if (step_a != step_b)                                                              \
			FAIL("killed at %llu: %s is %lld, not %lld", (unsigned long long)at_step,  \
			     #a, (long long)step_a, (long long)step_b);                            \
	} while (0)

/* Children that will not come any more: not ten seconds, now. */
static u32 close_records(void)
{
	u32 nr = 0, high = seg_high(tree, SEG_MEMBERS, NR_MEMBERS);

	for (u32 n = 0; n < high; n++) {
		struct member *m = seg_member(tree, n);
		u32 state = atomic32_load(&m->state);

		if (state == MEMBER_FORKING || state == MEMBER_ARRIVING)
			m->boot_ns -= 11 * NSEC_PER_SEC;
	}
	(void)member_reap(tree);
	for (u32 n = 0; n < high; n++) {
		nr += member_alive(tree, n);
		/* What quire rm goes by. */
		STEP_EQ(member_alive(tree, n), !member_info(tree, n)->end_ns);
	}
	return nr;
}

static void check_records(void)
{
	u32 nr_groups = seg_high(tree, SEG_GROUPS, NR_GROUPS_MAX), nr_free = 0, nr_mine = 0, i;
	u32 nr_objcgs = seg_high(tree, SEG_OBJCGS, NR_OBJCGS_MAX), nr_listed = 0;

	for (u32 n = 1; n < nr_groups; n++)
		nr_free += atomic32_load(&group_at(tree, n)->state) == GROUP_FREE;
	i = atomic32_load(&seg_head(tree)->area[SEG_GROUPS].free_head);
	for (; i && nr_listed < nr_groups; nr_listed++)
		i = atomic32_load(&group_at(tree, i)->hash_next);
	STEP_EQ(nr_listed, nr_free);
	nr_free = nr_listed = 0;
	for (u32 n = 1; n < nr_objcgs; n++) {
		const struct objcg *c = objcg_at(tree, n);

		nr_free += atomic32_load(&c->state) == OBJCG_FREE;
		nr_mine += atomic32_load(&c->state) == OBJCG_LIVE &&
			   atomic32_load(&c->member) != MEMBER_NOBODY;
	}
	i = atomic32_load(&seg_head(tree)->area[SEG_OBJCGS].free_head);
	for (; i && nr_listed < nr_objcgs; nr_listed++)
		i = atomic32_load(&objcg_at(tree, i)->next);
	STEP_EQ(nr_listed, nr_free);
	STEP_EQ(nr_mine, 1);
	ASSERT_LE(nr_groups, 12u);
	ASSERT_LE(nr_objcgs, 40u);
}

/* Its groups, which are nobody's now. */
static void remove_its_groups(void)
{
	struct memcg_id id = { 0 }, parent;

	while ((id = memcg_next(tree, MEMCG_ROOT, id)).v) {
		if (memcg_is_descendant(tree, shared, id) || memcg_nr_descendants(tree, id))
			continue;
		STEP_EQ(memcg_usage(tree, id, COUNTER_MEMORY), 0);
		ASSERT_OK(memcg_remove(tree, id, &parent));
		id.v = 0;
	}
	while ((id = memcg_next_offline(tree, (struct memcg_id){ 0 })).v)
		memcg_release(tree, id);
	STEP_EQ(memcg_nr_dying(tree), 0);
	STEP_EQ(memcg_nr_descendants(tree, MEMCG_ROOT), 2);
}

static void check_all(u64 at)
{
	struct memcg_stats s;

	at_step = at;
	STEP_EQ(close_records(), 1);
	STEP_EQ(atomic64_load(&seg_head(tree)->lock_owner), 0);
	STEP_EQ(atomic32_load(&seg_head(tree)->seq) & 1, 0);
	STEP_EQ(memcg_usage(tree, MEMCG_ROOT, COUNTER_MEMORY), 12);
	STEP_EQ(memcg_usage(tree, shared, COUNTER_MEMORY), 12);
	STEP_EQ(memcg_usage(tree, shared, COUNTER_SWAP), 3);
	STEP_EQ(memcg_zswap_bytes(tree, shared), 5000);
	STEP_EQ(memcg_zswap_bytes(tree, MEMCG_ROOT), 5000);
	memcg_check(tree);
	memcg_stats_read(tree, MEMCG_ROOT, &s);
	for (u32 n = 0; n < MEMCG_NR_STATS; n++)
		if (memcg_stat_is_gauge(n) && n != MEMCG_STAT_ANON && n != MEMCG_STAT_ZSWAP)
			STEP_EQ(s.v[n], 0);
	STEP_EQ(s.v[MEMCG_STAT_ANON], 10);
	STEP_EQ(s.v[MEMCG_STAT_ZSWAP], 5000);
	remove_its_groups();
	memcg_check(tree);
	check_records();
}

/* ---- while another is stopped -------------------------------------------------------- */

enum { CHARGE, LOOK, REAP, RELEASE, CHANGE, NR_TIMED };

static const char *const timed_name[] = { "charge", "look", "reap", "release", "change" };
static u64 longest_ns[NR_TIMED], nr_refused, nr_met, nr_late;

/* What threads do that serve faults, reclaim and tick. */
static void timed(u32 what)
{
	struct memcg_stats s;
	struct memcg_id id;

	switch (what) {
	case CHARGE:
		memcg_charge_force(tree, mine, 1);
		memcg_zswap_charge(tree, mine, 100);
		memcg_zswap_uncharge(tree, mine, 100);
		memcg_uncharge(tree, NULL, mine, 1);
		break;
	case LOOK:
		memcg_stats_read(tree, MEMCG_ROOT, &s);
		(void)!memcg_lookup(tree, "a/shared/own", &id);
		(void)member_share(tree, MEMCG_ROOT);
		member_ring_others(tree, MEMCG_ROOT);
		(void)member_largest(tree, MEMCG_ROOT);
		break;
	case REAP:
		(void)member_reap(tree);
		break;
	case RELEASE:
		if ((id = memcg_next_offline(tree, (struct memcg_id){ 0 })).v)
			memcg_release(tree, id);
		break;
	default:
		nr_refused += memcg_create(tree, MEMCG_ROOT, "brief", &id) == -ETIMEDOUT ||
			      memcg_remove(tree, id, &id) == -ETIMEDOUT;
	}
}

static void meet_stopped(u64 at)
{
	(void)at;
	nr_met++;
	for (u32 n = 0; n < NR_TIMED; n++) {
		u64 start = os_now_ns(), ns;

		timed(n);
		ns = os_now_ns() - start;
		nr_late += ns > 50 * NSEC_PER_MSEC;
		longest_ns[n] = max_of(longest_ns[n], ns);
	}
}

/* Killed, then stopped. */
static void kill_each(void (*prepare)(void), void (*scenario)(void), u64 stride)
{
	survivor_init();
	steps_each(prepare, scenario, check_all, stride);
	memset(longest_ns, 0, sizeof(longest_ns));
	nr_refused = nr_met = nr_late = 0;
	steps_each_stopped(prepare, scenario, check_all, meet_stopped, stride);
	survivor_exit();
	printf("# longest, us:");
	for (u32 n = 0; n < NR_TIMED; n++)
		printf(" %s %llu", timed_name[n], (unsigned long long)longest_ns[n] / 1000);
	printf("; refused %llu, over 50 ms %llu\n", (unsigned long long)nr_refused,
	       (unsigned long long)nr_late);
	/* We may have been off the processor. */
	ASSERT_LE(nr_late, 2 + nr_met / 20);
}

/* ---- the victim --------------------------------------------------------------------- */

static void come(void)
{
	MUST(!memcg_tree_attach(&its_meta, fd, MEMCG_ATTACH_MORE, &its));
	MUST(!memcg_create_path(its, "a/shared/own", &its_group));
	MUST(!memcg_create_path(its, "a/second", &its_second));
	memcg_set_max(its, its_second, COUNTER_MEMORY, 20);
	memcg_set_max(its, its_second, COUNTER_SWAP, 4);
	MUST(!objcg_get(its, shared, &on_shared));
	MUST(!objcg_get(its, its_group, &on_own));
	MUST(!objcg_get(its, its_second, &on_second));
	stock = (struct memcg_stock){ 0 };
}

static void charge_some(void)
{
	struct memcg_id over;

	MUST(!memcg_try_charge(its, &stock, on_shared, 3, &over));
	MUST(!memcg_try_charge(its, NULL, on_own, 3, &over));
	MUST(!memcg_swap_try_charge(its, on_own, 2));
	memcg_zswap_charge(its, on_own, 9000);
	memcg_stat_add(its, on_own, MEMCG_STAT_ANON, 3);
	memcg_set_overhead(its, on_shared, MEMCG_STAT_KERNEL, 6);
}

/* A record half made, in place of one that was another's, too. */
static void come_only(void)
{
	MUST(!memcg_tree_attach(&its_meta, fd, MEMCG_ATTACH_MORE, &its));
	memcg_tree_close(its);
}

TEST(come_only)
{
	kill_each(NULL, come_only, 1);
}

static void come_and_go(void)
{
	come();
	charge_some();
	MUST(!member_set_home(its, its_group));
	MUST(!member_set_quiet(its, true));
	memcg_tree_close(its);
}

TEST(come_and_go)
{
	kill_each(NULL, come_and_go, STRIDE);
}

static void charge_and_uncharge(void)
{
	enum page_counter_kind kind;
	struct memcg_id over;

	charge_some();
	memcg_set_protection(its, its_group, 2, 5);
	MUST(memcg_try_charge(its, NULL, on_second, 21, &over) == -ENOMEM);
	MUST(!memcg_try_charge(its, &stock, on_second, 5, &over));
	MUST(memcg_swap_try_charge(its, on_second, 5) == -ENOMEM);
	MUST(!memcg_try_move_charge(its, on_own, on_second, 2, &over));
	MUST(!memcg_try_swap_move(its, on_own, on_second, 2, &over));
	MUST(!memcg_try_zswap_move(its, on_own, on_second, 9000, &over, &kind));
	memcg_move_charge(its, on_second, on_shared, 2);
	memcg_swap_move(its, on_second, on_own, 1);
	memcg_zswap_uncharge(its, on_second, 4000);
	memcg_swap_uncharge(its, on_own, 1);
	memcg_set_shared(its, on_shared, 4);
	memcg_set_overhead(its, on_shared, MEMCG_STAT_KERNEL, 2);
	memcg_set_shared(its, on_shared, 1);
	memcg_uncharge(its, NULL, on_shared, 2);
	memcg_uncharge(its, &stock, on_shared, 3);
	memcg_drain_stock(its, &stock);
	memcg_set_protection(its, its_group, 0, 0);
}

TEST(charge_and_uncharge)
{
	kill_each(come, charge_and_uncharge, STRIDE);
}

/* ---- groups go ---------------------------------------------------------------------- */

static void come_and_charge(void)
{
	come();
	charge_some();
}

static void remove_groups(void)
{
	struct memcg_id parent, id, below;

	MUST(!memcg_create(its, its_group, "below", &below));
	MUST(!memcg_remove(its, below, &parent));
	MUST(!memcg_remove(its, its_group, &parent));
	MUST(parent.v == shared.v);
	while ((id = memcg_next_offline(its, (struct memcg_id){ 0 })).v)
		memcg_release(its, id);
	objcg_put(its, on_own); /* still charged */
	memcg_zswap_uncharge(its, on_own, 9000);
	objcg_put(its, on_second);
	MUST(!objcg_get(its, its_second, &on_second));
	MUST(!memcg_remove(its, its_second, &parent));
	memcg_tree_close(its);
}

TEST(groups_go)
{
	kill_each(come_and_charge, remove_groups, STRIDE);
}

/* As `quire rm` does. */
static void remove_as_nobody(void)
{
	struct memcg_id parent;

	its = NULL;
	MUST(!memcg_tree_attach(&its_meta, fd, MEMCG_ATTACH_NOBODY, &its));
	(void)member_reap(its);
	MUST(!memcg_remove(its, its_group, &parent));
	MUST(!memcg_remove(its, its_second, &parent));
	memcg_tree_close(its);
}

static void come_and_die(void)
{
	pid_t pid = fork();

	if (!pid) {
		come_and_charge();
		_exit(0);
	}
	MUST(waitpid(pid, NULL, 0) == pid);
	MUST(!memcg_lookup(tree, "a/shared/own", &its_group));
	MUST(!memcg_lookup(tree, "a/second", &its_second));
}

TEST(removed_by_nobody)
{
	kill_each(come_and_die, remove_as_nobody, STRIDE);
}

/* ---- fork --------------------------------------------------------------------------- */

static void fork_and_go(void)
{
	pid_t pid;

	MUST(!memcg_tree_fork_prepare(its, (u32)os_gettid()));
	memcg_tree_fork_again(its);
	pid = fork();
	if (!pid) {
		MUST(!memcg_tree_fork_child(its));
		memcg_tree_fork_settle(its, on_shared);
		memcg_uncharge(its, NULL, on_own, 1);
		memcg_tree_close(its);
		return;
	}
	memcg_tree_fork_parent(its);
	memcg_uncharge(its, NULL, on_own, 3);
	MUST(waitpid(pid, NULL, 0) == pid);
	MUST(!memcg_tree_fork_prepare(its, (u32)os_gettid()));
	memcg_tree_fork_failed(its, (u32)os_gettid());
	memcg_tree_fork_parent(its);
	memcg_tree_close(its);
}

TEST(fork_and_go)
{
	kill_each(come_and_charge, fork_and_go, STRIDE);
}

/* ---- who repairs is killed, too ----------------------------------------------------- */

/* Dead in the middle of a change, and of a charge. */
static void die_dirty(void)
{
	pid_t pid = fork();

	if (!pid) {
		come_and_charge();
		(void)page_counter_charge(its, its_group.v, COUNTER_MEMORY, 64, shared.v);
		if (segment_lock(its))
			_exit(1);
		segment_change_begin(its);
		atomic32_store(&group_at(its, shared.v)->child_first, 0);
		atomic32_store(&group_at(its, its_second.v)->state, GROUP_OFFLINE);
		atomic64_store(&group_at(its, its_second.v)->removal,
			       1 + atomic64_load(&seg_head(its)->nr_removed));
		atomic32_store(&group_at(its, its_second.v)->others, 1);
		_exit(0);
	}
	MUST(waitpid(pid, NULL, 0) == pid);
}

static void repair_and_join(void)
{
	come();
	charge_some();
	(void)member_reap(its);
	memcg_tree_close(its);
}

TEST(repair)
{
	kill_each(die_dirty, repair_and_join, STRIDE_REBUILD);
}
