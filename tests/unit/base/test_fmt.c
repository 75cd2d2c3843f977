/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fmt.c - conversions against snprintf, sizes and numbers by table.
 */
#include "base/fmt.h"

#include "lib/test.h"

#include <errno.h>
#include <limits.h>

#define SAME(...)                                                                                  \
	do {                                                                                       \
		char want[128], got[128];                                                          \
		int want_len = snprintf(want, sizeof(want), __VA_ARGS__);                          \
		size_t got_len = fmt_str(got, sizeof(got), __VA_ARGS__);                           \
		ASSERT_STR_EQ(got, want);                                                          \
		ASSERT_EQ(got_len, (size_t)want_len);                                              \
	} while (0)

TEST(conversions)
{
	int x;

	SAME("plain %% text");
	SAME("%s|%10s|%-10s|%.3s|%8.2s|%-8.2s|", "abc", "abc", "abc", "abcdef", "abcdef", "abc");
	SAME("%c%c", 'q', '.');
	SAME("%d %i %d %d", 0, -1, INT_MAX, INT_MIN);
	SAME("%5d|%-5d|%05d|%05d|", 42, 42, 42, -42);
	SAME("%u %u", 0u, UINT_MAX);
	SAME("%x %08x %lx", 0xbeefu, 0xbeefu, ULONG_MAX);
	SAME("%ld %lld %zu %lu %llu", LONG_MIN, LLONG_MAX, SIZE_MAX, ULONG_MAX, ULLONG_MAX);
	SAME("%p", (void *)&x);
	SAME("%*d|%-*d|%*d", 6, 1, 6, 2, -6, 3);
	SAME("%.*s", 2, "abc");
}

TEST(bounded)
{
	char buf[8] = "1234567";
	struct fmt f;

	ASSERT_EQ(fmt_str(buf, 4, "%s", "abcdef"), 6u);
	ASSERT_STR_EQ(buf, "abc");
	ASSERT_EQ(buf[4], '5');
	ASSERT_EQ(fmt_str(buf, 0, "%d", 12345), 5u);
	ASSERT_STR_EQ(buf, "abc");

	fmt_init(&f, buf, sizeof(buf));
	fmt_add(&f, "%d", 123);
	fmt_add(&f, "%s", "4567890");
	fmt_add(&f, "%s", "lost");
	ASSERT_STR_EQ(buf, "1234567");
	ASSERT_EQ(f.len, 14u);
}

TEST(null_string)
{
	char buf[16];
	const char *volatile format = "%s"; /* the compiler would warn */

	fmt_str(buf, sizeof(buf), format, NULL);
	ASSERT_STR_EQ(buf, "(null)");
}

static int size_of(const char *text, u64 *ret)
{
	return size_parse(text, strlen(text), ret);
}

TEST(size_parse)
{
	static const struct {
		const char *text;
		int err;
		u64 bytes;
	} table[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ " 512M\n", 0, 512 * MIB },
		{ "1k", 0, KIB },
		{ "0x10K", 0, 16 * KIB },
		{ "010", 0, 8 },
		{ "0x1E", 0, 30 },
		{ "1E", 0, 1ull << 60 },
		{ "2t", 0, 2ull << 40 },
		{ "15E", 0, 15ull << 60 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "16E", -ERANGE, 0 },
		{ "99999999999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ " \n", -EINVAL, 0 },
		{ "M", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "1 M", -EINVAL, 0 },
		{ "1MB", -EINVAL, 0 },
		{ "1xx", -EINVAL, 0 },
		{ "0x", -EINVAL, 0 },
		{ "08", -EINVAL, 0 },
		{ "max", -EINVAL, 0 },
		{ "99999999999999999999999999x", -EINVAL, 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		u64 bytes = 77;

		if (size_of(table[i].text, &bytes) != table[i].err)
			FAIL("\"%s\"", table[i].text);
		ASSERT_EQ(bytes, table[i].err ? 77u : table[i].bytes);
	}
}

TEST(size_parse_stops_at_len)
{
	u64 bytes = 0;

	ASSERT_OK(size_parse("12345", 2, &bytes));
	ASSERT_EQ(bytes, 12u);
	ASSERT_EQ(size_parse("0x5", 2, &bytes), -EINVAL);
}

TEST(num_parse)
{
	u64 n = 0;

	ASSERT_OK(num_parse("0xfF", 4, &n));
	ASSERT_EQ(n, 255u);
	ASSERT_OK(num_parse("0", 1, &n));
	ASSERT_EQ(n, 0u);
	ASSERT_EQ(num_parse(" 1", 2, &n), -EINVAL);
	ASSERT_EQ(num_parse("1K", 2, &n), -EINVAL);
	ASSERT_EQ(num_parse("", 0, &n), -EINVAL);
	ASSERT_EQ(num_parse("18446744073709551616", 20, &n), -ERANGE);
}

TEST(size_print)
{
	char buf[16];

	ASSERT_STR_EQ(size_print(buf, 0), "0");
	ASSERT_STR_EQ(size_print(buf, 1023), "1023");
	ASSERT_STR_EQ(size_print(buf, 1024), "1K");
	ASSERT_STR_EQ(size_print(buf, 512 * MIB), "512M");
	ASSERT_STR_EQ(size_print(buf, 1536 * MIB), "1.5G");
	ASSERT_STR_EQ(size_print(buf, 1024 * MIB - 1), "1G");
	ASSERT_STR_EQ(size_print(buf, UINT64_MAX - 1), "16E");
	ASSERT_STR_EQ(size_print(buf, UINT64_MAX), "max");
}
