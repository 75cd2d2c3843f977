/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fault.c - a page comes in while somebody else wants it in, or out.
 */
#include "race.h"

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

static void unmap(void *ctx)
{
	(void)ctx;
	rig_unmap(rig, 1, 2);
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

/* ---- fault and reclaim ------------------------------------------------------------ */

RACE(I5_write_and_unmap, .setup = mapped, .body = { write_0, unmap }, .preemptions = 3)
