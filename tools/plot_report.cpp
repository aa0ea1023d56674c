#include "plot_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace {

constexpr double kWidth = 860, kHeight = 300;
constexpr double kLeft = 64, kRight = 12, kTop = 12, kBottom = 32;
constexpr size_t kBuckets = 700;
constexpr size_t kColours = 8;

const char* const kStyle = R"(
:root { --paper: #fff; --ink: #1c2430; --faint: #6b7684; --grid: #e3e7ec;
  --c0: #1f6feb; --c1: #d1480f; --c2: #1a8a4b; --c3: #8e44c9; --c4: #b8860b; --c5: #c2185b; --c6: #0e8c9b; --c7: #5d6b2f; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161c; --ink: #e4e9f0; --faint: #93a0b0; --grid: #2a323d;
  --c0: #6cb0ff; --c1: #ff9a62; --c2: #5fd08d; --c3: #c79bf2; --c4: #e6c05c; --c5: #ff85b0; --c6: #5fd3e0; --c7: #b7c97a; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto;
  max-width: 900px; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 0; display: inline-block; margin-right: 1rem; }
section { margin: 1.6rem 0; } svg { width: 100%; height: auto; display: block; margin-top: .4rem; }
svg text { fill: var(--faint); font-size: 11px; } .grid { stroke: var(--grid); stroke-width: 1; }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round; } label { color: var(--faint); }
.log { display: none; } section:has(input:checked) .log { display: block; }
section:has(input:checked) .linear { display: none; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; text-align: left; } th { color: var(--faint);
  font-weight: 500; } td { font-variant-numeric: tabular-nums; }
