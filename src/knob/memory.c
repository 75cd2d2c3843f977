/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - the files memory.* but for swap and zswap.
 *
 * Owns: text and write rules of interface.md 2.1 and 2.2.
 * Does not own: the numbers (memcg/), reclaim and the OOM policy (upcalls).
 * Entry points: the table knob_memory.
 * Invariants: a limit is stored before anything is reclaimed for it, and the
 * write of a limit always succeeds; amounts are printed in bytes.
 * Lock ranks: none held.
 *
 * Not as in the kernel: an empty write is -EINVAL (the kernel sets 0);
 * memory.peak has no file descriptors here, so a write resets the group's peak
 * for every reader; memory.reclaim and memory.max are not interrupted by
 * signals (an engine thread writes), but end after a fixed number of rounds.
 */
#include "knob/internal.h"

#include <errno.h>
#include <string.h>

#define SWAPPINESS_MAX 200u
#define OOM_ROUNDS_MAX MEMCG_MEMBERS_MAX /* each ends a member, or frees a region */
#define RECLAIM_BATCH_MIN 32u /* pages */

/* ---- amounts ------------------------------------------------------------------- */

static void read_current(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_usage(t, id, COUNTER_MEMORY) << PAGE_SHIFT);
}

static void read_peak(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_peak(t, id, COUNTER_MEMORY) << PAGE_SHIFT);
}

static int write_peak(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	(void)text;
	(void)len;
	memcg_reset_peak(t, id, COUNTER_MEMORY);
	return 0;
}

/* ---- protection ------------------------------------------------------------------ */

static void read_min(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_min(t, id));
}

static int write_min(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (!ret)
		memcg_set_protection(t, id, pages, UINT64_MAX);
	return ret;
}

static void read_low(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_low(t, id));
}

static int write_low(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (!ret)
		memcg_set_protection(t, id, UINT64_MAX, pages);
	return ret;
}

/* ---- limits ------------------------------------------------------------------------ */

static u64 reclaim(struct memcg_tree *t, struct memcg_id id, u64 nr_pages, bool may_swap)
{
	const struct memcg_upcalls *up = memcg_tree_upcalls(t);

	return up->reclaim ? up->reclaim(up->ctx, id, nr_pages, may_swap) : 0;
}

/* Reclaim until usage is at most `limit`; true when it is. */
static bool reclaim_below(struct memcg_tree *t, struct memcg_id id, u64 limit)
{
	u32 fruitless = 0;

	for (u32 round = 0; round < KNOB_MAX_ROUNDS; round++) {
		u64 usage = memcg_usage(t, id, COUNTER_MEMORY);

		if (usage <= limit)
			return true;
		/* Rounds that make progress do not count. */
		if (reclaim(t, id, usage - limit, true) == 0 && ++fruitless >= KNOB_MAX_RETRIES)
			break;
	}
	return memcg_usage(t, id, COUNTER_MEMORY) <= limit;
}

static void read_high(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_high(t, id, COUNTER_MEMORY));
}

/* cgroup-v2: memory.high; never the OOM policy, whatever is left over. */
static int write_high(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (ret)
		return ret;
	memcg_set_high(t, id, COUNTER_MEMORY, pages);
	(void)reclaim_below(t, id, pages);
	return 0;
}

static void read_max(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_pages(out, memcg_limit(t, id, COUNTER_MEMORY));
}

/* cgroup-v2: memory.max; from here on no charge passes the new limit, what is
 * above it is reclaimed, and what cannot be is the OOM policy's. */
static int write_max(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	const struct memcg_upcalls *up = memcg_tree_upcalls(t);
	u64 pages;
	int ret = knob_parse_pages(text, len, &pages);

	if (ret)
		return ret;
	memcg_set_max(t, id, COUNTER_MEMORY, pages);
	for (u32 round = 0; round < OOM_ROUNDS_MAX; round++) {
		if (reclaim_below(t, id, pages))
			break;
		memcg_count_event(t, id, MEMCG_OOM);
		if (!up->oom || !up->oom(up->ctx, id))
			break;
	}
	return 0;
}

static void read_oom_group(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	knob_print_bytes(out, memcg_flag(t, id, MEMCG_FLAG_OOM_GROUP));
}

static int write_oom_group(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	bool on;
	int ret = knob_parse_flag(text, len, &on);

	if (!ret)
		memcg_set_flag(t, id, MEMCG_FLAG_OOM_GROUP, on);
	return ret;
}

/* ---- memory.reclaim ---------------------------------------------------------------- */

struct reclaim_args {
	u64 nr_pages;
	u32 swappiness;
};

/* Cut the first word off. */
static bool next_word(const char **text, size_t *len, const char **ret_word, size_t *ret_len)
{
	size_t n = 0;

	knob_strip(text, len);
	while (n < *len && (*text)[n] != ' ')
		n++;
	*ret_word = *text;
	*ret_len = n;
	*text += n;
	*len -= n;
	return n > 0;
}

