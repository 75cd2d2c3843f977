/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec.c - round trips, incompressible and damaged input, same-filled
 * pages, the hash.
 */
#include "zswap/codec.h"

#include <errno.h>

#include "lib/test.h"

static struct codec codec;
static _Alignas(64) u8 page[PAGE_SIZE];
static _Alignas(64) u8 out[PAGE_SIZE];
static u64 seed = 1;

static u64 random_u64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Words of which a share is random: from a same-filled page to noise. */
static void make_page(unsigned percent_random)
{
	for (size_t i = 0; i < PAGE_SIZE; i += 8) {
		u64 word = random_u64() % 100 < percent_random ? random_u64() : 0x20202020ull;

		memcpy(page + i, &word, 8);
	}
}

TEST(round_trip)
{
	for (unsigned i = 0; i < 2000; i++) {
		u32 len;

		make_page(i % 75);
		len = codec_compress(&codec, page);
		if (!len)
			continue;
		ASSERT_LE(len, CODEC_MAX_LEN);
		memset(out, 0xee, sizeof(out));
		ASSERT_OK(codec_decompress(codec.out, len, out));
		ASSERT_MEM_EQ(out, page, PAGE_SIZE);
	}
}

/* Never larger than what LZ4 makes, and read the same way. */
TEST(dense)
{
	static struct codec_dense dense;
	u64 sum = 0, dense_sum = 0;

	for (unsigned i = 0; i < 200; i++) {
		u32 len, dense_len;

		make_page(i % 75);
		len = codec_compress(&codec, page);
		dense_len = codec_compress_dense(&dense, page);
		if (!len || !dense_len)
			continue;
		sum += len;
		dense_sum += dense_len;
		memset(out, 0xee, sizeof(out));
		ASSERT_OK(codec_decompress(dense.out, dense_len, out));
		ASSERT_MEM_EQ(out, page, PAGE_SIZE);
	}
	ASSERT_GT(dense_sum, 0u);
	ASSERT_LT(dense_sum, sum);
}

TEST(zero_page_is_tiny_and_noise_is_refused)
{
	memset(page, 0, sizeof(page));
	ASSERT_LT(codec_compress(&codec, page), 64u);
	make_page(100);
	ASSERT_EQ(codec_compress(&codec, page), 0u);
	/* The work memory is as good as before. */
	make_page(10);
	ASSERT_GT(codec_compress(&codec, page), 0u);
}

TEST(damaged_input_is_an_error_or_another_page)
{
	unsigned nr_refused = 0;
	u32 len;

	make_page(30);
	len = codec_compress(&codec, page);
	ASSERT_GT(len, 0u);
	ASSERT_EQ(codec_decompress(codec.out, 0, out), -EIO);
	ASSERT_EQ(codec_decompress(codec.out, len - 1, out), -EIO);
	ASSERT_EQ(codec_decompress(codec.out, PAGE_SIZE + 1, out), -EIO);
	for (u32 bit = 0; bit < len * 8; bit += 5) {
		struct page_hash want = page_hash(page), got;
		int err;

		codec.out[bit / 8] ^= (u8)(1 << bit % 8);
		err = codec_decompress(codec.out, len, out);
		codec.out[bit / 8] ^= (u8)(1 << bit % 8);
		ASSERT_TRUE(err == 0 || err == -EIO);
		nr_refused += err != 0;
		got = page_hash(out);
		if (!err && memcmp(out, page, PAGE_SIZE))
			ASSERT_TRUE(got.lo != want.lo || got.hi != want.hi);
	}
	ASSERT_GT(nr_refused, 0u);
}

TEST(same_filled)
{
	u64 word = 0;

	page_fill(page, 0x0123456789abcdefull);
	ASSERT_TRUE(page_same_filled(page, &word));
	ASSERT_EQ(word, 0x0123456789abcdefull);
	for (size_t i = 0; i < PAGE_SIZE; i += 61) {
		page_fill(page, 0);
		ASSERT_TRUE(page_same_filled(page, &word));
		ASSERT_EQ(word, 0ull);
		page[i] = 1;
		ASSERT_FALSE(page_same_filled(page, &word));
	}
}

TEST(hash_sees_every_bit)
{
	struct page_hash base;

	make_page(50);
	base = page_hash(page);
	for (u32 bit = 0; bit < PAGE_SIZE * 8; bit += 97) {
		struct page_hash h;

		page[bit / 8] ^= (u8)(1 << bit % 8);
		h = page_hash(page);
		page[bit / 8] ^= (u8)(1 << bit % 8);
		ASSERT_TRUE(h.lo != base.lo && h.hi != base.hi);
	}
	ASSERT_EQ(page_hash(page).lo, base.lo);
	ASSERT_EQ(page_hash(page).hi, base.hi);
}
