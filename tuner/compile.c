/* The compile worker: from schedules of one problem to one compiled unit in the cache.
 *
 * request  {"problem": TEXT, "schedules": [TEXT...], "ptx": "compute_80" or ""}
 * reply    {"status": 0, "unit": HASH, "suffixes": [TEXT...], "log": TEXT,
 *           "seconds": S, "facts": [{"registers", "local_bytes", "fits"}...]}
 *          {"status": <0, "error": SENTENCE, "log": TEXT, "seconds": S} */
#include "base/hash.h"
#include "kernels/emit.h"
#include "tuner/unit.h"
#include "tuner/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { UNIT_SCHEDULES_MAX = 32, LOG_KEPT = 4000 };

typedef struct job {
    kiln_problem p;
    int n;
    kiln_schedule schedule[UNIT_SCHEDULES_MAX];
    char suffix[UNIT_SCHEDULES_MAX][20];
    kiln_program *program; /* one per schedule */
    kiln_text source, log;
    char unit[KILN_UNIT_NAME];
} job;

static int read_request(job *j, json_t *request, kiln_error *e) {
    const char *text = json_string_value(json_object_get(request, "problem"));
    json_t *schedules = json_object_get(request, "schedules");
    int status = kiln_problem_parse(&j->p, text ? text : "", e);
    j->n = (int)json_array_size(schedules);
    if (j->n > UNIT_SCHEDULES_MAX) j->n = UNIT_SCHEDULES_MAX;
    for (int i = 0; i < j->n && !status; i++)
        status = kiln_schedule_parse(j->p.family, &j->schedule[i],
                                     json_string_value(json_array_get(schedules, (size_t)i)), e);
    return status;
}

static void name_unit(job *j, const kiln_caps *caps) {
    uint8_t digest[32];
    kiln_sha256 h;
    kiln_sha256_init(&h);
    kiln_sha256_add(&h, kiln_text_get(&j->source), j->source.size);
    kiln_sha256_add(&h, caps->arch, strlen(caps->arch) + 1);
    kiln_sha256_add(&h, caps->compiler, strlen(caps->compiler) + 1);
    kiln_sha256_add(&h, caps->driver, strlen(caps->driver) + 1);
    kiln_sha256_add(&h, caps->name, strlen(caps->name) + 1);
    kiln_sha256_end(&h, digest);
    kiln_hex(digest, 32, j->unit);
}

/* Launches to warm: every launch of every program once per block size. */
static int warm_launches(job *j, const kiln_caps *caps, const kiln_launch **launch,
                         char (*entry)[64], int *n, kiln_error *e) {
    int status = KILN_OK;
    for (int i = 0; i < j->n && !status; i++) {
        kiln_program *program = &j->program[i];
        status = j->schedule[i].variant->program(&j->p, caps, &j->schedule[i], program, e);
        for (int k = 0; k < program->n_launches && !status; k++) {
            launch[*n] = &program->launch[k];
            snprintf(entry[*n], 64, "kiln_%.16s_%.40s", j->suffix[i], program->launch[k].entry);
            ++*n;
        }
    }
    return status;
}

static int compile(job *j, const kiln_worker_context *c, const char *ptx_arch, kiln_error *e) {
    const kiln_launch *launch[UNIT_SCHEDULES_MAX * KILN_LAUNCHES_MAX];
    char entry[UNIT_SCHEDULES_MAX * KILN_LAUNCHES_MAX][64];
    int n_warm = 0;
    int status = warm_launches(j, c->caps, launch, entry, &n_warm, e);
    if (status) return status;
    kiln_compile_request request = {
        .source = kiln_text_get(&j->source),
        .ptx_arch = ptx_arch[0] ? ptx_arch : NULL,
        .n_warm = n_warm,
        .warm = launch,
        .warm_entry = (const char(*)[64])entry,
    };
    kiln_blob code = {0}, ptx = {0};
    status = c->target->compile(c->caps, &request, &code, &ptx, &j->log, e);
    if (!status)
        status = kiln_unit_write(c->cache, j->unit, "src", j->source.data, j->source.size, e);
    if (!status && ptx.size)
        status = kiln_unit_write(c->cache, j->unit, "ptx", ptx.data, ptx.size, e);
    if (!status)
        status = kiln_unit_write(c->cache, j->unit, "log", kiln_text_get(&j->log), j->log.size, e);
    if (!status)
        status = kiln_unit_write(c->cache, j->unit, "kind", code.kind, strlen(code.kind), e);
    if (!status) status = kiln_unit_write(c->cache, j->unit, "bin", code.data, code.size, e);
    free(code.data);
    free(ptx.data);
    return status;
}

