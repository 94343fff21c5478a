/* What a session leaves behind: the table, the plots, the library. */
#include "tuner/candidates.h"
#include "tuner/library.h"
#include "tuner/session.h"
#include "tuner/unit.h"

#include "results/report.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* "NVIDIA H200" -> "nvidia-h200": the name of this device's files. */
static void file_name(const kiln_session *s, const char *ending, char *out, size_t size) {
    char slug[64];
    size_t n = 0;
    for (const char *c = s->caps.name; *c && n + 1 < sizeof slug; c++)
        if (isalnum((unsigned char)*c))
            slug[n++] = (char)tolower((unsigned char)*c);
        else if (n && slug[n - 1] != '-')
            slug[n++] = '-';
    while (n && slug[n - 1] == '-') n--;
    slug[n] = 0;
    snprintf(out, size, "%s/%s.%s", s->options.out, n ? slug : "device", ending);
}

/* ---- the table ---- */

static const char *arithmetic(const kiln_problem *p) {
    int a = kiln_problem_operand(p, "a");
    return kiln_type_name(a >= 0 ? p->operand[a].type : KILN_F32);
}

/* The best rate reached by anyone here in a matmul of this type: ours or a vendor's. */
static double best_matmul(const kiln_session *s, const char *type) {
    double best = 0;
    for (int i = 0; i < s->n_results; i++) {
        const kiln_result *r = &s->result[i];
        const kiln_generator *g = kiln_generator_of(r->problem.family);
        if (!r->problem.family->result || strcmp(arithmetic(&r->problem), type)) continue;
        double flops = g->flops(&r->problem);
        if (r->have_winner && r->winner.median > 0 && flops / r->winner.median > best)
            best = flops / r->winner.median;
        for (int v = 0; v < r->n_vendors; v++)
            if (r->vendor[v].median > 0 && flops / r->vendor[v].median > best)
                best = flops / r->vendor[v].median;
    }
    return best;
}

/* The driver's copy, or a tuned copy map where that is faster. */
static double best_copy(const kiln_session *s) {
    double best = s->copy_bandwidth;
    for (int i = 0; i < s->n_results; i++) {
        const kiln_result *r = &s->result[i];
        const kiln_problem *p = &r->problem;
        bool copies = r->have_winner && p->n_operands == 2 && p->body.n_statements == 1 &&
                      p->body.node[p->body.statement[0].node].op == KILN_OP_OPERAND;
        double rate = copies ? kiln_generator_of(p->family)->bytes(p) / r->winner.median : 0;
        if (rate > best) best = rate;
    }
    return best;
}

static void fill_row(kiln_session *s, kiln_result *r, kiln_report_row *row, double copy) {
    const kiln_generator *g = kiln_generator_of(r->problem.family);
    *row = (kiln_report_row){.problem = r->text,
                             .flops = g->flops(&r->problem),
                             .bytes = g->bytes(&r->problem),
                             .peak_bytes = copy,
                             .winner = r->have_winner ? &r->winner : NULL,
                             .note = r->failure,
                             .n_vendors = r->n_vendors,
                             .vendor = r->vendor,
                             .search_seconds = r->search_seconds,
                             .rank_correlation = r->rank_correlation,
                             .recall = r->recall,
                             .ended = r->ended};
    if (!r->problem.family->result) return;
    row->peak_name = kiln_arena_printf(&s->arena, "matmul %s", arithmetic(&r->problem));
    row->peak_flops = best_matmul(s, arithmetic(&r->problem));
}

static int ceilings(kiln_session *s, const kiln_report_row *rows, kiln_report_ceiling *out,
                    double copy) {
    int n = 0;
    if (copy > 0) out[n++] = (kiln_report_ceiling){"copy", copy, true};
    for (int i = 0; i < s->n_results; i++) {
        bool known = rows[i].peak_flops <= 0;
        for (int k = 0; k < n; k++)
            known |= rows[i].peak_name && !strcmp(out[k].name, rows[i].peak_name);
        if (!known && n < 8)
            out[n++] = (kiln_report_ceiling){rows[i].peak_name, rows[i].peak_flops, false};
    }
    return n;
}

/* Trials and vendors of the protocol that the winner was measured by: where that is an older one,
 * nothing of today's would go with it. */
static int gather(kiln_session *s, kiln_report_row *rows, kiln_error *e) {
    int status = KILN_OK;
    for (int i = 0; i < s->n_results && !status; i++) {
        const kiln_record *winner = rows[i].winner;
        const char *protocol =
            winner ? winner->protocol : kiln_record_protocol(s->options.hot);
        status = kiln_report_gather(s->store, s->identity, protocol, &rows[i], 1, &s->arena, e);
    }
    return status;
}

