/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_segment.c - the memory of a tree: sharing, growth, damage.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include <sys/stat.h>

#include "base/os.h"
#include "fixture.h"
#include "memcg/counters.h"
#include "memcg/internal.h"

/* Two members, each with a mapping of its own. */
struct shared {
	struct meta meta;
	int fd;
	struct memcg_tree *t[2];
};

static void shared_init(struct shared *s)
{
	memset(s, 0, sizeof(*s));
	s->fd = os_memfd_create("quire-test", 1 /* MFD_CLOEXEC */);
	ASSERT_OK(s->fd);
	for (int n = 0; n < 2; n++)
		ASSERT_EQ(memcg_tree_attach(&s->meta, s->fd, MEMCG_ATTACH_MORE, &s->t[n]), 0);
}

static void shared_exit(struct shared *s)
{
	for (int n = 0; n < 2; n++)
		if (s->t[n])
			memcg_tree_close(s->t[n]);
	os_close(s->fd);
	ASSERT_EQ(stat_read(&s->meta.bytes), 0);
}

TEST(two_members_see_one_tree)
{
	struct shared s;
	struct memcg_id a, b;
	struct objcg_id o[2];

	shared_init(&s);
	ASSERT_NE(member_self(s.t[0]), NULL);
	a = group_make(s.t[0], "web/api");
	b = group_find(s.t[1], "web/api");
	ASSERT_EQ(a.v, b.v);
	o[0] = handle_of(s.t[0], a);
	o[1] = handle_of(s.t[1], a);
	ASSERT_NE(objcg_of(s.t[0], o[0]), objcg_of(s.t[1], o[1]));
	memcg_charge_force(s.t[0], o[0], 10);
	memcg_charge_force(s.t[1], o[1], 20);
	ASSERT_EQ(mem_of(s.t[0], MEMCG_ROOT), 30);
	memcg_check(s.t[1]);
	ASSERT_TRUE(member_alive(s.t[0], 0));
	ASSERT_TRUE(member_alive(s.t[0], 1));
	ASSERT_NULL(member_info(s.t[0], 2));
	shared_exit(&s);
}

/* What a member leaves behind: nothing charged, its counts, its report. */
TEST(leaving_gives_back)
{
	struct shared s;
	struct memcg_id a;
	struct objcg_id o;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	o = handle_of(s.t[1], a);
	memcg_charge_force(s.t[1], o, 20);
	memcg_zswap_charge(s.t[1], o, 5000);
	memcg_stat_add(s.t[1], o, MEMCG_STAT_ANON, 20);
	memcg_stat_add(s.t[1], o, MEMCG_STAT_PGFAULT, 5);
	memcpy(member_self(s.t[1])->comm, "gone", 5);
	ASSERT_EQ(mem_of(s.t[0], a), 22);
	memcg_tree_close(s.t[1]);
	s.t[1] = NULL;
	memcg_check(s.t[0]);
	ASSERT_EQ(mem_of(s.t[0], a), 0);
	ASSERT_EQ(memcg_zswap_bytes(s.t[0], a), 0);
	ASSERT_EQ(memcg_stat_read(s.t[0], a, MEMCG_STAT_ANON), 0);
	ASSERT_EQ(memcg_stat_read(s.t[0], a, MEMCG_STAT_ZSWAP), 0);
	ASSERT_EQ(memcg_stat_read(s.t[0], a, MEMCG_STAT_PGFAULT), 5);
	ASSERT_FALSE(member_alive(s.t[0], 1));
	ASSERT_STR_EQ(member_info(s.t[0], 1)->comm, "gone");
	ASSERT_GT(member_info(s.t[0], 1)->end_ns, 0);
	shared_exit(&s);
}

/* A record is reused only when every member that had a handle there let go. */
TEST(release_by_all_members)
{
	struct shared s;
	struct memcg_id a, parent;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	(void)handle_of(s.t[1], a);
	ASSERT_EQ(memcg_remove(s.t[0], a, &parent), 0);
	memcg_release(s.t[0], a);
	ASSERT_EQ(memcg_next_offline(s.t[0], (struct memcg_id){ 0 }).v, 0);
	ASSERT_EQ(memcg_next_offline(s.t[1], (struct memcg_id){ 0 }).v, a.v);
	ASSERT_NE(group_make(s.t[0], "b").v, a.v);
	memcg_release(s.t[1], a);
	ASSERT_EQ(group_make(s.t[0], "c").v, a.v);
	shared_exit(&s);
}

