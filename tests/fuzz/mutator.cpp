#include "fuzz/mutator.h"

#include <algorithm>

#include <ondol/base/philox.h>

namespace ondol::fuzz {

namespace {

class Mutator {
 public:
  Mutator(const std::vector<std::string>& seeds, uint64_t round) : seeds_(seeds), key_{round, 77, 0} {}

  std::string run() {
    text_ = seeds_[below(seeds_.size())];
    for (uint64_t edits = 1 + below(8); edits > 0; --edits) edit();
    return text_;
  }

 private:
  uint64_t below(uint64_t limit) { return philox_word(key_, next_++) % std::max<uint64_t>(limit, 1); }

  /// A stretch of `source`: its begin and its length, short ones more often.
  std::pair<size_t, size_t> stretch(const std::string& source) {
    const size_t begin = below(source.size());
    const size_t limit = below(2) == 0 ? 8 : source.size();
    return {begin, std::min<size_t>(below(limit + 1), source.size() - begin)};
  }

  void edit() {
    if (text_.empty()) text_.push_back(static_cast<char>(below(256)));
    const size_t at = below(text_.size());
    switch (below(9)) {
      case 0:
        text_[at] = static_cast<char>(text_[at] ^ (1 << below(8)));
        break;
      case 1:
        text_[at] = static_cast<char>(below(256));
        break;
      case 2: {
        static constexpr char kSyntax[] = "{}[]\",:\\0123456789-.eE \n\r\t%#|()'\0\x7f\x80\xc3\xed\xf0\xff";
        text_.insert(at, 1, kSyntax[below(sizeof kSyntax - 1)]);
        break;
      }
      case 3: {
        const auto [begin, length] = stretch(text_);
        text_.erase(begin, length);
        break;
      }
      case 4: {
        const auto [begin, length] = stretch(text_);
        text_.insert(at, text_.substr(begin, length));
        break;
      }
      case 5: {
        const std::string& other = seeds_[below(seeds_.size())];
        const auto [begin, length] = stretch(other);
        text_.insert(at, other, begin, length);
        break;
      }
      case 6: {
        static constexpr int64_t kValues[] = {0,     1,     -1,        127,       128,       255,
                                              65535, 65536, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
        const int64_t value = kValues[below(std::size(kValues))];
        const size_t width = std::min<size_t>(size_t{1} << below(4), text_.size() - at);
        for (size_t i = 0; i < width; ++i) text_[at + i] = static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
        break;
      }
      case 7: {
        static constexpr const char* kNumbers[] = {
            "-1", "0", "4294967296", "9223372036854775807", "18446744073709551616", "1e308", "1e-400", "null"};
        const size_t begin = text_.find_first_of("0123456789", at);
        if (begin == std::string::npos) break;
        const size_t end = text_.find_first_not_of("0123456789", begin);
        text_.replace(begin, end == std::string::npos ? end : end - begin, kNumbers[below(std::size(kNumbers))]);
        break;
      }
      default:
        text_.resize(at);
    }
    constexpr size_t kMaxBytes = 1 << 16;
    if (text_.size() > kMaxBytes) text_.resize(kMaxBytes);
  }

  const std::vector<std::string>& seeds_;
  PhiloxKey key_;
  uint64_t next_ = 0;
  std::string text_;
};

}  // namespace

std::string mutate(const std::vector<std::string>& seeds, uint64_t round) { return Mutator(seeds, round).run(); }

}  // namespace ondol::fuzz
