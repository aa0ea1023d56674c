#include "distributed/collective_cases.h"

#include <cmath>
#include <cstring>

namespace ondol::testing {

namespace {

uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/// What rank `rank` holds at `index`: of very different magnitudes, so that every order of addition rounds differently.
template <class T>
T value(int rank, int64_t index, int seed) {
  const uint64_t bits = mixed(static_cast<uint64_t>(index) * 1009 + static_cast<uint64_t>(rank * 31 + seed));
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(bits);
  } else {
    const double mantissa = static_cast<double>(bits >> 40) / (1 << 24) - 0.5;
    return static_cast<T>(static_cast<float>(std::ldexp(mantissa, static_cast<int>(bits % 13))));
  }
}

template <class T>
T add(T a, T b) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return bfloat16(static_cast<float>(a) + static_cast<float>(b));
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return static_cast<T>(a + b);
  }
}

template <class T>
T maximum(T a, T b) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return static_cast<float>(a) > static_cast<float>(b) ? a : b;
  } else {
    return a > b ? a : b;
  }
}

/// The binary counter: two sums over 2^k values each that meet become one over 2^(k+1).
template <class T, class Op>
T tree(const T* values, int count, const Op& op) {
  T sums[16];
  int sizes[16];
  int alive = 0;
  const auto merge = [&] {
    --alive;
    sums[alive - 1] = op(sums[alive - 1], sums[alive]);
    ++sizes[alive - 1];
  };
  for (int i = 0; i < count; ++i) {
    sums[alive] = values[i];
    sizes[alive++] = 0;
    while (alive > 1 && sizes[alive - 1] == sizes[alive - 2]) merge();
  }
  while (alive > 1) merge();
  return alive == 0 ? T{} : sums[0];
}

template <class T>
class Cases {
 public:
  Cases(Communicator& world, int64_t large) : world_(world), large_(large) {}

