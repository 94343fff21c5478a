/* Conformance on real devices, and a first look at speed.
 *
 *     build/check_device [--target cuda[:0]] [--family matmul] [--variant mma_sm80] [--count 20]
 *                        [--seed 1] [--problem "TEXT" [--schedule "TEXT"]]
 *     build/check_device --time [--target ..] [--variant ..] [--count 8] "PROBLEM"...
 *     build/check_device --time .. --variant V --knobs "tm=128 tn=256" [--knobs ..] "PROBLEM"...
 *
 * The first form walks every target, device, family and variant of the registries: random problems
 * (types, layouts, odd and tile-edge sizes, statements) times random legal schedules. Outputs are
 * poisoned, every buffer lies between guard zones, and rows are compared with the family's own
 * evaluate_row. A failure is one line and the command that repeats it.
 * The second form also times: the start schedule and --count random ones, over rotating operands
 * of three times the last-level cache, then the best of them in turns with the vendors' kernels.
 * The third times the start schedule with some of its knobs changed instead of random ones.
 * Exit status: 0 all passed, 1 a failure, 2 bad arguments. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/input.h"
#include "kernels/matmul/matmul.h"
#include "kernels/preset.h"
#include "targets/target.h"
#include "targets/vendor.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    GUARD = 4096,
    UNIT_MAX = 4,
    ROWS_CHECKED = 24,
    SCHEDULES = 3,
    PROBLEMS_MAX = 16,
    KNOBS_MAX = 40,
    SETS_MAX = 256
};
static const uint32_t guard_pattern = 0x5ca1ab1eu, poison_pattern = 0xffffffffu;

static struct {
    const char *target, *family, *variant, *problem, *schedule;
    int count;
    uint64_t seed;
    bool time;
    int n_problems;
    const char *problems[PROBLEMS_MAX];
    int n_knobs;
    const char *knobs[KNOBS_MAX];
} option = {.count = -1, .seed = 1};

static int failures, checked, refused; /* refused: compiled, and the driver says it cannot run */
static uint64_t draws;

/* ---- small things */

static uint32_t draw(uint32_t below) {
    return (uint32_t)(kiln_random64(option.seed, ++draws) % below);
}

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *need(void *memory) {
    if (memory) return memory;
    fprintf(stderr, "check_device: out of memory on the host\n");
    exit(1);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* ---- one device under test */

typedef struct bench {
    const kiln_target *t;
    kiln_device *d;
    kiln_caps caps;
    bool dead; /* a device error: the context may be poisoned, nothing after it counts */
} bench;

/* ---- a candidate: a problem, a schedule, and the unit it is compiled in */

typedef struct unit {
    kiln_problem problem;
    int n;
    kiln_schedule schedule[UNIT_MAX];
    char suffix[UNIT_MAX][20];
    kiln_blob blob;
    double seconds;
    int status;
    char why[480];
    pid_t pid; /* of the child that compiles it, or 0 */
    FILE *answer;
} unit;

static void schedule_text(const kiln_schedule *s, kiln_text *out) {
    kiln_text_clear(out);
    kiln_schedule_print(s, out);
}

static void report(const bench *b, const unit *u, int i, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void report(const bench *b, const unit *u, int i, const char *format, ...) {
    kiln_text problem = {0}, schedule = {0};
    char id[32], what[600];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    kiln_caps_id(&b->caps, id);
    kiln_problem_print(&u->problem, &problem);
    kiln_schedule_print(&u->schedule[i], &schedule);
    printf("FAIL %s: %s\n  repeat: build/check_device --target %s --seed %llu --problem \"%s\" "
           "--schedule \"%s\"\n",
           id, what, id, (unsigned long long)option.seed, kiln_text_get(&problem),
           kiln_text_get(&schedule));
    fflush(stdout);
    kiln_text_free(&problem);
    kiln_text_free(&schedule);
    failures++;
}

/* ---- compiling, in children where the compiler needs no open device */

static void compile_here(const bench *b, unit *u) {
    kiln_text source = {0}, log = {0};
    kiln_error e = {0};
    double from = now_seconds();
    u->status = kiln_emit_unit(&u->problem, &b->caps, u->schedule, u->n, u->suffix, &source, &e);
    kiln_compile_request request = {.source = kiln_text_get(&source)};
    if (!u->status) u->status = b->t->compile(&b->caps, &request, &u->blob, NULL, &log, &e);
    snprintf(u->why, sizeof u->why, "%.270s %.200s", e.text, u->status ? kiln_text_get(&log) : "");
    u->seconds = now_seconds() - from;
    kiln_text_free(&source);
    kiln_text_free(&log);
}

static void compile_in_child(const bench *b, unit *u) {
    u->answer = tmpfile();
    fflush(stdout);
    u->pid = u->answer ? fork() : -1;
    if (u->pid) return;
    compile_here(b, u);
    bool ok = fwrite(u, sizeof *u, 1, u->answer) == 1 &&
              (u->status || fwrite(u->blob.data, 1, u->blob.size, u->answer) == u->blob.size);
    _exit(fflush(u->answer) || !ok);
}

static void take_answer(unit *u) {
    unit *from = need(malloc(sizeof *from));
    rewind(u->answer);
    bool ok = fread(from, sizeof *from, 1, u->answer) == 1;
    if (ok) {
        u->status = from->status, u->seconds = from->seconds;
        memcpy(u->suffix, from->suffix, sizeof u->suffix);
        memcpy(u->why, from->why, sizeof u->why);
        u->blob.size = from->blob.size;
        u->blob.data = need(malloc(u->blob.size + 1));
        if (!u->status) ok = fread(u->blob.data, 1, u->blob.size, u->answer) == u->blob.size;
    }
    if (!ok) u->status = KILN_IO, strcpy(u->why, "the compiling process left no answer");
    free(from);
}

static void compile_start(const bench *b, unit *u) {
    if (b->caps.arch_number) compile_in_child(b, u);
}

static void compile_finish(const bench *b, unit *u) {
    int status = 0;
    if (u->pid > 0) {
        waitpid(u->pid, &status, 0);
        if (status)
            u->status = KILN_COMPILE, strcpy(u->why, "the compiling process died");
        else
            take_answer(u);
    } else {
        compile_here(b, u);
    }
    if (u->answer) fclose(u->answer);
    u->answer = NULL;
}

/* ---- memory: guard | operand | guard */

typedef struct array {
    kiln_buffer whole, inside;
    int64_t bytes, total;
} array;

static int64_t padded(int64_t bytes) { return (bytes + 3) / 4 * 4; }

static bool array_make(bench *b, array *a, int64_t bytes, kiln_error *e) {
    a->bytes = bytes;
    a->total = 2 * GUARD + padded(bytes);
    a->whole = b->t->alloc(b->d, a->total, e);
    if (!a->whole) return false;
    a->inside = b->t->view(b->d, a->whole, GUARD, padded(bytes), e);
    return a->inside && !b->t->fill(b->d, a->whole, 0, a->total, guard_pattern, e);
}

static void array_free(bench *b, array *a) {
    if (a->inside) b->t->release(b->d, a->inside);
    if (a->whole) b->t->release(b->d, a->whole);
    *a = (array){0};
}

/* Offset from the operand's start of the first guard byte that changed; INT64_MIN: none did. */
static int64_t guard_hit(const uint8_t *all, const array *a) {
    for (int64_t i = 0; i < a->total; i++) {
        if (i >= GUARD && i < GUARD + padded(a->bytes)) continue;
        if (all[i] != (uint8_t)(guard_pattern >> i % 4 * 8)) return i - GUARD;
    }
    return INT64_MIN;
}

/* The operands of a problem: host copies of the inputs, one set on the device. */
typedef struct operands {
    int index; /* which set, while timing */
    int n;
    void *host[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
    array device[KILN_OPERANDS_MAX];
    kiln_buffer bound[KILN_OPERANDS_MAX];
} operands;

static void operands_host(const kiln_problem *p, operands *x) {
    *x = (operands){.n = p->n_operands};
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        x->scalar[i] =
            o->scalar ? (double)(float)(kiln_random_unit(option.seed, (uint64_t)i) + 0.25) : 0;
        if (o->scalar) continue;
        x->host[i] = need(malloc((size_t)padded(kiln_operand_bytes(o)) + 16));
        if (!o->output) kiln_input_fill(o, option.seed, i, x->host[i]);
    }
}

static bool operands_device(bench *b, const kiln_problem *p, operands *x, kiln_error *e) {
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar) continue;
        int64_t bytes = kiln_operand_bytes(o);
        if (!array_make(b, &x->device[i], bytes, e)) return false;
        if (!o->output && b->t->write(b->d, x->device[i].inside, 0, x->host[i], bytes, e))
            return false;
        x->bound[i] = x->device[i].inside;
    }
    return true;
}

