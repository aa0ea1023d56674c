#include <cmath>
#include <cstdlib>

#include <ondol/base/error.h>
#include <ondol/metrics/translation.h>

#include "metrics/ngrams.h"
#include "metrics/text.h"

namespace ondol::metrics {

namespace {

constexpr int kOrders = 4;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_point_or_comma(char c) { return c == '.' || c == ','; }

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

/// Signs that are tokens of their own wherever they stand: ASCII punctuation and blanks, but for ' , - .
bool stands_alone(char c) {
  return c == ' ' || (is_ascii_punctuation(static_cast<uint8_t>(c)) && c != '\'' && c != ',' && c != '-' && c != '.');
}

/// The steps of mteval-v13a one after the other, each over the result of the one before.
std::string separate_13a(std::string text) {
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  replace_all(text, "&quot;", "\"");
  replace_all(text, "&amp;", "&");
  replace_all(text, "&lt;", "<");
  replace_all(text, "&gt;", ">");
  text = " " + text + " ";

  std::string out;
  for (const char c : text) {
    if (stands_alone(c)) {
      out.append({' ', c, ' '});
    } else {
      out += c;
    }
  }
  text.swap(out);

  out.clear();  // a point or comma, unless behind a digit
  for (size_t i = 0; i < text.size(); ++i) {
    const bool apart = i + 1 < text.size() && !is_digit(text[i]) && is_point_or_comma(text[i + 1]);
    out += text[i];
    if (apart) out.append({' ', text[++i], ' '});
  }
  text.swap(out);

  out.clear();  // ... or unless before one
  for (size_t i = 0; i < text.size(); ++i) {
    const bool apart = i + 1 < text.size() && is_point_or_comma(text[i]) && !is_digit(text[i + 1]);
    if (!apart) {
      out += text[i];
      continue;
    }
    out.append({' ', text[i], ' ', text[i + 1]});
    ++i;
  }
  text.swap(out);

  out.clear();  // a dash behind a digit
  for (size_t i = 0; i < text.size(); ++i) {
    const bool apart = i + 1 < text.size() && is_digit(text[i]) && text[i + 1] == '-';
    out += text[i];
    if (apart) out.append({' ', text[++i], ' '});
  }
  return out;
}

/// The end of a text without the white space behind it.
std::vector<uint32_t> without_trailing_space(std::vector<uint32_t> text) {
  while (!text.empty() && is_space(text.back())) text.pop_back();
  return text;
}

struct Statistics {
  std::array<int64_t, kOrders> matches{}, totals{};
  int64_t hypothesis_length = 0, reference_length = 0;
};

void add_segment(const std::string& hypothesis, const std::vector<std::string>& references, const BleuOptions& options,
                 Statistics& sum) {
  WordIndex words;
  NgramIndex index;
  const std::vector<uint32_t> ours = words.add(bleu_tokens(hypothesis, options));
  const Ngrams our_ngrams = index.add(ours, kOrders);
  std::vector<Ngrams> their_ngrams;
  const auto length = static_cast<int64_t>(ours.size());
  int64_t closest = -1;
  for (const std::string& reference : references) {
    const std::vector<uint32_t> theirs = words.add(bleu_tokens(reference, options));
    their_ngrams.push_back(index.add(theirs, kOrders));
    const auto candidate = static_cast<int64_t>(theirs.size());
    const int64_t distance = std::llabs(candidate - length), best = std::llabs(closest - length);
    if (closest < 0 || distance < best || (distance == best && candidate < closest)) closest = candidate;
  }
  sum.hypothesis_length += length;
  sum.reference_length += closest;
  for (size_t n = 0; n < kOrders; ++n) {
    NgramCounts most;  // of any reference
    for (const Ngrams& theirs : their_ngrams) {
      const NgramCounts counts = index.count(theirs[n]);
      most.resize(counts.size(), 0);
      for (size_t i = 0; i < counts.size(); ++i) most[i] = std::max(most[i], counts[i]);
    }
    sum.matches[n] += index.matches(our_ngrams[n], std::move(most));
    sum.totals[n] += static_cast<int64_t>(our_ngrams[n].size());
  }
}

}  // namespace

std::vector<std::string> bleu_tokens(std::string_view text, const BleuOptions& options) {
  std::vector<uint32_t> characters = code_points(text);
  if (options.lowercase) characters = lowercase(characters);
  characters = without_trailing_space(std::move(characters));
  if (options.tokens == BleuTokens::v13a) return split(separate_13a(to_utf8(characters)));
  if (options.tokens == BleuTokens::words) return split(to_utf8(characters));
  std::vector<std::string> tokens;
  for (const uint32_t c : characters) {
    if (!is_space(c)) tokens.push_back(to_utf8({c}));
  }
  return tokens;
}

BleuScore bleu(std::span<const std::string> hypotheses, std::span<const std::vector<std::string>> references,
               const BleuOptions& options) {
  ONDOL_CHECK(hypotheses.size() == references.size(), "BLEU of ", hypotheses.size(), " hypotheses and ",
              references.size(), " references");
  Statistics sum;
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    ONDOL_CHECK(!references[i].empty(), "BLEU: hypothesis ", i, " has no reference");
    add_segment(hypotheses[i], references[i], options, sum);
  }
  BleuScore result;
  result.hypothesis_length = sum.hypothesis_length;
  result.reference_length = sum.reference_length;
  if (sum.hypothesis_length < sum.reference_length) {
    const double ratio = static_cast<double>(sum.reference_length) / static_cast<double>(sum.hypothesis_length);
    result.brevity_penalty = sum.hypothesis_length > 0 ? std::exp(1.0 - ratio) : 0.0;
  }
  if (sum.matches[0] == 0) return result;  // and so no longer one matches
  double smoothing = 1.0, log_sum = 0.0;
  for (size_t n = 0; n < kOrders; ++n) {
    if (sum.totals[n] == 0) return result;
    double matches = static_cast<double>(sum.matches[n]);
    if (sum.matches[n] == 0) matches = 1.0 / (smoothing *= 2.0);
    result.precisions[n] = 100.0 * matches / static_cast<double>(sum.totals[n]);
    log_sum += std::log(result.precisions[n]);
  }
  result.score = result.brevity_penalty * std::exp(log_sum / kOrders);
  return result;
}

}  // namespace ondol::metrics
