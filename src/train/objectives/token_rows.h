// Samples as lists of tokens, and batches made of such lists.
//
//   for (const TokenRow& tokens : token_rows(batch)) ...                  // without padding
//   Batch out = source_target_batch(sources, targets, batch.first_sample, context);
#pragma once

#include <ondol/train/objective.h>

namespace ondol {

using TokenRow = std::vector<int32_t>;
using TokenRows = std::vector<TokenRow>;

/// The tokens of each row that attention_mask shows.
TokenRows token_rows(const Batch& batch);

/// (rows, longest) i32, filled up behind each row.
Tensor padded_rows(const TokenRows& rows, int32_t filler);

/// (rows, longest) u8, 0 at padding; undefined when all rows are equally long.
Tensor padding_mask(const TokenRows& rows);

/// What padding is written as: the model's padding token, the tokenizer's, or 0.
int32_t padding_token(const ObjectiveContext& context);

/// What an encoder reads and a decoder is to write.
Batch source_target_batch(const TokenRows& sources, const TokenRows& targets, int64_t first_sample,
                          const ObjectiveContext& context);

/// The checks that objectives share. Each throws UsageError.
void require_encoder_decoder(const char* objective, const Model& model);
/// Samples from text: finished ones have labels of their own.
void require_text(const char* objective, const Batch& example);
/// The objective would corrupt across the documents of a packed sample.
void refuse_document_mask(const char* objective, const Batch& example);
void require_end_token(const char* objective, const ObjectiveContext& context);
/// The id of a token that the setting `key` names.
int32_t require_token(const char* objective, const char* key, const std::string& token,
                      const ObjectiveContext& context);
/// The setting mask_token_id, or else the tokenizer's mask token.
int32_t mask_token(const char* objective, std::optional<int32_t> configured, const ObjectiveContext& context);

}  // namespace ondol
