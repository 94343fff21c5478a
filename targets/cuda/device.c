#include "targets/cuda/cuda.h"
#include "targets/driver.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- caps */

static int attribute(cuda_api *cu, CUdevice id, CUdevice_attribute what) {
    int value = 0;
    return cu->cuDeviceGetAttribute(&value, what, id) ? 0 : value;
}

/* 9.0 and 10.x have instructions (wgmma, tcgen05) that only the 'a' architectures accept. */
static void fill_arch(kiln_caps *c) {
    bool specific = c->arch_number == 90 || c->arch_number / 10 == 10;
    snprintf(c->arch, sizeof c->arch, "sm_%d%s", c->arch_number, specific ? "a" : "");
}

static void fill_versions(cuda_api *cu, kiln_caps *c) {
    int version = 0;
    char driver[64] = "";
    nvml_api *nvml = kiln_nvml_api();
    nvrtc_api *nvrtc = kiln_nvrtc_api(NULL);
    cu->cuDriverGetVersion(&version);
    if (nvml && nvml->nvmlSystemGetDriverVersion(driver, sizeof driver)) driver[0] = 0;
    snprintf(c->driver, sizeof c->driver, "%s%sCUDA %d.%d", driver, driver[0] ? " " : "",
             version / 1000, version % 1000 / 10);
    if (nvrtc)
        snprintf(c->compiler, sizeof c->compiler, "NVRTC %d.%d", nvrtc->major, nvrtc->minor);
    else
        snprintf(c->compiler, sizeof c->compiler, "no NVRTC");
}

static void fill_units(cuda_api *cu, CUdevice id, kiln_caps *c) {
    size_t memory = 0;
    c->programs_per_unit = 1; /* NVRTC has almost no fixed cost */
    c->units = attribute(cu, id, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    c->warp = attribute(cu, id, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    c->max_threads = attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    c->shared_bytes = attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    c->shared_unit_bytes =
        attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    c->registers_unit = attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
    c->threads_unit = attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
    c->cache_bytes = attribute(cu, id, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    c->clock_mhz = attribute(cu, id, CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1000;
    cu->cuDeviceTotalMem_v2(&memory, id);
    c->memory_bytes = c->max_alloc_bytes = (int64_t)memory;
}

int kiln_cuda_caps(cuda_api *cu, int index, CUdevice id, kiln_caps *c) {
    char name[256] = "";
    *c = (kiln_caps){.target = "cuda", .vendor = "NVIDIA", .index = index, .kind = KILN_DEVICE_GPU};
    if (cu->cuDeviceGetName(name, sizeof name - 1, id)) return KILN_DRIVER;
    kiln_driver_trim(c->name, sizeof c->name, name);
    cu->cuDeviceGetPCIBusId(c->bus, sizeof c->bus, id);
    for (char *s = c->bus; *s; s++) *s = (char)tolower((unsigned char)*s);
    c->arch_number = 10 * attribute(cu, id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
                     attribute(cu, id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    fill_arch(c);
    fill_versions(cu, c);
    fill_units(cu, id, c);
    c->align_bytes = 256; /* of cuMemAlloc */
    c->f64 = c->f16 = c->events = true;
    c->clusters = c->arch_number >= 90 && cu->cuLaunchKernelEx;
    c->tensor_maps = c->arch_number >= 90 && cu->cuTensorMapEncodeTiled;
    return 0;
}

int kiln_cuda_devices(kiln_caps *caps, int max, kiln_error *e) {
    cuda_api *cu = kiln_cuda_api(e);
    int n = 0, filled = 0;
    if (!cu) return 0;
    CUresult rc = cu->cuDeviceGetCount(&n);
    for (int i = 0; !rc && i < n && filled < max; i++) {
        CUdevice id;
        if (!cu->cuDeviceGet(&id, i) && !kiln_cuda_caps(cu, i, id, &caps[filled])) filled++;
    }
    if (!filled)
        kiln_fail(e, KILN_NO_DEVICE,
                  "the CUDA driver lists no GPU: see nvidia-smi and "
                  "CUDA_VISIBLE_DEVICES");
    return filled;
}

/* ---------------------------------------------------------------- sensors */

static void add_word(char *out, size_t size, const char *word) {
    size_t n = strlen(out);
    snprintf(out + n, size - n, "%s%s", n ? "," : "", word);
}

/* Bits of NVML's clock throttle reasons; idle and a user's clock setting are no throttling. */
static void throttle_words(unsigned long long bits, char *out, size_t size) {
    static const struct {
        unsigned long long bit;
        const char *word;
    } reasons[] = {{0x4, "power-cap"},   {0x8, "hw-slowdown"}, {0x10, "sync-boost"},
                   {0x20, "sw-thermal"}, {0x40, "hw-thermal"}, {0x80, "power-brake"}};
    out[0] = 0;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (bits & reasons[i].bit) add_word(out, size, reasons[i].word);
}

int kiln_cuda_sensors(kiln_device *d, kiln_sensors *out) {
    nvml_api *nvml = kiln_nvml_api();
    unsigned v = 0;
    unsigned long long bits = 0;
    *out = (kiln_sensors){-1, -1, -1, -1, ""};
    if (!nvml) return 0;
    if (!d->sensor && nvml->nvmlDeviceGetHandleByPciBusId_v2(d->caps.bus, &d->sensor)) return 0;
    if (!nvml->nvmlDeviceGetClockInfo(d->sensor, NVML_CLOCK_SM, &v)) out->clock_mhz = (int)v;
    if (!nvml->nvmlDeviceGetClockInfo(d->sensor, NVML_CLOCK_MEM, &v))
        out->memory_clock_mhz = (int)v;
    if (!nvml->nvmlDeviceGetTemperature(d->sensor, NVML_TEMPERATURE_GPU, &v))
        out->temperature_c = (int)v;
    if (!nvml->nvmlDeviceGetPowerUsage(d->sensor, &v)) out->power_w = (int)((v + 500) / 1000);
    if (!nvml->nvmlDeviceGetCurrentClocksThrottleReasons(d->sensor, &bits))
        throttle_words(bits, out->throttle, sizeof out->throttle);
    return 0;
}
