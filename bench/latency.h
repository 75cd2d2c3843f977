/* SPDX-License-Identifier: Apache-2.0 */
/*
 * latency.h - how long one access takes, and the distribution of many.
 *
 * Time is rdtsc between fences.  The histogram is log-linear: 16 steps for each
 * power of two of cycles, so a percentile is within 1/16 of the truth.
 */
#ifndef QUIRE_BENCH_LATENCY_H
#define QUIRE_BENCH_LATENCY_H

#include <math.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define STEPS 16
#define BUCKETS (64 * STEPS)

struct histogram {
	uint64_t hist[BUCKETS], ops, max;
};

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static inline uint64_t time_before(void)
{
	_mm_mfence();
	_mm_lfence();
	return __rdtsc();
}

static inline uint64_t time_after(void)
{
	unsigned int cpu;
	uint64_t t = __rdtscp(&cpu);

	_mm_lfence();
	return t;
}

static inline double cycles_per_us(void)
{
	double t = now();
	uint64_t c = time_before();

	usleep(100000);
	return (time_after() - c) / ((now() - t) * 1e6);
}

static inline unsigned int bucket_of(uint64_t v)
{
	unsigned int log = v < STEPS ? 0 : 63 - __builtin_clzll(v) - 3;

	return v < STEPS ? v : log * STEPS + (v >> (log - 1)) % STEPS;
}

/* The middle of a bucket. */
static inline double bucket_value(unsigned int b)
{
	unsigned int log = b / STEPS;

	return log == 0 ? b : ldexp(STEPS + b % STEPS + 0.5, log - 1);
}

static inline double percentile(const struct histogram *h, double share)
{
	uint64_t want = ceil(h->ops * share), sum = 0;

	for (unsigned int b = 0; b < BUCKETS; b++) {
		sum += h->hist[b];
		if (sum >= want && sum)
			return bucket_value(b);
	}
	return h->max;
}

static inline void histogram_add(struct histogram *h, uint64_t cycles)
{
	h->ops++;
	h->hist[bucket_of(cycles)]++;
	if (cycles > h->max)
		h->max = cycles;
}

static inline void histogram_sum(struct histogram *to, const struct histogram *h)
{
	to->ops += h->ops;
	if (h->max > to->max)
		to->max = h->max;
	for (unsigned int b = 0; b < BUCKETS; b++)
		to->hist[b] += h->hist[b];
}

#endif
