/* The measuring worker's side of `tune bench`. The runtime opens the device, and the bench works on
 * that very device: ours runs as in a deployment, on the stream that the vendors and another
 * library's kernels use, too. */
#include "tuner/versus.h"

#include "runtime/context.h"
#include "tuner/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LIBRARIES = 2,
    SIDES_MAX = 8,
    ROUNDS_LEAST = 11,
    ROUNDS_MOST = 201,
    ROUNDS_SLOW = 5,
    LONG_ROUNDS = 7,
    LONG_SLOW = 3
};

/* The libraries, ours first, on one device and stream: ours opens it, the other one joins. They
 * live as long as the worker. */
typedef struct shelf {
    char path[1024];
    kiln_library *library;
    kiln_context *context;
} shelf;
static shelf shelves[LIBRARIES];

typedef struct side {
    const char *name, *describe;
    const char *refused, *doubt; /* why it does not run; what is odd about its result */
    bool library;                /* one of those that must be right, and come first */
    kiln_plan *plan;             /* of a library's kernel; then: what it chose */
    kiln_plan_info info;
    kiln_record record; /* of its verification */
    kiln_subject *subject;
    double seconds; /* of a sample */
    int rounds, long_rounds;
    double sample[ROUNDS_MOST], long_sample[LONG_ROUNDS];
} side;

