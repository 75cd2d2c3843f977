/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcg.c - the tree of groups: create, find, walk, remove.
 *
 * Owns: group records, their links, names and the name index; the life cycle
 * ONLINE, OFFLINE, FREE (internal.h).
 * Does not own: what is charged (page_counter.c, charge.c), handles (objcg.c),
 * repair after a killed owner of the tree lock (rebuild.c).
 * Entry points: memcg_create(), memcg_lookup(), memcg_remove(),
 * memcg_release(), memcg_next().
 * Invariants (races.md 1.4): L1 removal waits for nothing; L2 its handles are
 * re-pointed to the parent in the same locked section that takes it out of
 * the tree; L4 an id is reused only after every member that may hold it has
 * acknowledged; L6 ancestors' totals are not touched; L7 -EBUSY is for members
 * and children only, never for mere memory.
 * Lock ranks: TREE for changes.  Walks and look-ups take no lock: links are
 * followed through records that are type-stable, and a result that a change
 * may have spoiled is looked for again (the dirty word serves as sequence).
 */
#include "memcg/internal.h"

#include <errno.h>
#include <string.h>

/* ---- names and the index ------------------------------------------------------ */

static bool name_char_ok(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '@' || c == '-';
}

bool memcg_name_ok(const char *name, size_t len)
{
	if (len == 0 || len >= MEMCG_NAME_MAX)
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!name_char_ok(name[i]))
			return false;
	return true;
}

/* FNV-1a; the parent's index is the seed. */
static struct atomic32 *index_bucket(const struct memcg_tree *t, u32 parent, const char *name,
				     size_t len)
{
	u32 h = 2166136261u ^ (parent * 2654435761u);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (u8)name[i]) * 16777619u;
	h ^= h >> 15;
	return &seg_index(t)[h % SEG_INDEX_SIZE];
}

size_t memcg_name_len(const struct group *g)
{
	size_t n = 0;

	while (n < MEMCG_NAME_MAX && g->name[n])
		n++;
	return n;
}

static u32 index_find(const struct memcg_tree *t, u32 parent, const char *name, size_t len)
{
	u32 i = atomic32_load(index_bucket(t, parent, name, len));
	struct group *g;

	for (u32 n = 0; n < NR_GROUPS_MAX && (g = group_at(t, i)); n++) {
		if (atomic32_load(&g->parent) == parent && memcg_name_len(g) == len &&
		    memcmp(g->name, name, len) == 0 && atomic32_load(&g->state) == GROUP_ONLINE)
			return i;
		i = atomic32_load(&g->hash_next);
	}
	return 0;
}

static void index_add(struct memcg_tree *t, u32 i, struct group *g)
{
	struct atomic32 *b = index_bucket(t, atomic32_peek(&g->parent), g->name, memcg_name_len(g));

	atomic32_store(&g->hash_next, atomic32_peek(b));
	atomic32_store(b, i);
}

static void index_del(struct memcg_tree *t, u32 i, struct group *g)
{
	struct atomic32 *link = index_bucket(t, atomic32_peek(&g->parent), g->name,
					     memcg_name_len(g));
	struct group *at;

	for (u32 n = 0; n < NR_GROUPS_MAX && (at = group_at(t, atomic32_peek(link))); n++) {
		if (at == g) {
			atomic32_store(link, atomic32_peek(&g->hash_next));
			return;
		}
		link = &at->hash_next;
	}
	quire_assert(t->seg->shared && i); /* unlinked by a scribbler */
}

/* ---- records --------------------------------------------------------------------- */

