/* Plans: remembered choices, loaded kernels, launches. */
#include "runtime/context.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- remembering */

static bool is_plan_of(const kiln_plan *plan, const problem *p) {
    return plan->hash == p->hash &&
           !memcmp(plan->value, p->value.value, (size_t)p->n_keys * sizeof *plan->value) &&
           !strcmp(plan->key, kiln_text_get(&p->key));
}

static kiln_plan *find_plan(const kiln_context *c, const problem *p) {
    for (uint64_t at = p->hash % SLOTS; c->slot[at]; at = (at + 1) % SLOTS)
        if (is_plan_of(c->slot[at], p)) return c->slot[at];
    return NULL;
}

static void free_plan(kiln_plan *plan) {
    kiln_context *c = plan->context;
    if (plan->previous)
        plan->previous->next = plan->next;
    else
        c->plans = plan->next;
    if (plan->next) plan->next->previous = plan->previous;
    free(plan->key);
    free(plan->reason);
    free(plan);
}

void kiln_plan_forget(kiln_context *c) {
    memset(c->slot, 0, sizeof c->slot);
    c->n_remembered = 0;
    for (kiln_plan *p = c->plans, *next; p; p = next) {
        next = p->next;
        p->remembered = false;
        if (!p->references) free_plan(p);
    }
}

void kiln_plan_free_all(kiln_context *c) {
    while (c->plans) free_plan(c->plans);
}

static void remember(kiln_context *c, kiln_plan *plan) {
    if (c->n_remembered == REMEMBERED_MAX) kiln_plan_forget(c); /* bounded; plans in use live on */
    uint64_t at = plan->hash % SLOTS;
    while (c->slot[at]) at = (at + 1) % SLOTS;
    c->slot[at] = plan;
    c->n_remembered++;
    plan->remembered = true;
}

/* ---------------------------------------------------------------- misses */

static miss *note_miss(kiln_context *c, const char *text, const char *reason) {
    for (int i = 0; i < c->n_misses; i++)
        if (!strcmp(c->miss[i].problem, text)) {
            c->miss[i].times++;
            return &c->miss[i];
        }
    if (c->n_misses == MISSES_MAX) {
        c->misses_lost++;
        return NULL;
    }
    miss m = {strdup(text), strdup(reason), 1};
    if (!m.problem || !m.reason) {
        free(m.problem);
        free(m.reason);
        return NULL;
    }
    c->miss[c->n_misses] = m;
    return &c->miss[c->n_misses++];
}

static int by_times(const void *a, const void *b) {
    const miss *x = *(miss *const *)a, *y = *(miss *const *)b;
    int by_count = (y->times > x->times) - (y->times < x->times);
    return by_count ? by_count : strcmp(x->problem, y->problem);
}

/* Plans point to their miss; forgetting them lets a miss that lasts be noted again. */
static void free_misses(kiln_context *c) {
    for (kiln_plan *p = c->plans; p; p = p->next) p->missed = NULL;
    kiln_plan_forget(c);
    for (int i = 0; i < c->n_misses; i++) {
        free(c->miss[i].problem);
        free(c->miss[i].reason);
    }
    c->n_misses = 0;
}

int kiln_drain_misses(kiln_context *c,
                      void (*visit)(void *user, const char *problem, const char *reason,
                                    int64_t times),
                      void *user, int64_t *lost) {
    if (!c || !visit)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_drain_misses: an argument is NULL");
    miss *sorted[MISSES_MAX];
    for (int i = 0; i < c->n_misses; i++) sorted[i] = &c->miss[i];
    qsort(sorted, (size_t)c->n_misses, sizeof *sorted, by_times);
    for (int i = 0; i < c->n_misses && sorted[i]->times; i++)
        visit(user, sorted[i]->problem, sorted[i]->reason, sorted[i]->times);
    if (lost) *lost = c->misses_lost;
    c->misses_lost = 0;
    free_misses(c);
    return 0;
}

/* ---------------------------------------------------------------- getting a plan */

static void take_operands(kiln_plan *plan, const kiln_problem *p) {
    plan->n_operands = p->n_operands;
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].scalar) plan->scalars |= 1u << i;
}

static void count_choice(kiln_context *c, kiln_plan *plan, const char *text) {
    int64_t *count[] = {&c->stats.plans_exact, &c->stats.plans_nearest, &c->stats.plans_fallback,
                        &c->stats.plans_override};
    ++*count[plan->choice];
    if (plan->choice != KILN_CHOICE_NEAREST && plan->choice != KILN_CHOICE_FALLBACK) return;
    plan->missed = note_miss(c, text, plan->reason);
    kiln_status_log(c->library,
                    plan->choice == KILN_CHOICE_FALLBACK ? KILN_LOG_WARNING : KILN_LOG_INFO,
                    "%s: %s", text, plan->reason);
}

