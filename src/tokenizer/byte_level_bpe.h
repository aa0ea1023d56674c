// Byte-pair encoding over bytes (Sennrich et al. 2016; Radford et al. 2019): a piece starts as its bytes, and the
// adjacent pair of lowest rank (the leftmost of equals) is merged until no pair has a rank.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/pair_table.h"

namespace ondol::tokenization {

/// A merge by ids; rank is its position in the list but for tiktoken files, where it is the id of the product.
struct BpeMerge {
  int32_t left, right;
  uint32_t rank;
};

class ByteLevelBpe : public Model {
 public:
  struct Config {
    StringTable vocabulary;        // texts in the byte alphabet ("Ġthe")
    std::vector<BpeMerge> merges;  // in order of rank
    bool ignore_merges = false;    // a piece that is a token as a whole is that token, whatever the merges say
    std::string unk_token;         // for bytes that have no token; empty: such a byte is an error
    std::string source;            // file named in errors
  };
  /// Throws UsageError when a merge names a pair whose product is not in the vocabulary.
  explicit ByteLevelBpe(Config config);

  const StringTable& vocabulary() const override { return config_.vocabulary; }
  void encode(std::string_view piece, TokenSink& out) const override;
  bool takes_bytes() const override { return true; }
  std::string to_json(std::span<const AddedToken> further_tokens) const override;

 private:
  int32_t byte_id(uint8_t byte) const;
  void merge_short(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_long(std::string_view piece, std::vector<int32_t>& ids) const;
  PairTable::Value rank_of_bytes(uint8_t left, uint8_t right) const { return byte_pairs_[size_t{left} << 8 | right]; }

  Config config_;
  int32_t unk_id_ = -1;
  StringTable whole_tokens_;  // by bytes; filled for ignore_merges only
  PairTable merges_;
  std::array<int32_t, 256> byte_ids_;
  std::vector<PairTable::Value> byte_pairs_;  // 256 x 256, the first look-up of every byte
};

/// From the "model" part of tokenizer.json with its vocabulary and merges taken out.
/// Throws UsageError for options that byte-level BPE does not have.
std::unique_ptr<Model> make_byte_level_bpe(const Json& spec, StringTable vocabulary,
                                           const std::vector<std::pair<std::string, std::string>>& merges,
                                           const std::string& file);

}  // namespace ondol::tokenization
