/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat.c - <quire/stat.h>: a group's files, and its hot figures without them.
 *
 * Owns nothing: knob/ knows the files and what they mean.
 *
 * See also: knob/knob.h, memcg/memcg.h.
 */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "knob/knob.h"

#define TEXT_MAX 512 /* of a write */
#define NUMBER_MAX 32

/* Why a file could not be read or written; text is NULL for a read. */
static int file_error(int err, const char *file, const char *text)
{
	switch (err) {
	case -ENOENT:
		return why(err, "%s: groups have no such file", file);
	case -EACCES:
		return why(err, "%s: %s", file, text ? "cannot be written" : "can only be written");
	case -EINVAL:
		return why(err, "%s: \"%.40s\" is not understood", file, text ? text : "");
	case -ERANGE:
		return why(err, "%s: \"%.40s\" is out of range", file, text ? text : "");
	case -EAGAIN:
		return why(err, "%s: less could be reclaimed than asked for", file);
	default:
		return why(err, "%s: %s", file, quire_strerror(err));
	}
}

int quire_read(struct quire_group *g, const char *file, char *buf, size_t size, size_t *ret_len)
{
	size_t len;
	int err;

	if (!file || (!buf && size))
		return why(-EINVAL, "quire_read: NULL argument");
	err = group_check(g);
	if (err < 0)
		return err;
	err = engine_knob_read(g->q->e, g->id, file, buf, size, &len);
	if (err < 0)
		return file_error(err, file, NULL);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int quire_to_text(struct quire *q, char *buf, size_t size, size_t *ret_len)
{
	size_t len;
	int err;

	if (!q || (!buf && size))
		return why(-EINVAL, "quire_to_text: NULL argument");
	err = engine_read_text(q->e, buf, size, &len);
	if (err < 0)
		return why(err, "quire_to_text: %s", quire_strerror(err));
	if (ret_len)
		*ret_len = len;
	return 0;
}

int quire_write(struct quire_group *g, const char *file, const char *text)
{
	size_t len;
	int err;

	if (!file || !text)
		return why(-EINVAL, "quire_write: NULL argument");
	err = group_check(g);
	if (err < 0)
		return err;
	len = strlen(text);
	err = len <= TEXT_MAX ? engine_knob_write(g->q->e, g->id, file, text, len) : -EINVAL;
	return err < 0 ? file_error(err, file, text) : 0;
}

/* One number, "max" or nothing else before the end of the line. */
static int parse_value(const char *text, size_t len, u64 *ret_value)
{
	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	if (len == 3 && !memcmp(text, "max", 3)) {
		*ret_value = QUIRE_MAX;
		return 0;
	}
	return num_parse(text, len, ret_value);
}

int quire_read_u64(struct quire_group *g, const char *file, uint64_t *ret_value)
{
	char buf[NUMBER_MAX];
	size_t len;
	u64 value;
	int err;

	err = quire_read(g, file, buf, sizeof(buf), &len);
	if (err < 0)
		return err;
	if (len >= sizeof(buf) || parse_value(buf, len, &value) < 0)
		return why(-EINVAL, "%s: does not hold one number", file);
	*ret_value = value;
	return 0;
}

int quire_write_u64(struct quire_group *g, const char *file, uint64_t value)
{
	char text[NUMBER_MAX];

	if (value == QUIRE_MAX)
		return quire_write(g, file, "max");
	fmt_str(text, sizeof(text), "%lu", (unsigned long)value);
	return quire_write(g, file, text);
}

/* The value in the line "key value" of text; NULL: no such line. */
static const char *find_key(const char *text, const char *key, size_t *ret_len)
{
	size_t klen = strlen(key);

	while (*text) {
		const char *end = text;

		while (*end && *end != '\n')
			end++;
		if ((size_t)(end - text) > klen && !memcmp(text, key, klen) && text[klen] == ' ') {
			*ret_len = (size_t)(end - text) - klen - 1;
			return text + klen + 1;
		}
		text = *end ? end + 1 : end;
	}
	return NULL;
}

int quire_read_key(struct quire_group *g, const char *file, const char *key, uint64_t *ret_value)
{
	char buf[8192];
	const char *text;
	size_t len;
	u64 value;
	int err;

	if (!key || !ret_value)
		return why(-EINVAL, "quire_read_key: NULL argument");
	err = quire_read(g, file, buf, sizeof(buf), NULL);
	if (err < 0)
		return err;
	text = find_key(buf, key, &len);
	if (!text)
		return why(-ENOENT, "%s: has no line \"%s\"", file, key);
	if (parse_value(text, len, &value) < 0)
		return why(-EINVAL, "%s: \"%s\" is not a number", file, key);
	*ret_value = value;
	return 0;
}

/* ---- hot figures ------------------------------------------------------------ */

static bool is_alive(const struct quire_group *g)
{
	return g && atomic32_load(&g->state) == GROUP_ALIVE;
}

/* Limits are clamped to PAGE_COUNTER_MAX pages, which is "max". */
static u64 bytes_of(u64 pages)
{
	return pages >= PAGE_COUNTER_MAX ? QUIRE_MAX : pages << PAGE_SHIFT;
}

uint64_t quire_current(struct quire_group *g)
{
	return is_alive(g) ? bytes_of(memcg_usage(g->q->tree, g->id, COUNTER_MEMORY)) : 0;
}

uint64_t quire_peak(struct quire_group *g)
{
	return is_alive(g) ? bytes_of(memcg_peak(g->q->tree, g->id, COUNTER_MEMORY)) : 0;
}

uint64_t quire_limit(struct quire_group *g)
{
	return is_alive(g) ? bytes_of(memcg_limit(g->q->tree, g->id, COUNTER_MEMORY)) : 0;
}

uint64_t quire_margin(struct quire_group *g)
{
	return is_alive(g) ? bytes_of(memcg_margin(g->q->tree, g->id)) : 0;
}

uint64_t quire_swap_current(struct quire_group *g)
{
	return is_alive(g) ? bytes_of(memcg_usage(g->q->tree, g->id, COUNTER_SWAP)) : 0;
}

uint64_t quire_swap_peak(struct quire_group *g)
{
	return is_alive(g) ? bytes_of(memcg_peak(g->q->tree, g->id, COUNTER_SWAP)) : 0;
}

uint64_t quire_zswap_current(struct quire_group *g)
{
	return is_alive(g) ? memcg_stat_read(g->q->tree, g->id, MEMCG_STAT_ZSWAP) : 0;
}

/* ---- which files there are --------------------------------------------------- */

int quire_file(unsigned int n, struct quire_file_info *ret_info)
{
	const struct knob *knob = knob_nth(n);

	if (!ret_info || ret_info->size < sizeof(*ret_info))
		return why(-EINVAL, "quire_file: size is not set");
	if (!knob)
		return -ENOENT;
	ret_info->name = knob->name;
	ret_info->clause = knob->clause;
	ret_info->readable = knob->read != NULL;
	ret_info->writable = knob->write != NULL;
	return 0;
}
