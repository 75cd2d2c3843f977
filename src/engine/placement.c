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
 * So on exactly two processors the ticker looks where the thread ran that faulted last,
 * and moves the two threads of the engine.  The program's own are left alone.  With more
 * processors there is an idle one for everybody, with several fault threads no such
 * place.
 */
#include <fcntl.h>
#include <string.h>

#include "base/os.h"
#include "engine/internal.h"

void placement_start(struct engine *e)
{
	e->placement.placed = false;
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

void placement_follow(struct engine *e)
{
	struct placement *p = &e->placement;
	struct fault_thread *ft = &e->fault_thread[0];
	u64 nr_reads = stat_read(&e->mm.pager.nr_fault_reads);
	int tid = (int)atomic32_peek(&ft->last_tid), at, side;

	if (e->nr_fault_threads != 1 || !tid || nr_reads - p->nr_reads < PLACEMENT_FAULTS)
		return;
	p->nr_reads = nr_reads;
	if (is_filtered(p) ||
	    !os_two_cpus(p->cpu)) /* of the ticker: as the program's at its start */
		return;
	at = os_thread_cpu(tid);
	side = at == p->cpu[1];
	if (at != p->cpu[side] || (p->placed && p->side == (u32)side))
		return;
	p->placed = true;
	p->side = (u32)side;
	p->nr_moves++;
	os_thread_pin((int)atomic32_peek(&ft->task.thread.tid), p->cpu[side]);
	os_thread_pin((int)atomic32_peek(&e->kswapd_task.thread.tid), p->cpu[!side]);
}
