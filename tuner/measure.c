/* The measuring worker: one per device. Holds the device, one bench and the last units loaded.
 *
 * A request is an object; "do" says what. Replies hold "status", and "error" where that is not 0.
 *
 *     do      further members of the request               of the reply
 *     setup   problem, seed, hot                           sets
 *     trial   schedule, unit, suffix, best, seconds        record
 *     odd     problem, seed, schedule, unit, suffix        record
 *     finals  candidates, vendors, rounds, seconds, seed   candidates, vendors
 *     copy                                                 bandwidth
 *     versus  tuner/versus.h
 *
 * finals: candidates are asked for as a list of {schedule, unit, suffix}, and vendors by true or
 * false; both come back as lists of {record, rounds, vendor, describe}, the last two of a vendor.
 */
#include "base/hash.h"
#include "tuner/bench.h"
#include "tuner/finals.h"
#include "tuner/unit.h"
#include "tuner/versus.h"
#include "tuner/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More units than finalists: a subject's kernels live in its unit. */
enum { UNITS_LOADED = 40, SUBJECTS_MAX = 32, SLOW_VENDOR_ROUNDS = 5, RACE_ROUNDS = 8 };
static const double HEAT_SECONDS = 0.25; /* a power cap acts within some tens of milliseconds */

typedef struct unit {
    char name[KILN_UNIT_NAME];
    kiln_module *module;
} unit;

/* What lives as long as the worker. */
static struct {
    kiln_device *device;
    kiln_bench *bench;
    kiln_problem problem;
    unit units[UNITS_LOADED];
    int next_unit;
    const kiln_module *kept; /* of the subject that the bench keeps */
} here;

static json_t *failed(const kiln_error *e) {
    return json_pack("{s:i, s:s}", "status", e->status ? e->status : KILN_DRIVER, "error", e->text);
}

static const char *text(json_t *request, const char *key) {
    const char *s = json_string_value(json_object_get(request, key));
    return s ? s : "";
}

static int open_device(const kiln_worker_context *c, kiln_error *e) {
    if (!here.device) here.device = c->target->open(c->caps->index, NULL, e);
    return here.device ? KILN_OK : e->status;
}

static kiln_module *module(const kiln_worker_context *c, const char *name, kiln_error *e) {
    for (int i = 0; i < UNITS_LOADED; i++)
        if (here.units[i].module && !strcmp(here.units[i].name, name)) return here.units[i].module;
    size_t size;
    void *code = kiln_unit_read(c->cache, name, "bin", &size, e);
    if (!code) return NULL;
    unit *u = &here.units[here.next_unit++ % UNITS_LOADED];
    if (u->module && u->module == here.kept) u = &here.units[here.next_unit++ % UNITS_LOADED];
    if (u->module) c->target->unload(here.device, u->module);
    u->module = c->target->load(here.device, code, size, e);
    snprintf(u->name, sizeof u->name, "%s", name);
    free(code);
    return u->module;
}

static int setup(const kiln_worker_context *c, const char *problem, uint64_t seed, bool hot,
                 kiln_error *e) {
    int status = open_device(c, e);
    if (!status) status = kiln_problem_parse(&here.problem, problem, e);
    if (status) return status;
    here.kept = NULL;
    kiln_bench_close(here.bench);
    kiln_bench_options o = {.seed = seed, .hot = hot, .cache = c->cache};
    here.bench = kiln_bench_open(c->target, here.device, &here.problem, &o, e);
    return here.bench ? KILN_OK : e->status;
}

static json_t *handle_setup(const kiln_worker_context *c, json_t *request) {
    kiln_error e = {0};
    int64_t bytes;
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(request, "seed"));
    bool hot = json_is_true(json_object_get(request, "hot"));
    if (setup(c, text(request, "problem"), seed, hot, &e)) return failed(&e);
    return json_pack("{s:i, s:i}", "status", 0, "sets", kiln_bench_sets(here.bench, &bytes));
}

/* A subject for {schedule, unit, suffix}; NULL with the outcome in r. */
static kiln_subject *subject(const kiln_worker_context *c, json_t *from, kiln_record *r,
                             kiln_arena *arena) {
    kiln_error e = {0};
    kiln_schedule schedule;
    kiln_module *m = NULL;
    int status = kiln_schedule_parse(here.problem.family, &schedule, text(from, "schedule"), &e);
    if (!status) m = module(c, text(from, "unit"), &e);
    if (m) return kiln_subject_open(here.bench, &schedule, m, text(from, "suffix"), r, arena);
    r->outcome = KILN_OUTCOME_LAUNCH_FAILED;
    r->detail = kiln_arena_strdup(arena, e.text);
    return NULL;
}

