// encode_tensor_map of the emulation: a TensorMap is a BoxedTensor in its bytes.
#include "tensor_map.h"

#include <cstring>

#include "hopper.h"

namespace ondol::cuda_emulated {

bool encode_tensor_map(TensorMap& map, const BoxedTensor& tensor) {
  const emulation::BoxedTensor boxed{tensor.data, tensor.sizes, tensor.strides, tensor.box};
  if (!emulation::can_be_boxed(boxed)) return false;
  std::memcpy(map.words, &boxed, sizeof(boxed));
  return true;
}

}  // namespace ondol::cuda_emulated
