/* Our declarations of the CUDA driver, NVRTC and cuBLASLt against the official headers, where these
 * are installed: everything is compared while compiling. Elsewhere it is skipped aloud.
 *
 * cublasLt.h needs its folder in the include path, so the test compiles this file once more. */
#if __has_include("cuda.h") && __has_include("nvrtc.h")
#include "cuda.h"
#include "nvrtc.h"
#define HEADERS "installed"
#if __has_include("cublasLt.h")
#include "cublasLt.h"
#define BLAS_HEADERS
#endif
#elif __has_include("/usr/local/cuda/include/cuda.h") &&                                           \
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
#include <stdlib.h>
#include <unistd.h>

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

#ifdef BLAS_HEADERS
#define X(result, name, parameters) SAME(result, name, parameters)
CUBLASLT_FUNCTIONS(X)
#undef X
#define X(name, value) _Static_assert((int)name == value, #name);
CUBLASLT_CONSTANTS(X)
#undef X
#endif
#if defined BLAS_HEADERS || !defined HEADERS
#define X(type, field, at) _Static_assert(offsetof(type, field) == at, #type "." #field);
CUBLASLT_OFFSETS(X)
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

static void test_blas_headers(void **state) {
    (void)state;
#ifdef BLAS_HEADERS
    print_message("compared while compiling\n");
#else
    static const char self[] = "tests/test_cuda_api.c",
                      blas[] = "/usr/local/cuda/include/cublasLt.h";
    if (access(self, R_OK) || access(blas, R_OK)) {
        print_message("SKIPPED: no %s here\n", access(self, R_OK) ? self : blas);
        skip();
    }
    assert_int_equal(system("${CC:-gcc} -std=c11 -D_GNU_SOURCE -Wall -Werror -fsyntax-only -I. "
                            "-isystem /usr/local/cuda/include tests/test_cuda_api.c"),
                     0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_headers),
                                       cmocka_unit_test(test_blas_headers)};
    return cmocka_run_group_tests_name("cuda_api", tests, NULL, NULL);
}
