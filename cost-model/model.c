#include "cost-model/model.h"

#include "base/hash.h"

#include <xgboost/c_api.h>

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MEMBERS_MAX = 32,
    PATIENCE = 8,      /* rounds without gain on the held-out rows before training stops */
    STOP_ROWS_MIN = 8, /* fewer held-out rows say nothing about when to stop */
    BAG_ROWS_MIN = 5,
    HEADER_BYTES = 8 + 4 + 4 + 32 /* magic, version, 0, SHA-256 of all that follows */
};
static const char MAGIC[8] = "KILNMODL";
static const uint32_t VERSION = 1;

typedef struct booster {
    BoosterHandle handle; /* NULL: the constant alone */
    int rounds;           /* trees to use; early stopping leaves some behind the best */
    double constant;      /* added to what the trees say */
} booster;

struct kiln_model {
    int n_features, members; /* members 0: no row had a time */
    booster member[MEMBERS_MAX];
    booster validity; /* without a handle: constant is the probability itself */
    double rank_correlation, recall;
};

static int xgboost_failed(kiln_error *e, const char *doing) {
    /* The library's message is a stack trace: its first line is the one for people. */
    char line[240];
    snprintf(line, sizeof line, "%s", XGBGetLastError());
    line[strcspn(line, "\n")] = 0;
    return kiln_fail(e, KILN_CORRUPT, "cost model: XGBoost failed while %s: %s", doing, line);
}

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "cost model: out of memory; free some and run again");
}

/* ---------------------------------------------------------------- prediction */

static int booster_predict(const booster *b, const float *rows, int64_t n, int n_features,
                           const float **out, kiln_error *e) {
    char data[160], config[200];
    snprintf(data, sizeof data,
             "{\"data\":[%zu,true],\"shape\":[%lld,%d],\"typestr\":\"<f4\",\"version\":3}",
             (size_t)rows, (long long)n, n_features);
    /* Without "cache_id" 1.7 fails with a cast error. */
    snprintf(config, sizeof config,
             "{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":%d,"
             "\"strict_shape\":false,\"cache_id\":0,\"missing\":NaN}",
             b->rounds);
    const bst_ulong *shape;
    bst_ulong dim;
    if (XGBoosterPredictFromDense(b->handle, data, config, NULL, &shape, &dim, out))
        return xgboost_failed(e, "predicting");
    return 0;
}

static int predict_members(const kiln_model *m, const float *rows, int64_t n, double *mean,
                           double *spread, kiln_error *e) {
    for (int64_t i = 0; i < n; i++) {
        mean[i] = m->members ? 0 : NAN;
        if (spread) spread[i] = 0;
    }
    for (int k = 0; k < m->members; k++) {
        const booster *b = &m->member[k];
        const float *out = NULL;
        if (b->handle && booster_predict(b, rows, n, m->n_features, &out, e)) return e ? e->status : -1;
        for (int64_t i = 0; i < n; i++) { /* Welford's running mean and variance */
            double value = b->constant + (out ? out[i] : 0), old = mean[i];
            mean[i] += (value - old) / (k + 1);
            if (spread) spread[i] += (value - old) * (value - mean[i]);
        }
    }
    for (int64_t i = 0; spread && i < n; i++) {
        if (!m->members) spread[i] = NAN;
        else spread[i] = m->members > 1 ? sqrt(fmax(spread[i], 0) / (m->members - 1)) : 0;
    }
    return 0;
}

static int predict_validity(const kiln_model *m, const float *rows, int64_t n, double *valid,
                            kiln_error *e) {
    const float *out = NULL;
    const booster *b = &m->validity;
    int status = b->handle ? booster_predict(b, rows, n, m->n_features, &out, e) : 0;
    for (int64_t i = 0; !status && i < n; i++) valid[i] = out ? out[i] : b->constant;
    return status;
}

/* XGBoost refuses infinity with a stack trace and takes NaN as missing: ours names the place. */
static int check_rows(const float *rows, int64_t n, int n_features, kiln_error *e) {
    for (int64_t i = 0; i < n * n_features; i++)
        if (isinf(rows[i]))
            return kiln_fail(e, KILN_BAD_INPUT,
                             "cost model: feature %d of row %lld is infinite; give NaN for a "
                             "value that is missing",
                             (int)(i % n_features), (long long)(i / n_features));
    return 0;
}

