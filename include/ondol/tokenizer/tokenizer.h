// Text to token ids and back.
//
//   const ondol::Tokenizer tokenizer = ondol::load_tokenizer("path/to/model");
//   std::vector<int32_t> ids = tokenizer.encode("Hello world");
//   std::string text = tokenizer.decode(ids, /*skip_special_tokens=*/true);
//   ondol::StreamDecoder stream(tokenizer);
//   for (int32_t id : ids) std::cout << stream.push(id);
//   std::cout << stream.flush();
//
// A tokenizer has the parts of a Hugging Face tokenizer.json: added tokens, normalizer, pre-tokenizer, model,
// post-processor, decoder. It is a cheap handle on data that never changes; every function may be called from several
// threads at once. Text is bytes: invalid UTF-8 survives encode and decode unchanged with byte-level models.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ondol {

/// A token that is recognised in the text before anything else happens to it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // only between characters that are not part of a word
  bool lstrip = false;       // takes the white space on its left along
  bool rstrip = false;       // takes the white space on its right along
  bool normalized = false;   // looked for in the normalized text
  bool special = false;      // left out by decode(ids, true); see EncodeOptions::parse_special
};

/// Which text of a pair loses tokens when both together are too long.
enum class TruncationStrategy {
  longest_first,  // the longer one, then both alike
  only_first,
  only_second,
};

struct EncodeOptions {
  bool add_special_tokens = true;  // apply the post-processor (<s> … </s>)
  bool parse_special = true;       // recognise special tokens spelled in the text; otherwise they are plain text
  int64_t max_length = 0;          // at most so many ids, those of the post-processor among them; 0: no limit
  TruncationStrategy truncation = TruncationStrategy::longest_first;
  bool truncate_left = false;  // the beginning goes instead of the end
};

/// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0, end = 0;
  bool operator==(const TextRange&) const = default;
};

struct Encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> type_ids;  // segment of each id (0, or 1 for the second text and its separator)

  // What encode_detailed() fills in besides; one entry for each id.
  std::vector<TextRange> offsets;       // in the text that the token comes from; empty for tokens of the post-processor
  std::vector<uint8_t> special_mask;    // 1: put there by the post-processor
  std::vector<int32_t> word_ids;        // number of the piece of the pre-tokenizer within its text, or -1
  std::vector<int32_t> sequence_ids;    // 0: the text, 1: its pair, -1: the post-processor
  std::vector<uint8_t> attention_mask;  // filled by pad_encodings() alone: 0 for padding
};

/// The sections "truncation" and "padding" of tokenizer.json. Only who makes batches applies them.
struct TruncationSettings {
  int64_t max_length = 0;
  int64_t stride = 0;  // tokens that neighbouring windows of a long text share
  TruncationStrategy strategy = TruncationStrategy::longest_first;
  bool left = false;
};
struct PaddingSettings {
  int64_t length = 0;       // 0: that of the longest
  int64_t multiple_of = 1;  // the length is rounded up to a multiple of this
  bool left = false;
  int32_t pad_id = 0, pad_type_id = 0;
};

/// Makes all encodings as long as the settings say (those that are longer stay so) and fills their attention_mask.
void pad_encodings(std::span<Encoding> encodings, const PaddingSettings& settings);

class Tokenizer {
 public:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  /// Truncation and padding settings of tokenizer.json are not applied: lengths are the business of whoever makes
  /// batches. Throws Error for a byte the vocabulary cannot express, UsageError for a max_length without room for the
  /// tokens of the post-processor.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  Encoding encode_pair(std::string_view text, std::string_view pair, EncodeOptions options = {}) const;
  /// The same ids with everything that is known about them; slower.
  Encoding encode_detailed(std::string_view text, EncodeOptions options = {}) const;
  Encoding encode_detailed(std::string_view text, std::string_view pair, EncodeOptions options = {}) const;
  /// Many documents, over the threads of the process (base/parallel.h); the same ids as encode() one by one.
  std::vector<std::vector<int32_t>> encode_batch(std::span<const std::string> texts, EncodeOptions options = {}) const;

  /// Throws Error for an id outside [0, vocab_size()). Ids without a token (holes) give nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

  /// One more than the largest id: the rows an embedding needs.
  int64_t vocab_size() const;
  /// The token as the vocabulary spells it ("Ġworld"); empty for a hole. Throws Error for an id out of range.
  std::string id_to_token(int32_t id) const;
  std::optional<int32_t> token_to_id(std::string_view token) const;
  bool is_special(int32_t id) const;
  std::span<const AddedToken> added_tokens() const;

  /// Roles from tokenizer_config.json: "bos", "eos", "unk", "pad", "cls", "sep", "mask". Nothing when the role is
  /// unset.
  std::optional<std::string> special_token(const std::string& role) const;
  std::optional<int32_t> special_token_id(const std::string& role) const;
  /// The Jinja chat template (chat_template.jinja, or the "chat_template" of tokenizer_config.json), empty without one.
  const std::string& chat_template() const;

