/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - writing JSON: one object, streamed, valid whatever the strings hold.
 *
 * Callers say what they write in order; commas and quotes are made here.
 */
#include <string.h>

#include "json.h"

static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ' || c >= 0x7f) /* names of files may be no UTF-8 */
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void put_name(struct json *j, const char *name)
{
	if (j->more)
		fputc(',', j->out);
	j->more = true;
	if (name) {
		put_string(j->out, name);
		fputc(':', j->out);
	}
}

void json_begin(struct json *j, const char *name, char bracket)
{
	put_name(j, name);
	fputc(bracket, j->out);
	j->more = false;
}

void json_end(struct json *j, char bracket)
{
	fputc(bracket, j->out);
	j->more = true;
}

void json_string(struct json *j, const char *name, const char *text)
{
	put_name(j, name);
	if (text)
		put_string(j->out, text);
	else
		fputs("null", j->out);
}

void json_number(struct json *j, const char *name, uint64_t n)
{
	put_name(j, name);
	fprintf(j->out, "%llu", (unsigned long long)n);
}

void json_limit(struct json *j, const char *name, uint64_t bytes)
{
	if (bytes == UINT64_MAX)
		json_string(j, name, NULL);
	else
		json_number(j, name, bytes);
}

void json_seconds(struct json *j, const char *name, double seconds)
{
	put_name(j, name);
	fprintf(j->out, "%.6f", seconds);
}

void json_bool(struct json *j, const char *name, bool value)
{
	put_name(j, name);
	fputs(value ? "true" : "false", j->out);
}
