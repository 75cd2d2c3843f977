/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_random.c SEED NR_OPS [MIXED] - random memory calls on a window of addresses,
 * with a model of what every page must hold.
 *
 * Each call's result is printed, so that two runs (as it is, and under quire)
 * can be compared line by line; each page's bytes, mapping and protection are
 * judged against the model, so that a run can be judged by itself.
 *
 * Calls that fail by the number of mappings they cover (mremap) are made only on
 * ranges that one mmap made and nothing has cut; with MIXED also on others,
 * and then the results are not printed: where quire's flags are, the kernel's
 * mappings end elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
#define NR_PAGES 8192u /* 32 MiB */
#define WINDOW ((char *)0x100000000000ul)
#define FILE_PAGES 512u
#define CHECK_EACH 400u
#define NR_SAMPLES 24u

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum kind { NOTHING, ANON, SHARED, FILE_PRIVATE, FILE_SHARED };

struct page {
	unsigned char kind;
	unsigned char prot;
	bool freed; /* MADV_FREE: val or zeros */
	bool locked;
	bool guard;
	unsigned short file_page;
	unsigned int map; /* number of the mapping, changed where it is cut */
	unsigned long val; /* 0: zeros */
};

static struct page *model;
static unsigned long file_val[FILE_PAGES];
static int file_fd;
static uint64_t rng;
static unsigned long next_val = 1, next_map = 1, op_nr;
static bool mixed;

static uint32_t rnd(uint32_t below)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((rng >> 33) % below);
}

