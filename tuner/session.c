#include "tuner/session.h"

#include "base/hash.h"
#include "tuner/candidates.h"
#include "tuner/topology.h"
#include "tuner/tune.h"
#include "tuner/unit.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEVICES_MAX = 32, COMPILERS_MAX = KILN_WORKERS_MAX - 1 };

volatile sig_atomic_t kiln_interrupted;

/* ---- the device ---- */

/* "auto" takes the kind that is likely fastest: targets in this order, GPUs before CPUs. */
static int rank(const kiln_caps *c) {
    static const char *const preferred[] = {"cuda", "hip", "opencl"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(c->target, preferred[i])) return (c->kind == KILN_DEVICE_GPU ? 0 : 8) + i;
    return c->kind == KILN_DEVICE_GPU ? 7 : 15;
}

static int choose_auto(const kiln_target **target, kiln_caps *caps, kiln_text *why, kiln_error *e) {
    static kiln_caps found[DEVICES_MAX];
    int best = -1;
    kiln_text absent = {0};
    for (int t = 0; kiln_targets[t]; t++) {
        kiln_error reason = {0};
        int n = kiln_targets[t]->devices(found, DEVICES_MAX, &reason);
        if (n <= 0)
            kiln_text_printf(&absent, "%s%s: %s", absent.size ? "; " : "", kiln_targets[t]->name,
                             reason.text);
        for (int i = 0; i < n; i++)
            if (best < 0 || rank(&found[i]) < best) {
                best = rank(&found[i]);
                *caps = found[i];
                *target = kiln_targets[t];
            }
    }
    if (best < 0) {
        int status = kiln_fail(e, KILN_NO_DEVICE,
                               "no device found (%s); install a driver, or PoCL "
                               "(apt-get install pocl-opencl-icd) to tune the CPU",
                               kiln_text_get(&absent));
        kiln_text_free(&absent);
        return status;
    }
    char id[32];
    kiln_caps_id(caps, id);
    kiln_text_printf(why, "%s (%s), the first of CUDA, HIP, OpenCL GPU, OpenCL CPU that is here",
                     id, caps->name);
    if (absent.size) kiln_text_printf(why, "; absent: %s", kiln_text_get(&absent));
    kiln_text_free(&absent);
    return KILN_OK;
}

int kiln_device_choose(const char *id, const kiln_target **target, kiln_caps *caps, kiln_text *why,
                       kiln_error *e) {
    static kiln_caps found[DEVICES_MAX];
    if (!strcmp(id, "auto")) return choose_auto(target, caps, why, e);
    char name[16] = "", junk;
    int index = 0;
    int fields = sscanf(id, "%15[^:]:%d%c", name, &index, &junk);
    *target = fields >= 1 && fields != 3 ? kiln_target_find(name) : NULL;
    if (!*target)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "unknown device '%s': give auto, or a name that `tune "
                         "devices` lists, such as opencl:0",
                         id);
    kiln_error reason = {0};
    int n = (*target)->devices(found, DEVICES_MAX, &reason);
    if (n <= 0) return kiln_fail(e, KILN_NO_DEVICE, "no %s device: %s", name, reason.text);
    if (index < 0 || index >= n)
        return kiln_fail(e, KILN_BAD_INPUT, "there is no %s:%d, only %s:0 to %s:%d", name, index,
                         name, name, n - 1);
    *caps = found[index];
    kiln_text_printf(why, "%s (%s), as asked", id, caps->name);
    return KILN_OK;
}

/* ---- opening ---- */

static int make_directory(const char *path, kiln_error *e) {
    if (mkdir(path, 0777) && errno != EEXIST)
        return kiln_fail(e, KILN_IO,
                         "cannot create the directory %s: %s; choose another with --out", path,
                         strerror(errno));
    if (access(path, W_OK | X_OK))
        return kiln_fail(e, KILN_IO,
                         "cannot write into the directory %s: %s; choose another with "
                         "--out",
                         path, strerror(errno));
    return KILN_OK;
}

static int add_problem(kiln_session *s, const char *text, double weight, kiln_error *e) {
    kiln_result *r = &s->result[s->n_results];
    int status = kiln_problem_parse(&r->problem, text, e);
    if (status) return status;
    kiln_text canonical = {0};
    kiln_problem_print(&r->problem, &canonical);
    r->text = kiln_arena_strdup(&s->arena, kiln_text_get(&canonical));
    kiln_text_free(&canonical);
    r->weight = weight;
    for (int i = 0; i < s->n_results; i++) /* the same problem twice is one that counts twice */
        if (!strcmp(s->result[i].text, r->text)) return s->result[i].weight += weight, KILN_OK;
    s->n_results++;
    return KILN_OK;
}

