/* What Kiln uses of the CUDA driver, NVRTC and NVML, in our own declarations: the libraries are
 * opened at run time, so that one build serves machines with and without them.
 *
 * tests/test_cuda_api.c includes the official headers first and defines KILN_CUDA_OFFICIAL: then
 * the types below are theirs, and every function, constant and layout in the lists is compared. */
#ifndef KILN_TARGETS_CUDA_API_H
#define KILN_TARGETS_CUDA_API_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifndef KILN_CUDA_OFFICIAL
/* enums travel as unsigned, which is what they are in the ABI */
typedef unsigned CUresult, CUdevice_attribute, CUfunction_attribute, CUstreamCaptureMode;
typedef unsigned CUlaunchAttributeID, CUtensorMapDataType, CUtensorMapInterleave;
typedef unsigned CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

typedef struct CUlaunchAttribute_st {
    CUlaunchAttributeID id;
    char pad[4];
    union {
        char pad[64];
        struct {
            unsigned x, y, z;
        } clusterDim;
        int programmaticStreamSerializationAllowed;
    } value;
} CUlaunchAttribute;

typedef struct CUlaunchConfig_st {
    unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
    CUstream hStream;
    CUlaunchAttribute *attrs;
    unsigned numAttrs;
} CUlaunchConfig;

typedef struct CUtensorMap_st {
    _Alignas(64) uint64_t opaque[16];
} CUtensorMap;

typedef unsigned nvrtcResult;
typedef struct _nvrtcProgram *nvrtcProgram;
#endif

/* X(name, value) */
#define CUDA_CONSTANTS(X)                                                                          \
    X(CUDA_SUCCESS, 0)                                                                             \
    X(CUDA_ERROR_OUT_OF_MEMORY, 2)                                                                 \
    X(CUDA_ERROR_STUB_LIBRARY, 34)                                                                 \
    X(CUDA_ERROR_NO_DEVICE, 100)                                                                   \
    X(CUDA_ERROR_INVALID_IMAGE, 200)                                                               \
    X(CUDA_ERROR_NO_BINARY_FOR_GPU, 209)                                                           \
    X(CUDA_ERROR_INVALID_PTX, 218)                                                                 \
    X(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222)                                                     \
    X(CUDA_ERROR_NOT_FOUND, 500)                                                                   \
    X(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)                                                      \
    X(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1)                                                \
    X(CU_DEVICE_ATTRIBUTE_WARP_SIZE, 10)                                                           \
    X(CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 13)                                                          \
    X(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16)                                                \
    X(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 38)                                                       \
    X(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 39)                                      \
    X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75)                                            \
    X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)                                            \
    X(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 81)                                \
    X(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 82)                                    \
    X(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 97)                                   \
    X(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 0)                                                  \
    X(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 1)                                                      \
    X(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, 3)                                                       \
    X(CU_FUNC_ATTRIBUTE_NUM_REGS, 4)                                                               \
    X(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 8)                                          \
    X(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 14)                                     \
    X(CU_STREAM_NON_BLOCKING, 1)                                                                   \
    X(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, 1)                                                      \
    X(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, 4)                                                    \
    X(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, 6)                                    \
    X(CU_TENSOR_MAP_DATA_TYPE_UINT8, 0)                                                            \
    X(CU_TENSOR_MAP_DATA_TYPE_INT32, 3)                                                            \
    X(CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 6)                                                          \
    X(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 7)                                                          \
    X(CU_TENSOR_MAP_DATA_TYPE_FLOAT64, 8)                                                          \
    X(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 9)                                                         \
    X(CU_TENSOR_MAP_SWIZZLE_NONE, 0)                                                               \
    X(CU_TENSOR_MAP_SWIZZLE_32B, 1)                                                                \
    X(CU_TENSOR_MAP_SWIZZLE_64B, 2)                                                                \
    X(CU_TENSOR_MAP_SWIZZLE_128B, 3)                                                               \
    X(CU_TENSOR_MAP_L2_PROMOTION_NONE, 0)                                                          \
    X(CU_TENSOR_MAP_L2_PROMOTION_L2_64B, 1)                                                        \
    X(CU_TENSOR_MAP_L2_PROMOTION_L2_128B, 2)                                                       \
    X(CU_TENSOR_MAP_L2_PROMOTION_L2_256B, 3)                                                       \
    X(CU_TENSOR_MAP_INTERLEAVE_NONE, 0)                                                            \
    X(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE, 0)                                                        \
    X(NVRTC_SUCCESS, 0)                                                                            \
    X(NVRTC_ERROR_OUT_OF_MEMORY, 1)                                                                \
    X(NVRTC_ERROR_INVALID_OPTION, 5)                                                               \
    X(NVRTC_ERROR_COMPILATION, 6)

