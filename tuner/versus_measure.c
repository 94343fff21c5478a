/* The measuring worker's side of `tune bench`. The runtime opens the device, and the bench works on
 * that very device: ours runs as in a deployment, on the stream that the vendors use, too. */
#include "tuner/versus.h"

#include "runtime/context.h"
#include "tuner/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDES_MAX = 8, ROUNDS_LEAST = 11, ROUNDS_MOST = 201, ROUNDS_SLOW = 5 };

/* What lives as long as the worker. */
static struct {
    char path[1024];
    kiln_library *library;
    kiln_context *context;
} shelf;

typedef struct side {
    const char *name, *describe;
    const char *refused, *doubt; /* why it does not run; what is odd about its result */
    kiln_subject *subject;
    double seconds; /* of a sample */
    int rounds;
    double sample[ROUNDS_MOST];
} side;

/* One problem in work. */
typedef struct match {
    const kiln_worker_context *c;
    kiln_arena arena;
    kiln_problem *problem;
    kiln_plan *plan;
    kiln_plan_info info;
    kiln_bench *bench;
    kiln_record record;
    int n;
    side side[SIDES_MAX];
    kiln_sensors sensors;
} match;

static const char *field(json_t *request, const char *key) {
    const char *s = json_string_value(json_object_get(request, key));
    return s ? s : "";
}

/* The runtime's words become ours. */
static int relay(int status, kiln_error *e) {
    return status ? kiln_fail(e, status, "%s", kiln_last_error()) : KILN_OK;
}

static int open_library(const kiln_worker_context *c, const char *path, kiln_error *e) {
    if (shelf.context && !strcmp(shelf.path, path)) return KILN_OK;
    kiln_detach_device(shelf.context);
    kiln_close_library(shelf.library);
    shelf.context = NULL;
    shelf.library = NULL;
    char id[32];
    kiln_caps_id(c->caps, id);
    kiln_attach_options where = {.size = sizeof where, .device = id};
    int status = relay(kiln_open_library(path, NULL, &shelf.library), e);
    if (!status) status = relay(kiln_attach_device(shelf.library, &where, &shelf.context), e);
    if (!status) snprintf(shelf.path, sizeof shelf.path, "%s", path);
    return status;
}

static int open_plan(match *m, const char *text, kiln_error *e) {
    m->info = (kiln_plan_info){.size = sizeof m->info};
    int status = relay(kiln_make_problem(text, &m->problem), e);
    if (!status) status = relay(kiln_get_plan(shelf.context, m->problem, &m->plan), e);
    if (!status) status = relay(kiln_prepare_plan(m->plan), e);
    return status ? status : relay(kiln_get_plan_info(m->plan, &m->info), e);
}

static int launch(void *user, const kiln_buffer *operand, const double *scalar,
                  kiln_buffer workspace, kiln_error *e) {
    kiln_launch_args args = {
        .size = sizeof args, .operand = operand, .scalar = scalar, .workspace = workspace};
    return relay(kiln_launch_plan(user, &args), e);
}

static void enter_ours(match *m, kiln_error *e) {
    side *s = &m->side[m->n++];
    kiln_bench_call call = {.run = launch,
                            .user = m->plan,
                            .workspace_bytes = m->info.workspace_bytes,
                            .workspace_zeroed = m->info.workspace_zeroed_bytes};
    *s = (side){.name = "kiln", .describe = m->info.schedule};
    s->subject = kiln_subject_call(m->bench, &call, e);
    if (s->subject) kiln_bench_verify(m->bench, s->subject, &m->record, &m->arena);
}

/* A vendor that is outside the bound that ours must keep is measured, and said to be. */
static void enter_vendor(match *m, const kiln_vendor *v) {
    side *s = &m->side[m->n++];
    kiln_error e = {0};
    kiln_record r = {.detail = ""};
    *s = (side){.name = v->name, .subject = kiln_subject_vendor(m->bench, v, &e)};
    if (!s->subject) {
        s->refused = kiln_arena_strdup(&m->arena, e.text);
        return;
    }
    s->describe = kiln_subject_describe(s->subject, &m->arena);
    if (!kiln_bench_verify(m->bench, s->subject, &r, &m->arena)) s->doubt = r.detail;
}

static void enter_vendors(match *m) {
    for (int i = 0; kiln_vendors[i].target && m->n < SIDES_MAX; i++)
        if (!strcmp(kiln_vendors[i].target, m->c->target->name))
            enter_vendor(m, kiln_vendors[i].vendor);
}

/* Those that run, warmed up; how many rounds fit into the time, and fewer for one that is far
 * slower: everybody waits for it. */
