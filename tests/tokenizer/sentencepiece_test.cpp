// SentencePiece tokenizers made in the test: what is worked out by hand, and errors.
#include <ondol/tokenizer/tokenizer.h>

#include <cmath>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

#include "tokenizer/tokenizer_files.h"

namespace ondol {
namespace {

using Ids = std::vector<int32_t>;

/// Ids 0 to 2: <unk>, <s>, </s>.
SentencePieceParts parts_of(SentencePieceParts::Algorithm algorithm,
                            const std::vector<std::tuple<const char*, float, PieceType>>& pieces) {
  SentencePieceParts parts;
  parts.algorithm = algorithm;
  parts.tokens = {"<unk>", "<s>", "</s>"};
  parts.scores = {0, 0, 0};
  parts.types = {PieceType::unknown, PieceType::control, PieceType::control};
  for (const auto& [token, score, type] : pieces) {
    parts.tokens.push_back(token);
    parts.scores.push_back(score);
    parts.types.push_back(type);
  }
  parts.special_tokens = {{"bos", "<s>"}, {"eos", "</s>"}};
  return parts;
}

SentencePieceParts bpe_parts() {
  return parts_of(SentencePieceParts::Algorithm::bpe, {{"\u2581", -9, PieceType::normal},    // 3
                                                       {"a", -9, PieceType::normal},         // 4
                                                       {"b", -9, PieceType::normal},         // 5
                                                       {"ab", -1, PieceType::normal},        // 6
                                                       {"\u2581ab", -2, PieceType::normal},  // 7
                                                       {"ba", -3, PieceType::normal},        // 8
                                                       {"XY", 0, PieceType::user_defined},   // 9
                                                       {"aba", -1.5, PieceType::unused}});   // 10
}

TEST(SentencePiece, BpeMergesByScore) {
  const Tokenizer tokenizer = make_sentencepiece_tokenizer(bpe_parts(), "test");
  EXPECT_EQ(tokenizer.encode("ab ba"), (Ids{7, 3, 8}));
  // "aba" is merged first and, as no text may become it, taken apart again where it was put together.
  EXPECT_EQ(tokenizer.encode("baba"), (Ids{3, 5, 4, 8}));
  EXPECT_EQ(tokenizer.encode("aXYb"), (Ids{3, 4, 9, 5}));
  EXPECT_EQ(tokenizer.encode("zzb z"), (Ids{3, 0, 5, 3, 0}));
  EXPECT_EQ(tokenizer.encode("a<s>"), (Ids{3, 4, 1}));
  EXPECT_EQ(tokenizer.encode("a<s>", {.parse_special = false}).back(), 0);
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("ab ba")), "ab ba");
}

TEST(SentencePiece, BytesStandForUnknownCharacters) {
  SentencePieceParts parts = bpe_parts();
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    parts.tokens.push_back({'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'});
    parts.scores.push_back(0);
    parts.types.push_back(PieceType::byte);
  }
  parts.add_bos = true;
  const Tokenizer tokenizer = make_sentencepiece_tokenizer(parts, "test");
  EXPECT_EQ(tokenizer.encode("a\u00e9"), (Ids{1, 3, 4, 11 + 0xc3, 11 + 0xa9}));
  for (const std::string text : {"a\u00e9 \xff b", " two  spaces ", "<0x41>", "\n\t"}) {
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids, true), text);
    StreamDecoder stream(tokenizer, true);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.flush(), text);
  }
  // The bytes of one character lie where it does.
  const Encoding encoding = tokenizer.encode_detailed("a\u00e9", {.add_special_tokens = false});
  EXPECT_EQ(encoding.offsets, (std::vector<TextRange>{{0, 1}, {0, 1}, {1, 3}, {1, 3}}));
}

TEST(SentencePiece, UnigramTakesTheBestSum) {
  const auto parts = parts_of(SentencePieceParts::Algorithm::unigram, {{"\u2581", -1, PieceType::normal},      // 3
                                                                       {"a", -2, PieceType::normal},           // 4
                                                                       {"b", -2, PieceType::normal},           // 5
                                                                       {"ab", -3, PieceType::normal},          // 6
                                                                       {"bb", -5, PieceType::normal},          // 7
                                                                       {"aa", -1, PieceType::unused},          // 8
                                                                       {"b!", -9, PieceType::user_defined}});  // 9
  SentencePieceParts trimmed = parts;
  trimmed.remove_extra_whitespaces = true;
  const Tokenizer tokenizer = make_sentencepiece_tokenizer(trimmed, "test");
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{3, 6}));             // -1 - 3 against -1 - 2 - 2
  EXPECT_EQ(tokenizer.encode("bbaa"), (Ids{3, 5, 5, 4, 4}));  // -4 against -5
  EXPECT_EQ(tokenizer.encode("ab!"), (Ids{3, 4, 9}));         // user-defined pieces always win
  EXPECT_EQ(tokenizer.encode("  a   b "), (Ids{3, 4, 3, 5}));
  EXPECT_EQ(tokenizer.encode("   "), Ids{});
  EXPECT_EQ(tokenizer.encode("azz"), (Ids{3, 4, 0}));
  const Tokenizer again = tokenizer_from_json(tokenization::write_tokenizer_json(tokenizer.impl()));
  for (const char* text : {"ab ab!", "bbab b", " azz"}) EXPECT_EQ(again.encode(text), tokenizer.encode(text)) << text;
}

