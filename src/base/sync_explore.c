/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_explore.c - the race explorer: coroutines, schedules, and what stands in
 * for thread.c while one is running.
 *
 * Owns which coroutine runs, and the one mutable static object under src/: it
 * is compiled only with QUIRE_EXPLORE, for tests of one OS thread.  Does not own
 * mutex, event and gate: sync.c runs on top of this as it does on thread.c.
 *
 * Entry points: explore_run(), explore_replay(); inwards sync_point().
 *
 * How schedules are enumerated: a run is a row of points; at each point the
 * explorer notes who went on and who else could have.  Depth first: the next
 * run repeats the row up to the last point that has an untried choice, takes
 * that, and goes on in the normal way: who runs keeps running, else the next
 * one in order.  Choices that leave a thread which could go on are preemptions,
 * and only so many are spent in a run; bugs need few (CHESS, OSDI 2008).  PCT:
 * Burckhardt et al., ASPLOS 2010.
 *
 * Spinning: who calls sync_relax() is out of the game until some atomic has
 * changed its value, so that two who wait for a third do not take turns for
 * ever.  If nobody else can run they look again, in order.
 *
 * Invariants: a coroutine is in exactly one of ready, spinning, asleep or none
 * of them (unused, done); timed is a part of asleep.
 */
#ifdef QUIRE_EXPLORE
#include "base/sync_explore.h"

#include "base/assert.h"
#include "base/fmt.h"
#include "base/os.h"

#include <errno.h>
#include <sys/mman.h>

#define STACK_BYTES (256 * KIB)
/* The coroutine that runs setup, check and reset; it is never scheduled. */
#define HELPER EXPLORE_MAX_THREADS
#define NOBODY 255
#define MAX_DEVIATIONS 2048
#define POINT_NS NSEC_PER_USEC
#define FIRST_NOW (1000 * NSEC_PER_SEC)

#define BIT(i) (1u << (i))

struct coroutine {
	void *sp;
	char *stack;
	void (*body)(void *ctx); /* of a scenario, else thread->fn */
	struct thread *thread; /* thread_self(); NULL after thread_detach() */
	struct thread own; /* of a body */
	u64 seen; /* changes when it last had looked at something */
	const struct atomic32 *word; /* asleep on it */
	u64 sleep_order;
	u64 deadline; /* of a timed sleep */
	bool timed_out;
	u32 priority; /* PCT */
	const void *addr; /* where it stopped: the word and the code */
	const void *code;
};

/* One point of a run. */
struct step {
	u8 chosen;
	u8 normal; /* who would go on if nobody interfered */
	u8 used; /* preemptions spent before */
	u16 untried; /* choices for later runs */
	u16 gratis; /* choices that are no preemption */
};

/* Why the scheduler is asked. */
enum reason {
	AT_POINT, /* the current coroutine may go on */
	YIELDED, /* it may, but others go first */
	GONE, /* it may not: asleep, spinning, done, or there is none */
};

enum phase { IDLE, PREPARING, RUNNING };

static struct explorer {
	enum phase phase;
	struct coroutine co[EXPLORE_MAX_THREADS + 1];
	void *host_sp;
	u32 cur;
	u32 nr_co; /* used in this run */
	u32 bodies_left;
	/* sets of coroutines */
	u32 ready, spinning, asleep, timed;
	u64 changes; /* of atomics */
	u64 changes_at_retry;
	u64 sleeps;
	u64 now;
	u64 random;
	/* the schedule */
	struct step step[EXPLORE_MAX_POINTS];
	u32 nr_points;
	u32 nr_fixed; /* points that repeat the run before */
	u32 used;
	u32 bound;
	enum explore_mode mode;
	enum mutant mutant;
	u32 change_point[32];
	u32 depth;
	u64 pct_random;
	/* a replay */
	bool replaying;
	bool talk;
	u32 nr_deviations, next_deviation;
	struct {
		u32 point;
		u8 thread;
	} deviation[MAX_DEVIATIONS];
	const struct explore_scenario *scenario;
	struct explore_result *result;
	struct thread *outside; /* thread_self() when no scenario runs */
	void (*helper_fn)(void *ctx);
} ex;

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

/* ---- switching stacks ------------------------------------------------------ */

/* Save the callee-saved registers and the stack in *save, go on at `to`. */
void sync_explore_switch(void **save, void *to) __attribute__((visibility("hidden")));

