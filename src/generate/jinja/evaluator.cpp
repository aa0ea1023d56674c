#include "generate/jinja/evaluator.h"

#include <algorithm>
#include <cmath>

#include "generate/jinja/builtins.h"

namespace ondol::jinja {

namespace {

constexpr int64_t kMaxSteps = 2'000'000;
constexpr int kMaxMacroDepth = 50;
constexpr int kMaxNesting = 800;  // of expressions, statements and macros within each other, for the sake of the stack

enum class Flow { normal, leave_loop, next_iteration };

class Evaluator {
 public:
  explicit Evaluator(const Dict& variables) {
    scopes_.push_back(global_functions());
    scopes_.push_back(variables);
  }

  int line() const { return line_; }

  Rendered render(const Block& block) {
    Rendered result;
    rendered_ = &result.text;
    run(block, result.text);
    result.generated = std::move(generated_);
    return result;
  }

 private:
  Flow run(const Block& block, std::string& out) {
    for (const auto& statement : block) {
      const Flow flow = run(*statement, out);
      if (flow != Flow::normal) return flow;
    }
    return Flow::normal;
  }

  /// Counts a step, and how deep it stands within others while it lasts.
  class Step {
   public:
    Step(Evaluator& evaluator, int line) : nesting_(evaluator.nesting_) {
      evaluator.line_ = line;
      if (++evaluator.steps_ > kMaxSteps) throw Failure{"the template does not come to an end"};
      if (nesting_ == kMaxNesting) throw Failure{"the template is nested too deeply"};
      ++nesting_;
    }
    ~Step() { --nesting_; }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

   private:
    int& nesting_;
  };

  /// Values that are read or made as a whole count by their size, so that few steps cannot do much work.
  Value charge(Value value) {
    steps_ += value.is_string() ? static_cast<int64_t>(value.string("").size() / 64) : value.size() / 8;
    return value;
  }

  /// Texts are copied, lists and mappings shared.
  Value charge_text(Value value) { return value.is_string() ? charge(std::move(value)) : value; }

  void append(std::string& out, const std::string& text) {
    made_ += text.size();
    if (made_ > kMaxText) throw Failure{"the text is too long"};
    out += text;
  }

  // Statements.

  Flow run(const Statement& s, std::string& out) {
    const Step step(*this, s.line);
    switch (s.kind) {
      case Statement::Kind::text:
        append(out, s.text);
        return Flow::normal;
      case Statement::Kind::output:
        append(out, evaluate(*s.expression).text());
        return Flow::normal;
      case Statement::Kind::branches:
        return run_branches(s, out);
      case Statement::Kind::loop:
        return run_loop(s, out);
      case Statement::Kind::assignment:
        run_assignment(s);
        return Flow::normal;
      case Statement::Kind::macro:
        define_macro(s);
        return Flow::normal;
      case Statement::Kind::leave_loop:
        return Flow::leave_loop;
      case Statement::Kind::next_iteration:
        return Flow::next_iteration;
      case Statement::Kind::generation:
        return run_generation(s, out);
    }
    return Flow::normal;
  }

  /// Text within macros and assigned blocks has no place in the rendering yet.
  Flow run_generation(const Statement& s, std::string& out) {
    const size_t begin = out.size();
    const Flow flow = run(s.blocks[0], out);
    if (&out == rendered_) generated_.emplace_back(begin, out.size());
    return flow;
  }

  Flow run_branches(const Statement& s, std::string& out) {
    for (size_t i = 0; i < s.blocks.size(); ++i) {
      if (i == s.conditions.size() || evaluate(*s.conditions[i]).truth()) return run(s.blocks[i], out);
    }
    return Flow::normal;
  }

  void bind(const std::vector<std::string>& targets, const Value& value) {
    if (targets.size() == 1) return assign(targets[0], value);
    const List parts = value.elements("unpacking");
    if (parts.size() != targets.size()) {
      throw Failure{"cannot unpack " + std::to_string(parts.size()) + " values into " + std::to_string(targets.size())};
    }
    for (size_t i = 0; i < targets.size(); ++i) assign(targets[i], parts[i]);
  }

  void assign(const std::string& name, const Value& value) {
    for (auto& [key, current] : scopes_.back()) {
      if (key == name) {
        current = value;
        return;
      }
    }
    scopes_.back().emplace_back(name, value);
  }

  static Value loop_variable(const List& items, size_t i) {
    const int64_t index = static_cast<int64_t>(i), length = static_cast<int64_t>(items.size());
    return Dict{{"index", index + 1},
                {"index0", index},
                {"revindex", length - index},
                {"revindex0", length - index - 1},
                {"first", i == 0},
                {"last", index + 1 == length},
                {"length", length},
                {"previtem", i == 0 ? Value() : items[i - 1]},
                {"nextitem", index + 1 == length ? Value() : items[i + 1]},
                {"cycle", Function([i](const Arguments& a) {
                   if (a.positional.empty()) throw Failure{"loop.cycle needs an argument"};
                   return a.positional[i % a.positional.size()];
                 })}};
  }

