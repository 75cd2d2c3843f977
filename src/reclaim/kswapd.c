/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kswapd.c - the background thread: every limited group a little below its
 * limit, so that a fault almost never waits.
 *
 * One round per group that is over its watermark: reclaim, let waiting faults
 * try again.  A second thread moves the pool's cold end to the store when the pool
 * takes more than its share, so that reclaim does not wait for the device, and
 * cleans the store.  When nothing more can be paged out and a fault still waits:
 * OOM.
 */
#include "reclaim/reclaim.h"

#include "base/os.h"
#include "memcg/member.h"

#define KSWAPD_BATCH 64u
/* Cleaning: dead bytes that do not matter, and how much at a time. */
#define CLEAN_DEAD_MIN (16 * MIB)
#define CLEAN_STEP (2 * MIB)
#define CLEAN_STEPS 8u
#define KSWAPD_TICK_NS (100 * NSEC_PER_MSEC)
#define REPACK_PER_TICK 128u
/* Before a group counts as out of memory while other members have some: 2 s. */
#define OTHERS_RETRIES 2000u
/* Fruitless rounds until a member takes from its own what others leave that do nothing,
 * being stopped, say. */
#define ROUNDS_TOGETHER 8u
/* Rounds for one group before the others are looked at: two thousand pages. */
#define BALANCE_ROUNDS 32u
/* Pause after a round that brought nothing while a fault waits. */
#define FRUITLESS_NS NSEC_PER_MSEC
/* Among members that are short of memory, one looks for the dead so often. */
#define REAP_NS (20 * NSEC_PER_MSEC)
/* Fruitless rounds, with nobody waiting, until refused pages are tried again: 6 s. */
#define RESCUE_PERIOD 64u
/* Refused pages tried again at a time: batches of SWAP_CLUSTER_MAX, 8 GiB. */
#define RESCUE_ROUNDS 65536u

void kswapd_wake(struct reclaim *r)
{
	event_signal(r->wake);
}

struct memcg_id reclaim_longest_pool(struct reclaim *r, struct memcg_id root)
{
	struct memcg_id id = { 0 }, best = { 0 };
	u32 most = 0;

	while ((id = memcg_next(r->tree, root, id)).v) {
		u32 nr = ilist_peek_nr(&lruvec_of(r->lru, id)->zlru);

		if (nr > most && memcg_zswap_writeback(r->tree, id)) {
			most = nr;
			best = id;
		}
	}
	return best;
}

long reclaim_writeback(struct reclaim *r, struct task *t, struct memcg_id root, u32 nr)
{
	struct memcg_id id = reclaim_longest_pool(r, root);
	int err;

	if (!id.v)
		return 0;
	if (!zswap_backing(r->zswap)) {
		err = r->ops.open_store(r->ops.ctx);
		if (err)
			return err;
	}
	return zswap_writeback(r->zswap, id, nr, t->buf);
}

/*
 * What was refused once may be taken now (no longer locked or pinned), so all of it is
 * tried again before a group counts as out of memory.  That is no progress in itself:
 * nothing is free yet, and a group full of locked memory would never be out of it.
 */
static void rescue_all(struct reclaim *r, struct memcg_id root)
{
	struct memcg_id id = { 0 };

	while ((id = memcg_next(r->tree, root, id)).v)
		for (u32 n = 0; n < RESCUE_ROUNDS; n++)
			if (!reclaim_rescue_unevictable(r, id, SWAP_CLUSTER_MAX))
				break;
}

/* Each of them costs a system call, and most are locked to stay so. */
static bool worth_rescue(struct reclaim *r, struct memcg_id id)
{
	return r->ops.faults_waiting(r->ops.ctx, id, os_now_ns()) ||
	       atomic32_fetch_add(&r->unevictable_scan, 1) % RESCUE_PERIOD == 0;
}

/* Of our own file. */
static u64 live_bytes(const struct store *s)
{
	return stat_read(&s->bytes_live) - stat_read(&s->bytes_inherited);
}

