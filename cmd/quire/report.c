/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - what `quire run --stats` says at the end.
 *
 * Read from the tree, which outlives the program: whatever ended it, the report
 * is there.  The figures are those of the run's group, which sums up all its
 * processes, the dead as well; latencies are kept by each process, and the
 * report has the busiest one's median and the worst of the rest.
 *
 * The JSON object is described in quire-run(1); fields are added, never changed,
 * within "version":1.
 */
#include <errno.h>
#include <quire/view.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "json.h"

#define STAT_BYTES (64 * 1024)
#define MEMBERS_SHOWN 1000
#define PAGE 4096

struct figures {
	bool managed; /* a tree is there, and a process in it */
	char *stat; /* text of memory.stat */
	char *events, *swap_events;
	uint64_t peak, swap_peak;
	uint64_t nr_members, nr_refused, nr_forgotten;
	struct quire_member busiest; /* most hard faults */
	uint64_t worst_ns[4];
	uint64_t peak_anon; /* largest of one process, by the system */
	char pager[16], store_dir[256], last_words[128];
	uint64_t store_max;
};

/* ---- reading ------------------------------------------------------------------- */

/* Text of a file of the run's group; "" if it cannot be read.  To be freed. */
static char *read_file(struct quire_view *view, const char *group, const char *file)
{
	char *buf = calloc(1, STAT_BYTES);

	if (!buf)
		die(EXIT_QUIRE, "out of memory: close other programs");
	if (quire_view_read(view, group, file, buf, STAT_BYTES, NULL) < 0)
		buf[0] = 0;
	return buf;
}

static uint64_t read_number(struct quire_view *view, const char *group, const char *file)
{
	char *text = read_file(view, group, file);
	uint64_t n = strtoull(text, NULL, 10);

	free(text);
	return n;
}

/* The number in the line "key number"; 0 if there is none. */
static uint64_t value_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (!strncmp(p, key, len) && p[len] == ' ')
			return strtoull(p + len + 1, NULL, 10);
	return 0;
}

static void keep_text(char *to, size_t size, const char *from)
{
	if (!to[0] && from[0])
		snprintf(to, size, "%s", from);
}

static void read_members(struct quire_view *view, struct figures *f)
{
	struct quire_member m = { .size = sizeof(m) };

	for (unsigned int n = 0; !quire_view_member(view, n, &m); n++) {
		f->nr_members++;
		if (m.nr_faults >= f->busiest.nr_faults)
			f->busiest = m;
		for (size_t i = 0; i < COUNT_OF(f->worst_ns); i++)
			if (m.fault_ns[i] > f->worst_ns[i])
				f->worst_ns[i] = m.fault_ns[i];
		if (m.peak_anon > f->peak_anon)
			f->peak_anon = m.peak_anon;
		keep_text(f->pager, sizeof(f->pager), m.pager);
		keep_text(f->store_dir, sizeof(f->store_dir), m.store_dir);
		if (m.store_max > f->store_max)
			f->store_max = m.store_max;
		keep_text(f->last_words, sizeof(f->last_words), m.last_words);
	}
}

static void read_figures(const struct report *r, struct figures *f)
{
	struct quire_view *view;
	char *tree;

	memset(f, 0, sizeof(*f));
	if (quire_view_open(r->segment_fd, &view) < 0) {
		f->stat = text_of("%s", "");
		f->events = text_of("%s", "");
		f->swap_events = text_of("%s", "");
		return;
	}
	f->stat = read_file(view, r->group, "memory.stat");
	f->events = read_file(view, r->group, "memory.events");
	f->swap_events = read_file(view, r->group, "memory.swap.events");
	tree = read_file(view, "/", "cgroup.stat");
	f->nr_refused = value_of(tree, "nr_refused_processes");
	f->nr_forgotten = value_of(tree, "nr_forgotten_processes");
	free(tree);
	f->peak = read_number(view, r->group, "memory.peak");
	f->swap_peak = read_number(view, r->group, "memory.swap.peak");
	read_members(view, f);
	f->nr_members += f->nr_forgotten;
	f->managed = f->nr_members > 0;
	quire_view_close(view);
}

static void free_figures(struct figures *f)
{
	free(f->stat);
	free(f->events);
	free(f->swap_events);
}

/* Uncompressed over compressed, times 100; 0: nothing was compressed. */
static uint64_t ratio_percent(const struct figures *f)
{
	uint64_t in = value_of(f->stat, "zswpout") * PAGE;
	uint64_t out = value_of(f->stat, "zswpout_bytes");

	if (!out) { /* an older tree: what is compressed right now */
		in = value_of(f->stat, "zswapped");
		out = value_of(f->stat, "zswap");
	}
	return out ? in * 100 / out : 0;
}

