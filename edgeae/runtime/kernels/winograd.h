// Winograd's minimal filtering F(2 x 2, R x R), R = 2 or 3 (Lavin and Gray, Fast Algorithms for Convolutional Neural
// Networks, 2016): a window of T x T inputs, T = R + 1, gives 2 x 2 outputs with T * T products, not 4 * R * R.
//
// Along one side, with inputs d, weights g and outputs y:
//
//     R = 2:  y0 = (d0 - d1) g0 + d1 (g0 + g1)                                  y1 = d1 (g0 + g1) + (d2 - d1) g1
//     R = 3:  y0 = (d0 - d2) g0 + (d1 + d2) (g0 + g1 + g2)/2 + (d2 - d1) (g0 - g1 + g2)/2
//             y1 =                (d1 + d2) (g0 + g1 + g2)/2 - (d2 - d1) (g0 - g1 + g2)/2 - (d1 - d3) g2
//
// Each function below changes vectors `step` apart in place: to factors, or back from products. `BOTH_WAYS` does it
// along the rows and then along the columns of a T x T square.

enum { T = R + 1, PRODUCTS = T * T };

// The weights' factors as they are kept: floats, or in 16 bits FACTOR_TIMES as large ones, which of whole 8-bit weights
// are whole numbers of at most 9 * 128.
#if FACTOR_BITS == 16
typedef short factor;
typedef factor packed_factors __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
enum { FACTOR_TIMES = R == 3 ? 4 : 1 };
#else
typedef float factor;
typedef unaligned_vec packed_factors;
enum { FACTOR_TIMES = 1 };
#endif

#define BOTH_WAYS(change, square, rows, columns)            \
    do {                                                    \
        EACH (i_, rows) change((square) + i_ * T, 1);       \
        EACH (j_, columns) change((square) + j_, T);        \
    } while (0)

// T inputs.
INLINE void from_inputs(vec *d, int step)
{
    const vec d1 = d[step], d2 = d[2 * step];
    if (R == 2) {
        d[0] -= d1;
        d[2 * step] = d2 - d1;
    } else {
        d[0] -= d2;
        d[step] = d1 + d2;
        d[2 * step] = d2 - d1;
        d[3 * step] = d1 - d[3 * step];
    }
}

// R weights, to T factors.
INLINE void from_weights(vec *g, int step)
{
    const vec last = g[(R - 1) * step];
    if (R == 2) {
        g[step] = g[0] + last;
    } else {
        const vec even = 0.5f * (g[0] + last), odd = 0.5f * g[step];
        g[step] = even + odd;
        g[2 * step] = even - odd;
    }
    g[R * step] = last;
}

// T products, to two outputs.
INLINE void to_outputs(vec *m, int step)
{
    const vec m1 = m[step], m2 = m[2 * step];
    if (R == 2) {
        m[0] += m1;
        m[step] = m1 + m2;
    } else {
        m[0] += m1 + m2;
        m[step] = m1 - m2 - m[3 * step];
    }
}

// The transposes of the last two, for gradients: of two outputs, to those of the products...
INLINE void from_outputs(vec *y, int step)
{
    const vec y0 = y[0], y1 = y[step];
    y[step] = y0 + y1;
    if (R == 2) {
        y[2 * step] = y1;
    } else {
        y[2 * step] = y0 - y1;
        y[3 * step] = -y1;
    }
}

// ... and of T weight factors, to those of R weights.
INLINE void to_weights(vec *u, int step)
{
    const vec u1 = u[step], u2 = u[2 * step];
    if (R == 2) {
        u[0] += u1;
        u[step] = u1 + u2;
    } else {
        u[0] += 0.5f * (u1 + u2);
        u[step] = 0.5f * (u1 - u2);
        u[2 * step] = 0.5f * (u1 + u2) + u[3 * step];
    }
}

// The factors of a chunk are (PRODUCTS, tiles, n), with a cache line between the products: those of one place are
// written together, and a power of two apart they would fall into the same few lines of the first-level cache.
#define PLANE(tiles, n) ((tiles) * (n) + 16)

// Input factors [k0, k0 + n) of one window of an image with `row` floats a row, into `factors` for `tiles` tiles. A
// position of the window is the SUB x SUB pixels that a stride of SUB steps over, whose channels are summed together.
enum { RUN = SUB * C_IN, K = SUB * RUN };

INLINE void window_factors(float *factors, const float *x, int row, int tiles, int k0, int n)
{
    for (int k = k0; k < k0 + n; k += LANES) {
        vec d[PRODUCTS];
        EACH (p, PRODUCTS) d[p] = load(x + (p / T * SUB + k / RUN) * row + p % T * RUN + k % RUN);
        BOTH_WAYS(from_inputs, d, T, T);
        EACH (p, PRODUCTS) store(factors + p * PLANE(tiles, n) + k - k0, d[p]);
    }
}
