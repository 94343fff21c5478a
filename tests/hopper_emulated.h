/* A Hopper GPU small enough for a test: what wgmma_sm90 asks of the machine, on a CPU.
 *
 * Every thread of every resident block is a coroutine. Instructions follow their definition in the
 * PTX manual, and what is asynchronous there is asynchronous here: TMA brings a box, or reads one
 * to store it, and wgmma reads its operands at any moment that the synchronisation allows. `pace`
 * says which: at once, at random, or only when no thread can go on. A wait that is missing then
 * gives a wrong result or breaks a rule that is checked on the way:
 *
 *   wgmma    sums are not touched while in flight (they hold a mark then), a fence comes before the
 *            first product, all 128 threads ask for the same, no box lands on operands in flight
 *   mbarrier arrivals and bytes, neither too many; initialised and made visible before others come
 *   TMA      boxes, masks, alignment, swizzle; a store only of bytes that were made visible to it,
 *            no write to bytes that a store may still read
 *   blocks   start in order, at most `resident` clusters of them at once (GRID_MAX blocks in all),
 *            and end with nothing under way
 *   registers come from the pool that the block got at launch
 *
 * When nothing can move, the run has failed, and the message says who waits for what. A run fails
 * by emulated_run returning a text; the same seed gives the same run. `forget` leaves one kind of
 * instruction out, to prove that its absence is noticed. */
#include "base/hash.h"
#include "kernels/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

typedef int64_t i64;
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

enum {
    LANES = 32,
    TEAM = 128, /* a warp group */
    BLOCK_THREADS_MAX = 512,
    GRID_MAX = 12,
    STACK = 64 << 10,
    WORDS_MAX = 128, /* sums of a thread in one wgmma */
    FLIGHTS = 4,
    QUEUE = 256,
    LOADS_MAX = 4096,
    STORES_MAX = 1024,
    READS_MAX = 32,       /* of a thread */
    BOX_BYTES_MAX = 4096, /* of a store */
    MBARRIERS = 64,
    NAMED = 16,
    SHARED_AT = 1024, /* where dynamic shared memory begins: not 0, so that a lost base shows */
    ATOM_LINE = 128
};
static const u32 in_flight_mark = 0x7fc0dead; /* NaN */

typedef enum pace { AT_ONCE, AT_RANDOM, AT_LAST } pace;

/* Instructions that a run may leave out. */
typedef enum forgotten {
    NOTHING,
    FULL_WAIT,
    EMPTY_WAIT,
    PRODUCT_WAIT,
    PRODUCT_FENCE,
    STORES_VISIBLE,
    STORES_READ,
    READS_AWAITED,
    GROUP_SYNC,
    WARP_SYNC,
    CLUSTER_SYNC,
    BARRIERS_READY,
    FLAG_TAKE,
    FLAG_CLEAR,
    RELEASE,
    REGISTERS,
    PREVIOUS
} forgotten;

/* ---- state */

typedef enum place {
    RUNS,
    AT_MBARRIER,
    AT_NAMED,
    AT_CLUSTER,
    AT_WARP,
    AT_FLAG,
    AT_PRODUCTS,
    AT_REGISTERS,
    AT_STORES_READ,
    ENDED
} place;

/* A tensor map bound to memory. hits: per element of the result, times stored. */
typedef struct tensor {
    const kiln_tensor_map *map;
    u8 *base;
} tensor;

typedef struct mbarrier {
    bool there, ready;
    u32 at, phase;
    int count, left;
    i64 bytes;
} mbarrier;

typedef struct meeting {
    int arrived, threads;
    u32 round;
    u8 came[BLOCK_THREADS_MAX];
} meeting;

typedef struct warp_state {
    int arrived;
    u32 round;
    u32 word[2][LANES][4], at[2][LANES];
} warp_state;

/* Sums of one thread between wgmma and wait. */
typedef struct flight {
    void *sums; /* NULL: free */
    int words, last;
    u32 value[WORDS_MAX];
} flight;

typedef struct product {
    u64 x, y;
    int number, words, issued; /* number: 1 for the team's first */
    bool keep;
    u8 flight[TEAM];
} product;

typedef struct team_state {
    product queue[QUEUE];
    int group_end[QUEUE];
    int done, covered, commits; /* products; groups */
} team_state;

/* 16 bytes on their way from global to shared memory; group: which commit closes theirs. */
typedef struct quad_read {
    u32 to;
    int group;
    u8 data[16];
} quad_read;

typedef struct coroutine {
    ucontext_t context;
    struct sm_block *block;
    int index;
    place place;
    i64 what, value;
    const u32 *flag;
    int registers, visible; /* visible: fences of this thread towards TMA */
    bool fenced, previous;  /* previous: what ran before this launch has ended */
    int issued, groups;
    u32 cluster_round; /* at its arrival */
    flight flight[FLIGHTS];
    quad_read read[READS_MAX];
    int n_reads, read_groups;
} coroutine;

typedef struct sm_block {
    int index, rank, alive, free_registers;
    struct sm_cluster *cluster;
    u8 *pool;
    u16 *writer; /* per 4 bytes of the pool: thread + 1 that stored there ... */
    int *epoch;  /* ... and its fences towards TMA before that */
    mbarrier mbarrier[MBARRIERS];
    meeting named[NAMED];
    warp_state warp[BLOCK_THREADS_MAX / LANES];
    team_state team[BLOCK_THREADS_MAX / TEAM];
    coroutine thread[BLOCK_THREADS_MAX];
} sm_block;

typedef struct sm_cluster {
    int index, size, alive, arrived;
    int seat; /* among those that run: its stacks */
    u32 round;
    sm_block *block; /* size of them */
} sm_cluster;

typedef struct box_load {
    const tensor *tensor;
    sm_block *to_block;
    u32 to, barrier;
    int at[3];
} box_load;

typedef enum store_state { STORE_ASKED, STORE_READ, STORE_DONE } store_state;
typedef struct box_store {
    coroutine *thread;
    const tensor *tensor;
    u32 from;
    int at[3];
    store_state state;
    bool waited; /* its thread knows that the shared memory has been read */
    u8 data[BOX_BYTES_MAX];
} box_store;

