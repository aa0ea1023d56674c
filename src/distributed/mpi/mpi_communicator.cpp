// Messages over MPI. Only its point-to-point calls are used, polled, so that waits have deadlines and sums have the
// order of the tree. All calls of the process are made by whoever does the work of the communication queue, one at a
// time (MPI_THREAD_SERIALIZED).
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <thread>

#include "distributed/message_communicator.h"
#include "distributed/spin.h"

namespace ondol {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kSlice = std::chrono::milliseconds(20);
constexpr std::chrono::microseconds kSpin(50), kYield(200);
/// Control messages: a letter, and after kFailed the text.
constexpr char kAlive = 'a', kLeaving = 'l', kFailed = 'f';
constexpr size_t kMaxControlBytes = 4096;
constexpr size_t kMaxPartBytes = size_t{1} << 30;  // MPI counts in int
/// Tags: one pair for each communicator, numbered by the rank that leads it.
constexpr int kMaxGroups = 64;

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw_error("MPI ", what, ": ", text);
}

/// MPI is begun once in a process and ended with it; not after a failure, so that the launcher notices and ends the
/// others.
class Session {
 public:
  static Session& instance() {
    static Session* const session = new Session();
    return *session;
  }

  int rank = 0, size = 1;
  int groups = 0;
  bool failed = false;
  std::list<std::string> texts;  // of control messages, which may be under way as long as the process lives

 private:
  Session() {
    int begun = 0, level = MPI_THREAD_SINGLE;
    check(MPI_Initialized(&begun), "state");
    if (begun == 0) {
      check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "start");
      std::atexit([] {
        if (!instance().failed) MPI_Finalize();
      });
    } else {
      check(MPI_Query_thread(&level), "thread level");
    }
    ONDOL_CHECK(level >= MPI_THREAD_SERIALIZED, "this MPI cannot be called by more than one thread");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "error handler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size), "size");
  }
};

class MpiCommunicator final : public MessageCommunicator {
 public:
  explicit MpiCommunicator(const CommMembers& members)
      : MessageCommunicator(members),
        peers_(members.world_ranks.size(), Peer{MPI_REQUEST_NULL, Patience(options().silence_timeout)}) {
    Session& session = Session::instance();
    const std::string key = options().name + "/mpi";
    if (rank() == 0) {
      ONDOL_CHECK(session.groups < kMaxGroups, "more than ", kMaxGroups, " communicators over MPI");
      tag_ = (world_rank(0) * kMaxGroups + session.groups++) * 2;
      members.rendezvous->set(key, concat(tag_));
    } else {
      tag_ = std::stoi(members.rendezvous->get(key, options().connect_timeout));
    }
    ONDOL_CHECK(session.rank == world_rank(rank()), "MPI says that this is rank ", session.rank, ", the job ",
                world_rank(rank()));
    ONDOL_CHECK(*std::max_element(world_ranks().begin(), world_ranks().end()) < session.size,
                "cannot use transport mpi: MPI knows of ", session.size,
                " of the ranks only; start them with mpirun or srun");
    open();
  }
  ~MpiCommunicator() override { close(); }

  CommTransport transport() const override { return CommTransport::mpi; }

 private:
  struct Peer {
    MPI_Request control;  // what was said last
    Patience silence;
    bool left = false;
  };
  /// What arrives from a rank.
  struct Arrival {
    int peer;
    uint64_t expected;
    MessageHeader header;
    size_t first, count;  // its requests, that of the header first
    bool checked = false;
  };

  // ---- signs of life ----

  void say(int to, const std::string& text) noexcept {
    Peer& peer = peers_[static_cast<size_t>(to)];
    int done = 1;
    MPI_Test(&peer.control, &done, MPI_STATUS_IGNORE);
    if (done == 0) {
      if (text[0] == kAlive) return;
      MPI_Request_free(&peer.control);
    }
    MPI_Isend(text.data(), static_cast<int>(text.size()), MPI_BYTE, world_rank(to), tag_ + 1, MPI_COMM_WORLD,
              &peer.control);
  }
  void say_to_all(const std::string& text) noexcept {
    for (int r = 0; r < size(); ++r) {
      if (r != rank() && !peers_[static_cast<size_t>(r)].left) say(r, text);
    }
  }

  /// Any thread: the text is sent by who does the work.
  void tell_failure(const std::string&) noexcept override { news_.store(true); }

