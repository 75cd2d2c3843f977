/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_charge.c - stocks, compressed bytes, moves; random operations against a
 * reference model.
 */
#include <errno.h>

#include "fixture.h"
#include "memcg/move.h"

/* ---- stocks -------------------------------------------------------------------- */

TEST(stock_buys_a_batch)
{
	struct memcg_stock st = { { 0 }, 0 };
	struct memcg_id a, over;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	ASSERT_EQ(memcg_try_charge(f.t, &st, o, 1, &over), 0);
	ASSERT_EQ(st.nr_pages, STOCK_BATCH - 1);
	ASSERT_EQ(mem_of(f.t, a), STOCK_BATCH);
	for (u32 n = 1; n < STOCK_BATCH; n++)
		ASSERT_EQ(memcg_try_charge(f.t, &st, o, 1, &over), 0);
	ASSERT_EQ(mem_of(f.t, a), STOCK_BATCH);
	ASSERT_EQ(st.nr_pages, 0);
	/* More than a batch: exactly that, nothing to keep. */
	ASSERT_EQ(memcg_try_charge(f.t, &st, o, 100, &over), 0);
	ASSERT_EQ(st.nr_pages, 0);
	ASSERT_EQ(mem_of(f.t, a), 164);
	/* Giving back fills the stock, half of what is too much leaves it. */
	memcg_uncharge(f.t, &st, o, 64);
	ASSERT_EQ(mem_of(f.t, a), 164);
	memcg_uncharge(f.t, &st, o, 1);
	ASSERT_EQ(st.nr_pages, STOCK_BATCH / 2);
	ASSERT_EQ(mem_of(f.t, a), 164 - 33);
	memcg_uncharge(f.t, &st, o, 99);
	memcg_drain_stock(f.t, &st);
	ASSERT_EQ(mem_of(f.t, a), 0);
	fixture_exit(&f);
}

TEST(stock_changes_hands)
{
	struct memcg_stock st = { { 0 }, 0 };
	struct memcg_id a, b, over;
	struct objcg_id o, p;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "a");
	b = group_make(f.t, "b");
	o = handle_of(f.t, a);
	p = handle_of(f.t, b);
	ASSERT_EQ(memcg_try_charge(f.t, &st, o, 4, &over), 0);
	ASSERT_EQ(memcg_try_charge(f.t, &st, p, 4, &over), 0);
	ASSERT_EQ(mem_of(f.t, a), 4);
	ASSERT_EQ(mem_of(f.t, b), STOCK_BATCH);
	ASSERT_EQ(st.objcg.v, p.v);
	memcg_uncharge(f.t, &st, o, 4); /* not its stock: at once */
	ASSERT_EQ(mem_of(f.t, a), 0);
	memcg_drain_stock(f.t, &st);
	ASSERT_EQ(mem_of(f.t, b), 4);
	ASSERT_EQ(st.nr_pages, 0);
	fixture_exit(&f);
}

/* A limit is hit only when our own stock is empty. */
TEST(stock_is_drained_before_failure)
{
	struct memcg_stock st = { { 0 }, 0 };
	struct memcg_id a, b, over;
	struct objcg_id o, p;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "p/a");
	b = group_make(f.t, "p/b");
	o = handle_of(f.t, a);
	p = handle_of(f.t, b);
	memcg_set_max(f.t, group_find(f.t, "p"), COUNTER_MEMORY, 64);
	ASSERT_EQ(memcg_try_charge(f.t, &st, o, 1, &over), 0);
	ASSERT_EQ(st.nr_pages, 63);
	ASSERT_EQ(memcg_try_charge(f.t, &st, p, 63, &over), 0);
	ASSERT_EQ(mem_of(f.t, a), 1);
	ASSERT_EQ(mem_of(f.t, b), 63);
	ASSERT_EQ(memcg_try_charge(f.t, &st, p, 1, &over), -ENOMEM);
	ASSERT_EQ(over.v, group_find(f.t, "p").v);
	memcg_set_max(f.t, a, COUNTER_MEMORY, 0);
	ASSERT_EQ(memcg_try_charge(f.t, NULL, o, 1, &over), -ENOMEM);
	ASSERT_EQ(over.v, a.v);
	fixture_exit(&f);
}

