/* Private to targets/opencl: the device, and what its files share. */
#ifndef KILN_TARGETS_OPENCL_OPENCL_H
#define KILN_TARGETS_OPENCL_OPENCL_H

#include "targets/opencl/api.h"
#include "targets/target.h"

enum { OPENCL_DEVICES_MAX = 32, OPENCL_REGIONS = 64 };

/* Source text is stored with this first line where a driver gives no binary: load() then builds. */
#define OPENCL_SOURCE_TAG "//kiln-opencl-source\n"

/* A region is timed by the events of the first and the last launch in it, so that the host's
 * delay before the first one does not count; markers serve where a vendor enqueued the work.
 * (PoCL 3.1: 33 us between the marker and a kernel enqueued right after it.) */
typedef struct opencl_region_events {
    cl_event begin, end, first, last;
    double host_begin, host_end;
    bool open;
} opencl_region_events;

struct kiln_device {
    opencl_api *api;
    kiln_caps caps;
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    opencl_region_events region[OPENCL_REGIONS];
    int open_regions;
};

struct kiln_kernel {
    cl_kernel handle;
    kiln_kernel *next;
    char entry[64];
    size_t max_threads, local_bytes, block[3]; /* block: as compiled, 0 free */
};

struct kiln_module {
    cl_program program;
    kiln_kernel *kernels;
};

/* ---- device.c */
int kiln_opencl_devices(kiln_caps *caps, int max, kiln_error *e);
/* The handle of a device by its index; the same order as kiln_opencl_devices. */
int kiln_opencl_device_id(int index, cl_device_id *id, kiln_error *e);
void kiln_opencl_caps(opencl_api *cl, cl_device_id id, kiln_caps *caps);
/* One context per device and process, made at the first call and kept: compile() and open() share
 * it. Not released: a kernel may still hang in it when the process ends. */
cl_context kiln_opencl_context(int index, kiln_error *e);

/* ---- compile.c */
int kiln_opencl_compile(const kiln_caps *caps, const kiln_compile_request *request, kiln_blob *out,
                        kiln_blob *ptx, kiln_text *log, kiln_error *e);
cl_program kiln_opencl_build(opencl_api *cl, cl_context context, cl_device_id id,
                             const char *source, kiln_text *log, kiln_error *e);
kiln_module *kiln_opencl_load(kiln_device *d, const void *code, size_t size, kiln_error *e);
void kiln_opencl_unload(kiln_device *d, kiln_module *m);

/* ---- launch.c */
kiln_kernel *kiln_opencl_kernel(kiln_device *d, kiln_module *m, const char *entry, kiln_error *e);
int kiln_opencl_facts(kiln_device *d, kiln_kernel *k, const kiln_launch *l, kiln_kernel_facts *out);
/* The second half of a launch: its arguments are set already. */
int kiln_opencl_enqueue(kiln_device *d, kiln_kernel *k, const kiln_launch *l, void *stream,
                        kiln_error *e);
int kiln_opencl_launch(kiln_device *d, kiln_kernel *k, const kiln_launch *l, const kiln_bindings *b,
                       void *stream, kiln_error *e);

/* ---- timing.c */
void kiln_opencl_probe_events(kiln_device *d);
int kiln_opencl_begin(kiln_device *d, int region, kiln_error *e);
int kiln_opencl_end(kiln_device *d, int region, kiln_error *e);
double kiln_opencl_seconds(kiln_device *d, int region, kiln_error *e);
/* Takes the event of a launch or copy for every open region; ownership passes. */
void kiln_opencl_note_launch(kiln_device *d, cl_event event);
void kiln_opencl_drop_regions(kiln_device *d);

#endif
