/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - scans that are longer than memory.
 *
 * Least recently used first is the worst there is for a program that goes round and round
 * through more than fits: each page leaves just before its turn, and none is ever met in
 * memory.  Pages of such a scan leave first, oldest first, so that what else is in memory
 * stays, a part of what is scanned too.
 *
 * A scan is told by its faults: each is a little ahead of an earlier one (out of order
 * where reads end so, with gaps where it strides).  One that has come further than the
 * group has memory, the compressed included, could not have been kept; where that was is
 * remembered, so that the next round is known from its beginning.  A loop that fits is no
 * such scan.  One page in KEEP_PERIOD is treated like any other, in chunks that leave
 * together: so what is in memory and of no use any more is replaced in time.
 *
 * Several threads may tell here at once, without a lock: a guess that is lost is
 * made again.  Entry point: lru_in_stream().
 */
#include "lru/lru.h"

/* Pages a fault may be ahead of the last one, or behind. */
#define NEAR 64u
/* A scan that has come so far is worth a look. */
#define LENGTH_MIN 256u
#define KEEP_CHUNK 32u
#define KEEP_PERIOD 16u

static struct lru_stream *find_stream(struct lru *lru, u64 vpn)
{
	struct lru_stream *s;

	for (u32 i = 0; i < LRU_STREAMS; i++) {
		u64 next = atomic64_peek(&lru->stream[i].next);

		if (vpn + NEAR >= next && vpn < next + NEAR)
			return &lru->stream[i];
	}
	s = &lru->stream[atomic32_fetch_add(&lru->next_stream, 1) % LRU_STREAMS];
	atomic64_poke(&s->start, vpn);
	return s;
}

static u64 pages_in_memory(const struct lru *lru, struct memcg_id id)
{
	const struct lruvec *v = lruvec_of(lru, id);

	return lruvec_nr(v, LRU_STREAM) + lruvec_nr(v, LRU_INACTIVE) + lruvec_nr(v, LRU_ACTIVE) +
	       lruvec_nr(v, LRU_LAUNDRY) + memcg_usage(lru->tree, id, COUNTER_ZSWAP);
}

/* Has it been, here and before, through more than `most` pages in a row? */
static bool is_long(struct lru *lru, u64 start, u64 end, u64 most)
{
	struct lru_range *r;

	for (u32 i = 0; i < LRU_RANGES; i++) {
		u64 from, to;

		r = &lru->range[i];
		from = atomic64_peek(&r->start);
		to = atomic64_peek(&r->end);
		if (start > to || end < from)
			continue;
		from = min_of(from, start);
		to = max_of(to, end);
		atomic64_poke(&r->start, from);
		atomic64_poke(&r->end, to);
		return to - from > most;
	}
	if (end - start <= most)
		return false;
	r = &lru->range[atomic32_fetch_add(&lru->next_range, 1) % LRU_RANGES];
	atomic64_poke(&r->start, start);
	atomic64_poke(&r->end, end);
	return true;
}

bool lru_in_stream(struct lru *lru, struct memcg_id id, u64 vpn)
{
	struct lru_stream *s = find_stream(lru, vpn);
	u64 start = atomic64_peek(&s->start), next = atomic64_peek(&s->next);

	if (vpn >= next || vpn + NEAR < next) {
		next = vpn + 1;
		atomic64_poke(&s->next, next);
	}
	if (next < start + LENGTH_MIN || !is_long(lru, start, next, pages_in_memory(lru, id)))
		return false;
	return atomic32_fetch_add(&s->nr, 1) / KEEP_CHUNK % KEEP_PERIOD;
}
