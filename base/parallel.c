#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>

enum { THREADS_MAX = 16 };

typedef struct part {
    void (*work)(void *context, int64_t from, int64_t to);
    void *context;
    int64_t from, to;
    pthread_t thread;
} part;

static int cores(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : n;
}

static void *run(void *of) {
    part *p = of;
    p->work(p->context, p->from, p->to);
    return NULL;
}

void kiln_parallel(int64_t n, int64_t grain, void (*work)(void *context, int64_t from, int64_t to),
                   void *context) {
    part parts[THREADS_MAX];
    int64_t grains = (n + grain - 1) / grain;
    int wanted = cores(), started = 0;
    if (wanted > grains) wanted = grains > 0 ? (int)grains : 1;
    for (; started < wanted - 1; started++) {
        part *p = &parts[started];
        *p = (part){.work = work,
                    .context = context,
                    .from = grains * started / wanted * grain,
                    .to = grains * (started + 1) / wanted * grain};
        if (pthread_create(&p->thread, NULL, run, p)) break;
    }
    work(context, grains * started / wanted * grain, n);
    for (int i = 0; i < started; i++) pthread_join(parts[i].thread, NULL);
}
