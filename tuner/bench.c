#include "tuner/bench.h"

#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/input.h"
#include "kernels/reference.h"
#include "tuner/finals.h"
#include "tuner/unit.h"
#include "tuner/worker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GUARD = 4096, /* bytes before and after every buffer */
    SETS_MAX = 1024,
    SAMPLES_MAX = 100,
    CHECKED_ROWS = 3,   /* rows of the reference that the C evaluator repeats */
    LONG_ROW = 1 << 27, /* multiplications: of such rows, 0.1 s of one core each, only one */
    REPLAYS_MAX = 256,  /* launches in one timed batch */
    LOADED_ROUNDS = 12,
    AHEAD = 8,       /* samples of a long turn that are enqueued while one is waited for */
    REGIONS = 64,    /* timed stretches that a target keeps apart */
    CHOICES_MAX = 8, /* kernels of a vendor that are timed for the fastest of them */
    CHOICE_ROUNDS = 25,
    CHOICE_ROUNDS_LEAST = 5,
    REFERENCES_KEPT = 4
};
static const uint32_t GUARD_PATTERN = 0x5afe6a7d, POISON = 0xffffffff;
/* Trials follow each other, so that the chip has no time to rest; before the first it had. */
static const double LOAD_SECONDS = 0.03, FIRST_LOAD_SECONDS = 0.5;
static const double FIRST_SETTLE_SECONDS = 0.5; /* of a long turn: the chip has rested */
static const double CHOICE_SECONDS = 0.15; /* of rounds of a vendor's kernels; before, of load */
static const double ANCHOR_SECONDS = 0.1;  /* what takes longer would make all trials long */
static const double SLOW = 1.3;            /* times the best: not worth more samples */
static const double SHORT_KERNEL = 50e-6, BATCH_SECONDS = 200e-6, ROUND_SECONDS = 400e-6;

/* A buffer between two guard zones. */
typedef struct guarded {
    kiln_buffer whole, view;
    int64_t bytes; /* of the view, a multiple of 4 */
} guarded;

struct kiln_bench {
    const kiln_target *target;
    kiln_device *device;
    const kiln_caps *caps;
    kiln_problem p;
    kiln_bench_options o;
    const kiln_generator *g;
    int n_sets, next_set;
    guarded *operand;   /* n_sets x n_operands */
    kiln_buffer *views; /* the same, as launches want them */
    double scalar[KILN_OPERANDS_MAX];
    guarded workspace;
    int n_outputs, output[KILN_OPERANDS_MAX];
    kiln_buffer reference[KILN_OPERANDS_MAX], bound[KILN_OPERANDS_MAX];
    kiln_buffer partials;
    kiln_module *module; /* reference and comparison kernels */
    kiln_launch compare[KILN_OPERANDS_MAX];
    bool warm;
    kiln_subject *anchor; /* what trials are timed beside */
    double anchor_seconds;
};

struct kiln_subject {
    kiln_bench *b;
    kiln_program program;
    kiln_kernel *kernel[KILN_LAUNCHES_MAX];
    uint8_t *maps; /* encoded tensor maps, one group per set */
    const kiln_vendor *vendor;
    void *handle;
    int choice;           /* among the vendor's kernels */
    kiln_bench_call call; /* run is NULL: program or vendor */
    guarded own;          /* its workspace, where that is not the bench's */
    int batch;            /* launches per sample */
    void *recorded;       /* the batch as the driver's graph, where there are graphs */
    int recorded_batch;
};

/* ---- buffers ---- */

static int guarded_open(kiln_bench *b, guarded *g, int64_t bytes, kiln_error *e) {
    g->bytes = (bytes + 3) / 4 * 4;
    g->whole = b->target->alloc(b->device, g->bytes + 2 * GUARD, e);
    if (!g->whole) return e->status;
    g->view = b->target->view(b->device, g->whole, GUARD, g->bytes, e);
    if (!g->view) return e->status;
    int status = b->target->fill(b->device, g->whole, 0, GUARD, GUARD_PATTERN, e);
    if (!status)
        status = b->target->fill(b->device, g->whole, GUARD + g->bytes, GUARD, GUARD_PATTERN, e);
    return status;
}

static void guarded_close(kiln_bench *b, guarded *g) {
    if (g->view) b->target->release(b->device, g->view);
    if (g->whole) b->target->release(b->device, g->whole);
    *g = (guarded){0};
}

/* 0, or the byte distance of the first hit from the buffer (negative: before it). */
static int64_t guard_hit(kiln_bench *b, const guarded *g, int *status, kiln_error *e) {
    uint32_t zone[2][GUARD / 4];
    *status = b->target->read(b->device, zone[0], g->whole, 0, GUARD, e);
    if (!*status)
        *status = b->target->read(b->device, zone[1], g->whole, GUARD + g->bytes, GUARD, e);
    for (int i = 0; i < GUARD / 4 && !*status; i++) {
        if (zone[0][i] != GUARD_PATTERN) return (int64_t)i * 4 - GUARD;
        if (zone[1][i] != GUARD_PATTERN) return (int64_t)i * 4 + 1;
    }
    return 0;
}

static guarded *operand(kiln_bench *b, int set, int i) {
    return &b->operand[set * b->p.n_operands + i];
}

static int64_t operands_bytes(const kiln_problem *p) {
    int64_t bytes = 0;
    for (int i = 0; i < p->n_operands; i++)
        if (!p->operand[i].scalar) bytes += kiln_operand_bytes(&p->operand[i]);
    return bytes;
}

/* Cold: together more than three times the last-level cache, at least 2, within a quarter of the
 * memory. */
static int sets_needed(const kiln_bench *b) {
    int64_t bytes = operands_bytes(&b->p), want = 3 * b->caps->cache_bytes;
    if (b->o.hot || bytes <= 0) return 1;
    int64_t n = want / bytes + 1, room = b->caps->memory_bytes / 4 / bytes;
    if (n < 2) n = 2;
    if (n > room) n = room;
    return n < 1 ? 1 : n > SETS_MAX ? SETS_MAX : (int)n;
}

static int open_sets(kiln_bench *b, int i, kiln_error *e) {
    int status = KILN_OK;
    for (int set = 0; set < b->n_sets && !status; set++) {
        guarded *g = operand(b, set, i);
        status = guarded_open(b, g, kiln_operand_bytes(&b->p.operand[i]), e);
        b->views[set * b->p.n_operands + i] = g->view;
    }
    return status;
}