/* A member that never gets to it keeps the record and nothing else. */
TEST(stopped_member)
{
	struct shared s;
	struct memcg_id a, b, id, over, parent;
	struct objcg_id o;
	u32 first, last = 0;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	b = group_make(s.t[0], "a/b");
	o = handle_of(s.t[1], b);
	memcg_charge_force(s.t[1], o, 33);
	memcg_zswap_charge(s.t[1], o, 5000);
	ASSERT_EQ(memcg_swap_try_charge(s.t[1], o, 4), 0);
	ASSERT_EQ(memcg_remove(s.t[0], b, &parent), 0);
	memcg_release(s.t[0], b);
	/* From here on s.t[1] is stopped, and what it has is the parent's. */
	ASSERT_EQ(mem_of(s.t[0], a), 35);
	ASSERT_EQ(objcg_memcg(s.t[1], o).v, a.v);
	ASSERT_NE(group_make(s.t[0], "a/b").v, b.v);
	first = group_make(s.t[0], "a/c").v;
	group_drop(s.t[0], group_find(s.t[0], "a/c"));
	for (u32 n = 0; n < 1000; n++) {
		id = group_make(s.t[0], "a/c");
		last = max_of(last, id.v);
		group_drop(s.t[0], id);
	}
	ASSERT_EQ(last, first);
	group_drop(s.t[0], group_find(s.t[0], "a/b"));
	ASSERT_EQ(memcg_remove(s.t[0], a, &parent), 0);
	memcg_release(s.t[0], a);
	ASSERT_EQ(parent.v, MEMCG_ROOT.v);
	ASSERT_EQ(mem_of(s.t[0], MEMCG_ROOT), 35);
	ASSERT_EQ(memcg_nr_descendants(s.t[0], MEMCG_ROOT), 0);
	memcg_check(s.t[0]);
	/* It goes on: its charges and its limit are those of the group above. */
	memcg_set_max(s.t[0], MEMCG_ROOT, COUNTER_MEMORY, 36);
	ASSERT_EQ(memcg_try_charge(s.t[1], NULL, o, 1, &over), 0);
	ASSERT_EQ(memcg_try_charge(s.t[1], NULL, o, 1, &over), -ENOMEM);
	ASSERT_EQ(over.v, MEMCG_ROOT.v);
	memcg_uncharge(s.t[1], NULL, o, 34);
	memcg_zswap_uncharge(s.t[1], o, 5000);
	memcg_swap_uncharge(s.t[1], o, 4);
	ASSERT_EQ(mem_of(s.t[0], MEMCG_ROOT), 0);
	ASSERT_GT(memcg_nr_dying(s.t[0]), 0);
	for (id.v = 0; (id = memcg_next_offline(s.t[1], (struct memcg_id){ 0 })).v;)
		memcg_release(s.t[1], id);
	ASSERT_EQ(memcg_nr_dying(s.t[0]), 0);
	shared_exit(&s);
}

/* Nobody else had a handle: the record is free at once, and others have nothing to do. */
TEST(removal_that_concerns_nobody)
{
	struct memcg_id a, parent;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	ASSERT_EQ(memcg_remove(s.t[0], a, &parent), 0);
	memcg_release(s.t[0], a);
	ASSERT_EQ(memcg_nr_dying(s.t[0]), 0);
	ASSERT_EQ(memcg_nr_unreleased(s.t[1]), 1);
	ASSERT_EQ(memcg_next_offline(s.t[1], (struct memcg_id){ 0 }).v, 0);
	ASSERT_EQ(memcg_nr_unreleased(s.t[1]), 0);
	shared_exit(&s);
}

/* execve(2) of a program that does not join: the process lives, its memory is gone. */
TEST(replaced_member_is_reaped)
{
	struct memcg_id a;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	memcg_charge_force(s.t[1], handle_of(s.t[1], a), 33);
	member_self(s.t[1])->pid = getppid();
	atomic64_store(&seg_member(s.t[1], 1)->image, os_process_image(getppid()));
	ASSERT_NE(atomic64_load(&seg_member(s.t[1], 1)->image), 0);
	ASSERT_FALSE(member_reap(s.t[0]));
	(void)atomic64_fetch_add(&seg_member(s.t[1], 1)->image, 16);
	ASSERT_TRUE(member_reap(s.t[0]));
	ASSERT_EQ(mem_of(s.t[0], a), 0);
	shared_exit(&s);
}

