/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One fault at a time: what it finds, what it brings, what it counts.
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "lib/rig.h"
#include "lib/test.h"

static struct rig *r;

static u64 served(enum fault_kind k)
{
	return hist_total(&r->e->fault.latency[k]);
}

static bool present(u32 page)
{
	return fake_flags(&r->e->mm.pager, fake_addr(page)) & FAKE_PRESENT;
}

static u64 memory(void)
{
	rig_drain(r, 0);
	return memcg_usage(r->e->tree, r->p, COUNTER_MEMORY);
}

static void finish(void)
{
	rig_drain(r, 0);
	rig_check(r);
	rig_destroy(r);
}

TEST(kinds)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_STORE);
	rig_make(r, 10, 1, RIG_TEXT, RIG_POOL);
	rig_make(r, 20, 1, RIG_FILLED, RIG_POOL);
	rig_make(r, 30, 1, RIG_TEXT, RIG_FRAME);
	for (u32 i = 0; i < 5; i++)
		rig_read(r, 0, 10 * i);
	ASSERT_EQ(served(FAULT_STORE), 1u);
	ASSERT_EQ(served(FAULT_ZSWAP), 2u); /* compressed or one word */
	ASSERT_EQ(served(FAULT_SOFT), 1u);
	ASSERT_EQ(served(FAULT_ZERO), 5u); /* first touches, the last one here */
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGFAULT), 9u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGMAJFAULT), 3u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGSOFTFAULT), 1u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_ZSWPIN), 1u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_SWPIN_ZERO), 1u);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PSWPIN), 1u);
	ASSERT_EQ(memory(), 5u);
	finish();
}

TEST(served_already)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_MAPPED);
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_DONE);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGFAULT), 1u); /* the first touch */
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGDROPPED), 0u);
	ASSERT_EQ(memory(), 1u);
	rig_read(r, 0, 0);
	finish();
}

/* A call we did not see: zeros, as the program expects, and one charge. */
TEST(dropped_behind_our_back)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_MAPPED);
	fake_forget(&r->e->mm.pager, fake_addr(0), 1);
	r->want[0].fill = RIG_ZERO;
	rig_read(r, 0, 0);
	ASSERT_EQ(rig_stat(r, MEMCG_STAT_PGDROPPED), 1u);
	ASSERT_EQ(memory(), 1u);
	finish();
}

/* A full group's fault on a page that came meanwhile needs none of its memory. */
TEST(there_is_no_room_but_it_is_there)
{
	r = rig_create(0, true);
	rig_make(r, 0, 2, RIG_TEXT, RIG_MAPPED);
	memcg_set_max(r->e->tree, r->c, COUNTER_MEMORY, 2);
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_DONE);
	ASSERT_EQ(rig_fault(r, 0, 2), FAULT_NO_MEMORY);
	ASSERT_EQ(served(FAULT_ZERO), 2u);
	ASSERT_EQ(memory(), 2u);
	finish();
}

TEST(range_is_gone)
{
	r = rig_create(0, true);
	ASSERT_OK(region_cut(&r->e->mm.regions, fake_addr(3), fake_addr(4)));
	ASSERT_EQ(rig_fault(r, 0, 3), FAULT_DONE);
	ASSERT_FALSE(present(3));
	ASSERT_EQ(memory(), 0u);
	rig_assign(r, 3, 1, r->objcg);
	finish();
}

/* cgroup-v2: memory.max: not served; what was taken for the attempt goes back. */
TEST(no_memory)
{
	r = rig_create(0, true);
	rig_make(r, 0, 2, RIG_TEXT, RIG_MAPPED);
	rig_make(r, 2, 1, RIG_TEXT, RIG_FRAME);
	rig_make(r, 3, 1, RIG_TEXT, RIG_POOL);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, memory());
	for (u32 i = 2; i < 5; i++) {
		ASSERT_EQ(rig_fault(r, 0, i), FAULT_NO_MEMORY);
		ASSERT_FALSE(present(i));
	}
	rig_drain(r, 0);
	rig_check(r);
	/* Deferred, and served when there is room. */
	fault_defer(&r->e->fault, 0, fake_addr(3), 0, r->p);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->p, 0), 0u);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->p, UINT64_MAX), 1u);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->d, UINT64_MAX), 0u);
	fault_retry_waiting(&r->e->fault, &r->task[0]);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->p, UINT64_MAX), 1u);
	rig_zap(r, 0, 0, 2);
	fault_retry_waiting(&r->e->fault, &r->task[0]);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->p, UINT64_MAX), 0u);
	ASSERT_TRUE(present(3));
	finish();
}

