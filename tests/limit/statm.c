/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statm.c - run a command and watch its anonymous memory from outside.
 *
 *   statm [-i MS] [-t SECONDS] [-o FILE] [-c NAME] [--] COMMAND [ARG]...
 *
 * Owns: the sampling of /proc/PID/statm (resident - shared = anonymous) of the
 * command and all its descendants every MS milliseconds (10), and the time
 * bound.  It knows nothing of quire: the figures are the kernel's.  With -c
 * only processes whose name (/proc/PID/comm) is NAME count.
 *
 * FILE gets "key value" lines: the largest anonymous RSS of any one process,
 * the largest sum over processes alive at one time, how many samples there
 * were and the longest gap between two of them (a limit is only as proven as
 * it was watched), wall and CPU time.  Exit status: the command's; 128+n when
 * signal n ended it; 124 when the time bound did.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROCS 512
#define RESCAN_NS 100000000ull

struct watch {
	pid_t root;
	const char *want; /* comm, or NULL */
	pid_t procs[MAX_PROCS];
	int nr_procs;
	uint64_t last_pid; /* newest pid of the system at the last scan */
	uint64_t scan_ns;
	long page_bytes;
	/* results */
	uint64_t max_anon, max_sum, max_resident;
	char max_comm[32];
	uint64_t samples, max_gap_ns, last_sample_ns;
};

