/* Our declarations of the CUDA driver and NVRTC against the official headers, where these are
 * installed: everything is compared while compiling. Elsewhere it is skipped aloud. */
#if __has_include("cuda.h") && __has_include("nvrtc.h")
#include "cuda.h"
#include "nvrtc.h"
#define HEADERS "installed"
#elif __has_include("/usr/local/cuda/include/cuda.h") && \
    __has_include("/usr/local/cuda/include/nvrtc.h")
#include "/usr/local/cuda/include/cuda.h"
#include "/usr/local/cuda/include/nvrtc.h"
#define HEADERS "/usr/local/cuda"
#endif

#ifdef HEADERS
#define KILN_CUDA_OFFICIAL
#endif
#include "targets/cuda/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#ifdef HEADERS
#define SAME(result, name, parameters)                                                             \
    _Static_assert(__builtin_types_compatible_p(result(*) parameters, __typeof__(&name)), #name);
#define X(name, optional, parameters) SAME(CUresult, name, parameters)
CUDA_FUNCTIONS(X)
#undef X
#define X(result, name, parameters) SAME(result, name, parameters)
NVRTC_FUNCTIONS(X)
#undef X
#define X(name, value) _Static_assert((int)name == value, #name);
CUDA_CONSTANTS(X)
#undef X
#endif

static void test_headers(void **state) {
    (void)state;
#ifdef HEADERS
    print_message("compared with CUDA %d.%d headers (%s)\n", CUDA_VERSION / 1000,
                  CUDA_VERSION % 1000 / 10, HEADERS);
#else
    print_message("SKIPPED: cuda.h and nvrtc.h are not installed here\n");
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_headers)};
    return cmocka_run_group_tests_name("cuda_api", tests, NULL, NULL);
}