static void __attribute__((format(printf, 1, 2), noreturn)) wrong(const char *form, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "mem_random: operation %lu: ", op_nr);
	va_start(ap, form);
	vfprintf(stderr, form, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

/* ---- content ----------------------------------------------------------------- */

/* Odd values do not compress. */
static uint64_t word_of(unsigned long val, unsigned int i)
{
	uint64_t x = val * 0x9e3779b97f4a7c15ull + i;

	if (!val)
		return 0;
	if (!(val & 1))
		return val * 0x9e3779b97f4a7c15ull + (i & 7);
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 27;
}

static void fill(void *to, unsigned long val)
{
	uint64_t *p = to;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		p[i] = word_of(val, i);
}

static bool holds(const void *at, unsigned long val)
{
	const uint64_t *p = at;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		if (p[i] != word_of(val, i))
			return false;
	return true;
}

static unsigned long value_of(const struct page *m)
{
	return m->kind == FILE_SHARED ? file_val[m->file_page] : m->val;
}

static char *at(unsigned int n)
{
	return WINDOW + n * PAGE;
}

/* The program's own view, and the kernel's: a buffer of a system call. */
static void check_page(unsigned int n)
{
	static char copy[PAGE];
	static int pipe_fd[2];
	struct page *m = &model[n];
	bool readable = m->kind != NOTHING && (m->prot & PROT_READ) && !m->guard;
	ssize_t got;

	if (!pipe_fd[1] && pipe(pipe_fd))
		wrong("pipe: %s", strerror(errno));
	if (!readable || rnd(8) == 0) {
		got = write(pipe_fd[1], at(n), PAGE);
		if (got == (ssize_t)PAGE && read(pipe_fd[0], copy, PAGE) != (ssize_t)PAGE)
			wrong("the pipe lost a page");
		if (readable && got != (ssize_t)PAGE)
			wrong("page %u is readable, but write(2) from it: %s", n, strerror(errno));
		if (!readable && (got >= 0 || errno != EFAULT))
			wrong("page %u (kind %d prot %d guard %d) must not be readable", n, m->kind,
			      m->prot, m->guard);
		if (readable && !m->freed && !holds(copy, value_of(m)))
			wrong("page %u: write(2) sees wrong bytes", n);
	}
	if (!readable)
		return;
	if (holds(at(n), value_of(m)))
		return;
	if (m->freed && holds(at(n), 0))
		return;
	wrong("page %u (kind %d prot %d map %u) holds %lx, want %lx (value %lu)", n, m->kind,
	      m->prot, m->map, *(unsigned long *)at(n), (unsigned long)word_of(value_of(m), 0),
	      value_of(m));
}

static void check_all(void)
{
	for (unsigned int n = 0; n < NR_PAGES; n++)
		check_page(n);
}

/* ---- the model ------------------------------------------------------------------- */

static void cut(unsigned int from, unsigned int nr)
{
	/* A number of its own for what follows a cut. */
	unsigned int end = from + nr, map;

	if (end < NR_PAGES && model[end].kind != NOTHING) {
		map = model[end].map;
		next_map++;
		for (unsigned int n = end; n < NR_PAGES && model[n].map == map; n++)
			model[n].map = next_map;
	}
}

static void set_nothing(unsigned int from, unsigned int nr)
{
	cut(from, nr);
	memset(&model[from], 0, nr * sizeof(model[0]));
}

static void set_mapping(unsigned int from, unsigned int nr, enum kind kind, int prot,
			unsigned int file_page)
{
	set_nothing(from, nr);
	next_map++;
	for (unsigned int n = from; n < from + nr; n++) {
		bool is_file = kind == FILE_PRIVATE || kind == FILE_SHARED;

		model[n].kind = kind;
		model[n].prot = (unsigned char)prot;
		model[n].map = (unsigned int)next_map;
		model[n].file_page = (unsigned short)(file_page + n - from);
		model[n].val = is_file ? file_val[model[n].file_page] : 0;
	}
}

static void split_map(unsigned int from, unsigned int nr)
{
	cut(from, nr);
	next_map++;
	if (nr && model[from].kind != NOTHING) {
		unsigned int map = model[from].map;

		for (unsigned int n = from; n < from + nr && model[n].map == map; n++)
			model[n].map = (unsigned int)next_map;
	}
}

static bool one_mapping(unsigned int from, unsigned int nr)
{
	if (model[from].kind != ANON)
		return false;
	for (unsigned int n = from; n < from + nr; n++)
		if (model[n].map != model[from].map || model[n].prot != model[from].prot)
			return false;
	return true;
}

static void pick_range(unsigned int *from, unsigned int *nr)
{
	static const unsigned int longest[] = { 4, 64, 1024, NR_PAGES / 4 };

	*nr = 1 + rnd(longest[rnd(4)]);
	*from = rnd(NR_PAGES - *nr + 1);
}

static void say(const char *what, unsigned int from, unsigned int nr, int arg, long res)
{
	if (mixed)
		return;
	printf("%lu %s %u+%u %d: %s\n", op_nr, what, from, nr, arg,
	       res == -1 ? strerror(errno) : "ok");
}

/* ---- operations --------------------------------------------------------------------- */

/* What cannot leave must be little, or no limit can hold: executable and locked
 * memory. */
#define RESIDENT_PAGES 6u

static const int prots[] = { PROT_NONE,
			     PROT_READ,
			     PROT_READ | PROT_WRITE,
			     PROT_READ | PROT_WRITE,
			     PROT_READ | PROT_WRITE,
			     PROT_READ | PROT_WRITE | PROT_EXEC };

static void do_mmap(void)
{
	unsigned int from, nr, file_page = 0;
	enum kind kind = ANON;
	int prot = prots[rnd(6)], flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *p;

	pick_range(&from, &nr);
	if (prot & PROT_EXEC)
		nr = 1 + nr % RESIDENT_PAGES;
	if (from + nr > NR_PAGES)
		from = NR_PAGES - nr;
	if (rnd(5) == 0) {
		kind = (enum kind)(SHARED + rnd(3));
		flags = kind == FILE_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
		if (kind == SHARED)
			flags |= MAP_ANONYMOUS;
		else if (nr > FILE_PAGES / 4)
			nr = 1 + rnd(FILE_PAGES / 4);
		file_page = kind == SHARED ? 0 : rnd(FILE_PAGES - nr + 1);
	}
	flags |= rnd(4) ? 0 : MAP_NORESERVE;
	flags |= rnd(8) || kind != ANON ? 0 : MAP_POPULATE;
	p = mmap(at(from), nr * PAGE, prot, flags | MAP_FIXED, flags & MAP_ANONYMOUS ? -1 : file_fd,
		 (long)(file_page * PAGE));
	say("mmap", from, nr, flags | prot << 24, (long)p);
	if (p == MAP_FAILED)
		return;
	set_mapping(from, nr, kind, prot, file_page);
}

static void do_munmap(void)
{
	unsigned int from, nr;
	int res;

	pick_range(&from, &nr);
	if (nr > 512)
		nr = 512;
	res = munmap(at(from), nr * PAGE);
	say("munmap", from, nr, 0, res);
	if (!res)
		set_nothing(from, nr);
}

static void do_mprotect(void)
{
	unsigned int from, nr;
	int res, prot = prots[rnd(6)];

	pick_range(&from, &nr);
	if (prot & PROT_EXEC)
		nr = 1 + nr % RESIDENT_PAGES;
	if (from + nr > NR_PAGES)
		from = NR_PAGES - nr;
	res = mprotect(at(from), nr * PAGE, prot);
	say("mprotect", from, nr, prot, res);
	split_map(from, nr);
	for (unsigned int n = from; n < from + nr && model[n].kind != NOTHING; n++)
		model[n].prot = (unsigned char)prot;
}

/* The part of a range that a walk over mappings reaches that stops at an error. */
static void do_discard(int advice)
{
	unsigned int from, nr;
	int res;

	pick_range(&from, &nr);
	res = madvise(at(from), nr * PAGE, advice);
	say("madvise", from, nr, advice, res);
	for (unsigned int n = from; n < from + nr; n++) {
		struct page *m = &model[n];

		if (m->kind == NOTHING)
			continue;
		if (m->locked && advice != MADV_DONTNEED_LOCKED)
			break;
		if (advice == MADV_FREE && m->kind != ANON)
			break;
		if (advice == MADV_FREE) {
			m->freed = m->val != 0;
			continue;
		}
		if (m->kind == ANON)
			m->val = 0;
		if (m->kind == FILE_PRIVATE)
			m->val = file_val[m->file_page];
		m->freed = false;
	}
}

static void do_advise(void)
{
	static const int hints[] = {
		MADV_NORMAL,	 MADV_RANDOM,  MADV_SEQUENTIAL,	   MADV_WILLNEED,
		MADV_COLD,	 MADV_PAGEOUT, MADV_POPULATE_READ, 77,
		MADV_KEEPONFORK, MADV_DOFORK,  MADV_DONTFORK,	   MADV_PAGEOUT,
		MADV_COLD
	};
	unsigned int from, nr;
	int res, advice = hints[rnd(sizeof(hints) / sizeof(hints[0]))];

	pick_range(&from, &nr);
	res = madvise(at(from), nr * PAGE, advice);
	say("madvise", from, nr, advice, res);
	split_map(from, nr);
}

static void do_guard(void)
{
	unsigned int from, nr;
	bool install = rnd(2);
	int res;

	pick_range(&from, &nr);
	nr = 1 + nr % 32;
	/* Of memory that no other kind of page is in: there the kernel differs by version. */
	for (unsigned int n = from; n < from + nr; n++)
		if (n >= NR_PAGES || model[n].kind != ANON || model[n].locked)
			return;
	res = madvise(at(from), nr * PAGE, install ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE);
	say("madvise", from, nr, install ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE, res);
	if (res)
		return;
	for (unsigned int n = from; n < from + nr; n++) {
		if (install) {
			model[n].val = 0;
			model[n].freed = false;
		}
		model[n].guard = install;
	}
}

static void do_lock(void)
{
	unsigned int from, nr;
	bool lock = rnd(2);
	int res;

	pick_range(&from, &nr);
	nr = 1 + nr % RESIDENT_PAGES;
	if (from + nr > NR_PAGES)
		return;
	/* PROT_NONE and guards make the call fail half way */
	for (unsigned int n = from; n < from + nr; n++)
		if (lock &&
		    (model[n].kind == NOTHING || !(model[n].prot & PROT_READ) || model[n].guard))
			return;
	res = lock ? mlock(at(from), nr * PAGE) : munlock(at(from), nr * PAGE);
	say(lock ? "mlock" : "munlock", from, nr, 0, res);
	split_map(from, nr);
	for (unsigned int n = from; n < from + nr && model[n].kind != NOTHING; n++)
		model[n].locked = lock;
}

static void move_model(unsigned int from, unsigned int old_nr, unsigned int to, unsigned int nr,
		       bool keep)
{
	static struct page copy[NR_PAGES];
	unsigned int both = nr < old_nr ? nr : old_nr;

	memcpy(copy, &model[from], both * sizeof(copy[0]));
	for (unsigned int n = both; n < nr; n++) {
		copy[n] = copy[0];
		copy[n].val = 0;
		copy[n].freed = copy[n].guard = false;
	}
	if (keep) {
		split_map(from, old_nr);
		for (unsigned int n = from; n < from + old_nr; n++) {
			model[n].val = 0;
			/* the kernel moves the lock with the pages, and the guards */
			model[n].freed = model[n].guard = model[n].locked = false;
		}
	} else {
		set_nothing(from, old_nr);
	}
	set_nothing(to, nr);
	next_map++;
	for (unsigned int n = 0; n < nr; n++) {
		model[to + n] = copy[n];
		model[to + n].map = (unsigned int)next_map;
	}
}

/* In the window by MREMAP_FIXED, or out of it and back. */
static void do_mremap(void)
{
	unsigned int from, nr, to, new_nr;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	bool keep = rnd(6) == 0;
	void *p;

	pick_range(&from, &nr);
	if (!mixed && rnd(4)) /* find the longest piece of one mapping there */
		while (nr > 1 && !one_mapping(from, nr))
			nr = nr * 3 / 4;
	if (!mixed && !one_mapping(from, nr))
		return;
	/* MREMAP_DONTUNMAP unlocks the whole mapping, as far as it reaches. */
	for (unsigned int n = from; n < from + nr; n++)
		if (model[n].kind != ANON || (keep && model[n].locked))
			return;
	new_nr = rnd(2) || keep ? nr : 1 + rnd(2 * nr);
	to = rnd(NR_PAGES - new_nr + 1);
	if (rnd(4) == 0)
		to = from;
	if (to < from + (nr > new_nr ? nr : new_nr) && from < to + (nr > new_nr ? nr : new_nr) &&
	    to != from)
		return;
	if (keep)
		flags |= MREMAP_DONTUNMAP;
	if (to == from) {
		flags = 0;
		/* growing in place is for what is free behind */
		for (unsigned int n = from + nr; n < from + new_nr; n++)
			if (n >= NR_PAGES || (model[n].kind != NOTHING && !mixed))
				return;
		if (from + new_nr > NR_PAGES)
			return;
	}
	if (keep && to == from)
		return;
	p = to != from ? mremap(at(from), nr * PAGE, new_nr * PAGE, flags, at(to)) :
			 mremap(at(from), nr * PAGE, new_nr * PAGE, flags);
	say(keep ? "mremap-keep" : "mremap", from, nr, (int)(to << 16 | new_nr), (long)p);
	if (p == MAP_FAILED) {
		if (!mixed)
			wrong("mremap of %u+%u to %u+%u: %s", from, nr, to, new_nr,
			      strerror(errno));
		return;
	}
	if (to == from && new_nr <= nr)
		set_nothing(from + new_nr, nr - new_nr);
	else
		move_model(from, nr, to, new_nr, keep);
}

/* Bad arguments: an error, and nothing has happened. */
static void do_bad(void)
{
	unsigned int from, nr;
	long res;

	pick_range(&from, &nr);
	switch (rnd(9)) {
	case 0:
		res = munmap(at(from) + 1, nr * PAGE);
		break;
	case 1:
		res = munmap(at(from), 0);
		break;
	case 2:
		res = munmap(at(from), -1ul << 12);
		break;
	case 3:
		res = (long)mmap(at(from), nr * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, 999, 0);
		break;
	case 4:
		res = (long)mmap(at(from), nr * PAGE, PROT_READ,
				 MAP_PRIVATE | MAP_SHARED | MAP_FIXED | MAP_FIXED_NOREPLACE,
				 file_fd, 1);
		break;
	case 5:
		res = (long)mremap(at(from), nr * PAGE, nr * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				   at(from) + 1);
		break;
	case 6:
		res = (long)mremap(at(from), nr * PAGE, 0, MREMAP_MAYMOVE | MREMAP_FIXED, at(0));
		break;
	case 7:
		res = madvise(at(from) + 8, nr * PAGE, MADV_DONTNEED);
		break;
	default:
		res = (long)mremap(at(from), nr * PAGE, nr * PAGE, MREMAP_FIXED, at(0));
		break;
	}
	say("bad", from, nr, 0, res);
	if (res != -1)
		wrong("a bad call succeeded");
}

static void put_value(unsigned int n, unsigned long val)
{
	struct page *m = &model[n];

	if (m->kind == FILE_SHARED) {
		file_val[m->file_page] = val;
		/* private mappings see it, unless they have a copy of their own: only
		 * values that nobody maps privately are written (do_write) */
	} else {
		m->val = val;
	}
	m->freed = false;
}

/* By stores or by read(2) into the pages. */
static void do_write(void)
{
	static int pipe_fd[2];
	static char page[PAGE];
	unsigned int from, nr;
	bool by_call = rnd(3) == 0;

	if (!pipe_fd[1] && pipe(pipe_fd))
		wrong("pipe: %s", strerror(errno));
	pick_range(&from, &nr);
	for (unsigned int n = from; n < from + nr; n++) {
		struct page *m = &model[n];
		unsigned long val = rnd(9) ? next_val++ : 0;

		if (m->kind == NOTHING || !(m->prot & PROT_WRITE) || m->guard ||
		    m->kind == FILE_SHARED || m->kind == SHARED)
			continue;
		if (by_call) {
			fill(page, val);
			if (write(pipe_fd[1], page, PAGE) != (ssize_t)PAGE ||
			    read(pipe_fd[0], at(n), PAGE) != (ssize_t)PAGE)
				wrong("read(2) into page %u: %s", n, strerror(errno));
		} else {
			fill(at(n), val);
		}
		put_value(n, val);
	}
}

static void one_op(void)
{
	uint32_t what = rnd(100);

	op_nr++;
	if (what < 14)
		do_mmap();
	else if (what < 22)
		do_munmap();
	else if (what < 32)
		do_mprotect();
	else if (what < 38)
		do_discard(MADV_DONTNEED);
	else if (what < 41)
		do_discard(MADV_FREE);
	else if (what < 42)
		do_discard(MADV_DONTNEED_LOCKED);
	else if (what < 50)
		do_advise();
	else if (what < 54)
		do_guard();
	else if (what < 57)
		do_lock();
	else if (what < 68)
		do_mremap();
	else if (what < 72)
		do_bad();
	else
		do_write();
	for (unsigned int i = 0; i < NR_SAMPLES; i++)
		check_page(rnd(NR_PAGES));
	if (op_nr % CHECK_EACH == 0)
		check_all();
}

int main(int argc, char **argv)
{
	unsigned long nr_ops;
	static char page[PAGE];

	if (argc < 3) {
		fprintf(stderr, "usage: mem_random SEED NR_OPS [MIXED]\n");
		return 2;
	}
	rng = strtoul(argv[1], NULL, 0) * 2654435761u + 1;
	nr_ops = strtoul(argv[2], NULL, 0);
	mixed = argc > 3;
	model = calloc(NR_PAGES, sizeof(*model));
	file_fd = memfd_create("file", MFD_CLOEXEC);
	if (!model || file_fd < 0)
		wrong("set-up");
	for (unsigned int n = 0; n < FILE_PAGES; n++) {
		file_val[n] = next_val++;
		fill(page, file_val[n]);
		if (write(file_fd, page, PAGE) != (ssize_t)PAGE)
			wrong("set-up");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mmap(WINDOW, NR_PAGES * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != WINDOW)
		wrong("the window is taken");
	set_mapping(0, NR_PAGES, ANON, PROT_READ | PROT_WRITE, 0);
	while (op_nr < nr_ops)
		one_op();
	check_all();
	return 0;
}