/* What a run is given. */
typedef struct emulation {
    u64 seed;
    pace loads, stores, products;
    int resident; /* clusters at once */
    forgotten forget;
    const kiln_launch *launch;
    void (*body)(void); /* one thread */
    kiln_type x_type, y_type;
    bool x_across, y_across, ints;
    u8 *result; /* the output, for hits */
    u8 *hits;
    i64 result_elements;
    const u8 *work;              /* the workspace */
    i64 work_bytes, flags_bytes; /* flags: its begin, which is zero between calls */
} emulation;

static struct {
    emulation set;
    u64 dice;
    coroutine *now;
    ucontext_t scheduler;
    jmp_buf escape;
    char failure[2000];
    sm_cluster *cluster[GRID_MAX]; /* running */
    int n_running, started;
    box_load load[LOADS_MAX];
    box_store store[STORES_MAX];
    int n_loads, n_stores;
    float value_of[2][65536]; /* of x's and y's codes of up to 16 bits */
} run;
static u8 *stacks;

static u32 dice(u32 sides) { return (u32)(kiln_random64(run.set.seed, run.dice++) % sides); }
static bool forgets(forgotten f) { return run.set.forget == f; }

static void pause_thread(void) { swapcontext(&run.now->context, &run.scheduler); }

/* Ends the run. (AddressSanitizer warns here, once, that it does not know a coroutine's stack.) */
static void __attribute__((format(printf, 1, 2), noreturn)) broken(const char *format, ...) {
    char *to = run.failure;
    size_t room = sizeof run.failure;
    if (run.now) {
        int n = snprintf(to, room, "block %d thread %d: ", run.now->block->index, run.now->index);
        to += n, room -= (size_t)n;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(to, room, format, args);
    va_end(args);
    while (run.now) pause_thread(); /* never resumed */
    longjmp(run.escape, 1);
}

/* ---- waiting */

/* Do more than `allowed` of a thread's stores have still to read their shared memory? */
static bool stores_unread(const coroutine *t, int allowed) {
    int n = 0;
    for (int i = 0; i < run.n_stores; i++) n += run.store[i].thread == t;
    for (int i = 0; i < run.n_stores; i++)
        if (run.store[i].thread == t && n-- > allowed && run.store[i].state == STORE_ASKED)
            return true;
    return false;
}

static bool ready(const coroutine *t) {
    const sm_block *b = t->block;
    switch (t->place) {
    case RUNS:
        return true;
    case AT_MBARRIER:
        return (b->mbarrier[t->what].phase & 1) != (u32)t->value;
    case AT_NAMED:
        return b->named[t->what].round != (u32)t->value;
    case AT_CLUSTER:
        return b->cluster->round != (u32)t->value;
    case AT_WARP:
        return b->warp[t->index / LANES].round != (u32)t->value;
    case AT_FLAG:
        return *t->flag != 0;
    case AT_PRODUCTS:
        return b->team[t->index / TEAM].done >= t->value;
    case AT_REGISTERS:
        return b->free_registers >= t->value;
    case AT_STORES_READ:
        return !stores_unread(t, (int)t->value);
    case ENDED:
        break;
    }
    return false;
}

static void wait_at(place where, i64 what, i64 value) {
    coroutine *t = run.now;
    t->place = where, t->what = what, t->value = value;
    if (dice(8) == 0) pause_thread(); /* others may be faster even when it could go on */
    while (!ready(t)) pause_thread();
    t->place = RUNS;
}

static void describe(const coroutine *t, char *to, size_t room) {
    static const char *const words[] = {"runs",
                                        "waits for mbarrier %lld to leave parity %lld",
                                        "waits at barrier %lld (round %lld)",
                                        "waits for the cluster (%lld, round %lld)",
                                        "waits for its warp (%lld, round %lld)",
                                        "waits for a flag (%lld, %lld)",
                                        "waits for wgmma (%lld) up to product %lld",
                                        "waits for registers: has %lld, wants %lld more",
                                        "waits for TMA stores to be read (%lld), but %lld",
                                        "waits for TMA stores (%lld, %lld)",
                                        "has ended"};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    snprintf(to, room, words[t->place], (long long)t->what, (long long)t->value);
#pragma GCC diagnostic pop
}

/* One line per run of threads of a block that stand at the same place. */
static void __attribute__((noreturn)) report_deadlock(void) {
    char text[sizeof run.failure - 100] = "";
    size_t used = 0;
    for (int c = 0; c < run.n_running; c++)
        for (int r = 0; r < run.cluster[c]->size; r++) {
            const sm_block *b = &run.cluster[c]->block[r];
            char last[100] = "";
            for (int i = 0; i < (int)run.set.launch->block[0] && used + 160 < sizeof text; i++) {
                char words[100];
                describe(&b->thread[i], words, sizeof words);
                if (b->thread[i].place == ENDED || !strcmp(words, last)) continue;
                used += (size_t)snprintf(text + used, sizeof text - used,
                                         "\n  block %d from thread %d on: %s", b->index, i, words);
                snprintf(last, sizeof last, "%s", words);
            }
        }
    broken("deadlock:%s", text);
}

/* ---- shared memory */

static u8 *shared(const sm_block *b, u32 at, u32 bytes, const char *who) {
    if (at < SHARED_AT || at + bytes > SHARED_AT + run.set.launch->shared_bytes)
        broken("%s at shared address %u, %u bytes: outside the %u bytes from %d on", who, at, bytes,
               run.set.launch->shared_bytes, SHARED_AT);
    return b->pool + (at - SHARED_AT);
}

/* The hardware's swizzle, for lines of 128 or 64 bytes, works on addresses. */
static u32 swizzled(u32 at, int bytes) { return at ^ ((at >> 7 & (bytes == 64 ? 3u : 7u)) << 4); }

static bool overlap(u32 a, u32 a_bytes, u32 b, u32 b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* ---- mbarriers */

static int mbarrier_at(sm_block *b, u32 at) {
    for (int i = 0; i < MBARRIERS; i++)
        if (b->mbarrier[i].there && b->mbarrier[i].at == at) return i;
    broken("there is no mbarrier at shared address %u of block %d", at, b->index);
}

static void emulate_barrier_init(u32 at, int arrivals) {
    sm_block *b = run.now->block;
    shared(b, at, 8, "an mbarrier");
    int i = 0;
    while (i < MBARRIERS && b->mbarrier[i].there) i++;
    if (at % 8 || i == MBARRIERS || arrivals < 1) broken("mbarrier at %u for %d", at, arrivals);
    b->mbarrier[i] = (mbarrier){.there = true, .at = at, .count = arrivals, .left = arrivals};
}

static void emulate_barriers_ready(void) {
    sm_block *b = run.now->block;
    if (forgets(BARRIERS_READY)) return;
    for (int i = 0; i < MBARRIERS; i++) b->mbarrier[i].ready = b->mbarrier[i].there;
}

static void settle(mbarrier *m) {
    if (m->bytes < -(1 << 20) || m->bytes >= 1 << 20)
        broken("%lld bytes are too many for the mbarrier at %u", (long long)m->bytes, m->at);
    if (m->left == 0 && m->bytes == 0) m->phase++, m->left = m->count;
}

static void arrive(mbarrier *m) {
    if (m->left == 0) broken("the mbarrier at %u has all its %d arrivals already", m->at, m->count);
    m->left--;
    settle(m);
}

static mbarrier *far_mbarrier(sm_block *b, u32 at) {
    if (!b->alive) broken("mbarrier at %u of block %d, which has ended", at, b->index);
    mbarrier *m = &b->mbarrier[mbarrier_at(b, at)];
    if (!m->ready) broken("the mbarrier at %u is used before it was made visible", at);
    return m;
}

static void emulate_barrier_expect(u32 at, u32 bytes) {
    mbarrier *m = &run.now->block->mbarrier[mbarrier_at(run.now->block, at)];
    m->bytes += bytes;
    arrive(m);
}

static void emulate_barrier_wait(u32 at, u32 parity) {
    bool producer = run.now->index == 0;
    if (parity > 1) broken("parity %u", parity);
    if (forgets(producer ? EMPTY_WAIT : FULL_WAIT)) return;
    wait_at(AT_MBARRIER, mbarrier_at(run.now->block, at), parity);
}

static void emulate_barrier_arrive(u32 at, int rank) {
    sm_cluster *c = run.now->block->cluster;
    if (rank < 0 || rank >= c->size) broken("arrival at rank %d of a cluster of %d", rank, c->size);
    if (!forgets(RELEASE)) arrive(far_mbarrier(&c->block[rank], at));
}

/* ---- meetings */

static void meet(int id, int threads, bool stay) {
    coroutine *t = run.now;
    meeting *m = &t->block->named[id];
    if (id < 0 || id >= NAMED || threads % LANES || threads <= 0)
        broken("barrier %d for %d threads", id, threads);
    if (m->arrived && m->threads != threads)
        broken("barrier %d for %d threads, but others said %d", id, threads, m->threads);
    if (m->came[t->index]) broken("comes to barrier %d for the second time in a round", id);
    m->came[t->index] = 1, m->threads = threads;
    u32 round = m->round;
    if (++m->arrived == threads) {
        m->arrived = 0, m->round++;
        memset(m->came, 0, sizeof m->came);
    }
    if (stay) wait_at(AT_NAMED, id, round);
}

static void emulate_group_sync(int id, int threads) {
    if (!forgets(GROUP_SYNC)) meet(id, threads, true);
}
static void emulate_group_arrive(int id, int threads) {
    if (!forgets(GROUP_SYNC)) meet(id, threads, false);
}

static void emulate_cluster_arrive(void) {
    coroutine *t = run.now;
    sm_cluster *c = t->block->cluster;
    if (forgets(CLUSTER_SYNC) || c->size == 1) return;
    t->cluster_round = c->round;
    if (++c->arrived == (int)run.set.launch->block[0] * c->size) c->arrived = 0, c->round++;
}
static void emulate_cluster_wait(void) {
    coroutine *t = run.now;
    sm_cluster *c = t->block->cluster;
    if (forgets(CLUSTER_SYNC)) return;
    if (c->size == 1)
        meet(0, (int)run.set.launch->block[0], true);
    else
        wait_at(AT_CLUSTER, c->index, t->cluster_round);
}

/* What a lane leaves in the halves [round % 2] before this call is there for all after it. */
static u32 meet_warp(void) {
    warp_state *w = &run.now->block->warp[run.now->index / LANES];
    u32 round = w->round;
    if (++w->arrived == LANES) w->arrived = 0, w->round++;
    wait_at(AT_WARP, run.now->index / LANES, round);
    return round % 2;
}

static void emulate_warp_sync(void) {
    if (!forgets(WARP_SYNC)) meet_warp();
}

static u32 emulate_exchange(u32 word, int lanes) {
    warp_state *w = &run.now->block->warp[run.now->index / LANES];
    int lane = run.now->index % LANES;
    w->word[w->round % 2][lane][0] = word;
    return w->word[meet_warp()][lane ^ lanes][0];
}

/* setmaxnreg: threads give to and take from what the block got at launch. */
static void emulate_registers(int n, bool more) {
    coroutine *t = run.now;
    if (n % 8 || n < 24 || n > 256 || (more ? n < t->registers : n > t->registers))
        broken("setmaxnreg from %d to %d", t->registers, n);
    if (!more && forgets(REGISTERS)) return;
    if (more) wait_at(AT_REGISTERS, t->registers, n - t->registers);
    t->block->free_registers -= n - t->registers;
    t->registers = n;
}

/* ---- global memory: what earlier launches left is there once the thread has waited for them */

static void emulate_wait_previous(void) { run.now->previous |= !forgets(PREVIOUS); }

static void check_previous(void) {
    if (!run.now->previous) broken("touches global memory before griddepcontrol.wait");
}

static void check_flag(const u32 *flag) {
    check_previous();
    if ((const u8 *)flag < run.set.work ||
        (const u8 *)(flag + 1) > run.set.work + run.set.flags_bytes)
        broken("a flag outside the workspace that is zero");
}
static void emulate_workspace(const void *p, size_t bytes) {
    const u8 *at = p;
    check_previous();
    if ((uintptr_t)at % bytes || at < run.set.work + run.set.flags_bytes ||
        at + bytes > run.set.work + run.set.work_bytes)
        broken("sums outside their workspace, or not aligned");
}
static void emulate_flag_raise(u32 *flag) {
    check_flag(flag);
    if (*flag) broken("raises a flag that is up");
    *flag = 1;
}
static void emulate_flag_take(const u32 *flag) {
    check_flag(flag);
    if (forgets(FLAG_TAKE)) return;
    run.now->flag = flag;
    wait_at(AT_FLAG, 0, 0);
}
static void emulate_flag_clear(u32 *flag) {
    check_flag(flag);
    if (!forgets(FLAG_CLEAR)) *flag = 0;
}

/* ---- TMA */

static int element_of(const tensor *t) { return (int)kiln_type_bytes((kiln_type)t->map->type); }

static u32 box_bytes(const tensor *t) {
    return (u32)(t->map->box[0] * t->map->box[1] * t->map->box[2] * element_of(t));
}

/* Bytes from the tensor's first element, or -1 where the box's element lies outside. */
static i64 tensor_offset(const tensor *t, const int *at, int x, int y) {
    const i64 c[3] = {(i64)at[0] + x, (i64)at[1] + y, at[2]};
    for (int d = 0; d < 3; d++)
        if (c[d] < 0 || c[d] >= t->map->size[d]) return -1;
    return c[0] * element_of(t) + c[1] * t->map->stride_bytes[0] + c[2] * t->map->stride_bytes[1];
}

/* What the encoder and the instructions ask of a map; the box's lines are as wide as its swizzle.
 */
static void check_map(const tensor *t) {
    const kiln_tensor_map *m = t->map;
    bool wide = m->swizzle_bytes == ATOM_LINE, narrow = m->swizzle_bytes == ATOM_LINE / 2;
    check_previous();
    if (m->rank != 3 || !(wide || narrow) || m->box[2] != 1 || m->box[1] < 1 || m->box[1] > 256 ||
        m->box[0] * element_of(t) != m->swizzle_bytes)
        broken("a tensor map of boxes %d x %d", m->box[0], m->box[1]);
    if ((uintptr_t)t->base % 16 || m->stride_bytes[0] % 16 || m->stride_bytes[1] % 16 ||
        m->size[0] * element_of(t) > m->stride_bytes[0])
        broken("a tensor map of lines %lld bytes apart", (long long)m->stride_bytes[0]);
}

/* The lines of a box lie one behind the other in shared memory, their elements swizzled. */
static u8 *box_element(const sm_block *b, u32 box, const tensor *t, int x, int y) {
    int line = t->map->swizzle_bytes;
    u32 at = swizzled(box + (u32)(y * line + x * element_of(t)), line);
    return shared(b, at, (u32)element_of(t), "a box");
}

static void check_landing(sm_block *b, u32 to, u32 bytes);

static void ask_load(const tensor *t, sm_block *b, u32 barrier, u32 to, const int *at) {
    far_mbarrier(b, barrier);
    shared(b, to, box_bytes(t), "a load");
    check_landing(b, to, box_bytes(t));
    if (run.n_loads == LOADS_MAX) broken("too many loads under way");
    run.load[run.n_loads++] = (box_load){
        .tensor = t, .to_block = b, .to = to, .barrier = barrier, .at = {at[0], at[1], at[2]}};
}

/* 16 bytes into the shared memory of another block of the cluster. */
static void emulate_give(u32 at, int rank, const void *quad) {
    sm_cluster *c = run.now->block->cluster;
    if (rank < 0 || rank >= c->size) broken("sums for rank %d of a cluster of %d", rank, c->size);
    if (!c->block[rank].alive) broken("sums for block %d, which has ended", rank);
    memcpy(shared(&c->block[rank], at, 16, "a gift"), quad, 16);
    check_landing(&c->block[rank], at, 16);
}

static void deliver_load(int i) {
    box_load l = run.load[i];
    run.load[i] = run.load[--run.n_loads];
    const kiln_tensor_map *m = l.tensor->map;
    size_t element = (size_t)element_of(l.tensor);
    for (int y = 0; y < m->box[1]; y++)
        for (int x = 0; x < m->box[0]; x++) {
            u8 *to = box_element(l.to_block, l.to, l.tensor, x, y);
            i64 from = tensor_offset(l.tensor, l.at, x, y);
            if (from < 0)
                memset(to, 0, element);
            else
                memcpy(to, l.tensor->base + from, element);
        }
    mbarrier *b = far_mbarrier(l.to_block, l.barrier);
    b->bytes -= box_bytes(l.tensor);
    settle(b);
}

static void emulate_load_box(const tensor *t, u32 barrier, u32 to, int c0, int c1, int c2, int mask,
                             u64 policy) {
    sm_cluster *c = run.now->block->cluster;
    const int at[3] = {c0, c1, c2};
    int first = run.n_loads;
    check_map(t);
    if (to % 1024) broken("a load to %u, not at a multiple of a swizzle atom", to);
    if (mask >> c->size) broken("a multicast to %x in a cluster of %d", (unsigned)mask, c->size);
    if (policy >> 52 != 0x100 && policy >> 52 != 0x12f && policy >> 52 != 0x14f)
        broken("no cache policy: %llx", (unsigned long long)policy);
    if (!mask) mask = 1 << run.now->block->rank;
    for (int r = 0; r < c->size; r++)
        if (mask >> r & 1) ask_load(t, &c->block[r], barrier, to, at);
    while (run.set.loads == AT_ONCE && run.n_loads > first) deliver_load(first);
}

static void advance_store(box_store *s) {
    const kiln_tensor_map *m = s->tensor->map;
    size_t element = (size_t)element_of(s->tensor);
    for (int y = 0; y < m->box[1]; y++)
        for (int x = 0; x < m->box[0]; x++) {
            u8 *kept = s->data + (size_t)(y * m->box[0] + x) * element;
            i64 to = tensor_offset(s->tensor, s->at, x, y);
            if (s->state == STORE_ASKED)
                memcpy(kept, box_element(s->thread->block, s->from, s->tensor, x, y), element);
            else if (to >= 0) {
                memcpy(s->tensor->base + to, kept, element);
                run.set.hits[(s->tensor->base - run.set.result + to) / (i64)element]++;
            }
        }
    s->state++;
}

static void emulate_store_box(const tensor *t, u32 from, int c0, int c1, int c2) {
    sm_block *b = run.now->block;
    check_map(t);
    shared(b, from, box_bytes(t), "a store");
    if (from % 128 || box_bytes(t) > BOX_BYTES_MAX) broken("a store from %u", from);
    for (u32 i = (from - SHARED_AT) / 4; i < (from - SHARED_AT + box_bytes(t)) / 4; i++)
        if (b->writer[i] && b->thread[b->writer[i] - 1].visible <= b->epoch[i])
            broken("stores by TMA what thread %d has not made visible", b->writer[i] - 1);
    if (run.n_stores == STORES_MAX) broken("too many stores under way");
    box_store *s = &run.store[run.n_stores++];
    s->thread = run.now, s->tensor = t, s->from = from, s->state = STORE_ASKED, s->waited = false;
    s->at[0] = c0, s->at[1] = c1, s->at[2] = c2;
    if (run.set.stores == AT_ONCE) {
        advance_store(s);
        advance_store(s);
    }
}

/* The thread's stores but its last `left` have been read; those that are done are forgotten. */
static void note_stores(coroutine *t, int left) {
    int n = 0, kept = 0;
    for (int i = 0; i < run.n_stores; i++) n += run.store[i].thread == t;
    for (int i = 0; i < run.n_stores; i++) {
        box_store *s = &run.store[i];
        if (s->thread == t && n-- > left) s->waited = true;
        if (s->waited && s->state == STORE_DONE) continue;
        if (kept != i) run.store[kept] = *s;
        kept++;
    }
    run.n_stores = kept;
}

static void emulate_stores_read(int left) {
    if (forgets(STORES_READ)) return;
    wait_at(AT_STORES_READ, 0, left);
    note_stores(run.now, left);
}
static void emulate_stores_visible(void) { run.now->visible += !forgets(STORES_VISIBLE); }

/* A thread's own write to shared memory. */
static void put(u32 at, const void *data, u32 bytes) {
    sm_block *b = run.now->block;
    u8 *to = shared(b, at, bytes, "a write");
    for (int i = 0; i < run.n_stores; i++) {
        const box_store *s = &run.store[i];
        if (s->thread->block == b && !s->waited &&
            overlap(at, bytes, s->from, box_bytes(s->tensor)))
            broken("writes to %u, which a TMA store may still read", at);
    }
    memcpy(to, data, bytes);
    for (u32 i = 0; i < bytes; i += 4) {
        b->writer[(at - SHARED_AT + i) / 4] = (u16)(run.now->index + 1);
        b->epoch[(at - SHARED_AT + i) / 4] = run.now->visible;
    }
}

static void emulate_put_pair(u32 at, float a, float b) {
    const float pair[2] = {a, b};
    if (at % 8) broken("8 bytes to %u", at);
    put(at, pair, 8);
}

/* stmatrix: matrix i's line r goes where lane 8 i + r says, from lanes 4 r to 4 r + 3. */
static void emulate_put_matrices(u32 at, const u32 *r) {
    warp_state *w = &run.now->block->warp[run.now->index / LANES];
    int lane = run.now->index % LANES;
    if (at % 16) broken("a line of a matrix to %u", at);
    w->at[w->round % 2][lane] = at;
    const u32 *line = w->at[meet_warp()];
    for (int i = 0; i < 4; i++) put(line[i * 8 + lane / 4] + (u32)(lane % 4) * 4, &r[i], 4);
}

/* ldmatrix: the reverse. */
static void emulate_take_matrices(u32 at, u32 *r) {
    sm_block *b = run.now->block;
    warp_state *w = &b->warp[run.now->index / LANES];
    int lane = run.now->index % LANES;
    if (at % 16) broken("a line of a matrix from %u", at);
    w->at[w->round % 2][lane] = at;
    const u32 *line = w->at[meet_warp()];
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], shared(b, line[i * 8 + lane / 4] + (u32)(lane % 4) * 4, 4, "a matrix"), 4);
}

