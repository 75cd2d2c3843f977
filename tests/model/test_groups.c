/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_groups.c - random operations on groups, pages and members against a plain
 * reference; see README.md.
 * time: 300
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/rig.h"
#include "lib/test.h"

#define NR_GROUPS 14u
#define NR_OTHERS 3u
#define NR_CHARGES 12u
#define PAGES 24u
#define SECOND RIG_QUEUE_PAGES /* the last third lies in the second queue */
#define SEQUENCE 400u
#define TOTAL 1000000u
#define CHECK_EVERY 32u
#define NOBODY (-1)

enum op_kind {
	OP_CREATE,
	OP_REMOVE, /* a: group, b: how, or by which other member */
	OP_RELEASE, /* a: who */
	OP_MAP, /* a: first page, b: pages, c: group */
	OP_ASSIGN,
	OP_WRITE, /* a: page, b: content */
	OP_READ,
	OP_ZAP,
	OP_UNMAP, /* a: a page of the group, b: pages */
	OP_PAGEOUT,
	OP_WRITEBACK,
	OP_REFILL,
	OP_CLEAN,
	OP_CHARGE, /* a: member, b: group, c: pages */
	OP_UNCHARGE, /* a: member, b: which */
	OP_DIE, /* a: member */
	OP_LIMIT, /* a: group, b: pages */
	OP_WRONG, /* tests of the test: a: which */
	NR_OPS,
};

struct op {
	u32 kind, a, b, c;
};

/* ---- the reference ------------------------------------------------------------------ */

struct ref_group {
	bool used;
	int parent;
	struct memcg_id id;
	u64 swap_max;
};

/* What a member has charged at once; all of it is given back at once. */
struct ref_charge {
	struct objcg_id o; /* {0}: free */
	int g;
	u32 memory, swap, zswap_bytes;
};

struct ref_member {
	struct memcg_tree *t;
	struct ref_charge charge[NR_CHARGES];
};

static struct {
	struct rig *r;
	struct ref_group g[NR_GROUPS]; /* 0: /p, never removed */
	struct ref_member m[NR_OTHERS];
	int owner[PAGES]; /* group of the range, NOBODY: not managed */
	u32 nr_named;
} ref;

static u32 page_nr(u32 n)
{
	return n < PAGES * 2 / 3 ? n : SECOND + n - PAGES * 2 / 3;
}

static bool is_below(int g, int top)
{
	for (; g != NOBODY; g = ref.g[g].parent)
		if (g == top)
			return true;
	return false;
}

static bool has_child(int g)
{
	for (u32 i = 0; i < NR_GROUPS; i++)
		if (ref.g[i].used && ref.g[i].parent == g)
			return true;
	return false;
}

static bool has_range(int g)
{
	for (u32 i = 0; i < PAGES; i++)
		if (ref.owner[i] == g)
			return true;
	return false;
}

/* What was g's is its parent's. */
static void ref_remove(int g)
{
	int parent = ref.g[g].parent;

	for (u32 i = 0; i < PAGES; i++)
		if (ref.owner[i] == g)
			ref.owner[i] = parent;
	for (u32 n = 0; n < NR_OTHERS * NR_CHARGES; n++) {
		struct ref_charge *c = &ref.m[n / NR_CHARGES].charge[n % NR_CHARGES];

		if (c->g == g)
			c->g = parent;
	}
	ref.g[g].used = false;
}

/* ---- comparing ----------------------------------------------------------------------- */

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "model: line %d: %s\n", __LINE__, #cond);                  \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

struct tally {
	u64 memory, swap; /* pages and slots charged */
	u64 anon, frames, cached; /* gauges */
};

static void count_page(u32 n, struct tally *sum)
{
	struct pte *pte = rig_pte(ref.r, page_nr(n));
	struct engine *e = ref.r->e;
	bool slot = true;

	if (!pte || pte_type(pte) == PTE_NONE)
		return;
	if (pte_type(pte) == PTE_PRESENT) {
		slot = page_at(&e->mm.pages, (struct page_id){ pte_index(pte) })->slot != 0;
		sum->anon++;
		sum->cached += slot;
	} else if (rig_state(ref.r, page_nr(n)) == RIG_FRAME) {
		sum->frames++;
		sum->cached++;
	}
	sum->swap += slot;
}

/* What other members have charged to g and below. */
static void count_others(int g, struct tally *sum)
{
	for (u32 n = 0; n < NR_OTHERS * NR_CHARGES; n++) {
		const struct ref_charge *c = &ref.m[n / NR_CHARGES].charge[n % NR_CHARGES];

		if (c->o.v && is_below(c->g, g)) {
			sum->memory += c->memory;
			sum->swap += c->swap;
		}
	}
}

