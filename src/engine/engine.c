/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - struct engine: made passive, destroyed by tests, shown as text.
 *
 * Owns the order in which the parts are built (each needs the ones before it)
 * and the upward calls of reclaim/.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/internal.h"

#include "base/os.h"

#define MAX_PAGES (1u << 27) /* 512 GiB resident */

/* ---- upcalls of reclaim ----------------------------------------------------------- */

static int open_store_locked(struct engine *e)
{
	struct store_config cfg = {
		.dir = e->store_dir,
		.max_bytes = e->store_max,
		.allow_tmpfs = e->flags & ENGINE_TMPFS_STORE,
	};
	struct member_info *m = member_self(e->tree);
	struct store *store;
	int err;

	/* Already: another thread came first, and its objects are in that one. */
	if (zswap_backing(&e->zswap))
		return 0;
	if (e->flags & ENGINE_NO_STORE)
		return -EOPNOTSUPP;
	err = store_log_open(&cfg, &e->mm.meta, &store);
	if (err) {
		engine_set_why(e, "cannot open the store", err, e->store_dir);
		return err;
	}
	atomic64_store(&e->zswap.store, (u64)store);
	if (m) {
		fmt_str(m->store_dir, sizeof(m->store_dir), "%s", e->store_dir);
		m->store_max = store->max_bytes;
	}
	return 0;
}

/* Reclaim runs on several threads, and each may find that it needs the store. */
static int open_store(void *ctx)
{
	struct engine *e = ctx;
	int err;

	mutex_lock(&e->store_lock);
	err = open_store_locked(e);
	mutex_unlock(&e->store_lock);
	return err;
}

static void retry_faults(void *ctx, struct task *t)
{
	struct engine *e = ctx;

	fault_retry_waiting(&e->fault, t);
}

static void force_fault(void *ctx, struct task *t)
{
	fault_force_waiting(&((struct engine *)ctx)->fault, t);
}

static u32 faults_waiting(void *ctx, struct memcg_id id, u64 before_ns)
{
	struct engine *e = ctx;

	return fault_nr_waiting(&e->fault, id, before_ns);
}

/* ---- life ---------------------------------------------------------------------------- */

static void pick_store_dir(struct engine *e, const struct engine_config *cfg)
{
	const char *env = os_env(cfg->envp, "QUIRE_SWAP_DIR");
	const char *cache = os_env(cfg->envp, "XDG_CACHE_HOME");

	if (cfg->store_dir)
		fmt_str(e->store_dir, sizeof(e->store_dir), "%s", cfg->store_dir);
	else if (env && *env)
		fmt_str(e->store_dir, sizeof(e->store_dir), "%s", env);
	else if (cache && *cache)
		fmt_str(e->store_dir, sizeof(e->store_dir), "%s/quire", cache);
	else
		fmt_str(e->store_dir, sizeof(e->store_dir), "/var/tmp");
}

static int init_tree(struct engine *e, const struct engine_config *cfg)
{
	enum memcg_attach how = cfg->flags & ENGINE_NEW_IMAGE ? MEMCG_ATTACH_NEW_IMAGE :
								MEMCG_ATTACH_MORE;
	int err;

	if (cfg->join)
		err = memcg_tree_join(&e->mm.meta, cfg->join, &e->tree);
	else if (cfg->segment_fd >= 0)
		err = memcg_tree_attach(&e->mm.meta, cfg->segment_fd, how, &e->tree);
	else
		err = memcg_tree_create(&e->mm.meta, &e->tree);
	if (err)
		return err;
	group_set_upcalls(e);
	atomic32_poke(&e->home, MEMCG_ROOT.v);
	err = objcg_get(e->tree, MEMCG_ROOT, &e->home_objcg);
	/* Until it starts it pages nothing. */
	if (!err && cfg->flags & ENGINE_LAZY)
		member_set_passive(e->tree, 1);
	return err ? err : member_set_quiet(e->tree, cfg->flags & ENGINE_LAZY);
}