static void die(const char *what)
{
	fprintf(stderr, "statm: %s: %s\n", what, strerror(errno));
	exit(125);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* The whole of a small /proc file; false when it is gone. */
static bool read_proc(char *buf, size_t size, const char *fmt, ...)
{
	char path[64];
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	return true;
}

static uint64_t newest_pid(void)
{
	char buf[128], *space;

	if (!read_proc(buf, sizeof(buf), "/proc/loadavg"))
		return 0;
	space = strrchr(buf, ' ');
	return space ? strtoull(space + 1, NULL, 10) : 0;
}

static pid_t parent_of(pid_t pid)
{
	char buf[512], *end;
	int ppid;

	if (!read_proc(buf, sizeof(buf), "/proc/%d/stat", pid))
		return 0;
	end = strrchr(buf, ')'); /* the name may hold anything */
	if (!end || sscanf(end + 1, " %*c %d", &ppid) != 1)
		return 0;
	return ppid;
}

static bool comm_is(pid_t pid, const char *want)
{
	char buf[64];

	if (!want)
		return true;
	if (!read_proc(buf, sizeof(buf), "/proc/%d/comm", pid))
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return !strcmp(buf, want);
}

/* All our descendants, adopted orphans included, by everybody's parent links. */
static void scan_procs(struct watch *w)
{
	static struct {
		pid_t pid, ppid;
		bool in;
	} all[8192];
	pid_t self = getpid();
	struct dirent *d;
	bool grew = true;
	int nr = 0;
	DIR *dir;

	dir = opendir("/proc");
	if (!dir)
		die("/proc");
	while ((d = readdir(dir)) && nr < 8192) {
		pid_t pid = atoi(d->d_name);

		if (pid <= 0)
			continue;
		all[nr].pid = pid;
		all[nr].ppid = pid == self ? 0 : parent_of(pid);
		all[nr].in = pid == self;
		nr++;
	}
	closedir(dir);
	while (grew) {
		grew = false;
		for (int i = 0; i < nr; i++) {
			if (all[i].in)
				continue;
			for (int j = 0; j < nr; j++) {
				if (all[j].in && all[j].pid == all[i].ppid)
					all[i].in = grew = true;
			}
		}
	}
	w->nr_procs = 0;
	for (int i = 0; i < nr && w->nr_procs < MAX_PROCS; i++) {
		if (!all[i].in || all[i].pid == self)
			continue;
		w->procs[w->nr_procs++] = all[i].pid;
	}
}

static void sample(struct watch *w)
{
	uint64_t now = now_ns(), newest = newest_pid(), sum = 0;
	char buf[128];

	if (newest != w->last_pid || now - w->scan_ns > RESCAN_NS) {
		w->last_pid = newest;
		w->scan_ns = now;
		scan_procs(w);
	}
	for (int i = 0; i < w->nr_procs; i++) {
		unsigned long long resident, shared, anon;
		pid_t pid = w->procs[i];

		/* names change at exec, so they are asked for each time */
		if (!comm_is(pid, w->want))
			continue;
		if (!read_proc(buf, sizeof(buf), "/proc/%d/statm", pid) ||
		    sscanf(buf, "%*u %llu %llu", &resident, &shared) != 2)
			continue;
		/* the two are summed one after the other, not at one instant */
		anon = resident > shared ? (resident - shared) * w->page_bytes : 0;
		sum += anon;
		if (resident * w->page_bytes > w->max_resident)
			w->max_resident = resident * w->page_bytes;
		if (anon > w->max_anon) {
			w->max_anon = anon;
			if (read_proc(w->max_comm, sizeof(w->max_comm), "/proc/%d/comm", pid))
				w->max_comm[strcspn(w->max_comm, "\n")] = '\0';
		}
	}
	if (sum > w->max_sum)
		w->max_sum = sum;
	if (w->samples && now - w->last_sample_ns > w->max_gap_ns)
		w->max_gap_ns = now - w->last_sample_ns;
	w->last_sample_ns = now;
	w->samples++;
}

static void kill_tree(struct watch *w)
{
	scan_procs(w);
	for (int i = 0; i < w->nr_procs; i++)
		kill(w->procs[i], SIGKILL);
}

static void report(struct watch *w, const char *path, uint64_t ns, int status, bool timed_out)
{
	FILE *f = path ? fopen(path, "w") : stderr;
	struct rusage ru;

	if (!f)
		die(path);
	getrusage(RUSAGE_CHILDREN, &ru);
	fprintf(f, "max_anon_bytes %llu\n", (unsigned long long)w->max_anon);
	fprintf(f, "max_anon_comm %s\n", w->max_comm[0] ? w->max_comm : "-");
	fprintf(f, "max_sum_bytes %llu\n", (unsigned long long)w->max_sum);
	fprintf(f, "max_resident_bytes %llu\n", (unsigned long long)w->max_resident);
	fprintf(f, "samples %llu\n", (unsigned long long)w->samples);
	fprintf(f, "max_gap_ms %.1f\n", w->max_gap_ns / 1e6);
	fprintf(f, "wall_s %.3f\n", ns / 1e9);
	fprintf(f, "user_s %.3f\n", ru.ru_utime.tv_sec + ru.ru_utime.tv_usec / 1e6);
	fprintf(f, "system_s %.3f\n", ru.ru_stime.tv_sec + ru.ru_stime.tv_usec / 1e6);
	fprintf(f, "status %d\n", status);
	fprintf(f, "timed_out %d\n", timed_out);
	if (f != stderr && fclose(f))
		die(path);
}

/* Until the time given, or until a child ended. */
static void wait_until(uint64_t at_ns, const sigset_t *chld)
{
	uint64_t now = now_ns(), left = at_ns > now ? at_ns - now : 0;
	struct timespec ts = { left / 1000000000, left % 1000000000 };

	sigtimedwait(chld, NULL, &ts);
}

static pid_t spawn(char **argv)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		sigset_t chld;

		sigemptyset(&chld);
		sigaddset(&chld, SIGCHLD);
		sigprocmask(SIG_UNBLOCK, &chld, NULL);
		execvp(argv[0], argv);
		fprintf(stderr, "statm: %s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	return pid;
}

int main(int argc, char **argv)
{
	uint64_t interval_ns = 10000000, bound_ns = 0, start, next;
	static struct watch w;
	const char *out = NULL;
	bool timed_out = false;
	int opt, status, code;
	sigset_t chld;

	while ((opt = getopt(argc, argv, "+i:t:o:c:")) != -1) {
		switch (opt) {
		case 'i':
			interval_ns = strtoull(optarg, NULL, 10) * 1000000;
			break;
		case 't':
			bound_ns = strtoull(optarg, NULL, 10) * 1000000000;
			break;
		case 'o':
			out = optarg;
			break;
		case 'c':
			w.want = optarg;
			break;
		default:
			return 2;
		}
	}
	if (optind == argc || !interval_ns) {
		fprintf(stderr,
			"usage: statm [-i MS] [-t SECONDS] [-o FILE] [-c NAME] [--] COMMAND...\n");
		return 2;
	}
	w.page_bytes = sysconf(_SC_PAGESIZE);
	/* daemons of the command stay our descendants, and are killed with it */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	start = next = now_ns();
	w.root = spawn(argv + optind);

	for (;;) {
		pid_t pid;

		while ((pid = waitpid(-1, &status, WNOHANG)) > 0 && pid != w.root)
			; /* an orphan that we adopted */
		if (pid == w.root)
			break;
		sample(&w);
		if (bound_ns && now_ns() - start > bound_ns) {
			timed_out = true;
			kill_tree(&w);
			while (waitpid(w.root, &status, 0) < 0 && errno == EINTR)
				;
			break;
		}
		next += interval_ns;
		if (next < now_ns())
			next = now_ns();
		wait_until(next, &chld);
	}
	code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	report(&w, out, now_ns() - start, code, timed_out);
	return timed_out ? 124 : code;
}
