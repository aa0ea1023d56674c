# Compiler set-up: ccache, warnings, sanitizers and the instruction sets of the CPU kernels.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(ondol_warnings INTERFACE)
target_compile_options(ondol_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-missing-field-initializers -Wno-psabi>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>  # false positives in GCC 12
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${ONDOL_WARNINGS_AS_ERRORS}>>:-Werror>)

if(ONDOL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "ONDOL_FUZZ=ON: libFuzzer needs Clang. Use -DCMAKE_CXX_COMPILER=clang++")
  endif()
  if(NOT ONDOL_SANITIZE)
    set(ONDOL_SANITIZE address,undefined)
  endif()
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>)
endif()
if(ONDOL_SANITIZE)
  # Undefined behaviour ends the program: a test or a fuzz target that only prints it would pass.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${ONDOL_SANITIZE}>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined> $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>)
  add_link_options(-fsanitize=${ONDOL_SANITIZE})
endif()

# Floating-point contraction is fixed so that a result does not depend on how a loop was vectorised or inlined.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

# The baseline on x86-64 is AVX2; the kernels of src/backend/cpu/kernels are compiled once per instruction set and
# chosen at run time.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(ONDOL_CPU_ISAS avx2 avx512)
  set(ONDOL_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
  set(ONDOL_ISA_FLAGS_avx512 -mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl
    -mprefer-vector-width=512)
  set(ONDOL_ISA_FLAGS_amx ${ONDOL_ISA_FLAGS_avx512} -mamx-tile -mamx-bf16 -mavx512bf16)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-mavx2> $<$<COMPILE_LANGUAGE:CXX>:-mfma>
    $<$<COMPILE_LANGUAGE:CXX>:-mf16c>)
else()
  set(ONDOL_CPU_ISAS portable)
  set(ONDOL_ISA_FLAGS_portable "")
endif()