int kiln_model_predict(kiln_model *m, const float *rows, int64_t n, double *mean, double *spread,
                       double *valid, kiln_error *e) {
    int status = check_rows(rows, n, m->n_features, e);
    if (status || n <= 0) return status;
    if (mean) status = predict_members(m, rows, n, mean, spread, e);
    if (!status && valid) status = predict_validity(m, rows, n, valid, e);
    return status;
}

int kiln_model_predict_member(kiln_model *m, int member, const float *rows, int64_t n, double *out,
                              kiln_error *e) {
    assert(member >= 0);
    int status = check_rows(rows, n, m->n_features, e);
    if (status || n <= 0) return status;
    const booster *b = m->members ? &m->member[member % m->members] : NULL;
    const float *sum = NULL;
    if (b && b->handle) status = booster_predict(b, rows, n, m->n_features, &sum, e);
    for (int64_t i = 0; !status && i < n; i++)
        out[i] = !b ? NAN : b->constant + (sum ? sum[i] : 0);
    return status;
}

/* ---------------------------------------------------------------- training */

/* What training works on: the rows of one booster, copied together. */
typedef struct table {
    float *rows, *label;
    int64_t n;
} table;

typedef struct trainer {
    const float *rows;
    const double *seconds;
    int n_features;
    kiln_model_options o;
    int64_t n_ok;
    int64_t *ok;      /* rows with a time */
    double *target;   /* per ok row: log of the clipped seconds */
    int64_t *order;   /* per ok row: this member's shuffle; the last `left_out` are not seen */
    int64_t left_out; /* per member */
    bool stop_early;
    double *unseen; /* per ok row: sum of predictions by members that did not see it */
    int *votes;     /* how many these are */
} trainer;

static int table_make(table *t, const trainer *tr, const int64_t *index, int64_t n, kiln_error *e) {
    *t = (table){.n = n};
    if (n == 0) return 0;
    t->rows = malloc(sizeof *t->rows * (size_t)n * (size_t)tr->n_features);
    t->label = malloc(sizeof *t->label * (size_t)n);
    if (!t->rows || !t->label) return no_memory(e);
    for (int64_t i = 0; i < n; i++)
        memcpy(t->rows + i * tr->n_features, tr->rows + index[i] * tr->n_features,
               sizeof *t->rows * (size_t)tr->n_features);
    return 0;
}

static void table_free(table *t) {
    free(t->rows);
    free(t->label);
}

static int table_matrix(const table *t, int n_features, DMatrixHandle *out, kiln_error *e) {
    if (t->n == 0) return 0;
    if (XGDMatrixCreateFromMat_omp(t->rows, (bst_ulong)t->n, (bst_ulong)n_features, NAN, out, 1) ||
        XGDMatrixSetFloatInfo(*out, "label", t->label, (bst_ulong)t->n))
        return xgboost_failed(e, "reading training rows");
    return 0;
}

static int set_parameters(BoosterHandle b, const kiln_model_options *o, bool logistic,
                          uint64_t seed, kiln_error *e) {
    char depth[16], eta[32], seed_text[16];
    snprintf(depth, sizeof depth, "%d", o->depth);
    snprintf(eta, sizeof eta, "%.6g", o->eta);
    snprintf(seed_text, sizeof seed_text, "%u", (unsigned)(seed & 0x7fffffff));
    const char *const set[][2] = {
        {"booster", "gbtree"},
        /* Exact splits: with hundreds of rows several times faster than histograms. */
        {"tree_method", "exact"},
        {"nthread", "1"},
        {"verbosity", "0"},
        {"objective", logistic ? "binary:logistic" : "reg:squarederror"},
        {"eval_metric", logistic ? "logloss" : "rmse"},
        {"base_score", logistic ? "0.5" : "0"},
        {"max_depth", depth},
        {"eta", eta},
        {"seed", seed_text},
    };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (XGBoosterSetParam(b, set[i][0], set[i][1])) return xgboost_failed(e, "setting up");
    return 0;
}

/* The booster's loss on `matrix`; its text is "[round]\tname-metric:value". */
static int held_out_loss(BoosterHandle b, int round, DMatrixHandle matrix, double *loss,
                         kiln_error *e) {
    const char *name = "held", *text = NULL;
    if (XGBoosterEvalOneIter(b, round, &matrix, &name, 1, &text))
        return xgboost_failed(e, "evaluating held-out rows");
    const char *colon = strrchr(text, ':');
    *loss = colon ? strtod(colon + 1, NULL) : NAN;
    return 0;
}