std::string error_of(const std::function<void()>& make) {
  try {
    make();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

#define EXPECT_ERROR(expression, part) \
  EXPECT_NE(error_of([&] { expression; }).find(part), std::string::npos) << error_of([&] { expression; })

TEST(SentencePiece, WrongPartsAreClearErrors) {
  const auto changed = [](const std::function<void(SentencePieceParts&)>& change) {
    SentencePieceParts parts = bpe_parts();
    change(parts);
    make_sentencepiece_tokenizer(parts, "file");
  };
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.scores.pop_back(); }), "11 pieces with 10 scores");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.tokens.clear(); }), "0 pieces");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.tokens[5] = "a"; }), "\"a\" appears twice (file, piece 5)");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.tokens[5] = ""; }), "the piece is empty");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.tokens[5] = "\xff"; }), "not UTF-8");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.tokens[5] = std::string(5000, 'x'); }), "5000 bytes");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.scores[5] = NAN; }), "not finite");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.types[5] = static_cast<PieceType>(9); }), "type 9");
  EXPECT_ERROR(changed([](SentencePieceParts& p) { p.character_map = "\x01"; }), "character map");
  using tokenization::read_llama2c;
  using tokenization::read_sentencepiece;
  using namespace std::string_literals;
  EXPECT_ERROR(read_sentencepiece("", {}, "m"), "no pieces");
  EXPECT_ERROR(read_sentencepiece("\x0a\xff\xff\xff\xff\x0f", {}, "m"), "reaches over the end");
  EXPECT_ERROR(read_sentencepiece("\x0a", {}, "m"), "the end inside a field");
  EXPECT_ERROR(read_sentencepiece("\x12\x02\x18\x04", {}, "m"), "type char");
  EXPECT_ERROR(read_llama2c("\xff\xff\xff\x7f", {}, "t"), "not a llama2.c tokenizer");
  EXPECT_ERROR(read_llama2c("\x04\0\0\0\0\0\0\0\x09\0\0\0abc"s, {}, "t"), "9 bytes where 4 are the most");
  EXPECT_ERROR(read_llama2c("\x04\0\0\0\0\0\0\0\x04\0\0\0abc"s, {}, "t"), "ends early");
}

TEST(WordPiece, WrongVocabulariesAreClearErrors) {
  EXPECT_ERROR(make_wordpiece_tokenizer({.tokens = {"a", "b"}}, "file"),
               "unk_token \"[UNK]\" is not in the vocabulary");
  EXPECT_ERROR(make_wordpiece_tokenizer({.tokens = {"[UNK]", "a", "a"}}, "file"), "\"a\" appears twice");
  EXPECT_ERROR(make_wordpiece_tokenizer({.tokens = {}}, "file"), "empty");
  const Tokenizer tokenizer = make_wordpiece_tokenizer({.tokens = {"[UNK]", "a", "##b", "ab", "##bc"}}, "file");
  EXPECT_EQ(tokenizer.encode("ABBC abc, abx"), (Ids{3, 4, 0, 0, 0}));
  EXPECT_EQ(tokenizer.encode(std::string(100, 'a')), Ids{0});
}

TEST(UnigramJson, WrongVocabulariesAreClearErrors) {
  const auto load = [](const std::string& model) {
    tokenizer_from_json(R"({"model":{"type":"Unigram",)" + model + "}}");
  };
  EXPECT_ERROR(load(R"("vocab":[])"), "vocabulary is empty");
  EXPECT_ERROR(load(R"("vocab":[["a",0],["a",1]])"), "appears twice");
  EXPECT_ERROR(load(R"("unk_id":5,"vocab":[["a",0]])"), "unk_id 5 is outside");
  EXPECT_ERROR(load(R"("vocab":[["a"]])"), "another length");
  EXPECT_ERROR(load(R"("vocab":[[1,"a"]])"), "should hold [piece, score]");
  EXPECT_ERROR(load(R"("vocab":["a"])"), "should hold [piece, score]");
  EXPECT_THROW(tokenizer_from_json(R"({"model":{"type":"Unigram","vocab":[["a",0]]}})").encode("z"), Error);
}

}  // namespace
}  // namespace ondol
