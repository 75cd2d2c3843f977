/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os.c - raw system calls: memory, processes, clock, random, and the way out.
 *
 * Owns the one inline-assembly system call of quire and everything of os.h but
 * the calls on files (os_file.c).  Does not own futexes and clone(2): those are
 * the engine's idea of waiting and of threads (thread.c).
 *
 * Entry points: os_mmap_anon() and its kin, os_now_ns(), os_abort().
 *
 * Invariants: no libc function, no lock, no errno, no mutable static data; all
 * of it may be called from any thread, in a forked child and in a signal
 * handler.  In race-explorer builds time and random numbers are the explorer's,
 * so that a schedule can be replayed.
 *
 * See also: base/failpoint.h (every call that can fail can be made to).
 */
#include "base/os.h"

#include "base/failpoint.h"
#include "base/fmt.h"
#include "base/sync.h"
#include "base/vdso.h"
#ifdef QUIRE_EXPLORE
#include "base/sync_explore.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* sigset_t of the kernel, in bytes. */
#define KERNEL_SIGSET_SIZE 8
#define SA_RESTORER_FLAG 0x04000000ull
/* Enough for 8,192 CPUs, the kernel's own bound on x86-64. */
#define CPU_MASK_WORDS 128
/* fd 2 of the program: where messages go. */
#define STDERR_FD 2

long os_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long res;

	__asm__ volatile("syscall"
			 : "=a"(res)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return res;
}

/* ---- memory ------------------------------------------------------------ */

/*
 * ThreadSanitizer must see mappings come and go, or it takes the next user of an
 * address for the last one's rival: there the calls go through libc.
 */
static long map_memory(void *addr, size_t len, int prot, int flags, int fd, s64 off)
{
#ifdef __SANITIZE_THREAD__
	void *p = mmap(addr, len, prot, flags, fd, off);

	return p == MAP_FAILED ? -errno : (long)p;
#else
	return os_syscall6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
#endif
}

static int unmap_memory(void *addr, size_t len)
{
#ifdef __SANITIZE_THREAD__
	return munmap(addr, len) ? -errno : 0;
#else
	return (int)os_syscall(SYS_munmap, addr, len, 0);
#endif
}

int os_mmap_anon(size_t len, int prot, bool reserve_only, void **ret_addr)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserve_only ? MAP_NORESERVE : 0);
	int err = failpoint("os_mmap_anon");
	long res;

	if (err)
		return err;
	res = map_memory(NULL, len, prot, flags, -1, 0);
	if (res < 0)
		return (int)res;
	/* Nothing to see for who dumps core, and gcore(1) would write it all the same. */
	if (prot == PROT_NONE)
		(void)os_syscall(SYS_madvise, res, len, MADV_DONTDUMP);
	*ret_addr = (void *)res;
	return 0;
}

long os_mmap(void *addr, size_t len, int prot, int flags, int fd, s64 off)
{
	int err = failpoint("os_mmap");

	if (err)
		return err;
	return map_memory(addr, len, prot, flags, fd, off);
}

int os_munmap(void *addr, size_t len)
{
	int err = failpoint("os_munmap");

	if (err)
		return err;
	return unmap_memory(addr, len);
}

long os_mremap(void *old, size_t old_len, size_t new_len, int flags, void *new_addr)
{
	int err = failpoint("os_mremap");

	if (err)
		return err;
	return os_syscall6(SYS_mremap, (long)old, (long)old_len, (long)new_len, flags,
			   (long)new_addr, 0);
}

int os_mprotect(void *addr, size_t len, int prot)
{
	int err = failpoint("os_mprotect");

	if (err)
		return err;
	return (int)os_syscall(SYS_mprotect, addr, len, prot);
}

int os_commit(void *addr, size_t len)
{
	int err = os_mprotect(addr, len, PROT_READ | PROT_WRITE);

	if (!err)
		(void)os_syscall(SYS_madvise, addr, len, MADV_DODUMP);
	return err;
}

int os_madvise(void *addr, size_t len, int advice)
{
	int err = failpoint("os_madvise");

	if (err)
		return err;
	return (int)os_syscall(SYS_madvise, addr, len, advice);
}

void os_name_mapping(void *addr, size_t len, const char *name)
{
	(void)os_syscall6(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)addr, (long)len,
			  (long)name, 0);
}

/* ---- processes --------------------------------------------------------- */

int os_getpid(void)
{
	return (int)os_syscall(SYS_getpid, 0, 0, 0);
}

int os_gettid(void)
{
	return (int)os_syscall(SYS_gettid, 0, 0, 0);
}

