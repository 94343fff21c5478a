#include "tuner/versus.h"

#include "kernels/family.h"
#include "results/record.h"
#include "runtime/context.h"
#include "targets/vendor.h"
#include "tuner/finals.h"
#include "tuner/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OTHERS_MAX = 8, SAMPLES = 256 };
/* Of a reference in double, of operands that fill memory; a hang must not take the evening. */
static const double PATIENCE = 300;

/* One side's time of a problem, and what it is to ours. */
typedef struct standing {
    const char *name;
    const char *role; /* "against" (the other library), "product"; NULL: a vendor */
    double median, p05, p95;
    kiln_ratio ratio; /* its time over ours; 0 when it did not run, or not right */
    kiln_ratio alone; /* the same in long rounds; 0 without them */
} standing;

typedef struct outcome {
    const char *problem, *group;
    bool measured;
    standing ours;
    int n;
    standing other[OTHERS_MAX];
} outcome;

typedef struct run {
    const kiln_versus_options *o;
    const kiln_suite *suite;
    kiln_arena arena;
    kiln_worker worker;
    const char *against;              /* what the other library is called; NULL: there is none */
    outcome *outcome;                 /* one per problem */
    int n_wrong, n_spoiled, n_failed; /* problems: ours wrong, the other library's, no figures */
} run;

/* ---------------------------------------------------------------- the library's own problems */

static int take_problems(const kiln_library *l, const kiln_caps *caps, kiln_arena *arena,
                         kiln_suite *out, kiln_error *e) {
    const char **text = kiln_arena_alloc(arena, (l->n_exact + 1) * sizeof *text);
    int n = 0;
    if (!text) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a suite");
    for (uint32_t i = 0; i < l->n_exact; i++)
        if (kiln_select_same(&l->device[l->exact[i].device], caps))
            text[n++] = kiln_arena_strdup(arena, l->exact[i].problem);
    *out = (kiln_suite){.n = n, .problem = text};
    if (n) return KILN_OK;
    return kiln_fail(e, KILN_NOT_FOUND,
                     "nothing in the library was tuned on %s; name problems or a --suite",
                     caps->name);
}

int kiln_versus_problems(const char *path, const kiln_caps *caps, kiln_arena *arena,
                         kiln_suite *out, kiln_error *e) {
    kiln_library *l = NULL;
    int status = kiln_open_library(path, NULL, &l);
    if (status) return kiln_fail(e, status, "%s", kiln_last_error());
    status = take_problems(l, caps, arena, out, e);
    kiln_close_library(l);
    return status;
}

int kiln_versus_check(const char *path, kiln_error *e) {
    kiln_library *l = NULL;
    int status = kiln_open_library(path, NULL, &l);
    if (status) return kiln_fail(e, status, "%s", kiln_last_error());
    status = kiln_verify_library(l);
    if (status) kiln_fail(e, status, "%s: %s", path, kiln_last_error());
    kiln_close_library(l);
    return status;
}

/* A file's base name, unless another row has it. */
static bool is_taken(const char *name) {
    for (int i = 0; kiln_vendors[i].target; i++)
        if (!strcmp(kiln_vendors[i].vendor->name, name)) return true;
    return !*name || !strcmp(name, "kiln") || !strcmp(name, "product") || !strcmp(name, "fastest");
}

static const char *name_library(const char *path, kiln_arena *arena) {
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t n = strlen(base), end = strlen(".kiln");
    if (n >= end && !strcmp(base + n - end, ".kiln")) n -= end;
    char *name = kiln_arena_printf(arena, "%.*s", (int)n, base);
    return !name || is_taken(name) ? "against" : name;
}

/* ---------------------------------------------------------------- asking the worker */

static const char *group_of(const kiln_suite *s, int i) {
    return s->group && s->group[i] ? s->group[i] : "";
}

static json_t *make_request(const run *r, int i, bool against) {
    const kiln_versus_options *o = r->o;
    json_t *libraries = json_pack("[{s:s, s:s}]", "name", "kiln", "path", o->library);
    if (against)
        json_array_append_new(libraries,
                              json_pack("{s:s, s:s}", "name", r->against, "path", o->against));
    return json_pack("{s:s, s:o, s:s, s:f, s:f, s:I, s:b, s:b}", "do", "versus", "libraries",
                     libraries, "problem", r->suite->problem[i], "seconds", o->seconds, "alone",
                     o->alone, "seed", (json_int_t)o->seed, "hot", o->hot, "vendors", o->vendors);
}

