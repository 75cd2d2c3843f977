/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kill.c - programs under `quire run` in one tree, which page and fork, killed
 * at random.  One that runs all along finds every word right and gives back what the dead
 * had; when it has ended, too, nothing is left: usage, gauge, group, file.
 *
 * Processes that share a limit with one that is stopped at random are not kept waiting.
 *
 * QUIRE_KILLS: how many, 100 if not set.  QUIRE_STOPS: how often, 30.
 * paging
 * time: 900
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "lib/test.h"
#include "memcg/internal.h"
#include "memcg/member.h"

#define NR_RUNS 3u
#define GIVEN_BACK_NS (30 * NSEC_PER_SEC)

static char build_dir[512], work_dir[512];
static u64 seed = 1;

static u32 random_below(u32 n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(seed >> 33) % n;
}

static u32 number(const char *name, u32 otherwise)
{
	const char *text = getenv(name);

	return text ? (u32)atoi(text) : otherwise;
}

/* ---- programs ------------------------------------------------------------------------ */

/* Each with its processes in one process group. */
static pid_t start_run(const char *group, const char *mib, const char *nr_children)
{
	char quire[600], program[600];
	pid_t pid = fork();

	if (pid) {
		setpgid(pid, pid);
		return pid;
	}
	setpgid(0, 0);
	snprintf(quire, sizeof(quire), "%s/quire", build_dir);
	snprintf(program, sizeof(program), "%s/tests/limit_tree", build_dir);
	if (!freopen("out", "a", stderr) || !freopen("out", "a", stdout))
		_exit(2);
	execl(quire, quire, "run", "--tree", "kill", "--group", group, "--max", "8M", "--", program,
	      mib, nr_children, "3000", NULL);
	_exit(2);
}

static pid_t start_victim(u32 n)
{
	char group[8];

	snprintf(group, sizeof(group), "g%u", n);
	return start_run(group, n % 2 ? "6" : "12", "2");
}

/* One of a process group, by chance. */
static pid_t pick_process(pid_t group)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	pid_t picked = group;
	u32 nr = 0;

	while (d && (entry = readdir(d))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && getpgid(pid) == group && random_below(++nr) == 0)
			picked = pid;
	}
	closedir(d);
	return picked;
}

static bool is_over(pid_t run)
{
	while (waitpid(-run, NULL, WNOHANG) > 0)
		;
	return kill(-run, 0) != 0;
}

static void end_group(pid_t run)
{
	(void)kill(-run, SIGKILL);
	while (waitpid(-run, NULL, 0) > 0)
		;
}

/* Every other time a whole run, else a process of it. */
static void kill_at_random(u32 nr_kills, u32 *ret_nr_runs)
{
	pid_t run[NR_RUNS];

	for (u32 i = 0; i < NR_RUNS; i++)
		run[i] = start_victim(i);
	*ret_nr_runs = NR_RUNS;
	for (u32 n = 0; n < nr_kills; n++) {
		u32 i = random_below(NR_RUNS);

		usleep(random_below(300000));
		(void)kill(random_below(2) ? -run[i] : pick_process(run[i]), SIGKILL);
		for (i = 0; i < NR_RUNS; i++) {
			if (!is_over(run[i]))
				continue;
			run[i] = start_victim(i);
			++*ret_nr_runs;
		}
	}
	for (u32 i = 0; i < NR_RUNS; i++)
		end_group(run[i]);
}

/* ---- what is left -------------------------------------------------------------------- */

static void set_up(void)
{
	const char *tmp = getenv("TMPDIR"), *build = getenv("QUIRE_BUILD");
	static u32 nr;
	char swap[600];

	snprintf(work_dir, sizeof(work_dir), "%s/kill.%d.%u", tmp ? tmp : "/var/tmp", getpid(),
		 nr++);
	ASSERT_NOT_NULL(realpath(build ? build : "build", build_dir));
	snprintf(swap, sizeof(swap), "%s/swap", work_dir);
	ASSERT_EQ(mkdir(work_dir, 0700), 0);
	ASSERT_EQ(mkdir(swap, 0700), 0);
	ASSERT_EQ(setenv("XDG_RUNTIME_DIR", work_dir, 1), 0);
	ASSERT_EQ(setenv("QUIRE_SWAP_DIR", swap, 1), 0);
	ASSERT_EQ(chdir(work_dir), 0);
	ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
}

