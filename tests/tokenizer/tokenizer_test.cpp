// Tokenizers made in the test, so that nothing outside the repository is needed.
#include <ondol/tokenizer/tokenizer.h>

#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/test_data.h"

namespace ondol {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

/// 256 bytes (id = byte), then "th" 256, "the" 257, "Ġthe" 258, "aa" 259, "aaaa" 260.
json small_tokenizer() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    vocab[tokenization::to_byte_alphabet({&text, 1})] = byte;
  }
  int id = 256;
  for (const char* token : {"th", "the", "Ġthe", "aa", "aaaa"}) vocab[token] = id++;
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"t h", "th e", "Ġ the", "a a", "aa aa"}}}}};
}

json added(int id, const std::string& content, json extra = json::object()) {
  json token = {{"id", id}, {"content", content}, {"special", true}, {"normalized", false}};
  token.update(extra);
  return token;
}

Tokenizer make(const json& root) { return tokenizer_from_json(root.dump()); }

/// The message of the UsageError that loading throws.
std::string error_of(const std::string& text) {
  try {
    tokenizer_from_json(text);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}
std::string error_of_root(const json& root) { return error_of(root.dump()); }

#define EXPECT_CONTAINS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST(Tokenizer, MergesByRank) {
  const Tokenizer tokenizer = make(small_tokenizer());
  EXPECT_EQ(tokenizer.encode("the the"), (Ids{257, 258}));
  EXPECT_EQ(tokenizer.encode("aaaaaaa"), (Ids{260, 259, 97}));
  EXPECT_EQ(tokenizer.encode("thth"), (Ids{256, 256}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.id_to_token(258), "Ġthe");
  EXPECT_EQ(tokenizer.token_to_id("Ġthe"), 258);
  EXPECT_EQ(tokenizer.token_to_id("nothing"), std::nullopt);
  EXPECT_THROW(tokenizer.id_to_token(261), Error);
  EXPECT_THROW(tokenizer.decode(Ids{-1}), Error);
}

TEST(Tokenizer, PairsOfMergesAreTheSame) {
  json root = small_tokenizer();
  root["model"]["merges"] = json::parse(R"([["t","h"],["th","e"],["Ġ","the"],["a","a"],["aa","aa"]])");
  EXPECT_EQ(make(root).encode("the the aaaa"), make(small_tokenizer()).encode("the the aaaa"));
}

TEST(Tokenizer, LongPiecesGiveWhatShortOnesGive) {
  // A piece over the limit of the quadratic path, against the same merges done by hand: "a" runs halve twice.
  const Tokenizer tokenizer = make(small_tokenizer());
  for (const size_t length : {47u, 48u, 49u, 50u, 63u, 64u, 65u, 1001u, 1002u, 1003u}) {
    Ids expected(length / 4, 260);
    if (length % 4 >= 2) expected.push_back(259);
    if (length % 2) expected.push_back(97);
    EXPECT_EQ(tokenizer.encode(std::string(length, 'a')), expected) << length;
  }
}

TEST(Tokenizer, HugePieces) {
  // A quadratic merge loop would take hours here.
  const Tokenizer tokenizer = make(small_tokenizer());
  std::string word;
  while (word.size() < (size_t{1} << 20)) word += "theaaaath";
  const Ids ids = tokenizer.encode(word);
  EXPECT_EQ(tokenizer.decode(ids), word);
}

TEST(Tokenizer, KeepsAnyBytes) {
  const Tokenizer tokenizer = make(small_tokenizer());
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    const size_t length = random() % 100;
    while (bytes.size() < length) bytes += static_cast<char>(random() % 256);
    const Ids ids = tokenizer.encode(bytes);
    EXPECT_EQ(tokenizer.decode(ids), bytes);
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.flush(), bytes);
  }
}

