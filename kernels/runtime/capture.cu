// Captured steps: CUDA graphs of what a stream was given between two calls.
#include "launch.h"
#include "runtime/runtime.h"

namespace ondol {

struct CapturedWork {
  cudaGraphExec_t executable = nullptr;
};

namespace cuda {

void begin_capture(Device device) {
  CUDA_CHECK("capture", cudaStreamBeginCapture(stream_of(device), cudaStreamCaptureModeThreadLocal));
}

CapturedWork* end_capture(Device device) {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream_of(device), &graph) != cudaSuccess || graph == nullptr) {
    cudaGetLastError();  // the call that made the capture impossible has reported it
    return nullptr;
  }
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  CUDA_CHECK("capture", status);
  return new CapturedWork{executable};
}

void replay(CapturedWork* work, Device device) {
  CUDA_CHECK("replay", cudaGraphLaunch(work->executable, stream_of(device)));
}

void release_captured(CapturedWork* work, Device device) {
  cudaStreamSynchronize(stream_of(device));
  cudaGraphExecDestroy(work->executable);
  delete work;
}

}  // namespace cuda
}  // namespace ondol
