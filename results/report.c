#include "results/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- from the store */

typedef struct gathering {
    kiln_report_row *row;
    kiln_record *vendors;
    double *trial;
    int capacity;
    bool want_winner, want_vendors, failed;
    kiln_arena *arena;
} gathering;

/* Strings of a visited record live until the visit ends: a record that is kept is copied. */
static kiln_record *keep(const kiln_record *r, kiln_arena *arena) {
    kiln_text line = {0};
    kiln_record *copy = kiln_arena_alloc(arena, sizeof *copy);
    kiln_record_print(r, &line);
    bool good =
        copy && !line.failed && kiln_record_parse(copy, line.data, line.size, arena, NULL) == 0;
    kiln_text_free(&line);
    return good ? copy : NULL;
}

static bool add_trial(gathering *g, double seconds) {
    kiln_report_row *row = g->row;
    if (row->n_trials == g->capacity) {
        g->capacity = g->capacity ? 2 * g->capacity : 128;
        double *more = kiln_arena_alloc(g->arena, (size_t)g->capacity * sizeof *more);
        if (!more) return false;
        if (row->n_trials) memcpy(more, g->trial, (size_t)row->n_trials * sizeof *more);
        row->trial = g->trial = more;
    }
    g->trial[row->n_trials++] = seconds;
    return true;
}

static bool better(const kiln_record *r, const kiln_record *than) {
    if (!than) return true;
    bool final = !strcmp(r->phase, "final"), than_final = !strcmp(than->phase, "final");
    return final != than_final ? final : r->median < than->median;
}

static bool keep_vendor(gathering *g, const kiln_record *r) {
    enum { VENDORS_MAX = 16 };
    if (!g->vendors) g->vendors = kiln_arena_alloc(g->arena, VENDORS_MAX * sizeof *g->vendors);
    kiln_record *copy = g->vendors ? keep(r, g->arena) : NULL;
    if (!copy) return false;
    int i = 0;
    while (i < g->row->n_vendors && strcmp(g->vendors[i].schedule, r->schedule)) i++;
    if (i == VENDORS_MAX) return true;
    g->vendors[i] = *copy;
    g->row->vendor = g->vendors;
    if (i == g->row->n_vendors) g->row->n_vendors++;
    return true;
}

static int gather_record(void *context, int64_t id, const kiln_record *r) {
    gathering *g = context;
    bool ok = r->outcome == KILN_OUTCOME_OK && r->median > 0, good = true;
    (void)id;
    if (!strcmp(r->phase, "search")) {
        bool timed = r->median > 0 && (ok || r->outcome == KILN_OUTCOME_SLOW);
        good = add_trial(g, timed ? r->median : NAN);
        g->row->n_failed += !timed;
        g->row->n_ruled_out += r->outcome == KILN_OUTCOME_REJECTED;
    }
    if (!strcmp(r->phase, "search") || !strcmp(r->phase, "retime")) {
        g->row->compile_seconds += r->compile_seconds;
        g->row->verify_seconds += r->verify_seconds;
        g->row->time_seconds += r->time_seconds;
    }
    if (!strcmp(r->phase, "vendor")) {
        if (ok && g->want_vendors) good = good && keep_vendor(g, r);
    } else if (ok && g->want_winner && strcmp(r->phase, "odd") && better(r, g->row->winner)) {
        g->row->winner = keep(r, g->arena);
        good = good && g->row->winner;
    }
    return g->failed = !good;
}

int kiln_report_gather(kiln_store *s, const char *device, const char *protocol,
                       kiln_report_row *rows, int n, kiln_arena *arena, kiln_error *e) {
    for (int i = 0; i < n; i++) {
        kiln_report_row *row = &rows[i];
        gathering g = {.row = row,
                       .arena = arena,
                       .want_winner = !row->winner,
                       .want_vendors = row->n_vendors == 0};
        kiln_query q = {.problem = row->problem, .device = device, .protocol = protocol};
        row->n_trials = row->n_failed = row->n_ruled_out = 0;
        row->compile_seconds = row->verify_seconds = row->time_seconds = 0;
        row->trial = NULL;
        int status = kiln_store_each(s, &q, gather_record, &g, e);
        if (!status && g.failed) status = kiln_fail(e, KILN_NO_MEMORY, "out of memory in a report");
        if (status) return status;
    }
    return 0;
}

/* ---- figures as text */

enum { CELL = 64 };

