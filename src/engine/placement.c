/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.c - which of two processors for whom.
 *
 * A thread that faults sleeps until the fault thread has answered: the two need one
 * processor between them, and waking each other there costs least.  kswapd compresses
 * all the time and belongs on the other one.  The scheduler finds that by chance and
 * loses it again: kswapd beside the fault thread, and faults wait (70 instead of 130
 * thousand random reads a second); kswapd beside the program, which is then woken where
 * it ran last, into kswapd's time slice (first touches took 20 us instead of 7).
 *
 * The same holds for who waits for a request (to map memory, make a group, set a limit:
 * 2 us beside each other, 50 to 100 on two processors of a virtual machine).
 *
 * So on exactly two processors the ticker looks where the thread ran that faulted last,
 * and where the last request came from, and moves the threads of the engine.  The
 * program's own are left alone.  With more processors there is an idle one for everybody,
 * with several fault threads no such place.
 */
#include <fcntl.h>
#include <string.h>

#include "base/os.h"
#include "engine/internal.h"

void placement_start(struct engine *e)
{
	e->placement.faults.placed = e->placement.requests.placed = false;
	e->placement.status_fd = os_open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
}

/*
 * A filter that the program has put on all its threads (SECCOMP_FILTER_FLAG_TSYNC) may
 * kill for the system calls below; the ones that the manual asks to allow do without.
 */
static bool is_filtered(const struct placement *p)
{
	static const char key[] = "\nSeccomp:\t";
	char buf[2048];
	long n = p->status_fd < 0 ? -1 : os_pread(p->status_fd, buf, sizeof(buf), 0);

	for (long i = 0; i + (long)sizeof(key) <= n; i++)
		if (!memcmp(buf + i, key, sizeof(key) - 1))
			return buf[i + (long)sizeof(key) - 1] != '0';
	return true;
}

/* Enough was served since the last look, and we may look and move threads. */
static bool is_due(struct placement *p, struct seat *s, u64 nr)
{
	if (nr - s->nr < PLACEMENT_MIN)
		return false;
	s->nr = nr;
	/* The processors of the ticker: as the program's at its start. */
	return !is_filtered(p) && os_two_cpus(p->cpu);
}

/* Thread `near` to processor `at`, `far` (NULL: nobody) to the other one. */
static void place(struct placement *p, struct seat *s, int at, struct thread *near,
		  struct thread *far)
{
	int side = at == p->cpu[1];

	if (at != p->cpu[side] || (s->placed && s->side == (u32)side))
		return;
	s->placed = true;
	s->side = (u32)side;
	p->nr_moves++;
	os_thread_pin((int)atomic32_peek(&near->tid), p->cpu[side]);
	if (far)
		os_thread_pin((int)atomic32_peek(&far->tid), p->cpu[!side]);
}

void placement_follow(struct engine *e)
{
	struct placement *p = &e->placement;
	struct fault_thread *ft = &e->fault_thread[0];
	int tid = (int)atomic32_peek(&ft->last_tid);

	if (e->nr_fault_threads == 1 && tid &&
	    is_due(p, &p->faults, stat_read(&e->mm.pager.nr_fault_reads)))
		place(p, &p->faults, os_thread_cpu(tid), &ft->task.thread, &e->kswapd_task.thread);
	if (is_due(p, &p->requests, stat_read(&e->nr_requests)))
		place(p, &p->requests, (int)atomic32_peek(&e->request_cpu), &e->request_task.thread,
		      NULL);
}
