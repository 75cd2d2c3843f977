/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lru.c - threads that page at the same time: in one group, or each in its own.
 *
 * lru THREADS GROUPS SECONDS    each thread has 48 MiB, of which 16 fit in memory, and
 *                               writes to random pages of it; in one group of all
 *                               (GROUPS 1) or in THREADS groups
 *
 * QUIRE_LRU_SLICES in the environment: how many locks a group's lists have.
 * Prints one line of key=value: accesses a second of all threads, pages that came back
 * a second, and how often somebody had to wait for a list's lock.
 */
#include <err.h>
#include <pthread.h>
#include <quire/quire.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define DATA (48 * MIB)
#define FITS (16 * MIB)
#define MAX_THREADS 64

struct worker {
	pthread_t thread;
	char *data;
	unsigned long seed, accesses;
};

static atomic_bool stop;

/* Half of each page compresses well; what is wrong ends the run. */
static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned long x = w->seed;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		size_t page;
		unsigned long *p;

		x = x * 6364136223846793005ul + 1442695040888963407ul;
		page = (x >> 33) % (DATA / PAGE);
		p = (void *)(w->data + page * PAGE);
		if (p[1] && p[1] != page + 1)
			errx(1, "page %zu holds %lu", page, p[1]);
		p[1] = page + 1;
		p[x >> 20 & 255] += p[1] == page + 1 && (x >> 20 & 255) > 1;
		w->accesses++;
	}
	return NULL;
}

static uint64_t stat_of(struct quire *q, const char *key)
{
	uint64_t n;

	check(quire_read_key(quire_root(q), "memory.stat", key, &n));
	return n;
}

int main(int argc, char **argv)
{
	unsigned int threads = argc > 3 ? (unsigned int)atoi(argv[1]) : 0;
	unsigned int groups = argc > 3 ? (unsigned int)atoi(argv[2]) : 0;
	unsigned int seconds = argc > 3 ? (unsigned int)atoi(argv[3]) : 0;
	struct worker workers[MAX_THREADS] = { { .seed = 0 } };
	struct quire_group *g = NULL;
	unsigned long accesses = 0;
	uint64_t in, contended;
	struct quire *q;
	char name[16];

	if (!threads || threads > MAX_THREADS || (groups != 1 && groups != threads) || !seconds)
		errx(2, "see the head of bench/lru.c");
	check(quire_open(NULL, &q));
	for (unsigned int i = 0; i < threads; i++) {
		void *mem;

		if (i < groups) {
			snprintf(name, sizeof(name), "g%u", i);
			check(quire_group_create(quire_root(q), name, &g));
			check(quire_write_u64(g, "memory.max", FITS * threads / groups));
		}
		check(quire_map(g, DATA, 0, &mem));
		workers[i] = (struct worker){ .data = mem, .seed = i + 1 };
	}
	for (unsigned int i = 0; i < threads; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			errx(1, "no thread");
	sleep(2); /* all of it was there once */
	for (unsigned int i = 0; i < threads; i++)
		accesses -= workers[i].accesses;
	in = stat_of(q, "pgfault");
	contended = stat_of(q, "lru_contended");
	sleep(seconds);
	for (unsigned int i = 0; i < threads; i++)
		accesses += workers[i].accesses;
	in = stat_of(q, "pgfault") - in;
	contended = stat_of(q, "lru_contended") - contended;
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	printf("threads=%u groups=%u accesses=%.0f faults=%.0f contended=%.1f per_million=%.0f\n",
	       threads, groups, (double)accesses / seconds, (double)in / seconds,
	       (double)contended / seconds, (double)contended * 1e6 / (double)(in ? in : 1));
	return 0;
}