static void link_plan(kiln_context *c, kiln_plan *plan) {
    plan->context = c;
    plan->references = 1; /* the caller's; remembering may forget plans that nobody holds */
    plan->next = c->plans;
    if (c->plans) c->plans->previous = plan;
    c->plans = plan;
}

static int make_plan(kiln_context *c, const problem *p, kiln_plan **out, kiln_error *e) {
    const char *text = kiln_print_problem((kiln_problem *)&p->value); /* fills its cache */
    kiln_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a plan");
    choice chosen;
    int status = kiln_select(c, p, text, &chosen, &plan->program, e);
    if (status) {
        free(plan);
        return status;
    }
    link_plan(c, plan);
    plan->hash = p->hash;
    memcpy(plan->value, p->value.value, sizeof plan->value);
    plan->key = strdup(kiln_text_get(&p->key));
    plan->reason = strdup(chosen.reason);
    plan->kernel = chosen.kernel;
    plan->choice = chosen.how;
    plan->distance = chosen.distance;
    plan->predicted = chosen.predicted;
    take_operands(plan, &p->value);
    if (!plan->key || !plan->reason) {
        free_plan(plan);
        return kiln_fail(e, KILN_NO_MEMORY, "no memory for a plan");
    }
    count_choice(c, plan, text);
    remember(c, plan);
    *out = plan;
    return 0;
}

int kiln_get_plan(kiln_context *c, const kiln_problem *public, kiln_plan **out) {
    if (!c || !public || !out)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT, "kiln_get_plan: an argument is NULL");
    const problem *p = problem_of(public);
    kiln_plan *plan = find_plan(c, p);
    *out = NULL;
    if (!plan) {
        int status = make_plan(c, p, &plan, kiln_status_last());
        if (status) return status;
    } else {
        plan->references++;
        c->stats.plans_remembered++;
        if (plan->missed) plan->missed->times++;
    }
    *out = plan;
    return 0;
}

void kiln_release_plan(kiln_plan *plan) {
    if (plan && !--plan->references && !plan->remembered) free_plan(plan);
}

int kiln_get_plan_info(const kiln_plan *plan, kiln_plan_info *out) {
    if (!plan)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT, "kiln_get_plan_info: plan is NULL");
    const library_kernel *k = &plan->context->library->kernel[plan->kernel];
    kiln_plan_info info = {.choice = plan->choice,
                           .launches = plan->program.n_launches,
                           .prepared = plan->prepared,
                           .workspace_bytes = plan->program.workspace_bytes,
                           .workspace_zeroed_bytes = plan->program.workspace_zeroed,
                           .predicted_seconds = plan->predicted,
                           .distance = plan->distance,
                           .variant = k->variant,
                           .schedule = k->schedule,
                           .reason = plan->reason};
    memcpy(info.kernel, k->hex, sizeof info.kernel);
    return kiln_status_fill(out, &info, sizeof info);
}

/* ---------------------------------------------------------------- candidates, overrides */

static void fill_candidate(const kiln_library *l, const option *o, kiln_candidate *out) {
    const library_kernel *k = &l->kernel[o->kernel];
    kiln_candidate c = {.legal = o->legal,
                        .predicted_seconds = o->predicted,
                        .distance = o->distance,
                        .workspace_bytes = o->workspace_bytes,
                        .variant = k->variant,
                        .schedule = k->schedule};
    memcpy(c.kernel, k->hex, sizeof c.kernel);
    memcpy(c.why, o->why, sizeof c.why);
    kiln_status_fill(out, &c, sizeof c);
}

int kiln_list_candidates(kiln_context *c, const kiln_problem *p, kiln_candidate *out, int max,
                         int *n) {
    kiln_error *e = kiln_status_last();
    if (!c || !p || !n || (max > 0 && !out))
        return kiln_fail(e, KILN_BAD_INPUT, "kiln_list_candidates: an argument is NULL");
    if (max > 0 && out->size < 2 * sizeof(size_t))
        return kiln_fail(e, KILN_BAD_INPUT,
                         "set size in the first element to "
                         "sizeof(kiln_candidate)");
    option *o = NULL;
    *n = kiln_select_options(c, problem_of(p), &o, e);
    if (*n < 0) {
        int status = *n;
        *n = 0;
        return status;
    }
    size_t step = max > 0 ? out->size : 0;
    for (int i = 0; i < *n && i < max; i++) {
        kiln_candidate *at = (kiln_candidate *)((char *)out + (size_t)i * step);
        at->size = step;
        fill_candidate(c->library, &o[i], at);
    }
    free(o);
    return 0;
}

