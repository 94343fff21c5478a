/* The dialects' conversions of e4m3 and e5m2, one element and many at once, against kernels/type.h:
 * all 256 codes to floats, and floats to codes: every code, the middle between two, their
 * neighbours, both ends of the ranges and random bits. On the first OpenCL device; the same source
 * compiles for CUDA, with the conversions of sm_89 and without. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "targets/target.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CODES = 256, FLOATS = 1 << 16 };

static const kiln_target *target;
static kiln_device *device;
static kiln_module *module;
static kiln_caps caps;
static uint64_t seed = 1;

static const int widths[] = {1, 2, 4, 8, 16};
static const kiln_type types[] = {KILN_E4M3, KILN_E5M2};

/* get_T_W: codes to floats; put_T_W: floats to codes. W 0: READ and WRITE. */
static const char body[] =
    "#define BOTH(T, W)                                                                        \n"
    "KERNEL(16, 1, 1) get_##T##_##W(GLOBAL const STORAGE(T) *p, GLOBAL float *to) {            \n"
    "    const i64 i = (BLOCK(0) * (i64)16 + THREAD(0)) * W;                                   \n"
    "    float x[W];                                                                           \n"
    "    READ_N(T, W, p, i, x);                                                                \n"
    "    for (int j = 0; j < W; j++) to[i + j] = x[j];                                         \n"
    "    READ_F(T, W, 1, p, i, x);                                                             \n"
    "    for (int j = 0; j < W; j++)                                                           \n"
    "        if (x[j] != to[i + j] && x[j] == x[j]) to[i + j] = 12345.0f;                      \n"
    "}                                                                                         \n"
    "KERNEL(16, 1, 1) put_##T##_##W(GLOBAL const float *p, GLOBAL STORAGE(T) *to) {            \n"
    "    const i64 i = (BLOCK(0) * (i64)16 + THREAD(0)) * W;                                   \n"
    "    float x[W];                                                                           \n"
    "    for (int j = 0; j < W; j++) x[j] = p[i + j];                                          \n"
    "    if (BLOCK(0) % 2) WRITE_N(T, W, to, i, x);                                            \n"
    "    else WRITE_F(T, W, 1, to, i, x);                                                      \n"
    "}\n"
    "#define ONE(T)                                                                            \n"
    "KERNEL(16, 1, 1) get_##T##_0(GLOBAL const STORAGE(T) *p, GLOBAL float *to) {              \n"
    "    const i64 i = BLOCK(0) * (i64)16 + THREAD(0);                                         \n"
    "    to[i] = READ(T, p, i);                                                                \n"
    "}                                                                                         \n"
    "KERNEL(16, 1, 1) put_##T##_0(GLOBAL const float *p, GLOBAL STORAGE(T) *to) {              \n"
    "    const i64 i = BLOCK(0) * (i64)16 + THREAD(0);                                         \n"
    "    WRITE(T, to, i, p[i]);                                                                \n"
    "}\n";

static void make_source(kiln_text *out, const char *dialect) {
    kiln_text_printf(out, "%s\n", kiln_embedded(dialect));
    for (const char *line = body; *line; line = strchr(line, '\n') + 1) {
        bool macro = strncmp(line, "}\n", 2) != 0;
        int n = (int)strcspn(line, "\n");
        kiln_text_printf(out, "%.*s%s\n", n, line, macro ? "\\" : "");
    }
    for (int t = 0; t < 2; t++) {
        kiln_text_printf(out, "ONE(%s)\n", kiln_type_name(types[t]));
        for (int w = 0; w < 5; w++)
            kiln_text_printf(out, "BOTH(%s, %d)\n", kiln_type_name(types[t]), widths[w]);
    }
}

/* n elements through the entry; in and out are of different sizes. */
static void run(const char *what, kiln_type t, int width, int n, const void *in, int64_t in_bytes,
                void *out, int64_t out_bytes) {
    char entry[40];
    kiln_error e = {0};
    snprintf(entry, sizeof entry, "%s_%s_%d", what, kiln_type_name(t), width);
    kiln_kernel *k = target->kernel(device, module, entry, &e);
    if (!k) fail_msg("%s", e.text);
    kiln_buffer b[2] = {target->alloc(device, in_bytes, &e), target->alloc(device, out_bytes, &e)};
    kiln_launch l = {.grid = {(uint32_t)(n / 16 / (width ? width : 1)), 1, 1},
                     .block = {16, 1, 1},
                     .n_args = 2,
                     .arg = {{.kind = KILN_ARG_OPERAND}, {.kind = KILN_ARG_OPERAND, .index = 1}}};
    if (!b[0] || !b[1] || target->write(device, b[0], 0, in, in_bytes, &e) ||
        target->launch(device, k, &l, &(kiln_bindings){.operand = b}, NULL, &e) ||
        target->sync(device, &e) || target->read(device, out, b[1], 0, out_bytes, &e))
        fail_msg("%s: %s", entry, e.text);
    for (int i = 0; i < 2; i++) target->release(device, b[i]);
}

