// The sums of convolution.c with fewer multiplications (winograd.h): 3 x 3 of stride 1, 4 x 4 of stride 2 as 2 x 2 on
// squares of pixels (SUB = 2), and transposed 4 x 4 as its 2 x 2 phases (STEP = 2).
//
// A chunk is IMAGES images by CHUNK_H rows of cells, cut into TILES squares of 2 x 2. Its windows become factors; each
// of the PRODUCTS is a matrix product with the weights' factors (winograd_weights.c); and the products become outputs.

enum {
    CELLS_H = OUT_H / STEP,
    CELLS_W = OUT_W / STEP,
    ROWS_IN = (CHUNK_H + R - 1) * SUB + STEP - 1,
    COLUMNS_IN = (CELLS_W + R - 1) * SUB + STEP - 1,
    ROW = COLUMNS_IN * C_IN,
    DOWN = CHUNK_H / 2,
    ACROSS = CELLS_W / 2,
    TILES = IMAGES * DOWN * ACROSS,
};

// The 2 x 2 cells of a tile in one phase: `at` is where the first stands, `m` its products, of a block.
INLINE void finish(float *out, const float *m, const float *bias, const float *add, long at, int c)
{
    EACH (v, VECTORS) {
        vec y[PRODUCTS];
        EACH (p, PRODUCTS) y[p] = load(m + p * PLANE(TILES, BLOCK) + v * LANES);
        BOTH_WAYS(to_outputs, y, T, 2);
        EACH (i, 4) {
            const long here = at + STEP * (i / 2 * OUT_W + i % 2) * (long)C_OUT + v * LANES;
            vec z = y[i / 2 * T + i % 2];
            if (HAS_BIAS) z += load(bias + c + v * LANES);
            if (HAS_ADD) z += load(add + here);
            store(out + here, activate(z));
        }
    }
}

// TILE tiles by BLOCK channels of one product, from input factors `a` and weight factors `u`.
INLINE void multiply(float *product, const float *a, const float *u, long k, int c)
{
    vec sum[TILE][VECTORS];
    EACH (t, TILE) EACH (v, VECTORS) sum[t][v] = fill(0.0f);
    accumulate(sum, a, 0, K, u, 0, k, K, c);
    EACH (t, TILE) EACH (v, VECTORS) store(product + t * BLOCK + v * LANES, sum[t][v]);
}

// One phase of a chunk, whose padded input begins at `x`.
INLINE void phase(float *out, const float *x, const float *u, const float *bias, const float *add, int image, int y0,
                  int py, int px)
{
    float factors[PRODUCTS * PLANE(TILES, K)], products[PRODUCTS * PLANE(TILES, BLOCK)];
    for (int t = 0; t < TILES; t++) {
        const int row = t / (DOWN * ACROSS) * ROWS_IN + t / ACROSS % DOWN * 2 * SUB, column = t % ACROSS * 2 * SUB;
        window_factors(factors + t * K, x + row * ROW + column * C_IN, ROW, TILES, 0, K);
    }
    for (int block = 0; block < C_OUT; block += BLOCK) {
        const int c = smaller(block, C_OUT - BLOCK);
        for (int p = 0; p < PRODUCTS; p++)
            for (int i = 0; i < TILES; i += TILE) {
                const int t = smaller(i, TILES - TILE);
                multiply(products + p * PLANE(TILES, BLOCK) + t * BLOCK, factors + p * PLANE(TILES, K) + t * K, u,
                         ((long)(py * 2 + px) * PRODUCTS + p) * K, c);
            }
        for (int t = 0; t < TILES; t++) {
            const long oy = (y0 + t / ACROSS % DOWN * 2) * STEP + py, ox = t % ACROSS * 2 * STEP + px;
            const long at = (((long)(image + t / (DOWN * ACROSS)) * OUT_H + oy) * OUT_W + ox) * C_OUT + c;
            finish(out, products + t * BLOCK, bias, add, at, c);
        }
    }
}

// As convolution() in convolution.c, with the weights' factors `u` (phases, PRODUCTS, K, C_OUT).
INLINE void winograd(float *restrict out, const float *restrict x, const float *restrict u, const float *restrict bias,
                     const float *restrict add, const float *restrict y, int core)
{
    enum { CHUNKS = CELLS_H / CHUNK_H, JOBS = (BATCH + IMAGES - 1) / IMAGES * CHUNKS };
    const long IMAGE = (long)IN_H * IN_W * C_IN;
    float scratch[IMAGES * ROWS_IN * ROW];
    for (int job = (long)JOBS * core / THREADS; job < (long)JOBS * (core + 1) / THREADS; job++) {
        const int image = smaller(job / CHUNKS * IMAGES, BATCH - IMAGES), y0 = job % CHUNKS * CHUNK_H;
        for (int i = 0; i < IMAGES; i++) {
            const long at = (image + i) * IMAGE;
            copy_window(scratch + i * ROWS_IN * ROW, x + at, HAS_Y ? y + at : 0, IN_H, IN_W, C_IN,
                        y0 * SUB - PADDING, -PADDING, ROWS_IN, COLUMNS_IN);
        }
        for (int py = 0; py < STEP; py++)
            for (int px = 0; px < STEP; px++)
                phase(out, scratch + py * ROW + px * C_IN, u, bias, add, image, y0, py, px);
    }
}