static int boost(booster *b, const trainer *t, DMatrixHandle train, DMatrixHandle held,
                 kiln_error *e) {
    double best = INFINITY, loss = 0;
    for (int round = 0; round < t->o.rounds; round++) {
        if (XGBoosterUpdateOneIter(b->handle, round, train)) return xgboost_failed(e, "training");
        if (!held) {
            b->rounds = round + 1;
            continue;
        }
        int status = held_out_loss(b->handle, round, held, &loss, e);
        if (status) return status;
        if (loss < best) {
            best = loss;
            b->rounds = round + 1;
        } else if (round + 1 - b->rounds >= PATIENCE) break;
    }
    return 0;
}

/* Fits one booster on `train`, stopping by `held` when that has rows. */
static int fit(booster *b, const trainer *t, const table *train, const table *held, bool logistic,
               uint64_t seed, kiln_error *e) {
    DMatrixHandle matrix = NULL, held_matrix = NULL;
    int status = table_matrix(train, t->n_features, &matrix, e);
    if (!status) status = table_matrix(held, t->n_features, &held_matrix, e);
    if (!status && XGBoosterCreate(&matrix, 1, &b->handle)) status = xgboost_failed(e, "starting");
    if (!status) status = set_parameters(b->handle, &t->o, logistic, seed, e);
    if (!status) status = boost(b, t, matrix, held_matrix, e);
    if (matrix) XGDMatrixFree(matrix);
    if (held_matrix) XGDMatrixFree(held_matrix);
    return status;
}

static void shuffle(int64_t *a, int64_t n, uint64_t seed) {
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)(kiln_random64(seed, (uint64_t)i) % (uint64_t)(i + 1)), x = a[i];
        a[i] = a[j];
        a[j] = x;
    }
}

/* Label of ok row i relative to the member's constant. */
static void label_times(table *t, const trainer *tr, const int64_t *order, double constant) {
    for (int64_t i = 0; i < t->n; i++) t->label[i] = (float)(tr->target[order[i]] - constant);
}

static int vote(const booster *b, const trainer *t, const table *held, const int64_t *order,
                kiln_error *e) {
    if (!held->n) return 0;
    const float *out = NULL;
    int status = booster_predict(b, held->rows, held->n, t->n_features, &out, e);
    for (int64_t i = 0; !status && i < held->n; i++) {
        t->unseen[order[i]] += b->constant + out[i];
        t->votes[order[i]]++;
    }
    return status;
}

static int gather(table *t, const trainer *tr, const int64_t *order, int64_t n, kiln_error *e) {
    int64_t *index = malloc(sizeof *index * (size_t)(n + 1));
    if (!index) return no_memory(e);
    for (int64_t i = 0; i < n; i++) index[i] = tr->ok[order[i]];
    int status = table_make(t, tr, index, n, e);
    free(index);
    return status;
}

static int train_member(kiln_model *m, trainer *t, int member, kiln_error *e) {
    booster *b = &m->member[member];
    uint64_t seed = kiln_random64(t->o.seed, (uint64_t)member + 1);
    table train = {0}, held = {0}, none = {0};
    for (int64_t i = 0; i < t->n_ok; i++) t->order[i] = i;
    shuffle(t->order, t->n_ok, seed);
    int64_t n = t->n_ok - t->left_out;
    for (int64_t i = 0; i < n; i++) b->constant += t->target[t->order[i]] / (double)n;
    int status = gather(&train, t, t->order, n, e);
    if (!status) status = gather(&held, t, t->order + n, t->left_out, e);
    if (!status) {
        label_times(&train, t, t->order, b->constant);
        label_times(&held, t, t->order + n, b->constant);
        status = fit(b, t, &train, t->stop_early ? &held : &none, false, seed, e);
    }
    if (!status) status = vote(b, t, &held, t->order + n, e);
    table_free(&train);
    table_free(&held);
    return status;
}

/* A logistic booster only where both outcomes were seen; otherwise a constant says it all. */
static int train_validity(kiln_model *m, const trainer *t, int64_t n, kiln_error *e) {
    m->validity.constant = t->n_ok == n ? 1 : 1 / ((double)n + 2);
    if (t->n_ok == n || t->n_ok == 0) return 0;
    table all = {0}, none = {0};
    int64_t *index = malloc(sizeof *index * (size_t)n);
    if (!index) return no_memory(e);
    for (int64_t i = 0; i < n; i++) index[i] = i;
    int status = table_make(&all, t, index, n, e);
    free(index);
    for (int64_t i = 0; !status && i < n; i++) all.label[i] = !isnan(t->seconds[i]);
    if (!status) status = fit(&m->validity, t, &all, &none, true, t->o.seed, e);
    table_free(&all);
    return status;
}

