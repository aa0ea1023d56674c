#include "distributed/message_communicator.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "distributed/reduction.h"

namespace ondol {

namespace {

/// Of a tensor at a time.
constexpr size_t kPieceBytes = 4u << 20;

void copy_bytes(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

}  // namespace

void MessageCommunicator::reduce_parts(const Parts& parts, const Kind& kind) {
  const size_t me = static_cast<size_t>(rank());
  if (kind.reduce.contributors == 0) {
    std::memset(parts.base + parts.begin[me], 0, parts.size[me]);
  } else if (is_power_of_two(size())) {
    reduce_by_halving(parts, kind);
  } else {
    reduce_by_exchange(parts, kind);
  }
}

void MessageCommunicator::reduce_by_halving(const Parts& parts, const Kind& kind) {
  const size_t element = dtype_size(kind.dtype);
  for (int bit = 0; 1 << bit < size(); ++bit) {
    const int partner = rank() ^ 1 << bit;
    // What both have is the sum over 2^bit ranks, the last of which may have nothing.
    const bool mine = (rank() >> bit << bit) < kind.reduce.contributors;
    const bool theirs = (partner >> bit << bit) < kind.reduce.contributors;
    const std::vector<Bytes> kept = parts.places(bit + 1, rank());
    std::vector<Message> outgoing, incoming;
    if (mine) outgoing.push_back({partner, parts.places(bit + 1, partner)});
    if (theirs && !mine) incoming.push_back({partner, kept});
    if (theirs && mine) {
      size_t bytes = 0;
      for (const Bytes& place : kept) bytes += place.size;
      arrived_.resize(std::max(arrived_.size(), bytes));
      incoming.push_back({partner, {{arrived_.data(), bytes}}});
    }
    exchange(outgoing, incoming);
    if (!mine || !theirs) continue;
    const std::byte* other = arrived_.data();
    for (const Bytes& place : kept) {
      const void* pair[2] = {place.data, other};
      if (partner < rank()) std::swap(pair[0], pair[1]);
      reduce_tree(place.data, pair, static_cast<int64_t>(place.size / element), kind.dtype, kind.reduce.op);
      other += place.size;
    }
  }
}

void MessageCommunicator::reduce_by_exchange(const Parts& parts, const Kind& kind) {
  const size_t me = static_cast<size_t>(rank());
  const size_t bytes = parts.size[me];
  std::byte* const own = parts.base + parts.begin[me];
  arrived_.resize(std::max(arrived_.size(), bytes * static_cast<size_t>(kind.reduce.contributors)));
  std::vector<Message> outgoing, incoming;
  sources_.clear();
  for (int r = 0; r < kind.reduce.contributors; ++r) {
    std::byte* const place = r == rank() ? own : arrived_.data() + static_cast<size_t>(r) * bytes;
    sources_.push_back(place);
    if (r != rank()) incoming.push_back({r, {{place, bytes}}});
  }
  for (int r = 0; r < size() && rank() < kind.reduce.contributors; ++r) {
    if (r != rank()) outgoing.push_back({r, {parts.of(r)}});
  }
  exchange(outgoing, incoming);
  reduce_tree(own, sources_, static_cast<int64_t>(bytes / dtype_size(kind.dtype)), kind.dtype, kind.reduce.op);
}

void MessageCommunicator::gather_parts(const Parts& parts) {
  if (is_power_of_two(size())) {
    for (int bit = std::bit_width(static_cast<unsigned>(size())) - 2; bit >= 0; --bit) {
      const int partner = rank() ^ 1 << bit;
      exchange({{partner, parts.places(bit + 1, rank())}}, {{partner, parts.places(bit + 1, partner)}});
    }
    return;
  }
  std::vector<Message> outgoing, incoming;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    outgoing.push_back({r, {parts.of(rank())}});
    incoming.push_back({r, {parts.of(r)}});
  }
  exchange(outgoing, incoming);
}

void MessageCommunicator::do_all_reduce(void* out, const void* in, int64_t count, DType dtype,
                                        const ReduceOptions& reduce) {
  const size_t element = dtype_size(dtype);
  const size_t bytes = static_cast<size_t>(count) * element, step = kPieceBytes / element * element;
  for (size_t done = 0; done < bytes; done += step) {
    const size_t elements = std::min(step, bytes - done) / element;
    const Parts parts = cut_for_reduction(static_cast<std::byte*>(out) + done, elements, element, size());
    if (rank() < reduce.contributors)
      copy_bytes(parts.base, static_cast<const std::byte*>(in) + done, elements * element);
    reduce_parts(parts, {dtype, reduce});
    gather_parts(parts);
  }
}

void MessageCommunicator::do_reduce_scatter(void* out, const void* in, int64_t count, DType dtype,
                                            const ReduceOptions& reduce) {
  const size_t element = dtype_size(dtype), ranks = static_cast<size_t>(size()), me = static_cast<size_t>(rank());
  const size_t bytes = static_cast<size_t>(count) * element;
  const size_t step = std::max<size_t>(1, kPieceBytes / ranks / element) * element;
  const std::byte* const from = static_cast<const std::byte*>(in);
  for (size_t done = 0; done < bytes; done += step) {
    const size_t width = std::min(step, bytes - done);
    work_.resize(std::max(work_.size(), width * ranks));
    const Parts parts = cut_slices(work_.data(), width, 0, width, size());
    for (size_t r = 0; r < ranks; ++r) {
      if (rank() < reduce.contributors) copy_bytes(work_.data() + r * width, from + r * bytes + done, width);
    }
    reduce_parts(parts, {dtype, reduce});
    copy_bytes(static_cast<std::byte*>(out) + done, work_.data() + me * width, width);
  }
}

void MessageCommunicator::do_all_gather(void* out, const void* in, size_t bytes) {
  const size_t ranks = static_cast<size_t>(size()), me = static_cast<size_t>(rank());
  const size_t step = std::max<size_t>(1, kPieceBytes / ranks);
  std::byte* const to = static_cast<std::byte*>(out);
  copy_bytes(to + me * bytes, static_cast<const std::byte*>(in), bytes);
  for (size_t done = 0; done < bytes; done += step) {
    gather_parts(cut_slices(to, bytes, done, std::min(step, bytes - done), size()));
  }
}

void MessageCommunicator::do_broadcast(void* data, size_t bytes, int root) {
  const int place = (rank() - root + size()) % size();  // in a binomial tree below the root
  const auto rank_at = [&](int p) { return (p + root) % size(); };
  for (size_t done = 0; done < bytes; done += kPieceBytes) {
    const Bytes piece{static_cast<std::byte*>(data) + done, std::min(kPieceBytes, bytes - done)};
    const int reach = place == 0 ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(size()))) : place & -place;
    if (place != 0) exchange({}, {{rank_at(place - reach), {piece}}});
    std::vector<Message> outgoing;
    for (int distance = reach / 2; distance > 0; distance /= 2) {
      if (place + distance < size()) outgoing.push_back({rank_at(place + distance), {piece}});
    }
    if (!outgoing.empty()) exchange(outgoing, {});
  }
}

