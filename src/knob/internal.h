/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what the files of knob/ share: tables, parsing, printing.
 */
#ifndef QUIRE_KNOB_INTERNAL_H
#define QUIRE_KNOB_INTERNAL_H

#include "knob/knob.h"

/* Each ends with a NULL name. */
extern const struct knob knob_memory[]; /* memory.c */
extern const struct knob knob_swap[]; /* swap.c: memory.swap.*, memory.zswap.* */
extern const struct knob knob_core[]; /* core.c: cgroup.* */

/* Rounds of a write that make no progress before it gives up (algorithms.md 4.1). */
#define KNOB_MAX_RETRIES 16
/* And in all: each frees at least a page, a write has to end nevertheless. */
#define KNOB_MAX_ROUNDS 10000

/* White space off both ends; the text is not NUL-terminated. */
void knob_strip(const char **text, size_t *len);
bool knob_is(const char *text, size_t len, const char *word);
/* "max" or a byte size, rounded down to pages.  0, -EINVAL (also empty: the kernel
 * takes an empty string for 0, which sets a limit of 0 by mistake), -ERANGE. */
int QUIRE_MUST_CHECK knob_parse_pages(const char *text, size_t len, u64 *ret_pages);
/* 0 or 1, as an integer of any C base; else -EINVAL. */
int QUIRE_MUST_CHECK knob_parse_flag(const char *text, size_t len, bool *ret_on);
/* Bytes and a newline. */
void knob_print_bytes(struct fmt *out, u64 bytes);
/* The same from pages, or "max". */
void knob_print_pages(struct fmt *out, u64 pages);
void knob_print_key(struct fmt *out, const char *key, u64 value);

#endif