/* The kernel whose hash begins so, or -1. */
static int find_kernel(const kiln_library *l, const char *begin, kiln_error *e) {
    int found = -1, n = 0;
    for (uint32_t i = 0; i < l->n_kernels && *begin; i++)
        if (!strncmp(l->kernel[i].hex, begin, strlen(begin))) {
            found = (int)i;
            n++;
        }
    if (n == 1) return found;
    kiln_fail(e, n ? KILN_BAD_INPUT : KILN_NOT_FOUND,
              "%d kernels of the library have a hash that begins with \"%.64s\"; "
              "kiln_list_candidates gives the hashes",
              n, begin);
    return -1;
}

static int find_override(const kiln_context *c, const char *text) {
    for (int i = 0; i < c->n_overrides; i++)
        if (!strcmp(c->override[i].problem, text)) return i;
    return -1;
}

static int check_override(kiln_context *c, const problem *p, uint32_t kernel, kiln_error *e) {
    option *o;
    int n = kiln_select_options(c, p, &o, e), status = 0;
    if (n < 0) return n;
    const option *found = NULL;
    for (int i = 0; i < n; i++)
        if (o[i].kernel == kernel) found = &o[i];
    const char *hex = c->library->kernel[kernel].hex;
    if (!found)
        status = kiln_fail(e, KILN_BAD_INPUT, "kernel %.16s computes \"%.120s\", not this problem",
                           hex, c->library->kernel[kernel].key);
    else if (!found->legal)
        status = kiln_fail(e, KILN_UNSUPPORTED, "kernel %.16s cannot serve this problem here: %s",
                           hex, found->why);
    free(o);
    return status;
}

int kiln_override_problem(kiln_context *c, const kiln_problem *public, const char *kernel) {
    kiln_error *e = kiln_status_last();
    if (!c || !public || !kernel)
        return kiln_fail(e, KILN_BAD_INPUT, "kiln_override_problem: an argument is NULL");
    int k = find_kernel(c->library, kernel, e);
    if (k < 0) return e->status;
    int status = check_override(c, problem_of(public), (uint32_t)k, e);
    if (status) return status;
    const char *text = kiln_print_problem((kiln_problem *)public);
    int at = find_override(c, text);
    if (at < 0 && c->n_overrides == OVERRIDES_MAX)
        return kiln_fail(e, KILN_UNSUPPORTED, "there are %d overrides already; clear some",
                         OVERRIDES_MAX);
    if (at < 0) {
        char *copy = strdup(text);
        if (!copy) return kiln_fail(e, KILN_NO_MEMORY, "no memory for an override");
        at = c->n_overrides++;
        c->override[at].problem = copy;
    }
    c->override[at].kernel = (uint32_t)k;
    kiln_plan_forget(c);
    return 0;
}

int kiln_clear_override(kiln_context *c, const kiln_problem *public) {
    kiln_error *e = kiln_status_last();
    if (!c) return kiln_fail(e, KILN_BAD_INPUT, "kiln_clear_override: context is NULL");
    const char *text = public ? kiln_print_problem((kiln_problem *)public) : NULL;
    if (text && find_override(c, text) < 0)
        return kiln_fail(e, KILN_NOT_FOUND, "there is no override for \"%.200s\"", text);
    int kept = 0;
    for (int i = 0; i < c->n_overrides; i++)
        if (text && strcmp(c->override[i].problem, text))
            c->override[kept++] = c->override[i];
        else
            free(c->override[i].problem);
    c->n_overrides = kept;
    kiln_plan_forget(c);
    return 0;
}

/* ---------------------------------------------------------------- loading */

static void entry_name(const library_kernel *k, const char *entry, char out[64]) {
    snprintf(out, 64, "kiln_%.20s_%.*s", k->suffix, 36, entry);
}

/* From source, by the compiler of this machine. */
static kiln_module *rebuild(kiln_context *c, const library_kernel *k, const library_blob *b,
                            const kiln_program *program, kiln_error *e) {
    const kiln_launch *warm[KILN_LAUNCHES_MAX];
    char name[KILN_LAUNCHES_MAX][64];
    for (int i = 0; i < program->n_launches; i++) {
        warm[i] = &program->launch[i];
        entry_name(k, program->launch[i].entry, name[i]);
    }
    kiln_compile_request request = {.source = (const char *)b->data,
                                    .n_warm = program->n_launches,
                                    .warm = warm,
                                    .warm_entry = (const char(*)[64])name};
    kiln_blob blob = {0};
    kiln_text words = {0};
    kiln_status_log(c->library, KILN_LOG_WARNING, "rebuilding kernel %.16s from source for %s",
                    k->hex, c->caps->name);
    kiln_module *m = NULL;
    if (!c->target->compile(c->caps, &request, &blob, NULL, &words, e))
        m = c->target->load(c->device, blob.data, blob.size, e);
    free(blob.data);
    kiln_text_free(&words);
    if (m) c->stats.kernels_rebuilt++;
    return m;
}