/* Those of a group that is full do not hold up the others. */
TEST(waiting_in_two_groups)
{
	struct objcg_id o;

	r = rig_create(0, true);
	ASSERT_OK(objcg_get(r->e->tree, r->d, &o));
	rig_assign(r, 100, 10, o);
	rig_make(r, 0, 4, RIG_TEXT, RIG_MAPPED);
	rig_drain(r, 0);
	memcg_set_max(r->e->tree, r->c, COUNTER_MEMORY, 4);
	fault_defer(&r->e->fault, 0, fake_addr(10), 0, r->c);
	fault_defer(&r->e->fault, 0, fake_addr(11), 0, r->c);
	fault_defer(&r->e->fault, 0, fake_addr(100), 0, r->d);
	fault_retry_waiting(&r->e->fault, &r->task[0]);
	ASSERT_TRUE(present(100));
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->p, UINT64_MAX), 2u);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->c, UINT64_MAX), 2u);
	memcg_set_max(r->e->tree, r->c, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	fault_retry_waiting(&r->e->fault, &r->task[0]);
	ASSERT_TRUE(present(10) && present(11));
	r->want[10].fill = r->want[11].fill = r->want[100].fill = RIG_ZERO;
	finish();
}

/* The ticker may be looking at those who wait when the program forks. */
static int forget_in_child(void)
{
	struct fault *f = &r->e->fault;

	alarm(5);
	fault_forget_waiting(f);
	if (fault_nr_waiting(f, r->p, UINT64_MAX) || f->wait_timer.nr)
		return 1;
	fault_defer(f, 0, fake_addr(0), 0, r->p);
	return fault_nr_waiting(f, r->p, UINT64_MAX) != 1;
}

TEST(child_forgets_who_waits)
{
	int status = -1;
	pid_t pid;

	r = rig_create(0, true);
	fault_defer(&r->e->fault, 0, fake_addr(0), 0, r->p);
	fault_wake_later(&r->e->fault, 0, fake_addr(1), NSEC_PER_SEC);
	mutex_lock(&r->e->fault.wait_lock);
	pid = fork();
	if (!pid)
		_exit(forget_in_child());
	mutex_unlock(&r->e->fault.wait_lock);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	fault_forget_waiting(&r->e->fault);
	finish();
}

/* cgroup-v2: memory.high: mapped at once, woken when its time has come. */
TEST(throttled_above_high)
{
	u64 now;

	r = rig_create(0, true);
	rig_make(r, 0, 64, RIG_ZERO, RIG_MAPPED);
	memcg_set_high(r->e->tree, r->p, COUNTER_MEMORY, 8);
	ASSERT_EQ(rig_fault(r, 0, 100), FAULT_DONE);
	ASSERT_TRUE(present(100));
	ASSERT_EQ(stat_read(&r->e->fault.nr_throttled), 1u);
	ASSERT_EQ(r->e->fault.wait_timer.nr, 1u);
	ASSERT_GE(memcg_event_count(r->e->tree, r->p, MEMCG_HIGH, true), 1u);
	now = rig_stat(r, MEMCG_STAT_THROTTLED_NS);
	ASSERT_GT(now, 0u);
	ASSERT_NE(fault_run_timers(&r->e->fault, 0), SYNC_FOREVER);
	ASSERT_EQ(r->e->fault.wait_timer.nr, 1u);
	ASSERT_EQ(fault_run_timers(&r->e->fault, UINT64_MAX / 2), SYNC_FOREVER);
	ASSERT_EQ(r->e->fault.wait_timer.nr, 0u);
	finish();
}

