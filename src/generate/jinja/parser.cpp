// Statements.
#include "generate/jinja/expression_parser.h"

namespace ondol::jinja {

namespace {

constexpr int kMaxDepth = 100;

class Parser {
 public:
  explicit Parser(std::vector<Segment> segments) : segments_(std::move(segments)) {}

  Block run() {
    Block block = statements();
    if (at_ < segments_.size()) throw ParseError{"unexpected {% " + word() + " %}", segments_[at_].line};
    return block;
  }

 private:
  /// The word a statement begins with, "" for other segments.
  std::string word() const {
    const Segment& segment = segments_[at_];
    return segment.kind == Segment::Kind::statement ? segment.tokens.front().text : "";
  }

  /// Statements up to one that ends or divides a block, or the end of the template.
  Block statements() {
    if (++depth_ > kMaxDepth) throw ParseError{"blocks are nested too deeply", segments_[at_ - 1].line};
    Block block;
    for (; at_ < segments_.size(); ++at_) {
      const Segment& segment = segments_[at_];
      if (segment.kind == Segment::Kind::statement) {
        const std::string name = word();
        if (name == "elif" || name == "else" || name.starts_with("end")) break;
        block.push_back(statement(name));
        continue;
      }
      auto node = make(segment.kind == Segment::Kind::text ? Statement::Kind::text : Statement::Kind::output);
      if (segment.kind == Segment::Kind::text) {
        node->text = segment.text;
      } else {
        ExpressionParser parser(segment.tokens);
        node->expression = parser.tuple();
        parser.expect_end();
      }
      block.push_back(std::move(node));
    }
    --depth_;
    return block;
  }

  std::unique_ptr<Statement> make(Statement::Kind kind) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = segments_[at_].line;
    return node;
  }

  /// Leaves at_ at the last segment of the statement.
  std::unique_ptr<Statement> statement(const std::string& name) {
    ExpressionParser parser(segments_[at_].tokens);
    parser.expect_name();
    if (name == "if") return branches(parser);
    if (name == "for") return loop(parser);
    if (name == "set") return assignment(parser);
    if (name == "macro") return macro(parser);
    if (name == "break" || name == "continue") {
      parser.expect_end();
      return make(name == "break" ? Statement::Kind::leave_loop : Statement::Kind::next_iteration);
    }
    if (name == "generation") {
      auto node = make(Statement::Kind::generation);
      node->blocks.push_back(body("generation"));
      return node;
    }
    parser.fail("the statement {% " + name + " %} is not supported");
  }

  /// The block up to {% endNAME %}.
  Block body(const std::string& name) {
    const int line = segments_[at_].line;
    ++at_;
    Block block = statements();
    if (at_ == segments_.size() || word() != "end" + name) throw ParseError{"{% " + name + " %} is not closed", line};
    return block;
  }

  std::unique_ptr<Statement> branches(ExpressionParser& first) {
    auto node = make(Statement::Kind::branches);
    node->conditions.push_back(first.expression());
    first.expect_end();
    while (true) {
      ++at_;
      node->blocks.push_back(statements());
      const std::string next = at_ < segments_.size() ? word() : "";
      if (next == "endif") return node;
      const bool had_else = node->blocks.size() > node->conditions.size();
      if (had_else || (next != "elif" && next != "else")) throw ParseError{"{% if %} is not closed", node->line};
      if (next == "elif") {
        ExpressionParser parser(segments_[at_].tokens);
        parser.expect("elif");
        node->conditions.push_back(parser.expression());
        parser.expect_end();
      }
    }
  }

  std::unique_ptr<Statement> loop(ExpressionParser& parser) {
    auto node = make(Statement::Kind::loop);
    const bool brackets = parser.take("(");
    do node->targets.push_back(parser.expect_name());
    while (parser.take(","));
    if (brackets) parser.expect(")");
    parser.expect("in");
    node->expression = parser.iterable();
    if (parser.take("if")) node->conditions.push_back(parser.expression());
    parser.expect_end();
    ++at_;
    node->blocks.push_back(statements());
    if (at_ < segments_.size() && word() == "else") {
      ++at_;
      node->blocks.push_back(statements());
    }
    if (at_ == segments_.size() || word() != "endfor") throw ParseError{"{% for %} is not closed", node->line};
    return node;
  }

  std::unique_ptr<Statement> assignment(ExpressionParser& parser) {
    auto node = make(Statement::Kind::assignment);
    do node->targets.push_back(parser.expect_name());
    while (parser.take(","));
    if (node->targets.size() == 1 && parser.take(".")) node->attribute = parser.expect_name();
    if (parser.take("=")) {
      node->expression = parser.tuple();
      parser.expect_end();
    } else {
      parser.expect_end();
      node->blocks.push_back(body("set"));
    }
    return node;
  }

  std::unique_ptr<Statement> macro(ExpressionParser& parser) {
    auto node = make(Statement::Kind::macro);
    node->targets.push_back(parser.expect_name());
    parser.expect("(");
    while (!parser.take(")")) {
      const std::string name = parser.expect_name();
      node->parameters.emplace_back(name, parser.take("=") ? parser.expression() : nullptr);
      if (parser.peek().text != ")") parser.expect(",");
    }
    parser.expect_end();
    node->blocks.push_back(body("macro"));
    return node;
  }

  const std::vector<Segment> segments_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Block parse_template(const std::string& source) {
  try {
    return Parser(split_template(source)).run();
  } catch (const LexError& error) {
    throw ParseError{error.what, error.line};
  }
}

}  // namespace ondol::jinja
