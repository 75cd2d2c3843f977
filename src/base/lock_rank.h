/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock_rank.h - the lock order of quire, and its only source.
 *
 * A thread may take a lock only of a higher rank than every lock it holds;
 * debug builds check it at run time (base/sync.c).  Two locks of one rank may
 * be held only for the ranks marked so below.  Upward moves (zswap to slot,
 * compaction to slot) copy what they need, drop everything and re-verify.
 * Callbacks, doorbell waits and charge waits hold nothing but the gate.
 */
#ifndef QUIRE_BASE_LOCK_RANK_H
#define QUIRE_BASE_LOCK_RANK_H

enum lock_rank {
	LOCK_RANK_NONE = 0,
	LOCK_RANK_GATE, /* the engine's gate as reader; never checked */
	LOCK_RANK_PASSIVE, /* callers of an engine that does not run yet */
	LOCK_RANK_TREE, /* memcg tree structure, knobs that need it */
	LOCK_RANK_TABLES, /* member and objcg tables */
	LOCK_RANK_REGIONS, /* writers of the region table */
	LOCK_RANK_PTE, /* pte bit locks: ascending address within a region */
	LOCK_RANK_CLUSTER, /* 512-slot cluster */
	LOCK_RANK_LRUVEC, /* one; all slices of one group; of two only child before parent */
	LOCK_RANK_ZSWAP_LRU, /* compressed objects of one lruvec */
	LOCK_RANK_ZS_CLASS, /* one size class of zsmalloc */
	LOCK_RANK_STORE, /* store log */
	LOCK_RANK_FRAMES, /* frame pool */
	LOCK_RANK_SLAB, /* internal memory */
	LOCK_RANK_LEAF, /* events, statistics, request slots: nothing below */
};

#endif