TEST(Tokenizer, StreamsWholeCharacters) {
  const Tokenizer tokenizer = make(small_tokenizer());
  const std::string text = "a é 한 😀 the";  // characters of 1 to 4 bytes
  StreamDecoder stream(tokenizer);
  std::string all;
  for (const int32_t id : tokenizer.encode(text)) {
    const std::string part = stream.push(id);
    EXPECT_NO_THROW(json(part).dump()) << "half a character";
    all += part;
  }
  EXPECT_EQ(all, text);
  EXPECT_EQ(stream.flush(), "");
  // An incomplete character is held back until it is clear that it stays incomplete.
  EXPECT_EQ(stream.push(0xed), "");
  EXPECT_EQ(stream.push(0x95), "");
  EXPECT_EQ(stream.push('x'), "\xed\x95x");
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.flush(), "\xf0");
}

TEST(Tokenizer, BatchesEqualSingles) {
  const Tokenizer tokenizer = make(small_tokenizer());
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i)
    texts.push_back(std::string(static_cast<size_t>(i % 50), 'a') + " the " + std::to_string(i));
  const int before = num_threads();
  for (const int threads : {1, 4}) {
    set_num_threads(threads);
    const auto batch = tokenizer.encode_batch(texts);
    for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(batch[i], tokenizer.encode(texts[i]));
  }
  set_num_threads(before);
}

TEST(AddedTokens, LongestFirstAndSpecial) {
  json root = small_tokenizer();
  root["added_tokens"] = {added(261, "<x>"), added(262, "<x>y"), added(263, "plain", {{"special", false}})};
  const Tokenizer tokenizer = make(root);
  EXPECT_EQ(tokenizer.encode("<x><x>y plain"), (Ids{261, 262, ' ', 263}));
  EXPECT_EQ(tokenizer.encode("<x>plain", {.parse_special = false}), (Ids{'<', 'x', '>', 263}));
  EXPECT_EQ(tokenizer.decode(Ids{261, 'a', 263}), "<x>aplain");
  EXPECT_EQ(tokenizer.decode(Ids{261, 'a', 263}, true), "aplain");
  EXPECT_TRUE(tokenizer.is_special(261));
  EXPECT_FALSE(tokenizer.is_special(263));
  EXPECT_EQ(tokenizer.vocab_size(), 264);
  StreamDecoder stream(tokenizer, true);
  EXPECT_EQ(stream.push(261) + stream.push('b'), "b");
}

