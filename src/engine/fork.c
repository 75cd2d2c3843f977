/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork.c - exact fork: the kernel's copy-on-write is the snapshot.
 *
 * Metadata and the compressed pool are private memory, so the child has them as
 * they were.  What must hold at that moment: no page between region and frame,
 * no pte owned by a transfer.  Hence two gates, closed in this order by the
 * request thread while the forking thread runs engine_fork_prepare():
 *
 *   1. reclaim: nothing leaves any more; faults are still served.  The forking
 *      thread touches what it and libc's fork will use until the child's handler
 *      runs: its stack, and whatever fork_touch() names (stdio's FILEs).
 *   2. faults: nothing comes in.  Managed ranges lose MADV_DONTFORK, except where
 *      the program itself asked for it.
 *
 * Parent: undo, open.  Child, before any other handler: our threads and
 * descriptors do not exist here; new ones are made, ranges registered again.  Its
 * gates stay closed until it settles: with its first fault or request, or after 20 ms,
 * it is charged for what it has.  A child that calls exec(2) first has cost nothing.
 * Descriptors the child needs (/dev/userfaultfd, the parent's store file) come
 * through a socket pair, since the program's table has none of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "engine/internal.h"

#include "base/os.h"

#define STACK_BELOW (64 * KIB)
#define STACK_ABOVE (16 * KIB)
/* Around the thread pointer: static TLS below, struct pthread above. */
#define TCB_BELOW (4 * KIB)
#define TCB_ABOVE (4 * KIB)
/* dev_fd, then the store's files, then its liveness pipes */
#define NR_PASSED (1 + 2 * STORE_MAX_FILES)
/* A page that nobody can read, though it is managed: not for ever. */
#define TOUCH_TRIES 16u

static_assert(NR_PASSED == ARRAY_SIZE(((struct engine *)0)->fork_fd), "one array");

/* ---- descriptors across the table boundary ------------------------------------ */

union passed_fds {
	char space[CMSG_SPACE(NR_PASSED * sizeof(int))];
	struct cmsghdr align;
};

/* The message: which of the NR_PASSED are there; those follow as SCM_RIGHTS. */
struct passed {
	char there[NR_PASSED];
	union passed_fds control;
	struct iovec iov;
	struct msghdr msg;
};

static void fill_header(struct passed *p)
{
	memset(p, 0, sizeof(*p));
	p->iov.iov_base = p->there;
	p->iov.iov_len = sizeof(p->there);
	p->msg.msg_iov = &p->iov;
	p->msg.msg_iovlen = 1;
	p->msg.msg_control = p->control.space;
	p->msg.msg_controllen = sizeof(p->control.space);
}

/* Request thread: fds[] through the program's descriptor `to`. */
static s64 send_fds(int to, const int *fds)
{
	int sock = os_program_fd(to);
	struct cmsghdr *cm;
	struct passed p;
	u32 nr = 0;
	long n;

	if (sock < 0)
		return sock;
	fill_header(&p);
	cm = CMSG_FIRSTHDR(&p.msg);
	for (u32 i = 0; i < NR_PASSED; i++) {
		if (fds[i] < 0)
			continue;
		p.there[i] = 1;
		((int *)CMSG_DATA(cm))[nr++] = fds[i];
	}
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(nr * sizeof(int));
	p.msg.msg_controllen = nr ? CMSG_SPACE(nr * sizeof(int)) : 0;
	n = os_syscall(SYS_sendmsg, sock, &p.msg, 0);
	os_close(sock);
	return n < 0 ? n : 0;
}

/* Forking thread: what send_fds() sent. */
static int receive_fds(int from, int *fds)
{
	struct cmsghdr *cm;
	struct passed p;
	u32 nr = 0, nr_got = 0;
	long n;

	for (u32 i = 0; i < NR_PASSED; i++)
		fds[i] = -1;
	fill_header(&p);
	n = os_syscall(SYS_recvmsg, from, &p.msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n <= 0)
		return n ? (int)n : -EIO;
	cm = CMSG_FIRSTHDR(&p.msg);
	/* A full table takes the first of them only. */
	if (cm && cm->cmsg_type == SCM_RIGHTS)
		nr_got = (u32)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (u32 i = 0; i < NR_PASSED; i++) {
		if (!p.there[i])
			continue;
		if (nr == nr_got)
			return -EMFILE;
		fds[i] = ((int *)CMSG_DATA(cm))[nr++];
	}
	return 0;
}

/* ---- prepare ------------------------------------------------------------------- */

static void set_forkable(struct engine *e, bool forkable)
{
	struct region r;

	for (u64 at = 0; region_next(&e->mm.regions, at, &r); at = r.end)
		if (!(r.flags & REGION_USER_DONTFORK))
			os_madvise((void *)r.start, r.end - r.start,
				   forkable ? MADV_DOFORK : MADV_DONTFORK);
}

s64 fork_freeze_faults(struct engine *e, struct request *rq)
{
	struct store_fork files;
	int fds[NR_PASSED];
	int err = 0;

	gate_close(&e->fault_gate);
	set_forkable(e, true);
	for (u32 i = 0; i < STORE_MAX_FILES; i++)
		files.fd[i] = files.alive[i] = -1;
	if (zswap_backing(&e->zswap))
		err = store_fork_prepare(zswap_backing(&e->zswap), &files);
	e->fork_store_err = err;
	e->fork_shares_store = false;
	for (u32 i = 0; i < STORE_MAX_FILES; i++)
		e->fork_shares_store |= files.fd[i] >= 0;
	/* The parent lives on; a child without these ends with a reason instead. */
	e->fork_tree_err = memcg_tree_fork_prepare(e->tree, atomic32_load(&e->fault.forker));
	fds[0] = e->mm.pager.dev_fd;
	memcpy(fds + 1, files.fd, sizeof(files.fd));
	memcpy(fds + 1 + STORE_MAX_FILES, files.alive, sizeof(files.alive));
	return (int)rq->arg[0] < 0 ? 0 : send_fds((int)rq->arg[0], fds);
}

s64 fork_thaw(struct engine *e)
{
	if (zswap_backing(&e->zswap) && !e->fork_store_err)
		store_fork_parent(zswap_backing(&e->zswap));
	memcg_tree_fork_parent(e->tree);
	set_forkable(e, false);
	atomic32_store(&e->frozen, 0);
	gate_open(&e->fault_gate);
	gate_open(&e->reclaim_gate);
	return 0;
}

/*
 * Bring in what is managed of [from, to).  The kernel reads for us: a guard page is
 * an error there and no signal, and nothing leaves while the reclaim gate is closed.
 */
static void touch_page(struct engine *e, u64 a)
{
	char byte;
	struct iovec local = { &byte, 1 }, remote = { (void *)a, 1 };

	/* Signal mode: the kernel does not wait, it says EFAULT. */
	for (u32 n = 0; n < TOUCH_TRIES; n++) {
		long got = os_syscall6(SYS_process_vm_readv, os_getpid(), (long)&local, 1,
				       (long)&remote, 1, 0);

		if (got != -EFAULT || !engine_fault(e, a, false, false, UINT64_MAX))
			return;
	}
}

static void touch(struct engine *e, u64 from, u64 to)
{
	struct region r;

	from = align_down(from, PAGE_SIZE);
	for (u64 a = from; a < to; a += PAGE_SIZE)
		if (region_find(&e->mm.regions, a, &r))
			touch_page(e, a);
}

/*
 * The stack in use, and the thread's own descriptor, which libc's fork writes to in
 * the child: on a stack that the program made both may be managed.
 */
static void touch_stack(struct engine *e, u64 child_stack)
{
	u64 sp = (u64)__builtin_frame_address(0), tp;

	__asm__("mov %%fs:0, %0" : "=r"(tp));
	touch(e, sp > STACK_BELOW ? sp - STACK_BELOW : 0, sp + STACK_ABOVE);
	touch(e, tp - TCB_BELOW, tp + TCB_ABOVE);
	touch(e, child_stack > STACK_BELOW ? child_stack - STACK_BELOW : 0, child_stack);
}

/*
 * A fork needs a few descriptor numbers of the program's table for a moment.  Where
 * it is full, its limit is stretched as far as we may; who opens files meanwhile in
 * another thread may get one more than allowed.
 */
static bool stretch_fd_limit(struct rlimit64 *ret_old)
{
	struct rlimit64 more;

	if (os_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)ret_old, 0, 0))
		return false;
	more = *ret_old;
	more.rlim_cur += 2 + NR_PASSED;
	if (more.rlim_cur > more.rlim_max)
		more.rlim_max = more.rlim_cur; /* root only */
	if (!os_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&more, 0, 0, 0))
		return true;
	more.rlim_cur = more.rlim_max = ret_old->rlim_max;
	return more.rlim_cur > ret_old->rlim_cur &&
	       !os_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&more, 0, 0, 0);
}