int kiln_publish_table(kiln_session *s, kiln_error *e) {
    kiln_report_row *rows = kiln_arena_alloc(&s->arena, (size_t)s->n_results * sizeof *rows);
    kiln_report_ceiling ceiling[8];
    if (!rows) return kiln_fail(e, KILN_NO_MEMORY, "no memory for the table");
    double copy = best_copy(s);
    for (int i = 0; i < s->n_results; i++) fill_row(s, &s->result[i], &rows[i], copy);
    int status = gather(s, rows, e);
    if (status) return status;
    char id[32], date[32], path[1024];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    kiln_caps_id(&s->caps, id);
    kiln_report report = {.device = s->identity,
                          .driver = s->caps.driver,
                          .compiler = s->caps.compiler,
                          .command = kiln_arena_printf(&s->arena, "%s", s->command),
                          .date = date,
                          .version = KILN_RELEASE,
                          .n_rows = s->n_results,
                          .row = rows,
                          .ceiling = ceiling,
                          .n_ceilings = ceilings(s, rows, ceiling, copy)};
    kiln_text text = {0};
    kiln_report_print(&report, &text);
    kiln_progress_clear(&s->progress);
    if (!s->options.quiet) fputs(kiln_text_get(&text), stdout), fflush(stdout);
    kiln_text_clear(&text);
    kiln_report_print_markdown(&report, &text);
    file_name(s, "md", path, sizeof path);
    status = kiln_file_write(path, kiln_text_get(&text), text.size, e);
    kiln_text_free(&text);
    if (status) return status;
    kiln_progress_say(&s->progress, "table: %s", path);
    kiln_error plots = {0};
    if (kiln_report_plot(&report, s->options.out, &plots))
        kiln_progress_say(&s->progress, "plots: %s", plots.text);
    else
        kiln_progress_say(&s->progress, "plots: %s/roofline.svg, progress.svg (and .png)",
                          s->options.out);
    return KILN_OK;
}

/* ---- the library ---- */

typedef struct shelf {
    kiln_session *s;
    kiln_library_entry *entry;
    int n, max;
} shelf;

static void *read_unit(shelf *h, const char *unit, const char *kind, size_t *size) {
    *size = 0;
    void *data = unit[0] ? kiln_unit_read(h->s->cache, unit, kind, size, NULL) : NULL;
    void *copy = data ? kiln_arena_alloc(&h->s->arena, *size + 1) : NULL;
    if (copy) memcpy(copy, data, *size);
    free(data);
    return copy;
}

/* Where the figure comes from, and test vectors, so that a deployment can check for itself. */
static void add_evidence(kiln_session *s, kiln_library_entry *x, const kiln_record *m) {
    kiln_error e;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:s, s:s}", "device", m->device,
                          "protocol", m->protocol, "phase", m->phase, "source", m->source, "median",
                          m->median, "p05", m->p05, "p95", m->p95, "error_bound", m->error_bound,
                          "date", m->date, "session", m->session);
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (text) x->provenance = kiln_arena_strdup(&s->arena, text);
    free(text);
    json_decref(j);
    kiln_library_take_samples(x, &s->arena, &e); /* without them `kiln test` says so */
}

/* False when the unit's files are not in the cache (any more). */
static bool shelve(shelf *h, const kiln_result *r, const char *schedule, const char *unit,
                   const char *suffix, const kiln_record *measured, bool fallback, bool complete) {
    size_t size, n;
    kiln_library_entry x = {.problem = r->text,
                            .schedule = schedule,
                            .caps = &h->s->caps,
                            .suffix = suffix,
                            .fallback = fallback,
                            .facts = {-1, -1, -1, -1, -1},
                            .seed = h->s->options.seed};
    x.code = read_unit(h, unit, "bin", &x.code_bytes);
    x.source = read_unit(h, unit, "src", &size);
    x.code_kind = read_unit(h, unit, "kind", &n);
    x.ptx = read_unit(h, unit, "ptx", &x.ptx_bytes);
    if (!x.code || !x.source || !x.code_kind || h->n == h->max) return false;
    if (measured) {
        x.seconds = measured->median;
        x.error_bound_ratio = measured->error_bound;
        x.facts.registers = measured->registers;
        x.facts.local_bytes = measured->local_bytes;
        x.facts.shared_bytes = measured->shared_bytes;
    }
    if (measured && complete) add_evidence(h->s, &x, measured);
    h->entry[h->n++] = x;
    return true;
}

