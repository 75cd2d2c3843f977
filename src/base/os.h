/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os.h - every system call, clock and random number of quire.
 *
 * Raw system calls: code under src/ runs below malloc, so nothing here may
 * take a libc lock, allocate or touch errno.  All functions return a value
 * >= 0 or -errno.  They restart on EINTR where the caller could not do
 * anything else (noted).  Tests replace behaviour through base/failpoint.h:
 * every os_ function below that can fail evaluates the failpoint of its name.
 */
#ifndef QUIRE_BASE_OS_H
#define QUIRE_BASE_OS_H

#include "base/types.h"

struct iovec;
struct pollfd;
struct msghdr;

long os_syscall6(long nr, long a, long b, long c, long d, long e, long f);
#define os_syscall(nr, a, b, c) os_syscall6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)

/* ---- memory: anonymous, private, unmanaged unless said otherwise ------- */
int QUIRE_MUST_CHECK os_mmap_anon(size_t len, int prot, bool reserve_only, void **ret_addr);
long os_mmap(void *addr, size_t len, int prot, int flags, int fd, s64 off);
int os_munmap(void *addr, size_t len);
long os_mremap(void *old, size_t old_len, size_t new_len, int flags, void *new_addr);
int os_mprotect(void *addr, size_t len, int prot);
/* Part of what os_mmap_anon() reserved with PROT_NONE is to be used. */
int QUIRE_MUST_CHECK os_commit(void *addr, size_t len);
int os_madvise(void *addr, size_t len, int advice);
/* Name a mapping in /proc/PID/maps ("quire: pool"); failure is harmless. */
void os_name_mapping(void *addr, size_t len, const char *name);

/* ---- files ------------------------------------------------------------ */
int os_open(const char *path, int flags, int mode);
int os_openat(int dirfd, const char *path, int flags, int mode);
int os_close(int fd);
int os_close_range(unsigned first, unsigned last);
long os_read(int fd, void *buf, size_t len); /* one read(2), EINTR restarted */
long os_write(int fd, const void *buf, size_t len); /* one write(2), EINTR restarted */
long os_pread(int fd, void *buf, size_t len, u64 off); /* until len, EOF or error */
long os_pwrite(int fd, const void *buf, size_t len, u64 off); /* until len or error */
int os_ftruncate(int fd, u64 len);
int os_fallocate(int fd, int mode, u64 off, u64 len);
int os_fadvise(int fd, u64 off, u64 len, int advice);
int os_sync_file_range(int fd, u64 off, u64 len, unsigned flags);
int os_ioctl(int fd, unsigned long req, void *arg);
int os_fcntl(int fd, int cmd, long arg);
/* The same file at a high number, where a program that counts on the lowest free one does
 * not meet it; fd, which is closed otherwise, where there is none. */
int os_fd_high(int fd);
/* Does this file stand at fd (still)? */
bool os_fd_is(int fd, u64 dev, u64 ino);
/* struct stat and struct statfs of the kernel ABI (== glibc's on x86-64). */
int os_fstat(int fd, void *st);
int os_stat(const char *path, void *st);
int os_fstatfs(int fd, void *st);
int os_mkdir(const char *path, int mode);
int os_unlink(const char *path);
int os_memfd_create(const char *name, unsigned flags);
int os_poll(struct pollfd *fds, unsigned nr, int timeout_ms); /* restarted, time counts on */
int os_eventfd(unsigned init, int flags);
/* The first mapping that ends after addr, by a descriptor of /proc/self/maps.  -ENOENT:
 * none.  Quick since Linux 6.11, before that all of the file is read. */
struct os_mapping {
	u64 start, end;
	u32 prot; /* PROT_READ, PROT_WRITE, PROT_EXEC */
	bool shared;
	u64 inode; /* 0: no file's */
};
int QUIRE_MUST_CHECK os_next_mapping(int maps, u64 addr, struct os_mapping *ret_mapping);
/* Whole small file into buf, NUL-terminated; bytes read, -EFBIG or -errno. */
long os_read_file(const char *path, char *buf, size_t size);