/* ---------------------------------------------------------------- quality */

typedef struct ranked {
    double value;
    int64_t index;
} ranked;

static int by_value(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* rank[i] of values[i], ties at their mean; scratch has n entries. */
static void rank_values(const double *values, int64_t n, ranked *scratch, double *rank) {
    for (int64_t i = 0; i < n; i++) scratch[i] = (ranked){values[i], i};
    qsort(scratch, (size_t)n, sizeof *scratch, by_value);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && scratch[j].value == scratch[i].value;) j++;
        for (int64_t k = i; k < j; k++) rank[scratch[k].index] = 0.5 * (double)(i + j - 1);
    }
}

double kiln_rank_correlation(const double *a, const double *b, int64_t n) {
    if (n < 2) return NAN;
    ranked *scratch = malloc(sizeof *scratch * (size_t)n);
    double *ra = malloc(sizeof *ra * (size_t)n), *rb = malloc(sizeof *rb * (size_t)n);
    double aa = 0, bb = 0, ab = 0, mid = 0.5 * (double)(n - 1);
    if (scratch && ra && rb) {
        rank_values(a, n, scratch, ra);
        rank_values(b, n, scratch, rb);
        for (int64_t i = 0; i < n; i++) {
            aa += (ra[i] - mid) * (ra[i] - mid);
            bb += (rb[i] - mid) * (rb[i] - mid);
            ab += (ra[i] - mid) * (rb[i] - mid);
        }
    }
    free(scratch);
    free(ra);
    free(rb);
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

/* Share of the truly best tenth that is in the predicted best tenth. */
static double recall_of_best(const double *truth, const double *guess, int64_t n) {
    int64_t top = n / 10, both = 0;
    if (top < 1) return NAN;
    ranked *t = malloc(sizeof *t * (size_t)n), *g = malloc(sizeof *g * (size_t)n);
    if (t && g) {
        for (int64_t i = 0; i < n; i++) t[i] = (ranked){truth[i], i}, g[i] = (ranked){guess[i], i};
        qsort(t, (size_t)n, sizeof *t, by_value);
        qsort(g, (size_t)n, sizeof *g, by_value);
        for (int64_t i = 0; i < top; i++)
            for (int64_t j = 0; j < top; j++) both += t[i].index == g[j].index;
    }
    free(t);
    free(g);
    return (double)both / (double)top;
}

static void judge(kiln_model *m, trainer *t) {
    int64_t n = 0;
    for (int64_t i = 0; i < t->n_ok; i++)
        if (t->votes[i]) {
            t->unseen[n] = t->unseen[i] / t->votes[i];
            t->target[n++] = t->target[i];
        }
    m->rank_correlation = kiln_rank_correlation(t->unseen, t->target, n);
    m->recall = recall_of_best(t->target, t->unseen, n);
}

/* ---------------------------------------------------------------- the whole */

static kiln_model_options with_defaults(const kiln_model_options *given) {
    kiln_model_options o = given ? *given : (kiln_model_options){0};
    if (o.depth <= 0) o.depth = 4;
    if (o.rounds <= 0) o.rounds = 60;
    if (!(o.eta > 0)) o.eta = 0.3;
    if (o.members <= 0) o.members = 1;
    if (o.members > MEMBERS_MAX) o.members = MEMBERS_MAX;
    return o;
}

static int check_seconds(const double *seconds, int64_t n, kiln_error *e) {
    for (int64_t i = 0; i < n; i++)
        if (seconds[i] <= 0 || isinf(seconds[i]))
            return kiln_fail(e, KILN_BAD_INPUT,
                             "cost model: row %lld has the time %g; give positive seconds, or NaN "
                             "for a failed trial",
                             (long long)i, seconds[i]);
    return 0;
}

static void choose_targets(trainer *t, int64_t n) {
    double best = INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(t->seconds[i])) {
            t->ok[t->n_ok++] = i;
            best = fmin(best, t->seconds[i]);
        }
    double limit = t->o.clip > 1 ? best * t->o.clip : INFINITY;
    for (int64_t i = 0; i < t->n_ok; i++) t->target[i] = log(fmin(t->seconds[t->ok[i]], limit));
}

