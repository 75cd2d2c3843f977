/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.c - log-linear histogram: where a value belongs and what a bucket means.
 *
 * Buckets 0-7 hold one value each; above, every power of two is cut into eight
 * steps.  What is beyond the last bucket (2^42, 73 minutes in ns) is counted in
 * it, and reported by `max`.  Does not own what is measured.
 *
 * Entry points: hist_add(), hist_quantile(), hist_merge().
 *
 * Invariants: updates are single relaxed additions, so a reader beside writers
 * sees a histogram that is a few samples old or young, never a wrong bucket.
 */
#include "base/hist.h"

#define STEP_BITS 3
static_assert(HIST_STEPS == 1 << STEP_BITS, "steps are the bits below the leading one");

static u32 bucket_of(u64 value)
{
	u32 exponent, bucket;

	if (value < HIST_STEPS)
		return (u32)value;
	exponent = 63 - (u32)__builtin_clzll(value);
	bucket = (exponent - STEP_BITS + 1) * HIST_STEPS +
		 (u32)(value >> (exponent - STEP_BITS) & (HIST_STEPS - 1));
	return min_of(bucket, (u32)HIST_BUCKETS - 1);
}

/* The largest value that belongs to a bucket. */
static u64 bucket_bound(u32 bucket)
{
	u32 shift;

	if (bucket < HIST_STEPS)
		return bucket;
	shift = bucket / HIST_STEPS - 1;
	return ((u64)(HIST_STEPS + bucket % HIST_STEPS + 1) << shift) - 1;
}

static void raise_max(struct counter64 *max, u64 value)
{
	u64 old = stat_read(max);

	while (value > old && !__atomic_compare_exchange_n(&max->v, &old, value, true,
							   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void hist_add(struct hist *h, u64 value)
{
	stat_add(&h->count[bucket_of(value)], 1);
	stat_add(&h->sum, value);
	raise_max(&h->max, value);
}

u64 hist_total(const struct hist *h)
{
	u64 total = 0;
	u32 i;

	for (i = 0; i < HIST_BUCKETS; i++)
		total += stat_read(&h->count[i]);
	return total;
}

u64 hist_quantile(const struct hist *h, u32 permyriad)
{
	u64 total = hist_total(h), max = stat_read(&h->max);
	/* total * permyriad / 10000, rounded up, without overflow. */
	u64 wanted = total / 10000 * permyriad + (total % 10000 * permyriad + 9999) / 10000;
	u64 seen = 0;
	u32 i;

	if (!total)
		return 0;
	for (i = 0; i < HIST_BUCKETS - 1; i++) {
		seen += stat_read(&h->count[i]);
		if (seen >= wanted && seen > 0)
			return min_of(bucket_bound(i), max);
	}
	return max;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	u32 i;

	for (i = 0; i < HIST_BUCKETS; i++) {
		u64 n = stat_read(&from->count[i]);

		if (n)
			stat_add(&to->count[i], n);
	}
	stat_add(&to->sum, stat_read(&from->sum));
	raise_max(&to->max, stat_read(&from->max));
}
