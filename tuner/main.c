/* tune: the command. Parses words, prints, exits; everything else is done elsewhere. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/preset.h"
#include "search/replay.h"
#include "search/sizes.h"
#include "tuner/bench.h"
#include "tuner/candidates.h"
#include "tuner/check.h"
#include "tuner/recorded.h"
#include "tuner/session.h"
#include "tuner/suite.h"
#include "tuner/topology.h"
#include "tuner/unit.h"
#include "tuner/versus.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_BAD = 2, EXIT_INTERRUPTED = 130 };
static const double FINISH_SHARE = 0.005; /* expected gain below which a problem is finished */

static const char help[] =
    "Kiln tunes GPU kernels and ships them.\n"
    "\n"
    "  tune [--device auto]          the main job: tune a suite, print the table, write the "
    "library\n"
    "  tune run \"PROBLEM\"...         the same for the problems given\n"
    "  tune devices [--json]         what is here, what it can do, which driver is absent and why\n"
    "  tune show \"PROBLEM\"           the space of schedules; --dump "
    "space,source,asm,launch,record\n"
    "  tune emit -o FILE.kiln        the library again, from the store\n"
    "  tune report                   the table and the plots again, from the store\n"
    "  tune bench [\"PROBLEM\"...]     ours against cuBLASLt, CLBlast, OpenBLAS, interleaved in "
    "one "
    "run\n"
    "  tune export FILE | import FILE   records as JSON lines\n"
    "  tune replay SPACE...          strategies on recorded spaces; no device needed\n"
    "  tune model FILE... -o FILE    the model that ships, trained on records (make model)\n"
    "\n"
    "options of tune, run, emit, report\n"
    "  --device D     auto (CUDA, HIP, OpenCL GPU, OpenCL CPU), or a name from tune devices\n"
    "  --budget T     time for everything, as 90, 90s, 5m or 1h (default 5m)\n"
    "  --suite S      default, llm, or a file with one problem a line\n"
    "  --out DIR      where store, library, table and plots go (default kiln-out)\n"
    "  --store FILE   the store (default DIR/kiln.db)\n"
    "  --strategy S   model, evolve, random, exhaustive (default model)\n"
    "  --seed N       of data and search (default 1)\n"
    "  --trials N     at most this many per problem\n"
    "  --finish P     a problem is finished when 32 more trials are expected to gain less than P\n"
    "                 percent (default 0.5; 0: the budget is used up)\n"
    "  --aim A        after a first share for each problem, time goes where weight x expected "
    "gain\n"
    "                 is largest: of seconds (time, the default) or of percent (ratio). A "
    "suite's\n"
    "                 line may begin with weight=W\n"
    "  --regime R     cold (default: operands rotate through memory) or hot (caches warm)\n"
    "  --no-vendor    do not measure OpenBLAS, CLBlast, cuBLASLt beside ours\n"
    "  --quiet        nothing but errors\n"
    "\n"
    "options of tune bench, besides --device --suite --out --store --seed --regime --no-vendor\n"
    "  --library F    the kernels to run (default: made from the store); without problems or a\n"
    "                 suite: all that it was tuned for on this device\n"
    "  --against F    another library, whose kernels take part in the same rounds, verified like "
    "ours\n"
    "                 (an earlier release, another search); never counted as the fastest vendor\n"
    "  --seconds T    of interleaved rounds for each problem (default 0.3)\n"
    "  --alone T      on a GPU also 7 rounds in which each side runs for T seconds (0.2 to 60)\n"
    "                 by itself: at a power cap the clock is then what its own power leaves\n"
    "  --json         one JSON object a line: head, problems, summary\n"
    "  Beside a matmul with statements, the row \"product\" is the library's own kernel for the "
    "same\n"
    "  product without them, where it was tuned for it.\n"
    "\n"
    "options of tune replay, besides --strategy --seed; SPACE: CSV, Kernel Tuner's cache, T4 "
    "(gzipped or\n"
    "not), or records as tune export writes them: each problem with 40 timed schedules is a space\n"
    "  --seeds N      runs of each, the seed counting up (default 25)\n"
    "  --trials N     at most this many evaluations a run (default 400)\n"
    "  --stop         a run ends once it is within 1 % of the best: quicker, the table's shares "
    "stay\n"
    "  --transfer     the same kernel's recordings on other devices as the prior\n"
    "  --mislead[=H]  the same, made ignorant: what a source that knows nothing costs. H: "
    "shuffled\n"
    "                 (default; among the points) or invented (as regular as another kernel's)\n"
    "  --prior P      estimate (default: our records get their kernels' estimates and starts, as "
    "in "
    "a\n"
    "                 session), model (and a model of the file's other problems) or none\n"
    "  --sizes C      SPACE: CSV of many problems, a few configurations each; C is the first "
    "column "
    "of the\n"
    "                 configuration. Instead of strategies: how well a model of other sizes "
    "chooses\n"
    "  --curves FILE  best so far against evaluations, with quartiles, for gnuplot\n"
    "\n"
    "A session can be stopped at any time (Ctrl-C, kill): nothing measured is lost, and the same\n"
    "command goes on from there. Exit status: 0 done, 1 something came out wrong, 2 bad input or "
    "a\n"
    "missing thing, 130 interrupted.\n"
    "\n"
    "A problem is a family with sizes and types, and statements to fuse:\n"
    "  matmul m=1024 n=1024 k=512 type=f32 tb=1 : out = gelu(acc + bias[n]) + res[m,n]\n"
    "  map rows=4096 cols=4096 x=bf16 w=bf16 out=bf16 : out = x * rsqrt(mean(x*x) + 1e-5) * "
    "w[col]\n"
    "  softmax rows=4096 cols=4096 type=f16                 (a preset; tune show lists them)\n";

