/* Workers: processes that compile and run candidates, so that a crash, a hang or a poisoned driver
 * costs one candidate. The tuner talks to each over a socket in JSON messages that carry all they
 * need (a later transport can send them to another machine as they are).
 *
 * A worker that misses its deadline is killed. One that dies is reaped, its last words (stderr)
 * kept. Workers die with the tuner (PR_SET_PDEATHSIG, end of the socket) and ignore SIGINT and
 * SIGTERM, which a terminal or a batch system sends to the whole group: the tuner decides when they
 * end. */
#ifndef KILN_TUNER_WORKER_H
#define KILN_TUNER_WORKER_H

#include "base/status.h"
#include "base/text.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

/* Of one session: one that measures, the others compile. */
enum { KILN_WORKERS_MAX = 65 };

typedef enum kiln_worker_role { KILN_WORKER_COMPILE, KILN_WORKER_MEASURE } kiln_worker_role;

typedef struct kiln_worker {
    kiln_worker_role role;
    char device[32]; /* "opencl:0" */
    int core;        /* compile workers: the core to bind to */
    char cache[512]; /* directory for compiled units */
    pid_t pid;       /* 0: not running */
    int fd, log;
    bool busy;
    double deadline; /* kiln_now() seconds at which a busy worker is killed */
    bool killed;     /* its last process was ended from outside (kill -9, out-of-memory killer):
                        no proof of a fault of what it ran */
    kiln_text in;    /* bytes of a message that is still arriving */
    void *job;       /* the caller's */
} kiln_worker;

typedef enum kiln_worker_event {
    KILN_EVENT_NONE,    /* nothing before the time-out */
    KILN_EVENT_REPLY,   /* *reply is the answer; the caller owns it */
    KILN_EVENT_DIED,    /* detail says how: signal or exit status, and its last words */
    KILN_EVENT_TIMEOUT, /* killed at its deadline */
} kiln_worker_event;

/* Monotonic seconds. */
double kiln_now(void);

int kiln_worker_start(kiln_worker *w, kiln_error *e);
/* Kills and reaps. Safe on one that is not running. */
void kiln_worker_stop(kiln_worker *w);
/* Is its process running? One that ended while idle is reaped here. */
bool kiln_worker_alive(kiln_worker *w);
/* Sends a request (borrowed), starting the worker when it is not running: pid tells whether it is
 * still the process that knows of earlier requests. */
int kiln_worker_send(kiln_worker *w, json_t *request, double seconds, kiln_error *e);
/* Waits at most `seconds` for an event of any of n workers (KILN_WORKERS_MAX at most); *which tells
 * whose. The job is over then: busy is false, and after DIED or TIMEOUT the worker is not running.
 */
kiln_worker_event kiln_worker_wait(kiln_worker *workers, int n, double seconds, int *which,
                                   json_t **reply, kiln_text *detail);

/* Seconds as a message holds them; and the first `most` of such a list: how many there are. */
json_t *kiln_samples_list(const double *samples, int n);
int kiln_samples_read(const json_t *list, double *samples, int most);

/* ---- the worker's side ---- */
typedef struct kiln_worker_context {
    const struct kiln_target *target;
    const struct kiln_caps *caps;
    const char *cache;
} kiln_worker_context;
typedef json_t *(*kiln_worker_handler)(void *context, json_t *request);
/* Serves requests on fd 3 until the tuner closes it. Returns the exit status. */
int kiln_worker_serve(kiln_worker_handler handler, void *context);
/* Entry of `tune worker ROLE DEVICE CORE CACHE`. */
int kiln_worker_main(int argc, char **argv);
json_t *kiln_compile_handle(void *context, json_t *request);
json_t *kiln_measure_handle(void *context, json_t *request);

#endif