/* cp.async: nothing is there before it has been waited for, and what was there is gone at once. */
static void emulate_read_quad(u32 to, const void *from, bool inside) {
    static const u8 gone[16] = {0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5,
                                0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5};
    coroutine *t = run.now;
    check_previous();
    if (to % 16 || (uintptr_t)from % 16) broken("16 bytes to %u across their alignment", to);
    if (t->n_reads == READS_MAX) broken("too many reads under way");
    quad_read *q = &t->read[t->n_reads++];
    *q = (quad_read){.to = to, .group = t->read_groups};
    if (inside) memcpy(q->data, from, 16);
    put(to, gone, 16);
}
static void emulate_reads_commit(void) { run.now->read_groups++; }
static void emulate_reads_wait(int left) {
    coroutine *t = run.now;
    int kept = 0;
    if (forgets(READS_AWAITED)) return;
    for (int i = 0; i < t->n_reads; i++) {
        quad_read q = t->read[i];
        if (q.group < t->read_groups - left)
            put(q.to, q.data, 16);
        else
            t->read[kept++] = q;
    }
    t->n_reads = kept;
}

/* ---- wgmma */

/* An operand of one wgmma: 32 bytes of k of `rows` lines. */
typedef struct side {
    u32 start, leading, stride;
    int rows, element;
    bool across;
} side;

