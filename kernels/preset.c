#include "kernels/preset.h"

#include <stddef.h>

const kiln_preset kiln_presets[] = {
    {"copy", "map", "x=$T out=$T", "out = x", "a plain copy"},
    {"add", "map", "x=$T y=$T out=$T", "out = x + y", "the sum of two arrays"},
    {"relu", "map", "x=$T out=$T", "out = relu(x)", "max(x, 0)"},
    {"silu", "map", "x=$T out=$T", "out = silu(x)", "x sigmoid(x), also called swish"},
    {"gelu", "map", "x=$T out=$T", "out = gelu(x)", "exact gelu"},
    {"gelu_tanh", "map", "x=$T out=$T", "out = gelu_tanh(x)", "gelu in its tanh form"},
    {"bias_gelu", "map", "x=$T bias=$T out=$T", "out = gelu(x + bias[col])",
     "gelu after a bias per column"},
    {"gelu_bias_residual", "map", "x=$T bias=$T res=$T out=$T", "out = gelu(x + bias[col]) + res",
     "gelu after a bias per column, plus a residual"},
    {"swiglu", "map", "x=$T y=$T out=$T", "out = silu(x) * y", "the gate of Llama's feed-forward"},
    {"geglu", "map", "x=$T y=$T out=$T", "out = gelu(x) * y", "the same gate with gelu"},
    {"softmax", "map", "x=$T out=$T", "e = exp(x - max(x)); out = e / sum(e)",
     "softmax of each row"},
    {"log_softmax", "map", "x=$T out=$T", "h = x - max(x); out = h - log(sum(exp(h)))",
     "logarithm of the softmax of each row"},
    {"layernorm", "map", "x=$T w=$T bias=$T out=$T",
     "h = x - mean(x); out = h * rsqrt(mean(h * h) + 1e-5) * w[col] + bias[col]",
     "layer norm of each row with weight and bias"},
    {"rmsnorm", "map", "x=$T w=$T out=$T", "out = x * rsqrt(mean(x * x) + 1e-5) * w[col]",
     "root-mean-square norm of each row"},
    {"rmsnorm_residual", "map", "x=$T y=$T w=$T h=$T out=$T",
     "h = x + y; out = h * rsqrt(mean(h * h) + 1e-5) * w[col]",
     "x + y stored as h, and its root-mean-square norm"},
    {"row_sum", "map", "x=$T out=$T", "out[row] = sum(x)", "one sum per row"},
    {"row_mean", "map", "x=$T out=$T", "out[row] = mean(x)", "one mean per row"},
    {"row_max", "map", "x=$T out=$T", "out[row] = max(x)", "one maximum per row"},
    {NULL, NULL, NULL, NULL, NULL},
};