  const std::optional<TruncationSettings>& truncation() const;
  const std::optional<PaddingSettings>& padding() const;
  /// The longest input the model takes as far as the files say: max_seq_length of sentence_bert_config.json, or else
  /// max_length of the truncation section, or else model_max_length of tokenizer_config.json; 0 when none does.
  int64_t max_length() const;

  /// Writes tokenizer.json, tokenizer_config.json and, when there is a template, chat_template.jinja into the directory
  /// (made when missing). transformers.AutoTokenizer loads it and gives the same ids.
  void save(const std::string& directory) const;

  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Decodes a growing sequence of ids; never gives out part of a UTF-8 character that later ids may complete.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens = false);
  /// The text that became certain with this id, often empty for a character of several tokens.
  std::string push(int32_t id);
  /// What is left at the end (bytes of an incomplete character), and starts over.
  std::string flush();

 private:
  struct State;
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::shared_ptr<State> state_;
  std::string pending_;
};

struct LoadTokenizerOptions {
  /// For tiktoken files, which hold ranks only: "gpt2", "cl100k", "qwen2" or a regular expression. Empty: llama3 and
  /// cl100k_base by their number of ranks (128000, 100256), "gpt2" for 50256.
  std::string split_pattern;
  /// For a vocab.txt without a "do_lower_case" in tokenizer_config.json beside it.
  bool lowercase = true;
};

/// From a model directory or one file (also GGUF). Taken are, in this order: tokenizer.json; vocab.json + merges.txt
/// (or encoder.json + vocab.bpe); vocab.txt (WordPiece); tokenizer.model, spiece.model, spm.model,
/// sentencepiece.bpe.model (SentencePiece, or tiktoken ranks); tokenizer.bin (llama2.c); *.tiktoken.
/// tokenizer_config.json, sentence_bert_config.json and chat_template.jinja beside it are read when present. Throws
/// UsageError (unsupported or malformed content, naming file and component) or Error.
Tokenizer load_tokenizer(const std::string& directory_or_file, const LoadTokenizerOptions& options = {});

/// Whether a model directory or GGUF file brings a tokenizer.
bool has_tokenizer(const std::string& path);

/// tokenizer.json from memory, and optionally tokenizer_config.json; `name` stands for the file in errors.
Tokenizer tokenizer_from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json = {},
                              const std::string& name = "tokenizer.json");

/// Byte-level BPE from its parts, for formats that embed a tokenizer (GGUF). `tokens` by id in the byte alphabet
/// ("Ġthe"), `merges` as "left right". `split_patterns` as in LoadTokenizerOptions, applied one after the other.
struct ByteLevelBpeParts {
  std::vector<std::string> tokens;
  std::vector<std::string> merges;
  std::vector<std::string> split_patterns;
  bool individual_digits = false;  // split off every digit first
  bool ignore_merges = false;
  bool add_prefix_space = false;
  std::vector<AddedToken> added_tokens;
  std::map<std::string, std::string> special_tokens;  // role ("bos", …) to token
  bool add_bos = false, add_eos = false;
  std::string chat_template;
};
Tokenizer make_byte_level_bpe_tokenizer(const ByteLevelBpeParts& parts, const std::string& name);

/// BERT's WordPiece from its parts: `tokens` by id as vocab.txt has them ("the", "##ing"). Roles that are not given are
/// "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]" as far as the vocabulary has them; tokens with a role are special.
/// Texts get cls and sep around them.
struct WordPieceParts {
  std::vector<std::string> tokens;
  bool lowercase = true;
  std::optional<bool> strip_accents;  // as `lowercase` when not given
  bool chinese_characters = true;     // every one a word
  std::vector<AddedToken> added_tokens;
  std::map<std::string, std::string> special_tokens;  // role ("unk", "cls", …) to token
};
Tokenizer make_wordpiece_tokenizer(const WordPieceParts& parts, const std::string& name);

/// What a piece of a SentencePiece vocabulary is; the values are those of the file format and of GGUF's token_type.
enum class PieceType : int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// SentencePiece models from their parts: `tokens` by id with U+2581 for spaces ("\u2581the", "<0x0A>"), `scores` and
/// `types` one for each (no types: all are normal, but "<0xAB>" bytes). Control pieces are special tokens.
/// llama.cpp's "llama" kind is bpe, its "t5" kind unigram.
struct SentencePieceParts {
  enum class Algorithm { bpe, unigram };
  Algorithm algorithm = Algorithm::bpe;
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<PieceType> types;
  std::string character_map;              // precompiled_charsmap, as bytes; empty: none
  bool add_dummy_prefix = true;           // a space before the text
  bool remove_extra_whitespaces = false;  // at both ends, and of several in a row
  std::vector<AddedToken> added_tokens;   // found in the text before anything else, beside the control pieces
  std::map<std::string, std::string> special_tokens;  // role ("bos", …) to token
  bool add_bos = false, add_eos = false;
  std::string chat_template;
};
Tokenizer make_sentencepiece_tokenizer(const SentencePieceParts& parts, const std::string& name);

}  // namespace ondol
