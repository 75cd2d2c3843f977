/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pte: type, index, pins, and its lock.
 * tsan
 */
#include <errno.h>
#include <pthread.h>

#include "base/os.h"
#include "lib/test.h"
#include "page/pte.h"

TEST(type_index_pins)
{
	struct pte p = { { 0 }, { 0 } };

	ASSERT_EQ(pte_type(&p), PTE_NONE);
	pte_lock(&p);
	pte_set_pins(&p, 3);
	pte_unlock_to(&p, PTE_SWAP, 1234);
	ASSERT_EQ(pte_type(&p), PTE_SWAP);
	ASSERT_EQ(pte_index(&p), 1234u);
	ASSERT_EQ(pte_pins(&p), 3u);
	pte_lock(&p);
	pte_set_pins(&p, PTE_PIN_MAX);
	pte_unlock(&p);
	ASSERT_EQ(pte_pins(&p), PTE_PIN_MAX);
	ASSERT_EQ(pte_type(&p), PTE_SWAP);
	pte_lock(&p);
	pte_set_pins(&p, 0);
	pte_unlock_to(&p, PTE_NONE, 0);
	/* As it was: an untouched leaf and one whose pages are gone look the same. */
	ASSERT_EQ(pte_peek(&p), 0u);
}

TEST(trylock)
{
	struct pte p = { { 0 }, { 0 } };

	ASSERT_TRUE(pte_trylock(&p));
	ASSERT_FALSE(pte_trylock(&p));
	pte_unlock(&p);
	ASSERT_TRUE(pte_trylock(&p));
	pte_unlock(&p);
	ASSERT_EQ(pte_peek(&p), 0u);
}

/* A request has it: a fault does not wait, and the unlock is the request's end. */
TEST(lock_of_a_request)
{
	struct pte p = { { 0 }, { 0 } };

	ASSERT_EQ(pte_lock_fault(&p), 0);
	pte_lock_give(&p);
	ASSERT_EQ(pte_lock_fault(&p), -EINPROGRESS);
	ASSERT_FALSE(pte_trylock(&p));
	pte_lock_take(&p);
	pte_unlock_to(&p, PTE_PRESENT, 9);
	ASSERT_EQ(pte_lock_fault(&p), 0);
	pte_unlock(&p);
	ASSERT_EQ(pte_type(&p), PTE_PRESENT);
}

struct shared {
	struct pte pte;
	u64 plain; /* what the lock protects */
};

static void *add_many(void *arg)
{
	struct shared *s = arg;

	for (u32 i = 0; i < 20000; i++) {
		pte_lock(&s->pte);
		s->plain++;
		pte_unlock(&s->pte);
	}
	return NULL;
}

TEST(lock_excludes)
{
	struct shared s = { .plain = 0 };
	pthread_t thread[3];

	for (u32 i = 0; i < 3; i++)
		ASSERT_EQ(pthread_create(&thread[i], NULL, add_many, &s), 0);
	for (u32 i = 0; i < 3; i++)
		ASSERT_EQ(pthread_join(thread[i], NULL), 0);
	ASSERT_EQ(s.plain, 60000u);
	ASSERT_EQ(pte_peek(&s.pte), 0u);
}

static void *lock_and_count(void *arg)
{
	struct shared *s = arg;

	pte_lock(&s->pte); /* the request ends in 20 ms */
	s->plain++;
	pte_unlock(&s->pte);
	return NULL;
}

/* Zap waits for a read under way: asleep, and woken by its end. */
TEST(wait_for_a_request)
{
	struct shared s = { .plain = 0 };
	pthread_t thread[2];

	pte_lock(&s.pte);
	pte_lock_give(&s.pte);
	for (u32 i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&thread[i], NULL, lock_and_count, &s), 0);
	while (!(pte_peek(&s.pte) & PTE_WAITERS))
		os_sleep_ns(NSEC_PER_MSEC);
	os_sleep_ns(20 * NSEC_PER_MSEC);
	ASSERT_EQ(s.plain, 0u);
	pte_lock_take(&s.pte);
	pte_unlock(&s.pte);
	for (u32 i = 0; i < 2; i++)
		ASSERT_EQ(pthread_join(thread[i], NULL), 0);
	ASSERT_EQ(s.plain, 2u);
}