static side side_of(u64 d, int rows, kiln_type type, bool across) {
    side s = {.start = (u32)(d & 0x3fff) << 4,
              .leading = (u32)(d >> 16 & 0x3fff) << 4,
              .stride = (u32)(d >> 32 & 0x3fff) << 4,
              .rows = rows,
              .element = (int)kiln_type_bytes(type),
              .across = across};
    if (d >> 62 != 1 || d & 0x3fffc000c000c000)
        broken("descriptor %llx: not swizzle of 128 bytes from an atom's begin",
               (unsigned long long)d);
    if (s.start % 1024 >= ATOM_LINE || (across && s.start % 1024))
        broken("descriptor %llx begins inside a swizzle atom", (unsigned long long)d);
    return s;
}

/* The operand in pieces of 16 bytes: along k two for each line; across k lines of rows / 8. */
static int pieces_of(const side *s) { return s->rows * 2; }

static u32 piece_at(const side *s, int i) {
    u32 line = (u32)(s->across ? i / (s->rows / 8) : i / 2);
    u32 chunk = (u32)(s->across ? i % (s->rows / 8) : i % 2);
    u32 at = s->start + line % 8 * ATOM_LINE + line / 8 * s->stride + chunk % 8 * 16;
    return swizzled(at + (s->across ? chunk / 8 * s->leading : 0), ATOM_LINE);
}

