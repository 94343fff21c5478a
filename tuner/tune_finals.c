/* The finals of one problem: chooses who enters, has the worker run their rounds interleaved with
 * the vendors', and crowns the winner. The rule by which samples choose it is in finals.c. */
#include "tuner/finals.h"
#include "tuner/tune_private.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 512 }; /* rounds that are read of one finalist */

typedef struct finals {
    int n;
    int64_t point[KILN_FINALISTS_MAX];
    json_t *request;
} finals;

/* Those that ran their rounds and were right. */
typedef struct podium {
    int n, rounds; /* rounds that all of them were in */
    kiln_finalist list[KILN_FINALISTS_MAX];
    kiln_record record[KILN_FINALISTS_MAX];
    int64_t point[KILN_FINALISTS_MAX];
} podium;

static const char *schedule_text(const kiln_found *f, int64_t point) {
    return kiln_tuning_schedule_text(f->s, &f->c->schedule[point]);
}

/* ---- who enters ---- */

static int fastest_first(const void *a, const void *b, void *context) {
    const kiln_found *f = context;
    double x = f->known[*(const int64_t *)a].seconds, y = f->known[*(const int64_t *)b].seconds;
    return (x > y) - (x < y);
}

/* How many finalists differ from a point in at most one knob. */
static int alike(const kiln_found *f, const finals *out, int64_t point) {
    const kiln_schedule *s = &f->c->schedule[point];
    int n = 0;
    for (int i = 0; i < out->n; i++) {
        const kiln_schedule *t = &f->c->schedule[out->point[i]];
        int differ = s->variant != t->variant ? 2 : 0;
        for (int k = 0; s->variant == t->variant && s->variant->knobs[k].name; k++)
            differ += s->value[k] != t->value[k];
        n += differ <= 1;
    }
    return n;
}

/* Points within so much of the best as it is known now, fastest first: the caller frees them. */
static int64_t *good_points(const kiln_found *f, double within, int64_t *n) {
    int64_t *good = malloc((size_t)f->c->n * sizeof *good);
    int64_t fastest = kiln_tuning_fastest(f->known, f->c->n);
    double best = fastest < 0 ? 0 : f->known[fastest].seconds;
    *n = 0;
    for (int64_t i = 0; good && i < f->c->n; i++)
        if (f->known[i].seconds > 0 && f->known[i].seconds <= within * best) good[(*n)++] = i;
    if (good) qsort_r(good, (size_t)*n, sizeof *good, fastest_first, (void *)f);
    return good;
}

/* What the others are seen to beat. */
static void add_start(const kiln_found *f, finals *out, double seconds) {
    int64_t start = f->c->start[0];
    bool in = !(f->known[start].seconds > 0);
    for (int i = 0; i < out->n; i++) in |= out->point[i] == start;
    if (!in && f->known[start].seconds * 33 < seconds) out->point[out->n++] = start;
}

/* Under the load of the finals the order may be another one than at rest: first the best within
 * 15 % of those that are not all alike, then whatever is within 8 %, as many as the time allows;
 * and the start schedule. The worker races them: after a few rounds the best go on. */
static void choose_finalists(const kiln_found *f, finals *out, double seconds) {
    static const struct {
        double within;
        int alike, most;
    } pass[] = {{1.15, 1, 14}, {1.08, INT_MAX, KILN_FINALISTS_MAX - 2}};
    int64_t n, *good = good_points(f, pass[0].within, &n);
    double cost = 0, best = n ? f->known[good[0]].seconds : 0;
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < n && out->n < pass[k].most; i++) {
            double time = good[i] < 0 ? INFINITY : f->known[good[i]].seconds;
            if (!(time <= pass[k].within * best) || alike(f, out, good[i]) > pass[k].alike)
                continue;
            cost += (out->n < KILN_RACERS ? 33 : 10) * time + 0.05;
            if (out->n && cost > seconds) break;
            out->point[out->n++] = good[i];
            good[i] = -1;
        }
    free(good);
    add_start(f, out, seconds);
}

