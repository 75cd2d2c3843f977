/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.c - LZ4 for one page, XXH3-128 for its content, same-filled pages.
 *
 * Owns nothing: every function works on the caller's memory only (struct
 * codec is per thread).  It does not decide what is worth compressing; zswap
 * does.  Entry points: codec_compress(), codec_decompress(), page_hash(),
 * page_same_filled().  No locks.
 *
 * The hash proves integrity and finds equal content of one slot.  It is not
 * keyed: collisions made on purpose harm only the group that makes them, since
 * pages are never shared between groups.
 *
 * liblz4 brings LZ4_createStream() and thus malloc; nothing here reaches it
 * (the state is the caller's).  xxhash is inlined and has no undefined symbol.
 */
#include "zswap/codec.h"

#include <errno.h>
#include <lz4.h>
#include <lz4hc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(LZ4_stream_t) <= sizeof(((struct codec *)0)->state),
	       "struct codec holds an LZ4 state");
_Static_assert(sizeof(LZ4_streamHC_t) <= sizeof(((struct codec_dense *)0)->state),
	       "struct codec_dense holds an LZ4HC state");
_Static_assert(CODEC_MAX_LEN <= PAGE_SIZE, "a result fits codec.out");

/* More loses 14 % of a page's time at 4 for the same size of heap-like data, and makes
 * text 11 % larger. */
#define ACCELERATION 1
/* Heap-like data 2.10:1, text 3.40:1; 3 is 2.15 and 3.43 for a quarter more time. */
#define DENSE_LEVEL 2
#define PAGE_WORDS (PAGE_SIZE / sizeof(u64))

u32 codec_compress(struct codec *c, const void *page)
{
	int len;

	/* The bound is the output size: LZ4 gives up early when it is passed. */
	len = LZ4_compress_fast_extState(c->state, page, (char *)c->out, (int)PAGE_SIZE,
					 (int)CODEC_MAX_LEN, ACCELERATION);
	return len > 0 ? (u32)len : 0;
}

u32 codec_compress_dense(struct codec_dense *c, const void *page)
{
	int len = LZ4_compress_HC_extStateHC(c->state, page, (char *)c->out, (int)PAGE_SIZE,
					     (int)CODEC_MAX_LEN, DENSE_LEVEL);

	return len > 0 ? (u32)len : 0;
}

int codec_decompress(const void *data, u32 len, void *page)
{
	if (len == 0 || len > PAGE_SIZE)
		return -EIO;
	if (LZ4_decompress_safe(data, page, (int)len, (int)PAGE_SIZE) != (int)PAGE_SIZE)
		return -EIO;
	return 0;
}

struct page_hash page_hash(const void *page)
{
	XXH128_hash_t h = XXH3_128bits(page, PAGE_SIZE);

	return (struct page_hash){ .lo = h.low64, .hi = h.high64 };
}

bool page_same_filled(const void *page, u64 *ret_word)
{
	const u64 *w = page;
	u64 first = w[0];

	/* Most pages with an equal beginning differ at the end. */
	if (w[PAGE_WORDS - 1] != first)
		return false;
	for (u32 i = 1; i < PAGE_WORDS - 1; i++)
		if (w[i] != first)
			return false;
	*ret_word = first;
	return true;
}

void page_fill(void *page, u64 word)
{
	u64 *w = page;

	for (u32 i = 0; i < PAGE_WORDS; i++)
		w[i] = word;
}