/* For machines with many cores: see bench/lru. */
static void set_slices(struct engine *e, const struct engine_config *cfg)
{
	const char *text = os_env(cfg->envp, "QUIRE_LRU_SLICES");

	if (text && *text > '0' && *text <= (char)('0' + LRU_SLICES_MAX) && !text[1])
		lru_set_slices(&e->lru, (u32)(*text - '0'), LRU_SLICE_SHIFT);
}

static int init_lists(struct engine *e, const struct engine_config *cfg)
{
	int err = region_table_init(&e->mm.regions, &e->mm.meta);

	if (!err)
		err = lru_init(&e->lru, &e->mm, e->tree);
	if (!err)
		set_slices(e, cfg);
	zswap_init(&e->zswap, &e->swap, e->tree, &e->lru, !(e->flags & ENGINE_NO_ZSWAP));
	return err;
}

static void init_reclaim(struct engine *e)
{
	struct reclaim *r = &e->reclaim;

	r->mm = &e->mm;
	r->tree = e->tree;
	r->lru = &e->lru;
	r->swap = &e->swap;
	r->zswap = &e->zswap;
	r->gate = &e->reclaim_gate;
	r->ops = (struct reclaim_ops){
		.open_store = open_store,
		.ask_first = group_ask_first,
		.retry_faults = retry_faults,
		.force_fault = force_fault,
		.faults_waiting = faults_waiting,
		.oom = group_oom,
		.ctx = e,
	};
	r->wake = member_doorbell(e->tree);
	event_init(&r->trim);
}

static int init_buffers(struct engine *e)
{
	size_t batch = WRITEBACK_BATCH * PAGE_SIZE;

	e->request_buf = meta_alloc(&e->mm.meta, batch);
	e->kswapd_buf = meta_alloc(&e->mm.meta, batch);
	e->writeback_buf = meta_alloc(&e->mm.meta, batch);
	/* Touched by the reader of a knob only, one slot mostly. */
	e->request_text = meta_reserve("quire: requests", NR_REQUESTS * REQUEST_TEXT);
	e->fault_buf = meta_alloc(&e->mm.meta, e->nr_fault_threads * FAULT_WINDOW_BYTES);
	return e->request_buf && e->kswapd_buf && e->writeback_buf && e->request_text &&
			       e->fault_buf ?
		       0 :
		       -ENOMEM;
}

int engine_init_paging(struct engine *e)
{
	struct mm *mm = &e->mm;
	int err = page_table_init(&mm->ptes, &mm->meta);

	if (!err)
		err = pages_init(&mm->pages, &mm->meta, MAX_PAGES);
	if (!err)
		err = swap_init(&e->swap, mm, e->tree, &e->lru, &e->zswap.swap_ops);
	if (!err)
		err = init_buffers(e);
	if (!err)
		err = fault_init(&e->fault, mm, &e->reclaim, &e->fault_gate);
	if (!err)
		err = zswap_open_pool(&e->zswap, &mm->meta, POOL_MAX);
	if (err)
		engine_set_why(e, "no memory for tables", err, "raise RLIMIT_AS (ulimit -v)");
	return err;
}

static u32 default_fault_threads(u32 wanted)
{
	u32 cpus = os_nr_cpus();

	if (wanted)
		return min_of(wanted, (u32)PAGER_MAX_QUEUES);
	/* One is enough for two cores: the program needs one, reclaim the rest. */
	return cpus <= 2 ? 1 : min_of(cpus / 4 + 1, (u32)PAGER_MAX_QUEUES);
}