static void restore_fd_limit(const struct rlimit64 *old)
{
	os_syscall6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)old, 0, 0, 0);
}

/* Are so many numbers free in the program's table? */
static bool has_fds(u32 nr)
{
	int fd[2 + NR_PASSED];
	u32 got = 0;

	while (got < nr && (fd[got] = os_eventfd(0, O_CLOEXEC)) >= 0)
		got++;
	for (u32 i = 0; i < got; i++)
		os_close(fd[i]);
	return got == nr;
}

/* Another thread may take them before the fork does: then fork_failed() has its reason. */
int engine_fork_check(struct engine *e)
{
	struct rlimit64 old;
	struct store *store;
	bool stretched, can;
	u64 mask = 0;

	if (!memcg_tree_fork_room(e->tree))
		return -EAGAIN;
	/* Two processes may fill what one could: where that is too much, both page. */
	if (engine_could_exceed(e, 2 * atomic64_peek(&e->mm.regions.bytes)))
		(void)!engine_start(e);
	if (!engine_running(e))
		return 0;
	store = zswap_backing(&e->zswap);
	/* Without one a child finds all it needs by itself. */
	if (!store)
		return 0;
	/* A handler that jumped away would leave the limit and the numbers as they are. */
	os_sigprocmask_async(&mask);
	stretched = stretch_fd_limit(&old);
	can = has_fds(min_of(2 + 1 + store_fork_fds(store), (u32)(2 + NR_PASSED)));
	if (stretched)
		restore_fd_limit(&old);
	os_sigprocmask_set(&mask);
	return can ? 0 : -EAGAIN;
}