/* As nobody: who does not come into the tree does not clean it up either. */
static struct memcg_tree *look_in(struct meta *meta)
{
	int fd = open("quire/kill", O_RDWR | O_CLOEXEC), err;
	struct memcg_tree *t;

	ASSERT_GE(fd, 0);
	err = memcg_tree_attach(meta, fd, MEMCG_ATTACH_NOBODY, &t);
	close(fd);
	ASSERT_OK(err);
	return t;
}

/* Charges and gauges of the groups at and below id. */
static u64 left_in(struct memcg_tree *t, struct memcg_id id)
{
	u64 nr = memcg_usage(t, id, COUNTER_MEMORY) + memcg_usage(t, id, COUNTER_SWAP) +
		 memcg_zswap_bytes(t, id);
	struct memcg_stats s;

	memcg_stats_read(t, id, &s);
	for (u32 i = 0; i < MEMCG_NR_STATS; i++)
		if (memcg_stat_is_gauge((enum memcg_stat)i))
			nr += s.v[i];
	return nr;
}

static u64 left_of_victims(struct memcg_tree *t)
{
	struct memcg_id id;
	char name[8];
	u64 nr = 0;

	for (u32 i = 0; i < NR_RUNS; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		ASSERT_OK(memcg_lookup(t, name, &id));
		nr += left_in(t, id) + memcg_populated(t, id);
	}
	return nr;
}

/* Nobody but the one that runs is there to do it. */
static u64 wait_given_back(struct memcg_tree *t)
{
	u64 start = os_now_ns();

	while (left_of_victims(t) || atomic32_load(&seg_head(t)->recount_due)) {
		if (os_now_ns() - start > GIVEN_BACK_NS)
			FAIL("left of the dead: %llu", (unsigned long long)left_of_victims(t));
		usleep(10000);
	}
	return os_now_ns() - start;
}

static void remove_tree(void)
{
	char command[700];

	snprintf(command, sizeof(command), "%s/quire rm --tree kill", build_dir);
	ASSERT_EQ(system(command), 0);
	ASSERT_EQ(test_nr_files("quire"), 0u);
	ASSERT_EQ(test_nr_files("swap"), 0u);
}

/* What quire rm would say. */
static void check_members(struct memcg_tree *t)
{
	const struct member_info *info;

	for (u32 n = 0; (info = member_info(t, n)); n++)
		if (member_alive(t, n) || !info->end_ns)
			FAIL("record %u of process %d (%s): state %u, end %llu", n, info->pid,
			     info->comm, atomic32_load(&seg_member(t, n)->state),
			     (unsigned long long)info->end_ns);
}

TEST(killed_at_random)
{
	u32 nr_kills = number("QUIRE_KILLS", 100), nr_runs;
	struct meta meta = { 0 };
	struct memcg_tree *t;
	struct memcg_id id;
	int status;
	pid_t keep;
	u64 ns;

	set_up();
	keep = start_run("keep", "12", "1");
	usleep(500000);
	kill_at_random(nr_kills, &nr_runs);
	t = look_in(&meta);
	ns = wait_given_back(t);
	ASSERT_OK(memcg_lookup(t, "keep", &id));
	ASSERT_GT(memcg_usage(t, id, COUNTER_MEMORY), 0u);
	ASSERT_EQ(kill(-keep, SIGTERM), 0);
	ASSERT_EQ(waitpid(keep, &status, 0), keep);
	ASSERT_EQ(status, 0);
	while (waitpid(-1, NULL, 0) > 0)
		;
	printf("# %u kills of %u runs of three processes; the last were given back after %llu ms; "
	       "%u found no room\n",
	       nr_kills, nr_runs, (unsigned long long)ns / 1000000, member_nr_refused(t));
	(void)member_reap(t);
	memcg_check(t);
	ASSERT_EQ(left_in(t, MEMCG_ROOT), 0u);
	ASSERT_EQ(memcg_nr_dying(t), 0u);
	ASSERT_EQ(member_nr_refused(t), 0u);
	check_members(t);
	memcg_tree_close(t);
	remove_tree();
	unlink("out");
}

