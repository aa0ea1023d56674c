// What cleaning does to texts of any bytes, and to rows in which one field changes.
#include <ondol/data/documents.h>
#include <ondol/data/language.h>
#include <ondol/data/minhash.h>
#include <ondol/data/quality_rules.h>
#include <ondol/data/redaction.h>

#include "base/json_reader.h"
#include "data/clean/json_row.h"
#include "data/clean/words.h"
#include "fuzz/targets.h"

namespace ondol::fuzz {

/// The input is a .jsonl file; every row that the reader accepts is changed.
void run_json_row(std::string_view input) {
  const std::string path = scratch_file("rows.jsonl", input);
  accepts([&] {
    DocumentReader reader(path, {});
    for (DocumentPiece piece; reader.next(piece);) {
      const std::string text = "\"new\" \\ text\n" + piece.text.substr(piece.text.size() / 2);
      const std::string changed = clean::replace_string_field(reader.row(), "text", text);
      promise(changed.find('\n') == std::string::npos, "a row of several lines");
      Json before = Json::parse(reader.row(), nullptr, false), after = Json::parse(changed, nullptr, false);
      promise(!after.is_discarded() && after.is_object(), "the changed row is no object");
      if (before.is_discarded()) continue;
      promise(after["text"] == Json::parse(clean::json_string(text)), "the field does not hold the text");
      after["text"] = before["text"];
      promise(after == before, "another field has changed");
    }
  });
}

std::vector<std::string> json_row_seeds() {
  return {"{\"text\":\"one\"}\n{\"id\":7,\"text\":\"two \\u00e9\",\"more\":{\"text\":[1,\"text\"]}}\r\n",
          "{ \"te\\u0078t\" : \"a \\\"b\\\" \\\\\" , \"x\" : [{\"text\":\"}\"}] }\n",
          "{\"a\":\"text\",\"text\":\"a@b.com\",\"b\":null,\"c\":-1.5e3}"};
}

void run_clean_text(std::string_view input) {
  const std::string text(input);
  const LanguageGuess guess = identify_language(text);
  promise(guess.score >= 0 && guess.score <= 1, "a score outside 0 … 1");
  check_gopher_quality(text, {.min_words = 1});
  const RepetitionShares shares = repetition_shares(text);
  for (const double share : shares.top_ngram_characters) promise(share >= 0 && share <= 1, "a share outside 0 … 1");
  for (const double share : shares.duplicate_ngram_characters) {
    promise(share >= 0 && share <= 1, "a share outside 0 … 1");
  }
  promise(shares.duplicate_lines >= 0 && shares.duplicate_lines < 1, "all lines repeat an earlier one");

  std::string changed = text;
  C4Rules({.min_sentences = 0, .bad_words = {"bad word"}}).apply(changed);
  promise(changed.size() <= text.size(), "lines were added");
  RedactionCounts counts;
  std::string redacted = text;
  redact(redacted, {}, counts);
  promise((counts.total() == 0) == (redacted == text), "a count without a change");

  clean::WordReader reader(text);
  size_t end = 0;
  for (clean::Word word; reader.next(word);) {
    promise(word.begin >= end && word.end > word.begin && word.end <= text.size(), "words overlap");
    promise(!word.text.empty(), "an empty word");
    end = word.end;
  }
  static const MinHasher hasher({.bands = 2, .rows = 2});
  std::vector<uint32_t> signature;
  promise(hasher.signature(text, signature) == (end > 0), "words without a signature");
}

std::vector<std::string> clean_text_seeds() {
  return {"The people, with 3 words - and more...\n\n- a line\n- a line\nA sentence. Another one! A third[2]?\n",
          "kim@naver.com 010-1234-5678 +82 (0)2-123-4567 4111 1111 1111 1111 8.8.8.8 2606:4700::1111",
          "900101-1234568 DE89 3704 0044 0532 0130 00 (02) 123-4567 (212) 555-0123",
          "모든 인간은 すべての 人人生而自由 ＡＢＣ", "a a a a b b a a a a b b\nlorem\n{}\n\xff\xc3\xa9\xe2\x80\xa6"};
}

}  // namespace ondol::fuzz
