/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - the memory of a tree.
 *
 * Owns: creation, attachment, checking and growth of a segment; the mapping of
 * its chunks.
 * Does not own: what the records mean (memcg.c, objcg.c, member.c), the lock on
 * them (lock.c), nor the descriptor, which stays the caller's.
 * Entry points: memcg_tree_create(), memcg_tree_attach(), memcg_tree_view(),
 * memcg_tree_join(), memcg_tree_close(), segment_alloc().
 * Invariants: an index is handed out only after its memory exists (fallocate
 * before use: a hole on a full tmpfs is SIGBUS); nr_mapped never exceeds what
 * is mapped.
 * Lock ranks: TREE.  Nothing here waits for memory to be freed.
 *
 * The whole reservation is made once, without access, so that an area never
 * moves; a chunk is mapped over its place when it is first needed.  Records
 * appear in other processes without their doing: group_at() finds the index
 * above nr_mapped and comes to segment_map_more().
 */
#include "memcg/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/os.h"

#define SEG_RESERVE (SEG_FIRST_CHUNK + 2 * SEG_AREA_CHUNKS * SEG_CHUNK)
#define HEADER_CONST_BYTES                                                                         \
	(offsetof(struct seg_header, lock_owner) - offsetof(struct seg_header, version))
#define LOCK_AT offsetof(struct seg_header, lock_owner)
#define LOCK_BYTES (offsetof(struct seg_header, seq) - LOCK_AT)
#define SEG_HEAD_RESIDENT (3 * PAGE_SIZE) /* header, one member, some of the index */

static const size_t area_first[SEG_NR_AREAS] = { SEG_GROUPS_FIRST, SEG_OBJCGS_FIRST };
static const size_t record_size[SEG_NR_AREAS] = { sizeof(struct group), sizeof(struct objcg) };

/* Records of an area that exist with nr chunks beyond the first. */
static u32 area_capacity(enum seg_area a, u32 nr_chunks)
{
	return (u32)((area_first[a] + nr_chunks * SEG_CHUNK) / record_size[a]);
}

/* Where chunk n begins in the file. */
static u64 chunk_at(u32 n)
{
	return n ? SEG_FIRST_CHUNK + (u64)(n - 1) * SEG_CHUNK : 0;
}

/* ---- mapping ---------------------------------------------------------------- */

static int map_piece(const struct segment *s, char *addr, size_t len, u64 file_off)
{
	int prot = s->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
	long ret;

	if (!s->shared)
		return os_mprotect(addr, len, prot);
	ret = os_mmap(addr, len, prot, MAP_SHARED | MAP_FIXED, s->fd, (s64)file_off);
	return ret < 0 ? (int)ret : 0;
}

/* Chunk 0: the head with the first groups, then the first objcgs. */
static int map_first(struct segment *s)
{
	const size_t head = SEG_HEAD_BYTES + SEG_GROUPS_FIRST;
	int ret = map_piece(s, s->base, head, 0);

	if (!ret)
		ret = map_piece(s, s->area[SEG_OBJCGS], SEG_OBJCGS_FIRST, head);
	for (u32 a = 0; !ret && a < SEG_NR_AREAS; a++)
		atomic32_store(&s->nr_mapped[a], area_capacity(a, 0));
	return ret;
}

static s64 file_size(const struct segment *s)
{
	struct stat st;
	int ret = os_fstat(s->fd, &st);

	return ret < 0 ? ret : (s64)st.st_size;
}

static int map_chunk(struct segment *s, enum seg_area a, u32 n, u32 chunk)
{
	char *addr = s->area[a] + area_first[a] + n * SEG_CHUNK;
	int ret = map_piece(s, addr, SEG_CHUNK, chunk_at(chunk));
	u32 want = area_capacity(a, n + 1), old;

	if (ret)
		return ret;
	do {
		old = atomic32_load(&s->nr_mapped[a]);
	} while (old < want && !atomic32_cas(&s->nr_mapped[a], old, want));
	return 0;
}

