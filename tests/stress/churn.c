/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn.c - memory under quire does what memory does, whatever happens to it.
 *
 *   churn [--seconds N] [--ops N] [--seed S] [--threads T] [--max SIZE]
 *         [--factor N] [--mix OP=WEIGHT,...] [--forks N] [--pin 0|1]
 *         [--noise PERCENT] [--flip OP] [--help]
 *
 * Threads allocate, write, verify, free, map, discard, remap and fork at random
 * in --factor times the limit.  Linked with libquire the memory is a group's
 * (limit --max), each thread with a heap of its own; compiled with CHURN_PLAIN
 * it is the C library's, for `quire run` (--max then only sets the amount).
 *
 * Byte truth (I1): each block is cut into pieces of 4 KiB; a piece's content
 * follows from its seed and at most one patch laid over it, which are kept in
 * memory that is never managed (MAP_STACK).  The first wrong byte ends the
 * program: address, expected, found, exit status 1.  A minute in which no
 * operation ends counts as a hang (I4): exit by abort.
 *
 * Fork, some times a second: by turns with the other threads at work (the child
 * then verifies the forking thread's blocks, the only ones at rest) and with
 * all of them held (it verifies everything).  The child writes and allocates
 * too; the parent goes on meanwhile.
 *
 * --flip spoils one bit at that operation of the first thread: what must be found.
 *
 * Pin: a thread holds a buffer registered with io_uring, lets the kernel write
 * into it long after, and verifies.  Not with a pager that cannot see pins
 * (uffd_copy): a documented limit, --pin 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifndef CHURN_PLAIN
#include <quire/quire.h>
#endif

#include "ring.h"

#define PIECE 4096ul
#define MAX_THREADS 32
#define NR_BLOCKS 2048
#define MAX_CHILDREN 3
#define LARGEST (64ul << 20)
#define PIN_BYTES 65536u
#define HANG_SECONDS 60

enum op {
	OP_ALLOC,
	OP_FREE,
	OP_REALLOC,
	OP_MAP,
	OP_UNMAP,
	OP_REMAP,
	OP_DISCARD,
	OP_WRITE,
	OP_PATCH,
	OP_VERIFY,
	OP_SYSCALL,
	OP_ADVISE,
	OP_CLEAR,
	NR_OPS
};
static const char *const op_names[NR_OPS] = {
	"alloc", "free",  "realloc", "map",	"unmap",  "remap", "discard",
	"write", "patch", "verify",  "syscall", "advise", "clear",
};
static unsigned int weights[NR_OPS] = { 20, 8, 6, 6, 4, 4, 6, 25, 25, 40, 8, 4, 0 };

/* What must be in a piece: bytes from seed, then patch_len bytes at patch_at. */
struct piece {
	uint64_t seed; /* 0: zeros */
	uint32_t patch_seed;
	uint16_t patch_at, patch_len; /* patch_len 0: no patch */
};

struct block {
	unsigned char *at; /* NULL: a free entry */
	uint64_t len;
	bool mapped; /* whole pages, by map; else by the heap */
	struct piece *pieces;
	uint64_t pieces_len; /* bytes of their mapping */
};

struct thread {
	pthread_t id;
	unsigned int index;
	uint64_t rnd, budget, used;
	struct block *blocks; /* NR_BLOCKS */
	int fd; /* scratch file of OP_SYSCALL */
	atomic_ulong ops, verified;
	unsigned long done[NR_OPS];
#ifndef CHURN_PLAIN
	struct quire_heap *heap;
#endif
};

static struct thread threads[MAX_THREADS];
static unsigned int nr_threads = 4, nr_children, forks_per_second = 2;
static double seconds = 60;
static uint64_t max_ops = UINT64_MAX, seed = 1, max_bytes = 64ul << 20, factor = 8;
static uint64_t flip_at = UINT64_MAX, noise = 50;
static bool pin = true;
static atomic_bool stop;
static atomic_ulong nr_forks, nr_pins;
static pthread_rwlock_t world; /* read: an operation; write: nobody is in one */
#ifndef CHURN_PLAIN
static struct quire *q;
static struct quire_group *group;
#endif

_Noreturn static void die(const char *what)
{
#ifndef CHURN_PLAIN
	fprintf(stderr, "churn: %s: %s; %s\n", what, strerror(errno), quire_why());
#else
	fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
#endif
	_exit(2);
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t next(struct thread *t)
{
	return mix(t->rnd++);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Memory that no pager of user space takes: for what must be there. */
static void *book(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
		       -1, 0);

	if (p == MAP_FAILED)
		die("books");
	return p;
}

#include "memory.h"

/* ---- byte truth --------------------------------------------------------------- */

/* --noise percent of the pages do not compress; of the others a third is one
 * word, the rest about 4:1. */
static uint64_t word_of(uint64_t s, uint64_t w)
{
	if (!s)
		return 0;
	if (s % 100 < noise)
		return mix(s + w * 0x100000001ull);
	if (s % 3 == 0)
		return s;
	return w & 3 ? (s ^ w >> 5) & 0xffffff : mix(s + w) & 0xffffffff;
}

static void expected_of(const struct piece *p, unsigned char *buf)
{
	uint64_t *words = (uint64_t *)buf;

	for (uint64_t w = 0; w < PIECE / 8; w++)
		words[w] = word_of(p->seed, w);
	for (unsigned int i = 0; i < p->patch_len; i++)
		buf[p->patch_at + i] = mix(p->patch_seed + i / 8) >> i % 8 * 8;
}

static uint64_t nr_pieces(uint64_t len)
{
	return (len + PIECE - 1) / PIECE;
}

static uint64_t piece_len(const struct block *b, uint64_t i)
{
	return b->len - i * PIECE < PIECE ? b->len - i * PIECE : PIECE;
}

_Noreturn static void wrong(const struct thread *t, const struct block *b, uint64_t i,
			    const unsigned char *expected)
{
	const struct piece *p = &b->pieces[i];
	unsigned char *at = b->at + i * PIECE;
	uint64_t off = 0, len = piece_len(b, i), nr = 0;

	for (uint64_t k = len; k-- > 0;) {
		if (at[k] != expected[k]) {
			off = k;
			nr++;
		}
	}
	fprintf(stderr,
		"churn: WRONG BYTE at %p: expected %#04x, found %#04x\n"
		"churn: %lu wrong bytes in this page%s; byte %lu of a %s block of %lu at %p; piece "
		"seed %#lx patch %u+%u; seed %lu, thread %u, operation %lu, pid %d\n",
		(void *)(at + off), expected[off], at[off], nr, nr ? "" : " when looked at again",
		i * PIECE + off, b->mapped ? "mapped" : "heap", b->len, (void *)b->at, p->seed,
		p->patch_at, p->patch_len, seed, t->index, atomic_load(&t->ops), getpid());
	_exit(1);
}

static void verify_piece(struct thread *t, const struct block *b, uint64_t i)
{
	unsigned char expected[PIECE] __attribute__((aligned(8)));
	uint64_t len = piece_len(b, i);

	expected_of(&b->pieces[i], expected);
	if (memcmp(b->at + i * PIECE, expected, len))
		wrong(t, b, i, expected);
	atomic_fetch_add_explicit(&t->verified, len, memory_order_relaxed);
}

static void verify_block(struct thread *t, const struct block *b)
{
	for (uint64_t i = 0; i < nr_pieces(b->len); i++)
		verify_piece(t, b, i);
}

static void write_piece(struct thread *t, struct block *b, uint64_t i)
{
	unsigned char buf[PIECE] __attribute__((aligned(8)));

	b->pieces[i] = (struct piece){ .seed = next(t) | 1ull << 40 };
	expected_of(&b->pieces[i], buf);
	memcpy(b->at + i * PIECE, buf, piece_len(b, i));
}

/* A few bytes of a page: the rest has to come back with it. */
static void patch_piece(struct thread *t, struct block *b, uint64_t i)
{
	unsigned char buf[PIECE] __attribute__((aligned(8)));
	uint64_t len = piece_len(b, i);
	struct piece *p = &b->pieces[i];

	if (p->patch_len)
		write_piece(t, b, i);
	p->patch_seed = next(t);
	p->patch_at = next(t) % len;
	p->patch_len = 1 + next(t) % (len - p->patch_at < 64 ? len - p->patch_at : 64);
	expected_of(p, buf);
	memcpy(b->at + i * PIECE + p->patch_at, buf + p->patch_at, p->patch_len);
}

/* ---- blocks -------------------------------------------------------------------- */

static struct block *any_block(struct thread *t, bool used)
{
	uint64_t start = next(t);

	for (unsigned int i = 0; i < NR_BLOCKS; i++) {
		struct block *b = &t->blocks[(start + i) % NR_BLOCKS];

		if (!!b->at == used)
			return b;
	}
	return NULL;
}

static struct block *any_mapped(struct thread *t)
{
	for (unsigned int tries = 0; tries < 64; tries++) {
		struct block *b = &t->blocks[next(t) % NR_BLOCKS];

		if (b->at && b->mapped)
			return b;
	}
	return NULL;
}

/* Books for a block of this length; what was there before stays. */
static void set_pieces(struct block *b, uint64_t len)
{
	uint64_t bytes = (nr_pieces(len) * sizeof(struct piece) + 4095) & ~4095ul;
	uint64_t old_len = b->len, keep = b->pieces_len < bytes ? b->pieces_len : bytes;
	struct piece *pieces;

	if (bytes != b->pieces_len) {
		pieces = book(bytes);
		if (keep)
			memcpy(pieces, b->pieces, keep);
		if (b->pieces_len)
			munmap(b->pieces, b->pieces_len);
		b->pieces = pieces;
		b->pieces_len = bytes;
	}
	for (uint64_t i = nr_pieces(old_len); i < nr_pieces(len); i++)
		b->pieces[i] = (struct piece){ 0 };
	b->len = len;
}

static void forget(struct thread *t, struct block *b)
{
	t->used -= b->len;
	munmap(b->pieces, b->pieces_len);
	*b = (struct block){ 0 };
}

/* 1 byte to 64 MiB, every power of two as likely. */
static uint64_t any_size(struct thread *t)
{
	uint64_t most = t->budget / 2 < LARGEST ? t->budget / 2 : LARGEST;
	uint64_t len = 1 + next(t) % (1ul << next(t) % 27);

	return len < most ? len : most;
}

static void op_alloc(struct thread *t, bool mapped)
{
	struct block *b = any_block(t, false);
	uint64_t len = any_size(t);

	if (!b || t->used + len > t->budget)
		return;
	if (mapped)
		len = (len + 4095) & ~4095ul;
	b->mapped = mapped;
	b->at = mapped ? map(len) : heap_alloc(t, len);
	if (!b->at)
		die("malloc");
	set_pieces(b, len);
	t->used += len;
	/* a fresh mapping is zeros; half of them stay so for now */
	if (mapped && next(t) & 1)
		return;
	for (uint64_t i = 0; i < nr_pieces(len); i++)
		write_piece(t, b, i);
}

static void any_range(struct thread *t, const struct block *b, uint64_t *ret_first,
		      uint64_t *ret_nr)
{
	uint64_t nr = nr_pieces(b->len), most = 1ul << next(t) % 10;

	*ret_first = next(t) % nr;
	*ret_nr = nr - *ret_first < most ? nr - *ret_first : most;
}

static void op_pieces(struct thread *t, enum op op)
{
	struct block *b = any_block(t, true);
	uint64_t first, nr;

	if (!b)
		return;
	any_range(t, b, &first, &nr);
	for (uint64_t i = first; i < first + nr; i++) {
		if (op != OP_WRITE || i & 1)
			verify_piece(t, b, i); /* else overwritten unread */
		if (op == OP_WRITE)
			write_piece(t, b, i);
		else if (op == OP_PATCH)
			patch_piece(t, b, i);
	}
}

static void op_free(struct thread *t)
{
	struct block *b = any_block(t, true);

	if (!b)
		return;
	/* small ones whole, of large ones a part: most of those go unread */
	if (nr_pieces(b->len) <= 16)
		verify_block(t, b);
	else
		op_pieces(t, OP_VERIFY);
	if (b->mapped)
		unmap(b->at, b->len);
	else
		heap_free(t, b->at);
	forget(t, b);
}

static void op_realloc(struct thread *t)
{
	struct block *b = any_block(t, true);
	uint64_t len = any_size(t), old;

	if (!b || b->mapped || t->used + len > t->budget + b->len)
		return;
	old = b->len;
	b->at = heap_realloc(t, b->at, len);
	if (!b->at)
		die("realloc");
	/* only the first bytes of a piece that was cut are what they were */
	set_pieces(b, len);
	t->used += len - old;
	for (uint64_t i = old / PIECE; i < nr_pieces(len); i++)
		write_piece(t, b, i);
	verify_block(t, b);
}

/* A part of a mapping goes: its end or its beginning. */
static void op_unmap(struct thread *t)
{
	struct block *b = any_mapped(t);
	uint64_t cut;

	if (!b || b->len < 2 * PIECE)
		return;
	cut = (1 + next(t) % (nr_pieces(b->len) - 1)) * PIECE;
	if (next(t) & 1) {
		unmap(b->at + b->len - cut, cut);
	} else {
		unmap(b->at, cut);
		b->at += cut;
		memmove(b->pieces, b->pieces + cut / PIECE,
			(nr_pieces(b->len) - cut / PIECE) * sizeof(struct piece));
	}
	t->used -= cut;
	set_pieces(b, b->len - cut);
}

static void op_remap(struct thread *t)
{
	struct block *b = any_mapped(t);
	uint64_t len = (any_size(t) + 4095) & ~4095ul;

	if (!b || t->used + len > t->budget + b->len)
		return;
	b->at = remap(b->at, b->len, len);
	t->used += len - b->len;
	set_pieces(b, len);
}

static void op_discard(struct thread *t)
{
	struct block *b = any_mapped(t);
	uint64_t first, nr;

	if (!b)
		return;
	any_range(t, b, &first, &nr);
	discard(b->at + first * PIECE, nr * PIECE);
	for (uint64_t i = first; i < first + nr; i++)
		b->pieces[i] = (struct piece){ 0 };
}

static void op_advise(struct thread *t)
{
	struct block *b = any_mapped(t);
	uint64_t first, nr;

	if (!b)
		return;
	any_range(t, b, &first, &nr);
	advise(b->at + first * PIECE, nr * PIECE, next(t));
}

/* The kernel reads a range into a file, and writes it into another block. */
static void op_syscall(struct thread *t)
{
	struct block *from = any_block(t, true), *to = any_block(t, true);
	uint64_t first, nr, len;

	if (!from || from == to)
		return;
	any_range(t, from, &first, &nr);
	len = nr * PIECE;
	if ((first + nr) * PIECE > from->len || len > to->len)
		return;
	if (pwrite(t->fd, from->at + first * PIECE, len, 0) != (ssize_t)len)
		die("pwrite");
	if (pread(t->fd, to->at, len, 0) != (ssize_t)len)
		die("pread");
	memcpy(to->pieces, from->pieces + first, nr * sizeof(struct piece));
	for (uint64_t i = 0; i < nr; i++)
		verify_piece(t, to, i);
}

static void op_clear(struct thread *t)
{
	for (unsigned int i = 0; i < NR_BLOCKS; i++) {
		struct block *b = &t->blocks[i];

		if (!b->at)
			continue;
		verify_block(t, b);
		if (b->mapped)
			unmap(b->at, b->len);
		else
			heap_free(t, b->at);
		forget(t, b);
	}
}

/* ---- fork ------------------------------------------------------------------------- */

/* In the child: its snapshot, then memory of its own. */
_Noreturn static void child_main(struct thread *t, bool everything)
{
	/* a hung child is a fault that never ends */
	alarm(4 * HANG_SECONDS);
	for (unsigned int i = 0; i < nr_threads; i++) {
		struct thread *other = &threads[i];

		if (other != t && !everything)
			continue;
		/* a sample: all of it would be read from swap, in every child */
		for (unsigned int n = 0; n < 64; n++) {
			struct block *b = any_block(other, true);
			uint64_t first, nr;

			if (!b)
				break;
			any_range(other, b, &first, &nr);
			for (uint64_t p = first; p < first + nr; p++)
				verify_piece(other, b, p);
		}
	}
	for (unsigned int n = 0; n < 50; n++) {
		op_pieces(t, OP_PATCH);
		op_pieces(t, OP_VERIFY);
		op_alloc(t, n & 1);
		op_free(t);
	}
	_exit(0);
}

static void reap(bool wait)
{
	int status;
	pid_t pid;

	while (nr_children && (pid = waitpid(-1, &status, wait ? 0 : WNOHANG)) > 0) {
		nr_children--;
		if (status) {
			fprintf(stderr, "churn: child %d: wait status %#x\n", pid, status);
			_exit(1);
		}
	}
}

/* By the first thread only. */
static void fork_now(struct thread *t)
{
	bool everything = atomic_load(&nr_forks) & 1;
	pid_t pid;

	reap(nr_children == MAX_CHILDREN);
	if (everything)
		pthread_rwlock_wrlock(&world);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		child_main(t, everything);
	if (everything)
		pthread_rwlock_unlock(&world);
	nr_children++;
	atomic_fetch_add(&nr_forks, 1);
}

/* ---- pin ---------------------------------------------------------------------------- */

static void pin_check(const unsigned char *buf, const unsigned char *expected, uint64_t off,
		      uint64_t len)
{
	for (uint64_t i = off; i < off + len; i++) {
		if (buf[i] == expected[i])
			continue;
		fprintf(stderr,
			"churn: WRONG BYTE at %p: expected %#04x, found %#04x\n"
			"churn: byte %lu of a buffer registered with io_uring; seed %lu\n",
			(const void *)(buf + i), expected[i], buf[i], i, seed);
		_exit(1);
	}
}

/* Data that the kernel writes into the buffer long after it was registered. */
static void *pin_main(void *arg)
{
	static unsigned char expected[PIN_BYTES];
	uint64_t rnd = mix(seed ^ 0x70696e);
	unsigned char *buf;
	struct ring r = { 0 };
	int pipes[2];

	(void)arg;
	if (!ring_open(&r)) {
		fprintf(stderr, "churn: no io_uring here: %s; nothing is pinned\n",
			strerror(errno));
		return NULL;
	}
	if (pipe2(pipes, O_CLOEXEC))
		die("pipe");
	buf = map(PIN_BYTES);
	while (!stop) {
		struct iovec iov = { buf, PIN_BYTES };

		memset(buf, 0x55, PIN_BYTES);
		memset(expected, 0x55, PIN_BYTES);
		if (syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1) < 0)
			die("io_uring_register");
		for (unsigned int i = 0; i < 16 && !stop; i++) {
			unsigned int off = (mix(rnd++) % (PIN_BYTES / 4096)) * 4096;

			if (ring_read(&r, pipes[0], buf + off, 4096))
				die("io_uring_enter");
			/* time for reclaim to come by */
			usleep(mix(rnd++) % 20000);
			for (unsigned int k = 0; k < 4096; k++)
				expected[off + k] = mix(rnd + k);
			rnd += 4096;
			if (write(pipes[1], expected + off, 4096) != 4096)
				die("pipe");
			if (ring_result(&r) != 4096)
				die("READ_FIXED");
			pin_check(buf, expected, off, 4096);
			atomic_fetch_add(&nr_pins, 1);
		}
		pin_check(buf, expected, 0, PIN_BYTES);
		if (syscall(SYS_io_uring_register, r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0) < 0)
			die("io_uring_register");
	}
	unmap(buf, PIN_BYTES);
	close(r.fd);
	return NULL;
}

/* A bit goes wrong, as it would in a broken pager. */
static void flip(struct thread *t)
{
	struct block *b = any_block(t, true);

	if (b)
		b->at[next(t) % b->len] ^= 1;
}

/* ---- the run -------------------------------------------------------------------------- */

static void operate(struct thread *t, enum op op)
{
	switch (op) {
	case OP_ALLOC:
	case OP_MAP:
		op_alloc(t, op == OP_MAP);
		break;
	case OP_FREE:
		op_free(t);
		break;
	case OP_REALLOC:
		op_realloc(t);
		break;
	case OP_UNMAP:
		op_unmap(t);
		break;
	case OP_REMAP:
		op_remap(t);
		break;
	case OP_DISCARD:
		op_discard(t);
		break;
	case OP_SYSCALL:
		op_syscall(t);
		break;
	case OP_ADVISE:
		op_advise(t);
		break;
	case OP_CLEAR:
		op_clear(t);
		break;
	default:
		op_pieces(t, op);
	}
}

static enum op any_op(struct thread *t)
{
	unsigned int sum = 0, at;

	for (unsigned int i = 0; i < NR_OPS; i++)
		sum += weights[i];
	at = next(t) % sum;
	for (unsigned int i = 0; i < NR_OPS; i++) {
		if (at < weights[i])
			return i;
		at -= weights[i];
	}
	return OP_VERIFY;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	double last_fork = now();

	while (!stop && atomic_load(&t->ops) < max_ops) {
		/* full: room is made first */
		enum op op = t->used > t->budget * 15 / 16 ? OP_FREE : any_op(t);

		pthread_rwlock_rdlock(&world);
		operate(t, op);
		pthread_rwlock_unlock(&world);
		if (t->index == 0 && atomic_load(&t->ops) == flip_at)
			flip(t);
		t->done[op]++;
		atomic_fetch_add(&t->ops, 1);
		if (t->index == 0 && forks_per_second &&
		    now() - last_fork > 1.0 / forks_per_second) {
			fork_now(t);
			last_fork = now();
		}
		if (t->index == 0)
			reap(false);
	}
	pthread_rwlock_rdlock(&world);
	op_clear(t);
	pthread_rwlock_unlock(&world);
	if (t->index == 0)
		reap(true);
	return NULL;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	return *end == 'G' ? v << 30 : *end == 'M' ? v << 20 : *end == 'K' ? v << 10 : v;
}

static void parse_mix(char *text)
{
	for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
		char *equals = strchr(word, '=');
		unsigned int i = 0;

		if (equals)
			*equals = '\0';
		while (i < NR_OPS && strcmp(word, op_names[i]))
			i++;
		if (!equals || i == NR_OPS) {
			fprintf(stderr, "churn: --mix: no operation %s\n", word);
			exit(2);
		}
		weights[i] = atoi(equals + 1);
	}
}

