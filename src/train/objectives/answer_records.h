// Questions, contexts and answers of structured examples.
//
//   const QuestionRecord example = *read_question(record, false);
//
// Fields: question, context, answers and, where there is one, id. `answers` is {"text": [...], "answer_start": [...]},
// or a list of {"text", "answer_start"}, or nothing for a question without an answer; answer_start counts characters
// (code points) of the context, and without it the first place of the text counts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

#include "data/record.h"

namespace ondol {

struct QuestionRecord {
  std::string id, question, context;
  std::vector<std::string> answers;  // their texts; none: there is no answer
  TextRange answer;                  // bytes of the context: the first answer
};

/// The field names that data.fields may map.
std::vector<std::string> question_fields();

/// Nothing when the first answer does not stand where it is said to, and such examples are dropped; otherwise that
/// fails, as does a record without its fields.
std::optional<QuestionRecord> read_question(const Record& record, bool drop_missing_answer);

/// The questions of a document in the format of SQuAD and KorQuAD, {"data": [{"paragraphs": [{"context", "qas"}]}]}.
std::vector<Json> squad_records(const Json& document, const std::string& file);

}  // namespace ondol