TEST(AddedTokens, StrippingAndWords) {
  json root = small_tokenizer();
  root["added_tokens"] = {added(261, "<l>", {{"lstrip", true}}), added(262, "<r>", {{"rstrip", true}}),
                          added(263, "word", {{"single_word", true}})};
  const Tokenizer tokenizer = make(root);
  EXPECT_EQ(tokenizer.encode("a \t<l> b"), (Ids{'a', 261, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("a <r>\u3000\n b"), (Ids{'a', ' ', 262, 'b'}));
  EXPECT_EQ(tokenizer.encode("<r> <l>"), (Ids{262, 261}));
  EXPECT_EQ(tokenizer.encode("word.word"), (Ids{263, '.', 263}));
  const Ids inside = tokenizer.encode("swords wordé");
  EXPECT_EQ(std::count(inside.begin(), inside.end(), 263), 0);
}

TEST(AddedTokens, NormalizedOnesAreFoundAfterNormalization) {
  json root = small_tokenizer();
  root["normalizer"] = {{"type", "NFC"}};
  root["added_tokens"] = {added(261, "caf\u00e9", {{"normalized", true}}), added(262, "na\u00efve")};
  const Tokenizer tokenizer = make(root);
  EXPECT_EQ(tokenizer.encode("cafe\u0301"), Ids{261});
  EXPECT_EQ(tokenizer.encode("na\u00efve"), Ids{262});
  const Ids decomposed = tokenizer.encode("nai\u0308ve");
  EXPECT_EQ(std::count(decomposed.begin(), decomposed.end(), 262), 0);
}

TEST(AddedTokens, OfTwoThatNormalizationMakesTheSameTheFirstCounts) {
  json root = small_tokenizer();
  root["normalizer"] = {{"type", "NFC"}};
  root["added_tokens"] = {added(261, "\u1e3f", {{"normalized", true}}), added(262, "m\u0301", {{"normalized", true}})};
  const Tokenizer tokenizer = make(root);
  EXPECT_EQ(tokenizer.encode("\u1e3f"), Ids{261});
  EXPECT_EQ(tokenizer.encode("m\u0301"), Ids{261});
}

TEST(PostProcessors, TemplatesAndPairs) {
  json root = small_tokenizer();
  root["added_tokens"] = {added(261, "<s>"), added(262, "</s>")};
  root["post_processor"] = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 262}}, {"cls", {"<s>", 261}}};
  EXPECT_EQ(make(root).encode("a"), (Ids{261, 'a', 262}));
  EXPECT_EQ(make(root).encode("a", {.add_special_tokens = false}), Ids{'a'});
  EXPECT_EQ(make(root).encode_pair("a", "b").ids, (Ids{261, 'a', 262, 262, 'b', 262}));
  root["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"</s>", 262}}, {"cls", {"<s>", 261}}};
  const Encoding pair = make(root).encode_pair("a", "b");
  EXPECT_EQ(pair.ids, (Ids{261, 'a', 262, 'b', 262}));
  EXPECT_EQ(pair.type_ids, (Ids{0, 0, 0, 1, 1}));
  root["post_processor"] = json::parse(R"({"type":"Sequence","processors":[{"type":"ByteLevel"},
    {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
     "pair":[{"Sequence":{"id":"B","type_id":1}},{"Sequence":{"id":"A","type_id":0}}],
     "special_tokens":{"<s>":{"id":"<s>","ids":[261,262],"tokens":["<s>","</s>"]}}}]})");
  EXPECT_EQ(make(root).encode("a"), (Ids{261, 262, 'a'}));
  EXPECT_EQ(make(root).encode_pair("a", "b").ids, (Ids{'b', 'a'}));
}

TEST(PreTokenizers, SplitBehaviors) {
  const std::vector<std::pair<std::string, size_t>> expected = {
      // Pieces of "a--b-c", each of one byte or a run of bytes without merges: told apart by merges of "-" with others.
      {"Removed", 3},
      {"Isolated", 6},
      {"MergedWithPrevious", 6},
      {"MergedWithNext", 6},
      {"Contiguous", 6}};
  for (const auto& [behavior, tokens] : expected) {
    json root = small_tokenizer();
    root["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}}}}};
    const Ids ids = make(root).encode("a--b-c");
    // The prefix space marks where pieces begin.
    std::string text = make(root).decode(ids);
    const std::map<std::string, std::string> pieces = {{"Removed", " a b c"},
                                                       {"Isolated", " a - - b - c"},
                                                       {"MergedWithPrevious", " a- - b- c"},
                                                       {"MergedWithNext", " a - -b -c"},
                                                       {"Contiguous", " a -- b - c"}};
    EXPECT_EQ(text, pieces.at(behavior));
    EXPECT_EQ(static_cast<size_t>(std::count_if(ids.begin(), ids.end(), [](int32_t id) { return id != ' '; })), tokens);
  }
}

TEST(PreTokenizers, Digits) {
  json root = small_tokenizer();
  for (const bool individual : {false, true}) {
    root["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Digits"}, {"individual_digits", individual}},
                               {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}}}}};
    const Tokenizer tokenizer = make(root);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("a12b½")), individual ? " a 1 2 b ½" : " a 12 b ½");
  }
}

