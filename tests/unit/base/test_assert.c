/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_assert.c - a failed assertion says what and where, and ends by SIGABRT.
 */
#include "base/assert.h"

#include "base/os.h"
#include "lib/test.h"

#include <signal.h>
#include <sys/wait.h>

static void ignore(int sig)
{
	(void)sig;
}

static void fail(void)
{
	int one = 1;
	sigset_t set;

	/* The program's own idea of SIGABRT does not count. */
	signal(SIGABRT, ignore);
	sigemptyset(&set);
	sigaddset(&set, SIGABRT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	quire_assert(one == 1);
	quire_assert(one == 2);
}

TEST(message)
{
	char text[256];
	int status = test_child(fail, text, sizeof(text));

	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ASSERT_TRUE(strncmp(text, "quire: bug: ", 12) == 0);
	ASSERT_NOT_NULL(strstr(text, "test_assert.c:"));
	ASSERT_NOT_NULL(strstr(text, "one == 2 is false"));
}