/* ... and a member that leaves has let go of everything. */
TEST(leaving_releases)
{
	struct shared s;
	struct memcg_id a, parent;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	(void)handle_of(s.t[1], a);
	ASSERT_EQ(memcg_remove(s.t[0], a, &parent), 0);
	memcg_release(s.t[0], a);
	memcg_tree_close(s.t[1]);
	s.t[1] = NULL;
	ASSERT_EQ(memcg_nr_dying(s.t[0]), 0);
	shared_exit(&s);
}

TEST(dead_member_is_found_at_attach)
{
	struct memcg_tree *third;
	struct meta meta = { 0 };
	struct memcg_id a;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	memcg_charge_force(s.t[1], handle_of(s.t[1], a), 33);
	ASSERT_EQ(member_set_home(s.t[1], a), 0);
	member_self(s.t[1])->pid = 0x7fffffff; /* not us */
	ASSERT_EQ(memcg_tree_attach(&meta, s.fd, MEMCG_ATTACH_MORE, &third), 0);
	ASSERT_FALSE(member_alive(s.t[0], 1));
	ASSERT_TRUE(member_alive(s.t[0], 2));
	ASSERT_EQ(mem_of(third, a), 0);
	ASSERT_FALSE(memcg_populated(third, a));
	memcg_check(third);
	memcg_tree_close(third);
	shared_exit(&s);
}

/* execve(2): a new program with the number of the old one, whose memory is gone. */
TEST(new_image_replaces_the_old)
{
	struct memcg_tree *third;
	struct meta meta = { 0 };
	struct memcg_id a;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	memcg_charge_force(s.t[1], handle_of(s.t[1], a), 33);
	ASSERT_EQ(memcg_tree_attach(&meta, s.fd, MEMCG_ATTACH_NEW_IMAGE, &third), 0);
	ASSERT_FALSE(member_alive(third, 0));
	ASSERT_NULL(member_info(third, 2)); /* it goes on under the record it had */
	ASSERT_EQ(mem_of(third, a), 0);
	memcg_check(third);
	memcg_tree_close(third);
	shared_exit(&s);
}

TEST(as_many_members_as_there_may_be)
{
	static struct memcg_tree *t[MEMCG_MEMBERS_MAX];
	struct memcg_tree *more;
	struct meta meta = { 0 };
	struct fixture f;

	fixture_init(&f);
	for (u32 n = 1; n < MEMCG_MEMBERS_MAX; n++)
		ASSERT_EQ(memcg_tree_join(&meta, f.t, &t[n]), 0);
	ASSERT_EQ(memcg_tree_join(&meta, f.t, &more), -EUSERS);
	ASSERT_EQ(memcg_tree_join(&meta, f.t, &more), -EUSERS);
	ASSERT_EQ(member_nr_refused(f.t), 2u);
	memcg_tree_close(t[7]);
	ASSERT_EQ(memcg_tree_join(&meta, f.t, &t[7]), 0);
	ASSERT_TRUE(member_alive(f.t, 7));
	for (u32 n = 1; n < MEMCG_MEMBERS_MAX; n++)
		memcg_tree_close(t[n]);
	ASSERT_EQ(stat_read(&meta.bytes), 0);
	fixture_exit(&f);
}

TEST(view_reads_only)
{
	struct memcg_tree *v;
	struct objcg_id o;
	struct memcg_id a, id;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	memcg_charge_force(s.t[0], handle_of(s.t[0], a), 5);
	ASSERT_EQ(memcg_tree_view(&s.meta, s.fd, &v), 0);
	ASSERT_EQ(mem_of(v, group_find(v, "a")), 5);
	ASSERT_EQ(memcg_create(v, MEMCG_ROOT, "b", &id), -EROFS);
	ASSERT_EQ(memcg_remove(v, a, &id), -EROFS);
	ASSERT_EQ(objcg_get(v, a, &o), -EROFS);
	/* Groups that appear after the view was opened. */
	for (int n = 0; n < 3000; n++) {
		char name[16];

		fmt_str(name, sizeof(name), "g%d", n);
		ASSERT_EQ(memcg_create(s.t[0], a, name, &id), 0);
	}
	ASSERT_EQ(group_find(v, "a/g2999").v, id.v);
	ASSERT_EQ(memcg_nr_descendants(v, a), 3000);
	memcg_tree_close(v);
	shared_exit(&s);
}