/* ---- lost bytes are never zeros ------------------------------------------------------ */

static void expect_poison(void)
{
	ASSERT_EQ(pte_type(rig_pte(r, 0)), PTE_POISONED);
	ASSERT_NULL(fake_access(&r->e->mm.pager, fake_addr(0), false));
	ASSERT_EQ(stat_read(&r->e->fault.nr_poisoned), 1u);
	ASSERT_EQ(memory(), 0u);
	ASSERT_EQ(memcg_usage(r->e->tree, r->p, COUNTER_SWAP), 0u);
	/* Given back and touched again it is an ordinary page. */
	rig_zap(r, 0, 0, 1);
	rig_read(r, 0, 0);
	finish();
}

TEST(damaged_in_the_pool)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_POOL);
	slot_at(&r->e->swap, (struct slot_id){ pte_index(rig_pte(r, 0)) })->hash_lo ^= 1;
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_DONE);
	ASSERT_EQ(stat_read(&r->e->zswap.nr_hash_mismatch), 1u);
	expect_poison();
}

TEST(damaged_in_the_store)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_NOISE, RIG_FRAME);
	ASSERT_EQ(rig_pageout(r, 0, 1), 1u);
	r->store.object[0].data[1234] ^= 1;
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_IO);
	/* Read again: the cleaner might have moved it. */
	while (fake_store_complete(&r->store))
		;
	ASSERT_GT(stat_read(&r->e->fault.nr_io_retry), 0u);
	expect_poison();
}

TEST(device_error)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_STORE);
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_IO);
	r->store.object[0].owner++; /* what is there is not ours */
	while (fake_store_complete(&r->store))
		;
	r->store.object[0].owner--;
	expect_poison();
}

/* A hardware error in the frame: it can be neither moved nor copied. */
TEST(damaged_in_its_frame)
{
	static struct failpoints fps;
	struct thread me = { .name = "test", .failpoints = &fps };

	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_FRAME);
	ASSERT_OK(failpoints_parse(&fps, "uffd_move:ENOENT@1,uffd_copy:EFAULT@1"));
	thread_attach(&me);
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_DONE);
	thread_detach();
	expect_poison();
}

/* The system's trouble, not the object's: tried again as long as it takes. */
TEST(no_memory_for_a_read)
{
	r = rig_create(0, true);
	rig_make(r, 0, 1, RIG_TEXT, RIG_STORE);
	r->store.read_error = -ENOMEM;
	ASSERT_EQ(rig_fault(r, 0, 0), FAULT_IO);
	while (fake_store_complete(&r->store))
		;
	ASSERT_EQ(stat_read(&r->e->fault.nr_poisoned), 0u);
	ASSERT_EQ(fault_nr_waiting(&r->e->fault, r->p, UINT64_MAX), 1u);
	r->store.read_error = 0;
	fault_retry_waiting(&r->e->fault, &r->task[0]);
	while (fake_store_complete(&r->store))
		;
	ASSERT_TRUE(present(0));
	finish();
}

/* ---- adoption ----------------------------------------------------------------------- */

static int scan_fails(struct pager *p, u64 addr, u64 len,
		      void (*fn)(void *ctx, u64 addr, u64 nr_pages), void *ctx)
{
	(void)p;
	(void)addr;
	(void)len;
	(void)fn;
	(void)ctx;
	return -EIO;
}

/* A thread that touches it would fault for ever: nobody knows the range. */
TEST(not_registered_when_it_cannot_be_adopted)
{
	struct pager *p;
	struct pager_ops broken;
	const struct pager_ops *ops;
	struct region range = { .start = fake_addr(4), .end = fake_addr(8) };

	r = rig_create(0, true);
	p = &r->e->mm.pager;
	ops = p->ops;
	ASSERT_OK(region_cut(&r->e->mm.regions, range.start, range.end));
	ASSERT_OK(ops->remove_range(p, 0, range.start, 4 * PAGE_SIZE));
	broken = *ops;
	broken.scan = scan_fails;
	p->ops = &broken;
	range.objcg = r->objcg;
	ASSERT_EQ(adopt_range(&r->e->fault, &r->task[0], &range), -EIO);
	p->ops = ops;
	ASSERT_NOT_NULL(fake_access(p, range.start, true));
	r->want[4].fill = RIG_ZERO;
	ASSERT_OK(region_add(&r->e->mm.regions, &range));
	ASSERT_OK(adopt_range(&r->e->fault, &r->task[0], &range));
	finish();
}

