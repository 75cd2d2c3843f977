/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_state.h - where a program's pages are, for programs that look at themselves.
 *
 * Under `quire run` the public API shows the run's engine, so the figures are those of
 * the group that the program and its forked children share.
 */
#ifndef TESTS_HOST_PROC_STATE_H
#define TESTS_HOST_PROC_STATE_H

#include <fcntl.h>
#include <quire/quire.h>
#include <stdbool.h>

#include "proc.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* More than any limit here: so much is mapped and never touched. */
#define NEVER_TOUCHED (1ul << 30)

static struct quire_group *group;

/* From here on memory is paged, however little there is. */
static inline void state_open(void)
{
	void *start = mmap(NULL, NEVER_TOUCHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	struct quire *tree;

	if (start == MAP_FAILED || quire_open(NULL, &tree) < 0)
		die("quire: %s", quire_why());
	group = quire_root(tree);
}

static inline uint64_t stat_of(const char *key)
{
	uint64_t value = 0;
	int err = quire_read_key(group, "memory.stat", key, &value);

	if (err < 0)
		die("memory.stat %s: %s", key, quire_strerror(err));
	return value;
}

static inline void set_knob(const char *file, const char *text)
{
	int err = quire_write(group, file, text);

	if (err < 0)
		die("%s %s: %s", file, text, quire_strerror(err));
}

/* Send pages out; what is busy stays. */
static inline void page_out(const void *at, size_t nr)
{
	if (madvise((void *)at, nr * PAGE, MADV_PAGEOUT))
		die("madvise: %m");
}

/* Is the page of this address mapped, by the kernel's own word? */
static inline bool is_present(const void *at)
{
	static int fd = -1;
	static pid_t whose;
	uint64_t entry = 0;

	if (whose != getpid()) {
		if (fd >= 0)
			close(fd);
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		whose = getpid();
	}
	if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)at / PAGE * sizeof(entry))) !=
	    sizeof(entry))
		die("pagemap: %m");
	return entry >> 63;
}

#endif
