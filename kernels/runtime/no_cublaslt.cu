// Stands in for cublaslt.cu where the toolkit has no cuBLASLt: every product goes to the project's own kernel.
#include "matmul_library.h"
#include "runtime/vendor_libraries.h"

namespace ondol {

namespace ONDOL_CUDA_SPACE {
MatmulLibrary* matmul_library() { return nullptr; }
}  // namespace ONDOL_CUDA_SPACE

std::string cublaslt_version() { return ""; }

}  // namespace ondol
