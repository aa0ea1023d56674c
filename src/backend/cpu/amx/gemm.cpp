// The rows that matrix tiles replace. The hardware policy below was compiled but not run where this was written: the
// machine had no AMX. Packing and tiling are tested with the software policy of tests/backend/gemm_tiles_test.cpp.
#include "backend/cpu/amx/gemm_tiles.h"

#include <immintrin.h>

#include <ondol/base/parallel.h>

#include "backend/cpu/isa.h"
#include "backend/cpu/kernels/gemm_epilogue_inline.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

/// Palette 1 with eight tiles of 16 rows of 64 bytes. Static, because the compiler takes the intrinsic to read eight
/// bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);
constinit const TileConfig kTileConfig;

/// Tile numbers must be literals to the intrinsics, hence the spelled-out cases.
struct HardwareTiles {
  static void configure() { _tile_loadconfig(&kTileConfig); }
  static void release() { _tile_release(); }

  template <int kTile>
  static void zero() {
    static_assert(kTile < 4);
    if constexpr (kTile == 0) _tile_zero(0);
    if constexpr (kTile == 1) _tile_zero(1);
    if constexpr (kTile == 2) _tile_zero(2);
    if constexpr (kTile == 3) _tile_zero(3);
  }
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    static_assert(kTile < 8);
    if constexpr (kTile == 0) _tile_loadd(0, from, stride);
    if constexpr (kTile == 1) _tile_loadd(1, from, stride);
    if constexpr (kTile == 2) _tile_loadd(2, from, stride);
    if constexpr (kTile == 3) _tile_loadd(3, from, stride);
    if constexpr (kTile == 4) _tile_loadd(4, from, stride);
    if constexpr (kTile == 5) _tile_loadd(5, from, stride);
    if constexpr (kTile == 6) _tile_loadd(6, from, stride);
    if constexpr (kTile == 7) _tile_loadd(7, from, stride);
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    static_assert(kTile < 4);
    if constexpr (kTile == 0) _tile_stored(0, to, stride);
    if constexpr (kTile == 1) _tile_stored(1, to, stride);
    if constexpr (kTile == 2) _tile_stored(2, to, stride);
    if constexpr (kTile == 3) _tile_stored(3, to, stride);
  }
  template <int kC, int kA, int kB>
  static void dot() {
    static_assert(kC == 2 * (kA - 4) + (kB - 6) && kC >= 0 && kC < 4);
    if constexpr (kC == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (kC == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kC == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kC == 3) _tile_dpbf16ps(3, 5, 7);
  }
};

// Decoding reads each weight once: tiles would gain nothing over the rows of the AVX-512 table.
constexpr int64_t kFewRows = 8;
KernelRow<GemmArgs>::Function few_rows_gemm = nullptr;

void gemm(const GemmArgs& args, Stream stream) {
  if (args.m == 0 || args.n == 0) return;
  if (args.m <= kFewRows && few_rows_gemm != nullptr) return few_rows_gemm(args, stream);
  const double flops = 2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k);
  // Tiles do the arithmetic an order of magnitude faster than vectors: a team pays from more work on.
  const double threshold = 4 * kParallelFlops;
  if (args.batch > 1 && flops < threshold * num_threads()) {
    parallel_for(args.batch, larger(1, static_cast<int64_t>(threshold / (flops + 1.0))),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) TileProduct<HardwareTiles>(args, i, 1).run();
                 });
    return;
  }
  const int64_t workers = flops < threshold ? 1 : num_threads();
  for (int64_t i = 0; i < args.batch; ++i) TileProduct<HardwareTiles>(args, i, workers).run();
}

}  // namespace

void fill_table(KernelTable& table) {
  if (!tiles_multiply<HardwareTiles>()) return;  // an emulator or hypervisor that gets them wrong
  few_rows_gemm = table.gemm.get(DType::bf16);
  table.gemm.set(DType::bf16, gemm);
}

}  // namespace ondol::cpu::ONDOL_ISA
