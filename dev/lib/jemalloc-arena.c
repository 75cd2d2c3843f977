/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jemalloc-arena.c - appended to jemalloc's ctl.c: what is asked at the start of a program.
 *
 * qje_mallctl() begins with the books of all statistics, 40 pages that a program which
 * asks for none would pay for at its first allocation.  They are made, of all arenas
 * there are, when somebody does ask.
 */

/* "experimental.arenas_create_ext"; UINT_MAX: no memory. */
unsigned qje_arena_create(extent_hooks_t *hooks)
{
	arena_config_t config = { hooks, /* metadata_use_hooks */ false };
	unsigned ind;
	tsd_t *tsd;

	/* Starts jemalloc, if nobody has. */
	if (!je_nallocx(1, 0))
		return UINT_MAX;
	tsd = tsd_fetch();
	malloc_mutex_lock(tsd_tsdn(tsd), &ctl_mtx);
	if (ctl_initialized) {
		ind = ctl_arena_init(tsd, &config);
	} else {
		ind = narenas_total_get();
		if (ind >= MALLOCX_ARENA_LIMIT || !arena_init(tsd_tsdn(tsd), ind, &config))
			ind = UINT_MAX;
	}
	malloc_mutex_unlock(tsd_tsdn(tsd), &ctl_mtx);
	return ind;
}

/* "thread.tcache.flush" and "thread.arena". */
void qje_thread_arena(unsigned ind)
{
	tsd_t *tsd = tsd_fetch();
	arena_t *old = arena_choose(tsd, NULL), *arena = arena_get(tsd_tsdn(tsd), ind, false);

	if (tcache_available(tsd))
		tcache_flush(tsd);
	arena_migrate(tsd, old, arena);
	if (tcache_available(tsd))
		tcache_arena_reassociate(tsd_tsdn(tsd), tsd_tcache_slowp_get(tsd),
					 tsd_tcachep_get(tsd), arena);
}
