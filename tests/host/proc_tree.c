/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_tree.c - what becomes of a process and its children in the long run.
 *
 *   nested DEPTH     each child forks the next; all write, send out, and look
 *   segments ROUNDS  bytes in the swap file at a fork stay until both have let go of
 *                    them, whichever of the two churns; and then their space is used again
 *   many N TREE      N forks: no more memory, descriptors, mappings, records in the tree
 *   signals N        N forks under a flood of signals whose handler reads cold memory
 *   raw              copies made past fork(): SIGSEGV and a message, or, where the
 *                    memory is shared, the right bytes; never zeros
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/sched.h>
#include <quire/view.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "proc_state.h"

static struct pool pool;
static const char *tree_path;

static void expect_end(pid_t pid, const char *who)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("no %s: %m", who);
	if (status)
		die("the %s ended with 0x%x", who, status);
}

static void out_and_in(void)
{
	page_out(pool.word, pool.nr_pages);
	pool_check(&pool, 0, pool.nr_pages, 1);
}

/* ---- nested ------------------------------------------------------------------------- */

static void nested(int depth, size_t level)
{
	pid_t pid;

	for (size_t n = level; n < pool.nr_pages; n += 7)
		pool_write(&pool, n, 100 + (uint32_t)level);
	page_out(pool.word, pool.nr_pages / 2);
	if (!depth)
		return;
	pid = fork();
	if (!pid) {
		nested(depth - 1, level + 1);
		out_and_in();
		_exit(0);
	}
	out_and_in();
	for (size_t n = level + 1; n < pool.nr_pages; n += 5)
		pool_write(&pool, n, 200 + (uint32_t)level);
	expect_end(pid, "child");
	out_and_in();
}

/* ---- segments ----------------------------------------------------------------------- */

/* The program's descriptors and the engine's, whose threads have a table of their own. */
static void look_at_fds(uint64_t *ret_nr, uint64_t *ret_file_bytes)
{
	DIR *tasks = opendir("/proc/self/task"), *fds;
	uint64_t table[2] = { 0 };
	struct dirent *task, *d;
	char path[64];
	struct stat st;

	*ret_file_bytes = 0;
	while (tasks && (task = readdir(tasks))) {
		long tid = strtol(task->d_name, NULL, 10);
		uint64_t *nr = &table[tid != getpid()];

		snprintf(path, sizeof(path), "/proc/self/task/%ld/fd", tid);
		fds = tid ? opendir(path) : NULL;
		*nr = 0;
		while (fds && (d = readdir(fds))) {
			++*nr;
			/* Unnamed and of some size: the swap file, the same for each thread. */
			if (!fstatat(dirfd(fds), d->d_name, &st, 0) && S_ISREG(st.st_mode) &&
			    !st.st_nlink && (uint64_t)st.st_blocks * 512 > *ret_file_bytes)
				*ret_file_bytes = (uint64_t)st.st_blocks * 512;
		}
		if (fds)
			closedir(fds);
	}
	closedir(tasks);
	*ret_nr = table[0] + table[1];
}

static uint64_t file_bytes(void)
{
	uint64_t nr, bytes;

	look_at_fds(&nr, &bytes);
	return bytes;
}

static void churn(uint32_t seed)
{
	for (uint32_t round = 0; round < 2; round++) {
		for (size_t n = 0; n < pool.nr_pages; n++)
			pool_write(&pool, n, seed + round);
		page_out(pool.word, pool.nr_pages);
	}
}

static void all_in_store(void)
{
	uint64_t want = pool.nr_pages * 9 / 10, got;

	page_out(pool.word, pool.nr_pages);
	got = stat_of("stored") / PAGE;
	if (got < want)
		die("%llu pages in the swap file, wanted %llu", (unsigned long long)got,
		    (unsigned long long)want);
}

static void segments_round(uint32_t round)
{
	bool parent_churns = round % 3 != 1, child_churns = round % 3 != 0;
	uint32_t seed = 1000 * (round + 1);
	int done[2];
	pid_t pid;
	char byte;

	for (size_t n = 0; n < pool.nr_pages; n++)
		pool_write(&pool, n, seed);
	all_in_store();
	if (pipe(done))
		die("pipe: %m");
	pid = fork();
	if (!pid) {
		close(done[1]);
		if (child_churns)
			churn(seed + 100);
		/* The parent has churned. */
		if (read(done[0], &byte, 1))
			die("read: %m");
		pool_check(&pool, 0, pool.nr_pages, 1);
		churn(seed + 200); /* what it held is the parent's to use now */
		pool_check(&pool, 0, pool.nr_pages, 1);
		_exit(0);
	}
	close(done[0]);
	if (parent_churns)
		churn(seed + 300);
	close(done[1]);
	if (!parent_churns) /* the child churns and reuses what it may */
		usleep(20000);
	pool_check(&pool, 0, pool.nr_pages, 1);
	churn(seed + 400);
	pool_check(&pool, 0, pool.nr_pages, 1);
	expect_end(pid, "child");
	out_and_in();
}

