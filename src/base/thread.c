/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - threads and futexes of the product: clone(2) and futex(2).
 *
 * Owns the engine's threads, which libc must not know: a thread that libc has
 * made keeps a process alive whose main() ends by pthread_exit, hangs setuid()
 * when it blocks signals, and costs getc its fast path.  So a thread here is
 * a raw clone(2) on a stack of ours with a TLS block of ours.  Does not own
 * what runs on it, nor the algorithms over futexes (sync.c).
 *
 * Entry points: thread_start(), thread_join(), thread_self(), futex_wait().
 *
 * Such a thread may run quire and the five libc functions that touch no thread
 * data (memcpy and kin), nothing else: its TLS block is zero but for the
 * thread pointer, the stack canary and our one variable.  The dynamic linker's
 * vector in it is NULL, so a stray __tls_get_addr crashes at once.  libc's
 * own words (errno, rseq, robust list) are never looked at: the page above the
 * thread pointer is there so that lazy binding may write its flag.
 *
 * Invariants: every signal is blocked from the first instruction on.  tid is
 * cleared by the kernel when the stack is no longer in use, and only then may
 * it be unmapped.
 *
 * Not compiled in the race explorer (sync_explore.c is); with QUIRE_PTHREADS,
 * that is under sanitizers, threads are libc's.
 *
 * See also: design.md section 3.
 */
#ifndef QUIRE_EXPLORE
#include "base/sync.h"

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/fmt.h"
#include "base/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#ifdef QUIRE_PTHREADS
#include <pthread.h>
#endif

#define THREAD_STACK_BYTES (256 * KIB)
#define THREAD_GUARD_BYTES PAGE_SIZE

/*
 * Which thread is this?  On a thread of libc the words at fs:0x00 and fs:0x10 are
 * equal (both point to its struct pthread); on ours fs:0x10 is the struct thread.
 * So the library has no thread variable: one of initial-exec model would make all
 * of libquire's thread storage static, jemalloc's included, and dlopen(3) fail.
 * Tests attach threads of libc, for which checked builds keep a variable.
 */
#if defined(QUIRE_PTHREADS) || defined(QUIRE_DEBUG)
#define THREAD_ATTACH_WORKS 1
static __thread struct thread *attached __attribute__((tls_model("initial-exec")));
#else
#define THREAD_ATTACH_WORKS 0
#endif

void sync_relax(void)
{
	__builtin_ia32_pause();
}

/* ---- futex --------------------------------------------------------------- */

int futex_wait(struct atomic32 *word, u32 val, u64 timeout_ns, bool shared)
{
	int op = FUTEX_WAIT | (shared ? 0 : FUTEX_PRIVATE_FLAG);
	struct timespec ts = { (time_t)(timeout_ns / NSEC_PER_SEC),
			       (long)(timeout_ns % NSEC_PER_SEC) };
	long res = os_syscall6(SYS_futex, (long)&word->v, op, (long)val,
			       timeout_ns == SYNC_FOREVER ? 0 : (long)&ts, 0, 0);

	return res == -ETIMEDOUT || res == -EINTR ? (int)res : 0;
}

void futex_wake(struct atomic32 *word, u32 nr, bool shared)
{
	int op = FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG);

	(void)os_syscall(SYS_futex, &word->v, op, nr > INT32_MAX ? INT32_MAX : nr);
}

/* ---- what any kind of thread has ------------------------------------------- */

#ifndef QUIRE_PTHREADS
static void *tcb_word(size_t offset)
{
	void *word;

	__asm__ volatile("mov %%fs:(%1), %0" : "=r"(word) : "r"(offset));
	return word;
}
#endif

struct thread *thread_self(void)
{
#ifndef QUIRE_PTHREADS
	void *thread = tcb_word(0x10);

	if (thread != tcb_word(0))
		return thread;
#endif
#if THREAD_ATTACH_WORKS
	return attached;
#else
	return NULL;
#endif
}

#if THREAD_ATTACH_WORKS
void thread_attach(struct thread *t)
{
	quire_assert(!attached);
	atomic32_store(&t->tid, (u32)os_gettid());
	t->nr_held = 0;
	attached = t;
}

void thread_detach(void)
{
	struct thread *t = attached;

	quire_assert(t && t->nr_held == 0);
	attached = NULL;
	atomic32_store(&t->tid, 0);
}
#endif

