/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_grid.c - every way to make a child x where the pages are x who writes first x
 * who ends first: every byte of both processes is right.
 *
 *   proc_grid states [KIND]   pages resident, cached, in zswap, in the store; wants room
 *   proc_grid flight [KIND]   pages that are going out and coming in while a child is made;
 *                             wants a limit that is less than FLIGHT_PAGES
 *   proc_grid image ...       what vfork and posix_spawn start
 *
 * Where a page is before the child is made is looked up (pagemap, memory.stat), not
 * hoped for.  Afterwards parent and child do their part in turns, told by two pipes;
 * each checks all pages, sends them out, and checks them again.  Who ends second does
 * so again when the other is gone.  Where the parent ends first it is a forked child
 * itself, else it is the program that was started.
 *
 * A child of vfork has its parent's memory and must not write: it checks every page
 * where it is, then becomes another image.  That one, and posix_spawn's, has nothing of
 * the parent's but pipes: the parent writes its pages into one from where they are, and
 * what the "child writes" comes through the other, into pages where they are.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "proc_state.h"

#define STATE_PAGES 48u
/* More than the limit that proc-grid.sh gives this half. */
#define FLIGHT_PAGES 2048u
#define FLIGHT_STRIDE 16u
#define BALLAST_PAGES 512u
#define CLONE_STACK (256u << 10)
/* From a little above the border of two pages, so that both are written at once. */
#define CLONE_STACK_USED (CLONE_STACK - PAGE + 64)
#define CHURNERS 3
#define TRIES 50
#define MISSED 3 /* exit status */

enum kind { FORK, VFORK, SPAWN, CLONE, THREADS, NR_KINDS };
enum state { RESIDENT, CACHED, ZSWAP, STORE, FLIGHT, NR_STATES };
enum writer { PARENT_FIRST, CHILD_FIRST, BOTH, NEITHER, NR_WRITERS };
enum leaver { CHILD_ENDS, PARENT_ENDS, NR_LEAVERS };

static const char *const kind_name[] = { "fork", "vfork", "posix_spawn", "clone", "threads" };
static const char *const state_name[] = { "resident", "cached", "zswap", "store", "flight" };
static const char *const writer_name[] = { "parent", "child", "both", "neither" };
static const char *const leaver_name[] = { "child", "parent" };

struct cell {
	enum kind kind;
	enum state state;
	enum writer writer;
	enum leaver leaver;
	uint32_t seed; /* and the next two: of parent's and child's writes */
	/* set up for one child */
	int down[2], up[2]; /* parent to child, child to parent */
	uint64_t nr_in, nr_out; /* transfers before the child was made */
	bool missed; /* in flight: nothing was, meanwhile */
};

extern char **environ;
static const char *self;
static struct pool pool;
static unsigned nr_test; /* pages of pool that are looked at */
static uint64_t *ballast;
static char *clone_stack;
static atomic_bool stop, stop_mover;
static uint64_t seen_in, seen_out; /* during forks, of cells in flight */

/*
 * The n-th page looked at: for zswap those that can be compressed (pool_word()); in
 * flight some of many, the others are there to push them out.
 */
static size_t test_page(const struct cell *c, unsigned n)
{
	switch (c->state) {
	case ZSWAP:
		return n + n / 2 + 1;
	case FLIGHT:
		return n * FLIGHT_STRIDE;
	default:
		return n;
	}
}

static uint64_t *page_at(const struct cell *c, unsigned n)
{
	return pool.word + test_page(c, n) * PAGE_WORDS;
}

static void check_all(const struct cell *c)
{
	for (unsigned n = 0; n < nr_test; n++)
		pool_check(&pool, test_page(c, n), test_page(c, n) + 1, 1);
}

static void evict_and_check(const struct cell *c)
{
	if (c->state != FLIGHT) /* else they are pushed out */
		page_out(pool.word, pool.nr_pages);
	check_all(c);
}

/* Two sets of pages that overlap; some are nobody's. */
static bool parents(unsigned n)
{
	return n % 4 < 2;
}
static bool childs(unsigned n)
{
	return n % 4 == 1 || n % 4 == 2;
}