/* Who only removes: no member, and no handle to wait for. */
TEST(nobody_removes)
{
	struct memcg_tree *t;
	struct memcg_id a, b, parent;
	struct objcg_id o;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	b = group_make(s.t[0], "a/b");
	ASSERT_EQ(memcg_tree_attach(&s.meta, s.fd, MEMCG_ATTACH_NOBODY, &t), 0);
	ASSERT_NULL(member_info(t, 2));
	ASSERT_EQ(memcg_remove(t, a, &parent), -EBUSY);
	/* Charges are the parent's at once, the record waits for the members. */
	o = handle_of(s.t[1], b);
	memcg_charge_force(s.t[1], o, 9);
	ASSERT_EQ(memcg_remove(t, b, &parent), 0);
	ASSERT_EQ(parent.v, a.v);
	ASSERT_EQ(objcg_memcg(s.t[1], o).v, a.v);
	ASSERT_EQ(memcg_nr_dying(t), 1);
	ASSERT_NE(group_make(s.t[0], "d").v, b.v);
	memcg_release(s.t[0], b);
	ASSERT_EQ(memcg_next_offline(s.t[1], (struct memcg_id){ 0 }).v, b.v);
	memcg_release(s.t[1], b);
	ASSERT_EQ(memcg_nr_dying(t), 0);
	ASSERT_EQ(objcg_lists(s.t[1], o).v, a.v);
	/* There are none, but those that are quiet: it is free at once. */
	memcg_tree_close(s.t[1]);
	s.t[1] = NULL;
	ASSERT_EQ(member_set_quiet(s.t[0], true), 0);
	ASSERT_EQ(memcg_remove(t, a, &parent), 0);
	ASSERT_EQ(memcg_nr_dying(t), 0);
	ASSERT_EQ(group_make(s.t[0], "c").v, a.v);
	memcg_check(t);
	memcg_tree_close(t);
	shared_exit(&s);
}

TEST(nobody_makes_no_tree)
{
	struct meta meta = { 0 };
	struct memcg_tree *t;
	struct stat st;
	int fd = os_memfd_create("quire-test", 1 /* MFD_CLOEXEC */);

	ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_NOBODY, &t), -EBADMSG);
	ASSERT_EQ(os_fstat(fd, &st), 0);
	ASSERT_EQ(st.st_size, 0);
	ASSERT_EQ(stat_read(&meta.bytes), 0);
	os_close(fd);
}

/* Killed between the counters and the total of its handle. */
TEST(killed_while_it_charged)
{
	struct memcg_tree *t;
	struct memcg_id a;
	struct objcg_id o;
	struct shared s;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	memcg_set_protection(s.t[0], a, 0, 40);
	o = handle_of(s.t[0], a);
	memcg_charge_force(s.t[0], o, 5);
	memcg_charge_force(s.t[1], handle_of(s.t[1], a), 33);
	counters_begin(s.t[1]);
	(void)page_counter_charge(s.t[1], a.v, COUNTER_MEMORY, 4, 0);
	ASSERT_EQ(memcg_tree_attach(&s.meta, s.fd, MEMCG_ATTACH_NOBODY, &t), 0);
	/* The other one lives, and is in the middle of a charge, too. */
	counters_begin(s.t[0]);
	(void)page_counter_charge(s.t[0], a.v, COUNTER_MEMORY, 2, 0);
	member_self(s.t[1])->pid = 0x7fffffff;
	ASSERT_TRUE(member_reap(t));
	ASSERT_EQ(mem_of(t, a), 11);
	(void)atomic64_fetch_add(&objcg_of(s.t[0], o)->memory, 2);
	counters_end(s.t[0]);
	ASSERT_FALSE(member_reap(t));
	ASSERT_EQ(mem_of(t, a), 7);
	ASSERT_EQ(mem_of(t, MEMCG_ROOT), 7);
	memcg_check(t);
	/* And what the sums of those above have too little. */
	(void)atomic64_fetch_sub(&group_of(t, MEMCG_ROOT)->children_low_usage, 3);
	counters_begin(s.t[0]);
	member_self(s.t[0])->pid = 0x7ffffffe;
	ASSERT_TRUE(member_reap(t));
	ASSERT_EQ(mem_of(t, a), 0);
	memcg_check(t);
	memcg_tree_close(t);
	shared_exit(&s);
}

