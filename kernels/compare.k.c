/* Compares one output with its reference; kernels/reference.h says when an element is right.
 *
 *      elements   0 1 2 3 4 5 6 7 8 ...     dense index over (batch, row, col)
 *      GPU        a b c a b c a b c         threads a b c: chunk 1, step = all threads
 *      CPU        a a a b b b c c c         step 1, a chunk each
 *
 * Each thread keeps six numbers, each block writes six: no atomics, so equal outputs give equal
 * verdicts. */
#ifndef T
#define T f32                /* the output's type */
#define U_T 5.9604644775390625e-8 /* its unit roundoff, 0.5 (absolute) for integers */
#define SMALLEST 1.2e-38     /* what flushing to zero may cost */
#define LIMIT 3.4028234e38   /* its largest value; infinity is right from here on */
#define SATURATES 0          /* 1: what is out of range becomes LOWEST or LIMIT, never infinity */
#define INTEGER 0
#define THREADS 128
#define ENTRY NAME(compare_0)
#endif

#define HUGE_DOUBLE 1.7e308

KERNEL(THREADS, 1, 1)
ENTRY(GLOBAL const STORAGE(T) *RESTRICT out, GLOBAL const double *RESTRICT reference,
      GLOBAL const float *RESTRICT bound, GLOBAL double *RESTRICT partials, const i64 rows,
      const i64 cols, const i64 ld, const i64 batch_stride, const i64 total, const i64 chunk,
      const i64 step, const i64 span) {
    LOCAL_ARRAY(double, shared, THREADS * 6);
    const i64 first = ((i64)BLOCK(0) * THREADS + THREAD(0)) * chunk;
    const i64 end = first + span < total ? first + span : total;
    double worst = 0.0, index = 0.0, square_error = 0.0, square_reference = 0.0;
    double bad = 0.0, unbounded = 0.0;
    if (first < end) {
        /* the position moves by `step` without a division per element */
        const i64 plane = rows * cols;
        const i64 db = step / plane, dr = step % plane / cols, dc = step % plane % cols;
        i64 b = first / plane, r = first % plane / cols, c = first % plane % cols;
        for (i64 i = first; i < end; i += step) {
            const double v = (double)READ(T, out, b * batch_stride + r * ld + c);
            double ref = reference[i];
            const double e = (double)bound[i];
            const int out_nan = v != v, ref_nan = ref != ref;
#if SATURATES
            ref = ref < LOWEST ? LOWEST : ref > LIMIT ? LIMIT : ref; /* NaN stays */
#endif
#if INTEGER
            const double tolerance = e + U_T;
#else
            const double tolerance = e + U_T * (fabs(ref) + e) + SMALLEST;
#endif
            const int out_inf = fabs(v) > HUGE_DOUBLE, ref_inf = fabs(ref) > HUGE_DOUBLE;
            int wrong = 0;
            if (out_nan || ref_nan) wrong = (out_nan != ref_nan) & !(INTEGER & ref_nan);
            else if (ref_inf) wrong = v != ref && !(fabs(v) >= LIMIT && v * ref > 0.0);
            else if (!(tolerance < HUGE_DOUBLE)) unbounded += 1.0;
            else if (out_inf) wrong = SATURATES || fabs(ref) + tolerance < LIMIT || v * ref < 0.0;
            else {
                const double d = v - ref, ratio = fabs(d) / tolerance;
                if (ratio > worst && bad == 0.0) {
                    worst = ratio;
                    index = (double)i;
                }
                square_error += d * d;
                square_reference += ref * ref;
            }
            if (wrong && bad == 0.0) {
                worst = HUGE_DOUBLE;
                index = (double)i;
            }
            if (wrong) bad += 1.0;
            c += dc;
            r += dr;
            b += db;
            if (c >= cols) {
                c -= cols;
                r++;
            }
            if (r >= rows) {
                r -= rows;
                b++;
            }
        }
    }
    const int t = THREAD(0) * 6;
    shared[t] = worst;
    shared[t + 1] = index;
    shared[t + 2] = square_error;
    shared[t + 3] = square_reference;
    shared[t + 4] = bad;
    shared[t + 5] = unbounded;
    BARRIER();
    if (THREAD(0) == 0) {
        for (int i = 6; i < THREADS * 6; i += 6) {
            if (shared[i] > shared[0]) {
                shared[0] = shared[i];
                shared[1] = shared[i + 1];
            }
            for (int k = 2; k < 6; k++) shared[k] += shared[i + k];
        }
        for (int k = 0; k < 6; k++) partials[(i64)BLOCK(0) * 6 + k] = shared[k];
    }
}