/* ---- errors and signals ---- */

static int bad(const kiln_error *e) {
    fprintf(stderr, "tune: %s\n", e->text[0] ? e->text : kiln_status_words(e->status));
    return EXIT_BAD;
}

static int usage(const char *words, const char *what) {
    fprintf(stderr, "tune: %s%s%s; tune --help explains\n", words, what ? " " : "",
            what ? what : "");
    return EXIT_BAD;
}

static void on_signal(int number) {
    if (kiln_interrupted) _exit(128 + number); /* a second one: at once */
    kiln_interrupted = number;
}

static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal}; /* no SA_RESTART: waits end at once */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- options ---- */

typedef struct options {
    kiln_session_options session;
    const char *suite, *output, *dump, *schedule, *library, *against;
    double seconds, alone;
    bool json, bandwidth, transfer, help;
    bool no_prior, model, stop; /* replay */
    enum kiln_mislead mislead;
    const char *curves, *sizes;
    int seeds;
    int n_words;
    char **words;
} options;

static bool parse_seconds(const char *text, double *out) {
    char *end;
    double v = strtod(text, &end);
    double unit = !strcmp(end, "h")            ? 3600
                  : !strcmp(end, "m")          ? 60
                  : !*end || !strcmp(end, "s") ? 1
                                               : 0;
    *out = v * unit;
    return end != text && unit > 0 && isfinite(v) && *out > 0 && *out <= 30 * 24 * 3600.0;
}

static bool parse_count(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    *out = v;
    return end != text && !*end && !errno && v >= 0;
}

/* "0.5" and "0.5%" are the share 0.005. */
static bool parse_percent(const char *text, double *out) {
    char *end;
    double v = strtod(text, &end);
    *out = v / 100;
    return end != text && (!*end || !strcmp(end, "%")) && v >= 0 && v <= 100;
}

/* A list of stages with commas, none unknown. */
static bool stages_known(const char *list) {
    static const char *const known[] = {"space", "source", "asm", "launch", "record"};
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        bool found = false;
        for (int i = 0; i < 5; i++) found |= strlen(known[i]) == n && !strncmp(at, known[i], n);
        if (!found) return false;
        at += n;
        if (!*at) return true;
    }
}

enum {
    OPT_DEVICE = 256,
    OPT_BUDGET,
    OPT_SUITE,
    OPT_OUT,
    OPT_STORE,
    OPT_STRATEGY,
    OPT_SEED,
    OPT_TRIALS,
    OPT_FINISH,
    OPT_AIM,
    OPT_REGIME,
    OPT_NO_VENDOR,
    OPT_QUIET,
    OPT_JSON,
    OPT_DUMP,
    OPT_SCHEDULE,
    OPT_BANDWIDTH,
    OPT_SEEDS,
    OPT_TRANSFER,
    OPT_MISLEAD,
    OPT_SIZES,
    OPT_PRIOR,
    OPT_STOP,
    OPT_CURVES,
    OPT_LIBRARY,
    OPT_AGAINST,
    OPT_SECONDS,
    OPT_ALONE
};

static int set_option(options *o, int which, const char *arg) {
    int64_t n;
    switch (which) {
    case OPT_DEVICE:
        o->session.device = arg;
        return 0;
    case OPT_BUDGET:
        if (!parse_seconds(arg, &o->session.budget))
            return usage("--budget takes a time such as 90s, 5m or 1h, not", arg);
        return 0;
    case OPT_SUITE:
        o->suite = arg;
        return 0;
    case OPT_OUT:
        o->session.out = arg;
        return 0;
    case OPT_STORE:
        o->session.store_path = arg;
        return 0;
    case OPT_STRATEGY:
        if (!kiln_strategy_find(arg))
            return usage("--strategy is model, evolve, random or exhaustive, not", arg);
        o->session.strategy = arg;
        return 0;
    case OPT_SEED:
        if (!parse_count(arg, &n)) return usage("--seed takes a whole number, not", arg);
        o->session.seed = (uint64_t)n;
        return 0;
    case OPT_TRIALS:
        if (!parse_count(arg, &o->session.max_trials))
            return usage("--trials takes a whole number, not", arg);
        return 0;
    case OPT_FINISH:
        if (!parse_percent(arg, &o->session.finish))
            return usage("--finish takes a percentage from 0 to 100, not", arg);
        return 0;
    case OPT_AIM:
        if (strcmp(arg, "time") && strcmp(arg, "ratio"))
            return usage("--aim is time or ratio, not", arg);
        o->session.ratio = !strcmp(arg, "ratio");
        return 0;
    case OPT_REGIME:
        if (strcmp(arg, "hot") && strcmp(arg, "cold"))
            return usage("--regime is cold or hot, not", arg);
        o->session.hot = !strcmp(arg, "hot");
        return 0;
    case OPT_NO_VENDOR:
        o->session.vendors = false;
        return 0;
    case OPT_QUIET:
        o->session.quiet = true;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case OPT_DUMP:
        if (!stages_known(arg))
            return usage("--dump takes space,source,asm,launch,record, not", arg);
        o->dump = arg;
        return 0;
    case OPT_SCHEDULE:
        o->schedule = arg;
        return 0;
    case OPT_BANDWIDTH:
        o->bandwidth = true;
        return 0;
    case OPT_SEEDS:
        if (!parse_count(arg, &n) || n < 1 || n > 1000)
            return usage("--seeds takes 1 to 1000, not", arg);
        o->seeds = (int)n;
        return 0;
    case OPT_TRANSFER:
        o->transfer = true;
        return 0;
    case OPT_MISLEAD:
        if (arg && strcmp(arg, "shuffled") && strcmp(arg, "invented"))
            return usage("--mislead is shuffled or invented, not", arg);
        o->transfer = true;
        o->mislead =
            arg && !strcmp(arg, "invented") ? KILN_MISLEAD_INVENTED : KILN_MISLEAD_SHUFFLED;
        return 0;
    case OPT_SIZES:
        o->sizes = arg;
        return 0;
    case OPT_PRIOR:
        if (strcmp(arg, "estimate") && strcmp(arg, "none") && strcmp(arg, "model"))
            return usage("--prior is estimate, model or none, not", arg);
        o->no_prior = !strcmp(arg, "none");
        o->model = !strcmp(arg, "model");
        return 0;
    case OPT_STOP:
        o->stop = true;
        return 0;
    case OPT_CURVES:
        o->curves = arg;
        return 0;
    case OPT_LIBRARY:
        o->library = arg;
        return 0;
    case OPT_AGAINST:
        o->against = arg;
        return 0;
    case OPT_SECONDS:
        if (!parse_seconds(arg, &o->seconds) || o->seconds > 600)
            return usage("--seconds takes a time up to 10m, not", arg);
        return 0;
    case OPT_ALONE:
        if (!parse_seconds(arg, &o->alone) || o->alone < 0.2 || o->alone > 60)
            return usage("--alone takes a time from 0.2 to 60 seconds, not", arg);
        return 0;
    case 'o':
        o->output = arg;
        return 0;
    case 'h':
        o->help = true;
        return 0;
    }
    return EXIT_BAD;
}

