#include <ondol/models/convert.h>

#include <algorithm>
#include <filesystem>

#include <unistd.h>

#include <ondol/base/file.h>
#include <ondol/models/lora.h>
#include <ondol/tokenizer/tokenizer.h>

#include "models/gguf_source.h"
#include "models/llama2c_source.h"
#include "models/weight_matching.h"
#include "tokenizer/gguf_tokenizer.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxSideFile = uint64_t{256} << 20;
constexpr const char* kGenerationKey = "huggingface.generation_config";

/// A source with its configuration and the weights that its model has.
struct Checkpoint {
  std::string path;
  std::unique_ptr<WeightSource> weights;
  std::optional<GgufFile> gguf;
  Json config;
  std::string config_name;
  std::unique_ptr<FamilyModel> model;
  std::vector<std::string> names;  // of weights, for each slot of the model
  std::optional<AdapterFile> adapter;
  std::vector<Checkpoint> others;  // whose weights are averaged with these
};

Checkpoint open_checkpoint(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = checkpoint.config_name = path;
  if (!fs::exists(path)) throw UsageError(concat("cannot convert: no such file or directory (", path, ")"));
  if (fs::is_directory(path)) {
    checkpoint.config_name = (fs::path(path) / "config.json").string();
    checkpoint.config = load_json(checkpoint.config_name);
    checkpoint.weights = std::make_unique<SafetensorsSource>(path);
  } else if (is_gguf_file(path)) {
    checkpoint.gguf.emplace(path);
    checkpoint.config = read_gguf_config(*checkpoint.gguf);
    checkpoint.weights =
        std::make_unique<GgufSource>(*checkpoint.gguf, JsonReader(checkpoint.config, path, ErrorKind::failure));
  } else if (path.ends_with(".bin")) {
    auto weights = std::make_unique<Llama2cSource>(path);
    checkpoint.config = weights->config();
    checkpoint.weights = std::move(weights);
  } else {
    throw UsageError(
        concat("cannot convert: neither a model directory, a GGUF file nor a llama2.c checkpoint (", path, ")"),
        path.ends_with(".pt") || path.ends_with(".pth")
            ? "pickle files can run code and are not read: convert them to safetensors with the framework "
              "that wrote them"
            : "");
  }
  const JsonReader config(checkpoint.config, checkpoint.config_name);
  checkpoint.model = find_family(config)(config);
  checkpoint.names = match_weights(*checkpoint.model, *checkpoint.weights);
  return checkpoint;
}

/// One tensor of the source; its pages of the file are given back.
Tensor take_tensor(const WeightSource& source, const std::string& name, DType dtype) {
  const Tensor copy = Tensor::empty(source.shape(name), dtype);
  source.for_each_part(name, [&](const Tensor& part, int64_t row) {
    (part.ndim() == 0 ? copy : copy.narrow(0, row, part.size(0))).copy_from(part);
  });
  return copy;
}

/// The values of a weight of the model, with the adapter merged into them, in the dtype of the source.
Tensor take_weight(const Checkpoint& source, size_t slot, DType dtype) {
  const WeightSlot& weight = source.model->weights()[slot];
  Tensor values = take_tensor(*source.weights, source.names[slot], dtype);
  if (!source.others.empty()) {
    std::vector<double> sum = values.to_vector<double>();
    for (const Checkpoint& other : source.others) {
      const std::vector<double> more = take_tensor(*other.weights, other.names[slot], dtype).to_vector<double>();
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
    }
    std::vector<float> mean;
    for (const double total : sum)
      mean.push_back(static_cast<float>(total / static_cast<double>(1 + source.others.size())));
    values = Tensor::from_vector(mean, values.shape()).to(dtype);
  }
  return source.adapter ? source.adapter->merged(weight.name, values, weight.transposed) : values;
}

bool same_weights(const Checkpoint& a, const Checkpoint& b) {
  const std::vector<WeightSlot>& left = a.model->weights();
  const std::vector<WeightSlot>& right = b.model->weights();
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), [](const auto& x, const auto& y) {
    return x.name == y.name && x.shape == y.shape && x.transposed == y.transposed;
  });
}

/// What --dtype asks for.
struct Target {
  std::optional<DType> dtype;
  std::optional<QuantFormat> format;
};

