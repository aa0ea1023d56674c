// The page that `ondol plot` writes: one HTML document with SVG charts and nothing outside it.
#pragma once

#include <string>
#include <vector>

struct PlotPoint {
  double x = 0.0;
  double y = 0.0;
};

struct PlotSeries {
  size_t run = 0;                 // index of PlotReport::runs: its colour
  std::vector<PlotPoint> points;  // rising x, finite y
};

struct PlotChart {
  std::string title;
  std::string unit;
  std::vector<PlotSeries> series;
};

struct PlotReport {
  std::vector<std::string> runs;
  std::vector<std::string> columns;               // of the summary table
  std::vector<std::vector<std::string>> summary;  // a row a run
  std::vector<PlotChart> charts;                  // those without points are left out
};

/// At most 2 * buckets points: the lowest and the highest of each stretch, in their order, so that spikes stay.
std::vector<PlotPoint> downsample(const std::vector<PlotPoint>& points, size_t buckets);

std::string render_report(const PlotReport& report);