static void operands_free(bench *b, operands *x) {
    for (int i = 0; i < x->n; i++) {
        array_free(b, &x->device[i]);
        free(x->host[i]);
    }
}

static bool poison(bench *b, const kiln_problem *p, operands *x, kiln_error *e) {
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].output &&
            b->t->fill(b->d, x->device[i].inside, 0, padded(x->device[i].bytes), poison_pattern, e))
            return false;
    return true;
}

/* ---- a loaded program */

typedef struct loaded {
    kiln_module *module;
    kiln_program program;
    kiln_kernel *kernel[KILN_LAUNCHES_MAX];
    array work;
    struct {
        bool encoded;
        uint8_t map[KILN_TENSOR_MAPS_MAX * 128];
    } * maps; /* of each operand set: encoding takes longer than a small kernel */
} loaded;

static void unload(bench *b, loaded *l) {
    array_free(b, &l->work);
    if (l->module) b->t->unload(b->d, l->module);
    free(l->maps);
    *l = (loaded){0};
}

static bool find_kernels(bench *b, const unit *u, int i, loaded *l, kiln_error *e) {
    for (int j = 0; j < l->program.n_launches; j++) {
        char entry[96];
        snprintf(entry, sizeof entry, "kiln_%s_%s", u->suffix[i], l->program.launch[j].entry);
        l->kernel[j] = b->t->kernel(b->d, l->module, entry, e);
        if (!l->kernel[j]) return false;
    }
    return true;
}

static bool load(bench *b, const unit *u, int i, loaded *l, kiln_error *e) {
    *l = (loaded){0};
    const kiln_schedule *s = &u->schedule[i];
    if (s->variant->program(&u->problem, &b->caps, s, &l->program, e)) return false;
    l->module = b->t->load(b->d, u->blob.data, u->blob.size, e);
    if (!l->module || !find_kernels(b, u, i, l, e)) return false;
    int64_t bytes = l->program.workspace_bytes;
    if (!bytes) return true;
    if (!array_make(b, &l->work, bytes, e)) return false;
    return !b->t->fill(b->d, l->work.inside, 0, padded(bytes), poison_pattern, e) &&
           (!l->program.workspace_zeroed ||
            !b->t->fill(b->d, l->work.inside, 0, padded(l->program.workspace_zeroed), 0, e));
}

static bool enqueue(bench *b, loaded *l, const operands *x, kiln_error *e) {
    if (!l->maps) l->maps = need(calloc(SETS_MAX, sizeof *l->maps));
    kiln_bindings bindings = {.operand = x->bound,
                              .scalar = x->scalar,
                              .workspace = l->work.inside,
                              .tensor_maps = l->maps[x->index].map};
    const kiln_program *p = &l->program;
    if (p->n_tensor_maps && !l->maps[x->index].encoded &&
        b->t->encode(b->d, p->tensor_map, p->n_tensor_maps, &bindings, l->maps[x->index].map, e))
        return false;
    l->maps[x->index].encoded = true;
    for (int j = 0; j < p->n_launches; j++)
        if (b->t->launch(b->d, l->kernel[j], &p->launch[j], &bindings, NULL, e)) return false;
    return true;
}

/* ---- is the result right? */

/* Half a unit of rounding, and what the type cannot hold. */
static double allowed(kiln_type t, double value, double bound) {
    if (t == KILN_I8 || t == KILN_I32) return bound + (bound > 0 || value != rint(value) ? 0.5 : 0);
    double smallest = t == KILN_F16    ? 0x1p-25
                      : t == KILN_E4M3 ? 0x1p-10
                      : t == KILN_E5M2 ? 0x1p-17
                                       : 0x1p-149;
    return bound + kiln_type_roundoff(t) * (fabs(value) + bound) + smallest;
}