Target read_target(const std::string& name) {
  if (name.empty()) return {};
  if (name == "q8_0" || name == "q4_0") return {{}, quant_format_from_name(name)};
  if (name == "f32" || name == "bf16" || name == "f16") return {dtype_from_name(name), {}};
  throw UsageError(concat("cannot convert to dtype \"", name, "\""), "known: f32, bf16, f16, q8_0, q4_0");
}

/// llama.cpp's converter keeps vectors in f32; its quantiser leaves the vocabulary's matrices more bits than others.
const GgufTensorType& target_type(const Target& target, const Shape& shape, const std::string& gguf_name,
                                  const GgufTensorType& kept) {
  if (shape.ndim() < 2) return gguf_type_of(DType::f32);
  if (target.dtype) return gguf_type_of(*target.dtype);
  if (!target.format) return kept;
  if (shape[-1] % kQuantBlock != 0) return gguf_type_of(DType::f16);
  const bool of_vocabulary = gguf_name == "token_embd.weight" || gguf_name == "output.weight";
  return gguf_type_of(of_vocabulary ? QuantFormat::q8_0 : *target.format);
}

/// general.file_type.
uint32_t file_type(const GgufTensorType& type) {
  const std::pair<const char*, uint32_t> known[] = {{"F32", 0},  {"F16", 1},  {"Q4_0", 2}, {"Q4_1", 3},
                                                    {"Q8_0", 7}, {"Q5_0", 8}, {"Q5_1", 9}, {"BF16", 32}};
  for (const auto& [name, number] : known) {
    if (type.name == std::string_view(name)) return number;
  }
  return 0;
}

/// Numbers as a file of the type holds them.
Tensor encode(const Tensor& values, const GgufTensorType& type) {
  if (type.dtype) return values.to(*type.dtype).contiguous();
  return ops::quantize(values.to(DType::f32).contiguous(), *type.format).blocks;
}

uint64_t bytes_of(const std::vector<GgufTensorOutput>& tensors) {
  uint64_t bytes = 0;
  for (const GgufTensorOutput& tensor : tensors) {
    bytes += static_cast<uint64_t>(tensor.shape.numel() / tensor.type->block_size * tensor.type->block_bytes);
  }
  return bytes;
}

ConvertResult gguf_to_gguf(const GgufFile& file, const std::string& destination, const Target& target) {
  std::vector<GgufTensorOutput> tensors;
  const bool retyped = target.dtype || target.format;
  for (const GgufTensor& tensor : file.tensors()) {
    const GgufTensorType& type = target_type(target, tensor.shape, tensor.name, *tensor.type);
    const bool changed = tensor.shape.ndim() >= 2 && type.code != tensor.type->code;
    const GgufTensorType& written = changed ? type : *tensor.type;
    tensors.push_back({tensor.name, tensor.shape, &written, [&file, &tensor, &written, changed] {
                         const Tensor stored = file.tensor(tensor);
                         if (!changed) return stored;
                         const Tensor values =
                             tensor.type->format
                                 ? ops::dequantize({stored, *tensor.type->format, tensor.shape[-1]}, DType::f32)
                                 : stored.reshape({-1, tensor.shape[-1]});
                         const Tensor encoded = encode(values, written);
                         file.release(stored);
                         return encoded;
                       }});
  }
  GgufMetadata metadata;
  for (const GgufValue& value : file.values()) {
    if (value.key == "general.alignment" || (value.key == "general.file_type" && retyped)) continue;
    metadata.emplace_back(value.key, file.raw(value));
  }
  if (retyped) {
    const GgufTensorType& type = target.format ? gguf_type_of(*target.format) : gguf_type_of(*target.dtype);
    metadata.emplace_back("general.file_type", file_type(type));
  }
  write_gguf(destination, metadata, tensors);
  return {static_cast<int64_t>(tensors.size()), bytes_of(tensors)};
}

