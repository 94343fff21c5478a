#include "cost-model/forest.h"

#include "base/arena.h"
#include "base/hash.h"

#include <jansson.h>
#include <xgboost/c_api.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEATURES_MAX = 4096, TREES_MAX = 4096, NODES_MAX = 1 << 16, NAME_MAX_BYTES = 200 };

/* Nodes of all trees in one array; children are relative to the tree's root. */
typedef struct node {
    int32_t feature; /* -1: a leaf */
    float value;     /* threshold, or what the leaf adds */
    int32_t yes, no, missing;
} node;

struct kiln_forest {
    kiln_arena arena;
    const char *name;
    int n_features, n_trees;
    const char **feature;
    int64_t *root; /* n_trees + 1: where trees begin, and the end */
    node *nodes;
    int64_t n_nodes, capacity;
};

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "model: out of memory; free some and run again");
}

static kiln_forest *new_forest(const char *name, int n_features, int n_trees) {
    kiln_forest *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->n_features = n_features;
    f->n_trees = n_trees;
    f->name = kiln_arena_strdup(&f->arena, name);
    f->feature = kiln_arena_alloc(&f->arena, (size_t)(n_features + 1) * sizeof *f->feature);
    f->root = kiln_arena_alloc(&f->arena, (size_t)(n_trees + 1) * sizeof *f->root);
    if (f->name && f->feature && f->root) return f;
    kiln_forest_free(f);
    return NULL;
}

void kiln_forest_free(kiln_forest *f) {
    if (!f) return;
    free(f->nodes);
    kiln_arena_free(&f->arena);
    free(f);
}

const char *kiln_forest_name(const kiln_forest *f) { return f->name; }
int kiln_forest_features(const kiln_forest *f) { return f->n_features; }
const char *kiln_forest_feature(const kiln_forest *f, int i) { return f->feature[i]; }

double kiln_forest_predict(const kiln_forest *f, const float *row) {
    double sum = 0;
    for (int t = 0; t < f->n_trees; t++) {
        const node *tree = f->nodes + f->root[t], *x = tree;
        while (x->feature >= 0) {
            float v = row[x->feature];
            x = tree + (isnan(v) ? x->missing : v < x->value ? x->yes : x->no);
        }
        sum += x->value;
    }
    return sum;
}

/* n more nodes at the end of the array; NULL: no memory. */
static node *add_nodes(kiln_forest *f, int64_t n) {
    if (f->n_nodes + n > f->capacity) {
        int64_t capacity = 2 * (f->n_nodes + n);
        node *grown = realloc(f->nodes, (size_t)capacity * sizeof *grown);
        if (!grown) return NULL;
        f->nodes = grown;
        f->capacity = capacity;
    }
    f->n_nodes += n;
    return f->nodes + f->n_nodes - n;
}

/* ---------------------------------------------------------------- training */

static int xgboost_failed(kiln_error *e, const char *doing) {
    char line[240];
    snprintf(line, sizeof line, "%s", XGBGetLastError());
    line[strcspn(line, "\n")] = 0;
    return kiln_fail(e, KILN_CORRUPT, "model: XGBoost failed while %s: %s", doing, line);
}

static int set_parameters(BoosterHandle b, const kiln_forest_options *o, kiln_error *e) {
    char depth[16], eta[32], seed[16];
    snprintf(depth, sizeof depth, "%d", o->depth > 0 ? o->depth : 6);
    snprintf(eta, sizeof eta, "%.6g", o->eta > 0 ? o->eta : 0.1);
    snprintf(seed, sizeof seed, "%u", (unsigned)(o->seed & 0x7fffffff));
    const char *const set[][2] = {
        {"booster", "gbtree"},
        {"tree_method", "hist"},
        {"nthread", "1"},
        {"verbosity", "0"},
        {"base_score", "0"},
        {"objective", "reg:squarederror"},
        {"max_depth", depth},
        {"eta", eta},
        {"seed", seed},
        /* Trees that see part of the rows and features each carry over better to new problems. */
        {"subsample", "0.7"},
        {"colsample_bytree", "0.5"},
    };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (XGBoosterSetParam(b, set[i][0], set[i][1])) return xgboost_failed(e, "setting up");
    return 0;
}

