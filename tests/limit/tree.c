/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c - a program of several processes that fill and check memory.
 *
 *   tree MIB CHILDREN SECONDS   fill MIB, fork CHILDREN; all read, and the odd ones
 *                               write, until SECONDS are over, or SIGTERM
 * Exit status 0: every word was right.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u

static volatile sig_atomic_t ended;

static void on_term(int sig)
{
	(void)sig;
	ended = 1;
}

static uint64_t word(uint64_t page, uint64_t version)
{
	return (page * 0x9e3779b97f4a7c15ull) ^ (version << 1 | 1);
}

static void put(char *mem, size_t page, uint64_t version)
{
	uint64_t *p = (uint64_t *)(mem + page * PAGE);

	for (unsigned i = 0; i < PAGE / 8; i += 4)
		p[i] = word(page, version) + i;
}

static int right(const char *mem, size_t page, uint64_t version)
{
	const uint64_t *p = (const uint64_t *)(mem + page * PAGE);

	for (unsigned i = 0; i < PAGE / 8; i += 4)
		if (p[i] != word(page, version) + i)
			return 0;
	return 1;
}

/* Everything once, in an order of its own; 0: some page was wrong. */
static int pass(char *mem, uint64_t *version, size_t nr, unsigned me)
{
	for (size_t i = 0; i < nr; i++) {
		size_t page = (i * 7919 + me * 131) % nr;

		if (!right(mem, page, version[page])) {
			fprintf(stderr, "tree: process %u: page %zu is wrong\n", me, page);
			return 0;
		}
		if (me & 1)
			put(mem, page, ++version[page]);
	}
	return 1;
}

static int work(char *mem, uint64_t *version, size_t nr, unsigned me, time_t until)
{
	do {
		if (!pass(mem, version, nr, me))
			return 1;
	} while (!ended && time(NULL) < until);
	return 0;
}

int main(int argc, char **argv)
{
	size_t nr = argc > 3 ? strtoul(argv[1], NULL, 0) * 256 : 0;
	unsigned children = argc > 3 ? (unsigned)atoi(argv[2]) : 0, bad = 0;
	time_t until = time(NULL) + (argc > 3 ? atoi(argv[3]) : 0);
	uint64_t *version = calloc(nr + 1, sizeof(*version));
	char *mem = malloc(nr * PAGE);
	int status;

	if (!nr || !version || !mem || signal(SIGTERM, on_term) == SIG_ERR)
		return 2;
	for (size_t i = 0; i < nr; i++)
		put(mem, i, 0);
	for (unsigned n = 1; n <= children; n++) {
		pid_t pid = fork();

		if (pid < 0)
			return 2;
		if (!pid)
			_exit(work(mem, version, nr, n, until));
	}
	bad = (unsigned)work(mem, version, nr, 0, until);
	while (wait(&status) > 0 || errno == EINTR)
		bad += status != 0;
	return bad != 0;
}
