#include "kernels/source.h"

static const double *read_array(const kiln_source *s, int i, int64_t from, int64_t n,
                                double *room) {
    const kiln_host_source *h = (const kiln_host_source *)s;
    kiln_type type = h->p->operand[i].type;
    const char *array = h->array[i];
    kiln_type_read_many(type, array + (size_t)from * kiln_type_bytes(type), n, room);
    return room;
}

kiln_host_source kiln_source_host(const kiln_problem *p, const void *const *array,
                                  const double *scalar) {
    return (kiln_host_source){
        .source = {.read = read_array, .scalar = scalar}, .p = p, .array = array};
}