static void group_init(struct group *g, u32 parent, u32 depth, const char *name, size_t len)
{
	for (u32 k = 0; k < NR_COUNTERS; k++)
		atomic64_poke(&g->max[k], PAGE_COUNTER_MAX);
	atomic64_poke(&g->high[COUNTER_MEMORY], PAGE_COUNTER_MAX);
	atomic64_poke(&g->high[COUNTER_SWAP], PAGE_COUNTER_MAX);
	atomic32_poke(&g->max_descendants, UINT32_MAX);
	atomic32_poke(&g->max_depth, UINT32_MAX);
	atomic32_poke(&g->flags, 1u << MEMCG_FLAG_ZSWAP_WRITEBACK);
	memcpy(g->name, name, len);
	g->name[len] = 0;
	atomic32_poke(&g->depth, depth);
	atomic32_poke(&g->parent, parent);
	/* Complete: a rebuild may find it from here on. */
	atomic32_store(&g->state, GROUP_ONLINE);
}

bool memcg_init_root(struct memcg_tree *t)
{
	u32 i = segment_alloc(t, SEG_GROUPS);

	if (i)
		group_init(group_at(t, i), 0, 0, "", 0);
	return i == MEMCG_ROOT.v;
}

/* Add n (may be -1) to nr_descendants of every group from i upwards. */
static void count_descendants(struct memcg_tree *t, u32 i, u32 n)
{
	struct group *g;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		atomic32_store(&g->nr_descendants, atomic32_peek(&g->nr_descendants) + n);
		i = atomic32_peek(&g->parent);
	}
}

void memcg_link(struct memcg_tree *t, u32 i)
{
	struct group *g = group_at(t, i), *last;
	u32 parent = atomic32_peek(&g->parent);
	struct group *p = group_or_root(t, atomic32_peek(&g->parent));

	atomic32_poke(&g->sib_next, 0);
	atomic32_poke(&g->sib_prev, atomic32_peek(&p->child_last));
	last = group_at(t, atomic32_peek(&p->child_last));
	/* Release: whoever follows the link sees the record complete. */
	atomic32_store(last ? &last->sib_next : &p->child_first, i);
	atomic32_store(&p->child_last, i);
	index_add(t, i, g);
	count_descendants(t, parent, 1);
}

/* sib_next and parent stay readable for a walk that stands on the record. */
static void group_unlink(struct memcg_tree *t, u32 i)
{
	struct group *g = group_at(t, i);
	struct group *p = group_or_root(t, atomic32_peek(&g->parent));
	struct group *next = group_at(t, atomic32_peek(&g->sib_next));
	struct group *prev = group_at(t, atomic32_peek(&g->sib_prev));

	atomic32_store(prev ? &prev->sib_next : &p->child_first, atomic32_peek(&g->sib_next));
	atomic32_store(next ? &next->sib_prev : &p->child_last, atomic32_peek(&g->sib_prev));
	index_del(t, i, g);
	count_descendants(t, atomic32_peek(&g->parent), (u32)-1);
}

void memcg_link_dying(struct memcg_tree *t, u32 i)
{
	struct seg_header *h = seg_head(t);
	struct group *g = group_at(t, i), *last = group_at(t, atomic32_peek(&h->dying_last));

	atomic32_store(&g->dying_next, 0);
	atomic32_store(last ? &last->dying_next : &h->dying_first, i);
	atomic32_store(&h->dying_last, i);
	atomic32_store(&h->nr_dying, atomic32_peek(&h->nr_dying) + 1);
}

/* ---- create ------------------------------------------------------------------------ */

/* cgroup-v2: cgroup.max.descendants, cgroup.max.depth; on any ancestor. */
static bool hierarchy_allows(const struct memcg_tree *t, u32 parent)
{
	struct group *g;

	for (u32 level = 1, i = parent; level <= NR_LEVELS && (g = group_at(t, i)); level++) {
		if (atomic32_peek(&g->nr_descendants) >= atomic32_peek(&g->max_descendants))
			return false;
		if (level > atomic32_peek(&g->max_depth))
			return false;
		i = atomic32_peek(&g->parent);
	}
	return true;
}

