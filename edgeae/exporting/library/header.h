// @TITLE@
//
// One image in, one image out: @WIDTH@ x @HEIGHT@ pixels, rows from the top, channels beside each other. Bytes are 0 to
// 255, floats 0 to 1. Many images follow each other without a gap. A handle serves one thread at a time; make one for
// each. After NAME_create nothing is allocated. The calling thread needs 16 KB of stack. In a process that is forked
// afterwards a handle works too: its first call there starts new threads.

#ifndef NAME_H
#define NAME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NAME_API __attribute__((visibility("default")))
#else
#define NAME_API
#endif

enum {
    NAME_VERSION = 1,       // of these functions
    NAME_WIDTH = @WIDTH@,
    NAME_HEIGHT = @HEIGHT@,
    NAME_CHANNELS_IN = @CHANNELS_IN@,
    NAME_CHANNELS_OUT = @CHANNELS_OUT@,
    NAME_CODE = @CODE@,     // floats in the code of an image: @CODE_SHAPE@
    NAME_BATCH = @BATCH@,   // images that are worked on together
    NAME_THREADS = @THREADS@, // that it can use
};

// What the functions return.
enum {
    NAME_OK = 0,
    NAME_NULL_POINTER = 1,
    NAME_BAD_SIZE = 2,      // a negative count, fewer than 2 steps, or a stride shorter than a row
    NAME_NO_MEMORY = 3,
    NAME_NO_PROCESSOR = 4,  // it was compiled for @PROCESSOR@, which this processor is not
    NAME_NO_THREADS = 5,    // the system gives no locks for them
    NAME_WRONG_OUTPUT = 6,  // of NAME_selftest
};

typedef struct NAME NAME;

// Makes a handle; `threads` 0 is as many as it can use, fewer if the system gives no more. On an error *handle is null.
NAME_API int NAME_create(NAME **handle, int threads);
NAME_API void NAME_destroy(NAME *handle); // null is allowed

// n images to n images. A stride is the bytes from one row to the next; 0 is a row's own size. `in` may be `out`.
NAME_API int NAME_run(NAME *handle, const uint8_t *in, ptrdiff_t in_stride, uint8_t *out, ptrdiff_t out_stride, int n);
NAME_API int NAME_run_float(NAME *handle, const float *in, ptrdiff_t in_stride, float *out, ptrdiff_t out_stride, int n);

// n images to n codes of NAME_CODE floats, and back.@SKIPS@
NAME_API int NAME_encode(NAME *handle, const uint8_t *in, ptrdiff_t in_stride, float *codes, int n);
NAME_API int NAME_encode_float(NAME *handle, const float *in, ptrdiff_t in_stride, float *codes, int n);
NAME_API int NAME_decode(NAME *handle, const float *codes, uint8_t *out, ptrdiff_t out_stride, int n);
NAME_API int NAME_decode_float(NAME *handle, const float *codes, float *out, ptrdiff_t out_stride, int n);

// `steps` frames from one image to another, both included.
NAME_API int NAME_interpolate(NAME *handle, const uint8_t *from, const uint8_t *to, ptrdiff_t in_stride, uint8_t *frames,
                              ptrdiff_t out_stride, int steps);

// Runs a picture whose output is known. `largest`, unless null, becomes the largest difference from it.
NAME_API int NAME_selftest(float *largest);

NAME_API const char *NAME_error(int code); // in words
NAME_API const char *NAME_metadata(void);  // of the model, as JSON

#ifdef __cplusplus
}
#endif
#endif