static double largest(kiln_type t) {
    switch (t) {
    case KILN_F16:
        return 65504;
    case KILN_BF16:
        return 0x1.fep127;
    case KILN_F32:
        return 0x1.fffffep127;
    case KILN_E4M3:
        return 448;
    case KILN_E5M2:
        return 57344;
    case KILN_I8:
        return 127;
    case KILN_I32:
        return 2147483647;
    default:
        return INFINITY;
    }
}

static bool right(kiln_type t, double got, double value, double bound) {
    if (isnan(value) || isnan(bound)) return true;
    if (isnan(got)) return false;
    double most = largest(t), tolerance = allowed(t, value, bound);
    bool integer = t == KILN_I8 || t == KILN_I32;
    bool saturates = integer || t == KILN_E4M3 || t == KILN_E5M2;
    if (fabs(value) + tolerance >= most) { /* saturates, or becomes infinite */
        double nearest = value > 0 ? most : -most - integer;
        if (saturates ? got == nearest : isinf(got) && (got > 0) == (value > 0)) return true;
    }
    return fabs(got - value) <= tolerance;
}

typedef struct rows { /* what evaluate_row fills, one array per output in order */
    double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX];
} rows;

static rows rows_make(const kiln_problem *p) {
    rows r = {{0}, {0}};
    int64_t widest = 1;
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].cols > widest) widest = p->operand[i].cols;
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) {
        r.value[i] = need(calloc((size_t)widest, sizeof(double)));
        r.bound[i] = need(calloc((size_t)widest, sizeof(double)));
    }
    return r;
}

static void rows_free(rows *r) {
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) free(r->value[i]), free(r->bound[i]);
}

static double element_of(const kiln_operand *o, const void *host, int64_t at) {
    return kiln_type_read(o->type, (const uint8_t *)host + (size_t)at * kiln_type_bytes(o->type));
}

static bool check_row(const kiln_problem *p, const operands *x, const rows *r, int64_t batch,
                      int64_t row, char *what, size_t size) {
    int j = 0;
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->output) continue;
        for (int64_t c = 0; c < o->cols && row < o->rows; c++) {
            double got = element_of(o, x->host[i], batch * o->batch_stride + row * o->ld + c);
            if (right(o->type, got, r->value[j][c], r->bound[j][c])) continue;
            snprintf(what, size, "%s[batch %lld, %lld, %lld] is %.9g, not %.9g (allowed %.3g)",
                     o->name, (long long)batch, (long long)row, (long long)c, got, r->value[j][c],
                     allowed(o->type, r->value[j][c], r->bound[j][c]));
            return false;
        }
        j++;
    }
    return true;
}

/* Poison left in a row is an element never written; poison gone from a gap between rows is one too
 * many. Integer outputs may hold -1 rightly: only their gaps are looked at. */
static bool check_poison(const kiln_operand *o, const uint8_t *host, char *what, size_t size) {
    size_t bytes = kiln_type_bytes(o->type);
    static const uint8_t ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    bool integer = o->type == KILN_I8 || o->type == KILN_I32;
    for (int64_t b = 0; b < o->batch; b++)
        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t c = 0; c < o->ld; c++) {
                int64_t at = b * o->batch_stride + r * o->ld + c;
                if (c >= o->cols && at >= kiln_operand_elements(o)) continue;
                bool poisoned = !memcmp(host + (size_t)at * bytes, ones, bytes);
                if (poisoned == (c >= o->cols) || (integer && c < o->cols)) continue;
                snprintf(what, size, "%s[batch %lld, %lld, %lld] %s", o->name, (long long)b,
                         (long long)r, (long long)c,
                         poisoned ? "was never written" : "lies between rows and was written");
                return false;
            }
    return true;
}

/* Reads an array back whole: its guards, and its inside into `to` (may be NULL). */
static bool read_guarded(bench *b, const array *a, void *to, const char *name, char *what,
                         size_t size) {
    kiln_error e = {0};
    uint8_t *all = need(malloc((size_t)a->total));
    bool ok = !b->t->read(b->d, all, a->whole, 0, a->total, &e);
    if (!ok) snprintf(what, size, "%s", e.text), b->dead = true;
    int64_t hit = ok ? guard_hit(all, a) : INT64_MIN;
    if (hit != INT64_MIN)
        snprintf(what, size, "overwrote a guard %lld bytes %s %s",
                 (long long)(hit < 0 ? -hit : hit - a->bytes),
                 hit < 0 ? "before the start of" : "behind the end of", name);
    if (ok && to) memcpy(to, all + GUARD, (size_t)a->bytes);
    free(all);
    return ok && hit == INT64_MIN;
}

static bool check_memory(bench *b, const kiln_problem *p, operands *x, const loaded *l, char *what,
                         size_t size) {
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar) continue;
        if (!read_guarded(b, &x->device[i], o->output ? x->host[i] : NULL, o->name, what, size))
            return false;
        if (o->output && !check_poison(o, x->host[i], what, size)) return false;
    }
    return !l->work.whole || read_guarded(b, &l->work, NULL, "the workspace", what, size);
}

static int64_t row_of_sample(int64_t rows_total, int i) {
    if (rows_total <= ROWS_CHECKED) return i < rows_total ? i : -1;
    if (i == 0) return 0;
    return i == 1 ? rows_total - 1 : draw((uint32_t)rows_total);
}

/* While timing, all schedules of a problem are judged by the same rows, evaluated once: a row of a
 * large product costs the host a second. */
static struct {
    int n;
    int64_t batch[ROWS_CHECKED], row[ROWS_CHECKED];
    rows expected[ROWS_CHECKED];
} kept_rows;

static void forget_rows(void) {
    while (kept_rows.n) rows_free(&kept_rows.expected[--kept_rows.n]);
}

static bool check_kept_rows(const kiln_problem *p, operands *x, char *what, size_t size) {
    for (int i = 0; i < kept_rows.n; i++)
        if (!check_row(p, x, &kept_rows.expected[i], kept_rows.batch[i], kept_rows.row[i], what,
                       size))
            return false;
    return true;
}

