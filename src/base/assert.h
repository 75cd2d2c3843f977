/* SPDX-License-Identifier: Apache-2.0 */
/*
 * assert.h - our own bugs end here (style: three error classes, never mixed).
 *
 * Levels, described once: 0 none; 1 cheap checks of a word or two (default,
 * also in production); 2 plus sampled <object>_check(); 3 plus <object>_check()
 * at entry and exit of mutators (unit tests).
 */
#ifndef QUIRE_BASE_ASSERT_H
#define QUIRE_BASE_ASSERT_H

#include "base/types.h"

#ifndef QUIRE_ASSERT_LEVEL
#define QUIRE_ASSERT_LEVEL 1
#endif

_Noreturn void assert_failed(const char *expr, const char *file, int line);

#define quire_assert(e) ((e) ? (void)0 : assert_failed(#e, __FILE__, __LINE__))
#if QUIRE_ASSERT_LEVEL >= 3
#define quire_assert_full(e) quire_assert(e)
#else
#define quire_assert_full(e) ((void)sizeof((e) ? 1 : 0))
#endif

#endif
