#include "base/json_reader.h"

#include <functional>

#include <gtest/gtest.h>

#include "base/nearest_name.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

struct Failure {
  std::string message;
  std::string hint;
  ErrorKind kind = ErrorKind::failure;
};

Failure failure_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.what(), error.hint(), error.kind()};
  }
  return {"no error", "", ErrorKind::failure};
}

Json parsed(const std::string& text) { return parse_json(text, "x.json"); }

std::string parse_failure(const std::string& text) {
  return failure_of([&] { parsed(text); }).message;
}

TEST(ParseJson, BuildsTheSameDocumentAsTheLibraryParser) {
  const std::string text =
      R"({"a": [1, -2, 3.5, {"b": null, "c": []}, [[]], {}], "d": {"e": "x\u00e9\n", "f": true}, "g": 18446744073709551615})";
  EXPECT_EQ(parsed(text), Json::parse(text));
  EXPECT_EQ(parsed(" 7 "), Json(7));
  EXPECT_EQ(parsed("\xef\xbb\xbf{\"a\":1}"), Json::parse("{\"a\":1}"));
}

TEST(ParseJson, Refuses) {
  EXPECT_EQ(parse_failure("{\"a\": 1, \"b\": {\"a\": 1, \"a\": 2}}"),
            "cannot parse JSON: duplicate key \"a\" (x.json)");
  EXPECT_NE(parse_failure("{\n  \"a\": 1,\n  }").find("at line 3, column 3 (x.json)"), std::string::npos)
      << parse_failure("{\n  \"a\": 1,\n  }");
  EXPECT_NE(parse_failure("{} x").find("line 1, column 4"), std::string::npos) << parse_failure("{} x");
  EXPECT_NE(parse_failure("{\"a\": 1e999}").find("cannot parse JSON: "), std::string::npos);
  EXPECT_NE(parse_failure("{\"a\": \"\xff\"}").find("UTF-8"), std::string::npos);
  EXPECT_NE(parse_failure(std::string("\xff\xfe{\0}\0", 6)).find("UTF-16"), std::string::npos);
  EXPECT_NE(parse_failure("").find("empty"), std::string::npos);
  EXPECT_NE(parse_failure("{\"a\": ").find("cannot parse JSON"), std::string::npos);
  EXPECT_NE(parse_failure("NaN").find("cannot parse JSON"), std::string::npos);
  EXPECT_EQ(parsed(std::string(64, '[') + std::string(64, ']')).size(), 1u);
  EXPECT_EQ(parse_failure(std::string(65, '[') + std::string(65, ']')),
            "cannot parse JSON: nested deeper than 64 (x.json)");
  EXPECT_NE(parse_failure(std::string(1000000, '[')).find("nested deeper than 64"), std::string::npos);
  const std::string long_token = parse_failure(concat("\"", std::string(100000, 'x'), "\n\""));
  EXPECT_LT(long_token.size(), 400u);
  EXPECT_EQ(long_token.find('\n'), std::string::npos);
  EXPECT_EQ(failure_of([] { parse_json("[1]", "big", ErrorKind::failure, {.max_bytes = 2}); }).message,
            "cannot parse JSON: 3 bytes, at most 2 are expected (big)");
}

TEST(LoadJson, MissingFileIsAUsageErrorForConfigurations) {
  testing::TemporaryDirectory directory;
  EXPECT_EQ(failure_of([&] { load_json(directory / "none.json"); }).kind, ErrorKind::usage);
  EXPECT_EQ(failure_of([&] { load_json(directory / "none.json", ErrorKind::failure); }).kind, ErrorKind::failure);
  directory.write("a.json", "{\"x\": 1}");
  EXPECT_EQ(load_json(directory / "a.json").at("x"), 1);
}

