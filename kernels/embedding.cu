// embedding and embedding_backward.
//
// Formula: out[i, :] = table[ids[i], :]; grad_table[v, :] (+)= sum over i with ids[i] == v of grad_out[i, :].
//          With parts the table is several tables one behind the other, and i / parts.ids says which one i reads.
// Layout: table, grad_table (V, C), out, grad_out (count, C), contiguous.
// Mapping: forward: one thread for each vector of the output. Backward: the ids are sorted stably with their positions
//          (radix sort, 8 bits a pass), then one block for each run of equal ids adds up the rows in the order of i.
// Accumulation: f32 in the order of i, so the same for every run. An id outside the table gives NaN in the forward and
//          nothing in the backward.
// Tuning: kThreads, kTile, untuned: not run on a GPU yet.
#include <cstring>

#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 256;  // ids that one block of the sort handles, one for each thread
constexpr int kDigits = 256;
constexpr int kScanThreads = 1024;

/// The row of all tables that id number i names, below 0 for an id outside its table.
template <class Args>
__device__ int64_t table_row(const Args& args, int64_t i) {
  const int64_t id = args.ids[i];
  const int64_t rows = args.parts.ids > 0 ? args.parts.rows : args.vocab_size;
  if (id < 0 || id >= rows) return -1;
  return args.parts.ids > 0 ? id + i / args.parts.ids * rows : id;
}

template <class T, int kCount>
__global__ void embedding_kernel(EmbeddingArgs args) {
  const int64_t vectors = args.hidden_size / kCount;
  const int64_t index = global_thread();
  const int64_t i = index / vectors;
  if (i >= args.count) return;
  const int64_t c = (index - i * vectors) * kCount;
  const int64_t row = table_row(args, i);
  Floats<kCount> v;
  if (row >= 0) {
    v = load_floats<kCount>(static_cast<const T*>(args.table) + row * args.hidden_size + c);
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) v[j] = NAN;
  }
  store_floats<kCount>(static_cast<T*>(args.out) + i * args.hidden_size + c, v);
}

/// Ids and where they stood. Ids that receive nothing become `no_id`, which sorts last.
struct SortBuffers {
  uint32_t* id;
  uint32_t* position;
};

__global__ void sort_start_kernel(EmbeddingBackwardArgs args, SortBuffers out, uint32_t no_id) {
  const int64_t i = global_thread();
  if (i >= args.count) return;
  const int64_t row = table_row(args, i);
  out.id[i] = row >= 0 && row != args.padding_idx ? static_cast<uint32_t>(row) : no_id;
  out.position[i] = static_cast<uint32_t>(i);
}

__device__ uint32_t digit_of(uint32_t id, int shift) { return (id >> shift) & (kDigits - 1); }

/// counts[digit, tile]: how often a digit stands in a tile.
__global__ void sort_count_kernel(SortBuffers in, int64_t count, int shift, uint32_t* counts) {
  SharedMemory shared;
  uint32_t* histogram = shared.take<uint32_t>(kDigits);
  histogram[threadIdx.x] = 0;
  block_barrier();
  const int64_t i = global_thread();
  if (i < count) atomicAdd(&histogram[digit_of(in.id[i], shift)], 1u);
  block_barrier();
  counts[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = histogram[threadIdx.x];
}

/// Exclusive prefix sum in place, by one block.
__global__ void sort_scan_kernel(uint32_t* counts, int64_t count) {
  SharedMemory shared;
  uint32_t* sums = shared.take<uint32_t>(kScanThreads);
  const int64_t share = (count + kScanThreads - 1) / kScanThreads;
  const int64_t begin = threadIdx.x * share;
  const int64_t end = begin + share < count ? begin + share : count;
  uint32_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += counts[i];
  sums[threadIdx.x] = sum;
  block_barrier();
  for (int distance = 1; distance < kScanThreads; distance *= 2) {  // Hillis & Steele 1986
    const uint32_t before = static_cast<int>(threadIdx.x) >= distance ? sums[threadIdx.x - distance] : 0;
    block_barrier();
    sums[threadIdx.x] += before;
    block_barrier();
  }
  uint32_t running = sums[threadIdx.x] - sum;
  for (int64_t i = begin; i < end; ++i) {
    const uint32_t here = counts[i];
    counts[i] = running;
    running += here;
  }
}

/// Stable: an id goes behind those of the same digit in earlier tiles and earlier in this one.
__global__ void sort_move_kernel(SortBuffers in, SortBuffers out, int64_t count, int shift, const uint32_t* starts) {
  SharedMemory shared;
  uint32_t* digits = shared.take<uint32_t>(kTile);
  const int64_t i = global_thread();
  const uint32_t id = i < count ? in.id[i] : 0;
  const uint32_t digit = digit_of(id, shift);
  digits[threadIdx.x] = digit;
  block_barrier();
  if (i >= count) return;
  uint32_t rank = 0;
  for (unsigned j = 0; j < threadIdx.x; ++j) rank += digits[j] == digit;
  const uint32_t to = starts[static_cast<int64_t>(digit) * gridDim.x + blockIdx.x] + rank;
  out.id[to] = id;
  out.position[to] = in.position[i];
}

/// One behind the last of the ids that equal the one at `begin`: steps that double, then halve. Most runs are short,
/// and those of a table of few rows are as long as the batch.
__device__ int64_t end_of_run(const uint32_t* ids, int64_t begin, int64_t count) {
  const uint32_t id = ids[begin];
  int64_t last = begin, step = 1;
  for (; last + step < count && ids[last + step] == id; step *= 2) last += step;
  for (; step > 0; step /= 2) {
    if (last + step < count && ids[last + step] == id) last += step;
  }
  return last + 1;
}

template <class T, int kCount>
__global__ void sum_runs_kernel(EmbeddingBackwardArgs args, SortBuffers sorted, uint32_t no_id) {
  const int64_t begin = blockIdx.x;
  const uint32_t id = sorted.id[begin];
  if (id == no_id || (begin > 0 && sorted.id[begin - 1] == id)) return;  // the block where the run begins does the work
  const int64_t cols = args.hidden_size;
  const int64_t end = end_of_run(sorted.id, begin, args.count);  // known, so that the loads below need not wait
  float* out = args.grad_table + static_cast<int64_t>(id) * cols;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < cols;
       c += static_cast<int64_t>(blockDim.x) * kCount) {
    Floats<kCount> sum{};
    if (args.accumulate) sum = load_floats<kCount>(out + c);
#pragma unroll 8
    for (int64_t r = begin; r < end; ++r) {
      const Floats<kCount> g = load_floats<kCount>(static_cast<const T*>(args.grad_out) +
                                                   static_cast<int64_t>(sorted.position[r]) * cols + c);
#pragma unroll
      for (int j = 0; j < kCount; ++j) sum[j] += g[j];
    }
    store_floats<kCount>(out + c, sum);
  }
}