static int poison_output(kiln_bench *b, int i, kiln_error *e) {
    int status = KILN_OK;
    for (int set = 0; set < b->n_sets && !status; set++) {
        guarded *g = operand(b, set, i);
        status = b->target->fill(b->device, g->view, 0, g->bytes, POISON, e);
    }
    return status;
}

/* One period after the other: an array of the whole operand on the host would cost more time than
 * all the rest. */
static int write_periods(kiln_bench *b, int i, int set, const char *period, kiln_error *e) {
    const kiln_operand *o = &b->p.operand[i];
    int64_t all = kiln_operand_bytes(o), status = KILN_OK;
    int64_t step = kiln_input_period(o) * (int64_t)kiln_type_bytes(o->type);
    for (int64_t at = 0; at < all && !status; at += step)
        status = b->target->write(b->device, operand(b, set, i)->view, at, period,
                                  step < all - at ? step : all - at, e);
    return (int)status;
}

/* The first set from the host; the others from it, where the device copies. */
static int write_sets(kiln_bench *b, int i, const char *period, kiln_error *e) {
    int64_t bytes = kiln_operand_bytes(&b->p.operand[i]);
    int status = write_periods(b, i, 0, period, e);
    for (int set = 1; set < b->n_sets && !status; set++)
        status = b->target->copy ? b->target->copy(b->device, operand(b, set, i)->view,
                                                   operand(b, 0, i)->view, bytes, e)
                                 : write_periods(b, i, set, period, e);
    return status ? status : b->target->sync(b->device, e);
}

static int fill_operand(kiln_bench *b, int i, kiln_error *e) {
    const kiln_operand *o = &b->p.operand[i];
    if (o->scalar) {
        b->scalar[i] = kiln_input_scalar(b->o.seed, i);
        return KILN_OK;
    }
    int status = open_sets(b, i, e);
    if (status) return status;
    if (o->output) return poison_output(b, i, e);
    char *period = malloc((size_t)kiln_input_period(o) * kiln_type_bytes(o->type));
    if (!period) return kiln_fail(e, KILN_NO_MEMORY, "no host memory for operand %s", o->name);
    kiln_input_fill_period(o, b->o.seed, i, period);
    status = write_sets(b, i, period, e);
    free(period);
    return status;
}

static kiln_bindings bindings(kiln_bench *b, int set) {
    return (kiln_bindings){.operand = b->views + set * b->p.n_operands,
                           .scalar = b->scalar,
                           .workspace = b->workspace.view,
                           .reference = b->reference,
                           .bound = b->bound,
                           .partials = b->partials};
}

/* ---- the reference ---- */

/* A workspace grows to the largest that anyone wants of it; its first `zeros` bytes are zeroed
 * anew. */
static int want_workspace(kiln_bench *b, guarded *g, int64_t bytes, int64_t zeros, kiln_error *e) {
    if (bytes <= 0) return KILN_OK;
    int status = KILN_OK;
    if (bytes > g->bytes) {
        guarded_close(b, g);
        status = guarded_open(b, g, bytes, e);
    }
    /* poison, so that nothing left by an earlier candidate helps */
    if (!status) status = b->target->fill(b->device, g->view, 0, g->bytes, POISON, e);
    int64_t zeroed = (zeros + 3) / 4 * 4;
    if (!status && zeroed) status = b->target->fill(b->device, g->view, 0, zeroed, 0, e);
    return status;
}

static int run_reference(kiln_bench *b, kiln_error *e) {
    kiln_program program = {0};
    int status = b->g->reference_program(&b->p, b->caps, &program, e);
    if (!status)
        status =
            want_workspace(b, &b->workspace, program.workspace_bytes, program.workspace_zeroed, e);
    kiln_bindings bind = bindings(b, 0);
    for (int i = 0; i < program.n_launches && !status; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "kiln_reference_%.40s", program.launch[i].entry);
        kiln_kernel *k = b->target->kernel(b->device, b->module, entry, e);
        status =
            k ? b->target->launch(b->device, k, &program.launch[i], &bind, NULL, e) : e->status;
    }
    if (!status) status = b->target->sync(b->device, e);
    guarded_close(b, &b->workspace); /* candidates get one of their own size */
    return status;
}

/* Problems of one kind share their reference, which takes a second to compile: this process keeps
 * the code of the last ones, and the cache directory that of all, for processes to come. */
static struct {
    uint8_t digest[32]; /* of the device's identity, driver and compiler, and the source */
    kiln_blob code;
} kept[REFERENCES_KEPT];
static int kept_next;

static const kiln_blob *recall_reference(const uint8_t digest[32]) {
    for (int i = 0; i < REFERENCES_KEPT; i++)
        if (kept[i].code.data && !memcmp(kept[i].digest, digest, 32)) return &kept[i].code;
    return NULL;
}

static void forget_reference(const uint8_t digest[32]) {
    for (int i = 0; i < REFERENCES_KEPT; i++)
        if (!memcmp(kept[i].digest, digest, 32)) {
            free(kept[i].code.data);
            kept[i].code.data = NULL;
        }
}

static const kiln_blob *keep_reference(const uint8_t digest[32], const kiln_blob *code) {
    int at = kept_next++ % REFERENCES_KEPT;
    free(kept[at].code.data);
    memcpy(kept[at].digest, digest, 32);
    kept[at].code = *code;
    return &kept[at].code;
}

static void digest_reference(const kiln_bench *b, const kiln_text *source, uint8_t digest[32]) {
    kiln_text identity = {0};
    kiln_sha256 hash;
    kiln_caps_identity(b->caps, &identity);
    kiln_text_printf(&identity, "\n%s\n%s\n", b->caps->driver, b->caps->compiler);
    kiln_sha256_init(&hash);
    kiln_sha256_add(&hash, kiln_text_get(&identity), identity.size + 1);
    kiln_sha256_add(&hash, kiln_text_get(source), source->size);
    kiln_sha256_end(&hash, digest);
    kiln_text_free(&identity);
}

/* NULL where this process and the cache directory know of none. */
static const kiln_blob *known_reference(const kiln_bench *b, const uint8_t digest[32]) {
    char name[KILN_UNIT_NAME];
    kiln_blob code = {0};
    const kiln_blob *known = recall_reference(digest);
    if (known || !b->o.cache) return known;
    kiln_hex(digest, 32, name);
    code.data = kiln_unit_read(b->o.cache, name, "reference", &code.size, NULL);
    return code.data ? keep_reference(digest, &code) : NULL;
}

