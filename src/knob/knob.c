/* SPDX-License-Identifier: Apache-2.0 */
/*
 * knob.c - find a file of a group, read it, write it.
 *
 * Owns: the order of the files, what is common to all reads and writes
 * (existence, permission, white space, sizes).
 * Does not own: what a file means (memory.c, swap.c, core.c), nor the values
 * (memcg/).
 * Entry points: knob_find(), knob_nth(), knob_read(), knob_write().
 * Invariants: every file exists once, in one of the three tables; a file that
 * is not on the root does not exist there; a write is the whole text.
 * Lock ranks: none held; a write may call up for reclaim and block in there, so
 * it runs on an engine thread that may (never on a fault thread).
 * See also: interface.md 2.0, the contract of formats and errors.
 */
#include "knob/internal.h"

#include <errno.h>
#include <string.h>

static const struct knob *const tables[] = { knob_memory, knob_swap, knob_core };

/* ---- parsing and printing ----------------------------------------------------- */

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

void knob_strip(const char **text, size_t *len)
{
	while (*len && is_space(**text)) {
		(*text)++;
		(*len)--;
	}
	while (*len && is_space((*text)[*len - 1]))
		(*len)--;
}

bool knob_is(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

int knob_parse_pages(const char *text, size_t len, u64 *ret_pages)
{
	u64 bytes;
	int ret;

	knob_strip(&text, &len);
	if (knob_is(text, len, "max")) {
		*ret_pages = PAGE_COUNTER_MAX;
		return 0;
	}
	ret = size_parse(text, len, &bytes);
	if (!ret)
		*ret_pages = min_of(bytes >> PAGE_SHIFT, PAGE_COUNTER_MAX);
	return ret;
}

int knob_parse_flag(const char *text, size_t len, bool *ret_on)
{
	u64 v;

	knob_strip(&text, &len);
	if (len && *text == '+') {
		text++;
		len--;
	}
	if (num_parse(text, len, &v) || v > 1)
		return -EINVAL;
	*ret_on = v;
	return 0;
}

void knob_print_bytes(struct fmt *out, u64 bytes)
{
	fmt_add(out, "%llu\n", (unsigned long long)bytes);
}

void knob_print_pages(struct fmt *out, u64 pages)
{
	if (pages >= PAGE_COUNTER_MAX)
		fmt_add(out, "max\n");
	else
		knob_print_bytes(out, pages << PAGE_SHIFT);
}

void knob_print_key(struct fmt *out, const char *key, u64 value)
{
	fmt_add(out, "%s %llu\n", key, (unsigned long long)value);
}

/* ---- the files ------------------------------------------------------------------ */

const struct knob *knob_nth(u32 n)
{
	for (u32 t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct knob *k = tables[t]; k->name; k++)
			if (n-- == 0)
				return k;
	return NULL;
}

const struct knob *knob_find(const char *name, size_t len)
{
	const struct knob *k;

	for (u32 n = 0; (k = knob_nth(n)); n++)
		if (knob_is(name, len, k->name))
			return k;
	return NULL;
}

/* The file of this group, or why not. */
static int find_for(const struct memcg_tree *t, struct memcg_id id, const char *name,
		    const struct knob **ret)
{
	const struct knob *k = knob_find(name, strlen(name));

	if (!k || (id.v == MEMCG_ROOT.v && !k->on_root))
		return -ENOENT;
	if (!memcg_online(t, id))
		return -ENODEV;
	*ret = k;
	return 0;
}

int knob_read(struct memcg_tree *t, struct memcg_id id, const char *name, struct fmt *out)
{
	const struct knob *k;
	int ret = find_for(t, id, name, &k);

	if (ret)
		return ret;
	if (!k->read)
		return -EACCES;
	k->read(t, id, out);
	return 0;
}

int knob_write(struct memcg_tree *t, struct memcg_id id, const char *name, const char *text,
	       size_t len)
{
	const struct knob *k;
	int ret = find_for(t, id, name, &k);

	if (ret)
		return ret;
	if (!k->write)
		return -EACCES;
	knob_strip(&text, &len);
	return len ? k->write(t, id, text, len) : -EINVAL;
}