/* The same command on the same device is the same session: it resumes. */
static void name_session(kiln_session *s) {
    kiln_text t = {0};
    uint8_t digest[32];
    kiln_text_printf(&t, "%s\n%s %.3f %llu %d %lld %d %g\n", s->identity, s->options.strategy,
                     s->options.budget, (unsigned long long)s->options.seed, s->options.hot,
                     (long long)s->options.max_trials, s->options.vendors, s->options.finish);
    for (int i = 0; i < s->n_results; i++)
        kiln_text_printf(&t, "%g %s\n", s->result[i].weight, s->result[i].text);
    kiln_sha256_of(kiln_text_get(&t), t.size, digest);
    kiln_hex(digest, 8, s->id);
    kiln_text_free(&t);
}

static void recall(kiln_session *s) {
    char *key = kiln_arena_printf(&s->arena, "spent/%s", s->id);
    const char *spent = kiln_store_get(s->store, key, &s->arena);
    s->spent = spent ? atof(spent) : 0;
    key = kiln_arena_printf(&s->arena, "copy-bandwidth/%s", s->identity);
    const char *copy = kiln_store_get(s->store, key, &s->arena);
    s->copy_bandwidth = copy ? atof(copy) : 0;
}

static void prepare_workers(kiln_session *s) {
    char id[32];
    kiln_caps_id(&s->caps, id);
    s->n_compilers = kiln_topology_cores();
    if (s->n_compilers > COMPILERS_MAX) s->n_compilers = COMPILERS_MAX;
    for (int i = 0; i <= s->n_compilers; i++) {
        kiln_worker *w = &s->worker[i];
        w->role = i ? KILN_WORKER_COMPILE : KILN_WORKER_MEASURE;
        w->core = i - 1;
        snprintf(w->device, sizeof w->device, "%s", id);
        snprintf(w->cache, sizeof w->cache, "%s", s->cache);
    }
}

static int open_places(kiln_session *s, kiln_error *e) {
    const kiln_session_options *o = &s->options;
    int status = make_directory(o->out, e);
    snprintf(s->cache, sizeof s->cache, "%s/cache", o->out);
    if (!status) status = make_directory(s->cache, e);
    if (status) return status;
    /* The driver's own cache, too, lives and dies with the output directory. */
    char *pocl = kiln_arena_printf(&s->arena, "%s/pocl", s->cache);
    if (pocl && !make_directory(pocl, NULL)) {
        char *full = realpath(pocl, NULL);
        if (full) setenv("POCL_CACHE_DIR", full, 0);
        free(full);
    }
    char *path = o->store_path ? kiln_arena_strdup(&s->arena, o->store_path)
                               : kiln_arena_printf(&s->arena, "%s/kiln.db", o->out);
    s->store = path ? kiln_store_open(path, false, e) : NULL;
    return s->store ? KILN_OK : e->status;
}

int kiln_session_open(kiln_session *s, const kiln_session_options *o, const char *const *problems,
                      const double *weights, int n, kiln_error *e) {
    *s = (kiln_session){.options = *o};
    kiln_progress_open(&s->progress, o->quiet);
    s->result = n > 0 && n <= KILN_PROBLEMS_MAX
                    ? kiln_arena_alloc(&s->arena, (size_t)n * sizeof *s->result)
                    : NULL;
    if (!s->result)
        return kiln_fail(e, KILN_BAD_INPUT, "%d problems: a session takes 1 to %d", n,
                         KILN_PROBLEMS_MAX);
    int status = KILN_OK;
    for (int i = 0; i < n && !status; i++)
        status = add_problem(s, problems[i], weights ? weights[i] : 1, e);
    if (!status && !kiln_strategy_find(o->strategy))
        status =
            kiln_fail(e, KILN_BAD_INPUT, "unknown strategy '%s': see tune run --help", o->strategy);
    kiln_text text = {0};
    if (!status) status = kiln_device_choose(o->device, &s->target, &s->caps, &text, e);
    if (!status) {
        s->why_device = kiln_arena_strdup(&s->arena, kiln_text_get(&text));
        kiln_text_clear(&text);
        kiln_caps_identity(&s->caps, &text);
        s->identity = kiln_arena_strdup(&s->arena, kiln_text_get(&text));
        status = open_places(s, e);
    }
    kiln_text_free(&text);
    if (status) return status;
    name_session(s);
    recall(s);
    prepare_workers(s);
    return KILN_OK;
}

