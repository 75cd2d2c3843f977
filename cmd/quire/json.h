/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - writing JSON; see json.c.
 */
#ifndef QUIRE_CMD_JSON_H
#define QUIRE_CMD_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *out;
	bool more; /* a comma is due */
};

/* name: NULL inside arrays and for the outermost object. */
void json_begin(struct json *j, const char *name, char bracket); /* '{' or '[' */
void json_end(struct json *j, char bracket);
void json_string(struct json *j, const char *name, const char *text); /* NULL: null */
void json_number(struct json *j, const char *name, uint64_t n);
void json_limit(struct json *j, const char *name, uint64_t bytes); /* "max": null */
void json_seconds(struct json *j, const char *name, double seconds);
void json_bool(struct json *j, const char *name, bool value);

#endif