bool segment_map_more(struct segment *s, enum seg_area a, u32 i)
{
	const struct area_head *ah = &((struct seg_header *)s->base)->area[a];
	u32 nr_chunks = atomic32_load(&ah->nr_chunks), chunk;
	s64 size;

	if (!s->shared || i == 0 || nr_chunks > SEG_AREA_CHUNKS)
		return false;
	if (i >= area_capacity(a, nr_chunks) || (size = file_size(s)) < 0)
		return false;
	for (u32 n = 0; n < nr_chunks; n++) {
		if (atomic32_load(&s->nr_mapped[a]) >= area_capacity(a, n + 1))
			continue;
		/* Written by another process: beyond the end would be SIGBUS. */
		chunk = ah->chunk[n];
		if (chunk == 0 || (u64)size < chunk_at(chunk + 1) || map_chunk(s, a, n, chunk))
			return false;
	}
	return i < atomic32_load(&s->nr_mapped[a]);
}

/* ---- growth: tree lock held --------------------------------------------------- */

static bool grow_area(struct memcg_tree *t, enum seg_area a)
{
	struct seg_header *h = seg_head(t);
	struct area_head *ah = &h->area[a];
	u32 n = atomic32_peek(&ah->nr_chunks), chunk = atomic32_peek(&h->nr_chunks);

	if (n >= SEG_AREA_CHUNKS || chunk >= SEG_MAX_CHUNKS)
		return false;
	if (t->seg->shared && os_fallocate(t->seg->fd, 0, chunk_at(chunk), SEG_CHUNK) < 0)
		return false;
	if (map_chunk(t->seg, a, n, chunk))
		return false;
	ah->chunk[n] = chunk;
	atomic32_store(&h->nr_chunks, chunk + 1);
	/* Pairs with the loads in segment_map_more(): chunk[n] is set. */
	atomic32_store(&ah->nr_chunks, n + 1);
	atomic32_store(&ah->nr_ready, area_capacity(a, n + 1));
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
		i = atomic32_peek(&ah->nr_high);
		if (i >= atomic32_peek(&ah->nr_ready) && !grow_area(t, a))
			return 0;
		if (!segment_has(t->seg, a, i))
			return 0;
		atomic32_store(&ah->nr_high, i + 1);
		if (!t->seg->shared)
			count_bytes(t->seg, record_size[a]);
	}
	/* Walkers may still look at the record that was here before. */
	sync_zero_words(t->seg->area[a] + i * record_size[a], record_size[a]);
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
	h->chunk_bytes = SEG_CHUNK;
}

static u64 inode_of(const char *path)
{
	struct stat st;

	return os_stat(path, &st) ? 0 : st.st_ino;
}

/*
 * Pids and start times mean something within one pid and time namespace only, and where
 * /proc is that one's: else everybody here would look dead to us, or we to them.
 */
static bool is_same_namespace(const struct seg_header *h)
{
	char self[16], target[16] = "";

	fmt_str(self, sizeof(self), "%d", os_getpid());
	if (os_syscall(SYS_readlink, "/proc/self", target, sizeof(target) - 1) < 0)
		return false;
	return !strcmp(self, target) && h->pid_ns == inode_of("/proc/self/ns/pid") &&
	       h->time_ns == inode_of("/proc/self/ns/time");
}

/* All but the lock, which is held.  What is zero stays untouched: writing to it would
 * make all of it resident. */
static void header_clear(struct memcg_tree *t)
{
	char *base = t->seg->base;

	for (size_t at = 0; at < SEG_HEAD_BYTES; at++)
		if (base[at] && (at < LOCK_AT || at >= LOCK_AT + LOCK_BYTES))
			base[at] = 0;
}

/* On memory that is zero. */
static void header_init(struct memcg_tree *t)
{
	struct seg_header *h = seg_head(t);

	header_expect(h);
	if (t->seg->shared) {
		h->pid_ns = inode_of("/proc/self/ns/pid");
		h->time_ns = inode_of("/proc/self/ns/time");
	}
	atomic32_store(&h->nr_chunks, 1);
	atomic32_store(&h->flags, SEG_RECURSIVEPROT);
	for (u32 a = 0; a < SEG_NR_AREAS; a++) {
		atomic32_store(&h->area[a].nr_ready, area_capacity(a, 0));
		atomic32_store(&h->area[a].nr_high, 1);
	}
	memcg_init_root(t);
	atomic64_store(&h->magic, SEG_MAGIC);
}

