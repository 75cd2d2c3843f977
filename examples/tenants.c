/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.c - eight tenants in one process, each within its own limit.
 *
 *	tenants [--limit SIZE] [--stats] FILE...
 *	tenants --unlimited FILE...
 *
 * The files are dealt out to eight tenants, each a thread with a group and a
 * heap.  A tenant reads its files whole into its heap, counts their words in a
 * hash table of many small blocks, and prints its most frequent ones.  With a
 * limit far below what that needs, pages go out and come back all the time, and
 * one tenant does not feel how much another one uses.  The output is the same
 * as that of --unlimited, which uses malloc(3) and no quire at all.
 */
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <quire/quire.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TENANTS 8
#define TOP 5
#define BUCKETS_FIRST 256
#define WORD_MAX 64

struct word {
	struct word *next;
	unsigned long hash;
	unsigned long count;
	unsigned int len;
	char text[];
};

struct tenant {
	pthread_t thread;
	unsigned int number;
	struct quire_group *group; /* NULL: unlimited */
	struct quire_heap *heap;
	char **files;
	int nr_files;
	/* its work, all of it in its heap */
	struct word **buckets;
	unsigned long nr_buckets;
	unsigned long nr_words, nr_distinct;
	const struct word *top[TOP];
};

/* ---- memory: the heap of the tenant, or malloc ---------------------------------- */

static void *get(struct tenant *t, size_t size)
{
	void *p = t->heap ? quire_calloc(t->heap, 1, size) : calloc(1, size);

	if (!p)
		errx(1, "tenant %u: no memory: %s", t->number, quire_why());
	return p;
}

static void put(struct tenant *t, void *p)
{
	if (t->heap)
		quire_free(t->heap, p);
	else
		free(p);
}

/* ---- counting words ---------------------------------------------------------------- */

static unsigned long hash_of(const char *text, size_t len)
{
	unsigned long hash = 14695981039346656037ul;

	while (len--)
		hash = (hash ^ (unsigned char)*text++) * 1099511628211ul;
	return hash;
}

static void grow(struct tenant *t)
{
	unsigned long nr = t->nr_buckets ? t->nr_buckets * 2 : BUCKETS_FIRST;
	struct word **buckets = get(t, nr * sizeof(struct word *));

	for (unsigned long i = 0; i < t->nr_buckets; i++) {
		struct word *w = t->buckets[i], *next;

		for (; w; w = next) {
			next = w->next;
			w->next = buckets[w->hash % nr];
			buckets[w->hash % nr] = w;
		}
	}
	put(t, t->buckets);
	t->buckets = buckets;
	t->nr_buckets = nr;
}

static void count_word(struct tenant *t, const char *text, size_t len)
{
	unsigned long hash = hash_of(text, len);
	struct word *w;

	t->nr_words++;
	for (w = t->buckets[hash % t->nr_buckets]; w; w = w->next) {
		if (w->hash == hash && w->len == len && !memcmp(w->text, text, len)) {
			w->count++;
			return;
		}
	}
	w = get(t, sizeof(*w) + len);
	w->hash = hash;
	w->count = 1;
	w->len = (unsigned int)len;
	memcpy(w->text, text, len);
	w->next = t->buckets[hash % t->nr_buckets];
	t->buckets[hash % t->nr_buckets] = w;
	if (++t->nr_distinct > t->nr_buckets)
		grow(t);
}

/* Words are runs of letters, in small letters; long ones are cut. */
static void count_text(struct tenant *t, const char *text, size_t len)
{
	char word[WORD_MAX];
	size_t n = 0;

	for (size_t i = 0; i <= len; i++) {
		int c = i < len ? (unsigned char)text[i] : ' ';

		if (isalpha(c) && n < sizeof(word)) {
			word[n++] = (char)tolower(c);
		} else if (n) {
			count_word(t, word, n);
			n = 0;
		}
	}
}