/* Numbers nodes in the order of their ids, which XGBoost gives from the root on. */
static int take_node(kiln_forest *f, json_t *j, int64_t root, kiln_error *e) {
    int64_t at = root + json_integer_value(json_object_get(j, "nodeid"));
    json_t *leaf = json_object_get(j, "leaf"), *child;
    const char *split = json_string_value(json_object_get(j, "split"));
    size_t i;
    while (f->n_nodes <= at)
        if (!add_nodes(f, 1)) return no_memory(e);
    if (leaf) return f->nodes[at] = (node){-1, (float)json_number_value(leaf), 0, 0, 0}, 0;
    if (!split || split[0] != 'f')
        return kiln_fail(e, KILN_CORRUPT, "model: XGBoost describes its trees in an unknown way");
    f->nodes[at] = (node){.feature = atoi(split + 1),
                          .value = (float)json_number_value(json_object_get(j, "split_condition")),
                          .yes = (int32_t)json_integer_value(json_object_get(j, "yes")),
                          .no = (int32_t)json_integer_value(json_object_get(j, "no")),
                          .missing = (int32_t)json_integer_value(json_object_get(j, "missing"))};
    int status = 0;
    json_array_foreach(json_object_get(j, "children"), i, child) {
        if (!status) status = take_node(f, child, root, e);
    }
    return status;
}

static int take_trees(kiln_forest *f, const char **dumped, kiln_error *e) {
    int status = 0;
    for (int t = 0; t < f->n_trees && !status; t++) {
        json_t *tree = json_loads(dumped[t], 0, NULL);
        f->root[t] = f->n_nodes;
        status = tree ? take_node(f, tree, f->n_nodes, e)
                      : kiln_fail(e, KILN_CORRUPT, "model: XGBoost wrote a tree that is no JSON");
        json_decref(tree);
    }
    f->root[f->n_trees] = f->n_nodes;
    return status;
}

static int boost(BoosterHandle b, DMatrixHandle rows, const kiln_forest_options *o, kiln_error *e) {
    int rounds = o->rounds > 0 ? o->rounds : 200;
    int status = set_parameters(b, o, e);
    for (int i = 0; i < rounds && !status; i++)
        if (XGBoosterUpdateOneIter(b, i, rows)) status = xgboost_failed(e, "training");
    return status;
}

static kiln_forest *grow(const char *name, const char *const *features, int n_features,
                         DMatrixHandle rows, const kiln_forest_options *o, kiln_error *e) {
    BoosterHandle b = NULL;
    bst_ulong n_trees = 0;
    const char **dumped = NULL;
    kiln_forest *f = NULL;
    int status = XGBoosterCreate(&rows, 1, &b) ? xgboost_failed(e, "starting") : 0;
    if (!status) status = boost(b, rows, o, e);
    if (!status && XGBoosterDumpModelEx(b, "", 0, "json", &n_trees, &dumped))
        status = xgboost_failed(e, "describing its trees");
    if (!status && !(f = new_forest(name, n_features, (int)n_trees))) status = no_memory(e);
    for (int i = 0; f && i < n_features; i++)
        f->feature[i] = kiln_arena_strdup(&f->arena, features[i]);
    if (!status) status = take_trees(f, dumped, e);
    if (b) XGBoosterFree(b);
    if (!status) return f;
    kiln_forest_free(f);
    return NULL;
}

