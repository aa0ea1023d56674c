// embedding, embedding_backward, gather, scatter_add: rows by index. Additions to one place happen in the order of the
// index list, on one thread.
#include <cstring>

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

constexpr int64_t kColumnGrain = 64;  // four cache lines of floats, so that threads do not write to one line

/// The row of all tables that id number i names.
int64_t table_row(const TableParts& parts, const int32_t* ids, int64_t i) {
  return ids[i] + (parts.ids > 0 ? i / parts.ids * parts.rows : 0);
}

template <class T>
void embedding(const EmbeddingArgs& args, Stream) {
  const T* table = static_cast<const T*>(args.table);
  T* out = static_cast<T*>(args.out);
  parallel_for(args.count, rows_per_piece(args.hidden_size), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(static_cast<void*>(out + i * args.hidden_size),
                  table + table_row(args.parts, args.ids, i) * args.hidden_size,
                  static_cast<size_t>(args.hidden_size) * sizeof(T));
    }
  });
}

template <class To, class From>
void add_to(To* to, const From* from, int64_t begin, int64_t end) {
  for_each_vector(begin, end,
                  [&](int64_t i, auto n) { store_lanes(to + i, load_lanes(to + i, n) + load_lanes(from + i, n), n); });
}

/// The grain that gives a share of the columns to each thread only when there is work for it.
int64_t column_grain(int64_t rows, int64_t cols) { return rows * cols < 16384 ? cols : kColumnGrain; }

template <class T>
void embedding_backward(const EmbeddingBackwardArgs& args, Stream) {
  const int64_t cols = args.hidden_size;
  if (!args.accumulate) {
    parallel_for(args.vocab_size, 65536 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
      std::memset(args.grad_table + begin * cols, 0, static_cast<size_t>((end - begin) * cols) * sizeof(float));
    });
  }
  const T* grad_out = static_cast<const T*>(args.grad_out);
  parallel_for(cols, column_grain(args.count, cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < args.count; ++i) {
      if (args.ids[i] == args.padding_idx) continue;
      add_to(args.grad_table + table_row(args.parts, args.ids, i) * cols, grad_out + i * cols, begin, end);
    }
  });
}

template <class T>
void gather(const GatherArgs& args, Stream) {
  const T* in = static_cast<const T*>(args.in);
  T* out = static_cast<T*>(args.out);
  const int64_t rows = args.outer * args.out_size;
  if (args.inner == 1) {
    parallel_for(args.outer, rows_per_piece(args.out_size), [&](int64_t begin, int64_t end) {
      for (int64_t outer = begin; outer < end; ++outer) {
        const T* from = in + outer * args.in_size;
        const int32_t* index = args.index + outer * args.out_size;
        for (int64_t i = 0; i < args.out_size; ++i) out[outer * args.out_size + i] = from[index[i]];
      }
    });
    return;
  }
  parallel_for(rows, rows_per_piece(args.inner), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from = in + row / args.out_size * args.in_size * args.inner;
      const int32_t* index = args.index + row * args.inner;
      for (int64_t n = 0; n < args.inner; ++n) out[row * args.inner + n] = from[index[n] * args.inner + n];
    }
  });
}

template <class T>
void scatter_add(const ScatterAddArgs& args, Stream) {
  const T* in = static_cast<const T*>(args.in);
  T* out = static_cast<T*>(args.out);
  const int64_t lanes = args.outer * args.inner;  // independent columns
  parallel_for(lanes, 8192 / (args.in_size + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t outer = lane / args.inner, n = lane % args.inner;
      const T* from = in + outer * args.in_size * args.inner + n;
      const int32_t* index = args.index + outer * args.in_size * args.inner + n;
      T* to = out + outer * args.out_size * args.inner + n;
      for (int64_t i = 0; i < args.in_size; ++i) {
        T* target = to + index[i * args.inner] * args.inner;
        *target = T(static_cast<float>(*target) + static_cast<float>(from[i * args.inner]));
      }
    }
  });
}

}  // namespace

void add_embedding_rows(KernelTable& table) {
  table.embedding.set(DType::f32, embedding<float>);
  table.embedding.set(DType::bf16, embedding<bfloat16>);
  table.embedding_backward.set(DType::f32, embedding_backward<float>);
  table.embedding_backward.set(DType::bf16, embedding_backward<bfloat16>);
  table.gather.set(DType::f32, gather<float>);
  table.gather.set(DType::bf16, gather<bfloat16>);
  table.scatter_add.set(DType::f32, scatter_add<float>);
  table.scatter_add.set(DType::bf16, scatter_add<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
