// lamb, adafactor: updates that depend on norms of a whole tensor (rows, cols), f32.
//
// Formulas: in kernel_args.h (LambArgs, AdafactorArgs).
// Mapping: a block for each row takes what runs along it; column sums: a thread for each column and 128 rows, then one
// for each column; the totals: one block; the update: a block for each row. Accumulation: f32 products, sums in double,
// in an order that depends on the shape alone. Tuning: kThreads, kColumnRows, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kColumnRows = 128;

/// out[0], out[1]: the sums of the two halves of (2, rows), each in one order.
__global__ void total_kernel(const double* sums, int64_t rows, double* out) {
  SharedMemory shared;
  double* scratch = shared.take<double>(kReduceScratch);
  for (int half = 0; half < 2; ++half) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < rows; i += blockDim.x) sum += sums[half * rows + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) out[half] = sum;
    block_barrier();
  }
}

__device__ void store(float* param, bfloat16* low_precision, int64_t i, float value) {
  param[i] = value;
  if (low_precision != nullptr) low_precision[i] = from_float<bfloat16>(value);
}

struct LambFactors {
  float inverse1, inverse2;  // 1 / (1 - b^t)
};

__device__ LambFactors lamb_factors(const LambArgs& args) {
  const double t = static_cast<double>(args.scalars->step);
  return {static_cast<float>(1.0 / (1.0 - pow(static_cast<double>(args.beta1), t))),
          static_cast<float>(1.0 / (1.0 - pow(static_cast<double>(args.beta2), t)))};
}

__device__ float lamb_direction(const LambArgs& args, const LambFactors& f, float p, float m, float v) {
  return m * f.inverse1 / (sqrtf(v * f.inverse2) + args.eps) + args.weight_decay * p;
}

__global__ void lamb_moments_kernel(LambArgs args) {
  SharedMemory shared;
  double* scratch = shared.take<double>(kReduceScratch);
  if (args.scalars->skip != 0) return;
  const LambFactors f = lamb_factors(args);
  const float grad_scale = args.scalars->grad_scale;
  const int64_t row = blockIdx.x, begin = row * args.cols;
  double weights = 0.0, updates = 0.0;
  for (int64_t i = begin + threadIdx.x; i < begin + args.cols; i += blockDim.x) {
    const float g = args.grad[i] * grad_scale, p = args.param[i];
    const float m = args.beta1 * args.exp_avg[i] + (1.0f - args.beta1) * g;
    const float v = args.beta2 * args.exp_avg_sq[i] + (1.0f - args.beta2) * g * g;
    args.exp_avg[i] = m;
    args.exp_avg_sq[i] = v;
    const double u = lamb_direction(args, f, p, m, v);
    weights += static_cast<double>(p) * p;
    updates += u * u;
  }
  weights = block_sum(weights, scratch);
  block_barrier();
  updates = block_sum(updates, scratch);
  if (threadIdx.x == 0) {
    args.sums[row] = weights;
    args.sums[args.rows + row] = updates;
  }
}

__global__ void lamb_update_kernel(LambArgs args, const double* totals) {
  if (args.scalars->skip != 0) return;
  const LambFactors f = lamb_factors(args);
  const double weight = sqrt(totals[0]), update = sqrt(totals[1]);
  const double ratio = weight > 0.0 && update > 0.0 ? weight / update : 1.0;
  const float rate = static_cast<float>(ratio * args.scalars->learning_rate * args.rate_scale);
  const int64_t begin = blockIdx.x * args.cols;
  for (int64_t i = begin + threadIdx.x; i < begin + args.cols; i += blockDim.x) {
    const float p = args.param[i];
    store(args.param, args.low_precision, i,
          p - rate * lamb_direction(args, f, p, args.exp_avg[i], args.exp_avg_sq[i]));
  }
}

void lamb(const LambArgs& args, Stream stream) {
  const char* op = "lamb";
  const size_t scratch = shared_bytes<double>(kReduceScratch);
  const unsigned blocks = blocks_for(op, args.rows, 1);
  const Workspace<double> totals(op, 2, stream);
  launch(op, lamb_moments_kernel, blocks, kThreads, scratch, stream, args);
  launch(op, total_kernel, 1, kThreads, scratch, stream, args.sums, args.rows, totals.data());
  launch(op, lamb_update_kernel, blocks, kThreads, 0, stream, args, totals.data());
}

struct AdafactorFactors {
  float keep, fresh;  // of the second moment: b2, 1 - b2
  double rate;        // without the parameter's scale
};

__device__ AdafactorFactors adafactor_factors(const AdafactorArgs& args) {
  const double t = static_cast<double>(args.scalars->step);
  const double fresh = pow(t, static_cast<double>(args.decay));
  double rate = args.scalars->learning_rate;
  if (args.relative_step) {
    const double most = args.warmup_init ? 1e-6 * t : 1e-2, root = 1.0 / sqrt(t);
    rate = most < root ? most : root;
  }
  return {static_cast<float>(1.0 - fresh), static_cast<float>(fresh), rate * args.rate_scale};
}

__device__ float square(const AdafactorArgs& args, float grad_scale, int64_t i) {
  const float g = args.grad[i] * grad_scale;
  return g * g + args.eps1;
}

