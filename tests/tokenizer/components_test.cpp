// The components of tokenizer.json one by one, against what Hugging Face tokenizers 0.23.3 (the Python package) makes
// of the same specifications and texts.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/decoder.h"
#include "tokenizer/golden.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tracked_text.h"

namespace ondol::tokenization {
namespace {

// clang-format off
// [specification, text, normalized text]
const char* const kNormalizers[] = {
    R"([{"type": "Lowercase"}, "\u00c0\u00c9 \u0130STANBUL \u03a3\u0391\u03a3", "\u00e0\u00e9 i\u0307stanbul \u0)"
    R"(3c3\u03b1\u03c3"])",
    R"([{"type": "StripAccents"}, "e\u0301a\u0308 \u00e9", "ea \u00e9"])",
    R"([{"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}, "Cr\u00e8me br\u00fbl\)"
    R"(u00e9e \u00c5ng", "Creme brulee Ang"])",
    R"([{"type": "Strip", "strip_left": true, "strip_right": false}, " \u3000x y \n", "x y \n"])",
    R"([{"type": "Strip", "strip_left": false, "strip_right": true}, " x \t", " x"])",
    R"([{"type": "Prepend", "prepend": "\u2581"}, "ab", "\u2581ab"])",
    R"([{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, "a  b", "a\u2581\u2581b"])",
    R"([{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "#"}, "a  b c   d", "a#b c#d"])",
    R"([{"type": "Nmt"}, "a\u200bb\u0001c\td", "a bc d"])",
    R"([{"type": "NFKC"}, "\ufb01\u2460\uff21\u00bd", "fi1A1\u20442"])",
    R"([{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "low)"
    R"(ercase": true}, "H\u00e9llo\u0000 \u4e2d\u6587\uff58\t\u0130 \ud55c", "hello  \u4e2d  \u6587 \uff58 i \u1)"
    R"(112\u1161\u11ab"])",
    R"([{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false, "strip_accents": false, "l)"
    R"(owercase": false}, "H\u00e9llo\u200e \u4e2d\u6587", "H\u00e9llo \u4e2d\u6587"])",
    R"([{"type": "ByteLevel"}, "\u00e9 a\n", "\u00c3\u00a9\u0120a\u010a"])",
};