/*
 * Space of dead objects comes back only when a whole segment is dead; random
 * frees leave every segment half empty.  Worth copying what lives when a third of
 * the file is dead, or when the file is near its limit and some of it is; a fifth, as
 * far as segments are packed, when no other space is left.
 */
static bool store_is_sparse(const struct reclaim *r, const struct store *s)
{
	u64 file = stat_read(&s->bytes_file);
	u64 live = live_bytes(s), vain = atomic64_load(&r->clean_vain);
	u64 dead = file - min_of(file, live);

	/* In vain, and since then no more than a segment was freed? */
	if (stat_read(&s->full))
		return dead > file / 5 && (!vain || live + MIB < vain);
	if (dead < CLEAN_DEAD_MIN)
		return false;
	return dead > file / 3 || (s->max_bytes && file > s->max_bytes - s->max_bytes / 8);
}

/*
 * One step, between two chances for fork at the gate.  By one thread at a time: two would
 * share the segments that are kept for it, and each end with half of one.  Space gained,
 * or another thread is at it?  bytes 0: only give free segments beyond a few to the disk.
 */
static bool clean_step(struct reclaim *r, struct store *s, u64 bytes)
{
	struct store_clean_ops ops;
	bool gained = true, full;

	zswap_clean_ops(r->zswap, &ops);
	gate_enter(r->gate);
	if (!atomic32_fetch_or(&r->cleaning, 1)) {
		full = stat_read(&s->full);
		gained = s->ops->clean(s, bytes, &ops) > 0;
		if (bytes && full)
			atomic64_store(&r->clean_vain, gained ? 0 : live_bytes(s));
		atomic32_store(&r->cleaning, 0);
	} else {
		os_sleep_ns(FRUITLESS_NS); /* its time is better spent there */
	}
	gate_leave(r->gate);
	return gained;
}

static void clean_store(struct reclaim *r)
{
	struct store *s = zswap_backing(r->zswap);
	bool gained = true;

	if (!s)
		return;
	for (u32 i = 0; i < CLEAN_STEPS && gained && store_is_sparse(r, s); i++)
		gained = clean_step(r, s, CLEAN_STEP);
	if (!gained || !store_is_sparse(r, s))
		(void)clean_step(r, s, 0);
}

/* Where the store has no room, some is made before a group is out of memory for that. */
static bool make_room_in_store(struct reclaim *r)
{
	struct store *s = zswap_backing(r->zswap);

	return s && stat_read(&s->full) && store_is_sparse(r, s) && clean_step(r, s, CLEAN_STEP);
}

/* One effort for id; pages freed or moved on.  alone: nobody else makes room. */
static u64 one_round(struct reclaim *r, struct task *t, struct memcg_id id, u64 goal, bool alone)
{
	struct scan_control sc = {
		.target = id,
		.nr_to_reclaim = goal,
		.who = RECLAIM_KSWAPD,
		.may_swap = true,
	};
	u64 moved = 0;

	pool_share_adapt(r, id);
	if (pool_is_over(r, id))
		event_signal(&r->trim);
	gate_enter(r->gate);
	reclaim_memcg(r, t, &sc);
	zs_compact_sparse(r->zswap->pool);
	if (!sc.nr_reclaimed && alone) {
		/* Lists are empty or refused: the pool itself is what is left. */
		long n = reclaim_writeback(r, t, id, WRITEBACK_BATCH);

		moved += n > 0 ? (u64)n : 0;
		if (worth_rescue(r, id))
			rescue_all(r, id);
	}
	memcg_drain_stock(r->tree, &t->stock);
	gate_leave(r->gate);
	stat_add(&r->nr_rounds, 1);
	if (!sc.nr_reclaimed && !moved && alone)
		moved += make_room_in_store(r);
	return sc.nr_reclaimed + moved;
}

/*
 * Usage may be above the watermark and below max: that is no emergency, nor is a
 * fault that came after our last effort for it had begun; it may just have met
 * another charge on its way in and out.
 */
static bool is_out_of_memory(struct reclaim *r, struct memcg_id id, u64 since)
{
	return r->ops.faults_waiting(r->ops.ctx, id, since) && !memcg_margin(r->tree, id);
}