static void write_own(const struct cell *c, bool (*own)(unsigned), uint32_t seed)
{
	for (unsigned n = 0; n < nr_test; n++)
		if (own(n))
			pool_write(&pool, test_page(c, n), seed);
}

/* ---- where the pages are ------------------------------------------------------------ */

static unsigned nr_present(const struct cell *c)
{
	unsigned nr = 0;

	for (unsigned n = 0; n < nr_test; n++)
		nr += is_present(page_at(c, n));
	return nr;
}

/* Pages out, or copies kept, of the kind that the state is about. */
static uint64_t nr_kept(enum state state)
{
	switch (state) {
	case ZSWAP:
		return stat_of("zswapped") / PAGE;
	case STORE: /* and nowhere else */
		return stat_of("stored") / PAGE - nr_kept(CACHED);
	case CACHED: /* with a slot, and not in a frame */
		return (stat_of("swapcached") - stat_of("frames")) / PAGE;
	default:
		return 0;
	}
}

/* The clock by which a copy is worth keeping: it goes on with each page that leaves. */
static void advance_clock(unsigned rounds)
{
	for (unsigned r = 0; r < rounds; r++) {
		page_out(ballast, BALLAST_PAGES);
		for (unsigned n = 0; n < BALLAST_PAGES; n++)
			((volatile uint64_t *)ballast)[n * PAGE_WORDS];
	}
}

static bool reach(const struct cell *c)
{
	static unsigned rounds = 1;
	uint64_t before = nr_kept(c->state);

	if (c->state == RESIDENT)
		return nr_present(c) == nr_test;
	for (unsigned n = 0; n < nr_test; n++)
		page_out(page_at(c, n), 1);
	if (nr_present(c))
		return false;
	if (c->state != CACHED)
		return nr_kept(c->state) == before + nr_test;
	before = nr_kept(CACHED);
	advance_clock(rounds);
	check_all(c);
	if (nr_present(c) == nr_test && nr_kept(CACHED) == before + nr_test)
		return true;
	rounds++;
	return false;
}

static void fill(const struct cell *c)
{
	for (size_t n = 0; n < pool.nr_pages; n++)
		pool_write(&pool, n, c->seed);
}

/* Bring the pages where the cell wants them, or end. */
static void establish(const struct cell *c)
{
	unsigned tries = 0;

	set_knob("memory.zswap.max", c->state == STORE || c->state == CACHED ? "0" : "max");
	fill(c);
	if (c->state == FLIGHT)
		return;
	while (!reach(c)) {
		if (++tries == TRIES)
			die("not reached: %u of %u present, %llu kept", nr_present(c), nr_test,
			    (unsigned long long)nr_kept(c->state));
		fill(c); /* as new: no copy, no slot */
	}
}

/* ---- other threads --------------------------------------------------------------------- */

/* Touches everything again and again, in less memory than that. */
static void *mover(void *arg)
{
	while (!stop_mover)
		for (size_t n = 0; n < pool.nr_pages && !stop_mover; n++)
			((volatile uint64_t *)pool.word)[n * PAGE_WORDS];
	return arg;
}

/* Memory of its own: faults, pageout, malloc. */
static void *churner(void *arg)
{
	uint32_t me = 1000 * (uint32_t)(uintptr_t)arg;
	struct pool own;

	own.nr_pages = 64;
	own.word = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);
	own.seed = calloc(64, sizeof(*own.seed));
	if (own.word == MAP_FAILED || !own.seed)
		die("no memory for a thread");
	for (uint32_t round = 0; !stop; round++) {
		void *block = malloc(100 + round * 997 % 9000);

		for (size_t n = round % 4; n < 64; n += 4)
			pool_write(&own, n, me + round);
		if (round >= 4)
			pool_check(&own, 0, 64, 1);
		if (round % 8 == 7)
			page_out(own.word, 64);
		free(block);
	}
	munmap(own.word, 64 * PAGE);
	free(own.seed);
	return NULL;
}