/* Freeze faults and fetch what the child needs; pair: a socket to fetch it by. */
static int freeze_and_fetch(struct engine *e, const int *pair)
{
	u64 arg = (u64)pair[0];
	s64 err = request_call(e, REQ_FREEZE_FAULTS, &arg, 1, NULL);
	int got = pair[0] < 0 ? -EMFILE : receive_fds(pair[1], e->fork_fd);

	return err ? (int)err : got;
}

static void prepare_running(struct engine *e, u64 child_stack)
{
	struct rlimit64 old;
	int pair[2] = { -1, -1 };
	bool stretched;
	int err;

	atomic32_store(&e->fault.forker, (u32)os_gettid());
	touch_stack(e, child_stack);
	if (e->fork_touch)
		e->fork_touch(e->fork_touch_ctx);
	stretched = stretch_fd_limit(&old);
	if (os_syscall6(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, (long)pair, 0, 0))
		pair[0] = pair[1] = -1;
	for (u32 i = 0; i < NR_PASSED; i++)
		e->fork_fd[i] = -1;
	err = freeze_and_fetch(e, pair);
	/* /dev/userfaultfd the child can try to open again, the store's files it cannot:
	 * then it says so and ends. */
	e->fork_fd_err = e->fork_shares_store ? err : 0;
	for (u32 i = 0; i < 2; i++)
		if (pair[i] >= 0)
			os_close(pair[i]);
	if (stretched)
		restore_fd_limit(&old);
}

/* True with the passive lock held; false: the engine runs. */
static bool hold_passive(struct engine *e)
{
	for (;;) {
		if (engine_running(e))
			return false;
		engine_passive_enter(e);
		switch (atomic32_load(&e->state)) {
		case ENGINE_PASSIVE:
		case ENGINE_FAILED:
			return true;
		default:
			break;
		}
		engine_passive_leave(e);
		futex_wait(&e->state, ENGINE_STARTING, SYNC_FOREVER, false);
	}
}

