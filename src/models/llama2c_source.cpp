#include "models/llama2c_source.h"

#include <cstring>

#include "models/gguf_source.h"

namespace ondol {

namespace {

constexpr int kHeaderNumbers = 7;
constexpr int64_t kMostOfAnything = int64_t{1} << 28;

}  // namespace

Llama2cSource::Llama2cSource(const std::string& path) : file_(std::make_shared<const MappedFile>(path)) {
  const auto fail = [&](const auto&... why) {
    throw Error(concat("cannot read a llama2.c checkpoint: ", why..., " (", path, ")"),
                "other .bin files are not read: PyTorch's can run code, convert them to safetensors with the framework "
                "that wrote them");
  };
  int32_t header[kHeaderNumbers];
  if (file_->size() < sizeof header) fail("the file has ", file_->size(), " bytes, too few for a header");
  std::memcpy(header, file_->data(), sizeof header);
  const int64_t hidden = header[0], intermediate = header[1], layers = header[2], heads = header[3],
                kv_heads = header[4], positions = header[6];
  const int64_t vocab = std::abs(static_cast<int64_t>(header[5]));
  for (const int64_t size : {hidden, intermediate, layers, heads, kv_heads, vocab, positions}) {
    if (size < 1 || size > kMostOfAnything) fail("its header is not that of such a file");
  }
  if (hidden % heads != 0 || heads % kv_heads != 0 || hidden / heads % 2 != 0) {
    fail("hidden size ", hidden, ", ", heads, " heads and ", kv_heads, " key/value heads do not fit together");
  }
  const int64_t head = hidden / heads, kv = kv_heads * head;
  uint64_t offset = sizeof header;
  const auto take = [&](const std::string& name, const Shape& shape, int64_t interleaved) {
    names_.push_back(name);
    places_[name] = {shape, offset, interleaved};
    const uint64_t bytes = static_cast<uint64_t>(shape.numel()) * sizeof(float);
    if (bytes > file_->size() - offset) fail("the file is too short for \"", name, "\"");
    offset += bytes;
  };
  const auto take_layers = [&](const char* name, const Shape& shape, int64_t interleaved = 0) {
    for (int64_t layer = 0; layer < layers; ++layer) {
      take(concat("model.layers.", layer, ".", name, ".weight"), shape, interleaved);
    }
  };
  take("model.embed_tokens.weight", {vocab, hidden}, 0);
  take_layers("input_layernorm", {hidden});
  take_layers("self_attn.q_proj", {hidden, hidden}, heads);
  take_layers("self_attn.k_proj", {kv, hidden}, kv_heads);
  take_layers("self_attn.v_proj", {kv, hidden});
  take_layers("self_attn.o_proj", {hidden, hidden});
  take_layers("post_attention_layernorm", {hidden});
  take_layers("mlp.gate_proj", {intermediate, hidden});
  take_layers("mlp.down_proj", {hidden, intermediate});
  take_layers("mlp.up_proj", {intermediate, hidden});
  take("model.norm.weight", {hidden}, 0);
  const uint64_t tables = static_cast<uint64_t>(positions) * static_cast<uint64_t>(head) * sizeof(float);  // cos, sin
  if (tables > file_->size() - offset) fail("the file is too short for its rotary tables");
  offset += tables;
  const bool tied = header[5] > 0;
  if (!tied) take("lm_head.weight", {vocab, hidden}, 0);
  if (offset != file_->size()) fail(file_->size() - offset, " bytes are left over");
  config_ = {{"architectures", {"LlamaForCausalLM"}},
             {"model_type", "llama"},
             {"vocab_size", vocab},
             {"hidden_size", hidden},
             {"intermediate_size", intermediate},
             {"num_hidden_layers", layers},
             {"num_attention_heads", heads},
             {"num_key_value_heads", kv_heads},
             {"max_position_embeddings", positions},
             {"rms_norm_eps", 1e-5},
             {"rope_theta", 10000.0},
             {"hidden_act", "silu"},
             {"attention_bias", false},
             {"tie_word_embeddings", tied},
             {"bos_token_id", 1},
             {"eos_token_id", 2},
             {"torch_dtype", "float32"}};
}

Tensor Llama2cSource::stored(const Place& place) const {
  return Tensor::borrow(const_cast<std::byte*>(file_->data() + place.offset), place.shape, DType::f32,
                        [file = file_] {});
}

Tensor Llama2cSource::tensor(const std::string& name) const {
  const Place& place = places_.at(name);
  return place.interleaved_heads > 0 ? split_heads(stored(place), place.interleaved_heads) : stored(place);
}

void Llama2cSource::for_each_part(const std::string& name,
                                  const std::function<void(const Tensor& part, int64_t row)>& body) const {
  body(tensor(name), 0);
  const Place& place = places_.at(name);
  file_->release(file_->data() + place.offset, static_cast<size_t>(place.shape.numel()) * sizeof(float));
}

}  // namespace ondol
