// Tensor maps through the driver's cuTensorMapEncodeTiled, looked up at run time: the program links no libcuda and
// starts without one.
#include "tensor_map.h"

#include <cuda.h>
#include <dlfcn.h>

namespace ondol::ONDOL_CUDA_SPACE {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));

namespace {

/// The runtime has loaded the driver before any kernel of this program could ask for a map.
decltype(&cuTensorMapEncodeTiled) find_encode() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return nullptr;
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(dlsym(driver, "cuTensorMapEncodeTiled"));
}

}  // namespace

bool encode_tensor_map(TensorMap& map, const BoxedTensor& tensor) {
  static const auto encode = find_encode();
  if (encode == nullptr) return false;
  constexpr int kRank = 4;
  cuuint64_t sizes[kRank], stride_bytes[kRank - 1];
  cuuint32_t box[kRank], steps[kRank];
  for (int d = 0; d < kRank; ++d) {
    sizes[d] = static_cast<cuuint64_t>(tensor.sizes[d]);
    box[d] = static_cast<cuuint32_t>(tensor.box[d]);
    steps[d] = 1;
    if (d > 0) stride_bytes[d - 1] = static_cast<cuuint64_t>(tensor.strides[d - 1]) * 2;
  }
  CUtensorMap encoded;
  const CUresult status =
      encode(&encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank, const_cast<void*>(tensor.data), sizes, stride_bytes,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) return false;
  memcpy(map.words, &encoded, sizeof(encoded));
  return true;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