/* X(type, field, offset); with field `END` of size: X2(type, size) */
#define CUDA_OFFSETS(X)                                                                            \
    X(CUlaunchAttribute, id, 0)                                                                    \
    X(CUlaunchAttribute, value.clusterDim.y, 12)                                                   \
    X(CUlaunchAttribute, value.programmaticStreamSerializationAllowed, 8)                          \
    X(CUlaunchConfig, gridDimX, 0)                                                                 \
    X(CUlaunchConfig, blockDimX, 12)                                                               \
    X(CUlaunchConfig, sharedMemBytes, 24)                                                          \
    X(CUlaunchConfig, hStream, 32)                                                                 \
    X(CUlaunchConfig, attrs, 40)                                                                   \
    X(CUlaunchConfig, numAttrs, 48)
#define CUDA_SIZES(X)                                                                              \
    X(CUlaunchAttribute, 72)                                                                       \
    X(CUlaunchConfig, 56)                                                                          \
    X(CUtensorMap, 128)                                                                            \
    X(CUdevice, 4)                                                                                 \
    X(CUdeviceptr, 8)                                                                              \
    X(CUresult, 4)                                                                                 \
    X(nvrtcResult, 4)

#ifndef KILN_CUDA_OFFICIAL
enum cuda_constant {
#define X(name, value) name = value,
    CUDA_CONSTANTS(X)
#undef X
};
#endif
#define X(type, field, at) _Static_assert(offsetof(type, field) == at, #type "." #field);
CUDA_OFFSETS(X)
#undef X
#define X(type, bytes) _Static_assert(sizeof(type) == bytes, #type);
CUDA_SIZES(X)
#undef X