static int fill(DMatrixHandle m, const double *target, const double *weight, int64_t n,
                kiln_error *e) {
    float *x = malloc(((size_t)n + 1) * sizeof *x);
    if (!x) return no_memory(e);
    int status = 0;
    for (int64_t i = 0; i < n; i++) x[i] = (float)target[i];
    if (XGDMatrixSetFloatInfo(m, "label", x, (bst_ulong)n)) status = xgboost_failed(e, "reading");
    for (int64_t i = 0; i < n; i++) x[i] = weight ? (float)weight[i] : 1;
    if (XGDMatrixSetFloatInfo(m, "weight", x, (bst_ulong)n)) status = xgboost_failed(e, "reading");
    free(x);
    return status;
}

kiln_forest *kiln_forest_train(const char *name, const char *const *features, int n_features,
                               const float *rows, const double *target, const double *weight,
                               int64_t n, const kiln_forest_options *o, kiln_error *e) {
    static const kiln_forest_options usual = {0};
    DMatrixHandle m = NULL;
    kiln_forest *f = NULL;
    if (n <= 0 || n_features <= 0 || n_features > FEATURES_MAX) {
        kiln_fail(e, KILN_BAD_INPUT,
                  "model %s: %lld rows of %d features; give at least a row, and 1 to %d features",
                  name, (long long)n, n_features, FEATURES_MAX);
        return NULL;
    }
    if (XGDMatrixCreateFromMat_omp(rows, (bst_ulong)n, (bst_ulong)n_features, NAN, &m, 1))
        return xgboost_failed(e, "reading rows"), NULL;
    if (!fill(m, target, weight, n, e)) f = grow(name, features, n_features, m, o ? o : &usual, e);
    XGDMatrixFree(m);
    return f;
}

/* ---------------------------------------------------------------- text */

static const char FIRST_LINE[] = "kiln-forest 1\n";

static void print_forest(const kiln_forest *f, kiln_text *out) {
    kiln_text_printf(out, "forest %s features %d trees %d\n", f->name, f->n_features, f->n_trees);
    for (int i = 0; i < f->n_features; i++) kiln_text_printf(out, "feature %s\n", f->feature[i]);
    for (int t = 0; t < f->n_trees; t++) {
        kiln_text_printf(out, "tree %lld\n", (long long)(f->root[t + 1] - f->root[t]));
        for (int64_t i = f->root[t]; i < f->root[t + 1]; i++) {
            const node *x = &f->nodes[i];
            if (x->feature < 0)
                kiln_text_printf(out, "= %.9g\n", x->value);
            else
                kiln_text_printf(out, "%d %.9g %d %d %d\n", x->feature, x->value, x->yes, x->no,
                                 x->missing);
        }
    }
}

static void print_about(const char *about, kiln_text *out) {
    while (about && *about) {
        int n = (int)strcspn(about, "\n");
        kiln_text_printf(out, "about %.*s\n", n, about);
        about += n + (about[n] == '\n');
    }
}

void kiln_forest_print(const kiln_forest *const *all, int n, const char *about, kiln_text *out) {
    kiln_text body = {0};
    uint8_t digest[32];
    char hex[65];
    print_about(about, &body);
    for (int i = 0; i < n; i++) print_forest(all[i], &body);
    kiln_sha256_of(kiln_text_get(&body), body.size, digest);
    kiln_hex(digest, 32, hex);
    kiln_text_printf(out, "%ssha256 %s\n", FIRST_LINE, hex);
    kiln_text_add(out, kiln_text_get(&body));
    out->failed |= body.failed;
    kiln_text_free(&body);
}

typedef struct reader {
    const char *at;
    int64_t line;
    kiln_error *e;
} reader;

static int broken(reader *r, const char *what) {
    return kiln_fail(r->e, KILN_CORRUPT, "model, line %lld: %s; make model writes it anew",
                     (long long)r->line, what);
}

/* The next line without its end in `line`; false at the end of the text. */
static bool next_line(reader *r, char *line, size_t room) {
    size_t n = strcspn(r->at, "\n");
    if (!*r->at) return false;
    snprintf(line, room, "%.*s", (int)(n < room ? n : room - 1), r->at);
    r->at += n + (r->at[n] == '\n');
    r->line++;
    return true;
}

