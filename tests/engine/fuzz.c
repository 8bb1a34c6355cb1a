// Calls the C interface of a library with everything that it may be given, and with what it may not: built with
// sanitizers by test_source.py. Every error has to be told by its code, and nothing may be written outside.

#include "tiny.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef tiny_WITHOUT_THREADS
#include <pthread.h>
#endif

enum { W = tiny_WIDTH, H = tiny_HEIGHT, I = tiny_CHANNELS_IN, O = tiny_CHANNELS_OUT, MOST = 9 };

static uint64_t state = 88172645463325252u;

static unsigned draw(unsigned most)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % most;
}

static void expect(int code, int wanted, const char *what)
{
    if (code == wanted) return;
    fprintf(stderr, "%s: %s, not %s\n", what, tiny_error(code), tiny_error(wanted));
    exit(1);
}

// One call with random numbers of images and strides; what it gives is compared with the plain call of each image.
static void one(tiny *h)
{
    const int n = (int)draw(MOST), in_gap = (int)draw(3) * 5, out_gap = (int)draw(3) * 7;
    const ptrdiff_t in_stride = W * I + in_gap, out_stride = W * O + out_gap;
    uint8_t *in = malloc((size_t)n * H * in_stride + 1), *out = malloc((size_t)n * H * out_stride + 1);
    uint8_t plain_in[H * W * I], plain_out[H * W * O];
    for (ptrdiff_t i = 0; i < n * H * in_stride; i++) in[i] = (uint8_t)draw(256);
    memset(out, 77, (size_t)n * H * out_stride);
    expect(tiny_run(h, in, in_gap || draw(2) ? in_stride : 0, out, out_stride, n), tiny_OK, "run");
    for (int image = 0; image < n; image++) {
        for (int y = 0; y < H; y++) memcpy(plain_in + y * W * I, in + (image * H + y) * in_stride, W * I);
        expect(tiny_run(h, plain_in, 0, plain_out, 0, 1), tiny_OK, "run of one");
        for (int y = 0; y < H; y++) {
            const uint8_t *row = out + (image * H + y) * out_stride;
            if (memcmp(row, plain_out + y * W * O, W * O)) expect(tiny_WRONG_OUTPUT, tiny_OK, "an image among others");
            for (int i = 0; i < out_gap; i++) if (row[W * O + i] != 77) expect(tiny_WRONG_OUTPUT, tiny_OK, "a gap");
        }
    }
    free(in), free(out);
}

static void *many(void *seed)
{
    tiny *h;
    (void)seed;
    expect(tiny_create(&h, 2), tiny_OK, "create");
    float in[H * W * I], out[H * W * O], first[H * W * O];
    for (int i = 0; i < H * W * I; i++) in[i] = (float)(i % 97) / 96.0f;
    for (int i = 0; i < 50; i++) {
        expect(tiny_run_float(h, in, 0, out, 0, 1), tiny_OK, "run in a thread");
        if (i == 0) memcpy(first, out, sizeof out);
        else if (memcmp(first, out, sizeof out)) expect(tiny_WRONG_OUTPUT, tiny_OK, "the same image again");
    }
    tiny_destroy(h);
    return 0;
}

int main(void)
{
    tiny *h = (tiny *)1, *single;
    expect(tiny_create(0, 1), tiny_NULL_POINTER, "create without a place");
    expect(tiny_create(&h, -1), tiny_BAD_SIZE, "create with -1 threads");
    if (h) return 1;
    expect(tiny_create(&h, 1000), tiny_OK, "create with many threads");
    expect(tiny_create(&single, 1), tiny_OK, "create with one");
    tiny_destroy(0);

    static uint8_t in[MOST * H * W * I], out[MOST * H * W * O];
    static float floats[MOST * H * W * (I > O ? I : O) + 1], codes[MOST * tiny_CODE];
    expect(tiny_run(0, in, 0, out, 0, 1), tiny_NULL_POINTER, "no handle");
    expect(tiny_run(h, 0, 0, out, 0, 1), tiny_NULL_POINTER, "no input");
    expect(tiny_run(h, in, 0, 0, 0, 1), tiny_NULL_POINTER, "no output");
    expect(tiny_run(h, in, 0, out, 0, -1), tiny_BAD_SIZE, "-1 images");
    expect(tiny_run(h, in, W * I - 1, out, 0, 1), tiny_BAD_SIZE, "a short stride");
    expect(tiny_run(h, in, 0, out, 1 - W * O, 1), tiny_BAD_SIZE, "a short stride upwards");
    expect(tiny_run(h, in, 0, out, 0, 0), tiny_OK, "no image");
    expect(tiny_run_float(h, floats, 4 * W * I + 2, floats, 0, 1), tiny_BAD_SIZE, "a stride between two floats");
    expect(tiny_run_float(h, (float *)((char *)floats + 1), 0, floats, 0, 1), tiny_BAD_SIZE, "floats at an odd place");
    expect(tiny_encode(h, in, 0, 0, 1), tiny_NULL_POINTER, "no codes");
    expect(tiny_decode(h, 0, out, 0, 1), tiny_NULL_POINTER, "no codes to decode");
    expect(tiny_interpolate(h, in, 0, 0, out, 0, 4), tiny_NULL_POINTER, "no target");
    expect(tiny_interpolate(h, in, in, 0, out, 0, 1), tiny_BAD_SIZE, "one step");

    for (int i = 0; i < 200; i++) one(draw(2) ? h : single);
    for (int i = 0; i < 20; i++) { // rows from below, in place, codes there and back
        const int n = 1 + (int)draw(MOST);
        for (size_t j = 0; j < sizeof in; j++) in[j] = (uint8_t)draw(256);
        expect(tiny_encode(h, in, 0, codes, n), tiny_OK, "encode");
        expect(tiny_decode(h, codes, out, 0, n), tiny_OK, "decode");
        expect(tiny_decode_float(h, codes, floats, 0, n), tiny_OK, "decode to floats");
        expect(tiny_run(h, in + (H - 1) * W * I, -W * I, out + (H - 1) * W * O, -W * O, 1), tiny_OK, "upwards");
        if (I == O) expect(tiny_run(h, in, 0, in, 0, n), tiny_OK, "in place");
        expect(tiny_interpolate(h, in, in + H * W * I, 0, out, 0, 2 + (int)draw(MOST - 1)), tiny_OK, "interpolate");
    }
    static float result[2][H * W * O];
    for (int i = 0; i < 1000; i++) { // two threads and one, to the bit
        for (int j = 0; j < H * W * I; j++) floats[j] = (float)draw(1000) / 999.0f;
        expect(tiny_run_float(h, floats, 0, result[0], 0, 1), tiny_OK, "with two threads");
        expect(tiny_run_float(single, floats, 0, result[1], 0, 1), tiny_OK, "with one thread");
        if (memcmp(result[0], result[1], sizeof *result)) expect(tiny_WRONG_OUTPUT, tiny_OK, "two threads and one");
    }
    tiny_destroy(h);
    tiny_destroy(single);
#ifndef tiny_WITHOUT_THREADS
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, many, 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
#else
    many(0);
#endif
    float largest;
    expect(tiny_selftest(&largest), tiny_OK, "selftest");
    printf("largest %g\n", largest);
    return 0;
}