static float value_at(int which, const u8 *at, int element) {
    if (element == 1) return run.value_of[which][*at];
    u16 two;
    u32 four;
    float f;
    memcpy(&two, at, 2);
    if (element == 2) return run.value_of[which][two];
    memcpy(&four, at, 4);
    four &= ~0x1fffu; /* tf32: the other bits are not looked at */
    memcpy(&f, &four, 4);
    return f;
}

/* to[k][row], 256 rows wide */
static void read_side(const sm_block *b, const side *s, int which, float (*to)[256]) {
    int each = 16 / s->element;
    for (int i = 0; i < pieces_of(s); i++) {
        const u8 *from = shared(b, piece_at(s, i), 16, "wgmma");
        for (int e = 0; e < each; e++) {
            int row = s->across ? i % (s->rows / 8) * 8 + e : i / 2;
            int k = s->across ? i / (s->rows / 8) : i % 2 * each + e;
            to[k][row] = value_at(which, from + e * s->element, s->element);
        }
    }
}

static void sides_of(const product *p, side *x, side *y) {
    *x = side_of(p->x, 64, run.set.x_type, run.set.x_across);
    *y = side_of(p->y, p->words * 2, run.set.y_type, run.set.y_across);
}

/* Tensor cores add products of 8-bit floats in a register with 14 significant bits. */
static float narrow(float sum) {
    u32 bits;
    memcpy(&bits, &sum, 4);
    bits &= ~0x3ffu;
    memcpy(&sum, &bits, 4);
    return sum;
}