__asm__(".pushsection .text\n"
	".type sync_explore_switch, @function\n"
	"sync_explore_switch:\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"	ret\n"
	".size sync_explore_switch, . - sync_explore_switch\n"
	".popsection\n");

#define SAVED_REGISTERS 6

static void finish_current(void);

static _Noreturn void coroutine_main(void)
{
	struct coroutine *co = &ex.co[ex.cur];

	if (ex.cur == HELPER)
		ex.helper_fn(ex.scenario->ctx);
	else if (co->body)
		co->body(ex.scenario->ctx);
	else
		co->thread->fn(co->thread);
	finish_current();
	__builtin_unreachable();
}

/* A fresh stack on which coroutine_main() starts at the next switch to it. */
static void prepare(u32 i, struct thread *thread, void (*body)(void *ctx))
{
	struct coroutine *co = &ex.co[i];
	char *stack = co->stack;
	void **top;

	if (!stack) {
		void *p;

		if (os_mmap_anon(STACK_BYTES, PROT_READ | PROT_WRITE, true, &p) ||
		    os_mprotect(p, PAGE_SIZE, PROT_NONE))
			os_abort("explore: no memory for stacks\n");
		stack = p;
	}
	*co = (struct coroutine){ .stack = stack, .body = body };
	co->thread = thread ? thread : &co->own;
	co->own.name = i == HELPER ? "setup or check" : "body";
	/* As if coroutine_main() had been called: 8 bytes off 16. */
	top = (void **)(stack + STACK_BYTES) - 1;
	*top = NULL;
	*--top = (void *)coroutine_main;
	co->sp = top - SAVED_REGISTERS;
}

/* ---- ends of a run ----------------------------------------------------------- */

static _Noreturn void back_to_host(void)
{
	void *nowhere;

	sync_explore_switch(&nowhere, ex.host_sp);
	__builtin_unreachable();
}

static void describe_threads(struct fmt *f)
{
	u32 i;

	for (i = 0; i < ex.nr_co; i++) {
		const struct coroutine *co = &ex.co[i];
		const char *state = ex.ready & BIT(i)	 ? "can run" :
				    ex.spinning & BIT(i) ? "spins" :
				    ex.asleep & BIT(i)	 ? "sleeps" :
							   NULL;

		if (state)
			fmt_add(f, "; thread %u %s at code 0x%lx, word %p", i, state,
				(size_t)((const char *)co->code - __ehdr_start), co->addr);
	}
}

/* Note a failure; whoever calls leaves the run afterwards. */
static void note_failure(enum explore_found found, const char *text, bool describe)
{
	struct explore_result *r = ex.result;
	struct fmt f;

	r->found = found;
	fmt_init(&f, r->message, sizeof(r->message));
	fmt_add(&f, "%s", text);
	if (describe)
		describe_threads(&f);
	if (f.len && f.len < f.size && r->message[f.len - 1] == '\n')
		r->message[f.len - 1] = '\0';
}

void sync_explore_abort(const char *msg)
{
	if (ex.phase == IDLE)
		return;
	note_failure(EXPLORE_ASSERTION, msg, false);
	back_to_host();
}

/* The scenario itself is wrong: it is not the schedule that failed. */
static _Noreturn void abort_scenario(const char *why)
{
	char text[256];

	fmt_str(text, sizeof(text), "explore: scenario %s %s\n", ex.scenario->name, why);
	ex.phase = IDLE;
	os_abort(text);
}

/* ---- who may go on --------------------------------------------------------------- */

/* The first of a set after `i`, round and round. */
static u32 next_after(u32 set, u32 i)
{
	u32 above = i + 1 < 32 ? set & ~(BIT(i + 1) - 1) : 0;

	return (u32)__builtin_ctz(above ? above : set);
}

/* Nobody is ready: let spinners look again, or time pass.  0: the run is over. */
static u32 revive(void)
{
	if (ex.bodies_left == 0)
		return 0;
	if (ex.spinning && (!ex.timed || ex.changes_at_retry != ex.changes)) {
		ex.changes_at_retry = ex.changes;
		ex.ready = ex.spinning;
		ex.spinning = 0;
		/* All find what they found before: one order will do. */
		return BIT(next_after(ex.ready, ex.cur));
	}
	return ex.timed;
}