void kiln_session_close(kiln_session *s) {
    for (int i = 0; i <= s->n_compilers; i++) kiln_worker_stop(&s->worker[i]);
    kiln_progress_clear(&s->progress);
    if (s->store) kiln_store_close(s->store);
    kiln_arena_free(&s->arena);
}

/* ---- what tune.c and publish.c use ---- */

kiln_record kiln_session_record(kiln_session *s, const kiln_result *r, const char *schedule,
                                const char *phase) {
    time_t now = time(NULL);
    struct tm utc;
    char date[32];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    kiln_record record = kiln_record_blank();
    record.problem = r->text;
    record.schedule = schedule;
    record.device = s->identity;
    record.protocol = kiln_record_protocol(s->options.hot);
    record.phase = phase;
    record.seed = s->options.seed;
    record.date = kiln_arena_strdup(&s->arena, date);
    record.session = s->id;
    return record;
}

/* Waits for one worker's answer. */
static int ask_once(kiln_worker *w, json_t *request, double seconds, json_t **reply,
                    kiln_error *e) {
    int which;
    kiln_text detail = {0};
    *reply = NULL;
    int status = kiln_worker_send(w, request, seconds, e);
    while (!status && !*reply) {
        kiln_worker_event event = kiln_worker_wait(w, 1, 0.2, &which, reply, &detail);
        if (kiln_interrupted)
            status = kiln_fail(e, KILN_INTERRUPTED, "interrupted");
        else if (event == KILN_EVENT_DIED || event == KILN_EVENT_TIMEOUT)
            status = kiln_fail(e, event == KILN_EVENT_DIED ? KILN_DRIVER : KILN_TIMEOUT, "%s",
                               kiln_text_get(&detail));
    }
    kiln_text_free(&detail);
    if (!status && json_integer_value(json_object_get(*reply, "status"))) {
        const char *why = json_string_value(json_object_get(*reply, "error"));
        status = kiln_fail(e, (int)json_integer_value(json_object_get(*reply, "status")), "%s",
                           why ? why : "");
    }
    return status;
}

/* A worker that somebody killed says nothing about the request: it is sent again. */
static int ask(kiln_worker *w, json_t *request, double seconds, json_t **reply, kiln_error *e) {
    int status = KILN_OK;
    for (int attempt = 0; attempt < KILN_ATTEMPTS; attempt++) {
        w->killed = false;
        status = ask_once(w, request, seconds, reply, e);
        if (status != KILN_DRIVER || !w->killed || kiln_interrupted) break;
    }
    return status;
}

int kiln_session_ask(kiln_session *s, json_t *request, double seconds, json_t **reply,
                     kiln_error *e) {
    return ask(&s->worker[0], request, seconds, reply, e);
}

int kiln_session_compile(kiln_session *s, const char *problem, const char *schedule,
                         const char *ptx_arch, char unit[65], char suffix[20], kiln_error *e) {
    json_t *reply, *request = json_pack("{s:s, s:[s], s:s}", "problem", problem, "schedules",
                                        schedule, "ptx", ptx_arch);
    int status = ask(&s->worker[1], request, 60, &reply, e);
    if (!status) {
        const char *u = json_string_value(json_object_get(reply, "unit"));
        const char *x = json_string_value(json_array_get(json_object_get(reply, "suffixes"), 0));
        snprintf(unit, 65, "%s", u ? u : "");
        snprintf(suffix, 20, "%s", x ? x : "");
    }
    json_decref(request);
    json_decref(reply);
    return status;
}

/* ---- compiled units, by the hash of a program's source ---- */

static char *unit_key(kiln_session *s, const char *source) {
    return kiln_arena_printf(&s->arena, "unit/%s/%s/%s/%s", s->identity, s->caps.driver,
                             s->caps.compiler, source);
}

int kiln_session_keep_unit(kiln_session *s, const char *source, const char *unit, kiln_error *e) {
    char *key = unit_key(s, source);
    return key ? kiln_store_put(s->store, key, unit, e) : KILN_OK;
}

const char *kiln_session_find_unit(kiln_session *s, const char *source) {
    const char *unit = *source ? kiln_store_get(s->store, unit_key(s, source), &s->arena) : NULL;
    return unit && kiln_unit_whole(s->cache, unit, "bin") ? unit : NULL;
}

/* ---- the run ---- */

