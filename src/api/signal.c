/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signal.c - signal mode: the handler of SIGBUS.
 *
 * Owns the handler and what it passes on: every SIGBUS that is not a fault of managed
 * memory, or is one whose bytes are lost, goes to the action that was there before.
 * Does not own the service of a fault (fault/self.c).
 *
 * The engines are static, as the list of open.c: a handler has no argument.  It enters
 * by a count, so that an engine is not destroyed under it.
 *
 * Entry points: signal_add(), signal_del(); on_sigbus().
 * Invariants: all asynchronous signals are blocked while a fault is served, and SIGBUS
 * never is, not for the program's handler either: it may touch managed memory.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "api/api.h"
#include "base/os.h"

/* Trees in signal mode at one time. */
#define NR_ENGINES 16u
#define NR_STRAYS 64u

/* Of x86: the page is there, and it was a store. */
#define ERROR_PRESENT 1u
#define ERROR_WRITE 2u

static struct {
	struct atomic32 busy; /* spin lock of signal_add() and signal_del() */
	u32 nr; /* (busy) */
	struct os_sigaction before; /* changes while no engine is in the table */
	struct {
		struct atomic64 e; /* struct engine *, 0: free */
		struct atomic32 inside; /* handlers that look at it */
	} engine[NR_ENGINES];
	struct atomic64 stray[NR_STRAYS]; /* by thread, see is_stray() */
} handlers;

/* ---- what is not ours -------------------------------------------------------- */

/*
 * Nobody manages the address (any more).  A range that was released or remapped since
 * the fault is no reason to end the program: the first time the access is tried again,
 * and if that faults at once, at the same address, it is the program's SIGBUS.
 */
static bool is_stray(u64 addr)
{
	u64 tid = (u64)os_gettid(), key = (addr & ((1ull << 47) - 1)) | tid << 47;
	struct atomic64 *last = &handlers.stray[tid % NR_STRAYS];

	if (atomic64_load(last) == key) {
		atomic64_store(last, 0);
		return false;
	}
	atomic64_store(last, key);
	return true;
}

/* The default action: the instruction faults again, or a sent signal is sent again. */
static void let_die(int sig, const siginfo_t *si)
{
	struct os_sigaction dfl = { 0 };

	(void)!os_sigaction(sig, &dfl, NULL);
	if (si->si_code <= 0)
		os_syscall(SYS_tgkill, os_getpid(), os_gettid(), sig);
}

static void pass_on(int sig, siginfo_t *si, void *context)
{
	struct os_sigaction act = handlers.before;
	u64 mask = *(const u64 *)&((ucontext_t *)context)->uc_sigmask;
	void (*fn)(int, siginfo_t *, void *) = (void (*)(int, siginfo_t *, void *))act.handler;

	if (act.handler == (u64)SIG_IGN && si->si_code <= 0)
		return;
	if (act.handler == (u64)SIG_DFL || act.handler == (u64)SIG_IGN) {
		let_die(sig, si);
		return;
	}
	if (act.flags & SA_RESETHAND)
		handlers.before = (struct os_sigaction){ 0 };
	mask = (mask | act.mask) & ~OS_SIGNAL_BIT(SIGBUS);
	os_sigprocmask_set(&mask);
	fn(sig, si, context);
}

/* ---- the handler --------------------------------------------------------------- */

static bool serve(u64 addr, u64 error, u64 mask)
{
	bool write = error & ERROR_WRITE, there = error & ERROR_PRESENT, served = false;

	for (u32 i = 0; i < NR_ENGINES && !served; i++) {
		struct engine *e;

		if (!atomic64_peek(&handlers.engine[i].e))
			continue;
		/* Pairs with signal_del(): it sees us, or we see that it has gone. */
		atomic32_fetch_add(&handlers.engine[i].inside, 1);
		e = (struct engine *)(uintptr_t)atomic64_load(&handlers.engine[i].e);
		served = e && engine_fault(e, addr, write, write && there, mask);
		atomic32_fetch_sub(&handlers.engine[i].inside, 1);
	}
	return served;
}

static void on_sigbus(int sig, siginfo_t *si, void *context)
{
	const ucontext_t *uc = context;
	u64 addr = (u64)si->si_addr, mask = *(const u64 *)&uc->uc_sigmask;

	/* BUS_MCEERR_AR is lost memory, ours too; a sent signal has no address. */
	if (si->si_code == BUS_ADRERR &&
	    (serve(addr, (u64)uc->uc_mcontext.gregs[REG_ERR], mask) || is_stray(addr)))
		return;
	pass_on(sig, si, context);
}

/* ---- engines come and go -------------------------------------------------------- */

static void lock(void)
{
	while (atomic32_xchg(&handlers.busy, 1))
		sync_relax();
}

static void unlock(void)
{
	atomic32_store(&handlers.busy, 0);
}

static int install(void)
{
	struct os_sigaction act = {
		.handler = (u64)on_sigbus,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
		.mask = ~OS_SIGNALS_RAISED,
	};

	return os_sigaction(SIGBUS, &act, &handlers.before);
}

/* Unless somebody has come after us, who may pass signals on to us. */
static void uninstall(void)
{
	struct os_sigaction act;

	if (!os_sigaction(SIGBUS, NULL, &act) && act.handler == (u64)on_sigbus)
		(void)!os_sigaction(SIGBUS, &handlers.before, NULL);
}

static int add(struct engine *e)
{
	int err;

	for (u32 i = 0; i < NR_ENGINES; i++) {
		if (atomic64_peek(&handlers.engine[i].e))
			continue;
		err = handlers.nr ? 0 : install();
		if (err)
			return why(err, "no handler for SIGBUS");
		handlers.nr++;
		atomic64_store(&handlers.engine[i].e, (u64)(uintptr_t)e);
		return 0;
	}
	return why(-ENOSPC, "more than %u trees in signal mode", NR_ENGINES);
}

int signal_add(struct engine *e)
{
	u64 mask = 0;
	int err;

	os_sigprocmask_async(&mask);
	os_sigprocmask_set(&mask);
	if (mask & OS_SIGNAL_BIT(SIGBUS))
		return why(-EINVAL, "signal mode: SIGBUS is blocked in this thread");
	lock();
	err = add(e);
	unlock();
	return err;
}

void signal_del(struct engine *e)
{
	lock();
	for (u32 i = 0; i < NR_ENGINES; i++) {
		if (atomic64_load(&handlers.engine[i].e) != (u64)(uintptr_t)e)
			continue;
		atomic64_xchg(&handlers.engine[i].e, 0);
		while (atomic32_load(&handlers.engine[i].inside))
			os_sched_yield();
		if (!--handlers.nr)
			uninstall();
	}
	unlock();
}

void signal_fork_child(void)
{
	atomic32_store(&handlers.busy, 0);
	for (u32 i = 0; i < NR_ENGINES; i++)
		atomic32_store(&handlers.engine[i].inside, 0);
}