/* ---- processes -------------------------------------------------------- */
int os_getpid(void);
int os_gettid(void);
u32 os_getuid(void);
u32 os_geteuid(void);
int os_pidfd_open(int pid);
/* A copy of the program's descriptor, for a thread with a table of its own: the
 * process's is that of its first thread. */
int os_program_fd(int fd);
int os_unshare(int flags);
int os_kill(int pid, int sig);
/*
 * Is the process that had this number at boot_ns (os_boot_ns()) still there?  Not a zombie,
 * not another process by now.  In doubt: yes.  Needs /proc and a free descriptor to be sure.
 */
bool os_process_alive(int pid, u64 boot_ns);
/* By a signal (Ctrl-Z) or a debugger. */
bool os_process_stopped(int pid);
/* Tells the programs that a process is before and after exec(2) apart; 0: cannot tell. */
u64 os_process_image(int pid);
/*
 * Anonymous bytes a process has in memory.  What of it is others', where copy-on-write
 * shares it in equal parts (proc(5): Anonymous less Pss_Anon in smaps_rollup): 0 of a
 * process that may not be looked at.  It walks the page tables: 1 ms for 100 MiB.
 */
u64 os_process_anon(int pid, u64 *ret_others);
/* Has process pid that file in its memory?  1, 0 or -errno: it may not be looked at. */
int os_process_maps(int pid, u64 dev, u64 ino);
u64 os_statm_anon(const char *text, long len); /* the bytes by what /proc/PID/statm says */
int os_sigprocmask_all(u64 *ret_old); /* block everything in this thread */
/* A signal in the kernel's mask; with <signal.h>: those that an instruction raises. */
#define OS_SIGNAL_BIT(sig) (1ull << ((sig)-1))
#define OS_SIGNALS_RAISED                                                                          \
	(OS_SIGNAL_BIT(SIGSEGV) | OS_SIGNAL_BIT(SIGBUS) | OS_SIGNAL_BIT(SIGILL) |                  \
	 OS_SIGNAL_BIT(SIGFPE) | OS_SIGNAL_BIT(SIGTRAP) | OS_SIGNAL_BIT(SIGSYS))
/* Block what may arrive at any moment, not what an instruction of this thread raises. */
int os_sigprocmask_async(u64 *ret_old);
int os_sigprocmask_set(const u64 *mask);
int os_sigpending(u64 *ret_pending); /* of this thread and of the process */
/* As sigaction(2), but of the kernel: without the words that libc keeps beside it. */
struct os_sigaction {
	u64 handler; /* SIG_DFL, SIG_IGN or a function */
	u64 flags;
	u64 restorer; /* filled in by os_sigaction() */
	u64 mask;
};
int QUIRE_MUST_CHECK os_sigaction(int sig, const struct os_sigaction *act,
				  struct os_sigaction *ret_old);
int os_sched_yield(void);
_Noreturn void os_exit_group(int status);
/* Write msg to the process's fd 2, also from a thread whose own table has none. */
void os_message(const char *msg);
/* Write msg to the process's fd 2 and abort by SIGABRT (default action). */
_Noreturn void os_abort(const char *msg);

/* ---- clock, random ---------------------------------------------------- */
u64 os_now_ns(void); /* CLOCK_MONOTONIC, by the vDSO */
u64 os_boot_ns(void); /* CLOCK_BOOTTIME: the clock of processes' start times */
u64 os_tsc(void); /* cheap cycle stamp for spinning; only differences mean anything */
void os_sleep_ns(u64 ns);
int QUIRE_MUST_CHECK os_random(void *buf, size_t len);
unsigned os_nr_cpus(void); /* of the affinity mask */
/* The processors of the affinity mask, if there are exactly two. */
bool os_two_cpus(int cpu[2]);
int os_cpu(void); /* that we are on, by the vDSO; -ENOSYS */
/* A thread of this process: where it ran last (-errno), and where it shall run. */
int os_thread_cpu(int tid);
void os_thread_pin(int tid, int cpu);

/* The environment without getenv: scans the caller's environ; NULL: not there. */
const char *os_env(char *const *envp, const char *name);

#endif
