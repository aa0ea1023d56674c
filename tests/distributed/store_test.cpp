// The store over real sockets.
#include <ondol/distributed/store.h>

#include <fstream>
#include <thread>

#include <sys/socket.h>

#include <gtest/gtest.h>

#include "distributed/store_messages.h"
#include "distributed/store_socket.h"
#include "distributed/wire.h"
#include "support/error_of.h"

namespace ondol {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::error_of;

const std::string kSecret = "0123456789abcdef";

StoreServerOptions local_options() { return {.secret = kSecret, .loopback_only = true}; }

TcpStore connect(const StoreServer& server) { return TcpStore("127.0.0.1", server.port(), kSecret, seconds(10)); }

SocketDeadline soon() { return std::chrono::steady_clock::now() + seconds(10); }

size_t thread_count() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Threads:")) return std::stoul(line.substr(8));
  }
  return 0;
}

TEST(Store, KeepsValues) {
  const StoreServer server(local_options());
  TcpStore store = connect(server);
  const std::string bytes("any\0bytes\xff", 10);
  store.set("key", bytes);
  EXPECT_EQ(store.get("key", seconds(1)), bytes);
  store.set("key", bytes);
  EXPECT_NE(error_of([&] { store.set("key", "other"); }).find("set of \"key\" was refused: it has another value"),
            std::string::npos);
  const std::string large(kMaxStoreValue, 'x');
  store.set("large", large);
  EXPECT_EQ(connect(server).get("large", seconds(1)), large);
  EXPECT_NE(error_of([&] { store.set("larger", large + "x"); }).find("at most"), std::string::npos);
  EXPECT_NE(error_of([&] { store.set(std::string(2000, 'k'), ""); }).find("at most"), std::string::npos);
  EXPECT_EQ(store.get("key", seconds(1)), bytes);  // the connection is as good as before
}

TEST(Store, AddCounts) {
  const StoreServer server(local_options());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      TcpStore store = connect(server);
      for (int k = 0; k < 100; ++k) store.add("ticket", 3);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(connect(server).add("ticket", -1), 1199);
}

TEST(Store, GetWaitsForSet) {
  const StoreServer server(local_options());
  TcpStore waiting = connect(server), setting = connect(server);
  std::string got;
  std::thread reader([&] { got = waiting.get("later", seconds(10)); });
  std::this_thread::sleep_for(milliseconds(100));
  setting.set("later", "value");
  reader.join();
  EXPECT_EQ(got, "value");

  const auto begin = std::chrono::steady_clock::now();
  const std::string error = error_of([&] { waiting.get("never", milliseconds(300)); });
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_NE(error.find("get of \"never\" failed after 0.3 s: no rank has set it (127.0.0.1:"), std::string::npos)
      << error;
  EXPECT_GE(took, milliseconds(300));
  EXPECT_LT(took, seconds(5));
  EXPECT_EQ(waiting.get("later", seconds(1)), "value");
}

TEST(Store, GatherGivesAllValuesAndNamesWhoIsMissing) {
  const StoreServer server(local_options());
  for (int round = 0; round < 3; ++round) {  // the key can be used again
    std::vector<std::vector<std::string>> got(3);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < 3; ++rank) {
      threads.emplace_back([&, rank] {
        got[static_cast<size_t>(rank)] =
            connect(server).gather("all", rank, 3, concat("of ", rank, " in ", round), seconds(10));
      });
    }
    for (std::thread& thread : threads) thread.join();
    const std::vector<std::string> wanted = {concat("of 0 in ", round), concat("of 1 in ", round),
                                             concat("of 2 in ", round)};
    for (const auto& values : got) EXPECT_EQ(values, wanted);
  }
  TcpStore store = connect(server);
  EXPECT_NE(error_of([&] { store.gather("few", 1, 4, "", milliseconds(200)); }).find("ranks 0, 2, 3 did not come"),
            std::string::npos);
  EXPECT_NE(error_of([&] { store.gather("few", 1, 4, "", milliseconds(200)); }).find("given its value already"),
            std::string::npos);
  EXPECT_NE(error_of([&] { store.gather("few", 2, 5, "", milliseconds(200)); }).find("speaks of 5 ranks"),
            std::string::npos);
  EXPECT_NE(error_of([&] { store.gather("x", 5, 5, "", milliseconds(200)); }).find("no rank 5 of 5"),
            std::string::npos);
}