.key { display: inline-block; width: .9rem; height: .9rem; border-radius: 3px; vertical-align: -2px; margin-right: .4rem; }
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string tick_label(double value) {
  char text[32];
  const double size = std::fabs(value);
  if (size >= 1e9) {
    std::snprintf(text, sizeof text, "%.3gG", value / 1e9);
  } else if (size >= 1e6) {
    std::snprintf(text, sizeof text, "%.3gM", value / 1e6);
  } else if (size >= 1e4) {
    std::snprintf(text, sizeof text, "%.3gk", value / 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.4g", value);
  }
  return text;
}

struct Range {
  double low = HUGE_VAL, high = -HUGE_VAL;

  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void widen_if_empty() {
    if (low < high) return;
    const double margin = low == 0.0 ? 1.0 : 0.1 * std::fabs(low);
    low -= margin;
    high += margin;
  }
};

/// Round numbers, about `count` of them, inside the range.
std::vector<double> round_ticks(const Range& range, int count) {
  const double raw = (range.high - range.low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double ratio = raw / power;
  const double step = power * (ratio < 1.5 ? 1.0 : ratio < 3.5 ? 2.0 : ratio < 7.5 ? 5.0 : 10.0);
  std::vector<double> ticks;
  for (double k = std::ceil(range.low / step); k * step <= range.high + step * 1e-9; k += 1.0)
    ticks.push_back(k * step + 0.0);  // no -0
  return ticks;
}

/// 1, 2 and 5 times powers of ten; round numbers where the range spans less than half a decade.
std::vector<double> log_ticks(const Range& exponents) {
  const Range values{std::pow(10.0, exponents.low), std::pow(10.0, exponents.high)};
  if (exponents.high - exponents.low < 0.5) return round_ticks(values, 5);
  std::vector<double> ticks;
  const bool dense = exponents.high - exponents.low < 3.0;
  for (double e = std::floor(exponents.low); e <= exponents.high; e += 1.0) {
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double value = digit * std::pow(10.0, e);
      if ((dense || digit == 1.0) && value >= values.low && value <= values.high) ticks.push_back(value);
    }
  }
  return ticks;
}

std::string render_svg(const PlotChart& chart, bool logarithmic) {
  const auto scaled = [logarithmic](double y) { return logarithmic ? std::log10(y) : y; };
  const auto usable = [logarithmic](const PlotPoint& point) { return !logarithmic || point.y > 0.0; };
  Range xs, ys;
  for (const PlotSeries& series : chart.series) {
    for (const PlotPoint& point : series.points) {
      if (!usable(point)) continue;
      xs.add(point.x);
      ys.add(scaled(point.y));
    }
  }
  const std::string head = std::string("<svg class=\"") + (logarithmic ? "log" : "linear") +
                           "\" viewBox=\"0 0 860 300\" role=\"img\"><title>" + escaped(chart.title) + "</title>\n";
  if (xs.low > xs.high) return head + "<text x=\"64\" y=\"150\">no value above 0</text></svg>\n";
  xs.widen_if_empty();
  ys.widen_if_empty();
  const double margin = 0.03 * (ys.high - ys.low);
  ys.low -= margin;
  ys.high += margin;

  const auto px = [&](double x) { return kLeft + (x - xs.low) / (xs.high - xs.low) * (kWidth - kLeft - kRight); };
  const auto py = [&](double y) {
    return kHeight - kBottom - (y - ys.low) / (ys.high - ys.low) * (kHeight - kTop - kBottom);
  };
  std::string svg = head;
  for (const double tick : logarithmic ? log_ticks(ys) : round_ticks(ys, 5)) {
    const std::string y = fixed(py(scaled(tick)));
    svg += "<line class=\"grid\" x1=\"64\" x2=\"848\" y1=\"" + y + "\" y2=\"" + y + "\"/><text x=\"58\" y=\"" + y +
           "\" dy=\"4\" text-anchor=\"end\">" + tick_label(tick) + "</text>\n";
  }
  for (const double tick : round_ticks(xs, 8)) {
    svg += "<text x=\"" + fixed(px(tick)) + "\" y=\"286\" text-anchor=\"middle\">" + tick_label(tick) + "</text>\n";
  }
  for (const PlotSeries& series : chart.series) {
    std::string path;
    for (const PlotPoint& point : downsample(series.points, kBuckets)) {
      if (!usable(point)) continue;
      path += (path.empty() ? "M" : "L") + fixed(px(point.x)) + " " + fixed(py(scaled(point.y)));
    }
    const std::string colour = "var(--c" + std::to_string(series.run % kColours) + ")";
    if (path.find('L') == std::string::npos && !path.empty()) {  // one point: a dot
      const size_t space = path.find(' ');
      svg += "<circle r=\"3\" cx=\"" + path.substr(1, space - 1) + "\" cy=\"" + path.substr(space + 1) + "\" fill=\"" +
             colour + "\"/>\n";
    } else if (!path.empty()) {
      svg += "<path class=\"line\" stroke=\"" + colour + "\" d=\"" + path + "\"/>\n";
    }
  }
  return svg + "</svg>\n";
}

std::string render_table(const PlotReport& report) {
  std::string html = "<table><tr><th>run</th>";
  for (const std::string& column : report.columns) html += "<th>" + escaped(column) + "</th>";
  html += "</tr>\n";
  for (size_t run = 0; run < report.runs.size(); ++run) {
    html += "<tr><td><span class=\"key\" style=\"background: var(--c" + std::to_string(run % kColours) + ")\"></span>" +
            escaped(report.runs[run]) + "</td>";
    for (const std::string& cell : report.summary[run]) html += "<td>" + escaped(cell) + "</td>";
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

}  // namespace

std::vector<PlotPoint> downsample(const std::vector<PlotPoint>& points, size_t buckets) {
  if (points.size() <= 2 * buckets) return points;
  std::vector<PlotPoint> kept;
  kept.reserve(2 * buckets);
  for (size_t bucket = 0; bucket < buckets; ++bucket) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(points.size() * bucket / buckets);
    const auto end = points.begin() + static_cast<std::ptrdiff_t>(points.size() * (bucket + 1) / buckets);
    const auto [low, high] =
        std::minmax_element(begin, end, [](const PlotPoint& a, const PlotPoint& b) { return a.y < b.y; });
    kept.push_back(*std::min(low, high));
    if (low != high) kept.push_back(*std::max(low, high));
  }
  return kept;
}

std::string render_report(const PlotReport& report) {
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Training runs</title>\n<style>";
  html += kStyle;
  html += "</style></head>\n<body><h1>Training runs</h1>\n" + render_table(report);
  for (const PlotChart& chart : report.charts) {
    const bool empty = std::all_of(chart.series.begin(), chart.series.end(),
                                   [](const PlotSeries& series) { return series.points.empty(); });
    if (empty) continue;
    html += "<section><h2>" + escaped(chart.title) + "</h2><label><input type=\"checkbox\"> log scale</label>" +
            (chart.unit.empty() ? "" : " <label>" + escaped(chart.unit) + "</label>") + "\n" +
            render_svg(chart, false) + render_svg(chart, true) + "</section>\n";
  }
  return html + "</body></html>\n";
}
