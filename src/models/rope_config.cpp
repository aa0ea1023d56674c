#include "models/rope_config.h"

namespace ondol {

RopeConfig read_rope_config(const JsonReader& config, int64_t head_dim, int64_t max_positions) {
  RopeConfig rope;
  rope.head_dim = head_dim;
  rope.max_positions = max_positions;
  rope.theta = config.get<double>("rope_theta", 10000.0, above(0.0));
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return rope;

  const JsonReader scaling = config.child(key);
  rope.theta = scaling.get<double>("rope_theta", rope.theta, above(0.0));
  rope.type = scaling.get<std::string>("rope_type", scaling.get<std::string>("type", "default"));
  if (rope.type == "default") return rope;
  if (rope.type != "linear" && rope.type != "llama3") {
    scaling.fail("rope_type", concat("\"", rope.type, "\" is not supported"), "supported: default, linear, llama3");
  }
  rope.factor = scaling.require<double>("factor", at_least(1.0));
  if (rope.type == "llama3") {
    rope.low_freq_factor = scaling.require<double>("low_freq_factor", above(0.0));
    rope.high_freq_factor = scaling.require<double>("high_freq_factor", above(0.0));
    rope.original_max_positions = scaling.require<int64_t>("original_max_position_embeddings", at_least(1));
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      scaling.fail("high_freq_factor", "must be greater than low_freq_factor");
    }
  }
  return rope;
}

void write_rope_config(Json& config, const RopeConfig& rope) {
  Json scaling = {{"rope_type", rope.type}};
  if (rope.type != "default") scaling["factor"] = rope.factor;
  if (rope.type == "llama3") {
    scaling["low_freq_factor"] = rope.low_freq_factor;
    scaling["high_freq_factor"] = rope.high_freq_factor;
    scaling["original_max_position_embeddings"] = rope.original_max_positions;
  }
  config["rope_theta"] = rope.theta;
  config["rope_scaling"] = rope.type == "default" ? Json() : scaling;
  scaling["rope_theta"] = rope.theta;
  config["rope_parameters"] = scaling;
}

}  // namespace ondol