static bool check_values(const kiln_generator *g, const kiln_problem *p, operands *x, int samples,
                         char *what, size_t size) {
    if (kept_rows.n) return check_kept_rows(p, x, what, size);
    rows r = rows_make(p);
    int64_t rows_total = 1, batch = 1;
    bool ok = true;
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].output) {
            if (p->operand[i].rows > rows_total) rows_total = p->operand[i].rows;
            if (p->operand[i].batch > batch) batch = p->operand[i].batch;
        }
    for (int i = 0; i < samples && ok; i++) {
        int64_t row = row_of_sample(rows_total, i), in = batch > 1 ? draw((uint32_t)batch) : 0;
        kiln_error e = {0};
        if (row < 0) break;
        if (g->evaluate_row(p, (const void *const *)x->host, x->scalar, in, row, r.value, r.bound,
                            &e)) {
            snprintf(what, size, "the evaluator failed: %.300s", e.text);
            ok = false;
        } else {
            ok = check_row(p, x, &r, in, row, what, size);
        }
        if (!option.time) continue;
        int kept = kept_rows.n++;
        kept_rows.batch[kept] = in, kept_rows.row[kept] = row, kept_rows.expected[kept] = r;
        r = rows_make(p);
    }
    rows_free(&r);
    return ok;
}

/* Runs candidate i of a unit once on poisoned outputs and judges it. l stays loaded on success. */
static bool verify(bench *b, const kiln_generator *g, unit *u, int i, operands *x, loaded *l,
                   int samples) {
    kiln_error e = {0};
    char what[600] = "";
    checked++;
    if (u->status) {
        report(b, u, i, "does not compile: %.400s", u->why);
        return false;
    }
    bool ok = poison(b, &u->problem, x, &e) && load(b, u, i, l, &e);
    if (ok && !enqueue(b, l, x, &e)) {
        if (e.status ==
            KILN_UNSUPPORTED) { /* more threads than the driver's registers allow, ... */
            refused++;
            return false;
        }
        ok = false, b->dead = true;
    }
    if (ok && b->t->sync(b->d, &e)) ok = false, b->dead = true;
    if (!ok) snprintf(what, sizeof what, "%s", e.text);
    ok = ok && check_memory(b, &u->problem, x, l, what, sizeof what) &&
         check_values(g, &u->problem, x, samples, what, sizeof what);
    if (!ok) report(b, u, i, "%.500s", what);
    if (b->dead)
        printf("  %s: this device's run stops here, an error may have poisoned it\n", b->caps.name);
    return ok;
}

/* ---- random problems, per family */