template <class T>
void embedding(const EmbeddingArgs& args, Stream stream) {
  if (args.count == 0 || args.hidden_size == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = args.hidden_size % kWide == 0 && aligned(16, args.table, args.out);
  const int64_t threads = args.count * (wide ? args.hidden_size / kWide : args.hidden_size);
  launch("embedding", wide ? embedding_kernel<T, kWide> : embedding_kernel<T, 1>,
         blocks_for("embedding", threads, kThreads), kThreads, 0, stream, args);
}

template <class T>
void embedding_backward(const EmbeddingBackwardArgs& args, Stream stream) {
  const char* op = "embedding_backward";
  if (args.hidden_size == 0) return;
  if (!args.accumulate) {
    CUDA_CHECK(
        op, cudaMemsetAsync(args.grad_table, 0, static_cast<size_t>(args.vocab_size * args.hidden_size) * sizeof(float),
                            static_cast<cudaStream_t>(stream)));
  }
  if (args.count == 0 || args.vocab_size == 0) return;
  ONDOL_CHECK(args.count <= 0x7fffffff && args.vocab_size <= 0x7fffffff, "[", op, "] too many ids: ", args.count,
              " of a vocabulary of ", args.vocab_size);

  // One more than the greatest id sorts last and needs no more digits than the vocabulary size itself.
  const auto no_id = static_cast<uint32_t>(args.vocab_size);
  const unsigned tiles = blocks_for(op, args.count, kTile);
  const Workspace<uint32_t> buffers(op, 4 * args.count, stream);
  const Workspace<uint32_t> counts(op, int64_t{kDigits} * tiles, stream);
  SortBuffers from{buffers.data(), buffers.data() + args.count};
  SortBuffers to{buffers.data() + 2 * args.count, buffers.data() + 3 * args.count};
  launch(op, sort_start_kernel, tiles, kTile, 0, stream, args, from, no_id);
  for (int shift = 0; shift < 32 && (no_id >> shift) != 0; shift += 8) {
    launch(op, sort_count_kernel, tiles, kTile, shared_bytes<uint32_t>(kDigits), stream, from, args.count, shift,
           counts.data());
    launch(op, sort_scan_kernel, 1, kScanThreads, shared_bytes<uint32_t>(kScanThreads), stream, counts.data(),
           int64_t{kDigits} * tiles);
    launch(op, sort_move_kernel, tiles, kTile, shared_bytes<uint32_t>(kTile), stream, from, to, args.count, shift,
           counts.data());
    std::swap(from, to);
  }

  constexpr int kWide = kVector128<float>;
  const bool wide = args.hidden_size % kWide == 0 && aligned(16, args.grad_out, args.grad_table);
  launch(op, wide ? sum_runs_kernel<T, kWide> : sum_runs_kernel<T, 1>, static_cast<unsigned>(args.count),
         row_threads(wide ? args.hidden_size / kWide : args.hidden_size, kThreads), 0, stream, args, from, no_id);
}

}  // namespace

void add_embedding_rows(KernelTable& table) {
  table.embedding.set(DType::f32, embedding<float>);
  table.embedding.set(DType::bf16, embedding<bfloat16>);
  table.embedding_backward.set(DType::f32, embedding_backward<float>);
  table.embedding_backward.set(DType::bf16, embedding_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