static void measure_copy(kiln_session *s) {
    if (s->copy_bandwidth > 0) return;
    kiln_error e = {0};
    json_t *reply, *request = json_pack("{s:s}", "do", "copy");
    if (!kiln_session_ask(s, request, 60, &reply, &e)) {
        s->copy_bandwidth = json_number_value(json_object_get(reply, "bandwidth"));
        char value[32];
        snprintf(value, sizeof value, "%.6g", s->copy_bandwidth);
        kiln_store_put(s->store, kiln_arena_printf(&s->arena, "copy-bandwidth/%s", s->identity),
                       value, NULL);
    } else if (e.status != KILN_INTERRUPTED)
        kiln_progress_say(&s->progress, "copy bandwidth not measured: %s", e.text);
    json_decref(request);
    json_decref(reply);
}

static char *done_key(kiln_session *s, const kiln_result *r) {
    return kiln_arena_printf(&s->arena, "done/%s/%s", s->id, r->text);
}

/* The stored result of a problem that an earlier run of this command finished. */
typedef struct recollection {
    kiln_session *s;
    kiln_result *r;
    const char *schedule;
} recollection;

static char *keep(kiln_session *s, const char *text) { return kiln_arena_strdup(&s->arena, text); }

static kiln_record keep_record(kiln_session *s, const kiln_record *r) {
    kiln_text line = {0};
    kiln_record copy = *r;
    kiln_record_print(r, &line);
    kiln_record_parse(&copy, kiln_text_get(&line), line.size, &s->arena, NULL);
    kiln_text_free(&line);
    return copy;
}

static int recall_visit(void *context, int64_t id, const kiln_record *r) {
    recollection *c = context;
    (void)id;
    if (strcmp(r->session, c->s->id)) return 0;
    if (!strcmp(r->phase, "search")) {
        c->r->trials++;
        c->r->failures[r->outcome]++;
    } else if (!strcmp(r->phase, "final") && !strcmp(r->schedule, c->schedule) &&
               r->outcome == KILN_OUTCOME_OK) {
        c->r->winner = keep_record(c->s, r);
        c->r->have_winner = true;
    } else if (!strcmp(r->phase, "vendor") && c->r->n_vendors < 4)
        c->r->vendor[c->r->n_vendors++] = keep_record(c->s, r);
    return 0;
}

/* "done" holds UNIT SUFFIX SCHEDULE, or "none REASON" where trying again would end the same.
 * ("failed REASON", as it once was, may tell of a passing fault: such a problem is tried again.) */
static bool recall_result(kiln_session *s, kiln_result *r) {
    const char *done = kiln_store_get(s->store, done_key(s, r), &s->arena);
    char unit[65], suffix[20];
    int at = 0;
    if (!done) return false;
    if (!strncmp(done, "none ", 5)) {
        r->failure = keep(s, done + 5);
        return r->finished = true;
    }
    if (!strncmp(done, "failed ", 7)) return false;
    if (sscanf(done, "%64s %19s %n", unit, suffix, &at) != 2 || !at) return false;
    recollection c = {s, r, done + at};
    kiln_query q = {.problem = r->text,
                    .device = s->identity,
                    .protocol = kiln_record_protocol(s->options.hot)};
    if (kiln_store_each(s->store, &q, recall_visit, &c, NULL) || !r->have_winner) return false;
    r->unit = keep(s, unit);
    r->suffix = keep(s, suffix);
    return r->finished = true;
}

/* A worker that died, a time-out, a compiler's fault may be gone the next time. What the problem
 * itself cannot have stays so: nothing applies, a wrong reference, no trial that is right. */
static bool fails_again(const kiln_result *r, int status) {
    if (status) return status == KILN_UNSUPPORTED || status == KILN_WRONG;
    return r->failure && !r->failures[KILN_OUTCOME_OK];
}

static void remember_result(kiln_session *s, const kiln_result *r, int status) {
    bool won = r->have_winner && !strcmp(r->winner.phase, "final");
    if (!won && (r->have_winner || !fails_again(r, status))) return;
    char *value = won ? kiln_arena_printf(&s->arena, "%s %s %s", r->unit, r->suffix,
                                          r->winner.schedule)
                      : kiln_arena_printf(&s->arena, "none %s", r->failure);
    if (value) kiln_store_put(s->store, done_key(s, r), value, NULL);
}

/* What the search was like, for the report: its own seconds, the model's figures, why it ended. */
static char *searched_key(kiln_session *s, const kiln_result *r) {
    return kiln_arena_printf(&s->arena, "searched/%s/%s", s->id, r->text);
}

