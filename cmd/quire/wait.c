/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait.c - a parent that is not there: `quire run --stats`.
 *
 * The program runs in a child in this process group, so the terminal and the
 * shell treat both alike.  What the terminal sends (Ctrl-C, Ctrl-Z, a changed
 * window) reaches the program by itself; what somebody sends to this process
 * alone is passed on.  When the program stops, so does this process, and the
 * shell sees a stopped job; not where no shell is waiting and it was SIGSTOP.
 * The terminal's own state is never touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double seconds_of(const struct timeval *tv)
{
	return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

/* Everything but what a fault of our own raises. */
static void block_signals(sigset_t *ret_set, sigset_t *ret_old)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPIPE };

	sigfillset(ret_set);
	for (size_t i = 0; i < COUNT_OF(own); i++)
		sigdelset(ret_set, own[i]);
	sigprocmask(SIG_BLOCK, ret_set, ret_old);
}

/*
 * Stopped by somebody's SIGSTOP to the program alone, in no shell's foreground: he
 * will continue it alone as well, and nobody us.
 */
static bool is_by_hand(int sig)
{
	int tty = sig == SIGSTOP ? open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC) : -1;
	bool front = tty >= 0 && tcgetpgrp(tty) == getpgrp();

	if (tty >= 0)
		close(tty);
	return sig == SIGSTOP && !front;
}

/*
 * Stop as the program did.  SIGSTOP, because ours are blocked and because it
 * works in a process group without a shell, too.
 */
static void stop_with(pid_t child)
{
	char path[64], line[512];
	const char *state;

	kill(getpid(), SIGSTOP);
	/* Continued.  By the shell: the program as well.  Alone: pass it on. */
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
	system_read_line(path, line, sizeof(line));
	state = strrchr(line, ')');
	if (state && state[1] && state[2] == 'T')
		kill(child, SIGCONT);
}

/* The terminal's signals go to the whole process group, from the kernel. */
static bool is_for_us_alone(const siginfo_t *si)
{
	return si->si_code == SI_USER || si->si_code == SI_TKILL || si->si_code == SI_QUEUE;
}

static void pass_on(pid_t child, const siginfo_t *si)
{
	/* What the program sends to its group it has itself. */
	if (!is_for_us_alone(si) || si->si_pid == child)
		return;
	if (si->si_code == SI_QUEUE)
		sigqueue(child, si->si_signo, si->si_value);
	else
		kill(child, si->si_signo);
}

/* True when the program has ended. */
static bool collect(pid_t child, int *ret_status, struct rusage *ret_usage)
{
	int status;
	pid_t pid;

	while ((pid = wait4(child, &status, WNOHANG | WUNTRACED, ret_usage)) == child) {
		if (!WIFSTOPPED(status)) {
			*ret_status = status;
			return true;
		}
		if (!is_by_hand(WSTOPSIG(status)))
			stop_with(child);
	}
	return pid < 0 && errno == ECHILD;
}

void child_run(void (*start)(void *ctx), void *ctx, struct child *ret_child)
{
	struct sigaction reap = { .sa_handler = SIG_DFL }, old_reap;
	sigset_t set, old;
	struct rusage usage = { 0 };
	double begin = now();
	int status = 0;
	siginfo_t si;

	block_signals(&set, &old);
	/* Ignored, it would make children vanish without a status. */
	sigaction(SIGCHLD, &reap, &old_reap);
	ret_child->pid = fork();
	if (ret_child->pid < 0)
		die(EXIT_QUIRE, "cannot fork: %s: are there too many processes?", strerror(errno));
	if (!ret_child->pid) {
		sigaction(SIGCHLD, &old_reap, NULL);
		sigprocmask(SIG_SETMASK, &old, NULL);
		start(ctx);
		_exit(EXIT_QUIRE);
	}
	while (!collect(ret_child->pid, &status, &usage)) {
		if (sigwaitinfo(&set, &si) < 0)
			continue;
		if (si.si_signo != SIGCHLD)
			pass_on(ret_child->pid, &si);
	}
	ret_child->seconds = now() - begin;
	ret_child->user_seconds = seconds_of(&usage.ru_utime);
	ret_child->system_seconds = seconds_of(&usage.ru_stime);
	ret_child->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	ret_child->status = ret_child->signal ? EXIT_SIGNAL + ret_child->signal :
						WEXITSTATUS(status);
	sigprocmask(SIG_SETMASK, &old, NULL);
}
