#include "tokenizer/json_file.h"

#include <algorithm>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

namespace ondol::tokenization {

namespace {

constexpr size_t kMaxDepth = 64;

/// What the events of the parser are turned into. One instance reads one document.
class DocumentReader : public nlohmann::json_sax<Json> {
 public:
  enum class Target { plain, tokenizer, vocabulary };
  DocumentReader(Target target, TokenizerDocument& document, const std::string& file)
      : target_(target), document_(document), file_(file) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool b) override { return value(b); }
  bool number_integer(int64_t n) override { return number(n); }
  bool number_unsigned(uint64_t n) override {
    if (place_ == Place::piece) return score(static_cast<double>(n));
    if (place_ == Place::vocab && n > INT32_MAX) return number(INT64_MAX);
    return place_ == Place::vocab ? number(static_cast<int64_t>(n)) : value(n);
  }
  bool number_float(double d, const string_t&) override { return place_ == Place::piece ? score(d) : value(d); }
  bool binary(binary_t&) override { return fail("binary data"); }

  bool string(string_t& text) override {
    if (place_ == Place::merges) {
      document_.merges.push_back(split_merge(text, merges_where()));
      return true;
    }
    if (place_ == Place::merge_pair) {
      if (pair_size_ < 2) (pair_size_ == 0 ? pair_.first : pair_.second) = std::move(text);
      ++pair_size_;
      return true;
    }
    if (place_ == Place::piece) {
      if (pair_size_ == 0) piece_.first = std::move(text);
      return ++pair_size_ == 1 || fail("a second text");
    }
    return value(std::move(text));
  }

  bool key(string_t& name) override {
    if (place_ != Place::tree && place_ != Place::vocab) return fail("an object");
    key_ = std::move(name);
    if (place_ == Place::tree && !keys_.back().insert(key_).second) {
      throw UsageError(concat("key \"", key_, "\" appears twice (", file_, ")"));
    }
    return true;
  }

  bool start_object(size_t) override {
    if (place_ != Place::tree) return fail("an object");
    enter();
    if (at_vocabulary()) {
      place_ = Place::vocab;
      return true;
    }
    stack_.push_back(put(Json::object()));
    keys_.emplace_back();
    if (stack_.size() == 2 && key_ == "model") in_model_ = true;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (place_ == Place::vocab) {
      place_ = Place::tree;
      return true;
    }
    if (stack_.size() == 2) in_model_ = false;
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::merges) {
      enter();
      place_ = Place::merge_pair;
      pair_size_ = 0;
      return true;
    }
    if (place_ == Place::pieces) {
      enter();
      place_ = Place::piece;
      pair_size_ = 0;
      return true;
    }
    if (place_ != Place::tree) return fail("an array");
    enter();
    if (at_vocabulary()) {
      if (target_ == Target::vocabulary) throw UsageError(concat("an object {token: id} is expected (", file_, ")"));
      place_ = Place::pieces;
      return true;
    }
    if (target_ == Target::tokenizer && in_model_ && stack_.size() == 2 && key_ == "merges") {
      place_ = Place::merges;
      return true;
    }
    stack_.push_back(put(Json::array()));
    return true;
  }
  bool end_array() override {
    --depth_;
    if (place_ == Place::merge_pair) {
      if (pair_size_ != 2)
        throw UsageError(concat("a merge must have two parts, not ", pair_size_, " (", merges_where(), ")"));
      document_.merges.push_back(std::move(pair_));
      place_ = Place::merges;
      return true;
    }
    if (place_ == Place::piece) {
      if (pair_size_ != 2) fail("an entry of another length");
      document_.pieces.push_back(std::move(piece_));
      place_ = Place::pieces;
      return true;
    }
    if (place_ == Place::merges || place_ == Place::pieces) {
      place_ = Place::tree;
      return true;
    }
    stack_.pop_back();
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw UsageError(concat("not valid JSON at byte ", position, " (", file_, ")"));
  }

 private:
  enum class Place { tree, vocab, pieces, piece, merges, merge_pair };

  std::string merges_where() const { return concat(file_, ", model.merges[", document_.merges.size(), "]"); }

  bool fail(const char* what) const {
    const bool merges = place_ == Place::merges || place_ == Place::merge_pair;
    const bool scored = place_ == Place::pieces || place_ == Place::piece;
    throw UsageError(concat(what, " where the ", merges ? "merges" : "vocabulary", " should hold ",
                            merges   ? "strings or pairs of strings"
                            : scored ? "[piece, score]"
                                     : "integers",
                            " (", file_, ")"));
  }

  void enter() {
    if (++depth_ > kMaxDepth) throw UsageError(concat("JSON nested deeper than ", kMaxDepth, " levels (", file_, ")"));
  }

  bool at_vocabulary() const {
    if (target_ == Target::vocabulary) return stack_.empty();
    return target_ == Target::tokenizer && in_model_ && stack_.size() == 2 && key_ == "vocab";
  }

  /// Puts a value where the document stands; the address stays valid while its container does not grow.
  Json* put(Json json) {
    if (stack_.empty()) {
      document_.root = std::move(json);
      return &document_.root;
    }
    Json& container = *stack_.back();
    if (container.is_array()) {
      container.push_back(std::move(json));
      return &container.back();
    }
    // keys_ has seen to it that the key is new; Json's own insertion would search for it.
    auto& members = container.get_ref<Json::object_t&>();
    members.emplace_back(key_, std::move(json));
    return &members.back().second;
  }

  bool value(Json json) {
    if (place_ != Place::tree) return fail("another kind of value");
    if (target_ == Target::vocabulary) throw UsageError(concat("an object {token: id} is expected (", file_, ")"));
    put(std::move(json));
    return true;
  }

  bool score(double number) {
    if (pair_size_ != 1) return fail("a number");
    piece_.second = number;
    ++pair_size_;
    return true;
  }

  bool number(int64_t n) {
    if (place_ == Place::piece) return score(static_cast<double>(n));
    if (place_ != Place::vocab) return value(n);
    document_.vocab.emplace_back(std::move(key_), n);
    return true;
  }

  Target target_;
  TokenizerDocument& document_;
  const std::string& file_;
  Place place_ = Place::tree;
  std::vector<Json*> stack_;                           // open containers
  std::vector<std::unordered_set<std::string>> keys_;  // of the open objects
  std::string key_;
  std::pair<std::string, std::string> pair_;
  std::pair<std::string, double> piece_;
  size_t pair_size_ = 0, depth_ = 0;
  bool in_model_ = false;
};

TokenizerDocument read(std::string_view text, const std::string& file, DocumentReader::Target target) {
  TokenizerDocument document;
  DocumentReader reader(target, document, file);
  Json::sax_parse(text.begin(), text.end(), &reader);
  return document;
}

}  // namespace

Json parse_json(std::string_view text, const std::string& file) {
  return read(text, file, DocumentReader::Target::plain).root;
}

TokenizerDocument parse_tokenizer_document(std::string_view text, const std::string& file) {
  return read(text, file, DocumentReader::Target::tokenizer);
}

std::vector<std::pair<std::string, int64_t>> parse_vocab_json(std::string_view text, const std::string& file) {
  return read(text, file, DocumentReader::Target::vocabulary).vocab;
}

std::pair<std::string, std::string> split_merge(std::string_view merge, const std::string& where) {
  const size_t space = merge.find(' ');
  if (space == merge.npos || space == 0 || space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos) {
    throw UsageError(concat("a merge must be two tokens with one space between, not \"", merge, "\" (", where, ")"));
  }
  return {std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))};
}

}  // namespace ondol::tokenization