void MessageCommunicator::do_barrier() {
  for (int distance = 1; distance < size(); distance *= 2) {
    exchange({{(rank() + distance) % size(), {}}}, {{(rank() - distance + size()) % size(), {}}});
  }
}

void MessageCommunicator::do_send(const void* data, size_t bytes, int to) {
  exchange({{to, {{static_cast<std::byte*>(const_cast<void*>(data)), bytes}}}}, {});
}

void MessageCommunicator::check_header(int peer, const MessageHeader& header, uint64_t expected) const {
  const CallMark& theirs = header.mark;
  if (current().kind != CallMark::recv) {
    if (!(theirs == current()) || header.bytes != expected) throw Error(differs(peer, theirs));
  } else if (theirs.kind != CallMark::send || header.bytes != expected) {
    throw Error(waiting_for(
        concat("rank ", world_rank(peer), " comes with ", to_string(theirs), ", ", expected, " bytes were expected")));
  }
}

void MessageCommunicator::look_around(int peer, Patience& patience) {
  check_failed();
  keep_alive();
  check_failed();
  if (patience.over()) throw_late(peer);
}

void MessageCommunicator::do_recv(void* data, size_t bytes, int from) {
  exchange({}, {{from, {{static_cast<std::byte*>(data), bytes}}}});
}

}  // namespace ondol
