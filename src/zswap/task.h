/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.h - what an engine thread carries: thread, stock, slot numbers, codec.
 */
#ifndef QUIRE_ZSWAP_TASK_H
#define QUIRE_ZSWAP_TASK_H

#include "zswap/zswap.h"

struct task {
	struct thread thread; /* first: thread_self() is the task */
	struct memcg_stock stock;
	struct slot_cache slots;
	struct codec codec;
	u8 *window; /* of a fault, READAHEAD_MAX pages; NULL: one page at a time */
	u8 *buf; /* WRITEBACK_BATCH pages of work memory; NULL on fault threads */
	void *engine;
};

static inline struct task *task_self(void)
{
	return (struct task *)thread_self();
}

#endif
