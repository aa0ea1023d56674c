#include <algorithm>
#include <array>
#include <numeric>
#include <sstream>

#include <ondol/distributed/communicator.h>

#include "distributed/transports.h"

namespace ondol {

namespace {

constexpr const char* kRefusal = "refused: ";
constexpr std::array<const char*, 6> kNames = {"auto", "single", "shm", "tcp", "mpi", "nccl"};

/// What a rank says of itself, so that all choose the same transport.
struct Introduction {
  CommTransport wanted = CommTransport::automatic;
  DeviceType device = DeviceType::cpu;
  bool deterministic = true;
  bool started_by_mpi = false;
  std::string host;
};

std::string written(const Introduction& i) {
  return concat(comm_transport_name(i.wanted), " ", static_cast<int>(i.device), " ", i.deterministic, " ",
                i.started_by_mpi, " ", i.host);
}

Introduction read(const std::string& text, int rank) {
  std::istringstream in(text);
  std::string wanted, host;
  int device = 0;
  Introduction i;
  in >> wanted >> device >> i.deterministic >> i.started_by_mpi >> i.host;
  ONDOL_CHECK(!in.fail(), "rank ", rank, " introduces itself with \"", text, "\"");
  i.wanted = comm_transport_from_name(wanted);
  i.device = static_cast<DeviceType>(device);
  return i;
}

CommTransport choose_transport(const std::vector<Introduction>& ranks) {
  const Introduction& first = ranks.front();
  for (size_t r = 1; r < ranks.size(); ++r) {
    if (ranks[r].wanted != first.wanted || ranks[r].device != first.device ||
        ranks[r].deterministic != first.deterministic) {
      throw UsageError(
          concat("rank ", r, " wants ", ranks[r].deterministic ? "deterministic " : "", "transport ",
                 comm_transport_name(ranks[r].wanted), " for ", ranks[r].device == DeviceType::cpu ? "CPUs" : "GPUs",
                 ", rank 0 ", first.deterministic ? "deterministic " : "", comm_transport_name(first.wanted), " for ",
                 first.device == DeviceType::cpu ? "CPUs" : "GPUs"),
          "start all ranks with the same configuration");
    }
  }
  if (first.device == DeviceType::cuda) {
    if (first.wanted != CommTransport::automatic && first.wanted != CommTransport::nccl) {
      throw UsageError(concat("transport ", comm_transport_name(first.wanted), " does not serve GPUs"),
                       "use nccl or auto");
    }
    return CommTransport::nccl;
  }
  if (first.wanted == CommTransport::nccl) throw UsageError("transport nccl serves GPUs only", "use auto");
  if (first.wanted == CommTransport::single) {
    throw UsageError(concat("transport single serves one process, not ", ranks.size()), "use auto");
  }
  if (first.wanted != CommTransport::automatic) return first.wanted;
  const auto all = [&](const auto& holds) { return std::all_of(ranks.begin(), ranks.end(), holds); };
  if (all([&](const Introduction& r) { return r.host == first.host; })) return CommTransport::shm;
  if (all([&](const Introduction& r) { return r.started_by_mpi; })) return CommTransport::mpi;
  return CommTransport::tcp;
}

/// Rank 0 looks at all and tells the others.
template <class Key>
CommTransport agree(const RankInfo& info, Rendezvous& meeting, const CommunicatorOptions& options, const Key& key) {
  const std::string decision = options.name + "/transport";
  if (info.rank > 0) {
    const std::string text = meeting.get(decision, options.connect_timeout);
    if (text.starts_with(kRefusal)) throw UsageError(text.substr(std::string_view(kRefusal).size()));
    return comm_transport_from_name(text);
  }
  std::vector<Introduction> ranks;
  for (int r = 0; r < info.size; ++r) ranks.push_back(read(meeting.get(key(r), options.connect_timeout), r));
  try {
    const CommTransport transport = choose_transport(ranks);
    meeting.set(decision, comm_transport_name(transport));
    return transport;
  } catch (const UsageError& error) {
    meeting.set(decision, concat(kRefusal, error.what()));
    throw;
  }
}

}  // namespace

CommTransport comm_transport_from_name(const std::string& name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) {
    throw UsageError(concat("there is no transport \"", name, "\""), "use auto, single, shm, tcp, mpi or nccl");
  }
  return static_cast<CommTransport>(found - kNames.begin());
}

const char* comm_transport_name(CommTransport transport) { return kNames[static_cast<size_t>(transport)]; }

bool comm_transport_available(CommTransport transport) {
  if (transport == CommTransport::mpi) return mpi_available();
  if (transport == CommTransport::nccl) return nccl_available();
  return true;
}

std::unique_ptr<Communicator> make_communicator(const RankInfo& info, std::shared_ptr<Rendezvous> rendezvous,
                                                const CommunicatorOptions& options) {
  ONDOL_CHECK(info.size > 0 && info.rank >= 0 && info.rank < info.size, "rank ", info.rank, " of ", info.size);
  CommMembers members{.rank = info.rank, .rendezvous = std::move(rendezvous), .options = options};
  members.world_ranks.resize(static_cast<size_t>(info.size));
  std::iota(members.world_ranks.begin(), members.world_ranks.end(), 0);
  // NCCL by request serves a single GPU too, which is how a machine with one tries it.
  if (info.size == 1 && options.transport != CommTransport::nccl) return make_single_communicator(members);

  Rendezvous& meeting = *members.rendezvous;
  const auto key = [&](int rank) { return concat(options.name, "/rank/", rank); };
  meeting.set(key(info.rank),
              written({options.transport, options.device.type, options.deterministic, started_by_mpi(), shm_host()}));
  const CommTransport transport = agree(info, meeting, options, key);
  if (!comm_transport_available(transport)) {
    throw UsageError(concat("this build has no transport ", comm_transport_name(transport)),
                     transport == CommTransport::nccl ? "configure with -DONDOL_CUDA=ON -DONDOL_NCCL=ON"
                                                      : "configure with -DONDOL_MPI=ON, or use auto");
  }
  if (transport == CommTransport::nccl) return make_nccl_communicator(members);
  members.host_address = info.master_address;
  members.queue = CommQueue::start();
  if (transport == CommTransport::shm) return make_shm_communicator(members);
  if (transport == CommTransport::mpi) return make_mpi_communicator(members);
  return make_tcp_communicator(members);
}

}  // namespace ondol