/* The whole file, read straight into managed memory. */
static char *read_file(struct tenant *t, const char *path, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	struct stat st;
	char *text;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	text = get(t, (size_t)st.st_size + 1);
	while (len < (size_t)st.st_size) {
		n = read(fd, text + len, (size_t)st.st_size - len);
		if (n < 0 && errno != EINTR)
			err(1, "%s", path);
		if (n == 0)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	close(fd);
	*ret_len = len;
	return text;
}

/* More frequent first, then by the alphabet: the order of words in the table
 * does not matter. */
static bool before(const struct word *a, const struct word *b)
{
	size_t len = a->len < b->len ? a->len : b->len;
	int order;

	if (!b || a->count != b->count)
		return !b || a->count > b->count;
	order = memcmp(a->text, b->text, len);
	return order ? order < 0 : a->len < b->len;
}

static void find_top(struct tenant *t)
{
	for (unsigned long i = 0; i < t->nr_buckets; i++) {
		for (const struct word *w = t->buckets[i]; w; w = w->next) {
			size_t at = TOP;

			while (at > 0 && (!t->top[at - 1] || before(w, t->top[at - 1])))
				at--;
			if (at == TOP)
				continue;
			memmove(&t->top[at + 1], &t->top[at], (TOP - 1 - at) * sizeof(t->top[0]));
			t->top[at] = w;
		}
	}
}

static void *work(void *arg)
{
	struct tenant *t = arg;
	char *texts[1024];
	size_t len;
	int kept = 0;

	grow(t);
	for (int i = 0; i < t->nr_files; i++) {
		char *text = read_file(t, t->files[i], &len);

		count_text(t, text, len);
		/* Kept to the end, so that there is more than fits. */
		if (kept < 1024)
			texts[kept++] = text;
		else
			put(t, text);
	}
	find_top(t);
	while (kept)
		put(t, texts[--kept]);
	return NULL;
}

/* ---- the program ---------------------------------------------------------------------- */

static void set_up(struct quire *q, struct tenant *t, const char *limit)
{
	char name[16];

	snprintf(name, sizeof(name), "tenant-%u", t->number);
	if (quire_group_create(quire_root(q), name, &t->group) < 0 ||
	    quire_write(t->group, "memory.max", limit) < 0 ||
	    quire_heap_create(t->group, 0, &t->heap) < 0)
		errx(1, "%s", quire_why());
}

static void print(const struct tenant *t)
{
	printf("tenant %u: %d files, %lu words, %lu distinct:", t->number, t->nr_files, t->nr_words,
	       t->nr_distinct);
	for (size_t i = 0; i < TOP && t->top[i]; i++)
		printf(" %.*s %lu", (int)t->top[i]->len, t->top[i]->text, t->top[i]->count);
	putchar('\n');
}

static void print_stats(const struct tenant *t)
{
	uint64_t refaults = 0;

	if (quire_read_key(t->group, "memory.stat", "pgmajfault", &refaults) < 0)
		warnx("%s", quire_why());
	fprintf(stderr, "tenant %u: at most %llu KiB in memory, %llu KiB out, %llu page-ins\n",
		t->number, (unsigned long long)quire_peak(t->group) / 1024,
		(unsigned long long)quire_swap_peak(t->group) / 1024, (unsigned long long)refaults);
}

/* Every eighth file is ours, in the order of the command line. */
static void deal(struct tenant *t, char **files, int nr_files)
{
	t->files = calloc((size_t)nr_files / TENANTS + 1, sizeof(char *));
	if (!t->files)
		errx(1, "no memory");
	for (int i = (int)t->number; i < nr_files; i += TENANTS)
		t->files[t->nr_files++] = files[i];
}

static void run(struct quire *q, const char *limit, bool stats, char **files, int nr_files)
{
	struct tenant tenants[TENANTS] = { 0 };

	for (unsigned int i = 0; i < TENANTS; i++) {
		tenants[i].number = i;
		deal(&tenants[i], files, nr_files);
		if (q)
			set_up(q, &tenants[i], limit);
	}
	for (unsigned int i = 0; i < TENANTS; i++)
		if (pthread_create(&tenants[i].thread, NULL, work, &tenants[i]))
			errx(1, "no thread");
	for (unsigned int i = 0; i < TENANTS; i++) {
		pthread_join(tenants[i].thread, NULL);
		print(&tenants[i]);
		if (stats && q)
			print_stats(&tenants[i]);
		free(tenants[i].files);
		if (!q)
			continue;
		/* All of the tenant at once: a hundred thousand blocks. */
		quire_heap_destroy(tenants[i].heap);
		if (quire_group_remove(tenants[i].group) < 0)
			errx(1, "%s", quire_why());
	}
}

int main(int argc, char **argv)
{
	bool unlimited = false, stats = false;
	const char *limit = "2M";
	struct quire *q = NULL;
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--unlimited"))
			unlimited = true;
		else if (!strcmp(argv[i], "--stats"))
			stats = true;
		else if (!strcmp(argv[i], "--limit") && i + 1 < argc)
			limit = argv[++i];
		else
			errx(2, "usage: tenants [--limit SIZE | --unlimited] [--stats] FILE...");
	}
	if (!unlimited && quire_open(NULL, &q) < 0)
		errx(1, "%s", quire_why());
	run(q, limit, stats, argv + i, argc - i);
	quire_close(q);
	return 0;
}
