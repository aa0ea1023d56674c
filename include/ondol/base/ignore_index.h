// The label of a position that has no target.
#pragma once

#include <cstdint>

namespace ondol {

/// As in torch.nn.CrossEntropyLoss and Hugging Face models.
inline constexpr int32_t kIgnoreIndex = -100;

}  // namespace ondol
