/* For tests that run the programs themselves: start, wait, read what they said, look at children.
 * Programs are taken from beside the test: BUILD/tests/test_x runs BUILD/tune and BUILD/kiln. */
#ifndef KILN_TESTS_PROCESS_H
#define KILN_TESTS_PROCESS_H

#include "tuner/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct process_result {
    int status;       /* exit status; 128 + number after a signal */
    double seconds;
    char *out, *err;  /* what it wrote */
} process_result;

static char process_root[64]; /* a directory of this test's own */

static inline int process_begin(const char *name) {
    snprintf(process_root, sizeof process_root, "/tmp/kiln-%s-XXXXXX", name);
    return mkdtemp(process_root) ? 0 : -1;
}

static inline int process_remove_one(const char *path, const struct stat *st, int flag, struct FTW *at) {
    (void)st, (void)flag, (void)at;
    return remove(path);
}

static inline void process_end(void) {
    nftw(process_root, process_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in it. The same path is the same string, for as long as the test runs. */
static inline const char *process_path(const char *format, ...) {
    static char kept[128][256];
    char path[256];
    va_list args;
    va_start(args, format);
    int n = snprintf(path, sizeof path, "%s/", process_root), i = 0;
    vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    va_end(args);
    while (i < 128 && kept[i][0] && strcmp(kept[i], path)) i++;
    if (i == 128) abort();
    return strcpy(kept[i], path);
}

/* BUILD/NAME */
static inline const char *process_program(const char *name) {
    static char tune[1100], kiln[1100];
    char self[1000] = "", *path = strcmp(name, "tune") ? kiln : tune;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    snprintf(path, sizeof tune, "%s/../%s", n > 0 ? dirname(self) : ".", name);
    return path;
}

static inline char *process_read(const char *path) {
    FILE *f = fopen(path, "rb");
    size_t size = 0, room = 1 << 16;
    char *text = malloc(room);
    while (f && text) {
        size_t n = fread(text + size, 1, room - size - 1, f);
        size += n;
        if (!n) break;
        if (size + 1 == room) text = realloc(text, room *= 2);
    }
    if (f) fclose(f);
    if (text) text[size] = 0;
    return text;
}

static inline void process_write(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

/* Starts argv in a process group of its own, its words going to files of that name. */
static inline pid_t process_start(const char *const *argv, const char *out, const char *err) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid) {
        if (pid > 0) setpgid(pid, pid); /* both sides: whoever is first */
        return pid;
    }
    setpgid(0, 0);
    int in = open("/dev/null", O_RDONLY), o = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int e = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(in, 0), dup2(o, 1), dup2(e, 2);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static inline int process_status(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* True when it has ended. */
static inline bool process_ended(pid_t pid, int *status) {
    int raw;
    if (waitpid(pid, &raw, WNOHANG) != pid) return false;
    *status = process_status(raw);
    return true;
}

/* Waits; one that takes longer than `limit` is killed with its group: status 124. */
static inline int process_wait(pid_t pid, double limit) {
    int status;
    for (double end = kiln_now() + limit; kiln_now() < end; usleep(5000))
        if (process_ended(pid, &status)) return status;
    kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    return 124;
}

static inline process_result process_run_list(double limit, const char *const *argv) {
    process_result r = {0};
    const char *out = process_path("stdout"), *err = process_path("stderr");
    double start = kiln_now();
    r.status = process_wait(process_start(argv, out, err), limit);
    r.seconds = kiln_now() - start;
    r.out = process_read(out);
    r.err = process_read(err);
    return r;
}

#define PROCESS_RUN(limit, ...) process_run_list(limit, (const char *const[]){__VA_ARGS__, NULL})

static inline void process_free(process_result *r) {
    free(r->out);
    free(r->err);
}

/* The workers of a tuner: those of its children that are `tune worker ROLE ...`. */
static inline int process_workers(pid_t tuner, const char *role, pid_t *found, int max) {
    char path[96], line[4096], args[256];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)tuner, (int)tuner);
    FILE *f = fopen(path, "r");
    if (f && !fgets(line, sizeof line, f)) line[0] = 0;
    if (!f) return 0;
    fclose(f);
    for (char *rest = line, *word; (word = strtok_r(rest, " \n", &rest)) && n < max;) {
        snprintf(path, sizeof path, "/proc/%s/cmdline", word);
        f = fopen(path, "r");
        size_t got = f ? fread(args, 1, sizeof args - 1, f) : 0;
        if (f) fclose(f);
        args[got] = 0;
        const char *second = args + strlen(args) + 1, *third = second + strlen(second) + 1;
        if (got > 14 && third < args + got && !strcmp(second, "worker") && !strcmp(third, role))
            found[n++] = atoi(word);
    }
    return n;
}

#endif