/* The stock of a removed group still pays, and can be given back. */
TEST(stock_of_a_removed_group)
{
	struct memcg_stock st = { { 0 }, 0 };
	struct memcg_id a, p, over;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "p/a");
	p = group_find(f.t, "p");
	o = handle_of(f.t, a);
	ASSERT_EQ(memcg_try_charge(f.t, &st, o, 1, &over), 0);
	group_drop(f.t, a);
	ASSERT_EQ(mem_of(f.t, p), 64);
	ASSERT_EQ(memcg_try_charge(f.t, &st, o, 1, &over), 0);
	memcg_drain_stock(f.t, &st);
	ASSERT_EQ(mem_of(f.t, p), 2);
	memcg_uncharge(f.t, NULL, o, 2);
	ASSERT_EQ(mem_of(f.t, p), 0);
	fixture_exit(&f);
}

/* ---- compressed bytes ---------------------------------------------------------------- */

TEST(zswap_pages_are_the_ceiling)
{
	struct memcg_id a, over;
	struct objcg_id o;
	struct fixture f;
	u64 bytes = 0, seed = 1;

	fixture_init(&f);
	a = group_make(f.t, "a");
	o = handle_of(f.t, a);
	for (u32 n = 0; n < 3000; n++) {
		u32 b = (u32)(next_random(&seed) % 4097);

		if (bytes < b || (n & 1)) {
			memcg_zswap_charge(f.t, o, b);
			bytes += b;
		} else {
			memcg_zswap_uncharge(f.t, o, b);
			bytes -= b;
		}
		ASSERT_EQ(memcg_zswap_bytes(f.t, a), bytes);
		ASSERT_EQ(mem_of(f.t, a), (bytes + 4095) / 4096);
		ASSERT_EQ(memcg_usage(f.t, a, COUNTER_ZSWAP), bytes / 4096);
		ASSERT_EQ(memcg_stat_read(f.t, a, MEMCG_STAT_ZSWAP), bytes);
	}
	ASSERT_TRUE(memcg_zswap_may(f.t, o, &over));
	while (bytes) {
		u32 b = (u32)min_of(bytes, 4000);

		memcg_zswap_uncharge(f.t, o, b);
		bytes -= b;
	}
	ASSERT_EQ(mem_of(f.t, a), 0);
	fixture_exit(&f);
}

TEST(zswap_limit)
{
	struct memcg_id a, b, over;
	struct objcg_id o;
	struct fixture f;

	fixture_init(&f);
	b = group_make(f.t, "a/b");
	a = group_find(f.t, "a");
	o = handle_of(f.t, b);
	memcg_set_max(f.t, a, COUNTER_ZSWAP, 2);
	ASSERT_TRUE(memcg_zswap_may(f.t, o, &over));
	memcg_zswap_charge(f.t, o, 8191); /* one whole page */
	ASSERT_TRUE(memcg_zswap_may(f.t, o, &over));
	memcg_zswap_charge(f.t, o, 3000);
	ASSERT_FALSE(memcg_zswap_may(f.t, o, &over));
	ASSERT_EQ(over.v, a.v);
	memcg_zswap_uncharge(f.t, o, 11191);
	memcg_set_max(f.t, b, COUNTER_ZSWAP, 0);
	ASSERT_FALSE(memcg_zswap_may(f.t, o, &over));
	ASSERT_EQ(over.v, b.v);
	ASSERT_TRUE(memcg_zswap_writeback(f.t, b));
	memcg_set_flag(f.t, a, MEMCG_FLAG_ZSWAP_WRITEBACK, false);
	ASSERT_FALSE(memcg_zswap_writeback(f.t, b));
	ASSERT_TRUE(memcg_flag(f.t, b, MEMCG_FLAG_ZSWAP_WRITEBACK));
	fixture_exit(&f);
}

