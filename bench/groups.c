/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups.c - what groups cost: to have, to make and remove, to remove with memory
 * that is out.
 *
 * groups alive N            N empty groups: rate, and what the process grew by
 * groups use N              beside N groups, each with a limit: first touches in some of
 *                           them, what the root counts, a limit changed, and a touch in
 *                           one that has twice its limit
 * groups empty N            N times: make a group, remove it
 * groups charge N           N times: make, map a page, touch it, unmap, remove
 * groups remove SLOTS N     a group with SLOTS pages out is removed, and who inherits
 *                           them, and so on, N times; then a group is discarded
 * groups kernel DIR N       "empty" and "charge" with cgroup v1 groups below DIR
 *
 * Prints one line of key=value.  Times are in microseconds.
 */
#include <err.h>
#include <fcntl.h>
#include <quire/quire.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "measure.h"
#include "settle.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define LEVELS 12
#define SOME 500
#define FITS (8 * MIB)
#define TOUCHES 50000

static size_t resident_bytes(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
		errx(1, "/proc/self/statm cannot be read");
	fclose(f);
	return resident * PAGE;
}

static struct quire *open_tree(void)
{
	struct quire *q;

	check(quire_open(NULL, &q));
	return q;
}

/* ---- many groups --------------------------------------------------------------- */

static void make_groups(struct quire *q, size_t nr)
{
	struct quire_group *g;
	char name[32];

	for (size_t i = 0; i < nr; i++) {
		snprintf(name, sizeof(name), "g%zu", i);
		check(quire_group_create(quire_root(q), name, &g));
	}
}

static void alive(struct quire *q, size_t nr)
{
	struct quire_group *g;
	double since, made, removed;
	size_t before, after;
	char name[32];

	/* What the first group brings along is not each group's. */
	check(quire_group_create(quire_root(q), "first", &g));
	before = resident_bytes();
	since = now_us();
	make_groups(q, nr);
	made = now_us() - since;
	usleep(300000); /* everybody has looked at them once */
	after = resident_bytes();
	since = now_us();
	for (size_t i = 0; i < nr; i++) {
		snprintf(name, sizeof(name), "g%zu", i);
		check(quire_group_open(q, name, &g));
		check(quire_group_remove(g));
	}
	removed = now_us() - since;
	printf("groups=%zu bytes_per_group=%.0f make_us=%.2f remove_us=%.2f\n", nr,
	       (double)(after - before) / (double)nr, made / (double)nr, removed / (double)nr);
}

/* Median of first touches of a page in each of some groups. */
static double first_touches(struct quire *q, size_t nr)
{
	size_t some = nr < SOME ? nr : SOME;
	struct quire_group *g;
	double took[SOME];
	void *page[SOME];
	char name[32];

	for (size_t i = 0; i < SOME; i++) {
		snprintf(name, sizeof(name), "g%zu", i % some * (nr / some));
		check(quire_group_open(q, name, &g));
		check(quire_map(g, PAGE, 0, &page[i]));
	}
	for (size_t i = 0; i < SOME; i++) {
		double since = now_us();

		*(volatile char *)page[i] = 1;
		took[i] = now_us() - since;
	}
	for (size_t i = 0; i < SOME; i++)
		check(quire_unmap(q, page[i], PAGE));
	return median(took, SOME);
}

static double read_stat(struct quire_group *g)
{
	static char text[65536];
	double took[9];

	for (size_t i = 0; i < 9; i++) {
		double since = now_us();

		check(quire_read(g, "memory.stat", text, sizeof(text), NULL));
		took[i] = now_us() - since;
	}
	return median(took, 9);
}

static double read_current(struct quire_group *g)
{
	double since = now_us();

	for (size_t i = 0; i < SOME; i++)
		(void)*(volatile uint64_t *)&(uint64_t){ quire_current(g) };
	return (now_us() - since) / SOME;
}