static void remember_search(kiln_session *s, const kiln_result *r) {
    char *value = kiln_arena_printf(&s->arena, "%.3f %.4f %.4f %s", r->search_seconds,
                                    r->rank_correlation, r->recall, r->ended ? r->ended : "");
    if (value) kiln_store_put(s->store, searched_key(s, r), value, NULL);
}

static void recall_search(kiln_session *s, kiln_result *r) {
    const char *value = kiln_store_get(s->store, searched_key(s, r), &s->arena);
    int at = 0;
    r->rank_correlation = r->recall = NAN;
    if (!value || sscanf(value, "%lf %lf %lf %n", &r->search_seconds, &r->rank_correlation,
                         &r->recall, &at) != 3)
        return;
    if (at && value[at]) r->ended = value + at;
}

static void remember_time(kiln_session *s) {
    s->noted = kiln_now();
    char value[32];
    snprintf(value, sizeof value, "%.3f", s->spent + kiln_now() - s->start);
    kiln_store_put(s->store, kiln_arena_printf(&s->arena, "spent/%s", s->id), value, NULL);
}

void kiln_session_note_time(kiln_session *s) {
    if (kiln_now() - s->noted > 5) remember_time(s);
}

/* The best trial of earlier runs and the generic kernel: a session that is stopped before it comes
 * to a problem has them all the same. */
typedef struct earlier {
    kiln_session *s;
    kiln_result *r;
    const char *generic;
} earlier;

static int earlier_visit(void *context, int64_t id, const kiln_record *r) {
    earlier *c = context;
    (void)id;
    bool right = r->outcome == KILN_OUTCOME_OK && r->median > 0;
    if (right && (!c->r->have_winner || r->median < c->r->winner.median)) {
        c->r->winner = keep_record(c->s, r);
        c->r->have_winner = true;
    }
    bool timed = right || r->outcome == KILN_OUTCOME_SLOW;
    if (timed && c->generic && !strcmp(r->schedule, c->generic))
        c->r->generic_suffix = keep(c->s, r->source);
    return 0;
}

static void recall_earlier(kiln_session *s, kiln_result *r) {
    kiln_schedule generic;
    kiln_text text = {0};
    bool any = kiln_generic_schedule(&r->problem, &s->caps, &generic);
    if (any) kiln_schedule_print(&generic, &text);
    earlier c = {.s = s, .r = r, .generic = any ? kiln_text_get(&text) : NULL};
    kiln_query q = {.problem = r->text,
                    .device = s->identity,
                    .phase = "search",
                    .protocol = kiln_record_protocol(s->options.hot)};
    kiln_store_each(s->store, &q, earlier_visit, &c, NULL);
    kiln_text_free(&text);
    const char *unit = r->have_winner ? kiln_session_find_unit(s, r->winner.source) : NULL;
    if (unit) r->unit = keep(s, unit), r->suffix = keep(s, r->winner.source);
    const char *other = r->generic_suffix ? kiln_session_find_unit(s, r->generic_suffix) : NULL;
    r->generic_unit = other ? keep(s, other) : NULL;
}

/* ---- the portfolio ---- */

enum { VISIT_SECONDS = 3, SETUPS_OF_A_VISIT = 4, SHARE_MIN = 3 };
/* Of a problem's time, finals and odd sizes: usually, and at most. */
static const double FINALS_SHARE = 0.2, FINALS_MOST = 0.45;
static const double ODD_SETUP_MOST = 0.1; /* seconds */

/* A problem's place in it. */
typedef struct place {
    kiln_result *r;
    kiln_tuning *t; /* NULL: not open (any more) */
    kiln_stake stake;
    int odd_sizes;       /* that its best so far is to be verified at */
    double share, spent; /* seconds: its even share of the budget; what its search has had */
    bool over;
} place;

typedef struct portfolio {
    kiln_session *s;
    int n, current; /* current: which the measuring worker is set up for, -1 none */
    place place[KILN_PROBLEMS_MAX];
} portfolio;

/* At how many odd sizes the best so far would be verified as the winner. */
static int odd_sizes(const kiln_result *r) {
    const kiln_generator *g = kiln_generator_of(r->problem.family);
    kiln_schedule schedule;
    int n = 0;
    if (!g->odd_sizes || !r->have_winner ||
        kiln_schedule_parse(r->problem.family, &schedule, r->winner.schedule, NULL))
        return 0;
    for (const char *const *size = g->odd_sizes(&r->problem, &schedule); size && size[n];) n++;
    return n;
}

