/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_size.c - sizes of the command line: what is taken and what is refused.
 */
#include "lib/test.h"

#include "../../../cmd/quire/size.c"

static void good(const char *text, uint64_t expected)
{
	uint64_t bytes = 0;
	const char *wrong = size_from_text(text, 1000, &bytes);

	if (wrong)
		FAIL("\"%s\" %s", text, wrong);
	ASSERT_EQ(bytes, expected);
}

static void bad(const char *text, const char *part)
{
	uint64_t bytes = 42;
	const char *wrong = size_from_text(text, 1000, &bytes);

	if (!wrong)
		FAIL("\"%s\" was taken as %llu", text, (unsigned long long)bytes);
	if (!strstr(wrong, part))
		FAIL("\"%s\" %s: no \"%s\"", text, wrong, part);
	ASSERT_TRUE(bytes == 42);
}

TEST(plain)
{
	good("0", 0);
	good("1", 1);
	good("4096", 4096);
	good("9223372036854775807", INT64_MAX);
	good("12B", 12);
}

TEST(suffixes)
{
	good("1K", 1024);
	good("1k", 1024);
	good("64M", 64 * MIB);
	good("64MiB", 64 * MIB);
	good("64mib", 64 * MIB);
	good("3G", 3072 * MIB);
	good("2T", 2 * MIB * MIB);
	good("1P", MIB * MIB * KIB);
	good("7E", 7 * MIB * MIB * MIB);
}

TEST(words)
{
	good("max", SIZE_NONE);
	good("infinity", SIZE_NONE);
	bad("Max", "not a size");
	bad("-1", "not a size");
}

TEST(percent)
{
	good("50%", 500);
	good("100%", 1000);
	good("0%", 0);
	bad("101%", "more than there is");
	bad("50%%", "not a size");
	bad("%", "not a size");
}

TEST(refused)
{
	bad("", "not a size");
	bad(" 1", "not a size");
	bad("1 ", "not a size");
	bad("64MB", "1000");
	bad("1.5G", "whole");
	bad("1KK", "not a size");
	bad("0x10", "not a size");
	bad("12i", "not a size");
	bad("1\n", "not a size");
}

TEST(overflow)
{
	bad("8E", "too large");
	bad("9223372036854775808", "too large");
	bad("18446744073709551616", "too large");
	bad("99999999999999999999999M", "too large");
	bad("9007199254740992K", "too large");
}

TEST(printing)
{
	char buf[16];

	ASSERT_STR_EQ(size_text(buf, 0), "0 B");
	ASSERT_STR_EQ(size_text(buf, 1023), "1023 B");
	ASSERT_STR_EQ(size_text(buf, 1024), "1.00 KiB");
	ASSERT_STR_EQ(size_text(buf, 64 * MIB), "64.0 MiB");
	ASSERT_STR_EQ(size_text(buf, 1536 * MIB), "1.50 GiB");
	ASSERT_STR_EQ(size_text(buf, SIZE_NONE), "max");
	ASSERT_STR_EQ(size_text(buf, (uint64_t)INT64_MAX), "8.00 EiB");
}
