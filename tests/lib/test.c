/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test.c - runs the TEST() blocks of one program; see test.h.
 */
#include "test.h"

#include <dirent.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum outcome { OUTCOME_OK, OUTCOME_FAILED, OUTCOME_SKIPPED };

static struct test_case *first_case;
static struct test_case **last_link = &first_case;
static jmp_buf block_end;
static char reason[1024];
static char **arguments; /* NULL at the end */

void test_register(struct test_case *tc)
{
	*last_link = tc;
	last_link = &tc->next;
}

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
{
	char text[800];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(reason, sizeof(reason), "%s:%d: %s", file, line, text);
	longjmp(block_end, OUTCOME_FAILED);
}

_Noreturn void test_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	longjmp(block_end, OUTCOME_SKIPPED);
}

int test_child(void (*fn)(void), char *ret_text, size_t size)
{
	size_t len = 0;
	int fds[2], status;
	pid_t pid;

	if (pipe(fds) != 0)
		FAIL("pipe: %m");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		FAIL("fork: %m");
	if (pid == 0) {
		dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		fn();
		_exit(0);
	}
	close(fds[1]);
	while (len + 1 < size) {
		ssize_t got = read(fds[0], ret_text + len, size - 1 - len);

		if (got <= 0)
			break;
		len += (size_t)got;
	}
	ret_text[len] = '\0';
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid)
		FAIL("waitpid: %m");
	return status;
}

static enum outcome run_block(const struct test_case *tc)
{
	enum outcome outcome = (enum outcome)setjmp(block_end);

	if (outcome == OUTCOME_OK)
		tc->fn();
	return outcome;
}

static void print_result(const struct test_case *tc, int nr, enum outcome outcome)
{
	if (outcome == OUTCOME_OK)
		printf("ok %d - %s\n", nr, tc->name);
	else if (outcome == OUTCOME_SKIPPED)
		printf("ok %d - %s # SKIP %s\n", nr, tc->name, reason);
	else
		printf("not ok %d - %s\n# %s\n", nr, tc->name, reason);
}

static bool is_option(const char *arg)
{
	return strncmp(arg, "--", 2) == 0;
}

const char *test_option(const char *option)
{
	for (char **a = arguments; *a && a[1]; a++)
		if (is_option(*a) && strcmp(*a + 2, option) == 0)
			return a[1];
	return NULL;
}

/* The first argument that is no option, nor the value of one. */
static const char *block_wanted(void)
{
	char **a = arguments;

	while (*a && is_option(*a))
		a += a[1] ? 2 : 1;
	return *a;
}

int main(int argc, char **argv)
{
	const char *only;
	int count[3] = { 0, 0, 0 };
	struct test_case *tc;
	int nr = 0;

	(void)argc;
	arguments = argv + 1;
	only = block_wanted();
	/* A crash must not lose the lines before it. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (tc = first_case; tc; tc = tc->next) {
		enum outcome outcome;

		if (only && strcmp(only, tc->name) != 0)
			continue;
		outcome = run_block(tc);
		count[outcome]++;
		print_result(tc, ++nr, outcome);
	}
	printf("1..%d\n", nr);
	if (nr == 0 || count[OUTCOME_FAILED])
		return 1;
	if (count[OUTCOME_OK])
		return 0;
	printf("%s\n", reason);
	return 77;
}

unsigned test_nr_files(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned nr = 0;

	ASSERT_NOT_NULL(d);
	while (readdir(d))
		nr++;
	closedir(d);
	return nr - 2; /* . and .. */
}