static void usage(int status)
{
	fprintf(stderr,
		"usage: churn [--seconds N] [--ops N] [--seed S] [--threads T] "
		"[--max SIZE]\n"
		"             [--factor N] [--mix OP=WEIGHT,...] [--forks N] [--pin 0|1] [--noise PERCENT] "
		"[--flip OP]\n"
		"operations and weights:");
	for (unsigned int i = 0; i < NR_OPS; i++)
		fprintf(stderr, " %s=%u", op_names[i], weights[i]);
	fprintf(stderr, "\n");
	exit(status);
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seconds", 1, 0, 's' }, { "ops", 1, 0, 'o' },	  { "seed", 1, 0, 'S' },
		{ "threads", 1, 0, 't' }, { "max", 1, 0, 'm' },	  { "factor", 1, 0, 'f' },
		{ "mix", 1, 0, 'x' },	  { "forks", 1, 0, 'F' }, { "pin", 1, 0, 'p' },
		{ "flip", 1, 0, 'l' },	  { "noise", 1, 0, 'n' }, { "help", 0, 0, 'h' },
		{ 0, 0, 0, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 's':
			seconds = atof(optarg);
			break;
		case 'o':
			max_ops = strtoull(optarg, NULL, 10);
			break;
		case 'S':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 't':
			nr_threads = atoi(optarg);
			break;
		case 'm':
			max_bytes = parse_size(optarg);
			break;
		case 'f':
			factor = strtoull(optarg, NULL, 10);
			break;
		case 'x':
			parse_mix(optarg);
			break;
		case 'F':
			forks_per_second = atoi(optarg);
			break;
		case 'p':
			pin = atoi(optarg);
			break;
		case 'n':
			noise = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			flip_at = strtoull(optarg, NULL, 10);
			break;
		default:
			usage(opt == 'h' ? 0 : 2);
		}
	}
	if (optind != argc || nr_threads < 1 || nr_threads > MAX_THREADS || !max_bytes || !factor)
		usage(2);
}

