#include <ondol/tokenizer/tokenizer.h>

#include <algorithm>
#include <atomic>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/utf8.h"

namespace ondol {

using tokenization::PieceEncoder;
using tokenization::TemplateItem;

namespace {

/// An encoder taken from the pool of a tokenizer for the duration of a call.
class BorrowedEncoder {
 public:
  explicit BorrowedEncoder(const Tokenizer::Impl& impl) : impl_(impl) {
    {
      const std::lock_guard lock(impl.encoders_mutex);
      if (!impl.idle_encoders.empty()) {
        encoder_ = std::move(impl.idle_encoders.back());
        impl.idle_encoders.pop_back();
      }
    }
    if (!encoder_) encoder_ = std::make_unique<PieceEncoder>(*impl.model);
  }
  ~BorrowedEncoder() {
    const std::lock_guard lock(impl_.encoders_mutex);
    impl_.idle_encoders.push_back(std::move(encoder_));
  }
  BorrowedEncoder(const BorrowedEncoder&) = delete;
  BorrowedEncoder& operator=(const BorrowedEncoder&) = delete;
  PieceEncoder& operator*() { return *encoder_; }

 private:
  const Tokenizer::Impl& impl_;
  std::unique_ptr<PieceEncoder> encoder_;
};

void check_id(const Tokenizer::Impl& impl, int32_t id) {
  if (id < 0 || id >= impl.vocab_size) {
    throw Error(concat("token id ", id, " is outside the vocabulary of ", impl.vocab_size));
  }
}

}  // namespace

void Tokenizer::Impl::encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids) const {
  BorrowedEncoder encoder(*this);
  (*encoder).set_output(&ids);
  tokenization::NormalizerBuffers buffers;
  const auto token = [&](int32_t id, std::string_view) { ids.push_back(id); };
  const auto& raw = parse_special ? raw_matcher : raw_plain_matcher;
  const auto& after_normalization = parse_special ? normalized_matcher : normalized_plain_matcher;
  const auto normalize = [&](std::string_view part) {
    const bool first = part.data() == text.data();
    if (normalizer) part = normalizer->normalize(part, buffers);
    const auto plain = [&](std::string_view piece) {
      pre_tokenizer->split(piece, first && piece.data() == part.data(), *encoder);
    };
    if (after_normalization.empty()) {
      if (!part.empty()) plain(part);
    } else {
      after_normalization.split(part, plain, token);
    }
  };
  if (raw.empty()) {
    if (!text.empty()) normalize(text);
  } else {
    raw.split(text, normalize, token);
  }
}

std::string_view Tokenizer::Impl::token_text(int32_t id) const {
  const tokenization::StringTable& vocabulary = model->vocabulary();
  return added_vocabulary.contains(id) ? added_vocabulary.text(id) : vocabulary.text(id);
}

void Tokenizer::Impl::decode_token(int32_t id, tokenization::DecodeRun& run, std::string& out) const {
  if (!added_vocabulary.contains(id)) {
    if (model->vocabulary().contains(id)) run.push(model->vocabulary().text(id), out);
  } else if (decoder->byte_level()) {
    run.push(tokenization::to_byte_alphabet(added_vocabulary.text(id)), out);
  } else {
    run.push(added_vocabulary.text(id), out);
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  if (options.max_length > 0) return impl_->encode_sequences(text, nullptr, options, false).ids;
  std::vector<int32_t> ids;
  if (!options.add_special_tokens) {
    impl_->encode_text(text, options.parse_special, ids);
    return ids;
  }
  for (const TemplateItem& item : impl_->post_processor.single) {
    if (item.kind == TemplateItem::Kind::ids) {
      ids.insert(ids.end(), item.ids.begin(), item.ids.end());
    } else if (item.kind == TemplateItem::Kind::sequence_a) {
      impl_->encode_text(text, options.parse_special, ids);
    }
  }
  return ids;
}

std::vector<std::vector<int32_t>> Tokenizer::encode_batch(std::span<const std::string> texts,
                                                          EncodeOptions options) const {
  std::vector<std::vector<int32_t>> results(texts.size());
  // Documents differ in size: threads take the next one instead of a fixed share.
  std::atomic<size_t> next{0};
  const auto workers = std::min<int64_t>(num_threads(), static_cast<int64_t>(texts.size()));
  parallel_for(workers, 1, [&](int64_t, int64_t) {
    for (size_t i = next++; i < texts.size(); i = next++) results[i] = encode(texts[i], options);
  });
  return results;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string out;
  tokenization::DecodeRun run = impl_->decoder->start();
  for (const int32_t id : ids) {
    check_id(*impl_, id);
    if (skip_special_tokens && impl_->special[static_cast<size_t>(id)]) continue;
    impl_->decode_token(id, run, out);
  }
  run.finish(out);
  return out;
}

int64_t Tokenizer::vocab_size() const { return impl_->vocab_size; }

std::string Tokenizer::id_to_token(int32_t id) const {
  check_id(*impl_, id);
  return std::string(impl_->token_text(id));
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  int32_t id = impl_->added_vocabulary.find(token);
  if (id < 0) id = impl_->model->vocabulary().find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::is_special(int32_t id) const {
  check_id(*impl_, id);
  return impl_->special[static_cast<size_t>(id)];
}

std::span<const AddedToken> Tokenizer::added_tokens() const { return impl_->added_tokens; }

std::optional<std::string> Tokenizer::special_token(const std::string& role) const {
  const auto found = impl_->config.special_tokens.find(role);
  return found == impl_->config.special_tokens.end() ? std::nullopt : std::optional(found->second);
}

std::optional<int32_t> Tokenizer::special_token_id(const std::string& role) const {
  const std::optional<std::string> token = special_token(role);
  return token ? token_to_id(*token) : std::nullopt;
}

const std::string& Tokenizer::chat_template() const { return impl_->config.chat_template; }

const std::optional<TruncationSettings>& Tokenizer::truncation() const { return impl_->truncation; }
const std::optional<PaddingSettings>& Tokenizer::padding() const { return impl_->padding; }

int64_t Tokenizer::max_length() const {
  if (impl_->config.max_seq_length > 0) return impl_->config.max_seq_length;
  if (impl_->truncation && impl_->truncation->max_length > 0) return impl_->truncation->max_length;
  // Where transformers knows no limit it writes 1e30.
  constexpr double kNoLimit = 1e9;
  const nlohmann::ordered_json& limit = impl_->config.model_max_length;
  if (!limit.is_number() || limit.get<double>() < 1 || limit.get<double>() > kNoLimit) return 0;
  return static_cast<int64_t>(limit.get<double>());
}

struct StreamDecoder::State {
  tokenization::DecodeRun run;
};

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {
  flush();
}

std::string StreamDecoder::push(int32_t id) {
  const Tokenizer::Impl& impl = tokenizer_.impl();
  check_id(impl, id);
  if (skip_special_tokens_ && impl.special[static_cast<size_t>(id)]) return "";
  impl.decode_token(id, state_->run, pending_);
  const size_t ready = pending_.size() - tokenization::incomplete_utf8_suffix(pending_);
  std::string out = pending_.substr(0, ready);
  pending_.erase(0, ready);
  return out;
}

std::string StreamDecoder::flush() {
  if (state_) state_->run.finish(pending_);
  state_ = std::make_shared<State>(State{tokenizer_.impl().decoder->start()});
  return std::exchange(pending_, "");
}

}  // namespace ondol
