/* Value and error bound of every operation, once: expr_eval.c compiles these rules, expr_emit.c
 * prints them into reference kernels. Only expr_*.c include this.
 *
 * a b c are the arguments' values, x y z their error bounds, t is the value (so the second
 * expression may use it) and U the roundoff of the device's float (2^-24). Running error analysis
 * after Higham (Accuracy and Stability of Numerical Algorithms, section 3.3): what the arguments'
 * errors become, to first order or by a Lipschitz constant, plus what the operation adds:
 *   - U for a correctly rounded result; 5 U for a division (OpenCL allows 2.5 units in the last
 *     place, each 2 U at most);
 *   - 4 units in the last place, 8 U, for elementary functions; exp has 4 + |a|, because fast
 *     versions round a * log2(e) first;
 *   - the forms in the dialects decide for silu, gelu and the like; gelu near its cancellation
 *     (negative a) is good to 10 U of |a| only, in the erf form and in the tanh form alike;
 *   - TINY, the smallest normal float, where a device may flush to zero;
 *   - OVER: beyond the largest float the device has infinity, and no bound holds any more.
 * Comparisons and floor jump: when the errors reach across the jump, its height is the error. When
 * an error reaches out of a function's domain (sqrt, log, a division by what may be 0) nothing is
 * known: the bound is infinite or as good as. */
#ifndef KILN_KERNELS_EXPR_BOUNDS_H
#define KILN_KERNELS_EXPR_BOUNDS_H

#define TINY 1.2e-38
#define OVER (fabs(t) > 3.4e38 ? 1e300 : 0.0)
#define SIGMOID(v) (1.0 / (1.0 + exp(-(v))))
#define GELU_ERROR 1.13 * x + 10.0 * U *fabs(a) + TINY + OVER
#define TANH_FORM 0.79788456080286536 * (a + 0.044715 * a * a * a)
#define UNSURE (x + y > 0.0 && fabs(a - b) <= x + y ? 1.0 : 0.0)

#define KILN_BOUNDS(X)                                                                             \
    X(ADD, a + b, x + y + U * fabs(t) + OVER)                                                      \
    X(SUB, a - b, x + y + U * fabs(t) + OVER)                                                      \
    X(MUL, a *b, fabs(a) * y + fabs(b) * x + x * y + U * fabs(t) + TINY + OVER)                    \
    X(DIV, a / b, (x + fabs(t) * y) / fmax(fabs(b) - y, 0.0) + 5.0 * U * fabs(t) + TINY + OVER)    \
    X(LT, (a < b ? 1.0 : 0.0), UNSURE)                                                             \
    X(LE, (a <= b ? 1.0 : 0.0), UNSURE)                                                            \
    X(NEG, -a, x)                                                                                  \
    X(ABS, fabs(a), x)                                                                             \
    X(EXP, exp(a), t *(x * exp(x) + (4.0 + fabs(a)) * 2.0 * U) + TINY + OVER)                      \
    X(LOG, log(a), (x > 0.0 ? x / fmax(a - x, 0.0) : 0.0) + 8.0 * U * fabs(t))                     \
    X(SQRT, sqrt(a), (x > a ? 1e300 : x > 0.0 ? x / (t + sqrt(a - x)) : 0.0) + 8.0 * U * t)        \
    X(RSQRT, 1.0 / sqrt(a), t * ((x > 0.0 ? x / (2.0 * fmax(a - x, 0.0)) : 0.0) + 8.0 * U))        \
    X(TANH, tanh(a), x *fmin(1.0, 1.0 - t * t + x) + 8.0 * U * fabs(t))                            \
    X(ERF, erf(a), x *fmin(1.1284, 1.1284 * exp(-a * a) + x) + 8.0 * U * fabs(t))                  \
    X(SIGMOID, SIGMOID(a),                                                                         \
      x *fmin(0.25, t *(1.0 - t) + 0.1 * x) + U * t * (6.0 + (8.0 + 2.0 * fabs(a)) * (1.0 - t)) +  \
          TINY)                                                                                    \
    X(RELU, fmax(a, 0.0), (a + x > 0.0 ? x : 0.0))                                                 \
    X(SILU, a *SIGMOID(a),                                                                         \
      1.1 * x + U * fabs(t) * (8.0 + (8.0 + 2.0 * fabs(a)) * SIGMOID(-a)) +                        \
          (1.0 + fabs(a)) * TINY + OVER)                                                           \
    X(GELU, 0.5 * a * (1.0 + erf(a * 0.70710678118654752)), GELU_ERROR)                            \
    X(GELU_TANH, 0.5 * a * (1.0 + tanh(TANH_FORM)), GELU_ERROR)                                    \
    X(FLOOR, floor(a), fmax(floor(a + x) - t, t - floor(a - x)))                                   \
    X(MAX2, fmax(a, b), fmax(x, y))                                                                \
    X(MIN2, fmin(a, b), fmax(x, y))                                                                \
    X(SELECT, (a != 0.0 ? b : c),                                                                  \
      (x > 0.0 && fabs(a) <= x ? fabs(b - c) + fmax(y, z) : (a != 0.0 ? y : z)))

#endif
