# The library. Every directory of src/ is one layer; a new .cpp file is picked up by itself.

file(GLOB_RECURSE ONDOL_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.cpp)
list(FILTER ONDOL_SOURCES EXCLUDE REGEX "/src/backend/(cpu/kernels|cpu/amx|no_cuda|nvtx|no_nvtx)/")
list(FILTER ONDOL_SOURCES EXCLUDE REGEX "/src/distributed/(mpi|no_mpi|nccl|no_nccl)/")

add_library(ondol ${ONDOL_SOURCES})
add_library(ondol::ondol ALIAS ondol)
target_include_directories(ondol
  PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
  PRIVATE ${PROJECT_SOURCE_DIR}/src ${ONDOL_PCRE2_INCLUDE_DIR})
target_compile_features(ondol PUBLIC cxx_std_20)
target_link_libraries(ondol PRIVATE $<BUILD_INTERFACE:ondol_warnings> ZLIB::ZLIB Threads::Threads
  $<BUILD_INTERFACE:${ONDOL_PCRE2_LIBRARY}> $<INSTALL_INTERFACE:pcre2-8>
  $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)

# The CUDA backend, or what stands in for it.
ondol_add_cuda_backend(ondol)
ondol_add_profiler_hooks(ondol)
ondol_add_communicators(ondol)
ondol_describe_build()

# CPU kernels: the same sources once per instruction set, each in its own namespace ondol::cpu::<isa>.
file(GLOB ONDOL_KERNEL_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cpu/kernels/*.cpp)
function(ondol_add_cpu_kernels isa)
  if(ARGN)
    add_library(ondol_cpu_${isa} OBJECT ${ARGN})
    target_include_directories(ondol_cpu_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    target_compile_definitions(ondol_cpu_${isa} PRIVATE ONDOL_ISA=${isa} ONDOL_ISA_${isa}=1)
    # GCC 12 takes the undefined pass-through operands of its own AVX-512 intrinsics for uninitialised variables.
    target_compile_options(ondol_cpu_${isa} PRIVATE -O3 ${ONDOL_ISA_FLAGS_${isa}} -Wno-uninitialized
      -Wno-maybe-uninitialized)
    target_link_libraries(ondol_cpu_${isa} PRIVATE ondol_warnings)
    target_sources(ondol PRIVATE $<TARGET_OBJECTS:ondol_cpu_${isa}>)
    target_compile_definitions(ondol PRIVATE ONDOL_HAS_ISA_${isa}=1)
  endif()
endfunction()
foreach(isa ${ONDOL_CPU_ISAS})
  ondol_add_cpu_kernels(${isa} ${ONDOL_KERNEL_SOURCES})
endforeach()
if(DEFINED ONDOL_ISA_FLAGS_amx)
  file(GLOB ONDOL_AMX_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cpu/amx/*.cpp)
  ondol_add_cpu_kernels(amx ${ONDOL_AMX_SOURCES})
endif()
