# Third-party libraries, all of them Debian packages. tools/install-dependencies installs what is missing.

find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_path(ONDOL_PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(ONDOL_PCRE2_LIBRARY pcre2-8 REQUIRED)
include(ondol_cuda)  # CUDA, NCCL, MPI
