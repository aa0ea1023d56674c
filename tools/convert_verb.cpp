// ondol convert SRC DST: checkpoints from one file format into another.
#include <ondol/models/convert.h>

#include <ondol/base/error.h>

#include "json_output.h"
#include "option_checks.h"
#include "verbs.h"

namespace {

struct Options {
  std::string source, destination, max_shard_size;
  ondol::ConvertOptions convert;
};

/// "500MB", "5GB", "1000000".
uint64_t read_size(const std::string& text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string unit = text.substr(digits);
  const uint64_t scale = unit.empty() || unit == "B" ? 1
                         : unit == "KB"              ? 1000
                         : unit == "MB"              ? 1000'000
                         : unit == "GB"              ? 1000'000'000
                                                     : 0;
  uint64_t size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + digits, size);
  if (digits == 0 || scale == 0 || error != std::errc{} || size == 0 || __builtin_mul_overflow(size, scale, &size)) {
    throw ondol::UsageError(ondol::concat("not a size: \"", text, "\" (--max-shard-size)"), "write it as 500MB or 5GB");
  }
  return size;
}

void run_convert(Options options, const GlobalOptions& global) {
  options.convert.dtype = global.dtype_name;
  if (!options.max_shard_size.empty()) options.convert.max_shard_bytes = read_size(options.max_shard_size);
  const ondol::ConvertResult result = ondol::convert_model(options.source, options.destination, options.convert);
  if (global.json) {
    return write_json({{"source", options.source},
                       {"destination", options.destination},
                       {"tensors", result.tensors},
                       {"bytes", result.bytes}});
  }
  write_output(ondol::concat(options.destination, ": ", result.tensors, " tensors, ", result.bytes, " bytes\n"));
}

}  // namespace

void add_convert_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand(
      "convert", "Convert a model to another file format or --dtype: f32, bf16, f16, for .gguf also q8_0 and q4_0");
  verb->add_option("SRC", options->source, "Model directory, .gguf file or llama2.c .bin file")->required();
  verb->add_option("DST", options->destination, "A .gguf file, or a directory to be made")
      ->required()
      ->check(not_empty());
  verb->add_option("--max-shard-size", options->max_shard_size, "Of safetensors files, as 500MB or 5GB (default: 5GB)");
  verb->add_option("--average", options->convert.average,
                   "Further model directories, as checkpoints of the same run, whose weights are averaged with SRC's");
  verb->add_option("--merge-adapter", options->convert.adapter,
                   "Adapter directory (LoRA, as written here or by peft) that is merged into the weights");
  program.run_on(verb, [options, &program] { run_convert(*options, program.global); });
}