static int create_locked(struct memcg_tree *t, u32 parent, const char *name, size_t len, u32 *ret_i)
{
	struct group *p = group_at(t, parent);
	u32 i;

	if (!p || atomic32_peek(&p->state) != GROUP_ONLINE)
		return -ENOENT;
	if (len >= MEMCG_NAME_MAX)
		return -ENAMETOOLONG;
	if (!memcg_name_ok(name, len))
		return -EINVAL;
	if (index_find(t, parent, name, len))
		return -EEXIST;
	if (atomic32_peek(&p->depth) >= MEMCG_DEPTH_MAX)
		return -E2BIG;
	if (!hierarchy_allows(t, parent))
		return -EAGAIN;
	segment_change_begin(t);
	i = segment_alloc(t, SEG_GROUPS);
	if (i) {
		group_init(group_at(t, i), parent, atomic32_peek(&p->depth) + 1, name, len);
		memcg_link(t, i);
		*ret_i = i;
	}
	segment_change_end(t);
	return i ? 0 : -ENOSPC;
}

int memcg_create(struct memcg_tree *t, struct memcg_id parent, const char *name,
		 struct memcg_id *ret_id)
{
	u32 i = 0;
	int ret = segment_lock(t);

	if (ret)
		return ret;
	ret = create_locked(t, parent.v, name, strlen(name), &i);
	segment_unlock(t);
	if (!ret)
		ret_id->v = i;
	return ret;
}

/* The next component of a path; false at its end. */
static bool path_part(const char **path, const char **ret_name, size_t *ret_len)
{
	const char *p = *path;

	while (*p == '/')
		p++;
	*ret_name = p;
	while (*p && *p != '/')
		p++;
	*ret_len = (size_t)(p - *ret_name);
	*path = p;
	return *ret_len > 0;
}

int memcg_create_path(struct memcg_tree *t, const char *path, struct memcg_id *ret_id)
{
	u32 at = MEMCG_ROOT.v, child;
	const char *name;
	size_t len;
	int ret = segment_lock(t);

	if (ret)
		return ret;
	while (!ret && path_part(&path, &name, &len)) {
		child = index_find(t, at, name, len);
		if (!child)
			ret = create_locked(t, at, name, len, &child);
		at = child;
	}
	segment_unlock(t);
	if (!ret)
		ret_id->v = at;
	return ret;
}

int memcg_lookup(struct memcg_tree *t, const char *path, struct memcg_id *ret_id)
{
	for (u32 try = 0; try < SEQ_TRIES; try++) {
		u32 seq = segment_seq(t), at = MEMCG_ROOT.v;
		const char *p = path, *name;
		size_t len;

		while (at && path_part(&p, &name, &len))
			at = index_find(t, at, name, len);
		/* Found or not, but not by way of a record that was freed under us. */
		if (segment_seq_same(t, seq) || (at && try == SEQ_TRIES - 1)) {
			ret_id->v = at;
			return at ? 0 : -ENOENT;
		}
	}
	return -ENOENT;
}

/* ---- remove ------------------------------------------------------------------------- */

struct flip {
	struct memcg_tree *t;
	u32 from, to;
	bool others; /* had handles there */
};

static void flip_handles(void *arg)
{
	struct flip *f = arg;

	f->others = objcg_flip_all(f->t, f->from, f->to);
}

static int remove_locked(struct memcg_tree *t, u32 i)
{
	const struct memcg_upcalls *up = memcg_tree_upcalls(t);
	struct flip f = { .t = t, .from = i };
	struct seg_header *h = seg_head(t);
	struct group *g = group_at(t, i);

	if (!g || atomic32_peek(&g->state) != GROUP_ONLINE)
		return -ENOENT;
	if (i == MEMCG_ROOT.v || atomic32_peek(&g->nr_descendants) != 0 ||
	    member_nr_at(t, (struct memcg_id){ i }) != 0)
		return -EBUSY;
	f.to = atomic32_peek(&g->parent);
	segment_change_begin(t);
	/* First: should we be killed now, everybody else splices. */
	atomic32_store(&g->remover, t->self);
	atomic32_store(&g->others, 1);
	atomic64_store(&g->removal, atomic64_peek(&h->nr_removed) + 1);
	atomic32_store(&g->state, GROUP_OFFLINE);
	group_unlink(t, i);
	/* From here on charges and look-ups go to the parent (charge.c: D2). */
	if (up->reparent)
		up->reparent(up->ctx, (struct memcg_id){ i }, (struct memcg_id){ f.to },
			     flip_handles, &f);
	else
		flip_handles(&f);
	atomic32_store(&g->others, f.others);
	memcg_set_protection(t, (struct memcg_id){ i }, 0, 0);
	memcg_link_dying(t, i);
	atomic64_store(&h->nr_removed, atomic64_peek(&g->removal));
	/* Nobody, who is no member, has nothing to release later. */
	if (t->self >= NR_MEMBERS)
		memcg_free_dying(t);
	segment_change_end(t);
	return 0;
}

