/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - the quire command: its subcommands, help and errors.
 *
 * Owns the table of subcommands and the form of messages.
 */
#include <quire/common.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static const struct command *const commands[] = { &run_command, &rm_command, &doctor_command };

void complain(const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	/* One write: lines of several processes do not mix. */
	fprintf(stderr, "quire: %s\n", text);
}

void die(int status, const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	complain("%s", text);
	exit(status);
}

char *text_of(const char *format, ...)
{
	char *text;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		die(EXIT_QUIRE, "out of memory: close other programs");
	va_end(ap);
	return text;
}

static void usage(FILE *out)
{
	fputs("Usage: quire COMMAND [OPTIONS] [ARGUMENTS]\n\n"
	      "Limit the memory of a program; pages over the limit go to compressed memory\n"
	      "and to disk, without kernel swap or cgroups.\n\n"
	      "Commands:\n",
	      out);
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->purpose);
	fputs("\n`quire COMMAND --help` tells more; so do quire(1) and quire-COMMAND(1).\n", out);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("quire %s\n", quire_version());
		return 0;
	}
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		if (!strcmp(argv[1], commands[i]->name))
			return commands[i]->run(argc - 1, argv + 1);
	die(EXIT_USAGE, "there is no command \"%s\": see quire --help", argv[1]);
}