static void segments(int rounds)
{
	uint64_t first = 0, last;

	set_knob("memory.zswap.max", "0");
	for (int round = 0; round < rounds; round++) {
		segments_round((uint32_t)round);
		if (round == 2)
			first = file_bytes();
	}
	last = file_bytes();
	printf("segments: the file has %llu MiB after 3 rounds, %llu after %d\n",
	       (unsigned long long)first >> 20, (unsigned long long)last >> 20, rounds);
	if (!first || last > first + first / 2)
		die("the space of those who let go is not used again");
}

/* ---- many --------------------------------------------------------------------------- */

struct usage {
	uint64_t resident, fds, maps, members, groups, tree_bytes, charged;
};

static uint64_t count_lines(const char *path)
{
	FILE *f = fopen(path, "r");
	uint64_t nr = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		nr += c == '\n';
	if (!f)
		die("%s: %m", path);
	fclose(f);
	return nr;
}

static void look_at_tree(struct usage *u)
{
	struct quire_member m = { .size = sizeof(m) };
	struct quire_view *view;
	char path[4096] = "";
	int fd = open(tree_path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || quire_view_open(fd, &view) < 0)
		die("%s: %m", tree_path);
	u->tree_bytes = (uint64_t)st.st_blocks * 512;
	while (!quire_view_member(view, (unsigned)u->members, &m))
		u->members++;
	while (!quire_view_next(view, path, sizeof(path)))
		u->groups++;
	quire_view_close(view);
	close(fd);
}

static struct usage look(void)
{
	struct usage u = { .maps = count_lines("/proc/self/maps") };
	unsigned long size, resident;
	uint64_t bytes;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
		die("statm");
	fclose(f);
	u.resident = resident;
	look_at_fds(&u.fds, &bytes);
	u.charged = stat_of("kernel") / PAGE;
	look_at_tree(&u);
	return u;
}

static void no_more(const char *what, uint64_t before, uint64_t after, uint64_t slack)
{
	printf("many: %s: %llu, then %llu\n", what, (unsigned long long)before,
	       (unsigned long long)after);
	if (after > before + slack)
		die("%s grew", what);
}

static void many(int nr)
{
	struct usage before, after;

	for (int n = 0; n < nr + 200; n++) {
		pid_t pid = fork();

		if (!pid) {
			/* Some look and are charged, most end before that. */
			if (n % 16 == 0)
				pool_check(&pool, (size_t)n % 97, pool.nr_pages, 97);
			_exit(0);
		}
		expect_end(pid, "child");
		if (n % 64 == 0)
			out_and_in();
		if (n == 199) /* everything has had its size once */
			before = look();
	}
	out_and_in();
	after = look();
	no_more("pages resident", before.resident, after.resident, 256);
	/* The end of a child that shared the swap file is noticed at a fork. */
	no_more("descriptors", before.fds, after.fds, 2);
	no_more("mappings", before.maps, after.maps, 8);
	no_more("members in the tree", before.members, after.members, 0);
	no_more("groups in the tree", before.groups, after.groups, 0);
	no_more("bytes of the tree", before.tree_bytes, after.tree_bytes, 0);
	no_more("pages of metadata", before.charged, after.charged, 64);
}

/* ---- signals ------------------------------------------------------------------------ */

static volatile sig_atomic_t nr_signals;

static void on_signal(int sig)
{
	size_t n = (size_t)nr_signals++ * 7 % pool.nr_pages;

	(void)sig;
	pool_check(&pool, n, n + 1, 1);
}

static void signals(int nr)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pid_t group_id = getpid(), sender;
	int in_children = 0;

	sigaction(SIGUSR1, &act, NULL);
	setpgid(0, 0);
	sender = fork();
	if (!sender) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			kill(-group_id, SIGUSR1);
			for (volatile int n = 0; n < 3000; n++)
				;
		}
	}
	setpgid(sender, sender);
	for (int n = 0; n < nr; n++) {
		int status;
		pid_t pid;

		page_out(pool.word, pool.nr_pages);
		nr_signals = n;
		pid = fork();
		if (!pid)
			_exit(nr_signals > n ? 9 : 0);
		while (waitpid(pid, &status, 0) < 0)
			if (errno != EINTR)
				die("waitpid: %m");
		if (status && status != 9 << 8)
			die("the child ended with 0x%x", status);
		in_children += status != 0;
	}
	kill(sender, SIGKILL);
	printf("signals: %d of %d children had one\n", in_children, nr);
	if (!in_children)
		die("no signal came in time");
}

