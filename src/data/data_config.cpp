#include "data/data_config.h"

namespace ondol {

namespace {
std::vector<DataSource> read_sources(const JsonReader& data, const std::string& key) {
  std::vector<DataSource> sources;
  for (const JsonReader& entry : data.children(key)) {
    DataSource source{.path = entry.require<std::string>("path")};
    source.target_path = entry.get<std::string>("target_path", "");
    source.format = entry.get_enum("format", "", {"", "jsonl", "json", "csv", "tsv", "conll"});
    if (!source.format.empty() && !source.target_path.empty()) {
      entry.fail("format", "lines of two files (target_path) have no other format");
    }
    if (entry.has("weight")) source.weight = entry.require<double>("weight", above(0));
    entry.accept("weight");
    if (entry.has("final_weight")) {
      if (!source.weight) entry.fail("final_weight", "the source has no \"weight\" to begin with");
      source.final_weight = entry.require<double>("final_weight", above(0));
    }
    sources.push_back(std::move(source));
  }
  return sources;
}
}  // namespace

DataConfig read_data_config(const JsonReader& data) {
  DataConfig config;
  config.train = read_sources(data, "train");
  config.validation = read_sources(data, "validation");
  config.validation_fraction = data.get<double>("validation_fraction", config.validation_fraction, half_open(0, 1));
  config.sequence_length = data.get<int64_t>("sequence_length", config.sequence_length, between(1, 1 << 24));
  config.mixture_samples = data.get<int64_t>("mixture_samples", config.mixture_samples, at_least(1));
  config.packing = data.get<bool>("packing", config.packing);
  config.document_mask = data.get<bool>("document_mask", config.document_mask);
  config.shuffle = data.get<bool>("shuffle", config.shuffle);
  config.shuffle_seed = data.get<uint64_t>("shuffle_seed", config.shuffle_seed);
  config.document_separator = data.get<std::string>("document_separator", config.document_separator);
  if (config.document_separator.empty()) {
    data.fail("document_separator", "must not be empty",
              "use \"file\", \"line\", \"blank_line\" or the separating text");
  }
  config.text_field = data.get<std::string>("text_field", config.text_field);
  const Json& fields = data.raw("fields");
  if (!fields.is_null() && !fields.is_object()) data.fail("fields", "must be an object of names");
  for (const auto& [field, name] : fields.items()) {
    if (!name.is_string()) data.fail("fields", concat("the name of ", quoted_name(field), " must be a text"));
    config.fields[field] = name.get<std::string>();
  }
  config.columns = data.get<std::vector<std::string>>("columns", {});
  config.sentences = parse_sentence_split(data.get_enum("sentences", "none", {"none", "lines", "punctuation"}));
  return config;
}

}  // namespace ondol
