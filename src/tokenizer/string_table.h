// Texts under ids and ids under texts: the vocabulary of every model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ondol::tokenization {

class StringTable {
 public:
  /// Room for `count` texts in the index, so that it is built once.
  void reserve(size_t count);
  /// False when the id or the text is taken already.
  bool add(int32_t id, std::string_view text);
  /// The id of a text, -1 when it is not here.
  int32_t find(std::string_view text) const;
  /// True when the id has a text.
  bool contains(int32_t id) const {
    return static_cast<size_t>(id) < spans_.size() && spans_[static_cast<size_t>(id)].begin != kAbsent;
  }
  /// The text of an id, empty when it has none.
  std::string_view text(int32_t id) const;
  /// One more than the largest id.
  int32_t id_limit() const { return static_cast<int32_t>(spans_.size()); }
  size_t count() const { return count_; }

 private:
  static constexpr uint64_t kAbsent = ~uint64_t{0};
  struct Span {
    uint64_t begin = kAbsent;
    uint32_t length = 0;
  };
  void rehash(size_t slots);
  size_t slot_of(std::string_view text) const;

  std::string bytes_;
  std::vector<Span> spans_;     // by id
  std::vector<int32_t> slots_;  // open addressing over ids, -1: free
  size_t count_ = 0;
};

}  // namespace ondol::tokenization
