#include "tuner/worker.h"

#include "tuner/topology.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKER_FD = 3, MESSAGE_MAX = 64 << 20, LAST_WORDS = 300 };

double kiln_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- messages: 4 bytes of length (host order: both ends are one machine), then JSON ---- */

static bool write_all(int fd, const void *data, size_t n) {
    for (const char *p = data; n;) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

static bool send_message(int fd, json_t *message) {
    char *text = json_dumps(message, JSON_COMPACT);
    if (!text) return false;
    uint32_t n = (uint32_t)strlen(text);
    bool ok = write_all(fd, &n, sizeof n) && write_all(fd, text, n);
    free(text);
    return ok;
}

/* One complete message out of the buffer, or NULL. *bad: what arrived is no message. */
static json_t *take_message(kiln_text *in, bool *bad) {
    uint32_t n;
    if (in->size < sizeof n) return NULL;
    memcpy(&n, in->data, sizeof n);
    if (n > MESSAGE_MAX) return *bad = true, NULL;
    if (in->size < sizeof n + n) return NULL;
    json_t *message = json_loadb(in->data + sizeof n, n, 0, NULL);
    if (!message) *bad = true;
    in->size -= sizeof n + n;
    memmove(in->data, in->data + sizeof n + n, in->size);
    return message;
}

json_t *kiln_samples_list(const double *samples, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_real(samples[i]));
    return list;
}

int kiln_samples_read(const json_t *list, double *samples, int most) {
    int n = (int)json_array_size(list);
    if (n > most) n = most;
    for (int i = 0; i < n; i++) samples[i] = json_number_value(json_array_get(list, (size_t)i));
    return n;
}

/* ---- the tuner's side ---- */

static void child(const kiln_worker *w, int fd, int log) {
    static const char *const role[] = {"compile", "measure"};
    char core[16];
    snprintf(core, sizeof core, "%d", w->core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1) _exit(1); /* the tuner died before prctl */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (fd != WORKER_FD) dup2(fd, WORKER_FD);
    for (int i = WORKER_FD + 1; i < 256; i++) close(i);
    execl("/proc/self/exe", "tune", "worker", role[w->role], w->device, core, w->cache,
          (char *)NULL);
    _exit(127);
}

int kiln_worker_start(kiln_worker *w, kiln_error *e) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return kiln_fail(e, KILN_IO, "cannot make a socket for a worker: %s", strerror(errno));
    int log = memfd_create("kiln-worker", MFD_CLOEXEC);
    pid_t pid = log < 0 ? -1 : fork();
    if (pid < 0) {
        int why = errno;
        close(pair[0]), close(pair[1]);
        if (log >= 0) close(log);
        return kiln_fail(e, KILN_IO, "cannot start a worker: %s", strerror(why));
    }
    if (pid == 0) child(w, pair[1], log);
    close(pair[1]);
    w->pid = pid;
    w->fd = pair[0];
    w->log = log;
    w->busy = false;
    kiln_text_clear(&w->in);
    return KILN_OK;
}

/* The end of what the worker wrote to stderr, on one line. */
static void last_words(const kiln_worker *w, kiln_text *out) {
    char words[LAST_WORDS + 1];
    off_t size = lseek(w->log, 0, SEEK_END);
    off_t from = size > LAST_WORDS ? size - LAST_WORDS : 0;
    ssize_t n = size > 0 ? pread(w->log, words, LAST_WORDS, from) : 0;
    if (n <= 0) return;
    for (ssize_t i = 0; i < n; i++)
        if ((unsigned char)words[i] < ' ' || (unsigned char)words[i] > '~') words[i] = ' ';
    while (n && words[n - 1] == ' ') n--;
    kiln_text_printf(out, ": %.*s", (int)n, words);
}

/* A program's own faults show as other signals: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT. */
static bool sent_from_outside(int number) {
    return number == SIGKILL || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

/* Kills when asked to, reaps, says how it ended. */
static void reap(kiln_worker *w, bool kill_it, kiln_text *detail) {
    int status = 0;
    if (kill_it) kill(w->pid, SIGKILL);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
    }
    w->killed = !kill_it && WIFSIGNALED(status) && sent_from_outside(WTERMSIG(status));
    if (detail) {
        if (kill_it)
            kiln_text_add(detail, "killed at its deadline");
        else if (WIFSIGNALED(status))
            kiln_text_printf(detail, "worker died: %s", strsignal(WTERMSIG(status)));
        else
            kiln_text_printf(detail, "worker ended with status %d", WEXITSTATUS(status));
        last_words(w, detail);
    }
    close(w->fd);
    close(w->log);
    w->pid = 0;
    w->busy = false;
    kiln_text_free(&w->in);
}

void kiln_worker_stop(kiln_worker *w) {
    if (w->pid) reap(w, true, NULL);
}