static void compare_group(int g)
{
	struct memcg_tree *t = ref.r->e->tree;
	struct tally sum = { 0 };
	struct memcg_stats s;
	u64 slots;

	for (u32 n = 0; n < PAGES; n++)
		if (ref.owner[n] != NOBODY && is_below(ref.owner[n], g))
			count_page(n, &sum);
	slots = sum.swap;
	count_others(g, &sum);
	memcg_stats_read(t, ref.g[g].id, &s);
	MUST(memcg_usage(t, ref.g[g].id, COUNTER_SWAP) == sum.swap);
	MUST(memcg_usage(t, ref.g[g].id, COUNTER_MEMORY) ==
	     sum.memory + sum.anon + sum.frames + s.zswap_pages);
	MUST(memcg_zswap_bytes(t, ref.g[g].id) == s.v[MEMCG_STAT_ZSWAP]);
	MUST(s.v[MEMCG_STAT_ANON] == sum.anon);
	MUST(s.v[MEMCG_STAT_FRAMES] == sum.frames);
	MUST(s.v[MEMCG_STAT_SWAPCACHED] == sum.cached);
	MUST(s.v[MEMCG_STAT_ZSWAPPED] + s.v[MEMCG_STAT_FILLED] + s.v[MEMCG_STAT_STORED] +
		     sum.frames ==
	     slots);
}

static void compare_all(bool deep)
{
	struct engine *e = ref.r->e;
	struct tally foreign = { 0 };

	for (u32 t = 0; t < RIG_TASKS; t++)
		rig_drain(ref.r, t);
	rig_drain_task(ref.r, &e->request_task);
	for (u32 g = 0; g < NR_GROUPS; g++)
		if (ref.g[g].used)
			compare_group((int)g);
	if (!deep)
		return;
	count_others(0, &foreign);
	ref.r->foreign_memory = foreign.memory;
	ref.r->foreign_swap = foreign.swap;
	rig_check(ref.r);
	region_check(&e->mm.regions);
}

/* ---- operations: groups ---------------------------------------------------------------- */

static int pick(u32 a)
{
	for (u32 i = 0; i < NR_GROUPS; i++)
		if (ref.g[(a + i) % NR_GROUPS].used)
			return (int)((a + i) % NR_GROUPS);
	return 0;
}

static void op_create(const struct op *op)
{
	int parent = pick(op->a), g = 0;
	struct memcg_tree *t = op->b % 4 ? ref.r->e->tree : ref.m[op->c % NR_OTHERS].t;
	char name[16];
	int err;

	while (g < (int)NR_GROUPS && ref.g[g].used)
		g++;
	if (g == (int)NR_GROUPS)
		return;
	snprintf(name, sizeof(name), "g%u", ref.nr_named++);
	err = memcg_create(t, ref.g[parent].id, name, &ref.g[g].id);
	MUST(!err);
	ref.g[g].used = true;
	ref.g[g].parent = parent;
	ref.g[g].swap_max = UINT64_MAX;
}

static void drop_range(u32 n)
{
	rig_zap(ref.r, 0, page_nr(n), 1);
	ref.owner[n] = NOBODY;
}

static void op_remove(const struct op *op)
{
	struct engine *e = ref.r->e;
	int g = pick(op->a), want = has_child(g) ? -EBUSY : 0;
	enum engine_remove how = (enum engine_remove)(op->b % 3);
	struct memcg_id parent;
	int err;

	if (!g && !want)
		return; /* somebody has to be left */
	if (op->b % 5 == 4) { /* another process: it knows nothing of our ranges */
		err = memcg_remove(ref.m[op->c % NR_OTHERS].t, ref.g[g].id, &parent);
		MUST(err == want);
		if (!err)
			ref_remove(g);
		return;
	}
	if (how == ENGINE_REMOVE_EMPTY && has_range(g))
		want = -EBUSY;
	err = (int)offline_group(e, ref.g[g].id, how);
	MUST(err == want);
	if (err)
		return;
	if (how == ENGINE_REMOVE_DISCARD) {
		e->nr_doomed = 0; /* there is nothing to unmap: as offline_discard_step() */
		for (u32 n = 0; n < PAGES; n++)
			if (ref.owner[n] == g)
				drop_range(n);
	}
	ref_remove(g);
}