static void verify(kiln_subject *s, kiln_record *r, kiln_arena *arena) {
    double start = kiln_now();
    kiln_bench_verify(here.bench, s, r, arena);
    r->verify_seconds = kiln_now() - start;
}

static void time_it(kiln_subject *s, double seconds, double best, kiln_record *r,
                    kiln_arena *arena) {
    kiln_error e = {0};
    double start = kiln_now();
    if (kiln_bench_time(here.bench, s, seconds, best, r, arena, &e)) {
        r->outcome = KILN_OUTCOME_DEVICE_ERROR;
        r->detail = kiln_arena_strdup(arena, e.text);
        r->n_samples = 0;
    } else {
        kiln_outcome timed = r->outcome; /* what ran fast must have computed right, too */
        if (kiln_bench_verify_again(here.bench, s, r, arena)) r->outcome = timed;
    }
    r->time_seconds = kiln_now() - start;
}

static json_t *record_reply(const kiln_record *r, kiln_arena *arena) {
    kiln_text line = {0};
    kiln_record_print(r, &line);
    json_t *reply = json_pack("{s:i, s:s}", "status", 0, "record", kiln_text_get(&line));
    kiln_text_free(&line);
    kiln_arena_free(arena);
    return reply;
}

static json_t *handle_trial(const kiln_worker_context *c, json_t *request) {
    kiln_arena arena = {0};
    kiln_record r = kiln_record_blank();
    kiln_error e = {0};
    if (!here.bench) {
        kiln_fail(&e, KILN_BAD_INPUT, "a trial without a problem");
        return failed(&e);
    }
    kiln_subject *s = subject(c, request, &r, &arena);
    if (s) verify(s, &r, &arena);
    if (s && r.outcome == KILN_OUTCOME_OK)
        time_it(s, json_number_value(json_object_get(request, "seconds")),
                json_number_value(json_object_get(request, "best")), &r, &arena);
    if (s && r.outcome == KILN_OUTCOME_OK && kiln_bench_keep(here.bench, s, r.median))
        here.kept = module(c, text(request, "unit"), &e);
    else
        kiln_subject_close(s);
    return record_reply(&r, &arena);
}

static json_t *handle_odd(const kiln_worker_context *c, json_t *request) {
    kiln_arena arena = {0};
    kiln_record r = kiln_record_blank();
    kiln_error e = {0};
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(request, "seed"));
    if (setup(c, text(request, "problem"), seed, true, &e)) return failed(&e);
    kiln_subject *s = subject(c, request, &r, &arena);
    if (s) verify(s, &r, &arena);
    kiln_subject_close(s);
    return record_reply(&r, &arena);
}

/* ---- finals: everyone interleaved ---- */

typedef struct entrant {
    kiln_subject *subject;
    kiln_record record;
    const char *vendor;
    int rounds, most; /* rounds run; the most it gets (slow vendors get fewer) */
    double *samples;
} entrant;

typedef struct contest {
    const kiln_worker_context *c;
    kiln_arena arena;
    entrant entrant[SUBJECTS_MAX];
    int n, n_candidates, rounds;
} contest;

static void enter_candidates(contest *f, json_t *request) {
    size_t i;
    json_t *from;
    json_array_foreach(json_object_get(request, "candidates"), i, from) {
        if (f->n == SUBJECTS_MAX - 4) break;
        entrant *x = &f->entrant[f->n++];
        *x = (entrant){.record = kiln_record_blank(), .most = f->rounds};
        x->subject = subject(f->c, from, &x->record, &f->arena);
        if (x->subject) verify(x->subject, &x->record, &f->arena);
        if (x->record.outcome != KILN_OUTCOME_OK) {
            kiln_subject_close(x->subject);
            x->subject = NULL;
        }
    }
    f->n_candidates = f->n;
}

static void enter_vendors(contest *f) {
    for (int i = 0; kiln_vendors[i].target && f->n < SUBJECTS_MAX; i++) {
        kiln_error e = {0};
        if (strcmp(kiln_vendors[i].target, f->c->target->name)) continue;
        kiln_subject *s = kiln_subject_vendor(here.bench, kiln_vendors[i].vendor, &e);
        if (!s) continue;
        entrant *x = &f->entrant[f->n++];
        *x = (entrant){.subject = s,
                       .record = kiln_record_blank(),
                       .vendor = kiln_vendors[i].vendor->name,
                       .most = f->rounds};
        kiln_bench_verify(here.bench, s, &x->record, &f->arena);
    }
}