static double cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* Twice what fits, written once, then random touches: their mean, and of all threads. */
static double page_in_one(struct quire *q, double *ret_cpu)
{
	const size_t pages = 2 * FITS / PAGE;
	unsigned long x = 1;
	struct quire_group *g;
	double since;
	void *mem;

	check(quire_group_create(quire_root(q), "busy", &g));
	check(quire_write_u64(g, "memory.max", FITS));
	check(quire_map(g, 2 * FITS, 0, &mem));
	for (size_t i = 0; i < pages; i++)
		for (size_t w = 0; w < PAGE / 2; w += 8)
			*(unsigned long *)((char *)mem + i * PAGE + w) = i * w;
	*ret_cpu = cpu_us();
	since = now_us();
	for (size_t i = 0; i < TOUCHES; i++) {
		x = x * 6364136223846793005ul + 1442695040888963407ul;
		(void)*((volatile char *)mem + (x >> 33) % pages * PAGE);
	}
	since = (now_us() - since) / TOUCHES;
	*ret_cpu = (cpu_us() - *ret_cpu) / TOUCHES;
	check(quire_unmap(q, mem, 2 * FITS));
	return since;
}

static void use(struct quire *q, size_t nr)
{
	double limit, touch, current, stat, page, cpu;
	struct quire_group *g;
	char name[32];

	make_groups(q, nr);
	check(quire_start(q));
	settle(q);
	limit = now_us();
	for (size_t i = 0; i < nr; i++) {
		snprintf(name, sizeof(name), "g%zu", i);
		check(quire_group_open(q, name, &g));
		check(quire_write_u64(g, "memory.max", 64 * MIB));
	}
	limit = (now_us() - limit) / (double)nr;
	touch = first_touches(q, nr);
	current = read_current(quire_root(q));
	stat = read_stat(quire_root(q));
	page = page_in_one(q, &cpu);
	printf("groups=%zu limit_us=%.2f touch_us=%.2f current_us=%.4f stat_us=%.2f ", nr, limit,
	       touch, current, stat);
	printf("page_us=%.2f page_cpu_us=%.2f\n", page, cpu);
}

static void churn(struct quire *q, size_t nr, bool charge)
{
	struct quire_group *g, *parent;
	uint64_t dying = 0;
	double since;
	size_t before;

	check(quire_group_create(quire_root(q), "jobs", &parent));
	check(quire_write_u64(parent, "memory.max", 64 * MIB));
	before = resident_bytes();
	since = now_us();
	for (size_t i = 0; i < nr; i++) {
		void *p;

		check(quire_group_create(parent, "job", &g));
		if (charge) {
			check(quire_map(g, PAGE, 0, &p));
			*(volatile char *)p = 1;
			check(quire_unmap(q, p, PAGE));
		}
		check(quire_group_remove(g));
	}
	since = now_us() - since;
	check(quire_read_key(parent, "cgroup.stat", "nr_dying_descendants", &dying));
	printf("jobs=%zu us_per_job=%.2f per_second=%.0f dying=%llu grown_kib=%zd\n", nr,
	       since / (double)nr, (double)nr * 1e6 / since, (unsigned long long)dying,
	       (ssize_t)(resident_bytes() - before) >> 10);
}

/* ---- removal with slots ----------------------------------------------------------- */

/* SLOTS pages of the group out, each one word: a slot and nothing else. */
static void *fill(struct quire *q, struct quire_group *g, size_t slots)
{
	size_t bytes = (slots + 512) * PAGE;
	char *p;
	void *mem;

	check(quire_map(g, bytes, 0, &mem));
	p = mem;
	check(quire_advise(q, mem, bytes, QUIRE_SEQUENTIAL));
	for (size_t at = 0; at < bytes; at += PAGE)
		for (size_t i = 0; i < PAGE; i += 8)
			*(unsigned long *)(p + at + i) = at + 1;
	while (quire_swap_current(g) < slots * PAGE)
		if (quire_advise(q, mem, bytes, QUIRE_PAGEOUT) < 0)
			errx(1, "%s", quire_why());
	return mem;
}

