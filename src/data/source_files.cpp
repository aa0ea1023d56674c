#include "data/source_files.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

#include "data/sentence_pairs.h"

namespace ondol::detail {

namespace {

enum class FileKind { text, tokens, rows };

FileKind kind_of(const std::string& path) {
  const std::string name = path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path;
  if (name.ends_with(".txt") || name.ends_with(".jsonl")) return FileKind::text;
  if (path.ends_with(".bin")) return FileKind::tokens;
  if (path.ends_with(".safetensors")) return FileKind::rows;
  throw UsageError("unknown kind of data file (" + path + ")",
                   "known are .txt, .jsonl (both also .gz), .bin with .idx, and .safetensors");
}

// The files of one entry. A path without an extension may be the prefix of prepared files.
std::vector<std::string> files_of(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error) && std::filesystem::exists(path + ".bin", error)) return {path + ".bin"};
  std::vector<std::string> files = expand_path(path);
  for (std::string& file : files) {
    if (file.ends_with(".idx")) file.replace(file.size() - 4, 4, ".bin");
  }
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());  // a pattern may match both files of a pair
  return files;
}

// Opens prepared tokens and compares their checksum, but for files so large that reading them through takes its time.
std::shared_ptr<const TokenFile> open_tokens(const std::string& path) {
  constexpr int64_t kMostVerified = int64_t{1} << 30;
  auto file = std::make_shared<const TokenFile>(path);
  if (file->tokens() * file->bytes_per_token() <= kMostVerified) file->verify();
  return file;
}

void check_tokens(const TokenFile& file, const DataContext& context) {
  if (context.vocab_size > 0 && file.vocab_size() > context.vocab_size) {
    // A tokenizer may know more ids than its corpus uses: the ids themselves decide.
    std::vector<int32_t> ids(size_t{1} << 20);
    for (int64_t begin = 0; begin < file.tokens(); begin += static_cast<int64_t>(ids.size())) {
      const int64_t count = std::min<int64_t>(static_cast<int64_t>(ids.size()), file.tokens() - begin);
      file.read(begin, count, ids.data());
      const int32_t largest = *std::max_element(ids.begin(), ids.begin() + count);
      if (largest >= context.vocab_size) {
        throw UsageError(concat("token id ", largest, " is outside the vocabulary of the model, ", context.vocab_size,
                                " (", file.prefix(), ".bin)"));
      }
    }
  }
  if (context.encoder != nullptr && context.encoder->fingerprint != 0 && file.tokenizer_fingerprint() != 0 &&
      context.encoder->fingerprint != file.tokenizer_fingerprint()) {
    throw UsageError(concat("prepared with another tokenizer (", file.prefix(), ".idx)"),
                     "prepare the files again with ondol data prepare");
  }
}

// What the tokens of text files follow from: their content, the tokenizer, and how documents are told apart.
uint64_t tokens_fingerprint(uint64_t content, const TextEncoder& encoder, const DataConfig& config) {
  uint64_t key = mix_fingerprint(content, encoder.fingerprint);
  key = mix_fingerprint(key, static_cast<uint64_t>(encoder.vocab_size));
  key = mix_fingerprint(mix_fingerprint(key, static_cast<uint64_t>(encoder.bos_id)),
                        static_cast<uint64_t>(encoder.eos_id));
  key = mix_fingerprint(mix_fingerprint(key, config.document_separator), config.text_field);
  return config.sentences == SentenceSplit::none ? key : mix_fingerprint(key, to_string(config.sentences));
}

std::shared_ptr<const TokenFile> tokenize_to_cache(const std::vector<std::string>& paths, uint64_t fingerprint,
                                                   const DataConfig& config, const DataContext& context) {
  const TextEncoder* encoder = context.encoder;
  ONDOL_CHECK(!context.cache_directory.empty(), "text data need a directory for their tokens (", paths[0], ")");
  char name[40];
  std::snprintf(name, sizeof name, "tokens-%016llx", static_cast<unsigned long long>(fingerprint));
  const std::string prefix = context.cache_directory + "/" + name;
  std::error_code error;
  // Without a fingerprint of the tokenizer a cache cannot be told to be its own.
  if (encoder->fingerprint != 0 && std::filesystem::exists(prefix + ".idx", error)) {
    try {
      return open_tokens(prefix);
    } catch (const Error&) {
      // A damaged cache is made anew.
    }
  }
  prepare_tokens(
      *encoder, paths, prefix,
      {.separator = config.document_separator, .text_field = config.text_field, .sentences = config.sentences});
  return std::make_shared<const TokenFile>(prefix);
}

