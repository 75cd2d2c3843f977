/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_calls.c [--quire] CASE... - one memory call at a time, with its content paged
 * out.  Each case ends with 0 where memory behaves as the manual says, with quire
 * and without; --quire: also that the memory was managed, or really left.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#define PAGE 4096ul
#define MIB (1ul << 20)
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static bool under_quire;
static const char *current;

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "mem_calls: %s: line %d: %s (errno %s)\n", current,        \
				__LINE__, #x, strerror(errno));                                    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void *map(size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, ANON | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static void fill(void *at, size_t len, unsigned long seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	for (size_t i = 0; i < len / 8; i++)
		((uint64_t *)at)[i] = x + i * 0xd1342543de82ef95ull;
}

static bool holds(const void *at, size_t len, unsigned long seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	for (size_t i = 0; i < len / 8; i++)
		if (((const uint64_t *)at)[i] != x + i * 0xd1342543de82ef95ull)
			return false;
	return true;
}

static bool zeros(const char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i])
			return false;
	return true;
}

/* Four times the limit of mem-calls.sh goes by. */
static void press(void)
{
	char *p = map(64 * MIB, RW);

	fill(p, 64 * MIB, 99);
	CHECK(holds(p, 64 * MIB, 99));
	CHECK(!munmap(p, 64 * MIB));
}

static size_t nr_resident(void *at, size_t len)
{
	static unsigned char in[65536];
	size_t nr = 0;

	CHECK(len / PAGE <= sizeof(in) && !mincore(at, len, in));
	for (size_t i = 0; i < len / PAGE; i++)
		nr += in[i] & 1;
	return nr;
}

/* The kernel's word for it: VmFlags "um", a userfaultfd for missing pages. */
static bool managed(const void *at)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false, found = false;
	char line[512];

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (unsigned long)at >= start && (unsigned long)at < end;
		if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, " um") != NULL;
	}
	fclose(f);
	return found;
}

#define MANAGED(p) CHECK(!under_quire || managed(p))

static bool in_child(bool (*fn)(char *at, char value), char *at, char value)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(!fn(at, value));
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

static bool is_mapped(char *at, char value)
{
	(void)value;
	return !msync(at, PAGE, MS_ASYNC);
}

static bool reads(char *at, char value)
{
	return *at == value;
}

static bool child_has(char *at)
{
	return in_child(is_mapped, at, 0);
}

static bool child_reads(char *at, char value)
{
	return in_child(reads, at, value);
}

/* ---- reserve and commit --------------------------------------------------------- */

static void case_reserve(void)
{
	char *p = map(256 * MIB, PROT_NONE);

	for (size_t i = 0; i < 32; i++) {
		CHECK(!mprotect(p + i * 8 * MIB, MIB, RW));
		fill(p + i * 8 * MIB, MIB, i);
	}
	press();
	MANAGED(p);
	for (size_t i = 0; i < 32; i++)
		CHECK(holds(p + i * 8 * MIB, MIB, i));
	CHECK(!munmap(p, 256 * MIB));
}

/* Go, Java, V8: small pieces put over a reservation. */
static void case_commit(void)
{
	char *p = map(64 * MIB, PROT_NONE);
	size_t piece = 64 << 10;

	press();
	for (size_t i = 0; i < 512; i++) {
		char *at = p + i * 2 * piece;

		CHECK(mmap(at, piece, RW, ANON | MAP_FIXED, -1, 0) == at);
		fill(at, piece, i);
	}
	press();
	for (size_t i = 0; i < 512; i++) {
		MANAGED(p + i * 2 * piece);
		CHECK(holds(p + i * 2 * piece, piece, i));
		i += 17;
	}
	/* and given back in the same way */
	CHECK(mmap(p, 64 * MIB, PROT_NONE, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0) == p);
	CHECK(!mprotect(p, MIB, PROT_READ) && zeros(p, MIB));
	CHECK(!munmap(p, 64 * MIB));
}

/* Data that is made, then sealed: more of it than the limit. */
static void case_read_only(void)
{
	size_t len = 48 * MIB;
	char *p = map(len, RW);

	fill(p, len, 1);
	CHECK(!mprotect(p, len, PROT_READ));
	for (int i = 0; i < 3; i++)
		CHECK(holds(p, len, 1));
	CHECK(!mprotect(p, len, PROT_NONE));
	press();
	CHECK(!mprotect(p, len, RW));
	CHECK(holds(p, len, 1));
	fill(p, len, 2);
	CHECK(holds(p, len, 2));
	MANAGED(p);
	CHECK(!munmap(p, len));
}

