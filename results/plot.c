/* The plots of a report. Scripts and data stand beside the pictures, so that anyone can draw them
 * again (`gnuplot roofline.gp`) or change them. */
#include "results/report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- text for gnuplot */

/* In single quotes nothing is special but the quote itself. */
static void add_quoted(kiln_text *out, const char *text, int columns) {
    bool cut = columns && (int)strlen(text) > columns;
    kiln_text_add(out, "'");
    for (int i = 0; text[i] && !(cut && i == columns - 2); i++) {
        if (text[i] == '\'') kiln_text_add(out, "'");
        kiln_text_add_bytes(out, (unsigned char)text[i] < ' ' ? " " : &text[i], 1);
    }
    kiln_text_add(out, cut ? "..'" : "'");
}

/* The first two fields of an identity, its target and its name, without versions and sizes. */
static void add_device(kiln_text *out, const char *before, const kiln_report *r) {
    const char *device = r->device ? r->device : "", *second = strchr(device, '|');
    size_t first = strcspn(device, "|");
    kiln_text title = {0};
    kiln_text_add(&title, before);
    kiln_text_add_bytes(&title, device, second ? first + 1 + strcspn(second + 1, "|") : first);
    add_quoted(out, kiln_text_get(&title), 100);
    kiln_text_free(&title);
}

static void add_head(kiln_text *out, const char *what, const kiln_report *r) {
    kiln_text_add(out, "# gnuplot FILE draws .svg and .png again\n"
                       "set encoding utf8\n"
                       "set termoption noenhanced\n"
                       "set border 3 lc rgb '#606060'\n"
                       "set tics nomirror textcolor rgb '#303030'\n"
                       "set grid lt 1 lw 1 lc rgb '#e0e0e0'\n");
    kiln_text_printf(out, "set title ");
    add_device(out, what, r);
    kiln_text_add(out, " textcolor rgb '#202020'\n");
}

static void add_terminals(kiln_text *out, const char *name, const char *plot, int height) {
    kiln_text_printf(
        out,
        "set terminal svg size 1200,%d noenhanced font 'sans,14' background '#ffffff'\n"
        "set output '%s.svg'\n%s"
        "set terminal pngcairo size 1200,%d noenhanced font 'sans,11' background "
        "'#ffffff'\n"
        "set output '%s.png'\n%s"
        "set output\n",
        height, name, plot, height, name, plot);
}

/* Colours that stay apart for readers who see red and green alike (Okabe and Ito 2008). */
static const char *const palette[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#000000", "#8c6d1f"};
enum { COLOURS = sizeof palette / sizeof palette[0] };

/* A picture is as high as its legend needs. */
static int height_for(int lines) { return 22 * lines + 120 > 720 ? 22 * lines + 120 : 720; }

/* ---- roofline */

typedef struct point {
    double x, y; /* FLOP per byte, FLOP/s */
} point;

/* False for what has no place on it: no winner, or nothing computed. */
static bool point_of(const kiln_report_row *row, double seconds, point *p) {
    if (!(seconds > 0) || !(row->flops > 0) || !(row->bytes > 0)) return false;
    *p = (point){row->flops / row->bytes, row->flops / seconds};
    return true;
}

static bool winner_point(const kiln_report_row *row, point *p) {
    return row->winner && point_of(row, row->winner->median, p);
}

typedef struct frame {
    double x0, x1, y0, y1; /* in FLOP per byte and FLOP/s */
} frame;

static void include(frame *f, point p) {
    f->x0 = fmin(f->x0, p.x), f->x1 = fmax(f->x1, p.x);
    f->y0 = fmin(f->y0, p.y), f->y1 = fmax(f->y1, p.y);
}

/* Axes begin at a decade, so that each has a number, and end at 1, 2 or 5 times one. */
static double decade_below(double x) { return pow(10, floor(log10(x))); }
static double step_above(double x) {
    double decade = decade_below(x);
    return x <= 2 * decade ? 2 * decade : x <= 5 * decade ? 5 * decade : 10 * decade;
}

/* All points and the ridges of the roof, with room around. */
static frame frame_of(const kiln_report *r) {
    frame f = {INFINITY, 0, INFINITY, 0};
    point p;
    for (int i = 0; i < r->n_rows; i++) {
        const kiln_report_row *row = &r->row[i];
        if (!winner_point(row, &p)) continue;
        include(&f, p);
        for (int v = 0; v < row->n_vendors; v++)
            if (point_of(row, row->vendor[v].median, &p)) include(&f, p);
        if (row->peak_bytes > 0 && row->peak_flops > 0)
            include(&f, (point){row->peak_flops / row->peak_bytes, row->peak_flops});
    }
    if (f.x1 <= 0) f = (frame){1, 1, 1e9, 1e9};
    return (frame){decade_below(f.x0 / 1.3), step_above(f.x1 * 1.5), decade_below(f.y0 / 1.3),
                   step_above(f.y1 * 1.5)};
}

/* A spot for a number beside its point where nothing stands yet, in characters of the picture. */
typedef struct spot {
    double x, y;
} spot;

static spot to_spot(const frame *f, point p) {
    return (spot){64 * log(p.x / f->x0) / log(f->x1 / f->x0),
                  34 * log(p.y / f->y0) / log(f->y1 / f->y0)};
}

static double crowding(const spot *taken, int n, spot s) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double x = (taken[i].x - s.x) / 2.4, y = (taken[i].y - s.y) / 1.1, d = x * x + y * y;
        if (d < 1) sum += 1 - d;
    }
    return sum;
}

