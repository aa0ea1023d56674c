#include <ondol/distributed/communicator.h>

#include <algorithm>

#include "distributed/reduction.h"

namespace ondol {

namespace {

void check_tensor(const char* call, const char* name, const Tensor& tensor, Device device) {
  ONDOL_CHECK(tensor.defined(), "[", call, "] ", name, " is not defined");
  ONDOL_CHECK(tensor.is_contiguous(), "[", call, "] ", name, " ", tensor.shape(), " is not contiguous");
  ONDOL_CHECK(tensor.device() == device, "[", call, "] ", name, " is on ", to_string(tensor.device()),
              ", the communicator works on ", to_string(device));
}

void check_pair(const char* call, const Tensor& out, const Tensor& in, Device device, int64_t out_parts,
                int64_t in_parts) {
  check_tensor(call, "the output", out, device);
  check_tensor(call, "the input", in, device);
  ONDOL_CHECK(out.dtype() == in.dtype(), "[", call, "] the input is ", dtype_name(in.dtype()), ", the output ",
              dtype_name(out.dtype()));
  ONDOL_CHECK(out.numel() * in_parts == in.numel() * out_parts, "[", call, "] ", in.numel(), " elements in and ",
              out.numel(), " out do not fit ", std::max(out_parts, in_parts), " ranks");
}

/// Either apart or `part` at element `offset` of `whole`.
void check_overlap(const char* call, const Tensor& whole, const Tensor& part, int64_t offset) {
  const auto bytes = [](const Tensor& t) { return static_cast<size_t>(t.numel()) * dtype_size(t.dtype()); };
  const char *const w = static_cast<const char*>(whole.raw()), *const p = static_cast<const char*>(part.raw());
  if (bytes(whole) == 0 || bytes(part) == 0 || p + bytes(part) <= w || w + bytes(whole) <= p) return;
  ONDOL_CHECK(p == w + static_cast<size_t>(offset) * dtype_size(whole.dtype()), "[", call,
              "] input and output overlap without being the same");
}

ReduceOptions check_reduce(const char* call, const Tensor& tensor, ReduceOptions reduce, int size) {
  ONDOL_CHECK(can_reduce(tensor.dtype(), reduce.op), "[", call, "] there is no ",
              reduce.op == ReduceOp::sum ? "sum" : "maximum", " of ", dtype_name(tensor.dtype()));
  if (reduce.contributors == -1) reduce.contributors = size;
  ONDOL_CHECK(reduce.contributors >= 0 && reduce.contributors <= size, "[", call, "] ", reduce.contributors,
              " contributors of ", size, " ranks");
  return reduce;
}

void check_rank(const char* call, int rank, int size) {
  ONDOL_CHECK(rank >= 0 && rank < size, "[", call, "] there is no rank ", rank, ": the communicator has ", size);
}

}  // namespace

CommEvent Communicator::all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) {
  check_pair("all_reduce", out, in, options_.device, 1, 1);
  check_overlap("all_reduce", out, in, 0);
  return start_all_reduce(out, in, check_reduce("all_reduce", in, reduce, size()));
}

CommEvent Communicator::reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) {
  check_pair("reduce_scatter", out, in, options_.device, 1, size());
  check_overlap("reduce_scatter", in, out, rank_ * out.numel());
  return start_reduce_scatter(out, in, check_reduce("reduce_scatter", in, reduce, size()));
}

CommEvent Communicator::all_gather(const Tensor& out, const Tensor& in) {
  check_pair("all_gather", out, in, options_.device, size(), 1);
  check_overlap("all_gather", out, in, rank_ * in.numel());
  return start_all_gather(out, in);
}

CommEvent Communicator::broadcast(const Tensor& tensor, int root) {
  check_tensor("broadcast", "the tensor", tensor, options_.device);
  check_rank("broadcast", root, size());
  return start_broadcast(tensor, root);
}

CommEvent Communicator::send(const Tensor& tensor, int to) {
  check_tensor("send", "the tensor", tensor, options_.device);
  check_rank("send", to, size());
  ONDOL_CHECK(to != rank_, "[send] rank ", rank_, " sends to itself");
  return start_send(tensor, to);
}

CommEvent Communicator::recv(const Tensor& tensor, int from) {
  check_tensor("recv", "the tensor", tensor, options_.device);
  check_rank("recv", from, size());
  ONDOL_CHECK(from != rank_, "[recv] rank ", rank_, " receives from itself");
  return start_recv(tensor, from);
}

CommEvent Communicator::barrier() { return start_barrier(); }

std::unique_ptr<Communicator> Communicator::split(int color) {
  const Tensor mine = Tensor::full({1}, color, DType::i64).to(options_.device);
  const Tensor all = Tensor::empty({size()}, DType::i64, options_.device);
  all_gather(all, mine).wait();
  const std::string name = concat(options_.name, "/split", splits_++, "/", color);
  if (color < 0) return nullptr;
  const std::vector<int64_t> colors = all.to_vector<int64_t>();
  std::vector<int> members;
  for (int r = 0; r < size(); ++r) {
    if (colors[static_cast<size_t>(r)] == color) members.push_back(r);
  }
  return make_group(members, name);
}

}  // namespace ondol