/* Fills in the choices of a step; false when nobody can run any more. */
static bool offer(struct step *st, enum reason reason, u32 *ret_costly)
{
	u32 others = ex.ready & ~BIT(ex.cur);

	*ret_costly = 0;
	if (reason == AT_POINT) {
		st->gratis = (u16)BIT(ex.cur);
		st->normal = (u8)ex.cur;
		*ret_costly = others | ex.timed;
		return true;
	}
	if (ex.ready) {
		st->gratis = (u16)ex.ready;
		*ret_costly = ex.timed;
	} else {
		st->gratis = (u16)revive();
	}
	if (!st->gratis)
		return false;
	st->normal = (u8)next_after(others ? others : st->gratis, ex.cur);
	return true;
}

/* ---- who shall go on ------------------------------------------------------------- */

static u64 next_random(u64 *state)
{
	u64 x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* The highest priority of those who cost nothing or are ready. */
static u8 choose_pct(const struct step *st, u32 costly)
{
	u32 set = (st->gratis | costly) & ~ex.timed, i, best = NOBODY;

	for (i = 0; i + 1 < ex.depth; i++) {
		if (ex.change_point[i] == ex.nr_points && ex.cur != HELPER)
			ex.co[ex.cur].priority = i;
	}
	/* A time limit runs out early now and then. */
	if (!set || (costly & ex.timed && next_random(&ex.pct_random) % 64 == 0))
		return (u8)next_after(ex.timed & (st->gratis | costly), ex.cur);
	/* Who yields does not go on, however high. */
	if (st->normal != ex.cur && set & ~BIT(ex.cur))
		set &= ~BIT(ex.cur);
	for (i = 0; i < ex.nr_co; i++) {
		if (set & BIT(i) && (best == NOBODY || ex.co[i].priority > ex.co[best].priority))
			best = i;
	}
	return (u8)best;
}

static u8 choose_replay(const struct step *st)
{
	u32 i = ex.next_deviation;

	if (i == ex.nr_deviations || ex.deviation[i].point != ex.nr_points)
		return st->normal;
	ex.next_deviation++;
	return ex.deviation[i].thread;
}

static void choose(struct step *st, u32 costly)
{
	st->used = (u8)ex.used;
	st->untried = 0;
	if (ex.replaying) {
		st->chosen = choose_replay(st);
	} else if (ex.mode == EXPLORE_PCT) {
		st->chosen = choose_pct(st, costly);
	} else {
		st->chosen = st->normal;
		st->untried = (u16)((st->gratis | (ex.used < ex.bound ? costly : 0)) &
				    ~BIT(st->chosen));
	}
}

static void tell_switch(const struct step *st)
{
	const struct coroutine *co = &ex.co[ex.cur];
	char text[200];

	fmt_str(text, sizeof(text), "  %4u: thread %u stops at code 0x%lx, word %p; %u goes on%s\n",
		ex.nr_points, ex.cur, (size_t)((const char *)co->code - __ehdr_start), co->addr,
		st->chosen, st->chosen == st->normal ? "" : " (schedule)");
	os_message(text);
}

/* Switch to whom the step names. */
static void resume(u32 next, void **save)
{
	struct coroutine *co = &ex.co[next];

	if (ex.timed & BIT(next)) {
		ex.timed &= ~BIT(next);
		ex.asleep &= ~BIT(next);
		ex.ready |= BIT(next);
		co->timed_out = true;
		ex.now = max_of(ex.now, co->deadline);
	}
	if (save == &co->sp)
		return;
	ex.cur = next;
	sync_explore_switch(save, co->sp);
}

/*
 * A point: decide who goes on.  `save` is where the caller's stack is kept: the
 * current coroutine's, or the host's at the start of a run.
 */
static void schedule(enum reason reason, void **save)
{
	struct step *st = &ex.step[ex.nr_points];
	bool fixed = ex.nr_points < ex.nr_fixed;
	u8 chosen = st->chosen;
	u32 costly;

	if (unlikely(ex.nr_points == EXPLORE_MAX_POINTS)) {
		note_failure(EXPLORE_LIVELOCK, "livelock: too many points", true);
		back_to_host();
	}
	if (!offer(st, reason, &costly)) {
		if (ex.bodies_left)
			note_failure(EXPLORE_DEADLOCK, "deadlock", true);
		back_to_host();
	}
	if (fixed)
		st->chosen = chosen;
	else
		choose(st, costly);
	chosen = st->chosen;
	if (unlikely(!((st->gratis | costly) & BIT(chosen))))
		abort_scenario("does not depend on the schedule alone");
	ex.used = st->used + !(st->gratis & BIT(chosen));
	if (unlikely(ex.talk) && chosen != ex.cur && ex.cur != HELPER)
		tell_switch(st);
	ex.nr_points++;
	ex.now += POINT_NS;
	if (reason == AT_POINT && chosen == ex.cur)
		return;
	resume(chosen, save);
}

/* ---- what sync.h asks for -------------------------------------------------------- */

void sync_point(const void *addr)
{
	struct coroutine *co = &ex.co[ex.cur];

	if (ex.phase != RUNNING)
		return;
	co->addr = addr;
	co->code = __builtin_return_address(0);
	schedule(AT_POINT, &co->sp);
	co->seen = ex.changes;
}

void sync_changed(void)
{
	ex.changes++;
	if (unlikely(ex.spinning)) {
		ex.ready |= ex.spinning;
		ex.spinning = 0;
	}
}

void sync_relax(void)
{
	struct coroutine *co = &ex.co[ex.cur];

	if (ex.phase != RUNNING)
		return;
	co->code = __builtin_return_address(0);
	if (co->seen != ex.changes) {
		/* What it is looking for may be there by now. */
		schedule(YIELDED, &co->sp);
		return;
	}
	ex.ready &= ~BIT(ex.cur);
	ex.spinning |= BIT(ex.cur);
	schedule(GONE, &co->sp);
}

int futex_wait(struct atomic32 *word, u32 val, u64 timeout_ns, bool shared)
{
	struct coroutine *co = &ex.co[ex.cur];

	(void)shared;
	if (ex.phase != RUNNING) {
		if (atomic32_peek(word) != val)
			return 0;
		if (timeout_ns != SYNC_FOREVER)
			return -ETIMEDOUT;
		os_abort("explore: sleeps for ever outside of a body\n");
	}
	sync_point(word);
	if (atomic32_peek(word) != val)
		return 0;
	co->code = __builtin_return_address(0);
	co->word = word;
	co->sleep_order = ex.sleeps++;
	co->timed_out = false;
	ex.ready &= ~BIT(ex.cur);
	ex.asleep |= BIT(ex.cur);
	if (timeout_ns != SYNC_FOREVER) {
		co->deadline = ex.now + timeout_ns;
		ex.timed |= BIT(ex.cur);
	}
	schedule(GONE, &co->sp);
	return co->timed_out ? -ETIMEDOUT : 0;
}

/* Who has slept longest on word; NOBODY if nobody does. */
static u32 first_sleeper(const struct atomic32 *word)
{
	u32 i, first = NOBODY;

	for (i = 0; i < ex.nr_co; i++) {
		const struct coroutine *co = &ex.co[i];

		if (ex.asleep & BIT(i) && co->word == word &&
		    (first == NOBODY || co->sleep_order < ex.co[first].sleep_order))
			first = i;
	}
	return first;
}

void futex_wake(struct atomic32 *word, u32 nr, bool shared)
{
	(void)shared;
	if (ex.phase != RUNNING)
		return;
	sync_point(word);
	while (nr-- > 0) {
		u32 i = first_sleeper(word);

		if (i == NOBODY)
			return;
		ex.asleep &= ~BIT(i);
		ex.timed &= ~BIT(i);
		ex.ready |= BIT(i);
	}
}

/* ---- threads --------------------------------------------------------------------- */

static struct thread **self_slot(void)
{
	return ex.phase == IDLE ? &ex.outside : &ex.co[ex.cur].thread;
}

struct thread *thread_self(void)
{
	return *self_slot();
}

void thread_attach(struct thread *t)
{
	quire_assert(!thread_self());
	t->nr_held = 0;
	atomic32_poke(&t->tid, 1 + ex.cur);
	*self_slot() = t;
}

void thread_detach(void)
{
	struct thread *t = thread_self();

	quire_assert(t && t->nr_held == 0);
	atomic32_poke(&t->tid, 0);
	*self_slot() = NULL;
}

int thread_start(struct thread *t)
{
	u32 i = ex.nr_co;

	if (ex.phase == IDLE)
		return -ENOSYS;
	if (i == EXPLORE_MAX_THREADS)
		abort_scenario("starts too many threads");
	ex.nr_co++;
	prepare(i, t, NULL);
	ex.co[i].priority = ex.depth + (u32)(next_random(&ex.pct_random) % 1000);
	atomic32_poke(&t->exited, 0);
	atomic32_poke(&t->tid, 1 + i);
	t->nr_held = 0;
	ex.ready |= BIT(i);
	return 0;
}

void thread_join(struct thread *t)
{
	if (!atomic32_load(&t->tid) && !atomic32_load(&t->exited))
		return;
	while (!atomic32_load(&t->exited))
		(void)futex_wait(&t->exited, 0, SYNC_FOREVER, false);
}

void thread_forget(struct thread *t)
{
	atomic32_store(&t->tid, 0);
	atomic32_store(&t->exited, 0);
	t->nr_held = 0;
}

/* The end of a coroutine. */
static void finish_current(void)
{
	struct coroutine *co = &ex.co[ex.cur];

	if (ex.cur == HELPER)
		back_to_host();
	if (co->thread && co->thread->nr_held)
		os_abort("explore: a thread ends with a lock held\n");
	if (co->body) {
		ex.bodies_left--;
	} else {
		struct thread *t = co->thread;

		quire_assert(t);
		atomic32_store(&t->exited, 1);
		futex_wake(&t->exited, UINT32_MAX, false);
		atomic32_poke(&t->tid, 0);
	}
	ex.ready &= ~BIT(ex.cur);
	schedule(GONE, &co->sp);
}

/* ---- what os.c and sync.c ask for ------------------------------------------------ */

bool sync_explore_running(void)
{
	return ex.phase != IDLE;
}

u64 sync_explore_now(void)
{
	return ex.now;
}

void sync_explore_random(void *buf, size_t len)
{
	char *p = buf;

	while (len-- > 0)
		*p++ = (char)(next_random(&ex.random) >> 32);
}

enum mutant sync_explore_mutant(void)
{
	return ex.mutant;
}

const void *sync_explore_me(void)
{
	return &ex.co[ex.cur];
}

/* ---- runs ------------------------------------------------------------------------ */

/* setup, check or reset on the helper's stack, so that it can fail half-way. */
static void call_helper(void (*fn)(void *ctx))
{
	if (!fn)
		return;
	prepare(HELPER, NULL, NULL);
	ex.helper_fn = fn;
	ex.cur = HELPER;
	sync_explore_switch(&ex.host_sp, ex.co[HELPER].sp);
}

static void make_bodies(const struct explore_scenario *s)
{
	u32 i;

	/* setup has started threads 0 .. nr_co - 1. */
	for (i = 0; i < s->nr_bodies; i++) {
		if (ex.nr_co == EXPLORE_MAX_THREADS)
			abort_scenario("has too many threads");
		prepare(ex.nr_co, NULL, s->body[i]);
		ex.co[ex.nr_co].own.tid.v = 1 + ex.nr_co;
		ex.ready |= BIT(ex.nr_co++);
	}
	ex.bodies_left = s->nr_bodies;
}

/* Priorities above the change points; the change points anywhere in a run. */
static void make_priorities(void)
{
	u32 length = max_of(ex.result->max_points, 1u), i;

	for (i = 0; i < ex.nr_co; i++)
		ex.co[i].priority = ex.depth + (u32)(next_random(&ex.pct_random) >> 40);
	for (i = 0; i + 1 < ex.depth; i++)
		ex.change_point[i] = (u32)(next_random(&ex.pct_random) % length);
}

static void run_once(const struct explore_scenario *s)
{
	struct explore_result *r = ex.result;

	ex.phase = PREPARING;
	ex.nr_co = ex.nr_points = ex.used = 0;
	ex.ready = ex.spinning = ex.asleep = ex.timed = 0;
	ex.changes = 1;
	ex.changes_at_retry = 0;
	ex.next_deviation = 0;
	ex.now = FIRST_NOW;
	ex.random = 0x9e3779b97f4a7c15ull;
	call_helper(s->setup);
	if (!r->found) {
		make_bodies(s);
		if (ex.mode == EXPLORE_PCT)
			make_priorities();
		ex.phase = RUNNING;
		ex.cur = HELPER;
		schedule(GONE, &ex.host_sp);
		ex.phase = PREPARING;
	}
	if (!r->found)
		call_helper(s->check);
	if (!r->found)
		call_helper(s->reset);
	ex.phase = IDLE;
	r->nr_runs++;
	r->nr_points += ex.nr_points;
	r->max_points = max_of(r->max_points, ex.nr_points);
	r->max_threads = max_of(r->max_threads, ex.nr_co);
}

/* Prepare the next schedule; false when there is none. */
static bool advance(void)
{
	u32 i;

	for (i = ex.nr_points; i-- > 0;) {
		struct step *st = &ex.step[i];

		if (!st->untried)
			continue;
		st->chosen = (u8)__builtin_ctz(st->untried);
		st->untried &= (u16)(st->untried - 1);
		ex.nr_fixed = i + 1;
		return true;
	}
	return false;
}

static void print_schedule(struct explore_result *r)
{
	struct fmt f;
	u32 i;

	fmt_init(&f, r->schedule, sizeof(r->schedule));
	for (i = 0; i < ex.nr_points; i++) {
		const struct step *st = &ex.step[i];

		if (st->chosen != st->normal)
			fmt_add(&f, "%s%u:%u", f.len ? " " : "", i, st->chosen);
	}
}

static void report(const struct explore_scenario *s, const struct explore_result *r)
{
	static const char *const found[] = { "nothing", "assertion", "deadlock", "livelock" };
	char text[1400];

	fmt_str(text, sizeof(text),
		"explore: %s: %s in run %llu: %s\nexplore: schedule \"%.200s\"\n", s->name,
		found[r->found], (unsigned long long)r->nr_runs, r->message, r->schedule);
	os_message(text);
}

static void begin(const struct explore_scenario *s, struct explore_result *r)
{
	quire_assert(ex.phase == IDLE);
	*r = (struct explore_result){ .found = EXPLORE_NOTHING };
	ex.scenario = s;
	ex.result = r;
	ex.nr_fixed = 0;
	ex.replaying = ex.talk = false;
	ex.mutant = MUTANT_NONE;
	ex.depth = 1;
	ex.pct_random = 1;
}

bool explore_run(const struct explore_scenario *s, const struct explore_opts *opts,
		 struct explore_result *r)
{
	static const struct explore_opts defaults = EXPLORE_DEFAULTS;
	bool more = true;

	if (!opts)
		opts = &defaults;
	begin(s, r);
	ex.mode = opts->mode;
	ex.mutant = opts->mutant;
	ex.bound = min_of(opts->preemptions, 200u);
	ex.depth = max_of(1u, min_of(opts->depth, (u32)ARRAY_SIZE(ex.change_point)));
	ex.pct_random = opts->seed * 0x9e3779b97f4a7c15ull | 1;
	while (more && !r->found && (!opts->max_runs || r->nr_runs < opts->max_runs)) {
		run_once(s);
		if (!r->found && ex.mode == EXPLORE_ALL)
			more = advance();
		else if (!r->found)
			more = opts->max_runs != 0;
	}
	r->complete = !more && ex.mode == EXPLORE_ALL;
	if (r->found)
		print_schedule(r);
	if (r->found && !opts->quiet)
		report(s, r);
	return !r->found;
}

/* A number up to `end` or the end of the text; steps over it. */
static int parse_until(const char **text, char end, u64 *ret)
{
	size_t len = 0;
	int err;

	while ((*text)[len] && (*text)[len] != end)
		len++;
	err = num_parse(*text, len, ret);
	*text += len + ((*text)[len] == end);
	return err;
}

static int parse_schedule(const char *text)
{
	u32 nr = 0;

	while (*text) {
		u64 point, thread;

		if (nr == MAX_DEVIATIONS || parse_until(&text, ':', &point) ||
		    parse_until(&text, ' ', &thread) || thread >= EXPLORE_MAX_THREADS)
			return -EINVAL;
		ex.deviation[nr].point = (u32)point;
		ex.deviation[nr++].thread = (u8)thread;
	}
	ex.nr_deviations = nr;
	return 0;
}

bool explore_replay(const struct explore_scenario *s, const char *schedule_text, enum mutant mutant,
		    bool talk, struct explore_result *r)
{
	begin(s, r);
	ex.mutant = mutant;
	if (parse_schedule(schedule_text))
		os_abort("explore: no schedule: \"POINT:THREAD ...\" is wanted\n");
	ex.replaying = true;
	ex.talk = talk;
	ex.mode = EXPLORE_ALL;
	run_once(s);
	print_schedule(r);
	if (r->found && talk)
		report(s, r);
	return !r->found;
}

#endif /* QUIRE_EXPLORE */
