/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settle.h - the same place for the thread that measures, in each run.
 *
 * The scheduler moves a thread that has waited; the fault and the request thread follow it
 * after some faults and requests only (engine/placement.c).  Meanwhile each of them wakes
 * the other processor, which takes ten times as long where the machine is virtual.
 */
#ifndef QUIRE_BENCH_SETTLE_H
#define QUIRE_BENCH_SETTLE_H

#include <sched.h>
#include <stddef.h>
#include <unistd.h>

#include "check.h"

#define SETTLE_PAGES 512

/* Stay on this processor, until both of them are there too. */
static inline void settle(struct quire *q)
{
	cpu_set_t here;
	void *mem;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	if (sched_setaffinity(0, sizeof(here), &here))
		err(1, "cannot stay on a processor");
	check(quire_map(quire_root(q), SETTLE_PAGES * 4096, 0, &mem));
	for (size_t i = 0; i < SETTLE_PAGES; i++) {
		check(quire_advise(q, mem, SETTLE_PAGES * 4096, QUIRE_RANDOM));
		((volatile char *)mem)[i * 4096] = 1;
		if (i % 8 == 0)
			usleep(5000);
	}
	check(quire_unmap(q, mem, SETTLE_PAGES * 4096));
}

#endif
