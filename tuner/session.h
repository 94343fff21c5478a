/* A session: one run of `tune` on one device, from problems to winners. It owns the store, the
 * workers and the clock. Anytime: whenever it is stopped, every finished trial is in the store,
 * and the same command goes on from there. */
#ifndef KILN_TUNER_SESSION_H
#define KILN_TUNER_SESSION_H

#include "kernels/family.h"
#include "results/store.h"
#include "search/search.h"
#include "tuner/progress.h"
#include "tuner/worker.h"

#include <signal.h>

typedef struct kiln_session_options {
    const char *device;     /* "auto", "cuda:0" */
    const char *out;        /* directory */
    const char *store_path; /* NULL: OUT/kiln.db */
    const char *strategy;   /* "model" */
    double budget;          /* seconds for all problems together */
    uint64_t seed;
    bool hot, quiet, vendors;
    int64_t max_trials; /* per problem; 0: no limit */
    bool ratio;    /* what is to be won: shares of each problem's time; else seconds, all in all */
    double finish; /* a problem is finished when a further KILN_HORIZON trials are expected to
                      improve it by less than this share; 0: never, the budget is used up */
} kiln_session_options;

enum { KILN_PROBLEMS_MAX = 256, KILN_FINALISTS_MAX = 24 };

/* How often one thing is tried whose process was killed from outside, before it is to blame. */
enum { KILN_ATTEMPTS = 3 };

/* What came of one problem. Strings live in the session's arena. */
typedef struct kiln_result {
    kiln_problem problem;
    char *text;         /* canonical */
    double weight;      /* how much a second of it counts */
    bool finished;      /* searched and finalised */
    char *failure;      /* why there is no winner, or NULL */
    kiln_record winner; /* phase "final", or the best of the search when cut short */
    bool have_winner;
    char *unit, *suffix;                 /* its compiled unit in the cache */
    char *generic_unit, *generic_suffix; /* the same for the generic schedule; NULL: not compiled */
    int n_vendors;
    kiln_record vendor[4];
    int64_t space, raw, trials;
    int failures[KILN_OUTCOME_COUNT];
    const char *ended;                  /* why the search ended, or NULL */
    double rank_correlation, recall;    /* the model's, on trials it had not seen; NaN unknown */
    double search_seconds;              /* of proposals, features, training */
} kiln_result;

typedef struct kiln_session {
    kiln_session_options options;
    const kiln_target *target;
    kiln_caps caps;
    char *identity;     /* kiln_caps_identity */
    char *why_device;   /* what was chosen, and why */
    char id[17];        /* names this command: same suite, options and device */
    char cache[512];    /* compiled units */
    char command[1024]; /* the command line that repeats it */
    char library[1024]; /* the library that was written */
    kiln_store *store;
    kiln_arena arena;
    int n_results;
    kiln_result *result;
    int n_compilers;
    kiln_worker worker[KILN_WORKERS_MAX]; /* [0] measures, the rest compile */
    char measuring[64];     /* which process has set up which problem, "" nothing */
    double start, spent;    /* seconds: spent by earlier runs of the same command */
    double end;             /* when the budget is used up */
    double noted;           /* when the time spent was last stored */
    double copy_bandwidth;  /* bytes per second, measured; 0 unknown */
    double time_compile, time_verify, time_measure, time_search; /* seconds, summed */
    kiln_progress progress;
} kiln_session;

/* Set by SIGINT and SIGTERM. */
extern volatile sig_atomic_t kiln_interrupted;

/* Finds "auto" or an id among all devices; `why` receives the sentence about the choice. */
int kiln_device_choose(const char *id, const kiln_target **target, kiln_caps *caps, kiln_text *why,
                       kiln_error *e);

/* Opens device, store and cache for problems given as texts with weights (NULL: all 1). */
int kiln_session_open(kiln_session *s, const kiln_session_options *o, const char *const *problems,
                      const double *weights, int n, kiln_error *e);
/* Tunes all problems within the budget. KILN_INTERRUPTED after a signal: results hold the best so
 * far. */
int kiln_session_run(kiln_session *s, kiln_error *e);
/* The results that are in the store, without tuning: of this very command where it has run,
 * otherwise the best records of each problem on this device. */
int kiln_session_recall(kiln_session *s, kiln_error *e);
void kiln_session_close(kiln_session *s);

/* Compiles schedules into one unit and waits; for winners and fallbacks. */
int kiln_session_compile(kiln_session *s, const char *problem, const char *schedule,
                         const char *ptx_arch, char unit[65], char suffix[20], kiln_error *e);
/* Stores the time spent, every few seconds: a session that is killed has used up its budget, too.
 */
void kiln_session_note_time(kiln_session *s);
/* The compiled unit that holds the program of this source hash: remembered, and found again by a
 * later session on the same device, driver and compiler (NULL: not there). The name lives in the
 * arena. */
int kiln_session_keep_unit(kiln_session *s, const char *source, const char *unit, kiln_error *e);
const char *kiln_session_find_unit(kiln_session *s, const char *source);
/* Sends one request to the measuring worker and waits; starts it anew when it died. */
int kiln_session_ask(kiln_session *s, json_t *request, double seconds, json_t **reply,
                     kiln_error *e);
/* Fills a record's fields that are the same for every trial of a problem. */
kiln_record kiln_session_record(kiln_session *s, const kiln_result *r, const char *schedule,
                                const char *phase);

/* Table, plots, library from what is in the session's results (tuner/publish.c). Prints the table
 * unless quiet. Paths written are told through progress. */
int kiln_publish(kiln_session *s, kiln_error *e);
/* The table and the plots alone. */
int kiln_publish_table(kiln_session *s, kiln_error *e);
/* The library alone. `complete`: recompile each winner alone (smaller); otherwise use the units at
 * hand, which takes no time. */
int kiln_publish_library(kiln_session *s, const char *path, bool complete, kiln_error *e);

#endif
