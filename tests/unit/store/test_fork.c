/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fork.c - one store file and several processes: a child reads what was
 * live at the fork while the parent frees, writes and cleans; whatever way the
 * child ends, its share of the space comes back.
 *
 * Here descriptors are simply inherited by fork(); the engine brings them over
 * from its private table.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "store_test.h"

#define NR 1500u
#define FULL_LIMIT (8 * MIB)

static struct object all[NR];
static u64 state;

static int put_new(struct store *s, u32 first, u32 nr)
{
	for (u32 i = first; i < first + nr; i++) {
		all[i].len = 200 + (u32)(random_u64(&state) % 3000);
		all[i].seed = (u32)random_u64(&state);
	}
	return put_objects(s, all, first, nr);
}

static void put_all(struct store *s, u32 nr)
{
	for (u32 i = 0; i < nr; i += 50)
		ASSERT_OK(put_new(s, i, 50));
}

/* In a child: no ASSERT, an exit status. */
static bool all_ok(struct store *s)
{
	for (u32 i = 0; i < NR; i++)
		if (all[i].loc.v && !content_ok(s, &all[i], i))
			return false;
	log_check(log_of(s));
	return true;
}

/* As the engine does it, less the private table.  -errno of prepare. */
static pid_t store_fork(struct store *s)
{
	struct store_fork fork_fds;
	pid_t pid;
	int err = store_fork_prepare(s, &fork_fds);

	if (err)
		return err;
	pid = fork();
	if (pid != 0) {
		store_fork_parent(s);
		return pid;
	}
	alarm(60); /* a failed parent leaves nobody behind */
	if (log_of(s)->own >= 0 && log_of(s)->share[0].held)
		for (u32 i = 0; i < log_of(s)->nr_shares; i++)
			(void)os_close(log_of(s)->share[i].alive_rd);
	store_fork_child(s, &fork_fds);
	return 0;
}

static int wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void tell(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(99);
}

static void hear(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(98);
}

/* Every byte of the limit can be used: nothing is held by ghosts. */
static void expect_all_space(struct store *s)
{
	u32 nr = 0;

	free_objects(s, all, NR);
	(void)clean_objects(s, all, 0);
	while (nr + 50 <= NR && put_new(s, nr, 50) == 0)
		nr += 50;
	ASSERT_EQ(log_of(s)->zombie.nr, 0u);
	ASSERT_EQ(log_of(s)->nr_shares, 0u);
	log_check(log_of(s));
	free_objects(s, all, NR);
}

static struct store *open_here(void)
{
	memset(all, 0, sizeof(all));
	state = 20240229;
	return open_store((struct store_config){ .max_bytes = FULL_LIMIT }, NULL);
}

/* The parent turns over its whole limit several times. */
static void parent_churn(struct store *s)
{
	free_objects(s, all, NR);
	for (u32 round = 0; round < 8; round++) {
		for (u32 i = 0; i < 500; i += 50) {
			int err = put_new(s, i, 50);

			ASSERT_TRUE(err == 0 || err == -ENOSPC);
		}
		ASSERT_TRUE(all_ok(s));
		for (u32 i = 0; i < 500; i++)
			if (all[i].loc.v && i % 3)
				free_object(s, &all[i]);
		(void)clean_objects(s, all, 4 * SEG_SIZE);
		ASSERT_TRUE(all_ok(s));
		free_objects(s, all, NR);
	}
}

static void child_reads_old_content(struct store *s, int hear_fd)
{
	bool ok = all_ok(s);

	hear(hear_fd); /* the parent has reused what it may */
	ok = ok && all_ok(s);
	/* Our own file: new content beside the old. */
	for (u32 i = 0; i < 300; i += 50) {
		for (u32 j = i; j < i + 50; j++)
			free_object(s, &all[j]);
		ok = ok && put_new(s, i, 50) == 0;
	}
	ok = ok && all_ok(s);
	for (u32 i = 300; i < NR; i++)
		if (all[i].loc.v)
			free_object(s, &all[i]);
	(void)clean_objects(s, all, 0); /* closes the parent's file */
	for (u32 i = 0; i < STORE_MAX_FILES; i++)
		ok = ok && log_of(s)->file[i].kind != FILE_INHERITED;
	_exit(ok && all_ok(s) ? 0 : 1);
}

TEST(child_reads_while_parent_reuses)
{
	struct store *s = open_here();
	int fds[2];
	pid_t pid;

	ASSERT_EQ(pipe(fds), 0);
	put_all(s, 1000);
	ASSERT_TRUE(all_ok(s));
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0)
		child_reads_old_content(s, fds[0]);
	parent_churn(s);
	tell(fds[1]);
	ASSERT_EQ(wait_for(pid), 0);
	expect_all_space(s);
	close(fds[0]);
	close(fds[1]);
	close_store(s);
}

