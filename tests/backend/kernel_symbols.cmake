# Fails when an object of the CPU kernels defines a weak symbol outside its own namespace ondol::cpu::<isa>: an inline
# function compiled for AVX-512 could be kept by the linker for the whole program, which then dies on other machines.
# Called with -DNM=… -DISA=… -DOBJECTS=a.o;b.o;…

set(defined 0)
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")
  string(REPLACE "\n" ";" symbols "${symbols}")
  foreach(symbol ${symbols})
    math(EXPR defined "${defined} + 1")
    if(symbol MATCHES "^[0-9a-f]+ [WVu] " AND NOT symbol MATCHES "ondol::cpu::${ISA}::|DW\\.ref\\.")
      message(SEND_ERROR "${object}: weak symbol outside ondol::cpu::${ISA}: ${symbol}")
    endif()
  endforeach()
endforeach()
if(defined LESS 20)
  message(FATAL_ERROR "only ${defined} symbols seen: the check would pass on anything")
endif()
message(STATUS "${defined} symbols of ${ISA} checked")