static const char *suite_name(const options *o) { return o->suite ? o->suite : "default"; }

static int parse_options(int argc, char **argv, options *o) {
    static const struct option known[] = {{"device", 1, 0, OPT_DEVICE},
                                          {"budget", 1, 0, OPT_BUDGET},
                                          {"suite", 1, 0, OPT_SUITE},
                                          {"out", 1, 0, OPT_OUT},
                                          {"store", 1, 0, OPT_STORE},
                                          {"strategy", 1, 0, OPT_STRATEGY},
                                          {"seed", 1, 0, OPT_SEED},
                                          {"trials", 1, 0, OPT_TRIALS},
                                          {"finish", 1, 0, OPT_FINISH},
                                          {"aim", 1, 0, OPT_AIM},
                                          {"regime", 1, 0, OPT_REGIME},
                                          {"no-vendor", 0, 0, OPT_NO_VENDOR},
                                          {"quiet", 0, 0, OPT_QUIET},
                                          {"json", 0, 0, OPT_JSON},
                                          {"dump", 1, 0, OPT_DUMP},
                                          {"schedule", 1, 0, OPT_SCHEDULE},
                                          {"bandwidth", 0, 0, OPT_BANDWIDTH},
                                          {"seeds", 1, 0, OPT_SEEDS},
                                          {"transfer", 0, 0, OPT_TRANSFER},
                                          {"mislead", 2, 0, OPT_MISLEAD},
                                          {"sizes", 1, 0, OPT_SIZES},
                                          {"prior", 1, 0, OPT_PRIOR},
                                          {"stop", 0, 0, OPT_STOP},
                                          {"curves", 1, 0, OPT_CURVES},
                                          {"library", 1, 0, OPT_LIBRARY},
                                          {"against", 1, 0, OPT_AGAINST},
                                          {"seconds", 1, 0, OPT_SECONDS},
                                          {"alone", 1, 0, OPT_ALONE},
                                          {"help", 0, 0, 'h'},
                                          {0, 0, 0, 0}};
    *o = (options){.session = {.device = "auto",
                               .out = "kiln-out",
                               .strategy = "model",
                               .budget = 300,
                               .seed = 1,
                               .finish = FINISH_SHARE,
                               .vendors = true},
                   .seconds = 0.3,
                   .seeds = 25};
    int which, status = 0;
    opterr = 0; /* its words would be a second sentence */
    while (!status && (which = getopt_long(argc, argv, ":ho:", known, NULL)) != -1) {
        if (which == '?') return usage("unknown option", argv[optind - 1]);
        if (which == ':') return usage("a value is missing after", argv[optind - 1]);
        status = set_option(o, which, optarg);
    }
    o->words = argv + optind;
    o->n_words = argc - optind;
    return status;
}

/* ---- run ---- */

static void quote(kiln_text *out, const char *word) {
    bool plain = *word && !strpbrk(word, " \"'$`\\;:*?[](){}<>|&!#~");
    kiln_text_printf(out, plain ? "%s" : "\"%s\"", word);
}

static void note_command(kiln_session *s, const options *o, bool given) {
    kiln_text t = {0};
    kiln_text_printf(&t, "tune %s--device %s --budget %gs --seed %llu", given ? "run " : "",
                     o->session.device, o->session.budget, (unsigned long long)o->session.seed);
    if (strcmp(o->session.strategy, "model"))
        kiln_text_printf(&t, " --strategy %s", o->session.strategy);
    if (o->session.hot) kiln_text_add(&t, " --regime hot");
    if (o->session.max_trials)
        kiln_text_printf(&t, " --trials %lld", (long long)o->session.max_trials);
    if (o->session.ratio) kiln_text_add(&t, " --aim ratio");
    if (o->session.finish != FINISH_SHARE)
        kiln_text_printf(&t, " --finish %g", 100 * o->session.finish);
    if (!o->session.vendors) kiln_text_add(&t, " --no-vendor");
    if (!given) kiln_text_printf(&t, " --suite %s", suite_name(o));
    for (int i = 0; given && i < o->n_words; i++) kiln_text_add(&t, " "), quote(&t, o->words[i]);
    snprintf(s->command, sizeof s->command, "%s", kiln_text_get(&t));
    kiln_text_free(&t);
}