static const kiln_blob *make_reference(const kiln_bench *b, const kiln_text *source,
                                       const uint8_t digest[32], kiln_error *e) {
    char name[KILN_UNIT_NAME];
    kiln_text log = {0};
    kiln_blob code = {0}, ptx = {0};
    kiln_compile_request request = {.source = kiln_text_get(source)};
    int status = b->target->compile(b->caps, &request, &code, &ptx, &log, e);
    free(ptx.data);
    kiln_text_free(&log);
    if (status) return NULL;
    kiln_hex(digest, 32, name);
    if (b->o.cache) /* which may be full: this process can do without */
        kiln_unit_write(b->o.cache, name, "reference", code.data, code.size, NULL);
    return keep_reference(digest, &code);
}

/* What the cache directory holds may be damaged: then it is made again. */
static int load_reference(kiln_bench *b, const kiln_text *source, kiln_error *e) {
    uint8_t digest[32];
    kiln_error damaged = {0};
    digest_reference(b, source, digest);
    const kiln_blob *code = known_reference(b, digest);
    if (code) b->module = b->target->load(b->device, code->data, code->size, &damaged);
    if (b->module) return KILN_OK;
    forget_reference(digest);
    code = make_reference(b, source, digest, e);
    if (code) b->module = b->target->load(b->device, code->data, code->size, e);
    return b->module ? KILN_OK : e->status;
}

static int compile_reference(kiln_bench *b, kiln_error *e) {
    kiln_text source = {0};
    int status = kiln_emit_reference_unit(&b->p, b->caps, &source, e);
    if (!status) status = load_reference(b, &source, e);
    kiln_text_free(&source);
    return status;
}

/* The reference itself is checked against the C evaluator: two independent texts must agree. */
typedef struct host_rows {
    kiln_input input;
    double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX], *device;
} host_rows;

static int open_rows(kiln_bench *b, host_rows *h, kiln_error *e) {
    int64_t widest = 1;
    bool lacking = false;
    for (int i = 0; i < b->p.n_operands; i++)
        if (b->p.operand[i].cols > widest) widest = b->p.operand[i].cols;
    h->device = malloc((size_t)widest * sizeof *h->device);
    for (int j = 0; j < b->n_outputs; j++) {
        h->value[j] = malloc((size_t)widest * sizeof(double));
        h->bound[j] = malloc((size_t)widest * sizeof(double));
        lacking |= !h->value[j] || !h->bound[j];
    }
    if (lacking || !h->device)
        return kiln_fail(e, KILN_NO_MEMORY, "no memory to check the reference");
    return kiln_input_open(&h->input, &b->p, b->o.seed, e);
}

static void close_rows(host_rows *h) {
    kiln_input_close(&h->input);
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) free(h->value[i]), free(h->bound[i]);
    free(h->device);
}

static bool agrees(double got, double want, double bound) {
    return (isnan(want) && isnan(got)) ||
           fabs(got - want) <= 1e-9 * (fabs(want) + 1) + 1e-3 * bound;
}

static int check_row(kiln_bench *b, host_rows *h, int64_t batch, int64_t row, kiln_error *e) {
    int status = b->g->evaluate(&b->p, &h->input.source, batch, row, h->value, h->bound, e);
    for (int j = 0; j < b->n_outputs && !status; j++) {
        const kiln_operand *o = &b->p.operand[b->output[j]];
        int64_t offset = (batch * o->rows + row) * o->cols * 8;
        status = b->target->read(b->device, h->device, b->reference[j], offset, o->cols * 8, e);
        for (int64_t c = 0; c < o->cols && !status; c++)
            if (!agrees(h->device[c], h->value[j][c], h->bound[j][c]))
                status =
                    kiln_fail(e, KILN_WRONG,
                              "the reference kernel for %s gives %.17g at row %lld, "
                              "column %lld where the evaluator gives %.17g: this device's driver "
                              "computes wrongly, or this is a bug in Kiln",
                              o->name, h->device[c], (long long)row, (long long)c, h->value[j][c]);
    }
    return status;
}

static int check_reference(kiln_bench *b, kiln_error *e) {
    host_rows h = {0};
    const kiln_operand *o = &b->p.operand[b->output[0]];
    int status = open_rows(b, &h, e);
    double row_work = b->g->flops(&b->p) / 2 / (double)(o->rows * o->batch);
    for (int i = 0; i < (row_work > LONG_ROW ? 1 : CHECKED_ROWS) && !status; i++) {
        int64_t row = (int64_t)(kiln_random64(b->o.seed, 77 + (uint64_t)i) % (uint64_t)o->rows);
        int64_t batch = (int64_t)(kiln_random64(b->o.seed, 99 + (uint64_t)i) % (uint64_t)o->batch);
        status = check_row(b, &h, batch, row, e);
    }
    close_rows(&h);
    return status;
}

static int open_reference(kiln_bench *b, kiln_error *e) {
    int status = KILN_OK;
    int64_t most = 0;
    for (int i = 0; i < b->p.n_operands && !status; i++) {
        const kiln_operand *o = &b->p.operand[i];
        if (!o->output) continue;
        int j = b->n_outputs++;
        int64_t n = o->batch * o->rows * o->cols;
        b->output[j] = i;
        b->reference[j] = b->target->alloc(b->device, n * 8, e);
        b->bound[j] = b->reference[j] ? b->target->alloc(b->device, n * 4, e) : NULL;
        if (!b->bound[j]) return e->status;
        status = kiln_compare_launch(&b->p, b->caps, j, &b->compare[j], e);
        int64_t partials = kiln_compare_partial_bytes(&b->compare[j]);
        if (partials > most) most = partials;
    }
    if (status) return status;
    b->partials = b->target->alloc(b->device, most, e);
    if (!b->partials) return e->status;
    status = compile_reference(b, e);
    if (!status) status = run_reference(b, e);
    return status ? status : check_reference(b, e);
}

