/* Tables and plots of a made-up session: what they say, how wide they are, what gnuplot makes. */
#include "base/hash.h"
#include "results/report.h"
#include "tuner/session.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char scratch[] = "/tmp/kiln-report-XXXXXX";

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
    char command[64];
    (void)state;
    if (getenv("KILN_KEEP")) return print_message("%s\n", scratch), 0;
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

/* ---- a session on a machine of 150 GFLOP/s and 25 GB/s */

enum { ROWS = 12 };
static const struct {
    const char *problem;
    double flops, bytes, seconds, vendor_ratio;
} work[ROWS] = {
    {"matmul m=1024 n=1024 k=1024 a=f32 b=f32 out=f32", 2.147e9, 12.6e6, 15.9e-3, 1.04},
    {"matmul m=4096 n=64 k=4096 a=f32 b=f32 out=f32", 2.147e9, 69.2e6, 17.2e-3, 1.2},
    {"matmul m=1000 n=1000 k=1000 a=f32 b=f32 out=f32 tb=1", 2e9, 12e6, 14.3e-3, 0.97},
    {"matmul m=2048 n=2048 k=2048 a=f32 b=f32 out=f32 : out = gelu(acc + bias[n]) + res[m,n] * "
     "0.5 and so on until the text is much longer than any terminal is wide",
     17.2e9, 50e6, 0.121, 0},
    {"matmul m=16 n=4096 k=4096 a=f32 b=f32 out=f32", 0.537e9, 67.6e6, 5.1e-3, 1.31},
    {"map rows=4096 cols=4096 x=f32 y=f32 out=f32 : out = x * y", 16.7e6, 201e6, 9.3e-3, 0},
    {"softmax rows=4096 cols=4096 type=f32", 185e6, 134e6, 6.1e-3, 0},
    {"layernorm rows=4096 cols=4096 type=f32", 150e6, 134e6, 6.0e-3, 0},
    {"rmsnorm_residual rows=4096 cols=4096 type=f32", 117e6, 268e6, 12.2e-3, 0},
    {"swiglu rows=4096 cols=4096 type=f32", 200e6, 201e6, 9.6e-3, 0},
    {"row_sum rows=4096 cols=4096 type=f32", 16.7e6, 67e6, 3.0e-3, 0},
    {"map rows=1 cols=1 x=f32 out=f32 : out = x", 0, 8, 0, 0},
};

static kiln_record winner[ROWS], vendor[ROWS];
static kiln_report_row rows[ROWS];
static double trials[ROWS][60];
static const kiln_report_ceiling ceilings[] = {{"copy", 25e9, true}, {"matmul f32", 150e9, false}};
static kiln_report report = {
    .device = "Some CPU, 2 units, 8 GiB, driver 1.0",
    .driver = "PoCL 3.1",
    .compiler = "LLVM 14",
    .command = "tune --device opencl:0 --suite default --seed 1",
    .date = "2026-01-02T03:04:05Z",
    .version = "0.1.0",
    .n_rows = ROWS,
    .row = rows,
    .n_ceilings = 2,
    .ceiling = ceilings,
};

static kiln_record record_of(int i, const char *schedule, const char *phase, double seconds) {
    return (kiln_record){.problem = work[i].problem,
                         .schedule = schedule,
                         .device = report.device,
                         .source = "",
                         .protocol = "cold/1",
                         .phase = phase,
                         .detail = "",
                         .median = seconds,
                         .p05 = seconds * 0.98,
                         .p95 = seconds * 1.05,
                         .error_bound = 0.31,
                         .clock_mhz = i % 2 ? 3100 : -1,
                         .throttle = "",
                         .date = "2026-01-02T03:04:05Z",
                         .session = "s",
                         .vendor = ""};
}

static void fill_row(int i) {
    kiln_record *w = &winner[i];
    *w = record_of(i, "cpu mr=12 nr=32 kc=512 mc=96 nc=1024 pack_a=1 pack_b=1 unroll=4 cut=0",
                   "final", work[i].seconds);
    vendor[i] = record_of(i, "vendor openblas", "vendor", work[i].seconds * work[i].vendor_ratio);
    w->vendor = "openblas";
    w->vendor_ratio = work[i].vendor_ratio;
    w->vendor_ratio_low = work[i].vendor_ratio * 0.99;
    w->vendor_ratio_high = work[i].vendor_ratio * 1.01;
    for (int t = 0; t < 60; t++)
        trials[i][t] =
            t % 7 == 3 ? NAN
                       : work[i].seconds * (1 + 3 * kiln_random_unit(5, (uint64_t)(i * 100 + t)) *
                                                    kiln_random_unit(6, (uint64_t)(i * 99 + t)));
    rows[i] = (kiln_report_row){.problem = work[i].problem,
                                .flops = work[i].flops,
                                .bytes = work[i].bytes,
                                .peak_name = "matmul f32",
                                .peak_flops = 150e9,
                                .peak_bytes = 25e9,
                                .winner = work[i].seconds > 0 ? w : NULL,
                                .note = work[i].seconds > 0 ? NULL : "every candidate was refused",
                                .n_vendors = work[i].vendor_ratio > 0,
                                .vendor = &vendor[i],
                                .n_trials = work[i].seconds > 0 ? 60 - i : 0,
                                .n_failed = 9,
                                .trial = trials[i]};
}