/* ---- signal mode --------------------------------------------------------------- */

/* thread_switch_stack(fn, arg, top) */
void thread_switch_stack(void (*fn)(void *arg), void *arg, void *top)
	__attribute__((visibility("hidden")));

__asm__(".pushsection .text\n"
	".type thread_switch_stack, @function\n"
	"thread_switch_stack:\n"
	"	.cfi_startproc\n"
	"	push %rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbp, 0\n"
	"	mov %rsp, %rbp\n"
	"	.cfi_def_cfa_register %rbp\n"
	"	mov %rdx, %rsp\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	call *%rax\n"
	"	mov %rbp, %rsp\n"
	"	pop %rbp\n"
	"	.cfi_def_cfa %rsp, 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size thread_switch_stack, . - thread_switch_stack\n"
	".popsection\n");

void thread_call_on(struct thread *t, void *top, void (*fn)(void *arg), void *arg)
{
#if THREAD_ATTACH_WORKS
	bool attach = !attached; /* else a test's thread, which is one already */

	if (attach)
		thread_attach(t);
	thread_switch_stack(fn, arg, top);
	if (attach)
		thread_detach();
#else
	(void)t;
	thread_switch_stack(fn, arg, top);
#endif
}

static void run(struct thread *t)
{
	(void)os_syscall(SYS_prctl, PR_SET_NAME, t->name, 0);
	t->fn(t);
	quire_assert(t->nr_held == 0);
	atomic32_store(&t->exited, 1);
	futex_wake(&t->exited, UINT32_MAX, false);
}

static void wait_exited(struct thread *t)
{
	while (!atomic32_load(&t->exited))
		(void)futex_wait(&t->exited, 0, SYNC_FOREVER, false);
}

#ifndef QUIRE_PTHREADS

/* ---- raw clone ------------------------------------------------------------- */

/*
 * What the ABI and libc keep at the thread pointer; the rest of the page is
 * zero and stands for the part of struct pthread that we do not know.
 */
struct tcb {
	void *self; /* fs:0x00, read by every TLS access */
	void *dtv; /* fs:0x08 */
	void *thread; /* fs:0x10, see thread_self() */
	u64 flags; /* fs:0x18 */
	u64 sysinfo; /* fs:0x20 */
	u64 canary; /* fs:0x28, the stack protector's */
	u64 pointer_guard; /* fs:0x30 */
	char unknown[PAGE_SIZE - 7 * 8];
};
static_assert(sizeof(struct tcb) == PAGE_SIZE, "one page above the thread pointer");

/*
 * clone(2) cannot be called from C: the child returns on an empty stack.
 * thread_clone_raw(flags, stack, &tid, &tid, tls): the stack has fn and its
 * argument on top.  The child never returns; unwinders end at it.
 */
long thread_clone_raw(unsigned long flags, void *stack, u32 *ptid, u32 *ctid, void *tls)
	__attribute__((visibility("hidden")));

__asm__(".pushsection .text\n"
	".type thread_clone_raw, @function\n"
	"thread_clone_raw:\n"
	"	.cfi_startproc\n"
	"	mov %rcx, %r10\n"
	"	mov $56, %eax\n" /* SYS_clone */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	.cfi_undefined rip\n"
	"	xor %ebp, %ebp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size thread_clone_raw, . - thread_clone_raw\n"
	".popsection\n");

static const struct tcb *own_tcb(void)
{
	const struct tcb *tcb;

	__asm__("mov %%fs:0, %0" : "=r"(tcb));
	return tcb;
}

/*
 * Below the thread pointer lie thread variables, at offsets that the loader chose.
 * Engine code reads none but, in checked builds, `attached`.
 */
static size_t tls_bytes(void)
{
#if THREAD_ATTACH_WORKS
	size_t below = (size_t)((const char *)own_tcb() - (const char *)&attached);

	return align_up(below, (size_t)64);
#else
	return 0;
#endif
}

/* Low to high: guard page, stack, thread variables, thread pointer and page. */
static int alloc_stack(struct thread *t)
{
	size_t size = THREAD_GUARD_BYTES + THREAD_STACK_BYTES + align_up(tls_bytes(), PAGE_SIZE) +
		      sizeof(struct tcb);
	char name[64];
	void *base;
	int err = os_mmap_anon(size, PROT_READ | PROT_WRITE, false, &base);

	if (err)
		return err;
	err = os_mprotect(base, THREAD_GUARD_BYTES, PROT_NONE);
	if (err) {
		(void)os_munmap(base, size);
		return err;
	}
	fmt_str(name, sizeof(name), "quire: stack of %s", t->name);
	os_name_mapping(base, size, name);
	t->stack = base;
	t->stack_size = size;
	return 0;
}