/* ---- raw ---------------------------------------------------------------------------- */

static long raw_fork(void)
{
	return syscall(SYS_fork);
}

static long raw_clone(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long raw_clone_vfork(void)
{
	return syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
}

static long raw_clone3(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	return syscall(SYS_clone3, &args, sizeof(args));
}

static long libc__fork(void)
{
	return _Fork();
}

/* First a call that an engine would answer, where there is one. */
static int look_and_exit(void *arg)
{
	void *own = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (own == MAP_FAILED || *(volatile char *)own || munmap(own, 1 << 20))
		syscall(SYS_exit_group, 4);
	(void)arg;
	for (size_t n = 0; n < pool.nr_pages; n++)
		if (((volatile uint64_t *)pool.word)[n * PAGE_WORDS] != pool_word(1, n, 0))
			syscall(SYS_exit_group, 3);
	syscall(SYS_exit_group, 0);
	return 0;
}

/* Flags with which a copy is not taken for one of fork's. */
static long other_clone(void)
{
	static char stack[16384] __attribute__((aligned(64)));

	return clone(look_and_exit, stack + sizeof(stack), CLONE_SYSVSEM | SIGCHLD, NULL);
}

/* With no function in between the child may share its parent's stack. */
static long shared_clone(void)
{
	long pid;

	__asm__ volatile("syscall"
			 : "=a"(pid)
			 : "a"(SYS_clone), "D"(CLONE_VM | CLONE_VFORK | SIGCHLD), "S"(0), "d"(0)
			 : "rcx", "r11", "memory");
	if (!pid) {
		for (size_t n = 0; n < pool.nr_pages; n++)
			if (((volatile uint64_t *)pool.word)[n * PAGE_WORDS] != pool_word(1, n, 0))
				pid = 3;
		__asm__ volatile("syscall" : : "a"(SYS_exit_group), "D"(pid) : "memory");
	}
	return pid;
}

/* The child's status, and what it has said on stderr. */
static int run_child(long (*how)(void), char *text, size_t size)
{
	int fd[2], err = dup(2), status;
	ssize_t n;
	long pid;

	if (err < 0 || pipe2(fd, O_CLOEXEC) || dup2(fd[1], 2) < 0)
		die("pipe: %m");
	page_out(pool.word, pool.nr_pages);
	pid = how();
	if (!pid)
		look_and_exit(NULL);
	dup2(err, 2);
	close(err);
	close(fd[1]);
	if (pid < 0 || waitpid((pid_t)pid, &status, 0) != pid)
		die("no child: %m");
	n = read(fd[0], text, size - 1);
	text[n < 0 ? 0 : n] = '\0';
	close(fd[0]);
	pool_check(&pool, 0, pool.nr_pages, 1);
	return status;
}

static void raw(void)
{
	static const struct {
		const char *name;
		long (*how)(void);
	} copy[] = {
		{ "fork", raw_fork },
		{ "clone", raw_clone },
		{ "clone vfork", raw_clone_vfork },
		{ "clone3", raw_clone3 },
		{ "_Fork", libc__fork },
		{ "clone()", other_clone },
	};
	char text[1000];
	int status;

	for (size_t i = 0; i < sizeof(copy) / sizeof(copy[0]); i++) {
		snprintf(die_where, sizeof(die_where), "%s: ", copy[i].name);
		status = run_child(copy[i].how, text, sizeof(text));
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
			die("the child ended with 0x%x", status);
		if (strncmp(text, "quire: ", 7) || !strstr(text, "use fork()"))
			die("the child said \"%s\"", text);
	}
	snprintf(die_where, sizeof(die_where), "shared: ");
	status = run_child(shared_clone, text, sizeof(text));
	if (status || *text)
		die("the child ended with 0x%x, said \"%s\"", status, text);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int nr = argc > 2 ? atoi(argv[2]) : 0;

	tree_path = argc > 3 ? argv[3] : "";
	setvbuf(stdout, NULL, _IONBF, 0);
	state_open();
	pool_make(&pool, strcmp(how, "segments") ? 1 : 4, 1);
	if (!strcmp(how, "nested"))
		nested(nr, 0);
	else if (!strcmp(how, "segments"))
		segments(nr);
	else if (!strcmp(how, "many"))
		many(nr);
	else if (!strcmp(how, "signals"))
		signals(nr);
	else if (!strcmp(how, "raw"))
		raw();
	else
		die("which mode?");
	return 0;
}