static spot label_offset(const spot *taken, int n, spot at) {
    static const spot candidates[] = {{2, 0.3},  {-2, 0.3}, {0, 1.2},   {0, -1.2},  {2, 1.2},
                                      {-2, 1.2}, {2, -1.2}, {-2, -1.2}, {4.5, 0.3}, {-4.5, 0.3},
                                      {0, 2.4},  {0, -2.4}, {3.5, 2.4}, {-3.5, 2.4}};
    spot best = candidates[0];
    double least = INFINITY;
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        spot s = {at.x + candidates[i].x, at.y + candidates[i].y};
        double c = crowding(taken, n, s) + 0.01 * (double)i;
        if (c < least) least = c, best = candidates[i];
    }
    return best;
}

/* What numbers keep clear of: points, vendors' points, the roof and its names. */
typedef struct clutter {
    spot *spot;
    int n, capacity;
    bool failed;
} clutter;

static void take(clutter *c, spot s) {
    if (c->n == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 256;
        spot *more = realloc(c->spot, (size_t)capacity * sizeof *more);
        c->failed |= !more;
        if (!more) return;
        c->spot = more;
        c->capacity = capacity;
    }
    c->spot[c->n++] = s;
}

static void take_line(clutter *c, spot from, spot to) {
    double length = hypot(to.x - from.x, 2 * (to.y - from.y));
    for (double at = 0; at <= length; at += 1.5) {
        double t = length > 0 ? at / length : 0;
        take(c, (spot){from.x + t * (to.x - from.x), from.y + t * (to.y - from.y)});
    }
}

static void take_points(clutter *c, const kiln_report *r, const frame *f) {
    point p;
    for (int i = 0; i < r->n_rows; i++) {
        const kiln_report_row *row = &r->row[i];
        if (!winner_point(row, &p)) continue;
        take(c, to_spot(f, p));
        for (int v = 0; v < row->n_vendors; v++)
            if (point_of(row, row->vendor[v].median, &p)) take(c, to_spot(f, p));
    }
}

static bool seen_before(const kiln_report *r, int i) {
    for (int k = 0; k < i; k++)
        if (r->row[k].peak_flops == r->row[i].peak_flops) return true;
    return false;
}

static double copy_bandwidth(const kiln_report *r) {
    for (int i = 0; i < r->n_rows; i++)
        if (r->row[i].peak_bytes > 0) return r->row[i].peak_bytes;
    return 0;
}