/* X(name, optional, parameters): all return CUresult. Names carry the version that is meant. */
#define CUDA_FUNCTIONS(X)                                                                          \
    X(cuInit, 0, (unsigned))                                                                       \
    X(cuDriverGetVersion, 0, (int *))                                                              \
    X(cuGetErrorName, 0, (CUresult, const char **))                                                \
    X(cuGetErrorString, 0, (CUresult, const char **))                                              \
    X(cuDeviceGet, 0, (CUdevice *, int))                                                           \
    X(cuDeviceGetCount, 0, (int *))                                                                \
    X(cuDeviceGetName, 0, (char *, int, CUdevice))                                                 \
    X(cuDeviceGetPCIBusId, 0, (char *, int, CUdevice))                                             \
    X(cuDeviceTotalMem_v2, 0, (size_t *, CUdevice))                                                \
    X(cuDeviceGetAttribute, 0, (int *, CUdevice_attribute, CUdevice))                              \
    X(cuDevicePrimaryCtxRetain, 0, (CUcontext *, CUdevice))                                        \
    X(cuDevicePrimaryCtxRelease_v2, 0, (CUdevice))                                                 \
    X(cuCtxGetCurrent, 0, (CUcontext *))                                                           \
    X(cuCtxGetDevice, 0, (CUdevice *))                                                             \
    X(cuCtxPushCurrent_v2, 0, (CUcontext))                                                         \
    X(cuCtxPopCurrent_v2, 0, (CUcontext *))                                                        \
    X(cuMemAlloc_v2, 0, (CUdeviceptr *, size_t))                                                   \
    X(cuMemFree_v2, 0, (CUdeviceptr))                                                              \
    X(cuMemcpyHtoDAsync_v2, 0, (CUdeviceptr, const void *, size_t, CUstream))                      \
    X(cuMemcpyDtoHAsync_v2, 0, (void *, CUdeviceptr, size_t, CUstream))                            \
    X(cuMemcpyDtoDAsync_v2, 0, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                       \
    X(cuMemsetD32Async, 0, (CUdeviceptr, unsigned, size_t, CUstream))                              \
    X(cuStreamCreate, 0, (CUstream *, unsigned))                                                   \
    X(cuStreamDestroy_v2, 0, (CUstream))                                                           \
    X(cuStreamSynchronize, 0, (CUstream))                                                          \
    X(cuEventCreate, 0, (CUevent *, unsigned))                                                     \
    X(cuEventDestroy_v2, 0, (CUevent))                                                             \
    X(cuEventRecord, 0, (CUevent, CUstream))                                                       \
    X(cuEventSynchronize, 0, (CUevent))                                                            \
    X(cuEventElapsedTime, 0, (float *, CUevent, CUevent))                                          \
    X(cuModuleLoadData, 0, (CUmodule *, const void *))                                             \
    X(cuModuleUnload, 0, (CUmodule))                                                               \
    X(cuModuleGetFunction, 0, (CUfunction *, CUmodule, const char *))                              \
    X(cuFuncGetAttribute, 0, (int *, CUfunction_attribute, CUfunction))                            \
    X(cuFuncSetAttribute, 0, (CUfunction, CUfunction_attribute, int))                              \
    X(cuLaunchKernel, 0,                                                                           \
      (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, \
       void **, void **))                                                                          \
    X(cuLaunchKernelEx, 1, (const CUlaunchConfig *, CUfunction, void **, void **))                 \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor, 0, (int *, CUfunction, int, size_t))            \
    X(cuTensorMapEncodeTiled, 1,                                                                   \
      (CUtensorMap *, CUtensorMapDataType, uint32_t, void *, const uint64_t *, const uint64_t *,   \
       const uint32_t *, const uint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,              \
       CUtensorMapL2promotion, CUtensorMapFloatOOBfill))                                           \
    X(cuStreamBeginCapture_v2, 0, (CUstream, CUstreamCaptureMode))                                 \
    X(cuStreamEndCapture, 0, (CUstream, CUgraph *))                                                \
    X(cuGraphInstantiateWithFlags, 0, (CUgraphExec *, CUgraph, unsigned long long))                \
    X(cuGraphLaunch, 0, (CUgraphExec, CUstream))                                                   \
    X(cuGraphDestroy, 0, (CUgraph))                                                                \
    X(cuGraphExecDestroy, 0, (CUgraphExec))

/* X(result, name, parameters) */
#define NVRTC_FUNCTIONS(X)                                                                         \
    X(nvrtcResult, nvrtcVersion, (int *, int *))                                                   \
    X(const char *, nvrtcGetErrorString, (nvrtcResult))                                            \
    X(nvrtcResult, nvrtcCreateProgram,                                                             \
      (nvrtcProgram *, const char *, const char *, int, const char *const *, const char *const *)) \
    X(nvrtcResult, nvrtcDestroyProgram, (nvrtcProgram *))                                          \
    X(nvrtcResult, nvrtcCompileProgram, (nvrtcProgram, int, const char *const *))                  \
    X(nvrtcResult, nvrtcGetPTXSize, (nvrtcProgram, size_t *))                                      \
    X(nvrtcResult, nvrtcGetPTX, (nvrtcProgram, char *))                                            \
    X(nvrtcResult, nvrtcGetCUBINSize, (nvrtcProgram, size_t *))                                    \
    X(nvrtcResult, nvrtcGetCUBIN, (nvrtcProgram, char *))                                          \
    X(nvrtcResult, nvrtcGetProgramLogSize, (nvrtcProgram, size_t *))                               \
    X(nvrtcResult, nvrtcGetProgramLog, (nvrtcProgram, char *))