static const char *pick(const char *const *list, int n) { return list[draw((uint32_t)n)]; }
#define PICK(...)                                                                                  \
    pick((const char *const[]){__VA_ARGS__},                                                       \
         (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

static int random_size(int grain) {
    static const int edges[] = {1,   2,   3,   7,   8,   15,  16,  17,  31,  32,
                                33,  63,  64,  65,  96,  100, 127, 128, 129, 160,
                                191, 192, 200, 255, 256, 257, 300, 384, 400, 513};
    int size = edges[draw(sizeof edges / sizeof *edges)];
    return (size + grain - 1) / grain * grain;
}

static const char *matmul_out(const char *a) {
    if (!strcmp(a, "i8")) return PICK("i32", "i32", "f32", "bf16", "i8");
    if (*a == 'e') return PICK("bf16", "bf16", "f16", "f32", "e4m3", "e5m2");
    return draw(8) ? PICK("f32", "f16", "bf16") : PICK("e4m3", "e5m2");
}

static void matmul_problem(char *text, size_t size) {
    const char *a = PICK("f32", "f16", "bf16", "i8", "f16", "bf16", "tf32", "e4m3", "e4m3", "e5m2");
    bool integer = !strcmp(a, "i8"), small = *a == 'e', eight = integer || small;
    bool mixed = draw(small ? 2 : 10) == 0 && !integer && *a != 't';
    const char *b = !mixed ? a : small ? PICK("e4m3", "e5m2") : PICK("f32", "bf16", "f16");
    int grain = draw(3) ? (eight ? 16 : 8) : draw(2) ? 4 : 1;
    int n = snprintf(text, size, "matmul m=%d n=%d k=%d a=%s b=%s ta=%d tb=%d", random_size(grain),
                     random_size(grain), random_size(grain), a, b,
                     eight ? draw(3) == 0 : (int)draw(2), eight ? draw(3) != 0 : (int)draw(2));
    n += snprintf(text + n, size - (size_t)n, " out=%s", matmul_out(a));
    if (small && draw(2)) n += snprintf(text + n, size - (size_t)n, " fast=1");
    if (draw(5) == 0) n += snprintf(text + n, size - (size_t)n, " batch=%d", 1 + (int)draw(3));
    snprintf(text + n, size - (size_t)n, "%s",
             PICK("", "", "", " : out = acc + bias[n]", " : out = gelu(acc + bias[n]) + res[m,n]",
                  " : out = acc * scale[m]", " : out = silu(acc) * gate[m,n]",
                  " pre=f32 : pre[m,n] = acc; out = relu(acc)",
                  " q=e4m3 s=scalar : q[m,n] = 40 * acc * s; out = acc",
                  " r=e5m2 w=f32 : out = acc * w[n] + r[m,n]",
                  " inv=f32 : amax[m] = max(abs(acc)); out = acc * inv[m]",
                  " : t = acc + bias[n]; least[m] = min(t); most[m] = max(t); out = relu(t)",
                  " alpha=scalar beta=scalar : out = alpha * acc + beta * res[m,n]"));
}

static void map_problem(char *text, size_t size) {
    int presets = 0, cols = random_size(draw(3) ? 8 : 1) * (draw(4) ? 1 : 9);
    while (kiln_presets[presets].name) presets++;
    const char *type = PICK("f32", "f16", "bf16");
    if (presets && draw(3))
        snprintf(text, size, "%s rows=%d cols=%d type=%s",
                 kiln_presets[draw((uint32_t)presets)].name, random_size(1), cols, type);
    else
        snprintf(text, size, "map rows=%d cols=%d x=%s y=%s out=%s : %s", random_size(1), cols,
                 type, PICK("f32", "f16", "bf16"), PICK("f32", "f16", "bf16"),
                 PICK("out = x * y", "h = x + y; out = h * rsqrt(mean(h * h) + 0.00001)",
                      "out = max(x, y) - min(x, y)", "out = exp(x - max(x)) * y",
                      "out = select(x < y, x, tanh(y)) + sum(x * y)"));
}

static const struct maker {
    const char *family;
    void (*make)(char *text, size_t size);
} makers[] = {{"matmul", matmul_problem}, {"map", map_problem}};

static const struct maker *maker_of(const char *family) {
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (!strcmp(makers[i].family, family)) return &makers[i];
    return NULL;
}

/* ---- random schedules */

static bool random_schedule(const kiln_variant_generator *v, const kiln_problem *p,
                            const kiln_caps *caps, kiln_schedule *s) {
    kiln_space space;
    memset(&space, 0, sizeof space);
    space.variant = v->variant;
    v->space(p, caps, &space);
    int64_t size = kiln_space_size(&space);
    for (int i = 0; i < 3000 && size > 0; i++) {
        *s = kiln_space_at(&space, (int64_t)(kiln_random64(option.seed, ++draws) % (uint64_t)size));
        if (v->variant->legal(p, caps, s, NULL)) return true;
    }
    return false;
}

/* "tm=128 tn=256" over the start schedule; says why when that is not legal. */
static bool changed_schedule(const kiln_variant_generator *v, const kiln_problem *p,
                             const kiln_caps *caps, const char *knobs, kiln_schedule *s) {
    kiln_text text = {0}, why = {0};
    kiln_error e = {0};
    kiln_schedule start = v->start(p, caps);
    kiln_text_printf(&text, "%s", v->variant->name);
    for (const kiln_knob *k = v->variant->knobs; k->name; k++) {
        char word[40];
        size_t n = (size_t)snprintf(word, sizeof word, "%s=", k->name);
        const char *given = strstr(knobs, word);
        while (given && given > knobs && given[-1] != ' ') given = strstr(given + 1, word);
        int value = given ? atoi(given + n) : kiln_schedule_get(&start, k->name);
        kiln_text_printf(&text, " %s=%d", k->name, value);
    }
    bool ok = !kiln_schedule_parse(p->family, s, kiln_text_get(&text), &e);
    if (!ok) printf("  %s: %s\n", knobs, e.text);
    if (ok && !v->variant->legal(p, caps, s, &why)) {
        printf("  %s: %s\n", knobs, kiln_text_get(&why));
        ok = false;
    }
    kiln_text_free(&text);
    kiln_text_free(&why);
    return ok;
}

/* The start schedule (for the first), then random ones. */
static bool candidate(const kiln_variant_generator *v, const kiln_problem *p, const kiln_caps *caps,
                      int index, kiln_schedule *s) {
    if (index == 0) {
        *s = v->start(p, caps);
        if (v->variant->legal(p, caps, s, NULL)) return true;
    }
    return random_schedule(v, p, caps, s);
}

static bool fill_unit(const bench *b, const kiln_variant_generator *v, const char *text,
                      int schedules, unit *u) {
    kiln_error e = {0};
    memset(u, 0, sizeof *u);
    if (kiln_problem_parse(&u->problem, text, &e)) {
        printf("note: %s: \"%s\"\n", e.text, text);
        return false;
    }
    if (!v->applies(&u->problem, &b->caps, NULL)) return false;
    while (u->n < schedules && candidate(v, &u->problem, &b->caps, u->n, &u->schedule[u->n]))
        u->n++;
    return u->n > 0;
}

/* ---- conformance of one variant on one device */

static void check_unit(bench *b, const kiln_generator *g, unit *u) {
    operands x;
    kiln_error e = {0};
    operands_host(&u->problem, &x);
    if (!operands_device(b, &u->problem, &x, &e))
        report(b, u, 0, "%.400s", e.text);
    else
        for (int i = 0; i < u->n && !b->dead; i++) {
            loaded l = {0};
            verify(b, g, u, i, &x, &l, ROWS_CHECKED);
            unload(b, &l);
        }
    operands_free(b, &x);
}

static int gather_units(const bench *b, const kiln_variant_generator *v, const struct maker *maker,
                        unit *units, int count) {
    int n = 0;
    for (int tries = 0; n < count && tries < 60 * count; tries++) {
        char text[512];
        maker->make(text, sizeof text);
        n += fill_unit(b, v, text, SCHEDULES, &units[n]);
    }
    return n;
}

static void check_units(bench *b, const kiln_generator *g, unit *units, int n) {
    int ahead = (int)sysconf(_SC_NPROCESSORS_ONLN), started = 0;
    for (int i = 0; i < n && (i < started || !b->dead); i++) {
        while (started < n && started < i + ahead && !b->dead) compile_start(b, &units[started++]);
        compile_finish(b, &units[i]);
        if (!b->dead) check_unit(b, g, &units[i]);
        free(units[i].blob.data);
    }
}

static void check_variant(bench *b, const kiln_generator *g, const kiln_variant_generator *v) {
    const struct maker *maker = maker_of(g->family->name);
    int count = option.count > 0 ? option.count : 10, failed = failures, before = checked;
    char id[32];
    kiln_caps_id(&b->caps, id);
    if (!maker) {
        printf("%s %s: skipped, check_device has no random problems for this family\n", id,
               g->family->name);
        return;
    }
    unit *units = need(calloc((size_t)count, sizeof *units));
    double from = now_seconds();
    int n = gather_units(b, v, maker, units, count);
    check_units(b, g, units, n);
    printf("%s %s %s: %d problems, %d schedules, %d failed, %.1f s%s\n", id, g->family->name,
           v->variant->name, n, checked - before, failures - failed, now_seconds() - from,
           n ? "" : " (it applies to nothing here)");
    fflush(stdout);
    free(units);
}

static bool wanted(const char *filter, const char *name) {
    return !filter || !strcmp(filter, name);
}

static void check_one(bench *b) {
    static unit u;
    kiln_error e = {0};
    memset(&u, 0, sizeof u);
    u.n = 1;
    if (kiln_problem_parse(&u.problem, option.problem, &e) ||
        (option.schedule &&
         kiln_schedule_parse(u.problem.family, &u.schedule[0], option.schedule, &e))) {
        fprintf(stderr, "check_device: %s\n", e.text);
        exit(2);
    }
    const kiln_generator *g = kiln_generator_of(u.problem.family);
    for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
        kiln_text why = {0}, text = {0};
        if (option.schedule ? v->variant != u.schedule[0].variant
                            : !wanted(option.variant, v->variant->name))
            continue;
        bool fits = v->applies(&u.problem, &b->caps, &why);
        if (fits && !option.schedule) u.schedule[0] = v->start(&u.problem, &b->caps);
        fits = fits && v->variant->legal(&u.problem, &b->caps, &u.schedule[0], &why);
        if (fits) schedule_text(&u.schedule[0], &text);
        printf("%s %s: %s\n", b->caps.name, v->variant->name, kiln_text_get(fits ? &text : &why));
        u.pid = 0;
        if (fits && !b->dead) compile_finish(b, &u), check_unit(b, g, &u);
        kiln_text_free(&why);
        kiln_text_free(&text);
    }
}

/* ---- speed */

enum { RUNNERS_MAX = 400, ROUNDS = 25, FINALISTS = 4 };

typedef struct runner {
    char name[320];
    unit *u;
    int index;
    loaded program;
    const kiln_vendor *vendor;
    void *handle;
    int choice; /* of the vendor's kernels; all of them share the first one's handle */
    bool usable;
    int repeats;
    void *batch; /* those, recorded, where the target records: launches must not be what is timed */
    double median, samples[ROUNDS];
} runner;

typedef struct race {
    bench *b;
    const kiln_problem *p;
    int n_sets, next;
    operands *set;
    int n;
    runner *runner;
} race;

static bool run_once(race *r, runner *x, kiln_error *e) {
    operands *set = &r->set[r->next++ % r->n_sets];
    if (!x->vendor) return enqueue(r->b, &x->program, set, e);
    if (x->vendor->choose) x->vendor->choose(x->handle, x->choice);
    return !x->vendor->run(x->handle, set->bound[MATMUL_A], set->bound[MATMUL_B],
                           set->bound[MATMUL_OUT], e);
}

/* Seconds of one execution, averaged over the runner's repeats in one region; below 0: failed. */
static double run_timed(race *r, runner *x) {
    kiln_error e = {0};
    const kiln_target *t = r->b->t;
    bool host = x->vendor && x->vendor->host, ok = true;
    double from = now_seconds();
    if (!host) ok = !t->begin(r->b->d, 0, &e);
    if (x->batch)
        ok = ok && !t->replay(r->b->d, x->batch, &e);
    else
        for (int i = 0; i < x->repeats && ok; i++) ok = run_once(r, x, &e);
    if (!host) ok = ok && !t->end(r->b->d, 0, &e);
    double seconds = host ? now_seconds() - from : ok ? t->seconds(r->b->d, 0, &e) : -1;
    if (ok && seconds > 0) return seconds / x->repeats;
    printf("  %s: %s\n", x->name, e.text);
    x->usable = false;
    return -1;
}

static void record_batch(race *r, runner *x) {
    const kiln_target *t = r->b->t;
    kiln_error e = {0};
    if (!t->record_begin || (x->vendor && x->vendor->host) || x->repeats < 2) return;
    bool ok = !t->record_begin(r->b->d, &e);
    for (int i = 0; i < x->repeats && ok; i++) ok = run_once(r, x, &e);
    x->batch = ok ? t->record_end(r->b->d, &e) : NULL;
    x->usable = x->batch != NULL;
    if (!x->usable) printf("  %s: %s\n", x->name, e.text);
}

static void forget_batch(race *r, runner *x) {
    if (x->batch) r->b->t->forget(r->b->d, x->batch);
    x->batch = NULL;
}

/* Chooses repeats (2 ms a region) and takes the median of 7. */
static void time_quickly(race *r, runner *x) {
    x->repeats = 1;
    double first = run_timed(r, x);
    if (x->usable) first = run_timed(r, x);
    if (!x->usable) return;
    x->repeats = first > 0.002 ? 1 : first > 1e-5 ? (int)ceil(0.002 / first) : 200;
    record_batch(r, x);
    for (int i = 0; i < 7 && x->usable; i++) x->samples[i] = run_timed(r, x);
    if (x->usable) x->median = median_of(x->samples, 7);
}

static void print_runner(const race *r, const runner *x, double flops, double bytes,
                         double vendor) {
    printf("  %9.1f us %8.1f TFLOP/s %8.1f GB/s", x->median * 1e6, flops / x->median * 1e-12,
           bytes / x->median * 1e-9);
    if (vendor > 0) printf(" %6.1f %% of vendor", 100 * vendor / x->median);
    kiln_kernel_facts f;
    if (!x->vendor &&
        !r->b->t->facts(r->b->d, x->program.kernel[0], &x->program.program.launch[0], &f))
        printf(" | %d registers, %d local, %d blocks", f.registers, f.local_bytes,
               f.blocks_per_unit);
    printf(" | %s\n", x->name);
    fflush(stdout);
}

static void time_finals(race *r, double flops, double bytes) {
    double until = now_seconds() + 0.3, vendor = 0;
    int first = draw(1000) % (r->n ? r->n : 1);
    while (r->n && now_seconds() < until && r->runner[0].usable) run_timed(r, &r->runner[0]);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < r->n; i++) {
            runner *x = &r->runner[(i + first + round) % r->n];
            if (x->usable) x->samples[round] = run_timed(r, x);
        }
    for (int i = 0; i < r->n; i++) {
        runner *x = &r->runner[i];
        if (x->usable) x->median = median_of(x->samples, ROUNDS);
        if (x->usable && x->vendor && (vendor == 0 || x->median < vendor)) vendor = x->median;
    }
    kiln_sensors at = {0};
    printf("finals, %d rounds in turns", ROUNDS);
    if (r->b->t->sensors && !r->b->t->sensors(r->b->d, &at))
        printf(", then %d MHz %d W %s", at.clock_mhz, at.power_w, at.throttle);
    printf(":\n");
    for (int i = 0; i < r->n; i++)
        if (r->runner[i].usable) print_runner(r, &r->runner[i], flops, bytes, vendor);
}

