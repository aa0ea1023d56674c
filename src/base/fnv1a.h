// FNV-1a (Fowler, Noll, Vo) of 32 or 64 bits: numbers of names and contents that are the same on every machine.
//
//   const uint64_t number = Fnv1a<uint64_t>().add("a text").value();
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ondol {

template <class Word>
class Fnv1a {
  static_assert(sizeof(Word) == 4 || sizeof(Word) == 8);

 public:
  /// Goes on from a hash that was taken before.
  explicit Fnv1a(Word value = static_cast<Word>(sizeof(Word) == 8 ? 14695981039346656037u : 2166136261u))
      : value_(value) {}

  /// One unit: a byte as published; wider ones where nobody else compares the number.
  Fnv1a& add_unit(Word unit) {
    value_ = (value_ ^ unit) * static_cast<Word>(sizeof(Word) == 8 ? 1099511628211u : 16777619u);
    return *this;
  }
  Fnv1a& add(std::string_view bytes) {
    for (const char byte : bytes) add_unit(static_cast<unsigned char>(byte));
    return *this;
  }

  Word value() const { return value_; }

 private:
  Word value_;
};

}  // namespace ondol
