#include "data_clean_verbs.h"

#include <cstdio>

#include <ondol/data/clean.h>

#include "data/clean/clean_config.h"
#include "json_output.h"
#include "option_checks.h"
#include "train/config_overrides.h"

namespace {

using ondol::concat;
using ondol::Json;

/// What the command line says; the rest is in the configuration.
struct CleanOptions {
  std::string config;
  std::vector<std::string> inputs, rules = {"gopher_repetition", "gopher_quality", "c4"}, languages, benchmarks;
  std::string output, report, rejected, separator, text_field, method = "minhash";
  int64_t memory_limit_mib = 0;
  std::vector<std::string> overrides;
};

std::string percent(int64_t part, int64_t all) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%",
                all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(all));
  return text;
}

void write_summary(const ondol::CleanReport& report, const std::string& output) {
  std::string text = concat(output, ": ", report.documents_out, " of ", report.documents_in, " documents (",
                            percent(report.documents_out, report.documents_in), "), ", report.bytes_out, " of ",
                            report.bytes_in, " bytes\n");
  for (const ondol::StepReport& step : report.steps) {
    text += concat("  ", step.type, ": ", step.documents_dropped, " of ", step.documents_in, " dropped");
    if (step.documents_changed > 0) text += concat(", ", step.documents_changed, " changed");
    text += "\n";
    for (const auto& [name, reason] : step.reasons) {
      text += concat("    ", name, " ", reason.documents);
      if (!reason.examples.empty()) text += concat(", first ", one_line(reason.examples[0]));
      text += "\n";
    }
    std::string counts;
    for (const auto& [name, count] : step.counts) counts += concat(counts.empty() ? "" : ", ", name, " ", count);
    if (!counts.empty()) text += "    counted: " + counts + "\n";
  }
  write_output(text);
}

/// What stands on the command line goes over what the file says; the result is read as any configuration.
void run_clean(Json document, const CleanOptions& options, const std::string& name, const GlobalOptions& global) {
  if (!options.inputs.empty()) document["input"] = options.inputs;
  const auto set = [&document](const char* key, const std::string& value) {
    if (!value.empty()) document[key] = value;
  };
  set("output", options.output);
  set("report", options.report);
  set("rejected", options.rejected);
  set("separator", options.separator);
  set("text_field", options.text_field);
  if (options.memory_limit_mib > 0) document["memory_limit_mib"] = options.memory_limit_mib;
  for (const std::string& text : options.overrides) ondol::apply_override(document, text);
  const ondol::CleanConfig config = ondol::clean::read_clean_config(document, name);

  int64_t reported = 0;
  int pass = 1;
  const auto progress = [&](const ondol::CleanProgress& now) {
    if (now.pass != pass) reported = 0;
    pass = now.pass;
    if (now.bytes - reported < int64_t{64} << 20) return;
    reported = now.bytes;
    log(LogLevel::info, concat("pass ", now.pass, " of ", now.passes, ": ", now.documents, " documents, ",
                               now.bytes >> 20, " MiB of text"));
  };
  const ondol::CleanReport report = ondol::clean_documents(config, progress);
  if (global.json) return write_output(ondol::report_json(report));
  write_summary(report, config.output);
}

Json filter_steps(const CleanOptions& options) {
  Json steps = Json::array();
  if (!options.languages.empty()) steps.push_back({{"type", "language"}, {"languages", options.languages}});
  for (const std::string& rule : options.rules) steps.push_back({{"type", rule}});
  return steps;
}

Json dedup_steps(const CleanOptions& options) { return {{{"type", options.method + "_dedup"}}}; }

Json redact_steps(const CleanOptions&) { return {{{"type", "redact"}}}; }

Json decontaminate_steps(const CleanOptions& options) {
  return {{{"type", "decontaminate"}, {"benchmarks", options.benchmarks}}};
}

/// Input, output and what every pipeline takes.
void add_common_options(CLI::App* verb, CleanOptions& options, bool required) {
  CLI::Option* input = verb->add_option("--input", options.inputs, ".txt or .jsonl files, also .gz, * ? […] allowed");
  CLI::Option* output = verb->add_option("--output", options.output, ".txt or .jsonl, also .gz")->check(not_empty());
  if (required) {
    input->required();
    output->required();
  }
  verb->add_option("--report", options.report, "Also write the report as JSON")->type_name("FILE");
  verb->add_option("--rejected", options.rejected, "Write dropped documents and why, .jsonl or .jsonl.gz")
      ->type_name("FILE");
  verb->add_option("--separator", options.separator, "Documents of .txt: file (default), line, blank_line or a text");
  verb->add_option("--text-field", options.text_field, "Field of .jsonl (default: text)");
  verb->add_option("--memory-limit-mib", options.memory_limit_mib, "For sorting (default: 1024)")
      ->type_name("N")
      ->check(CLI::Range(16, 1 << 24));
  verb->add_option("--set", options.overrides, "KEY=VALUE of the configuration, as steps.0.min_words=20")
      ->allow_extra_args(false);
}

CLI::App* add_step_verb(CLI::App& data, Program& program, const char* name, const char* help,
                        const std::shared_ptr<CleanOptions>& options, Json (*steps)(const CleanOptions&)) {
  CLI::App* verb = data.add_subcommand(name, help);
  add_common_options(verb, *options, true);
  program.run_on(verb, [options, steps, &program] {
    run_clean({{"steps", steps(*options)}}, *options, "command line", program.global);
  });
  return verb;
}

}  // namespace

void add_data_clean_verbs(CLI::App& data, Program& program) {
  auto clean = std::make_shared<CleanOptions>();
  CLI::App* clean_verb = data.add_subcommand("clean", "Filter, deduplicate and redact a corpus, step by step");
  clean_verb->add_option("CONFIG", clean->config, "JSON with input, output and steps")->required();
  add_common_options(clean_verb, *clean, false);
  program.run_on(clean_verb, [clean, &program] {
    run_clean(ondol::load_json(clean->config), *clean, clean->config, program.global);
  });

  auto filter = std::make_shared<CleanOptions>();
  CLI::App* filter_verb =
      add_step_verb(data, program, "filter", "Drop documents by quality rules and language", filter, filter_steps);
  filter_verb->add_option("--rules", filter->rules, "Of gopher_repetition, gopher_quality, c4")
      ->delimiter(',')
      ->check(CLI::IsMember({"gopher_repetition", "gopher_quality", "c4"}))
      ->capture_default_str();
  filter_verb->add_option("--languages", filter->languages, "Languages to keep, as en,ko (default: all)")
      ->delimiter(',');

  auto dedup = std::make_shared<CleanOptions>();
  add_step_verb(data, program, "dedup", "Drop documents that equal or resemble an earlier one", dedup, dedup_steps)
      ->add_option("--method", dedup->method, "minhash (resemble) or exact (equal)")
      ->check(CLI::IsMember({"minhash", "exact"}))
      ->capture_default_str();

  auto redact = std::make_shared<CleanOptions>();
  add_step_verb(data, program, "redact", "Replace mail addresses, phone, card and identity numbers", redact,
                redact_steps);

  auto decontaminate = std::make_shared<CleanOptions>();
  add_step_verb(data, program, "decontaminate", "Drop documents that hold parts of benchmarks", decontaminate,
                decontaminate_steps)
      ->add_option("--benchmark", decontaminate->benchmarks, ".jsonl, .json, .txt, .tsv or .csv, * ? […] allowed")
      ->required();
}
