/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fork.c - a forked child has the tree for itself.
 */
#include <unistd.h>

#include "base/os.h"
#include "fixture.h"

static struct memcg_tree *tree[2];
static struct objcg_id handle[2];
static struct memcg_id group;

#define CHECK(e) ((e) ? (void)0 : _exit(__LINE__ % 100 + 1))

static void in_child(void)
{
	struct memcg_id id;

	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_check(tree[0]);
	/* Our own charges are a copy of the parent's, the other member's are not. */
	CHECK(mem_of(tree[0], group) == 30);
	CHECK(memcg_zswap_bytes(tree[0], group) == 0);
	CHECK(memcg_limit(tree[0], group, COUNTER_MEMORY) == 100);
	CHECK(objcg_memcg(tree[0], handle[0]).v == group.v);
	CHECK(member_self(tree[0])->pid == getpid());
	CHECK(!member_alive(tree[0], 1));
	/* What the child does stays in the child; it can grow. */
	memcg_charge_force(tree[0], handle[0], 5);
	for (u32 n = 0; n < 3000; n++) {
		char name[16];

		fmt_str(name, sizeof(name), "g%u", n);
		CHECK(memcg_create(tree[0], MEMCG_ROOT, name, &id) == 0);
	}
	CHECK(memcg_remove(tree[0], id, &id) == 0);
	memcg_check(tree[0]);
	memcg_tree_close(tree[0]);
	_exit(0);
}

TEST(shared_becomes_private)
{
	struct meta meta = { 0 };
	char text[256];
	int fd = os_memfd_create("quire-test", 1);

	ASSERT_OK(fd);
	for (u32 n = 0; n < 2; n++)
		ASSERT_EQ(memcg_tree_attach(&meta, fd, MEMCG_ATTACH_MORE, &tree[n]), 0);
	group = group_make(tree[0], "a/b");
	memcg_set_max(tree[0], group, COUNTER_MEMORY, 100);
	for (u32 n = 0; n < 2; n++)
		handle[n] = handle_of(tree[n], group);
	memcg_charge_force(tree[0], handle[0], 30);
	memcg_charge_force(tree[1], handle[1], 7);
	memcg_zswap_charge(tree[1], handle[1], 5000);
	ASSERT_EQ(test_child(in_child, text, sizeof(text)), 0);
	ASSERT_EQ(mem_of(tree[1], group), 39);
	ASSERT_EQ(memcg_nr_descendants(tree[1], MEMCG_ROOT), 2);
	ASSERT_TRUE(member_alive(tree[0], 1));
	memcg_check(tree[1]);
	memcg_tree_close(tree[0]);
	memcg_tree_close(tree[1]);
	os_close(fd);
	ASSERT_EQ(stat_read(&meta.bytes), 0);
}

static void in_private_child(void)
{
	CHECK(memcg_tree_fork_child(tree[0]) == 0);
	memcg_charge_force(tree[0], handle[0], 1);
	CHECK(mem_of(tree[0], group) == 4);
	memcg_check(tree[0]);
	_exit(0);
}

TEST(private_stays_private)
{
	char text[256];
	struct fixture f;

	fixture_init(&f);
	tree[0] = f.t;
	group = group_make(f.t, "a");
	handle[0] = handle_of(f.t, group);
	memcg_charge_force(f.t, handle[0], 3);
	ASSERT_EQ(test_child(in_private_child, text, sizeof(text)), 0);
	ASSERT_EQ(mem_of(f.t, group), 3);
	fixture_exit(&f);
}
