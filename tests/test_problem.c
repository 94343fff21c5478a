/* Problems through the real families: what a text means, its canonical form, what is refused. */
#include "base/hash.h"
#include "kernels/family.h"
#include "kernels/input.h"
#include "kernels/preset.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static kiln_problem problem_of(const char *text) {
    kiln_problem p;
    kiln_error e = {0};
    if (kiln_problem_parse(&p, text, &e)) fail_msg("'%s': %s", text, e.text);
    return p;
}

/* Prints as `canonical` (NULL: whatever it is), which reads back as the same problem. */
static void expect_print(const char *text, const char *canonical) {
    kiln_problem p = problem_of(text);
    kiln_text out = {0}, again = {0};
    kiln_problem_print(&p, &out);
    if (canonical) assert_string_equal(kiln_text_get(&out), canonical);
    kiln_problem q = problem_of(kiln_text_get(&out));
    assert_memory_equal(&p, &q, sizeof p);
    kiln_problem_print(&q, &again);
    assert_string_equal(kiln_text_get(&again), kiln_text_get(&out));
    kiln_text_free(&out);
    kiln_text_free(&again);
}

static void expect_error(const char *text, const char *part) {
    kiln_problem p;
    kiln_error e = {0};
    int status = kiln_problem_parse(&p, text, &e);
    if (status >= 0) fail_msg("'%s' was read", text);
    assert_int_equal(status, e.status);
    if (!strstr(e.text, part)) fail_msg("'%s': '%s' lacks '%s'", text, e.text, part);
}

static void expect_operands(const char *text, const char *names) {
    kiln_problem p = problem_of(text);
    kiln_text out = {0};
    for (int i = 0; i < p.n_operands; i++)
        kiln_text_printf(&out, "%s%s:%s%s", i ? " " : "", p.operand[i].name,
                         p.operand[i].scalar ? "scalar" : kiln_type_name(p.operand[i].type),
                         p.operand[i].output ? "!" : "");
    assert_string_equal(kiln_text_get(&out), names);
    kiln_text_free(&out);
}

/* ---- canonical texts */

static void matmul_texts(void **state) {
    (void)state;
    expect_print("matmul m=4 n=5 k=6 a=bf16 b=bf16 out=bf16",
                 "matmul m=4 n=5 k=6 a=bf16 b=bf16 out=bf16");
    expect_print(" matmul  k=6 m=4 n=5\ttb=1 ta=0 batch=1 type=f16:out=acc ;",
                 "matmul m=4 n=5 k=6 a=f16 b=f16 out=f16 tb=1");
    expect_print(
        "matmul m=4 n=5 k=6 a=bf16 b=bf16 out=bf16 tb=1 : out = gelu(acc + bias[n]) + res[m,n]",
        "matmul m=4 n=5 k=6 a=bf16 b=bf16 out=bf16 tb=1 : out = gelu(acc + bias[n]) + res[m,n]");
    expect_print(
        "matmul m=4 n=5 k=6 a=f32 b=f32 out=f32 bias=f16 : out = acc * scale[m] + bias[n]",
        "matmul m=4 n=5 k=6 a=f32 b=f32 out=f32 bias=f16 : out = acc * scale[m] + bias[n]");
    expect_print("matmul m=4 n=5 k=6 a=f32 b=f32 out=f32 res=f32 : out = acc + res[m,n]",
                 "matmul m=4 n=5 k=6 a=f32 b=f32 out=f32 : out = acc + res[m,n]");
    expect_print("matmul m=4 n=5 k=6 type=f32 alpha=scalar : out = alpha * acc; aux[m,n] = out * 2",
                 "matmul m=4 n=5 k=6 a=f32 b=f32 out=f32 alpha=scalar : out = alpha * acc; "
                 "aux[m,n] = out * 2");
    expect_print("matmul m=4 n=5 k=6 type=bf16 out=e4m3 : amax[m] = max(abs(acc)); out = acc * "
                 "inv[m]",
                 "matmul m=4 n=5 k=6 a=bf16 b=bf16 out=e4m3 amax=f32 inv=bf16 : amax[m] = "
                 "max(abs(acc)); out = acc * inv[m]");
    expect_print("matmul m=4 n=5 k=6 : low[m] = min(acc); high[m,n] = acc; out = acc",
                 "matmul m=4 n=5 k=6 a=f32 b=f32 out=f32 : low[m] = min(acc); high[m,n] = acc; "
                 "out = acc");
    expect_print("matmul m=4 n=5 k=6 type=tf32 : out = acc + bias[n]",
                 "matmul m=4 n=5 k=6 a=tf32 b=tf32 out=f32 : out = acc + bias[n]");
    expect_print("matmul m=4 n=5 k=6 type=e4m3 b=e5m2 tb=1 : out = acc + bias[n]",
                 "matmul m=4 n=5 k=6 a=e4m3 b=e5m2 out=bf16 tb=1 : out = acc + bias[n]");
    expect_print("matmul m=4 n=5 k=6 a=e5m2 out=e4m3 bias=f32 lda=8 fast=1 : out = acc + bias[n]",
                 "matmul m=4 n=5 k=6 a=e5m2 b=e5m2 out=e4m3 fast=1 lda=8 bias=f32 : "
                 "out = acc + bias[n]");
}

