#include "generate/jinja/expression_parser.h"

#include <charconv>

namespace ondol::jinja {

namespace {

constexpr int kMaxDepth = 100;
constexpr int kMaxLinks = 400;

bool is_comparison(const Token& token) {
  static const char* const symbols[] = {"==", "!=", "<", "<=", ">", ">="};
  for (const char* symbol : symbols) {
    if (token.kind == Token::Kind::symbol && token.text == symbol) return true;
  }
  return token.kind == Token::Kind::name && token.text == "in";
}

}  // namespace

void ExpressionParser::fail(const std::string& what) const { throw ParseError{what, peek().line}; }

bool ExpressionParser::take(const char* text) {
  if (!is_symbol(text) && !is_word(text)) return false;
  ++at_;
  return true;
}

void ExpressionParser::expect(const char* text) {
  if (!take(text)) fail(std::string("expected '") + text + "'" + (at_end() ? "" : ", found '" + peek().text + "'"));
}

std::string ExpressionParser::expect_name() {
  if (peek().kind != Token::Kind::name) fail("expected a name" + (at_end() ? "" : ", found '" + peek().text + "'"));
  return tokens_[at_++].text;
}

void ExpressionParser::expect_end() {
  if (!at_end()) fail("unexpected '" + peek().text + "'");
}

ExpressionPtr ExpressionParser::make(Expression::Kind kind, std::string name) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = peek().line;
  node->name = std::move(name);
  return node;
}

void ExpressionParser::link() {
  if (++links_ > kMaxLinks) fail("the expression is too long");
}

ExpressionPtr ExpressionParser::binary(Expression::Kind kind, std::string name, ExpressionPtr left,
                                       ExpressionPtr right) {
  link();
  ExpressionPtr node = make(kind, std::move(name));
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return node;
}

ExpressionPtr ExpressionParser::expression() {
  if (++depth_ > kMaxDepth) fail("expressions are nested too deeply");
  ExpressionPtr value = disjunction();
  while (take("if")) {
    link();
    ExpressionPtr node = make(Expression::Kind::conditional);
    node->children.push_back(std::move(value));
    node->children.push_back(disjunction());
    node->children.push_back(take("else") ? expression() : nullptr);
    value = std::move(node);
  }
  --depth_;
  return value;
}

ExpressionPtr ExpressionParser::tuple() {
  ExpressionPtr first = expression();
  if (!is_symbol(",")) return first;
  ExpressionPtr list = make(Expression::Kind::list);
  list->children.push_back(std::move(first));
  while (take(",") && !at_end()) list->children.push_back(expression());
  return list;
}

ExpressionPtr ExpressionParser::iterable() { return disjunction(); }

ExpressionPtr ExpressionParser::disjunction() {
  ExpressionPtr left = conjunction();
  while (take("or")) left = binary(Expression::Kind::disjunction, "", std::move(left), conjunction());
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  ExpressionPtr left = negation();
  while (take("and")) left = binary(Expression::Kind::conjunction, "", std::move(left), negation());
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!is_word("not")) return comparison();
  if (++depth_ > kMaxDepth) fail("expressions are nested too deeply");
  ExpressionPtr node = make(Expression::Kind::negation);
  take("not");
  node->children.push_back(negation());
  --depth_;
  return node;
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr left = sum();
  ExpressionPtr node;
  while (true) {
    std::string name;
    if (is_comparison(peek())) {
      name = tokens_[at_++].text;
    } else if (is_word("not") && tokens_[at_ + 1].kind == Token::Kind::name && tokens_[at_ + 1].text == "in") {
      at_ += 2;
      name = "not in";
    } else {
      return node ? std::move(node) : std::move(left);
    }
    if (!node) {
      node = make(Expression::Kind::comparison);
      node->children.push_back(std::move(left));
    }
    node->operators.push_back(name);
    node->children.push_back(sum());
  }
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = joined();
  while (is_symbol("+") || is_symbol("-")) {
    const std::string name = tokens_[at_++].text;
    left = binary(Expression::Kind::arithmetic, name, std::move(left), joined());
  }
  return left;
}

ExpressionPtr ExpressionParser::joined() {
  ExpressionPtr left = product();
  while (take("~")) left = binary(Expression::Kind::arithmetic, "~", std::move(left), product());
  return left;
}

