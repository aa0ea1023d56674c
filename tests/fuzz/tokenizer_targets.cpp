// Tokenizer files: whatever is accepted encodes and decodes any text, and survives being written and read again.
#include <ondol/tokenizer/bpe_trainer.h>

#include "base/json_reader.h"
#include "fuzz/targets.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol::fuzz {

namespace {

const std::string& sample_text() {
  static const std::string text =
      "the cat sat on the mat, and it's 1234 times <s>the</s> best\n\tof caf\xc3\xa9 \xed\x95\x9c\xea\xb5\xad \xff\xfe";
  return text;
}

/// Uses all of a tokenizer on text that its vocabulary may not cover.
void use(const Tokenizer& tokenizer) {
  accepts([&] {
    const std::vector<int32_t> ids = tokenizer.encode(sample_text());
    for (const int32_t id : ids) promise(id >= 0 && id < tokenizer.vocab_size(), "an id is outside the vocabulary");
    tokenizer.decode(ids);
    StreamDecoder stream(tokenizer, true);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    streamed += stream.flush();
    promise(streamed == tokenizer.decode(ids, true), "a stream decodes to another text");
    tokenizer.encode_pair("a", sample_text());
  });
}

Tokenizer small_tokenizer(const char* pattern, bool digits) {
  BpeTrainerOptions options;
  options.vocab_size = 320;
  options.special_tokens = {"<s>", "</s>", "<|endoftext|>"};
  options.roles = {{"bos", "<s>"}, {"eos", "</s>"}};
  options.split_pattern = pattern;
  options.individual_digits = digits;
  const std::vector<std::string> texts = {"the cat sat on the mat and the dog sat on the log", sample_text(),
                                          "de \xc3\xa9t\xc3\xa9 \xc3\xa0 l'\xc3\xa9t\xc3\xa9 12 123 1234 12345"};
  return train_bpe(texts, options);
}

}  // namespace

void run_tokenizer_json(std::string_view input) {
  accepts([&] {
    const Tokenizer tokenizer = tokenizer_from_json(input);
    use(tokenizer);
    const std::string written = tokenization::write_tokenizer_json(tokenizer.impl());
    const bool read_again = accepts([&] {
      promise(tokenization::write_tokenizer_json(tokenizer_from_json(written).impl()) == written,
              "a written tokenizer changes when it is read");
    });
    promise(read_again, "a written tokenizer is refused");
  });
}

std::vector<std::string> tokenizer_json_seeds() {
  const auto written = [](const char* pattern, bool digits) {
    return tokenization::write_tokenizer_json(small_tokenizer(pattern, digits).impl());
  };
  std::string bytes;  // a vocabulary that lacks most bytes
  const std::string head =
      R"({"version":"1.0","added_tokens":[{"id":4,"content":"<s>","special":true,"lstrip":true},)"
      R"({"id":7,"content":"the","single_word":true,"normalized":true}],"normalizer":{"type":"Sequence","normalizers":)"
      R"([{"type":"NFC"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)"
      R"("\\p{L}+| ?[^\\s\\p{L}]+|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel",)"
      R"("add_prefix_space":false,"use_regex":false}]},"post_processor":{"type":"TemplateProcessing","single":)"
      R"([{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":)"
      R"({"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[4],)"
      R"("tokens":["<s>"]}}},"decoder":{"type":"ByteLevel"},)";
  return {written("gpt2", false), written("cl100k", true),
          head + R"("model":{"type":"BPE","unk_token":"<s>","vocab":{"t":0,"h":1,"e":2,"th":3,"the":5},)"
                 R"("merges":["t h",["th","e"]]}})",
          head + R"("model":{"vocab":{"a":0},"merges":[]}})",
          // Two added tokens that normalization makes the same.
          R"({"added_tokens":[{"id":1,"content":"\u00e9","normalized":true},{"id":2,"content":"e\u0301",)"
          R"("normalized":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel"},)"
          R"("model":{"type":"BPE","vocab":{"a":0},"merges":[]}})"};
}