static void drop(entrant *x, kiln_outcome outcome, const kiln_error *e, kiln_arena *arena) {
    x->record.outcome = outcome;
    if (e) x->record.detail = kiln_arena_strdup(arena, e->text);
    kiln_subject_close(x->subject);
    x->subject = NULL;
}

/* Warms each up; a vendor that is many times slower is not given 30 rounds of everybody's time. */
static void warm_all(contest *f) {
    double fastest = INFINITY;
    for (int i = 0; i < f->n; i++) {
        entrant *x = &f->entrant[i];
        kiln_error e = {0};
        if (!x->subject) continue;
        double sample;
        x->samples = kiln_arena_alloc(&f->arena, (size_t)f->rounds * sizeof *x->samples);
        if (!x->samples || kiln_bench_pace(here.bench, x->subject, &sample, &e)) {
            drop(x, KILN_OUTCOME_DEVICE_ERROR, &e, &f->arena);
            continue;
        }
        double once = sample / kiln_subject_batch(x->subject);
        if (!x->vendor && once < fastest) fastest = once;
        if (x->vendor && once > 4 * fastest) x->most = SLOW_VENDOR_ROUNDS;
    }
}

/* Who is left, as kiln_bench_rounds wants them. */
static int line_up(contest *f, kiln_subject **subject, double **samples, int *rounds) {
    int n = 0;
    for (int i = 0; i < f->n; i++) {
        entrant *x = &f->entrant[i];
        if (!x->subject) continue;
        subject[n] = x->subject;
        samples[n] = x->samples;
        rounds[n++] = x->most;
    }
    return n;
}

/* A few rounds: of more candidates than KILN_RACERS those go on whose medians are the least. The
 * others keep what was measured of them. */
static int race(contest *f, kiln_error *e) {
    kiln_subject *subject[SUBJECTS_MAX];
    double *samples[SUBJECTS_MAX], median[SUBJECTS_MAX];
    int rounds[SUBJECTS_MAX], running = 0;
    for (int i = 0; i < f->n_candidates; i++) running += f->entrant[i].subject != NULL;
    if (running <= KILN_RACERS || f->rounds <= RACE_ROUNDS) return KILN_OK;
    int n = line_up(f, subject, samples, rounds);
    for (int i = 0; i < n; i++) rounds[i] = RACE_ROUNDS;
    int status = kiln_bench_rounds(here.bench, subject, n, rounds, samples, e);
    for (int i = 0; i < f->n_candidates && !status; i++)
        median[i] = f->entrant[i].subject ? kiln_median(f->entrant[i].samples, RACE_ROUNDS) : NAN;
    for (int i = 0; i < f->n_candidates && !status; i++) {
        entrant *x = &f->entrant[i];
        int faster = 0;
        for (int k = 0; k < f->n_candidates; k++) faster += median[k] < median[i];
        if (!x->subject || faster < KILN_RACERS) continue;
        x->rounds = RACE_ROUNDS;
        drop(x, KILN_OUTCOME_SLOW, NULL, &f->arena);
    }
    return status;
}

/* Under a steady load a GPU's clock falls to what its power allows, and another schedule may be the
 * fastest there than on a chip that rests between samples. A library's kernels meet the load, so
 * finals are enqueued ahead, after a while of the same. */
static int run_under_load(contest *f, kiln_error *e) {
    kiln_subject *subject[SUBJECTS_MAX];
    double *samples[SUBJECTS_MAX], until = kiln_now() + HEAT_SECONDS;
    int rounds[SUBJECTS_MAX], few[SUBJECTS_MAX], status = 0;
    int n = line_up(f, subject, samples, rounds);
    if (!n) return 0;
    for (int i = 0; i < n; i++) few[i] = rounds[i] < 4 ? rounds[i] : 4;
    while (f->c->caps->kind == KILN_DEVICE_GPU && !status && kiln_now() < until)
        status = kiln_bench_rounds(here.bench, subject, n, few, samples, e);
    if (!status) status = race(f, e);
    n = line_up(f, subject, samples, rounds);
    if (!status) status = kiln_bench_rounds(here.bench, subject, n, rounds, samples, e);
    for (int i = 0; i < f->n && !status; i++)
        if (f->entrant[i].subject) f->entrant[i].rounds = f->entrant[i].most;
    return status;
}

/* The clock that the finals were run at. */
static void note_sensors(contest *f) {
    kiln_sensors now;
    if (!f->c->target->sensors || f->c->target->sensors(here.device, &now)) return;
    for (int i = 0; i < f->n; i++) {
        kiln_record *r = &f->entrant[i].record;
        r->clock_mhz = now.clock_mhz;
        r->temperature_c = now.temperature_c;
        r->power_w = now.power_w;
        r->throttle = kiln_arena_strdup(&f->arena, now.throttle);
    }
}

