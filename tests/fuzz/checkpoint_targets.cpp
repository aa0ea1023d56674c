// What a run directory holds beside the weights: manifest, trainer state, metrics.
#include <filesystem>

#include <ondol/train/checkpoint.h>

#include "base/json_reader.h"
#include "fuzz/targets.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_manifest.h"
#include "train/metrics_log.h"

namespace ondol::fuzz {

namespace {

const testing::TemporaryDirectory& checkpoint_directory() {
  static const testing::TemporaryDirectory directory;
  return directory;
}

std::string valid_manifest() {
  const testing::TemporaryDirectory directory;
  directory.write("a.json", "{}");
  directory.write("b.bin", std::string(100, 'b'));
  write_manifest(directory.path());
  return directory.read(kManifestName);
}

}  // namespace

void run_manifest(std::string_view input) {
  static const std::string valid = valid_manifest();
  const testing::TemporaryDirectory& directory = checkpoint_directory();
  directory.write("a.json", "{}");
  directory.write("b.bin", std::string(100, 'b'));
  directory.write(kManifestName, std::string(input));
  const bool accepted = accepts([&] { verify_manifest(directory.path()); });
  if (input == valid) promise(accepted, "the manifest of intact files is refused");
  directory.write("b.bin", std::string(99, 'b') + "c");
  const bool names_b = input.find("b.bin") != std::string_view::npos;
  const bool still_accepted = accepts([&] { verify_manifest(directory.path()); });
  if (input == valid) promise(names_b && !still_accepted, "a damaged file is accepted");
}

std::vector<std::string> manifest_seeds() {
  return {valid_manifest(), R"({"format":1,"chunk_bytes":1,"files":[{"name":"a.json","bytes":2,"crc32":[1,2]}]})",
          R"({"format":1,"chunk_bytes":4194304,"files":[{"name":"../x","bytes":2,"crc32":[4294967295]}]})",
          R"({"format":2,"chunk_bytes":0,"files":[]})"};
}

void run_trainer_state(std::string_view input) {
  const testing::TemporaryDirectory& directory = checkpoint_directory();
  directory.write("trainer_state.json", std::string(input));
  accepts([&] {
    const TrainerState state = read_trainer_state(directory.path());
    promise(state.step < INT64_MAX && state.tokens < INT64_MAX, "a count that cannot go on");
    promise(state.step >= 0 && state.stage >= 0 && state.stage_step >= 0 && state.updates >= 0 && state.tokens >= 0 &&
                state.samples >= 0,
            "a negative count");
    if (!state.data_position.empty()) parse_json(state.data_position, "data_position");
  });
}

std::vector<std::string> trainer_state_seeds() {
  return {R"({"format":1,"step":10,"stage":0,"stage_step":10,"updates":9,"tokens":5120,"samples":40,"seconds":1.5,)"
          R"("seed":1234,"data_position":{"sources":[{"fingerprint":123,"position":4}],"epoch":1},)"
          R"("model_fingerprint":"abc","config_hash":"def"})",
          R"({"format":1,"step":0,"stage":0,"stage_step":0,"updates":0,"tokens":0,"samples":0,"seconds":0,"seed":0,)"
          R"("data_position":null,"model_fingerprint":"","config_hash":""})",
          R"({"format":1,"step":9223372036854775807,"stage":0,"stage_step":9223372036854775807,"updates":0,"tokens":)"
          R"(9223372036854775807,"samples":0,"seconds":0,"seed":0,"model_fingerprint":"","config_hash":""})",
          R"({"format":1,"step":-1})"};
}

void run_metrics(std::string_view input) {
  const testing::TemporaryDirectory& directory = checkpoint_directory();
  directory.write("metrics.jsonl", std::string(input));
  accepts([&] {
    { MetricsLog log(directory.path(), 5); }
    const std::string kept = directory.read("metrics.jsonl");
    promise(kept.empty() || kept.back() == '\n', "the last line is not ended");
    promise(kept.size() <= input.size() + 1, "lines were added");
    { MetricsLog log(directory.path(), 5); }
    promise(directory.read("metrics.jsonl") == kept, "kept lines are dropped later");
  });
}

std::vector<std::string> metrics_seeds() {
  const std::string good =
      "{\"step\":1,\"loss\":2.5,\"mfu\":null}\n{\"step\":2,\"loss\":2.25}\n{\"step\":2,\"eval_loss\":3}\n{\"step\":6,"
      "\"loss\":2}\n";
  return {good, good.substr(0, 50), "{\"step\":\"1\"}\n" + good, std::string(500, '[') + "\n", "\n\n{}\n"};
}

}  // namespace ondol::fuzz