/* NVML is for sensors only; all of it may be missing. All return int, 0: done. */
typedef struct nvmlDevice_st *nvml_device;
#define NVML_FUNCTIONS(X)                                                                          \
    X(nvmlInit_v2, (void))                                                                         \
    X(nvmlSystemGetDriverVersion, (char *, unsigned))                                              \
    X(nvmlDeviceGetHandleByPciBusId_v2, (const char *, nvml_device *))                             \
    X(nvmlDeviceGetClockInfo, (nvml_device, unsigned, unsigned *))                                 \
    X(nvmlDeviceGetTemperature, (nvml_device, unsigned, unsigned *))                               \
    X(nvmlDeviceGetPowerUsage, (nvml_device, unsigned *))                                          \
    X(nvmlDeviceGetCurrentClocksThrottleReasons, (nvml_device, unsigned long long *))
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_TEMPERATURE_GPU = 0 };

/* cuBLASLt: a vendor, so only the tuner uses it. X(result, name, parameters) */
#ifndef KILN_CUDA_OFFICIAL
typedef struct cublasLtContext *cublasLtHandle_t;
typedef struct cublaslt_opaque *cublasLtMatmulDesc_t, *cublasLtMatrixLayout_t,
    *cublasLtMatmulPreference_t;
typedef unsigned cublasStatus_t, cublasComputeType_t, cudaDataType;
typedef unsigned cublasLtMatmulDescAttributes_t, cublasLtMatrixLayoutAttribute_t;
typedef unsigned cublasLtMatmulPreferenceAttributes_t, cublasLtMatmulAlgoConfigAttributes_t;
typedef CUstream cudaStream_t;
typedef struct cublasLtMatmulAlgo_t {
    uint64_t data[8];
} cublasLtMatmulAlgo_t;
typedef struct cublasLtMatmulHeuristicResult_t {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
    float wavesCount;
    int reserved[4];
} cublasLtMatmulHeuristicResult_t;
#endif
#define CUBLASLT_FUNCTIONS(X)                                                                      \
    X(size_t, cublasLtGetVersion, (void))                                                          \
    X(const char *, cublasLtGetStatusString, (cublasStatus_t))                                     \
    X(cublasStatus_t, cublasLtCreate, (cublasLtHandle_t *))                                        \
    X(cublasStatus_t, cublasLtDestroy, (cublasLtHandle_t))                                         \
    X(cublasStatus_t, cublasLtMatmulDescCreate,                                                    \
      (cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType))                                 \
    X(cublasStatus_t, cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t))                           \
    X(cublasStatus_t, cublasLtMatmulDescSetAttribute,                                              \
      (cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t))                \
    X(cublasStatus_t, cublasLtMatrixLayoutCreate,                                                  \
      (cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t, int64_t))                       \
    X(cublasStatus_t, cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t))                       \
    X(cublasStatus_t, cublasLtMatrixLayoutSetAttribute,                                            \
      (cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, const void *, size_t))             \
    X(cublasStatus_t, cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t *))              \
    X(cublasStatus_t, cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t))               \
    X(cublasStatus_t, cublasLtMatmulPreferenceSetAttribute,                                        \
      (cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *, size_t))    \
    X(cublasStatus_t, cublasLtMatmulAlgoGetHeuristic,                                              \
      (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,     \
       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,            \
       cublasLtMatmulHeuristicResult_t *, int *))                                                  \
    X(cublasStatus_t, cublasLtMatmulAlgoConfigGetAttribute,                                        \
      (const cublasLtMatmulAlgo_t *, cublasLtMatmulAlgoConfigAttributes_t, void *, size_t,         \
       size_t *))                                                                                  \
    X(cublasStatus_t, cublasLtMatmul,                                                              \
      (cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *, cublasLtMatrixLayout_t, \
       const void *, cublasLtMatrixLayout_t, const void *, const void *, cublasLtMatrixLayout_t,   \
       void *, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *, size_t,               \
       cudaStream_t))