TEST(TokenizerFiles, MalformedContentIsAClearError) {
  EXPECT_EQ(error_of_root(small_tokenizer()), "no error");
  EXPECT_CONTAINS(error_of("{\"model\": "), "not valid JSON at byte");
  EXPECT_CONTAINS(error_of("[]"), "an object is expected");
  EXPECT_CONTAINS(error_of("{\"a\":1,\"a\":2}"), "\"a\" appears twice");
  EXPECT_CONTAINS(error_of(std::string(100000, '[')), "deeper than 64");
  EXPECT_CONTAINS(error_of("{\"x\": \"\xff\"}"), "not valid JSON");

  const auto changed = [](const std::function<void(json&)>& change) {
    json root = small_tokenizer();
    change(root);
    return error_of_root(root);
  };
  EXPECT_CONTAINS(changed([](json& r) { r.erase("model"); }), "\"model\" must be an object");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["type"] = "Strange"; }),
                  "\"Strange\" is not supported (tokenizer.json");
  EXPECT_CONTAINS(changed([](json& r) { r["normalizer"] = {{"type", "Strange"}}; }), "\"Strange\" is not supported");
  EXPECT_CONTAINS(changed([](json& r) { r["pre_tokenizer"]["type"] = "Strange"; }), "\"Strange\" is not supported");
  EXPECT_CONTAINS(changed([](json& r) { r["decoder"]["type"] = "Strange"; }), "\"Strange\" is not supported");
  EXPECT_CONTAINS(changed([](json& r) {
                    r["post_processor"] = {{"type", "Strange"}};
                  }),
                  "\"Strange\" is not supported");
  EXPECT_CONTAINS(changed([](json& r) { r["pre_tokenizer"]["use_regex"] = 1; }), "\"use_regex\" must be true or false");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["vocab"]["zz"] = 5; }), "id 5 is given to");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["vocab"]["zz"] = -1; }), "out of range");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["vocab"]["zz"] = 4000000000; }), "out of range");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["vocab"]["zz"] = "text"; }), "vocabulary should hold integers");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["vocab"] = json::object(); }), "vocabulary is empty");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["merges"][1] = "t nothing"; }),
                  "\"nothing\", which is not in the vocabulary");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["merges"][1] = "h t"; }),
                  "gives \"ht\", which is not in the vocabulary");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["merges"][1] = "t h e"; }), "model.merges[1]");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["merges"][1] = json::array({"t"}); }), "must have two parts, not 1");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["merges"][1] = 7; }), "merges should hold strings");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["byte_fallback"] = true; }), "byte_fallback");
  EXPECT_CONTAINS(changed([](json& r) { r["model"]["unk_token"] = "<unk>"; }),
                  "unk_token \"<unk>\" is not in the vocabulary");
  EXPECT_CONTAINS(changed([](json& r) { r["added_tokens"] = {added(3, "<s>")}; }), "id 3 is given to");
  EXPECT_CONTAINS(changed([](json& r) { r["added_tokens"] = {added(300, "the")}; }), "has id 300 here and 257");
  EXPECT_CONTAINS(changed([](json& r) {
                    r["added_tokens"] = {added(300, "<s>"), added(301, "<s>")};
                  }),
                  "appears twice");
  EXPECT_CONTAINS(changed([](json& r) { r["added_tokens"] = {added(2000000000, "<s>")}; }), "out of range");
  EXPECT_CONTAINS(changed([](json& r) { r["added_tokens"] = {added(300, "")}; }), "must not be empty");
  EXPECT_CONTAINS(changed([](json& r) { r["added_tokens"] = {added(300, std::string(1 << 20, 'x'))}; }),
                  "has 1048576 bytes");
  EXPECT_CONTAINS(changed([](json& r) {
                    r["post_processor"] = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 999}}, {"cls", {"<s>", 0}}};
                  }),
                  "token id 999 is outside the vocabulary");
  EXPECT_CONTAINS(changed([](json& r) {
                    r["pre_tokenizer"] = {
                        {"type", "Sequence"},
                        {"pretokenizers",
                         {{{"type", "Split"}, {"pattern", {{"Regex", "(oops"}}}, {"behavior", "Isolated"}},
                          {{"type", "ByteLevel"}}}}};
                  }),
                  "regular expression \"(oops\"");
}

