/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.h - a process that ends at its n-th step.
 *
 * A step is any access to an atomic, a lock or a statistic (base/sync.h with
 * QUIRE_STEPS): all that other processes see of one in a shared segment lies between two
 * of them.  steps_each() runs a scenario in a process of its own, which is killed at its
 * first step, then another, killed at its second, and so on, until one comes to its end.
 *
 * QUIRE_KILL_AT=n: at this step only.  QUIRE_KILL_STRIDE: every so many steps, with
 * another beginning each day; 1 is all of them.
 */
#ifndef QUIRE_TESTS_KILL_STEPS_H
#define QUIRE_TESTS_KILL_STEPS_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/sync.h"
#include "lib/test.h"

/* Nobody waits longer for anybody. */
#define STEPS_HANG_S 20

/* 0: not armed.  Of this process; a forked child goes on counting. */
static u64 steps_left;

void sync_point(const void *addr)
{
	(void)addr;
	if (!__atomic_load_n(&steps_left, __ATOMIC_RELAXED))
		return;
	if (__atomic_sub_fetch(&steps_left, 1, __ATOMIC_RELAXED) == 0)
		kill(getpid(), SIGKILL);
}

static u64 steps_number(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void steps_wait_all(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/* True: it came to its end. */
static bool steps_one(void (*prepare)(void), void (*scenario)(void), u64 at)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (prepare)
			prepare();
		steps_left = at;
		scenario();
		steps_left = 0;
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		FAIL("step %llu: no process", (unsigned long long)at);
	/* Its children, which are ours now. */
	steps_wait_all();
	if (WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != SIGKILL)
		FAIL("step %llu: wait status %x", (unsigned long long)at, status);
	return WIFEXITED(status);
}

/* check() after each kill; what it finds wrong ends the test.  What prepare() does is no step. */
static void steps_each(void (*prepare)(void), void (*scenario)(void), void (*check)(u64 at),
		       u64 stride)
{
	u64 only = steps_number("QUIRE_KILL_AT", 0), nr = 0, at;
	bool ended = false;

	stride = steps_number("QUIRE_KILL_STRIDE", stride);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	at = only ? only : 1 + (u64)time(NULL) / 86400 % stride;
	for (; !ended; at += stride) {
		alarm(STEPS_HANG_S);
		ended = steps_one(prepare, scenario, at);
		check(at);
		nr++;
		if (only)
			break;
	}
	alarm(0);
	printf("# killed at %llu steps, the last of them %llu\n", (unsigned long long)nr - ended,
	       (unsigned long long)(at - (only	? 0 :
					  ended ? 2 :
						  1) *
						 stride));
}

#endif
