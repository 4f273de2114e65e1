#include "cuda_runtime.h"  // in emulation both are the same
