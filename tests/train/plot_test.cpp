// The program's `plot` verb on metrics of known shape.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

const std::string kProgram = ONDOL_BINARY_DIR "/bin/ondol";

int run(const std::string& arguments) {
  const int status = std::system((kProgram + " " + arguments + " > /dev/null 2>&1").c_str());
  return WEXITSTATUS(status);
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

void write_run(const testing::TemporaryDirectory& directory, const std::string& name, int steps) {
  std::filesystem::create_directory(directory / name);
  std::string text;
  for (int step = 1; step <= steps; ++step) {
    text +=
        concat("{\"step\":", step, ",\"loss\":", 8.0 / std::sqrt(step), ",\"grad_norm\":1.5,\"learning_rate\":1e-3,",
               "\"tokens\":", 64 * step, ",\"tokens_per_second\":900}\n");
    if (step % 10 == 0) text += concat("{\"step\":", step, ",\"eval_loss\":", 9.0 / std::sqrt(step), "}\n");
  }
  directory.write(name + "/metrics.jsonl", text + "{\"step\":");  // the last line cut short, as of a run that goes on
}

TEST(Plot, OneSelfContainedPage) {
  if (!std::filesystem::exists(kProgram)) GTEST_SKIP() << "skipped: the program is not built";
  const testing::TemporaryDirectory directory;
  write_run(directory, "first", 50);
  write_run(directory, "other<&>", 20000);
  ASSERT_EQ(run("plot " + directory / "first" + " '" + directory / "other<&>" + "' --output " + directory / "r.html"),
            0);
  const std::string page = directory.read("r.html");
  EXPECT_EQ(count(page, "<svg"), 10u);  // five charts, linear and logarithmic
  EXPECT_EQ(count(page, "</svg>"), 10u);
  EXPECT_EQ(count(page, "<path class=\"line\""), 20u);
  for (const char* title : {"Loss", "Evaluation loss", "Learning rate", "Gradient norm", "Tokens per second"}) {
    EXPECT_NE(page.find("<h2>" + std::string(title)), std::string::npos) << title;
  }
  EXPECT_NE(page.find("other&lt;&amp;&gt;"), std::string::npos);
  EXPECT_EQ(page.find("other<"), std::string::npos);
  for (const char* outside : {"http:", "https:", "src=", "@import", "url("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_LT(page.size(), 400000u);  // 20000 steps are drawn with far fewer points
}

TEST(Plot, WhatIsNoRunIsRefused) {
  if (!std::filesystem::exists(kProgram)) GTEST_SKIP() << "skipped: the program is not built";
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(run("plot " + directory / "nothing" + " --output " + directory / "r.html"), 2);
  EXPECT_FALSE(std::filesystem::exists(directory / "r.html"));
}

}  // namespace
}  // namespace ondol
