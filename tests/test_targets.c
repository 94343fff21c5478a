/* Conformance of every target in the registry on every device found, plus what is particular to
 * OpenCL. A target without a device is skipped aloud; for cuda the compiler alone is still tested
 * (tests/test_cuda_api.c does the same for the driver's declarations). */
#include "targets/target.h"

#include "kernels/emit.h"
#include "targets/opencl/api.h"
#include "targets/vendor.h"

#include <CL/cl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 64, BLOCK = 8, DEVICES = 16 };

/* ---------------------------------------------------------------- the official headers agree */

#define X(result, name, parameters)                                                                \
    _Static_assert(__builtin_types_compatible_p(result(*) parameters, __typeof__(&name)), #name);
OPENCL_FUNCTIONS(X)
#undef X
#define X(name, value) _Static_assert(OCL_##name == CL_##name, #name);
OPENCL_CONSTANTS(X)
#undef X
_Static_assert(sizeof(cl_buffer_region) == 2 * sizeof(size_t) &&
                   offsetof(cl_buffer_region, size) == sizeof(size_t),
               "cl_buffer_region");

/* ---------------------------------------------------------------- sources */

static const char body[] =
    "#define REAL float\n"
    "KERNEL(8, 1, 1) every(GLOBAL const float *RESTRICT x, float s, GLOBAL float *out,\n"
    "                      GLOBAL float *work, i64 n, int i, float f, GLOBAL float *ref,\n"
    "                      GLOBAL float *bound, GLOBAL float *partials) {\n"
    "    LOCAL_ARRAY(float, tile, 8);\n"
    "    int t = BLOCK(0) * 8 + THREAD(0);\n"
    "    tile[THREAD(0)] = x[t];\n"
    "    BARRIER();\n"
    "    float v = tile[7 - THREAD(0)];\n"
    "    if (t < n) {\n"
    "        out[t] = v * s + f + (float)i;\n"
    "        work[t] = (float)n;\n"
    "        ref[t] = 1.0f; bound[t] = 2.0f; partials[t] = 3.0f;\n"
    "    }\n"
    "}\n"
    "KERNEL(8, 1, 1) add_one(GLOBAL float *out, i64 n) {\n"
    "    int t = BLOCK(0) * 8 + THREAD(0);\n"
    "    if (t < n) out[t] += 1.0f;\n"
    "}\n";

/* Conversions of the dialect: one element and vectors of every width, in and out. */
/* READ_N gives int for i8 and i32, WRITE_N takes float for all but i32. */
#define ROUND_W(T, W)                                                                              \
    "    READ_N(" #T ", " #W ", in, t * 16, v);\n"                                                 \
    "    for (int i = 0; i < " #W "; i++) w[i] = v[i];\n"                                          \
    "    WRITE_N(" #T ", " #W ", out, t * 16, w);\n"
#define ROUND_KERNEL(T, V, S)                                                                      \
    "KERNEL(8, 1, 1) round_" #T "(GLOBAL const float *x, GLOBAL STORAGE(" #T ") *in,\n"            \
    "                             GLOBAL STORAGE(" #T ") *out) {\n"                                \
    "    int t = BLOCK(0) * 8 + THREAD(0);\n"                                                      \
    "    " #V " v[16];\n"                                                                          \
    "    " #S " w[16];\n"                                                                          \
    "    for (int i = 0; i < 16; i++) WRITE(" #T ", in, t * 16 + i, x[t * 16 + i]);\n"             \
    "    for (int i = 0; i < 16; i++) WRITE(" #T ", out, t * 16 + i, 0.0f);\n" ROUND_W(T, 16)      \
        ROUND_W(T, 8) ROUND_W(T, 4) ROUND_W(T, 2)                                                  \
            ROUND_W(T, 1) "    WRITE(" #T ", out, t * 16 + 15, READ(" #T ", in, t * 16 + 15));\n"  \
                          "}\n"
static const char conversions[] = ROUND_KERNEL(f32, float, float) ROUND_KERNEL(f16, float, float)
    ROUND_KERNEL(bf16, float, float) ROUND_KERNEL(i8, int, float) ROUND_KERNEL(i32, int, int);

static char *with_dialect(const kiln_target *t, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "targets/%s/dialect.h", t->name);
    const char *dialect = kiln_embedded(path);
    assert_non_null(dialect);
    size_t size = strlen(dialect) + strlen(text) + 2;
    char *all = malloc(size);
    assert_non_null(all);
    snprintf(all, size, "%s\n%s", dialect, text);
    return all;
}

static kiln_arg operand(int i) { return (kiln_arg){.kind = KILN_ARG_OPERAND, .index = (uint8_t)i}; }
static kiln_arg pointer(int kind) { return (kiln_arg){.kind = (uint8_t)kind}; }
static kiln_arg integer(int kind, int64_t v) {
    return (kiln_arg){.kind = (uint8_t)kind, .value.i = v};
}