/* The child lets go of everything but lives: the parent may use the space. */
/* What a child has in its own file: whether that is worth cleaning is asked of it. */
static void child_counts(struct store *s)
{
	u64 own = 0;

	if (stat_read(&s->bytes_inherited) != stat_read(&s->bytes_live))
		_exit(1);
	free_objects(s, all, 500);
	if (put_new(s, 0, 50))
		_exit(2);
	for (u32 i = 0; i < 50; i++)
		own += obj_size(all[i].len);
	if (stat_read(&s->bytes_live) - stat_read(&s->bytes_inherited) != own)
		_exit(3);
	free_objects(s, all, NR);
	log_check(log_of(s));
	_exit(stat_read(&s->bytes_inherited) ? 4 : 0);
}

TEST(inherited_and_own)
{
	struct store *s = open_here();
	pid_t pid;

	put_all(s, 1000);
	ASSERT_EQ(stat_read(&s->bytes_inherited), 0u);
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0)
		child_counts(s);
	ASSERT_EQ(wait_for(pid), 0);
	expect_all_space(s);
	close_store(s);
}

TEST(space_of_a_living_child_comes_back)
{
	struct store *s = open_here();
	int down[2], up[2];
	pid_t pid;

	ASSERT_EQ(pipe(down), 0);
	ASSERT_EQ(pipe(up), 0);
	put_all(s, 1000);
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0) {
		free_objects(s, all, NR);
		tell(up[1]);
		hear(down[0]);
		_exit(0);
	}
	hear(up[0]);
	free_objects(s, all, NR);
	(void)clean_objects(s, all, 0);
	ASSERT_EQ(log_of(s)->zombie.nr, 0u);
	ASSERT_EQ(log_of(s)->nr_shares, 1u);
	tell(down[1]);
	ASSERT_EQ(wait_for(pid), 0);
	expect_all_space(s);
	for (u32 i = 0; i < 2; i++) {
		close(up[i]);
		close(down[i]);
	}
	close_store(s);
}

TEST(killed_child_holds_nothing)
{
	struct store *s = open_here();
	pid_t pid;

	put_all(s, 1000);
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0)
		for (;;)
			pause();
	free_objects(s, all, NR);
	ASSERT_GT(log_of(s)->zombie.nr, 0u);
	(void)clean_objects(s, all, 0);
	ASSERT_GT(log_of(s)->zombie.nr, 0u); /* it lives */
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(wait_for(pid), 128 + SIGKILL);
	expect_all_space(s);
	close_store(s);
}

TEST(failed_fork_holds_nothing)
{
	struct store *s = open_here();
	struct store_fork fork_fds;

	put_all(s, 500);
	ASSERT_OK(store_fork_prepare(s, &fork_fds));
	store_fork_parent(s);
	ASSERT_TRUE(all_ok(s));
	expect_all_space(s);
	close_store(s);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Winfinite-recursion" /* it forks */

/* Each generation keeps some of every ancestor's objects and adds its own. */
static void generation(struct store *s, u32 depth, u32 max_depth)
{
	u32 first = depth * 100;
	pid_t pid;

	if (!all_ok(s) || put_new(s, first, 50) || put_new(s, first + 50, 50) || !all_ok(s))
		_exit(1);
	for (u32 i = 0; i < NR; i++)
		if (all[i].loc.v && i % 100 == depth)
			free_object(s, &all[i]);
	if (depth == max_depth)
		_exit(all_ok(s) ? 0 : 2);
	pid = store_fork(s);
	if (pid == 0)
		generation(s, depth + 1, max_depth);
	/* Free our side while the descendants read theirs. */
	for (u32 i = 0; i < NR; i++)
		if (all[i].loc.v && i % 2)
			free_object(s, &all[i]);
	for (u32 i = 0; i < NR / 2; i += 2)
		if (all[i].loc.v && i >= first + 100)
			_exit(3);
	if (!all_ok(s) || pid < 0 || wait_for(pid))
		_exit(4);
	_exit(all_ok(s) ? 0 : 5);
}

TEST(nested_forks)
{
	struct store *s = open_here();
	pid_t pid;

	put_all(s, 100);
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0)
		generation(s, 1, 5);
	parent_churn(s);
	ASSERT_EQ(wait_for(pid), 0);
	expect_all_space(s);
	close_store(s);
}