TEST(TokenizerFiles, APostProcessorOfAnotherTypeIsAClearError) {
  for (const json& odd : {json(3), json("x"), json::array(), json{{"type", 7}}}) {
    json root = small_tokenizer();
    root["post_processor"] = odd;
    try {
      tokenizer_from_json(root.dump(), R"({"bos_token": "the", "add_bos_token": true})");
      FAIL() << odd.dump();
    } catch (const UsageError& error) {
      EXPECT_CONTAINS(error.what(), "post_processor");
    }
  }
}

TEST(TokenizerFiles, TruncatedFilesNeverCrash) {
  const std::string text = small_tokenizer().dump();
  for (size_t length = 0; length < text.size(); length += 7) EXPECT_NE(error_of(text.substr(0, length)), "no error");
}

TEST(TokenizerFiles, ABranchOfMissingBytesIsAnErrorOrUnk) {
  json root = small_tokenizer();
  root["model"]["vocab"].erase("z");
  EXPECT_THROW(make(root).encode("z"), Error);
  root["model"]["vocab"]["<unk>"] = 'z';
  root["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(make(root).encode("az"), (Ids{'a', 'z'}));
  EXPECT_EQ(make(root).id_to_token('z'), "<unk>");
}

TEST(TokenizerFiles, ConfigRolesTemplateAndSaving) {
  json root = small_tokenizer();
  root["added_tokens"] = {added(261, "<s>"), added(270, "</s>")};  // a hole before 270
  const std::string config = R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":null,"add_bos_token":true,
    "model_max_length":512,"chat_template":[{"name":"tool","template":"x"},{"name":"default","template":"{{ y }}"}]})";
  const Tokenizer tokenizer = tokenizer_from_json(root.dump(), config);
  EXPECT_EQ(tokenizer.special_token_id("bos"), 261);
  EXPECT_EQ(tokenizer.special_token("eos"), "</s>");
  EXPECT_EQ(tokenizer.special_token("pad"), std::nullopt);
  EXPECT_EQ(tokenizer.chat_template(), "{{ y }}");
  EXPECT_EQ(tokenizer.encode("a"), (Ids{261, 'a'}));
  EXPECT_EQ(tokenizer.vocab_size(), 271);
  const auto directory = (scratch_directory("tokenizer_config")).string();
  tokenizer.save(directory);
  const Tokenizer again = load_tokenizer(directory);
  EXPECT_EQ(again.encode("a</s>"), (Ids{261, 'a', 270}));
  EXPECT_EQ(again.special_token("bos"), "<s>");
  EXPECT_EQ(again.chat_template(), "{{ y }}");
  EXPECT_TRUE(again.is_special(270));
  std::filesystem::remove_all(directory);
  EXPECT_THROW(tokenizer_from_json(root.dump(), R"({"add_eos_token":true})"), UsageError);
}

TEST(TokenizerFiles, PlacesWithoutATokenizer) {
  const auto directory = scratch_directory("no_tokenizer");
  std::filesystem::create_directories(directory);
  EXPECT_THROW(load_tokenizer(directory.string()), UsageError);
  EXPECT_THROW(load_tokenizer((directory / "missing").string()), UsageError);
  const auto with_model = [&](const std::string& bytes) {
    std::ofstream(directory / "tokenizer.model", std::ios::binary) << bytes;
    try {
      load_tokenizer(directory.string());
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_CONTAINS(with_model("\n\x0e\n\x05<unk>"), "damaged");
  EXPECT_CONTAINS(with_model("IQ== 0\nIg=\n"), "line 2");
  EXPECT_CONTAINS(with_model("IQ== 0\nIQ== 1\n"), "appears twice");
  EXPECT_CONTAINS(with_model("IQ== 0\nIg== 1\n"), "split pattern");
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace ondol
