#include "tuner/versus.h"

#include "kernels/family.h"
#include "results/record.h"
#include "runtime/context.h"
#include "tuner/finals.h"
#include "tuner/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VENDORS_MAX = 7, SAMPLES = 256 };
/* Of a reference in double, of operands that fill memory; a hang must not take the evening. */
static const double PATIENCE = 300;

/* One side's time of a problem, and what it is to ours. */
typedef struct standing {
    const char *name;
    double median, p05, p95;
    kiln_ratio ratio; /* its time over ours; 0 when it did not run */
} standing;

typedef struct outcome {
    const char *problem, *group;
    bool measured;
    standing ours;
    int n;
    standing vendor[VENDORS_MAX];
} outcome;

typedef struct run {
    const kiln_versus_options *o;
    const kiln_suite *suite;
    kiln_arena arena;
    kiln_worker worker;
    outcome *outcome; /* one per problem */
    int n_wrong, n_failed;
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

/* ---------------------------------------------------------------- asking the worker */

static const char *group_of(const kiln_suite *s, int i) {
    return s->group && s->group[i] ? s->group[i] : "";
}

static int send_request(run *r, int i, kiln_error *e) {
    const kiln_versus_options *o = r->o;
    json_t *request = json_pack("{s:s, s:s, s:s, s:f, s:I, s:b, s:b}", "do", "versus", "library",
                                o->library, "problem", r->suite->problem[i], "seconds", o->seconds,
                                "seed", (json_int_t)o->seed, "hot", o->hot, "vendors", o->vendors);
    int status = request ? kiln_worker_send(&r->worker, request, PATIENCE + 30 * o->seconds, e)
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

/* ---------------------------------------------------------------- figures */

static const char *word(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static int take_samples(const json_t *side, double sample[SAMPLES]) {
    const json_t *rounds = json_object_get(side, "rounds");
    int n = (int)json_array_size(rounds);
    if (n > SAMPLES) n = SAMPLES;
    for (int i = 0; i < n; i++) sample[i] = json_number_value(json_array_get(rounds, (size_t)i));
    return n;
}

static void spread(standing *s, const double *sample, int n) {
    s->median = kiln_median(sample, n);
    s->p05 = kiln_quantile(sample, n, 0.05);
    s->p95 = kiln_quantile(sample, n, 0.95);
}

/* Times of each side, and the vendors' ratios to ours in the rounds that both were in. */
static void stand(run *r, outcome *x, const json_t *sides) {
    double a[SAMPLES], b[SAMPLES];
    int n_ours = take_samples(json_array_get(sides, 0), a);
    x->ours = (standing){.name = "kiln"};
    spread(&x->ours, a, n_ours);
    x->n = 0;
    for (size_t i = 1; i < json_array_size(sides) && x->n < VENDORS_MAX; i++) {
        const json_t *side = json_array_get(sides, i);
        standing *s = &x->vendor[x->n++];
        int n = take_samples(side, b);
        *s = (standing){.name = kiln_arena_strdup(&r->arena, word(side, "name"))};
        if (n > n_ours) n = n_ours;
        if (n < 1) continue;
        spread(s, b, n);
        s->ratio = kiln_paired_ratio(a, b, n, r->o->seed);
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

static void print_vendor(const run *r, kiln_text *t, const kiln_problem *p, const standing *s,
                         const json_t *side) {
    kiln_text_printf(t, "  %-15s", s->name);
    if (s->ratio.median <= 0) {
        kiln_text_printf(t, " not measured: %s\n", word(side, "refused"));
        return;
    }
    print_rate(r, t, p, s->median);
    kiln_text_printf(t, "  %.3f [%.3f, %.3f]  %s\n", s->ratio.median, s->ratio.low, s->ratio.high,
                     word(side, "describe"));
    if (*word(side, "doubt"))
        kiln_text_printf(t, "  %-15s its result breaks our bound: %s\n", "", word(side, "doubt"));
}

static void print_text(const run *r, const outcome *x, const kiln_problem *p, const json_t *reply,
                       kiln_text *t) {
    const json_t *sides = json_object_get(reply, "sides");
    const char *how = word(reply, "choice");
    kiln_text_printf(t, "%s\n  %-15s", x->problem, "kiln");
    print_rate(r, t, p, x->ours.median);
    kiln_text_printf(t, "  %s: %s\n", how, word(reply, "schedule"));
    if (strcmp(how, "exact"))
        kiln_text_printf(t, "  %-15s not tuned: %s\n", "", word(reply, "reason"));
    for (int i = 0; i < x->n; i++)
        print_vendor(r, t, p, &x->vendor[i], json_array_get(sides, (size_t)i + 1));
}

static json_t *times_json(const standing *s, const json_t *side) {
    return json_pack("{s:f, s:f, s:f, s:i, s:i}", "seconds", s->median, "p05", s->p05, "p95",
                     s->p95, "batch", (int)json_integer_value(json_object_get(side, "batch")),
                     "rounds", (int)json_array_size(json_object_get(side, "rounds")));
}

static void update(json_t *j, json_t *more) {
    json_object_update(j, more);
    json_decref(more);
}

static json_t *vendor_json(const standing *s, const json_t *side) {
    json_t *j = json_pack("{s:s}", "name", s->name);
    if (s->ratio.median <= 0) {
        json_object_set_new(j, "refused", json_string(word(side, "refused")));
        return j;
    }
    update(j, json_pack("{s:s, s:f, s:f, s:f}", "describe", word(side, "describe"), "ratio",
                        s->ratio.median, "low", s->ratio.low, "high", s->ratio.high));
    update(j, times_json(s, side));
    if (*word(side, "doubt")) json_object_set_new(j, "doubt", json_string(word(side, "doubt")));
    return j;
}

static void print_json(const run *r, const outcome *x, const kiln_problem *p, const json_t *reply,
                       kiln_text *t) {
    static const char *const kept[] = {"choice",      "reason",    "variant", "schedule", "kernel",
                                       "error_bound", "clock_mhz", "power_w", "sets"};
    (void)r;
    const kiln_generator *g = kiln_generator_of(p->family);
    const json_t *sides = json_object_get(reply, "sides");
    json_t *vendors = json_array();
    json_t *j = json_pack("{s:s, s:s, s:f, s:f}", "problem", x->problem, "group", x->group, "flops",
                          g->flops(p), "bytes", g->bytes(p));
    update(j, times_json(&x->ours, json_array_get(sides, 0)));
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        json_object_set(j, kept[i], json_object_get(reply, kept[i]));
    for (int i = 0; i < x->n; i++)
        json_array_append_new(vendors,
                              vendor_json(&x->vendor[i], json_array_get(sides, (size_t)i + 1)));
    json_object_set_new(j, "vendors", vendors);
    char *line = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));
    kiln_text_printf(t, "%s\n", line ? line : "");
    free(line);
    json_decref(j);
}

static void print_failure(const run *r, const outcome *x, const char *why, kiln_text *t) {
    if (!r->o->json) {
        kiln_text_printf(t, "%s\n  not measured: %s\n", x->problem, why);
        return;
    }
    json_t *j =
        json_pack("{s:s, s:s, s:s}", "problem", x->problem, "group", x->group, "error", why);
    char *line = j ? json_dumps(j, JSON_COMPACT) : NULL;
    kiln_text_printf(t, "%s\n", line ? line : "");
    free(line);
    json_decref(j);
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
    if (strcmp(word(reply, "outcome"), kiln_outcome_name(KILN_OUTCOME_OK))) {
        kiln_text_printf(&t, "our kernel is wrong (%s): %s; %s", word(reply, "outcome"),
                         word(reply, "detail"), word(reply, "schedule"));
        r->n_wrong++;
        note_failure(r, x, kiln_text_get(&t));
        kiln_text_free(&t);
        return;
    }
    kiln_problem_parse(&p, x->problem, NULL); /* parsed before, by the worker */
    stand(r, x, json_object_get(reply, "sides"));
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

/* The fastest of the vendors in each problem: what ours must beat. */
static double ratio_of(const outcome *x, const char *vendor) {
    double best = 0;
    for (int i = 0; i < x->n; i++) {
        double ratio = x->vendor[i].ratio.median;
        if (vendor && strcmp(vendor, x->vendor[i].name)) continue;
        if (ratio > 0 && (best <= 0 || ratio < best)) best = ratio;
    }
    return best;
}

static void print_tally(const run *r, const char *group, const char *vendor, const tally *t,
                        kiln_text *out) {
    double mean = exp(t->logs / t->n);
    if (r->o->json)
        kiln_text_printf(out,
                         "{\"summary\":\"%s\",\"vendor\":\"%s\",\"problems\":%d,\"geomean\":%.6f,"
                         "\"worst\":%.6f,\"worst_problem\":\"%s\"}\n",
                         group, vendor, t->n, mean, t->worst, t->at);
    else
        kiln_text_printf(out, "%-16s %-15s %8d %8.3f %8.3f  %s\n", group, vendor, t->n, mean,
                         t->worst, t->at);
}

/* group NULL: all of them. vendor NULL: the fastest. */
static bool tally_up(const run *r, const char *group, const char *vendor, kiln_text *out) {
    tally t = {0};
    for (int i = 0; i < r->suite->n; i++) {
        const outcome *x = &r->outcome[i];
        if (x->measured && (!group || !strcmp(group, x->group)))
            count(&t, ratio_of(x, vendor), x->problem);
    }
    if (!t.n) return false;
    const char *name = !group ? "all" : *group ? group : "-";
    print_tally(r, name, vendor ? vendor : "fastest", &t, out);
    return true;
}

static void tally_group(const run *r, const char *group, kiln_text *out) {
    const outcome *any = NULL;
    for (int i = 0; i < r->suite->n && !any; i++)
        if (r->outcome[i].measured && r->outcome[i].n) any = &r->outcome[i];
    int rows = 0;
    for (int v = 0; any && v < any->n; v++) rows += tally_up(r, group, any->vendor[v].name, out);
    if (rows > 1) tally_up(r, group, NULL, out);
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
        printf("\n%-16s %-15s %8s %8s %8s  %s\n", "group", "vendor", "problems", "geomean", "worst",
               "(time of the vendor over ours)");
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
    if (r->o->json) {
        json_t *j =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:I}", "device", kiln_text_get(&device),
                      "library", r->o->name, "protocol", protocol, "date", date, "version",
                      KILN_RELEASE, "seconds", r->o->seconds, "seed", (json_int_t)r->o->seed);
        char *line = j ? json_dumps(j, JSON_COMPACT) : NULL;
        puts(line ? line : "");
        free(line);
        json_decref(j);
    } else
        printf("%s\n%s, %s, %s; rounds for %g s per problem; time of the vendor over ours, median "
               "of paired rounds [95 %% interval]\n\n",
               kiln_text_get(&device), r->o->name, protocol, date, r->o->seconds);
    fflush(stdout);
    kiln_text_free(&device);
}

static int open_run(run *r, kiln_error *e) {
    r->outcome = kiln_arena_alloc(&r->arena, (size_t)r->suite->n * sizeof *r->outcome);
    if (!r->outcome) return kiln_fail(e, KILN_NO_MEMORY, "no memory for %d problems", r->suite->n);
    r->worker = (kiln_worker){.role = KILN_WORKER_MEASURE, .cache = "/tmp"};
    kiln_caps_id(r->o->caps, r->worker.device);
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
    int status = send_request(r, 0, e);
    for (int i = 0; i < r->suite->n && !status; i++) {
        kiln_error why = {0};
        json_t *reply = await(r, &why);
        if (kiln_interrupted) return *e = why, KILN_INTERRUPTED;
        if (i + 1 < r->suite->n) status = send_request(r, i + 1, e);
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
    else if (!status && r.n_failed)
        status = kiln_fail(e, KILN_DRIVER, "%d of %d problems were not measured; see above",
                           r.n_failed, suite->n);
    kiln_arena_free(&r.arena);
    return status;
}
