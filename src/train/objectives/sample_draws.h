// The random choices of objectives: see base/sample_draws.h.
#pragma once

#include "base/sample_draws.h"