kiln_bench *kiln_bench_open(const kiln_target *target, kiln_device *device, const kiln_problem *p,
                            const kiln_bench_options *o, kiln_error *e) {
    kiln_bench *b = calloc(1, sizeof *b);
    if (!b) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a bench"), NULL;
    *b = (kiln_bench){.target = target,
                      .device = device,
                      .caps = target->caps(device),
                      .p = *p,
                      .o = *o,
                      .g = kiln_generator_of(p->family)};
    b->n_sets = sets_needed(b);
    size_t n = (size_t)b->n_sets * (size_t)p->n_operands;
    b->operand = calloc(n, sizeof *b->operand);
    b->views = calloc(n, sizeof *b->views);
    int status =
        b->operand && b->views ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for a bench");
    for (int i = 0; i < p->n_operands && !status; i++) status = fill_operand(b, i, e);
    if (!status) status = open_reference(b, e);
    if (!status) return b;
    kiln_bench_close(b);
    return NULL;
}

void kiln_bench_close(kiln_bench *b) {
    if (!b) return;
    kiln_subject_close(b->anchor);
    if (b->module) b->target->unload(b->device, b->module);
    if (b->partials) b->target->release(b->device, b->partials);
    for (int j = 0; j < b->n_outputs; j++) {
        if (b->reference[j]) b->target->release(b->device, b->reference[j]);
        if (b->bound[j]) b->target->release(b->device, b->bound[j]);
    }
    for (int i = 0; b->operand && i < b->n_sets * b->p.n_operands; i++)
        guarded_close(b, &b->operand[i]);
    guarded_close(b, &b->workspace);
    free(b->operand);
    free(b->views);
    free(b);
}

int kiln_bench_sets(const kiln_bench *b, int64_t *bytes) {
    *bytes = operands_bytes(&b->p) * b->n_sets;
    return b->n_sets;
}

/* ---- subjects ---- */

/* Tensor maps are encoded once, for a place: that of packed operands must not move when somebody
 * else wants a larger workspace. */
static bool maps_workspace(const kiln_program *p) {
    for (int i = 0; i < p->n_tensor_maps; i++)
        if (p->tensor_map[i].operand == 255) return true;
    return false;
}

/* The bench's workspace is everybody's. Zeros that a kernel leaves for its next launch would not
 * survive the turns of the others, so who needs them has a workspace to itself. */
static guarded *workspace_of(kiln_subject *s) {
    int64_t zeroed = s->call.run ? s->call.workspace_zeroed : s->program.workspace_zeroed;
    return zeroed > 0 || maps_workspace(&s->program) ? &s->own : &s->b->workspace;
}

static kiln_subject *refuse(kiln_subject *s, kiln_record *r, kiln_outcome outcome, const char *why,
                            kiln_arena *arena) {
    r->outcome = outcome;
    r->detail = kiln_arena_strdup(arena, why);
    kiln_subject_close(s);
    return NULL;
}

static int encode_maps(kiln_subject *s, kiln_error *e) {
    kiln_bench *b = s->b;
    if (!s->program.n_tensor_maps) return KILN_OK;
    if (!b->target->encode) return kiln_fail(e, KILN_UNSUPPORTED, "this device has no tensor maps");
    size_t group = (size_t)s->program.n_tensor_maps * 128;
    s->maps = aligned_alloc(128, group * (size_t)b->n_sets);
    int status = s->maps ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for tensor maps");
    for (int set = 0; set < b->n_sets && !status; set++) {
        kiln_bindings bind = bindings(b, set);
        bind.workspace = workspace_of(s)->view;
        status = b->target->encode(b->device, s->program.tensor_map, s->program.n_tensor_maps,
                                   &bind, s->maps + group * (size_t)set, e);
    }
    return status;
}

static int find_kernels(kiln_subject *s, kiln_module *m, const char *suffix, kiln_record *r,
                        kiln_error *e) {
    kiln_bench *b = s->b;
    for (int i = 0; i < s->program.n_launches; i++) {
        const kiln_launch *l = &s->program.launch[i];
        kiln_kernel_facts facts = {0};
        char entry[64];
        snprintf(entry, sizeof entry, "kiln_%.16s_%.40s", suffix, l->entry);
        s->kernel[i] = b->target->kernel(b->device, m, entry, e);
        if (!s->kernel[i]) return e->status;
        if (strcmp(l->entry, "main") && s->program.n_launches > 1) continue;
        if (b->target->facts(b->device, s->kernel[i], l, &facts)) continue;
        r->registers = facts.registers;
        r->local_bytes = facts.local_bytes;
        r->shared_bytes = facts.shared_bytes + (int)l->shared_bytes;
        r->blocks_per_unit = facts.blocks_per_unit;
    }
    return KILN_OK;
}

kiln_subject *kiln_subject_open(kiln_bench *b, const kiln_schedule *schedule, kiln_module *m,
                                const char *suffix, kiln_record *r, kiln_arena *arena) {
    kiln_error e = {0};
    kiln_subject *s = calloc(1, sizeof *s);
    if (!s) return refuse(s, r, KILN_OUTCOME_LAUNCH_FAILED, "no memory", arena);
    s->b = b;
    int status = schedule->variant->program(&b->p, b->caps, schedule, &s->program, &e);
    if (!status) status = find_kernels(s, m, suffix, r, &e);
    if (!status)
        status = want_workspace(b, workspace_of(s), s->program.workspace_bytes,
                                s->program.workspace_zeroed, &e);
    if (!status) status = encode_maps(s, &e);
    r->workspace_bytes = s->program.workspace_bytes;
    return status ? refuse(s, r, KILN_OUTCOME_LAUNCH_FAILED, e.text, arena) : s;
}

kiln_subject *kiln_subject_call(kiln_bench *b, const kiln_bench_call *call, kiln_error *e) {
    kiln_subject *s = calloc(1, sizeof *s);
    if (!s) return kiln_fail(e, KILN_NO_MEMORY, "no memory"), NULL;
    *s = (kiln_subject){.b = b, .call = *call};
    if (!want_workspace(b, workspace_of(s), call->workspace_bytes, call->workspace_zeroed, e))
        return s;
    kiln_subject_close(s);
    return NULL;
}

static bool has_key(const kiln_problem *p, const char *name) {
    for (const kiln_key *k = p->family->keys; k->name; k++)
        if (!strcmp(k->name, name)) return true;
    return false;
}