static bool area_ok(const struct seg_header *h, enum seg_area a, u32 nr_chunks, bool *used)
{
	const struct area_head *ah = &h->area[a];
	u32 n = atomic32_load(&ah->nr_chunks), high = atomic32_load(&ah->nr_high);

	if (n > SEG_AREA_CHUNKS || atomic32_load(&ah->nr_ready) != area_capacity(a, n))
		return false;
	if (high < 1 || high > area_capacity(a, n) || atomic32_load(&ah->free_head) >= high)
		return false;
	for (u32 i = 0; i < n; i++) {
		u32 chunk = ah->chunk[i];

		if (chunk == 0 || chunk >= nr_chunks || used[chunk])
			return false;
		used[chunk] = true;
	}
	return true;
}

static int header_check(const struct memcg_tree *t, s64 size)
{
	const struct seg_header *h = seg_head(t);
	const struct group *root = group_at(t, MEMCG_ROOT.v);
	struct seg_header want = { 0 };
	bool used[SEG_MAX_CHUNKS] = { false };
	u32 nr_chunks = atomic32_load(&h->nr_chunks);

	header_expect(&want);
	if (atomic64_load(&h->magic) != SEG_MAGIC ||
	    memcmp(&h->version, &want.version, HEADER_CONST_BYTES) != 0)
		return -EBADMSG;
	if (nr_chunks < 1 || nr_chunks > SEG_MAX_CHUNKS || (u64)size < chunk_at(nr_chunks))
		return -EBADMSG;
	for (u32 a = 0; a < SEG_NR_AREAS; a++)
		if (!area_ok(h, a, nr_chunks, used))
			return -EBADMSG;
	if (atomic32_load(&h->nr_members) > NR_MEMBERS)
		return -EBADMSG;
	if (atomic32_load(&root->state) != GROUP_ONLINE || atomic32_load(&root->parent) != 0 ||
	    atomic32_load(&root->depth) != 0)
		return -EBADMSG;
	return 0;
}

/* ---- open and close ----------------------------------------------------------------- */

static int segment_open(struct meta *meta, int fd, bool readonly, struct segment **ret_seg)
{
	struct segment *s = meta_alloc(meta, sizeof(*s));
	void *base;
	int ret;

	if (!s)
		return -ENOMEM;
	ret = os_mmap_anon(SEG_RESERVE, PROT_NONE, true, &base);
	if (ret < 0) {
		meta_free(meta, s, sizeof(*s));
		return ret;
	}
	os_name_mapping(base, SEG_RESERVE, "quire: tree");
	mutex_init(&s->lock, "tree", LOCK_RANK_TREE);
	s->meta = meta;
	s->base = base;
	s->area[SEG_GROUPS] = s->base + SEG_HEAD_BYTES;
	s->area[SEG_OBJCGS] = s->area[SEG_GROUPS] + SEG_GROUPS_FIRST + SEG_AREA_CHUNKS * SEG_CHUNK;
	s->fd = fd;
	s->shared = fd >= 0;
	s->readonly = readonly;
	*ret_seg = s;
	return 0;
}

static void segment_close(struct segment *s)
{
	struct meta *meta = s->meta;

	stat_sub(&meta->bytes, s->counted);
	os_munmap(s->base, SEG_RESERVE);
	meta_free(meta, s, sizeof(*s));
}

static struct memcg_tree *tree_new(struct segment *s, struct meta *meta)
{
	struct memcg_tree *t = meta_alloc(meta, sizeof(*t));

	if (!t)
		return NULL;
	t->seg = s;
	t->meta = meta;
	t->self = MEMBER_NOBODY;
	s->refs++;
	return t;
}

static void tree_free(struct memcg_tree *t)
{
	struct segment *s = t->seg;
	bool last = --s->refs == 0;

	meta_free(t->meta, t, sizeof(*t));
	if (last)
		segment_close(s);
}

/* Take a member record; the tree lock is free. */
static int tree_join(struct memcg_tree *t, enum memcg_attach how)
{
	int ret = segment_lock(t);

	if (ret)
		return ret;
	segment_change_begin(t);
	ret = member_claim(t, how);
	segment_change_end(t);
	segment_unlock(t);
	return ret;
}