static bool has_fallback(shelf *h, const kiln_result *r) {
    kiln_text mine = {0}, other = {0};
    bool found = false;
    kiln_problem_print_kernel_key(&r->problem, &mine);
    for (int i = 0; i < h->n && !found; i++) {
        kiln_problem p;
        if (!h->entry[i].fallback || kiln_problem_parse(&p, h->entry[i].problem, NULL)) continue;
        kiln_text_clear(&other);
        kiln_problem_print_kernel_key(&p, &other);
        found = !strcmp(kiln_text_get(&mine), kiln_text_get(&other));
    }
    kiln_text_free(&mine);
    kiln_text_free(&other);
    return found;
}

/* The generic kernel of a kernel key: one that the search measured, else compiled now. */
static bool shelve_fallback(shelf *h, kiln_result *r, bool complete) {
    if (has_fallback(h, r)) return true;
    kiln_session *s = h->s;
    char unit[65], suffix[20];
    kiln_schedule generic;
    if (!kiln_generic_schedule(&r->problem, &s->caps, &generic)) return false;
    kiln_text text = {0};
    kiln_schedule_print(&generic, &text);
    char *schedule = kiln_arena_strdup(&s->arena, kiln_text_get(&text));
    kiln_text_free(&text);
    /* A search has usually compiled it; code for one architecture only still wants PTX beside it.
     */
    if (r->generic_unit && (!complete || !s->caps.arch_number))
        return shelve(h, r, schedule, r->generic_unit, r->generic_suffix, NULL, true, complete);
    if (!complete) return false;
    kiln_error e = {0};
    /* PTX for a plain architecture serves GPUs that are not the one tuned on */
    int status = kiln_session_compile(s, r->text, schedule, "compute_80", unit, suffix, &e);
    if (status) status = kiln_session_compile(s, r->text, schedule, "", unit, suffix, &e);
    if (status) kiln_progress_say(&s->progress, "no fallback for %s: %s", r->text, e.text);
    return !status && shelve(h, r, schedule, kiln_arena_strdup(&s->arena, unit),
                             kiln_arena_strdup(&s->arena, suffix), NULL, true, complete);
}

static void compile_alone(kiln_session *s, kiln_result *r) {
    char unit[65], suffix[20];
    if (kiln_interrupted ||
        kiln_session_compile(s, r->text, r->winner.schedule, "", unit, suffix, NULL))
        return;
    r->unit = kiln_arena_strdup(&s->arena, unit);
    r->suffix = kiln_arena_strdup(&s->arena, suffix);
}

int kiln_publish_library(kiln_session *s, const char *path, bool complete, kiln_error *e) {
    shelf h = {.s = s, .max = 2 * s->n_results};
    h.entry = kiln_arena_alloc(&s->arena, (size_t)h.max * sizeof *h.entry);
    if (!h.entry) return kiln_fail(e, KILN_NO_MEMORY, "no memory for the library");
    for (int i = 0; i < s->n_results; i++) {
        kiln_result *r = &s->result[i];
        if (!r->have_winner) continue;
        if (complete || !r->unit || !r->unit[0]) compile_alone(s, r);
        int before = h.n;
        if (!shelve_fallback(&h, r, complete) ||
            !shelve(&h, r, r->winner.schedule, r->unit ? r->unit : "", r->suffix, &r->winner, false,
                    complete)) {
            h.n = before;
            kiln_progress_say(&s->progress,
                              "not in the library: %s (its code is not in %s; run `tune "
                              "emit` to make it again)",
                              r->text, s->cache);
        }
    }
    if (!h.n) return kiln_fail(e, KILN_NOT_FOUND, "no winner yet: nothing to put into a library");
    int status = kiln_library_write(path, h.entry, h.n, NULL, e);
    if (!status) kiln_progress_say(&s->progress, "library: %s (%d kernels)", path, h.n);
    return status;
}

int kiln_publish(kiln_session *s, kiln_error *e) {
    char path[1024];
    file_name(s, "kiln", path, sizeof path);
    snprintf(s->library, sizeof s->library, "%s", path);
    /* An interrupted session owes its user a library within two seconds; the table can wait. */
    int status = kiln_publish_library(s, path, !kiln_interrupted, e);
    if (kiln_interrupted) return status;
    int table = kiln_publish_table(s, e);
    return status ? status : table;
}
