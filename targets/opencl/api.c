#include "targets/opencl/api.h"

#include "targets/driver.h"

#include <pthread.h>
#include <stdio.h>

static opencl_api api;
static kiln_error failure; /* of the one attempt to open the driver */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const kiln_driver_symbol symbols[] = {
#define X(result, name, parameters) {#name, offsetof(opencl_api, name), false},
    OPENCL_FUNCTIONS(X)
#undef X
};

static void open_driver(void) {
    static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so", NULL};
    void *library = kiln_driver_open(names, &failure);
    if (!library) {
        kiln_fail(&failure, KILN_NO_DEVICE,
                  "OpenCL is not installed (libOpenCL.so.1 is missing): install ocl-icd-libopencl1 "
                  "and a driver, for example pocl-opencl-icd");
        return;
    }
    kiln_driver_bind(library, "libOpenCL.so.1", symbols, sizeof symbols / sizeof *symbols, &api,
                     &failure);
}

opencl_api *kiln_opencl_api(kiln_error *e) {
    pthread_once(&once, open_driver);
    if (!failure.status) return &api;
    if (e) *e = failure;
    return NULL;
}

const char *kiln_opencl_error(cl_int code) {
    static _Thread_local char number[32];
    switch (code) {
    case OCL_SUCCESS:
        return "success";
    case OCL_MEM_OBJECT_ALLOCATION_FAILURE:
        return "CL_MEM_OBJECT_ALLOCATION_FAILURE";
    case OCL_OUT_OF_RESOURCES:
        return "CL_OUT_OF_RESOURCES";
    case OCL_OUT_OF_HOST_MEMORY:
        return "CL_OUT_OF_HOST_MEMORY";
    case OCL_BUILD_PROGRAM_FAILURE:
        return "CL_BUILD_PROGRAM_FAILURE";
    case OCL_INVALID_VALUE:
        return "CL_INVALID_VALUE";
    case OCL_INVALID_BINARY:
        return "CL_INVALID_BINARY";
    case OCL_INVALID_BUILD_OPTIONS:
        return "CL_INVALID_BUILD_OPTIONS";
    case OCL_INVALID_KERNEL_NAME:
        return "CL_INVALID_KERNEL_NAME";
    case OCL_INVALID_ARG_INDEX:
        return "CL_INVALID_ARG_INDEX";
    case OCL_INVALID_ARG_VALUE:
        return "CL_INVALID_ARG_VALUE";
    case OCL_INVALID_ARG_SIZE:
        return "CL_INVALID_ARG_SIZE";
    case OCL_INVALID_KERNEL_ARGS:
        return "CL_INVALID_KERNEL_ARGS";
    case OCL_INVALID_WORK_GROUP_SIZE:
        return "CL_INVALID_WORK_GROUP_SIZE";
    case OCL_INVALID_BUFFER_SIZE:
        return "CL_INVALID_BUFFER_SIZE";
    }
    snprintf(number, sizeof number, "OpenCL error %d", (int)code);
    return number;
}
