#include "targets/opencl/opencl.h"

#include <time.h>

static double host_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void drop(opencl_api *cl, cl_event *event) {
    if (*event) cl->clReleaseEvent(*event);
    *event = NULL;
}

static void drop_region(kiln_device *d, opencl_region_events *r) {
    drop(d->api, &r->begin);
    drop(d->api, &r->end);
    drop(d->api, &r->first);
    drop(d->api, &r->last);
    if (r->open) d->open_regions--;
    *r = (opencl_region_events){0};
}

void kiln_opencl_drop_regions(kiln_device *d) {
    for (int i = 0; i < OPENCL_REGIONS; i++) drop_region(d, &d->region[i]);
}

static uint64_t stamp(opencl_api *cl, cl_event event, cl_uint what) {
    uint64_t t = 0;
    return cl->clGetEventProfilingInfo(event, what, sizeof t, &t, NULL) ? 0 : t;
}

/* Events that cannot be used: no profiling on an application's queue, or a driver whose
 * timestamps are all 0 (Mesa's Rusticl on the CPU). Then the host's clock around clFinish. */
void kiln_opencl_probe_events(kiln_device *d) {
    cl_event event = NULL;
    d->caps.events = false;
    if (d->api->clEnqueueMarkerWithWaitList(d->queue, 0, NULL, &event)) return;
    if (!d->api->clWaitForEvents(1, &event))
        d->caps.events = stamp(d->api, event, OCL_PROFILING_COMMAND_END) != 0;
    d->api->clReleaseEvent(event);
}

static int check_region(int region, kiln_error *e) {
    if (region >= 0 && region < OPENCL_REGIONS) return 0;
    return kiln_fail(e, KILN_BAD_INPUT, "timing region %d: there are %d", region, OPENCL_REGIONS);
}

static int mark(kiln_device *d, cl_event *event, double *host, kiln_error *e) {
    cl_int rc = d->caps.events ? d->api->clEnqueueMarkerWithWaitList(d->queue, 0, NULL, event)
                               : d->api->clFinish(d->queue);
    *host = host_now();
    return rc ? kiln_fail(e, KILN_DRIVER, "opencl:%d cannot time (%s)", d->caps.index,
                          kiln_opencl_error(rc))
              : 0;
}

int kiln_opencl_begin(kiln_device *d, int region, kiln_error *e) {
    int rc = check_region(region, e);
    if (rc) return rc;
    opencl_region_events *r = &d->region[region];
    drop_region(d, r);
    rc = mark(d, &r->begin, &r->host_begin, e);
    if (rc) return rc;
    r->open = true;
    d->open_regions++;
    return 0;
}

static cl_event share(opencl_api *cl, cl_event event) {
    cl->clRetainEvent(event);
    return event;
}

void kiln_opencl_note_launch(kiln_device *d, cl_event event) {
    for (int i = 0; i < OPENCL_REGIONS && d->caps.events; i++) {
        opencl_region_events *r = &d->region[i];
        if (!r->open) continue;
        if (!r->first) r->first = share(d->api, event);
        drop(d->api, &r->last);
        r->last = share(d->api, event);
    }
    d->api->clReleaseEvent(event);
}

int kiln_opencl_end(kiln_device *d, int region, kiln_error *e) {
    int rc = check_region(region, e);
    if (rc) return rc;
    opencl_region_events *r = &d->region[region];
    if (!r->open)
        return kiln_fail(e, KILN_BAD_INPUT, "timing region %d ends without a begin", region);
    r->open = false;
    d->open_regions--;
    return mark(d, &r->end, &r->host_end, e);
}

static double event_seconds(kiln_device *d, opencl_region_events *r, kiln_error *e) {
    cl_int rc = r->end ? d->api->clWaitForEvents(1, &r->end) : OCL_INVALID_VALUE;
    if (rc)
        return kiln_fail(e, KILN_DRIVER, "opencl:%d: the timed work failed (%s)", d->caps.index,
                         kiln_opencl_error(rc));
    uint64_t from = r->first ? stamp(d->api, r->first, OCL_PROFILING_COMMAND_START)
                             : stamp(d->api, r->begin, OCL_PROFILING_COMMAND_END);
    uint64_t to = r->last ? stamp(d->api, r->last, OCL_PROFILING_COMMAND_END)
                          : stamp(d->api, r->end, OCL_PROFILING_COMMAND_START);
    if (!from || !to || to < from)
        return kiln_fail(e, KILN_DRIVER, "opencl:%d: its timestamps are not usable", d->caps.index);
    return 1e-9 * (double)(to - from);
}

double kiln_opencl_seconds(kiln_device *d, int region, kiln_error *e) {
    if (check_region(region, e)) return -1;
    opencl_region_events *r = &d->region[region];
    if (r->open || r->host_end == 0)
        return kiln_fail(e, KILN_BAD_INPUT, "timing region %d has not ended", region);
    return d->caps.events ? event_seconds(d, r, e) : r->host_end - r->host_begin;
}
