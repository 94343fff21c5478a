/* The report: what a session found, for people. A table as text for a terminal (at most 120
 * columns) and as Markdown, and two plots through gnuplot: the roofline of all problems, and how
 * the search came to its best. Figures are decimal: 1 GB/s is 10^9 bytes per second.
 *
 * The caller fills a row per problem: the text, its work, and what it holds of the outcome.
 * kiln_report_gather fills the rest from the store. Nothing here is owned. */
#ifndef KILN_RESULTS_REPORT_H
#define KILN_RESULTS_REPORT_H

#include "results/record.h"
#include "results/store.h"

/* A ceiling that was measured on this device, never quoted from a data sheet. */
typedef struct kiln_report_ceiling {
    const char *name;  /* "copy", "matmul f32" */
    double per_second; /* bytes or float operations */
    bool bytes;
} kiln_report_ceiling;

typedef struct kiln_report_row {
    const char *problem;       /* canonical text */
    double flops, bytes;       /* work of one execution */
    const char *peak_name;     /* name of the ceiling of arithmetic that limits it, or NULL */
    double peak_flops;         /* that ceiling, per second; 0 unknown */
    double peak_bytes;         /* the copy bandwidth, bytes per second; 0 unknown */
    const kiln_record *winner; /* NULL: none, and note says why */
    const char *note;          /* a remark under the table, or NULL */
    int n_vendors;
    const kiln_record *vendor; /* schedule "vendor NAME" */
    int n_trials, n_failed;
    int n_ruled_out;           /* of those that failed: not run for what their compiler reported */
    const double *trial;       /* seconds in the order of the search, NaN when it failed */
    double compile_seconds, verify_seconds, time_seconds; /* of the trials, summed over workers */
    double search_seconds;     /* of proposals, features and training; 0 unknown */
    /* The model on trials that it had not seen: Spearman's rank correlation, and the share of the
     * best tenth that it had put there. NaN, or both 0: no model. */
    double rank_correlation, recall;
    const char *ended;         /* why the search ended, or NULL */
} kiln_report_row;

typedef struct kiln_report {
    const char *device;           /* kiln_caps_identity */
    const char *driver, *compiler; /* as caps say */
    const char *command;          /* that repeats it */
    const char *date;             /* ISO 8601 UTC */
    const char *version;          /* of Kiln */
    int n_rows;
    const kiln_report_row *row;
    int n_ceilings;
    const kiln_report_ceiling *ceiling;
} kiln_report;

/* Fills from the store what a row lacks, for one device and protocol (NULL: any): trials and the
 * seconds they took (always); the winner (the fastest correct "final", else the fastest correct
 * "search"); the vendors (the latest record of each). Memory comes from the arena. */
int kiln_report_gather(kiln_store *s, const char *device, const char *protocol,
                       kiln_report_row *rows, int n, kiln_arena *arena, kiln_error *e);

/* Share of the ceiling that limits the row: the time the ceilings allow over the median; 0 when
 * unknown. *memory tells which of the two it is. */
double kiln_report_share(const kiln_report_row *row, bool *memory);

void kiln_report_print(const kiln_report *r, kiln_text *out);
void kiln_report_print_markdown(const kiln_report *r, kiln_text *out);

/* Writes table.md and table.txt into the directory, each aside and renamed. */
int kiln_report_write(const kiln_report *r, const char *directory, kiln_error *e);

/* Writes roofline and progress as .gp and .dat, and lets gnuplot make .svg and .png of them.
 * KILN_UNSUPPORTED without gnuplot: the inputs are there, and the sentence says what to run. */
int kiln_report_plot(const kiln_report *r, const char *directory, kiln_error *e);

/* Writes one file aside and renames it. */
int kiln_report_write_file(const char *directory, const char *name, const kiln_text *text,
                           kiln_error *e);

#endif
