// gather, scatter_add and argmax.
//
// Formula: gather out[o, i, n] = in[o, index[o, i, n], n]; scatter_add out[o, index[o, i, n], n] += in[o, i, n];
//          argmax index[r] = the first place of the greatest element of row r, NaN counting as the greatest.
// Layout: (outer, size, inner) and (rows, cols), contiguous.
// Mapping: gather: one thread for each output element. scatter_add: one thread for each (o, n), which goes through i in
//          order, so that sums are the same in every run. argmax: one block for each row.
// Accumulation: scatter_add adds in f32 and rounds at each store. An index outside gives NaN (gather) or nothing
//          (scatter_add).
// Tuning: kThreads, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void gather_kernel(GatherArgs args) {
  const int64_t index = global_thread();
  if (index >= args.outer * args.out_size * args.inner) return;
  const int64_t o = index / (args.out_size * args.inner);
  const int64_t n = index % args.inner;
  const int64_t i = args.index[index];
  const bool inside = i >= 0 && i < args.in_size;
  const T* in = static_cast<const T*>(args.in);
  static_cast<T*>(args.out)[index] = inside ? in[(o * args.in_size + i) * args.inner + n] : from_float<T>(NAN);
}

template <class T>
__global__ void scatter_add_kernel(ScatterAddArgs args) {
  const int64_t column = global_thread();
  if (column >= args.outer * args.inner) return;
  const int64_t o = column / args.inner;
  const int64_t n = column - o * args.inner;
  const T* in = static_cast<const T*>(args.in);
  T* out = static_cast<T*>(args.out);
  for (int64_t i = 0; i < args.in_size; ++i) {
    const int64_t source = (o * args.in_size + i) * args.inner + n;
    const int64_t to = args.index[source];
    if (to < 0 || to >= args.out_size) continue;
    T& target = out[(o * args.out_size + to) * args.inner + n];
    target = from_float<T>(to_float(target) + to_float(in[source]));
  }
}

/// The better of two candidates of argmax; an index below 0 is none.
__device__ void keep_better(float& value, int32_t& index, float other, int32_t other_index) {
  const bool none = index < 0;
  const bool other_none = other_index < 0;
  const bool nan = value != value;
  const bool other_nan = other != other;
  const bool equal = value == other || (nan && other_nan);
  const bool greater = equal ? other_index < index : (other_nan || (!nan && other > value));
  if (!other_none && (none || greater)) {
    value = other;
    index = other_index;
  }
}

__device__ void warp_argmax(float& value, int32_t& index) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float other = shuffle_xor(value, offset);
    const int32_t other_index = shuffle_xor(index, offset);
    keep_better(value, index, other, other_index);
  }
}

template <class T>
__global__ void argmax_kernel(ArgmaxArgs args) {
  SharedMemory shared;
  float* values = shared.take<float>(kReduceScratch);
  int32_t* indices = shared.take<int32_t>(kReduceScratch);
  const T* in = static_cast<const T*>(args.in) + blockIdx.x * args.cols;
  float value = -INFINITY;
  int32_t index = -1;
  for (int64_t c = threadIdx.x; c < args.cols; c += blockDim.x) {
    keep_better(value, index, to_float(in[c]), static_cast<int32_t>(c));
  }
  warp_argmax(value, index);
  if (lane_index() == 0) {
    values[warp_index()] = value;
    indices[warp_index()] = index;
  }
  block_barrier();
  if (warp_index() != 0) return;
  value = lane_index() < warps_in_block() ? values[lane_index()] : -INFINITY;
  index = lane_index() < warps_in_block() ? indices[lane_index()] : -1;
  warp_argmax(value, index);
  if (lane_index() == 0) args.index[blockIdx.x] = index;
}

template <class T>
void gather(const GatherArgs& args, Stream stream) {
  const int64_t count = args.outer * args.out_size * args.inner;
  if (count == 0) return;
  launch("gather", gather_kernel<T>, blocks_for("gather", count, kThreads), kThreads, 0, stream, args);
}

template <class T>
void scatter_add(const ScatterAddArgs& args, Stream stream) {
  const int64_t columns = args.outer * args.inner;
  if (columns == 0 || args.in_size == 0) return;
  launch("scatter_add", scatter_add_kernel<T>, blocks_for("scatter_add", columns, kThreads), kThreads, 0, stream, args);
}

template <class T>
void argmax(const ArgmaxArgs& args, Stream stream) {
  if (args.rows == 0) return;
  ONDOL_CHECK(args.cols > 0 && args.cols <= 0x7fffffff, "[argmax] rows of ", args.cols, " elements");
  launch("argmax", argmax_kernel<T>, blocks_for("argmax", args.rows, 1), row_threads(args.cols, kThreads),
         shared_bytes<float>(kReduceScratch) + shared_bytes<int32_t>(kReduceScratch), stream, args);
}

}  // namespace

void add_index_rows(KernelTable& table) {
  table.gather.set(DType::f32, gather<float>);
  table.gather.set(DType::bf16, gather<bfloat16>);
  table.scatter_add.set(DType::f32, scatter_add<float>);
  table.scatter_add.set(DType::bf16, scatter_add<bfloat16>);
  table.argmax.set(DType::f32, argmax<float>);
  table.argmax.set(DType::bf16, argmax<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