int memcg_remove(struct memcg_tree *t, struct memcg_id id, struct memcg_id *ret_parent)
{
	int ret = segment_lock(t);

	if (ret)
		return ret;
	ret = remove_locked(t, id.v);
	if (!ret)
		ret_parent->v = atomic32_peek(&group_at(t, id.v)->parent);
	segment_unlock(t);
	return ret;
}

/* The records of the dying before `end` lead past i, which is to be FREE. */
static void climb_past(struct memcg_tree *t, u32 i, const struct group *end)
{
	struct group *g = group_at(t, atomic32_peek(&seg_head(t)->dying_first));

	for (u32 n = 0; n < NR_GROUPS_MAX && g && g != end; n++) {
		if (atomic32_peek(&g->parent) == i)
			atomic32_store(&g->parent, atomic32_peek(&end->parent));
		g = group_at(t, atomic32_peek(&g->dying_next));
	}
}

static void free_one(struct memcg_tree *t, u32 i, struct group *g, u32 prev)
{
	struct seg_header *h = seg_head(t);
	struct group *p = group_at(t, prev);

	/* A charge that read the old settings may have noted protection late. */
	page_counter_propagate(t, g, 0);
	climb_past(t, i, g);
	atomic32_store(p ? &p->dying_next : &h->dying_first, atomic32_peek(&g->dying_next));
	if (!atomic32_peek(&g->dying_next))
		atomic32_store(&h->dying_last, prev);
	atomic32_store(&h->nr_dying, atomic32_peek(&h->nr_dying) - 1);
	atomic32_store(&g->state, GROUP_FREE);
	segment_free(t, SEG_GROUPS, i);
}

void memcg_free_dying(struct memcg_tree *t)
{
	u32 i = atomic32_peek(&seg_head(t)->dying_first), prev = 0, next;
	u64 least = i ? member_least_released(t) : 0;
	struct group *g;

	for (u32 n = 0; n < NR_GROUPS_MAX && (g = group_at(t, i)); n++) {
		u64 removal = atomic64_peek(&g->removal);

		next = atomic32_peek(&g->dying_next);
		/* Most groups are one process's: a stopped one does not keep those of others. */
		if (removal <= least || (!atomic32_peek(&g->others) &&
					 removal <= member_released(t, atomic32_peek(&g->remover))))
			free_one(t, i, g, prev);
		else
			prev = i;
		i = next;
	}
}

static void flip_lists(void *arg)
{
	struct flip *f = arg;

	objcg_splice(f->t, f->from, f->to);
}

/* What a removal does at once for the member that removes. */
static void splice_lists(struct memcg_tree *t, u32 i)
{
	const struct memcg_upcalls *up = memcg_tree_upcalls(t);
	struct flip f = { .t = t, .from = i, .to = memcg_online_of(t, i) };

	if (up->reparent)
		up->reparent(up->ctx, (struct memcg_id){ i }, (struct memcg_id){ f.to }, flip_lists,
			     &f);
	else
		flip_lists(&f);
}

static u64 released(const struct memcg_tree *t)
{
	return atomic64_load(&seg_member(t, t->self)->released);
}

u64 memcg_nr_unreleased(const struct memcg_tree *t)
{
	return t->self < NR_MEMBERS ? atomic64_load(&seg_head(t)->nr_removed) - released(t) : 0;
}

