// Tokenizers in the metadata of GGUF files.
#pragma once

#include <ondol/io/gguf.h>
#include <ondol/tokenizer/tokenizer.h>

namespace ondol::tokenization {

/// tokenizer.json as a whole: a key of the format for what the others cannot say.
inline constexpr const char* kHuggingFaceTokenizer = "tokenizer.huggingface.json";

/// Throws UsageError for kinds of tokenizers that are not supported, naming the key.
Tokenizer read_gguf_tokenizer(const GgufFile& file);

/// The keys of a tokenizer, with `vocab_size` tokens (ids without a token become unused ones). Throws UsageError for
/// kinds that the format has no name for; `name` stands for its file.
GgufMetadata write_gguf_tokenizer(const Tokenizer& tokenizer, int64_t vocab_size, const std::string& name);

}  // namespace ondol::tokenization