/// The second moment of each row (of a vector: of each element), and the sum of squares of the parameter's row.
__global__ void adafactor_rows_kernel(AdafactorArgs args) {
  SharedMemory shared;
  double* scratch = shared.take<double>(kReduceScratch);
  if (args.scalars->skip != 0) return;
  const AdafactorFactors f = adafactor_factors(args);
  const float grad_scale = args.scalars->grad_scale;
  const int64_t row = blockIdx.x, begin = row * args.cols;
  double weights = 0.0, squares = 0.0;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x) {
    const float p = args.param[begin + i], s = square(args, grad_scale, begin + i);
    weights += static_cast<double>(p) * p;
    if (args.column != nullptr) {
      squares += s;
    } else {
      args.row[i] = f.keep * args.row[i] + f.fresh * s;
    }
  }
  weights = block_sum(weights, scratch);
  block_barrier();
  squares = block_sum(squares, scratch);
  if (threadIdx.x != 0) return;
  args.sums[row] = weights;
  if (args.column != nullptr) {
    const float mean = static_cast<float>(squares / static_cast<double>(args.cols));
    args.row[row] = f.keep * args.row[row] + f.fresh * mean;
  }
}

/// partial (parts, cols): sums of kColumnRows rows each.
__global__ void adafactor_column_parts_kernel(AdafactorArgs args, int64_t parts, double* partial) {
  const int64_t place = global_thread();
  if (place >= parts * args.cols || args.scalars->skip != 0) return;
  const float grad_scale = args.scalars->grad_scale;
  const int64_t part = place / args.cols, column = place % args.cols;
  const int64_t first = part * kColumnRows;
  const int64_t last = first + kColumnRows < args.rows ? first + kColumnRows : args.rows;
  double sum = 0.0;
  for (int64_t row = first; row < last; ++row) sum += square(args, grad_scale, row * args.cols + column);
  partial[place] = sum;
}

__global__ void adafactor_columns_kernel(AdafactorArgs args, int64_t parts, const double* partial) {
  const int64_t column = global_thread();
  if (column >= args.cols || args.scalars->skip != 0) return;
  const AdafactorFactors f = adafactor_factors(args);
  double sum = 0.0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * args.cols + column];
  const float mean = static_cast<float>(sum / static_cast<double>(args.rows));
  args.column[column] = f.keep * args.column[column] + f.fresh * mean;
}

/// One block: *mean = mean of the row statistics.
__global__ void adafactor_mean_kernel(AdafactorArgs args, float* mean) {
  SharedMemory shared;
  double* scratch = shared.take<double>(kReduceScratch);
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < args.rows; i += blockDim.x) sum += args.row[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *mean = static_cast<float>(sum / static_cast<double>(args.rows));
}

__device__ float adafactor_direction(const AdafactorArgs& args, const float* mean, int64_t row, int64_t i) {
  const float g = args.grad[row * args.cols + i] * args.scalars->grad_scale;
  if (args.column == nullptr) return g / sqrtf(args.row[i]);
  return g / sqrtf(args.row[row] / *mean) / sqrtf(args.column[i]);
}

__global__ void adafactor_norm_kernel(AdafactorArgs args, const float* mean) {
  SharedMemory shared;
  double* scratch = shared.take<double>(kReduceScratch);
  if (args.scalars->skip != 0) return;
  const int64_t row = blockIdx.x;
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x) {
    const double u = adafactor_direction(args, mean, row, i);
    sum += u * u;
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) args.sums[args.rows + row] = sum;
}

__global__ void adafactor_update_kernel(AdafactorArgs args, const float* mean, const double* totals) {
  if (args.scalars->skip != 0) return;
  const double count = static_cast<double>(args.rows) * static_cast<double>(args.cols);
  double rate = adafactor_factors(args).rate;
  if (args.scale_parameter) {
    const double rms = sqrt(totals[0] / count), least = args.eps2;
    rate *= rms > least ? rms : least;
  }
  const double update_rms = sqrt(totals[1] / count) / args.clip;
  const float step_size = static_cast<float>(rate / (update_rms > 1.0 ? update_rms : 1.0));
  const float kept = 1.0f - static_cast<float>(rate) * args.weight_decay;
  const int64_t row = blockIdx.x;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x) {
    const int64_t place = row * args.cols + i;
    float u = step_size * adafactor_direction(args, mean, row, i);
    if (args.exp_avg != nullptr) {
      u = args.beta1 * args.exp_avg[place] + (1.0f - args.beta1) * u;
      args.exp_avg[place] = u;
    }
    store(args.param, args.low_precision, place, args.param[place] * kept - u);
  }
}

void adafactor(const AdafactorArgs& args, Stream stream) {
  const char* op = "adafactor";
  const size_t scratch = shared_bytes<double>(kReduceScratch);
  const unsigned blocks = blocks_for(op, args.rows, 1);
  const Workspace<double> totals(op, 2, stream);
  const Workspace<float> mean(op, 1, stream);
  launch(op, adafactor_rows_kernel, blocks, kThreads, scratch, stream, args);
  if (args.column != nullptr) {
    const int64_t parts = (args.rows + kColumnRows - 1) / kColumnRows;
    const Workspace<double> partial(op, parts * args.cols, stream);
    launch(op, adafactor_column_parts_kernel, blocks_for(op, parts * args.cols, kThreads), kThreads, 0, stream, args,
           parts, partial.data());
    launch(op, adafactor_columns_kernel, blocks_for(op, args.cols, kThreads), kThreads, 0, stream, args, parts,
           partial.data());
    launch(op, adafactor_mean_kernel, 1, kThreads, scratch, stream, args, mean.data());
  }
  launch(op, adafactor_norm_kernel, blocks, kThreads, scratch, stream, args, mean.data());
  launch(op, total_kernel, 1, kThreads, scratch, stream, args.sums, args.rows, totals.data());
  launch(op, adafactor_update_kernel, blocks, kThreads, 0, stream, args, mean.data(), totals.data());
}

}  // namespace

void add_tensor_optimizer_rows(KernelTable& table) {
  table.lamb.set(DType::f32, lamb);
  table.adafactor.set(DType::f32, adafactor);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