static void add_segment(kiln_text *out, const frame *f, point from, point to, clutter *c) {
    kiln_text_printf(out, "set arrow from %.6g,%.6g to %.6g,%.6g nohead lw 2 lc rgb '#808080'\n",
                     from.x, from.y, to.x, to.y);
    take_line(c, to_spot(f, from), to_spot(f, to));
}

/* A ceiling's name, ending one character left of `at` and `up` lines above it. */
static void add_name(kiln_text *out, const frame *f, const char *name, point at, double up,
                     clutter *c) {
    enum { NAME_COLUMNS = 48 };
    double columns = fmin((double)strlen(name), NAME_COLUMNS);
    spot end = to_spot(f, at);
    kiln_text_add(out, "set label ");
    add_quoted(out, name, NAME_COLUMNS);
    kiln_text_printf(out, " at %.6g,%.6g right offset character -1,%g tc rgb '#606060'\n", at.x,
                     at.y, up);
    take_line(c, (spot){end.x - columns - 1, end.y + up}, (spot){end.x - 1, end.y + up});
}

/* The slope up to the highest ridge, its name beside its middle. */
static void add_slope(kiln_text *out, const frame *f, double slope, double top, clutter *c) {
    char name[48];
    double x0 = fmax(f->x0, f->y0 / slope), x1 = fmin(top > 0 ? top / slope : f->x1, f->y1 / slope);
    double middle = sqrt(x0 * x1);
    snprintf(name, sizeof name, "copy %.4g GB/s", slope / 1e9);
    add_segment(out, f, (point){x0, x0 * slope}, (point){x1, x1 * slope}, c);
    add_name(out, f, name, (point){middle, middle * slope}, 1, c);
}

/* Each level from its ridge to the right, its name above the end. */
static void add_ceilings(kiln_text *out, const kiln_report *r, const frame *f, clutter *c) {
    char name[96];
    double slope = copy_bandwidth(r), top = 0;
    for (int i = 0; i < r->n_rows; i++) top = fmax(top, r->row[i].peak_flops);
    if (slope > 0) add_slope(out, f, slope, top, c);
    for (int i = 0; i < r->n_rows; i++) {
        const kiln_report_row *row = &r->row[i];
        double peak = row->peak_flops;
        if (!(peak > 0) || seen_before(r, i)) continue;
        double ridge = slope > 0 ? fmax(peak / slope, f->x0) : f->x0;
        snprintf(name, sizeof name, "%.60s %.4g GFLOP/s", row->peak_name ? row->peak_name : "peak",
                 peak / 1e9);
        add_segment(out, f, (point){ridge, peak}, (point){f->x1, peak}, c);
        add_name(out, f, name, (point){f->x1, peak}, 0.7, c);
    }
}

static void add_labels(kiln_text *out, const kiln_report *r, const frame *f, clutter *c) {
    point p;
    take_points(c, r, f);
    for (int i = 0; i < r->n_rows; i++) {
        if (!winner_point(&r->row[i], &p)) continue;
        spot at = to_spot(f, p), offset = label_offset(c->spot, c->n, at);
        take(c, (spot){at.x + offset.x, at.y + offset.y});
        kiln_text_printf(out,
                         "set label '%d' at %.6g,%.6g center offset character %g,%g front tc rgb "
                         "'%s'\n",
                         i + 1, p.x, p.y, offset.x, offset.y, palette[i % COLOURS]);
    }
}

/* Winners as blocks of their own, so that each has its colour and its line in the legend; then all
 * vendors. */
