/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pager.c - what the kernel permits, and which pager follows from it.
 */
#include "rig.h"

#include <fcntl.h>
#include <grp.h>

#define NOBODY 65534

TEST(a_pager_has_a_name)
{
	struct pager p;

	ASSERT_EQ(pager_init(&p, "fake"), 0);
	ASSERT_STR_EQ(p.ops->name, "fake");
	ASSERT_EQ(pager_init(&p, "uffd"), -EINVAL);
	ASSERT_EQ(pager_init(&p, "uffd_movement"), -EINVAL);
	ASSERT_EQ(pager_init(&p, ""), -EINVAL);
}

TEST(the_best_pager_is_taken)
{
	struct pager p;
	int err = pager_init(&p, NULL);

	if (err)
		SKIP("no userfaultfd: %s", strerror(-err));
	ASSERT_STR_EQ(p.ops->name, p.caps.move ? "uffd_move" : "uffd_copy");
	ASSERT_TRUE(p.caps.dev_node || p.caps.syscall);
	ASSERT_EQ(p.caps.dev_node, p.caps.dev_errno == 0);
	ASSERT_EQ(p.caps.syscall, p.caps.syscall_errno == 0);
	ASSERT_EQ(p.dev_fd, -1); /* nothing is open yet */
	ASSERT_EQ(p.uffd[0], -1);
	printf("# features %#llx%s%s%s%s\n", (unsigned long long)p.caps.features,
	       p.caps.move ? " move" : "", p.caps.poison ? " poison" : "", p.caps.wp ? " wp" : "",
	       p.caps.pagemap_scan ? " pagemap_scan" : "");
}

TEST(probing_leaves_no_descriptor)
{
	struct pager_caps caps;
	int before = dup(1), after;

	close(before);
	pager_probe(&caps, -1);
	after = dup(1);
	close(after);
	ASSERT_EQ(before, after);
}

TEST(a_failed_open_leaves_no_descriptor)
{
	struct pager p;
	int before = dup(1), after;

	close(before);
	rig_teardown();
	if (pager_init(&p, NULL))
		SKIP("no userfaultfd");
	for (int n = 1; n <= 4; n++) {
		char rules[64];

		snprintf(rules, sizeof(rules), "uffd_api:EINVAL@%d,uffd_new:EMFILE@9/1", n);
		rig_fail(rules);
		ASSERT_EQ(p.ops->open(&p, 4, -1), -EINVAL);
		rig_fail(NULL);
		after = dup(1);
		close(after);
		ASSERT_EQ(before, after);
		ASSERT_EQ(p.uffd[0], -1);
	}
	ASSERT_EQ(p.ops->open(&p, 0, -1), -EINVAL);
	ASSERT_EQ(p.ops->open(&p, PAGER_MAX_QUEUES + 1, -1), -EINVAL);
}

/* ---- without privilege, in a child ----------------------------------------- */

static int kept_fd = -1;

#define CHECK(e)                                                                                   \
	do {                                                                                       \
		if (!(e)) {                                                                        \
			dprintf(2, "%s is false\n", #e);                                           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void be_nobody(void)
{
	CHECK(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
}

static void probe_as_nobody(void)
{
	struct pager p;

	be_nobody();
	pager_probe(&p.caps, -1);
	if (p.caps.dev_node || p.caps.syscall)
		_exit(77); /* this machine lets everybody */
	CHECK(p.caps.dev_errno == EACCES);
	CHECK(p.caps.syscall_errno == EPERM);
	CHECK(p.caps.user_mode_only);
	CHECK(pager_init(&p, NULL) == -EPERM);
	CHECK(pager_init(&p, "uffd_copy") == -EPERM);
	CHECK(pager_init(&p, "fake") == 0);
}

/* A descriptor of /dev/userfaultfd opened before works after setuid and fork. */
static void open_by_kept_device(void)
{
	struct pager p;
	u8 *mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = pager_init(&p, NULL);

	CHECK(err == 0);
	be_nobody();
	err = p.ops->open(&p, 2, kept_fd);
	if (err == -EACCES && p.ops == &pager_uffd_copy)
		_exit(77); /* /proc/self/mem is root's now */
	CHECK(err == 0);
	CHECK(p.dev_fd == kept_fd);
	CHECK(p.ops->add_range(&p, 1, (u64)(uintptr_t)mem, PAGE_SIZE) == 0);
	CHECK(p.ops->zero(&p, 1, (u64)(uintptr_t)mem, 1, 0) == 1);
	CHECK(mem[0] == 0);
	p.ops->close(&p);
	CHECK(p.dev_fd == -1 && p.uffd[0] == -1);
	CHECK(fcntl(kept_fd, F_GETFD) == FD_CLOEXEC); /* closes nothing */
}

static void check_child(void (*fn)(void))
{
	char text[256];
	int status = test_child(fn, text, sizeof(text));

	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("not a restriction on this machine, or for this pager");
	if (status)
		FAIL("child: status %#x: %s", status, text);
}

TEST(caps_say_why_not)
{
	if (geteuid() != 0)
		SKIP("needs root to give it up");
	check_child(probe_as_nobody);
}

TEST(a_kept_device_outlives_privilege)
{
	if (geteuid() != 0)
		SKIP("needs root to give it up");
	kept_fd = open(UFFD_DEV, O_RDWR | O_CLOEXEC);
	if (kept_fd < 0)
		SKIP("%s: %m", UFFD_DEV);
	check_child(open_by_kept_device);
	close(kept_fd);
}