/* ---- calls that fail -------------------------------------------------------------- */

static void case_failing(void)
{
	size_t len = 4 * MIB;
	char *p = map(len, RW), *q = map(len, RW);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	fill(p, len, 1);
	fill(q, len, 2);
	press();
	CHECK(munmap(p + 1, len) == -1 && errno == EINVAL);
	CHECK(munmap(p, 0) == -1 && errno == EINVAL);
	CHECK(munmap(p, -PAGE) == -1 && errno == EINVAL);
	CHECK(mmap(p, len, RW, MAP_PRIVATE | MAP_FIXED, 12345, 0) == MAP_FAILED && errno == EBADF);
	CHECK(mmap(p, len, RW, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED && errno == EACCES);
	CHECK(mmap(p, len, RW, MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(p, len, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 5) == MAP_FAILED &&
	      errno == EINVAL);
	CHECK(mmap(p, len, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
	CHECK(mmap(p, 0, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(p, -1ul, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED && errno == ENOMEM);
	CHECK(mmap(p + 8, len, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, q + 1) == MAP_FAILED &&
	      errno == EINVAL);
	CHECK(mremap(p, len, len, MREMAP_FIXED, q) == MAP_FAILED && errno == EINVAL);
	CHECK(mremap(p, len, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
	CHECK(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE) == MAP_FAILED &&
	      errno == EINVAL);
	CHECK(mremap(p, len, 2 * len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL) == MAP_FAILED &&
	      errno == EINVAL);
	CHECK(mremap(p, len, len, 64 | MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
	CHECK(mremap(p, len, -PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK(madvise(p, len, 77) == -1 && errno == EINVAL);
	CHECK(madvise(p + 1, len, MADV_DONTNEED) == -1 && errno == EINVAL);
	CHECK(madvise(p, -1ul, MADV_DONTNEED) == -1 && errno == EINVAL);
	CHECK(madvise(p, 0, MADV_DONTNEED) == 0);
	CHECK(madvise(p, len, MADV_REMOVE) == -1 && errno == EINVAL);
	CHECK(mlock2(p, len, 2) == -1 && errno == EINVAL);
	CHECK(mlockall(0) == -1 && errno == EINVAL);
	CHECK(mlockall(64) == -1 && errno == EINVAL);
	CHECK(mprotect(p + 1, len, PROT_NONE) == -1 && errno == EINVAL);
	CHECK(holds(p, len, 1) && holds(q, len, 2));
	MANAGED(p);
	MANAGED(q);
	close(fd);
	CHECK(!munmap(p, len) && !munmap(q, len));
}

/* vm.max_map_count reached: a munmap that must split is refused. */
static void case_too_many(void)
{
	size_t len = 4 * MIB, nr = 0, most = 70000;
	char *p = map(len, RW), *holes = map(2 * most * PAGE, PROT_NONE);

	fill(p, len, 3);
	press();
	while (nr < most && !mprotect(holes + 2 * nr * PAGE, PAGE, PROT_READ))
		nr++;
	CHECK(nr < most && errno == ENOMEM);
	/* one more page of the last kind fills it up to the brim */
	CHECK(munmap(p + MIB, MIB) == -1 && errno == ENOMEM);
	CHECK(mmap(p + MIB, MIB, PROT_NONE, ANON | MAP_FIXED, -1, 0) == MAP_FAILED);
	CHECK(mremap(p + MIB, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, holes) == MAP_FAILED);
	CHECK(!munmap(holes, 2 * most * PAGE));
	CHECK(holds(p, len, 3));
	CHECK(!munmap(p, len));
}

/* ---- mremap --------------------------------------------------------------------------- */

static void case_mremap(void)
{
	size_t len = 8 * MIB;
	char *p = map(len, RW), *q, *target = map(2 * len, RW);

	/* one mapping, made of pieces */
	for (size_t at = 0; at < len; at += MIB)
		CHECK(mmap(p + at, MIB, RW, ANON | MAP_FIXED, -1, 0) == p + at);
	fill(p, len, 4);
	press();
	q = mremap(p, len, 2 * len, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && holds(q, len, 4) && zeros(q + len, len));
	fill(q + len, len, 5);
	fill(target, 2 * len, 6);
	press();
	/* over memory that is out */
	p = mremap(q, 2 * len, 2 * len, MREMAP_MAYMOVE | MREMAP_FIXED, target);
	CHECK(p == target && holds(p, len, 4) && holds(p + len, len, 5));
	MANAGED(p);
	press();
	/* shrink, then grow again: what was cut off is gone */
	CHECK(mremap(p, 2 * len, len, 0) == p);
	q = mremap(p, len, len + MIB, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && holds(q, len, 4) && zeros(q + len, MIB));
	press();
	p = mremap(q, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	CHECK(p != MAP_FAILED && p != q && holds(p, len, 4) && zeros(q, len));
	fill(q, len, 7);
	press();
	CHECK(holds(p, len, 4) && holds(q, len, 7));
	MANAGED(p);
	MANAGED(q);
	/* what is not managed, over what is */
	target = map(PAGE, RW);
	fill(target, PAGE, 8);
	CHECK(mremap(target, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + MIB) == p + MIB);
	press();
	CHECK(holds(p, MIB, 4) && holds(p + MIB, PAGE, 8));
	CHECK(!munmap(p, len) && !munmap(q, len + MIB));
}

/* Does this kernel move several mappings at once (6.17)?  Asked where quire is not. */
static bool moves_several(void)
{
	char *p = map(4 * PAGE, RW);
	bool can;

	CHECK(!mprotect(p + PAGE, PAGE, PROT_READ));
	can = mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * PAGE) !=
	      MAP_FAILED;
	CHECK(!munmap(p, 4 * PAGE));
	return can;
}

static bool writable(char *at)
{
	int fds[2];
	bool can;

	CHECK(!pipe(fds) && write(fds[1], "x", 1) == 1);
	can = read(fds[0], at, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return can;
}

/* Mappings that differ, one with a file, and a hole that is too small for others. */
static char *map_several(int fd)
{
	char *p = map(8 * MIB, RW);

	fill(p, 4 * MIB, 11);
	CHECK(!mprotect(p + 2 * MIB, MIB, PROT_READ));
	CHECK(mmap(p + 4 * MIB, MIB, RW, MAP_SHARED | MAP_FIXED, fd, 0) == p + 4 * MIB);
	CHECK(!munmap(p + 5 * MIB, PAGE));
	fill(p + 6 * MIB, 2 * MIB, 12);
	return p;
}

static void case_mremap_several(void)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED, fd = memfd_create("several", MFD_CLOEXEC);
	bool can = moves_several();
	char *p, *to = map(8 * MIB, RW), *file;
	size_t len = 8 * MIB;

	CHECK(fd >= 0 && !ftruncate(fd, (long)MIB));
	file = mmap(NULL, MIB, RW, MAP_SHARED, fd, 0);
	CHECK(file != MAP_FAILED);
	fill(file, MIB, 13);
	p = map_several(fd);
	fill(to, len, 14);
	fill(to + 5 * MIB, PAGE, 15);
	press();
	/* not as one that moves by itself, nor with another length, nor from a hole */
	CHECK(mremap(p, len, 2 * len, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	CHECK(mremap(p + 5 * MIB, 3 * MIB, 3 * MIB, flags, to) == MAP_FAILED && errno == EFAULT);
	CHECK(holds(p, 4 * MIB, 11) && holds(p + 6 * MIB, 2 * MIB, 12));
	if (!can) {
		CHECK(mremap(p, len, len, flags, to) == MAP_FAILED && errno == EFAULT);
		CHECK(holds(p, 4 * MIB, 11) && holds(p + 6 * MIB, 2 * MIB, 12));
		return;
	}
	CHECK(mremap(p, len, len, flags, to) == to);
	press();
	CHECK(holds(to, 4 * MIB, 11) && holds(to + 4 * MIB, MIB, 13));
	/* what lay where the hole is now is left alone */
	CHECK(holds(to + 5 * MIB, PAGE, 15) && zeros(to + 5 * MIB + PAGE, MIB - PAGE));
	CHECK(holds(to + 6 * MIB, 2 * MIB, 12));
	CHECK(writable(to) && !writable(to + 2 * MIB) && writable(to + 3 * MIB));
	CHECK(msync(p, MIB, MS_ASYNC) && msync(p + 6 * MIB, PAGE, MS_ASYNC));
	MANAGED(to);
	MANAGED(to + 2 * MIB);
	MANAGED(to + 6 * MIB);
	CHECK(!under_quire || !managed(to + 4 * MIB));
	CHECK(!munmap(to, len) && !munmap(file, MIB));
	close(fd);
}

/* Small mappings are the kernel's until they grow. */
static void case_grow(void)
{
	int fd = memfd_create("grow", MFD_CLOEXEC);
	char *p = map(4 * PAGE, RW), *q;
	size_t len = 4 * PAGE;

	CHECK(fd >= 0 && !ftruncate(fd, (long)MIB));
	CHECK(!under_quire || !managed(p));
	fill(p, len, 1);
	/* as a vector does; far beyond the limit */
	while (len < 48 * MIB) {
		q = mremap(p, len, 2 * len, MREMAP_MAYMOVE);
		CHECK(q != MAP_FAILED && holds(q, len, 1) && zeros(q + len, len));
		p = q;
		len *= 2;
		fill(p, len, 1);
	}
	press();
	CHECK(holds(p, len, 1));
	MANAGED(p);
	CHECK(!under_quire || nr_resident(p, len) < len / PAGE);
	CHECK(!munmap(p, len));
	/* not what is shared, a file's, or code */
	p = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	q = mremap(p, PAGE, MIB, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && !managed(q) && !munmap(q, MIB));
	p = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	p[5] = 5;
	q = mremap(p, PAGE, MIB, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q[5] == 5 && !managed(q) && !munmap(q, MIB));
	p = map(PAGE, RW | PROT_EXEC);
	q = mremap(p, PAGE, MIB, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && !managed(q) && !munmap(q, MIB));
	close(fd);
}

/* Nor what children are not to see. */
static void case_grow_private(void)
{
	char *p = map(PAGE, RW), *q = map(PAGE, RW);

	CHECK(!madvise(p, PAGE, MADV_WIPEONFORK));
	CHECK(!madvise(q, PAGE, MADV_DONTFORK));
	press();
	p = mremap(p, PAGE, MIB, MREMAP_MAYMOVE);
	q = mremap(q, PAGE, MIB, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED && q != MAP_FAILED);
	p[PAGE] = 6;
	CHECK(child_has(p) && child_reads(p + PAGE, 0) && !child_has(q));
	CHECK(!munmap(p, MIB) && !munmap(q, MIB));
}

/* ---- guards --------------------------------------------------------------------------- */

#define TOUCHERS 12
#define GUARD_ROUNDS 150

/* Threads touch a range for the first time while it gets guards. */
struct guarded {
	char *at;
	pthread_barrier_t go;
	int fd;
};

static void *toucher(void *arg)
{
	struct guarded *g = arg;

	for (int round = 0; round < GUARD_ROUNDS; round++) {
		pthread_barrier_wait(&g->go);
		/* EFAULT where there is a guard by now */
		for (size_t n = 0; n < 4 * TOUCHERS; n++)
			(void)!read(g->fd, g->at + (n * 7 + (size_t)round) % 64 * PAGE, 1);
		pthread_barrier_wait(&g->go);
	}
	return NULL;
}

static void case_guard(void)
{
	struct guarded g = { .at = map(MIB, RW), .fd = open("/dev/zero", O_RDONLY | O_CLOEXEC) };
	pthread_t thread[TOUCHERS];
	int lost = 0;

	if (madvise(g.at, PAGE, MADV_GUARD_INSTALL) && errno == EINVAL)
		return; /* before Linux 6.13 */
	CHECK(!madvise(g.at, PAGE, MADV_GUARD_REMOVE));
	press();
	CHECK(!pthread_barrier_init(&g.go, NULL, TOUCHERS + 1));
	for (int i = 0; i < TOUCHERS; i++)
		CHECK(!pthread_create(&thread[i], NULL, toucher, &g));
	for (int round = 0; round < GUARD_ROUNDS; round++) {
		pthread_barrier_wait(&g.go);
		for (volatile int spin = 0; spin < round * 100; spin++)
			;
		CHECK(!madvise(g.at, 64 * PAGE, MADV_GUARD_INSTALL));
		pthread_barrier_wait(&g.go);
		for (size_t n = 0; n < 64; n++)
			lost += writable(g.at + n * PAGE);
		CHECK(!madvise(g.at, 64 * PAGE, MADV_GUARD_REMOVE));
		CHECK(!madvise(g.at, 64 * PAGE, MADV_DONTNEED));
	}
	for (int i = 0; i < TOUCHERS; i++)
		CHECK(!pthread_join(thread[i], NULL));
	if (lost)
		fprintf(stderr, "mem_calls: %d guards of %d lost\n", lost, 64 * GUARD_ROUNDS);
	CHECK(!lost);
	close(g.fd);
	CHECK(!munmap(g.at, MIB));
}

/* ---- advice ----------------------------------------------------------------------------- */

static void case_advice(void)
{
	char *p = map(4 * MIB, RW), *file;
	int fd = memfd_create("advice", MFD_CLOEXEC);

	CHECK(fd >= 0 && !ftruncate(fd, (long)MIB));
	fill(p, 4 * MIB, 1);
	file = mmap(p + MIB, MIB, RW, MAP_PRIVATE | MAP_FIXED, fd, 0);
	CHECK(file == p + MIB);
	fill(file, MIB, 2);
	press();
	/* MADV_FREE is not for files, not even for what is written there */
	CHECK(madvise(p, 4 * MIB, MADV_FREE) == -1 && errno == EINVAL);
	CHECK(holds(file, MIB, 2));
	fill(p, MIB, 3);
	CHECK(!madvise(p, 4 * MIB, MADV_DONTNEED));
	CHECK(zeros(p, 4 * MIB));
	fill(p + 2 * MIB, 2 * MIB, 5);
	press();
	CHECK(!madvise(p + 2 * MIB, 2 * MIB, MADV_POPULATE_READ));
	CHECK(!madvise(p + 2 * MIB, 2 * MIB, MADV_POPULATE_WRITE));
	CHECK(holds(p + 2 * MIB, 2 * MIB, 5));
	CHECK(!munmap(p + 3 * MIB, 64 * PAGE));
	CHECK(madvise(p, 4 * MIB, MADV_DONTNEED) == -1 && errno == ENOMEM);
	CHECK(zeros(p, 3 * MIB) && zeros(p + 3 * MIB + 64 * PAGE, MIB - 64 * PAGE));
	CHECK(posix_madvise(p, MIB, POSIX_MADV_DONTNEED) == 0);
	CHECK(!munmap(p, 4 * MIB));
	close(fd);
}

static void case_dontfork(void)
{
	char *p = map(2 * MIB, RW);
	int fd = memfd_create("fork", MFD_CLOEXEC);

	CHECK(fd >= 0 && !ftruncate(fd, (long)MIB));
	CHECK(mmap(p + MIB, MIB, RW, MAP_SHARED | MAP_FIXED, fd, 0) == p + MIB);
	fill(p, 2 * MIB, 1);
	press();
	CHECK(child_has(p) && child_has(p + MIB));
	CHECK(!madvise(p, 2 * MIB, MADV_DONTFORK));
	CHECK(!child_has(p) && !child_has(p + MIB));
	CHECK(!madvise(p, 2 * MIB, MADV_DOFORK));
	CHECK(child_has(p) && child_has(p + MIB));
	CHECK(holds(p, 2 * MIB, 1));
	CHECK(!munmap(p, 2 * MIB));
	close(fd);
}

/* ---- what leaves ------------------------------------------------------------------------- */

static void case_exec(void)
{
	static const unsigned char code[] = { 0xb8, 0x2a, 0x00, 0x00, 0x00, 0xc3 }; /* 42 */
	char *p = map(2 * MIB, RW);
	int (*fn)(void), status;
	pid_t pid;

	fill(p, 2 * MIB, 1);
	memcpy(p + MIB, code, sizeof(code));
	press();
	CHECK(!mprotect(p + MIB, 16 * PAGE, PROT_READ | PROT_EXEC));
	memcpy(&fn, (char *[]){ p + MIB }, sizeof(fn));
	press();
	CHECK(fn() == 42 && holds(p, MIB, 1));
	CHECK(holds(p + MIB + 16 * PAGE, 0, 0));
	/* ordinary memory now, for any kind of fork */
	pid = (pid_t)syscall(SYS_fork);
	if (pid == 0)
		syscall(SYS_exit_group, *(volatile char *)(p + MIB) == (char)0xb8 ? 7 : 1);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(!mprotect(p + MIB, 16 * PAGE, RW));
	CHECK(!munmap(p, 2 * MIB));
}

static void case_mlock(void)
{
	/* before there is a reason to page anything */
	char *p = map(2 * MIB, RW), *q = map(2 * MIB, RW);
	int status;
	pid_t pid;

	fill(p, 2 * MIB, 1);
	fill(q, 2 * MIB, 2);
	CHECK(!mlock(p + 100, MIB));
	CHECK(!mlock(p, MIB)); /* does not nest */
	press();
	CHECK(nr_resident(p, MIB) == 256);
	CHECK(!under_quire || nr_resident(q, 2 * MIB) < 512);
	CHECK(!mlock(q, 2 * MIB));
	CHECK(nr_resident(q, 2 * MIB) == 512);
	press();
	CHECK(nr_resident(q, 2 * MIB) == 512);
	CHECK(madvise(q, MIB, MADV_DONTNEED) == -1 && errno == EINVAL);
	CHECK(holds(q, 2 * MIB, 2));
	CHECK(!munlock(p, MIB + PAGE));
	CHECK(!munlockall());
	press();
	CHECK(!under_quire || nr_resident(p, 2 * MIB) + nr_resident(q, 2 * MIB) < 512);
	CHECK(!mlockall(MCL_CURRENT | MCL_ONFAULT) && !munlockall());
	CHECK(!munmap(p + MIB, PAGE));
	CHECK(mlock(p, 2 * MIB) == -1 && errno == ENOMEM);
	CHECK(holds(p, MIB, 1) && !munlockall());
	CHECK(!munmap(p, 2 * MIB) && !munmap(q, 2 * MIB));
	/* a lock is not inherited */
	p = map(2 * MIB, RW);
	fill(p, 2 * MIB, 3);
	CHECK(!mlock(p, 2 * MIB));
	press();
	pid = fork();
	if (pid == 0)
		_exit(holds(p, 2 * MIB, 3) && !madvise(p, 2 * MIB, MADV_DONTNEED) ? 0 : 1);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && !status);
	CHECK(madvise(p, 2 * MIB, MADV_DONTNEED) == -1 && errno == EINVAL);
	CHECK(!munmap(p, 2 * MIB));
	/* what was never touched is filled */
	p = map(2 * MIB, RW);
	CHECK(!mlock(p, MIB) && nr_resident(p, 2 * MIB) == 256 && zeros(p, 2 * MIB));
	CHECK(!munmap(p, 2 * MIB));
}

/*
 * More than the limit can spare: refused by the call, with the kernel's errors where
 * RLIMIT_MEMLOCK is reached, and the program goes on.
 */
static void case_mlock_limit(void)
{
	size_t len = 64 * MIB, nr = 0;
	char *p = map(len, RW), *q;

	if (!under_quire && geteuid())
		return; /* RLIMIT_MEMLOCK */
	fill(p, len, 1);
	CHECK(syscall(SYS_mlock2, p, len, MLOCK_ONFAULT) == (under_quire ? -1 : 0));
	CHECK(!under_quire || errno == ENOMEM);
	CHECK(!munlock(p, len));
	CHECK(mlock(p, len) == (under_quire ? -1 : 0) && !munlockall());
	CHECK(mlockall(MCL_CURRENT) == (under_quire ? -1 : 0) && !munlockall());
	CHECK(holds(p, len, 1));
	/* as much as there is, by pieces, untouched ones too; the rest is paged */
	q = map(len, RW);
	while (nr < 64 && !mlock2(q + nr * MIB, MIB, nr & 1 ? MLOCK_ONFAULT : 0))
		nr++;
	CHECK(nr >= 4 && (!under_quire || (nr < 16 && errno == ENOMEM)));
	fill(q, len, 2);
	press();
	CHECK(holds(p, len, 1) && holds(q, len, 2));
	CHECK(!under_quire || nr_resident(q, nr * MIB) == nr * MIB / PAGE);
	CHECK(!munlockall() && !munmap(p, len) && !munmap(q, len));
	/* what is locked does not grow beyond it either */
	p = map(4 * MIB, RW);
	CHECK(!mlock(p, 4 * MIB));
	q = mremap(p, 4 * MIB, 32 * MIB, MREMAP_MAYMOVE);
	CHECK(under_quire ? q == MAP_FAILED && errno == EAGAIN : q != MAP_FAILED);
	CHECK(!munlockall() && !munmap(q == MAP_FAILED ? p : q, 4 * MIB));
}

/* ---- by number -------------------------------------------------------------------------------- */

static void case_syscall(void)
{
	size_t len = 2 * MIB;
	char *p = (char *)syscall(SYS_mmap, NULL, len, RW, ANON, -1, 0L);
	struct iovec iov[2] = { { p, PAGE }, { p + MIB, MIB } };
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0), id;

	CHECK(p != MAP_FAILED && fd >= 0);
	fill(p, len, 1);
	press();
	MANAGED(p);
	CHECK(syscall(SYS_process_madvise, fd, iov, 2ul, MADV_PAGEOUT, 0) == (long)(PAGE + MIB));
	CHECK(holds(p, len, 1));
	CHECK(!syscall(SYS_mlock2, p, MIB, MLOCK_ONFAULT));
	CHECK(madvise(p, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	CHECK(!syscall(SYS_munlockall));
	CHECK(!madvise(p, PAGE, MADV_DONTNEED) && zeros(p, PAGE));
	press();
	CHECK(!syscall(SYS_pkey_mprotect, p + MIB, PAGE, PROT_READ | PROT_EXEC, -1));
	fill(p, MIB, 2);
	press();
	CHECK(holds(p, MIB, 2));
	/* System V memory over managed memory; a bad call first */
	id = shmget(IPC_PRIVATE, MIB, IPC_CREAT | 0600);
	CHECK(id >= 0);
	CHECK(syscall(SYS_shmat, -1, p, SHM_REMAP) == -1 && holds(p, MIB, 2));
	CHECK((char *)syscall(SYS_shmat, id, p, SHM_REMAP) == p);
	CHECK(zeros(p, MIB));
	fill(p, MIB, 3);
	press();
	CHECK(holds(p, MIB, 3) && !shmdt(p) && !shmctl(id, IPC_RMID, NULL));
	CHECK(!syscall(SYS_munmap, p, len));
	close(fd);
}

/* ---- resource limits ------------------------------------------------------------------------------ */

static unsigned long status_kib(const char *key)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			kib = strtoul(line + strlen(key), NULL, 10);
	fclose(f);
	return kib;
}

static void limited(int what, const char *key)
{
	size_t len = 48 * MIB;
	char *p = map(len, RW);
	struct rlimit old, lim;

	fill(p, len, 1);
	press();
	CHECK(!getrlimit(what, &old));
	lim = old;
	lim.rlim_cur = status_kib(key) * 1024 + 16 * MIB;
	CHECK(!setrlimit(what, &lim));
	CHECK(mmap(NULL, 64 * MIB, RW, ANON, -1, 0) == MAP_FAILED && errno == ENOMEM);
	CHECK(mremap(p, len, len + 64 * MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
	CHECK(malloc(64 * MIB) == NULL && errno == ENOMEM);
	/* what is there is paged all the same */
	for (int i = 2; i < 5; i++) {
		fill(p, len, (unsigned long)i);
		CHECK(holds(p, len, (unsigned long)i));
	}
	CHECK(!setrlimit(what, &old));
	CHECK(!munmap(p, len));
}

static void case_rlimit(void)
{
	limited(RLIMIT_AS, "VmSize:");
	limited(RLIMIT_DATA, "VmData:");
}

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
	{ "mlock", case_mlock },
	{ "mlock-limit", case_mlock_limit },
	{ "reserve", case_reserve },
	{ "commit", case_commit },
	{ "failing", case_failing },
	{ "too-many", case_too_many },
	{ "mremap", case_mremap },
	{ "mremap-several", case_mremap_several },
	{ "guard", case_guard },
	{ "grow", case_grow },
	{ "grow-private", case_grow_private },
	{ "advice", case_advice },
	{ "dontfork", case_dontfork },
	{ "exec", case_exec },
	{ "syscall", case_syscall },
	{ "rlimit", case_rlimit },
	{ "read-only", case_read_only },
};

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		bool known = !strcmp(argv[i], "--quire");

		under_quire |= known;
		for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
			if (strcmp(argv[i], cases[c].name))
				continue;
			current = cases[c].name;
			cases[c].fn();
			known = true;
		}
		if (!known) {
			fprintf(stderr, "mem_calls: no case %s\n", argv[i]);
			return 2;
		}
	}
	return 0;
}
