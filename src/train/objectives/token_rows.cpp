#include "train/objectives/token_rows.h"

#include <algorithm>

namespace ondol {

namespace {

size_t longest(const TokenRows& rows) {
  size_t length = 0;
  for (const TokenRow& row : rows) length = std::max(length, row.size());
  return length;
}

}  // namespace

TokenRows token_rows(const Batch& batch) {
  const int64_t length = batch.input_ids.size(1);
  const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>();
  const std::vector<uint8_t> visible =
      batch.attention_mask.defined() ? batch.attention_mask.to_vector<uint8_t>() : std::vector<uint8_t>();
  TokenRows rows(static_cast<size_t>(batch.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (visible.empty() || visible[i] != 0) rows[i / static_cast<size_t>(length)].push_back(ids[i]);
  }
  return rows;
}

Tensor padded_rows(const TokenRows& rows, int32_t filler) {
  const size_t length = longest(rows);
  std::vector<int32_t> flat(rows.size() * length, filler);
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy(rows[r].begin(), rows[r].end(), flat.begin() + static_cast<ptrdiff_t>(r * length));
  }
  return Tensor::from_vector(flat, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(length)});
}

Tensor padding_mask(const TokenRows& rows) {
  const size_t length = longest(rows);
  std::vector<uint8_t> mask(rows.size() * length, 0);
  bool needed = false;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::fill_n(mask.begin() + static_cast<ptrdiff_t>(r * length), rows[r].size(), uint8_t{1});
    needed = needed || rows[r].size() < length;
  }
  const Shape shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(length)};
  return needed ? Tensor::from_vector(mask, shape) : Tensor();
}

int32_t padding_token(const ObjectiveContext& context) {
  const std::optional<int32_t> of_tokenizer = context.vocabulary != nullptr ? context.vocabulary->pad_id : std::nullopt;
  return context.model.info().pad_token_id.value_or(of_tokenizer.value_or(0));
}

Batch source_target_batch(const TokenRows& sources, const TokenRows& targets, int64_t first_sample,
                          const ObjectiveContext& context) {
  Batch out;
  out.first_sample = first_sample;
  out.labels_shifted = false;
  out.attention_mask = padding_mask(sources);
  out.input_ids = padded_rows(sources, padding_token(context));
  out.labels = padded_rows(targets, kIgnoreIndex);
  return out;
}

void require_encoder_decoder(const char* objective, const Model& model) {
  if (model.info().head == Head::sequence_to_sequence) return;
  throw UsageError(concat("objective \"", objective, "\" needs an encoder-decoder, not a ", model.info().model_type,
                          " model (", model.info().architecture, ")"));
}

void require_text(const char* objective, const Batch& example) {
  if (!example.labels.defined() || example.labels_shifted) return;
  throw UsageError(
      concat("objective \"", objective, "\" makes its targets itself, but the samples have \"labels\" (data)"),
      "finished samples are for the objective \"tensors\"");
}

void refuse_document_mask(const char* objective, const Batch& example) {
  if (!example.document_ids.defined()) return;
  throw UsageError(concat("objective \"", objective, "\" corrupts across documents (data.document_mask)"),
                   "set data.document_mask or data.packing to false");
}

void require_end_token(const char* objective, const ObjectiveContext& context) {
  if (context.vocabulary != nullptr && context.vocabulary->eos_id) return;
  throw UsageError(concat("objective \"", objective, "\" needs a tokenizer with an end token (tokenizer.path)"));
}

int32_t require_token(const char* objective, const char* key, const std::string& token,
                      const ObjectiveContext& context) {
  if (context.tokenizer == nullptr) {
    throw UsageError(concat("objective \"", objective, "\" needs a tokenizer (tokenizer.path)"));
  }
  const std::optional<int32_t> id = context.tokenizer->token_to_id(token);
  if (id) return *id;
  throw UsageError(
      concat("objective \"", objective, "\": the tokenizer has no token \"", token, "\" (objective.", key, ")"),
      "name one that it has, or train a tokenizer with it (--special-token)");
}

int32_t mask_token(const char* objective, std::optional<int32_t> configured, const ObjectiveContext& context) {
  const std::optional<int32_t> of_tokenizer =
      context.vocabulary != nullptr ? context.vocabulary->mask_id : std::nullopt;
  const std::optional<int32_t> id = configured ? configured : of_tokenizer;
  if (!id) {
    throw UsageError(concat("objective \"", objective,
                            "\" needs a mask token, and the tokenizer has none (objective.mask_token_id)"),
                     "name its id, or choose a tokenizer with \"mask_token\"");
  }
  if (*id >= context.model.info().vocab_size) {
    throw UsageError(
        concat("objective.mask_token_id is ", *id, ", the model has ", context.model.info().vocab_size, " tokens"));
  }
  return *id;
}

}  // namespace ondol
