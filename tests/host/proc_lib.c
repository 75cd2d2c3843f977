/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_lib.c - a dependency that uses its heap in its constructor and in each of
 * its fork handlers, and a program that forks with that heap paged out.
 * proc-host.sh builds this file twice: as the library (-DLIBRARY) and as the program
 * (-DPROGRAM).
 */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

#include "proc.h"

int lib_ok(void);

#ifndef PROGRAM

#define NR_BLOCKS 2000

static char *block[NR_BLOCKS];

int lib_ok(void)
{
	for (int i = 0; i < NR_BLOCKS; i++)
		for (int k = 0; k < 1000; k++)
			if (block[i][k] != (char)(i + 1))
				return 0;
	return 1;
}

static void handler(void)
{
	char *fresh = malloc(500);

	if (!fresh || !lib_ok())
		die("a fork handler sees another heap");
	memset(fresh, 1, 500);
	free(fresh);
}

__attribute__((constructor)) static void lib_init(void)
{
	for (int i = 0; i < NR_BLOCKS; i++) {
		block[i] = malloc(1000);
		memset(block[i], i + 1, 1000);
	}
	pthread_atfork(handler, handler, handler);
}

#endif
#ifndef LIBRARY

int main(void)
{
	struct pool pool;

	pool_make(&pool, 20, 1);
	for (int n = 0; n < 30; n++) {
		pid_t pid;
		int status;

		pool_check(&pool, 0, pool.nr_pages, 1);
		pid = fork();
		if (!pid)
			_exit(!lib_ok());
		if (waitpid(pid, &status, 0) != pid || status)
			die("the child ended with 0x%x", status);
	}
	return 0;
}

#endif
