#include "tokenizer/post_processor.h"

#include <utility>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

namespace ondol::tokenization {

namespace {

using Kind = TemplateItem::Kind;

int32_t checked_id(const Json& value, int64_t vocab_size, const std::string& where) {
  if (!value.is_number_integer()) throw UsageError(concat("a token id must be an integer (", where, ")"));
  const bool large = value.is_number_unsigned() && value.get<uint64_t>() >= static_cast<uint64_t>(vocab_size);
  if (large || value.get<int64_t>() < 0) {
    throw UsageError(concat("token id ", value.dump(), " is outside the vocabulary of ", vocab_size, " (", where, ")"));
  }
  return static_cast<int32_t>(value.get<int64_t>());
}

/// ["</s>", 2]
TemplateItem named_token(const Json& spec, const char* key, int64_t vocab_size, const std::string& where) {
  const Json& pair = array_at(spec, key, where);
  if (pair.size() != 2) throw UsageError(concat('"', key, "\" must be [token, id] (", where, ")"));
  return {Kind::ids, 0, {checked_id(pair[1], vocab_size, where)}};
}

TemplateItem sequence(Kind kind, int32_t type_id) { return {kind, type_id, {}}; }

TemplateItem with_type(TemplateItem item, int32_t type_id) {
  item.type_id = type_id;
  return item;
}

std::vector<TemplateItem> read_template(const Json& spec, const char* key, int64_t vocab_size,
                                        const std::string& where) {
  std::vector<TemplateItem> items;
  for (const Json& entry : array_at(spec, key, where)) {
    if (!entry.is_object() || entry.size() != 1) {
      throw UsageError(
          concat("an element of \"", key, "\" must be {\"Sequence\": …} or {\"SpecialToken\": …} (", where, ")"));
    }
    const std::string kind = entry.begin().key();
    const Json& body = entry.begin().value();
    const std::string id = string_at(body, "id", where);
    const int64_t type_id = integer_at(body, "type_id", where);
    if (type_id < 0 || type_id > INT32_MAX) throw UsageError(concat("\"type_id\" is out of range (", where, ")"));
    if (kind == "Sequence") {
      if (id != "A" && id != "B")
        throw UsageError(concat("sequence id must be A or B, not \"", id, "\" (", where, ")"));
      items.push_back(sequence(id == "A" ? Kind::sequence_a : Kind::sequence_b, static_cast<int32_t>(type_id)));
    } else if (kind == "SpecialToken") {
      const auto tokens = spec.find("special_tokens");
      const auto token = tokens == spec.end() || !tokens->is_object() ? Json::const_iterator() : tokens->find(id);
      if (tokens == spec.end() || !tokens->is_object() || token == tokens->end()) {
        throw UsageError(concat("special token \"", id, "\" of the template is not defined (", where, ")"));
      }
      TemplateItem item{Kind::ids, static_cast<int32_t>(type_id), {}};
      for (const Json& value : array_at(*token, "ids", where)) item.ids.push_back(checked_id(value, vocab_size, where));
      items.push_back(std::move(item));
    } else {
      throw UsageError(concat("unknown template element \"", kind, "\" (", where, ")"));
    }
  }
  return items;
}

void apply(const Json& spec, int64_t vocab_size, const std::string& where, PostProcessor& result) {
  const std::string type = string_at(spec, "type", where);
  if (type == "ByteLevel" || type == "RobertaProcessing") {
    result.trim_offsets = bool_at(spec, "trim_offsets", true, where);
    result.prefix_space = bool_at(spec, "add_prefix_space", true, where);
    if (type == "ByteLevel") return;
  }
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& item : array_at(spec, "processors", where)) {
      apply(item, vocab_size, concat(where, ".processors[", index++, "]"), result);
    }
    return;
  }
  if (type == "TemplateProcessing") {
    result.single = read_template(spec, "single", vocab_size, where);
    result.pair = read_template(spec, "pair", vocab_size, where);
    return;
  }
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    const TemplateItem cls = named_token(spec, "cls", vocab_size, where);
    const TemplateItem sep = named_token(spec, "sep", vocab_size, where);
    result.single = {cls, sequence(Kind::sequence_a, 0), sep};
    if (type == "RobertaProcessing") {
      result.pair = {cls, sequence(Kind::sequence_a, 0), sep, sep, sequence(Kind::sequence_b, 0), sep};
    } else {
      result.pair = {cls, sequence(Kind::sequence_a, 0), sep, sequence(Kind::sequence_b, 1), with_type(sep, 1)};
    }
    return;
  }
  throw UsageError(concat("post-processor type \"", type, "\" is not supported (", where, ")"),
                   "supported: BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing");
}

}  // namespace

PostProcessor make_post_processor(const Json& spec, int64_t vocab_size, const std::string& file) {
  PostProcessor result;
  if (!spec.is_null()) apply(spec, vocab_size, concat(file, ", post_processor"), result);
  return result;
}

}  // namespace ondol::tokenization