void run_tokenizer_config(std::string_view input) {
  accepts([&] {
    const auto config = tokenization::read_tokenizer_config(input, "tokenizer_config.json");
    const std::string written = tokenization::write_tokenizer_config(config);
    const bool read_again = accepts([&] {
      promise(tokenization::write_tokenizer_config(
                  tokenization::read_tokenizer_config(written, "tokenizer_config.json")) == written,
              "a written configuration changes when it is read");
    });
    promise(read_again, "a written configuration is refused");
  });
  static const std::string tokenizer = tokenizer_json_seeds()[0];
  accepts([&] { use(tokenizer_from_json(tokenizer, input.empty() ? "{}" : input)); });
}

std::vector<std::string> tokenizer_config_seeds() {
  return {
      R"({"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"add_bos_token":true,"model_max_length":1024})",
      R"({"added_tokens_decoder":{"0":{"content":"<s>","special":true},"500":{"content":"<new>","rstrip":true}},)"
      R"("chat_template":"{% for m in messages %}{{ m.content }}{% endfor %}","unk_token":null})",
      R"({"chat_template":[{"name":"default","template":"x"},{"name":"tool_use","template":"y"}],"tokenizer_class":)"
      R"("PreTrainedTokenizerFast","pad_token":"</s>","additional_special_tokens":["<a>"]})"};
}

/// Everything before the first zero byte is vocab.json, the rest merges.txt; or, with a leading "=", a tiktoken file.
void run_vocab_merges(std::string_view input) {
  if (input.starts_with('=')) {
    accepts([&] { use(Tokenizer(tokenization::read_tiktoken(input.substr(1), "gpt2", {}, "input.tiktoken"))); });
    return;
  }
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string vocab = scratch_file("vocab.json", input.substr(0, end));
  const std::string merges = scratch_file("merges.txt", input.substr(std::min(end + 1, input.size())));
  accepts([&] { use(Tokenizer(tokenization::read_vocab_and_merges(vocab, merges, {}))); });
}

std::vector<std::string> vocab_merges_seeds() {
  using namespace std::string_literals;
  return {R"({"t":0,"h":1,"e":2,"th":3,"the":4,"<|endoftext|>":5})"s + "\0#version: 0.2\nt h\nth e\n"s,
          R"({"<s>":0,"</s>":1,"<unk>":2,"<mask>":3,"a":4,"b":5,"ab":6})"s + "\0a b\r\n"s,
          "=dA== 0\naA== 1\nZQ== 2\ndGg= 3\ndGhl 4\n", "=/w== 0\n/v8= 1\n/g== 2\n"};
}

/// The first byte picks a tokenizer, the rest is the text: it comes back byte for byte.
void run_bpe_text(std::string_view input) {
  static const Tokenizer tokenizers[] = {small_tokenizer("gpt2", false), small_tokenizer("cl100k", false),
                                         small_tokenizer("qwen2", true),
                                         small_tokenizer(R"(\p{Lu}?\p{Ll}+|\d{1,3}|\s+(?!\S)|.)", false)};
  if (input.empty()) return;
  const Tokenizer& tokenizer = tokenizers[static_cast<unsigned char>(input[0]) % std::size(tokenizers)];
  const std::string text(input.substr(1));
  for (const bool special : {false, true}) {
    const EncodeOptions options{.add_special_tokens = false, .parse_special = special};
    const std::vector<int32_t> ids = tokenizer.encode(text, options);
    promise(tokenizer.decode(ids) == text, "the text does not come back");
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    streamed += stream.flush();
    promise(streamed == text, "the streamed text does not come back");
    promise(tokenizer.encode_batch(std::vector<std::string>{text, text}, options)[1] == ids, "a batch gives other ids");
  }
}

std::vector<std::string> bpe_text_seeds() {
  return {"0" + sample_text(), "1The quick  brown\r\n\r\nfox's 1234567 \xe2\x80\x83 <|endoftext|>",
          "2\xf0\x9f\x98\x80\xf0\x9f\x87\xb0\xf0\x9f\x87\xb7 \xed\xa0\x80\xc0\x80\xf8\x88\x80\x80\x80 a\xcc\x81",
          "3ABCdef 99 bottles\n\n  \t end", std::string("0a\0b\0\0c", 7)};
}

}  // namespace ondol::fuzz