  void send_news() noexcept {
    if (!news_.exchange(false)) return;
    Session& session = Session::instance();
    session.failed = true;
    try {
      check_failed();
    } catch (const Error& error) {
      session.texts.push_back(kFailed + std::string(error.what()).substr(0, kMaxControlBytes - 1));
      say_to_all(session.texts.back());
    }
  }

  void listen() noexcept {
    for (;;) {
      int there = 0;
      MPI_Status status;
      MPI_Iprobe(MPI_ANY_SOURCE, tag_ + 1, MPI_COMM_WORLD, &there, &status);
      if (there == 0) return;
      char text[kMaxControlBytes];
      int bytes = 0;
      MPI_Recv(text, sizeof(text), MPI_BYTE, status.MPI_SOURCE, tag_ + 1, MPI_COMM_WORLD, &status);
      MPI_Get_count(&status, MPI_BYTE, &bytes);
      const auto found = std::find(world_ranks().begin(), world_ranks().end(), status.MPI_SOURCE);
      if (found == world_ranks().end() || bytes < 1) continue;
      Peer& peer = peers_[static_cast<size_t>(found - world_ranks().begin())];
      peer.silence = Patience(options().silence_timeout);
      if (text[0] == kLeaving) peer.left = true;
      if (text[0] == kFailed) {
        Session::instance().failed = true;
        fail(std::string(text + 1, static_cast<size_t>(bytes) - 1), false);
      }
    }
  }

  void sign_of_life() noexcept override {
    listen();
    send_news();
    static const std::string kSign(1, kAlive);
    say_to_all(kSign);
    for (int r = 0; r < size(); ++r) {
      Peer& peer = peers_[static_cast<size_t>(r)];
      if (r != rank() && !peer.left && peer.silence.over()) {
        fail(waiting_for(concat("rank ", world_rank(r), " gives no sign of life for ",
                                std::chrono::duration<double>(options().silence_timeout).count(), " s")),
             true);
      }
    }
  }

  void farewell() noexcept override {
    send_news();
    static const std::string kFarewell(1, kLeaving);
    say_to_all(kFarewell);
    const Clock::time_point end = Clock::now() + std::chrono::milliseconds(200);
    for (Peer& peer : peers_) {
      int done = 0;
      do {
        MPI_Test(&peer.control, &done, MPI_STATUS_IGNORE);
      } while (done == 0 && Clock::now() < end);
      if (done == 0) MPI_Request_free(&peer.control);
    }
  }

  // ---- messages ----

  void exchange(const std::vector<Message>& outgoing, const std::vector<Message>& incoming) override {
    requests_.clear();
    arrivals_.clear();
    headers_.clear();
    for (const Message& message : incoming) {
      arrivals_.push_back({.peer = message.peer, .expected = bytes_of(message), .header = {}, .first = 0, .count = 0});
    }
    for (size_t i = 0; i < incoming.size(); ++i) {
      Arrival& arrival = arrivals_[i];
      arrival.first = requests_.size();
      receive(&arrival.header, sizeof(MessageHeader), arrival.peer);
      receive_places(incoming[i]);
      arrival.count = requests_.size() - arrival.first;
    }
    for (const Message& message : outgoing) headers_.push_back({current(), bytes_of(message)});
    for (size_t i = 0; i < outgoing.size(); ++i) {
      transmit(&headers_[i], sizeof(MessageHeader), outgoing[i].peer);
      transmit_places(outgoing[i]);
    }
    try {
      wait_for_requests();
    } catch (...) {
      // What is under way may still write to the places: it must be stopped before they are given back.
      for (MPI_Request& request : requests_) {
        if (request == MPI_REQUEST_NULL) continue;
        MPI_Cancel(&request);
        MPI_Request_free(&request);
      }
      throw;
    }
  }

  static uint64_t bytes_of(const Message& message) {
    uint64_t bytes = 0;
    for (const Bytes& place : message.places) bytes += place.size;
    return bytes;
  }
  /// The other side may have cut the same bytes into other places: several are one MPI message all the same.
  class PlacesType {
   public:
    explicit PlacesType(const std::vector<Bytes>& places) {
      std::vector<int> sizes;
      std::vector<MPI_Aint> addresses;
      for (const Bytes& place : places) {
        sizes.push_back(static_cast<int>(place.size));
        addresses.push_back(reinterpret_cast<MPI_Aint>(place.data));
      }
      check(MPI_Type_create_hindexed(static_cast<int>(sizes.size()), sizes.data(), addresses.data(), MPI_BYTE, &type),
            "type");
      check(MPI_Type_commit(&type), "type");
    }
    ~PlacesType() { MPI_Type_free(&type); }
    PlacesType(const PlacesType&) = delete;
    PlacesType& operator=(const PlacesType&) = delete;