static void op_release(const struct op *op)
{
	struct memcg_tree *t = ref.m[op->a % NR_OTHERS].t;
	struct memcg_id id = { 0 };

	if (op->a % (NR_OTHERS + 1) == NR_OTHERS) {
		offline_release(ref.r->e);
		return;
	}
	while ((id = memcg_next_offline(t, id)).v)
		memcg_release(t, id);
}

static void op_limit(const struct op *op)
{
	int g = pick(op->a);

	if (!g)
		return;
	ref.g[g].swap_max = op->b % 3 ? UINT64_MAX : op->b % 8;
	memcg_set_max(ref.r->e->tree, ref.g[g].id, COUNTER_SWAP,
		      ref.g[g].swap_max == UINT64_MAX ? PAGE_COUNTER_MAX : ref.g[g].swap_max);
	memcg_set_protection(ref.r->e->tree, ref.g[g].id, op->c % 4, op->c % 7);
}

/* ---- pages ------------------------------------------------------------------------------- */

static void op_map(const struct op *op)
{
	struct objcg_id o;
	int g = pick(op->c);

	MUST(!lru_objcg(&ref.r->e->lru, ref.g[g].id, &o));
	for (u32 n = op->a % PAGES; n < PAGES && n < op->a % PAGES + op->b % 6 + 1; n++) {
		if (ref.owner[n] != NOBODY)
			continue;
		rig_assign(ref.r, page_nr(n), 1, o);
		ref.owner[n] = g;
	}
}

/* May g take so many slots more from group `from`?  Up to the group above both. */
static bool fits(int g, u32 first, u32 nr)
{
	for (u32 n = first; n < first + nr; n++)
		for (int i = g; i != NOBODY; i = ref.g[i].parent)
			if (ref.g[i].swap_max != UINT64_MAX)
				return false;
	return true;
}

static void op_assign(const struct op *op)
{
	u32 first = op->a % PAGES, nr = 0;
	int g = pick(op->c);
	u64 moved;
	s64 err;

	while (first + nr < PAGES && nr <= op->b % 8 && ref.owner[first + nr] != NOBODY &&
	       page_nr(first + nr) == page_nr(first) + nr)
		nr++;
	if (!nr)
		return;
	err = assign_region(ref.r->e, ref.g[g].id, fake_addr(page_nr(first)), nr * PAGE_SIZE,
			    &moved);
	/* Only where there is a limit on the way up may it be refused. */
	MUST(!err || (err == -ENOSPC && !fits(g, first, nr)));
	MUST(err ? moved < nr * PAGE_SIZE : moved == nr * PAGE_SIZE);
	for (u32 n = first; n < first + moved / PAGE_SIZE; n++)
		ref.owner[n] = g;
}

static void op_touch(const struct op *op, bool write)
{
	u32 n = op->a % PAGES;

	if (ref.owner[n] == NOBODY)
		return;
	if (write)
		rig_write(ref.r, op->c % 2, page_nr(n), RIG_ZERO + op->b % 4, op->c);
	else
		rig_read(ref.r, op->c % 2, page_nr(n));
	if (ref.r->want[page_nr(n)].fill == RIG_ABSENT)
		ref.r->want[page_nr(n)].fill = RIG_ZERO; /* read: it is there now */
}

static void op_zap(const struct op *op)
{
	for (u32 n = op->a % PAGES; n < PAGES && n <= op->a % PAGES + op->b % 4; n++)
		if (ref.owner[n] != NOBODY)
			rig_zap(ref.r, 0, page_nr(n), 1);
}

static void refill(struct reclaim *r, struct memcg_id id, u32 nr)
{
	u64 before = memcg_stat_read(r->tree, id, MEMCG_STAT_PGDEACTIVATE);
	u32 done = lru_refill_inactive(r->lru, id, nr);

	ASSERT_EQ(memcg_stat_read(r->tree, id, MEMCG_STAT_PGDEACTIVATE), before + done);
}

static void op_reclaim(const struct op *op)
{
	struct reclaim *r = &ref.r->e->reclaim;
	struct task *t = &ref.r->task[1 + op->c % 2];
	int g = ref.owner[op->a % PAGES]; /* one that has something */
	struct memcg_id id = ref.g[g == NOBODY ? pick(op->a) : g].id;
	u32 nr = op->b % 6 + 1, freed = 0;

	gate_enter(r->gate);
	if (op->kind == OP_UNMAP)
		reclaim_unmap(r, t, id, nr, &freed);
	else if (op->kind == OP_PAGEOUT)
		reclaim_pageout(r, t, id, nr);
	else if (op->kind == OP_REFILL)
		refill(r, id, nr);
	else
		(void)zswap_writeback(r->zswap, id, nr, t->buf);
	gate_leave(r->gate);
}

