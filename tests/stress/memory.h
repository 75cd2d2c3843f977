/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - the memory that churn.c tests: the C library's with CHURN_PLAIN,
 * libquire's without.  Included by churn.c only, after struct thread and die().
 */
#ifndef QUIRE_TESTS_STRESS_MEMORY_H
#define QUIRE_TESTS_STRESS_MEMORY_H

#ifdef CHURN_PLAIN

static void memory_init(void)
{
}

static void *heap_alloc(struct thread *t, uint64_t len)
{
	(void)t;
	return malloc(len);
}

static void heap_free(struct thread *t, void *p)
{
	(void)t;
	free(p);
}

static void *heap_realloc(struct thread *t, void *p, uint64_t len)
{
	(void)t;
	return realloc(p, len);
}

static void *map(uint64_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void unmap(void *p, uint64_t len)
{
	if (munmap(p, len))
		die("munmap");
}

static void *remap(void *p, uint64_t len, uint64_t new_len)
{
	void *to;

	/* advice on parts has split the mapping; mremap(2) wants one */
	if (madvise(p, len, MADV_NORMAL))
		die("madvise");
	to = mremap(p, len, new_len, MREMAP_MAYMOVE);
	if (to != MAP_FAILED)
		return to;
	if (errno != EFAULT)
		die("mremap");
	/* Parts that were advised before they were touched stay mappings of their own
	 * for ever (they have different anon_vmas), with quire and without. */
	to = map(new_len);
	memcpy(to, p, len < new_len ? len : new_len);
	unmap(p, len);
	return to;
}

static void discard(void *p, uint64_t len)
{
	if (madvise(p, len, MADV_DONTNEED))
		die("madvise");
}

/* Kernels without swap may refuse some; content must not change either way. */
static void advise(void *p, uint64_t len, unsigned int which)
{
	static const int advice[] = { MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM, MADV_WILLNEED, 20,
				      21 }; /* MADV_COLD, MADV_PAGEOUT */

	if (madvise(p, len, advice[which % 6]) && errno != EINVAL && errno != EAGAIN)
		die("madvise");
}

static void memory_report(void)
{
}

#else

static void memory_init(void)
{
	struct quire_options opt = QUIRE_OPTIONS_INIT;
	const char *no_zswap = getenv("CHURN_NO_ZSWAP"),
		   *no_writeback = getenv("CHURN_NO_WRITEBACK");

	opt.pager = getenv("QUIRE_PAGER");
	if (quire_open(&opt, &q) < 0 || quire_group_create(quire_root(q), "churn", &group) < 0 ||
	    quire_write_u64(group, "memory.max", max_bytes) < 0)
		die("quire_open");
	if (no_zswap && quire_write(group, "memory.zswap.max", "0") < 0)
		die("memory.zswap.max");
	if (no_writeback && quire_write(group, "memory.zswap.writeback", "0") < 0)
		die("memory.zswap.writeback");
	for (unsigned int i = 0; i < nr_threads; i++) {
		struct quire_group *own;
		char name[16];

		snprintf(name, sizeof(name), "t%u", i);
		if (quire_group_create(group, name, &own) < 0 ||
		    quire_heap_create(own, 0, &threads[i].heap) < 0)
			die("quire_heap_create");
	}
}

static void *heap_alloc(struct thread *t, uint64_t len)
{
	return quire_malloc(t->heap, len);
}

static void heap_free(struct thread *t, void *p)
{
	quire_free(t->heap, p);
}

static void *heap_realloc(struct thread *t, void *p, uint64_t len)
{
	return quire_realloc(t->heap, p, len);
}

static void *map(uint64_t len)
{
	void *p;

	if (quire_map(group, len, 0, &p) < 0)
		die("quire_map");
	return p;
}

static void unmap(void *p, uint64_t len)
{
	if (quire_unmap(q, p, len) < 0)
		die("quire_unmap");
}

static void *remap(void *p, uint64_t len, uint64_t new_len)
{
	void *to;

	/* as above: a range under one advice is one region */
	if (quire_advise(q, p, len, QUIRE_NORMAL) < 0 ||
	    quire_remap(q, p, len, new_len, QUIRE_REMAP_MAYMOVE, &to) < 0)
		die("quire_remap");
	return to;
}

static void discard(void *p, uint64_t len)
{
	if (quire_discard(q, p, len) < 0)
		die("quire_discard");
}

static void advise(void *p, uint64_t len, unsigned int which)
{
	static const enum quire_advice advice[] = {
		QUIRE_NORMAL,	QUIRE_SEQUENTIAL, QUIRE_RANDOM,
		QUIRE_WILLNEED, QUIRE_COLD,	  QUIRE_PAGEOUT
	};
	int error = quire_advise(q, p, len, advice[which % 6]);

	if (error < 0 && error != -EAGAIN)
		die("quire_advise");
}

static uint64_t stat_of(const char *key)
{
	uint64_t value;

	if (quire_read_key(group, "memory.stat", key, &value) < 0)
		die(key);
	return value;
}

/* All is freed: nothing may be left outside (I6), and pages must have gone out. */
static void memory_report(void)
{
	uint64_t out = stat_of("pswpout") + stat_of("zswpout"), current, swap;

	for (unsigned int i = 0; i < nr_threads; i++)
		quire_heap_destroy(threads[i].heap);
	current = quire_current(group);
	swap = quire_swap_current(group);
	printf("churn: %lu pages out, %lu in; after freeing all: %lu bytes, %lu in swap\n", out,
	       stat_of("pswpin") + stat_of("zswpin"), current, swap);
	if (!out) {
		fprintf(stderr, "churn: nothing was paged out\n");
		_exit(1);
	}
	if (swap) {
		fprintf(stderr, "churn: %lu bytes are still in swap\n", swap);
		_exit(1);
	}
	quire_close(q);
}

#endif

#endif