TEST(Store, AnotherSecretIsRefused) {
  const StoreServer server(local_options());
  const std::string error = error_of([&] { TcpStore("127.0.0.1", server.port(), "guess", seconds(10)); });
  EXPECT_NE(error.find("it does not accept the job's secret (127.0.0.1:"), std::string::npos) << error;
  connect(server).set("still", "there");
}

TEST(Store, AServerThatDoesNotKnowTheSecretIsRefused) {
  int port = 0;
  const std::vector<Socket> listeners = listen_sockets(port, true);
  std::thread impostor([&] {
    std::vector<Socket> accepted;
    while (accepted.empty()) {
      for (const Socket& listener : listeners) {
        const int fd = ::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK);
        if (fd >= 0) accepted.emplace_back(fd);
      }
    }
    accepted[0].send_all(framed(encode_greeting(std::string(kNonceBytes, 'n'))), soon());
    char bytes[256];
    accepted[0].receive(bytes, sizeof bytes, soon());
    accepted[0].send_all(framed(std::string(32, 'p')), soon());
  });
  const std::string error = error_of([&] { TcpStore("127.0.0.1", port, kSecret, seconds(10)); });
  impostor.join();
  EXPECT_NE(error.find("it does not know the job's secret"), std::string::npos) << error;
}

TEST(Store, GarbageAndSilentConnectionsDoNoHarm) {
  const StoreServer server(local_options());
  TcpStore store = connect(server);
  const std::vector<std::string> garbage = {"GET / HTTP/1.1\r\n\r\n", std::string(4, '\xff'),
                                            framed(std::string(48, 'x')), framed(""), std::string(100000, 'a')};
  for (const std::string& bytes : garbage) {
    const Socket stranger = connect_socket("127.0.0.1", server.port(), soon());
    char greeting[256];
    EXPECT_GT(stranger.receive(greeting, sizeof greeting, soon()), 0u);
    try {
      stranger.send_all(bytes, soon());
      EXPECT_EQ(stranger.receive(greeting, sizeof greeting, soon()), 0u) << bytes.substr(0, 20);
    } catch (const Error&) {  // reset while something was still under way
    }
  }
  // Far more silent ones than are kept.
  std::vector<Socket> silent;
  for (int i = 0; i < 400; ++i) silent.push_back(connect_socket("127.0.0.1", server.port(), soon()));
  store.set("key", "value");
  EXPECT_EQ(connect(server).get("key", seconds(1)), "value");
  char greeting[256];
  EXPECT_GT(silent[0].receive(greeting, sizeof greeting, soon()), 0u);
  EXPECT_EQ(error_of([&] { EXPECT_EQ(silent[0].receive(greeting, sizeof greeting, soon()), 0u); }), "no error");
}

TEST(Store, DamagedRequestsEndTheirConnectionOnly) {
  const StoreServer server(local_options());
  TcpStore store = connect(server);
  const Socket socket = connect_socket("127.0.0.1", server.port(), soon());
  FrameReader frames(1000);
  char bytes[1000];
  const auto receive = [&] {
    for (;;) {
      if (auto payload = frames.next()) return *payload;
      const size_t got = socket.receive(bytes, sizeof bytes, soon());
      if (got == 0) return std::string("closed");
      frames.append({bytes, got});
    }
  };
  const std::string nonce = decode_greeting(receive());
  socket.send_all(framed(encode_client_proof(kSecret, nonce, std::string(kNonceBytes, 'c'))), soon());
  EXPECT_TRUE(check_server_proof(receive(), kSecret, nonce, std::string(kNonceBytes, 'c')));
  socket.send_all(framed(encode_request({.op = StoreOp::add, .id = 7, .first = 5, .key = "n"})), soon());
  EXPECT_EQ(decode_reply(receive()).number, 5);
  socket.send_all(framed("\x63 no such operation"), soon());
  EXPECT_EQ(receive(), "closed");
  EXPECT_EQ(store.add("n", 1), 6);
}