/* Where both chains have met, a move changes nothing, not even the peak. */
TEST(move)
{
	struct memcg_id a, b, p;
	struct objcg_id o, q;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "p/a/x");
	b = group_make(f.t, "p/b");
	p = group_find(f.t, "p");
	o = handle_of(f.t, a);
	q = handle_of(f.t, b);
	memcg_charge_force(f.t, o, 10);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 3), 0);
	memcg_move_charge(f.t, o, q, 7);
	memcg_swap_move(f.t, o, q, 3);
	ASSERT_EQ(mem_of(f.t, a), 3);
	ASSERT_EQ(mem_of(f.t, group_find(f.t, "p/a")), 3);
	ASSERT_EQ(mem_of(f.t, b), 7);
	ASSERT_EQ(mem_of(f.t, p), 10);
	ASSERT_EQ(memcg_peak(f.t, p, COUNTER_MEMORY), 10);
	ASSERT_EQ(memcg_usage(f.t, b, COUNTER_SWAP), 3);
	ASSERT_EQ(memcg_usage(f.t, a, COUNTER_SWAP), 0);
	memcg_move_charge(f.t, q, handle_of(f.t, p), 7); /* to an ancestor */
	ASSERT_EQ(mem_of(f.t, b), 0);
	ASSERT_EQ(mem_of(f.t, p), 10);
	memcg_move_charge(f.t, handle_of(f.t, p), o, 2); /* and down */
	ASSERT_EQ(mem_of(f.t, a), 5);
	fixture_exit(&f);
}

/* The target's limits count, up to the group above both and not beyond. */
TEST(move_within_limits)
{
	struct memcg_id a, b, p, over = { 0 };
	enum page_counter_kind kind;
	struct objcg_id o, q;
	struct fixture f;

	fixture_init(&f);
	a = group_make(f.t, "p/a");
	b = group_make(f.t, "p/b/x");
	p = group_find(f.t, "p");
	o = handle_of(f.t, a);
	q = handle_of(f.t, b);
	memcg_charge_force(f.t, o, 10);
	ASSERT_EQ(memcg_swap_try_charge(f.t, o, 4), 0);
	memcg_zswap_charge(f.t, o, 5000);
	/* 12 pages: more than p may have, but nothing is added there. */
	memcg_set_max(f.t, p, COUNTER_MEMORY, 3);
	memcg_set_max(f.t, p, COUNTER_SWAP, 1);
	memcg_set_max(f.t, group_find(f.t, "p/b"), COUNTER_MEMORY, 7);
	ASSERT_EQ(memcg_try_move_charge(f.t, o, q, 6, &over), 0);
	ASSERT_EQ(memcg_try_move_charge(f.t, o, q, 2, &over), -ENOMEM);
	ASSERT_EQ(over.v, group_find(f.t, "p/b").v);
	ASSERT_EQ(mem_of(f.t, a), 6);
	ASSERT_EQ(mem_of(f.t, b), 6);
	ASSERT_EQ(mem_of(f.t, p), 12);
	ASSERT_EQ(memcg_peak(f.t, p, COUNTER_MEMORY), 12);
	memcg_set_max(f.t, b, COUNTER_SWAP, 1);
	ASSERT_EQ(memcg_try_swap_move(f.t, o, q, 1, &over), 0);
	ASSERT_EQ(memcg_try_swap_move(f.t, o, q, 1, &over), -ENOSPC);
	ASSERT_EQ(memcg_usage(f.t, p, COUNTER_SWAP), 4);
	/* Compressed bytes: a page more must fit, and the pool may be limited. */
	ASSERT_EQ(memcg_try_zswap_move(f.t, o, q, 100, &over, &kind), 0);
	ASSERT_EQ(mem_of(f.t, b), 7);
	ASSERT_EQ(memcg_try_zswap_move(f.t, o, q, 100, &over, &kind), -ENOMEM);
	ASSERT_EQ(kind, COUNTER_MEMORY);
	memcg_set_max(f.t, b, COUNTER_ZSWAP, 0);
	ASSERT_EQ(memcg_try_zswap_move(f.t, o, q, 100, &over, &kind), -ENOMEM);
	ASSERT_EQ(kind, COUNTER_ZSWAP);
	ASSERT_EQ(over.v, b.v);
	ASSERT_EQ(memcg_zswap_bytes(f.t, b), 100);
	ASSERT_EQ(memcg_zswap_bytes(f.t, p), 5000);
	/* To an ancestor there is nothing to ask. */
	ASSERT_EQ(memcg_try_move_charge(f.t, q, handle_of(f.t, p), 6, &over), 0);
	fixture_exit(&f);
}

