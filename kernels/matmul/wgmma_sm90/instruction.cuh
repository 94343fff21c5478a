/* ---- instructions: the only part that speaks PTX; tests replace it and run the rest on a CPU */
#ifndef PRIMITIVES
#if ACC_INT
#define SUM_REGISTER "+r"
#else
#define SUM_REGISTER "+f"
#endif
typedef struct __align__(64) {
    u64 word[16];
} NAME(tensor_map);
#define MAP_PARAM(name) const __grid_constant__ NAME(tensor_map) name
#define POOL(name) extern __shared__ __align__(1024) u8 name[]
/* The second number makes the compiler keep setmaxnreg; it says 1 block per SM. */
#define ENTRY(threads) extern "C" __global__ void __launch_bounds__((threads), 1)
#define SHARED_BASE(pool) ((u32)__cvta_generic_to_shared(pool))

/* -- mbarriers: 8 bytes at a shared address */
FUNC void NAME(barrier_init)(u32 at, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(arrivals));
}
FUNC void NAME(barriers_ready)() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* Arrives, and adds `bytes` that TMA is going to bring. */
FUNC void NAME(barrier_expect)(u32 at, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes)
                 : "memory");
}
FUNC void NAME(barrier_wait)(u32 at, u32 parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again_%=:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra.uni over_%=;\n"
                 "bra.uni again_%=;\n"
                 "over_%=:\n"
                 "}" ::"r"(at),
                 "r"(parity)
                 : "memory");
}
/* The barrier of block `rank` of the cluster. */
FUNC void NAME(barrier_arrive)(u32 at, int rank) {
#if CLUSTER > 1
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
                 "}" ::"r"(at),
                 "r"(rank)
                 : "memory");
#else
    (void)rank;
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
#endif
}

/* -- TMA: boxes between global memory, at element (c0, c1, c2), and shared memory */
FUNC void NAME(map_prefetch)(const NAME(tensor_map) *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/* `mask`: the blocks of the cluster that get the box, at the same address in each. */
FUNC void NAME(load_box)(const NAME(tensor_map) *map, u32 barrier, u32 to, int c0, int c1, int c2,
                         int mask, u64 policy) {
    if (mask)
        asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".multicast::cluster.L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6, %7;" ::
                         "r"(to),
                     "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "h"((u16)mask), "l"(policy)
                     : "memory");
    else
        asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
                     "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "l"(policy)
                     : "memory");
}
/* A box as near as the L2 cache. Writes that are still under way pass through it as well, so this may
 * come before wait_previous. */
FUNC void NAME(box_soon)(const NAME(tensor_map) *map, int c0, int c1, int c2) {
    asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global [%0, {%1, %2, %3}];" ::"l"(map), "r"(c0),
                 "r"(c1), "r"(c2)
                 : "memory");
}
FUNC void NAME(store_box)(const NAME(tensor_map) *map, u32 from, int c0, int c1, int c2) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];\n"
                 "cp.async.bulk.commit_group;" ::"l"(map),
                 "r"(from), "r"(c0), "r"(c1), "r"(c2)
                 : "memory");
}
/* Until at most one of this thread's stores has still to read its shared memory; until none has,
 * which is all that a block must wait for: its launch does not end before they are done. */
