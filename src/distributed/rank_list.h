// Ranks in a message: "rank 3", "ranks 0, 2, 5 and 1018 more".
#pragma once

#include <string>
#include <vector>

namespace ondol {

std::string rank_list(const std::vector<int>& ranks);

}  // namespace ondol