bool kiln_worker_alive(kiln_worker *w) {
    siginfo_t ended = {0};
    if (!w->pid) return false;
    if (waitid(P_PID, (id_t)w->pid, &ended, WEXITED | WNOHANG | WNOWAIT) || !ended.si_pid)
        return true;
    reap(w, false, NULL);
    return false;
}

int kiln_worker_send(kiln_worker *w, json_t *request, double seconds, kiln_error *e) {
    /* An idle worker may have died (out-of-memory killer, a user's kill -9): replace it unseen. */
    for (int attempt = 0; attempt < 3; attempt++) {
        int status = w->pid ? KILN_OK : kiln_worker_start(w, e);
        if (status) return status;
        if (send_message(w->fd, request)) {
            w->busy = true;
            w->deadline = kiln_now() + seconds;
            return KILN_OK;
        }
        reap(w, true, NULL);
    }
    return kiln_fail(e, KILN_IO,
                     "a worker process cannot be kept alive; see whether memory is "
                     "short (dmesg) and run the same command again to resume");
}

/* Reads what there is; an event when a message is complete or the worker is gone. */
static kiln_worker_event receive(kiln_worker *w, json_t **reply, kiln_text *detail) {
    char chunk[65536];
    ssize_t n = recv(w->fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return KILN_EVENT_NONE;
    bool bad = false;
    if (n > 0) {
        kiln_text_add_bytes(&w->in, chunk, (size_t)n);
        *reply = take_message(&w->in, &bad);
        if (*reply) {
            w->busy = false;
            return KILN_EVENT_REPLY;
        }
        if (!bad) return KILN_EVENT_NONE;
    }
    reap(w, bad, detail);
    return KILN_EVENT_DIED;
}

static kiln_worker_event expire(kiln_worker *workers, int n, int *which, kiln_text *detail) {
    double now = kiln_now();
    for (int i = 0; i < n; i++)
        if (workers[i].pid && workers[i].busy && workers[i].deadline <= now) {
            *which = i;
            reap(&workers[i], true, detail);
            return KILN_EVENT_TIMEOUT;
        }
    return KILN_EVENT_NONE;
}

kiln_worker_event kiln_worker_wait(kiln_worker *workers, int n, double seconds, int *which,
                                   json_t **reply, kiln_text *detail) {
    *reply = NULL;
    struct pollfd polled[KILN_WORKERS_MAX];
    int index[KILN_WORKERS_MAX], count = 0;
    double until = kiln_now() + seconds;
    for (int i = 0; i < n && count < KILN_WORKERS_MAX; i++)
        if (workers[i].pid && workers[i].busy) {
            polled[count] = (struct pollfd){.fd = workers[i].fd, .events = POLLIN};
            index[count++] = i;
            if (workers[i].deadline < until) until = workers[i].deadline;
        }
    double wait = until - kiln_now();
    int ready = poll(polled, (nfds_t)count, wait > 0 ? (int)(wait * 1000) + 1 : 0);
    for (int i = 0; ready > 0 && i < count; i++) {
        if (!polled[i].revents) continue;
        *which = index[i];
        kiln_worker_event event = receive(&workers[index[i]], reply, detail);
        if (event != KILN_EVENT_NONE) return event;
    }
    return expire(workers, n, which, detail);
}

/* ---- the worker's side ---- */

int kiln_worker_serve(kiln_worker_handler handler, void *context) {
    kiln_text in = {0};
    char chunk[65536];
    bool bad = false;
    for (;;) {
        json_t *request = take_message(&in, &bad);
        if (request) {
            json_t *reply = handler(context, request);
            bool sent = reply && send_message(WORKER_FD, reply);
            json_decref(reply);
            json_decref(request);
            if (!sent) return 1;
            continue;
        }
        ssize_t n = recv(WORKER_FD, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0 || bad) break;
        kiln_text_add_bytes(&in, chunk, (size_t)n);
    }
    /* Not exit(): a driver left in disorder by a candidate must not run its destructors. */
    fflush(NULL);
    _exit(0);
}

int kiln_worker_main(int argc, char **argv) {
    if (argc != 4) return 2;
    const char *id = argv[1], *cache = argv[3];
    char name[16] = "";
    int index = 0;
    if (sscanf(id, "%15[^:]:%d", name, &index) != 2) return 2;
    const kiln_target *target = kiln_target_find(name);
    static kiln_caps caps[32];
    kiln_error e;
    int n = target ? target->devices(caps, 32, &e) : 0;
    if (index < 0 || index >= n) return 3;
    bool compiling = !strcmp(argv[0], "compile");
    /* A compile worker of a CPU driver is bound AFTER the driver counted its cores: what it
     * compiles is for the whole device. */
    if (compiling)
        kiln_topology_bind_core(atoi(argv[2]));
    else
        kiln_topology_bind_near(&caps[index]);
    kiln_worker_context context = {target, &caps[index], cache};
    return kiln_worker_serve(compiling ? kiln_compile_handle : kiln_measure_handle, &context);
}