static bool parse_node(const char *line, int n_features, int at, int n, node *out) {
    int used = 0;
    *out = (node){.feature = -1};
    if (sscanf(line, "= %f%n", &out->value, &used) == 1) return !line[used] && isfinite(out->value);
    if (sscanf(line, "%d %f %d %d %d%n", &out->feature, &out->value, &out->yes, &out->no,
               &out->missing, &used) != 5 ||
        line[used])
        return false;
    if (out->feature < 0 || out->feature >= n_features || isnan(out->value)) return false;
    const int32_t next[] = {out->yes, out->no, out->missing};
    for (int i = 0; i < 3; i++) /* down only: so every path ends */
        if (next[i] <= at || next[i] >= n) return false;
    return true;
}

static int parse_tree(reader *r, kiln_forest *f, int t) {
    char line[256];
    int n = 0;
    if (!next_line(r, line, sizeof line) || sscanf(line, "tree %d", &n) != 1 || n < 1 ||
        n > NODES_MAX)
        return broken(r, "\"tree\" and a number of nodes are expected");
    f->root[t] = f->n_nodes;
    node *nodes = add_nodes(f, n);
    if (!nodes) return no_memory(r->e);
    for (int i = 0; i < n; i++)
        if (!next_line(r, line, sizeof line) || !parse_node(line, f->n_features, i, n, &nodes[i]))
            return broken(r, "a node of the tree is expected");
    f->root[t + 1] = f->n_nodes;
    return 0;
}

static int parse_features(reader *r, kiln_forest *f) {
    char line[NAME_MAX_BYTES + 16];
    for (int i = 0; i < f->n_features; i++) {
        if (!next_line(r, line, sizeof line) || strncmp(line, "feature ", 8))
            return broken(r, "\"feature\" and a name are expected");
        if (!(f->feature[i] = kiln_arena_strdup(&f->arena, line + 8))) return no_memory(r->e);
    }
    return 0;
}

static int parse_forest(reader *r, const char *line, kiln_forest **out) {
    char name[NAME_MAX_BYTES];
    int features = 0, trees = 0;
    if (sscanf(line, "forest %199s features %d trees %d", name, &features, &trees) != 3 ||
        features < 1 || features > FEATURES_MAX || trees < 0 || trees > TREES_MAX)
        return broken(r, "\"forest NAME features N trees T\" is expected");
    kiln_forest *f = new_forest(name, features, trees);
    if (!f) return no_memory(r->e);
    int status = parse_features(r, f);
    for (int t = 0; t < trees && !status; t++) status = parse_tree(r, f, t);
    if (status)
        kiln_forest_free(f);
    else
        *out = f;
    return status;
}

static int check_hash(reader *r) {
    char line[256], hex[65];
    uint8_t digest[32];
    if (strncmp(r->at, FIRST_LINE, sizeof FIRST_LINE - 1))
        return broken(r, "this is no model of version 1");
    next_line(r, line, sizeof line);
    if (!next_line(r, line, sizeof line) || strncmp(line, "sha256 ", 7))
        return broken(r, "the SHA-256 is expected");
    kiln_sha256_of(r->at, strlen(r->at), digest);
    kiln_hex(digest, 32, hex);
    return strcmp(line + 7, hex) ? broken(r, "the SHA-256 does not fit what follows, it was cut or "
                                             "changed")
                                 : 0;
}

int kiln_forest_parse(const char *text, kiln_forest **all, int max, kiln_text *about,
                      kiln_error *e) {
    reader r = {.at = text, .e = e};
    char line[1024];
    int n = 0, status = check_hash(&r);
    while (!status && next_line(&r, line, sizeof line)) {
        if (!strncmp(line, "about ", 6)) {
            if (about) kiln_text_printf(about, "%s\n", line + 6);
        } else if (n == max)
            status = broken(&r, "more forests than are expected");
        else if (!(status = parse_forest(&r, line, &all[n])))
            n++;
    }
    if (!status) return n;
    while (n) kiln_forest_free(all[--n]);
    return status;
}