/* Bringing one group below its watermark. */
struct effort {
	struct member_share start;
	u64 stolen; /* by all, when it last brought something */
	u32 fruitless, retries;
	bool stuck; /* the others have done nothing */
	bool alone; /* this round is, since they are, or have nothing, or not enough */
};

/*
 * How much of the excess is this member's now: of all that was taken since the effort
 * began and has still to be, as much as it has of what there is.  The others are rung, and
 * do the same.  By rounds, each would give the same, and the smallest all it has.
 */
static u64 own_goal(struct reclaim *r, struct memcg_id id, u64 usage, u64 floor, struct effort *w)
{
	struct member_share now = member_share(r->tree, id);
	u64 mine = now.stolen_mine - min_of(now.stolen_mine, w->start.stolen_mine), all, part;
	u64 max = memcg_limit(r->tree, id, COUNTER_MEMORY), excess = usage - floor;

	if (!w->fruitless)
		w->stolen = now.stolen_all;
	w->retries = MAX_RECLAIM_RETRIES;
	w->alone = now.mine >= now.all;
	if (w->alone)
		return min_of(excess, (u64)KSWAPD_BATCH);
	w->retries = OTHERS_RETRIES;
	member_ring_others(r->tree, id);
	/* Less than that when one of them is gone. */
	all = max_of(now.stolen_all, w->start.stolen_all + mine) - w->start.stolen_all;
	w->stuck |= w->fruitless > ROUNDS_TOGETHER && all == mine;
	w->alone = w->stuck || w->fruitless > MAX_RECLAIM_RETRIES;
	if (w->alone)
		return min_of(excess, (u64)KSWAPD_BATCH);
	part = (excess + all) * now.mine / now.all + 1;
	part -= min_of(part, mine);
	/* What was let in by force goes at once, whoever has it: while each leaves it to the
	 * others, the limit does not hold. */
	if (usage > max)
		part = max_of(part, usage - max);
	return min_of(part, (u64)KSWAPD_BATCH);
}

/*
 * The others reclaim, and their faults take it all; ours come in by force only.  That is
 * too little memory for what they do, but not the end of it: when there is nothing left,
 * all that leaves is what each of them lets in by force.
 */
static bool others_thrash(struct reclaim *r, struct memcg_id id, const struct effort *w)
{
	u64 nr_forced = w->fruitless / MAX_RECLAIM_RETRIES;

	return member_share(r->tree, id).stolen_all > w->stolen + 16 * nr_forced;
}

/* Bring id below its low watermark.  False: not yet, it is used as fast as reclaimed,
 * and faults of other groups wait for us too. */
static bool balance(struct reclaim *r, struct task *t, struct memcg_id id)
{
	struct effort w = { .start = member_share(r->tree, id), .retries = MAX_RECLAIM_RETRIES };
	u64 since = os_now_ns(); /* of the first fruitless round */
	u64 forced = 0, goal, got;
	u32 rounds = 0;

	while (w.fruitless < w.retries && !atomic32_load(&r->stop)) {
		u64 usage = memcg_usage(r->tree, id, COUNTER_MEMORY);
		u64 floor = memcg_wmark_low_pages(r->tree, id);

		if (usage <= floor)
			return true;
		if (rounds == BALANCE_ROUNDS)
			return false;
		if (!w.fruitless)
			r->ops.ask_first(r->ops.ctx, id, (usage - floor) << PAGE_SHIFT);
		goal = own_goal(r, id, usage, floor, &w);
		got = goal ? one_round(r, t, id, goal, w.alone) : 0;
		/* What we let in ourselves is no gain when it leaves again. */
		if (got > forced) {
			forced = 0;
			w.fruitless = 0;
			rounds++;
			since = os_now_ns();
			r->ops.retry_faults(r->ops.ctx, t);
			continue;
		}
		forced -= got;
		stat_add(&r->nr_no_progress, 1);
		w.fruitless++;
		/* The others' faults take what they make room for: one of ours goes first. */
		if (w.retries == OTHERS_RETRIES && w.fruitless % MAX_RECLAIM_RETRIES == 0) {
			(void)member_reap_since(r->tree, REAP_NS);
			r->ops.force_fault(r->ops.ctx, t);
			forced++;
		}
		/* Nothing can leave, and nobody needs it: until the next tick. */
		if (!r->ops.faults_waiting(r->ops.ctx, id, since))
			return true;
		/* What there is to take may be in other threads' hands, or other members'. */
		os_sleep_ns(FRUITLESS_NS);
		if (memcg_margin(r->tree, id))
			r->ops.retry_faults(r->ops.ctx, t);
	}
	r->ops.retry_faults(r->ops.ctx, t);
	if (is_out_of_memory(r, id, since) && !others_thrash(r, id, &w))
		r->ops.oom(r->ops.ctx, id);
	return true;
}