static void op_clean(void)
{
	struct store_clean_ops up;

	zswap_clean_ops(&ref.r->e->zswap, &up);
	(void)fake_store_move(&ref.r->store, &up);
}

/* ---- other members -------------------------------------------------------------------------- */

static void op_charge(const struct op *op)
{
	struct ref_member *m = &ref.m[op->a % NR_OTHERS];
	u32 nr = op->c % 9 + 1, i = 0;
	struct ref_charge *c;

	while (i < NR_CHARGES && m->charge[i].o.v)
		i++;
	if (i == NR_CHARGES)
		return;
	c = &m->charge[i];
	*c = (struct ref_charge){ .g = pick(op->b), .memory = nr, .zswap_bytes = op->c * 100 };
	MUST(!objcg_get(m->t, ref.g[c->g].id, &c->o));
	memcg_charge_force(m->t, c->o, nr);
	memcg_zswap_charge(m->t, c->o, c->zswap_bytes);
	if (!memcg_swap_try_charge(m->t, c->o, nr / 2))
		c->swap = nr / 2;
}

static void op_uncharge(const struct op *op)
{
	struct ref_member *m = &ref.m[op->a % NR_OTHERS];
	struct ref_charge *c = &m->charge[op->b % NR_CHARGES];

	if (!c->o.v)
		return;
	memcg_uncharge(m->t, NULL, c->o, c->memory);
	memcg_swap_uncharge(m->t, c->o, c->swap);
	memcg_zswap_uncharge(m->t, c->o, c->zswap_bytes);
	objcg_put(m->t, c->o);
	c->o.v = 0;
}

static void join(struct ref_member *m)
{
	memset(m, 0, sizeof(*m));
	MUST(!memcg_tree_join(&ref.r->e->mm.meta, ref.r->e->tree, &m->t));
}

/* What it had is given back, and the ids it held are free. */
static void op_die(const struct op *op)
{
	struct ref_member *m = &ref.m[op->a % NR_OTHERS];

	memcg_tree_close(m->t);
	join(m);
}

/* ---- a sequence -------------------------------------------------------------------------------- */

static void op_wrong(const struct op *op)
{
	struct engine *e = ref.r->e;
	struct objcg_id o;

	MUST(!lru_objcg(&e->lru, ref.g[0].id, &o));
	switch (op->a) {
	case 0: /* a charge that nobody made */
		memcg_charge_force(e->tree, o, 1);
		break;
	case 1: /* a slot that nobody has */
		MUST(!memcg_swap_try_charge(e->tree, o, 1));
		break;
	case 2: /* a page that changed hands by itself */
		ref.owner[0] = ref.owner[0] ? 0 : pick(1);
		break;
	default: /* bytes that nobody wrote */
		ref.r->want[page_nr(0)].seed++;
	}
}

static void play(const struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_CREATE:
		op_create(op);
		break;
	case OP_REMOVE:
		op_remove(op);
		break;
	case OP_RELEASE:
		op_release(op);
		break;
	case OP_MAP:
		op_map(op);
		break;
	case OP_ASSIGN:
		op_assign(op);
		break;
	case OP_WRITE:
	case OP_READ:
		op_touch(op, op->kind == OP_WRITE);
		break;
	case OP_ZAP:
		op_zap(op);
		break;
	case OP_UNMAP:
	case OP_PAGEOUT:
	case OP_WRITEBACK:
	case OP_REFILL:
		op_reclaim(op);
		break;
	case OP_CLEAN:
		op_clean();
		break;
	case OP_CHARGE:
		op_charge(op);
		break;
	case OP_UNCHARGE:
		op_uncharge(op);
		break;
	case OP_DIE:
		op_die(op);
		break;
	case OP_LIMIT:
		op_limit(op);
		break;
	default:
		op_wrong(op);
	}
}

/* In a child; returns when all is as it must be. */
static void play_all(const struct op *ops, u32 nr)
{
	ref.r = rig_create(0, true);
	ref.g[0] = (struct ref_group){ true, NOBODY, ref.r->p, UINT64_MAX };
	ref.g[1] = (struct ref_group){ true, 0, ref.r->c, UINT64_MAX };
	ref.g[2] = (struct ref_group){ true, 0, ref.r->d, UINT64_MAX };
	ref.r->e->lru.nr_vecs = NR_GROUPS + 40;
	lru_set_slices(&ref.r->e->lru, nr ? 1 + ops[0].c % LRU_SLICES_MAX : 1, 0);
	for (u32 n = 0; n < NR_OTHERS; n++)
		join(&ref.m[n]);
	MUST(!region_cut(&ref.r->e->mm.regions, fake_addr(0), fake_addr(RIG_PAGES)));
	for (u32 n = 0; n < PAGES; n++)
		ref.owner[n] = NOBODY;
	atomic32_poke(&ref.r->e->state, ENGINE_RUNNING);
	for (u32 n = 0; n < nr; n++) {
		play(&ops[n]);
		compare_all(n % CHECK_EVERY == CHECK_EVERY - 1 || n + 1 == nr);
	}
}