/* Text code ends with a NUL inside its size; without it a reader would run on. */
static int check_text(const library_kernel *k, const library_blob *b, kiln_error *e) {
    bool text = b->binding == KILN_BIND_NONE || !strcmp(b->kind, "ptx");
    if (!text || !b->data[b->size - 1]) return 0;
    return kiln_fail(e, KILN_CORRUPT, "the %s of kernel %.16s does not end; emit the file again",
                     b->kind, k->hex);
}

static kiln_module *load_blob(kiln_context *c, const library_kernel *k, const library_blob *b,
                              const kiln_program *program, kiln_error *e) {
    if (kiln_reader_check_blob(k, b, e) || check_text(k, b, e)) return NULL;
    if (b->binding == KILN_BIND_NONE) return rebuild(c, k, b, program, e);
    return c->target->load(c->device, b->data, b->size, e);
}

/* Blobs are stored best first. Damage is never passed over: another blob would hide it. */
static int load_kernel(kiln_context *c, uint32_t index, const kiln_program *program,
                       kiln_error *e) {
    const library_kernel *k = &c->library->kernel[index];
    loaded *out = &c->loaded[index];
    kiln_fail(e, KILN_UNSUPPORTED, "kernel %.16s has no code that runs on %s", k->hex,
              c->caps->name);
    for (int i = 0; i < k->n_blobs && !out->module; i++) {
        if (!kiln_select_fits(&k->blob[i], &c->library->device[k->device], c->caps)) continue;
        out->module = load_blob(c, k, &k->blob[i], program, e);
        if (!out->module && e->status == KILN_CORRUPT) return e->status;
        if (!out->module)
            kiln_status_log(c->library, KILN_LOG_WARNING, "%s code of kernel %.16s: %s",
                            k->blob[i].kind, k->hex, e->text);
    }
    if (!out->module) return e->status;
    c->stats.kernels_loaded++;
    return 0;
}

static kiln_kernel *find_entry(kiln_context *c, uint32_t index, const char *entry, kiln_error *e) {
    loaded *l = &c->loaded[index];
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->name[i], entry)) return l->kernel[i];
    char name[64];
    entry_name(&c->library->kernel[index], entry, name);
    kiln_kernel *k = c->target->kernel(c->device, l->module, name, e);
    if (k && l->n < ENTRIES_MAX) {
        snprintf(l->name[l->n], sizeof l->name[0], "%s", entry);
        l->kernel[l->n++] = k;
    }
    return k;
}

int kiln_prepare_plan(kiln_plan *plan) {
    kiln_error *e = kiln_status_last();
    if (!plan) return kiln_fail(e, KILN_BAD_INPUT, "kiln_prepare_plan: plan is NULL");
    if (plan->prepared) return 0;
    kiln_context *c = plan->context;
    if (!c->loaded[plan->kernel].module) {
        int status = load_kernel(c, plan->kernel, &plan->program, e);
        if (status) return status;
    }
    for (int i = 0; i < plan->program.n_launches; i++) {
        plan->entry[i] = find_entry(c, plan->kernel, plan->program.launch[i].entry, e);
        if (!plan->entry[i]) return e->status;
    }
    plan->prepared = true;
    return 0;
}

static int prewarm_one(kiln_context *c, const char *text) {
    kiln_problem *p = NULL;
    kiln_plan *plan = NULL;
    int status = kiln_make_problem(text, &p);
    if (!status) status = kiln_get_plan(c, p, &plan);
    if (!status) status = kiln_prepare_plan(plan);
    kiln_release_plan(plan);
    kiln_free_problem(p);
    return status;
}

int kiln_prewarm_context(kiln_context *c, const char *const *problems, int n) {
    if (!c)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_prewarm_context: context is NULL");
    int status = 0;
    for (int i = 0; problems && i < n && !status; i++) status = prewarm_one(c, problems[i]);
    for (uint32_t i = 0; !problems && i < c->library->n_exact && !status; i++)
        if (c->same[c->library->exact[i].device])
            status = prewarm_one(c, c->library->exact[i].problem);
    return status;
}