ExpressionPtr ExpressionParser::product() {
  ExpressionPtr left = unary(true);
  while (is_symbol("*") || is_symbol("/") || is_symbol("//") || is_symbol("%")) {
    const std::string name = tokens_[at_++].text;
    left = binary(Expression::Kind::arithmetic, name, std::move(left), unary(true));
  }
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  if (!is_symbol("-") && !is_symbol("+")) return postfix(primary(), with_filters);
  if (++depth_ > kMaxDepth) fail("expressions are nested too deeply");
  const bool minus = tokens_[at_++].text == "-";
  // A filter or test behind the operand is one of the whole: -3|abs is 3.
  ExpressionPtr node = unary(false);
  --depth_;
  if (minus) {
    ExpressionPtr operand = std::move(node);
    node = make(Expression::Kind::minus);
    node->children.push_back(std::move(operand));
  }
  return postfix(std::move(node), with_filters);
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr base, bool with_filters) {
  for (;; link()) {
    if (take(".")) {
      ExpressionPtr node = make(Expression::Kind::attribute);
      if (peek().kind == Token::Kind::integer) {
        node->kind = Expression::Kind::index;
        node->children.push_back(std::move(base));
        node->children.push_back(primary());
      } else {
        node->name = expect_name();
        node->children.push_back(std::move(base));
      }
      base = std::move(node);
    } else if (take("[")) {
      base = subscript(std::move(base));
    } else if (take("(")) {
      ExpressionPtr node = make(Expression::Kind::call);
      node->children.push_back(std::move(base));
      arguments(*node);
      base = std::move(node);
    } else if (!with_filters) {
      return base;
    } else if (take("|")) {
      ExpressionPtr node = make(Expression::Kind::filter, expect_name());
      node->children.push_back(std::move(base));
      if (take("(")) arguments(*node);
      base = std::move(node);
    } else if (take("is")) {
      base = test(std::move(base));
    } else {
      return base;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr base) {
  ExpressionPtr parts[3];
  int count = 0;
  if (!is_symbol(":")) parts[0] = expression();
  while (count < 2 && take(":")) {
    ++count;
    if (!is_symbol(":") && !is_symbol("]")) parts[count] = expression();
  }
  expect("]");
  ExpressionPtr node = make(count == 0 ? Expression::Kind::index : Expression::Kind::slice);
  node->children.push_back(std::move(base));
  node->children.push_back(std::move(parts[0]));
  if (count > 0) {
    node->children.push_back(std::move(parts[1]));
    node->children.push_back(std::move(parts[2]));
  }
  return node;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr base) {
  const bool negated = take("not");
  ExpressionPtr node = make(Expression::Kind::test);
  node->name = is_symbol("==") ? tokens_[at_++].text : expect_name();
  node->children.push_back(std::move(base));
  if (take("(")) {
    arguments(*node);
  } else {
    static const char* const words[] = {"and", "or", "not", "if", "else", "is", "in"};
    bool argument = peek().kind == Token::Kind::string || peek().kind == Token::Kind::integer ||
                    peek().kind == Token::Kind::number || peek().kind == Token::Kind::name;
    for (const char* word : words) argument = argument && !is_word(word);
    if (argument) {
      ExpressionPtr value = primary();
      while (take(".")) {
        link();
        ExpressionPtr attribute = make(Expression::Kind::attribute, expect_name());
        attribute->children.push_back(std::move(value));
        value = std::move(attribute);
      }
      node->children.push_back(std::move(value));
    }
  }
  if (!negated) return node;
  ExpressionPtr negation_node = make(Expression::Kind::negation);
  negation_node->children.push_back(std::move(node));
  return negation_node;
}

void ExpressionParser::arguments(Expression& call) {
  while (!take(")")) {
    const bool is_named = peek().kind == Token::Kind::name && tokens_[at_ + 1].kind == Token::Kind::symbol &&
                          tokens_[at_ + 1].text == "=";
    if (is_named) {
      const std::string name = expect_name();
      expect("=");
      call.named.emplace_back(name, expression());
    } else {
      call.children.push_back(expression());
    }
    if (!is_symbol(")")) expect(",");
  }
}

ExpressionPtr ExpressionParser::primary() {
  const Token token = peek();
  ExpressionPtr node = make(Expression::Kind::literal);
  if (token.kind == Token::Kind::end) fail("the expression is incomplete");
  ++at_;
  switch (token.kind) {
    case Token::Kind::string: {
      std::string text = token.text;
      while (peek().kind == Token::Kind::string) text += tokens_[at_++].text;
      node->value = text;
      return node;
    }
    case Token::Kind::integer: {
      int64_t value = 0;
      const auto [end, error] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      if (error != std::errc{}) fail("the number " + token.text + " is too large");
      node->value = value;
      return node;
    }
    case Token::Kind::number: {
      double value = 0;
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      node->value = value;
      return node;
    }
    case Token::Kind::name:
      if (token.text == "true" || token.text == "True") {
        node->value = true;
      } else if (token.text == "false" || token.text == "False") {
        node->value = false;
      } else if (token.text == "none" || token.text == "None") {
        node->value = Value::none();
      } else {
        node->kind = Expression::Kind::variable;
        node->name = token.text;
      }
      return node;
    default:
      break;
  }
  if (token.text == "(") {
    if (take(")")) {
      node->kind = Expression::Kind::list;
      return node;
    }
    ExpressionPtr inner = expression();
    if (is_symbol(",")) {
      node->kind = Expression::Kind::list;
      node->children.push_back(std::move(inner));
      while (take(",") && !is_symbol(")")) node->children.push_back(expression());
      inner = std::move(node);
    }
    expect(")");
    return inner;
  }
  if (token.text == "[") {
    node->kind = Expression::Kind::list;
    while (!take("]")) {
      node->children.push_back(expression());
      if (!is_symbol("]")) expect(",");
    }
    return node;
  }
  if (token.text == "{") {
    node->kind = Expression::Kind::dict;
    while (!take("}")) {
      node->children.push_back(expression());
      expect(":");
      node->children.push_back(expression());
      if (!is_symbol("}")) expect(",");
    }
    return node;
  }
  throw ParseError{"unexpected '" + token.text + "'", token.line};
}

}  // namespace ondol::jinja