static bool fails(const struct op *ops, u32 nr, bool quiet)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (quiet && !freopen("/dev/null", "w", stderr))
			_exit(2);
		alarm(20);
		play_all(ops, nr);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

/* Leave out what need not be there for it to fail; the new length. */
static u32 shrink(struct op *ops, u32 nr)
{
	struct op less[SEQUENCE];

	for (u32 len = nr / 2; len; len /= 2)
		for (u32 at = 0; at + len <= nr;) {
			memcpy(less, ops, at * sizeof(*ops));
			memcpy(less + at, ops + at + len, (nr - at - len) * sizeof(*ops));
			if (!fails(less, nr - len, true)) {
				at += len;
				continue;
			}
			nr -= len;
			memcpy(ops, less, nr * sizeof(*ops));
		}
	return nr;
}

/* A reproducible sequence (splitmix64). */
static u64 next_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static void make(struct op *ops, u32 nr, u64 seed)
{
	/* How often, in 64ths; the rest is touches. */
	static const u8 weight[NR_OPS] = { 4, 4, 3, 4, 5, 6, 5, 2, 7, 8, 5, 1, 1, 3, 2, 1, 1, 0 };

	for (u32 i = 0; i < nr; i++) {
		u64 r = next_random(&seed), at = next_random(&seed) % 64;
		u32 kind = 0;

		while (kind < OP_LIMIT && at >= weight[kind])
			at -= weight[kind++];
		ops[i] = (struct op){ kind, (u32)r & 0xff, (u32)(r >> 8) & 0xff,
				      (u32)(r >> 16) & 0xff };
	}
}

static void tell(const struct op *ops, u32 nr)
{
	printf("# QUIRE_MODEL_OPS=\"");
	for (u32 i = 0; i < nr; i++)
		printf("%s%u,%u,%u,%u", i ? " " : "", ops[i].kind, ops[i].a, ops[i].b, ops[i].c);
	printf("\"\n");
}

static u64 number(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

/* ---- tests ---------------------------------------------------------------------------------------- */

TEST(million)
{
	u64 seed = number("QUIRE_MODEL_SEED", 1), total = number("QUIRE_MODEL_NR", TOTAL);
	struct op ops[SEQUENCE];
	u32 nr;

	for (u64 n = 0; n < total; n += SEQUENCE) {
		make(ops, SEQUENCE, seed + n);
		if (!fails(ops, SEQUENCE, true))
			continue;
		nr = shrink(ops, SEQUENCE);
		tell(ops, nr);
		(void)fails(ops, nr, false);
		FAIL("%u operations are enough to fail", nr);
	}
	printf("# %llu operations\n", (unsigned long long)total);
}

TEST(one_sequence)
{
	const char *text = getenv("QUIRE_MODEL_OPS");
	struct op ops[SEQUENCE];
	int len, got;
	u32 nr = 0;

	if (!text)
		SKIP("QUIRE_MODEL_OPS is not set");
	while (nr < SEQUENCE && (got = sscanf(text, "%u,%u,%u,%u%n", &ops[nr].kind, &ops[nr].a,
					      &ops[nr].b, &ops[nr].c, &len)) == 4) {
		text += len;
		nr++;
	}
	ASSERT_FALSE(fails(ops, nr, false));
}

/* What is wrong is noticed, and what does not matter is left out of the report. */
TEST(notices)
{
	static const struct op needed[] = { { OP_MAP, 0, 3, 0 }, { OP_WRITE, 0, 2, 7 } };
	struct op ops[SEQUENCE];

	for (u32 which = 0; which < 4; which++) {
		make(ops, 40, 5);
		memcpy(ops + 37, needed, sizeof(needed));
		ASSERT_FALSE(fails(ops, 39, true));
		ops[39] = (struct op){ OP_WRONG, which, 0, 0 };
		ASSERT_TRUE(fails(ops, 40, true));
		ASSERT_LE(shrink(ops, 40), 4u);
	}
}
