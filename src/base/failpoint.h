/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failpoint.h - make the n-th call of a named operation fail, in test builds.
 *
 * A table of rules hangs off the calling thread (thread_self()->failpoints),
 * so that two engines in one process do not disturb each other.  Production
 * builds compile failpoint() to 0.
 */
#ifndef QUIRE_BASE_FAILPOINT_H
#define QUIRE_BASE_FAILPOINT_H

#include "base/sync.h"

#define FAILPOINT_RULES 16

struct failpoint_rule {
	char name[32];
	u64 first; /* hits before it fires: 1 = the first */
	u64 every; /* 0 = fire once; n = then every n-th */
	int error; /* -errno returned */
	struct counter64 nr_hits;
	struct counter64 nr_fired;
};

struct failpoints {
	struct failpoint_rule rule[FAILPOINT_RULES];
	u32 nr_rules;
	u64 kill_at; /* SIGKILL self at this many hits of any failpoint; 0 = never */
	struct counter64 nr_steps;
};

/*
 * "os_pwrite:ENOSPC@7,uffd_move:EAGAIN@1/3": name, error, first hit, period.
 * 0 or -EINVAL.
 */
int QUIRE_MUST_CHECK failpoints_parse(struct failpoints *fps, const char *text);

#ifdef QUIRE_FAILPOINTS
/* 0, or the -errno this call shall return. */
int failpoint(const char *name);
#else
static inline int failpoint(const char *name)
{
	(void)name;
	return 0;
}
#endif

#endif
