/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.c - what it costs to start a program, of several commands in turn.
 *
 *   spawn RUNS COMMAND_A [ARG]... --- COMMAND_B [ARG]... [--- ...]
 *
 * Each round runs every command once, in an order that rotates, and times it
 * from posix_spawn to its end.  Prints a line per command: median, 10th and
 * 90th percentile in microseconds, and the median of the differences to the
 * first command of the same round.  A command that does not exit 0 ends it.
 *
 * The first command has no quire in its environment: under `quire run` it is the
 * plain one, and the others are members of the run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "measure.h"

#define MAX_COMMANDS 8

extern char **environ;

static char **commands[MAX_COMMANDS], **envs[MAX_COMMANDS];
static double *times[MAX_COMMANDS];
static int nr_commands;

/* The environment without what `quire run` adds to it. */
static char **plain_environ(void)
{
	char **plain;
	size_t n = 0;

	while (environ[n])
		n++;
	plain = calloc(n + 1, sizeof(*plain));
	if (!plain)
		exit(1);
	n = 0;
	for (char **var = environ; *var; var++)
		if (strncmp(*var, "LD_PRELOAD=", 11) && strncmp(*var, "QUIRE_RUN=", 10))
			plain[n++] = *var;
	return plain;
}

static double run(char **argv, char **env)
{
	double start = now_us();
	int error, status;
	pid_t pid;

	error = posix_spawnp(&pid, argv[0], NULL, NULL, argv, env);
	if (error) {
		fprintf(stderr, "spawn: %s: %s\n", argv[0], strerror(error));
		exit(1);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			perror("spawn: wait");
			exit(1);
		}
	}
	if (status) {
		fprintf(stderr, "spawn: %s: wait status %#x\n", argv[0], status);
		exit(1);
	}
	return now_us() - start;
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[1]) : 0;

	if (runs < 1) {
		fprintf(stderr, "usage: spawn RUNS COMMAND [ARG]... [--- COMMAND [ARG]...]...\n");
		return 2;
	}
	commands[nr_commands++] = argv + 2;
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "---"))
			continue;
		argv[i] = NULL;
		if (nr_commands == MAX_COMMANDS || !argv[i + 1])
			return 2;
		commands[nr_commands++] = argv + i + 1;
	}
	for (int c = 0; c < nr_commands; c++) {
		envs[c] = c ? environ : plain_environ();
		times[c] = calloc(runs, sizeof(double));
		if (!times[c])
			return 1;
		run(commands[c], envs[c]); /* warm */
	}
	for (int r = 0; r < runs; r++) {
		for (int c = 0; c < nr_commands; c++) {
			int which = (r + c) % nr_commands;

			times[which][r] = run(commands[which], envs[which]);
		}
	}
	for (int c = nr_commands - 1; c >= 0; c--) {
		double *extra = calloc(runs, sizeof(double));

		for (int r = 0; r < runs; r++)
			extra[r] = times[c][r] - times[0][r];
		qsort(times[c], c ? runs : 0, sizeof(double), by_value);
		qsort(extra, runs, sizeof(double), by_value);
		if (c == 0)
			qsort(times[0], runs, sizeof(double), by_value);
		printf("command=%d median_us=%.1f p10_us=%.1f p90_us=%.1f extra_us=%.1f\n", c,
		       times[c][runs / 2], times[c][runs / 10], times[c][runs * 9 / 10],
		       extra[runs / 2]);
		free(extra);
	}
	return 0;
}