/* ---- the model --------------------------------------------------------------------------- */

#define MODEL_OPS 250000
#define MODEL_GROUPS 24
#define MODEL_HANDLES 40

struct model_group {
	struct memcg_id id;
	int parent; /* -1: this is the root */
	bool used, dying;
	u64 max, swap_max;
};

struct model_handle {
	struct objcg_id o;
	int group;
	u64 mem, swap, zbytes, anon;
};

struct model {
	struct fixture f;
	struct model_group g[MODEL_GROUPS];
	struct model_handle h[MODEL_HANDLES];
	u32 nr_handles;
	struct memcg_stock st;
	u64 seed, nr_names;
};

static u64 pages_of(u64 bytes)
{
	return (bytes + 4095) / 4096;
}

static bool model_below(const struct model *m, int g, int of)
{
	for (; g >= 0; g = m->g[g].parent)
		if (g == of)
			return true;
	return false;
}

/* What the handles say group g has: memory with or without the stock. */
static u64 model_usage(const struct model *m, int g, bool with_stock)
{
	u64 sum = 0;

	for (u32 n = 0; n < m->nr_handles; n++) {
		const struct model_handle *h = &m->h[n];

		if (!model_below(m, h->group, g))
			continue;
		sum += h->mem + pages_of(h->zbytes);
		if (with_stock && m->st.nr_pages && m->st.objcg.v == h->o.v)
			sum += m->st.nr_pages;
	}
	return sum;
}

static u64 model_swap(const struct model *m, int g)
{
	u64 sum = 0;

	for (u32 n = 0; n < m->nr_handles; n++)
		if (model_below(m, m->h[n].group, g))
			sum += m->h[n].swap;
	return sum;
}

/* The group whose limit refuses nr pages more, or -1. */
static int model_refuses(const struct model *m, int g, u64 nr, bool with_stock)
{
	for (; g >= 0; g = m->g[g].parent)
		if (model_usage(m, g, with_stock) + nr > m->g[g].max)
			return g;
	return -1;
}

static void model_verify(struct model *m)
{
	memcg_check(m->f.t);
	for (int n = 0; n < MODEL_GROUPS; n++) {
		u64 zbytes = 0, anon = 0;

		if (!m->g[n].used || m->g[n].dying)
			continue;
		for (u32 k = 0; k < m->nr_handles; k++) {
			if (!model_below(m, m->h[k].group, n))
				continue;
			zbytes += m->h[k].zbytes;
			anon += m->h[k].anon;
		}
		ASSERT_EQ(mem_of(m->f.t, m->g[n].id), model_usage(m, n, true));
		ASSERT_EQ(memcg_usage(m->f.t, m->g[n].id, COUNTER_SWAP), model_swap(m, n));
		ASSERT_EQ(memcg_zswap_bytes(m->f.t, m->g[n].id), zbytes);
		ASSERT_EQ(memcg_stat_read(m->f.t, m->g[n].id, MEMCG_STAT_ANON), anon);
		ASSERT_GE(memcg_peak(m->f.t, m->g[n].id, COUNTER_MEMORY), model_usage(m, n, true));
	}
}

static int model_pick(struct model *m)
{
	int n = (int)(next_random(&m->seed) % MODEL_GROUPS);

	return m->g[n].used && !m->g[n].dying ? n : -1;
}