static u32 added(u32 before, bool keep, float got, bool eight_bit) {
    float sum;
    memcpy(&sum, &before, 4);
    if (run.set.ints) return (keep ? before : 0) + (u32)(int)got;
    sum = keep ? sum + got : got;
    if (eight_bit) sum = narrow(sum);
    memcpy(&before, &sum, 4);
    return before;
}

/* Lane l of warp w holds, of the 64 rows, 16 w + l / 4 and + 8. */
static void add_product(coroutine *t, const product *p, float (*sum)[256], bool eight_bit) {
    int i = t->index % TEAM;
    u32 *value = t->flight[p->flight[i]].value;
    for (int j = 0; j < p->words; j++) {
        int row = i / LANES * 16 + i % LANES / 4 + j / 2 % 2 * 8;
        int col = j / 4 * 8 + i % 4 * 2 + j % 2;
        value[j] = added(value[j], p->keep, sum[row][col], eight_bit);
    }
}

/* The team's next product. */
static void execute_product(sm_block *b, team_state *m) {
    static float x[32][256], y[32][256], sum[64][256];
    product *p = &m->queue[m->done % QUEUE];
    side sx, sy;
    sides_of(p, &sx, &sy);
    read_side(b, &sx, 0, x);
    read_side(b, &sy, 1, y);
    memset(sum, 0, sizeof sum);
    for (int row = 0; row < 64; row++)
        for (int k = 0; k < 32 / sx.element; k++)
            for (int col = 0; col < sy.rows; col++) sum[row][col] += x[k][row] * y[k][col];
    for (int i = 0; i < TEAM; i++)
        add_product(&b->thread[(m - b->team) * TEAM + i], p, sum, sx.element == 1);
    m->done++;
}

static bool product_ready(const team_state *m) {
    const product *p = &m->queue[m->done % QUEUE];
    return p->number == m->done + 1 && p->issued == TEAM;
}

/* No box may land where a product, asked for and not yet waited for, reads. */
static void check_landing(sm_block *b, u32 to, u32 bytes) {
    for (int i = 0; i < (int)run.set.launch->block[0] / TEAM; i++) {
        const team_state *m = &b->team[i];
        for (int n = m->covered; m->queue[n % QUEUE].number == n + 1; n++) {
            const product *p = &m->queue[n % QUEUE];
            side s[2];
            sides_of(p, &s[0], &s[1]);
            for (int j = 0; j < 2; j++)
                for (int q = 0; q < pieces_of(&s[j]); q++)
                    if (overlap(piece_at(&s[j], q), 16, to, bytes))
                        broken("loads to %u, where wgmma of warp group %d may still read", to, i);
        }
    }
    for (int i = 0; i < MBARRIERS; i++)
        if (b->mbarrier[i].there && overlap(b->mbarrier[i].at, 8, to, bytes))
            broken("loads onto the mbarrier at %u", b->mbarrier[i].at);
}

static int flight_of(coroutine *t, void *sums, int words) {
    int found = -1;
    for (int i = 0; i < FLIGHTS; i++)
        if (t->flight[i].sums == sums)
            return i;
        else if (!t->flight[i].sums)
            found = i;
    if (found < 0) broken("more than %d sets of sums in flight", FLIGHTS);
    if (!t->fenced) broken("wgmma on sums without wgmma.fence before it");
    flight *f = &t->flight[found];
    f->sums = sums, f->words = words;
    memcpy(f->value, sums, (size_t)words * 4);
    for (int i = 0; i < words; i++) memcpy((u8 *)sums + i * 4, &in_flight_mark, 4);
    return found;
}

