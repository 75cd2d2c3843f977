/* SPDX-License-Identifier: Apache-2.0 */
/*
 * why.c - the last error, as a sentence for each thread, and errors by name.
 *
 * Owns a small table of texts keyed by thread id.  No __thread: this code runs
 * in programs that dlopen(3) it, and the text must outlive every handle, since
 * quire_open() fails without one.  Sixty-four threads keep theirs; a 65th takes
 * over the oldest place of its neighbourhood.
 *
 * See also: api/api.h.
 */
#include <errno.h>
#include <stdarg.h>

#include "api/api.h"
#include "base/os.h"

#define WHY_SLOTS 64
#define WHY_PROBES 8
#define WHY_TEXT 248

struct why_slot {
	struct atomic32 tid; /* 0: free */
	u32 unused;
	char text[WHY_TEXT]; /* the last byte is never written */
};

static struct why_slot why_slots[WHY_SLOTS];

static struct why_slot *find_slot(u32 tid)
{
	for (u32 i = 0; i < WHY_PROBES; i++) {
		struct why_slot *s = &why_slots[(tid + i) % WHY_SLOTS];

		if (atomic32_load(&s->tid) == tid)
			return s;
	}
	return NULL;
}

static struct why_slot *take_slot(u32 tid)
{
	struct why_slot *s = find_slot(tid);

	for (u32 i = 0; !s && i < WHY_PROBES; i++) {
		struct why_slot *at = &why_slots[(tid + i) % WHY_SLOTS];

		if (atomic32_cas(&at->tid, 0, tid))
			s = at;
	}
	if (!s) {
		s = &why_slots[tid % WHY_SLOTS];
		atomic32_store(&s->tid, tid);
	}
	return s;
}

int why(int err, const char *format, ...)
{
	struct why_slot *s = take_slot((u32)os_gettid());
	struct fmt out;
	va_list ap;

	fmt_init(&out, s->text, WHY_TEXT - 1);
	va_start(ap, format);
	fmt_vadd(&out, format, ap);
	va_end(ap);
	return err;
}

int why_engine(struct quire *q, int err, const char *what)
{
	const char *text = engine_why(q->e);
	bool of_start = err == -EPERM || err == -ENOSYS || err == -ENOENT || err == -ENOTDIR ||
			err == -EACCES || err == -EMEDIUMTYPE || err == -ENOSPC;

	/* It stays when the cause is gone: use it where it is likely meant. */
	if (of_start && text && text[0])
		return why(err, "%s", text);
	return why(err, "%s: %s", what, quire_strerror(err));
}

const char *quire_why(void)
{
	struct why_slot *s = find_slot((u32)os_gettid());

	return s ? s->text : "";
}

static const struct {
	int error;
	const char *text;
} error_names[] = {
	{ 0, "no error" },
	{ EPERM, "not permitted" },
	{ ENOENT, "no such thing" },
	{ EIO, "I/O error" },
	{ E2BIG, "too deep" },
	{ EBADF, "bad file descriptor" },
	{ EAGAIN, "not now" },
	{ ENOMEM, "no memory left within the limit" },
	{ EACCES, "access denied" },
	{ EFAULT, "bad address" },
	{ EBUSY, "in use" },
	{ EEXIST, "exists already" },
	{ ENODEV, "the group was removed" },
	{ ENOTDIR, "not a directory" },
	{ EINVAL, "invalid argument" },
	{ EMFILE, "too many open files" },
	{ ENOSPC, "no space left" },
	{ EROFS, "read-only file system" },
	{ ERANGE, "number out of range" },
	{ ENAMETOOLONG, "name too long" },
	{ ENOSYS, "not supported by this system" },
	{ EBADMSG, "not a tree of groups of this version" },
	{ EXDEV, "of another pid namespace" },
	{ EOPNOTSUPP, "not supported" },
	{ ETIMEDOUT, "timed out" },
	{ EMEDIUMTYPE, "is memory (tmpfs), not a disk" },
};

const char *quire_strerror(int error)
{
	unsigned int positive = error < 0 ? -(unsigned int)error : (unsigned int)error;

	for (size_t i = 0; i < ARRAY_SIZE(error_names); i++)
		if ((unsigned int)error_names[i].error == positive)
			return error_names[i].text;
	return "unknown error";
}

const char *quire_version(void)
{
	return QUIRE_VERSION;
}