// [specification, text, [[piece, [begin, end]], …]], places in code points
const char* const kPreTokenizers[] = {
    R"([{"type": "BertPreTokenizer"}, " Hello, world!  It's 12\u00bd a_b - x\n", [["Hello", [1, 6]], [",", [6, 7)"
    R"(]], ["world", [8, 13]], ["!", [13, 14]], ["It", [16, 18]], ["'", [18, 19]], ["s", [19, 20]], ["12\u00bd",)"
    R"( [21, 24]], ["a", [25, 26]], ["_", [26, 27]], ["b", [27, 28]], ["-", [29, 30]], ["x", [31, 32]]]])",
    R"([{"type": "BertPreTokenizer"}, "hello  w", [["hello", [0, 5]], ["w", [7, 8]]]])",
    R"([{"type": "Whitespace"}, " Hello, world!  It's 12\u00bd a_b - x\n", [["Hello", [1, 6]], [",", [6, 7]], [")"
    R"(world", [8, 13]], ["!", [13, 14]], ["It", [16, 18]], ["'", [18, 19]], ["s", [19, 20]], ["12", [21, 23]], )"
    R"(["\u00bd", [23, 24]], ["a_b", [25, 28]], ["-", [29, 30]], ["x", [31, 32]]]])",
    R"([{"type": "Whitespace"}, "hello  w", [["hello", [0, 5]], ["w", [7, 8]]]])",
    R"([{"type": "WhitespaceSplit"}, " Hello, world!  It's 12\u00bd a_b - x\n", [["Hello,", [1, 7]], ["world!", )"
    R"([8, 14]], ["It's", [16, 20]], ["12\u00bd", [21, 24]], ["a_b", [25, 28]], ["-", [29, 30]], ["x", [31, 32]])"
    R"(]])",
    R"([{"type": "WhitespaceSplit"}, "hello  w", [["hello", [0, 5]], ["w", [7, 8]]]])",
    R"([{"type": "Punctuation", "behavior": "Isolated"}, " Hello, world!  It's 12\u00bd a_b - x\n", [[" Hello", )"
    R"([0, 6]], [",", [6, 7]], [" world", [7, 13]], ["!", [13, 14]], ["  It", [14, 18]], ["'", [18, 19]], ["s 12)"
    R"(\u00bd a", [19, 26]], ["_", [26, 27]], ["b ", [27, 29]], ["-", [29, 30]], [" x\n", [30, 33]]]])",
    R"([{"type": "Punctuation", "behavior": "Isolated"}, "hello  w", [["hello  w", [0, 8]]]])",
    R"([{"type": "Punctuation", "behavior": "MergedWithPrevious"}, " Hello, world!  It's 12\u00bd a_b - x\n", [[)"
    R"(" Hello,", [0, 7]], [" world!", [7, 14]], ["  It'", [14, 19]], ["s 12\u00bd a_", [19, 27]], ["b -", [27, )"
    R"(30]], [" x\n", [30, 33]]]])",
    R"([{"type": "Punctuation", "behavior": "MergedWithPrevious"}, "hello  w", [["hello  w", [0, 8]]]])",
    R"([{"type": "Punctuation", "behavior": "Contiguous"}, " Hello, world!  It's 12\u00bd a_b - x\n", [[" Hello")"
    R"(, [0, 6]], [",", [6, 7]], [" world", [7, 13]], ["!", [13, 14]], ["  It", [14, 18]], ["'", [18, 19]], ["s )"
    R"(12\u00bd a", [19, 26]], ["_", [26, 27]], ["b ", [27, 29]], ["-", [29, 30]], [" x\n", [30, 33]]]])",
    R"([{"type": "Punctuation", "behavior": "Contiguous"}, "hello  w", [["hello  w", [0, 8]]]])",
    R"([{"type": "Digits", "individual_digits": true}, " Hello, world!  It's 12\u00bd a_b - x\n", [[" Hello, wor)"
    R"(ld!  It's ", [0, 21]], ["1", [21, 22]], ["2", [22, 23]], ["\u00bd", [23, 24]], [" a_b - x\n", [24, 33]]]])",
    R"([{"type": "Digits", "individual_digits": true}, "hello  w", [["hello  w", [0, 8]]]])",
    R"([{"type": "Digits", "individual_digits": false}, " Hello, world!  It's 12\u00bd a_b - x\n", [[" Hello, wo)"
    R"(rld!  It's ", [0, 21]], ["12\u00bd", [21, 24]], [" a_b - x\n", [24, 33]]]])",
    R"([{"type": "Digits", "individual_digits": false}, "hello  w", [["hello  w", [0, 8]]]])",
    R"([{"type": "CharDelimiterSplit", "delimiter": "l"}, " Hello, world!  It's 12\u00bd a_b - x\n", [[" He", [0)"
    R"(, 3]], ["o, wor", [5, 11]], ["d!  It's 12\u00bd a_b - x\n", [12, 33]]]])",
    R"([{"type": "CharDelimiterSplit", "delimiter": "l"}, "hello  w", [["he", [0, 2]], ["o  w", [4, 8]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}, " Hello, worl)"
    R"(d!  It's 12\u00bd a_b - x\n", [["\u2581Hello,", [0, 7]], ["\u2581world!", [7, 14]], ["\u2581", [14, 15]],)"
    R"( ["\u2581It's", [15, 20]], ["\u258112\u00bd", [20, 24]], ["\u2581a_b", [24, 28]], ["\u2581-", [28, 30]], )"
    R"(["\u2581x\n", [30, 33]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}, "hello  w", [)"
    R"(["\u2581hello", [0, 5]], ["\u2581", [5, 6]], ["\u2581w", [6, 8]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": true}, " Hello, world)"
    R"(!  It's 12\u00bd a_b - x\n", [["\u2581Hello,", [0, 7]], ["\u2581world!", [7, 14]], ["\u2581", [14, 15]], )"
    R"(["\u2581It's", [15, 20]], ["\u258112\u00bd", [20, 24]], ["\u2581a_b", [24, 28]], ["\u2581-", [28, 30]], [)"
    R"("\u2581x\n", [30, 33]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": true}, "hello  w", [[)"
    R"("\u2581hello", [0, 5]], ["\u2581", [5, 6]], ["\u2581w", [6, 8]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": true}, " Hello, world)"
    R"(!  It's 12\u00bd a_b - x\n", [["\u2581Hello,", [0, 7]], ["\u2581world!", [7, 14]], ["\u2581", [14, 15]], )"
    R"(["\u2581It's", [15, 20]], ["\u258112\u00bd", [20, 24]], ["\u2581a_b", [24, 28]], ["\u2581-", [28, 30]], [)"
    R"("\u2581x\n", [30, 33]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": true}, "hello  w", [[)"
    R"("hello", [0, 5]], ["\u2581", [5, 6]], ["\u2581w", [6, 8]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": false}, " Hello, wor)"
    R"(ld!  It's 12\u00bd a_b - x\n", [["\u2581Hello,\u2581world!\u2581\u2581It's\u258112\u00bd\u2581a_b\u2581-\)"
    R"(u2581x\n", [0, 33]]]])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": false}, "hello  w", )"
    R"([["\u2581hello\u2581\u2581w", [0, 8]]]])",
    R"([{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement":)"
    R"( "\u2581", "prepend_scheme": "first", "split": true}]}, " Hello, world!  It's 12\u00bd a_b - x\n", [["Hel)"
    R"(lo,", [1, 7]], ["world!", [8, 14]], ["It's", [16, 20]], ["12\u00bd", [21, 24]], ["a_b", [25, 28]], ["-", )"
    R"([29, 30]], ["x", [31, 32]]]])",
    R"([{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement":)"
    R"( "\u2581", "prepend_scheme": "first", "split": true}]}, "hello  w", [["\u2581hello", [0, 5]], ["w", [7, 8)"
    R"(]]]])",
    R"([{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"String": "l"}, "behavior": "Merged)"
    R"(WithNext", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_)"
    R"(regex": true}, {"type": "Digits", "individual_digits": true}]}, " Hello, world!  It's 12\u00bd a_b - x\n")"
    R"(, [["\u0120He", [0, 3]], ["l", [3, 4]], ["lo", [4, 6]], [",", [6, 7]], ["\u0120wor", [7, 11]], ["ld", [11)"
    R"(, 13]], ["!", [13, 14]], ["\u0120", [14, 15]], ["\u0120It", [15, 18]], ["'s", [18, 20]], ["\u0120", [20, )"
    R"(21]], ["1", [21, 22]], ["2", [22, 23]], ["\u00c2", [23, 24]], ["\u00bd", [23, 24]], ["\u0120a", [24, 26]])"
    R"(, ["_", [26, 27]], ["b", [27, 28]], ["\u0120-", [28, 30]], ["\u0120x", [30, 32]], ["\u010a", [32, 33]]]])",
    R"([{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"String": "l"}, "behavior": "Merged)"
    R"(WithNext", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_)"
    R"(regex": true}, {"type": "Digits", "individual_digits": true}]}, "hello  w", [["he", [0, 2]], ["l", [2, 3])"
    R"(], ["lo", [3, 5]], ["\u0120", [5, 6]], ["\u0120w", [6, 8]]]])",
    R"([{"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Removed", "invert": true}, " Hello, world)"
    R"(!  It's 12\u00bd a_b - x\n", [["ello", [2, 6]], ["world", [8, 13]], ["t", [17, 18]], ["s", [19, 20]], ["a)"
    R"(", [25, 26]], ["b", [27, 28]], ["x", [31, 32]]]])",
    R"([{"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Removed", "invert": true}, "hello  w", [[)"
    R"("hello", [0, 5]], ["w", [7, 8]]]])",
    R"([{"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "MergedWithPrevious", "invert": false}, " He)"
    R"(llo, world!  It's 12\u00bd a_b - x\n", [[" ", [0, 1]], ["Hello, ", [1, 8]], ["world!  ", [8, 16]], ["It's)"
    R"( ", [16, 21]], ["12\u00bd ", [21, 25]], ["a_b ", [25, 29]], ["- ", [29, 31]], ["x\n", [31, 33]]]])",
    R"([{"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "MergedWithPrevious", "invert": false}, "hel)"
    R"(lo  w", [["hello  ", [0, 7]], ["w", [7, 8]]]])",
};

