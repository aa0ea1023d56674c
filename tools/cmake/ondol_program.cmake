# The program `ondol`: main.cpp and one file per verb.

file(GLOB ONDOL_PROGRAM_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/*.cpp)
add_executable(ondol_program ${ONDOL_PROGRAM_SOURCES})
set_target_properties(ondol_program PROPERTIES OUTPUT_NAME ondol)
target_include_directories(ondol_program PRIVATE ${PROJECT_SOURCE_DIR}/tools ${PROJECT_SOURCE_DIR}/src
  ${ONDOL_PCRE2_INCLUDE_DIR})
target_link_libraries(ondol_program PRIVATE ondol ondol_warnings CLI11::CLI11 nlohmann_json::nlohmann_json
  ZLIB::ZLIB)
# The verbs are glue around big headers: compiling them fast matters more than running them fast.
target_compile_options(ondol_program PRIVATE $<$<CONFIG:Release>:-O1>)