static void emulate_wgmma(void *sums, int words, u64 x, u64 y, bool keep) {
    coroutine *t = run.now;
    team_state *m = &t->block->team[t->index / TEAM];
    int n = t->issued++;
    product *p = &m->queue[n % QUEUE];
    if (n >= m->covered + QUEUE - 1) broken("too many products under way");
    if (p->number != n + 1)
        *p = (product){.number = n + 1, .x = x, .y = y, .words = words, .keep = keep};
    if (p->x != x || p->y != y || p->words != words || p->keep != keep)
        broken("asks for another product than the rest of its warp group");
    int f = flight_of(t, sums, words);
    t->flight[f].last = n;
    p->flight[t->index % TEAM] = (u8)f;
    p->issued++;
    while (run.set.products == AT_ONCE && product_ready(m)) execute_product(t->block, m);
}

static void emulate_wgmma_fence(void) { run.now->fenced |= !forgets(PRODUCT_FENCE); }

static void emulate_wgmma_commit(void) {
    coroutine *t = run.now;
    team_state *m = &t->block->team[t->index / TEAM];
    int g = t->groups++;
    if (g == m->commits) m->group_end[m->commits++ % QUEUE] = t->issued;
    if (m->group_end[g % QUEUE] != t->issued) broken("commits another group than its warp group");
}

static void land(coroutine *t, flight *f) {
    for (int i = 0; i < f->words; i++)
        if (memcmp((u8 *)f->sums + i * 4, &in_flight_mark, 4))
            broken("sum %d was written while wgmma was in flight", i);
    memcpy(f->sums, f->value, (size_t)f->words * 4);
    f->sums = NULL;
    t->fenced = false;
}

static void emulate_wgmma_wait(int left) {
    coroutine *t = run.now;
    team_state *m = &t->block->team[t->index / TEAM];
    int g = t->groups - left;
    if (g <= 0 || forgets(PRODUCT_WAIT)) return;
    int end = m->group_end[(g - 1) % QUEUE];
    wait_at(AT_PRODUCTS, t->index / TEAM, end);
    if (m->covered < end) m->covered = end;
    for (int i = 0; i < FLIGHTS; i++)
        if (t->flight[i].sums && t->flight[i].last < end) land(t, &t->flight[i]);
}

/* ---- results */

static void emulate_result(i64 element, bool inside) {
    check_previous();
    if (!inside || element < 0 || element >= run.set.result_elements)
        broken("stores a result outside the output");
    run.set.hits[element]++;
}

/* ---- blocks and clusters */

static void end_block(sm_block *b) {
    for (int i = 0; i < run.n_loads; i++)
        if (run.load[i].to_block == b) broken("block %d has ended with a load under way", b->index);
    for (int i = 0; i < run.n_stores; i++)
        if (run.store[i].thread->block == b && !run.store[i].waited)
            broken("block %d has ended while a TMA store may read its memory", b->index);
    for (int i = 0; i < MBARRIERS; i++)
        if (b->mbarrier[i].bytes) broken("block %d has ended with bytes to come", b->index);
}

static void thread_main(void) {
    run.set.body();
    coroutine *t = run.now;
    for (int i = 0; i < FLIGHTS; i++)
        if (t->flight[i].sums) broken("ends with wgmma in flight");
    t->place = ENDED;
    if (--t->block->alive == 0) end_block(t->block);
    t->block->cluster->alive--;
    pause_thread();
}

static void start_thread(sm_block *b, int i, int registers, u8 *stack) {
    coroutine *t = &b->thread[i];
    t->block = b, t->index = i, t->registers = registers;
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = stack;
    t->context.uc_stack.ss_size = STACK;
    makecontext(&t->context, thread_main, 0);
}

/* Registers of a block: what a thread gets at launch is a multiple of 8, at most 255. */
static int registers_at_launch(int threads) {
    int each = 65536 / threads / 8 * 8;
    return each > 256 ? 256 : each;
}

static void start_block(sm_cluster *c, int rank) {
    sm_block *b = &c->block[rank];
    int threads = (int)run.set.launch->block[0];
    size_t bytes = (run.set.launch->shared_bytes + 1023u) / 1024 * 1024;
    b->cluster = c, b->rank = rank, b->index = c->index * c->size + rank, b->alive = threads;
    b->pool = aligned_alloc(1024, bytes);
    memset(b->pool, 0xff, bytes); /* NaN, -1 */
    b->writer = calloc(bytes / 4, sizeof *b->writer);
    b->epoch = calloc(bytes / 4, sizeof *b->epoch);
    u8 *stack = stacks + (size_t)(c->seat * c->size + rank) * BLOCK_THREADS_MAX * STACK;
    for (int i = 0; i < threads; i++)
        start_thread(b, i, registers_at_launch(threads), stack + (size_t)i * STACK);
}

static int free_seat(void) {
    bool taken[GRID_MAX] = {false};
    int seat = 0;
    for (int c = 0; c < run.n_running; c++) taken[run.cluster[c]->seat] = true;
    while (taken[seat]) seat++;
    return seat;
}

static void start_cluster(void) {
    int size = (int)run.set.launch->cluster[0];
    sm_cluster *c = calloc(1, sizeof *c);
    c->size = size < 1 ? 1 : size, c->index = run.started++, c->seat = free_seat();
    c->alive = c->size * (int)run.set.launch->block[0];
    c->block = calloc((size_t)c->size, sizeof *c->block);
    for (int r = 0; r < c->size; r++) start_block(c, r);
    run.cluster[run.n_running++] = c;
}

static void free_cluster(sm_cluster *c) {
    for (int r = 0; r < c->size; r++) {
        free(c->block[r].pool);
        free(c->block[r].writer);
        free(c->block[r].epoch);
    }
    free(c->block);
    free(c);
}

static void finish_stores(const sm_cluster *c) {
    int kept = 0;
    for (int i = 0; i < run.n_stores; i++) {
        box_store *s = &run.store[i];
        if (s->thread->block->cluster == c)
            while (s->state != STORE_DONE) advance_store(s);
        else
            run.store[kept++] = *s;
    }
    run.n_stores = kept;
}