TEST(growth_is_seen_by_the_other_member)
{
	struct memcg_id id = { 0 };
	struct objcg_id o;
	struct shared s;
	u32 n = 0;

	shared_init(&s);
	for (u32 i = 0; i < 9000; i++) {
		char name[16];

		fmt_str(name, sizeof(name), "g%u", i);
		ASSERT_EQ(memcg_create(s.t[i & 1], MEMCG_ROOT, name, &id), 0);
	}
	o = handle_of(s.t[1], id);
	memcg_charge_force(s.t[1], o, 3);
	ASSERT_EQ(mem_of(s.t[0], id), 3);
	for (id.v = 0; (id = memcg_next(s.t[0], MEMCG_ROOT, id)).v;)
		n++;
	ASSERT_EQ(n, 9001);
	memcg_check(s.t[0]);
	shared_exit(&s);
}

/* ---- damage ---------------------------------------------------------------------- */

static int attach_damaged(size_t off, u32 value)
{
	struct meta meta = { 0 };
	struct memcg_tree *t;
	int fd = os_memfd_create("quire-test", 1), ret;
	u32 old;

	ASSERT_OK(fd);
	ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &t), 0);
	memcg_tree_close(t);
	ASSERT_EQ(os_pread(fd, &old, 4, off), 4);
	ASSERT_NE(old, value);
	ASSERT_EQ(os_pwrite(fd, &value, 4, off), 4);
	ret = memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &t);
	if (!ret)
		memcg_tree_close(t);
	os_close(fd);
	ASSERT_EQ(stat_read(&meta.bytes), 0);
	return ret;
}

TEST(damaged_header)
{
	const size_t groups = offsetof(struct seg_header, area[SEG_GROUPS]);
	const size_t members = offsetof(struct seg_header, area[SEG_MEMBERS]);
	const size_t root = SEG_GROUPS_AT + sizeof(struct group);

	ASSERT_EQ(attach_damaged(0, 1), -EBADMSG);
	ASSERT_EQ(attach_damaged(offsetof(struct seg_header, version), SEG_VERSION + 1), -EBADMSG);
	ASSERT_EQ(attach_damaged(offsetof(struct seg_header, group_bytes), 512), -EBADMSG);
	ASSERT_EQ(attach_damaged(offsetof(struct seg_header, nr_stats), 99), -EBADMSG);
	ASSERT_EQ(attach_damaged(offsetof(struct seg_header, seg_bytes), 1), -EBADMSG);
	ASSERT_EQ(attach_damaged(members + offsetof(struct area_head, nr_high), ~0u), -EBADMSG);
	ASSERT_EQ(attach_damaged(members + offsetof(struct area_head, nr_ready), ~0u), -EBADMSG);
	ASSERT_EQ(attach_damaged(groups + offsetof(struct area_head, nr_ready), ~0u), -EBADMSG);
	ASSERT_EQ(attach_damaged(groups + offsetof(struct area_head, nr_high), 1u << 20), -EBADMSG);
	ASSERT_EQ(attach_damaged(groups + offsetof(struct area_head, nr_high), 1), -EBADMSG);
	ASSERT_EQ(attach_damaged(groups + offsetof(struct area_head, free_head), 9), -EBADMSG);
	ASSERT_EQ(attach_damaged(root + offsetof(struct group, state), 0), -EBADMSG);
	ASSERT_EQ(attach_damaged(root + offsetof(struct group, parent), 1), -EBADMSG);
}

TEST(not_a_segment)
{
	struct meta meta = { 0 };
	struct memcg_tree *t;
	int fd = os_memfd_create("quire-test", 1);

	ASSERT_OK(fd);
	ASSERT_EQ(memcg_tree_attach(&meta, -1, MEMCG_ATTACH_MORE, &t), -EBADF);
	ASSERT_EQ(memcg_tree_view(&meta, fd, &t), -EBADMSG);
	ASSERT_EQ(os_pwrite(fd, "hello", 5, 0), 5);
	ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &t), -EBADMSG);
	ASSERT_OK(os_ftruncate(fd, SEG_BYTES));
	ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &t), -EBADMSG);
	os_close(fd);
	ASSERT_EQ(stat_read(&meta.bytes), 0);
}

/* Killed before the magic was written: the next one starts afresh. */
TEST(half_made_segment)
{
	struct meta meta = { 0 };
	struct memcg_tree *t;
	int fd = os_memfd_create("quire-test", 1);

	ASSERT_OK(fd);
	ASSERT_OK(os_ftruncate(fd, SEG_BYTES));
	ASSERT_EQ(os_pwrite(fd, "junk", 4, SEG_INDEX_AT + 8), 4);
	ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &t), 0);
	group_make(t, "a/b");
	memcg_check(t);
	memcg_tree_close(t);
	os_close(fd);
}

/* Other processes may scribble: no index leads out of the segment, no chain is
 * followed for ever. */