TEST(Store, NobodyThere) {
  int port = 0;
  { const std::vector<Socket> freed = listen_sockets(port, true); }
  const std::string error = error_of([&] { TcpStore("127.0.0.1", port, kSecret, milliseconds(400)); });
  EXPECT_NE(error.find("cannot reach the store of the job within 0.4 s: Connection refused (127.0.0.1:"),
            std::string::npos)
      << error;
  EXPECT_NE(
      error_of([&] { TcpStore("no-such-host.invalid", port, kSecret, milliseconds(400)); }).find("cannot find host"),
      std::string::npos);
}

TEST(Store, ConnectsOnceTheServerIsThere) {
  int port = 0;
  { const std::vector<Socket> freed = listen_sockets(port, true); }
  std::string got;
  std::thread client([&] { got = error_of([&] { TcpStore("localhost", port, kSecret, seconds(10)).set("a", "b"); }); });
  std::this_thread::sleep_for(milliseconds(300));
  StoreServerOptions options = local_options();
  options.port = port;
  const StoreServer server(options);
  client.join();
  EXPECT_EQ(got, "no error");
  EXPECT_NE(error_of([&] { const StoreServer second(options); }).find("cannot listen to port"), std::string::npos);
}

TEST(Store, IPv6) {
  const StoreServer server(local_options());
  std::unique_ptr<TcpStore> store;
  const std::string error =
      error_of([&] { store = std::make_unique<TcpStore>("::1", server.port(), kSecret, milliseconds(500)); });
  if (store == nullptr) GTEST_SKIP() << "skipped: no IPv6 here (" << error << ")";
  store->set("key", "6");
  EXPECT_EQ(connect(server).get("key", seconds(1)), "6");
  const std::string missing = error_of([&] { store->get("never", milliseconds(1)); });
  EXPECT_NE(missing.find("([::1]:"), std::string::npos) << missing;
}

TEST(Store, TheEndOfTheServerEndsWaiting) {
  auto server = std::make_unique<StoreServer>(local_options());
  TcpStore store = connect(*server);
  std::string error;
  std::thread waiting([&] { error = error_of([&] { store.get("never", seconds(60)); }); });
  std::this_thread::sleep_for(milliseconds(100));
  server.reset();
  waiting.join();
  EXPECT_NE(error.find("lost the store of the job: it has closed the connection"), std::string::npos) << error;
  EXPECT_EQ(error_of([&] { store.add("n", 1); }), error);
}

TEST(Store, InterruptEndsWaiting) {
  const StoreServer server(local_options());
  TcpStore store = connect(server);
  std::string error;
  std::thread waiting([&] { error = error_of([&] { store.get("never", seconds(60)); }); });
  std::this_thread::sleep_for(milliseconds(100));
  store.interrupt("rank 7 has died");
  waiting.join();
  EXPECT_EQ(error, "rank 7 has died");
  EXPECT_EQ(error_of([&] { store.add("n", 1); }), "rank 7 has died");
}

TEST(Store, LeavesNoThread) {
  const size_t before = thread_count();
  for (int i = 0; i < 10; ++i) {
    const StoreServer server(local_options());
    connect(server).set("a", "b");
  }
  EXPECT_EQ(thread_count(), before);
}

}  // namespace
}  // namespace ondol
