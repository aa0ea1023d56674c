# Cross-compiles for 64-bit Arm Linux with Debian's g++-aarch64-linux-gnu. Tests run under qemu-aarch64 (package
# qemu-user) where that is installed.
#
#   cmake --preset aarch64 -DONDOL_SYSROOT=DIRECTORY     (docs/testing.md says how to fill DIRECTORY)
#
# ONDOL_SYSROOT holds the arm64 packages that ondol needs, as `dpkg -x` unpacks them; where they are installed (dpkg
# --add-architecture arm64) it is left out.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(ONDOL_SYSROOT "" CACHE PATH "Directory with unpacked arm64 packages")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ONDOL_SYSROOT)
if(ONDOL_SYSROOT)
  set(CMAKE_FIND_ROOT_PATH ${ONDOL_SYSROOT})
  set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
  set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
endif()

find_program(ONDOL_QEMU NAMES qemu-aarch64 qemu-aarch64-static)
mark_as_advanced(ONDOL_QEMU)
if(ONDOL_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${ONDOL_QEMU} -L /usr/aarch64-linux-gnu)
  if(ONDOL_SYSROOT)
    set(library_path ${ONDOL_SYSROOT}/lib/aarch64-linux-gnu:${ONDOL_SYSROOT}/usr/lib/aarch64-linux-gnu)
    list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -E LD_LIBRARY_PATH=${library_path})
  endif()
endif()
