// GGUF: whatever is accepted lies inside the file, can be copied to the same bytes, and makes a model and a tokenizer
// or is refused with a message.
#include <ondol/io/gguf.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

#include "fuzz/targets.h"
#include "support/gguf_bytes.h"

namespace ondol::fuzz {

namespace {

using testing::GgufBytes;

void read_value(const GgufFile& file, const GgufValue& value) {
  accepts([&] { file.flag(value.key); });
  accepts([&] { file.integer(value.key); });
  accepts([&] { file.number(value.key); });
  accepts([&] { file.text(value.key); });
  accepts([&] { file.integers(value.key); });
  accepts([&] { file.numbers(value.key); });
  accepts([&] { file.texts(value.key); });
}

/// A llama with one layer and hidden size 32, in the type with this number and bytes for 32 weights.
GgufBytes small_llama(uint32_t type, uint64_t block_bytes) {
  GgufBytes file;
  file.string("general.architecture", "llama").u32("llama.block_count", 1).u32("llama.context_length", 16);
  file.u32("llama.embedding_length", 32).u32("llama.feed_forward_length", 32).u32("llama.attention.head_count", 2);
  file.u32("llama.attention.head_count_kv", 1).f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.f32("llama.rope.freq_base", 10000.0f).u32("llama.rope.dimension_count", 16);
  const auto matrix = [&](const std::string& name, uint64_t rows) {
    file.tensor(name, {32, rows}, type, std::string(rows * block_bytes, '\x21'));
  };
  matrix("token_embd.weight", 8);
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"}) {
    file.tensor(std::string(norm) + ".weight", {32}, 0, std::string(128, '\0'));
  }
  for (const char* square : {"attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    matrix(std::string("blk.0.") + square + ".weight", 32);
  }
  for (const char* narrow : {"attn_k", "attn_v"}) matrix(std::string("blk.0.") + narrow + ".weight", 16);
  return file;
}

GgufBytes small_tokenizer(const std::string& model) {
  GgufBytes file;
  file.string("tokenizer.ggml.model", model).string("tokenizer.ggml.pre", "smollm");
  file.strings("tokenizer.ggml.tokens", {"<s>", "a", "b", "ab", "c", "\xe2\x96\x81", "[UNK]", "abc"});
  file.i32s("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 1, 2, 4});
  file.strings("tokenizer.ggml.merges", {"a b", "ab c"}).u32("tokenizer.ggml.bos_token_id", 0);
  file.value("tokenizer.ggml.scores", 9,
             GgufBytes::raw<uint32_t>(6) + GgufBytes::raw<uint64_t>(8) + std::string(32, '\x3e'));
  file.u32("tokenizer.ggml.unknown_token_id", 6).flag("tokenizer.ggml.add_bos_token", true);
  return file;
}

}  // namespace

void run_gguf(std::string_view input) {
  const std::string path = scratch_file("input.gguf", input);
  const std::string copy = scratch_directory() + "/copy.gguf";
  accepts([&] {
    const GgufFile file(path);
    GgufMetadata metadata;
    for (const GgufValue& value : file.values()) {
      promise(file.find_value(value.key) == &value, "a value is not found under its key");
      read_value(file, value);
      if (value.key != "general.alignment") metadata.emplace_back(value.key, file.raw(value));
    }
    std::vector<GgufTensorOutput> tensors;
    for (const GgufTensor& tensor : file.tensors()) {
      promise(tensor.offset <= input.size() && tensor.bytes <= input.size() - tensor.offset,
              "a tensor ends past the file");
      promise(file.find(tensor.name) == &tensor, "a tensor is not found under its name");
      if (!tensor.type->readable()) continue;
      tensors.push_back({tensor.name, tensor.shape, tensor.type, [&file, &tensor] { return file.tensor(tensor); }});
    }
    write_gguf(copy, metadata, tensors);
    const GgufFile again(copy);
    promise(again.tensors().size() == tensors.size(), "a copy has another number of tensors");
    for (const GgufTensorOutput& tensor : tensors) {
      const Tensor a = again.tensor(*again.find(tensor.name)), b = tensor.data();
      promise(a.shape() == b.shape() && a.dtype() == b.dtype(), "a copied tensor has another form");
    }
  });
}

std::vector<std::string> gguf_seeds() {
  GgufBytes values;
  values.u32("a", 1).f32("b", 0.5f).flag("c", true).string("d", "text").strings("e", {"x", ""}).i32s("f", {1, -1});
  values.value("g", 12, std::string(8, '\0')).value("h", 0, "x").value("i", 11, std::string(8, '\xff'));
  GgufBytes tensors;
  tensors.u32("general.alignment", 64);
  tensors.alignment = 64;
  tensors.tensor("w", {2, 3}, 0, std::string(24, 'w')).tensor("q", {32, 2}, 8, std::string(68, 'q'));
  tensors.tensor("k", {256}, 14, std::string(210, 'k')).tensor("e", {0, 4}, 1, "").tensor("i", {1}, 16 + 10, "abcd");
  GgufBytes old;
  old.version = 2;
  return {GgufBytes().bytes(), values.bytes(), tensors.bytes(), old.string("k", "v").bytes()};
}

void run_gguf_model(std::string_view input) {
  const std::string path = scratch_file("model.gguf", input);
  accepts([&] {
    const auto model = load_model(path, {.device = "cpu", .dtype = {}});
    if (model->info().vocab_size < 2) return;
    ModelInput ids;
    ids.input_ids = Tensor::from_vector<int32_t>({0, 1}, {1, 2});
    model->logits(model->hidden(ids, {}).value());
  });
  accepts([&] {
    const Tokenizer tokenizer = load_tokenizer(path);
    for (const int32_t id : tokenizer.encode("abc a<s>b 12")) {
      promise(id >= 0 && id < tokenizer.vocab_size(), "an id is outside the vocabulary");
    }
  });
}

std::vector<std::string> gguf_model_seeds() {
  return {small_llama(0, 128).bytes(),
          small_llama(1, 64).bytes(),
          small_llama(3, 20).bytes(),
          small_tokenizer("gpt2").bytes(),
          small_tokenizer("llama").bytes(),
          small_tokenizer("bert").bytes(),
          GgufBytes().string("general.architecture", "gpt2").u32("gpt2.block_count", 1).bytes()};
}

}  // namespace ondol::fuzz
