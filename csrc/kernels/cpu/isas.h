// LSIF_ISAS(X): X(name) for each instruction set this build has kernels for (cmake/kernels.cmake), from worst to best.
#pragma once

#if defined(LSIF_HAVE_NEON)
#define LSIF_IF_NEON(x) x
#else
#define LSIF_IF_NEON(x)
#endif
#if defined(LSIF_HAVE_AVX2)
#define LSIF_IF_AVX2(x) x
#else
#define LSIF_IF_AVX2(x)
#endif
#if defined(LSIF_HAVE_AVX2VNNI)
#define LSIF_IF_AVX2VNNI(x) x
#else
#define LSIF_IF_AVX2VNNI(x)
#endif
#if defined(LSIF_HAVE_AVX512)
#define LSIF_IF_AVX512(x) x
#else
#define LSIF_IF_AVX512(x)
#endif
#if defined(LSIF_HAVE_AVX512BF16)
#define LSIF_IF_AVX512BF16(x) x
#else
#define LSIF_IF_AVX512BF16(x)
#endif

#define LSIF_ISAS(X)    \
  X(scalar)             \
  LSIF_IF_NEON(X(neon)) \
  LSIF_IF_AVX2(X(avx2)) LSIF_IF_AVX2VNNI(X(avx2vnni)) LSIF_IF_AVX512(X(avx512)) LSIF_IF_AVX512BF16(X(avx512bf16))