static unsigned long all_ops(void)
{
	unsigned long sum = 0;

	for (unsigned int i = 0; i < nr_threads; i++)
		sum += atomic_load(&threads[i].ops);
	return sum;
}

/* Until the time is over or every thread is through; aborts on a hang. */
static void watch(void)
{
	double end = now() + seconds, last_change = now();
	unsigned long before = 0;

	while (now() < end && !stop) {
		unsigned long ops;
		bool through = true;

		usleep(100000);
		ops = all_ops();
		if (ops != before) {
			before = ops;
			last_change = now();
		}
		if (now() - last_change > HANG_SECONDS) {
			fprintf(stderr, "churn: HANG: no operation ended for %d s; seed %lu\n",
				HANG_SECONDS, seed);
			abort();
		}
		for (unsigned int i = 0; i < nr_threads; i++)
			through &= atomic_load(&threads[i].ops) >= max_ops;
		if (through)
			break;
	}
	stop = true;
}

static void start(pthread_t *ret_pinner)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&world, &attr);
	memory_init();
	for (unsigned int i = 0; i < nr_threads; i++) {
		struct thread *t = &threads[i];
		const char *dir = getenv("TMPDIR");

		t->index = i;
		t->rnd = mix(seed) + ((uint64_t)i << 48);
		t->budget = max_bytes * factor / nr_threads;
		t->blocks = book(NR_BLOCKS * sizeof(struct block));
		t->fd = open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (t->fd < 0)
			die("scratch file");
	}
	if (pin && (errno = pthread_create(ret_pinner, NULL, pin_main, NULL)))
		die("thread");
	for (unsigned int i = 0; i < nr_threads; i++) {
		errno = pthread_create(&threads[i].id, NULL, thread_main, &threads[i]);
		if (errno)
			die("thread");
	}
}

int main(int argc, char **argv)
{
	unsigned long verified = 0, done[NR_OPS] = { 0 };
	pthread_t pinner;

	options(argc, argv);
	start(&pinner);
	watch();
	for (unsigned int i = 0; i < nr_threads; i++) {
		pthread_join(threads[i].id, NULL);
		verified += atomic_load(&threads[i].verified);
		for (unsigned int op = 0; op < NR_OPS; op++)
			done[op] += threads[i].done[op];
	}
	if (pin)
		pthread_join(pinner, NULL);
	printf("churn: seed %lu, %u threads, %lu MiB of %lu: %lu operations, %lu bytes verified, "
	       "%lu forks, %lu pinned reads, 0 wrong bytes\n",
	       seed, nr_threads, max_bytes >> 20, max_bytes * factor >> 20, all_ops(), verified,
	       atomic_load(&nr_forks), atomic_load(&nr_pins));
	printf("churn:");
	for (unsigned int op = 0; op < NR_OPS; op++)
		printf(" %s %lu", op_names[op], done[op]);
	printf("\n");
	memory_report();
	return 0;
}
