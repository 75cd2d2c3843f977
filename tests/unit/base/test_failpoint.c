/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_failpoint.c - text form of the rules, when they fire, the kill.
 */
#include "base/failpoint.h"

#include "base/os.h"
#include "lib/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

static struct failpoints fps;

static struct thread *attached(void)
{
	static struct thread self;

	if (!thread_self()) {
		self = (struct thread){ .name = "test", .failpoints = &fps };
		thread_attach(&self);
	}
	return thread_self();
}

TEST(parse)
{
	ASSERT_OK(failpoints_parse(&fps, ""));
	ASSERT_EQ(fps.nr_rules, 0u);
	ASSERT_OK(failpoints_parse(&fps, "os_pwrite:ENOSPC@7,uffd_move:EAGAIN@1/3,x:EIO,y:EIO/2"));
	ASSERT_EQ(fps.nr_rules, 4u);
	ASSERT_STR_EQ(fps.rule[0].name, "os_pwrite");
	ASSERT_EQ(fps.rule[0].error, -ENOSPC);
	ASSERT_EQ(fps.rule[0].first, 7u);
	ASSERT_EQ(fps.rule[0].every, 0u);
	ASSERT_EQ(fps.rule[1].error, -EAGAIN);
	ASSERT_EQ(fps.rule[1].first, 1u);
	ASSERT_EQ(fps.rule[1].every, 3u);
	ASSERT_EQ(fps.rule[2].first, 1u);
	ASSERT_EQ(fps.rule[3].every, 2u);
	ASSERT_OK(failpoints_parse(&fps, "kill@12,os_open:EMFILE"));
	ASSERT_EQ(fps.kill_at, 12u);
	ASSERT_EQ(fps.nr_rules, 1u);
}

TEST(parse_refuses)
{
	static const char *const bad[] = {
		"x",
		":EIO",
		"x:",
		"x:EFOO",
		"x:EIO@",
		"x:EIO@0",
		"x:EIO@1/0",
		"x:EIO@1/",
		"x:EIO@1x",
		"kill@",
		"kill@0",
		",x:EIO",
		"x:EIO,,y:EIO",
		"a_name_that_is_longer_than_the_field_for_it:EIO",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (failpoints_parse(&fps, bad[i]) != -EINVAL)
			FAIL("\"%s\" was taken", bad[i]);
	}
}

TEST(fires_once_and_periodically)
{
	static const char when_once[] = "001000000", when_every[] = "010010010";
	int i;

	attached();
	ASSERT_OK(failpoints_parse(&fps, "once:EIO@3,every:EBUSY@2/3"));
	for (i = 0; i < 9; i++) {
		ASSERT_EQ(failpoint("once"), when_once[i] == '1' ? -EIO : 0);
		ASSERT_EQ(failpoint("every"), when_every[i] == '1' ? -EBUSY : 0);
		ASSERT_EQ(failpoint("onc"), 0);
	}
	ASSERT_EQ(stat_read(&fps.rule[0].nr_hits), 9u);
	ASSERT_EQ(stat_read(&fps.rule[0].nr_fired), 1u);
	ASSERT_EQ(stat_read(&fps.rule[1].nr_fired), 3u);
	ASSERT_EQ(stat_read(&fps.nr_steps), 27u);
}

TEST(os_calls_fail)
{
	attached();
	ASSERT_OK(failpoints_parse(&fps, "os_open:EMFILE,os_memfd_create:ENOSYS"));
	ASSERT_EQ(os_open("/dev/null", 0, 0), -EMFILE);
	ASSERT_EQ(os_memfd_create("x", 0), -ENOSYS);
	ASSERT_OK(os_close(os_open("/dev/null", 0, 0)));
}

TEST(other_threads_are_not_disturbed)
{
	struct thread *self = attached();

	ASSERT_OK(failpoints_parse(&fps, "x:EIO@1/1"));
	thread_detach();
	ASSERT_EQ(failpoint("x"), 0);
	thread_attach(self);
	ASSERT_EQ(failpoint("x"), -EIO);
}

static void hit_three_times(void)
{
	attached();
	if (failpoints_parse(&fps, "kill@3"))
		return;
	(void)!failpoint("a");
	(void)!failpoint("b");
	os_message("still here\n");
	(void)!failpoint("c");
	os_message("not killed\n");
}

TEST(kill)
{
	char text[64];
	int status = test_child(hit_three_times, text, sizeof(text));

	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ASSERT_STR_EQ(text, "still here\n");
}