static void model_create(struct model *m, int n)
{
	int pick = model_pick(m), parent = max_of(pick, 0);
	char name[24];
	int ret;

	if (m->g[n].used || m->nr_handles == MODEL_HANDLES)
		return;
	fmt_str(name, sizeof(name), "n%llu", (unsigned long long)m->nr_names++);
	ret = memcg_create(m->f.t, m->g[parent].id, name, &m->g[n].id);
	if (ret == -E2BIG)
		return;
	ASSERT_EQ(ret, 0);
	m->g[n].used = true;
	m->g[n].dying = false;
	m->g[n].parent = parent;
	m->g[n].max = m->g[n].swap_max = PAGE_COUNTER_MAX;
	m->h[m->nr_handles++] = (struct model_handle){
		handle_of(m->f.t, m->g[n].id), n, 0, 0, 0, 0
	};
}

/* Handles that carry nothing are put; the others follow to the parent. */
static void model_remove(struct model *m, int n)
{
	struct memcg_id parent;
	int ret;

	if (!m->g[n].used || m->g[n].dying || m->g[n].parent < 0)
		return;
	ret = memcg_remove(m->f.t, m->g[n].id, &parent);
	for (int k = 0; k < MODEL_GROUPS; k++) {
		if (k != n && m->g[k].used && !m->g[k].dying && m->g[k].parent == n) {
			ASSERT_EQ(ret, -EBUSY);
			return;
		}
	}
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(parent.v, m->g[m->g[n].parent].id.v);
	m->g[n].dying = true;
	for (u32 k = 0; k < m->nr_handles; k++)
		if (m->h[k].group == n)
			m->h[k].group = m->g[n].parent;
}

static void model_release(struct model *m, int n)
{
	if (!m->g[n].used || !m->g[n].dying)
		return;
	memcg_release(m->f.t, m->g[n].id);
	m->g[n].used = false;
}

static void model_put_empty(struct model *m)
{
	for (u32 n = 0; n < m->nr_handles; n++) {
		const struct model_handle *h = &m->h[n];
		bool other = false;

		for (u32 k = 0; k < m->nr_handles; k++)
			other |= k != n && m->h[k].group == h->group;
		if (h->mem || h->swap || h->zbytes || h->anon || !other)
			continue;
		if (m->st.objcg.v == h->o.v)
			memcg_drain_stock(m->f.t, &m->st);
		objcg_put(m->f.t, h->o);
		m->h[n--] = m->h[--m->nr_handles];
	}
}

static void model_charge(struct model *m, struct model_handle *h, u32 nr, bool stocked)
{
	bool from_stock = stocked && m->st.objcg.v == h->o.v && m->st.nr_pages >= nr;
	int no = model_refuses(m, h->group, nr, !stocked);
	struct memcg_id over = { 0 };
	int ret = memcg_try_charge(m->f.t, stocked ? &m->st : NULL, h->o, nr, &over);

	if (from_stock || no < 0) {
		ASSERT_EQ(ret, 0);
		h->mem += nr;
	} else {
		ASSERT_EQ(ret, -ENOMEM);
		ASSERT_EQ(over.v, m->g[no].id.v);
	}
}

static void model_swap_charge(struct model *m, struct model_handle *h, u32 nr)
{
	int g = h->group;
	int ret = memcg_swap_try_charge(m->f.t, h->o, nr);

	while (g >= 0 && model_swap(m, g) + nr <= m->g[g].swap_max)
		g = m->g[g].parent;
	ASSERT_EQ(ret, g < 0 ? 0 : -ENOMEM);
	if (!ret)
		h->swap += nr;
}

static void model_take(struct model *m, struct model_handle *h, u64 r)
{
	u32 nr = h->mem ? (u32)(r % h->mem + 1) : 0, slots = h->swap ? (u32)(r % h->swap + 1) : 0;
	u32 bytes = h->zbytes ? (u32)(r % h->zbytes + 1) : 0;

	memcg_uncharge(m->f.t, r & 1 ? &m->st : NULL, h->o, nr);
	h->mem -= nr;
	memcg_swap_uncharge(m->f.t, h->o, slots);
	h->swap -= slots;
	memcg_zswap_uncharge(m->f.t, h->o, bytes);
	h->zbytes -= bytes;
	memcg_stat_add(m->f.t, h->o, MEMCG_STAT_ANON, -(s64)h->anon);
	h->anon = 0;
}