static kiln_launch launch_every(void) {
    kiln_launch l = {.entry = "every", .grid = {N / BLOCK, 1, 1}, .block = {BLOCK, 1, 1}};
    kiln_arg args[] = {operand(0),
                       operand(1),
                       operand(2),
                       pointer(KILN_ARG_WORKSPACE),
                       integer(KILN_ARG_I64, N),
                       integer(KILN_ARG_I32, -5),
                       {.kind = KILN_ARG_F32, .value.f = 0.25},
                       pointer(KILN_ARG_REFERENCE),
                       pointer(KILN_ARG_BOUND),
                       pointer(KILN_ARG_PARTIALS)};
    l.n_args = (int)(sizeof args / sizeof *args);
    memcpy(l.arg, args, sizeof args);
    return l;
}

static kiln_launch launch_add_one(void) {
    kiln_launch l = {.entry = "add_one", .grid = {N / BLOCK, 1, 1}, .block = {BLOCK, 1, 1}};
    l.arg[0] = operand(2);
    l.arg[1] = integer(KILN_ARG_I64, N);
    l.n_args = 2;
    return l;
}

/* ---------------------------------------------------------------- one device */

typedef struct fixture {
    const kiln_target *t;
    kiln_device *d;
    kiln_caps caps;
    kiln_error e;
    kiln_buffer b[6]; /* x, out, work, reference, bound, partials: N floats each */
    kiln_buffer operands[3];
    double scalars[3];
    kiln_bindings bind;
} fixture;