/* Problems' texts first: they need no device. */
static int check_words(const options *o, kiln_error *e) {
    int status = KILN_OK;
    for (int i = 0; i < o->n_words && !status; i++) {
        kiln_problem p;
        status = kiln_problem_parse(&p, o->words[i], e);
    }
    return status;
}

/* Device, problems and session as the options say. */
static int open_session(kiln_session *s, options *o, kiln_arena *arena, kiln_error *e) {
    const kiln_target *target;
    kiln_caps caps;
    kiln_text why = {0};
    kiln_suite suite = {.n = o->n_words, .problem = (const char *const *)o->words};
    int status = check_words(o, e);
    if (!status) status = kiln_device_choose(o->session.device, &target, &caps, &why, e);
    kiln_text_free(&why);
    if (!status && !o->n_words) status = kiln_suite_load(suite_name(o), &caps, arena, &suite, e);
    if (!status)
        status = kiln_session_open(s, &o->session, suite.problem, suite.weight, suite.n, e);
    if (!status) note_command(s, o, o->n_words > 0);
    return status;
}

/* The library, through the runtime, in a process of its own: it runs what was just made. */
static int check_library(kiln_session *s) {
    char id[32];
    kiln_caps_id(&s->caps, id);
    char **argv = kiln_arena_alloc(&s->arena, (size_t)(s->n_results + 6) * sizeof *argv);
    int n = 0, status = 0, checked = 0;
    if (!argv) return 1;
    argv[n++] = (char *)"tune", argv[n++] = (char *)"check", argv[n++] = s->library, argv[n++] = id;
    for (int i = 0; i < s->n_results; i++)
        if (s->result[i].have_winner) argv[n++] = s->result[i].text, checked++;
    pid_t pid = fork();
    if (pid == 0) {
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        kiln_progress_say(&s->progress,
                          "library loaded through the runtime: %d of %d problems right", checked,
                          checked);
        return 0;
    }
    fprintf(stderr, "tune: the library %s failed its check; do not deploy it\n", s->library);
    return 1;
}

static void say_time(const kiln_session *s) {
    kiln_progress *p = (kiln_progress *)&s->progress;
    kiln_progress_say(
        p,
        "time: compile %.1f s, verify %.1f s, measure %.1f s, search and model %.2f s "
        "(compile summed over workers)",
        s->time_compile, s->time_verify, s->time_measure, s->time_search);
}

/* Says which problems are left without a winner, and why; returns how many. */
static int say_missing(const kiln_session *s) {
    int missing = 0;
    for (int i = 0; i < s->n_results; i++) {
        const kiln_result *r = &s->result[i];
        if (r->have_winner) continue;
        fprintf(stderr, "tune: no winner for %s: %s\n", r->text,
                r->failure ? r->failure : "its time was used up");
        missing++;
    }
    return missing;
}

/* The library, the table, the check; status 1 when anything is missing or wrong. */
static int end_session(kiln_session *s, kiln_error *e) {
    int status = kiln_publish(s, e), missing = say_missing(s);
    if (status == KILN_NOT_FOUND && missing == s->n_results) return 1; /* that has been said */
    if (status) return bad(e);
    int wrong = check_library(s);
    return wrong ? wrong : missing > 0;
}

static int run_session(kiln_session *s, kiln_error *e) {
    kiln_text host = {0};
    kiln_topology_describe(&host);
    kiln_progress_say(&s->progress, "device: %s", s->why_device);
    kiln_progress_say(&s->progress, "host: %s; %d compile workers; store: session %s",
                      kiln_text_get(&host), s->n_compilers, s->id);
    kiln_text_free(&host);
    int status = kiln_session_run(s, e);
    if (status == KILN_INTERRUPTED) {
        kiln_error why = {0};
        if (kiln_publish(s, &why)) kiln_progress_say(&s->progress, "no library: %s", why.text);
        kiln_progress_say(&s->progress, "interrupted; the same command goes on from here");
        return EXIT_INTERRUPTED;
    }
    if (status) return bad(e);
    say_time(s);
    return end_session(s, e);
}

static int command_run(int argc, char **argv, bool main_job) {
    options o;
    int status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    if (main_job && o.n_words) return usage("unknown command", o.words[0]);
    if (!main_job && !o.n_words)
        return usage("tune run needs a problem, such as \"matmul m=512 n=512 "
                     "k=512 type=f32\"",
                     NULL);
    kiln_session *s = calloc(1, sizeof *s);
    kiln_arena arena = {0};
    kiln_error e = {0};
    if (!s) return usage("out of memory", NULL);
    catch_signals();
    status = open_session(s, &o, &arena, &e) ? bad(&e) : run_session(s, &e);
    kiln_session_close(s);
    kiln_arena_free(&arena);
    free(s);
    return status;
}

/* emit and report: what `run` does after tuning, from the store. A budget of nothing is left. */
static int command_again(int argc, char **argv, bool emit) {
    options o;
    int status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    kiln_session *s = calloc(1, sizeof *s);
    kiln_arena arena = {0};
    kiln_error e = {0};
    if (!s) return usage("out of memory", NULL);
    catch_signals();
    status = open_session(s, &o, &arena, &e);
    if (!status) status = kiln_session_recall(s, &e);
    if (!status && emit) {
        if (!o.output)
            kiln_fail(&e, KILN_BAD_INPUT, "emit needs -o FILE.kiln"), status = KILN_BAD_INPUT;
        else
            status = kiln_publish_library(s, o.output, true, &e);
    } else if (!status)
        status = kiln_publish_table(s, &e);
    kiln_session_close(s);
    kiln_arena_free(&arena);
    free(s);
    return status ? bad(&e) : 0;
}