/* ---- stopped ------------------------------------------------------------------------- */

#define STOPPED_US 200000

static struct member_info record_of(struct memcg_tree *t, pid_t pid)
{
	const struct member_info *info;

	for (u32 n = 0; (info = member_info(t, n)); n++)
		if (info->pid == pid && member_alive(t, n))
			return *info;
	FAIL("process %d is no member", pid);
}

/* What a `quire` command does first and last, and what it may be refused. */
static u64 command_ns(void)
{
	struct meta meta = { 0 };
	u64 start = os_now_ns();
	struct memcg_tree *t = look_in(&meta);
	struct memcg_id id;

	(void)member_reap(t);
	if (!memcg_create(t, MEMCG_ROOT, "brief", &id))
		(void)!memcg_remove(t, id, &id);
	memcg_tree_close(t);
	return os_now_ns() - start;
}

static void print_faults(const char *when, const struct member_info *info)
{
	printf("# %s: %llu faults, p50 %llu, p99 %llu, p99.9 %llu, longest %llu us\n", when,
	       (unsigned long long)info->nr_faults, (unsigned long long)info->fault_ns[0] / 1000,
	       (unsigned long long)info->fault_ns[1] / 1000,
	       (unsigned long long)info->fault_ns[2] / 1000,
	       (unsigned long long)info->fault_ns[3] / 1000);
}

/* Two that forked from it, one of which is stopped all the time. */
static void stop_at_random(pid_t run, u32 nr_stops, u64 *ret_command_ns)
{
	for (u32 n = 0; n < nr_stops; n++) {
		pid_t pid = pick_process(run);
		u64 ns;

		if (pid == run)
			continue;
		usleep(random_below(20000));
		ASSERT_EQ(kill(pid, SIGSTOP), 0);
		usleep(STOPPED_US / 2);
		ns = command_ns();
		*ret_command_ns = max_of(*ret_command_ns, ns);
		usleep(STOPPED_US / 2);
		ASSERT_EQ(kill(pid, SIGCONT), 0);
	}
}

static struct member_info run_with_stops(u32 nr_stops, u64 *ret_command_ns)
{
	struct meta meta = { 0 };
	struct member_info info;
	struct memcg_tree *t;
	pid_t run = start_run("stops", "12", "2");
	int status;

	usleep(1500000);
	if (nr_stops)
		stop_at_random(run, nr_stops, ret_command_ns);
	else
		usleep(number("QUIRE_STOPS", 30) * STOPPED_US / 2);
	t = look_in(&meta);
	info = record_of(t, run);
	ASSERT_EQ(kill(-run, SIGTERM), 0);
	ASSERT_EQ(waitpid(run, &status, 0), run);
	ASSERT_EQ(status, 0);
	memcg_tree_close(t);
	return info;
}

TEST(stopped_at_random)
{
	struct member_info info;
	u64 ns = 0;

	set_up();
	info = run_with_stops(0, &ns);
	print_faults("none stopped", &info);
	info = run_with_stops(number("QUIRE_STOPS", 30), &ns);
	print_faults("one stopped", &info);
	printf("# longest command: %llu us\n", (unsigned long long)ns / 1000);
	ASSERT_GT(info.nr_faults, 1000u);
	ASSERT_LE(info.fault_ns[2], 50 * NSEC_PER_MSEC);
	ASSERT_LE(ns, 200 * NSEC_PER_MSEC); /* we may have been off the processor */
	remove_tree();
	unlink("out");
}
