/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.h - where a workload's buffer comes from.
 *
 * An anonymous mapping, as any program has; or, with BENCH_LIBQUIRE, on demand a
 * region of libquire, in a group whose limit the program's own memory counts
 * against, as it does in a memory group of the kernel and under `quire run`.
 */
#ifndef QUIRE_BENCH_BUFFER_H
#define QUIRE_BENCH_BUFFER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef BENCH_LIBQUIRE
#include <err.h>
#include <errno.h>
#include <quire/quire.h>
#endif

/* max 0: an ordinary mapping. */
struct buffer_options {
	uint64_t max;
	bool signal; /* the faulting thread serves itself */
	bool store; /* no compressed memory: straight to the swap file */
	bool text; /* at the end say what the library did, on standard error */
};

/* What is resident now: all of it, or less what is a file's. */
static inline uint64_t resident_bytes(bool anon)
{
	unsigned long resident = 0, shared = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%*u %lu %lu", &resident, &shared) != 2)
		resident = shared = 0;
	if (f)
		fclose(f);
	return (resident - (anon ? shared : 0)) * sysconf(_SC_PAGESIZE);
}

static inline void *map_anonymous(uint64_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
		       0);

	if (p == MAP_FAILED) {
		perror("paging: mmap");
		exit(1);
	}
	return p;
}

#ifdef BENCH_LIBQUIRE

/* QUIRE_FAULT_SIGNAL: an older library refuses it, which is what is wanted. */
#define FAULT_SIGNAL 16u
#define SKIPPED 77

static struct quire *tree;

static inline void quire_check(int error)
{
	if (error < 0)
		errx(1, "%s", quire_why());
}

static inline void *buffer_map(const struct buffer_options *o, uint64_t len)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	uint64_t own = resident_bytes(true);
	struct quire_group *group;
	void *p;
	int error;

	if (!o->max)
		return map_anonymous(len, 0);
	opt.flags = o->signal ? FAULT_SIGNAL : 0;
	error = quire_open(&opt, &tree);
	if (o->signal && (error == -EINVAL || error == -EOPNOTSUPP))
		errx(SKIPPED, "no signal mode here: %s", quire_why());
	quire_check(error);
	quire_check(quire_group_create(quire_root(tree), "paging", &group));
	quire_check(quire_assign_all(group, NULL)); /* the library's metadata, too */
	quire_check(quire_write_u64(group, "memory.max", o->max - own));
	if (o->store)
		quire_check(quire_write_u64(group, "memory.zswap.max", 0));
	quire_check(quire_map(group, len, 0, &p));
	return p;
}

/* What the script asks of `quire run` and of the kernel from outside. */
static inline void buffer_report(const struct buffer_options *o)
{
	static char text[1 << 14];
	static const char *const keys[] = {
		"workingset_refault_anon", "metadata", "anon", "swapcached", "zswap", "zswapped"
	};

	for (unsigned int i = 0; tree && i < sizeof(keys) / sizeof(keys[0]); i++) {
		uint64_t n;

		quire_check(quire_read_key(quire_root(tree), "memory.stat", keys[i], &n));
		printf(" %s=%lu", keys[i], n);
	}
	if (tree && o->text) {
		quire_check(quire_to_text(tree, text, sizeof(text), NULL));
		fputs(text, stderr);
	}
}

#else

static inline void *buffer_map(const struct buffer_options *o, uint64_t len)
{
	if (o->max) {
		fprintf(stderr, "paging: built without libquire, --max is paging-lib's\n");
		exit(2);
	}
	return map_anonymous(len, 0);
}

static inline void buffer_report(const struct buffer_options *o)
{
	(void)o;
}

#endif
#endif
