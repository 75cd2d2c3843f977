/* SPDX-License-Identifier: Apache-2.0 */
/*
 * size.c - sizes as people write and read them.
 *
 * Stricter than the files of a group (which follow the kernel): what could mean
 * two things is refused with the way to write it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd.h"

static const char suffixes[] = "KMGTPE";

static const char *parse_percent(uint64_t n, const char *rest, uint64_t enclosing,
				 uint64_t *ret_bytes)
{
	if (rest[1])
		return "is not a size (write 50%)";
	if (n > 100)
		return "is more than there is (at most 100%)";
	*ret_bytes = enclosing / 100 * n;
	return NULL;
}

const char *size_from_text(const char *text, uint64_t enclosing, uint64_t *ret_bytes)
{
	uint64_t n = 0, digit;
	unsigned int shift = 0;
	const char *p = text, *suffix;

	if (!strcmp(text, "max") || !strcmp(text, "infinity")) {
		*ret_bytes = SIZE_NONE;
		return NULL;
	}
	if (*p < '0' || *p > '9')
		return "is not a size (write 512M, 50% or max)";
	for (; *p >= '0' && *p <= '9'; p++) {
		digit = (uint64_t)(*p - '0');
		if (n > (UINT64_MAX - digit) / 10)
			return "is too large";
		n = n * 10 + digit;
	}
	if (*p == '%')
		return parse_percent(n, p, enclosing, ret_bytes);
	if (*p == '.')
		return "is not a whole number (write 1536M, not 1.5G)";
	suffix = *p ? strchr(suffixes, *p & ~0x20) : NULL;
	if (suffix && *suffix) {
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
		p++;
		if (!strcasecmp(p, "B"))
			return "could be powers of 1000 (write M or MiB, powers of 1024)";
		if (!strcasecmp(p, "iB"))
			p += 2;
	} else if (!strcasecmp(p, "B")) {
		p++;
	}
	if (*p)
		return "is not a size (write 512M, 50% or max)";
	if (n > (uint64_t)INT64_MAX >> shift)
		return "is too large";
	*ret_bytes = n << shift;
	return NULL;
}

const char *size_text(char *buf, uint64_t bytes)
{
	unsigned int unit = 0;
	double value = (double)bytes;

	if (bytes == SIZE_NONE)
		return "max";
	while (value >= 1024 && unit < sizeof(suffixes) - 1) {
		value /= 1024;
		unit++;
	}
	if (!unit)
		snprintf(buf, 16, "%u B", (unsigned int)bytes);
	else
		snprintf(buf, 16, value < 10 ? "%.2f %ciB" : "%.1f %ciB", value,
			 suffixes[unit - 1]);
	return buf;
}