/* ---- operand sets: together more than three caches */

static bool make_sets(race *r, kiln_error *e) {
    int64_t bytes = 1;
    for (int i = 0; i < r->p->n_operands; i++)
        if (!r->p->operand[i].scalar) bytes += kiln_operand_bytes(&r->p->operand[i]);
    int64_t sets = 3 * r->b->caps.cache_bytes / bytes + 1;
    r->n_sets = sets < 2 ? 2 : sets > SETS_MAX ? SETS_MAX : (int)sets;
    r->set = need(calloc((size_t)r->n_sets, sizeof *r->set));
    for (int i = 0; i < r->n_sets; i++) {
        if (i) {
            r->set[i] = r->set[0]; /* shares the host arrays */
            memset(r->set[i].device, 0, sizeof r->set[i].device);
            r->set[i].index = i;
        } else {
            operands_host(r->p, &r->set[0]);
        }
        if (!operands_device(r->b, r->p, &r->set[i], e)) return false;
    }
    return true;
}

static void free_sets(race *r) {
    for (int i = r->n_sets - 1; i >= 0; i--) {
        if (i) memset(r->set[i].host, 0, sizeof r->set[i].host);
        operands_free(r->b, &r->set[i]);
    }
    free(r->set);
}

/* ---- vendors */

