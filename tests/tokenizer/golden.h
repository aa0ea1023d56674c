// The reference encodings of the golden files, checked against a tokenizer.
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tokenizer/test_data.h"
#include "tokenizer/utf8.h"

namespace ondol {

inline constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};
inline constexpr EncodeOptions kParsed{.add_special_tokens = false, .parse_special = true};

/// What a lossy UTF-8 decoder of the reference makes of bytes: those of an incomplete character become U+FFFD.
inline bool same_text(const std::string& bytes, const std::string& expected) {
  using nlohmann::json;
  return bytes == expected || json(bytes).dump(-1, ' ', false, json::error_handler_t::replace) == json(expected).dump();
}

/// The "clean up of tokenization spaces" that those published answers went through (an option of transformers).
inline std::string clean_up_spaces(std::string text) {
  const std::pair<const char*, const char*> replacements[] = {
      {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
      {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : replacements) {
    const std::string_view before = from;
    for (size_t at = 0; (at = text.find(before, at)) != text.npos; ++at) text.replace(at, before.size(), to);
  }
  return text;
}

inline const std::map<int, std::string>& golden_texts() {
  static const auto texts = [] {
    std::map<int, std::string> result;
    for (const nlohmann::json& line : read_jsonl("vectors/tokenization/golden/texts.jsonl")) {
      result[line["id"]] = line["text"];
    }
    return result;
  }();
  return texts;
}

/// Offsets in bytes as offsets in code points.
inline std::vector<std::vector<size_t>> in_code_points(const std::string& text, const std::vector<TextRange>& offsets) {
  std::vector<size_t> characters(text.size() + 1, 0);
  size_t count = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = tokenization::decode_code_point(text, i).length;
    for (size_t k = 0; k < length; ++k) characters[i + k] = count;
    i += length;
    ++count;
  }
  characters[text.size()] = count;
  std::vector<std::vector<size_t>> result;
  for (const TextRange& range : offsets) result.push_back({characters[range.begin], characters[range.end]});
  return result;
}

inline bool is_added(const Tokenizer& tokenizer, int32_t id) {
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (token.id == id) return true;
  }
  return false;
}

/// Checks ids, tokens, offsets, decoded text and templates, as far as the file holds them; returns the number of cases.
inline int check_golden_file(const Tokenizer& tokenizer, const std::string& name, EncodeOptions options) {
  using Ids = std::vector<int32_t>;
  int cases = 0;
  for (const nlohmann::json& line : read_jsonl("vectors/tokenization/golden/" + name + ".jsonl")) {
    const std::string& text = golden_texts().at(line["id"]);
    SCOPED_TRACE(name + ": " + text);
    const Ids ids = line["ids"];
    EXPECT_EQ(tokenizer.encode(text, options), ids);
    const Encoding detailed = tokenizer.encode_detailed(text, options);
    EXPECT_EQ(detailed.ids, ids);
    for (const char* key : {"tokens", "pieces"}) {
      if (!line.contains(key)) continue;
      const std::vector<std::string> tokens = line[key];
      EXPECT_EQ(tokens.size(), ids.size());
      for (size_t i = 0; i < std::min(ids.size(), tokens.size()); ++i) {
        // The references spell the unknown token, and the spaces that an added token takes along, as the text.
        if (!is_added(tokenizer, ids[i])) {
          EXPECT_EQ(tokenizer.id_to_token(ids[i]), tokens[i]);
        }
      }
    }
    if (line.contains("offsets")) {
      EXPECT_EQ(in_code_points(text, detailed.offsets), line["offsets"].get<std::vector<std::vector<size_t>>>());
    }
    if (line.contains("decoded")) {
      EXPECT_TRUE(same_text(tokenizer.decode(ids), line["decoded"])) << tokenizer.decode(ids);
    }
    if (line.contains("ids_special")) {
      EXPECT_EQ(tokenizer.encode(text), line["ids_special"].get<Ids>());
    }
    ++cases;
  }
  return cases;
}

inline void check_golden(const Tokenizer& tokenizer, const std::string& name, EncodeOptions options) {
  EXPECT_EQ(check_golden_file(tokenizer, name, options), 178);
}

/// The 46 texts of llama.cpp; returns how many there were.
inline size_t check_llama_cpp(const Tokenizer& tokenizer, const std::string& name, bool lossless = true) {
  using Ids = std::vector<int32_t>;
  const std::string folder = "vectors/tokenization/llama_cpp/";
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string inputs = read_text(data_path(folder + "tests.inp"));
  std::vector<std::string> texts;
  for (size_t end; (end = inputs.find(separator)) != inputs.npos; inputs.erase(0, end + separator.size())) {
    texts.push_back(inputs.substr(0, end));
  }
  std::istringstream lines(read_text(data_path(folder + "ggml-vocab-" + name + ".gguf.out")));
  size_t cases = 0;
  for (std::string line; cases < texts.size() && std::getline(lines, line); ++cases) {
    Ids expected;
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) expected.push_back(id);
    SCOPED_TRACE(name + ": " + texts[cases]);
    const Ids ids = tokenizer.encode(texts[cases], kPlain);
    EXPECT_EQ(ids, expected);
    if (lossless) {
      EXPECT_EQ(tokenizer.decode(ids), texts[cases]);
    }
  }
  return cases;
}

/// One case of transformers.js: ids of a text or a pair, and what they are decoded to, perhaps cleaned up.
inline void check_published(const Tokenizer& tokenizer, const nlohmann::json& entry, const std::string& label) {
  SCOPED_TRACE(label);
  const std::string text = entry["text"];
  const std::vector<int32_t> expected = entry["ids"];
  const bool pair = entry.contains("text_pair") && !entry["text_pair"].is_null();
  EXPECT_EQ(pair ? tokenizer.encode_pair(text, entry["text_pair"].get<std::string>()).ids : tokenizer.encode(text),
            expected);
  const std::string decoded = tokenizer.decode(expected);
  EXPECT_TRUE(same_text(decoded, entry["decoded"]) || same_text(clean_up_spaces(decoded), entry["decoded"])) << decoded;
}

/// Encodes a corpus line by line, alone and in batches, and checks that the text comes back when `lossless`.
inline void check_corpus(const Tokenizer& tokenizer, const std::string& file, bool lossless) {
  SCOPED_TRACE(file);
  std::istringstream in(read_text(data_path("corpora/" + file)));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  EXPECT_GT(lines.size(), 0u);
  const auto batch = tokenizer.encode_batch(lines, kPlain);
  for (size_t i = 0; i < lines.size(); ++i) {
    ASSERT_EQ(tokenizer.encode_detailed(lines[i], kPlain).ids, batch[i]) << lines[i];
    if (lossless) {
      ASSERT_EQ(tokenizer.decode(batch[i]), lines[i]);
    }
  }
}

}  // namespace ondol
