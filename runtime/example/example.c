/* A matmul from a Kiln library, on the caller's own OpenCL context, queue and buffers.
 *
 *     cc example.c $(pkg-config --cflags --libs kiln) -lOpenCL -o example && ./example my.kiln
 *
 * With CUDA: .device = "cuda", .context = NULL (the current one), .stream = your CUstream, and
 * device pointers in place of cl_mem. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <kiln.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 512 };

static void check(int status) {
    if (!status) return;
    fprintf(stderr, "%s\n", kiln_last_error());
    exit(2);
}

int main(int argc, char **argv) {
    /* the application's own OpenCL: first device, a queue, three matrices of ones */
    cl_platform_id platform;
    cl_device_id device;
    static float ones[N * N];
    for (int i = 0; i < N * N; i++) ones[i] = 1;
    if (argc < 2 || clGetPlatformIDs(1, &platform, NULL) ||
        clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL))
        return fprintf(stderr, "usage: example FILE.kiln (and an OpenCL device is needed)\n"), 2;
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, NULL);
    cl_mem_flags copy = CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR;
    void *operand[3]; /* a, b, out */
    for (int i = 0; i < 3; i++) operand[i] = clCreateBuffer(context, copy, sizeof ones, ones, NULL);

    /* Kiln: once at start */
    kiln_library *library;
    kiln_context *kiln;
    kiln_problem *problem;
    kiln_plan *plan;
    kiln_plan_info info = {.size = sizeof info};
    kiln_attach_options attach = {.size = sizeof attach,
                                  .device = "opencl",
                                  .attach = 1,
                                  .context = context,
                                  .handle = device,
                                  .stream = queue};
    check(kiln_open_library(argv[1], NULL, &library));
    check(kiln_attach_device(library, &attach, &kiln));
    check(kiln_make_problem("matmul m=512 n=512 k=512", &problem));
    check(kiln_get_plan(kiln, problem, &plan));
    check(kiln_prepare_plan(plan));
    check(kiln_get_plan_info(plan, &info));
    printf("%s: %s\n", info.schedule, info.reason);
    void *workspace = NULL;
    if (info.workspace_bytes) check(kiln_make_buffer(kiln, info.workspace_bytes, &workspace));

    /* Kiln: as often as you like, on your queue, in order with your other work */
    kiln_launch_args args = {.size = sizeof args, .operand = operand, .workspace = workspace};
    check(kiln_launch_plan(plan, &args));

    clEnqueueReadBuffer(queue, operand[2], CL_TRUE, 0, sizeof ones, ones, 0, NULL, NULL);
    printf("out[0] = %g, out[last] = %g; both must be %d\n", ones[0], ones[N * N - 1], N);

    kiln_free_buffer(kiln, workspace);
    kiln_release_plan(plan);
    kiln_free_problem(problem);
    kiln_detach_device(kiln);
    kiln_close_library(library);
    for (int i = 0; i < 3; i++) clReleaseMemObject(operand[i]);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return ones[0] == N && ones[N * N - 1] == N ? 0 : 1;
}