/* Time kept for a problem's finals: a fresh worker, its set-up, a load, rounds, and a set-up at
 * each odd size, which is a small one. With less, a suite of many problems and few seconds for each
 * took half as long again as it was given. */
static double reserve(const place *x) {
    double setup = x->stake.setup_seconds, odd = fmin(setup, ODD_SETUP_MOST);
    double likely = 1.5 + 2 * setup + x->odd_sizes * odd + 450 * x->stake.seconds;
    return fmin(likely, FINALS_MOST * x->share);
}

/* Seconds left for searching. */
static double time_left(const portfolio *p) {
    double left = p->s->end - kiln_now();
    for (int i = 0; i < p->n; i++)
        if (!p->place[i].over) left -= reserve(&p->place[i]);
    return left;
}

static void say_head(portfolio *p, const place *x, const char *what) {
    kiln_progress_say(&p->s->progress, "[%d/%d] %s%s", (int)(x->r - p->s->result) + 1,
                      p->s->n_results, x->r->text, what);
}

static void say_visit(portfolio *p, const place *x) {
    if (!x->r->have_winner || p->n < 2) return;
    kiln_progress_say(&p->s->progress,
                      "  %.4g ms after %lld trials; %d more are expected to gain %.2g to %.2g %%",
                      x->r->winner.median * 1e3, (long long)x->r->trials, KILN_HORIZON,
                      100 * x->stake.gain, 100 * x->stake.gain_most);
}

static void say_result(kiln_session *s, const kiln_result *r, int status) {
    if (r->failure || !r->have_winner) {
        kiln_progress_say(&s->progress, "  no winner: %s%s",
                          r->failure ? r->failure : "not reached",
                          fails_again(r, status) ? "" : " (the same command tries it again)");
        return;
    }
    kiln_progress_say(&s->progress, "  %.4g ms, %lld trials of %lld legal%s%s: %s",
                      r->winner.median * 1e3, (long long)r->trials, (long long)r->space,
                      r->ended ? ", " : "", r->ended ? r->ended : "", r->winner.schedule);
}

static void close_place(place *x) {
    if (x->t) kiln_tuning_close(x->t);
    x->t = NULL;
}

/* A problem is over: with its winner, or why it has none. What is wrong with it alone, operands that
 * the device has no room for among it, is no reason to leave the others; anything else is
 * returned. */
static int settle(portfolio *p, place *x, int status, const kiln_error *why, kiln_error *e) {
    kiln_session *s = p->s;
    bool alone = status == KILN_UNSUPPORTED || status == KILN_WRONG || status == KILN_DRIVER ||
                 status == KILN_TIMEOUT || status == KILN_COMPILE || status == KILN_NO_MEMORY;
    close_place(x);
    x->over = true;
    p->current = -1;
    if (kiln_interrupted) return status;
    if (status && !alone && e) *e = *why;
    if (status && !alone) return status;
    if (status && x->r->have_winner)
        kiln_progress_say(&s->progress,
                          "  no finals (%s): the best of the search stands, and the same command "
                          "tries them again",
                          why->text);
    else if (status)
        x->r->failure = keep(s, why->text);
    remember_result(s, x->r, status);
    remember_search(s, x->r);
    say_result(s, x->r, status);
    remember_time(s);
    return KILN_OK;
}

/* Searches are kept between visits while there is room: else those are forgotten that are likely to
 * be visited last; the store holds what they have learnt. */
static void keep_within_memory(portfolio *p) {
    int64_t most = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 8;
    for (;;) {
        int64_t held = 0;
        double worth = INFINITY;
        place *least = NULL;
        for (int i = 0; i < p->n; i++) {
            place *x = &p->place[i];
            if (!x->t) continue;
            held += kiln_tuning_bytes(x->t);
            double value = kiln_stake_value(&x->stake, false);
            if (i == p->current || (least && value >= worth)) continue;
            least = x;
            worth = value;
        }
        if (held <= most || !least) return;
        close_place(least);
    }
}

static int open_place(portfolio *p, place *x, kiln_error *e) {
    if (!x->t) x->t = kiln_tuning_open(p->s, x->r, e);
    return x->t ? KILN_OK : e->status;
}