    MPI_Datatype type = MPI_DATATYPE_NULL;
  };
  void receive_places(const Message& message) {
    if (message.places.empty()) return;
    if (message.places.size() == 1) return receive(message.places[0].data, message.places[0].size, message.peer);
    const PlacesType places(message.places);
    requests_.push_back(MPI_REQUEST_NULL);
    check(MPI_Irecv(MPI_BOTTOM, 1, places.type, world_rank(message.peer), tag_, MPI_COMM_WORLD, &requests_.back()),
          "receive");
  }
  void transmit_places(const Message& message) {
    if (message.places.empty()) return;
    if (message.places.size() == 1) return transmit(message.places[0].data, message.places[0].size, message.peer);
    const PlacesType places(message.places);
    requests_.push_back(MPI_REQUEST_NULL);
    check(MPI_Isend(MPI_BOTTOM, 1, places.type, world_rank(message.peer), tag_, MPI_COMM_WORLD, &requests_.back()),
          "send");
  }
  void receive(void* data, size_t bytes, int peer) {
    for (size_t done = 0; done < bytes; done += kMaxPartBytes) {
      requests_.push_back(MPI_REQUEST_NULL);
      check(MPI_Irecv(static_cast<std::byte*>(data) + done, static_cast<int>(std::min(kMaxPartBytes, bytes - done)),
                      MPI_BYTE, world_rank(peer), tag_, MPI_COMM_WORLD, &requests_.back()),
            "receive");
    }
  }
  void transmit(const void* data, size_t bytes, int peer) {
    for (size_t done = 0; done < bytes; done += kMaxPartBytes) {
      requests_.push_back(MPI_REQUEST_NULL);
      check(
          MPI_Isend(static_cast<const std::byte*>(data) + done, static_cast<int>(std::min(kMaxPartBytes, bytes - done)),
                    MPI_BYTE, world_rank(peer), tag_, MPI_COMM_WORLD, &requests_.back()),
          "send");
    }
  }

  void wait_for_requests() {
    Patience patience(options().collective_timeout);
    const Clock::time_point start = Clock::now();
    Clock::time_point looked = start, counted = start;
    for (;;) {
      int done = 0;
      // A rank that makes another call sends something else, which may not fit: the header says what it is.
      const int status = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
      check_headers();
      check(status, "exchange");
      const Clock::time_point now = Clock::now();
      add_late(awaited(), std::chrono::duration<double>(now - counted).count());
      counted = now;
      if (done != 0) return;
      // Nothing but these calls moves the bytes, so that sleeping is for ranks that are late.
      if (now - start < kSpin) {
        pause_briefly();
      } else if (now - start < kYield) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
      if (now - looked < kSlice) continue;
      looked = now;
      look_around(awaited(), patience);
    }
  }

  void check_headers() {
    for (Arrival& a : arrivals_) {
      if (a.checked || a.header.mark.number == 0) continue;
      a.checked = true;
      check_header(a.peer, a.header, a.expected);
    }
  }

  int awaited() const {
    for (const Arrival& a : arrivals_) {
      if (!a.checked) return a.peer;
    }
    return arrivals_.empty() ? rank() : arrivals_.back().peer;
  }

  std::unique_ptr<Communicator> make_group(const std::vector<int>& members, const std::string& name) override {
    const CommMembers group = group_of(members, name);
    if (group.world_ranks.size() == 1) return make_single_communicator(group);
    return make_mpi_communicator(group);
  }

  int tag_ = 0;
  std::vector<Peer> peers_;
  std::atomic<bool> news_{false};
  std::vector<MPI_Request> requests_;
  std::vector<Arrival> arrivals_;
  std::vector<MessageHeader> headers_;
};

}  // namespace

bool mpi_available() { return true; }

bool started_by_mpi() {
  // Open MPI and the process manager interfaces of SLURM and MPICH.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

std::unique_ptr<Communicator> make_mpi_communicator(const CommMembers& members) {
  return std::make_unique<MpiCommunicator>(members);
}

}  // namespace ondol
