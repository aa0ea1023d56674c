# Install rules: program, library, headers and the CMake package ondol::ondol.

include(CMakePackageConfigHelpers)
install(TARGETS ondol EXPORT ondol_targets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET ondol_program)
  install(TARGETS ondol_program)
endif()
set(ONDOL_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/ondol)
install(EXPORT ondol_targets NAMESPACE ondol:: DESTINATION ${ONDOL_PACKAGE_DIR})
configure_package_config_file(${PROJECT_SOURCE_DIR}/tools/cmake/ondol-config.cmake.in
  ${PROJECT_BINARY_DIR}/ondol-config.cmake INSTALL_DESTINATION ${ONDOL_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ondol-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ondol-config.cmake ${PROJECT_BINARY_DIR}/ondol-config-version.cmake
  DESTINATION ${ONDOL_PACKAGE_DIR})