#define OK(f, call)                                                                                \
    do {                                                                                           \
        (f)->e.text[0] = 0;                                                                        \
        int rc_ = (call);                                                                          \
        if (rc_) print_error("%s: %s\n", #call, (f)->e.text);                                      \
        assert_int_equal(rc_, 0);                                                                  \
    } while (0)

static void make_bindings(fixture *f) {
    for (int i = 0; i < 6; i++) {
        f->b[i] = f->t->alloc(f->d, N * sizeof(float), &f->e);
        if (!f->b[i]) print_error("%s\n", f->e.text);
        assert_non_null(f->b[i]);
        OK(f, f->t->fill(f->d, f->b[i], 0, N * sizeof(float), 0, &f->e));
    }
    f->operands[0] = f->b[0];
    f->operands[1] = NULL; /* the scalar s */
    f->operands[2] = f->b[1];
    f->scalars[1] = 0.5;
    f->bind = (kiln_bindings){.operand = f->operands,
                              .scalar = f->scalars,
                              .workspace = f->b[2],
                              .reference = &f->b[3],
                              .bound = &f->b[4],
                              .partials = f->b[5]};
}

static void drop_bindings(fixture *f) {
    for (int i = 0; i < 6; i++) f->t->release(f->d, f->b[i]);
}

static void check_caps(const fixture *f, int index) {
    const kiln_caps *c = &f->caps;
    char id[32], expected[32];
    kiln_caps_id(c, id);
    snprintf(expected, sizeof expected, "%s:%d", f->t->name, index);
    assert_string_equal(id, expected);
    assert_true(c->name[0] && c->driver[0] && c->compiler[0] && c->arch[0]);
    assert_true(c->units > 0 && c->warp > 0 && c->max_threads >= 64);
    assert_true(c->shared_bytes >= 16384 && c->memory_bytes > 0);
    assert_true(c->max_alloc_bytes > 0 && c->cache_bytes > 0);
    assert_true(c->align_bytes >= 16 && c->align_bytes % 16 == 0);
    if (c->kind == KILN_DEVICE_CPU) {
        assert_true(c->shared_host);
        assert_true(c->vector_bits >= 128 && c->vector_registers >= 16);
    } else {
        assert_int_equal(c->vector_bits, 0);
    }
    kiln_text identity = {0};
    kiln_caps_identity(c, &identity);
    assert_non_null(strstr(kiln_text_get(&identity), c->name));
    print_message("%s is %s\n", id, kiln_text_get(&identity));
    kiln_text_free(&identity);
}

static void check_buffers(fixture *f) {
    const int64_t bytes = 4096 + f->caps.align_bytes * 2;
    unsigned char *host = malloc((size_t)bytes), *back = malloc((size_t)bytes);
    assert_true(host && back);
    for (int64_t i = 0; i < bytes; i++) host[i] = (unsigned char)(i * 7 + 3);
    kiln_buffer b = f->t->alloc(f->d, bytes, &f->e);
    assert_non_null(b);
    OK(f, f->t->write(f->d, b, 0, host, bytes, &f->e));
    OK(f, f->t->read(f->d, back, b, 0, bytes, &f->e));
    assert_memory_equal(host, back, (size_t)bytes);

    kiln_buffer v = f->t->view(f->d, b, f->caps.align_bytes, 4096, &f->e);
    assert_non_null(v);
    OK(f, f->t->read(f->d, back, v, 0, 4096, &f->e));
    assert_memory_equal(host + f->caps.align_bytes, back, 4096);
    OK(f, f->t->fill(f->d, v, 8, 16, 0x7fc00001u, &f->e));
    OK(f, f->t->read(f->d, back, b, 0, bytes, &f->e));
    for (int64_t i = 0; i < bytes; i++) {
        int64_t at = i - f->caps.align_bytes - 8;
        static const unsigned char pattern[4] = {1, 0, 0xc0, 0x7f};
        assert_int_equal(back[i], at >= 0 && at < 16 ? pattern[at % 4] : host[i]);
    }
    if (f->t->copy) {
        kiln_buffer other = f->t->alloc(f->d, bytes, &f->e);
        assert_non_null(other);
        OK(f, f->t->copy(f->d, other, b, bytes, &f->e));
        OK(f, f->t->sync(f->d, &f->e));
        OK(f, f->t->read(f->d, host, other, 0, bytes, &f->e));
        assert_memory_equal(host, back, (size_t)bytes);
        f->t->release(f->d, other);
    }
    f->t->release(f->d, v);
    f->t->release(f->d, b);
    assert_null(f->t->alloc(f->d, INT64_MAX / 2, &f->e));
    assert_true(f->e.status < 0 && f->e.text[0]);
    free(host);
    free(back);
}

static void expect_every(fixture *f, int more) {
    static const float work[] = {N, 1.0f, 2.0f, 3.0f};
    float got[N], x[N];
    OK(f, f->t->read(f->d, x, f->b[0], 0, sizeof x, &f->e));
    OK(f, f->t->read(f->d, got, f->b[1], 0, sizeof got, &f->e));
    for (int i = 0; i < N; i++)
        assert_true(got[i] ==
                    x[i / BLOCK * BLOCK + 7 - i % BLOCK] * 0.5f + 0.25f - 5.0f + (float)more);
    for (int j = 0; j < 4; j++) {
        OK(f, f->t->read(f->d, got, f->b[2 + j], 0, sizeof got, &f->e));
        for (int i = 0; i < N; i++) assert_true(got[i] == work[j]);
    }
}

static void set_input(fixture *f) {
    float x[N];
    for (int i = 0; i < N; i++) x[i] = (float)(i * i);
    OK(f, f->t->write(f->d, f->b[0], 0, x, sizeof x, &f->e));
    for (int i = 1; i < 6; i++) OK(f, f->t->fill(f->d, f->b[i], 0, sizeof x, 0x7fc00000u, &f->e));
}

static void check_graph(fixture *f, kiln_kernel *add_one, int *more) {
    kiln_launch l = launch_add_one();
    if (!f->t->record_begin) return;
    OK(f, f->t->record_begin(f->d, &f->e));
    for (int i = 0; i < 3; i++) OK(f, f->t->launch(f->d, add_one, &l, &f->bind, NULL, &f->e));
    void *batch = f->t->record_end(f->d, &f->e);
    if (!batch) print_error("%s\n", f->e.text);
    assert_non_null(batch);
    for (int i = 0; i < 2; i++) OK(f, f->t->replay(f->d, batch, &f->e));
    OK(f, f->t->sync(f->d, &f->e));
    f->t->forget(f->d, batch);
    *more += 6;
}

static void check_timing(fixture *f, kiln_kernel *add_one, int *more) {
    kiln_launch l = launch_add_one();
    assert_true(f->t->begin(f->d, 64, &f->e) < 0);
    assert_true(f->t->begin(f->d, -1, &f->e) < 0);
    OK(f, f->t->begin(f->d, 0, &f->e));
    for (int region = 1; region < 3; region++) {
        OK(f, f->t->begin(f->d, region, &f->e));
        for (int i = 0; i < 4; i++) OK(f, f->t->launch(f->d, add_one, &l, &f->bind, NULL, &f->e));
        OK(f, f->t->end(f->d, region, &f->e));
    }
    OK(f, f->t->end(f->d, 0, &f->e));
    *more += 8;
    double whole = f->t->seconds(f->d, 0, &f->e), first = f->t->seconds(f->d, 1, &f->e),
           second = f->t->seconds(f->d, 2, &f->e);
    assert_true(first > 0 && first < 5 && second > 0 && second < 5);
    assert_true(whole >= (first + second) * 0.999 && whole < 10);
}

static void check_refusals(fixture *f, kiln_kernel *every) {
    kiln_launch l = launch_every();
    l.block[0] = (uint32_t)f->caps.max_threads + 1;
    assert_true(f->t->launch(f->d, every, &l, &f->bind, NULL, &f->e) < 0);
    assert_true(f->e.text[0]);
    l = launch_every();
    l.grid[1] = 0;
    assert_true(f->t->launch(f->d, every, &l, &f->bind, NULL, &f->e) < 0);
    OK(f, f->t->sync(f->d, &f->e)); /* a refusal leaves the device usable */
}

/* Loads, launches each entry, and returns what must still be true of the results. */
static void check_module(fixture *f, const kiln_blob *blob, bool thorough) {
    kiln_launch every = launch_every(), one = launch_add_one();
    kiln_module *m = f->t->load(f->d, blob->data, blob->size, &f->e);
    if (!m) print_error("%s\n", f->e.text);
    assert_non_null(m);
    assert_null(f->t->kernel(f->d, m, "no_such_entry", &f->e));
    assert_non_null(strstr(f->e.text, "no_such_entry"));
    kiln_kernel *k = f->t->kernel(f->d, m, "every", &f->e),
                *a = f->t->kernel(f->d, m, "add_one", &f->e);
    assert_true(k && a);
    set_input(f);
    int more = 1;
    OK(f, f->t->launch(f->d, k, &every, &f->bind, NULL, &f->e));
    OK(f, f->t->launch(f->d, a, &one, &f->bind, NULL, &f->e));
    OK(f, f->t->sync(f->d, &f->e));
    expect_every(f, more);
    if (thorough) {
        kiln_kernel_facts facts;
        OK(f, f->t->facts(f->d, k, &every, &facts));
        assert_true(facts.max_threads >= BLOCK);
        /* drivers differ in what they count as a kernel's local memory before it runs: PoCL 5 and
         * NVIDIA's OpenCL say 0 */
        assert_true(facts.shared_bytes >= 0);
        check_timing(f, a, &more);
        check_graph(f, a, &more);
        expect_every(f, more);
        check_refusals(f, k);
        expect_every(f, more);
    }
    f->t->unload(f->d, m);
}

static void check_programs(fixture *f) {
    char *source = with_dialect(f->t, body);
    kiln_launch every = launch_every(), one = launch_add_one();
    const kiln_launch *const warm[] = {&every, &one};
    static const char entries[2][64] = {"every", "add_one"};
    kiln_compile_request r = {.source = source, .n_warm = 2, .warm = warm, .warm_entry = entries};
    kiln_blob cold = {0}, warmed = {0}, ptx = {0};
    kiln_text log = {0};
    OK(f, f->t->compile(&f->caps, &r, &warmed, &ptx, &log, &f->e));
    r.n_warm = 0;
    OK(f, f->t->compile(&f->caps, &r, &cold, &ptx, &log, &f->e));
    assert_true(warmed.size > 0 && warmed.kind[0] && cold.size > 0);
    check_module(f, &cold, false);
    check_module(f, &warmed, true);
    check_module(f, &warmed, false);
    free(cold.data);
    free(warmed.data);
    free(ptx.data);
    free(source);
    kiln_text_free(&log);
}

/* Halves, ties, both ends of f16, bf16 and i8, subnormals, infinities: where roundings differ. */
static void fill_hard(float *x, int n, bool floats) {
    static const float hard[] = {0.0f,         -0.0f,      1.0f,        0.5f,        1.5f,
                                 2.5f,         -2.5f,      127.5f,      126.5f,      -128.5f,
                                 300.0f,       -300.0f,    65504.0f,    65519.0f,    65520.0f,
                                 1e30f,        -1e30f,     0x1.004p0f,  0x1.00cp0f,  0x1.002p0f,
                                 0x1.01p0f,    0x1.03p0f,  0x1p-14f,    0x1.8p-25f,  0x1p-25f,
                                 0x1.ffep-15f, 3.3895e38f, 0x1.fep127f, 0x1.ffp127f, -0x1.ffp127f};
    int count = (int)(sizeof hard / sizeof *hard);
    for (int i = 0; i < n; i++) x[i] = i < count ? hard[i] : (float)(i - n / 2) * 0.37f;
    if (floats) x[count] = INFINITY, x[count + 1] = -INFINITY, x[count + 2] = NAN;
}

static bool same_element(kiln_type type, const void *a, const void *b) {
    double x = kiln_type_read(type, a), y = kiln_type_read(type, b);
    return x == y ? signbit(x) == signbit(y) : isnan(x) && isnan(y);
}

static void check_conversion(fixture *f, kiln_module *m, kiln_type type) {
    enum { COUNT = N * 16 };
    static float x[COUNT];
    static unsigned char in[COUNT * 4], out[COUNT * 4], want[4];
    size_t bytes = kiln_type_bytes(type);
    char entry[64];
    snprintf(entry, sizeof entry, "round_%s", kiln_type_name(type));
    kiln_kernel *k = f->t->kernel(f->d, m, entry, &f->e);
    assert_non_null(k);
    kiln_buffer b[3];
    for (int i = 0; i < 3; i++) assert_non_null(b[i] = f->t->alloc(f->d, COUNT * 4, &f->e));
    kiln_bindings bind = {.operand = b};
    kiln_launch l = {.grid = {N / BLOCK, 1, 1},
                     .block = {BLOCK, 1, 1},
                     .n_args = 3,
                     .arg = {operand(0), operand(1), operand(2)}};
    bool floats = type != KILN_I8 && type != KILN_I32;
    fill_hard(x, COUNT, floats);
    if (type == KILN_I32) /* is converted as in C, so whole numbers only */
        for (int i = 0; i < COUNT; i++) x[i] = (float)(i * 77 - 30000);
    OK(f, f->t->write(f->d, b[0], 0, x, sizeof x, &f->e));
    OK(f, f->t->launch(f->d, k, &l, &bind, NULL, &f->e));
    OK(f, f->t->read(f->d, in, b[1], 0, COUNT * (int64_t)bytes, &f->e));
    OK(f, f->t->read(f->d, out, b[2], 0, COUNT * (int64_t)bytes, &f->e));
    for (size_t i = 0; i < COUNT; i++) {
        kiln_type_write(type, want, x[i]);
        if (!same_element(type, in + i * bytes, want) ||
            !same_element(type, out + i * bytes, want)) {
            print_error("%s of %a: %g through one, %g through many, expected %g\n",
                        kiln_type_name(type), (double)x[i], kiln_type_read(type, in + i * bytes),
                        kiln_type_read(type, out + i * bytes), kiln_type_read(type, want));
            fail();
        }
    }
    for (int i = 0; i < 3; i++) f->t->release(f->d, b[i]);
}

static void check_conversions(fixture *f) {
    char *source = with_dialect(f->t, conversions);
    kiln_compile_request r = {.source = source};
    kiln_blob blob = {0};
    OK(f, f->t->compile(&f->caps, &r, &blob, NULL, NULL, &f->e));
    kiln_module *m = f->t->load(f->d, blob.data, blob.size, &f->e);
    assert_non_null(m);
    static const kiln_type types[] = {KILN_F32, KILN_F16, KILN_BF16, KILN_I8, KILN_I32};
    for (int i = 0; i < 5; i++) check_conversion(f, m, types[i]);
    f->t->unload(f->d, m);
    free(blob.data);
    free(source);
}

static void check_broken_source(fixture *f) {
    char *source =
        with_dialect(f->t, "KERNEL(8, 1, 1) broken(GLOBAL float *x) { x[0] = nonsense; }\n");
    kiln_compile_request r = {.source = source};
    kiln_blob blob = {0};
    kiln_text log = {0};
    assert_int_equal(f->t->compile(&f->caps, &r, &blob, NULL, &log, &f->e), KILN_COMPILE);
    assert_null(blob.data);
    assert_non_null(strstr(kiln_text_get(&log), "nonsense"));
    assert_null(strstr(kiln_text_get(&log), "/tmp"));
    assert_null(strstr(kiln_text_get(&log), ".cache"));
    assert_non_null(strstr(f->e.text, "nonsense"));
    free(source);
    kiln_text_free(&log);
}

/* A compiler may refuse this source or the launch must: PoCL aborts the process if neither does. */
static void check_local_memory(fixture *f) {
    char text[512];
    snprintf(text, sizeof text,
             "KERNEL(8, 1, 1) big(GLOBAL float *x) {\n"
             "    LOCAL_ARRAY(float, t, %d);\n"
             "    for (int i = THREAD(0); i < %d; i += 8) t[i] = x[i & 63];\n"
             "    BARRIER();\n    x[THREAD(0)] = t[(int)x[0] & 1023];\n}\n",
             f->caps.shared_bytes / 4 + 1024, f->caps.shared_bytes / 4 + 1024);
    char *source = with_dialect(f->t, text);
    kiln_compile_request r = {.source = source};
    kiln_blob blob = {0};
    kiln_text log = {0};
    if (!f->t->compile(&f->caps, &r, &blob, NULL, &log, &f->e)) {
        kiln_launch l = {
            .grid = {1, 1, 1}, .block = {BLOCK, 1, 1}, .n_args = 1, .arg = {operand(2)}};
        kiln_module *m = f->t->load(f->d, blob.data, blob.size, &f->e);
        kiln_kernel *k = m ? f->t->kernel(f->d, m, "big", &f->e) : NULL;
        kiln_kernel_facts facts = {0};
        if (k && !f->t->facts(f->d, k, &l, &facts) && facts.shared_bytes <= 0) {
            /* PoCL 5: nothing to check before the launch; the worker process is the protection */
            print_message("SKIPPED %s does not tell a kernel's local memory\n", f->caps.compiler);
            kiln_fail(&f->e, KILN_UNSUPPORTED, "not told");
        } else if (k)
            assert_true(f->t->launch(f->d, k, &l, &f->bind, NULL, &f->e) < 0);
        if (m) f->t->unload(f->d, m);
    }
    assert_true(f->e.status < 0);
    free(blob.data);
    free(source);
    kiln_text_free(&log);
}

static void check_damaged_code(fixture *f) {
    char junk[256];
    memset(junk, 0x5a, sizeof junk);
    junk[7] = 0;
    assert_null(f->t->load(f->d, junk, sizeof junk, &f->e));
    assert_true(f->e.status < 0 && f->e.text[0]);
    assert_null(f->t->load(f->d, junk, 0, &f->e));
}

static void conform(const kiln_target *t, const kiln_caps *caps, int index) {
    fixture f = {.t = t, .caps = *caps};
    check_caps(&f, index);
    f.d = t->open(index, NULL, &f.e);
    if (!f.d) print_error("%s\n", f.e.text);
    assert_non_null(f.d);
    assert_string_equal(t->caps(f.d)->name, caps->name);
    assert_int_equal(t->caps(f.d)->index, index);
    assert_non_null(t->stream(f.d));
    make_bindings(&f);
    check_buffers(&f);
    check_programs(&f);
    check_conversions(&f);
    check_broken_source(&f);
    check_local_memory(&f);
    check_damaged_code(&f);
    if (t->sensors) {
        kiln_sensors s;
        assert_int_equal(t->sensors(f.d, &s), 0);
    }
    drop_bindings(&f);
    t->close(f.d);
    t->close(NULL);
}

static void test_every_device(void **state) {
    (void)state;
    int total = 0;
    for (int i = 0; kiln_targets[i]; i++) {
        static kiln_caps caps[DEVICES];
        kiln_error e = {0};
        assert_ptr_equal(kiln_target_find(kiln_targets[i]->name), kiln_targets[i]);
        int n = kiln_targets[i]->devices(caps, DEVICES, &e);
        if (!n) {
            print_message("SKIPPED %s: %s\n", kiln_targets[i]->name, e.text);
            assert_true(e.status < 0 && e.text[0]);
        }
        for (int j = 0; j < n; j++) conform(kiln_targets[i], &caps[j], j);
        assert_null(kiln_targets[i]->open(1000, NULL, &e));
        assert_true(e.status < 0);
        total += n;
    }
    assert_null(kiln_target_find("no such target"));
    if (!total) skip();
}

/* ---------------------------------------------------------------- vendors */

/* Row-major products with odd sizes, padded rows, both transposes and a batch. Small integers, so
 * that every order of summation gives the same floats. */
enum { VM = 37, VN = 22, VK = 19 };

static kiln_gemm vendor_problem(bool ta, bool tb, int batch) {
    kiln_gemm g = {.m = VM,
                   .n = VN,
                   .k = VK,
                   .batch = batch,
                   .a = KILN_F32,
                   .b = KILN_F32,
                   .c = KILN_F32,
                   .ta = ta,
                   .tb = tb};
    g.lda = (ta ? VM : VK) + 3;
    g.ldb = (tb ? VK : VN) + 1;
    g.ldc = VN + 2;
    g.stride_a = (ta ? VK : VM) * g.lda + 5;
    g.stride_b = (tb ? VN : VK) * g.ldb;
    g.stride_c = VM * g.ldc;
    return g;
}

static float vendor_expected(const kiln_gemm *g, const float *a, const float *b, int z, int i,
                             int j) {
    float sum = 0;
    for (int k = 0; k < VK; k++)
        sum += a[z * g->stride_a + (g->ta ? k * g->lda + i : i * g->lda + k)] *
               b[z * g->stride_b + (g->tb ? j * g->ldb + k : k * g->ldb + j)];
    return sum;
}

static void check_vendor_result(fixture *f, const kiln_gemm *g, const float *a, const float *b) {
    static float c[8192];
    OK(f, f->t->read(f->d, c, f->b[2], 0, g->batch * g->stride_c * 4, &f->e));
    for (int z = 0; z < g->batch; z++)
        for (int i = 0; i < VM; i++)
            for (int j = 0; j < VN; j++)
                assert_true(c[z * g->stride_c + i * g->ldc + j] ==
                            vendor_expected(g, a, b, z, i, j));
}

/* Every kernel that it may choose is right. */
static void check_choices(fixture *f, const kiln_vendor *v, void *handle, const kiln_gemm *g,
                          const float *x) {
    int n = v->choices ? v->choices(handle) : 1;
    assert_true(n >= 1);
    for (int i = 0; i < n; i++) {
        kiln_text words = {0};
        if (v->choose) v->choose(handle, i);
        OK(f, f->t->fill(f->d, f->b[2], 0, 8192 * 4, 0x7fc00000u, &f->e));
        OK(f, f->t->begin(f->d, 0, &f->e));
        OK(f, v->run(handle, f->b[0], f->b[1], f->b[2], &f->e));
        OK(f, f->t->end(f->d, 0, &f->e));
        assert_true(f->t->seconds(f->d, 0, &f->e) > 0);
        check_vendor_result(f, g, x, x + 100);
        v->describe(handle, &words);
        assert_true(words.size > 0);
        kiln_text_free(&words);
    }
}

static void check_product(fixture *f, const kiln_vendor *v, const kiln_gemm *g) {
    static float x[8192];
    void *handle = v->open(f->d, g, &f->e);
    if (!handle) {
        print_message("SKIPPED %s: %s\n", v->name, f->e.text);
        assert_true(f->e.status < 0 && f->e.text[0]);
        return;
    }
    for (int i = 0; i < 8192; i++) x[i] = (float)((i * 7919) % 17 - 8);
    OK(f, f->t->write(f->d, f->b[0], 0, x, sizeof x, &f->e));
    OK(f, f->t->write(f->d, f->b[1], 0, x + 100, sizeof x - 400, &f->e));
    OK(f, f->t->fill(f->d, f->b[2], 0, sizeof x, 0x7fc00000u, &f->e));
    OK(f, v->prepare(handle, f->b[0], f->b[1], f->b[2], &f->e));
    check_choices(f, v, handle, g, x);
    v->close(handle);
}

static void check_vendor(fixture *f, const kiln_vendor *v) {
    kiln_gemm strange = vendor_problem(false, false, 1);
    strange.a = KILN_I8; /* i8 x f32: nobody has it */
    assert_null(v->open(f->d, &strange, &f->e));
    assert_true(f->e.status < 0 && f->e.text[0]);
    for (int i = 0; i < 4; i++) {
        /* CLBlast builds kernels for each kind of call, seconds of them on PoCL: fewer kinds */
        bool slow = f->t->caps(f->d)->shared_host && !v->host;
        if (slow && (i == 1 || i == 2)) continue;
        kiln_gemm g = vendor_problem(i & 1, i >> 1, slow ? 1 : 1 + i % 3);
        check_product(f, v, &g);
    }
}

static void test_vendors(void **state) {
    (void)state;
    for (int i = 0; kiln_vendors[i].vendor; i++) {
        fixture f = {.t = kiln_target_find(kiln_vendors[i].target)};
        assert_non_null(f.t);
        f.d = f.t->open(0, NULL, &f.e);
        if (!f.d) {
            print_message("SKIPPED %s: %s\n", kiln_vendors[i].vendor->name, f.e.text);
            continue;
        }
        for (int j = 0; j < 3; j++) assert_non_null(f.b[j] = f.t->alloc(f.d, 8192 * 4, &f.e));
        check_vendor(&f, kiln_vendors[i].vendor);
        for (int j = 0; j < 3; j++) f.t->release(f.d, f.b[j]);
        f.t->close(f.d);
    }
}

/* ---------------------------------------------------------------- cuda's compiler without a GPU */

static void compile_for(const kiln_target *t, const char *arch, int number) {
    kiln_caps caps = {.target = "cuda",
                      .arch_number = number,
                      .max_threads = 1024,
                      .warp = 32,
                      .shared_bytes = 99 << 10};
    snprintf(caps.arch, sizeof caps.arch, "%s", arch);
    char *source = with_dialect(t, body);
    kiln_compile_request r = {.source = source, .ptx_arch = "compute_80"};
    kiln_blob blob = {0}, ptx = {0};
    kiln_text log = {0};
    kiln_error e = {0};
    int rc = t->compile(&caps, &r, &blob, &ptx, &log, &e);
    if (rc == KILN_NO_DEVICE) {
        print_message("SKIPPED cuda compiler: %s\n", e.text);
        free(source);
        skip();
    }
    if (rc) print_error("%s\n%s\n", e.text, kiln_text_get(&log));
    assert_int_equal(rc, 0);
    assert_memory_equal(blob.data, "\177ELF", 4);
    assert_string_equal(blob.kind, "cubin");
    assert_non_null(strstr(ptx.data, ".target sm_80"));
    assert_string_equal(ptx.kind, "ptx");
    assert_non_null(strstr(kiln_text_get(&log), "registers"));
    free(blob.data);
    free(ptx.data);
    free(source);
    source = with_dialect(t, conversions);
    r = (kiln_compile_request){.source = source};
    rc = t->compile(&caps, &r, &blob, NULL, &log, &e);
    if (rc) print_error("%s\n%s\n", e.text, kiln_text_get(&log));
    assert_int_equal(rc, 0);
    free(blob.data);
    free(source);
    source = with_dialect(t, "KERNEL(8, 1, 1) broken(float *x) { x[0] = nonsense; }\n");
    r = (kiln_compile_request){.source = source};
    assert_int_equal(t->compile(&caps, &r, &blob, NULL, &log, &e), KILN_COMPILE);
    assert_non_null(strstr(kiln_text_get(&log), "nonsense"));
    assert_non_null(strstr(e.text, "nonsense"));
    free(source);
    kiln_text_free(&log);
}

static void test_cuda_compiles_without_gpu(void **state) {
    (void)state;
    const kiln_target *t = kiln_target_find("cuda");
    assert_non_null(t);
    compile_for(t, "sm_80", 80);
    compile_for(t, "sm_90a", 90);
}

/* ---------------------------------------------------------------- OpenCL's own */

static const kiln_target *opencl_or_skip(kiln_caps *caps) {
    const kiln_target *t = kiln_target_find("opencl");
    kiln_error e = {0};
    assert_non_null(t);
    if (t->devices(caps, 1, &e)) return t;
    print_message("SKIPPED opencl: %s\n", e.text);
    skip();
    return NULL;
}

/* An application's own context and queue: no profiling there, so the host's clock times. */
static void test_opencl_attach(void **state) {
    (void)state;
    kiln_caps caps;
    const kiln_target *t = opencl_or_skip(&caps);
    cl_platform_id platform;
    cl_device_id id;
    assert_int_equal(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
    assert_int_equal(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &id, NULL), CL_SUCCESS);
    cl_context context = clCreateContext(NULL, 1, &id, NULL, NULL, NULL);
    cl_command_queue queue = clCreateCommandQueue(context, id, 0, NULL);
    kiln_attach a = {.context = context, .device = id, .stream = queue, .attached = true};
    fixture f = {.t = t};
    f.d = t->open(0, &a, &f.e);
    assert_non_null(f.d);
    assert_ptr_equal(t->stream(f.d), queue);
    f.caps = *t->caps(f.d);
    assert_false(f.caps.events);
    make_bindings(&f);
    check_programs(&f);
    drop_bindings(&f);
    t->close(f.d);
    assert_int_equal(clReleaseCommandQueue(queue), CL_SUCCESS);
    assert_int_equal(clReleaseContext(context), CL_SUCCESS);
}

/* Source text stands in for a binary where a driver gives none. */
static void test_opencl_source(void **state) {
    (void)state;
    fixture f = {0};
    f.t = opencl_or_skip(&f.caps);
    f.d = f.t->open(0, NULL, &f.e);
    assert_non_null(f.d);
    make_bindings(&f);
    kiln_blob blob = {.data = with_dialect(f.t, body)};
    blob.size = strlen(blob.data);
    check_module(&f, &blob, false);
    free(blob.data);
    drop_bindings(&f);
    f.t->close(f.d);
}

/* ---- drivers that fail: entries of the driver's table replaced, then restored */

static cl_mem no_buffer(cl_context c, cl_bitfield flags, size_t n, void *host, cl_int *rc) {
    (void)c, (void)flags, (void)n, (void)host;
    *rc = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return NULL;
}

static cl_int out_of_resources(cl_command_queue q) {
    (void)q;
    return CL_OUT_OF_RESOURCES;
}

static cl_int zero_stamp(cl_event e, cl_uint what, size_t size, void *out, size_t *n) {
    (void)e, (void)what, (void)n;
    memset(out, 0, size);
    return CL_SUCCESS;
}

static cl_int no_info(cl_program p, cl_uint what, size_t size, void *out, size_t *n) {
    (void)p, (void)what, (void)size, (void)out, (void)n;
    return CL_INVALID_VALUE;
}

static void test_opencl_failing_driver(void **state) {
    (void)state;
    fixture f = {0};
    f.t = opencl_or_skip(&f.caps);
    opencl_api *cl = kiln_opencl_api(&f.e), real = *cl;
    cl->clGetEventProfilingInfo = zero_stamp;
    f.d = f.t->open(0, NULL, &f.e);
    assert_non_null(f.d);
    assert_false(f.t->caps(f.d)->events);
    make_bindings(&f);
    cl->clCreateBuffer = no_buffer;
    assert_null(f.t->alloc(f.d, 64, &f.e));
    assert_int_equal(f.e.status, KILN_NO_MEMORY);
    cl->clCreateBuffer = real.clCreateBuffer;
    cl->clGetProgramInfo = no_info; /* then source is kept, and timing runs on the host's clock */
    check_programs(&f);
    cl->clFinish = out_of_resources;
    assert_true(f.t->sync(f.d, &f.e) < 0);
    assert_non_null(strstr(f.e.text, "CL_OUT_OF_RESOURCES"));
    *cl = real;
    drop_bindings(&f);
    f.t->close(f.d);
}

/* PoCL 3.1 leaks a few bytes of its own; the address sanitizer asks here. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libpocl"; }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_device),
        cmocka_unit_test(test_opencl_attach),
        cmocka_unit_test(test_opencl_source),
        cmocka_unit_test(test_opencl_failing_driver),
        cmocka_unit_test(test_cuda_compiles_without_gpu),
        cmocka_unit_test(test_vendors),
    };
    return cmocka_run_group_tests_name("targets", tests, NULL, NULL);
}
