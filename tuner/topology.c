#include "tuner/topology.h"

#include <hwloc.h>
#include <stdio.h>
#include <string.h>

static hwloc_topology_t load(bool with_io) {
    hwloc_topology_t t;
    if (hwloc_topology_init(&t)) return NULL;
    if (with_io) hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(t)) {
        hwloc_topology_destroy(t);
        return NULL;
    }
    return t;
}

int kiln_topology_cores(void) {
    hwloc_topology_t t = load(false);
    if (!t) return 1;
    int n = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE);
    hwloc_topology_destroy(t);
    return n < 1 ? 1 : n;
}

void kiln_topology_bind_core(int i) {
    hwloc_topology_t t = load(false);
    if (!t) return;
    int n = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE);
    hwloc_obj_t core = n > 0 ? hwloc_get_obj_by_type(t, HWLOC_OBJ_CORE, (unsigned)(i % n)) : NULL;
    if (core) hwloc_set_cpubind(t, core->cpuset, HWLOC_CPUBIND_PROCESS);
    hwloc_topology_destroy(t);
}

void kiln_topology_bind_near(const kiln_caps *caps) {
    if (caps->shared_host || !caps->bus[0]) return;
    hwloc_topology_t t = load(true);
    if (!t) return;
    hwloc_obj_t device = hwloc_get_pcidev_by_busidstring(t, caps->bus);
    hwloc_obj_t near = device ? hwloc_get_non_io_ancestor_obj(t, device) : NULL;
    if (near && near->cpuset) hwloc_set_cpubind(t, near->cpuset, HWLOC_CPUBIND_PROCESS);
    hwloc_topology_destroy(t);
}

void kiln_topology_describe(kiln_text *out) {
    hwloc_topology_t t = load(false);
    if (!t) {
        kiln_text_add(out, "host unknown");
        return;
    }
    hwloc_obj_t root = hwloc_get_root_obj(t),
                package = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);
    const char *model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
    kiln_text_printf(out, "%d cores, %.0f GiB, %s", hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE),
                     (double)root->total_memory / (1 << 30), model ? model : "unknown CPU");
    hwloc_topology_destroy(t);
}