/// The tokenizer of a source, if there is one: of llama2.c the tokenizer.bin beside it.
std::optional<Tokenizer> find_tokenizer(const Checkpoint& source) {
  if (fs::is_directory(source.path)) {
    for (const char* name : {"tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model"}) {
      if (fs::exists(fs::path(source.path) / name)) return load_tokenizer(source.path);
    }
    return std::nullopt;
  }
  if (source.gguf) {
    if (source.gguf->find_value("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
    return load_tokenizer(source.path);
  }
  const fs::path beside = fs::path(source.path).parent_path() / "tokenizer.bin";
  return fs::exists(beside) ? std::optional(load_tokenizer(beside.string())) : std::nullopt;
}

ConvertResult to_gguf(const Checkpoint& source, const std::string& destination, const Target& target) {
  const JsonReader config(source.config, source.config_name);
  const GgufArchitecture& architecture = gguf_architecture_of(config);
  if (config.get<bool>("bidirectional_prefix", false)) {
    throw UsageError(concat("cannot convert: GGUF files cannot say that a model reads prompts in both directions (",
                            source.path, ")"));
  }
  const int64_t query_heads = config.get<int64_t>("num_attention_heads", 1, at_least(1));
  const int64_t key_heads = config.get<int64_t>("num_key_value_heads", query_heads, at_least(1));
  std::vector<GgufTensorOutput> tensors;
  uint32_t type_number = 0;
  if (const std::vector<float> factors = gguf_rope_factors(config); !factors.empty()) {
    const Tensor values = Tensor::from_vector(factors, {static_cast<int64_t>(factors.size())});
    tensors.push_back({"rope_freqs.weight", values.shape(), &gguf_type_of(DType::f32), [values] { return values; }});
  }
  for (size_t i = 0; i < source.names.size(); ++i) {
    const WeightSlot& slot = source.model->weights()[i];
    if (source.names[i].empty()) continue;
    const std::string name = gguf_tensor_name(architecture, slot.name);
    ONDOL_CHECK(!name.empty(), "tensor \"", slot.name, "\" has no name in GGUF files (", source.path, ")");
    const GgufLayout layout = gguf_layout(architecture, slot.name);
    const bool transposed = layout == GgufLayout::transposed && slot.shape.ndim() == 2;
    const Shape shape = transposed ? Shape{slot.shape[1], slot.shape[0]} : slot.shape;
    const int64_t heads = layout == GgufLayout::query_rotary ? query_heads
                          : layout == GgufLayout::key_rotary ? key_heads
                                                             : 0;
    const DType dtype = source.weights->dtype(source.names[i]);
    const GgufTensorType& type =
        target_type(target, shape, name, gguf_type_of(dtype == DType::f64 ? DType::f32 : dtype));
    if (shape.ndim() == 2) type_number = file_type(type);
    tensors.push_back({name, shape, &type, [&source, i, dtype, transposed, heads, &type] {
                         Tensor values = take_weight(source, i, dtype);
                         if (transposed) values = values.transpose(0, 1).contiguous();
                         if (heads > 0) values = interleave_heads(values, heads);
                         return encode(values, type);
                       }});
  }
  if (target.format) type_number = file_type(gguf_type_of(*target.format));
  GgufMetadata metadata = write_gguf_config(architecture, config, type_number);
  const std::string name = fs::path(source.path).lexically_normal().stem().string();
  metadata.emplace_back("general.name", name.empty() ? std::string("model") : name);
  const fs::path generation = fs::path(source.path) / "generation_config.json";
  if (fs::exists(generation)) metadata.emplace_back(kGenerationKey, read_file(generation.string(), kMaxSideFile));
  if (const std::optional<Tokenizer> tokenizer = find_tokenizer(source)) {
    const int64_t vocabulary = source.model->info().vocab_size;
    for (auto& entry : tokenization::write_gguf_tokenizer(*tokenizer, vocabulary, source.path)) {
      metadata.push_back(std::move(entry));
    }
  } else {
    metadata.emplace_back("tokenizer.ggml.model", std::string("none"));
  }
  write_gguf(destination, metadata, tensors);
  return {static_cast<int64_t>(tensors.size()), bytes_of(tensors)};
}

/// A directory that appears under its name when it is complete.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(const std::string& path) : path_(fs::path(path).lexically_normal()) {
    if (!path_.has_filename()) path_ = path_.parent_path();
    temporary_ = path_.parent_path() / concat(".", path_.filename().string(), ".tmp-", ::getpid());
    make_directories(temporary_.string());
  }
  ~AtomicDirectory() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  }
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  std::string operator/(const std::string& name) const { return (temporary_ / name).string(); }
  std::string path() const { return temporary_.string(); }
  void commit() {
    sync_directory(temporary_.string());
    rename_durable(temporary_.string(), path_.string());
    temporary_.clear();
  }

 private:
  fs::path path_, temporary_;
};

const char* config_dtype_name(DType dtype) {
  return dtype == DType::bf16 ? "bfloat16" : dtype == DType::f16 ? "float16" : "float32";
}