/* ---- for people ------------------------------------------------------------------ */

static const char *time_text(char *buf, uint64_t ns)
{
	if (ns < 10000)
		snprintf(buf, 16, "%.1f us", (double)ns / 1e3);
	else if (ns < 10000000)
		snprintf(buf, 16, "%.0f us", (double)ns / 1e3);
	else
		snprintf(buf, 16, "%.0f ms", (double)ns / 1e6);
	return buf;
}

static void print_end(const struct report *r, FILE *out)
{
	const struct child *c = r->child;

	fprintf(out, "quire: %s ", r->argv[0]);
	if (c->signal)
		fprintf(out, "was killed by signal %d (%s)", c->signal, strsignal(c->signal));
	else
		fprintf(out, "exited with status %d", c->status);
	fprintf(out, " after %.2f s (user %.2f s, system %.2f s)\n", c->seconds, c->user_seconds,
		c->system_seconds);
}

static void print_faults(const struct figures *f, FILE *out)
{
	char a[16], b[16], c[16];

	fprintf(out,
		"  faults       %llu, of which %llu had to read or decompress, %llu mapped "
		"back\n",
		(unsigned long long)value_of(f->stat, "pgfault"),
		(unsigned long long)value_of(f->stat, "pgmajfault"),
		(unsigned long long)value_of(f->stat, "pgsoftfault"));
	if (f->busiest.nr_faults)
		fprintf(out, "  latency      %s median, %s for 99 %%, %s longest\n",
			time_text(a, f->busiest.fault_ns[0]), time_text(b, f->worst_ns[1]),
			time_text(c, f->worst_ns[3]));
}

static void print_paging(const struct figures *f, FILE *out)
{
	uint64_t ratio = ratio_percent(f);
	char a[16];

	fprintf(out,
		"  paged out    %s at most; %llu pages compressed, %llu written, %llu same-filled, "
		"%llu unchanged\n",
		size_text(a, f->swap_peak), (unsigned long long)value_of(f->stat, "zswpout"),
		(unsigned long long)value_of(f->stat, "pswpout"),
		(unsigned long long)value_of(f->stat, "swpout_zero"),
		(unsigned long long)value_of(f->stat, "swpout_clean"));
	if (ratio)
		fprintf(out, "  compression  %llu.%02llu : 1\n", (unsigned long long)ratio / 100,
			(unsigned long long)ratio % 100);
	print_faults(f, out);
	fprintf(out, "  refaults     %llu, %llu of them too soon\n",
		(unsigned long long)value_of(f->stat, "workingset_refault_anon"),
		(unsigned long long)value_of(f->stat, "workingset_activate_anon"));
	fprintf(out, "  reclaim      %llu pages of %llu looked at, %llu of them directly\n",
		(unsigned long long)value_of(f->stat, "pgsteal"),
		(unsigned long long)value_of(f->stat, "pgscan"),
		(unsigned long long)value_of(f->stat, "pgsteal_direct"));
	fprintf(out, "  out of memory %llu times, %llu killed; limit hit %llu times\n",
		(unsigned long long)value_of(f->events, "oom"),
		(unsigned long long)value_of(f->events, "oom_kill"),
		(unsigned long long)value_of(f->events, "max"));
	fprintf(out, "  pager        %s\n", f->pager[0] ? f->pager : "none was needed");
	if (f->store_dir[0])
		fprintf(out, "  swap file    in %s, at most %s\n", f->store_dir,
			size_text(a, f->store_max));
	else
		fprintf(out, "  swap file    none was needed\n");
}

static void print_text(const struct report *r, const struct figures *f, FILE *out)
{
	char a[16], b[16];

	print_end(r, out);
	if (!f->managed) {
		fprintf(out, "  not managed: the program never loaded quire, so it had no limit\n");
		return;
	}
	fprintf(out, "  group        %s, %llu process%s\n", r->group,
		(unsigned long long)f->nr_members, f->nr_members == 1 ? "" : "es");
	if (f->nr_refused)
		fprintf(out,
			"  not counted  %llu processes, each within the limit: no more than 4096 at "
			"a time are\n",
			(unsigned long long)f->nr_refused);
	fprintf(out, "  memory       %s at most, limit %s\n", size_text(a, f->peak),
		size_text(b, r->max));
	print_paging(f, out);
	if (f->last_words[0])
		fprintf(out, "  ended by quire: %s\n", f->last_words);
}

/* ---- for programs ------------------------------------------------------------------ */