u32 os_getuid(void)
{
	return (u32)os_syscall(SYS_getuid, 0, 0, 0);
}

u32 os_geteuid(void)
{
	return (u32)os_syscall(SYS_geteuid, 0, 0, 0);
}

int os_pidfd_open(int pid)
{
	int err = failpoint("os_pidfd_open");

	if (err)
		return err;
	return (int)os_syscall(SYS_pidfd_open, pid, 0, 0);
}

/* No failpoint: messages go this way. */
static int program_fd(int fd)
{
	long pidfd = os_syscall(SYS_pidfd_open, os_getpid(), 0, 0), ours;

	if (pidfd < 0)
		return (int)pidfd;
	ours = os_syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	(void)os_syscall(SYS_close, pidfd, 0, 0);
	return (int)ours;
}

int os_program_fd(int fd)
{
	int err = failpoint("os_program_fd");

	return err ? err : program_fd(fd);
}

int os_unshare(int flags)
{
	int err = failpoint("os_unshare");

	if (err)
		return err;
	return (int)os_syscall(SYS_unshare, flags, 0, 0);
}

int os_kill(int pid, int sig)
{
	int err = failpoint("os_kill");

	if (err)
		return err;
	return (int)os_syscall(SYS_kill, pid, sig, 0);
}

static int block_signals(u64 mask, u64 *ret_old)
{
	u64 old = 0;
	long res = os_syscall6(SYS_rt_sigprocmask, SIG_BLOCK, (long)&mask, (long)&old,
			       KERNEL_SIGSET_SIZE, 0, 0);

	if (res < 0)
		return (int)res;
	*ret_old = old;
	return 0;
}

/* All of them, also the two that glibc keeps for itself. */
int os_sigprocmask_all(u64 *ret_old)
{
	return block_signals(~0ull, ret_old);
}

int os_sigprocmask_async(u64 *ret_old)
{
	return block_signals(~OS_SIGNALS_RAISED, ret_old);
}

int os_sigprocmask_set(const u64 *mask)
{
	return (int)os_syscall6(SYS_rt_sigprocmask, SIG_SETMASK, (long)mask, 0, KERNEL_SIGSET_SIZE,
				0, 0);
}

int os_sigpending(u64 *ret_pending)
{
	return (int)os_syscall(SYS_rt_sigpending, ret_pending, KERNEL_SIGSET_SIZE, 0);
}

/* Where a handler returns to; debuggers know it by its instructions. */
void os_sigreturn(void) __attribute__((visibility("hidden")));
__asm__(".pushsection .text\n"
	".type os_sigreturn, @function\n"
	"	nop\n" /* unwinders look at the byte before a return address */
	"os_sigreturn:\n"
	"	mov $15, %rax\n" /* SYS_rt_sigreturn */
	"	syscall\n"
	".size os_sigreturn, . - os_sigreturn\n"
	".popsection\n");

int os_sigaction(int sig, const struct os_sigaction *act, struct os_sigaction *ret_old)
{
	struct os_sigaction with = { 0 };

	if (act) {
		with = *act;
		/* One that libc has installed brings its own. */
		if (!(with.flags & SA_RESTORER_FLAG)) {
			with.flags |= SA_RESTORER_FLAG;
			with.restorer = (u64)os_sigreturn;
		}
	}
	return (int)os_syscall6(SYS_rt_sigaction, sig, act ? (long)&with : 0, (long)ret_old,
				KERNEL_SIGSET_SIZE, 0, 0);
}

int os_sched_yield(void)
{
#ifdef QUIRE_EXPLORE
	if (sync_explore_running()) {
		sync_relax();
		return 0;
	}
#endif
	return (int)os_syscall(SYS_sched_yield, 0, 0, 0);
}

_Noreturn void os_exit_group(int status)
{
	for (;;)
		(void)os_syscall(SYS_exit_group, status, 0, 0);
}

/* ---- messages, abort ----------------------------------------------------- */

/* An engine thread may have a private table of descriptors in which 2 is closed or,
 * worse, is the store. */
void os_message(const char *msg)
{
	bool borrowed = thread_self() != NULL;
	int fd = borrowed ? program_fd(STDERR_FD) : STDERR_FD;
	size_t len = strlen(msg);

	while (fd >= 0 && len > 0) {
		long res = os_syscall(SYS_write, fd, msg, len);

		if (res == -EINTR)
			continue;
		if (res <= 0)
			break;
		msg += res;
		len -= (size_t)res;
	}
	if (fd >= 0 && borrowed)
		(void)os_syscall(SYS_close, fd, 0, 0);
}