/* One problem in work. Its first sides are the libraries', and its last is the product's. */
typedef struct match {
    const kiln_worker_context *c;
    kiln_arena arena;
    kiln_problem *problem;
    kiln_problem *product; /* of a matmul with statements: the same without them */
    kiln_bench *bench;
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

/* ---------------------------------------------------------------- what the libraries choose */

static void clear(shelf *s) {
    kiln_detach_device(s->context);
    kiln_close_library(s->library);
    *s = (shelf){0};
}

static int attach(const kiln_worker_context *c, shelf *s) {
    char id[32];
    kiln_caps_id(c->caps, id);
    kiln_attach_options where = {.size = sizeof where, .device = id};
    return kiln_attach_device(s->library, &where, &s->context);
}

static int open_library(const kiln_worker_context *c, int i, const char *path, kiln_error *e) {
    shelf *s = &shelves[i];
    if (s->context && !strcmp(s->path, path)) return KILN_OK;
    for (int k = LIBRARIES; k-- > i;) clear(&shelves[k]); /* who joined leaves first */
    int status = kiln_open_library(path, NULL, &s->library);
    if (!status)
        status = i ? kiln_context_join(s->library, shelves[0].context, &s->context) : attach(c, s);
    snprintf(s->path, sizeof s->path, "%s", path);
    return relay(status, e);
}

static int take_plan(kiln_context *c, const kiln_problem *p, side *s, kiln_error *e) {
    s->info.size = sizeof s->info;
    int status = relay(kiln_get_plan(c, p, &s->plan), e);
    if (!status) status = relay(kiln_prepare_plan(s->plan), e);
    return status ? status : relay(kiln_get_plan_info(s->plan, &s->info), e);
}

static int choose(match *m, json_t *from, kiln_error *e) {
    int i = m->n++;
    side *s = &m->side[i];
    *s = (side){.name = field(from, "name"), .library = true, .record = {.detail = ""}};
    int status = open_library(m->c, i, field(from, "path"), e);
    return status ? status : take_plan(shelves[i].context, m->problem, s, e);
}

/* The match cannot be without our side; it can be without the others. */
static int excuse(match *m, side *s, const kiln_error *why, kiln_error *e) {
    if (s == m->side) return *e = *why, why->status;
    s->refused = kiln_arena_strdup(&m->arena, why->text);
    return KILN_OK;
}

static int choose_all(match *m, json_t *request, kiln_error *e) {
    json_t *libraries = json_object_get(request, "libraries");
    int n = (int)json_array_size(libraries), status = KILN_OK;
    if (n < 1 || n > LIBRARIES) return kiln_fail(e, KILN_BAD_INPUT, "%d libraries to measure", n);
    for (int i = 0; i < n && !status; i++) {
        kiln_error why = {0};
        if (choose(m, json_array_get(libraries, (size_t)i), &why))
            status = excuse(m, &m->side[i], &why, e);
    }
    return status;
}

/* ---------------------------------------------------------------- who takes part */

static int launch(void *user, const kiln_buffer *operand, const double *scalar,
                  kiln_buffer workspace, kiln_error *e) {
    kiln_launch_args args = {
        .size = sizeof args, .operand = operand, .scalar = scalar, .workspace = workspace};
    return relay(kiln_launch_plan(user, &args), e);
}

static int enter_library(match *m, side *s, kiln_error *e) {
    kiln_bench_call call = {.run = launch,
                            .user = s->plan,
                            .workspace_bytes = s->info.workspace_bytes,
                            .workspace_zeroed = s->info.workspace_zeroed_bytes};
    kiln_error why = {0};
    if (s->refused) return KILN_OK;
    s->subject = kiln_subject_call(m->bench, &call, &why);
    return s->subject ? KILN_OK : excuse(m, s, &why, e);
}

/* Who is not right has its outcome in the reply. */
static bool verify_libraries(match *m) {
    bool right = true;
    for (int i = 0; i < m->n; i++) {
        side *s = &m->side[i];
        if (s->library && s->subject)
            right &= kiln_bench_verify(m->bench, s->subject, &s->record, &m->arena);
    }
    return right;
}

/* A vendor that is outside the bound that ours must keep is measured, and said to be. */
static void enter_vendor(match *m, const kiln_vendor *v) {
    side *s = &m->side[m->n++];
    kiln_error e = {0};
    *s = (side){.name = v->name, .subject = kiln_subject_vendor(m->bench, v, &e)};
    s->record.detail = "";
    if (!s->subject) {
        s->refused = kiln_arena_strdup(&m->arena, e.text);
        return;
    }
    s->describe = kiln_subject_describe(s->subject, &m->arena);
    if (!kiln_bench_verify(m->bench, s->subject, &s->record, &m->arena))
        s->doubt = s->record.detail;
}

static void enter_vendors(match *m) {
    for (int i = 0; kiln_vendors[i].target && m->n < SIDES_MAX - 1; i++)
        if (!strcmp(kiln_vendors[i].target, m->c->target->name))
            enter_vendor(m, kiln_vendors[i].vendor);
}

static bool has_statements(kiln_problem *p) {
    return !strcmp(p->family->name, "matmul") && strchr(kiln_print_problem(p), ':');
}

/* The operands of statements come behind `out`: without them their types are not printed. */
static int make_product(match *m, kiln_error *e) {
    kiln_problem alone = *m->problem;
    kiln_text text = {0};
    alone.n_operands = kiln_problem_operand(&alone, "out") + 1;
    kiln_problem_print(&alone, &text);
    int status = text.failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the product") : KILN_OK;
    if (!status) text.data[strcspn(text.data, ":")] = 0;
    if (!status) status = relay(kiln_make_problem(text.data, &m->product), e);
    kiln_text_free(&text);
    return status;
}

/* A kernel tuned for something else does not count: beside it, statements would look too cheap. */
static int choose_product(match *m, side *s, kiln_error *e) {
    int status = make_product(m, e);
    if (status) return status;
    status = take_plan(shelves[0].context, m->product, s, e);
    bool lacking = s->plan ? s->info.choice != KILN_CHOICE_EXACT : status == KILN_NOT_FOUND;
    if (!lacking) return status;
    return kiln_fail(e, KILN_NOT_FOUND,
                     "the library has no kernel of its own for the product: tune it, too");
}

/* Ours without the statements, on the same operands: what they cost. Its result is another by
 * intent, so nothing is said of it; the problem's own kernel is verified again when all is done. */
static int enter_product(match *m, kiln_error *e) {
    kiln_error why = {0};
    if (!has_statements(m->problem)) return KILN_OK;
    side *s = &m->side[m->n++];
    *s = (side){.name = "product"};
    return choose_product(m, s, &why) ? excuse(m, s, &why, e) : enter_library(m, s, e);
}

/* Those that run, warmed up; how many rounds fit into the time, and fewer for one that is far
 * slower: everybody waits for it. */
static int pace(match *m, double seconds, bool long_ones, kiln_error *e) {
    double round = 0, ours = 0;
    for (int i = 0; i < m->n; i++) {
        side *s = &m->side[i];
        double once;
        if (!s->subject) continue;
        int status = kiln_bench_pace(m->bench, s->subject, &s->seconds, e);
        if (status) return status;
        once = s->seconds / kiln_subject_batch(s->subject);
        if (!i) ours = once;
        bool slow = once > 4 * ours;
        s->rounds = slow ? ROUNDS_SLOW : ROUNDS_MOST;
        if (long_ones && !kiln_subject_on_host(s->subject))
            s->long_rounds = slow ? LONG_SLOW : LONG_ROUNDS;
        if (!slow) round += s->seconds;
    }
    double fit = seconds / round;
    int most = fit > ROUNDS_MOST ? ROUNDS_MOST : fit < ROUNDS_LEAST ? ROUNDS_LEAST : (int)fit;
    for (int i = 0; i < m->n; i++)
        if (m->side[i].rounds > most) m->side[i].rounds = most;
    return KILN_OK;
}

/* Long rounds first: behind them the device is warm. */
static int run_rounds(match *m, double alone, kiln_error *e) {
    kiln_subject *subject[SIDES_MAX];
    double *sample[SIDES_MAX], *long_sample[SIDES_MAX];
    int rounds[SIDES_MAX], long_rounds[SIDES_MAX], n = 0, status = KILN_OK;
    for (int i = 0; i < m->n; i++) {
        side *s = &m->side[i];
        if (!s->subject) continue;
        subject[n] = s->subject;
        sample[n] = s->sample, long_sample[n] = s->long_sample;
        rounds[n] = s->rounds, long_rounds[n++] = s->long_rounds;
    }
    if (alone > 0)
        status = kiln_bench_long_rounds(m->bench, subject, n, long_rounds, alone, long_sample, e);
    if (!status) status = kiln_bench_rounds(m->bench, subject, n, rounds, sample, e);
    const kiln_target *t = m->c->target;
    if (!t->sensors || t->sensors(shelves[0].context->device, &m->sensors))
        m->sensors = (kiln_sensors){-1, -1, -1, -1, ""};
    return status;
}

/* Right before, and right after all the rounds: what one launch leaves behind in its workspace must
 * not spoil another. Nothing is measured beside a kernel that is wrong: it may have written
 * anywhere. */
static int measure(match *m, json_t *request, kiln_error *e) {
    double seconds = json_number_value(json_object_get(request, "seconds"));
    double alone = json_number_value(json_object_get(request, "alone"));
    int status = KILN_OK;
    for (int i = 0; i < m->n && !status; i++) status = enter_library(m, &m->side[i], e);
    if (status || !verify_libraries(m)) return status;
    if (json_is_true(json_object_get(request, "vendors"))) enter_vendors(m);
    status = enter_product(m, e);
    if (!status) status = pace(m, seconds, alone > 0, e);
    if (!status) status = run_rounds(m, alone, e);
    if (!status) verify_libraries(m);
    return status;
}

static int play(match *m, json_t *request, kiln_error *e) {
    kiln_bench_options o = {.seed = (uint64_t)json_integer_value(json_object_get(request, "seed")),
                            .hot = json_is_true(json_object_get(request, "hot"))};
    int status = relay(kiln_make_problem(field(request, "problem"), &m->problem), e);
    if (!status) status = choose_all(m, request, e);
    if (status) return status;
    m->bench = kiln_bench_open(m->c->target, shelves[0].context->device, m->problem, &o, e);
    return m->bench ? measure(m, request, e) : e->status;
}

/* ---------------------------------------------------------------- the reply */

static json_t *choice_reply(const side *s) {
    static const char *const how[] = {"exact", "nearest", "fallback", "override"};
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "choice", how[s->info.choice], "reason",
                     s->info.reason, "variant", s->info.variant, "schedule", s->info.schedule,
                     "kernel", s->info.kernel);
}

