// What of a conversation the assistant has written: the parts that render_transcript gives.
#include <ondol/base/error.h>
#include <ondol/generate/chat_template.h>

#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using Parts = std::vector<std::string>;

Parts parts_of(const Transcript& transcript) {
  Parts parts;
  for (const TextRange& range : transcript.assistant) {
    parts.push_back(transcript.text.substr(range.begin, range.end - range.begin));
  }
  return parts;
}

constexpr const char* kConversation =
    R"~({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Bye"}]})~";

constexpr const char* kChatMl =
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe "
    "kind.<|im_end|>\n' "
    "}}{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTranscript, TurnsAreWhatTheConversationGrowsBy) {
  const Transcript transcript = ChatTemplate(kChatMl).render_transcript(kConversation);
  EXPECT_EQ(
      transcript.text,
      "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
      "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\nBye<|im_end|>\n");
  EXPECT_EQ(parts_of(transcript), (Parts{"Hello<|im_end|>\n", "Bye<|im_end|>\n"}));
}

TEST(ChatTranscript, GenerationBlocksSayItThemselves) {
  const ChatTemplate chat(
      "{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}</s>{% endgeneration %}\n"
      "{% else %}U: {{ m.content }} {% endif %}{% endfor %}");
  EXPECT_EQ(parts_of(chat.render_transcript(kConversation)), (Parts{"Hello</s>", "Bye</s>"}));
}

TEST(ChatTranscript, TheAssistantMayBegin) {
  const Transcript transcript = ChatTemplate(kChatMl).render_transcript(
      R"~({"messages": [{"role": "assistant", "content": "Ask me."}, {"role": "user", "content": "No"}]})~");
  EXPECT_EQ(parts_of(transcript).size(), 1u);
  EXPECT_NE(parts_of(transcript)[0].find("Ask me.<|im_end|>"), std::string::npos);
  EXPECT_TRUE(
      parts_of(ChatTemplate(kChatMl).render_transcript(R"~({"messages": [{"role": "user", "content": "No"}]})~"))
          .empty());
}

/// A template that drops the thoughts of earlier turns, as those of reasoning models do.
TEST(ChatTranscript, TurnsThatLookOtherwiseLaterAreRefused) {
  const ChatTemplate chat(
      "{% for m in messages %}{{ m.role }}:{% if loop.last %} (thinks){% endif %} {{ m.content }}\n{% endfor %}"
      "{% if add_generation_prompt %}assistant:{% endif %}");
  const std::string error = testing::error_of([&] { chat.render_transcript(kConversation); });
  EXPECT_NE(error.find("up to message 1 looks otherwise when more follows"), std::string::npos) << error;
}

TEST(ChatTranscript, SmolLm2) {
  ONDOL_REQUIRE_DATA("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
  const Tokenizer tokenizer =
      load_tokenizer(test::data_path("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"));
  const Transcript transcript = ChatTemplate::of(tokenizer).render_transcript(kConversation);
  EXPECT_EQ(parts_of(transcript), (Parts{"Hello<|im_end|>\n", "Bye<|im_end|>\n"}));
}

}  // namespace
}  // namespace ondol
