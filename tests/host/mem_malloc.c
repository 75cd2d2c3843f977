/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_malloc.c [--quire|--libc] - malloc's family as glibc's manual has it.
 * --quire: also that the blocks of every thread lie in managed memory, and that what
 * the allocator writes down about them does not.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1ul << 20)
#define NR_THREADS 8

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "mem_malloc: line %d: %s (errno %s)\n", __LINE__, #x,      \
				strerror(errno));                                                  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static bool under_quire;

/* A call the compiler knows nothing about. */
static size_t opaque(size_t n)
{
	volatile size_t v = n;

	return v;
}

static unsigned char byte_of(size_t seed, size_t i)
{
	return (unsigned char)(seed * 31 + i / 7);
}

static void fill(unsigned char *p, size_t n, size_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = byte_of(seed, i);
}

static bool holds(const unsigned char *p, size_t n, size_t seed)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != byte_of(seed, i))
			return false;
	return true;
}

/* ---- the manual ------------------------------------------------------------------ */

static void check_alignments(void)
{
	void *p;

	for (size_t align = 1; align <= 4096; align += align < 80 ? 1 : 511) {
		size_t power = 16;

		while (power < align)
			power *= 2;
		/* not a power of two: rounded up */
		p = memalign(opaque(align), 100);
		CHECK(p && (uintptr_t)p % power == 0);
		memset(p, 1, 100);
		free(p);
	}
	errno = 0;
	CHECK(!memalign(opaque(SIZE_MAX / 2 + 2), 1) && errno == EINVAL);
	p = memalign(opaque(0), 10);
	CHECK(p);
	free(p);
	for (size_t align = 16; align <= 4 * MIB; align *= 2) {
		CHECK(!posix_memalign(&p, align, 3 * align + 5) && (uintptr_t)p % align == 0);
		memset(p, 2, 3 * align + 5);
		free(p);
		p = aligned_alloc(align, align);
		CHECK(p && (uintptr_t)p % align == 0);
		free(p);
	}
	p = &p;
	errno = 0;
	CHECK(posix_memalign(&p, opaque(48), 8) == EINVAL && p == &p && errno == 0);
	CHECK(posix_memalign(&p, opaque(4), 8) == EINVAL);
	CHECK(posix_memalign(&p, opaque(0), 8) == EINVAL);
	CHECK(posix_memalign(&p, 64, opaque(SIZE_MAX - 100)) == ENOMEM && p == &p);
	p = valloc(opaque(10));
	CHECK(p && (uintptr_t)p % 4096 == 0);
	free(p);
	p = pvalloc(opaque(4097));
	CHECK(p && (uintptr_t)p % 4096 == 0 && malloc_usable_size(p) >= 8192);
	free(p);
	CHECK(!pvalloc(opaque(SIZE_MAX - 1)) && errno == ENOMEM);
}

static void check_refusals(void)
{
	unsigned char *p;

	errno = 0;
	CHECK(!malloc(opaque(SIZE_MAX)) && errno == ENOMEM);
	errno = 0;
	CHECK(!malloc(opaque(PTRDIFF_MAX)) && errno == ENOMEM);
	errno = 0;
	CHECK(!calloc(opaque(SIZE_MAX / 2), 3) && errno == ENOMEM);
	p = malloc(opaque(1000));
	CHECK(p);
	fill(p, 1000, 1);
	errno = 0;
	CHECK(!realloc(p, opaque(PTRDIFF_MAX)) && errno == ENOMEM);
	errno = 0;
	CHECK(!reallocarray(p, opaque(SIZE_MAX / 2), 3) && errno == ENOMEM);
	CHECK(holds(p, 1000, 1));
	errno = 77;
	free(p);
	CHECK(errno == 77);
	p = malloc(opaque(0));
	CHECK(p);
	free(p);
	free(NULL);
	p = calloc(opaque(0), 8);
	CHECK(p);
	/* glibc frees, and says so by NULL */
	CHECK(!realloc(p, opaque(0)));
	p = realloc(NULL, opaque(0));
	CHECK(p);
	free(p);
	CHECK(malloc_usable_size(NULL) == 0);
}