/* The next group behind *at that this member has not released; tree lock held. */
static struct group *next_offline(const struct memcg_tree *t, u32 *at)
{
	struct group *g = group_at(t, *at);

	/* Free by now: from the beginning, whoever asks has seen those before. */
	if (g && atomic32_peek(&g->state) != GROUP_OFFLINE)
		g = NULL;
	*at = atomic32_peek(g ? &g->dying_next : &seg_head(t)->dying_first);
	for (u32 n = 0; n < NR_GROUPS_MAX && (g = group_at(t, *at)); n++) {
		if (atomic64_peek(&g->removal) > released(t))
			return g;
		*at = atomic32_peek(&g->dying_next);
	}
	*at = 0;
	return NULL;
}

struct memcg_id memcg_next_offline(struct memcg_tree *t, struct memcg_id prev)
{
	struct memcg_id from = prev;

	if (!memcg_nr_unreleased(t) || segment_lock(t))
		return (struct memcg_id){ 0 };
	/* All that we had not released are free without us: we had none in hand. */
	if (!next_offline(t, &prev.v) && !from.v)
		atomic64_store(&seg_member(t, t->self)->released,
			       atomic64_peek(&seg_head(t)->nr_removed));
	segment_unlock(t);
	return prev;
}

void memcg_release(struct memcg_tree *t, struct memcg_id id)
{
	struct group *g = group_of(t, id);
	u64 removal;
	u32 i = 0;

	if (segment_lock(t))
		return; /* the record is not reused before this member is gone */
	removal = atomic64_peek(&g->removal);
	if (atomic32_peek(&g->state) != GROUP_OFFLINE || removal <= released(t)) {
		segment_unlock(t);
		return;
	}
	while ((g = next_offline(t, &i)) && atomic64_peek(&g->removal) <= removal)
		if (atomic32_peek(&g->remover) != t->self)
			splice_lists(t, i);
	segment_change_begin(t);
	atomic64_store(&seg_member(t, t->self)->released, removal);
	memcg_free_dying(t);
	segment_change_end(t);
	segment_unlock(t);
}

/* ---- look around ---------------------------------------------------------------------- */

bool memcg_online(const struct memcg_tree *t, struct memcg_id id)
{
	const struct group *g = group_at(t, id.v);

	return g && atomic32_load(&g->state) == GROUP_ONLINE;
}

struct memcg_id memcg_parent(const struct memcg_tree *t, struct memcg_id id)
{
	u32 parent = atomic32_load(&group_of(t, id)->parent);

	return (struct memcg_id){ group_at(t, parent) ? memcg_online_of(t, parent) : 0 };
}

u32 memcg_online_of(const struct memcg_tree *t, u32 i)
{
	struct group *g = group_at(t, i);

	for (u32 l = 0; l < NR_GROUPS_MAX && g; l++) {
		if (atomic32_load(&g->state) == GROUP_ONLINE)
			return i;
		i = atomic32_load(&g->parent);
		g = group_at(t, i);
	}
	return MEMCG_ROOT.v;
}

bool memcg_is_descendant(const struct memcg_tree *t, struct memcg_id id, struct memcg_id of)
{
	const struct group *g;
	u32 i = id.v;

	for (u32 l = 0; l < NR_LEVELS && (g = group_at(t, i)); l++) {
		if (i == of.v)
			return true;
		i = atomic32_load(&g->parent);
	}
	return false;
}

/*
 * The group that a link leads to, or 0: of those below parent, the next that is online.
 * One that is being removed is OFFLINE before it is unlinked, and while it is that its
 * own link leads on; one that is anything else was unlinked before, so that the link is
 * another by now.
 */
static u32 walk_to(const struct memcg_tree *t, const struct atomic32 *link, u32 parent)
{
	const struct group *over = NULL;

	for (u32 try = 0; try < WALK_TRIES; try++) {
		u32 i = atomic32_load(over ? &over->sib_next : link);
		const struct group *g = group_at(t, i);
		u32 state = g ? atomic32_load(&g->state) : GROUP_FREE;

		if (over && atomic32_load(&over->state) != GROUP_OFFLINE)
			over = NULL;
		else if (!g)
			return 0;
		else if (atomic32_load(&g->parent) != parent || state == GROUP_FREE)
			over = NULL;
		else if (state == GROUP_ONLINE)
			return i;
		else
			over = g;
	}
	return 0;
}

