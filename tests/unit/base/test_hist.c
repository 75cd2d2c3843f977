/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_hist.c - error bound, quantiles, merging.
 */
#include "base/hist.h"

#include "lib/test.h"

static struct hist h, other;

TEST(empty)
{
	h = (struct hist){ 0 };
	ASSERT_EQ(hist_total(&h), 0u);
	ASSERT_EQ(hist_quantile(&h, 5000), 0u);
}

TEST(error_is_at_most_an_eighth)
{
	u64 value;

	for (value = 1; value < 1ull << 41; value += value / 7 + 1) {
		u64 q;

		h = (struct hist){ 0 };
		hist_add(&h, value);
		/* A larger one, so that `max` does not help. */
		hist_add(&h, 1ull << 41);
		q = hist_quantile(&h, 5000);
		ASSERT_GE(q, value);
		ASSERT_LE(q - value, value / 8);
	}
}

TEST(quantiles)
{
	u64 i;

	h = (struct hist){ 0 };
	for (i = 1; i <= 1000; i++)
		hist_add(&h, i);
	ASSERT_EQ(hist_total(&h), 1000u);
	ASSERT_EQ(hist_quantile(&h, 10000), 1000u);
	ASSERT_GE(hist_quantile(&h, 5000), 500u);
	ASSERT_LE(hist_quantile(&h, 5000), 563u);
	ASSERT_GE(hist_quantile(&h, 9900), 990u);
	ASSERT_EQ(hist_quantile(&h, 0), 1u);
	ASSERT_EQ(stat_read(&h.sum), 500500u);
}

TEST(beyond_the_last_bucket)
{
	h = (struct hist){ 0 };
	hist_add(&h, UINT64_MAX);
	hist_add(&h, 1ull << 50);
	ASSERT_EQ(hist_total(&h), 2u);
	ASSERT_EQ(hist_quantile(&h, 5000), UINT64_MAX);
}

TEST(merge)
{
	h = (struct hist){ 0 };
	other = (struct hist){ 0 };
	hist_add(&h, 3);
	hist_add(&other, 5);
	hist_add(&other, 700);
	hist_merge(&h, &other);
	ASSERT_EQ(hist_total(&h), 3u);
	ASSERT_EQ(stat_read(&h.sum), 708u);
	ASSERT_EQ(stat_read(&h.max), 700u);
	ASSERT_EQ(hist_quantile(&h, 6666), 5u);
}
