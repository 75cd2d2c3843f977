/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swap.c - the files memory.swap.* and memory.zswap.*.
 *
 * Owns: text and write rules of interface.md 2.3 and 2.4.
 * Does not own: when a limit refuses (memcg/charge.c), what is written back.
 * Entry points: the table knob_swap.
 * Invariants: writing a limit here stores it and reclaims nothing: usage above
 * it drains as slots are faulted in or freed.
 * Lock ranks: none held.
 */
#include "knob/internal.h"

static void read_current(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_usage(t, id, COUNTER_SWAP) << PAGE_SHIFT);
}

static void read_high(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_high(t, id, COUNTER_SWAP));
}

static int write_high(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (!ret)
		memcg_set_high(t, id, COUNTER_SWAP, pages);
	return ret;
}

static void read_max(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_limit(t, id, COUNTER_SWAP));
}

static int write_max(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (!ret)
		memcg_set_max(t, id, COUNTER_SWAP, pages);
	return ret;
}

static void read_peak(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_peak(t, id, COUNTER_SWAP) << PAGE_SHIFT);
}

/* For every reader: see memory.peak in memory.c. */
static int write_peak(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	(void)text;
	(void)len;
	memcg_reset_peak(t, id, COUNTER_SWAP);
	return 0;
}

static void read_events(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_key(out, "high", memcg_event_count(t, id, MEMCG_SWAP_HIGH, false));
	knob_print_key(out, "max", memcg_event_count(t, id, MEMCG_SWAP_MAX, false));
	knob_print_key(out, "fail", memcg_event_count(t, id, MEMCG_SWAP_FAIL, false));
}

static void read_zswap_current(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_zswap_bytes(t, id));
}

static void read_zswap_max(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_limit(t, id, COUNTER_ZSWAP));
}

static int write_zswap_max(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (!ret)
		memcg_set_max(t, id, COUNTER_ZSWAP, pages);
	return ret;
}

/* The group's own setting; what counts is the AND over its ancestors. */
static void read_writeback(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_flag(t, id, MEMCG_FLAG_ZSWAP_WRITEBACK));
}

static int write_writeback(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	bool on;
	int ret = knob_parse_flag(text, len, &on);

	if (!ret)
		memcg_set_flag(t, id, MEMCG_FLAG_ZSWAP_WRITEBACK, on);
	return ret;
}

const struct knob knob_swap[] = {
	{ "memory.swap.current", "cgroup-v2: memory.swap.current", false, read_current, NULL },
	{ "memory.swap.high", "cgroup-v2: memory.swap.high", false, read_high, write_high },
	{ "memory.swap.max", "cgroup-v2: memory.swap.max", false, read_max, write_max },
	{ "memory.swap.peak", "cgroup-v2: memory.swap.peak", false, read_peak, write_peak },
	{ "memory.swap.events", "cgroup-v2: memory.swap.events", false, read_events, NULL },
	{ "memory.zswap.current", "cgroup-v2: memory.zswap.current", false, read_zswap_current,
	  NULL },
	{ "memory.zswap.max", "cgroup-v2: memory.zswap.max", false, read_zswap_max,
	  write_zswap_max },
	{ "memory.zswap.writeback", "cgroup-v2: memory.zswap.writeback", true, read_writeback,
	  write_writeback },
	{ NULL, NULL, false, NULL, NULL },
};
