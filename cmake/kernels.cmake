# The CPU kernels: variant.cpp is compiled once per instruction set, with the flags for it; the dispatcher without any.
include(CheckCXXSourceCompiles)
add_library(lsif_kernels STATIC csrc/kernels/linear.cpp csrc/kernels/cpu/dispatch.cpp)
target_include_directories(lsif_kernels PUBLIC csrc)

function(lsif_add_variant isa)
  add_library(lsif_kernels_${isa} OBJECT csrc/kernels/cpu/variant.cpp)
  target_include_directories(lsif_kernels_${isa} PRIVATE csrc)
  string(TOUPPER ${isa} name)
  target_compile_definitions(lsif_kernels_${isa} PRIVATE LSIF_ISA=${isa} LSIF_SIMD_${name}=1)
  # Fused multiply-adds are explicit where wanted (simd.h). The compiler must not add others, so that results do not
  # depend on it, and exact_score is the same on every machine.
  target_compile_options(lsif_kernels_${isa} PRIVATE -ffp-contract=off -fno-math-errno -fno-exceptions ${ARGN})
  target_sources(lsif_kernels PRIVATE $<TARGET_OBJECTS:lsif_kernels_${isa}>)
  target_compile_definitions(lsif_kernels PUBLIC LSIF_HAVE_${name})
endfunction()

lsif_add_variant(scalar)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  lsif_add_variant(avx2 -mavx2 -mfma)
  # The assembler must know AVX-VNNI, too, and __builtin_cpu_supports (dispatch.cpp) its name, which Clang learned years
  # after the instruction.
  set(CMAKE_REQUIRED_FLAGS "-mavx2 -mavxvnni")
  check_cxx_source_compiles("#include <immintrin.h>
    int main(int n, char**) {
      if (!__builtin_cpu_supports(\"avxvnni\")) return 0;
      const __m256i a = _mm256_set1_epi32(n);
      return _mm256_extract_epi32(_mm256_dpbusd_avx_epi32(a, a, a), 0);
    }" LSIF_COMPILER_HAS_AVXVNNI)
  unset(CMAKE_REQUIRED_FLAGS)
  if(LSIF_COMPILER_HAS_AVXVNNI)
    lsif_add_variant(avx2vnni -mavx2 -mfma -mavxvnni -DLSIF_SIMD_AVX2=1 -DLSIF_HAVE_AVX2)
  else()
    message(STATUS "No kernels for AVX-VNNI: ${CMAKE_CXX_COMPILER} does not compile for it")
  endif()
  # GCC 12 warns about undefined operands inside its own AVX-512 intrinsics.
  set(avx512_flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mprefer-vector-width=512
    -Wno-maybe-uninitialized)
  lsif_add_variant(avx512 ${avx512_flags})
  lsif_add_variant(avx512bf16 ${avx512_flags} -mavx512bf16 -DLSIF_SIMD_AVX512=1)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  lsif_add_variant(neon)
endif()
