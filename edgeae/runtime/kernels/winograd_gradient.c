// The gradients of weight_gradient.c with fewer multiplications: this computes the gradient of the weights' factors
// (winograd.h), and winograd_weights.c turns it into that of the weights. `big`, `small`, db and PARTS are as there.
//
// A chunk is IMAGES images by CHUNK_H rows of `small`, cut into TILES squares of 2 x 2 pixels. The factors of each
// square are multiplied with those of the window of `big` around it, in pairs, and summed over the squares. A job does
// this for SLICE of the K inputs of one part, so that its sums stay in the cache.

enum {
    BLOCK = VECTORS * LANES,
    ROWS_IN = (CHUNK_H + R - 1) * SUB,
    COLUMNS_IN = (OUT_W + R - 1) * SUB,
    ROW = COLUMNS_IN * C_IN,
    DOWN = CHUNK_H / 2,
    ACROSS = OUT_W / 2,
    TILES = IMAGES * DOWN * ACROSS,
    ERROR_C = ERROR_IS_BIG ? C_IN : C_OUT,
    ERROR_ROW = ERROR_IS_BIG ? IN_W * C_IN : C_OUT,
};

// Writes the factors of the square of `small` that begins at `from`.
INLINE void square_factors(float *factors, const float *from, const float *y)
{
    for (int c = 0; c < C_OUT; c += LANES) {
        vec square[PRODUCTS];
        EACH (i, 4) {
            const int at = (i / 2 * OUT_W + i % 2) * C_OUT + c;
            square[i / 2 * T + i % 2] = y ? activation_gradient(load(from + at), load(y + at)) : load(from + at);
        }
        BOTH_WAYS(from_outputs, square, 2, T);
        EACH (p, PRODUCTS) store(factors + p * PLANE(TILES, C_OUT) + c, square[p]);
    }
}

// Adds a chunk to the gradient of one of the PRODUCTS: TILE inputs by BLOCK channels.
INLINE void tile(float *du, const float *big, const float *small, int tiles, int is_first)
{
    vec sum[TILE][VECTORS];
    EACH (r, TILE) EACH (v, VECTORS) sum[r][v] = is_first ? fill(0.0f) : load(du + r * C_OUT + v * LANES);
    accumulate(sum, big, SLICE, small, C_OUT, tiles);
    EACH (r, TILE) EACH (v, VECTORS) store(du + r * C_OUT + v * LANES, sum[r][v]);
}

// Computes the slice that begins at input k0, over images [from, to); with the first slice also db.
INLINE void slice(float *du, float *db, const float *big, const float *small, const float *big_y, const float *small_y,
                  int from, int to, int k0)
{
    const long BIG = (long)IN_H * IN_W * C_IN, SMALL = (long)OUT_H * OUT_W * C_OUT;
    float big_factors[PRODUCTS * PLANE(TILES, SLICE)], small_factors[PRODUCTS * PLANE(TILES, C_OUT)];
    float window[ROWS_IN * ROW], error_sum[ERROR_ROW];
    zero(error_sum, ERROR_ROW);
    for (int first = from; first < to; first += IMAGES)
        for (int y0 = 0; y0 < OUT_H; y0 += CHUNK_H) {
            const int images = smaller(IMAGES, to - first), tiles = images * DOWN * ACROSS;
            for (int i = 0; i < images; i++) {
                const long at = (first + i) * BIG, small_at = (first + i) * SMALL;
                copy_window(window, big + at, big_y ? big_y + at : 0, IN_H, IN_W, C_IN, y0 * SUB - PADDING, -PADDING,
                            ROWS_IN, COLUMNS_IN);
                for (int t = 0; t < DOWN * ACROSS; t++) {
                    const int y = t / ACROSS * 2, x = t % ACROSS * 2, place = i * DOWN * ACROSS + t;
                    const long square = small_at + ((y0 + y) * OUT_W + x) * C_OUT;
                    float *factors = small_factors + place * C_OUT;
                    window_factors(big_factors + place * SLICE, window + (y * ROW + x * C_IN) * SUB, ROW, TILES, k0,
                                   SLICE);
                    square_factors(factors, small + square, small_y ? small_y + square : 0);
                    // NOTE: the second factor along each side is the sum of both, so this one is that of all four.
                    if (k0 == 0 && !ERROR_IS_BIG) add_to(error_sum, factors + (T + 1) * PLANE(TILES, C_OUT), C_OUT);
                }
                for (int r = 0; k0 == 0 && ERROR_IS_BIG && r < SUB * CHUNK_H; r++)
                    add_to(error_sum, window + (r + PADDING) * ROW + PADDING * C_IN, ERROR_ROW);
            }
            for (int p = 0; p < PRODUCTS; p++)
                for (int c = 0; c < C_OUT; c += BLOCK)
                    for (int k = 0; k < SLICE; k += TILE)
                        tile(du + ((long)p * K + k0 + k) * C_OUT + c, big_factors + p * PLANE(TILES, SLICE) + k,
                             small_factors + p * PLANE(TILES, C_OUT) + c, tiles, first == from && y0 == 0);
        }
    if (k0 == 0) sum_channels(db, error_sum, ERROR_C, ERROR_ROW);
}

// du (PARTS, PRODUCTS, K, C_OUT), db (PARTS, C of the error). A job is a slice of a part.
INLINE void winograd_gradient(float *restrict du, float *restrict db, const float *restrict big,
                              const float *restrict small, const float *restrict y, int core)
{
    enum { SLICES = K / SLICE, JOBS = PARTS * SLICES };
    for (int job = (long)JOBS * core / THREADS; job < (long)JOBS * (core + 1) / THREADS; job++) {
        const int p = job / SLICES;
        slice(du + (long)p * PRODUCTS * K * C_OUT, db + p * ERROR_C, big, small, HAS_Y && ERROR_IS_BIG ? y : 0,
              HAS_Y && !ERROR_IS_BIG ? y : 0, BATCH * p / PARTS, BATCH * (p + 1) / PARTS, job % SLICES * SLICE);
    }
}