FUNC void NAME(stores_read)() { asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory"); }
FUNC void NAME(stores_all_read)() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
/* What this thread stored to shared memory is visible to TMA. */
FUNC void NAME(stores_visible)() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
#define EVICT_NORMAL 0x1000000000000000ull /* the policies that createpolicy would make */
#define EVICT_FIRST 0x12f0000000000000ull
#define EVICT_LAST 0x14f0000000000000ull

/* -- wgmma, but for NAME(wgmma) itself, which the emitter writes for the tile's width */
FUNC void NAME(wgmma_fence)() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FUNC void NAME(wgmma_commit)() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
#define WGMMA_WAIT(left) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory")
/* Keeps the compiler from moving or copying sums across this point. */
FUNC void NAME(hold)(ACC *sum, int n) {
    UNROLL for (int i = 0; i < n; i++) asm volatile("" : SUM_REGISTER(sum[i])::"memory");
}
/* Makes it calculate a tile's place here, and not where that is used. */
FUNC void NAME(hold_spot)(int *x, int *y, int *batch) {
    asm volatile("" : "+r"(*x), "+r"(*y), "+r"(*batch));
}

/* -- the launches before and after this one
 * The next launch may begin to fill SMs that this one leaves; it waits, as this one does, until all
 * that came before has ended, before it touches global memory. */
FUNC void NAME(launch_next)() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
FUNC void NAME(wait_previous)() {
    asm volatile("griddepcontrol.wait;\n"
                 "fence.proxy.async.global;" ::
                     : "memory");
}

/* -- registers, warp groups, clusters */
#define REGISTERS_LESS(n) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n))
#define REGISTERS_MORE(n) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n))
FUNC void NAME(group_sync)(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
FUNC void NAME(group_arrive)(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
FUNC void NAME(warp_sync)() { __syncwarp(); }
FUNC int NAME(cluster_rank)() {
#if CLUSTER > 1
    u32 r;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return (int)r;
#else
    return 0;
#endif
}
/* All threads of the cluster meet, with what they wrote. */
FUNC void NAME(cluster_sync)() {
#if CLUSTER > 1
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
#else
    __syncthreads();
#endif
}
/* The same in two steps, for barriers that barriers_ready has already shown to the cluster: a release
 * would wait for all that the block stored. */
FUNC void NAME(cluster_arrive)() {
#if CLUSTER > 1
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
FUNC void NAME(cluster_wait)() {
#if CLUSTER > 1
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}
/* What is the same in all lanes anyway: now the compiler knows, and keeps what follows from it in
 * uniform registers, where wgmma wants its descriptors. */
FUNC int NAME(uniform)(int v) { return __shfl_sync(0xffffffffu, v, 0); }
/* The value of the lane whose number differs in the bits `lanes`. */
FUNC ACC NAME(exchange)(ACC v, int lanes) { return __shfl_xor_sync(0xffffffffu, v, lanes); }

/* Four 8x8 matrices of 16-bit elements from fragments to lines of 16 bytes; lane l gives the
 * address of line l % 8 of matrix l / 8. */
FUNC void NAME(put_matrices)(u32 at, u32 r0, u32 r1, u32 r2, u32 r3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(at),
                 "r"(r0), "r"(r1), "r"(r2), "r"(r3)
                 : "memory");
}
/* And back. */
FUNC void NAME(take_matrices)(u32 at, u32 *r) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
/* 16 bytes into shared memory, zeros where they are outside, while the thread goes on: it waits until
 * at most `left` of the groups that it committed are not there. They are read once. */
FUNC void NAME(read_quad)(u32 to, const void *from, bool inside) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to),
                 "l"(from), "r"(inside ? 16 : 0), "l"(EVICT_FIRST)
                 : "memory");
}
FUNC void NAME(reads_commit)() { asm volatile("cp.async.commit_group;" ::: "memory"); }
#define READS_WAIT(left) asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory")
/* Two adjacent elements of the output in one register. */
#define PACK_bf16 "cvt.rn.bf16x2.f32"
#define PACK_f16 "cvt.rn.f16x2.f32"
#if IN_PIECES && OUT_BYTES == 2
FUNC u32 NAME(pack)(float low, float high) {
    u32 r;
    asm(CAT(PACK_, TO) " %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
#endif
FUNC void NAME(put_pair)(u32 at, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(a), "f"(b) : "memory");
}
/* 16 bytes of a staged piece, and from there to the result. */
typedef uint4 NAME(quad);
FUNC NAME(quad) NAME(staged_quad)(u32 at) {
    NAME(quad) q;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
                 : "r"(at)
                 : "memory");
    return q;
}
FUNC void NAME(store_quad)(STORAGE(TO) *to, NAME(quad) q) { *(NAME(quad) *)to = q; }

/* -- flags in global memory, between blocks */
FUNC void NAME(flag_raise)(u32 *flag) {
    asm volatile("fence.acq_rel.gpu;\nst.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(1u)
                 : "memory");
}
FUNC void NAME(flag_take)(u32 *flag) {
    u32 v;
    do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(flag) : "memory");
    while (!v);
}
FUNC void NAME(flag_clear)(u32 *flag) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(0u) : "memory");
}
/* Partial sums pass through the L2 cache only: another SM wrote them. */
FUNC NAME(quad) NAME(partial_read)(const NAME(quad) *p) { return __ldcg(p); }
FUNC void NAME(partial_write)(NAME(quad) *p, NAME(quad) v) { __stcg(p, v); }
/* Into the shared memory of block `rank` of the cluster. */
FUNC void NAME(give)(u32 at, int rank, NAME(quad) v) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "st.shared::cluster.v4.b32 [there], {%2, %3, %4, %5};\n"
                 "}" ::"r"(at),
                 "r"(rank), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}
#endif