static int send_request(run *r, int i, bool against, kiln_error *e) {
    json_t *request = make_request(r, i, against);
    int status = request ? kiln_worker_send(&r->worker, request,
                                            PATIENCE + 30 * r->o->seconds + 100 * r->o->alone, e)
                         : kiln_fail(e, KILN_NO_MEMORY, "no memory for a request");
    json_decref(request);
    return status;
}

/* The answer, or NULL with the reason. Whatever failed may have left the driver in disorder: the
 * next problem gets a worker of its own. */
static json_t *await(run *r, kiln_error *e) {
    json_t *reply = NULL;
    kiln_text detail = {0};
    kiln_worker_event event = KILN_EVENT_NONE;
    int which;
    while (event == KILN_EVENT_NONE && !kiln_interrupted)
        event = kiln_worker_wait(&r->worker, 1, 0.2, &which, &reply, &detail);
    int status = (int)json_integer_value(json_object_get(reply, "status"));
    const char *why = json_string_value(json_object_get(reply, "error"));
    if (kiln_interrupted)
        status = kiln_fail(e, KILN_INTERRUPTED, "interrupted");
    else if (event != KILN_EVENT_REPLY)
        status = kiln_fail(e, KILN_DRIVER, "%s", kiln_text_get(&detail));
    else if (status)
        kiln_fail(e, status, "%s", why ? why : "");
    kiln_text_free(&detail);
    if (!status) return reply;
    kiln_worker_stop(&r->worker);
    json_decref(reply);
    return NULL;
}