// [specification, tokens, text]
const char* const kDecoders[] = {
    R"([{"type": "WordPiece", "prefix": "##", "cleanup": true}, ["[CLS]", "hello", "##ing", ",", "do", "not", "n)"
    R"('t"], "[CLS] helloing, do notn't"])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}, ["\u2581He", )"
    R"("llo", "\u2581\u2581w"], "Hello  w"])",
    R"([{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": true}, ["\u2581He", ")"
    R"(llo"], " Hello"])",
    R"([{"type": "BPEDecoder", "suffix": "</w>"}, ["he", "llo</w>", "wor", "ld</w>"], "hello world"])",
    R"([{"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, )"
    R"({"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}, [)"
    R"("\u2581\u2581a", "<0xEC>", "<0xB0>", "<0x80>", "b\u2581"], " a\ucc00b "])",
    R"([{"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true}, ["<pad>", "h", "h",)"
    R"( "e", "<pad>", "l", "l", "<pad>", "l", "o", "o", "|", "w"], "hello w"])",
    R"([{"type": "Strip", "content": "H", "start": 1, "stop": 1}, ["Hey", "HHiHH"], "eyHiH"])",
    R"([{"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "ab"}, "co)"
    R"(ntent": "-"}, {"type": "Strip", "content": "x", "start": 0, "stop": 2}]}, ["xa", "b", "a", "aby", "xx", ")"
    R"(x"], "x-a-yx"])",
    R"([null, ["a", "b"], "a b"])",
};
// clang-format on

