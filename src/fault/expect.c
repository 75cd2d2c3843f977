/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expect.c - what a fault foretells: which neighbours will be wanted next.
 *
 * Three habits of programs are told, by their faults alone:
 *
 *   scan     a fault exactly where an earlier window ended: the window doubles.
 *            Several at a time are told apart (a garbage collector has many).
 *   stride   three faults the same distance apart, either way: as a scan with
 *            that step.
 *   record   random places, and from each so many pages in a row.  The length is
 *            learnt by part of the address space: a first window that was too short
 *            makes the next one longer by a page, RECORD_MISSES that nothing
 *            continued make it shorter.  Most programs' is 1: no window.
 *
 * Advice overrides.  Owns the struct streams and habits of struct fault.  Fault threads
 * write them, kswapd where it tries a fault again, in signal mode all threads: without a
 * lock, a guess, wrong at worst.
 */

#include "fault/internal.h"

#define STRIDE_MAX ((s64)(4 * MIB))
#define RECORD_MISSES 4u
#define RECORD_MIN 4u /* pages; of shorter ones the beginning is not guessed */
#define HABIT_SHIFT 24 /* 16 MiB share one */

static struct habit *habit_of(struct fault *f, u64 addr)
{
	u64 part = addr >> HABIT_SHIFT;

	return &f->habit[(part ^ part >> 5) % FAULT_HABITS];
}

static struct stream *find_stream(struct fault_ctx *c)
{
	struct stream *s = c->f->expect[c->queue].stream;

	for (u32 i = 0; i < READAHEAD_STREAMS; i++)
		if (atomic64_peek(&s[i].next) == c->addr)
			return &s[i];
	return NULL;
}

/* The step that the last faults and this one have in common; 0: none. */
static s64 common_step(const struct fault_ctx *c)
{
	const struct expect *e = &c->f->expect[c->queue];
	s64 step = (s64)(c->addr - atomic64_peek(&e->last));

	if (step != (s64)atomic64_peek(&e->step) || step > STRIDE_MAX || step < -STRIDE_MAX)
		return 0;
	return step;
}

/*
 * To the end of the record, if it is aligned as most are: whose first half was there
 * already needs only the second.  What is brought of the next one would be the first half
 * that is there already when its turn comes.
 */
static u32 rest_of_record(const struct fault_ctx *c, u32 ahead)
{
	u64 len = RECORD_MIN;

	if (ahead + 1 < RECORD_MIN)
		return READAHEAD_MAX;
	while (len < ahead + 1)
		len *= 2;
	return (u32)(len - 1 - (c->addr >> PAGE_SHIFT) % len);
}

void fault_expect(struct fault_ctx *c, bool fresh)
{
	struct stream *s = find_stream(c);
	u32 ahead = fresh ? 0 : atomic32_peek(&habit_of(c->f, c->addr)->ahead);
	s64 step = s ? (s64)atomic64_peek(&s->step) : fresh ? 0 : common_step(c);
	u32 window = 0, before;

	c->stream = s;
	c->fresh = fresh;
	c->step = PAGE_SIZE;
	if (s && (!fresh || step == PAGE_SIZE)) {
		c->step = step;
		before = atomic32_peek(&s->window);
		window = max_of(2 * before, 2u);
		/* Its first window was a habit's: it is longer, nobody knows how much. */
		if (atomic32_peek(&s->first))
			window = min_of(2u, rest_of_record(c, ahead));
	} else if (!s && step) {
		c->step = step;
		window = 2;
	} else {
		window = min_of(ahead, rest_of_record(c, ahead));
	}
	if (c->region.flags & REGION_SEQUENTIAL) {
		c->step = PAGE_SIZE;
		window = READAHEAD_MAX;
	}
	/* Others write these guesses too: what an array has to hold is said here. */
	window = min_of(window, READAHEAD_MAX);
	/* Nor where it is late for memory.high, or alone in a fork. */
	c->window = c->region.flags & REGION_RANDOM || c->pager_flags ? 0 : window;
}

/* The stream in whose place a new one begins: the oldest that was not continued since
 * the last look.  It is over: so long was the record. */
static struct stream *oldest_stream(struct fault_ctx *c)
{
	struct expect *e = &c->f->expect[c->queue];
	struct stream *s = NULL;
	struct habit *h;
	u32 nr = atomic32_peek(&e->turn), ahead, misses;

	for (u32 i = 0; i < READAHEAD_STREAMS; i++) {
		s = &e->stream[nr++ % READAHEAD_STREAMS];
		if (!atomic32_peek(&s->used))
			break;
		atomic32_poke(&s->used, 0);
	}
	atomic32_poke(&e->turn, nr);
	if (!atomic32_peek(&s->first) || !atomic64_peek(&s->next))
		return s;
	h = habit_of(c->f, atomic64_peek(&s->next) - PAGE_SIZE);
	ahead = atomic32_peek(&h->ahead);
	misses = atomic32_peek(&h->misses);
	if (ahead && misses < RECORD_MISSES) {
		atomic32_poke(&h->misses, misses + 1);
	} else if (ahead) {
		atomic32_poke(&h->ahead, ahead - 1);
		atomic32_poke(&h->misses, 0);
	}
	return s;
}

/* The first window of a scan was too short. */
static void longer_habit(struct fault_ctx *c)
{
	struct habit *h = habit_of(c->f, c->addr - PAGE_SIZE);
	u32 ahead = atomic32_peek(&h->ahead);

	atomic32_poke(&h->ahead, min_of(ahead, READAHEAD_MAX - 1) + 1);
	atomic32_poke(&h->misses, 0);
}

void fault_foresee(struct fault_ctx *c, u64 next)
{
	struct expect *e = &c->f->expect[c->queue];
	struct stream *s = c->stream;
	s64 step = (s64)(c->addr - atomic64_peek(&e->last));

	atomic32_poke(&e->window, c->window);
	if (c->region.flags & REGION_RANDOM)
		return;
	if (!s) {
		s = oldest_stream(c);
		/* A window that ended with the record, or for want of memory, says nothing
		 * of its length. */
		atomic32_poke(&s->first,
			      c->whole && c->step == PAGE_SIZE && !c->fresh &&
				      c->window == atomic32_peek(&habit_of(c->f, c->addr)->ahead));
		atomic32_poke(&s->used, 0);
	} else {
		if (atomic32_peek(&s->first) && !c->fresh)
			longer_habit(c);
		atomic32_poke(&s->first, 0);
		atomic32_poke(&s->used, 1);
	}
	atomic32_poke(&s->window, c->window);
	atomic64_poke(&s->step, (u64)c->step);
	atomic64_poke(&s->next, next);
	/* 0: the same fault again, for want of memory. */
	if (step) {
		atomic64_poke(&e->step, (u64)step);
		atomic64_poke(&e->last, c->addr);
	}
}