  Flow run_loop(const Statement& s, std::string& out) {
    List items = evaluate(*s.expression).elements("a loop");
    if (!s.conditions.empty()) {
      List chosen;
      for (const Value& item : items) {
        scopes_.emplace_back();
        bind(s.targets, item);
        if (evaluate(*s.conditions[0]).truth()) chosen.push_back(item);
        scopes_.pop_back();
      }
      items = std::move(chosen);
    }
    if (items.empty() && s.blocks.size() > 1) return run(s.blocks[1], out);
    for (size_t i = 0; i < items.size(); ++i) {
      scopes_.emplace_back();
      assign("loop", loop_variable(items, i));
      bind(s.targets, items[i]);
      const Flow flow = run(s.blocks[0], out);
      scopes_.pop_back();
      if (flow == Flow::leave_loop) break;
    }
    return Flow::normal;
  }

  void run_assignment(const Statement& s) {
    Value value;
    if (s.expression != nullptr) {
      value = evaluate(*s.expression);
    } else {
      std::string text;
      scopes_.emplace_back();
      run(s.blocks[0], text);
      scopes_.pop_back();
      value = text;
    }
    if (s.attribute.empty()) return bind(s.targets, value);
    lookup(s.targets[0]).set(s.attribute, value);
  }

  void define_macro(const Statement& s) {
    // The tree outlives every rendering.
    assign(s.targets[0], Function([this, &s](const Arguments& arguments) { return call_macro(s, arguments); }));
  }

  Value call_macro(const Statement& s, const Arguments& arguments) {
    if (++macro_depth_ > kMaxMacroDepth) throw Failure{"macros call each other too deeply"};
    if (arguments.positional.size() > s.parameters.size()) throw Failure{"too many arguments for " + s.targets[0]};
    std::vector<Dict> outer(std::make_move_iterator(scopes_.begin() + 2), std::make_move_iterator(scopes_.end()));
    scopes_.resize(2);
    scopes_.emplace_back();
    for (size_t i = 0; i < s.parameters.size(); ++i) {
      const auto& [name, fallback] = s.parameters[i];
      Value value = arguments.get(i, name.c_str());
      if (value.is_undefined() && fallback != nullptr) value = evaluate(*fallback);
      assign(name, value);
    }
    std::string out;
    run(s.blocks[0], out);
    scopes_.resize(2);
    scopes_.insert(scopes_.end(), std::make_move_iterator(outer.begin()), std::make_move_iterator(outer.end()));
    --macro_depth_;
    return out;
  }

  // Expressions.

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      for (const auto& [key, value] : *scope) {
        if (key == name) return value;
      }
    }
    return Value::undefined(name);
  }

  Value evaluate(const Expression& e) {
    const Step step(*this, e.line);
    switch (e.kind) {
      case Expression::Kind::literal:
        return charge_text(e.value);
      case Expression::Kind::variable:
        return charge_text(lookup(e.name));
      case Expression::Kind::list:
        return make_list(e);
      case Expression::Kind::dict:
        return make_dict(e);
      case Expression::Kind::attribute:
        return attribute(e);
      case Expression::Kind::index:
        return subscript(child(e, 0), child(e, 1));
      case Expression::Kind::slice: {
        const Value object = child(e, 0), begin = child(e, 1), end = child(e, 2);
        return charge(slice(object, begin, end, child(e, 3)));
      }
      case Expression::Kind::call: {
        const Value callee = child(e, 0);
        return charge(callee.function()(arguments(e)));
      }
      case Expression::Kind::filter: {
        const Value input = charge(child(e, 0));
        return charge(apply_filter(e.name, input, arguments(e)));
      }
      case Expression::Kind::test: {
        const Value input = charge(child(e, 0));
        return apply_test(e.name, input, arguments(e));
      }
      case Expression::Kind::negation:
        return !child(e, 0).truth();
      case Expression::Kind::minus: {
        const Value value = child(e, 0);
        if (value.is_float()) return -value.number("-");
        return arithmetic("-", Value(int64_t{0}), value);
      }
      case Expression::Kind::arithmetic: {
        const Value left = child(e, 0);
        return charge(arithmetic(e.name, left, child(e, 1)));
      }
      case Expression::Kind::comparison:
        return comparison(e);
      case Expression::Kind::conjunction: {
        Value left = child(e, 0);
        return left.truth() ? child(e, 1) : left;
      }
      case Expression::Kind::disjunction: {
        Value left = child(e, 0);
        return left.truth() ? left : child(e, 1);
      }
      case Expression::Kind::conditional:
        return child(e, 1).truth() ? child(e, 0) : child(e, 2);
    }
    return {};
  }

  Value child(const Expression& e, size_t i) { return e.children[i] == nullptr ? Value() : evaluate(*e.children[i]); }