static void every_code_is_read(void **state) {
    (void)state;
    uint8_t code[CODES];
    float got[CODES];
    for (int i = 0; i < CODES; i++) code[i] = (uint8_t)i;
    for (int t = 0; t < 2; t++)
        for (int w = -1; w < 5; w++) {
            int width = w < 0 ? 0 : widths[w];
            run("get", types[t], width, CODES, code, sizeof code, got, sizeof got);
            for (int i = 0; i < CODES; i++) {
                double want = kiln_type_read(types[t], &code[i]);
                if (isnan(want) ? !isnan(got[i])
                                : (double)got[i] != want || !signbit(got[i]) != !signbit(want))
                    fail_msg("%s 0x%02x, %d at once: %g, not %g", kiln_type_name(types[t]), i,
                             width, (double)got[i], want);
            }
        }
}

/* Around every code and every middle of two codes, then random bits. */
static void fill_floats(float *x, kiln_type t) {
    int n = 0;
    for (int i = 0; i < CODES - 1; i++) {
        uint8_t low = (uint8_t)i, high = (uint8_t)(i + 1);
        float a = (float)kiln_type_read(t, &low), b = (float)kiln_type_read(t, &high);
        const float at[] = {a, b, (a + b) / 2, a * 1.0625f};
        for (int j = 0; j < 4; j++) {
            x[n++] = at[j];
            x[n++] = nextafterf(at[j], INFINITY);
            x[n++] = nextafterf(at[j], -INFINITY);
        }
    }
    static const float ends[] = {448,   464,   465,   479.9f, 480,    1e9f,     57344, 61440,
                                 61441, 65536, 3e38f, 1e-45f, 1e-38f, INFINITY, NAN,   0};
    for (int i = 0; i < 32; i++) x[n++] = i % 2 ? ends[i / 2] : -ends[i / 2];
    for (int i = 0; n < FLOATS; i++) { /* half of them where the types have their numbers */
        uint32_t bits = (uint32_t)kiln_random64(seed, (uint64_t)i);
        if (i % 2) bits = (bits & 0x80ffffff) | ((106 + (bits >> 24) % 40) << 23);
        memcpy(&x[n++], &bits, sizeof bits);
    }
}

static void floats_are_rounded(void **state) {
    (void)state;
    float *x = malloc(FLOATS * sizeof *x);
    uint8_t *got = malloc(FLOATS), want;
    for (int t = 0; t < 2; t++) {
        fill_floats(x, types[t]);
        for (int w = -1; w < 5; w++) {
            int width = w < 0 ? 0 : widths[w];
            memset(got, 0xaa, FLOATS);
            run("put", types[t], width, FLOATS, x, FLOATS * 4, got, FLOATS);
            for (int i = 0; i < FLOATS; i++) {
                kiln_type_write(types[t], &want, x[i]);
                bool nan = isnan(x[i]) && isnan(kiln_type_read(types[t], &got[i]));
                if (got[i] != want && !nan)
                    fail_msg("%a as %s, %d at once: 0x%02x, not 0x%02x (KILN_TEST_SEED=%llu)",
                             (double)x[i], kiln_type_name(types[t]), width, got[i], want,
                             (unsigned long long)seed);
            }
        }
    }
    free(x), free(got);
}

static void compiles_for_cuda(void **state) {
    (void)state;
    static const struct {
        const char *arch;
        int number;
    } archs[] = {{"sm_80", 80}, {"sm_89", 89}, {"sm_90a", 90}};
    const kiln_target *cuda = kiln_target_find("cuda");
    if (!cuda) skip();
    kiln_text source = {0};
    make_source(&source, "targets/cuda/dialect.h");
    for (int i = 0; i < 3; i++) {
        kiln_caps c = {.target = "cuda", .kind = KILN_DEVICE_GPU, .arch_number = archs[i].number};
        kiln_compile_request request = {.source = kiln_text_get(&source)};
        kiln_text log = {0};
        kiln_blob blob = {0}, ptx = {0};
        kiln_error e = {0};
        strcpy(c.arch, archs[i].arch);
        int status = cuda->compile(&c, &request, &blob, &ptx, &log, &e);
        if (status == KILN_COMPILE)
            fail_msg("%s: %s\n%.2000s", c.arch, e.text, kiln_text_get(&log));
        if (status) print_message("SKIPPED %s: %s\n", c.arch, e.text);
        free(blob.data), free(ptx.data);
        kiln_text_free(&log);
    }
    kiln_text_free(&source);
}

static int open_device(void **state) {
    (void)state;
    kiln_error e = {0};
    const char *given = getenv("KILN_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 10);
    printf("seed %llu (KILN_TEST_SEED=%llu repeats it)\n", (unsigned long long)seed,
           (unsigned long long)seed);
    target = kiln_target_find("opencl");
    if (!target || target->devices(&caps, 1, &e) < 1 || !(device = target->open(0, NULL, &e))) {
        printf("no OpenCL device: %s\n", e.text);
        return -1;
    }
    kiln_text source = {0};
    make_source(&source, "targets/opencl/dialect.h");
    module = target->load(device, kiln_text_get(&source), source.size, &e);
    if (!module) printf("%s\n", e.text);
    kiln_text_free(&source);
    return module ? 0 : -1;
}

static int close_device(void **state) {
    (void)state;
    target->unload(device, module);
    target->close(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_is_read),
        cmocka_unit_test(floats_are_rounded),
        cmocka_unit_test(compiles_for_cuda),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