int memcg_tree_create(struct meta *meta, struct memcg_tree **ret_tree)
{
	struct segment *s;
	struct memcg_tree *t;
	int ret = segment_open(meta, -1, false, &s);

	if (ret)
		return ret;
	t = tree_new(s, meta);
	if (!t) {
		segment_close(s);
		return -ENOMEM;
	}
	ret = map_first(s);
	if (ret)
		goto out_free;
	count_bytes(s, SEG_HEAD_RESIDENT);
	mutex_lock(&s->lock);
	header_init(t);
	mutex_unlock(&s->lock);
	ret = tree_join(t, MEMCG_ATTACH_MORE);
	if (ret)
		goto out_free;
	*ret_tree = t;
	return 0;

out_free:
	tree_free(t);
	return ret;
}

/* The memory of the first chunk, of a new file too. */
static int map_segment(struct memcg_tree *t, s64 *ret_size)
{
	const struct seg_header *h = seg_head(t);
	u64 magic;
	int ret;

	*ret_size = file_size(t->seg);
	if (*ret_size == 0 && !t->seg->readonly) {
		/* Others may be here too: they all find the same zeros. */
		ret = os_fallocate(t->seg->fd, 0, 0, SEG_FIRST_CHUNK);
		if (ret < 0)
			return ret;
		*ret_size = file_size(t->seg);
	}
	if (*ret_size < 0)
		return (int)*ret_size;
	if (*ret_size < (s64)SEG_FIRST_CHUNK)
		return -EBADMSG;
	ret = map_first(t->seg);
	if (ret)
		return ret;
	/* Before the lock word of what is no segment is written to. */
	magic = atomic64_load(&h->magic);
	if (magic == 0)
		return t->seg->readonly ? -EBADMSG : 0;
	return magic == SEG_MAGIC && h->version == SEG_VERSION ? 0 : -EBADMSG;
}

/* Check what is mapped, or make a segment of it; the tree lock is held, or it is read
 * only.  The dirty word is not looked at yet. */
static int load_segment(struct memcg_tree *t, s64 size)
{
	struct seg_header *h = seg_head(t);
	int ret;

	if (atomic64_load(&h->magic) == 0) {
		if (size != (s64)SEG_FIRST_CHUNK)
			return -EBADMSG;
		/* Perhaps its first owner was killed before the end. */
		header_clear(t);
		header_init(t);
	}
	ret = header_check(t, size);
	for (u32 a = 0; !ret && a < SEG_NR_AREAS; a++)
		if (!segment_has(t->seg, a, atomic32_load(&h->area[a].nr_ready) - 1))
			ret = -EBADMSG;
	return ret;
}

static int load_segment_locked(struct memcg_tree *t, enum memcg_attach how)
{
	s64 size;
	int ret;

	if (how == MEMCG_ATTACH_NOBODY && file_size(t->seg) == 0)
		return -EBADMSG;
	ret = map_segment(t, &size);
	if (ret)
		return ret;
	/* Before the lock: its owner may be alive and look dead. */
	if (atomic64_load(&seg_head(t)->magic) && !is_same_namespace(seg_head(t)))
		return -EXDEV;
	if (how == MEMCG_ATTACH_NEW_IMAGE)
		segment_lock_forget_image(t);
	segment_lock_raw(t);
	ret = load_segment(t, size);
	if (!ret && !is_same_namespace(seg_head(t)))
		ret = -EXDEV;
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
	ret = segment_open(meta, fd, false, &s);
	if (ret)
		return ret;
	t = tree_new(s, meta);
	if (!t) {
		segment_close(s);
		return -ENOMEM;
	}
	ret = load_segment_locked(t, how);
	if (!ret && how != MEMCG_ATTACH_NOBODY)
		ret = tree_join(t, how);
	if (ret) {
		tree_free(t);
		return ret;
	}
	*ret_tree = t;
	return 0;
}

void memcg_tree_forget_fd(struct memcg_tree *t)
{
	t->seg->fd = -1;
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
	s64 size;
	int ret;

	if (fd < 0)
		return -EBADF;
	ret = segment_open(meta, fd, true, &s);
	if (ret)
		return ret;
	t = tree_new(s, meta);
	if (!t) {
		segment_close(s);
		return -ENOMEM;
	}
	ret = map_segment(t, &size);
	if (!ret)
		ret = load_segment(t, size);
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