// Where the validation part begins: at a document when one begins in the second half of what follows, else at a token.
int64_t split_point(const TokenStream& stream, double fraction) {
  const int64_t cut = stream.size() - static_cast<int64_t>(std::llround(fraction * static_cast<double>(stream.size())));
  if (cut <= 0 || cut >= stream.size()) return std::clamp<int64_t>(cut, 0, stream.size());
  const int64_t start = stream.document_start(cut);
  const int64_t end = stream.document_end(cut);
  if (start == cut) return cut;
  const int64_t validation = stream.size() - cut;
  if (end < stream.size() && end - cut <= validation / 2) return end;
  if (start > 0 && cut - start <= validation / 2) return start;
  return cut;
}

/// Which files, what they are read as, and what they become.
OpenedSource open_records(const std::vector<DataSource>& entries, const DataConfig& config, DataSplit split,
                          const DataContext& context) {
  const RecordEncoder& encoder = *context.record_encoder;
  const std::vector<std::string> known = encoder.fields();
  for (const auto& [field, name] : config.fields) {
    if (std::find(known.begin(), known.end(), field) != known.end()) continue;
    std::string names;
    for (const std::string& each : known) names += (names.empty() ? "" : ", ") + quoted_name(each);
    throw UsageError(concat("data.fields: the objective has no field ", quoted_name(field)), "it has " + names);
  }
  OpenedSource source;
  std::vector<RecordFile> files;
  for (const DataSource& entry : entries) {
    source.name += (source.name.empty() ? "" : " ") + entry.path;
    const std::vector<std::string> paths = expand_path(entry.path);
    if (!entry.target_path.empty() && paths.size() != 1) {
      throw UsageError(
          concat("data: a source with \"target_path\" is one file, not ", paths.size(), " (", entry.path, ")"));
    }
    for (const std::string& path : paths) {
      files.push_back({path, entry.target_path, entry.format});
      source.fingerprint = mix_fingerprint(source.fingerprint, file_fingerprint(path));
      source.fingerprint = mix_fingerprint(source.fingerprint, record_format(files.back()));
      if (entry.target_path.empty()) continue;
      const std::string target = expand_path(entry.target_path).front();
      source.fingerprint = mix_fingerprint(source.fingerprint, file_fingerprint(target));
    }
  }
  for (const auto& [field, name] : config.fields)
    source.fingerprint = mix_fingerprint(source.fingerprint, field + "=" + name);
  for (const std::string& column : config.columns) source.fingerprint = mix_fingerprint(source.fingerprint, column);
  source.fingerprint = mix_fingerprint(source.fingerprint, encoder.fingerprint());

  RecordSourceSettings settings;
  settings.reading = {.fields = config.fields,
                      .columns = config.columns,
                      .expand = [&encoder](const Json& document, const std::string& file) {
                        return encoder.records_of(document, file);
                      }};
  settings.encoder = &encoder;
  settings.packing = config.packing;
  settings.sequence_length = config.sequence_length;
  if (config.validation.empty() && config.validation_fraction > 0) {
    const double cut = 1 - config.validation_fraction;
    (split == DataSplit::train ? settings.end_fraction : settings.begin_fraction) = cut;
  }
  source.samples = make_record_source(files, settings);
  if (source.samples->size() == 0) {
    throw UsageError(concat("no examples: ", source.samples->describe(), " (", source.name, ")"));
  }
  return source;
}

std::unique_ptr<SampleSource> open_pairs(const TokenStream& stream, const DataConfig& config,
                                         const DataContext& context) {
  const TextEncoder* encoder = context.encoder;
  if (encoder == nullptr || encoder->bos_id < 0 || encoder->eos_id < 0) {
    throw UsageError("sentence pairs need a tokenizer that puts a token before and behind a text (tokenizer.path)",
                     "[CLS] and [SEP] of BERT's tokenizers");
  }
  return make_pair_source(
      SentenceCorpus(stream, encoder->bos_id),
      {config.pairs, config.sequence_length, config.shuffle_seed, encoder->bos_id, encoder->eos_id, context.pad_id});
}

