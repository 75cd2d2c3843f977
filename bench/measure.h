/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h - a clock and a median.
 */
#ifndef QUIRE_BENCH_MEASURE_H
#define QUIRE_BENCH_MEASURE_H

#include <stddef.h>
#include <stdlib.h>
#include <time.h>

static inline double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts them. */
static inline double median(double *v, size_t nr)
{
	qsort(v, nr, sizeof(*v), by_value);
	return v[nr / 2];
}

#endif