/* ---------------------------------------------------------------- launching */

static int check_args(const kiln_plan *plan, const kiln_launch_args *a, kiln_error *e) {
    if (a->size < sizeof *a)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "kiln_launch_args.size is %zu; set it to "
                         "sizeof(kiln_launch_args)",
                         a->size);
    if (!plan->prepared)
        return kiln_fail(e, KILN_NOT_PREPARED, "the plan is not prepared; call kiln_prepare_plan");
    if (plan->program.workspace_bytes && !a->workspace)
        return kiln_fail(e, KILN_BAD_INPUT, "the plan needs a workspace of %lld bytes",
                         (long long)plan->program.workspace_bytes);
    if (plan->scalars && !a->scalar)
        return kiln_fail(e, KILN_BAD_INPUT, "the problem has scalars and scalar is NULL");
    for (int i = 0; i < plan->n_operands; i++) {
        if (plan->scalars >> i & 1) continue;
        if (!a->operand || !a->operand[i])
            return kiln_fail(e, KILN_BAD_INPUT, "operand %d has no buffer", i);
        if (plan->context->target->addresses && (uintptr_t)a->operand[i] % 16)
            return kiln_fail(e, KILN_BAD_INPUT,
                             "operand %d begins at %p; kernels need multiples of 16 bytes", i,
                             a->operand[i]);
    }
    return 0;
}

static int encode_maps(kiln_plan *plan, kiln_bindings *b, void *space, kiln_error *e) {
    const kiln_context *c = plan->context;
    if (!c->target->encode)
        return kiln_fail(e, KILN_UNSUPPORTED, "target %s has no tensor maps", c->target->name);
    b->tensor_maps = space;
    return c->target->encode(c->device, plan->program.tensor_map, plan->program.n_tensor_maps, b,
                             space, e);
}

static int launch(kiln_plan *plan, const kiln_launch_args *a, void *workspace, kiln_error *e) {
    _Alignas(128) unsigned char maps[KILN_TENSOR_MAPS_MAX * 128];
    kiln_context *c = plan->context;
    kiln_bindings b = {
        .operand = (const kiln_buffer *)a->operand, .scalar = a->scalar, .workspace = workspace};
    int status = plan->program.n_tensor_maps ? encode_maps(plan, &b, maps, e) : 0;
    for (int i = 0; i < plan->program.n_launches && !status; i++)
        status = c->target->launch(c->device, plan->entry[i], &plan->program.launch[i], &b,
                                   a->stream, e);
    if (!status) c->stats.launches++;
    return status;
}

int kiln_launch_plan(kiln_plan *plan, const kiln_launch_args *args) {
    kiln_error *e = kiln_status_last();
    if (!plan || !args)
        return kiln_fail(e, KILN_BAD_INPUT, "kiln_launch_plan: an argument is NULL");
    int status = check_args(plan, args, e);
    return status ? status : launch(plan, args, args->workspace, e);
}

/* The context's workspace, large enough and with zeros where the plan wants them. */
static int take_workspace(kiln_context *c, const kiln_program *p, kiln_error *e) {
    if (p->workspace_bytes > c->workspace_bytes) {
        if (c->workspace) c->target->release(c->device, c->workspace);
        c->workspace_bytes = 0;
        c->workspace = c->target->alloc(c->device, p->workspace_bytes, e);
        if (!c->workspace) return e->status;
        c->workspace_bytes = p->workspace_bytes;
    }
    int64_t zeroed = (p->workspace_zeroed + 3) / 4 * 4;
    return zeroed ? c->target->fill(c->device, c->workspace, 0, zeroed, 0, e) : 0;
}

static int run_plan(kiln_context *c, kiln_plan *plan, const kiln_launch_args *args, kiln_error *e) {
    kiln_launch_args a = *args;
    int status = kiln_prepare_plan(plan);
    if (!status) status = take_workspace(c, &plan->program, e);
    a.workspace = c->workspace;
    if (!status) status = check_args(plan, &a, e);
    if (!status) status = launch(plan, &a, c->workspace, e);
    return status ? status : c->target->sync(c->device, e);
}

int kiln_run_problem(kiln_context *c, const kiln_problem *p, const kiln_launch_args *args) {
    kiln_error *e = kiln_status_last();
    kiln_plan *plan = NULL;
    if (!c || !p || !args || args->size < sizeof *args || args->stream)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "kiln_run_problem: an argument is NULL, "
                         "kiln_launch_args.size is not set, or a stream is given");
    int status = kiln_get_plan(c, p, &plan);
    if (!status) status = run_plan(c, plan, args, e);
    kiln_release_plan(plan);
    return status;
}