static void map_texts(void **state) {
    (void)state;
    expect_print("map rows=3 cols=4 x=bf16 y=bf16 w=f32 out=bf16 : h=x+y; out=h*w[col]",
                 "map rows=3 cols=4 x=bf16 y=bf16 w=f32 out=bf16 : h = x + y; out = h * w[col]");
    expect_print("map rows=3 cols=4 type=f16 : out = x * y",
                 "map rows=3 cols=4 x=f16 y=f16 out=f16 "
                 ": out = x * y");
    expect_print("map rows=3 cols=4 type=f16 y=f32 : out[row,col] = x * y",
                 "map rows=3 cols=4 y=f32 x=f16 out=f16 : out = x * y");
    expect_print("map rows=3 cols=4 x=f32 out=f32 : out[row] = sum(x)",
                 "map rows=3 cols=4 x=f32 out=f32 : out[row] = sum(x)");
    expect_print("map rows=3 cols=4 x=f32 s=scalar h=f32 out=f32 : h = x * s; out = h + 1",
                 "map rows=3 cols=4 x=f32 s=scalar h=f32 out=f32 : h = x * s; out = h + 1");
}

static void presets_are_texts(void **state) {
    (void)state;
    expect_print("softmax rows=4 cols=8 type=f16",
                 "map rows=4 cols=8 x=f16 out=f16 : e = exp(x - max(x)); out = e / sum(e)");
    expect_print("rmsnorm_residual rows=4 cols=8 w=f32 type=bf16",
                 "map rows=4 cols=8 x=bf16 y=bf16 w=f32 h=bf16 out=bf16 : h = x + y; "
                 "out = h * rsqrt(mean(h * h) + 1e-5) * w[col]");
    for (const kiln_preset *p = kiln_presets; p->name; p++) {
        char text[100];
        snprintf(text, sizeof text, "%s rows=7 cols=9 type=bf16", p->name);
        expect_print(text, NULL);
        snprintf(text, sizeof text, "%s rows=7 cols=9", p->name);
        expect_print(text, NULL);
    }
    expect_error("softmax rows=4 cols=8 : out = x", "has its own statements");
    expect_error("softmax rows=4 cols=8 tpye=f16", "tpye is declared, but no statement uses it");
}

/* Another accumulator is another problem: its kernels are never shared. */
static void fast_sums_are_compiled(void **state) {
    (void)state;
    kiln_problem exact = problem_of("matmul m=4 n=5 k=6 type=e4m3");
    kiln_problem fast = problem_of("matmul m=4 n=5 k=6 type=e4m3 fast=1");
    kiln_text a = {0}, b = {0};
    kiln_problem_print_kernel_key(&exact, &a);
    kiln_problem_print_kernel_key(&fast, &b);
    assert_string_equal(kiln_text_get(&a), "matmul a=e4m3 b=e4m3 out=bf16");
    assert_string_equal(kiln_text_get(&b), "matmul a=e4m3 b=e4m3 out=bf16 fast=1");
    kiln_text_free(&a);
    kiln_text_free(&b);
}

