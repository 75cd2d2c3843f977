/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.h - a process that ends, or is stopped, at its n-th step.
 *
 * A step is any access to an atomic, a lock or a statistic (base/sync.h with
 * QUIRE_STEPS): all that other processes see of one in a shared segment lies between two
 * of them.  steps_each() runs a scenario in a process of its own, which is killed at its
 * first step, then another, killed at its second, and so on, until one comes to its end.
 *
 * steps_each_stopped(): the same with SIGSTOP, and SIGCONT after meet().
 *
 * QUIRE_KILL_AT=n, QUIRE_STOP_AT=n: at this step only.  QUIRE_KILL_STRIDE: every so many
 * steps, with another beginning each day; 1 is all of them.
 */
#ifndef QUIRE_TESTS_KILL_STEPS_H
#define QUIRE_TESTS_KILL_STEPS_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sync.h"
#include "lib/test.h"

#define STEPS_UNUSED __attribute__((unused))
/* Nobody waits longer for anybody. */
#define STEPS_HANG_S 20

/* 0: not armed.  Of this process; a forked child goes on counting. */
static u64 steps_left;

/* Shared: those that have stopped, of which one may be the other's child. */
static struct {
	u32 nr;
	int pid[8];
} * steps_stopped; /* NULL: they are killed */

void sync_point(const void *addr)
{
	(void)addr;
	if (!__atomic_load_n(&steps_left, __ATOMIC_RELAXED) ||
	    __atomic_sub_fetch(&steps_left, 1, __ATOMIC_RELAXED))
		return;
	if (steps_stopped) {
		u32 n = __atomic_fetch_add(&steps_stopped->nr, 1, __ATOMIC_RELAXED);

		__atomic_store_n(&steps_stopped->pid[n], getpid(), __ATOMIC_RELEASE);
	}
	kill(getpid(), steps_stopped ? SIGSTOP : SIGKILL);
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

static pid_t steps_start(void (*prepare)(void), void (*scenario)(void), u64 at)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (prepare)
		prepare();
	steps_left = at;
	scenario();
	steps_left = 0;
	_exit(0);
}

/* True: it came to its end. */
static bool steps_kill(void (*prepare)(void), void (*scenario)(void), u64 at)
{
	pid_t pid = steps_start(prepare, scenario, at);
	int status;

	if (waitpid(pid, &status, 0) != pid)
		FAIL("step %llu: no process", (unsigned long long)at);
	if (WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != SIGKILL)
		FAIL("step %llu: wait status %x", (unsigned long long)at, status);
	return WIFEXITED(status);
}

/* True: it was not stopped any more. */
static bool steps_stop(void (*prepare)(void), void (*scenario)(void), u64 at, void (*meet)(u64 at))
{
	pid_t pid;
	u32 seen = 0;
	int status;

	memset(steps_stopped, 0, sizeof(*steps_stopped));
	pid = steps_start(prepare, scenario, at);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		int stopped = __atomic_load_n(&steps_stopped->pid[seen], __ATOMIC_ACQUIRE);

		if (!stopped || !os_process_stopped(stopped)) {
			usleep(50);
			continue;
		}
		meet(at);
		kill(stopped, SIGCONT);
		seen++;
	}
	if (status)
		FAIL("stopped at %llu: wait status %x", (unsigned long long)at, status);
	return !seen;
}

/* check() after each; what it finds wrong ends the test.  What prepare() does is no step. */
static void steps_run(void (*prepare)(void), void (*scenario)(void), void (*check)(u64 at),
		      void (*meet)(u64 at), u64 stride)
{
	u64 only = steps_number(meet ? "QUIRE_STOP_AT" : "QUIRE_KILL_AT", 0), nr = 0, at;
	bool ended = false;

	stride = steps_number("QUIRE_KILL_STRIDE", stride);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	at = only ? only : 1 + (u64)time(NULL) / 86400 % stride;
	for (; !ended; at += stride, nr++) {
		alarm(STEPS_HANG_S);
		ended = meet ? steps_stop(prepare, scenario, at, meet) :
			       steps_kill(prepare, scenario, at);
		/* Its children, which are ours now. */
		steps_wait_all();
		check(at);
		if (only)
			break;
	}
	alarm(0);
	printf("# %s at %llu steps of at most %llu\n", meet ? "stopped" : "killed",
	       (unsigned long long)nr - ended, (unsigned long long)at - stride);
}

static STEPS_UNUSED void steps_each(void (*prepare)(void), void (*scenario)(void),
				    void (*check)(u64 at), u64 stride)
{
	steps_run(prepare, scenario, check, NULL, stride);
}

static STEPS_UNUSED void steps_each_stopped(void (*prepare)(void), void (*scenario)(void),
					    void (*check)(u64 at), void (*meet)(u64 at), u64 stride)
{
	steps_stopped = mmap(NULL, sizeof(*steps_stopped), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (steps_stopped == MAP_FAILED)
		FAIL("no memory");
	steps_run(prepare, scenario, check, meet, stride);
	munmap(steps_stopped, sizeof(*steps_stopped));
	steps_stopped = NULL;
}

#endif