TEST(JsonReader, ReadsTypesAndDefaults) {
  const Json document = parsed(R"({"train": {"steps": 100, "rate": 1, "flag": true, "name": "n", "none": null,
                                   "whole": 3.0, "betas": [0.9, 1], "names": ["a", "b"]}, "big": 18446744073709551615})");
  const JsonReader root(document, "x.json");
  const JsonReader train = root.child("train");
  EXPECT_EQ(train.require<int64_t>("steps"), 100);
  EXPECT_EQ(train.require<int>("whole"), 3);
  EXPECT_EQ(train.get<double>("rate", 0.5), 1.0);
  EXPECT_EQ(train.get<double>("absent", 0.5), 0.5);
  EXPECT_EQ(train.get<int>("none", 7), 7);
  EXPECT_FALSE(train.has("none"));
  EXPECT_TRUE(train.get<bool>("flag", false));
  EXPECT_EQ(train.require<std::string>("name"), "n");
  EXPECT_EQ(train.require<std::vector<double>>("betas"), (std::vector<double>{0.9, 1.0}));
  EXPECT_EQ(train.require<std::vector<std::string>>("names"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(root.require<uint64_t>("big"), 18446744073709551615u);
  EXPECT_EQ(root.child("absent").get<int>("x", 4), 4);
}

TEST(JsonReader, NamesKeyFileAndValueOfWrongTypes) {
  const Json document = parsed(R"({"t": {"n": "abc", "r": 1.5, "big": 3000000000, "neg": -1, "list": [1, "x"],
                                   "kind": "adamv", "objects": [{}, 3]}})");
  const JsonReader t = JsonReader(document, "x.json").child("t");
  const auto message = [&](const std::function<void()>& action) { return failure_of(action).message; };
  EXPECT_EQ(message([&] { t.require<int>("n"); }), "key \"t.n\": expected an integer, got \"abc\" (x.json)");
  EXPECT_EQ(message([&] { t.require<int>("r"); }), "key \"t.r\": expected an integer, got 1.5 (x.json)");
  EXPECT_EQ(message([&] { t.require<int>("big"); }),
            "key \"t.big\": must be at most 2147483647, got 3000000000 (x.json)");
  EXPECT_EQ(message([&] { t.require<int>("neg", at_least(1)); }), "key \"t.neg\": must be at least 1, got -1 (x.json)");
  EXPECT_EQ(message([&] { t.require<uint64_t>("neg"); }),
            "key \"t.neg\": expected an integer of at least 0, got -1 (x.json)");
  EXPECT_EQ(message([&] { t.require<double>("r", half_open(0, 1.5)); }),
            "key \"t.r\": must be below 1.5, got 1.5 (x.json)");
  EXPECT_EQ(message([&] { t.require<double>("neg", above(-1)); }), "key \"t.neg\": must be above -1, got -1 (x.json)");
  EXPECT_EQ(message([&] { t.require<std::vector<int>>("list"); }),
            "key \"t.list[1]\": expected an integer, got \"x\" (x.json)");
  EXPECT_EQ(message([&] { t.require<int>("absent"); }), "missing key \"t.absent\": it has no default (x.json)");
  EXPECT_EQ(message([&] { t.child("n"); }), "key \"t.n\": expected an object, got \"abc\" (x.json)");
  EXPECT_EQ(message([&] { t.children("objects"); }), "key \"t.objects[1]\": expected an object, got 3 (x.json)");
  const Failure wrong = failure_of([&] { t.get_enum("kind", "sgd", {"adamw", "sgd"}); });
  EXPECT_EQ(wrong.message, "key \"t.kind\": unknown value \"adamv\", expected one of adamw, sgd (x.json)");
  EXPECT_EQ(wrong.hint, "did you mean \"adamw\"?");
  EXPECT_EQ(wrong.kind, ErrorKind::usage);
  EXPECT_EQ(failure_of([&] { JsonReader(parsed("[1]"), "x.json"); }).message,
            "cannot read configuration: expected a JSON object, got array (x.json)");
}

TEST(JsonReader, FinishRefusesUnknownKeys) {
  const auto check = [](const std::string& text) {
    return failure_of([&] {
      const Json document = parse_json(text, "configs/x.json");
      const JsonReader root(document, "configs/x.json");
      const JsonReader train = root.child("train");
      train.get<int>("steps", 1);
      train.get<int>("batch_size", 1);
      for (const JsonReader& source : root.child("data").children("train")) source.require<std::string>("path");
      root.finish();
    });
  };
  EXPECT_EQ(check(R"({"train": {"steps": 3}, "data": {"train": [{"path": "a"}]}})").message, "no error");
  const Failure typo = check(R"({"train": {"stpes": 3}})");
  EXPECT_EQ(typo.message, "unknown key \"train.stpes\": not a configuration key (configs/x.json)");
  EXPECT_EQ(typo.hint, "did you mean \"train.steps\"?");
  EXPECT_EQ(typo.kind, ErrorKind::usage);
  EXPECT_EQ(check(R"({"batch_size": 3})").hint, "did you mean \"train.batch_size\"?");
  EXPECT_EQ(check(R"({"quite_another_thing": 3})").hint, "");
  EXPECT_EQ(check(R"({"data": {"train": [{"path": "a"}, {"path": "b", "wieght": 1}]}})").message,
            "unknown key \"data.train[1].wieght\": not a configuration key (configs/x.json)");
}

TEST(NearestName, Distances) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("stpes", "steps"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(nearest_name("trian", {"train", "serve"}), "train");
  EXPECT_EQ(nearest_name("xyzzyx", {"train", "serve"}), "");
}

}  // namespace
}  // namespace ondol