TEST(scribbled_records)
{
	struct memcg_id a, b, id;
	struct shared s;
	struct group *g;
	u64 seed = 5;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	b = group_make(s.t[0], "a/b");
	(void)handle_of(s.t[0], b);
	for (u32 round = 0; round < 300; round++) {
		u32 *word = (u32 *)(void *)((char *)group_at(s.t[1], 1 + round % 3) +
					    offsetof(struct group, parent));
		u32 n = (u32)(next_random(&seed) % 11), v = (u32)next_random(&seed);

		word[n] = round & 1 ? v : v % 8;
		ASSERT_NE(memcg_lookup(s.t[0], "a/b/c", &id), 0);
		(void)memcg_is_descendant(s.t[0], b, a);
		(void)memcg_margin(s.t[0], b);
		(void)memcg_stat_read(s.t[0], MEMCG_ROOT, MEMCG_STAT_ANON);
		memcg_count_event(s.t[0], b, MEMCG_LOW);
		id.v = 0;
		for (u32 n2 = 0; n2 < 100 && (id = memcg_next(s.t[0], a, id)).v; n2++)
			;
	}
	/* Left as it was, so that closing finds its way. */
	for (u32 i = 1; i <= 3; i++) {
		g = group_at(s.t[0], i);
		atomic32_store(&g->state, GROUP_ONLINE);
		atomic32_store(&g->parent, i - 1);
		atomic32_store(&g->depth, i - 1);
	}
	mutex_lock(&s.t[0]->seg->lock);
	segment_change_begin(s.t[0]);
	rebuild_tree(s.t[0]);
	segment_change_end(s.t[0]);
	mutex_unlock(&s.t[0]->seg->lock);
	memcg_check(s.t[0]);
	shared_exit(&s);
}

/* Nothing outside the segment, nor beside our table of handles, is read or written. */
TEST(scribbled_sizes)
{
	struct shared s;
	struct memcg_id a, id;
	struct objcg_id o;
	struct area_head *groups, *objcgs;
	struct objcg *c;
	u32 high, ready, local;

	shared_init(&s);
	a = group_make(s.t[0], "a");
	(void)handle_of(s.t[0], a);
	objcgs = &seg_head(s.t[1])->area[SEG_OBJCGS];
	groups = &seg_head(s.t[1])->area[SEG_GROUPS];
	high = atomic32_load(&groups->nr_high);
	ready = atomic32_load(&groups->nr_ready);
	atomic32_store(&groups->nr_high, UINT32_MAX);
	atomic32_store(&groups->nr_ready, UINT32_MAX);
	ASSERT_EQ(memcg_create(s.t[0], a, "b", &id), -ENOSPC);
	atomic32_store(&groups->nr_high, high);
	atomic32_store(&groups->nr_ready, ready);
	high = atomic32_load(&objcgs->nr_high);
	ready = atomic32_load(&objcgs->nr_ready);
	id = group_make(s.t[0], "c");
	atomic32_store(&objcgs->nr_high, 1u << 31);
	atomic32_store(&objcgs->nr_ready, UINT32_MAX);
	ASSERT_EQ(objcg_get(s.t[0], id, &o), -ENOSPC);
	atomic32_store(&objcgs->nr_high, high);
	atomic32_store(&objcgs->nr_ready, ready);
	mutex_lock(&s.t[0]->seg->lock);
	c = objcg_at(s.t[0], objcg_find(s.t[0], a.v, 0));
	mutex_unlock(&s.t[0]->seg->lock);
	local = c->local;
	c->local = UINT32_MAX;
	ASSERT_EQ(objcg_get(s.t[0], a, &o), -ENOSPC);
	c->local = local;
	shared_exit(&s);
}

/* ---- cost ------------------------------------------------------------------------- */

TEST(ten_thousand_groups)
{
	struct memcg_id id;
	struct fixture f;
	u64 before;

	fixture_init(&f);
	before = stat_read(&f.meta.bytes);
	for (u32 n = 0; n < 10000; n++) {
		char name[16];

		fmt_str(name, sizeof(name), "g%u", n);
		ASSERT_EQ(memcg_create(f.t, MEMCG_ROOT, name, &id), 0);
	}
	before = stat_read(&f.meta.bytes) - before;
	printf("# 10000 empty groups: %llu KiB, %llu bytes each\n",
	       (unsigned long long)before / 1024, (unsigned long long)before / 10000);
	ASSERT_LE(before / 10000, 512);
	memcg_check(f.t);
	fixture_exit(&f);
}