/* A grandchild outlives its parent: its share of our file holds. */
TEST(orphaned_grandchild_still_reads)
{
	struct store *s = open_here();
	int down[2], up[2];
	pid_t pid;
	char c = 0;

	ASSERT_EQ(pipe(down), 0);
	ASSERT_EQ(pipe(up), 0);
	put_all(s, 500);
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0) {
		pid_t grandchild = store_fork(s);

		if (grandchild) {
			free_objects(s, all, NR); /* lets go for itself only */
			_exit(grandchild < 0);
		}
		hear(down[0]);
		c = all_ok(s) ? 'y' : 'n';
		_exit(write(up[1], &c, 1) == 1 ? 0 : 1);
	}
	ASSERT_EQ(wait_for(pid), 0);
	parent_churn(s);
	tell(down[1]);
	close(up[1]);
	ASSERT_EQ(read(up[0], &c, 1), (ssize_t)1);
	ASSERT_EQ(c, 'y');
	while (read(up[0], &c, 1) > 0)
		;
	expect_all_space(s);
	close(up[0]);
	close(down[0]);
	close(down[1]);
	close_store(s);
}

/* Exit status 50 + generations that were possible. */
static void deeper(struct store *s, u32 depth)
{
	pid_t pid;
	int code;

	if (put_new(s, depth * 50, 50))
		_exit(1);
	pid = store_fork(s);
	if (pid == -EMFILE)
		_exit(all_ok(s) ? (int)(50 + depth) : 2);
	if (pid < 0)
		_exit(3);
	if (pid == 0)
		deeper(s, depth + 1);
	code = wait_for(pid);
	_exit(code);
}

#pragma GCC diagnostic pop

TEST(too_many_generations_are_refused)
{
	struct store *s = open_here();
	pid_t pid;

	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0)
		deeper(s, 1);
	ASSERT_EQ(wait_for(pid), 50 + STORE_MAX_FILES);
	expect_all_space(s);
	close_store(s);
}

/* All at once, up to the limit; then each ends in another order. */
TEST(many_children_at_once)
{
	static pid_t pids[LOG_MAX_SHARES];
	struct store *s = open_here();
	pid_t pid = 0;
	u32 nr = 0;

	put_all(s, 100);
	while (nr < 150) {
		pid = store_fork(s);
		if (pid == 0)
			for (;;)
				pause();
		ASSERT_OK(pid);
		pids[nr++] = pid;
	}
	free_objects(s, all, NR);
	for (u32 i = 0; i < nr; i++) {
		u32 at = i * 7 % nr;

		ASSERT_GT(log_of(s)->zombie.nr, 0u);
		ASSERT_EQ(log_of(s)->nr_shares, nr - i);
		ASSERT_EQ(kill(pids[at], SIGKILL), 0);
		ASSERT_EQ(wait_for(pids[at]), 128 + SIGKILL);
		(void)clean_objects(s, all, 0);
	}
	expect_all_space(s);
	close_store(s);
}

TEST(many_children_in_turn)
{
	struct store *s = open_here();

	put_all(s, 500);
	for (u32 i = 0; i < 300; i++) {
		pid_t pid = store_fork(s);

		ASSERT_OK(pid);
		if (pid == 0)
			_exit(content_ok(s, &all[i], i) ? 0 : 1);
		ASSERT_EQ(wait_for(pid), 0);
	}
	expect_all_space(s);
	close_store(s);
}

static struct atomic32 lock_state; /* 1: held, 2: give it back */

static void *hold_lock(void *arg)
{
	mutex_lock(arg);
	atomic32_store(&lock_state, 1);
	while (atomic32_load(&lock_state) != 2)
		os_sleep_ns(NSEC_PER_MSEC);
	mutex_unlock(arg);
	return NULL;
}

/* An I/O thread that looks for work at the moment of the fork holds the queue's lock. */
TEST(io_thread_looks_for_work)
{
	struct store *s = open_here();
	pthread_t io;
	pid_t pid;

	put_all(s, 100);
	ASSERT_TRUE(content_ok(s, &all[0], 0));
	ASSERT_EQ(pthread_create(&io, NULL, hold_lock, &log_of(s)->reader.lock), 0);
	while (atomic32_load(&lock_state) != 1)
		os_sleep_ns(NSEC_PER_MSEC);
	pid = store_fork(s);
	ASSERT_OK(pid);
	if (pid == 0) {
		alarm(5);
		_exit(content_ok(s, &all[0], 0) ? 0 : 1);
	}
	atomic32_store(&lock_state, 2);
	ASSERT_EQ(pthread_join(io, NULL), 0);
	ASSERT_EQ(wait_for(pid), 0);
	expect_all_space(s);
	close_store(s);
}
