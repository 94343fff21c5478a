#include "base/hash.h"
#include "kernels/type.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void names_read_back(void **state) {
    (void)state;
    for (int t = KILN_NONE + 1; t < KILN_TYPE_COUNT; t++) {
        const char *name = kiln_type_name((kiln_type)t);
        assert_int_equal(kiln_type_parse(name, strlen(name)), t);
        assert_true(kiln_type_bytes((kiln_type)t) > 0);
    }
    assert_int_equal(kiln_type_parse("f3", 2), KILN_TYPE_COUNT);
    assert_int_equal(kiln_type_parse("f322", 4), KILN_TYPE_COUNT);
    assert_int_equal(kiln_type_parse("none", 4), KILN_TYPE_COUNT);
    assert_int_equal(kiln_type_parse("", 0), KILN_TYPE_COUNT);
}

/* tf32 here: the 19 bits that count, which lie above 13 zeros. */
static double value_of(kiln_type t, uint32_t bits) {
    uint32_t word = bits << 13;
    uint16_t wide = (uint16_t)bits;
    uint8_t narrow = (uint8_t)bits;
    if (t == KILN_TF32) return kiln_type_read(t, &word);
    return kiln_type_bytes(t) == 2 ? kiln_type_read(t, &wide) : kiln_type_read(t, &narrow);
}

static uint32_t bits_of(kiln_type t, double value) {
    uint8_t stored[4] = {0};
    uint32_t bits = 0;
    kiln_type_write(t, stored, value);
    for (int i = (int)kiln_type_bytes(t); i--;) bits = bits << 8 | stored[i];
    if (t != KILN_TF32) return bits;
    assert_int_equal(bits & 0x1fff, 0);
    return bits >> 13;
}

static const struct {
    kiln_type type;
    uint32_t patterns, top; /* how many there are; the largest finite one */
} narrow[] = {{KILN_F16, 1 << 16, 0x7bff},
              {KILN_BF16, 1 << 16, 0x7f7f},
              {KILN_E4M3, 1 << 8, 0x7e},
              {KILN_E5M2, 1 << 8, 0x7b},
              {KILN_TF32, 1 << 19, 0x3fbff}};
enum { NARROW = sizeof narrow / sizeof *narrow };

/* e5m2 has infinities, which nothing writes. */
static void every_pattern_reads_back(void **state) {
    (void)state;
    for (int i = 0; i < NARROW; i++)
        for (uint32_t bits = 0; bits < narrow[i].patterns; bits++) {
            kiln_type t = narrow[i].type;
            double value = value_of(t, bits);
            if (isnan(value))
                assert_true(isnan(value_of(t, bits_of(t, value))));
            else if (t == KILN_E5M2 && isinf(value))
                assert_int_equal(bits_of(t, value), bits - 1);
            else
                assert_int_equal(bits_of(t, value), bits);
        }
}

static void known_values(void **state) {
    (void)state;
    assert_true(value_of(KILN_F16, 0x3c00) == 1);
    assert_true(value_of(KILN_F16, 0x7bff) == 65504);
    assert_true(value_of(KILN_F16, 0x0001) == 0x1p-24);
    assert_true(value_of(KILN_BF16, 0x4049) == 3.140625);
    assert_true(value_of(KILN_E4M3, 0x7e) == 448);
    assert_true(isnan(value_of(KILN_E4M3, 0x7f)));
    assert_true(value_of(KILN_E5M2, 0x7b) == 57344);
    assert_true(isinf(value_of(KILN_E5M2, 0x7c)));
}

/* Adjacent values a < b of one sign: everything between goes to the nearer, the middle to even. */
static void rounds_to_nearest_even(void **state) {
    (void)state;
    for (int i = 0; i < NARROW; i++)
        for (uint32_t bits = 0; bits < narrow[i].top; bits++) {
            kiln_type t = narrow[i].type;
            double a = value_of(t, bits), b = value_of(t, bits + 1), middle = (a + b) / 2;
            assert_int_equal(bits_of(t, middle), bits + (bits & 1));
            assert_int_equal(bits_of(t, nextafter(middle, a)), bits);
            assert_int_equal(bits_of(t, nextafter(middle, b)), bits + 1);
        }
}

static void overflow_and_nan(void **state) {
    (void)state;
    assert_int_equal(bits_of(KILN_F16, 65519.9), 0x7bff);
    assert_int_equal(bits_of(KILN_F16, 65520), 0x7c00);
    assert_int_equal(bits_of(KILN_F16, -1e300), 0xfc00);
    assert_true(isinf(value_of(KILN_BF16, bits_of(KILN_BF16, INFINITY))));
    assert_true(isnan(value_of(KILN_BF16, bits_of(KILN_BF16, NAN))));
}

/* Like the conversions of GPUs: nothing but NaN becomes infinity or NaN. */
static void eight_bit_floats_saturate(void **state) {
    (void)state;
    static const struct {
        kiln_type type;
        uint32_t top;
        double most;
    } cases[] = {{KILN_E4M3, 0x7e, 448}, {KILN_E5M2, 0x7b, 57344}};
    for (int i = 0; i < 2; i++) {
        kiln_type t = cases[i].type;
        const double beyond[] = {1.03 * cases[i].most, 1.3 * cases[i].most, 1e300, INFINITY};
        assert_true(value_of(t, cases[i].top) == cases[i].most);
        for (int j = 0; j < 4; j++) {
            assert_int_equal(bits_of(t, beyond[j]), cases[i].top);
            assert_int_equal(bits_of(t, -beyond[j]), cases[i].top | 0x80);
        }
        assert_true(isnan(value_of(t, bits_of(t, NAN))));
    }
}