static void check_realloc(void)
{
	static const size_t sizes[] = { 1,	 16,	  17,	    200,      4096,
					5000,	 70000,	  131072,   200000,   MIB,
					3 * MIB, 9 * MIB, 30 * MIB, 100,      8 * MIB,
					4097,	 2 * MIB, 33,	    20 * MIB, 1 };
	unsigned char *p = NULL;
	size_t had = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = sizes[i];

		p = realloc(p, n);
		CHECK(p && malloc_usable_size(p) >= n && (uintptr_t)p % 8 == 0);
		CHECK(holds(p, had < n ? had : n, i - 1));
		fill(p, n, i);
		had = n;
	}
	p = reallocarray(p, 1000, 1000);
	CHECK(p);
	free(p);
	p = calloc(1, 20 * MIB);
	CHECK(p);
	for (size_t i = 0; i < 20 * MIB; i++)
		CHECK(!p[i]);
	fill(p, 20 * MIB, 5);
	free(p);
	p = calloc(20, MIB);
	CHECK(p);
	for (size_t i = 0; i < 20 * MIB; i++)
		CHECK(!p[i]);
	free(p);
}

static void check_books(void)
{
	struct mallinfo2 info = mallinfo2();

	(void)info;
	CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
	(void)malloc_trim(0);
}

/* ---- where blocks lie ------------------------------------------------------------------ */

struct map {
	unsigned long start, end;
	unsigned long anon_kib; /* resident */
	bool managed;
};

static struct map maps[65536];
static size_t nr_maps;

static void read_maps(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	char line[512];

	CHECK(f);
	nr_maps = 0;
	while (fgets(line, sizeof(line), f) && nr_maps < 65536) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			maps[nr_maps++] = (struct map){ .start = start, .end = end };
		if (nr_maps && !strncmp(line, "Anonymous:", 10))
			maps[nr_maps - 1].anon_kib = strtoul(line + 10, NULL, 10);
		if (nr_maps && !strncmp(line, "VmFlags:", 8))
			maps[nr_maps - 1].managed = strstr(line, " um") != NULL;
	}
	fclose(f);
}

static bool is_managed(const void *p)
{
	for (size_t i = 0; i < nr_maps; i++)
		if ((unsigned long)p >= maps[i].start && (unsigned long)p < maps[i].end)
			return maps[i].managed;
	return false;
}

static const size_t block_sizes[] = { 16, 4096, MIB, 64 * MIB };
static void *blocks[NR_THREADS][4];

static void *allocate(void *arg)
{
	size_t n = (size_t)arg;

	for (size_t i = 0; i < 4; i++) {
		blocks[n][i] = malloc(block_sizes[i]);
		CHECK(blocks[n][i]);
		fill(blocks[n][i], block_sizes[i] < 4 * MIB ? block_sizes[i] : 4 * MIB, n + i);
	}
	return NULL;
}

/* From each of eight threads, blocks of every kind lie in managed memory. */
static void check_places(void)
{
	pthread_t t[NR_THREADS];

	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(!pthread_create(&t[i], NULL, allocate, (void *)i));
	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(!pthread_join(t[i], NULL));
	read_maps();
	for (size_t n = 0; n < NR_THREADS; n++)
		for (size_t i = 0; i < 4; i++) {
			if (under_quire && !is_managed(blocks[n][i])) {
				fprintf(stderr,
					"mem_malloc: thread %zu: %zu bytes at %p are not managed\n",
					n, block_sizes[i], blocks[n][i]);
				exit(1);
			}
			CHECK(holds(blocks[n][i],
				    block_sizes[i] < 4 * MIB ? block_sizes[i] : 4 * MIB, n + i));
			free(blocks[n][i]);
		}
}

/* ---- where the allocator's books lie --------------------------------------------------- */

