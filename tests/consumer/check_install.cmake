# Installs the build, builds the consumer against it and runs both programs.
# Arguments: BINARY_DIR (of ondol), SOURCE_DIR (of this file), CONFIG (a model's config.json), GENERATOR, CXX_COMPILER.
set(work ${BINARY_DIR}/consumer)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGN}: ${code}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${work}/installed)
run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${work}/build -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX_COMPILER}
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=${work}/installed -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF)
run(${CMAKE_COMMAND} --build ${work}/build)
run(${work}/build/consumer ${CONFIG} ${work}/model)
if(NOT output STREQUAL "GPT2LMHeadModel 5\n")
  message(FATAL_ERROR "the consumer printed: ${output}")
endif()
run(${work}/installed/bin/ondol generate ${work}/model --prompt-ids 1,2,3 --max-new-tokens 5 --ignore-eos)
if(NOT output MATCHES "^[0-9]+(,[0-9]+)+\n$")
  message(FATAL_ERROR "the installed program printed: ${output}")
endif()