static void choose_left_out(trainer *t) {
    double share = t->o.held_out > 0 ? fmin(t->o.held_out, 0.5) : 0;
    if (t->o.held_out == 0 && t->n_ok >= 40) share = 0.2;
    t->stop_early = (double)t->n_ok * share >= STOP_ROWS_MIN;
    /* Members differ by the rows they do not see, early stopping or not. */
    if (share == 0 && t->o.members > 1 && t->n_ok >= BAG_ROWS_MIN) share = 0.2;
    t->left_out = (int64_t)((double)t->n_ok * share);
}

static int train_all(kiln_model *m, trainer *t, int64_t n, kiln_error *e) {
    size_t bytes = sizeof(double) * (size_t)(n + 1);
    t->ok = calloc(1, bytes), t->target = calloc(1, bytes), t->order = calloc(1, bytes);
    t->unseen = calloc(1, bytes), t->votes = calloc(1, bytes);
    if (!t->ok || !t->target || !t->order || !t->unseen || !t->votes) return no_memory(e);
    choose_targets(t, n);
    choose_left_out(t);
    m->members = t->n_ok ? t->o.members : 0;
    int status = 0;
    for (int k = 0; !status && k < m->members; k++) status = train_member(m, t, k, e);
    if (!status) status = train_validity(m, t, n, e);
    if (!status) judge(m, t);
    return status;
}

kiln_model *kiln_model_train(const float *rows, const double *seconds, int64_t n, int n_features,
                             const kiln_model_options *o, kiln_error *e) {
    if (n <= 0 || n_features <= 0) {
        kiln_fail(e, KILN_BAD_INPUT,
                  "cost model: %lld rows of %d features teach nothing; give at least one of each",
                  (long long)n, n_features);
        return NULL;
    }
    if (check_rows(rows, n, n_features, e) || check_seconds(seconds, n, e)) return NULL;
    kiln_model *m = calloc(1, sizeof *m);
    if (!m) return no_memory(e), NULL;
    m->n_features = n_features;
    m->rank_correlation = m->recall = NAN;
    trainer t = {.rows = rows, .seconds = seconds, .n_features = n_features, .o = with_defaults(o)};
    int status = train_all(m, &t, n, e);
    free(t.ok), free(t.target), free(t.order), free(t.unseen), free(t.votes);
    if (!status) return m;
    kiln_model_free(m);
    return NULL;
}

void kiln_model_free(kiln_model *m) {
    if (!m) return;
    for (int k = 0; k < m->members; k++)
        if (m->member[k].handle) XGBoosterFree(m->member[k].handle);
    if (m->validity.handle) XGBoosterFree(m->validity.handle);
    free(m);
}

void kiln_model_quality(const kiln_model *m, double *rank_correlation, double *recall) {
    if (rank_correlation) *rank_correlation = m->rank_correlation;
    if (recall) *recall = m->recall;
}

int kiln_model_features(const kiln_model *m) { return m->n_features; }

/* ---------------------------------------------------------------- bytes
 * header, then: i32 features, i32 members, f64 rank correlation, f64 recall, then the members and
 * the validity booster, each: f64 constant, i32 rounds, i32 0, u64 size, the booster as UBJSON.
 * Numbers are little-endian, as on every machine that Kiln runs on. */

typedef struct writer {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
} writer;

static void put(writer *w, const void *data, size_t n) {
    if (w->failed) return;
    if (w->size + n > w->capacity) {
        size_t capacity = 2 * (w->size + n);
        void *grown = realloc(w->data, capacity);
        if (!grown) {
            w->failed = true;
            return;
        }
        w->data = grown;
        w->capacity = capacity;
    }
    if (n) memcpy(w->data + w->size, data, n);
    w->size += n;
}

static int put_booster(writer *w, const booster *b, kiln_error *e) {
    bst_ulong size = 0;
    const char *bytes = NULL;
    if (b->handle && XGBoosterSaveModelToBuffer(b->handle, "{\"format\":\"ubj\"}", &size, &bytes))
        return xgboost_failed(e, "saving");
    int32_t rounds[2] = {b->rounds, 0};
    uint64_t size64 = size;
    put(w, &b->constant, sizeof b->constant);
    put(w, rounds, sizeof rounds);
    put(w, &size64, sizeof size64);
    put(w, bytes, size);
    return 0;
}

