/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmstat.c - what memory.stat counts, item by item.
 *
 * Owns: the table of every line of memory.stat in print order, with unit and
 * description (the documentation is made from it); adding up a subtree.
 * Does not own: the text of the files (knob/memory.c), when items are counted
 * (whoever causes them).
 * Entry points: vmstat_item(), memcg_stat_add(), memcg_stat_read(),
 * memcg_stats_read().
 * Invariants: every enum memcg_stat is the source of at least one line;
 * anon + frames + kernel + unmanaged - shared is memory.current, but for stocks.
 * Lock ranks: none.  A count goes to one word of the charge handle, with no
 * scheduling point; a reader adds up the handles of a subtree and starts again
 * when the tree changed under it.  No deltas are pending: a read is exact.
 *
 * Lines of the kernel's that can only be 0 here are printed all the same:
 * readers of memory.stat ask for keys by name (interface.md 2.2).
 */
#include "memcg/internal.h"

#define NONE MEMCG_NR_STATS

#define NO_FILE "always 0: file-backed pages are not charged"
#define NO_KERNEL "always 0: kernel objects are not charged"
#define NO_THP "always 0: managed memory has no huge pages"
#define NO_NUMA "always 0: one node"
#define NO_LAZY "always 0: MADV_FREE acts as MADV_DONTNEED"

/* A line from one item, per node or not; from three; one that stays 0. */
#define NODE(name, unit, item, text)                                                               \
	{                                                                                          \
		name, VMSTAT_##unit, true, { MEMCG_STAT_##item, NONE, NONE }, text                 \
	}
#define LINE(name, unit, item, text)                                                               \
	{                                                                                          \
		name, VMSTAT_##unit, false, { MEMCG_STAT_##item, NONE, NONE }, text                \
	}
#define SUM(name, unit, a, b, c, text)                                                             \
	{                                                                                          \
		name, VMSTAT_##unit, false, { a, b, c }, text                                      \
	}
#define NODE_0(name, unit, text)                                                                   \
	{                                                                                          \
		name, VMSTAT_##unit, true, { NONE, NONE, NONE }, text                              \
	}
#define LINE_0(name, unit, text)                                                                   \
	{                                                                                          \
		name, VMSTAT_##unit, false, { NONE, NONE, NONE }, text                             \
	}