/* Uses a unit that an earlier session compiled, with its log. */
static bool cached(job *j, const kiln_worker_context *c, const char *ptx_arch) {
    char path[1024];
    size_t size;
    if (ptx_arch[0]) {
        snprintf(path, sizeof path, "%s/%s.ptx", c->cache, j->unit);
        if (access(path, R_OK)) return false;
    }
    if (!kiln_unit_whole(c->cache, j->unit, "bin")) return false;
    char *log = kiln_unit_read(c->cache, j->unit, "log", &size, NULL);
    if (log) kiln_text_add(&j->log, log);
    free(log);
    return true;
}

/* Whether a unit of the device has registers for one block. */
static bool fits(const kiln_caps *caps, const kiln_launch *l, int registers) {
    int64_t threads = (int64_t)l->block[0] * l->block[1] * l->block[2], warp = caps->warp;
    if (caps->registers_unit <= 0 || warp <= 0 || registers <= 0) return true;
    return (threads + warp - 1) / warp * warp * ((registers + 7) / 8 * 8) <= caps->registers_unit;
}

/* What the compiler said of a program's main kernel, and whether all its kernels can be launched:
 * known before anything is loaded. */
static json_t *facts(const job *j, const kiln_worker_context *c, int i, kiln_program *program) {
    kiln_kernel_facts main_facts = {-1, -1, -1, -1, -1}, f;
    bool all_fit = true;
    const kiln_variant *v = j->schedule[i].variant;
    int failed = c->target->report ? v->program(&j->p, c->caps, &j->schedule[i], program, NULL) : 1;
    for (int k = 0; !failed && k < program->n_launches; k++) {
        char entry[64];
        const kiln_launch *l = &program->launch[k];
        snprintf(entry, sizeof entry, "kiln_%.16s_%.40s", j->suffix[i], l->entry);
        if (!c->target->report(kiln_text_get(&j->log), entry, &f)) continue;
        if (program->n_launches == 1 || !strcmp(l->entry, "main")) main_facts = f;
        all_fit &= fits(c->caps, l, f.registers);
    }
    return json_pack("{s:i, s:i, s:b}", "registers", main_facts.registers, "local_bytes",
                     main_facts.local_bytes, "fits", all_fit);
}

static json_t *reply(const job *j, const kiln_worker_context *c, int status, const kiln_error *e,
                     double seconds) {
    json_t *suffixes = json_array();
    for (int i = 0; i < j->n; i++) json_array_append_new(suffixes, json_string(j->suffix[i]));
    json_t *all_facts = json_array();
    for (int i = 0; i < j->n && !status; i++)
        json_array_append_new(all_facts, facts(j, c, i, &j->program[i]));
    /* A compiler's log may hold any bytes: JSON takes only UTF-8. */
    kiln_text log = {0};
    kiln_text_add_bytes(&log, kiln_text_get(&j->log),
                        j->log.size < LOG_KEPT ? j->log.size : LOG_KEPT);
    for (size_t i = 0; i < log.size; i++)
        if ((unsigned char)log.data[i] > '~') log.data[i] = '?';
    json_t *r = json_pack("{s:i, s:s, s:o, s:s, s:f, s:s, s:o}", "status", status, "unit", j->unit,
                          "suffixes", suffixes, "log", kiln_text_get(&log), "seconds", seconds,
                          "error", status ? e->text : "", "facts", all_facts);
    kiln_text_free(&log);
    return r;
}

json_t *kiln_compile_handle(void *context, json_t *request) {
    const kiln_worker_context *c = context;
    kiln_error e = {0};
    double start = kiln_now();
    const char *ptx_arch = json_string_value(json_object_get(request, "ptx"));
    if (!ptx_arch) ptx_arch = "";
    job *j = calloc(1, sizeof *j);
    if (j) j->program = calloc(UNIT_SCHEDULES_MAX, sizeof *j->program);
    if (!j || !j->program) {
        free(j);
        return json_pack("{s:i, s:s}", "status", KILN_NO_MEMORY, "error", "out of memory");
    }
    int status = read_request(j, request, &e);
    if (!status)
        status = kiln_emit_unit(&j->p, c->caps, j->schedule, j->n, j->suffix, &j->source, &e);
    if (!status) {
        name_unit(j, c->caps);
        if (!cached(j, c, ptx_arch)) status = compile(j, c, ptx_arch, &e);
    }
    json_t *r = reply(j, c, status, &e, kiln_now() - start);
    kiln_text_free(&j->source);
    kiln_text_free(&j->log);
    free(j->program);
    free(j);
    return r;
}
