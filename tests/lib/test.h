/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test.h - a C test is a program made of TEST(name) { ... } blocks.
 *
 * Each block runs in the order of the file, in this process, and prints one
 * "ok"/"not ok" line (TAP).  The first failed ASSERT_ of a block ends it and the
 * program goes on with the next; the exit status is 0, 1 (failed) or 77 (every
 * block that ran was skipped; the last line says why).  `test_x NAME` runs one
 * block; `--OPTION VALUE` is for the blocks to ask for.  No framework, no fork: a block may fork, map and crash as it likes.
 *
 * Comments that tests/run reads anywhere in the source:
 *   time: 300   seconds before the test is killed (default 120)
 *   paging      a skip counts as a failure on the reference machine
 *   tsan        also built and run under ThreadSanitizer
 */
#ifndef QUIRE_TESTS_LIB_TEST_H
#define QUIRE_TESTS_LIB_TEST_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
	const char *name;
	void (*fn)(void);
	struct test_case *next;
};

/* Called by constructors that TEST() makes; keeps the order of the file. */
void test_register(struct test_case *tc);
/* End the running block; printf-style reason.  Only on the test's own thread. */
_Noreturn void test_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The VALUE of `--OPTION VALUE` on the command line, or NULL. */
const char *test_option(const char *option);

#define TEST(id)                                                                                   \
	static void test_##id(void);                                                               \
	static struct test_case test_case_##id = { #id, test_##id, NULL };                         \
	__attribute__((constructor)) static void test_register_##id(void)                          \
	{                                                                                          \
		test_register(&test_case_##id);                                                    \
	}                                                                                          \
	static void test_##id(void)

#define SKIP(...) test_skip(__VA_ARGS__)
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

#define ASSERT_TRUE(e)                                                                             \
	do {                                                                                       \
		if (!(e))                                                                          \
			FAIL("%s is false", #e);                                                   \
	} while (0)
#define ASSERT_FALSE(e)                                                                            \
	do {                                                                                       \
		if (e)                                                                             \
			FAIL("%s is true", #e);                                                    \
	} while (0)

/* Integers of any type; both sides are evaluated once. */
#define TEST_COMPARE(a, op, b)                                                                     \
	do {                                                                                       \
		__auto_type test_a = (a);                                                          \
		__auto_type test_b = (b);                                                          \
		if (!(test_a op test_b))                                                           \
			FAIL("%s %s %s: %lld and %lld", #a, #op, #b, (long long)test_a,            \
			     (long long)test_b);                                                   \
	} while (0)
#define ASSERT_EQ(a, b) TEST_COMPARE(a, ==, b)
#define ASSERT_NE(a, b) TEST_COMPARE(a, !=, b)
#define ASSERT_LT(a, b) TEST_COMPARE(a, <, b)
#define ASSERT_LE(a, b) TEST_COMPARE(a, <=, b)
#define ASSERT_GT(a, b) TEST_COMPARE(a, >, b)
#define ASSERT_GE(a, b) TEST_COMPARE(a, >=, b)
/* 0 is success, -errno is not. */
#define ASSERT_OK(e)                                                                               \
	do {                                                                                       \
		long long test_res = (long long)(e);                                               \
		if (test_res < 0)                                                                  \
			FAIL("%s: %s", #e, strerror((int)-test_res));                              \
	} while (0)

#define ASSERT_PTR_EQ(a, b)                                                                        \
	do {                                                                                       \
		const void *test_a = (a), *test_b = (b);                                           \
		if (test_a != test_b)                                                              \
			FAIL("%s == %s: %p and %p", #a, #b, test_a, test_b);                       \
	} while (0)
#define ASSERT_NULL(p) ASSERT_PTR_EQ(p, NULL)
#define ASSERT_NOT_NULL(p) ASSERT_TRUE((p) != NULL)
#define ASSERT_STR_EQ(a, b)                                                                        \
	do {                                                                                       \
		const char *test_a = (a), *test_b = (b);                                           \
		if (strcmp(test_a, test_b) != 0)                                                   \
			FAIL("%s == %s: \"%s\" and \"%s\"", #a, #b, test_a, test_b);               \
	} while (0)
#define ASSERT_MEM_EQ(a, b, len)                                                                   \
	do {                                                                                       \
		const unsigned char *test_a = (const void *)(a);                                   \
		const unsigned char *test_b = (const void *)(b);                                   \
		for (size_t test_i = 0; test_i < (size_t)(len); test_i++)                          \
			if (test_a[test_i] != test_b[test_i])                                      \
				FAIL("%s == %s: byte %zu is %02x and %02x", #a, #b, test_i,        \
				     test_a[test_i], test_b[test_i]);                              \
	} while (0)

/*
 * Run fn in a forked child and return its wait status: for what must abort.
 * The child's stderr goes to ret_text (NUL-terminated, cut at size).
 */
int test_child(void (*fn)(void), char *ret_text, size_t size);
/* What a directory has in it. */
unsigned test_nr_files(const char *dir);

#endif
