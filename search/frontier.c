#include "search/frontier.h"

#include "base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int kiln_frontier_init(kiln_frontier *f, const kiln_search_space *space,
                       const kiln_search_options *o, kiln_error *e) {
    if (space->n < 0 || space->n_features < 0 || space->n_starts < 0)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "search: a space of %lld points, %d features and %d starts cannot be; "
                         "none may be negative",
                         (long long)space->n, space->n_features, space->n_starts);
    *f = (kiln_frontier){.space = space, .seed = o ? o->seed : 0, .capacity = 256};
    f->slot = calloc((size_t)f->capacity, sizeof *f->slot);
    return f->slot ? 0 : kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some");
}

void kiln_frontier_free(kiln_frontier *f) {
    free(f->slot);
    f->slot = NULL;
}

/* The slot of the point, or the empty one where it would go. */
static int64_t find(const int64_t *slot, int64_t capacity, int64_t point) {
    uint64_t i = kiln_random64(0, (uint64_t)point);
    for (;; i++) {
        int64_t at = (int64_t)(i % (uint64_t)capacity);
        if (slot[at] == 0 || slot[at] == point + 1) return at;
    }
}

bool kiln_frontier_spent(const kiln_frontier *f, int64_t point) {
    return f->slot[find(f->slot, f->capacity, point)] != 0;
}

static bool grow(kiln_frontier *f) {
    int64_t capacity = 2 * f->capacity, *slot = calloc((size_t)capacity, sizeof *slot);
    if (!slot) return false;
    for (int64_t i = 0; i < f->capacity; i++)
        if (f->slot[i]) slot[find(slot, capacity, f->slot[i] - 1)] = f->slot[i];
    free(f->slot);
    f->slot = slot;
    f->capacity = capacity;
    return true;
}

bool kiln_frontier_take(kiln_frontier *f, int64_t point) {
    if (point < 0 || point >= f->space->n || kiln_frontier_spent(f, point)) return false;
    if (2 * (f->spent + 1) > f->capacity && !grow(f)) return false;
    f->slot[find(f->slot, f->capacity, point)] = point + 1;
    f->spent++;
    return true;
}

int64_t kiln_frontier_start(kiln_frontier *f) {
    while (f->next_start < f->space->n_starts) {
        int64_t p = f->space->starts[f->next_start++];
        if (p >= 0 && p < f->space->n && !kiln_frontier_spent(f, p)) return p;
    }
    return -1;
}

int64_t kiln_frontier_in_order(kiln_frontier *f) {
    for (; f->next_in_order < f->space->n; f->next_in_order++)
        if (!kiln_frontier_spent(f, f->next_in_order)) return f->next_in_order;
    return -1;
}

int64_t kiln_frontier_random(kiln_frontier *f) {
    for (; f->next_step < f->space->n; f->next_step++) {
        int64_t p = kiln_search_shuffled(f->space->n, f->seed, f->next_step);
        if (!kiln_frontier_spent(f, p)) return p;
    }
    return -1;
}

uint64_t kiln_frontier_draw(kiln_frontier *f, uint64_t below) {
    return kiln_random64(f->seed ^ 0x6b696c6e, f->draws++) % (below ? below : 1);
}

double kiln_frontier_unit(kiln_frontier *f) {
    return kiln_random_unit(f->seed ^ 0x6b696c6e, f->draws++);
}

/* A Feistel network permutes the next power of four; steps that land outside walk on until they
 * are back inside (at most a handful, since at least a quarter is inside). */
int64_t kiln_search_shuffled(int64_t n, uint64_t seed, int64_t i) {
    int half = 1;
    while (half < 31 && (1ull << 2 * half) < (uint64_t)n) half++;
    uint64_t mask = (1ull << half) - 1, x = (uint64_t)i;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (kiln_random64(seed + round, right) >> 20 & mask);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

bool kiln_search_timed(const kiln_observation *o) { return isfinite(o->seconds) && o->seconds > 0; }

/* ---- strategies that only walk */

void *kiln_frontier_create(const kiln_search_space *space, const kiln_search_options *o,
                           kiln_error *e) {
    kiln_frontier *f = malloc(sizeof *f);
    if (!f) return kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some"), NULL;
    if (!kiln_frontier_init(f, space, o, e)) return f;
    free(f);
    return NULL;
}

int kiln_frontier_walk(kiln_frontier *f, int64_t (*next)(kiln_frontier *), int n, int64_t *points) {
    int count = 0;
    while (count < n) {
        int64_t p = kiln_frontier_start(f);
        if (p < 0) p = next(f);
        if (p < 0 || !kiln_frontier_take(f, p)) break;
        points[count++] = p;
    }
    return count;
}

void kiln_frontier_observe(void *frontier, const kiln_observation *o, int n) {
    for (int i = 0; i < n; i++) kiln_frontier_take(frontier, o[i].point);
}

void kiln_frontier_destroy(void *frontier) {
    kiln_frontier_free(frontier);
    free(frontier);
}