/* ---- bench ---- */

/* What to measure: the words, a suite, or what the library was tuned for. */
static int bench_problems(const options *o, const kiln_caps *caps, kiln_arena *arena,
                          kiln_suite *out, kiln_error *e) {
    *out = (kiln_suite){.n = o->n_words, .problem = (const char *const *)o->words};
    if (o->n_words) return KILN_OK;
    if (o->library && !o->suite) return kiln_versus_problems(o->library, caps, arena, out, e);
    return kiln_suite_load(suite_name(o), caps, arena, out, e);
}

/* A library of the best records, beside the compiled units of the session. */
static int bench_emit(const options *o, const kiln_suite *suite, char path[1024], kiln_error *e) {
    kiln_session *s = calloc(1, sizeof *s);
    if (!s) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a session");
    kiln_session_options quiet = o->session;
    quiet.quiet = true;
    int status = kiln_session_open(s, &quiet, suite->problem, suite->weight, suite->n, e);
    if (!status) status = kiln_session_recall(s, e);
    snprintf(path, 1024, "%s/bench-%d.kiln", s->cache, (int)getpid());
    if (!status) status = kiln_publish_library(s, path, true, e);
    kiln_session_close(s);
    free(s);
    return status;
}

static int bench(const options *o, kiln_arena *arena, kiln_error *e) {
    const kiln_target *target;
    kiln_caps caps;
    kiln_suite suite;
    kiln_text why = {0};
    char made[1024] = "", store[1024];
    int status = check_words(o, e);
    if (!status && o->library) status = kiln_versus_check(o->library, e);
    if (!status && o->against) status = kiln_versus_check(o->against, e);
    if (!status) status = kiln_device_choose(o->session.device, &target, &caps, &why, e);
    kiln_text_free(&why);
    if (!status && o->alone > 0 && !kiln_bench_clock_follows(&caps))
        status = kiln_fail(
            e, KILN_BAD_INPUT,
            "--alone is for a GPU, whose clock follows its load: leave it out for %s", caps.name);
    if (!status) status = bench_problems(o, &caps, arena, &suite, e);
    if (!status && !o->library) status = bench_emit(o, &suite, made, e);
    snprintf(store, sizeof store, "%s%s",
             o->session.store_path ? o->session.store_path : o->session.out,
             o->session.store_path ? "" : "/kiln.db");
    kiln_versus_options v = {.library = o->library ? o->library : made,
                             .name = o->library ? o->library : store,
                             .against = o->against,
                             .caps = &caps,
                             .seconds = o->seconds,
                             .alone = o->alone,
                             .seed = o->session.seed,
                             .hot = o->session.hot,
                             .vendors = o->session.vendors,
                             .json = o->json};
    if (!status) status = kiln_versus_run(&v, &suite, e);
    if (*made) unlink(made);
    return status;
}

static int command_bench(int argc, char **argv) {
    options o;
    kiln_arena arena = {0};
    kiln_error e = {0};
    int status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    if (o.library && o.session.store_path)
        return usage("bench takes --library or --store, not both", NULL);
    if (o.suite && o.n_words) return usage("bench takes --suite or problems, not both", NULL);
    catch_signals();
    status = bench(&o, &arena, &e);
    kiln_arena_free(&arena);
    if (!status) return 0;
    bad(&e);
    bool ran = status == KILN_WRONG || status == KILN_DRIVER;
    return status == KILN_INTERRUPTED ? EXIT_INTERRUPTED : ran ? 1 : EXIT_BAD;
}

/* ---- devices ---- */

static void print_device(const kiln_caps *c, double bandwidth) {
    char id[32];
    kiln_caps_id(c, id);
    printf("%-10s %s\n", id, c->name);
    printf("           %s, %s, driver %s, compiler %s\n",
           c->kind == KILN_DEVICE_GPU ? "GPU" : "CPU", c->arch, c->driver, c->compiler);
    printf("           %d units, %.1f GiB, cache %.1f MiB, %d KiB shared per block, %d threads per "
           "block",
           c->units, (double)c->memory_bytes / (1 << 30), (double)c->cache_bytes / (1 << 20),
           c->shared_bytes >> 10, c->max_threads);
    if (c->clock_mhz) printf(", %d MHz", c->clock_mhz);
    if (c->vector_bits) printf(", %d-bit vectors", c->vector_bits);
    printf("\n           f64 %s, f16 arithmetic %s, device timers %s\n", c->f64 ? "yes" : "no",
           c->f16 ? "yes" : "no", c->events ? "yes" : "no");
    if (bandwidth > 0)
        printf("           copy %.1f GB/s (read + write, measured now)\n", bandwidth * 1e-9);
}

static json_t *device_json(const kiln_caps *c, double bandwidth) {
    char id[32];
    kiln_caps_id(c, id);
    json_t *j = json_pack(
        "{s:s s:s s:s s:s s:s s:s s:s s:s s:i s:i s:I s:I s:i s:i s:i s:b s:b}", "id", id, "name",
        c->name, "vendor", c->vendor, "platform", c->platform, "arch", c->arch, "driver", c->driver,
        "compiler", c->compiler, "kind", c->kind == KILN_DEVICE_GPU ? "gpu" : "cpu", "units",
        c->units, "warp", c->warp, "memory_bytes", (json_int_t)c->memory_bytes, "cache_bytes",
        (json_int_t)c->cache_bytes, "shared_bytes", c->shared_bytes, "max_threads", c->max_threads,
        "clock_mhz", c->clock_mhz, "f64", c->f64, "f16", c->f16);
    if (bandwidth > 0) json_object_set_new(j, "copy_bytes_per_second", json_real(bandwidth));
    return j;
}