/* ---- the rounds ---- */

static int finals_request(const kiln_found *f, finals *out, double seconds, kiln_error *e) {
    json_t *list = json_array();
    int status = KILN_OK;
    for (int i = 0; i < out->n && !status; i++) {
        kiln_known *k = &f->known[out->point[i]];
        const char *schedule = schedule_text(f, out->point[i]);
        if (!k->unit[0]) /* from an earlier run of this command */
            status = kiln_session_compile(f->s, f->r->text, schedule, "", k->unit, k->suffix, e);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "schedule", schedule, "unit",
                                              k->unit, "suffix", k->suffix));
    }
    out->request = json_pack("{s:s, s:o, s:b, s:i, s:f, s:I}", "do", "finals", "candidates", list,
                             "vendors", f->s->options.vendors, "rounds", 30, "seconds", seconds,
                             "seed", (json_int_t)f->s->options.seed);
    return status;
}

/* Set up and asked as one: a worker that is killed in between takes the set-up with it. */
static int ask_finals(const kiln_found *f, json_t *request, double seconds, json_t **reply,
                      kiln_error *e) {
    int status = KILN_OK;
    for (int attempt = 0; attempt < KILN_ATTEMPTS; attempt++) {
        json_decref(*reply);
        *reply = NULL;
        status = kiln_tuning_set_up(f->s, f->r, e);
        if (!status) status = kiln_session_ask(f->s, request, seconds, reply, e);
        bool crashed = !f->s->worker[0].pid && !f->s->worker[0].killed;
        if (!status || kiln_interrupted || crashed || kiln_tuning_is_set_up(f->s, f->r)) break;
    }
    return status;
}

static kiln_record final_record(const kiln_found *f, json_t *subject, const char *schedule) {
    kiln_session *s = f->s;
    kiln_record r = kiln_session_record(s, f->r, schedule, "final");
    const char *line = json_string_value(json_object_get(subject, "record"));
    double *samples = kiln_arena_alloc(&s->arena, SAMPLES_MAX * sizeof *samples);
    kiln_tuning_take_measured(s, &r, line, NULL);
    const json_t *rounds = json_object_get(subject, "rounds");
    r.n_samples = samples ? kiln_samples_read(rounds, samples, SAMPLES_MAX) : 0;
    r.samples = samples;
    kiln_record_summarise(&r);
    return r;
}

/* ---- against the vendors ---- */

static void compare(const kiln_record *winner, kiln_record *vendor, uint64_t seed) {
    int n = vendor->n_samples < winner->n_samples ? vendor->n_samples : winner->n_samples;
    kiln_ratio ratio = kiln_paired_ratio(winner->samples, vendor->samples, n, seed);
    vendor->vendor_ratio = ratio.median;
    vendor->vendor_ratio_low = ratio.low, vendor->vendor_ratio_high = ratio.high;
}

static kiln_record vendor_record(const kiln_found *f, json_t *subject, const char *name) {
    const char *words = json_string_value(json_object_get(subject, "describe"));
    kiln_arena *arena = &f->s->arena;
    kiln_record r = final_record(f, subject, kiln_arena_printf(arena, "vendor %s", name));
    r.phase = "vendor";
    r.detail = kiln_arena_strdup(arena, words ? words : "");
    return r;
}

/* Reads the vendors' rounds; the fastest one is what the winner is compared with. */
static void read_vendors(const kiln_found *f, json_t *reply, kiln_record *winner) {
    size_t i;
    json_t *v;
    double best = 0;
    json_array_foreach(json_object_get(reply, "vendors"), i, v) {
        if (f->r->n_vendors == 4) break;
        const char *name = json_string_value(json_object_get(v, "vendor"));
        kiln_record *r = &f->r->vendor[f->r->n_vendors];
        *r = vendor_record(f, v, name);
        if (!r->n_samples) continue;
        f->r->n_vendors++;
        compare(winner, r, f->s->options.seed);
        if (best != 0 && !(r->median < best)) continue;
        best = r->median;
        winner->vendor = kiln_arena_strdup(&f->s->arena, name);
        winner->vendor_ratio = r->vendor_ratio;
        winner->vendor_ratio_low = r->vendor_ratio_low;
        winner->vendor_ratio_high = r->vendor_ratio_high;
    }
}