static kiln_gemm gemm_of(const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    return (kiln_gemm){.m = v.m,
                       .n = v.n,
                       .k = v.k,
                       .batch = v.batch,
                       .lda = v.lda,
                       .ldb = v.ldb,
                       .ldc = v.ldo,
                       .stride_a = v.stride_a,
                       .stride_b = v.stride_b,
                       .stride_c = v.stride_o,
                       .a = v.a,
                       .b = v.b,
                       .c = v.out,
                       .ta = v.ta,
                       .tb = v.tb,
                       .fast = v.fast};
}

/* Each kernel that may be the vendor's fastest runs in the finals, and the fastest there counts. */
static void enter_choices(race *r, const runner *vendor) {
    const kiln_vendor *v = vendor->vendor;
    runner first = *vendor;
    int n = v->choices ? v->choices(first.handle) : 1;
    for (int i = 0; i < n && r->n < RUNNERS_MAX; i++) {
        runner *x = &r->runner[r->n++];
        kiln_text words = {0};
        *x = first;
        x->choice = i;
        if (v->choose) v->choose(x->handle, i);
        v->describe(x->handle, &words);
        snprintf(x->name, sizeof x->name, "vendor %s %.250s", v->name, kiln_text_get(&words));
        kiln_text_free(&words);
        time_quickly(r, x);
    }
}

static void add_vendors(race *r) {
    if (strcmp(r->p->family->name, "matmul")) return;
    kiln_gemm g = gemm_of(r->p);
    const operands *s = &r->set[0];
    for (const kiln_vendor_entry *v = kiln_vendors; v->vendor; v++) {
        kiln_error e = {0};
        runner *x = &r->runner[r->n];
        if (strcmp(v->target, r->b->caps.target) || r->n == RUNNERS_MAX) continue;
        memset(x, 0, sizeof *x);
        x->vendor = v->vendor;
        x->handle = v->vendor->open(r->b->d, &g, &e);
        x->usable = x->handle && !v->vendor->prepare(x->handle, s->bound[MATMUL_A],
                                                     s->bound[MATMUL_B], s->bound[MATMUL_OUT], &e);
        if (x->usable)
            enter_choices(r, x);
        else
            printf("  vendor %s: %s\n", v->vendor->name, e.text);
        if (x->handle && !x->usable) v->vendor->close(x->handle);
    }
}

/* ---- one problem on one device */

static void gather_runners(race *r, const kiln_generator *g, unit *units, int *n_units) {
    int per_unit = r->b->caps.arch_number ? 1 : UNIT_MAX;
    int schedules = option.n_knobs ? option.n_knobs : 1 + (option.count >= 0 ? option.count : 8);
    for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
        if (!wanted(option.variant, v->variant->name) || !v->applies(r->p, &r->b->caps, NULL))
            continue;
        for (int i = 0; i < schedules && r->n < RUNNERS_MAX; i++) {
            unit *u = &units[*n_units];
            u->problem = *r->p;
            if (option.n_knobs
                    ? !changed_schedule(v, r->p, &r->b->caps, option.knobs[i], &u->schedule[u->n])
                    : !candidate(v, r->p, &r->b->caps, i, &u->schedule[u->n]))
                continue;
            runner *x = &r->runner[r->n++];
            memset(x, 0, sizeof *x);
            x->u = u, x->index = u->n++;
            kiln_text text = {0};
            schedule_text(&u->schedule[x->index], &text);
            snprintf(x->name, sizeof x->name, "%s%s", i || option.n_knobs ? "" : "[start] ",
                     kiln_text_get(&text));
            kiln_text_free(&text);
            if (u->n == per_unit) ++*n_units;
        }
        if (units[*n_units].n) ++*n_units;
    }
}

static int faster_first(const void *a, const void *b) {
    const runner *x = a, *y = b;
    if (x->usable != y->usable) return y->usable - x->usable;
    return (x->median > y->median) - (x->median < y->median);
}

/* Keeps the best few and the start schedules; unloads the rest. */
static void keep_finalists(race *r) {
    qsort(r->runner, (size_t)r->n, sizeof *r->runner, faster_first);
    int kept = 0;
    for (int i = 0; i < r->n; i++) {
        runner *x = &r->runner[i];
        if (x->usable && (kept < (option.n_knobs ? 3 * FINALISTS : FINALISTS) ||
                          !strncmp(x->name, "[start]", 7)))
            r->runner[kept++] = *x;
        else {
            forget_batch(r, x);
            unload(r->b, &x->program);
        }
    }
    r->n = kept;
}

static void time_candidates(race *r, const kiln_generator *g, unit *units, int n_units) {
    double flops = g->flops(r->p), bytes = g->bytes(r->p);
    int ahead = (int)sysconf(_SC_NPROCESSORS_ONLN), started = 0, x = 0;
    for (int i = 0; i < n_units && (i < started || !r->b->dead); i++) {
        while (started < n_units && started < i + ahead && !r->b->dead)
            compile_start(r->b, &units[started++]);
        compile_finish(r->b, &units[i]);
        for (; x < r->n && r->runner[x].u == &units[i] && !r->b->dead; x++) {
            runner *me = &r->runner[x];
            me->usable = verify(r->b, g, me->u, me->index, &r->set[0], &me->program, 4);
            if (me->usable) time_quickly(r, me);
            if (me->usable)
                print_runner(r, me, flops, bytes, 0);
            else
                unload(r->b, &me->program);
        }
        free(units[i].blob.data);
    }
}