static double measured_copy(const kiln_caps *c) {
    kiln_worker w = {.role = KILN_WORKER_MEASURE, .cache = "/tmp"};
    json_t *reply = NULL, *request = json_pack("{s:s}", "do", "copy");
    kiln_error e;
    kiln_text detail = {0};
    int which;
    kiln_caps_id(c, w.device);
    if (!kiln_worker_send(&w, request, 60, &e))
        while (w.busy && kiln_worker_wait(&w, 1, 1, &which, &reply, &detail) == KILN_EVENT_NONE) {
        }
    double bandwidth = json_number_value(json_object_get(reply, "bandwidth"));
    kiln_worker_stop(&w);
    json_decref(reply);
    json_decref(request);
    kiln_text_free(&detail);
    return bandwidth;
}

static int command_devices(int argc, char **argv) {
    options o;
    int status = parse_options(argc, argv, &o), found = 0;
    static kiln_caps caps[32];
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    if (o.n_words) return usage("tune devices takes no words such as", o.words[0]);
    json_t *devices = json_array(), *absent = json_object();
    for (int t = 0; kiln_targets[t]; t++) {
        kiln_error why = {0};
        int n = kiln_targets[t]->devices(caps, 32, &why);
        for (int i = 0; i < n; i++, found++) {
            double bandwidth = o.bandwidth ? measured_copy(&caps[i]) : 0;
            if (o.json)
                json_array_append_new(devices, device_json(&caps[i], bandwidth));
            else
                print_device(&caps[i], bandwidth);
        }
        if (n > 0) continue;
        json_object_set_new(absent, kiln_targets[t]->name, json_string(why.text));
        if (!o.json) printf("%-10s absent: %s\n", kiln_targets[t]->name, why.text);
    }
    json_t *all = json_pack("{s:o, s:o}", "devices", devices, "absent", absent);
    if (o.json) json_dumpf(all, stdout, JSON_INDENT(2)), putchar('\n');
    json_decref(all);
    return found ? 0 : EXIT_BAD;
}

/* ---- show ---- */

static void show_space(const kiln_problem *p, const kiln_caps *caps) {
    const kiln_generator *g = kiln_generator_of(p->family);
    for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
        kiln_text why = {0};
        if (!v->applies(p, caps, &why)) {
            printf("  %-10s not for this: %s\n", v->variant->name, kiln_text_get(&why));
            kiln_text_free(&why);
            continue;
        }
        kiln_space space = {.variant = v->variant};
        v->space(p, caps, &space);
        int64_t size = kiln_space_size(&space), step = size / 200000 + 1, seen = 0, legal = 0;
        struct {
            char text[160];
            int64_t count;
        } reasons[12];
        int n_reasons = 0;
        for (int64_t i = 0; i < size; i += step, seen++) {
            kiln_schedule s = kiln_space_at(&space, i);
            kiln_text_clear(&why);
            if (v->variant->legal(p, caps, &s, &why)) {
                legal++;
                continue;
            }
            /* reasons differ in their numbers: count them by their words */
            char words[160];
            size_t n = 0;
            for (const char *c = kiln_text_get(&why); *c && n + 1 < sizeof words; c++)
                if (*c < '0' || *c > '9')
                    words[n++] = *c;
                else if (!n || words[n - 1] != '#')
                    words[n++] = '#';
            words[n] = 0;
            int k = 0;
            while (k < n_reasons && strcmp(reasons[k].text, words)) k++;
            if (k == n_reasons && k < 12) {
                strcpy(reasons[n_reasons].text, words);
                reasons[n_reasons++].count = 0;
            }
            if (k < n_reasons) reasons[k].count++;
        }
        printf("  %-10s %lld points, %.1f %% legal%s: %s\n", v->variant->name, (long long)size,
               seen ? 100.0 * (double)legal / (double)seen : 0, step > 1 ? " (sampled)" : "",
               v->variant->help);
        for (int k = 0; k < n_reasons; k++)
            printf("    %5.1f %%  %s\n", 100.0 * (double)reasons[k].count / (double)seen,
                   reasons[k].text);
        for (int k = 0; v->variant->knobs[k].name; k++) {
            printf("    %-10s", v->variant->knobs[k].name);
            for (int i = 0; i < space.knob[k].n; i++) printf(" %d", space.knob[k].value[i]);
            if (!space.knob[k].n) printf(" %d", v->variant->knobs[k].fallback);
            printf("   %s\n", v->variant->knobs[k].help);
        }
        kiln_text_free(&why);
    }
}

static bool dumps(const options *o, const char *what) { return o->dump && strstr(o->dump, what); }

static void dump_launches(const kiln_program *program) {
    for (int i = 0; i < program->n_launches; i++) {
        const kiln_launch *l = &program->launch[i];
        printf(
            "launch %s: grid %u x %u x %u, block %u x %u x %u, %u bytes of dynamic shared memory, "
            "%d arguments\n",
            l->entry, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2],
            l->shared_bytes, l->n_args);
    }
    printf("workspace: %lld bytes, %lld of them zeroed\n", (long long)program->workspace_bytes,
           (long long)program->workspace_zeroed);
}