/* At least three digits that count, and the unit that makes it readable. */
static void scaled(double x, const char *const *unit, double step, char out[CELL]) {
    int i = 0;
    while (unit[i + 1] && fabs(x) >= step * 0.99995) x /= step, i++;
    snprintf(out, CELL, "%.4g %s", x, unit[i]);
}

static void print_seconds(double s, char out[CELL]) {
    static const char *const unit[] = {"ns", "us", "ms", "s", NULL};
    if (s > 0)
        scaled(s * 1e9, unit, 1e3, out);
    else
        snprintf(out, CELL, "-");
}

static void print_rate(double per_second, bool bytes, char out[CELL]) {
    static const char *const of_bytes[] = {"MB/s", "GB/s", "TB/s", NULL};
    static const char *const of_flops[] = {"MFLOP/s", "GFLOP/s", "TFLOP/s", NULL};
    scaled(per_second / 1e6, bytes ? of_bytes : of_flops, 1e3, out);
}

double kiln_report_share(const kiln_report_row *row, bool *memory) {
    double bytes = row->peak_bytes > 0 ? row->bytes / row->peak_bytes : 0;
    double flops = row->peak_flops > 0 ? row->flops / row->peak_flops : 0;
    /* without both ceilings: below 4 operations per byte every device known waits for memory */
    bool known = row->peak_bytes > 0 && row->peak_flops > 0;
    bool is_memory = known ? bytes >= flops : row->flops < 4 * row->bytes;
    if (memory) *memory = is_memory;
    double allowed = is_memory ? bytes : flops;
    return row->winner && row->winner->median > 0 ? allowed / row->winner->median : 0;
}

static void print_share(const kiln_report_row *row, char out[CELL]) {
    bool memory;
    double share = kiln_report_share(row, &memory);
    if (share > 0)
        snprintf(out, CELL, "%.0f %% %s", 100 * share, memory ? "copy" : "peak");
    else
        snprintf(out, CELL, "-");
}

/* The rate that the limiting ceiling is measured in. */
static void print_row_rate(const kiln_report_row *row, double seconds, char out[CELL]) {
    bool memory;
    kiln_report_share(row, &memory);
    if (seconds > 0)
        print_rate((memory ? row->bytes : row->flops) / seconds, memory, out);
    else
        snprintf(out, CELL, "-");
}

static void print_ratio(const kiln_record *r, char out[CELL]) {
    if (r->vendor_ratio > 0)
        snprintf(out, CELL, "%.2f [%.2f, %.2f] %.16s", r->vendor_ratio, r->vendor_ratio_low,
                 r->vendor_ratio_high, r->vendor);
    else
        snprintf(out, CELL, "-");
}

static const char *or_dash(const char *text) { return text && *text ? text : "-"; }

/* ---- the table for a terminal */

enum { COLUMNS = 120, PROBLEM_COLUMNS = 33 };

static void print_elided(kiln_text *out, const char *text, int columns) {
    if ((int)strlen(text) <= columns)
        kiln_text_printf(out, "%-*s", columns, text);
    else
        kiln_text_printf(out, "%.*s..", columns - 2, text);
}

