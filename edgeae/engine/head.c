// @TITLE@
//
// Compile it with NAME_weights.c, for @PROCESSOR@ (another one with its -march or -mcpu):
//
//     cc -std=gnu11 -O2 -march=native -ffp-contract=fast -fPIC -shared -pthread -o libNAME.so NAME.c NAME_weights.c
//
// -DNAME_WITHOUT_THREADS leaves the threads out. The end of this file is the text of the kernels; the file includes
// itself to have that compiled for each layer, with the layer's sizes and with names that begin with the layer's.

#ifndef SECTION

#ifndef _GNU_SOURCE
#define _GNU_SOURCE // for sched_getcpu
#endif
#include "NAME.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifndef NAME_WITHOUT_THREADS
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char metadata[] = "edgeae library NAME 1\0"@METADATA@;
extern const unsigned char NAME_stored[]; // in NAME_weights.c
#define FLOATS(at) ((const float *)(NAME_stored + (at)))
#define SEPARATE static __attribute__((noinline)) // so that a profiler tells layers apart

// ---- the layers ------------------------------------------------------------------------------------------------------