static unsigned start_threads(const struct cell *c, pthread_t *t)
{
	unsigned nr = 0;

	stop = stop_mover = false;
	for (uintptr_t i = 1; c->kind == THREADS && i <= CHURNERS; i++)
		if (pthread_create(&t[nr++], NULL, churner, (void *)i))
			die("pthread_create");
	if (c->state == FLIGHT && pthread_create(&t[nr++], NULL, mover, NULL))
		die("pthread_create");
	return nr;
}

static void stop_threads(pthread_t *t, unsigned nr)
{
	stop = stop_mover = true;
	while (nr)
		pthread_join(t[--nr], NULL);
}

static void read_transfers(uint64_t *in, uint64_t *out)
{
	*in = stat_of("zswpin") + stat_of("pswpin") + stat_of("pgsoftfault");
	*out = stat_of("pgunmap") + stat_of("zswpout") + stat_of("pswpout");
}

/* Pages have come and gone since the last look. */
static void await_transfers(struct cell *c)
{
	uint64_t in, out;

	read_transfers(&in, &out);
	for (unsigned n = 0; n < 2000; n++) {
		read_transfers(&c->nr_in, &c->nr_out);
		if (c->nr_in > in + 16 && c->nr_out > out + 16)
			return;
		usleep(500);
	}
	die("nothing is in flight");
}

static void count_transfers(struct cell *c)
{
	uint64_t in, out;

	read_transfers(&in, &out);
	c->missed = in == c->nr_in && out == c->nr_out;
	stop_mover = true; /* has done its part */
	seen_in += in - c->nr_in;
	seen_out += out - c->nr_out;
}

/* ---- pipes -------------------------------------------------------------------------- */

static void send_bytes(int fd, const void *from, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)from + done, len - done);

		if (n <= 0)
			die("write: %m");
		done += (size_t)n;
	}
}

static void get_bytes(int fd, void *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)to + done, len - done);

		if (n <= 0)
			die("the other end is gone: %zd", n);
		done += (size_t)n;
	}
}

static void tell(int fd)
{
	send_bytes(fd, "", 1);
}

static void await(int fd)
{
	char byte;

	get_bytes(fd, &byte, 1);
}

/* Until the parent has ended: it alone has the other end. */
static void await_end(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 0)
		die("the parent lives and talks");
}

/* ---- a child with a copy of the memory ------------------------------------------------- */

static bool parent_writes(const struct cell *c)
{
	return c->writer == PARENT_FIRST || c->writer == BOTH;
}

static bool child_writes(const struct cell *c)
{
	return c->writer == CHILD_FIRST || c->writer == BOTH;
}

static int copy_main(void *arg)
{
	struct cell *c = arg;

	close(c->down[1]);
	close(c->up[0]);
	if (c->writer != CHILD_FIRST)
		await(c->down[0]);
	if (child_writes(c)) /* before a look at them: they are where they were */
		write_own(c, childs, c->seed + 2);
	check_all(c);
	tell(c->up[1]);
	evict_and_check(c);
	if (c->leaver == CHILD_ENDS)
		return 0;
	await_end(c->down[0]);
	evict_and_check(c);
	write_own(c, parents, c->seed + 3);
	evict_and_check(c);
	return 0;
}

static pid_t make_copy(struct cell *c)
{
	pid_t pid = c->kind == CLONE ?
			    clone(copy_main, clone_stack + CLONE_STACK_USED, SIGCHLD, c) :
			    fork();

	if (!pid)
		_exit(copy_main(c));
	return pid;
}

/* The parent's part until both have had their turn. */
static void beside_copy(struct cell *c)
{
	if (c->writer == PARENT_FIRST)
		write_own(c, parents, c->seed + 1);
	if (c->writer != CHILD_FIRST)
		tell(c->down[1]);
	if (c->writer == BOTH)
		write_own(c, parents, c->seed + 1);
	if (c->writer == CHILD_FIRST)
		await(c->up[0]);
	check_all(c);
	if (c->writer != CHILD_FIRST)
		await(c->up[0]);
}

/* ---- a child that is another image ------------------------------------------------------- */