static void operands_in_order(void **state) {
    (void)state;
    expect_operands("matmul m=4 n=5 k=6 type=f32 z=scalar bias=f16 : "
                    "out = acc * z + res[m,n] + bias[n]",
                    "a:f32 b:f32 out:f32! z:scalar bias:f16 res:f32");
    expect_operands("matmul m=4 n=5 k=6 type=f32 res=f32 bias=f16 : out = acc + res[m,n] + bias[n]",
                    "a:f32 b:f32 out:f32! bias:f16 res:f32");
    expect_operands("map rows=1 cols=2 out=f32 y=f16 x=i8 : out = x * y", "out:f32! y:f16 x:i8");
    expect_operands("rmsnorm_residual rows=4 cols=8 type=f16 x=f32",
                    "x:f32 y:f16 w:f16 h:f16! out:f16!");
    expect_operands("matmul m=4 n=5 k=6 type=f32 : t = y[m]; out = acc + (z[n] > x[n]) + t",
                    "a:f32 b:f32 out:f32! x:f32 z:f32 y:f32");
    expect_print("matmul m=4 n=5 k=6 type=f32 : t = y[m]; out = acc + (z[n] > x[n]) + t", NULL);
    kiln_problem p = problem_of("layernorm rows=4 cols=8");
    assert_int_equal(p.operand[kiln_problem_operand(&p, "w")].axes, 2);
    assert_int_equal(p.operand[kiln_problem_operand(&p, "w")].rows, 1);
    assert_int_equal(p.operand[kiln_problem_operand(&p, "x")].axes, 3);
    assert_int_equal(kiln_operand_bytes(&p.operand[0]), 4 * 8 * 4);
    assert_int_equal(kiln_problem_operand(&p, "nothing"), -1);
    p = problem_of("row_sum rows=4 cols=8");
    assert_int_equal(p.operand[1].axes, 1);
    assert_int_equal(p.operand[1].cols, 1);
}

static void kernel_key_has_no_sizes(void **state) {
    (void)state;
    kiln_problem p = problem_of("matmul m=4 n=5 k=6 type=f16 tb=1 : out = relu(acc)");
    kiln_problem q = problem_of("matmul m=400 n=1 k=7 batch=3 type=f16 tb=1 : out = relu(acc)");
    kiln_problem r = problem_of("matmul m=4 n=5 k=6 type=f16 : out = relu(acc)");
    kiln_text a = {0}, b = {0}, c = {0};
    kiln_problem_print_kernel_key(&p, &a);
    kiln_problem_print_kernel_key(&q, &b);
    kiln_problem_print_kernel_key(&r, &c);
    assert_string_equal(kiln_text_get(&a), "matmul a=f16 b=f16 out=f16 tb=1 : out = relu(acc)");
    assert_string_equal(kiln_text_get(&a), kiln_text_get(&b));
    assert_string_not_equal(kiln_text_get(&a), kiln_text_get(&c));
    kiln_text_free(&a);
    kiln_text_free(&b);
    kiln_text_free(&c);
}

