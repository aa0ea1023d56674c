// The emulated CUDA runtime, with the streams and events that a communicator needs. Work is done when it is started;
// the calls are noted (fake_nccl.h).
#pragma once

#include "../cuda_emulation/cuda_runtime.h"

using cudaEvent_t = struct FakeEvent*;
inline constexpr cudaError_t cudaErrorNotReady = static_cast<cudaError_t>(600);
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;

cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetStreamPriorityRange(int* low, int* high);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventQuery(cudaEvent_t event);
