/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oom.c - out of memory: nothing can leave, and a fault waits.
 *
 * Owns: the policy.  A callback of the group is asked first.  Of the processes of a
 * run the one with most memory is ended, or its whole group (memory.oom.group); a
 * library fails the faults that wait instead.
 * Does not own: when it has come to this (reclaim/kswapd.c, knob/memory.c).
 * Entry point: group_oom().
 * Lock ranks: none held by the caller; takes TREE to close the records of the dead.
 */
#include "engine/internal.h"

#include <errno.h>

#include "base/os.h"
#include "base/probe.h"

#define OOM_WAIT_NS (1000 * NSEC_PER_MSEC)
#define OOM_OTHER_NS (20 * NSEC_PER_MSEC)
/* So many milliseconds a killed process has to end before we look again. */
#define OOM_REAP_TRIES 2000u

/* The callback of the group or of its nearest ancestor that has one. */
static struct callback *oom_callback(struct engine *e, struct memcg_id id)
{
	for (; id.v; id = memcg_parent(e->tree, id))
		for (u32 i = 0; i < NR_CALLBACKS; i++)
			if (e->callback[i].memcg == id.v && e->callback[i].is_oom)
				return &e->callback[i];
	return NULL;
}

/* Say who and why. */
static void say_killed(struct engine *e, struct memcg_id id, int pid, const char *comm)
{
	char text[300], path[128];
	struct fmt p;

	fmt_init(&p, path, sizeof(path));
	memcg_path(e->tree, id, &p);
	fmt_str(text, sizeof(text),
		"quire: out of memory in group %s: process %d (%s) killed: usage %llu KiB, max %llu "
		"KiB, swap %llu KiB: raise --max, or see --swap-max and the store's free space\n",
		path, pid, comm, (unsigned long long)memcg_usage(e->tree, id, COUNTER_MEMORY) << 2,
		(unsigned long long)memcg_limit(e->tree, id, COUNTER_MEMORY) << 2,
		(unsigned long long)memcg_usage(e->tree, id, COUNTER_SWAP) << 2);
	member_last_words(e->tree, pid, "killed: out of memory in %s", path);
	os_message(text);
}

/* cgroup-v2: memory.oom.group: the highest that has it, of the victim's up to `domain`. */
static struct memcg_id oom_group_of(struct engine *e, struct memcg_id home, struct memcg_id domain)
{
	struct memcg_id group = { 0 };

	for (; home.v && home.v != MEMCG_ROOT.v; home = memcg_parent(e->tree, home)) {
		if (memcg_flag(e->tree, home, MEMCG_FLAG_OOM_GROUP))
			group = home;
		if (home.v == domain.v)
			break;
	}
	return group;
}

/* End one process; ourselves if we may not end that one, or if it is ours. */
static void kill_one(struct engine *e, struct memcg_id id, const struct member_info *m)
{
	struct memcg_id home = { m->home };
	int pid = m->pid;

	memcg_count_event(e->tree, home, MEMCG_OOM_KILL);
	say_killed(e, id, pid, m->comm);
	if (!member_kill(e->tree, pid))
		member_kill(e->tree, os_getpid());
}

/* Ourselves last: nobody else would do the rest. */
static void kill_all(struct engine *e, struct memcg_id id, struct memcg_id group)
{
	const struct member_info *m;

	memcg_count_event(e->tree, group, MEMCG_OOM_GROUP_KILL);
	for (u32 n = 0; (m = member_info(e->tree, n)); n++)
		if (member_alive(e->tree, n) && m->pid != os_getpid() && !m->last_words[0] &&
		    memcg_is_descendant(e->tree, (struct memcg_id){ m->home }, group))
			kill_one(e, id, m);
	if (memcg_is_descendant(e->tree, engine_home(e), group))
		kill_one(e, id, member_self(e->tree));
}

/*
 * quire run: the process with most memory goes, ours or another, or its whole group; its
 * charges come back when its record is closed.
 */
static void kill_largest(struct engine *e, struct memcg_id id)
{
	const struct member_info *m = member_largest(e->tree, id);
	struct memcg_id group;

	if (!m)
		m = member_self(e->tree);
	group = oom_group_of(e, (struct memcg_id){ m->home }, id);
	/* One that was killed before takes its time to give back what it had. */
	if (!member_is_ending(e->tree, id)) {
		if (group.v)
			kill_all(e, id, group);
		else
			kill_one(e, id, m);
	}
	for (u32 n = 0; n < OOM_REAP_TRIES && !memcg_margin(e->tree, id); n++) {
		os_sleep_ns(NSEC_PER_MSEC);
		(void)member_reap(e->tree);
	}
}

bool group_oom(void *ctx, struct memcg_id id)
{
	struct engine *e = ctx;
	struct callback *cb = oom_callback(e, id);
	bool processes = e->flags & ENGINE_COUNT_UNMANAGED, helped;

	/* Somebody has ended, and what it had is free. */
	if (member_reap(e->tree) && memcg_margin(e->tree, id))
		return true;
	/* One member at a time: who finds another at it tries again. */
	if (processes && !member_oom_begin(e->tree)) {
		os_sleep_ns(OOM_OTHER_NS);
		return true;
	}
	PROBE_OOM(id.v, memcg_usage(e->tree, id, COUNTER_MEMORY));
	memcg_count_event(e->tree, id, MEMCG_OOM);
	helped = cb && group_call_out(e, cb, 0, OOM_WAIT_NS);
	if (processes && !helped)
		kill_largest(e, id);
	if (processes)
		member_oom_end(e->tree);
	if (processes || helped)
		return true;
	memcg_count_event(e->tree, id, MEMCG_OOM_KILL);
	/* A library does not kill its host: the threads that wait for memory of this
	 * group get SIGBUS, the others live. */
	return fault_poison_waiting(&e->fault, id) > 0;
}
