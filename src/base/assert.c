/* SPDX-License-Identifier: Apache-2.0 */
/*
 * assert.c - the end of a process that has met a bug of quire.
 *
 * Owns the text; the way out is os_abort().  Does not own the policy of what to
 * check (assert.h).  May be called with any lock held.
 */
#include "base/assert.h"

#include "base/fmt.h"
#include "base/os.h"
#include "base/sync.h"

_Noreturn void assert_failed(const char *expr, const char *file, int line)
{
	const struct thread *self = thread_self();
	char text[512];

	fmt_str(text, sizeof(text), "quire: bug: %s:%d: %s is false (thread %s)\n", file, line,
		expr, self && self->name ? self->name : "of the program");
	os_abort(text);
}