static void model_give(struct model *m, struct model_handle *h, u64 r)
{
	struct model_handle *to = &m->h[(r >> 20) % m->nr_handles];
	u32 nr = (u32)(r >> 40) % 130;

	switch (r % 8) {
	case 0:
	case 1:
		model_charge(m, h, nr + 1, false);
		break;
	case 2:
	case 3:
		model_charge(m, h, nr + 1, true);
		break;
	case 4:
		memcg_charge_force(m->f.t, h->o, nr);
		h->mem += nr;
		break;
	case 5:
		model_swap_charge(m, h, nr);
		break;
	case 6:
		memcg_zswap_charge(m->f.t, h->o, nr * 37);
		h->zbytes += nr * 37;
		memcg_stat_add(m->f.t, h->o, MEMCG_STAT_ANON, nr);
		h->anon += nr;
		break;
	default:
		memcg_move_charge(m->f.t, h->o, to->o, (u32)h->mem);
		nr = (u32)h->mem;
		h->mem = 0;
		to->mem += nr;
	}
}

static void model_limit(struct model *m, int g, u64 r)
{
	if (g < 0)
		return;
	m->g[g].max = r & 1 ? PAGE_COUNTER_MAX : (r >> 8) % 3000;
	m->g[g].swap_max = r & 2 ? PAGE_COUNTER_MAX : (r >> 8) % 2000;
	memcg_set_max(m->f.t, m->g[g].id, COUNTER_MEMORY, m->g[g].max);
	memcg_set_max(m->f.t, m->g[g].id, COUNTER_SWAP, m->g[g].swap_max);
	memcg_set_protection(m->f.t, m->g[g].id, (r >> 20) % 500, (r >> 30) % 1000);
}

static void model_step(struct model *m)
{
	u64 r = next_random(&m->seed);
	int n = (int)((r >> 16) % MODEL_GROUPS);
	struct model_handle *h = &m->h[(r >> 8) % m->nr_handles];

	r >>= 4;
	switch (next_random(&m->seed) % 32) {
	case 0:
		model_create(m, n);
		break;
	case 1:
		model_remove(m, n);
		break;
	case 2:
		model_release(m, n);
		break;
	case 3:
		model_limit(m, model_pick(m), r);
		break;
	case 4:
		model_put_empty(m);
		break;
	case 5:
		memcg_drain_stock(m->f.t, &m->st);
		break;
	case 6 ... 17:
		model_take(m, h, r);
		break;
	default:
		model_give(m, h, r);
	}
}

TEST(random_operations_against_a_model)
{
	static struct model m;

	memset(&m, 0, sizeof(m));
	m.seed = 42;
	fixture_init(&m.f);
	/* Group 0 stands for the root: parent of all, never removed. */
	m.g[0] = (struct model_group){ MEMCG_ROOT,	-1, true, false, PAGE_COUNTER_MAX,
				       PAGE_COUNTER_MAX };
	m.h[m.nr_handles++] = (struct model_handle){ handle_of(m.f.t, MEMCG_ROOT), 0, 0, 0, 0, 0 };
	for (u32 n = 0; n < MODEL_OPS; n++) {
		model_step(&m);
		if (n % 100 == 0)
			model_verify(&m);
	}
	memcg_drain_stock(m.f.t, &m.st);
	model_verify(&m);
	for (u32 n = 0; n < m.nr_handles; n++) {
		memcg_uncharge(m.f.t, NULL, m.h[n].o, (u32)m.h[n].mem);
		memcg_swap_uncharge(m.f.t, m.h[n].o, (u32)m.h[n].swap);
		memcg_zswap_uncharge(m.f.t, m.h[n].o, (u32)m.h[n].zbytes);
	}
	ASSERT_EQ(mem_of(m.f.t, MEMCG_ROOT), 0);
	ASSERT_EQ(memcg_usage(m.f.t, MEMCG_ROOT, COUNTER_SWAP), 0);
	ASSERT_EQ(memcg_zswap_bytes(m.f.t, MEMCG_ROOT), 0);
	fixture_exit(&m.f);
}