_Noreturn void os_abort(const char *msg)
{
	/* struct sigaction of the kernel: handler, flags, restorer, mask. */
	u64 action[4] = { 0 };
	u64 mask = 1ull << (SIGABRT - 1);

#ifdef QUIRE_EXPLORE
	sync_explore_abort(msg); /* returns only outside of a run */
#endif
	os_message(msg);
	(void)os_syscall6(SYS_rt_sigaction, SIGABRT, (long)action, 0, KERNEL_SIGSET_SIZE, 0, 0);
	(void)os_syscall6(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, 0, KERNEL_SIGSET_SIZE, 0,
			  0);
	(void)os_syscall(SYS_tgkill, os_getpid(), os_gettid(), SIGABRT);
	/* The first process of a pid namespace survives its own signals. */
	os_exit_group(128 + SIGABRT);
}

/* ---- clock, random ----------------------------------------------------- */

u64 os_now_ns(void)
{
	struct timespec ts = { 0, 0 };

#ifdef QUIRE_EXPLORE
	if (sync_explore_running())
		return sync_explore_now();
#endif
	if (vdso_clock_gettime(CLOCK_MONOTONIC, &ts))
		(void)os_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts, 0);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

u64 os_tsc(void)
{
#ifdef QUIRE_EXPLORE
	if (sync_explore_running())
		return sync_explore_now();
#endif
	return __builtin_ia32_rdtsc();
}

void os_sleep_ns(u64 ns)
{
	struct timespec ts;
	u64 until;

#ifdef QUIRE_EXPLORE
	if (sync_explore_running()) {
		sync_relax();
		return;
	}
#endif
	until = os_now_ns() + ns;
	ts.tv_sec = (time_t)(until / NSEC_PER_SEC);
	ts.tv_nsec = (long)(until % NSEC_PER_SEC);
	while (os_syscall6(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&ts, 0, 0,
			   0) == -EINTR)
		;
}

int os_random(void *buf, size_t len)
{
	char *p = buf;
	int err = failpoint("os_random");

	if (err)
		return err;
#ifdef QUIRE_EXPLORE
	if (sync_explore_running()) {
		sync_explore_random(buf, len);
		return 0;
	}
#endif
	while (len > 0) {
		long res = os_syscall(SYS_getrandom, p, len, 0);

		if (res == -EINTR)
			continue;
		if (res < 0)
			return (int)res;
		p += res;
		len -= (size_t)res;
	}
	return 0;
}

/* Words of the calling thread's affinity mask; *ret_nr: processors in it. */
static unsigned affinity(u64 *mask, unsigned *ret_nr)
{
	long bytes = os_syscall(SYS_sched_getaffinity, 0, CPU_MASK_WORDS * sizeof(*mask), mask);
	unsigned words = bytes > 0 ? (unsigned)((size_t)bytes / sizeof(*mask)) : 0;

	*ret_nr = 0;
	for (unsigned i = 0; i < words; i++)
		*ret_nr += (unsigned)__builtin_popcountll(mask[i]);
	return words;
}

unsigned os_nr_cpus(void)
{
	u64 mask[CPU_MASK_WORDS];
	unsigned nr;

	affinity(mask, &nr);
	return nr ? nr : 1;
}

bool os_two_cpus(int cpu[2])
{
	u64 mask[CPU_MASK_WORDS];
	unsigned nr, words = affinity(mask, &nr), found = 0;

	for (unsigned i = 0; i < words && nr == 2; i++)
		for (u64 left = mask[i]; left; left &= left - 1)
			cpu[found++] = (int)(i * 64) + __builtin_ctzll(left);
	return nr == 2;
}

int os_cpu(void)
{
#ifdef QUIRE_EXPLORE
	return -ENOSYS; /* its schedules depend on nothing outside */
#else
	unsigned cpu;
	int err = vdso_getcpu(&cpu);

	return err ? err : (int)cpu;
#endif
}

void os_thread_pin(int tid, int cpu)
{
	u64 mask[CPU_MASK_WORDS] = { 0 };

	if (cpu < 0 || cpu >= (int)(CPU_MASK_WORDS * 64))
		return;
	mask[cpu / 64] = 1ull << (cpu % 64);
	(void)os_syscall(SYS_sched_setaffinity, tid, sizeof(mask), mask);
}

/* ---- environment --------------------------------------------------------- */

const char *os_env(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; envp && *envp; envp++) {
		const char *var = *envp;
		size_t i = 0;

		while (i < len && var[i] == name[i])
			i++;
		if (i == len && var[len] == '=')
			return var + len + 1;
	}
	return NULL;
}