static int add_roofline_data(kiln_text *data, kiln_text *plot, const kiln_report *r) {
    int blocks = 0;
    point p;
    kiln_text_add(data, "# FLOP per byte, FLOP/s; a block per problem, then the vendors\n");
    for (int i = 0; i < r->n_rows; i++) {
        if (!winner_point(&r->row[i], &p)) continue;
        kiln_text_printf(data, "%.9g %.9g # %d\n\n\n", p.x, p.y, i + 1);
        kiln_text title = {0};
        kiln_text_printf(&title, "%d  %s", i + 1, r->row[i].problem);
        kiln_text_printf(plot,
                         "%s'roofline.dat' index %d with points pt 7 ps 1.3 lc rgb '%s' title ",
                         blocks ? ", \\\n  " : "plot ", blocks, palette[i % COLOURS]);
        add_quoted(plot, kiln_text_get(&title), 46);
        kiln_text_free(&title);
        blocks++;
    }
    int vendors = 0;
    for (int i = 0; i < r->n_rows; i++)
        for (int v = 0; winner_point(&r->row[i], &p) && v < r->row[i].n_vendors; v++)
            if (point_of(&r->row[i], r->row[i].vendor[v].median, &p)) {
                kiln_text_printf(data, "%.9g %.9g # %d %s\n", p.x, p.y, i + 1,
                                 r->row[i].vendor[v].schedule);
                vendors++;
            }
    if (vendors)
        kiln_text_printf(plot,
                         ", \\\n  'roofline.dat' index %d with points pt 6 ps 1.3 lw 1.5 lc rgb "
                         "'#404040' title 'vendor libraries'",
                         blocks);
    kiln_text_add(plot, "\n");
    return blocks;
}

static void print_roofline(const kiln_report *r, kiln_text *script, kiln_text *data) {
    frame f = frame_of(r);
    kiln_text plot = {0};
    add_head(script, "Roofline: ", r);
    kiln_text_printf(
        script,
        "set logscale xy\nset xrange [%.6g:%.6g]\nset yrange [%.6g:%.6g]\n"
        "set xlabel 'FLOP per byte of operands'\nset ylabel 'FLOP/s'\n"
        "set format y '%%.0s %%cFLOP/s'\nset format x '%%g'\nset key outside right top "
        "Left reverse samplen 1 spacing 1.1\n",
        f.x0, f.x1, f.y0, f.y1);
    clutter c = {0};
    add_ceilings(script, r, &f, &c);
    add_labels(script, r, &f, &c);
    script->failed |= c.failed;
    free(c.spot);
    int lines = add_roofline_data(data, &plot, r);
    if (!lines) {
        kiln_text_clear(&plot);
        kiln_text_add(&plot, "plot 1 notitle\n");
    }
    add_terminals(script, "roofline", kiln_text_get(&plot), height_for(lines));
    script->failed |= plot.failed;
    kiln_text_free(&plot);
}

/* ---- progress of the search */

static double best_trial(const kiln_report_row *row) {
    double best = NAN;
    for (int i = 0; i < row->n_trials; i++) best = fmin(best, row->trial[i]); /* drops NaN */
    return best;
}

/* A step line: the share of the final speed that was reached after each trial. */
static void add_progress_block(kiln_text *data, const kiln_report_row *row, int number) {
    double final = best_trial(row), best = NAN, last = -1;
    kiln_text_printf(data, "# %d\n", number);
    for (int i = 0; i < row->n_trials; i++) {
        best = fmin(best, row->trial[i]);
        double share = isnan(best) ? 0 : final / best;
        if (share != last || i + 1 == row->n_trials)
            kiln_text_printf(data, "%d %.6g\n", i + 1, 100 * share);
        last = share;
    }
    kiln_text_add(data, "\n\n");
}

static int add_progress_data(kiln_text *data, kiln_text *plot, const kiln_report *r) {
    int blocks = 0;
    kiln_text_add(data, "# trial, best so far in % of the best of the search\n");
    for (int i = 0; i < r->n_rows; i++) {
        if (isnan(best_trial(&r->row[i]))) continue;
        add_progress_block(data, &r->row[i], i + 1);
        kiln_text title = {0};
        kiln_text_printf(&title, "%d  %s", i + 1, r->row[i].problem);
        kiln_text_printf(plot, "%s'progress.dat' index %d with steps lw 2 dt %d lc rgb '%s' title ",
                         blocks ? ", \\\n  " : "plot ", blocks, 1 + i / COLOURS % 4,
                         palette[i % COLOURS]);
        add_quoted(plot, kiln_text_get(&title), 46);
        kiln_text_free(&title);
        blocks++;
    }
    kiln_text_add(plot, blocks ? "\n" : "plot 0 notitle\n");
    return blocks;
}