  int run() {
    all_reduce(large_, true, 1, -1, ReduceOp::sum);
    all_reduce(large_, false, 0, world_.size() - 1, ReduceOp::sum);
    reduce_scatter(large_ / world_.size(), true, 1, -1);
    all_gather(large_ / world_.size(), false, 1);
    broadcast(large_, world_.size() - 1);
    pass_around(large_);
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{15}, int64_t{17}, int64_t{700}}) {
      for (const bool in_place : {true, false}) {
        for (const int offset : {0, 1}) {
          all_reduce(count, in_place, offset, -1, ReduceOp::sum);
          reduce_scatter(count, in_place, offset, -1);
          all_gather(count, in_place, offset);
        }
      }
      for (int contributors = 0; contributors < world_.size(); ++contributors) {
        all_reduce(count, true, 0, contributors, ReduceOp::sum);
        reduce_scatter(count, false, 1, contributors);
      }
      all_reduce(count, false, 1, -1, ReduceOp::max);
      for (int root = 0; root < world_.size(); ++root) broadcast(count, root);
      pass_around(count);
    }
    return cases_;
  }

 private:
  /// `count` elements that begin `offset` elements behind an allocation.
  Tensor tensor(int64_t count, int offset) const {
    return Tensor::zeros({count + offset}, dtype_of<T>::value, world_.options().device).narrow(0, offset, count);
  }
  Tensor filled(int64_t count, int offset, int seed) const {
    std::vector<T> values(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = value<T>(world_.rank(), i, seed);
    const Tensor out = tensor(count, offset);
    if (count > 0) out.copy_from(Tensor::from_vector(values, {count}, world_.options().device));
    return out;
  }
  T expected(int64_t i, int seed, int contributors, ReduceOp op) const {
    T values[64];
    const int count = contributors < 0 ? world_.size() : contributors;
    for (int r = 0; r < count; ++r) values[r] = value<T>(r, i, seed);
    const T sum = op == ReduceOp::sum ? tree(values, count, add<T>) : tree(values, count, maximum<T>);
    if constexpr (std::is_floating_point_v<T>) {
      // The order of the tree is right and, by a plain sum, so is what it stands for.
      double plain = 0, size = 0;
      for (int r = 0; r < count; ++r) plain += values[r], size += std::abs(values[r]);
      ONDOL_CHECK(op != ReduceOp::sum || std::abs(plain - sum) <= 1e-5 * size, "the test's own tree is wrong");
    }
    return sum;
  }
  template <class Expected>
  void compare(const std::string& what, const Tensor& tensor, const Expected& wanted) {
    ++cases_;
    const std::vector<T> got = tensor.template to_vector<T>();
    for (size_t i = 0; i < got.size(); ++i) {
      const T want = wanted(static_cast<int64_t>(i));
      ONDOL_CHECK(std::memcmp(&got[i], &want, sizeof(T)) == 0, what, " of ", got.size(), " ",
                  dtype_name(tensor.dtype()), ": element ", i, " is wrong on rank ", world_.rank(), " of ",
                  world_.size());
    }
  }

  void all_reduce(int64_t count, bool in_place, int offset, int contributors, ReduceOp op) {
    const int seed = ++seed_;
    const Tensor in = filled(count, offset, seed), out = in_place ? in : tensor(count, offset);
    world_.all_reduce(out, in, {op, contributors}).wait();
    compare("all_reduce", out, [&](int64_t i) { return expected(i, seed, contributors, op); });
    if (!in_place) compare("input of all_reduce", in, [&](int64_t i) { return value<T>(world_.rank(), i, seed); });
  }

  void reduce_scatter(int64_t count, bool in_place, int offset, int contributors) {
    const int seed = ++seed_;
    const int64_t all = count * world_.size();
    const Tensor in = filled(all, offset, seed);
    const Tensor out = in_place ? in.narrow(0, world_.rank() * count, count) : tensor(count, offset);
    world_.reduce_scatter(out, in, {ReduceOp::sum, contributors}).wait();
    compare("reduce_scatter", out,
            [&](int64_t i) { return expected(world_.rank() * count + i, seed, contributors, ReduceOp::sum); });
    if (!in_place) compare("input of reduce_scatter", in, [&](int64_t i) { return value<T>(world_.rank(), i, seed); });
  }

  void all_gather(int64_t count, bool in_place, int offset) {
    const int seed = ++seed_;
    const Tensor values = filled(count, offset, seed), out = tensor(count * world_.size(), offset);
    Tensor in = values;
    if (in_place) {
      in = out.narrow(0, world_.rank() * count, count);
      if (count > 0) in.copy_from(values);
    }
    world_.all_gather(out, in).wait();
    compare("all_gather", out, [&](int64_t i) { return value<T>(static_cast<int>(i / count), i % count, seed); });
  }

  void broadcast(int64_t count, int root) {
    const int seed = ++seed_;
    const Tensor tensor = filled(count, 0, seed);
    world_.broadcast(tensor, root).wait();
    compare("broadcast", tensor, [&](int64_t i) { return value<T>(root, i, seed); });
  }

  /// Everybody sends to the next rank; the last one receives first.
  void pass_around(int64_t count) {
    if (world_.size() == 1) return;
    const int seed = ++seed_;
    const int next = (world_.rank() + 1) % world_.size(), before = (world_.rank() + world_.size() - 1) % world_.size();
    const Tensor mine = filled(count, 0, seed), theirs = tensor(count, 0);
    if (next == 0) world_.recv(theirs, before).wait();
    world_.send(mine, next).wait();
    if (next != 0) world_.recv(theirs, before).wait();
    compare("recv", theirs, [&](int64_t i) { return value<T>(before, i, seed); });
  }

  Communicator& world_;
  const int64_t large_;
  int seed_ = 0, cases_ = 0;
};

