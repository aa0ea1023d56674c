#include "train/objectives/answer_records.h"

namespace ondol {

namespace {

struct GivenAnswer {
  std::string text;
  std::optional<int64_t> start;  // characters
};

GivenAnswer given_answer(const Record& record, const Json* text, const Json* start) {
  if (text == nullptr || !text->is_string())
    record.fail(concat("an answer of ", record.label_of("answers"), " has no text"));
  GivenAnswer answer{text->get<std::string>(), std::nullopt};
  if (start == nullptr || start->is_null()) return answer;
  if (!start->is_number_integer()) {
    record.fail(concat("\"answer_start\" of ", record.label_of("answers"), " must be a whole number"));
  }
  answer.start = start->get<int64_t>();
  return answer;
}

const Json* member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::vector<GivenAnswer> given_answers(const Record& record) {
  const Json* answers = record.find("answers");
  const Json* impossible = record.find("is_impossible");
  if (answers == nullptr || (impossible != nullptr && impossible->is_boolean() && impossible->get<bool>())) return {};
  std::vector<GivenAnswer> given;
  if (answers->is_array()) {
    for (const Json& each : *answers) {
      if (!each.is_object()) record.fail(concat("an answer of ", record.label_of("answers"), " is no object"));
      given.push_back(given_answer(record, member(each, "text"), member(each, "answer_start")));
    }
    return given;
  }
  const Json* texts = answers->is_object() ? member(*answers, "text") : nullptr;
  const Json* starts = answers->is_object() ? member(*answers, "answer_start") : nullptr;
  if (texts == nullptr || !texts->is_array() ||
      (starts != nullptr && (!starts->is_array() || starts->size() != texts->size()))) {
    record.fail(concat("field ", record.label_of("answers"), " must have lists \"text\" and \"answer_start\""));
  }
  for (size_t i = 0; i < texts->size(); ++i) {
    given.push_back(given_answer(record, &(*texts)[i], starts == nullptr ? nullptr : &(*starts)[i]));
  }
  return given;
}

/// The byte at which a character begins; npos beyond the end.
size_t byte_of(const std::string& text, int64_t character) {
  int64_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
    if (seen++ == character) return i;
  }
  return std::string::npos;
}

size_t place_of(const GivenAnswer& answer, const std::string& context) {
  if (answer.text.empty()) return std::string::npos;
  if (!answer.start) return context.find(answer.text);
  const size_t byte = *answer.start < 0 ? std::string::npos : byte_of(context, *answer.start);
  const bool there = byte != std::string::npos && context.compare(byte, answer.text.size(), answer.text) == 0;
  return there ? byte : std::string::npos;
}

}  // namespace

std::vector<std::string> question_fields() { return {"id", "question", "context", "answers", "is_impossible"}; }

std::optional<QuestionRecord> read_question(const Record& record, bool drop_missing_answer) {
  QuestionRecord example;
  example.question = record.text("question");
  example.context = record.text("context");
  example.id = record.find("id") == nullptr ? std::to_string(record.number()) : record.name("id");
  const std::vector<GivenAnswer> given = given_answers(record);
  for (const GivenAnswer& answer : given) example.answers.push_back(answer.text);
  if (given.empty()) return example;
  const size_t at = place_of(given.front(), example.context);
  if (at == std::string::npos) {
    if (drop_missing_answer) return std::nullopt;
    record.fail(
        concat("the answer ", quoted_name(given.front().text),
               given.front().start ? concat(" does not stand at character ", *given.front().start, " of the context")
                                   : " does not stand in the context"),
        "objective.missing_answer \"drop\" leaves such examples out");
  }
  example.answer = {at, at + given.front().text.size()};
  return example;
}

std::vector<Json> squad_records(const Json& document, const std::string& file) {
  const auto list = [&](const Json& object, const char* key) -> const Json& {
    const Json* found = object.is_object() ? member(object, key) : nullptr;
    if (found == nullptr || !found->is_array()) {
      throw Error(concat("cannot read questions: no list \"", key, "\" as in SQuAD's files (", file, ")"));
    }
    return *found;
  };
  std::vector<Json> records;
  for (const Json& article : list(document, "data")) {
    for (const Json& paragraph : list(article, "paragraphs")) {
      for (const Json& question : list(paragraph, "qas")) {
        Json record = question;
        if (const Json* context = member(paragraph, "context")) record["context"] = *context;
        records.push_back(std::move(record));
      }
    }
  }
  return records;
}

}  // namespace ondol
