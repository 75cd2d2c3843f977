/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_debug.c - a program whose memory is out, and who looks at it from outside.
 *
 *   show FILE        writes "PID ADDRESS-OUT WORD ADDRESS-IN WORD" to FILE, reads its
 *                    stdin until it ends, then checks every byte
 *   peek HOW PID ADDRESS   one word of another process as ptrace, mem or readv has it:
 *                    0x..., or the name of the error
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "proc.h"

#define POOL_MIB 20

static void show(const char *path)
{
	static uint64_t in;
	struct pool pool;
	unsigned char there = 0;
	size_t page;
	char c;
	FILE *f;

	pool_make(&pool, POOL_MIB, 1);
	in = pool_word(1, 1, 0);
	/* The last page that is out: nothing will bring it back by accident. */
	for (page = 0; page < pool.nr_pages && !(there & 1); page++)
		if (mincore(pool.word + page * PAGE_WORDS, PAGE, &there))
			die("mincore");
	page -= page > 2 ? 2 : page;
	f = fopen(path, "w");
	if (!f)
		die("%s: %s", path, strerror(errno));
	fprintf(f, "%d %p 0x%llx %p 0x%llx\n", (int)getpid(),
		(void *)(pool.word + page * PAGE_WORDS + 7),
		(unsigned long long)pool_word(1, page, 7), (void *)&in, (unsigned long long)in);
	fclose(f);
	while (read(0, &c, 1) > 0)
		;
	pool_check(&pool, 0, pool.nr_pages, 1);
}

static bool peek_ptrace(pid_t pid, void *at, uint64_t *ret)
{
	bool done;

	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) || waitpid(pid, NULL, __WALL) != pid)
		die("PTRACE_ATTACH: %s", strerror(errno));
	errno = 0;
	*ret = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, at, NULL);
	done = !errno;
	return done;
}

static bool peek_mem(pid_t pid, void *at, uint64_t *ret)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDONLY);
	return fd >= 0 && pread(fd, ret, sizeof(*ret), (off_t)at) == sizeof(*ret);
}

static bool peek_readv(pid_t pid, void *at, uint64_t *ret)
{
	struct iovec local = { ret, sizeof(*ret) }, remote = { at, sizeof(*ret) };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof(*ret);
}

static void peek(const char *how, pid_t pid, void *at)
{
	bool (*fn)(pid_t, void *, uint64_t *) = !strcmp(how, "ptrace") ? peek_ptrace :
						!strcmp(how, "mem")    ? peek_mem :
									 peek_readv;
	uint64_t word;

	if (fn(pid, at, &word))
		printf("0x%llx\n", (unsigned long long)word);
	else
		printf("%s\n", strerrorname_np(errno));
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "show"))
		show(argv[2]);
	else if (argc == 5 && !strcmp(argv[1], "peek"))
		peek(argv[2], atoi(argv[3]), (void *)strtoull(argv[4], NULL, 0));
	else
		die("show FILE, or peek ptrace|mem|readv PID ADDRESS");
	return 0;
}