/* The vendor's call for a matmul without statements; other problems have no vendor. */
static bool as_gemm(const kiln_problem *p, kiln_gemm *g) {
    int a = kiln_problem_operand(p, "a"), b = kiln_problem_operand(p, "b");
    int c = kiln_problem_operand(p, "out");
    if (strcmp(p->family->name, "matmul") || p->n_operands != 3 || a < 0 || b < 0 || c < 0)
        return false;
    kiln_text printed = {0};
    kiln_problem_print(p, &printed);
    bool plain = !strchr(kiln_text_get(&printed), ':');
    kiln_text_free(&printed);
    const kiln_operand *x = &p->operand[a], *y = &p->operand[b], *z = &p->operand[c];
    *g = (kiln_gemm){.m = z->rows,
                     .n = z->cols,
                     .k = kiln_problem_get(p, "k"),
                     .batch = z->batch,
                     .lda = x->ld,
                     .ldb = y->ld,
                     .ldc = z->ld,
                     .stride_a = x->batch_stride,
                     .stride_b = y->batch_stride,
                     .stride_c = z->batch_stride,
                     .a = x->type,
                     .b = y->type,
                     .c = z->type,
                     .ta = kiln_problem_get(p, "ta"),
                     .tb = kiln_problem_get(p, "tb"),
                     .fast = has_key(p, "fast") && kiln_problem_get(p, "fast")};
    return plain;
}

/* By rounds, which are further below. */
static int settle_choice(kiln_bench *b, kiln_subject *s, kiln_error *e);

kiln_subject *kiln_subject_vendor(kiln_bench *b, const kiln_vendor *v, kiln_error *e) {
    kiln_gemm g;
    if (!as_gemm(&b->p, &g))
        return kiln_fail(e, KILN_UNSUPPORTED, "%s has only plain matmul", v->name), NULL;
    kiln_subject *s = calloc(1, sizeof *s);
    if (!s) return kiln_fail(e, KILN_NO_MEMORY, "no memory"), NULL;
    *s = (kiln_subject){.b = b, .vendor = v, .handle = v->open(b->device, &g, e)};
    int status =
        s->handle ? v->prepare(s->handle, b->views[0], b->views[1], b->views[2], e) : e->status;
    if (!status) status = settle_choice(b, s, e);
    if (!status) return s;
    kiln_subject_close(s);
    return NULL;
}

/* The vendor's handle, set to the subject's kernel. */
static void *chosen(const kiln_subject *s) {
    if (s->vendor->choose) s->vendor->choose(s->handle, s->choice);
    return s->handle;
}

const char *kiln_subject_describe(kiln_subject *s, kiln_arena *arena) {
    kiln_text t = {0};
    if (s->vendor && s->vendor->describe) s->vendor->describe(chosen(s), &t);
    char *words = kiln_arena_strdup(arena, kiln_text_get(&t));
    kiln_text_free(&t);
    return words ? words : "";
}

int kiln_subject_batch(const kiln_subject *s) { return s->batch; }

static void forget_batch(kiln_subject *s) {
    if (s->recorded) s->b->target->forget(s->b->device, s->recorded);
    s->recorded = NULL;
}

void kiln_subject_close(kiln_subject *s) {
    if (!s) return;
    forget_batch(s);
    if (s->vendor && s->handle) s->vendor->close(s->handle);
    guarded_close(s->b, &s->own);
    free(s->maps);
    free(s);
}

static int enqueue(kiln_subject *s, int set, kiln_error *e) {
    kiln_bench *b = s->b;
    const kiln_buffer *v = b->views + set * b->p.n_operands;
    kiln_buffer workspace = workspace_of(s)->view;
    if (s->call.run) return s->call.run(s->call.user, v, b->scalar, workspace, e);
    if (s->vendor) return s->vendor->run(chosen(s), v[0], v[1], v[2], e);
    kiln_bindings bind = bindings(b, set);
    bind.workspace = workspace;
    bind.tensor_maps =
        s->maps ? s->maps + (size_t)set * (size_t)s->program.n_tensor_maps * 128 : NULL;
    int status = KILN_OK;
    for (int i = 0; i < s->program.n_launches && !status; i++)
        status = b->target->launch(b->device, s->kernel[i], &s->program.launch[i], &bind, NULL, e);
    return status;
}

/* ---- verification ---- */

static bool blame(kiln_record *r, kiln_outcome outcome, const char *why, kiln_arena *arena) {
    r->outcome = outcome;
    r->detail = kiln_arena_strdup(arena, why);
    return false;
}

static bool compare(kiln_bench *b, kiln_record *r, kiln_arena *arena) {
    kiln_error e = {0};
    double square_error = 0, square_reference = 0;
    r->error = r->error_bound = 0;
    for (int j = 0; j < b->n_outputs; j++) {
        kiln_bindings bind = bindings(b, 0);
        char entry[64];
        snprintf(entry, sizeof entry, "kiln_reference_%.40s", b->compare[j].entry);
        kiln_kernel *k = b->target->kernel(b->device, b->module, entry, &e);
        int status =
            k ? b->target->launch(b->device, k, &b->compare[j], &bind, NULL, &e) : e.status;
        if (!status) status = b->target->sync(b->device, &e);
        int64_t bytes = kiln_compare_partial_bytes(&b->compare[j]);
        void *partials = malloc((size_t)bytes);
        if (!status) status = b->target->read(b->device, partials, b->partials, 0, bytes, &e);
        kiln_verdict v = {0};
        if (!status) v = kiln_compare_verdict(&b->compare[j], partials);
        free(partials);
        if (status) return blame(r, KILN_OUTCOME_DEVICE_ERROR, e.text, arena);
        square_error += v.square_error;
        square_reference += v.square_reference;
        if (v.worst > r->error_bound) r->error_bound = v.worst;
        if (v.right) continue;
        const kiln_operand *o = &b->p.operand[b->output[j]];
        int64_t row = v.worst_index / o->cols;
        r->error_bound = isfinite(v.worst) ? v.worst : 0;
        return blame(r, KILN_OUTCOME_WRONG,
                     kiln_arena_printf(arena,
                                       "%s[%lld,%lld] is off by %.3g times its bound; %lld NaN "
                                       "or unwritten",
                                       o->name, (long long)row,
                                       (long long)(v.worst_index % o->cols), v.worst,
                                       (long long)v.bad),
                     arena);
    }
    r->error = square_reference > 0 ? sqrt(square_error / square_reference) : sqrt(square_error);
    return true;
}

