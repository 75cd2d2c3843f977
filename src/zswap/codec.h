/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - one page in, fewer bytes out; and the hash that proves it.
 */
#ifndef QUIRE_ZSWAP_CODEC_H
#define QUIRE_ZSWAP_CODEC_H

#include "base/types.h"

/* Larger results are not worth keeping compressed (interface: 3/4 page + a bit). */
#define CODEC_MAX_LEN 3264u

struct page_hash {
	u64 lo;
	u64 hi;
};

/* Work memory of one thread: LZ4 state and an output buffer; no sharing. */
struct codec {
	u64 state[2080]; /* LZ4_sizeofState() <= 16,416 bytes, asserted */
	u8 out[PAGE_SIZE + 64];
	u8 page[PAGE_SIZE] __attribute__((aligned(64)));
};

/*
 * LZ4.  Returns the length (1..CODEC_MAX_LEN) of the result in c->out, or 0:
 * incompressible.
 */
u32 codec_compress(struct codec *c, const void *page);
/* Work memory of LZ4HC: its tables and an output buffer. */
struct codec_dense {
	u64 state[32776]; /* its state is of 262,208 bytes at most, asserted */
	u8 out[PAGE_SIZE + 64];
};

/* The same by LZ4HC: what codec_decompress() reads as fast, smaller and slower to make. */
u32 codec_compress_dense(struct codec_dense *c, const void *page);
/* Exactly one page out; 0 or -EIO (damaged input). */
int QUIRE_MUST_CHECK codec_decompress(const void *data, u32 len, void *page);
/* XXH3-128 of the page: content equality and integrity. */
struct page_hash page_hash(const void *page);
/* All 8-byte words equal?  Looks at the last word first (algorithms.md 4.7). */
bool page_same_filled(const void *page, u64 *ret_word);
void page_fill(void *page, u64 word);

#endif