static void end_clusters(void) {
    for (int i = 0; i < run.n_running;) {
        sm_cluster *c = run.cluster[i];
        if (c->alive) {
            i++;
            continue;
        }
        finish_stores(c);
        free_cluster(c);
        run.cluster[i] = run.cluster[--run.n_running];
    }
}

/* ---- the scheduler */

static void resume(coroutine *t) {
    run.now = t;
    swapcontext(&run.scheduler, &t->context);
    run.now = NULL;
    if (run.failure[0]) longjmp(run.escape, 1);
}

static bool run_warp(sm_block *b, int warp) {
    bool ran = false;
    int flip = dice(2) ? LANES - 1 : 0;
    for (int i = 0; i < LANES; i++) {
        coroutine *t = &b->thread[warp * LANES + (i ^ flip)];
        if (t->place == ENDED || !ready(t)) continue;
        resume(t);
        ran = true;
    }
    return ran;
}

/* Some warps are slow for a while: they run only when nobody else can. */
static bool slow(const sm_block *b, int warp, u64 round) {
    return kiln_random64(run.set.seed + 1,
                         (round / 64 * GRID_MAX + (u64)b->index) * 16 + (u64)warp) %
               4 ==
           0;
}

typedef enum turn_of { SOME_FAST, ALL_FAST, A_SLOW_ONE } turn_of;

static bool run_warps(u64 round, turn_of who) {
    bool ran = false;
    int warps = (int)run.set.launch->block[0] / LANES;
    u32 turn = dice((u32)run.n_running);
    for (int c = 0; c < run.n_running; c++) {
        sm_cluster *k = run.cluster[(c + (int)turn) % run.n_running];
        for (int r = 0; r < k->size; r++) {
            u32 first = dice((u32)warps);
            for (int w = 0; w < warps; w++) {
                int warp = (w + (int)first) % warps;
                if (slow(&k->block[r], warp, round) != (who == A_SLOW_ONE)) continue;
                if (who == SOME_FAST && dice(4) == 0) continue;
                ran |= run_warp(&k->block[r], warp);
                if (ran && who == A_SLOW_ONE) return true;
            }
        }
    }
    return ran;
}

static bool takes_turn(pace p) { return p == AT_ONCE || (p == AT_RANDOM && dice(4) == 0); }

/* The asynchronous units' turn. With `force`, one of what is under way is done, whatever the pace;
 * false if there is nothing. */
static bool run_products(bool force) {
    bool ran = false;
    for (int c = 0; c < run.n_running; c++)
        for (int r = 0; r < run.cluster[c]->size; r++)
            for (int i = 0; i < (int)run.set.launch->block[0] / TEAM; i++) {
                sm_block *b = &run.cluster[c]->block[r];
                if (!product_ready(&b->team[i]) || !(force || takes_turn(run.set.products)))
                    continue;
                execute_product(b, &b->team[i]);
                ran = true;
                if (force) return true;
            }
    return ran;
}

static bool run_loads(bool force) {
    if (force && run.n_loads) return deliver_load((int)dice((u32)run.n_loads)), true;
    for (int i = run.n_loads - 1; i >= 0 && !force; i--)
        if (takes_turn(run.set.loads)) deliver_load(i);
    return false;
}

static bool run_stores(bool force) {
    for (int i = 0; i < run.n_stores; i++) {
        box_store *s = &run.store[i];
        if (s->state == STORE_DONE || !(force || takes_turn(run.set.stores))) continue;
        advance_store(s);
        if (force) return true;
    }
    return false;
}

static bool force_one(void) {
    static bool (*const units[])(bool) = {run_products, run_loads, run_stores};
    u32 first = dice(3);
    for (u32 i = 0; i < 3; i++)
        if (units[(first + i) % 3](true)) return true;
    return false;
}

static void run_clusters(void) {
    int size = run.set.launch->cluster[0] > 1 ? (int)run.set.launch->cluster[0] : 1;
    int clusters = (int)run.set.launch->grid[0] / size, seats = GRID_MAX / size;
    if (seats > run.set.resident) seats = run.set.resident;
    for (u64 round = 0; run.started < clusters || run.n_running; round++) {
        while (run.started < clusters && run.n_running < seats) start_cluster();
        bool ran = run_warps(round, SOME_FAST);
        run_products(false);
        run_loads(false);
        run_stores(false);
        end_clusters();
        if (ran || !run.n_running || run_warps(round, ALL_FAST) || run_warps(round, A_SLOW_ONE))
            continue;
        if (!force_one()) report_deadlock();
    }
}

static void tabulate(kiln_type type, float *to) {
    size_t bytes = kiln_type_bytes(type);
    for (u32 code = 0; bytes <= 2 && code < 1u << 8 * bytes; code++) {
        u16 two = (u16)code; /* the byte, on a machine that stores the low one first */
        to[code] = (float)kiln_type_read(type, &two);
    }
}

/* Runs the launch; NULL, or what went wrong. */
static const char *emulated_run(const emulation *set) {
    memset(&run.failure, 0, sizeof run.failure);
    run.set = *set;
    run.dice = 0, run.n_running = run.started = run.n_loads = run.n_stores = 0, run.now = NULL;
    tabulate(set->x_type, run.value_of[0]);
    tabulate(set->y_type, run.value_of[1]);
    if (set->launch->cluster[0] > GRID_MAX || set->launch->block[0] > BLOCK_THREADS_MAX)
        return "the launch is larger than this machine";
    if (setjmp(run.escape) == 0) run_clusters();
    for (int i = 0; i < run.n_running; i++) free_cluster(run.cluster[i]);
    return run.failure[0] ? run.failure : NULL;
}

static int prepare_stacks(void **state) {
    (void)state;
    stacks = mmap(NULL, (size_t)GRID_MAX * BLOCK_THREADS_MAX * STACK, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return stacks == MAP_FAILED ? -1 : 0;
}

static int free_stacks(void **state) {
    (void)state;
    return munmap(stacks, (size_t)GRID_MAX * BLOCK_THREADS_MAX * STACK);
}
