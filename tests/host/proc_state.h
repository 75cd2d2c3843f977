/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_state.h - where a program's pages are, for programs that look at themselves.
 *
 * The figures are those of the group that all processes of the run share, by a view of
 * its tree: quire_open() would show a group of this process's own.
 */
#ifndef TESTS_HOST_PROC_STATE_H
#define TESTS_HOST_PROC_STATE_H

#include <fcntl.h>
#include <quire/quire.h>
#include <quire/view.h>
#include <stdbool.h>

#include "proc.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* More than any limit here: so much is mapped and never touched. */
#define NEVER_TOUCHED (1ul << 30)

static struct quire_view *state_view;
static char state_tree[512], state_group[256];

/* The value of a key of QUIRE_RUN. */
static inline void run_value(const char *key, char *out, size_t size)
{
	const char *run = getenv("QUIRE_RUN"), *at = run ? strstr(run, key) : NULL;
	size_t n = 0;
	unsigned c;

	for (at += at ? strlen(key) : 0; at && *at && *at != ';' && n + 1 < size; at++) {
		out[n++] = *at;
		if (*at == '%' && sscanf(at + 1, "%2x", &c) == 1) {
			out[n - 1] = (char)c;
			at += 2;
		}
	}
	if (!n)
		die("not under quire run: no %s", key);
	out[n] = 0;
}

/* From here on memory is paged, however little there is. */
static inline void state_open(void)
{
	void *start = mmap(NULL, NEVER_TOUCHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	int fd;

	run_value("segment=", state_tree, sizeof(state_tree));
	run_value("group=", state_group, sizeof(state_group));
	fd = open(state_tree, O_RDWR | O_CLOEXEC);
	if (start == MAP_FAILED || fd < 0 || quire_view_open_write(fd, &state_view) < 0)
		die("%s: %s", state_tree, quire_why());
}

static inline uint64_t stat_of(const char *key)
{
	char text[8192], line[64];
	const char *at;
	size_t len;

	if (quire_view_read(state_view, state_group, "memory.stat", text, sizeof(text), &len) < 0)
		die("memory.stat: %s", quire_why());
	snprintf(line, sizeof(line), "\n%s ", key);
	at = strstr(text, line);
	if (!at)
		die("memory.stat: no %s", key);
	return strtoull(at + strlen(line), NULL, 10);
}

static inline void set_knob(const char *file, const char *text)
{
	if (quire_view_write(state_view, state_group, file, text) < 0)
		die("%s %s: %s", file, text, quire_why());
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