/* ---- odd sizes ---- */

static json_t *odd_request(const kiln_found *f, const char *problem, int64_t point) {
    const kiln_known *k = &f->known[point];
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "do", "odd", "problem", problem, "schedule",
                     schedule_text(f, point), "unit", k->unit, "suffix", k->suffix, "seed",
                     (json_int_t)f->s->options.seed);
}

/* Runs a point's program on another problem. No answer is a crash, unless the worker was killed
 * from outside: then it is asked again. */
static kiln_record run_odd(const kiln_found *f, const kiln_problem *p, int64_t point,
                           kiln_error *e) {
    kiln_text text = {0};
    kiln_problem_print(p, &text);
    json_t *reply = NULL, *request = odd_request(f, kiln_text_get(&text), point);
    int status = KILN_OK;
    for (int attempt = 0; attempt < KILN_ATTEMPTS; attempt++) {
        json_decref(reply);
        reply = NULL;
        status = kiln_session_ask(f->s, request, 60, &reply, e);
        if (!status || kiln_interrupted || !f->s->worker[0].killed) break;
    }
    f->s->measuring[0] = 0; /* the worker is set up for the odd problem now */
    json_decref(request);
    kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, point), "odd"), got;
    r.problem = kiln_arena_strdup(&f->s->arena, kiln_text_get(&text));
    kiln_text_free(&text);
    const char *line = json_string_value(json_object_get(reply, "record"));
    r.outcome = KILN_OUTCOME_CRASH;
    if (!status && line && !kiln_record_parse(&got, line, strlen(line), &f->s->arena, NULL))
        r.outcome = got.outcome, r.detail = got.detail, r.error = got.error,
        r.error_bound = got.error_bound;
    json_decref(reply);
    return r;
}

/* The problem at another size; false: the schedule does not claim to serve it. */
static bool served_at(const kiln_found *f, const char *size, const kiln_schedule *schedule,
                      kiln_problem *p) {
    *p = f->r->problem;
    return !kiln_problem_resize(p, size, NULL) &&
           schedule->variant->legal(p, &f->s->caps, schedule, NULL);
}

/* The winner again at sizes nobody tuned: its program must be right there too, or it is out
 * (KILN_WRONG). An interrupted check says nothing. */
static int right_at_odd_sizes(const kiln_found *f, int64_t point, kiln_error *e) {
    const kiln_generator *g = kiln_generator_of(f->r->problem.family);
    const kiln_schedule *schedule = &f->c->schedule[point];
    const char *const *sizes = g->odd_sizes ? g->odd_sizes(&f->r->problem, schedule) : NULL;
    for (; sizes && *sizes; sizes++) {
        kiln_problem p;
        if (!served_at(f, *sizes, schedule, &p)) continue;
        kiln_record r = run_odd(f, &p, point, e);
        if (kiln_interrupted) return kiln_fail(e, KILN_INTERRUPTED, "interrupted");
        int status = kiln_store_add(f->s->store, &r, NULL, e);
        if (status) return status;
        if (r.outcome == KILN_OUTCOME_OK) continue;
        kiln_progress_say(&f->s->progress, "  %s is wrong at %s (%s): not a winner",
                          schedule_text(f, point), *sizes, r.detail);
        return KILN_WRONG;
    }
    return KILN_OK;
}

/* ---- the winner ---- */

