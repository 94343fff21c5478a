#include "tuner/unit.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void *kiln_file_read(const char *path, size_t *size, kiln_error *e) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) {
        int why = errno;
        if (f) fclose(f);
        kiln_fail(e, why == ENOENT ? KILN_NOT_FOUND : KILN_IO, "cannot read %s: %s", path,
                  strerror(why));
        return NULL;
    }
    char *data = S_ISREG(st.st_mode) ? malloc((size_t)st.st_size + 1) : NULL;
    size_t n = data ? fread(data, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    if (!data || n != (size_t)st.st_size) {
        free(data);
        kiln_fail(e, KILN_IO, "cannot read %s: not a regular file, or it is changing", path);
        return NULL;
    }
    data[n] = 0;
    *size = n;
    return data;
}

static int write_fd(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return errno ? errno : EIO;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

int kiln_file_write(const char *path, const void *data, size_t size, kiln_error *e) {
    char aside[1200];
    snprintf(aside, sizeof aside, "%s.%d.new", path, (int)getpid());
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int why = fd < 0 ? errno : write_fd(fd, data, size);
    if (fd >= 0 && close(fd) && !why) why = errno;
    if (!why && rename(aside, path)) why = errno;
    if (!why) return KILN_OK;
    unlink(aside);
    return kiln_fail(e, KILN_IO, "cannot write %s: %s", path, strerror(why));
}

/* ---- units */

enum { DIGEST = 32 };

static bool is_code(const char *kind) { return !strcmp(kind, "bin") || !strcmp(kind, "reference"); }

/* Takes the digest off the end. */
static bool is_whole(char *data, size_t *size) {
    uint8_t digest[DIGEST];
    if (*size < DIGEST) return false;
    *size -= DIGEST;
    kiln_sha256_of(data, *size, digest);
    bool whole = !memcmp(digest, data + *size, DIGEST);
    data[*size] = 0;
    return whole;
}

void *kiln_unit_read(const char *dir, const char *name, const char *kind, size_t *size,
                     kiln_error *e) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, kind);
    void *data = kiln_file_read(path, size, e);
    if (!data || !is_code(kind) || is_whole(data, size)) return data;
    free(data);
    kiln_fail(e, KILN_IO, "%s is damaged: remove it, and it is compiled again", path);
    return NULL;
}

bool kiln_unit_whole(const char *dir, const char *name, const char *kind) {
    size_t size;
    void *data = kiln_unit_read(dir, name, kind, &size, NULL);
    free(data);
    return data != NULL;
}

int kiln_unit_write(const char *dir, const char *name, const char *kind, const void *data,
                    size_t size, kiln_error *e) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, kind);
    if (!is_code(kind)) return kiln_file_write(path, data, size, e);
    char *whole = malloc(size + DIGEST);
    if (!whole) return kiln_fail(e, KILN_NO_MEMORY, "no memory to write %s", path);
    memcpy(whole, data, size);
    kiln_sha256_of(data, size, (uint8_t *)whole + size);
    int status = kiln_file_write(path, whole, size + DIGEST, e);
    free(whole);
    return status;
}