TEST(Components, Normalizers) {
  for (const char* line : kNormalizers) {
    const Json entry = Json::parse(line);
    const std::string text = entry[1];
    const auto normalizer = make_normalizer(entry[0], "test");
    for (const bool track : {false, true}) {
      NormalizerBuffers buffers;
      buffers.track = track;
      const std::string_view normalized = normalizer->normalize(text, buffers);
      EXPECT_EQ(normalized, entry[2].get<std::string>()) << line;
      if (!track) continue;
      ASSERT_EQ(buffers.origins.size(), normalized.size()) << line;
      for (const Origin& origin : buffers.origins) {
        EXPECT_TRUE(origin.begin <= origin.end && origin.end <= text.size()) << line;
      }
    }
  }
}

/// Collects pieces and where they come from.
class Collector : public PieceSink {
 public:
  explicit Collector(OriginStack* origins) : PieceSink(origins) {}
  void piece(std::string_view text) override {
    pieces.emplace_back(text);
    const Origin* from = origins()->of(text);
    ranges.push_back({from[0].begin, from[text.size() - 1].end});
  }
  std::vector<std::string> pieces;
  std::vector<TextRange> ranges;
};

TEST(Components, PreTokenizers) {
  for (const char* line : kPreTokenizers) {
    SCOPED_TRACE(line);
    const Json entry = Json::parse(line);
    const std::string text = entry[1];
    OriginStack stack;
    stack.push(text, identity_origins(text));
    Collector collector(&stack);
    make_pre_tokenizer(entry[0], "test", /*raw_bytes=*/false)->split(text, true, collector);
    ASSERT_EQ(collector.pieces.size(), entry[2].size());
    const auto ranges = in_code_points(text, collector.ranges);
    for (size_t i = 0; i < ranges.size(); ++i) {
      EXPECT_EQ(collector.pieces[i], entry[2][i][0].get<std::string>());
      EXPECT_EQ(ranges[i], entry[2][i][1].get<std::vector<size_t>>());
    }
  }
}

TEST(Components, Decoders) {
  for (const char* line : kDecoders) {
    const Json entry = Json::parse(line);
    DecodeRun run = make_decoder(entry[0], "test")->start();
    std::string text;
    for (const std::string token : entry[1]) run.push(token, text);
    run.finish(text);
    EXPECT_EQ(text, entry[2].get<std::string>()) << line;
  }
}

TEST(Components, UnsupportedOnesAreNamed) {
  const auto error_of = [](const auto& make) {
    try {
      make();
    } catch (const UsageError& error) {
      return std::string(error.what()) + "; " + error.hint();
    }
    return std::string("no error");
  };
  const Json strange = {{"type", "Strange"}};
  const Json nested = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Strange"}}}}};
  EXPECT_EQ(error_of([&] { make_normalizer(nested, "f.json"); }).substr(0, 92),
            "normalizer type \"Strange\" is not supported (f.json, normalizer.normalizers[1]); supported: B");
  EXPECT_NE(error_of([&] { make_pre_tokenizer(strange, "f.json", true); }).find("Metaspace"), std::string::npos);
  EXPECT_NE(error_of([&] { make_decoder(strange, "f.json"); }).find("ByteFallback"), std::string::npos);
  EXPECT_NE(error_of([&] {
              make_normalizer({{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA!"}}, "f.json");
            }).find("base64"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              make_normalizer({{"type", "Precompiled"}, {"precompiled_charsmap", "/////wAA"}}, "f.json");
            }).find("the character map has 6 bytes and a trie of 4294967295"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol::tokenization
