#include "targets/driver.h"
#include "targets/opencl/opencl.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- what there is */

static cl_device_id found[OPENCL_DEVICES_MAX];
static int n_found;
static bool enumerated;
static cl_context contexts[OPENCL_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the four above */

static void info_text(opencl_api *cl, cl_device_id id, cl_uint what, char *out, size_t size) {
    char text[1024] = "";
    if (cl->clGetDeviceInfo(id, what, sizeof text - 1, text, NULL)) text[0] = 0;
    kiln_driver_trim(out, size, text);
}

static uint64_t info_number(opencl_api *cl, cl_device_id id, cl_uint what) {
    uint64_t value = 0; /* little-endian hosts only: a 32-bit answer fills the low half */
    return cl->clGetDeviceInfo(id, what, sizeof value, &value, NULL) ? 0 : value;
}

static void find_on_platform(opencl_api *cl, cl_platform_id platform) {
    cl_device_id ids[OPENCL_DEVICES_MAX];
    cl_uint n = 0;
    if (cl->clGetDeviceIDs(platform, OCL_DEVICE_TYPE_CPU | OCL_DEVICE_TYPE_GPU, OPENCL_DEVICES_MAX,
                           ids, &n))
        return;
    for (cl_uint i = 0; i < n && i < OPENCL_DEVICES_MAX && n_found < OPENCL_DEVICES_MAX; i++)
        if ((cl_bool)info_number(cl, ids[i], OCL_DEVICE_AVAILABLE) &&
            (cl_bool)info_number(cl, ids[i], OCL_DEVICE_COMPILER_AVAILABLE))
            found[n_found++] = ids[i];
}

static void enumerate(opencl_api *cl) {
    cl_platform_id platforms[16];
    cl_uint n = 0;
    enumerated = true;
    if (cl->clGetPlatformIDs(16, platforms, &n)) return;
    for (cl_uint i = 0; i < n && i < 16; i++) find_on_platform(cl, platforms[i]);
}

/* NVIDIA's driver brings its OpenCL, but in a container often not the file that announces it. */
static int fail_no_device(kiln_error *e) {
    static const char *const nvidia[] = {"libnvidia-opencl.so.1", NULL};
    if (kiln_driver_open(nvidia, NULL))
        return kiln_fail(e, KILN_NO_DEVICE,
                         "OpenCL lists no device, but NVIDIA's driver is here unannounced: run "
                         "`mkdir -p /etc/OpenCL/vendors && echo libnvidia-opencl.so.1 > "
                         "/etc/OpenCL/vendors/nvidia.icd`");
    return kiln_fail(e, KILN_NO_DEVICE,
                     "OpenCL lists no CPU or GPU device: install a driver, for example "
                     "pocl-opencl-icd, and see what `clinfo -l` prints");
}

static int ensure_enumerated(opencl_api **cl, kiln_error *e) {
    *cl = kiln_opencl_api(e);
    if (!*cl) return KILN_NO_DEVICE;
    pthread_mutex_lock(&lock);
    if (!enumerated) enumerate(*cl);
    int n = n_found;
    pthread_mutex_unlock(&lock);
    return n ? 0 : fail_no_device(e);
}

int kiln_opencl_device_id(int index, cl_device_id *id, kiln_error *e) {
    opencl_api *cl;
    int rc = ensure_enumerated(&cl, e);
    if (rc) return rc;
    if (index < 0 || index >= n_found)
        return kiln_fail(e, KILN_NO_DEVICE, "there is no device opencl:%d: the last is opencl:%d",
                         index, n_found - 1);
    *id = found[index];
    return 0;
}

/* ---------------------------------------------------------------- caps */

/* "OpenCL 3.0 PoCL 3.1+debian  Linux, None+Asserts, LLVM 15.0.6, ..." -> "PoCL 3.1+debian LLVM
 * 15.0.6": without what PoCL was built with, which is long and says nothing. */
static void compiler_name(const char *version, char *out, size_t size) {
    char text[512], word[2][64] = {"", ""};
    kiln_driver_trim(text, sizeof text, version);
    if (sscanf(text, "OpenCL %*s %63s %63s", word[0], word[1]) < 1) {
        kiln_driver_trim(out, size, text);
        return;
    }
    char llvm[32] = "";
    const char *at = strstr(text, "LLVM ");
    if (at && sscanf(at, "LLVM %24[0-9.]", llvm) != 1) llvm[0] = 0;
    snprintf(out, size, "%s%s%s%s%s", word[0], word[1][0] ? " " : "", word[1],
             llvm[0] ? " LLVM " : "", llvm);
}

static void fill_names(opencl_api *cl, cl_device_id id, kiln_caps *c) {
    char version[1024] = "", name[128] = "", number[16] = "";
    cl_platform_id platform = NULL;
    info_text(cl, id, OCL_DEVICE_NAME, c->name, sizeof c->name);
    info_text(cl, id, OCL_DEVICE_VENDOR, c->vendor, sizeof c->vendor);
    info_text(cl, id, OCL_DRIVER_VERSION, c->driver, sizeof c->driver);
    info_text(cl, id, OCL_DEVICE_VERSION, version, sizeof version);
    if (sscanf(version, "OpenCL %15s", number) == 1)
        snprintf(c->arch, sizeof c->arch, "OpenCL %s", number);
    cl->clGetDeviceInfo(id, OCL_DEVICE_PLATFORM, sizeof platform, &platform, NULL);
    if (!cl->clGetPlatformInfo(platform, OCL_PLATFORM_NAME, sizeof name - 1, name, NULL))
        kiln_driver_trim(c->platform, sizeof c->platform, name);
    version[0] = 0;
    cl->clGetPlatformInfo(platform, OCL_PLATFORM_VERSION, sizeof version - 1, version, NULL);
    compiler_name(version, c->compiler, sizeof c->compiler);
}

/* What the driver does not tell must be assumed, so that a cold measurement is cold: no GPU of today
 * has more than 256 MB, few more than 64; of a host's cache a virtual machine has a part. */
static const int64_t LAST_LEVEL = 64 << 20;

static void fill_cpu(opencl_api *cl, cl_device_id id, kiln_caps *c) {
    c->shared_host = true;
    c->programs_per_unit = 8; /* a build costs PoCL a second, whatever is in it */
    c->warp = 1;
    c->vector_bits = 32 * (int)info_number(cl, id, OCL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT);
    if (c->vector_bits < 128) c->vector_bits = 128;
    c->vector_registers = c->vector_bits >= 512 ? 32 : 16;
    int64_t cache = kiln_driver_host_cache();
    if (cache) c->cache_bytes = cache;
    if (c->cache_bytes <= 0) c->cache_bytes = LAST_LEVEL; /* virtual machines may hide theirs */
}

static void fill_gpu(opencl_api *cl, cl_device_id id, const char *extensions, kiln_caps *c) {
    opencl_pci pci;
    /* NVIDIA's driver names the first-level caches here */
    if (c->cache_bytes < LAST_LEVEL) c->cache_bytes = LAST_LEVEL;
    c->programs_per_unit = 1;
    c->warp = 32; /* right for NVIDIA, RDNA and most others; a schedule is only slower otherwise */
    if (strstr(extensions, "cl_nv_device_attribute_query")) {
        int warp = (int)info_number(cl, id, OCL_DEVICE_WARP_SIZE_NV);
        if (warp) c->warp = warp;
        c->registers_unit = (int)info_number(cl, id, OCL_DEVICE_REGISTERS_PER_BLOCK_NV);
    }
    if (strstr(extensions, "cl_amd_device_attribute_query")) {
        int wave = (int)info_number(cl, id, OCL_DEVICE_WAVEFRONT_WIDTH_AMD);
        int local = (int)info_number(cl, id, OCL_DEVICE_LOCAL_MEM_SIZE_PER_COMPUTE_UNIT_AMD);
        if (wave) c->warp = wave;
        if (local) c->shared_unit_bytes = local;
    }
    if (strstr(extensions, "cl_khr_pci_bus_info") &&
        !cl->clGetDeviceInfo(id, OCL_DEVICE_PCI_BUS_INFO_KHR, sizeof pci, &pci, NULL))
        snprintf(c->bus, sizeof c->bus, "%04x:%02x:%02x.%x", pci.domain, pci.bus, pci.device,
                 pci.function);
}

static int clamp_int(uint64_t v) { return v > INT32_MAX ? INT32_MAX : (int)v; }

void kiln_opencl_caps(opencl_api *cl, cl_device_id id, kiln_caps *c) {
    static const size_t extensions_size = 16384;
    char *extensions = calloc(1, extensions_size);
    *c = (kiln_caps){.target = "opencl"};
    fill_names(cl, id, c);
    if (extensions) info_text(cl, id, OCL_DEVICE_EXTENSIONS, extensions, extensions_size);
    c->kind = info_number(cl, id, OCL_DEVICE_TYPE) & OCL_DEVICE_TYPE_CPU ? KILN_DEVICE_CPU
                                                                         : KILN_DEVICE_GPU;
    c->units = clamp_int((cl_uint)info_number(cl, id, OCL_DEVICE_MAX_COMPUTE_UNITS));
    c->max_threads = clamp_int(info_number(cl, id, OCL_DEVICE_MAX_WORK_GROUP_SIZE));
    c->shared_bytes = c->shared_unit_bytes =
        clamp_int(info_number(cl, id, OCL_DEVICE_LOCAL_MEM_SIZE));
    c->cache_bytes = (int64_t)info_number(cl, id, OCL_DEVICE_GLOBAL_MEM_CACHE_SIZE);
    c->memory_bytes = (int64_t)info_number(cl, id, OCL_DEVICE_GLOBAL_MEM_SIZE);
    c->max_alloc_bytes = (int64_t)info_number(cl, id, OCL_DEVICE_MAX_MEM_ALLOC_SIZE);
    c->clock_mhz = (int)info_number(cl, id, OCL_DEVICE_MAX_CLOCK_FREQUENCY);
    c->align_bytes = (int)info_number(cl, id, OCL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8;
    if (c->align_bytes < 16) c->align_bytes = 16;
    c->f64 = info_number(cl, id, OCL_DEVICE_DOUBLE_FP_CONFIG) != 0;
    c->f16 = extensions && strstr(extensions, "cl_khr_fp16");
    c->events =
        !strstr(c->platform, "rusticl"); /* its timestamps are 0; open() probes the others */
    if (c->kind == KILN_DEVICE_CPU)
        fill_cpu(cl, id, c);
    else
        fill_gpu(cl, id, extensions ? extensions : "", c);
    free(extensions);
}

int kiln_opencl_devices(kiln_caps *caps, int max, kiln_error *e) {
    opencl_api *cl;
    if (ensure_enumerated(&cl, e)) return 0;
    int n = n_found < max ? n_found : max;
    for (int i = 0; i < n; i++) {
        kiln_opencl_caps(cl, found[i], &caps[i]);
        caps[i].index = i;
    }
    return n;
}

/* ---------------------------------------------------------------- contexts */

cl_context kiln_opencl_context(int index, kiln_error *e) {
    cl_device_id id;
    if (kiln_opencl_device_id(index, &id, e)) return NULL;
    opencl_api *cl = kiln_opencl_api(e);
    cl_int rc = 0;
    pthread_mutex_lock(&lock);
    if (!contexts[index]) contexts[index] = cl->clCreateContext(NULL, 1, &id, NULL, NULL, &rc);
    cl_context context = contexts[index];
    pthread_mutex_unlock(&lock);
    if (!context)
        kiln_fail(e, KILN_DRIVER, "opencl:%d: no context (%s): is another program using it up?",
                  index, kiln_opencl_error(rc));
    return context;
}