static int visit(portfolio *p, place *x, const kiln_visit *v, kiln_error *e) {
    kiln_error why = {0};
    double begun = kiln_now();
    int status = open_place(p, x, &why);
    if (!status) status = kiln_tuning_visit(x->t, v, &why);
    if (kiln_interrupted) return status;
    if (status) return settle(p, x, status, &why, e);
    p->current = (int)(x - p->place);
    x->spent += kiln_now() - begun;
    x->stake = kiln_tuning_stake(x->t);
    x->odd_sizes = odd_sizes(x->r);
    x->stake.left = (1 - FINALS_SHARE) * x->share - x->spent;
    remember_time(p->s);
    say_visit(p, x);
    keep_within_memory(p);
    return KILN_OK;
}

static int finish(portfolio *p, place *x, kiln_error *e) {
    kiln_error why = {0};
    if (p->n > 1) say_head(p, x, ": finals");
    int status = open_place(p, x, &why);
    if (!status) status = kiln_tuning_finish(x->t, FINALS_SHARE * x->share + 2, &why);
    return settle(p, x, status, &why, e);
}

/* With less every problem still gets its starts and its finals, and that is told beforehand. */
static void say_short(const portfolio *p) {
    double left = p->s->end - kiln_now();
    int needed = p->n * SHARE_MIN;
    if (p->n > 1 && left < needed)
        kiln_progress_say(&p->s->progress,
                          "%d problems need about %d s, more than the %.0f s of the budget that "
                          "are left: each gets little more than its starts",
                          p->n, needed, fmax(left, 0));
}

/* Starts and a batch for everyone, within its even share, and once the budget is used up the starts
 * alone. One that is alone gets all of it. */
static int first_visits(portfolio *p, kiln_error *e) {
    int status = KILN_OK;
    double weight_left = 0;
    for (int i = 0; i < p->n; i++) weight_left += p->place[i].r->weight;
    for (int i = 0; i < p->n && !status && !kiln_interrupted; i++) {
        place *x = &p->place[i];
        double slice = time_left(p) * x->r->weight / weight_left;
        /* a resumed session past its budget still finishes each problem */
        if (slice < (1 - FINALS_MOST) * SHARE_MIN) slice = (1 - FINALS_MOST) * SHARE_MIN;
        kiln_visit v = {.least = slice,
                        .most = slice,
                        .first = p->n > 1,
                        .starts_only = kiln_now() >= p->s->end};
        weight_left -= x->r->weight;
        say_head(p, x, "");
        status = visit(p, x, &v, e);
    }
    return status;
}

static int choose(const portfolio *p, double *rival) {
    kiln_stake stake[KILN_PROBLEMS_MAX];
    for (int i = 0; i < p->n; i++) {
        stake[i] = p->place[i].stake;
        stake[i].finished |= p->place[i].over;
    }
    return kiln_portfolio_next(stake, p->n, p->current, rival);
}

/* Finals of what is finished, as soon as it is: what they leave of their time is for the others. */
static int finish_finished(portfolio *p, kiln_error *e) {
    int status = KILN_OK;
    for (int i = 0; i < p->n && !status && !kiln_interrupted; i++)
        if (!p->place[i].over && p->place[i].stake.finished) status = finish(p, &p->place[i], e);
    return status;
}

static void say_unused(portfolio *p, double left) {
    int nothing = 0;
    for (int i = 0; i < p->n; i++) nothing += !p->place[i].r->have_winner;
    if (left < 1) return;
    if (nothing)
        kiln_progress_say(&p->s->progress,
                          "%d of %d problems have nothing right, all others are finished: %.0f s "
                          "are not used",
                          nothing, p->n, left);
    else
        kiln_progress_say(&p->s->progress, "all problems are finished: %.0f s are not used", left);
}

/* Where time is worth most, until it is used up or everything is finished. */
static int further_visits(portfolio *p, kiln_error *e) {
    int status = finish_finished(p, e);
    while (!status && !kiln_interrupted) {
        double rival, left = time_left(p);
        int i = choose(p, &rival);
        if (i < 0) return say_unused(p, left), KILN_OK;
        place *x = &p->place[i];
        double setup = i == p->current ? 0 : x->stake.setup_seconds;
        double least = setup * SETUPS_OF_A_VISIT;
        if (left < setup + 1) break;
        if (least < VISIT_SECONDS) least = VISIT_SECONDS;
        if (!(x->stake.seconds > 0) && left > x->stake.left) left = x->stake.left;
        kiln_visit v = {.least = least, .most = left, .rival = rival};
        say_head(p, x, " goes on");
        status = visit(p, x, &v, e);
        if (!status) status = finish_finished(p, e);
    }
    return status;
}

