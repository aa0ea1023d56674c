#include "generate_flags.h"

#include "option_checks.h"

void GenerateFlags::add_to(CLI::App* verb) {
  ondol::SamplingOptions& sampling = options.sampling;
  verb->add_option("--max-new-tokens", options.max_new_tokens, "Most tokens to make")
      ->check(whole_number<int64_t>())
      ->capture_default_str();
  verb->add_option("--temperature", temperature,
                   "0: always the most likely token; default 0, or 1 with --top-k, --top-p or --min-p");
  verb->add_option("--top-k", sampling.top_k, "Sample from the K most likely tokens")->check(whole_number<int64_t>());
  verb->add_option("--top-p", sampling.top_p, "Sample from the most likely tokens that hold probability P");
  verb->add_option("--min-p", sampling.min_p, "Sample from tokens at least P times as likely as the most likely one");
  verb->add_option("--repetition-penalty", sampling.repetition_penalty, "Above 1: less of what was there before");
  verb->add_option("--seed", sampling.seed, "Of the samples")->check(whole_number<uint64_t>());
  verb->add_option("--stop", options.stop, "End before this text (may be given several times)")
      ->allow_extra_args(false)
      ->type_name("TEXT");
}

ondol::GenerateOptions GenerateFlags::resolve(float unset) const {
  ondol::GenerateOptions resolved = options;
  const ondol::SamplingOptions& s = options.sampling;
  const bool narrowed = s.top_k != 0 || s.top_p != 1.0f || s.min_p != 0.0f;
  resolved.sampling.temperature = temperature.value_or(unset == 0.0f && narrowed ? 1.0f : unset);
  return resolved;
}
