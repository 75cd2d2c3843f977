/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - the memory of a tree.
 *
 * Owns: creation, attachment, checking and growth of a segment.
 * Does not own: what the records mean (memcg.c, objcg.c, member.c), the lock on
 * them (lock.c), nor the descriptor, which is not needed any more once the
 * segment is mapped.
 * Entry points: memcg_tree_create(), memcg_tree_attach(), memcg_tree_view(),
 * memcg_tree_join(), memcg_tree_close(), segment_alloc().
 * Invariants: an index is handed out only after its memory exists: a hole on a
 * full tmpfs is SIGBUS, so it is filled by madvise(2), which says no.
 * Lock ranks: TREE.  Nothing here waits for memory to be freed.
 *
 * All of it is mapped at once and stays where it is: records appear in other
 * processes without their doing, and those hold no descriptor by then.
 */
#include "memcg/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/os.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HEADER_CONST_BYTES                                                                         \
	(offsetof(struct seg_header, lock_owner) - offsetof(struct seg_header, version))
#define LOCK_AT offsetof(struct seg_header, lock_owner)
#define LOCK_BYTES (offsetof(struct seg_header, seq) - LOCK_AT)
#define SEG_HEAD_RESIDENT (3 * PAGE_SIZE) /* header, one member, some of the index */

static const struct {
	u64 at;
	size_t record;
	u32 nr_max;
} area_of[SEG_NR_AREAS] = {
	[SEG_MEMBERS] = { SEG_MEMBERS_AT, sizeof(struct member), NR_MEMBERS },
	[SEG_GROUPS] = { SEG_GROUPS_AT, sizeof(struct group), NR_GROUPS_MAX },
	[SEG_OBJCGS] = { SEG_OBJCGS_AT, sizeof(struct objcg), NR_OBJCGS_MAX },
};

/* ---- growth: tree lock held --------------------------------------------------- */

/* Memory for [from, to) of the segment. */
static int make_memory(const struct segment *s, u64 from, u64 to)
{
	int ret;

	if (!s->shared)
		return os_commit(s->base + from, to - from);
	ret = os_madvise(s->base + from, to - from, MADV_POPULATE_WRITE);
	/* Linux before 5.14 makes it when it is touched, if it can. */
	return ret == -EINVAL ? 0 : ret;
}

bool segment_commit(struct memcg_tree *t, enum seg_area a, u32 nr)
{
	struct area_head *ah = &seg_head(t)->area[a];
	u64 has = align_up(atomic32_peek(&ah->nr_ready) * area_of[a].record, PAGE_SIZE);
	u64 end = align_up(area_of[a].at + area_of[a].nr_max * area_of[a].record, PAGE_SIZE);
	/* A file's memory is filled as it is made: a run of few processes needs little. */
	u64 step = t->seg->shared ? min_of(max_of(has, PAGE_SIZE), SEG_STEP) : SEG_STEP;
	u64 from = area_of[a].at + has, to;

	/* First: nr_ready is what another process says. */
	if (nr > area_of[a].nr_max)
		return false;
	if (nr <= atomic32_peek(&ah->nr_ready))
		return true;
	to = min_of(end, max_of(from + step, area_of[a].at + nr * area_of[a].record));
	to = align_up(to, PAGE_SIZE);
	if (make_memory(t->seg, from, to))
		return false;
	atomic32_store(&ah->nr_ready, (u32)min_of((to - area_of[a].at) / area_of[a].record,
						  (u64)area_of[a].nr_max));
	return true;
}

static void count_bytes(struct segment *s, size_t bytes)
{
	s->counted += bytes;
	stat_add(&s->meta->bytes, bytes);
}

static struct atomic32 *free_link(const struct memcg_tree *t, enum seg_area a, u32 i)
{
	if (a == SEG_GROUPS)
		return group_at(t, i) ? &group_at(t, i)->hash_next : NULL;
	return objcg_at(t, i) ? &objcg_at(t, i)->next : NULL;
}

