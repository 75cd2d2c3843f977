/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common.h - opening quire, errors, and the rules that hold for every function.
 *
 * quire is memory cgroups for the inside of a program: groups with limits,
 * whose cold pages are really paged out (compressed in memory, then to a file)
 * while the program keeps using ordinary pointers.  This header, its sisters
 * (group.h region.h heap.h stat.h event.h probe.h view.h) and the manual pages
 * libquire(3) and quire(7) are the manual.
 *
 * Unless a function says otherwise:
 *
 *  Return    0, or a negative errno value (-ENOENT).  errno itself is never
 *            touched, nothing is printed, the process is never ended.  Out
 *            parameters (ret_...) are written on success only.  After an error
 *            quire_why() has one sentence about it for the calling thread.
 *  Sizes     are in bytes.  Addresses and lengths of ranges are multiples of
 *            the page size, 4096.
 *  Threads   every function may be called by any thread at any time.  Two calls
 *            that name the same object (the same range, group or heap), one of
 *            which removes it, are for the caller to order.
 *  Signals   functions may not be called from a signal handler, except the ones
 *            marked "signal safe".  A signal that arrives during a call waits
 *            for its end, as in a system call that cannot be interrupted.  A
 *            handler may touch managed memory.  No function is a cancellation
 *            point.
 *  Fork      a child made by fork(2) has a copy of everything: its own groups,
 *            limits and memory.  Handles keep working in it.  A child made by
 *            vfork(2) or a raw clone(2) may use none of it before it execs.
 *  Blocking  "may wait" means: for reclaim, that is for compression or I/O, and
 *            never for another tenant's memory.high penalty.  All others return
 *            after a bounded amount of work.
 *  Versions  structs that cross the border begin with their size, which the
 *            caller fills in: a program built against an older header runs
 *            against a newer library and the other way round.
 *
 * What no function can promise is in quire(7): memory that is not managed
 * (stacks, static data, the program's own malloc) is not limited in a library;
 * debuggers and core files do not see paged-out pages.
 */
#ifndef QUIRE_COMMON_H
#define QUIRE_COMMON_H

#include <stddef.h>
#include <stdint.h>

#define QUIRE_VERSION_MAJOR 0
#define QUIRE_VERSION_MINOR 1
#define QUIRE_VERSION_PATCH 0
#define QUIRE_VERSION "0.1.0"

#ifndef QUIRE_MUST_CHECK
#if defined(__GNUC__)
#define QUIRE_MUST_CHECK __attribute__((warn_unused_result))
#else
#define QUIRE_MUST_CHECK
#endif
#endif

/* No limit: what quire_read_u64() returns for "max", and what may be written. */
#define QUIRE_MAX UINT64_MAX

#ifdef __cplusplus
extern "C" {
#endif

/* One tree of groups and the engine that pages for it.  Opaque. */
struct quire;
/* A group of the tree.  Opaque; see group.h. */
struct quire_group;

enum quire_open_flags {
	/*
	 * Start paging now instead of with the first mapping or limit: the errors
	 * that this can have come from quire_open() then.
	 */
	QUIRE_OPEN_START = 1,
	/* The swap directory may be on tmpfs: for tests, it is memory. */
	QUIRE_OPEN_TMPFS = 2,
	/* Compressed memory only; there is no swap file and no swap directory. */
	QUIRE_OPEN_NO_STORE = 4,
	/* Straight to the swap file, no compressed memory in front of it. */
	QUIRE_OPEN_NO_ZSWAP = 8,
	/*
	 * Signal mode: the thread that touches a page that is out brings it back itself,
	 * in a SIGBUS handler of the library, where otherwise it waits for a thread of
	 * the library.  Faults are faster, and the program keeps to these rules:
	 *
	 *  - Buffers of system calls are pinned (quire_pin()) or not managed: the kernel
	 *    answers EFAULT for a page that is out, or was not written since it came back.
	 *  - SIGBUS is not blocked where managed memory is touched: the kernel would end
	 *    the program.  Neither by a mask nor by sa_mask of another handler (sigfillset
	 *    has it).  quire_open() refuses where the calling thread blocks it.
	 *  - A handler for SIGBUS is installed before quire_open(): what is no fault of
	 *    ours is passed on to it.  One that comes later must call the one before it.
	 *  - Stacks are not managed memory, but for coroutines on a thread that has an
	 *    alternate signal stack which is not.
	 *  - Two descriptors of the library at high numbers, a userfaultfd and the swap
	 *    file, are left alone.  One that was closed costs time.
	 *  - A seccomp filter allows in all threads what a fault may call: ioctl, futex,
	 *    madvise, mprotect, fstat, openat, close, fcntl, prlimit64, pread64, fadvise64,
	 *    gettid, sched_yield, clock_nanosleep, rt_sigpending, rt_sigprocmask,
	 *    rt_sigreturn.
	 *
	 * Asynchronous signals wait for the end of a fault, and its errno is kept.
	 */
	QUIRE_FAULT_SIGNAL = 16
};

/* How to open.  Zero in a field is its default; see QUIRE_OPTIONS_INIT. */
struct quire_options {
	size_t size; /* sizeof(struct quire_options) */
	unsigned int flags; /* enum quire_open_flags */
	unsigned int nr_fault_threads; /* 0: by the number of processors */
	/*
	 * Where the swap file is made (unnamed, it vanishes with the process).
	 * NULL: $QUIRE_SWAP_DIR, else $XDG_CACHE_HOME/quire, else /var/tmp.
	 */
	const char *swap_dir;
	/* Size limit of the swap file; 0: half of what is free there. */
	uint64_t swap_file_max;
	/* How pages are moved: NULL the best that works here, "uffd_move",
	 * "uffd_copy", "fake" (tests without userfaultfd). */
	const char *pager;
	/*
	 * Called when paging cannot go on without losing data (a corrupt object,
	 * a failed disk, a fault that hangs).  It must not return and may use
	 * no managed memory; `reason` is one line.  NULL: the line is written to
	 * file descriptor 2 and the process aborts.
	 */
	void (*fatal)(void *arg, const char *reason);
	void *fatal_arg;
};

#define QUIRE_OPTIONS_INIT                                                                         \
	{                                                                                          \
		sizeof(struct quire_options), 0, 0, NULL, 0, NULL, NULL, NULL                      \
	}

/*
 * quire_open - make a tree with one group, the root, without a limit.
 *
 * opt: NULL for the defaults.  No thread and no descriptor exists until memory
 * is first mapped or a limit first set (see QUIRE_OPEN_START), but whether paging
 * is possible is checked now.  Usually called once; a second call makes a second,
 * independent tree.  In a program run by `quire run` every call returns the
 * engine of the run, and the root is a group of this process alone, below the run's;
 * opt is then ignored apart from its size.
 *
 * 0, or -EINVAL (a field of opt; QUIRE_FAULT_SIGNAL: SIGBUS is blocked), -EPERM or
 * -ENOSYS (userfaultfd is refused or missing: quire_why() names the command that
 * enables it), -ENOENT, -ENOTDIR,
 * -EACCES, -ENOSPC, -EMEDIUMTYPE (swap directory: missing, no directory, not
 * writable, full, in memory), -EOPNOTSUPP (QUIRE_FAULT_SIGNAL: not on this kernel, or
 * not with this pager), -ENOSPC (16 trees are in that mode), -ENOMEM.
 * Does a few system calls, does not wait.
 */
int QUIRE_MUST_CHECK quire_open(const struct quire_options *opt, struct quire **ret_quire);

/*
 * quire_start - start paging now (QUIRE_OPEN_START, later).
 *
 * Idempotent.  Errors as quire_open().  Starts threads that the C library does
 * not know of, and brings every mapped range under management.
 */
int QUIRE_MUST_CHECK quire_start(struct quire *q);

/*
 * quire_close - end it: all groups, heaps and mapped regions are gone.
 *
 * So is adopted memory: quire_release() it first to keep it.  No other call for
 * q, no callback of q and no access to its memory may be going on.  NULL is fine.
 * Under `quire run` only forgets q.  May wait, for I/O that is under way.
 */
void quire_close(struct quire *q);

/*
 * quire_why - one sentence on why the last call of this thread failed.
 *
 * Cause and hint, no newline: "memory.max: \"64MB\" is not a size (write 64M)".
 * "" if none failed yet.  Valid until the thread's next failing call.  Texts of
 * the latest 64 threads with errors are kept.  Signal safe.
 */
const char *quire_why(void);

/*
 * quire_strerror - what an error value of this library means, in a few words.
 *
 * error: a return value, negative or positive.  Never NULL.  Constant text, no
 * locale.  Signal safe.
 */
const char *quire_strerror(int error);

/* quire_version - QUIRE_VERSION of the library that runs.  Signal safe. */
const char *quire_version(void);

#ifdef __cplusplus
}
#endif

#endif
