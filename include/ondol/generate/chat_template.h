// Conversations as prompts: the Jinja templates of chat models.
//
//   const ChatTemplate chat = ChatTemplate::of(tokenizer);
//   std::string prompt = chat.render({{"user", "Hello"}});        // ends where the answer begins
//   std::vector<int32_t> ids = tokenizer.encode(prompt, {.add_special_tokens = false});
//
// The part of Jinja that real templates use, with trim_blocks and lstrip_blocks on as in transformers: for (else,
// filter, break, continue, loop.*), if, set (also blocks and namespaces), macro, generation blocks, all operators,
// slices, filters, tests and string methods, raise_exception, namespace, range, dict, strftime_now. Templates come from
// strangers: loops, output and nesting are bounded. Errors are UsageErrors `chat template: WHAT (NAME line L)`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

/// A finished conversation.
struct Transcript {
  std::string text;
  /// The bytes that the assistant has written, in order, the tokens that end its turns among them.
  std::vector<TextRange> assistant;
};

class ChatTemplate {
 public:
  /// Reads a template; `name` stands for its file in errors.
  explicit ChatTemplate(const std::string& source, const std::string& name = "chat template");

  /// The template of the tokenizer with its special tokens (bos_token, …) as variables; without a template, lines
  /// "ROLE: CONTENT".
  static ChatTemplate of(const Tokenizer& tokenizer);

  /// Gives a variable to every rendering.
  void set(const std::string& variable, const std::string& text);

  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt = true) const;
  /// `variables` is a JSON object: messages, tools, add_generation_prompt (true when absent) and whatever the template
  /// reads.
  std::string render_json(const std::string& variables) const;

  /// A conversation to learn from (`variables` as for render_json). The assistant's part is what {% generation %}
  /// blocks give; in templates without them, what the conversation up to its turn, with the prompt for it, grows by.
  /// Throws UsageError when such a beginning is not that of the whole conversation.
  Transcript render_transcript(const std::string& variables) const;

  /// The template of `of` for tokenizers that have none.
  static const std::string& plain();

 private:
  struct Content;
  std::shared_ptr<const Content> content_;
  std::vector<std::pair<std::string, std::string>> variables_;
};

}  // namespace ondol
