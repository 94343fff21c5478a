/* What Kiln uses of OpenCL 1.2, in our own declarations: the ICD loader is opened at run time, so
 * that the tuner starts on a machine without it. tests/test_targets.c compares the functions, the
 * constants and the types below with the official headers.
 *
 * Constants are the official names with OCL_ for CL_. */
#ifndef KILN_TARGETS_OPENCL_API_H
#define KILN_TARGETS_OPENCL_API_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Repeating an identical typedef is legal C11: these may meet the official ones in a test. */
typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef cl_uint cl_bool;
typedef cl_ulong cl_bitfield;
typedef struct _cl_platform_id *cl_platform_id;
typedef struct _cl_device_id *cl_device_id;
typedef struct _cl_context *cl_context;
typedef struct _cl_command_queue *cl_command_queue;
typedef struct _cl_mem *cl_mem;
typedef struct _cl_program *cl_program;
typedef struct _cl_kernel *cl_kernel;
typedef struct _cl_event *cl_event;
typedef intptr_t cl_context_properties;

/* X(name, value) */
#define OPENCL_CONSTANTS(X)                                                                        \
    X(SUCCESS, 0)                                                                                  \
    X(DEVICE_NOT_FOUND, -1)                                                                        \
    X(MEM_OBJECT_ALLOCATION_FAILURE, -4)                                                           \
    X(OUT_OF_RESOURCES, -5)                                                                        \
    X(OUT_OF_HOST_MEMORY, -6)                                                                      \
    X(BUILD_PROGRAM_FAILURE, -11)                                                                  \
    X(INVALID_VALUE, -30)                                                                          \
    X(INVALID_BINARY, -42)                                                                         \
    X(INVALID_BUILD_OPTIONS, -43)                                                                  \
    X(INVALID_KERNEL_NAME, -46)                                                                    \
    X(INVALID_ARG_INDEX, -49)                                                                      \
    X(INVALID_ARG_VALUE, -50)                                                                      \
    X(INVALID_ARG_SIZE, -51)                                                                       \
    X(INVALID_KERNEL_ARGS, -52)                                                                    \
    X(INVALID_WORK_GROUP_SIZE, -54)                                                                \
    X(INVALID_BUFFER_SIZE, -61)                                                                    \
    X(PLATFORM_VERSION, 0x0901)                                                                    \
    X(PLATFORM_NAME, 0x0902)                                                                       \
    X(DEVICE_TYPE_CPU, 2)                                                                          \
    X(DEVICE_TYPE_GPU, 4)                                                                          \
    X(DEVICE_TYPE, 0x1000)                                                                         \
    X(DEVICE_MAX_COMPUTE_UNITS, 0x1002)                                                            \
    X(DEVICE_MAX_WORK_GROUP_SIZE, 0x1004)                                                          \
    X(DEVICE_MAX_CLOCK_FREQUENCY, 0x100C)                                                          \
    X(DEVICE_MAX_MEM_ALLOC_SIZE, 0x1010)                                                           \
    X(DEVICE_MEM_BASE_ADDR_ALIGN, 0x1019)                                                          \
    X(DEVICE_SINGLE_FP_CONFIG, 0x101B)                                                             \
    X(DEVICE_GLOBAL_MEM_CACHE_SIZE, 0x101E)                                                        \
    X(DEVICE_GLOBAL_MEM_SIZE, 0x101F)                                                              \
    X(DEVICE_LOCAL_MEM_SIZE, 0x1023)                                                               \
    X(DEVICE_AVAILABLE, 0x1027)                                                                    \
    X(DEVICE_COMPILER_AVAILABLE, 0x1028)                                                           \
    X(DEVICE_NAME, 0x102B)                                                                         \
    X(DEVICE_VENDOR, 0x102C)                                                                       \
    X(DRIVER_VERSION, 0x102D)                                                                      \
    X(DEVICE_VERSION, 0x102F)                                                                      \
    X(DEVICE_EXTENSIONS, 0x1030)                                                                   \
    X(DEVICE_PLATFORM, 0x1031)                                                                     \
    X(DEVICE_DOUBLE_FP_CONFIG, 0x1032)                                                             \
    X(DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, 0x103A)                                                    \
    X(FP_CORRECTLY_ROUNDED_DIVIDE_SQRT, 1 << 7)                                                    \
    X(CONTEXT_PLATFORM, 0x1084)                                                                    \
    X(QUEUE_DEVICE, 0x1091)                                                                        \
    X(QUEUE_PROPERTIES, 0x1093)                                                                    \
    X(QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, 1 << 0)                                                 \
    X(QUEUE_PROFILING_ENABLE, 1 << 1)                                                              \
    X(MEM_READ_WRITE, 1 << 0)                                                                      \
    X(MEM_SIZE, 0x1102)                                                                            \
    X(BUFFER_CREATE_TYPE_REGION, 0x1220)                                                           \
    X(MAP_READ, 1 << 0)                                                                            \
    X(MAP_WRITE, 1 << 1)                                                                           \
    X(PROGRAM_BINARY_SIZES, 0x1165)                                                                \
    X(PROGRAM_BINARIES, 0x1166)                                                                    \
    X(PROGRAM_BUILD_LOG, 0x1183)                                                                   \
    X(KERNEL_NUM_ARGS, 0x1191)                                                                     \
    X(KERNEL_WORK_GROUP_SIZE, 0x11B0)                                                              \
    X(KERNEL_COMPILE_WORK_GROUP_SIZE, 0x11B1)                                                      \
    X(KERNEL_LOCAL_MEM_SIZE, 0x11B2)                                                               \
    X(KERNEL_PRIVATE_MEM_SIZE, 0x11B4)                                                             \
    X(PROFILING_COMMAND_START, 0x1282)                                                             \
    X(PROFILING_COMMAND_END, 0x1283)