static bool guards_intact(kiln_bench *b, kiln_subject *s, kiln_record *r, kiln_arena *arena) {
    kiln_error e = {0};
    for (int i = -1; i < b->p.n_operands; i++) {
        const guarded *g = i < 0 ? workspace_of(s) : operand(b, 0, i);
        int status = KILN_OK;
        if (!g->whole) continue;
        int64_t hit = guard_hit(b, g, &status, &e);
        if (status) return blame(r, KILN_OUTCOME_DEVICE_ERROR, e.text, arena);
        if (hit)
            return blame(r, KILN_OUTCOME_OUT_OF_BOUNDS,
                         kiln_arena_printf(arena, "wrote %lld bytes %s %s", (long long)llabs(hit),
                                           hit < 0 ? "before" : "behind",
                                           i < 0 ? "the workspace" : b->p.operand[i].name),
                         arena);
    }
    return true;
}

bool kiln_bench_verify(kiln_bench *b, kiln_subject *s, kiln_record *r, kiln_arena *arena) {
    kiln_error e = {0};
    int status = KILN_OK;
    for (int j = 0; j < b->n_outputs && !status; j++) {
        guarded *g = operand(b, 0, b->output[j]);
        status = b->target->fill(b->device, g->view, 0, g->bytes, POISON, &e);
    }
    if (!status) status = enqueue(s, 0, &e);
    if (status) return blame(r, KILN_OUTCOME_LAUNCH_FAILED, e.text, arena);
    if (b->target->sync(b->device, &e)) return blame(r, KILN_OUTCOME_DEVICE_ERROR, e.text, arena);
    r->outcome = KILN_OUTCOME_OK;
    return compare(b, r, arena) && guards_intact(b, s, r, arena);
}

bool kiln_bench_verify_again(kiln_bench *b, kiln_subject *s, kiln_record *r, kiln_arena *arena) {
    kiln_error e = {0};
    if (b->target->sync(b->device, &e)) return blame(r, KILN_OUTCOME_DEVICE_ERROR, e.text, arena);
    return compare(b, r, arena) && guards_intact(b, s, r, arena);
}

/* ---- timing ---- */

static int next_set(kiln_bench *b) { return b->next_set = (b->next_set + 1) % b->n_sets; }

static int enqueue_batch(kiln_subject *s, kiln_error *e) {
    int status = KILN_OK;
    for (int i = 0; i < s->batch && !status; i++) status = enqueue(s, next_set(s->b), e);
    return status;
}

/* A batch becomes one graph, so that launch gaps are not measured as kernel time. */
static int record_batch(kiln_subject *s, kiln_error *e) {
    const kiln_target *t = s->b->target;
    int status = t->record_begin(s->b->device, e);
    if (status) return status;
    int inner = enqueue_batch(s, e);
    kiln_error ignored;
    s->recorded = t->record_end(s->b->device, inner ? &ignored : e);
    s->recorded_batch = s->batch;
    return inner ? inner : s->recorded ? KILN_OK : e->status;
}

bool kiln_subject_on_host(const kiln_subject *s) { return s->vendor && s->vendor->host; }

static bool replayed(const kiln_subject *s) {
    return !kiln_subject_on_host(s) && s->batch > 1 && s->b->target->record_begin;
}

/* Has the batch recorded, and run once, which uploads it. */
static int ready(kiln_subject *s, kiln_error *e) {
    const kiln_target *t = s->b->target;
    if (s->batch < 1) s->batch = 1;
    if (!replayed(s) || (s->recorded && s->recorded_batch == s->batch)) return KILN_OK;
    forget_batch(s);
    int status = record_batch(s, e);
    if (!status) status = t->replay(s->b->device, s->recorded, e);
    return status ? status : t->sync(s->b->device, e);
}

static int enqueue_sample(kiln_subject *s, kiln_error *e) {
    return replayed(s) ? s->b->target->replay(s->b->device, s->recorded, e) : enqueue_batch(s, e);
}

static int enqueue_timed(kiln_subject *s, int region, kiln_error *e) {
    const kiln_target *t = s->b->target;
    int status = t->begin(s->b->device, region, e);
    if (!status) status = enqueue_sample(s, e);
    return status ? status : t->end(s->b->device, region, e);
}

double kiln_bench_sample(kiln_bench *b, kiln_subject *s, kiln_error *e) {
    if (ready(s, e)) return -1;
    double start = kiln_now(), seconds;
    int status = kiln_subject_on_host(s) ? enqueue_sample(s, e) : enqueue_timed(s, 0, e);
    if (status) return -1;
    seconds = kiln_subject_on_host(s) ? kiln_now() - start : b->target->seconds(b->device, 0, e);
    return seconds < 0 ? -1 : seconds / s->batch;
}

static void sense(kiln_bench *b, kiln_record *r, kiln_arena *arena) {
    kiln_sensors now;
    if (!b->target->sensors || b->target->sensors(b->device, &now)) return;
    r->clock_mhz = now.clock_mhz;
    r->temperature_c = now.temperature_c;
    r->power_w = now.power_w;
    r->throttle = kiln_arena_strdup(arena, now.throttle);
}

/* Until clocks have settled: 0.2 s of the first program of a problem, then a few launches. */
static int warm_up(kiln_bench *b, kiln_subject *s, double *estimate, kiln_error *e) {
    double until = kiln_now() + (b->warm || b->caps->shared_host ? 0.01 : 0.2);
    int runs = 0;
    *estimate = 0;
    do {
        double t = kiln_bench_sample(b, s, e);
        if (t < 0) return e->status;
        if (!runs || t < *estimate) *estimate = t;
    } while (++runs < 2 || (kiln_now() < until && runs < 2000));
    b->warm = true;
    s->batch = 1;
    if (*estimate < SHORT_KERNEL) {
        double want = BATCH_SECONDS / (*estimate > 1e-7 ? *estimate : 1e-7) + 1;
        s->batch = want > REPLAYS_MAX ? REPLAYS_MAX : (int)want;
    }
    return KILN_OK;
}

/* Standard error of the median over the median, from the middle half of the samples (robust
 * against the stray samples of a busy machine): 1.2533 sigma / sqrt n with sigma = IQR / 1.349. */
static double median_error(const double *samples, int n) {
    double iqr = kiln_quantile(samples, n, 0.75) - kiln_quantile(samples, n, 0.25);
    return 1.2533 * iqr / 1.349 / sqrt(n) / kiln_median(samples, n);
}