/* Words with a hanging indent, the first line from column `at` on. */
static void print_wrapped(kiln_text *out, const char *text, int indent, int at) {
    while (*text) {
        size_t n = strcspn(text, " ");
        if (at > indent && at + 1 + (int)n > COLUMNS) {
            kiln_text_printf(out, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            kiln_text_add(out, " ");
            at++;
        }
        kiln_text_add_bytes(out, text, n);
        at += (int)n;
        text += n + strspn(text + n, " ");
    }
    kiln_text_add(out, "\n");
}

static void print_row(kiln_text *out, int i, const kiln_report_row *row) {
    char median[CELL], p05[CELL], p95[CELL], rate[CELL], share[CELL], ratio[CELL];
    const kiln_record *w = row->winner;
    kiln_text_printf(out, "%3d ", i + 1);
    print_elided(out, row->problem, PROBLEM_COLUMNS);
    if (!w) {
        kiln_text_add(out, " no winner, see below\n");
        return;
    }
    print_seconds(w->median, median);
    print_seconds(w->p05, p05);
    print_seconds(w->p95, p95);
    print_row_rate(row, w->median, rate);
    print_share(row, share);
    print_ratio(w, ratio);
    kiln_text_printf(out, " %9s %9s %9s %13s %10s  %s\n", median, p05, p95, rate, share, ratio);
}

static void print_vendors(kiln_text *out, const kiln_report_row *row, const char *join) {
    char time[CELL], rate[CELL];
    for (int i = 0; i < row->n_vendors; i++) {
        print_seconds(row->vendor[i].median, time);
        print_row_rate(row, row->vendor[i].median, rate);
        kiln_text_printf(out, "%s%s %s (%s)", i ? join : "", row->vendor[i].schedule, time, rate);
    }
}

static void print_facts(kiln_text *out, const kiln_report_row *row) {
    const kiln_record *w = row->winner;
    kiln_text_printf(out, "%s; error %.2g of its bound; %s; clock ", w->schedule, w->error_bound,
                     w->protocol);
    if (w->clock_mhz > 0)
        kiln_text_printf(out, "%d MHz", w->clock_mhz);
    else
        kiln_text_add(out, "unknown");
    kiln_text_printf(out, "; %s", or_dash(w->date));
}

static bool has_model(const kiln_report_row *row) {
    return isfinite(row->rank_correlation) && (row->rank_correlation != 0 || row->recall != 0);
}

static void print_phases(kiln_text *out, const kiln_report_row *row) {
    kiln_text_printf(out, "compile %.1f s, verify %.1f s, time %.1f s, search %.2f s",
                     row->compile_seconds, row->verify_seconds, row->time_seconds,
                     row->search_seconds);
}

/* How the search went. */
static void print_search(kiln_text *out, const kiln_report_row *row) {
    kiln_text_printf(out, "%d trials, %d failed", row->n_trials, row->n_failed);
    if (row->n_ruled_out) kiln_text_printf(out, " (%d ruled out unrun)", row->n_ruled_out);
    kiln_text_add(out, ": ");
    print_phases(out, row);
    if (has_model(row))
        kiln_text_printf(out, "; model on unseen trials: rank correlation %.2f",
                         row->rank_correlation);
    if (has_model(row) && isfinite(row->recall))
        kiln_text_printf(out, ", recall of the best tenth %.2f", row->recall);
    if (row->ended) kiln_text_printf(out, "; ended: %s", row->ended);
}

static void print_legend(kiln_text *out, int i, const kiln_report_row *row) {
    kiln_text line = {0};
    kiln_text_printf(out, "%3d", i + 1);
    print_wrapped(out, row->problem, 4, 3 + 2);
    if (row->winner) print_facts(&line, row);
    if (row->n_trials) {
        kiln_text_add(&line, row->winner ? "; " : "");
        print_search(&line, row);
    }
    if (row->n_vendors) kiln_text_add(&line, "; ");
    print_vendors(&line, row, "; ");
    if (row->note) kiln_text_printf(&line, "%s%s", line.size ? "; " : "", row->note);
    kiln_text_add(out, "    ");
    print_wrapped(out, kiln_text_get(&line), 4, 4);
    kiln_text_free(&line);
}

static void print_ceilings(kiln_text *out, const kiln_report *r) {
    char rate[CELL];
    for (int i = 0; i < r->n_ceilings; i++) {
        print_rate(r->ceiling[i].per_second, r->ceiling[i].bytes, rate);
        kiln_text_printf(out, "%s%s %s", i ? ", " : "", r->ceiling[i].name, rate);
    }
    if (!r->n_ceilings) kiln_text_add(out, "none measured");
}

/* All problems together. */
static kiln_report_row sum_rows(const kiln_report *r) {
    kiln_report_row all = {0};
    for (int i = 0; i < r->n_rows; i++) {
        const kiln_report_row *row = &r->row[i];
        all.n_trials += row->n_trials, all.n_failed += row->n_failed;
        all.n_ruled_out += row->n_ruled_out;
        all.compile_seconds += row->compile_seconds, all.verify_seconds += row->verify_seconds;
        all.time_seconds += row->time_seconds, all.search_seconds += row->search_seconds;
    }
    return all;
}

static void print_entry(kiln_text *out, const char *name, const char *value) {
    kiln_text_printf(out, "%-9s", name);
    print_wrapped(out, or_dash(value), 9, 9);
}

static const char ratio_words[] =
    "vs vendor: the vendor's time over ours in the same interleaved run, with its 95 % interval; "
    "above 1 ours is faster.";

void kiln_report_print(const kiln_report *r, kiln_text *out) {
    kiln_text ceilings = {0}, search = {0};
    const kiln_report_row all = sum_rows(r);
    kiln_text_printf(out, "  # %-*s %9s %9s %9s %13s %10s  %s\n", PROBLEM_COLUMNS, "problem",
                     "median", "p05", "p95", "rate", "of limit", "vs vendor");
    for (int i = 0; i < r->n_rows; i++) print_row(out, i, &r->row[i]);
    kiln_text_add(out, "\n");
    for (int i = 0; i < r->n_rows; i++) print_legend(out, i, &r->row[i]);
    kiln_text_add(out, "\n");
    print_wrapped(out, ratio_words, 0, 0);
    print_ceilings(&ceilings, r);
    print_entry(out, "ceilings", kiln_text_get(&ceilings));
    print_search(&search, &all);
    print_entry(out, "search", kiln_text_get(&search));
    print_entry(out, "device", r->device);
    print_entry(out, "driver", r->driver);
    print_entry(out, "compiler", r->compiler);
    print_entry(out, "date", r->date);
    print_entry(out, "kiln", r->version);
    print_entry(out, "repeat", r->command);
    kiln_text_free(&ceilings);
    kiln_text_free(&search);
}

/* ---- Markdown */

/* A bar would end the cell. */
static void add_cell(kiln_text *out, const char *text, bool code) {
    kiln_text_add(out, code ? " `" : " ");
    for (; *text; text++)
        if (*text == '|')
            kiln_text_add(out, "\\|");
        else
            kiln_text_add_bytes(out, *text == '\n' ? " " : text, 1);
    kiln_text_add(out, code ? "` |" : " |");
}

static void add_winner_cells(kiln_text *out, const kiln_report_row *row) {
    const kiln_record *w = row->winner;
    char text[CELL];
    print_seconds(w->median, text), add_cell(out, text, false);
    print_seconds(w->p05, text), add_cell(out, text, false);
    print_seconds(w->p95, text), add_cell(out, text, false);
    print_row_rate(row, w->median, text), add_cell(out, text, false);
    print_share(row, text), add_cell(out, text, false);
    print_ratio(w, text), add_cell(out, text, false);
    snprintf(text, sizeof text, "%.2g", w->error_bound), add_cell(out, text, false);
    add_cell(out, w->protocol, false);
    if (w->clock_mhz > 0)
        snprintf(text, sizeof text, "%d MHz", w->clock_mhz);
    else
        snprintf(text, sizeof text, "-");
    add_cell(out, text, false);
    add_cell(out, or_dash(w->date), false);
    add_cell(out, w->schedule, true);
}

static void add_markdown_row(kiln_text *out, int i, const kiln_report_row *row) {
    kiln_text_printf(out, "| %d |", i + 1);
    add_cell(out, row->problem, true);
    if (row->winner)
        add_winner_cells(out, row);
    else
        kiln_text_printf(out, " no winner: %s | | | | | | | | | | |", or_dash(row->note));
    kiln_text_add(out, "\n");
}

static void add_vendor_rows(kiln_text *out, const kiln_report *r) {
    char text[CELL];
    for (int i = 0; i < r->n_rows; i++)
        for (int v = 0; v < r->row[i].n_vendors; v++) {
            const kiln_record *vendor = &r->row[i].vendor[v];
            kiln_text_printf(out, "| %d |", i + 1);
            add_cell(out, vendor->schedule, false);
            print_seconds(vendor->median, text), add_cell(out, text, false);
            print_row_rate(&r->row[i], vendor->median, text), add_cell(out, text, false);
            add_cell(out, or_dash(vendor->detail), false);
            kiln_text_add(out, "\n");
        }
}

static void add_seconds(kiln_text *out, double seconds) {
    kiln_text_printf(out, seconds < 10 ? " %.2f |" : " %.0f |", seconds);
}

static void add_figure(kiln_text *out, bool known, double x) {
    if (known && isfinite(x))
        kiln_text_printf(out, " %.2f |", x);
    else
        kiln_text_add(out, " - |");
}

static void add_search_cells(kiln_text *out, const kiln_report_row *row) {
    kiln_text_printf(out, " %d | %d | %d |", row->n_trials, row->n_failed, row->n_ruled_out);
    add_seconds(out, row->compile_seconds), add_seconds(out, row->verify_seconds);
    add_seconds(out, row->time_seconds), add_seconds(out, row->search_seconds);
    add_figure(out, has_model(row), row->rank_correlation);
    add_figure(out, has_model(row), row->recall);
    add_cell(out, or_dash(row->ended), false);
    kiln_text_add(out, "\n");
}

/* How the searches went. */
static void add_search_table(kiln_text *out, const kiln_report *r) {
    const kiln_report_row all = sum_rows(r);
    kiln_text_add(out, "\n| # | trials | failed | ruled out | compile s | verify s | time s | search s "
                       "| rank correlation | recall | ended |\n"
                       "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
    for (int i = 0; i < r->n_rows; i++) {
        kiln_text_printf(out, "| %d |", i + 1);
        add_search_cells(out, &r->row[i]);
    }
    kiln_text_add(out, "| all |");
    add_search_cells(out, &all);
    kiln_text_add(out, "\nRuled out: compiled and not run, for what the compiler reported (spills, "
                       "registers). Compile is summed over workers; search is proposals, features and "
                       "training. Rank correlation and recall (of the best tenth): the model's, on "
                       "trials that it had not seen.\n");
}

static int count_vendors(const kiln_report *r) {
    int n = 0;
    for (int i = 0; i < r->n_rows; i++) n += r->row[i].n_vendors;
    return n;
}

static void add_notes(kiln_text *out, const kiln_report *r) {
    for (int i = 0; i < r->n_rows; i++)
        if (r->row[i].note && r->row[i].winner)
            kiln_text_printf(out, "- %d: %s\n", i + 1, r->row[i].note);
}

void kiln_report_print_markdown(const kiln_report *r, kiln_text *out) {
    kiln_text_printf(out, "# %s\n\n", or_dash(r->device));
    kiln_text_printf(out, "- driver: %s\n- compiler: %s\n- ceilings, measured here: ",
                     or_dash(r->driver), or_dash(r->compiler));
    print_ceilings(out, r);
    kiln_text_printf(out, "\n- date: %s, Kiln %s\n- repeat with: `%s`\n\n", or_dash(r->date),
                     or_dash(r->version), or_dash(r->command));
    kiln_text_add(out, "| # | problem | median | p05 | p95 | rate | of limit | vs vendor | "
                       "error/bound | regime | clock | date | schedule |\n"
                       "|--:|---|--:|--:|--:|--:|--:|---|--:|---|--:|---|---|\n");
    for (int i = 0; i < r->n_rows; i++) add_markdown_row(out, i, &r->row[i]);
    kiln_text_printf(out,
                     "\n%s\nOf limit: of the device-to-device copy bandwidth (copy) or of the best "
                     "arithmetic measured for the type (peak), whichever limits the problem. Rates "
                     "count every operand byte once and are decimal.\n",
                     ratio_words);
    if (count_vendors(r)) {
        kiln_text_add(out, "\n| # | vendor | median | rate | version |\n|--:|---|--:|--:|---|\n");
        add_vendor_rows(out, r);
    }
    add_search_table(out, r);
    kiln_text_add(out, "\n");
    add_notes(out, r);
}

/* ---- files */

static int write_failed(const char *path, kiln_error *e) {
    return kiln_fail(e, KILN_IO, "%s cannot be written: %s; free space or choose another --out",
                     path, strerror(errno));
}

static int write_aside(const char *aside, const char *path, const kiln_text *text, kiln_error *e) {
    FILE *f = fopen(aside, "we");
    if (!f) return write_failed(path, e);
    bool bad = fwrite(kiln_text_get(text), 1, text->size, f) != text->size;
    bad = fclose(f) || bad;
    if (!bad && rename(aside, path) == 0) return 0;
    int status = write_failed(path, e);
    unlink(aside);
    return status;
}

int kiln_report_write_file(const char *directory, const char *name, const kiln_text *text,
                           kiln_error *e) {
    kiln_arena arena = {0};
    char *path = kiln_arena_printf(&arena, "%s/%s", directory, name);
    char *aside = kiln_arena_printf(&arena, "%s/%s.new-%ld", directory, name, (long)getpid());
    int status = path && aside && !text->failed
                     ? write_aside(aside, path, text, e)
                     : kiln_fail(e, KILN_NO_MEMORY, "out of memory writing %s", name);
    kiln_arena_free(&arena);
    return status;
}

int kiln_report_write(const kiln_report *r, const char *directory, kiln_error *e) {
    kiln_text text = {0};
    kiln_report_print(r, &text);
    int status = kiln_report_write_file(directory, "table.txt", &text, e);
    kiln_text_clear(&text);
    kiln_report_print_markdown(r, &text);
    if (!status) status = kiln_report_write_file(directory, "table.md", &text, e);
    kiln_text_free(&text);
    return status;
}