/* ---- pins ----------------------------------------------------------------------------- */

TEST(populate_brings_in_all)
{
	r = rig_create(0, true);
	rig_make(r, 0, 4, RIG_TEXT, RIG_POOL);
	rig_make(r, 4, 4, RIG_TEXT, RIG_FRAME);
	ASSERT_OK(populate_range(&r->e->fault, &r->task[0], fake_addr(0), fake_addr(8), false));
	for (u32 i = 0; i < 8; i++)
		ASSERT_EQ(rig_state(r, i), RIG_MAPPED);
	/* What was never touched stays so. */
	ASSERT_OK(populate_range(&r->e->fault, &r->task[0], fake_addr(8), fake_addr(9), false));
	ASSERT_FALSE(present(8));
	finish();
}

TEST(pin_that_does_not_fit_is_undone)
{
	r = rig_create(0, false); /* nobody here completes reads */
	rig_make(r, 0, 8, RIG_TEXT, RIG_POOL);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, memory() + 2);
	ASSERT_EQ(populate_range(&r->e->fault, &r->task[0], fake_addr(0), fake_addr(8), true),
		  -ENOMEM);
	for (u32 i = 0; i < 8; i++)
		ASSERT_EQ(pte_pins(rig_pte(r, i)), 0u);
	memcg_set_max(r->e->tree, r->p, COUNTER_MEMORY, PAGE_COUNTER_MAX);
	finish();
}

/* As many as are counted, no more: a page that is pinned once does not leave. */
TEST(pins_nest_so_far)
{
	struct fault *f;

	r = rig_create(0, true);
	f = &r->e->fault;
	rig_make(r, 0, 2, RIG_TEXT, RIG_MAPPED);
	for (u32 i = 0; i < PTE_PIN_MAX; i++)
		ASSERT_OK(populate_range(f, &r->task[0], fake_addr(1), fake_addr(2), true));
	ASSERT_EQ(populate_range(f, &r->task[0], fake_addr(0), fake_addr(2), true), -EOVERFLOW);
	ASSERT_EQ(pte_pins(rig_pte(r, 0)), 0u);
	for (u32 i = 0; i < PTE_PIN_MAX; i++) {
		ASSERT_GT(pte_pins(rig_pte(r, 1)), 0u);
		populate_unpin(f, fake_addr(1), fake_addr(2));
	}
	ASSERT_EQ(pte_pins(rig_pte(r, 1)), 0u);
	finish();
}

TEST(cool)
{
	const struct lruvec *v;

	r = rig_create(0, true);
	v = lruvec_of(&r->e->lru, r->c);
	rig_make(r, 0, 8, RIG_TEXT, RIG_FRAME);
	for (u32 i = 0; i < 8; i++)
		rig_read(r, 0, i);
	ASSERT_EQ(lruvec_nr(v, LRU_ACTIVE), 8u);
	ASSERT_EQ(populate_cool(&r->e->fault, &r->task[0], fake_addr(2), fake_addr(4), false), 2u);
	ASSERT_EQ(lruvec_nr(v, LRU_INACTIVE), 2u);
	ASSERT_EQ(rig_state(r, 2), RIG_MAPPED);
	ASSERT_EQ(populate_cool(&r->e->fault, &r->task[0], fake_addr(4), fake_addr(6), true), 2u);
	ASSERT_EQ(rig_state(r, 4), RIG_POOL);
	ASSERT_EQ(rig_state(r, 6), RIG_MAPPED);
	finish();
}
