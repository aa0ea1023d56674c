// Expressions, by precedence: if-else, or, and, not, comparisons, + -, ~, * / // %, unary -, postfix, filters and
// tests.
#pragma once

#include "generate/jinja/lexer.h"
#include "generate/jinja/syntax.h"

namespace ondol::jinja {

/// Reads the tokens of one tag.
class ExpressionParser {
 public:
  explicit ExpressionParser(const std::vector<Token>& tokens) : tokens_(tokens) {}

  ExpressionPtr expression();
  /// Several expressions with commas between them make a list.
  ExpressionPtr tuple();
  /// What a for loop runs over: no if-else, whose "if" would be the loop's filter.
  ExpressionPtr iterable();

  const Token& peek() const { return tokens_[at_]; }
  bool at_end() const { return peek().kind == Token::Kind::end; }
  /// Takes the token when it is this symbol or name.
  bool take(const char* text);
  void expect(const char* text);
  std::string expect_name();
  void expect_end();
  [[noreturn]] void fail(const std::string& what) const;

 private:
  ExpressionPtr disjunction();
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr joined();
  ExpressionPtr product();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr postfix(ExpressionPtr base, bool with_filters);
  ExpressionPtr subscript(ExpressionPtr base);
  ExpressionPtr test(ExpressionPtr base);
  ExpressionPtr primary();
  void arguments(Expression& call);
  ExpressionPtr make(Expression::Kind kind, std::string name = "") const;
  /// Counts an operator or a part that makes the tree of this tag deeper to the left; throws when there are too many.
  void link();
  ExpressionPtr binary(Expression::Kind kind, std::string name, ExpressionPtr left, ExpressionPtr right);
  bool is_symbol(const char* text) const { return peek().kind == Token::Kind::symbol && peek().text == text; }
  bool is_word(const char* text) const { return peek().kind == Token::Kind::name && peek().text == text; }

  const std::vector<Token>& tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int links_ = 0;
};

}  // namespace ondol::jinja