/* image DOWN UP WRITER LEAVER STATE NR SEED */
static int image_main(char **argv)
{
	struct cell c = { .writer = (enum writer)atoi(argv[2]),
			  .leaver = (enum leaver)atoi(argv[3]),
			  .state = (enum state)atoi(argv[4]) };
	int down = atoi(argv[0]), up = atoi(argv[1]);

	nr_test = (unsigned)atoi(argv[5]);
	c.seed = (uint32_t)atoi(argv[6]);
	snprintf(die_where, sizeof(die_where), "image: ");
	pool.nr_pages = test_page(&c, nr_test) + 1;
	pool.word = malloc(pool.nr_pages * PAGE);
	pool.seed = calloc(pool.nr_pages, sizeof(*pool.seed));
	if (!pool.word || !pool.seed)
		die("no memory");
	if (child_writes(&c)) {
		write_own(&c, childs, c.seed + 2);
		for (unsigned n = 0; n < nr_test; n++)
			if (childs(n))
				send_bytes(up, page_at(&c, n), PAGE);
	}
	for (unsigned n = 0; n < nr_test; n++) {
		get_bytes(down, page_at(&c, n), PAGE);
		/* Who writes first has had its answer written over, or the other way. */
		pool.seed[test_page(&c, n)] = child_writes(&c) && childs(n)   ? c.seed + 2 :
					      parent_writes(&c) && parents(n) ? c.seed + 1 :
										c.seed;
	}
	check_all(&c);
	tell(up);
	if (c.leaver == PARENT_ENDS)
		await_end(down);
	check_all(&c);
	return 0;
}

/* Everything that the image is told, made before vfork. */
struct image_args {
	char text[7][12];
	char *argv[10];
};

static void fill_args(const struct cell *c, struct image_args *a)
{
	int number[] = { c->down[0],	c->up[1],     (int)c->writer, (int)c->leaver,
			 (int)c->state, (int)nr_test, (int)c->seed };

	a->argv[0] = (char *)self;
	a->argv[1] = (char *)"image";
	for (int i = 0; i < 7; i++) {
		snprintf(a->text[i], sizeof(a->text[i]), "%d", number[i]);
		a->argv[2 + i] = a->text[i];
	}
	a->argv[9] = NULL;
}

static pid_t make_image(struct cell *c)
{
	struct image_args a;
	pid_t pid;

	fill_args(c, &a);
	if (c->kind == SPAWN) {
		errno = posix_spawn(&pid, self, NULL, NULL, a.argv, environ);
		return errno ? -1 : pid;
	}
	pid = vfork();
	if (!pid) {
		check_all(c); /* reads only */
		execv(self, a.argv);
		_exit(127);
	}
	return pid;
}

static void take_childs_pages(struct cell *c)
{
	for (unsigned n = 0; n < nr_test; n++) {
		if (!childs(n))
			continue;
		get_bytes(c->up[0], page_at(c, n), PAGE);
		pool.seed[test_page(c, n)] = c->seed + 2;
	}
}

static void beside_image(struct cell *c)
{
	if (parent_writes(c))
		write_own(c, parents, c->seed + 1);
	if (child_writes(c))
		take_childs_pages(c);
	for (unsigned n = 0; n < nr_test; n++)
		send_bytes(c->down[1], page_at(c, n), PAGE);
	await(c->up[0]);
}

/* ---- one cell ----------------------------------------------------------------------- */

static void expect_end(pid_t pid, const char *who)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("no %s to wait for: %m", who);
	if (status)
		die("the %s ended with 0x%x", who, status);
}

static void make_pipes(struct cell *c)
{
	/* An image keeps its ends and must not have the others. */
	if (pipe2(c->down, O_CLOEXEC) || pipe2(c->up, O_CLOEXEC))
		die("pipe: %m");
	if (c->kind == VFORK || c->kind == SPAWN) {
		fcntl(c->down[0], F_SETFD, 0);
		fcntl(c->up[1], F_SETFD, 0);
	}
}

