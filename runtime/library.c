/* Open, close, verify: how a library gets into memory. */
#include "runtime/context.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_options(const kiln_open_options *o) {
    if (!o) return 0;
    if (o->size < sizeof(size_t))
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_open_options.size is %zu; set it to sizeof(kiln_open_options)",
                         o->size);
    if (o->size >= sizeof *o && o->n_keys)
        return kiln_fail(kiln_status_last(), KILN_UNSUPPORTED,
                         "this version cannot check signatures; pass no keys");
    return 0;
}

static void take_options(kiln_library *l, const kiln_open_options *o) {
    if (!o || o->size < offsetof(kiln_open_options, keys)) return;
    l->log = o->log;
    l->log_user = o->log_user;
}

static int read_all(int fd, const char *path, uint8_t *to, uint64_t bytes, kiln_error *e) {
    for (uint64_t done = 0; done < bytes;) {
        ssize_t n = read(fd, to + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return kiln_fail(e, KILN_IO, "cannot read %s: %s", path, strerror(errno));
        if (!n)
            return kiln_fail(e, KILN_IO, "%s became shorter while it was read; try again", path);
        done += (uint64_t)n;
    }
    return 0;
}

static int check_file(int fd, const char *path, uint64_t *bytes, kiln_error *e) {
    struct stat st;
    if (fstat(fd, &st)) return kiln_fail(e, KILN_IO, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return kiln_fail(e, KILN_BAD_INPUT, "%s is not a file; give a .kiln file", path);
    *bytes = (uint64_t)st.st_size;
    if (*bytes > KILN_FILE_BYTES_MAX)
        return kiln_fail(e, KILN_CORRUPT, "%s has %" PRIu64 " bytes, more than a library may have",
                         path, *bytes);
    return 0;
}

static uint8_t *take_bytes(uint64_t bytes, const char *name, kiln_error *e) {
    uint8_t *p = malloc(bytes ? bytes : 1);
    if (!p) kiln_fail(e, KILN_NO_MEMORY, "no memory for the %" PRIu64 " bytes of %s", bytes, name);
    return p;
}

static int read_file(const char *path, uint8_t **data, uint64_t *bytes, kiln_error *e) {
    /* non-blocking, so that a pipe is refused instead of waited for */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kiln_fail(e, errno == ENOENT ? KILN_NOT_FOUND : KILN_IO, "cannot open %s: %s", path,
                         strerror(errno));
    int status = check_file(fd, path, bytes, e);
    if (!status && !(*data = take_bytes(*bytes, path, e))) status = KILN_NO_MEMORY;
    if (!status && (status = read_all(fd, path, *data, *bytes, e))) free(*data);
    close(fd);
    return status;
}

int kiln_open_library(const char *path, const kiln_open_options *options, kiln_library **out) {
    kiln_error *e = kiln_status_last();
    if (!path || !out)
        return kiln_fail(e, KILN_BAD_INPUT, "kiln_open_library: an argument is NULL");
    *out = NULL;
    uint8_t *data = NULL;
    uint64_t bytes = 0;
    int status = check_options(options);
    if (!status) status = read_file(path, &data, &bytes, e);
    if (!status) status = kiln_reader_open(data, bytes, path, out, e);
    if (!status) take_options(*out, options);
    return status;
}

int kiln_open_memory(const void *data, size_t bytes, const kiln_open_options *options,
                     kiln_library **out) {
    kiln_error *e = kiln_status_last();
    if (!data || !out) return kiln_fail(e, KILN_BAD_INPUT, "kiln_open_memory: an argument is NULL");
    *out = NULL;
    int status = check_options(options);
    if (status) return status;
    if (bytes > KILN_FILE_BYTES_MAX)
        return kiln_fail(e, KILN_CORRUPT, "%zu bytes are more than a library may have", bytes);
    uint8_t *copy = take_bytes(bytes, "the library in memory", e);
    if (!copy) return KILN_NO_MEMORY;
    memcpy(copy, data, bytes);
    status = kiln_reader_open(copy, bytes, "the library in memory", out, e);
    if (!status) take_options(*out, options);
    return status;
}

void kiln_close_library(kiln_library *l) {
    if (!l) return;
    kiln_arena_free(&l->arena);
    free(l->data);
    free(l);
}

int kiln_verify_library(const kiln_library *l) {
    if (!l)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_verify_library: library is NULL");
    return kiln_reader_verify(l, kiln_status_last());
}

int kiln_add_overlay(kiln_library *l, const char *path) {
    (void)l;
    return kiln_fail(kiln_status_last(), KILN_UNSUPPORTED,
                     "this version has no overlays; emit one library that holds what %s does",
                     path ? path : "the overlay");
}