static const struct vmstat_item items[] = {
	NODE("anon", PAGES, ANON, "managed anonymous memory, charged and mapped"),
	NODE_0("file", PAGES, NO_FILE),
	SUM("kernel", PAGES, MEMCG_STAT_KERNEL, MEMCG_STAT_PAGETABLES, VMSTAT_ZSWAP_PAGES,
	    "quire's own memory: metadata, page tables, compressed pages"),
	NODE_0("kernel_stack", PAGES, NO_KERNEL),
	NODE("pagetables", PAGES, PAGETABLES, "page tables of the members (VmPTE)"),
	NODE_0("sec_pagetables", PAGES, NO_KERNEL),
	LINE_0("percpu", PAGES, NO_KERNEL),
	LINE_0("sock", PAGES, NO_KERNEL),
	LINE_0("vmalloc", PAGES, NO_KERNEL),
	NODE_0("shmem", PAGES, NO_FILE),
	LINE("zswap", BYTES, ZSWAP, "compressed bytes held for swapped-out pages"),
	LINE("zswapped", PAGES, ZSWAPPED,
	     "swapped-out memory whose data is compressed, uncompressed size"),
	NODE_0("file_mapped", PAGES, NO_FILE),
	NODE_0("file_dirty", PAGES, NO_FILE),
	NODE_0("file_writeback", PAGES, NO_FILE),
	NODE("swapcached", PAGES, SWAPCACHED,
	     "memory that has a slot as well: charged to memory and to swap"),
	NODE_0("anon_thp", PAGES, NO_THP),
	NODE_0("file_thp", PAGES, NO_THP),
	NODE_0("shmem_thp", PAGES, NO_THP),
	NODE("inactive_anon", PAGES, INACTIVE_ANON, "pages on the inactive list"),
	NODE("active_anon", PAGES, ACTIVE_ANON, "pages on the active list"),
	NODE_0("inactive_file", PAGES, NO_FILE),
	NODE_0("active_file", PAGES, NO_FILE),
	NODE("unevictable", PAGES, UNEVICTABLE,
	     "pages that cannot be taken for now: pinned, locked, read-only"),
	NODE_0("slab_reclaimable", PAGES, NO_KERNEL),
	NODE_0("slab_unreclaimable", PAGES, NO_KERNEL),
	LINE_0("slab", PAGES, NO_KERNEL),
	LINE_0("hugetlb", PAGES, NO_THP),
	NODE("workingset_refault_anon", COUNT, REFAULT,
	     "pages brought back that had been swapped out"),
	NODE_0("workingset_refault_file", COUNT, NO_FILE),
	NODE("workingset_activate_anon", COUNT, REFAULT_ACTIVATE,
	     "refaults soon enough to go to the active list"),
	NODE_0("workingset_activate_file", COUNT, NO_FILE),
	NODE("workingset_restore_anon", COUNT, RESTORE,
	     "refaults of pages that were active when they left"),
	NODE_0("workingset_restore_file", COUNT, NO_FILE),
	NODE_0("workingset_nodereclaim", COUNT, NO_FILE),
	NODE_0("pgdemote_kswapd", COUNT, NO_NUMA),
	NODE_0("pgdemote_direct", COUNT, NO_NUMA),
	NODE_0("pgdemote_khugepaged", COUNT, NO_NUMA),
	NODE_0("pgdemote_proactive", COUNT, NO_NUMA),
	NODE_0("pgpromote_success", COUNT, NO_NUMA),
	SUM("pgscan", COUNT, MEMCG_STAT_PGSCAN_KSWAPD, MEMCG_STAT_PGSCAN_DIRECT,
	    MEMCG_STAT_PGSCAN_PROACTIVE, "pages looked at to be reclaimed, all reasons"),
	SUM("pgsteal", COUNT, MEMCG_STAT_PGSTEAL_KSWAPD, MEMCG_STAT_PGSTEAL_DIRECT,
	    MEMCG_STAT_PGSTEAL_PROACTIVE, "pages reclaimed, all reasons"),
	LINE("pswpin", COUNT, PSWPIN, "pages read from the store"),
	LINE("pswpout", COUNT, PSWPOUT, "pages written to the store"),
	LINE("pgscan_kswapd", COUNT, PGSCAN_KSWAPD, "looked at by kswapd, ahead of need"),
	LINE("pgscan_direct", COUNT, PGSCAN_DIRECT,
	     "looked at while a fault or a limit write waited"),
	LINE_0("pgscan_khugepaged", COUNT, NO_THP),
	LINE("pgscan_proactive", COUNT, PGSCAN_PROACTIVE, "looked at for memory.reclaim"),
	LINE("pgsteal_kswapd", COUNT, PGSTEAL_KSWAPD, "reclaimed by kswapd"),
	LINE("pgsteal_direct", COUNT, PGSTEAL_DIRECT, "reclaimed while somebody waited"),
	LINE_0("pgsteal_khugepaged", COUNT, NO_THP),
	LINE("pgsteal_proactive", COUNT, PGSTEAL_PROACTIVE, "reclaimed for memory.reclaim"),
	LINE("pgfault", COUNT, PGFAULT, "faults served"),
	LINE("pgmajfault", COUNT, PGMAJFAULT, "faults that had to read or decompress"),
	LINE("pgrefill", COUNT, PGDEACTIVATE, "pages of the active list looked at"),
	LINE("pgactivate", COUNT, PGACTIVATE, "pages moved to the active list"),
	LINE("pgdeactivate", COUNT, PGDEACTIVATE, "pages moved to the inactive list"),
	LINE_0("pglazyfree", COUNT, NO_LAZY),
	LINE_0("pglazyfreed", COUNT, NO_LAZY),
	LINE("swpin_zero", COUNT, SWPIN_ZERO, "same-filled pages brought back"),
	LINE("swpout_zero", COUNT, SWPOUT_ZERO, "same-filled pages swapped out: kept as one word"),
	LINE("zswpin", COUNT, ZSWPIN, "pages decompressed"),
	LINE("zswpout", COUNT, ZSWPOUT, "pages compressed"),
	LINE("zswpwb", COUNT, ZSWPWB, "compressed pages written back to the store"),
	LINE_0("thp_fault_alloc", COUNT, NO_THP),
	LINE_0("thp_collapse_alloc", COUNT, NO_THP),
	LINE_0("thp_swpout", COUNT, NO_THP),
	LINE_0("thp_swpout_fallback", COUNT, NO_THP),
	LINE_0("numa_pages_migrated", COUNT, NO_NUMA),
	LINE_0("numa_pte_updates", COUNT, NO_NUMA),
	LINE_0("numa_hint_faults", COUNT, NO_NUMA),

	/* quire's own */
	LINE("frames", PAGES, FRAMES,
	     "pages taken from the program, still in a frame: a touch maps them back"),
	LINE("unmanaged", PAGES, UNMANAGED, "other anonymous memory of the members, sampled"),
	LINE("shared", PAGES, SHARED,
	     "of kernel and unmanaged, what processes share since a fork and others pay for"),
	LINE("metadata", PAGES, KERNEL, "descriptors, slots, pool slack; part of kernel"),
	LINE("zswpwb_stale", COUNT, ZSWPWB_STALE,
	     "compressed pages that were freed or wanted before they were written back"),
	LINE("zswpwb_failed", COUNT, ZSWPWB_FAILED,
	     "compressed pages that the store did not take: they stay"),
	LINE("stored", PAGES, STORED,
	     "swapped-out memory whose data is in the store, uncompressed size"),
	LINE("stored_bytes", BYTES, STORED_BYTES, "bytes in the store"),
	LINE("zswpout_bytes", COUNT, ZSWPOUT_BYTES,
	     "bytes those took compressed: zswpout x 4096 / this is the ratio"),
	LINE("filled", PAGES, FILLED, "swapped-out same-filled memory, kept as one word a page"),
	LINE("pgunmap", COUNT, PGUNMAP,
	     "pages taken from the program into a frame: stage one of reclaim"),
	LINE("pgunprotect", COUNT, PGUNPROTECT,
	     "pages that came in write-protected, for a read, and were written then"),
	LINE("pgrotated", COUNT, PGROTATED, "pages put back by reclaim because they were busy"),
	LINE("pgpinned", COUNT, PGPINNED, "pages reclaim could not take: pinned for direct I/O"),
	LINE("pgdropped", COUNT, PGDROPPED, "pages the program dropped behind quire's back"),
	LINE("pgsoftfault", COUNT, PGSOFTFAULT, "faults answered by mapping the frame back"),
	LINE("swpout_clean", COUNT, SWPOUT_CLEAN,
	     "pages dropped without work: the kept copy was still equal"),
	LINE("readahead", COUNT, READAHEAD, "pages brought in along with a neighbour"),
	LINE("incompressible", COUNT, INCOMPRESSIBLE, "pages the codec could not make smaller"),
	LINE("throttled_usec", USEC, THROTTLED_NS,
	     "sleep handed out for memory.high and memory.swap.high"),
	LINE("stall_usec", USEC, STALL_NS, "time faults waited for reclaim"),
	LINE("swap_stale_handoff", COUNT, SWAP_STALE_HANDOFF,
	     "slots freed by a lock holder because the last user could not wait"),
	LINE("mlocked", PAGES, MLOCKED,
	     "address space that mlock(2) keeps resident, touched or not; sampled"),
	LINE("mlock_refused", COUNT, MLOCK_REFUSED,
	     "calls of mlock(2) and its kind that asked for more than the limit can spare"),
	LINE("lru_contended", COUNT, LRU_CONTENDED, "waits for the lock of a list of pages"),
};