int kiln_model_save(kiln_model *m, void **bytes, size_t *size, kiln_error *e) {
    writer w = {0};
    uint8_t header[HEADER_BYTES] = {0};
    int32_t counts[2] = {m->n_features, m->members};
    int status = 0;
    put(&w, header, sizeof header);
    put(&w, counts, sizeof counts);
    put(&w, &m->rank_correlation, sizeof(double));
    put(&w, &m->recall, sizeof(double));
    for (int k = 0; !status && k < m->members; k++) status = put_booster(&w, &m->member[k], e);
    if (!status) status = put_booster(&w, &m->validity, e);
    if (!status && w.failed) status = no_memory(e);
    if (status) return free(w.data), status;
    memcpy(w.data, MAGIC, 8);
    memcpy(w.data + 8, &VERSION, 4);
    kiln_sha256_of(w.data + HEADER_BYTES, w.size - HEADER_BYTES, w.data + 16);
    *bytes = w.data;
    *size = w.size;
    return 0;
}

typedef struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
} reader;

static void get(reader *r, void *out, size_t n) {
    r->failed = r->failed || n > r->left;
    if (r->failed) {
        memset(out, 0, n);
        return;
    }
    memcpy(out, r->at, n);
    r->at += n;
    r->left -= n;
}

static int get_booster(reader *r, booster *b, kiln_error *e) {
    int32_t rounds[2];
    uint64_t size;
    get(r, &b->constant, sizeof b->constant);
    get(r, rounds, sizeof rounds);
    get(r, &size, sizeof size);
    b->rounds = rounds[0];
    if (r->failed || size > r->left)
        return kiln_fail(e, KILN_CORRUPT, "cost model: the file ends early; train it again");
    if (size == 0) return 0;
    if (XGBoosterCreate(NULL, 0, &b->handle) || XGBoosterSetParam(b->handle, "nthread", "1") ||
        XGBoosterSetParam(b->handle, "verbosity", "0") ||
        XGBoosterLoadModelFromBuffer(b->handle, r->at, size))
        return xgboost_failed(e, "loading");
    r->at += size;
    r->left -= size;
    return 0;
}

static int check_header(const uint8_t *bytes, size_t size, kiln_error *e) {
    uint8_t digest[32];
    uint32_t version, zero;
    if (size < HEADER_BYTES || memcmp(bytes, MAGIC, 8))
        return kiln_fail(e, KILN_CORRUPT,
                         "cost model: these %zu bytes are no model file; train it again", size);
    memcpy(&version, bytes + 8, 4);
    memcpy(&zero, bytes + 12, 4);
    if (version != VERSION || zero)
        return kiln_fail(e, KILN_VERSION,
                         "cost model: file version %u, this program reads %u; train it again",
                         version, VERSION);
    kiln_sha256_of(bytes + HEADER_BYTES, size - HEADER_BYTES, digest);
    if (memcmp(digest, bytes + 16, 32))
        return kiln_fail(e, KILN_CORRUPT,
                         "cost model: the file's SHA-256 does not fit its contents, it was cut "
                         "or changed; train it again");
    return 0;
}

static int read_model(kiln_model *m, reader *r, kiln_error *e) {
    int32_t counts[2];
    get(r, counts, sizeof counts);
    get(r, &m->rank_correlation, sizeof(double));
    get(r, &m->recall, sizeof(double));
    if (r->failed || counts[0] <= 0 || counts[1] < 0 || counts[1] > MEMBERS_MAX)
        return kiln_fail(e, KILN_CORRUPT, "cost model: impossible counts; train it again");
    m->n_features = counts[0];
    m->members = counts[1];
    int status = 0;
    for (int k = 0; !status && k < m->members; k++) status = get_booster(r, &m->member[k], e);
    return status ? status : get_booster(r, &m->validity, e);
}

kiln_model *kiln_model_load(const void *bytes, size_t size, kiln_error *e) {
    if (check_header(bytes, size, e)) return NULL;
    kiln_model *m = calloc(1, sizeof *m);
    if (!m) return no_memory(e), NULL;
    reader r = {(const uint8_t *)bytes + HEADER_BYTES, size - HEADER_BYTES, false};
    if (!read_model(m, &r, e)) return m;
    kiln_model_free(m);
    return NULL;
}
