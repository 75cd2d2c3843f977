/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open.c - opening and closing a tree, and what fork(2) does to it.
 *
 * Owns struct quire and the list of open trees.  Does not own the engine's
 * start-up (engine/) nor the fork of the preload's engine (preload/): under
 * `quire run` a tree opened here borrows that engine, and its root is the
 * process's own group.
 *
 * The list exists because pthread_atfork(3) handlers take no argument.  It is
 * pushed to by compare-and-swap and its mutex is taken for removal and by the
 * fork handlers only.
 *
 * Entry points: quire_open(), quire_start(), quire_close().
 * See also: api/host.h, engine/engine.h.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "api/api.h"
#include "api/host.h"
#include "base/os.h"
#include "pager/pager.h"
#include "store/store.h"

#define OPEN_FLAGS                                                                                 \
	(QUIRE_OPEN_START | QUIRE_OPEN_TMPFS | QUIRE_OPEN_NO_STORE | QUIRE_OPEN_NO_ZSWAP |         \
	 QUIRE_FAULT_SIGNAL)

#define QUIRE_BYTES align_up(sizeof(struct quire), PAGE_SIZE)

/* Every open tree with an engine of its own; changed under busy. */
static struct {
	struct atomic32 busy; /* spin lock of short lists, held across fork(2) */
	struct atomic32 handlers; /* pthread_atfork(3) was done */
	struct quire *first;
	bool with_heaps; /* of the fork under way: the allocator was prepared */
	u64 signal_mask; /* of the fork under way: of the forking thread, whose signals wait */
} open_trees;

static void trees_lock(void)
{
	while (atomic32_xchg(&open_trees.busy, 1))
		sync_relax();
}

static void trees_unlock(void)
{
	atomic32_store(&open_trees.busy, 0);
}

/*
 * The allocator first: a thread inside it may be waiting for the engine.  No signal
 * meanwhile: its handler in the child would find memory that is out to be zeros, and
 * what it wrote there would be lost.
 */
static void fork_prepare(void)
{
	bool with_heaps = false;
	u64 mask = 0;

	os_sigprocmask_async(&mask);
	for (struct quire *q = open_trees.first; q; q = q->next)
		with_heaps |= atomic64_load(&q->heaps) != 0;
	if (with_heaps)
		heaps_fork_prepare();
	trees_lock();
	open_trees.with_heaps = with_heaps;
	open_trees.signal_mask = mask;
	for (struct quire *q = open_trees.first; q; q = q->next)
		if (!q->host)
			engine_fork_prepare(q->e, 0);
}

static void fork_parent(void)
{
	bool with_heaps = open_trees.with_heaps;
	u64 mask = open_trees.signal_mask;

	for (struct quire *q = open_trees.first; q; q = q->next)
		if (!q->host)
			engine_fork_parent(q->e);
	trees_unlock();
	if (with_heaps)
		heaps_fork_parent();
	os_sigprocmask_set(&mask);
}

static void fork_child(void)
{
	u64 mask = open_trees.signal_mask;

	signal_fork_child();
	for (struct quire *q = open_trees.first; q; q = q->next)
		if (!q->host)
			engine_fork_child(q->e);
	trees_unlock();
	if (open_trees.with_heaps)
		heaps_fork_child();
	for (struct quire *q = open_trees.first; q; q = q->next) {
		heaps_forget_threads(q);
		event_fork_child(q);
	}
	os_sigprocmask_set(&mask);
}

/* Handlers stay for good: they do nothing while no tree is open. */
static int install_fork_handlers(void)
{
	int err;

	if (!atomic32_cas(&open_trees.handlers, 0, 1))
		return 0;
	err = host_atfork(fork_prepare, fork_parent, fork_child);
	if (err < 0)
		atomic32_store(&open_trees.handlers, 0);
	return err;
}

static void trees_add(struct quire *q)
{
	trees_lock();
	q->next = open_trees.first;
	open_trees.first = q;
	trees_unlock();
}

static void trees_del(struct quire *q)
{
	trees_lock();
	for (struct quire **at = &open_trees.first; *at; at = &(*at)->next) {
		if (*at == q) {
			*at = q->next;
			break;
		}
	}
	trees_unlock();
}

/*
 * The caller's options in our layout: a shorter struct of an older program ends
 * in defaults, a longer one of a newer program must have zeros there.
 */
static int copy_options(const struct quire_options *opt, struct quire_options *ret_opt)
{
	size_t size = sizeof(*ret_opt);
	struct quire_options copy = { 0 };

	if (opt) {
		if (opt->size < offsetof(struct quire_options, swap_dir) || opt->size > PAGE_SIZE)
			return why(-EINVAL, "options: size is not set (use QUIRE_OPTIONS_INIT)");
		for (size_t i = sizeof(copy); i < opt->size; i++)
			if (((const char *)opt)[i])
				return why(-EINVAL, "options: made for a newer libquire than %s",
					   QUIRE_VERSION);
		memcpy(&copy, opt, min_of(opt->size, size));
	}
	if (copy.flags & ~(unsigned int)OPEN_FLAGS)
		return why(-EINVAL, "options: unknown flag 0x%x", copy.flags);
	*ret_opt = copy;
	return 0;
}

