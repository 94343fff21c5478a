/* Statuses and the sentence that goes with them.
 *
 * A function that can fail for a reason outside the program (file, driver, compiler, memory, bad
 * text) returns 0 or a negative status, and fills a kiln_error with ONE sentence that names the
 * thing and the remedy. A candidate that does not compile or computes wrong numbers is not an
 * error but a record (results/record.h). A bug is an assert.
 *
 * Only tuner/main.c and runtime/tool.c print errors or exit. */
#ifndef KILN_BASE_STATUS_H
#define KILN_BASE_STATUS_H

/* X(name, value, text). The runtime publishes the same numbers in runtime/kiln.h. */
#define KILN_STATUSES(X)                                                                           \
    X(OK, 0, "ok")                                                                                 \
    X(BAD_INPUT, -1, "bad input")                                                                  \
    X(NOT_FOUND, -2, "not found")                                                                  \
    X(UNSUPPORTED, -3, "not supported")                                                            \
    X(NO_DEVICE, -4, "no device")                                                                  \
    X(DRIVER, -5, "driver error")                                                                  \
    X(COMPILE, -6, "compile error")                                                                \
    X(NO_MEMORY, -7, "out of memory")                                                              \
    X(IO, -8, "input/output error")                                                                \
    X(CORRUPT, -9, "corrupt data")                                                                 \
    X(VERSION, -10, "version mismatch")                                                            \
    X(TIMEOUT, -11, "timed out")                                                                   \
    X(NOT_PREPARED, -12, "not prepared")                                                           \
    X(WRONG, -13, "wrong result")                                                                  \
    X(INTERRUPTED, -14, "interrupted")

enum kiln_status {
#define X(name, value, text) KILN_##name = value,
    KILN_STATUSES(X)
#undef X
};

typedef struct kiln_error {
    int status;
    char text[480];
} kiln_error;

/* Fills e (which may be NULL) and returns status, so that callers write `return kiln_fail(...)`. */
int kiln_fail(kiln_error *e, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The words of a status, never NULL. */
const char *kiln_status_words(int status);

#endif