static json_t *verdict_reply(const side *s) {
    return json_pack("{s:s, s:s, s:f}", "outcome", kiln_outcome_name(s->record.outcome), "detail",
                     s->record.detail, "error_bound", s->record.error_bound);
}

static json_t *side_reply(const side *s) {
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "name", s->name, "describe",
                          s->describe ? s->describe : "", "refused", s->refused ? s->refused : "",
                          "doubt", s->doubt ? s->doubt : "", "batch",
                          s->subject ? kiln_subject_batch(s->subject) : 0, "rounds",
                          kiln_samples_list(s->sample, s->rounds), "long_rounds",
                          kiln_samples_list(s->long_sample, s->long_rounds));
    if (s->plan && !s->refused) json_object_update_new(j, choice_reply(s));
    if (s->library && !s->refused) json_object_update_new(j, verdict_reply(s));
    return j;
}

static json_t *match_reply(const match *m) {
    json_t *sides = json_array();
    int64_t bytes;
    for (int i = 0; i < m->n; i++) json_array_append_new(sides, side_reply(&m->side[i]));
    return json_pack("{s:i, s:i, s:i, s:i, s:o}", "status", 0, "sets",
                     kiln_bench_sets(m->bench, &bytes), "clock_mhz", m->sensors.clock_mhz,
                     "power_w", m->sensors.power_w, "sides", sides);
}

static void leave(match *m) {
    for (int i = 0; i < m->n; i++) kiln_subject_close(m->side[i].subject);
    kiln_bench_close(m->bench);
    for (int i = 0; i < m->n; i++) kiln_release_plan(m->side[i].plan);
    kiln_free_problem(m->problem);
    kiln_free_problem(m->product);
    kiln_arena_free(&m->arena);
}

json_t *kiln_versus_handle(const kiln_worker_context *c, json_t *request) {
    static match m; /* its samples are too many for a stack */
    kiln_error e = {0};
    m = (match){.c = c};
    int status = play(&m, request, &e);
    json_t *reply =
        status ? json_pack("{s:i, s:s}", "status", status, "error", e.text) : match_reply(&m);
    leave(&m);
    return reply;
}