static int make_session(void **state) {
    for (int i = 0; i < ROWS; i++) fill_row(i);
    return make_scratch(state);
}

/* ---- tables */

static int widest_line(const char *text) {
    size_t widest = 0;
    for (size_t n; *text; text += n + (text[n] != 0)) {
        n = strcspn(text, "\n");
        if (n > widest) widest = n;
    }
    return (int)widest;
}

static void assert_has(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void the_table_fits_a_terminal(void **state) {
    (void)state;
    kiln_text text = {0};
    kiln_report_print(&report, &text);
    if (getenv("KILN_KEEP")) print_message("%s", text.data);
    assert_false(text.failed);
    assert_in_range(widest_line(kiln_text_get(&text)), 100, 120);
    assert_has(text.data, "135 GFLOP/s"); /* 2.147e9 / 15.9e-3 */
    assert_has(text.data, "90 % peak");   /* of 150 */
    assert_has(text.data, "21.61 GB/s");  /* 201e6 / 9.3e-3 */
    assert_has(text.data, "86 % copy");   /* of 25 */
    assert_has(text.data, "15.9 ms");
    assert_has(text.data, "1.04 [1.03, 1.05] openblas");
    assert_has(text.data, "every candidate was refused");
    assert_has(text.data, "tune --device opencl:0 --suite default --seed 1");
    assert_has(text.data, "copy 25 GB/s");
    assert_has(text.data, "3100");
    kiln_text_free(&text);
}

static int count_of(const char *line, char c) {
    int n = 0;
    for (; *line && *line != '\n'; line++) n += *line == c && line[-1] != '\\';
    return n;
}

static void markdown_rows_have_all_cells(void **state) {
    (void)state;
    kiln_text text = {0};
    kiln_report_print_markdown(&report, &text);
    int lines = 0;
    const char *table = strstr(text.data, "\n| # | problem");
    assert_non_null(table);
    for (const char *line = table + 1; *line == '|'; line += strcspn(line, "\n") + 1, lines++)
        assert_int_equal(count_of(line, '|'), 14);
    assert_int_equal(lines, ROWS + 2);
    assert_has(text.data, "vendor openblas");
    assert_has(text.data, "every candidate was refused");
    kiln_text_free(&text);
}

static void a_bar_does_not_break_a_cell(void **state) {
    (void)state;
    kiln_text text = {0};
    kiln_report_row row = rows[0];
    kiln_report one = report;
    row.problem = "a | b\nc";
    one.row = &row, one.n_rows = 1;
    kiln_report_print_markdown(&one, &text);
    assert_has(text.data, "`a \\| b c`");
    kiln_text_free(&text);
}

static void shares_name_the_ceiling_that_limits(void **state) {
    (void)state;
    kiln_record w = {.median = 1};
    kiln_report_row row = {
        .flops = 50, .bytes = 10, .peak_flops = 100, .peak_bytes = 100, .winner = &w};
    bool memory = true;
    assert_true(kiln_report_share(&row, &memory) == 0.5 && !memory);
    row.bytes = 80;
    assert_true(kiln_report_share(&row, &memory) == 0.8 && memory);
    row.peak_bytes = 0; /* unknown: no share is invented */
    assert_true(kiln_report_share(&row, &memory) == 0);
    row.peak_bytes = 100, row.winner = NULL;
    assert_true(kiln_report_share(&row, NULL) == 0);
}

static void units_stay_honest(void **state) {
    (void)state;
    kiln_text text = {0};
    kiln_record w = winner[0];
    kiln_report_row row = rows[0];
    kiln_report one = report;
    row.winner = &w, one.row = &row, one.n_rows = 1;
    w.median = w.p05 = w.p95 = 3.67e-6;
    row.flops = 3e9;
    kiln_report_print(&one, &text);
    assert_has(text.data, "3.67 us");
    assert_has(text.data, "817.4 TFLOP/s");
    kiln_text_clear(&text);
    w.median = w.p05 = w.p95 = 999.999e-6; /* rounds up into the next unit */
    kiln_report_print(&one, &text);
    assert_has(text.data, "1 ms");
    kiln_text_clear(&text);
    row.winner = NULL, row.note = NULL, row.n_vendors = 0;
    one = (kiln_report){.n_rows = 1, .row = &row};
    kiln_report_print(&one, &text);
    kiln_report_print_markdown(&one, &text);
    assert_has(text.data, "no winner");
    kiln_text_free(&text);
}

/* ---- how the searches went */

/* Runs of blanks and newlines to one blank. */
static void unwrap(char *text) {
    char *to = text;
    for (const char *from = text; *from; from++) {
        bool blank = *from == ' ' || *from == '\n';
        if (!blank || (to > text && to[-1] != ' ')) *to++ = blank ? ' ' : *from;
    }
    *to = 0;
}

static void give_search(kiln_report_row *row, double scale) {
    row->n_ruled_out = 2;
    row->compile_seconds = 12.34 * scale, row->verify_seconds = 0.5 * scale;
    row->time_seconds = 9.1 * scale, row->search_seconds = 0.25 * scale;
}

static void searches_are_told(void **state) {
    kiln_text text = {0};
    kiln_report_row two[2] = {rows[0], rows[1]};
    kiln_report small = report;
    (void)state;
    small.row = two, small.n_rows = 2;
    give_search(&two[0], 1), give_search(&two[1], 2);
    two[0].rank_correlation = 0.82, two[0].recall = 0.5;
    two[0].ended = "the budget was used up";
    two[1].rank_correlation = 0.5, two[1].recall = NAN; /* too few for a best tenth */
    kiln_report_print(&small, &text);
    unwrap(text.data);
    assert_has(text.data, "60 trials, 9 failed (2 ruled out unrun): compile 12.3 s, verify 0.5 s");
    assert_has(text.data, "rank correlation 0.82");
    assert_has(text.data, "ended: the budget was used up");
    assert_has(text.data, "119 trials, 18 failed (4 ruled out unrun): compile 37.0 s");
    assert_null(strstr(text.data, "nan"));
    kiln_text_clear(&text);
    kiln_report_print_markdown(&small, &text);
    assert_has(text.data, "| 1 | 60 | 9 | 2 | 12 | 0.50 | 9.10 | 0.25 | 0.82 | 0.50 | the budget");
    assert_has(text.data, "| 2 | 59 | 9 | 2 | 25 | 1.00 | 18 | 0.50 | 0.50 | - | - |");
    assert_has(text.data, "| all | 119 | 18 | 4 | 37 | 1.50 | 27 | 0.75 | - | - | - |");
    kiln_text_free(&text);
}

/* ---- from the store */

static void add(kiln_store *s, kiln_record r, int outcome) {
    kiln_error e = {0};
    r.outcome = (kiln_outcome)outcome;
    if (kiln_store_add(s, &r, NULL, &e)) fail_msg("%s", e.text);
}

static void rows_are_gathered_from_the_store(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/gather.db", scratch);
    kiln_error e = {0};
    kiln_store *s = kiln_store_open(path, false, &e);
    assert_non_null(s);
    kiln_record elsewhere = record_of(0, "cpu a=9", "final", 1e-9),
                wrong = record_of(0, "cpu a=8", "search", 0);
    kiln_record slow = record_of(0, "cpu a=7", "search", 0), again = record_of(0, "cpu a=1", "retime", 9);
    slow.compile_seconds = 2, slow.verify_seconds = 0.5, slow.time_seconds = 0.25;
    again.verify_seconds = 1, again.time_seconds = 3;
    wrong.compile_seconds = 4;
    add(s, slow, KILN_OUTCOME_REJECTED);
    add(s, again, KILN_OUTCOME_OK);
    elsewhere.compile_seconds = 1000;
    elsewhere.device = "another";
    add(s, elsewhere, KILN_OUTCOME_OK);
    add(s, wrong, KILN_OUTCOME_WRONG);
    for (int i = 0; i < 300; i++)
        add(s, record_of(0, "cpu a=1", "search", 3 - i * 0.001), KILN_OUTCOME_OK);
    add(s, record_of(0, "cpu a=2", "final", 2.9), KILN_OUTCOME_OK); /* slower, but re-measured */
    add(s, record_of(0, "cpu a=3", "final", 2.8), KILN_OUTCOME_WRONG);
    add(s, record_of(0, "cpu a=2", "odd", 0.1), KILN_OUTCOME_OK);
    add(s, record_of(0, "vendor openblas", "vendor", 4), KILN_OUTCOME_OK);
    add(s, record_of(0, "vendor openblas", "vendor", 5), KILN_OUTCOME_OK);
    add(s, record_of(1, "cpu a=5", "search", 7), KILN_OUTCOME_OK);
    kiln_report_row got[3] = {
        {.problem = work[0].problem}, {.problem = work[1].problem}, {.problem = "none"}};
    kiln_arena arena = {0};
    assert_int_equal(kiln_report_gather(s, report.device, "cold/1", got, 3, &arena, &e), 0);
    assert_int_equal(got[0].n_trials, 302);
    assert_int_equal(got[0].n_failed, 2);
    assert_int_equal(got[0].n_ruled_out, 1);
    assert_true(got[0].compile_seconds == 6 && got[0].verify_seconds == 1.5);
    assert_true(got[0].time_seconds == 3.25);
    assert_true(isnan(got[0].trial[0]) && got[0].trial[301] == 3 - 299 * 0.001);
    assert_string_equal(got[0].winner->schedule, "cpu a=2");
    assert_int_equal(got[0].n_vendors, 1);
    assert_true(got[0].vendor[0].median == 5);
    assert_string_equal(got[1].winner->schedule, "cpu a=5");
    assert_null(got[2].winner);
    assert_int_equal(got[2].n_trials, 0);
    kiln_store_close(s);
    kiln_arena_free(&arena);
}

/* ---- files */

static bool starts_with(const char *name, const void *magic, size_t n) {
    char path[128], head[16] = "";
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *f = fopen(path, "r");
    bool good = f && fread(head, 1, n, f) == n && !memcmp(head, magic, n);
    if (f) fclose(f);
    return good;
}

static void tables_and_plots_are_written(void **state) {
    (void)state;
    kiln_error e = {0};
    assert_int_equal(kiln_report_write(&report, scratch, &e), 0);
    assert_true(starts_with("table.md", "# Some CPU", 10));
    assert_true(starts_with("table.txt", "  # problem", 11));
    if (kiln_report_plot(&report, scratch, &e)) fail_msg("%s", e.text);
    assert_true(starts_with("roofline.png", "\x89PNG", 4) &&
                starts_with("progress.png", "\x89PNG", 4));
    assert_true(starts_with("roofline.svg", "<?xml", 5) && starts_with("progress.svg", "<?xml", 5));
}

static void hostile_texts_do_not_break_a_plot(void **state) {
    (void)state;
    kiln_report_row row = rows[0];
    kiln_report one = report;
    kiln_error e = {0};
    row.problem = "it's \"q\" \\ `x` $y @z\n'; system 'touch pwned'";
    one.device = row.problem, one.row = &row, one.n_rows = 1;
    if (kiln_report_plot(&one, scratch, &e)) fail_msg("%s", e.text);
    char path[128];
    snprintf(path, sizeof path, "%s/pwned", scratch);
    assert_int_not_equal(access(path, F_OK), 0);
    one.n_rows = 0; /* nothing to show is no failure */
    if (kiln_report_plot(&one, scratch, &e)) fail_msg("%s", e.text);
}

static void without_gnuplot_the_inputs_remain(void **state) {
    (void)state;
    char *path = strdup(getenv("PATH"));
    kiln_error e = {0};
    setenv("PATH", "/nonexistent", 1);
    int status = kiln_report_plot(&report, scratch, &e);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(status, KILN_UNSUPPORTED);
    assert_has(e.text, "gnuplot");
    assert_true(starts_with("roofline.gp", "# gnuplot", 9) && starts_with("roofline.dat", "#", 1));
    assert_true(starts_with("progress.gp", "# gnuplot", 9));
    assert_int_equal(kiln_report_write(&report, "/nonexistent/dir", &e), KILN_IO);
    assert_has(e.text, "/nonexistent/dir/table.txt");
}

/* ---- which record is the best ---- */

#define BEST_OF "map rows=4 cols=8 x=f32 out=f32 : out = x + 1"

/* A session that only reads a store, on a device that need not be here. */
static void open_reader(kiln_session *s, kiln_result *r, const char *store, bool hot) {
    kiln_error e = {0};
    *r = (kiln_result){0};
    *s = (kiln_session){.identity = (char *)"made up", .n_results = 1, .result = r, .id = "reader"};
    s->options = (kiln_session_options){.out = scratch, .hot = hot, .quiet = true};
    snprintf(s->caps.name, sizeof s->caps.name, "made up");
    if (kiln_problem_parse(&r->problem, BEST_OF, &e)) fail_msg("%s", e.text);
    kiln_text canonical = {0};
    kiln_problem_print(&r->problem, &canonical);
    r->text = kiln_arena_strdup(&s->arena, kiln_text_get(&canonical));
    kiln_text_free(&canonical);
    s->store = kiln_store_open(store, false, &e);
    if (!s->store) fail_msg("%s", e.text);
}

static void add_to(kiln_session *s, const char *protocol, const char *phase, double seconds) {
    kiln_record r = kiln_record_blank();
    kiln_error e = {0};
    char schedule[64];
    snprintf(schedule, sizeof schedule, "%s %s", protocol, phase);
    r.problem = s->result->text, r.device = s->identity, r.schedule = schedule, r.source = "0";
    r.protocol = protocol, r.phase = phase, r.outcome = KILN_OUTCOME_OK;
    r.median = r.p05 = r.p95 = seconds;
    r.samples = &r.median, r.n_samples = 1;
    r.date = "2026-01-02T03:04:05Z", r.session = "other";
    if (kiln_store_add(s->store, &r, NULL, &e)) fail_msg("%s", e.text);
}

static void check_best(const char *store, bool hot, const char *wanted, int64_t tried) {
    kiln_session s;
    kiln_result r;
    kiln_error e = {0};
    open_reader(&s, &r, store, hot);
    if (kiln_session_recall(&s, &e)) fail_msg("%s", e.text);
    assert_string_equal(r.winner.schedule, wanted);
    assert_int_equal(r.trials, tried);
    kiln_session_close(&s);
}

/* Faster by another protocol is not faster; another one counts only where today's has nothing. */
static void protocols_do_not_compete(void **state) {
    kiln_session s;
    kiln_result r;
    char store[64];
    (void)state;
    snprintf(store, sizeof store, "%s/protocols.db", scratch);
    open_reader(&s, &r, store, false);
    add_to(&s, "hot/1", "final", 1e-6);
    check_best(store, false, "hot/1 final", 0);
    add_to(&s, "cold/1", "search", 5e-6), add_to(&s, "cold/1", "search", 4e-6);
    check_best(store, false, "cold/1 search", 2);
    add_to(&s, "cold/1", "final", 6e-6);
    check_best(store, false, "cold/1 final", 2);
    check_best(store, true, "hot/1 final", 2);
    add_to(&s, kiln_record_protocol(false), "search", 9e-6);
    check_best(store, false, "cold/2 search", 1);
    add_to(&s, kiln_record_protocol(false), "final", 1e-5);
    check_best(store, false, "cold/2 final", 1);
    check_best(store, true, "hot/1 final", 3);
    kiln_session_close(&s);
}

static void assert_file_has(const char *name, const char *part) {
    char path[128], text[8192];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    assert_has(text, part);
}

/* Where an older protocol is all there is, the row says so, and its trials are those. */
static void a_row_tells_its_protocol(void **state) {
    kiln_session s;
    kiln_result r;
    kiln_error e = {0};
    char store[64];
    (void)state;
    snprintf(store, sizeof store, "%s/older.db", scratch);
    open_reader(&s, &r, store, false);
    add_to(&s, "cold/1", "search", 5e-6), add_to(&s, "cold/1", "final", 6e-6);
    add_to(&s, "hot/1", "search", 1e-6);
    if (kiln_session_recall(&s, &e) || kiln_publish_table(&s, &e)) fail_msg("%s", e.text);
    assert_file_has("made-up.md", "cold/1");
    assert_file_has("made-up.md", "\n| 1 | 1 | 0 |");
    kiln_session_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_fits_a_terminal),
        cmocka_unit_test(markdown_rows_have_all_cells),
        cmocka_unit_test(a_bar_does_not_break_a_cell),
        cmocka_unit_test(shares_name_the_ceiling_that_limits),
        cmocka_unit_test(units_stay_honest),
        cmocka_unit_test(searches_are_told),
        cmocka_unit_test(rows_are_gathered_from_the_store),
        cmocka_unit_test(hostile_texts_do_not_break_a_plot),
        cmocka_unit_test(without_gnuplot_the_inputs_remain),
        cmocka_unit_test(tables_and_plots_are_written),
        cmocka_unit_test(protocols_do_not_compete),
        cmocka_unit_test(a_row_tells_its_protocol),
    };
    return cmocka_run_group_tests_name("report", tests, make_session, remove_scratch);
}
