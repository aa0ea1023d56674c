// ondol data clean | filter | dedup | redact | decontaminate.
#pragma once

#include "verbs.h"

/// Adds them below `data`.
void add_data_clean_verbs(CLI::App& data, Program& program);
