#include <ondol/data/decontamination.h>

#include <algorithm>
#include <bit>
#include <set>

#include <ondol/base/error.h>
#include <ondol/base/text_reader.h>
#include <ondol/data/documents.h>

#include "base/json_reader.h"
#include "data/clean/text_scan.h"
#include "data/clean/words.h"

namespace ondol {

namespace {

using namespace clean;

constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 30;

template <class Function>
void for_each_string(const Json& value, const Function& function) {
  if (value.is_string()) {
    function(value.get_ref<const std::string&>());
  } else if (value.is_structured()) {
    for (const Json& item : value) for_each_string(item, function);
  }
}

bool has_ending(std::string name, std::string_view ending) {
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name.ends_with(ending);
}

/// `count` characters before a position, or as many as there are.
size_t step_back(std::string_view text, size_t position, int64_t count) {
  while (position > 0 && count > 0) {
    --position;
    if ((static_cast<uint8_t>(text[position]) & 0xc0) != 0x80) --count;
  }
  return position;
}

size_t step_forward(std::string_view text, size_t position, int64_t count) {
  while (position < text.size() && count >= 0) {
    if ((static_cast<uint8_t>(text[position]) & 0xc0) != 0x80 && --count < 0) break;
    ++position;
  }
  return position;
}

}  // namespace

BenchmarkIndex::BenchmarkIndex(const DecontaminationOptions& options) : options_(options) {
  if (options_.benchmarks.empty()) throw UsageError("decontamination: no benchmark files were named");
  if (options_.ngram < 1 || options_.min_ngram < 1 || options_.min_ngram > options_.ngram) {
    throw UsageError(concat("decontamination: n-grams of ", options_.ngram, " words, at least ", options_.min_ngram,
                            ": 1 <= min_ngram <= ngram must hold"));
  }
  for (const std::string& pattern : options_.benchmarks) {
    for (const std::string& path : expand_path(pattern)) read_file(path);
  }
  if (ngrams_.empty()) {
    throw UsageError(concat("decontamination: no text of ", options_.min_ngram, " words or more in the benchmarks (",
                            options_.benchmarks.front(), ")"));
  }
  // Of several files with an n-gram the first one is named.
  std::sort(ngrams_.begin(), ngrams_.end(),
            [](const Ngram& a, const Ngram& b) { return a.hash != b.hash ? a.hash < b.hash : a.file < b.file; });
  ngrams_.erase(
      std::unique(ngrams_.begin(), ngrams_.end(), [](const Ngram& a, const Ngram& b) { return a.hash == b.hash; }),
      ngrams_.end());
  filter_.resize(std::bit_ceil(ngrams_.size()) / 4 + 1);
  filter_.resize(std::bit_ceil(filter_.size()));
  for (const Ngram& ngram : ngrams_) {
    filter_[(ngram.hash >> 6) & (filter_.size() - 1)] |= uint64_t{1} << (ngram.hash & 63);
  }
  std::sort(lengths_.begin(), lengths_.end());
  lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
}

void BenchmarkIndex::read_file(const std::string& path) {
  files_.push_back(path);
  const auto add = [this](const std::string& text) { add_example(text); };
  if (path.ends_with(".json")) {
    for_each_string(load_json(path, ErrorKind::failure, {.max_bytes = kMaxJsonBytes}), add);
    return;
  }
  const bool rows = has_ending(path, ".jsonl");
  if (!rows && !has_ending(path, ".txt") && !has_ending(path, ".tsv") && !has_ending(path, ".csv")) {
    throw UsageError("unknown kind of benchmark file (" + path + ")", "use .jsonl, .json, .txt, .tsv or .csv");
  }
  TextReader reader(path);
  for (std::string line; reader.read_line(line);) {
    if (reader.line_number() == 1 && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
    if (trimmed(line).empty()) continue;
    if (!rows) {
      add(line);
      continue;
    }
    const std::string place = concat(path, ":", reader.line_number());
    for_each_string(parse_json(line, place, ErrorKind::failure, {.max_bytes = kMaxJsonBytes}), add);
  }
}

void BenchmarkIndex::add_example(const std::string& text) {
  std::vector<uint64_t> words, hashes;
  word_hashes(text, words);
  ++num_examples_;
  if (static_cast<int64_t>(words.size()) < options_.min_ngram) {
    ++num_too_short_;
    return;
  }
  ngram_hashes(words, static_cast<size_t>(options_.ngram), hashes);
  lengths_.push_back(std::min(options_.ngram, static_cast<int64_t>(words.size())));
  for (const uint64_t hash : hashes) ngrams_.push_back({hash, static_cast<uint32_t>(files_.size() - 1)});
}

const BenchmarkIndex::Ngram* BenchmarkIndex::find(uint64_t hash) const {
  if ((filter_[(hash >> 6) & (filter_.size() - 1)] >> (hash & 63) & 1) == 0) return nullptr;
  const auto found = std::lower_bound(ngrams_.begin(), ngrams_.end(), hash,
                                      [](const Ngram& ngram, uint64_t value) { return ngram.hash < value; });
  return found != ngrams_.end() && found->hash == hash ? &*found : nullptr;
}

std::vector<BenchmarkIndex::Match> BenchmarkIndex::matches(const std::vector<uint64_t>& words) const {
  std::vector<Match> found;
  std::vector<uint64_t> hashes;
  for (const int64_t length : lengths_) {
    const auto n = static_cast<size_t>(length);
    if (words.size() < n) break;
    ngram_hashes(words, n, hashes);
    for (size_t i = 0; i < hashes.size(); ++i) {
      if (const Ngram* ngram = find(hashes[i])) found.push_back({i, n, *ngram});
    }
  }
  return found;
}

RuleResult BenchmarkIndex::apply(std::string& text, bool* cut) const {
  if (cut != nullptr) *cut = false;
  std::vector<uint64_t> words;
  std::vector<std::pair<size_t, size_t>> spans;
  word_hashes(text, words, &spans);
  const std::vector<Match> found = matches(words);
  if (found.empty()) return {};
  std::vector<std::set<uint64_t>> of_file(files_.size());
  std::set<uint64_t> different;
  for (const Match& match : found) {
    of_file[match.ngram.file].insert(match.ngram.hash);
    different.insert(match.ngram.hash);
  }
  if (static_cast<int64_t>(different.size()) < options_.min_matches) return {};
  const auto most = std::max_element(of_file.begin(), of_file.end(),
                                     [](const auto& a, const auto& b) { return a.size() < b.size(); });
  const auto file = static_cast<size_t>(most - of_file.begin());
  const auto first =
      std::find_if(found.begin(), found.end(), [&](const Match& match) { return match.ngram.file == file; });
  const size_t begin = spans[first->word].first, end = spans[first->word + first->length - 1].second;
  const RuleResult overlap{files_[file], concat(most->size(), most->size() == 1 ? " n-gram: " : " n-grams: ",
                                                quoted_name(text.substr(begin, end - begin)))};
  if (!options_.cut) return overlap;

  std::vector<std::pair<size_t, size_t>> holes;
  for (const Match& match : found) {
    holes.emplace_back(step_back(text, spans[match.word].first, options_.window),
                       step_forward(text, spans[match.word + match.length - 1].second, options_.window));
  }
  std::sort(holes.begin(), holes.end());
  const RuleResult result = cut_out(text, holes, overlap);
  if (cut != nullptr) *cut = result.keep();
  return result;
}

RuleResult BenchmarkIndex::cut_out(std::string& text, const std::vector<std::pair<size_t, size_t>>& holes,
                                   const RuleResult& overlap) const {
  std::string kept;
  int64_t parts = 0;
  size_t position = 0;
  const auto keep = [&](size_t end) {
    const std::string_view part = trimmed(std::string_view(text).substr(position, end - position));
    if (part.empty() || count_characters(part) < options_.min_part) return;
    if (++parts > 1) kept += "\n\n";
    kept += part;
  };
  for (const auto& [begin, end] : holes) {
    if (begin > position) keep(begin);
    position = std::max(position, end);
  }
  keep(text.size());
  if (parts == 0 || parts > options_.max_parts) return overlap;
  text = std::move(kept);
  return {};
}

}  // namespace ondol