static const char *word(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static bool is_wrong(const json_t *side) {
    const char *how = word(side, "outcome");
    return *how && strcmp(how, kiln_outcome_name(KILN_OUTCOME_OK));
}

static const json_t *side_of(const json_t *reply, int i) {
    return json_array_get(json_object_get(reply, "sides"), (size_t)i);
}

/* The other library's side of a problem that ours did alone, from how it went with both. */
static json_t *make_fault(const run *r, const json_t *together, const char *why) {
    const json_t *ours = side_of(together, 0), *other = side_of(together, 1);
    if (is_wrong(other)) return json_deep_copy(other);
    const char *how = kiln_outcome_name(KILN_OUTCOME_CRASH);
    return json_pack("{s:s, s:s, s:s, s:s}", "name", r->against, "outcome",
                     together ? word(ours, "outcome") : how, "detail",
                     together ? word(ours, "detail") : why, "schedule",
                     together ? "seen in our result" : "with ours alone it did not happen");
}

/* One may have spoiled the other: ours is measured again without it, by a process that has not met
 * it. When that goes well, the fault was the other's. */
static json_t *measure_alone(run *r, int i, const json_t *together, kiln_error *e) {
    kiln_error why = {0};
    kiln_worker_stop(&r->worker);
    json_t *alone = send_request(r, i, false, &why) ? NULL : await(r, &why);
    if (alone)
        json_array_insert_new(json_object_get(alone, "sides"), 1, make_fault(r, together, e->text));
    else
        *e = why;
    return alone;
}

static json_t *take_reply(run *r, int i, kiln_error *e) {
    json_t *reply = await(r, e);
    bool right = reply && !is_wrong(side_of(reply, 0)) && !is_wrong(side_of(reply, 1));
    if (!r->against || right || kiln_interrupted) return reply;
    json_t *alone = measure_alone(r, i, reply, e);
    json_decref(reply);
    return alone;
}

/* ---------------------------------------------------------------- figures */

static int take_samples(const json_t *side, const char *key, double sample[SAMPLES]) {
    return kiln_samples_read(json_object_get(side, key), sample, SAMPLES);
}

static void spread(standing *s, const double *sample, int n) {
    s->median = kiln_median(sample, n);
    s->p05 = kiln_quantile(sample, n, 0.05);
    s->p95 = kiln_quantile(sample, n, 0.95);
}

/* Of the side behind ours and `i` others. */
static const char *role_of(const run *r, const json_t *side, int i) {
    if (r->against && !i) return "against";
    return !strcmp(word(side, "name"), "product") ? "product" : NULL;
}

/* The ratio in the rounds that both were in. */
static kiln_ratio compare(const run *r, const json_t *ours, const json_t *other, const char *key) {
    double a[SAMPLES], b[SAMPLES];
    int n = take_samples(ours, key, a), m = take_samples(other, key, b);
    return kiln_paired_ratio(a, b, m < n ? m : n, r->o->seed);
}

/* Times of each side, and the others' ratios to ours. */
static void stand(run *r, outcome *x, const json_t *reply) {
    double sample[SAMPLES];
    const json_t *ours = side_of(reply, 0);
    x->ours = (standing){.name = "kiln"};
    spread(&x->ours, sample, take_samples(ours, "rounds", sample));
    x->n = 0;
    for (const json_t *side; x->n < OTHERS_MAX && (side = side_of(reply, x->n + 1));) {
        const char *role = role_of(r, side, x->n);
        standing *s = &x->other[x->n++];
        int n = take_samples(side, "rounds", sample);
        *s = (standing){.name = kiln_arena_strdup(&r->arena, word(side, "name")), .role = role};
        if (n < 1 || is_wrong(side)) continue;
        spread(s, sample, n);
        s->ratio = compare(r, ours, side, "rounds");
        s->alone = compare(r, ours, side, "long_rounds");
    }
}

/* What limits it decides the unit: a matmul with few operations per byte moves data. How few is a
 * rough guess at the device's balance, for the eye only; JSON has both. */
static bool by_bytes(const run *r, const kiln_problem *p) {
    const kiln_generator *g = kiln_generator_of(p->family);
    double few = r->o->caps->kind == KILN_DEVICE_GPU ? 64 : 8;
    return !p->family->result || g->flops(p) < few * g->bytes(p);
}

static void print_rate(const run *r, kiln_text *t, const kiln_problem *p, double seconds) {
    const kiln_generator *g = kiln_generator_of(p->family);
    bool bytes = by_bytes(r, p);
    double rate = (bytes ? g->bytes(p) : g->flops(p)) / seconds;
    bool tera = rate >= 1e12;
    kiln_text_printf(t, "%10.4g ms %7.4g %s%s", seconds * 1e3, rate * (tera ? 1e-12 : 1e-9),
                     tera ? "T" : "G", bytes ? "B/s   " : "FLOP/s");
}

/* ---------------------------------------------------------------- a problem, as text and JSON */

/* What a library's kernel is blamed for. */
static void print_blame(kiln_text *t, const json_t *side) {
    kiln_text_printf(t, "kernel is wrong (%s): %s; %s", word(side, "outcome"), word(side, "detail"),
                     word(side, "schedule"));
}

static void print_choice(kiln_text *t, const json_t *side) {
    const char *how = word(side, "choice");
    kiln_text_printf(t, "  %s: %s\n", how, word(side, "schedule"));
    if (strcmp(how, "exact"))
        kiln_text_printf(t, "  %-15s not tuned: %s\n", "", word(side, "reason"));
}

static void print_idle(kiln_text *t, const json_t *side) {
    if (is_wrong(side))
        kiln_text_add(t, " its "), print_blame(t, side);
    else
        kiln_text_printf(t, " not measured: %s", word(side, "refused"));
    kiln_text_add(t, "\n");
}

static void print_other(const run *r, kiln_text *t, const kiln_problem *p, const standing *s,
                        const json_t *side) {
    kiln_text_printf(t, "  %-15s", s->name);
    if (s->ratio.median <= 0) {
        print_idle(t, side);
        return;
    }
    print_rate(r, t, p, s->median);
    kiln_text_printf(t, "  %.3f [%.3f, %.3f]", s->ratio.median, s->ratio.low, s->ratio.high);
    if (s->alone.median > 0)
        kiln_text_printf(t, "  alone %.3f [%.3f, %.3f]", s->alone.median, s->alone.low,
                         s->alone.high);
    if (s->role)
        print_choice(t, side);
    else
        kiln_text_printf(t, "  %s\n", word(side, "describe"));
    if (*word(side, "doubt"))
        kiln_text_printf(t, "  %-15s its result breaks our bound: %s\n", "", word(side, "doubt"));
}

static void print_text(const run *r, const outcome *x, const kiln_problem *p, const json_t *reply,
                       kiln_text *t) {
    kiln_text_printf(t, "%s\n  %-15s", x->problem, "kiln");
    print_rate(r, t, p, x->ours.median);
    print_choice(t, side_of(reply, 0));
    for (int i = 0; i < x->n; i++) print_other(r, t, p, &x->other[i], side_of(reply, i + 1));
}

static json_t *times_json(const standing *s, const json_t *side) {
    return json_pack("{s:f, s:f, s:f, s:i, s:i}", "seconds", s->median, "p05", s->p05, "p95",
                     s->p95, "batch", (int)json_integer_value(json_object_get(side, "batch")),
                     "rounds", (int)json_array_size(json_object_get(side, "rounds")));
}

static void keep(json_t *to, const json_t *from, const char *const *keys) {
    for (; *keys; keys++) json_object_set(to, *keys, json_object_get(from, *keys));
}

static const char *const of_library[] = {"choice", "reason",      "variant", "schedule",
                                         "kernel", "error_bound", NULL};
static const char *const of_match[] = {"clock_mhz", "power_w", "sets", NULL};

static json_t *idle_json(const standing *s, const json_t *side) {
    json_t *j = json_pack("{s:s}", "name", s->name);
    kiln_text t = {0};
    if (is_wrong(side)) kiln_text_add(&t, "its "), print_blame(&t, side);
    if (t.size)
        json_object_set_new(j, "error", json_string(kiln_text_get(&t)));
    else
        json_object_set_new(j, "refused", json_string(word(side, "refused")));
    kiln_text_free(&t);
    return j;
}

static json_t *other_json(const standing *s, const json_t *side) {
    if (s->ratio.median <= 0) return idle_json(s, side);
    json_t *j = json_pack("{s:s, s:f, s:f, s:f}", "name", s->name, "ratio", s->ratio.median, "low",
                          s->ratio.low, "high", s->ratio.high);
    json_object_update_new(j, times_json(s, side));
    if (s->alone.median > 0)
        json_object_set_new(j, "alone",
                            json_pack("{s:f, s:f, s:f, s:i}", "ratio", s->alone.median, "low",
                                      s->alone.low, "high", s->alone.high, "rounds",
                                      (int)json_array_size(json_object_get(side, "long_rounds"))));
    if (s->role)
        keep(j, side, of_library);
    else
        json_object_set_new(j, "describe", json_string(word(side, "describe")));
    if (*word(side, "doubt")) json_object_set_new(j, "doubt", json_string(word(side, "doubt")));
    return j;
}

static void print_line(kiln_text *t, json_t *j) {
    char *line = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    kiln_text_printf(t, "%s\n", line ? line : "");
    free(line);
    json_decref(j);
}

static void print_json(const run *r, const outcome *x, const kiln_problem *p, const json_t *reply,
                       kiln_text *t) {
    (void)r;
    const kiln_generator *g = kiln_generator_of(p->family);
    json_t *vendors = json_array();
    json_t *j = json_pack("{s:s, s:s, s:f, s:f}", "problem", x->problem, "group", x->group, "flops",
                          g->flops(p), "bytes", g->bytes(p));
    json_object_update_new(j, times_json(&x->ours, side_of(reply, 0)));
    keep(j, side_of(reply, 0), of_library);
    keep(j, reply, of_match);
    for (int i = 0; i < x->n; i++) {
        json_t *other = other_json(&x->other[i], side_of(reply, i + 1));
        if (x->other[i].role)
            json_object_set_new(j, x->other[i].role, other);
        else
            json_array_append_new(vendors, other);
    }
    json_object_set_new(j, "vendors", vendors);
    print_line(t, j);
}

static void print_failure(const run *r, const outcome *x, const char *why, kiln_text *t) {
    if (r->o->json)
        print_line(t, json_pack("{s:s, s:s, s:s}", "problem", x->problem, "group", x->group,
                                "error", why));
    else
        kiln_text_printf(t, "%s\n  not measured: %s\n", x->problem, why);
}

static void put(kiln_text *t) {
    fputs(kiln_text_get(t), stdout);
    fflush(stdout);
    kiln_text_free(t);
}

static void note_failure(run *r, outcome *x, const char *why) {
    kiln_text t = {0};
    r->n_failed++;
    print_failure(r, x, why, &t);
    put(&t);
}

static void note_reply(run *r, outcome *x, const json_t *reply) {
    kiln_problem p;
    kiln_text t = {0};
    if (is_wrong(side_of(reply, 0))) {
        kiln_text_add(&t, "our "), print_blame(&t, side_of(reply, 0));
        r->n_wrong++;
        note_failure(r, x, kiln_text_get(&t));
        kiln_text_free(&t);
        return;
    }
    r->n_spoiled += is_wrong(side_of(reply, 1));
    kiln_problem_parse(&p, x->problem, NULL); /* parsed before, by the worker */
    stand(r, x, reply);
    x->measured = true;
    (r->o->json ? print_json : print_text)(r, x, &p, reply, &t);
    put(&t);
}

/* ---------------------------------------------------------------- the summary */

typedef struct tally {
    int n;
    double logs, worst;
    const char *at;
} tally;

static void count(tally *t, double ratio, const char *at) {
    if (!(ratio > 0)) return;
    if (!t->n || ratio < t->worst) t->worst = ratio, t->at = at;
    t->logs += log(ratio);
    t->n++;
}

/* name NULL: the fastest of the vendors in each problem, which ours must beat. */
static double ratio_of(const outcome *x, const char *name, bool alone) {
    double best = 0;
    for (int i = 0; i < x->n; i++) {
        const standing *s = &x->other[i];
        double ratio = alone ? s->alone.median : s->ratio.median;
        if (name ? strcmp(name, s->name) != 0 : s->role != NULL) continue;
        if (ratio > 0 && (best <= 0 || ratio < best)) best = ratio;
    }
    return best;
}

static double mean_of(const tally *t) { return exp(t->logs / t->n); }

static void print_tally(const run *r, const char *group, const char *name, const tally *t,
                        const tally *alone, kiln_text *out) {
    if (!r->o->json) {
        kiln_text_printf(out, "%-16s %-15s %8d %8.3f %8.3f", group, name, t->n, mean_of(t),
                         t->worst);
        if (alone->n) kiln_text_printf(out, " %8.3f", mean_of(alone));
        kiln_text_printf(out, "  %s\n", t->at);
        return;
    }
    json_t *j =
        json_pack("{s:s, s:s, s:i, s:f, s:f, s:s}", "summary", group, "vendor", name, "problems",
                  t->n, "geomean", mean_of(t), "worst", t->worst, "worst_problem", t->at);
    if (alone->n) json_object_set_new(j, "alone", json_real(mean_of(alone)));
    print_line(out, j);
}

/* group NULL: all of them. name NULL: the fastest vendor. */
static bool tally_up(const run *r, const char *group, const char *name, kiln_text *out) {
    tally t = {0}, alone = {0};
    for (int i = 0; i < r->suite->n; i++) {
        const outcome *x = &r->outcome[i];
        if (!x->measured || (group && strcmp(group, x->group))) continue;
        count(&t, ratio_of(x, name, false), x->problem);
        count(&alone, ratio_of(x, name, true), x->problem);
    }
    if (!t.n) return false;
    print_tally(r, !group ? "all" : *group ? group : "-", name ? name : "fastest", &t, &alone, out);
    return true;
}

/* Where most stand beside ours, all do: only the product is not beside every problem. */
static void tally_group(const run *r, const char *group, kiln_text *out) {
    const outcome *most = NULL;
    for (int i = 0; i < r->suite->n; i++)
        if (r->outcome[i].measured && (!most || r->outcome[i].n > most->n)) most = &r->outcome[i];
    int vendors = 0;
    for (int i = 0; most && i < most->n; i++)
        if (tally_up(r, group, most->other[i].name, out)) vendors += !most->other[i].role;
    if (vendors > 1) tally_up(r, group, NULL, out);
}

static bool first_of_group(const run *r, int i) {
    for (int k = 0; k < i; k++)
        if (!strcmp(r->outcome[k].group, r->outcome[i].group)) return false;
    return true;
}

static void summarise(const run *r) {
    kiln_text t = {0};
    int groups = 0;
    for (int i = 0; i < r->suite->n; i++)
        if (first_of_group(r, i)) groups++, tally_group(r, r->outcome[i].group, &t);
    if (groups > 1) tally_group(r, NULL, &t);
    if (t.size && !r->o->json)
        printf("\n%-16s %-15s %8s %8s %8s%s  %s\n", "group", "versus", "problems", "geomean",
               "worst", r->o->alone > 0 ? "    alone" : "", "(its time over ours)");
    put(&t);
}

/* ---------------------------------------------------------------- the run */

static void print_head(const run *r) {
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    kiln_text device = {0};
    kiln_caps_identity(r->o->caps, &device);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    const char *protocol = kiln_record_protocol(r->o->hot);
    const char *other = r->o->against;
    kiln_text t = {0};
    if (r->o->json) {
        json_t *j =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:I}", "device", kiln_text_get(&device),
                      "library", r->o->name, "protocol", protocol, "date", date, "version",
                      KILN_RELEASE, "seconds", r->o->seconds, "seed", (json_int_t)r->o->seed);
        if (other) json_object_set_new(j, "against", json_string(other));
        print_line(&t, j);
    } else
        kiln_text_printf(&t,
                         "%s\n%s%s%s, %s, %s; rounds for %g s per problem; their time over ours, "
                         "median of paired rounds [95 %% interval]\n\n",
                         kiln_text_get(&device), r->o->name, other ? " against " : "",
                         other ? other : "", protocol, date, r->o->seconds);
    put(&t);
    kiln_text_free(&device);
}