static int parse_swappiness(const char *word, size_t len, u32 *ret)
{
	static const char key[] = "swappiness=";
	const size_t key_len = sizeof(key) - 1;
	u64 v;

	if (len <= key_len || memcmp(word, key, key_len) != 0)
		return -EINVAL;
	word += key_len;
	len -= key_len;
	if (knob_is(word, len, "max")) {
		*ret = SWAPPINESS_MAX; /* anonymous memory only: there is no other */
		return 0;
	}
	if (*word < '0' || *word > '9' || num_parse(word, len, &v) || v > SWAPPINESS_MAX)
		return -EINVAL;
	*ret = (u32)v;
	return 0;
}

static int parse_reclaim(const char *text, size_t len, struct reclaim_args *ret)
{
	const char *word;
	size_t n;
	u64 bytes;
	int err;

	if (!next_word(&text, &len, &word, &n))
		return -EINVAL;
	err = size_parse(word, n, &bytes);
	if (err)
		return err;
	ret->nr_pages = bytes >> PAGE_SHIFT;
	ret->swappiness = 60;
	while (!err && next_word(&text, &len, &word, &n))
		err = parse_swappiness(word, n, &ret->swappiness);
	return err;
}

/* cgroup-v2: memory.reclaim; a quarter of the rest per round, so that the groups
 * below are visited more than once. */
static int write_reclaim(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	struct reclaim_args args;
	u64 done = 0, batch, got;
	u32 fruitless = 0;
	int ret = parse_reclaim(text, len, &args);

	if (ret)
		return ret;
	for (u32 round = 0; done < args.nr_pages; round++) {
		batch = max_of((args.nr_pages - done) / 4, RECLAIM_BATCH_MIN);
		got = reclaim(t, id, batch, args.swappiness > 0);
		if (got == 0 && ++fruitless > KNOB_MAX_RETRIES)
			return -EAGAIN;
		if (round >= KNOB_MAX_ROUNDS)
			return -EAGAIN;
		done += got;
	}
	return 0;
}

/* ---- events, statistics, pressure ----------------------------------------------------- */

static void print_events(struct memcg_tree *t, struct memcg_id id, struct fmt *out, bool local)
{
	static const char *const key[] = {
		"low", "high", "max", "oom", "oom_kill", "oom_group_kill"
	};

	for (u32 ev = MEMCG_LOW; ev <= MEMCG_OOM_GROUP_KILL; ev++)
		knob_print_key(out, key[ev], memcg_event_count(t, id, ev, local));
}

static void read_events(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	print_events(t, id, out, false);
}

static void read_events_local(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	print_events(t, id, out, true);
}

static void read_stat(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	const struct vmstat_item *it;
	struct memcg_stats s;

	memcg_stats_read(t, id, &s);
	for (u32 n = 0; (it = vmstat_item(n)); n++)
		knob_print_key(out, it->name, vmstat_value(it, &s));
}

static void read_numa_stat(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	const struct vmstat_item *it;
	struct memcg_stats s;

	memcg_stats_read(t, id, &s);
	for (u32 n = 0; (it = vmstat_item(n)); n++)
		if (it->numa)
			fmt_add(out, "%s N0=%llu\n", it->name,
				(unsigned long long)vmstat_value(it, &s));
}

/* Averages and triggers are not kept yet: total is the time faults waited. */
static void read_pressure(struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	static const char *const line[] = { "some", "full" };
	u64 usec = memcg_stat_read(t, id, MEMCG_STAT_STALL_NS) / NSEC_PER_USEC;

	for (u32 n = 0; n < ARRAY_SIZE(line); n++)
		fmt_add(out, "%s avg10=0.00 avg60=0.00 avg300=0.00 total=%llu\n", line[n],
			(unsigned long long)usec);
}

static int write_pressure(struct memcg_tree *t, struct memcg_id id, const char *text, size_t len)
{
	(void)t;
	(void)id;
	(void)text;
	(void)len;
	return -EOPNOTSUPP;
}

const struct knob knob_memory[] = {
	{ "memory.current", "cgroup-v2: memory.current", false, read_current, NULL },
	{ "memory.min", "cgroup-v2: memory.min", false, read_min, write_min },
	{ "memory.low", "cgroup-v2: memory.low", false, read_low, write_low },
	{ "memory.high", "cgroup-v2: memory.high", false, read_high, write_high },
	{ "memory.max", "cgroup-v2: memory.max", false, read_max, write_max },
	{ "memory.peak", "cgroup-v2: memory.peak", false, read_peak, write_peak },
	{ "memory.reclaim", "cgroup-v2: memory.reclaim", true, NULL, write_reclaim },
	{ "memory.oom.group", "cgroup-v2: memory.oom.group", false, read_oom_group,
	  write_oom_group },
	{ "memory.events", "cgroup-v2: memory.events", false, read_events, NULL },
	{ "memory.events.local", "cgroup-v2: memory.events.local", false, read_events_local, NULL },
	{ "memory.stat", "cgroup-v2: memory.stat", true, read_stat, NULL },
	{ "memory.numa_stat", "cgroup-v2: memory.numa_stat", true, read_numa_stat, NULL },
	{ "memory.pressure", "cgroup-v2: memory.pressure", true, read_pressure, write_pressure },
	{ NULL, NULL, false, NULL, NULL },
};