static bool over_watermark(struct reclaim *r, struct memcg_id id)
{
	if (memcg_limit(r->tree, id, COUNTER_MEMORY) == PAGE_COUNTER_MAX)
		return false;
	return memcg_usage(r->tree, id, COUNTER_MEMORY) > memcg_wmark_pages(r->tree, id);
}

/* False: some group needs more. */
static bool balance_all(struct reclaim *r, struct task *t)
{
	struct memcg_id id = { 0 };
	bool done = true;

	while ((id = memcg_next(r->tree, MEMCG_ROOT, id)).v) {
		if (over_watermark(r, id))
			done &= balance(r, t, id);
		else if (pool_is_over(r, id)) /* cgroup-v2: memory.zswap.max */
			event_signal(&r->trim);
	}
	return done;
}

void kswapd_main(struct thread *self)
{
	struct task *t = (struct task *)self;
	struct reclaim *r = self->arg;

	while (!atomic32_load(&r->stop)) {
		u32 seq = event_seq(r->wake);
		bool done = balance_all(r, t);

		r->ops.retry_faults(r->ops.ctx, t);
		if (done)
			event_wait(r->wake, seq, KSWAPD_TICK_NS);
		stat_add(&r->nr_wakes, 1);
	}
}

/* The pool of id back under its share, batch by batch, as far as it goes. */
static void trim_pool(struct reclaim *r, struct task *t, struct memcg_id id)
{
	while (pool_is_over(r, id) && !atomic32_load(&r->stop)) {
		long n;

		gate_enter(r->gate);
		n = reclaim_writeback(r, t, id, WRITEBACK_BATCH);
		gate_leave(r->gate);
		if (n <= 0)
			return;
		kswapd_wake(r); /* faults may wait for exactly this memory */
	}
}

/* What is cold in the pools is made denser, at a price that nobody notices: so much of a
 * tick, 3 % of one processor. */
static void repack_pools(struct reclaim *r)
{
	struct memcg_id id = r->repack_turn;
	u32 nr = memcg_nr_descendants(r->tree, MEMCG_ROOT) + 1, left = REPACK_PER_TICK;
	u64 now = os_now_ns();

	if (now - r->repacked_ns < KSWAPD_TICK_NS)
		return;
	r->repacked_ns = now;
	if (!memcg_online(r->tree, id))
		id.v = 0;
	while (nr-- && left) {
		id = memcg_next(r->tree, MEMCG_ROOT, id);
		if (!id.v) /* around */
			id = memcg_next(r->tree, MEMCG_ROOT, id);
		gate_enter(r->gate);
		left -= zswap_repack(r->zswap, &r->mm->meta, id, left);
		gate_leave(r->gate);
	}
	r->repack_turn = id;
}

void kswapd_writeback_main(struct thread *self)
{
	struct task *t = (struct task *)self;
	struct reclaim *r = self->arg;

	while (!atomic32_load(&r->stop)) {
		u32 seq = event_seq(&r->trim);
		struct memcg_id id = { 0 };

		while ((id = memcg_next(r->tree, MEMCG_ROOT, id)).v)
			trim_pool(r, t, id);
		clean_store(r);
		repack_pools(r);
		event_wait(&r->trim, seq, KSWAPD_TICK_NS);
	}
}