  Value make_list(const Expression& e) {
    List list;
    for (size_t i = 0; i < e.children.size(); ++i) list.push_back(child(e, i));
    return list;
  }

  Value make_dict(const Expression& e) {
    Dict dict;
    for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
      const std::string key = child(e, i).string("a key");
      Value value = child(e, i + 1);
      const auto same = std::find_if(dict.begin(), dict.end(), [&](const auto& entry) { return entry.first == key; });
      if (same == dict.end()) {
        dict.emplace_back(key, std::move(value));
      } else {
        same->second = std::move(value);
      }
    }
    return dict;
  }

  Value attribute(const Expression& e) {
    const Value object = child(e, 0);
    if (object.is_undefined()) object.dict(("." + e.name).c_str());
    const Value method = find_method(object, e.name);
    return method.is_undefined() ? subscript(object, e.name) : method;
  }

  Arguments arguments(const Expression& e) {
    Arguments out;
    for (size_t i = 1; i < e.children.size(); ++i) out.positional.push_back(charge(child(e, i)));
    for (const auto& [name, value] : e.named) out.named.emplace_back(name, evaluate(*value));
    return out;
  }

  Value comparison(const Expression& e) {
    Value left = child(e, 0);
    for (size_t i = 0; i < e.operators.size(); ++i) {
      Value right = charge(child(e, i + 1));
      const std::string& name = e.operators[i];
      bool holds = false;
      if (name == "==" || name == "!=") {
        holds = equal(left, right) == (name == "==");
      } else if (name == "in" || name == "not in") {
        holds = contains(right, left) == (name == "in");
      } else if (name == "<" || name == ">=") {
        holds = less(left, right) == (name == "<");
      } else {
        holds = less(right, left) == (name == ">");
      }
      if (!holds) return false;
      left = std::move(right);
    }
    return true;
  }

  static std::string joined(const std::string& a, const std::string& b) {
    if (a.size() + b.size() > kMaxText) throw Failure{"the text is too long"};
    return a + b;
  }

  static Value integer_arithmetic(const std::string& name, int64_t a, int64_t b) {
    int64_t result = 0;
    bool overflow = false;
    if (name == "+") {
      overflow = __builtin_add_overflow(a, b, &result);
    } else if (name == "-") {
      overflow = __builtin_sub_overflow(a, b, &result);
    } else if (name == "*") {
      overflow = __builtin_mul_overflow(a, b, &result);
    } else {
      // Python rounds towards minus infinity; a remainder has the sign of the divisor.
      if (b == 0) throw Failure{"division by zero"};
      if (b == -1) return name == "%" ? Value(int64_t{0}) : integer_arithmetic("-", 0, a);
      const bool adjust = a % b != 0 && (a % b < 0) != (b < 0);
      result = name == "%" ? a % b + (adjust ? b : 0) : a / b - (adjust ? 1 : 0);
    }
    if (overflow) throw Failure{"an integer is too large"};
    return result;
  }

  static Value arithmetic(const std::string& name, const Value& a, const Value& b) {
    if (name == "~") return joined(a.text(), b.text());
    if (name == "+" && a.is_string() && b.is_string()) return joined(a.string(""), b.string(""));
    if (name == "+" && a.is_list() && b.is_list()) {
      List list = a.list("");
      list.insert(list.end(), b.list("").begin(), b.list("").end());
      if (list.size() > static_cast<size_t>(kMaxRange)) throw Failure{"a list is too long"};
      return list;
    }
    if (!a.is_number() || !b.is_number()) {
      for (const Value* operand : {&a, &b}) {
        if (operand->is_undefined()) operand->number(("'" + name + "'").c_str());
      }
      throw Failure{"cannot compute " + a.kind() + " " + name + " " + b.kind()};
    }
    if (!a.is_float() && !b.is_float() && name != "/") return integer_arithmetic(name, a.integer(""), b.integer(""));
    const double x = a.number(""), y = b.number("");
    if (name == "+") return x + y;
    if (name == "-") return x - y;
    if (name == "*") return x * y;
    if (y == 0.0) throw Failure{"division by zero"};
    if (name == "/") return x / y;
    return name == "//" ? std::floor(x / y) : x - y * std::floor(x / y);
  }

  std::vector<Dict> scopes_;  // functions, variables, then one for each loop or macro
  const std::string* rendered_ = nullptr;
  std::vector<std::pair<size_t, size_t>> generated_;
  int line_ = 1;
  int64_t steps_ = 0;
  size_t made_ = 0;
  int macro_depth_ = 0;
  int nesting_ = 0;
};

}  // namespace

Rendered render(const Block& block, const Dict& variables) {
  Evaluator evaluator(variables);
  try {
    return evaluator.render(block);
  } catch (const Failure& failure) {
    throw RenderError{failure.what, evaluator.line()};
  }
}

}  // namespace ondol::jinja