static void make_clone_stack(void)
{
	clone_stack = mmap(NULL, CLONE_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	if (clone_stack == MAP_FAILED)
		die("no stack: %m");
	memset(clone_stack, 1, CLONE_STACK);
	page_out(clone_stack, CLONE_STACK / PAGE);
}

/* The parent's whole part, but for its end. */
static pid_t parent_part(struct cell *c)
{
	bool copy = c->kind != VFORK && c->kind != SPAWN;
	pthread_t t[CHURNERS + 1];
	unsigned nr_threads;
	pid_t pid;

	make_pipes(c);
	if (c->kind == CLONE)
		make_clone_stack();
	establish(c);
	nr_threads = start_threads(c, t);
	if (c->state == FLIGHT)
		await_transfers(c);
	pid = copy ? make_copy(c) : make_image(c);
	if (pid < 0)
		die("no child: %m");
	if (c->state == FLIGHT)
		count_transfers(c);
	close(c->down[0]);
	close(c->up[1]);
	if (copy)
		beside_copy(c);
	else
		beside_image(c);
	stop_threads(t, nr_threads);
	evict_and_check(c);
	if (c->kind == CLONE)
		munmap(clone_stack, CLONE_STACK);
	return pid;
}

/* In this process. */
static void child_ends_first(struct cell *c)
{
	pid_t pid = parent_part(c);

	expect_end(pid, "child");
	close(c->down[1]);
	close(c->up[0]);
	evict_and_check(c);
	write_own(c, childs, c->seed + 3);
	evict_and_check(c);
}

/* In a process of its own, whose child becomes ours. */
static void parent_ends_first(struct cell *c)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		parent_part(c);
		_exit(c->missed ? MISSED : 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		die("no parent to wait for: %m");
	c->missed = status == MISSED << 8;
	if (status && !c->missed)
		die("the parent ended with 0x%x", status);
	if (wait(&status) < 0)
		die("no child to wait for: %m");
	if (status)
		die("the child ended with 0x%x", status);
}

static void run_cell(struct cell *c)
{
	static uint32_t seed = 1;
	unsigned tries = 0;

	snprintf(die_where, sizeof(die_where),
		 "%s, %s, %s writes, %s ends first: ", kind_name[c->kind], state_name[c->state],
		 writer_name[c->writer], leaver_name[c->leaver]);
	do {
		if (++tries == TRIES)
			die("nothing was in flight");
		c->seed = seed;
		seed += 4;
		c->missed = false;
		if (c->leaver == CHILD_ENDS)
			child_ends_first(c);
		else
			parent_ends_first(c);
	} while (c->missed);
}

/* only: one kind of child, NULL all. */
static unsigned run_states(enum state from, enum state to, const char *only)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < NR_KINDS * NR_STATES * NR_WRITERS * NR_LEAVERS; i++) {
		struct cell c = { .leaver = i % NR_LEAVERS,
				  .writer = i / NR_LEAVERS % NR_WRITERS,
				  .state = i / (NR_LEAVERS * NR_WRITERS) % NR_STATES,
				  .kind = i / (NR_LEAVERS * NR_WRITERS * NR_STATES) };

		if (c.state < from || c.state > to || (only && strcmp(only, kind_name[c.kind])))
			continue;
		run_cell(&c);
		nr++;
	}
	return nr;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	bool flight = !strcmp(how, "flight");
	unsigned nr;

	self = argv[0];
	if (argc == 9 && !strcmp(how, "image"))
		return image_main(argv + 2);
	if (!flight && strcmp(how, "states"))
		die("states or flight?");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	state_open();
	nr_test = flight ? FLIGHT_PAGES / FLIGHT_STRIDE : STATE_PAGES;
	pool.nr_pages = flight ? FLIGHT_PAGES : nr_test * 3 / 2 + 1;
	pool.word = mmap(NULL, pool.nr_pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pool.seed = calloc(pool.nr_pages, sizeof(*pool.seed));
	ballast = mmap(NULL, BALLAST_PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool.word == MAP_FAILED || !pool.seed || ballast == MAP_FAILED)
		die("no memory");
	memset(ballast, 7, BALLAST_PAGES * PAGE);
	nr = flight ? run_states(FLIGHT, FLIGHT, argv[2]) : run_states(RESIDENT, STORE, argv[2]);
	if (flight && (!seen_in || !seen_out))
		die("%llu in and %llu out while children were made", (unsigned long long)seen_in,
		    (unsigned long long)seen_out);
	printf("%s: %u cells\n", how, nr);
	return 0;
}