static int most_trials(const kiln_report *r) {
    int most = 2;
    for (int i = 0; i < r->n_rows; i++)
        if (r->row[i].n_trials > most) most = r->row[i].n_trials;
    return most;
}

static void print_progress(const kiln_report *r, kiln_text *script, kiln_text *data) {
    kiln_text plot = {0};
    int lines = add_progress_data(data, &plot, r);
    add_head(script, "Search: best so far on ", r);
    kiln_text_printf(script,
                     "%sset xrange [1:%d]\nset yrange [0:103]\nset xlabel 'trials'\n"
                     "set ylabel 'speed in %% of the best found'\nset format x '%%g'\n"
                     "set key outside right top Left reverse samplen 2 spacing 1.1\n",
                     most_trials(r) > 60 ? "set logscale x\n" : "", most_trials(r));
    add_terminals(script, "progress", kiln_text_get(&plot), height_for(lines));
    script->failed |= plot.failed;
    kiln_text_free(&plot);
}

/* ---- gnuplot */

static void run_gnuplot(const char *directory, const char *script, int errors) {
    int null = open("/dev/null", O_RDWR);
    if (chdir(directory) || null < 0) _exit(126);
    dup2(null, 0);
    dup2(null, 1);
    dup2(errors, 2);
    execlp("gnuplot", "gnuplot", script, (char *)NULL);
    _exit(127);
}

/* The exit status, 124 when it did not end within a minute. */
static int wait_for(pid_t pid) {
    int status = 0;
    for (int i = 0; i < 6000; i++) {
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (done < 0 && errno != EINTR) return 126;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return 124;
}

static int describe_failure(int code, const char *directory, const char *script, FILE *errors,
                            kiln_error *e) {
    char line[160] = "";
    if (code == 127)
        return kiln_fail(
            e, KILN_UNSUPPORTED,
            "gnuplot is not installed, so %s/%s was not drawn: install gnuplot-nox and "
            "run `gnuplot %s` there",
            directory, script, script);
    rewind(errors);
    while (fgets(line, sizeof line, errors) && strspn(line, " \t\r\n") == strlen(line)) continue;
    line[strcspn(line, "\n")] = 0;
    return kiln_fail(e, KILN_IO, "gnuplot could not draw %s/%s (exit %d): %s", directory, script,
                     code, line);
}

static int draw(const char *directory, const char *script, kiln_error *e) {
    FILE *errors = tmpfile();
    if (!errors) return kiln_fail(e, KILN_IO, "no temporary file for gnuplot: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) run_gnuplot(directory, script, fileno(errors));
    int code = pid < 0 ? 126 : wait_for(pid);
    int status = code ? describe_failure(code, directory, script, errors, e) : 0;
    fclose(errors);
    return status;
}

static int write_plot(const kiln_report *r, const char *directory, const char *name,
                      void (*print)(const kiln_report *, kiln_text *, kiln_text *), kiln_error *e) {
    char script_name[32], data_name[32];
    kiln_text script = {0}, data = {0};
    snprintf(script_name, sizeof script_name, "%s.gp", name);
    snprintf(data_name, sizeof data_name, "%s.dat", name);
    print(r, &script, &data);
    int status = kiln_report_write_file(directory, data_name, &data, e);
    if (!status) status = kiln_report_write_file(directory, script_name, &script, e);
    kiln_text_free(&script);
    kiln_text_free(&data);
    return status;
}

int kiln_report_plot(const kiln_report *r, const char *directory, kiln_error *e) {
    int status = write_plot(r, directory, "roofline", print_roofline, e);
    if (!status) status = write_plot(r, directory, "progress", print_progress, e);
    if (!status) status = draw(directory, "roofline.gp", e);
    if (!status) status = draw(directory, "progress.gp", e);
    return status;
}