/* jemalloc's, which the preload exports. */
int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
	__attribute__((weak));

static void ctl(const char *name, void *to, size_t size)
{
	CHECK(!mallctl(name, to, &size, NULL, 0));
}

static size_t metadata_bytes(void)
{
	uint64_t epoch = 1;
	size_t bytes;

	CHECK(!mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)));
	ctl("stats.metadata", &bytes, sizeof(bytes));
	return bytes;
}

static size_t unmanaged_bytes(void)
{
	size_t kib = 0;

	read_maps();
	for (size_t i = 0; i < nr_maps; i++)
		kib += maps[i].managed ? 0 : maps[i].anon_kib;
	return kib << 10;
}

/* The structure of an arena lies where all it allocates for itself does. */
static void check_arenas(void)
{
	unsigned int nr, found = 0;

	ctl("arenas.narenas", &nr, sizeof(nr));
	(void)metadata_bytes(); /* arenas are known by the epoch */
	read_maps();
	for (unsigned int i = 0; i < nr; i++) {
		size_t *active, size = sizeof(active);
		char name[64];

		snprintf(name, sizeof(name), "experimental.arenas.%u.pactivep", i);
		if (mallctl(name, &active, &size, NULL, 0))
			continue; /* never used */
		found++;
		if (is_managed(active)) {
			fprintf(stderr, "mem_malloc: arena %u: its books are managed\n", i);
			exit(1);
		}
	}
	CHECK(found >= 2); /* jemalloc's own, and managed ones */
}

/* Blocks nobody touches have pages in the allocator's books only. */
static void check_books_unmanaged(void)
{
	enum { NR = 50000, SIZE = 16384 };
	size_t metadata, unmanaged, grown;
	void **block;

	if (!under_quire)
		return;
	check_arenas();
	block = mmap(NULL, NR * sizeof(*block), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	CHECK(block != MAP_FAILED);
	metadata = metadata_bytes();
	unmanaged = unmanaged_bytes();
	for (size_t i = 0; i < NR; i++)
		CHECK((block[i] = malloc(SIZE)));
	grown = metadata_bytes() - metadata;
	unmanaged = unmanaged_bytes() - unmanaged;
	if (grown < MIB || unmanaged < grown / 4 * 3) {
		fprintf(stderr, "mem_malloc: metadata grew by %zu bytes, unmanaged memory by %zu\n",
			grown, unmanaged);
		exit(1);
	}
	check_arenas();
	for (size_t i = 0; i < NR; i++)
		free(block[i]);
	CHECK(!munmap(block, NR * sizeof(*block)));
}

/* ---- many threads, small and large ----------------------------------------------------- */

static void *churn(void *arg)
{
	enum { SLOTS = 200 };
	unsigned char *p[SLOTS] = { NULL };
	size_t n[SLOTS] = { 0 };
	uint64_t x = (size_t)arg + 1;

	for (size_t round = 0; round < 4000; round++) {
		size_t i;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		i = (x >> 33) % SLOTS;
		if (p[i]) {
			CHECK(holds(p[i], n[i], i + n[i]));
			free(p[i]);
			p[i] = NULL;
			continue;
		}
		n[i] = (x >> 40) % (round % 50 ? 3000 : 400000) + 1;
		p[i] = malloc(n[i]);
		CHECK(p[i]);
		fill(p[i], n[i], i + n[i]);
	}
	for (size_t i = 0; i < SLOTS; i++)
		free(p[i]);
	return NULL;
}

static void check_threads(void)
{
	pthread_t t[NR_THREADS];

	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(!pthread_create(&t[i], NULL, churn, (void *)i));
	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(!pthread_join(t[i], NULL));
}

int main(int argc, char **argv)
{
	under_quire = argc > 1 && !strcmp(argv[1], "--quire");
	check_alignments();
	check_refusals();
	check_realloc();
	check_books();
	check_places();
	check_books_unmanaged();
	check_threads();
	return 0;
}
