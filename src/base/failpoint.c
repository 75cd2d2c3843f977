/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failpoint.c - rules that make named operations fail, in test builds.
 *
 * Owns the text form of the rules and their evaluation.  Does not own the
 * table: it hangs off the threads that shall use it, several may share one.
 * A name that no rule has costs one comparison per rule.
 *
 * Entry points: failpoints_parse(), failpoint().
 *
 * See also: base/os.h (every os_ function that can fail has one).
 */
#include "base/failpoint.h"

#include "base/fmt.h"
#include "base/os.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

struct error_name {
	const char *name;
	int error;
};

/* What the kernel answers to the calls of os.h, and a few for protocols. */
static const struct error_name error_names[] = {
	{ "E2BIG", E2BIG },
	{ "EACCES", EACCES },
	{ "EAGAIN", EAGAIN },
	{ "EBADF", EBADF },
	{ "EBUSY", EBUSY },
	{ "ECANCELED", ECANCELED },
	{ "EDQUOT", EDQUOT },
	{ "EEXIST", EEXIST },
	{ "EFAULT", EFAULT },
	{ "EFBIG", EFBIG },
	{ "EINTR", EINTR },
	{ "EINVAL", EINVAL },
	{ "EIO", EIO },
	{ "EISDIR", EISDIR },
	{ "EMFILE", EMFILE },
	{ "ENFILE", ENFILE },
	{ "ENODEV", ENODEV },
	{ "ENOENT", ENOENT },
	{ "ENOMEM", ENOMEM },
	{ "ENOSPC", ENOSPC },
	{ "ENOSYS", ENOSYS },
	{ "ENOTTY", ENOTTY },
	{ "ENOTTY", ENOTTY },
	{ "ENXIO", ENXIO },
	{ "EOPNOTSUPP", EOPNOTSUPP },
	{ "EPERM", EPERM },
	{ "EPIPE", EPIPE },
	{ "EROFS", EROFS },
	{ "ESRCH", ESRCH },
	{ "ESTALE", ESTALE },
	{ "ETIMEDOUT", ETIMEDOUT },
	{ "EWOULDBLOCK", EWOULDBLOCK },
};

/* Is text[0..len) the word `name`? */
static bool is_word(const char *text, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(text, name, len) == 0;
}

static int parse_error(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(error_names); i++) {
		if (is_word(text, len, error_names[i].name))
			return -error_names[i].error;
	}
	return 0;
}

/* Characters before the first of the two, or all. */
static size_t length_until(const char *text, size_t len, char a, char b)
{
	size_t i;

	for (i = 0; i < len && text[i] != a && text[i] != b; i++)
		;
	return i;
}

/* "@FIRST/EVERY", both optional; nothing means @1. */
static int parse_when(const char *text, size_t len, u64 *ret_first, u64 *ret_every)
{
	size_t used;

	*ret_first = 1;
	*ret_every = 0;
	if (len && text[0] == '@') {
		used = length_until(text + 1, len - 1, '/', '/');
		if (num_parse(text + 1, used, ret_first) || *ret_first == 0)
			return -EINVAL;
		text += used + 1;
		len -= used + 1;
	}
	if (len && text[0] == '/') {
		if (num_parse(text + 1, len - 1, ret_every) || *ret_every == 0)
			return -EINVAL;
		len = 0;
	}
	return len ? -EINVAL : 0;
}

/* "name:ERROR@first/every" */
static int parse_rule(struct failpoint_rule *rule, const char *text, size_t len)
{
	size_t name_len = length_until(text, len, ':', ':'), error_len;

	if (name_len == 0 || name_len == len || name_len >= sizeof(rule->name))
		return -EINVAL;
	*rule = (struct failpoint_rule){ 0 };
	memcpy(rule->name, text, name_len);
	text += name_len + 1;
	len -= name_len + 1;
	error_len = length_until(text, len, '@', '/');
	rule->error = parse_error(text, error_len);
	if (!rule->error)
		return -EINVAL;
	return parse_when(text + error_len, len - error_len, &rule->first, &rule->every);
}

static int parse_item(struct failpoints *fps, const char *text, size_t len)
{
	int err;

	if (len > 5 && memcmp(text, "kill@", 5) == 0) {
		if (num_parse(text + 5, len - 5, &fps->kill_at) || fps->kill_at == 0)
			return -EINVAL;
		return 0;
	}
	if (fps->nr_rules == FAILPOINT_RULES)
		return -EINVAL;
	err = parse_rule(&fps->rule[fps->nr_rules], text, len);
	if (!err)
		fps->nr_rules++;
	return err;
}

int failpoints_parse(struct failpoints *fps, const char *text)
{
	size_t len = strlen(text);

	*fps = (struct failpoints){ 0 };
	while (len) {
		size_t used = length_until(text, len, ',', ',');

		if (parse_item(fps, text, used))
			return -EINVAL;
		if (used < len)
			used++;
		text += used;
		len -= used;
	}
	return 0;
}

#ifdef QUIRE_FAILPOINTS

/* Adds 1 and returns the new value: stat_add() returns nothing. */
static u64 count(struct counter64 *s)
{
	return __atomic_add_fetch(&s->v, 1, __ATOMIC_RELAXED);
}

static bool fires(const struct failpoint_rule *rule, u64 hit)
{
	if (hit < rule->first)
		return false;
	return hit == rule->first || (rule->every && (hit - rule->first) % rule->every == 0);
}

int failpoint(const char *name)
{
	struct thread *self = thread_self();
	struct failpoints *fps = self ? self->failpoints : NULL;
	size_t len;
	u32 i;

	if (likely(!fps))
		return 0;
	if (count(&fps->nr_steps) == fps->kill_at)
		(void)os_syscall(SYS_kill, os_getpid(), SIGKILL, 0);
	len = strlen(name);
	for (i = 0; i < fps->nr_rules; i++) {
		struct failpoint_rule *rule = &fps->rule[i];

		if (!is_word(name, len, rule->name) || !fires(rule, count(&rule->nr_hits)))
			continue;
		stat_add(&rule->nr_fired, 1);
		return rule->error;
	}
	return 0;
}

#endif