static void time_problem(bench *b, const char *text) {
    kiln_problem p;
    kiln_error e = {0};
    if (kiln_problem_parse(&p, text, &e)) {
        fprintf(stderr, "check_device: %s\n", e.text);
        exit(2);
    }
    const kiln_generator *g = kiln_generator_of(p.family);
    race r = {.b = b, .p = &p, .runner = need(calloc(RUNNERS_MAX, sizeof(runner)))};
    unit *units = need(calloc(RUNNERS_MAX + 1, sizeof *units));
    int n_units = 0;
    printf("%s: %s\n", b->caps.name, text);
    forget_rows();
    if (!make_sets(&r, &e)) {
        printf("  no room for the operands: %s\n", e.text);
        b->dead = true;
    }
    gather_runners(&r, g, units, &n_units);
    time_candidates(&r, g, units, n_units);
    keep_finalists(&r);
    if (!b->dead) add_vendors(&r), time_finals(&r, g->flops(&p), g->bytes(&p));
    for (int i = 0; i < r.n; i++) {
        forget_batch(&r, &r.runner[i]);
        if (r.runner[i].vendor && !r.runner[i].choice)
            r.runner[i].vendor->close(r.runner[i].handle);
        else if (!r.runner[i].vendor)
            unload(b, &r.runner[i].program);
    }
    free_sets(&r);
    free(units);
    free(r.runner);
}

/* ---- devices and arguments */

static void check_device(const kiln_target *t, const kiln_caps *caps) {
    char id[32];
    kiln_error e = {0};
    kiln_caps_id(caps, id);
    if (option.target && strcmp(option.target, id) && strcmp(option.target, t->name)) return;
    bench b = {.t = t, .caps = *caps, .d = t->open(caps->index, NULL, &e)};
    if (!b.d) {
        printf("FAIL %s: %s\n", id, e.text);
        failures++;
        return;
    }
    b.caps = *t->caps(b.d);
    printf("%s: %s, %s, %s\n", id, b.caps.name, b.caps.driver, b.caps.compiler);
    fflush(stdout);
    for (int i = 0; i < option.n_problems && option.time && !b.dead; i++)
        time_problem(&b, option.problems[i]);
    if (option.problem) check_one(&b);
    if (option.time || option.problem) return;
    for (int i = 0; kiln_generators[i]; i++)
        for (const kiln_variant_generator *v = kiln_generators[i]->variants; v->variant; v++)
            if (!b.dead && wanted(option.family, kiln_generators[i]->family->name) &&
                wanted(option.variant, v->variant->name))
                check_variant(&b, kiln_generators[i], v);
    if (!b.dead) t->close(b.d);
}

static int check_devices(void) {
    int seen = 0;
    for (int i = 0; kiln_targets[i]; i++) {
        static kiln_caps caps[16];
        kiln_error e = {0};
        size_t n = strlen(kiln_targets[i]->name);
        if (option.target && strncmp(option.target, kiln_targets[i]->name, n)) continue;
        int count = kiln_targets[i]->devices(caps, 16, &e);
        if (count <= 0) printf("%s: no device: %s\n", kiln_targets[i]->name, e.text);
        for (int j = 0; j < count; j++) check_device(kiln_targets[i], &caps[j]), seen++;
    }
    return seen;
}

static int usage(const char *what) {
    fprintf(
        stderr,
        "check_device: %s\n"
        "usage: check_device [--target cuda|opencl:1|..] [--family F] [--variant V] [--count N]\n"
        "                    [--seed S] [--problem TEXT [--schedule TEXT]]\n"
        "       check_device --time [--target T] [--variant V] [--count N] PROBLEM...\n"
        "       check_device --time [--target T] --variant V --knobs KNOBS [--knobs ..] "
        "PROBLEM...\n",
        what);
    return 2;
}

static const char **text_option(const char *name) {
    if (!strcmp(name, "--target")) return &option.target;
    if (!strcmp(name, "--family")) return &option.family;
    if (!strcmp(name, "--variant")) return &option.variant;
    if (!strcmp(name, "--problem")) return &option.problem;
    return strcmp(name, "--schedule") ? NULL : &option.schedule;
}

static bool number(const char *text, long long *value) {
    char *end;
    *value = strtoll(text, &end, 10);
    return *text && !*end && *value >= 0 && *value < 1000000;
}

static int parse_arguments(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        long long value;
        const char **text = text_option(argv[i]);
        bool count = !strcmp(argv[i], "--count"), seed = !strcmp(argv[i], "--seed");
        bool knobs = !strcmp(argv[i], "--knobs") && option.n_knobs < KNOBS_MAX;
        if (!strcmp(argv[i], "--time"))
            option.time = true;
        else if (argv[i][0] != '-' && option.n_problems < PROBLEMS_MAX)
            option.problems[option.n_problems++] = argv[i];
        else if (!text && !count && !seed && !knobs)
            return usage(argv[i]);
        else if (i + 1 == argc)
            return usage("an option without its value");
        else if (text)
            *text = argv[++i];
        else if (knobs)
            option.knobs[option.n_knobs++] = argv[++i];
        else if (!number(argv[++i], &value))
            return usage("a number from 0 to 999999 is needed");
        else if (count)
            option.count = (int)value;
        else
            option.seed = (uint64_t)value;
    }
    if (option.time != (option.n_problems > 0))
        return usage("--time goes with problems, and they with it");
    return option.schedule && !option.problem ? usage("--schedule needs --problem") : 0;
}

int main(int argc, char **argv) {
    int status = parse_arguments(argc, argv);
    if (status) return status;
    int seen = check_devices();
    printf(
        "check_device: %d devices, %d candidates, %d refused by a driver, %d failures, seed %llu\n",
        seen, checked, refused, failures, (unsigned long long)option.seed);
    return failures || !seen;
}
