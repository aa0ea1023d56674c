// The fuzz targets on their seeds and a fixed number of mutations of them, in every test run and with any compiler.
// ONDOL_FUZZ_ROUNDS asks for another number of mutations.
#include <cctype>
#include <cstdlib>

#include <ondol/base/error.h>

#include <gtest/gtest.h>

#include "fuzz/mutator.h"
#include "fuzz/targets.h"

namespace ondol::fuzz {
namespace {

std::string printable(const std::string& bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes.substr(0, 2000)) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isprint(byte) && c != '\\') {
      text += c;
    } else {
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return text;
}

class Replay : public ::testing::TestWithParam<Target> {
 protected:
  static void run(const std::string& input, const std::string& what) {
    try {
      GetParam().run(input);
    } catch (const std::exception& finding) {
      FAIL() << what << ": " << finding.what() << "\ninput: " << printable(input);
    }
  }
};

TEST_P(Replay, SeedsAndMutations) {
  const std::vector<std::string> seeds = GetParam().seeds();
  ASSERT_GE(seeds.size(), 3u);
  for (size_t i = 0; i < seeds.size(); ++i) run(seeds[i], concat("seed ", i));
  run("", "no bytes");
  const char* wanted = std::getenv("ONDOL_FUZZ_ROUNDS");
  const uint64_t rounds = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 2000;
  for (uint64_t round = 0; round < rounds && !HasFatalFailure(); ++round) {
    run(mutate(seeds, round), concat("mutation ", round));
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Replay, ::testing::ValuesIn(targets().begin(), targets().end()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Mutator, IsDeterministicAndVaries) {
  const std::vector<std::string> seeds = {"{\"key\": [1, 2, 3]}", "second seed"};
  size_t changed = 0;
  for (uint64_t round = 0; round < 200; ++round) {
    const std::string once = mutate(seeds, round);
    EXPECT_EQ(once, mutate(seeds, round));
    changed += once != seeds[0] && once != seeds[1];
  }
  EXPECT_GT(changed, 150u);
}

}  // namespace
}  // namespace ondol::fuzz