static void free_stack(struct thread *t)
{
	if (t->stack)
		(void)os_munmap(t->stack, t->stack_size);
	t->stack = NULL;
	t->stack_size = 0;
}

/* The new thread's thread pointer; its memory may have been used before. */
static struct tcb *make_tls(struct thread *t)
{
	struct tcb *tcb = (struct tcb *)((char *)t->stack + t->stack_size - sizeof(struct tcb));
	const struct tcb *own = own_tcb();
	size_t below = tls_bytes();

	memset((char *)tcb - below, 0, below + sizeof(*tcb));
	tcb->self = tcb;
	tcb->thread = t;
	tcb->canary = own->canary;
	tcb->pointer_guard = own->pointer_guard;
	return tcb;
}

static _Noreturn void clone_main(struct thread *t)
{
	run(t);
	for (;;)
		(void)os_syscall(SYS_exit, 0, 0, 0);
}

static long clone_thread(struct thread *t)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
				    CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
				    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	struct tcb *tcb = make_tls(t);
	void **top = (void **)((char *)tcb - tls_bytes());
	long res;
	u64 mask;

	*--top = t;
	*--top = (void *)clone_main;
	/* The child inherits the mask: it is never open to a signal. */
	res = os_sigprocmask_all(&mask);
	if (res)
		return res;
	res = thread_clone_raw(flags, top, &t->tid.v, &t->tid.v, tcb);
	(void)os_sigprocmask_set(&mask);
	return res;
}

int thread_start(struct thread *t)
{
	bool reuse = t->stack != NULL; /* kept by thread_forget() */
	long res = failpoint("thread_start");

	if (!res && !reuse)
		res = alloc_stack(t);
	if (res)
		return (int)res;
	atomic32_poke(&t->exited, 0);
	t->nr_held = 0;
	res = clone_thread(t);
	if (res < 0) {
		if (!reuse)
			free_stack(t);
		return (int)res;
	}
	return 0;
}

void thread_join(struct thread *t)
{
	u32 tid;

	/* Never started, or forgotten: there is only the stack. */
	if (atomic32_load(&t->tid) || atomic32_load(&t->exited)) {
		wait_exited(t);
		/* The kernel wakes this one, and knows no private futexes here. */
		while ((tid = atomic32_load(&t->tid)) != 0)
			(void)futex_wait(&t->tid, tid, SYNC_FOREVER, true);
	}
	free_stack(t);
}

void thread_forget(struct thread *t)
{
	atomic32_store(&t->tid, 0);
	atomic32_store(&t->exited, 0);
	t->nr_held = 0;
}

#else /* QUIRE_PTHREADS */

/* ---- pthreads, for sanitizers: t->stack holds the pthread_t ------------------ */

static void *pthread_main(void *p)
{
	struct thread *t = p;

	attached = t;
	atomic32_store(&t->tid, (u32)os_gettid());
	run(t);
	atomic32_store(&t->tid, 0);
	return NULL;
}

int thread_start(struct thread *t)
{
	pthread_t handle;
	u64 mask;
	int err = failpoint("thread_start");

	if (err)
		return err;
	atomic32_poke(&t->exited, 0);
	t->nr_held = 0;
	err = os_sigprocmask_all(&mask);
	if (err)
		return err;
	err = -pthread_create(&handle, NULL, pthread_main, t);
	(void)os_sigprocmask_set(&mask);
	if (!err)
		t->stack = (void *)handle;
	return err;
}

void thread_join(struct thread *t)
{
	if (!t->stack)
		return;
	wait_exited(t);
	(void)pthread_join((pthread_t)t->stack, NULL);
	t->stack = NULL;
}

void thread_forget(struct thread *t)
{
	atomic32_store(&t->tid, 0);
	atomic32_store(&t->exited, 0);
	t->stack = NULL;
	t->nr_held = 0;
}

#endif /* QUIRE_PTHREADS */
#endif /* QUIRE_EXPLORE */
