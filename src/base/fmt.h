/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fmt.h - text without stdio: bounded output, sizes, numbers.
 */
#ifndef QUIRE_BASE_FMT_H
#define QUIRE_BASE_FMT_H

#include <stdarg.h>

#include "base/types.h"

/* A text under construction: never overflows, remembers what did not fit. */
struct fmt {
	char *buf;
	size_t size;
	size_t len; /* bytes wanted so far; may exceed size - 1 */
};

void fmt_init(struct fmt *f, char *buf, size_t size);
/* %s %c %d %i %u %x %p %% with l, ll, z, width, 0, '-' and .precision for %s. */
void fmt_add(struct fmt *f, const char *format, ...) QUIRE_PRINTF_LIKE(2, 3);
void fmt_vadd(struct fmt *f, const char *format, va_list ap);
/* One shot; returns the length wanted, as snprintf does. */
size_t fmt_str(char *buf, size_t size, const char *format, ...) QUIRE_PRINTF_LIKE(3, 4);

/*
 * A byte size as the kernel's memparse reads it: C-base number, optional
 * K M G T P E (either case), surrounding white space allowed, nothing else.
 * 0, -EINVAL (not a size; also empty) or -ERANGE.  (interface.md 2.0)
 */
int QUIRE_MUST_CHECK size_parse(const char *text, size_t len, u64 *ret_bytes);
/* "512M", "1.5G", "max": for people; buf of at least 16 bytes; returns buf. */
char *size_print(char *buf, u64 bytes);
/* Unsigned decimal/hex/octal as strtoull base 0, whole text. */
int QUIRE_MUST_CHECK num_parse(const char *text, size_t len, u64 *ret);

#endif
