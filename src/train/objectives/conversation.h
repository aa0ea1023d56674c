// Conversations, instructions and prompts of structured examples as tokens of which the model learns some.
//
//   const LabelledTokens sample = tokens_of_transcript(tokenizer, chat.render_transcript(conversation_of(record)));
//
// Forms of an example (names as in data.fields):
//   messages        [{"role", "content"}, ...]; "tools" beside it goes to the template
//   conversations   [{"from", "value"}, ...] (ShareGPT), "system" and "tools" beside it
//   prompt          and "completion": two texts without a template, or two lists of messages
//   instruction     and "output", "input" between them if it holds anything, "system" (Alpaca)
#pragma once

#include <string>
#include <vector>

#include <ondol/generate/chat_template.h>
#include <ondol/tokenizer/tokenizer.h>

#include "data/record.h"

namespace ondol {

/// labels[i] is ids[i] where the token is learned, else kIgnoreIndex.
struct LabelledTokens {
  std::vector<int32_t> ids, labels;

  /// Whether anything is predicted: the first token never is.
  bool has_target() const;
};

std::vector<std::string> conversation_fields();

/// Two texts under "prompt" and "completion".
bool is_plain_completion(const Record& record);

/// What ChatTemplate::render_transcript takes. Fails without a turn of the assistant.
std::string conversation_of(const Record& record);

/// Tokens that hold a character of the assistant are learned; white space behind the special token that ends a turn is
/// not. Where no special token ends the last turn, the tokenizer's end token is added. Special tokens stand in the
/// text: none are put around it.
LabelledTokens tokens_of_transcript(const Tokenizer& tokenizer, const Transcript& transcript);

/// Prompt and completion as one text, with the special tokens that the tokenizer puts around one and with its end
/// token; what follows the prompt is learned.
LabelledTokens tokens_of_completion(const Tokenizer& tokenizer, const std::string& prompt,
                                    const std::string& completion);

}  // namespace ondol