const struct vmstat_item *vmstat_item(u32 n)
{
	return n < ARRAY_SIZE(items) ? &items[n] : NULL;
}

bool memcg_stat_is_gauge(enum memcg_stat item)
{
	return item <= MEMCG_STAT_UNEVICTABLE;
}

/* ---- counting and adding up --------------------------------------------------- */

void memcg_stat_add(struct memcg_tree *t, struct objcg_id o, enum memcg_stat item, s64 n)
{
	stat_add(&objcg_of(t, o)->stat[item], (u64)n);
}

/* Add items first..first+nr-1 of all handles of one group to v. */
static void add_group(const struct memcg_tree *t, u32 group, struct memcg_stats *s, u32 first,
		      u32 nr)
{
	const struct group *g = group_at(t, group);
	u32 i = atomic32_load(&g->objcg_first);
	const struct objcg *c;

	for (u32 n = 0; n < NR_OBJCGS_MAX && (c = objcg_at(t, i)); n++) {
		for (u32 k = first; k < first + nr; k++)
			s->v[k] += stat_read(&c->stat[k]);
		s->zswap_pages += (atomic64_peek(&c->zswap_bytes) + PAGE_SIZE - 1) >> PAGE_SHIFT;
		i = atomic32_load(&c->next);
	}
}

static void add_subtree(const struct memcg_tree *t, struct memcg_id root, struct memcg_stats *s,
			u32 first, u32 nr)
{
	for (u32 try = 0; try < SEQ_TRIES; try++) {
		u32 seq = segment_seq(t);
		struct memcg_id id = { 0 };

		*s = (struct memcg_stats){ .zswap_pages = 0 };
		while ((id = memcg_next(t, root, id)).v)
			add_group(t, id.v, s, first, nr);
		if (segment_seq_same(t, seq))
			break;
	}
	/* Taken off one handle before it is added to another. */
	for (u32 k = first; k < first + nr; k++)
		if ((s64)s->v[k] < 0)
			s->v[k] = 0;
}

u64 memcg_stat_read(const struct memcg_tree *t, struct memcg_id id, enum memcg_stat item)
{
	struct memcg_stats s;

	add_subtree(t, id, &s, item, 1);
	return s.v[item];
}

void memcg_stats_read(const struct memcg_tree *t, struct memcg_id id, struct memcg_stats *ret)
{
	add_subtree(t, id, ret, 0, MEMCG_NR_STATS);
}

static u64 source_value(const struct memcg_stats *s, u32 from)
{
	if (from == VMSTAT_ZSWAP_PAGES)
		return s->zswap_pages;
	return from < MEMCG_NR_STATS ? s->v[from] : 0;
}

u64 vmstat_value(const struct vmstat_item *it, const struct memcg_stats *s)
{
	u64 v = source_value(s, it->from[0]) + source_value(s, it->from[1]) +
		source_value(s, it->from[2]);

	switch (it->unit) {
	case VMSTAT_PAGES:
		return v << PAGE_SHIFT;
	case VMSTAT_USEC:
		return v / NSEC_PER_USEC;
	default:
		return v;
	}
}
