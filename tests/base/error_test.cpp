// Messages stay one printable line of bounded length, whatever they quote.
#include <ondol/base/error.h>

#include <gtest/gtest.h>

namespace ondol {
namespace {

TEST(Error, KeepsKindAndPlainText) {
  const UsageError error("no such file (caf\xc3\xa9.txt)", "look again");
  EXPECT_STREQ(error.what(), "no such file (caf\xc3\xa9.txt)");
  EXPECT_EQ(error.hint(), "look again");
  EXPECT_EQ(error.kind(), ErrorKind::usage);
  EXPECT_EQ(Error("x").kind(), ErrorKind::failure);
}

TEST(Error, EscapesControlCharacters) {
  const Error error(std::string("a\nb\tc\x1b[2J\x7f") + '\0' + "d (f)", "h\ni");
  EXPECT_STREQ(error.what(), "a\\nb\\x09c\\x1b[2J\\x7f\\x00d (f)");
  EXPECT_EQ(error.hint(), "h\\ni");
}

TEST(Error, LeavesOutTheMiddleOfLongTextsButNoHalfCharacters) {
  std::string korean;
  for (int i = 0; i < 3000; ++i) korean += "\xed\x95\x9c";
  for (const std::string lead : {"", "a", "ab"}) {
    const std::string message = Error(lead + korean + " (FILE)").what();
    EXPECT_LE(message.size(), 2010u);
    EXPECT_TRUE(message.ends_with("\xed\x95\x9c (FILE)"));
    const size_t gap = message.find(" ... ");
    ASSERT_NE(gap, std::string::npos);
    EXPECT_EQ((gap - lead.size()) % 3, 0u);
    EXPECT_EQ(message.substr(gap + 5, 3), "\xed\x95\x9c");
  }
}

}  // namespace
}  // namespace ondol
