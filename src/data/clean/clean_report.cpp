#include <ondol/data/clean.h>

#include <nlohmann/json.hpp>

namespace ondol {

std::string report_json(const CleanReport& report) {
  using Ordered = nlohmann::ordered_json;
  Ordered document = {{"files", report.files},
                      {"documents_in", report.documents_in},
                      {"bytes_in", report.bytes_in},
                      {"documents_out", report.documents_out},
                      {"bytes_out", report.bytes_out}};
  Ordered& steps = document["steps"] = Ordered::array();
  for (const StepReport& step : report.steps) {
    Ordered entry = {{"type", step.type},
                     {"documents_in", step.documents_in},
                     {"bytes_in", step.bytes_in},
                     {"documents_dropped", step.documents_dropped},
                     {"bytes_dropped", step.bytes_dropped},
                     {"documents_changed", step.documents_changed}};
    Ordered& reasons = entry["reasons"] = Ordered::object();
    for (const auto& [name, reason] : step.reasons) {
      reasons[name] = {{"documents", reason.documents}, {"bytes", reason.bytes}, {"examples", reason.examples}};
    }
    Ordered& counts = entry["counts"] = Ordered::object();
    for (const auto& [name, count] : step.counts) counts[name] = count;
    steps.push_back(std::move(entry));
  }
  return document.dump(2, ' ', false, Ordered::error_handler_t::replace) + "\n";
}

}  // namespace ondol
