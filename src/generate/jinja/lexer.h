// From template source to text, tags and the tokens inside them.
#pragma once

#include <string>
#include <vector>

namespace ondol::jinja {

struct Token {
  enum class Kind { end, name, integer, number, string, symbol } kind = Kind::end;
  std::string text;
  int line = 0;
};

struct Segment {
  enum class Kind { text, output, statement } kind = Kind::text;
  std::string text;           // text only
  std::vector<Token> tokens;  // ended by a token of kind end
  int line = 0;
};

/// White space is treated as jinja2 does with trim_blocks and lstrip_blocks. Throws LexError.
std::vector<Segment> split_template(const std::string& source);

struct LexError {
  std::string what;
  int line;
};

}  // namespace ondol::jinja
