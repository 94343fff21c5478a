/* Private to targets/cuda: the device, and what its files share. */
#ifndef KILN_TARGETS_CUDA_CUDA_H
#define KILN_TARGETS_CUDA_CUDA_H

#include "targets/cuda/api.h"
#include "targets/target.h"

enum { CUDA_REGIONS = 64 };

struct kiln_device {
    cuda_api *cu;
    kiln_caps caps;
    CUdevice id;
    CUcontext context;
    CUstream stream;              /* NULL: the application's default stream */
    bool own_context, own_stream; /* retained, created by us */
    CUevent begin[CUDA_REGIONS], end[CUDA_REGIONS];
    nvml_device sensor;
    CUdeviceptr *views; /* releasing one of these frees nothing */
    int n_views, views_capacity;
};

struct kiln_kernel {
    CUfunction handle;
    kiln_kernel *next;
    char entry[64];
    int max_threads, static_shared;
    int dynamic_shared;  /* what the driver was told to allow so far */
    bool large_clusters; /* the driver was told to allow more than 8 blocks */
};

struct kiln_module {
    CUmodule handle;
    kiln_kernel *kernels;
};

/* Our context is made current for the time of a call, and what the application had comes back.
 *     bool pushed = kiln_cuda_enter(d); ... kiln_cuda_leave(d, pushed); */
bool kiln_cuda_enter(kiln_device *d);
void kiln_cuda_leave(kiln_device *d, bool pushed);
/* Fails with the driver's name and words for the code. */
int kiln_cuda_fail(kiln_device *d, const char *what, CUresult code, kiln_error *e);

/* ---- device.c */
int kiln_cuda_devices(kiln_caps *caps, int max, kiln_error *e);
int kiln_cuda_caps(cuda_api *cu, int index, CUdevice id, kiln_caps *caps);
int kiln_cuda_sensors(kiln_device *d, kiln_sensors *out);

/* ---- compile.c */
int kiln_cuda_compile(const kiln_caps *caps, const kiln_compile_request *request, kiln_blob *out,
                      kiln_blob *ptx, kiln_text *log, kiln_error *e);

/* ---- launch.c */
bool kiln_cuda_report(const char *log, const char *entry, kiln_kernel_facts *out);
kiln_module *kiln_cuda_load(kiln_device *d, const void *code, size_t size, kiln_error *e);
void kiln_cuda_unload(kiln_device *d, kiln_module *m);
kiln_kernel *kiln_cuda_kernel(kiln_device *d, kiln_module *m, const char *entry, kiln_error *e);
int kiln_cuda_facts(kiln_device *d, kiln_kernel *k, const kiln_launch *l, kiln_kernel_facts *out);
int kiln_cuda_encode(kiln_device *d, const kiln_tensor_map *maps, int n, const kiln_bindings *b,
                     void *out, kiln_error *e);
int kiln_cuda_launch(kiln_device *d, kiln_kernel *k, const kiln_launch *l, const kiln_bindings *b,
                     void *stream, kiln_error *e);

/* ---- timing.c: regions and batches */
int kiln_cuda_begin(kiln_device *d, int region, kiln_error *e);
int kiln_cuda_end(kiln_device *d, int region, kiln_error *e);
double kiln_cuda_seconds(kiln_device *d, int region, kiln_error *e);
int kiln_cuda_record_begin(kiln_device *d, kiln_error *e);
void *kiln_cuda_record_end(kiln_device *d, kiln_error *e);
int kiln_cuda_replay(kiln_device *d, void *batch, kiln_error *e);
void kiln_cuda_forget(kiln_device *d, void *batch);

#endif
