/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open_real.h - a quire that really pages, for tests of the public API.
 */
#ifndef QUIRE_TESTS_LIB_OPEN_REAL_H
#define QUIRE_TESTS_LIB_OPEN_REAL_H

#include <quire/quire.h>

#include "lib/test.h"

/* The test is skipped where the system cannot page. */
static inline struct quire *open_real(void)
{
	struct quire_probe probe = { .size = sizeof(probe) };
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	struct quire *q;

	if (quire_probe(NULL, &probe) < 0)
		SKIP("%s", quire_why());
	if (quire_open(&opt, &q) < 0)
		FAIL("%s", quire_why());
	return q;
}

#endif