bool kiln_bench_clock_follows(const kiln_caps *caps) {
    return caps->kind == KILN_DEVICE_GPU && !caps->shared_host;
}

/* Is it timed under load? */
static bool loads_chip(const kiln_subject *s) {
    return kiln_bench_clock_follows(s->b->caps) && !kiln_subject_on_host(s);
}

/* Batches as kiln_bench_rounds wants them, of a subject that is warm and takes about `once`. */
static int set_pace(kiln_bench *b, kiln_subject *s, double once, double *seconds, kiln_error *e) {
    double want = ceil(ROUND_SECONDS / (once > 1e-7 ? once : 1e-7));
    if (want > 1 && b->target->record_begin && want < b->n_sets) want = b->n_sets;
    s->batch = want > SETS_MAX ? SETS_MAX : (int)want;
    double sample = kiln_bench_sample(b, s, e);
    *seconds = fmin(sample, once) * s->batch; /* one of the two may have met a hiccup */
    return sample < 0 ? e->status : KILN_OK;
}

/* The samples of the last flight, beside the anchor's: the clock moves with what ran in the last
 * second, so what counts is how the two compare. The subject runs last, in the set that is verified
 * then. */
static int time_under_load(kiln_bench *b, kiln_subject *s, double once, double *samples, int *n,
                           kiln_error *e) {
    kiln_subject *both[] = {s, b->anchor};
    double beside[LOADED_ROUNDS], *times[] = {samples, beside}, sample = 0;
    int status = set_pace(b, s, once, &sample, e);
    int most = sample > LOAD_SECONDS / 5 ? 5 : LOADED_ROUNDS, rounds[] = {most, most};
    double until = kiln_now() + (b->anchor ? LOAD_SECONDS : FIRST_LOAD_SECONDS);
    do
        if (!status) status = kiln_bench_rounds(b, both, b->anchor ? 2 : 1, rounds, times, e);
    while (!status && kiln_now() < until);
    for (int i = 0; i < most && b->anchor && !status; i++) {
        if (!(beside[i] > 0))
            return kiln_fail(e, KILN_DRIVER, "the driver says that a kernel took %g s", beside[i]);
        samples[i] *= b->anchor_seconds / beside[i];
    }
    *n = most;
    return status || !b->anchor ? status : enqueue(s, 0, e);
}

bool kiln_bench_keep(kiln_bench *b, kiln_subject *s, double seconds) {
    bool better = !b->anchor || seconds < b->anchor_seconds / 2;
    if (!better || !loads_chip(s) || s->program.workspace_bytes) return false;
    if (!(seconds > 0 && seconds < ANCHOR_SECONDS)) return false;
    kiln_subject_close(b->anchor);
    b->anchor = s;
    b->anchor_seconds = seconds;
    return true;
}

/* Behind a load the power cap may leave half the clock for a moment, and what runs then looks slow:
 * the anchor, which looks as slow, acquits it. Negative: the driver failed. */
static int slow_beside(kiln_bench *b, double fastest, double best, kiln_error *e) {
    if (fastest <= SLOW * best) return false;
    if (!b->anchor) return true;
    double now = kiln_bench_sample(b, b->anchor, e);
    if (now < 0) return e->status;
    return fastest * fmin(1, b->anchor_seconds / now) > SLOW * best;
}

int kiln_bench_time(kiln_bench *b, kiln_subject *s, double seconds, double best, kiln_record *r,
                    kiln_arena *arena, kiln_error *e) {
    double *samples = kiln_arena_alloc(arena, SAMPLES_MAX * sizeof *samples);
    double estimate, until = kiln_now() + seconds, fastest = INFINITY;
    if (!samples) return kiln_fail(e, KILN_NO_MEMORY, "no memory for samples");
    int status = warm_up(b, s, &estimate, e), n = 0;
    while (!status && n < SAMPLES_MAX) {
        samples[n] = kiln_bench_sample(b, s, e);
        if (samples[n] < 0) return e->status;
        if (samples[n] < fastest) fastest = samples[n];
        n++;
        if (best > 0 && n == 3) {
            int slow = slow_beside(b, fastest, best, e);
            if (slow < 0) return slow;
            if (slow) {
                r->outcome = KILN_OUTCOME_SLOW;
                break;
            }
        }
        if (n >= 5 && (kiln_now() > until || (n >= 10 && median_error(samples, n) < 0.005))) break;
    }
    if (!status && loads_chip(s) && r->outcome != KILN_OUTCOME_SLOW)
        status = time_under_load(b, s, estimate, samples, &n, e);
    sense(b, r, arena);
    r->samples = samples;
    r->n_samples = n;
    if (!status) kiln_record_summarise(r);
    return status;
}

/* ---- rounds ---- */

int kiln_bench_pace(kiln_bench *b, kiln_subject *s, double *seconds, kiln_error *e) {
    double once;
    int status = warm_up(b, s, &once, e);
    return status ? status : set_pace(b, s, once, seconds, e);
}

/* Whose turn is the i-th of a round: the first moves on every other round, and odd rounds go
 * backwards, so that each follows each other one equally often. */
static int turn(int round, int i, int n) { return (round / 2 + (round % 2 ? n - 1 - i : i)) % n; }

static int rounds_one_by_one(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds,
                             int most, double *const *samples, kiln_error *e) {
    for (int round = 0; round < most; round++)
        for (int i = 0; i < n; i++) {
            int k = turn(round, i, n);
            if (round >= rounds[k]) continue;
            samples[k][round] = kiln_bench_sample(b, s[k], e);
            if (samples[k][round] < 0) return e->status;
        }
    return KILN_OK;
}

/* The first of a flight that is timed must find the device at work, like the others. */
static int start_flight(kiln_subject *const *s, int n, int round, kiln_error *e) {
    return enqueue_sample(s[turn(round, n - 1, n)], e);
}

/* Enqueues rounds [from, to), then waits for their times. */
static int fly(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds, int from, int to,
               double *const *samples, kiln_error *e) {
    int status = start_flight(s, n, from, e);
    for (int at = 0; at < (to - from) * n && !status; at++) {
        int round = from + at / n, k = turn(round, at % n, n);
        if (round < rounds[k]) status = enqueue_timed(s[k], at, e);
    }
    for (int at = 0; at < (to - from) * n && !status; at++) {
        int round = from + at / n, k = turn(round, at % n, n);
        if (round >= rounds[k]) continue;
        double t = b->target->seconds(b->device, at, e);
        if (t < 0) return e->status;
        samples[k][round] = t / s[k]->batch;
    }
    return status;
}