static void resizes(void **state) {
    (void)state;
    kiln_problem p = problem_of("matmul m=4 n=5 k=6 type=f32"), before = p;
    kiln_error e = {0};
    assert_int_equal(kiln_problem_resize(&p, "m=7  k=1", &e), 0);
    assert_int_equal(kiln_problem_get(&p, "m"), 7);
    assert_int_equal(p.operand[0].rows * p.operand[0].cols, 7);
    kiln_problem q = problem_of("matmul m=7 n=5 k=1 type=f32");
    assert_memory_equal(&p, &q, sizeof p);
    p = before;
    static const char *const wrong[][2] = {
        {"a=f16", "no run-time size"}, {"tb=1", "no run-time size"},
        {"z=1", "no run-time size"},   {"m=x", "no integer"},
        {"m", "no key=value"},         {"m=99999999999999", "outside"},
        {"m=1 m=2", "given twice"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(kiln_problem_resize(&p, wrong[i][0], &e), KILN_BAD_INPUT);
        if (!strstr(e.text, wrong[i][1])) fail_msg("'%s': %s", wrong[i][0], e.text);
        assert_memory_equal(&p, &before, sizeof p);
    }
}

/* ---- what is refused */

static void refuses_bad_keys(void **state) {
    (void)state;
    expect_error("", "the text is empty; begin with one of");
    expect_error(" : out = x", "the text is empty");
    expect_error("matmull m=1", "'matmull' is no family or preset; there are");
    expect_error("matmul", "matmul needs m=NUMBER");
    expect_error("softmax rows=4", "softmax needs cols=NUMBER");
    expect_error("matmul m=4k n=5 k=6", "m=4k is no integer");
    expect_error("matmul m=0 n=5 k=6", "m=0 is outside 1 to");
    expect_error("matmul m=-3 n=5 k=6", "m=-3 is outside");
    expect_error("matmul m=99999999999999999999 n=5 k=6", "is outside");
    expect_error("matmul m=4 n=5 k=6 m=4", "m is given twice");
    expect_error("matmul m=4 n=5 k=6 tb=2", "tb=2 is outside 0 to 1");
    expect_error("matmul m=4 n=5 k=6 a=f31", "a=f31 is no type; types are");
    expect_error("matmul m=4 n=5 k=6 mm=7", "'mm=7' is neither a key of matmul (m n k");
    expect_error("matmul m=4 n=5 k=6 tb", "'tb' is no key=value");
    expect_error("matmul m=4 n=5 k=6 =4", "'' is no name");
    expect_error("matmul m= n=5 k=6", "no value for m");
    expect_error("matmul m=4 n=5 k=6 acc=f32", "is what matmul computes");
    expect_error("matmul m=4 n=5 k=6 bais=f32 : out = acc",
                 "bais is declared, but no statement uses it");
    expect_error("matmul m=4 n=5 k=6 type=f32 bais=f32 : out = acc", "bais is declared, but no");
    expect_error("matmul m=4 n=5 k=6 a\x01=f32", "'a?' is no name");
    expect_error("matmul m=4 n=5 k=6 averyveryverylongname=f32", "is no name");
}

static void refuses_bad_statements(void **state) {
    (void)state;
    expect_error("map rows=1 cols=2 x=f32 out=f32", "map needs statements");
    expect_error("map rows=1 cols=2 x=f32 out=f32 :", "expected a name");
    expect_error("map rows=1 cols=2 x=f32 out=f32 : out = x + y",
                 "'y' is unknown here; known are x");
    expect_error("map rows=1 cols=2 x=f32 : out = x", "'out' has no type; write out=TYPE");
    expect_error("map rows=1 cols=2 x=f32 out=f32 : oot = x", "'oot' is assigned but never used");
    expect_error("map rows=1 cols=2 x=f32 out=f32 : out = x; x = out", "'x' was read as an input");
    expect_error("map rows=1 cols=2 x=f32 out=f32 : out = out + x",
                 "no value before it is assigned");
    expect_error("map rows=1 cols=2 type=f32 : out = x * x[col]", "used with different axes");
    expect_error("map rows=1 cols=2 type=f32 : out[col] = x", "needs every axis");
    expect_error("map rows=1 cols=2 type=f32 : out[row] = x", "one element per row");
    expect_error("map rows=1 cols=2 x=f32 s=scalar out=f32 : out = x * s[col]",
                 "scalar and has no axes");
    expect_error("map rows=1 cols=2 x=f32 s=scalar out=f32 : s = x; out = s", "cannot be assigned");
    expect_error("matmul m=4 n=5 k=6 type=f32 : out = acc + bias", "'bias' is unknown here");
    expect_error("matmul m=4 n=5 k=6 type=f32 bias=f16 : out = acc + bias", "needs its axes");
    expect_error("matmul m=4 n=5 k=6 type=f32 : out = acc + a", "cannot be read in statements");
    expect_error("matmul m=4 n=5 k=6 type=f32 : acc = 1", "cannot be assigned");
    expect_error("matmul m=4 n=5 k=6 type=f32 : out = acc[m]", "stands without axes");
    expect_error("matmul m=4 n=5 k=6 type=f32 : aux[m,n] = acc", "nothing is assigned to 'out'");
    expect_error("matmul m=4 n=5 k=6 type=f32 : out = acc + bias[m,m]", "is no axis here");
    expect_error("map rows=1073741824 cols=1073741824 type=f32 : out = x", "choose smaller sizes");
}

static void bounds_texts(void **state) {
    (void)state;
    char *text = calloc(1, 6000);
    strcpy(text, "map rows=1 cols=2 type=f32 : out = x");
    while (strlen(text) < 4090) strcat(text, " ");
    expect_print(text, "map rows=1 cols=2 x=f32 out=f32 : out = x");
    while (strlen(text) < 4097) strcat(text, " ");
    expect_error(text, "longer than 4096");
    strcpy(text, "map rows=1 cols=2 type=f32 : out = x");
    for (int i = 0; i < 12; i++) sprintf(text + strlen(text), "+y%d", i);
    expect_error(text, "more than 12 operands");
    strcpy(text, "map rows=1 cols=2");
    for (int i = 0; i < 40; i++) sprintf(text + strlen(text), " y%d=f32", i);
    expect_error(text, "more than 33 keys");
    free(text);
}

/* A text means the same under a locale with a decimal comma; there may be none on this machine. */
static void locale_changes_nothing(void **state) {
    (void)state;
    static const char *const comma[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "fr_FR.utf8"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof comma / sizeof *comma && !found; i++)
        found = setlocale(LC_ALL, comma[i]);
    if (!found)
        print_message("no locale with a decimal comma here: checked in the C locale only\n");
    expect_print("map rows=1 cols=2 type=f32 : out = x * 0.25",
                 "map rows=1 cols=2 x=f32 out=f32 : out = x * 0.25");
    setlocale(LC_ALL, "C");
}

/* Bytes of good texts changed, removed and doubled: an error or a problem that reads back. */
static void mutated_texts(void **state) {
    (void)state;
    static const char *const good[] = {"matmul m=4096 n=14336 k=4096 a=bf16 b=bf16 out=bf16 tb=1 : "
                                       "out = gelu(acc + bias[n]) + res[m,n]",
                                       "map rows=16 cols=81 x=bf16 w=bf16 out=bf16 : h = x * "
                                       "-2.5e-3; out = h * rsqrt(mean(h*h) + 1e-5) * w[col]",
                                       "rmsnorm_residual rows=4 cols=8 w=f32 type=bf16"};
    static const char bytes[] = "abhmnxyw01.e-+*/()[],;:= <>";
    const char *given = getenv("KILN_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL), n = 0;
    printf("seed: KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    int read = 0;
    for (int i = 0; i < 20000; i++) {
        char text[256];
        strcpy(text, good[i % 3]);
        for (uint64_t changes = 1 + kiln_random64(seed, n++) % 3; changes--;) {
            size_t at = kiln_random64(seed, n++) % strlen(text);
            char byte = bytes[kiln_random64(seed, n++) % (sizeof bytes - 1)];
            if (kiln_random64(seed, n++) & 1)
                text[at] = byte;
            else
                memmove(text + at, text + at + 1, strlen(text + at));
        }
        kiln_problem p;
        kiln_error e = {0};
        int status = kiln_problem_parse(&p, text, &e);
        if (status < 0 && (!*e.text || e.status != status))
            fail_msg("'%s' fails without words", text);
        if (status == 0) expect_print(text, NULL), read++;
    }
    assert_true(read > 200);
}

/* ---- inputs */

static void inputs_are_a_function(void **state) {
    (void)state;
    kiln_problem p =
        problem_of("map rows=37 cols=53 x=f32 y=bf16 w=i8 out=f32 : out = x * y * w[col]");
    for (int i = 0; i < 3; i++) {
        const kiln_operand *o = &p.operand[i];
        int64_t n = kiln_operand_elements(o);
        char *data = malloc((size_t)kiln_operand_bytes(o)),
             *again = malloc((size_t)kiln_operand_bytes(o));
        double sum = 0, square = 0, scale = o->type == KILN_I8 ? 127 : 1;
        kiln_input_fill(o, 9, i, data);
        kiln_input_fill(o, 9, i, again);
        assert_memory_equal(data, again, (size_t)kiln_operand_bytes(o));
        for (int64_t at = 0; at < n; at++) {
            double v = kiln_type_read(o->type, data + (size_t)at * kiln_type_bytes(o->type));
            assert_true(v >= -scale && v <= scale);
            assert_true(v == kiln_input_element(o, 9, i, at));
            sum += v / scale;
            square += v / scale * (v / scale);
        }
        assert_true(sum / (double)n > -0.3 && sum / (double)n < 0.3);
        assert_true(square / (double)n > 0.2 && square / (double)n < 0.5);
        kiln_input_fill(o, 10, i, again);
        assert_memory_not_equal(data, again, (size_t)kiln_operand_bytes(o));
        free(data);
        free(again);
    }
    assert_true(kiln_input_scalar(1, 2) == (float)kiln_input_scalar(1, 2));
    assert_true(kiln_input_scalar(1, 2) != kiln_input_scalar(1, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_texts),
        cmocka_unit_test(map_texts),
        cmocka_unit_test(presets_are_texts),
        cmocka_unit_test(operands_in_order),
        cmocka_unit_test(fast_sums_are_compiled),
        cmocka_unit_test(kernel_key_has_no_sizes),
        cmocka_unit_test(resizes),
        cmocka_unit_test(refuses_bad_keys),
        cmocka_unit_test(refuses_bad_statements),
        cmocka_unit_test(bounds_texts),
        cmocka_unit_test(locale_changes_nothing),
        cmocka_unit_test(mutated_texts),
        cmocka_unit_test(inputs_are_a_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