u32 segment_alloc(struct memcg_tree *t, enum seg_area a)
{
	struct area_head *ah = &seg_head(t)->area[a];
	struct atomic32 *link = free_link(t, a, atomic32_peek(&ah->free_head));
	u32 i;

	mutex_assert_held(&t->seg->lock);
	if (link) {
		i = atomic32_peek(&ah->free_head);
		atomic32_store(&ah->free_head, atomic32_peek(link));
	} else {
		i = seg_high(t, a, area_of[a].nr_max);
		if (!segment_commit(t, a, i + 1))
			return 0;
		atomic32_store(&ah->nr_high, i + 1);
		if (!t->seg->shared)
			count_bytes(t->seg, area_of[a].record);
	}
	/* Walkers may still look at the record that was here before. */
	sync_zero_words(t->seg->base + area_of[a].at + i * area_of[a].record, area_of[a].record);
	return i;
}

void segment_free(struct memcg_tree *t, enum seg_area a, u32 i)
{
	struct area_head *ah = &seg_head(t)->area[a];

	mutex_assert_held(&t->seg->lock);
	atomic32_store(free_link(t, a, i), atomic32_peek(&ah->free_head));
	atomic32_store(&ah->free_head, i);
}

/* ---- what a header must look like ------------------------------------------------ */

/* All but the magic, which is written when the rest is there. */
static void header_expect(struct seg_header *h)
{
	h->version = SEG_VERSION;
	h->header_bytes = sizeof(struct seg_header);
	h->member_bytes = sizeof(struct member);
	h->group_bytes = sizeof(struct group);
	h->objcg_bytes = sizeof(struct objcg);
	h->nr_stats = MEMCG_NR_STATS;
	h->nr_events = MEMCG_NR_EVENTS;
	h->seg_bytes = SEG_BYTES;
}

static u64 inode_of(const char *path)
{
	struct stat st;

	return os_stat(path, &st) ? 0 : st.st_ino;
}

static bool is_own_proc(void)
{
	char self[16], target[16] = "";

	fmt_str(self, sizeof(self), "%d", os_getpid());
	return os_syscall(SYS_readlink, "/proc/self", target, sizeof(target) - 1) >= 0 &&
	       !strcmp(self, target);
}

/*
 * Pids and start times mean something within one pid and time namespace only, and where
 * /proc is that one's: else everybody here would look dead to us, or we to them.
 */
bool segment_same_namespace(const struct memcg_tree *t)
{
	const struct seg_header *h = seg_head(t);

	return is_own_proc() && h->pid_ns == inode_of("/proc/self/ns/pid") &&
	       h->time_ns == inode_of("/proc/self/ns/time");
}

/* All but the lock, which is held. */
static void header_clear(struct memcg_tree *t)
{
	memset(t->seg->base, 0, LOCK_AT);
	memset(t->seg->base + LOCK_AT + LOCK_BYTES, 0, SEG_HEAD_BYTES - LOCK_AT - LOCK_BYTES);
}

/* On memory that is zero. */
static int header_init(struct memcg_tree *t)
{
	struct seg_header *h = seg_head(t);

	header_expect(h);
	if (t->seg->shared) {
		if (!is_own_proc())
			return -EXDEV;
		h->pid_ns = inode_of("/proc/self/ns/pid");
		h->time_ns = inode_of("/proc/self/ns/time");
	}
	atomic32_store(&h->flags, SEG_RECURSIVEPROT);
	atomic32_store(&h->area[SEG_GROUPS].nr_high, 1);
	atomic32_store(&h->area[SEG_OBJCGS].nr_high, 1);
	if (!memcg_init_root(t))
		return -ENOSPC;
	atomic64_store(&h->magic, SEG_MAGIC);
	return 0;
}

static bool area_ok(const struct seg_header *h, enum seg_area a)
{
	const struct area_head *ah = &h->area[a];
	u32 high = atomic32_load(&ah->nr_high), ready = atomic32_load(&ah->nr_ready);

	return ready <= area_of[a].nr_max && high <= max_of(ready, 1u) &&
	       (a == SEG_MEMBERS || (high >= 1 && atomic32_load(&ah->free_head) < high));
}

static int header_check(const struct memcg_tree *t)
{
	const struct seg_header *h = seg_head(t);
	const struct group *root = group_at(t, MEMCG_ROOT.v);
	struct seg_header want = { 0 };

	header_expect(&want);
	if (atomic64_load(&h->magic) != SEG_MAGIC ||
	    memcmp(&h->version, &want.version, HEADER_CONST_BYTES) != 0)
		return -EBADMSG;
	for (u32 a = 0; a < SEG_NR_AREAS; a++)
		if (!area_ok(h, a))
			return -EBADMSG;
	if (!root || atomic32_load(&root->state) != GROUP_ONLINE ||
	    atomic32_load(&root->parent) != 0 || atomic32_load(&root->depth) != 0)
		return -EBADMSG;
	return 0;
}