static int dump_schedule(const options *o, const kiln_problem *p, const kiln_target *target,
                         const kiln_caps *caps, kiln_error *e) {
    kiln_schedule s;
    kiln_candidates c;
    int status = kiln_candidates_open(&c, p, caps, 1000, 1, e);
    if (status) return status;
    s = c.schedule[c.start[0]];
    kiln_candidates_close(&c);
    if (o->schedule) status = kiln_schedule_parse(p->family, &s, o->schedule, e);
    if (status) return status;
    kiln_text text = {0}, log = {0};
    char suffix[1][20];
    kiln_program program;
    kiln_schedule_print(&s, &text);
    printf("schedule: %s\n", kiln_text_get(&text));
    kiln_text_clear(&text);
    if (!s.variant->legal(p, caps, &s, &text)) {
        status = kiln_fail(e, KILN_BAD_INPUT, "this schedule is not legal here: %s",
                           kiln_text_get(&text));
        kiln_text_free(&text);
        return status;
    }
    kiln_text_clear(&text);
    status = s.variant->program(p, caps, &s, &program, e);
    if (!status && dumps(o, "launch")) dump_launches(&program);
    if (!status) status = kiln_emit_unit(p, caps, &s, 1, suffix, &text, e);
    if (!status && dumps(o, "source")) printf("%s\n", kiln_text_get(&text));
    if (!status &&
        dumps(o, "asm")) { /* the compiler's report, and PTX or the driver's binary as text */
        kiln_blob code = {0}, ptx = {0};
        kiln_compile_request request = {.source = kiln_text_get(&text),
                                        .ptx_arch = caps->arch_number ? "compute_80" : NULL};
        status = target->compile(caps, &request, &code, &ptx, &log, e);
        if (!status)
            printf("%s%.*s\n", kiln_text_get(&log), ptx.data ? (int)ptx.size : 0,
                   ptx.data ? (char *)ptx.data : "");
        free(code.data), free(ptx.data);
    }
    kiln_text_free(&text);
    kiln_text_free(&log);
    return status;
}

static int print_record(void *context, int64_t id, const kiln_record *r) {
    (void)context, (void)id;
    kiln_text t = {0};
    kiln_record_print(r, &t);
    puts(kiln_text_get(&t));
    kiln_text_free(&t);
    return 0;
}

static int dump_records(const options *o, const char *problem, kiln_error *e) {
    char path[1024];
    snprintf(path, sizeof path, "%s/kiln.db", o->session.out);
    kiln_store *store =
        kiln_store_open(o->session.store_path ? o->session.store_path : path, true, e);
    if (!store) return e->status;
    kiln_query q = {.problem = problem};
    int status = kiln_store_each(store, &q, print_record, NULL, e);
    kiln_store_close(store);
    return status;
}

static int command_show(int argc, char **argv) {
    options o;
    kiln_error e = {0};
    kiln_problem p;
    const kiln_target *target;
    kiln_caps caps;
    kiln_text text = {0};
    int status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help || !o.n_words) {
        puts("presets:");
        for (const kiln_preset *x = kiln_presets; x->name; x++)
            printf("  %-20s %s\n", x->name, x->help);
        puts("families:");
        for (int f = 0; kiln_families[f]; f++) {
            printf("  %-10s %s\n", kiln_families[f]->name, kiln_families[f]->help);
            for (const kiln_key *k = kiln_families[f]->keys; k->name; k++)
                printf("    %-8s %s\n", k->name, k->help);
        }
        return o.help ? 0 : EXIT_BAD;
    }
    status = kiln_problem_parse(&p, o.words[0], &e);
    if (!status) status = kiln_device_choose(o.session.device, &target, &caps, &text, &e);
    kiln_text_clear(&text);
    if (status) return bad(&e);
    kiln_problem_print(&p, &text);
    const kiln_generator *g = kiln_generator_of(p.family);
    printf("problem: %s\n%.4g Mflop, %.4g MB, %.3g flop per byte; on %s\n", kiln_text_get(&text),
           g->flops(&p) * 1e-6, g->bytes(&p) * 1e-6, g->flops(&p) / g->bytes(&p), caps.name);
    if (!o.dump || dumps(&o, "space")) show_space(&p, &caps);
    if (dumps(&o, "source") || dumps(&o, "asm") || dumps(&o, "launch"))
        status = dump_schedule(&o, &p, target, &caps, &e);
    if (!status && dumps(&o, "record")) status = dump_records(&o, kiln_text_get(&text), &e);
    kiln_text_free(&text);
    return status ? bad(&e) : 0;
}

/* ---- records ---- */

typedef struct bad_lines {
    const char *path;
    int64_t n;
} bad_lines;

static void bad_line(void *context, int64_t line, const char *why) {
    bad_lines *bad = context;
    bad->n++;
    fprintf(stderr, "tune: %s, line %lld: %s\n", bad->path, (long long)line, why);
}

static int command_exchange(int argc, char **argv, bool out) {
    options o;
    kiln_error e = {0};
    char path[1024];
    int64_t n = 0, skipped = 0;
    int status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    if (o.n_words != 1) return usage(out ? "export needs one FILE" : "import needs one FILE", NULL);
    snprintf(path, sizeof path, "%s/kiln.db", o.session.out);
    kiln_store *store =
        kiln_store_open(o.session.store_path ? o.session.store_path : path, out, &e);
    if (!store) return bad(&e);
    kiln_query all = {0};
    bad_lines wrong = {.path = o.words[0]};
    status = out ? kiln_store_export(store, &all, o.words[0], &n, &e)
                 : kiln_store_import(store, o.words[0], bad_line, &wrong, &n, &skipped, &e);
    kiln_store_close(store);
    if (status) return bad(&e);
    if (!o.session.quiet && out) printf("%lld records written to %s\n", (long long)n, o.words[0]);
    if (!o.session.quiet && !out)
        printf("%lld records added, %lld lines skipped\n", (long long)n, (long long)skipped);
    return wrong.n ? EXIT_BAD : 0; /* the good lines are in the store nevertheless */
}

