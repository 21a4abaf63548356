# cmake -DPROGRAM=FILE -P remove_runpath.cmake: takes the run path out of a linked file, in place.
file(RPATH_REMOVE FILE "${PROGRAM}")
