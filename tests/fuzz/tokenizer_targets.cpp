// Tokenizer files: whatever is accepted encodes and decodes any text, and survives being written and read again.
#include <cstring>

#include <ondol/base/error.h>
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
    tokenizer.encode_pair("a", sample_text(), {.max_length = 20});
    const Encoding encoding = tokenizer.encode_detailed(sample_text());
    promise(encoding.ids == ids, "the detailed ids are others");
    promise(encoding.offsets.size() == ids.size() && encoding.word_ids.size() == ids.size(), "offsets are missing");
    for (const TextRange& range : encoding.offsets) {
      promise(range.begin <= range.end && range.end <= sample_text().size(), "an offset lies outside the text");
    }
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
  return {
      written("gpt2", false), written("cl100k", true),
      head + R"("model":{"type":"BPE","unk_token":"<s>","vocab":{"t":0,"h":1,"e":2,"th":3,"the":5},)"
             R"("merges":["t h",["th","e"]]}})",
      head + R"("model":{"vocab":{"a":0},"merges":[]}})",
      // Two added tokens that normalization makes the same.
      R"({"added_tokens":[{"id":1,"content":"\u00e9","normalized":true},{"id":2,"content":"e\u0301",)"
      R"("normalized":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel"},)"
      R"("model":{"type":"BPE","vocab":{"a":0},"merges":[]}})",
      // BERT.
      R"({"truncation":{"max_length":8,"strategy":"LongestFirst","stride":0,"direction":"Right"},"padding":{"strategy":)"
      R"({"Fixed":8},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[P]"},)"
      R"("added_tokens":[{"id":1,"content":"[C]","special":true}],"normalizer":{"type":"BertNormalizer",)"
      R"("clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":)"
      R"({"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["[C]",1],"cls":["[C]",1]},)"
      R"("decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[U]",)"
      R"("continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[U]":0,"[C]":1,"the":2,"c":3,)"
      R"("##at":4,"##a":5,"##t":6,"##s":7,"1":8,"##2":9,",":10}}})",
      // Unigram with many of the small components.
      R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":)"
      R"("CAAAAAAEAAAAAAAAYQAA"},{"type":"Nmt"},{"type":"NFKC"},{"type":"StripAccents"},{"type":"Lowercase"},)"
      R"({"type":"Strip","strip_left":true,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},)"
      R"("content":" "}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},)"
      R"({"type":"Punctuation","behavior":"Isolated"},{"type":"Digits","individual_digits":true},{"type":)"
      R"("CharDelimiterSplit","delimiter":"_"},{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first",)"
      R"("split":true}]},"decoder":{"type":"Metaspace","replacement":"\u2581","add_prefix_space":true},"model":)"
      R"({"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<u>",0],["\u2581",-2.5],["t",-3],["th",-3.5],)"
      R"(["\u2581the",-2],["at",-4e0],["a",-5],["s",-5]]}})",
      // BPE over characters.
      R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Replace",)"
      R"("pattern":{"String":" "},"content":"\u2581"}]},"pre_tokenizer":null,"decoder":{"type":"Sequence","decoders":)"
      R"([{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},)"
      R"({"type":"Strip","content":" ","start":1,"stop":1}]},"model":{"type":"BPE","unk_token":"<u>","fuse_unk":true,)"
      R"("byte_fallback":true,"vocab":{"<u>":0,"\u2581":1,"t":2,"h":3,"e":4,"th":5,"\u2581th":6,"<0x61>":7},"merges":)"
      R"(["t h",["\u2581","th"]]}})",
      R"({"pre_tokenizer":{"type":"Whitespace"},"decoder":{"type":"Sequence","decoders":[{"type":"CTC"},{"type":)"
      R"("BPEDecoder","suffix":"</w>"}]},"model":{"type":"BPE","continuing_subword_prefix":"##","end_of_word_suffix":)"
      R"("</w>","ignore_merges":true,"vocab":{"t":0,"##h":1,"##e</w>":2,"th":3,"the</w>":4},"merges":["t ##h",)"
      R"("th ##e</w>"]}})"};
}

namespace {

/// Fields of a protocol buffer.
std::string field(int number, std::string_view bytes) {
  std::string out;
  for (uint64_t value : {static_cast<uint64_t>(number) << 3 | 2u, static_cast<uint64_t>(bytes.size())}) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80u);
    out += static_cast<char>(value);
  }
  return out.append(bytes);
}
std::string number_field(int number, uint64_t value) {
  std::string out;
  for (uint64_t part : {static_cast<uint64_t>(number) << 3, value}) {
    for (; part >= 0x80; part >>= 7) out += static_cast<char>(part | 0x80u);
    out += static_cast<char>(part);
  }
  return out;
}
std::string piece_field(std::string_view text, float score, uint64_t type) {
  std::string score_bytes(4, '\0');
  std::memcpy(score_bytes.data(), &score, 4);
  return field(1, field(1, text) + "\x15" + score_bytes + number_field(3, type));
}

std::string sentencepiece_file(uint64_t model_type, bool bytes, const std::string& character_map) {
  std::string file = piece_field("<unk>", 0, 2) + piece_field("<s>", 0, 3) + piece_field("</s>", 0, 3);
  if (bytes) {
    for (int byte = 0; byte < 256; ++byte)
      file += piece_field(concat("<0x", "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15], ">"), 0, 6);
  }
  float score = 0;
  for (const char* piece :
       {"\u2581t", "he", "\u2581the", "at", "\u2581c", "\u2581cat", "\u2581", "t", "h", "e", "a", "c"}) {
    file += piece_field(piece, --score, 1);
  }
  file += piece_field("mat", -20, 4) + piece_field("cat", -3.5f, 5);
  file += field(2, number_field(3, model_type) + number_field(40, 0) + number_field(41, 1) + number_field(42, 2));
  return file + field(3, field(2, character_map) + number_field(3, 1) + number_field(4, 1));
}

}  // namespace

/// A SentencePiece model, or with a leading "=" a tokenizer.bin of llama2.c, or with a leading "#" a vocab.txt.
void run_sentencepiece(std::string_view input) {
  accepts([&] {
    if (input.starts_with('=')) return use(Tokenizer(tokenization::read_llama2c(input.substr(1), {}, "tokenizer.bin")));
    if (input.starts_with('#')) {
      return use(Tokenizer(tokenization::read_vocab_txt(input.substr(1), true, {}, "vocab.txt")));
    }
    const Tokenizer tokenizer(tokenization::read_sentencepiece(input, {}, "input.model"));
    use(tokenizer);
    const std::string written = tokenization::write_tokenizer_json(tokenizer.impl());
    accepts([&] { use(tokenizer_from_json(written)); });
  });
}

std::vector<std::string> sentencepiece_seeds() {
  using namespace std::string_literals;
  // The character map turns nothing into anything: a trie of one unit.
  const std::string map = "\x04\0\0\0\0\0\0\0a\0"s;
  std::string llama2c = "=\x05\0\0\0"s;
  for (const std::string token : {"<unk>", "\n<s>", " the", "t", "h", "e", " "}) {
    llama2c += "\0\0\x80\xbf"s + static_cast<char>(token.size()) + "\0\0\0"s + token;
  }
  return {sentencepiece_file(1, false, map), sentencepiece_file(2, true, ""), sentencepiece_file(2, false, map),
          llama2c, "#[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nc\n##at\n##s\n,\n"};
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
