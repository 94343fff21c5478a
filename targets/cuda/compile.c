#include "targets/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append_log(nvrtc_api *n, nvrtcProgram p, kiln_text *log) {
    size_t size = 0;
    if (n->nvrtcGetProgramLogSize(p, &size) || size < 2) return;
    char *text = calloc(1, size + 1); /* the log may end before its size: ptxas's part, NULs */
    if (text && !n->nvrtcGetProgramLog(p, text)) kiln_text_add(log, text);
    free(text);
}

static int fail_compile(nvrtc_api *n, nvrtcResult rc, const char *arch, const char *log,
                        kiln_error *e) {
    if (rc == NVRTC_ERROR_OUT_OF_MEMORY)
        return kiln_fail(e, KILN_NO_MEMORY, "NVRTC ran out of memory");
    if (rc == NVRTC_ERROR_INVALID_OPTION)
        return kiln_fail(e, KILN_VERSION, "NVRTC %d.%d does not know %s: install a newer one",
                         n->major, n->minor, arch);
    const char *line = strstr(log, "error");
    while (line && line > log && line[-1] != '\n') line--;
    if (!line) line = log;
    int length = (int)strcspn(line, "\n");
    return kiln_fail(e, KILN_COMPILE, "NVRTC refused the source for %s (%s): %.*s", arch,
                     n->nvrtcGetErrorString(rc), length > 300 ? 300 : length, line);
}

/* PTX is text and travels with its NUL, which the driver wants. */
static int take(nvrtc_api *n, nvrtcProgram p, bool ptx, kiln_blob *out, kiln_error *e) {
    size_t size = 0;
    nvrtcResult rc = ptx ? n->nvrtcGetPTXSize(p, &size) : n->nvrtcGetCUBINSize(p, &size);
    char *data = rc || !size ? NULL : malloc(size);
    if (data) rc = ptx ? n->nvrtcGetPTX(p, data) : n->nvrtcGetCUBIN(p, data);
    if (!data || rc) {
        free(data);
        return kiln_fail(e, KILN_DRIVER, "NVRTC gave no %s (%s)", ptx ? "PTX" : "cubin",
                         n->nvrtcGetErrorString(rc));
    }
    *out = (kiln_blob){.data = data, .size = size};
    snprintf(out->kind, sizeof out->kind, "%s", ptx ? "ptx" : "cubin");
    return 0;
}

/* Fused multiply-add is on (NVRTC's default); nothing else departs from IEEE. */
static int compile_one(nvrtc_api *n, const char *source, const char *arch, bool ptx, kiln_blob *out,
                       kiln_text *log, kiln_error *e) {
    char option[80];
    snprintf(option, sizeof option, "--gpu-architecture=%.47s", arch);
    /* 177: a function is not used; the dialect and a variant's layers offer more than each needs */
    const char *options[6] = {option, "--std=c++17", "--device-as-default-execution-space",
                              "--diag-suppress=177"};
    int n_options = 4;
    if (!ptx) options[n_options++] = "--ptxas-options=-v";
    /* NVRTC keeps compiled code on disk from 12.9 on; an answer from there has no report of registers
     * and spills, and its compile time would be a figure of something else. */
    if (100 * n->major + n->minor >= 1209) options[n_options++] = "--no-cache";
    nvrtcProgram p = NULL;
    size_t before = log->size;
    nvrtcResult rc = n->nvrtcCreateProgram(&p, source, "source", 0, NULL, NULL);
    if (rc) return fail_compile(n, rc, arch, "", e);
    rc = n->nvrtcCompileProgram(p, n_options, options);
    append_log(n, p, log);
    const char *words = log->size > before ? log->data + before : "";
    int status = rc ? fail_compile(n, rc, arch, words, e) : take(n, p, ptx, out, e);
    n->nvrtcDestroyProgram(&p);
    return status;
}

int kiln_cuda_compile(const kiln_caps *caps, const kiln_compile_request *request, kiln_blob *out,
                      kiln_blob *ptx, kiln_text *log, kiln_error *e) {
    *out = (kiln_blob){0};
    if (ptx) *ptx = (kiln_blob){0};
    nvrtc_api *n = kiln_nvrtc_api(e);
    if (!n) return KILN_NO_DEVICE;
    if (strncmp(caps->arch, "sm_", 3))
        return kiln_fail(e, KILN_BAD_INPUT, "'%s' is no CUDA architecture: sm_80, sm_90a, ...",
                         caps->arch);
    kiln_text own = {0}, *to = log ? log : &own;
    int rc = compile_one(n, request->source, caps->arch, false, out, to, e);
    if (!rc && request->ptx_arch && ptx)
        rc = compile_one(n, request->source, request->ptx_arch, true, ptx, to, e);
    if (rc) {
        free(out->data);
        *out = (kiln_blob){0};
    }
    kiln_text_free(&own);
    return rc;
}

/* Number right before `words` on the line that starts at `line`, -1 without it. */
static int number_before(const char *line, const char *words) {
    const char *end = line + strcspn(line, "\n"), *at = strstr(line, words);
    if (!at || at >= end) return -1;
    while (at > line && at[-1] == ' ') at--;
    while (at > line && at[-1] >= '0' && at[-1] <= '9') at--;
    return *at >= '0' && *at <= '9' ? atoi(at) : -1;
}

/* ptxas: "Function properties for ENTRY", then "N bytes stack frame, ...", then, perhaps after such
 * pairs for functions that the entry calls, "Used N registers, ...". */
bool kiln_cuda_report(const char *log, const char *entry, kiln_kernel_facts *out) {
    static const char head[] = "Function properties for ", next[] = "Compiling entry function";
    size_t n = strlen(entry);
    *out = (kiln_kernel_facts){-1, -1, -1, -1, -1};
    const char *at = log;
    while ((at = strstr(at, head))) {
        at += sizeof head - 1;
        if (!strncmp(at, entry, n) && (at[n] == '\n' || at[n] == '\r' || at[n] == ' ')) break;
    }
    while (at && out->registers < 0 && (at = strchr(at, '\n'))) {
        const char *line = ++at;
        size_t length = strcspn(line, "\n");
        if (memmem(line, length, next, sizeof next - 1)) break;
        if (out->local_bytes < 0) out->local_bytes = number_before(line, "bytes stack frame");
        if (memmem(line, length, "Used ", 5)) out->registers = number_before(line, "registers");
    }
    return out->registers >= 0 || out->local_bytes >= 0;
}
