/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - copy on first write, by mprotect(2) and SIGSEGV.
 */
#include "snapshot.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/os.h"

#define MAX_RANGES 512
#define MAX_DIRTY 4096

struct range {
	u64 start, end;
};

static struct {
	struct range before[MAX_RANGES], made[MAX_RANGES];
	unsigned nr_before, nr_made;
	u64 dirty[MAX_DIRTY];
	unsigned nr_dirty;
	char (*saved)[PAGE_SIZE];
} snap;

/* Writable private anonymous mappings; by read(2), so that no buffer is malloc'd. */
static unsigned read_maps(struct range *ranges)
{
	static char text[256 * KIB];
	size_t len = 0;
	ssize_t got;
	unsigned nr = 0;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	while ((got = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)got;
	close(fd);
	text[len] = '\0';
	for (char *line = text; *line; line = strchr(line, '\n') + 1) {
		unsigned long long start, end, inode;
		char perms[5];

		if (sscanf(line, "%llx-%llx %4s %*x %*s %llu", &start, &end, perms, &inode) != 4 ||
		    strcmp(perms, "rw-p") || inode)
			continue;
		quire_assert(nr < MAX_RANGES);
		ranges[nr++] = (struct range){ start, end };
	}
	return nr;
}

static void add_made(u64 start, u64 end)
{
	int err = start < end ? mprotect((void *)start, end - start, PROT_READ) : 0;

	quire_assert(!err && snap.nr_made < MAX_RANGES);
	if (start < end)
		snap.made[snap.nr_made++] = (struct range){ start, end };
}

/* What of a mapping was not there before: neighbours merge. */
static void add_new_part(struct range r)
{
	for (unsigned i = 0; i < snap.nr_before; i++) {
		const struct range *b = &snap.before[i];

		if (b->end <= r.start || b->start >= r.end)
			continue;
		if (b->start > r.start)
			add_made(r.start, b->start);
		r.start = b->end;
	}
	add_made(r.start, r.end);
}

static bool is_ours(u64 addr)
{
	for (unsigned i = 0; i < snap.nr_made; i++)
		if (addr >= snap.made[i].start && addr < snap.made[i].end)
			return true;
	return false;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	u64 page = (u64)info->si_addr & PAGE_MASK;

	(void)sig;
	(void)context;
	if (info->si_code != SEGV_ACCERR || !is_ours(page) || snap.nr_dirty == MAX_DIRTY)
		os_abort("wild access (or too many changed pages)\n");
	memcpy(snap.saved[snap.nr_dirty], (void *)page, PAGE_SIZE);
	snap.dirty[snap.nr_dirty++] = page;
	if (mprotect((void *)page, PAGE_SIZE, PROT_READ | PROT_WRITE))
		os_abort("mprotect refused\n");
}

void snapshot_take(void (*make)(void))
{
	/* Not deferred: the explorer may leave the handler by another stack. */
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct range after[MAX_RANGES];
	unsigned nr;

	quire_assert(!snap.nr_made);
	snap.saved = mmap(NULL, MAX_DIRTY * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	quire_assert(snap.saved != MAP_FAILED && !sigaction(SIGSEGV, &action, NULL));
	snap.nr_before = read_maps(snap.before);
	make();
	nr = read_maps(after);
	for (unsigned i = 0; i < nr; i++)
		add_new_part(after[i]);
}

void snapshot_restore(void)
{
	for (unsigned i = 0; i < snap.nr_dirty; i++)
		memcpy((void *)snap.dirty[i], snap.saved[i], PAGE_SIZE);
}

unsigned snapshot_nr_dirty(void)
{
	return snap.nr_dirty;
}