/// Everything of a model directory but weights and configuration: tokenizer, templates, generation settings.
void copy_side_files(const std::string& from, const AtomicDirectory& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string(), extension = entry.path().extension().string();
    const bool wanted = extension == ".json" || extension == ".txt" || extension == ".model" || extension == ".jinja" ||
                        extension == ".tiktoken" || name == "tokenizer.bin";
    if (!entry.is_regular_file() || !wanted || name == "config.json" || name.ends_with(".index.json")) continue;
    write_file_atomic(to / name, read_file(entry.path().string(), kMaxSideFile));
  }
}

ConvertResult to_directory(const Checkpoint& source, const std::string& destination, const Target& target,
                           uint64_t max_shard_bytes) {
  if (target.format) {
    throw UsageError(concat("cannot convert to ", quant_format_name(*target.format),
                            ": safetensors files hold no quantised blocks (", destination, ")"),
                     "name a .gguf file, or f32, bf16 or f16");
  }
  if (fs::exists(destination) && !(fs::is_directory(destination) && fs::is_empty(destination))) {
    throw UsageError(concat("cannot convert: the destination exists (", destination, ")"));
  }
  const bool from_directory = fs::is_directory(source.path);
  std::optional<DType> dtype = target.dtype;
  if (!dtype && source.gguf) {
    dtype = dtype_from_name(source.config.value("torch_dtype", "float32"));
  }
  const std::optional<Tokenizer> tokenizer = from_directory ? std::nullopt : find_tokenizer(source);
  std::vector<TensorOutput> tensors;
  uint64_t bytes = 0;
  for (size_t i = 0; i < source.names.size(); ++i) {
    const WeightSlot& slot = source.model->weights()[i];
    if (source.names[i].empty()) continue;
    const DType stored = source.weights->dtype(source.names[i]);
    tensors.push_back({slot.name, slot.shape, dtype.value_or(stored),
                       [&source, i, stored] { return take_weight(source, i, stored); }});
    bytes += static_cast<uint64_t>(slot.shape.numel()) * dtype_size(dtype.value_or(stored));
  }
  AtomicDirectory directory(destination);
  write_model_weights(directory.path(), tensors, {.file = {}, .max_shard_bytes = max_shard_bytes});
  Json config = source.config;
  if (dtype) config["dtype"] = config["torch_dtype"] = config_dtype_name(*dtype);
  write_file_atomic(directory / "config.json", config.dump(2) + "\n");
  if (from_directory) copy_side_files(source.path, directory);
  if (source.gguf) {
    if (const auto text = source.gguf->text(kGenerationKey))
      write_file_atomic(directory / "generation_config.json", *text);
  }
  if (tokenizer) tokenizer->save(directory.path());
  directory.commit();
  return {static_cast<int64_t>(tensors.size()), bytes};
}

}  // namespace

ConvertResult convert_model(const std::string& source, const std::string& destination, const ConvertOptions& options) {
  const Target target = read_target(options.dtype);
  const bool into_gguf = destination.ends_with(".gguf");
  if (into_gguf && fs::is_directory(destination)) {
    throw UsageError(concat("cannot convert: the destination is a directory (", destination, ")"));
  }
  if (into_gguf && is_gguf_file(source) && options.adapter.empty() && options.average.empty()) {
    std::error_code error;
    if (fs::equivalent(source, destination, error)) {
      throw UsageError(concat("cannot convert: source and destination are the same file (", source, ")"));
    }
    return gguf_to_gguf(GgufFile(source), destination, target);
  }
  Checkpoint checkpoint = open_checkpoint(source);
  for (const std::string& path : options.average) {
    checkpoint.others.push_back(open_checkpoint(path));
    if (!same_weights(checkpoint, checkpoint.others.back())) {
      throw UsageError(concat("cannot average models of different configurations (", source, " and ", path, ")"));
    }
  }
  if (!options.adapter.empty()) {
    checkpoint.adapter.emplace(options.adapter);
    std::vector<std::string> names;
    for (const WeightSlot& slot : checkpoint.model->weights()) names.push_back(slot.name);
    checkpoint.adapter->check_names(names);
  }
  return into_gguf ? to_gguf(checkpoint, destination, target)
                   : to_directory(checkpoint, destination, target, options.max_shard_bytes);
}

}  // namespace ondol