/*
 * Down if there is a child, else to the next sibling of the nearest ancestor that has
 * one.  Whoever is online all the time is found, unless prev was removed: its record is
 * intact until this member releases it, but it has no siblings that come after it.
 */
struct memcg_id memcg_next(const struct memcg_tree *t, struct memcg_id root, struct memcg_id prev)
{
	const struct group *g;
	u32 i = prev.v, to;

	if (!i)
		return group_at(t, root.v) ? root : (struct memcg_id){ 0 };
	g = group_of(t, prev);
	to = walk_to(t, &g->child_first, i);
	for (u32 l = 0; !to && l < NR_LEVELS && i != root.v; l++) {
		u32 parent = atomic32_load(&g->parent);

		to = walk_to(t, &g->sib_next, parent);
		i = parent;
		g = group_at(t, i);
		if (!g)
			return (struct memcg_id){ 0 };
	}
	if (to && !memcg_is_descendant(t, (struct memcg_id){ to }, root))
		to = 0;
	return (struct memcg_id){ to };
}

const char *memcg_name(const struct memcg_tree *t, struct memcg_id id)
{
	const struct group *g = group_of(t, id);

	return memcg_name_len(g) < MEMCG_NAME_MAX ? g->name : "?";
}

void memcg_path(const struct memcg_tree *t, struct memcg_id id, struct fmt *out)
{
	const struct group *part[NR_LEVELS], *g = group_at(t, id.v);
	char name[MEMCG_NAME_MAX + 1];
	u32 n = 0;

	while (g && n < NR_LEVELS && g != group_at(t, MEMCG_ROOT.v)) {
		part[n++] = g;
		g = group_at(t, atomic32_load(&g->parent));
	}
	if (n == 0)
		fmt_add(out, "/");
	while (n-- > 0) {
		memcpy(name, part[n]->name, MEMCG_NAME_MAX);
		name[memcg_name_len(part[n])] = 0;
		fmt_add(out, "/%s", name);
	}
}

u32 memcg_nr_descendants(const struct memcg_tree *t, struct memcg_id id)
{
	return atomic32_load(&group_of(t, id)->nr_descendants);
}

u32 memcg_nr_dying(const struct memcg_tree *t)
{
	return atomic32_load(&seg_head(t)->nr_dying);
}

u32 memcg_nr_max(const struct memcg_tree *t)
{
	(void)t;
	return NR_GROUPS_MAX;
}

/* ---- settings that are not counters ------------------------------------------------------ */

bool memcg_flag(const struct memcg_tree *t, struct memcg_id id, enum memcg_flag f)
{
	return atomic32_load(&group_of(t, id)->flags) & (1u << f);
}

void memcg_set_flag(struct memcg_tree *t, struct memcg_id id, enum memcg_flag f, bool on)
{
	if (on)
		(void)atomic32_fetch_or(&group_of(t, id)->flags, 1u << f);
	else
		(void)atomic32_fetch_and(&group_of(t, id)->flags, ~(1u << f));
}

u32 memcg_max_descendants(const struct memcg_tree *t, struct memcg_id id)
{
	return atomic32_load(&group_of(t, id)->max_descendants);
}

void memcg_set_max_descendants(struct memcg_tree *t, struct memcg_id id, u32 nr)
{
	atomic32_store(&group_of(t, id)->max_descendants, nr);
}

u32 memcg_max_depth(const struct memcg_tree *t, struct memcg_id id)
{
	return atomic32_load(&group_of(t, id)->max_depth);
}

void memcg_set_max_depth(struct memcg_tree *t, struct memcg_id id, u32 depth)
{
	atomic32_store(&group_of(t, id)->max_depth, depth);
}
