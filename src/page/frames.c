/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frames.c - the frame area and its bitmap.
 */
#include "page/frames.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/os.h"

#define WORD_BITS 64u
/*
 * Frames are looked for, round and round, in a window that much larger than what is in
 * use: runs are easily found there, and the page tables of the rest of the area, 2 MiB
 * of its 1 GiB, are never made.
 */
#define WINDOW_MIN_WORDS 32u /* 8 MiB */
#define WINDOW_FACTOR 4u

int frames_init(struct frames *f, struct meta *meta, struct pager *pager, u32 nr)
{
	u32 nr_words = align_up(nr, WORD_BITS) / WORD_BITS;
	void *base;
	int err;

	f->pager = pager;
	f->meta = meta;
	f->nr_frames = nr_words * WORD_BITS;
	mutex_init(&f->lock, "frames", LOCK_RANK_FRAMES);
	f->bitmap = meta_alloc(meta, nr_words * sizeof(u64));
	if (!f->bitmap)
		return -ENOMEM;
	err = os_mmap_anon((size_t)f->nr_frames << PAGE_SHIFT, PROT_READ | PROT_WRITE, true, &base);
	if (err)
		goto free_bitmap;
	f->base = base;
	f->bitmap[0] = 1; /* frame 0 means "none" in struct page */
	os_name_mapping(base, (size_t)f->nr_frames << PAGE_SHIFT, "quire: frames");
	/* In a core file they would be nobody's pages, and a GiB of holes. */
	(void)os_madvise(base, (size_t)f->nr_frames << PAGE_SHIFT, MADV_DONTDUMP);
	err = frames_register(f);
	if (err)
		goto unmap;
	return 0;
unmap:
	os_munmap(base, (size_t)f->nr_frames << PAGE_SHIFT);
free_bitmap:
	meta_free(meta, f->bitmap, nr_words * sizeof(u64));
	return err;
}

void frames_exit(struct frames *f)
{
	if (!f->base)
		return;
	os_munmap(f->base, (size_t)f->nr_frames << PAGE_SHIFT);
	meta_free(f->meta, f->bitmap, f->nr_frames / WORD_BITS * sizeof(u64));
	f->base = NULL;
}

int frames_register(struct frames *f)
{
	return f->pager->ops->add_frames(f->pager, f->base, (u64)f->nr_frames << PAGE_SHIFT);
}

/* The longest run, at most want, that starts at the first free bit of word. */
static u32 run_in_word(u64 word, u32 want, u32 *ret_bit)
{
	u32 bit, len = 0;

	if (word == ~0ull)
		return 0;
	bit = (u32)__builtin_ctzll(~word);
	while (len < want && bit + len < WORD_BITS && !(word >> (bit + len) & 1))
		len++;
	*ret_bit = bit;
	return len;
}

static u32 window_words(const struct frames *f, u32 nr_words)
{
	u32 nr_used = atomic32_peek(&f->nr_used);

	return min_of(nr_words, WINDOW_MIN_WORDS + nr_used / WORD_BITS * WINDOW_FACTOR);
}

u32 frames_alloc(struct frames *f, u32 want, u32 *ret_first)
{
	u32 nr_words = f->nr_frames / WORD_BITS, window;
	u32 best = 0, best_word = 0, best_bit = 0;

	quire_assert(want && want <= FRAME_RUN_MAX);
	mutex_lock(&f->lock);
	window = window_words(f, nr_words);
	/* Beyond the window only when that is full. */
	for (u32 i = 0; i < (best ? window : nr_words) && best < want; i++) {
		u32 w = i < window ? (f->cursor + i) % window : i;
		u32 bit = 0, len = run_in_word(f->bitmap[w], want, &bit);

		if (len > best) {
			best = len;
			best_word = w;
			best_bit = bit;
		}
	}
	if (best) {
		u64 mask = (best == WORD_BITS ? ~0ull : (1ull << best) - 1) << best_bit;

		f->bitmap[best_word] |= mask;
		f->cursor = best_word;
		*ret_first = best_word * WORD_BITS + best_bit;
		atomic32_fetch_add(&f->nr_used, best);
	}
	mutex_unlock(&f->lock);
	return best;
}

void frames_put_empty(struct frames *f, u32 first, u32 nr)
{
	mutex_lock(&f->lock);
	for (u32 i = first; i < first + nr; i++) {
		u64 bit = 1ull << (i % WORD_BITS);

		quire_assert(i && (f->bitmap[i / WORD_BITS] & bit));
		f->bitmap[i / WORD_BITS] &= ~bit;
	}
	atomic32_fetch_sub(&f->nr_used, nr);
	mutex_unlock(&f->lock);
}

u32 frames_alloc_warm(struct frames *f, u32 want, u32 *ret)
{
	u32 nr, left;

	if (!atomic32_peek(&f->nr_warm))
		return 0;
	mutex_lock(&f->lock);
	left = atomic32_peek(&f->nr_warm);
	for (nr = 0; nr < want && left; nr++)
		ret[nr] = f->warm[--left];
	atomic32_poke(&f->nr_warm, left);
	atomic32_fetch_add(&f->nr_used, nr);
	mutex_unlock(&f->lock);
	return nr;
}

/* Their bits stay set: frames_alloc() promises empty ones. */
static u32 keep_warm(struct frames *f, u32 first, u32 nr)
{
	u32 have, kept;

	if (!frames_want_warm(f))
		return 0;
	mutex_lock(&f->lock);
	have = atomic32_peek(&f->nr_warm);
	for (kept = 0; kept < nr && have < FRAMES_WARM_MAX; kept++) {
		quire_assert(f->bitmap[(first + kept) / WORD_BITS] >> ((first + kept) % WORD_BITS) &
			     1);
		f->warm[have++] = first + kept;
	}
	atomic32_poke(&f->nr_warm, have);
	atomic32_fetch_sub(&f->nr_used, kept);
	mutex_unlock(&f->lock);
	return kept;
}

void frames_put(struct frames *f, u32 first, u32 nr)
{
	u32 kept = keep_warm(f, first, nr);

	if (kept == nr)
		return;
	first += kept;
	nr -= kept;
	f->pager->ops->drop_frames(f->pager, frame_addr(f, first), (u64)nr << PAGE_SHIFT);
	frames_put_empty(f, first, nr);
}
