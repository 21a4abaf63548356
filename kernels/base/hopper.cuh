// What Hopper (sm_90a) has and others lack: bulk tensor copies that end at a barrier in shared
// memory, clusters of blocks, and products of a warpgroup out of shared memory. PTX ISA 8.x,
// "Asynchronous Warpgroup Level Matrix Instructions" and "cp.async.bulk.tensor".
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/base/device.cuh"

namespace facet::kernels::hopper {

// A barrier is 8 bytes of shared memory, named by its address.
__device__ __forceinline__ void init_barrier(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// Before anything asynchronous, or another block of the cluster, may see the barriers.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void expect_bytes(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// At the barrier at the same place in block `rank` of the cluster. Orders nothing but what waits
// for products have ordered already: a release to the cluster would be a fence of all memory.
__device__ __forceinline__ void arrive_at(std::uint32_t barrier, std::uint32_t rank) {
  asm volatile(
      "{\n .reg .b32 remote;\n mapa.shared::cluster.u32 remote, %0, %1;\n"
      " mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
__device__ __forceinline__ void wait_barrier(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n .reg .pred done;\nagain:\n"
      " mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      " @done bra over;\n bra again;\nover:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ std::uint32_t cluster_rank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}
// Of `threads` threads that name the same `id` (1 .. 15).
__device__ __forceinline__ void sync_threads(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// How long the L2 cache should keep what a copy reads.
__device__ __forceinline__ std::uint64_t evict_first() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ std::uint64_t evict_last() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ std::uint64_t evict_normal() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// One box of a tensor into shared memory; its bytes count at `barrier`. Coordinates: innermost
// first.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map,
                                         std::uint32_t barrier, std::uint64_t policy, int x,
                                         int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x), "r"(y), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map,
                                         std::uint32_t barrier, std::uint64_t policy, int x, int y,
                                         int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "l"(policy)
      : "memory");
}
// The same for all blocks of the cluster in `mask`, at the same place in each, barrier included.
__device__ __forceinline__ void copy_box_to(std::uint16_t mask, std::uint32_t to,
                                            const CUtensorMap& map, std::uint32_t barrier,
                                            std::uint64_t policy, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x), "r"(y), "h"(mask), "l"(policy)
      : "memory");
}
// Shared memory into one box; what hangs over the tensor's edge is left out.
__device__ __forceinline__ void store_box(const CUtensorMap& map, std::uint32_t from, int x,
                                          int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
      "r"(from), "r"(x), "r"(y)
      : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// What this thread's stores read may be written again.
__device__ __forceinline__ void wait_until_stores_have_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ __forceinline__ void wait_for_stores() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
// Ordinary writes to shared memory before it are seen by asynchronous copies after it.
__device__ __forceinline__ void show_to_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void read_descriptor_ahead(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Rows of 128 bytes in the 128-byte swizzle, eight of them in a block of 1024 bytes: what a tensor
// copy of a box 64 values wide lays down at an address that is a multiple of 1024.
inline constexpr int kSwizzleBytes = 128;
__device__ __forceinline__ std::uint64_t matrix_descriptor(std::uint32_t address) {
  constexpr std::uint64_t kSwizzle128 = 1ull << 62;
  constexpr std::uint64_t kBlock = 1024 >> 4;
  return kSwizzle128 | kBlock << 32 | 1ull << 16 | (address & 0x3ffff) >> 4;
}

__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d [64, kN] (+)= a [64, 16] b [kN, 16]^T, both in shared memory, K innermost; d is overwritten
// when !add. A thread has of d: rows lane / 4 and 8 further of its warp's 16; of each 8 columns two
// at 2 * (lane % 4): d[4 j + 2 r + c].
template <class T, int kN>
__device__ __forceinline__ void multiply(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b,
                                         bool add);

#define FACET_D8(i)                                                                           \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FACET_D32(i) FACET_D8(i), FACET_D8(i + 8), FACET_D8(i + 16), FACET_D8(i + 24)

#define FACET_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define FACET_NAMES_16 FACET_NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define FACET_NAMES_32 \
  FACET_NAMES_16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FACET_NAMES_64                                                                 \
  FACET_NAMES_32                                                                       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FACET_NAMES_128                                                                  \
  FACET_NAMES_64                                                                         \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "   \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "     \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "     \
  "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, " \
  "%124, %125, %126, %127"

// `a`, `b`, `add` are the operands' numbers behind those of d.
#define FACET_MULTIPLY(T, type, n, names, a_, b_, add_, ...)                                 \
  template <>                                                                                \
  __device__ __forceinline__ void multiply<T, n>(float(&d)[n / 2], std::uint64_t a,          \
                                                 std::uint64_t b, bool add) {                \
    asm volatile("{\n .reg .pred keep;\n setp.ne.b32 keep, %" add_                           \
                 ", 0;\n"                                                                    \
                 " wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" names \
                 "}, %" a_ ", %" b_ ", keep, 1, 1, 0, 0;\n}"                                 \
                 : __VA_ARGS__                                                               \
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)));                              \
  }
#define FACET_MULTIPLY_SIZES(T, type)                                                             \
  FACET_MULTIPLY(T, type, 16, FACET_NAMES_8, "8", "9", "10", FACET_D8(0))                         \
  FACET_MULTIPLY(T, type, 32, FACET_NAMES_16, "16", "17", "18", FACET_D8(0), FACET_D8(8))         \
  FACET_MULTIPLY(T, type, 64, FACET_NAMES_32, "32", "33", "34", FACET_D32(0))                     \
  FACET_MULTIPLY(T, type, 256, FACET_NAMES_128, "128", "129", "130", FACET_D32(0), FACET_D32(32), \
                 FACET_D32(64), FACET_D32(96))

FACET_MULTIPLY_SIZES(Bf16, "bf16")
FACET_MULTIPLY_SIZES(Fp16, "f16")

#undef FACET_MULTIPLY_SIZES
#undef FACET_MULTIPLY
#undef FACET_NAMES_128
#undef FACET_NAMES_64
#undef FACET_NAMES_32
#undef FACET_NAMES_16
#undef FACET_NAMES_8
#undef FACET_D32
#undef FACET_D8

}  // namespace facet::kernels::hopper
