/* SPDX-License-Identifier: Apache-2.0 */
/*
 * knob_test.h - read and write files of a group as text.
 */
#ifndef QUIRE_TESTS_UNIT_KNOB_KNOB_TEST_H
#define QUIRE_TESTS_UNIT_KNOB_KNOB_TEST_H

#include <errno.h>

#include "../memcg/fixture.h"
#include "knob/knob.h"
#include "memcg/member.h"

/* The text of a file, or "-errno"; good until the next call. */
static FIXTURE_UNUSED const char *get(struct memcg_tree *t, struct memcg_id id, const char *name)
{
	static char buf[16384];
	struct fmt out;
	int ret;

	fmt_init(&out, buf, sizeof(buf));
	ret = knob_read(t, id, name, &out);
	if (ret)
		fmt_str(buf, sizeof(buf), "-%s", strerrorname_np(-ret));
	ASSERT_LT(out.len, sizeof(buf));
	return buf;
}

static FIXTURE_UNUSED int put(struct memcg_tree *t, struct memcg_id id, const char *name,
			      const char *text)
{
	return knob_write(t, id, name, text, strlen(text));
}

/* The value of a key of a flat-keyed file. */
static FIXTURE_UNUSED long long value_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len) && line[len] == ' ')
			return atoll(line + len + 1);
	}
	return -1;
}

#define ASSERT_FILE(id, name, text) ASSERT_STR_EQ(get(f.t, id, name), text)
#define ASSERT_PUT(id, name, text, ret) ASSERT_EQ(put(f.t, id, name, text), ret)

#endif