/* ---- open and close ----------------------------------------------------------------- */

/* A new file becomes as long as it will ever be; only holes yet. */
static int file_prepare(int fd, bool may_make, struct stat *ret_st)
{
	int ret = os_fstat(fd, ret_st);

	if (ret < 0)
		return ret;
	if (ret_st->st_size == 0 && may_make) {
		/* Others may be here too: they all do the same. */
		ret = os_ftruncate(fd, SEG_BYTES);
		return ret < 0 ? ret : 0;
	}
	return ret_st->st_size == (s64)SEG_BYTES ? 0 : -EBADMSG;
}

static int segment_map(struct segment *s, int fd)
{
	int prot = s->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
	void *base;
	long ret;

	if (s->shared) {
		ret = os_mmap(NULL, SEG_BYTES, prot, MAP_SHARED | MAP_NORESERVE, fd, 0);
		if (ret < 0)
			return (int)ret;
		s->base = (char *)ret;
		/* Who dumps core would fill every hole of the file by looking at it. */
		(void)os_madvise(s->base, SEG_BYTES, MADV_DONTDUMP);
		return 0;
	}
	ret = os_mmap_anon(SEG_BYTES, PROT_NONE, true, &base);
	if (ret < 0)
		return (int)ret;
	s->base = base;
	os_name_mapping(base, SEG_BYTES, "quire: tree");
	return make_memory(s, 0, SEG_HEAD_BYTES);
}

static int segment_open(struct meta *meta, int fd, bool readonly, bool may_make,
			struct segment **ret_seg)
{
	struct segment *s;
	struct stat st = { .st_ino = 0 };
	int ret = fd >= 0 ? file_prepare(fd, may_make, &st) : 0;

	if (ret)
		return ret;
	s = meta_alloc(meta, sizeof(*s));
	if (!s)
		return -ENOMEM;
	mutex_init(&s->lock, "tree", LOCK_RANK_TREE);
	s->meta = meta;
	s->shared = fd >= 0;
	s->readonly = readonly;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	ret = segment_map(s, fd);
	if (ret) {
		meta_free(meta, s, sizeof(*s));
		return ret;
	}
	*ret_seg = s;
	return 0;
}

static void segment_close(struct segment *s)
{
	struct meta *meta = s->meta;

	stat_sub(&meta->bytes, s->counted);
	os_munmap(s->base, SEG_BYTES);
	meta_free(meta, s, sizeof(*s));
}

static struct memcg_tree *tree_new(struct segment *s, struct meta *meta)
{
	/* Touched as far as there are handles. */
	struct memcg_tree *t = meta_reserve("quire: handles", sizeof(*t));

	if (!t)
		return NULL;
	t->seg = s;
	t->meta = meta;
	t->nr_handles = 1;
	t->self = t->fork_member = MEMBER_NOBODY;
	s->refs++;
	return t;
}

static void tree_free(struct memcg_tree *t)
{
	struct segment *s = t->seg;
	bool last = --s->refs == 0;

	stat_sub(&t->meta->bytes, (t->nr_handles - 1) * sizeof(struct atomic32));
	meta_unreserve(t, sizeof(*t));
	if (last)
		segment_close(s);
}

/* Take a member record; the tree lock is free. */
static int tree_join(struct memcg_tree *t, enum memcg_attach how)
{
	int ret = segment_lock_wait(t);

	if (ret)
		return ret;
	segment_change_begin(t);
	ret = member_claim(t, how, &t->self);
	segment_change_end(t);
	segment_unlock(t);
	return ret;
}

int memcg_tree_create(struct meta *meta, struct memcg_tree **ret_tree)
{
	struct segment *s;
	struct memcg_tree *t;
	int ret = segment_open(meta, -1, false, true, &s);

	if (ret)
		return ret;
	t = tree_new(s, meta);
	if (!t) {
		segment_close(s);
		return -ENOMEM;
	}
	count_bytes(s, SEG_HEAD_RESIDENT);
	mutex_lock(&s->lock);
	ret = header_init(t);
	mutex_unlock(&s->lock);
	if (!ret)
		ret = tree_join(t, MEMCG_ATTACH_MORE);
	if (ret) {
		tree_free(t);
		return ret;
	}
	*ret_tree = t;
	return 0;
}