static int open_run(run *r, kiln_error *e) {
    r->outcome = kiln_arena_alloc(&r->arena, (size_t)r->suite->n * sizeof *r->outcome);
    if (!r->outcome) return kiln_fail(e, KILN_NO_MEMORY, "no memory for %d problems", r->suite->n);
    r->worker = (kiln_worker){.role = KILN_WORKER_MEASURE, .cache = "/tmp"};
    kiln_caps_id(r->o->caps, r->worker.device);
    if (r->o->against) r->against = name_library(r->o->against, &r->arena);
    for (int i = 0; i < r->suite->n; i++) {
        kiln_problem p;
        kiln_text text = {0};
        int status = kiln_problem_parse(&p, r->suite->problem[i], e);
        if (!status) kiln_problem_print(&p, &text);
        r->outcome[i] = (outcome){.problem = kiln_arena_strdup(&r->arena, kiln_text_get(&text)),
                                  .group = group_of(r->suite, i)};
        kiln_text_free(&text);
        if (status) return status;
    }
    return KILN_OK;
}

/* The next problem is prepared while the figures of this one are worked out. */
static int measure_all(run *r, kiln_error *e) {
    bool against = r->against != NULL;
    int status = send_request(r, 0, against, e);
    for (int i = 0; i < r->suite->n && !status; i++) {
        kiln_error why = {0};
        json_t *reply = take_reply(r, i, &why);
        if (kiln_interrupted) return *e = why, KILN_INTERRUPTED;
        if (i + 1 < r->suite->n) status = send_request(r, i + 1, against, e);
        if (reply)
            note_reply(r, &r->outcome[i], reply);
        else
            note_failure(r, &r->outcome[i], why.text);
        json_decref(reply);
    }
    return status;
}

int kiln_versus_run(const kiln_versus_options *o, const kiln_suite *suite, kiln_error *e) {
    run r = {.o = o, .suite = suite};
    int status = open_run(&r, e);
    if (!status) print_head(&r);
    if (!status) status = measure_all(&r, e);
    if (!status || kiln_interrupted) summarise(&r);
    kiln_worker_stop(&r.worker);
    if (!status && r.n_wrong)
        status = kiln_fail(e, KILN_WRONG, "%d of %d problems came out wrong", r.n_wrong, suite->n);
    else if (!status && r.n_spoiled)
        status = kiln_fail(e, KILN_WRONG, "%d of %d problems came out wrong with %s", r.n_spoiled,
                           suite->n, o->against);
    else if (!status && r.n_failed)
        status = kiln_fail(e, KILN_DRIVER, "%d of %d problems were not measured; see above",
                           r.n_failed, suite->n);
    kiln_arena_free(&r.arena);
    return status;
}
