#include "backend/tuning_cache.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include <ondol/base/file.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;

TEST(TuningCache, KeepsWhatWasStoredFirst) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/deep/er/choices.txt";
  TuningCache first(path), second(path);  // two processes that started at the same time
  EXPECT_EQ(first.find("a"), std::nullopt);
  EXPECT_EQ(first.store("a", "1 2"), "1 2");
  EXPECT_EQ(second.store("a", "3 4"), "1 2") << "the other process was first";
  EXPECT_EQ(second.store("b", "5"), "5");
  EXPECT_EQ(first.store("c", "6"), "6");
  EXPECT_EQ(second.store("c", "7", "8"), "6") << "not the value that was rejected";
  const TuningCache later(path);
  EXPECT_EQ(later.find("a"), "1 2");
  EXPECT_EQ(later.find("b"), "5") << "lost by another process's write";
  EXPECT_EQ(second.store("c", "7", "6"), "7");
  EXPECT_EQ(TuningCache(path).find("c"), "7");
  EXPECT_EQ(later.find("c"), "6");
}

TEST(TuningCache, IgnoresDamagedLines) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/choices.txt";
  {
    TuningCache cache(path);
    for (int i = 0; i < 20; ++i) cache.store("key " + std::to_string(i), "value " + std::to_string(i * i));
  }
  const std::string whole = read_file(path, 1 << 20);
  for (size_t at = 0; at < whole.size(); at += 3) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x15);
    write_file_atomic(path, damaged);
    TuningCache cache(path);
    int found = 0;
    for (int i = 0; i < 20; ++i) {
      const auto value = cache.find("key " + std::to_string(i));
      found += value.has_value();
      EXPECT_EQ(value.value_or("value " + std::to_string(i * i)), "value " + std::to_string(i * i));
    }
    EXPECT_GE(found, 18) << "byte " << at;
    EXPECT_LE(found, 19) << "byte " << at;
  }
  write_file_atomic(path, std::string(100000, '\xff') + "\n\t\t\n" + whole);
  EXPECT_EQ(TuningCache(path).find("key 3"), "value 9");
  EXPECT_EQ(TuningCache(path).find(""), std::nullopt);
}

TEST(TuningCache, WithoutAPlaceNothingIsKept) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory.path() + "/file") << "x";
  for (const std::string& path : {std::string(), directory.path() + "/file/choices.txt"}) {
    TuningCache cache(path);
    EXPECT_EQ(cache.store("a", "1"), std::nullopt) << path;
    EXPECT_EQ(cache.find("a"), std::nullopt) << "the next process would choose again";
    EXPECT_FALSE(cache.writable());
  }
}

TEST(TuningCache, FollowsTheXdgVariables) {
  const auto with = [](const char* cache, const char* home) {
    const auto set = [](const char* name, const char* value) {
      value == nullptr ? unsetenv(name) : setenv(name, value, 1);
    };
    const char* old_cache = std::getenv("XDG_CACHE_HOME");
    const std::string saved_cache = old_cache == nullptr ? "" : old_cache;
    const char* old_home = std::getenv("HOME");
    const std::string saved_home = old_home == nullptr ? "" : old_home;
    set("XDG_CACHE_HOME", cache);
    set("HOME", home);
    const std::string found = cache_directory();
    set("XDG_CACHE_HOME", old_cache == nullptr ? nullptr : saved_cache.c_str());
    set("HOME", old_home == nullptr ? nullptr : saved_home.c_str());
    return found;
  };
  EXPECT_EQ(with("/x/cache", "/home/me"), "/x/cache/ondol");
  EXPECT_EQ(with(nullptr, "/home/me"), "/home/me/.cache/ondol");
  EXPECT_EQ(with("relative", "/home/me"), "/home/me/.cache/ondol");
  EXPECT_EQ(with("", ""), "");
  EXPECT_EQ(with(nullptr, nullptr), "");
}

}  // namespace
}  // namespace ondol