void engine_fork_prepare(struct engine *e, u64 child_stack)
{
	/* Here, not with all gates closed: other threads go on meanwhile. */
	memcg_tree_fork_wait(e->tree);
	if (hold_passive(e)) {
		e->fork_tree_err = memcg_tree_fork_prepare(e->tree, (u32)os_gettid());
		set_forkable(e, true);
		return;
	}
	request_call(e, REQ_FREEZE_RECLAIM, NULL, 0, NULL);
	prepare_running(e, child_stack);
}

static void close_passed(struct engine *e)
{
	for (u32 i = 0; i < NR_PASSED; i++) {
		if (e->fork_fd[i] >= 0)
			os_close(e->fork_fd[i]);
		e->fork_fd[i] = -1;
	}
}

void engine_fork_parent(struct engine *e)
{
	e->forked = true;
	e->shared_next_ns = 0;
	if (!engine_running(e)) {
		memcg_tree_fork_parent(e->tree);
		set_forkable(e, false);
		engine_passive_leave(e);
		return;
	}
	close_passed(e);
	atomic32_store(&e->fault.forker, 0);
	request_call(e, REQ_THAW, NULL, 0, NULL);
}

void engine_fork_failed(struct engine *e)
{
	u64 tid = (u64)os_gettid();

	if (!engine_running(e)) {
		engine_passive_enter(e);
		memcg_tree_fork_failed(e->tree, (u32)tid);
		engine_passive_leave(e);
		return;
	}
	request_call(e, REQ_FORK_FAILED, &tid, 1, NULL);
}

/* ---- child ----------------------------------------------------------------------- */

/* Everything of the parent's that lives in memory but not in this process. */
static void forget_parent(struct engine *e)
{
	thread_forget(&e->request_task.thread);
	thread_forget(&e->kswapd_task.thread);
	thread_forget(&e->writeback_task.thread);
	thread_forget(&e->ticker_task.thread);
	for (u32 q = 0; q < e->nr_fault_threads; q++) {
		thread_forget(&e->fault_thread[q].task.thread);
		atomic64_poke(&e->fault_thread[q].busy_since, 0);
		atomic32_poke(&e->fault_thread[q].last_tid, 0);
	}
	for (u32 i = 0; i < NR_REQUESTS; i++)
		atomic32_poke(&e->request[i].state, REQUEST_FREE);
	for (u32 i = 0; i < NR_CALLBACKS; i++)
		atomic32_poke(&e->callback[i].state, REQUEST_FREE);
	event_init(&e->request_event);
	event_init(&e->reclaim.trim);
	event_init(&e->callback_event);
	atomic32_poke(&e->fault.forker, 0);
	atomic32_poke(&e->fault.hold_wake, 0);
	/* Faults that waited belong to threads that do not exist here. */
	fault_forget_waiting(&e->fault);
	fault_self_forget(&e->fault);
	pager_signal_forget(&e->mm.pager);
	e->mm.pager.ops->close(&e->mm.pager);
}

/* The program's descriptors go, the ones that were passed stay. */
static int keep_passed(struct engine *e)
{
	int keep[NR_PASSED + 1];

	memcpy(keep, e->fork_fd, sizeof(e->fork_fd));
	keep[NR_PASSED] = e->mm.pager.signal.fd;
	return engine_private_table(keep, ARRAY_SIZE(keep));
}

static void restart_store(struct engine *e)
{
	struct store_fork files;

	if (!zswap_backing(&e->zswap))
		return;
	memcpy(files.fd, e->fork_fd + 1, sizeof(files.fd));
	memcpy(files.alive, e->fork_fd + 1 + STORE_MAX_FILES, sizeof(files.alive));
	store_fork_child(zswap_backing(&e->zswap), &files);
}

