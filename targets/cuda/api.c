#include "targets/cuda/api.h"

#include "targets/driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the driver */

static cuda_api cuda;
static kiln_error cuda_failure;
static pthread_once_t cuda_once = PTHREAD_ONCE_INIT;

void kiln_cuda_error(cuda_api *cu, CUresult code, char *out, size_t size) {
    const char *name = NULL, *words = NULL;
    cu->cuGetErrorName(code, &name);
    cu->cuGetErrorString(code, &words);
    snprintf(out, size, "%s: %s", name ? name : "CUDA error", words ? words : "unknown");
}

static void init_driver(void) {
    char words[200];
    CUresult rc = cuda.cuInit(0);
    if (!rc) return;
    kiln_cuda_error(&cuda, rc, words, sizeof words);
    const char *remedy = rc == CUDA_ERROR_NO_DEVICE ? "no NVIDIA GPU is visible to this process"
                         : rc == CUDA_ERROR_STUB_LIBRARY
                             ? "this libcuda.so.1 is the toolkit's stub: put the driver's first in "
                               "the library path"
                         : rc == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
                             ? "the driver was updated and not loaded yet: restart the machine"
                             : "see whether nvidia-smi works";
    kiln_fail(&cuda_failure, KILN_NO_DEVICE, "the CUDA driver does not start (%s): %s", words,
              remedy);
}

static void open_driver(void) {
    static const char *const names[] = {"libcuda.so.1", NULL};
    static const kiln_driver_symbol symbols[] = {
#define X(name, optional, parameters) {#name, offsetof(cuda_api, name), optional},
        CUDA_FUNCTIONS(X)
#undef X
    };
    void *library = kiln_driver_open(names, &cuda_failure);
    if (!library) {
        kiln_fail(&cuda_failure, KILN_NO_DEVICE,
                  "libcuda.so.1 is missing: no NVIDIA driver is installed on this machine");
        return;
    }
    if (!kiln_driver_bind(library, "libcuda.so.1", symbols, sizeof symbols / sizeof *symbols, &cuda,
                          &cuda_failure))
        init_driver();
}

cuda_api *kiln_cuda_api(kiln_error *e) {
    pthread_once(&cuda_once, open_driver);
    if (!cuda_failure.status) return &cuda;
    if (e) *e = cuda_failure;
    return NULL;
}

void kiln_cuda_pretend(const cuda_api *driver) {
    pthread_once(&cuda_once, open_driver);
    cuda = *driver;
    cuda_failure = (kiln_error){0};
}

/* ---------------------------------------------------------------- the compiler */

static nvrtc_api nvrtc;
static kiln_error nvrtc_failure;
static pthread_once_t nvrtc_once = PTHREAD_ONCE_INIT;

/* ---- places of the toolkit's libraries */

enum { PATH_SIZE = 512, CANDIDATES = 32 };
typedef struct candidates {
    char path[CANDIDATES][PATH_SIZE];
    const char *name[CANDIDATES + 1];
    int n;
} candidates;

static void add_candidate(candidates *c, const char *folder, const char *file) {
    if (c->n == CANDIDATES) return;
    snprintf(c->path[c->n], PATH_SIZE, "%s%s%s", folder, *folder ? "/" : "", file);
    c->name[c->n] = c->path[c->n];
    c->n++;
}

static void add_everywhere(candidates *c, const char *file) {
    char folder[PATH_SIZE / 2];
    const char *home = getenv("CUDA_HOME");
    add_candidate(c, "", file);
    if (home && *home) {
        snprintf(folder, sizeof folder, "%.240s/lib64", home);
        add_candidate(c, folder, file);
    }
    add_candidate(c, "/usr/local/cuda/lib64", file);
}

/* The driver's own major version first: code of a newer toolkit may be refused. */
void *kiln_cuda_open_toolkit(const char *const files[4], kiln_error *e) {
    candidates *c = calloc(1, sizeof *c);
    int version = 13000;
    cuda_api *cu = kiln_cuda_api(NULL);
    if (!c) return NULL;
    if (cu) cu->cuDriverGetVersion(&version);
    int first = version >= 13000 ? 0 : version >= 12000 ? 1 : 2;
    for (int i = 0; i < 3; i++) add_everywhere(c, files[(first + i) % 3]);
    add_everywhere(c, files[3]);
    void *library = kiln_driver_open(c->name, e);
    free(c);
    return library;
}

static void open_nvrtc(void) {
    static const kiln_driver_symbol symbols[] = {
#define X(result, name, parameters) {#name, offsetof(nvrtc_api, name), false},
        NVRTC_FUNCTIONS(X)
#undef X
    };
    static const char *const files[4] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                         "libnvrtc.so"};
    void *library = kiln_cuda_open_toolkit(files, &nvrtc_failure);
    if (!library) {
        kiln_fail(&nvrtc_failure, KILN_NO_DEVICE,
                  "the CUDA compiler libnvrtc.so (13, 12 or 11.2) is missing: install it, or set "
                  "CUDA_HOME to a CUDA toolkit");
        return;
    }
    nvrtc_failure = (kiln_error){0};
    if (!kiln_driver_bind(library, "libnvrtc.so", symbols, sizeof symbols / sizeof *symbols, &nvrtc,
                          &nvrtc_failure))
        nvrtc.nvrtcVersion(&nvrtc.major, &nvrtc.minor);
}

nvrtc_api *kiln_nvrtc_api(kiln_error *e) {
    pthread_once(&nvrtc_once, open_nvrtc);
    if (!nvrtc_failure.status) return &nvrtc;
    if (e) *e = nvrtc_failure;
    return NULL;
}

/* ---------------------------------------------------------------- the sensors */

static nvml_api nvml;
static nvml_api *nvml_ready;
static pthread_once_t nvml_once = PTHREAD_ONCE_INIT;

static void open_nvml(void) {
    static const char *const names[] = {"libnvidia-ml.so.1", NULL};
    static const kiln_driver_symbol symbols[] = {
#define X(name, parameters) {#name, offsetof(nvml_api, name), false},
        NVML_FUNCTIONS(X)
#undef X
    };
    void *library = kiln_driver_open(names, NULL);
    if (library &&
        !kiln_driver_bind(library, names[0], symbols, sizeof symbols / sizeof *symbols, &nvml,
                          NULL) &&
        !nvml.nvmlInit_v2())
        nvml_ready = &nvml;
}

nvml_api *kiln_nvml_api(void) {
    pthread_once(&nvml_once, open_nvml);
    return nvml_ready;
}
