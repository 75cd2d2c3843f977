/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_host.c - what programs do with processes, descriptors and identities.
 *
 *   closefrom     close_range(3, ~0) with pages out; and the first open() is 3
 *   spawn         vfork, posix_spawn, system, popen
 *   exec N        exec of itself N times, paged each time
 *   daemon        daemon(3), then a fork
 *   rawfork, rawclone   a fork by system call: SIGSEGV or right bytes, never zeros
 *   _fork         _Fork(): the same
 *   setuid-late   setuid after paging began
 *   setuid-early  setuid, then memory
 *   chroot        chroot, then memory
 *   seccomp       a filter that refuses userfaultfd, then memory
 *   seccomp-all   paged memory, then a filter on all threads that kills for calls that
 *                 the manual does not ask it to allow
 *   exit          nothing (start-up cost)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "proc.h"

#define POOL_MIB 20

extern char **environ;
static struct pool pool;

static void fill(void)
{
	pool_make(&pool, POOL_MIB, 1);
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static int wait_status(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("no child");
	return status;
}

static void first_open_is_3(void)
{
	int fd = open("/dev/null", O_RDONLY);

	if (fd != 3)
		die("the first open() returned %d", fd);
	close(fd);
}

static void close_from(void)
{
	first_open_is_3();
	if (close_range(3, ~0u, 0))
		die("close_range");
	fill();
	first_open_is_3();
	for (int n = 0; n < 3; n++) {
		close_range(3, ~0u, 0);
		pool_check(&pool, 0, pool.nr_pages, 1);
	}
	first_open_is_3();
}

static void spawn(void)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 7", NULL };
	char line[20] = "";
	pid_t pid;
	FILE *p;

	fill();
	for (int n = 0; n < 20; n++) {
		pid = vfork();
		if (!pid) {
			execv("/bin/sh", argv);
			_exit(1);
		}
		if (wait_status(pid) != 7 << 8)
			die("vfork");
		if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) ||
		    wait_status(pid) != 7 << 8)
			die("posix_spawn");
		if (system("exit 7") != 7 << 8)
			die("system");
		p = popen("echo hello", "r");
		if (!p || !fgets(line, sizeof(line), p) || strcmp(line, "hello\n") || pclose(p))
			die("popen: %s", line);
		pool_check(&pool, (size_t)n, pool.nr_pages, 20);
	}
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void exec_self(const char *self, int nr)
{
	char text[12];

	fill();
	first_open_is_3();
	if (!nr)
		return;
	snprintf(text, sizeof(text), "%d", nr - 1);
	execl(self, self, "exec", text, (char *)NULL);
	die("exec: %s", strerror(errno));
}

static void be_daemon(const char *mark)
{
	int fd;
	pid_t pid;

	fill();
	if (daemon(1, 1))
		die("daemon");
	pool_check(&pool, 0, pool.nr_pages, 1);
	pid = fork();
	if (!pid) {
		pool_check(&pool, 0, pool.nr_pages, 1);
		_exit(0);
	}
	if (wait_status(pid))
		die("the daemon's child");
	fd = open(mark, O_CREAT | O_WRONLY, 0600);
	if (fd < 0 || close(fd))
		die("open");
}

/* Right bytes, or killed by SIGSEGV: the child must not see anything else. */
static void other_fork(pid_t (*how)(void))
{
	fill();
	for (int n = 0; n < 10; n++) {
		pid_t pid = how();
		int status;

		if (!pid) {
			volatile uint64_t *word = pool.word;

			for (size_t p = 0; p < pool.nr_pages; p++)
				if (word[p * PAGE_WORDS] != pool_word(1, p, 0))
					syscall(SYS_exit_group, 3);
			syscall(SYS_exit_group, 0);
		}
		status = wait_status(pid);
		if (status && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV))
			die("the child ended with 0x%x", status);
		pool_check(&pool, 0, pool.nr_pages, 7);
	}
}

static pid_t raw_fork(void)
{
	return (pid_t)syscall(SYS_fork);
}

static pid_t raw_clone(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void fork_checked(void)
{
	pid_t pid = fork();

	if (!pid) {
		pool_check(&pool, 0, pool.nr_pages, 1);
		_exit(0);
	}
	if (wait_status(pid))
		die("the child after a change of identity");
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void *idle(void *arg)
{
	pause();
	return arg;
}

static void be_nobody(void)
{
	pthread_t t;

	/* With a thread, so that libc makes the change in each it knows. */
	pthread_create(&t, NULL, idle, NULL);
	if (geteuid() == 0 && (setgid(65534) || setuid(65534) || geteuid() != 65534))
		die("setuid");
}

static void set_id(int late)
{
	if (late)
		fill();
	be_nobody();
	if (!late)
		fill();
	fork_checked();
}

static void change_root(void)
{
	if (mkdir("root", 0700) || (geteuid() == 0 && chroot("root")))
		die("chroot: %s", strerror(errno));
	fill();
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void filtered(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		die("seccomp: %s", strerror(errno));
	fill();
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static void filtered_all(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_getaffinity, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	fill();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog))
		die("seccomp: %s", strerror(errno));
	for (int i = 0; i < 5; i++)
		pool_check(&pool, 0, pool.nr_pages, 1);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (!strcmp(how, "exit"))
		return 0;
	if (!strcmp(how, "closefrom"))
		close_from();
	else if (!strcmp(how, "spawn"))
		spawn();
	else if (!strcmp(how, "exec"))
		exec_self(argv[0], argc > 2 ? atoi(argv[2]) : 5);
	else if (!strcmp(how, "daemon"))
		be_daemon(argc > 2 ? argv[2] : "daemon.done");
	else if (!strcmp(how, "rawfork"))
		other_fork(raw_fork);
	else if (!strcmp(how, "rawclone"))
		other_fork(raw_clone);
	else if (!strcmp(how, "_fork"))
		other_fork(_Fork);
	else if (!strcmp(how, "setuid-late") || !strcmp(how, "setuid-early"))
		set_id(!strcmp(how, "setuid-late"));
	else if (!strcmp(how, "chroot"))
		change_root();
	else if (!strcmp(how, "seccomp-all"))
		filtered_all();
	else if (!strcmp(how, "seccomp"))
		filtered();
	else
		die("which mode?");
	return 0;
}
