/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fault.c - a page comes in while somebody else wants it in, or out.
 * tsan
 */
#include "bodies.h"

/* ---- bodies -------------------------------------------------------------------- */

static void read_0(void *ctx)
{
	(void)ctx;
	rig_read(rig, 0, 0);
}

static void read_0_too(void *ctx)
{
	(void)ctx;
	rig_read(rig, 1, 0);
}

static void write_0(void *ctx)
{
	(void)ctx;
	rig_write(rig, 0, 0, RIG_TEXT, 77);
}

/* ---- beginnings ---------------------------------------------------------------- */

static void mapped(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_MAPPED);
}

static void in_frame(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_FRAME);
}

static void in_pool(void)
{
	rig_make(rig, 0, 1, RIG_TEXT, RIG_POOL);
}

/* ---- two faults on one page ------------------------------------------------------ */

RACE(I1_two_first_touches, .body = { read_0, read_0_too }, .preemptions = 2)
RACE(I1_two_faults_frame, .setup = in_frame, .body = { read_0, read_0_too }, .preemptions = 2)
RACE(I1_two_faults_pool, .setup = in_pool, .body = { read_0, read_0_too }, .preemptions = 2)

/* ---- a range is taken under management while it is used --------------------------- */

static struct region fresh;

/* Pages 0 and 1 are the program's, and not known here. */
static void unknown(void)
{
	struct pager *p = &rig->e->mm.pager;

	quire_assert(!p->ops->remove_range(p, 0, fake_addr(0), 2 * PAGE_SIZE));
	rig_content(fake_access(p, fake_addr(0), true), RIG_TEXT, 7);
	rig->want[0] = (struct rig_content){ RIG_TEXT, 7 };
	quire_assert(region_find(&rig->e->mm.regions, fake_addr(0), &fresh));
	fresh.end = fresh.start + 2 * PAGE_SIZE;
}

static void adopt(void *ctx)
{
	int err = adopt_range(&rig->e->fault, &rig->task[2], &fresh);

	(void)ctx;
	quire_assert(!err);
}

static void use_both(void *ctx)
{
	(void)ctx;
	/* Not registered yet: the kernel alone serves it. */
	if (!fake_access(&rig->e->mm.pager, fake_addr(0), false))
		quire_assert(false);
	rig_read(rig, 0, 1);
}

static void reclaim_and_read(void *ctx)
{
	(void)ctx;
	rig_unmap(rig, 1, 2);
	rig_pageout(rig, 1, 2);
	rig_read(rig, 1, 0);
}

/* ---- fault and reclaim ------------------------------------------------------------ */

RACE(I5_write_and_unmap, .setup = mapped, .body = { write_0, unmap }, .preemptions = 3)
RACE(I1_adopt_and_use, .setup = unknown, .body = { adopt, use_both }, .preemptions = 3)
RACE(I1_adopt_and_reclaim, .setup = unknown, .body = { adopt, reclaim_and_read }, .preemptions = 2)