s64 fork_child_restart(struct engine *e)
{
	struct region r;
	int err = e->fork_store_err ? e->fork_store_err : e->fork_fd_err;

	if (!err)
		err = keep_passed(e);
	if (!err)
		err = e->mm.pager.ops->open(&e->mm.pager, e->nr_fault_threads, e->fork_fd[0]);
	if (!err)
		err = frames_register(&e->mm.frames);
	if (err)
		return err;
	e->statm_fd = os_open("/proc/self/statm", O_RDONLY | O_CLOEXEC, 0);
	restart_store(e);
	for (u64 at = 0; !err && region_next(&e->mm.regions, at, &r); at = r.end) {
		if (r.flags & REGION_USER_DONTFORK)
			continue; /* the program's wish: not here */
		err = e->mm.pager.ops->add_range(&e->mm.pager, r.queue, r.start, r.end - r.start);
		/* libc's fork wrote to memory of other threads before us. */
		if (!err)
			err = adopt_forked(&e->fault, &e->request_task, &r);
	}
	if (!err)
		err = engine_start_threads(e);
	set_forkable(e, false);
	e->unsettled = true;
	return err;
}

/* mlock(2) is not inherited. */
static void drop_locks(struct engine *e)
{
	if (region_set_flags(&e->mm.regions, 0, UINT64_MAX, 0, REGION_LOCKED))
		engine_fatal(e, "quire: fork: no room in the region table\n");
	aspace_tell_locked(e);
}

/* Ranges the program wanted kept from children are not mapped here. */
static void drop_unforked(struct engine *e)
{
	struct region r;

	for (u64 at = 0; region_next(&e->mm.regions, at, &r);) {
		at = r.end;
		if (!(r.flags & REGION_USER_DONTFORK))
			continue;
		zap_begin(&e->fault, r.start, r.end);
		zap_forget(&e->fault, &e->request_task, r.start, r.end, false);
		if (region_cut(&e->mm.regions, r.start, r.end))
			engine_fatal(e, "quire: fork: no room in the region table\n");
		zap_finish(&e->fault, r.start, r.end);
	}
}

void fork_settle(struct engine *e)
{
	memcg_tree_fork_settle(e->tree, e->home_objcg);
	drop_unforked(e);
	e->unsettled = false;
	atomic32_store(&e->frozen, 0);
	gate_open(&e->fault_gate);
	gate_open(&e->reclaim_gate);
	/* The group may be above its limit now. */
	kswapd_wake(&e->reclaim);
}

_Noreturn static void fork_failed(struct engine *e)
{
	const char *why = "quire: fork: the child cannot start its engine\n";

	if (e->fork_store_err == -EMFILE)
		why = "quire: fork: too many living children share the store\n";
	else if (e->fork_fd_err)
		why = "quire: fork: no free descriptor numbers to give the child its swap file: "
		      "raise RLIMIT_NOFILE (ulimit -n)\n";
	engine_fatal(e, why);
}

static void enter_tree(struct engine *e)
{
	int err = memcg_tree_fork_child(e->tree);

	if (e->fork_tree_err == -EUSERS)
		os_abort("quire: fork: the tree has no room for one more process: end some\n");
	if (e->fork_tree_err)
		os_abort("quire: fork: no memory for one more process in the tree\n");
	if (err)
		os_abort("quire: fork: the process was given up before it ran\n");
	e->reclaim.wake = member_doorbell(e->tree);
}

/* Ours is the parent's: what is put there goes into its memory. */
static bool reopen_signal(struct engine *e)
{
	struct pager *p = &e->mm.pager;

	if (!p->signal.on)
		return true;
	pager_signal_close(p);
	engine_forget_here(e);
	return !pager_signal_open(p, e->fork_fd[0]);
}

void engine_fork_child(struct engine *e)
{
	e->forked = true;
	e->shared_next_ns = 0;
	enter_tree(e);
	drop_locks(e);
	if (!engine_running(e)) {
		memcg_tree_fork_settle(e->tree, e->home_objcg);
		set_forkable(e, false);
		engine_passive_leave(e);
		return;
	}
	forget_parent(e);
	/* Frozen, gates closed: what comes first makes it settle. */
	if (!reopen_signal(e) || thread_start(&e->request_task.thread) ||
	    request_call(e, REQ_CHILD, NULL, 0, NULL))
		fork_failed(e);
	close_passed(e);
}