static void tf32_is_a_rounded_float(void **state) {
    (void)state;
    float stored = 0;
    kiln_type_write(KILN_TF32, &stored, 1 + 0x1p-11 + 0x1p-20);
    assert_true(stored == 1 + 0x1p-10f);
    kiln_type_write(KILN_TF32, &stored, -3e38);
    assert_true(stored == -0x1.c38p127f);
    kiln_type_write(KILN_TF32, &stored, 3.4028e38);
    assert_true(isinf(stored));
    stored = 0x1.fffffep0f; /* reading takes the float as it is */
    assert_true(kiln_type_read(KILN_TF32, &stored) == 0x1.fffffep0);
}

static void integers_saturate(void **state) {
    (void)state;
    int8_t i8;
    int32_t i32;
    static const struct {
        double from;
        int i8, i32;
    } cases[] = {{2.5, 2, 2},
                 {3.5, 4, 4},
                 {-0.5, 0, 0},
                 {200, 127, 200},
                 {-200, -128, -200},
                 {1e30, 127, INT32_MAX},
                 {-INFINITY, -128, INT32_MIN},
                 {NAN, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln_type_write(KILN_I8, &i8, cases[i].from);
        kiln_type_write(KILN_I32, &i32, cases[i].from);
        assert_int_equal(i8, cases[i].i8);
        assert_int_equal(i32, cases[i].i32);
        assert_true(kiln_type_read(KILN_I8, &i8) == cases[i].i8);
        assert_true(kiln_type_read(KILN_I32, &i32) == cases[i].i32);
    }
}

static void roundoff_holds(void **state) {
    (void)state;
    const uint64_t seed = 7;
    for (int t = KILN_F64; t < KILN_TYPE_COUNT; t++)
        for (uint64_t i = 0; i < 10000; i++) {
            double x = 1 + kiln_random_unit(seed, i), stored;
            kiln_type_write((kiln_type)t, &stored, x);
            double error = fabs(kiln_type_read((kiln_type)t, &stored) - x);
            if (kiln_type_roundoff((kiln_type)t) == 0) break; /* integers */
            if (error > kiln_type_roundoff((kiln_type)t) * x)
                fail_msg("%s of %.17g (seed %d, element %d)", kiln_type_name((kiln_type)t), x,
                         (int)seed, (int)i);
        }
}

static void smallest_numbers_and_range(void **state) {
    (void)state;
    const struct {
        kiln_type type;
        double most, smallest;
    } of[] = {{KILN_F16, INFINITY, 0x1p-24}, {KILN_E4M3, 448, 0x1p-9}, {KILN_E5M2, 57344, 0x1p-16}};
    for (int i = 0; i < 3; i++) {
        uint8_t room[8];
        double worst = 0;
        for (double x = 0; x <= 3 * of[i].smallest; x += of[i].smallest / 64) {
            kiln_type_write(of[i].type, room, x);
            worst = fmax(worst, fabs(kiln_type_read(of[i].type, room) - x));
        }
        assert_true(worst == kiln_type_smallest_error(of[i].type));
        assert_true(kiln_type_saturate(of[i].type, 1e9) == fmin(1e9, of[i].most));
        assert_true(kiln_type_saturate(of[i].type, -1e9) == -fmin(1e9, of[i].most));
        assert_true(kiln_type_saturate(of[i].type, 1.7) == 1.7);
    }
    assert_true(kiln_type_saturate(KILN_I8, -1000) == -128);
    assert_true(kiln_type_saturate(KILN_I8, INFINITY) == 127);
    assert_true(isinf(kiln_type_saturate(KILN_F32, INFINITY)));
    assert_true(isnan(kiln_type_saturate(KILN_E4M3, NAN)));
}

/* Every pattern of the narrow types, and any bits of the others; from odd addresses, too. */
static void many_are_read_like_one(void **state) {
    (void)state;
    enum { N = 1 << 16 };
    static uint8_t room[8 * N + 1];
    static double got[N];
    for (int t = KILN_NONE + 1; t < KILN_TYPE_COUNT; t++) {
        size_t bytes = kiln_type_bytes((kiln_type)t);
        for (int odd = 0; odd < 2; odd++) {
            for (uint32_t i = 0; i < N; i++) {
                uint64_t bits = bytes > 2 ? kiln_random64(3, i) : i;
                memcpy(room + odd + i * bytes, &bits, bytes);
            }
            kiln_type_read_many((kiln_type)t, room + odd, N, got);
            for (size_t i = 0; i < N; i++) {
                double want = kiln_type_read((kiln_type)t, room + odd + i * bytes);
                bool same = isnan(want) ? isnan(got[i])
                                        : got[i] == want && signbit(got[i]) == signbit(want);
                if (!same)
                    fail_msg("%s: element %zu is %a, should be %a", kiln_type_name((kiln_type)t), i,
                             got[i], want);
            }
        }
    }
    got[0] = 7;
    kiln_type_read_many(KILN_F16, room, 0, got);
    assert_true(got[0] == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_numbers_and_range),
        cmocka_unit_test(names_read_back),
        cmocka_unit_test(every_pattern_reads_back),
        cmocka_unit_test(known_values),
        cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(overflow_and_nan),
        cmocka_unit_test(eight_bit_floats_saturate),
        cmocka_unit_test(tf32_is_a_rounded_float),
        cmocka_unit_test(integers_saturate),
        cmocka_unit_test(roundoff_holds),
        cmocka_unit_test(many_are_read_like_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
