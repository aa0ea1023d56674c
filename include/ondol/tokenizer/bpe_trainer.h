// Trains byte-level BPE tokenizers.
//
//   ondol::BpeTrainerOptions options{.vocab_size = 8000, .special_tokens = {"<|endoftext|>"}};
//   options.roles["eos"] = "<|endoftext|>";
//   const ondol::Tokenizer tokenizer = ondol::train_bpe_files({"corpus.txt"}, options);
//   tokenizer.save("runs/tokenizer");
//
// The vocabulary is, in order of ids: the special tokens, the 256 bytes (by the code points of the byte alphabet), the
// merges. Each merge joins the adjacent pair with the largest count in the corpus. The result does not depend on the
// number of threads, nor on the order of the texts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

/// Which of several pairs with the same count is merged first.
enum class BpeTieBreak {
  smallest_ids,  // the pair with the smaller left id, then the smaller right id, as Hugging Face's trainer
  largest_text,  // the pair whose left token, then right token, is lexicographically greater in bytes
};

struct BpeTrainerOptions {
  int64_t vocab_size = 32000;  // all of it: special tokens, bytes and merges
  int64_t min_frequency = 0;   // a pair seen less often is not merged; training then ends before vocab_size
  std::vector<std::string> special_tokens;
  std::string split_pattern = "gpt2";  // "gpt2", "cl100k", "qwen2" or a regular expression whose matches are the pieces
  bool individual_digits = false;      // every digit a piece of its own
  bool add_prefix_space = false;
  bool nfc = false;              // normalize to NFC, here and whenever the tokenizer encodes
  int64_t max_token_length = 0;  // bytes; 0: no limit
  BpeTieBreak tie_break = BpeTieBreak::smallest_ids;

  // What the tokenizer is given besides its vocabulary.
  std::map<std::string, std::string> roles;  // role ("bos", "eos", "pad", …) to special token
  bool add_bos = false, add_eos = false;     // encode() puts the tokens of these roles around a text
  std::string chat_template;
};

/// Each text is one document: pieces do not reach over its ends, and special tokens in it separate what surrounds them.
/// Throws UsageError for impossible options (a vocabulary too small for bytes and special tokens, a role whose token is
/// not among the special tokens, a special token given twice).
Tokenizer train_bpe(std::span<const std::string> texts, const BpeTrainerOptions& options);

/// For corpora larger than memory: next_text gives one document after another, nothing at the end. It is called from
/// one thread; only distinct pieces are kept.
Tokenizer train_bpe(const std::function<std::optional<std::string>()>& next_text, const BpeTrainerOptions& options);

/// Each file is one document. Throws Error when one cannot be read or all are empty.
Tokenizer train_bpe_files(const std::vector<std::string>& paths, const BpeTrainerOptions& options);

}  // namespace ondol