int engine_create(const struct engine_config *cfg, struct engine **ret_engine)
{
	struct engine *e;
	void *mem;
	int err = os_mmap_anon(sizeof(*e), PROT_READ | PROT_WRITE, false, &mem);

	if (err)
		return err;
	e = mem;
	os_name_mapping(mem, sizeof(*e), "quire: engine");
	e->flags = cfg->flags;
	fmt_str(e->pager_name, sizeof(e->pager_name), "%s", cfg->pager ? cfg->pager : "");
	e->store_max = cfg->store_max;
	e->fatal = cfg->fatal;
	e->fatal_ctx = cfg->fatal_ctx;
	memset(e->fork_fd, -1, sizeof(e->fork_fd));
	e->nr_fault_threads = default_fault_threads(cfg->nr_fault_threads);
	pick_store_dir(e, cfg);
	mutex_init(&e->store_lock, "store opening", LOCK_RANK_TREE);
	mutex_init(&e->home_lock, "home", LOCK_RANK_TABLES);
	mutex_init(&e->passive_lock, "passive", LOCK_RANK_PASSIVE);
	gate_init(&e->reclaim_gate);
	gate_init(&e->fault_gate);
	event_init(&e->request_event);
	event_init(&e->callback_event);
	/* A program that fits should not pay for what only paging needs. */
	if (!(e->flags & ENGINE_LAZY))
		err = engine_init_pager(e);
	if (!err && cfg->flags & ENGINE_SIGNAL) {
		e->nr_fault_threads = 1; /* for what a thread cannot do itself */
		err = pager_signal_init(&e->mm.pager);
	}
	if (!err)
		err = init_tree(e, cfg);
	if (!err)
		err = init_lists(e, cfg);
	if (!err)
		init_reclaim(e);
	if (!err && !(e->flags & ENGINE_LAZY))
		err = engine_init_paging(e);
	if (!err && cfg->flags & ENGINE_SIGNAL)
		err = fault_self_init(&e->fault);
	if (err) {
		os_munmap(mem, sizeof(*e));
		return err;
	}
	e->fault.fatal = engine_fatal;
	e->fault.knock = &e->request_event;
	e->fault.fatal_ctx = e;
	*ret_engine = e;
	return 0;
}

bool engine_running(const struct engine *e)
{
	return atomic32_load(&e->state) == ENGINE_RUNNING;
}

bool engine_fault(struct engine *e, u64 addr, bool write, bool is_protected, u64 mask)
{
	u32 flags = (write ? FAULT_WRITE : 0) | (is_protected ? FAULT_WP : 0);

	return e->mm.pager.signal.on && fault_self(&e->fault, addr, flags, mask);
}

const char *engine_why(const struct engine *e)
{
	return e->why;
}

struct memcg_tree *engine_tree(struct engine *e)
{
	return e->tree;
}

int engine_set_home(struct engine *e, struct memcg_id home)
{
	struct objcg_id o;
	int err = member_set_home(e->tree, home);

	if (!err)
		err = objcg_get(e->tree, home, &o);
	if (err)
		return err;
	atomic32_store(&e->home, home.v);
	e->home_objcg = o;
	return 0;
}

struct memcg_id engine_home(const struct engine *e)
{
	return (struct memcg_id){ atomic32_load(&e->home) };
}

struct atomic32 *engine_purge_word(struct engine *e)
{
	return &e->purge;
}

void engine_set_fork_touch(struct engine *e, void (*fn)(void *ctx), void *ctx)
{
	e->fork_touch = fn;
	e->fork_touch_ctx = ctx;
}

void engine_forget_here(struct engine *e)
{
	if (zswap_backing(&e->zswap))
		store_forget_here(zswap_backing(&e->zswap));
}

void engine_destroy(struct engine *e)
{
	size_t batch = WRITEBACK_BATCH * PAGE_SIZE;
	struct region r;

	while (region_next(&e->mm.regions, 0, &r))
		if (engine_munmap(e, (void *)r.start, r.end - r.start))
			break;
	if (engine_running(e)) {
		engine_forget_here(e);
		request_call(e, REQ_CLOSE, NULL, 0, NULL);
		thread_join(&e->request_task.thread);
		pager_signal_close(&e->mm.pager);
	}
	fault_exit(&e->fault);
	meta_free(&e->mm.meta, e->fault_buf, e->nr_fault_threads * FAULT_WINDOW_BYTES);
	meta_free(&e->mm.meta, e->request_buf, batch);
	meta_free(&e->mm.meta, e->kswapd_buf, batch);
	meta_free(&e->mm.meta, e->writeback_buf, batch);
	meta_unreserve(e->request_text, NR_REQUESTS * REQUEST_TEXT);
	zswap_exit(&e->zswap);
	swap_exit(&e->swap);
	lru_exit(&e->lru);
	frames_exit(&e->mm.frames);
	pages_exit(&e->mm.pages);
	page_table_exit(&e->mm.ptes);
	region_table_exit(&e->mm.regions);
	memcg_tree_close(e->tree);
	os_munmap(e, sizeof(*e));
}