OpenedSource open_source(const std::vector<DataSource>& entries, const DataConfig& config, DataSplit split,
                         const DataContext& context) {
  if (context.record_encoder != nullptr) return open_records(entries, config, split, context);
  for (const DataSource& entry : entries) {
    if (entry.target_path.empty() && entry.format.empty()) continue;
    throw UsageError(
        concat("data: \"target_path\" and \"format\" are for structured examples, which the objective does "
               "not read (",
               entry.path, ")"));
  }
  OpenedSource source;
  std::vector<std::shared_ptr<const TokenFile>> token_files;
  std::vector<std::string> row_files;
  for (const DataSource& entry : entries) {
    source.name += (source.name.empty() ? "" : " ") + entry.path;
    std::vector<std::string> texts;
    uint64_t texts_content = 0;
    for (const std::string& path : files_of(entry.path)) {
      const FileKind kind = kind_of(path);
      const uint64_t content = file_fingerprint(path);
      if (kind == FileKind::text) {
        texts.push_back(path);
        texts_content = mix_fingerprint(texts_content, content);
        continue;
      }
      source.fingerprint = mix_fingerprint(source.fingerprint, content);
      if (kind == FileKind::rows) {
        row_files.push_back(path);
      } else {
        token_files.push_back(open_tokens(path));
        const uint64_t index = file_fingerprint(token_files.back()->prefix() + ".idx");
        source.fingerprint = mix_fingerprint(source.fingerprint, index);
      }
    }
    if (texts.empty()) continue;
    if (context.encoder == nullptr) {
      throw UsageError("text data need a tokenizer (" + texts[0] + ")", "set \"tokenizer.path\", or prepare the files");
    }
    const uint64_t fingerprint = tokens_fingerprint(texts_content, *context.encoder, config);
    source.fingerprint = mix_fingerprint(source.fingerprint, fingerprint);
    token_files.push_back(tokenize_to_cache(texts, fingerprint, config, context));
  }
  if (!row_files.empty() && !token_files.empty()) {
    throw UsageError("data: finished samples (.safetensors) and text cannot be mixed (" + source.name + ")");
  }
  const bool own_split = config.validation.empty() && config.validation_fraction > 0;
  if (!row_files.empty()) {
    const double cut = own_split ? 1 - config.validation_fraction : 1;
    source.samples = split == DataSplit::train || !own_split ? make_row_source(row_files, context.vocab_size, 0, cut)
                                                             : make_row_source(row_files, context.vocab_size, cut, 1);
  } else {
    if (config.sequence_length < 1) {
      throw UsageError(concat("data.sequence_length must be at least 1, got ", config.sequence_length));
    }
    for (const auto& file : token_files) check_tokens(*file, context);
    TokenStream stream(token_files);
    if (own_split) {
      const int64_t cut = split_point(stream, config.validation_fraction);
      stream = split == DataSplit::train ? stream.slice(0, cut) : stream.slice(cut, stream.size());
    }
    if (config.pairs.task != SentencePairSettings::none) {
      source.samples = open_pairs(stream, config, context);
    } else {
      const TokenSettings settings{config.sequence_length, config.document_mask, context.pad_id};
      source.samples = config.packing ? make_packed_source(stream, settings) : make_document_source(stream, settings);
    }
  }
  if (source.samples->size() == 0) {
    throw UsageError(concat("corpus shorter than one sample: ", source.samples->describe(), " (", source.name, ")"),
                     "add text, or lower data.sequence_length");
  }
  return source;
}

}  // namespace

std::vector<OpenedSource> open_sources(const DataConfig& config, DataSplit split, const DataContext& context) {
  if (!(config.validation_fraction >= 0 && config.validation_fraction < 1)) {
    throw UsageError(concat("data.validation_fraction must be in [0, 1), got ", config.validation_fraction));
  }
  const bool listed = split == DataSplit::validation && !config.validation.empty();
  const std::vector<DataSource>& entries = listed ? config.validation : config.train;
  if (entries.empty()) throw UsageError("no data: \"data.train\" lists no source");
  if (split == DataSplit::validation && !listed && config.validation_fraction == 0) {
    throw UsageError("no validation data: neither data.validation nor data.validation_fraction is set");
  }
  const bool weighted =
      split == DataSplit::train &&
      std::any_of(entries.begin(), entries.end(), [](const DataSource& s) { return s.weight.has_value(); });
  std::vector<OpenedSource> sources;
  if (!weighted) {
    sources.push_back(open_source(entries, config, split, context));
    return sources;
  }
  for (const DataSource& entry : entries) {
    sources.push_back(open_source({entry}, config, split, context));
    sources.back().weight = entry.weight.value_or(1.0);
    sources.back().final_weight = entry.final_weight.value_or(sources.back().weight);
    if (sources.back().samples->layout() != sources[0].samples->layout()) {
      throw UsageError(concat("data: samples of different layout cannot be mixed (", sources[0].name, " and ",
                              sources.back().name, ")"));
    }
  }
  return sources;
}

}  // namespace ondol::detail

namespace ondol {

void for_each_training_record(const DataConfig& config, const std::function<void(const Record&)>& visit) {
  for (const DataSource& entry : config.train) {
    for (const std::string& path : expand_path(entry.path)) {
      RecordReader reader({path, entry.target_path, entry.format},
                          {.fields = config.fields, .columns = config.columns});
      for (Record record; reader.next(record);) visit(record);
    }
  }
}

}  // namespace ondol
