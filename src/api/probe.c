/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.c - <quire/probe.h>: what works here, in words.
 *
 * Owns the sentences that tell a person what to change.  The probing itself is
 * pager_probe() and store_check_dir().
 *
 * See also: cmd/quire/doctor.c.
 */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "pager/pager.h"
#include "store/store.h"

/* The shortest way to a usable userfaultfd, as far as can be known from here. */
static int why_no_pager(const struct pager_caps *caps, int err)
{
	if (caps->syscall_errno == ENOSYS)
		return why(err, "this kernel has no userfaultfd: quire needs Linux 5.11 "
				"or newer with CONFIG_USERFAULTFD");
	if (caps->dev_errno == EACCES || caps->dev_errno == EPERM)
		return why(err, "userfaultfd is not permitted: run as root "
				"`chmod a+rw /dev/userfaultfd`, or "
				"`sysctl -w vm.unprivileged_userfaultfd=1`");
	if (caps->syscall || caps->dev_node)
		return why(err, "userfaultfd lacks what quire needs: quire needs Linux 5.11 "
				"or newer");
	return why(err, "userfaultfd is not permitted: run as root "
			"`sysctl -w vm.unprivileged_userfaultfd=1` (in a container, allow the "
			"userfaultfd system call or pass the device /dev/userfaultfd in)");
}

static void fill_probe(const struct pager_caps *caps, struct quire_probe *p)
{
	p->dev_node = caps->dev_node;
	p->dev_errno = caps->dev_errno;
	p->syscall_ok = caps->syscall;
	p->syscall_errno = caps->syscall_errno;
	p->user_mode_only = caps->user_mode_only;
	p->move = caps->move;
	p->poison = caps->poison;
	p->write_protect = caps->wp;
	p->pagemap_scan = caps->pagemap_scan;
	p->features = caps->features;
}

int quire_probe(const char *name, struct quire_probe *ret_probe)
{
	struct pager p;
	int err;

	if (!ret_probe || ret_probe->size < sizeof(*ret_probe))
		return why(-EINVAL, "quire_probe: size is not set");
	memset(&p, 0, sizeof(p));
	err = pager_init(&p, name);
	if (err == -EINVAL) /* before it probed; doctor shows all the same */
		pager_probe(&p.caps, -1);
	fill_probe(&p.caps, ret_probe);
	memset(ret_probe->pager, 0, sizeof(ret_probe->pager));
	ret_probe->sees_pins = 0;
	if (err == -EINVAL)
		return why(err, "there is no pager \"%.32s\": write uffd_move or uffd_copy", name);
	if (err < 0)
		return why_no_pager(&p.caps, err);
	fmt_str(ret_probe->pager, sizeof(ret_probe->pager), "%s", p.ops->name);
	ret_probe->sees_pins = p.ops->sees_pins;
	return 0;
}

int quire_check_swap_dir(const char *dir, unsigned int flags, uint64_t *ret_free)
{
	u64 bytes_free = 0;
	char size[16];
	int err;

	if (!dir || flags & ~(unsigned int)QUIRE_CHECK_TMPFS)
		return why(-EINVAL, "quire_check_swap_dir: NULL or unknown flag");
	err = store_check_dir(dir, flags & QUIRE_CHECK_TMPFS, &bytes_free);
	if (ret_free)
		*ret_free = bytes_free;
	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
		return why(err,
			   "swap directory %s does not exist: create it, or choose "
			   "another one",
			   dir);
	case -ENOTDIR:
		return why(err, "swap directory %s is not a directory: choose another one", dir);
	case -EACCES:
	case -EROFS:
		return why(err, "swap directory %s is not writable: choose another one", dir);
	case -EMEDIUMTYPE:
		return why(err,
			   "swap directory %s is on tmpfs, which is memory: choose one on "
			   "a disk",
			   dir);
	case -ENOSPC:
		return why(err,
			   "swap directory %s is full (%s free): make room, or choose "
			   "another one",
			   dir, size_print(size, bytes_free));
	default:
		return why(err, "swap directory %s: %s", dir, quire_strerror(err));
	}
}
