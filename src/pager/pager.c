/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pager.c - what the kernel lets us do, and which pager follows from it.
 *
 * Owns struct pager_caps and the choice.  Does not own any descriptor beyond
 * the call (uffd.c opens those that stay) and decides no policy: a user who
 * names a pager gets that one or an error.
 *
 * Entry points: pager_probe(), pager_init().
 *
 * Invariants: caps is complete also where nothing works, with the reason of
 * each refusal, because quire doctor prints it.  A descriptor that sees no
 * faults of the kernel (UFFD_USER_MODE_ONLY) is reported and never used:
 * read(2) into a page that is out would fail with EFAULT.
 *
 * Lock ranks: none.
 */
#include "pager/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/os.h"

/* ---- probing ------------------------------------------------------------- */

/* Opens a probe descriptor; fills everything that does not need its features. */
static int probe_open(struct pager_caps *caps, int dev_fd)
{
	int dev = dev_fd >= 0 ? dev_fd : os_open(UFFD_DEV, O_RDWR | O_CLOEXEC, 0);
	int fd = dev >= 0 ? uffd_new(dev, 0) : dev;
	int second = uffd_new(-1, 0);

	if (dev >= 0 && dev != dev_fd)
		os_close(dev);
	caps->dev_node = fd >= 0;
	caps->dev_errno = fd < 0 ? -fd : 0;
	caps->syscall = second >= 0;
	caps->syscall_errno = second < 0 ? -second : 0;
	if (fd >= 0 && second >= 0)
		os_close(second);
	if (fd >= 0)
		return fd;
	if (second >= 0)
		return second;
	fd = uffd_new(-1, UFFD_USER_MODE_ONLY);
	caps->user_mode_only = fd >= 0;
	return fd;
}

void pager_probe(struct pager_caps *caps, int dev_fd)
{
	struct uffdio_api api;
	int fd;

	memset(caps, 0, sizeof(*caps));
	fd = os_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		caps->pagemap_scan = uffd_scan_works(fd);
		os_close(fd);
	}
	fd = probe_open(caps, dev_fd);
	if (fd < 0)
		return;
	/* No feature asked for: the answer is what there is. */
	if (!uffd_api(fd, 0, &api)) {
		caps->features = api.features;
		caps->wp = api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP;
		caps->poison = api.features & UFFD_FEATURE_POISON;
		caps->move = api.features & UFFD_FEATURE_MOVE;
	}
	os_close(fd);
}

/* ---- choosing ------------------------------------------------------------ */

static bool is_name(const char *name, const struct pager_ops *ops)
{
	size_t len = strlen(ops->name);

	return strlen(name) == len && memcmp(name, ops->name, len) == 0;
}

/* Why there is no userfaultfd: refused, or not in this kernel. */
static int why_unusable(const struct pager_caps *caps)
{
	int e[] = { caps->dev_errno, caps->syscall_errno };

	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		if (e[i] == EPERM || e[i] == EACCES)
			return -EPERM;
	return -ENOSYS;
}

int pager_init(struct pager *p, const char *name)
{
	const struct pager_ops *ops = NULL;
	bool usable;

	if (name && is_name(name, &pager_fake))
		ops = &pager_fake;
	else if (name && is_name(name, &pager_uffd_move))
		ops = &pager_uffd_move;
	else if (name && is_name(name, &pager_uffd_copy))
		ops = &pager_uffd_copy;
	else if (name)
		return -EINVAL;

	memset(p, 0, sizeof(*p));
	uffd_close(p); /* -1 is no descriptor, 0 is one */
	p->signal.fd = -1;
	p->ops = ops;
	if (ops == &pager_fake)
		return 0;
	pager_probe(&p->caps, -1);
	if (!p->caps.dev_node && !p->caps.syscall)
		return why_unusable(&p->caps);
	if (!ops)
		p->ops = p->caps.move ? &pager_uffd_move : &pager_uffd_copy;
	usable = p->ops == &pager_uffd_move ? p->caps.move : p->caps.wp;
	return usable ? 0 : -ENOSYS;
}