static void remove_with(struct quire *q, size_t slots, size_t rounds)
{
	struct quire_group *level[LEVELS + 1], *g;
	double *took = calloc(rounds, sizeof(*took)), middle, discard, empty;
	size_t nr = rounds < LEVELS ? rounds : LEVELS;
	char name[16];
	void *mem;

	if (!took)
		errx(1, "no memory");
	check(quire_group_create(quire_root(q), "top", &level[0]));
	for (size_t i = 1; i <= nr; i++) {
		snprintf(name, sizeof(name), "l%zu", i);
		check(quire_group_create(level[i - 1], name, &level[i]));
	}
	check(quire_write_u64(level[nr], "memory.max", 64 * MIB));
	mem = fill(q, level[nr], slots);
	usleep(300000);
	for (size_t i = 0; i < nr; i++) {
		double since = now_us();

		check(quire_group_remove_with(level[nr - i], QUIRE_REMOVE_REPARENT));
		took[i] = now_us() - since;
		usleep(20000); /* each alone: the id of the last is free */
	}
	if (quire_swap_current(level[0]) < slots * PAGE * 9 / 10)
		errx(1, "the slots did not come along");
	check(quire_group_create(quire_root(q), "end", &g));
	check(quire_assign(g, mem, (slots + 512) * PAGE, NULL));
	discard = now_us();
	check(quire_group_remove_with(g, QUIRE_REMOVE_DISCARD));
	discard = now_us() - discard;
	empty = now_us();
	while (quire_swap_current(quire_root(q)))
		usleep(1000);
	empty = now_us() - empty;
	middle = median(took, nr); /* sorts */
	printf("slots=%zu remove_us=%.1f most_us=%.1f discard_us=%.1f given_back_ms=%.0f\n", slots,
	       middle, took[nr - 1], discard, empty / 1e3);
	free(took);
}

/* ---- the kernel's ------------------------------------------------------------------- */

static void enter(const char *dir)
{
	char path[4200];
	int fd;

	snprintf(path, sizeof(path), "%s/tasks", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		err(1, "%s", path);
	close(fd);
}

static double kernel_jobs(const char *dir, const char *job, size_t nr, bool charge)
{
	double since = now_us();

	for (size_t i = 0; i < nr; i++) {
		if (mkdir(job, 0700))
			err(1, "%s", job);
		if (charge) {
			void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (p == MAP_FAILED)
				err(1, "mmap");
			enter(job);
			*(volatile char *)p = 1;
			munmap(p, PAGE);
			enter(dir);
		}
		if (rmdir(job))
			err(1, "%s", job);
	}
	return now_us() - since;
}

static void kernel(const char *dir, size_t nr)
{
	char job[4096];
	double empty, charge;

	snprintf(job, sizeof(job), "%s/job", dir);
	enter(dir);
	empty = kernel_jobs(dir, job, nr, false);
	charge = kernel_jobs(dir, job, nr, true);
	printf("jobs=%zu empty_us=%.2f charge_us=%.2f\n", nr, empty / (double)nr,
	       charge / (double)nr);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	size_t a = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	size_t b = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

	if (!strcmp(what, "alive") && a)
		alive(open_tree(), a);
	else if (!strcmp(what, "use") && a)
		use(open_tree(), a);
	else if (!strcmp(what, "empty") && a)
		churn(open_tree(), a, false);
	else if (!strcmp(what, "charge") && a)
		churn(open_tree(), a, true);
	else if (!strcmp(what, "remove") && a && b)
		remove_with(open_tree(), a, b);
	else if (!strcmp(what, "kernel") && b)
		kernel(argv[2], b);
	else
		errx(2, "see the head of bench/groups.c");
	return 0;
}