#define CUBLASLT_CONSTANTS(X)                                                                      \
    X(CUBLAS_COMPUTE_32F, 68)                                                                      \
    X(CUBLAS_COMPUTE_32I, 72)                                                                      \
    X(CUBLAS_COMPUTE_32F_FAST_TF32, 77)                                                            \
    X(CUDA_R_32F, 0)                                                                               \
    X(CUDA_R_16F, 2)                                                                               \
    X(CUDA_R_8I, 3)                                                                                \
    X(CUDA_R_32I, 10)                                                                              \
    X(CUDA_R_16BF, 14)                                                                             \
    X(CUDA_R_8F_E4M3, 28)                                                                          \
    X(CUDA_R_8F_E5M2, 29)                                                                          \
    X(CUBLASLT_MATMUL_DESC_TRANSA, 3)                                                              \
    X(CUBLASLT_MATMUL_DESC_TRANSB, 4)                                                              \
    X(CUBLASLT_MATMUL_DESC_FAST_ACCUM, 25)                                                         \
    X(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 5)                                                       \
    X(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 6)                                              \
    X(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1)                                                 \
    X(CUBLASLT_ALGO_CONFIG_ID, 0)                                                                  \
    X(CUBLASLT_ALGO_CONFIG_TILE_ID, 1)                                                             \
    X(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 2)                                                          \
    X(CUBLASLT_ALGO_CONFIG_STAGES_ID, 6)                                                           \
    X(CUBLAS_OP_N, 0)                                                                              \
    X(CUBLAS_OP_T, 1)
#define CUBLASLT_OFFSETS(X)                                                                        \
    X(cublasLtMatmulHeuristicResult_t, workspaceSize, 64)                                          \
    X(cublasLtMatmulHeuristicResult_t, state, 72)                                                  \
    X(cublasLtMatmulHeuristicResult_t, reserved[4], 96)

#ifndef KILN_CUDA_OFFICIAL
enum cublaslt_constant {
#define X(name, value) name = value,
    CUBLASLT_CONSTANTS(X)
#undef X
};
typedef struct cublaslt_api {
#define X(result, name, parameters) result(*name) parameters;
    CUBLASLT_FUNCTIONS(X)
#undef X
} cublaslt_api;

typedef struct cuda_api {
#define X(name, optional, parameters) CUresult(*name) parameters;
    CUDA_FUNCTIONS(X)
#undef X
} cuda_api;

typedef struct nvrtc_api {
#define X(result, name, parameters) result(*name) parameters;
    NVRTC_FUNCTIONS(X)
#undef X
    int major, minor;
} nvrtc_api;

typedef struct nvml_api {
#define X(name, parameters) int(*name) parameters;
    NVML_FUNCTIONS(X)
#undef X
} nvml_api;

/* Each is opened at its first call. The driver: NULL and a reason when absent, or when cuInit
 * fails. Tests may replace entries. */
cuda_api *kiln_cuda_api(kiln_error *e);
nvrtc_api *kiln_nvrtc_api(kiln_error *e);
nvml_api *kiln_nvml_api(void);
/* Tests: this driver from now on, on a machine without one. */
void kiln_cuda_pretend(const cuda_api *driver);
/* A library of the CUDA toolkit: its names for CUDA 13, 12, 11 and without a version; looked for
 * where the loader looks, in $CUDA_HOME/lib64 and in /usr/local/cuda/lib64. */
void *kiln_cuda_open_toolkit(const char *const files[4], kiln_error *e);
/* "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered" */
void kiln_cuda_error(cuda_api *cu, CUresult code, char *out, size_t size);
#endif

#endif
