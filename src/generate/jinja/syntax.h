// The tree of a template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "generate/jinja/value.h"

namespace ondol::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    literal,      // value
    variable,     // name
    list,         // children
    dict,         // children: key, value, key, value, …
    attribute,    // children[0].name
    index,        // children[0][children[1]]
    slice,        // children[0][begin:end:step], absent ones null
    call,         // children[0](children[1] …, named)
    filter,       // children[0] | name(children[1] …, named)
    test,         // children[0] is name(children[1] …)
    negation,     // not children[0]
    minus,        // - children[0]
    arithmetic,   // children[0] name children[1]
    comparison,   // children[0] operators[0] children[1] operators[1] …
    conjunction,  // children[0] and children[1]
    disjunction,  // children[0] or children[1]
    conditional   // children[0] if children[1] else children[2] (may be null)
  } kind;
  int line = 0;
  std::string name;
  Value value;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Statement {
  enum class Kind {
    text,            // text
    output,          // expression
    branches,        // conditions[i] -> blocks[i]; one block more: else
    loop,            // targets in expression if conditions[0]: blocks[0], else blocks[1]
    assignment,      // targets (or targets[0].attribute) = expression, or the text of blocks[0]
    macro,           // targets[0](parameters): blocks[0]
    leave_loop,      // break
    next_iteration,  // continue
    generation       // blocks[0], and where its text stands is remembered
  } kind;
  int line = 0;
  std::string text;
  ExpressionPtr expression;
  std::vector<ExpressionPtr> conditions;
  std::vector<std::string> targets;
  std::string attribute;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // with defaults or null
  std::vector<Block> blocks;
};

struct ParseError {
  std::string what;
  int line;
};

/// Throws ParseError.
Block parse_template(const std::string& source);

}  // namespace ondol::jinja