static portfolio *open_portfolio(kiln_session *s) {
    portfolio *p = kiln_arena_alloc(&s->arena, sizeof *p);
    double weight = 0, seconds = s->end - kiln_now();
    if (!p) return NULL;
    *p = (portfolio){.s = s, .current = -1};
    for (int i = 0; i < s->n_results; i++)
        if (!s->result[i].finished) p->place[p->n++].r = &s->result[i];
    for (int i = 0; i < p->n; i++) weight += p->place[i].r->weight;
    for (int i = 0; i < p->n; i++) {
        place *x = &p->place[i];
        x->share = seconds * x->r->weight / weight;
        if (x->share < SHARE_MIN) x->share = SHARE_MIN;
    }
    return p;
}

static int run_portfolio(portfolio *p, kiln_error *e) {
    say_short(p);
    int status = first_visits(p, e);
    if (!status) status = further_visits(p, e);
    for (int i = 0; i < p->n && !status && !kiln_interrupted; i++)
        if (!p->place[i].over) status = finish(p, &p->place[i], e);
    for (int i = 0; i < p->n; i++) close_place(&p->place[i]);
    return status;
}

int kiln_session_run(kiln_session *s, kiln_error *e) {
    int unfinished = 0;
    s->start = s->noted = kiln_now();
    s->end = s->start + s->options.budget - s->spent;
    for (int i = 0; i < s->n_results; i++) {
        kiln_result *r = &s->result[i];
        recall_search(s, r);
        if (recall_result(s, r)) continue;
        recall_earlier(s, r);
        unfinished++;
    }
    if (unfinished) measure_copy(s);
    portfolio *p = open_portfolio(s);
    int status = p ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for a session");
    if (!status && unfinished) status = run_portfolio(p, e);
    remember_time(s);
    if (kiln_interrupted && !status) status = kiln_fail(e, KILN_INTERRUPTED, "interrupted");
    return kiln_interrupted ? KILN_INTERRUPTED : status;
}

/* ---- without tuning ---- */

/* Figures of different protocols are no match for each other: how near one is to the one in use. A
 * hot cache is farther from a cold one than an older protocol is. */
static int distance(const kiln_session *s, const char *protocol) {
    const char *own = kiln_record_protocol(s->options.hot);
    return !strcmp(protocol, own) ? 0 : strncmp(protocol, own, strcspn(own, "/") + 1) ? 2 : 1;
}

static bool better(const kiln_session *s, const kiln_record *a, const kiln_record *b) {
    int near = distance(s, b->protocol) - distance(s, a->protocol);
    int final = !strcmp(a->phase, "final") - !strcmp(b->phase, "final");
    return near ? near > 0 : final ? final > 0 : a->median < b->median;
}

/* The best record of any session: finals before searches. */
static int best_visit(void *context, int64_t id, const kiln_record *r) {
    recollection *c = context;
    kiln_result *best = c->r;
    (void)id;
    bool final = !strcmp(r->phase, "final"), search = !strcmp(r->phase, "search");
    if (search) best->trials++, best->failures[r->outcome]++;
    if (r->outcome != KILN_OUTCOME_OK || !(final || search) || r->median <= 0) return 0;
    if (best->have_winner && !better(c->s, r, &best->winner)) return 0;
    best->winner = keep_record(c->s, r);
    best->have_winner = true;
    return 0;
}

/* Of the protocol in use; of others only where it has measured nothing right. */
static int recall_best(kiln_session *s, kiln_result *r, kiln_error *e) {
    const char *protocol[] = {kiln_record_protocol(s->options.hot), NULL};
    recollection c = {.s = s, .r = r};
    int status = KILN_OK;
    for (int i = 0; i < 2 && !status && !r->have_winner; i++) {
        kiln_query q = {.problem = r->text, .device = s->identity, .protocol = protocol[i]};
        r->trials = 0;
        memset(r->failures, 0, sizeof r->failures);
        status = kiln_store_each(s->store, &q, best_visit, &c, e);
    }
    return status;
}

int kiln_session_recall(kiln_session *s, kiln_error *e) {
    int status = KILN_OK, found = 0;
    for (int i = 0; i < s->n_results && !status; i++) {
        kiln_result *r = &s->result[i];
        recall_search(s, r);
        if (!recall_result(s, r)) status = recall_best(s, r, e);
        found += r->have_winner;
    }
    if (!status && !found)
        status = kiln_fail(e, KILN_NOT_FOUND,
                           "the store holds no result of these problems on %s; "
                           "run tune first, with the same --suite and --out",
                           s->caps.name);
    return status;
}
