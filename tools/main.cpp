// The program `ondol`: reads the command line, runs one verb, turns failures into `error:` and `hint:` lines.
#include <csignal>
#include <cstdio>
#include <new>
#include <set>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <ondol/base/build_info.h>
#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "base/nearest_name.h"
#include "launch_command.h"
#include "output.h"
#include "verbs.h"

using ondol::concat;
using ondol::UsageError;

std::optional<ondol::DType> GlobalOptions::dtype() const {
  if (dtype_name.empty()) return std::nullopt;
  if (dtype_name == "f32") return ondol::DType::f32;
  if (dtype_name == "bf16") return ondol::DType::bf16;
  throw UsageError(concat("unknown dtype \"", dtype_name, "\" (--dtype)"), "use f32 or bf16");
}

namespace {

void add_global_options(Program& program) {
  CLI::App& app = program.app;
  GlobalOptions& global = program.global;
  app.add_option("--device", global.device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--dtype", global.dtype_name, "f32 or bf16")->type_name("NAME");
  app.add_option("--threads", global.threads, "CPU threads (default: all)")->type_name("N")->check(CLI::Range(1, 4096));
  app.add_flag("--quiet", global.quiet, "Errors only on standard error");
  app.add_option("--log-level", global.log_level, "error, warning, info or debug")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_flag("--json", global.json, "One JSON document on standard output, nothing else there");
  app.set_version_flag("--version", "ondol " + ondol::build_info().version);
}

void add_verbs(Program& program) {
  add_train_verb(program);
  add_launch_verb(program);
  add_plot_verb(program);
  add_generate_verb(program);
  add_chat_verb(program);
  add_forward_verb(program);
  add_predict_verb(program);
  add_eval_verb(program);
  add_tokenizer_verb(program);
  add_data_verb(program);
  add_convert_verb(program);
  add_inspect_verb(program);
  add_bench_verb(program);
  add_doctor_verb(program);
}

std::vector<std::string> verb_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands({})) names.push_back(verb->get_name());
  return names;
}

/// The verb (or its part, as in "tokenizer train") that the command line reached.
const CLI::App& innermost(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : innermost(*chosen.front());
}

std::string full_name(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? "ondol" : full_name(*parent) + " " + app.get_name();
}

/// The option nearest to a mistyped one, or "".
std::string nearest_option(const CLI::App& verb, const std::string& typed) {
  std::vector<std::string> names;
  for (const CLI::App* app = &verb; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return ondol::nearest_name(typed.substr(0, typed.find('=')), names);
}

[[noreturn]] void throw_unknown_option(const CLI::App& verb, const std::string& option) {
  const std::string nearest = nearest_option(verb, option);
  throw UsageError(concat("unknown option ", option, " (", full_name(verb), ")"),
                   nearest.empty() ? "see " + full_name(verb) + " --help" : "did you mean " + nearest + "?");
}

/// Refuses an unknown verb with the list of those that exist; CLI11 would only call it an unexpected argument.
void check_verb(const CLI::App& app, const std::vector<std::string>& arguments) {
  const std::vector<std::string> verbs = verb_names(app);
  std::string unknown_option;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (flags_with_value().contains(argument)) ++i;
    if (argument.starts_with("-")) {
      const bool known = app.get_option_no_throw(argument.substr(0, argument.find('='))) != nullptr;
      if (!known && unknown_option.empty()) unknown_option = argument;
      continue;
    }
    std::string list;
    for (const std::string& verb : verbs) {
      if (verb == argument) return;
      list += (list.empty() ? "" : ", ") + verb;
    }
    static const std::set<std::string> later = {"serve"};
    if (later.contains(argument)) {
      throw UsageError(concat("verb \"", argument, "\" is not available (ondol ", ondol::build_info().version, ")"),
                       "verbs: " + list);
    }
    if (!unknown_option.empty()) throw_unknown_option(app, unknown_option);  // whose value this may be
    const std::string nearest = ondol::nearest_name(argument, verbs);
    throw UsageError(concat("unknown verb \"", argument, "\""),
                     (nearest.empty() ? "" : "did you mean \"" + nearest + "\"? ") + "verbs: " + list);
  }
  if (!unknown_option.empty()) throw_unknown_option(app, unknown_option);
}

[[noreturn]] void throw_usage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& verb = innermost(app);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    for (const std::string& extra : app.remaining(true)) {
      if (extra.starts_with("-")) throw_unknown_option(verb, extra);
    }
  }
  throw UsageError(concat("wrong command line: ", error.what(), " (", full_name(verb), ")"),
                   "see " + full_name(verb) + " --help");
}

void set_up(Program& program) {
  program.app.name("ondol");
  program.app.description("Trains and runs language models.");
  program.app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.");
  program.app.fallthrough();
  program.app.require_subcommand(1);
  add_global_options(program);
  add_verbs(program);
}

/// False when help or the version was asked for, which has then been written.
bool parse(Program& program, const std::vector<std::string>& arguments) {
  check_verb(program.app, arguments);
  try {
    program.app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    return true;
  } catch (const CLI::CallForHelp&) {
    write_output(program.app.help());
  } catch (const CLI::CallForVersion& version) {
    write_output(std::string(version.what()) + "\n");
  } catch (const CLI::ParseError& error) {
    throw_usage(program.app, error);
  }
  return false;
}

void run(int argc, char** argv) {
  Program program;
  set_up(program);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  program.launched = take_launched(arguments);
  if (!parse(program, arguments)) return;
  if (!program.launched.empty() && program.launched.front() != "launch") {
    Program launched;  // a mistake in it is told once, not by every process
    set_up(launched);
    if (!parse(launched, program.launched)) return;
  }
  set_log_level(program.global.quiet ? LogLevel::error : log_level_from_name(program.global.log_level));
  if (program.global.threads > 0) ondol::set_num_threads(program.global.threads);
  program.action();
}

int report(const std::string& message, const std::string& hint, int code) {
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s\n", one_line(message).c_str());
  if (!hint.empty()) std::fprintf(stderr, "hint: %s\n", one_line(hint).c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // A closed pipe shows as a failed write, so that files in the making are still cleaned up.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    run(argc, argv);
    flush_output();
    return 0;
  } catch (const OutputClosed&) {
    return 1;
  } catch (const ondol::Error& error) {
    return report(error.what(), error.hint(), static_cast<int>(error.kind()));
  } catch (const std::bad_alloc&) {
    return report("out of memory", "use a smaller batch, a shorter sequence or --dtype bf16", 1);
  } catch (const std::exception& error) {
    return report(error.what(), "", 1);
  } catch (...) {
    return report("unknown failure", "", 1);
  }
}