/* Makes all ready. Returns the number of rounds; negative: failed. host: one of them runs there. */
static int begin_rounds(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds, bool *host,
                        kiln_error *e) {
    int most = 0;
    if (n < 1 || n > REGIONS) return kiln_fail(e, KILN_BAD_INPUT, "%d subjects in a round", n);
    *host = b->caps->shared_host;
    for (int i = 0; i < n; i++) {
        *host |= rounds[i] > 0 && kiln_subject_on_host(s[i]);
        if (rounds[i] > most) most = rounds[i];
        if (ready(s[i], e)) return e->status;
    }
    return most;
}

int kiln_bench_rounds(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds,
                      double *const *samples, kiln_error *e) {
    bool host;
    int most = begin_rounds(b, s, n, rounds, &host, e), status = most < 0 ? most : KILN_OK;
    if (host && !status) return rounds_one_by_one(b, s, n, rounds, most, samples, e);
    for (int from = 0, step = REGIONS / n; from < most && !status; from += step)
        status = fly(b, s, n, rounds, from, from + step < most ? from + step : most, samples, e);
    return status;
}

/* ---- a vendor's choice
 *
 * In rounds like those in which it is compared with ours then, under load: at rest a GPU clocks
 * higher, memory is slower beside it, and another of its kernels is the fastest. */

static int compare_choices(kiln_bench *b, kiln_subject *const *s, int n, int *fastest,
                           kiln_error *e) {
    double time[CHOICES_MAX][CHOICE_ROUNDS], *samples[CHOICES_MAX], round = 0, least = INFINITY;
    int rounds[CHOICES_MAX], status = KILN_OK;
    for (int i = 0; i < n && !status; i++) {
        double seconds = 0;
        status = kiln_bench_pace(b, s[i], &seconds, e);
        round += seconds;
    }
    double fit = CHOICE_SECONDS / round;
    int most = fit > CHOICE_ROUNDS         ? CHOICE_ROUNDS
               : fit < CHOICE_ROUNDS_LEAST ? CHOICE_ROUNDS_LEAST
                                           : (int)fit;
    for (int i = 0; i < n; i++) samples[i] = time[i], rounds[i] = most;
    double until = kiln_now() + (kiln_bench_clock_follows(b->caps) ? 2 * CHOICE_SECONDS : 0);
    do
        if (!status) status = kiln_bench_rounds(b, s, n, rounds, samples, e);
    while (!status && kiln_now() < until);
    for (int i = 0; i < n && !status; i++) {
        double median = kiln_median(time[i], most);
        if (median < least) least = median, *fastest = i;
    }
    return status;
}

static int settle_choice(kiln_bench *b, kiln_subject *s, kiln_error *e) {
    int n = s->vendor->choices ? s->vendor->choices(s->handle) : 1, status = KILN_OK;
    kiln_subject each[CHOICES_MAX], *all[CHOICES_MAX];
    if (n < 2) return KILN_OK;
    if (n > CHOICES_MAX) n = CHOICES_MAX;
    for (int i = 0; i < n; i++) {
        each[i] = *s;
        each[i].choice = i;
        all[i] = &each[i];
    }
    status = compare_choices(b, all, n, &s->choice, e);
    for (int i = 0; i < n; i++) forget_batch(&each[i]);
    return status;
}

/* A turn of one subject, enqueued without a pause: the time of one execution in the `counted`
 * seconds behind the first `settle`, or in one sample, whichever is longer. */
static int take_turn(kiln_bench *b, kiln_subject *s, double settle, double counted, double *mean,
                     kiln_error *e) {
    double past = 0, last = 0, sum = 0;
    int64_t begun = 0, ended = 0, summed = 0;
    int status = enqueue_sample(s, e); /* the first that is timed finds the device at work, too */
    while (!status && sum < counted) {
        while (!status &&
               (begun == ended || (begun < ended + AHEAD &&
                                   past + (double)(begun - ended) * last < settle + counted)))
            status = enqueue_timed(s, (int)(begun++ % REGIONS), e);
        last = status ? 0 : b->target->seconds(b->device, (int)(ended++ % REGIONS), e);
        if (status || last < 0) return e->status;
        if (!(last > 0))
            return kiln_fail(e, KILN_DRIVER, "the driver says that a kernel took %g s", last);
        if (past >= settle) sum += last, summed++;
        past += last;
    }
    if (!status) *mean = sum / (double)summed / s->batch;
    return status;
}

int kiln_bench_long_rounds(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds,
                           double turn_seconds, double *const *samples, kiln_error *e) {
    bool host;
    int most = begin_rounds(b, s, n, rounds, &host, e), status = most < 0 ? most : KILN_OK;
    double half = turn_seconds / 2, settle = fmax(half, FIRST_SETTLE_SECONDS);
    if (!status && (host || !kiln_bench_clock_follows(b->caps)))
        return kiln_fail(e, KILN_UNSUPPORTED, "long rounds are for GPUs");
    for (int round = 0; round < most && !status; round++)
        for (int i = 0; i < n && !status; i++) {
            int k = turn(round, i, n);
            if (round >= rounds[k]) continue;
            status = take_turn(b, s[k], settle, half, &samples[k][round], e);
            settle = half;
        }
    return status;
}

double kiln_bench_copy(const kiln_target *target, kiln_device *device, int64_t bytes,
                       kiln_error *e) {
    kiln_buffer from = target->alloc(device, bytes, e);
    kiln_buffer to = from ? target->alloc(device, bytes, e) : NULL;
    double best = -1;
    if (to && !target->fill(device, from, 0, bytes, 0x3f9d70a4, e) && target->copy &&
        !target->copy(device, to, from, bytes, e)) {
        for (int i = 0; i < 9; i++) {
            if (target->begin(device, 0, e) || target->copy(device, to, from, bytes, e) ||
                target->end(device, 0, e))
                break;
            double t = target->seconds(device, 0, e);
            if (t > 0 && 2.0 * (double)bytes / t > best) best = 2.0 * (double)bytes / t;
        }
    }
    if (to) target->release(device, to);
    if (from) target->release(device, from);
    return best;
}