/* Appends the recordings of a file: our own records are many, everything else is one. */
static int read_recordings(const char *path, const options *given, kiln_recording ***all, int *n,
                           kiln_text *notes, kiln_error *e) {
    kiln_recorded_options o = {.prior = !given->no_prior, .model = given->model};
    if (kiln_recorded_is(path)) return kiln_recorded_read(path, &o, all, n, notes, e);
    kiln_recording *r = kiln_recording_read(path, e);
    if (!r) return e->status;
    kiln_recording **more = realloc(*all, sizeof *more * (size_t)(*n + 1));
    if (!more) {
        kiln_recording_free(r);
        return kiln_fail(e, KILN_NO_MEMORY, "replay: out of memory; give fewer recordings");
    }
    (*all = more)[(*n)++] = r;
    return KILN_OK;
}

static int write_text(const char *path, const kiln_text *t, kiln_error *e) {
    FILE *f = fopen(path, "w");
    bool ok = f && fwrite(kiln_text_get(t), 1, t->size, f) == t->size;
    if (f && fclose(f)) ok = false;
    return ok ? KILN_OK : kiln_fail(e, KILN_IO, "%s cannot be written (%s)", path, strerror(errno));
}

static int replay(const options *o, kiln_recording *const *all, int n, const kiln_text *notes,
                  kiln_error *e) {
    kiln_text table = {0}, curves = {0};
    kiln_replay_options r = {.strategy = kiln_strategy_find(o->session.strategy),
                             .seeds = o->seeds,
                             .seed = o->session.seed,
                             .evaluations = (int)o->session.max_trials,
                             .stop_when_found = o->stop,
                             .mislead = o->mislead};
    int status =
        kiln_replay_compare(all, n, &r, o->transfer, &table, o->curves ? &curves : NULL, e);
    if (!status) printf("%s%s", kiln_text_get(notes), kiln_text_get(&table));
    if (!status && o->curves) status = write_text(o->curves, &curves, e);
    kiln_text_free(&table);
    kiln_text_free(&curves);
    return status;
}

static int across_sizes(const options *o, kiln_error *e) {
    kiln_text table = {0};
    int status = kiln_sizes_table((const char *const *)o->words, o->n_words, o->sizes, &table, e);
    if (!status) fputs(kiln_text_get(&table), stdout);
    kiln_text_free(&table);
    return status;
}

static int command_replay(int argc, char **argv) {
    options o;
    kiln_error e = {0};
    kiln_text notes = {0};
    kiln_recording **all = NULL;
    int n = 0, status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    if (!o.n_words)
        return usage("replay needs recorded spaces (CSV, Kernel Tuner's cache, T4, our records)",
                     NULL);
    if (o.sizes) return across_sizes(&o, &e) ? bad(&e) : 0;
    for (int i = 0; i < o.n_words && !status; i++)
        status = read_recordings(o.words[i], &o, &all, &n, &notes, &e);
    if (!status) status = replay(&o, all, n, &notes, &e);
    for (int i = 0; i < n; i++) kiln_recording_free(all[i]);
    free(all);
    kiln_text_free(&notes);
    return status ? bad(&e) : 0;
}

static int command_model(int argc, char **argv) {
    options o;
    kiln_error e = {0};
    kiln_text notes = {0};
    int status = parse_options(argc, argv, &o);
    if (status) return status;
    if (o.help) return fputs(help, stdout), 0;
    if (!o.n_words || !o.output)
        return usage("model needs files of records, and --output FILE", NULL);
    status = kiln_shipped_make((const char *const *)o.words, o.n_words, o.output, &notes, &e);
    if (!status) fputs(kiln_text_get(&notes), stdout);
    kiln_text_free(&notes);
    return status ? bad(&e) : 0;
}

static int command_check(int argc, char **argv) {
    kiln_error e = {0};
    if (argc < 3) return usage("check needs FILE.kiln, a device and problems", NULL);
    if (!kiln_check_library(argv[1], argv[2], (const char *const *)argv + 3, argc - 3, &e))
        return 0;
    bad(&e);
    return e.status == KILN_WRONG ? 1 : EXIT_BAD;
}

int main(int argc, char **argv) {
    const char *word = argc > 1 && argv[1][0] != '-' ? argv[1] : "";
    if (!*word) return command_run(argc, argv, true);
    argc--, argv++;
    if (!strcmp(word, "run")) return command_run(argc, argv, false);
    if (!strcmp(word, "devices")) return command_devices(argc, argv);
    if (!strcmp(word, "show")) return command_show(argc, argv);
    if (!strcmp(word, "emit")) return command_again(argc, argv, true);
    if (!strcmp(word, "report")) return command_again(argc, argv, false);
    if (!strcmp(word, "bench")) return command_bench(argc, argv);
    if (!strcmp(word, "export")) return command_exchange(argc, argv, true);
    if (!strcmp(word, "import")) return command_exchange(argc, argv, false);
    if (!strcmp(word, "replay")) return command_replay(argc, argv);
    if (!strcmp(word, "model")) return command_model(argc, argv);
    if (!strcmp(word, "check")) return command_check(argc, argv);
    if (!strcmp(word, "worker")) return kiln_worker_main(argc - 1, argv + 1);
    if (!strcmp(word, "help")) return fputs(help, stdout), 0;
    return usage("unknown command", word);
}