/* One after the other, waiting for each: says who fails. */
static void run_rounds(contest *f, uint64_t seed) {
    uint64_t drawn = 0;
    for (int round = 0; round < f->rounds; round++) {
        int order[SUBJECTS_MAX];
        for (int i = 0; i < f->n; i++) order[i] = i;
        for (int i = f->n - 1; i > 0; i--) {
            int k = (int)(kiln_random64(seed, drawn++) % (uint64_t)(i + 1)), swap = order[i];
            order[i] = order[k];
            order[k] = swap;
        }
        for (int i = 0; i < f->n; i++) {
            entrant *x = &f->entrant[order[i]];
            kiln_error e = {0};
            if (!x->subject || round >= x->most) continue;
            double t = kiln_bench_sample(here.bench, x->subject, &e);
            if (t > 0)
                x->samples[x->rounds++] = t;
            else
                drop(x, KILN_OUTCOME_DEVICE_ERROR, &e, &f->arena);
        }
    }
}

static json_t *entrant_reply(contest *f, entrant *x) {
    json_t *rounds = kiln_samples_list(x->samples, x->rounds);
    kiln_text line = {0};
    kiln_record_print(&x->record, &line);
    json_t *reply =
        json_pack("{s:s, s:o, s:s, s:s}", "record", kiln_text_get(&line), "rounds", rounds,
                  "vendor", x->vendor ? x->vendor : "", "describe",
                  x->vendor && x->subject ? kiln_subject_describe(x->subject, &f->arena) : "");
    kiln_text_free(&line);
    return reply;
}

static json_t *handle_finals(const kiln_worker_context *c, json_t *request) {
    static contest f;
    kiln_error e = {0};
    f = (contest){.c = c, .rounds = (int)json_integer_value(json_object_get(request, "rounds"))};
    if (!here.bench || f.rounds < 1 || f.rounds > 512) {
        kiln_fail(&e, KILN_BAD_INPUT, "finals without a problem or rounds");
        return failed(&e);
    }
    enter_candidates(&f, request);
    if (json_is_true(json_object_get(request, "vendors"))) enter_vendors(&f);
    warm_all(&f);
    if (run_under_load(&f, &e))
        run_rounds(&f, (uint64_t)json_integer_value(json_object_get(request, "seed")));
    note_sensors(&f);
    json_t *candidates = json_array(), *vendors = json_array();
    for (int i = 0; i < f.n; i++)
        json_array_append_new(i < f.n_candidates ? candidates : vendors,
                              entrant_reply(&f, &f.entrant[i]));
    for (int i = 0; i < f.n; i++) kiln_subject_close(f.entrant[i].subject);
    kiln_arena_free(&f.arena);
    return json_pack("{s:i, s:o, s:o}", "status", 0, "candidates", candidates, "vendors", vendors);
}

static json_t *handle_copy(const kiln_worker_context *c) {
    kiln_error e = {0};
    if (open_device(c, &e)) return failed(&e);
    /* well beyond the cache, within reason: 4 caches and 64 MiB at least, 1 GiB on a GPU */
    int64_t bytes = c->caps->kind == KILN_DEVICE_GPU ? (int64_t)1 << 30 : 4 * c->caps->cache_bytes;
    if (bytes < 64 << 20) bytes = 64 << 20;
    if (c->caps->max_alloc_bytes > 0 && bytes > c->caps->max_alloc_bytes)
        bytes = c->caps->max_alloc_bytes;
    double bandwidth = kiln_bench_copy(c->target, here.device, bytes, &e);
    if (bandwidth <= 0) return failed(&e);
    return json_pack("{s:i, s:f}", "status", 0, "bandwidth", bandwidth);
}

json_t *kiln_measure_handle(void *context, json_t *request) {
    const kiln_worker_context *c = context;
    const char *what = text(request, "do");
    if (!strcmp(what, "setup")) return handle_setup(c, request);
    if (!strcmp(what, "trial")) return handle_trial(c, request);
    if (!strcmp(what, "finals")) return handle_finals(c, request);
    if (!strcmp(what, "odd")) return handle_odd(c, request);
    if (!strcmp(what, "copy")) return handle_copy(c);
    if (!strcmp(what, "versus")) return kiln_versus_handle(c, request);
    kiln_error e;
    kiln_fail(&e, KILN_BAD_INPUT, "the measuring worker does not know '%s'", what);
    return failed(&e);
}