/* Refuse now what could only be refused later, at some page fault. */
static int check_system(const struct quire_options *opt)
{
	struct quire_probe probe = { .size = sizeof(probe) };
	unsigned int dir_flags = opt->flags & QUIRE_OPEN_TMPFS ? QUIRE_CHECK_TMPFS : 0;
	int err;

	err = quire_probe(opt->pager, &probe);
	if (err < 0)
		return err;
	if (opt->swap_dir && !(opt->flags & QUIRE_OPEN_NO_STORE))
		return quire_check_swap_dir(opt->swap_dir, dir_flags, NULL);
	return 0;
}

static void fill_config(const struct quire_options *opt, struct engine_config *cfg)
{
	*cfg = (struct engine_config){
		.flags = 0,
		.pager = opt->pager,
		.segment_fd = -1,
		.store_dir = opt->swap_dir,
		.store_max = opt->swap_file_max ? opt->swap_file_max : UINT64_MAX,
		.nr_fault_threads = opt->nr_fault_threads,
		.envp = host_environ(),
		.fatal = opt->fatal,
		.fatal_ctx = opt->fatal_arg,
	};
	if (opt->flags & QUIRE_OPEN_NO_ZSWAP)
		cfg->flags |= ENGINE_NO_ZSWAP;
	if (opt->flags & QUIRE_OPEN_NO_STORE)
		cfg->flags |= ENGINE_NO_STORE;
	if (opt->flags & QUIRE_OPEN_TMPFS)
		cfg->flags |= ENGINE_TMPFS_STORE;
	if (opt->flags & QUIRE_FAULT_SIGNAL)
		cfg->flags |= ENGINE_SIGNAL;
}

static void destroy_engine(struct engine *e)
{
	signal_del(e);
	engine_destroy(e);
}

/* An engine of our own: q->e and q->root. */
static int open_engine(struct quire *q, const struct quire_options *opt)
{
	struct engine_config cfg;
	int err;

	err = check_system(opt);
	if (err < 0)
		return err;
	fill_config(opt, &cfg);
	err = engine_create(&cfg, &q->e);
	if (err == -EOPNOTSUPP)
		return why(err, "no signal mode: it needs userfaultfd with the features SIGBUS and "
				"PAGEFAULT_FLAG_WP (Linux 5.7)");
	if (err < 0)
		return why(err, "cannot make an engine: %s", quire_strerror(err));
	if (opt->flags & QUIRE_FAULT_SIGNAL) {
		err = signal_add(q->e);
		if (err < 0) {
			engine_destroy(q->e);
			return err;
		}
	}
	if (opt->flags & QUIRE_OPEN_START) {
		err = engine_start(q->e);
		if (err < 0) {
			why_engine(q, err, "cannot start paging");
			destroy_engine(q->e);
			return err;
		}
	}
	q->root = MEMCG_ROOT;
	return 0;
}

/* Later quire_root() cannot fail. */
static int open_root(struct quire *q)
{
	struct quire_group *root = group_handle(q, q->root);

	if (!root)
		return why(-ENOMEM, "no memory for handles");
	atomic32_store(&root->state, GROUP_ALIVE);
	return 0;
}

static void free_handles(struct quire *q)
{
	for (u32 i = 0; i < GROUP_CHUNKS; i++) {
		void *chunk = (void *)(uintptr_t)atomic64_load(&q->groups[i]);

		if (chunk)
			os_munmap(chunk, GROUP_CHUNK_BYTES);
	}
	os_munmap(q, QUIRE_BYTES);
}

int quire_open(const struct quire_options *opt, struct quire **ret_quire)
{
	struct quire_options copy = { 0 };
	struct quire *q;
	void *memory;
	int err;

	if (!ret_quire)
		return why(-EINVAL, "quire_open: ret_quire is NULL");
	err = copy_options(opt, &copy);
	if (err < 0)
		return err;
	err = os_mmap_anon(QUIRE_BYTES, PROT_READ | PROT_WRITE, false, &memory);
	if (err < 0)
		return why(err, "no memory for a handle");
	q = memory;
	q->e = host_engine();
	q->host = q->e != NULL;
	if (q->host) {
		err = engine_own_group(q->e, &q->root);
		if (err < 0)
			why(err, "no group for this process: %s", quire_strerror(err));
	} else {
		err = open_engine(q, &copy);
	}
	if (err < 0)
		goto unmap;
	q->tree = engine_tree(q->e);
	q->purge = engine_purge_word(q->e);
	err = open_root(q);
	if (err < 0)
		goto destroy;
	err = install_fork_handlers();
	if (err < 0) {
		why(err, "no fork handlers: %s", quire_strerror(err));
		goto destroy;
	}
	trees_add(q);
	*ret_quire = q;
	return 0;

destroy:
	if (!q->host)
		destroy_engine(q->e);
unmap:
	free_handles(q);
	return err;
}

int quire_start(struct quire *q)
{
	int err = engine_start(q->e);

	return err < 0 ? why_engine(q, err, "cannot start paging") : 0;
}

void quire_close(struct quire *q)
{
	if (!q)
		return;
	heaps_destroy(q);
	trees_del(q);
	/* A borrowed engine goes on serving what was mapped here, so the handles,
	 * which its callbacks may still name, stay too. */
	if (q->host)
		return;
	event_stop_thread(q);
	destroy_engine(q->e);
	free_handles(q);
}
