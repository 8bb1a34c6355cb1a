// Vectors of LANES floats in GNU C, which gcc and clang compile for any instruction set. No libc is needed.

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++) // unrolled: what it indexes can stay in registers

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int ivec __attribute__((vector_size(4 * LANES)));
typedef unsigned int uvec __attribute__((vector_size(4 * LANES)));
typedef float unaligned_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const unaligned_vec *)p; }
INLINE void store(float *p, vec v) { *(unaligned_vec *)p = v; }
INLINE vec fill(float x) { return (vec){0} + x; }
INLINE vec where(ivec mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }
INLINE int smaller(int a, int b) { return a < b ? a : b; }

// 1 / (1 + exp(-x)). exp(-x) = 2^n 2^f with an integer n and f in [-1/2, 1/2]; a polynomial gives 2^f, exact to 1e-7.
INLINE vec sigmoid(vec x)
{
    const vec round = fill(12582912.0f); // adding 1.5 * 2^23 rounds to a whole number, which ends in the lowest bits
    vec in = where(x > 87.0f, fill(87.0f), x);
    in = where(in < -87.0f, fill(-87.0f), in);
    const vec t = in * -1.44269504f, shifted = t + round, f = t - (shifted - round);
    vec p = fill(1.5403530e-4f);
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return where(x == x, 1.0f / (1.0f + (vec)((uvec)p + ((uvec)shifted << 23))), x); // NaN stays NaN
}

enum { NO_ACTIVATION, RELU, SIGMOID, CLIP };
enum { HAS_Y = GRADIENT_OF != NO_ACTIVATION };

INLINE vec activate(vec z)
{
    if (ACTIVATION == RELU) return where(z > 0.0f, z, fill(0.0f));
    if (ACTIVATION == CLIP) return where(z < 0.0f, fill(0.0f), where(z > 1.0f, fill(1.0f), z)); // NaN stays NaN
    return ACTIVATION == SIGMOID ? sigmoid(z) : z;
}

// The gradient of an activation's input, from that of its output and the output itself.
INLINE vec activation_gradient(vec dy, vec y)
{
    if (GRADIENT_OF == RELU) return where(y > 0.0f, dy, fill(0.0f));
    return GRADIENT_OF == SIGMOID ? dy * (y * (1.0f - y)) : dy;
}

// Copies n floats. With `y`, the output of an activation, they are gradients of it and become those of its input.
INLINE void copy(float *to, const float *from, const float *y, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        store(to + i, y ? activation_gradient(load(from + i), load(y + i)) : load(from + i));
    for (; i < n; i++) to[i] = y ? activation_gradient(fill(from[i]), fill(y[i]))[0] : from[i];
}

INLINE void zero(float *to, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, fill(0.0f));
    for (; i < n; i++) to[i] = 0.0f;
}

INLINE void add_to(float *to, const float *from, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, load(to + i) + load(from + i));
    for (; i < n; i++) to[i] += from[i];
}

// The sum of each of `channels` channels of n floats.
INLINE void sum_channels(float *to, const float *from, int channels, int n)
{
    for (int c = 0; c < channels; c++) {
        to[c] = 0.0f;
        for (int i = c; i < n; i += channels) to[c] += from[i];
    }
}

// Brings n floats to the second-level cache while something else is computed.
INLINE void prefetch(const float *from, int n)
{
    for (int i = 0; i < n; i += 16) __builtin_prefetch(from + i, 0, 2);
}

// Copies rows [y0, y0 + rows) and columns [x0, x0 + columns) of an (H, W, C) image; what lies outside it is zero.
INLINE void copy_window(float *to, const float *image, const float *y, int H, int W, int C, int y0, int x0, int rows,
                        int columns)
{
    const int left = x0 < 0 ? -x0 : 0, right = smaller(columns, W - x0);
    for (int r = y0; r < y0 + rows; r++, to += columns * C) {
        const long from = ((long)r * W + x0 + left) * C;
        if (r < 0 || r >= H) {
            zero(to, columns * C);
        } else {
            zero(to, left * C);
            copy(to + left * C, image + from, y ? y + from : y, (right - left) * C);
            zero(to + right * C, (columns - right) * C);
        }
    }
}
