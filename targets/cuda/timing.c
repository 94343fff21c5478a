#include "targets/cuda/cuda.h"

/* ---------------------------------------------------------------- regions */

static int check_region(int region, kiln_error *e) {
    if (region >= 0 && region < CUDA_REGIONS) return 0;
    return kiln_fail(e, KILN_BAD_INPUT, "timing region %d: there are %d", region, CUDA_REGIONS);
}

static int record(kiln_device *d, CUevent *event, kiln_error *e) {
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = *event ? CUDA_SUCCESS : d->cu->cuEventCreate(event, 0);
    if (!rc) rc = d->cu->cuEventRecord(*event, d->stream);
    kiln_cuda_leave(d, pushed);
    return rc ? kiln_cuda_fail(d, "a timing event", rc, e) : 0;
}

int kiln_cuda_begin(kiln_device *d, int region, kiln_error *e) {
    int rc = check_region(region, e);
    return rc ? rc : record(d, &d->begin[region], e);
}

int kiln_cuda_end(kiln_device *d, int region, kiln_error *e) {
    int rc = check_region(region, e);
    return rc ? rc : record(d, &d->end[region], e);
}

double kiln_cuda_seconds(kiln_device *d, int region, kiln_error *e) {
    float ms = 0;
    if (check_region(region, e)) return -1;
    if (!d->begin[region] || !d->end[region])
        return kiln_fail(e, KILN_BAD_INPUT, "timing region %d has not ended", region);
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuEventSynchronize(d->end[region]);
    if (!rc) rc = d->cu->cuEventElapsedTime(&ms, d->begin[region], d->end[region]);
    kiln_cuda_leave(d, pushed);
    return rc ? kiln_cuda_fail(d, "the timed work", rc, e) : 1e-3 * (double)ms;
}

/* ---------------------------------------------------------------- batches */

int kiln_cuda_record_begin(kiln_device *d, kiln_error *e) {
    if (!d->stream)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "the default stream cannot record a batch: attach a "
                         "stream of its own");
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuStreamBeginCapture_v2(d->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    kiln_cuda_leave(d, pushed);
    return rc ? kiln_cuda_fail(d, "recording a batch", rc, e) : 0;
}

void *kiln_cuda_record_end(kiln_device *d, kiln_error *e) {
    CUgraph graph = NULL;
    CUgraphExec batch = NULL;
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuStreamEndCapture(d->stream, &graph);
    if (!rc) rc = d->cu->cuGraphInstantiateWithFlags(&batch, graph, 0);
    if (graph) d->cu->cuGraphDestroy(graph);
    kiln_cuda_leave(d, pushed);
    if (rc) kiln_cuda_fail(d, "recording a batch", rc, e);
    return rc ? NULL : batch;
}

int kiln_cuda_replay(kiln_device *d, void *batch, kiln_error *e) {
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuGraphLaunch(batch, d->stream);
    kiln_cuda_leave(d, pushed);
    return rc ? kiln_cuda_fail(d, "replaying a batch", rc, e) : 0;
}

void kiln_cuda_forget(kiln_device *d, void *batch) {
    if (!batch) return;
    bool pushed = kiln_cuda_enter(d);
    d->cu->cuGraphExecDestroy(batch);
    kiln_cuda_leave(d, pushed);
}