/* ---- seeing inside ---------------------------------------------------------------------- */

static void latency_to_text(struct engine *e, struct fmt *out)
{
	static const char *const name[] = { "zero", "soft", "filled", "zswap", "store" };

	for (u32 k = 0; k < ARRAY_SIZE(name); k++) {
		const struct hist *h = &e->fault.latency[k];

		fmt_add(out, "fault %s: %llu p50 %llu p99 %llu p999 %llu max %llu ns\n", name[k],
			(unsigned long long)hist_total(h),
			(unsigned long long)hist_quantile(h, 5000),
			(unsigned long long)hist_quantile(h, 9900),
			(unsigned long long)hist_quantile(h, 9990),
			(unsigned long long)stat_read(&h->max));
	}
}

void engine_to_text(struct engine *e, struct fmt *out)
{
	struct memcg_id id = { 0 };
	struct pager *p = &e->mm.pager;

	fmt_add(out, "engine: %s, pager %s, managed %llu bytes, metadata %llu bytes\n",
		engine_running(e) ? "running" : "passive", p->ops ? p->ops->name : "not chosen",
		(unsigned long long)atomic64_peek(&e->mm.regions.bytes),
		(unsigned long long)stat_read(&e->mm.meta.bytes));
	fmt_add(out,
		"pager: busy %llu pinned %llu refused %llu eagain %llu eexist %llu move_unsaid %llu "
		"frames_lost %llu drop_single %llu protects %u reads %llu sleeps %llu\n",
		(unsigned long long)stat_read(&p->nr_take_busy),
		(unsigned long long)stat_read(&p->nr_take_pinned),
		(unsigned long long)stat_read(&p->nr_take_refused),
		(unsigned long long)stat_read(&p->nr_eagain),
		(unsigned long long)stat_read(&p->nr_eexist),
		(unsigned long long)stat_read(&p->nr_move_unsaid),
		(unsigned long long)stat_read(&e->reclaim.nr_frames_lost),
		(unsigned long long)stat_read(&p->nr_drop_single), atomic32_peek(&p->protects),
		(unsigned long long)stat_read(&p->nr_fault_reads),
		(unsigned long long)stat_read(&p->nr_fault_sleeps));
	fmt_add(out,
		"fault: deferred %llu throttled %llu poisoned %llu io_retry %llu no_io_slot %llu\n",
		(unsigned long long)stat_read(&e->fault.nr_deferred),
		(unsigned long long)stat_read(&e->fault.nr_throttled),
		(unsigned long long)stat_read(&e->fault.nr_poisoned),
		(unsigned long long)stat_read(&e->fault.nr_io_retry),
		(unsigned long long)stat_read(&e->fault.nr_no_io_slot));
	if (p->signal.on)
		fmt_add(out, "signal: faults %llu handed_over %llu no_stack %llu lost_fd %llu\n",
			(unsigned long long)stat_read(&e->fault.nr_self),
			(unsigned long long)stat_read(&e->fault.nr_handed_over),
			(unsigned long long)stat_read(&e->fault.nr_no_stack),
			(unsigned long long)stat_read(&p->signal.nr_lost_fd));
	latency_to_text(e, out);
	reclaim_to_text(&e->reclaim, out);
	zswap_to_text(&e->zswap, out);
	if (zswap_backing(&e->zswap))
		store_to_text(zswap_backing(&e->zswap), out);
	while ((id = memcg_next(e->tree, MEMCG_ROOT, id)).v)
		lruvec_to_text(&e->lru, id, out);
}