/* Takes those that are right onto the podium; the others' records are stored at once. */
static int read_finalists(const kiln_found *f, const finals *fin, json_t *reply, podium *out,
                          kiln_error *e) {
    int status = KILN_OK;
    json_t *subjects = json_object_get(reply, "candidates");
    out->n = 0, out->rounds = SAMPLES_MAX;
    for (int i = 0; i < fin->n && !status; i++) {
        int64_t point = fin->point[i];
        kiln_record r =
            final_record(f, json_array_get(subjects, (size_t)i), schedule_text(f, point));
        r.source = kiln_arena_strdup(&f->s->arena, f->known[point].suffix);
        if (r.outcome != KILN_OUTCOME_OK || !r.n_samples) {
            status = kiln_store_add(f->s->store, &r, NULL, e);
            continue;
        }
        if (r.n_samples < out->rounds) out->rounds = r.n_samples;
        out->record[out->n] = r;
        out->point[out->n] = point;
        out->list[out->n++] = (kiln_finalist){.samples = r.samples,
                                              .workspace_bytes = r.workspace_bytes,
                                              .power = kiln_candidates_power(f->c, point),
                                              .shared_bytes = r.shared_bytes,
                                              .schedule = r.schedule};
    }
    return status;
}

static void step_down(podium *p, int w) {
    size_t after = (size_t)(--p->n - w);
    memmove(p->list + w, p->list + w + 1, after * sizeof *p->list);
    memmove(p->record + w, p->record + w + 1, after * sizeof *p->record);
    memmove(p->point + w, p->point + w + 1, after * sizeof *p->point);
}

/* Stores all that are left and the vendors; the winner's record tells how it compares with these.
 */
static int crown(const kiln_found *f, podium *p, int w, json_t *reply, kiln_error *e) {
    const kiln_known *k = &f->known[p->point[w]];
    int status = KILN_OK;
    read_vendors(f, reply, &p->record[w]);
    for (int i = 0; i < p->n && !status; i++)
        status = kiln_store_add(f->s->store, &p->record[i], NULL, e);
    for (int i = 0; i < f->r->n_vendors && !status; i++)
        status = kiln_store_add(f->s->store, &f->r->vendor[i], NULL, e);
    f->r->winner = p->record[w];
    f->r->have_winner = true;
    f->r->unit = kiln_arena_strdup(&f->s->arena, k->unit);
    f->r->suffix = kiln_arena_strdup(&f->s->arena, k->suffix);
    return status;
}

/* Chooses among the finalists that are right and right at odd sizes; stores all. */
static int choose_winner(const kiln_found *f, const finals *fin, json_t *reply, kiln_error *e) {
    podium p;
    int status = read_finalists(f, fin, reply, &p, e);
    while (p.n > 0 && !status) {
        int w = kiln_finals_choose(p.list, p.n, p.rounds, f->s->options.seed, NULL);
        int odd = right_at_odd_sizes(f, p.point[w], e);
        if (!odd) return crown(f, &p, w, reply, e);
        if (odd != KILN_WRONG) return odd;
        p.record[w].outcome = KILN_OUTCOME_WRONG;
        p.record[w].detail = "wrong at an odd size";
        status = kiln_store_add(f->s->store, &p.record[w], NULL, e);
        step_down(&p, w);
    }
    if (!status)
        f->r->failure = kiln_arena_strdup(&f->s->arena, "no finalist was right everywhere");
    return status;
}

int kiln_tuning_finals(const kiln_found *f, double seconds, kiln_error *e) {
    finals fin = {0};
    choose_finalists(f, &fin, seconds);
    int status = finals_request(f, &fin, seconds, e);
    json_t *reply = NULL;
    kiln_worker_stop(&f->s->worker[0]); /* a fresh one: nothing left behind by the search */
    kiln_progress_show(&f->s->progress, "[%d/%d] %.60s | finals: %d candidates interleaved",
                       (int)(f->r - f->s->result) + 1, f->s->n_results, f->r->text, fin.n);
    if (!status) status = ask_finals(f, fin.request, 60 + 6 * seconds, &reply, e);
    if (!status) status = choose_winner(f, &fin, reply, e);
    json_decref(fin.request);
    json_decref(reply);
    return status;
}