static int pace(match *m, double seconds, kiln_error *e) {
    double round = 0, ours = 0;
    for (int i = 0; i < m->n; i++) {
        side *s = &m->side[i];
        double once;
        if (!s->subject) continue;
        int status = kiln_bench_pace(m->bench, s->subject, &s->seconds, e);
        if (status) return status;
        once = s->seconds / kiln_subject_batch(s->subject);
        if (!i) ours = once;
        s->rounds = once > 4 * ours ? ROUNDS_SLOW : ROUNDS_MOST;
        if (s->rounds == ROUNDS_MOST) round += s->seconds;
    }
    double fit = seconds / round;
    int most = fit > ROUNDS_MOST ? ROUNDS_MOST : fit < ROUNDS_LEAST ? ROUNDS_LEAST : (int)fit;
    for (int i = 0; i < m->n; i++)
        if (m->side[i].rounds > most) m->side[i].rounds = most;
    return KILN_OK;
}

static int run_rounds(match *m, kiln_error *e) {
    kiln_subject *subject[SIDES_MAX];
    double *sample[SIDES_MAX];
    int rounds[SIDES_MAX], n = 0;
    for (int i = 0; i < m->n; i++) {
        if (!m->side[i].subject) continue;
        subject[n] = m->side[i].subject;
        sample[n] = m->side[i].sample;
        rounds[n++] = m->side[i].rounds;
    }
    int status = kiln_bench_rounds(m->bench, subject, n, rounds, sample, e);
    const kiln_target *t = m->c->target;
    if (!t->sensors || t->sensors(shelf.context->device, &m->sensors))
        m->sensors = (kiln_sensors){-1, -1, -1, -1, ""};
    return status;
}

/* Right before, and right after all the rounds: what one launch leaves behind in its workspace must
 * not spoil another. */
static int measure(match *m, json_t *request, kiln_error *e) {
    double seconds = json_number_value(json_object_get(request, "seconds"));
    enter_ours(m, e);
    if (!m->side[0].subject) return e->status;
    if (m->record.outcome != KILN_OUTCOME_OK) return KILN_OK; /* the reply says so */
    if (json_is_true(json_object_get(request, "vendors"))) enter_vendors(m);
    int status = pace(m, seconds, e);
    if (!status) status = run_rounds(m, e);
    if (!status) kiln_bench_verify(m->bench, m->side[0].subject, &m->record, &m->arena);
    return status;
}

static int play(match *m, json_t *request, kiln_error *e) {
    kiln_bench_options o = {.seed = (uint64_t)json_integer_value(json_object_get(request, "seed")),
                            .hot = json_is_true(json_object_get(request, "hot"))};
    int status = open_library(m->c, field(request, "library"), e);
    if (!status) status = open_plan(m, field(request, "problem"), e);
    if (status) return status;
    m->bench = kiln_bench_open(m->c->target, shelf.context->device, m->problem, &o, e);
    return m->bench ? measure(m, request, e) : e->status;
}

static json_t *side_reply(const side *s) {
    json_t *rounds = json_array();
    for (int i = 0; i < s->rounds; i++) json_array_append_new(rounds, json_real(s->sample[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "name", s->name, "describe",
                     s->describe ? s->describe : "", "refused", s->refused ? s->refused : "",
                     "doubt", s->doubt ? s->doubt : "", "batch",
                     s->subject ? kiln_subject_batch(s->subject) : 0, "rounds", rounds);
}

static json_t *match_reply(const match *m) {
    static const char *const how[] = {"exact", "nearest", "fallback", "override"};
    json_t *sides = json_array();
    int64_t bytes;
    bool right = m->record.outcome == KILN_OUTCOME_OK;
    for (int i = 0; i < m->n && right; i++) json_array_append_new(sides, side_reply(&m->side[i]));
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:i, s:i, s:i, s:o}", "status",
                     0, "choice", how[m->info.choice], "reason", m->info.reason, "variant",
                     m->info.variant, "schedule", m->info.schedule, "kernel", m->info.kernel,
                     "outcome", kiln_outcome_name(m->record.outcome), "detail", m->record.detail,
                     "error_bound", m->record.error_bound, "sets",
                     kiln_bench_sets(m->bench, &bytes), "clock_mhz", m->sensors.clock_mhz,
                     "power_w", m->sensors.power_w, "sides", sides);
}

static void leave(match *m) {
    for (int i = 0; i < m->n; i++) kiln_subject_close(m->side[i].subject);
    kiln_bench_close(m->bench);
    kiln_release_plan(m->plan);
    kiln_free_problem(m->problem);
    kiln_arena_free(&m->arena);
}

json_t *kiln_versus_handle(const kiln_worker_context *c, json_t *request) {
    static match m; /* its samples are too many for a stack */
    kiln_error e = {0};
    m = (match){.c = c, .record = {.detail = ""}};
    int status = play(&m, request, &e);
    json_t *reply =
        status ? json_pack("{s:i, s:s}", "status", status, "error", e.text) : match_reply(&m);
    leave(&m);
    return reply;
}
