/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bodies.h - what threads of many scenarios do: on the first two pages of the range,
 * with task 1.
 */
#ifndef QUIRE_TESTS_RACE_BODIES_H
#define QUIRE_TESTS_RACE_BODIES_H

#include "race.h"

static inline void unmap(void *ctx)
{
	(void)ctx;
	rig_unmap(rig, 1, 2);
}

static inline void pageout(void *ctx)
{
	(void)ctx;
	rig_pageout(rig, 1, 2);
}

static inline void repack(void *ctx)
{
	(void)ctx;
	(void)rig_repack(rig, 2);
}

static inline void writeback(void *ctx)
{
	(void)ctx;
	(void)rig_writeback(rig, 1, 2);
}

/* The group of those pages goes: empty, or its range is another's by now. */
static inline void remove_group(void *ctx)
{
	s64 err = offline_group(rig->e, rig->c, ENGINE_REMOVE_EMPTY);

	(void)ctx;
	quire_assert(!err);
	offline_release(rig->e);
}

#endif