/* Check what is mapped, or make a segment of it.  The dirty word is not looked at yet. */
static int load_segment(struct memcg_tree *t, enum memcg_attach how)
{
	struct seg_header *h = seg_head(t);
	u64 magic = atomic64_load(&h->magic);
	int ret = 0;

	/* Before the lock word of what is no segment is written to. */
	if (magic && (magic != SEG_MAGIC || h->version != SEG_VERSION))
		return -EBADMSG;
	if (!magic && how == MEMCG_ATTACH_NOBODY)
		return -EBADMSG;
	/* Before the lock: its owner may be alive and look dead. */
	if (magic && !segment_same_namespace(t))
		return -EXDEV;
	if (!magic && make_memory(t->seg, 0, SEG_HEAD_BYTES))
		return -ENOSPC;
	if (how == MEMCG_ATTACH_NEW_IMAGE)
		segment_lock_forget_image(t);
	segment_lock_raw(t);
	if (atomic64_load(&h->magic) == 0) {
		/* Perhaps its first owner was killed before the end. */
		header_clear(t);
		ret = header_init(t);
	} else if (!magic && !segment_same_namespace(t)) {
		ret = -EXDEV; /* another was first since then */
	}
	if (!ret)
		ret = header_check(t);
	segment_unlock(t);
	return ret;
}

int memcg_tree_attach(struct meta *meta, int fd, enum memcg_attach how,
		      struct memcg_tree **ret_tree)
{
	struct segment *s;
	struct memcg_tree *t;
	int ret;

	if (fd < 0)
		return -EBADF;
	ret = segment_open(meta, fd, false, how != MEMCG_ATTACH_NOBODY, &s);
	if (ret)
		return ret;
	t = tree_new(s, meta);
	if (!t) {
		segment_close(s);
		return -ENOMEM;
	}
	ret = load_segment(t, how);
	if (!ret && how != MEMCG_ATTACH_NOBODY && how != MEMCG_ATTACH_FOUNDER)
		ret = tree_join(t, how);
	if (ret) {
		tree_free(t);
		return ret;
	}
	*ret_tree = t;
	return 0;
}

int memcg_tree_join(struct meta *meta, struct memcg_tree *of, struct memcg_tree **ret_tree)
{
	struct memcg_tree *t = NULL;
	int ret;

	if (of->seg->readonly)
		return -EROFS;
	mutex_lock(&of->seg->lock);
	t = tree_new(of->seg, meta);
	mutex_unlock(&of->seg->lock);
	if (!t)
		return -ENOMEM;
	ret = tree_join(t, MEMCG_ATTACH_MORE);
	if (ret) {
		mutex_lock(&of->seg->lock);
		tree_free(t); /* `of` keeps the segment */
		mutex_unlock(&of->seg->lock);
		return ret;
	}
	*ret_tree = t;
	return 0;
}

int memcg_tree_view(struct meta *meta, int fd, struct memcg_tree **ret_tree)
{
	struct segment *s;
	struct memcg_tree *t;
	int ret;

	if (fd < 0)
		return -EBADF;
	ret = segment_open(meta, fd, true, false, &s);
	if (ret)
		return ret;
	t = tree_new(s, meta);
	if (!t) {
		segment_close(s);
		return -ENOMEM;
	}
	ret = header_check(t);
	if (ret) {
		tree_free(t);
		return ret;
	}
	*ret_tree = t;
	return 0;
}

void memcg_tree_close(struct memcg_tree *t)
{
	struct segment *s = t->seg;
	bool last;

	if (!s->readonly && segment_lock(t) == 0) {
		segment_change_begin(t);
		member_leave(t, t->self);
		segment_change_end(t);
		segment_unlock(t);
	}
	mutex_lock(&s->lock);
	last = s->refs == 1;
	if (!last)
		tree_free(t);
	mutex_unlock(&s->lock);
	if (last)
		tree_free(t);
}

void memcg_tree_set_upcalls(struct memcg_tree *t, const struct memcg_upcalls *up)
{
	t->up = *up;
}

const struct memcg_upcalls *memcg_tree_upcalls(const struct memcg_tree *t)
{
	return &t->up;
}