/* All "key value" lines of a file as an object. */
static void put_keys(struct json *j, const char *name, const char *text)
{
	char key[64];
	unsigned long long value;

	json_begin(j, name, '{');
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (sscanf(p, "%63s %llu", key, &value) == 2)
			json_number(j, key, value);
	json_end(j, '}');
}

static void put_faults(struct json *j, const struct figures *f)
{
	json_begin(j, "faults", '{');
	json_number(j, "all", value_of(f->stat, "pgfault"));
	json_number(j, "hard", value_of(f->stat, "pgmajfault"));
	json_number(j, "soft", value_of(f->stat, "pgsoftfault"));
	json_number(j, "decompressed", value_of(f->stat, "zswpin"));
	json_number(j, "read", value_of(f->stat, "pswpin"));
	json_number(j, "filled", value_of(f->stat, "swpin_zero"));
	json_number(j, "readahead", value_of(f->stat, "readahead"));
	json_number(j, "p50_ns", f->busiest.fault_ns[0]);
	json_number(j, "p99_ns", f->worst_ns[1]);
	json_number(j, "p999_ns", f->worst_ns[2]);
	json_number(j, "max_ns", f->worst_ns[3]);
	json_end(j, '}');
}

static void put_child(struct json *j, const struct report *r)
{
	json_begin(j, "command", '[');
	for (char **arg = r->argv; *arg; arg++)
		json_string(j, NULL, *arg);
	json_end(j, ']');
	json_number(j, "pid", (uint64_t)r->child->pid);
	json_number(j, "exit_status", (uint64_t)r->child->status);
	json_number(j, "signal", (uint64_t)r->child->signal);
	json_seconds(j, "seconds", r->child->seconds);
	json_seconds(j, "user_seconds", r->child->user_seconds);
	json_seconds(j, "system_seconds", r->child->system_seconds);
}

static void put_members(struct json *j, const struct report *r)
{
	struct quire_member m = { .size = sizeof(m) };
	struct quire_view *view;

	json_begin(j, "processes", '[');
	if (quire_view_open(r->segment_fd, &view) < 0) {
		json_end(j, ']');
		return;
	}
	for (unsigned int n = 0; n < MEMBERS_SHOWN && !quire_view_member(view, n, &m); n++) {
		json_begin(j, NULL, '{');
		json_number(j, "pid", (uint64_t)m.pid);
		json_string(j, "comm", m.comm);
		json_number(j, "peak_anon", m.peak_anon);
		json_number(j, "hard_faults", m.nr_faults);
		json_number(j, "p50_ns", m.fault_ns[0]);
		json_number(j, "p99_ns", m.fault_ns[1]);
		json_string(j, "pager", m.pager[0] ? m.pager : NULL);
		json_string(j, "last_words", m.last_words[0] ? m.last_words : NULL);
		json_end(j, '}');
	}
	json_end(j, ']');
	quire_view_close(view);
}

static void print_json(const struct report *r, const struct figures *f, FILE *out)
{
	struct json j = { out, false };
	uint64_t ratio = ratio_percent(f);

	json_begin(&j, NULL, '{');
	json_number(&j, "version", 1);
	put_child(&j, r);
	json_bool(&j, "managed", f->managed);
	json_string(&j, "group", r->group);
	json_limit(&j, "limit", r->max);
	json_number(&j, "peak", f->peak);
	json_number(&j, "peak_anon", f->peak_anon);
	json_limit(&j, "swap_limit", r->swap_max);
	json_number(&j, "swap_peak", f->swap_peak);
	json_seconds(&j, "compression_ratio", (double)ratio / 100);
	put_faults(&j, f);
	json_number(&j, "refaults", value_of(f->stat, "workingset_refault_anon"));
	json_number(&j, "reclaimed", value_of(f->stat, "pgsteal"));
	json_string(&j, "pager", f->pager[0] ? f->pager : NULL);
	json_string(&j, "swap_dir", r->swap_dir);
	json_bool(&j, "swap_file_used", f->store_dir[0]);
	json_string(&j, "last_words", f->last_words[0] ? f->last_words : NULL);
	put_keys(&j, "events", f->events);
	put_keys(&j, "swap_events", f->swap_events);
	put_keys(&j, "stat", f->stat);
	put_members(&j, r);
	json_number(&j, "processes_not_counted", f->nr_refused + f->nr_forgotten);
	json_end(&j, '}');
	fputc('\n', out);
}

void report_write(const struct report *r, enum report_format format, FILE *out)
{
	struct figures f;

	read_figures(r, &f);
	if (format == REPORT_JSON)
		print_json(r, &f, out);
	else
		print_text(r, &f, out);
	free_figures(&f);
}