/// Calls of all kinds in one go, waited for in another order.
int run_many_calls(Communicator& world) {
  struct Call {
    Tensor tensor;
    CommEvent event;
    int64_t count;
    int kind;
  };
  std::vector<Call> calls;
  for (int i = 0; i < 120; ++i) {
    Call call{.count = static_cast<int64_t>(mixed(static_cast<uint64_t>(i)) % 30000), .kind = i % 4};
    if (call.kind == 0) {
      call.tensor = Tensor::full({call.count}, world.rank() + i, DType::f32, world.options().device);
      call.event = world.all_reduce(call.tensor);
    } else if (call.kind == 1) {
      call.tensor = Tensor::full({call.count * world.size()}, -1, DType::i64, world.options().device);
      const Tensor mine = call.tensor.narrow(0, world.rank() * call.count, call.count);
      if (call.count > 0) mine.fill(world.rank() + i);
      call.event = world.all_gather(call.tensor, mine);
    } else if (call.kind == 2) {
      call.tensor = Tensor::full({call.count}, world.rank() * 100 + i, DType::f32, world.options().device);
      call.event = world.broadcast(call.tensor, i % world.size());
    } else {
      call.event = world.barrier();
    }
    calls.push_back(std::move(call));
  }
  for (size_t step = 0; step < calls.size(); ++step) {
    const size_t i = (step * 71 + 5) % calls.size();
    Call& call = calls[i];
    call.event.wait();
    ONDOL_CHECK(call.event.done(), "an event is not done after wait()");
    if (call.kind == 3) continue;
    const std::vector<double> values = call.tensor.to(DType::f64).to_vector<double>();
    const int ranks = world.size(), number = static_cast<int>(i);
    for (size_t e = 0; e < values.size(); ++e) {
      double wanted = ranks * (ranks - 1) / 2 + ranks * number;
      if (call.kind == 1) wanted = static_cast<double>(static_cast<int64_t>(e) / call.count + number);
      if (call.kind == 2) wanted = number % ranks * 100 + number;
      ONDOL_CHECK(values[e] == wanted, "call ", i, " element ", e, ": ", values[e], " instead of ", wanted);
    }
  }
  return static_cast<int>(calls.size());
}

/// A sum of -0 stays -0 when other ranks add nothing.
int run_signed_zero(Communicator& world) {
  const Tensor tensor = Tensor::full({9}, world.rank() == 0 ? -0.0 : 5.0, DType::f32, world.options().device);
  world.all_reduce(tensor, {ReduceOp::sum, 1}).wait();
  for (const float x : tensor.to_vector<float>()) {
    ONDOL_CHECK(x == 0 && std::signbit(x), "-0 of rank 0 has become ", x);
  }
  return 1;
}

int run_split(Communicator& world) {
  const std::unique_ptr<Communicator> pairs = world.split(world.rank() / 2);
  ONDOL_CHECK(pairs->world_rank(pairs->rank()) == world.rank(), "split has mixed up ranks");
  const Tensor sum = Tensor::full({3}, world.rank() + 1, DType::f64, world.options().device);
  const CommEvent of_pair = pairs->all_reduce(sum);
  const Tensor other = Tensor::full({3}, 1, DType::f64, world.options().device);
  const CommEvent of_world = world.all_reduce(other);
  of_pair.wait();
  of_world.wait();
  double wanted = 0;
  for (int r = 0; r < world.size(); ++r) wanted += r / 2 == world.rank() / 2 ? r + 1 : 0;
  ONDOL_CHECK(sum.to_vector<double>()[2] == wanted && other.to_vector<double>()[0] == world.size(), "sum in a group");
  // Rank 0 stays away.
  const std::unique_ptr<Communicator> rest = world.split(world.rank() == 0 ? -1 : 7);
  ONDOL_CHECK((rest == nullptr) == (world.rank() == 0), "a negative color gives no communicator");
  if (rest) rest->barrier().wait();
  world.barrier().wait();
  return 2;
}

}  // namespace

int run_collective_cases(Communicator& world, int64_t large, bool every_type) {
  int cases = Cases<float>(world, large).run();
  if (every_type) {
    cases += Cases<double>(world, large / 10).run();
    cases += Cases<bfloat16>(world, large / 3).run();
    cases += Cases<int64_t>(world, large / 10).run();
  }
  cases += run_many_calls(world) + run_signed_zero(world) + run_split(world);
  return cases;
}

}  // namespace ondol::testing