/* Of extensions, from the Khronos registry. */
#define OPENCL_EXTENSION_CONSTANTS(X)                                                              \
    X(DEVICE_REGISTERS_PER_BLOCK_NV, 0x4002)                                                       \
    X(DEVICE_WARP_SIZE_NV, 0x4003)                                                                 \
    X(DEVICE_WAVEFRONT_WIDTH_AMD, 0x4043)                                                          \
    X(DEVICE_LOCAL_MEM_SIZE_PER_COMPUTE_UNIT_AMD, 0x4047)                                          \
    X(DEVICE_PCI_BUS_INFO_KHR, 0x410F)

enum opencl_constant {
#define X(name, value) OCL_##name = value,
    OPENCL_CONSTANTS(X) OPENCL_EXTENSION_CONSTANTS(X)
#undef X
};

typedef struct opencl_region {
    size_t origin, size;
} opencl_region; /* cl_buffer_region */

typedef struct opencl_pci {
    cl_uint domain, bus, device, function;
} opencl_pci; /* cl_device_pci_bus_info_khr */

/* X(result, name, parameters) */
#define OPENCL_FUNCTIONS(X)                                                                        \
    X(cl_int, clGetPlatformIDs, (cl_uint, cl_platform_id *, cl_uint *))                            \
    X(cl_int, clGetPlatformInfo, (cl_platform_id, cl_uint, size_t, void *, size_t *))              \
    X(cl_int, clGetDeviceIDs, (cl_platform_id, cl_bitfield, cl_uint, cl_device_id *, cl_uint *))   \
    X(cl_int, clGetDeviceInfo, (cl_device_id, cl_uint, size_t, void *, size_t *))                  \
    X(cl_context, clCreateContext,                                                                 \
      (const cl_context_properties *, cl_uint, const cl_device_id *,                               \
       void (*)(const char *, const void *, size_t, void *), void *, cl_int *))                    \
    X(cl_int, clRetainContext, (cl_context))                                                       \
    X(cl_int, clReleaseContext, (cl_context))                                                      \
    X(cl_command_queue, clCreateCommandQueue, (cl_context, cl_device_id, cl_bitfield, cl_int *))   \
    X(cl_int, clRetainCommandQueue, (cl_command_queue))                                            \
    X(cl_int, clReleaseCommandQueue, (cl_command_queue))                                           \
    X(cl_int, clGetCommandQueueInfo, (cl_command_queue, cl_uint, size_t, void *, size_t *))        \
    X(cl_mem, clCreateBuffer, (cl_context, cl_bitfield, size_t, void *, cl_int *))                 \
    X(cl_mem, clCreateSubBuffer, (cl_mem, cl_bitfield, cl_uint, const void *, cl_int *))           \
    X(cl_int, clReleaseMemObject, (cl_mem))                                                        \
    X(cl_int, clGetMemObjectInfo, (cl_mem, cl_uint, size_t, void *, size_t *))                     \
    X(cl_int, clEnqueueReadBuffer,                                                                 \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void *, cl_uint, const cl_event *,       \
       cl_event *))                                                                                \
    X(cl_int, clEnqueueWriteBuffer,                                                                \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void *, cl_uint, const cl_event *, \
       cl_event *))                                                                                \
    X(cl_int, clEnqueueFillBuffer,                                                                 \
      (cl_command_queue, cl_mem, const void *, size_t, size_t, size_t, cl_uint, const cl_event *,  \
       cl_event *))                                                                                \
    X(cl_int, clEnqueueCopyBuffer,                                                                 \
      (cl_command_queue, cl_mem, cl_mem, size_t, size_t, size_t, cl_uint, const cl_event *,        \
       cl_event *))                                                                                \
    X(void *, clEnqueueMapBuffer,                                                                  \
      (cl_command_queue, cl_mem, cl_bool, cl_bitfield, size_t, size_t, cl_uint, const cl_event *,  \
       cl_event *, cl_int *))                                                                      \
    X(cl_int, clEnqueueUnmapMemObject,                                                             \
      (cl_command_queue, cl_mem, void *, cl_uint, const cl_event *, cl_event *))                   \
    X(cl_int, clEnqueueNDRangeKernel,                                                              \
      (cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *,       \
       cl_uint, const cl_event *, cl_event *))                                                     \
    X(cl_int, clEnqueueMarkerWithWaitList,                                                         \
      (cl_command_queue, cl_uint, const cl_event *, cl_event *))                                   \
    X(cl_int, clFlush, (cl_command_queue))                                                         \
    X(cl_int, clFinish, (cl_command_queue))                                                        \
    X(cl_int, clWaitForEvents, (cl_uint, const cl_event *))                                        \
    X(cl_int, clRetainEvent, (cl_event))                                                           \
    X(cl_int, clReleaseEvent, (cl_event))                                                          \
    X(cl_int, clGetEventProfilingInfo, (cl_event, cl_uint, size_t, void *, size_t *))              \
    X(cl_program, clCreateProgramWithSource,                                                       \
      (cl_context, cl_uint, const char **, const size_t *, cl_int *))                              \
    X(cl_program, clCreateProgramWithBinary,                                                       \
      (cl_context, cl_uint, const cl_device_id *, const size_t *, const unsigned char **,          \
       cl_int *, cl_int *))                                                                        \
    X(cl_int, clReleaseProgram, (cl_program))                                                      \
    X(cl_int, clBuildProgram,                                                                      \
      (cl_program, cl_uint, const cl_device_id *, const char *, void (*)(cl_program, void *),      \
       void *))                                                                                    \
    X(cl_int, clGetProgramInfo, (cl_program, cl_uint, size_t, void *, size_t *))                   \
    X(cl_int, clGetProgramBuildInfo,                                                               \
      (cl_program, cl_device_id, cl_uint, size_t, void *, size_t *))                               \
    X(cl_kernel, clCreateKernel, (cl_program, const char *, cl_int *))                             \
    X(cl_int, clReleaseKernel, (cl_kernel))                                                        \
    X(cl_int, clSetKernelArg, (cl_kernel, cl_uint, size_t, const void *))                          \
    X(cl_int, clGetKernelInfo, (cl_kernel, cl_uint, size_t, void *, size_t *))                     \
    X(cl_int, clGetKernelWorkGroupInfo,                                                            \
      (cl_kernel, cl_device_id, cl_uint, size_t, void *, size_t *))

typedef struct opencl_api {
#define X(result, name, parameters) result(*name) parameters;
    OPENCL_FUNCTIONS(X)
#undef X
} opencl_api;

/* The driver, opened at the first call; NULL and a reason when there is none. */
opencl_api *kiln_opencl_api(kiln_error *e);
/* "CL_OUT_OF_RESOURCES" and so on; never NULL. */
const char *kiln_opencl_error(cl_int code);

#endif
