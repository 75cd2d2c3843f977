/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - options and --help from one table.
 *
 * As getopt_long(3) with a leading "+", minus its guessing: names are not
 * abbreviated, so that a new option never changes what an old script means.
 */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

#define HELP_COLUMN 26

void options_help(const struct command *cmd, FILE *out)
{
	fprintf(out, "Usage: quire %s %s\n\n%s\n\nOptions:\n", cmd->name, cmd->synopsis,
		cmd->purpose);
	for (const struct option_spec *o = cmd->options; o->name; o++) {
		char left[64];

		if (!o->help)
			continue;
		snprintf(left, sizeof(left), "%c%c%s--%s%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
			 !o->arg	 ? "" :
			 o->arg_optional ? "[=" :
					   " ",
			 o->arg ? o->arg : "", o->arg && o->arg_optional ? "]" : "");
		if (strlen(left) < HELP_COLUMN - 3)
			fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, left, o->help);
		else
			fprintf(out, "  %s\n%*s%s\n", left, HELP_COLUMN, "", o->help);
	}
	fprintf(out, "      --help              this text\n");
	if (cmd->details)
		fprintf(out, "\n%s", cmd->details);
}

/* The entry of --name (len bytes) or of -letter (len 0). */
static const struct option_spec *find(const struct command *cmd, const char *name, size_t len,
				      char letter)
{
	for (const struct option_spec *o = cmd->options; o->name; o++) {
		if (len && strlen(o->name) == len && !strncmp(o->name, name, len))
			return o;
		if (!len && o->letter && o->letter == letter)
			return o;
	}
	return NULL;
}

_Noreturn static void unknown(const struct command *cmd, const char *word)
{
	die(cmd->usage_status, "unknown option %s: see quire %s --help", word, cmd->name);
}

/* --name, --name=ARG, --name ARG.  Returns words used. */
static int parse_long(const struct command *cmd, void *ctx, char **argv)
{
	const char *name = argv[0] + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option_spec *o = len ? find(cmd, name, len, 0) : NULL;
	const char *arg = equals ? equals + 1 : NULL;

	if (!o)
		unknown(cmd, argv[0]);
	if (!o->arg && arg)
		die(cmd->usage_status, "--%s takes no argument: leave out \"=%s\"", o->name, arg);
	if (o->arg && !arg && !o->arg_optional) {
		arg = argv[1];
		if (!arg)
			die(cmd->usage_status, "--%s needs an argument: --%s %s", o->name, o->name,
			    o->arg);
		o->set(ctx, arg);
		return 2;
	}
	o->set(ctx, arg);
	return 1;
}

/* -m ARG, -mARG.  Returns words used. */
static int parse_short(const struct command *cmd, void *ctx, char **argv)
{
	const struct option_spec *o = find(cmd, "", 0, argv[0][1]);
	const char *arg = argv[0][2] ? argv[0] + 2 : NULL;

	if (!o)
		unknown(cmd, argv[0]);
	if (!o->arg && arg)
		unknown(cmd, argv[0]);
	if (o->arg && !arg) {
		if (!argv[1])
			die(cmd->usage_status, "-%c needs an argument: -%c %s", o->letter,
			    o->letter, o->arg);
		o->set(ctx, argv[1]);
		return 2;
	}
	o->set(ctx, arg);
	return 1;
}

int options_parse(const struct command *cmd, void *ctx, int argc, char **argv)
{
	int i = 1;

	while (i < argc) {
		if (argv[i][0] != '-' || !argv[i][1])
			return i;
		if (!strcmp(argv[i], "--"))
			return i + 1;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			options_help(cmd, stdout);
			exit(0);
		}
		if (argv[i][1] == '-')
			i += parse_long(cmd, ctx, argv + i);
		else
			i += parse_short(cmd, ctx, argv + i);
	}
	return i;
}
