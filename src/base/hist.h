/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.h - log-linear latency histogram: 40 powers of two x 8 steps,
 * relative error <= 12.5 %, updated without locks, mergeable.
 */
#ifndef QUIRE_BASE_HIST_H
#define QUIRE_BASE_HIST_H

#include "base/sync.h"

#define HIST_STEPS 8
#define HIST_BUCKETS (40 * HIST_STEPS)

struct hist {
	struct counter64 count[HIST_BUCKETS];
	struct counter64 sum;
	struct counter64 max;
};

void hist_add(struct hist *h, u64 value);
/* Smallest bucket bound that covers `permyriad`/10000 of the samples; 0 when empty. */
u64 hist_quantile(const struct hist *h, u32 permyriad);
u64 hist_total(const struct hist *h);
void hist_merge(struct hist *to, const struct hist *from);

#endif
